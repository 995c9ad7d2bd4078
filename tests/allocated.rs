//! The footprint to the byte: what `start` asks the allocator for and keeps, on all threads, against the plan.
//!
//! What remains is the standard library's memory of each thread: it is bounded, and the same for every shape of as
//! many threads, so that a byte which the plan does not know shows.

mod support;

use pelton::class::Stamp;
use pelton::memory::footprint::Footprint;
use pelton::{Class, Context, Event, Plan, ShardId};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;
use support::*;

/// Bytes that were asked for and not given back, on all threads.
static ALIVE: AtomicI64 = AtomicI64::new(0);

thread_local! {
    /// The part of this thread. A constant without a destructor: reading it allocates nothing.
    static MINE: Cell<i64> = const { Cell::new(0) };
}

fn count(bytes: i64) {
    ALIVE.fetch_add(bytes, Relaxed);
    MINE.set(MINE.get() + bytes);
}

struct Measuring;

// SAFETY: Every call goes to the system's allocator with the arguments that came in; the counters are an atomic and a plain
// cell of the thread.
unsafe impl GlobalAlloc for Measuring {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(new_size as i64 - layout.size() as i64);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Measuring = Measuring;

/// The most that a thread has beside the plan: its handle, name, packet and closure, some 153 bytes, and its part of the
/// standard library's list of threads.
const THREAD_BYTES_MAX: i64 = 300;

/// Up to so many threads that list has room as it is, and each thread costs the same.
const ALIKE_MAX: i64 = 4;

/// What the handlers' factory takes: it has no fields, but a place of its own.
const FACTORY_BYTES: i64 = 16;

fn shape(shards: u16, producers: u16, classes: impl IntoIterator<Item = Class>) -> Plan {
    let mut plan = plan().shards(shards).producers_max(producers);
    classes.into_iter().for_each(|class| _ = plan.class(class));
    plan
}

fn many(n: usize, make: impl Fn(String) -> Class) -> Vec<Class> {
    (0..n).map(|at| make(format!("class{at}"))).collect()
}

/// Plans of different shapes, each with what it is about.
fn shapes() -> Vec<(&'static str, Plan)> {
    let small = |name: String| Class::strict(name).capacity(16);
    let one = || many(1, small);
    vec![
        ("the least", shape(1, 1, many(1, |name| Class::strict(name).capacity(1))).scratch_bytes(0)),
        ("slots", shape(1, 1, [Class::strict("slots").capacity(1 << 15)])),
        ("payloads", shape(2, 3, [Class::strict("bytes").capacity(64).payload_bytes(1 << 18).reject()])),
        ("small payloads", shape(2, 2, [Class::strict("bytes").capacity(8).payload_bytes(64)])),
        ("mesh", shape(4, 2, many(3, small)).mesh(true)),
        ("mesh of one", shape(1, 1, one()).mesh(true)),
        ("many classes", shape(2, 2, many(8, small))),
        ("weighted classes", shape(2, 2, many(7, |name| Class::weighted(name, 3).capacity(32)))),
        ("both kinds", {
            let weighted = many(2, |name| Class::weighted(format!("w{name}"), 2).capacity(4));
            shape(3, 2, many(3, small).into_iter().chain(weighted))
        }),
        ("many producers", shape(2, 64, many(2, small))),
        ("many shards", shape(16, 1, one())),
        ("stamps on all", shape(2, 2, [Class::strict("s").capacity(256).stamp(Stamp::Every)])),
        ("no stamps", shape(2, 2, [Class::strict("s").capacity(256).stamp(Stamp::Never)])),
        ("ttl", shape(1, 2, [Class::strict("s").capacity(256).ttl(Duration::from_secs(1))])),
        ("scratch", shape(2, 1, one()).scratch_bytes(1 << 20)),
        ("odd scratch", shape(2, 1, one()).scratch_bytes(12_345)),
        ("little scratch", shape(2, 1, one()).scratch_bytes(7)),
        ("huge pages", {
            let slots = Class::strict("slots").capacity(1 << 15);
            shape(2, 1, [slots]).huge_pages(cfg!(all(feature = "hugepages", target_os = "linux")))
        }),
        ("partitions", shape(1, 1, one()).partitions(1 << 16)),
    ]
}

/// Starts a plan; says by how much what is alive grew, and what was planned.
fn grown<E: Default + Send + 'static>(plan: Plan) -> (i64, Footprint) {
    let footprint = plan.footprint::<E>();
    let before = ALIVE.load(Relaxed);
    let engine = plan.start(E::default, |_| |_: &mut Event<'_, E>, _: &mut Context<'_, E>| ()).unwrap();
    // A shard that has answered has read its mail: the mesh is in its place.
    settle(&engine);
    let grown = ALIVE.load(Relaxed) - before;
    let report = engine.stop(Duration::from_secs(10)).unwrap();
    assert_closed(&report);
    (grown, footprint)
}

