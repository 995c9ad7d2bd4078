//! CPUs: those of this process's mask, those of the machine, and which of them are one core.

use super::files::{Files, Seen};
use std::ops::RangeInclusive;
use std::sync::OnceLock;

/// The folder of all CPUs.
const CPUS: &str = "/sys/devices/system/cpu";

/// CPUs that a list can name: more than any machine has.
const LISTED_MAX: usize = 1 << 16;

/// The CPUs on which this process may run, as first seen. At least one.
///
/// ```
/// use pelton::host::{available, nameable, siblings};
/// assert!(!available().is_empty());
/// for cpu in nameable() {
///     println!("CPU {cpu} shares its core with {:?}", siblings(cpu));
/// }
/// ```
pub fn available() -> &'static [usize] {
    static CPUS: OnceLock<Vec<usize>> = OnceLock::new();
    CPUS.get_or_init(|| {
        let seen = [mask(), allowed(&Files::default(), "thread-self").unwrap_or_default()];
        seen.into_iter()
            .find(|cpus| !cpus.is_empty())
            .unwrap_or_else(|| (0..std::thread::available_parallelism().map_or(1, usize::from)).collect())
    })
}

/// The CPUs that may be named: those of the mask, and those that the machine has besides.
pub fn nameable() -> Vec<usize> {
    both(available(), &online(&Files::default()).unwrap_or_default())
}

/// The CPUs that share this one's core, itself among them; none where the system does not say.
pub fn siblings(cpu: usize) -> Vec<usize> {
    siblings_at(&Files::default(), cpu)
}

/// Reads a list of CPUs as the kernel and the program's options write it: `0-3,7`. Parts that are no numbers are left
/// out.
///
/// ```
/// use pelton::host::parse_list;
/// assert_eq!(parse_list("0-3,7"), [0, 1, 2, 3, 7]);
/// assert_eq!(parse_list("none"), []);
/// ```
pub fn parse_list(text: &str) -> Vec<usize> {
    let part = |part: &str| -> Option<RangeInclusive<usize>> {
        match part.split_once('-') {
            Some((from, to)) => Some(from.trim().parse().ok()?..=to.trim().parse().ok()?),
            None => part.trim().parse().ok().map(|cpu| cpu..=cpu),
        }
    };
    text.split(',').filter_map(part).flat_map(|range| range.take(4_096)).take(LISTED_MAX).collect()
}

/// Writes a list of CPUs as the kernel does: `0-3,7`. They keep their order.
///
/// ```
/// use pelton::host::list;
/// assert_eq!(list(&[0, 1, 2, 3, 7]), "0-3,7");
/// ```
pub fn list(cpus: &[usize]) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for &cpu in cpus {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(cpu) => *last = cpu,
            _ => ranges.push((cpu, cpu)),
        }
    }
    let range = |(from, to)| if from == to { format!("{from}") } else { format!("{from}-{to}") };
    ranges.into_iter().map(range).collect::<Vec<_>>().join(",")
}

/// The mask of the calling thread; empty where it cannot be asked for.
pub(crate) fn mask() -> Vec<usize> {
    #[cfg(feature = "affinity")]
    return core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect();
    #[cfg(not(feature = "affinity"))]
    Vec::new()
}

/// The same as `/proc` has it, of the process `who`.
pub(super) fn allowed(files: &Files, who: &str) -> Seen<Vec<usize>> {
    files.value(&format!("/proc/{who}/status"), "Cpus_allowed_list").map(|list| parse_list(&list))
}

pub(super) fn online(files: &Files) -> Seen<Vec<usize>> {
    files.text(&format!("{CPUS}/online")).map(|list| parse_list(&list))
}

/// CPUs of a kind (`isolated`, `nohz_full`) that only some kernels know: none where the kernel does not.
pub(super) fn of_kind(files: &Files, kind: &str) -> Seen<Vec<usize>> {
    online(files)?;
    Ok(files.text(&format!("{CPUS}/{kind}")).map(|list| parse_list(&list)).unwrap_or_default())
}

pub(super) fn siblings_at(files: &Files, cpu: usize) -> Vec<usize> {
    let list = files.text(&format!("{CPUS}/cpu{cpu}/topology/thread_siblings_list"));
    list.map(|list| parse_list(&list)).unwrap_or_default()
}

pub(super) fn both(some: &[usize], others: &[usize]) -> Vec<usize> {
    let mut cpus = [some, others].concat();
    cpus.sort_unstable();
    cpus.dedup();
    cpus
}

#[cfg(all(test, not(pelton_loom)))]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus_are_read_and_written_as_the_kernel_writes_them() {
        assert_eq!(parse_list("0-3,7"), [0, 1, 2, 3, 7]);
        assert_eq!(parse_list("5"), [5]);
        assert_eq!(parse_list("x,2-1,"), [] as [usize; 0]);
        for text in ["", "0", "0-3,7", "1,3,5-6", "18446744073709551615"] {
            assert_eq!(list(&parse_list(text)), text);
        }
        assert_eq!(list(&[3, 1, 2, 0]), "3,1-2,0");
    }

    #[test]
    fn a_list_that_never_ends_has_an_end() {
        assert!(parse_list(&"0-18446744073709551615,".repeat(100)).len() <= LISTED_MAX);
    }

    #[test]
    fn the_mask_is_what_the_system_says_of_this_process() {
        assert!(!available().is_empty());
        if let Ok(allowed) = allowed(&Files::default(), "self") {
            assert_eq!(available(), allowed);
        }
        assert!(available().iter().all(|cpu| nameable().contains(cpu)));
    }
}
