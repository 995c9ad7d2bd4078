//! What the program makes of a plan, by its library's face: what is written reads back the same, and what is explained,
//! compared and drafted is what is in effect.

use pelton::config::{Scope, Sources, read};
use pelton::host::Host;
use pelton::{Class, Plan, Profile};
use pelton_cli::settings::answers::{Answers, QUESTIONS};
use pelton_cli::settings::diff::{Diff, Side};
use pelton_cli::settings::explain::explain;
use pelton_cli::settings::memory::Memory;
use pelton_cli::settings::write::{Notes, write};
use pelton_testkit::Dice;
use pelton_testkit::configs::{any_plan, any_value};

fn of_text(text: &str) -> Sources {
    Sources { file: Some(("it.toml".into(), text.into())), ..Sources::default() }
}

/// The plan of a text that is right.
#[track_caller]
fn plan_of(text: &str) -> Plan {
    read(&of_text(text), None).into_plan().unwrap_or_else(|problems| panic!("{problems}\n{text}"))
}

#[test]
fn what_is_written_reads_back_as_the_same_plan() {
    for seed in 0..200 {
        let profile = Profile::ALL[seed % 4];
        let plan = any_plan(profile, &mut Dice::new(seed as u64));
        let text = write(&plan, &[], &Notes::new());
        let again = plan_of(&text);
        assert_eq!(format!("{plan:?}"), format!("{again:?}"), "seed {seed}\n{text}");
        // And what is read is explained as what was written.
        let [one, two] = [&plan, &again].map(|plan| {
            let rows = explain(plan, &Default::default(), &[], Scope::default());
            rows.into_iter()
                .map(|row| (row.setting, row.value, row.comes_to, row.cost_bytes))
                .collect::<Vec<_>>()
        });
        assert_eq!(one, two, "seed {seed}");
        for line in text.lines().filter(|line| line.starts_with('#')) {
            assert!(line.chars().count() <= 90, "{line}");
        }
    }
}

#[test]
fn options_come_above_the_environment_and_that_above_the_file() {
    let text = "profile = \"dev\"\nburst_events = 1\nfloor_bursts = 2\nproducers_max = 3\n";
    let mut sources = of_text(text);
    sources.environment =
        vec![("PELTON_FLOOR_BURSTS".into(), "20".into()), ("PELTON_PRODUCERS_MAX".into(), "30".into())];
    sources = sources.with_option("producers_max", "200");
    let config = read(&sources, None);
    let all = explain(config.plan(), config.origins(), &[], Scope::default());
    let of = |key: &str| {
        let row = all.iter().find(|row| row.info.key == key).unwrap();
        format!("{} {}", row.value, row.origin)
    };
    assert_eq!(
        ["burst_events", "floor_bursts", "producers_max", "wait"].map(of),
        ["1 it.toml:2", "20 PELTON_FLOOR_BURSTS", "200 --producers-max", "park profile dev"]
    );
}

/// What differs between two texts.
fn between(before: &str, after: &str) -> Diff {
    let [before, after] = [before, after].map(|text| read(&of_text(text), None));
    assert!(!before.problems().has_errors() && !after.problems().has_errors());
    Diff::between((&before, &[]), (&after, &[]), Scope::default())
}

const SHORT: &str = r#"
profile = "balanced"
shards = 2

[[class]]
name = "orders"
share = "strict"
capacity_slots = 1_024
overflow = "block"

[[class]]
name = "ticks"
share = "weighted"
weight = 2
capacity_slots = 4_096
overflow = "drop_newest"
payload_ring_bytes = 1_024

[[class]]
name = "bulk"
share = "weighted"
weight = 4
capacity_slots = 4_096
overflow = "reject"
"#;

#[test]
fn what_is_only_written_otherwise_is_no_difference() {
    for seed in 0..50 {
        let plan = any_plan(Profile::ALL[seed % 4], &mut Dice::new(seed as u64));
        let text = write(&plan, &[], &Notes::new());
        let bare: String = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| format!("{line}  # same\n"))
            .collect();
        assert_eq!(between(&text, &bare), Diff::default(), "seed {seed}");
    }
    // A default written out, the half in bytes, the same ratio of weights, strict ones moved up.
    let other = SHORT
        .replace("shards = 2", "cpus = \"chosen\"\nshards = 0x2\nwait = \"park\"")
        .replace("payload_ring_bytes = 1_024", "payload_ring_bytes = 1024\npayload_max_bytes = 512")
        .replace("weight = 2", "weight = 1")
        .replace("weight = 4", "weight = 2");
    assert_eq!(between(SHORT, &other), Diff::default());
    let (strict, rest) =
        (SHORT.find("[[class]]").unwrap(), SHORT.find("\n[[class]]\nname = \"ticks\"").unwrap());
    let moved = format!("{}{}\n{}", &SHORT[..strict], &SHORT[rest..], &SHORT[strict..rest]);
    assert_eq!(between(SHORT, &moved), Diff::default());
}

