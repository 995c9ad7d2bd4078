//! The lifetime of a worker's connections: how they get a slot, authenticate, time out, and end.
//!
//! # Mechanism
//! All connections are checked twice a second. An unauthenticated connection has `stall_s` from its first moment (or its
//! `RESET`), whatever it sends, reads or leaves unread. An authenticated one is closed when replies are pending and it took
//! nothing of them for `stall_s`, when a request that it began does not go on, when it sends nothing for `idle_s`, and when
//! the view that it waits for is not read.

use crate::command::context::CommandContext;
use crate::command::pubsub;
use crate::config::settings::seconds;
use crate::net::acceptor::reject_connection;
use crate::net::connection::{ANSWER_MAX_S, Connection, Hold, Overdue, Session, TimeLimits};
use crate::net::registry::{Budget, Displacement, NewConnection};
use crate::net::socket::Socket;
use crate::resp::Version;
use crate::server::metrics::End;
use crate::server::state::Stage;
use crate::server::watch::{Incident, LostThread, ThreadEnd};
use crate::server::worker::Worker;
use mio::Token;
use pelton::event::ShardId;
use std::time::Duration;

/// How often connections are checked for timeouts.
pub(crate) const SWEEP: Duration = Duration::from_millis(500);

/// Bytes that are discarded of what a closed connection has sent: while the server runs, and while it stops.
const UNREAD_BYTES: [usize; 2] = [1 << 20, 64 << 10];

/// The largest piece in which they are discarded.
const UNREAD_PIECE_BYTES: usize = 64 << 10;

impl Worker {
    /// Adds a connection. It may displace an unauthenticated connection, for its slot or its descriptor.
    pub fn add_connection(&mut self, connection: NewConnection) {
        let NewConnection { mut socket, id, is_critical, displacement } = connection;
        let shared = self.context.shared.clone();
        let budget = Budget::of(is_critical);
        match displacement {
            Displacement::None => {}
            Displacement::ForDescriptor => drop(self.displace(Budget::Ordinary)),
            Displacement::ForSlot => {
                shared.slots.take_over(budget);
                if !self.displace(budget) {
                    // All unauthenticated connections have authenticated meanwhile, or are gone.
                    shared.slots.release(budget, 1);
                    shared.clients.remove(id);
                    shared.watched.incidents.note(Incident::Full, || socket.peer());
                    reject_connection(socket, b"-ERR max number of clients reached\r\n");
                    return shared.counters[self.context.thread].end(End::Full);
                }
            }
        }
        let session = Session {
            id,
            version: Version::Resp2,
            is_authenticated: shared.password.is_none(),
            unauthenticated_since_s: self.now_s,
            unauthenticated_requests: 0,
            wrong_passwords: 0,
            name: None,
            subscriptions: None,
            transaction: None,
            exec_left: 0,
            continuation: None,
        };
        let counts = &shared.counters[self.context.thread];
        let entry = self.connections.vacant_entry();
        let slot = entry.key();
        let registry = if is_critical { self.critical_poll.registry() } else { self.poll.registry() };
        if socket.register(registry, Token(slot)).is_err() {
            shared.clients.remove(id);
            shared.slots.release(budget, 1);
            return counts.end(End::Descriptors);
        }
        counts.connected.add(1);
        entry.insert(Connection::new(socket, session, is_critical, self.now_s));
        self.critical_connections += usize::from(is_critical);
        self.track_auth(slot);
        self.enqueue(slot);
    }

    /// Closes the oldest unauthenticated connection of a budget. `false` if there is none.
    fn displace(&mut self, budget: Budget) -> bool {
        let Some(slot) = self.unauthenticated.oldest(budget) else { return false };
        if let Some(conn) = self.connections.get(slot) {
            self.shared().watched.incidents.note(Incident::Displaced, || conn.socket.peer());
        }
        self.close(slot, End::Displaced);
        true
    }

    /// Records whether a connection is unauthenticated, when that may have changed.
    pub fn track_auth(&mut self, slot: usize) {
        let Some(conn) = self.connections.get_mut(slot) else { return };
        let budget = Budget::of(conn.is_critical);
        match (conn.auth_ticket, conn.is_unauthenticated()) {
            (None, true) => conn.auth_ticket = Some(self.unauthenticated.add(budget, slot)),
            (Some(ticket), false) => {
                conn.auth_ticket = None;
                self.unauthenticated.remove(budget, ticket);
            }
            _ => return,
        }
        self.count_unauthenticated(budget);
    }

