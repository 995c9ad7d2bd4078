//! The few questions that decide a configuration, and the plan that follows from their answers, with the arithmetic.
//!
//! # Mechanism
//! | setting | formula |
//! |---|---|
//! | `shards` | `rate × handling_ns`, the CPUs that the handlers keep busy, at a load of one half; not more than there are CPUs |
//! | `profile` | `latency` for a target below 100 µs where every shard has a CPU and one is left; `throughput` for one of 10 ms or more; `balanced` |
//! | `burst_events` | what is handled in half of the latency target; at most the profile's |
//! | `capacity_slots` | the class's rate, over producers and shards, for as long as a stall; at least 64; a power of two |
//! | `payload_ring_bytes` | twice the largest payload, or a full lane of usual ones; a power of two |
//!
//! Then capacities are halved, the largest first, until the footprint keeps to the limit; what that gives up is said. The
//! plan is asked its own rules at last: what is drafted passes them, or nothing is.

use crate::output::format::{bytes, count, many, nanos};
use crate::settings::answers::{Answers, QUESTIONS};
use crate::settings::write::{Notes, write};
use pelton::class::{CAPACITY_MAX, CLASSES_MAX, Class, PAYLOAD_BYTES_MAX};
use pelton::engine::{Kind, Plan, PlanError, PlanErrors, Profile, RawValue, Severity};
use pelton::host::Host;

/// Below this a shard that sleeps wakes up too late.
const SPIN_BELOW_US: u64 = 100;

/// From this on long bursts are short enough.
const THROUGHPUT_FROM_US: u64 = 10_000;

/// Slots of the smallest lane that is drafted.
const SLOTS_MIN: u64 = 64;

/// A plan that follows from answers.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The plan.
    pub plan: Plan,
    /// The arithmetic, by setting.
    pub notes: Notes,
    /// What the plan's rules advise.
    pub warnings: Vec<PlanError>,
}

impl Draft {
    /// The plan as a file, with the arithmetic in its comments.
    pub fn write(&self) -> String {
        write(&self.plan, &[], &self.notes)
    }
}

/// A class that is asked for.
struct Asked {
    class: Class,
    /// Events a second; `None` is all of them.
    rate: Option<u64>,
}

impl Answers {
    /// The plan that follows. With a host, it is one for that.
    ///
    /// # Errors
    /// [`PlanErrors`]: answers that contradict each other, or what the host has.
    pub fn draft(&self, host: Option<&Host>) -> Result<Draft, PlanErrors> {
        self.draft_over(host, &|plan| plan, &|plan| plan)
    }

    /// The same over what a command makes of a profile's plan. `reserve` adds what the command takes besides, which may
    /// follow from the classes.
    ///
    /// # Errors
    /// [`PlanErrors`].
    pub fn draft_over(
        &self,
        host: Option<&Host>,
        base: &dyn Fn(Plan) -> Plan,
        reserve: &dyn Fn(Plan) -> Plan,
    ) -> Result<Draft, PlanErrors> {
        let wrong: Vec<_> = QUESTIONS.iter().filter_map(|row| row.check(str::to_string, self)).collect();
        if !wrong.is_empty() {
            return Err(PlanErrors(wrong));
        }
        let classes = self.asked_classes()?;
        let mut notes = Notes::new();
        let told: Vec<_> =
            QUESTIONS.iter().map(|row| format!("{} = {}", row.info.key, row.get(self))).collect();
        notes.insert(String::new(), format!("Drafted from: {}.", told.join(", ")));
        let cpus = self.cpus_there(host);
        let shards = self.shards_needed(cpus, &mut notes)?;
        let profile = self.profile_for(shards, cpus, &mut notes);
        let plan = base(Plan::new(profile)).with_shards(shards).with_producers_max(self.producers);
        let mut plan = plan.with_event_bytes(self.event_bytes);
        plan = plan.with_handling(std::time::Duration::from_nanos(self.handling_ns));
        if let Some(cpus) = &self.cpus {
            plan = plan.with_cpus(cpus.as_slice());
        }
        if let Some(bytes) = self.memory_max {
            plan = plan.with_memory_max(bytes);
        }
        let burst = self.burst_for(plan.burst(), classes.len(), &mut notes)?;
        plan = plan.with_burst(burst);
        for asked in &classes {
            let capacity = self.capacity_for(asked, shards, &mut notes)?;
            plan.class(self.sized(asked.class.clone(), capacity, &mut notes));
        }
        self.fit(&mut plan, &classes, (host, reserve), &mut notes)?;
        let plan = reserve(plan);
        let findings = plan.findings(plan.event_layout(), host);
        let (errors, warnings): (Vec<_>, Vec<_>) =
            findings.into_iter().partition(|finding| finding.severity == Severity::Error);
        if errors.is_empty() { Ok(Draft { plan, notes, warnings }) } else { Err(PlanErrors(errors)) }
    }

