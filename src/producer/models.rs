//! loom models of attach and detach: a lane set goes from one producer to the next only when it is empty, and the
//! next one's events come after those of the one before.

use super::{AttachError, LaneSet, Registry};
use crate::class::{Class, Stamp};
use crate::event::ProducerId;
use crate::lane::lane;
use loom::thread;
use std::sync::Arc;

#[test]
fn a_lane_set_changes_hands_when_it_is_empty() {
    loom::model(|| {
        let class = Class::strict("a").with_capacity(2).reject().with_stamp(Stamp::Never);
        let (tx, mut rx) = lane(&class, || 0u64).unwrap();
        let registry = Arc::new(Registry::new(1));
        registry.put(LaneSet { id: ProducerId(0), generation: 0, lanes: Box::new([tx]) });
        let first = {
            let registry = registry.clone();
            thread::spawn(move || {
                // The other may have been faster.
                if let Ok(mut set) = registry.take() {
                    set.lanes[0].publish(1, |event| *event = u64::from(set.generation)).unwrap();
                    registry.put(set);
                }
            })
        };
        let second = {
            let registry = registry.clone();
            thread::spawn(move || match registry.take() {
                Ok(mut set) => {
                    set.lanes[0].publish(1, |event| *event = u64::from(set.generation)).unwrap();
                    registry.put(set);
                }
                Err(AttachError::AllAttached { max: 1 } | AttachError::Draining { draining: 1 }) => {}
                Err(other) => panic!("{other}"),
            })
        };
        // Generations come in their order, and with a set that is empty at the change of hands none is in the lane
        // together with the one before.
        let mut last = 0;
        rx.poll(2, |event| {
            assert!(**event > last);
            last = **event;
        });
        first.join().unwrap();
        second.join().unwrap();
        rx.poll(2, |event| {
            assert!(**event > last);
            last = **event;
        });
        assert!(rx.counts().is_closed() && last >= 1);
    });
}
