//! Producers come and go: lane sets are lent, counted and reused without mixing anybody's order; a refusal says why
//! and gives back what was offered; nobody's claim, panic or end holds up anybody else.

use pelton::engine::OnPanic;
use pelton::lane::TryClaimError;
use pelton::producer::{AttachError, SendError};
use pelton::{
    Class, ClassId, Context, Event, Handler, Outcome, Producer, Rejection, ShardId, Verdict, handler,
};
use pelton_testkit::*;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

#[test]
fn lane_sets_are_lent_once_and_their_generation_tells_their_users_apart() {
    let _dog = watchdog();
    let mut plan = plan().with_producers_max(3);
    let class = plan.class(Class::strict("only").with_capacity(4).reject());
    let mut rig = rig(plan, |_| recording());
    let producers: Vec<_> = (0..3).map(|_| rig.engine.attach().unwrap()).collect();
    let mut ids: Vec<_> = producers.iter().map(|tx| tx.id().0).collect();
    ids.sort_unstable();
    assert_eq!(ids, [0, 1, 2]);
    assert!(producers.iter().all(|tx| tx.generation() == 1));
    let refused = rig.engine.attach().map(|_| ()).unwrap_err();
    assert_eq!(refused, AttachError::AllAttached { max: 3 });
    assert!(
        refused.to_string().contains("all 3") && refused.to_string().contains("producers_max"),
        "{refused}"
    );
    let mut sources = Vec::new();
    for mut tx in producers {
        let (id, mut source) = (tx.id(), Source::new(sources.len() as u32));
        source.publish(&mut tx, class, 1).unwrap();
        drop(tx);
        // Its event is in flight: the set rests until the shard has released it.
        let said = rig.engine.attach().map(|_| ()).unwrap_err();
        assert_eq!(said, AttachError::Draining { draining: 1 });
        assert!(said.to_string().contains("try again"), "{said}");
        rig.run_dry();
        let mut again = rig.engine.attach().unwrap();
        assert_eq!((again.id(), again.generation()), (id, 2));
        source.publish(&mut again, class, 1).unwrap();
        rig.run_dry();
        std::mem::forget(again); // Never detached: the set stays lent, and the stop does not mind.
        sources.push(source);
    }
    assert_eq!(rig.engine.attach().map(|_| ()).unwrap_err(), AttachError::AllAttached { max: 3 });
    let (report, ends) = rig.end();
    assert_invariants(&report, &sources, &witnesses(ends));
}

#[test]
fn nobody_attaches_before_all_shards_are_built_or_after_the_engine_is_closed() {
    let _dog = watchdog();
    let mut plan = plan().with_shards(2);
    let class = plan.class(Class::strict("only").with_capacity(4).reject());
    let (engine, seats) = plan.host_driven(Proof::default).unwrap();
    let mut shards = Vec::new();
    for seat in seats {
        let said = engine.attach().map(|_| ()).unwrap_err();
        assert_eq!(said, AttachError::NotReady);
        assert!(said.to_string().contains("host-driven"), "{said}");
        let mut shard = seat.build(recording()).unwrap();
        assert_eq!(shard.poll(), 0);
        shards.push(shard);
    }
    let mut tx = engine.attach().unwrap();
    let mut source = Source::new(0);
    source.publish(&mut tx, class, 1).unwrap();
    engine.close();
    assert_eq!(engine.attach().map(|_| ()).unwrap_err(), AttachError::Closed);
    assert_eq!(source.publish(&mut tx, class, 1).unwrap_err().reason, Rejection::Closed);
    while !engine.drain(Duration::ZERO) {
        for shard in &mut shards {
            shard.poll();
        }
    }
    let report = engine.stop(Duration::ZERO).unwrap();
    assert_eq!(engine.attach().map(|_| ()).unwrap_err(), AttachError::Closed);
    let ends = shards.into_iter().map(pelton::Shard::finish).collect();
    drop(engine);
    // A producer outlives its engine, and knows.
    assert_eq!(tx.publish(class, 1u64, |_| unreachable!()).unwrap_err().reason, Rejection::Closed);
    assert_invariants(&report, &[source], &witnesses(ends));
}

