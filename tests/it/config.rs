//! Configurations by the library's face: what is written reads back the same, every rule tells its problem where it stands,
//! and what is explained, compared and drafted is what is in effect.
#![cfg(feature = "config")]

// A feature of the test kit would turn the engine's feature `config` on in every build.
#[path = "../../crates/pelton-testkit/src/cases.rs"]
mod cases;

use cases::Case;
use pelton::config::{Answers, Diff, Notes, Origin, QUESTIONS, Rule, Scope, Sources, read, write};
use pelton::engine::CLASS;
use pelton::host::Host;
use pelton::{Class, Plan, Profile};
use pelton_testkit::Dice;
use pelton_testkit::configs::{any_plan, any_value};
use std::collections::BTreeSet;

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
            let rows = pelton::config::explain(plan, &Default::default(), &[], Scope::default());
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

fn all_cases() -> Vec<Case> {
    Case::all(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/config"), read)
}

#[test]
fn every_rule_tells_its_problem_where_it_stands() {
    cases::are_kept(&all_cases());
}

#[test]
fn every_rule_has_its_bad_file() {
    // Of the configuration: each kind of problem.
    let kinds: BTreeSet<_> = all_cases()
        .iter()
        .flat_map(|case| case.read().problems().0.iter().map(|p| p.rule.name()).collect::<Vec<_>>())
        .collect();
    let all = [Rule::Syntax, Rule::Unknown, Rule::Missing, Rule::Value, Rule::Useless, Rule::Plan];
    assert_eq!(kinds, all.map(Rule::name).into_iter().collect());
    // Of the plan: each row of the table in which its rules are told.
    let source =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/engine/validate.rs")).unwrap();
    let rows = source.lines().filter_map(|line| line.strip_prefix("//! | ")?.split_once(" | "));
    let mut rows: BTreeSet<_> =
        rows.map(|(rule, _)| rule.to_string()).filter(|rule| rule != "rule").collect();
    // A file knows no type: `a_type_of_another_size_is_refused` is for that.
    assert!(rows.remove("`event_bytes` is the size of the event's type"));
    // Whether this one is broken depends on the build: `huge_pages_are_refused_where_the_build_has_none` is for that.
    assert!(rows.remove("huge pages are asked for where this build can"));
    let with_files: BTreeSet<_> = all_cases().into_iter().flat_map(|case| case.rules).collect();
    assert_eq!(with_files, rows);
}

#[test]
fn what_would_work_works_alone() {
    // A number that an error proposes is one that its own row and rule take.
    for case in all_cases() {
        for problem in case.read().problems().0.iter().filter(|problem| problem.rule == Rule::Value) {
            let (Some(span), Some((fix, _))) = (problem.span(), problem.fix.split_once(" would work")) else {
                continue;
            };
            let fix = match fix.strip_prefix('\'') {
                Some(word) => format!("\"{}\"", word.trim_end_matches('\'')),
                None => fix.to_string(),
            };
            let text = format!("{}{fix}{}", &case.text[..span.start], &case.text[span.end..]);
            let sources = Sources { file: Some(("it.toml".into(), text)), ..case.sources.clone() };
            let again = read(&sources, case.host.as_ref());
            let still = again.problems().0.iter().any(|new| {
                new.what == problem.what
                    || (new.setting == problem.setting && new.span().is_some() && new.rule == Rule::Value)
            });
            assert!(!still, "{}: {problem}\n{}", case.name, again.problems());
        }
    }
}

#[test]
fn seven_mistakes_are_seven_problems_each_on_its_line() {
    let case = all_cases().into_iter().find(|case| case.name == "seven").unwrap();
    let lines: Vec<_> = case
        .read()
        .problems()
        .0
        .iter()
        .map(|problem| match problem.origin {
            Some(Origin::File { line, .. }) => line,
            _ => 0,
        })
        .collect();
    assert_eq!(lines, [1, 2, 3, 4, 9, 10, 15]);
}

#[test]
fn a_type_of_another_size_is_refused() {
    let mut plan = Plan::new(Profile::Dev).with_event_bytes(8);
    plan.class(Class::strict("orders"));
    assert_eq!(plan.check::<u64>(), Ok(()));
    let told = plan.check::<[u64; 3]>().unwrap_err().to_string();
    assert_eq!(told, "event_bytes is 8, but must be 24, the size of [u64; 3]; 24 would work");
}

#[test]
fn huge_pages_are_refused_where_the_build_has_none() {
    let text = SHORT.replace("shards = 2", "huge_pages = true");
    let config = read(&of_text(&text), None);
    let refused = config.problems().0.iter().find(|problem| problem.setting == "huge_pages");
    let can = cfg!(all(feature = "hugepages", target_os = "linux"));
    assert_eq!(
        refused.map(|problem| problem.fix.as_str()),
        if can { None } else { Some("false would work") }
    );
    assert_eq!(config.problems().has_errors(), !can, "{}", config.problems());
}

#[test]
fn options_come_above_the_environment_and_that_above_the_file() {
    let text = "profile = \"dev\"\nburst_events = 1\nfloor_bursts = 2\nproducers_max = 3\n";
    let mut sources = of_text(text);
    sources.environment =
        vec![("PELTON_FLOOR_BURSTS".into(), "20".into()), ("PELTON_PRODUCERS_MAX".into(), "30".into())];
    sources = sources.with_option("producers_max", "200");
    let config = read(&sources, None);
    let all = config.explain(&[], Scope::default());
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
            let side = |side: &Option<pelton::config::Side>| {
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
        let memory = pelton::config::Memory::of(&plan, Scope::default());
        let footprint = plan.footprint_of(plan.event_layout());
        assert_eq!(memory.total_bytes, footprint.total_bytes());
        assert_eq!(memory.groups.iter().map(|group| group.bytes).sum::<u64>(), memory.total_bytes);
        assert_eq!(memory.groups.iter().map(|group| group.terms.len()).sum::<usize>(), footprint.terms.len());
        for slot in &memory.slots {
            let parts = [
                slot.sequence_bytes,
                slot.key_bytes,
                slot.stamp_bytes,
                slot.payload_bytes,
                slot.event_bytes,
                slot.padding_bytes,
            ];
            assert_eq!(parts.iter().sum::<u64>(), slot.slot_bytes, "seed {seed}");
            assert!(slot.slot_bytes % 64 == 0 && slot.padding_bytes < 64 + 8, "seed {seed}: {slot:?}");
        }
    }
}

#[test]
fn a_setting_costs_what_its_least_would_save() {
    let mut plan = Plan::new(Profile::Dev).with_shards(2).with_producers_max(4).with_event_bytes(48);
    plan.class(Class::strict("orders").with_capacity(128));
    let costs = |plan: &Plan| {
        let all = pelton::config::explain(plan, &Default::default(), &[], Scope::default());
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
    // What cannot be is told with what could.
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

/// Two classes of these names.
fn two(first: &str, second: &str) -> Sources {
    let class = |name: &str| {
        format!(
            "[[class]]\nname = \"{name}\"\nshare = \"strict\"\ncapacity_slots = 8\noverflow = \"block\"\n"
        )
    };
    let text = format!("profile = \"dev\"\n{}{}", class(first), class(second));
    Sources { file: Some(("two.toml".into(), text)), ..Sources::default() }
}

/// The capacities of both.
fn capacities(sources: &Sources) -> Result<Vec<String>, pelton::config::Problems> {
    let plan = read(sources, None).into_plan()?;
    let row = CLASS.iter().find(|row| row.info.key == "capacity_slots").unwrap();
    Ok(plan.classes().iter().map(|class| row.get(class).to_string()).collect())
}

#[test]
fn a_variable_is_of_one_class_or_refused() {
    let variable = |sources: &Sources, name: &str, text: &str| {
        let mut sources = sources.clone();
        sources.environment.push((name.into(), text.into()));
        sources
    };
    // A name may begin like another.
    let nested = two("a", "a_b");
    assert_eq!(capacities(&variable(&nested, "PELTON_CLASS_A_CAPACITY_SLOTS", "16")).unwrap(), ["16", "8"]);
    assert_eq!(capacities(&variable(&nested, "PELTON_CLASS_A_B_CAPACITY_SLOTS", "16")).unwrap(), ["8", "16"]);
    // In capitals these are the same: neither is chosen in silence.
    for (first, second) in [("a-b", "a_b"), ("Orders", "orders")] {
        let name = format!("PELTON_CLASS_{}_CAPACITY_SLOTS", first.replace('-', "_").to_uppercase());
        let told = capacities(&variable(&two(first, second), &name, "16")).unwrap_err().to_string();
        assert!(told.contains(&format!("'{first}' and '{second}'")) && told.contains("--class"), "{told}");
    }
    // A class keeps its name, and one that is not there is told.
    for (name, part) in [
        ("PELTON_CLASS_A_NAME", "is no setting of a class"),
        ("PELTON_CLASS_C_TTL_US", "'PELTON_CLASS_A_TTL_US' would work"),
    ] {
        let told = capacities(&variable(&nested, name, "zzz")).unwrap_err().to_string();
        assert!(told.contains(part), "{told}");
    }
}

#[test]
fn an_option_reaches_a_class_of_any_name() {
    let sources = two("q", "q:r").with_option("class", "q:r:capacity_slots=16");
    assert_eq!(capacities(&sources).unwrap(), ["8", "16"]);
    let sources = two("q", "q:r").with_option("class", "q:capacity_slots=16");
    assert_eq!(capacities(&sources).unwrap(), ["16", "8"]);
}
