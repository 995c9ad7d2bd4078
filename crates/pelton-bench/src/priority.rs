//! How long does a critical event wait while bulk events saturate the shard?
//!
//! One open-loop thread offers both: bulk at about twice what the shard can handle (200 ns an event), critical on a
//! fixed schedule. The wait is taken from the moment at which a critical event was *meant* to be sent, so a producer
//! that is held up does not flatter the figure. Beside it the same events through one shared queue, where critical
//! events wait behind bulk ones.
//!
//! Without any bulk the same schedule shows what the machine itself does to a pair of spinning threads: what stands
//! there at p99.9 no schedule can better.

use super::answer::{Answer, Limit, Point, Table, Unit};
use super::engine::STOP;
use super::event::{per_event_ns, work};
use super::rounds::{Estimate, Peer, Runs};
use super::settings::{Bench, Load, MeasureError, Spec};
use hdrhistogram::Histogram;
use pelton::class::{Class, Stamp};
use pelton::event::{Outcome, Verdict};
use pelton::shard::{Context, Event, Handler, pin};
use std::time::Instant;

pub(crate) const SPEC: Spec = Spec {
    name: "priority",
    asks: "How long does a critical event wait while bulk events saturate the shard?",
    hint: "from the moment at which it was meant to be sent; what stands there without any bulk is the machine's own doing",
    events: 50_000,
    cpus_max: 2,
    capacity: None,
    waits: true,
    burst: Some(16),
};

/// What the handler takes for each event.
const HANDLER_NS: u64 = 200;
/// The schedule of critical events.
const CRITICAL_EVERY_NS: u64 = 20_000;
/// Slots for bulk events, and of the shared queue.
const BULK_CAPACITY: u32 = 65_536;
/// Slots for critical events.
const CRITICAL_CAPACITY: u32 = 1_024;

const QUANTILES: [(&str, f64); 3] = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)];

#[derive(Clone, Copy, Default)]
struct Offer {
    meant_ns: u64,
    critical: bool,
}

/// The multiplications that a handler does in [`HANDLER_NS`] on this machine.
fn handler_work(cpu: usize) -> u64 {
    const PROBE: u64 = 200_000;
    let probe = std::thread::spawn(move || {
        pin(cpu);
        let begun = Instant::now();
        work(PROBE, 1);
        per_event_ns(begun, Instant::now(), PROBE)
    });
    let each_ns = probe.join().unwrap_or(1.0);
    (HANDLER_NS as f64 / each_ns.max(0.01)) as u64
}

/// What a handler does: it takes a critical event's wait, and works.
struct Waits {
    waits: Histogram<u64>,
    origin: Instant,
    work: u64,
}

impl Waits {
    fn new(origin: Instant, work: u64) -> Self {
        let waits = Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("bounds that can be");
        Waits { waits, origin, work }
    }

    fn handle(&mut self, offer: &Offer) {
        if offer.critical {
            let now = self.origin.elapsed().as_nanos() as u64;
            self.waits.saturating_record(now.saturating_sub(offer.meant_ns).max(1));
        }
        work(self.work, offer.meant_ns);
    }
}

impl Handler<Offer> for Waits {
    type Output = Histogram<u64>;

    fn on_event(&mut self, event: &mut Event<'_, Offer>, _: &mut Context<'_, Offer>) -> Verdict {
        self.handle(event);
        Verdict::Done
    }

    fn on_stop(self, _: &mut Context<'_, Offer>) -> Histogram<u64> {
        self.waits
    }
}

/// What was offered.
#[derive(Default)]
struct Offered {
    critical: u64,
    bulk_refused: u64,
}

/// Offers both classes on their schedules; `send` offers one event and says whether it was taken.
fn offer(load: Load, origin: Instant, with_bulk: bool, mut send: impl FnMut(Offer) -> bool) -> Offered {
    let mut offered = Offered::default();
    // The schedule begins now: what was laid out before it is nobody's wait.
    let begun = origin.elapsed().as_nanos() as u64;
    let mut due = begun + CRITICAL_EVERY_NS;
    let mut bulk_due = begun;
    while offered.critical < load.events {
        let now = origin.elapsed().as_nanos() as u64;
        while due <= now && offered.critical < load.events {
            while !send(Offer { meant_ns: due, critical: true }) {}
            offered.critical += 1;
            due += CRITICAL_EVERY_NS;
        }
        // A few at a time, with a look at the critical schedule in between.
        for _ in 0..16 {
            if !with_bulk || bulk_due > now {
                break;
            }
            offered.bulk_refused += u64::from(!send(Offer { meant_ns: bulk_due, critical: false }));
            bulk_due += HANDLER_NS / 2;
        }
    }
    offered
}

