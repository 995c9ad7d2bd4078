//! The control group of this process: what it grants of CPUs, their time, and memory.
//!
//! # Mechanism
//! `/proc/self/cgroup` names the group in each hierarchy, `/proc/self/mountinfo` says where the hierarchies are
//! mounted, and from which of their groups on. A resource belongs to the hierarchy of version 1 that has its
//! controller, if there is one, and otherwise to version 2: on a hybrid machine both are there. Every group from this
//! process's up to the mounted one may set a limit, and the lowest holds. Source: the kernel's `cgroups(7)`,
//! `Documentation/admin-guide/cgroup-v2.rst` and `cgroup-v1/`.
//!
//! # What it does not do
//! It sees no limit above the mounted group: what a namespace hides stays hidden.

use super::cpus::parse_list;
use super::files::{Files, Seen, Unknown, short};
use super::mounts::mounts;

/// The longest path that the kernel gives.
const PATH_BYTES_MAX: usize = 4_096;

/// Version 1 has "no limit" as the largest number of pages; nothing that is real comes near.
const V1_NO_LIMIT: u64 = 1 << 62;

/// A version of control groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// The group of this process in the hierarchy of one controller.
#[derive(Debug)]
struct Group<'a> {
    files: &'a Files,
    version: Version,
    /// Folders from the group's own up to the mounted one.
    folders: Vec<String>,
}

impl<'a> Group<'a> {
    /// Finds the group that `controller` belongs to.
    fn find(files: &'a Files, controller: &str) -> Seen<Self> {
        let groups = files.text("/proc/self/cgroup")?;
        let mounts = mounts(files)?;
        let has = |list: &str| list.split(',').any(|word| word == controller);
        let groups = groups.lines().filter_map(|line| {
            let (_, rest) = line.split_once(':')?;
            rest.split_once(':').filter(|(_, path)| path.len() <= PATH_BYTES_MAX)
        });
        let groups: Vec<(&str, &str)> = groups.collect();
        let one = || {
            let (_, path) = groups.iter().find(|(controllers, _)| has(controllers))?;
            // The one that was mounted last hides those before it.
            let mount = mounts.iter().rev().find(|mount| mount.kind == "cgroup" && has(&mount.options))?;
            Some((Version::One, *path, mount))
        };
        let two = || {
            let (_, path) = groups.iter().find(|(controllers, _)| controllers.is_empty())?;
            let mount = mounts.iter().rev().find(|mount| mount.kind == "cgroup2")?;
            Some((Version::Two, *path, mount))
        };
        let (version, path, mount) = one().or_else(two).ok_or_else(|| {
            Unknown(format!("no control groups with the controller '{controller}' are mounted"))
        })?;
        if !files.is_folder(&mount.point) {
            return Err(Unknown(format!("{} is not there", short(&mount.point))));
        }
        let below = below(path, &mount.root).ok_or_else(|| {
            Unknown(format!("this process's control group, {}, is not in what is mounted", short(path)))
        })?;
        let point = mount.point.trim_end_matches('/');
        let mut folders = vec![point.to_string()];
        for name in below.split('/').filter(|name| !name.is_empty()) {
            folders.push(format!("{}/{name}", folders[folders.len() - 1]));
        }
        folders.reverse();
        Ok(Group { files, version, folders })
    }

    /// The lowest of all limits on the way up, and the folder of the group that sets it.
    fn lowest<T: PartialOrd>(
        &self,
        limit: impl Fn(&dyn Fn(&str) -> Option<String>) -> Option<T>,
    ) -> Option<(T, &str)> {
        let limits = self.folders.iter().filter_map(|folder| {
            let limit = limit(&|file| self.files.text(&format!("{folder}/{file}")).ok())?;
            Some((limit, folder.as_str()))
        });
        limits.reduce(|least, limit| if limit.0 < least.0 { limit } else { least })
    }
}

/// The rest of `path` below `root`; `None` where it is elsewhere.
fn below<'a>(path: &'a str, root: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(root.trim_end_matches('/'))?;
    let is_part = rest.is_empty() || rest.starts_with('/');
    // A group outside of this process's namespace is shown as `/..`.
    (is_part && !rest.split('/').any(|name| name == "..")).then_some(rest)
}

/// The share of CPU time that the group may use, in CPUs, and the file that sets it; `None` where it has no limit.
pub(super) fn quota_cpus(files: &Files) -> Seen<Option<(f64, String)>> {
    let group = Group::find(files, "cpu")?;
    let share = |quota: &str, period: &str| {
        let (quota, period) = (quota.parse::<u64>().ok()?, period.parse::<u64>().ok()?);
        // No quota is "max" or -1, neither of which is a `u64`.
        (quota > 0 && period > 0).then(|| quota as f64 / period as f64)
    };
    let file = match group.version {
        Version::One => "cpu.cfs_quota_us",
        Version::Two => "cpu.max",
    };
    let lowest = group.lowest(|read| match group.version {
        Version::One => share(&read(file)?, &read("cpu.cfs_period_us")?),
        Version::Two => {
            let max = read(file)?;
            let (quota, period) = max.split_once(' ')?;
            share(quota, period)
        }
    });
    Ok(lowest.map(|(share, folder)| (share, format!("{folder}/{file}"))))
}

/// The memory that the group may use, in bytes; `None` where it has no limit.
pub(super) fn memory_bytes(files: &Files) -> Seen<Option<u64>> {
    let group = Group::find(files, "memory")?;
    let (file, no_limit) = match group.version {
        Version::One => ("memory.limit_in_bytes", V1_NO_LIMIT),
        Version::Two => ("memory.max", u64::MAX),
    };
    let lowest = group.lowest(|read| read(file)?.parse::<u64>().ok().filter(|bytes| *bytes < no_limit));
    Ok(lowest.map(|(bytes, _)| bytes))
}

/// The CPUs that the group may use, and the file that sets them.
pub(super) fn cpuset(files: &Files) -> Seen<(Vec<usize>, String)> {
    let group = Group::find(files, "cpuset")?;
    let names: &[&str] = match group.version {
        Version::One => &["cpuset.effective_cpus", "cpuset.cpus"],
        Version::Two => &["cpuset.cpus.effective"],
    };
    // A group without the controller has what the one above it has, so the nearest holds.
    let all = group.folders.iter().flat_map(|folder| names.iter().map(move |name| (folder, name)));
    let mut found = all.filter_map(|(folder, name)| {
        let cpus = parse_list(&files.text(&format!("{folder}/{name}")).ok()?);
        (!cpus.is_empty()).then(|| (cpus, format!("{folder}/cpuset.cpus")))
    });
    found.next().ok_or_else(|| Unknown(format!("no {} has CPUs", names[0])))
}

#[cfg(all(test, not(pelton_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_found_below_what_is_mounted() {
        assert_eq!(below("/a/b", "/"), Some("/a/b"));
        assert_eq!(below("/a/b", "/a"), Some("/b"));
        assert_eq!(below("/a/b", "/a/b"), Some(""));
        assert_eq!(below("/", "/"), Some("/"));
        assert_eq!(below("/ab", "/a"), None);
        assert_eq!(below("/../other", "/"), None);
    }
}
