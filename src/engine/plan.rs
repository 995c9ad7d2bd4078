//! The plan: every setting of an engine, checked as a whole, and the memory that it will take.
#![forbid(unsafe_code)]

use super::config::{
    BURST_MAX, Checks, OnPanic, PRODUCERS_MAX, PlanErrors, Profile, SCRATCH_MAX, SHARDS_MAX,
};
use crate::class::{
    CAPACITY_MAX, CLASSES_MAX, Class, ClassId, Overflow, PAYLOAD_BYTES_MAX, STAMP_ONE_IN_MAX, Share, Stamp,
};
use crate::clock::Clock;
use crate::event::{ProducerId, ShardId};
use crate::lane::{lane_bytes, shape_of};
use crate::memory::footprint::{Footprint, arc_bytes, host_memory_bytes};
use crate::memory::region::REGION_SLACK;
use crate::ring::nearest_power;
use crate::route::{PARTITIONS_MAX, PARTITIONS_MIN, Routes};
use crate::shard::placement::choose;
use crate::shard::{Placement, QUARANTINE_MAX, Quarantined, nameable};
use crate::wait::{Doorbell, Wait};
use std::time::Duration;

/// An engine in the making.
///
/// Start from a [`Profile`], declare classes, change what should be different, and [`start`](Plan::start) it. Nothing is
/// rounded or corrected in silence: what cannot be is refused before start with an error that names the setting, its
/// value, the limit, and a value that would work ([`Plan::check`]).
///
/// | setting | from | to | at first |
/// |---|---|---|---|
/// | `shards` | 1 | 256 | 1 |
/// | `producers_max` | 1 | 256 | 8 |
/// | `burst` (events) | 1 | 65,536 | by profile |
/// | `floor` (bursts) | 1 | 2^32 − 1 | 64 |
/// | `partitions` | 1,024 | 65,536, a power of two | 1,024 |
/// | `scratch_bytes` | 0 | 2^30 | 65,536 |
/// | `retries_max` | 0 | 2^32 − 1 | 65,536 |
/// | classes | 1 | 8 | – |
#[derive(Clone, Debug)]
pub struct Plan {
    pub(crate) profile: Profile,
    pub(crate) shards: u16,
    pub(crate) producers_max: u16,
    pub(crate) cpus: Option<Vec<usize>>,
    pub(crate) pinned: bool,
    pub(crate) wait: Wait,
    pub(crate) burst: u32,
    pub(crate) floor: u32,
    pub(crate) partitions: u32,
    pub(crate) scratch_bytes: u32,
    pub(crate) mesh: bool,
    pub(crate) retries_max: u32,
    pub(crate) on_panic: OnPanic,
    pub(crate) thread_name: String,
    pub(crate) drop_deadline: Duration,
    pub(crate) classes: Vec<Class>,
    pub(crate) reserved: Vec<(String, u64)>,
    pub(crate) memory_max: Option<u64>,
    pub(crate) clock: Option<Clock>,
    pub(crate) first_sequence: u64,
}

impl Plan {
    /// A plan with the settings of a profile.
    pub fn new(profile: Profile) -> Self {
        let (wait, burst) = match profile {
            Profile::Dev | Profile::Balanced => (Wait::Park, 64),
            Profile::Latency => (Wait::Spin, 16),
            Profile::Throughput => (Wait::Yield, 256),
        };
        Plan {
            profile,
            shards: 1,
            producers_max: 8,
            cpus: None,
            pinned: true,
            wait,
            burst,
            floor: 64,
            partitions: PARTITIONS_MIN,
            scratch_bytes: 64 << 10,
            mesh: false,
            retries_max: 1 << 16,
            on_panic: OnPanic::Continue,
            thread_name: "pelton".into(),
            drop_deadline: Duration::from_secs(1),
            classes: Vec::new(),
            reserved: Vec::new(),
            memory_max: None,
            clock: None,
            first_sequence: 0,
        }
    }

    /// The profile that it started from.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// How many shards, each with a thread of its own.
    pub fn shards(mut self, shards: u16) -> Self {
        self.shards = shards;
        self
    }

    /// How many producers may be attached at once. Their lanes are laid out at start.
    pub fn producers_max(mut self, producers: u16) -> Self {
        self.producers_max = producers;
        self
    }

