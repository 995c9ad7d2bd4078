//! Failure stays where it happened: a panic costs one event, which is kept with its particulars; a stalled shard costs
//! nobody but those who publish to it; and whatever a handler does, producers go on.

use pelton::engine::{AskError, OnPanic, StartError};
use pelton::event::Failure;
use pelton::shard::{MESSAGE_BYTES, PAYLOAD_BYTES, QUARANTINE_MAX};
use pelton::{Class, Context, Event, Handler, Key, Rejection, ShardId, Verdict};
use pelton_testkit::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

#[test]
fn a_panic_costs_its_event_and_none_before_or_after_it() {
    let _dog = watchdog();
    quiet_panics();
    let mut plan = plan().with_shards(2).with_burst(16);
    let class = plan.class(Class::strict("only").with_capacity(32).reject());
    let mut rig = rig(plan, |_| {
        acting(|event, _| {
            assert!(event.sequence % 3 != 1, "{PLANNED} at {}", event.sequence);
            Verdict::Done
        })
    });
    let (mut tx, mut source) = (rig.engine.attach().unwrap(), Source::new(0));
    for round in 1..=10u64 {
        for key in 0..6 {
            (0..3).for_each(|_| assert!(source.publish(&mut tx, class, key).is_ok()));
        }
        rig.run_dry();
        let total = rig.engine.ledger().total();
        assert_eq!((total.handled, total.failed_for(Failure::Panic)), (round * 12, round * 6));
    }
    let (report, ends) = rig.end();
    assert_eq!(ends.iter().map(|end| end.quarantine.panics).sum::<u64>(), 60);
    assert_invariants(&report, &[source], &witnesses(ends));
}

#[test]
fn the_quarantine_keeps_the_first_panics_with_their_particulars_and_no_more() {
    let _dog = watchdog();
    quiet_panics();
    let mut plan = plan();
    let class = plan.class(Class::strict("only").with_capacity(64).with_payload_bytes(1 << 14).block());
    let long = format!("{PLANNED}: {}", "ä".repeat(MESSAGE_BYTES));
    let said = long.clone();
    let handler = move |event: &mut Event<'_, u64>, _: &mut Context<'_, u64>| -> Verdict {
        match **event {
            0 => panic!("{PLANNED} with a text"),
            1 => std::panic::resume_unwind(Box::new(7u32)),
            2 => panic!("{said}"),
            _ => panic!("{PLANNED}"),
        }
    };
    let engine = plan.start(|| 0u64, move |_| handler.clone()).unwrap();
    let mut tx = engine.attach().unwrap();
    let payloads = [&b""[..], b"short", &[0xEE; 200]];
    let panics = QUARANTINE_MAX as u64 + 10;
    for n in 0..panics {
        let payload = payloads.get(n as usize).copied().unwrap_or(b"more");
        tx.publish_payload(class, 100 + n, payload, |event| *event = n).unwrap();
    }
    let id = tx.id();
    drop(tx);
    let report = engine.stop(Duration::from_secs(30)).unwrap();
    assert_closed(&report);
    assert_eq!(report.ledger.total().failed_for(Failure::Panic), panics);
    let quarantine = report.shards[0].quarantine.as_ref().unwrap();
    assert_eq!((quarantine.panics, quarantine.kept.len()), (panics, QUARANTINE_MAX));
    for (n, kept) in quarantine.kept.iter().enumerate() {
        let lane = kept.lane.unwrap();
        assert_eq!((lane.producer, lane.shard, lane.class), (id, ShardId(0), class));
        assert_eq!((kept.sequence, kept.key), (n as u64, Key(100 + n as u64)));
        let payload = payloads.get(n).copied().unwrap_or(b"more");
        assert_eq!(kept.payload(), &payload[..payload.len().min(PAYLOAD_BYTES)]);
    }
    let message = |n: usize| quarantine.kept[n].message();
    assert_eq!(message(0), format!("{PLANNED} with a text"));
    assert_eq!(message(1), "a panic without a message");
    // Cut at the last whole character.
    assert!(long.starts_with(message(2)) && (MESSAGE_BYTES - 1..=MESSAGE_BYTES).contains(&message(2).len()));
}

