//! Delivery to subscribers: which connections subscribe to which channel, what is written to each, and what a slow one has
//! lost.
//!
//! # Mechanism
//! A message is written after what its subscriber has pending, once for each of its pairs (see
//! [`subscriptions`](crate::feed::subscriptions)). If that would be more than `subscriber_max_bytes`, the message is lost to
//! that pair alone, counted, and reported: `{"lost":N}` is written before the next message of the pair that finds room, or when
//! the subscriber has taken all that was pending.
//!
//! # Invariants
//! - What a subscriber has pending stays within `subscriber_max_bytes`, reports included. If nothing is pending one report is
//!   written whatever its length: it would never come otherwise.
//! - Nothing is written between the head of an `EXEC` and its last item: messages are held back until then, and count as
//!   pending.

use crate::feed::event::Record;
use crate::feed::subscriptions::{ChannelId, Pair};
use crate::net::connection::{BufferPool, Connection};
use crate::resp::{Bulks, Reply, Version};
use crate::server::metrics::WorkerCounters;
use slab::Slab;
use std::collections::BTreeSet;
use std::io::Write;

/// What a message or a report takes besides names and text: the frame, and the digits of lengths and of a count.
const FRAME_BYTES: usize = 96;

/// Bytes of a message that cost about as much as writing one that is short.
const WORK_BYTES: usize = 512;

/// What it costs to write so many bytes, in short messages.
pub(crate) fn work_of(bytes: usize) -> usize {
    1 + bytes / WORK_BYTES
}

/// The subscribers among one worker's connections, by channel.
pub(crate) struct Subscribers {
    /// The places of the connections, each once, however many pairs it has. They are visited in ascending order, so a
    /// delivery can be interrupted at any of them and go on with the next, whoever came or went meanwhile.
    by_channel: Vec<BTreeSet<usize>>,
    /// Connections that have something new to be written.
    pub to_flush: Vec<usize>,
    bytes_max: usize,
}

impl Subscribers {
    pub fn new(channels: usize, bytes_max: usize) -> Self {
        let by_channel = vec![BTreeSet::new(); channels];
        Subscribers { by_channel, to_flush: Vec::with_capacity(64), bytes_max }
    }

    /// Adds a subscriber of a channel. Returns whether it is the channel's first.
    pub fn add(&mut self, channel: ChannelId, at: usize) -> bool {
        let own = &mut self.by_channel[channel.index()];
        own.insert(at);
        own.len() == 1
    }

    /// Removes a subscriber of a channel. Returns whether it was the last.
    pub fn remove(&mut self, channel: ChannelId, at: usize) -> bool {
        let own = &mut self.by_channel[channel.index()];
        own.remove(&at);
        own.is_empty()
    }

    /// Delivers a message to the channel's subscribers from the slot `from` on, for about as much work as
    /// `work`, which is reduced by what was done. Returns the slot from which it goes on; `None` if all have
    /// the message.
    pub fn deliver(
        &mut self,
        channel: (ChannelId, &str),
        message: &[u8],
        from: usize,
        work: &mut usize,
        (connections, pool, counts): (&mut Slab<Connection>, &mut BufferPool, &WorkerCounters),
    ) -> Option<usize> {
        let bytes_max = self.bytes_max;
        self.visit(channel.0, from, work, connections, |conn| {
            deliver_to(conn, channel, message, bytes_max, pool, counts)
        })
    }

    /// Counts messages that never reached this worker as lost, in pieces like [`deliver`](Self::deliver).
    pub fn count_missed(
        &mut self,
        channel: ChannelId,
        n: u64,
        from: usize,
        work: &mut usize,
        (connections, counts): (&mut Slab<Connection>, &WorkerCounters),
    ) -> Option<usize> {
        self.visit(channel, from, work, connections, |conn| {
            let Some(own) = &mut conn.session.subscriptions else { return (1, false) };
            let mut pairs = 0;
            for pair in own.of(channel) {
                pair.lost += n;
                pairs += 1;
            }
            own.has_lost |= pairs > 0;
            counts.messages_lost.add(n * pairs as u64);
            (1 + pairs, pairs > 0)
        })
    }