    /// The CPUs of the shards, in turn. They must exist. Without it CPUs are chosen, and reported.
    pub fn cpus(mut self, cpus: impl Into<Vec<usize>>) -> Self {
        self.cpus = Some(cpus.into());
        self
    }

    /// Leaves the shards' threads where the system puts them.
    pub fn unpinned(mut self) -> Self {
        self.pinned = false;
        self
    }

    /// What an idle shard does.
    pub fn wait(mut self, wait: Wait) -> Self {
        self.wait = wait;
        self
    }

    /// The most events of one class between two looks at the classes above it.
    pub fn burst(mut self, events: u32) -> Self {
        self.burst = events;
        self
    }

    /// After this many bursts of higher classes in a row, the lowest class is served one.
    pub fn floor(mut self, bursts: u32) -> Self {
        self.floor = bursts;
        self
    }

    /// Partitions of the routing table.
    pub fn partitions(mut self, partitions: u32) -> Self {
        self.partitions = partitions;
        self
    }

    /// Bytes of each shard's scratch arena.
    pub fn scratch_bytes(mut self, bytes: u32) -> Self {
        self.scratch_bytes = bytes;
        self
    }

    /// Lays out lanes from every shard to every shard, so that handlers can emit.
    pub fn mesh(mut self, mesh: bool) -> Self {
        self.mesh = mesh;
        self
    }

    /// How often an event may be retried before it is `failed(retry)`.
    pub fn retries_max(mut self, retries: u32) -> Self {
        self.retries_max = retries;
        self
    }

    /// What a shard does after its handler panicked.
    pub fn on_panic(mut self, on_panic: OnPanic) -> Self {
        self.on_panic = on_panic;
        self
    }

    /// The name of the shards' threads; the shard's number follows it. At most 10 bytes show on Linux.
    pub fn thread_name(mut self, name: impl Into<String>) -> Self {
        self.thread_name = name.into();
        self
    }

    /// How long an engine that is dropped without a stop may drain.
    pub fn drop_deadline(mut self, deadline: Duration) -> Self {
        self.drop_deadline = deadline;
        self
    }

    /// Names memory that each shard's handler takes, so that it stands in the footprint and is checked with it.
    pub fn reserve(mut self, name: impl Into<String>, bytes_per_shard: u64) -> Self {
        self.reserved.push((name.into(), bytes_per_shard));
        self
    }

    /// The most memory that the footprint may come to, in bytes. Without it: what the machine (or the process's
    /// control group) has.
    pub fn memory_max(mut self, bytes: u64) -> Self {
        self.memory_max = Some(bytes);
        self
    }

    /// The clock of stamps and of the time to live. Without it: the machine's.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// The first sequence of every lane, for tests that want to see it wrap.
    #[doc(hidden)]
    pub fn first_sequence(mut self, sequence: u64) -> Self {
        self.first_sequence = sequence;
        self
    }

    /// Declares the next class. Its id is good for engines of this plan.
    ///
    /// # Panics
    /// If there are 255 classes already. (More than 8 are refused by [`Plan::check`].)
    pub fn class(&mut self, class: Class) -> ClassId {
        let id = u8::try_from(self.classes.len()).expect("a plan has a few classes, not hundreds");
        self.classes.push(class);
        ClassId(id)
    }

    /// The classes declared so far.
    pub fn classes(&self) -> &[Class] {
        &self.classes
    }

    /// Lane sets: one for each producer, and where there is a mesh, one for each shard.
    pub(crate) fn sets(&self) -> u16 {
        // Saturates: the footprint can be asked for before the plan is checked.
        self.producers_max.saturating_add(if self.mesh { self.shards } else { 0 })
    }

    /// The lane set in which a shard is the producer.
    pub(crate) fn mesh_set(&self, shard: ShardId) -> ProducerId {
        ProducerId(self.producers_max.saturating_add(shard.0))
    }

    /// Bytes of one shard's region: its slots and payload rings, and what the arena itself needs.
    pub(crate) fn region_bytes<E>(&self) -> usize {
        let lane = |class: &Class| {
            let shape = shape_of(class);
            shape.slots_need::<E>().saturating_add(shape.payload_need())
        };
        self.classes
            .iter()
            .fold(0usize, |sum, class| sum.saturating_add(lane(class).saturating_mul(self.sets().into())))
    }