/// Panics again when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("{PLANNED} in the drop of a panic");
    }
}

#[test]
fn a_panic_that_panics_again_when_dropped_costs_one_event() {
    let _dog = watchdog();
    quiet_panics();
    let mut plan = plan();
    let class = plan.class(Class::strict("only").with_capacity(8).block());
    let engine = plan
        .start(Proof::default, |_| {
            acting(|event, _| {
                if event.order == 1 {
                    // Not `panic_any`, whose message every hook would print.
                    std::panic::resume_unwind(Box::new(Bomb));
                }
                Verdict::Done
            })
        })
        .unwrap();
    let (mut tx, mut source) = (engine.attach().unwrap(), Source::new(0));
    for i in 0..40 {
        source.publish_order(&mut tx, class, i % 3, i % 2).unwrap();
    }
    let mut report = engine.stop(Duration::from_secs(30)).unwrap();
    assert!(report.drained && report.shards[0].stopped);
    assert_eq!(report.ledger.total().failed_for(Failure::Panic), 20);
    let witnesses = report.outputs();
    assert_invariants(&report, &[source], &witnesses);
}

#[test]
fn producers_go_on_at_once_after_a_panic() {
    let _dog = watchdog();
    quiet_panics();
    // Each event panics, and each publish but the first waits for the slot of the one before.
    let mut plan = plan();
    let class = plan.class(Class::strict("only").with_capacity(1).block());
    let engine = plan.start(Proof::default, |_| acting(|_, _| panic!("{PLANNED}"))).unwrap();
    let (mut tx, mut source) = (engine.attach().unwrap(), Source::new(0));
    let begun = Instant::now();
    for _ in 0..200 {
        source.publish(&mut tx, class, 1).unwrap();
    }
    let spent = begun.elapsed() / 200;
    assert!(spent < Duration::from_millis(100), "{spent:?} for each");
    let mut report = engine.stop(Duration::from_secs(30)).unwrap();
    let witnesses = report.outputs();
    assert_invariants(&report, &[source], &witnesses);
}

#[test]
fn a_shard_that_stops_on_panic_closes_its_lanes_and_leaves_the_rest_in_flight() {
    let _dog = watchdog();
    quiet_panics();
    let mut plan = plan().with_shards(2).with_on_panic(OnPanic::StopShard);
    let class = plan.class(Class::strict("only").with_capacity(8).reject());
    let mut rig = rig(plan, |_| {
        acting(|event, _| {
            assert!(event.order != 1, "{PLANNED}");
            Verdict::Done
        })
    });
    let (mut tx, mut source) = (rig.engine.attach().unwrap(), Source::new(0));
    let key = |tx: &pelton::Producer<Proof>, shard| {
        (0..).find(|k: &u64| tx.shard_of(*k) == ShardId(shard)).unwrap()
    };
    let (bad, good) = (key(&tx, 0), key(&tx, 1));
    for order in [0, 0, 1, 0, 0] {
        source.publish_order(&mut tx, class, bad, order).unwrap();
        source.publish(&mut tx, class, good).unwrap();
    }
    for _ in 0..20 {
        rig.poll();
    }
    assert!(rig.shards[0].is_stopping() && !rig.shards[1].is_stopping());
    assert_eq!(source.publish(&mut tx, class, bad).unwrap_err().reason, Rejection::Closed);
    source.publish(&mut tx, class, good).unwrap();
    rig.poll();
    rig.engine.close();
    let (report, ends) = rig.end_now();
    assert!(!report.drained);
    let counts = report.ledger.shard(ShardId(0));
    assert_eq!((counts.handled, counts.failed_for(Failure::Panic), counts.in_flight), (2, 1, 2));
    assert_eq!(report.ledger.shard(ShardId(1)).handled, 6);
    assert_invariants(&report, &[source], &witnesses(ends));
}

