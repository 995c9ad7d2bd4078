//! `check`, `explain`, `diff` and `init`, run as a user would: what they print, and with which exit code they end.

use crate::support::pelton;
use pelton_testkit::program::{Done, end};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Where the files of configurations are.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// Runs the program with some variables of the environment.
fn run_with(args: &[&str], environment: &[(&str, &str)]) -> Done {
    let mut command = pelton();
    command.current_dir(ROOT).args(args).envs(environment.iter().copied());
    end(command.spawn().unwrap())
}

fn run(args: &[&str]) -> Done {
    run_with(args, &[])
}

/// A folder, and a file in it.
fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("it.toml");
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[track_caller]
fn json(done: &Done) -> Value {
    serde_json::from_str(&done.out).unwrap_or_else(|error| panic!("{error}: {}{}", done.out, done.err))
}

const GOOD: &str = "profile = \"dev\"\nevent_bytes = 40\n\n[[class]]\nname = \"orders\"\nshare = \"strict\"\ncapacity_slots = 64\noverflow = \"block\"\n";

/// What the program printed for a kept file is what is kept beside it.
#[track_caller]
fn is_kept(done: &Done, name: &str) {
    let path = Path::new(ROOT).join("tests/config").join(name);
    if std::env::var_os("PELTON_TEST_BLESS").is_some() {
        std::fs::write(&path, &done.out).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(done.out, kept, "PELTON_TEST_BLESS=1 writes it anew");
}

#[test]
fn seven_mistakes_are_underlined_at_once() {
    let done = run(&["check", "tests/config/seven.toml", "--no-host"]);
    assert_eq!(done.code, Some(2), "{}", done.err);
    is_kept(&done, "seven.check");
    // In a pipe there is no colour, and no line ends in blanks.
    assert!(!done.out.contains('\u{1b}') && done.out.lines().all(|line| line.trim_end() == line));
    let told = json(&run(&["check", "tests/config/seven.toml", "--no-host", "--json"]));
    assert_eq!(
        (&told["errors"], &told["warnings"], &told["footprint_bytes"]),
        (&7.into(), &0.into(), &Value::Null)
    );
    let problems = told["problems"].as_array().unwrap();
    let lines: Vec<_> = problems.iter().map(|problem| problem["line"].as_u64().unwrap()).collect();
    assert_eq!(lines, [1, 2, 3, 4, 9, 10, 15]);
    let source = std::fs::read_to_string(Path::new(ROOT).join("tests/config/seven.toml")).unwrap();
    for (problem, piece) in
        problems.iter().zip(["\"latancy\"", "shard", "0", "\"yes\"", "1_000", "\"blok\"", "3"])
    {
        let span: Vec<_> =
            problem["span"].as_array().unwrap().iter().map(|at| at.as_u64().unwrap() as usize).collect();
        assert_eq!(&source[span[0]..span[1]], piece);
        for key in ["rule", "severity", "against", "setting", "file", "what", "why", "fix"] {
            assert!(problem[key].as_str().is_some_and(|text| !text.is_empty()), "{key}: {problem}");
        }
    }
}

#[test]
fn a_good_file_is_one_calm_line() {
    let (_folder, path) = file(GOOD);
    let done = run(&["check", text(&path)]);
    assert_eq!((done.code, done.err.as_str(), done.out.lines().count()), (Some(0), "", 1), "{}", done.out);
    for part in ["it.toml: good. Profile dev, 1 shard, 1 class, ", " of memory"] {
        assert!(done.out.contains(part), "{}", done.out);
    }
}

#[test]
fn exit_codes_tell_the_configuration_from_the_host() {
    let with = |more: &str| file(&GOOD.replace("\"dev\"\n", &format!("\"dev\"\n{more}\n")));
    let code = |path: &Path, more: &[&str]| run(&[&["check", text(path)], more].concat()).code;
    // A shard more than this process has CPUs.
    let shards = pelton::shard::available().len() + 1;
    let (_one, here) = with(&format!("shards = {shards}"));
    // No plan has more than 256, so there the largest machines have none that is too many.
    if shards <= 256 {
        assert_eq!([code(&here, &[]), code(&here, &["--no-host"])], [Some(3), Some(0)]);
    }
    let (_two, both) = with(&format!("shards = {shards}\nburst_events = 0"));
    assert_eq!(code(&both, &[]), Some(2));
    let (_three, warns) = with("thread_name = \"pelton-orders\"");
    assert_eq!([code(&warns, &[]), code(&warns, &["--deny-warnings"])], [Some(0), Some(2)]);
    let done = run(&["check", text(&warns)]);
    assert!(
        done.out.contains("⚠ thread_name is 'pelton-orders'") && done.out.ends_with("1 warning\n"),
        "{}",
        done.out
    );
    let (_four, empty) = file("");
    assert!(run(&["check", text(&empty)]).out.contains("no profile is named"));
}

#[test]
fn output_that_is_closed_changes_no_exit_code() {
    let (_folder, bad) = file(&GOOD.replace("64", "65"));
    let (_other_folder, good) = file(GOOD);
    let (_third_folder, other) = file(&GOOD.replace("64", "128"));
    for (args, code) in [
        (&["check", text(&bad)][..], 2),
        (&["check", text(&bad), "--json"], 2),
        (&["check", text(&good)], 0),
        (&["explain", text(&bad)], 2),
        (&["diff", text(&good), text(&other)], 1),
        (&["diff", text(&good), text(&bad)], 2),
        (&["diff", text(&good), text(&good)], 0),
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let done = end(pelton().args(args).stdout(writer).spawn().unwrap());
        assert_eq!((done.code, done.err.as_str()), (Some(code), ""), "{args:?}");
    }
}

#[test]
fn what_stands_in_no_file_is_told_by_its_name() {
    let (_folder, path) = file(GOOD);
    let environment = [("PELTON_SHARDS", "900"), ("PELTON_BURST", "3")];
    let done =
        run_with(&["check", text(&path), "--wait", "spinn", "--class", "order:ttl_us=1"], &environment);
    assert_eq!(done.code, Some(2));
    for part in [
        "PELTON_BURST is no setting\n",
        "'PELTON_BURST_EVENTS' would work",
        "shards is '900' (PELTON_SHARDS)",
        "wait is 'spinn' (--wait)",
        "there is no class 'order' (--class)",
        "4 errors",
    ] {
        assert!(done.out.contains(part), "{part}: {}", done.out);
    }
}

#[test]
fn a_file_that_cannot_be_read_is_one_sentence() {
    for command in [&["check"][..], &["explain"], &["diff", "tests/config/seven.toml"]] {
        let done = run(&[command, &["/not/there.toml"]].concat());
        assert_eq!(done.code, Some(2), "{command:?}");
        if command.len() == 1 {
            assert!(
                done.err.starts_with("error: /not/there.toml: ") && done.err.lines().count() == 1,
                "{}",
                done.err
            );
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bytes.toml");
    std::fs::write(&path, [0xff, 0xfe, 0]).unwrap();
    assert_eq!(run(&["check", text(&path)]).code, Some(2));
}

#[test]
fn a_file_cannot_write_to_the_terminal() {
    let (_folder, path) = file("profile = \"\\u001b[2J\"\n# \u{1b}[2J\nshar\u{9b}ds = 1\n\"\u{202e}\" = 1\n");
    let done = run(&["check", text(&path)]);
    assert_eq!(done.code, Some(2));
    assert!(done.out.chars().all(|c| c == '\n' || !(c.is_control() || c == '\u{202e}')), "{:?}", done.out);
}

#[test]
fn explanations_name_value_origin_and_cost() {
    let (_folder, path) = file(GOOD);
    let environment = [("PELTON_BURST_EVENTS", "32")];
    let args = ["explain", text(&path), "--producers-max", "4", "--no-host"];
    let done = run_with(&args, &environment);
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""));
    let row = |key: &str| {
        let row = done.out.lines().find(|line| line.split_whitespace().next() == Some(key));
        row.unwrap_or_else(|| panic!("{key}: {}", done.out)).split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(row("profile"), "profile dev line 1 –");
    assert_eq!(row("burst_events"), "burst_events 32 events PELTON_BURST_EVENTS –");
    assert_eq!(row("floor_bursts"), "floor_bursts 64 bursts profile dev –");
    assert!(row("producers_max").starts_with("producers_max 4 --producers-max "), "{}", row("producers_max"));
    assert!(
        row("capacity_slots").starts_with("capacity_slots 64 slots line 7 "),
        "{}",
        row("capacity_slots")
    );
    assert!(done.out.lines().all(|line| line.chars().count() <= 100), "{}", done.out);
    let told = json(&run_with(&[&args[..], &["--json"]].concat(), &environment));
    let all = told["settings"].as_array().unwrap();
    let find = |setting: &str| all.iter().find(|row| row["setting"] == setting).unwrap();
    assert_eq!(find("burst_events")["value"], 32);
    assert_eq!(find("burst_events")["origin"]["from"], "environment");
    assert_eq!(find("class 'orders': capacity_slots")["origin"]["line"], 7);
    assert!(find("class 'orders': capacity_slots")["cost_bytes"].as_u64().unwrap() >= 63 * 64 * 4);
    assert_eq!(find("pinned")["value"], true);
    let terms =
        told["memory"]["groups"].as_array().unwrap().iter().map(|group| group["bytes"].as_u64().unwrap());
    assert_eq!(terms.sum::<u64>(), told["memory"]["total_bytes"].as_u64().unwrap());
}

#[test]
fn one_setting_is_explained_at_length() {
    let (_folder, path) = file(GOOD);
    let done = run(&["explain", text(&path), "burst_events"]);
    for part in [
        "burst_events = 64 events",
        "may be        events, from 1 to 65536",
        "from          profile dev",
        "comes to      64 x handling_ns 1,000 = 64 µs",
        "trades        ",
        "watch         ",
    ] {
        assert!(done.out.contains(part), "{part}: {}", done.out);
    }
    for name in ["ttl_us", "orders.ttl_us", "class 'orders': ttl_us"] {
        let done = run(&["explain", text(&path), name]);
        assert!(done.out.contains("class 'orders': ttl_us = none µs"), "{name}: {}", done.out);
    }
    let done = run(&["explain", text(&path), "orders.tll_us"]);
    assert_eq!(
        (done.code, done.err.as_str()),
        (Some(2), "error: there is no setting 'orders.tll_us'; 'ttl_us' would work\n")
    );
    // Without a file it is the profile `dev`, and says so.
    assert!(run(&["explain"]).out.starts_with("Without a file: profile dev, and no classes\n"));
    assert!(run(&["explain", "wait"]).out.contains("wait = park"));
    assert_eq!(
        run(&["explain", "wiat"]).err,
        "error: there is neither a file nor a setting 'wiat'; 'wait' would work\n"
    );
    // What is like no setting is told where they all are; and what a name is of that is none here.
    let nothing = run(&["explain", "quux"]);
    let told =
        "error: there is neither a file nor a setting 'quux'; `pelton explain` alone tells all settings\n";
    assert_eq!((nothing.code, nothing.err.as_str()), (Some(2), told));
    let of_class = run(&["explain", "a_b.ttl_us"]);
    assert_eq!(of_class.code, Some(2));
    assert!(of_class.err.contains("'a_b.ttl_us' is of a class, and without a file there are none"));
    assert!(run(&["explain", "none.toml"]).err.contains("none.toml: "));
}

#[test]
fn every_word_that_stands_for_a_value_says_what_it_comes_to() {
    let (_folder, path) = file(GOOD);
    for (key, part) in [
        ("cpus", "from the end of this process's mask"),
        ("memory_max_bytes", "the footprint is "),
        ("payload_max_bytes", "no payloads"),
        ("block_limit_us", "a producer waits until there is room"),
        ("ttl_us", "no event expires"),
        ("weight", "strict classes have none"),
    ] {
        let done = run(&["explain", text(&path), key]);
        assert!(done.out.contains(part), "{key}: {}", done.out);
    }
    let (_folder, path) = file(&GOOD.replace("event_bytes = 40", ""));
    assert!(
        run(&["explain", text(&path), "event_bytes"]).out.contains("reckoned with until the type is known")
    );
}

#[test]
fn memory_is_a_sum() {
    let (_folder, path) = file(GOOD);
    let done = run(&["explain", text(&path), "--memory"]);
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""));
    // The last column of the terms, and their sum.
    let terms = done.out.split("\nTerms\n").nth(1).unwrap();
    let figures: Vec<u64> = terms
        .lines()
        .skip(2)
        .filter_map(|line| line.split_whitespace().last()?.replace(',', "").parse().ok())
        .collect();
    let (total, parts) = figures.split_last().unwrap();
    assert!(parts.len() > 5 && parts.iter().sum::<u64>() == *total, "{}", done.out);
    assert!(
        done.out.contains("orders          8     8       8         0      40         0     64"),
        "{}",
        done.out
    );
    assert!(done.out.lines().all(|line| line.chars().count() <= 100), "{}", done.out);
}

