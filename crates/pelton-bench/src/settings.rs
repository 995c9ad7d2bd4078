//! What a measurement can be told, which of it each question takes, and the bench that is made of it.
//!
//! # Invariants
//! - Nothing is rounded, clamped or ignored: a value that cannot be, and an option that a question has no use for, are
//!   refused as a [`PlanError`] with what would work; all that is wrong is told at once.
//! - Two CPUs or nothing: ends that take turns on one CPU would measure the system's scheduler.

use super::machine::{Machine, choose};
use super::rounds::{Peer, RunError, Runs, Step, alternate};
use pelton::engine::{BURST_MAX, Kind, Plan, PlanError, PlanErrors, Profile};
use pelton::park::Wait;
use pelton::settings;
use pelton::shard::{available, nameable};

/// The most rounds of a measurement.
pub const ROUNDS_MAX: u32 = 999;
/// The most events of one run.
pub const EVENTS_MAX: u64 = 1 << 32;
/// The most slots of a ring: more would measure the memory.
pub const CAPACITY_MAX: u32 = 1 << 20;
/// The most CPUs that a question uses.
pub const CPUS_MAX: usize = 64;

/// The settings of a measurement. What is `None` is as the question has it by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Rounds that count, 1 to [`ROUNDS_MAX`].
    pub rounds: u32,
    /// Events of one run, 1 to [`EVENTS_MAX`].
    pub events: Option<u64>,
    /// Whether a run has a tenth of the question's own events. Where `events` are named, those count.
    pub short: bool,
    /// The CPUs: the producer's, the consumer's, and those of further producers where the question has some. Without
    /// them, CPUs that share no core are chosen where there are any.
    pub cpus: Option<Vec<usize>>,
    /// What a shard with nothing to do does. Without it, it polls on.
    pub wait: Option<Wait>,
    /// Slots of each ring, ours and the others', a power of two from 2 to [`CAPACITY_MAX`].
    pub capacity: Option<u32>,
    /// Events of a lower class that a strict one waits for at most; see [`Plan::with_burst`].
    pub burst: Option<u32>,
}

/// The word for what is as the question has it.
const OWN: &str = "own";

settings! {
    /// The settings of a measurement, in the order in which files have them.
    pub const BENCH: Settings {
        rounds: rounds = Kind::whole(1, ROUNDS_MAX as u64), unit: "rounds",
            what: "rounds that count, in which all contenders take turns",
            trades: "more narrow the intervals; each takes its time",
            watch: "the 95 % intervals";
        events: events = Kind::whole(1, EVENTS_MAX).thousands().or_word(OWN), unit: "events",
            what: "events of one run; \"own\" is as the question has it, or a tenth in a short run",
            trades: "more even out what disturbs a run; each takes its time",
            watch: "the 95 % intervals";
        cpus: cpus = Kind::Cpus("chosen"),
            what: "CPUs of the producer, of the consumer, and of further producers",
            trades: "named CPUs can be kept free of everything else; two of one core share what is measured",
            watch: "the answer's warnings";
        capacity_slots: capacity = Kind::whole(2, CAPACITY_MAX as u64).power().or_word(OWN), unit: "slots",
            what: "slots of each ring, ours and the others'",
            trades: "many keep a producer from waiting; few keep what is in flight in the caches",
            watch: "every figure";
        wait: wait = Kind::OneOf(&[OWN, "spin", "yield", "park"]),
            what: "what a shard does that has nothing to do; \"own\" is spin, or the engine's where a file has one",
            trades: "spin reacts first and burns a CPU; park costs nothing and tens of microseconds to wake up",
            watch: "every figure of ours";
        burst_events: burst = Kind::whole(1, BURST_MAX as u64).or_word(OWN), unit: "events",
            what: "events of a lower class that a strict one waits for at most; \"own\" as for wait",
            trades: "short bursts let critical events in sooner; long ones cost fewer looks an event",
            watch: "priority: the wait of critical events";
    }
    except { short }
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            rounds: 15,
            events: None,
            short: false,
            cpus: None,
            wait: None,
            capacity: None,
            burst: None,
        }
    }
}

impl Settings {
    /// A first look: 5 rounds of runs that are a tenth as long. Its intervals are wide.
    pub fn short() -> Self {
        Settings { rounds: 5, short: true, ..Settings::default() }
    }
}

