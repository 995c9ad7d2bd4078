//! loom models of a shard: it starts when its engine is complete, and sees an event whether the event's set is awake,
//! falls asleep just then, or dozes.

use super::handler::{Context, Event, Handler};
use super::lanes::Lanes;
use super::mailbox::{Command, Inbox, Mailbox};
use super::park_token::ParkToken;
use super::parts::ShardParts;
use super::poll::Shard;
use super::schedule::Schedule;
use crate::class::{Class, ClassId, Stamp};
use crate::clock::Clock;
use crate::event::{ProducerId, ShardId, Verdict};
use crate::lane::{LaneConsumer, LaneId, LaneProducer, LaneSpec, lane, shape_of};
use crate::latency::Recorder;
use crate::memory::region::Builder;
use crate::memory::scratch::Scratch;
use crate::park::{Doorbell, ShardWaker, bit, fence_sleepers};
use crate::producer::{EngineShared, Registry};
use crate::ring::event_layout;
use crate::route::Routes;
use crate::sync::{Arc, barrier, yield_now};
use loom::thread;
use std::time::Duration;

#[test]
fn an_event_of_a_set_that_falls_asleep_is_seen() {
    loom::model(|| {
        let class = Class::strict("a").with_capacity(2).with_stamp(Stamp::Never);
        let (mut tx, rx) = lane(&class, || 0u64).unwrap();
        let door = tx.door().clone();
        let waker = door.waker().clone();
        let mut lanes = Lanes::new(vec![vec![rx]], vec![door]);
        // The set of a lane that stands alone is awake.
        lanes.wake();
        assert_eq!(lanes.awake(), 1);
        let producer = thread::spawn(move || {
            tx.publish(1, |event| *event = 1).unwrap();
            tx
        });
        // Two polls that find nothing: the first look forgets that the set has just woken, the second lets it doze.
        lanes.after_poll();
        lanes.after_poll();
        while !lanes.is_ready(0) {
            if waker.take(bit::LANES) != 0 {
                lanes.wake();
            } else if let Some(token) = ParkToken::announce(&lanes, &waker) {
                token.wait(Duration::MAX);
            }
        }
        let tx = producer.join().unwrap();
        let (lane, _) = lanes.at(0, 0);
        assert_eq!(lane.poll(2, |event| assert_eq!(**event, 1)), 1);
        assert!(lane.counts().is_closed());
        drop(tx);
    });
}

/// A lane of a set of its own, with a doorbell that raises a shard's waker.
fn set_of(waker: &Arc<ShardWaker>, set: u16) -> (LaneProducer<u64>, LaneConsumer<u64>, Arc<Doorbell>) {
    let class = Class::strict("a").with_capacity(1).with_stamp(Stamp::Never);
    let (shape, clock) = (shape_of(&class), Clock::virtual_time().0);
    let mut region = Builder::new(shape.slots_need(event_layout::<u64>())).unwrap();
    let id = LaneId { producer: ProducerId(set), shard: ShardId(0), class: ClassId(0) };
    let door = Arc::new(Doorbell::new(waker.clone()));
    let spec = LaneSpec { id, class: &class, clock: &clock, door: &door };
    let (tx, rx) = spec.build(shape, &mut region, || 0).unwrap();
    (tx, rx, door)
}

