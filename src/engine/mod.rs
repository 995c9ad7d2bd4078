//! The engine: a checked plan, its shards, its producers, its end.
//!
//! ```text
//!   Plan ──check──▶ Engine ──attach──▶ Producer ─▶ lanes ─▶ Shard ─▶ Handler
//!                     │ ask, ledger, latency, drain
//!                     └ stop ─▶ Report
//! ```
//!
//! `config` has the settings and what is wrong with them, `plan` the plan and its footprint, `assembly`
//! lays it out, `lifecycle` is the running engine and its end, `builder` starts it.

pub(crate) mod config;
pub(crate) mod plan;
pub(crate) mod sizes;
pub(crate) mod rules;
pub(crate) mod report;
pub(crate) mod assembly;
pub(crate) mod lifecycle;
pub(crate) mod builder;

pub use assembly::{Seat, StartError};
pub use config::{BURST_MAX, OnPanic, PlanError, PlanErrors, Profile, cpu_list};
pub use lifecycle::{ASK_LIMIT, AskError, Engine, STOP_GRACE, StopError};
pub use plan::Plan;
pub use report::{ClassReport, Report, ShardReport};
