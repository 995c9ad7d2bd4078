//! A table of names with a value each, of a size that is fixed at the start.
//!
//! # Mechanism
//! Names lie one behind the other in one byte arena; a hash table of entries (place, length, value) points into it. No
//! name is ever removed but all at once, so the arena needs no free list and the hash table never has to clean up: with
//! its capacity laid out at the start it never grows either. The hash is XXH3 with 64 bits.
//!
//! # Invariants
//! - After [`Names::new`] nothing is allocated, and no page is touched for the first time.
//! - [`Names::bytes`] is what [`Names::bytes_for`] foretold.
//!
//! # Limits
//! 1 to [`ENTRIES_MAX`] names, 1 to [`NAME_BYTES_MAX`] bytes of names, a single name below 4 GiB. The hash has a fixed
//! seed: someone who chooses the names can make them collide and slow the table down, as in every table that gives the
//! same order each time.
#![forbid(unsafe_code)]

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The most names that a table can be made for: 2^27.
pub const ENTRIES_MAX: usize = 1 << 27;

/// The most bytes of names that a table can be made for: 2^36, 64 GiB.
pub const NAME_BYTES_MAX: usize = 1 << 36;

/// A seed of its own keeps this hash apart from the one that routes events by the same names: in a shard all names share
/// some bits of the routing hash, and a table that used it again would leave most of its buckets empty.
const SEED: u64 = 0x7065_6c74_6f6e_7462;

/// The control bytes that hashbrown looks at in one step, repeated at the end of the table. It chooses them by processor,
/// and so must the calculation here; a test compares the two.
const GROUP_BYTES: usize =
    if cfg!(all(target_feature = "sse2", any(target_arch = "x86", target_arch = "x86_64")))
        || cfg!(all(target_feature = "lsx", target_arch = "loongarch64"))
    {
        16
    } else {
        8
    };

/// One byte in so many of the table is written to at the start, so that each page is; no page is smaller than 4 KiB.
const TOUCH_STRIDE_BYTES: usize = 2_048;

/// Why a table was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// A setting is out of its range.
    #[error("{setting} is {value}, expected 1 to {limit}")]
    OutOfRange {
        /// The setting's name.
        setting: &'static str,
        /// The value that was asked for.
        value: u64,
        /// The greatest value that is allowed; the least is 1.
        limit: u64,
    },
    /// The memory could not be had.
    #[error("{setting} needs {bytes} bytes, which the system refused: choose a lower value")]
    NoMemory {
        /// The name of the setting that asks for it.
        setting: &'static str,
        /// The bytes that were asked for.
        bytes: u64,
    },
}

/// Refuses a setting that is not in `1..=limit`.
pub(crate) fn check_range(setting: &'static str, value: usize, limit: usize) -> Result<(), TableError> {
    if (1..=limit).contains(&value) {
        return Ok(());
    }
    Err(TableError::OutOfRange { setting, value: value as u64, limit: limit as u64 })
}

#[derive(Clone, Copy, Debug)]
struct Entry<V> {
    place: usize,
    length: u32,
    value: V,
}

impl<V> Entry<V> {
    #[inline]
    fn name<'a>(&self, names: &'a [u8]) -> &'a [u8] {
        &names[self.place..self.place + self.length as usize]
    }
}

/// Values by name; see the file's head.
pub(crate) struct Names<V> {
    table: HashTable<Entry<V>>,
    names: Vec<u8>,
    entries_max: usize,
}

impl<V: Copy + Default> Names<V> {
    /// The heap bytes of one entry: 8 for the place of the name, 8 for its length (padded), and the value.
    pub const ENTRY_BYTES: usize = size_of::<Entry<V>>();

    /// A table for `entries_max` names (1 to [`ENTRIES_MAX`]) which have `name_bytes_max` bytes (1 to
    /// [`NAME_BYTES_MAX`]) together. Allocates and touches all of its memory.
    ///
    /// # Errors
    /// [`TableError`], if a value is out of range or the memory is not to be had. A system that promises more memory than
    /// it has does not refuse: it ends the process when the memory is touched.
    pub fn new(entries_max: usize, name_bytes_max: usize) -> Result<Self, TableError> {
        check_range("entries_max", entries_max, ENTRIES_MAX)?;
        check_range("name_bytes_max", name_bytes_max, NAME_BYTES_MAX)?;
        let mut names = Vec::new();
        names
            .try_reserve_exact(name_bytes_max)
            .map_err(|_| TableError::NoMemory { setting: "name_bytes_max", bytes: name_bytes_max as u64 })?;
        // Any byte but zero will do: memory that is known to be zero might not be written to.
        names.resize(name_bytes_max, b' ');
        names.clear();
        let mut table = HashTable::new();
        table.try_reserve(entries_max, |_| 0).map_err(|_| TableError::NoMemory {
            setting: "entries_max",
            bytes: Self::table_bytes(entries_max),
        })?;
        // The bucket of an entry in an empty table is the low bits of its hash; the high bits become its control byte.
        for bucket in (0..table.num_buckets()).step_by((TOUCH_STRIDE_BYTES / Self::ENTRY_BYTES).max(1)) {
            let entry = Entry { place: 0, length: 0, value: V::default() };
            table.insert_unique(bucket as u64, entry, |_| 0);
        }
        table.clear();
        Ok(Self { table, names, entries_max })
    }

