//! The doctor: a look at the machine as an engine would find it. Nothing is changed, and nothing needs a privilege.
//!
//! # Mechanism
//! ```text
//!   Settings ─▶ Doctor ─▶ look: /proc, /sys, a thread pinned to each CPU ─▶ findings ─┐
//!                    └──▶ measure: on threads that end, in a bounded time ─▶ figures ─┴▶ Report ─▶ text, JSON, script
//! ```
//! A [`Finding`] has a [`State`], what was found, the reason, what it costs, and the commands that an administrator
//! would run. What cannot be known is [`State::Unknown`] with the reason: a look never fails.
//!
//! # Findings
//! | id | warns | bad | why there |
//! |---|---|---|---|
//! | `affinity_mask` | one CPU | – | two threads on one CPU take turns by the scheduler's slice of 3 ms (`base_slice_ns`) |
//! | `pinning` | – | a pin is refused | a shard is pinned, or it moves |
//! | `cpu_quota` | – | less than the CPUs that are used | a thread that spins uses a whole one; the period is 100 ms (`cgroup-v2.rst`, `cpu.max`) |
//! | `cpuset` | – | lacks a CPU that is used | `sched_setaffinity(2)` grants none outside |
//! | `smt_siblings` | two that are used are one core | – | they share units and caches (`thread_siblings_list`) |
//! | `numa` | CPUs that are used on two nodes; or balancing is on | – | `numa_balancing` works by page faults (`sysctl/kernel.rst`) |
//! | `isolated_cpus` | lack a CPU that is used | – | `isolcpus`, `kernel-parameters.txt` |
//! | `nohz_full_cpus` | lack a CPU that is used | – | `no_hz.rst`: a tick 100 to 1000 times a second |
//! | `governor` | another than `performance` | – | `cpufreq.rst` |
//! | `idle_states` | one takes more than 10 µs to leave | – | its own `latency`; a futex alone wakes in 5 to 10 µs |
//! | `clock_source` | one that a hypervisor corrects | no counter of the CPU | only counters are read without a call (`vdso(7)`) |
//! | `tsc` | not `constant_tsc` and `nonstop_tsc` | – | the engine's clock asks the system then |
//! | `memory` | – | – | the machine's, or the control group's limit |
//! | `transparent_huge_pages` | `always`, `never` | – | `transhuge.rst`: `madvise` gives them to those who ask |
//! | `explicit_huge_pages` | more than a tenth of the memory is reserved and idle | – | nobody else gets it (`hugetlbpage.rst`) |
//! | `memlock_limit` | below 8 MiB; or limited, where there may be swap | – | the kernel's own default since 5.16 |
//! | `nofile_limit` | below 1,024, or what a service takes with all of its connections | – | the kernel's own default |
//! | `perf` | `perf_event_paranoid` of 2 or more, without privileges | – | `perf-security.rst` |
//! | `membarrier` | refused | – | publishers pay the fence that a sleeping shard would have (`membarrier(2)`) |
//! | `hypervisor` | there is one | – | it may take a CPU away (`proc_stat(5)`, steal) |
//! | `clock_read` | 50 ns | 250 ns | a counter takes some 10 to 30, a call into the kernel more than 100 |
//! | `round_trip` (p50 of the slowest pair) | 500 ns | 2 µs | within a socket it is 100 to 300, between sockets up to 500; above, the CPUs do not run at the same time |
//! | `jitter` (longest gap) | 100 µs | 10 ms | what a tuned machine stays below (`cyclictest`); several slices of other threads |
//! | `fdatasync` (p99) | 2 ms | 20 ms | a disc without moving parts stays below; a turning one takes 8 ms for a turn and as much to seek |
//!
//! The bounds of what is measured are those of common hardware, not of any promise: they say where a machine is unlike
//! others.
//!
//! # Limits
//! At most [`CPUS_MAX`] CPUs are measured, and of these [`PAIRED_CPUS_MAX`] in pairs; all are looked at. A control group above the one that is mounted
//! cannot be seen. A write that hangs keeps its thread to the end of the process; a process that is killed while it
//! measures leaves a file `pelton-doctor-…` of at most 4 MiB behind.
//!
//! # Examples
//! ```
//! use pelton_cli::doctor::{Doctor, Settings, State};
//! let doctor = Doctor::new(&Settings { measure: None, ..Settings::default() })?;
//! let report = doctor.report(doctor.look(), None);
//! for finding in report.in_state(State::Bad) {
//!     println!("{}: {}, {}", finding.name, finding.found, finding.reason);
//! }
//! # Ok::<(), pelton::engine::PlanErrors>(())
//! ```

