//! The shard: one thread's share of the engine, and the loop that turns it.
//!
//! # Mechanism
//! A shard owns the reading ends of its lanes and its handler. [`Shard::poll`] never blocks: it looks at the waker,
//! serves one burst of the class whose turn it is (`schedule`), and gives the slots back. A driver thread calls it
//! in a loop and waits in between by a strategy (`driver`); a host application may call it from a loop of its own.
//!
//! # Failure
//! A burst runs inside one `catch_unwind`. A panic in the handler finds the lane's head still at its event: that one is
//! counted `failed(panic)`, kept in the `quarantine` and passed, and the burst goes on with the next. Events before
//! and after it are not touched, nor are other lanes.

pub(crate) mod placement;
pub(crate) mod schedule;
pub(crate) mod mesh;
pub(crate) mod handler;
pub(crate) mod lanes;
pub(crate) mod mailbox;
mod park_token;
pub(crate) mod quarantine;
pub(crate) mod parts;
mod burst;
pub(crate) mod poll;
pub(crate) mod driver;

#[cfg(all(test, pelton_loom))]
mod models;

pub use crate::host::{available, nameable, parse_list};
pub use handler::{AnyHandler, Context, Event, Handler, handler};
pub use park_token::ParkToken;
pub use parts::ShardExit;
pub use placement::{Placement, can_pin, pin};
pub use poll::Shard;
pub use quarantine::{MESSAGE_BYTES, PAYLOAD_BYTES, QUARANTINE_MAX, Quarantine, Quarantined};
