//! A shard is given the events of its keys, tells the truth about each, calls its handler's methods in their order, and
//! sleeps only while there is nothing to do.

use pelton::shard::available;
use pelton::{Class, Context, Event, Handler, Key, Outcome, Rejection, ShardId, Verdict};
use pelton_testkit::*;
use std::time::Duration;

#[test]
fn the_same_key_goes_to_the_same_shard_in_every_engine() {
    let _dog = watchdog();
    let mut sources = vec![Source::new(0), Source::new(1)];
    let mut shards_of = Vec::new();
    for _ in 0..2 {
        let mut plan = plan().with_shards(3);
        let class = plan.class(Class::strict("only").with_capacity(64).reject());
        let mut rig = rig(plan, |_| recording());
        let mut users: Vec<_> = (0..2).map(|_| rig.engine.attach().unwrap()).collect();
        let mut mine = Vec::new();
        sources = vec![Source::new(0), Source::new(1)];
        for key in 0..500u64 {
            for (tx, source) in users.iter_mut().zip(&mut sources) {
                source.publish(tx, class, key).unwrap();
            }
            assert_eq!(users[0].shard_of(key), users[1].shard_of(Key(key)));
            mine.push(users[0].shard_of(key));
            rig.run_dry();
        }
        let (report, ends) = rig.end();
        let witnesses = witnesses(ends);
        for (shard, witness) in witnesses.iter().enumerate() {
            assert!(witness.seen.keys().all(|stream| mine[stream.2 as usize].index() == shard));
        }
        assert_invariants(&report, &sources, &witnesses);
        shards_of.push(mine);
    }
    assert_eq!(shards_of[0], shards_of[1]);
}

#[test]
fn keys_spread_evenly_over_shards() {
    let _dog = watchdog();
    let mut plan = plan().with_shards(4);
    plan.class(Class::strict("only").with_capacity(2));
    let rig = rig(plan, |_| recording());
    let tx = rig.engine.attach().unwrap();
    let integers = (0..40_000u64).map(Key);
    let texts = (0..40_000u64).map(|i| Key::of(format!("customer {i}").as_bytes()));
    let strides = (0..40_000u64).map(|i| Key(i << 20));
    for keys in [integers.collect::<Vec<_>>(), texts.collect(), strides.collect()] {
        let mut share = [0u32; 4];
        keys.iter().for_each(|key| share[tx.shard_of(*key).index()] += 1);
        assert!(share.iter().all(|n| (9_000..11_000).contains(n)), "{share:?}");
    }
}

#[test]
fn the_key_of_bytes_is_the_published_hash() {
    let _dog = watchdog();
    // XXH3-64, seed 0, as published with the algorithm's reference implementation.
    assert_eq!(Key::of(b""), Key(0x2D06_8005_38D3_94C2));
    assert_eq!(Key::from("order"), Key::of(b"order"));
    assert_eq!(Key::from(&b"order"[..]), Key::of(b"order"));
    assert_eq!(Key::from(7u64), Key(7));
}

#[test]
fn publish_to_names_the_shard_and_an_unknown_one_is_no_route() {
    let _dog = watchdog();
    let mut plan = plan().with_shards(2);
    let classes = [
        plan.class(Class::strict("a").with_capacity(4).reject()),
        plan.class(Class::strict("b").with_capacity(4)),
    ];
    let mut rig = rig(plan, |_| recording());
    let (mut tx, mut source) = (rig.engine.attach().unwrap(), Source::new(0));
    for (shard, key) in [(0, 10), (1, 11), (0, 12), (1, 13)] {
        let proof = source.next(classes[0], key, 0);
        let said = tx.publish_to(ShardId(shard), classes[0], key, |event| *event = proof);
        assert_eq!(said, Ok(Outcome::Accepted));
        source.settle(&proof, &said);
    }
    for (class, shard) in [(0, 2), (1, 2), (1, u16::MAX)] {
        let proof = source.next(classes[class], 9, 0);
        let said =
            tx.publish_to(ShardId(shard), classes[class], 9u64, |_| unreachable!("there is no such shard"));
        let refusal = said.unwrap_err();
        assert_eq!((refusal.reason, refusal.lane.shard), (Rejection::NoRoute, ShardId(shard)));
        assert!(refusal.to_string().contains("no_route"), "{refusal}");
        source.settle(&proof, &said);
    }
    rig.run_dry();
    let ledger = rig.engine.ledger();
    assert_eq!(ledger.class(classes[0]).rejected_for(Rejection::NoRoute), 1);
    assert_eq!(ledger.class(classes[1]).rejected_for(Rejection::NoRoute), 2);
    assert_eq!(ledger.total().offered, 7);
    assert_eq!((ledger.shard(ShardId(0)).handled, ledger.shard(ShardId(1)).handled), (2, 2));
    let (report, ends) = rig.end();
    let witnesses = witnesses(ends);
    assert_eq!((witnesses[0].handled(), witnesses[1].handled()), (2, 2));
    assert_invariants(&report, &[source], &witnesses);
}

