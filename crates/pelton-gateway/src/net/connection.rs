//! A connection: its socket, the input that is not a whole request yet, the replies that are not written yet, and its session.
//!
//! # Mechanism
//! Reads go into the worker's scratch buffer. A connection keeps only the beginning of a request whose rest has not arrived
//! (`rest`), and only replies that the socket did not take (`output`). While there are such replies nothing more is read, so a
//! client that does not read is not read either. (For a subscriber: while there are more than its messages alone can be.)
//!
//! # Buffers
//! A connection that waits for nothing holds no buffer, so ten thousand idle ones cost little. Buffers go back to the pool
//! of the worker that lent them ([`BufferPool`]), and what that keeps is bounded.

use crate::feed::subscriptions::{PendingSubscriptions, Subscriptions};
use crate::net::socket::Socket;
use crate::resp::Version;
use crate::server::metrics::{End, WorkerCounters};
use pelton::class::ClassId;
use pelton::engine::ASK_LIMIT;
use pelton::event::Key;
use std::io;
use std::time::Instant;

/// A connection of one worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConnectionKey {
    pub slot: usize,
    /// The connection's id: a message for a closed connection must not reach the next one in its slot.
    pub id: u64,
}

/// The room in a lane that a connection waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RoomWait {
    pub class: ClassId,
    pub key: Key,
    pub bytes: usize,
    pub lane: usize,
    pub since: Instant,
}

/// A wait for room that is over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FinishedWait {
    pub room: RoomWait,
    /// It took longer than the class waits: the event is rejected.
    pub has_timed_out: bool,
}

/// Why a connection is not served, though it may have requests.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Hold {
    /// It is served.
    None,
    /// Its lane is full, and the class blocks.
    Room(RoomWait),
    /// A view is being read for it.
    ViewReply {
        /// Since when, in seconds since the server's start.
        since_s: u32,
    },
}

/// The requests of a connection since `MULTI`.
#[derive(Debug, Default)]
pub(crate) struct Transaction {
    /// The bytes as they came.
    pub requests: Vec<u8>,
    pub len: usize,
    /// One of them is invalid, so none will run.
    pub is_broken: bool,
}

impl Transaction {
    /// Discards the requests, as one of them is invalid.
    pub fn give_up(&mut self) {
        *self = Transaction { is_broken: true, ..Transaction::default() };
    }
}

/// The state of a request that takes longer than a turn.
pub(crate) enum Continuation {
    /// `PSUBSCRIBE`: the first arguments.
    Patterns(PendingSubscriptions),
    /// `CLIENT LIST` and `CLIENT KILL`: the first connections.
    Clients(ClientScan),
}

/// A scan of the list of connections.
#[derive(Default)]
pub(crate) struct ClientScan {
    /// The id of the last that was visited.
    pub last: Option<u64>,
    pub text: String,
    pub killed: usize,
    pub kills_itself: bool,
}

/// The client's side of a connection: its id, protocol version, authentication, subscriptions and
/// transaction.
#[derive(Default)]
pub(crate) struct Session {
    /// Unique in the server.
    pub id: u64,
    pub version: Version,
    /// Whether it has sent the password, or needs none.
    pub is_authenticated: bool,
    /// Since when it has been unauthenticated, if it is: in seconds since the server's start.
    pub unauthenticated_since_s: u32,
    /// Requests that it made while unauthenticated, without those that had a wrong password.
    pub unauthenticated_requests: u32,
    pub wrong_passwords: u32,
    pub name: Option<Box<str>>,
    pub subscriptions: Option<Box<Subscriptions>>,
    /// Its requests since `MULTI`.
    pub transaction: Option<Box<Transaction>>,
    /// Items of the array of `EXEC` that are not written yet.
    pub exec_left: usize,
    /// The state of the next request, if it has run in part.
    pub continuation: Option<Box<Continuation>>,
}