pub mod probe;

mod finding;

mod cpus;
mod memory;
mod system;

mod measured;

mod report;

pub use finding::{Finding, State, Topic};
pub use measured::{CPUS_MAX, ClockCost, Figures, GAP_NS_MIN, Gaps, PAIRED_CPUS_MAX, Pair, Syncs};
pub use report::Report;

use pelton::engine::{Kind, PlanError, PlanErrors, RawValue, Value};
use pelton::host::{Files, Host, list};
use pelton::shard::can_pin;
use std::path::PathBuf;
use std::time::Duration;

/// The longest time that can be spent measuring.
pub const MEASURE_MAX: Duration = Duration::from_secs(600);

/// What to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The CPUs that an engine uses; `None` for all of this process's mask.
    pub cpus: Option<Vec<usize>>,
    /// Descriptors that a service takes with all of its connections; `None` for no more than usual.
    pub descriptors: Option<u64>,
    /// How long to measure, up to [`MEASURE_MAX`]; `None` to measure nothing.
    pub measure: Option<Duration>,
    /// The folder on whose disc writes are measured; `None` for the system's folder of temporary files.
    pub folder: Option<PathBuf>,
}

impl Default for Settings {
    /// All CPUs, measured for 5 s.
    fn default() -> Self {
        Settings { cpus: None, descriptors: None, measure: Some(Duration::from_secs(5)), folder: None }
    }
}

impl Settings {
    /// Names the CPUs, as in `0-3,7`; `mask` stands for all of this process's mask.
    ///
    /// # Errors
    /// [`PlanError`] where a part is neither a number nor a range.
    pub fn set_cpus(&mut self, text: &str) -> Result<(), PlanError> {
        let written = RawValue::Bare(text);
        let read = Kind::Cpus("mask").read(&written);
        self.cpus = match read
            .map_err(|invalid| PlanError::new("cpus", &written, invalid.expected, invalid.suggestion))?
        {
            Value::Cpus(cpus) => Some(cpus),
            _ => None,
        };
        Ok(())
    }
}

/// Looks at this machine.
#[derive(Clone, Debug)]
pub struct Doctor {
    files: Files,
    host: Host,
    used: Vec<usize>,
    refused: Vec<usize>,
    descriptors: Option<u64>,
    measure: Option<Duration>,
    folder: PathBuf,
}

impl Doctor {
    /// Prepares for it.
    ///
    /// # Errors
    /// [`PlanErrors`] where a CPU is named that the machine does not have, the time is out of its range, or the folder
    /// is none.
    pub fn new(settings: &Settings) -> Result<Self, PlanErrors> {
        let host = Host::look();
        let mut errors = Vec::new();
        let mut unless = |holds: bool, setting: &str, value: String, limit: String, works: String| {
            if !holds {
                errors.push(PlanError::new(setting, value, limit, works));
            }
        };
        let there = host.nameable();
        let mut used = settings.cpus.clone().unwrap_or_else(|| host.cpus.clone());
        used.sort_unstable();
        used.dedup();
        unless(!used.is_empty(), "cpus", "empty".into(), "CPUs of this machine".into(), list(&there));
        for cpu in used.iter().filter(|cpu| !there.contains(cpu)) {
            unless(false, "cpus", cpu.to_string(), format!("among {}", list(&there)), list(&host.cpus));
        }
        if let Some(measure) = settings.measure {
            let limit = "longer than nothing, and at most 600 s".to_string();
            let fits = !measure.is_zero() && measure <= MEASURE_MAX;
            unless(fits, "seconds", measure.as_secs_f64().to_string(), limit, "5".into());
        }
        let temp = std::env::temp_dir();
        let folder = settings.folder.clone().unwrap_or_else(|| temp.clone());
        // Where the system's own is none, its finding says so.
        let named = settings.folder.as_ref().is_none_or(|folder| folder.is_dir());
        let place = folder.display().to_string();
        unless(named, "folder", place, "a folder that is there".into(), temp.display().to_string());
        if !errors.is_empty() {
            return Err(PlanErrors(errors));
        }
        let refused = used.iter().copied().filter(|cpu| !can_pin(*cpu)).collect();
        let Settings { descriptors, measure, .. } = *settings;
        Ok(Doctor { files: Files::default(), host, used, refused, descriptors, measure, folder })
    }