    /// Visits subscribers in ascending order. `visitor` returns how much work it did, and whether there is
    /// anything to write.
    fn visit(
        &mut self,
        channel: ChannelId,
        from: usize,
        work: &mut usize,
        connections: &mut Slab<Connection>,
        mut visitor: impl FnMut(&mut Connection) -> (usize, bool),
    ) -> Option<usize> {
        for at in self.by_channel[channel.index()].range(from..) {
            if *work == 0 {
                return Some(*at);
            }
            // What is written to one that is about to end would never come to an end.
            let Some(conn) = connections.get_mut(*at).filter(|conn| conn.ending.is_none()) else { continue };
            let pending = conn.pending();
            let (done, has_news) = visitor(conn);
            *work = work.saturating_sub(done);
            // Where nothing is pending a loss is reported now: nothing else would bring it up.
            if pending == 0 && has_news {
                self.to_flush.push(*at);
            }
        }
        None
    }
}

/// Writes a message to each pair of a connection, as far as there is room. Returns what that cost, and whether there is
/// anything to write to the socket or to report.
fn deliver_to(
    conn: &mut Connection,
    (channel, name): (ChannelId, &str),
    message: &[u8],
    bytes_max: usize,
    pool: &mut BufferPool,
    counts: &WorkerCounters,
) -> (usize, bool) {
    let pending = conn.pending();
    let Connection { session, output, .. } = conn;
    let Some(own) = &mut session.subscriptions else { return (0, false) };
    // Taken out while the pairs are borrowed; it holds no memory unless an EXEC is being answered.
    let mut held = std::mem::take(&mut own.held);
    let is_held = session.exec_left > 0;
    let before = pending + held.len();
    let out = if is_held { &mut held } else { output };
    let (begun, mut has_lost, mut work) = (out.len(), false, 0);
    for pair in own.of(channel) {
        work += 1;
        let around = FRAME_BYTES + name.len() + pair.name.text.len();
        // The report of what was lost goes before the message, and takes as much without its text.
        let needs = message.len() + around * if pair.lost > 0 { 2 } else { 1 };
        if needs > bytes_max.saturating_sub(before + (out.len() - begun)) {
            pair.lost += 1;
            counts.messages_lost.add(1);
            has_lost = true;
            continue;
        }
        pool.lend(out);
        report_lost(pair, session.version, name, out);
        write_message(session.version, pair, name, message, out);
        counts.messages.add(1);
    }
    work += (out.len() - begun) / WORK_BYTES;
    let has_news = has_lost || out.len() > begun;
    own.has_lost |= has_lost;
    own.held = held;
    (work, has_news)
}

/// Reports to a subscriber that has taken all that was pending what it has lost, as far as there is room. Returns whether
/// anything was written.
pub(crate) fn report_all_lost<'a>(
    conn: &mut Connection,
    bytes_max: usize,
    pool: &mut BufferPool,
    name_of: impl Fn(ChannelId) -> &'a str,
) -> bool {
    let Connection { session, output, .. } = conn;
    let Some(own) = &mut session.subscriptions else { return false };
    if session.exec_left > 0 || !std::mem::take(&mut own.has_lost) {
        return false;
    }
    let (begun, mut has_more) = (output.len(), false);
    for (channel, pair) in own.each().filter(|(_, pair)| pair.lost > 0) {
        let name = name_of(channel);
        let is_first = output.len() == begun;
        let around = FRAME_BYTES + name.len() + pair.name.text.len();
        if !is_first && output.len() - begun + around > bytes_max {
            has_more = true;
            break;
        }
        pool.lend(output);
        report_lost(pair, session.version, name, output);
    }
    own.has_lost = has_more;
    output.len() > begun
}

/// Writes how many messages a pair has lost, if it has lost any.
fn report_lost(pair: &mut Pair, version: Version, channel: &str, out: &mut Vec<u8>) {
    if pair.lost > 0 {
        let mut text = [0; 40];
        let room = text.len();
        let mut rest = &mut text[..];
        // 20 digits and what is around them fit.
        let _ = write!(rest, "{{\"lost\":{}}}", std::mem::take(&mut pair.lost));
        let used = room - rest.len();
        write_message(version, pair, channel, &text[..used], out);
    }
}

fn write_message(version: Version, pair: &Pair, channel: &str, message: &[u8], out: &mut Vec<u8>) {
    let mut reply = Reply::new(out, version);
    if pair.name.is_pattern {
        reply.push(4);
        reply.bulk(b"pmessage");
        reply.bulk(&pair.name.text);
    } else {
        reply.push(3);
        reply.bulk(b"message");
    }
    reply.bulk(channel.as_bytes());
    reply.bulk(message);
}