    /// Every setting but the classes, by the name of its method, with the value that an engine of this plan would use.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        let list = |cpus: &[usize]| cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        let cpus: Vec<usize> = self.placements().iter().filter_map(|placement| placement.cpu).collect();
        let memory_max = self.memory_max.or_else(host_memory_bytes);
        let on_panic = if self.on_panic == OnPanic::Continue { "continue" } else { "stop the shard" };
        let yes = |on| if on { "yes" } else { "no" }.to_string();
        vec![
            ("profile", self.profile.to_string()),
            ("shards", self.shards.to_string()),
            ("producers_max", self.producers_max.to_string()),
            ("cpus", if cpus.is_empty() { "not pinned".into() } else { list(&cpus) }),
            ("wait", self.wait.to_string()),
            ("burst", format!("{} events", self.burst)),
            ("floor", format!("{} bursts", self.floor)),
            ("partitions", self.partitions.to_string()),
            ("scratch_bytes", self.scratch_bytes.to_string()),
            ("mesh", yes(self.mesh)),
            ("retries_max", self.retries_max.to_string()),
            ("on_panic", on_panic.into()),
            ("drop_deadline", format!("{:?}", self.drop_deadline)),
            ("memory_max", memory_max.map_or("unknown".into(), |bytes| format!("{bytes} bytes"))),
            ("clock", if self.clock.is_some() { "given" } else { "the machine's" }.into()),
            ("thread_name", self.thread_name.clone()),
        ]
    }

    /// Where an engine of this plan would put its shards, before anything is pinned.
    pub fn placements(&self) -> Vec<Placement> {
        choose(self.shards, self.cpus.as_deref(), self.pinned && cfg!(feature = "affinity"))
    }

    /// The memory that an engine of this plan takes, to the byte, for events of type `E`.
    pub fn footprint<E>(&self) -> Footprint {
        let mut sum = Footprint::default();
        let shards = u64::from(self.shards);
        let lanes = shards * u64::from(self.sets());
        for class in &self.classes {
            let shape = shape_of(class);
            let slot = shape.slot_bytes::<E>();
            let name = class.name();
            sum.add(
                format!("class '{name}': slots ({} x {slot} B)", class.capacity),
                lanes,
                shape.slots_need::<E>() as u64,
            );
            sum.add(format!("class '{name}': payload ring"), lanes, shape.payload_need() as u64);
        }
        let classes = self.classes.len() as u64;
        sum.add("region: alignment and header", shards, REGION_SLACK as u64);
        sum.add("lanes: ends, cursors and ledger", lanes * classes, lane_bytes::<E>() as u64);
        sum.add("lane sets: doorbells", lanes, arc_bytes::<Doorbell>() as u64);
        // The arena rounds itself up to whole pages.
        sum.add(
            "scratch",
            shards,
            if self.scratch_bytes == 0 { 0 } else { u64::from(self.scratch_bytes) + 4_096 },
        );
        #[cfg(feature = "latency")]
        sum.add("latency tallies", shards * classes, crate::latency::Recorder::BYTES);
        sum.add("quarantine", shards, (QUARANTINE_MAX * size_of::<Quarantined>()) as u64);
        sum.add("routes", 1, Routes::bytes(self.partitions));
        for (name, bytes) in &self.reserved {
            sum.add(name.clone(), shards, *bytes);
        }
        sum
    }

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

/// By how much a footprint would have to shrink to keep to `limit`, and where that is done best.
fn smaller(footprint: &Footprint, limit: u64) -> String {
    let part = |bytes: u64, room: u64| bytes.div_ceil(room.max(1)).next_power_of_two();
    let total = footprint.total_bytes();
    let largest = footprint.terms.iter().max_by_key(|term| term.bytes());
    match largest.map(|term| (term, total - term.bytes())) {
        Some((term, rest)) if rest < limit => {
            let part = part(term.bytes(), limit - rest);
            format!("1/{part} of its largest term ({}: {} bytes)", term.name, term.bytes())
        }
        _ => format!("1/{} of each of its terms", part(total, limit)),
    }
}
