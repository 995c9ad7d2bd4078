//! What must hold of a plan before an engine is started from it.
#![forbid(unsafe_code)]

use super::config::{BURST_MAX, Checks, PRODUCERS_MAX, PlanErrors, SCRATCH_MAX, SHARDS_MAX};
use super::plan::Plan;
use super::sizes::smaller;
use crate::class::{
    CAPACITY_MAX, CLASSES_MAX, Class, Overflow, PAYLOAD_BYTES_MAX, STAMP_ONE_IN_MAX, Share, Stamp,
};
use crate::memory::footprint::host_memory_bytes;
use crate::ring::nearest_power;
use crate::route::{PARTITIONS_MAX, PARTITIONS_MIN};
use crate::shard::nameable;
use std::time::Duration;

impl Plan {
    /// Checks everything that can be known before start; reports all that is wrong at once.
    ///
    /// # Errors
    /// [`PlanErrors`] names each setting with its value, the limit and a value that would work.
    pub fn check<E>(&self) -> Result<(), PlanErrors> {
        let mut checks = Checks::default();
        let between = |from: u64, to: u64| format!("from {from} to {to}");
        let range = |n: u64, from: u64, to: u64| (from..=to).contains(&n);
        for (name, value, from, to) in [
            ("shards", u64::from(self.shards), 1, u64::from(SHARDS_MAX)),
            ("producers_max", u64::from(self.producers_max), 1, u64::from(PRODUCERS_MAX)),
            ("burst", u64::from(self.burst), 1, u64::from(BURST_MAX)),
            ("floor", u64::from(self.floor), 1, u64::from(u32::MAX)),
            ("scratch_bytes", u64::from(self.scratch_bytes), 0, u64::from(SCRATCH_MAX)),
        ] {
            checks.unless(range(value, from, to), name, value, between(from, to), value.clamp(from, to));
        }
        checks.unless(
            !self.thread_name.contains('\0'),
            "thread_name",
            format!("{:?}", self.thread_name),
            "without NUL bytes",
            "'pelton'",
        );
        checks.unless(
            self.partitions.is_power_of_two() && (PARTITIONS_MIN..=PARTITIONS_MAX).contains(&self.partitions),
            "partitions",
            self.partitions,
            format!("a power of two from {PARTITIONS_MIN} to {PARTITIONS_MAX}"),
            nearest_power(self.partitions.max(PARTITIONS_MIN), PARTITIONS_MAX),
        );
        let classes = self.classes.len();
        checks.unless(
            (1..=CLASSES_MAX).contains(&classes),
            "classes",
            classes,
            format!("from 1 to {CLASSES_MAX}"),
            classes.clamp(1, CLASSES_MAX),
        );
        for (at, class) in self.classes.iter().enumerate() {
            self.check_class(at, class, &mut checks);
        }
        self.check_cpus(&mut checks);
        // A footprint is worth telling only for a plan that could be.
        if checks.0.is_empty() {
            let footprint = self.footprint::<E>();
            let bytes = footprint.total_bytes();
            if let Some(limit) = self.memory_max.or_else(host_memory_bytes) {
                checks.unless(
                    bytes <= limit,
                    "footprint (the sum of classes, producers_max and shards)",
                    format!("{bytes} bytes"),
                    format!("at most {limit} bytes"),
                    smaller(&footprint, limit),
                );
            }
        }
        if checks.0.is_empty() { Ok(()) } else { Err(PlanErrors(checks.0)) }
    }

    fn check_class(&self, at: usize, class: &Class, checks: &mut Checks) {
        let name = |setting: &str| format!("class '{}': {setting}", class.name());
        checks.unless(
            !class.name.is_empty() && !self.classes[..at].iter().any(|other| other.name == class.name),
            format!("class {at}: name"),
            format!("'{}'", class.name),
            "neither empty nor that of another class",
            format!("'class{at}'"),
        );
        checks.unless(
            class.capacity.is_power_of_two() && class.capacity <= CAPACITY_MAX,
            name("capacity"),
            class.capacity,
            format!("a power of two from 1 to {CAPACITY_MAX}"),
            nearest_power(class.capacity, CAPACITY_MAX),
        );
        let bytes = class.payload_bytes;
        checks.unless(
            bytes == 0 || (bytes.is_power_of_two() && (64..=PAYLOAD_BYTES_MAX).contains(&bytes)),
            name("payload_bytes"),
            bytes,
            format!("0 or a power of two from 64 to {PAYLOAD_BYTES_MAX}"),
            nearest_power(bytes.max(64), PAYLOAD_BYTES_MAX),
        );
        if let Share::Weighted(weight) = class.share {
            checks.unless(
                (1..=1_000).contains(&weight),
                name("weight"),
                weight,
                "from 1 to 1000",
                weight.clamp(1, 1_000),
            );
        }
        if let Stamp::OneIn(n) = class.stamp {
            checks.unless(
                class.is_stamp_valid(),
                name("stamp"),
                format!("one in {n}"),
                format!("one in a power of two from 2 to {STAMP_ONE_IN_MAX}"),
                format!("one in {}", nearest_power(n.max(2), STAMP_ONE_IN_MAX)),
            );
        }
        let zero = Duration::ZERO;
        checks.unless(class.ttl != Some(zero), name("ttl"), "0", "longer than nothing", "1 ms");
        if let Overflow::Block { limit } = class.overflow {
            checks.unless(
                limit != Some(zero),
                name("block limit"),
                "0",
                "longer than nothing",
                "the policy 'reject'",
            );
        }
    }

    fn check_cpus(&self, checks: &mut Checks) {
        let Some(named) = &self.cpus else { return };
        let there = nameable();
        let list = |cpus: &[usize]| cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        checks.unless(!named.is_empty(), "cpus", "empty", "CPUs of this machine", list(&there));
        for cpu in named {
            checks.unless(there.contains(cpu), "cpus", cpu, format!("one of {}", list(&there)), there[0]);
        }
    }
}
