//! A table of names with a value each, of a size that is fixed at the start, and the hash that it is keyed with.
//!
//! # Mechanism
//! Names lie one after the other in a byte arena; a hash table of entries (place, length, value) points into it. Names are
//! only ever removed all at once, so the arena needs no free list and the hash table never has to clean up: with its
//! capacity laid out at the start it never grows either.
//!
//! # The hash
//! Names come from clients, which could choose names that collide: a table of them compares each name with all others. So
//! the hash depends on a [`HashSecret`] of 208 bytes that is drawn once in each process. XXH3 is keyed with the first 192
//! of them; what comes out is multiplied by a secret odd number, and the bytes are swapped, so that the bits that choose
//! the bucket depend on all others (Dietzfelbinger et al., "A Reliable Randomized Algorithm for the Closest-Pair Problem",
//! 1997). This costs an event about a nanosecond more than a fixed seed; SipHash-1-3 would cost 6 ns more for names of
//! 8 bytes and 12 ns more for names of 32.
//!
//! - Names that were chosen before the secret was drawn collide as often as random ones.
//! - A peer that measures how long its names take learns nothing that leads to the secret step by step: two names of 17 to
//!   128 bytes collide on purpose only where a product of 64-bit words vanishes, and then one word of the secret has been
//!   guessed, one in 2^64. XXH3 is no cryptographic hash, so this is an argument and not a proof.
//! - The secret is not derived from anything, is never shown, and is not that of routing: [`Key::of`](pelton::Key::of) has
//!   a fixed seed by contract.
//!
//! # Invariants
//! - After [`Names::new`] nothing is allocated, and no page is touched for the first time.
//! - [`Names::bytes`] is what [`Names::bytes_for`] foretold.
//! - A table is always given hashes of one secret; its owner keeps it.
//!
//! # Limits
//! 1 to [`ENTRIES_MAX`] names, 1 to [`NAME_BYTES_MAX`] bytes of names, a single name below 4 GiB. The order in which
//! [`Names::iter`] goes differs from process to process.

use hashbrown::HashTable;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::OnceLock;
use xxhash_rust::xxh3::xxh3_64_with_secret;

/// The most names that a table can be made for: 2^27.
pub const ENTRIES_MAX: usize = 1 << 27;

/// The most bytes of names that a table can be made for: 2^36, 64 GiB.
pub const NAME_BYTES_MAX: usize = 1 << 36;

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
pub fn check_range(setting: &'static str, value: usize, limit: usize) -> Result<(), TableError> {
    if (1..=limit).contains(&value) {
        return Ok(());
    }
    Err(TableError::OutOfRange { setting, value: value as u64, limit: limit as u64 })
}

/// What the hash of names and of distinct values is keyed with; see the file's head.
///
/// # Example
/// ```
/// # #[cfg(feature = "views")] {
/// use pelton_views::{HashSecret, Tally, View};
///
/// let view = View::distinct("users", "user");
/// // A replay whose estimates are the same each time.
/// let secret = HashSecret::from_seed(7);
/// let (mut one, mut all) = (Tally::with_secret(&view, &secret), Tally::with_secret(&view, &secret));
/// one.observe(&[(&b"user"[..], &b"7"[..])], 1);
/// all.add(&one);
/// # }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct HashSecret {
    /// What XXH3 is keyed with.
    key: [u8; HashSecret::KEY_BYTES],
    /// What is added to its hash, without carry.
    mask: u64,
    /// What that is multiplied by; odd.
    factor: u64,
}

impl std::fmt::Debug for HashSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HashSecret").finish_non_exhaustive()
    }
}

impl HashSecret {
    /// The length of XXH3's own secret.
    const KEY_BYTES: usize = 192;