#[test]
fn what_is_written_out_is_the_same_in_effect() {
    let (folder, path) = file(GOOD);
    let written = run(&["explain", text(&path), "--toml", "--burst-events", "17"]);
    assert_eq!((written.code, written.err.as_str()), (Some(0), ""));
    let again = folder.path().join("again.toml");
    std::fs::write(&again, &written.out).unwrap();
    let done = run(&["diff", text(&path), text(&again)]);
    assert_eq!(done.code, Some(1));
    assert!(done.out.contains("burst_events") && !done.out.contains("floor_bursts"), "{}", done.out);
    let told = json(&run(&["diff", text(&path), text(&again), "--json"]));
    assert_eq!((&told["same"], told["settings"].as_array().unwrap().len()), (&false.into(), 1));
    assert_eq!(told["settings"][0]["before"]["value"], 64);
    assert_eq!(told["settings"][0]["after"]["origin"]["from"], "file");
    assert_eq!(told["follows"][0]["unit"], "ns");
    // Names of any length keep to the page, with the key behind them.
    let long = |slots: &str| GOOD.replace("orders", &"o".repeat(60)).replace("= 64", slots);
    let ((_one, one), (_two, two)) = (file(&long("= 64")), file(&long("= 128")));
    let done = run(&["diff", text(&one), text(&two)]);
    assert!(done.code == Some(1) && done.out.contains("capacity_slots"), "{}{}", done.out, done.err);
    assert!(done.out.lines().all(|line| line.chars().count() <= 100), "{}", done.out);
    // The environment would cover what differs: it is left out.
    let same = run_with(&["diff", text(&path), text(&path)], &[("PELTON_SHARDS", "900")]);
    assert_eq!(same.code, Some(0));
    assert!(same.out.ends_with("are the same in effect\n"), "{}", same.out);
    assert_eq!(run(&["diff", text(&path), "tests/config/seven.toml"]).code, Some(2));
}

