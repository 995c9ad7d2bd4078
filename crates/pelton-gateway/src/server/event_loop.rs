//! The event loop of a worker: what it does, in which order, and when it sleeps.
//!
//! # Mechanism
//! A round is: sleep until the system reports an event or another thread wakes the worker (not at all while a queue is not
//! empty); record the events; receive messages and accept connections; resume connections whose lanes have room again; give
//! each queued connection one turn; deliver to subscribers what shards have for them; close idle and stalled connections.
//! Critical connections have their turns before each of these steps, and before each turn.
//!
//! While connections wait for room, the worker registers with their lanes before each sleep. So it sleeps on its sockets as
//! always, and other connections with a request are served at once.
//!
//! # Delivery
//! Messages to subscribers are delivered in pieces, between which critical connections have their turns. What is to be
//! written is measured in short messages: after [`PIECE`] of them, amid an event's subscribers if need be, critical
//! connections are served, and the delivery goes on with the next subscriber. One subscriber is the smallest piece: a message
//! to it is written at most once for each of its subscriptions, within `subscriber_max_bytes`.

use crate::command::context::CommandContext;
use crate::config::validate::LISTENERS_MAX;
use crate::feed::event::Record;
use crate::feed::subscribers::{work_of, write_event};
use crate::feed::subscriptions::ChannelId;
use crate::net::acceptor::Acceptor;
use crate::net::connection::{Connection, ConnectionKey, FinishedWait, Hold, RoomWait};
use crate::net::registry::{Budget, Displacement, NewConnection};
use crate::server::metrics::End;
use crate::server::state::{Stage, WorkerMessage};
use crate::server::sweep::SWEEP;
use crate::server::worker::{CRITICAL, EVENTS_MAX, LISTENERS, WAKER, Worker};
use mio::{Events, Token};
#[cfg(feature = "audit")]
use pelton::memory::audit::thread_allocations;
use pelton::park::Alarm;
use std::task::Context;
use std::time::Duration;

/// Handshakes that a round serves: at most as many signatures of 20 µs (ECDSA) to 1 ms (RSA).
const HANDSHAKES_A_ROUND: usize = 4;

/// Events that are taken from a shard's tap before connections have their turn again.
const TAP_BURST: u64 = 256;

/// What is delivered before critical connections are served again, in short messages: some 50 µs.
const PIECE: usize = 512;

impl Worker {
    /// Serves until the server stops.
    pub fn run(&mut self) {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut critical_events = Events::with_capacity(EVENTS_MAX);
        while self.shared().stage() == Stage::Running {
            self.wait_for_events(&mut events);
            self.apply_events(&events, &mut critical_events);
            self.receive_messages(&mut critical_events);
            self.serve_critical(&mut critical_events);
            self.accept_connections(&mut critical_events);
            // Connections that wait for room go before those that would take it from them.
            self.resume_waiting(&mut critical_events);
            self.serve(&mut critical_events);
            self.deliver_events(&mut critical_events);
            self.sweep();
            #[cfg(feature = "audit")]
            self.shared().counters[self.context.thread].allocations.set(thread_allocations());
        }
        self.drain(&mut events);
    }

    /// Sleeps until there is something to do.
    fn wait_for_events(&mut self, events: &mut Events) {
        let is_busy = !self.ready.is_empty()
            || !self.critical_ready.is_empty()
            || !self.handshakes.is_empty()
            || self.acceptor.as_ref().is_some_and(Acceptor::has_pending);
        let mut timeout = Some(Duration::ZERO);
        if !is_busy {
            // Armed before the last checks: whatever comes after them wakes the worker.
            self.alarm().arm();
            if !self.taps.is_ready() {
                let limit = self.room_timeout();
                timeout = self.context.clock.sleep_limit(limit);
            }
        }
        // An interrupted poll is repeated in the next round.
        let _ = self.poll.poll(events, timeout);
        self.alarm().disarm();
        self.now_s = self.context.clock.now_s();
    }

