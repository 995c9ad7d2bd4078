//! `pelton-bench` measures every contender and prints figures that can be compared; an invalid argument is refused with a
//! sentence that helps. How fast anything was decides nothing here.
//!
//! Every child process is killed by its handle after [`pelton_testkit::program::WATCHDOG`].

use pelton_bench::{BENCH, Question, Settings, answer::Standing, rounds::Role};
use pelton_testkit::needs::{Need, skipped};
use pelton_testkit::program::{Done, alone, end, signal};
use serde_json::Value;
use std::fs;
use std::process::{Child, Command};
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

fn command() -> Command {
    alone(Command::new(env!("CARGO_BIN_EXE_pelton-bench")))
}

fn spawn(args: &[&str]) -> Child {
    command().args(args).spawn().unwrap()
}

/// A run with variables in its environment.
pub fn bench_in(args: &[&str], environment: &[(&str, &str)]) -> Done {
    end(command().args(args).envs(environment.iter().copied()).spawn().unwrap())
}

fn bench(args: &[&str]) -> Done {
    end(spawn(args))
}

/// Whether this machine can answer at all; where it cannot, the program must say so.
pub fn has_two_cpus() -> bool {
    if pelton::shard::available().len() > 1 {
        return true;
    }
    let done = bench(&["lane"]);
    assert_eq!(done.code, Some(1));
    assert!(done.err.contains("needs two CPUs"), "{}", done.err);
    skipped::<()>(Need::Machine, "a measurement needs two CPUs").is_some()
}

/// The answers of a run that ended well: one JSON object, nothing on standard error.
fn answers(args: &[&str]) -> Vec<Value> {
    let done = bench(args);
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""), "{args:?}: {}", done.out);
    let json: Value = serde_json::from_str(&done.out).expect("one JSON object");
    json["answers"].as_array().expect("answers").clone()
}

/// An interval around its median, all of them numbers.
fn assert_estimate(estimate: &Value) {
    let [low, median, high] = ["low", "median", "high"]
        .map(|name| estimate[name].as_f64().unwrap_or_else(|| panic!("{name}: {estimate}")));
    assert!(low <= median && median <= high, "{estimate}");
}

/// Every point has these contenders, each with a run for every round, and a ratio to the first.
fn assert_answer(answer: &Value, rounds: usize, peers: &[&str]) {
    assert_eq!(answer["settings"]["rounds"], rounds, "{answer}");
    assert!(answer["machine"]["cpus"].as_array().unwrap().len() >= 2, "{answer}");
    for table in answer["tables"].as_array().unwrap() {
        let points = table["points"].as_array().unwrap();
        assert!(!points.is_empty());
        assert_eq!(points.len() > 1, table["axis"].is_string(), "{}", table["what"]);
        let places: Vec<f64> = points.iter().map(|point| point["at"].as_f64().unwrap()).collect();
        assert!(places.is_sorted(), "{places:?}");
        for point in points {
            let figures = point["figures"].as_array().unwrap();
            let names: Vec<&str> = figures.iter().map(|figure| figure["peer"].as_str().unwrap()).collect();
            assert_eq!(names, peers);
            assert_eq!(figures[0]["role"], "ours");
            for (at, figure) in figures.iter().enumerate() {
                assert_estimate(figure);
                assert_eq!(figure["runs"].as_array().unwrap().len(), rounds);
                if at == 0 {
                    assert!(figure["ours_to_it"].is_null());
                } else {
                    assert_estimate(&figure["ours_to_it"]);
                }
            }
            for limit in point["limits"].as_array().unwrap() {
                assert_estimate(&limit["measured"]);
                assert!(limit["goal"].as_f64() <= limit["limit"].as_f64(), "{limit}");
            }
        }
    }
}

const HAND_OFF: [&str; 9] = [
    "pelton lane, ledger on",
    "disruptor, publish",
    "disruptor, batches of 64",
    "rtrb, push and read_chunk",
    "rtrb, chunks of 64",
    "crossbeam-channel",
    "crossbeam ArrayQueue",
    "the producer's work alone",
    "the consumer's check alone",
];

