//! Settings of a run: options, environment and files, read together; explained, compared, written and drafted.

pub mod answers;
pub mod config;
pub(crate) mod config_args;
mod cost;
pub mod diff;
pub mod draft;
pub mod explain;
pub mod gateway;
pub mod memory;
pub(crate) mod numbers;
mod serialized;
pub mod table_args;
pub mod write;
