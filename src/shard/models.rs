//! loom models of a shard's lanes: an event is seen whether its set is awake, falls asleep just then, or dozes.

use super::lanes::Lanes;
use super::nap::Nap;
use crate::class::{Class, Stamp};
use crate::lane::lane;
use crate::wait::bit;
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