/// The contenders of each question.
fn peers(question: Question) -> Vec<&'static str> {
    match question {
        Question::Lane | Question::Cliff => HAND_OFF.to_vec(),
        Question::Engine => vec![
            "pelton engine, stamps 1 in 64",
            "pelton engine, stamps never",
            "pelton engine, every event stamped",
            "bare disruptor, publish",
            "the producer's work alone",
        ],
        Question::Priority => {
            vec!["pelton, critical above bulk", "pelton, no bulk at all", "crossbeam-channel, one queue"]
        }
        Question::Latency | Question::Knee => {
            vec!["pelton lane", "pelton engine", "disruptor", "crossbeam-channel", "the harness alone"]
        }
        Question::Wake => {
            let bare = cfg!(target_os = "linux").then_some("a bare futex");
            let others = ["std, park and unpark", "crossbeam-channel, send and recv"];
            ["pelton, a parked shard"].into_iter().chain(bare).chain(others).collect()
        }
        Question::Mesh => vec![
            "pelton, shard to shard",
            "pelton, lane to lane",
            "the bare cache line",
            "rtrb, push and pop",
            "crossbeam-channel",
            "the clock's reading alone",
        ],
        Question::Producers => {
            vec!["pelton, a lane for each", "disruptor, many producers", "crossbeam-channel"]
        }
    }
}

fn asks(question: Question, events: &str) {
    if !has_two_cpus() {
        return;
    }
    let answers = answers(&[question.name(), "--json", "--rounds", "2", "--events", events]);
    assert_eq!(answers.len(), 1);
    let answer = &answers[0];
    assert_eq!(answer["question"], question.name());
    assert_eq!(answer["asks"], question.asks());
    assert_eq!(answer["settings"]["events"].to_string(), events);
    assert_answer(answer, 2, &peers(question));
}

#[test]
fn lane_is_measured() {
    asks(Question::Lane, "3000");
}

#[test]
fn cliff_sweeps_the_work_up_to_80_ns() {
    asks(Question::Cliff, "300");
    if has_two_cpus() {
        let answers = answers(&["cliff", "--json", "--rounds", "1", "--events", "100"]);
        let points = answers[0]["tables"][0]["points"].as_array().unwrap();
        let places: Vec<f64> = points.iter().map(|point| point["at"].as_f64().unwrap()).collect();
        assert!(
            places.starts_with(&[0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 40.0, 60.0, 80.0]),
            "{places:?}"
        );
        assert!(points.iter().all(|point| point["limits"].as_array().unwrap().len() == 1));
    }
}

#[test]
fn engine_is_measured() {
    asks(Question::Engine, "3000");
}

#[test]
fn priority_is_measured() {
    asks(Question::Priority, "100");
}

#[test]
fn wake_is_measured() {
    asks(Question::Wake, "20");
}

#[test]
fn mesh_is_measured() {
    asks(Question::Mesh, "500");
}

#[test]
fn producers_are_measured_and_sharing_a_cpu_is_said() {
    asks(Question::Producers, "3000");
    if has_two_cpus() {
        let answers =
            answers(&["producers", "--json", "--rounds", "1", "--events", "500", "--cpus", &first_two()]);
        let warnings = answers[0]["warnings"].as_array().unwrap();
        let shared =
            |warning: &&Value| warning.as_str().unwrap().contains("with 2 producers some share a CPU");
        assert_eq!(warnings.iter().filter(shared).count(), 1, "{warnings:?}");
    }
}

fn first_two() -> String {
    let cpus = pelton::shard::available();
    format!("{},{}", cpus[0], cpus[1])
}

#[test]
fn a_few_events_are_enough_for_an_answer() {
    if !has_two_cpus() {
        return;
    }
    for question in Question::ALL {
        let answers = answers(&[question.name(), "--json", "--rounds", "1", "--events", "1"]);
        assert_eq!(answers[0]["settings"]["events"], 1);
    }
}

#[test]
fn without_a_name_everything_is_measured() {
    if !has_two_cpus() {
        return;
    }
    let answers = answers(&["--json", "--rounds", "1", "--events", "20"]);
    let names: Vec<&str> = answers.iter().map(|answer| answer["question"].as_str().unwrap()).collect();
    assert_eq!(names, Question::ALL.map(Question::name));
}

