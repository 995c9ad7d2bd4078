//! The program does what it is told, says what it found, and refuses what cannot be with a sentence that helps.
//!
//! Every child process is killed by its handle after [`pelton_testkit::program::WATCHDOG`].

use crate::support::access_log::{LINES, Log};
use crate::support::pelton;
use pelton_testkit::needs::real_access_log;
use pelton_testkit::program::{Done, end};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::Stdio;
use std::thread;
use tempfile::{NamedTempFile, TempDir};

const GOOD: &str = "1.2.3.4 - - [17/May/2015:10:05:03 +0000] \"GET /a HTTP/1.1\" 200 7\n";

/// Tables that take no time to lay out.
const SMALL: [&str; 4] = ["--clients-max", "4000", "--paths-max", "4000"];

fn run(args: &[&str]) -> Done {
    end(pelton().args(args).spawn().unwrap())
}

/// Replays `input` from standard input.
fn feed(input: &[u8], args: &[&str]) -> Done {
    let mut child =
        pelton().args(["replay", "-"]).args(SMALL).args(args).stdin(Stdio::piped()).spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let input = input.to_vec();
    // A program that has seen enough closes the pipe; that is for the test to judge by what it said.
    let writer = thread::spawn(move || drop(pipe.write_all(&input)));
    let done = end(child);
    writer.join().unwrap();
    done
}

/// One JSON object on standard output, nothing on standard error, and a ledger that is closed.
fn object(done: &Done) -> Value {
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""), "{}", done.out);
    let json: Value = serde_json::from_str(&done.out).expect("one JSON object");
    assert_closed(&json);
    json
}

fn number(json: &Value, path: &str) -> u64 {
    json.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("no number at {path}: {json}"))
}

