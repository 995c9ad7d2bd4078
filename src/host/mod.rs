//! The host: what the machine and the system let this process have, read from `/proc` and `/sys`.
//!
//! # Mechanism
//! [`Host::look`] reads it all once, in about a millisecond; nothing is changed, and nothing needs a privilege.
//! [`Host::at`] reads another folder in place of `/`, and a test may fill in the fields by hand. What cannot be known
//! is [`Unknown`], with the reason, and never a guess: anything but Linux, a container that hides `/sys`, a file that
//! may not be read.
//!
//! # Limits
//! The mask is the *calling thread's*, and a thread inherits its creator's: it is asked for once, by whoever asks
//! first, and kept for the life of the process. A CPU that is isolated from the scheduler is missing from the mask and
//! may still be named.
//!
//! # Examples
//! ```
//! use pelton::host::Host;
//! let half = Host { cpus: vec![0, 1], quota_cpus: Ok(Some(0.5)), ..Host::unknown() };
//! assert_eq!(half.quota(), Some(0.5));
//! assert_eq!(half.memory_bytes(), None);
//! ```

mod files;
mod cpus;
mod mounts;
mod group;

#[cfg(feature = "affinity")]
pub(crate) use cpus::mask;
pub use cpus::{available, list, nameable, parse_list, siblings};

pub use files::{BYTES_MAX, Files, Seen, Unknown, read_bounded, read_text};
pub use mounts::file_system;

use std::collections::BTreeMap;
use std::path::Path;

/// What this process may use.
#[derive(Clone, Debug, PartialEq)]
pub struct Host {
    /// The CPUs of this process's mask, in ascending order.
    pub cpus: Vec<usize>,
    /// The CPUs that are online.
    pub online: Seen<Vec<usize>>,
    /// The CPUs that the scheduler leaves alone.
    pub isolated: Seen<Vec<usize>>,
    /// The CPUs on which the kernel stops its tick while one thread alone runs.
    pub nohz_full: Seen<Vec<usize>>,
    /// For each CPU those that share its core, itself among them; a CPU of which nothing is known is missing.
    pub siblings: BTreeMap<usize, Vec<usize>>,
    /// The CPUs of the control group.
    pub cpuset: Seen<Vec<usize>>,
    /// The file that sets them.
    pub cpuset_file: Option<String>,
    /// The CPU time that the control group grants, in CPUs: 0.5 is half of one. `None` where there is no quota.
    pub quota_cpus: Seen<Option<f64>>,
    /// The file that sets the quota, where there is one.
    pub quota_file: Option<String>,
    /// The memory of the machine, in bytes.
    pub machine_bytes: Seen<u64>,
    /// The memory that the control group grants, in bytes. `None` where there is no limit.
    pub limit_bytes: Seen<Option<u64>>,
    /// The descriptors that this process may have, its soft limit. `None` where there is none.
    pub files_max: Seen<Option<u64>>,
}

impl Host {
    /// Looks at this machine.
    ///
    /// ```
    /// use pelton::host::Host;
    /// let host = Host::look();
    /// println!("CPUs {:?}, {:?} bytes", host.cpus, host.memory_bytes());
    /// if let Err(why) = &host.isolated {
    ///     println!("isolated CPUs are not known: {why}");
    /// }
    /// ```
    pub fn look() -> Self {
        Host::read(&Files::default(), Some(available().to_vec()))
    }

    /// Looks at what a plan is checked against: CPUs, quota and memory, a few files on a machine of any size. The rest
    /// stays unknown.
    ///
    /// ```
    /// use pelton::host::Host;
    /// let host = Host::look_quick();
    /// assert!(!host.cpus.is_empty());
    /// assert!(host.cpuset.is_err());      // nobody has looked
    /// ```
    pub fn look_quick() -> Self {
        Host::limits(&Files::default(), available().to_vec())
    }

