//! loom models of the control plane beside running shards.

use super::lane_view::{LaneView, are_empty};
use super::response::Response;
use crate::class::{Class, Stamp};
use crate::lane::lane;
use crate::sync::{barrier, fence_heavy, yield_now};
use loom::thread;
use std::time::Duration;

/// A shard answers; the caller waits, or has given up and finds the answer later.
#[test]
fn answer_of_a_shard_reaches_its_caller() {
    loom::model(|| {
        let (response, reply) = Response::new();
        let shard = thread::spawn(move || reply.give(Box::new(7)));
        let early = response.take();
        let value = early.or_else(|| {
            response.wait(Duration::MAX, || true);
            response.take()
        });
        assert_eq!(value, Some(Box::new(7)));
        shard.join().unwrap();
        assert_eq!(response.take(), None);
    });
}

/// An event is handled and emits another, which is handled too. Between the two the engine is not quiet.
#[test]
fn an_engine_is_not_quiet_while_an_event_is_on_its_way_between_shards() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(|| {
        let class = Class::strict("a").with_capacity(1).reject().with_stamp(Stamp::Never);
        let (mut tx, mut rx) = lane(&class, || 0u64).unwrap();
        let (mut mesh, mut other) = lane(&class, || 0u64).unwrap();
        let lanes = [LaneView::of(&tx), LaneView::of(&mesh)];
        tx.publish(1, |event| *event = 1).unwrap();
        let shards = thread::spawn(move || {
            rx.poll(1, |_| _ = mesh.publish(1, |event| *event = 2).unwrap());
            other.poll(1, |event| assert_eq!(**event, 2));
            (rx, mesh, other)
        });
        if are_empty(&lanes) {
            let done: u64 = lanes.iter().map(LaneView::done).sum();
            assert_eq!(done, 2, "quiet, with an event on its way");
        }
        drop(shards.join().unwrap());
        assert!(are_empty(&lanes));
    });
}

fn a_stop_knows_of_every_accepted_event(kind: Option<u32>) {
    loom::model(move || {
        kind.into_iter().for_each(barrier::choose);
        let class = Class::strict("a").with_capacity(1).reject().with_stamp(Stamp::Never);
        let (mut tx, rx) = lane(&class, || 0u64).unwrap();
        let view = LaneView::of(&tx);
        let producer = thread::spawn(move || {
            barrier::point();
            let said = tx.publish(1, |event| *event = 1);
            barrier::ended();
            (tx, u64::from(said.is_ok()))
        });
        view.close();
        assert!(fence_heavy());
        while !view.is_settled() {
            yield_now();
        }
        let known = view.accepted();
        let (tx, accepted) = producer.join().unwrap();
        assert_eq!(known, accepted, "accepted after the stop has counted");
        assert!(view.counts().counts.is_closed());
        drop((tx, rx));
    });
}

#[test]
fn an_event_is_accepted_before_a_stop_counts_or_not_at_all() {
    a_stop_knows_of_every_accepted_event(None);
}

/// The publisher has no fence, and is interrupted by the kernel's barrier at any point.
#[test]
fn an_event_whose_publisher_is_interrupted_is_accepted_before_a_stop_counts_or_not_at_all() {
    a_stop_knows_of_every_accepted_event(Some(barrier::INTERRUPTS));
}