#[test]
fn options_reach_the_runs() {
    if !has_two_cpus() {
        return;
    }
    let cpus = pelton::shard::available();
    let (a, b) = (cpus[0], cpus[1]);
    let args =
        ["engine", "--json", "--rounds", "1", "--events", "300", "--capacity-slots", "64", "--wait", "yield"];
    let swapped = format!("{b},{a}");
    let answer = &answers(&[&args[..], &["--burst-events", "8", "--cpus", &swapped]].concat())[0];
    let used = &answer["settings"];
    assert_eq!((&used["capacity"], &used["wait"], &used["burst"]), (&64.into(), &"yield".into(), &8.into()));
    assert_eq!(answer["machine"]["cpus"], serde_json::json!([b, a]));
}

#[test]
fn the_text_names_machine_contenders_and_how_to_read_it() {
    if !has_two_cpus() {
        return;
    }
    let done = bench(&["lane", "--rounds", "1", "--events", "300"]);
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""));
    // Wherever a line ends.
    let plain = done.out.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "lane: What does it cost",
        "machine",
        "CPUs",
        "1 round after a warm-up, 300 events each",
        "ours / it",
    ]
    .into_iter()
    .chain(HAND_OFF)
    .chain(["limit 0.50, goal 0.35", "batches make the first event wait"])
    {
        assert!(plain.contains(part), "{part}: {}", done.out);
    }
    assert!(done.out.lines().all(|line| line.chars().count() <= 100), "{}", done.out);
    assert!(!done.out.contains('\u{1b}'), "no colours in a pipe");
    let done = bench(&["engine", "--rounds", "1", "--events", "300"]);
    for part in ["by dependent multiplications before each event", "at most", "engine / disruptor"] {
        assert!(done.out.contains(part), "{part}: {}", done.out);
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let refused = |args: &[&str], parts: &[&str]| {
        let done = bench(args);
        assert_eq!((done.code, done.out.as_str()), (Some(2), ""), "{args:?}");
        for part in parts {
            assert!(done.err.contains(part), "{args:?}, {part}: {}", done.err);
        }
    };
    refused(&["nothing"], &["'nothing' is no question", "lane, cliff"]);
    refused(&["lane", "--rounds", "0"], &["--rounds: bench: rounds is '0'", "from 1 to 999", "1 would work"]);
    refused(&["lane", "--rounds", "x"], &["rounds is 'x'"]);
    refused(&["lane", "--events", "0"], &["events is '0'", "would work"]);
    refused(&["lane", "--events", "4294967297"], &["events is '4294967297'", "4294967296 would work"]);
    refused(&["lane", "--capacity-slots", "3"], &["capacity_slots is '3'", "a power of two", "would work"]);
    refused(&["lane", "--cpus", "0"], &["--cpus: bench: cpus is 0", "two different CPUs", "would work"]);
    refused(&["lane", "--cpus", "0,0"], &["cpus is 0,0", "two different CPUs"]);
    refused(&["lane", "--cpus", "zero"], &["cpus is 'zero'", "0-3,7", "would work"]);
    refused(&["engine", "--wait", "sleep"], &["wait is 'sleep'", "'spin' would work"]);
    refused(&["engine", "--burst-events", "0"], &["burst_events is '0'", "1 would work"]);
    let done = bench(&["lane", "--cpus", "0,4095"]);
    assert_eq!((done.code, done.out.as_str()), (Some(3), ""), "another machine could");
    assert!(done.err.contains("cpus is 4095: must be among"), "{}", done.err);
}

#[test]
fn an_option_without_a_use_is_refused_and_not_ignored() {
    for (args, setting) in [
        (["lane", "--wait", "park"], "wait is park"),
        (["wake", "--wait", "spin"], "wait is spin"),
        (["wake", "--capacity-slots", "64"], "capacity_slots is 64"),
        (["mesh", "--burst-events", "8"], "burst_events is 8"),
        (["priority", "--capacity-slots", "64"], "capacity_slots is 64"),
    ] {
        let done = bench(&args);
        assert_eq!((done.code, done.out.as_str()), (Some(2), ""), "{args:?}");
        let sentence = format!("{setting}: must be left out for {}, which takes rounds", args[0]);
        assert!(done.err.contains(&sentence), "{args:?}: {}", done.err);
    }
    // Told once, although several questions have no use for it.
    let done = bench(&["--wait", "park"]);
    assert_eq!(done.code, Some(2));
    assert_eq!(done.err.matches("wait is park").count(), 1, "{}", done.err);
    let done = bench(&["lane", "--shards", "2"]);
    assert_eq!(done.code, Some(2));
}

