//! loom models of lanes: no wake-up is missed, whatever sleeps and whatever wakes it, and the ledger is possible at
//! any moment. The models' futex has no time limit, so a missed wake-up is a deadlock, which loom reports.

use super::{LaneConsumer, LaneId, LaneProducer, LaneSpec, PublishError, region_need, shape_of};
use crate::class::{Class, ClassId, Stamp};
use crate::clock::Clock;
use crate::event::{Outcome, ProducerId, Rejection, ShardId};
use crate::memory::region::Builder;
use crate::park::{Doorbell, ShardWaker, bit, fence_sleepers};
use crate::sync::{Arc, barrier};
use loom::thread;
use std::time::Duration;

/// A lane of an engine, whose set is awake.
fn lane_of(class: Class) -> (LaneProducer<u64>, LaneConsumer<u64>) {
    let class = class.with_stamp(Stamp::Never);
    let (shape, clock) = (shape_of(&class), Clock::virtual_time().0);
    let mut region = Builder::new(region_need::<u64>(&shape)).unwrap();
    let id = LaneId { producer: ProducerId(0), shard: ShardId(0), class: ClassId(0) };
    let door = Arc::new(Doorbell::new(Arc::new(ShardWaker::new())));
    door.clear();
    LaneSpec { id, class: &class, clock: &clock, door: &door }.build(shape, &mut region, || 0).unwrap()
}

/// For models with so many steps that fewer preemptions must do.
fn model_with(preemptions: usize, body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(body);
}

fn door_of(tx: &LaneProducer<u64>) -> Arc<Doorbell> {
    tx.side.door.clone()
}

/// What a shard with nothing to do does: let the lane's set doze, announce, look once more, sleep.
fn park(rx: &LaneConsumer<u64>, door: &Doorbell) {
    // As a shard does when it is called: the look that follows finds what was rung for.
    rx.waker.take(bit::LANES);
    if rx.waker.announce(|| door.doze()) {
        if !rx.is_ready() {
            rx.waker.sleep(Duration::MAX);
        }
        rx.waker.cancel_park();
    }
    door.clear();
}

/// Polls as a shard does until `events` have come, each in its turn, in bursts of at most `burst`. It sleeps when
/// there is nothing to do, so a producer without room must call for it.
fn serve(rx: &mut LaneConsumer<u64>, door: &Doorbell, events: u64, burst: u64) {
    let mut seen = 0;
    while seen < events {
        rx.poll(burst, |event| {
            seen += 1;
            assert_eq!(**event, seen);
        });
        if seen < events && rx.waker.calls() & bit::ROOM == 0 && !rx.is_ready() && !rx.room_wanted {
            park(rx, door);
        }
    }
}

/// `prepare` is called before, and `end` after, the publisher has published.
fn a_publish_wakes(prepare: fn(), end: fn(), barrier: Option<u32>) {
    loom::model(move || {
        barrier.into_iter().for_each(barrier::choose);
        let (mut tx, mut rx) = lane_of(Class::strict("a").with_capacity(2));
        let door = door_of(&tx);
        let producer = thread::spawn(move || {
            prepare();
            tx.publish(1, |event| *event = 1).unwrap();
            tx.publish(2, |event| *event = 2).unwrap();
            end();
            // Kept until the consumer has seen both: closing the lane must not be what wakes it.
            tx
        });
        let mut seen = 0;
        while seen < 2 {
            match rx.poll(2, |event| assert!(**event > 0)) {
                0 => park(&rx, &door),
                more => seen += more,
            }
        }
        let tx = producer.join().unwrap();
        assert!(rx.counts().is_closed());
        drop(tx);
    });
}

#[test]
fn a_publish_wakes_a_parked_shard() {
    a_publish_wakes(|| (), || (), None);
}

/// The kernel has no barrier: publishers pay for a fence of their own.
#[test]
fn a_publish_with_a_fence_of_its_own_wakes_a_parked_shard() {
    a_publish_wakes(|| (), || (), Some(barrier::FENCED));
}