    /// The CPUs that an engine uses, in ascending order.
    pub fn cpus(&self) -> &[usize] {
        &self.used
    }

    /// How long it will measure; `None` where it will not.
    pub fn measures(&self) -> Option<Duration> {
        self.measure
    }

    /// What can be seen: every finding but those that are measured, by topic.
    pub fn look(&self) -> Vec<Finding> {
        examine(&self.files, &self.host, &self.used, &self.refused, self.descriptors)
    }

    /// What can be measured; `None` where that was not wanted. Takes as long as the settings say, and some seconds
    /// more on a disc that hangs.
    pub fn measure(&self) -> Option<Figures> {
        let span = self.measure?;
        let Doctor { files, used, refused, folder, .. } = self;
        Some(measured::measure(&measured::Task { files, used, refused, span, folder }))
    }

    /// All of it in one.
    pub fn report(&self, mut findings: Vec<Finding>, measured: Option<Figures>) -> Report {
        findings.extend(measured.iter().flat_map(|figures| figures.findings.clone()));
        Report { cpus: self.used.clone(), debug: cfg!(debug_assertions), findings, measured }
    }
}

fn examine(
    files: &Files,
    host: &Host,
    used: &[usize],
    refused: &[usize],
    descriptors: Option<u64>,
) -> Vec<Finding> {
    let mut findings = cpus::all(&cpus::Look { files, host, used, refused });
    findings.extend(memory::all(files, host));
    findings.extend(system::all(files, descriptors));
    findings.sort_by_key(|finding| finding.topic);
    findings
}

