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

use crate::config::stream::KeyFrom;
use crate::feed::event::{Id, IdGenerator, Record};
use crate::net::connection::{FinishedWait, RoomWait};
use crate::resp::{Parser, Reply, StampedId, number};
use crate::server::metrics::StreamCounters;
use crate::server::state::{ServedStream, Shared};
use pelton::class::ClassId;
use pelton::engine::Plan;
use pelton::event::{Key, Rejection, ShardId};
use pelton::lane::{PublishError, TryClaimError};
use pelton::producer::Producer;
use pelton::words::printable;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// What a thread needs to publish.
pub(crate) struct Publisher {
    pub producer: Producer<Record>,
    pub ids: IdGenerator,
    pub waiting: WaitQueues,
    /// The lane that the connection which is served now has waited for: it does not queue there again.
    pub granted_lane: Option<usize>,
    shared: Arc<Shared>,
    thread: usize,
    /// The next key of each stream that goes round.
    turns: Vec<u64>,
    /// The stream that was named last: most connections use one.
    last: usize,
    /// The last id that was written, as text.
    last_id: StampedId,
}

/// The connections of a thread that wait for room, by lane, in the order in which they came to wait.
pub(crate) struct WaitQueues {
    lanes: Vec<VecDeque<usize>>,
    /// How many connections wait, for all lanes.
    now: usize,
    classes: usize,
}

/// Connections that can wait for a lane before the list of them grows.
const WAITING_USUAL: usize = 256;

impl WaitQueues {
    fn new(plan: &Plan) -> Self {
        let classes = plan.classes().len();
        let lanes = usize::from(plan.shards()) * classes;
        WaitQueues {
            lanes: (0..lanes).map(|_| VecDeque::with_capacity(WAITING_USUAL)).collect(),
            now: 0,
            classes,
        }
    }

    /// Whether no connection waits.
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

    /// The connection that has waited longest for a lane.
    pub fn first(&self, lane: usize) -> Option<usize> {
        self.lanes[lane].front().copied()
    }

    /// Queues a connection for a lane: after the others, or before them if it waits again with the same
    /// request.
    pub fn push(&mut self, lane: usize, at: usize, is_resumed: bool) {
        let queue = &mut self.lanes[lane];
        if is_resumed {
            queue.push_front(at)
        } else {
            queue.push_back(at)
        }
        self.now += 1;
    }

    /// Removes a connection from the queue of a lane.
    pub fn remove(&mut self, lane: usize, at: usize) {
        let queue = &mut self.lanes[lane];
        // Nearly always the first.
        if let Some(place) = queue.iter().position(|other| *other == at) {
            queue.remove(place);
            self.now -= 1;
        }
    }

    /// The number of a lane among those of this thread.
    fn lane(&self, shard: ShardId, class: ClassId) -> usize {
        shard.index() * self.classes + class.index()
    }
}

/// What became of an `XADD`.
pub(crate) enum XaddOutcome {
    /// The event is accepted, and its id written.
    Accepted,
    /// An error is written, which costs several times as much.
    Rejected,
    /// It has to wait for room.
    AwaitRoom(RoomWait),
}

/// The text of an error reply.
type ErrorText = &'static str;

const NO_FIELDS: ErrorText = "ERR wrong number of arguments for 'xadd' command";

