//! The program: what it is told, what it starts, what it prints. All that it does is done by the library.
//!
//! ```text
//!   args, config_args ─▶ setting ─▶ config ─▶ replay, up, bench, … ─▶ library ─▶ text or json ─▶ standard output
//!   doctor ───────────▶ this machine ───────────────────────▶
//! ```
//!
//! Exit codes: 0, all is well; 1, the run failed (the input, the output, a malformed line under `--strict`, events that a
//! stop left in their lanes), or `diff` has found a difference; 2, the arguments or the settings cannot be; 3, the settings
//! could be, but not on this machine (a file is not there, an address is in use, a limit is too low), or `doctor` has found
//! something bad. A reader that closes the output early changes none of them: only what is printed is lost. Errors go to standard error, each as one sentence that says what to do.
//! What `check` finds is its output, and goes to standard output.
#![forbid(unsafe_code)]

mod args;
mod bench;
mod config;
mod check;
mod config_args;
mod diff;
mod doctor;
mod ending;
mod explain;
mod failure;
mod files;
mod format;
mod front;
mod generate;
mod init;
mod json;
mod lookout;
mod machine;
mod masked;
mod page;
mod problems;
mod progress;
mod replay;
mod run;
mod setting;
mod text;
mod up;

use args::{Cli, Command};
use clap::Parser;
use failure::Failure;
use pelton::memory::audit::Counting;
use std::process::ExitCode;

/// Counts for each thread how often it asks for memory: the figure that must be 0 while events run.
#[global_allocator]
static ALLOCATOR: Counting<mimalloc::MiMalloc> = Counting::new(mimalloc::MiMalloc);

fn main() -> ExitCode {
    machine::allow_huge_pages(false);
    let done = match Cli::parse().command {
        Command::Replay(args) => replay::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Generate(args) => generate::run(&args),
        Command::Up(args) => up::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Init(args) => init::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Diff(args) => diff::run(&args),
        Command::Doctor(args) => doctor::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // All is well, and the reader has seen enough.
        Err(Failure::OutputClosed) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(),
    }
}
