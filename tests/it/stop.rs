//! A stop ends in time, serves nothing after it, and accounts for everything.

use pelton::class::{ClassId, Stamp};
use pelton::engine::OnPanic;
use pelton::park::{PARK_AFTER, Wait};
use pelton::{Class, Context, Event, Handler, Rejection, ShardId, Verdict};
use pelton_testkit::*;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Long enough for anything that ends by itself.
const LONG: Duration = Duration::from_secs(50);

/// Ignores its events.
struct Idle;

impl Handler<u64> for Idle {
    type Output = ();
    fn on_event(&mut self, _: &mut Event<'_, u64>, _: &mut Context<'_, u64>) -> Verdict {
        Verdict::Done
    }
    fn on_stop(self, _: &mut Context<'_, u64>) {}
}

#[test]
fn stop_wakes_an_idle_shard_whatever_it_waits_by() {
    const STOPS: usize = 40;
    let _dog = watchdog();
    for wait in [Wait::Park, Wait::Yield, Wait::Spin] {
        let mut late = 0;
        for _ in 0..STOPS {
            let mut plan = plan().with_wait(wait);
            plan.class(Class::strict("only").with_capacity(4).block());
            let engine = plan.start(|| 0u64, |_| Idle).unwrap();
            // Long enough for a shard that parks to be asleep.
            std::thread::sleep(Duration::from_millis(2));
            let begun = Instant::now();
            assert_closed(&engine.stop(LONG).unwrap());
            // A shard that sleeps through its stop is woken by the end of its nap, after 100 ms.
            late += usize::from(begun.elapsed() > Duration::from_millis(50));
        }
        assert!(late < STOPS / 4, "{wait}: {late} of {STOPS} stops took as long as a nap");
    }
}

#[test]
fn stopped_shard_does_not_sleep_and_serves_nothing() {
    let _dog = watchdog();
    let mut plan = plan().with_burst(64);
    let class = plan.class(Class::strict("only").with_capacity(256).reject());
    let mut rig = rig(plan, |_| recording());
    let mut source = Source::new(0);
    let mut tx = rig.engine.attach().unwrap();
    for _ in 0..256 {
        source.publish(&mut tx, class, 1).unwrap();
    }
    assert_eq!(rig.poll(), 64);
    let report = rig.engine.stop(Duration::ZERO).unwrap();
    let shard = &mut rig.shards[0];
    assert_eq!(shard.poll(), 0, "a burst was served after the stop");
    assert!(shard.is_stopping());
    assert!(shard.arm().is_none(), "nothing raises the waker any more: a sleep would last its whole length");
    assert_eq!((report.ledger.total().handled, report.ledger.total().in_flight), (64, 192));
    let ends = rig.shards.into_iter().map(pelton::Shard::finish).collect();
    assert_invariants(&report, &[source], &witnesses(ends));
}

#[test]
fn slow_shard_with_a_backlog_ends_with_its_burst() {
    let _dog = watchdog();
    let mut plan = plan().with_burst(64);
    let class = plan.class(Class::strict("only").with_capacity(1_024).reject());
    let entered = Door::default();
    let signal = entered.clone();
    let engine = plan
        .start(Proof::default, move |_| {
            let entered = signal.clone();
            acting(move |_, _| {
                entered.open();
                std::thread::sleep(Duration::from_millis(2));
                Verdict::Done
            })
        })
        .unwrap();
    let mut source = Source::new(0);
    let mut tx = engine.attach().unwrap();
    for _ in 0..1_024 {
        source.publish(&mut tx, class, 1).unwrap();
    }
    entered.wait();
    let handled = engine.ledger().total().handled;
    let mut report = engine.stop(Duration::ZERO).unwrap();
    // The burst that was being served, and what was handled between the look above and the stop.
    assert!(report.ledger.total().handled <= handled + 128, "a whole burst was served after the stop");
    // On a very busy machine the shard may need longer than the grace: then it left no witness.
    if report.shards[0].stopped {
        let witnesses = report.outputs();
        assert_invariants(&report, &[source], &witnesses);
    }
}

#[test]
fn every_event_accepted_beside_a_stop_is_in_its_report() {
    let _dog = watchdog();
    for round in 0..200 {
        let mut plan = plan().with_producers_max(3);
        let class = plan.class(Class::strict("only").with_capacity(64).block());
        let engine = plan.start(Proof::default, |_| recording()).unwrap();
        let begun = Door::default();
        let (report, sources) = std::thread::scope(|scope| {
            let producers: Vec<_> = (0..3u32)
                .map(|at| {
                    let (mut tx, begun) = (engine.attach().unwrap(), begun.clone());
                    scope.spawn(move || {
                        let mut source = Source::new(at);
                        loop {
                            let said = source.publish(&mut tx, class, 1);
                            begun.open();
                            if said.is_err() {
                                return source;
                            }
                        }
                    })
                })
                .collect();
            begun.wait();
            // Stops meet producers at different points of their loops.
            (0..round * 20).for_each(|_| std::hint::spin_loop());
            let report = engine.stop(LONG).unwrap();
            (report, producers.into_iter().map(|producer| producer.join().unwrap()).collect::<Vec<_>>())
        });
        let mut report = report;
        assert!(report.drained);
        // What producers refused after the report is in the engine's ledger alone.
        let total = engine.ledger().total();
        assert_eq!(report.ledger.total().accepted, total.accepted, "accepted after the report");
        assert!(engine.ledger().is_closed());
        report.ledger = engine.ledger();
        for class in &mut report.classes {
            class.counts = report.ledger.class(class.class);
        }
        for shard in &mut report.shards {
            shard.counts = report.ledger.shard(shard.placement.shard);
        }
        let witnesses = report.outputs();
        assert_invariants(&report, &sources, &witnesses);
    }
}

#[test]
fn value_that_is_sent_into_a_closed_lane_comes_back() {
    let _dog = watchdog();
    let mut plan = plan();
    let class = plan.class(Class::strict("only").with_capacity(4).block());
    let engine =
        plan.start(String::new, |_| |_: &mut Event<'_, String>, _: &mut Context<'_, String>| ()).unwrap();
    let mut tx = engine.attach().unwrap();
    tx.send(class, 1u64, "first".to_owned()).unwrap();
    let report = engine.stop(LONG).unwrap();
    let returned = tx.send(class, 1u64, "second".to_owned()).unwrap_err();
    assert_eq!((returned.error.reason, &*returned.value), (Rejection::Closed, "second"));
    assert_closed(&report);
    assert_eq!(report.ledger.total().handled, 1);
}

#[test]
fn questions_in_a_row_do_not_make_a_shard_park_more_often_than_it_may() {
    let _dog = watchdog();
    let mut plan = plan().with_wait(Wait::Park);
    plan.class(Class::strict("only").with_capacity(4).block());
    let engine = plan.start(|| 0u64, |_| Idle).unwrap();
    for _ in 0..5_000 {
        engine.ask(ShardId(0), |_: &mut Idle| ()).unwrap();
    }
    let report = engine.stop(LONG).unwrap();
    let most = report.elapsed.as_nanos() / PARK_AFTER.as_nanos() + 1;
    let parks = report.shards[0].parks;
    assert!(u128::from(parks) <= most, "{parks} parks in {:?}", report.elapsed);
    assert_closed(&report);
}

/// Notes which of its methods were called.
struct Noting {
    calls: Vec<&'static str>,
    panics: bool,
}

impl Noting {
    fn new(panics: bool) -> Self {
        Noting { calls: Vec::new(), panics }
    }
}

impl Handler<u64> for Noting {
    type Output = Vec<&'static str>;

