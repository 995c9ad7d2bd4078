//! Configurations by the library's face: every rule tells its problem where it stands, and each source covers those below it.
#![cfg(feature = "config")]

// A feature of the test kit would turn the engine's feature `config` on in every build.
#[path = "../../crates/pelton-testkit/src/cases.rs"]
mod cases;

use cases::Case;
use pelton::config::{Origin, Rule, Sources, read};
use pelton::engine::{CLASS, ENGINE};
use pelton::{Class, Plan, Profile};
use std::collections::BTreeSet;

fn of_text(text: &str) -> Sources {
    Sources { file: Some(("it.toml".into(), text.into())), ..Sources::default() }
}

const GOOD: &str = r#"
profile = "balanced"
shards = 2

[[class]]
name = "orders"
share = "strict"
capacity_slots = 1_024
overflow = "block"
"#;

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
    let config = read(&of_text(&GOOD.replace("shards = 2", "huge_pages = true")), None);
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
    let of = |key: &str| {
        let row = ENGINE.iter().find(|row| row.info.key == key).unwrap();
        let origin = config.origins().of(key).map_or("the profile".into(), Origin::to_string);
        format!("{} {origin}", row.get(config.plan()))
    };
    assert_eq!(
        ["burst_events", "floor_bursts", "producers_max", "wait"].map(of),
        ["1 it.toml:2", "20 PELTON_FLOOR_BURSTS", "200 --producers-max", "park the profile"]
    );
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
