//! CPUs: whether the engine has them, has them whole, and has them for itself.

use super::finding::{Finding, Topic, at_boot, of_process, write_to};
use pelton::host::{Files, Host, Seen, Unknown, list, parse_list};
use std::collections::BTreeMap;

/// The folder of all CPUs.
const CPUS: &str = "/sys/devices/system/cpu";

/// The longest that an idle CPU may take to wake up, in microseconds: a parked shard is woken in some 5 to 10 by a futex
/// alone.
const IDLE_EXIT_US_MAX: u64 = 10;

/// What everything here is judged by.
pub(super) struct Look<'a> {
    pub files: &'a Files,
    pub host: &'a Host,
    /// The CPUs that an engine uses.
    pub used: &'a [usize],
    /// Those of them to which no thread can be pinned.
    pub refused: &'a [usize],
}

pub(super) fn all(look: &Look<'_>) -> Vec<Finding> {
    vec![
        mask(look),
        pinning(look),
        quota(look),
        cpuset(look),
        siblings(look),
        numa(look),
        isolated(look),
        nohz_full(look),
        governor(look),
        idle(look),
    ]
}

fn cpus(id: &'static str, name: &'static str) -> Finding {
    Finding::new(Topic::Cpus, id, name)
}

fn number(n: usize) -> String {
    if n == 1 { "1 CPU".into() } else { format!("{n} CPUs") }
}

fn mask(Look { host, .. }: &Look<'_>) -> Finding {
    let finding = cpus("affinity_mask", "affinity mask");
    let mask = &host.cpus;
    if mask.is_empty() {
        return finding.unknown("the system does not say on which CPUs this process may run");
    }
    let all = host.nameable();
    let found = format!("{} ({})", list(mask), number(mask.len()));
    let finding = match (mask.len(), all.len()) {
        (1, 1) => finding.warn(
            found,
            "the machine has one CPU",
            "producers and shards take turns of some milliseconds each on one CPU",
        ),
        (1, there) => finding
            .warn(
                found,
                format!("one of {there} CPUs of the machine"),
                "producers and shards take turns of some milliseconds each on one CPU",
            )
            .fix(of_process(&format!("taskset -acp {}", list(&all)))),
        (n, there) if n < there => finding.ok(found, format!("{n} of {there} CPUs of the machine")),
        _ if host.online.is_ok() => finding.ok(found, "all that the machine has"),
        _ => finding.ok(found, "as the system says of this process"),
    };
    finding.value(mask.len() as f64, "CPUs")
}

fn pinning(Look { used, refused, .. }: &Look<'_>) -> Finding {
    let finding = cpus("pinning", "pinning");
    if refused.is_empty() {
        return finding.ok("granted", format!("a thread stays on {} where it is put", list(used)));
    }
    finding.bad(
        "refused",
        format!("no thread can be put on {}", list(refused)),
        "shards run where the system puts them and move, with cold caches, in the middle of their work",
    )
}

fn quota(Look { host, used, .. }: &Look<'_>) -> Finding {
    let finding = cpus("cpu_quota", "CPU quota");
    finding.of(host.quota_cpus.clone(), |finding, quota| {
        let Some(quota) = quota else {
            return finding.ok("none", "no control group limits the time on CPUs");
        };
        let found = format!("{quota:.2} CPUs");
        let finding = if quota >= used.len() as f64 {
            finding.ok(found, format!("enough for {} that never rest", number(used.len())))
        } else {
            finding.bad(
                found,
                format!("less than the {} that are used", number(used.len())),
                "threads that spin use it up and then stand still to the end of each period, up to 100 ms",
            )
        };
        let file = host.quota_file.as_deref().unwrap_or_default();
        let none = if file.ends_with("cpu.max") { "max" } else { "-1" };
        let finding = finding.value(quota, "CPUs");
        if file.is_empty() { finding } else { finding.fix(write_to(file, none)) }
    })
}

