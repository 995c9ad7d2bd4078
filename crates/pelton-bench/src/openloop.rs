//! Open-loop runs: each event has its time, and its latency counts from that time, whether it was sent then or not.
//!
//! # Mechanism
//! ```text
//!   sender: spins on the clock until event i is due ─▶ hand-off ─▶ receiver: reads the clock, checks, writes the wait down
//!            due(i) = start + i / rate                              wait = its clock − due(i)
//! ```
//! A sender that is held up sends what is overdue at once, and the schedule never moves: so a stall counts for every
//! event that it delayed. A rate of [`FLAT_OUT`] has all events due at the start: what is handed over then is the
//! *capacity*, with the same readings of the clock in it.
//!
//! # Fairness
//! All contenders have the same sender's loop, the same receiver's look at each event, the same element of 64 bytes and
//! the same capacity; both threads are pinned and spin. Waits are written one after the other into memory that was
//! touched before, and made a histogram of after the run. What fills a ring for the first two times finds cold memory,
//! and does not count. The clocks of two CPUs may differ by as much as a hand-off takes: how much is asked before the
//! runs, and taken off the waits of all.
//!
//! | contender | how it is used |
//! |---|---|
//! | lane | `publish`, `poll` of up to 64 without a pace, its ledger on |
//! | engine | keyed routing, three classes in turn, ledger, stamps on 1 event in 64; its shard spins |
//! | `disruptor` | single producer, `BusySpin`, `publish`; the consumer's thread is its own |
//! | `crossbeam-channel` | `bounded`, `try_send` and `try_recv`, both spinning |
//! | the harness alone | the sender looks at its own event: pacing and two readings of the clock |

use super::engine::STOP;
use super::event::{Body, Checker, Element, KEYS};
use super::peers::BATCH;
use super::rounds::Peer;
use super::settings::Load;
use crossbeam_utils::CachePadded;
use hdrhistogram::Histogram;
use pelton::class::{Class, Stamp};
use pelton::clock::Clock;
use pelton::event::Verdict;
use pelton::lane::lane as lane_of;
use pelton::shard::{Context, Event, Handler, pin};
use std::hint::spin_loop;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::Duration;

/// As fast as events are taken.
pub const FLAT_OUT: f64 = f64::INFINITY;

/// Significant digits of the histograms.
const DIGITS: u8 = 3;

/// What one run gave.
#[derive(Clone, Debug)]
pub struct Shot {
    /// Nanoseconds from the time that an event was due until its receiver had it, by one clock; at most 4.29 s.
    pub waits_ns: Histogram<u64>,
    /// Events a second, from the start to the last event received.
    pub achieved_per_s: f64,
}

/// An empty histogram for the waits of any number of runs.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, u32::MAX.into(), DIGITS).expect("the bounds are constant and valid")
}

/// The receiver of all: takes the time, checks, writes down.
#[derive(Debug)]
struct Probe {
    clock: Clock,
    /// One for each class, where there are several.
    checkers: Vec<Checker>,
    /// In ticks; between two CPUs it may seem that an event came before it was sent.
    waits: Box<[i64]>,
    seen: u64,
    last: u64,
}

impl Probe {
    fn new(load: Load, classes: u64) -> Self {
        Probe {
            clock: Clock::real(),
            checkers: (0..classes).map(|class| Checker::every(class, classes)).collect(),
            // Any value but zero: a page of zeros would be mapped only when it is first written to.
            waits: vec![-1; load.events as usize].into_boxed_slice(),
            seen: 0,
            last: 0,
        }
    }

    #[inline(always)]
    fn see(&mut self, class: usize, key: u64, body: &Body) {
        let now = self.clock.ticks();
        self.checkers[class].see(key, body);
        // An event that was torn has no place; the checker has counted it.
        if let Some(wait) = self.waits.get_mut(body.sequence as usize) {
            *wait = now.wrapping_sub(body.value) as i64;
        }
        self.seen += 1;
        self.last = now;
    }

