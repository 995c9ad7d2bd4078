//! Awaited publishing: the same order and the same ledger as with threads that block, under any executor; a full lane
//! holds its task up and nobody else; a future may be dropped, forgotten, moved or polled for no reason at any time.
#![allow(unsafe_code, reason = "wakers made by hand")]
#![cfg(feature = "async")]

use pelton::engine::AskError;
use pelton::producer::SendError;
use pelton::{
    AsyncProducer, Class, ClassId, Engine, Event, Handler, Outcome, Plan, Producer, PublishError, Rejection,
    ShardId, Verdict,
};
use pelton_testkit::*;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(30);

/// The whole of an executor: a thread that sleeps until its waker is woken.
struct Sleeper(Thread);

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Sleeper(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(said) => return said,
            // It may come back for no reason: then the poll is a spurious one.
            Poll::Pending => std::thread::park(),
        }
    }
}

/// A waker that counts how often it was woken; its reference count tells how often it is held.
#[derive(Default)]
struct Counted {
    woken: AtomicU64,
    bomb: bool,
}

impl Wake for Counted {
    fn wake(self: Arc<Self>) {
        self.woken.fetch_add(1, Ordering::SeqCst);
        assert!(!self.bomb, "{PLANNED} in a waker");
    }
}

impl Counted {
    fn woken(&self) -> u64 {
        self.woken.load(Ordering::SeqCst)
    }
}

fn poll<F: Future>(future: Pin<&mut F>, by: &Arc<Counted>) -> Poll<F::Output> {
    let waker = Waker::from(by.clone());
    future.poll(&mut Context::from_waker(&waker))
}

fn held(waker: &Arc<Counted>) -> bool {
    Arc::strong_count(waker) > 1
}

/// Publishes the next event of a stream, and writes down what was said.
async fn publish(
    tx: &mut AsyncProducer<Proof>,
    source: &mut Source,
    class: ClassId,
    key: u64,
) -> Result<Outcome, PublishError> {
    let proof = source.next(class, key, 0);
    let said = tx.publish(class, key, |event| *event = proof).await;
    source.settle(&proof, &said);
    said
}

#[test]
fn what_is_awaited_may_be_sent_to_another_thread() {
    fn assert_send<T: Send>(_: &T) {}
    let mut plan = plan();
    let class = plan.class(Class::strict("only").with_capacity(4).with_payload_bytes(64).block());
    let mut rig = rig(plan, |_| recording());
    let mut tx = AsyncProducer::from(rig.engine.attach().unwrap());
    assert_send(&tx);
    assert_send(&tx.publish(class, 1u64, |_| ()));
    assert_send(&tx.publish_payload(class, 1u64, b"x", |_| ()));
    assert_send(&tx.publish_to(pelton::ShardId(0), class, 1u64, |_| ()));
    assert_send(&tx.send(class, 1u64, Proof::default()));
    assert_send(&tx.claim(class, 1u64).acquire());
    // A claim too, over a point where its task waits.
    assert_send(&async {
        let claim = tx.claim(class, 1u64).with_payload(8).acquire().await.unwrap();
        std::future::ready(()).await;
        claim.publish().unwrap();
    });
    // None of them was polled, so none did anything.
    rig.run_dry();
    drop(tx);
    let (report, ends) = rig.end();
    assert_eq!((report.ledger.total().offered, report.ledger.total().aborted), (0, 0));
    assert_invariants(&report, &[], &witnesses(ends));
}

#[test]
fn order_and_ledger_are_those_of_a_thread_that_blocks() {
    let _dog = watchdog();
    let mut plan = plan().with_shards(2).with_burst(7);
    let classes = [
        plan.class(Class::strict("a").with_capacity(2).block()),
        plan.class(Class::weighted("b", 3).with_capacity(8).block_for(LONG)),
        plan.class(Class::weighted("c", 1).with_capacity(4).drop_newest()),
        plan.class(Class::weighted("d", 1).with_capacity(4).reject()),
    ];
    let engine = plan.start(Proof::default, |_| recording()).unwrap();
    let mut tx = AsyncProducer::from(engine.attach().unwrap());
    let mut source = Source::new(0);
    block_on(async {
        for i in 0..40_000u64 {
            let said = publish(&mut tx, &mut source, classes[(i % 4) as usize], i % 13).await;
            assert!(said.is_ok() || i % 4 == 3, "{said:?}");
        }
    });
    // Back again, and on with a thread that blocks.
    let mut tx = Producer::from(tx);
    for i in 0..1_000 {
        source.publish(&mut tx, classes[(i % 3) as usize], i % 13).unwrap();
    }
    drop(tx);
    let mut report = engine.stop(LONG).unwrap();
    assert!(report.drained);
    let witnesses = report.outputs();
    assert_invariants(&report, &[source], &witnesses);
}

