//! The settings: each is described once, by a row of a table.
//!
//! `value` has what a setting can hold, `kind` what it may be and how it is read, `error` how a wrong one is reported,
//! `schema` the row and the macro that makes a table, `field` how a struct keeps a value, `engine` and `class` the tables
//! of an engine and of a class.

pub(crate) mod value;
pub(crate) mod kind;
pub(crate) mod error;
pub mod schema;
pub mod field;
pub(crate) mod engine;
pub(crate) mod class;
