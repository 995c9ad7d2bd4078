//! `XADD`: from a request in the socket's buffer to an event in its slot.
//!
//! # Mechanism
//! The fields and values of a request lie side by side in the buffer, as bulk strings. That piece, as it is, is the event's
//! payload: it is copied once, into the slot. Nothing is answered before it is known what became of the event, and an id
//! is given to those that were accepted and to no others.
//!
//! # Invariants
//! - Each `XADD` that names a stream and is well formed is offered exactly once, so its answer and the ledger agree. (One
//!   that must wait is not offered before there is room, or its time is over.)
//! - Requests that are not well formed are never offered: the stream's `refused` has them, the ledger has not.
#![forbid(unsafe_code)]

use super::conn::Room;
use super::record::{Ids, Record};
use super::shared::{Served, Shared};
use super::stream::KeyFrom;
use crate::event::{Key, Rejection, ShardId};
use crate::lane::{Refusal, Unclaimed};
use crate::producer::Producer;
use crate::resp::{Parser, Reply, StampedId};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a thread needs to publish.
pub(super) struct Publisher {
    pub producer: Producer<Record>,
    pub ids: Ids,
    shared: Arc<Shared>,
    thread: usize,
    /// The next key of each stream that goes round.
    turns: Vec<u64>,
    /// The stream that was named last: most connections name one.
    last: usize,
    /// The id that was answered last, as it was written.
    last_id: StampedId,
}

/// What became of an `XADD`.
pub(super) enum Added {
    /// It is answered.
    Answered,
    /// It has to wait for room.
    Waits(Room),
}

/// A request that is none.
type Wrong = &'static str;

const NO_FIELDS: Wrong = "ERR wrong number of arguments for 'xadd' command";

impl Publisher {
    pub fn new(producer: Producer<Record>, shared: Arc<Shared>, thread: usize) -> Self {
        let streams = shared.streams.len();
        Publisher {
            producer,
            ids: Ids::new(thread as u16, shared.options.threads),
            thread,
            // Threads begin at different shards.
            turns: vec![thread as u64; streams],
            last: 0,
            last_id: StampedId::default(),
            shared,
        }
    }

    /// The stream of this name.
    #[inline(always)]
    pub fn stream(&mut self, name: &[u8]) -> Option<usize> {
        let last = self.shared.streams.get(self.last)?;
        if last.name.as_bytes() != name {
            self.last = usize::from(*self.shared.by_name.get(name)?);
        }
        Some(self.last)
    }

    /// Carries out the `XADD` that was parsed. `gives_up` ends the waiting of one that has waited.
    #[inline]
    pub fn add(
        &mut self,
        parser: &Parser,
        input: &[u8],
        gives_up: bool,
        since: Option<Instant>,
        reply: &mut Reply<'_>,
    ) -> Added {
        if parser.len() < 5 {
            reply.error(NO_FIELDS);
            return Added::Answered;
        }
        let Some(stream) = self.stream(parser.arg(input, 1)) else {
            no_stream_slow(parser.arg(input, 1), reply);
            return Added::Answered;
        };
        let first = match first_field(parser, input) {
            Ok(first) => first,
            Err(wrong) => return self.refuse_slow(stream, wrong, reply),
        };
        let shared = self.shared.clone();
        let served = &shared.streams[stream];
        let key = match self.key(stream, served, parser, input, first) {
            Ok(key) => key,
            Err(wrong) => return self.refuse_slow(stream, &wrong, reply),
        };
        let Publisher { producer, ids, last_id, .. } = self;
        let payload = parser.bulks(input, first);
        if payload.len() > served.payload_max {
            let text = format!(
                "ERR payload of {} bytes; stream '{}' takes {}",
                payload.len(),
                served.name,
                served.payload_max
            );
            return self.refuse_slow(stream, &text, reply);
        }
        let fields = ((parser.len() - first) / 2) as u16;
        let claimed = if gives_up {
            producer.claim_within(Duration::ZERO, served.class, key, payload.len()).map_err(Unclaimed::from)
        } else {
            producer.claim_now(served.class, key, payload.len())
        };
        let published = claimed.map(|mut claim| {
            let id = ids.next();
            let (record, bytes) = claim.parts_mut();
            bytes.copy_from_slice(payload);
            *record = Record { id, stream: stream as u16, fields };
            claim.publish();
            reply.stamped(last_id, id.ms, id.sequence);
            id
        });
        match published {
            Ok(id) => {
                let counts = &shared.threads[self.thread].streams[stream];
                counts.accepted.add(1);
                counts.last_ms.set(id.ms);
                counts.last_sequence.set(id.sequence);
                Added::Answered
            }
            Err(Unclaimed::Waits) => {
                let lane = self.lane(served, key);
                let since = since.unwrap_or_else(Instant::now);
                Added::Waits(Room { class: served.class, key, bytes: payload.len(), lane, since })
            }
            Err(Unclaimed::Refused(refusal)) => {
                let depth = self.producer.depth(served.class, key);
                self.unaccepted_slow(stream, refusal, depth, reply)
            }
        }
    }