#[test]
fn a_draft_is_written_once_and_passes_the_check() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new.toml");
    let args = [
        "init",
        "--no-host",
        "--rate",
        "250k",
        "--classes",
        "orders:strict:block:20k,ticks:weighted:drop_newest",
        "--output",
        text(&path),
    ];
    let done = run(&args);
    assert_eq!((done.code, done.out.as_str()), (Some(0), ""), "{}", done.err);
    let first = std::fs::read_to_string(&path).unwrap();
    assert!(
        first.contains("250,000 events/s over 2 producers and 1 shard for 10 ms: 1,250 slots"),
        "{first}"
    );
    let check = run(&["check", text(&path), "--no-host", "--deny-warnings"]);
    assert_eq!(check.code, Some(0), "{}", check.out);
    let again = run(&args);
    assert_eq!(again.code, Some(2));
    assert!(again.err.contains("is there already; another name, or --force, would work"), "{}", again.err);
    // Before any answer is looked at, let alone asked for.
    let early = run(&["init", "--rate", "fast", "--output", text(&path)]);
    assert_eq!((early.code, early.err.as_str()), (Some(2), again.err.as_str()));
    assert_eq!(run(&[&args[..], &["--force"]].concat()).code, Some(0));
    // Without a file it is standard output; nobody is asked where nobody is.
    assert_eq!(run(&args[..6]).out.trim_end(), first.trim_end());
    let wrong = run(&["init", "--rate", "fast", "--stall-ms", "0"]);
    assert_eq!((wrong.code, wrong.err.lines().count()), (Some(2), 2), "{}", wrong.err);
}