#[test]
fn a_publish_that_finds_room_ends_in_its_first_poll_and_keeps_no_waker() {
    let _dog = watchdog();
    let mut plan = plan();
    let class = plan.class(Class::strict("only").with_capacity(4).block());
    let mut rig = rig(plan, |_| recording());
    let mut tx = AsyncProducer::from(rig.engine.attach().unwrap());
    let (mut source, waker) = (Source::new(0), Arc::new(Counted::default()));
    for round in 0..10 {
        for key in 0..4 {
            assert_eq!(
                poll(pin!(publish(&mut tx, &mut source, class, key)), &waker),
                Poll::Ready(Ok(Outcome::Accepted))
            );
            assert!(!held(&waker));
        }
        // The lane is full now: the task waits until the shard has given slots back, and nobody but the shard wakes it.
        let mut fifth = Box::pin(publish(&mut tx, &mut source, class, 4));
        assert!(poll(fifth.as_mut(), &waker).is_pending() && held(&waker));
        assert_eq!(waker.woken(), round);
        rig.run_dry();
        assert_eq!(waker.woken(), round + 1);
        assert!(!held(&waker), "who wakes a task keeps nothing of it");
        assert_eq!(poll(fifth.as_mut(), &waker), Poll::Ready(Ok(Outcome::Accepted)));
        drop(fifth);
        rig.run_dry();
        assert_eq!(waker.woken(), round + 1);
    }
    drop(tx);
    let (report, ends) = rig.end();
    assert_eq!(report.ledger.total().aborted, 0);
    assert_invariants(&report, &[source], &witnesses(ends));
}

#[test]
fn classes_that_do_not_block_never_wait() {
    let _dog = watchdog();
    let mut plan = plan();
    let reject = plan.class(Class::strict("reject").with_capacity(1).with_payload_bytes(64).reject());
    let newest = plan.class(Class::strict("newest").with_capacity(1).with_payload_bytes(64).drop_newest());
    let large = plan.class(Class::strict("large").with_capacity(4).with_payload_bytes(64).block());
    let rig = rig(plan, |_| recording());
    let mut tx = AsyncProducer::from(rig.engine.attach().unwrap());
    let (mut source, waker) = (Source::new(0), Arc::new(Counted::default()));
    let never = |_: &mut Proof| unreachable!("the closure of a refused event was called");
    for class in [reject, newest] {
        let said = poll(pin!(publish(&mut tx, &mut source, class, 1)), &waker);
        assert_eq!(said, Poll::Ready(Ok(Outcome::Accepted)));
    }
    for class in [reject, newest] {
        let expected = |said: Result<Outcome, PublishError>| match said {
            Err(refusal) => assert_eq!((refusal.reason, class), (Rejection::SlotsFull, reject)),
            Ok(outcome) => assert_eq!((outcome, class), (Outcome::Dropped, newest)),
        };
        let Poll::Ready(said) = poll(pin!(tx.publish(class, 1u64, never)), &waker) else { panic!("waits") };
        expected(said);
        let Poll::Ready(said) = poll(pin!(tx.publish_payload(class, 1u64, b"x", never)), &waker) else {
            panic!("waits")
        };
        expected(said);
        let Poll::Ready(said) = poll(pin!(tx.claim(class, 1u64).acquire()), &waker) else { panic!("waits") };
        assert!(matches!(
            said.map(|_| ()).unwrap_err().reason,
            Rejection::SlotsFull | Rejection::DroppedNewest
        ));
    }
    // Where waiting would not help, a class that blocks does not wait either.
    let Poll::Ready(said) = poll(pin!(tx.publish_payload(large, 1u64, &[0; 33], never)), &waker) else {
        panic!("waits")
    };
    assert_eq!(said.unwrap_err().reason, Rejection::TooLarge);
    let nowhere = pelton::ShardId(7);
    let Poll::Ready(said) = poll(pin!(tx.publish_to(nowhere, large, 1u64, never)), &waker) else {
        panic!("waits")
    };
    assert_eq!(said.unwrap_err().reason, Rejection::NoRoute);
    assert!(!held(&waker) && waker.woken() == 0);
    drop(tx);
    let (report, _) = rig.end();
    assert_closed(&report);
    let total = report.ledger.total();
    assert_eq!((total.handled, total.rejected_total()), (2, 8));
}

#[test]
fn a_future_that_is_dropped_at_any_poll_has_published_or_never_will() {
    let _dog = watchdog();
    let mut plan = plan().with_shards(2).with_burst(3);
    let classes = [
        plan.class(Class::strict("a").with_capacity(1).block()),
        plan.class(Class::weighted("b", 2).with_capacity(4).with_payload_bytes(64).block()),
    ];
    let mut rig = rig(plan, |_| recording());
    let mut tx = AsyncProducer::from(rig.engine.attach().unwrap());
    let (mut source, mut dice) = (Source::new(0), Dice::new(5));
    let (mut given_up, mut forgotten) = (0, 0);
    for _ in 0..20_000 {
        let class = classes[dice.below(2) as usize];
        let proof = source.next(class, dice.below(5), 0);
        let mut said = None;
        {
            let fill = |event: &mut Proof| *event = proof;
            // Both forms that write in place; the second also waits for payload bytes.
            let bytes = [7; 20];
            let with_bytes = class == classes[1] && dice.below(2) == 0;
            let mut publish = Box::pin(async {
                match with_bytes {
                    true => tx.publish_payload(class, proof.key, &bytes, fill).await,
                    false => tx.publish(class, proof.key, fill).await,
                }
            });
            let mut waits = false;
            // The task moves between executors, is polled for no reason, and is given up sooner or later.
            for _ in 0..dice.below(5) {
                if dice.below(3) == 0 {
                    rig.poll();
                }
                match poll(publish.as_mut(), &Arc::new(Counted::default())) {
                    Poll::Ready(outcome) => {
                        said = Some(outcome);
                        waits = false;
                        break;
                    }
                    Poll::Pending => waits = true,
                }
            }
            if waits && dice.below(4) == 0 {
                std::mem::forget(publish);
                forgotten += 1;
            } else if waits {
                given_up += 1;
            }
        }
        if let Some(said) = said {
            assert_eq!(said, Ok(Outcome::Accepted));
            source.settle(&proof, &said);
        }
    }
    assert!(given_up > 500 && forgotten > 100, "hardly any future had to wait: {given_up}, {forgotten}");
    drop(tx);
    let (report, ends) = rig.end();
    assert_eq!(report.ledger.total().aborted, given_up);
    assert_invariants(&report, &[source], &witnesses(ends));
}

