//! Places of connections, and the strangers among those that have one.
//!
//! # Mechanism
//! Connections of critical listeners and all others have budgets of their own ([`Places`]), so that a flood at one address
//! takes no place from a critical client. Within a budget, strangers have their places on loan: a connection is a stranger
//! while it has not said the password that is required, or has not finished its handshake. When all places of a budget are
//! taken, a newcomer takes that of a stranger, the oldest of the thread that will serve the newcomer; only where there is no
//! stranger is the newcomer turned away. (OpenSSH's `MaxStartups` bounds unauthenticated connections for the same reason.)
//!
//! A stranger that is left alone has `stall_s` to say the password. Under a flood of `r` connections a second it has
//! `places / r` seconds, which is still many round trips.
//!
//! # Invariants
//! - No more connections have a place than their budget allows; [`ON_THE_WAY_MAX`] more may be on their way to a thread in
//!   which they will take a stranger's place.
//! - Each thread knows its own strangers exactly; other threads see their number, which may lag.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Connections on their way to a thread in which they will take a stranger's place. Each has a descriptor already.
const ON_THE_WAY_MAX: usize = 64;

/// Descriptors that the entrance keeps back for any listener.
pub(super) const SPARES: usize = 2;

/// Descriptors that it keeps back for critical listeners, where there are any.
const CRITICAL_SPARES: usize = 16;

/// Descriptors that the entrance keeps back.
pub(super) const fn spares(has_critical: bool) -> usize {
    if has_critical { SPARES + CRITICAL_SPARES } else { SPARES }
}

/// Which places a connection takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Budget {
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

/// The places of a server, by budget.
pub(super) struct Places {
    taken: [AtomicUsize; 2],
    most: [usize; 2],
    on_the_way: AtomicUsize,
}

impl Places {
    /// So many ordinary and so many critical places, all free.
    pub fn new(ordinary: usize, critical: usize) -> Self {
        Places { taken: Default::default(), most: [ordinary, critical], on_the_way: AtomicUsize::new(0) }
    }

    /// Takes a free place. `false` where all are taken. Only the thread that accepts connections calls it.
    pub fn take(&self, budget: Budget) -> bool {
        let taken = &self.taken[budget as usize];
        let is_free = taken.load(Ordering::Relaxed) < self.most[budget as usize];
        if is_free {
            taken.fetch_add(1, Ordering::Relaxed);
        }
        is_free
    }

    /// Takes a place that the same thread is about to give back.
    pub fn take_over(&self, budget: Budget) {
        self.taken[budget as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Gives places back.
    pub fn give_back(&self, budget: Budget, count: usize) {
        self.taken[budget as usize].fetch_sub(count, Ordering::Relaxed);
    }

    /// A connection sets out for another thread, to take a stranger's place there.
    pub fn set_out(&self) {
        self.on_the_way.fetch_add(1, Ordering::Relaxed);
    }

    /// It has arrived.
    pub fn arrive(&self) {
        self.on_the_way.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether as many are on their way as may be.
    pub fn are_many_on_the_way(&self) -> bool {
        self.on_the_way.load(Ordering::Relaxed) >= ON_THE_WAY_MAX
    }
}

/// The strangers of one thread, by budget, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Strangers {
    by_age: [BTreeMap<u64, usize>; 2],
    next: u64,
}

impl Strangers {
    /// Adds the connection at this place. Returns the ticket that takes it out again.
    pub fn add(&mut self, budget: Budget, at: usize) -> u64 {
        let ticket = self.next;
        self.next += 1;
        self.by_age[budget as usize].insert(ticket, at);
        ticket
    }

    /// Takes a connection out.
    pub fn remove(&mut self, budget: Budget, ticket: u64) {
        self.by_age[budget as usize].remove(&ticket);
    }

    /// The place of the oldest.
    pub fn oldest(&self, budget: Budget) -> Option<usize> {
        self.by_age[budget as usize].first_key_value().map(|(_, at)| *at)
    }

    /// How many there are.
    pub fn len(&self, budget: Budget) -> usize {
        self.by_age[budget as usize].len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_apart_and_bounded() {
        let places = Places::new(2, 1);
        assert_eq!([(); 3].map(|()| places.take(Budget::Ordinary)), [true, true, false]);
        assert_eq!([(); 2].map(|()| places.take(Budget::Critical)), [true, false]);
        // A newcomer in a stranger's place leaves as many as before.
        places.take_over(Budget::Ordinary);
        places.give_back(Budget::Ordinary, 1);
        assert!(!places.take(Budget::Ordinary));
        places.give_back(Budget::Ordinary, 1);
        assert!(places.take(Budget::Ordinary) && !places.take(Budget::Critical));
        (0..ON_THE_WAY_MAX).for_each(|_| places.set_out());
        assert!(places.are_many_on_the_way());
        places.arrive();
        assert!(!places.are_many_on_the_way());
    }

    #[test]
    fn oldest_stranger_is_the_one_that_came_first_and_is_still_there() {
        let mut strangers = Strangers::default();
        let [first, second, third] = [7, 3, 5].map(|at| strangers.add(Budget::Ordinary, at));
        let critical = strangers.add(Budget::Critical, 9);
        assert_eq!(strangers.oldest(Budget::Ordinary), Some(7));
        strangers.remove(Budget::Ordinary, second);
        strangers.remove(Budget::Ordinary, first);
        assert_eq!((strangers.oldest(Budget::Ordinary), strangers.len(Budget::Ordinary)), (Some(5), 1));
        strangers.remove(Budget::Ordinary, third);
        assert_eq!(strangers.oldest(Budget::Ordinary), None);
        assert_eq!(strangers.oldest(Budget::Critical), Some(9));
        strangers.remove(Budget::Critical, critical);
        assert_eq!(strangers.len(Budget::Critical), 0);
    }
}
