//! What a handler emits is seen when, and only when, it has said `Done`; a retry or a panic forgets it; a full lane
//! refuses and never waits; and a stop waits for what is still on its way between shards.

use pelton::event::{Failure, ProducerId};
use pelton::{Class, ClassId, Context, Event, Handler, Outcome, Plan, Rejection, Shard, ShardId, Verdict};
use pelton_testkit::*;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

/// The keys of `shards` shards: `keys[n]` belongs to shard `n`.
fn keys(rig_like: &pelton::Producer<Proof>, shards: u16) -> Vec<u64> {
    let key = |shard| (0..).find(|key: &u64| rig_like.shard_of(*key) == ShardId(shard)).unwrap();
    (0..shards).map(key).collect()
}

/// The second shard, at which the handler of the first may look.
type Peer = Rc<RefCell<Option<Shard<Proof, Recorder>>>>;

/// A recording handler whose type has a name.
#[derive(Default)]
struct Recorder(Witness);

impl Handler<Proof> for Recorder {
    type Output = Witness;
    fn on_event(&mut self, event: &mut Event<'_, Proof>, _: &mut Context<'_, Proof>) -> Verdict {
        self.0.begin(event);
        self.0.end(Verdict::Done);
        Verdict::Done
    }
    fn on_stop(self, _: &mut Context<'_, Proof>) -> Witness {
        self.0
    }
}

/// What the first shard's handler does after it has emitted, told by the event's order.
mod order {
    pub const DONE: u64 = 0;
    pub const RETRY_TWICE: u64 = 1;
    pub const PANIC: u64 = 2;
    pub const RETRY_FOR_EVER: u64 = 3;
}

/// Emits three events to the second shard for each event, looks whether any of them shows before its time, and then
/// does what the event orders.
fn emits_are_seen(orders: &[u64], handled: u64) -> pelton::ledger::Counts {
    let (clock, time) = pelton::clock::Clock::virtual_time();
    let tick = Duration::from_millis(1);
    let mut plan = plan().with_shards(2).with_mesh(true).with_clock(clock).with_retry_limit(4 * tick);
    let class = plan.class(Class::strict("only").with_capacity(64).reject());
    let (engine, mut seats) = plan.host_driven(Proof::default).unwrap();
    let peer: Peer = Rc::default();
    let emitted = Rc::new(RefCell::new(Source::new(9)));
    let (book, looked_at) = (emitted.clone(), peer.clone());
    let key = Rc::new(RefCell::new(0));
    let key_of_peer = key.clone();
    let mut tries = 0;
    let first = acting(move |event: &mut Event<'_, Proof>, context: &mut Context<'_, Proof>| {
        let key = *key_of_peer.borrow();
        let mut staged = book.borrow().clone();
        for _ in 0..3 {
            let proof = staged.next(class, key, 0);
            let said = context.emit(class, key, |slot| *slot = proof);
            assert_eq!(said, Ok(Outcome::Accepted));
            staged.accepted(&proof);
        }
        let mut peer = looked_at.borrow_mut();
        assert_eq!(peer.as_mut().unwrap().poll(), 0, "an emit was seen before its handler said Done");
        tries += 1;
        let verdict = match event.order {
            order::PANIC => panic!("{PLANNED} after three emits"),
            order::RETRY_FOR_EVER => Verdict::Retry,
            order::RETRY_TWICE if tries % 3 != 0 => Verdict::Retry,
            _ => Verdict::Done,
        };
        if verdict == Verdict::Done {
            *book.borrow_mut() = staged;
        }
        verdict
    });
    let second = seats.pop().unwrap();
    let mut shard = seats.pop().unwrap().build(first).unwrap();
    *peer.borrow_mut() = Some(second.build(Recorder::default()).unwrap());
    let (mut tx, mut source) = (engine.attach().unwrap(), Source::new(0));
    let keys = keys(&tx, 2);
    *key.borrow_mut() = keys[1];
    for order in orders {
        source.publish_order(&mut tx, class, keys[0], *order).unwrap();
        while engine.ledger().shard(ShardId(0)).in_flight > 0 {
            shard.poll();
            time.advance(tick);
        }
        while peer.borrow_mut().as_mut().unwrap().poll() > 0 {}
    }
    engine.close();
    assert!(!engine.drain(Duration::ZERO), "no handler has said yet that it holds nothing back");
    assert_eq!((shard.poll(), peer.borrow_mut().as_mut().unwrap().poll()), (0, 0));
    assert!(engine.drain(Duration::ZERO));
    let report = engine.stop(Duration::ZERO).unwrap();
    let mesh = report.ledger.producer(ProducerId(2));
    assert_eq!((mesh.accepted, mesh.handled), (handled, handled));
    let witnesses =
        [shard.finish().output, peer.borrow_mut().take().unwrap().finish().output].map(Option::unwrap);
    let emitted = emitted.borrow().clone();
    assert_invariants(&report, &[source, emitted], &witnesses);
    report.ledger.total()
}