#[test]
fn events_of_a_producer_that_is_gone_are_still_handled() {
    let _dog = watchdog();
    let mut plan = plan().with_shards(2);
    let class = plan.class(Class::strict("only").with_capacity(64).block());
    let engine = plan.start(Proof::default, |_| recording()).unwrap();
    let mut sources = Vec::new();
    for id in 0..40 {
        let mut tx = loop {
            match engine.attach() {
                Ok(tx) => break tx,
                Err(AttachError::Draining { .. }) => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        };
        let mut source = Source::new(id);
        for i in 0..50 {
            source.publish(&mut tx, class, i % 7).unwrap();
        }
        sources.push(source);
    }
    let mut report = engine.stop(Duration::from_secs(30)).unwrap();
    assert!(report.drained);
    assert_eq!(report.ledger.total().handled, 2_000);
    let witnesses = report.outputs();
    assert_invariants(&report, &sources, &witnesses);
}

#[test]
fn order_is_kept_per_user_when_a_lane_set_is_reused() {
    let _dog = watchdog();
    let mut plan = plan().with_producers_max(2).with_shards(2).with_burst(3);
    let classes = [
        plan.class(Class::strict("a").with_capacity(4).reject()),
        plan.class(Class::weighted("b", 2).with_capacity(8).drop_newest()),
    ];
    let mut rig = rig(plan, |_| recording());
    let mut dice = Dice::new(11);
    let mut done = Vec::new();
    let mut users = Vec::new();
    let mut generations = 0;
    for _ in 0..4_000 {
        match dice.below(20) {
            0 => {
                if let Ok(tx) = rig.engine.attach() {
                    generations = generations.max(tx.generation());
                    users.push((tx, Source::new((done.len() + users.len()) as u32)));
                }
            }
            1 if !users.is_empty() => {
                let (_, source) = users.remove(dice.below(users.len() as u64) as usize);
                done.push(source);
            }
            2..=5 => drop(rig.poll()),
            _ => {
                let n = users.len() as u64;
                if n > 0 {
                    let (tx, source) = &mut users[dice.below(n) as usize];
                    let class = classes[dice.below(2) as usize];
                    let _ = source.publish(tx, class, dice.below(5));
                }
            }
        }
    }
    assert!(generations > 10, "lane sets were hardly reused: {generations}");
    done.extend(users.into_iter().map(|(_, source)| source));
    let (report, ends) = rig.end();
    assert_invariants(&report, &done, &witnesses(ends));
}

#[test]
#[cfg(feature = "audit")]
fn attach_publish_and_detach_allocate_nothing() {
    use pelton::memory::audit::{is_installed, thread_allocations};
    let _dog = watchdog();
    assert!(is_installed());
    let mut plan = plan();
    let class = plan.class(Class::strict("only").with_capacity(64).with_payload_bytes(4_096).reject());
    let (engine, seats) = plan.host_driven(|| 0u64).unwrap();
    let mut shards: Vec<_> = seats
        .into_iter()
        .map(|seat| seat.build(|_: &mut pelton::Event<u64>, _: &mut pelton::Context<u64>| ()).unwrap())
        .collect();
    for shard in &mut shards {
        shard.poll();
    }
    let before = thread_allocations();
    for round in 0..100u64 {
        let mut tx = engine.attach().unwrap();
        for key in 0..20u64 {
            tx.publish(class, key, |event| *event = round).unwrap();
            tx.publish_payload(class, key, b"some bytes", |event| *event = round).unwrap();
            tx.claim(class, key).try_acquire().unwrap().publish().unwrap();
        }
        drop(tx);
        shards.iter_mut().for_each(|shard| while shard.poll() > 0 {});
    }
    assert_eq!(thread_allocations() - before, 0);
    for shard in shards {
        assert_eq!(shard.finish().allocations, Some(0));
    }
    assert_closed(&engine.stop(Duration::ZERO).unwrap());
}

#[test]
fn a_producer_held_in_the_middle_of_a_claim_holds_up_its_own_lane_alone() {
    let _dog = watchdog();
    let mut plan = plan().with_shards(2);
    let classes = [
        plan.class(Class::strict("a").with_capacity(8).reject()),
        plan.class(Class::strict("b").with_capacity(8).reject()),
    ];
    let mut rig = rig(plan, |_| recording());
    let (mut held, mut other) = (rig.engine.attach().unwrap(), rig.engine.attach().unwrap());
    let (mut mine, mut theirs) = (Source::new(0), Source::new(1));
    // What it published before is handled while the claim is held.
    mine.publish(&mut held, classes[0], 1).unwrap();
    let proof = mine.next(classes[0], 1, 0);
    let mut claim = held.claim(classes[0], 1u64).try_acquire().unwrap();
    *claim = proof;
    for key in 0..20 {
        for class in classes {
            theirs.publish(&mut other, class, key).unwrap();
            rig.run_dry();
        }
    }
    let counts = rig.engine.ledger().total();
    assert_eq!((counts.handled, counts.in_flight), (41, 0));
    claim.publish().unwrap();
    mine.accepted(&proof);
    rig.run_dry();
    assert_eq!(rig.engine.ledger().total().handled, 42);
    let (report, ends) = rig.end();
    assert_invariants(&report, &[mine, theirs], &witnesses(ends));
}

#[test]
fn a_producer_dropped_by_a_panic_detaches_in_good_order() {
    let _dog = watchdog();
    quiet_panics();
    let mut plan = plan().with_producers_max(1);
    let class = plan.class(Class::strict("only").with_capacity(16).block());
    let engine = plan.start(Proof::default, |_| recording()).unwrap();
    let mut sources = Vec::new();
    for id in 0..5 {
        let mut tx = loop {
            match engine.attach() {
                Ok(tx) => break tx,
                Err(AttachError::Draining { .. }) => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        };
        assert_eq!(tx.generation(), id + 1);
        let mut source = Source::new(id);
        for key in 0..10 {
            source.publish(&mut tx, class, key).unwrap();
        }
        sources.push(source);
        let thread = std::thread::spawn(move || {
            let mut claim = tx.claim(class, 1u64).acquire().unwrap();
            claim.key = 77;
            panic!("{PLANNED} with a claim and a producer in hand");
        });
        assert!(thread.join().is_err());
    }
    let mut report = engine.stop(Duration::from_secs(30)).unwrap();
    assert_eq!(report.ledger.total().aborted, 5);
    let witnesses = report.outputs();
    assert_invariants(&report, &sources, &witnesses);
}

#[test]
fn a_writer_that_panics_costs_its_claim_and_not_the_lane() {
    let _dog = watchdog();
    quiet_panics();
    let mut plan = plan();
    let class = plan.class(Class::strict("only").with_capacity(2).with_payload_bytes(64).reject());
    let mut rig = rig(plan, |_| recording());
    let (mut tx, mut source) = (rig.engine.attach().unwrap(), Source::new(0));
    for round in 0..10 {
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            tx.publish_payload(class, 1u64, &[1; 20], |event| {
                event.key = 99;
                panic!("{PLANNED} in a writer")
            })
        }));
        assert!(panicked.is_err());
        std::mem::forget(tx.claim(class, 1u64).with_payload(30).try_acquire().unwrap());
        assert_eq!(rig.poll(), 0);
        source.publish(&mut tx, class, round).unwrap();
        source.publish(&mut tx, class, round).unwrap();
        rig.run_dry();
    }
    assert_eq!(rig.engine.ledger().total().aborted, 10);
    let (report, ends) = rig.end();
    assert_invariants(&report, &[source], &witnesses(ends));
}

