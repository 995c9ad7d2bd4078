//! The mesh: every shard is also a producer to every shard, itself among them, over the same kind of lanes.
//!
//! # Mechanism
//! What a handler emits is *staged*: written into slots whose words are not stored yet. When the handler says `Done`
//! the words are stored; on `Retry` or a panic the stages are forgotten, so nothing is ever emitted twice. Emitting
//! never waits: a full lane refuses, and the handler decides (mostly by saying `Retry`).
#![forbid(unsafe_code)]

use crate::class::ClassId;
use crate::event::{Key, Outcome, ShardId};
use crate::lane::{LaneProducer, Refusal};

pub(crate) struct Mesh<E> {
    /// Shard by shard, class by class; empty where the plan has no mesh.
    lanes: Box<[LaneProducer<E>]>,
    classes: usize,
    /// Lanes that hold staged events; never longer than there are lanes.
    touched: Vec<u32>,
}

impl<E> Mesh<E> {
    pub fn none(classes: usize) -> Self {
        Mesh { lanes: Box::new([]), classes, touched: Vec::new() }
    }

    pub fn new(lanes: Box<[LaneProducer<E>]>, classes: usize) -> Self {
        Mesh { touched: Vec::with_capacity(lanes.len()), lanes, classes }
    }

    /// Bytes of the list of touched ones among so many lanes.
    pub const fn bytes(lanes: usize) -> usize {
        lanes * size_of::<u32>()
    }

    /// Whether there is a lane to this shard.
    pub fn reaches(&self, shard: ShardId) -> bool {
        shard.index() * self.classes < self.lanes.len()
    }

    pub fn stage(
        &mut self,
        shard: ShardId,
        class: ClassId,
        key: Key,
        payload: &[u8],
        fill: impl FnOnce(&mut E),
    ) -> Result<Outcome, Refusal> {
        let at = shard.index() * self.classes + class.index();
        let lane = &mut self.lanes[at];
        let first = lane.staged() == 0;
        match lane.stage(key, payload, fill) {
            Ok(()) => {
                if first {
                    self.touched.push(at as u32);
                }
                Ok(Outcome::Accepted)
            }
            Err(refusal) => refusal.or_dropped(),
        }
    }

    /// Publishes what is staged.
    #[inline(always)]
    pub fn publish(&mut self) {
        if !self.touched.is_empty() {
            self.publish_slow();
        }
    }

    fn publish_slow(&mut self) {
        for at in &self.touched {
            self.lanes[*at as usize].publish_staged();
        }
        self.touched.clear();
    }

    /// Forgets what is staged.
    pub fn abort(&mut self) {
        // All lanes, not those touched alone: a writer that panicked may have staged without being noted.
        self.touched.clear();
        self.lanes.iter_mut().for_each(LaneProducer::abort_staged);
    }
}