#[test]
fn emits_are_seen_when_the_handler_says_done_and_not_before() {
    let _dog = watchdog();
    let total = emits_are_seen(&[order::DONE; 10], 30);
    assert_eq!((total.handled, total.aborted), (40, 0));
}

#[test]
fn a_retry_forgets_what_was_emitted_and_the_event_comes_again() {
    let _dog = watchdog();
    let total = emits_are_seen(&[order::RETRY_TWICE; 10], 30);
    assert_eq!((total.handled, total.retried, total.aborted), (40, 20, 60));
}

#[test]
fn a_panic_forgets_what_was_emitted() {
    let _dog = watchdog();
    quiet_panics();
    let total = emits_are_seen(&[order::PANIC, order::DONE, order::PANIC], 3);
    assert_eq!((total.handled, total.failed_for(Failure::Panic), total.aborted), (4, 2, 6));
}

#[test]
fn event_that_is_retried_for_too_long_fails() {
    let _dog = watchdog();
    let total = emits_are_seen(&[order::RETRY_FOR_EVER, order::DONE], 3);
    assert_eq!((total.handled, total.failed_for(Failure::Retry), total.retried), (4, 1, 5));
}

#[test]
fn a_shard_may_emit_to_itself_and_its_full_lane_refuses() {
    let _dog = watchdog();
    let mut plan = plan().with_mesh(true);
    let classes = [
        plan.class(Class::strict("input").with_capacity(8).reject()),
        plan.class(Class::strict("block").with_capacity(2).with_payload_bytes(64).block()),
        plan.class(Class::strict("newest").with_capacity(2).drop_newest()),
    ];
    let book = Rc::new(RefCell::new(Source::new(9)));
    let emitted = book.clone();
    let mut rig = rig(plan, move |_| {
        let book = book.clone();
        acting(move |event, context| {
            if event.class() == classes[0] {
                let mut book = book.borrow_mut();
                let proof = book.next(classes[2], 6, 0);
                let large = context.emit_bytes(classes[2], 6u64, b"no payloads here", |_| unreachable!());
                assert_eq!(large.as_ref().unwrap_err().reason, Rejection::TooLarge);
                book.settle(&proof, &large);
                for class in [classes[1], classes[2]] {
                    for n in 0..3u64 {
                        let proof = book.next(class, 5, 0);
                        let said = if n == 0 && class == classes[1] {
                            context.emit_bytes(class, 5u64, b"bytes", |slot| *slot = proof)
                        } else {
                            context.emit(class, 5u64, |slot| {
                                assert!(n < 2, "the closure of a refused emit was called");
                                *slot = proof
                            })
                        };
                        match said {
                            Ok(Outcome::Accepted) => assert!(n < 2),
                            Ok(Outcome::Dropped) => assert!(n == 2 && class == classes[2]),
                            // It would block, and a handler never waits.
                            Err(refusal) => assert!(n == 2 && refusal.reason == Rejection::SlotsFull),
                        }
                        book.settle(&proof, &said);
                    }
                }
            } else if event.class() == classes[1] && event.sequence() % 2 == 0 {
                assert_eq!(event.payload(), b"bytes");
            }
            Verdict::Done
        })
    });
    let (mut tx, mut source) = (rig.engine.attach().unwrap(), Source::new(0));
    for _ in 0..10 {
        source.publish(&mut tx, classes[0], 1).unwrap();
        rig.run_dry();
    }
    let (report, ends) = rig.end();
    let (blocks, newest) = (report.ledger.class(classes[1]), report.ledger.class(classes[2]));
    assert_eq!((blocks.handled, blocks.rejected_for(Rejection::SlotsFull)), (20, 10));
    assert_eq!((newest.handled, newest.rejected_total()), (20, 10 + 10));
    let sources = [source, emitted.borrow().clone()];
    assert_eq!(ends[0].quarantine.panics, 0, "{:?}", ends[0].quarantine.kept[0].message());
    assert_invariants(&report, &sources, &witnesses(ends));
}

