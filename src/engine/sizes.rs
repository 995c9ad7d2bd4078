//! The memory that an engine takes: a sum in which every term has a name, known before start.
#![forbid(unsafe_code)]

use super::plan::Plan;
use crate::class::Class;
use crate::event::{ProducerId, ShardId};
use crate::lane::{lane_bytes, shape_of};
use crate::memory::footprint::{Footprint, arc_bytes};
use crate::memory::region::REGION_SLACK;
use crate::ring::event_layout;
use crate::route::Routes;
use crate::shard::{QUARANTINE_MAX, Quarantined};
use crate::wait::Doorbell;
use std::alloc::Layout;

impl Plan {
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
    pub(crate) fn region_bytes(&self, event: Layout) -> usize {
        let lane = |class: &Class| {
            let shape = shape_of(class);
            shape.slots_need(event).saturating_add(shape.payload_need())
        };
        self.classes
            .iter()
            .fold(0usize, |sum, class| sum.saturating_add(lane(class).saturating_mul(self.sets().into())))
    }

    /// The memory that an engine of this plan takes, to the byte, for events of type `E`.
    pub fn footprint<E>(&self) -> Footprint {
        self.footprint_of(event_layout::<E>())
    }

    /// The same for events of a layout: their size and their alignment.
    pub fn footprint_of(&self, event: Layout) -> Footprint {
        let mut sum = Footprint::default();
        let shards = u64::from(self.shards);
        let lanes = shards * u64::from(self.sets());
        for class in &self.classes {
            let shape = shape_of(class);
            let slot = shape.slot_bytes(event);
            let name = class.name();
            sum.add(
                format!("class '{name}': slots ({} x {slot} B)", class.capacity),
                lanes,
                shape.slots_need(event) as u64,
            );
            sum.add(format!("class '{name}': payload ring"), lanes, shape.payload_need() as u64);
        }
        let classes = self.classes.len() as u64;
        sum.add("region: alignment and header", shards, REGION_SLACK as u64);
        sum.add("lanes: ends, cursors and ledger", lanes * classes, lane_bytes() as u64);
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
}

/// By how much a footprint would have to shrink to keep to `limit`, and where that is done best.
pub(super) fn smaller(footprint: &Footprint, limit: u64) -> String {
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
