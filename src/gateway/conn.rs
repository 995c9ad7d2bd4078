//! A connection: its socket, what it has not said to the end, what it has not taken yet, and who it is.
//!
//! # Mechanism
//! A connection holds no buffer while it waits for nothing. What is read lies in the thread's buffer; only the beginning
//! of a request whose rest has not come is kept (`rest`), and only answers that the socket did not take (`output`). While
//! there are such answers nothing more is read, so a client that does not read stops being read itself. (Of a subscriber,
//! while there are more than its messages alone can be.)
#![forbid(unsafe_code)]

use super::channel::{Chosen, Subscriptions};
use super::counts::{End, ThreadCounts};
use super::pool::Pool;
use super::socket::Socket;
use crate::class::ClassId;
use crate::engine::ASK_LIMIT;
use crate::event::Key;
use crate::resp::Version;
use std::io;
use std::time::Instant;

/// A connection of one thread: its place, and whose turn in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ConnKey {
    pub at: usize,
    /// The connection's id, so that what was meant for one that is gone does not reach the next in its place.
    pub id: u64,
}

/// What a connection waits for in a lane.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub class: ClassId,
    pub key: Key,
    pub bytes: usize,
    pub lane: usize,
    pub since: Instant,
}

/// A wait that is over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waited {
    pub room: Room,
    /// It was longer than the class waits: what has waited is refused.
    pub is_too_long: bool,
}

/// Why a connection is not served, though it may have requests.
#[derive(Clone, Copy, Debug)]
pub(super) enum Hold {
    /// It is served.
    No,
    /// Its lane is full, and the class blocks.
    Room(Room),
    /// A view is being read for it.
    Answer {
        /// Since when, in seconds since the server's start.
        since_s: u32,
    },
}

/// What a connection has said since `MULTI`.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    /// As it came.
    pub requests: Vec<u8>,
    pub len: usize,
    /// One of them cannot be carried out, so none is.
    pub is_broken: bool,
}

impl Transaction {
    /// One of its requests cannot be carried out: what it holds is of no use any more.
    pub fn give_up(&mut self) {
        *self = Transaction { is_broken: true, ..Transaction::default() };
    }
}

/// A request that takes longer than a turn may, as far as it was carried out.
pub(super) enum Begun {
    /// `PSUBSCRIBE`: the first arguments.
    Patterns(Chosen),
    /// `CLIENT LIST` and `CLIENT KILL`: the first connections.
    Walk(Walk),
}

/// A walk over the list of connections.
#[derive(Default)]
pub(super) struct Walk {
    /// The id of the last that was visited.
    pub last: Option<u64>,
    pub text: String,
    pub killed: usize,
    pub kills_itself: bool,
}

/// Who a connection is, and how it wants to be spoken to.
#[derive(Default)]
pub(super) struct Session {
    /// Unique in the server.
    pub id: u64,
    pub version: Version,
    /// Whether it has said the password, or needs none.
    pub is_known: bool,
    /// Since when it has been a stranger, if it is one: in seconds since the server's start.
    pub stranger_since_s: u32,
    /// Requests that it made as a stranger, without those that had a wrong password.
    pub strange_requests: u32,
    pub wrong_passwords: u32,
    pub name: Option<Box<str>>,
    pub subscriptions: Option<Box<Subscriptions>>,
    /// What it has said since `MULTI`.
    pub transaction: Option<Box<Transaction>>,
    /// Items of the array of `EXEC` that are not written yet.
    pub exec_left: usize,
    /// What was done of the request that comes next, if it is carried out in pieces.
    pub begun: Option<Box<Begun>>,
}

pub(super) struct Conn {
    pub socket: Socket,
    pub session: Session,
    pub is_critical: bool,
    /// Its ticket among the thread's strangers, while it is one.
    pub stranger: Option<u64>,
    /// There may be something to read.
    pub is_readable: bool,
    /// The other end has closed its side: read until there is nothing.
    pub has_ended: bool,
    /// It stands in the queue of those to be served.
    pub is_queued: bool,
    pub hold: Hold,
    /// How its next request has waited for room, if it has.
    pub waited: Option<Waited>,
    /// The end is near: nothing more is read, and when all is written it is closed.
    pub ending: Option<End>,
    /// `rest` may hold whole requests.
    pub has_requests: bool,
    /// Bytes of `rest` that are needed before a look is worth it.
    pub needs: usize,
    /// How the request whose beginning is `rest` gets on, where the rest of it has to come.
    pub part: Option<Part>,
    pub rest: Vec<u8>,
    pub output: Vec<u8>,
    /// How much of `output` is written.
    pub written: usize,
    /// When it last got on, in seconds since the server's start.
    pub active_s: u32,
}

