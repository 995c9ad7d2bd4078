//! The program `pelton` as a library: what it is told, what it starts, what it prints.
//!
//! ```text
//!   args ─▶ settings ─▶ commands: replay, up, run, … ─▶ output: text or JSON ─▶ standard output
//!   doctor ─▶ this machine
//! ```
//!
//! It is a library so that `pelton-bench`, which is not published, prints and reads settings as the program does. It
//! promises no API to others.
#![allow(missing_debug_implementations, reason = "it promises no API")]

pub mod weblog;

pub mod doctor;

pub mod output;

mod ending;
pub mod failure;

pub mod settings;

mod args;
mod front;
mod lookout;
mod machine;

mod commands;

use args::{Cli, Command};
use clap::Parser;
use std::process::ExitCode;

/// Runs the program with the arguments of this process, and returns its exit code.
///
/// | code | meaning |
/// |---:|---|
/// | 0 | all is well |
/// | 1 | the run failed (the input, the output, a malformed line under `--strict`, events that a stop left in their lanes), or `diff` has found a difference |
/// | 2 | the arguments or the settings cannot be |
/// | 3 | the settings could be, but not on this machine (a file is not there, an address is in use, a limit is too low), or `doctor` has found something bad |
///
/// A reader that closes the output early changes none of them: only what is printed is lost. Errors go to standard
/// error, each as one sentence that says what to do. What `check` finds is its output, and goes to standard output.
pub fn main() -> ExitCode {
    machine::allow_huge_pages(false);
    let done = match Cli::parse().command {
        Command::Replay(args) => commands::replay::run(&args),
        Command::Run(args) => commands::run::run(&args),
        Command::Generate(args) => commands::generate::run(&args),
        Command::Up(args) => commands::up::run(&args),
        Command::Init(args) => commands::init::run(&args),
        Command::Check(args) => commands::check::run(&args),
        Command::Explain(args) => commands::explain::run(&args),
        Command::Diff(args) => commands::diff::run(&args),
        Command::Doctor(args) => commands::doctor::run(&args),
    };
    output::exit::exit_code(done)
}