/// A publisher that has no fence at all, and is interrupted by the kernel's barrier at any point.
#[test]
fn a_publish_that_is_interrupted_by_the_barrier_wakes_a_parked_shard() {
    a_publish_wakes(barrier::point, barrier::ended, Some(barrier::INTERRUPTS));
}

/// A shard that looks at a set no more and stays awake learns of its next event by its waker alone.
#[test]
fn an_event_rings_for_a_dozing_set() {
    loom::model(|| {
        let (mut tx, mut rx) = lane_of(Class::strict("a").with_capacity(2));
        let door = door_of(&tx);
        let producer = thread::spawn(move || {
            tx.publish(1, |event| *event = 1).unwrap();
            tx
        });
        door.doze();
        assert!(fence_sleepers());
        if rx.is_ready() {
            door.clear();
        } else {
            while rx.waker.take(bit::LANES) == 0 {
                if rx.waker.announce(|| ()) {
                    rx.waker.sleep(Duration::MAX);
                    rx.waker.cancel_park();
                }
            }
            assert!(!door.is_dozing());
        }
        assert_eq!(rx.poll(2, |event| assert_eq!(**event, 1)), 1);
        let tx = producer.join().unwrap();
        assert!(rx.counts().is_closed());
        drop(tx);
    });
}

#[test]
fn a_call_for_attention_wakes_a_parked_shard() {
    loom::model(|| {
        let (tx, rx) = lane_of(Class::strict("a").with_capacity(1));
        let door = door_of(&tx);
        let waker = rx.waker.clone();
        let control = thread::spawn(move || waker.raise(bit::STOP));
        while rx.waker.take(bit::STOP) == 0 {
            park(&rx, &door);
        }
        control.join().unwrap();
        drop(tx);
    });
}

/// Publishes by one of the ways that wait.
type Publish = fn(&mut LaneProducer<u64>, u64) -> Result<Outcome, PublishError>;

fn blocking(tx: &mut LaneProducer<u64>, value: u64) -> Result<Outcome, PublishError> {
    tx.publish(value, |event| *event = value)
}

fn is_released_by_room(publish: Publish) {
    loom::model(move || {
        let (mut tx, mut rx) = lane_of(Class::strict("a").with_capacity(1).block());
        let door = door_of(&tx);
        let producer = thread::spawn(move || {
            publish(&mut tx, 1).unwrap();
            publish(&mut tx, 2).unwrap();
            tx
        });
        serve(&mut rx, &door, 2, 1);
        let tx = producer.join().unwrap();
        assert!(rx.counts().is_closed());
        drop(tx);
    });
}

fn is_released_by_a_stop(publish: Publish) {
    loom::model(move || {
        let (mut tx, rx) = lane_of(Class::strict("a").with_capacity(1).block());
        tx.publish(1, |event| *event = 1).unwrap();
        let (ring, shared) = (tx.core().clone(), tx.shared().clone());
        let producer = thread::spawn(move || {
            let refusal = publish(&mut tx, 2).unwrap_err();
            assert_eq!(refusal.reason, Rejection::Closed);
        });
        ring.close();
        shared.room.wake_closed();
        producer.join().unwrap();
        let counts = rx.counts();
        assert!(counts.is_closed());
        assert_eq!((counts.accepted, counts.in_flight, counts.rejected_for(Rejection::Closed)), (1, 1, 1));
    });
}

#[test]
fn a_blocked_producer_is_released_by_room() {
    is_released_by_room(blocking);
}

#[test]
fn a_blocked_producer_is_released_by_a_stop() {
    is_released_by_a_stop(blocking);
}

/// Slots are free and payload bytes are not. The consumer releases both, one after the other.
#[test]
fn a_producer_that_waits_for_payload_bytes_is_released_by_them() {
    model_with(2, || {
        let (mut tx, mut rx) = lane_of(Class::strict("a").with_capacity(4).with_payload_bytes(64).block());
        let door = door_of(&tx);
        let producer = thread::spawn(move || {
            for value in 1..=3 {
                let mut claim = tx.claim(value).with_payload(32).acquire().unwrap();
                *claim = value;
                claim.publish().unwrap();
            }
            tx
        });
        serve(&mut rx, &door, 3, 2);
        let tx = producer.join().unwrap();
        assert!(rx.counts().is_closed());
        drop(tx);
    });
}

