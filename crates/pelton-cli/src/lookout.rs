//! The lookout over a served gateway: it begins the stop when a thread of the gateway is lost, and prints what goes wrong with
//! connections.
//!
//! Lines about connections (wrong passwords, connections that were turned away or displaced) are gathered: one of each kind
//! every [`EVERY`] at most, however many connections there are. They are printed by a thread of their own, as a reader of
//! standard error that does not read must hold up nothing else.

use crate::ending::Ending;
use crate::failure::Failure;
use crate::output::format::clean;
use pelton_gateway::Watch;
use std::io::{Write, stderr};
use std::thread;
use std::time::Duration;

/// How often lines about connections are printed.
const EVERY: Duration = Duration::from_secs(10);

/// Starts to look out for as long as the gateway runs.
///
/// # Errors
/// The system refuses the threads.
pub fn start(watch: Watch, ending: &Ending) -> Result<(), Failure> {
    let (incidents, ending) = (watch.clone(), ending.clone());
    let print = move || {
        while incidents.wait(EVERY).is_none() && !incidents.is_over() {
            for incident in incidents.incidents() {
                // Whoever reads it has gone; the gateway goes on.
                let _ = writeln!(stderr(), "warning: {}", clean(&incident, 300));
            }
        }
    };
    let look = move || {
        while !watch.is_over() {
            if watch.wait(Duration::MAX).is_some() {
                return ending.lose();
            }
        }
    };
    let failed = |error| Failure::system(format!("a thread that looks after the gateway: {error}"), &error);
    thread::Builder::new().name("pelton-incidents".into()).spawn(print).map_err(failed)?;
    thread::Builder::new().name("pelton-lookout".into()).spawn(look).map_err(failed)?;
    Ok(())
}
