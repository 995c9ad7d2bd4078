//! What is measured: the clock, a cache line between each pair of CPUs, gaps in a loop that never rests, and the disc.
//!
//! Everything runs on threads that end, the pinned ones pinned; the caller's thread is left as it is. Each part of it has
//! its share of the time and keeps to it, however slow the machine.

use super::finding::{Finding, Measured, Topic};
use crate::doctor::probe;
use crate::output::format::nanos;
use pelton::clock::Clock;
use pelton::host::{Files, file_system, list};
use pelton::shard::pin;
use serde::Serialize;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// CPUs that are measured at most.
pub const CPUS_MAX: usize = 256;

/// CPUs of which each pair is measured at most: 28 pairs, one after the other.
pub const PAIRED_CPUS_MAX: usize = 8;

/// Gaps from here on are counted, in nanoseconds: what the kernel's detector of hardware latencies counts from
/// (`hwlat_detector.rst`).
pub const GAP_NS_MIN: u64 = 10_000;

/// Trips of a pair at most.
const TRIPS_MAX: u64 = 20_000;

/// Writes at most, and the bytes of each.
const WRITES_MAX: usize = 1_000;
const WRITE_BYTES: usize = 4_096;

/// How much longer than its share the disc may take, before it is given up.
const DISC_GRACE: Duration = Duration::from_secs(5);

/// Readings of the clock in a batch, and batches. The least is told: whatever else happens only adds to a batch.
const READINGS: u32 = 20_000;
const BATCHES: u32 = 15;

/// What a reading of the clock costs, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ClockCost {
    /// Of the engine's clock.
    pub read_ns: f64,
    /// Of the system's, by `std`.
    pub system_ns: f64,
    /// The least by which the engine's moves.
    pub step_ns: f64,
}

/// A cache line from one CPU to another and back.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Pair {
    /// The two.
    pub cpus: [usize; 2],
    /// Trips that were made.
    pub trips: usize,
    /// The median, in nanoseconds.
    pub p50_ns: f64,
    /// The 99th percentile, in nanoseconds.
    pub p99_ns: f64,
}

/// What a thread that never rests misses on a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Gaps {
    /// The CPU.
    pub cpu: usize,
    /// How long the loop ran, in seconds.
    pub seconds: f64,
    /// The longest gap between two readings of the clock, in nanoseconds.
    pub longest_ns: u64,
    /// Gaps of more than [`GAP_NS_MIN`], in each second.
    pub long_per_s: f64,
    /// The part of the time that went in them, 0 to 1.
    pub lost: f64,
}

/// Writes of 4 KiB to the end of a file, each made to last by `fdatasync`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Syncs {
    /// The folder of the file.
    pub folder: String,
    /// The file system; `None` where the system does not say.
    pub file_system: Option<String>,
    /// Writes that were made.
    pub writes: usize,
    /// The median of one `fdatasync`, in nanoseconds.
    pub p50_ns: u64,
    /// The 90th percentile, in nanoseconds.
    pub p90_ns: u64,
    /// The 99th percentile, in nanoseconds.
    pub p99_ns: u64,
    /// The longest, in nanoseconds.
    pub max_ns: u64,
}

/// All that was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    /// What the figures are worth.
    #[serde(skip)]
    pub findings: Vec<Finding>,
    /// CPUs that were measured, [`CPUS_MAX`] at most.
    pub cpus: Vec<usize>,
    /// The clock.
    pub clock: Option<ClockCost>,
    /// Each pair of the first [`PAIRED_CPUS_MAX`] CPUs.
    pub pairs: Vec<Pair>,
    /// Each CPU.
    pub gaps: Vec<Gaps>,
    /// The disc.
    pub syncs: Option<Syncs>,
}

/// What is measured, and for how long.
pub(super) struct Task<'a> {
    pub files: &'a Files,
    /// The CPUs that an engine uses.
    pub used: &'a [usize],
    /// Those of them to which no thread can be pinned.
    pub refused: &'a [usize],
    pub span: Duration,
    pub folder: &'a Path,
}