    /// The secret of this process: drawn when it is first asked for, from what the standard library's hash maps are keyed
    /// with, the system's source of randomness (128 bits).
    #[must_use]
    pub fn of_process() -> &'static HashSecret {
        static OF_PROCESS: OnceLock<HashSecret> = OnceLock::new();
        OF_PROCESS.get_or_init(|| {
            let state = RandomState::new();
            let mut n = 0;
            // A keyed hash of a counter.
            HashSecret::of(|| {
                let mut hasher = state.build_hasher();
                n += 1;
                hasher.write_u64(n);
                hasher.finish()
            })
        })
    }

    /// The secret of a seed, the same in every process and version: for tests and for replays that must give equal
    /// estimates. Whoever knows the seed can make names collide.
    #[must_use]
    pub fn from_seed(seed: u64) -> HashSecret {
        let mut state = seed;
        // SplitMix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014).
        HashSecret::of(|| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ mixed >> 31
        })
    }

    fn of(mut word: impl FnMut() -> u64) -> HashSecret {
        let mut key = [0; Self::KEY_BYTES];
        key.as_chunks_mut().0.iter_mut().for_each(|chunk| *chunk = word().to_le_bytes());
        HashSecret { key, mask: word(), factor: word() | 1 }
    }

    /// The hash of a name or of a value: 64 bits that look random.
    #[inline]
    pub fn hash(&self, name: &[u8]) -> Hash {
        let hash = xxh3_64_with_secret(name, &self.key) ^ self.mask;
        Hash(hash.wrapping_mul(self.factor).swap_bytes())
    }
}

/// What a [`HashSecret`] makes of a name.
#[derive(Debug, Clone, Copy)]
pub struct Hash(pub u64);

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

/// Whether two names are the same. Most are short, and compared here, without a call.
#[inline]
fn is_same(a: &[u8], b: &[u8]) -> bool {
    /// The first and the last bytes of a name, which may overlap.
    #[inline]
    fn ends<const N: usize>(name: &[u8]) -> Option<(&[u8; N], &[u8; N])> {
        Some((name.first_chunk()?, name.last_chunk()?))
    }
    a.len() == b.len()
        && match a.len() {
            8..=16 => ends::<8>(a) == ends::<8>(b),
            17..=32 => ends::<16>(a) == ends::<16>(b),
            _ => a == b,
        }
}

/// Values by name; see the file's head.
pub struct Names<V> {
    table: HashTable<Entry<V>>,
    names: Vec<u8>,
    entries_max: usize,
}

impl<V> std::fmt::Debug for Names<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Names").field("len", &self.table.len()).finish_non_exhaustive()
    }
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
    pub fn bytes(&self) -> u64 {
        (self.table.allocation_size() + self.names.capacity()) as u64
    }

    /// The value of `name`; of a new one it is made, from the number of names before it. `None` where a new name does not
    /// fit.
    #[inline]
    pub fn entry(&mut self, hash: Hash, name: &[u8], make: impl FnOnce(usize) -> V) -> Option<&mut V> {
        let (table, names) = (&mut self.table, &mut self.names);
        match table.find_entry(hash.0, |entry| is_same(entry.name(names), name)) {
            Ok(entry) => Some(&mut entry.into_mut().value),
            Err(absent) => insert_slow(absent.into_table(), names, self.entries_max, hash, name, make),
        }
    }

    /// The value of `name`, if it is in the table.
    pub fn get(&self, hash: Hash, name: &[u8]) -> Option<&V> {
        let names = self.names.as_slice();
        self.table.find(hash.0, |entry| is_same(entry.name(names), name)).map(|entry| &entry.value)
    }

    /// Whether there is no name.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of names.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// The names that it has room for.
    pub fn entries_max(&self) -> usize {
        self.entries_max
    }

    /// The bytes that the names in the table take.
    pub fn name_bytes(&self) -> usize {
        self.names.len()
    }

    /// The bytes that names may take.
    pub fn name_bytes_max(&self) -> usize {
        self.names.capacity()
    }

    /// All names with their values, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &V)> {
        self.table.iter().map(|entry| (entry.name(&self.names), &entry.value))
    }

    /// The buckets of the table. A name stays in its bucket until all are forgotten.
    pub fn buckets(&self) -> usize {
        self.table.num_buckets()
    }

    /// The name in a bucket with its value, if there is one.
    pub fn in_bucket(&self, at: usize) -> Option<(&[u8], &V)> {
        self.table.get_bucket(at).map(|entry| (entry.name(&self.names), &entry.value))
    }

    /// Forgets all names. Takes the time of writing one byte for each bucket.
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
    hash: Hash,
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
    let placed =
        table.insert_unique(hash.0, entry, |_| unreachable!("the table has room for all its entries"));
    Some(&mut placed.into_mut().value)
}