/// Writes an event as a subscriber reads it: `{"id":"1-0","fields":{"name":"value"}}`. Bytes that are not UTF-8 are replaced.
pub(crate) fn write_event(record: &Record, payload: &[u8], out: &mut Vec<u8>) {
    // Writing to a vector does not fail.
    let _ = write!(out, "{{\"id\":\"{}\",\"fields\":{{", record.id);
    for (at, text) in Bulks::new(payload).enumerate() {
        if at > 0 {
            out.push(if at.is_multiple_of(2) { b',' } else { b':' });
        }
        let _ = serde_json::to_writer(&mut *out, &*String::from_utf8_lossy(text));
    }
    out.extend_from_slice(b"}}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::subscriptions::{Name, Subscription};
    use crate::net::connection::Session;
    use crate::net::socket::Socket;
    use mio::net::UnixStream;
    use std::sync::Arc;

    const BYTES_MAX: usize = 4 << 10;
    const CHANNELS: u16 = 4;
    const PATTERNS: usize = 1_024;

    /// A subscriber with as many pairs as there may be, which takes nothing.
    fn subscriber() -> (Connection, UnixStream) {
        let (socket, other) = UnixStream::pair().unwrap();
        let mut conn = Connection::new(Socket::Unix(socket), Session::default(), false, 0);
        let own = conn.session.subscriptions.insert(Box::default());
        for n in 0..PATTERNS {
            let name = Arc::new(Name { is_pattern: true, text: format!("*{n}").into_bytes().into() });
            own.add(Subscription { name, channels: (0..CHANNELS).map(ChannelId).collect() }, drop);
        }
        (conn, other)
    }

    #[test]
    fn messages_and_reports_of_losses_stay_within_the_bound() {
        let (mut conn, _other) = subscriber();
        let (mut pool, counts) = (BufferPool::new(), WorkerCounters::new(1, 4));
        let name_of = |_: ChannelId| "stream:s";
        let (mut given, mut most) = (0, 0);
        for event in 0..40u16 {
            let channel = ChannelId(event % CHANNELS);
            deliver_to(&mut conn, (channel, "stream:s"), &[b'x'; 100], BYTES_MAX, &mut pool, &counts);
            given += PATTERNS as u64;
            most = most.max(conn.output.len());
        }
        assert_eq!(counts.messages.get() + counts.messages_lost.get(), given);
        assert!(counts.messages.get() > 0 && most <= BYTES_MAX, "{most} bytes");
        // All of them come to be reported, and never more at once than may be pending.
        let mut reported = 0;
        conn.output.clear();
        while report_all_lost(&mut conn, BYTES_MAX, &mut pool, name_of) {
            assert!(conn.output.len() <= BYTES_MAX, "{} bytes", conn.output.len());
            let text = String::from_utf8(std::mem::take(&mut conn.output)).unwrap();
            let lost = text.split("{\"lost\":").skip(1).map(|rest| rest.split('}').next().unwrap());
            reported += lost.map(|digits| digits.parse::<u64>().unwrap()).sum::<u64>();
        }
        assert_eq!(reported, counts.messages_lost.get());
        // A report that is longer than the bound is written alone.
        let own = conn.session.subscriptions.as_mut().unwrap();
        own.each().take(2).for_each(|(_, pair)| pair.lost = 1);
        own.has_lost = true;
        for _ in 0..2 {
            assert!(report_all_lost(&mut conn, 1, &mut pool, name_of));
            assert_eq!(String::from_utf8_lossy(&std::mem::take(&mut conn.output)).matches("lost").count(), 1);
        }
        assert!(!report_all_lost(&mut conn, 1, &mut pool, name_of));
    }

    #[test]
    fn delivery_resumes_with_the_next_subscriber() {
        let (mut pool, counts) = (BufferPool::new(), WorkerCounters::new(1, 4));
        let mut subscribers = Subscribers::new(4, 1 << 20);
        let (mut connections, mut others) = (Slab::new(), Vec::new());
        for _ in 0..10 {
            let (conn, other) = subscriber();
            subscribers.add(ChannelId(0), connections.insert(conn));
            others.push(other);
        }
        let mut next = Some(0);
        let mut pieces = 0;
        while let Some(from) = next {
            let mut work = 2 * PATTERNS;
            let to = (&mut connections, &mut pool, &counts);
            next = subscribers.deliver((ChannelId(0), "stream:s"), b"x", from, &mut work, to);
            pieces += 1;
            // Meanwhile the place of one that has its message is taken by another, and one that has not goes.
            if pieces == 1 {
                subscribers.remove(ChannelId(0), 0);
                subscribers.add(ChannelId(0), 0);
                subscribers.remove(ChannelId(0), 9);
            }
        }
        assert!(pieces >= 5, "{pieces} pieces");
        assert_eq!(counts.messages.get(), 9 * PATTERNS as u64);
    }
}
