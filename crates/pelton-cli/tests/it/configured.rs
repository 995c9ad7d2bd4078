//! One file does for every command: what stands in it is in effect, the environment goes above it and options above
//! both, and what cannot be is told with its line.
//!
//! Every child process is killed by its handle after [`pelton_testkit::program::WATCHDOG`].

use crate::support::access_log::{LINES, Log};
use crate::support::pelton;
use pelton::engine::{Kind, Setting};
use pelton_testkit::program::{Done, end, file, name};
use serde_json::Value;

/// A file for all commands. Line numbers below count from its first line.
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
"#;

/// A log of a line.
const LINE: &str = "1.2.3.4 - - [17/May/2015:10:05:03 +0000] \"GET /a HTTP/1.1\" 200 7\n";

fn run(args: &[&str], environment: &[(&str, &str)]) -> Done {
    end(pelton().args(args).envs(environment.iter().copied()).spawn().unwrap())
}

/// The row of a setting on the page of `up`: its value, and where it came from.
fn row(done: &Done, setting: &str) -> String {
    let row = done.out.lines().find(|line| line.split_whitespace().next() == Some(setting));
    let row = row.unwrap_or_else(|| panic!("no {setting} in\n{}{}", done.out, done.err));
    row.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn up_shows_every_setting_of_a_file_with_its_line() {
    let (file, args) = (file(FILE), ["up", "--once", "--seconds", "0", "--producers", "1", "--config"]);
    let done = run(&[&args[..], &[name(&file)]].concat(), &[]);
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert_eq!(done.err, "");
    assert!(done.out.contains("closed"), "{}", done.out);
    for (setting, expected) in [
        ("profile", format!("profile throughput {}:1", name(&file))),
        ("burst_events", format!("burst_events 32 events {}:2", name(&file))),
        ("floor_bursts", "floor_bursts 64 bursts profile throughput".into()),
        ("scratch_bytes", "scratch_bytes 0 bytes this command: the handler needs none".into()),
        ("producers_max", "producers_max 1 this command: as many as producers".into()),
        ("capacity_slots", format!("capacity_slots 256 256 512 bulk: {}:7", name(&file))),
        ("clients_max", format!("clients_max 4000 {}:10", name(&file))),
        ("client_bytes", "client_bytes derived bytes this command".into()),
        ("time_limit_s", "time_limit_s 0 s --time-limit-s".into()),
    ] {
        assert_eq!(row(&done, setting), expected);
    }
}

#[test]
fn the_environment_goes_above_a_file_and_options_above_both() {
    let file = file(FILE);
    let args = ["up", "--once", "--seconds", "0", "--config", name(&file)];
    let environment = [
        ("PELTON_BURST_EVENTS", "16"),
        ("PELTON_WAIT", "park"),
        ("PELTON_REPLAY_TOP", "4"),
        ("PELTON_CLASS_BULK_CAPACITY_SLOTS", "256"),
    ];
    let done = run(&args, &environment);
    for expected in [
        "burst_events 16 events PELTON_BURST_EVENTS",
        "wait park PELTON_WAIT",
        "top 4 PELTON_REPLAY_TOP",
        "capacity_slots 256 256 256 bulk: PELTON_CLASS_BULK_CAPACITY_SLOTS",
    ] {
        assert_eq!(row(&done, expected.split(' ').next().unwrap()), expected);
    }
    // Those of several classes have no room in a row.
    let more = [("PELTON_CLASS_HIGH_CAPACITY_SLOTS", "64"), ("PELTON_CLASS_CRITICAL_CAPACITY_SLOTS", "64")];
    let wide = run(&args, &[&environment[..], &more].concat());
    assert_eq!(row(&wide, "capacity_slots"), "capacity_slots 64 64 256 see below");
    let below = "\n  capacity_slots is from critical: PELTON_CLASS_CRITICAL_CAPACITY_SLOTS, high:\n";
    assert!(wide.out.contains(below), "{}", wide.out);
    assert!(wide.out.lines().all(|line| line.chars().count() <= 100), "{}", wide.out);
    let options = ["--burst-events", "8", "--top", "5", "--class", "bulk:capacity_slots=128"];
    let done = run(&[&args[..], &options].concat(), &environment);
    for expected in [
        "burst_events 8 events --burst-events",
        "wait park PELTON_WAIT",
        "top 5 --top",
        "capacity_slots 256 256 128 bulk: --class",
    ] {
        assert_eq!(row(&done, expected.split(' ').next().unwrap()), expected);
    }
    // A wrong value is told even where another one covers it.
    let done = run(&[&args[..], &["--wait", "spin"]].concat(), &[("PELTON_WAIT", "doze")]);
    assert_eq!((done.code, done.out.as_str()), (Some(2), ""));
    assert!(done.err.contains("wait is 'doze' (PELTON_WAIT)"), "{}", done.err);
}

#[test]
fn a_replay_takes_a_file_and_says_what_it_starts() {
    let (file, log) = (file(FILE), Log::generated());
    let log = log.name();
    let done = run(&["replay", log, "--config", name(&file)], &[]);
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert!(done.out.contains("closed"), "{}", done.out);
    for part in ["profile throughput;", "wait yield; burst 32 events", "bulk: weighted 1, 512 slots"] {
        assert!(done.err.contains(part), "{part}: {}", done.err);
    }
    let done = run(&["replay", log, "--json", "--config", name(&file), "--top", "1"], &[]);
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""), "one object, and nothing else");
    let json: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(json["profile"], "throughput");
    assert_eq!((&json["ledger"]["closed"], &json["ledger"]["handled"]), (&true.into(), &LINES.into()));
    assert_eq!(json["report"]["top_paths"].as_array().unwrap().len(), 1);
    // As many as somebody has laid out room for.
    let json = run(&["replay", log, "--json", "--clients-max", "4000", "--producers-max", "1"], &[]);
    assert_eq!(json.code, Some(0), "{}", json.err);
}