/// Writes down the order in which it is called.
#[derive(Default)]
struct Caller {
    calls: Vec<&'static str>,
}

impl Handler<u64> for Caller {
    type Output = Vec<&'static str>;
    fn on_start(&mut self, context: &mut Context<'_, u64>) {
        assert_eq!(context.shard(), ShardId(0));
        self.calls.push("start");
    }
    fn on_event(&mut self, _: &mut Event<'_, u64>, _: &mut Context<'_, u64>) -> Verdict {
        self.calls.push("event");
        Verdict::Done
    }
    fn on_batch_end(&mut self, _: &mut Context<'_, u64>) {
        self.calls.push("end");
    }
    fn on_idle(&mut self, _: &mut Context<'_, u64>) {
        self.calls.push("idle");
    }
    fn on_drain(&mut self, _: &mut Context<'_, u64>) -> bool {
        self.calls.push("drain");
        true
    }
    fn on_stop(mut self, _: &mut Context<'_, u64>) -> Self::Output {
        self.calls.push("stop");
        self.calls
    }
}

#[test]
fn a_handler_is_called_from_its_start_to_its_stop_in_order() {
    let _dog = watchdog();
    let mut plan = plan().with_burst(2);
    let class = plan.class(Class::strict("only").with_capacity(4).reject());
    let (engine, mut seats) = plan.host_driven(|| 0u64).unwrap();
    let seat = seats.pop().unwrap();
    assert_eq!(seat.id(), ShardId(0));
    let mut shard = seat.build(Caller::default()).unwrap();
    assert!(shard.handler().calls.is_empty(), "built, not yet polled");
    let mut tx = engine.attach().unwrap();
    for key in 0..3u64 {
        tx.publish(class, key, |_| ()).unwrap();
    }
    assert_eq!((shard.poll(), shard.poll(), shard.poll()), (2, 1, 0));
    engine.close();
    // The host hears of the close at its next poll, and the handler is asked for what it holds back, once.
    assert_eq!((shard.poll(), shard.poll()), (0, 0));
    assert!(!shard.is_stopping());
    let report = engine.stop(Duration::ZERO).unwrap();
    assert!(report.drained);
    assert_closed(&report);
    // The host hears of the stop at its next poll.
    shard.poll();
    assert!(shard.is_stopping());
    let calls = shard.finish().output.unwrap();
    assert_eq!(
        calls,
        ["start", "event", "event", "end", "event", "end", "idle", "idle", "drain", "idle", "stop"]
    );
}

#[test]
fn an_event_says_who_published_it_and_what() {
    let _dog = watchdog();
    let mut plan = plan().with_producers_max(2);
    let a = plan.class(Class::strict("a").with_capacity(4).with_payload_bytes(64).reject());
    let b = plan.class(Class::strict("b").with_capacity(4).reject());
    let (engine, mut seats) = plan.host_driven(|| 0u64).unwrap();
    let handler = |event: &mut Event<'_, u64>, _: &mut Context<'_, u64>| {
        assert_eq!(event.producer().0, **event as u16);
        let sequence = event.sequence();
        if event.class().index() == 0 {
            assert_eq!((event.key(), event.payload()), (Key(5), &b"hello"[..]));
            let (value, bytes) = event.parts_mut();
            *value += 1;
            bytes.make_ascii_uppercase();
            assert_eq!(event.payload(), b"HELLO");
        } else {
            assert!(event.key() == Key(6) && event.payload().is_empty());
            assert_eq!(sequence, 0);
        }
    };
    let mut shard = seats.pop().unwrap().build(handler).unwrap();
    for _ in 0..2 {
        let mut tx = engine.attach().unwrap();
        let id = u64::from(tx.id().0);
        tx.publish_payload(a, 5u64, b"hello", |event| *event = id).unwrap();
        tx.publish(b, 6u64, |event| *event = id).unwrap();
        std::mem::forget(tx);
    }
    while !engine.drain(Duration::ZERO) {
        shard.poll();
    }
    let report = engine.stop(Duration::ZERO).unwrap();
    assert_closed(&report);
    let end = shard.finish();
    assert_eq!((end.quarantine.panics, report.ledger.total().handled), (0, 4), "{:?}", end.quarantine);
}