    fn alarm(&self) -> &Alarm {
        &self.context.shared.wakers[self.context.thread].alarm
    }

    /// How long the worker may sleep if it has nothing to do but to wait for room. Registers with the lanes
    /// for which connections wait. Zero if there is room already, or the limit of a class is over.
    fn room_timeout(&mut self) -> Duration {
        let mut time = SWEEP;
        if self.context.publisher.waiting.is_empty() {
            return time;
        }
        for lane in 0..self.context.publisher.waiting.lanes() {
            let Some((_, room)) = self.first_waiting(lane) else { continue };
            let mut context = Context::from_waker(&self.waker);
            let producer = &mut self.context.publisher.producer;
            if producer.poll_room(room.class, room.key, room.bytes, &mut context).is_ready() {
                return Duration::ZERO;
            }
            if let Some(limit) = self.shared().block_limits[room.class.index()] {
                time = time.min(limit.saturating_sub(self.context.clock.elapsed(room.since)));
            }
        }
        time
    }

    fn apply_events(&mut self, events: &Events, critical_events: &mut Events) {
        for event in events {
            match event.token() {
                // Messages and critical connections are checked in any case.
                WAKER | CRITICAL => {}
                Token(token) if token > LISTENERS - LISTENERS_MAX => {
                    if let Some(acceptor) = &mut self.acceptor {
                        acceptor.mark_ready(LISTENERS - token);
                    }
                }
                Token(slot) => {
                    // The event will write.
                    if self.connections.get(slot).is_some_and(|conn| conn.pending() > 0) {
                        self.serve_critical(critical_events);
                    }
                    self.apply_event(slot, event);
                }
            }
        }
    }

    /// Gives each queued connection its turn, and a few of those in a handshake; critical ones before each of
    /// them.
    fn serve(&mut self, critical_events: &mut Events) {
        for _ in 0..self.handshakes.len().min(HANDSHAKES_A_ROUND) {
            self.serve_critical(critical_events);
            if let Some(slot) = self.handshakes.pop_front() {
                self.serve_connection(slot);
            }
        }
        for _ in 0..self.ready.len() {
            // A stop whose deadline is over does not wait for all turns.
            if self.shared().stage() == Stage::Terminating {
                return;
            }
            self.serve_critical(critical_events);
            if let Some(slot) = self.ready.pop_front() {
                self.serve_connection(slot);
            }
        }
        self.serve_critical(critical_events);
    }

    /// Resumes connections whose lanes have room, or whose limit is over.
    fn resume_waiting(&mut self, critical_events: &mut Events) {
        if self.context.publisher.waiting.is_empty() {
            return;
        }
        for lane in 0..self.context.publisher.waiting.lanes() {
            // Each once: a connection that fills the lane again waits after the others.
            for _ in 0..self.context.publisher.waiting.len(lane) {
                self.serve_critical(critical_events);
                let Some((slot, room)) = self.first_waiting(lane) else { break };
                let RoomWait { class, key, bytes, since, .. } = room;
                let limit = self.shared().block_limits[class.index()];
                let has_timed_out = limit.is_some_and(|limit| self.context.clock.elapsed(since) >= limit);
                if !has_timed_out && self.context.publisher.producer.is_full(class, key, bytes) {
                    break;
                }
                self.context.publisher.waiting.remove(lane, slot);
                let conn = &mut self.connections[slot];
                conn.hold = Hold::None;
                conn.waited = Some(FinishedWait { room, has_timed_out });
                // For all that it has for this lane. While it has replies pending it publishes nothing, and
                // this request later.
                self.context.publisher.granted_lane = Some(lane);
                self.serve_connection(slot);
                self.context.publisher.granted_lane = None;
            }
        }
    }

