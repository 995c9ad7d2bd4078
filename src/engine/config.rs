//! The settings of an engine, their bounds, and how a wrong one is told.
#![forbid(unsafe_code)]

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

impl Profile {
    /// All of them.
    pub const ALL: [Profile; 4] = [Profile::Dev, Profile::Balanced, Profile::Latency, Profile::Throughput];

    /// Its name, as files and options have it.
    pub const fn name(self) -> &'static str {
        match self {
            Profile::Dev => "dev",
            Profile::Balanced => "balanced",
            Profile::Latency => "latency",
            Profile::Throughput => "throughput",
        }
    }

    /// What it is for, in a few words.
    pub const fn purpose(self) -> &'static str {
        match self {
            Profile::Dev => "a shared machine: an idle engine costs nothing",
            Profile::Balanced => "CPUs of its own, and quiet hours",
            Profile::Latency => "CPUs to burn: the shortest way to the handler",
            Profile::Throughput => "long queues: the fewest switches between classes",
        }
    }

    /// The profile of a name.
    pub fn named(name: &str) -> Option<Profile> {
        Profile::ALL.into_iter().find(|profile| profile.name() == name)
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
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

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// An engine would start, and do what its user would hardly want.
    Warning,
    /// No engine starts.
    Error,
}

/// What a setting does not agree with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Against {
    /// Its own range, or another setting: wrong on every machine.
    Settings,
    /// This machine, or what the system lets this process have of it.
    Host,
}

/// A setting that cannot be, or should not be, and one that could.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanError {
    /// The setting by its key, with the class it belongs to: `class 'bulk': capacity_slots`.
    pub setting: String,
    /// Its value.
    pub value: String,
    /// What it must keep to.
    pub limit: String,
    /// What would work.
    pub works: String,
    /// Whether it must, or should.
    pub severity: Severity,
    /// Whether it is wrong everywhere, or here.
    pub against: Against,
}

impl PlanError {
    /// A setting that cannot be, on any machine.
    pub fn new(
        setting: impl Into<String>,
        value: impl fmt::Display,
        limit: impl Into<String>,
        works: impl fmt::Display,
    ) -> Self {
        PlanError {
            setting: setting.into(),
            value: value.to_string(),
            limit: limit.into(),
            works: works.to_string(),
            severity: Severity::Error,
            against: Against::Settings,
        }
    }

    /// The setting's key, without the class or the table that it is of.
    pub fn key(&self) -> &str {
        self.setting.rsplit_once(": ").map_or(&self.setting, |(_, key)| key)
    }

    /// The same as advice.
    pub fn warning(self) -> Self {
        PlanError { severity: Severity::Warning, ..self }
    }

    /// The same, and another machine could bear it.
    pub fn here(self) -> Self {
        PlanError { against: Against::Host, ..self }
    }
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { setting, value, limit, works, .. } = self;
        let must = if self.severity == Severity::Error { "must" } else { "should" };
        write!(f, "{setting} is {value}, but {must} be {limit}; {works} would work")
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
