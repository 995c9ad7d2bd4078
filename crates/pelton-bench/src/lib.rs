//! Measuring: the questions that decide whether an engine like this one is worth its while, each asked of Pelton, of the
//! peers that people would use instead, and of the bare machine, on the machine at hand.
//!
//! # Mechanism
//! ```text
//!   Question + Settings ─▶ Bench ─▶ rounds in which all contenders take turns ─▶ Answer ─▶ text, JSON
//! ```
//! [`Question::ask`] does it; the program's `pelton bench` and the benches print what comes of it. [`rounds`] says how
//! figures are made of runs, [`event`] what is moved, [`peers`] how every contender is used, [`answer`] what is told.
//!
//! # What it does not do
//! It does not fail where a figure misses its limit: that is for whoever reads it. It does not say why a figure is as it
//! is: that is a profiler's work.
//!
//! # Examples
//! ```no_run
//! use pelton_bench::{Question, Settings};
//! let settings = Settings { rounds: 5, ..Settings::default() };
//! let answer = Question::Lane.ask(&settings, &mut |_| ())?;
//! println!("{answer}");
//! # Ok::<(), pelton_bench::MeasureError>(())
//! ```
#![allow(missing_debug_implementations, reason = "nothing of it is published")]

pub use pelton_testkit::event;
pub mod machine;
pub mod rounds;

mod settings;

pub mod answer;
pub mod hgrm;

pub mod scale;

pub mod chart;
pub mod peers;

mod lane;

mod cliff;

mod engine;

mod mesh;

mod priority;

mod wake;

mod producers;

pub mod openloop;

mod latency;

pub use answer::Answer;
pub use machine::Machine;
pub use settings::{
    BENCH, Bench, CAPACITY_MAX, CPUS_MAX, EVENTS_MAX, Load, MeasureError, ROUNDS_MAX, Settings,
};

use pelton::engine::{PlanError, PlanErrors};
use rounds::Step;
use settings::Spec;

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// What does it cost to hand one event from one thread to another?
    Lane,
    /// What does a hand-off cost over the work that its producer does before each event?
    Cliff,
    /// What does a whole engine cost an event, against a bare disruptor that only hands it over?
    Engine,
    /// How long does a critical event wait while bulk events saturate the shard?
    Priority,
    /// How long does it take to wake a shard that sleeps, beside a bare futex?
    Wake,
    /// How long does a request and its reply take, shard to shard, beside the bare cache line there and back?
    Mesh,
    /// How many events a second do several producers bring through one shard?
    Producers,
    /// How long does an event take from the time that it was due, at half of what the slowest can bear?
    Latency,
    /// How far can the load be raised until latency bends upwards?
    Knee,
}

type Ask = fn(&mut Bench<'_>) -> Result<Answer, MeasureError>;

impl Question {
    /// All of them but [`Question::Knee`], which is the latency once more, over a sweep.
    pub const ALL: [Question; 8] = [
        Question::Lane,
        Question::Cliff,
        Question::Engine,
        Question::Priority,
        Question::Wake,
        Question::Mesh,
        Question::Producers,
        Question::Latency,
    ];

    fn spec(self) -> (Spec, Ask) {
        match self {
            Question::Lane => (lane::SPEC, lane::ask),
            Question::Cliff => (cliff::SPEC, cliff::ask),
            Question::Engine => (engine::SPEC, engine::ask),
            Question::Priority => (priority::SPEC, priority::ask),
            Question::Wake => (wake::SPEC, wake::ask),
            Question::Mesh => (mesh::SPEC, mesh::ask),
            Question::Producers => (producers::SPEC, producers::ask),
            Question::Latency => (latency::SPEC, latency::ask),
            Question::Knee => (latency::KNEE_SPEC, latency::ask_knee),
        }
    }

    /// Its name: `lane`.
    pub fn name(self) -> &'static str {
        self.spec().0.name
    }

    /// The question, in one sentence.
    pub fn asks(self) -> &'static str {
        self.spec().0.asks
    }

    /// Events of one run, unless the settings say otherwise.
    pub fn events(self) -> u64 {
        self.spec().0.events
    }

    /// Whether it has a use for a setting of [`BENCH`], by its key.
    pub fn takes(self, key: &str) -> bool {
        self.spec().0.takes(key)
    }

    /// Measures. `watch` is told before each run which one it is; nothing else runs meanwhile.
    ///
    /// Call it from a thread that is not pinned: what it pins are threads of its own.
    ///
    /// # Errors
    /// As for [`check`]; [`MeasureError::Run`] where a run fails.
    pub fn ask(self, settings: &Settings, watch: &mut dyn FnMut(Step<'_>)) -> Result<Answer, MeasureError> {
        let (spec, ask) = self.spec();
        ask(&mut Bench::new(spec, settings, watch)?)
    }
}

impl std::str::FromStr for Question {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|question| question.name() == name);
        known.ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|question| question.name()).collect();
            format!("'{name}' is no question; {} are", names.join(", "))
        })
    }
}

/// Whether the settings will do for all of these questions, before anything is run.
///
/// # Errors
/// [`MeasureError::Settings`] with all that is wrong, each setting once; [`MeasureError::OneCpu`].
pub fn check(questions: &[Question], settings: &Settings) -> Result<(), MeasureError> {
    let mut all: Vec<PlanError> = Vec::new();
    for question in questions {
        match settings.check(&question.spec().0) {
            Ok(()) => {}
            Err(MeasureError::Settings(PlanErrors(errors))) => {
                all.extend(
                    errors
                        .into_iter()
                        .filter(|error| {
                            !all.iter()
                                .any(|told| (&told.setting, &told.value) == (&error.setting, &error.value))
                        })
                        .collect::<Vec<_>>(),
                );
            }
            Err(error) => return Err(error),
        }
    }
    if all.is_empty() { Ok(()) } else { Err(PlanErrors(all).into()) }
}

/// The settings of a bench: `PELTON_BENCH_ROUNDS` rounds and `PELTON_BENCH_EVENTS` events where the environment has them.
///
/// # Panics
/// Where the environment has something else than a number.
pub fn bench_settings() -> Settings {
    let read = |name: &str| {
        let text = std::env::var(name).ok()?;
        Some(text.parse::<u64>().unwrap_or_else(|_| panic!("{name} is {text}, but must be a whole number")))
    };
    let mut settings = Settings { events: read("PELTON_BENCH_EVENTS"), ..Settings::default() };
    if let Some(rounds) = read("PELTON_BENCH_ROUNDS") {
        settings.rounds = rounds.try_into().unwrap_or(u32::MAX);
    }
    settings
}
