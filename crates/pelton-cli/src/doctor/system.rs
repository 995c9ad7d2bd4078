//! The system: what tells the time, who may measure, what is below it, and how many files it gives.

use super::finding::{Finding, Topic, of_process, write_to};
use pelton::host::{Files, Unknown};

/// Files that a process may open at first, almost everywhere (`INR_OPEN_CUR` of the kernel).
const FILES_MIN: u64 = 1_024;

/// The part of its time that a virtual CPU may lose to others unnoticed.
const STOLEN_MAX: f64 = 0.001;

/// What a process may do with perf without being root (`capabilities(7)`).
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;

pub(super) fn all(files: &Files, descriptors: Option<u64>) -> Vec<Finding> {
    vec![
        clock_source(files),
        tsc(files),
        nofile(files, descriptors),
        perf(files),
        membarrier(),
        hypervisor(files),
    ]
}

fn clock_source(files: &Files) -> Finding {
    const FOLDER: &str = "/sys/devices/system/clocksource/clocksource0";
    let finding = Finding::new(Topic::Time, "clock_source", "clock source");
    finding.of(files.text(&format!("{FOLDER}/current_clocksource")), |finding, source| {
        let there = files.text(&format!("{FOLDER}/available_clocksource")).unwrap_or_default();
        let fast = there.split_whitespace().find(|name| ["tsc", "arch_sys_counter"].contains(name));
        let finding = match source.as_str() {
            "tsc" | "arch_sys_counter" => {
                return finding.ok(source, "a counter of the CPU, read without a call");
            }
            "kvm-clock" | "hyperv_clocksource_tsc_page" => finding.warn(
                source,
                "a counter that the hypervisor corrects",
                "reading it costs about twice as much as the bare counter",
            ),
            _ => finding.bad(
                source,
                "no counter of the CPU: each reading is a call into the kernel",
                "a reading costs about a microsecond, and every event that is measured needs some",
            ),
        };
        match fast {
            Some(fast) => finding.fix(write_to(&format!("{FOLDER}/current_clocksource"), fast)),
            None => finding,
        }
    })
}

fn tsc(files: &Files) -> Finding {
    let finding = Finding::new(Topic::Time, "tsc", "TSC");
    if cfg!(not(any(target_arch = "x86", target_arch = "x86_64"))) {
        return finding.unknown("only x86 has one");
    }
    finding.of(files.value("/proc/cpuinfo", "flags"), |finding, flags| {
        let has = |flag: &str| flags.split_whitespace().any(|has| has == flag);
        match (has("constant_tsc"), has("nonstop_tsc")) {
            (true, true) => finding.ok("invariant", "one rate at all frequencies and when idle"),
            (constant, _) => finding.warn(
                "not invariant",
                if constant { "it stops in idle states" } else { "it changes with the frequency" },
                "the time is asked of the system instead, which costs more for each measured event",
            ),
        }
    })
}

fn nofile(files: &Files, needed: Option<u64>) -> Finding {
    let finding = Finding::new(Topic::System, "nofile_limit", "nofile limit");
    finding.of(files.limit("Max open files"), |finding, files| {
        let found = files.map_or("unlimited".into(), |files| format!("{files} files"));
        let least = needed.unwrap_or_default().max(FILES_MIN);
        let whose = if least > FILES_MIN { ", what connections_max takes" } else { "" };
        let finding = match files {
            Some(files) if files < least => finding.warn(
                found,
                format!("fewer than {least}{whose}"),
                "a service runs out of connections before its engine is busy",
            ),
            _ => finding.ok(found, format!("{least} or more{whose}")),
        };
        let finding = finding.fix(of_process(&format!("prlimit --nofile={least}: --pid")));
        files.map(|files| files as f64).into_iter().fold(finding, |finding, n| finding.value(n, "files"))
    })
}

fn perf(files: &Files) -> Finding {
    const FILE: &str = "/proc/sys/kernel/perf_event_paranoid";
    let finding = Finding::new(Topic::System, "perf", "perf permissions");
    let level = files.text(FILE).and_then(|text| {
        text.parse::<i32>().map_err(|_| Unknown(format!("{FILE} has something else than a number")))
    });
    finding.of(level, |finding, level| {
        let found = format!("paranoid {level}");
        let may = |capability: u32| {
            let set = files.value("/proc/self/status", "CapEff").ok();
            let set = set.and_then(|set| u64::from_str_radix(&set, 16).ok());
            set.is_some_and(|set| set >> capability & 1 == 1)
        };
        let finding = match level {
            ..=1 => finding.ok(found, "a process may be profiled, and the kernel below it"),
            _ if may(CAP_PERFMON) || may(CAP_SYS_ADMIN) => {
                finding.ok(found, "this process may profile all the same")
            }
            2 => finding.warn(
                found,
                "a process may be profiled, but not the kernel below it",
                "what page faults, wake-ups and interrupts cost stays in the dark",
            ),
            _ => finding.warn(
                found,
                "nobody without privileges may profile",
                "where a slow engine spends its time cannot be seen",
            ),
        };
        finding.value(level.into(), "").fix("sysctl -w kernel.perf_event_paranoid=1")
    })
}

fn membarrier() -> Finding {
    let finding = Finding::new(Topic::System, "membarrier", "membarrier");
    match pelton::park::asymmetric_barrier() {
        true => finding.ok("granted", "a publish pays no fence for sleeping shards"),
        false => finding.warn(
            "refused",
            "the kernel or a sandbox refuses it",
            "each publish pays a fence, some nanoseconds",
        ),
    }
}

fn hypervisor(files: &Files) -> Finding {
    let finding = Finding::new(Topic::System, "hypervisor", "hypervisor");
    let name = ["/sys/hypervisor/type", "/sys/class/dmi/id/product_name", "/sys/class/dmi/id/sys_vendor"]
        .iter()
        .find_map(|path| files.text(path).ok().filter(|name| !name.is_empty()));
    if cfg!(not(any(target_arch = "x86", target_arch = "x86_64"))) {
        return finding.unknown("this CPU does not say whether it is virtual");
    }
    finding.of(files.value("/proc/cpuinfo", "flags"), |finding, flags| {
        if !flags.split_whitespace().any(|flag| flag == "hypervisor") {
            return finding.ok("none", "the machine is a real one");
        }
        let found = name.unwrap_or_else(|| "present".into());
        let cost = "the host may take a CPU away at any time; timers and wake-ups go through it";
        match stolen(files) {
            Some(part) => finding
                .warn(
                    found,
                    match part {
                        part if part > STOLEN_MAX => {
                            format!("others took {:.1} % of the time on CPUs since the start", part * 100.0)
                        }
                        _ => "the CPUs are virtual".into(),
                    },
                    cost,
                )
                .value(part * 100.0, "% stolen"),
            None => finding.warn(found, "the CPUs are virtual", cost),
        }
    })
}

/// The part of the time on all CPUs that others have taken since the machine started (`proc_stat(5)`).
fn stolen(files: &Files) -> Option<f64> {
    let text = files.text("/proc/stat").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let times: Vec<u64> = line.split_whitespace().take(8).filter_map(|n| n.parse().ok()).collect();
    let all = times.iter().fold(0u64, |sum, n| sum.saturating_add(*n));
    (times.len() == 8 && all > 0).then(|| times[7] as f64 / all as f64)
}
