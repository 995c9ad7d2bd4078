//! The plan: every setting of an engine, checked as a whole, and the memory that it will take.
#![forbid(unsafe_code)]

use super::config::{OnPanic, Profile};
use crate::class::{Class, ClassId};
use crate::clock::Clock;
use crate::memory::footprint::host_memory_bytes;
use crate::route::PARTITIONS_MIN;
use crate::shard::Placement;
use crate::shard::placement::choose;
use crate::wait::Wait;
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
}