    /// What came of a run that began at `start`, where the receiver's clock is ahead by `skew_ticks`.
    ///
    /// # Panics
    /// If an event was lost, doubled, out of order or torn.
    fn finish(self, load: Load, start: u64, skew_ticks: i64) -> Shot {
        assert_eq!(self.seen, load.events, "events seen");
        self.checkers.into_iter().for_each(Checker::finish);
        let cold = (2 * load.capacity as usize).min(self.waits.len() / 2);
        let mut waits_ns = histogram();
        for wait in &self.waits[cold..] {
            let ticks = wait.saturating_sub(skew_ticks).max(0) as u64;
            waits_ns.saturating_record(self.clock.nanos_between(0, ticks).max(1));
        }
        let span_ns = self.clock.nanos_between(start, self.last).max(1);
        Shot { waits_ns, achieved_per_s: load.events as f64 * 1e9 / span_ns as f64 }
    }
}

/// A rate, and by how many ticks the receiver's clock is ahead of the sender's.
#[derive(Clone, Copy, Debug)]
struct Rate {
    per_s: f64,
    skew_ticks: i64,
}

/// By how much the clock of the second CPU is ahead of the first one's: half of what a word takes longer there than
/// back, by the quickest of many trips each way. Both ways take as long, since one line is passed.
fn skew_ticks(cpus: [usize; 2]) -> i64 {
    const TRIPS: u64 = 5_000;
    let words = Arc::new([const { CachePadded::new(AtomicU64::new(0)) }; 2]);
    let seen_at = Arc::new(CachePadded::new(AtomicU64::new(0)));
    let (other, tell) = (words.clone(), seen_at.clone());
    let wait_for = |word: &AtomicU64, trip: u64| {
        // SYNC: skew (Acquire); pairs with the stores of both sides.
        while word.load(Ordering::Acquire) != trip {
            spin_loop();
        }
    };
    let echo = thread::spawn(move || {
        pin(cpus[1]);
        let clock = Clock::real();
        for trip in 1..=TRIPS {
            wait_for(&other[0], trip);
            tell.store(clock.ticks(), Ordering::Relaxed);
            // SYNC: skew (Release).
            other[1].store(trip, Ordering::Release);
        }
    });
    let asker = thread::spawn(move || {
        pin(cpus[0]);
        let clock = Clock::real();
        let (mut there, mut back) = (i64::MAX, i64::MAX);
        for trip in 1..=TRIPS {
            let sent = clock.ticks();
            // SYNC: skew (Release).
            words[0].store(trip, Ordering::Release);
            wait_for(&words[1], trip);
            let (received, now) = (seen_at.load(Ordering::Relaxed), clock.ticks());
            there = there.min(received.wrapping_sub(sent) as i64);
            back = back.min(now.wrapping_sub(received) as i64);
        }
        (there - back) / 2
    });
    let skew = asker.join().expect("the asking side panicked");
    echo.join().expect("the answering side panicked");
    skew
}

/// Calls `send` with each event when it is due; gives back when that began.
#[inline(always)]
fn paced(load: Load, rate: Rate, mut send: impl FnMut(u64, Body)) -> u64 {
    let clock = Clock::real();
    let ticks_per_event = clock.ticks_of(Duration::from_secs(1)) as f64 / rate.per_s;
    let start = clock.ticks();
    for i in 0..load.events {
        let due = start + (i as f64 * ticks_per_event) as u64;
        while clock.ticks() < due {}
        send(i & KEYS, Body { value: due, ..Body::new(i, i & KEYS) });
    }
    start
}

/// Runs `receive` on the receiver's CPU until it has seen all, while this thread sends.
fn between(
    load: Load,
    rate: Rate,
    receive: impl FnOnce(&mut Probe) + Send + 'static,
    send: impl FnMut(u64, Body),
) -> Shot {
    let ready = Arc::new(Barrier::new(2));
    let other = ready.clone();
    let receiver = thread::spawn(move || {
        pin(load.cpus[1]);
        let mut probe = Probe::new(load, 1);
        other.wait();
        receive(&mut probe);
        probe
    });
    pin(load.cpus[0]);
    ready.wait();
    let start = paced(load, rate, send);
    receiver.join().expect("the receiver panicked").finish(load, start, rate.skew_ticks)
}

