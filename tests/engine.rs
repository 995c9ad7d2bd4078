//! An engine does what its plan says, and a plan that cannot be is refused as a whole, before anything is started, with
//! errors that name each setting, its value, its limit and a value that would work.

mod support;

use pelton::class::Stamp;
use pelton::engine::{PlanError, PlanErrors, SealError, StartError};
use pelton::memory::footprint::host_memory_bytes;
use pelton::memory::seal::{NotCounted, Seal};
use pelton::shard::nameable;
use pelton::wait::Wait;
use pelton::{Class, Context, Event, Handler, Outcome, Plan, Profile, Rejection, Verdict};
use std::time::Duration;
use support::*;

#[derive(Default)]
struct Tick {
    price: u64,
}

#[derive(Default)]
struct Book {
    sum: u64,
}

impl Handler<Tick> for Book {
    type Output = u64;
    fn on_event(&mut self, event: &mut Event<'_, Tick>, _: &mut Context<'_, Tick>) -> Verdict {
        self.sum += event.price;
        Verdict::Done
    }
    fn on_stop(self, _: &mut Context<'_, Tick>) -> u64 {
        self.sum
    }
}

#[test]
fn events_reach_their_handlers_and_the_ledger_closes() {
    let _dog = watchdog();
    let mut plan = Plan::new(Profile::Dev).shards(2).overcommitted(true).producers_max(2).announce(false);
    let orders = plan.class(Class::strict("orders").capacity(64).block());
    let ticks = plan.class(Class::weighted("ticks", 1).capacity(64).drop_newest());
    let engine = plan.start(Tick::default, |_| Book::default()).unwrap();
    let mut tx = engine.attach().unwrap();
    let mut sum = 0;
    for i in 0..10_000u64 {
        tx.publish(orders, i, |tick| tick.price = i).unwrap();
        sum += i;
        if tx.publish(ticks, i, |tick| tick.price = 1).unwrap() == Outcome::Accepted {
            sum += 1;
        }
    }
    drop(tx);
    let mut report = engine.stop(Duration::from_secs(50)).unwrap();
    assert_closed(&report);
    assert!(report.drained && report.to_string().contains("ledger closed"), "{report}");
    assert_eq!(report.outputs::<u64>().iter().sum::<u64>(), sum);
    assert_eq!(report.ledger.class(orders).handled, 10_000);
    let counts = report.ledger.class(ticks);
    assert_eq!(counts.rejected_for(Rejection::DroppedNewest) + counts.handled, 10_000);
}

#[test]
fn every_profile_and_every_wait_strategy_carries_events_in_order() {
    let _dog = watchdog();
    for profile in [Profile::Dev, Profile::Balanced, Profile::Latency, Profile::Throughput] {
        for wait in [None, Some(Wait::Spin), Some(Wait::Yield), Some(Wait::Park)] {
            let mut plan = Plan::new(profile).unpinned().producers_max(1).announce(false);
            assert_eq!(plan.profile(), profile);
            if let Some(wait) = wait {
                plan = plan.wait(wait);
            }
            let class = plan.class(Class::strict("only").capacity(16).block());
            let engine = plan.start(Proof::default, |_| recording()).unwrap();
            let (mut tx, mut source) = (engine.attach().unwrap(), Source::new(0));
            for key in 0..300 {
                source.publish(&mut tx, class, key % 7).unwrap();
            }
            let mut report = engine.stop(Duration::from_secs(50)).unwrap();
            assert!(report.drained);
            let witnesses = report.outputs();
            assert_invariants(&report, &[source], &witnesses);
        }
    }
    for wait in [Wait::Spin, Wait::Yield, Wait::Park] {
        assert_eq!(wait.to_string().parse(), Ok(wait));
    }
    assert!("sleep".parse::<Wait>().unwrap_err().contains("'sleep'"));
}