/// The ledger's identity, in total and for each class, and no allocation anywhere.
fn assert_closed(json: &Value) {
    let n = |name: &str| number(json, &format!("/ledger/{name}"));
    assert_eq!(n("offered"), n("accepted") + n("rejected"), "{json}");
    assert_eq!(
        n("accepted"),
        n("handled") + n("expired") + n("failed") + n("evicted") + n("in_flight"),
        "{json}"
    );
    assert_eq!(n("in_flight"), 0);
    for (sum, by) in [("rejected", "rejected_by"), ("expired", "expired_by"), ("failed", "failed_by")] {
        let reasons = json["ledger"][by].as_object().unwrap().values();
        assert_eq!(reasons.map(|n| n.as_u64().unwrap()).sum::<u64>(), n(sum), "{json}");
    }
    for name in ["offered", "accepted", "rejected", "handled", "expired", "failed"] {
        let classes = json["classes"].as_array().unwrap().iter();
        assert_eq!(
            classes.map(|class| class[name].as_u64().unwrap()).sum::<u64>(),
            n(name),
            "{name}: {json}"
        );
    }
    assert_eq!(number(json, "/input/parsed"), n("offered"));
    assert_eq!(number(json, "/input/lines"), n("offered") + number(json, "/input/malformed"));
    assert_eq!(number(json, "/report/requests"), n("handled"));
    for who in ["shards", "producers", "shards_sealed/allocations", "producers_sealed/allocations"] {
        assert_eq!(number(json, &format!("/allocations/{who}")), 0, "{who}");
    }
    assert_eq!(
        (&json["ledger"]["closed"], &json["ledger"]["drained"]),
        (&Value::Bool(true), &Value::Bool(true))
    );
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

fn assert_has(value: &Value, names: &[&str]) {
    for name in names {
        assert!(value.get(name).is_some(), "no {name} among {:?}", keys(value));
    }
}

#[test]
fn the_object_has_its_shape_and_the_totals_of_the_log() {
    let log = Log::generated();
    let json = object(&run(&["replay", log.name(), "--json"]));
    assert_has(
        &json,
        &["input", "ledger", "classes", "report", "allocations", "footprint", "elapsed_s", "events_per_s"],
    );
    assert_has(&json["input"], &["lines", "parsed", "malformed", "bytes"]);
    let columns = ["offered", "accepted", "rejected", "handled", "expired", "failed", "evicted", "in_flight"];
    assert_has(&json["ledger"], &columns);
    let classes = json["classes"].as_array().unwrap();
    let names: Vec<_> = classes.iter().map(|class| class["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["critical", "high", "bulk"]);
    for class in classes {
        assert_has(class, &columns[..6]);
        for span in ["latency_ns", "handling_ns"] {
            assert_has(&class[span], &["p50", "p99", "p999", "max"]);
            assert!(class[span]["p50"].as_u64() <= class[span]["max"].as_u64());
        }
    }
    let totals = &log.totals;
    assert_eq!(number(&json, "/input/lines"), LINES);
    assert_eq!(number(&json, "/input/bytes"), log.len());
    assert_eq!(number(&json, "/report/clients"), totals.clients.len() as u64);
    assert_eq!(number(&json, "/report/bytes"), totals.sizes.iter().sum::<u64>());
    let status = &json["report"]["status"];
    assert_eq!(status.as_object().unwrap().len(), totals.status.len());
    totals.status.iter().for_each(|(name, n)| assert_eq!(status[name], *n));
    let (client, path) = (&totals.clients[0], &totals.paths[0]);
    assert_eq!(json["report"]["top_clients"][0]["client"], client.0);
    assert_eq!(number(&json, "/report/top_clients/0/requests"), client.1);
    assert_eq!(json["report"]["top_paths"][0]["path"], path.0);
    assert_eq!(number(&json, "/report/top_paths/0/requests"), path.1);
    assert!(number(&json, "/footprint/planned_bytes") > 0);
    assert!(json["elapsed_s"].as_f64().unwrap() > 0.0 && json["events_per_s"].as_f64().unwrap() > 0.0);
    // In the text the order is that of the counts, which a parsed object does not keep.
    let done = run(&["replay", log.name(), "--json"]);
    let at = |name: &str| done.out.find(&format!("\"{name}\":")).unwrap();
    assert!(totals.status.windows(2).all(|pair| at(&pair[0].0) < at(&pair[1].0)), "{}", done.out);
    assert_eq!(done.out.lines().count(), 1);
}

#[test]
fn the_object_has_the_totals_of_the_real_log() {
    let Some(log) = real_access_log() else { return };
    let json = object(&run(&["replay", log.to_str().unwrap(), "--json"]));
    assert_eq!(number(&json, "/input/lines"), 10_000);
    assert_eq!(number(&json, "/input/bytes"), fs::metadata(log).unwrap().len());
    assert_eq!(number(&json, "/report/clients"), 1_753);
    let status = &json["report"]["status"];
    let expected = [
        ("200", 9_126),
        ("304", 445),
        ("404", 213),
        ("301", 164),
        ("206", 45),
        ("500", 3),
        ("403", 2),
        ("416", 2),
    ];
    assert_eq!(status.as_object().unwrap().len(), expected.len());
    expected.iter().for_each(|(name, n)| assert_eq!(status[name], *n));
    assert_eq!(json["report"]["top_clients"][0]["client"], "66.249.73.135");
    assert_eq!(number(&json, "/report/top_clients/0/requests"), 482);
    assert_eq!(json["report"]["top_paths"][0]["path"], "/favicon.ico");
    assert_eq!(number(&json, "/report/top_paths/0/requests"), 807);
}

#[test]
fn options_change_how_it_runs_but_not_what_it_counts() {
    let log = Log::generated();
    let args = ["replay", log.name(), "--json", "--top", "3"];
    let plain = object(&run(&[&args[..], &SMALL].concat()));
    assert_eq!(plain["report"]["top_paths"].as_array().unwrap().len(), 3);
    let more = [
        "--shards",
        "3",
        "--overcommitted",
        "--producers",
        "4",
        "--wait",
        "yield",
        "--burst-events",
        "7",
        "--floor-bursts",
        "2",
        "--class",
        "bulk:capacity_slots=64,payload_ring_bytes=65536,stamp_one_in=1,overflow=block",
        "--class",
        "high:stamp_one_in=0",
    ];
    let tuned = object(&run(&[&args[..], &SMALL, &more].concat()));
    assert_eq!(plain["report"], tuned["report"]);
    let bulk = LINES - log.totals.of_status(&['4', '5']);
    assert_eq!((number(&tuned, "/classes/2/measured"), number(&tuned, "/classes/1/measured")), (bulk, 0));
    let looped = object(&run(&[&args[..], &SMALL, &["--loop", "3"]].concat()));
    assert_eq!(number(&looped, "/report/requests"), 3 * LINES);
    assert_eq!(number(&looped, "/report/clients"), log.totals.clients.len() as u64);
}

#[test]
fn a_rate_is_kept_and_told() {
    let log = Log::generated();
    let args = [&["replay", log.name()][..], &SMALL].concat();
    let free = object(&run(&[&args[..], &["--json"]].concat()));
    assert_eq!(free["schedule"], Value::Null);
    let paced =
        object(&run(&[&args[..], &["--json", "--rate", "50k", "--class", "bulk:stamp_one_in=1"]].concat()));
    assert_eq!(paced["report"], free["report"]);
    let n = |name: &str| number(&paced, &format!("/schedule/{name}"));
    assert_eq!((n("rate_per_s"), n("intended"), n("sent")), (50_000, LINES, LINES));
    assert!(n("late") <= n("sent") && n("slept") + n("spun") <= n("sent"));
    assert!(n("late") == 0 || n("late_max_ns") > n("late_from_ns"));
    // It cannot be faster than it was told to be.
    assert!(paced["elapsed_s"].as_f64().unwrap() >= 0.199, "{paced}");
    let achieved = paced["schedule"]["achieved_per_s"].as_f64().unwrap();
    assert!(achieved > 0.0 && achieved <= 50_100.0, "{achieved}");
    // The greatest lateness of a sender is part of the greatest latency, since that counts from the intended time.
    let latest = ["0", "1", "2"].map(|class| number(&paced, &format!("/classes/{class}/latency_ns/max")));
    assert!(latest.into_iter().max().unwrap() * 100 >= n("late_max_ns") * 99, "{paced}");
    let text = run(&[&args[..], &["--rate", "1M"]].concat());
    for part in
        ["Schedule", "1.00 million events/s, 10,000 lines", "10,000 sent", "after their time", "meant for"]
    {
        assert!(text.out.contains(part), "no '{part}' in\n{}", text.out);
    }
    assert!(text.out.lines().all(|line| line.chars().count() <= 100), "{}", text.out);
    let json = object(&feed(GOOD.repeat(100).as_bytes(), &["--json", "--rate", "20000"]));
    assert_eq!(number(&json, "/schedule/sent"), 100);
}

#[test]
fn text_is_for_people() {
    let log = Log::generated();
    let done = run(&[&["replay", log.name()][..], &SMALL].concat());
    assert_eq!(done.code, Some(0));
    assert!(done.err.starts_with("pelton ") && done.err.contains("profile dev; "), "{}", done.err);
    assert_eq!(run(&[&["replay", log.name(), "--announce=false"][..], &SMALL].concat()).err, "");
    let clients = pelton::words::count(log.totals.clients.len() as u64);
    for part in [
        "10,000 lines",
        &clients,
        &log.totals.clients[0].0,
        &log.totals.paths[0].0,
        "Ledger",
        "closed",
        "queue wait",
        "critical",
        "allocations per event: shards 0, producers 0",
        "planned",
        "resident",
    ] {
        assert!(done.out.contains(part), "no '{part}' in\n{}", done.out);
    }
    assert!(!done.out.contains('\u{1b}'), "no colours in a pipe");
    assert!(done.out.lines().all(|line| line.chars().count() <= 100), "{}", done.out);
}

#[test]
fn a_generated_log_flows_through_a_pipe() {
    let make = ["generate", "--events", "20000", "--seed", "7", "--clients", "300", "--errors", "0.2"];
    let mut source = pelton().args(make).spawn().unwrap();
    let pipe = source.stdout.take().unwrap();
    let sink = pelton().args(["replay", "-", "--json"]).args(SMALL).stdin(pipe).spawn().unwrap();
    let json = object(&end(sink));
    assert_eq!(end(source).code, Some(0));
    assert_eq!((number(&json, "/input/lines"), number(&json, "/input/malformed")), (20_000, 0));
    assert!(number(&json, "/classes/0/handled") > 0 && number(&json, "/classes/1/handled") > 0);
    // The same from a file, by two readers.
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("made.log");
    let path = path.to_str().unwrap();
    fs::write(path, "precious").unwrap();
    let done = run(&[&make[..], &["-o", path]].concat());
    assert_eq!((done.code, fs::read_to_string(path).unwrap().as_str()), (Some(2), "precious"));
    assert!(done.err.contains("is there already; another name, or --force, would work"), "{}", done.err);
    assert_eq!(run(&[&make[..], &["--force", "-o", path]].concat()).code, Some(0));
    let file = object(&run(&[&["replay", path, "--json"][..], &SMALL].concat()));
    assert_eq!(file["report"], json["report"]);
}

#[test]
fn a_reader_that_goes_away_is_a_quiet_end() {
    let log = Log::generated();
    for args in [&["generate", "--events", "100000000"][..], &["replay", log.name(), "--json"]] {
        let mut child = pelton().args(args).spawn().unwrap();
        let mut out = BufReader::with_capacity(16, child.stdout.take().unwrap());
        if args[0] == "generate" {
            out.read_until(b'\n', &mut Vec::new()).unwrap();
        }
        drop(out);
        let done = end(child);
        assert_eq!((done.code, done.err.as_str()), (Some(0), ""), "{args:?}");
    }
}

#[test]
fn malformed_lines_are_counted_and_shown() {
    let input = [GOOD, "nonsense\n", GOOD, "\n", "1.2.3.4 - - [t] \"GET / HTTP/1.1\" 999 1\n"].concat();
    let json = object(&feed(input.as_bytes(), &["--json"]));
    assert_eq!((number(&json, "/input/malformed"), number(&json, "/report/requests")), (3, 2));
    let lines: Vec<_> =
        (0..3).map(|at| number(&json, &format!("/input/malformed_first/{at}/line"))).collect();
    assert_eq!(lines, [2, 4, 5]);
    let done = feed(input.as_bytes(), &[]);
    assert_eq!(done.code, Some(0));
    for part in ["malformed and not counted: 3", "line 2 ", "line 4 ", "empty line", "line 5 ", "bad status"]
    {
        assert!(done.out.contains(part), "no '{part}' in\n{}", done.out);
    }
}

#[test]
fn strict_ends_at_the_first_malformed_line() {
    let done = feed([GOOD, "nonsense\n", GOOD].concat().as_bytes(), &["--strict", "--json"]);
    assert_eq!((done.code, done.out.as_str()), (Some(1), ""));
    assert!(done.err.contains("error: line 2: no client"), "{}", done.err);
    assert!(done.err.contains("without --strict"), "{}", done.err);
}

#[test]
fn every_end_of_a_line_or_file_is_one() {
    let reports = [GOOD.repeat(2), GOOD.repeat(2).trim_end().into(), GOOD.repeat(2).replace('\n', "\r\n")]
        .map(|input| object(&feed(input.as_bytes(), &["--json"]))["report"].clone());
    assert!(reports.iter().all(|report| *report == reports[0] && report["requests"] == 2));
    let json = object(&feed(b"", &["--json"]));
    assert_eq!((number(&json, "/input/lines"), number(&json, "/report/clients")), (0, 0));
    assert_eq!(feed(b"", &[]).code, Some(0), "an empty input has a page too");
    let empty = NamedTempFile::new().unwrap();
    let path = empty.path().to_str().unwrap();
    assert_eq!(number(&object(&run(&[&["replay", path, "--json"][..], &SMALL].concat())), "/input/lines"), 0);
}

#[test]
fn what_is_too_large_or_no_text_is_counted() {
    let long = GOOD.replace("/a", &format!("/{}", "a".repeat((1 << 20) - 100)));
    let input = [GOOD, &long, "1.2.3.4\0\n", GOOD].concat();
    let json = object(&feed(input.as_bytes(), &["--json"]));
    assert_eq!(number(&json, "/ledger/rejected_by/too_large"), 1);
    assert_eq!((number(&json, "/input/too_large"), number(&json, "/input/too_large_first/0/line")), (1, 2));
    assert_eq!((number(&json, "/input/malformed"), number(&json, "/report/requests")), (1, 2));
    let done = feed(input.as_bytes(), &[]);
    assert!(done.out.contains("too_large") && done.out.contains("NUL byte"), "{}", done.out);
    // With room for it the line is one like any other.
    let json = object(&feed(input.as_bytes(), &["--json", "--class", "bulk:payload_ring_bytes=4194304"]));
    assert_eq!((number(&json, "/input/too_large"), number(&json, "/report/requests")), (0, 3));
    // One byte more than a line may have.
    let json = object(&feed(&[b'a'; (1 << 20) + 1], &["--json"]));
    assert_eq!(number(&json, "/input/malformed"), 1);
}

#[test]
fn a_log_cannot_write_to_the_terminal() {
    let done = feed(GOOD.replace("/a", "/\u{1b}[2J").as_bytes(), &[]);
    assert!(!done.out.contains('\u{1b}') && done.out.contains("/\\u{1b}[2J"), "{}", done.out);
}

#[test]
fn a_missing_file_and_a_directory_are_told_apart() {
    let folder = TempDir::new().unwrap();
    let missing: PathBuf = folder.path().join("no.log");
    let done = run(&["replay", missing.to_str().unwrap()]);
    assert_eq!((done.code, done.out.as_str()), (Some(1), ""));
    assert!(done.err.contains("there is no file") && done.err.contains("no.log"), "{}", done.err);
    let done = run(&["replay", folder.path().to_str().unwrap()]);
    assert_eq!(done.code, Some(1));
    assert!(done.err.contains("is a directory"), "{}", done.err);
    let done = run(&["replay", "/dev/null"]);
    assert!(done.code == Some(1) && done.err.contains("standard input"), "{}", done.err);
    let done = run(&["generate", "--events", "1", "-o", folder.path().to_str().unwrap()]);
    assert!(done.code == Some(1) && done.err.contains("could not be written"), "{}", done.err);
}

fn file_of_a_line() -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(GOOD.as_bytes()).unwrap();
    file
}

/// The arguments are refused with this exit code, before anything runs, and the error has all of these parts.
fn refused_with(code: i32, args: &[&str], parts: &[&str]) {
    let log = file_of_a_line();
    let done = run(&[&["replay", log.path().to_str().unwrap()][..], args].concat());
    assert_eq!((done.code, done.out.as_str()), (Some(code), ""), "{args:?}: {}", done.err);
    for part in parts {
        assert!(done.err.contains(part), "{args:?}: no '{part}' in: {}", done.err);
    }
}

fn refused(args: &[&str], parts: &[&str]) {
    refused_with(2, args, parts);
}

#[test]
fn impossible_settings_name_setting_value_limit_and_what_would_work() {
    refused(&["--shards", "0"], &["error: --shards: shards is '0'", "from 1 to 256", "1 would work"]);
    refused(&["--shards", "-1"], &["shards is '-1'", "1 would work"]);
    refused(&["--shards", "70000"], &["--shards", "70000", "from 1 to 256", "256 would work"]);
    refused(&["--producers", "0"], &["producers is '0'", "from 1 to 256", "1 would work"]);
    refused(
        &["--producers", "3", "--producers-max", "2"],
        &["--producers: ", "producers is 3", "2 would work"],
    );
    refused(&["--burst-events", "0"], &["burst_events is '0'", "from 1 to 65536", "1 would work"]);
    refused(&["--rate", "0"], &["rate_lines_per_s is '0'", "from 1 to 1000000000", "1 would work"]);
    refused(&["--rate-lines-per-s", "2000M"], &["rate_lines_per_s is '2000M'", "from 1 to 1000000000"]);
    refused(&["--rate", "fast"], &["rate_lines_per_s is 'fast'", "1 would work"]);
    refused(&["--loop", "0"], &["loop is '0'", "1 or more", "1 would work"]);
    refused(&["--strict=maybe"], &["--strict: ", "'maybe'", "true or false"]);
    refused(
        &["--class", "bulk:capacity_slots=1000"],
        &["class 'bulk': capacity_slots is '1000'", "a power of two", "1024 would work"],
    );
    refused(
        &["--class", "bulk:payload_ring_bytes=32"],
        &["class 'bulk': payload_ring_bytes is '32'", "a power of two from 64", "64 would work"],
    );
    refused(
        &["--class", "high:payload_ring_bytes=0"],
        &["--class: class 'high': payload_ring_bytes is 0", "travel in it", "131072 would work"],
    );
    refused(&["--class", "bulky:capacity_slots=1"], &["no class 'bulky'", "'bulk' would work"]);
    refused(
        &["--class", "bulk:colour=red"],
        &["'colour'", "capacity_slots, payload_ring_bytes", "would work"],
    );
    refused(&["--class", "bulk:overflow=maybe"], &["'maybe'", "drop_newest", "'block' would work"]);
    refused(&["--class", "bulk"], &["NAME:KEY=VALUE"]);
    refused(&["--cpus", "zero"], &["cpus is 'zero'", "0-3,7", "would work"]);
    refused(&["--wait", "doze"], &["wait is 'doze'", "spin, yield, park"]);
    refused(&["--clients-max", "0"], &["clients_max is '0'", "from 1 to 134217728", "1 would work"]);
    refused(
        &[
            "--clients-max",
            "100000000",
            "--shards",
            "200",
            "--overcommitted",
            "--memory-max-bytes",
            "4000000000",
        ],
        &["footprint", "bytes", "at most 4000000000 bytes", "client table", "would work"],
    );
    // What another machine could bear.
    refused_with(3, &["--cpus", "0,4095"], &["cpus is 4095", "one of", "would work"]);
    let shards = pelton::shard::available().len() + 1;
    // No plan has more, so there the largest machines have none that is too many.
    if shards <= 256 {
        let told = format!("--shards: shards is {shards}");
        refused_with(3, &["--shards", &shards.to_string()], &[&told, "overcommitted = true"]);
    }
    let large = ["--class", "bulk:capacity_slots=67108864", "--shards", "256", "--overcommitted"];
    refused_with(
        3,
        &[&SMALL[..], &large].concat(),
        &["footprint", "at most", "class 'bulk': slots", "would work"],
    );
    let done = end(pelton().args(["replay", "-", "--loop", "2", "--producers", "3"]).spawn().unwrap());
    assert_eq!(done.code, Some(2));
    assert_eq!(done.err.lines().count(), 2, "each on its own line: {}", done.err);
    assert!(done.err.contains("loop is 2") && done.err.contains("producers is 3"), "{}", done.err);
    let done = run(&["generate", "--skew", "5"]);
    assert!(
        done.code == Some(2) && done.err.contains("skew is 5") && done.err.contains("0 to 4"),
        "{}",
        done.err
    );
}

#[test]
fn a_payload_ring_that_is_too_small_for_the_lines_says_so_in_the_ledger() {
    let json =
        object(&feed(GOOD.repeat(10).as_bytes(), &["--json", "--class", "bulk:payload_ring_bytes=64"]));
    // 1.2.3.4 and GET /a HTTP/1.1 are 22 bytes, half of the ring is 32.
    assert_eq!(number(&json, "/report/requests"), 10);
    let longer = GOOD.replace("/a", "/a-longer-path");
    let json =
        object(&feed(longer.repeat(10).as_bytes(), &["--json", "--class", "bulk:payload_ring_bytes=64"]));
    assert_eq!(number(&json, "/ledger/rejected_by/too_large"), 10);
}

#[test]
fn policies_that_lose_events_account_for_them() {
    let log = Log::generated();
    for policy in ["reject", "drop_newest", "block,block_limit_us=1000"] {
        let class = format!("bulk:capacity_slots=1,overflow={policy},ttl_us=1000000");
        let args = ["replay", log.name(), "--json", "--class", &class];
        let json = object(&run(&[&args[..], &SMALL].concat()));
        assert_eq!(number(&json, "/ledger/offered"), LINES, "{policy}");
    }
}

#[test]
fn up_needs_no_arguments_and_shows_everything() {
    // No seconds: the stream is read once.
    let done = run(&["up", "--once", "--seconds", "0"]);
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""), "{}", done.out);
    for part in [
        "This machine",
        "CPUs",
        "barrier",
        "Settings",
        "dev",
        "park",
        "Classes",
        "drop_deadline_ms",
        "this command: without a file it is a shared machine's",
        "--time-limit-s",
        "Memory",
        "total",
        "client table",
        "200,000 lines",
        "Ledger",
        "closed",
        "Latency",
        "allocations per event: shards 0, producers 0",
    ] {
        assert!(done.out.contains(part), "no '{part}' in\n{}", done.out);
    }
    let done = run(&["up", "--once", "--seconds", "0", "--shards", "0"]);
    assert_eq!((done.code, done.out.as_str()), (Some(2), ""), "told before anything is shown");
}

#[test]
fn help_and_version_are_there() {
    let done = run(&["--version"]);
    assert_eq!((done.code, done.out.trim()), (Some(0), concat!("pelton ", env!("CARGO_PKG_VERSION"))));
    for args in [&["--help"][..], &["replay", "--help"], &["up", "--help"], &["generate", "--help"]] {
        let done = run(args);
        assert!(done.code == Some(0) && !done.out.is_empty(), "{args:?}");
    }
    assert_eq!(run(&[]).code, Some(2));
    assert_eq!(run(&["replay"]).code, Some(2));
}
