//! What a count may come to, and the comparison.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// One count: its name, what is taken off it, and the most instructions that may be left, per event (per poll where
/// polls find nothing). Compilers move a count by an instruction or two; more is a decision, to be made in the table.
pub struct Budget(pub &'static str, pub Option<&'static str>, pub f64);

/// One count against another: what the pair shows, the smaller, the larger, and the most that may be between them.
pub struct Growth(pub &'static str, pub &'static str, pub &'static str, pub Most);

/// The most that a count may be above another.
pub enum Most {
    Percent(f64),
    Instructions(f64),
}
use Most::{Instructions, Percent};

/// What is counted, and what it may come to.
pub struct Suite {
    /// The name of the bench, for messages and the file in which its counts are kept.
    pub name: &'static str,
    /// Events of one count.
    pub events: u64,
    pub budgets: &'static [Budget],
    pub growth: &'static [Growth],
    /// What may cost at most so many instructions more than in another build: names, and the environment variable with
    /// the path of that build's counts.
    pub against: Option<(&'static [&'static str], &'static str, f64)>,
}

/// Where this is set, the program only starts the runner.
const COUNTING: &str = "PELTON_COUNTING";

type Counts = BTreeMap<String, f64>;

impl Suite {
    /// Runs the suite, and returns the program's exit code. `main` is the function that gungraun generates.
    pub fn run(&self, main: fn()) -> ExitCode {
        // The runner starts the program again, under callgrind, for each count; and the runner itself is started by it
        // again, whose output is what the parent reads.
        if std::env::args().nth(1).is_some_and(|arg| arg == "--gungraun-run")
            || std::env::var_os(COUNTING).is_some()
        {
            main();
            return ExitCode::SUCCESS;
        }
        count_and_compare(self)
    }
}

/// Counts, prints, and compares with the budgets. The exit code says whether all were kept.
fn count_and_compare(suite: &Suite) -> ExitCode {
    let target = target();
    let counts = match count(&target, suite.events) {
        Ok(counts) => counts,
        Err(error) => {
            eprintln!("instructions: {error}");
            return ExitCode::FAILURE;
        }
    };
    // With a filter a part is counted, and only that part is compared.
    let whole = !std::env::args().skip(1).any(|arg| !arg.starts_with('-'));
    let mut over = Vec::new();
    let net = print_counts(suite, &counts, whole, &mut over);
    print_growth(suite, &net, &mut over);
    compare_with_other_build(suite, &net, &mut over);
    let kept = target.join(format!("counts_{}.json", suite.name));
    let text = serde_json::to_string_pretty(&net).expect("numbers and names");
    if let Err(error) = fs::write(&kept, text) {
        over.push(format!("{} cannot be written: {error}", kept.display()));
    }
    println!("\nkept in {}", kept.display());
    if over.is_empty() {
        println!("every budget is kept");
        return ExitCode::SUCCESS;
    }
    println!("\nOver budget (the table is in the bench {}):", suite.name);
    over.iter().for_each(|line| println!("  {line}"));
    ExitCode::FAILURE
}

fn print_counts(suite: &Suite, counts: &Counts, whole: bool, over: &mut Vec<String>) -> Counts {
    let mut net = Counts::new();
    println!("\n{:<36} {:>10} {:>10} {:>10}", "instructions an event", "counted", "net", "budget");
    for Budget(name, off, most) in suite.budgets {
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
    let unknown = counts.keys().filter(|name| !suite.budgets.iter().any(|budget| budget.0 == *name));
    over.extend(unknown.map(|name| format!("{name} was counted ({:.2}), and has no budget", counts[name])));
    net
}

fn print_growth(suite: &Suite, net: &Counts, over: &mut Vec<String>) {
    if suite.growth.is_empty() {
        return;
    }
    println!("\n{:<40} {:>8} {:>8} {:>10} {:>10}", "growth", "from", "to", "by", "budget");
    for Growth(what, from, to, most) in suite.growth {
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

fn compare_with_other_build(suite: &Suite, net: &Counts, over: &mut Vec<String>) {
    let Some((names, variable, most)) = suite.against else { return };
    let Some(path) = std::env::var_os(variable).map(PathBuf::from) else { return };
    let read = fs::read_to_string(&path).map_err(|error| error.to_string());
    let other =
        read.and_then(|text| serde_json::from_str::<Counts>(&text).map_err(|error| error.to_string()));
    let other = match other {
        Ok(other) => other,
        Err(error) => {
            over.push(format!("{variable}={}: {error}", path.display()));
            return;
        }
    };
    println!();
    for name in names {
        let (Some(count), Some(in_other)) = (net.get(*name), other.get(*name)) else {
            over.push(format!("{name} was not counted in both builds"));
            continue;
        };
        let by = count - in_other;
        println!("{name}: {count:.2}, and {in_other:.2} in the build of {variable}: {by:.2} more");
        if by > most {
            over.push(format!(
                "{name}: takes {by:.2} instructions more than there, {:.2} too many",
                by - most
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
fn count(target: &Path, events: u64) -> Result<Counts, String> {
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
    String::from_utf8_lossy(&output.stdout).lines().map(|line| parse(line, events)).collect()
}

/// One line of the runner: a bench and its instructions.
fn parse(line: &str, events: u64) -> Result<(String, f64), String> {
    let summary: serde_json::Value =
        serde_json::from_str(line).map_err(|error| format!("the runner printed '{line}': {error}"))?;
    let word = |field: &str| summary[field].as_str();
    let values = &summary["profiles"][0]["data"]["total"]["metrics"]["Ir"]["values"];
    match (word("function_name"), word("id"), values["new"].as_u64()) {
        // A toggle that matches no function counts nothing.
        (Some(function), Some(id), Some(counted @ 1..)) => {
            Ok((format!("{function}::{id}"), counted as f64 / events as f64))
        }
        _ => Err(format!("the runner printed a line without a bench or its instructions: {line}")),
    }
}