impl Publisher {
    pub fn new(producer: Producer<Record>, shared: Arc<Shared>, thread: usize) -> Self {
        let streams = shared.streams.len();
        Publisher {
            producer,
            ids: IdGenerator::new(thread as u16, shared.options.threads, shared.clock.now_ms()),
            waiting: WaitQueues::new(&shared.options.plan),
            granted_lane: None,
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

    /// Runs the `XADD` that was parsed, which may have waited for room.
    #[inline]
    pub fn add(
        &mut self,
        parser: &Parser,
        input: &[u8],
        waited: Option<FinishedWait>,
        reply: &mut Reply<'_>,
    ) -> XaddOutcome {
        let Publisher { producer, ids, waiting, granted_lane, shared, thread, turns, last, last_id } = self;
        if parser.len() < 5 {
            reply.error(NO_FIELDS);
            return XaddOutcome::Rejected;
        }
        let Some(stream) = stream_of(shared, last, parser.arg(input, 1)) else {
            no_stream_slow(parser.arg(input, 1), reply);
            return XaddOutcome::Rejected;
        };
        let (served, counters) = (&shared.streams[stream], &shared.counters[*thread].streams[stream]);
        let event = match event_of(served, &mut turns[stream], parser, input, waited.as_ref()) {
            Ok(event) => event,
            Err(why) => return reject_slow(counters, &why, reply),
        };
        let NewEvent { key, payload, .. } = event;
        let room = |lane, since| RoomWait { class: served.class, key, bytes: payload.len(), lane, since };
        // No connection overtakes those that wait already.
        if !waiting.is_empty() && waited.is_none() && served.blocks {
            let lane = waiting.lane(producer.shard_of(key), served.class);
            if waiting.len(lane) > 0 && *granted_lane != Some(lane) {
                return XaddOutcome::AwaitRoom(room(lane, shared.clock.now()));
            }
        }
        let has_timed_out = waited.is_some_and(|waited| waited.has_timed_out);
        match publish(producer, ids, (stream, served.class), &event, has_timed_out) {
            Ok(id) => {
                counters.accepted.add(1);
                counters.last_ms.set(id.ms);
                counters.last_sequence.set(id.sequence);
                reply.stamped(last_id, id.ms, id.sequence);
                XaddOutcome::Accepted
            }
            Err(TryClaimError::WouldBlock) => {
                let lane = waiting.lane(producer.shard_of(key), served.class);
                let since = waited.map_or_else(|| shared.clock.now(), |waited| waited.room.since);
                XaddOutcome::AwaitRoom(room(lane, since))
            }
            Err(TryClaimError::Refused(error)) => {
                let depth = producer.depth(served.class, key);
                publish_error_slow(counters, &served.class_name, error, (depth, payload.len()), reply)
            }
        }
    }
}

/// The event of a well-formed `XADD`.
struct NewEvent<'a> {
    key: Key,
    fields: u16,
    /// The fields and values, as they came.
    payload: &'a [u8],
}

/// Reads the event of an `XADD` to the stream `served`. `turn` is the stream's last key, where keys take turns.
///
/// # Errors
/// The text of the error reply.
#[inline(always)]
fn event_of<'a>(
    served: &ServedStream,
    turn: &mut u64,
    parser: &'a Parser,
    input: &'a [u8],
    waited: Option<&FinishedWait>,
) -> Result<NewEvent<'a>, Cow<'static, str>> {
    let first = first_field(parser, input)?;
    // An event that has waited goes where it waited for.
    let key = match waited {
        Some(waited) => Some(waited.room.key),
        None => key_of(&served.key, turn, parser, input, first),
    };
    let Some(key) = key else { return Err(no_key_slow(served)) };
    let payload = parser.bulks(input, first);
    if payload.len() > served.payload_max {
        return Err(too_large_slow(served, payload.len()));
    }
    Ok(NewEvent { key, fields: ((parser.len() - first) / 2) as u16, payload })
}

#[cold]
fn no_key_slow(served: &ServedStream) -> Cow<'static, str> {
    let field = served.key.word();
    format!("ERR stream '{}' takes its key from {field}, which is missing", served.name).into()
}

#[cold]
fn too_large_slow(served: &ServedStream, bytes: usize) -> Cow<'static, str> {
    let most = served.payload_max;
    format!("ERR payload of {bytes} bytes; stream '{}' takes {most}", served.name).into()
}