#[test]
fn a_waker_is_given_back_when_its_future_is_dropped() {
    let _dog = watchdog();
    let mut plan = plan();
    let class = plan.class(Class::strict("only").with_capacity(1).block());
    let mut rig = rig(plan, |_| recording());
    let mut tx = AsyncProducer::from(rig.engine.attach().unwrap());
    let mut source = Source::new(0);
    let wakers: [Arc<Counted>; 3] = Default::default();
    block_on(publish(&mut tx, &mut source, class, 1)).unwrap();
    let mut second = Box::pin(publish(&mut tx, &mut source, class, 1));
    // Each poll replaces the waker of the one before: the task has moved.
    for waker in &wakers {
        assert!(poll(second.as_mut(), waker).is_pending());
        assert_eq!(wakers.iter().filter(|waker| held(waker)).count(), 1);
    }
    drop(second);
    assert!(!wakers.iter().any(held), "the waker of a task that is gone was kept");
    let mut second = Box::pin(publish(&mut tx, &mut source, class, 1));
    for waker in &wakers {
        assert!(poll(second.as_mut(), waker).is_pending());
    }
    rig.run_dry();
    assert_eq!(wakers.each_ref().map(|waker| waker.woken()), [0, 0, 1], "the last waker counts");
    assert!(poll(second.as_mut(), &wakers[0]).is_ready());
    drop(second);
    // One that is forgotten may be woken once more, for nothing.
    let mut third = Box::pin(publish(&mut tx, &mut source, class, 1));
    assert!(poll(third.as_mut(), &wakers[0]).is_pending());
    std::mem::forget(third);
    rig.run_dry();
    assert_eq!(wakers[0].woken(), 1);
    let mut tx = Producer::from(tx);
    source.publish(&mut tx, class, 1).unwrap();
    drop(tx);
    let (report, ends) = rig.end();
    assert_eq!((report.ledger.total().handled, report.ledger.total().aborted), (3, 1));
    assert_invariants(&report, &[source], &witnesses(ends));
}

#[test]
fn a_stop_ends_every_wait_and_gives_the_value_back() {
    let _dog = watchdog();
    let mut plan = plan().with_producers_max(3);
    let class = plan.class(Class::strict("only").with_capacity(2).block());
    let door = Door::default();
    let behind = door.clone();
    let engine = plan
        .start(Proof::default, move |_| {
            let door = behind.clone();
            acting(move |_, _| {
                door.wait();
                Verdict::Done
            })
        })
        .unwrap();
    let waiting = Arc::new(AtomicU64::new(0));
    let tasks: Vec<_> = (0..3u32)
        .map(|id| {
            let (mut tx, waiting) = (AsyncProducer::from(engine.attach().unwrap()), waiting.clone());
            std::thread::spawn(move || {
                let mut source = Source::new(id);
                loop {
                    let proof = source.next(class, 1, 0);
                    let mut send = Box::pin(tx.send(class, 1u64, proof));
                    let said = match poll(send.as_mut(), &Arc::new(Counted::default())) {
                        Poll::Ready(said) => said,
                        Poll::Pending => {
                            waiting.fetch_add(1, Ordering::SeqCst);
                            block_on(send)
                        }
                    };
                    match said {
                        Ok(outcome) => source.settle(&proof, &Ok(outcome)),
                        Err(SendError { error, value }) => {
                            assert_eq!((error.reason, value), (Rejection::Closed, proof));
                            source.settle(&proof, &Err(error));
                            return source;
                        }
                    }
                }
            })
        })
        .collect();
    while waiting.load(Ordering::SeqCst) < 3 {
        std::thread::yield_now();
    }
    // The shard is stuck in its handler, so the stop alone can end these waits.
    engine.close();
    let sources: Vec<_> = tasks.into_iter().map(|task| task.join().unwrap()).collect();
    door.open();
    let mut report = engine.stop(LONG).unwrap();
    assert!(report.drained);
    let witnesses = report.outputs();
    assert_invariants(&report, &sources, &witnesses);
}