#[test]
fn advice_is_seen_whatever_is_printed() {
    let log = Log::generated();
    let args = [
        "replay",
        log.name(),
        "--clients-max",
        "4000",
        "--paths-max",
        "4000",
        "--thread-name",
        "a-long-name",
    ];
    for (more, expected) in [
        (&[][..], "\n  warning: thread_name is"),
        (&["--json"], "warning: --thread-name: thread_name is"),
        (&["--announce=false"], "warning: --thread-name: thread_name is"),
    ] {
        let done = run(&[&args[..], more].concat(), &[]);
        assert_eq!(done.code, Some(0), "{}", done.err);
        assert_eq!(done.err.matches(expected).count(), 1, "{more:?}: {}", done.err);
    }
}

/// A file is refused by a command.
#[track_caller]
fn refused(text: &str, command: &[&str], expected: &[(usize, &str)]) {
    let file = file(text);
    run(&[command, &["--config", name(&file)]].concat(), &[]).assert_refused(&file, expected);
}

#[test]
fn tables_of_all_commands_are_checked_by_each() {
    let log = file(LINE);
    let text = FILE.replace("top = 3", "topp = 3").replace("clients_max = 4_000", "clients_max = 0");
    let expected = [(10, "replay: clients_max is 0"), (12, "'topp' is no setting of [replay]")];
    for command in [&["replay", name(&log)][..], &["up", "--once"]] {
        refused(&text, command, &expected);
    }
    let nameless = file(&FILE.replace("profile = \"throughput\"", ""));
    let done = run(&["up", "--once", "--config", name(&nameless)], &[]);
    assert_eq!((done.code, done.out.as_str()), (Some(2), ""));
    assert!(done.err.contains("no profile is named") && done.err.contains("would work"), "{}", done.err);
}

#[test]
fn a_service_s_classes_are_none_of_a_replay() {
    let service = FILE.replace("\"bulk\"", "\"orders\"");
    for command in [&["replay", "-"][..], &["up", "--once"]] {
        refused(&service, command, &[(6, "this command has no class 'orders'")]);
    }
}

#[test]
fn what_a_file_asks_of_the_input_is_told_with_its_line() {
    let text = FILE.replace("top = 3", "producers = 3\nloop = 2");
    refused(&text, &["replay", "-"], &[(12, "replay: producers is 3"), (13, "replay: loop is 2")]);
    let few = format!("producers_max = 2\n{text}");
    refused(&few, &["replay", name(&file(LINE))], &[(13, "replay: producers is 3")]);
    refused(&format!("event_bytes = 48\n{FILE}"), &["up", "--once"], &[(1, "event_bytes is 48")]);
    let wrong = run(&["up", "--once", "--config", "/no/such/file.toml"], &[]);
    assert_eq!((wrong.code, wrong.out.as_str()), (Some(2), ""));
    assert!(wrong.err.starts_with("error: /no/such/file.toml: "), "{}", wrong.err);
}

#[test]
fn an_unknown_option_or_variable_is_answered_with_a_known_one() {
    for (args, part) in [
        (["replay", "-", "--burst-event", "8"], "'--burst-events'"),
        (["replay", "-", "--client-max", "8"], "'--clients-max'"),
    ] {
        let done = run(&args, &[]);
        assert_eq!(done.code, Some(2));
        assert!(done.err.contains(part), "{args:?}: {}", done.err);
    }
    let done = run(&["up", "--once"], &[("PELTON_BURST_EVENT", "8")]);
    assert_eq!(done.code, Some(2));
    assert!(done.err.contains("PELTON_BURST_EVENT is no setting"), "{}", done.err);
    assert!(done.err.contains("'PELTON_BURST_EVENTS' would work"), "{}", done.err);
}

#[test]
fn help_has_an_option_for_every_setting() {
    for (command, tables) in [("replay", 2), ("up", 4), ("run", 3)] {
        let done = run(&[command, "--help"], &[]);
        assert_eq!(done.code, Some(0));
        let replay = pelton_cli::weblog::REPLAY.iter().map(|row| row.info.key);
        let engine = pelton::engine::ENGINE.iter().map(|row| row.info.key);
        // A secret has none: every user of a machine can read a command line.
        let is_shown = |row: &&Setting<pelton_gateway::Options>| row.info.kind != Kind::Secret;
        let gateway = pelton_gateway::GATEWAY.iter().filter(is_shown).map(|row| row.info.key);
        assert!(!done.out.contains("--password "), "{}", done.out);
        let keys: Vec<_> = match tables {
            2 => replay.chain(engine).collect(),
            4 => replay.chain(engine).chain(gateway).chain(["once"]).collect(),
            _ => gateway.chain(engine).chain(["class", "stream", "view"]).collect(),
        };
        for key in keys.into_iter().chain(["config"]) {
            let option = format!("--{}", key.replace('_', "-"));
            let is_there = |line: &str| {
                line.trim_start().strip_prefix(&option).is_some_and(|rest| rest.starts_with([' ', '[']))
            };
            assert!(done.out.lines().any(is_there), "{command}: no {option} in\n{}", done.out);
        }
        assert!(done.out.lines().all(|line| line.chars().count() <= 100), "{}", done.out);
    }
}
