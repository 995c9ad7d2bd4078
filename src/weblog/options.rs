//! What a replay can be told, and the plan that is made of it.
//!
//! # Mechanism
//! [`Options`] holds every setting of a replay with the value that it has if nobody says otherwise. `Options::plan`
//! makes the engine's [`Plan`] of them: three classes, told apart by the status of a line, and the tables of the
//! handler as reserved memory, so that they stand in the footprint and are checked with it.
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
#![forbid(unsafe_code)]

use std::time::Duration;

use crate::class::{Class, ClassId, Overflow, Stamp};
use crate::clock::Clock;
use crate::engine::{ENGINE, Plan, PlanError, PlanErrors, Profile, cpu_list};
use crate::shard::available;
use crate::wait::Wait;
use crate::weblog::aggregate::{Aggregate, Limits};
use crate::weblog::pace::RATE_MAX;
use crate::weblog::tables::TableError;

/// The classes of a replay, in their order.
pub const CLASS_NAMES: [&str; 3] = ["critical", "high", "bulk"];

/// What can be set for a class.
const CLASS_KEYS: &str = "one of capacity, payload_bytes, policy, ttl_ms, stamp";

/// What can be set for each class; see [`Class`] for units and ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassSettings {
    /// Slots of a lane.
    pub capacity: u32,
    /// Bytes of a lane's payload ring. The client and the request line of one event take at most half of it.
    pub payload_bytes: u32,
    /// What a producer does when a lane is full.
    pub overflow: Overflow,
    /// The age after which an event expires.
    pub ttl: Option<Duration>,
    /// Which events are measured.
    pub stamp: Stamp,
}

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
    /// Where wait, burst and floor come from, unless they are named.
    pub profile: Profile,
    /// Shards, 1 to 256.
    pub shards: u16,
    /// Threads that read and parse, 1 to 256. A stream has one.
    pub producers: u16,
    /// The CPUs of the shards. Without them, CPUs are chosen.
    pub cpus: Option<Vec<usize>>,
    /// What an idle shard does; without it, what the profile says.
    pub wait: Option<Wait>,
    /// Events of one class between two looks at the classes above; without it, what the profile says.
    pub burst: Option<u32>,
    /// Bursts of other classes after which bulk is served; without it, what the profile says.
    pub floor: Option<u32>,
    /// By class, in the order of [`CLASS_NAMES`].
    pub classes: [ClassSettings; 3],
    /// How many names the tables of each shard have room for.
    pub limits: Limits,
    /// How often the input is read, 1 or more. A stream can be read once.
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
    /// The most memory that the footprint may come to, in bytes; without it, what the machine has.
    pub memory_max: Option<u64>,
    /// The clock of stamps, of the time to live and of the schedule; without it, the machine's.
    pub clock: Option<Clock>,
}

impl Default for Options {
    fn default() -> Self {
        let class = |capacity, stamp| ClassSettings {
            capacity,
            payload_bytes: 128 << 10,
            overflow: Overflow::Block { limit: None },
            ttl: None,
            stamp,
        };
        Options {
            profile: Profile::Dev,
            shards: if available().len() > 1 { 2 } else { 1 },
            producers: 2,
            cpus: None,
            wait: None,
            burst: None,
            floor: None,
            // Errors are few and matter: each is measured. Bulk is sampled, so that measuring costs it nothing.
            classes: [class(256, Stamp::Every), class(256, Stamp::Every), class(1_024, Stamp::OneIn(64))],
            limits: Limits::default(),
            loops: 1,
            rate: None,
            strict: false,
            time_limit: None,
            top: 10,
            memory_max: None,
            clock: None,
        }
    }
}

fn wrong(
    setting: impl Into<String>,
    value: impl ToString,
    limit: impl Into<String>,
    works: impl ToString,
) -> PlanError {
    PlanError::new(setting, value.to_string(), limit, works.to_string())
}

impl Options {
    /// Changes settings of a class, as the program's option writes it: `bulk:capacity=4096,policy=reject`.
    ///
    /// # Errors
    /// [`PlanError`] where there is no such class or key, or where a value cannot be read. Whether it can be is for
    /// [`Plan::check`] to say.
    pub fn set_class(&mut self, text: &str) -> Result<(), PlanError> {
        let (name, settings) = text.split_once(':').ok_or_else(|| {
            wrong("class", quoted(text), "NAME:KEY=VALUE[,KEY=VALUE...]", "'bulk:capacity=4096'")
        })?;
        let at = CLASS_NAMES.iter().position(|known| *known == name).ok_or_else(|| {
            wrong("class", quoted(name), format!("one of {}", CLASS_NAMES.join(", ")), "'bulk'")
        })?;
        settings.split(',').try_for_each(|setting| self.classes[at].set(name, setting))
    }