#[test]
fn a_stamp_is_that_of_its_own_event() {
    let _dog = watchdog();
    // One event in 4 is stamped, and two slots are shared by all: a slot that was stamped for an older event must not
    // lend its stamp to the next one.
    let mut plan = plan();
    let class = plan
        .class(Class::strict("only").with_capacity(2).with_stamp(pelton::class::Stamp::OneIn(4)).reject());
    let mut rig = rig(plan, |_| {
        acting(|event, _| {
            let stamped = event.sequence() % 4 == 0;
            assert_eq!(event.stamp().is_some(), stamped, "sequence {}", event.sequence());
            if stamped {
                assert_eq!(event.stamp(), Some((event.sequence() + 1) * 1_000));
            }
            Verdict::Done
        })
    });
    let (mut tx, mut source) = (rig.engine.attach().unwrap(), Source::new(0));
    for _ in 0..40 {
        rig.time.advance(Duration::from_micros(1));
        source.publish(&mut tx, class, 1).unwrap();
        rig.run_dry();
    }
    let (report, ends) = rig.end();
    assert_eq!(report.ledger.total().failed_total(), 0, "{:?}", ends[0].quarantine);
    assert_invariants(&report, &[source], &witnesses(ends));
}

#[test]
fn a_given_stamp_is_what_wait_and_age_count_from() {
    let _dog = watchdog();
    let mut plan = plan();
    let capacity = |name| Class::strict(name).with_capacity(8).reject();
    let aging = plan
        .class(capacity("aging").with_ttl(Duration::from_micros(50)).with_stamp(pelton::class::Stamp::Every));
    let sampled = plan.class(capacity("sampled").with_stamp(pelton::class::Stamp::OneIn(2)));
    let mut rig = rig(plan, |_| {
        acting(|event, _| {
            let stamped = event.class().index() == 0 || event.sequence() % 2 == 0;
            assert_eq!(event.stamp(), stamped.then_some(event.order), "sequence {}", event.sequence());
            Verdict::Done
        })
    });
    let (mut tx, mut source) = (rig.engine.attach().unwrap(), Source::new(0));
    rig.time.advance(Duration::from_micros(100));
    // From its intended time an event may be too old before it is published; one of time to come is not old.
    for (class, ticks) in
        [(aging, 49_999), (aging, 50_000), (aging, 200_000), (sampled, 7), (sampled, 8), (sampled, u64::MAX)]
    {
        let proof = source.next(class, 1, ticks);
        let mut claim = tx.claim(class, 1).try_acquire().unwrap();
        *claim = proof;
        claim.publish_stamped(ticks).unwrap();
        source.accepted(&proof);
    }
    rig.run_dry();
    let (report, ends) = rig.end();
    assert_eq!((report.ledger.class(aging).expired, report.ledger.class(aging).handled), (1, 2));
    #[cfg(feature = "latency")]
    for (class, count, longest) in [(aging, 2, 50_000), (sampled, 2, 99_993)] {
        let wait = &ends[0].latency[class.index()].wait_ns;
        assert!(wait.len() == count && wait.equivalent(wait.max(), longest), "{}", wait.max());
    }
    assert_eq!(report.ledger.total().failed_total(), 0, "{:?}", ends[0].quarantine);
    assert_invariants(&report, &[source], &witnesses(ends));
}

#[test]
fn scratch_is_empty_at_the_start_of_every_burst() {
    let _dog = watchdog();
    // Half of the scratch for each event: that fits if, and only if, it is given back.
    let mut plan = plan().with_burst(1).with_scratch_bytes(4_096);
    let class = plan.class(Class::strict("only").with_capacity(8).reject());
    let mut tries = 0;
    let mut rig = rig(plan, |_| {
        acting(move |_, context| {
            context.scratch().slice(3_000, 1u8).expect("scratch is empty at the start of a burst");
            tries += 1;
            if tries % 10 == 0 { Verdict::Done } else { Verdict::Retry }
        })
    });
    let (mut tx, mut source) = (rig.engine.attach().unwrap(), Source::new(0));
    for _ in 0..5 {
        source.publish(&mut tx, class, 1).unwrap();
        rig.run_dry();
    }
    let (report, ends) = rig.end();
    assert_eq!(report.ledger.total().failed_total(), 0, "{:?}", ends[0].quarantine);
    assert_eq!((report.ledger.total().retried, ends[0].scratch_refused), (45, 0));
    assert_invariants(&report, &[source], &witnesses(ends));
}

