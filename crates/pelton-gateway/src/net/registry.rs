//! Which connections a server has: how many it may have, which of them have not authenticated, and the list of all.
//!
//! # Mechanism
//! Connections of critical listeners and all others have budgets of their own ([`ConnectionSlots`]), so a flood at one
//! address takes no slot from a critical client. Within a budget, unauthenticated connections have their slots on loan. (A
//! connection is unauthenticated until it has sent the password that is required, and finished its handshake.) When all
//! slots of a budget are taken, a newcomer displaces an unauthenticated connection: the oldest of the worker that will serve
//! the newcomer. If there is none, the newcomer is rejected. (OpenSSH's `MaxStartups` bounds unauthenticated connections for
//! the same reason.)
//!
//! An unauthenticated connection that is left alone has `stall_s` to send the password. Under a flood of `r` connections a
//! second it has `slots / r` seconds, which is still many round trips.
//!
//! The list is there for `CLIENT LIST` and its kin. It is locked for an instant when a connection comes, goes, is named or
//! begins to subscribe, and for at most [`VISITED_MAX`] connections when it is read; nothing on the way of an event looks
//! at it.
//!
//! # Invariants
//! - No more connections have a slot than their budget allows; [`IN_TRANSIT_MAX`] more may be on their way to a worker in
//!   which they will take an unauthenticated connection's slot.
//! - Each worker knows its own unauthenticated connections exactly; other threads see their number, which may lag.

use crate::net::socket::Socket;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::Bound;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Connections on their way to a worker in which they will displace an unauthenticated one. Each has a
/// descriptor already.
const IN_TRANSIT_MAX: usize = 64;

/// Descriptors that the acceptor keeps back for any listener.
pub(crate) const SPARES: usize = 2;

/// Descriptors that it keeps back for critical listeners, if there are any.
const CRITICAL_SPARES: usize = 16;

/// Descriptors that the acceptor keeps back.
pub(crate) const fn spares(has_critical: bool) -> usize {
    if has_critical { SPARES + CRITICAL_SPARES } else { SPARES }
}

/// Which slots a connection takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Budget {
    /// Those of `connections_max`.
    Ordinary,
    /// Those of `critical_connections_max`.
    Critical,
}

impl Budget {
    /// The budget of a connection.
    pub fn of(is_critical: bool) -> Self {
        if is_critical { Budget::Critical } else { Budget::Ordinary }
    }
}

/// The slots of a server, by budget.
pub(crate) struct ConnectionSlots {
    taken: [AtomicUsize; 2],
    most: [usize; 2],
    in_transit: AtomicUsize,
}

impl ConnectionSlots {
    /// Makes this many ordinary and critical slots, all free.
    pub fn new(ordinary: usize, critical: usize) -> Self {
        ConnectionSlots {
            taken: Default::default(),
            most: [ordinary, critical],
            in_transit: AtomicUsize::new(0),
        }
    }

    /// Takes a free slot. `false` if all are taken. Only the thread that accepts connections calls it.
    pub fn take(&self, budget: Budget) -> bool {
        let taken = &self.taken[budget as usize];
        let is_free = taken.load(Ordering::Relaxed) < self.most[budget as usize];
        if is_free {
            taken.fetch_add(1, Ordering::Relaxed);
        }
        is_free
    }

    /// Takes a slot that the same thread is about to release.
    pub fn take_over(&self, budget: Budget) {
        self.taken[budget as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Releases slots.
    pub fn release(&self, budget: Budget, count: usize) {
        self.taken[budget as usize].fetch_sub(count, Ordering::Relaxed);
    }

    /// Counts a connection on its way to another worker, where it will displace an unauthenticated one.
    pub fn begin_transit(&self) {
        self.in_transit.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts its arrival.
    pub fn end_transit(&self) {
        self.in_transit.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether the limit of connections in transit is reached.
    pub fn is_transit_full(&self) -> bool {
        self.in_transit.load(Ordering::Relaxed) >= IN_TRANSIT_MAX
    }
}

/// The unauthenticated connections of one worker, by budget, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct UnauthenticatedQueue {
    by_age: [BTreeMap<u64, usize>; 2],
    next: u64,
}

impl UnauthenticatedQueue {
    /// Adds the connection in this slot. Returns the ticket that removes it.
    pub fn add(&mut self, budget: Budget, at: usize) -> u64 {
        let ticket = self.next;
        self.next += 1;
        self.by_age[budget as usize].insert(ticket, at);
        ticket
    }

    /// Removes a connection.
    pub fn remove(&mut self, budget: Budget, ticket: u64) {
        self.by_age[budget as usize].remove(&ticket);
    }

    /// The slot of the oldest.
    pub fn oldest(&self, budget: Budget) -> Option<usize> {
        self.by_age[budget as usize].first_key_value().map(|(_, at)| *at)
    }

    /// How many there are.
    pub fn len(&self, budget: Budget) -> usize {
        self.by_age[budget as usize].len()
    }
}

/// An accepted connection, for the worker that will serve it.
pub(crate) struct NewConnection {
    pub socket: Socket,
    /// Unique in the server.
    pub id: u64,
    pub is_critical: bool,
    /// Whether it displaces an unauthenticated connection.
    pub displacement: Displacement,
}

/// Whether a newcomer displaces the oldest unauthenticated connection of its worker, and for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Displacement {
    /// There is room for both.
    None,
    /// For its slot: the newcomer has none.
    ForSlot,
    /// For its descriptor: the newcomer has a spare one.
    ForDescriptor,
}

/// The most connections that are visited under one lock: some 20 µs.
const VISITED_MAX: usize = 64;

/// A connection as other connections see it.
pub(crate) struct Client {
    pub peer: Box<str>,
    name: Option<Box<str>>,
    pub thread: u16,
    begun_s: u32,
    pub is_subscriber: bool,
}

impl Client {
    /// Writes the connection's line of `CLIENT LIST`.
    pub fn line(&self, id: u64, now_s: u32, text: &mut String) {
        let Client { peer, name, thread, begun_s, is_subscriber } = self;
        let (name, age) = (name.as_deref().unwrap_or(""), now_s.saturating_sub(*begun_s));
        let flags = if *is_subscriber { 'P' } else { 'N' };
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "id={id} addr={peer} name={name} age={age} flags={flags} db=0 user=default io-thread={thread}"
        );
    }
}

/// All connections, by their ids.
#[derive(Default)]
pub(crate) struct Clients(Mutex<BTreeMap<u64, Client>>);

impl Clients {
    fn all(&self) -> MutexGuard<'_, BTreeMap<u64, Client>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn add(&self, id: u64, peer: String, thread: usize, begun_s: u32) {
        let thread = thread as u16;
        let client = Client { peer: peer.into(), name: None, thread, begun_s, is_subscriber: false };
        self.all().insert(id, client);
    }