fn cpuset(Look { host, used, .. }: &Look<'_>) -> Finding {
    let finding = cpus("cpuset", "cpuset");
    finding.of(host.cpuset.clone(), |finding, set| {
        let outside: Vec<usize> = used.iter().copied().filter(|cpu| !set.contains(cpu)).collect();
        let found = format!("{} ({})", list(&set), number(set.len()));
        if outside.is_empty() {
            return finding.ok(found, "holds all CPUs that are used").value(set.len() as f64, "CPUs");
        }
        let mut all = [set.as_slice(), outside.as_slice()].concat();
        all.sort_unstable();
        let finding = finding
            .bad(
                found,
                format!("does not hold {}", list(&outside)),
                "no thread can be pinned outside of it: shards share what is left",
            )
            .value(set.len() as f64, "CPUs");
        match &host.cpuset_file {
            Some(file) => finding.fix(write_to(file, &list(&all))),
            None => finding,
        }
    })
}

fn siblings(Look { host, used, .. }: &Look<'_>) -> Finding {
    let finding = cpus("smt_siblings", "SMT siblings");
    let of: Vec<&[usize]> = used.iter().map(|cpu| host.siblings(*cpu)).collect();
    if of.iter().any(|siblings| siblings.is_empty()) {
        return finding.unknown(format!("{CPUS}/cpu*/topology does not say which CPUs are one core"));
    }
    let shared: Vec<usize> = used
        .iter()
        .zip(&of)
        .filter(|(cpu, siblings)| used.iter().any(|other| other != *cpu && siblings.contains(other)))
        .map(|(cpu, _)| *cpu)
        .collect();
    if !shared.is_empty() {
        return finding
            .warn(
                format!("{} in pairs", list(&shared)),
                "two hardware threads of one core are both used",
                "each takes execution units and caches from the other: both are slower, and less even",
            )
            .value(shared.len() as f64, "CPUs")
            .fix(write_to(&format!("{CPUS}/smt/control"), "off"));
    }
    let finding = finding.value(0.0, "CPUs");
    if of.iter().all(|siblings| siblings.len() == 1) {
        return finding.ok("none", "each CPU that is used is a core");
    }
    finding.ok("not used", "each CPU that is used has a core of its own; leave its sibling idle")
}

fn numa(Look { files, used, .. }: &Look<'_>) -> Finding {
    let finding = cpus("numa", "NUMA");
    const NODES: &str = "/sys/devices/system/node";
    finding.of(files.text(&format!("{NODES}/online")), |finding, online| {
        let nodes = parse_list(&online);
        let mut of_used: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for node in &nodes {
            let cpus = files.text(&format!("{NODES}/node{node}/cpulist")).unwrap_or_default();
            let cpus = parse_list(&cpus);
            let here: Vec<usize> = used.iter().copied().filter(|cpu| cpus.contains(cpu)).collect();
            if !here.is_empty() {
                of_used.insert(*node, here);
            }
        }
        let found = if nodes.len() == 1 { "1 node".into() } else { format!("{} nodes", nodes.len()) };
        let balancing = files.text("/proc/sys/kernel/numa_balancing").is_ok_and(|on| on != "0");
        let finding = if of_used.len() > 1 {
            let parts: Vec<String> =
                of_used.iter().map(|(node, cpus)| format!("{} on node {node}", list(cpus))).collect();
            finding.warn(
                found,
                format!("CPUs that are used: {}", parts.join(", ")),
                "an event that crosses nodes costs two to four times as much as within one",
            )
        } else if nodes.len() > 1 && balancing {
            finding
                .warn(
                    found,
                    "the kernel moves pages between nodes",
                    "it takes pages away to see who uses them: page faults in the middle of events",
                )
                .fix("sysctl -w kernel.numa_balancing=0")
        } else if nodes.is_empty() {
            return finding.unknown(format!("{NODES}/online names no node"));
        } else {
            finding.ok(found, "all CPUs that are used are on one node")
        };
        finding.value(nodes.len() as f64, "nodes")
    })
}

/// CPUs of a kind that the kernel must be told of at boot: all that are used should be among them.
fn of_boot(
    finding: Finding,
    look: &Look<'_>,
    there: &Seen<Vec<usize>>,
    cost: &str,
    argument: impl Fn(&str) -> String,
) -> Finding {
    finding.of(there.clone(), |finding, there| {
        let found = if there.is_empty() { "none".into() } else { list(&there) };
        let without: Vec<usize> = look.used.iter().copied().filter(|cpu| !there.contains(cpu)).collect();
        let finding = if without.is_empty() {
            finding.ok(found, "holds all CPUs that are used")
        } else {
            finding.warn(found, format!("does not hold {}", list(&without)), cost)
        };
        // The kernel itself needs one that is not.
        let first = look.host.online.as_deref().unwrap_or_default().first().copied();
        let rest: Vec<usize> = look.used.iter().copied().filter(|cpu| Some(*cpu) != first).collect();
        let finding = finding.value(there.len() as f64, "CPUs");
        if rest.is_empty() {
            return finding;
        }
        finding.fix(at_boot(&argument(&list(&rest))))
    })
}