    /// Names the CPUs of the shards, in the notation of the kernel: `0-3,7`.
    ///
    /// # Errors
    /// [`PlanError`] where a part is neither a number nor a range.
    pub fn set_cpus(&mut self, text: &str) -> Result<(), PlanError> {
        self.cpus = Some(cpu_list(text)?);
        Ok(())
    }

    /// The checked plan, and the classes in the order of [`CLASS_NAMES`]. `E` is what travels in the slots.
    ///
    /// # Errors
    /// [`PlanErrors`] with all that is wrong.
    pub(crate) fn plan<E>(&self, input: Passes) -> Result<(Plan, [ClassId; 3]), PlanErrors> {
        // The handler emits nothing and needs no scratch; what is never used is not laid out.
        let mut plan = Plan::new(self.profile)
            .announce(false)
            .shards(self.shards)
            .producers_max(self.producers)
            .scratch_bytes(0);
        plan = match &self.cpus {
            Some(cpus) => plan.cpus(cpus.clone()),
            None => plan,
        };
        plan = self.wait.map_or(plan.clone(), |wait| plan.wait(wait));
        plan = self.burst.map_or(plan.clone(), |burst| plan.burst(burst));
        plan = self.floor.map_or(plan.clone(), |floor| plan.floor(floor));
        plan = self.memory_max.map_or(plan.clone(), |bytes| plan.memory_max(bytes));
        plan = self.clock.clone().map_or(plan.clone(), |clock| plan.clock(clock));
        let [critical, high, bulk] = &self.classes;
        let classes = [
            plan.class(critical.class(Class::strict(CLASS_NAMES[0]))),
            plan.class(high.class(Class::strict(CLASS_NAMES[1]))),
            plan.class(bulk.class(Class::weighted(CLASS_NAMES[2], 1))),
        ];
        let mut errors = self.check_own(input);
        match Aggregate::bytes_for(&self.limits) {
            Ok(terms) => {
                for (name, bytes) in terms {
                    plan = plan.reserve(name, bytes);
                }
            }
            Err(error) => errors.push(table_error(error)),
        }
        if let Err(PlanErrors(more)) = plan.check::<E>() {
            errors.extend(more);
        }
        for error in errors.iter_mut().filter(|error| error.setting == "producers_max") {
            // Under the name by which it was set.
            error.setting = "producers".into();
        }
        if errors.is_empty() { Ok((plan, classes)) } else { Err(PlanErrors(errors)) }
    }

    /// What the engine's plan knows nothing of.
    fn check_own(&self, input: Passes) -> Vec<PlanError> {
        let mut errors = Vec::new();
        if self.loops == 0 {
            errors.push(wrong("loop", 0, "1 or more", 1));
        }
        if let Some(rate) = self.rate.filter(|rate| !(1..=RATE_MAX).contains(rate)) {
            errors.push(wrong("rate", rate, format!("from 1 to {RATE_MAX}"), rate.clamp(1, RATE_MAX)));
        }
        for (name, class) in
            CLASS_NAMES.iter().zip(&self.classes).filter(|(_, class)| class.payload_bytes == 0)
        {
            let limit = "a power of two from 64 on, since client and request travel in it";
            errors.push(wrong(
                format!("class '{name}': payload_bytes"),
                class.payload_bytes,
                limit,
                128 << 10,
            ));
        }
        if input == Passes::One && self.loops > 1 {
            errors.push(wrong("loop", self.loops, "1 for a stream, which can be read only once", 1));
        }
        if input != Passes::ManyByRanges && self.producers > 1 {
            errors.push(wrong("producers", self.producers, "1 where the input has one reader", 1));
        }
        errors
    }

