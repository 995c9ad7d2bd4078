//! How a mode fails.

use std::io;

/// Why a mode could not run to its end.
pub enum Failure {
    Usage(String),
    Io(String, io::Error),
}

/// Names what was being done when it failed.
pub fn failed(what: impl Into<String>) -> impl FnOnce(io::Error) -> Failure {
    let what = what.into();
    move |error| Failure::Io(what, error)
}