pub(super) fn measure(task: &Task<'_>) -> Figures {
    let mut cpus: Vec<usize> = task.used.iter().copied().filter(|cpu| !task.refused.contains(cpu)).collect();
    cpus.truncate(CPUS_MAX);
    // It is calibrated here, so that nobody below waits for that.
    let clock = Clock::real();
    let mut figures = Figures { cpus, ..Figures::default() };
    let part = |percent: u32| task.span * percent / 100;
    let findings = vec![
        clock_cost(&clock, &mut figures),
        round_trips(task, &clock, part(30), &mut figures),
        jitter(task, &clock, part(40), &mut figures),
        syncs(task, part(25), &mut figures),
    ];
    figures.findings = findings;
    figures
}

fn measured(id: &'static str, name: &'static str) -> Finding {
    Finding::new(Topic::Measured, id, name)
}

/// A span as people read it: a clock is read in a few nanoseconds, of which tenths count.
fn span(ns: f64) -> String {
    // What would be rounded up to 100.0 has no decimal either.
    if ns < 99.95 { format!("{ns:.1} ns") } else { nanos(ns.round() as u64) }
}

/// Runs it on a thread that ends; `None` where there is no thread to be had, or no end of it.
fn apart<T: Send>(run: impl FnOnce() -> T + Send) -> Option<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, run).ok()?;
        thread.join().ok()
    })
}

fn clock_cost(clock: &Clock, figures: &mut Figures) -> Finding {
    fn least(mut read: impl FnMut() -> u64) -> f64 {
        let batch = |_| {
            let begun = Instant::now();
            let mut all = 0;
            for _ in 0..READINGS {
                all ^= read();
            }
            let took = begun.elapsed();
            std::hint::black_box(all);
            took.as_nanos() as f64 / f64::from(READINGS)
        };
        (0..BATCHES).map(batch).fold(f64::MAX, f64::min)
    }
    let finding = measured("clock_read", "clock reading");
    let first = figures.cpus.first().copied();
    let cost = apart(|| {
        first.map(pin);
        let origin = Instant::now();
        ClockCost {
            read_ns: least(|| clock.ticks()),
            system_ns: least(|| origin.elapsed().as_nanos() as u64),
            step_ns: probe::step(clock) * probe::ns_per_tick(clock),
        }
    });
    let Some(cost) = cost else { return finding.unknown("no thread could be started") };
    figures.clock = Some(cost);
    finding.judge(Measured {
        value: cost.read_ns,
        unit: "ns",
        found: format!("{}, std's {}", span(cost.read_ns), span(cost.system_ns)),
        what: "a reading",
        warn_from: 50.0,
        bad_from: 250.0,
        limits: ["50 ns", "250 ns"],
        cost: "each event that is measured or can expire needs it, and each turn of a spinning shard",
    })
}

fn round_trips(task: &Task<'_>, clock: &Clock, limit: Duration, figures: &mut Figures) -> Finding {
    let finding = measured("round_trip", "core to core");
    let cpus = &figures.cpus[..figures.cpus.len().min(PAIRED_CPUS_MAX)];
    let left = list(&figures.cpus[cpus.len()..]);
    let pairs: Vec<[usize; 2]> = (0..cpus.len())
        .flat_map(|at| cpus[at + 1..].iter().map(move |other| (at, *other)))
        .map(|(at, other)| [cpus[at], other])
        .collect();
    if pairs.is_empty() {
        return finding.unknown(no_use(task, "a pair needs two CPUs that threads can be pinned to"));
    }
    let each = limit / pairs.len() as u32;
    for pair in pairs {
        let trips = apart(|| probe::bare(clock, pair, TRIPS_MAX, each));
        // Both were pinned a moment ago; where that has changed, the figure is of other CPUs.
        let Some(Ok((trips, true))) = trips else { continue };
        let made = trips.len();
        let [p50_ns, p99_ns] = probe::quantiles(clock, trips, [0.5, 0.99]);
        figures.pairs.push(Pair { cpus: pair, trips: made, p50_ns, p99_ns });
    }
    let worst = figures.pairs.iter().max_by(|a, b| a.p50_ns.total_cmp(&b.p50_ns));
    let Some(worst) = worst else { return finding.unknown("no two threads could be pinned at once") };
    let mut finding = finding.judge(Measured {
        value: worst.p50_ns,
        unit: "ns",
        found: format!("{}, CPUs {} and {}", span(worst.p50_ns), worst.cpus[0], worst.cpus[1]),
        what: "the median",
        warn_from: 500.0,
        bad_from: 2_000.0,
        limits: ["500 ns", "2 µs"],
        cost: "no event between these CPUs is faster than half of it",
    });
    if !left.is_empty() {
        finding.reason.push_str(&format!("; CPUs {left} are in no pair"));
    }
    finding
}

