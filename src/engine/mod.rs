//! The engine: a checked plan, its shards, its producers, its end.
//!
//! ```text
//!   Plan ──check──▶ Engine ──attach──▶ Producer ─▶ lanes ─▶ Shard ─▶ Handler
//!                     │ ask, ledger, latency, drain
//!                     └ stop ─▶ Report
//! ```
//!
//! `settings` describes every setting by a row, `plan` holds them, `profile` has the named sets from which a plan starts,
//! `sizes` adds up its memory, `validate` and `lint` check it, `assembly` lays it out, `lifecycle` is the running engine
//! and its end, `sealing` watches over its allocations, `builder` starts it.

#[doc(hidden)]
pub mod settings;
pub(crate) mod profile;
pub(crate) mod plan;
pub(crate) mod report;
mod response;
mod lane_view;
pub(crate) mod assembly;
pub(crate) mod sizes;
pub(crate) mod validate;
pub(crate) mod lint;
pub(crate) mod summary;
pub(crate) mod lifecycle;
pub(crate) mod ask;
pub(crate) mod sealing;
pub(crate) mod builder;

#[cfg(all(test, pelton_loom))]
mod models;

pub use ask::{ASK_LIMIT, AskError};
pub use assembly::{Seat, StartError};
pub use lifecycle::{Engine, STOP_GRACE, StopError};
pub use plan::Plan;
pub use profile::{OnPanic, Profile};
pub use report::{ClassReport, Report, ShardReport};
pub use sealing::SealError;
pub use settings::class::CLASS;
pub use settings::engine::{BURST_MAX, CODE_ONLY, ENGINE, PRODUCERS_MAX};
pub use settings::error::{Against, PlanError, PlanErrors, Severity};
pub use settings::field::{Keyword, SettingField};
pub use settings::kind::{InvalidValue, Kind, Range, closest_match};
pub use settings::schema::{Setting, SettingInfo};
pub use settings::value::{RawValue, Secret, Value};
pub use sizes::SIZED;
pub use validate::missing_cpus;
