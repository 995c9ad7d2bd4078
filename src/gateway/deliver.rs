//! Delivery of messages, in pieces between which critical connections have their turns.
//!
//! # Mechanism
//! What is to be written is measured in short messages. After [`PIECE`] of them, in the midst of an event's listeners if need
//! be, critical connections are served, and the delivery goes on with the next listener. One listener is the smallest piece:
//! a message to it is written at most once for each of its subscriptions, within `subscriber_max_bytes`.
#![forbid(unsafe_code)]

use super::channel::ChannelId;
use super::desk::Desk;
use super::record::Record;
use super::subscriptions::{work_of, write_event};
use super::worker::{EVENTS_MAX, Worker};
use mio::Events;
use std::time::Duration;

/// Events that are taken from a shard's tap before connections have their turn again.
const TAP_BURST: u64 = 256;

/// What is delivered between two looks at critical connections, in short messages: some 50 µs.
const PIECE: usize = 512;

impl Worker {
    /// Gives each critical connection that has something its turn.
    pub fn serve_urgent(&mut self, events: &mut Events) {
        self.work_left = PIECE;
        if self.critical_conns == 0 {
            return;
        }
        // The system reports so many at once, and does not repeat those that it has not reported.
        for _ in 0..=self.critical_conns / EVENTS_MAX {
            let _ = self.critical.poll(events, Some(Duration::ZERO));
            for event in events.iter() {
                self.note(event.token().0, event);
            }
            for _ in 0..self.urgent.len() {
                if let Some(at) = self.urgent.pop_front() {
                    self.turn(at);
                    // Answers to a subscriber come after its messages, which would wait for the end of the delivery.
                    if self.conns.get(at).is_some_and(|conn| conn.pending() > 0) {
                        self.flush(at);
                    }
                }
            }
            if events.iter().count() < EVENTS_MAX {
                break;
            }
        }
    }

    /// Brings subscribers what shards have for them.
    pub fn deliver(&mut self, critical_events: &mut Events) {
        let mut taps = std::mem::take(&mut self.taps);
        let mut missed = std::mem::take(&mut self.missed);
        taps.poll(
            TAP_BURST,
            |record, payload| self.give_event(record, payload, critical_events),
            |stream, n| missed.push((stream, n)),
        );
        for (stream, n) in missed.drain(..) {
            self.give_missed(ChannelId(stream as u16), n, critical_events);
        }
        (self.taps, self.missed) = (taps, missed);
        while let Some(at) = self.desk.listeners.fresh.pop() {
            self.serve_urgent(critical_events);
            if let Some(conn) = self.conns.get_mut(at) {
                // What it does not take begins to be pending now.
                conn.active_s = self.now_s;
            }
            self.flush(at);
        }
    }

    fn give_event(&mut self, record: &Record, payload: &[u8], critical_events: &mut Events) {
        let mut message = std::mem::take(&mut self.message);
        message.clear();
        write_event(record, payload, &mut message);
        self.work_left = self.work_left.saturating_sub(work_of(message.len()));
        self.give(ChannelId(record.stream), &message, critical_events);
        self.message = message;
    }

    /// Gives a message to the listeners of a channel.
    pub fn give(&mut self, channel: ChannelId, message: &[u8], critical_events: &mut Events) {
        let mut next = Some(0);
        while let Some(from) = next {
            if self.work_left == 0 {
                self.serve_urgent(critical_events);
            }
            let Worker { conns, pool, desk, work_left, .. } = self;
            let Desk { listeners, shared, thread, .. } = desk;
            let to = (conns, pool, &shared.threads[*thread]);
            next = listeners.give((channel, shared.channel_name(channel)), message, from, work_left, to);
        }
    }

    /// Counts events that never reached this thread with the listeners of their stream.
    fn give_missed(&mut self, channel: ChannelId, n: u64, critical_events: &mut Events) {
        let mut next = Some(0);
        while let Some(from) = next {
            if self.work_left == 0 {
                self.serve_urgent(critical_events);
            }
            let Worker { conns, desk, work_left, .. } = self;
            let Desk { listeners, shared, thread, .. } = desk;
            next = listeners.missed(channel, n, from, work_left, (conns, &shared.threads[*thread]));
        }
    }
}
