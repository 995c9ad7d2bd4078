//! An engine starts, drains, answers, stops and ends: bounded in time, whoever is stuck or blocked, with every event
//! accounted for and every value dropped once.
#![allow(unsafe_code, reason = "calls of the system")]

use pelton::engine::{AskError, Engine, StopError};
use pelton::park::Wait;
use pelton::producer::AttachError;
use pelton::{Class, Context, Event, Handler, Outcome, Rejection, ShardId, Verdict};
use pelton_testkit::*;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// Long enough for anything that must come to an end by itself.
const LONG: Duration = Duration::from_secs(50);

/// Sums up what it is given.
#[derive(Default)]
struct Adder {
    sum: u64,
}

impl Handler<u64> for Adder {
    type Output = u64;
    fn on_event(&mut self, event: &mut Event<'_, u64>, _: &mut Context<'_, u64>) -> Verdict {
        self.sum += **event;
        Verdict::Done
    }
    fn on_stop(self, _: &mut Context<'_, u64>) -> u64 {
        self.sum
    }
}

/// A handler that says that it has come, and waits at the door with each event.
fn waiting_at(
    entered: Door,
    door: Door,
) -> Acting<impl FnMut(&mut Event<'_, Proof>, &mut Context<'_, Proof>) -> Verdict + 'static> {
    acting(move |_, _| {
        entered.open();
        door.wait();
        Verdict::Done
    })
}

#[test]
fn a_second_stop_says_that_there_was_a_first() {
    let _dog = watchdog();
    let mut plan = plan();
    plan.class(Class::strict("only").with_capacity(4).block());
    let engine = plan.start(|| 0u64, |_| Adder::default()).unwrap();
    assert_closed(&engine.stop(LONG).unwrap());
    let error = engine.stop(LONG).map(|_| ()).unwrap_err();
    assert_eq!(error, StopError::Stopped);
    assert!(error.to_string().contains("before"), "{error}");
    assert_eq!(engine.attach().map(|_| ()).unwrap_err(), AttachError::Closed);
    assert_eq!(engine.ask(ShardId(0), |adder: &mut Adder| adder.sum), Err(AskError::NoAnswer(ShardId(0))));
    assert!(engine.drain(Duration::ZERO));
}

#[test]
fn of_many_stops_at_once_exactly_one_has_the_report() {
    let _dog = watchdog();
    let mut plan = plan();
    let class = plan.class(Class::strict("only").with_capacity(4).block());
    let engine = plan.start(|| 0u64, |_| Adder::default()).unwrap();
    let mut tx = engine.attach().unwrap();
    for event in 0..100u64 {
        tx.publish(class, 1u64, |slot| *slot = event).unwrap();
    }
    let reports: Vec<_> = std::thread::scope(|scope| {
        let stops: Vec<_> = (0..4).map(|_| scope.spawn(|| engine.stop(LONG))).collect();
        stops.into_iter().filter_map(|stop| stop.join().unwrap().ok()).collect()
    });
    assert_eq!(reports.len(), 1);
    assert_closed(&reports[0]);
    assert_eq!(reports[0].ledger.total().handled, 100);
}

#[test]
fn a_shard_cannot_stop_or_ask_its_own_engine_and_is_told() {
    let _dog = watchdog();
    let engine: Arc<OnceLock<Engine<u64>>> = Arc::default();
    let reached = engine.clone();
    let mut plan = plan().with_shards(2);
    let class = plan.class(Class::strict("only").with_capacity(4).block());
    let said = Arc::new(AtomicU64::new(0));
    let tell = said.clone();
    let started = plan.start(
        || 0u64,
        move |_| {
            let (engine, tell) = (reached.clone(), tell.clone());
            move |_: &mut Event<'_, u64>, context: &mut Context<'_, u64>| {
                let engine = engine.get().expect("set before the first event");
                let shard = context.shard();
                assert_eq!(engine.stop(LONG).map(|_| ()), Err(StopError::OnShardThread(shard)));
                for other in [ShardId(0), ShardId(1)] {
                    let said = engine.ask(other, |adder: &mut Adder| adder.sum);
                    assert_eq!(said, Err(AskError::OnShardThread(shard)));
                }
                tell.fetch_add(1, Ordering::Relaxed);
            }
        },
    );
    assert!(engine.set(started.unwrap()).is_ok());
    let engine = engine.get().unwrap();
    let mut tx = engine.attach().unwrap();
    for key in 0..20u64 {
        tx.publish(class, key, |_| ()).unwrap();
    }
    let report = engine.stop(LONG).unwrap();
    assert_closed(&report);
    assert_eq!((said.load(Ordering::Relaxed), report.ledger.total().failed_total()), (20, 0));
}