    fn asked_classes(&self) -> Result<Vec<Asked>, PlanErrors> {
        let refuse = |value: String, limit: String, works: &str| {
            PlanErrors(vec![PlanError::new("classes", value, limit, format!("'{works}'"))])
        };
        let example = "orders:strict:block,ticks:weighted:drop_newest:200k";
        let mut classes: Vec<Asked> = Vec::new();
        for text in self.classes.split(',').map(str::trim) {
            let bad = || {
                let limit = "NAME:SHARE:OVERFLOW or NAME:SHARE:OVERFLOW:RATE, with strict, weighted or weighted=N, and block, reject or drop_newest";
                refuse(format!("'{}'", text.escape_debug()), limit.into(), example)
            };
            let parts: Vec<_> = text.split(':').map(str::trim).collect();
            let (name, share, overflow, rate) = match parts[..] {
                [name, share, overflow] => (name, share, overflow, None),
                [name, share, overflow, rate] => (name, share, overflow, Some(rate)),
                _ => return Err(bad()),
            };
            let class =
                match share.split_once('=').map_or((share, Some(1)), |(share, n)| (share, n.parse().ok())) {
                    ("strict", _) if share == "strict" => Class::strict(name),
                    ("weighted", Some(weight)) => Class::weighted(name, weight),
                    _ => return Err(bad()),
                };
            let class = match overflow {
                "block" => class.block(),
                "reject" => class.reject(),
                "drop_newest" => class.drop_newest(),
                _ => return Err(bad()),
            };
            let rate = match rate {
                None => None,
                Some(text) => {
                    let kind = Kind::whole(1, 1_000_000_000).thousands();
                    Some(kind.read(&RawValue::Bare(text)).map_err(|_| bad())?.whole::<u64>())
                }
            };
            classes.push(Asked { class, rate });
        }
        if classes.len() > CLASSES_MAX {
            return Err(refuse(
                many(classes.len() as u64, "class"),
                format!("at most {CLASSES_MAX}"),
                example,
            ));
        }
        let sum = classes.iter().filter_map(|asked| asked.rate).fold(0, u64::saturating_add);
        if sum > self.rate {
            let limit = format!("rates that come to {} at most, the rate of all", count(self.rate));
            return Err(refuse(format!("{} in sum", count(sum)), limit, example));
        }
        Ok(classes)
    }

    /// How many CPUs shards may have; `None` where nobody knows.
    fn cpus_there(&self, host: Option<&Host>) -> Option<u64> {
        if let Some(named) = &self.cpus {
            let different: std::collections::BTreeSet<_> = named.iter().collect();
            return Some(different.len() as u64);
        }
        let host = host?;
        let granted = host.quota_whole() as u64;
        let mask = host.cpus.len() as u64;
        (mask > 0).then(|| mask.min(granted))
    }

