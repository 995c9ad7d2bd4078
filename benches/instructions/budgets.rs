//! What a count may come to, and the comparison.

use super::suite::EVENTS;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// What the harness takes by itself: published or handled, without Pelton.
const PUBLISHED: &str = "harness_publish::alone";
const HANDLED: &str = "harness_handle::alone";

/// One count: its name, what is taken off it, and the most instructions that may be left, per event (per poll where
/// polls find nothing). Compilers move a count by an instruction or two; more is a decision, to be made here.
struct Budget(&'static str, Option<&'static str>, f64);

// A publish pays four instructions to learn whether its lane was closed since its claim: without that look an event could
// be accepted after the final report. A poll that finds one event pays some fifteen: for the thread that polls, for the
// first place that gave something, and for lanes that wait for room in the mesh.
const BUDGETS: &[Budget] = &[
    Budget("harness_publish::alone", None, 15.0),
    Budget("harness_handle::alone", None, 13.0),
    Budget("lane_publish::one_by_one", Some(PUBLISHED), 47.0),
    Budget("lane_poll::batches_of_64", Some(HANDLED), 18.0),
    Budget("lane_poll::batches_of_16", Some(HANDLED), 20.0),
    Budget("lane_poll::batches_of_1", Some(HANDLED), 66.0),
    Budget("lane_poll_found::of_1", Some(HANDLED), 65.0),
    Budget("engine_publish::usual", Some(PUBLISHED), 74.0),
    Budget("engine_publish::stamps_never", Some(PUBLISHED), 74.0),
    Budget("engine_publish::stamps_every", Some(PUBLISHED), 85.0),
    Budget("engine_publish::wait_park", Some(PUBLISHED), 74.0),
    Budget("engine_publish::classes_1", Some(PUBLISHED), 74.0),
    Budget("engine_publish::classes_8", Some(PUBLISHED), 74.0),
    Budget("engine_publish::shards_8", Some(PUBLISHED), 74.0),
    Budget("engine_publish::producers_64", Some(PUBLISHED), 74.0),
    Budget("engine_poll::usual", Some(HANDLED), 48.0),
    Budget("engine_poll::stamps_never", Some(HANDLED), 47.0),
    Budget("engine_poll::stamps_every", Some(HANDLED), 125.0),
    Budget("engine_poll::burst_16", Some(HANDLED), 61.0),
    Budget("engine_poll::classes_1", Some(HANDLED), 58.0),
    Budget("engine_poll::classes_8", Some(HANDLED), 62.0),
    Budget("engine_poll::lowest_of_8", Some(HANDLED), 80.0),
    Budget("engine_poll::shards_8", Some(HANDLED), 61.0),
    Budget("engine_poll::mesh_1", Some(HANDLED), 61.0),
    Budget("engine_poll::mesh_8", Some(HANDLED), 61.0),
    Budget("engine_poll::producers_64", Some(HANDLED), 61.0),
    Budget("engine_poll::burst_1", Some(HANDLED), 350.0),
    Budget("engine_poll_found::of_1", Some(HANDLED), 380.0),
    Budget("engine_poll_found::of_1_stamps_every", Some(HANDLED), 466.0),
    Budget("engine_poll_found::of_1_lowest_of_8", Some(HANDLED), 372.0),
    Budget("engine_poll_found::of_1_producers_64", Some(HANDLED), 380.0),
    Budget("engine_poll_empty::usual", None, 208.0),
    Budget("engine_poll_empty::classes_8", None, 432.0),
    Budget("engine_poll_empty::producers_64", None, 208.0),
    #[cfg(feature = "gateway")]
    Budget("resp_parse::xadd", None, 170.0),
    #[cfg(feature = "gateway")]
    Budget("resp_pair::third_of_3", None, 210.0),
    #[cfg(feature = "gateway")]
    Budget("resp_id::of_one_ms", None, 67.0),
];

