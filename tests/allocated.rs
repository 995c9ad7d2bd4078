//! The footprint to the byte: what `start` asks the allocator for and keeps, on all threads, against the plan.
//!
//! What remains is the standard library's memory of each thread: it is bounded, and the same for every shape of as
//! many threads, so that a byte which the plan does not know shows.

use pelton::class::Stamp;
use pelton::memory::footprint::Footprint;
use pelton::{Class, Context, Event, Plan};
use pelton_testkit::measuring::{Measuring, agreed, alive, alive_here, settle};
use pelton_testkit::*;
use std::collections::BTreeMap;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: Measuring = Measuring;

/// The most that a thread has beside the plan: its handle, name, packet and closure, some 153 bytes, and its part of the
/// standard library's table of threads.
const THREAD_BYTES_MAX: i64 = 400;

/// Up to so many threads that table has room as it is, and each thread costs the same.
const ALIKE_MAX: i64 = 4;

/// What the handlers' factory takes: it has no fields, but a place of its own.
const FACTORY_BYTES: i64 = 16;

fn shape(shards: u16, producers: u16, classes: impl IntoIterator<Item = Class>) -> Plan {
    let mut plan = plan().with_shards(shards).with_producers_max(producers);
    classes.into_iter().for_each(|class| _ = plan.class(class));
    plan
}

fn many(n: usize, make: impl Fn(String) -> Class) -> Vec<Class> {
    (0..n).map(|at| make(format!("class{at}"))).collect()
}

/// Plans of different shapes, each with what it is about.
fn shapes() -> Vec<(&'static str, Plan)> {
    let small = |name: String| Class::strict(name).with_capacity(16);
    let one = || many(1, small);
    vec![
        (
            "the least",
            shape(1, 1, many(1, |name| Class::strict(name).with_capacity(1))).with_scratch_bytes(0),
        ),
        ("slots", shape(1, 1, [Class::strict("slots").with_capacity(1 << 15)])),
        (
            "payloads",
            shape(2, 3, [Class::strict("bytes").with_capacity(64).with_payload_bytes(1 << 18).reject()]),
        ),
        ("small payloads", shape(2, 2, [Class::strict("bytes").with_capacity(8).with_payload_bytes(64)])),
        ("mesh", shape(4, 2, many(3, small)).with_mesh(true)),
        ("mesh of one", shape(1, 1, one()).with_mesh(true)),
        ("many classes", shape(2, 2, many(8, small))),
        ("weighted classes", shape(2, 2, many(7, |name| Class::weighted(name, 3).with_capacity(32)))),
        ("both kinds", {
            let weighted = many(2, |name| Class::weighted(format!("w{name}"), 2).with_capacity(4));
            shape(3, 2, many(3, small).into_iter().chain(weighted))
        }),
        ("many producers", shape(2, 64, many(2, small))),
        ("many shards", shape(16, 1, one())),
        ("stamps on all", shape(2, 2, [Class::strict("s").with_capacity(256).with_stamp(Stamp::Every)])),
        ("no stamps", shape(2, 2, [Class::strict("s").with_capacity(256).with_stamp(Stamp::Never)])),
        ("ttl", shape(1, 2, [Class::strict("s").with_capacity(256).with_ttl(Duration::from_secs(1))])),
        ("scratch", shape(2, 1, one()).with_scratch_bytes(1 << 20)),
        ("odd scratch", shape(2, 1, one()).with_scratch_bytes(12_345)),
        ("little scratch", shape(2, 1, one()).with_scratch_bytes(7)),
        ("huge pages", {
            let slots = Class::strict("slots").with_capacity(1 << 15);
            shape(2, 1, [slots]).with_huge_pages(cfg!(all(feature = "hugepages", target_os = "linux")))
        }),
        ("partitions", shape(1, 1, one()).with_partitions(1 << 16)),
    ]
}

