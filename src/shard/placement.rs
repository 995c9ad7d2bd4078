//! Placement: which CPU each shard runs on, and what became of the wish.
//!
//! # Traps, and what is done about them
//! - The mask that the system reports is the *calling thread's*: [`available`] asks for it once, before the first pin.
//! - A CPU that is isolated from the scheduler is missing from that mask and may still be named: a named CPU is
//!   looked up among those that the machine has, and its number is used as it is.
//! - A refused pin is a bare `false`: the mask is read back, and the thread counts as pinned if it holds that CPU alone.
//!
//! CPUs that the user names must exist; the plan is refused otherwise. CPUs that are not named are chosen: each shard gets
//! the CPU that the fewest shards have, from the end of the mask (its start usually takes the interrupts). What was chosen
//! and what was refused is reported either way.
//!
//! # Several engines in one process
//! The count of shards on each CPU is the process's, not the engine's, so the shards of a second engine go to CPUs that the
//! first has left free, and a shard that shares its CPU is reported as such whichever engine the other belongs to. The
//! threads of engines with the same name are numbered: `pelton-0` belongs to the first, `pelton2-0` to the second. An
//! engine gives back its CPUs when all its shards have ended, and its name when it is dropped. Both tables have a fixed size, so that an engine's
//! start allocates nothing that its footprint does not name: CPUs with a number of 1,024 and above, which no thread can be
//! pinned to, are not counted, and of more than 64 engines at once the last ones share a name.

use crate::event::{Key, ShardId};
use crate::host::available;
#[cfg(feature = "affinity")]
use crate::host::mask;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Where a shard runs.
///
/// ```
/// use pelton::ShardId;
/// use pelton::shard::Placement;
/// let placement = Placement { shard: ShardId(0), cpu: Some(3), named: true, pinned: true, shared: false };
/// assert_eq!(placement.to_string(), "shard 0 on CPU 3 (named, pinned)");
/// ```
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
    /// Whether another shard has the same CPU, of this engine or of another one in this process.
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

/// Engines of which the threads' names are kept apart.
const NAMES_MAX: usize = 64;

/// What the running engines of this process have taken.
struct Taken {
    /// How many shards have each CPU.
    cpus: [u16; MASK_BITS],
    /// The name of each engine's threads, as a hash, and its number among the engines of that name.
    names: [Option<(u64, u16)>; NAMES_MAX],
}

static TAKEN: Mutex<Taken> = Mutex::new(Taken { cpus: [0; MASK_BITS], names: [None; NAMES_MAX] });

fn taken() -> MutexGuard<'static, Taken> {
    TAKEN.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Taken {
    fn shards_on(&self, cpu: usize) -> u16 {
        self.cpus.get(cpu).copied().unwrap_or(0)
    }

    fn add(&mut self, cpu: usize) {
        if let Some(shards) = self.cpus.get_mut(cpu) {
            *shards = shards.saturating_add(1);
        }
    }

    fn remove(&mut self, cpu: usize) {
        if let Some(shards) = self.cpus.get_mut(cpu) {
            *shards = shards.saturating_sub(1);
        }
    }

    /// Takes a CPU for each shard.
    fn choose(&mut self, shards: u16, named: Option<&[usize]>, pin: bool) -> Vec<Placement> {
        let pool: Vec<usize> = match named {
            Some(cpus) => cpus.to_vec(),
            None => available().iter().rev().copied().collect(),
        };
        let placements = (0..shards).map(|shard| {
            let cpu = match named {
                Some(cpus) => cpus.get(usize::from(shard) % cpus.len().max(1)).copied(),
                // The first of those that the fewest shards have.
                None => pool.iter().copied().min_by_key(|cpu| self.shards_on(*cpu)),
            };
            let cpu = cpu.filter(|_| pin);
            cpu.into_iter().for_each(|cpu| self.add(cpu));
            Placement { shard: ShardId(shard), cpu, named: named.is_some(), pinned: false, shared: false }
        });
        let mut placements: Vec<_> = placements.collect();
        self.note_shared(&mut placements);
        placements
    }

    fn note_shared(&self, placements: &mut [Placement]) {
        for placement in placements {
            placement.shared = placement.cpu.is_some_and(|cpu| self.shards_on(cpu) > 1);
        }
    }

    fn give_back(&mut self, placements: &[Placement]) {
        placements.iter().filter_map(|placement| placement.cpu).for_each(|cpu| self.remove(cpu));
    }
}

