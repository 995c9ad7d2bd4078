//! A counting table of names, of a size that is fixed at the start.
//!
//! # Mechanism
//! A table of names, each with a count; what a full table cannot take is counted as overflowed.
//!
//! # Invariants
//! - After [`CountTable::new`] nothing is allocated by `add` and `merge_from`, and no page is touched for the
//!   first time.
//! - The counts of all names and `overflowed` add up to all that was ever added.
//! - [`CountTable::bytes`] is what [`CountTable::bytes_for`] foretold.
//!
//! # Limits
//! 1 to [`ENTRIES_MAX`] names, 1 to [`NAME_BYTES_MAX`] bytes of names, a single name below 4 GiB. The hash is keyed
//! with a secret of the process, as a log's clients choose the names in it: see `names`. The order of
//! [`CountTable::iter`] differs from process to process; [`CountTable::top`] has an order of its own.

use pelton_views::names::{HashSecret, Names};

pub(crate) use pelton_views::names::check_range;
pub use pelton_views::names::{ENTRIES_MAX, NAME_BYTES_MAX, TableError};

/// The heap bytes of one entry: 8 for the place of the name, 8 for its length (padded), 8 for the count.
pub const ENTRY_BYTES: usize = Names::<u64>::ENTRY_BYTES;

const _: () = assert!(ENTRY_BYTES == 24);

/// Counts by name; see the file's head.
pub struct CountTable {
    names: Names<u64>,
    secret: &'static HashSecret,
    overflowed: u64,
}

impl core::fmt::Debug for CountTable {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        // The names themselves may be millions, and are the users' affair.
        out.debug_struct("CountTable")
            .field("len", &self.len())
            .field("entries_max", &self.names.entries_max())
            .field("name_bytes", &self.name_bytes())
            .field("name_bytes_max", &self.names.name_bytes_max())
            .field("overflowed", &self.overflowed)
            .finish()
    }
}

impl CountTable {
    /// A table for `entries_max` names (1 to [`ENTRIES_MAX`]) which have `name_bytes_max` bytes (1 to
    /// [`NAME_BYTES_MAX`]) together. Allocates and touches all of its memory.
    ///
    /// # Errors
    /// [`TableError`], if a value is out of range or the memory is not to be had. A system that promises more
    /// memory than it has does not refuse: it ends the process when the memory is touched.
    pub fn new(entries_max: usize, name_bytes_max: usize) -> Result<Self, TableError> {
        let names = Names::new(entries_max, name_bytes_max)?;
        Ok(Self { names, secret: HashSecret::of_process(), overflowed: 0 })
    }

    /// The heap bytes of a table with these limits, to the byte, without making it.
    ///
    /// # Errors
    /// [`TableError::OutOfRange`], as for [`new`](Self::new).
    pub fn bytes_for(entries_max: usize, name_bytes_max: usize) -> Result<u64, TableError> {
        Names::<u64>::bytes_for(entries_max, name_bytes_max)
    }