#[test]
#[cfg(target_os = "linux")]
fn a_start_minds_no_standard_error_that_takes_nothing() {
    const CHILD: &str = "PELTON_TEST_FULL_STDERR";
    let _dog = watchdog();
    if std::env::var_os(CHILD).is_none() {
        let full = ["sh", "-c", "exec \"$@\" 2>/dev/full", "sh"];
        let test = "a_start_minds_no_standard_error_that_takes_nothing";
        let said = in_a_process_of_its_own(test, CHILD, &full);
        assert!(said.contains("1 passed"), "{said}");
        return;
    }
    // As a program that is built with `panic = "abort"`: not even a panic that is caught may happen.
    std::panic::set_hook(Box::new(|_| std::process::exit(77)));
    let mut plan = plan().announce(true);
    let class = plan.class(Class::strict("only").capacity(8).block());
    let engine = plan.start(Proof::default, |_| recording()).unwrap();
    let (mut tx, mut source) = (engine.attach().unwrap(), Source::new(0));
    for key in 0..100 {
        source.publish(&mut tx, class, key % 7).unwrap();
    }
    let mut report = engine.stop(Duration::from_secs(50)).unwrap();
    let witnesses = report.outputs();
    assert_invariants(&report, &[source], &witnesses);
}

#[test]
fn a_plan_says_what_it_starts_whoever_drives_it() {
    const CHILD: &str = "PELTON_TEST_SAYS";
    let _dog = watchdog();
    if std::env::var_os(CHILD).is_none() {
        let said = in_a_process_of_its_own("a_plan_says_what_it_starts_whoever_drives_it", CHILD, &[]);
        for part in
            ["1 shard not pinned, wait", "2 shards driven by their host, wait", "\n  first: ", "\n  second: "]
        {
            assert_eq!(said.matches(part).count(), 1, "{part}: {said}");
        }
        assert!(!said.contains("third"), "{said}");
        return;
    }
    let plan = |name: &str, shards| {
        let mut plan = plan().shards(shards).announce(name != "third");
        let class = plan.class(Class::strict(name).capacity(8).block());
        (plan, class)
    };
    let engine = plan("first", 1).0.start(Proof::default, |_| recording()).unwrap();
    assert_closed(&engine.stop(Duration::from_secs(50)).unwrap());
    for (name, id) in [("second", 0), ("third", 1)] {
        let (plan, class) = plan(name, 2);
        let mut rig = rig(plan, |_| recording());
        rig.poll();
        let (mut tx, mut source) = (rig.engine.attach().unwrap(), Source::new(id));
        for key in 0..8 {
            source.publish(&mut tx, class, key).unwrap();
            rig.run_dry();
        }
        drop(tx);
        let (report, ends) = rig.end();
        assert_invariants(&report, &[source], &witnesses(ends));
    }
}

fn sound() -> Plan {
    let mut plan = plan();
    plan.class(Class::strict("sound").capacity(2));
    plan
}

/// The same with pinned shards.
fn pinned() -> Plan {
    let mut plan = Plan::new(Profile::Dev).announce(false);
    plan.class(Class::strict("sound").capacity(2));
    plan
}

/// The only thing that is wrong with a plan; its message names setting, value, limit and what works.
#[track_caller]
fn only_error(plan: &Plan) -> PlanError {
    only_error_for::<u64>(plan)
}

#[track_caller]
fn only_error_for<E>(plan: &Plan) -> PlanError {
    let PlanErrors(mut errors) = plan.check::<E>().unwrap_err();
    assert_eq!(errors.len(), 1, "{errors:?}");
    let error = errors.pop().unwrap();
    let PlanError { setting, value, limit, works, .. } = &error;
    assert_eq!(error.to_string(), format!("{setting} is {value}, but must be {limit}; {works} would work"));
    error
}

