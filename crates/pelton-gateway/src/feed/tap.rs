//! Taps: lanes that carry events of subscribed streams from the shards to the workers.
//!
//! # Mechanism
//! Each pair of a shard and a worker has a lane of its own. For each event, a shard checks whether any worker has a subscriber
//! of its stream: one relaxed load of a word that hardly ever changes. If so, it copies the event into the lanes of those
//! workers, and wakes them once at the end of its batch, if they sleep.
//!
//! # Invariants
//! - A shard never waits for a subscriber: if a lane is full, the event is lost to that worker's subscribers and counted by
//!   stream. The worker reports the count to them (`missed`).
//! - Events of one shard reach a subscriber in the order in which they were handled.

use crate::config::settings::Options;
use crate::feed::event::Record;
use crate::server::state::Shared;
use pelton::class::{Class, Stamp};
use pelton::lane::{LaneConsumer, LaneProducer, bytes_for, lane};
use pelton::ledger::Counter;
use pelton::memory::footprint::arc_bytes;
use pelton::ring::ShapeError;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Payload bytes in a tap for each of its slots.
const PAYLOAD_BYTES_EACH: u32 = 128;

/// What did not find room in a tap.
struct Missed {
    /// Counted behind those of the streams, so that one look tells whether there is anything new.
    all: Counter,
    streams: Box<[Counter]>,
}

/// A shard's end of one tap.
type TapProducer = (LaneProducer<Record>, Arc<Missed>);

/// A shard's ends of its taps, one for each gateway thread.
pub(crate) struct ShardTaps {
    threads: Vec<TapProducer>,
    shared: Arc<Shared>,
    /// Threads that have been given something in this batch, a bit for each.
    given: u64,
}

/// A gateway thread's ends of its taps, one for each shard.
#[derive(Default)]
pub(crate) struct WorkerTaps {
    shards: Vec<TapConsumer>,
}

/// A gateway thread's end of one tap.
struct TapConsumer {
    events: LaneConsumer<Record>,
    missed: Arc<Missed>,
    /// What of it has been told: of all, and by stream.
    reported: u64,
    streams_reported: Box<[u64]>,
}

/// What the lane of a tap is.
fn class_of(options: &Options) -> Class {
    let slots = options.tap_slots;
    // Room for the largest payload too.
    let largest = options.plan.classes().iter().map(|class| class.payload_bytes()).max().unwrap_or(0);
    let bytes = slots.saturating_mul(PAYLOAD_BYTES_EACH).max(largest).max(64);
    Class::strict("tap").with_capacity(slots).with_payload_bytes(bytes).drop_newest().with_stamp(Stamp::Never)
}

/// Bytes of memory that the taps of one shard take, at both ends.
pub(crate) fn bytes_of_shard(options: &Options) -> u64 {
    let (streams, threads) = (options.streams.len(), u64::from(options.threads));
    let counted = streams * (size_of::<Counter>() + size_of::<u64>());
    let ends = size_of::<TapProducer>() + size_of::<TapConsumer>() + arc_bytes::<Missed>();
    bytes_for::<Record>(&class_of(options)).saturating_add((ends + counted) as u64).saturating_mul(threads)
}

/// Makes the taps of all shards and threads.
pub(crate) fn taps(shared: &Arc<Shared>) -> Result<(Vec<ShardTaps>, Vec<WorkerTaps>), ShapeError> {
    let options = &shared.options;
    let streams = shared.streams.len();
    let class = class_of(options);
    let (shards, threads) = (usize::from(options.plan.shards()), usize::from(options.threads));
    let mut outs: Vec<_> = (0..threads).map(|_| WorkerTaps { shards: Vec::with_capacity(shards) }).collect();
    let mut ins = Vec::new();
    for _ in 0..shards {
        let mut own = Vec::with_capacity(threads);
        for out in &mut outs {
            let (producer, consumer) = lane(&class, Record::default)?;
            let counters = (0..streams).map(|_| Counter::default()).collect();
            let missed = Arc::new(Missed { all: Counter::default(), streams: counters });
            own.push((producer, missed.clone()));
            let streams_reported = vec![0; streams].into();
            out.shards.push(TapConsumer { events: consumer, missed, reported: 0, streams_reported });
        }
        ins.push(ShardTaps { threads: own, shared: shared.clone(), given: 0 });
    }
    Ok((ins, outs))
}

impl ShardTaps {
    /// Gives an event to the threads that want its stream.
    #[inline(always)]
    pub fn offer(&mut self, record: &Record, payload: &[u8]) {
        let wanted = self.shared.wanted[usize::from(record.stream)].load(Ordering::Relaxed);
        if wanted != 0 {
            self.give(wanted, record, payload);
        }
    }

    #[inline(never)]
    fn give(&mut self, wanted: u64, record: &Record, payload: &[u8]) {
        for (at, (tap, missed)) in self.threads.iter_mut().enumerate() {
            if wanted & (1 << at) == 0 {
                continue;
            }
            let claimed = tap.claim(u64::from(record.stream)).with_payload(payload.len()).try_acquire();
            let given = claimed.and_then(|mut claim| {
                let (slot, bytes) = claim.parts_mut();
                *slot = *record;
                bytes.copy_from_slice(payload);
                claim.publish()
            });
            if given.is_err() {
                missed.streams[usize::from(record.stream)].add(1);
                missed.all.add(1);
            }
            self.given |= 1 << at;
        }
    }

    /// Wakes those that were given something and sleep.
    #[inline(always)]
    pub fn end_batch(&mut self) {
        if self.given != 0 {
            let given = std::mem::take(&mut self.given);
            let wakers = self.shared.wakers.iter().enumerate();
            wakers.filter(|(at, _)| given & (1 << at) != 0).for_each(|(_, waker)| waker.wake_if_asleep());
        }
    }
}

impl WorkerTaps {
    /// Takes at most `max` events from each shard, and what was missed since the last time.
    pub fn poll(
        &mut self,
        max: u64,
        mut event: impl FnMut(&Record, &[u8]),
        mut missed: impl FnMut(usize, u64),
    ) {
        for tap in &mut self.shards {
            tap.events.poll(max, |item| event(item, item.payload()));
            let all = tap.missed.all.get();
            if all != tap.reported {
                tap.reported = all;
                let streams = tap.missed.streams.iter().zip(&mut tap.streams_reported).enumerate();
                for (stream, (counter, reported)) in streams {
                    let now = counter.get();
                    if now != *reported {
                        missed(stream, now - *reported);
                        *reported = now;
                    }
                }
            }
        }
    }

    /// Whether anything is there.
    pub fn is_ready(&self) -> bool {
        self.shards.iter().any(|tap| tap.events.is_ready() || tap.missed.all.get() != tap.reported)
    }
}
