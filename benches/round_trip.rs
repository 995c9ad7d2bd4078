//! How long does a request and its reply take, lane to lane and shard to shard, beside the bare cache line?
//!
//! Two pinned threads, one event under way at a time. The bare line: two words, each stored by one side and polled by the
//! other; nothing that two CPUs do together can be faster. `rtrb` and `crossbeam-channel` with both sides spinning.

mod support;

use pelton::class::Stamp;
use pelton::lane::{LaneConsumer, LaneProducer, lane};
use pelton::wait::Wait;
use pelton::{Class, Context, Event, Plan, Profile, ShardId, Verdict};
use std::hint::spin_loop;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::*;

#[repr(align(128))]
#[derive(Default)]
struct Line(AtomicU64);

/// Median and 99th percentile of single round trips, in nanoseconds.
struct Trips(Vec<u32>);

impl Trips {
    fn run(n: u64, mut trip: impl FnMut(u64)) -> Self {
        let mut trips = Vec::with_capacity(n as usize);
        for i in 1..=n {
            let begun = Instant::now();
            trip(i);
            trips.push(begun.elapsed().as_nanos() as u32);
        }
        trips.sort_unstable();
        Trips(trips)
    }

    fn quantile(&self, permille: usize) -> f64 {
        f64::from(self.0[(self.0.len() - 1) * permille / 1_000])
    }
}

fn bare(n: u64) -> Trips {
    let lines = Arc::new((Line::default(), Line::default()));
    let other = lines.clone();
    let echo = std::thread::spawn(move || {
        pin(1);
        for i in 1..=n {
            while other.0.0.load(Ordering::Acquire) != i {
                spin_loop();
            }
            other.1.0.store(i, Ordering::Release);
        }
    });
    pin(0);
    let trips = Trips::run(n, |i| {
        lines.0.0.store(i, Ordering::Release);
        while lines.1.0.load(Ordering::Acquire) != i {
            spin_loop();
        }
    });
    echo.join().unwrap();
    trips
}

fn lanes(n: u64) -> Trips {
    let class = Class::strict("only").capacity(1_024).stamp(Stamp::Never);
    let (mut ask, mut asked): (LaneProducer<Body>, LaneConsumer<Body>) = lane(&class, Body::default).unwrap();
    let (mut reply, mut replied): (LaneProducer<Body>, LaneConsumer<Body>) =
        lane(&class, Body::default).unwrap();
    let echo = std::thread::spawn(move || {
        pin(1);
        let mut checker = Checker::starting_at(1);
        let mut pace = pelton::wait::Pacer::default();
        for _ in 0..n {
            let mut body = Body::default();
            loop {
                let found = asked.poll(1, |event| {
                    checker.see(event.key(), event);
                    body = **event;
                });
                if found > 0 {
                    break;
                }
                pace.after(found);
            }
            reply.publish(body.extra, |event| *event = body).unwrap();
            pace.after(1);
        }
    });
    pin(0);
    let mut checker = Checker::starting_at(1);
    let trips = Trips::run(n, |i| {
        ask.publish(i & 7, |event| *event = Body::new(i, i & 7)).unwrap();
        while replied.poll(1, |event| checker.see(event.key(), event)) == 0 {
            spin_loop();
        }
    });
    echo.join().unwrap();
    trips
}

