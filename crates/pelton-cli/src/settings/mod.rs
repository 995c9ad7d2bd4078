//! Settings of a run: options, environment and files, read together.

pub mod config;
pub(crate) mod config_args;
pub(crate) mod numbers;
pub mod table_args;
