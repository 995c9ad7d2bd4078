//! The doctor looks at every machine it is put on, however little it is shown there, and never fails for it.
//!
//! No figure that is measured decides a test: what is asserted is what can be known of the place that was made.

use crate::support::pelton;
use pelton_testkit::needs::{Need, skipped};
use pelton_testkit::program::{Done, alone, end};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Nobody, on every Linux.
const NOBODY: u32 = 65_534;

fn run(mut command: Command) -> Done {
    end(command.spawn().expect("the program is there"))
}

fn doctor(args: &[&str]) -> Done {
    let mut command = pelton();
    command.arg("doctor").args(args);
    run(command)
}

/// The program below another, as in `taskset -c 0 pelton doctor`; `None` with a line that says so where that is not
/// permitted or not there.
fn below(outer: &[&str], args: &[&str]) -> Option<Done> {
    let command = |inner: &[&str]| {
        let mut command = alone(Command::new(outer[0]));
        command.args(&outer[1..]).args(inner);
        command
    };
    match command(&["true"]).spawn().map(end) {
        Ok(done) if done.code == Some(0) => {}
        Ok(done) => return lacks(&format!("{} is not permitted: {}", outer.join(" "), done.err.trim())),
        Err(error) => {
            return skipped(Need::Tools, &format!("`{}` cannot be run: {error}", outer[0]));
        }
    }
    Some(run(command(&[&[env!("CARGO_BIN_EXE_pelton"), "doctor"], args].concat())))
}

/// What is asked for is not permitted, or not there, on this machine.
fn lacks<T>(why: &str) -> Option<T> {
    skipped(Need::Machine, why)
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|of| of.uid() == 0)
}

/// The object, if the program did what it should: it names every finding with a state and a reason, what is amiss with
/// its cost, and its exit code says whether anything is bad.
fn object(done: &Done) -> Value {
    let json: Value = serde_json::from_str(&done.out).unwrap_or_else(|error| {
        panic!("{error}: code {:?}, {}{}", done.code, done.out, done.err);
    });
    let findings = json["findings"].as_array().unwrap();
    let in_state = |state: &str| findings.iter().filter(|finding| finding["state"] == state).count() as u64;
    for state in ["ok", "unknown", "warn", "bad"] {
        assert_eq!(json[state], in_state(state), "{state}: {json:#}");
    }
    for finding in findings {
        let text = |key: &str| finding[key].as_str().unwrap_or_else(|| panic!("{key}: {finding:#}"));
        let state = text("state");
        assert!(["ok", "unknown", "warn", "bad"].contains(&state), "{finding:#}");
        assert!(!text("reason").is_empty() && !text("id").is_empty(), "{finding:#}");
        assert_eq!(text("found").is_empty(), state == "unknown", "{finding:#}");
        assert_eq!(text("cost").is_empty(), ["ok", "unknown"].contains(&state), "{finding:#}");
        assert!(["cpus", "time", "memory", "system", "measured"].contains(&text("topic")), "{finding:#}");
    }
    let is_bad = in_state("bad") > 0;
    assert_eq!(done.code, Some(if is_bad { 3 } else { 0 }), "{}", done.err);
    assert_eq!(done.err.contains("error: this machine is bad for an engine"), is_bad, "{}", done.err);
    json
}

fn finding<'a>(json: &'a Value, id: &str) -> &'a Value {
    let findings = json["findings"].as_array().unwrap();
    findings.iter().find(|finding| finding["id"] == id).unwrap_or_else(|| panic!("no {id} in {json:#}"))
}

fn state<'a>(json: &'a Value, id: &str) -> &'a str {
    finding(json, id)["state"].as_str().unwrap()
}

fn length(value: &Value) -> usize {
    value.as_array().unwrap().len()
}

