//! The memory that a plan names is the memory that an engine takes: planned against resident, in a fresh process for
//! each of two hundred plans that were made by dice.
//!
//! `tests/allocated.rs` compares the same sum with what the allocator was asked for, to the byte; this one shows that
//! all of it has been written to when `start` returns, and how much the system adds.
#![allow(unsafe_code, reason = "resource limits of a child")]
#![cfg(target_os = "linux")]

use pelton::class::Stamp;
use pelton::memory::footprint::resident_bytes;
use pelton::{Class, Context, Engine, Event, Plan};
use pelton_testkit::{Dice, assert_closed, plan, watchdog_for};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Which plan a child is to start.
const WHICH: &str = "PELTON_TEST_PLAN";
const PLANS: u64 = 200;
/// The largest footprint of a plan, in bytes.
const FOOTPRINT_MAX: u64 = 64 << 20;
/// Children at a time.
const AT_ONCE: usize = 2;

/// A valid plan, made by dice, for events of type `E`. What dominates may be slots, payloads, many small lanes, tallies,
/// scratch, or next to nothing.
fn made_up<E>(dice: &mut Dice) -> Plan {
    loop {
        // Half of them are small, so that a byte too many or too few would show.
        let limit = if dice.below(2) == 0 { FOOTPRINT_MAX } else { 2 << 20 };
        let mut plan = plan()
            .with_shards(1 + dice.below(6) as u16)
            .with_producers_max(1 + dice.below(12) as u16)
            .with_mesh(dice.below(3) == 0)
            .with_partitions(1 << (10 + dice.below(7)))
            .with_scratch_bytes(if dice.below(3) == 0 { 0 } else { 1 << dice.below(21) });
        for at in 0..1 + dice.below(8) {
            let name = format!("class{at}");
            let class = if dice.below(2) == 0 {
                Class::strict(name)
            } else {
                Class::weighted(name, 1 + dice.below(9) as u32)
            };
            let class = class.with_capacity(1 << dice.below(15));
            let class =
                if dice.below(2) == 0 { class } else { class.with_payload_bytes(1 << (6 + dice.below(15))) };
            let class = match dice.below(4) {
                0 => class.with_stamp(Stamp::Never),
                1 => class.with_stamp(Stamp::Every),
                2 => class.with_ttl(Duration::from_secs(1)),
                _ => class,
            };
            plan.class(class);
        }
        if plan.footprint::<E>().total_bytes() <= limit {
            plan.check::<E>().expect("the dice make valid plans");
            return plan;
        }
    }
}

fn start<E: Default + Send + 'static>(plan: Plan) -> Engine<E> {
    plan.start(E::default, |_| |_: &mut Event<'_, E>, _: &mut Context<'_, E>| ()).unwrap()
}

/// What the child does: starts the plan and prints what was planned, what became resident, and the threads.
fn child_of<E: Default + Send + 'static>(dice: &mut Dice) {
    // What a process takes once, whatever engine it starts: the clock's calibration, the first thread, the tables of
    // the standard library.
    let mut small = plan().with_scratch_bytes(0);
    small.class(Class::strict("warm").with_capacity(1));
    drop(start::<E>(small));
    let plan = made_up::<E>(dice);
    let footprint = plan.footprint::<E>();
    let before = resident_bytes().unwrap();
    let engine = start::<E>(plan);
    let grown = resident_bytes().unwrap() - before;
    println!("figures {} {grown} {}", footprint.total_bytes(), engine.placements().len());
    println!("{footprint}");
    assert_closed(&engine.stop(Duration::from_secs(10)).unwrap());
}

fn child(which: u64) {
    let _dog = watchdog_for(Duration::from_secs(60));
    // Where the system gives huge pages to whoever has room for them, each rounds what is resident up to 2 MiB.
    // SAFETY: a flag of this process; no memory is touched. A kernel without it gives none either.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
    let mut dice = Dice::new(which);
    match which % 4 {
        0 => child_of::<()>(&mut dice),
        1 => child_of::<[u64; 4]>(&mut dice),
        2 => child_of::<[u64; 6]>(&mut dice),
        _ => child_of::<[[u64; 9]; 3]>(&mut dice),
    }
}

/// Planned, grown and threads of a child that has been started.
fn figures_of(child: Child) -> ([u64; 3], String) {
    let output = child.wait_with_output().unwrap();
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{text}");
    let figures = text.lines().find_map(|line| line.split("figures ").nth(1));
    let figures = figures.unwrap_or_else(|| panic!("the child said: {text}"));
    let figures: Vec<u64> = figures.split(' ').map(|n| n.parse().unwrap()).collect();
    (figures.try_into().unwrap(), text)
}

#[test]
fn what_is_resident_is_what_was_planned() {
    if let Ok(which) = std::env::var(WHICH) {
        return child(which.parse().unwrap());
    }
    let binary = std::env::current_exe().unwrap();
    let start = |which: u64| {
        Command::new(&binary)
            .args(["what_is_resident_is_what_was_planned", "--exact", "--nocapture"])
            .env(WHICH, which.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let mut worst = 0.0f64;
    let plans: Vec<u64> = (0..PLANS).collect();
    for plans in plans.chunks(AT_ONCE) {
        let children: Vec<_> = plans.iter().map(|which| (which, start(*which))).collect();
        for (which, child) in children {
            let ([planned, grown, threads], text) = figures_of(child);
            let slack = (planned / 20).max((256 << 10) + (128 << 10) * threads);
            let off = planned.abs_diff(grown);
            worst = worst.max(off as f64 / slack as f64);
            println!("plan {which}: planned {planned}, resident {grown}, threads {threads}");
            assert!(
                off <= slack,
                "plan {which}: planned {planned}, resident {grown}, {threads} threads: {text}"
            );
        }
    }
    println!("the worst of {PLANS} plans was off by {:.0} % of what it may be", worst * 100.0);
}