#[test]
fn an_emit_without_a_mesh_or_to_an_unknown_shard_is_no_route() {
    let _dog = watchdog();
    for mesh in [false, true] {
        let mut plan = plan().with_mesh(mesh).with_shards(2);
        let class = plan.class(Class::strict("only").with_capacity(8).reject());
        let book = Rc::new(RefCell::new(Source::new(9)));
        let emitted = book.clone();
        let mut rig = rig(plan, move |_| {
            let book = book.clone();
            acting(move |_, context| {
                let mut book = book.borrow_mut();
                let to = if mesh { 2 } else { 0 };
                let proof = book.next(class, 5, 0);
                let said =
                    context.emit_to(ShardId(to), class, 5u64, &[], |_| unreachable!("there is no such lane"));
                assert_eq!(said.as_ref().unwrap_err().reason, Rejection::NoRoute);
                book.settle(&proof, &said);
                Verdict::Done
            })
        });
        let (mut tx, mut source) = (rig.engine.attach().unwrap(), Source::new(0));
        for key in 0..8 {
            source.publish(&mut tx, class, key).unwrap();
        }
        rig.run_dry();
        let (report, ends) = rig.end();
        let total = report.ledger.total();
        assert_eq!((total.handled, total.rejected_for(Rejection::NoRoute)), (8, 8));
        assert_eq!(report.ledger.unrouted[0].offered, 8);
        let sources = [source, emitted.borrow().clone()];
        assert_invariants(&report, &sources, &witnesses(ends));
    }
}

/// Passes each token on to the shard after it, until it has gone far enough; `order` counts the hops that are left.
struct Passer {
    class: ClassId,
    keys: Vec<u64>,
    witness: Witness,
    book: Source,
}

impl Handler<Proof> for Passer {
    type Output = (Witness, Source);

    fn on_event(&mut self, event: &mut Event<'_, Proof>, context: &mut Context<'_, Proof>) -> Verdict {
        self.witness.begin(event);
        let mut verdict = Verdict::Done;
        if event.order > 0 {
            let next = (context.shard().index() + 1) % self.keys.len();
            let proof = self.book.next(self.class, self.keys[next], event.order - 1);
            match context.emit(self.class, self.keys[next], |slot| *slot = proof) {
                Ok(_) => self.book.accepted(&proof),
                // It is offered again, so this refusal does not count.
                Err(refusal) => {
                    assert_eq!(refusal.reason, Rejection::SlotsFull);
                    verdict = Verdict::Retry;
                }
            }
        }
        self.witness.end(verdict);
        verdict
    }