#[test]
fn an_engine_may_end_on_one_of_its_own_shards() {
    let _dog = watchdog();
    let (done, door) = (Door::default(), Door::default());
    let (tell, open) = (done.clone(), door.clone());
    let engine: Arc<OnceLock<Engine<u64>>> = Arc::default();
    let reached = engine.clone();
    let mut plan = plan();
    let class = plan.class(Class::strict("only").with_capacity(4).block());
    let started = plan.start(
        || 0u64,
        move |_| {
            let (mut engine, open, tell) = (Some(reached.clone()), open.clone(), tell.clone());
            move |_: &mut Event<'_, u64>, _: &mut Context<'_, u64>| {
                open.wait();
                // The last one to hold the engine lets it go.
                drop(engine.take());
                tell.open();
            }
        },
    );
    assert!(engine.set(started.unwrap()).is_ok());
    let mut tx = engine.get().unwrap().attach().unwrap();
    tx.publish(class, 1u64, |_| ()).unwrap();
    drop(engine);
    door.open();
    done.wait();
    // The factory of handlers held it too; that is gone with the engine's start.
    while tx.try_publish(class, 1u64, |_| ()).is_ok() {
        std::thread::yield_now();
    }
}

#[test]
fn an_engine_that_is_dropped_drains_first() {
    let _dog = watchdog();
    let handled = Arc::new(AtomicU64::new(0));
    let counted = handled.clone();
    let mut plan = plan().with_drop_deadline(LONG);
    let class = plan.class(Class::strict("only").with_capacity(1_024).block());
    let engine = plan.start(
        || 0u64,
        move |_| {
            let counted = counted.clone();
            move |_: &mut Event<'_, u64>, _: &mut Context<'_, u64>| {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        },
    );
    let engine = engine.unwrap();
    let mut tx = engine.attach().unwrap();
    for key in 0..1_000u64 {
        tx.publish(class, key, |_| ()).unwrap();
    }
    drop(engine);
    assert_eq!(handled.load(Ordering::Relaxed), 1_000);
    assert_eq!(tx.publish(class, 1u64, |_| ()).unwrap_err().reason, Rejection::Closed);
}

#[test]
fn a_stop_is_bounded_when_a_handler_is_stuck_and_says_which() {
    let _dog = watchdog();
    let (entered, door) = (Door::default(), Door::default());
    let (here, open) = (entered.clone(), door.clone());
    let mut plan = plan().with_shards(2);
    let class = plan.class(Class::strict("only").with_capacity(8).reject());
    let book = DropBook::new(128, None);
    let making = book.clone();
    let engine = plan.start(
        move || (making.make(), Proof::default()),
        move |shard| {
            let (here, open) = (here.clone(), open.clone());
            move |_: &mut Event<'_, (Dropped, Proof)>, _: &mut Context<'_, (Dropped, Proof)>| {
                if shard == ShardId(0) {
                    here.open();
                    open.wait();
                }
            }
        },
    );
    let engine = engine.unwrap();
    let mut tx = engine.attach().unwrap();
    let key = |shard| (0..).find(|k: &u64| tx.shard_of(*k) == ShardId(shard)).unwrap();
    let (stuck, good) = (key(0), key(1));
    for _ in 0..5 {
        tx.publish(class, stuck, |_| ()).unwrap();
        tx.publish(class, good, |_| ()).unwrap();
    }
    entered.wait();
    let begun = Instant::now();
    let report = engine.stop(Duration::from_millis(50)).unwrap();
    // 50 ms and 200 ms of grace, and a lot for a busy machine.
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert!(!report.drained && !report.shards[0].stopped && report.shards[1].stopped);
    assert!(report.to_string().contains("shard 0 did not stop in time"), "{report}");
    assert_closed(&report);
    let counts = report.ledger.shard(ShardId(0));
    assert_eq!((counts.accepted, counts.handled, counts.in_flight), (5, 0, 5));
    assert_eq!(report.ledger.shard(ShardId(1)).handled, 5);
    // The memory is left to the stuck shard for as long as it needs it, and then given back: no value is lost.
    drop((engine, tx));
    door.open();
    while book.alive() > 0 {
        std::thread::yield_now();
    }
    book.assert_all_dropped_once();
}

#[test]
fn a_stop_releases_a_blocked_producer() {
    let _dog = watchdog();
    let (entered, door) = (Door::default(), Door::default());
    let (here, open) = (entered.clone(), door.clone());
    let mut plan = plan();
    let class = plan.class(Class::strict("only").with_capacity(1).block());
    let engine = plan.start(Proof::default, move |_| waiting_at(here.clone(), open.clone())).unwrap();
    let mut users =
        vec![(engine.attach().unwrap(), Source::new(0)), (engine.attach().unwrap(), Source::new(1))];
    let (tx, source) = &mut users[0];
    source.publish(tx, class, 1).unwrap();
    entered.wait();
    let (tx, source) = &mut users[1];
    source.publish(tx, class, 1).unwrap();
    let blocked: Vec<_> = users
        .into_iter()
        .map(|(mut tx, mut source)| {
            std::thread::spawn(move || {
                let said = source.publish(&mut tx, class, 1);
                assert_eq!(said.unwrap_err().reason, Rejection::Closed);
                source
            })
        })
        .collect();
    // Wait until both are in their publish for all we can see; a stop that comes earlier must do as well.
    std::thread::yield_now();
    engine.close();
    let sources: Vec<_> = blocked.into_iter().map(|thread| thread.join().unwrap()).collect();
    door.open();
    let mut report = engine.stop(LONG).unwrap();
    assert!(report.drained);
    assert_eq!(report.ledger.total().rejected_for(Rejection::Closed), 2);
    let witnesses = report.outputs();
    assert_invariants(&report, &sources, &witnesses);
}

#[test]
fn a_stop_without_a_deadline_drains_nothing_and_counts_what_it_leaves() {
    let _dog = watchdog();
    let mut plan = plan().with_shards(2);
    let class = plan.class(Class::strict("only").with_capacity(16).with_payload_bytes(256).reject());
    let mut rig = rig(plan, |_| recording());
    let (mut tx, mut source) = (rig.engine.attach().unwrap(), Source::new(0));
    for key in 0..8 {
        source.publish(&mut tx, class, key).unwrap();
    }
    rig.shards[0].poll();
    for key in 0..8 {
        source.publish(&mut tx, class, key).unwrap();
    }
    assert!(!rig.engine.drain(Duration::from_millis(1)));
    let (report, ends) = rig.end_now();
    assert!(!report.drained && report.to_string().contains("not drained"), "{report}");
    let total = report.ledger.total();
    assert!(total.handled > 0 && total.in_flight > 8 && total.handled + total.in_flight == 16);
    assert_invariants(&report, &[source], &witnesses(ends));
}

#[test]
fn claim_that_is_held_across_a_stop_is_refused_when_it_is_published() {
    let _dog = watchdog();
    let mut plan = plan();
    let class = plan.class(Class::strict("only").with_capacity(4).block());
    let engine = plan.start(|| 0u64, |_| Adder::default()).unwrap();
    let mut tx = engine.attach().unwrap();
    let claim = tx.claim(class, 1u64).acquire().unwrap();
    let report = engine.stop(LONG).unwrap();
    assert!(report.drained);
    assert_closed(&report);
    assert_eq!(report.ledger.total().offered, 0);
    assert_eq!(claim.publish().unwrap_err().reason, Rejection::Closed);
    let total = engine.ledger().total();
    assert_eq!((total.accepted, total.in_flight, total.rejected_for(Rejection::Closed)), (0, 0, 1));
    assert!(engine.ledger().is_closed());
    assert_eq!(tx.publish(class, 1u64, |_| ()).unwrap_err().reason, Rejection::Closed);
}

#[test]
fn drain_says_whether_every_event_has_left_its_lane() {
    let _dog = watchdog();
    let (entered, door) = (Door::default(), Door::default());
    let (here, open) = (entered.clone(), door.clone());
    let mut plan = plan();
    let class = plan.class(Class::strict("only").with_capacity(8).block());
    let engine = plan.start(Proof::default, move |_| waiting_at(here.clone(), open.clone())).unwrap();
    assert!(engine.drain(Duration::ZERO), "nothing was ever published");
    let (mut tx, mut source) = (engine.attach().unwrap(), Source::new(0));
    source.publish(&mut tx, class, 1).unwrap();
    entered.wait();
    assert!(!engine.drain(Duration::from_millis(5)));
    door.open();
    assert!(engine.drain(Duration::MAX));
    assert_eq!(engine.ledger().total().handled, 1);
    // Producers go on after a drain.
    source.publish(&mut tx, class, 1).unwrap();
    let mut report = engine.stop(Duration::MAX).unwrap();
    assert_eq!(report.ledger.total().handled, 2);
    let witnesses = report.outputs();
    assert_invariants(&report, &[source], &witnesses);
}

/// Does nothing with its events.
struct Ignore;

impl Handler<Proof> for Ignore {
    type Output = ();
    fn on_event(&mut self, _: &mut Event<'_, Proof>, _: &mut Context<'_, Proof>) -> Verdict {
        Verdict::Done
    }
    fn on_stop(self, _: &mut Context<'_, Proof>) {}
}

#[test]
fn question_that_a_shard_has_not_read_is_dropped_when_the_shard_ends() {
    let _dog = watchdog();
    let mut plan = plan();
    plan.class(Class::strict("only").with_capacity(4).block());
    let mut rig = rig(plan, |_| Ignore);
    rig.poll();
    let captured = Arc::new(());
    let held = captured.clone();
    let Rig { engine, shards, .. } = rig;
    std::thread::scope(|scope| {
        let asks = scope.spawn(|| engine.ask(ShardId(0), move |_: &mut Ignore| drop(held)));
        // By then the question is most likely in the mailbox. If not, the mailbox refuses it.
        std::thread::sleep(Duration::from_millis(50));
        shards.into_iter().for_each(|shard| drop(shard.finish()));
        assert_eq!(asks.join().unwrap(), Err(AskError::NoAnswer(ShardId(0))));
    });
    assert_eq!(Arc::strong_count(&captured), 1, "a question that is never answered keeps what it captured");
    assert_closed(&engine.stop(Duration::ZERO).unwrap());
}

#[test]
fn a_handler_can_be_asked_while_it_runs() {
    let _dog = watchdog();
    let mut plan = plan().with_shards(2);
    let class = plan.class(Class::strict("only").with_capacity(8).block());
    let engine = plan.start(|| 0u64, |_| Adder::default()).unwrap();
    let mut tx = engine.attach().unwrap();
    let mut sum = 0;
    for event in 0..500u64 {
        tx.publish(class, event, |slot| *slot = event).unwrap();
        sum += event;
        if event % 50 == 0 {
            assert!(engine.drain(LONG));
            let asked = |shard| engine.ask(ShardId(shard), |adder: &mut Adder| adder.sum).unwrap();
            assert_eq!(asked(0) + asked(1), sum);
        }
    }
    let wrong = engine.ask(ShardId(0), |_: &mut Other| ()).unwrap_err();
    assert!(matches!(wrong, AskError::WrongHandler(name) if name.contains("Other")), "{wrong}");
    let nobody = engine.ask(ShardId(2), |_: &mut Adder| ()).unwrap_err();
    assert_eq!(
        (nobody, nobody.to_string().as_str()),
        (AskError::NoShard(ShardId(2)), "the engine has no shard 2")
    );
    let mut report = engine.stop(LONG).unwrap();
    assert_closed(&report);
    assert!(report.output::<String>(ShardId(0)).is_none(), "of another type");
    let outputs: Vec<u64> = report.outputs();
    assert_eq!((outputs.len(), outputs.iter().sum::<u64>()), (2, sum));
    assert!(report.output::<u64>(ShardId(0)).is_none(), "taken");
    assert!(report.output::<u64>(ShardId(9)).is_none(), "no such shard");
}

struct Other;

impl Handler<u64> for Other {
    type Output = ();
    fn on_event(&mut self, _: &mut Event<'_, u64>, _: &mut Context<'_, u64>) -> Verdict {
        Verdict::Done
    }
    fn on_stop(self, _: &mut Context<'_, u64>) {}
}

#[test]
#[cfg(feature = "latency")]
fn latencies_can_be_read_while_events_run_and_none_is_lost() {
    let _dog = watchdog();
    let mut plan = plan().with_shards(2);
    let class =
        plan.class(Class::strict("only").with_capacity(64).with_stamp(pelton::class::Stamp::Every).block());
    let engine = plan.start(|| 0u64, |_| Adder::default()).unwrap();
    let mut tx = engine.attach().unwrap();
    let mut last = 0;
    for event in 0..5_000u64 {
        tx.publish(class, event, |slot| *slot = event).unwrap();
        if event % 500 == 0 {
            let measured = engine.latency().unwrap()[0].wait_ns.len();
            assert!(last <= measured && measured <= event + 1);
            last = measured;
        }
    }
    let report = engine.stop(LONG).unwrap();
    assert_closed(&report);
    let latency = &report.classes[0].latency;
    assert_eq!(
        (latency.wait_ns.len(), latency.handling_ns.len(), latency.lateness_ns.len()),
        (5_000, 5_000, 0)
    );
}

#[cfg(feature = "latency")]
#[test]
fn last_latencies_are_there_while_a_shard_is_in_a_burst() {
    let _dog = watchdog();
    let mut plan = plan();
    let class =
        plan.class(Class::strict("only").with_capacity(4).with_stamp(pelton::class::Stamp::Every).block());
    let (entered, door) = (Door::default(), Door::default());
    let doors = (entered.clone(), door.clone());
    let engine = plan.start(Proof::default, move |_| waiting_at(doors.0.clone(), doors.1.clone())).unwrap();
    let (mut tx, mut source) = (engine.attach().unwrap(), Source::new(0));
    source.publish(&mut tx, class, 1).unwrap();
    entered.wait();
    // The shard answers nothing before the door opens.
    for _ in 0..100 {
        assert_eq!(engine.latency_last()[0].handling_ns.len(), 0);
    }
    door.open();
    while engine.latency_last()[0].handling_ns.is_empty() {
        std::thread::yield_now();
    }
    let mut report = engine.stop(LONG).unwrap();
    assert_eq!(engine.latency_last()[0].handling_ns.len(), 1);
    let witnesses = report.outputs();
    assert_invariants(&report, &[source], &witnesses);
}

#[test]
fn the_ledger_of_a_running_engine_is_never_impossible() {
    let _dog = watchdog();
    let mut plan = plan().with_shards(2).with_mesh(true);
    let class = plan.class(Class::strict("in").with_capacity(8).reject());
    let mesh = plan.class(Class::strict("mesh").with_capacity(8).drop_newest());
    let engine = plan
        .start(Proof::default, move |shard| {
            let mut book = Source::new(10 + u32::from(shard.0));
            acting(move |event, context| {
                if event.class() == class {
                    let key = event.key;
                    let proof = book.next(mesh, key + 1, 0);
                    let said = context.emit(mesh, key + 1, |slot| *slot = proof);
                    book.settle(&proof, &said);
                }
                Verdict::Done
            })
        })
        .unwrap();
    let done = AtomicBool::new(false);
    let users: Vec<_> = (0..2).map(|id| (engine.attach().unwrap(), Source::new(id))).collect();
    let snapshots = std::thread::scope(|scope| {
        let producers: Vec<_> = users
            .into_iter()
            .map(|(mut tx, mut source)| {
                scope.spawn(move || {
                    for i in 0..20_000 {
                        let _ = source.publish(&mut tx, class, i % 16);
                    }
                    source
                })
            })
            .collect();
        let look = scope.spawn(|| {
            let mut snapshots = 0u64;
            let mut before = 0;
            while !done.load(Ordering::Relaxed) {
                let ledger = engine.ledger();
                for lane in &ledger.lanes {
                    let c = &lane.counts;
                    let left = c.handled + c.expired + c.failed_total() + c.evicted;
                    assert!(left <= c.accepted, "{lane:?}");
                    assert!(c.accepted + c.rejected_total() <= c.offered, "{lane:?}");
                    assert!(c.in_flight <= 8, "{lane:?}");
                }
                let total = ledger.total();
                assert!(total.handled <= total.accepted && total.accepted <= total.offered);
                assert!(before <= total.handled, "counters only grow");
                before = total.handled;
                snapshots += 1;
            }
            snapshots
        });
        producers.into_iter().for_each(|producer| drop(producer.join().unwrap()));
        done.store(true, Ordering::Relaxed);
        look.join().unwrap()
    });
    assert!(snapshots > 10, "{snapshots} snapshots prove little");
    assert!(engine.drain(LONG));
    let report = engine.stop(LONG).unwrap();
    assert_closed(&report);
    assert_eq!(report.ledger.class(class).offered, 40_000);
}

/// Counts the handlers that have started.
struct Starter(Arc<AtomicU64>);

impl Handler<u64> for Starter {
    type Output = ();
    fn on_event(&mut self, _: &mut Event<'_, u64>, _: &mut Context<'_, u64>) -> Verdict {
        Verdict::Done
    }
    fn on_start(&mut self, _: &mut Context<'_, u64>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
    fn on_stop(self, _: &mut Context<'_, u64>) {}
}

/// `PELTON_SOAK_STARTS` says how many engines are started; five hundred without it.
#[test]
fn every_handler_starts_though_nothing_is_published() {
    let starts: u32 = std::env::var("PELTON_SOAK_STARTS").map_or(500, |starts| starts.parse().unwrap());
    let _dog = watchdog_for(Duration::from_secs(60) + starts * Duration::from_millis(50));
    let clock = pelton::clock::Clock::virtual_time().0;
    for start in 0..starts {
        let mut plan = plan()
            .with_shards(2)
            .with_mesh(true)
            .with_wait(Wait::Spin)
            .with_producers_max(1)
            .with_clock(clock.clone());
        plan.class(Class::strict("only").with_capacity(1).reject());
        let (started, counted) = (Arc::new(AtomicU64::new(0)), Instant::now());
        let count = started.clone();
        let engine = plan.start(|| 0u64, move |_| Starter(count.clone())).unwrap();
        while started.load(Ordering::Relaxed) < 2 {
            assert!(counted.elapsed() < LONG / 5, "start {start}: a handler has not started");
            std::thread::yield_now();
        }
        assert_closed(&engine.stop(Duration::ZERO).unwrap());
    }
}

#[test]
fn eight_shards_on_few_cpus_lose_nothing() {
    let _dog = watchdog();
    let waits = if cfg!(feature = "park") { vec![Wait::Park, Wait::Yield] } else { vec![Wait::Yield] };
    for wait in waits {
        let mut plan = plan().with_shards(8).with_wait(wait);
        let class = plan.class(Class::strict("only").with_capacity(16).block());
        let engine = plan.start(Proof::default, |_| recording()).unwrap();
        let producers: Vec<_> = (0..2)
            .map(|id| {
                let (mut tx, mut source) = (engine.attach().unwrap(), Source::new(id));
                std::thread::spawn(move || {
                    for i in 0..4_000 {
                        source.publish(&mut tx, class, i % 64).unwrap();
                    }
                    source
                })
            })
            .collect();
        let sources: Vec<_> = producers.into_iter().map(|producer| producer.join().unwrap()).collect();
        let mut report = engine.stop(LONG).unwrap();
        assert!(report.drained);
        assert!(report.shards.iter().all(|shard| shard.counts.handled > 0), "{report}");
        let witnesses = report.outputs();
        assert_invariants(&report, &sources, &witnesses);
    }
}

/// CPU time of this process's threads whose name begins so, in clock ticks.
#[cfg(all(target_os = "linux", feature = "park"))]
fn cpu_ticks(name: &str) -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let ticks = tasks.filter_map(|task| {
        let text = std::fs::read_to_string(task.path().join("stat")).ok()?;
        let (head, tail) = text.rsplit_once(')')?;
        let fields: Vec<&str> = tail.split_whitespace().collect();
        // User and system time are the fields 14 and 15, counted from the process's number.
        head.split_once('(')?.1.starts_with(name).then(|| {
            let field = |at: usize| fields[at - 3].parse::<u64>().unwrap_or(0);
            field(14) + field(15)
        })
    });
    ticks.sum()
}

#[test]
#[cfg(all(target_os = "linux", feature = "park"))]
fn idle_shards_sleep() {
    let _dog = watchdog();
    let mut plan = plan().with_shards(8).with_thread_name("idlers");
    let class = plan.class(Class::strict("only").with_capacity(4).block());
    let engine = plan.start(|| 0u64, |_| Adder::default()).unwrap();
    let mut tx = engine.attach().unwrap();
    tx.publish(class, 1u64, |_| ()).unwrap();
    assert!(engine.drain(LONG));
    let (before, begun) = (cpu_ticks("idlers"), Instant::now());
    std::thread::sleep(Duration::from_secs(2));
    // SAFETY: a question to the system, without pointers.
    let ticks_per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64;
    let spent = (cpu_ticks("idlers") - before) as f64 / ticks_per_second / begun.elapsed().as_secs_f64();
    println!("8 idle shards: {:.2} % of a CPU", spent * 100.0);
    assert!(spent < 0.2, "8 idle shards take {:.0} % of a CPU", spent * 100.0);
    let report = engine.stop(LONG).unwrap();
    assert_closed(&report);
    assert!(report.shards.iter().all(|shard| shard.parks > 0));
}

#[test]
fn every_value_is_dropped_once_through_the_life_of_an_engine() {
    let _dog = watchdog();
    const EVENTS: usize = 500;
    for end in 0..3 {
        let book = DropBook::new(4_096, None);
        let making = book.clone();
        let mut plan = plan().with_shards(2).with_mesh(true);
        let class = plan.class(Class::strict("only").with_capacity(8).block());
        let newest = plan.class(Class::weighted("newest", 1).with_capacity(2).drop_newest());
        let engine = plan.start(
            move || making.make(),
            move |_| {
                let mut count = 0;
                move |event: &mut Event<'_, Dropped>, context: &mut Context<'_, Dropped>| {
                    count += 1;
                    if event.class() == class && count % 3 == 0 {
                        let _ = context.emit(newest, count, |_| ());
                    }
                }
            },
        );
        let engine = engine.unwrap();
        let mut tx = engine.attach().unwrap();
        for n in 0..EVENTS {
            let class = if n % 5 == 0 { newest } else { class };
            // A value that is dropped by the policy is dropped here and now.
            assert!(matches!(
                tx.send(class, n as u64, book.make()),
                Ok(Outcome::Accepted | Outcome::Dropped)
            ));
        }
        match end {
            0 => {
                let report = engine.stop(LONG).unwrap();
                assert_closed(&report);
                drop((report, tx, engine));
            }
            1 => drop((tx, engine)),
            _ => {
                drop(engine);
                assert_eq!(tx.send(class, 1u64, book.make()).unwrap_err().error.reason, Rejection::Closed);
                drop(tx);
            }
        }
        while book.alive() > 0 {
            std::thread::yield_now();
        }
        book.assert_all_dropped_once();
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_forked_child_is_told_that_the_engine_is_its_parents() {
    const MARKER: &str = "PELTON_TEST_FORK";
    if std::env::var_os(MARKER).is_some() {
        return fork_here();
    }
    let _dog = watchdog();
    let text = in_a_process_of_its_own(MARKER, &[]);
    assert!(text.contains("the child was told"), "{text}");
}

#[cfg(target_os = "linux")]
fn fork_here() {
    let _dog = watchdog();
    let mut plan = plan();
    let block = plan.class(Class::strict("block").with_capacity(4).block());
    let newest = plan.class(Class::strict("newest").with_capacity(4).drop_newest());
    let engine = plan.start(|| 0u64, |_| Adder::default()).unwrap();
    let mut tx = engine.attach().unwrap();
    tx.publish(block, 1u64, |slot| *slot = 1).unwrap();
    assert!(engine.drain(LONG));
    let mut both = Some((tx, engine));
    in_a_forked_child(|| {
        let (mut tx, engine) = both.take().unwrap();
        let attach = engine.attach().map(|_| ()).unwrap_err();
        assert_eq!(attach, AttachError::Forked);
        assert!(attach.to_string().contains("parent"));
        assert_eq!(engine.stop(LONG).map(|_| ()).unwrap_err(), StopError::Forked);
        assert_eq!(engine.ask(ShardId(0), |adder: &mut Adder| adder.sum), Err(AskError::Forked));
        for class in [block, newest] {
            // At the latest when the child's copy of the lane is full, it neither waits nor drops.
            let refused = (0..5).find_map(|_| tx.publish(class, 1u64, |_| ()).err());
            assert_eq!(refused.expect("nobody reads here").reason, Rejection::Forked);
        }
    });
    let (mut tx, engine) = both.unwrap();
    println!("the child was told");
    // The parent never noticed.
    tx.publish(block, 1u64, |slot| *slot = 1).unwrap();
    let mut report = engine.stop(LONG).unwrap();
    assert_closed(&report);
    assert_eq!(report.outputs::<u64>(), [2]);
}

#[test]
#[cfg(target_os = "linux")]
fn forked_child_never_waits_for_a_lock_that_a_thread_of_its_parent_held() {
    const MARKER: &str = "PELTON_TEST_FORK_BESIDE_ATTACH";
    if std::env::var_os(MARKER).is_some() {
        return fork_beside_attach();
    }
    let _dog = watchdog();
    let text = in_a_process_of_its_own(MARKER, &[]);
    assert!(text.contains("every child has ended"), "{text}");
}

#[cfg(target_os = "linux")]
fn fork_beside_attach() {
    let _dog = watchdog();
    let mut plan = plan();
    plan.class(Class::strict("only").with_capacity(4).block());
    let engine = plan.start(|| 0u64, |_| Adder::default()).unwrap();
    let mut tx = Some(engine.attach().unwrap());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                drop(engine.attach().unwrap());
                engine.placements();
            }
        });
        for _ in 0..2_000 {
            in_a_forked_child(|| {
                drop(tx.take());
                engine.close();
                assert!(engine.drain(LONG));
                assert!(engine.ledger().total().accepted == 0 && engine.placements().is_empty());
            });
        }
        done.store(true, Ordering::Relaxed);
    });
    println!("every child has ended");
    drop(tx);
    assert_closed(&engine.stop(LONG).unwrap());
}

/// Refuses `membarrier` to all threads of this process.
#[cfg(all(target_os = "linux", target_arch = "x86_64", feature = "park"))]
fn refuse_the_barrier() {
    use libc::{BPF_ABS, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, sock_filter, sock_fprog};
    let step = |code: u32, jt, jf, k| sock_filter { code: code as u16, jt, jf, k };
    let mut filter = [
        step(BPF_LD | BPF_W | BPF_ABS, 0, 0, 0),
        step(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, libc::SYS_membarrier as u32),
        step(BPF_RET | BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        step(BPF_RET | BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the program outlives the calls, which read it alone.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let (mode, flags) = (libc::SECCOMP_SET_MODE_FILTER, libc::SECCOMP_FILTER_FLAG_TSYNC);
        assert_eq!(libc::syscall(libc::SYS_seccomp, mode, flags, &raw const program), 0);
    }
}

/// Starts when the door opens.
#[cfg(all(target_os = "linux", target_arch = "x86_64", feature = "park"))]
struct Late(Door);

#[cfg(all(target_os = "linux", target_arch = "x86_64", feature = "park"))]
impl Handler<u64> for Late {
    type Output = ();
    fn on_event(&mut self, _: &mut Event<'_, u64>, _: &mut Context<'_, u64>) -> Verdict {
        Verdict::Done
    }
    fn on_start(&mut self, _: &mut Context<'_, u64>) {
        self.0.wait();
    }
    fn on_stop(self, _: &mut Context<'_, u64>) {}
}

#[test]
#[cfg(all(target_os = "linux", target_arch = "x86_64", feature = "park"))]
fn shard_without_a_barrier_does_not_park_and_misses_nothing() {
    const MARKER: &str = "PELTON_TEST_NO_BARRIER";
    if std::env::var_os(MARKER).is_some() {
        return ping_without_a_barrier();
    }
    let _dog = watchdog();
    let text = in_a_process_of_its_own(MARKER, &[]);
    assert!(text.contains("nothing was missed"), "{text}");
}

#[cfg(all(target_os = "linux", target_arch = "x86_64", feature = "park"))]
fn ping_without_a_barrier() {
    let _dog = watchdog();
    let mut plan = plan().with_wait(Wait::Park);
    let class = plan.class(Class::strict("only").with_capacity(4).block());
    let door = Door::default();
    let starts = door.clone();
    let engine = plan.start(|| 0u64, move |_| Late(starts.clone())).unwrap();
    // The engine has registered for the barrier, and its shard has not parked yet.
    refuse_the_barrier();
    door.open();
    let mut tx = engine.attach().unwrap();
    for event in 1..=100u64 {
        // Long enough for a shard that is idle to park.
        std::thread::sleep(Duration::from_millis(2));
        tx.publish(class, event, |slot| *slot = event).unwrap();
        assert!(engine.drain(LONG));
    }
    let report = engine.stop(LONG).unwrap();
    assert_closed(&report);
    assert_eq!((report.ledger.total().handled, report.shards[0].parks), (100, 0));
    println!("nothing was missed");
}
