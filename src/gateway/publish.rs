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

use super::conn::{Room, Waited};
use super::counts::StreamCounter;
use super::record::{Ids, Record};
use super::shared::Shared;
use super::stream::KeyFrom;
use crate::class::ClassId;
use crate::engine::Plan;
use crate::event::{Key, Rejection, ShardId};
use crate::lane::{Refusal, Unclaimed};
use crate::producer::Producer;
use crate::resp::{Parser, Reply, StampedId, number};
use crate::words::printable;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a thread needs to publish.
pub(super) struct Publisher {
    pub producer: Producer<Record>,
    pub ids: Ids,
    pub waiting: Waiting,
    /// The lane whose turn it is: who has waited for it, and is served now, waits behind nobody there.
    pub granted: Option<usize>,
    shared: Arc<Shared>,
    thread: usize,
    /// The next key of each stream that goes round.
    turns: Vec<u64>,
    /// The stream that was named last: most connections name one.
    last: usize,
    /// The id that was answered last, as it was written.
    last_id: StampedId,
}

/// The connections of a thread that wait for room, by lane, in the order in which they came to wait.
pub(super) struct Waiting {
    lanes: Vec<VecDeque<usize>>,
    /// How many there are in all.
    now: usize,
    classes: usize,
}

/// Connections that can wait for a lane before the list of them grows.
const WAITING_USUAL: usize = 256;

impl Waiting {
    fn new(plan: &Plan) -> Self {
        let classes = plan.classes().len();
        let lanes = usize::from(plan.shards) * classes;
        Waiting {
            lanes: (0..lanes).map(|_| VecDeque::with_capacity(WAITING_USUAL)).collect(),
            now: 0,
            classes,
        }
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.now == 0
    }

    /// How many lanes there are.
    pub fn lanes(&self) -> usize {
        self.lanes.len()
    }

    /// How many wait for a lane.
    pub fn len(&self, lane: usize) -> usize {
        self.lanes[lane].len()
    }

    /// Who has waited longest for a lane.
    pub fn first(&self, lane: usize) -> Option<usize> {
        self.lanes[lane].front().copied()
    }

    /// A connection comes to wait for a lane: behind the others, or before them if it waits again with the same request.
    pub fn push(&mut self, lane: usize, at: usize, is_again: bool) {
        let own = &mut self.lanes[lane];
        if is_again {
            own.push_front(at)
        } else {
            own.push_back(at)
        }
        self.now += 1;
    }

    /// A connection waits for a lane no more.
    pub fn remove(&mut self, lane: usize, at: usize) {
        let own = &mut self.lanes[lane];
        // Nearly always the first.
        if let Some(place) = own.iter().position(|other| *other == at) {
            own.remove(place);
            self.now -= 1;
        }
    }

    /// The number of a lane among those of this thread.
    fn lane(&self, shard: ShardId, class: ClassId) -> usize {
        shard.index() * self.classes + class.index()
    }
}

