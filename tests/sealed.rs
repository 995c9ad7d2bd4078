//! Sealed threads: every allocation is counted with its place, or ends the process; where there is none, nothing is
//! reported.
#![cfg(feature = "audit")]

use pelton::memory::audit::{Counting, ThreadSeal, assert_no_allocations, seal_thread, thread_allocations};
use pelton::memory::seal::{PLACES_MAX, Seal};
use pelton::{Class, ClassId, Context, Event, Handler, Plan, Report, ShardId, Verdict};
use pelton_testkit::*;
use proptest::prelude::*;
use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: Counting<std::alloc::System> = Counting::new(std::alloc::System);

const EVENTS: u64 = 1_000;
const KEYS: u64 = 16;

/// Checks order and wholeness in memory that is there from the start, and acts now and then.
struct Kettle<F> {
    next: [u64; KEYS as usize],
    handled: u64,
    faults: u64,
    act: F,
}

impl<F: FnMut(u64) + 'static> Handler<Proof> for Kettle<F> {
    type Output = (u64, u64);

    fn on_start(&mut self, _: &mut Context<'_, Proof>) {
        black_box(vec![1u8; 100]);
    }

    fn on_event(&mut self, event: &mut Event<'_, Proof>, _: &mut Context<'_, Proof>) -> Verdict {
        let next = &mut self.next[event.key as usize];
        // A panic costs its event, so a gap may be there; what comes again or late is a fault.
        self.faults += u64::from(!event.is_whole() || event.sequence < *next);
        *next = event.sequence + 1;
        self.handled += 1;
        (self.act)(self.handled);
        Verdict::Done
    }

    fn on_stop(self, _: &mut Context<'_, Proof>) -> Self::Output {
        black_box(vec![2u8; 100]);
        (self.handled, self.faults)
    }
}

fn kettle<F: FnMut(u64) + 'static>(act: F) -> Kettle<F> {
    Kettle { next: [0; KEYS as usize], handled: 0, faults: 0, act }
}

fn one_class() -> (Plan, ClassId) {
    let mut plan = plan().with_shards(2);
    let class = plan.class(Class::strict("only").with_capacity(64).block());
    (plan, class)
}

/// Starts an engine whose handlers act as told, seals it, and sends events through it, from a sealed producer too.
fn run<F: FnMut(u64) + 'static>(mode: Seal, act: impl Fn() -> F + Send + Sync + 'static) -> Report {
    let (plan, class) = one_class();
    let engine = plan.start(Proof::default, move |_| kettle(act())).unwrap();
    engine.seal(mode).unwrap();
    let mut tx = engine.attach().unwrap();
    let producer = std::thread::spawn(move || {
        let seal = seal_thread(mode).unwrap();
        for at in 0..EVENTS {
            let (key, sequence) = (at % KEYS, at / KEYS);
            let proof = Proof::new(1, class, key, sequence, at);
            tx.publish(class, key, |event| *event = proof).unwrap();
        }
        seal.finish()
    });
    assert_eq!(producer.join().unwrap().allocations, 0, "the producer's thread allocated");
    let mut report = engine.stop(Duration::from_secs(30)).unwrap();
    assert_closed(&report);
    assert!(report.drained);
    let (handled, faults) =
        report.outputs::<(u64, u64)>().into_iter().fold((0, 0), |sum, end| (sum.0 + end.0, sum.1 + end.1));
    assert_eq!((handled, faults), (EVENTS, 0));
    report
}

#[test]
fn all_who_seal_at_once_are_answered() {
    const ASKING: usize = 4;
    let _dog = watchdog();
    let (plan, class) = one_class();
    let engine = plan.start(Proof::default, |_| kettle(idle)).unwrap();
    let together = std::sync::Barrier::new(ASKING);
    std::thread::scope(|scope| {
        for asking in 0..ASKING {
            let (engine, together) = (&engine, &together);
            scope.spawn(move || {
                for at in 0..20 {
                    together.wait();
                    let mode = if (asking + at) % 2 == 0 { Seal::Count } else { Seal::Abort };
                    engine.seal(mode).unwrap();
                }
            });
        }
    });
    let (mut tx, mut source) = (engine.attach().unwrap(), Source::new(1));
    for key in 0..EVENTS {
        source.publish(&mut tx, class, key % KEYS).unwrap();
    }
    let mut report = engine.stop(Duration::from_secs(30)).unwrap();
    assert_closed(&report);
    report.assert_sealed();
    let ends = report.outputs::<(u64, u64)>();
    assert_eq!(ends.iter().fold((0, 0), |sum, end| (sum.0 + end.0, sum.1 + end.1)), (EVENTS, 0));
}

/// The message with which `work` panics.
fn panic_of(work: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(work)).unwrap_err();
    *panic.downcast::<String>().unwrap()
}

#[inline(never)]
fn brews_tea(at: u64) {
    black_box(Box::new(at));
}

fn idle(_: u64) {}

