//! The lifetime of a gateway thread's connections: how they come by a place, become known, run out of time, and end.
//!
//! # Mechanism
//! Twice a second all connections are looked at. A stranger has `stall_s` from its first moment (or its `RESET`), whatever it
//! sends, reads or leaves unread; a known connection is closed when answers are pending and nothing of them was taken for
//! `stall_s`, when a request that it began does not come on, when it says nothing for `idle_s`, and when the view that it
//! waits for is not read.
#![forbid(unsafe_code)]

use super::accept::turn_away;
use super::conn::{ANSWER_MAX_S, Conn, Hold, Limits, Overdue, Session};
use super::counts::End;
use super::desk::Desk;
use super::mail::{Arrival, Displaces};
use super::places::Budget;
use super::pubsub;
use super::settings::seconds;
use super::shared::Stage;
use super::socket::Socket;
use super::watch::{Incident, LostThread, ThreadEnd};
use super::worker::Worker;
use crate::event::ShardId;
use crate::resp::Version;
use mio::Token;
use std::time::{Duration, Instant};

/// How often connections whose time is over are looked for.
pub(super) const SWEEP: Duration = Duration::from_millis(500);

/// Bytes that are read of what a connection sent after its end, and while the server stops.
const UNREAD_BYTES: [usize; 2] = [1 << 20, 64 << 10];

/// The largest piece in which they are read.
const UNREAD_PIECE_BYTES: usize = 64 << 10;

impl Worker {
    /// Takes a connection over. It may have to take the place, or the descriptor, of a stranger.
    pub fn welcome(&mut self, arrival: Arrival) {
        let Arrival { mut socket, id, is_critical, displaces } = arrival;
        let shared = self.desk.shared.clone();
        let budget = Budget::of(is_critical);
        match displaces {
            Displaces::Nobody => {}
            Displaces::ForDescriptor => drop(self.displace(Budget::Ordinary)),
            Displaces::ForPlace => {
                shared.places.take_over(budget);
                if !self.displace(budget) {
                    // All strangers have authenticated meanwhile, or are gone.
                    shared.places.give_back(budget, 1);
                    shared.clients.remove(id);
                    shared.incidents.note(Incident::Full, || socket.peer());
                    turn_away(socket, b"-ERR max number of clients reached\r\n");
                    return shared.threads[self.desk.thread].end(End::Full);
                }
            }
        }
        let session = Session {
            id,
            version: Version::Resp2,
            is_known: shared.password.is_none(),
            stranger_since_s: self.now_s,
            strange_requests: 0,
            wrong_passwords: 0,
            name: None,
            subscriptions: None,
            transaction: None,
            exec_left: 0,
            begun: None,
        };
        let counts = &shared.threads[self.desk.thread];
        let entry = self.conns.vacant_entry();
        let at = entry.key();
        let registry = if is_critical { self.critical.registry() } else { self.poll.registry() };
        if socket.register(registry, Token(at)).is_err() {
            shared.clients.remove(id);
            shared.places.give_back(budget, 1);
            return counts.end(End::Descriptors);
        }
        counts.connected.add(1);
        entry.insert(Conn::new(socket, session, is_critical, self.now_s));
        self.critical_conns += usize::from(is_critical);
        self.meet(at);
        self.queue(at);
    }

    /// Closes the oldest stranger of a budget. `false` where there is none.
    fn displace(&mut self, budget: Budget) -> bool {
        let Some(at) = self.strangers.oldest(budget) else { return false };
        if let Some(conn) = self.conns.get(at) {
            self.shared().incidents.note(Incident::Displaced, || conn.socket.peer());
        }
        self.close(at, End::Displaced);
        true
    }

    /// Notes whether a connection is a stranger, when that may have changed.
    pub fn meet(&mut self, at: usize) {
        let Some(conn) = self.conns.get_mut(at) else { return };
        let budget = Budget::of(conn.is_critical);
        match (conn.stranger, conn.is_stranger()) {
            (None, true) => conn.stranger = Some(self.strangers.add(budget, at)),
            (Some(ticket), false) => {
                conn.stranger = None;
                self.strangers.remove(budget, ticket);
            }
            _ => return,
        }
        self.count_strangers(budget);
    }

