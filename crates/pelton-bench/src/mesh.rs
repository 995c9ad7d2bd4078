//! How long does a request and its reply take, shard to shard and lane to lane, beside the bare cache line?
//!
//! Two pinned threads, one event under way at a time. The bare line: two words, each stored by one side and polled by
//! the other; nothing that two CPUs do together can be faster. `rtrb` and `crossbeam-channel` with both sides spinning.
//! Each trip holds one reading of the clock, which is measured too.

use super::answer::{Answer, Limit, Point, Table, Unit};
use super::engine::STOP;
use super::event::{Body, Checker, Element};
use super::rounds::{Peer, Runs};
use super::settings::{Bench, Load, MeasureError, Spec};
use pelton::class::{Class, ClassId, Stamp};
use pelton::clock::Clock;
use pelton::event::{ShardId, Verdict};
use pelton::lane::lane;
use pelton::park::Pacer;
use pelton::shard::{Context, Event, Handler};
use pelton_cli::doctor::probe;
use std::hint::spin_loop;
use std::sync::mpsc;
use std::time::Duration;

pub(crate) const SPEC: Spec = Spec {
    name: "mesh",
    asks: "How long does a request and its reply take, shard to shard, beside the bare cache line there and back?",
    hint: "nothing that two CPUs do together is faster than the bare line; each figure holds one reading of the clock",
    events: 200_000,
    cpus_max: 2,
    capacity: Some(1_024),
    waits: true,
    burst: None,
};

/// Keys of the requests.
const KEYS: u64 = 7;

/// What is told of all trips of a run: its name, the quantile, and what ours may be of the bare line, and should.
const QUANTILES: [(&str, f64, f64, f64); 2] = [("p50", 0.5, 1.2, 1.08), ("p99", 0.99, 1.5, 1.2)];

/// The quantiles of single trips, in nanoseconds, of their ticks.
fn quantiles(clock: &Clock, trips: Vec<u64>) -> [f64; 2] {
    probe::quantiles(clock, trips, QUANTILES.map(|(_, quantile, ..)| quantile))
}

/// Asks `load.events` times on this thread, while `echo` answers on the other.
fn trips(load: Load, echo: impl FnOnce() + Send + 'static, trip: impl FnMut(u64)) -> [f64; 2] {
    let clock = Clock::real();
    let ask = || probe::timed(&clock, load.events, u64::MAX, trip);
    let (trips, _) = probe::pair(load.cpus, echo, ask).expect("a second thread");
    quantiles(&clock, trips)
}

fn bare(load: Load) -> [f64; 2] {
    let clock = Clock::real();
    let (trips, _) = probe::bare(&clock, load.cpus, load.events, Duration::MAX).expect("a second thread");
    quantiles(&clock, trips)
}

fn lanes(load: Load) -> [f64; 2] {
    let class = Class::strict("only").with_capacity(load.capacity).with_stamp(Stamp::Never);
    let make = || lane(&class, Body::default).expect("a lane of a checked capacity");
    let ((mut ask, mut asked), (mut reply, mut replied)) = (make(), make());
    let echo = move || {
        let mut checker = Checker::starting_at(1);
        let mut pace = Pacer::default();
        for _ in 0..load.events {
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
            reply.publish(body.extra, |event| *event = body).expect("one event at a time");
            pace.after(1);
        }
        checker.finish();
    };
    let mut checker = Checker::starting_at(1);
    let figures = trips(load, echo, |i| {
        ask.publish(i & KEYS, |event| *event = Body::new(i, i & KEYS)).expect("one event at a time");
        while replied.poll(1, |event| checker.see(event.key(), event)) == 0 {
            spin_loop();
        }
    });
    checker.finish();
    figures
}

/// Shard 0 asks over the mesh and takes the time, shard 1 answers over the mesh.
struct Trips {
    class: ClassId,
    trips: Vec<u64>,
    begun: u64,
    events: u64,
    checker: Checker,
    done: mpsc::Sender<(Vec<u64>, Checker)>,
}

impl Trips {
    /// Says whether the request went out: with one event under way it always does.
    fn ask(&mut self, context: &mut Context<'_, Body>) -> bool {
        let i = self.checker.next();
        self.begun = context.clock().ticks();
        context.emit_to(ShardId(1), self.class, i & KEYS, &[], |ask| *ask = Body::new(i, i & KEYS)).is_ok()
    }
}

impl Handler<Body> for Trips {
    type Output = ();

