//! How long does one event take from one thread to another, over the producer's work before each?
//!
//! A lane with its ledger against the `disruptor` crate (single producer, `publish` one by one, busy spin, a managed
//! consumer thread that it pins itself) and `rtrb` (push and pop, both spinning). 64-byte slots, capacity 1,024.

mod support;

use std::hint::spin_loop;
use std::time::Instant;
use support::*;

const CAPACITY: usize = 1_024;

fn pelton(n: u64, w: u64) -> f64 {
    use pelton::{Class, class::Stamp, lane::lane};
    let class = Class::strict("only").capacity(CAPACITY as u32).stamp(Stamp::Never);
    let (mut tx, mut rx) = lane(&class, Body::default).unwrap();
    let consumer = std::thread::spawn(move || {
        pin(1);
        let mut checker = Checker::default();
        let mut pace = pelton::wait::Pacer::default();
        while checker.seen() < n {
            let found = rx.poll(64, |event| checker.see(event.key(), event));
            pace.after(found);
        }
        assert!(rx.counts().is_closed());
        Instant::now()
    });
    pin(0);
    let start = Instant::now();
    for i in 0..n {
        work(w, i);
        tx.publish(i & 1_023, |event| *event = Body::new(i, i & 1_023)).unwrap();
    }
    per_event(start, consumer.join().unwrap(), n)
}

fn rtrb(n: u64, w: u64) -> f64 {
    let (mut tx, mut rx) = rtrb::RingBuffer::<Element>::new(CAPACITY);
    let consumer = std::thread::spawn(move || {
        pin(1);
        let mut checker = Checker::default();
        while checker.seen() < n {
            match rx.pop() {
                Ok(event) => checker.see(event.key, &event.body),
                Err(_) => spin_loop(),
            }
        }
        Instant::now()
    });
    pin(0);
    let start = Instant::now();
    for i in 0..n {
        work(w, i);
        let mut element = Element { key: i & 1_023, stamp: 0, body: Body::new(i, i & 1_023) };
        while let Err(rtrb::PushError::Full(back)) = tx.push(element) {
            element = back;
            spin_loop();
        }
    }
    per_event(start, consumer.join().unwrap(), n)
}

fn alone(n: u64, w: u64) -> f64 {
    pin(0);
    let start = Instant::now();
    for i in 0..n {
        work(w, i);
        std::hint::black_box(Body::new(i, i & 1_023));
    }
    per_event(start, Instant::now(), n)
}

fn main() {
    banner("lane: one producer, one consumer, one by one");
    let n = events(4_000_000);
    for w in [0, 10, 20, 40, 80] {
        let figures = alternate(vec![
            Peer::new("pelton lane, ledger on", || pelton(n, w)),
            Peer::new("disruptor, publish", || disruptor(n, w)),
            Peer::new("rtrb, push/pop", || rtrb(n, w)),
            Peer::new("the work alone", || alone(n, w)),
        ]);
        table(&format!("{w} dependent multiplications before each event"), &figures);
    }
}