pub(crate) struct Connection {
    pub socket: Socket,
    pub session: Session,
    pub is_critical: bool,
    /// Its ticket in the worker's [`UnauthenticatedQueue`](crate::net::registry::UnauthenticatedQueue), while
    /// it is in it.
    pub auth_ticket: Option<u64>,
    /// There may be something to read.
    pub is_readable: bool,
    /// The other end has closed its side: read until there is nothing.
    pub has_ended: bool,
    /// It is in the worker's queue.
    pub is_queued: bool,
    pub hold: Hold,
    /// How its next request has waited for room, if it has.
    pub waited: Option<FinishedWait>,
    /// It is about to end: nothing more is read, and when all is written it is closed.
    pub ending: Option<End>,
    /// `rest` may hold whole requests.
    pub has_requests: bool,
    /// Bytes of `rest` that are needed before it is worth parsing.
    pub needs: usize,
    /// The progress of the request whose beginning is `rest`, while more of it has to arrive.
    pub partial: Option<PartialRequest>,
    pub rest: Vec<u8>,
    pub output: Vec<u8>,
    /// How much of `output` is written.
    pub written: usize,
    /// When it last made progress, in seconds since the server's start.
    pub active_s: u32,
}

/// The progress of a request that has arrived in part.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PartialRequest {
    /// When it last made enough progress, in seconds since the server's start.
    since_s: u32,
    /// How much of it had arrived then.
    bytes: usize,
}

/// By how many bytes a partial request must grow within `stall_s`. With the default `stall_s`, the slowest
/// client that is not cut off sends some 550 bytes a second.
const PARTIAL_BYTES_MIN: usize = 16 << 10;

/// How long the reading of a view may take, in seconds. A shard that does not answer is given up long before;
/// this is for when nothing answers.
pub(crate) const ANSWER_MAX_S: u32 = 12 * ASK_LIMIT.as_secs() as u32;

/// Timeouts of connections, in seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimeLimits {
    pub idle_s: u64,
    pub stall_s: u64,
}

/// Whether a connection has timed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overdue {
    /// It goes on.
    No,
    /// It is closed.
    Close(End),
    /// The view that it waits for was not read in time.
    ViewReply,
}

impl Connection {
    pub fn new(socket: Socket, session: Session, is_critical: bool, now_s: u32) -> Self {
        Connection {
            socket,
            session,
            is_critical,
            auth_ticket: None,
            is_readable: true,
            has_ended: false,
            is_queued: false,
            hold: Hold::None,
            waited: None,
            ending: None,
            has_requests: false,
            needs: 0,
            partial: None,
            rest: Vec::new(),
            output: Vec::new(),
            written: 0,
            active_s: now_s,
        }
    }

    /// Bytes that the socket has not taken.
    pub fn pending(&self) -> usize {
        self.unwritten() + self.socket.held()
    }

    fn unwritten(&self) -> usize {
        self.output.len() - self.written
    }

    /// Whether it can be served: it is not suspended, and there may be something to do. A subscriber nearly
    /// always has messages pending, `subscriber_bytes_max` at most, and must be able to unsubscribe.
    pub fn can_be_served(&self, subscriber_bytes_max: usize) -> bool {
        let pending_max = if self.session.subscriptions.is_some() { subscriber_bytes_max } else { 0 };
        matches!(self.hold, Hold::None)
            && self.ending.is_none()
            && self.pending() <= pending_max
            && (self.has_requests || self.is_readable)
    }

    /// Whether it is unauthenticated: it has not sent the password, or not finished its handshake.
    pub fn is_unauthenticated(&self) -> bool {
        !self.session.is_authenticated || !self.socket.is_handshake_done()
    }

    /// Records, after a turn, the progress of the request whose beginning is `rest`.
    pub fn track_partial(&mut self, is_another: bool, now_s: u32) {
        let waits = matches!(self.hold, Hold::None) && !self.has_requests && !self.rest.is_empty();
        let bytes = self.rest.len();
        self.partial = match self.partial {
            _ if !waits => None,
            Some(part) if !is_another && bytes < part.bytes + PARTIAL_BYTES_MIN => Some(part),
            _ => Some(PartialRequest { since_s: now_s, bytes }),
        };
    }

