//! The arguments, and the options that the library makes of them.

use crate::failure::Failure;
use clap::{Args, Parser, Subcommand};
use pelton::engine::PlanError;
use pelton::measure::{Question, Settings as Measure};
use pelton::wait::Wait;
use pelton::weblog::Options;
use std::path::PathBuf;

/// Pelton: events through pinned shards, counted exactly.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Look at this machine, then run a made-up stream through the engine and show all figures
    Up(UpArgs),
    /// Count a web server's access log: clients, paths, statuses, sizes
    Replay(ReplayArgs),
    /// Make up an access log, the same for the same settings
    Generate(GenerateArgs),
    /// Measure this engine, its peers and the bare machine, here and now
    #[command(after_help = questions())]
    Bench(BenchArgs),
}

fn questions() -> String {
    let line = |question: &Question| format!("  {:<10} {}\n", question.name(), question.asks());
    format!("Questions:\n{}", Question::ALL.iter().map(line).collect::<String>())
}

fn shorter(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| "must be a whole number from 1 to 256; 2 would work".into())
}

fn number(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| "must be a whole number below 2^32; 64 would work".into())
}

fn long(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "must be a whole number below 2^64; 1 would work".into())
}

/// A whole number, or thousands (`k`) or millions (`M`) of them, with a fraction where that makes a whole: 2.5k.
fn rate(text: &str) -> Result<u64, String> {
    let told =
        || "must be a number of lines a second, as in 250000, 250k or 1.5M; 100k would work".to_string();
    let (digits, factor) = match text.strip_suffix(['k', 'K']) {
        Some(digits) => (digits, 1_000),
        None => text.strip_suffix('M').map_or((text, 1), |digits| (digits, 1_000_000)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let number = |digits: &str| digits.parse::<u64>().map_err(|_| told());
    let place = u32::try_from(fraction.len()).ok().and_then(|n| 10u64.checked_pow(n)).ok_or_else(told)?;
    let parts = if fraction.is_empty() { 0 } else { number(fraction)? };
    let parts = parts.checked_mul(factor).filter(|parts| parts % place == 0).ok_or_else(told)? / place;
    number(whole)?.checked_mul(factor).and_then(|whole| whole.checked_add(parts)).ok_or_else(told)
}

fn size(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| "must be a whole number; 100000 would work".into())
}

fn fraction(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| "must be a number with a decimal point; 0.5 would work".into())
}

/// The settings of the engine.
#[derive(Debug, Args)]
#[command(next_help_heading = "Engine")]
pub struct EngineArgs {
    /// Shards, 1 to 256, each with a thread pinned to its CPU [default: 2, or 1 where there is one CPU]
    #[arg(long, value_name = "N", value_parser = shorter, allow_negative_numbers = true)]
    shards: Option<u16>,
    /// CPUs of the shards, in turn, as in 0-3,7 [default: chosen from the end of this process's mask]
    #[arg(long, value_name = "LIST")]
    cpus: Option<String>,
    /// What a shard with nothing to do does: spin, yield or park [default: park]
    #[arg(long, value_name = "STRATEGY")]
    wait: Option<Wait>,
    /// Events of a lower class that a strict one waits for at most, 1 to 65536 [default: 64]
    #[arg(long, value_name = "EVENTS", value_parser = number, allow_negative_numbers = true)]
    burst: Option<u32>,
    /// Bursts of higher classes after which bulk is served one, 1 or more [default: 64]
    #[arg(long, value_name = "BURSTS", value_parser = number, allow_negative_numbers = true)]
    floor: Option<u32>,
    /// Settings of a class (critical, high or bulk); may be repeated
    ///
    ///   capacity=N       slots of a lane, a power of two from 1 to 67108864
    ///   payload_bytes=N  bytes of a lane's payload ring, a power of two from 64 to 1073741824;
    ///                    client and request of a line take at most half of it
    ///   policy=P         when a lane is full: block, block:MS, reject or drop_newest
    ///   ttl_ms=N         milliseconds after which an event expires
    ///   stamp=S          which events are measured: every, never, or one in N, a power of two
    ///                    from 2 to 1048576
    ///
    /// Example: --class bulk:capacity=4096,policy=drop_newest
    #[arg(long = "class", value_name = "NAME:KEY=VALUE[,...]", verbatim_doc_comment)]
    classes: Vec<String>,
}

