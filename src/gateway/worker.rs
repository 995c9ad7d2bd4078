//! A gateway thread: one loop over its connections, and a producer of its own.
//!
//! # Mechanism
//! The system says once for each connection when something has come (edge-triggered); such a connection stands in a queue
//! until a read has emptied its socket. In its turn it is read once, at most `read_budget_bytes`, into the thread's own
//! buffer; its requests are carried out there, and the answers written with one call. Then comes the next.
//!
//! A turn is bounded by work too: it ends with the first request that is finished after [`TURN`], and the rest of what was
//! read waits for the next turn. The clock is not read for an `XADD` that is accepted, as its bytes bound what it costs.
//! Requests that take longer than a turn are carried out in pieces ([`Next::Again`]).
//!
//! Connections that have not finished their handshake have a queue of their own, of which a round serves a few: a signature
//! takes long, and a flood of handshakes must not keep all others waiting.
//!
//! A stranger ([`places`](super::places)) is heard, answered and kept within narrow bounds: see [`STRANGE_REQUESTS_MAX`],
//! [`STRANGE_ANSWERS_BYTES`] and [`Parser::parse_stranger`].
//!
//! Connections of a critical listener have a queue and a poll of their own, which is looked at before each turn of any
//! other, and before each other piece of work of that size: a critical request waits for one at most, however many others
//! there are.
//!
//! A connection whose lane is full (in a class that blocks) is put aside, with its request, until there is room: what it
//! says meanwhile stays with the system, which tells its client to stop. Those that wait for one lane go on in the order in
//! which they came to wait, each with all that it has for that lane in one turn, as far as there is room. Others are served
//! as before.
//!
//! # Invariants
//! - Requests of one connection are carried out, and answered, in their order.
//! - Only this thread touches its connections; others send it mail and ring its bell.
//! - Nothing here waits for a shard, a subscriber or a client.
//! - Once connections have had their buffers, nothing on the way of an event allocates, unless its request takes more than
//!   half of the read budget.
#![forbid(unsafe_code)]

use super::accept::Entrance;
use super::conn::{Conn, ConnKey, Hold};
use super::counts::{End, ThreadCounts};
use super::desk::{Call, Desk, Next};
use super::mail::Mail;
use super::places::Strangers;
use super::pool::{Pool, append_within};
use super::shared::Shared;
use super::sizes::OUT_BYTES_MORE;
use super::subscriptions::report_all_lost;
use super::tap::TapsOut;
use crate::resp::{Limits, Parsed, Parser, Reply, STRANGER_FRAME_BYTES_MAX, Version};
use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Interest, Poll, Token};
use slab::Slab;
use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::task::Waker;
use std::time::{Duration, Instant};

/// The waker's token; those of connections are their places.
pub(super) const WAKER: Token = Token(usize::MAX);
/// The poll of critical connections.
pub(super) const CRITICAL: Token = Token(usize::MAX - 1);
/// Listeners count downwards from here.
pub(super) const LISTENERS: usize = usize::MAX - 2;

/// Events that the system tells at once.
pub(super) const EVENTS_MAX: usize = 1_024;

/// How long a turn may take before it ends with the request that is carried out.
const TURN: Duration = Duration::from_micros(100);

/// Requests that a stranger may make before the right password, besides those with a wrong one (`auth_tries_max`): enough for
/// what client libraries send when they connect.
pub(super) const STRANGE_REQUESTS_MAX: u32 = 16;

/// Bytes of answers in a turn, from which on a stranger is closed. Nothing more is read while answers are pending, so this and
/// one answer are the most that is pending for a stranger: 4 KiB.
const STRANGE_ANSWERS_BYTES: usize = 3 << 10;

/// Longest inline request, in bytes.
const INLINE_BYTES_MAX: u32 = 64 << 10;