    /// The heap bytes of a table with these limits, to the byte, without making it.
    ///
    /// # Errors
    /// [`TableError::OutOfRange`], as for [`new`](Self::new).
    pub fn bytes_for(entries_max: usize, name_bytes_max: usize) -> Result<u64, TableError> {
        check_range("entries_max", entries_max, ENTRIES_MAX)?;
        check_range("name_bytes_max", name_bytes_max, NAME_BYTES_MAX)?;
        Ok(Self::table_bytes(entries_max) + name_bytes_max as u64)
    }

    /// The heap bytes of the hash table alone.
    ///
    /// From the source of hashbrown 0.17: a power of two of buckets of which at least one, or an eighth, stays free; then
    /// a control byte for each bucket, and one group of them more. As there are at least 4 buckets of 16 bytes or more,
    /// no padding comes before the control bytes.
    fn table_bytes(entries_max: usize) -> u64 {
        const { assert!(Self::ENTRY_BYTES >= 16) };
        let buckets = match entries_max {
            0..=3 => 4,
            4..=7 => 8,
            8..=14 => 16,
            _ => (entries_max * 8 / 7).next_power_of_two(),
        };
        (buckets * Self::ENTRY_BYTES + buckets + GROUP_BYTES) as u64
    }

    /// The heap bytes that this table took.
    #[cfg(any(test, feature = "weblog"))]
    pub fn bytes(&self) -> u64 {
        (self.table.allocation_size() + self.names.capacity()) as u64
    }

    /// The value of `name`; of a new one it is made, from the number of names before it. `None` where a new name does not
    /// fit.
    #[inline]
    pub fn entry(&mut self, name: &[u8], make: impl FnOnce(usize) -> V) -> Option<&mut V> {
        let hash = hash_of(name);
        let (table, names) = (&mut self.table, &mut self.names);
        match table.find_entry(hash, |entry| entry.name(names) == name) {
            Ok(entry) => Some(&mut entry.into_mut().value),
            Err(absent) => insert_slow(absent.into_table(), names, self.entries_max, hash, name, make),
        }
    }

    /// The value of `name`, if it is in the table.
    pub fn get(&self, name: &[u8]) -> Option<&V> {
        let names = self.names.as_slice();
        self.table.find(hash_of(name), |entry| entry.name(names) == name).map(|entry| &entry.value)
    }

    /// The number of names.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// The names that it has room for.
    #[cfg(feature = "weblog")]
    pub fn entries_max(&self) -> usize {
        self.entries_max
    }

    /// The bytes that the names in the table take.
    pub fn name_bytes(&self) -> usize {
        self.names.len()
    }

    /// The bytes that names may take.
    #[cfg(feature = "weblog")]
    pub fn name_bytes_max(&self) -> usize {
        self.names.capacity()
    }

    /// All names with their values, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &V)> {
        self.table.iter().map(|entry| (entry.name(&self.names), &entry.value))
    }

    /// Forgets all names. Takes the time of writing one byte for each bucket.
    #[cfg(any(test, feature = "views"))]
    pub fn clear(&mut self) {
        self.table.clear();
        self.names.clear();
    }
}

/// A name is new once and known ever after, so this is off the way of nearly every event.
#[cold]
fn insert_slow<'a, V: Copy>(
    table: &'a mut HashTable<Entry<V>>,
    names: &mut Vec<u8>,
    entries_max: usize,
    hash: u64,
    name: &[u8],
    make: impl FnOnce(usize) -> V,
) -> Option<&'a mut V> {
    if table.len() >= entries_max || name.len() > names.capacity() - names.len() {
        return None;
    }
    let length = u32::try_from(name.len()).ok()?;
    let entry = Entry { place: names.len(), length, value: make(table.len()) };
    names.extend_from_slice(name);
    // The hasher is for growing, which the check above rules out.
    let names = names.as_slice();
    let placed = table.insert_unique(hash, entry, |entry| hash_of(entry.name(names)));
    Some(&mut placed.into_mut().value)
}

#[inline]
fn hash_of(name: &[u8]) -> u64 {
    xxh3_64_with_seed(name, SEED)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_size_is_known_before_whatever_the_values() {
        fn compare<V: Copy + Default>() {
            let round = [16, 28, 29, 64, 112, 113, 1_000, 7_168, 100_000, 114_688, 114_689];
            for entries_max in (1..=16).chain(round) {
                let table = Names::<V>::new(entries_max, 3 * entries_max).unwrap();
                assert_eq!(table.bytes(), Names::<V>::bytes_for(entries_max, 3 * entries_max).unwrap());
            }
        }
        compare::<()>();
        compare::<u64>();
        compare::<(u64, i128)>();
    }

    #[test]
    fn a_cleared_table_takes_new_names_in_the_same_memory() {
        let mut table = Names::new(3, 6).unwrap();
        for round in 0..5u8 {
            for at in 0..3 {
                assert_eq!(table.entry(&[round, at], |before| before), Some(&mut usize::from(at)));
            }
            assert_eq!(table.entry(b"more", |before| before), None);
            assert_eq!((table.get(&[round, 1]), table.get(&[round, 3])), (Some(&1), None));
            table.clear();
            assert_eq!((table.len(), table.name_bytes()), (0, 0));
        }
        assert_eq!(table.bytes(), Names::<usize>::bytes_for(3, 6).unwrap());
    }
}
