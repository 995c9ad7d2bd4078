//! The memory that a plan names is the memory that an engine takes: planned against resident, in a fresh process for
//! each plan.
#![cfg(target_os = "linux")]

use pelton::memory::footprint::resident_bytes;
use pelton::{Class, Context, Event, Plan, Profile};
use std::process::Command;
use std::time::Duration;

const WHICH: &str = "PELTON_TEST_PLAN";

type Slot = [u64; 6];

/// Plans of different shapes: what dominates is slots, payloads, many small lanes, scratch, or next to nothing.
fn plans() -> Vec<Plan> {
    let plan = |shards, producers| {
        Plan::new(Profile::Dev).shards(shards).overcommitted(true).producers_max(producers)
    };
    let mut plans =
        vec![plan(1, 1), plan(2, 4), plan(4, 2).mesh(true), plan(8, 8), plan(1, 2).scratch_bytes(1 << 24)];
    plans[0].class(Class::strict("slots").capacity(1 << 18));
    plans[1].class(Class::strict("bytes").capacity(64).payload_bytes(1 << 22).reject());
    plans[1]
        .class(Class::weighted("more", 3).capacity(4_096).payload_bytes(1 << 16).ttl(Duration::from_secs(1)));
    for name in ["a", "b", "c", "d"] {
        plans[2].class(Class::strict(name).capacity(1_024));
        plans[3].class(Class::strict(name).capacity(8));
    }
    plans[4].class(Class::strict("tiny").capacity(1));
    plans
}

/// What the child does: starts the plan and prints what was planned, what became resident, and the threads.
fn child(which: usize) {
    // What a process takes once, whatever engine it starts: the clock's calibration, the first thread, the tables of
    // the standard library.
    let mut small = Plan::new(Profile::Dev).scratch_bytes(0);
    small.class(Class::strict("warm").capacity(1));
    drop(small.start(Slot::default, |_| |_: &mut Event<'_, Slot>, _: &mut Context<'_, Slot>| ()).unwrap());
    let plan = plans().swap_remove(which);
    let before = resident_bytes().unwrap();
    let planned = plan.footprint::<Slot>().total_bytes();
    let engine =
        plan.start(Slot::default, |_| |_: &mut Event<'_, Slot>, _: &mut Context<'_, Slot>| ()).unwrap();
    let grown = resident_bytes().unwrap() - before;
    println!("figures {planned} {grown} {}", engine.placements().len());
}

#[test]
fn what_is_resident_is_what_was_planned() {
    if let Ok(which) = std::env::var(WHICH) {
        return child(which.parse().unwrap());
    }
    for which in 0..plans().len() {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["what_is_resident_is_what_was_planned", "--exact", "--nocapture"])
            .env(WHICH, which.to_string())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let figures = text.lines().find_map(|line| line.split("figures ").nth(1));
        let figures = figures
            .unwrap_or_else(|| panic!("the child said: {text}{}", String::from_utf8_lossy(&output.stderr)));
        let [planned, grown, threads] =
            figures.split(' ').map(|n| n.parse::<u64>().unwrap()).collect::<Vec<_>>()[..]
        else {
            panic!("{figures}")
        };
        let slack = (planned / 20).max((256 << 10) + (128 << 10) * threads);
        println!("plan {which}: planned {planned}, resident {grown}, threads {threads}");
        assert!(planned.abs_diff(grown) <= slack, "plan {which}: planned {planned}, resident {grown}");
    }
}