pub(super) struct Worker {
    pub poll: Poll,
    pub critical: Poll,
    pub critical_conns: usize,
    pub mail: Receiver<Mail>,
    /// The first thread's alone.
    pub entrance: Option<Entrance>,
    pub conns: Slab<Conn>,
    pub ready: VecDeque<usize>,
    pub urgent: VecDeque<usize>,
    /// Those that have not finished their handshake.
    pub handshakes: VecDeque<usize>,
    pub strangers: Strangers,
    pub parser: Parser,
    pub desk: Desk,
    pub taps: TapsOut,
    /// By stream: events that never reached this thread. Empty between two looks.
    pub missed: Vec<(usize, u64)>,
    /// The message in the making.
    pub message: Vec<u8>,
    /// What may be delivered before critical connections have their turn again, in short messages.
    pub work_left: usize,
    pub pool: Pool,
    pub scratch: Box<[u8]>,
    pub out: Vec<u8>,
    pub now_s: u32,
    pub swept: Instant,
    /// Wakes this thread: what a lane is left whose room it waits for.
    pub waker: Waker,
}

/// What a read brought.
enum Brought {
    Bytes(usize),
    Nothing,
    Ended,
    Broken,
}

impl Worker {
    pub fn new(
        poll: Poll,
        mail: Receiver<Mail>,
        entrance: Option<Entrance>,
        desk: Desk,
        taps: TapsOut,
    ) -> io::Result<Self> {
        let critical = Poll::new()?;
        let fd = critical.as_raw_fd();
        poll.registry().register(&mut SourceFd(&fd), CRITICAL, Interest::READABLE)?;
        let options = &desk.shared.options;
        let limits = Limits {
            args_max: options.args_max,
            frame_bytes_max: options.frame_bytes_max,
            inline_bytes_max: options.frame_bytes_max.min(INLINE_BYTES_MAX),
        };
        let connections = options.places();
        let mut pool = Pool::new();
        pool.warm(64);
        Ok(Worker {
            poll,
            critical,
            critical_conns: 0,
            mail,
            entrance,
            // Room that is not used is not resident.
            conns: Slab::with_capacity(connections),
            ready: VecDeque::with_capacity(connections),
            urgent: VecDeque::with_capacity(options.critical_places()),
            handshakes: VecDeque::with_capacity(if options.listen_tls.is_empty() { 0 } else { connections }),
            strangers: Strangers::default(),
            parser: Parser::new(limits),
            taps,
            missed: Vec::with_capacity(desk.shared.streams.len() * usize::from(options.plan.shards)),
            message: Vec::with_capacity(4 << 10),
            work_left: 0,
            pool,
            scratch: vec![0; options.read_budget_bytes as usize].into(),
            // A turn ends when so much is answered; one answer may be longer.
            out: Vec::with_capacity(options.output_bytes_max as usize + OUT_BYTES_MORE),
            now_s: 0,
            swept: Instant::now(),
            waker: desk.shared.bells[desk.thread].clone().into(),
            desk,
        })
    }

    pub fn shared(&self) -> &Arc<Shared> {
        &self.desk.shared
    }

    /// Notes what the system says of a connection.
    pub fn note(&mut self, at: usize, event: &Event) {
        let Some(conn) = self.conns.get_mut(at) else { return };
        conn.is_readable |= event.is_readable() || event.is_read_closed();
        conn.has_ended |= event.is_read_closed();
        if event.is_error() && !matches!(conn.hold, Hold::No) {
            return self.close(at, End::Broken);
        }
        if event.is_writable() {
            self.flush(at);
        }
        self.queue(at);
    }

    /// Puts a connection in the queue, if there is something to do for it.
    pub fn queue(&mut self, at: usize) {
        let Some(conn) = self.conns.get_mut(at) else { return };
        let bytes_max = self.desk.shared.options.subscriber_bytes_max as usize;
        if !conn.is_queued && conn.can_be_served(bytes_max) {
            conn.is_queued = true;
            let queue = match conn.is_critical {
                true => &mut self.urgent,
                false if !conn.socket.is_agreed() => &mut self.handshakes,
                false => &mut self.ready,
            };
            queue.push_back(at);
        }
    }