/// Measures until two in a row agree: what a thread gives back when it gets a CPU may come late on a busy machine.
fn agreed<T>(mut measure: impl FnMut() -> (i64, T)) -> (i64, T) {
    let mut last = measure().0;
    for _ in 0..8 {
        let (grown, with) = measure();
        if grown == last {
            return (grown, with);
        }
        last = grown;
    }
    panic!("no two starts took the same");
}

/// Waits until what is alive rests.
fn settle<E: Send + 'static>(engine: &pelton::Engine<E>) {
    for shard in 0..engine.placements().len() {
        let asked = engine.ask(ShardId(shard as u16), |_: &mut NoHandler| ());
        assert!(asked.is_err(), "no handler is of that type");
    }
    let mut last = i64::MIN;
    while last != ALIVE.load(Relaxed) {
        last = ALIVE.load(Relaxed);
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A handler that nobody has.
struct NoHandler;

impl<E> pelton::Handler<E> for NoHandler {
    type Output = ();
    fn on_event(&mut self, _: &mut Event<'_, E>, _: &mut Context<'_, E>) -> pelton::Verdict {
        pelton::Verdict::Done
    }
    fn on_stop(self, _: &mut Context<'_, E>) {}
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
        print!("{}", in_a_process_of_its_own("start_takes_what_was_planned_to_the_byte", ALONE, &[]));
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
        print!("{}", in_a_process_of_its_own("a_lane_of_its_own_takes_what_it_says", ALONE, &[]));
        return;
    }
    let _dog = watchdog();
    fn taken<E: Default + Send + 'static>(class: &Class) {
        // Of this thread alone: the watchdog and the harness may still be at their beginning.
        let before = MINE.get();
        let (mut tx, mut rx) = pelton::lane::lane(class, E::default).unwrap();
        let taken = MINE.get() - before;
        assert_eq!(taken, pelton::lane::bytes_for::<E>(class) as i64, "{class:?}");
        tx.publish(1, |_| ()).unwrap();
        assert_eq!(rx.poll(2, |_| ()), 1);
        assert!(rx.counts().is_closed());
    }
    // What a process takes once.
    drop(pelton::lane::lane(&Class::strict("warm").capacity(1), || ()));
    drop(pelton::lane::lane(&Class::strict("warm").capacity(1).stamp(Stamp::Every), || ()));
    for stamp in [Stamp::Never, Stamp::Every] {
        for payload in [0, 64, 1 << 19] {
            for capacity in [1, 64, 4_096] {
                let class = Class::strict("lane").capacity(capacity).payload_bytes(payload).stamp(stamp);
                taken::<()>(&class);
                taken::<[u64; 3]>(&class);
                taken::<Wide>(&class);
            }
        }
    }
}

/// What a gateway takes more for larger taps is what its plan names more.
#[cfg(feature = "gateway")]
#[test]
fn taps_take_what_was_planned_to_the_byte() {
    use pelton::gateway::{EVENT, Options, Server, Stream};
    const ALONE: &str = "PELTON_TEST_ALLOCATED_TAPS";
    if std::env::var_os(ALONE).is_none() {
        print!("{}", in_a_process_of_its_own("taps_take_what_was_planned_to_the_byte", ALONE, &[]));
        return;
    }
    let _dog = watchdog();
    let run = |threads: u16, tap_slots: u32, payload: u32| {
        let class = Class::strict("only").capacity(16).payload_bytes(payload);
        let mut options = Options::new(shape(2, threads, [class]).scratch_bytes(0));
        options.streams = vec![Stream::new("one", "only"), Stream::new("two", "only")];
        (options.threads, options.tap_slots) = (threads, tap_slots);
        options.listen = vec!["127.0.0.1:0".into()];
        let planned = options.reserve(options.plan.clone()).footprint_of(EVENT);
        let before = ALIVE.load(Relaxed);
        let mut server = Server::start(options).unwrap();
        settle(server.engine());
        let grown = ALIVE.load(Relaxed) - before;
        assert_eq!(server.engine().footprint(), planned, "it is started from what was planned");
        assert!(server.stop(Duration::from_secs(10)).unwrap().engine.ledger.is_closed());
        (grown, planned)
    };
    let run = |threads, slots, payload| agreed(|| run(threads, slots, payload));
    run(1, 64, 64);
    for threads in [1, 3] {
        let (least, planned) = run(threads, 64, 64);
        // The last two have room for a payload that is larger than what their slots bring.
        for (slots, payload) in [(128, 64), (4_096, 64), (64, 1 << 16), (4_096, 1 << 20)] {
            let (more, footprint) = run(threads, slots, payload);
            assert_eq!(
                more - least,
                footprint.total_bytes() as i64 - planned.total_bytes() as i64,
                "{threads} threads, {slots} slots:\n{footprint}"
            );
        }
    }
}