/// One count against another: what the pair shows, the smaller, the larger, and the most that may be between them.
struct Growth(&'static str, &'static str, &'static str, Most);

enum Most {
    Percent(f64),
    Instructions(f64),
}
use Most::{Instructions, Percent};

/// Allowed are 15 % at batches of 16 and more, wanted 5; a limit above that says what is not there yet.
const GROWTH: &[Growth] = &[
    Growth(
        "publish: classes 1 -> 8",
        "engine_publish::classes_1",
        "engine_publish::classes_8",
        Percent(15.0),
    ),
    Growth("publish: shards 1 -> 8", "engine_publish::usual", "engine_publish::shards_8", Percent(15.0)),
    Growth(
        "publish: producers 1 -> 64",
        "engine_publish::usual",
        "engine_publish::producers_64",
        Percent(15.0),
    ),
    Growth(
        "poll: classes 1 -> 8, all busy",
        "engine_poll::classes_1",
        "engine_poll::classes_8",
        Percent(15.0),
    ),
    Growth(
        "poll: classes 1 -> 8, the lowest busy",
        "engine_poll::classes_1",
        "engine_poll::lowest_of_8",
        Percent(45.0),
    ),
    Growth("poll: shards 1 -> 8", "engine_poll::burst_16", "engine_poll::shards_8", Percent(15.0)),
    Growth("poll: shards 1 -> 8, with mesh", "engine_poll::mesh_1", "engine_poll::mesh_8", Percent(15.0)),
    Growth(
        "poll: producers 1 -> 64, one busy",
        "engine_poll::burst_16",
        "engine_poll::producers_64",
        Percent(15.0),
    ),
    Growth(
        "publish: wait spin -> park",
        "engine_publish::usual",
        "engine_publish::wait_park",
        Instructions(3.0),
    ),
];

/// What a publish may cost more than in a build without the feature `park`.
const PARK: f64 = 3.0;

/// Where this is set, the program only starts the runner.
pub const COUNTING: &str = "PELTON_COUNTING";
/// The file that a build without the feature `park` left, to be compared with.
const WITHOUT_PARK: &str = "PELTON_COUNTS_WITHOUT_PARK";

type Counts = BTreeMap<String, f64>;

/// Counts, prints, and compares with the budgets. The exit code says whether all were kept.
pub fn count_and_compare() -> ExitCode {
    let target = target();
    let counts = match count(&target) {
        Ok(counts) => counts,
        Err(error) => {
            eprintln!("instructions: {error}");
            return ExitCode::FAILURE;
        }
    };
    // With a filter a part is counted, and only that part is compared.
    let whole = !std::env::args().skip(1).any(|arg| !arg.starts_with('-'));
    let mut over = Vec::new();
    let net = print_counts(&counts, whole, &mut over);
    print_growth(&net, &mut over);
    compare_with_build_without_park(&net, &mut over);
    let kept = target.join(if cfg!(feature = "park") { "counts.json" } else { "counts_without_park.json" });
    let text = serde_json::to_string_pretty(&net).expect("numbers and names");
    if let Err(error) = fs::write(&kept, text) {
        over.push(format!("{} cannot be written: {error}", kept.display()));
    }
    println!("\nkept in {}", kept.display());
    if over.is_empty() {
        println!("every budget is kept");
        return ExitCode::SUCCESS;
    }
    println!("\nOver budget (the table is in benches/instructions/budgets.rs):");
    over.iter().for_each(|line| println!("  {line}"));
    ExitCode::FAILURE
}

fn print_counts(counts: &Counts, whole: bool, over: &mut Vec<String>) -> Counts {
    let mut net = Counts::new();
    println!("\n{:<36} {:>10} {:>10} {:>10}", "instructions an event", "counted", "net", "budget");
    for Budget(name, off, most) in BUDGETS {
        let off = off.map(|off| counts.get(off).copied());
        let (Some(counted), Some(off)) = (counts.get(*name), off.unwrap_or(Some(0.0))) else {
            if whole {
                over.push(format!("{name} has a budget, and was not counted"));
            }
            continue;
        };
        // To the hundredth: what is beyond is the entry and the end of the counted function.
        let left = ((counted - off) * 100.0).round() / 100.0;
        println!("{name:<36} {counted:>10.2} {left:>10.2} {most:>10.2}");
        if left > *most {
            over.push(format!("{name} takes {left:.2} instructions, {:.2} more than {most:.2}", left - most));
        }
        net.insert(name.to_string(), left);
    }
    let unknown = counts.keys().filter(|name| !BUDGETS.iter().any(|budget| budget.0 == *name));
    over.extend(unknown.map(|name| format!("{name} was counted ({:.2}), and has no budget", counts[name])));
    net
}

fn print_growth(net: &Counts, over: &mut Vec<String>) {
    println!("\n{:<40} {:>8} {:>8} {:>10} {:>10}", "growth", "from", "to", "by", "budget");
    for Growth(what, from, to, most) in GROWTH {
        let (Some(from), Some(to)) = (net.get(*from), net.get(*to)) else { continue };
        let (by, most, unit) = match most {
            Percent(most) => ((to / from - 1.0) * 100.0, *most, "%"),
            Instructions(most) => (to - from, *most, "i"),
        };
        println!("{what:<40} {from:>8.2} {to:>8.2} {by:>8.1} {unit} {most:>8.1} {unit}");
        if by > most {
            over.push(format!(
                "{what}: grows by {by:.1} {unit}, {:.1} more than {most:.1} {unit}",
                by - most
            ));
        }
    }
}

fn compare_with_build_without_park(net: &Counts, over: &mut Vec<String>) {
    let Some(path) = std::env::var_os(WITHOUT_PARK).map(PathBuf::from) else { return };
    let read = fs::read_to_string(&path).map_err(|error| error.to_string());
    let without =
        read.and_then(|text| serde_json::from_str::<Counts>(&text).map_err(|error| error.to_string()));
    let without = match without {
        Ok(without) => without,
        Err(error) => {
            over.push(format!("{WITHOUT_PARK}={}: {error}", path.display()));
            return;
        }
    };
    println!();
    for name in ["lane_publish::one_by_one", "engine_publish::wait_park"] {
        let (Some(with), Some(without)) = (net.get(name), without.get(name)) else {
            over.push(format!("{name} was not counted in both builds, with and without `park`"));
            continue;
        };
        let by = with - without;
        println!("{name}: {with:.2}, and {without:.2} without the feature `park`: {by:.2} more");
        if by > PARK {
            over.push(format!(
                "{name}: `park` costs {by:.2} instructions, {:.2} more than {PARK:.2}",
                by - PARK
            ));
        }
    }
}

/// The target directory, in which cargo has put this program.
fn target() -> PathBuf {
    let program = std::env::current_exe().expect("a program knows where it lies");
    program.ancestors().nth(3).expect("target/profile/deps/program").to_path_buf()
}

/// Starts this program again as gungraun's front, and reads what its runner counted, per event.
fn count(target: &Path) -> Result<Counts, String> {
    let tools = target.join("tools/bin");
    let mut path = vec![tools.clone()];
    path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    for tool in ["valgrind", "gungraun-runner"] {
        if !path.iter().any(|dir| dir.join(tool).is_file()) {
            return Err(format!(
                "{tool} is neither in the PATH nor in {}; .ci/instructions installs it",
                tools.display()
            ));
        }
    }
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new(program)
        .args(std::env::args_os().skip(1))
        .args(["--output-format=json", "--parallel=auto"])
        .env(COUNTING, "1")
        .env("PATH", std::env::join_paths(path).map_err(|error| error.to_string())?)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(format!("the runner ended with {}", output.status));
    }
    String::from_utf8_lossy(&output.stdout).lines().map(parse).collect()
}

/// One line of the runner: a bench and its instructions.
fn parse(line: &str) -> Result<(String, f64), String> {
    let summary: serde_json::Value =
        serde_json::from_str(line).map_err(|error| format!("the runner printed '{line}': {error}"))?;
    let word = |field: &str| summary[field].as_str();
    let values = &summary["profiles"][0]["data"]["total"]["metrics"]["Ir"]["values"];
    match (word("function_name"), word("id"), values["new"].as_u64()) {
        // A toggle that matches no function counts nothing.
        (Some(function), Some(id), Some(counted @ 1..)) => {
            Ok((format!("{function}::{id}"), counted as f64 / EVENTS as f64))
        }
        _ => Err(format!("the runner printed a line without a bench or its instructions: {line}")),
    }
}
