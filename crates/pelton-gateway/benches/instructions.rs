//! How many instructions does a request cost: finding its arguments, finding a stored field, writing an id?
//!
//! ```sh
//! .ci/instructions                                  # installs what is missing, and gates
//! cargo bench -p pelton-gateway --bench instructions
//! ```

#[path = "instructions/requests.rs"]
mod requests;

use pelton_testkit::budgets::{Budget, Suite};
use std::process::ExitCode;

const SUITE: Suite = Suite {
    name: "requests",
    events: requests::EVENTS,
    budgets: &[
        Budget("resp_parse::xadd", None, 170.0),
        Budget("resp_pair::third_of_3", None, 210.0),
        Budget("resp_id::of_one_ms", None, 67.0),
    ],
    growth: &[],
    against: None,
};

fn main() -> ExitCode {
    SUITE.run(requests::run)
}