    /// Looks at the CPUs of the mask and at the quota alone.
    ///
    /// ```
    /// use pelton::host::{Host, available};
    /// let host = Host::look_at_cpus();
    /// assert_eq!(host.cpus, available());
    /// let threads = host.cpus.len().min(host.quota_whole());
    /// assert!(threads >= 1);
    /// ```
    pub fn look_at_cpus() -> Self {
        Host { cpus: available().to_vec(), ..Host::time(&Files::default()) }
    }

    /// Looks at the files below `root` as if it were `/`.
    ///
    /// ```
    /// use pelton::host::Host;
    /// let root = tempfile::tempdir()?;
    /// std::fs::create_dir(root.path().join("proc"))?;
    /// std::fs::write(root.path().join("proc/meminfo"), "MemTotal:  2048 kB\n")?;
    /// assert_eq!(Host::at(root.path()).machine_bytes, Ok(2 << 20));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn at(root: &Path) -> Self {
        Host::read(&Files::below(root), None)
    }

    /// A host of which nothing is known: the start of one that is made up.
    ///
    /// ```
    /// use pelton::host::Host;
    /// let host = Host {
    ///     cpus: vec![0, 1],
    ///     online: Ok(vec![0, 1, 2, 3]),
    ///     siblings: [(0, vec![0, 2])].into(),
    ///     quota_cpus: Ok(Some(1.5)),
    ///     machine_bytes: Ok(8 << 30),
    ///     limit_bytes: Ok(Some(1 << 30)),
    ///     ..Host::unknown()
    /// };
    /// assert_eq!((host.quota(), host.quota_whole()), (Some(1.5), 2));
    /// assert_eq!(host.memory_bytes(), Some(1 << 30));         // the lower of the two
    /// assert_eq!((host.nameable(), host.siblings(0)), (vec![0, 1, 2, 3], &[0, 2][..]));
    /// ```
    pub fn unknown() -> Self {
        fn not<T>() -> Seen<T> {
            Err(Unknown("nobody has looked".into()))
        }
        Host {
            cpus: Vec::new(),
            online: not(),
            isolated: not(),
            nohz_full: not(),
            siblings: BTreeMap::new(),
            cpuset: not(),
            cpuset_file: None,
            quota_cpus: not(),
            quota_file: None,
            machine_bytes: not(),
            limit_bytes: not(),
            files_max: not(),
        }
    }

    fn read(files: &Files, mask: Option<Vec<usize>>) -> Self {
        let cpus = mask.unwrap_or_else(|| cpus::allowed(files, "self").unwrap_or_default());
        let host = Host::limits(files, cpus);
        let (cpuset, cpuset_file) = match group::cpuset(files) {
            Ok((cpus, file)) => (Ok(cpus), Some(file)),
            Err(unknown) => (Err(unknown), None),
        };
        let siblings = host.nameable().into_iter().map(|cpu| (cpu, cpus::siblings_at(files, cpu)));
        Host {
            siblings: siblings.filter(|(_, siblings)| !siblings.is_empty()).collect(),
            isolated: cpus::of_kind(files, "isolated"),
            nohz_full: cpus::of_kind(files, "nohz_full"),
            cpuset,
            cpuset_file,
            ..host
        }
    }

    /// What limits an engine.
    fn limits(files: &Files, cpus: Vec<usize>) -> Self {
        Host {
            cpus,
            online: cpus::online(files),
            machine_bytes: files.kib("/proc/meminfo", "MemTotal"),
            limit_bytes: group::memory_bytes(files),
            files_max: files.limit("Max open files"),
            ..Host::time(files)
        }
    }

    /// The quota.
    fn time(files: &Files) -> Self {
        let (quota_cpus, quota_file) = match group::quota_cpus(files) {
            Ok(quota) => (Ok(quota.as_ref().map(|(share, _)| *share)), quota.map(|(_, file)| file)),
            Err(unknown) => (Err(unknown), None),
        };
        Host { quota_cpus, quota_file, ..Host::unknown() }
    }

    /// The CPUs that may be named: those of the mask, and those that the machine has besides.
    pub fn nameable(&self) -> Vec<usize> {
        cpus::both(&self.cpus, self.online.as_deref().unwrap_or_default())
    }

    /// The CPU time that the control group grants, in CPUs; `None` where there is no quota, or none that is known.
    pub fn quota(&self) -> Option<f64> {
        self.quota_cpus.as_ref().ok().copied().flatten()
    }

    /// How many CPUs the quota keeps busy at most: what it grants, rounded up, and at least one; `usize::MAX` where
    /// there is no quota, or none that is known.
    pub fn quota_whole(&self) -> usize {
        // What is more than a `usize` holds becomes its largest value.
        self.quota().map_or(usize::MAX, |cpus| (cpus.ceil() as usize).max(1))
    }

    /// The memory that this process may take, in bytes: the machine's, or its control group's limit where that is
    /// lower. `None` where the machine's is not known.
    pub fn memory_bytes(&self) -> Option<u64> {
        let machine = *self.machine_bytes.as_ref().ok()?;
        let limit = self.limit_bytes.as_ref().ok().copied().flatten();
        Some(limit.map_or(machine, |limit| limit.min(machine)))
    }

    /// The CPUs that share this one's core, itself among them; none where that is not known.
    pub fn siblings(&self, cpu: usize) -> &[usize] {
        self.siblings.get(&cpu).map_or(&[], Vec::as_slice)
    }
}