/// The settings of the tables and of the report.
#[derive(Debug, Args)]
#[command(next_help_heading = "Tables (in each shard, laid out at the start)")]
pub struct TableArgs {
    /// Distinct clients, 1 to 134217728; more are counted together [default: 100000]
    #[arg(long, value_name = "N", value_parser = size, allow_negative_numbers = true)]
    clients_max: Option<usize>,
    /// Distinct paths, 1 to 134217728; more are counted together [default: 100000]
    #[arg(long, value_name = "N", value_parser = size, allow_negative_numbers = true)]
    paths_max: Option<usize>,
    /// Bytes for the names of all clients [default: 24 for each of --clients-max]
    #[arg(long, value_name = "BYTES", value_parser = size, allow_negative_numbers = true)]
    client_bytes: Option<usize>,
    /// Bytes for all paths [default: 64 for each of --paths-max]
    #[arg(long, value_name = "BYTES", value_parser = size, allow_negative_numbers = true)]
    path_bytes: Option<usize>,
    /// Busiest clients and paths to show
    #[arg(long, value_name = "N", value_parser = size, default_value = "10", allow_negative_numbers = true)]
    top: usize,
}

/// Arguments of `pelton replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// The access log, in Common or Combined format; - reads standard input
    pub file: PathBuf,
    /// Print one JSON object instead of tables
    #[arg(long)]
    pub json: bool,
    /// End the run at the first malformed line instead of counting it
    #[arg(long)]
    strict: bool,
    /// Read the input N times
    #[arg(long = "loop", value_name = "N", value_parser = long, default_value = "1", allow_negative_numbers = true)]
    loops: u64,
    /// Send R lines a second over all producers, 1 to 1000000000; 250k and 1.5M are understood
    ///
    /// Each line has its time, whether the lines before it were in time or not, and its latency and age count from that
    /// time: what a stall costs is seen in every line that it delayed. A producer that is early sleeps, then spins;
    /// what it sends too late is counted. [default: as fast as lines are read]
    #[arg(long, value_name = "R", value_parser = rate, allow_negative_numbers = true)]
    rate: Option<u64>,
    /// Threads that read and parse, 1 to 256 [default: 2, or 1 for standard input]
    #[arg(long, value_name = "N", value_parser = shorter, allow_negative_numbers = true)]
    producers: Option<u16>,
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    tables: TableArgs,
}

/// Arguments of `pelton up`.
#[derive(Debug, Args)]
pub struct UpArgs {
    /// How long to run the stream, in seconds
    #[arg(long, value_name = "S", value_parser = number, default_value = "5", allow_negative_numbers = true)]
    pub seconds: u32,
    /// Where the stream's random numbers start
    #[arg(long, value_name = "N", value_parser = long, default_value = "1", allow_negative_numbers = true)]
    pub seed: u64,
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    tables: TableArgs,
}

/// Arguments of `pelton generate`.
#[derive(Debug, Args)]
pub struct GenerateArgs {
    /// Where the random numbers start
    #[arg(long, value_name = "N", value_parser = long, default_value = "1", allow_negative_numbers = true)]
    pub seed: u64,
    /// Lines, 0 to 1099511627776
    #[arg(long, value_name = "N", value_parser = long, default_value = "1000000", allow_negative_numbers = true)]
    pub events: u64,
    /// Clients to draw from, 1 to 16777216
    #[arg(long, value_name = "N", value_parser = number, default_value = "10000", allow_negative_numbers = true)]
    pub clients: u32,
    /// Paths to draw from, 1 to 16777216
    #[arg(long, value_name = "N", value_parser = number, default_value = "2000", allow_negative_numbers = true)]
    pub paths: u32,
    /// Exponent of Zipf's law for clients and paths, 0 (all alike) to 4
    #[arg(long, value_name = "S", value_parser = fraction, default_value = "1.0", allow_negative_numbers = true)]
    pub skew: f64,
    /// Share of lines with a status of 400 or above, 0 to 1; a fifth of them are 5xx
    #[arg(long, value_name = "SHARE", value_parser = fraction, default_value = "0.02", allow_negative_numbers = true)]
    pub errors: f64,
    /// Where to write it [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Arguments of `pelton bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// What to measure; see the list below [default: all of it, in a short run]
    #[arg(value_name = "QUESTION")]
    question: Option<Question>,
    /// Print one JSON object, with every run, instead of tables
    #[arg(long)]
    pub json: bool,
    /// Rounds in which all contenders take turns, 1 to 999 [default: 15, or 5 in a short run]
    #[arg(long, value_name = "N", value_parser = number, allow_negative_numbers = true)]
    rounds: Option<u32>,
    /// Events of one run, 1 to 4294967296 [default: as the question has it, or a tenth in a short run]
    #[arg(long, value_name = "N", value_parser = long, allow_negative_numbers = true)]
    events: Option<u64>,
    /// CPUs of the producer, of the consumer, and of further producers, as in 2,3 [default: chosen]
    #[arg(long, value_name = "LIST")]
    cpus: Option<String>,
    /// Slots of each ring, a power of two from 2 to 1048576 [default: 1024]
    #[arg(long, value_name = "N", value_parser = number, allow_negative_numbers = true)]
    capacity: Option<u32>,
    /// What a shard with nothing to do does: spin, yield or park [default: spin]
    #[arg(long, value_name = "STRATEGY")]
    wait: Option<Wait>,
    /// Events of a lower class that a strict one waits for at most, 1 to 65536
    #[arg(long, value_name = "EVENTS", value_parser = number, allow_negative_numbers = true)]
    burst: Option<u32>,
    /// With latency: go through rates from a tenth to eleven tenths of the lane's capacity, and find the knee
    #[arg(long)]
    sweep: bool,
    /// Write charts to this folder, an SVG file for each; sweeps and distributions have some
    #[arg(long, value_name = "FOLDER")]
    pub svg: Option<PathBuf>,
    /// With latency: write each contender's percentiles to this folder, as HdrHistogram's plotter reads them
    #[arg(long, value_name = "FOLDER")]
    pub hgrm: Option<PathBuf>,
}