#[cfg(test)]
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
        let (mut table, secret) = (Names::<usize>::new(3, 6).unwrap(), HashSecret::of_process());
        for round in 0..5u8 {
            for at in 0..3 {
                let name = [round, at];
                assert_eq!(table.entry(secret.hash(&name), &name, |before| before), Some(&mut at.into()));
            }
            assert_eq!(table.entry(secret.hash(b"more"), b"more", |before| before), None);
            let get = |name: &[u8]| table.get(secret.hash(name), name).copied();
            assert_eq!((get(&[round, 1]), get(&[round, 3])), (Some(1), None));
            table.clear();
            assert_eq!((table.len(), table.name_bytes()), (0, 0));
        }
        assert_eq!(table.bytes(), Names::<usize>::bytes_for(3, 6).unwrap());
    }

    /// Names whose first 8 bytes cancel the words that XXH3 multiplies them by, with a known key: they all have one hash.
    fn crafted(word: u64, n: u64) -> Vec<[u8; 32]> {
        let name = |n: u64| {
            let mut name = [b'x'; 32];
            name[..8].copy_from_slice(&word.to_le_bytes());
            name[8..16].copy_from_slice(&n.to_le_bytes());
            name
        };
        (0..n).map(name).collect()
    }

    #[test]
    fn names_crafted_for_a_known_hash_collide_under_it_and_not_under_a_secret() {
        use std::collections::HashSet;
        use xxhash_rust::xxh3::xxh3_64_with_seed;
        // XXH3's default secret begins with this word.
        let (seed, word) = (0x7065_6c74_6f6e_7462u64, 0xbe4b_a423_396c_feb8u64);
        let names = crafted(word.wrapping_add(seed), 10_000);
        let known: HashSet<_> = names.iter().map(|name| xxh3_64_with_seed(name, seed)).collect();
        assert_eq!(known.len(), 1);
        let (process, other) = (HashSecret::of_process(), HashSecret::from_seed(7));
        for secret in [process, &other] {
            let hashes: HashSet<_> = names.iter().map(|name| secret.hash(name).0).collect();
            assert_eq!(hashes.len(), names.len());
        }
        // Whoever knows the secret can do the same: it is what protects.
        let word = u64::from_le_bytes(*other.key.first_chunk().unwrap());
        let hashes: HashSet<_> = crafted(word, 100).iter().map(|name| other.hash(name).0).collect();
        assert_eq!(hashes.len(), 1);
        assert!(!format!("{other:?}").contains(char::is_numeric));
    }

    #[test]
    fn hashes_are_spread_over_buckets_and_leading_bits_for_names_of_every_length() {
        let secret = HashSecret::of_process();
        for length in [1, 2, 3, 4, 8, 9, 16, 17, 32, 33, 64, 129, 241] {
            let (mut low, mut high) = ([0u32; 16], [0u32; 16]);
            let names = 256u32.pow(length.min(2) as u32).min(4_096);
            for n in 0..names {
                // Names that differ in few bits, in their last bytes.
                let mut name = vec![b'a'; length];
                let bytes = n.to_le_bytes();
                let len = length.min(2);
                name[length - len..].copy_from_slice(&bytes[..len]);
                let hash = secret.hash(&name).0;
                low[(hash % 16) as usize] += 1;
                high[(hash >> 60) as usize] += 1;
            }
            let even = names / 16;
            for count in low.iter().chain(&high) {
                // Six standard deviations and more, either way.
                assert!(count.abs_diff(even) <= 6 * even.isqrt() + 6, "{length}: {low:?} {high:?}");
            }
        }
    }

    #[test]
    fn names_of_every_length_are_found_again_and_told_from_their_neighbours() {
        let secret = HashSecret::from_seed(1);
        let mut table = Names::<usize>::new(400, 100_000).unwrap();
        let name = |length: usize| vec![b'n'; length];
        for length in 0..200 {
            assert!(table.entry(secret.hash(&name(length)), &name(length), |before| before).is_some());
        }
        assert_eq!(table.len(), 200);
        for length in 1..200 {
            assert_eq!(table.get(secret.hash(&name(length)), &name(length)), Some(&length));
            for at in [0, length / 2, length - 1] {
                let mut other = name(length);
                other[at] = b'o';
                // Asked for under the hash of the name that is there, so that bytes alone decide.
                assert_eq!(table.get(secret.hash(&name(length)), &other), None, "{length} {at}");
            }
        }
    }
}
