//! Classes: strict ones first with bounded preemption, weighted ones by their weights, a floor for the lowest, and a
//! time to live on a clock that the test moves. All step by step, by hand.

use pelton::class::ClassId;
use pelton::event::Failure;
use pelton::{Class, Outcome, Plan, Producer, Rejection, Verdict};
use pelton_testkit::*;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

/// Publishes `n` events of a class.
fn fill(tx: &mut Producer<Proof>, source: &mut Source, class: ClassId, n: u64) {
    for _ in 0..n {
        assert_eq!(source.publish(tx, class, 1), Ok(Outcome::Accepted));
    }
}

/// The classes that are served by each of `polls` polls, from backlogs that never end.
fn served(mut plan: Plan, classes: Vec<Class>, backlogged: &[usize], polls: usize) -> Vec<(usize, u64)> {
    let ids: Vec<_> = classes.into_iter().map(|class| plan.class(class.with_capacity(64).reject())).collect();
    let last = Rc::new(RefCell::new(Vec::new()));
    let log = last.clone();
    let mut rig = rig(plan, move |_| {
        let log = log.clone();
        acting(move |event, _| {
            log.borrow_mut().push(event.class().index());
            Verdict::Done
        })
    });
    let (mut tx, mut source) = (rig.engine.attach().unwrap(), Source::new(0));
    let mut served = Vec::new();
    for _ in 0..polls {
        for class in backlogged {
            while source.publish(&mut tx, ids[*class], 1).is_ok() {}
        }
        let polled = rig.poll();
        let log = std::mem::take(&mut *last.borrow_mut());
        assert!(log.iter().all(|class| *class == log[0]), "a burst is of one class: {log:?}");
        assert_eq!(log.len() as u64, polled);
        served.push((log[0], polled));
    }
    let (report, ends) = rig.end();
    assert_invariants(&report, &[source], &witnesses(ends));
    served
}

fn events_of(served: &[(usize, u64)], class: usize) -> u64 {
    served.iter().filter(|(of, _)| *of == class).map(|(_, n)| n).sum()
}

#[test]
fn a_strict_class_waits_for_at_most_one_burst_of_a_lower_one() {
    let _dog = watchdog();
    for (burst, lower) in
        [(1, Class::strict("low")), (8, Class::weighted("low", 5)), (60, Class::strict("low"))]
    {
        let mut plan = plan().with_burst(burst);
        let high = plan.class(Class::strict("high").with_capacity(64).reject());
        let low = plan.class(lower.with_capacity(64).reject());
        let mut rig = rig(plan, |_| recording());
        let (mut tx, mut source) = (rig.engine.attach().unwrap(), Source::new(0));
        let handled = |rig: &Rig<_>, class| rig.engine.ledger().class(class).handled;
        for round in 0..30 {
            while source.publish(&mut tx, low, 1).is_ok() {}
            // The lower one is in the middle of its backlog when the higher one comes.
            assert_eq!(rig.poll(), u64::from(burst));
            fill(&mut tx, &mut source, high, 1);
            let before = handled(&rig, low);
            assert_eq!(rig.poll(), 1, "round {round}");
            assert_eq!((handled(&rig, high), handled(&rig, low)), (round + 1, before));
        }
        let (report, ends) = rig.end();
        assert_invariants(&report, &[source], &witnesses(ends));
    }
}

#[test]
fn strict_classes_are_served_in_the_order_of_their_declaration() {
    let _dog = watchdog();
    let classes =
        || vec![Class::strict("a"), Class::strict("b"), Class::weighted("c", 1), Class::strict("d")];
    let plan = || plan().with_burst(4).with_floor(u32::MAX);
    assert_eq!(served(plan(), classes(), &[0, 1, 2, 3], 20), [(0, 4); 20]);
    assert_eq!(served(plan(), classes(), &[1, 2, 3], 20), [(1, 4); 20]);
    // Weighted classes come below every strict one, also below those that are declared later.
    assert_eq!(served(plan(), classes(), &[2, 3], 20), [(3, 4); 20]);
}