/// Why there is nothing to measure on.
fn no_use(task: &Task<'_>, else_: &str) -> String {
    if task.refused.is_empty() {
        else_.into()
    } else {
        format!("pinning to {} is refused", list(task.refused))
    }
}

fn jitter(task: &Task<'_>, clock: &Clock, limit: Duration, figures: &mut Figures) -> Finding {
    let finding = measured("jitter", "scheduling gaps");
    let cpus = &figures.cpus;
    // All at once, as an engine's threads would run: whoever else wants a CPU finds no other to take.
    figures.gaps = std::thread::scope(|scope| {
        let start = |cpu: &usize| {
            let cpu = *cpu;
            std::thread::Builder::new().spawn_scoped(scope, move || gaps(cpu, clock, limit)).ok()
        };
        let threads: Vec<_> = cpus.iter().filter_map(start).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok().flatten()).collect()
    });
    let Some(worst) = figures.gaps.iter().max_by_key(|gaps| gaps.longest_ns) else {
        return finding.unknown(no_use(task, "no thread could be pinned"));
    };
    finding.judge(Measured {
        value: worst.longest_ns as f64,
        unit: "ns",
        found: format!("up to {} on CPU {}", span(worst.longest_ns as f64), worst.cpu),
        what: "the longest",
        warn_from: 1e5,
        bad_from: 1e7,
        limits: ["100 µs", "10 ms"],
        cost: "all events of a shard wait that long while something else has its CPU",
    })
}

fn gaps(cpu: usize, clock: &Clock, limit: Duration) -> Option<Gaps> {
    if !pin(cpu) {
        return None;
    }
    let long = clock.ticks_of(Duration::from_nanos(GAP_NS_MIN));
    let begun = clock.ticks();
    let until = begun.saturating_add(clock.ticks_of(limit));
    let (mut last, mut longest, mut count, mut lost) = (begun, 0, 0u64, 0u64);
    while last < until {
        let now = clock.ticks();
        let gap = now.saturating_sub(last);
        longest = gap.max(longest);
        if gap > long {
            count += 1;
            lost += gap;
        }
        last = now;
    }
    let ran_ns = clock.nanos_between(begun, last).max(1) as f64;
    Some(Gaps {
        cpu,
        seconds: ran_ns / 1e9,
        longest_ns: clock.nanos_between(0, longest),
        long_per_s: count as f64 * 1e9 / ran_ns,
        lost: (clock.nanos_between(0, lost) as f64 / ran_ns).min(1.0),
    })
}

