//! How long does a critical event wait while bulk events saturate the shard?
//!
//! One open-loop thread offers both: bulk at about twice what the shard can handle (200 ns an event), critical at a
//! fixed schedule. Latency is taken from the moment at which a critical event was *meant* to be sent, so a producer that
//! is held up does not flatter the figure. Beside it the same events through one shared queue (`crossbeam-channel`,
//! 65,536 slots), where critical events wait behind bulk ones.
//!
//! Without any bulk the same schedule shows what the machine itself does to a pair of spinning threads: what stands
//! there at p99.9 no scheduler of ours can better.
//!
//! The bound that the schedule promises: (burst + 1) × handler time; the bench compares p99.9 with twice that + 20 µs.

mod support;

use hdrhistogram::Histogram;
use pelton::class::Stamp;
use pelton::wait::Wait;
use pelton::{Class, Context, Event, Plan, Profile};
use std::time::{Duration, Instant};
use support::*;

const BURST: u32 = 16;
const HANDLER_NS: u64 = 200;
const CRITICAL_EVERY_NS: u64 = 20_000;

#[derive(Clone, Copy, Default)]
struct Offer {
    meant_ns: u64,
    critical: bool,
}

/// About 200 ns of work, the same for all: multiplications, counted out at start.
fn handler_work() -> u64 {
    pin(0);
    let probe = 200_000;
    let begun = Instant::now();
    work(probe, 1);
    probe * HANDLER_NS / (begun.elapsed().as_nanos() as u64).max(1)
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).unwrap()
}

/// Offers both classes for `span`; `send` offers one event and says whether it was taken.
fn offer(
    origin: Instant,
    span: Duration,
    with_bulk: bool,
    mut send: impl FnMut(Offer) -> bool,
) -> (u64, u64) {
    let (mut bulk_refused, mut critical) = (0, 0);
    // The schedule begins now: what was laid out before it is nobody's wait.
    let begun = origin.elapsed().as_nanos() as u64;
    let mut due = begun + CRITICAL_EVERY_NS;
    let mut bulk_due = begun;
    loop {
        let now = origin.elapsed().as_nanos() as u64;
        if now >= begun + span.as_nanos() as u64 {
            return (critical, bulk_refused);
        }
        while due <= now {
            while !send(Offer { meant_ns: due, critical: true }) {}
            critical += 1;
            due += CRITICAL_EVERY_NS;
        }
        while with_bulk && bulk_due <= now && due > now {
            bulk_refused += u64::from(!send(Offer { meant_ns: bulk_due, critical: false }));
            bulk_due += HANDLER_NS / 2;
            if (bulk_due - begun).is_multiple_of(1_600) {
                break;
            }
        }
    }
}

fn pelton(span: Duration, w: u64, with_bulk: bool) -> Histogram<u64> {
    let mut plan =
        Plan::new(Profile::Latency).burst(BURST).producers_max(1).cpus([cpus()[1]]).wait(Wait::Spin);
    let critical = plan.class(Class::strict("critical").capacity(1_024).block().stamp(Stamp::Never));
    let bulk = plan.class(Class::weighted("bulk", 1).capacity(65_536).drop_newest().stamp(Stamp::Never));
    let origin = Instant::now();
    struct Waits(Histogram<u64>, Instant, u64);
    impl pelton::Handler<Offer> for Waits {
        type Output = Histogram<u64>;
        fn on_event(&mut self, event: &mut Event<'_, Offer>, _: &mut Context<'_, Offer>) -> pelton::Verdict {
            if event.critical {
                let now = self.1.elapsed().as_nanos() as u64;
                self.0.saturating_record(now.saturating_sub(event.meant_ns).max(1));
            }
            work(self.2, event.meant_ns);
            pelton::Verdict::Done
        }
        fn on_stop(self, _: &mut Context<'_, Offer>) -> Histogram<u64> {
            self.0
        }
    }
    let engine = plan.start(Offer::default, move |_| Waits(histogram(), origin, w)).unwrap();
    pin(0);
    let mut tx = engine.attach().unwrap();
    let mut key = 0u64;
    let (sent, _) = offer(origin, span, with_bulk, |offer| {
        key += 1;
        let class = if offer.critical { critical } else { bulk };
        tx.publish(class, key, |event| *event = offer) == Ok(pelton::Outcome::Accepted)
    });
    drop(tx);
    let mut report = engine.stop(Duration::from_secs(10)).unwrap();
    assert!(report.ledger.is_closed());
    assert_eq!(report.ledger.class(critical).handled, sent);
    let saturated = report.ledger.class(bulk).rejected_total() > 0;
    assert!(saturated == with_bulk, "bulk did not saturate the shard");
    report.outputs().pop().unwrap()
}

fn channel(span: Duration, w: u64) -> Histogram<u64> {
    let (tx, rx) = crossbeam_channel::bounded::<Offer>(65_536);
    let origin = Instant::now();
    let consumer = std::thread::spawn(move || {
        pin(1);
        let mut waits = histogram();
        loop {
            match rx.try_recv() {
                Ok(event) => {
                    if event.critical {
                        let now = origin.elapsed().as_nanos() as u64;
                        waits.saturating_record(now.saturating_sub(event.meant_ns).max(1));
                    }
                    work(w, event.meant_ns);
                }
                Err(crossbeam_channel::TryRecvError::Empty) => std::hint::spin_loop(),
                Err(crossbeam_channel::TryRecvError::Disconnected) => return waits,
            }
        }
    });
    pin(0);
    offer(origin, span, true, |offer| tx.try_send(offer).is_ok());
    drop(tx);
    consumer.join().unwrap()
}

fn main() {
    banner("priority: critical events while bulk saturates the shard; nanoseconds from the intended time");
    let span = Duration::from_millis(events(1_000));
    let w = std::thread::spawn(handler_work).join().unwrap();
    let bound = 2 * (u64::from(BURST) + 1) * HANDLER_NS + 20_000;
    println!("burst {BURST}, handler about {HANDLER_NS} ns, bound for p99.9: {bound} ns");
    for (name, quantile) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
        let figures = alternate(vec![
            Peer::new("pelton, critical above bulk", || {
                pelton(span, w, true).value_at_quantile(quantile) as f64
            }),
            Peer::new("pelton, no bulk at all", || pelton(span, w, false).value_at_quantile(quantile) as f64),
            Peer::new("crossbeam-channel, one queue", || channel(span, w).value_at_quantile(quantile) as f64),
        ]);
        table(&format!("{name} of a critical event's wait"), &figures);
    }
}
