//! The engine: a checked plan, its shards, its producers, its end.
//!
//! ```text
//!   Plan ──check──▶ Engine ──attach──▶ Producer ─▶ lanes ─▶ Shard ─▶ Handler
//!                     │ ask, ledger, latency, drain
//!                     └ stop ─▶ Report
//! ```
//!
//! `config` has the profiles and how a wrong setting is told, `value` and `setting` what a setting is, `table` and `class_table` a row for each,
//! `plan` holds them, `sizes` and `rules` say what it takes and whether it can be, `assembly` lays it out, `lifecycle` is
//! the running engine and its end, `sealing` watches over its allocations, `builder` starts it.

pub(crate) mod config;
pub(crate) mod value;
pub(crate) mod setting;
pub(crate) mod plan;
pub(crate) mod table;
pub(crate) mod class_table;
pub(crate) mod report;
mod response;
mod lane_view;
pub(crate) mod assembly;
pub(crate) mod sizes;
pub(crate) mod rules;
pub(crate) mod advice;
pub(crate) mod summary;
pub(crate) mod lifecycle;
pub(crate) mod ask;
pub(crate) mod sealing;
pub(crate) mod builder;

#[cfg(all(test, loom))]
mod models;

pub use ask::{ASK_LIMIT, AskError};
pub use assembly::{Seat, StartError};
pub use class_table::CLASS;
pub use config::{Against, BURST_MAX, OnPanic, PlanError, PlanErrors, Profile, Severity};
pub use lifecycle::{Engine, STOP_GRACE, StopError};
pub use plan::Plan;
pub use report::{ClassReport, Report, ShardReport};
pub use sealing::SealError;
pub use setting::{Kind, Range, Setting, Unfit};
pub use sizes::SIZED;
pub use table::{CODE_ONLY, ENGINE};
pub use value::{Secret, Value, Written};