#[test]
fn a_claim_of_an_event_loop_follows_the_policy_and_never_waits() {
    let _dog = watchdog();
    let mut plan = plan();
    let block = plan.class(Class::strict("block").with_capacity(2).with_payload_bytes(64).block());
    let reject = plan.class(Class::strict("reject").with_capacity(2).with_payload_bytes(64).reject());
    let newest = plan.class(Class::strict("newest").with_capacity(2).with_payload_bytes(64).drop_newest());
    let (engine, seats) = plan.host_driven(|| 0u64).unwrap();
    let handled = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let seen = handled.clone();
    let handler = move |event: &mut pelton::Event<'_, u64>, _: &mut pelton::Context<'_, u64>| {
        seen.borrow_mut().push((event.class(), **event, event.payload().to_vec()));
    };
    let mut shard = seats.into_iter().next().unwrap().build(handler).unwrap();
    let mut tx = engine.attach().unwrap();
    for class in [block, reject, newest] {
        assert!(!tx.is_full(class, 1u64, 1));
        for n in 0..2u64 {
            let mut claim = tx.claim(class, 1u64).with_payload(1).poll_acquire().unwrap();
            *claim = n;
            claim.payload_mut()[0] = n as u8;
            claim.publish().unwrap();
        }
        assert!(tx.is_full(class, 1u64, 1));
        assert_eq!(tx.depth(class, 1u64), 2);
    }
    let before = engine.ledger();
    // Asked as often as one likes: to wait is no outcome, so nothing is counted.
    for _ in 0..3 {
        assert_eq!(
            tx.claim(block, 1u64).with_payload(1).poll_acquire().map(drop).unwrap_err(),
            TryClaimError::WouldBlock
        );
    }
    assert_eq!(engine.ledger().class(block), before.class(block));
    let why = |claimed: Result<(), TryClaimError>| match claimed.unwrap_err() {
        TryClaimError::Refused(refusal) => refusal.reason,
        TryClaimError::WouldBlock => panic!("a class that does not block waits for nothing"),
    };
    assert_eq!(why(tx.claim(reject, 1u64).with_payload(1).poll_acquire().map(drop)), Rejection::SlotsFull);
    assert_eq!(
        why(tx.claim(newest, 1u64).with_payload(1).poll_acquire().map(drop)),
        Rejection::DroppedNewest
    );
    // The end of a wait is its outcome.
    let late = tx.claim(block, 1u64).with_payload(1).acquire_timeout(Duration::ZERO).map(drop).unwrap_err();
    assert_eq!(late.reason, Rejection::TimedOut);
    let ledger = engine.ledger();
    assert_eq!(ledger.class(block).rejected_total(), 1);
    assert_eq!(ledger.class(block).offered, 3);
    while shard.poll() > 0 {}
    assert_eq!((tx.is_full(block, 1u64, 1), tx.depth(block, 1u64)), (false, 0));
    assert_eq!(why(tx.claim(block, 1u64).with_payload(33).poll_acquire().map(drop)), Rejection::TooLarge);
    tx.claim(block, 1u64).poll_acquire().unwrap().publish().unwrap();
    engine.close();
    while shard.poll() > 0 {}
    let report = engine.stop(Duration::ZERO).unwrap();
    assert_closed(&report);
    for class in [block, reject, newest] {
        let own: Vec<_> = handled.borrow().iter().filter(|(of, ..)| *of == class).cloned().collect();
        assert_eq!((own[0].1, own[1].1), (0, 1));
        assert_eq!((&own[0].2[..], &own[1].2[..]), (&[0][..], &[1][..]));
    }
}

