//! Findings: what was found, how good that is for an engine, why, what it costs, and what mends it.

use pelton::host::Unknown;
use serde::Serialize;
use std::fmt;

/// How good something is for an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// As it should be.
    Ok,
    /// It cannot be known here, for the reason told.
    Unknown,
    /// An engine works, with a cost that is told.
    Warn,
    /// An engine does not keep what it promises here.
    Bad,
}

impl State {
    /// All of them, the best first.
    pub const ALL: [State; 4] = [State::Ok, State::Unknown, State::Warn, State::Bad];

    /// Its name: `ok`.
    pub fn name(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Unknown => "unknown",
            State::Warn => "warn",
            State::Bad => "bad",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Topic {
    /// Which CPUs there are, and whom they belong to.
    Cpus,
    /// What tells the time.
    Time,
    /// Memory, its pages and limits.
    Memory,
    /// The system and its limits.
    System,
    /// What was measured.
    Measured,
}

impl Topic {
    /// All of them, in the order in which they are told.
    pub const ALL: [Topic; 5] = [Topic::Cpus, Topic::Time, Topic::Memory, Topic::System, Topic::Measured];
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// What it is about.
    pub topic: Topic,
    /// Its name, the same for all time: `cpu_quota`.
    pub id: &'static str,
    /// Its name for people: `CPU quota`.
    pub name: &'static str,
    /// How good it is.
    pub state: State,
    /// What was found, with its unit; empty where that is unknown.
    pub found: String,
    /// The same as a number, where it is one.
    pub value: Option<f64>,
    /// The number's unit; empty where there is none.
    pub unit: &'static str,
    /// Why it is in this state.
    pub reason: String,
    /// What it costs an engine; empty where it costs nothing.
    pub cost: String,
    /// The commands of a shell with which an administrator would mend it. Nothing runs them.
    pub fix: Vec<String>,
}

impl Finding {
    pub(super) fn new(topic: Topic, id: &'static str, name: &'static str) -> Self {
        Finding {
            topic,
            id,
            name,
            state: State::Unknown,
            found: String::new(),
            value: None,
            unit: "",
            reason: String::new(),
            cost: String::new(),
            fix: Vec::new(),
        }
    }

    /// As it should be.
    pub(super) fn ok(mut self, found: impl Into<String>, reason: impl Into<String>) -> Self {
        (self.state, self.found, self.reason) = (State::Ok, found.into(), reason.into());
        self
    }

    /// Not as it should be: it costs something.
    pub(super) fn warn(mut self, found: impl Into<String>, reason: impl Into<String>, cost: &str) -> Self {
        (self.state, self.found, self.reason) = (State::Warn, found.into(), reason.into());
        self.cost = cost.into();
        self
    }

    /// Not good enough.
    pub(super) fn bad(self, found: impl Into<String>, reason: impl Into<String>, cost: &str) -> Self {
        Finding { state: State::Bad, ..self.warn(found, reason, cost) }
    }

    /// Not known.
    pub(super) fn unknown(mut self, reason: impl Into<String>) -> Self {
        (self.state, self.reason) = (State::Unknown, reason.into());
        self
    }

    /// Of what was seen, or unknown for the reason that is told instead.
    pub(super) fn of<T>(self, seen: Result<T, Unknown>, tell: impl FnOnce(Self, T) -> Self) -> Self {
        match seen {
            Ok(seen) => tell(self, seen),
            Err(why) => self.unknown(why.0),
        }
    }

    /// The number that was found.
    pub(super) fn value(mut self, value: f64, unit: &'static str) -> Self {
        // What is no number is none in JSON either.
        self.value = Some(value).filter(|value| value.is_finite());
        self.unit = unit;
        self
    }

    /// What mends it, if there is something to mend.
    pub(super) fn fix(mut self, command: impl Into<String>) -> Self {
        if matches!(self.state, State::Warn | State::Bad) {
            self.fix.push(command.into());
        }
        self
    }

    /// Good up to `warn_from`, bad from `bad_from`, in between a warning; the reason is the threshold.
    pub(super) fn judge(self, measured: Measured<'_>) -> Self {
        let Measured { value, unit, found, what, warn_from, bad_from, limits, cost } = measured;
        let finding = if value < warn_from {
            self.ok(found, format!("{what} is below {}", limits[0]))
        } else if value < bad_from {
            self.warn(found, format!("{what} is {} or more", limits[0]), cost)
        } else {
            self.bad(found, format!("{what} is {} or more", limits[1]), cost)
        };
        finding.value(value, unit)
    }
}

/// A figure with its thresholds.
pub(super) struct Measured<'a> {
    pub value: f64,
    pub unit: &'static str,
    pub found: String,
    /// What the value is: `the median`.
    pub what: &'a str,
    pub warn_from: f64,
    pub bad_from: f64,
    /// Both thresholds as people read them.
    pub limits: [&'a str; 2],
    pub cost: &'a str,
}

/// A word of a shell: within quotes where that is needed.
pub(super) fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-,+:@%=".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.into();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// The command that writes `text` to a file of the system.
pub(super) fn write_to(file: &str, text: &str) -> String {
    format!("echo {} > {}", quoted(text), quoted(file))
}

/// The command that gives a process what it lacks: what ends in the number of one. Where nobody says which, nothing is
/// done, and what follows still is.
pub(super) fn of_process(command: &str) -> String {
    format!("{OF_PROCESS}{command} \"$PID\"")
}

/// What every command that is about one process begins with.
pub(super) const OF_PROCESS: &str = "[ -z \"${PID-}\" ] || ";

/// The command that gives the kernel an argument for its next start.
pub(super) fn at_boot(argument: &str) -> String {
    format!("{AT_BOOT}{}", quoted(argument))
}

/// What every such command begins with: the argument is the rest.
pub(super) const AT_BOOT: &str = "grubby --update-kernel=ALL --args=";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_cannot_leave_their_quotes() {
        assert_eq!(quoted("/sys/a-b_c.d"), "/sys/a-b_c.d");
        assert_eq!(quoted("a b$(c)"), "'a b$(c)'");
        assert_eq!(quoted("it's"), "'it'\\''s'");
        assert_eq!(write_to("/a;b", "max"), "echo max > '/a;b'");
    }

    #[test]
    fn only_what_is_amiss_is_mended() {
        let finding = || Finding::new(Topic::Cpus, "a", "a");
        assert_eq!(finding().ok("1", "it is").fix("x").fix, [] as [&str; 0]);
        assert_eq!(finding().unknown("why").fix("x").fix, [] as [&str; 0]);
        assert_eq!(finding().warn("1", "it is not", "time").fix("x").fix, ["x"]);
        assert_eq!(finding().bad("1", "it is not", "time").state, State::Bad);
        assert_eq!(finding().value(f64::NAN, "ns").value, None);
        let seen: Result<(), _> = Err(Unknown("x is not there".into()));
        assert_eq!(finding().of(seen, |_, ()| unreachable!()).reason, "x is not there");
    }
}
