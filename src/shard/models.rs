//! loom models of a shard: it starts when its engine is complete, and sees an event whether the event's set is awake,
//! falls asleep just then, or dozes.

use super::handler::{Context, Event, Handler};
use super::lanes::Lanes;
use super::mailbox::{Inbox, Mailbox};
use super::nap::Nap;
use super::parts::{Command, Parts};
use super::poll::Shard;
use super::schedule::Schedule;
use crate::class::{Class, Stamp};
use crate::clock::Clock;
use crate::event::{ProducerId, ShardId, Verdict};
use crate::lane::{LaneProducer, lane};
use crate::latency::Recorder;
use crate::memory::scratch::Scratch;
use crate::producer::{Gate, Registry};
use crate::route::Routes;
use crate::sync::{Arc, yield_now};
use crate::wait::{Bell, bit};
use loom::thread;
use std::time::Duration;

#[test]
fn an_event_of_a_set_that_falls_asleep_is_seen() {
    loom::model(|| {
        let class = Class::strict("a").capacity(2).stamp(Stamp::Never);
        let (mut tx, rx) = lane(&class, || 0u64).unwrap();
        let door = tx.door().clone();
        let bell = door.bell().clone();
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
            if bell.take(bit::LANES) != 0 {
                lanes.wake();
            } else if let Some(nap) = Nap::announce(&lanes, &bell) {
                nap.wait(Duration::MAX);
            }
        }
        let tx = producer.join().unwrap();
        let (lane, _) = lanes.at(0, 0);
        assert_eq!(lane.poll(2, |event| assert_eq!(**event, 1)), 1);
        assert!(lane.counts().is_closed());
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
        self.emitted = Some(context.emit(crate::ClassId(0), 1, |event| *event = 1).is_ok());
    }
    fn on_stop(self, _: &mut Context<'_, u64>) {}
}

/// A shard of an engine that is not complete, without lanes of its own, and what the control plane has of it.
fn shard() -> (Shard<u64, Source>, Arc<Gate<u64>>, Arc<Mailbox<u64>>) {
    let bell = Arc::new(Bell::new());
    let gate = Arc::new(Gate::new(Routes::new(2, 1), Registry::new(0), Box::new([bell.clone()]), 1));
    let mailbox = Arc::new(Mailbox::default());
    let parts = Parts {
        id: ShardId(0),
        mesh_id: ProducerId(0),
        gate: gate.clone(),
        bell,
        inbox: Inbox::new(mailbox.clone()),
        clock: Clock::virtual_time().0,
        scratch: Scratch::new(0),
        rules: Vec::new(),
        lanes: Lanes::new(vec![Vec::new()], Vec::new()),
        retries_max: 0,
        stop_on_panic: false,
        recorders: vec![Recorder::new()],
    };
    let classes = [Class::strict("a").capacity(1)];
    (Shard::new(parts, Schedule::new(&classes, 1, 0), Source::default()), gate, mailbox)
}

/// The writing ends of a mesh whose reading ends nobody needs here.
fn mesh() -> Box<[LaneProducer<u64>]> {
    let class = Class::strict("a").capacity(1).stamp(Stamp::Never);
    let (tx, rx) = lane(&class, || 0u64).unwrap();
    // Open, but read by nobody: a lane that is closed would refuse what is emitted.
    std::mem::forget(rx);
    Box::new([tx])
}

#[test]
fn a_shard_starts_when_its_engine_is_complete_and_has_its_mesh_then() {
    loom::model(|| {
        let (mut shard, gate, mailbox) = shard();
        let mesh = mesh();
        let last = thread::spawn(move || {
            mailbox.send(Command::Mesh(mesh), &gate.bells[0]);
            gate.complete();
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
