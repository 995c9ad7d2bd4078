//! The contenders that hand events from one thread to another, one producer and one consumer, each at its best.
//!
//! # Fairness
//! All move the same 64 bytes through rings of the same capacity, look at every event with the same code, and spin on
//! both sides. Each run makes its own rings; the clock starts when both threads are pinned and ready, and stops when
//! the consumer has seen the last event.
//!
//! | contender | how it is used |
//! |---|---|
//! | `disruptor` | single producer, `BusySpin`, a managed consumer thread; `publish` one by one |
//! | `disruptor`, batches | the same with `batch_publish` of 64: each event's work is done while its slot is filled, and nobody sees the first event before the last is written |
//! | `rtrb` | `push` one by one, and `read_chunk` of all that is there: 5 to 25 % faster than `pop` |
//! | `rtrb`, chunks | the same with `write_chunk_uninit` of 64: its counterpart to batches |
//! | `crossbeam-channel` | `bounded`, `try_send` and `try_recv`: no side ever sleeps, which is 10 to 30 % faster than `send` and `recv` when both have a CPU |
//! | `ArrayQueue` | `push` and `pop`; built for many producers and many consumers |

use super::event::{Body, Checker, Element, KEYS, per_event_ns, work};
use super::settings::Load;
use pelton::class::{Class, Stamp};
use pelton::shard::pin;
use std::hint::{black_box, spin_loop};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::Instant;

/// Events of a batch, where a contender has batches.
pub const BATCH: usize = 64;

/// Runs `send` for every event on this thread while `receive` runs on the consumer's, which gives its checker back
/// when it has seen them all. Nanoseconds an event.
///
/// # Panics
/// If an event was lost, doubled or torn.
pub fn between(
    load: Load,
    receive: impl FnOnce(&mut Checker) + Send + 'static,
    mut send: impl FnMut(u64),
) -> f64 {
    between_all(load, receive, |load| {
        for i in 0..load.events {
            work(load.work, i);
            send(i);
        }
    })
}

/// The same for a sender that takes care of all events, their work included.
fn between_all(
    load: Load,
    receive: impl FnOnce(&mut Checker) + Send + 'static,
    send: impl FnOnce(Load),
) -> f64 {
    let ready = Arc::new(Barrier::new(2));
    let other = ready.clone();
    let consumer = thread::spawn(move || {
        pin(load.cpus[1]);
        let mut checker = Checker::starting_at(0);
        other.wait();
        receive(&mut checker);
        (Instant::now(), checker)
    });
    pin(load.cpus[0]);
    ready.wait();
    let start = Instant::now();
    send(load);
    let (end, checker) = consumer.join().expect("the consumer panicked");
    assert_eq!(checker.next(), load.events, "events seen");
    checker.finish();
    per_event_ns(start, end, load.events)
}

/// A lane with its ledger, `publish` one by one, `poll` of up to a batch; paced for throughput.
pub fn lane(load: Load) -> f64 {
    let class = Class::strict("only").with_capacity(load.capacity).with_stamp(Stamp::Never);
    let (mut tx, mut rx) = pelton::lane::lane(&class, Body::default).expect("a lane of a checked capacity");
    let receive = move |checker: &mut Checker| {
        let mut pace = pelton::park::Pacer::up_to(64);
        while checker.next() < load.events {
            let found = rx.poll(BATCH as u64, |event| checker.see(event.key(), event));
            pace.after(found);
        }
        assert!(rx.counts().is_closed(), "the lane's ledger is not closed");
    };
    between(load, receive, |i| {
        tx.publish(i & KEYS, |event| *event = Body::new(i, i & KEYS)).expect("the lane blocks");
    })
}

/// A bare disruptor, one by one.
pub fn disruptor(load: Load) -> f64 {
    disruptor_with(load, |producer, load| {
        use disruptor::Producer;
        for i in 1..load.events {
            work(load.work, i);
            producer.publish(|event| *event = Element::new(i, i & KEYS));
        }
    })
}

/// A bare disruptor, in batches.
pub fn disruptor_batches(load: Load) -> f64 {
    disruptor_with(load, |producer, load| {
        use disruptor::Producer;
        let mut next = 1;
        while next < load.events {
            let batch = (load.events - next).min(batch(load));
            producer.batch_publish(batch as usize, |slots| {
                for (i, event) in (next..).zip(slots) {
                    work(load.work, i);
                    *event = Element::new(i, i & KEYS);
                }
            });
            next += batch;
        }
    })
}

/// A batch that fits into the ring.
fn batch(load: Load) -> u64 {
    (BATCH as u64).min(u64::from(load.capacity) / 2)
}

type Disruptor = disruptor::SingleProducer<Element, disruptor::SingleConsumerBarrier>;