    /// Reads a connection once, carries its requests out, and answers.
    pub fn turn(&mut self, at: usize) {
        let Worker { conns, scratch, out, pool, desk, parser, now_s, .. } = self;
        let Some(conn) = conns.get_mut(at) else { return };
        conn.is_queued = false;
        let shared = &desk.shared;
        if !conn.can_be_served(shared.options.subscriber_bytes_max as usize) {
            return;
        }
        // What a read brings has the time of the read.
        desk.publisher.ids.tick();
        desk.turn_ends = Instant::now() + TURN;
        desk.is_over = false;
        let thread = desk.thread;
        let output_max = shared.options.output_bytes_max as usize;
        let kept = conn.rest.len();
        // A request that does not leave half of the buffer gets one of its own, which grows with what has come of it. What is
        // read goes through the thread's buffer in any case, so that no room is laid out for what has not come.
        let mut own = Vec::new();
        let is_large = kept > scratch.len() / 2;
        let mut from = 0;
        if is_large {
            own = std::mem::take(&mut conn.rest);
        } else {
            scratch[..kept].copy_from_slice(&conn.rest);
            pool.take_back(&mut conn.rest);
            from = kept;
        }
        let mut to = scratch.len();
        if !conn.session.is_known {
            // At least one byte: an empty read would look like the end.
            to = to.min(from + STRANGER_FRAME_BYTES_MAX.saturating_sub(kept).max(1));
        }
        let mut len = kept;
        // Whoever takes nothing of what is pending does not get on by talking.
        let mut is_active = false;
        if !conn.has_requests {
            match read(conn, &mut scratch[from..to], &shared.threads[thread]) {
                Brought::Bytes(n) => {
                    if is_large {
                        append_within(&mut own, &scratch[..n], conn.needs);
                    }
                    len += n;
                    is_active = conn.pending() == 0;
                }
                Brought::Nothing => {}
                Brought::Ended => conn.ending = Some(End::Client),
                Brought::Broken => return self.close(at, End::Broken),
            }
        }
        let buffer = if is_large { &own[..] } else { &scratch[..] };
        conn.has_requests = false;
        out.clear();
        let mut done = 0;
        let mut commands = 0;
        let mut repeated = Vec::new();
        let mut is_again = false;
        let is_worth_it = len >= conn.needs;
        if is_worth_it {
            conn.needs = 0;
        }
        while is_worth_it && done < len {
            let is_known = conn.session.is_known;
            if !is_known {
                let is_strange = conn.session.strange_requests >= STRANGE_REQUESTS_MAX;
                if is_strange || out.len() >= STRANGE_ANSWERS_BYTES {
                    conn.ending = Some(End::Auth);
                    break;
                }
            }
            if (is_known && out.len() >= output_max) || desk.is_over {
                conn.has_requests = true;
                break;
            }
            let input = &buffer[done..len];
            let wrong_passwords = conn.session.wrong_passwords;
            match if is_known { parser.parse(input) } else { parser.parse_stranger(input) } {
                Parsed::Request { bytes } if parser.is_empty() => done += bytes,
                Parsed::Request { bytes } => {
                    let version = conn.session.version;
                    let mut call = Call {
                        parser,
                        input,
                        request: &input[..bytes],
                        key: ConnKey { at, id: conn.session.id },
                        session: &mut conn.session,
                        is_critical: conn.is_critical,
                        reply: Reply::new(out, version),
                        waited: conn.waited.take(),
                    };
                    is_again = call.waited.is_some();
                    let is_item = call.session.exec_left > 0;
                    let next = desk.run(&mut call);
                    if is_item && !matches!(next, Next::Waits(_) | Next::Again | Next::Asks) {
                        conn.session.exec_left -= 1;
                    }
                    match next {
                        Next::Goes => {}
                        // It stays at the front, and is gone on with in the next turn.
                        Next::Again => {
                            conn.has_requests = true;
                            break;
                        }
                        // It stays, and is carried out when there is room.
                        Next::Waits(room) => {
                            conn.hold = Hold::Room(room);
                            break;
                        }
                        Next::Asks => conn.hold = Hold::Answer { since_s: *now_s },
                        Next::Repeats(requests) => repeated = requests,
                        Next::Ends(end) => conn.ending = Some(end),
                    }
                    if !is_known && !conn.session.is_known && wrong_passwords == conn.session.wrong_passwords
                    {
                        conn.session.strange_requests += 1;
                    }
                    commands += 1;
                    done += bytes;
                    if conn.ending.is_some() || !matches!(conn.hold, Hold::No) || !repeated.is_empty() {
                        break;
                    }
                }
                Parsed::Incomplete { needs } => {
                    conn.needs = needs;
                    break;
                }
                Parsed::Bad(error) => {
                    Reply::new(out, Version::Resp2).error(format_args!("ERR {error}"));
                    conn.ending = Some(End::Protocol);
                    break;
                }
            }
        }
        let counts = &desk.shared.threads[thread];
        counts.commands.add(commands);
        // Who has waited for an answer was not idle.
        if is_active || (commands > 0 && conn.pending() == 0) {
            conn.active_s = *now_s;
        }
        if conn.ending.is_none() {
            conn.has_requests |= !repeated.is_empty();
            if !repeated.is_empty() {
                // They come before what else there is, in the buffer in which they were kept.
                repeated.extend_from_slice(&buffer[done..len]);
                conn.rest = repeated;
                pool.take_back(&mut own);
            } else if is_large {
                own.drain(..done);
                // One that has nothing to keep holds no buffer.
                if own.is_empty() { pool.take_back(&mut own) } else { conn.rest = own }
            } else {
                pool.append(&mut conn.rest, &buffer[done..len]);
            }
            conn.has_requests |= !matches!(conn.hold, Hold::No) && !conn.rest.is_empty();
        }
        conn.note_part(done > 0, *now_s);
        if conn.send(out, pool, counts).is_err() || conn.release(pool, counts).is_err() {
            return self.close(at, End::Broken);
        }
        self.meet(at);
        let Some(conn) = self.conns.get_mut(at) else { return };
        if let Hold::Room(room) = conn.hold {
            let counts = &self.desk.shared.threads[thread];
            counts.waits.add(1);
            self.desk.publisher.waiting.push(room.lane, at, is_again);
            return;
        }
        self.report(at);
    }