#[test]
fn it_looks_and_measures_where_the_tests_run() {
    let folder = TempDir::new().unwrap();
    let done = doctor(&["--json", "--seconds", "1", "--folder", folder.path().to_str().unwrap()]);
    let json = object(&done);
    let cpus = length(&json["cpus"]);
    assert_eq!(length(&json["findings"]), 24);
    let measured = &json["measured"];
    let used = length(&measured["cpus"]);
    if state(&json, "pinning") == "ok" {
        assert_eq!(used, cpus.min(256));
        let paired = used.min(8);
        assert_eq!(length(&measured["pairs"]), paired * (paired - 1) / 2);
        let left = finding(&json, "round_trip")["reason"].as_str().unwrap().contains("are in no pair");
        assert_eq!(left, used > paired);
        assert_eq!(length(&measured["gaps"]), used);
    }
    for gaps in measured["gaps"].as_array().unwrap() {
        // Ticks are not whole nanoseconds.
        assert!(gaps["seconds"].as_f64().unwrap() > 0.399, "{gaps}");
        let lost = gaps["lost"].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&lost) && gaps["longest_ns"].as_u64().unwrap() > 0, "{gaps}");
    }
    let quantiles = |of: &Value, keys: &[&str]| {
        let figures: Vec<f64> = keys.iter().map(|key| of[key].as_f64().unwrap()).collect();
        assert!(figures.is_sorted() && figures[0] > 0.0, "{of}");
    };
    for pair in measured["pairs"].as_array().unwrap() {
        quantiles(pair, &["p50_ns", "p99_ns"]);
        assert!(pair["trips"].as_u64().unwrap() > 0);
    }
    if state(&json, "fdatasync") != "unknown" {
        quantiles(&measured["syncs"], &["p50_ns", "p90_ns", "p99_ns", "max_ns"]);
        assert!(measured["syncs"]["writes"].as_u64().unwrap() > 0);
    }
    let left = fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 0, "a file was left behind");
}

#[test]
fn the_page_fits_a_terminal_and_says_the_sum() {
    let done = doctor(&["--seconds", "1"]);
    assert!(matches!(done.code, Some(0 | 3)), "{:?}: {}", done.code, done.err);
    for part in [
        "This machine, for an engine on CPUs",
        "\nCPUs\n",
        "\nMeasuring for up to 1 s\n",
        "CPU quota",
        "fdatasync",
    ] {
        assert!(done.out.contains(part), "{part}: {}", done.out);
    }
    // In a pipe there are no colours.
    assert!(!done.out.contains('\u{1b}'));
    // Commands are whole, so that they can be copied.
    for line in done.out.lines().filter(|line| !line.contains(" # ")) {
        assert!(line.chars().count() <= 100, "{line}");
        assert_eq!(line, line.trim_end());
    }
    let sum = done.out.lines().find(|line| line.ends_with("; nothing was changed")).unwrap();
    let counts = sum.split([' ', ',', ';']).filter_map(|word| word.parse::<usize>().ok());
    assert_eq!(counts.sum::<usize>(), 24, "{sum}");
}

#[test]
fn without_measuring_it_looks_alone() {
    let json = object(&doctor(&["--json", "--no-measure"]));
    assert_eq!(length(&json["findings"]), 20);
    assert_eq!(json["measured"], Value::Null);
}

#[test]
fn an_unprivileged_user_sees_as_much() {
    if !is_root() {
        // Every other test shows it then.
        lacks::<()>("this is an unprivileged user already");
        return;
    }
    // Where nobody may read it, it could not be run.
    let folder = TempDir::new().unwrap();
    let program = folder.path().join("pelton");
    fs::copy(env!("CARGO_BIN_EXE_pelton"), &program).unwrap();
    for path in [folder.path(), &program] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let nobody = |args: &[&str]| {
        let mut command = alone(Command::new(&program));
        command.arg("doctor").args(args).uid(NOBODY).gid(NOBODY).current_dir("/");
        object(&run(command))
    };
    let roots = object(&doctor(&["--json", "--no-measure"]));
    let nobodys = nobody(&["--json", "--no-measure"]);
    let unknown = |json: &Value| {
        let findings = json["findings"].as_array().unwrap().iter();
        let unknown = findings.filter(|finding| finding["state"] == "unknown");
        unknown.map(|finding| finding["id"].to_string()).collect::<Vec<_>>()
    };
    assert_eq!(unknown(&nobodys), unknown(&roots));
    // The folder is root's: it cannot be measured there, and the rest is.
    let json = nobody(&["--json", "--seconds", "1", "--folder", folder.path().to_str().unwrap()]);
    let disc = finding(&json, "fdatasync");
    assert_eq!(disc["state"], "unknown", "{disc}");
    let reason = disc["reason"].as_str().unwrap();
    assert!(reason.contains("cannot be written to") || reason.contains("keeps nothing"), "{reason}");
    assert_ne!(json["measured"]["clock"], Value::Null);
}