    /// The number of a lane among those of this thread.
    fn lane(&self, served: &Served, key: Key) -> usize {
        let ShardId(shard) = self.producer.shard_of(key);
        usize::from(shard) * self.shared.options.plan.classes().len() + served.class.index()
    }

    #[inline(always)]
    fn key(
        &mut self,
        stream: usize,
        served: &Served,
        parser: &Parser,
        input: &[u8],
        first: usize,
    ) -> Result<Key, String> {
        match &served.key {
            KeyFrom::RoundRobin => {
                let turn = &mut self.turns[stream];
                *turn = turn.wrapping_add(1);
                Ok(Key(*turn))
            }
            KeyFrom::First => Ok(Key::of(parser.arg(input, first + 1))),
            KeyFrom::Field(name) => (first..parser.len())
                .step_by(2)
                .find(|at| parser.arg(input, *at) == name.as_bytes())
                .map(|at| Key::of(parser.arg(input, at + 1)))
                .ok_or_else(|| {
                    format!(
                        "ERR stream '{}' takes its key from field '{name}', which is missing",
                        served.name
                    )
                }),
        }
    }

    /// Answers an `XADD` that was not offered.
    #[cold]
    fn refuse_slow(&mut self, stream: usize, why: &str, reply: &mut Reply<'_>) -> Added {
        self.shared.threads[self.thread].streams[stream].refused.add(1);
        reply.error(why);
        Added::Answered
    }

    /// Answers one that was offered and not accepted; the ledger has it.
    #[cold]
    fn unaccepted_slow(
        &mut self,
        stream: usize,
        refusal: Refusal,
        depth: u64,
        reply: &mut Reply<'_>,
    ) -> Added {
        let served = &self.shared.streams[stream];
        let counts = &self.shared.threads[self.thread].streams[stream];
        let class = &served.class_name;
        let (reason, shard) = (refusal.reason.name(), refusal.lane.shard);
        match refusal.reason {
            Rejection::DroppedNewest => {
                counts.dropped.add(1);
                reply.error(format_args!(
                    "DROPPED class '{class}' depth {depth} of {} at {shard}",
                    refusal.capacity
                ));
            }
            Rejection::SlotsFull | Rejection::BytesFull | Rejection::TimedOut => {
                counts.busy.add(1);
                let full = refusal.capacity;
                reply
                    .error(format_args!("BUSY class '{class}' depth {depth} of {full} at {shard}: {reason}"));
            }
            _ => {
                counts.refused.add(1);
                reply.error(format_args!("ERR not accepted by class '{class}': {reason}"));
            }
        }
        Added::Answered
    }
}

/// Where the fields begin: behind the options and the `*`.
#[inline(always)]
fn first_field(parser: &Parser, input: &[u8]) -> Result<usize, Wrong> {
    let mut at = 2;
    if parser.arg(input, at) != b"*" {
        at = options_slow(parser, input)?;
    }
    let fields = parser.len() - (at + 1);
    if fields == 0 || !fields.is_multiple_of(2) {
        return Err(NO_FIELDS);
    }
    if fields / 2 > usize::from(u16::MAX) {
        return Err("ERR an event has at most 65535 fields");
    }
    Ok(at + 1)
}

/// Finds the `*` behind `NOMKSTREAM`, `MAXLEN` and `MINID`. Nothing is kept of a stream, so these trim nothing.
#[cold]
fn options_slow(parser: &Parser, input: &[u8]) -> Result<usize, Wrong> {
    const SYNTAX: Wrong = "ERR syntax error";
    let is = |at: usize, word: &[u8]| at < parser.len() && parser.arg(input, at).eq_ignore_ascii_case(word);
    let is_number = |at: usize| {
        at < parser.len()
            && std::str::from_utf8(parser.arg(input, at)).is_ok_and(|text| text.parse::<i64>().is_ok())
    };
    let mut at = 2;
    let mut is_about = false;
    loop {
        if is(at, b"NOMKSTREAM") {
            at += 1;
        } else if is(at, b"MAXLEN") || is(at, b"MINID") {
            let counts = is(at, b"MAXLEN");
            at += 1;
            if is(at, b"~") || is(at, b"=") {
                is_about = is(at, b"~");
                at += 1;
            }
            if counts && !is_number(at) {
                return Err("ERR value is not an integer or out of range");
            }
            at += 1;
        } else if is(at, b"LIMIT") {
            if !is_about {
                return Err("ERR syntax error, LIMIT cannot be used without the special ~ option");
            }
            if !is_number(at + 1) {
                return Err("ERR value is not an integer or out of range");
            }
            at += 2;
        } else if is(at, b"*") {
            return Ok(at);
        } else if at < parser.len() && parser.arg(input, at).first().is_some_and(u8::is_ascii_digit) {
            return Err("ERR ids are given by the server: * would work");
        } else {
            return Err(if at >= parser.len() { NO_FIELDS } else { SYNTAX });
        }
    }
}

#[cold]
fn no_stream_slow(name: &[u8], reply: &mut Reply<'_>) {
    // As much of it as tells what was meant.
    let name = String::from_utf8_lossy(&name[..name.len().min(64)]);
    reply.error(format_args!("NOSTREAM no stream '{}' is declared", name.escape_debug()));
}