#[test]
fn a_producer_that_waits_for_a_shard_that_stops_on_panic_is_released() {
    let _dog = watchdog();
    quiet_panics();
    let mut plan = plan().with_on_panic(OnPanic::StopShard);
    let class = plan.class(Class::strict("only").with_capacity(1).block());
    let (entered, door) = (Door::default(), Door::default());
    let (here, open) = (entered.clone(), door.clone());
    let engine = plan.start(Proof::default, move |_| {
        let (here, open) = (here.clone(), open.clone());
        acting(move |_, _| {
            here.open();
            open.wait();
            panic!("{PLANNED}")
        })
    });
    let engine = engine.unwrap();
    let (mut tx, mut source) = (engine.attach().unwrap(), Source::new(0));
    source.publish(&mut tx, class, 1).unwrap();
    entered.wait();
    let producer = std::thread::spawn(move || {
        let said = source.publish(&mut tx, class, 1);
        (source, said)
    });
    door.open();
    let (source, said) = producer.join().unwrap();
    // It may have got the slot of the event that failed before the lane was closed: then that event stays.
    let mut report = engine.stop(Duration::from_millis(10)).unwrap();
    if let Err(refusal) = said {
        assert_eq!(refusal.reason, Rejection::Closed);
    }
    assert!(report.shards[0].stopped);
    let witnesses = report.outputs();
    assert_invariants(&report, &[source], &witnesses);
}