#[inline(never)]
fn writes_a_letter(at: u64) {
    black_box(format!("letter {at}"));
}

#[test]
fn what_a_handler_allocates_is_counted_with_the_name_of_its_function() {
    let _dog = watchdog();
    let report = run(Seal::Count, || {
        |n| {
            if n % 7 == 0 {
                brews_tea(n)
            }
        }
    });
    let sevenths: u64 = report.shards.iter().map(|shard| shard.counts.handled / 7).sum();
    let sealed = report.sealed().unwrap();
    assert_eq!((sealed.allocations, sealed.others), (sevenths, 0), "{sealed}");
    assert_eq!(sealed.places.iter().map(|place| place.count).sum::<u64>(), sevenths);
    // The box is given back at once.
    assert!(sealed.frees >= sevenths, "{}", sealed.frees);
    for place in &sealed.places {
        assert!(place.function().ends_with("brews_tea"), "{place:#}");
        let own = &place.frames()[0];
        assert!(own.file.as_ref().is_some_and(|file| file.ends_with("sealed.rs")), "{own}");
        let chain = format!("{place:#}");
        assert!(chain.contains("on_event") || chain.contains("serve"), "{chain}");
    }
    let text = report.to_string();
    assert!(text.contains("sealed: ") && text.contains("brews_tea"), "{text}");
    let message = panic_of(|| report.assert_sealed());
    assert!(message.contains("expected no allocations") && message.contains("brews_tea"), "{message}");
}

#[test]
fn a_sealed_engine_that_allocates_nothing_reports_nothing() {
    let _dog = watchdog();
    let report = run(Seal::Abort, || |_| ());
    for shard in &report.shards {
        let sealed = shard.sealed.as_ref().unwrap();
        assert_eq!((sealed.allocations, sealed.others, sealed.places.len()), (0, 0, 0), "{sealed}");
        assert_eq!(sealed.frees, 0);
    }
    report.assert_sealed();
    assert!(!report.to_string().contains("sealed"), "{report}");
}

#[test]
fn looking_at_a_sealed_engine_allocates_nothing_on_its_shards() {
    let _dog = watchdog();
    let (plan, _) = one_class();
    let engine = plan.start(Proof::default, |_| kettle(idle as fn(u64))).unwrap();
    engine.seal(Seal::Count).unwrap();
    for shard in [0, 1, 0, 1].map(ShardId) {
        assert_eq!(engine.ask(shard, |kettle: &mut Kettle<fn(u64)>| kettle.handled), Ok(0));
        #[cfg(feature = "latency")]
        assert_eq!(engine.latency().unwrap().len(), 1);
        assert!(engine.ledger().is_closed());
    }
    let report = engine.stop(Duration::from_secs(10)).unwrap();
    assert_closed(&report);
    report.assert_sealed();
}

#[test]
fn sealing_again_begins_anew_and_panics_count() {
    quiet_panics();
    let _dog = watchdog();
    let (plan, class) = one_class();
    let plan = plan.with_shards(1);
    let act = |n: u64| match n {
        1 => brews_tea(n),
        2 => panic!("boiled over"),
        _ => {}
    };
    let engine = plan.start(Proof::default, move |_| kettle(act)).unwrap();
    engine.seal(Seal::Count).unwrap();
    let mut tx = engine.attach().unwrap();
    let mut publish = |at| {
        tx.publish(class, 0, |event| *event = Proof::new(1, class, 0, at, at)).unwrap();
        assert!(engine.drain(Duration::from_secs(30)));
    };
    publish(0);
    engine.seal(Seal::Count).unwrap();
    publish(1);
    publish(2);
    let report = engine.stop(Duration::from_secs(10)).unwrap();
    assert_closed(&report);
    let sealed = report.sealed().unwrap();
    assert!(sealed.allocations > 0, "a panic allocates");
    let text = format!("{sealed}");
    assert!(!text.contains("brews_tea"), "that was before: {text}");
    assert_eq!(report.ledger.total().failed_total(), 1);
}

#[test]
fn an_engine_that_was_not_sealed_says_so() {
    let _dog = watchdog();
    let (plan, _) = one_class();
    let engine = plan.start(Proof::default, |_| kettle(idle as fn(u64))).unwrap();
    let report = engine.stop(Duration::from_secs(10)).unwrap();
    assert_closed(&report);
    assert!(report.sealed().is_none());
    let message = panic_of(|| report.assert_sealed());
    assert!(message.contains("was not sealed"), "{message}");
}

#[test]
fn a_sealed_thread_that_is_to_abort_does() {
    const CHILD: &str = "PELTON_TEST_SEALED_CHILD";
    if std::env::var_os(CHILD).is_some() {
        let _dog = watchdog();
        run(Seal::Abort, || {
            |n| {
                if n == 100 {
                    writes_a_letter(n)
                }
            }
        });
        unreachable!("a sealed thread allocated and went on");
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["a_sealed_thread_that_is_to_abort_does", "--exact", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && output.status.code().is_none(), "{:?}: {said}", output.status);
    #[cfg(unix)]
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&output.status), Some(libc::SIGABRT));
    for part in ["a sealed thread allocates", "writes_a_letter", "sealed.rs:"] {
        assert!(said.contains(part), "{part} is missing: {said}");
    }
}

