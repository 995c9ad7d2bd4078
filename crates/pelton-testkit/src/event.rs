//! The event that every run moves, the check that every consumer makes, and the work before an event.
//!
//! Fairness begins here: every contender moves the same fields in 64 bytes, and the same code looks at every event.

use std::hint::black_box;
use std::time::Instant;

/// What a producer writes: 40 bytes, which with key, stamp and sequence word make a slot of 64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Body {
    /// The event's number with its producer, from 0.
    pub sequence: u64,
    /// Who made it, from 0.
    pub producer: u64,
    /// Whatever the run needs; otherwise made of the sequence.
    pub value: u64,
    /// The key once more.
    pub extra: u64,
    /// Made of sequence, producer and key: an event that was torn or overwritten does not pass.
    pub check: u64,
}

impl Body {
    /// The event of a run's only producer.
    #[inline(always)]
    pub fn new(sequence: u64, key: u64) -> Self {
        Self::of(0, sequence, key)
    }

    /// The event of one of several producers.
    #[inline(always)]
    pub fn of(producer: u64, sequence: u64, key: u64) -> Self {
        Body {
            sequence,
            producer,
            value: sequence ^ 0x5555,
            extra: key,
            check: checksum(producer, sequence, key),
        }
    }

    /// Whether this is the event of that sequence, whole.
    #[inline(always)]
    pub fn is(&self, sequence: u64, key: u64) -> bool {
        (self.sequence == sequence) & (self.check == checksum(self.producer, sequence, key))
    }
}

/// The element of contenders whose slots are the event alone: the same fields, the same 64 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Element {
    /// The key.
    pub key: u64,
    /// Room for a stamp, as a slot of ours has it.
    pub stamp: u64,
    /// The event.
    pub body: Body,
}

impl Element {
    /// The event of a run's only producer.
    #[inline(always)]
    pub fn new(sequence: u64, key: u64) -> Self {
        Element { key, stamp: 0, body: Body::new(sequence, key) }
    }
}

const _: () = assert!(size_of::<Body>() == 40 && size_of::<Element>() == 64);

/// Keys of a run: `sequence & KEYS`, so that keyed routing has something to route.
pub const KEYS: u64 = 1_023;

#[inline(always)]
fn checksum(producer: u64, sequence: u64, key: u64) -> u64 {
    (sequence ^ (producer << 48) ^ key.rotate_left(32)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// The consumer of all: every event once, in order, intact. What is wrong is counted and told at the end, so that
/// looking at an event costs no branch.
#[derive(Clone, Copy, Debug, Default)]
pub struct Checker {
    next: u64,
    step: u64,
    wrong: u64,
}

impl Checker {
    /// Expects `first`, and then every event.
    pub fn starting_at(first: u64) -> Self {
        Self::every(first, 1)
    }

    /// Expects `first`, and then every `step`th: what one of several classes has of one producer's events.
    pub fn every(first: u64, step: u64) -> Self {
        Checker { next: first, step, wrong: 0 }
    }

    /// Looks at one event.
    #[inline(always)]
    pub fn see(&mut self, key: u64, body: &Body) {
        self.wrong += u64::from(!body.is(self.next, key));
        self.next += self.step;
    }

    /// The sequence that comes next: of a checker that expects every event from 0, how many were seen.
    #[inline(always)]
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Says what was wrong.
    ///
    /// # Panics
    /// If an event was lost, doubled, out of order or torn: then the run's figure is worth nothing.
    pub fn finish(self) {
        assert_eq!(self.wrong, 0, "{} events came out of order or torn", self.wrong);
    }
}

/// `n` dependent multiplications: what a producer does before each event.
#[inline(always)]
pub fn work(n: u64, seed: u64) {
    let mut x = seed | 1;
    for _ in 0..n {
        x = black_box(x.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    }
    black_box(x);
}

/// Nanoseconds an event from `start` until `end`.
pub fn per_event_ns(start: Instant, end: Instant, events: u64) -> f64 {
    end.duration_since(start).as_secs_f64() * 1e9 / events as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_pass_in_their_order_and_whole() {
        let mut checker = Checker::starting_at(0);
        for i in 0..5 {
            checker.see(i & KEYS, &Body::new(i, i & KEYS));
        }
        assert_eq!(checker.next(), 5);
        checker.finish();
    }

    #[test]
    fn what_is_lost_torn_or_another_producers_does_not_pass() {
        let torn = Body { check: 1, ..Body::new(0, 0) };
        let claimed = Body { producer: 1, ..Body::new(0, 0) };
        for body in [Body::new(1, 0), Body::new(0, 1), torn, claimed] {
            let mut checker = Checker::starting_at(0);
            checker.see(0, &body);
            assert!(std::panic::catch_unwind(|| checker.finish()).is_err(), "{body:?}");
        }
    }
}