fn disruptor_with(load: Load, send: impl FnOnce(&mut Disruptor, Load)) -> f64 {
    use disruptor::{BusySpin, Producer, build_single_producer};
    let (tell, told) = mpsc::channel();
    let mut checker = Checker::starting_at(0);
    // The first event says that the consumer is ready, the last that it is done: one comparison for both.
    let mut mark = 1;
    // Its consumer thread inherits the mask of the thread that makes it. `pin_at_core` would do the same, but takes
    // no CPU that is isolated from the scheduler, and panics where pinning is refused.
    pin(load.cpus[1]);
    let mut producer = build_single_producer(load.capacity as usize, Element::default, BusySpin)
        .handle_events_with(move |event: &Element, _, _| {
            checker.see(event.key, &event.body);
            if checker.next() == mark {
                mark = load.events;
                // Nobody listens any more where the run has failed.
                let _ = tell.send((Instant::now(), checker));
            }
        })
        .build();
    pin(load.cpus[0]);
    producer.publish(|event| *event = Element::new(0, 0));
    let mut end = told.recv().expect("the consumer panicked");
    let start = Instant::now();
    send(&mut producer, load);
    if load.events > 1 {
        end = told.recv().expect("the consumer panicked");
    }
    end.1.finish();
    per_event_ns(start, end.0.max(start), load.events)
}

/// The consumer of `rtrb`: reads all that is there, as a lane's consumer does.
fn rtrb_reader(load: Load, mut rx: rtrb::Consumer<Element>) -> impl FnOnce(&mut Checker) + Send {
    move |checker| {
        while checker.next() < load.events {
            match rx.read_chunk(rx.slots()) {
                Ok(chunk) if !chunk.is_empty() => {
                    for event in chunk {
                        checker.see(event.key, &event.body);
                    }
                }
                _ => spin_loop(),
            }
        }
    }
}

/// `rtrb`, one by one.
pub fn rtrb(load: Load) -> f64 {
    let (mut tx, rx) = rtrb::RingBuffer::<Element>::new(load.capacity as usize);
    between(load, rtrb_reader(load, rx), |i| {
        let mut element = Element::new(i, i & KEYS);
        while let Err(rtrb::PushError::Full(back)) = tx.push(element) {
            element = back;
            spin_loop();
        }
    })
}

/// `rtrb`, in chunks.
pub fn rtrb_chunks(load: Load) -> f64 {
    let (mut tx, rx) = rtrb::RingBuffer::<Element>::new(load.capacity as usize);
    between_all(load, rtrb_reader(load, rx), |load| {
        let mut next = 0;
        while next < load.events {
            let batch = (load.events - next).min(batch(load));
            match tx.write_chunk_uninit(batch as usize) {
                Ok(chunk) => {
                    chunk.fill_from_iter((next..next + batch).map(|i| {
                        work(load.work, i);
                        Element::new(i, i & KEYS)
                    }));
                    next += batch;
                }
                Err(_) => spin_loop(),
            }
        }
    })
}

/// `crossbeam-channel`, bounded.
pub fn channel(load: Load) -> f64 {
    let (tx, rx) = crossbeam_channel::bounded::<Element>(load.capacity as usize);
    let receive = move |checker: &mut Checker| {
        while checker.next() < load.events {
            match rx.try_recv() {
                Ok(event) => checker.see(event.key, &event.body),
                Err(_) => spin_loop(),
            }
        }
    };
    between(load, receive, |i| {
        let mut element = Element::new(i, i & KEYS);
        while let Err(refused) = tx.try_send(element) {
            element = refused.into_inner();
            spin_loop();
        }
    })
}

/// crossbeam's `ArrayQueue`.
pub fn array_queue(load: Load) -> f64 {
    let queue = Arc::new(crossbeam_queue::ArrayQueue::<Element>::new(load.capacity as usize));
    let other = queue.clone();
    let receive = move |checker: &mut Checker| {
        while checker.next() < load.events {
            match other.pop() {
                Some(event) => checker.see(event.key, &event.body),
                None => spin_loop(),
            }
        }
    };
    between(load, receive, |i| {
        let mut element = Element::new(i, i & KEYS);
        while let Err(back) = queue.push(element) {
            element = back;
            spin_loop();
        }
    })
}

/// The producer's part without a hand-off: the work, and an event that goes nowhere.
pub fn work_alone(load: Load) -> f64 {
    pin(load.cpus[0]);
    let start = Instant::now();
    for i in 0..load.events {
        work(load.work, i);
        black_box(Body::new(i, i & KEYS));
    }
    per_event_ns(start, Instant::now(), load.events)
}

/// The consumer's part without a hand-off: the check of events that are there already, in as many slots.
pub fn consumer_alone(load: Load) -> f64 {
    pin(load.cpus[1]);
    let slots: Vec<Element> = (0..u64::from(load.capacity)).map(|i| Element::new(i, i & KEYS)).collect();
    let mut left = load.events;
    let start = Instant::now();
    while left > 0 {
        let mut checker = Checker::starting_at(0);
        let slots = black_box(&slots[..left.min(slots.len() as u64) as usize]);
        for event in slots {
            checker.see(event.key, &event.body);
        }
        left -= checker.next();
        black_box(checker).finish();
    }
    per_event_ns(start, Instant::now(), load.events)
}