    pub fn remove(&self, id: u64) {
        self.all().remove(&id);
    }

    pub fn rename(&self, id: u64, name: Option<Box<str>>) {
        if let Some(client) = self.all().get_mut(&id) {
            client.name = name;
        }
    }

    /// The peer of a connection.
    pub fn peer(&self, id: u64) -> String {
        self.all().get(&id).map_or_else(String::new, |client| client.peer.to_string())
    }

    /// Notes whether a connection has subscriptions.
    pub fn subscribes(&self, id: u64, is_subscriber: bool) {
        if let Some(client) = self.all().get_mut(&id) {
            client.is_subscriber = is_subscriber;
        }
    }

    pub fn len(&self) -> usize {
        self.all().len()
    }

    /// Visits one connection, if it is there.
    pub fn visit_one(&self, id: u64, visitor: impl FnOnce(&Client)) {
        if let Some(client) = self.all().get(&id) {
            visitor(client);
        }
    }

    /// Visits at most [`VISITED_MAX`] connections, in the order of their ids, from the one after `after` on. Returns the last
    /// that was visited; `None` at the end.
    pub fn visit(&self, after: Option<u64>, mut visitor: impl FnMut(u64, &Client)) -> Option<u64> {
        let all = self.all();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut last = None;
        for (id, client) in all.range((from, Bound::Unbounded)).take(VISITED_MAX) {
            visitor(*id, client);
            last = Some(*id);
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_separate_and_bounded() {
        let slots = ConnectionSlots::new(2, 1);
        assert_eq!([(); 3].map(|()| slots.take(Budget::Ordinary)), [true, true, false]);
        assert_eq!([(); 2].map(|()| slots.take(Budget::Critical)), [true, false]);
        // A newcomer in the slot of an unauthenticated connection leaves as many as before.
        slots.take_over(Budget::Ordinary);
        slots.release(Budget::Ordinary, 1);
        assert!(!slots.take(Budget::Ordinary));
        slots.release(Budget::Ordinary, 1);
        assert!(slots.take(Budget::Ordinary) && !slots.take(Budget::Critical));
        (0..IN_TRANSIT_MAX).for_each(|_| slots.begin_transit());
        assert!(slots.is_transit_full());
        slots.end_transit();
        assert!(!slots.is_transit_full());
    }

    #[test]
    fn oldest_unauthenticated_connection_is_the_first_that_is_left() {
        let mut unauthenticated = UnauthenticatedQueue::default();
        let [first, second, third] = [7, 3, 5].map(|at| unauthenticated.add(Budget::Ordinary, at));
        let critical = unauthenticated.add(Budget::Critical, 9);
        assert_eq!(unauthenticated.oldest(Budget::Ordinary), Some(7));
        unauthenticated.remove(Budget::Ordinary, second);
        unauthenticated.remove(Budget::Ordinary, first);
        assert_eq!(
            (unauthenticated.oldest(Budget::Ordinary), unauthenticated.len(Budget::Ordinary)),
            (Some(5), 1)
        );
        unauthenticated.remove(Budget::Ordinary, third);
        assert_eq!(unauthenticated.oldest(Budget::Ordinary), None);
        assert_eq!(unauthenticated.oldest(Budget::Critical), Some(9));
        unauthenticated.remove(Budget::Critical, critical);
        assert_eq!(unauthenticated.len(Budget::Critical), 0);
    }
}
