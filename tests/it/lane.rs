//! A lane does what its class's policy says when it is full, counts every outcome once, and never calls the closure of
//! an event that it refuses. Through `pelton::lane::lane`, without an engine.

use pelton::lane::{LaneConsumer, LaneProducer, lane};
use pelton::{Class, Outcome, Rejection};
use pelton_testkit::{PLANNED, quiet_panics, watchdog};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

type Ends = (LaneProducer<u64>, LaneConsumer<u64>);

fn ends(class: &Class) -> Ends {
    lane(class, || 0u64).unwrap()
}

fn drain(rx: &mut LaneConsumer<u64>) -> Vec<u64> {
    let mut seen = Vec::new();
    rx.poll(u64::MAX, |event| seen.push(**event));
    seen
}

#[track_caller]
fn assert_refused(tx: &mut LaneProducer<u64>, rx: &LaneConsumer<u64>, bytes: usize, reason: Rejection) {
    let before = rx.counts();
    let refusal = tx.claim(7u64).with_payload(bytes).try_acquire().map(|_| ()).unwrap_err();
    assert_eq!(refusal.reason, reason);
    assert!(refusal.to_string().contains(reason.name()), "{refusal}");
    let after = rx.counts();
    assert_eq!(after.rejected_for(reason), before.rejected_for(reason) + 1);
    assert_eq!((after.offered, after.accepted), (before.offered + 1, before.accepted));
    assert!(after.is_closed());
}

#[test]
fn reject_says_why_and_never_calls_the_closure() {
    let _dog = watchdog();
    let (mut tx, mut rx) = ends(&Class::strict("only").with_capacity(4).with_payload_bytes(64).reject());
    tx.claim(1u64).with_payload(32).try_acquire().unwrap().publish().unwrap();
    tx.claim(1u64).with_payload(32).try_acquire().unwrap().publish().unwrap();
    assert_refused(&mut tx, &rx, 1, Rejection::BytesFull);
    assert_refused(&mut tx, &rx, 33, Rejection::TooLarge);
    tx.publish(1u64, |event| *event = 3).unwrap();
    tx.publish(1u64, |event| *event = 4).unwrap();
    assert_refused(&mut tx, &rx, 0, Rejection::SlotsFull);
    let refusal =
        tx.publish(1u64, |_| unreachable!("the closure of a refused event was called")).unwrap_err();
    assert_eq!((refusal.reason, refusal.capacity), (Rejection::SlotsFull, 4));
    assert_eq!(rx.poll(64, |_| {}), 4);
    assert_eq!(tx.publish(1u64, |event| *event = 5), Ok(Outcome::Accepted));
    let counts = rx.counts();
    assert!(counts.is_closed() && counts.in_flight == 1 && counts.accepted == 5, "{counts:?}");
    drop(rx);
    let refusal = tx.publish(1u64, |_| unreachable!()).unwrap_err();
    assert_eq!(refusal.reason, Rejection::Closed);
}

#[test]
fn drop_newest_drops_what_is_offered_and_counts_it() {
    let _dog = watchdog();
    let (mut tx, mut rx) = ends(&Class::strict("only").with_capacity(2).with_payload_bytes(64).drop_newest());
    for event in 0..10u64 {
        let said = tx.publish(1u64, |slot| *slot = event).unwrap();
        assert_eq!(said, if event < 2 { Outcome::Accepted } else { Outcome::Dropped });
    }
    assert_eq!(tx.claim(1u64).try_acquire().map(|_| ()).unwrap_err().reason, Rejection::DroppedNewest);
    // A full lane is full, whatever is asked for; what can never fit shows when there is room.
    assert_eq!(
        tx.claim(1u64).with_payload(65).try_acquire().map(|_| ()).unwrap_err().reason,
        Rejection::DroppedNewest
    );
    assert_eq!(drain(&mut rx), [0, 1]);
    assert_eq!(
        tx.claim(1u64).with_payload(65).try_acquire().map(|_| ()).unwrap_err().reason,
        Rejection::TooLarge
    );
    let counts = rx.counts();
    assert_eq!((counts.offered, counts.rejected_for(Rejection::DroppedNewest)), (13, 10));
    assert!(counts.is_closed());
}

