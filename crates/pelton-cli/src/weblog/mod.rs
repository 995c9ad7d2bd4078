//! Web server logs: read them, take them apart, count them, and make them up.
//!
//! # Mechanism
//! A line goes one way through this room, and each file takes it one step further:
//!
//! ```text
//! input ─RawLine─▶ parse ─Line─▶ Aggregate::record ─▶ tables, histogram ─▶ Report
//! generate ─bytes─▶ (the same way)    ▲
//! replay: the same, with the engine ──┘ between the threads that parse and the shards that record
//! ```
//!
//! The files have an order, and each imports earlier ones only: `line`, `input`, `tables`, `aggregate`,
//! `ranks`, `generate`, `pace`, `options`, `feed`, `configure`, `replay`.
//!
//! # Invariants
//! - A [`Line`] borrows from the bytes that it was parsed from; nothing is copied and nothing is decoded.
//! - After construction, reading, parsing, recording and generating allocate nothing. Merging and reporting
//!   do, and say so.
//! - What does not fit (a line that is too long, a name that a full table cannot take) is reported or
//!   counted, never dropped in silence.
//!
//! # Limits
//! Lines of at most [`LINE_BYTES_MAX`] bytes; tables of at most [`ENTRIES_MAX`] names; 64-bit Unix machines,
//! since files are read by position and tables may be larger than 4 GiB.

// The blank lines keep the order above, which is that of the imports, from being sorted.
pub mod line;

pub mod input;

pub mod tables;

pub mod aggregate;

mod ranks;

pub mod generate;

pub mod pace;

pub mod options;

pub mod feed;

mod load;

pub mod replay;

pub use crate::weblog::aggregate::{Aggregate, Limits, Report};
pub use crate::weblog::feed::{Noted, Progress};
pub use crate::weblog::generate::{Generator, Settings, SettingsError};
pub use crate::weblog::input::{FileRange, LineReader, OpenError, RawLine, open, split};
pub use crate::weblog::line::{LINE_BYTES_MAX, Line, Malformed, parse, path_of};
pub use crate::weblog::load::configure;
pub use crate::weblog::options::{CLASS_NAMES, Options, REPLAY};
pub use crate::weblog::pace::{Kept, LATE_FROM, RATE_MAX};
pub use crate::weblog::replay::{
    InputCounts, Prepared, Replay, ReplayError, prepare_file, prepare_memory, prepare_stream,
};
pub use crate::weblog::tables::{CountTable, ENTRIES_MAX, TableError};
