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
#![forbid(unsafe_code)]

use super::cpus::parse_list;
use super::files::{Files, Seen, Unknown, short};

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

/// A line of `mountinfo`.
struct Mount {
    root: String,
    point: String,
    kind: String,
    options: String,
}

impl Mount {
    fn read(line: &str) -> Option<Self> {
        // 36 35 98:0 /root /point options [optional fields] - kind source options
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let mut after = after.split(' ');
        Some(Mount {
            root: plain(before.next()?),
            point: plain(before.next()?),
            kind: after.next()?.to_string(),
            options: after.nth(1)?.to_string(),
        })
    }
}

/// A path with `\040` and the like turned back into what they stand for.
fn plain(path: &str) -> String {
    let mut parts = path.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_string();
    for part in parts {
        let code = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code.filter(u8::is_ascii) {
            Some(byte) => {
                plain.push(byte.into());
                plain.push_str(&part[3..]);
            }
            None => {
                plain.push('\\');
                plain.push_str(part);
            }
        }
    }
    plain
}

impl<'a> Group<'a> {
    /// Finds the group that `controller` belongs to.
    fn find(files: &'a Files, controller: &str) -> Seen<Self> {
        let groups = files.text("/proc/self/cgroup")?;
        let mounts = files.text("/proc/self/mountinfo")?;
        let mounts: Vec<Mount> = mounts.lines().filter_map(Mount::read).collect();
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

    /// The lowest of all limits on the way up.
    fn lowest<T: PartialOrd>(
        &self,
        limit: impl Fn(&dyn Fn(&str) -> Option<String>) -> Option<T>,
    ) -> Option<T> {
        let limits = self
            .folders
            .iter()
            .filter_map(|folder| limit(&|file| self.files.text(&format!("{folder}/{file}")).ok()));
        limits.reduce(|least, limit| if limit < least { limit } else { least })
    }
}

/// The rest of `path` below `root`; `None` where it is elsewhere.
fn below<'a>(path: &'a str, root: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(root.trim_end_matches('/'))?;
    let is_part = rest.is_empty() || rest.starts_with('/');
    // A group outside of this process's namespace is shown as `/..`.
    (is_part && !rest.split('/').any(|name| name == "..")).then_some(rest)
}

/// The share of CPU time that the group may use, in CPUs; `None` where it has no limit.
pub(super) fn quota_cpus(files: &Files) -> Seen<Option<f64>> {
    let group = Group::find(files, "cpu")?;
    let share = |quota: &str, period: &str| {
        let (quota, period) = (quota.parse::<u64>().ok()?, period.parse::<u64>().ok()?);
        // No quota is "max" or -1, neither of which is a `u64`.
        (quota > 0 && period > 0).then(|| quota as f64 / period as f64)
    };
    Ok(group.lowest(|read| match group.version {
        Version::One => share(&read("cpu.cfs_quota_us")?, &read("cpu.cfs_period_us")?),
        Version::Two => {
            let max = read("cpu.max")?;
            let (quota, period) = max.split_once(' ')?;
            share(quota, period)
        }
    }))
}

/// The memory that the group may use, in bytes; `None` where it has no limit.
pub(super) fn memory_bytes(files: &Files) -> Seen<Option<u64>> {
    let group = Group::find(files, "memory")?;
    let (file, no_limit) = match group.version {
        Version::One => ("memory.limit_in_bytes", V1_NO_LIMIT),
        Version::Two => ("memory.max", u64::MAX),
    };
    Ok(group.lowest(|read| read(file)?.parse::<u64>().ok().filter(|bytes| *bytes < no_limit)))
}

/// The CPUs that the group may use.
pub(super) fn cpuset(files: &Files) -> Seen<Vec<usize>> {
    let group = Group::find(files, "cpuset")?;
    let names: &[&str] = match group.version {
        Version::One => &["cpuset.effective_cpus", "cpuset.cpus"],
        Version::Two => &["cpuset.cpus.effective"],
    };
    // A group without the controller has what the one above it has; that is in force already, so the nearest holds.
    let texts =
        group.folders.iter().flat_map(|folder| names.iter().map(move |name| format!("{folder}/{name}")));
    let found = texts.filter_map(|path| files.text(&path).ok()).map(|text| parse_list(&text));
    found
        .into_iter()
        .find(|cpus| !cpus.is_empty())
        .ok_or_else(|| Unknown(format!("no {} has CPUs", names[0])))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn paths_lose_their_escapes() {
        assert_eq!(plain("/a\\040b\\134c"), "/a b\\c");
        assert_eq!(plain("/odd\\9\\04é\\377"), "/odd\\9\\04é\\377");
    }

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
