//! Placement: which CPU each shard runs on, and what became of the wish.
//!
//! # Traps, and what is done about them
//! - The mask that the system reports is the *calling thread's*: [`available`] asks for it once, before the first pin.
//! - A CPU that is isolated from the scheduler is missing from that mask and may still be named: a named CPU is
//!   looked up among those that the machine has, and its number is used as it is.
//! - A refused pin is a bare `false`: the mask is read back, and the thread counts as pinned if it holds that CPU alone.
//!
//! CPUs that the user names must exist; the plan is refused otherwise. CPUs that are not named are chosen from the end
//! of the mask (its start usually takes the interrupts), more than one shard to a CPU where there are too few. What was
//! chosen and what was refused is reported either way.
#![forbid(unsafe_code)]

use crate::event::ShardId;
use crate::host::available;
#[cfg(feature = "affinity")]
use crate::host::mask;

/// Where a shard runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The shard.
    pub shard: ShardId,
    /// The CPU that was named or chosen; `None` where threads are not pinned.
    pub cpu: Option<usize>,
    /// Whether the user named it.
    pub named: bool,
    /// Whether the thread runs there and nowhere else. Known once the shard has started.
    pub pinned: bool,
    /// Whether another shard has the same CPU.
    pub shared: bool,
}

impl std::fmt::Display for Placement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.cpu {
            None => write!(f, "{} is not pinned", self.shard),
            Some(cpu) => {
                let how = if self.named { "named" } else { "chosen" };
                let pinned = if self.pinned { "pinned" } else { "pin refused" };
                let shared = if self.shared { ", shared with another shard" } else { "" };
                write!(f, "{} on CPU {cpu} ({how}, {pinned}{shared})", self.shard)
            }
        }
    }
}

/// Chooses a CPU for each shard.
pub(crate) fn choose(shards: u16, named: Option<&[usize]>, pin: bool) -> Vec<Placement> {
    let pool: Vec<usize> = match named {
        Some(cpus) => cpus.to_vec(),
        None => available().iter().rev().copied().collect(),
    };
    let is_shared = |at: usize| {
        (0..usize::from(shards)).any(|o| o != at && pool[o % pool.len()] == pool[at % pool.len()])
    };
    (0..shards)
        .map(|shard| {
            let at = usize::from(shard);
            let on = pin && !pool.is_empty();
            Placement {
                shard: ShardId(shard),
                cpu: on.then(|| pool[at % pool.len()]),
                named: named.is_some(),
                pinned: false,
                shared: on && is_shared(at),
            }
        })
        .collect()
}

/// CPUs that the system's mask has room for (`cpu_set_t`): core_affinity ends the process where a number is larger.
#[cfg(feature = "affinity")]
const MASK_BITS: usize = 1_024;

/// Pins the calling thread; says whether it is there and nowhere else.
pub fn pin(cpu: usize) -> bool {
    // Whoever pins first must not be the first to ask for the mask.
    let _ = available();
    #[cfg(feature = "affinity")]
    return cpu < MASK_BITS
        && core_affinity::set_for_current(core_affinity::CoreId { id: cpu })
        && mask() == [cpu];
    #[cfg(not(feature = "affinity"))]
    {
        let _ = cpu;
        false
    }
}

/// Whether a thread can be pinned to this CPU: tried on one that ends, so that the caller stays where it may run.
pub fn can_pin(cpu: usize) -> bool {
    let tried = std::thread::Builder::new().spawn(move || pin(cpu));
    tried.is_ok_and(|thread| thread.join().unwrap_or(false))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn too_few_cpus_are_shared_and_say_so() {
        let placed = choose(3, Some(&[4, 2]), true);
        assert_eq!(placed.iter().map(|p| p.cpu.unwrap()).collect::<Vec<_>>(), [4, 2, 4]);
        assert_eq!(placed.iter().map(|p| p.shared).collect::<Vec<_>>(), [true, false, true]);
        assert!(placed[0].to_string().contains("named"), "{}", placed[0]);
        assert_eq!(choose(1, None, false)[0].cpu, None);
    }
}