    fn on_start(&mut self, _: &mut Context<'_, u64>) {
        self.calls.push("start");
    }
    fn on_event(&mut self, _: &mut Event<'_, u64>, _: &mut Context<'_, u64>) -> Verdict {
        self.calls.push("event");
        if self.panics {
            panic!("{PLANNED}");
        }
        Verdict::Done
    }
    fn on_batch_end(&mut self, _: &mut Context<'_, u64>) {
        self.calls.push("batch end");
    }
    fn on_stop(self, _: &mut Context<'_, u64>) -> Self::Output {
        self.calls
    }
}

#[test]
fn handler_that_never_started_is_not_stopped() {
    let _dog = watchdog();
    let mut plan = plan().with_shards(2);
    plan.class(Class::strict("only").with_capacity(4).block());
    let (engine, mut seats) = plan.host_driven(|| 0u64).unwrap();
    // The other seat is never built, so the engine is never complete.
    let mut shard = seats.remove(0).build(Noting::new(false)).unwrap();
    assert_eq!(shard.poll(), 0);
    let report = engine.stop(Duration::ZERO).unwrap();
    assert_closed(&report);
    let end = shard.finish();
    assert_eq!(end.output, None, "on_stop was called without on_start");
    assert_eq!(end.quarantine.panics, 0);
}

#[test]
fn handler_that_stopped_its_shard_by_a_panic_is_told_of_no_batch_end() {
    let _dog = watchdog();
    quiet_panics();
    let mut plan = plan().with_on_panic(OnPanic::StopShard);
    let class = plan.class(Class::strict("only").with_capacity(8).reject());
    let (engine, mut seats) = plan.host_driven(|| 0u64).unwrap();
    let mut shard = seats.remove(0).build(Noting::new(true)).unwrap();
    shard.poll();
    let mut tx = engine.attach().unwrap();
    for _ in 0..3 {
        tx.publish(class, 1u64, |_| ()).unwrap();
    }
    assert_eq!(shard.poll(), 1);
    assert!(shard.is_stopping());
    let report = engine.stop(Duration::ZERO).unwrap();
    assert_closed(&report);
    assert_eq!(shard.finish().output.unwrap(), ["start", "event"]);
}

/// Keeps the last value of each key and passes it on to another shard when it is asked to, or when it has ten.
struct Conflating {
    class: ClassId,
    held: BTreeMap<u64, u64>,
    last: BTreeMap<u64, u64>,
    asked: u32,
}

impl Conflating {
    fn new(class: ClassId) -> Self {
        Conflating { class, held: BTreeMap::new(), last: BTreeMap::new(), asked: 0 }
    }

