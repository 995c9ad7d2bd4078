//! Routing: key → partition → shard.
//!
//! A key falls into one of a fixed number of partitions, and a table of atomics says to which shard each partition
//! belongs. A publish costs one multiplication, one shift and one relaxed load. The table is filled at start and
//! read-only after it; its entries are atomics because partitions will move between shards one day.
//!
//! The partition is the top bits of `key × 0x9E3779B97F4A7C15` (2^64 divided by the golden ratio; Knuth, *The Art of
//! Computer Programming*, volume 3, section 6.4), so consecutive integers spread evenly. It is part of Pelton's
//! contract: the same key falls into the same partition on every machine.

use crate::event::{Key, ShardId};
use std::sync::atomic::{AtomicU16, Ordering};

/// The smallest number of partitions.
pub const PARTITIONS_MIN: u32 = 1_024;
/// The largest number of partitions.
pub const PARTITIONS_MAX: u32 = 1 << 16;

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// The table from partitions to shards.
pub struct Routes {
    shards: Box<[AtomicU16]>,
    shift: u32,
}

impl std::fmt::Debug for Routes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Routes").field("partitions", &self.shards.len()).finish_non_exhaustive()
    }
}

impl Routes {
    /// Partitions dealt out to shards in turn. `partitions` is a power of two (the plan has checked it).
    pub(crate) fn new(partitions: u32, shards: u16) -> Self {
        debug_assert!(partitions.is_power_of_two() && shards > 0);
        let shards = (0..partitions).map(|p| AtomicU16::new((p % u32::from(shards)) as u16)).collect();
        Routes { shards, shift: 64 - partitions.trailing_zeros() }
    }

    /// The partition of a key: 0 to the number of partitions − 1.
    #[inline(always)]
    pub fn partition(&self, key: Key) -> usize {
        (key.0.wrapping_mul(GOLDEN) >> self.shift) as usize
    }

    /// The shard of a key.
    #[inline(always)]
    pub fn shard(&self, key: Key) -> ShardId {
        // Relaxed: the entry alone is the message; nothing else is read through it.
        ShardId(self.shards[self.partition(key)].load(Ordering::Relaxed))
    }

    /// Bytes of a table of this many partitions.
    pub(crate) const fn bytes(partitions: u32) -> u64 {
        partitions as u64 * size_of::<AtomicU16>() as u64
    }
}

#[cfg(all(test, not(pelton_loom)))]
mod tests {
    use super::*;

    #[test]
    fn keys_spread_over_all_shards() {
        for shards in 1..=8u16 {
            let routes = Routes::new(1_024, shards);
            let mut seen = vec![0u32; usize::from(shards)];
            for key in 0..8_000u64 {
                seen[routes.shard(Key(key)).index()] += 1;
            }
            let fair = 8_000 / u32::from(shards);
            assert!(seen.iter().all(|n| *n > fair / 2 && *n < fair * 2), "{seen:?}");
        }
    }

    #[test]
    fn the_partition_of_a_key_is_part_of_the_contract() {
        let routes = Routes::new(1_024, 4);
        assert_eq!(routes.partition(Key(0)), 0);
        assert_eq!(routes.partition(Key(1)), 632);
        assert_eq!(routes.partition(Key(u64::MAX)), 391);
    }
}
