//! An engine does what its plan says, and a plan that cannot be is refused as a whole, before anything is started, with
//! errors that name each setting, its value, its limit and a value that would work.

use pelton::class::Stamp;
use pelton::engine::{PlanError, PlanErrors, StartError};
use pelton::memory::footprint::host_memory_bytes;
use pelton::park::Wait;
use pelton::shard::nameable;
use pelton::{
    AnyHandler, Class, Context, Event, Handler, Outcome, Plan, Profile, Rejection, ShardId, Verdict, handler,
};
use pelton_testkit::*;
use std::time::Duration;

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
    let mut plan = Plan::new(Profile::Dev)
        .with_shards(2)
        .with_overcommitted(true)
        .with_producers_max(2)
        .with_announce(false);
    let orders = plan.class(Class::strict("orders").with_capacity(64).block());
    let ticks = plan.class(Class::weighted("ticks", 1).with_capacity(64).drop_newest());
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
            let mut plan = Plan::new(profile).unpinned().with_producers_max(1).with_announce(false);
            assert_eq!(plan.profile(), profile);
            if let Some(wait) = wait {
                plan = plan.with_wait(wait);
            }
            let class = plan.class(Class::strict("only").with_capacity(16).block());
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
        let said = in_a_process_of_its_own(CHILD, &full);
        assert!(said.contains("1 passed"), "{said}");
        return;
    }
    // As a program that is built with `panic = "abort"`: not even a panic that is caught may happen.
    std::panic::set_hook(Box::new(|_| std::process::exit(77)));
    let mut plan = plan().with_announce(true);
    let class = plan.class(Class::strict("only").with_capacity(8).block());
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
        let said = in_a_process_of_its_own(CHILD, &[]);
        for part in
            ["1 shard not pinned, wait", "2 shards driven by their host, wait", "\n  first: ", "\n  second: "]
        {
            assert_eq!(said.matches(part).count(), 1, "{part}: {said}");
        }
        assert!(!said.contains("third"), "{said}");
        return;
    }
    let plan = |name: &str, shards| {
        let mut plan = plan().with_shards(shards).with_announce(name != "third");
        let class = plan.class(Class::strict(name).with_capacity(8).block());
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
    plan.class(Class::strict("sound").with_capacity(2));
    plan
}

/// The same with pinned shards.
fn pinned() -> Plan {
    let mut plan = Plan::new(Profile::Dev).with_announce(false);
    plan.class(Class::strict("sound").with_capacity(2));
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
        (sound().with_shards(0), "shards", "0", "1"),
        (sound().with_shards(257), "shards", "257", "256"),
        (sound().with_producers_max(0), "producers_max", "0", "1"),
        (sound().with_producers_max(300), "producers_max", "300", "256"),
        (sound().with_burst(0), "burst_events", "0", "1"),
        (sound().with_burst(65_537), "burst_events", "65537", "65536"),
        (sound().with_floor(0), "floor_bursts", "0", "1"),
        (sound().with_partitions(0), "partitions", "0", "1024"),
        (sound().with_partitions(1_000), "partitions", "1000", "1024"),
        (sound().with_partitions(1_025), "partitions", "1025", "2048"),
        (sound().with_partitions(1 << 17), "partitions", "131072", "65536"),
        (sound().with_scratch_bytes((1 << 30) + 1), "scratch_bytes", "1073741825", "1073741824"),
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
        many.class(Class::strict(format!("class {n}")).with_capacity(1));
    }
    let error = only_error(&many);
    assert_eq!((error.setting.as_str(), error.value.as_str(), error.works.as_str()), ("classes", "9", "8"));
}

