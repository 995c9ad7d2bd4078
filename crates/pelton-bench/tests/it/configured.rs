//! A measurement takes its settings from a file, the environment and options; each mistake is reported with its line.

use crate::bench::{bench_in, has_two_cpus};
use pelton_testkit::program::{Done, file, name};
use serde_json::Value;

/// A file for the program, with a table for measurements. Line numbers below count from its first line.
const FILE: &str = r#"profile = "throughput"
burst_events = 32
wait = "yield"

[[class]]
name = "bulk"
capacity_slots = 512

[replay]
clients_max = 4_000
paths_max = 4_000
top = 3

[bench]
rounds = 1
events = 300
capacity_slots = 64
"#;

fn run(args: &[&str], environment: &[(&str, &str)]) -> Done {
    bench_in(args, environment)
}

#[test]
fn a_measurement_takes_its_own_table_and_the_wait_and_burst_of_the_engine() {
    if !has_two_cpus() {
        return;
    }
    let file = file(FILE);
    let args = ["engine", "--config", name(&file)];
    let page = run(&args, &[]);
    assert_eq!((page.code, page.err.as_str()), (Some(0), ""));
    // Wherever a line ends.
    let settings = page.out.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        format!("profile throughput ({}:1)", name(&file)),
        format!("rounds 1 ({}:15)", name(&file)),
        format!("events 300 ({}:16)", name(&file)),
        format!("capacity_slots 64 ({}:17)", name(&file)),
        format!("wait yield ({}:3)", name(&file)),
        format!("burst_events 32 ({}:2)", name(&file)),
    ] {
        assert!(settings.contains(&part), "{part}: {settings}");
    }
    let used = |args: &[&str], environment: &[(&str, &str)]| {
        let done = run(&[args, &["--json"]].concat(), environment);
        assert_eq!((done.code, done.err.as_str()), (Some(0), ""));
        let json: Value = serde_json::from_str(&done.out).unwrap();
        json["answers"][0]["settings"].clone()
    };
    let settings = used(&args, &[]);
    assert_eq!((&settings["wait"], &settings["burst"]), (&"yield".into(), &32.into()));
    assert_eq!((&settings["rounds"], &settings["capacity"]), (&1.into(), &64.into()));
    let environment = [("PELTON_BENCH_ROUNDS", "2"), ("PELTON_WAIT", "park")];
    let settings = used(&[&args[..], &["--burst-events", "8"]].concat(), &environment);
    assert_eq!((&settings["rounds"], &settings["wait"]), (&2.into(), &"park".into()));
    assert_eq!(settings["burst"], 8);
    // What stands in a file for all questions is left out where one has no use for it.
    let wake = used(&["wake", "--events", "20", "--config", name(&file)], &[]);
    assert_eq!((&wake["rounds"], &wake["capacity"], &wake["wait"]), (&1.into(), &Value::Null, &Value::Null));
    // Without a file nothing is the engine's.
    let page = run(&["engine", "--rounds", "1", "--events", "300"], &[]);
    assert!(page.out.contains("profile latency (this command), rounds 1 (--rounds)"), "{}", page.out);
    assert!(page.out.contains("wait spin"), "{}", page.out);
}

/// A file is refused by a command.
#[track_caller]
fn refused(text: &str, command: &[&str], expected: &[(usize, &str)]) {
    let file = file(text);
    run(&[command, &["--config", name(&file)]].concat(), &[]).assert_refused(&file, expected);
}

#[test]
fn tables_of_the_program_are_checked_too() {
    let text = FILE
        .replace("top = 3", "topp = 3")
        .replace("clients_max = 4_000", "clients_max = 0")
        .replace("rounds = 1", "rounds = \"many\"")
        .replace("events = 300", "shards = 2");
    let expected = [
        (10, "replay: clients_max is 0"),
        (12, "'topp' is no setting of [replay]"),
        (15, "bench: rounds is 'many'"),
        (16, "'shards' is no setting of [bench]"),
    ];
    refused(&text, &["lane"], &expected);
}

#[test]
fn classes_of_a_service_do_no_harm() {
    // A measurement starts no engine of a file, so its classes are not asked for.
    if !has_two_cpus() {
        return;
    }
    let file = file(&FILE.replace("\"bulk\"", "\"orders\""));
    let done = run(&["lane", "--config", name(&file)], &[]);
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""));
}

#[test]
fn help_has_an_option_for_every_setting() {
    let done = run(&["--help"], &[]);
    assert_eq!(done.code, Some(0));
    for key in pelton_bench::BENCH.iter().map(|row| row.info.key).chain(["config"]) {
        let option = format!("--{}", key.replace('_', "-"));
        let is_there = |line: &str| {
            line.trim_start().strip_prefix(&option).is_some_and(|rest| rest.starts_with([' ', '[']))
        };
        assert!(done.out.lines().any(is_there), "no {option} in\n{}", done.out);
    }
    assert!(done.out.lines().all(|line| line.chars().count() <= 100), "{}", done.out);
    let done = run(&["lane", "--capacity-slot", "8"], &[]);
    assert_eq!(done.code, Some(2));
    assert!(done.err.contains("'--capacity-slots'"), "{}", done.err);
}