    /// After a turn or a flush: closes what has ended, queues what goes on.
    pub fn settle(&mut self, at: usize) {
        let Some(conn) = self.conns.get_mut(at) else { return };
        match conn.ending {
            Some(end) if conn.pending() == 0 => self.close(at, end),
            _ => self.queue(at),
        }
    }

    /// Writes what is pending.
    pub fn flush(&mut self, at: usize) {
        let Worker { conns, pool, desk, now_s, .. } = self;
        let Some(conn) = conns.get_mut(at) else { return };
        match conn.flush(pool, &desk.shared.threads[desk.thread], *now_s) {
            Ok(()) => self.report(at),
            Err(_) => self.close(at, End::Broken),
        }
    }

    /// Reports to a subscriber with nothing pending what it has lost, and settles.
    pub fn report(&mut self, at: usize) {
        let Worker { conns, pool, desk, now_s, .. } = self;
        let Some(conn) = conns.get_mut(at) else { return };
        let shared = &desk.shared;
        let bytes_max = shared.options.subscriber_bytes_max as usize;
        while conn.pending() == 0
            && report_all_lost(conn, bytes_max, pool, |channel| shared.channel_name(channel))
        {
            if conn.flush(pool, &shared.threads[desk.thread], *now_s).is_err() {
                return self.close(at, End::Broken);
            }
        }
        self.settle(at);
    }
}

fn read(conn: &mut Conn, buffer: &mut [u8], counts: &ThreadCounts) -> Brought {
    loop {
        counts.reads.add(1);
        return match conn.socket.read(buffer) {
            Ok(0) => Brought::Ended,
            Ok(n) => {
                counts.bytes_in.add(n as u64);
                // A read that leaves room has emptied the socket; what comes later is told anew. The end of the other side
                // may have been told already.
                let is_emptied = n < buffer.len() && conn.socket.is_emptied_by_short_read();
                conn.is_readable = !is_emptied || conn.has_ended;
                Brought::Bytes(n)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // Of encrypted bytes it may have been enough for one turn, though nothing came of them.
                conn.is_readable = !conn.socket.is_emptied_by_short_read() || conn.has_ended;
                Brought::Nothing
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => Brought::Broken,
        };
    }
}