#[test]
fn a_class_that_cannot_be_is_named_with_its_setting() {
    let _dog = watchdog();
    let cases = [
        (Class::strict("bulk").with_capacity(0), "class 'bulk': capacity_slots", "0", "1"),
        (Class::strict("bulk").with_capacity(3), "class 'bulk': capacity_slots", "3", "4"),
        (
            Class::strict("bulk").with_capacity(u32::MAX),
            "class 'bulk': capacity_slots",
            "4294967295",
            "67108864",
        ),
        (Class::strict("bulk").with_payload_bytes(1), "class 'bulk': payload_ring_bytes", "1", "64"),
        (Class::strict("bulk").with_payload_bytes(100), "class 'bulk': payload_ring_bytes", "100", "128"),
        (Class::weighted("bulk", 0), "class 'bulk': weight", "0", "1"),
        (Class::weighted("bulk", 1_001), "class 'bulk': weight", "1001", "1000"),
        (
            Class::strict("bulk").with_stamp(Stamp::OneIn(1)),
            "class 'bulk': stamp_one_in",
            "one in 1",
            "Stamp::Every or Stamp::Never",
        ),
        (Class::strict("bulk").with_stamp(Stamp::OneIn(65)), "class 'bulk': stamp_one_in", "65", "128"),
        (Class::strict("bulk").with_ttl(Duration::ZERO), "class 'bulk': ttl_us", "0", "1"),
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
    let mut plan = plan().with_shards(0).with_burst(0);
    plan.class(Class::weighted("a", 0).with_capacity(5).with_payload_bytes(7));
    plan.class(Class::strict("a").with_ttl(Duration::ZERO));
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
    let error = only_error(&pinned().with_cpus([there[0], 4_095]));
    assert_eq!((error.setting.as_str(), error.value.as_str()), ("cpus", "4095"));
    assert_eq!(error.works, there[0].to_string());
    // All that are missing are told in one go, in order and each once.
    let many: Vec<_> = (4_000..4_095).rev().chain([4_094, there[0], 3_999]).collect();
    assert_eq!(only_error(&pinned().with_cpus(many)).value, "3999-4006 and 88 more");
    assert_eq!(only_error(&pinned().with_cpus([4_095, 4_001, 4_000])).value, "4000-4001,4095");
    let error = only_error(&pinned().with_cpus([]));
    assert_eq!((error.setting.as_str(), error.value.as_str()), ("cpus", "empty"));
    assert!(pinned().with_cpus(there).check::<u64>().is_ok());
}

#[test]
fn the_footprint_is_the_sum_of_its_terms() {
    let _dog = watchdog();
    let mut plan = plan()
        .with_shards(3)
        .with_producers_max(5)
        .with_mesh(true)
        .with_scratch_bytes(8_192)
        .reserve("tables", 1_000_000);
    plan.class(Class::strict("a").with_capacity(64).with_payload_bytes(4_096));
    plan.class(Class::weighted("b", 1).with_capacity(128));
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
    let mut plan = plan()
        .with_shards(u16::MAX)
        .with_producers_max(u16::MAX)
        .with_mesh(true)
        .with_scratch_bytes(u32::MAX);
    for n in 0..200 {
        plan.class(Class::strict(format!("{n}")).with_capacity(u32::MAX).with_payload_bytes(u32::MAX));
    }
    assert!(plan.footprint::<[u8; 1 << 16]>().total_bytes() > 1 << 60);
    assert!(plan.check::<[u8; 1 << 16]>().is_err());
}

#[test]
fn a_footprint_beyond_all_numbers_is_refused_with_what_would_fit() {
    let _dog = watchdog();
    let mut plan = plan()
        .with_shards(256)
        .with_producers_max(256)
        .with_mesh(true)
        .with_event_bytes(1 << 20)
        .with_memory_max(1);
    for name in ["a", "b"] {
        plan.class(Class::strict(name).with_capacity(1 << 26).with_payload_bytes(1 << 30));
    }
    assert_eq!(plan.footprint::<[u8; 1 << 20]>().total_bytes(), u64::MAX);
    let error = only_error_for::<[u8; 1 << 20]>(&plan);
    assert_eq!(error.works, "1/18446744073709551616 of each of its terms", "{error}");
}

#[test]
fn a_footprint_above_what_may_be_taken_is_refused() {
    let _dog = watchdog();
    let bytes = sound().footprint::<u64>().total_bytes();
    assert!(sound().with_memory_max(bytes).check::<u64>().is_ok());
    let error = only_error(&sound().with_memory_max(bytes - 1));
    assert!(error.setting.starts_with("footprint"), "{error}");
    assert!(
        error.value.contains(&bytes.to_string()) && error.limit.contains(&(bytes - 1).to_string()),
        "{error}"
    );
    // Reserved memory counts.
    assert!(sound().with_memory_max(bytes + 10).reserve("more", 11).check::<u64>().is_err());
    // Without a limit of the user's: what the machine has. Nothing is touched by asking.
    if let Some(host) = host_memory_bytes() {
        let mut plan = plan().with_shards(256).with_producers_max(256);
        plan.class(Class::strict("huge").with_capacity(1 << 26));
        let error = only_error(&plan);
        assert!(error.limit.contains(&host.to_string()), "{error}");
        assert!(plan.start(|| 0u64, |_| |_: &mut Event<'_, u64>, _: &mut Context<'_, u64>| ()).is_err());
    }
}

#[test]
fn huge_pages_are_refused_where_this_build_has_none() {
    let mut asks = plan().with_huge_pages(true);
    asks.class(Class::strict("only").with_capacity(8));
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

#[test]
fn each_shard_takes_the_handler_that_was_made_for_it() {
    let _dog = watchdog();
    // What a handler owns moves with it.
    let (tx, rx) = std::sync::mpsc::channel();
    let handlers = (0..3u64).map(|shard| {
        let tx = tx.clone();
        handler(move |event: &mut Event<'_, u64>, context: &mut Context<'_, u64>| {
            tx.send((shard, context.shard(), **event)).unwrap();
        })
    });
    let mut plan = plan().with_shards(3);
    let class = plan.class(Class::strict("only"));
    let engine = plan.start_each(|| 0u64, handlers).unwrap();
    let mut producer = engine.attach().unwrap();
    for shard in 0..3u16 {
        producer.publish_to(ShardId(shard), class, 7u64, |event| *event = shard.into()).unwrap();
    }
    let report = engine.stop(Duration::from_secs(10)).unwrap();
    assert_closed(&report);
    drop(tx);
    let mut seen: Vec<_> = rx.iter().collect();
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2].map(|shard| (shard, ShardId(shard as u16), shard)));
}

