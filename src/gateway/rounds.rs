//! The rounds of a gateway thread: what it looks at, in which order, and when it sleeps.
//!
//! # Mechanism
//! A round is: sleep until the system or the bell tells of something (not at all while a queue is not empty); note what was
//! told; take mail and connections; let those go on whose lanes have room again; give each connection in the queue one turn;
//! bring subscribers what shards have for them; look for the idle and the stalled. Before each of these steps, and each turn,
//! critical connections have theirs.
//!
//! While connections wait for room, their lanes are asked before each sleep to wake this thread, so it sleeps on its sockets
//! as always, and whoever else has a request is served at once.
#![forbid(unsafe_code)]

use super::accept::Entrance;
use super::conn::{Conn, ConnKey, Hold, Room, Waited};
use super::counts::End;
use super::lifetime::SWEEP;
use super::mail::{Arrival, Displaces, Mail};
use super::places::Budget;
use super::rules::LISTENERS_MAX;
use super::shared::Stage;
use super::worker::{CRITICAL, EVENTS_MAX, LISTENERS, WAKER, Worker};
#[cfg(feature = "audit")]
use crate::memory::audit::thread_allocations;
use crate::wait::Alarm;
use mio::{Events, Token};
use std::task::Context;
use std::time::Duration;

/// Connections whose handshake is carried on in a round: as many signatures, at most, of 20 µs (ECDSA) to 1 ms (RSA).
const HANDSHAKES_A_ROUND: usize = 4;

