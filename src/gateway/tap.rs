//! Taps: the way of subscribed events from the shards to the gateway threads.
//!
//! # Mechanism
//! For each shard and each gateway thread there is a lane, made for the two alone. A shard asks of each event whether any
//! thread has a subscriber of its stream: one relaxed load of a word that hardly ever changes. If so it copies the event
//! into the lanes of those threads, and wakes them once at the end of its batch, if they sleep.
//!
//! # Invariants
//! - A shard never waits for a subscriber: where a lane is full the event is lost to that thread's subscribers, and
//!   counted by stream. The thread tells them (`missed`).
//! - Events of one shard reach a subscriber in the order in which they were handled.
#![forbid(unsafe_code)]

use super::record::Record;
use super::shared::Shared;
use crate::class::{Class, Stamp};
use crate::lane::{LaneConsumer, LaneProducer, lane};
use crate::ring::ShapeError;
use crate::sync::Counter;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Payload bytes in a tap for each of its slots.
const PAYLOAD_BYTES_EACH: u32 = 128;

/// What did not find room in a tap, by stream.
type Missed = Arc<[Counter]>;

/// A shard's ends of its taps, one for each gateway thread.
pub(super) struct TapsIn {
    threads: Vec<(LaneProducer<Record>, Missed)>,
    shared: Arc<Shared>,
    /// Threads that have been given something in this batch, a bit for each.
    given: u64,
}

/// A gateway thread's ends of its taps, one for each shard.
pub(super) struct TapsOut {
    shards: Vec<(LaneConsumer<Record>, Missed, Vec<u64>)>,
}

/// Makes the taps of all shards and threads.
pub(super) fn taps(shared: &Arc<Shared>) -> Result<(Vec<TapsIn>, Vec<TapsOut>), ShapeError> {
    let options = &shared.options;
    let streams = shared.streams.len();
    let slots = options.tap_slots;
    // Room for the largest payload too.
    let largest = options.plan.classes().iter().map(|class| class.payload_bytes).max().unwrap_or(0);
    let bytes = slots.saturating_mul(PAYLOAD_BYTES_EACH).max(largest).max(64);
    let class = Class::strict("tap").capacity(slots).payload_bytes(bytes).drop_newest().stamp(Stamp::Never);
    let threads = usize::from(options.threads);
    let mut outs: Vec<_> = (0..threads).map(|_| TapsOut { shards: Vec::new() }).collect();
    let mut ins = Vec::new();
    for _ in 0..options.plan.shards {
        let mut own = Vec::with_capacity(threads);
        for out in &mut outs {
            let (producer, consumer) = lane(&class, Record::default)?;
            let missed: Missed = (0..streams).map(|_| Counter::default()).collect();
            own.push((producer, missed.clone()));
            out.shards.push((consumer, missed, vec![0; streams]));
        }
        ins.push(TapsIn { threads: own, shared: shared.clone(), given: 0 });
    }
    Ok((ins, outs))
}

impl TapsIn {
    /// Gives an event to the threads that want its stream.
    #[inline(always)]
    pub fn offer(&mut self, record: &Record, payload: &[u8]) {
        let wanted = self.shared.wanted[usize::from(record.stream)].load(Ordering::Relaxed);
        if wanted != 0 {
            self.give_slow(wanted, record, payload);
        }
    }

    #[cold]
    #[inline(never)]
    fn give_slow(&mut self, wanted: u64, record: &Record, payload: &[u8]) {
        for (at, (tap, missed)) in self.threads.iter_mut().enumerate() {
            if wanted & (1 << at) == 0 {
                continue;
            }
            match tap.try_claim(u64::from(record.stream), payload.len()) {
                Ok(mut claim) => {
                    let (slot, bytes) = claim.parts_mut();
                    *slot = *record;
                    bytes.copy_from_slice(payload);
                    claim.publish();
                }
                Err(_) => missed[usize::from(record.stream)].add(1),
            }
            self.given |= 1 << at;
        }
    }

    /// Wakes those that were given something and sleep.
    #[inline(always)]
    pub fn end_batch(&mut self) {
        if self.given != 0 {
            let given = std::mem::take(&mut self.given);
            let bells = self.shared.bells.iter().enumerate();
            bells.filter(|(at, _)| given & (1 << at) != 0).for_each(|(_, bell)| bell.ring());
        }
    }
}

impl TapsOut {
    /// Takes at most `max` events from each shard, and what was missed since the last time. Says whether there was any.
    pub fn poll(
        &mut self,
        max: u64,
        mut event: impl FnMut(&Record, &[u8]),
        mut missed: impl FnMut(usize, u64),
    ) -> bool {
        let mut any = false;
        for (tap, counters, seen) in &mut self.shards {
            any |= tap.poll(max, |item| event(item, item.payload())) > 0;
            for (stream, (counter, seen)) in counters.iter().zip(seen).enumerate() {
                let now = counter.get();
                if now != *seen {
                    missed(stream, now - *seen);
                    *seen = now;
                    any = true;
                }
            }
        }
        any
    }

    /// Whether anything is there.
    pub fn is_ready(&self) -> bool {
        self.shards.iter().any(|(tap, counters, seen)| {
            tap.is_ready() || counters.iter().zip(seen).any(|(counter, seen)| counter.get() != *seen)
        })
    }
}