/// Polls as a shard does until each of its sets has given an event. `token` ends the sleep.
fn serve(lanes: &mut Lanes<u64>, waker: &ShardWaker, sets: u64, mut token: impl FnMut(ParkToken<'_, u64>)) {
    let mut seen = 0;
    while seen < sets {
        if waker.take(bit::LANES) != 0 {
            lanes.wake();
        }
        let before = seen;
        for place in 0..lanes.awake() {
            let (lane, busy) = lanes.at(0, place);
            let served = lane.poll(1, |event| assert_eq!(**event, 1));
            *busy |= served > 0;
            seen += served;
        }
        lanes.after_poll();
        if seen == before {
            match ParkToken::announce(lanes, waker) {
                Some(announced) => token(announced),
                None => yield_now(),
            }
        }
    }
}

fn publish(mut tx: LaneProducer<u64>) -> thread::JoinHandle<LaneProducer<u64>> {
    thread::spawn(move || {
        tx.publish(1, |event| *event = 1).unwrap();
        tx
    })
}

fn model_with(preemptions: usize, body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(body);
}

#[test]
fn events_of_two_sets_are_seen_however_one_wakes_beside_the_other() {
    model_with(2, || {
        let waker = Arc::new(ShardWaker::new());
        let (first, second) = (set_of(&waker, 0), set_of(&waker, 1));
        // The first set is awake, and may be let doze while the second one rings.
        first.2.clear();
        let mut lanes = Lanes::new(vec![vec![first.1, second.1]], vec![first.2, second.2]);
        lanes.wake();
        let producers = [publish(first.0), publish(second.0)];
        serve(&mut lanes, &waker, 2, |token| _ = token.wait(Duration::MAX));
        let ends = producers.map(|producer| producer.join().unwrap());
        assert!(lanes.all().all(|lane| lane.counts().is_closed()));
        drop(ends);
    });
}

#[test]
fn an_event_that_rings_for_a_nap_which_is_dropped_is_seen() {
    model_with(3, || {
        let waker = Arc::new(ShardWaker::new());
        let (tx, rx, door) = set_of(&waker, 0);
        door.clear();
        let mut lanes = Lanes::new(vec![vec![rx]], vec![door]);
        lanes.wake();
        let producer = publish(tx);
        let mut sleeps = 0;
        serve(&mut lanes, &waker, 1, |token| {
            sleeps += 1;
            match sleeps {
                1 => drop(token),
                _ => _ = token.wait(Duration::MAX),
            }
        });
        let tx = producer.join().unwrap();
        assert!(lanes.all().all(|lane| lane.counts().is_closed()));
        drop(tx);
    });
}

/// Another shard has the turn at the barrier now and then: then neither a set dozes nor does the shard sleep.
#[test]
fn an_event_is_seen_although_another_shard_has_the_barrier() {
    model_with(2, || {
        barrier::choose(barrier::TURNS);
        let waker = Arc::new(ShardWaker::new());
        let (tx, rx, door) = set_of(&waker, 0);
        door.clear();
        let mut lanes = Lanes::new(vec![vec![rx]], vec![door]);
        lanes.wake();
        let producer = publish(tx);
        let other = thread::spawn(fence_sleepers);
        // Two polls that find nothing: the first look forgets that the set has just woken, the second lets it doze.
        lanes.after_poll();
        lanes.after_poll();
        serve(&mut lanes, &waker, 1, |token| _ = token.wait(Duration::MAX));
        let _ = other.join().unwrap();
        let tx = producer.join().unwrap();
        assert!(lanes.all().all(|lane| lane.counts().is_closed()));
        drop(tx);
    });
}

/// Emits from its start, as a source does, and remembers whether it could.
#[derive(Default)]
struct Source {
    emitted: Option<bool>,
}

impl Handler<u64> for Source {
    type Output = ();
    fn on_event(&mut self, _: &mut Event<'_, u64>, _: &mut Context<'_, u64>) -> Verdict {
        Verdict::Done
    }
    fn on_start(&mut self, context: &mut Context<'_, u64>) {
        self.emitted = Some(context.emit(ClassId(0), 1, |event| *event = 1).is_ok());
    }
    fn on_stop(self, _: &mut Context<'_, u64>) {}
}

/// A shard of an engine that is not complete, without lanes of its own, and what the control plane has of it.
fn shard() -> (Shard<u64, Source>, Arc<EngineShared<u64>>, Arc<Mailbox<u64>>) {
    let waker = Arc::new(ShardWaker::new());
    let shared =
        Arc::new(EngineShared::new(Routes::new(2, 1), Registry::new(0), Box::new([waker.clone()]), 1));
    let mailbox = Arc::new(Mailbox::default());
    let parts = ShardParts {
        id: ShardId(0),
        mesh_id: ProducerId(0),
        shared: shared.clone(),
        waker,
        inbox: Inbox::new(mailbox.clone()),
        clock: Clock::virtual_time().0,
        scratch: Scratch::new(0),
        rules: Vec::new(),
        lanes: Lanes::new(vec![Vec::new()], Vec::new()),
        retry_limit: 0,
        stop_on_panic: false,
        recorders: vec![Recorder::new()],
    };
    let classes = [Class::strict("a").with_capacity(1)];
    (Shard::new(parts, Schedule::new(&classes, 1, 0), Source::default()), shared, mailbox)
}

/// The writing ends of a mesh whose reading ends nobody needs here.
fn mesh() -> Box<[LaneProducer<u64>]> {
    let class = Class::strict("a").with_capacity(1).with_stamp(Stamp::Never);
    let (tx, rx) = lane(&class, || 0u64).unwrap();
    // Open, but read by nobody: a lane that is closed would refuse what is emitted.
    std::mem::forget(rx);
    Box::new([tx])
}

#[test]
fn a_shard_starts_when_its_engine_is_complete_and_has_its_mesh_then() {
    loom::model(|| {
        let (mut shard, shared, mailbox) = shard();
        let mesh = mesh();
        let last = thread::spawn(move || {
            mailbox.send(Command::Mesh(mesh), &shared.wakers[0]);
            shared.complete();
        });
        while shard.handler().emitted.is_none() {
            shard.poll();
            // A start that is missed is a sleep without an end.
            if shard.handler().emitted.is_none() && !shard.park(Duration::MAX) {
                yield_now();
            }
        }
        assert_eq!(shard.handler().emitted, Some(true), "the handler started without its mesh");
        last.join().unwrap();
    });
}