/// A setting of a measurement by its name among all.
fn named(key: &str) -> String {
    format!("bench: {key}")
}

/// What a question is, and which settings it takes besides rounds, events and CPUs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spec {
    /// Its name, as the program has it.
    pub name: &'static str,
    /// The question, in one sentence.
    pub asks: &'static str,
    /// How to read the answer.
    pub hint: &'static str,
    /// Events of one run, unless said otherwise.
    pub events: u64,
    /// CPUs that it can use, 2 or more.
    pub cpus_max: usize,
    /// Slots of each ring, where that can be set.
    pub capacity: Option<u32>,
    /// Whether it has a shard whose waiting can be set.
    pub waits: bool,
    /// The burst, where that can be set.
    pub burst: Option<u32>,
}

impl Spec {
    /// Whether it has a use for a setting.
    pub fn takes(&self, key: &str) -> bool {
        match key {
            "capacity_slots" => self.capacity.is_some(),
            "wait" => self.waits,
            "burst_events" => self.burst.is_some(),
            _ => true,
        }
    }

    fn taken(&self) -> String {
        let taken: Vec<_> = BENCH.iter().map(|row| row.info.key).filter(|key| self.takes(key)).collect();
        taken.join(", ")
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MeasureError {
    /// Settings that cannot be, or that the question has no use for.
    #[error(transparent)]
    Settings(#[from] PlanErrors),
    /// This process may run on one CPU alone.
    #[error(
        "a measurement needs two CPUs, and this process may run on CPU {0} alone: both ends would take turns there, and \
         the figures would mean nothing; run it on a machine with more, or with a wider mask (taskset)"
    )]
    OneCpu(usize),
    /// A run did not end well.
    #[error("a run failed, so there are no figures; {0}")]
    Run(#[from] RunError),
}

/// A question's settings, complete and checked, and whoever watches.
pub struct Bench<'a> {
    pub(crate) spec: Spec,
    /// Rounds that count.
    pub rounds: u32,
    /// Events of one run.
    pub events: u64,
    /// The CPUs: the producer's, the consumer's, and those of further producers. Two or more, all different.
    pub cpus: Vec<usize>,
    /// What a shard with nothing to do does.
    pub wait: Wait,
    /// Slots of each ring.
    pub capacity: u32,
    /// Events of a lower class that a strict one waits for at most.
    pub burst: u32,
    /// The machine, as it was found before anything was pinned.
    pub machine: Machine,
    watch: &'a mut dyn FnMut(Step<'_>),
}

impl std::fmt::Debug for Bench<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bench")
            .field("spec", &self.spec)
            .field("machine", &self.machine)
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// Says all that is wrong, for a question.
    pub(crate) fn check(&self, spec: &Spec) -> Result<(), MeasureError> {
        let mut errors: Vec<_> = BENCH.iter().filter_map(|row| row.check(named, self)).collect();
        for row in BENCH.iter().filter(|row| !spec.takes(row.info.key)) {
            let value = row.get(self);
            if value.word() != OWN {
                let limit = format!("left out for {}, which takes {}", spec.name, spec.taken());
                errors.push(PlanError::new(named(row.info.key), value, limit, "leaving it out"));
            }
        }
        if let Some(cpus) = &self.cpus {
            check_cpus(cpus, spec, &mut errors);
        } else if errors.is_empty() && available().len() < 2 {
            return Err(MeasureError::OneCpu(available()[0]));
        }
        if errors.is_empty() { Ok(()) } else { Err(PlanErrors(errors).into()) }
    }
}

fn check_cpus(cpus: &[usize], spec: &Spec, errors: &mut Vec<PlanError>) {
    let list = |cpus: &[usize]| cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    let there = nameable();
    let works = match there.len() {
        // There is no list that would do.
        1 => "a machine with two CPUs".to_string(),
        _ => list(&choose().iter().chain(&there).copied().take(2).collect::<Vec<_>>()),
    };
    let most = spec.cpus_max;
    let all_differ = cpus.iter().enumerate().all(|(at, cpu)| !cpus[..at].contains(cpu));
    if !((2..=most).contains(&cpus.len()) && all_differ) {
        let number = if most == 2 { "two".to_string() } else { format!("2 to {most}") };
        let limit = format!("{number} different CPUs for {}: the producer's, then the consumer's", spec.name);
        errors.push(PlanError::new(named("cpus"), list(cpus), limit, &works));
    }
    for cpu in cpus.iter().filter(|cpu| !there.contains(cpu)) {
        errors.push(PlanError::new(named("cpus"), cpu, format!("among {}", list(&there)), &works).here());
    }
}

