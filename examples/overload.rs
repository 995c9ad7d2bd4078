//! Overload: the effect of each policy when a lane is full, and how the ledger accounts for it.
//!
//! The lanes have four slots. Ten events of each class are published before the shard handles any, so each lane
//! overflows in the same way every time.
//!
//! ```sh
//! cargo run -p pelton --example overload
//! ```

use pelton::{Class, ClassId, Context, Event, Outcome, Plan, Producer, Profile, Rejection};
use std::time::Duration;

/// Publishes ten events. Returns how many were accepted, how many were dropped, and the reason of the last rejection.
fn publish_ten(tx: &mut Producer<u64>, class: ClassId) -> (u64, u64, Option<Rejection>) {
    let (mut accepted, mut dropped, mut rejected) = (0, 0, None);
    for i in 0..10 {
        match tx.publish(class, 7, |event| *event = i) {
            Ok(Outcome::Accepted) => accepted += 1,
            Ok(Outcome::Dropped) => dropped += 1,
            Err(error) => rejected = Some(error.reason),
        }
    }
    (accepted, dropped, rejected)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut plan = Plan::new(Profile::Dev);
    let four = |class: Class| class.with_capacity(4);
    let orders = plan.class(four(Class::strict("orders")).block_for(Duration::from_millis(1)));
    let quotes = plan.class(four(Class::strict("quotes")).reject());
    let ticks = plan.class(four(Class::weighted("ticks", 1)).drop_newest());
    let alerts = plan.class(four(Class::weighted("alerts", 3)).reject().with_ttl(Duration::from_millis(5)));

    // This program drives the shard itself, so that it can overflow the lanes first.
    let (engine, mut seats) = plan.host_driven(|| 0)?;
    let handler = |_: &mut Event<'_, u64>, _: &mut Context<'_, u64>| ();
    let mut shard = seats.remove(0).build(handler)?;
    let mut tx = engine.attach()?;

    // `block_for` waits for room for 1 ms, then rejects.
    assert_eq!(publish_ten(&mut tx, orders), (4, 0, Some(Rejection::TimedOut)));
    // `reject` rejects at once. The closure is not called then.
    assert_eq!(publish_ten(&mut tx, quotes), (4, 0, Some(Rejection::SlotsFull)));
    // `drop_newest` drops the new event. That is an outcome, not an error.
    assert_eq!(publish_ten(&mut tx, ticks), (4, 6, None));
    // With a time to live, events that have waited for too long expire.
    assert_eq!(publish_ten(&mut tx, alerts), (4, 0, Some(Rejection::SlotsFull)));
    std::thread::sleep(Duration::from_millis(20));

    engine.close();
    while !engine.drain(Duration::ZERO) {
        shard.poll();
    }
    let mut report = engine.stop(Duration::ZERO)?;
    report.add(shard.finish());
    println!("{report}");

    // Nothing is silent: the ledger has every one of the 40 events, under one outcome each.
    assert!(report.ledger.is_closed());
    assert_eq!(report.ledger.total().offered, 40);
    assert_eq!(report.ledger.class(orders).rejected_for(Rejection::TimedOut), 6);
    assert_eq!(report.ledger.class(quotes).rejected_for(Rejection::SlotsFull), 6);
    assert_eq!(report.ledger.class(ticks).rejected_for(Rejection::DroppedNewest), 6);
    assert_eq!(report.ledger.class(alerts).expired, 4);
    assert_eq!(report.ledger.total().handled, 12);
    Ok(())
}

#[test]
fn example_runs() {
    main().unwrap();
}