fn lane(load: Load, rate: Rate) -> Shot {
    let class = Class::strict("only").with_capacity(load.capacity).with_stamp(Stamp::Never);
    let (mut tx, mut rx) = lane_of(&class, Body::default).expect("a lane of a checked capacity");
    let receive = move |probe: &mut Probe| {
        while probe.seen < load.events {
            // No pace, which would gain throughput and cost latency.
            if rx.poll(BATCH as u64, |event| probe.see(0, event.key(), event)) == 0 {
                spin_loop();
            }
        }
        assert!(rx.counts().is_closed(), "the lane's ledger is not closed");
    };
    between(load, rate, receive, |key, body| {
        tx.publish(key, |event| *event = body).expect("the lane blocks");
    })
}

impl Handler<Body> for Probe {
    type Output = Probe;

    #[inline]
    fn on_event(&mut self, event: &mut Event<'_, Body>, _: &mut Context<'_, Body>) -> Verdict {
        self.see(event.class().index(), event.key().0, event);
        Verdict::Done
    }

    fn on_stop(self, _: &mut Context<'_, Body>) -> Probe {
        self
    }
}

fn engine(load: Load, rate: Rate) -> Shot {
    let mut plan = load.plan();
    let class = |class: Class| class.with_capacity(load.capacity).with_stamp(Stamp::OneIn(64));
    let classes = [
        plan.class(class(Class::strict("a"))),
        plan.class(class(Class::weighted("b", 1))),
        plan.class(class(Class::weighted("c", 1))),
    ];
    let engine = plan.start(Body::default, move |_| Probe::new(load, 3)).expect("the plan was checked");
    pin(load.cpus[0]);
    let mut tx = engine.attach().expect("room for one producer");
    let mut next = 0;
    let start = paced(load, rate, |key, body| {
        tx.publish(classes[next], key, |event| *event = body).expect("classes block");
        next = if next == 2 { 0 } else { next + 1 };
    });
    assert!(engine.drain(STOP), "the shard stands still");
    drop(tx);
    let mut report = engine.stop(STOP).expect("stopped once");
    assert!(report.ledger.is_closed(), "the ledger is not closed");
    report.outputs::<Probe>().pop().expect("one shard").finish(load, start, rate.skew_ticks)
}

fn disruptor(load: Load, rate: Rate) -> Shot {
    use disruptor::{BusySpin, Producer, build_single_producer};
    let (tell, told) = mpsc::channel();
    let mut probe = Some(Probe::new(load, 1));
    // Its thread inherits the mask of the one that makes it.
    pin(load.cpus[1]);
    let mut producer = build_single_producer(load.capacity as usize, Element::default, BusySpin)
        .handle_events_with(move |event: &Element, _, _| {
            let Some(sees) = &mut probe else { return };
            sees.see(0, event.key, &event.body);
            if sees.seen == load.events {
                // Nobody listens any more where the run has failed.
                let _ = tell.send(probe.take());
            }
        })
        .build();
    pin(load.cpus[0]);
    // Its thread runs before the first event is due: building returns when it has been started.
    thread::sleep(Duration::from_millis(1));
    let start = paced(load, rate, |key, body| {
        producer.publish(|event| *event = Element { key, stamp: 0, body });
    });
    let probe = told.recv().ok().flatten().expect("the consumer panicked");
    probe.finish(load, start, rate.skew_ticks)
}

fn channel(load: Load, rate: Rate) -> Shot {
    let (tx, rx) = crossbeam_channel::bounded::<Element>(load.capacity as usize);
    let receive = move |probe: &mut Probe| {
        while probe.seen < load.events {
            match rx.try_recv() {
                Ok(event) => probe.see(0, event.key, &event.body),
                Err(_) => spin_loop(),
            }
        }
    };
    between(load, rate, receive, |key, body| {
        let mut element = Element { key, stamp: 0, body };
        while let Err(refused) = tx.try_send(element) {
            element = refused.into_inner();
            spin_loop();
        }
    })
}

fn harness(load: Load, rate: Rate) -> Shot {
    pin(load.cpus[0]);
    let mut probe = Probe::new(load, 1);
    let start = paced(load, rate, |key, body| probe.see(0, key, &body));
    // One CPU, one clock.
    probe.finish(load, start, 0)
}