impl Worker {
    /// Serves until the server stops.
    pub fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut critical_events = Events::with_capacity(EVENTS_MAX);
        while self.shared().stage() == Stage::Running {
            self.wait(&mut events);
            self.note_all(&events, &mut critical_events);
            self.take_mail(&mut critical_events);
            self.serve_urgent(&mut critical_events);
            self.enter(&mut critical_events);
            // Those who wait for room go before those who would take it from them.
            self.retry(&mut critical_events);
            self.serve(&mut critical_events);
            self.deliver(&mut critical_events);
            self.sweep();
            #[cfg(feature = "audit")]
            self.shared().threads[self.desk.thread].allocations.set(thread_allocations());
        }
        self.drain(&mut events);
    }

    /// Sleeps until there is something to do.
    fn wait(&mut self, events: &mut Events) {
        let is_busy = !self.ready.is_empty()
            || !self.urgent.is_empty()
            || !self.handshakes.is_empty()
            || self.entrance.as_ref().is_some_and(Entrance::is_open);
        let mut timeout = Duration::ZERO;
        if !is_busy {
            // Armed before the last looks: what comes after them rings.
            self.alarm().arm();
            if !self.taps.is_ready() {
                timeout = self.time_without_room();
            }
        }
        // Interrupted: it looks again.
        let _ = self.poll.poll(events, Some(timeout));
        self.alarm().disarm();
        self.now_s = self.desk.shared.now_s();
    }

    fn alarm(&self) -> &Alarm {
        &self.desk.shared.bells[self.desk.thread].alarm
    }

    /// How long a thread may sleep that has nothing to do but to wait for room: asks the lanes for which connections wait to
    /// wake it. No time where there is room already, or a class waits no longer.
    fn time_without_room(&mut self) -> Duration {
        let mut time = SWEEP;
        if self.desk.publisher.waiting.is_empty() {
            return time;
        }
        for lane in 0..self.desk.publisher.waiting.lanes() {
            let Some((_, room)) = self.first_of(lane) else { continue };
            let mut context = Context::from_waker(&self.waker);
            let producer = &mut self.desk.publisher.producer;
            if producer.poll_room(room.class, room.key, room.bytes, &mut context).is_ready() {
                return Duration::ZERO;
            }
            if let Some(limit) = self.shared().block_limits[room.class.index()] {
                time = time.min(limit.saturating_sub(room.since.elapsed()));
            }
        }
        time
    }

    fn note_all(&mut self, events: &Events, critical_events: &mut Events) {
        for event in events {
            match event.token() {
                // Its mail, and the urgent, are looked at in any case.
                WAKER | CRITICAL => {}
                Token(at) if at > LISTENERS - LISTENERS_MAX => {
                    if let Some(entrance) = &mut self.entrance {
                        entrance.knock(LISTENERS - at);
                    }
                }
                Token(at) => {
                    // Then it is written.
                    if self.conns.get(at).is_some_and(|conn| conn.pending() > 0) {
                        self.serve_urgent(critical_events);
                    }
                    self.note(at, event);
                }
            }
        }
    }

    /// Gives each connection in the queue its turn, and a few of those in a handshake; the critical ones before each other.
    fn serve(&mut self, critical_events: &mut Events) {
        for _ in 0..self.handshakes.len().min(HANDSHAKES_A_ROUND) {
            self.serve_urgent(critical_events);
            if let Some(at) = self.handshakes.pop_front() {
                self.turn(at);
            }
        }
        for _ in 0..self.ready.len() {
            // A stop whose deadline has come does not wait for the turns of all.
            if self.shared().stage() == Stage::Ending {
                return;
            }
            self.serve_urgent(critical_events);
            if let Some(at) = self.ready.pop_front() {
                self.turn(at);
            }
        }
        self.serve_urgent(critical_events);
    }

    /// Lets those go on whose lanes have room, or whose time is over.
    fn retry(&mut self, critical_events: &mut Events) {
        if self.desk.publisher.waiting.is_empty() {
            return;
        }
        for lane in 0..self.desk.publisher.waiting.lanes() {
            // Each once: who fills the lane again waits behind the others.
            for _ in 0..self.desk.publisher.waiting.len(lane) {
                self.serve_urgent(critical_events);
                let Some((at, room)) = self.first_of(lane) else { break };
                let Room { class, key, bytes, since, .. } = room;
                let limit = self.shared().block_limits[class.index()];
                let is_too_long = limit.is_some_and(|limit| since.elapsed() >= limit);
                if !is_too_long && self.desk.publisher.producer.is_full(class, key, bytes) {
                    break;
                }
                self.desk.publisher.waiting.remove(lane, at);
                let conn = &mut self.conns[at];
                conn.hold = Hold::No;
                conn.waited = Some(Waited { room, is_too_long });
                // Of all that it has for this lane; where it has answers pending, nothing now, and this one later.
                self.desk.publisher.granted = Some(lane);
                self.turn(at);
                self.desk.publisher.granted = None;
            }
        }
    }

    /// Who has waited longest for a lane, and for what. Who is closed stands there no more.
    fn first_of(&self, lane: usize) -> Option<(usize, Room)> {
        let at = self.desk.publisher.waiting.first(lane)?;
        match self.conns.get(at)?.hold {
            Hold::Room(room) => Some((at, room)),
            _ => None,
        }
    }

    fn take_mail(&mut self, critical_events: &mut Events) {
        while let Ok(mail) = self.mail.try_recv() {
            match mail {
                Mail::Conn(arrival) => {
                    if arrival.displaces != Displaces::Nobody {
                        self.shared().places.arrive();
                    }
                    self.welcome(arrival);
                }
                Mail::Answer { key, bytes } => {
                    self.serve_urgent(critical_events);
                    self.answer(key, &bytes);
                }
                Mail::Kill { ids } => self.kill(&ids, critical_events),
                Mail::Message { channel, text } => {
                    self.serve_urgent(critical_events);
                    self.give(channel, &text, critical_events);
                }
            }
        }
    }

    /// Closes the connections with these ids.
    fn kill(&mut self, ids: &[u64], critical_events: &mut Events) {
        let is_killed = |conn: &Conn| ids.binary_search(&conn.session.id).is_ok();
        let places = self.conns.iter().filter(|(_, conn)| is_killed(conn));
        for at in places.map(|(at, _)| at).collect::<Vec<_>>() {
            self.serve_urgent(critical_events);
            if self.conns.get(at).is_some_and(is_killed) {
                self.close(at, End::Killed);
            }
        }
    }

    /// Writes the answer of a view to the connection that waits for it.
    fn answer(&mut self, key: ConnKey, bytes: &[u8]) {
        let Worker { conns, pool, desk, now_s, .. } = self;
        let Some(conn) = conns.get_mut(key.at).filter(|conn| conn.session.id == key.id) else { return };
        conn.hold = Hold::No;
        conn.active_s = *now_s;
        conn.session.exec_left = conn.session.exec_left.saturating_sub(1);
        let counts = &desk.shared.threads[desk.thread];
        match conn.send(bytes, pool, counts).and_then(|()| conn.release(pool, counts)) {
            Ok(()) => self.report(key.at),
            Err(_) => self.close(key.at, End::Broken),
        }
    }

    /// Accepts connections, a few at each listener.
    fn enter(&mut self, critical_events: &mut Events) {
        let Some(mut entrance) = self.entrance.take() else { return };
        let shared = self.desk.shared.clone();
        for at in 0..entrance.len() {
            if entrance.enter(at, &shared, &mut |arrival| self.welcome(arrival)) {
                self.serve_urgent(critical_events);
            }
        }
        self.entrance = Some(entrance);
    }

    pub fn last_place(&self) -> usize {
        self.conns.iter().next_back().map_or(0, |(at, _)| at + 1)
    }

    /// Writes what was answered, for as long as the stop allows, and ends all connections.
    fn drain(&mut self, events: &mut Events) {
        self.entrance = None;
        // Connections that were accepted and not welcomed yet are gone with the mail.
        while let Ok(mail) = self.mail.try_recv() {
            if let Mail::Conn(Arrival { id, is_critical, displaces, .. }) = mail {
                let shared = self.shared();
                shared.clients.remove(id);
                if displaces != Displaces::ForPlace {
                    shared.places.give_back(Budget::of(is_critical), 1);
                }
                let counts = &shared.threads[self.desk.thread];
                counts.connected.add(1);
                counts.end(End::Stopped);
            }
        }
        loop {
            for at in 0..self.last_place() {
                // Looked at each time: the deadline may come while many are being closed.
                let is_last = self.shared().stage() == Stage::Ending;
                let Some(conn) = self.conns.get(at) else { continue };
                if is_last || conn.pending() == 0 {
                    self.close(at, End::Stopped);
                }
            }
            if self.conns.is_empty() {
                return;
            }
            let _ = self.poll.poll(events, Some(Duration::from_millis(10)));
            for at in 0..self.last_place() {
                self.flush_last(at);
            }
        }
    }

    fn flush_last(&mut self, at: usize) {
        let Worker { conns, pool, desk, now_s, .. } = self;
        let Some(conn) = conns.get_mut(at) else { return };
        if conn.flush(pool, &desk.shared.threads[desk.thread], *now_s).is_err() {
            self.close(at, End::Broken);
        }
    }
}