/// The reading end goes to another thread while the producer may wait.
#[test]
fn a_consumer_that_moves_takes_its_waiting_producer_along() {
    model_with(2, || {
        let (mut tx, mut rx) = lane_of(Class::strict("a").with_capacity(1).block());
        let door = door_of(&tx);
        let producer = thread::spawn(move || {
            blocking(&mut tx, 1).unwrap();
            blocking(&mut tx, 2).unwrap();
            tx
        });
        let first = thread::spawn({
            let door = door.clone();
            move || {
                serve(&mut rx, &door, 1, 1);
                rx
            }
        });
        let mut rx = first.join().unwrap();
        while rx.poll(1, |event| assert_eq!(**event, 2)) == 0 {
            if rx.waker.calls() & bit::ROOM == 0 && !rx.is_ready() && !rx.room_wanted {
                park(&rx, &door);
            }
        }
        let tx = producer.join().unwrap();
        assert!(rx.counts().is_closed());
        drop(tx);
    });
}

/// A ledger that is read while events run may lag. It never shows more handled than accepted, nor more accepted than
/// offered.
#[test]
fn a_ledger_that_is_read_while_events_run_is_possible() {
    model_with(2, || {
        let (mut tx, mut rx) = lane_of(Class::strict("a").with_capacity(1).reject());
        let (ring, shared) = (tx.core().clone(), tx.shared().clone());
        let producer = thread::spawn(move || {
            let _ = tx.publish(1, |event| *event = 1);
            tx
        });
        let consumer = thread::spawn(move || {
            rx.poll(1, |_| ());
            rx
        });
        let counts = shared.ledger.snapshot(|| ring.in_flight());
        assert!(counts.done() <= counts.accepted, "{counts:?}");
        assert!(counts.accepted + counts.rejected_total() <= counts.offered, "{counts:?}");
        drop((producer.join().unwrap(), consumer.join().unwrap()));
    });
}

/// Tasks instead of threads: every wake-up is a waker's, and an executor without one sleeps for ever. It may also
/// poll for no reason.
#[cfg(feature = "async")]
mod tasks {
    use super::*;
    use crate::event::Key;
    use crate::lane::{WhenClaimed, write};
    use loom::future::block_on;
    use std::future::poll_fn;
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::{Context, Poll, Wake, Waker};

    fn awaiting(
        tx: &mut LaneProducer<u64>,
        value: u64,
    ) -> impl Future<Output = Result<Outcome, PublishError>> {
        WhenClaimed::new(tx, Key(value), 0, move |claimed| write(claimed, |event| **event = value))
    }

    /// The waker of a task that is gone: waking it has no effect.
    struct Gone;
    impl Wake for Gone {
        fn wake(self: Arc<Self>) {}
    }

    fn poll_once(future: std::pin::Pin<&mut impl Future>) -> bool {
        let waker = Waker::from(Arc::new(Gone));
        matches!(future.poll(&mut Context::from_waker(&waker)), Poll::Ready(_))
    }

    fn awaited(tx: &mut LaneProducer<u64>, value: u64) -> Result<Outcome, PublishError> {
        block_on(awaiting(tx, value))
    }

    /// As an event loop waits: it asks for room, sleeps, and claims what is there.
    fn looped(tx: &mut LaneProducer<u64>, value: u64) -> Result<Outcome, PublishError> {
        block_on(poll_fn(|context| tx.poll_room(0, context)));
        write(tx.claim(Key(value)).acquire(), |event| **event = value)
    }

    #[test]
    fn a_waiting_loop_is_released_by_room() {
        is_released_by_room(looped);
    }

    #[test]
    fn a_waiting_loop_is_released_by_a_stop() {
        is_released_by_a_stop(looped);
    }