    /// Whether it has timed out. More seconds than a limit must have begun, so that at least the limit has
    /// passed.
    pub fn overdue(&mut self, now_s: u32, limits: TimeLimits) -> Overdue {
        let since = |since_s: u32| u64::from(now_s.saturating_sub(since_s));
        let is_stalled = |since_s: u32| since(since_s) > limits.stall_s;
        // First of all: an unauthenticated connection gets no more time, whatever it sends, reads or waits
        // for.
        if self.auth_ticket.is_some() && is_stalled(self.session.unauthenticated_since_s) {
            let why = if self.socket.is_handshake_done() { End::Auth } else { End::Tls };
            return Overdue::Close(self.ending.unwrap_or(why));
        }
        let is_held = !matches!(self.hold, Hold::None);
        if let Hold::ViewReply { since_s } = self.hold
            && now_s.saturating_sub(since_s) > ANSWER_MAX_S
        {
            return Overdue::ViewReply;
        }
        // A connection that waits for a lane or a view and has closed its side may still read its replies,
        // for a while.
        if (self.pending() > 0 || (self.has_ended && is_held)) && is_stalled(self.active_s) {
            return Overdue::Close(End::Stalled);
        }
        if let Some(part) = &mut self.partial {
            if self.output.len() > self.written || self.socket.held() > 0 {
                // It is not read while replies are pending, so its request cannot make progress.
                part.since_s = now_s;
            } else if is_stalled(part.since_s) {
                return Overdue::Close(End::Stalled);
            }
        }
        let may_be_silent = self.pending() > 0 || is_held || self.session.subscriptions.is_some();
        if !may_be_silent && since(self.active_s) > limits.idle_s {
            return Overdue::Close(End::Idle);
        }
        Overdue::No
    }

    /// Writes replies, and keeps what the socket does not take.
    pub fn send(&mut self, answers: &[u8], pool: &mut BufferPool, counts: &WorkerCounters) -> io::Result<()> {
        let mut sent = 0;
        if self.pending() == 0 {
            sent = self.write_all(answers, counts)?;
        }
        pool.append(&mut self.output, &answers[sent..]);
        Ok(())
    }

    /// Writes the messages that were held back during an `EXEC`, if its last item is written.
    pub fn release(&mut self, pool: &mut BufferPool, counts: &WorkerCounters) -> io::Result<()> {
        let Some(own) = &mut self.session.subscriptions else { return Ok(()) };
        if self.session.exec_left > 0 || own.held.is_empty() {
            return Ok(());
        }
        let mut held = std::mem::take(&mut own.held);
        self.send(&held, pool, counts)?;
        pool.take_back(&mut held);
        Ok(())
    }

    /// Writes what is pending.
    pub fn flush(&mut self, pool: &mut BufferPool, counts: &WorkerCounters, now_s: u32) -> io::Result<()> {
        let handed_on = self.socket.flush()?;
        if handed_on > 0 {
            counts.writes.add(1);
            self.active_s = now_s;
        }
        if self.unwritten() == 0 {
            return Ok(());
        }
        let output = std::mem::take(&mut self.output);
        let sent = self.write_all(&output[self.written..], counts);
        self.output = output;
        let sent = sent?;
        if sent > 0 {
            self.active_s = now_s;
        }
        self.written += sent;
        if self.unwritten() == 0 {
            self.written = 0;
            pool.take_back(&mut self.output);
        } else if self.written >= self.unwritten() {
            // A client that takes bytes but never catches up would make it grow forever.
            self.output.drain(..std::mem::take(&mut self.written));
        }
        Ok(())
    }

    /// Writes as much as the socket takes.
    fn write_all(&mut self, bytes: &[u8], counts: &WorkerCounters) -> io::Result<usize> {
        let mut sent = 0;
        while sent < bytes.len() {
            counts.writes.add(1);
            match self.socket.write(&bytes[sent..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    sent += n;
                    counts.bytes_out.add(n as u64);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(sent)
    }
}

/// The capacity of a new buffer, in bytes: a pipeline's cut-off request, or a few hundred replies.
const BUFFER_BYTES: usize = 4 << 10;

/// Larger buffers are freed.
const BUFFER_BYTES_KEPT_MAX: usize = 64 << 10;

/// Buffers kept for the next connections.
const BUFFERS_KEPT_MAX: usize = 1_024;

/// The spare buffers of one worker.
pub(crate) struct BufferPool {
    spare: Vec<Vec<u8>>,
}

impl BufferPool {
    pub fn new() -> Self {
        BufferPool { spare: Vec::with_capacity(BUFFERS_KEPT_MAX) }
    }

    /// Allocates a buffer for each of this many connections, so that the first of them allocate nothing.
    pub fn warm(&mut self, connections: usize) {
        let want = connections.min(BUFFERS_KEPT_MAX);
        while self.spare.len() < want {
            self.spare.push(Vec::with_capacity(BUFFER_BYTES));
        }
    }

    /// Gives `to` a buffer if it has none.
    pub fn lend(&mut self, to: &mut Vec<u8>) {
        if to.capacity() == 0 {
            *to = self.spare.pop().unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES));
        }
    }

    /// Appends bytes to a buffer.
    pub fn append(&mut self, to: &mut Vec<u8>, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.lend(to);
            to.extend_from_slice(bytes);
        }
    }