    /// The connection that has waited longest for a lane, and for what it waits. Closed connections are not
    /// in the queue.
    fn first_waiting(&self, lane: usize) -> Option<(usize, RoomWait)> {
        let slot = self.context.publisher.waiting.first(lane)?;
        match self.connections.get(slot)?.hold {
            Hold::Room(room) => Some((slot, room)),
            _ => None,
        }
    }

    fn receive_messages(&mut self, critical_events: &mut Events) {
        while let Ok(message) = self.inbox.try_recv() {
            match message {
                WorkerMessage::Connection(connection) => {
                    if connection.displacement != Displacement::None {
                        self.shared().slots.end_transit();
                    }
                    self.add_connection(connection);
                }
                WorkerMessage::ViewReply { key, bytes } => {
                    self.serve_critical(critical_events);
                    self.send_view_reply(key, &bytes);
                }
                WorkerMessage::Kill { ids } => self.close_killed(&ids, critical_events),
                WorkerMessage::Deliver { channel, text } => {
                    self.serve_critical(critical_events);
                    self.deliver_message(channel, &text, critical_events);
                }
            }
        }
    }

    /// Closes the connections with these ids.
    fn close_killed(&mut self, ids: &[u64], critical_events: &mut Events) {
        let is_killed = |conn: &Connection| ids.binary_search(&conn.session.id).is_ok();
        let places = self.connections.iter().filter(|(_, conn)| is_killed(conn));
        for slot in places.map(|(slot, _)| slot).collect::<Vec<_>>() {
            self.serve_critical(critical_events);
            if self.connections.get(slot).is_some_and(is_killed) {
                self.close(slot, End::Killed);
            }
        }
    }

    /// Writes the reply of a view to the connection that waits for it.
    fn send_view_reply(&mut self, key: ConnectionKey, bytes: &[u8]) {
        let Worker { connections, pool, context, now_s, .. } = self;
        let Some(conn) = connections.get_mut(key.slot).filter(|conn| conn.session.id == key.id) else {
            return;
        };
        conn.hold = Hold::None;
        conn.active_s = *now_s;
        conn.session.exec_left = conn.session.exec_left.saturating_sub(1);
        let counts = &context.shared.counters[context.thread];
        match conn.send(bytes, pool, counts).and_then(|()| conn.release(pool, counts)) {
            Ok(()) => self.report_lost(key.slot),
            Err(_) => self.close(key.slot, End::Broken),
        }
    }

    /// Accepts connections, a few at each listener.
    fn accept_connections(&mut self, critical_events: &mut Events) {
        let Some(mut acceptor) = self.acceptor.take() else { return };
        let shared = self.context.shared.clone();
        for listener in 0..acceptor.len() {
            if acceptor.accept_batch(listener, &shared, &mut |connection| self.add_connection(connection)) {
                self.serve_critical(critical_events);
            }
        }
        self.acceptor = Some(acceptor);
    }

    pub fn slots_end(&self) -> usize {
        self.connections.iter().next_back().map_or(0, |(slot, _)| slot + 1)
    }

    /// Writes pending replies for as long as the stop allows, and closes all connections.
    fn drain(&mut self, events: &mut Events) {
        self.acceptor = None;
        // Connections that were accepted and not added yet are gone with their messages.
        while let Ok(message) = self.inbox.try_recv() {
            if let WorkerMessage::Connection(NewConnection { id, is_critical, displacement, .. }) = message {
                let shared = self.shared();
                shared.clients.remove(id);
                if displacement != Displacement::ForSlot {
                    shared.slots.release(Budget::of(is_critical), 1);
                }
                let counts = &shared.counters[self.context.thread];
                counts.connected.add(1);
                counts.end(End::Stopped);
            }
        }
        loop {
            for slot in 0..self.slots_end() {
                // Checked each time: the deadline may pass while many are being closed.
                let is_last = self.shared().stage() == Stage::Terminating;
                let Some(conn) = self.connections.get(slot) else { continue };
                if is_last || conn.pending() == 0 {
                    self.close(slot, End::Stopped);
                }
            }
            if self.connections.is_empty() {
                return;
            }
            let _ = self.poll.poll(events, Some(Duration::from_millis(10)));
            for slot in 0..self.slots_end() {
                self.flush_last(slot);
            }
        }
    }

