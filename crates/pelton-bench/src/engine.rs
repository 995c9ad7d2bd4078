//! What does a whole engine cost an event, against a bare disruptor that does nothing but hand it over?
//!
//! The engine: one producer, one shard, keyed routing, three classes in turn (one strict, two weighted), the exact
//! ledger, and stamps on one event in 64, on none, or on every event. The disruptor: one ring, no classes, no keys, no
//! ledger, no stamps.

use super::answer::{Answer, Limit, Point, Table, Unit};
use super::event::{Body, Checker, KEYS, per_event_ns, work};
use super::peers;
use super::rounds::{Estimate, Peer, Runs};
use super::settings::{Bench, Load, MeasureError, Spec};
use pelton::class::{Class, Stamp};
use pelton::event::Verdict;
use pelton::shard::{Context, Event, Handler, pin};
use std::time::{Duration, Instant};

pub(crate) const SPEC: Spec = Spec {
    name: "engine",
    asks: "What does a whole engine cost an event, against a bare disruptor that only hands it over?",
    hint: "the engine routes by key, serves three classes, counts all of it and stamps; the disruptor does none of this",
    events: 3_000_000,
    cpus_max: 2,
    capacity: Some(1_024),
    waits: true,
    burst: Some(64),
};

/// Multiplications before each event, and the ratio to the disruptor that must hold there, and should.
const SWEEP: [(u64, f64, f64); 4] = [(0, 1.0, 0.6), (10, 0.5, 0.35), (20, 0.6, 0.45), (40, 0.8, 0.7)];

/// What a stamp on every event may cost beside one on 1 in 64, in nanoseconds an event, and what it should.
const STAMP_LIMIT_NS: f64 = 10.0;
const STAMP_GOAL_NS: f64 = 5.0;

/// How long an engine may take to handle what is left in its lanes.
pub(super) const STOP: Duration = Duration::from_secs(10);

/// The check of each class, whose order is what the engine promises.
pub(super) struct Checkers(pub Vec<Checker>);

impl Handler<Body> for Checkers {
    type Output = Vec<Checker>;

    #[inline]
    fn on_event(&mut self, event: &mut Event<'_, Body>, _: &mut Context<'_, Body>) -> Verdict {
        self.0[event.class().index()].see(event.key().0, event);
        Verdict::Done
    }

    fn on_stop(self, _: &mut Context<'_, Body>) -> Vec<Checker> {
        self.0
    }
}

fn engine(load: Load, stamp: Stamp) -> f64 {
    let mut plan = load.plan();
    let class = |class: Class| class.with_capacity(load.capacity).with_stamp(stamp);
    let classes = [
        plan.class(class(Class::strict("a"))),
        plan.class(class(Class::weighted("b", 1))),
        plan.class(class(Class::weighted("c", 1))),
    ];
    let checkers = |_| Checkers((0..3).map(|class| Checker::every(class, 3)).collect());
    let engine = plan.start(Body::default, checkers).expect("the plan was checked");
    pin(load.cpus[0]);
    let mut tx = engine.attach().expect("room for one producer");
    let start = Instant::now();
    let mut class = 0;
    for i in 0..load.events {
        work(load.work, i);
        tx.publish(classes[class], i & KEYS, |event| *event = Body::new(i, i & KEYS)).expect("classes block");
        class = if class == 2 { 0 } else { class + 1 };
    }
    while engine.ledger().total().handled < load.events {
        std::hint::spin_loop();
    }
    let end = Instant::now();
    drop(tx);
    let mut report = engine.stop(STOP).expect("stopped once");
    assert!(report.ledger.is_closed(), "the ledger is not closed");
    assert_eq!(report.ledger.total().handled, load.events, "events handled");
    report.outputs::<Vec<Checker>>().into_iter().flatten().for_each(Checker::finish);
    per_event_ns(start, end, load.events)
}

pub(super) fn ask(bench: &mut Bench<'_>) -> Result<Answer, MeasureError> {
    let mut points = Vec::new();
    for (work, limit, goal) in SWEEP {
        let load = bench.load().with_work(work);
        let peers = vec![
            Peer::ours("pelton engine, stamps 1 in 64", move || engine(load, Stamp::OneIn(64))),
            Peer::ours("pelton engine, stamps never", move || engine(load, Stamp::Never)),
            Peer::ours("pelton engine, every event stamped", move || engine(load, Stamp::Every)),
            Peer::other("bare disruptor, publish", move || peers::disruptor(load)),
            Peer::baseline("the producer's work alone", move || peers::work_alone(load)),
        ];
        let label = format!("{work} multiplications");
        let runs = bench.alternate(&label, peers)?;
        let limits = [Limit::ratio("engine / disruptor", &runs[0], &runs[3], limit, goal), stamps(&runs)];
        points.push(Point::new(work as f64, label, &runs, limits));
    }
    let table = Table {
        what: "One event from its producer through its handler".into(),
        unit: Unit::NsPerEvent,
        axis: Some("dependent multiplications before each event".into()),
        points,
    };
    Ok(Answer::new(bench, vec![table]))
}

/// What stamping every event costs beside stamping 1 in 64.
fn stamps(runs: &[Runs]) -> Option<Limit> {
    let more = Estimate::of_pairs(&runs[2].runs, &runs[0].runs, |every, sampled| every - sampled)?;
    Some(Limit::new("a stamp on every event", Unit::NsPerEvent, more, STAMP_LIMIT_NS, STAMP_GOAL_NS))
}