/// Shard to shard: shard 0 sends a request over the mesh, shard 1 answers over the mesh, shard 0 takes the time.
fn shards(n: u64) -> Trips {
    let mut plan = Plan::new(Profile::Latency).shards(2).cpus([cpus()[0], cpus()[1]]).wait(Wait::Spin);
    plan = plan.mesh(true).producers_max(1);
    let class = plan.class(Class::strict("only").capacity(1_024).stamp(Stamp::Never));
    let (done, end) = std::sync::mpsc::channel();
    let handler = move |shard: ShardId| {
        let done = done.clone();
        let mut trips = Vec::with_capacity(n as usize);
        let mut begun = Instant::now();
        move |event: &mut Event<'_, Body>, context: &mut Context<'_, Body>| {
            let to = ShardId(1 - shard.0);
            if shard.0 == 1 {
                let body = **event;
                return match context.emit_to(to, class, body.extra, &[], |reply| *reply = body) {
                    Ok(_) => Verdict::Done,
                    Err(_) => Verdict::Retry,
                };
            }
            let i = event.sequence + 1;
            if event.sequence > 0 {
                check(event.key().0, event, trips.len() as u64 + 1);
                trips.push(begun.elapsed().as_nanos() as u32);
            }
            if i > n {
                done.send(std::mem::take(&mut trips)).unwrap();
                return Verdict::Done;
            }
            begun = Instant::now();
            context.emit_to(to, class, i & 7, &[], |ask| *ask = Body::new(i, i & 7)).unwrap();
            Verdict::Done
        }
    };
    let engine = plan.start(Body::default, handler).unwrap();
    let mut tx = engine.attach().unwrap();
    tx.publish_to(ShardId(0), class, 0, |event| *event = Body::new(0, 0)).unwrap();
    let mut trips: Vec<u32> = end.recv().unwrap();
    drop(tx);
    assert!(engine.stop(Duration::from_secs(10)).unwrap().ledger.is_closed());
    trips.sort_unstable();
    Trips(trips)
}

fn rtrb(n: u64) -> Trips {
    let (mut ask, mut asked) = rtrb::RingBuffer::<Element>::new(1_024);
    let (mut reply, mut replied) = rtrb::RingBuffer::<Element>::new(1_024);
    let echo = std::thread::spawn(move || {
        pin(1);
        let mut checker = Checker::starting_at(1);
        for _ in 0..n {
            let element = loop {
                match asked.pop() {
                    Ok(element) => break element,
                    Err(_) => spin_loop(),
                }
            };
            checker.see(element.key, &element.body);
            reply.push(element).unwrap();
        }
    });
    pin(0);
    let mut checker = Checker::starting_at(1);
    let trips = Trips::run(n, |i| {
        ask.push(Element { key: i & 7, stamp: 0, body: Body::new(i, i & 7) }).unwrap();
        let element = loop {
            match replied.pop() {
                Ok(element) => break element,
                Err(_) => spin_loop(),
            }
        };
        checker.see(element.key, &element.body);
    });
    echo.join().unwrap();
    trips
}

fn channel(n: u64) -> Trips {
    let (ask, asked) = crossbeam_channel::bounded::<Element>(1_024);
    let (reply, replied) = crossbeam_channel::bounded::<Element>(1_024);
    let spin = |from: &crossbeam_channel::Receiver<Element>| loop {
        match from.try_recv() {
            Ok(element) => break element,
            Err(_) => spin_loop(),
        }
    };
    let echo = std::thread::spawn(move || {
        pin(1);
        for _ in 0..n {
            reply.send(spin(&asked)).unwrap();
        }
    });
    pin(0);
    let mut checker = Checker::starting_at(1);
    let trips = Trips::run(n, |i| {
        ask.send(Element { key: i & 7, stamp: 0, body: Body::new(i, i & 7) }).unwrap();
        let element = spin(&replied);
        checker.see(element.key, &element.body);
    });
    echo.join().unwrap();
    trips
}

fn main() {
    banner("round trip: a request and its reply, nanoseconds; each figure holds one reading of the clock");
    let n = events(200_000);
    for (name, permille) in [("p50", 500), ("p99", 990)] {
        let figures = alternate(vec![
            Peer::new("pelton lane to lane", || lanes(n).quantile(permille)),
            Peer::new("pelton shard to shard (mesh)", || shards(n).quantile(permille)),
            Peer::new("bare cache line", || bare(n).quantile(permille)),
            Peer::new("rtrb", || rtrb(n).quantile(permille)),
            Peer::new("crossbeam-channel, try_recv", || channel(n).quantile(permille)),
        ]);
        table(&format!("{name} of one round trip"), &figures);
        against(&figures, 1, 2);
    }
}
