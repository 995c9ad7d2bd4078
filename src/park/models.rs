//! loom models of waiting elsewhere.

use super::alarm::Alarm;
use crate::sync::{AtomicBool, Ordering};
use loom::sync::Arc;
use loom::thread;

/// A producer that waits first as a task and then as a thread, or the other way round, while its shard offers room.
#[cfg(feature = "async")]
mod of_both_kinds {
    use super::*;
    use crate::clock::Clock;
    use crate::park::{Limit, RoomWait};
    use std::sync::atomic::AtomicU32;
    use std::task::{Wake, Waker};

    #[derive(Default)]
    struct Counted(AtomicU32);
    impl Wake for Counted {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn model(producer: fn(&RoomWait, &Waker, Limit), shard: fn(&RoomWait), wakes: u32) {
        loom::model(move || {
            let clock = Clock::virtual_time().0;
            let room = Arc::new(RoomWait::new(&clock));
            let counted = std::sync::Arc::new(Counted::default());
            let other = thread::spawn({
                let room = room.clone();
                move || shard(&room)
            });
            producer(&room, &Waker::from(counted.clone()), Limit::new(&clock, None));
            other.join().unwrap();
            assert_eq!(counted.0.load(Ordering::Relaxed), wakes);
        });
    }

    #[test]
    fn task_whose_place_a_thread_takes_is_woken_once() {
        let producer = |room: &RoomWait, waker: &Waker, limit| {
            assert!(room.announce_task(1, waker, limit));
            room.announce(0);
        };
        model(producer, |room| _ = room.offer(1), 1);
    }

    #[test]
    fn task_that_takes_the_place_of_a_thread_is_not_woken_within_a_burst() {
        let producer = |room: &RoomWait, waker: &Waker, limit| {
            room.announce(0);
            room.withdraw();
            assert!(room.announce_task(1, waker, limit));
        };
        model(producer, |room| room.offer_to_thread(1), 0);
    }
}

#[test]
fn sleeper_with_an_alarm_misses_nothing() {
    loom::model(|| {
        let alarm = Arc::new(Alarm::new());
        let sleeper = thread::current();
        let brought = Arc::new([AtomicBool::new(false), AtomicBool::new(false)]);
        let bringers: Vec<_> = (0..2)
            .map(|at| {
                let (alarm, sleeper, brought) = (alarm.clone(), sleeper.clone(), brought.clone());
                thread::spawn(move || {
                    brought[at].store(true, Ordering::Release);
                    if alarm.must_ring() {
                        sleeper.unpark();
                    }
                })
            })
            .collect();
        let is_all = || brought.iter().all(|one| one.load(Ordering::Acquire));
        while !is_all() {
            alarm.arm();
            if !is_all() {
                // A bringer that is still to come rings. If that were missed, this would wait forever, and loom would
                // report it.
                thread::park();
            }
            alarm.disarm();
        }
        bringers.into_iter().for_each(|bringer| bringer.join().unwrap());
    });
}