    fn shards_needed(&self, cpus: Option<u64>, notes: &mut Notes) -> Result<u16, PlanErrors> {
        // Thousandths of a CPU that handlers keep busy.
        let busy = |rate: u64| u128::from(rate) * u128::from(self.handling_ns) / 1_000_000;
        let load = busy(self.rate);
        let half = u64::try_from(load.div_ceil(500)).unwrap_or(u64::MAX).max(1);
        let most = cpus.unwrap_or(256).min(256);
        let shards = self.shards.map_or(half.min(most), u64::from);
        // Beyond nine tenths a queue is as long as one likes.
        if load > u128::from(shards) * 900 {
            let rate = u128::from(shards) * 900 * 1_000_000 / u128::from(self.handling_ns);
            let limit = format!(
                "at most {rate}, what {} of {} ns each come to at nine tenths of {}",
                "events",
                count(self.handling_ns),
                many(shards, "shard")
            );
            return Err(PlanErrors(vec![PlanError::new("rate", self.rate, limit, rate.max(1))]));
        }
        let each = load * 100 / (u128::from(shards) * 1_000).max(1);
        let mut note = format!(
            "{} events/s x {} = {}.{:03} CPUs of handling",
            count(self.rate),
            nanos(self.handling_ns),
            load / 1_000,
            load % 1_000
        );
        note += &match self.shards {
            Some(_) => format!("; {} as told, each {each} % busy", many(shards, "shard")),
            None if half > shards => {
                format!(
                    "; at half load {}, but there are {} CPUs: each is {each} % busy",
                    many(half, "shard"),
                    most
                )
            }
            None => format!("; at half load {}, each {each} % busy", many(shards, "shard")),
        };
        notes.insert("shards".into(), note);
        Ok(shards as u16)
    }

    fn profile_for(&self, shards: u16, cpus: Option<u64>, notes: &mut Notes) -> Profile {
        let target = nanos(self.latency_target_us * 1_000);
        let (profile, why) = match self.profile {
            Some(profile) => (profile, "as told".to_string()),
            None if self.latency_target_us < SPIN_BELOW_US
                && cpus.is_none_or(|cpus| u64::from(shards) < cpus) =>
            {
                (
                    Profile::Latency,
                    format!("a target of {target} is shorter than a sleeping shard takes to wake up well"),
                )
            }
            None if self.latency_target_us < SPIN_BELOW_US => {
                let why = format!(
                    "a target of {target} asks for shards that spin, but no CPU would be left for producers"
                );
                (Profile::Balanced, why)
            }
            None if self.latency_target_us >= THROUGHPUT_FROM_US => {
                (Profile::Throughput, format!("a target of {target} leaves time for long bursts"))
            }
            None => {
                (Profile::Balanced, format!("a target of {target} leaves time to wake up a sleeping shard"))
            }
        };
        notes.insert("profile".into(), why);
        profile
    }

    fn burst_for(&self, most: u32, classes: usize, notes: &mut Notes) -> Result<u32, PlanErrors> {
        let target_ns = self.latency_target_us * 1_000;
        let fits = target_ns / 2 / self.handling_ns;
        if fits == 0 {
            let least = (self.handling_ns * 2).div_ceil(1_000);
            let limit = format!(
                "at least {least}, as an event waits for one of {} ns and takes as long itself",
                count(self.handling_ns)
            );
            return Err(PlanErrors(vec![PlanError::new(
                "latency_target_us",
                self.latency_target_us,
                limit,
                least,
            )]));
        }
        let burst = fits.min(most.into()) as u32;
        let why = if classes == 1 { "; with one class nobody waits for a burst" } else { "" };
        let note = format!(
            "half of {} / {} = {}; the profile has {} at most{why}",
            nanos(target_ns),
            nanos(self.handling_ns),
            many(fits, "event"),
            count(most.into())
        );
        notes.insert("burst_events".into(), note);
        Ok(burst)
    }

    fn capacity_for(&self, asked: &Asked, shards: u16, notes: &mut Notes) -> Result<u32, PlanErrors> {
        let rate = asked.rate.unwrap_or(self.rate);
        let lanes = u128::from(self.producers) * u128::from(shards) * 1_000;
        let need =
            u64::try_from((u128::from(rate) * u128::from(self.stall_ms)).div_ceil(lanes)).unwrap_or(u64::MAX);
        let slots = need.max(SLOTS_MIN).next_power_of_two();
        if slots > u64::from(CAPACITY_MAX) {
            let works = (u128::from(CAPACITY_MAX) * lanes / u128::from(rate)).max(1);
            let limit = format!("at most {works}, what a lane of {} slots holds", count(CAPACITY_MAX.into()));
            return Err(PlanErrors(vec![PlanError::new("stall_ms", self.stall_ms, limit, works)]));
        }
        let note = format!(
            "{} events/s over {} and {} for {} ms: {}, rounded up to {}",
            count(rate),
            many(self.producers.into(), "producer"),
            many(shards.into(), "shard"),
            count(self.stall_ms),
            many(need, "slot"),
            count(slots)
        );
        notes.insert(format!("class '{}': capacity_slots", asked.class.name()), note);
        Ok(slots as u32)
    }