#[test]
fn a_draft_of_a_gateway_passes_the_check() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("front.toml");
    let written = ["init", "--gateway", "--no-host", "--output", text(&path)];
    let done =
        run(&[&written[..], &["--classes", "bids:strict:block:20k,ticks:weighted:drop_newest"]].concat());
    assert_eq!((done.code, done.out.as_str()), (Some(0), ""), "{}", done.err);
    let check = run(&["check", text(&path), "--no-host", "--deny-warnings"]);
    assert_eq!(check.code, Some(0), "{}", check.out);
    let told = json(&run(&["explain", text(&path), "--json"]));
    let value = |setting: &str| {
        let row = told["settings"].as_array().unwrap().iter().find(|row| row["setting"] == setting);
        row.unwrap_or_else(|| panic!("no {setting}"))["value"].clone()
    };
    assert_eq!(
        (value("stream 'bids': class"), value("stream 'ticks': class")),
        ("bids".into(), "ticks".into())
    );
    assert_eq!((value("producers_max"), value("gateway: threads")), (1.into(), 1.into()));
    assert_eq!((value("event_bytes"), value("scratch_bytes")), (24.into(), 0.into()));
    let first = std::fs::read_to_string(&path).unwrap();
    // As everywhere: what a setting is, what it trades, and why it is so here.
    for part in
        ["\n[gateway]\n", "# Here: as many as producers", "# name = \"per_user\"\n# stream = \"bids\"\n"]
    {
        assert!(first.contains(part), "no '{part}' in\n{first}");
    }
    // The view that stands there without effect would have one.
    let all = first.split_once("# [[view]]").unwrap();
    let view = format!("{}[[view]]{}", all.0, all.1.replace("\n# ", "\n"));
    std::fs::write(&path, view).unwrap();
    let check = run(&["check", text(&path), "--no-host", "--deny-warnings"]);
    assert_eq!(check.code, Some(0), "{}", check.out);
    // What a gateway is, no answer can change.
    let wrong = run(&["init", "--gateway", "--no-host", "--event-bytes", "40", "--producers", "65"]);
    assert_eq!((wrong.code, wrong.out.as_str()), (Some(2), ""));
    for part in ["event_bytes is 40", "gateway: threads is 65"] {
        assert!(wrong.err.contains(part), "{}", wrong.err);
    }
}