#[test]
fn a_test_of_ones_own_can_assert_it() {
    quiet_panics();
    assert_eq!(assert_no_allocations(|| 2 + 2), 4);
    let message = panic_of(|| assert_no_allocations(|| brews_tea(1)));
    assert!(message.contains("found 1 allocation:") && message.contains("brews_tea"), "{message}");
    // The seal has ended with the panic, and with that of the work itself.
    assert_eq!(panic_of(|| assert_no_allocations(|| -> () { panic!("{}", "itself") })), "itself");
    let seal = seal_thread(Seal::Count).unwrap();
    brews_tea(2);
    assert_eq!(seal.finish().allocations, 1);
}

/// Allocates under as many calls as are asked for: each depth is a place of its own.
#[inline(never)]
fn brews_below(depth: usize) {
    match depth {
        0 => brews_tea(0),
        _ => black_box(brews_below as fn(usize))(black_box(depth - 1)),
    }
    black_box(());
}

#[test]
fn places_past_the_last_one_are_counted_together() {
    let depths = PLACES_MAX + 5;
    let seal = seal_thread(Seal::Count).unwrap();
    for _ in 0..3 {
        (0..depths).for_each(brews_below);
    }
    let sealed = seal.finish();
    assert_eq!(sealed.allocations, 3 * depths as u64);
    assert_eq!((sealed.places.len(), sealed.others), (PLACES_MAX, 3 * 5));
    assert!(sealed.places.iter().all(|place| place.count == 3));
    assert!(sealed.to_string().contains("15 x elsewhere"), "{sealed}");
}

/// What a thread may do.
#[derive(Clone, Copy, Debug)]
enum Step {
    Seal,
    /// Ends one of the seals that are open.
    End(usize),
    Allocate(usize),
    Free,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        Just(Step::Seal),
        (0usize..8).prop_map(Step::End),
        (0usize..5).prop_map(Step::Allocate),
        Just(Step::Free)
    ];
    proptest::collection::vec(step, 1..64)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Seals of one thread begin and end in any order; each counts what lay between its own two ends.
    #[test]
    fn seals_may_overlap(steps in steps()) {
        // Nothing here allocates but what a step says, so the expected counts are kept in memory that is there.
        let mut open: Vec<(ThreadSeal, u64, u64)> = Vec::with_capacity(64);
        let mut kept: Vec<Box<u64>> = Vec::with_capacity(64);
        let (mut allocated, mut freed) = (0, 0);
        for step in steps {
            match step {
                Step::Seal => {
                    let seal = seal_thread(Seal::Count).unwrap();
                    open.push((seal, allocated, freed));
                }
                Step::End(at) => {
                    if at < open.len() {
                        let (seal, allocations, frees) = open.swap_remove(at);
                        let sealed = seal.finish();
                        let found = (sealed.allocations, sealed.frees);
                        let places: u64 = sealed.places.iter().map(|place| place.count).sum();
                        prop_assert_eq!(found, (allocated - allocations, freed - frees));
                        prop_assert_eq!(places + sealed.others, sealed.allocations);
                        // The report's own memory is given back within the seals that are still open.
                        freed += u64::from(sealed.places.capacity() > 0) + sealed.places.len() as u64;
                    }
                }
                Step::Allocate(n) => {
                    let before = thread_allocations();
                    for _ in 0..n.min(64 - kept.len()) {
                        kept.push(Box::new(7));
                    }
                    allocated += thread_allocations() - before;
                }
                Step::Free => freed += u64::from(kept.pop().is_some()),
            }
        }
    }
}

#[test]
fn a_shard_that_is_polled_by_another_thread_than_was_sealed_says_nothing() {
    let _dog = watchdog();
    let mut plan = plan();
    plan.class(Class::strict("only").with_capacity(8));
    let mut rig = rig(plan, |_| recording());
    std::thread::scope(|scope| {
        let Rig { engine, shards, .. } = &mut rig;
        let sealed = scope.spawn(|| engine.seal(Seal::Count));
        while !sealed.is_finished() {
            shards.iter_mut().for_each(|shard| _ = shard.poll());
        }
        sealed.join().unwrap().unwrap();
    });
    let (report, ends) = std::thread::spawn(move || rig.end_now()).join().unwrap();
    assert_closed(&report);
    assert!(ends.iter().all(|end| end.sealed.is_none()));
    // This thread is still sealed, and works as ever.
    let seal = seal_thread(Seal::Count).unwrap();
    brews_tea(1);
    assert_eq!(seal.finish().allocations, 1);
}