#[test]
fn payloads_are_built_in_scratch_and_emitted_from_it() {
    let _dog = watchdog();
    let mut plan = plan().with_mesh(true).with_scratch_bytes(4_096);
    let class = plan.class(Class::strict("only").with_capacity(8).with_payload_bytes(256).reject());
    let mut rig = rig(plan, move |_| {
        acting(move |event, context| {
            if event.order == 0 {
                return Verdict::Done;
            }
            let (one, other) =
                (context.scratch().slice(4, b'x').unwrap(), context.scratch().copy(b"yz").unwrap());
            one[3] = other[0];
            let proof = Proof::new(1, class, event.key, event.sequence, 0);
            context.emit_bytes(class, event.key, one, |event| *event = proof).unwrap();
            assert_eq!(other, b"yz");
            Verdict::Done
        })
    });
    let (mut tx, mut source, mut emitted) = (rig.engine.attach().unwrap(), Source::new(0), Source::new(1));
    for _ in 0..5 {
        source.publish_order(&mut tx, class, 1, 1).unwrap();
        let proof = emitted.next(class, 1, 0);
        emitted.accepted(&proof);
        rig.run_dry();
    }
    let (report, ends) = rig.end();
    assert_eq!(report.ledger.total().handled, 10, "{:?}", ends[0].quarantine);
    assert_invariants(&report, &[source, emitted], &witnesses(ends));
}

#[test]
fn a_shard_sleeps_only_while_there_is_nothing_to_do_and_is_woken() {
    let _dog = watchdog();
    let mut plan = plan();
    let class = plan.class(Class::strict("only").with_capacity(2).block());
    let (engine, mut seats) = plan.host_driven(Proof::default).unwrap();
    let mut shard = seats.pop().unwrap().build(recording()).unwrap();
    shard.poll();
    shard.arm().expect("nothing to do").wait(Duration::ZERO);
    let (mut tx, mut source) = (engine.attach().unwrap(), Source::new(0));
    assert!(shard.arm().is_some(), "a producer has come, and no event");
    source.publish(&mut tx, class, 1).unwrap();
    assert!(shard.arm().is_none(), "there is an event");
    // From here on a producer and a host that sleeps whenever it may.
    let producer = std::thread::spawn(move || {
        for key in 0..5_000 {
            source.publish(&mut tx, class, key % 3).unwrap();
        }
        source
    });
    while shard.handler().witness.handled() < 5_001 {
        if shard.poll() == 0
            && let Some(nap) = shard.arm()
        {
            nap.wait(Duration::from_secs(1));
        }
    }
    let source = producer.join().unwrap();
    let report = engine.stop(Duration::ZERO).unwrap();
    assert!(shard.arm().is_none(), "it is told to stop");
    shard.poll();
    assert!(shard.is_stopping());
    let ends = vec![shard.finish()];
    assert_invariants(&report, &[source], &witnesses(ends));
}

/// An event that is put off comes once in a poll, whatever its class and the others.
#[test]
fn what_is_put_off_is_tried_once_in_a_poll() {
    let _dog = watchdog();
    let mut plan = plan().with_burst(1).with_floor(3);
    let classes = [
        plan.class(Class::strict("top").with_capacity(8)),
        plan.class(Class::weighted("some", 2).with_capacity(8)),
        plan.class(Class::weighted("rest", 1).with_capacity(8)),
    ];
    let mut rig = rig(plan, |_| acting(|_, _| Verdict::Retry));
    let (mut tx, mut source) = (rig.engine.attach().unwrap(), Source::new(0));
    for class in classes {
        source.publish(&mut tx, class, 1).unwrap();
    }
    for poll in 1..=20 {
        assert_eq!(rig.poll(), 0);
        assert_eq!(rig.engine.ledger().total().retried, 3 * poll);
    }
    let (report, ends) = rig.end_now();
    assert_eq!(report.ledger.total().in_flight, 3);
    assert!(report.ledger.is_closed());
    assert_eq!(witnesses(ends).iter().map(|witness| witness.handled()).sum::<u64>(), 0);
}