#[test]
fn a_limit_ends_a_wait_without_a_timer() {
    let _dog = watchdog();
    let limit = Duration::from_millis(5);
    let mut plan = plan();
    let limited = plan.class(Class::strict("limited").with_capacity(1).block_for(limit));
    let ever = plan.class(Class::strict("ever").with_capacity(1).block_for(Duration::MAX));
    // Its handler puts every event off, so nothing is ever released while the tasks wait.
    let door = Arc::new(AtomicU64::new(0));
    let behind = door.clone();
    let mut rig = rig(plan, move |_| {
        let door = behind.clone();
        acting(move |_, _| if door.load(Ordering::SeqCst) == 0 { Verdict::Retry } else { Verdict::Done })
    });
    let mut tx = AsyncProducer::from(rig.engine.attach().unwrap());
    let mut other = AsyncProducer::from(rig.engine.attach().unwrap());
    let (mut mine, mut theirs) = (Source::new(0), Source::new(1));
    let [waker, patient]: [Arc<Counted>; 2] = Default::default();
    block_on(publish(&mut tx, &mut mine, limited, 1)).unwrap();
    block_on(publish(&mut other, &mut theirs, ever, 1)).unwrap();
    let mut waits = Box::pin(publish(&mut other, &mut theirs, ever, 1));
    assert!(poll(waits.as_mut(), &patient).is_pending());
    for round in 0..3 {
        let mut late = Box::pin(publish(&mut tx, &mut mine, limited, 1));
        assert!(poll(late.as_mut(), &waker).is_pending());
        rig.time.advance(limit / 2);
        rig.poll();
        // A poll in between does not begin the wait anew.
        assert!(poll(late.as_mut(), &waker).is_pending());
        rig.time.advance(limit / 2 - Duration::from_nanos(1));
        rig.poll();
        assert_eq!(waker.woken(), round, "woken before its time");
        rig.time.advance(Duration::from_nanos(1));
        rig.poll();
        assert_eq!(waker.woken(), round + 1, "the shard did not look at the time");
        let said = poll(late.as_mut(), &waker);
        let Poll::Ready(Err(refusal)) = said else { panic!("{said:?}") };
        assert_eq!(refusal.reason, Rejection::TimedOut);
    }
    // Room that comes together with the end of the limit is room.
    let mut late = Box::pin(publish(&mut tx, &mut mine, limited, 1));
    assert!(poll(late.as_mut(), &waker).is_pending());
    door.store(1, Ordering::SeqCst);
    rig.time.advance(limit);
    rig.run_dry();
    assert_eq!(poll(late.as_mut(), &waker), Poll::Ready(Ok(Outcome::Accepted)));
    assert_eq!(patient.woken(), 1);
    assert_eq!(poll(waits.as_mut(), &patient), Poll::Ready(Ok(Outcome::Accepted)));
    drop((late, waits));
    drop((tx, other));
    let (report, ends) = rig.end();
    assert_eq!(report.ledger.total().rejected_for(Rejection::TimedOut), 3);
    assert_invariants(&report, &[mine, theirs], &witnesses(ends));
}

#[test]
fn a_waker_that_panics_costs_its_own_task_alone() {
    let _dog = watchdog();
    quiet_panics();
    let mut plan = plan();
    let class = plan.class(Class::strict("only").with_capacity(1).block());
    let mut rig = rig(plan, |_| recording());
    let mut tx = AsyncProducer::from(rig.engine.attach().unwrap());
    let mut source = Source::new(0);
    let bomb = Arc::new(Counted { bomb: true, ..Counted::default() });
    block_on(publish(&mut tx, &mut source, class, 1)).unwrap();
    let mut second = Box::pin(publish(&mut tx, &mut source, class, 1));
    assert!(poll(second.as_mut(), &bomb).is_pending());
    rig.run_dry();
    assert_eq!(bomb.woken(), 1);
    assert!(poll(second.as_mut(), &bomb).is_ready());
    drop(second);
    // On the thread that closes, too.
    let mut third = Box::pin(publish(&mut tx, &mut source, class, 1));
    assert!(poll(third.as_mut(), &bomb).is_pending());
    rig.engine.close();
    assert_eq!(bomb.woken(), 2);
    let Poll::Ready(Err(refusal)) = poll(third.as_mut(), &bomb) else { panic!("still waits") };
    assert_eq!(refusal.reason, Rejection::Closed);
    drop(third);
    drop(tx);
    let (report, ends) = rig.end();
    assert_eq!(report.shards[0].waker_panics, 2);
    assert!(report.to_string().contains("2 wakers panicked on shard 0"), "{report}");
    assert!(ends.iter().all(|end| end.quarantine.panics == 0));
    assert_invariants(&report, &[source], &witnesses(ends));
}

