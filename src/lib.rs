//! Pelton turns streams of events inside one machine: producers write events straight into pre-allocated slots, pinned
//! single-threaded shards handle them in place, and nothing on that way allocates, locks or calls the kernel.
//!
//! ```text
//! source → Producer ─claim─▶ slot in a lane's ring ─publish─▶ Shard polls, by class ─▶ Handler, in place ─▶ release
//!             │ route(key)                                       │                        │ emit → another shard
//!             └─ overflow policy of the class                    └─ expiry
//! ```
//!
//! # Example
//! ```
//! use pelton::{Class, Context, Event, Handler, Plan, Profile, Verdict};
//! use std::time::Duration;
//!
//! #[derive(Default)]
//! struct Tick { price: u64, qty: u32 }
//!
//! #[derive(Default)]
//! struct Book { turnover: u64 }
//!
//! impl Handler<Tick> for Book {
//!     type Output = u64;
//!     fn on_event(&mut self, tick: &mut Event<'_, Tick>, _: &mut Context<'_, Tick>) -> Verdict {
//!         self.turnover += tick.price * u64::from(tick.qty);
//!         Verdict::Done
//!     }
//!     fn on_stop(self, _: &mut Context<'_, Tick>) -> u64 { self.turnover }
//! }
//!
//! let mut plan = Plan::new(Profile::Dev).with_shards(1).with_producers_max(4);
//! let orders = plan.class(Class::strict("orders").with_capacity(1_024).block());
//! let ticks = plan.class(Class::weighted("ticks", 1).with_capacity(4_096).drop_newest());
//! let engine = plan.start(Tick::default, |_shard| Book::default())?;
//!
//! let mut tx = engine.attach()?;
//! tx.publish(ticks, 42, |t| { t.price = 10_125; t.qty = 300 })?;   // in place, zero copy
//! let mut claim = tx.claim(orders, 7).try_acquire()?;                         // or step by step
//! claim.qty = 1;
//! claim.publish()?;
//!
//! let mut report = engine.stop(Duration::from_secs(1))?;
//! assert!(report.ledger.is_closed());
//! assert_eq!(report.outputs::<u64>().iter().sum::<u64>(), 10_125 * 300);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Where to look
//! [`Plan`] has every setting, [`Producer`] every way to publish, [`Handler`] and [`Context`] all that a handler may
//! do, [`Report`] and [`ledger`] where every event went. [`lane`] and [`ring`] stand alone, for two threads that need
//! nothing else.
//!
//! # What always holds
//! - Events of one producer, one key and one class are handled in the order in which they were published.
//! - `offered = accepted + rejected` and `accepted = handled + expired + failed + evicted + in flight`, for every lane,
//!   whenever the engine is quiet; in flight is counted from the rings.
//! - After start nothing on the way of an event allocates, locks, or calls the kernel, but for a shard that has nothing to
//!   do and a producer that must wait.
//! - A panic in a handler costs that event and no other. A stop is bounded.
//!
//! # What it does not do
//! It does not persist, replicate or cross a machine's border; a process that dies takes its events along. The README
//! says more about when not to use it.
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(all(not(pelton_loom), feature = "park", target_os = "linux"))]
mod membarrier;
pub(crate) mod sync;

pub mod class;
pub mod clock;
pub mod event;
pub mod words;

pub mod host;
#[cfg(feature = "latency")]
pub mod buckets;
#[cfg(feature = "latency")]
pub mod latency;
#[cfg(not(feature = "latency"))]
pub(crate) mod latency;
pub mod ledger;
pub mod memory;
pub mod route;

pub mod ring;
pub mod park;

pub mod lane;

pub mod producer;

#[cfg(feature = "async")]
pub mod async_producer;

pub mod shard;

pub mod engine;

#[cfg(feature = "config")]
pub mod config;

#[cfg(feature = "async")]
pub use async_producer::{AsyncClaimRequest, AsyncProducer};
pub use class::{Class, ClassId};
pub use engine::{Engine, Plan, Profile, Report};
/// The crate whose histograms [`Engine::latency`] and reports hold, in the version that they hold.
#[cfg(feature = "latency")]
pub use hdrhistogram;

pub use event::{Key, Outcome, Rejection, ShardId, Verdict};
pub use lane::{ClaimRequest, LaneClaim, PublishError, SendError, TryClaimError};
pub use producer::Producer;
pub use shard::{AnyHandler, Context, Event, Handler, Shard, handler};

/// The compile-time features that this build of Pelton has.
///
/// ```
/// println!("built with {}", pelton::FEATURES.join(", "));
/// ```
pub const FEATURES: &[&str] = &[
    #[cfg(feature = "affinity")]
    "affinity",
    #[cfg(feature = "park")]
    "park",
    #[cfg(feature = "latency")]
    "latency",
    #[cfg(feature = "async")]
    "async",
    #[cfg(feature = "audit")]
    "audit",
    #[cfg(feature = "mimalloc")]
    "mimalloc",
    #[cfg(feature = "hugepages")]
    "hugepages",
    #[cfg(feature = "config")]
    "config",
];

// The README's example is compiled and run with the doctests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