/// Panics in the method that is named.
struct Fragile(&'static str, u64);

impl Fragile {
    fn may_panic(&self, method: &str) {
        assert!(self.0 != method, "{PLANNED} in {method}");
    }
}

impl Handler<u64> for Fragile {
    type Output = u64;
    fn on_event(&mut self, _: &mut Event<'_, u64>, _: &mut Context<'_, u64>) -> Verdict {
        self.1 += 1;
        Verdict::Done
    }
    fn on_start(&mut self, _: &mut Context<'_, u64>) {
        self.may_panic("on_start");
    }
    fn on_batch_end(&mut self, _: &mut Context<'_, u64>) {
        self.may_panic("on_batch_end");
    }
    fn on_idle(&mut self, _: &mut Context<'_, u64>) {
        self.may_panic("on_idle");
    }
    fn on_stop(self, _: &mut Context<'_, u64>) -> u64 {
        self.may_panic("on_stop");
        self.1
    }
}

#[test]
fn a_panic_in_any_other_method_is_caught_and_counted_and_the_shard_goes_on() {
    let _dog = watchdog();
    quiet_panics();
    for method in ["on_start", "on_batch_end", "on_idle", "on_stop"] {
        let mut plan = plan();
        let class = plan.class(Class::strict("only").with_capacity(8).block());
        let engine = plan.start(|| 0u64, move |_| Fragile(method, 0)).unwrap();
        let mut tx = engine.attach().unwrap();
        for key in 0..100u64 {
            tx.publish(class, key, |_| ()).unwrap();
        }
        assert!(engine.drain(Duration::from_secs(30)));
        let mut report = engine.stop(Duration::from_secs(30)).unwrap();
        assert_closed(&report);
        assert!(report.drained && report.shards[0].stopped, "{method}");
        assert_eq!((report.ledger.total().handled, report.ledger.total().failed_total()), (100, 0));
        let quarantine = report.shards[0].quarantine.clone().unwrap();
        assert!(quarantine.panics >= 1 && quarantine.kept.len() <= QUARANTINE_MAX, "{method}");
        assert!(quarantine.kept[0].lane.is_none() && quarantine.kept[0].message().ends_with(method));
        assert_eq!(report.output::<u64>(ShardId(0)), (method != "on_stop").then_some(100));
    }
}

#[test]
fn a_question_that_panics_costs_its_answer_and_not_the_shard() {
    let _dog = watchdog();
    quiet_panics();
    let mut plan = plan();
    let class = plan.class(Class::strict("only").with_capacity(8).block());
    let engine = plan.start(|| 0u64, |_| Fragile("nowhere", 0)).unwrap();
    let mut tx = engine.attach().unwrap();
    for round in 0..5 {
        tx.publish(class, 1u64, |_| ()).unwrap();
        let question = |_: &mut Fragile| -> () { panic!("{PLANNED} in a question") };
        let error = engine.ask(ShardId(0), question).unwrap_err();
        assert_eq!(error, AskError::Panicked(ShardId(0)));
        assert!(error.to_string().contains("panicked"), "{error}");
        assert!(engine.drain(Duration::from_secs(30)));
        assert_eq!(engine.ask(ShardId(0), |handler: &mut Fragile| handler.1), Ok(round + 1));
    }
    let report = engine.stop(Duration::from_secs(30)).unwrap();
    assert!(report.drained && report.shards[0].stopped);
    assert_closed(&report);
}

#[test]
fn a_factory_that_panics_fails_the_start_and_leaves_nothing_behind() {
    let _dog = watchdog();
    quiet_panics();
    // Two shards of two lanes of four slots each.
    for fails_at in [0, 1, 4, 9, 15] {
        let book = DropBook::new(64, None);
        let mut plan = plan().with_shards(2).with_producers_max(2);
        plan.class(Class::strict("only").with_capacity(4).reject());
        let making = book.clone();
        let made = AtomicUsize::new(0);
        let make = move || {
            assert!(made.fetch_add(1, Ordering::Relaxed) != fails_at, "{PLANNED} in a factory of events");
            making.make()
        };
        let said = plan.start(make, |_| |_: &mut Event<'_, Dropped>, _: &mut Context<'_, Dropped>| ());
        let error = said.map(|_| ()).unwrap_err();
        assert!(matches!(error, StartError::FactoryPanicked { .. }), "{error}");
        assert!(error.to_string().contains("panicked"), "{error}");
        settles(&book);
        book.assert_all_dropped_once();
    }
    for fails_at in 0..2 {
        let book = DropBook::new(64, None);
        let mut plan = plan().with_shards(2).with_producers_max(2);
        plan.class(Class::strict("only").with_capacity(4).reject());
        let making = book.clone();
        let handler = move |shard: ShardId| {
            assert!(shard.0 != fails_at, "{PLANNED} in a factory of handlers");
            |_: &mut Event<'_, Dropped>, _: &mut Context<'_, Dropped>| ()
        };
        let error = plan.start(move || making.make(), handler).map(|_| ()).unwrap_err();
        assert!(matches!(error, StartError::FactoryPanicked { shard } if shard.0 == fails_at), "{error}");
        settles(&book);
        book.assert_all_dropped_once();
    }
}

/// Waits until every value is gone: a thread that was told to stop may hold the last of them for a moment.
fn settles(book: &Arc<DropBook>) {
    while book.alive() > 0 {
        std::thread::yield_now();
    }
}

#[test]
fn a_stalled_shard_costs_no_other_shard() {
    let _dog = watchdog();
    let mut plan = plan().with_shards(2);
    let class = plan.class(Class::strict("only").with_capacity(16).reject());
    let (entered, door) = (Door::default(), Door::default());
    let (here, open) = (entered.clone(), door.clone());
    let engine = plan.start(Proof::default, move |shard| {
        let (here, open) = (here.clone(), open.clone());
        acting(move |_, _| {
            if shard == ShardId(0) {
                here.open();
                open.wait();
            }
            Verdict::Done
        })
    });
    let engine = engine.unwrap();
    let mut users = [(engine.attach().unwrap(), Source::new(0)), (engine.attach().unwrap(), Source::new(1))];
    let key = |shard| (0..).find(|k: &u64| users[0].0.shard_of(*k) == ShardId(shard)).unwrap();
    let (stalled, good) = (key(0), key(1));
    let (tx, source) = &mut users[0];
    source.publish(tx, class, stalled).unwrap();
    entered.wait();
    while source.publish(tx, class, stalled).is_ok() {}
    // Both the producer whose lane to it is full and the other one go on.
    for round in 1..=200u64 {
        for (tx, source) in &mut users {
            source.publish(tx, class, good).unwrap();
        }
        while engine.ledger().shard(ShardId(1)).handled < round * 2 {
            std::thread::yield_now();
        }
    }
    assert_eq!(engine.ledger().shard(ShardId(0)).handled, 0);
    door.open();
    let sources = users.map(|(_, source)| source);
    let mut report = engine.stop(Duration::from_secs(30)).unwrap();
    assert!(report.drained);
    let witnesses = report.outputs();
    assert_invariants(&report, &sources, &witnesses);
}