#[test]
fn a_plan_that_cannot_be_names_setting_value_limit_and_what_works() {
    let _dog = watchdog();
    let cases: Vec<(Plan, &str, &str, &str)> = vec![
        (sound().shards(0), "shards", "0", "1"),
        (sound().shards(257), "shards", "257", "256"),
        (sound().producers_max(0), "producers_max", "0", "1"),
        (sound().producers_max(300), "producers_max", "300", "256"),
        (sound().burst(0), "burst_events", "0", "1"),
        (sound().burst(65_537), "burst_events", "65537", "65536"),
        (sound().floor(0), "floor_bursts", "0", "1"),
        (sound().partitions(0), "partitions", "0", "1024"),
        (sound().partitions(1_000), "partitions", "1000", "1024"),
        (sound().partitions(1_025), "partitions", "1025", "2048"),
        (sound().partitions(1 << 17), "partitions", "131072", "65536"),
        (sound().scratch_bytes((1 << 30) + 1), "scratch_bytes", "1073741825", "1073741824"),
        (plan(), "classes", "0", "1"),
    ];
    for (plan, setting, value, works) in cases {
        let error = only_error(&plan);
        assert_eq!(
            (error.setting.as_str(), error.value.as_str(), error.works.as_str()),
            (setting, value, works)
        );
    }
    let mut many = plan();
    for n in 0..9 {
        many.class(Class::strict(format!("class {n}")).capacity(1));
    }
    let error = only_error(&many);
    assert_eq!((error.setting.as_str(), error.value.as_str(), error.works.as_str()), ("classes", "9", "8"));
}

#[test]
fn a_class_that_cannot_be_is_named_with_its_setting() {
    let _dog = watchdog();
    let cases = [
        (Class::strict("bulk").capacity(0), "class 'bulk': capacity_slots", "0", "1"),
        (Class::strict("bulk").capacity(3), "class 'bulk': capacity_slots", "3", "4"),
        (Class::strict("bulk").capacity(u32::MAX), "class 'bulk': capacity_slots", "4294967295", "67108864"),
        (Class::strict("bulk").payload_bytes(1), "class 'bulk': payload_ring_bytes", "1", "64"),
        (Class::strict("bulk").payload_bytes(100), "class 'bulk': payload_ring_bytes", "100", "128"),
        (Class::weighted("bulk", 0), "class 'bulk': weight", "0", "1"),
        (Class::weighted("bulk", 1_001), "class 'bulk': weight", "1001", "1000"),
        (
            Class::strict("bulk").stamp(Stamp::OneIn(1)),
            "class 'bulk': stamp_one_in",
            "one in 1",
            "Stamp::Every or Stamp::Never",
        ),
        (Class::strict("bulk").stamp(Stamp::OneIn(65)), "class 'bulk': stamp_one_in", "65", "128"),
        (Class::strict("bulk").ttl(Duration::ZERO), "class 'bulk': ttl_us", "0", "1"),
        (Class::strict("bulk").block_for(Duration::ZERO), "class 'bulk': block_limit_us", "0", "1"),
        (Class::strict("sound"), "class 1: name", "'sound'", "'class1'"),
        (Class::strict(""), "class 1: name", "''", "'class1'"),
    ];
    for (class, setting, value, works) in cases {
        let mut plan = sound();
        plan.class(class);
        let error = only_error(&plan);
        assert_eq!(
            (error.setting.as_str(), error.value.as_str(), error.works.as_str()),
            (setting, value, works)
        );
        // The start says the same, and starts nothing.
        let said = plan.start(|| 0u64, |_| |_: &mut Event<'_, u64>, _: &mut Context<'_, u64>| ()).map(|_| ());
        assert!(matches!(said, Err(StartError::Plan(PlanErrors(errors))) if errors == [error]));
    }
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let _dog = watchdog();
    let mut plan = plan().shards(0).burst(0);
    plan.class(Class::weighted("a", 0).capacity(5).payload_bytes(7));
    plan.class(Class::strict("a").ttl(Duration::ZERO));
    let errors = plan.check::<u64>().unwrap_err();
    assert_eq!(errors.0.len(), 7, "{errors}");
    let text = errors.to_string();
    assert_eq!(text.lines().count(), 7);
    for setting in [
        "shards",
        "burst_events",
        "capacity_slots",
        "payload_ring_bytes",
        "weight",
        "class 1: name",
        "ttl_us",
    ] {
        assert!(text.contains(setting), "{setting}: {text}");
    }
    assert!(text.lines().all(|line| line.contains("but must be") && line.ends_with("would work")), "{text}");
}