/// The memory that this process may take, in bytes: the machine's, or its control group's limit where that is lower.
/// `None` where the system does not say (anything but Linux).
///
/// ```
/// if let Some(bytes) = pelton::host::memory_bytes() {
///     println!("{}", pelton::words::bytes(bytes));
/// }
/// ```
pub fn memory_bytes() -> Option<u64> {
    let files = Files::default();
    let machine_bytes = files.kib("/proc/meminfo", "MemTotal");
    Host { machine_bytes, limit_bytes: group::memory_bytes(&files), ..Host::unknown() }.memory_bytes()
}

#[cfg(all(test, not(pelton_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A machine of a few files.
    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    fn look(files: &[(&str, &str)]) -> Host {
        Host::at(machine(files).path())
    }

    const MEMINFO: (&str, &str) = ("proc/meminfo", "MemTotal:       16384 kB\nMemFree:  1 kB\n");
    const MIB: u64 = 1 << 20;

    #[test]
    fn version_2_takes_the_lowest_limit_on_the_way_up() {
        let host = look(&[
            MEMINFO,
            ("proc/self/status", "Name:\tx\nCpus_allowed:\t6\nCpus_allowed_list:\t1-2\n"),
            ("proc/self/cgroup", "0::/system.slice/a.service/worker\n"),
            (
                "proc/self/mountinfo",
                "24 1 0:21 / /proc rw - proc proc rw\n\
                 30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n",
            ),
            ("sys/fs/cgroup/cpuset.cpus.effective", "0-3\n"),
            ("sys/fs/cgroup/system.slice/cpu.max", "150000 100000\n"),
            ("sys/fs/cgroup/system.slice/memory.max", "8388608\n"),
            ("sys/fs/cgroup/system.slice/cpuset.cpus.effective", "0-2\n"),
            ("sys/fs/cgroup/system.slice/a.service/cpu.max", "max 100000\n"),
            ("sys/fs/cgroup/system.slice/a.service/memory.max", "12582912\n"),
            ("sys/fs/cgroup/system.slice/a.service/worker/cpu.max", "400000 100000\n"),
            ("sys/fs/cgroup/system.slice/a.service/worker/memory.max", "max\n"),
            ("sys/devices/system/cpu/online", "0-3\n"),
            ("sys/devices/system/cpu/isolated", "3\n"),
            ("sys/devices/system/cpu/cpu1/topology/thread_siblings_list", "0-1\n"),
        ]);
        assert_eq!(host.cpus, [1, 2]);
        assert_eq!(host.nameable(), [0, 1, 2, 3]);
        assert_eq!((host.quota_cpus.clone(), host.quota()), (Ok(Some(1.5)), Some(1.5)));
        assert_eq!(host.quota_file.as_deref(), Some("/sys/fs/cgroup/system.slice/cpu.max"));
        assert_eq!((host.limit_bytes.clone(), host.memory_bytes()), (Ok(Some(8 * MIB)), Some(8 * MIB)));
        assert_eq!(host.cpuset_file.as_deref(), Some("/sys/fs/cgroup/system.slice/cpuset.cpus"));
        assert_eq!(host.cpuset, Ok(vec![0, 1, 2]));
        assert_eq!((host.isolated.clone(), host.nohz_full.clone()), (Ok(vec![3]), Ok(vec![])));
        assert_eq!((host.siblings(1), host.siblings(2)), (&[0, 1][..], &[][..]));
    }

    #[test]
    fn version_1_in_a_container_reads_from_what_is_mounted() {
        let host = look(&[
            MEMINFO,
            (
                "proc/self/cgroup",
                "12:cpu,cpuacct:/docker/9f/in\n5:memory:/docker/9f\n3:cpuset:/docker/9f\n1:name=systemd:/docker/9f\n",
            ),
            (
                "proc/self/mountinfo",
                "40 30 0:30 /docker/9f /sys/fs/cgroup/cpu,cpuacct ro master:11 - cgroup cgroup rw,cpu,cpuacct\n\
                 41 30 0:31 /docker/9f /sys/fs/cgroup/memory ro master:12 - cgroup cgroup rw,memory\n\
                 42 30 0:32 /docker/9f /sys/fs/cgroup/cpuset ro master:13 - cgroup cgroup rw,cpuset\n",
            ),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "50000\n"),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
            ("sys/fs/cgroup/cpu,cpuacct/in/cpu.cfs_quota_us", "-1\n"),
            ("sys/fs/cgroup/cpu,cpuacct/in/cpu.cfs_period_us", "100000\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/fs/cgroup/cpuset/cpuset.cpus", "2,3\n"),
        ]);
        assert_eq!(host.quota_cpus, Ok(Some(0.5)));
        assert_eq!(host.quota_file.as_deref(), Some("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us"));
        assert_eq!((host.limit_bytes.clone(), host.memory_bytes()), (Ok(None), Some(16 * MIB)));
        assert_eq!(host.cpuset, Ok(vec![2, 3]));
    }

    #[test]
    fn a_hybrid_asks_the_version_that_has_the_controller() {
        let files = [
            MEMINFO,
            ("proc/self/cgroup", "4:memory:/api/9b\n1:cpu:/\n0::/user\n"),
            (
                "proc/self/mountinfo",
                "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
                 32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                 35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                 41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
            ),
            ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1"),
            ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712"),
            ("sys/fs/cgroup/memory/api/memory.limit_in_bytes", "4194304"),
            ("sys/fs/cgroup/memory/api/9b/memory.limit_in_bytes", "8388608"),
            ("sys/fs/cgroup/unified/user/cpu.max", "1 100000"),
            ("sys/fs/cgroup/unified/user/memory.max", "1"),
            ("sys/fs/cgroup/unified/user/cpuset.cpus.effective", "7"),
        ];
        let host = look(&files);
        assert_eq!(host.quota_cpus, Ok(None));
        assert_eq!(host.memory_bytes(), Some(4 * MIB));
        // No hierarchy of version 1 has this one.
        assert_eq!(host.cpuset, Ok(vec![7]));
    }

    #[test]
    fn what_is_not_there_is_unknown_with_the_reason() {
        let host = look(&[]);
        assert_eq!(host.cpus, [] as [usize; 0]);
        let told = host.quota_cpus.clone().unwrap_err().to_string();
        assert_eq!(told, "/proc/self/cgroup is not there");
        assert_eq!((host.quota(), host.memory_bytes()), (None, None));
        // Mounted as the kernel says, and hidden by another file system.
        let hidden = look(&[
            MEMINFO,
            ("proc/self/cgroup", "0::/a\n"),
            ("proc/self/mountinfo", "30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"),
        ]);
        assert_eq!(hidden.quota_cpus.clone().unwrap_err().to_string(), "/sys/fs/cgroup is not there");
        assert_eq!(hidden.memory_bytes(), Some(16 * MIB));
        assert!(hidden.isolated.is_err() && hidden.online.is_err());
        // Not mounted, and in a group that this namespace does not show.
        let bare = look(&[("proc/self/cgroup", "0::/a\n"), ("proc/self/mountinfo", "")]);
        assert!(bare.cpuset.unwrap_err().to_string().contains("'cpuset'"));
        let outside = look(&[
            ("proc/self/cgroup", "0::/../../a\n"),
            ("proc/self/mountinfo", "30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"),
            ("sys/fs/cgroup/cpu.max", "1 2"),
        ]);
        assert!(outside.quota_cpus.unwrap_err().to_string().contains("is not in what is mounted"));
    }

    #[test]
    fn this_machine_can_be_looked_at() {
        let host = Host::look();
        assert_eq!(host.cpus, available());
        assert_eq!(host.memory_bytes(), memory_bytes());
        assert!(host.quota().is_none_or(|cpus| cpus > 0.0));
        // The shorter looks see the same, and read nothing else.
        let quick = Host::look_quick();
        assert_eq!(quick.siblings, BTreeMap::new());
        assert!(quick.isolated.is_err() && quick.cpuset.is_err());
        let Host { cpus, online, quota_cpus, quota_file, machine_bytes, limit_bytes, files_max, .. } = host;
        let same = Host { cpus, quota_cpus, quota_file, ..Host::unknown() };
        assert_eq!(Host::look_at_cpus(), same);
        assert_eq!(quick, Host { online, machine_bytes, limit_bytes, files_max, ..same });
    }

    #[test]
    fn a_quota_keeps_whole_cpus_busy() {
        let of = |quota| Host { quota_cpus: quota, ..Host::unknown() }.quota_whole();
        assert_eq!([0.01, 1.0, 1.5, 2.0].map(|quota| of(Ok(Some(quota)))), [1, 1, 2, 2]);
        assert_eq!([of(Ok(None)), Host::unknown().quota_whole()], [usize::MAX; 2]);
    }

    /// A file's content: noise, or a piece of the real thing with noise in it.
    fn content() -> impl Strategy<Value = Vec<u8>> {
        let real = prop::sample::select(vec![
            "0::/a/b",
            "1:cpu,memory,cpuset:/",
            "0::/..",
            "max 100000",
            "-1",
            "0 0",
            "1 0",
            "0-3,7",
            "(null)",
            "9223372036854771712",
            "18446744073709551616",
            "MemTotal: 99999999999999999999 kB",
            "MemTotal:",
            "1 2 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw",
            "1 2 0:1 / /x\\04 rw - cgroup cgroup rw,cpu",
            "1 2 0:1 / - cgroup2",
            " - ",
            "Cpus_allowed_list:\t0-18446744073709551615",
            "::",
            "\n",
            "\\",
            "/",
        ]);
        let piece = prop_oneof![
            real.prop_map(|text| text.as_bytes().to_vec()),
            prop::collection::vec(any::<u8>(), 0..12),
            "[0-9:/,\\\\ \n-]{0,12}".prop_map(String::into_bytes),
        ];
        prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn no_content_of_any_file_makes_it_panic(contents in prop::collection::vec(content(), 12)) {
            let root = tempfile::tempdir().unwrap();
            for (path, text) in [
                "proc/self/cgroup", "proc/self/mountinfo", "proc/self/status", "proc/meminfo",
                "sys/fs/cgroup/cpu.max", "sys/fs/cgroup/memory.max", "sys/fs/cgroup/cpuset.cpus.effective",
                "sys/fs/cgroup/a/b/cpu.max", "sys/fs/cgroup/a/memory.max", "sys/devices/system/cpu/online",
                "sys/devices/system/cpu/nohz_full", "sys/devices/system/cpu/cpu0/topology/thread_siblings_list",
            ].iter().zip(&contents) {
                let path = root.path().join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            }
            let host = Host::at(root.path());
            prop_assert!(host.quota().is_none_or(|cpus| cpus > 0.0 && cpus.is_finite()));
            let _ = (host.memory_bytes(), host.nameable());
        }
    }
}
