//! What does an awaited publish cost, against the channels that tasks use?
//!
//! The producer is a task of a `current_thread` runtime of tokio on one CPU; the consumer has the other CPU. Pelton: an
//! `AsyncProducer` into an engine of one shard (keyed routing, exact ledger, stamps on one event in 64), whose driver
//! polls on. `tokio::sync::mpsc` (bounded) and `kanal` (`bounded_async`): their consumer is a task of a second
//! `current_thread` runtime, which is how two tasks on two CPUs use them; `recv_many` takes what is there in one call,
//! up to the 64 that a shard's burst takes; and as our shard does not sleep here, each has a consumer that does not
//! either. The event is 64 bytes in all of them, the capacity 1,024, one by one. The last line is what a thread pays
//! that blocks instead.

use pelton::class::Stamp;
use pelton::park::Wait;
use pelton::shard::pin;
use pelton::{AsyncProducer, Class, ClassId, Context, Engine, Event, Plan, Profile};
use pelton_bench::answer::{Limit, Point, Table, Unit};
use pelton_bench::event::{Body, Checker, Element, KEYS, per_event_ns, work};
use pelton_bench::rounds::{Peer, alternate};
use pelton_bench::{bench_settings, machine};
use std::hint::spin_loop;
use std::time::{Duration, Instant};

const CAPACITY: usize = 1_024;
const BURST: usize = 64;

/// What ours may take of a channel's time where both of its ends are awaited, and what it should.
const TOKIO_LIMIT: f64 = 0.4;
const KANAL_LIMIT: f64 = 0.5;
const GOAL: f64 = 0.2;

/// What one run does.
#[derive(Clone, Copy)]
struct Load {
    cpus: [usize; 2],
    events: u64,
    work: u64,
}

/// Runs a future on this thread, which is pinned first.
fn task<T>(cpu: usize, future: impl Future<Output = T>) -> T {
    pin(cpu);
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
}

fn engine(load: Load) -> (Engine<Body>, ClassId) {
    let plan =
        Plan::new(Profile::Latency).with_announce(false).with_producers_max(1).with_cpus([load.cpus[1]]);
    let mut plan = plan.with_wait(Wait::Spin).with_burst(BURST as u32);
    let class =
        plan.class(Class::strict("only").with_capacity(CAPACITY as u32).with_stamp(Stamp::OneIn(64)).block());
    let engine = plan.start(Body::default, move |_| {
        let mut checker = Checker::starting_at(0);
        move |event: &mut Event<'_, Body>, _: &mut Context<'_, Body>| {
            checker.see(event.key().0, event);
            if checker.next() == load.events {
                checker.finish();
            }
        }
    });
    (engine.expect("a sound plan"), class)
}

/// Waits until every event is handled; nanoseconds an event.
fn finish(engine: &Engine<Body>, load: Load, start: Instant) -> f64 {
    while engine.ledger().total().handled < load.events {
        spin_loop();
    }
    let end = Instant::now();
    let report = engine.stop(Duration::from_secs(10)).expect("stopped once");
    // A checker that was not content has panicked, and that event counts as failed.
    assert!(report.ledger.is_closed() && report.ledger.total().handled == load.events);
    per_event_ns(start, end, load.events)
}

fn pelton(load: Load) -> f64 {
    let (engine, class) = engine(load);
    let mut tx = AsyncProducer::from(engine.attach().expect("room for one producer"));
    let start = task(load.cpus[0], async {
        let start = Instant::now();
        for i in 0..load.events {
            work(load.work, i);
            let publish = tx.publish(class, i & KEYS, |event| *event = Body::new(i, i & KEYS));
            publish.await.expect("the class blocks");
        }
        start
    });
    finish(&engine, load, start)
}

fn pelton_blocking(load: Load) -> f64 {
    let (engine, class) = engine(load);
    let mut tx = engine.attach().expect("room for one producer");
    pin(load.cpus[0]);
    let start = Instant::now();
    for i in 0..load.events {
        work(load.work, i);
        tx.publish(class, i & KEYS, |event| *event = Body::new(i, i & KEYS)).expect("the class blocks");
    }
    finish(&engine, load, start)
}

/// How the consumer of a channel waits.
#[derive(Clone, Copy, PartialEq)]
enum Recv {
    One,
    Many,
    /// It never sleeps, as our shard does not here.
    Spin,
}

