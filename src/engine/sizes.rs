//! The memory that an engine takes: a sum in which every term has a name, known before start.

use super::assembly::core_bytes;
use super::plan::Plan;
use crate::class::{Class, Share, turn_events};
use crate::event::{ProducerId, ShardId};
use crate::lane::{lane_bytes, shape_of};
use crate::latency::Recorder;
use crate::memory::footprint::{Footprint, Group, arc_bytes};
use crate::memory::region::{REGION_BYTES, arena_bytes, region_slack};
use crate::park::Doorbell;
use crate::ring::event_layout;
use crate::route::Routes;
use crate::shard::lanes::Lanes;
use crate::shard::mesh::Mesh;
use crate::shard::parts::ClassRule;
use crate::shard::schedule::Schedule;
use crate::shard::{QUARANTINE_MAX, Quarantined};
use std::alloc::Layout;

/// The settings of which the footprint is made.
pub const SIZED: [&str; 10] = [
    "shards",
    "producers_max",
    "partitions",
    "mesh",
    "event_bytes",
    "scratch_bytes",
    "huge_pages",
    "classes",
    "capacity_slots",
    "payload_ring_bytes",
];

impl Plan {
    /// How many lane sets each shard has: one for each producer, and with a mesh one for each shard. A lane set is a lane
    /// for each class.
    ///
    /// ```
    /// use pelton::{Plan, Profile};
    /// let plan = Plan::new(Profile::Dev).with_shards(2).with_producers_max(4);
    /// assert_eq!((plan.lane_sets(), plan.with_mesh(true).lane_sets()), (4, 6));
    /// ```
    pub fn lane_sets(&self) -> u16 {
        // Saturates: the footprint can be asked for before the plan is checked.
        self.producers_max.saturating_add(if self.mesh { self.shards } else { 0 })
    }

    /// Events of one turn of a weighted class: a burst for the class with the smallest weight, more for the others in
    /// proportion. `None` for a strict class.
    ///
    /// ```
    /// use pelton::{Class, Plan, Profile};
    /// let mut plan = Plan::new(Profile::Dev).with_burst(64);
    /// plan.class(Class::weighted("ticks", 2));
    /// plan.class(Class::weighted("bulk", 6));
    /// assert_eq!(plan.turn_events(&plan.classes()[1]), Some(192));
    /// ```
    pub fn turn_events(&self, class: &Class) -> Option<u64> {
        let smallest = self.classes.iter().filter_map(|class| class.share.weight()).min()?;
        Some(turn_events(self.burst, class.share.weight()?, smallest))
    }

    /// The lane set in which a shard is the producer.
    pub(crate) fn mesh_set(&self, shard: ShardId) -> ProducerId {
        ProducerId(self.producers_max.saturating_add(shard.0))
    }

    /// Bytes of one shard's region: its slots and payload rings, and what the arena itself needs.
    pub(crate) fn region_bytes(&self, event: Layout) -> usize {
        let lane = |class: &Class| {
            let shape = shape_of(class);
            shape.slots_need(event).saturating_add(shape.payload_need())
        };
        self.classes.iter().fold(0usize, |sum, class| {
            sum.saturating_add(lane(class).saturating_mul(self.lane_sets().into()))
        })
    }

    /// The memory that an engine of this plan takes, to the byte, for events of type `E`.
    ///
    /// It is the sum of what [`start`](Plan::start) asks the allocator for and keeps, and all of it has been written to
    /// when `start` returns, but for the edges of regions and arenas.
    ///
    /// # What is not in it
    /// - What is yours: the closures, the handlers with what they allocate (name it with [`reserve`](Plan::reserve), so
    ///   that it is), what an event's factory allocates, and the plan.
    /// - The threads: their stacks, of which the system counts what is touched, and some 500 bytes each of the standard
    ///   library's.
    /// - What the allocator adds to each piece, and rounds it up to.
    /// - What is taken while it starts and given back before it has: lists of a few pointers, the mesh on its way.
    ///
    /// # Examples
    /// ```
    /// use pelton::{Class, Plan, Profile, memory::footprint::Group};
    /// let mut plan = Plan::new(Profile::Dev).with_shards(2).with_producers_max(4);
    /// plan.class(Class::strict("only").with_capacity(1_024));
    /// let footprint = plan.footprint::<u64>();
    /// println!("{footprint}");                                     // a term a line
    /// assert_eq!(footprint.group_bytes(Group::Class), 2 * 4 * 1_024 * 64);
    /// ```
    pub fn footprint<E>(&self) -> Footprint {
        self.footprint_of(event_layout::<E>())
    }