/// The places of the contenders.
pub(super) const LANE: usize = 0;
pub(super) const ENGINE: usize = 1;
pub(super) const DISRUPTOR: usize = 2;
pub(super) const CHANNEL: usize = 3;

/// All of them, at one rate.
pub(super) fn contenders(load: Load, per_s: f64) -> Vec<Peer<'static, Shot>> {
    let rate = Rate { per_s, skew_ticks: skew_ticks(load.cpus) };
    vec![
        Peer::ours("pelton lane", move || lane(load, rate)),
        Peer::ours("pelton engine", move || engine(load, rate)),
        Peer::other("disruptor", move || disruptor(load, rate)),
        Peer::other("crossbeam-channel", move || channel(load, rate)),
        Peer::baseline("the harness alone", move || harness(load, rate)),
    ]
}

/// By how many nanoseconds the clock of the second CPU is ahead of the first one's.
pub(super) fn skew_ns(cpus: [usize; 2]) -> f64 {
    let ticks = skew_ticks(cpus);
    Clock::real().nanos_between(0, ticks.unsigned_abs()) as f64 * ticks.signum() as f64
}

/// What one reading of the clock takes, in nanoseconds.
pub(super) fn reading_ns(cpu: usize) -> f64 {
    const READINGS: u32 = 100_000;
    let read = move || {
        pin(cpu);
        let clock = Clock::real();
        let start = clock.ticks();
        let end = (0..READINGS).fold(start, |_, _| clock.ticks());
        clock.nanos_between(start, end) as f64 / f64::from(READINGS)
    };
    thread::spawn(read).join().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pelton::park::Wait;
    use pelton::shard::available;

    fn load(events: u64) -> Load {
        let cpus = available();
        Load {
            events,
            work: 0,
            cpus: [cpus[0], *cpus.last().unwrap()],
            capacity: 64,
            wait: Wait::Yield,
            burst: 64,
        }
    }

    #[test]
    fn waits_count_from_the_time_that_was_due() {
        let mut probe = Probe::new(load(1_000), 1);
        let per_event = probe.clock.ticks_of(Duration::from_micros(1));
        // Ten seconds ago in steps: sent and received now, so each wait is what the schedule lost.
        let start = probe.clock.ticks() - 10 * probe.clock.ticks_of(Duration::from_millis(1));
        for i in 0..1_000 {
            let due = start + i * per_event;
            probe.see(0, i & KEYS, &Body { value: due, ..Body::new(i, i & KEYS) });
        }
        let shot = probe.finish(load(1_000), start, 0);
        // Two rings of 64 are cold.
        assert_eq!(shot.waits_ns.len(), 1_000 - 128);
        assert!(shot.waits_ns.min() >= 8_900_000, "{}", shot.waits_ns.min());
        assert!(shot.achieved_per_s <= 100_000.0 * 1.001, "{}", shot.achieved_per_s);
    }

    #[test]
    fn an_event_that_is_lost_torn_or_doubled_spoils_the_run() {
        let events = |bodies: &[Body]| {
            let mut probe = Probe::new(load(3), 1);
            bodies.iter().for_each(|body| probe.see(0, body.extra, body));
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| probe.finish(load(3), 0, 0))).is_ok()
        };
        let body = |i| Body::new(i, i);
        assert!(events(&[body(0), body(1), body(2)]));
        assert!(!events(&[body(0), body(1)]));
        assert!(!events(&[body(0), body(1), body(1)]));
        assert!(!events(&[body(0), body(2), body(1)]));
        assert!(!events(&[body(0), body(1), Body { sequence: u64::MAX, ..body(2) }]));
    }

    #[test]
    fn every_contender_hands_over_every_event_and_none_before_its_time() {
        for rate in [FLAT_OUT, 200_000.0] {
            for peer in 0..5 {
                let at = available().len();
                let load = load(2_000);
                // Where there is one CPU both ends share it: slow, but nothing may be lost.
                let shot =
                    thread::spawn(move || contenders(load, rate).remove(peer).run_once()).join().unwrap();
                assert_eq!(shot.waits_ns.len(), 2_000 - 128, "{peer} on {at} CPUs");
                assert!(shot.achieved_per_s <= rate * 1.001, "{peer}: {}", shot.achieved_per_s);
            }
        }
    }
}
