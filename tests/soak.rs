//! Millions of events through one producer and one shard: none lost, none twice, none out of order, and not a single
//! allocation on either thread.
//!
//! `PELTON_SOAK_EVENTS` says how many; without it 10^7, or 10^6 in a debug build.

use pelton::{Class, Context, Event, Handler, Outcome, Verdict};
use pelton_testkit::*;
use std::time::{Duration, Instant};

#[cfg(feature = "audit")]
#[global_allocator]
static ALLOCATOR: pelton::memory::audit::Counting<std::alloc::System> =
    pelton::memory::audit::Counting::new(std::alloc::System);

const KEYS: usize = 64;

/// Checks each event in place, in memory that is there from the start.
struct Checker {
    next: [u64; KEYS],
    handled: u64,
    corrupt: u64,
    lost: u64,
    again: u64,
}

impl Handler<Proof> for Checker {
    type Output = Checker;

    fn on_event(&mut self, event: &mut Event<'_, Proof>, _: &mut Context<'_, Proof>) -> Verdict {
        let key = event.key;
        if !event.is_whole() || event.key().0 != key {
            self.corrupt += 1;
            return Verdict::Done;
        }
        let next = &mut self.next[key as usize];
        self.again += u64::from(event.sequence < *next);
        self.lost += event.sequence.saturating_sub(*next);
        *next = event.sequence + 1;
        self.handled += 1;
        Verdict::Done
    }

    fn on_stop(self, _: &mut Context<'_, Proof>) -> Checker {
        self
    }
}

#[test]
fn millions_of_events_arrive_once_in_order_and_allocate_nothing() {
    let default = if cfg!(debug_assertions) { 1_000_000 } else { 10_000_000 };
    let asked = std::env::var("PELTON_SOAK_EVENTS").ok();
    let events: u64 = asked.map_or(default, |n| n.parse().expect("PELTON_SOAK_EVENTS is a number"));
    // Ten microseconds for each event is a hundred times what it takes.
    let _dog = watchdog_for(Duration::from_secs(60) + Duration::from_micros(10) * events as u32);
    let mut plan = plan().with_producers_max(1);
    let class = plan.class(Class::strict("only").with_capacity(1_024).block());
    let checker = || Checker { next: [0; KEYS], handled: 0, corrupt: 0, lost: 0, again: 0 };
    let engine = plan.start(Proof::default, move |_| checker()).unwrap();
    let mut tx = engine.attach().unwrap();
    let begun = Instant::now();
    let producer = std::thread::spawn(move || {
        let mut next = [0u64; KEYS];
        let mut key = 0usize;
        #[cfg(feature = "audit")]
        let before = pelton::memory::audit::thread_allocations();
        for _ in 0..events {
            key = (key * 5 + 1) % KEYS;
            let proof = Proof::new(1, class, key as u64, next[key], 0);
            next[key] += 1;
            let said = tx.publish(class, key as u64, |event| *event = proof);
            assert_eq!(said, Ok(Outcome::Accepted));
        }
        #[cfg(feature = "audit")]
        assert_eq!(
            pelton::memory::audit::thread_allocations() - before,
            0,
            "the producer's thread allocated"
        );
        next
    });
    let next = producer.join().unwrap();
    let mut report = engine.stop(Duration::from_secs(50)).unwrap();
    println!("{events} events in {:?}\n{report}", begun.elapsed());
    assert_closed(&report);
    assert!(report.drained);
    let seen = report.output::<Checker>(pelton::ShardId(0)).unwrap();
    assert_eq!((seen.corrupt, seen.lost, seen.again, seen.handled), (0, 0, 0, events));
    assert_eq!(seen.next, next);
    assert_eq!(report.ledger.total().handled, events);
    if cfg!(feature = "audit") {
        assert_eq!(report.allocations(), Some(0), "the shard's thread allocated");
    } else {
        assert_eq!(report.allocations(), None, "nobody counts");
    }
}
