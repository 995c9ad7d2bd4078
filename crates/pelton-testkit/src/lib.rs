//! What the tests and benches of Pelton share.
//!
//! - [`proof`], whose items stand here too: a watchdog for every wait, events that prove themselves, and the two
//!   invariants that every test that moves events ends with.
//! - [`Dice`]: numbers by a seed.
//! - [`in_a_forked_child`]: what a fork of the test's process does.
//! - [`needs`]: what a test may need and a clone may lack.
//! - [`program`]: child processes, read to their end and killed when they take too long.
//! - [`event`]: the event that benches move, and the check that their consumers make.
//! - [`budgets`]: instructions counted by callgrind, compared with what they may come to.
//! - [`measuring`]: a global allocator that knows how many bytes are alive.
//! - [`tables`]: what every table of settings keeps to.
//! - `gateway`, `gateway_config` and `certificate` (feature `gateway`): a gateway in the process, clients that speak its
//!   protocol by hand, and its configurations.
//! - [`configs`]: made-up configurations that are good; `cases` (feature `config`): files of bad ones.
#![allow(missing_docs, missing_debug_implementations, reason = "nothing of it is published")]
#![allow(
    clippy::new_without_default,
    clippy::should_implement_trait,
    reason = "tests call them by these names"
)]

pub mod budgets;
pub mod configs;
mod dice;
pub mod event;
mod forked;
pub mod measuring;
pub mod needs;
pub mod program;
pub mod proof;
pub mod tables;

#[cfg(feature = "gateway")]
pub mod certificate;
#[cfg(feature = "gateway")]
pub mod gateway;
#[cfg(feature = "gateway")]
pub mod gateway_config;

#[cfg(feature = "config")]
pub mod cases;

pub use dice::Dice;
pub use forked::in_a_forked_child;
pub use proof::*;