#[test]
fn a_writer_that_panics_costs_its_claim_and_not_the_lane() {
    let _dog = watchdog();
    quiet_panics();
    let mut plan = plan();
    let class = plan.class(Class::strict("only").with_capacity(2).with_payload_bytes(64).block());
    let mut rig = rig(plan, |_| recording());
    let mut tx = AsyncProducer::from(rig.engine.attach().unwrap());
    let (mut source, waker) = (Source::new(0), Arc::new(Counted::default()));
    for round in 0..10 {
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            block_on(tx.publish_payload(class, 1u64, &[1; 20], |_| panic!("{PLANNED} in a writer")))
        }));
        assert!(panicked.is_err());
        block_on(publish(&mut tx, &mut source, class, round)).unwrap();
        block_on(publish(&mut tx, &mut source, class, round)).unwrap();
        // The same after a wait; and a future that has ended so is not polled again.
        let mut waits = Box::pin(tx.publish(class, 1u64, |_| panic!("{PLANNED} in a writer")));
        assert!(poll(waits.as_mut(), &waker).is_pending());
        rig.run_dry();
        for _ in 0..2 {
            assert!(catch_unwind(AssertUnwindSafe(|| poll(waits.as_mut(), &waker))).is_err());
            quiet_panics();
        }
        drop(waits);
        assert!(!held(&waker));
    }
    assert_eq!(rig.engine.ledger().total().aborted, 20);
    drop(tx);
    let (report, ends) = rig.end();
    assert_invariants(&report, &[source], &witnesses(ends));
}

/// Room as an event loop asks for it: one that has other things to do meanwhile.
#[test]
fn a_loop_is_woken_when_half_of_its_lane_is_free_and_not_for_each_event() {
    let _dog = watchdog();
    let mut plan = plan().with_burst(1);
    let class = plan.class(Class::strict("only").with_capacity(8).with_payload_bytes(64).block());
    let mut rig = rig(plan, |_| recording());
    let mut tx = rig.engine.attach().unwrap();
    let (mut source, waker) = (Source::new(0), Arc::new(Counted::default()));
    let ask = |tx: &mut Producer<Proof>, bytes: usize| {
        tx.poll_room(class, 1, bytes, &mut Context::from_waker(&Waker::from(waker.clone())))
    };
    for round in 0..10 {
        for _ in 0..8 {
            assert!(ask(&mut tx, 0).is_ready() && !held(&waker));
            source.publish(&mut tx, class, 1).unwrap();
        }
        // Asked as often as one likes: the last waker is kept, and nothing is counted.
        let before = rig.engine.ledger();
        assert!(ask(&mut tx, 0).is_pending() && ask(&mut tx, 0).is_pending() && held(&waker));
        assert_eq!(rig.engine.ledger().class(class), before.class(class));
        for left in (5..8).rev() {
            rig.poll();
            assert_eq!((tx.depth(class, 1), waker.woken()), (left, round), "woken for less than half");
        }
        rig.poll();
        assert_eq!((tx.depth(class, 1), waker.woken()), (4, round + 1));
        assert!(ask(&mut tx, 0).is_ready() && !held(&waker));
        rig.run_dry();
        assert_eq!(waker.woken(), round + 1);
    }
    // Where waiting does not help there is nothing to wait for: the claim says why.
    assert!(ask(&mut tx, 65).is_ready());
    drop(tx);
    let (report, ends) = rig.end();
    assert_eq!(report.ledger.total().aborted, 0);
    assert_invariants(&report, &[source], &witnesses(ends));
}

#[test]
fn a_loop_that_sleeps_for_room_is_always_woken() {
    let _dog = watchdog();
    let mut plan = plan().with_shards(2).with_wait(pelton::park::Wait::Park).with_burst(3);
    let class = plan.class(Class::strict("only").with_capacity(4).block());
    let engine = plan.start(Proof::default, |_| recording()).unwrap();
    let mut tx = engine.attach().unwrap();
    let mut source = Source::new(0);
    for i in 0..40_000 {
        block_on(std::future::poll_fn(|context| tx.poll_room(class, i % 13, 0, context)));
        let proof = source.next(class, i % 13, 0);
        let mut claim = tx.claim(class, i % 13).poll_acquire().expect("there is room");
        *claim = proof;
        claim.publish().unwrap();
        source.accepted(&proof);
    }
    drop(tx);
    let mut report = engine.stop(LONG).unwrap();
    assert!(report.drained);
    let witnesses = report.outputs();
    assert_invariants(&report, &[source], &witnesses);
}

#[test]
fn a_claim_is_awaited_like_everything_else() {
    let _dog = watchdog();
    let mut plan = plan();
    let class = plan.class(Class::strict("only").with_capacity(2).with_payload_bytes(64).block());
    let engine = plan.start(Proof::default, |_| recording()).unwrap();
    let mut tx = AsyncProducer::from(engine.attach().unwrap());
    let mut source = Source::new(0);
    block_on(async {
        for i in 0..2_000 {
            let proof = source.next(class, i % 3, 0);
            let mut claim = tx.claim(class, proof.key).with_payload(30).acquire().await.unwrap();
            claim.payload_mut()[..4].copy_from_slice(b"four");
            *claim = proof;
            if i % 5 != 0 {
                claim.publish_len(4).unwrap();
                source.accepted(&proof);
            }
        }
    });
    // What never waits goes by the producer itself.
    assert_eq!((tx.producer().generation(), tx.producer().id().0), (1, 0));
    drop(tx);
    let mut report = engine.stop(LONG).unwrap();
    assert_eq!(report.ledger.total().aborted, 400);
    let witnesses = report.outputs();
    assert_invariants(&report, &[source], &witnesses);
}

