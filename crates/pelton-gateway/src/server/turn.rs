//! A turn of a connection: read once, run the requests, keep the rest, reply.
//!
//! # Mechanism
//! A turn reads at most `read_budget_bytes` into the worker's scratch buffer, after what earlier turns kept. It runs the
//! requests there, one after the other, and writes all replies with one call. What is left is kept for the next turn.
//!
//! A turn is bounded by work too: it ends with the first request that finishes after
//! [`TURN`](crate::command::context::TURN), and the rest of what was read waits for the next turn. The clock is not read for
//! an `XADD` that is accepted, as its bytes bound what it costs. Requests that take longer than a turn are run in pieces
//! ([`Action::Resume`]).
//!
//! An unauthenticated connection ([`admission`](crate::net::registry)) is bounded in what it may send and in what may be
//! pending for it: see [`UNAUTHENTICATED_REQUESTS_MAX`], [`UNAUTHENTICATED_REPLIES_BYTES`] and
//! [`Parser::parse_unauthenticated`].
//!
//! # Invariants
//! - Requests of one connection are run, and answered, in their order.
//! - Once connections have had their buffers, a turn does not allocate, unless a request takes more than half of the read
//!   budget.

use crate::command::context::{Action, CommandContext, Request};
use crate::net::connection::{BufferPool, Connection, ConnectionKey, Hold, append_within};
use crate::resp::{Parsed, Parser, Reply, UNAUTHENTICATED_FRAME_BYTES_MAX, Version};
use crate::server::metrics::{End, WorkerCounters};
use crate::server::worker::Worker;
use std::io;
use std::ops::ControlFlow;

/// Requests that an unauthenticated connection may make before the right password, in addition to those with a wrong one
/// (`auth_tries_max`): enough for what client libraries send when they connect.
const UNAUTHENTICATED_REQUESTS_MAX: u32 = 16;

/// Bytes of replies in a turn from which on an unauthenticated connection is closed. Nothing more is read while replies are
/// pending, so this and one reply are the most that is pending for it: 4 KiB.
const UNAUTHENTICATED_REPLIES_BYTES: usize = 3 << 10;

impl Worker {
    /// Gives a connection its turn, if there is something to do for it.
    pub fn serve_connection(&mut self, slot: usize) {
        let Worker { connections, scratch, out, pool, context, parser, now_s, .. } = self;
        let Some(conn) = connections.get_mut(slot) else { return };
        conn.is_queued = false;
        if !conn.can_be_served(context.shared.options.subscriber_bytes_max as usize) {
            return;
        }
        context.begin_turn();
        let Some(input) = Input::read(conn, scratch, pool, &context.shared.counters[context.thread]) else {
            return self.close(slot, End::Broken);
        };
        conn.has_requests = false;
        out.clear();
        let replies_max = context.shared.options.output_bytes_max as usize;
        let turn = Turn {
            slot,
            conn,
            input: input.bytes(scratch),
            parser,
            context,
            out,
            replies_max,
            now_s: *now_s,
        };
        let mut progress = turn.run_requests();
        let counters = &context.shared.counters[context.thread];
        counters.commands.add(progress.commands);
        // Waiting for a reply does not count as idle.
        if input.is_active || (progress.commands > 0 && conn.pending() == 0) {
            conn.active_s = *now_s;
        }
        if conn.ending.is_none() {
            keep_rest(conn, input, scratch, &mut progress, pool);
        }
        conn.track_partial(progress.done > 0, *now_s);
        if conn.send(out, pool, counters).is_err() || conn.release(pool, counters).is_err() {
            return self.close(slot, End::Broken);
        }
        self.end_turn(slot, progress.is_resumed);
    }

    /// Lets a connection wait for room if it has to, and reports to a subscriber what it has lost. `is_resumed`: the request
    /// that waits has waited before.
    #[inline]
    fn end_turn(&mut self, slot: usize, is_resumed: bool) {
        self.track_auth(slot);
        let Some(conn) = self.connections.get_mut(slot) else { return };
        if let Hold::Room(room) = conn.hold {
            let CommandContext { shared, publisher, thread, .. } = &mut self.context;
            shared.counters[*thread].waits.add(1);
            publisher.waiting.push(room.lane, slot, is_resumed);
            return;
        }
        self.report_lost(slot);
    }
}

/// What a read returned.
enum ReadOutcome {
    Data(usize),
    WouldBlock,
    Eof,
    Error,
}