#[test]
fn handlers_that_are_too_many_or_too_few_are_refused() {
    let _dog = watchdog();
    for given in [0, 1, 3] {
        let mut plan = plan().with_shards(2);
        plan.class(Class::strict("only"));
        let started = plan.start_each(|| 0u64, (0..given).map(|_| handler(|_, _| ())));
        let Err(StartError::Handlers { handlers, shards }) = started else { panic!("{given} handlers") };
        assert_eq!((handlers, shards), (given, 2));
    }
}

#[test]
fn shards_of_one_engine_can_have_handlers_of_different_types() {
    struct Sum(u64);
    impl Handler<u64> for Sum {
        type Output = u64;
        fn on_event(&mut self, event: &mut Event<'_, u64>, _: &mut Context<'_, u64>) -> Verdict {
            self.0 += **event;
            Verdict::Done
        }
        fn on_stop(self, _: &mut Context<'_, u64>) -> u64 {
            self.0
        }
    }
    let _dog = watchdog();
    let mut plan = plan().with_shards(2);
    let class = plan.class(Class::strict("only"));
    let engine = plan
        .start(
            || 0u64,
            |shard| match shard.index() {
                0 => AnyHandler::new(Sum(0)),
                _ => AnyHandler::new(handler(|_, _| ())),
            },
        )
        .unwrap();
    let mut producer = engine.attach().unwrap();
    for n in 1..=100u64 {
        producer.publish_to(ShardId((n % 2) as u16), class, n, |event| *event = n).unwrap();
    }
    let mut report = engine.stop(Duration::from_secs(10)).unwrap();
    assert_closed(&report);
    let outputs = report.outputs::<Box<dyn std::any::Any + Send>>();
    let sums: Vec<_> = outputs.iter().map(|output| output.downcast_ref::<u64>().copied()).collect();
    assert_eq!(sums, [Some((1..=50).map(|n| 2 * n).sum()), None]);
}
