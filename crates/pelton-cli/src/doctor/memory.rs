//! Memory: how much there is, in what pages, and what may be locked.

use super::finding::{Finding, Topic, of_process, write_to};
use pelton::host::{Files, Host, Unknown};
use pelton::words;

/// What a process may lock at first since Linux 5.16 (`MLOCK_LIMIT`), and what systemd gives a service; in bytes.
const MEMLOCK_MIN: u64 = 8 << 20;

/// The part of the memory that may lie idle in explicit huge pages.
const RESERVED_MAX: f64 = 0.1;

pub(super) fn all(files: &Files, host: &Host) -> Vec<Finding> {
    vec![memory(host), transparent(files), explicit(files, host), memlock(files)]
}

fn finding(id: &'static str, name: &'static str) -> Finding {
    Finding::new(Topic::Memory, id, name)
}

fn memory(host: &Host) -> Finding {
    finding("memory", "memory").of(host.machine_bytes.clone(), |finding, machine| {
        let bytes = host.memory_bytes().unwrap_or(machine);
        let reason = match &host.limit_bytes {
            Ok(Some(limit)) if *limit < machine => "the limit of the control group".into(),
            Ok(_) => "all that the machine has".into(),
            Err(why) => format!("all that the machine has; of a limit nothing is known: {why}"),
        };
        finding.ok(words::bytes(bytes), reason).value(bytes as f64, "bytes")
    })
}

fn transparent(files: &Files) -> Finding {
    const FILE: &str = "/sys/kernel/mm/transparent_hugepage/enabled";
    finding("transparent_huge_pages", "transp. huge pages").of(files.text(FILE), |finding, text| {
        // The one in force stands in brackets: always [madvise] never.
        let mode = text.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map(|(mode, _)| mode);
        match mode {
            Some("madvise") => finding.ok("madvise", "given to those who ask"),
            Some("always") => finding
                .warn(
                    "always",
                    "given to everybody, asked for or not",
                    "more is resident than was planned, and the kernel moves pages of a running process",
                )
                .fix(write_to(FILE, "madvise")),
            Some("never") => finding
                .warn(
                    "never",
                    "not given to those who ask either",
                    "large rings and tables take 512 times as many entries of the TLB",
                )
                .fix(write_to(FILE, "madvise")),
            _ => finding.unknown(format!("{FILE} names no mode")),
        }
    })
}

fn explicit(files: &Files, host: &Host) -> Finding {
    let seen = ["HugePages_Total", "HugePages_Free"].map(|key| {
        files.value("/proc/meminfo", key).and_then(|number| {
            number.parse::<u64>().map_err(|_| Unknown(format!("/proc/meminfo has {key} as no number")))
        })
    });
    let [total, free] = seen;
    let seen = total.and_then(|total| Ok((total, free?, files.kib("/proc/meminfo", "Hugepagesize")?)));
    finding("explicit_huge_pages", "explicit huge pages").of(seen, |finding, (total, free, each)| {
        if total == 0 {
            return finding.ok("none", "none are reserved, and an engine needs none").value(0.0, "pages");
        }
        let idle = free.saturating_mul(each);
        let machine = host.machine_bytes.clone().unwrap_or(u64::MAX);
        let found = format!("{total} of {}, {free} free", words::bytes(each));
        let finding = if idle as f64 > machine as f64 * RESERVED_MAX {
            finding.warn(
                found,
                format!("{} are reserved and idle", words::bytes(idle)),
                "an engine does not use them, and nobody else can have that memory",
            )
        } else {
            finding.ok(found, "an engine does not use them")
        };
        finding.value(total as f64, "pages").fix("sysctl -w vm.nr_hugepages=0")
    })
}

fn memlock(files: &Files) -> Finding {
    finding("memlock_limit", "memlock limit").of(files.limit("Max locked memory"), |finding, bytes| {
        // The first line is a heading; without the file nothing is known of swap, and it may be there.
        let swaps = files.text("/proc/swaps").map(|text| text.lines().count() > 1);
        let found = bytes.map_or("unlimited".into(), words::bytes);
        let finding = match (bytes, swaps) {
            (None, _) => finding.ok(found, "a process may lock all that it has"),
            (Some(bytes), _) if bytes < MEMLOCK_MIN => finding.warn(
                found,
                format!("less than {}", words::bytes(MEMLOCK_MIN)),
                "perf's buffers do not fit, and what is swapped out comes back in milliseconds",
            ),
            (Some(_), Ok(false)) => finding.ok(found, "no swap, so nothing has to be locked"),
            (Some(_), _) => finding.warn(
                found,
                "there may be swap, and an engine's memory cannot be locked",
                "a ring that was swapped out while it was quiet comes back in milliseconds",
            ),
        };
        let finding = finding.fix(of_process("prlimit --memlock=unlimited --pid"));
        bytes.into_iter().fold(finding, |finding, n| finding.value(n as f64, "bytes"))
    })
}
