//! The mesh: every shard is also a producer to every shard, itself among them, over the same kind of lanes.
//!
//! # Mechanism
//! What a handler emits is *staged*: written into slots whose words are not stored yet. When the handler returns `Done`
//! the words are stored; on `Retry` or a panic the stages are dropped, so nothing is ever emitted twice. Emitting never
//! waits: a full lane refuses, and the handler decides, mostly by returning `Retry`.
//!
//! # Refusals
//! A refusal counts as offered and rejected when the handler returns `Done` all the same. On `Retry` it does not count:
//! the handler will offer the event again. If the refusing lane was full, the retried event waits until that lane has
//! room ([`Blocked`]), so a shard that is slow costs its sources neither attempts nor, in a class that blocks, events.
//!
//! # Invariants
//! - `touched` names every lane that holds a staged event or an uncounted refusal, each once.

use crate::class::ClassId;
use crate::event::{Key, Outcome, Rejection, ShardId};
use crate::lane::{Blocked, LaneProducer, PublishError};

/// Uncounted refusals of one lane, by reason.
type Refusals = [u64; Rejection::ALL.len()];

pub(crate) struct Mesh<E> {
    /// Shard by shard, class by class; empty where the plan has no mesh.
    lanes: Box<[LaneProducer<E>]>,
    classes: usize,
    /// Lane by lane.
    refusals: Box<[Refusals]>,
    touched: Vec<u32>,
    /// The last lane that was full.
    blocked: Option<Blocked>,
}

impl<E> Mesh<E> {
    pub fn none(classes: usize) -> Self {
        Mesh::new(Box::new([]), classes)
    }

    pub fn new(lanes: Box<[LaneProducer<E>]>, classes: usize) -> Self {
        Mesh {
            refusals: vec![Refusals::default(); lanes.len()].into(),
            touched: Vec::with_capacity(lanes.len()),
            blocked: None,
            lanes,
            classes,
        }
    }

    /// Bytes of the tables for `lanes` lanes.
    pub const fn bytes(lanes: usize) -> usize {
        lanes * (size_of::<u32>() + size_of::<Refusals>())
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
    ) -> Result<Outcome, PublishError> {
        let at = shard.index() * self.classes + class.index();
        let lane = &mut self.lanes[at];
        if lane.staged() == 0 && self.refusals[at] == Refusals::default() {
            self.touched.push(at as u32);
        }
        match lane.stage(key, payload, fill) {
            Ok(()) => Ok(Outcome::Accepted),
            Err(refusal) => {
                self.refusals[at][refusal.reason as usize] += 1;
                if matches!(refusal.reason, Rejection::SlotsFull | Rejection::BytesFull) {
                    // A payload that can fit is far below 2^32 bytes.
                    self.blocked = Some(Blocked { lane: at as u32, bytes: payload.len() as u32 });
                }
                refusal.or_dropped()
            }
        }
    }

    /// Publishes what is staged, and counts what was refused.
    #[inline(always)]
    pub fn publish(&mut self) {
        if !self.touched.is_empty() {
            self.publish_slow();
        }
    }

    fn publish_slow(&mut self) {
        self.settle(|lane, refusals| {
            lane.publish_staged();
            lane.count_refusals(refusals);
        });
    }

    /// Publishes what is staged. What was refused does not count: the handler will offer it again.
    pub fn publish_and_forget_refusals(&mut self) {
        self.settle(|lane, _| lane.publish_staged());
    }

    /// Drops what is staged. What was refused does not count. Returns the last lane that was full, if one was.
    pub fn abort(&mut self) -> Option<Blocked> {
        self.settle(|lane, _| lane.abort_staged())
    }

    fn settle(&mut self, mut each: impl FnMut(&mut LaneProducer<E>, &Refusals)) -> Option<Blocked> {
        for at in self.touched.drain(..) {
            let refusals = &mut self.refusals[at as usize];
            each(&mut self.lanes[at as usize], refusals);
            *refusals = Refusals::default();
        }
        self.blocked.take()
    }

    /// Whether the lane that refused has room now, or will not have any.
    pub fn is_unblocked(&mut self, blocked: Blocked) -> bool {
        !self.lanes[blocked.lane as usize].is_full(blocked.bytes as usize)
    }
}
