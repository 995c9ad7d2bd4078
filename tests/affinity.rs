//! Shards run where they may, whatever the process is allowed: one CPU, another one, fewer than there are shards; and
//! what was chosen or refused is reported. Each mask is tried in a process of its own, since the first look at the mask
//! counts for the life of a process.
#![cfg(all(target_os = "linux", feature = "affinity"))]

use pelton::engine::{Engine, Report};
use pelton::shard::{Placement, available, nameable, parse_list, pin};
use pelton::{Class, Plan, Profile};
use pelton_testkit::needs::{Need, skipped};
use pelton_testkit::*;
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Held by tests whose shards are pinned: the shards of one test would share CPUs with those of another.
static PINNED: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    PINNED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a thousand events through a plan and gives back where its shards ran.
fn run(plan: Plan) -> Vec<Placement> {
    let mut plan = plan.with_producers_max(1).with_announce(false);
    let class = plan.class(Class::strict("only").with_capacity(16).block());
    let engine: Engine<Proof> = plan.start(Proof::default, |_| recording()).unwrap();
    let (mut tx, mut source) = (engine.attach().unwrap(), Source::new(0));
    for key in 0..1_000 {
        source.publish(&mut tx, class, key % 32).unwrap();
    }
    let placements = engine.placements();
    let mut report: Report = engine.stop(Duration::from_secs(50)).unwrap();
    assert!(report.drained);
    let reported: Vec<_> = report.shards.iter().map(|shard| shard.placement).collect();
    assert_eq!(reported, placements);
    let witnesses = report.outputs();
    assert_invariants(&report, &[source], &witnesses);
    placements
}

fn cpus(placements: &[Placement]) -> BTreeSet<usize> {
    placements.iter().filter_map(|placement| placement.cpu).collect()
}

/// Runs a test again with the mask set by `taskset`; skipped where there is no such program.
fn with_mask(marker: &str, mask: &str) {
    if std::process::Command::new("taskset").arg("--version").output().is_err() {
        skipped::<()>(Need::Tools, &format!("`taskset` cannot be run, so the mask {mask} is not set"));
        return;
    }
    in_a_process_of_its_own(marker, &["taskset", "-c", mask]);
}

#[test]
fn shards_that_name_no_cpu_are_pinned_to_those_of_the_mask() {
    const MARKER: &str = "PELTON_TEST_MASK";
    let (_dog, _alone) = (watchdog(), alone());
    if std::env::var_os(MARKER).is_none() {
        for cpu in available() {
            with_mask(MARKER, &cpu.to_string());
        }
        return;
    }
    // In a child with one CPU.
    let [only] = available() else { panic!("the mask is {:?}", available()) };
    assert_eq!(std::thread::available_parallelism().unwrap().get(), 1);
    for shards in [1, 3] {
        let placements = run(Plan::new(Profile::Dev).with_shards(shards).with_overcommitted(shards > 1));
        for placement in &placements {
            assert_eq!((placement.cpu, placement.named, placement.pinned), (Some(*only), false, true));
            assert_eq!(placement.shared, shards > 1, "{placement}");
            let text = placement.to_string();
            assert!(text.contains(&format!("CPU {only} (chosen, pinned")), "{text}");
        }
    }
}

#[test]
fn more_shards_than_cpus_share_them_and_say_so() {
    let (_dog, _alone) = (watchdog(), alone());
    let cpus_there = available().len() as u16;
    let placements = run(Plan::new(Profile::Dev).with_shards(cpus_there + 1).with_overcommitted(true));
    assert_eq!(cpus(&placements), available().iter().copied().collect());
    assert_eq!(placements.iter().filter(|placement| placement.shared).count(), 2);
    assert!(placements.iter().all(|placement| placement.pinned && !placement.named));
    let shared = placements.iter().find(|placement| placement.shared).unwrap();
    assert!(shared.to_string().contains("shared with another shard"), "{shared}");
}

#[test]
fn named_cpus_are_used_in_turn() {
    let (_dog, _alone) = (watchdog(), alone());
    let last = *available().last().unwrap();
    let placements = run(Plan::new(Profile::Dev).with_shards(2).with_cpus([last]).with_overcommitted(true));
    for placement in &placements {
        assert_eq!(
            (placement.cpu, placement.named, placement.pinned, placement.shared),
            (Some(last), true, true, true)
        );
        assert!(placement.to_string().contains("named, pinned"), "{placement}");
    }
}