#[test]
fn the_help_tells_the_exit_codes() {
    for (command, part) in [
        ("check", "3  it can be, but not on this machine"),
        ("explain", "2  the configuration cannot be, or there is no such setting"),
        ("diff", "1  they differ"),
        ("init", "2  the answers contradict each other, or the file is there already"),
        ("run", "a second one ends it at once"),
        ("run", "0  stopped, and every event was handled or is accounted for"),
        ("run", "1  the run failed, or events were left in their lanes"),
        ("run", "2  the configuration cannot be"),
        (
            "run",
            "3  it can be, but not on this machine: an address in use, a file not there, a limit too low",
        ),
        ("up", "0  shown and, unless --once, stopped; every event is accounted for"),
        (
            "up",
            "3  they can be, but not on this machine: an address in use, a file not there, a limit too low",
        ),
        ("up", "Where nobody has named an address and the usual one is in use, it finds a free port"),
    ] {
        let done = run(&[command, "--help"]);
        assert_eq!(done.code, Some(0));
        // Whatever the width.
        let plain = done.out.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            plain.contains(&part.split_whitespace().collect::<Vec<_>>().join(" ")),
            "{command}: {}",
            done.out
        );
    }
}

#[test]
fn documented_mistake_is_reported_as_shown() {
    let path = Path::new(ROOT).join("docs/configuration.md");
    let document = std::fs::read_to_string(&path).unwrap();
    let block = |mark: &str| document.split(mark).nth(1).unwrap().split("```").next().unwrap();
    let (folder, bad) = file(&block("```toml\n").replace("1_024", "1_000"));
    let done = run(&["check", "--no-host", text(&bad)]);
    assert_eq!(done.code, Some(2), "{}{}", done.out, done.err);
    // The first problem, without the count of all problems.
    let end = done.out.find("\n\n").map_or(done.out.len(), |at| at + 1);
    let drawn = done.out[..end].replace(text(&bad), "pelton.toml");
    let shown = block("```text\n");
    if std::env::var_os("PELTON_TEST_BLESS").is_some() {
        std::fs::write(&path, document.replace(shown, &drawn)).unwrap();
    } else {
        assert_eq!(drawn, shown, "PELTON_TEST_BLESS=1 writes it anew");
    }
    drop(folder);
}