fn isolated(look: &Look<'_>) -> Finding {
    let cost = "other threads may run there: each takes turns of some milliseconds from a shard";
    let finding = cpus("isolated_cpus", "isolated CPUs");
    of_boot(finding, look, &look.host.isolated, cost, |list| format!("isolcpus=managed_irq,domain,{list}"))
}

fn nohz_full(look: &Look<'_>) -> Finding {
    let cost = "the kernel's tick interrupts a spinning shard 100 to 1000 times a second, for 1 to 5 µs each";
    let finding = cpus("nohz_full_cpus", "nohz_full CPUs");
    of_boot(finding, look, &look.host.nohz_full, cost, |list| format!("nohz_full={list}"))
}

/// What every CPU that is used has in a file of its own, by what it says.
fn of_each(look: &Look<'_>, file: &str) -> Seen<BTreeMap<String, Vec<usize>>> {
    let mut of: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for cpu in look.used {
        of.entry(look.files.text(&format!("{CPUS}/cpu{cpu}/{file}"))?).or_default().push(*cpu);
    }
    Ok(of)
}

fn governor(look: &Look<'_>) -> Finding {
    const FILE: &str = "cpufreq/scaling_governor";
    let seen = of_each(look, FILE).map_err(|Unknown(why)| Unknown(format!("{why}: a host may decide")));
    cpus("governor", "governor").of(seen, |finding, governors| {
        let slow: Vec<usize> = governors
            .iter()
            .filter(|(name, _)| *name != "performance")
            .flat_map(|(_, cpus)| cpus.clone())
            .collect();
        let found = governors.keys().cloned().collect::<Vec<_>>().join(", ");
        if slow.is_empty() {
            return finding.ok(found, "CPUs keep their highest frequency");
        }
        let mut finding = finding.warn(
            found,
            format!("{} may clock down", list(&slow)),
            "after a quiet moment the first events are handled at a lower frequency, for milliseconds",
        );
        for cpu in slow {
            finding = finding.fix(write_to(&format!("{CPUS}/cpu{cpu}/{FILE}"), "performance"));
        }
        finding
    })
}

/// An idle state of a CPU that is in use.
struct Idle {
    cpu: usize,
    folder: String,
    name: String,
    exit_us: u64,
}

fn idle(Look { files, used, .. }: &Look<'_>) -> Finding {
    let mut finding = cpus("idle_states", "idle states");
    let mut states = Vec::new();
    for cpu in *used {
        let folder = format!("{CPUS}/cpu{cpu}/cpuidle");
        for state in files.names(&folder).iter().filter(|name| name.starts_with("state")) {
            let folder = format!("{folder}/{state}");
            let is_on = files.text(&format!("{folder}/disable")).map_or(true, |off| off == "0");
            let exit_us = files.text(&format!("{folder}/latency")).ok().and_then(|us| us.parse().ok());
            let name = files.text(&format!("{folder}/name")).unwrap_or_default();
            if let (true, Some(exit_us)) = (is_on, exit_us) {
                states.push(Idle { cpu: *cpu, folder, name, exit_us });
            }
        }
    }
    let Some(deepest) = states.iter().max_by_key(|state| state.exit_us) else {
        return finding.unknown(format!("{CPUS}/cpu*/cpuidle names no state: a host may decide"));
    };
    let exit_us = deepest.exit_us;
    let found = format!("{}, {exit_us} µs", deepest.name);
    finding = if exit_us <= IDLE_EXIT_US_MAX {
        finding.ok(found, format!("the deepest is left within {IDLE_EXIT_US_MAX} µs"))
    } else {
        finding.warn(
            found,
            format!("CPU {} takes more than {IDLE_EXIT_US_MAX} µs to wake up", deepest.cpu),
            "a parked shard handles its first event that much later; a spinning one never idles",
        )
    };
    for state in states.iter().filter(|state| state.exit_us > IDLE_EXIT_US_MAX) {
        finding = finding.fix(write_to(&format!("{}/disable", state.folder), "1"));
    }
    finding.value(exit_us as f64, "µs")
}