#[test]
fn a_parked_shard_is_woken_by_an_awaited_publish() {
    let _dog = watchdog();
    let mut plan = plan().with_wait(pelton::park::Wait::Park);
    let class = plan.class(Class::strict("only").with_capacity(2).block());
    let engine = plan.start(Proof::default, |_| recording()).unwrap();
    let mut tx = AsyncProducer::from(engine.attach().unwrap());
    let mut source = Source::new(0);
    for round in 0..100 {
        block_on(async {
            for key in 0..7 {
                publish(&mut tx, &mut source, class, key).await.unwrap();
            }
        });
        assert!(engine.drain(LONG));
        if round % 4 == 0 {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    drop(tx);
    let mut report = engine.stop(LONG).unwrap();
    if cfg!(feature = "park") {
        assert!(report.shards[0].parks > 0, "the shard never slept");
    }
    let witnesses = report.outputs();
    assert_invariants(&report, &[source], &witnesses);
}

#[test]
#[cfg(feature = "audit")]
fn awaiting_allocates_nothing_on_either_thread() {
    use pelton::memory::audit::{is_installed, thread_allocations};
    let _dog = watchdog();
    assert!(is_installed());
    let mut plan = plan().with_burst(8);
    let class = plan.class(Class::strict("only").with_capacity(16).with_payload_bytes(1_024).block());
    let engine = plan
        .start(|| 0u64, |_| |_: &mut pelton::Event<'_, u64>, _: &mut pelton::Context<'_, u64>| ())
        .unwrap();
    let mut tx = AsyncProducer::from(engine.attach().unwrap());
    let events = 50_000u64;
    let publishing = async {
        for i in 0..events {
            match i % 3 {
                0 => tx.publish(class, i, |event| *event = i).await.unwrap(),
                1 => tx.publish_payload(class, i, b"some bytes", |event| *event = i).await.unwrap(),
                _ => tx.send(class, i, i).await.unwrap(),
            };
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let allocations = runtime.block_on(async {
        // Its first wait on this thread may lay out what the runtime needs.
        tokio::task::yield_now().await;
        let before = thread_allocations();
        publishing.await;
        thread_allocations() - before
    });
    assert_eq!(allocations, 0, "the publishing thread allocated");
    drop(tx);
    let report = engine.stop(LONG).unwrap();
    assert_closed(&report);
    assert_eq!((report.ledger.total().handled, report.allocations()), (events, Some(0)));
}

#[test]
fn many_tasks_of_a_runtime_publish_each_by_a_producer_of_its_own() {
    let _dog = watchdog();
    const TASKS: u32 = 24;
    let mut plan = plan().with_shards(2).with_burst(5).with_producers_max(TASKS as u16);
    let classes = [
        plan.class(Class::strict("a").with_capacity(2).block()),
        plan.class(Class::weighted("b", 1).with_capacity(4).block()),
    ];
    let engine = plan.start(Proof::default, |_| recording()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(3).build().unwrap();
    let sources = runtime.block_on(async {
        let tasks: Vec<_> = (0..TASKS)
            .map(|id| {
                let mut tx = AsyncProducer::from(engine.attach().unwrap());
                tokio::spawn(async move {
                    let mut source = Source::new(id);
                    for i in 0..1_500u64 {
                        publish(&mut tx, &mut source, classes[(i % 2) as usize], i % 5).await.unwrap();
                        if i % 97 == 0 {
                            // Let it move to another worker.
                            tokio::task::yield_now().await;
                        }
                    }
                    source
                })
            })
            .collect();
        let mut sources = Vec::new();
        for task in tasks {
            sources.push(task.await.unwrap());
        }
        sources
    });
    let mut report = engine.stop(LONG).unwrap();
    assert!(report.drained);
    assert_eq!(report.ledger.total().handled, u64::from(TASKS) * 1_500);
    let witnesses = report.outputs();
    assert_invariants(&report, &sources, &witnesses);
}

#[test]
fn timeouts_and_selects_of_a_runtime_lose_nothing_and_publish_nothing_twice() {
    let _dog = watchdog();
    let mut plan = plan().with_burst(2);
    let class = plan.class(Class::strict("only").with_capacity(2).block());
    let engine = plan
        .start(Proof::default, |_| {
            acting(|_, _| {
                std::thread::sleep(Duration::from_micros(300));
                Verdict::Done
            })
        })
        .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let mut tx = AsyncProducer::from(engine.attach().unwrap());
    let mut source = Source::new(0);
    let mut given_up = 0u64;
    runtime.block_on(async {
        let mut published = 0;
        while published < 400 || given_up < 20 {
            let proof = source.next(class, published % 3, 0);
            let publish = tx.publish(class, proof.key, |event| *event = proof);
            let said = tokio::select! {
                said = publish => Some(said),
                () = tokio::time::sleep(Duration::from_millis(published % 2)) => None,
            };
            match said {
                Some(said) => {
                    source.settle(&proof, &said);
                    published += 1;
                }
                None => given_up += 1,
            }
            if published % 16 == 0 {
                let said =
                    tokio::time::timeout(Duration::from_millis(1), publish_next(&mut tx, &mut source, class));
                given_up += u64::from(said.await.is_err());
            }
        }
    });
    drop(tx);
    let mut report = engine.stop(LONG).unwrap();
    assert!(report.drained && given_up >= 20);
    assert!(report.ledger.total().aborted <= given_up, "more was given up than there were futures");
    let witnesses = report.outputs();
    assert_invariants(&report, &[source], &witnesses);
}

/// Publishes one event of a stream of its own; may be given up.
async fn publish_next(tx: &mut AsyncProducer<Proof>, source: &mut Source, class: ClassId) {
    publish(tx, source, class, 99).await.unwrap();
}

#[test]
#[cfg(target_os = "linux")]
fn a_wait_in_a_forked_child_ends() {
    const MARKER: &str = "PELTON_TEST_ASYNC_FORK";
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
    let class = plan.class(Class::strict("only").with_capacity(2).block());
    let mut rig = rig(plan, |_| recording());
    let mut tx = AsyncProducer::from(rig.engine.attach().unwrap());
    let (mut source, waker) = (Source::new(0), Arc::new(Counted::default()));
    for _ in 0..2 {
        block_on(publish(&mut tx, &mut source, class, 1)).unwrap();
    }
    let mut third = Box::pin(publish(&mut tx, &mut source, class, 1));
    assert!(poll(third.as_mut(), &waker).is_pending());
    let mut third = Some(third);
    in_a_forked_child(|| {
        let mut third = third.take().unwrap();
        let Poll::Ready(Err(refusal)) = poll(third.as_mut(), &waker) else { panic!("the child waits") };
        assert_eq!(refusal.reason, Rejection::Forked);
    });
    let mut third = third.unwrap();
    println!("the child was told");
    // The parent never noticed.
    rig.run_dry();
    assert_eq!((waker.woken(), poll(third.as_mut(), &waker)), (1, Poll::Ready(Ok(Outcome::Accepted))));
    drop(third);
    drop(tx);
    let (report, ends) = rig.end();
    assert_invariants(&report, &[source], &witnesses(ends));
}

#[test]
fn waker_of_a_loop_is_woken_by_a_publish_of_the_same_producer_that_waits() {
    let _dog = watchdog();
    let mut plan = plan();
    let class = plan.class(Class::strict("only").with_capacity(1).block());
    let (entered, door) = (Door::default(), Door::default());
    let (enters, waits) = (entered.clone(), door.clone());
    let engine = plan.start(Proof::default, move |_| {
        let (entered, door) = (enters.clone(), waits.clone());
        acting(move |_, _| {
            entered.open();
            door.wait();
            Verdict::Done
        })
    });
    let engine = engine.unwrap();
    let (mut tx, mut source) = (engine.attach().unwrap(), Source::new(0));
    source.publish(&mut tx, class, 1).unwrap();
    entered.wait();
    // The only slot is taken until the door opens.
    let counted = Arc::new(Counted::default());
    let waker = Waker::from(counted.clone());
    assert!(tx.poll_room(class, 1u64, 0, &mut Context::from_waker(&waker)).is_pending());
    drop(waker);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(100));
            door.open();
        });
        source.publish(&mut tx, class, 1).unwrap();
    });
    assert!(engine.drain(LONG));
    assert!(counted.woken() > 0, "the loop waits forever");
    assert!(!held(&counted));
    drop(tx);
    let mut report = engine.stop(LONG).unwrap();
    let witnesses = report.outputs();
    assert_invariants(&report, &[source], &witnesses);
}