    fn flush_last(&mut self, slot: usize) {
        let Worker { connections, pool, context, now_s, .. } = self;
        let Some(conn) = connections.get_mut(slot) else { return };
        if conn.flush(pool, &context.shared.counters[context.thread], *now_s).is_err() {
            self.close(slot, End::Broken);
        }
    }

    /// Gives each critical connection that has something to do its turn.
    pub fn serve_critical(&mut self, events: &mut Events) {
        self.work_left = PIECE;
        if self.critical_connections == 0 {
            return;
        }
        // One poll reports so many at most, and the rest only in the next poll.
        for _ in 0..=self.critical_connections / EVENTS_MAX {
            let _ = self.critical_poll.poll(events, Some(Duration::ZERO));
            for event in events.iter() {
                self.apply_event(event.token().0, event);
            }
            for _ in 0..self.critical_ready.len() {
                if let Some(slot) = self.critical_ready.pop_front() {
                    self.serve_connection(slot);
                    // Replies to a subscriber come after its messages, which would wait for the end of the
                    // delivery.
                    if self.connections.get(slot).is_some_and(|conn| conn.pending() > 0) {
                        self.flush(slot);
                    }
                }
            }
            if events.iter().count() < EVENTS_MAX {
                break;
            }
        }
    }

    /// Delivers to subscribers what shards have for them.
    pub fn deliver_events(&mut self, critical_events: &mut Events) {
        let mut taps = std::mem::take(&mut self.taps);
        let mut missed = std::mem::take(&mut self.missed);
        taps.poll(
            TAP_BURST,
            |record, payload| self.deliver_event(record, payload, critical_events),
            |stream, n| missed.push((stream, n)),
        );
        for (stream, n) in missed.drain(..) {
            self.deliver_missed(ChannelId(stream as u16), n, critical_events);
        }
        (self.taps, self.missed) = (taps, missed);
        while let Some(slot) = self.context.subscribers.to_flush.pop() {
            self.serve_critical(critical_events);
            if let Some(conn) = self.connections.get_mut(slot) {
                // What it does not take is pending from now on.
                conn.active_s = self.now_s;
            }
            self.flush(slot);
        }
    }

    fn deliver_event(&mut self, record: &Record, payload: &[u8], critical_events: &mut Events) {
        let mut message = std::mem::take(&mut self.message);
        message.clear();
        write_event(record, payload, &mut message);
        self.work_left = self.work_left.saturating_sub(work_of(message.len()));
        self.deliver_message(ChannelId(record.stream), &message, critical_events);
        self.message = message;
    }

    /// Delivers a message to the subscribers of a channel.
    pub fn deliver_message(&mut self, channel: ChannelId, message: &[u8], critical_events: &mut Events) {
        let mut next = Some(0);
        while let Some(from) = next {
            if self.work_left == 0 {
                self.serve_critical(critical_events);
            }
            let Worker { connections, pool, context, work_left, .. } = self;
            let CommandContext { subscribers, shared, thread, .. } = context;
            let to = (connections, pool, &shared.counters[*thread]);
            next = subscribers.deliver((channel, shared.channel_name(channel)), message, from, work_left, to);
        }
    }

    /// Counts events that never reached this worker as lost to the subscribers of their stream.
    fn deliver_missed(&mut self, channel: ChannelId, n: u64, critical_events: &mut Events) {
        let mut next = Some(0);
        while let Some(from) = next {
            if self.work_left == 0 {
                self.serve_critical(critical_events);
            }
            let Worker { connections, context, work_left, .. } = self;
            let CommandContext { subscribers, shared, thread, .. } = context;
            next = subscribers.count_missed(
                channel,
                n,
                from,
                work_left,
                (connections, &shared.counters[*thread]),
            );
        }
    }
}