/// Copies an event into its slot and publishes it. An event that has waited for as long as its class waits does not wait
/// again.
#[inline(always)]
fn publish(
    producer: &mut Producer<Record>,
    ids: &mut IdGenerator,
    (stream, class): (usize, ClassId),
    event: &NewEvent<'_>,
    has_timed_out: bool,
) -> Result<Id, TryClaimError> {
    let NewEvent { key, fields, payload } = *event;
    let mut claim = if has_timed_out {
        producer.claim(class, key).with_payload(payload.len()).acquire_timeout(Duration::ZERO)?
    } else {
        producer.claim(class, key).with_payload(payload.len()).poll_acquire()?
    };
    let id = ids.next();
    let (record, bytes) = claim.parts_mut();
    bytes.copy_from_slice(payload);
    *record = Record { id, stream: stream as u16, fields };
    claim.publish()?;
    Ok(id)
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
fn reject_slow(counts: &StreamCounters, why: &str, reply: &mut Reply<'_>) -> XaddOutcome {
    counts.refused.add(1);
    reply.error(why);
    XaddOutcome::Rejected
}

/// Answers one that was offered and not accepted; the ledger has it.
#[cold]
fn publish_error_slow(
    counts: &StreamCounters,
    class: &str,
    error: PublishError,
    (depth, bytes): (u64, usize),
    reply: &mut Reply<'_>,
) -> XaddOutcome {
    let PublishError { reason, capacity, lane, .. } = error;
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
    XaddOutcome::Rejected
}

/// Where the fields begin: after the options and the `*`.
#[inline(always)]
fn first_field(parser: &Parser, input: &[u8]) -> Result<usize, ErrorText> {
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

/// Finds the `*` after `NOMKSTREAM`, `MAXLEN` and `MINID`. Nothing is kept of a stream, so these trim
/// nothing; their errors are those of Redis.
#[cold]
fn options_slow(parser: &Parser, input: &[u8]) -> Result<usize, ErrorText> {
    const NO_NUMBER: ErrorText = "ERR value is not an integer or out of range";
    const NO_ID: ErrorText = "ERR Invalid stream ID specified as stream command argument";
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
pub(crate) fn no_stream_slow(name: &[u8], reply: &mut Reply<'_>) {
    const BYTES_MAX: usize = 64;
    let name = printable(&String::from_utf8_lossy(&name[..name.len().min(BYTES_MAX)]));
    reply.error(format_args!("NOSTREAM no stream '{name}' is declared"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::{Limits, Parsed, Version};
    use crate::{Options, Stream};
    use mio::{Poll, Token, Waker};
    use pelton::Context;
    use pelton::Event;
    use pelton::class::Class;
    use pelton::engine::Profile;

    const XADD: &[u8] = b"*5\r\n$4\r\nXADD\r\n$1\r\ns\r\n$1\r\n*\r\n$1\r\nf\r\n$1\r\nv\r\n";

    #[test]
    fn waiting_connections_are_not_overtaken_and_resume_in_order() {
        let mut plan = Plan::new(Profile::Dev).with_shards(1).with_producers_max(1);
        plan = plan.with_announce(false);
        plan.class(Class::strict("only").with_capacity(4).with_payload_bytes(4_096).block());
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
        let mut add = |publisher: &mut Publisher, waited: Option<FinishedWait>| {
            let added = publisher.add(&parser, XADD, waited, &mut Reply::new(&mut out, Version::Resp2));
            match added {
                XaddOutcome::Accepted | XaddOutcome::Rejected => None,
                XaddOutcome::AwaitRoom(room) => Some(FinishedWait { room, has_timed_out: false }),
            }
        };
        assert!((0..4).all(|_| add(&mut publisher, None).is_none()));
        let waited = add(&mut publisher, None).expect("the lane is full");
        publisher.waiting.push(waited.room.lane, 7, false);
        while shard.poll() > 0 {}
        // There is room again, for the connection that has waited: with all that it has for the lane.
        let behind = add(&mut publisher, None).expect("a connection waits already");
        publisher.waiting.push(behind.room.lane, 8, false);
        publisher.waiting.remove(waited.room.lane, 7);
        publisher.granted_lane = Some(waited.room.lane);
        assert!(add(&mut publisher, Some(waited)).is_none());
        assert!((0..3).all(|_| add(&mut publisher, None).is_none()));
        let again = add(&mut publisher, None).expect("the lane is full");
        publisher.waiting.push(again.room.lane, 7, false);
        publisher.granted_lane = None;
        assert_eq!(publisher.waiting.first(again.room.lane), Some(8), "the longest wait comes first");
        drop(publisher);
        engine.close();
        while shard.poll() > 0 {}
        let report = engine.stop(Duration::ZERO).unwrap();
        assert!(report.ledger.is_closed());
        assert_eq!((report.ledger.total().handled, report.ledger.total().rejected_total()), (8, 0));
    }
}