/// The bytes of a turn: what earlier turns kept, and after it what this one has read.
struct Input {
    /// Where the bytes are: in the buffer of a large request, or in the scratch buffer.
    large: Option<Vec<u8>>,
    len: usize,
    /// Whether something was read while no reply was pending.
    is_active: bool,
}

impl Input {
    /// Reads once, unless whole requests are left of an earlier turn. `None` if the connection is broken.
    #[inline]
    fn read(
        conn: &mut Connection,
        scratch: &mut [u8],
        pool: &mut BufferPool,
        counters: &WorkerCounters,
    ) -> Option<Input> {
        let kept = conn.rest.len();
        let mut input = Input { large: None, len: kept, is_active: false };
        let mut from = 0;
        // A request that does not leave half of the scratch buffer has a buffer of its own, which grows with what has
        // arrived of it. Reads go through the scratch buffer in any case, so that no room is allocated for bytes that have
        // not arrived.
        if kept > scratch.len() / 2 {
            input.large = Some(std::mem::take(&mut conn.rest));
        } else {
            scratch[..kept].copy_from_slice(&conn.rest);
            pool.take_back(&mut conn.rest);
            from = kept;
        }
        if conn.has_requests {
            return Some(input);
        }
        let mut to = scratch.len();
        if !conn.session.is_authenticated {
            // At least one byte: an empty read would look like the end of the stream.
            to = to.min(from + UNAUTHENTICATED_FRAME_BYTES_MAX.saturating_sub(kept).max(1));
        }
        match read(conn, &mut scratch[from..to], counters) {
            ReadOutcome::Data(n) => {
                if let Some(large) = &mut input.large {
                    append_within(large, &scratch[..n], conn.needs);
                }
                input.len += n;
                // Sending requests does not reset the stall timer while replies are pending.
                input.is_active = conn.pending() == 0;
            }
            ReadOutcome::WouldBlock => {}
            ReadOutcome::Eof => conn.ending = Some(End::Client),
            ReadOutcome::Error => return None,
        }
        Some(input)
    }

    #[inline(always)]
    fn bytes<'a>(&'a self, scratch: &'a [u8]) -> &'a [u8] {
        &self.large.as_deref().unwrap_or(scratch)[..self.len]
    }
}

fn read(conn: &mut Connection, buffer: &mut [u8], counters: &WorkerCounters) -> ReadOutcome {
    loop {
        counters.reads.add(1);
        return match conn.socket.read(buffer) {
            Ok(0) => ReadOutcome::Eof,
            Ok(n) => {
                counters.bytes_in.add(n as u64);
                // A read that leaves room has emptied the socket; what arrives later is reported again. The end of the
                // stream may have been reported already.
                let is_emptied = n < buffer.len() && conn.socket.is_emptied_by_short_read();
                conn.is_readable = !is_emptied || conn.has_ended;
                ReadOutcome::Data(n)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // Encrypted bytes may have been enough for one turn, though they held no data.
                conn.is_readable = !conn.socket.is_emptied_by_short_read() || conn.has_ended;
                ReadOutcome::WouldBlock
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => ReadOutcome::Error,
        };
    }
}

/// What a turn works on while it runs requests.
struct Turn<'a> {
    slot: usize,
    conn: &'a mut Connection,
    input: &'a [u8],
    parser: &'a mut Parser,
    context: &'a mut CommandContext,
    out: &'a mut Vec<u8>,
    /// Bytes of replies from which on the requests that are left wait for the next turn.
    replies_max: usize,
    now_s: u32,
}

/// How far a turn has come.
#[derive(Default)]
struct Progress {
    /// Bytes of the input that were run.
    done: usize,
    commands: u64,
    /// Requests that come before what is left of the input.
    replay: Vec<u8>,
    /// Whether the last request had waited for room before.
    is_resumed: bool,
}

