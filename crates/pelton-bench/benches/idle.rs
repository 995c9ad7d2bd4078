//! What do eight parked shards cost while nothing comes, on fewer CPUs than shards; and do they all still work after it?
//!
//! CPU time is the kernel's own account of each shard's thread (`/proc/self/task/*/schedstat`), over some seconds of silence
//! between two rounds of events.

use pelton::park::Wait;
use pelton::{Class, Context, Event, Plan, Profile, ShardId};
use pelton_bench::event::Body;
use std::fs;
use std::time::Duration;

const SHARDS: u16 = 8;

/// Nanoseconds on a CPU of the threads whose name starts so.
fn cpu_ns(name: &str) -> u64 {
    let tasks =
        fs::read_dir("/proc/self/task").expect("this bench needs Linux").flatten().map(|task| task.path());
    let mine =
        tasks.filter(|task| fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.starts_with(name)));
    let spent = |stat: String| stat.split(' ').next().and_then(|ns| ns.parse::<u64>().ok());
    mine.filter_map(|task| fs::read_to_string(task.join("schedstat")).ok().and_then(spent)).sum()
}

fn main() {
    println!("idle: {SHARDS} parked shards");
    let mut plan = Plan::new(Profile::Dev)
        .with_announce(false)
        .with_shards(SHARDS)
        .with_overcommitted(true)
        .with_producers_max(1)
        .with_thread_name("idle")
        .with_wait(Wait::Park);
    let class = plan.class(Class::strict("only").with_capacity(256).block());
    let handler = |_: ShardId| |_: &mut Event<'_, Body>, _: &mut Context<'_, Body>| ();
    let engine = plan.start(Body::default, handler).unwrap();
    let mut tx = engine.attach().unwrap();
    let n = 100_000;
    let mut round = |from: u64| {
        for i in from..from + n {
            tx.publish(class, i, |event| *event = Body::new(i, i)).unwrap();
        }
        assert!(engine.drain(Duration::from_secs(30)), "the shards did not wake up");
    };
    round(0);
    let seconds = 10;
    let before = cpu_ns("idle");
    std::thread::sleep(Duration::from_secs(seconds));
    let spent = cpu_ns("idle") - before;
    round(n);
    drop(tx);
    let report = engine.stop(Duration::from_secs(10)).unwrap();
    let total = report.ledger.total();
    assert!(report.ledger.is_closed() && total.handled == 2 * n);
    println!(
        "  {seconds} s of silence cost {:.1} ms of CPU: {:.3} % of a CPU a shard; {} events handled, {} parks, {} rescues",
        spent as f64 / 1e6,
        spent as f64 / 1e9 * 100.0 / seconds as f64 / f64::from(SHARDS),
        total.handled,
        report.shards.iter().map(|shard| shard.parks).sum::<u64>(),
        report.rescues()
    );
}