    fn count_unauthenticated(&self, budget: Budget) {
        let count = self.unauthenticated.len(budget) as u64;
        self.shared().counters[self.context.thread].unauthenticated[budget as usize].set(count);
    }

    pub fn close(&mut self, slot: usize, why: End) {
        let Some(mut conn) = self.connections.try_remove(slot) else { return };
        let is_of_client = matches!(why, End::Client | End::Broken);
        let why = if is_of_client && !conn.socket.is_handshake_done() { End::Tls } else { why };
        conn.socket.send_close_notify();
        if why != End::Broken {
            self.discard_unread(&mut conn.socket);
        }
        if let Hold::Room(room) = conn.hold {
            self.context.publisher.waiting.remove(room.lane, slot);
        } else if !matches!(conn.hold, Hold::None) {
            self.context.view_requests.withdraw(conn.session.id);
        }
        let budget = Budget::of(conn.is_critical);
        if let Some(ticket) = conn.auth_ticket {
            self.unauthenticated.remove(budget, ticket);
            self.count_unauthenticated(budget);
        }
        let CommandContext { subscribers, shared, thread, .. } = &mut self.context;
        pubsub::unsubscribe_all(&mut conn.session, slot, subscribers, shared, *thread);
        shared.clients.remove(conn.session.id);
        shared.slots.release(budget, 1);
        shared.counters[*thread].end(why);
        self.critical_connections -= usize::from(conn.is_critical);
        self.pool.take_back(&mut conn.rest);
        self.pool.take_back(&mut conn.output);
    }

    /// Discards what a closed connection has sent and was not read: unread bytes would make the system throw
    /// away replies that it has not sent yet. Bounded, as a client may go on sending.
    fn discard_unread(&mut self, socket: &mut Socket) {
        let is_running = self.shared().stage() == Stage::Running;
        let piece = self.scratch.len().min(UNREAD_PIECE_BYTES);
        let mut left = UNREAD_BYTES[usize::from(!is_running)];
        while left > 0 && socket.discard(&mut self.scratch[..piece]) {
            left = left.saturating_sub(piece);
        }
    }

    /// Closes connections that have timed out, and checks the shards.
    pub fn sweep(&mut self) {
        let now = self.context.clock.now();
        if now.saturating_duration_since(self.last_sweep) < SWEEP {
            return;
        }
        self.last_sweep = now;
        // The time by which this sweep is due is the time by which it measures.
        self.now_s = self.context.clock.s_at(now);
        if let Some(acceptor) = &mut self.acceptor {
            acceptor.retry();
            self.check_shards();
        }
        let options = &self.shared().options;
        let limits =
            TimeLimits { idle_s: options.idle.map_or(u64::MAX, seconds), stall_s: seconds(options.stall) };
        for slot in 0..self.slots_end() {
            let now_s = self.now_s;
            let Some(conn) = self.connections.get_mut(slot) else { continue };
            match conn.overdue(now_s, limits) {
                Overdue::No => {}
                Overdue::Close(why) => self.close(slot, why),
                Overdue::ViewReply => self.abandon_view_reply(slot),
            }
        }
    }

    /// Answers a connection whose view was not read in time with an error, and closes it: a reply that came
    /// later would be taken for that of its next request.
    fn abandon_view_reply(&mut self, slot: usize) {
        let Worker { connections, pool, context, .. } = self;
        let Some(conn) = connections.get_mut(slot) else { return };
        conn.hold = Hold::None;
        conn.ending = Some(End::Stalled);
        context.view_requests.withdraw(conn.session.id);
        let text = format!("-ERR the view was not read within {ANSWER_MAX_S} s\r\n");
        match conn.send(text.as_bytes(), pool, &context.shared.counters[context.thread]) {
            Ok(()) => self.finish_turn(slot),
            Err(_) => self.close(slot, End::Broken),
        }
    }

    /// Reports shards whose thread has panicked outside their handler.
    fn check_shards(&self) {
        let Some(engine) = self.context.engine.upgrade() else { return };
        for shard in (0..self.shared().options.plan.shards()).map(ShardId) {
            if engine.has_panicked(shard) {
                let lost = LostThread { name: shard.to_string(), how: ThreadEnd::Panicked };
                self.shared().watched.lost_threads.add(lost);
                self.shared().advance(Stage::Draining);
            }
        }
    }
}