    /// Hands over what is held, as far as there is room; returns whether that was all.
    fn flush(&mut self, context: &mut Context<'_, u64>) -> bool {
        while let Some((key, value)) = self.held.pop_first() {
            if context.emit_to(ShardId(1), self.class, key, &[], |slot| *slot = value).is_err() {
                self.held.insert(key, value);
                return false;
            }
        }
        true
    }
}

impl Handler<u64> for Conflating {
    type Output = (BTreeMap<u64, u64>, u32);

    fn on_event(&mut self, event: &mut Event<'_, u64>, context: &mut Context<'_, u64>) -> Verdict {
        let (key, value) = (event.key().0, **event);
        if context.shard() == ShardId(1) {
            self.last.insert(key, value);
        } else {
            self.held.insert(key, value);
        }
        Verdict::Done
    }

    fn on_drain(&mut self, context: &mut Context<'_, u64>) -> bool {
        self.asked += 1;
        self.flush(context)
    }

    fn on_stop(self, _: &mut Context<'_, u64>) -> Self::Output {
        assert!(self.held.is_empty(), "the engine stopped before everything was handed over");
        (self.last, self.asked)
    }
}

#[test]
fn stop_waits_for_what_handlers_hold_back() {
    let _dog = watchdog();
    for wait in [Wait::Park, Wait::Yield] {
        let mut plan = plan().with_shards(2).with_mesh(true).with_wait(wait);
        // Much less room than there is to hand over.
        let class = plan.class(Class::strict("only").with_capacity(4).block());
        let engine = plan.start(|| 0u64, move |_| Conflating::new(class)).unwrap();
        let mut tx = engine.attach().unwrap();
        for event in 0..1_000u64 {
            tx.publish_to(ShardId(0), class, event % 100, |slot| *slot = event).unwrap();
        }
        let mut report = engine.stop(LONG).unwrap();
        assert!(report.drained, "{report}");
        assert_closed(&report);
        let total = report.ledger.total();
        assert_eq!((total.handled, total.rejected_total()), (1_100, 0), "{total:?}");
        let outputs = report.outputs::<(BTreeMap<u64, u64>, u32)>();
        let last: BTreeMap<u64, u64> = (900..1_000).map(|event| (event % 100, event)).collect();
        assert_eq!(outputs[1].0, last);
        assert!(outputs[1].1 >= 1, "the handler of the last shard was not asked");
    }
}

#[test]
fn stop_is_not_drained_while_a_handler_holds_something_back() {
    let _dog = watchdog();
    /// Never hands anything over, or panics when it is asked to.
    struct Holding {
        panics: bool,
    }
    impl Handler<u64> for Holding {
        type Output = ();
        fn on_event(&mut self, _: &mut Event<'_, u64>, _: &mut Context<'_, u64>) -> Verdict {
            Verdict::Done
        }
        fn on_drain(&mut self, _: &mut Context<'_, u64>) -> bool {
            assert!(!self.panics, "{PLANNED}");
            false
        }
        fn on_stop(self, _: &mut Context<'_, u64>) {}
    }
    quiet_panics();
    for panics in [false, true] {
        let mut plan = plan();
        plan.class(Class::strict("only").with_capacity(4).block());
        let engine = plan.start(|| 0u64, move |_| Holding { panics }).unwrap();
        let report = engine.stop(Duration::from_millis(50)).unwrap();
        assert_closed(&report);
        assert_eq!((report.drained, report.shards[0].stopped), (panics, true));
        assert_eq!(report.shards[0].quarantine.as_ref().unwrap().panics, u64::from(panics));
    }
}

#[test]
fn report_of_a_hosted_engine_is_complete_when_its_shards_are_added() {
    let _dog = watchdog();
    quiet_panics();
    let mut plan = plan().with_shards(2);
    let class = plan.class(Class::strict("only").with_capacity(16).reject().with_stamp(Stamp::Every));
    let mut rig = rig(plan, |_| {
        acting(|event, _| match event.order {
            1 => panic!("{PLANNED}"),
            _ => Verdict::Done,
        })
    });
    let (mut tx, mut source) = (rig.engine.attach().unwrap(), Source::new(0));
    for key in 0..8 {
        source.publish_order(&mut tx, class, key, u64::from(key == 3)).unwrap();
    }
    rig.engine.close();
    rig.run_dry();
    let mut report = rig.engine.stop(Duration::ZERO).unwrap();
    assert!(report.drained && !report.to_string().contains("did not stop"), "{report}");
    assert!(report.shards.iter().all(|shard| shard.hosted && !shard.stopped));
    for shard in rig.shards {
        report.add(shard.finish());
    }
    assert!(report.shards.iter().all(|shard| shard.stopped));
    let panics: u64 = report.shards.iter().map(|shard| shard.quarantine.as_ref().unwrap().panics).sum();
    assert_eq!(panics, 1);
    #[cfg(feature = "latency")]
    assert_eq!(report.classes[0].latency.handling_ns.len(), 7);
    let witnesses = report.outputs();
    assert_invariants(&report, &[source], &witnesses);
}
