//! The program and its servers as child processes, and a log with known totals.

pub mod access_log;
pub mod server;

use pelton_testkit::program::alone;
use std::process::Command;

/// The program with nothing to read; what it writes is kept.
pub fn pelton() -> Command {
    alone(Command::new(env!("CARGO_BIN_EXE_pelton")))
}