fn syncs(task: &Task<'_>, limit: Duration, figures: &mut Figures) -> Finding {
    let finding = measured("fdatasync", "fdatasync");
    // Without links, so that it can be found among what is mounted.
    let folder = task.folder.canonicalize().unwrap_or_else(|_| task.folder.to_path_buf());
    let kind = file_system(task.files, &folder).ok();
    if let Some(kind) = kind.as_deref().filter(|kind| ["tmpfs", "ramfs"].contains(kind)) {
        let place = folder.display();
        return finding.unknown(format!("{place} is {kind} and keeps nothing; --folder names another"));
    }
    let (tx, rx) = mpsc::channel();
    let there = folder.clone();
    // Nobody can take back a write that hangs, so the thread is left to it then.
    let thread = std::thread::Builder::new().spawn(move || tx.send(write(&there, limit)));
    if thread.is_err() {
        return finding.unknown("no thread could be started");
    }
    let spans = match rx.recv_timeout(limit + DISC_GRACE) {
        Ok(Ok(spans)) => spans,
        Ok(Err(error)) => {
            return finding.unknown(format!("{} cannot be written to: {error}", folder.display()));
        }
        Err(_) => {
            let reason = format!("{} did not answer within {:?}", folder.display(), limit + DISC_GRACE);
            return finding.bad("hangs", reason, "what is written to last stands still");
        }
    };
    let at = |percent: usize| spans[(spans.len() * percent / 100).min(spans.len() - 1)];
    let [p50_ns, p90_ns, p99_ns] = [50, 90, 99].map(at);
    let max_ns = at(100);
    figures.syncs = Some(Syncs {
        folder: folder.display().to_string(),
        file_system: kind,
        writes: spans.len(),
        p50_ns,
        p90_ns,
        p99_ns,
        max_ns,
    });
    finding.judge(Measured {
        value: p99_ns as f64,
        unit: "ns",
        found: format!("p50 {}, p99 {}", span(p50_ns as f64), span(p99_ns as f64)),
        what: "p99",
        warn_from: 2e6,
        bad_from: 2e7,
        limits: ["2 ms", "20 ms"],
        cost: "whoever waits for events to be kept waits that long for each group of them",
    })
}

/// A file that is gone when it is dropped.
struct Scratch {
    file: File,
    path: PathBuf,
}

impl Scratch {
    fn new(folder: &Path) -> io::Result<Self> {
        // One that was killed may have left its file behind.
        let mut number = 0;
        loop {
            let path = folder.join(format!("pelton-doctor-{}-{number}", std::process::id()));
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => return Ok(Scratch { file, path }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < 16 => number += 1,
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // If it cannot be removed, there is nobody to tell.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// How long each `fdatasync` took, in nanoseconds, in ascending order; at least one.
fn write(folder: &Path, limit: Duration) -> io::Result<Vec<u64>> {
    let mut scratch = Scratch::new(folder)?;
    let block = [0x5a; WRITE_BYTES];
    let mut spans = Vec::with_capacity(WRITES_MAX);
    let begun = Instant::now();
    while spans.is_empty() || (spans.len() < WRITES_MAX && begun.elapsed() < limit) {
        scratch.file.write_all(&block)?;
        let at = Instant::now();
        scratch.file.sync_data()?;
        spans.push(at.elapsed().as_nanos() as u64);
    }
    spans.sort_unstable();
    Ok(spans)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_short() {
        let told = [0.0, 25.84, 118.2, 999.6, 4_040.0, 432_400.0, 17_600_000.0, 2.5e9].map(span);
        assert_eq!(told, ["0.0 ns", "25.8 ns", "118 ns", "1.0 µs", "4.0 µs", "432 µs", "18 ms", "2.5 s"]);
    }

    #[test]
    fn a_disc_that_has_no_time_is_still_written_to_once_and_left_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(write(folder.path(), Duration::ZERO).unwrap().len(), 1);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        // Nothing that is there already is written to.
        let there = Scratch::new(folder.path()).unwrap();
        assert_ne!(Scratch::new(folder.path()).unwrap().path, there.path);
        assert!(there.path.exists());
        drop(there);
        assert!(write(&folder.path().join("none"), Duration::ZERO).is_err());
    }

    #[test]
    fn a_loop_that_never_rests_knows_how_long_it_ran() {
        let (clock, span) = (Clock::real(), Duration::from_millis(5));
        let cpu = pelton::shard::available()[0];
        let Some(gaps) = apart(|| gaps(cpu, &clock, span)).unwrap() else {
            assert!(!pelton::shard::can_pin(cpu));
            return;
        };
        assert!(gaps.seconds >= 0.0049 && (0.0..=1.0).contains(&gaps.lost), "{gaps:?}");
        // Where there were long gaps, the longest is one of them.
        assert!(gaps.longest_ns > 0 && (gaps.long_per_s == 0.0 || gaps.longest_ns >= GAP_NS_MIN), "{gaps:?}");
    }
}
