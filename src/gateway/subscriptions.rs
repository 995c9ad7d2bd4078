//! Subscriptions: who listens to what, and what a slow one has lost.
//!
//! # Mechanism
//! A channel is a stream or a view: `stream:NAME` or `view:NAME`. All are declared, so a pattern becomes the list of the
//! channels that it matches when it is subscribed to, and no message is compared with a pattern. A message is written
//! behind what its subscriber has pending; where that would be more than `subscriber_bytes_max` it is lost to that
//! subscriber alone, counted, and told: the next message on the channel that finds room has `{"lost":N}` before it.
#![forbid(unsafe_code)]

use super::channel::ChannelId;
use super::conn::Conn;
use super::counts::ThreadCounts;
use super::pool::Pool;
use super::record::Record;
use crate::resp::{Bulks, Reply, Version};
use slab::Slab;
use std::io::Write;

/// The listeners of one thread's connections, by channel.
pub(super) struct Listeners {
    /// The places of the connections; one stands here once, however often it has subscribed.
    by_channel: Vec<Vec<usize>>,
    /// Those that have something new to be written.
    pub fresh: Vec<usize>,
    /// The message in the making.
    message: Vec<u8>,
    bytes_max: usize,
}

impl Listeners {
    pub fn new(channels: usize, bytes_max: usize) -> Self {
        let by_channel = (0..channels).map(|_| Vec::new()).collect();
        Listeners {
            by_channel,
            fresh: Vec::with_capacity(64),
            message: Vec::with_capacity(4 << 10),
            bytes_max,
        }
    }

    /// A connection listens to a channel; says whether it is the channel's first.
    pub fn add(&mut self, channel: ChannelId, at: usize) -> bool {
        let own = &mut self.by_channel[channel.index()];
        if !own.contains(&at) {
            own.push(at);
        }
        own.len() == 1
    }

    /// A connection listens to it no more; says whether it was the last.
    pub fn remove(&mut self, channel: ChannelId, at: usize) -> bool {
        let own = &mut self.by_channel[channel.index()];
        own.retain(|other| *other != at);
        own.is_empty()
    }

    /// Gives an event to the stream's listeners.
    pub fn event(
        &mut self,
        channel: ChannelId,
        name: &str,
        record: &Record,
        payload: &[u8],
        to: (&mut Slab<Conn>, &mut Pool, &ThreadCounts),
    ) {
        let mut message = std::mem::take(&mut self.message);
        message.clear();
        write_event(record, payload, &mut message);
        self.give(channel, name, &message, to);
        self.message = message;
    }

    /// Gives a message to the channel's listeners.
    pub fn give(
        &mut self,
        channel: ChannelId,
        name: &str,
        message: &[u8],
        (conns, pool, counts): (&mut Slab<Conn>, &mut Pool, &ThreadCounts),
    ) {
        for at in &self.by_channel[channel.index()] {
            // Who is about to end has to come to the end of what is pending.
            let Some(conn) = conns.get_mut(*at).filter(|conn| conn.ending.is_none()) else { continue };
            let pending = conn.pending();
            let Conn { session, output, .. } = conn;
            let Some(own) = &mut session.subscriptions else { continue };
            let begun = output.len();
            let mut has_lost = false;
            for subscription in &mut own.all {
                let Some((_, lost)) = subscription.channels.iter_mut().find(|(own, _)| *own == channel)
                else {
                    continue;
                };
                // What goes around a message is not much more than its names.
                let around = 64 + 2 * name.len() + subscription.name.len();
                let room = self.bytes_max.saturating_sub(pending + (output.len() - begun));
                if message.len() + around > room {
                    *lost += 1;
                    counts.messages_lost.add(1);
                    has_lost = true;
                    continue;
                }
                pool.lend(output);
                tell_lost(lost, session.version, subscription.is_pattern, &subscription.name, name, output);
                write_message(
                    session.version,
                    subscription.is_pattern,
                    &subscription.name,
                    name,
                    message,
                    output,
                );
                counts.messages.add(1);
            }
            // Who has nothing pending is told of a loss now: nothing else would bring it up.
            if pending == 0 && (has_lost || output.len() > begun) {
                self.fresh.push(*at);
            }
        }
    }

    /// Counts what never reached this thread.
    pub fn missed(&mut self, channel: ChannelId, n: u64, conns: &mut Slab<Conn>, counts: &ThreadCounts) {
        for at in &self.by_channel[channel.index()] {
            let Some(conn) = conns.get_mut(*at) else { continue };
            let is_pending = conn.pending() > 0;
            let Some(own) = &mut conn.session.subscriptions else { continue };
            let all = own.all.iter_mut().flat_map(|subscription| &mut subscription.channels);
            for (_, lost) in all.filter(|(own, _)| *own == channel) {
                *lost += n;
                counts.messages_lost.add(n);
            }
            if !is_pending {
                self.fresh.push(*at);
            }
        }
    }
}

/// Tells a subscriber that has room again what it has lost.
pub(super) fn tell_all_lost<'a>(conn: &mut Conn, pool: &mut Pool, name_of: impl Fn(ChannelId) -> &'a str) {
    let Conn { session, output, .. } = conn;
    let Some(own) = &mut session.subscriptions else { return };
    for subscription in &mut own.all {
        for (channel, lost) in subscription.channels.iter_mut().filter(|(_, lost)| *lost > 0) {
            pool.lend(output);
            let name = name_of(*channel);
            tell_lost(lost, session.version, subscription.is_pattern, &subscription.name, name, output);
        }
    }
}

fn tell_lost(
    lost: &mut u64,
    version: Version,
    is_pattern: bool,
    own: &[u8],
    channel: &str,
    out: &mut Vec<u8>,
) {
    if *lost > 0 {
        let mut text = [0; 40];
        let room = text.len();
        let mut rest = &mut text[..];
        // 20 digits and what is around them fit.
        let _ = write!(rest, "{{\"lost\":{}}}", std::mem::take(lost));
        let used = room - rest.len();
        write_message(version, is_pattern, own, channel, &text[..used], out);
    }
}

fn write_message(
    version: Version,
    is_pattern: bool,
    own: &[u8],
    channel: &str,
    message: &[u8],
    out: &mut Vec<u8>,
) {
    let mut reply = Reply::new(out, version);
    if is_pattern {
        reply.push(4);
        reply.bulk(b"pmessage");
        reply.bulk(own);
    } else {
        reply.push(3);
        reply.bulk(b"message");
    }
    reply.bulk(channel.as_bytes());
    reply.bulk(message);
}

/// An event as a subscriber reads it: `{"id":"1-0","fields":{"name":"value"}}`. What is no Unicode is replaced.
fn write_event(record: &Record, payload: &[u8], out: &mut Vec<u8>) {
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
