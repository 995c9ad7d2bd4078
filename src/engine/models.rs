//! loom models of the control plane beside running shards.

use super::ask::Response;
use super::assembly::{LaneView, are_empty};
use crate::class::{Class, Stamp};
use crate::lane::lane;
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
        let class = Class::strict("a").capacity(1).reject().stamp(Stamp::Never);
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
