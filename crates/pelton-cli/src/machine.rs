//! What there is to see of the machine.

use crate::doctor::model;
use crate::failure::Failure;
use crate::output::format::{bytes, cpus};
use crate::output::page::Page;
use pelton::memory::audit::is_installed;
use pelton::memory::footprint::host_memory_bytes;
use pelton::park::asymmetric_barrier;
use pelton::shard::{available, can_pin, nameable};

/// Prints what was found.
pub fn show(page: &mut Page) -> Result<(), Failure> {
    page.title("This machine")?;
    let mask = available();
    let there = nameable();
    let model =
        model().map_or(String::new(), |model| format!(" of {}", crate::output::format::clean(&model, 48)));
    page.fact("CPUs", &format!("{} in this process's mask: {}{model}", mask.len(), cpus(mask)))?;
    if there.len() > mask.len() {
        page.fact(
            "",
            &format!("{} in the machine: {}; those outside the mask may be named", there.len(), cpus(&there)),
        )?;
    }
    let memory = host_memory_bytes().map_or("unknown".into(), bytes);
    page.fact("memory", &format!("{memory} for this process"))?;
    let barrier = match asymmetric_barrier() {
        true => "the kernel has it: a publish pays no fence for sleeping shards",
        false => "the kernel refuses it: each publish pays a fence",
    };
    page.fact("barrier", barrier)?;
    let affinity = match can_pin(mask[mask.len() - 1]) {
        true => "a thread can be pinned",
        false => "pinning is refused: shards run where the system puts them",
    };
    page.fact("affinity", affinity)?;
    let allocator = match is_installed() {
        true => "mimalloc, counted for each thread",
        false => "not counted",
    };
    page.fact("allocator", allocator)?;
    let huge_pages = match huge_pages_are_off() {
        true => "off for this process: memory is resident as it was planned",
        false => "as the system and the plan have them: more may be resident than was planned",
    };
    page.fact("huge pages", huge_pages)
}

/// Whether this process may have huge pages. Not at first, and then only for a plan that asks for them: the allocator
/// asks for them wherever it can, and each rounds what is resident up to 2 MiB, so that it could not be compared with the
/// plan.
pub fn allow_huge_pages(allowed: bool) {
    // A kernel without this call gives what it likes; `show` tells.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(!allowed);
    #[cfg(not(target_os = "linux"))]
    let _ = allowed;
}

/// Before a gateway is served, or looked at: lets this process have as many descriptors as it may give itself: each connection takes one, and the usual limit of 1,024
/// is there for programs that would not know what to do with more.
pub fn raise_descriptors() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        // Where that is refused it stays as it was, and what is too many is told.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    }
}

fn huge_pages_are_off() -> bool {
    #[cfg(target_os = "linux")]
    return rustix::thread::transparent_huge_pages_are_disabled().unwrap_or(false);
    #[cfg(not(target_os = "linux"))]
    false
}