impl<'a> Bench<'a> {
    /// Completes the settings for a question.
    pub(crate) fn new(
        spec: Spec,
        settings: &Settings,
        watch: &'a mut dyn FnMut(Step<'_>),
    ) -> Result<Self, MeasureError> {
        settings.check(&spec)?;
        let mut cpus = settings.cpus.clone().unwrap_or_else(choose);
        cpus.truncate(spec.cpus_max);
        Ok(Bench {
            rounds: settings.rounds,
            events: settings.events.unwrap_or(if settings.short { spec.events / 10 } else { spec.events }),
            wait: settings.wait.unwrap_or(Wait::Spin),
            capacity: settings.capacity.or(spec.capacity).unwrap_or(1_024),
            burst: settings.burst.or(spec.burst).unwrap_or(64),
            machine: Machine::look(&cpus),
            cpus,
            spec,
            watch,
        })
    }

    /// Runs all contenders in turn; see [`alternate`].
    ///
    /// # Errors
    /// As for [`alternate`].
    pub fn alternate<T: Send>(
        &mut self,
        at: &str,
        peers: Vec<Peer<'_, T>>,
    ) -> Result<Vec<Runs<T>>, MeasureError> {
        Ok(alternate(self.rounds, at, peers, self.watch)?)
    }

    /// What runs need to know of it.
    pub fn load(&self) -> Load {
        Load {
            events: self.events,
            work: 0,
            cpus: [self.cpus[0], self.cpus[1]],
            capacity: self.capacity,
            wait: self.wait,
            burst: self.burst,
        }
    }
}

/// What one run does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Events.
    pub events: u64,
    /// Dependent multiplications before each.
    pub work: u64,
    /// The producer's CPU and the consumer's.
    pub cpus: [usize; 2],
    /// Slots of each ring.
    pub capacity: u32,
    /// What a shard with nothing to do does.
    pub wait: Wait,
    /// Events of a lower class that a strict one waits for at most.
    pub burst: u32,
}

impl Load {
    /// The same with some work before each event.
    pub fn with_work(self, work: u64) -> Self {
        Load { work, ..self }
    }

    /// The engine's plan: one producer, and a shard on the consumer's CPU.
    pub fn plan(&self) -> Plan {
        Plan::new(Profile::Latency)
            .with_announce(false)
            .with_producers_max(1)
            .with_cpus([self.cpus[1]])
            .with_wait(self.wait)
            .with_burst(self.burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: Spec = Spec {
        name: "lane",
        asks: "?",
        hint: "",
        events: 7,
        cpus_max: 2,
        capacity: Some(1_024),
        waits: false,
        burst: None,
    };

    fn refused(settings: Settings, spec: Spec) -> String {
        settings.check(&spec).unwrap_err().to_string()
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_would_work() {
        let settings = || Settings { cpus: None, ..Settings::default() };
        let text = refused(Settings { rounds: 0, events: Some(0), capacity: Some(3), ..settings() }, SPEC);
        for part in ["rounds is 0", "events is 0", "capacity_slots is 3", "a power of two from 2"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        for cpus in [vec![], vec![0], vec![0, 0], vec![0, 1, 2]] {
            let text = refused(Settings { cpus: Some(cpus), ..settings() }, SPEC);
            assert!(text.contains("two different CPUs for lane"), "{text}");
        }
        let text = refused(Settings { cpus: Some(vec![0, 99_999]), ..settings() }, SPEC);
        assert!(text.contains("cpus is 99999, but must be among"), "{text}");
    }

    #[test]
    fn an_option_without_a_use_is_refused() {
        let bare = Spec { capacity: None, ..SPEC };
        let settings =
            Settings { wait: Some(Wait::Park), capacity: Some(64), burst: Some(8), ..Settings::default() };
        let text = refused(settings, bare);
        for option in ["wait", "capacity_slots", "burst_events"] {
            assert!(text.contains(&format!("{option} is ")), "{text}");
        }
        assert!(text.contains("left out for lane, which takes rounds, events, cpus; leaving"), "{text}");
    }
}