/// Counts its events, each of which waits at a door.
struct Counting {
    entered: Door,
    door: Door,
    handled: u64,
}

impl Handler<Proof> for Counting {
    type Output = u64;
    fn on_event(&mut self, _: &mut Event<'_, Proof>, _: &mut pelton::Context<'_, Proof>) -> Verdict {
        self.entered.open();
        self.door.wait();
        self.handled += 1;
        Verdict::Done
    }
    fn on_stop(self, _: &mut pelton::Context<'_, Proof>) -> u64 {
        self.handled
    }
}

/// An engine of it, the door that it opens at each event, and the door at which it waits.
fn counting(plan: Plan) -> (Engine<Proof>, Door, Door) {
    let (entered, door) = (Door::default(), Door::default());
    let doors = (entered.clone(), door.clone());
    let handler = move |_| Counting { entered: doors.0.clone(), door: doors.1.clone(), handled: 0 };
    (plan.start(Proof::default, handler).unwrap(), entered, door)
}

#[test]
fn awaited_question_is_answered_between_two_bursts_and_ends_with_its_shard() {
    let _dog = watchdog();
    let mut plan = plan();
    let class =
        plan.class(Class::strict("only").with_capacity(4).with_stamp(pelton::class::Stamp::Every).block());
    let (engine, entered, door) = counting(plan);
    let mut tx = engine.attach().unwrap();
    tx.publish(class, 1u64, |_| ()).unwrap();
    entered.wait();
    let waker = Arc::new(Counted::default());
    let ask = || engine.ask_async(ShardId(0), |handler: &mut Counting| handler.handled);
    let (mut first, mut given_up) = (Box::pin(ask()), Box::pin(ask()));
    let mut latency = Box::pin(engine.latency_async());
    assert!(poll(first.as_mut(), &waker).is_pending());
    assert!(poll(given_up.as_mut(), &waker).is_pending());
    assert!(poll(latency.as_mut(), &waker).is_pending());
    drop(given_up);
    door.open();
    assert_eq!(block_on(first), Ok(1));
    assert_eq!(block_on(latency).unwrap()[0].handling_ns.len(), 1);
    let wrong = block_on(
        engine.ask_async(ShardId(0), |_: &mut fn(&mut Event<'_, Proof>, &mut pelton::Context<'_, Proof>)| ()),
    );
    assert!(matches!(wrong, Err(AskError::WrongHandler(_))), "{wrong:?}");
    assert_eq!(
        block_on(engine.ask_async(ShardId(9), |_: &mut Counting| ())),
        Err(AskError::NoShard(ShardId(9)))
    );
    let mut report = engine.stop(LONG).unwrap();
    // The shard is gone: there is no answer, and none to wait for.
    assert_eq!(block_on(ask()), Err(AskError::NoAnswer(ShardId(0))));
    assert_eq!(report.outputs::<u64>(), [1]);
    assert_closed(&report);
}