/// How a request that is not all there gets on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    /// When it last came on by enough, in seconds since the server's start.
    since_s: u32,
    /// How much of it was there then.
    bytes: usize,
}

/// By how much a request that is not all there must come on within `stall_s`, in bytes. The slowest client that is not cut
/// off sends some 550 bytes a second, with the usual `stall_s`.
const PART_BYTES_MIN: usize = 16 << 10;

/// How long a view may take to be read for a connection, in seconds. A shard that does not answer is given up long before; this
/// is for when nothing answers.
pub(super) const ANSWER_MAX_S: u32 = 12 * ASK_LIMIT.as_secs() as u32;

/// How long connections may take, in seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub idle_s: u64,
    pub stall_s: u64,
}

/// What has become of a connection in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    /// It goes on.
    No,
    /// It is closed.
    Ends(End),
    /// The view that it waits for was not read in time.
    Answer,
}

impl Conn {
    pub fn new(socket: Socket, session: Session, is_critical: bool, now_s: u32) -> Self {
        Conn {
            socket,
            session,
            is_critical,
            stranger: None,
            is_readable: true,
            has_ended: false,
            is_queued: false,
            hold: Hold::No,
            waited: None,
            ending: None,
            has_requests: false,
            needs: 0,
            part: None,
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

    /// Whether it can be served: nothing holds it, and there may be something to do. A subscriber nearly always has messages
    /// pending, `subscriber_bytes_max` at most, and must be able to say that it wants no more of them.
    pub fn can_be_served(&self, subscriber_bytes_max: usize) -> bool {
        let pending_max = if self.session.subscriptions.is_some() { subscriber_bytes_max } else { 0 };
        matches!(self.hold, Hold::No)
            && self.ending.is_none()
            && self.pending() <= pending_max
            && (self.has_requests || self.is_readable)
    }

    /// Whether it is a stranger: it has not authenticated, or not finished its handshake.
    pub fn is_stranger(&self) -> bool {
        !self.session.is_known || !self.socket.is_agreed()
    }

    /// Writes down, after a turn, how the request gets on of which `rest` is the beginning.
    pub fn note_part(&mut self, is_another: bool, now_s: u32) {
        let waits = matches!(self.hold, Hold::No) && !self.has_requests && !self.rest.is_empty();
        let bytes = self.rest.len();
        self.part = match self.part {
            _ if !waits => None,
            Some(part) if !is_another && bytes < part.bytes + PART_BYTES_MIN => Some(part),
            _ => Some(Part { since_s: now_s, bytes }),
        };
    }

    /// Whether its time is over. More seconds than a limit must have begun, so that at least the limit has gone by.
    pub fn overdue(&mut self, now_s: u32, limits: Limits) -> Overdue {
        let since = |since_s: u32| u64::from(now_s.saturating_sub(since_s));
        let is_stalled = |since_s: u32| since(since_s) > limits.stall_s;
        // Before everything else: whatever a stranger sends, reads or waits for, it does not get more time.
        if self.stranger.is_some() && is_stalled(self.session.stranger_since_s) {
            let why = if self.socket.is_agreed() { End::Auth } else { End::Tls };
            return Overdue::Ends(self.ending.unwrap_or(why));
        }
        let is_held = !matches!(self.hold, Hold::No);
        if let Hold::Answer { since_s } = self.hold
            && now_s.saturating_sub(since_s) > ANSWER_MAX_S
        {
            return Overdue::Answer;
        }
        // One that waits for a lane or a view and has closed its side may still read its answers, for a while.
        if (self.pending() > 0 || (self.has_ended && is_held)) && is_stalled(self.active_s) {
            return Overdue::Ends(End::Stalled);
        }
        if let Some(part) = &mut self.part {
            if self.output.len() > self.written || self.socket.held() > 0 {
                // It is not read while answers are pending, so its request cannot come on.
                part.since_s = now_s;
            } else if is_stalled(part.since_s) {
                return Overdue::Ends(End::Stalled);
            }
        }
        let may_be_silent = self.pending() > 0 || is_held || self.session.subscriptions.is_some();
        if !may_be_silent && since(self.active_s) > limits.idle_s {
            return Overdue::Ends(End::Idle);
        }
        Overdue::No
    }

    /// Writes what was answered; keeps what the socket does not take.
    pub fn send(&mut self, answers: &[u8], pool: &mut Pool, counts: &ThreadCounts) -> io::Result<()> {
        let mut sent = 0;
        if self.pending() == 0 {
            sent = self.write_all(answers, counts)?;
        }
        pool.append(&mut self.output, &answers[sent..]);
        Ok(())
    }

    /// Writes the messages that were held back while an `EXEC` was answered, if its last item is written.
    pub fn release(&mut self, pool: &mut Pool, counts: &ThreadCounts) -> io::Result<()> {
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
    pub fn flush(&mut self, pool: &mut Pool, counts: &ThreadCounts, now_s: u32) -> io::Result<()> {
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
            // One who takes all but never catches up would make it grow for ever.
            self.output.drain(..std::mem::take(&mut self.written));
        }
        Ok(())
    }

    /// Writes as much as the socket takes.
    fn write_all(&mut self, bytes: &[u8], counts: &ThreadCounts) -> io::Result<usize> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use mio::net::UnixStream;

    const LIMITS: Limits = Limits { idle_s: u64::MAX, stall_s: 30 };

    fn conn(is_known: bool) -> (Conn, UnixStream) {
        let (own, other) = UnixStream::pair().unwrap();
        let session = Session {
            id: 1,
            version: Version::Resp2,
            is_known,
            stranger_since_s: 100,
            strange_requests: 0,
            wrong_passwords: 0,
            name: None,
            subscriptions: None,
            transaction: None,
            exec_left: 0,
            begun: None,
        };
        let mut conn = Conn::new(Socket::Unix(own), session, false, 100);
        conn.stranger = (!is_known).then_some(0);
        (conn, other)
    }

    #[test]
    fn stranger_with_answers_pending_has_no_more_time_than_others() {
        for is_known in [false, true] {
            let (mut conn, _other) = conn(is_known);
            conn.output = vec![0; 4_000];
            // It takes a byte each second.
            for now_s in 100..200 {
                conn.active_s = now_s;
                let is_over = !is_known && now_s > 130;
                let expected = if is_over { Overdue::Ends(End::Auth) } else { Overdue::No };
                assert_eq!(conn.overdue(now_s, LIMITS), expected, "{now_s}");
            }
        }
    }

    #[test]
    fn connection_does_not_wait_for_a_view_without_end() {
        let (mut conn, _other) = conn(true);
        conn.hold = Hold::Answer { since_s: 100 };
        assert_eq!(conn.overdue(100 + ANSWER_MAX_S, LIMITS), Overdue::No);
        assert_eq!(conn.overdue(101 + ANSWER_MAX_S, LIMITS), Overdue::Answer);
    }

    #[test]
    fn request_does_not_age_while_answers_are_pending() {
        let (mut conn, _other) = conn(true);
        conn.rest = vec![b'*'; 10];
        conn.note_part(true, 100);
        conn.rest.push(b'1');
        conn.note_part(false, 120);
        assert_eq!(
            (conn.overdue(130, LIMITS), conn.overdue(131, LIMITS)),
            (Overdue::No, Overdue::Ends(End::Stalled))
        );
        conn.output = vec![0; 10];
        conn.active_s = 131;
        assert_eq!(conn.overdue(131, LIMITS), Overdue::No);
        conn.output.clear();
        assert_eq!(
            (conn.overdue(161, LIMITS), conn.overdue(162, LIMITS)),
            (Overdue::No, Overdue::Ends(End::Stalled))
        );
        // Enough of it has come.
        conn.rest.resize(11 + PART_BYTES_MIN, b'x');
        conn.note_part(false, 162);
        assert_eq!(conn.overdue(192, LIMITS), Overdue::No);
    }
}