#[test]
fn weights_share_what_strict_classes_leave() {
    let _dog = watchdog();
    let classes =
        vec![Class::strict("top"), Class::weighted("x", 6), Class::weighted("y", 2), Class::weighted("z", 1)];
    let shares = served(plan().with_burst(4), classes, &[1, 2, 3], 900);
    assert_eq!((events_of(&shares, 1), events_of(&shares, 2), events_of(&shares, 3)), (2_400, 800, 400));
    // A weighted class with nothing to do costs the others nothing.
    let classes = vec![Class::weighted("x", 1_000), Class::weighted("y", 1)];
    assert_eq!(served(plan().with_burst(4), classes, &[1], 50), [(1, 4); 50]);
}

#[test]
fn the_floor_keeps_the_lowest_class_from_starving() {
    let _dog = watchdog();
    for lowest in [Class::strict("low"), Class::weighted("low", 3)] {
        let classes = vec![Class::strict("high"), lowest];
        let served = served(plan().with_burst(4).with_floor(9), classes, &[0, 1], 100);
        for ten in served.chunks(10) {
            assert_eq!(ten.iter().filter(|(class, _)| *class == 1).count(), 1, "{served:?}");
        }
        assert_eq!((events_of(&served, 0), events_of(&served, 1)), (360, 40));
    }
}

#[test]
fn a_full_class_takes_nothing_from_another() {
    let _dog = watchdog();
    let mut plan = plan();
    let bulk = plan.class(Class::weighted("bulk", 1).with_capacity(2).drop_newest());
    let critical = plan.class(Class::strict("critical").with_capacity(4).reject());
    let rig = rig(plan, |_| recording());
    let (mut tx, mut source) = (rig.engine.attach().unwrap(), Source::new(0));
    for _ in 0..100 {
        let _ = source.publish(&mut tx, bulk, 1).unwrap();
    }
    fill(&mut tx, &mut source, critical, 4);
    assert_eq!(source.publish(&mut tx, critical, 1).unwrap_err().reason, Rejection::SlotsFull);
    let (report, ends) = rig.end();
    assert_eq!(report.ledger.class(bulk).rejected_for(Rejection::DroppedNewest), 98);
    assert_eq!(report.ledger.class(critical).handled, 4);
    assert_invariants(&report, &[source], &witnesses(ends));
}

#[test]
fn events_older_than_their_time_to_live_expire_and_no_others() {
    let _dog = watchdog();
    let mut plan = plan();
    let ttl = Duration::from_micros(50);
    let short = plan.class(Class::strict("short").with_capacity(16).with_ttl(ttl).reject());
    let long = plan.class(Class::weighted("long", 1).with_capacity(16).with_ttl(Duration::MAX).reject());
    let mut rig = rig(plan, |_| recording());
    let (mut tx, mut source) = (rig.engine.attach().unwrap(), Source::new(0));
    rig.time.advance(Duration::from_secs(1));
    fill(&mut tx, &mut source, short, 3);
    fill(&mut tx, &mut source, long, 3);
    rig.time.advance(Duration::from_micros(30));
    fill(&mut tx, &mut source, short, 2);
    // 50 µs old: exactly its time to live, which is not too old.
    rig.time.advance(Duration::from_micros(20));
    assert_eq!(rig.poll(), 5);
    assert_eq!(rig.engine.ledger().class(short).handled, 5);
    fill(&mut tx, &mut source, short, 3);
    rig.time.advance(Duration::from_micros(25));
    fill(&mut tx, &mut source, short, 1);
    rig.time.advance(Duration::from_micros(26));
    // The first three are 51 µs old, the last 26.
    assert_eq!(rig.poll(), 4);
    let counts = rig.engine.ledger().class(short);
    assert_eq!((counts.handled, counts.expired), (6, 3));
    // Time may jump as far as it likes.
    fill(&mut tx, &mut source, short, 1);
    rig.time.advance(Duration::from_secs(200 * 365 * 86_400));
    rig.run_dry();
    let (report, ends) = rig.end();
    assert_eq!((report.ledger.class(short).expired, report.ledger.class(long).handled), (4, 3));
    assert_invariants(&report, &[source], &witnesses(ends));
}

