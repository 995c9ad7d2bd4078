//! Pelton: events through pinned shards.

pub(crate) mod sync;

pub mod class;
pub mod clock;
pub mod event;

#[cfg(feature = "latency")]
pub mod latency;
pub mod ledger;
pub mod memory;
pub mod route;

pub mod ring;
pub mod wait;

pub mod lane;

pub mod producer;

pub mod shard;

pub mod engine;

#[cfg(feature = "weblog")]
pub mod weblog;

pub use class::{Class, ClassId};
pub use engine::{Engine, Plan, Profile, Report};
pub use event::{Key, Outcome, Rejection, ShardId, Verdict};
pub use lane::Refusal;
pub use producer::Producer;
pub use shard::{Context, Event, Handler, Shard};
