//! What does an event cost in a build of just these features?
//!
//! One start is one run: `perf/features` builds this with each feature on and off, and lets the programs take turns.
//! The engine is that of the bench `engine`. Nothing of `pelton-bench` is used, as it would bring `latency` and `affinity` into
//! every build.
//!
//! ```sh
//! cargo bench --bench features                                        # one run of each setting
//! cargo bench --bench features --no-default-features -- 1/64 10 spin  # stamps, multiplications, wait
//! ```
//! A run prints nanoseconds an event, and the allocations of both threads meanwhile (`-` where nobody counts).

use pelton::class::Stamp;
use pelton::park::Wait;
use pelton::{Class, Context, Event, Handler, Plan, Profile, Verdict};
use pelton_testkit::event::{Body, Checker, KEYS, per_event_ns, work};
use std::time::{Duration, Instant};

#[cfg(all(feature = "audit", not(feature = "mimalloc")))]
#[global_allocator]
static ALLOCATOR: pelton::memory::audit::Counting<std::alloc::System> =
    pelton::memory::audit::Counting::new(std::alloc::System);

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: pelton::memory::audit::Counting<mimalloc::MiMalloc> =
    pelton::memory::audit::Counting::new(mimalloc::MiMalloc);

/// A run that takes longer has lost an event.
const RUN_MAX: Duration = Duration::from_secs(60);

struct Checkers([Checker; 3]);

impl Handler<Body> for Checkers {
    type Output = [Checker; 3];

    #[inline]
    fn on_event(&mut self, event: &mut Event<'_, Body>, _: &mut Context<'_, Body>) -> Verdict {
        self.0[event.class().index()].see(event.key().0, event);
        Verdict::Done
    }

    fn on_stop(self, _: &mut Context<'_, Body>) -> [Checker; 3] {
        self.0
    }
}

/// Nanoseconds an event, and what the producer's thread and the shard's have allocated for all of them.
fn run(events: u64, stamp: Stamp, multiplications: u64, wait: Wait) -> (f64, Option<u64>) {
    // The harness pins by itself, so that the producer has its CPU in every build.
    let cpus = core_affinity::get_core_ids().filter(|cpus| cpus.len() > 1).expect("two CPUs");
    let mut plan = Plan::new(Profile::Latency)
        .with_announce(false)
        .with_producers_max(1)
        .with_cpus([cpus[1].id])
        .with_wait(wait)
        .with_burst(64);
    let classes = [Class::strict("a"), Class::weighted("b", 1), Class::weighted("c", 1)]
        .map(|class| plan.class(class.with_capacity(1_024).with_stamp(stamp)));
    let checkers = |_| Checkers([0, 1, 2].map(|class| Checker::every(class, 3)));
    let engine = plan.start(Body::default, checkers).expect("the plan is sound");
    // The shard's thread is there already, and has not inherited this.
    assert!(core_affinity::set_for_current(cpus[0]), "the producer cannot be pinned");
    let mut tx = engine.attach().expect("room for one producer");
    let allocated = pelton::memory::allocations();
    let start = Instant::now();
    let mut class = 0;
    for i in 0..events {
        work(multiplications, i);
        tx.publish(classes[class], i & KEYS, |event| *event = Body::new(i, i & KEYS)).expect("classes block");
        class = if class == 2 { 0 } else { class + 1 };
    }
    let allocated = pelton::memory::allocations() - allocated;
    while engine.ledger().total().handled < events {
        assert!(start.elapsed() < RUN_MAX, "an event was lost");
        std::hint::spin_loop();
    }
    let end = Instant::now();
    drop(tx);
    let mut report = engine.stop(RUN_MAX).expect("stopped once");
    assert!(report.ledger.is_closed(), "the ledger is not closed");
    assert_eq!(report.ledger.total().handled, events, "events handled");
    report.outputs::<[Checker; 3]>().into_iter().flatten().for_each(Checker::finish);
    (per_event_ns(start, end, events), report.allocations().map(|shards| shards + allocated))
}

fn print(name: &str, events: u64, stamps: &str, multiplications: &str, waits: &str) {
    let stamp = match stamps {
        "never" => Stamp::Never,
        "1/64" => Stamp::OneIn(64),
        "every" => Stamp::Every,
        _ => panic!("stamps are never, 1/64 or every, not '{stamps}'"),
    };
    let wait = match waits {
        "spin" => Wait::Spin,
        "park" => Wait::Park,
        _ => panic!("a shard waits by spin or park, not '{waits}'"),
    };
    let (ns, allocations) = run(events, stamp, multiplications.parse().expect("multiplications"), wait);
    println!("{name}{ns:.3} {}", allocations.map_or("-".into(), |count| count.to_string()));
}

fn main() {
    let events = std::env::var("PELTON_BENCH_EVENTS").map_or(3_000_000, |n| n.parse().expect("a number"));
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if let [stamps, multiplications, waits] = &args[..] {
        print("", events, stamps, multiplications, waits);
        return;
    }
    for stamps in ["never", "1/64", "every"] {
        for multiplications in ["0", "10"] {
            for waits in ["spin", "park"] {
                let name = format!("stamps {stamps}, {multiplications} multiplications, {waits}: ");
                print(&name, events, stamps, multiplications, waits);
            }
        }
    }
}
