//! Memory that is laid out once, before the first event.
//!
//! `region` is the arena from which a shard's rings are cut; [`scratch`] is lent to handlers and reset after each
//! batch; `audit` counts what is allocated all the same, and [`seal`] tells where; [`footprint`] is the sum that is
//! known before start.
#![allow(unsafe_code, reason = "regions, and the counting allocator")]

#[cfg(feature = "audit")]
pub mod audit;
pub mod footprint;
pub mod huge;
pub(crate) mod region;
pub mod scratch;
pub mod seal;

#[cfg(feature = "audit")]
pub(crate) use audit::Mark;
use seal::NotCounted;

/// Allocations of the calling thread so far; stays 0 unless [`allocations_are_counted`].
///
/// ```
/// use pelton::memory::{allocations, allocations_are_counted};
/// let before = allocations();
/// let boxed = Box::new(1);
/// match allocations_are_counted() {
///     true => println!("{} allocations", allocations() - before),
///     false => assert_eq!(allocations(), 0),
/// }
/// # drop(boxed);
/// ```
pub fn allocations() -> u64 {
    #[cfg(feature = "audit")]
    return audit::thread_allocations();
    #[cfg(not(feature = "audit"))]
    0
}

/// Whether this program counts allocations: the feature `audit` is on, and the global allocator a counting one.
pub fn allocations_are_counted() -> bool {
    counting().is_ok()
}

/// Whether allocations are counted, and why not.
pub(crate) fn counting() -> Result<(), NotCounted> {
    #[cfg(feature = "audit")]
    return if audit::is_installed() { Ok(()) } else { Err(NotCounted::NotInstalled) };
    #[cfg(not(feature = "audit"))]
    Err(NotCounted::FeatureOff)
}

/// A seal of a thread; without the feature there is none.
#[cfg(not(feature = "audit"))]
pub(crate) enum Mark {}

#[cfg(not(feature = "audit"))]
impl Mark {
    pub fn begin(_: seal::Seal) -> Result<Self, NotCounted> {
        Err(NotCounted::FeatureOff)
    }

    pub fn finish(self) -> Option<seal::Sealed> {
        match self {}
    }
}