#[test]
fn a_replay_s_file_is_checked_as_one() {
    let replay = "profile = \"dev\"\nshards = 1\n[replay]\nproducers = 1\n[[class]]\nname = \"bulk\"\ncapacity_slots = 512\n";
    let (_folder, path) = file(replay);
    let done = run(&["check", "--no-host", text(&path)]);
    assert_eq!(done.code, Some(0), "{}{}", done.out, done.err);
    let done = run(&["explain", "--no-host", "--json", text(&path)]);
    let explained = json(&done);
    let settings = explained["settings"].as_array().unwrap();
    let of =
        |name: &str| settings.iter().find(|row| row["setting"] == name).unwrap_or_else(|| panic!("{name}"));
    assert_eq!(of("class 'bulk': capacity_slots")["origin"]["line"], 7);
    assert_eq!(of("class 'high': capacity_slots")["value"], 256);
    assert_eq!(of("replay: producers")["origin"]["line"], 4);
    assert_eq!(of("replay: top")["origin"]["from"], "start");
    // Two of one name are refused, wherever they differ.
    let (_folder, path) = file(&format!("{replay}[[class]]\nname = \"bulk\"\nttl_us = 9\n"));
    let done = run(&["check", "--no-host", text(&path)]);
    assert!(done.code == Some(2) && done.out.contains("class 'bulk' stands twice"), "{}", done.out);
}

/// A gateway that others reach, with a password, of which two warnings are given.
const FRONT: &str = r#"
profile = "dev"

[gateway]
threads = 2
listen = ["0.0.0.0:0", "[::1]:0"]
password = "hunter2"

[[class]]
name = "orders"
share = "strict"
capacity_slots = 64
overflow = "reject"
payload_ring_bytes = 4_096

[[stream]]
name = "orders"
class = "orders"
key = "field:user"
"#;

#[test]
fn a_gateway_s_file_is_known_to_all_that_look_at_files() {
    let (folder, path) = file(FRONT);
    let path = text(&path);
    let done = run(&["check", path, "--no-host"]);
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""), "{}", done.out);
    assert!(done.out.ends_with(": 2 warnings\n"), "{}", done.out);
    // Its events are the gateway's, and it has a producer for each thread.
    let told = json(&run(&["explain", path, "--json"]));
    let find = |setting: &str| {
        let all = told["settings"].as_array().unwrap();
        all.iter().find(|row| row["setting"] == setting).unwrap_or_else(|| panic!("{setting}"))
    };
    assert_eq!(
        (&find("producers_max")["value"], &find("gateway: threads")["origin"]["line"]),
        (&2.into(), &5.into())
    );
    assert_eq!(find("gateway: listen")["value"], serde_json::json!(["0.0.0.0:0", "[::1]:0"]));
    assert_eq!(find("gateway: listen_tls")["value"], serde_json::json!([]));
    assert_eq!(find("gateway: password")["value"], "set");
    assert_eq!(find("stream 'orders': key")["value"], "field:user");
    assert_eq!(told["memory"]["slots"][0]["event_bytes"], 24);
    let page = run(&["explain", path]);
    for part in ["\nGateway\n", "\nStream 'orders'\n", "(empty)"] {
        assert!(page.out.contains(part), "{part}: {}", page.out);
    }
    assert!(page.out.lines().all(|line| line.chars().count() <= 100), "{}", page.out);
    let one = run(&["explain", path, "orders.key"]);
    assert!(one.out.contains("stream 'orders': key = field:user"), "{}", one.out);
    // Written out and read again it is the same, but for the password.
    let written = run(&["explain", path, "--toml"]);
    let again = folder.path().join("again.toml");
    std::fs::write(&again, written.out.replace("exposed = false", "exposed = true")).unwrap();
    let told = json(&run(&["diff", path, text(&again), "--json"]));
    let settings: Vec<_> = told["settings"].as_array().unwrap().iter().map(|row| &row["setting"]).collect();
    assert_eq!(settings, ["gateway: password", "gateway: exposed"]);
    let renamed = folder.path().join("renamed.toml");
    std::fs::write(&renamed, FRONT.replace("name = \"orders\"\nclass", "name = \"bids\"\nclass")).unwrap();
    let done = run(&["diff", path, text(&renamed)]);
    assert_eq!(done.code, Some(1));
    assert!(
        done.out.contains("Stream 'bids' is in ") && done.out.contains("Stream 'orders' is in "),
        "{}",
        done.out
    );
}