#[test]
fn on_one_cpu_there_is_no_pair_to_measure() {
    let cpu = pelton::shard::available()[0].to_string();
    let Some(done) = below(&["taskset", "-c", &cpu], &["--json", "--seconds", "1"]) else { return };
    let json = object(&done);
    assert_eq!(json["cpus"], serde_json::json!([cpu.parse::<usize>().unwrap()]));
    let mask = finding(&json, "affinity_mask");
    assert_eq!((&mask["state"], &mask["value"]), (&"warn".into(), &1.0.into()), "{mask}");
    assert_eq!(state(&json, "round_trip"), "unknown");
    assert_eq!(length(&json["measured"]["pairs"]), 0);
}

#[test]
fn named_cpus_are_what_it_looks_at() {
    let cpus = pelton::shard::available();
    let last = cpus[cpus.len() - 1];
    let json = object(&doctor(&["--json", "--no-measure", "--cpus", &format!("{last},{last}")]));
    assert_eq!(json["cpus"], serde_json::json!([last]));
    assert_eq!(finding(&json, "affinity_mask")["value"], cpus.len() as f64);
}

/// A control group with half a CPU, gone when dropped.
struct HalfACpu(PathBuf);

impl HalfACpu {
    fn make() -> Option<Self> {
        let one = Path::new("/sys/fs/cgroup/cpu");
        let two = Path::new("/sys/fs/cgroup");
        let name = format!("pelton-doctor-test-{}", std::process::id());
        let lets = |file: &str| {
            fs::read_to_string(two.join(file))
                .is_ok_and(|list| list.split_whitespace().any(|has| has == "cpu"))
        };
        let (folder, quota): (_, &[(&str, &str)]) = if one.join("cpu.cfs_quota_us").exists() {
            (one.join(name), &[("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", "50000")])
        } else if lets("cgroup.subtree_control") {
            (two.join(name), &[("cpu.max", "50000 100000")])
        } else {
            return lacks(
                "no control groups with the controller 'cpu' are mounted, or it is not handed down",
            );
        };
        if let Err(error) = fs::create_dir(&folder) {
            return lacks(&format!("{} cannot be made: {error}", folder.display()));
        }
        let group = HalfACpu(folder);
        for (file, text) in quota {
            if let Err(error) = fs::write(group.0.join(file), text) {
                return lacks(&format!("{file} cannot be written: {error}"));
            }
        }
        Some(group)
    }

    /// The doctor within.
    fn doctor(&self, args: &str) -> Option<Done> {
        let script =
            format!("echo $$ > {}/cgroup.procs || exit 77; exec \"$0\" doctor {args}", self.0.display());
        let mut command = alone(Command::new("sh"));
        command.args(["-c", &script, env!("CARGO_BIN_EXE_pelton")]);
        let done = run(command);
        if done.code == Some(77) {
            lacks(&format!("no process may be moved: {}", done.err.trim()))
        } else {
            Some(done)
        }
    }
}

