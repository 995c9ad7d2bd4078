//! What does a whole engine cost an event, against a bare disruptor that does nothing but hand it over?
//!
//! The engine: one producer, one shard, keyed routing, three classes in turn (one strict, two weighted), the exact
//! ledger, and stamps on one event in 64, on every event, or on none. The disruptor: one ring, no classes, no keys, no
//! ledger, no stamps. 64-byte slots, capacity 1,024 a class, one by one.

mod support;

use pelton::class::Stamp;
use pelton::wait::Wait;
use pelton::{Class, Context, Event, Plan, Profile};
use std::time::{Duration, Instant};
use support::*;

fn pelton(n: u64, w: u64, stamp: Stamp) -> f64 {
    let mut plan = Plan::new(Profile::Latency).burst(64).producers_max(1).cpus([cpus()[1]]).wait(Wait::Spin);
    let class = |class: Class| class.capacity(1_024).stamp(stamp);
    let classes = [
        plan.class(class(Class::strict("a"))),
        plan.class(class(Class::weighted("b", 1))),
        plan.class(class(Class::weighted("c", 1))),
    ];
    // The order that is checked is that of each class, as the engine promises.
    let handler = move |_| {
        let mut next = [0u64, 1, 2];
        move |event: &mut Event<'_, Body>, _: &mut Context<'_, Body>| {
            let expected = &mut next[event.class().index()];
            check(event.key().0, event, *expected);
            *expected += 3;
        }
    };
    let engine = plan.start(Body::default, handler).unwrap();
    pin(0);
    let mut tx = engine.attach().unwrap();
    let start = Instant::now();
    let mut class = 0;
    for i in 0..n {
        work(w, i);
        tx.publish(classes[class], i & 1_023, |event| *event = Body::new(i, i & 1_023)).unwrap();
        class = if class == 2 { 0 } else { class + 1 };
    }
    while engine.ledger().total().handled < n {
        std::hint::spin_loop();
    }
    let end = Instant::now();
    drop(tx);
    let report = engine.stop(Duration::from_secs(10)).unwrap();
    assert!(report.ledger.is_closed() && report.ledger.total().handled == n);
    per_event(start, end, n)
}

fn main() {
    banner("engine: routing, three classes, ledger and stamps, against a bare disruptor");
    let n = events(3_000_000);
    for w in [0, 10, 20, 40] {
        let figures = alternate(vec![
            Peer::new("pelton engine, stamps 1 in 64", || pelton(n, w, Stamp::OneIn(64))),
            Peer::new("pelton engine, stamps never", || pelton(n, w, Stamp::Never)),
            Peer::new("pelton engine, every event stamped", || pelton(n, w, Stamp::Every)),
            Peer::new("bare disruptor, publish", || disruptor(n, w)),
        ]);
        table(&format!("{w} dependent multiplications before each event"), &figures);
    }
}
