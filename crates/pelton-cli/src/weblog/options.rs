//! What a replay can be told, and the plan that is made of it.
//!
//! # Mechanism
//! [`Options`] has the engine's [`Plan`] and what a replay has besides: a row of [`REPLAY`] for each. [`Options::base`]
//! makes the plan to start from: three classes, told apart by the status of a line. The tables of the handler are
//! reserved memory, so that they stand in the footprint and are checked with it.
//!
//! | class | share | lines |
//! |---|---|---|
//! | `critical` | strict | status 5xx |
//! | `high` | strict | status 4xx |
//! | `bulk` | weighted, 1 | all others |
//!
//! # Invariants
//! - Nothing is rounded or clamped. A value that cannot be is refused as a [`PlanError`], which names the setting, the
//!   value, the limit and a value that would work; all that is wrong is told at once.
//! - By default no line is lost: every class blocks.

use std::time::Duration;

use crate::weblog::aggregate::{Aggregate, Limits};
use crate::weblog::pace::RATE_MAX;
use crate::weblog::tables::{ENTRIES_MAX, NAME_BYTES_MAX};
use pelton::class::{Class, ClassId, Stamp};
use pelton::engine::PRODUCERS_MAX;
use pelton::engine::{Kind, Plan, PlanError, PlanErrors, Profile};
use pelton::host::Host;
use pelton::settings;

/// The classes of a replay, in their order.
pub const CLASS_NAMES: [&str; 3] = ["critical", "high", "bulk"];

/// How an input can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passes {
    /// Once, by one reader.
    One,
    /// Again and again, by one reader.
    Many,
    /// Again and again, in ranges, by several readers.
    ManyByRanges,
}

/// The settings of a replay.
#[derive(Clone, Debug)]
pub struct Options {
    /// The engine's, with the classes of [`CLASS_NAMES`]: made by [`Options::base`], and changed.
    pub plan: Plan,
    /// Threads that read and parse, 1 to the plan's `producers_max`. A stream has one.
    pub producers: u16,
    /// How many names the tables of each shard have room for.
    pub limits: Limits,
    /// How often the input is read, 1 or more; `u64::MAX` is for ever. A stream can be read once.
    pub loops: u64,
    /// Lines a second over all producers, 1 to [`RATE_MAX`]: each is then sent at its time, and its latency counts from
    /// that time. Without it lines are sent as fast as they are read.
    pub rate: Option<u64>,
    /// Whether the first malformed line ends the run.
    pub strict: bool,
    /// When to stop reading; the input is read once in any case.
    pub time_limit: Option<Duration>,
    /// How many clients and paths the report names.
    pub top: usize,
}

settings! {
    /// The settings of a replay beside the engine's, in the order in which files have them.
    pub const REPLAY: Options {
        producers: producers = Kind::whole(1, PRODUCERS_MAX as u64),
            what: "threads that read and parse",
            trades: "more read faster; each takes a CPU, and lanes to every shard",
            watch: "events a second, rejected(slots_full)";
        loop: loops = Kind::whole(1, u64::MAX).or_word("for_ever"),
            what: "how often the input is read",
            trades: "nothing: longer runs show what is rare",
            watch: "passes",
            get: |options, _| match options.loops {
                u64::MAX => "for_ever".into(),
                loops => loops.into(),
            },
            set: |options, value, _| options.loops = value.number().unwrap_or(u64::MAX);
        rate_lines_per_s: rate = Kind::whole(1, RATE_MAX).thousands().or_word("none"), unit: "lines/s",
            what: "lines a second over all producers, each sent at its time; \"none\" is as fast as they are read",
            trades: "with a rate latency counts from the time at which a line was due; without one it tells of full lanes",
            watch: "schedule: late, achieved";
        time_limit_s: time_limit = Kind::whole(0, u32::MAX as u64).or_word("none"), unit: "s",
            what: "when to stop reading; the input is read once in any case",
            trades: "nothing: longer runs show what is rare",
            watch: "passes";
        strict: strict = Kind::Flag,
            what: "whether the first malformed line ends the run",
            trades: "an end tells of a wrong file at once; counting gets through a file that is nearly right",
            watch: "malformed";
        clients_max: limits.clients_max = Kind::whole(1, ENTRIES_MAX as u64),
            what: "distinct clients in each shard; more are counted together",
            trades: "room for all counts each by name; it is laid out at start",
            watch: "overflowed clients, memory";
        client_bytes: (limits.client_bytes_max) = Kind::whole(1, NAME_BYTES_MAX as u64).or_word("derived"), unit: "bytes",
            what: "room for the names of all clients; \"derived\" is 24 for each of clients_max",
            trades: "as for clients_max",
            watch: "overflowed clients, memory";
        paths_max: (limits.paths_max) = Kind::whole(1, ENTRIES_MAX as u64),
            what: "distinct paths in each shard; more are counted together",
            trades: "room for all counts each by name; it is laid out at start",
            watch: "overflowed paths, memory";
        path_bytes: (limits.path_bytes_max) = Kind::whole(1, NAME_BYTES_MAX as u64).or_word("derived"), unit: "bytes",
            what: "room for all paths; \"derived\" is 64 for each of paths_max",
            trades: "as for paths_max",
            watch: "overflowed paths, memory";
        top: top = Kind::whole(0, ENTRIES_MAX as u64),
            what: "busiest clients and paths to show",
            trades: "nothing",
            watch: "the report";
    }
    except { plan }
}