impl Drop for HalfACpu {
    fn drop(&mut self) {
        // The kernel lets go of processes that have ended in its own time.
        let begun = Instant::now();
        while fs::remove_dir(&self.0).is_err() && begun.elapsed() < Duration::from_secs(5) {
            thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn half_a_cpu_is_bad_and_says_where_it_is_set() {
    let Some(group) = HalfACpu::make() else { return };
    let Some(done) = group.doctor("--json --seconds 1") else { return };
    let json = object(&done);
    let quota = finding(&json, "cpu_quota");
    assert_eq!((&quota["state"], &quota["value"]), (&"bad".into(), &0.5.into()), "{quota}");
    let fix = quota["fix"][0].as_str().unwrap();
    assert!(fix.starts_with("echo ") && fix.contains(group.0.to_str().unwrap()), "{fix}");
    assert_eq!(done.code, Some(3));
    assert!(done.err.contains("CPU quota"), "{}", done.err);
    // The script is one of a shell, with the command in it.
    let script = group.doctor("--fix-script").unwrap();
    assert_eq!(script.code, Some(3));
    assert!(script.out.contains(fix), "{}", script.out);
    assert_is_script(&script.out);
}

/// The shell reads it without running it, and every line that is no comment is a command that some finding names.
fn assert_is_script(text: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    let mut shell = alone(Command::new("sh"));
    shell.arg("-n").arg(file.path());
    let done = run(shell);
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""), "{text}");
    assert!(text.starts_with("#!/bin/sh\n# "), "{text}");
}

#[test]
fn the_script_has_all_commands_and_changes_nothing() {
    let json = object(&doctor(&["--json", "--no-measure"]));
    let printed = doctor(&["--fix-script"]);
    assert_is_script(&printed.out);
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("fix.sh");
    let written = doctor(&["--no-measure", &format!("--fix-script={}", file.display())]);
    assert!(written.out.contains("written: "), "{}", written.out);
    assert_eq!(fs::read_to_string(&file).unwrap(), printed.out);
    // What somebody has edited is not written over.
    let again = doctor(&[&format!("--fix-script={}", file.display())]);
    assert_eq!((again.code, again.out.as_str()), (Some(2), ""), "{}", again.err);
    assert!(again.err.contains("is there already; another name, or --force, would work"), "{}", again.err);
    assert_eq!(fs::read_to_string(&file).unwrap(), printed.out);
    let forced = doctor(&["--no-measure", "--force", &format!("--fix-script={}", file.display())]);
    assert!(forced.out.contains("written: "), "{}{}", forced.out, forced.err);
    let commands: Vec<&str> =
        printed.out.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let fixes =
        json["findings"].as_array().unwrap().iter().flat_map(|finding| finding["fix"].as_array().unwrap());
    assert_eq!(commands, fixes.map(|fix| fix.as_str().unwrap()).collect::<Vec<_>>());
}

#[test]
fn without_sys_it_says_what_cannot_be_known() {
    for hide in ["umount -l /sys", "mount -t tmpfs none /sys"] {
        let script = format!("{hide} && exec \"$@\"");
        let outer = ["unshare", "-m", "sh", "-c", &script, "sh"];
        let Some(done) = below(&outer, &["--json", "--seconds", "1"]) else { return };
        let json = object(&done);
        for id in
            ["cpu_quota", "cpuset", "smt_siblings", "numa", "isolated_cpus", "nohz_full_cpus", "governor"]
        {
            assert_eq!(state(&json, id), "unknown", "{hide}: {id}");
        }
        for id in ["idle_states", "clock_source", "transparent_huge_pages"] {
            assert_eq!(state(&json, id), "unknown", "{hide}: {id}");
        }
        assert_ne!(state(&json, "clock_read"), "unknown", "{hide}");
    }
}

#[test]
fn without_proc_it_says_what_cannot_be_known() {
    let outer = ["unshare", "-m", "sh", "-c", "mount -t tmpfs none /proc && exec \"$@\"", "sh"];
    let Some(done) = below(&outer, &["--json", "--seconds", "1"]) else { return };
    let json = object(&done);
    for id in ["cpu_quota", "memory", "explicit_huge_pages", "memlock_limit", "nofile_limit", "perf"] {
        assert_eq!(state(&json, id), "unknown", "{id}");
    }
    assert!(length(&json["cpus"]) > 0);
}

#[test]
fn arguments_that_cannot_be_are_refused_before_anything_runs() {
    for (args, parts) in [
        (&["--cpus", "65535"][..], &["cpus is 65535", "would work"][..]),
        (&["--cpus", "99999"], &["cpus is '99999'", "CPUs from 0 to 65535"]),
        (&["--cpus", "one"], &["cpus is 'one'", "0-3,7"]),
        (&["--seconds", "0"], &["seconds is 0", "5 would work"]),
        (&["--seconds", "601"], &["seconds is 601", "at most 600 s"]),
        (&["--folder", "/no/such/folder"], &["folder is /no/such/folder", "would work"]),
        (&["--json", "--fix-script"], &["--fix-script=FILE would work"]),
        (&["--no-measure", "--seconds", "3"], &["--no-measure"]),
    ] {
        let done = doctor(args);
        assert_eq!((done.code, done.out.as_str()), (Some(2), ""), "{args:?}: {}", done.err);
        assert!(parts.iter().all(|part| done.err.contains(part)), "{args:?}: {}", done.err);
    }
    let done = doctor(&["--no-measure", "--fix-script=/no/such/folder/fix.sh"]);
    assert_eq!(done.code, Some(1));
    assert!(done.err.contains("could not be written"), "{}", done.err);
}
