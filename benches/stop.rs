//! How long does it take to stop an engine that has nothing to do, by what its shards wait by?
//!
//! Each figure is of 400 engines of one shard: started, left alone for 2 ms, and stopped. Beside them the baseline: a thread
//! that sleeps on a channel is told to end, and joined. `cargo bench --bench stop` prints a table.

use pelton::park::Wait;
use pelton::{Class, Context, Event, Plan, Profile};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

const ENGINES: usize = 400;
/// Longer than a shard polls before it sleeps.
const REST: Duration = Duration::from_millis(2);

fn plan(wait: Wait) -> Plan {
    let mut plan = Plan::new(Profile::Dev).with_wait(wait).with_announce(false);
    plan.class(Class::strict("only").with_capacity(64).block());
    plan
}

fn ignore(_: &mut Event<'_, u64>, _: &mut Context<'_, u64>) {}

/// The time that a stop takes of an engine with threads of its own.
fn driven(wait: Wait) -> Duration {
    let engine = plan(wait).start(|| 0u64, |_| ignore).expect("the plan is sound");
    std::thread::sleep(REST);
    let begun = Instant::now();
    let report = engine.stop(Duration::from_secs(1)).expect("it is stopped once");
    let took = begun.elapsed();
    assert!(report.drained);
    took
}

/// The time from the stop of a host-driven engine to the end of the host's thread, which sleeps on the shard's waker.
fn hosted() -> Duration {
    let (engine, mut seats) = plan(Wait::Park).host_driven(|| 0u64).expect("the plan is sound");
    let seat = seats.pop().expect("there is one shard");
    let is_ready = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let host = scope.spawn(|| {
            let mut shard = seat.build(ignore).expect("there is memory for a few lanes");
            is_ready.store(true, Ordering::Release);
            while !shard.is_stopping() {
                if shard.poll() == 0
                    && let Some(nap) = shard.arm()
                {
                    nap.wait(Duration::from_secs(1));
                }
            }
            shard.finish()
        });
        while !is_ready.load(Ordering::Acquire) {
            std::hint::spin_loop();
        }
        std::thread::sleep(REST);
        let begun = Instant::now();
        let mut report = engine.stop(Duration::from_secs(1)).expect("it is stopped once");
        report.add(host.join().expect("nothing panics"));
        let took = begun.elapsed();
        assert!(report.drained);
        took
    })
}

fn bare() -> Duration {
    let (stop, stopped) = channel::<()>();
    let thread = std::thread::spawn(move || stopped.recv());
    std::thread::sleep(REST);
    let begun = Instant::now();
    drop(stop);
    let _ = thread.join();
    begun.elapsed()
}

fn row(name: &str, mut stop: impl FnMut() -> Duration) {
    let mut times: Vec<_> = (0..ENGINES).map(|_| stop()).collect();
    times.sort_unstable();
    let at = |share: usize| times[(ENGINES - 1) * share / 100].as_secs_f64() * 1e6;
    println!("{name:<22} {:>10.0} {:>10.0} {:>10.0}", at(50), at(99), at(100));
}

fn main() {
    println!("{:<22} {:>10} {:>10} {:>10}", "stop, in µs", "p50", "p99", "max");
    row("bare thread", bare);
    for wait in [Wait::Park, Wait::Yield, Wait::Spin] {
        row(&format!("engine, {wait}"), || driven(wait));
    }
    row("engine, host-driven", hosted);
}