#[test]
fn a_refusal_never_calls_the_closure_and_gives_back_what_was_offered() {
    let _dog = watchdog();
    let mut plan = plan();
    let reject = plan.class(Class::strict("reject").with_capacity(1).with_payload_bytes(64).reject());
    let newest = plan.class(Class::strict("newest").with_capacity(1).with_payload_bytes(64).drop_newest());
    let block = plan.class(Class::strict("block").with_capacity(1).block());
    let (engine, seats) = plan.host_driven(String::new).unwrap();
    let mut shards: Vec<_> = seats
        .into_iter()
        .map(|seat| seat.build(|_: &mut pelton::Event<String>, _: &mut pelton::Context<String>| ()).unwrap())
        .collect();
    let mut tx = engine.attach().unwrap();
    let never = |_: &mut String| unreachable!("the closure of a refused event was called");
    let long = "a value that exists already".to_string();
    let address = long.as_ptr();
    for class in [reject, newest, block] {
        assert_eq!(tx.send(class, 1u64, "first".into()), Ok(Outcome::Accepted));
    }
    let SendError { error, value } = tx.send(reject, 1u64, long).unwrap_err();
    assert_eq!((error.reason, value.as_ptr()), (Rejection::SlotsFull, address));
    assert_eq!(tx.send(newest, 1u64, "gone".into()), Ok(Outcome::Dropped));
    let said: [(ClassId, Result<Outcome, pelton::PublishError>, Rejection); 8] = [
        (reject, tx.publish(reject, 1u64, never), Rejection::SlotsFull),
        (reject, tx.try_publish(reject, 1u64, never), Rejection::SlotsFull),
        (reject, tx.publish_payload(reject, 1u64, b"x", never), Rejection::SlotsFull),
        (reject, tx.publish_to(ShardId(0), reject, 1u64, never), Rejection::SlotsFull),
        (reject, tx.publish_timeout(reject, 1u64, Duration::from_millis(1), never), Rejection::TimedOut),
        (reject, tx.publish_to(ShardId(1), reject, 1u64, never), Rejection::NoRoute),
        (block, tx.try_publish(block, 1u64, never), Rejection::SlotsFull),
        (block, tx.publish_timeout(block, 1u64, Duration::from_micros(1), never), Rejection::TimedOut),
    ];
    for (class, said, reason) in said {
        let refusal = said.unwrap_err();
        assert_eq!((refusal.reason, refusal.lane.class), (reason, class));
        assert!(engine.ledger().class(class).rejected_for(reason) > 0, "{refusal}");
        assert!(refusal.to_string().contains(reason.name()), "{refusal}");
    }
    assert_eq!(tx.publish(newest, 1u64, never), Ok(Outcome::Dropped));
    assert_eq!(tx.publish_payload(newest, 1u64, b"x", never), Ok(Outcome::Dropped));
    assert_eq!(tx.claim(newest, 1u64).acquire().map(|_| ()).unwrap_err().reason, Rejection::DroppedNewest);
    engine.close();
    let SendError { error, value } = tx.send(block, 1u64, value).unwrap_err();
    assert_eq!((error.reason, value.as_ptr()), (Rejection::Closed, address));
    while !engine.drain(Duration::ZERO) {
        for shard in &mut shards {
            shard.poll();
        }
    }
    let report = engine.stop(Duration::ZERO).unwrap();
    assert_closed(&report);
    let total = report.ledger.total();
    assert_eq!((total.handled, total.offered - total.accepted), (3, total.rejected_total()));
}