#[test]
#[cfg(feature = "latency")]
fn expired_events_record_how_late_they_were() {
    let _dog = watchdog();
    let mut plan = plan();
    let class =
        plan.class(Class::strict("short").with_capacity(16).with_ttl(Duration::from_millis(1)).reject());
    let (clock, time) = pelton::clock::Clock::virtual_time();
    let (entered, door) = (Door::default(), Door::default());
    let (here, open) = (entered.clone(), door.clone());
    let engine = plan.with_clock(clock).start(Proof::default, move |_| {
        let (here, open) = (here.clone(), open.clone());
        acting(move |event, _| {
            if event.order == 1 {
                here.open();
                open.wait();
            }
            Verdict::Done
        })
    });
    let engine = engine.unwrap();
    let (mut tx, mut source) = (engine.attach().unwrap(), Source::new(0));
    source.publish_order(&mut tx, class, 1, 1).unwrap();
    entered.wait();
    // These grow old behind the first one.
    fill(&mut tx, &mut source, class, 3);
    time.advance(Duration::from_millis(7));
    door.open();
    let mut report = engine.stop(Duration::from_secs(30)).unwrap();
    let counts = report.ledger.class(class);
    assert_eq!((counts.handled, counts.expired), (1, 3));
    let late = &report.classes[0].latency.lateness_ns;
    assert_eq!(late.len(), 3);
    assert!(late.min() > 5_800_000 && late.max() < 6_200_000, "6 ms: {} to {}", late.min(), late.max());
    let witnesses = report.outputs();
    assert_invariants(&report, &[source], &witnesses);
}

/// One reading of the clock may end an event and begin the next, and no later one: those between are not measured.
#[test]
#[cfg(feature = "latency")]
fn sampled_events_are_measured_from_their_own_beginning() {
    use pelton::class::Stamp;
    let _dog = watchdog();
    let (clock, time) = pelton::clock::Clock::virtual_time();
    let mut plan = plan().with_clock(clock);
    let class = plan.class(Class::strict("only").with_capacity(16).with_stamp(Stamp::OneIn(4)).reject());
    let (engine, mut seats) = plan.host_driven(Proof::default).unwrap();
    let handler = acting(move |_, _| {
        time.advance(Duration::from_nanos(100));
        Verdict::Done
    });
    let mut shard = seats.pop().unwrap().build(handler).unwrap();
    shard.poll();
    let (mut tx, mut source) = (engine.attach().unwrap(), Source::new(0));
    for _ in 0..16 {
        source.publish(&mut tx, class, 1).unwrap();
    }
    assert_eq!(shard.poll(), 16);
    let report = engine.stop(Duration::ZERO).unwrap();
    let end = shard.finish();
    let latency = &end.latency[0];
    assert_eq!(
        (latency.handling_ns.len(), latency.handling_ns.min(), latency.handling_ns.max()),
        (4, 100, 100)
    );
    // Four measured events, four hundred nanoseconds apart; to two digits.
    let waits: Vec<u64> =
        latency.wait_ns.iter_recorded().map(|step| step.value_iterated_to() / 10 * 10).collect();
    assert_eq!(waits, [0, 400, 800, 1_200]);
    assert_invariants(&report, &[source], &witnesses(vec![end]));
}

#[test]
#[cfg(feature = "latency")]
fn measured_are_the_events_that_the_class_says() {
    use pelton::class::Stamp;
    let _dog = watchdog();
    let mut plan = plan();
    let classes = [(Stamp::Every, 256), (Stamp::OneIn(8), 32), (Stamp::Never, 0)].map(|(stamp, measured)| {
        let class = Class::strict(format!("{stamp:?}")).with_capacity(4).with_stamp(stamp).block();
        (plan.class(class), measured)
    });
    let engine = plan.start(Proof::default, |_| recording()).unwrap();
    let (mut tx, mut source) = (engine.attach().unwrap(), Source::new(0));
    for (class, _) in classes {
        for key in 0..256 {
            source.publish(&mut tx, class, key).unwrap();
        }
    }
    let mut report = engine.stop(Duration::from_secs(30)).unwrap();
    for (class, measured) in classes {
        let latency = &report.classes[class.index()].latency;
        assert_eq!((latency.wait_ns.len(), latency.handling_ns.len()), (measured, measured));
        assert!(latency.wait_ns.max() < 60_000_000_000);
    }
    let witnesses = report.outputs();
    assert_invariants(&report, &[source], &witnesses);
}

