//! What a test may need and a clone may lack. A test without it reports itself *skipped* on standard error, where a run
//! shows it (libtest captures only what `print!` and `eprint!` write), and returns.
//!
//! `PELTON_TEST_REQUIRED` lists needs, separated by commas (`access-log,clients,tools`); there their absence is a failure.

use std::env::{var, var_os};
use std::io::Write;
use std::path::PathBuf;

/// The environment variable that lists what must not be missing.
pub const REQUIRED: &str = "PELTON_TEST_REQUIRED";

/// The environment variable with the path of the real access log.
pub const ACCESS_LOG: &str = "PELTON_TEST_ACCESS_LOG";

/// What a test may need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The real access log of 10,000 lines.
    AccessLog,
    /// Clients and servers of the Redis protocol; `tests/clients/install` installs them.
    Clients,
    /// Programs of the system, and examples of this package.
    Tools,
    /// A machine, a kernel or a privilege that not every run has.
    Machine,
    /// More time than a usual run takes.
    Time,
}

impl Need {
    const ALL: [Need; 5] = [Need::AccessLog, Need::Clients, Need::Tools, Need::Machine, Need::Time];

    fn name(self) -> &'static str {
        match self {
            Need::AccessLog => "access-log",
            Need::Clients => "clients",
            Need::Tools => "tools",
            Need::Machine => "machine",
            Need::Time => "time",
        }
    }

    /// Whether a comma-separated list names the need.
    ///
    /// # Panics
    /// The list has a word that names no need: a misspelt one would require nothing.
    fn is_in(self, list: &str) -> bool {
        let mut is_in = false;
        for word in list.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            let need = Need::ALL.into_iter().find(|need| need.name() == word);
            let names = Need::ALL.map(Need::name).join(", ");
            let need = need.unwrap_or_else(|| panic!("{REQUIRED}: '{word}' is not one of {names}"));
            is_in |= need == self;
        }
        is_in
    }
}

/// Reports that the test is skipped, and why. Returns `None`, so that `let Some(…) = … else { return }` ends the test.
///
/// # Panics
/// `PELTON_TEST_REQUIRED` lists the need.
#[track_caller]
pub fn skipped<T>(need: Need, why: &str) -> Option<T> {
    let name = need.name();
    let required = var(REQUIRED).is_ok_and(|list| need.is_in(&list));
    assert!(!required, "{why}, and {REQUIRED} lists {name}");
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    // In one piece, so that lines of several tests do not mix.
    let _ = std::io::stderr().write_all(format!("skipped: {test} ({name}): {why}\n").as_bytes());
    None
}

/// The real access log. `None`, and the test is skipped, where the environment does not name it.
///
/// # Panics
/// The environment names something that is not a file.
#[track_caller]
pub fn real_access_log() -> Option<PathBuf> {
    let Some(path) = var_os(ACCESS_LOG).map(PathBuf::from) else {
        return skipped(Need::AccessLog, &format!("{ACCESS_LOG} is not set"));
    };
    assert!(path.is_file(), "{ACCESS_LOG}: {} is not a file", path.display());
    Some(path)
}