    /// The heap bytes that this table took.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.names.bytes()
    }

    /// Adds `n` to the count of `name`. A new name that does not fit adds `n` to
    /// [`overflowed`](Self::overflowed) instead.
    ///
    /// Counts stop at the greatest `u64`. Allocates nothing.
    #[inline]
    pub fn add(&mut self, name: &[u8], n: u64) {
        match self.names.entry(self.secret.hash(name), name, |_| 0) {
            Some(count) => *count = count.saturating_add(n),
            None => self.overflowed = self.overflowed.saturating_add(n),
        }
    }

    /// The count of `name`, if it is in the table.
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<u64> {
        self.names.get(self.secret.hash(name), name).copied()
    }

    /// The number of names.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are no names.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.len() == 0
    }

    /// The bytes that the names in the table take.
    #[must_use]
    pub fn name_bytes(&self) -> usize {
        self.names.name_bytes()
    }

    /// What was added for names that did not fit, in the same unit as the counts (events).
    #[must_use]
    pub fn overflowed(&self) -> u64 {
        self.overflowed
    }

    /// All names with their counts, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], u64)> {
        self.names.iter().map(|(name, count)| (name, *count))
    }

    /// Adds all counts of another table, what overflowed there included. Allocates nothing: what does not fit
    /// here overflows here.
    pub fn merge_from(&mut self, other: &CountTable) {
        for (name, count) in other.iter() {
            self.add(name, count);
        }
        self.overflowed = self.overflowed.saturating_add(other.overflowed);
    }

    /// The `n` names with the highest counts, the highest first; names with the same count are in the order
    /// of their bytes.
    ///
    /// Allocates 24 bytes per name in the table while it works.
    #[must_use]
    pub fn top(&self, n: usize) -> Vec<(&[u8], u64)> {
        let mut all: Vec<_> = self.iter().collect();
        let order = |a: &(&[u8], u64), b: &(&[u8], u64)| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0));
        if n < all.len() {
            // Sorting only what is asked for matters when it is ten of a million.
            all.select_nth_unstable_by(n, order);
            all.truncate(n);
        }
        all.sort_unstable_by(order);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn the_size_is_known_before() {
        let round = [16, 28, 29, 64, 112, 113, 1_000, 7_168, 100_000, 114_688, 114_689, 1 << 20];
        for entries_max in (1..=16).chain(round) {
            let table = CountTable::new(entries_max, 3 * entries_max).unwrap();
            assert_eq!(
                table.bytes(),
                CountTable::bytes_for(entries_max, 3 * entries_max).unwrap(),
                "{entries_max}"
            );
        }
    }

    #[test]
    fn the_size_stays_when_the_table_is_full() {
        let mut table = CountTable::new(1_000, 4_000).unwrap();
        for name in 0..2_000_u32 {
            table.add(&name.to_le_bytes(), 1);
        }
        assert_eq!((table.len(), table.overflowed()), (1_000, 1_000));
        assert_eq!(table.bytes(), CountTable::bytes_for(1_000, 4_000).unwrap());
    }

    #[test]
    fn every_limit_is_named() {
        let refused = |entries, bytes| CountTable::new(entries, bytes).unwrap_err().to_string();
        assert_eq!(refused(0, 1), format!("entries_max is 0, expected 1 to {ENTRIES_MAX}"));
        assert_eq!(refused(1, 0), format!("name_bytes_max is 0, expected 1 to {NAME_BYTES_MAX}"));
        assert!(refused(ENTRIES_MAX + 1, 1).contains("134217729"));
        assert!(CountTable::bytes_for(1, NAME_BYTES_MAX + 1).is_err());
        assert_eq!(CountTable::bytes_for(ENTRIES_MAX, NAME_BYTES_MAX), Ok((1 << 28) * 25 + 16 + (1 << 36)));
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let mut table = CountTable::new(3, 6).unwrap();
        for (name, n) in [("aaa", 1), ("bb", 2), ("cc", 4), ("d", 8), ("", 16), ("aaa", 32)] {
            table.add(name.as_bytes(), n);
        }
        // `cc` is too long for the one byte that is left, `d` takes it, and the empty name finds no entry.
        assert_eq!(table.overflowed(), 4 + 16);
        assert_eq!(table.top(9), [(&b"aaa"[..], 33), (b"d", 8), (b"bb", 2)]);
        assert_eq!((table.len(), table.name_bytes()), (3, 6));
    }

    #[test]
    fn counts_stop_at_the_greatest() {
        let mut table = CountTable::new(1, 1).unwrap();
        table.add(b"a", u64::MAX);
        table.add(b"a", 2);
        table.add(b"b", u64::MAX);
        table.add(b"b", 2);
        assert_eq!((table.get(b"a"), table.get(b"b"), table.overflowed()), (Some(u64::MAX), None, u64::MAX));
    }

    #[test]
    fn the_top_is_in_order_for_every_length() {
        let mut table = CountTable::new(64, 640).unwrap();
        for name in 0..50_u64 {
            table.add(format!("n{name:02}").as_bytes(), name % 7);
        }
        let all = table.top(usize::MAX);
        assert!(
            all.windows(2)
                .all(|pair| pair[0].1 > pair[1].1 || (pair[0].1 == pair[1].1 && pair[0].0 < pair[1].0))
        );
        for n in 0..=51 {
            assert_eq!(table.top(n), all[..n.min(50)]);
        }
    }

    #[test]
    fn a_merge_adds_counts_and_overflow() {
        let (mut a, mut b) = (CountTable::new(2, 10).unwrap(), CountTable::new(2, 10).unwrap());
        for name in ["x", "y", "z"] {
            a.add(name.as_bytes(), 1);
            b.add(name.as_bytes(), 10);
        }
        let mut sum = CountTable::new(2, 10).unwrap();
        sum.merge_from(&a);
        sum.merge_from(&b);
        assert_eq!(sum.top(3), [(&b"x"[..], 11), (b"y", 11)]);
        assert_eq!(sum.overflowed(), 11);
    }

    /// Page faults of this thread so far that needed no disk.
    #[cfg(target_os = "linux")]
    fn faults() -> u64 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let after_name = stat.rsplit(") ").next().unwrap();
        after_name.split(' ').nth(7).unwrap().parse().unwrap()
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn filling_a_table_touches_no_new_page() {
        let mut table = CountTable::new(400_000, 400_000 * 8).unwrap();
        let before = faults();
        for name in 0..400_000_u64 {
            table.add(&name.to_le_bytes(), 1);
        }
        let after = faults();
        assert_eq!((table.len(), table.overflowed()), (400_000, 0));
        // Untouched, the table's 13 MB and the arena's 3 MB would be some 4,000 pages.
        assert!(after - before < 50, "{} faults", after - before);
    }

    proptest! {
        #[test]
        fn it_counts_as_a_map_does(adds in proptest::collection::vec(("[a-d]{0,3}", 0_u64..100), 0..300)) {
            let mut table = CountTable::new(85, 3 * 64 + 2 * 16 + 4).unwrap();
            let mut map = BTreeMap::new();
            for (name, n) in &adds {
                table.add(name.as_bytes(), *n);
                *map.entry(name.as_bytes()).or_insert(0) += n;
            }
            prop_assert_eq!(table.overflowed(), 0);
            prop_assert_eq!(table.iter().collect::<BTreeMap<_, _>>(), map);
        }

        #[test]
        fn nothing_is_lost(
            adds in proptest::collection::vec(("[a-d]{0,3}", 0_u64..100), 0..300),
            entries_max in 1_usize..40,
            name_bytes_max in 1_usize..80,
        ) {
            let mut table = CountTable::new(entries_max, name_bytes_max).unwrap();
            let mut sum = 0;
            for (name, n) in &adds {
                table.add(name.as_bytes(), *n);
                sum += n;
            }
            prop_assert_eq!(table.iter().map(|(_, count)| count).sum::<u64>() + table.overflowed(), sum);
            prop_assert!(table.len() <= entries_max && table.name_bytes() <= name_bytes_max);
        }
    }
}
