//! How many events a second do several producers bring through one shard?
//!
//! Pelton gives each producer a lane of its own, so no producer waits for another. The disruptor's producers claim from one
//! sequence, and the channel's senders from one tail. Events of each producer are checked for their order.
//!
//! The consumer has a CPU of its own; producers have the others in turn. Where they are more than those, they share,
//! which is said: then it is the system's scheduler that is measured too.

use super::answer::{Answer, Point, Table, Unit};
use super::engine::STOP;
use super::event::{Body, Checker, Element, KEYS};
use super::rounds::Peer;
use super::settings::{Bench, CPUS_MAX, Load, MeasureError, Spec};
use pelton::class::{Class, Stamp};
use pelton::event::Verdict;
use pelton::shard::{Context, Event, Handler, pin};
use std::hint::spin_loop;
use std::sync::{Barrier, Mutex, mpsc};
use std::thread;
use std::time::Instant;

pub(crate) const SPEC: Spec = Spec {
    name: "producers",
    asks: "How many events a second do several producers bring through one shard?",
    hint: "all producers together; with a lane for each, they do not wait for each other",
    events: 2_000_000,
    cpus_max: CPUS_MAX,
    capacity: Some(1_024),
    waits: true,
    burst: None,
};

/// What runs need to know: each of `count` producers has a share of all events, and a CPU of `cpus`.
#[derive(Clone, Copy)]
struct Crowd<'a> {
    load: Load,
    count: u64,
    cpus: &'a [usize],
}

impl Crowd<'_> {
    /// Events of each producer; the same for all, so a few less than were asked for may be sent.
    fn each(&self) -> u64 {
        (self.load.events / self.count).max(1)
    }

    fn total(&self) -> u64 {
        self.each() * self.count
    }

    /// Runs all producers, each with what `make` gives it. Says when the first of them began: on a shared CPU the
    /// others, and this thread, may come to it much later.
    fn send<T: Send>(&self, mut make: impl FnMut(u64) -> T, send: impl Fn(&mut T, Body) + Sync) -> Instant {
        let ready = Barrier::new(self.count as usize);
        let begun = thread::scope(|scope| {
            let producers: Vec<_> = (0..self.count)
                .map(|producer| {
                    let mut with = make(producer);
                    let (ready, send, cpu) = (&ready, &send, self.cpus[producer as usize % self.cpus.len()]);
                    scope.spawn(move || {
                        pin(cpu);
                        ready.wait();
                        let start = Instant::now();
                        for i in 0..self.each() {
                            send(&mut with, Body::of(producer, i, i & KEYS));
                        }
                        start
                    })
                })
                .collect();
            producers.into_iter().map(|producer| producer.join().expect("a producer panicked")).min()
        });
        begun.expect("at least one producer")
    }

    /// Events a second, once the consumer has told what it saw.
    fn rate(&self, start: Instant, (end, checkers): (Instant, Vec<Checker>)) -> f64 {
        for checker in checkers {
            assert_eq!(checker.next(), self.each(), "events seen of one producer");
            checker.finish();
        }
        self.total() as f64 / end.saturating_duration_since(start).as_secs_f64().max(1e-9)
    }
}

/// The consumer of all: looks at every event, and tells when it has seen the last.
struct Witness {
    checkers: Vec<Checker>,
    left: u64,
    done: mpsc::Sender<(Instant, Vec<Checker>)>,
}

impl Witness {
    /// A witness, and where it tells.
    fn new(crowd: Crowd<'_>) -> (Self, mpsc::Receiver<(Instant, Vec<Checker>)>) {
        let (done, end) = mpsc::channel();
        let checkers = vec![Checker::starting_at(0); crowd.count as usize];
        (Witness { checkers, left: crowd.total(), done }, end)
    }

    #[inline]
    fn see(&mut self, key: u64, body: &Body) {
        self.checkers[body.producer as usize].see(key, body);
        self.left -= 1;
        if self.left == 0 {
            // Nobody listens any more where the run has failed.
            let _ = self.done.send((Instant::now(), std::mem::take(&mut self.checkers)));
        }
    }
}

impl Handler<Body> for Witness {
    type Output = ();

    #[inline]
    fn on_event(&mut self, event: &mut Event<'_, Body>, _: &mut Context<'_, Body>) -> Verdict {
        self.see(event.key().0, event);
        Verdict::Done
    }