fn tokio_mpsc(load: Load, recv: Recv) -> f64 {
    let (tx, mut rx) = tokio::sync::mpsc::channel::<Element>(CAPACITY);
    let consumer = std::thread::spawn(move || {
        task(load.cpus[1], async move {
            let mut checker = Checker::starting_at(0);
            let mut events = Vec::with_capacity(BURST);
            while checker.next() < load.events {
                match recv {
                    Recv::One => {
                        let event = rx.recv().await.expect("the producer is there");
                        checker.see(event.key, &event.body);
                    }
                    Recv::Many => {
                        rx.recv_many(&mut events, BURST).await;
                        events.drain(..).for_each(|event| checker.see(event.key, &event.body));
                    }
                    Recv::Spin => match rx.try_recv() {
                        Ok(event) => checker.see(event.key, &event.body),
                        Err(_) => spin_loop(),
                    },
                }
            }
            checker.finish();
            Instant::now()
        })
    });
    let start = task(load.cpus[0], async move {
        let start = Instant::now();
        for i in 0..load.events {
            work(load.work, i);
            tx.send(Element::new(i, i & KEYS)).await.expect("the consumer is there");
        }
        start
    });
    per_event_ns(start, consumer.join().expect("the consumer panicked"), load.events)
}

fn kanal(load: Load, recv: Recv) -> f64 {
    let (tx, rx) = kanal::bounded_async::<Element>(CAPACITY);
    let consumer = std::thread::spawn(move || {
        task(load.cpus[1], async move {
            let mut checker = Checker::starting_at(0);
            while checker.next() < load.events {
                let event = if recv == Recv::Spin { rx.try_recv() } else { rx.recv().await.map(Some) };
                match event.expect("the producer is there") {
                    Some(event) => checker.see(event.key, &event.body),
                    None => spin_loop(),
                }
            }
            checker.finish();
            Instant::now()
        })
    });
    let start = task(load.cpus[0], async move {
        let start = Instant::now();
        for i in 0..load.events {
            work(load.work, i);
            tx.send(Element::new(i, i & KEYS)).await.expect("the consumer is there");
        }
        start
    });
    per_event_ns(start, consumer.join().expect("the consumer panicked"), load.events)
}

fn main() {
    let settings = bench_settings();
    let events = settings.events.unwrap_or(1_000_000);
    let cpus = machine::choose();
    let [first, second, ..] = cpus[..] else { panic!("this bench needs two CPUs") };
    let cpus = [first, second];
    println!(
        "async: {}, CPUs {cpus:?}; {} rounds after a warm-up, {events} events each",
        machine::model().unwrap_or_default(),
        settings.rounds
    );
    let mut points = Vec::new();
    for work in [0, 10, 20, 40] {
        let load = Load { cpus, events, work };
        let peers = vec![
            Peer::ours("pelton AsyncProducer", move || pelton(load)),
            Peer::other("tokio mpsc, recv_many", move || tokio_mpsc(load, Recv::Many)),
            Peer::other("tokio mpsc, recv", move || tokio_mpsc(load, Recv::One)),
            Peer::other("tokio mpsc, try_recv, spins", move || tokio_mpsc(load, Recv::Spin)),
            Peer::other("kanal async, recv", move || kanal(load, Recv::One)),
            Peer::other("kanal async, try_recv, spins", move || kanal(load, Recv::Spin)),
            Peer::baseline("pelton Producer, a thread", move || pelton_blocking(load)),
        ];
        let label = format!("{work} multiplications");
        let runs = alternate(settings.rounds, &label, peers, &mut |_| ()).expect("every run ends well");
        let limits = [
            Limit::ratio("ours / tokio mpsc, recv_many", &runs[0], &runs[1], TOKIO_LIMIT, GOAL),
            Limit::ratio("ours / tokio mpsc, recv", &runs[0], &runs[2], TOKIO_LIMIT, GOAL),
            Limit::ratio("ours / kanal async, recv", &runs[0], &runs[4], KANAL_LIMIT, GOAL),
        ];
        points.push(Point::new(work as f64, label, &runs, limits));
    }
    let table = Table {
        what: "An event from a task to its consumer".into(),
        unit: Unit::NsPerEvent,
        axis: Some("dependent multiplications before each event".into()),
        points,
    };
    print!("{table}");
}