#[test]
fn waits_of_any_length_are_ended_by_room() {
    let _dog = watchdog();
    let mut plan = plan();
    let long = plan.class(Class::strict("long").with_capacity(1).block_for(Duration::MAX));
    let ever = plan.class(Class::strict("ever").with_capacity(2).block());
    let engine = plan.start(Proof::default, |_| recording()).unwrap();
    let (mut tx, mut source) = (engine.attach().unwrap(), Source::new(0));
    for i in 0..3_000 {
        for class in [long, ever] {
            source.publish(&mut tx, class, i % 3).unwrap();
            let proof = source.next(class, 5, 0);
            let said = tx.publish_timeout(class, 5u64, Duration::MAX, |event| *event = proof);
            assert_eq!(said, Ok(Outcome::Accepted));
            source.settle(&proof, &said);
        }
    }
    drop(tx);
    let mut report = engine.stop(Duration::from_secs(30)).unwrap();
    assert_eq!(report.ledger.total().handled, 12_000);
    let witnesses = report.outputs();
    assert_invariants(&report, &[source], &witnesses);
}

#[test]
fn a_producer_goes_from_thread_to_thread_and_its_order_with_it() {
    let _dog = watchdog();
    let mut plan = plan().with_shards(2);
    let class = plan.class(Class::strict("only").with_capacity(4).block());
    let engine = plan.start(Proof::default, |_| recording()).unwrap();
    let (mut tx, mut source) = (engine.attach().unwrap(), Source::new(0));
    for _ in 0..30 {
        (tx, source) = std::thread::spawn(move || {
            for key in 0..40 {
                source.publish(&mut tx, class, key % 3).unwrap();
            }
            (tx, source)
        })
        .join()
        .unwrap();
    }
    let mut report = engine.stop(Duration::from_secs(30)).unwrap();
    assert!(report.drained);
    let witnesses = report.outputs();
    assert_invariants(&report, &[source], &witnesses);
}

#[test]
fn the_class_of_another_engine_is_a_mistake_that_says_so() {
    let _dog = watchdog();
    let mut one = plan();
    let class = one.class(Class::strict("only").with_capacity(2).reject());
    let mut other = plan();
    other.class(Class::strict("a").with_capacity(2));
    let foreign = other.class(Class::strict("b").with_capacity(2));
    let mut rig = rig(one, |_| recording());
    let mut tx = rig.engine.attach().unwrap();
    quiet_panics();
    let panic = catch_unwind(AssertUnwindSafe(|| tx.publish(foreign, 1u64, |_| {}))).unwrap_err();
    assert!(panic.downcast_ref::<String>().unwrap().contains("class 1 is not one of this engine's 1"));
    let mut source = Source::new(0);
    source.publish(&mut tx, class, 1).unwrap();
    rig.run_dry();
    let (report, ends) = rig.end();
    assert_invariants(&report, &[source], &witnesses(ends));
}