    fn on_stop(self, _: &mut Context<'_, Body>) {}
}

fn pelton(crowd: Crowd<'_>) -> f64 {
    let mut plan = crowd.load.plan().with_producers_max(crowd.count as u16);
    let class = plan.class(Class::strict("only").with_capacity(crowd.load.capacity).with_stamp(Stamp::Never));
    let (witness, end) = Witness::new(crowd);
    // A plan makes a handler for each shard; there is one.
    let witness = Mutex::new(Some(witness));
    let handler = move |_| witness.lock().ok().and_then(|mut witness| witness.take()).expect("one shard");
    let engine = plan.start(Body::default, handler).expect("the plan was checked");
    let attach = |_| engine.attach().expect("room for each producer");
    let start = crowd.send(attach, |tx, body| {
        tx.publish(class, body.extra, |event| *event = body).expect("the class blocks");
    });
    let end = end.recv().expect("the shard panicked");
    let report = engine.stop(STOP).expect("stopped once");
    assert!(report.ledger.is_closed(), "the ledger is not closed");
    assert_eq!(report.ledger.total().handled, crowd.total(), "events handled");
    crowd.rate(start, end)
}

fn disruptor(crowd: Crowd<'_>) -> f64 {
    use disruptor::{BusySpin, Producer, build_multi_producer};
    let (mut witness, end) = Witness::new(crowd);
    // Its consumer thread inherits the mask of the thread that makes it.
    pin(crowd.load.cpus[1]);
    let producer = build_multi_producer(crowd.load.capacity as usize, Element::default, BusySpin)
        .handle_events_with(move |event: &Element, _, _| witness.see(event.key, &event.body))
        .build();
    let start = crowd.send(
        |_| producer.clone(),
        |tx, body| tx.publish(|event| *event = Element { key: body.extra, stamp: 0, body }),
    );
    crowd.rate(start, end.recv().expect("the consumer panicked"))
}

fn channel(crowd: Crowd<'_>) -> f64 {
    let (tx, rx) = crossbeam_channel::bounded::<Element>(crowd.load.capacity as usize);
    let (mut witness, end) = Witness::new(crowd);
    let cpu = crowd.load.cpus[1];
    let consumer = thread::spawn(move || {
        pin(cpu);
        while witness.left > 0 {
            match rx.try_recv() {
                Ok(event) => witness.see(event.key, &event.body),
                Err(_) => spin_loop(),
            }
        }
    });
    // `send` waits in the kernel when the channel stays full: where producers share a CPU, that is the fastest.
    let start = crowd.send(
        |_| tx.clone(),
        |tx, body| tx.send(Element { key: body.extra, stamp: 0, body }).expect("the consumer lives"),
    );
    consumer.join().expect("the consumer panicked");
    crowd.rate(start, end.recv().expect("the consumer panicked"))
}

pub(super) fn ask(bench: &mut Bench<'_>) -> Result<Answer, MeasureError> {
    let load = bench.load();
    let cpus: Vec<usize> = [bench.cpus[0]].iter().chain(&bench.cpus[2..]).copied().collect();
    let mut points = Vec::new();
    let mut count = 1;
    while count <= cpus.len().max(2) {
        let crowd = Crowd { load, count: count as u64, cpus: &cpus };
        let peers = vec![
            Peer::ours("pelton, a lane for each", move || pelton(crowd)),
            Peer::other("disruptor, many producers", move || disruptor(crowd)),
            Peer::other("crossbeam-channel", move || channel(crowd)),
        ];
        let label = if count == 1 { "1 producer".to_string() } else { format!("{count} producers") };
        let runs = bench.alternate(&label, peers)?;
        points.push(Point::new(count as f64, label, &runs, []));
        count *= 2;
    }
    let table = Table {
        what: "Events a second through one shard".into(),
        unit: Unit::EventsPerS,
        axis: Some("producers".into()),
        points,
    };
    let shared = format!(
        "with {} producers some share a CPU ({} for them, 1 for the shard): the system's scheduler is measured too",
        count / 2,
        cpus.len()
    );
    Ok(Answer::new(bench, vec![table]).warn(count / 2 > cpus.len(), shared))
}