#[test]
fn block_waits_for_room_and_loses_nothing() {
    let _dog = watchdog();
    const EVENTS: u64 = 20_000;
    for (capacity, bytes) in [(1, 0), (2, 24), (64, 7)] {
        let (mut tx, mut rx) =
            ends(&Class::strict("only").with_capacity(capacity).with_payload_bytes(64).block());
        let producer = std::thread::spawn(move || {
            for event in 0..EVENTS {
                let mut claim = tx.claim(event).with_payload(bytes).acquire_timeout(Duration::MAX).unwrap();
                *claim = event;
                claim.payload_mut().fill(event as u8);
                claim.publish().unwrap();
            }
            tx
        });
        let mut wanted = 0;
        while wanted < EVENTS {
            let polled = rx.poll(16, |item| {
                assert_eq!((**item, item.key()), (wanted, wanted));
                assert!(item.payload().len() == bytes && item.payload().iter().all(|b| *b == wanted as u8));
                wanted += 1;
            });
            if polled == 0 {
                std::thread::yield_now();
            }
        }
        let _tx = producer.join().unwrap();
        let counts = rx.counts();
        assert!(counts.is_closed(), "{counts:?}");
        assert_eq!((counts.offered, counts.handled, counts.in_flight), (EVENTS, EVENTS, 0));
    }
}

#[test]
fn block_for_gives_up_after_its_limit_and_says_so() {
    let _dog = watchdog();
    let limit = Duration::from_millis(5);
    let (mut tx, mut rx) =
        ends(&Class::strict("only").with_capacity(1).with_payload_bytes(64).block_for(limit));
    tx.publish(1u64, |slot| *slot = 1).unwrap();
    let begun = Instant::now();
    let refusal = tx.publish(1u64, |_| unreachable!("timed out")).unwrap_err();
    assert!(refusal.reason == Rejection::TimedOut && begun.elapsed() >= limit);
    // A limit of nothing never waits, and what can never fit is not waited for.
    let refused = |tx: &mut LaneProducer<u64>, bytes, limit| {
        tx.claim(1u64).with_payload(bytes).acquire_timeout(limit).map(|_| ()).unwrap_err()
    };
    assert_eq!(refused(&mut tx, 0, Duration::ZERO).reason, Rejection::TimedOut);
    assert_eq!(drain(&mut rx), [1]);
    assert_eq!(refused(&mut tx, 33, Duration::MAX).reason, Rejection::TooLarge);
    let counts = rx.counts();
    assert_eq!((counts.offered, counts.rejected_for(Rejection::TimedOut)), (4, 2));
    assert!(counts.is_closed(), "{counts:?}");
}

#[test]
fn the_longest_durations_wait_like_no_limit() {
    let _dog = watchdog();
    let (mut tx, mut rx) = ends(&Class::strict("only").with_capacity(1).block_for(Duration::MAX));
    let producer = std::thread::spawn(move || {
        for event in 0..500u64 {
            assert_eq!(tx.publish(1u64, |slot| *slot = event), Ok(Outcome::Accepted));
        }
        tx
    });
    let mut seen = Vec::new();
    while seen.len() < 500 {
        seen.extend(drain(&mut rx));
        std::thread::yield_now();
    }
    drop(producer.join().unwrap());
    assert!(seen.into_iter().eq(0..500) && rx.counts().is_closed());
}

#[test]
fn closing_releases_a_blocked_producer() {
    let _dog = watchdog();
    for round in 0..20 {
        let (mut tx, rx) = ends(&Class::strict("only").with_capacity(1).block());
        tx.publish(1u64, |slot| *slot = 1).unwrap();
        let producer = std::thread::spawn(move || tx.publish(1u64, |_| unreachable!("closed")));
        if round % 2 == 0 {
            // Gives it the time to fall asleep; the other rounds race it.
            std::thread::sleep(Duration::from_millis(2));
        }
        drop(rx);
        assert_eq!(producer.join().unwrap().unwrap_err().reason, Rejection::Closed);
    }
}