    /// Every setting with its value and why it has that value, for people.
    #[must_use]
    pub fn explain(&self, plan: &Plan) -> Vec<Explained> {
        let limits = &self.limits;
        let time_limit = self.time_limit.map_or("none".into(), |limit| format!("{limit:?}"));
        let own = [
            ("loop", if self.loops == u64::MAX { "for ever".into() } else { self.loops.to_string() }),
            ("time_limit", time_limit),
            ("rate", self.rate.map_or("none".into(), |rate| format!("{rate} lines/s"))),
            ("strict", if self.strict { "yes" } else { "no" }.into()),
            ("clients_max", limits.clients_max.to_string()),
            ("client_bytes", format!("{} bytes", limits.client_bytes_max)),
            ("paths_max", limits.paths_max.to_string()),
            ("path_bytes", format!("{} bytes", limits.path_bytes_max)),
            ("top", self.top.to_string()),
        ];
        let engine = ENGINE.iter().map(|row| {
            let unit = if row.unit.is_empty() { "" } else { " " };
            (row.key, format!("{}{unit}{}", (row.get)(plan), row.unit))
        });
        let settings = engine.chain(own);
        settings.map(|(name, value)| Explained { name, value, reason: self.reason(name) }).collect()
    }

    fn reason(&self, name: &str) -> String {
        let cpus = available().len();
        let named = |is_named, otherwise: &str| if is_named { "named" } else { otherwise }.to_string();
        match name {
            "profile" => "a shared machine: an idle engine costs nothing".into(),
            "shards" if self.shards == Options::default().shards => match cpus {
                1 => "there is one CPU".into(),
                n => format!("one on each of two CPUs, of {n}"),
            },
            "producers_max" if self.producers == 1 => "a stream has one reader".into(),
            "cpus" => named(self.cpus.is_some(), "from the mask's end: its start takes interrupts"),
            "wait" => named(self.wait.is_some(), "of the profile: an idle shard sleeps"),
            "burst_events" => {
                named(self.burst.is_some(), "of the profile: bulk that an error waits for, at most")
            }
            "floor_bursts" => named(self.floor.is_some(), "then bulk is served once, and cannot starve"),
            "partitions" => "the least: a client's lines stay in order".into(),
            "scratch_bytes" => "the handler needs none".into(),
            "mesh" => "the handler emits nothing".into(),
            "retries_max" => "the handler never asks for a retry".into(),
            "on_panic" => "a panic costs one event, not a shard".into(),
            "drop_deadline" => "not used: the run ends with a stop".into(),
            "memory_max" => named(self.memory_max.is_some(), "what this process may take"),
            "clock" => "stamps are of real time".into(),
            "thread_name" => "a shard's number follows it".into(),
            "loop" if self.loops == u64::MAX => "the input is read over and over".into(),
            "loop" => named(self.loops > 1, "each line counts once"),
            "time_limit" if self.time_limit.is_some() => "then it ends, in the middle of a pass".into(),
            "time_limit" => "to the end of the input".into(),
            "rate" => named(self.rate.is_some(), "as fast as lines are read"),
            "strict" => named(self.strict, "a malformed line is counted, not an end"),
            "clients_max" => "in each shard; more are counted together".into(),
            "client_bytes" => "for their names: 24 each is plenty".into(),
            "paths_max" => "in each shard; more are counted together".into(),
            "path_bytes" => "for their names: 64 each is usual".into(),
            "top" => "the busiest clients and paths to show".into(),
            _ => "named".into(),
        }
    }
}

/// A setting, its value, and why it has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// The setting's name.
    pub name: &'static str,
    /// Its value, with the unit.
    pub value: String,
    /// The reason.
    pub reason: String,
}

fn quoted(text: &str) -> String {
    format!("'{text}'")
}

/// A limit of the tables, told like every other setting.
fn table_error(error: TableError) -> PlanError {
    match error {
        TableError::OutOfRange { setting, value, limit } => {
            wrong(setting, value, format!("from 1 to {limit}"), value.clamp(1, limit))
        }
        TableError::NoMemory { setting, bytes } => {
            wrong(setting, format!("{bytes} bytes"), "what the system gives", "half of it")
        }
    }
}

impl ClassSettings {
    fn class(&self, class: Class) -> Class {
        let class = class.capacity(self.capacity).payload_bytes(self.payload_bytes).stamp(self.stamp);
        let class = match self.overflow {
            Overflow::Block { limit: None } => class.block(),
            Overflow::Block { limit: Some(limit) } => class.block_for(limit),
            Overflow::Reject => class.reject(),
            Overflow::DropNewest => class.drop_newest(),
        };
        match self.ttl {
            Some(ttl) => class.ttl(ttl),
            None => class,
        }
    }

