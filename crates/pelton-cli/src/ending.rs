//! What a signal does to a served gateway, from before its start to the end of its report.
//!
//! # Mechanism
//! One thread takes all signals. What it does with one depends on how far the program is:
//!
//! | stage | SIGINT, SIGTERM | SIGHUP |
//! |---|---|---|
//! | starting | begins the stop of a start that ends within [`GRACE`], or ends the process | the same |
//! | serving | begins the stop | the same |
//! | stopping | hurries the stop | nothing: a shell and the system each send one |
//! | reporting | ends the process if the report is not written within [`GRACE`] | nothing |
//!
//! So a start that takes long can be interrupted, and so can a report that nothing reads. A start that is nearly done may
//! listen already: it is stopped like a server, since clients may have published.
//!
//! # Invariants
//! - A stage is entered under a lock, and read under it: a signal ends the process in its start or begins the stop, and is
//!   never lost between the two.
//! - SIGHUP is left as it was where it is ignored, as under `nohup`.

use crate::failure::Failure;
use pelton_gateway::ForceStop;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{fs, thread};

/// How long a start or a report may go on after a signal.
const GRACE: Duration = Duration::from_secs(1);

/// How far the program is.
enum Stage {
    Starting,
    /// A signal came before the gateway served.
    Interrupted,
    Serving(Sender<()>, ForceStop),
    Stopping(ForceStop),
    Reporting,
}

/// What ends a served gateway: signals, and the loss of one of its threads.
#[derive(Clone)]
pub struct Ending(Arc<Mutex<Stage>>);

impl Ending {
    /// Takes the signals over, before anything is started.
    ///
    /// # Errors
    /// The system refuses the handlers, or the thread.
    pub fn watch() -> Result<Ending, Failure> {
        let all = [SIGINT, SIGTERM].into_iter().chain(hears_of_hang_ups().then_some(SIGHUP));
        let failed = |error| Failure::system(format!("signals cannot be received: {error}"), &error);
        let mut signals = Signals::new(all).map_err(failed)?;
        let stage = Arc::new(Mutex::new(Stage::Starting));
        let ending = Ending(stage.clone());
        let watch = move || signals.forever().for_each(|signal| obey(&stage, signal));
        thread::Builder::new().name("pelton-signals".into()).spawn(watch).map_err(failed)?;
        Ok(ending)
    }

    /// The gateway serves: the first signal sends a message to the receiver, also where it has come before.
    pub fn serve(&self, force_stop: ForceStop) -> Receiver<()> {
        let (first, signals) = channel();
        let mut stage = lock(&self.0);
        let is_interrupted = matches!(*stage, Stage::Interrupted);
        *stage = Stage::Serving(first, force_stop);
        if is_interrupted {
            begin_stop(&mut stage);
        }
        signals
    }

    /// A thread of the gateway is lost: the stop begins, as by a signal.
    pub fn lose(&self) {
        begin_stop(&mut lock(&self.0));
    }

    /// The gateway has stopped, and its report is written.
    pub fn report(&self) {
        *lock(&self.0) = Stage::Reporting;
    }
}

fn lock(stage: &Mutex<Stage>) -> MutexGuard<'_, Stage> {
    stage.lock().unwrap_or_else(PoisonError::into_inner)
}

fn obey(of: &Mutex<Stage>, signal: i32) {
    let mut stage = lock(of);
    match &*stage {
        Stage::Starting => {
            *stage = Stage::Interrupted;
            drop(stage);
            thread::sleep(GRACE);
            // Held until the process ends: the gateway serves before, or never.
            let stage = lock(of);
            if matches!(*stage, Stage::Interrupted) {
                end(signal);
            }
        }
        Stage::Serving(..) => begin_stop(&mut stage),
        Stage::Stopping(force_stop) if signal != SIGHUP => force_stop.now(),
        Stage::Reporting if signal != SIGHUP => {
            drop(stage);
            thread::sleep(GRACE);
            end(signal);
        }
        Stage::Interrupted | Stage::Stopping(_) | Stage::Reporting => {}
    }
}

/// Begins the stop of a gateway that serves.
fn begin_stop(stage: &mut Stage) {
    if !matches!(stage, Stage::Serving(..)) {
        return;
    }
    if let Stage::Serving(first, force_stop) = std::mem::replace(stage, Stage::Starting) {
        *stage = Stage::Stopping(force_stop);
        // The receiver waits, or is gone with the gateway.
        let _ = first.send(());
    }
}

/// Ends the process as the signal does where it has no handler: whoever waits for it sees the signal.
fn end(signal: i32) {
    let _ = emulate_default_handler(signal);
}

/// Whether SIGHUP ends the gateway: not where it is ignored, as under `nohup`. Where the system does not say so, the signal
/// stays as it was.
fn hears_of_hang_ups() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_some_and(|mask| mask >> (SIGHUP - 1) & 1 == 0)
}