    fn count_strangers(&self, budget: Budget) {
        let count = self.strangers.len(budget) as u64;
        self.shared().threads[self.desk.thread].strangers[budget as usize].set(count);
    }

    pub fn close(&mut self, at: usize, why: End) {
        let Some(mut conn) = self.conns.try_remove(at) else { return };
        let is_of_client = matches!(why, End::Client | End::Broken);
        let why = if is_of_client && !conn.socket.is_agreed() { End::Tls } else { why };
        conn.socket.bid_farewell();
        if why != End::Broken {
            self.discard_unread(&mut conn.socket);
        }
        if let Hold::Room(room) = conn.hold {
            self.desk.publisher.waiting.remove(room.lane, at);
        } else if !matches!(conn.hold, Hold::No) {
            self.desk.questions.withdraw(conn.session.id);
        }
        let budget = Budget::of(conn.is_critical);
        if let Some(ticket) = conn.stranger {
            self.strangers.remove(budget, ticket);
            self.count_strangers(budget);
        }
        let Desk { listeners, shared, thread, .. } = &mut self.desk;
        pubsub::leave(&mut conn.session, at, listeners, shared, *thread);
        shared.clients.remove(conn.session.id);
        shared.places.give_back(budget, 1);
        shared.threads[*thread].end(why);
        self.critical_conns -= usize::from(conn.is_critical);
        self.pool.take_back(&mut conn.rest);
        self.pool.take_back(&mut conn.output);
    }

    /// Reads what a connection that is closed has sent and was not read: it would make the system throw away the answers that
    /// it has not sent yet. Bounded, as a client may go on sending.
    fn discard_unread(&mut self, socket: &mut Socket) {
        let is_running = self.shared().stage() == Stage::Running;
        let piece = self.scratch.len().min(UNREAD_PIECE_BYTES);
        let mut left = UNREAD_BYTES[usize::from(!is_running)];
        while left > 0 && socket.discard(&mut self.scratch[..piece]) {
            left = left.saturating_sub(piece);
        }
    }

    /// Closes connections whose time is over, and looks after the shards.
    pub fn sweep(&mut self) {
        if self.swept.elapsed() < SWEEP {
            return;
        }
        self.swept = Instant::now();
        if let Some(entrance) = &mut self.entrance {
            entrance.look_again();
            self.look_after_shards();
        }
        let options = &self.shared().options;
        let limits =
            Limits { idle_s: options.idle.map_or(u64::MAX, seconds), stall_s: seconds(options.stall) };
        for at in 0..self.last_place() {
            let now_s = self.now_s;
            let Some(conn) = self.conns.get_mut(at) else { continue };
            match conn.overdue(now_s, limits) {
                Overdue::No => {}
                Overdue::Ends(why) => self.close(at, why),
                Overdue::Answer => self.give_up_answer(at),
            }
        }
    }

    /// A view was not read for a connection: it is answered so, and closed, since an answer that came later would be taken for
    /// that of its next request.
    fn give_up_answer(&mut self, at: usize) {
        let Worker { conns, pool, desk, .. } = self;
        let Some(conn) = conns.get_mut(at) else { return };
        conn.hold = Hold::No;
        conn.ending = Some(End::Stalled);
        desk.questions.withdraw(conn.session.id);
        let text = format!("-ERR the view was not read within {ANSWER_MAX_S} s\r\n");
        match conn.send(text.as_bytes(), pool, &desk.shared.threads[desk.thread]) {
            Ok(()) => self.settle(at),
            Err(_) => self.close(at, End::Broken),
        }
    }

    /// Reports shards whose thread has panicked outside of their handler.
    fn look_after_shards(&self) {
        let Some(engine) = self.desk.engine.upgrade() else { return };
        for shard in (0..self.shared().options.plan.shards).map(ShardId) {
            if engine.has_panicked(shard) {
                let lost = LostThread { name: shard.to_string(), how: ThreadEnd::Panicked };
                self.shared().losses.add(lost);
                self.shared().advance(Stage::Draining);
            }
        }
    }
}