/// What became of an `XADD`.
pub(super) enum Added {
    /// It is accepted, and answered.
    Answered,
    /// It is answered with an error, which costs several times as much.
    Refused,
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
            waiting: Waiting::new(&shared.options.plan),
            granted: None,
            thread,
            // Threads begin at different shards.
            turns: vec![thread as u64; streams],
            last: 0,
            last_id: StampedId::default(),
            shared,
        }
    }

    /// The stream of this name.
    pub fn stream(&mut self, name: &[u8]) -> Option<usize> {
        stream_of(&self.shared, &mut self.last, name)
    }

    /// Carries out the `XADD` that was parsed, which may have waited.
    #[inline]
    pub fn add(
        &mut self,
        parser: &Parser,
        input: &[u8],
        waited: Option<Waited>,
        reply: &mut Reply<'_>,
    ) -> Added {
        let Publisher { producer, ids, waiting, granted, shared, thread, turns, last, last_id } = self;
        if parser.len() < 5 {
            reply.error(NO_FIELDS);
            return Added::Refused;
        }
        let Some(stream) = stream_of(shared, last, parser.arg(input, 1)) else {
            no_stream_slow(parser.arg(input, 1), reply);
            return Added::Refused;
        };
        let (served, counts) = (&shared.streams[stream], &shared.threads[*thread].streams[stream]);
        let first = match first_field(parser, input) {
            Ok(first) => first,
            Err(wrong) => return refuse_slow(counts, wrong, reply),
        };
        // What has waited goes where it waited for.
        let key = match waited {
            Some(waited) => Some(waited.room.key),
            None => key_of(&served.key, &mut turns[stream], parser, input, first),
        };
        let Some(key) = key else {
            let field = served.key.word();
            let why = format!("ERR stream '{}' takes its key from {field}, which is missing", served.name);
            return refuse_slow(counts, &why, reply);
        };
        let payload = parser.bulks(input, first);
        if payload.len() > served.payload_max {
            let (bytes, most) = (payload.len(), served.payload_max);
            let why = format!("ERR payload of {bytes} bytes; stream '{}' takes {most}", served.name);
            return refuse_slow(counts, &why, reply);
        }
        let fields = ((parser.len() - first) / 2) as u16;
        // Nobody overtakes those who wait already.
        if !waiting.is_empty() && waited.is_none() && served.blocks {
            let lane = waiting.lane(producer.shard_of(key), served.class);
            if waiting.len(lane) > 0 && *granted != Some(lane) {
                let (class, bytes) = (served.class, payload.len());
                return Added::Waits(Room { class, key, bytes, lane, since: Instant::now() });
            }
        }
        let claimed = if waited.is_some_and(|waited| waited.is_too_long) {
            producer.claim_within(Duration::ZERO, served.class, key, payload.len()).map_err(Unclaimed::from)
        } else {
            producer.claim_now(served.class, key, payload.len())
        };
        let published = claimed.and_then(|mut claim| {
            let id = ids.next();
            let (record, bytes) = claim.parts_mut();
            bytes.copy_from_slice(payload);
            *record = Record { id, stream: stream as u16, fields };
            claim.publish()?;
            Ok(id)
        });
        match published {
            Ok(id) => {
                counts.accepted.add(1);
                counts.last_ms.set(id.ms);
                counts.last_sequence.set(id.sequence);
                reply.stamped(last_id, id.ms, id.sequence);
                Added::Answered
            }
            Err(Unclaimed::Waits) => {
                let lane = waiting.lane(producer.shard_of(key), served.class);
                let since = waited.map_or_else(Instant::now, |waited| waited.room.since);
                Added::Waits(Room { class: served.class, key, bytes: payload.len(), lane, since })
            }
            Err(Unclaimed::Refused(refusal)) => {
                let depth = producer.depth(served.class, key);
                unaccepted_slow(counts, &served.class_name, refusal, (depth, payload.len()), reply)
            }
        }
    }
}

/// The stream of a name; `last` is the one that was named before.
#[inline(always)]
fn stream_of(shared: &Shared, last: &mut usize, name: &[u8]) -> Option<usize> {
    if shared.streams.get(*last)?.name.as_bytes() != name {
        *last = usize::from(*shared.by_name.get(name)?);
    }
    Some(*last)
}

/// The key of an event; `None` where the field is missing that has it.
#[inline(always)]
fn key_of(from: &KeyFrom, turn: &mut u64, parser: &Parser, input: &[u8], first: usize) -> Option<Key> {
    match from {
        KeyFrom::RoundRobin => {
            *turn = turn.wrapping_add(1);
            Some(Key(*turn))
        }
        KeyFrom::First => Some(Key::of(parser.arg(input, first + 1))),
        KeyFrom::Field(name) => {
            let mut names = (first..parser.len()).step_by(2);
            let at = names.find(|at| parser.arg(input, *at) == name.as_bytes())?;
            Some(Key::of(parser.arg(input, at + 1)))
        }
    }
}