impl Default for Options {
    fn default() -> Self {
        Options {
            plan: Options::base(Profile::Dev),
            producers: 2,
            limits: Limits::default(),
            loops: 1,
            rate: None,
            strict: false,
            time_limit: None,
            top: 10,
        }
    }
}

/// A setting of a replay by its name among all.
fn named(key: &str) -> String {
    format!("replay: {key}")
}

impl Options {
    /// Why the plan of [`Options::base`] is not as its profile has it, by setting.
    pub const WHY: [(&str, &str); 2] = [
        ("shards", "two where there are CPUs for them, or one"),
        ("scratch_bytes", "the handler needs none"),
    ];

    /// The plan that a replay starts from: its classes, and no memory that it does not use.
    pub fn base(profile: Profile) -> Plan {
        let host = Host::look_at_cpus();
        let two = host.cpus.len().min(host.quota_whole()) > 1;
        let mut plan = Plan::new(profile)
            .with_announce(false)
            .with_shards(if two { 2 } else { 1 })
            .with_scratch_bytes(0);
        let class = |class: Class| class.with_payload_bytes(128 << 10).block();
        // Errors are few and matter: each is measured. Bulk is sampled, so that measuring costs it nothing.
        let errors = |name| class(Class::strict(name)).with_capacity(256).with_stamp(Stamp::Every);
        plan.class(errors(CLASS_NAMES[0]));
        plan.class(errors(CLASS_NAMES[1]));
        plan.class(
            class(Class::weighted(CLASS_NAMES[2], 1)).with_capacity(1_024).with_stamp(Stamp::OneIn(64)),
        );
        plan
    }

    /// All that is wrong with what a replay has besides the engine, whatever its input.
    #[must_use]
    pub fn findings(&self) -> Vec<PlanError> {
        let mut found: Vec<_> = REPLAY.iter().filter_map(|row| row.check(named, self)).collect();
        let most = self.plan.producers_max();
        if found.is_empty() && self.producers > most {
            let limit = format!("at most {most}, the plan's producers_max");
            found.push(PlanError::new(named("producers"), self.producers, limit, most));
        }
        for name in CLASS_NAMES {
            let Some(class) = self.plan.classes().iter().find(|class| class.name() == name) else {
                let limit = format!("a plan's with {}", CLASS_NAMES.join(", "));
                found.push(PlanError::new("classes", format!("without '{name}'"), limit, "Options::base"));
                continue;
            };
            if class.payload_bytes() == 0 {
                let limit = "a power of two from 64 on, since client and request travel in it";
                found.push(PlanError::new(class.key_of()("payload_ring_bytes"), 0, limit, 128 << 10));
            }
        }
        found
    }

    /// A plan with the memory of the tables, in the place of what it had reserved for them.
    pub(crate) fn reserve(&self, mut plan: Plan) -> Plan {
        // Limits that cannot be are told as such.
        for (name, bytes) in Aggregate::bytes_for(&self.limits).unwrap_or_default() {
            plan = plan.reserve(name, bytes);
        }
        plan
    }

    /// The checked plan, and the classes in the order of [`CLASS_NAMES`]. `E` is what travels in the slots.
    ///
    /// # Errors
    /// [`PlanErrors`] with all that is wrong.
    pub(crate) fn checked<E>(&self, input: Passes) -> Result<(Plan, [ClassId; 3]), PlanErrors> {
        let plan = self.reserve(self.plan.clone());
        let mut errors = self.findings();
        if input == Passes::One && self.loops > 1 {
            let limit = "1 for a stream, which can be read only once";
            errors.push(PlanError::new(named("loop"), self.loops, limit, 1));
        }
        if input != Passes::ManyByRanges && self.producers > 1 {
            let limit = "1 where the input has one reader";
            errors.push(PlanError::new(named("producers"), self.producers, limit, 1));
        }
        if let Err(PlanErrors(more)) = plan.check::<E>() {
            errors.extend(more);
        }
        match CLASS_NAMES.map(|name| plan.class_named(name)) {
            [Some(critical), Some(high), Some(bulk)] if errors.is_empty() => {
                Ok((plan, [critical, high, bulk]))
            }
            _ => Err(PlanErrors(errors)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let mut options = Options { producers: 0, loops: 0, ..Options::default() };
        options.plan = options.plan.with_shards(0);
        let classes = options.plan.classes_mut();
        classes[2] = classes[2].clone().with_capacity(1_000);
        classes[1] = classes[1].clone().with_payload_bytes(0);
        options.limits.clients_max = 0;
        let told = options.checked::<u64>(Passes::ManyByRanges).unwrap_err().to_string();
        let settings = [
            "loop is 0",
            "clients_max is 0",
            "shards is 0",
            "producers is 0",
            "class 'bulk': capacity_slots is 1000",
            "class 'high': payload_ring_bytes is 0",
        ];
        for setting in settings {
            assert!(told.contains(setting), "{setting}: {told}");
        }
        assert_eq!(told.lines().count(), settings.len(), "{told}");
    }

    #[test]
    fn a_plan_without_the_classes_of_a_replay_is_refused() {
        let mut plan = Plan::new(Profile::Dev);
        plan.class(Class::strict("orders"));
        let told = Options { plan, ..Options::default() }.checked::<u64>(Passes::Many).unwrap_err();
        assert!(told.to_string().contains("without 'bulk'"), "{told}");
    }
}