#[cfg(target_os = "linux")]
#[test]
fn on_one_cpu_it_says_that_figures_would_mean_nothing() {
    let cpu = pelton::shard::available()[0].to_string();
    let program = env!("CARGO_BIN_EXE_pelton-bench");
    let mut command = alone(Command::new("taskset"));
    let done = match command.args(["-c", &cpu, program, "lane"]).spawn() {
        Ok(child) => end(child),
        Err(error) => {
            skipped::<()>(Need::Tools, &format!("`taskset` cannot be run: {error}"));
            return;
        }
    };
    assert_eq!((done.code, done.out.as_str()), (Some(1), ""));
    assert!(done.err.contains("needs two CPUs") && done.err.contains("would mean nothing"), "{}", done.err);
}

#[cfg(unix)]
#[test]
fn an_interrupt_ends_it() {
    if !has_two_cpus() {
        return;
    }
    let child = spawn(&["lane", "--rounds", "999"]);
    thread::sleep(Duration::from_millis(300));
    signal(child.id(), "INT");
    let done = end(child);
    // Ended by the signal, and not by having finished.
    assert_eq!((done.code, done.out.as_str()), (None, ""));
}

#[test]
fn the_library_answers_too() {
    if !has_two_cpus() {
        return;
    }
    let settings = Settings { rounds: 2, events: Some(500), ..Settings::default() };
    let mut steps = 0;
    let answer = Question::Lane.ask(&settings, &mut |_| steps += 1).unwrap();
    assert_eq!(steps, 3 * HAND_OFF.len(), "two rounds and a warm-up");
    let point = &answer.tables[0].points[0];
    assert_eq!(point.figures.iter().filter(|figure| figure.role == Role::Baseline).count(), 2);
    for limit in &point.limits {
        let median = limit.measured.median;
        let expected = match limit.standing {
            Standing::Goal => median <= limit.goal,
            Standing::Kept => median > limit.goal && median <= limit.limit,
            Standing::Missed => median > limit.limit,
        };
        assert!(expected, "{limit}");
    }
    let text = answer.to_string();
    assert!(HAND_OFF.iter().all(|peer| text.contains(peer)), "{text}");
}

/// What a folder holds, by name.
fn files(folder: &TempDir) -> Vec<(String, String)> {
    let entries = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap());
    let mut files: Vec<_> = entries
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read_to_string(entry.path()).unwrap())
        })
        .collect();
    files.sort();
    files
}

#[test]
fn latencies_are_written_as_charts_and_percentile_files() {
    if !has_two_cpus() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let path = folder.path().to_str().unwrap();
    let args = ["latency", "--json", "--rounds", "2", "--events", "20000", "--svg", path, "--hgrm", path];
    let answer = answers(&args).remove(0);
    assert_answer(&answer, 2, &peers(Question::Latency));
    let tables = answer["tables"].as_array().unwrap();
    let what: Vec<_> = tables.iter().map(|table| table["what"].as_str().unwrap()).collect();
    assert!(what[0].starts_with("Capacity"));
    for (what, name) in what[1..].iter().zip(["p50", "p90", "p99", "p99.9", "p99.99", "max"]) {
        assert!(what.ends_with(&format!(", {name}")), "{what}");
    }
    // A higher quantile is never less, in any run of any contender.
    let runs = |table: &Value, peer: usize, round: usize| {
        table["points"][0]["figures"][peer]["runs"][round].as_f64().unwrap()
    };
    for pair in tables[1..].windows(2) {
        for (peer, round) in (0..5).flat_map(|peer| (0..2).map(move |round| (peer, round))) {
            assert!(runs(&pair[0], peer, round) <= runs(&pair[1], peer, round), "{pair:?}");
        }
    }
    let files = files(&folder);
    let names: Vec<_> = files.iter().map(|(name, _)| name.as_str()).collect();
    let expected = ["crossbeam-channel", "disruptor", "pelton-engine", "pelton-lane", "the-harness-alone"];
    assert_eq!(names[..5], expected.map(|peer| format!("latency-{peer}.hgrm")));
    assert_eq!(names[5..], ["latency.svg"]);
    for (name, text) in &files[..5] {
        // All rounds together, but for what fills a ring twice.
        let count = 2 * (20_000 - 2 * 1_024);
        assert!(text.contains(&format!("Total count    = {count:12}]")), "{name}: {text}");
    }
    let svg = &files[5].1;
    assert!(expected.iter().all(|peer| svg.contains(&format!(">{}</text>", peer_name(peer)))), "{svg}");
}

