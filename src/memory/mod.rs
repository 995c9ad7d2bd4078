//! Memory that is laid out once, before the first event.
//!
//! `region` is the arena from which a shard's rings are cut; [`scratch`] is lent to handlers and reset after each
//! batch; [`audit`] counts what is allocated all the same; [`footprint`] is the sum that is known before start.

#[cfg(feature = "audit")]
pub mod audit;
pub mod footprint;
pub(crate) mod region;
pub mod scratch;

/// Allocations of the calling thread so far; stays 0 unless [`allocations_are_counted`].
pub fn allocations() -> u64 {
    #[cfg(feature = "audit")]
    return audit::thread_allocations();
    #[cfg(not(feature = "audit"))]
    0
}

/// Whether this program counts allocations: the feature `audit` is on, and the global allocator a counting one.
pub fn allocations_are_counted() -> bool {
    #[cfg(feature = "audit")]
    return audit::is_installed();
    #[cfg(not(feature = "audit"))]
    false
}
