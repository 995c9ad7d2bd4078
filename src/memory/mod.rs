//! Memory that is laid out once, before the first event.
//!
//! `region` is the arena from which a shard's rings are cut; [`scratch`] is lent to handlers and reset after each
//! batch; [`audit`] counts what is allocated all the same; [`footprint`] is the sum that is known before start.

#[cfg(feature = "audit")]
pub mod audit;
pub mod footprint;
pub(crate) mod region;
pub mod scratch;