#[test]
fn what_differs_is_told_with_what_follows() {
    let other = SHORT
        .replace("profile = \"balanced\"", "profile = \"balanced\"\nburst_events = 16")
        .replace("weight = 4", "weight = 6\nttl_us = 900")
        .replace("\"orders\"", "\"bids\"");
    let diff = between(SHORT, &other);
    assert_eq!(
        (diff.added.clone(), diff.removed.clone()),
        (vec!["class 'bids'".to_string()], vec!["class 'orders'".to_string()])
    );
    let told: Vec<_> = diff
        .settings
        .iter()
        .map(|change| {
            let side = |side: &Option<Side>| {
                side.as_ref().map_or("-".to_string(), |side| format!("{} ({})", side.value, side.origin))
            };
            format!("{}: {} -> {}", change.setting, side(&change.before), side(&change.after))
        })
        .collect();
    assert_eq!(
        told,
        [
            "burst_events: 64 (profile balanced) -> 16 (it.toml:3)",
            "class 'orders': name: orders (it.toml:6) -> -",
            "class 'bulk': weight: 4 (it.toml:22) -> 6 (it.toml:23)",
            "class 'bulk': ttl_us: none (at first) -> 900 (it.toml:24)",
            "class 'bids': name: - -> bids (it.toml:7)",
        ]
    );
    let follows = |what: &str| {
        let figure = diff.follows.iter().find(|follows| follows.what.starts_with(what));
        figure.map(|follows| format!("{} -> {} {}", follows.before, follows.after, follows.unit))
    };
    assert_eq!(follows("classes in the order").as_deref(), Some("orders, ticks, bulk -> bids, ticks, bulk "));
    assert_eq!(follows("longest wait").as_deref(), Some("64000 -> 16000 ns"));
    assert_eq!(follows("footprint of class 'bids'").as_deref(), Some("none -> 2097152 bytes"));
    assert_eq!(follows("footprint of class 'ticks'"), None);
}

#[test]
fn the_memory_is_the_footprint_and_each_slot_is_the_sum_of_its_parts() {
    for seed in 0..50 {
        let plan = any_plan(Profile::Dev, &mut Dice::new(seed));
        let memory = Memory::of(&plan, Scope::default());
        let footprint = plan.footprint_of(plan.event_layout());
        assert_eq!(memory.total_bytes, footprint.total_bytes());
        assert_eq!(memory.groups.iter().map(|group| group.bytes).sum::<u64>(), memory.total_bytes);
        assert_eq!(memory.groups.iter().map(|group| group.terms.len()).sum::<usize>(), footprint.terms.len());
        for slot in &memory.slots {
            assert_eq!(slot.parts().iter().sum::<u64>(), slot.slot_bytes, "seed {seed}");
            assert!(slot.slot_bytes % 64 == 0 && slot.padding_bytes < 64 + 8, "seed {seed}: {slot:?}");
        }
    }
}

#[test]
fn a_setting_costs_what_its_least_would_save() {
    let mut plan = Plan::new(Profile::Dev).with_shards(2).with_producers_max(4).with_event_bytes(48);
    plan.class(Class::strict("orders").with_capacity(128));
    let costs = |plan: &Plan| {
        let all = explain(plan, &Default::default(), &[], Scope::default());
        all.into_iter()
            .map(|row| (row.info.key, row.cost_bytes))
            .collect::<std::collections::BTreeMap<_, _>>()
    };
    let (now, total) = (costs(&plan), |plan: &Plan| plan.footprint_of(plan.event_layout()).total_bytes());
    assert_eq!(now["shards"], total(&plan) - total(&plan.clone().with_shards(1)));
    assert_eq!(now["producers_max"], total(&plan) - total(&plan.clone().with_producers_max(1)));
    let mut least = Plan::new(Profile::Dev).with_shards(2).with_producers_max(4).with_event_bytes(48);
    least.class(Class::strict("orders").with_capacity(1));
    assert_eq!(now["capacity_slots"], total(&plan) - total(&least));
    assert!(now["capacity_slots"] >= 127 * 128 * 8);
    assert_eq!(now["partitions"], 0);
    assert!(now["scratch_bytes"] >= 2 * 65_536);
    // No field of it takes memory.
    assert_eq!([now["wait"], now["burst_events"], now["memory_max_bytes"], now["ttl_us"]], [0; 4]);
}