    fn on_stop(mut self, context: &mut Context<'_, Proof>) -> Self::Output {
        // The lanes are closed: what is emitted now is refused, and counted.
        let proof = self.book.next(self.class, self.keys[0], 0);
        let said = context.emit(self.class, self.keys[0], |_| unreachable!("the lane is closed"));
        assert_eq!(said.as_ref().unwrap_err().reason, Rejection::Closed);
        self.book.settle(&proof, &said);
        (self.witness, self.book)
    }
}

fn ring_of_shards(plan: Plan, shards: u16, capacity: u32, tokens: u64, hops: u64) {
    let mut plan = plan.with_shards(shards).with_mesh(true).with_producers_max(1);
    let class = plan.class(Class::strict("token").with_capacity(capacity).block());
    // A plan of the same number of shards and partitions routes alike.
    let keys = {
        let mut like = pelton_testkit::plan().with_shards(shards);
        like.class(Class::strict("x").with_capacity(1));
        let rig = rig(like, |_| recording());
        keys(&rig.engine.attach().unwrap(), shards)
    };
    let shared = keys.clone();
    let engine = plan.start(Proof::default, move |shard| Passer {
        class,
        keys: shared.clone(),
        witness: Witness::default(),
        book: Source::new(100 + u32::from(shard.0)),
    });
    let engine = engine.unwrap();
    let (mut tx, mut source) = (engine.attach().unwrap(), Source::new(0));
    for token in 0..tokens {
        let key = keys[token as usize % keys.len()];
        source.publish_order(&mut tx, class, key, hops).unwrap();
    }
    // The stop closes the producers' lanes at once, and then waits for every token to come to its end.
    let mut report = engine.stop(Duration::from_secs(50)).unwrap();
    assert!(report.drained, "{report}");
    assert_eq!(report.ledger.total().handled, tokens * (hops + 1));
    let (witnesses, books): (Vec<_>, Vec<_>) = report.outputs::<(Witness, Source)>().into_iter().unzip();
    let sources: Vec<_> = books.into_iter().chain([source]).collect();
    assert_invariants(&report, &sources, &witnesses);
}

#[test]
fn a_ring_of_shards_passes_every_token_and_a_stop_waits_for_them() {
    let _dog = watchdog();
    ring_of_shards(plan(), 3, 64, 20, 300);
    ring_of_shards(plan(), 1, 64, 20, 300);
}

#[test]
fn lanes_of_a_single_slot_between_shards_do_not_lock_up() {
    let _dog = watchdog();
    // Fewer tokens than lanes in the circle, so that there is always room somewhere.
    ring_of_shards(plan(), 3, 1, 2, 200);
}

#[test]
fn drain_waits_for_emitted_events() {
    let _dog = watchdog();
    let mut plan = plan().with_shards(2).with_mesh(true);
    let class = plan.class(Class::strict("only").with_capacity(64).block());
    let engine = plan
        .start(
            || 0u64,
            move |_| {
                move |event: &mut Event<'_, u64>, context: &mut Context<'_, u64>| {
                    let hops = **event;
                    if hops == 0 {
                        return Verdict::Done;
                    }
                    match context.emit(class, event.key().0 + 1, |slot| *slot = hops - 1) {
                        Ok(_) => Verdict::Done,
                        Err(_) => Verdict::Retry,
                    }
                }
            },
        )
        .unwrap();
    let mut tx = engine.attach().unwrap();
    for round in 1..=20 {
        for key in 0..10u64 {
            tx.publish(class, key << 32, |slot| *slot = 50).unwrap();
        }
        assert!(engine.drain(Duration::from_secs(50)));
        let total = engine.ledger().total();
        assert_eq!((total.handled, total.accepted), (round * 510, round * 510));
    }
    drop(tx);
    let report = engine.stop(Duration::from_secs(50)).unwrap();
    assert_closed(&report);
}

/// Emits in every method that is given no event.
struct Chatter {
    class: ClassId,
    emitted: u64,
    seen: u64,
}