/// The quantiles of the waits, and how many bulk events were refused.
type Waited = [f64; 4];

fn waited(waits: &Histogram<u64>, offered: &Offered) -> Waited {
    assert_eq!(waits.len(), offered.critical, "critical events handled");
    let [p50, p99, p999] = QUANTILES.map(|(_, quantile)| waits.value_at_quantile(quantile) as f64);
    [p50, p99, p999, offered.bulk_refused as f64]
}

fn pelton(load: Load, with_bulk: bool) -> Waited {
    let mut plan = load.plan();
    let critical =
        Class::strict("critical").with_capacity(CRITICAL_CAPACITY).block().with_stamp(Stamp::Never);
    let bulk = Class::weighted("bulk", 1).with_capacity(BULK_CAPACITY).drop_newest().with_stamp(Stamp::Never);
    let (critical, bulk) = (plan.class(critical), plan.class(bulk));
    let origin = Instant::now();
    let engine =
        plan.start(Offer::default, move |_| Waits::new(origin, load.work)).expect("the plan was checked");
    pin(load.cpus[0]);
    let mut tx = engine.attach().expect("room for one producer");
    let mut key = 0u64;
    let offered = offer(load, origin, with_bulk, |offer| {
        key += 1;
        let class = if offer.critical { critical } else { bulk };
        tx.publish(class, key, |event| *event = offer) == Ok(Outcome::Accepted)
    });
    drop(tx);
    let mut report = engine.stop(STOP).expect("stopped once");
    assert!(report.ledger.is_closed(), "the ledger is not closed");
    assert_eq!(report.ledger.class(critical).handled, offered.critical, "critical events handled");
    let waits: Histogram<u64> = report.outputs().pop().expect("one shard");
    waited(&waits, &offered)
}

fn channel(load: Load) -> Waited {
    let (tx, rx) = crossbeam_channel::bounded::<Offer>(BULK_CAPACITY as usize);
    let origin = Instant::now();
    let consumer = std::thread::spawn(move || {
        pin(load.cpus[1]);
        let mut waits = Waits::new(origin, load.work);
        loop {
            match rx.try_recv() {
                Ok(offer) => waits.handle(&offer),
                Err(crossbeam_channel::TryRecvError::Empty) => std::hint::spin_loop(),
                Err(crossbeam_channel::TryRecvError::Disconnected) => return waits.waits,
            }
        }
    });
    pin(load.cpus[0]);
    let offered = offer(load, origin, true, |offer| tx.try_send(offer).is_ok());
    drop(tx);
    waited(&consumer.join().expect("the consumer panicked"), &offered)
}

/// The schedule's promise is a wait of at most (burst + 1) × handler; twice that, and some for the machine.
fn bound_ns(burst: u32) -> f64 {
    (2 * (u64::from(burst) + 1) * HANDLER_NS + 20_000) as f64
}

pub(super) fn ask(bench: &mut Bench<'_>) -> Result<Answer, MeasureError> {
    let load = bench.load().with_work(handler_work(bench.cpus[1]));
    let peers = vec![
        Peer::ours("pelton, critical above bulk", move || pelton(load, true)),
        Peer::ours("pelton, no bulk at all", move || pelton(load, false)),
        Peer::other("crossbeam-channel, one queue", move || channel(load)),
    ];
    let runs = bench.alternate("waits", peers)?;
    let table = |(at, (name, _)): (usize, &(&str, f64))| {
        let runs: Vec<Runs> = runs.iter().map(|runs| runs.figure(at)).collect();
        // The schedule bounds the wait of each event; the few behind p99 meet what the machine does as well.
        let bound = bound_ns(load.burst);
        let limit = Estimate::of(&runs[0].runs).filter(|_| at == 1).map(|measured| {
            Limit::new("the wait that the schedule promises", Unit::Ns, measured, bound, bound / 2.0)
        });
        Table {
            what: format!("A critical event's wait, {name}"),
            unit: Unit::Ns,
            axis: None,
            points: vec![Point::new(0.0, "", &runs, [limit])],
        }
    };
    let tables = QUANTILES.iter().enumerate().map(table).collect();
    let is_idle = runs[0].figure(3).runs.contains(&0.0);
    Ok(Answer::new(bench, tables)
        .note(format!("handler about {HANDLER_NS} ns; bulk is offered at twice what it can take"))
        .warn(is_idle, "bulk did not fill its lane in every run: with more events it would"))
}