#[test]
fn a_blocked_producer_is_woken_by_a_release_within_a_slow_burst() {
    let _dog = watchdog();
    // Eight of 16 slots are given back in the middle of a burst that lasts far longer than a bounded sleep. The
    // producer must not find them by chance at the end of such a sleep: that would count as a rescue.
    let mut plan = plan().with_burst(64).with_on_panic(OnPanic::Continue);
    let class = plan.class(Class::strict("only").with_capacity(16).block());
    let engine = plan
        .start(Proof::default, |_| {
            acting(|_, _| {
                std::thread::sleep(Duration::from_millis(14));
                Verdict::Done
            })
        })
        .unwrap();
    let (mut tx, mut source) = (engine.attach().unwrap(), Source::new(0));
    for _ in 0..50 {
        source.publish(&mut tx, class, 1).unwrap();
    }
    drop(tx);
    let mut report = engine.stop(Duration::from_secs(30)).unwrap();
    let witnesses = report.outputs();
    assert_invariants(&report, &[source], &witnesses);
}

/// Two producers of one class: the first fills its lane and blocks, the second has an event that the handler keeps until
/// the first goes on. So the room that the first lane's part of the burst gives back must reach its producer before the
/// burst ends. (A producer that finds it by itself, at the end of a bounded sleep, counts as a rescue.)
fn blocked_producer_goes_on_within_the_burst(class: Class, payload: usize, publishes: u64, retried: u64) {
    let _dog = watchdog();
    let mut plan = plan().with_burst(64);
    let class = plan.class(class);
    let (entered, go, resumed) = (Door::default(), Door::default(), Door::default());
    let doors = (entered.clone(), go.clone(), resumed.clone());
    let engine = plan
        .start(Proof::default, move |_| {
            let (entered, go, resumed) = doors.clone();
            let mut has_retried = false;
            acting(move |event, _| {
                match (event.source, event.sequence) {
                    (0, 0) => {
                        entered.open();
                        go.wait();
                    }
                    (0, sequence) if sequence == retried && !has_retried => {
                        has_retried = true;
                        return Verdict::Retry;
                    }
                    (0, _) => {}
                    _ => resumed.wait(),
                }
                Verdict::Done
            })
        })
        .unwrap();
    let (mut blocked, mut source) = (engine.attach().unwrap(), Source::new(0));
    let (mut other, mut other_source) = (engine.attach().unwrap(), Source::new(1));
    std::thread::scope(|scope| {
        let first = scope.spawn(|| {
            for _ in 0..publishes {
                let proof = source.next(class, 1, 0);
                let said = blocked.publish_payload(class, 1, &vec![0; payload], |event| *event = proof);
                source.settle(&proof, &said);
            }
            resumed.open();
        });
        entered.wait();
        other_source.publish(&mut other, class, 1).unwrap();
        // Time to fill the lane and to block. (A publish that does not block yet finds room by itself.)
        std::thread::sleep(Duration::from_millis(20));
        go.open();
        first.join().unwrap();
    });
    let mut report = engine.stop(Duration::from_secs(30)).unwrap();
    let witnesses = report.outputs();
    assert_invariants(&report, &[source, other_source], &witnesses);
}

#[test]
fn blocked_producer_resumes_when_payload_bytes_are_released_before_the_burst_ends() {
    let class = Class::strict("only").with_capacity(1_024).with_payload_bytes(4_096).block();
    blocked_producer_goes_on_within_the_burst(class, 2_048, 3, u64::MAX);
}

#[test]
fn blocked_producer_resumes_when_slots_are_released_before_a_retried_event() {
    let class = Class::strict("only").with_capacity(4).block();
    blocked_producer_goes_on_within_the_burst(class, 0, 5, 1);
}

/// Publishes with a producer of its own engine, by the policy of the class.
struct OwnProducer {
    tx: Option<Producer<u64>>,
    class: ClassId,
    said: Vec<Result<Outcome, Rejection>>,
}

impl Handler<u64> for OwnProducer {
    type Output = Vec<Result<Outcome, Rejection>>;

