//! What travels in the engine's slots: who an event is. What it says is its payload.
//!
//! The payload of an event is the fields and values of its `XADD`, as they came: bulk strings of the Redis protocol,
//! name after value after name. So it is copied once, from the socket's buffer into the slot, and a subscriber or a view
//! reads it in place ([`Bulks`](crate::resp::Bulks)).

use crate::config::settings::EVENT;

/// An event's id: `<ms>-<sequence>`, unique in its stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// When its gateway read it, in milliseconds since the Unix epoch. It never goes back.
    pub ms: u64,
    /// Which of that millisecond's. Threads take turns, so that no two have the same.
    pub sequence: u64,
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.ms, self.sequence)
    }
}

/// An event of a stream, in its slot. With sequence, key, stamp and payload descriptor it fills one line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Its id.
    pub id: Id,
    /// Its stream, by the order of declaration.
    pub stream: u16,
    /// How many fields it has.
    pub fields: u16,
}

const _: () = assert!(size_of::<Record>() + 32 <= 64, "a record fits a slot of one line");
const _: () = assert!(size_of::<Record>() == EVENT.size() && align_of::<Record>() == EVENT.align());

/// Where ids come from: one for each gateway thread.
///
/// # Invariants
/// - Ids of one thread strictly increase: the millisecond never goes back, whatever the system's clock does, and within
///   one the sequence grows.
/// - Thread `t` of `n` gives the sequences `t`, `t + n`, `t + 2 n`, …: no two threads ever give the same id.
#[derive(Debug)]
pub(crate) struct IdGenerator {
    now: Id,
    first: u64,
    step: u64,
}

impl IdGenerator {
    pub fn new(thread: u16, threads: u16, now_ms: u64) -> Self {
        let first = u64::from(thread);
        IdGenerator { now: Id { ms: now_ms, sequence: first }, first, step: u64::from(threads) }
    }

    /// Takes the time, once for all that one read brought: that of the clock by which windows of views end.
    #[inline]
    pub fn tick(&mut self, ms: u64) {
        if ms > self.now.ms {
            self.now = Id { ms, sequence: self.first };
        }
    }

    /// The next id.
    #[inline(always)]
    pub fn next(&mut self) -> Id {
        let id = self.now;
        self.now.sequence += self.step;
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_increase_and_are_unique_over_threads() {
        const TIMES: [u64; 10] = [7, 7, 8, 6, 9, 9, 20, 19, 21, 22];
        let mut threads = [0, 1, 2].map(|thread| IdGenerator::new(thread, 3, 7));
        let mut seen = std::collections::HashSet::new();
        for ids in &mut threads {
            let mut last = None;
            for at in 0..1_000 {
                if at % 100 == 0 {
                    ids.tick(TIMES[at / 100]);
                }
                let id = ids.next();
                assert!(last < Some(id), "{id} after {last:?}");
                assert!(seen.insert(id), "{id} twice");
                last = Some(id);
            }
        }
    }
}