impl Turn<'_> {
    /// Runs requests until the input or the turn ends, or a request makes the connection wait or end.
    #[inline]
    fn run_requests(mut self) -> Progress {
        let mut progress = Progress::default();
        if self.input.len() < self.conn.needs {
            return progress;
        }
        self.conn.needs = 0;
        while progress.done < self.input.len() && self.may_run_another() {
            let input = &self.input[progress.done..];
            let parsed = match self.conn.session.is_authenticated {
                true => self.parser.parse(input),
                false => self.parser.parse_unauthenticated(input),
            };
            match parsed {
                Parsed::Request { bytes } if self.parser.is_empty() => progress.done += bytes,
                Parsed::Request { bytes } => {
                    if self.run_request(input, bytes, &mut progress).is_break() {
                        break;
                    }
                }
                Parsed::Incomplete { needs } => {
                    self.conn.needs = needs;
                    break;
                }
                Parsed::Bad(error) => {
                    Reply::new(self.out, Version::Resp2).error(format_args!("ERR {error}"));
                    self.conn.ending = Some(End::Protocol);
                    break;
                }
            }
        }
        progress
    }

    /// Whether the turn goes on with another request. If not, the connection has requests left, or ends.
    #[inline(always)]
    fn may_run_another(&mut self) -> bool {
        let (session, replies) = (&self.conn.session, self.out.len());
        let is_authenticated = session.is_authenticated;
        if !is_authenticated
            && (session.unauthenticated_requests >= UNAUTHENTICATED_REQUESTS_MAX
                || replies >= UNAUTHENTICATED_REPLIES_BYTES)
        {
            self.conn.ending = Some(End::Auth);
            return false;
        }
        if (is_authenticated && replies >= self.replies_max) || self.context.has_overrun {
            self.conn.has_requests = true;
            return false;
        }
        true
    }

    /// Runs the request that was parsed: the first `bytes` of `input`. Breaks if no other may be run after it.
    #[inline(always)]
    fn run_request(&mut self, input: &[u8], bytes: usize, progress: &mut Progress) -> ControlFlow<()> {
        let conn = &mut *self.conn;
        let was_authenticated = conn.session.is_authenticated;
        let wrong_passwords = conn.session.wrong_passwords;
        let version = conn.session.version;
        let mut request = Request {
            parser: self.parser,
            input,
            bytes: &input[..bytes],
            key: ConnectionKey { slot: self.slot, id: conn.session.id },
            session: &mut conn.session,
            is_critical: conn.is_critical,
            reply: Reply::new(self.out, version),
            waited: conn.waited.take(),
        };
        progress.is_resumed = request.waited.is_some();
        let is_item = request.session.exec_left > 0;
        let action = self.context.run(&mut request);
        if is_item && !matches!(action, Action::AwaitRoom(_) | Action::Resume | Action::AwaitView) {
            conn.session.exec_left -= 1;
        }
        match action {
            Action::Continue => {}
            // It stays at the front, and goes on in the next turn.
            Action::Resume => {
                conn.has_requests = true;
                return ControlFlow::Break(());
            }
            // It stays, and runs when there is room.
            Action::AwaitRoom(room) => {
                conn.hold = Hold::Room(room);
                return ControlFlow::Break(());
            }
            Action::AwaitView => conn.hold = Hold::ViewReply { since_s: self.now_s },
            Action::Replay(requests) => progress.replay = requests,
            Action::Close(end) => conn.ending = Some(end),
        }
        let session = &mut conn.session;
        if !was_authenticated && !session.is_authenticated && wrong_passwords == session.wrong_passwords {
            session.unauthenticated_requests += 1;
        }
        progress.commands += 1;
        progress.done += bytes;
        let is_last =
            conn.ending.is_some() || !matches!(conn.hold, Hold::None) || !progress.replay.is_empty();
        if is_last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// Keeps what is left of the input for the next turn.
#[inline]
fn keep_rest(
    conn: &mut Connection,
    input: Input,
    scratch: &[u8],
    progress: &mut Progress,
    pool: &mut BufferPool,
) {
    let mut replay = std::mem::take(&mut progress.replay);
    if !replay.is_empty() {
        conn.has_requests = true;
        // The replayed requests come first, in the buffer in which the transaction kept them.
        replay.extend_from_slice(&input.bytes(scratch)[progress.done..]);
        conn.rest = replay;
        if let Some(mut large) = input.large {
            pool.take_back(&mut large);
        }
    } else if let Some(mut large) = input.large {
        large.drain(..progress.done);
        // A connection that has nothing to keep holds no buffer.
        if large.is_empty() { pool.take_back(&mut large) } else { conn.rest = large }
    } else {
        pool.append(&mut conn.rest, &scratch[progress.done..input.len]);
    }
    conn.has_requests |= !matches!(conn.hold, Hold::None) && !conn.rest.is_empty();
}