impl BenchArgs {
    /// What is asked.
    pub fn questions(&self) -> Vec<Question> {
        match self.question {
            None => Question::ALL.to_vec(),
            Some(Question::Latency) if self.sweep => vec![Question::Knee],
            Some(question) => vec![question],
        }
    }

    pub fn settings(&self) -> Result<Measure, Failure> {
        let is_latency = self.question == Some(Question::Latency);
        let hgrm_has_use = self.question.is_none() || (is_latency && !self.sweep);
        for (named, has_use, setting, value, works) in [
            (self.sweep, is_latency, "sweep", "on", "latency --sweep"),
            (self.hgrm.is_some(), hgrm_has_use, "hgrm", "named", "latency --hgrm FOLDER"),
        ] {
            if named && !has_use {
                return Err(
                    PlanError::new(setting, value, "left out for what has no use for it", works).into()
                );
            }
        }
        let mut settings = if self.question.is_some() { Measure::default() } else { Measure::short() };
        settings.rounds = self.rounds.unwrap_or(settings.rounds);
        settings.events = self.events;
        settings.capacity = self.capacity;
        settings.wait = self.wait;
        settings.burst = self.burst;
        if let Some(cpus) = &self.cpus {
            settings.set_cpus(cpus)?;
        }
        Ok(settings)
    }
}

impl ReplayArgs {
    /// Whether standard input is read.
    pub fn is_stdin(&self) -> bool {
        self.file.as_os_str() == "-"
    }

    pub fn options(&self) -> Result<Options, Failure> {
        let mut options =
            Options { loops: self.loops, rate: self.rate, strict: self.strict, ..Options::default() };
        options.producers = self.producers.unwrap_or(if self.is_stdin() { 1 } else { options.producers });
        self.engine.apply(&mut options)?;
        self.tables.apply(&mut options);
        Ok(options)
    }
}

impl UpArgs {
    pub fn options(&self) -> Result<Options, Failure> {
        let time_limit = Some(std::time::Duration::from_secs(self.seconds.into()));
        let mut options = Options { loops: u64::MAX, producers: 1, time_limit, ..Options::default() };
        self.engine.apply(&mut options)?;
        self.tables.apply(&mut options);
        Ok(options)
    }
}

impl EngineArgs {
    fn apply(&self, options: &mut Options) -> Result<(), Failure> {
        options.shards = self.shards.unwrap_or(options.shards);
        options.wait = self.wait;
        options.burst = self.burst;
        options.floor = self.floor;
        if let Some(cpus) = &self.cpus {
            options.set_cpus(cpus)?;
        }
        self.classes.iter().try_for_each(|class| options.set_class(class))?;
        Ok(())
    }
}

impl TableArgs {
    fn apply(&self, options: &mut Options) {
        let limits = &mut options.limits;
        limits.clients_max = self.clients_max.unwrap_or(limits.clients_max);
        limits.paths_max = self.paths_max.unwrap_or(limits.paths_max);
        // Room for names goes along with room for entries.
        limits.client_bytes_max = self.client_bytes.unwrap_or(limits.clients_max.saturating_mul(24));
        limits.path_bytes_max = self.path_bytes.unwrap_or(limits.paths_max.saturating_mul(64));
        options.top = self.top;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_as_people_write_them() {
        let read = ["250000", "250k", "1M", "2.5k", "1.5M", "0", "0.001k", "7K"].map(rate);
        assert_eq!(read.map(Result::unwrap), [250_000, 250_000, 1_000_000, 2_500, 1_500_000, 0, 1, 7_000]);
        for text in [
            "",
            "k",
            "-1",
            "1.5",
            "1.2345k",
            "1e6",
            "fast",
            "1 k",
            "18446744073709551616",
            "99999999999999999M",
        ] {
            let read = rate(text);
            assert!(read.as_ref().is_err_and(|told| told.contains("250k")), "{text}: {read:?}");
        }
    }
}