/// Two classes whose turns come in step, and producers whose lanes are always full: each lane of a class is served.
#[test]
fn no_lane_of_a_class_starves_another() {
    let _dog = watchdog();
    for producers in 1..=6u16 {
        let mut plan = plan().with_producers_max(producers).with_burst(4);
        let classes = [
            plan.class(Class::weighted("x", 1).with_capacity(8)),
            plan.class(Class::weighted("y", 1).with_capacity(8)),
        ];
        let mut rig = rig(plan, |_| recording());
        let mut attached: Vec<_> =
            (0..producers).map(|at| (rig.engine.attach().unwrap(), Source::new(at.into()))).collect();
        for round in 0..200 {
            for (tx, source) in &mut attached {
                for class in classes {
                    // As many as there is room for.
                    let lane = rig.engine.ledger().lanes;
                    let lane =
                        lane.iter().find(|lane| lane.producer == tx.id() && lane.class == class).unwrap();
                    for _ in lane.counts.in_flight..8 {
                        source.publish(tx, class, round % 3).unwrap();
                    }
                }
            }
            rig.poll();
        }
        let handled: Vec<_> = rig.engine.ledger().lanes.iter().map(|lane| lane.counts.handled).collect();
        let (least, most) = (handled.iter().min().unwrap(), handled.iter().max().unwrap());
        assert!(most - least <= 8, "{producers} producers: {handled:?}");
        let sources: Vec<_> = attached.into_iter().map(|(_, source)| source).collect();
        let (report, ends) = rig.end();
        assert_invariants(&report, &sources, &witnesses(ends));
    }
}

/// Producers that are attached and idle lend their turns to none of the busy ones.
#[test]
fn busy_producers_of_a_class_are_served_equally_whatever_idle_ones_stand_between() {
    const PRODUCERS: u16 = 5;
    const BURST: u32 = 4;
    let _dog = watchdog();
    for busy in 1..1u32 << PRODUCERS {
        let mut plan = plan().with_producers_max(PRODUCERS).with_burst(BURST);
        let class = plan.class(Class::strict("only").with_capacity(8));
        let mut rig = rig(plan, |_| recording());
        let mut attached: Vec<_> =
            (0..PRODUCERS).map(|at| (rig.engine.attach().unwrap(), Source::new(at.into()))).collect();
        // Once active, so that the shard looks at all of them.
        for (tx, source) in &mut attached {
            source.publish(tx, class, 1).unwrap();
        }
        rig.run_dry();
        for _ in 0..100 {
            for (at, (tx, source)) in attached.iter_mut().enumerate() {
                while busy & (1 << at) != 0 && tx.depth(class, 1) < 8 {
                    source.publish(tx, class, 1).unwrap();
                }
            }
            rig.poll();
        }
        let lanes = rig.engine.ledger().lanes;
        let is_busy = |lane: &&pelton::ledger::LaneCounts| {
            lane.producer.0 < PRODUCERS && busy & (1 << lane.producer.0) != 0
        };
        let handled: Vec<_> = lanes.iter().filter(is_busy).map(|lane| lane.counts.handled).collect();
        let (least, most) = (handled.iter().min().unwrap(), handled.iter().max().unwrap());
        assert!(most - least <= u64::from(BURST), "busy {busy:05b}: {handled:?}");
        let sources: Vec<_> = attached.into_iter().map(|(_, source)| source).collect();
        let (report, ends) = rig.end();
        assert_invariants(&report, &sources, &witnesses(ends));
    }
}

/// Lane sets that have had nothing for long are looked at no more, and each event of theirs is seen all the same.
#[test]
fn lane_sets_doze_and_wake() {
    let _dog = watchdog();
    let mut plan = plan().with_producers_max(12);
    let classes = [
        plan.class(Class::strict("top").with_capacity(8)),
        plan.class(Class::weighted("rest", 1).with_capacity(8)),
    ];
    let mut rig = rig(plan, |_| recording());
    let mut producers: Vec<_> = (0..12).map(|at| (rig.engine.attach().unwrap(), Source::new(at))).collect();
    for round in 0..6u64 {
        // In odd rounds most have dozed since the round before; in some rounds some publish alone.
        for (at, (tx, source)) in producers.iter_mut().enumerate() {
            if round % 3 != 2 || at % 4 == 3 {
                source.publish(tx, classes[at % 2], round % 5).unwrap();
                source.publish(tx, classes[(at + 1) % 2], round % 5).unwrap();
            }
        }
        rig.run_dry();
        assert_eq!(rig.engine.ledger().total().in_flight, 0);
        if round % 2 == 0 {
            for _ in 0..40_000 {
                rig.poll();
            }
        }
    }
    let sources: Vec<_> = producers.into_iter().map(|(_, source)| source).collect();
    let (report, ends) = rig.end();
    assert_eq!(report.ledger.total().handled, 4 * 24 + 2 * 6);
    assert_invariants(&report, &sources, &witnesses(ends));
}

#[test]
fn this_process_may_run_somewhere() {
    let _dog = watchdog();
    assert!(!available().is_empty());
}
