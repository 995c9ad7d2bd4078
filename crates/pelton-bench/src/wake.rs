//! How long does it take to wake a shard that sleeps?
//!
//! From just before an event is published until its handler runs, on a shard that has gone to sleep in the kernel: the
//! publisher is silent for longer than a shard polls on, for spans that differ. Beside it, in the same rounds, what the
//! kernel itself takes: a word is stored and its sleeper woken by a bare futex call; and what people would use
//! otherwise: `std`'s park and unpark, and `crossbeam-channel`'s `send` and `recv`.

use super::answer::{Answer, Limit, Point, Table, Unit};
use super::engine::STOP;
use super::event::Body;
use super::rounds::{Peer, Runs};
use super::settings::{Bench, Load, MeasureError, Spec};
use pelton::class::{Class, Stamp};
use pelton::event::Verdict;
use pelton::park::{PARK_AFTER, Wait};
use pelton::shard::{Context, Event, Handler, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub(crate) const SPEC: Spec = Spec {
    name: "wake",
    asks: "How long does it take to wake a shard that sleeps, beside a bare futex?",
    hint: "from just before the event is published until its handler runs; most of it is the kernel's, as the bare futex shows",
    events: 1_000,
    cpus_max: 2,
    capacity: None,
    waits: false,
    burst: None,
};

/// The publisher's silence before each event: at least this long, and at most twice as long.
const SILENCE: Duration = Duration::from_micros(200);

const _: () = assert!(SILENCE.as_nanos() > 3 * PARK_AFTER.as_nanos());

/// What is told of all wake-ups of a run.
const QUANTILES: [(&str, usize); 2] = [("p50", 500), ("p99", 990)];

/// p50 and p99 in nanoseconds, and in how many of all cases the sleeper was known to sleep.
type Woken = [f64; 3];

fn woken(mut waits_ns: Vec<u64>, asleep: f64) -> Woken {
    waits_ns.sort_unstable();
    let [p50, p99] = QUANTILES.map(|(_, permille)| waits_ns[(waits_ns.len() - 1) * permille / 1_000] as f64);
    [p50, p99, asleep]
}

/// What the waker and the sleeper tell each other.
struct Talk {
    origin: Instant,
    /// When the waker woke it, in nanoseconds since the origin.
    sent_ns: AtomicU64,
    /// How often the sleeper was awake.
    seen: AtomicU64,
}

impl Talk {
    fn new() -> Arc<Self> {
        Arc::new(Talk { origin: Instant::now(), sent_ns: AtomicU64::new(0), seen: AtomicU64::new(0) })
    }

    /// The waker is about to wake; what it does next publishes this too.
    fn sends(&self) {
        self.sent_ns.store(nanos_since(self.origin), Ordering::Relaxed);
    }

    /// The sleeper is awake: how long that took, in nanoseconds.
    fn wakes(&self) -> u64 {
        let now = nanos_since(self.origin);
        let wait_ns = now.saturating_sub(self.sent_ns.load(Ordering::Relaxed));
        // SYNC: awake (Release); pairs with `Talk::seen`.
        self.seen.fetch_add(1, Ordering::Release);
        wait_ns
    }

    fn seen(&self) -> u64 {
        // SYNC: awake (Acquire); pairs with `Talk::wakes`.
        self.seen.load(Ordering::Acquire)
    }

    /// Calls `wake` again and again, with silence before each, which begins when the sleeper was last awake.
    fn wake(&self, load: Load, mut wake: impl FnMut(u64)) {
        pin(load.cpus[0]);
        let mut seed = 1u64;
        for i in 0..load.events {
            while self.seen() < i {
                std::hint::spin_loop();
            }
            // Spans that differ, so that no timer of the system can keep step with them.
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let silence = SILENCE + Duration::from_nanos((seed >> 33) % SILENCE.as_nanos() as u64);
            let begun = Instant::now();
            while begun.elapsed() < silence {
                std::hint::spin_loop();
            }
            self.sends();
            wake(i);
        }
    }

    /// A thread that sleeps until it is woken, and takes the time, for every event.
    fn sleeper(
        self: &Arc<Self>,
        load: Load,
        mut sleep: impl FnMut(u64) + Send + 'static,
    ) -> JoinHandle<Vec<u64>> {
        let talk = self.clone();
        std::thread::spawn(move || {
            pin(load.cpus[1]);
            (0..load.events)
                .map(|i| {
                    sleep(i);
                    talk.wakes()
                })
                .collect()
        })
    }
}

fn nanos_since(origin: Instant) -> u64 {
    origin.elapsed().as_nanos() as u64
}

struct Waits {
    talk: Arc<Talk>,
    waits_ns: Vec<u64>,
}

impl Handler<Body> for Waits {
    type Output = Vec<u64>;

    fn on_event(&mut self, _: &mut Event<'_, Body>, _: &mut Context<'_, Body>) -> Verdict {
        self.waits_ns.push(self.talk.wakes());
        Verdict::Done
    }

    fn on_stop(self, _: &mut Context<'_, Body>) -> Vec<u64> {
        self.waits_ns
    }
}

fn shard(load: Load) -> Woken {
    let mut plan = load.plan().with_wait(Wait::Park);
    let class = plan.class(Class::strict("only").with_capacity(64).with_stamp(Stamp::Never));
    let talk = Talk::new();
    let listener = talk.clone();
    let handler =
        move |_| Waits { talk: listener.clone(), waits_ns: Vec::with_capacity(load.events as usize) };
    let engine = plan.start(Body::default, handler).expect("the plan was checked");
    let mut tx = engine.attach().expect("room for one producer");
    talk.wake(load, |i| {
        tx.publish(class, i, |event| *event = Body::new(i, i)).expect("the class blocks");
    });
    assert!(engine.drain(STOP), "the shard did not wake up");
    drop(tx);
    let mut report = engine.stop(STOP).expect("stopped once");
    assert!(report.ledger.is_closed(), "the ledger is not closed");
    let parks = report.shards[0].parks;
    let waits: Vec<u64> = report.outputs().pop().expect("one shard");
    assert_eq!(waits.len() as u64, load.events, "events handled");
    woken(waits, parks.min(load.events) as f64 / load.events as f64)
}

/// What the kernel takes: one word, one call to sleep, one to wake.
#[cfg(target_os = "linux")]
fn bare(load: Load) -> Woken {
    use rustix::thread::futex::{Flags, Timespec, wait, wake};
    use std::sync::atomic::AtomicU32;
    let limit = Timespec { tv_sec: STOP.as_secs() as _, tv_nsec: 0 };
    let talk = Talk::new();
    let word = Arc::new(AtomicU32::new(0));
    let slept_on = word.clone();
    let sleeper = talk.sleeper(load, move |i| {
        // SYNC: wake (Acquire); pairs with the store before the wake-up.
        while slept_on.load(Ordering::Acquire) == i as u32 {
            // Interrupted, timed out or changed: it looks again in any case.
            let _ = wait(&slept_on, Flags::PRIVATE, i as u32, Some(&limit));
        }
    });
    talk.wake(load, |i| {
        // SYNC: wake (Release).
        word.store(i as u32 + 1, Ordering::Release);
        wake(&word, Flags::PRIVATE, 1).expect("a word in memory");
    });
    woken(sleeper.join().expect("the sleeper panicked"), 1.0)
}

fn park(load: Load) -> Woken {
    let talk = Talk::new();
    let count = Arc::new(AtomicU64::new(0));
    let slept_on = count.clone();
    let sleeper = talk.sleeper(load, move |i| {
        // SYNC: unpark (Acquire); pairs with the store before `unpark`.
        while slept_on.load(Ordering::Acquire) == i {
            std::thread::park();
        }
    });
    talk.wake(load, |i| {
        // SYNC: unpark (Release).
        count.store(i + 1, Ordering::Release);
        sleeper.thread().unpark();
    });
    woken(sleeper.join().expect("the sleeper panicked"), 1.0)
}

fn channel(load: Load) -> Woken {
    let talk = Talk::new();
    let (tx, rx) = crossbeam_channel::bounded::<u64>(64);
    let sleeper = talk.sleeper(load, move |i| assert_eq!(rx.recv(), Ok(i), "an event was lost"));
    talk.wake(load, |i| tx.send(i).expect("the sleeper lives"));
    woken(sleeper.join().expect("the sleeper panicked"), 1.0)
}

pub(super) fn ask(bench: &mut Bench<'_>) -> Result<Answer, MeasureError> {
    let load = bench.load();
    let peers = vec![
        Peer::ours("pelton, a parked shard", move || shard(load)),
        #[cfg(target_os = "linux")]
        Peer::baseline("a bare futex", move || bare(load)),
        Peer::other("std, park and unpark", move || park(load)),
        Peer::other("crossbeam-channel, send and recv", move || channel(load)),
    ];
    let runs = bench.alternate("waking", peers)?;
    let tables = QUANTILES.iter().enumerate().map(|(at, (name, _))| {
        let runs: Vec<Runs> = runs.iter().map(|runs| runs.figure(at)).collect();
        let is_limited = at == 0 && cfg!(target_os = "linux");
        let limit = is_limited.then(|| Limit::ratio("a shard / a bare futex", &runs[0], &runs[1], 1.3, 1.1));
        Table {
            what: format!("From publish to handler, {name}"),
            unit: Unit::Ns,
            axis: None,
            points: vec![Point::new(0.0, "", &runs, [limit.flatten()])],
        }
    });
    let tables = tables.collect();
    let asleep = runs[0].figure(2).runs.into_iter().fold(1.0, f64::min);
    let awake = format!("in one run the shard slept before only {:.1} % of all events", asleep * 100.0);
    Ok(Answer::new(bench, tables).warn(asleep < 1.0, awake))
}