impl Chatter {
    fn emit(&mut self, context: &mut Context<'_, u64>, limit: u64) {
        if self.emitted < limit && context.emit(self.class, 1u64, |slot| *slot = 1).is_ok() {
            self.emitted += 1;
        }
    }
}

impl Handler<u64> for Chatter {
    type Output = (u64, u64);
    fn on_event(&mut self, _: &mut Event<'_, u64>, _: &mut Context<'_, u64>) -> Verdict {
        self.seen += 1;
        Verdict::Done
    }
    fn on_start(&mut self, context: &mut Context<'_, u64>) {
        self.emit(context, 1);
    }
    fn on_batch_end(&mut self, context: &mut Context<'_, u64>) {
        self.emit(context, 3);
    }
    fn on_idle(&mut self, context: &mut Context<'_, u64>) {
        self.emit(context, 5);
    }
    fn on_stop(self, _: &mut Context<'_, u64>) -> Self::Output {
        (self.emitted, self.seen)
    }
}

#[test]
fn every_method_of_a_handler_may_emit() {
    let _dog = watchdog();
    let mut plan = plan().with_mesh(true);
    let class = plan.class(Class::strict("only").with_capacity(8).reject());
    let (engine, mut seats) = plan.host_driven(|| 0u64).unwrap();
    let mut shard = seats.pop().unwrap().build(Chatter { class, emitted: 0, seen: 0 }).unwrap();
    for _ in 0..20 {
        shard.poll();
    }
    assert!(engine.drain(Duration::ZERO));
    let report = engine.stop(Duration::ZERO).unwrap();
    assert_closed(&report);
    assert_eq!(shard.finish().output, Some((5, 5)));
    assert_eq!(report.ledger.total().handled, 5);
}

/// Passes what it gets from its producer on to the second shard, and retries what that has no room for.
fn forwarding(
    class: ClassId,
    key: u64,
    book: Rc<RefCell<Source>>,
) -> Acting<impl FnMut(&mut Event<'_, Proof>, &mut Context<'_, Proof>) -> Verdict + 'static> {
    acting(move |event, context| {
        if event.order == 0 {
            return Verdict::Done;
        }
        let proof = book.borrow().next(class, key, 0);
        match context.emit(class, key, |slot| *slot = proof) {
            Ok(_) => {
                book.borrow_mut().accepted(&proof);
                Verdict::Done
            }
            Err(_) => Verdict::Retry,
        }
    })
}

#[test]
fn event_that_finds_a_lane_of_the_mesh_full_waits_for_its_room() {
    let _dog = watchdog();
    let mut plan = plan().with_shards(2).with_mesh(true);
    let class = plan.class(Class::strict("only").with_capacity(4).block());
    let other = plan.class(Class::strict("other").with_capacity(16).block());
    let keys = {
        let mut like = pelton_testkit::plan().with_shards(2);
        like.class(Class::strict("x").with_capacity(1));
        let rig = rig(like, |_| recording());
        keys(&rig.engine.attach().unwrap(), 2)
    };
    let book = Rc::new(RefCell::new(Source::new(9)));
    let mut rig = rig(plan, |_| forwarding(class, keys[1], book.clone()));
    let (mut tx, mut source) = (rig.engine.attach().unwrap(), Source::new(0));
    // Four fill the lane to the second shard; the fifth is refused there. One of another class is not held up by it.
    for _ in 0..4 {
        source.publish_order(&mut tx, class, keys[0], 1).unwrap();
    }
    assert_eq!(rig.shards[0].poll(), 4);
    source.publish_order(&mut tx, class, keys[0], 1).unwrap();
    for _ in 0..10_000 {
        assert_eq!(rig.shards[0].poll(), 0);
    }
    source.publish_order(&mut tx, other, keys[0], 0).unwrap();
    assert_eq!(rig.shards[0].poll(), 1);
    let total = rig.engine.ledger().total();
    assert_eq!((total.retried, total.rejected_total(), total.failed_total()), (1, 0, 0), "{total:?}");
    // With room it goes on, in its place.
    assert_eq!(rig.shards[1].poll(), 4);
    assert_eq!(rig.shards[0].poll(), 1);
    assert_eq!(rig.shards[1].poll(), 1);
    let (report, ends) = rig.end();
    let total = report.ledger.total();
    assert_eq!((total.handled, total.offered, total.retried), (11, 11, 1), "{total:?}");
    let sources = [source, book.borrow().clone()];
    assert_invariants(&report, &sources, &witnesses(ends));
}