#[test]
fn a_cpu_that_is_named_outside_the_mask_is_used_or_its_refusal_reported() {
    const MARKER: &str = "PELTON_TEST_OUTSIDE";
    let (_dog, _alone) = (watchdog(), alone());
    if std::env::var_os(MARKER).is_none() {
        let first = available()[0].to_string();
        with_mask(MARKER, &first);
        return;
    }
    let outside = nameable().into_iter().find(|cpu| !available().contains(cpu));
    let Some(outside) = outside else { return };
    let placements = run(Plan::new(Profile::Dev).with_cpus([outside]));
    // The system decides; either way the shard ran, and the report says which.
    let text = placements[0].to_string();
    assert_eq!((placements[0].cpu, placements[0].named), (Some(outside), true));
    assert!(
        text.contains(if placements[0].pinned { "named, pinned" } else { "named, pin refused" }),
        "{text}"
    );
}

#[test]
fn a_refused_pin_is_reported_and_the_shard_runs() {
    let _dog = watchdog();
    // No machine has them, and the second does not even fit the system's mask.
    for cpu in [1_023, 1 << 16] {
        assert!(!std::thread::spawn(move || pin(cpu)).join().unwrap());
    }
    let placements = run(Plan::new(Profile::Dev).unpinned());
    assert_eq!((placements[0].cpu, placements[0].pinned, placements[0].shared), (None, false, false));
    assert!(placements[0].to_string().contains("not pinned"));
}

#[test]
fn a_pinned_shard_runs_on_its_cpu_and_nowhere_else() {
    let (_dog, _alone) = (watchdog(), alone());
    let mut plan = Plan::new(Profile::Dev).with_producers_max(1).with_thread_name("placed");
    plan.class(Class::strict("only").with_capacity(1));
    let engine =
        plan.start(|| 0u64, |_| |_: &mut pelton::Event<'_, u64>, _: &mut pelton::Context<'_, u64>| ());
    let engine = engine.unwrap();
    let placement = engine.placements()[0];
    let allowed = std::fs::read_dir("/proc/self/task").unwrap().flatten().find_map(|task| {
        let text = std::fs::read_to_string(task.path().join("status")).ok()?;
        text.starts_with("Name:\tplaced-0").then(|| {
            let line = text.lines().find(|line| line.starts_with("Cpus_allowed_list:")).unwrap();
            parse_list(line.rsplit_once(':').unwrap().1.trim())
        })
    });
    assert_eq!(allowed.expect("the shard's thread has its name"), [placement.cpu.unwrap()]);
    assert_closed(&engine.stop(Duration::from_secs(50)).unwrap());
}

/// The names of this process's threads that begin with `name`.
fn threads(name: &str) -> BTreeSet<String> {
    let comm = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm")).ok();
    let names = std::fs::read_dir("/proc/self/task").unwrap().flatten().filter_map(comm);
    names.map(|own| own.trim().to_string()).filter(|own| own.starts_with(name)).collect()
}

#[test]
fn shards_of_a_second_engine_go_to_cpus_that_the_first_has_left_free() {
    let (_dog, _alone) = (watchdog(), alone());
    let start = || {
        let mut plan =
            Plan::new(Profile::Dev).with_producers_max(1).with_thread_name("twin").with_announce(false);
        plan.class(Class::strict("only").with_capacity(1).block());
        plan.start(Proof::default, |_| recording()).unwrap()
    };
    let is_single = available().len() == 1;
    let engines = [start(), start()];
    let [first, second] = [&engines[0], &engines[1]].map(|engine| engine.placements()[0]);
    assert_eq!(first.cpu == second.cpu, is_single, "{first}; {second}");
    assert_eq!((first.shared, second.shared), (is_single, is_single));
    assert_eq!(threads("twin"), ["twin-0", "twin2-0"].map(String::from).into());
    // More shards than CPUs: the first engine learns that it shares its CPU, and no longer does when the others end.
    let more: Vec<_> = (1..available().len()).map(|_| start()).collect();
    assert!(engines[0].placements()[0].shared);
    for engine in more {
        assert_closed(&engine.stop(Duration::from_secs(50)).unwrap());
    }
    assert_eq!(engines[0].placements()[0].shared, is_single);
    for engine in engines {
        let report = engine.stop(Duration::from_secs(50)).unwrap();
        assert_closed(&report);
    }
}