/// Answers an `XADD` that was not offered.
#[cold]
fn refuse_slow(counts: &StreamCounter, why: &str, reply: &mut Reply<'_>) -> Added {
    counts.refused.add(1);
    reply.error(why);
    Added::Refused
}

/// Answers one that was offered and not accepted; the ledger has it.
#[cold]
fn unaccepted_slow(
    counts: &StreamCounter,
    class: &str,
    refusal: Refusal,
    (depth, bytes): (u64, usize),
    reply: &mut Reply<'_>,
) -> Added {
    let Refusal { reason, capacity, lane } = refusal;
    let (why, shard) = (reason.name(), lane.shard);
    match reason {
        Rejection::DroppedNewest => {
            counts.dropped.add(1);
            reply.error(format_args!("DROPPED class '{class}' depth {depth} of {capacity} at {shard}"));
        }
        Rejection::SlotsFull | Rejection::BytesFull | Rejection::TimedOut => {
            counts.busy.add(1);
            reply.error(format_args!("BUSY class '{class}' depth {depth} of {capacity} at {shard}: {why}"));
        }
        _ => {
            counts.refused.add(1);
            let payload = format_args!("a payload of {bytes} bytes");
            reply.error(format_args!("ERR not accepted by class '{class}': {why}, {payload}"));
        }
    }
    Added::Refused
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

/// Finds the `*` behind `NOMKSTREAM`, `MAXLEN` and `MINID`. Nothing is kept of a stream, so these trim nothing; what is
/// wrong with them is told as Redis tells it.
#[cold]
fn options_slow(parser: &Parser, input: &[u8]) -> Result<usize, Wrong> {
    const NO_NUMBER: Wrong = "ERR value is not an integer or out of range";
    const NO_ID: Wrong = "ERR Invalid stream ID specified as stream command argument";
    let arg = |at: usize| parser.arg(input, at);
    let is = |at: usize, word: &str| arg(at).eq_ignore_ascii_case(word.as_bytes());
    let (mut at, len) = (2, parser.len());
    let (mut trims, mut is_about, mut has_limit, mut is_star) = (false, false, false, false);
    while at < len {
        let has_more = at + 1 < len;
        is_star = arg(at) == b"*";
        if is_star {
            break;
        } else if is(at, "NOMKSTREAM") {
            at += 1;
        } else if has_more && (is(at, "MAXLEN") || is(at, "MINID")) {
            if trims {
                return Err("ERR syntax error, MAXLEN and MINID options at the same time are not compatible");
            }
            trims = true;
            let by_length = is(at, "MAXLEN");
            at += 1;
            is_about = at + 1 < len && arg(at) == b"~";
            at += usize::from(is_about || (at + 1 < len && arg(at) == b"="));
            if !by_length {
                if !is_id(arg(at), false) {
                    return Err(NO_ID);
                }
            } else if number(arg(at)).ok_or(NO_NUMBER)? < 0 {
                return Err("ERR The MAXLEN argument must be >= 0.");
            }
            at += 1;
        } else if has_more && is(at, "LIMIT") {
            if number(arg(at + 1)).ok_or(NO_NUMBER)? < 0 {
                return Err("ERR The LIMIT argument must be >= 0.");
            }
            has_limit = true;
            at += 2;
        } else if is_id(arg(at), true) {
            break;
        } else {
            return Err(NO_ID);
        }
    }
    if has_limit && !trims {
        return Err("ERR syntax error, LIMIT cannot be used without specifying a trimming strategy");
    }
    if has_limit && !is_about {
        return Err("ERR syntax error, LIMIT cannot be used without the special ~ option");
    }
    if is_star {
        return Ok(at);
    }
    let fields = len.saturating_sub(at + 1);
    let is_whole = fields > 0 && fields.is_multiple_of(2);
    Err(if is_whole { "ERR ids are given by the server: * would work" } else { NO_FIELDS })
}

/// Whether this is an event's id: milliseconds, and perhaps a sequence, which a `*` may stand for where a new id is named.
fn is_id(text: &[u8], is_new: bool) -> bool {
    let is_number = |part: &[u8]| {
        part.iter().all(u8::is_ascii_digit)
            && std::str::from_utf8(part).is_ok_and(|part| part.parse::<u64>().is_ok())
    };
    match text.iter().position(|byte| *byte == b'-') {
        None => is_number(text),
        Some(at) => {
            let sequence = &text[at + 1..];
            is_number(&text[..at]) && (is_number(sequence) || (is_new && sequence == b"*"))
        }
    }
}

/// Answers a request that names a stream which is not declared.
#[cold]
pub(super) fn no_stream_slow(name: &[u8], reply: &mut Reply<'_>) {
    const BYTES_MAX: usize = 64;
    let name = printable(&String::from_utf8_lossy(&name[..name.len().min(BYTES_MAX)]));
    reply.error(format_args!("NOSTREAM no stream '{name}' is declared"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Context;
    use crate::Event;
    use crate::class::Class;
    use crate::engine::Profile;
    use crate::gateway::{Options, Stream};
    use crate::resp::{Limits, Parsed, Version};
    use mio::{Poll, Token, Waker};

    const XADD: &[u8] = b"*5\r\n$4\r\nXADD\r\n$1\r\ns\r\n$1\r\n*\r\n$1\r\nf\r\n$1\r\nv\r\n";

    #[test]
    fn nobody_overtakes_but_who_has_waited_goes_on() {
        let mut plan = Plan::new(Profile::Dev).shards(1).producers_max(1);
        plan = plan.announce(false);
        plan.class(Class::strict("only").capacity(4).payload_bytes(4_096).block());
        let mut options = Options::new(plan.clone());
        options.streams.push(Stream::new("s", "only"));
        let waker = Waker::new(Poll::new().unwrap().registry(), Token(0)).unwrap();
        let shared = Arc::new(Shared::new(options, None, vec![waker]));
        let (engine, seats) = plan.host_driven(Record::default).unwrap();
        let handler = |_: &mut Event<'_, Record>, _: &mut Context<'_, Record>| ();
        let mut shard = seats.into_iter().next().unwrap().build(handler).unwrap();
        let mut publisher = Publisher::new(engine.attach().unwrap(), shared, 0);
        let limits = Limits { args_max: 16, frame_bytes_max: 4_096, inline_bytes_max: 4_096 };
        let mut parser = Parser::new(limits);
        assert!(matches!(parser.parse(XADD), Parsed::Request { .. }));
        let mut out = Vec::new();
        let mut add = |publisher: &mut Publisher, waited: Option<Waited>| {
            let added = publisher.add(&parser, XADD, waited, &mut Reply::new(&mut out, Version::Resp2));
            match added {
                Added::Answered | Added::Refused => None,
                Added::Waits(room) => Some(Waited { room, is_too_long: false }),
            }
        };
        assert!((0..4).all(|_| add(&mut publisher, None).is_none()));
        let waited = add(&mut publisher, None).expect("the lane is full");
        publisher.waiting.push(waited.room.lane, 7, false);
        while shard.poll() > 0 {}
        // There is room again, and it is for the one who has waited: with all that it has for the lane.
        let behind = add(&mut publisher, None).expect("somebody waits already");
        publisher.waiting.push(behind.room.lane, 8, false);
        publisher.waiting.remove(waited.room.lane, 7);
        publisher.granted = Some(waited.room.lane);
        assert!(add(&mut publisher, Some(waited)).is_none());
        assert!((0..3).all(|_| add(&mut publisher, None).is_none()));
        let again = add(&mut publisher, None).expect("the lane is full");
        publisher.waiting.push(again.room.lane, 7, false);
        publisher.granted = None;
        assert_eq!(publisher.waiting.first(again.room.lane), Some(8), "who has waited longer comes first");
        drop(publisher);
        engine.close();
        while shard.poll() > 0 {}
        let report = engine.stop(Duration::ZERO).unwrap();
        assert!(report.ledger.is_closed());
        assert_eq!((report.ledger.total().handled, report.ledger.total().rejected_total()), (8, 0));
    }
}
