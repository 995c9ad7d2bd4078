//! The settings of an engine, their bounds, and how a wrong one is told.
#![forbid(unsafe_code)]

use crate::shard::{available, parse_list};
use std::fmt;

/// The largest number of shards.
pub const SHARDS_MAX: u16 = 256;
/// The largest number of producers attached at once.
pub const PRODUCERS_MAX: u16 = 256;
/// The largest burst, in events.
pub const BURST_MAX: u32 = 1 << 16;
/// The largest scratch arena of a shard, in bytes.
pub const SCRATCH_MAX: u32 = 1 << 30;

/// A named set of settings to start from. There is no nameless default.
///
/// | profile | wait | burst | pinned | for |
/// |---|---|---|---|---|
/// | `Dev` | park | 64 | yes | a shared machine: an idle engine costs nothing |
/// | `Balanced` | park | 64 | yes | a service with CPUs of its own and quiet hours |
/// | `Latency` | spin | 16 | yes | CPUs to burn; the shortest way to the handler |
/// | `Throughput` | yield | 256 | yes | long queues; the fewest switches between classes |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// A shared machine.
    Dev,
    /// A service with CPUs of its own.
    Balanced,
    /// Reaction time before all.
    Latency,
    /// Events a second before all.
    Throughput,
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Profile::Dev => "dev",
            Profile::Balanced => "balanced",
            Profile::Latency => "latency",
            Profile::Throughput => "throughput",
        })
    }
}

/// What a shard does after its handler panicked. The event is counted `failed(panic)` and quarantined either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnPanic {
    /// Go on with the next event.
    Continue,
    /// Stop this shard: its lanes are closed, what is in them stays `in flight` in the final report.
    StopShard,
}

/// A setting that cannot be, and one that could.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanError {
    /// The setting, with the class it belongs to: `class 'bulk': capacity`.
    pub setting: String,
    /// Its value.
    pub value: String,
    /// What it must keep to.
    pub limit: String,
    /// A value that would work.
    pub works: String,
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}, but must be {}; {} would work", self.setting, self.value, self.limit, self.works)
    }
}

/// Everything that is wrong with a plan, at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanErrors(pub Vec<PlanError>);

impl fmt::Display for PlanErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for PlanErrors {}

/// Reads the CPUs that a user names, in the notation of the kernel: `0-3,7`.
///
/// # Errors
/// [`PlanError`] where a part is neither a number nor a range.
pub fn cpu_list(text: &str) -> Result<Vec<usize>, PlanError> {
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let read = parse_list(part);
        if read.is_empty() {
            let there: Vec<_> = available().iter().map(usize::to_string).collect();
            return Err(PlanError {
                setting: "cpus".into(),
                value: format!("'{text}'"),
                limit: "numbers and ranges with commas between them, as in 0-3,7".into(),
                works: there.join(","),
            });
        }
        cpus.extend(read);
    }
    Ok(cpus)
}

/// Collects what is wrong.
#[derive(Default)]
pub(crate) struct Checks(pub Vec<PlanError>);

impl Checks {
    pub fn unless(
        &mut self,
        holds: bool,
        setting: impl Into<String>,
        value: impl fmt::Display,
        limit: impl Into<String>,
        works: impl fmt::Display,
    ) {
        if !holds {
            self.0.push(PlanError {
                setting: setting.into(),
                value: value.to_string(),
                limit: limit.into(),
                works: works.to_string(),
            });
        }
    }
}