    fn on_event(&mut self, event: &mut Event<'_, Body>, context: &mut Context<'_, Body>) -> Verdict {
        if context.shard() == ShardId(1) {
            let body = **event;
            return match context.emit_to(ShardId(0), self.class, body.extra, &[], |reply| *reply = body) {
                Ok(_) => Verdict::Done,
                Err(_) => Verdict::Retry,
            };
        }
        // Event 0 comes from outside and begins it all.
        if event.sequence > 0 {
            self.trips.push(context.clock().ticks().saturating_sub(self.begun));
            self.checker.see(event.key().0, event);
        }
        let is_asked = self.checker.next() <= self.events && self.ask(context);
        if !is_asked {
            // Nobody listens any more where the run has failed.
            let _ = self.done.send((std::mem::take(&mut self.trips), self.checker));
        }
        Verdict::Done
    }

    fn on_stop(self, _: &mut Context<'_, Body>) {}
}

fn shards(load: Load) -> [f64; 2] {
    let mut plan = load.plan().with_shards(2).with_cpus(load.cpus).with_mesh(true);
    let class = plan.class(Class::strict("only").with_capacity(load.capacity).with_stamp(Stamp::Never));
    let (done, end) = mpsc::channel();
    let handler = move |_| Trips {
        class,
        trips: Vec::with_capacity(load.events as usize),
        begun: 0,
        events: load.events,
        checker: Checker::starting_at(1),
        done: done.clone(),
    };
    let engine = plan.start(Body::default, handler).expect("the plan was checked");
    let mut tx = engine.attach().expect("room for one producer");
    tx.publish_to(ShardId(0), class, 0, |event| *event = Body::new(0, 0)).expect("an empty lane");
    let (trips, checker) = end.recv().expect("a shard panicked");
    drop(tx);
    let report = engine.stop(STOP).expect("stopped once");
    assert!(report.ledger.is_closed(), "the ledger is not closed");
    assert_eq!(report.ledger.total().handled, 2 * load.events + 1, "events handled");
    checker.finish();
    quantiles(engine.clock(), trips)
}

fn rtrb(load: Load) -> [f64; 2] {
    let make = || rtrb::RingBuffer::<Element>::new(load.capacity as usize);
    let ((mut ask, mut asked), (mut reply, mut replied)) = (make(), make());
    let pop = |from: &mut rtrb::Consumer<Element>| loop {
        match from.pop() {
            Ok(element) => return element,
            Err(_) => spin_loop(),
        }
    };
    let echo = move || {
        let mut checker = Checker::starting_at(1);
        for _ in 0..load.events {
            let element = pop(&mut asked);
            checker.see(element.key, &element.body);
            reply.push(element).expect("one event at a time");
        }
        checker.finish();
    };
    let mut checker = Checker::starting_at(1);
    let figures = trips(load, echo, |i| {
        ask.push(Element::new(i, i & KEYS)).expect("one event at a time");
        let element = pop(&mut replied);
        checker.see(element.key, &element.body);
    });
    checker.finish();
    figures
}

fn channel(load: Load) -> [f64; 2] {
    let make = || crossbeam_channel::bounded::<Element>(load.capacity as usize);
    let ((ask, asked), (reply, replied)) = (make(), make());
    let receive = |from: &crossbeam_channel::Receiver<Element>| loop {
        match from.try_recv() {
            Ok(element) => return element,
            Err(_) => spin_loop(),
        }
    };
    let echo = move || {
        let mut checker = Checker::starting_at(1);
        for _ in 0..load.events {
            let element = receive(&asked);
            checker.see(element.key, &element.body);
            reply.try_send(element).expect("one event at a time");
        }
        checker.finish();
    };
    let mut checker = Checker::starting_at(1);
    let figures = trips(load, echo, |i| {
        ask.try_send(Element::new(i, i & KEYS)).expect("one event at a time");
        let element = receive(&replied);
        checker.see(element.key, &element.body);
    });
    checker.finish();
    figures
}

pub(super) fn ask(bench: &mut Bench<'_>) -> Result<Answer, MeasureError> {
    let load = bench.load();
    let peers = vec![
        Peer::ours("pelton, shard to shard", move || shards(load)),
        Peer::ours("pelton, lane to lane", move || lanes(load)),
        Peer::baseline("the bare cache line", move || bare(load)),
        Peer::other("rtrb, push and pop", move || rtrb(load)),
        Peer::other("crossbeam-channel", move || channel(load)),
        Peer::baseline("the clock's reading alone", move || trips(load, || (), |_| ())),
    ];
    let runs = bench.alternate("one at a time", peers)?;
    let tables = QUANTILES.iter().enumerate().map(|(at, (name, _, limit, goal))| {
        let runs: Vec<Runs> = runs.iter().map(|runs| runs.figure(at)).collect();
        let limit = Limit::ratio("shard to shard / the bare line", &runs[0], &runs[2], *limit, *goal);
        Table {
            what: format!("A request and its reply, {name}"),
            unit: Unit::Ns,
            axis: None,
            points: vec![Point::new(0.0, "", &runs, [limit])],
        }
    });
    let tables = tables.collect();
    Ok(Answer::new(bench, tables))
}