#[test]
fn secret_that_is_misspelt_or_over_several_lines_is_not_shown() {
    for secret in [
        "pasword = \"hunter2\"",
        "Password = 'hunter2'",
        "password = \"\"\"\nhunter2\"\"\"",
        "password = '''\nhunter2'''",
        "password = [\n  \"hunter2\"\n]",
        "password = \"hunter2",
    ] {
        // Mistakes right before it, in it and right after it.
        let told = format!("profile = \"dev\"\n[gateway]\nthread = 1\n{secret}\nthreads = 0\n");
        let (_folder, path) = file(&told);
        for args in [&["check"][..], &["explain"], &["run", "--config"]] {
            let done = run(&[args, &[text(&path)]].concat());
            assert_eq!(done.code, Some(2), "{secret}: {}{}", done.out, done.err);
            let all = format!("{}{}", done.out, done.err);
            assert!(!all.contains("hunter"), "{secret}, {args:?}: {all}");
        }
        let done = run(&["check", "--json", text(&path)]);
        assert!(done.code == Some(2) && !done.out.contains("hunter"), "{}", done.out);
    }
}

#[test]
fn file_without_an_end_is_refused_and_not_read() {
    for args in [&["check"][..], &["explain"], &["run", "--config"]] {
        let done = run(&[args, &["/dev/zero"]].concat());
        assert_eq!((done.code, done.out.as_str()), (Some(2), ""), "{args:?}");
        assert!(done.err.contains("/dev/zero: the file is larger than 1048576 bytes"), "{}", done.err);
    }
    let front = FRONT.replace("password = \"hunter2\"", "password_file = \"/dev/zero\"");
    let (_folder, path) = file(&front);
    let done = run(&["run", "--config", text(&path)]);
    assert_eq!((done.code, done.out.as_str()), (Some(3), ""), "{}", done.err);
    assert!(done.err.contains("password_file is '/dev/zero'"), "{}", done.err);
    assert!(done.err.contains("larger than 1048576 bytes"), "{}", done.err);
}

#[test]
fn names_of_files_and_options_reach_no_terminal_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let odd = |name: &str| folder.path().join(format!("\u{1b}]0;x\u{7}\u{202e}\u{2028}{name}"));
    let (bad, good) = (odd("bad.toml"), odd("good.toml"));
    std::fs::write(&bad, GOOD.replace("64", "65")).unwrap();
    std::fs::write(&good, GOOD).unwrap();
    let (log, draft) = (odd("a.log"), odd("draft.toml"));
    for args in [
        &["check", text(&bad)][..],
        &["check", text(&good)],
        &["check", text(&odd("missing.toml"))],
        &["explain", text(&good)],
        &["diff", text(&good), text(&bad)],
        &["replay", text(&log)],
        &["replay", "-", "--class", "bulk:\u{1b}[2J=1"],
        &["generate", "--events", "1", "-o", text(&log)],
        &["generate", "--events", "1", "-o", text(&log)],
        &["init", "-o", text(&draft), "--no-host"],
        &["init", "-o", text(&draft), "--no-host"],
    ] {
        let done = run(args);
        let all = format!("{}{}", done.out, done.err);
        let odd = all.chars().find(|c| *c != '\n' && !pelton::words::is_printable(*c));
        assert_eq!(odd, None, "{args:?}: {all:?}");
    }
    let done = run_with(&["check", text(&good)], &[("PELTON_\u{1b}[2J", "1")]);
    assert!(!format!("{}{}", done.out, done.err).contains('\u{1b}'), "{}{}", done.out, done.err);
}

#[test]
fn no_command_that_looks_at_a_file_tells_its_password() {
    let wrong = FRONT.replace("threads = 2", "threads = 65").replace("[::1]:0", "nowhere");
    let broken = FRONT.replace("\"hunter2\"", "\"hunter2");
    let commands =
        [&["check"][..], &["check", "--json"], &["explain"], &["explain", "--json"], &["explain", "--toml"]];
    for told in [FRONT, &wrong, &broken] {
        let (_folder, path) = file(told);
        let mut seen = String::new();
        for command in commands {
            let done = run(&[&command[..1], &[text(&path)], &command[1..]].concat());
            seen += &(done.out + &done.err);
        }
        let done = run(&["diff", text(&path), "tests/config/seven.toml"]);
        seen += &(done.out + &done.err);
        assert!(!seen.contains("hunter"), "{seen}");
        // The line itself was shown.
        assert!(seen.contains("password = ***"), "{seen}");
    }
    let (_folder, path) = file(&FRONT.replace("password = \"hunter2\"", "exposed = true"));
    let environment = [("PELTON_GATEWAY_PASSWORD", "hunter2")];
    for command in commands {
        let done = run_with(&[&command[..1], &[text(&path)], &command[1..]].concat(), &environment);
        assert!(done.code == Some(0) && !done.out.contains("hunter"), "{}{}", done.out, done.err);
    }
}