    /// A class of so many slots, with a payload ring for them.
    fn sized(&self, class: Class, capacity: u32, notes: &mut Notes) -> Class {
        let class = class.with_capacity(capacity);
        if self.payload_bytes == 0 {
            return class;
        }
        let usual = u64::from(self.payload_usual_bytes.unwrap_or(self.payload_bytes / 2).max(1));
        let (two, lane) = (2 * u64::from(self.payload_bytes), u64::from(capacity) * usual);
        let ring = two.max(lane).max(64).next_power_of_two().min(PAYLOAD_BYTES_MAX.into());
        let note = format!(
            "the larger of 2 x {} and {} x {} = {}, rounded up to {}{}",
            many(self.payload_bytes.into(), "byte"),
            many(capacity.into(), "slot"),
            many(usual, "byte"),
            count(lane),
            bytes(ring),
            if lane > ring { ", the most that there can be" } else { "" }
        );
        notes.insert(format!("class '{}': payload_ring_bytes", class.name()), note);
        notes.insert(
            format!("class '{}': payload_max_bytes", class.name()),
            "the largest payload, as told".into(),
        );
        class.with_payload_bytes(ring as u32).with_payload_max(self.payload_bytes)
    }

    /// Halves capacities until the plan keeps to its limit.
    fn fit(
        &self,
        plan: &mut Plan,
        classes: &[Asked],
        (host, reserve): (Option<&Host>, &dyn Fn(Plan) -> Plan),
        notes: &mut Notes,
    ) -> Result<(), PlanErrors> {
        let host = host.and_then(Host::memory_bytes);
        let Some(limit) = [self.memory_max, host].into_iter().flatten().min() else { return Ok(()) };
        let event = plan.event_layout();
        let total = |plan: &Plan| reserve(plan.clone()).footprint_of(event).total_bytes();
        let wanted = total(plan);
        let mut halved = vec![false; classes.len()];
        while total(plan) > limit {
            let footprint = plan.footprint_of(event);
            let can = |at: &usize| u64::from(plan.classes()[*at].capacity()) > SLOTS_MIN;
            let largest = (0..classes.len()).filter(can);
            let Some(at) = largest.max_by_key(|at| footprint.class_bytes(plan.classes()[*at].name())) else {
                let need = total(plan);
                let limit = format!("at least {need}, as lanes of {SLOTS_MIN} slots take");
                let told =
                    self.memory_max.map_or("what this process may take".into(), |bytes| bytes.to_string());
                return Err(PlanErrors(vec![PlanError::new("memory_max_bytes", told, limit, need)]));
            };
            let class = &mut plan.classes_mut()[at];
            *class = self.sized(class.clone(), class.capacity() / 2, notes);
            halved[at] = true;
        }
        for (at, asked) in classes.iter().enumerate().filter(|(at, _)| halved[*at]) {
            let (class, rate) = (&plan.classes()[at], asked.rate.unwrap_or(self.rate));
            let lanes = u64::from(self.producers) * u64::from(plan.shards());
            let holds_us = u128::from(class.capacity()) * u128::from(lanes) * 1_000_000 / u128::from(rate);
            let note = notes.entry(format!("class '{}': capacity_slots", class.name())).or_default();
            *note += &format!(
                ". Given up: all lanes together would take {}, more than {}; with {} a stall of {} is ridden out",
                bytes(wanted),
                bytes(limit),
                many(class.capacity().into(), "slot"),
                nanos(u64::try_from(holds_us).unwrap_or(u64::MAX).saturating_mul(1_000))
            );
        }
        Ok(())
    }

    /// What is wrong with the classes of the answers, if anything is.
    ///
    /// # Errors
    /// [`PlanErrors`].
    pub fn check_classes(&self) -> Result<(), PlanErrors> {
        self.asked_classes().map(drop)
    }
}