    #[test]
    fn a_waiting_loop_is_released_by_half_of_the_lane() {
        model_with(2, || {
            let (mut tx, mut rx) = lane_of(Class::strict("a").with_capacity(2).block());
            let door = door_of(&tx);
            let producer = thread::spawn(move || {
                for value in 1..=3 {
                    looped(&mut tx, value).unwrap();
                }
                tx
            });
            serve(&mut rx, &door, 3, 1);
            let tx = producer.join().unwrap();
            assert!(rx.counts().is_closed());
            drop(tx);
        });
    }

    #[test]
    fn a_waiting_task_is_released_by_room() {
        is_released_by_room(awaited);
    }

    #[test]
    fn a_waiting_task_is_released_by_a_stop() {
        is_released_by_a_stop(awaited);
    }

    #[test]
    fn room_and_a_stop_race_for_a_waiting_task() {
        // Four: the closing may come between the shard's taking of a waker and the task's leaving of the next one.
        model_with(4, || {
            let (mut tx, mut rx) = lane_of(Class::strict("a").with_capacity(1).block());
            tx.publish(1, |event| *event = 1).unwrap();
            let (ring, shared) = (tx.core().clone(), tx.shared().clone());
            let producer = thread::spawn(move || {
                let said = block_on(awaiting(&mut tx, 2)).map_err(|refusal| refusal.reason);
                assert!(matches!(said, Ok(_) | Err(Rejection::Closed)));
                u64::from(said.is_ok())
            });
            let stop = thread::spawn(move || {
                ring.close();
                shared.room.wake_closed();
            });
            rx.poll(1, |event| assert_eq!(**event, 1));
            stop.join().unwrap();
            let published = producer.join().unwrap();
            let counts = rx.counts();
            assert!(counts.is_closed());
            assert_eq!((counts.accepted, counts.handled), (1 + published, 1));
        });
    }

    #[test]
    fn a_waiting_task_is_released_once_where_two_close() {
        model_with(3, || {
            let (mut tx, rx) = lane_of(Class::strict("a").with_capacity(1).block());
            tx.publish(1, |event| *event = 1).unwrap();
            let (ring, shared) = (tx.core().clone(), tx.shared().clone());
            let producer = thread::spawn(move || {
                assert_eq!(looped(&mut tx, 2).unwrap_err().reason, Rejection::Closed);
            });
            let other = thread::spawn({
                let (ring, shared) = (ring.clone(), shared.clone());
                move || {
                    ring.close();
                    shared.room.wake_closed();
                }
            });
            ring.close();
            shared.room.wake_closed();
            other.join().unwrap();
            producer.join().unwrap();
            assert!(!shared.room.offer(0), "an announcement is left behind");
            assert!(rx.counts().is_closed());
        });
    }

    #[test]
    fn a_task_that_gives_up_leaves_nothing_behind() {
        model_with(2, || {
            let (mut tx, mut rx) = lane_of(Class::strict("a").with_capacity(1).block());
            let door = door_of(&tx);
            let producer = thread::spawn(move || {
                tx.publish(1, |event| *event = 1).unwrap();
                // Given up: it has published in its only poll, or never will.
                if !poll_once(pin!(awaiting(&mut tx, 2))) {
                    block_on(awaiting(&mut tx, 2)).unwrap();
                }
                tx
            });
            serve(&mut rx, &door, 2, 1);
            let tx = producer.join().unwrap();
            assert!(rx.counts().is_closed());
            drop(tx);
        });
    }

    #[test]
    fn a_task_that_moves_to_another_executor_is_woken_there() {
        model_with(2, || {
            let (mut tx, mut rx) = lane_of(Class::strict("a").with_capacity(1).block());
            let door = door_of(&tx);
            let producer = thread::spawn(move || {
                tx.publish(1, |event| *event = 1).unwrap();
                let mut second = Box::pin(awaiting(&mut tx, 2));
                if !poll_once(second.as_mut()) {
                    block_on(second.as_mut()).unwrap();
                }
                drop(second);
                tx
            });
            serve(&mut rx, &door, 2, 1);
            let tx = producer.join().unwrap();
            assert!(rx.counts().is_closed());
            drop(tx);
        });
    }
}