    fn set(&mut self, class: &str, text: &str) -> Result<(), PlanError> {
        let name = |key: &str| format!("class '{class}': {key}");
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        let bad = |limit: &str, works: &str| wrong(name(key), quoted(value), limit, works);
        let number = |works| value.parse::<u32>().map_err(|_| bad("a whole number below 2^32", works));
        match key {
            "capacity" => self.capacity = number("1024")?,
            "payload_bytes" => self.payload_bytes = number("131072")?,
            "ttl_ms" => self.ttl = Some(Duration::from_millis(number("1000")?.into())),
            "policy" => {
                self.overflow = match value.split_once(':') {
                    None if value == "block" => Overflow::Block { limit: None },
                    None if value == "reject" => Overflow::Reject,
                    None if value == "drop_newest" => Overflow::DropNewest,
                    Some(("block", ms)) if ms.parse::<u32>().is_ok() => {
                        let limit = ms.parse::<u32>().map_or(0, u64::from);
                        Overflow::Block { limit: Some(Duration::from_millis(limit)) }
                    }
                    _ => return Err(bad("one of block, block:MS, reject, drop_newest", "block")),
                }
            }
            "stamp" => {
                self.stamp = match value {
                    "every" => Stamp::Every,
                    "never" => Stamp::Never,
                    n => n
                        .parse()
                        .map(Stamp::OneIn)
                        .map_err(|_| bad("every, never, or one in how many (a power of two)", "64"))?,
                }
            }
            _ => return Err(wrong(name("key"), quoted(key), CLASS_KEYS, "capacity")),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_set_by_name_and_key() {
        let mut options = Options::default();
        options.set_class("bulk:capacity=4096,policy=block:50,ttl_ms=7,stamp=16,payload_bytes=64").unwrap();
        options.set_class("high:policy=drop_newest,stamp=never").unwrap();
        let bulk = &options.classes[2];
        assert_eq!((bulk.capacity, bulk.payload_bytes, bulk.stamp), (4096, 64, Stamp::OneIn(16)));
        assert_eq!(bulk.ttl, Some(Duration::from_millis(7)));
        assert_eq!(bulk.overflow, Overflow::Block { limit: Some(Duration::from_millis(50)) });
        assert_eq!(options.classes[1].overflow, Overflow::DropNewest);
        assert_eq!(options.classes[0], Options::default().classes[0]);
    }

    #[test]
    fn what_cannot_be_read_names_what_can() {
        let told = |text: &str| Options::default().set_class(text).unwrap_err().to_string();
        assert_eq!(
            told("bulky:capacity=1"),
            "class is 'bulky', but must be one of critical, high, bulk; 'bulk' would work"
        );
        assert!(told("bulk:size=1").contains("capacity, payload_bytes, policy, ttl_ms, stamp"));
        assert!(told("bulk:capacity=many").contains("class 'bulk': capacity is 'many'"));
        assert!(told("bulk:policy=evict").contains("block, block:MS, reject, drop_newest"));
        assert!(told("bulk:policy=block:soon").contains("block:MS"));
        assert!(told("bulk:stamp=often").contains("64 would work"));
        assert!(told("bulk").contains("NAME:KEY=VALUE"));
        let cpus = Options::default().set_cpus("0,x").unwrap_err().to_string();
        assert!(cpus.contains("cpus is '0,x'"), "{cpus}");
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let mut options = Options { shards: 0, producers: 0, loops: 0, ..Options::default() };
        options.limits.clients_max = 0;
        options.set_class("bulk:capacity=1000").unwrap();
        let told = options.plan::<u64>(Passes::ManyByRanges).unwrap_err().to_string();
        let settings =
            ["loop is 0", "clients_max is 0", "shards is 0", "producers is 0", "capacity_slots is 1000"];
        for setting in settings {
            assert!(told.contains(setting), "{setting}: {told}");
        }
        assert_eq!(told.lines().count(), settings.len(), "{told}");
    }

    #[test]
    fn every_setting_has_a_reason() {
        let options = Options::default();
        let (plan, _) = options.plan::<u64>(Passes::ManyByRanges).unwrap();
        let explained = options.explain(&plan);
        assert!(explained.len() > 10 && explained.iter().all(|setting| !setting.reason.is_empty()));
    }
}