/// The CPU's model, as the system names it; `None` where it does not.
pub fn model() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    type Machine = BTreeMap<&'static str, String>;

    /// A finding, its state where these files are other than on a good machine, and what its remedy has.
    type Case = (&'static str, State, &'static [(&'static str, &'static str)], &'static str);

    /// A machine of two nodes with four cores, made for an engine on CPUs 2 and 3.
    fn good() -> Machine {
        let files = [
            ("proc/cpuinfo", "processor : 0\nflags\t\t: fpu constant_tsc nonstop_tsc\n"),
            (
                "proc/meminfo",
                "MemTotal: 1048576 kB\nHugePages_Total: 0\nHugePages_Free: 0\nHugepagesize: 2048 kB\n",
            ),
            (
                "proc/self/limits",
                "Limit  Soft Limit  Hard Limit  Units\nMax open files  1024  4096  files\n\
                 Max locked memory  unlimited  unlimited  bytes\n",
            ),
            ("proc/self/status", "CapEff:\t0000000000000000\nCpus_allowed_list:\t0-3\n"),
            ("proc/self/cgroup", "0::/a\n"),
            ("proc/self/mountinfo", "30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"),
            ("proc/stat", "cpu  10 0 10 1000 0 0 0 0 0 0\n"),
            ("proc/swaps", "Filename Type Size\n"),
            ("proc/sys/kernel/numa_balancing", "0"),
            ("proc/sys/kernel/perf_event_paranoid", "1"),
            ("sys/fs/cgroup/a/cpu.max", "max 100000"),
            ("sys/fs/cgroup/a/memory.max", "max"),
            ("sys/fs/cgroup/a/cpuset.cpus.effective", "0-3"),
            ("sys/devices/system/cpu/online", "0-3"),
            ("sys/devices/system/cpu/isolated", "2-3"),
            ("sys/devices/system/cpu/nohz_full", "2-3"),
            ("sys/devices/system/cpu/cpu2/topology/thread_siblings_list", "2"),
            ("sys/devices/system/cpu/cpu3/topology/thread_siblings_list", "3"),
            ("sys/devices/system/cpu/cpu2/cpufreq/scaling_governor", "performance"),
            ("sys/devices/system/cpu/cpu3/cpufreq/scaling_governor", "performance"),
            ("sys/devices/system/cpu/cpu2/cpuidle/state0/latency", "2"),
            ("sys/devices/system/cpu/cpu2/cpuidle/state0/name", "C1"),
            ("sys/devices/system/cpu/cpu2/cpuidle/state0/disable", "0"),
            ("sys/devices/system/cpu/cpu2/cpuidle/state1/latency", "200"),
            ("sys/devices/system/cpu/cpu2/cpuidle/state1/disable", "1"),
            ("sys/devices/system/node/online", "0-1"),
            ("sys/devices/system/node/node0/cpulist", "0-1"),
            ("sys/devices/system/node/node1/cpulist", "2-3"),
            ("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc"),
            ("sys/devices/system/clocksource/clocksource0/available_clocksource", "tsc hpet"),
            ("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never"),
        ];
        files.into_iter().map(|(path, text)| (path, text.to_string())).collect()
    }

    fn look(machine: &Machine, refused: &[usize]) -> Vec<Finding> {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in machine {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        examine(&Files::below(root.path()), &Host::at(root.path()), &[2, 3], refused, None)
    }

    fn of<'a>(findings: &'a [Finding], id: &str) -> &'a Finding {
        findings.iter().find(|finding| finding.id == id).unwrap_or_else(|| panic!("no {id}"))
    }

    /// What does not depend on the files: what this build can do, and what this CPU is.
    fn is_of_files(finding: &Finding) -> bool {
        let of_x86 = ["tsc", "hypervisor"].contains(&finding.id);
        let of_build = ["membarrier", "pinning"].contains(&finding.id);
        !of_build && (cfg!(target_arch = "x86_64") || !of_x86)
    }

    #[test]
    fn on_a_machine_made_for_it_all_is_well() {
        let findings = look(&good(), &[]);
        for finding in findings.iter().filter(|finding| is_of_files(finding)) {
            assert_eq!(finding.state, State::Ok, "{finding:?}");
            assert!(!finding.reason.is_empty() && finding.cost.is_empty() && finding.fix.is_empty());
        }
        assert_eq!(findings.len(), 20);
        assert!(findings.is_sorted_by_key(|finding| finding.topic));
    }

    #[test]
    fn a_service_needs_descriptors_for_all_of_its_connections() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("proc/self")).unwrap();
        std::fs::write(root.path().join("proc/self/limits"), "Max open files  4096  4096  files\n").unwrap();
        let host = Host::at(root.path());
        assert_eq!(host.files_max, Ok(Some(4_096)));
        for (needed, state) in [(None, State::Ok), (Some(4_096), State::Ok), (Some(4_097), State::Warn)] {
            let findings = examine(&Files::below(root.path()), &host, &[0], &[], needed);
            let finding = of(&findings, "nofile_limit");
            assert_eq!(finding.state, state, "{finding:?}");
            assert_eq!(finding.fix.iter().any(|fix| fix.contains("--nofile=4097")), state == State::Warn);
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn each_rule_finds_what_it_is_for() {
        use State::{Bad, Ok, Warn};
        let cases: &[Case] = &[
            ("affinity_mask", Warn, &[("proc/self/status", "Cpus_allowed_list:\t2\n")], "taskset -acp 0-3"),
            (
                "cpu_quota",
                Bad,
                &[("sys/fs/cgroup/a/cpu.max", "50000 100000")],
                "echo max > /sys/fs/cgroup/a/cpu.max",
            ),
            ("cpu_quota", Ok, &[("sys/fs/cgroup/a/cpu.max", "200000 100000")], ""),
            (
                "cpuset",
                Bad,
                &[("sys/fs/cgroup/a/cpuset.cpus.effective", "0-2")],
                "echo 0-3 > /sys/fs/cgroup/a/cpuset.cpus",
            ),
            (
                "smt_siblings",
                Warn,
                &[("sys/devices/system/cpu/cpu2/topology/thread_siblings_list", "2-3")],
                "smt/control",
            ),
            ("smt_siblings", Ok, &[("sys/devices/system/cpu/cpu2/topology/thread_siblings_list", "0,2")], ""),
            (
                "numa",
                Warn,
                &[
                    ("sys/devices/system/node/node0/cpulist", "0-2"),
                    ("sys/devices/system/node/node1/cpulist", "3"),
                ],
                "",
            ),
            ("numa", Warn, &[("proc/sys/kernel/numa_balancing", "1")], "sysctl -w kernel.numa_balancing=0"),
            (
                "isolated_cpus",
                Warn,
                &[("sys/devices/system/cpu/isolated", "3")],
                "isolcpus=managed_irq,domain,2-3",
            ),
            ("nohz_full_cpus", Warn, &[("sys/devices/system/cpu/nohz_full", "(null)")], "nohz_full=2-3"),
            (
                "governor",
                Warn,
                &[("sys/devices/system/cpu/cpu3/cpufreq/scaling_governor", "powersave")],
                "cpu3/cpufreq/scaling_governor",
            ),
            (
                "idle_states",
                Warn,
                &[("sys/devices/system/cpu/cpu2/cpuidle/state1/disable", "0")],
                "echo 1 > /sys/devices/system/cpu/cpu2/cpuidle/state1/disable",
            ),
            (
                "clock_source",
                Bad,
                &[("sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet")],
                "echo tsc > ",
            ),
            (
                "clock_source",
                Warn,
                &[("sys/devices/system/clocksource/clocksource0/current_clocksource", "kvm-clock")],
                "echo tsc > ",
            ),
            ("tsc", Warn, &[("proc/cpuinfo", "flags : constant_tsc\n")], ""),
            ("hypervisor", Warn, &[("proc/cpuinfo", "flags : hypervisor constant_tsc nonstop_tsc\n")], ""),
            (
                "transparent_huge_pages",
                Warn,
                &[("sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never")],
                "echo madvise > ",
            ),
            (
                "transparent_huge_pages",
                Warn,
                &[("sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]")],
                "echo madvise > ",
            ),
            (
                "explicit_huge_pages",
                Warn,
                &[(
                    "proc/meminfo",
                    "MemTotal: 1048576 kB\nHugePages_Total: 64\nHugePages_Free: 64\nHugepagesize: 2048 kB\n",
                )],
                "vm.nr_hugepages=0",
            ),
            (
                "explicit_huge_pages",
                Ok,
                &[(
                    "proc/meminfo",
                    "MemTotal: 1048576 kB\nHugePages_Total: 64\nHugePages_Free: 4\nHugepagesize: 2048 kB\n",
                )],
                "",
            ),
            (
                "memlock_limit",
                Warn,
                &[("proc/self/limits", "Max locked memory  65536  65536  bytes\n")],
                "prlimit --memlock=unlimited",
            ),
            (
                "memlock_limit",
                Ok,
                &[("proc/self/limits", "Max locked memory  8388608  8388608  bytes\n")],
                "",
            ),
            (
                "memlock_limit",
                Warn,
                &[
                    ("proc/self/limits", "Max locked memory  8388608  8388608  bytes\n"),
                    ("proc/swaps", "Filename\n/dev/a partition 1"),
                ],
                "prlimit",
            ),
            (
                "nofile_limit",
                Warn,
                &[("proc/self/limits", "Max open files  256  4096  files\n")],
                "prlimit --nofile=1024:",
            ),
            ("perf", Warn, &[("proc/sys/kernel/perf_event_paranoid", "2")], "perf_event_paranoid=1"),
            ("perf", Warn, &[("proc/sys/kernel/perf_event_paranoid", "4")], "perf_event_paranoid=1"),
            (
                "perf",
                Ok,
                &[
                    ("proc/sys/kernel/perf_event_paranoid", "2"),
                    ("proc/self/status", "CapEff:\t0000004000000000\n"),
                ],
                "",
            ),
        ];
        for (id, state, files, fix) in cases {
            let mut machine = good();
            for (path, text) in *files {
                machine.insert(path, text.to_string());
            }
            let findings = look(&machine, &[]);
            let finding = of(&findings, id);
            assert_eq!(finding.state, *state, "{files:?}: {finding:?}");
            assert_eq!(finding.cost.is_empty(), *state == Ok, "{finding:?}");
            assert!(
                finding.fix.join("\n").contains(fix) && finding.fix.is_empty() == fix.is_empty(),
                "{finding:?}"
            );
        }
    }

    #[test]
    fn a_refused_pin_is_bad() {
        let findings = look(&good(), &[3]);
        assert_eq!(of(&findings, "pinning").state, State::Bad);
    }

    #[test]
    fn each_file_that_is_missing_leaves_something_unknown_and_nothing_worse() {
        // Files that refine a finding, or whose absence says something.
        let refine =
            ["proc/stat", "proc/swaps", "proc/self/status", "nohz_full", "isolated", "available", "cpulist"];
        let absent =
            ["cpu.max", "memory.max", "cpuset.cpus.effective", "cpuidle/", "numa_balancing", "mountinfo"];
        for path in good().keys() {
            let mut machine = good();
            machine.remove(path);
            let findings = look(&machine, &[]);
            assert!(findings.iter().all(|finding| finding.state != State::Bad), "{path}: {findings:?}");
            let unknown =
                findings.iter().filter(|finding| is_of_files(finding) && finding.state == State::Unknown);
            let is_told = unknown.count() > 0;
            let may_be_silent = refine.iter().chain(&absent).any(|part| path.contains(part));
            assert!(is_told || may_be_silent || !cfg!(target_arch = "x86_64"), "nobody misses {path}");
        }
        let nothing = look(&Machine::new(), &[]);
        assert!(
            nothing
                .iter()
                .filter(|finding| is_of_files(finding))
                .all(|finding| finding.state == State::Unknown)
        );
        assert!(nothing.iter().all(|finding| !finding.reason.is_empty()));
    }

    #[test]
    fn settings_that_cannot_be_are_told_at_once() {
        let settings = Settings {
            cpus: Some(vec![99_999]),
            descriptors: None,
            measure: Some(Duration::ZERO),
            folder: Some("/there/is/no/such/folder".into()),
        };
        let told = Doctor::new(&settings).unwrap_err().to_string();
        for part in ["cpus is 99999", "seconds is 0", "folder is /there/is/no/such/folder"] {
            assert!(told.contains(part), "{told}");
        }
        let mut settings = Settings::default();
        assert!(settings.set_cpus("0,x").unwrap_err().to_string().contains("0-3,7"));
        settings.set_cpus("0").unwrap();
        assert_eq!(settings.cpus, Some(vec![0]));
        settings.set_cpus("mask").unwrap();
        assert_eq!(settings.cpus, None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]
        #[test]
        fn no_content_of_a_file_makes_a_look_fail_or_writes_a_command(
            noise in prop::collection::vec((any::<prop::sample::Index>(), "(\\PC|[\\n\\t0-9,:$`'\"-]){0,40}"), 1..8),
        ) {
            let mut machine = good();
            let paths: Vec<_> = machine.keys().copied().collect();
            for (at, text) in noise {
                machine.insert(paths[at.index(paths.len())], text);
            }
            let findings = look(&machine, &[]);
            for finding in &findings {
                prop_assert!(!finding.reason.is_empty());
                let costs = matches!(finding.state, State::Warn | State::Bad);
                prop_assert_eq!(costs, !finding.cost.is_empty(), "{:?}", finding);
            }
            let report = Report { cpus: vec![2, 3], debug: false, findings, measured: None };
            for line in report.fix_script().lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
                let line = line.strip_prefix(finding::OF_PROCESS).unwrap_or(line);
                let known = ["echo ", "sysctl -w ", "prlimit ", "taskset ", "grubby "];
                prop_assert!(known.iter().any(|command| line.starts_with(command)), "{}", line);
            }
        }
    }
}