    /// Takes a buffer back, and leaves an empty one.
    pub fn take_back(&mut self, buffer: &mut Vec<u8>) {
        let mut buffer = std::mem::take(buffer);
        if (1..=BUFFER_BYTES_KEPT_MAX).contains(&buffer.capacity()) && self.spare.len() < BUFFERS_KEPT_MAX {
            buffer.clear();
            self.spare.push(buffer);
        }
    }
}

/// Appends bytes to a buffer that doubles as it grows, but not beyond `bytes_max` unless its contents are
/// longer.
pub(crate) fn append_within(to: &mut Vec<u8>, bytes: &[u8], bytes_max: usize) {
    let len = to.len() + bytes.len();
    if len > to.capacity() {
        let room = (2 * to.capacity()).min(bytes_max).max(len);
        to.reserve_exact(room - to.len());
    }
    to.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use mio::net::UnixStream;

    const LIMITS: TimeLimits = TimeLimits { idle_s: u64::MAX, stall_s: 30 };

    fn conn(is_authenticated: bool) -> (Connection, UnixStream) {
        let (own, other) = UnixStream::pair().unwrap();
        let session = Session {
            id: 1,
            version: Version::Resp2,
            is_authenticated,
            unauthenticated_since_s: 100,
            unauthenticated_requests: 0,
            wrong_passwords: 0,
            name: None,
            subscriptions: None,
            transaction: None,
            exec_left: 0,
            continuation: None,
        };
        let mut conn = Connection::new(Socket::Unix(own), session, false, 100);
        conn.auth_ticket = (!is_authenticated).then_some(0);
        (conn, other)
    }

    #[test]
    fn pending_replies_give_an_unauthenticated_connection_no_more_time() {
        for is_authenticated in [false, true] {
            let (mut conn, _other) = conn(is_authenticated);
            conn.output = vec![0; 4_000];
            // It takes a byte each second.
            for now_s in 100..200 {
                conn.active_s = now_s;
                let is_over = !is_authenticated && now_s > 130;
                let expected = if is_over { Overdue::Close(End::Auth) } else { Overdue::No };
                assert_eq!(conn.overdue(now_s, LIMITS), expected, "{now_s}");
            }
        }
    }

    #[test]
    fn view_reply_has_a_time_limit() {
        let (mut conn, _other) = conn(true);
        conn.hold = Hold::ViewReply { since_s: 100 };
        assert_eq!(conn.overdue(100 + ANSWER_MAX_S, LIMITS), Overdue::No);
        assert_eq!(conn.overdue(101 + ANSWER_MAX_S, LIMITS), Overdue::ViewReply);
    }

    #[test]
    fn request_does_not_age_while_answers_are_pending() {
        let (mut conn, _other) = conn(true);
        conn.rest = vec![b'*'; 10];
        conn.track_partial(true, 100);
        conn.rest.push(b'1');
        conn.track_partial(false, 120);
        assert_eq!(
            (conn.overdue(130, LIMITS), conn.overdue(131, LIMITS)),
            (Overdue::No, Overdue::Close(End::Stalled))
        );
        conn.output = vec![0; 10];
        conn.active_s = 131;
        assert_eq!(conn.overdue(131, LIMITS), Overdue::No);
        conn.output.clear();
        assert_eq!(
            (conn.overdue(161, LIMITS), conn.overdue(162, LIMITS)),
            (Overdue::No, Overdue::Close(End::Stalled))
        );
        // Enough of it has come.
        conn.rest.resize(11 + PARTIAL_BYTES_MIN, b'x');
        conn.track_partial(false, 162);
        assert_eq!(conn.overdue(192, LIMITS), Overdue::No);
    }
}
