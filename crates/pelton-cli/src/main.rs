//! The program `pelton`. All that it does is done by the library [`pelton_cli`].

use pelton::memory::audit::Counting;
use std::process::ExitCode;

/// Counts for each thread how often it asks for memory: the figure that must be 0 while events run.
#[global_allocator]
static ALLOCATOR: Counting<mimalloc::MiMalloc> = Counting::new(mimalloc::MiMalloc);

fn main() -> ExitCode {
    pelton_cli::main()
}