#[test]
fn aborted_claims_are_counted_outside_the_identity() {
    let _dog = watchdog();
    quiet_panics();
    let (mut tx, mut rx) = ends(&Class::strict("only").with_capacity(2).with_payload_bytes(64).reject());
    drop(tx.claim(1u64).with_payload(8).try_acquire().unwrap());
    let panicked = catch_unwind(AssertUnwindSafe(|| tx.publish(1u64, |_| panic!("{PLANNED} in a writer"))));
    assert!(panicked.is_err());
    let too_long = catch_unwind(AssertUnwindSafe(|| {
        tx.claim(1u64).with_payload(8).try_acquire().unwrap().publish_len(9)
    }));
    assert!(too_long.is_err());
    std::mem::forget(tx.claim(1u64).with_payload(8).try_acquire().unwrap());
    let counts = rx.counts();
    assert_eq!((counts.aborted, counts.offered, counts.in_flight), (3, 0, 0));
    tx.publish(1u64, |slot| *slot = 5).unwrap();
    assert_eq!(drain(&mut rx), [5]);
    let counts = rx.counts();
    assert_eq!((counts.aborted, counts.offered, counts.handled), (3, 1, 1));
    assert!(counts.is_closed());
}

#[test]
fn a_handler_that_panics_costs_one_event() {
    let _dog = watchdog();
    quiet_panics();
    let (mut tx, mut rx) = ends(&Class::strict("only").with_capacity(8).reject());
    for event in 0..8u64 {
        tx.publish(event, |slot| *slot = event).unwrap();
    }
    let mut seen = Vec::new();
    let polled = catch_unwind(AssertUnwindSafe(|| {
        rx.poll(64, |event| {
            assert!(**event != 3, "{PLANNED} in a handler");
            seen.push(**event);
        })
    }));
    assert!(polled.is_err());
    assert_eq!(seen, [0, 1, 2]);
    let counts = rx.counts();
    assert_eq!(
        (counts.handled, counts.failed_for(pelton::event::Failure::Panic), counts.in_flight),
        (3, 1, 4)
    );
    assert!(counts.is_closed());
    // The slots before it and its own are the producer's again.
    for event in 8..12u64 {
        tx.publish(event, |slot| *slot = event).unwrap();
    }
    assert_eq!(drain(&mut rx), (4..12).collect::<Vec<_>>());
    assert!(rx.counts().is_closed());
}

#[test]
fn payloads_are_published_as_long_as_they_were_used() {
    let _dog = watchdog();
    let (mut tx, mut rx) = ends(&Class::strict("only").with_capacity(8).with_payload_bytes(128).reject());
    for len in [0usize, 1, 17, 64] {
        let mut claim = tx.claim(len as u64).with_payload(64).try_acquire().unwrap();
        let (event, bytes) = claim.parts_mut();
        *event = len as u64;
        bytes[..len].fill(len as u8);
        claim.publish_len(len).unwrap();
        let mut polled = rx.poll(1, |item| assert_eq!(item.payload(), vec![**item as u8; **item as usize]));
        polled += rx.poll(1, |_| unreachable!());
        assert_eq!(polled, 1);
    }
    assert!(rx.counts().is_closed());
}

#[test]
fn a_producer_that_is_gone_closes_its_lane_and_what_it_published_is_handled() {
    let _dog = watchdog();
    let (mut tx, mut rx) = ends(&Class::strict("only").with_capacity(4).reject());
    tx.publish(1u64, |slot| *slot = 1).unwrap();
    assert!(!rx.is_closed() && rx.is_ready());
    drop(tx);
    assert!(rx.is_closed());
    assert_eq!(drain(&mut rx), [1]);
    assert!(!rx.is_ready() && rx.counts().is_closed());
}

#[test]
fn a_bad_class_is_refused_where_a_lane_is_made() {
    let _dog = watchdog();
    let text = lane(&Class::strict("only").with_capacity(3), || 0u64).map(|_| ()).unwrap_err().to_string();
    assert!(text.contains("capacity is 3") && text.contains("4 would work"), "{text}");
}