#[test]
fn cpus_that_are_named_must_be_there() {
    let _dog = watchdog();
    let there = nameable();
    let error = only_error(&pinned().cpus([there[0], 4_095]));
    assert_eq!((error.setting.as_str(), error.value.as_str()), ("cpus", "4095"));
    assert_eq!(error.works, there[0].to_string());
    // All that are missing are told in one go, in order and each once.
    let many: Vec<_> = (4_000..4_095).rev().chain([4_094, there[0], 3_999]).collect();
    assert_eq!(only_error(&pinned().cpus(many)).value, "3999-4006 and 88 more");
    assert_eq!(only_error(&pinned().cpus([4_095, 4_001, 4_000])).value, "4000-4001,4095");
    let error = only_error(&pinned().cpus([]));
    assert_eq!((error.setting.as_str(), error.value.as_str()), ("cpus", "empty"));
    assert!(pinned().cpus(there).check::<u64>().is_ok());
}

#[test]
fn the_footprint_is_the_sum_of_its_terms() {
    let _dog = watchdog();
    let mut plan =
        plan().shards(3).producers_max(5).mesh(true).scratch_bytes(8_192).reserve("tables", 1_000_000);
    plan.class(Class::strict("a").capacity(64).payload_bytes(4_096));
    plan.class(Class::weighted("b", 1).capacity(128));
    let footprint = plan.footprint::<[u8; 48]>();
    let sum: u64 = footprint.terms.iter().map(|term| term.count * term.bytes_each).sum();
    assert_eq!(footprint.total_bytes(), sum);
    let term = |name: &str| {
        let term = footprint.terms.iter().find(|term| term.name.contains(name));
        term.unwrap_or_else(|| panic!("no term '{name}':\n{footprint}"))
    };
    // Three shards, each with a lane for five producers and three shards.
    assert_eq!((term("'a': slots").count, term("'a': payload ring").bytes_each), (24, 4_096));
    assert_eq!((term("'b': slots").count, term("'b': slots").bytes_each % 128), (24, 0));
    assert!(term("'b': slots").bytes_each >= 128 * 64);
    assert_eq!(term("tables").bytes(), 3_000_000);
    assert!(term("scratch").bytes_each >= 8_192 && term("lanes").count == 48);
    assert!(!footprint.terms.iter().any(|term| term.name.contains("'b': payload")), "{footprint}");
    let text = footprint.to_string();
    assert!(
        footprint.terms.iter().all(|term| text.contains(&term.name)) && text.contains(&sum.to_string()),
        "{text}"
    );
    // A running engine has the same.
    let engine = plan
        .start(|| [0u8; 48], |_| |_: &mut Event<'_, [u8; 48]>, _: &mut Context<'_, [u8; 48]>| ())
        .unwrap();
    assert_eq!(engine.footprint(), footprint);
    let report = engine.stop(Duration::from_secs(50)).unwrap();
    assert_closed(&report);
    assert_eq!(report.footprint, footprint);
}

#[test]
fn the_footprint_of_an_impossible_plan_is_a_figure_too() {
    let _dog = watchdog();
    let mut plan = plan().shards(u16::MAX).producers_max(u16::MAX).mesh(true).scratch_bytes(u32::MAX);
    for n in 0..200 {
        plan.class(Class::strict(format!("{n}")).capacity(u32::MAX).payload_bytes(u32::MAX));
    }
    assert!(plan.footprint::<[u8; 1 << 16]>().total_bytes() > 1 << 60);
    assert!(plan.check::<[u8; 1 << 16]>().is_err());
}