#[test]
fn waker_of_a_question_that_panics_costs_its_shard_nothing() {
    let _dog = watchdog();
    quiet_panics();
    let mut plan = plan();
    let class = plan.class(Class::strict("only").with_capacity(4).block());
    let (engine, entered, door) = counting(plan);
    let mut tx = engine.attach().unwrap();
    tx.publish(class, 1u64, |_| ()).unwrap();
    entered.wait();
    let bomb = Arc::new(Counted { bomb: true, ..Counted::default() });
    let mut question = Box::pin(engine.ask_async(ShardId(0), |handler: &mut Counting| handler.handled));
    let mut latency = Box::pin(engine.latency_async());
    assert!(poll(question.as_mut(), &bomb).is_pending() && poll(latency.as_mut(), &bomb).is_pending());
    door.open();
    tx.publish(class, 1u64, |_| ()).unwrap();
    let report = engine.stop(LONG).unwrap();
    assert_eq!((report.drained, report.shards[0].stopped, bomb.woken()), (true, true, 2));
    assert_closed(&report);
}

/// A waker whose clone waits until the engine is closed, and whose wake looks into the engine.
struct Reentrant {
    engine: Arc<pelton::Engine<Proof>>,
    woken: AtomicU64,
}

impl Reentrant {
    fn waker(self: &Arc<Self>) -> Waker {
        // SAFETY: the table keeps the contract of `RawWaker`: each pointer is an `Arc` that its clone or drop accounts for.
        unsafe { Waker::from_raw(RawWaker::new(Arc::into_raw(self.clone()).cast(), &REENTRANT)) }
    }
}

static REENTRANT: RawWakerVTable = RawWakerVTable::new(
    |own| {
        // SAFETY: see `Reentrant::waker`.
        let own = unsafe { Arc::from_raw(own.cast::<Reentrant>()) };
        while own.engine.attach().is_ok() {
            std::thread::yield_now();
        }
        // The lanes are closed an instant after the engine is.
        std::thread::sleep(Duration::from_millis(20));
        let copy = Arc::into_raw(own.clone()).cast();
        std::mem::forget(own);
        RawWaker::new(copy, &REENTRANT)
    },
    |own| {
        // SAFETY: see `Reentrant::waker`.
        let own = unsafe { Arc::from_raw(own.cast::<Reentrant>()) };
        own.woken.fetch_add(1, Ordering::SeqCst);
        let _ = own.engine.placements();
    },
    |_| unreachable!("a waker is woken by value"),
    |own| {
        // SAFETY: see `Reentrant::waker`.
        drop(unsafe { Arc::from_raw(own.cast::<Reentrant>()) })
    },
);

#[test]
fn waker_left_while_the_engine_stops_does_not_meet_a_lock_of_the_engine() {
    let _dog = watchdog();
    let mut plan = plan();
    let class = plan.class(Class::strict("only").with_capacity(1).block());
    let (engine, entered, door) = counting(plan);
    let engine = Arc::new(engine);
    let mut tx = engine.attach().unwrap();
    tx.publish(class, 1u64, |_| ()).unwrap();
    entered.wait();
    let reentrant = Arc::new(Reentrant { engine: engine.clone(), woken: AtomicU64::new(0) });
    let report = std::thread::scope(|scope| {
        let waits = scope.spawn(|| {
            let waker = reentrant.waker();
            // The lane is found full, and closed by the time at which the waker has been left.
            tx.poll_room(class, 1u64, 0, &mut Context::from_waker(&waker))
        });
        std::thread::sleep(Duration::from_millis(20));
        let stop = scope.spawn(|| engine.stop(Duration::from_millis(300)).unwrap());
        assert!(waits.join().unwrap().is_ready());
        let report = stop.join().unwrap();
        door.open();
        report
    });
    assert!(!report.shards[0].stopped || report.ledger.is_closed());
    assert_eq!(Arc::strong_count(&reentrant), 1, "the lane has kept the waker");
}