    /// The same for events of a layout: their size and their alignment.
    ///
    /// ```
    /// use pelton::{Class, Plan, Profile, ring::event_layout};
    /// let mut plan = Plan::new(Profile::Dev);
    /// plan.class(Class::strict("only"));
    /// assert_eq!(plan.footprint_of(event_layout::<u64>()), plan.footprint::<u64>());
    /// ```
    pub fn footprint_of(&self, event: Layout) -> Footprint {
        let mut sum = Footprint::default();
        let shards = u64::from(self.shards);
        let (sets, classes) = (usize::from(self.lane_sets()), self.classes.len());
        let lanes = shards * u64::from(self.lane_sets());
        for class in &self.classes {
            let shape = shape_of(class);
            let slot = shape.slot_bytes(event);
            let slots = format!("class '{}': slots ({} x {slot} B)", class.name(), class.capacity);
            sum.add(Group::Class, slots, lanes, shape.slots_need(event) as u64);
            let ring = format!("class '{}': payload ring", class.name());
            sum.add(Group::PayloadRing, ring, lanes, shape.payload_need() as u64);
        }
        let all_lanes = lanes * classes as u64;
        sum.add(Group::Lane, "lanes: ends, cursors and ledger", all_lanes, lane_bytes() as u64);
        sum.add(Group::Lane, "lane sets: doorbells", lanes, arc_bytes::<Doorbell>() as u64);
        let edges = region_slack(self.region_bytes(event), self.huge_pages) + REGION_BYTES;
        sum.add(Group::Shard, "region: its edges and its header", shards, edges as u64);
        sum.add(Group::Shard, "rules, schedule and lists", shards, self.tables_bytes(sets) as u64);
        sum.add(Group::Shard, "quarantine", shards, (QUARANTINE_MAX * size_of::<Quarantined>()) as u64);
        #[cfg(feature = "latency")]
        sum.add(
            Group::Histogram,
            "latency tallies",
            shards * classes as u64,
            crate::latency::Recorder::BYTES,
        );
        let scratch = arena_bytes(self.scratch_bytes as usize) as u64;
        sum.add(Group::Scratch, "scratch", shards, scratch);
        for (name, count, bytes) in &self.reserved {
            sum.add(Group::Handler, name.clone(), count.unwrap_or(shards), *bytes);
        }
        sum.add(Group::Fixed, "routes", 1, Routes::bytes(self.partitions));
        let core = core_bytes(self.shards.into(), classes, self.producers_max.into(), all_lanes as usize);
        sum.add(Group::Fixed, "engine: state, mailboxes, registry", 1, core as u64);
        sum
    }

    /// Bytes of the tables of one shard.
    fn tables_bytes(&self, sets: usize) -> usize {
        let classes = self.classes.len();
        let strict = self.classes.iter().filter(|class| class.share == Share::Strict).count();
        let mesh = if self.mesh { usize::from(self.shards) * classes } else { 0 };
        classes * (size_of::<ClassRule>() + size_of::<Recorder>())
            + Schedule::bytes(strict, classes - strict)
            + Lanes::<()>::bytes(classes, sets)
            + Mesh::<()>::bytes(mesh)
    }
}

/// By how much a footprint would have to shrink to keep to `limit`, and where that is done best.
pub(super) fn smaller(footprint: &Footprint, limit: u64) -> String {
    // Wide, as the power of two above a saturated sum is 2^64.
    let part = |bytes: u64, room: u64| u128::from(bytes).div_ceil(room.max(1).into()).next_power_of_two();
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
