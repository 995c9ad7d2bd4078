//! How many instructions does an event cost, and does that grow?
//!
//! Time on a shared machine is noisy; callgrind's counts are not. Everything runs on one thread: a host-driven engine
//! is published to and polled in turn, so that each side can be counted alone. The clock is virtual: a stamp costs a
//! load where the machine's clock would cost `rdtsc` and a shift. Counted are instructions, not time: cache lines that
//! travel between CPUs, which most of an event's nanoseconds go into, do not show here.
//!
//! Every figure is per event and net: what the loop, the event and the check of the handler take by themselves is
//! counted too, and taken off.
//!
//! ```sh
//! .ci/instructions                                # installs what is missing, and gates
//! cargo bench --bench instructions                # valgrind and gungraun-runner are there already
//! cargo bench --bench instructions -- '*engine*'  # a part: names that fit
//! ```

#[path = "instructions/budgets.rs"]
mod budgets;
#[path = "instructions/suite.rs"]
mod suite;

fn main() -> std::process::ExitCode {
    budgets::SUITE.run(suite::run)
}
