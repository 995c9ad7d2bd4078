//! The arguments, and what each command starts from.

use crate::commands::doctor::{self, DoctorArgs};
use crate::settings::config_args::{self, CheckArgs, DiffArgs, ExplainArgs, InitArgs};
use crate::settings::numbers::{fraction, long, number};
use crate::settings::table_args::{Group, SettingArgs, Takes};
use crate::weblog::{CLASS_NAMES, Options, REPLAY};
use clap::{Args, Parser, Subcommand};
use pelton::engine::ENGINE;
use pelton_gateway::{self as gateway, GATEWAY, STREAM};
use pelton_views::VIEW;
use std::path::PathBuf;
use std::time::Duration;

/// Pelton: events through pinned shards, counted exactly.
#[derive(Debug, Parser)]
#[command(name = "pelton", version, arg_required_else_help = true, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Look at this machine, run a made-up stream through the engine, show all figures, then serve
    #[command(after_help = UP_CODES)]
    Up(UpArgs),
    /// Count a web server's access log: clients, paths, statuses, sizes
    Replay(ReplayArgs),
    /// Serve clients of the Redis protocol: publishing, backpressure, streams to subscribe to
    #[command(after_help = RUN_CODES)]
    Run(RunArgs),
    /// Make up an access log, the same for the same settings
    Generate(GenerateArgs),
    /// Draft a configuration from a few answers, with the arithmetic in its comments
    #[command(after_help = config_args::INIT_CODES)]
    Init(InitArgs),
    /// Tell all that is wrong with a configuration, each with its place
    #[command(after_help = config_args::CHECK_CODES)]
    Check(CheckArgs),
    /// Show every setting in effect: where it came from, what it costs, what to watch
    #[command(after_help = config_args::EXPLAIN_CODES)]
    Explain(ExplainArgs),
    /// Show what differs between two configurations in effect
    #[command(after_help = config_args::DIFF_CODES)]
    Diff(DiffArgs),
    /// Look at this machine as an engine would find it: what is amiss, what it costs, what mends it
    #[command(after_help = doctor::CODES)]
    Doctor(DoctorArgs),
}

/// The settings of `pelton replay`.
#[derive(Debug)]
pub struct OfReplay;

/// The settings of `pelton up`.
#[derive(Debug)]
pub struct OfUp;

/// The settings of `pelton run`.
#[derive(Debug)]
pub struct OfRun;

/// Exit codes of `pelton run`.
const RUN_CODES: &str = "SIGTERM, SIGHUP and Ctrl-C stop it; a second one ends it at once.\n\nExit codes:\n  0  stopped, and every event was handled or is accounted for\n  \
    1  the run failed, or events were left in their lanes\n  2  the configuration cannot be\n  3  it can be, but not on this machine: an address in use, a file not there, a limit too low";

/// Exit codes of `pelton up`.
const UP_CODES: &str = "SIGTERM, SIGHUP and Ctrl-C stop it once it serves; a second one ends it at once.\n\nExit codes:\n  0  shown and, unless --once, stopped; every event is accounted for\n  \
    1  a run failed, or events were left in their lanes\n  2  the settings cannot be\n  3  they can be, but not on this machine: an address in use, a file not there, a limit too low\n\n\
    Where nobody has named an address and the usual one is in use, it finds a free port.";

fn of_replay(start: &Options, announce: bool) -> Vec<Group> {
    // As it is where nobody names it.
    let plan = start.plan.clone().with_producers_max(start.producers).with_announce(announce);
    vec![
        Group::new("Replay", "replay", REPLAY, Some(start)),
        Group::new("Engine", "", ENGINE, Some(&plan)).with_classes(&CLASS_NAMES.join(", ")),
    ]
}

impl Takes for OfReplay {
    fn groups() -> Vec<Group> {
        of_replay(&Options::default(), true)
    }
}

impl Takes for OfUp {
    fn groups() -> Vec<Group> {
        let mut groups = of_replay(&UpArgs::start(), false);
        groups.push(Group::new("Gateway", "gateway", GATEWAY, Some(&gateway::Options::default())));
        groups
    }
}

impl Takes for OfRun {
    fn groups() -> Vec<Group> {
        let start = gateway::Options::default();
        vec![
            Group::new("Gateway", "gateway", GATEWAY, Some(&start))
                .with_list("stream", STREAM, "of the file")
                .with_list("view", VIEW, "of the file"),
            Group::new("Engine", "", ENGINE, Some(&start.plan)).with_classes("of the file"),
        ]
    }
}

/// Arguments of `pelton replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// The access log, in Common or Combined format; - reads standard input
    pub file: PathBuf,
    /// Print one JSON object instead of tables
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub settings: SettingArgs<OfReplay>,
}

/// Arguments of `pelton run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Print the final report as one JSON object instead of tables
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub settings: SettingArgs<OfRun>,
}

/// Arguments of `pelton up`.
#[derive(Debug, Args)]
pub struct UpArgs {
    /// Where the stream's random numbers start
    #[arg(long, value_name = "N", value_parser = long, default_value = "1", allow_negative_numbers = true)]
    pub seed: u64,
    /// End after the figures, and serve nobody
    #[arg(long)]
    pub once: bool,
    #[command(flatten)]
    pub settings: SettingArgs<OfUp>,
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
    /// Overwrite a file that is there
    #[arg(long)]
    pub force: bool,
}

impl ReplayArgs {
    /// Whether standard input is read.
    pub fn is_stdin(&self) -> bool {
        self.file.as_os_str() == "-"
    }

    /// What the replay starts from.
    pub fn start(&self) -> Options {
        let options = Options::default();
        Options { producers: if self.is_stdin() { 1 } else { options.producers }, ..options }
    }
}

impl UpArgs {
    /// What the run starts from.
    pub fn start() -> Options {
        let time_limit = Some(Duration::from_secs(5));
        Options { loops: u64::MAX, producers: 1, time_limit, ..Options::default() }
    }
}