/// The contender of a file's name.
fn peer_name(file: &str) -> String {
    peers(Question::Latency).into_iter().find(|peer| peer.replace(' ', "-") == file).unwrap().to_string()
}

#[test]
fn a_sweep_goes_through_rates_and_tells_where_the_knees_are() {
    if !has_two_cpus() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let path = folder.path().to_str().unwrap();
    let args = ["latency", "--sweep", "--json", "--rounds", "1", "--events", "4000", "--svg", path];
    let answer = answers(&args).remove(0);
    assert_answer(&answer, 1, &peers(Question::Knee));
    for table in &answer["tables"].as_array().unwrap()[1..] {
        assert_eq!(table["points"].as_array().unwrap().len(), 11);
        assert_eq!(table["axis"], "million events a second");
    }
    let notes: Vec<_> =
        answer["notes"].as_array().unwrap().iter().map(|note| note.as_str().unwrap()).collect();
    let knees = notes.iter().filter(|note| note.contains("its knee is"));
    assert_eq!(knees.count(), 4, "{notes:?}");
    // A chart for each contender that has one; where none has, one for each quantile.
    let charts = files(&folder);
    let knees = notes.iter().filter(|note| note.contains("its knee is at")).count();
    assert_eq!(charts.len(), if knees == 0 { 3 } else { knees }, "{notes:?}");
    for (name, svg) in &charts {
        assert!(name.starts_with("knee") && svg.contains("knee: ") == (knees > 0), "{name}: {svg}");
    }
    let cliff = ["cliff", "--json", "--rounds", "1", "--events", "1000", "--svg", path];
    answers(&cliff);
    let chart = folder.path().join("cliff.svg");
    fs::write(&chart, "precious").unwrap();
    let done = bench(&cliff);
    assert_eq!((done.code, done.out.as_str()), (Some(2), ""), "{}", done.err);
    assert!(done.err.contains("cliff.svg is there already; another name, or --force"), "{}", done.err);
    assert_eq!(fs::read_to_string(&chart).unwrap(), "precious");
    answers(&[&cliff[..], &["--force"]].concat());
    assert_ne!(fs::read_to_string(&chart).unwrap(), "precious");
}

#[test]
fn files_that_cannot_be_and_options_without_a_use_are_refused() {
    for (args, part) in [
        (&["lane", "--sweep"][..], "sweep is on"),
        (&["lane", "--hgrm", "/tmp"], "latency --hgrm FOLDER would work"),
        (&["latency", "--sweep", "--hgrm", "/tmp"], "hgrm is named"),
    ] {
        let done = bench(args);
        assert_eq!((done.code, done.out.as_str()), (Some(2), ""), "{args:?}");
        assert!(done.err.contains(part), "{args:?}: {}", done.err);
    }
    if has_two_cpus() {
        let done = bench(&["latency", "--rounds", "1", "--events", "100", "--svg", "/dev/null/no"]);
        assert_eq!(done.code, Some(1), "{}", done.err);
        assert!(done.err.contains("latency.svg could not be written"), "{}", done.err);
    }
}

#[test]
fn rows_of_a_measurement_read_back_what_they_set() {
    use pelton_testkit::tables::{is_sound, reads_back};
    for settings in [Settings::default, Settings::short] {
        is_sound(BENCH, settings, &mut Default::default());
    }
    reads_back(BENCH, Settings::default);
}