#[test]
fn a_footprint_beyond_all_numbers_is_refused_with_what_would_fit() {
    let _dog = watchdog();
    let mut plan = plan().shards(256).producers_max(256).mesh(true).event_bytes(1 << 20).memory_max(1);
    for name in ["a", "b"] {
        plan.class(Class::strict(name).capacity(1 << 26).payload_bytes(1 << 30));
    }
    assert_eq!(plan.footprint::<[u8; 1 << 20]>().total_bytes(), u64::MAX);
    let error = only_error_for::<[u8; 1 << 20]>(&plan);
    assert_eq!(error.works, "1/18446744073709551616 of each of its terms", "{error}");
}

#[test]
fn a_footprint_above_what_may_be_taken_is_refused() {
    let _dog = watchdog();
    let bytes = sound().footprint::<u64>().total_bytes();
    assert!(sound().memory_max(bytes).check::<u64>().is_ok());
    let error = only_error(&sound().memory_max(bytes - 1));
    assert!(error.setting.starts_with("footprint"), "{error}");
    assert!(
        error.value.contains(&bytes.to_string()) && error.limit.contains(&(bytes - 1).to_string()),
        "{error}"
    );
    // Reserved memory counts.
    assert!(sound().memory_max(bytes + 10).reserve("more", 11).check::<u64>().is_err());
    // Without a limit of the user's: what the machine has. Nothing is touched by asking.
    if let Some(host) = host_memory_bytes() {
        let mut plan = plan().shards(256).producers_max(256);
        plan.class(Class::strict("huge").capacity(1 << 26));
        let error = only_error(&plan);
        assert!(error.limit.contains(&host.to_string()), "{error}");
        assert!(plan.start(|| 0u64, |_| |_: &mut Event<'_, u64>, _: &mut Context<'_, u64>| ()).is_err());
    }
}

#[test]
fn without_a_counting_allocator_an_engine_says_that_it_cannot_be_sealed() {
    let _dog = watchdog();
    let mut plan = plan();
    let class = plan.class(Class::strict("only").capacity(8));
    let engine = plan.start(Proof::default, |_| recording()).unwrap();
    let why = if cfg!(feature = "audit") { NotCounted::NotInstalled } else { NotCounted::FeatureOff };
    for mode in [Seal::Count, Seal::Abort] {
        assert_eq!(engine.seal(mode), Err(SealError::NotCounted(why)));
    }
    let text = why.to_string();
    let how = if cfg!(feature = "audit") { "#[global_allocator]" } else { "feature `audit`" };
    assert!(text.contains(how), "{text}");
    #[cfg(feature = "audit")]
    assert!(pelton::memory::audit::seal_thread(Seal::Abort).is_err_and(|error| error == why));
    // It runs on as if nobody had asked.
    let (mut tx, mut source) = (engine.attach().unwrap(), Source::new(1));
    for _ in 0..10 {
        source.publish(&mut tx, class, 1).unwrap();
    }
    let mut report = engine.stop(Duration::from_secs(10)).unwrap();
    assert!(report.sealed().is_none());
    let seen = report.outputs::<Witness>();
    assert_invariants(&report, &[source], &seen);
}

#[test]
fn huge_pages_are_refused_where_this_build_has_none() {
    let mut asks = plan().huge_pages(true);
    asks.class(Class::strict("only").capacity(8));
    let checked = asks.check::<Tick>();
    if cfg!(all(feature = "hugepages", target_os = "linux")) {
        assert_eq!(checked, Ok(()));
        return;
    }
    let errors = checked.unwrap_err();
    assert_eq!(errors.0.len(), 1, "{errors}");
    let text = errors.to_string();
    assert!(text.contains("huge_pages is true") && text.contains("feature `hugepages`"), "{text}");
    assert!(asks.start(Tick::default, |_| Book::default()).is_err());
}