#[test]
fn event_that_waits_for_a_full_lane_fails_when_its_retry_limit_is_over() {
    let _dog = watchdog();
    let mut plan = plan().with_shards(2).with_mesh(true).with_retry_limit(Duration::from_millis(5));
    let class = plan.class(Class::strict("only").with_capacity(1).block());
    let keys = {
        let mut like = pelton_testkit::plan().with_shards(2);
        like.class(Class::strict("x").with_capacity(1));
        let rig = rig(like, |_| recording());
        keys(&rig.engine.attach().unwrap(), 2)
    };
    let book = Rc::new(RefCell::new(Source::new(9)));
    let mut rig = rig(plan, |_| forwarding(class, keys[1], book.clone()));
    let (mut tx, mut source) = (rig.engine.attach().unwrap(), Source::new(0));
    for _ in 0..2 {
        source.publish_order(&mut tx, class, keys[0], 1).unwrap();
        rig.shards[0].poll();
    }
    rig.time.advance(Duration::from_millis(5) - Duration::from_nanos(1));
    assert_eq!((rig.shards[0].poll(), rig.engine.ledger().total().failed_total()), (0, 0));
    rig.time.advance(Duration::from_nanos(1));
    assert_eq!((rig.shards[0].poll(), rig.engine.ledger().total().failed_for(Failure::Retry)), (1, 1));
    let (report, ends) = rig.end();
    let total = report.ledger.total();
    assert_eq!((total.retried, total.rejected_total()), (2, 0), "{total:?}");
    let sources = [source, book.borrow().clone()];
    assert_invariants(&report, &sources, &witnesses(ends));
}

/// The second shard rests for far longer than any number of attempts would take: nothing is lost, nothing is refused.
#[test]
fn slow_stage_of_a_class_that_blocks_loses_no_event() {
    let _dog = watchdog();
    const EVENTS: u64 = 2_000;
    let mut plan = plan().with_shards(2).with_mesh(true);
    let class = plan.class(Class::strict("only").with_capacity(16).block());
    let engine = plan
        .start(
            || 0u64,
            move |shard| {
                let mut handled = 0u64;
                move |event: &mut Event<'_, u64>, context: &mut Context<'_, u64>| {
                    handled += 1;
                    if shard == ShardId(1) {
                        if handled == 100 {
                            std::thread::sleep(Duration::from_millis(300));
                        }
                        return Verdict::Done;
                    }
                    let key = event.key();
                    match context.emit_to(ShardId(1), class, key, &[], |slot| *slot = 1) {
                        Ok(_) => Verdict::Done,
                        Err(_) => Verdict::Retry,
                    }
                }
            },
        )
        .unwrap();
    let mut tx = engine.attach().unwrap();
    for _ in 0..EVENTS {
        tx.publish_to(ShardId(0), class, 1u64, |_| ()).unwrap();
    }
    let report = engine.stop(Duration::from_secs(50)).unwrap();
    assert!(report.drained);
    let total = report.ledger.total();
    assert_eq!((total.handled, total.offered), (2 * EVENTS, 2 * EVENTS), "{total:?}");
    assert_eq!((total.failed_total(), total.rejected_total()), (0, 0), "{total:?}");
    assert_closed(&report);
}
