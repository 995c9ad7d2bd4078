//! The footprint: what an engine will take, as a sum in which every term has a name.

pub use crate::host::memory_bytes as host_memory_bytes;
use std::fmt;

/// Bytes of what an `Arc` of a `T` allocates: two counts, padded, and the value.
///
/// ```
/// use pelton::memory::footprint::arc_bytes;
/// assert_eq!(arc_bytes::<u64>(), 3 * size_of::<usize>());
/// ```
pub const fn arc_bytes<T>() -> usize {
    (2 * size_of::<usize>()).next_multiple_of(align_of::<T>()) + size_of::<T>()
}

/// What a term belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// The slots of a class.
    Class,
    /// The payload rings of a class.
    PayloadRing,
    /// A lane, outside its region: its ends, cursors and ledger.
    Lane,
    /// A shard: the edges of its region, its tables, its quarantine.
    Shard,
    /// Tallies of latencies.
    Histogram,
    /// Memory that is lent to handlers.
    Scratch,
    /// What handlers take of their own accord, as far as the plan was told.
    Handler,
    /// What there is once, or grows with the number of shards and producers by a few bytes: routes, state, registry.
    Fixed,
}

impl Group {
    /// All of them, in the order of a table.
    pub const ALL: [Group; 8] = [
        Group::Class,
        Group::PayloadRing,
        Group::Lane,
        Group::Shard,
        Group::Histogram,
        Group::Scratch,
        Group::Handler,
        Group::Fixed,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Group::Class => "class",
            Group::PayloadRing => "payload ring",
            Group::Lane => "lane",
            Group::Shard => "shard",
            Group::Histogram => "histogram",
            Group::Scratch => "scratch",
            Group::Handler => "handler",
            Group::Fixed => "fixed",
        }
    }
}

/// One term of the sum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// What it belongs to.
    pub group: Group,
    /// What takes the memory.
    pub name: String,
    /// How many of it there are.
    pub count: u64,
    /// Bytes of each.
    pub bytes_each: u64,
}

impl Term {
    /// Bytes of the term.
    pub fn bytes(&self) -> u64 {
        self.count.saturating_mul(self.bytes_each)
    }
}

/// What an engine takes, to the byte, before it is started.
///
/// ```
/// use pelton::memory::footprint::{Group, Term};
/// use pelton::{Class, Plan, Profile};
///
/// let mut plan = Plan::new(Profile::Dev);
/// plan.class(Class::strict("orders").with_capacity(64));
/// let footprint = plan.footprint::<u64>();
/// assert_eq!(footprint.total_bytes(), footprint.terms.iter().map(Term::bytes).sum::<u64>());
/// for group in Group::ALL {
///     println!("{}: {} bytes", group.name(), footprint.group_bytes(group));
/// }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// The terms, in the order in which they are laid out.
    pub terms: Vec<Term>,
}

impl Footprint {
    pub(crate) fn add(&mut self, group: Group, name: impl Into<String>, count: u64, bytes_each: u64) {
        if count > 0 && bytes_each > 0 {
            self.terms.push(Term { group, name: name.into(), count, bytes_each });
        }
    }

    /// The sum in bytes; saturates at `u64::MAX`.
    pub fn total_bytes(&self) -> u64 {
        sum(self.terms.iter())
    }

    /// The sum of all terms of a class in bytes, its slots and payload rings; 0 if there is no class of this name.
    ///
    /// ```
    /// use pelton::{Class, Plan, Profile};
    /// let mut plan = Plan::new(Profile::Dev).with_producers_max(2);
    /// plan.class(Class::strict("orders").with_capacity(64).with_payload_bytes(4_096));
    /// assert_eq!(plan.footprint::<u64>().class_bytes("orders"), 2 * (64 * 64 + 4_096));
    /// ```
    pub fn class_bytes(&self, class: &str) -> u64 {
        let prefix = format!("class '{class}': ");
        sum(self.terms.iter().filter(|term| term.name.starts_with(&prefix)))
    }

    /// The sum of one group in bytes; saturates at `u64::MAX`.
    pub fn group_bytes(&self, group: Group) -> u64 {
        sum(self.terms.iter().filter(|term| term.group == group))
    }
}

fn sum<'a>(terms: impl Iterator<Item = &'a Term>) -> u64 {
    terms.fold(0, |sum, term| sum.saturating_add(term.bytes()))
}

impl fmt::Display for Footprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for term in &self.terms {
            writeln!(
                f,
                "{:<44} {:>5} x {:>13} = {:>14}",
                term.name,
                term.count,
                term.bytes_each,
                term.bytes()
            )?;
        }
        write!(f, "{:<44} {:>5}   {:>13}   {:>14}", "total (bytes)", "", "", self.total_bytes())
    }
}

/// The memory that is resident for this process, in bytes; `None` where the system does not say.
///
/// ```
/// if let Some(bytes) = pelton::memory::footprint::resident_bytes() {
///     println!("{bytes} bytes are resident");
/// }
/// ```
pub fn resident_bytes() -> Option<u64> {
    // The exact sum first: the quick figure in `status` lags by some pages for each thread.
    let (path, key) = ("/proc/self/smaps_rollup", "Rss:");
    let text = std::fs::read_to_string(path).map(|text| (text, key));
    let (text, key) =
        text.or_else(|_| std::fs::read_to_string("/proc/self/status").map(|text| (text, "VmRSS:"))).ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(all(test, not(pelton_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_sum_names_every_term() {
        let mut footprint = Footprint::default();
        footprint.add(Group::Class, "rings", 2, 4_096);
        footprint.add(Group::Lane, "nothing", 0, 77);
        footprint.add(Group::Scratch, "scratch", 1, 100);
        assert_eq!(footprint.total_bytes(), 8_292);
        assert_eq!(Group::ALL.map(|group| footprint.group_bytes(group)), [8_192, 0, 0, 0, 0, 100, 0, 0]);
        let text = footprint.to_string();
        assert!(text.contains("rings") && text.contains("8292") && !text.contains("nothing"), "{text}");
    }
}