#[test]
fn an_event_that_is_retried_past_its_time_to_live_has_failed() {
    let _dog = watchdog();
    let mut plan = plan();
    let class =
        plan.class(Class::strict("short").with_capacity(8).with_ttl(Duration::from_micros(50)).reject());
    let mut rig =
        rig(plan, |_| acting(|event, _| if event.order == 1 { Verdict::Retry } else { Verdict::Done }));
    let (mut tx, mut source) = (rig.engine.attach().unwrap(), Source::new(0));
    source.publish_order(&mut tx, class, 1, 1).unwrap();
    fill(&mut tx, &mut source, class, 1);
    assert_eq!((rig.poll(), rig.poll()), (0, 0));
    rig.time.advance(Duration::from_micros(51));
    fill(&mut tx, &mut source, class, 1);
    rig.run_dry();
    let counts = rig.engine.ledger().class(class);
    // The one that was never tried is too old; the one that was has failed.
    assert_eq!(
        (counts.retried, counts.failed_for(Failure::Retry), counts.expired, counts.handled),
        (2, 1, 1, 1)
    );
    let (report, ends) = rig.end();
    assert_invariants(&report, &[source], &witnesses(ends));
}

#[test]
fn a_lane_whose_head_is_to_be_retried_rests_for_the_poll() {
    let _dog = watchdog();
    let mut plan = plan().with_burst(4).with_floor(1);
    let high = plan.class(Class::strict("high").with_capacity(8).reject());
    let low = plan.class(Class::strict("low").with_capacity(8).reject());
    let mut rig =
        rig(plan, |_| acting(|event, _| if event.order == 1 { Verdict::Retry } else { Verdict::Done }));
    let mut users =
        [(rig.engine.attach().unwrap(), Source::new(0)), (rig.engine.attach().unwrap(), Source::new(1))];
    let retried = |rig: &Rig<_>| rig.engine.ledger().total().retried;
    let [(tx, source), (other, theirs)] = &mut users;
    fill(tx, source, high, 1);
    source.publish_order(tx, low, 1, 1).unwrap();
    fill(tx, source, low, 1);
    assert_eq!(rig.poll(), 1);
    // The lowest class's turn has come by the floor; its only lane rests after one try.
    for tries in 1..5 {
        assert_eq!((rig.poll(), retried(&rig)), (0, tries));
    }
    // Another lane of the same class goes on meanwhile.
    fill(other, theirs, low, 2);
    assert_eq!(rig.poll(), 2);
    assert!(retried(&rig) <= 5);
    let before = rig.engine.ledger().total();
    assert_eq!((before.handled, before.in_flight), (3, 2));
    let (report, ends) = rig.end_now();
    assert!(!report.drained);
    let sources = users.map(|(_, source)| source);
    assert_invariants(&report, &sources, &witnesses(ends));
}

#[test]
fn a_burst_may_be_larger_than_a_lane() {
    let _dog = watchdog();
    let mut plan = plan().with_burst(1 << 16);
    let class = plan.class(Class::strict("only").with_capacity(2).reject());
    let mut rig = rig(plan, |_| recording());
    let mut users =
        [(rig.engine.attach().unwrap(), Source::new(0)), (rig.engine.attach().unwrap(), Source::new(1))];
    for _ in 0..50 {
        for (tx, source) in &mut users {
            fill(tx, source, class, 2);
            assert!(source.publish(tx, class, 1).is_err());
        }
        assert_eq!((rig.poll(), rig.poll()), (4, 0));
    }
    let (report, ends) = rig.end();
    let sources = users.map(|(_, source)| source);
    assert_invariants(&report, &sources, &witnesses(ends));
}

#[test]
fn producers_of_one_class_are_served_in_turn() {
    let _dog = watchdog();
    let mut plan = plan().with_burst(2).with_producers_max(3);
    let class = plan.class(Class::strict("only").with_capacity(64).reject());
    let mut rig = rig(plan, |_| recording());
    let mut users = [0, 1, 2].map(|id| (rig.engine.attach().unwrap(), Source::new(id)));
    for (tx, source) in &mut users {
        fill(tx, source, class, 64);
    }
    for polls in 1..=30u64 {
        assert_eq!(rig.poll(), 2);
        let seen = &rig.shards[0].handler().witness.seen;
        let of = |id: u32| seen.get(&(id, 0, 1)).map_or(0, |seen| seen.len() as u64);
        for id in 0..3 {
            assert!(
                of(id) + 2 >= polls * 2 / 3 && of(id) <= polls * 2 / 3 + 2,
                "{} {} {}",
                of(0),
                of(1),
                of(2)
            );
        }
    }
    let (report, ends) = rig.end();
    let sources = users.map(|(_, source)| source);
    assert_invariants(&report, &sources, &witnesses(ends));
}