/// Starts a plan; says by how much what is alive grew, and what was planned.
fn grown<E: Default + Send + 'static>(plan: Plan) -> (i64, Footprint) {
    let footprint = plan.footprint::<E>();
    let before = alive();
    let engine = plan.start(E::default, |_| |_: &mut Event<'_, E>, _: &mut Context<'_, E>| ()).unwrap();
    // A shard that has answered has read its mail: the mesh is in its place.
    settle(&engine);
    let grown = alive() - before;
    let report = engine.stop(Duration::from_secs(10)).unwrap();
    assert_closed(&report);
    (grown, footprint)
}

/// What remained, by threads.
type Remainders = BTreeMap<i64, i64>;

fn compare<E: Default + Send + 'static>(name: &str, plan: Plan, remainders: &mut Remainders) {
    let threads = plan.placements().len() as i64;
    let (grown, footprint) = agreed(|| grown::<E>(plan.clone()));
    let planned = footprint.total_bytes() as i64;
    let more = grown - planned;
    println!("{name:<24} planned {planned:>10}, taken {grown:>10}: {more:>5} more, {threads:>2} threads");
    let expected = 0..=FACTORY_BYTES + THREAD_BYTES_MAX * threads;
    assert!(
        expected.contains(&more),
        "{name}: planned {planned}, taken {grown} with {threads} threads:\n{footprint}"
    );
    if threads <= ALIKE_MAX {
        let first = *remainders.entry(threads).or_insert(more);
        assert_eq!(
            more, first,
            "{name}: another shape of {threads} threads left {first} bytes:\n{footprint}"
        );
    }
}

#[derive(Default)]
#[repr(align(256))]
struct Wide([u64; 32]);

#[test]
fn start_takes_what_was_planned_to_the_byte() {
    const ALONE: &str = "PELTON_TEST_ALLOCATED";
    // What tests print is kept in memory otherwise, and what other tests take would be counted here.
    if std::env::var_os(ALONE).is_none() {
        print!("{}", in_a_process_of_its_own(ALONE, &[]));
        return;
    }
    let _dog = watchdog();
    // What a process takes once: the clock's calibration, the lists of the standard library.
    for (_, plan) in shapes().into_iter().take(2) {
        grown::<[u64; 6]>(plan);
    }
    let mut remainders = Remainders::new();
    for (name, plan) in shapes() {
        compare::<[u64; 6]>(name, plan.clone(), &mut remainders);
        compare::<()>(&format!("{name}, ()"), plan.clone(), &mut remainders);
        compare::<u8>(&format!("{name}, u8"), plan.clone(), &mut remainders);
        compare::<Wide>(&format!("{name}, wide"), plan, &mut remainders);
    }
    assert_eq!(Wide::default().0, [0; 32]);
}

#[test]
fn a_lane_of_its_own_takes_what_it_says() {
    const ALONE: &str = "PELTON_TEST_ALLOCATED_LANE";
    if std::env::var_os(ALONE).is_none() {
        print!("{}", in_a_process_of_its_own(ALONE, &[]));
        return;
    }
    let _dog = watchdog();
    fn taken<E: Default + Send + 'static>(class: &Class) {
        // Of this thread alone: the watchdog and the harness may still be at their beginning.
        let before = alive_here();
        let (mut tx, mut rx) = pelton::lane::lane(class, E::default).unwrap();
        let taken = alive_here() - before;
        assert_eq!(taken, pelton::lane::bytes_for::<E>(class) as i64, "{class:?}");
        tx.publish(1, |_| ()).unwrap();
        assert_eq!(rx.poll(2, |_| ()), 1);
        assert!(rx.counts().is_closed());
    }
    // What a process takes once.
    drop(pelton::lane::lane(&Class::strict("warm").with_capacity(1), || ()));
    drop(pelton::lane::lane(&Class::strict("warm").with_capacity(1).with_stamp(Stamp::Every), || ()));
    for stamp in [Stamp::Never, Stamp::Every] {
        for payload in [0, 64, 1 << 19] {
            for capacity in [1, 64, 4_096] {
                let class = Class::strict("lane")
                    .with_capacity(capacity)
                    .with_payload_bytes(payload)
                    .with_stamp(stamp);
                taken::<()>(&class);
                taken::<[u64; 3]>(&class);
                taken::<Wide>(&class);
            }
        }
    }
}