    fn on_event(&mut self, event: &mut Event<'_, u64>, _: &mut Context<'_, u64>) -> Verdict {
        if **event == 1
            && let Some(tx) = &mut self.tx
        {
            // One more than there is room for.
            for _ in 0..3 {
                let said = tx.publish(self.class, 1u64, |slot| *slot = 0);
                self.said.push(said.map_err(|refusal| refusal.reason));
            }
        }
        Verdict::Done
    }

    fn on_stop(self, _: &mut Context<'_, u64>) -> Self::Output {
        self.said
    }
}

#[test]
fn publish_of_a_handler_that_would_wait_for_its_own_shard_is_refused() {
    let _dog = watchdog();
    let mut plan = plan();
    let class = plan.class(Class::strict("only").with_capacity(2).block());
    let engine = plan.start(|| 0u64, move |_| OwnProducer { tx: None, class, said: Vec::new() }).unwrap();
    let (mut tx, own) = (engine.attach().unwrap(), engine.attach().unwrap());
    engine.ask(ShardId(0), |handler: &mut OwnProducer| handler.tx = Some(own)).unwrap();
    tx.publish(class, 1u64, |slot| *slot = 1).unwrap();
    assert!(engine.drain(Duration::from_secs(30)));
    let mut report = engine.stop(Duration::from_secs(30)).unwrap();
    let accepted = Ok(Outcome::Accepted);
    let outputs = report.outputs::<Vec<Result<Outcome, Rejection>>>();
    assert_eq!(outputs[0], [accepted, accepted, Err(Rejection::OnShardThread)]);
    assert_eq!(report.ledger.total().rejected_for(Rejection::OnShardThread), 1);
    assert_closed(&report);
}

#[test]
fn host_that_polls_and_publishes_on_one_thread_is_refused_where_it_would_wait_for_itself() {
    let _dog = watchdog();
    let mut plan = plan();
    let class = plan.class(Class::strict("only").with_capacity(2).block());
    let mut rig = rig(plan, |_| recording());
    let (mut tx, mut source) = (rig.engine.attach().unwrap(), Source::new(0));
    assert_eq!(rig.poll(), 0);
    for _ in 0..2 {
        source.publish(&mut tx, class, 1).unwrap();
    }
    assert_eq!(source.publish(&mut tx, class, 1).unwrap_err().reason, Rejection::OnShardThread);
    // A wait of no length at all ends as it does elsewhere; a wait on another thread ends with room.
    let late = tx.publish_timeout(class, 1u64, Duration::ZERO, |_| unreachable!());
    assert_eq!(late.unwrap_err().reason, Rejection::TimedOut);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| source.publish(&mut tx, class, 1));
        while !other.is_finished() {
            rig.poll();
        }
        other.join().unwrap().unwrap();
    });
    let (report, ends) = rig.end();
    let total = report.ledger.total();
    assert_eq!((total.handled, total.rejected_total()), (3, 2), "{total:?}");
    let witnesses = witnesses(ends);
    assert!(witnesses[0].faults.is_empty());
    assert_closed(&report);
}

#[test]
fn value_that_finds_no_room_comes_back_without_waiting_and_after_a_limit() {
    let _dog = watchdog();
    let mut plan = plan();
    let class = plan.class(Class::strict("only").with_capacity(1).block());
    let (engine, seats) = plan.host_driven(String::new).unwrap();
    let handler = handler(|_: &mut Event<'_, String>, _: &mut Context<'_, String>| ());
    let mut shard = seats.into_iter().next().unwrap().build(handler).unwrap();
    // On a thread of its own: on the shard's thread a wait would be refused at once.
    let mut tx = engine.attach().unwrap();
    let sent = std::thread::spawn(move || {
        assert_eq!(tx.try_send(class, 7u64, "first".into()), Ok(Outcome::Accepted));
        let now = tx.try_send(class, 7u64, "second".into()).unwrap_err();
        let late = tx.send_timeout(class, 7u64, "third".into(), Duration::from_millis(1)).unwrap_err();
        [now, late].map(|back| (back.error.reason, back.value))
    });
    let [now, late] = sent.join().unwrap();
    assert_eq!(now, (Rejection::SlotsFull, "second".to_string()));
    assert_eq!(late, (Rejection::TimedOut, "third".to_string()));
    engine.close();
    while !engine.drain(Duration::ZERO) {
        shard.poll();
    }
    let mut report = engine.stop(Duration::ZERO).unwrap();
    report.add(shard.finish());
    assert_closed(&report);
}