#[test]
fn what_is_drafted_passes_the_check() {
    let mut drafted = 0;
    for seed in 0..2_000 {
        let dice = &mut Dice::new(seed);
        let mut answers = Answers::default();
        for row in QUESTIONS.iter().filter(|row| row.info.key != "classes") {
            if dice.below(2) == 0 {
                row.set(&mut answers, any_value(row.info.kind, dice));
            }
        }
        let shares = ["strict", "weighted", "weighted=7"];
        let classes = (0..1 + dice.below(4)).map(|at| {
            let overflow = ["block", "reject", "drop_newest"];
            let rate = ["", ":1", ":5k"];
            format!("c{at}:{}:{}{}", dice.pick(&shares), dice.pick(&overflow), dice.pick(&rate))
        });
        answers.classes = classes.collect::<Vec<_>>().join(",");
        let host = Host {
            cpus: (0..1 + dice.index(8)).collect(),
            machine_bytes: Ok(1 << (20 + dice.below(16))),
            ..Host::unknown()
        };
        let host = (dice.below(2) == 0).then_some(host);
        match answers.draft(host.as_ref()) {
            // An answer that contradicts another says so in full.
            Err(errors) => assert!(
                errors.0.iter().all(|error| !error.limit.is_empty() && !error.works.is_empty())
                    && !errors.0.is_empty()
            ),
            Ok(draft) => {
                drafted += 1;
                let text = draft.write();
                let config = read(&of_text(&text), host.as_ref());
                assert!(
                    !config.problems().has_errors(),
                    "seed {seed}: {answers:?}\n{}\n{text}",
                    config.problems()
                );
                assert_eq!(format!("{:?}", config.plan()), format!("{:?}", draft.plan), "seed {seed}");
                if let Some(limit) = answers.memory_max {
                    assert!(
                        draft.plan.footprint_of(draft.plan.event_layout()).total_bytes() <= limit,
                        "seed {seed}"
                    );
                }
            }
        }
    }
    assert!(drafted > 300, "{drafted}");
}

#[test]
fn the_arithmetic_stands_beside_what_follows_from_it() {
    let answers = Answers {
        rate: 250_000,
        handling_ns: 4_000,
        classes: "orders:strict:block:20k,ticks:weighted=3:drop_newest".into(),
        payload_bytes: 100,
        latency_target_us: 200,
        ..Answers::default()
    };
    let text = answers.draft(None).unwrap().write();
    let plain = text.replace("\n# ", " ");
    for note in [
        "250,000 events/s x 4.0 µs = 1.000 CPUs of handling; at half load 2 shards, each 50 % busy",
        "half of 200 µs / 4.0 µs = 25 events; the profile has 64 at most",
        "20,000 events/s over 2 producers and 2 shards for 10 ms: 50 slots, rounded up to 64",
        "250,000 events/s over 2 producers and 2 shards for 10 ms: 625 slots, rounded up to 1,024",
        "the larger of 2 x 100 bytes and 1,024 slots x 50 bytes = 51,200, rounded up to 64.0 KiB",
    ] {
        assert!(plain.contains(note), "{note}: {text}");
    }
    let plan = plan_of(&text);
    let slots: Vec<_> = plan.classes().iter().map(|class| class.name().to_string()).collect();
    assert_eq!(slots, ["orders", "ticks"]);
    // What does not fit is halved, and said.
    let tight = Answers { memory_max: Some(1_000_000), ..answers.clone() };
    let text = tight.draft(None).unwrap().write().replace("\n# ", " ");
    assert!(text.contains("Given up: all lanes together would take"), "{text}");
    // An answer that cannot hold is refused with one that would.
    for (wrong, told) in [
        (Answers { rate: 1_000_000_000, ..answers.clone() }, "rate is 1000000000, but must be at most"),
        (
            Answers { latency_target_us: 7, ..answers.clone() },
            "latency_target_us is 7, but must be at least 8",
        ),
        (
            Answers { memory_max: Some(10_000), ..answers.clone() },
            "memory_max_bytes is 10000, but must be at least",
        ),
        (
            Answers { classes: "orders:strict".into(), ..answers.clone() },
            "classes is 'orders:strict', but must be NAME:SHARE",
        ),
        (
            Answers { classes: "a:strict:block,a:strict:block".into(), ..answers.clone() },
            "class 1: name is 'a'",
        ),
    ] {
        let errors = wrong.draft(None).unwrap_err().to_string();
        assert!(errors.contains(told), "{told}: {errors}");
    }
}