/// The CPUs that [`take`] would choose now.
pub(crate) fn preview(shards: u16, named: Option<&[usize]>, pin: bool) -> Vec<Placement> {
    let mut taken = taken();
    let placements = taken.choose(shards, named, pin);
    taken.give_back(&placements);
    placements
}

/// Takes a CPU for each shard, until [`give_back`].
pub(crate) fn take(shards: u16, named: Option<&[usize]>, pin: bool) -> Vec<Placement> {
    taken().choose(shards, named, pin)
}

/// Gives back what [`take`] has taken.
pub(crate) fn give_back(placements: &[Placement]) {
    taken().give_back(placements);
}

/// Finds out which CPUs are shared now.
pub(crate) fn note_shared(placements: &mut [Placement]) {
    taken().note_shared(placements);
}

/// The right of one engine to the name of its threads.
pub(crate) struct ThreadNames {
    place: Option<usize>,
    number: u16,
}

impl ThreadNames {
    /// Takes the first number that no running engine of this name has.
    pub fn take(name: &str) -> Self {
        let hash = Key::of(name.as_bytes()).0;
        let names = &mut taken().names;
        let has = |number: u16| names.contains(&Some((hash, number)));
        let number = (1..=NAMES_MAX as u16).find(|number| !has(*number)).unwrap_or(1);
        let place = names.iter().position(Option::is_none);
        if let Some(place) = place {
            names[place] = Some((hash, number));
        }
        ThreadNames { place, number }
    }

    /// The name of a shard's thread.
    pub fn of(&self, name: &str, shard: ShardId) -> String {
        match self.number {
            1 => format!("{name}-{}", shard.0),
            number => format!("{name}{number}-{}", shard.0),
        }
    }
}

impl Drop for ThreadNames {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            taken().names[place] = None;
        }
    }
}

/// CPUs that the system's mask has room for (`cpu_set_t`): core_affinity ends the process where a number is larger.
const MASK_BITS: usize = 1_024;

/// Pins the calling thread; says whether it is there and nowhere else.
///
/// ```
/// use pelton::shard::{available, pin};
/// let cpu = available()[0];
/// match std::thread::spawn(move || pin(cpu)).join() {
///     Ok(true) => println!("the thread ran on CPU {cpu} alone"),
///     _ => println!("CPU {cpu} was refused"),
/// }
/// ```
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
///
/// ```
/// use pelton::shard::can_pin;
/// assert!(!can_pin(1 << 20));      // no machine has it
/// ```
pub fn can_pin(cpu: usize) -> bool {
    let tried = std::thread::Builder::new().spawn(move || pin(cpu));
    tried.is_ok_and(|thread| thread.join().unwrap_or(false))
}

#[cfg(all(test, not(pelton_loom)))]
mod tests {
    use super::*;

    #[test]
    fn too_few_cpus_are_shared_and_say_so() {
        // CPUs that no other test and no machine has.
        let placed = preview(3, Some(&[1_004, 1_002]), true);
        assert_eq!(placed.iter().map(|p| p.cpu.unwrap()).collect::<Vec<_>>(), [1_004, 1_002, 1_004]);
        assert_eq!(placed.iter().map(|p| p.shared).collect::<Vec<_>>(), [true, false, true]);
        assert!(placed[0].to_string().contains("named"), "{}", placed[0]);
        assert_eq!(preview(1, None, false)[0].cpu, None);
    }

    #[test]
    fn shards_of_several_engines_share_cpus_only_where_they_must() {
        let named = [1_010];
        let first = take(1, Some(&named), true);
        assert!(!first[0].shared);
        let second = take(1, Some(&named), true);
        assert!(second[0].shared);
        let mut of_first = first.clone();
        note_shared(&mut of_first);
        assert!(of_first[0].shared, "the first engine does not know of the second");
        give_back(&second);
        note_shared(&mut of_first);
        assert!(!of_first[0].shared);
        give_back(&first);
        assert_eq!(taken().shards_on(1_010), 0);
    }

    #[test]
    fn threads_of_engines_with_one_name_are_numbered() {
        let [first, second] = [(); 2].map(|()| ThreadNames::take("a test of names"));
        assert_eq!(first.of("x", ShardId(3)), "x-3");
        assert_eq!(second.of("x", ShardId(3)), "x2-3");
        drop(first);
        assert_eq!(ThreadNames::take("a test of names").of("x", ShardId(0)), "x-0");
    }
}
