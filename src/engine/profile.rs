//! Profiles: the named sets of settings from which a plan starts.

use super::settings::field::Keyword;
use std::fmt;

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
    ///
    /// ```
    /// use pelton::Profile;
    /// for profile in Profile::ALL {
    ///     println!("{profile}: {}", profile.purpose());
    ///     assert_eq!(Profile::named(profile.name()), Some(profile));
    /// }
    /// assert_eq!(Profile::named("fast"), None);
    /// ```
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

impl Keyword for Profile {
    fn keyword(self) -> &'static str {
        self.name()
    }

    fn from_keyword(word: &str) -> Option<Self> {
        Profile::named(word)
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

impl Keyword for OnPanic {
    fn keyword(self) -> &'static str {
        match self {
            OnPanic::Continue => "continue",
            OnPanic::StopShard => "stop_shard",
        }
    }

    fn from_keyword(word: &str) -> Option<Self> {
        [OnPanic::Continue, OnPanic::StopShard].into_iter().find(|value| value.keyword() == word)
    }
}
