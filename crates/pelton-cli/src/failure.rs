//! Why a command did not end well.

use crate::weblog::ReplayError;
use pelton::config::Problems;
use pelton::engine::{Against, PlanError, PlanErrors, StartError};
use pelton::words::many;
use pelton_gateway::{ListenError, ServeError};
use std::error::Error;
use std::io;

/// Why a command did not end well.
#[derive(Debug)]
pub enum Failure {
    /// The settings cannot be: one sentence for each.
    Settings(Vec<String>),
    /// The configuration cannot be.
    Config {
        /// All that is wrong with it.
        problems: Problems,
        /// The file's name and what it holds, where there is one.
        file: Option<(String, String)>,
    },
    /// The settings could be, but not on this machine, or it is bad for any: one sentence for each.
    Host(Vec<String>),
    /// All is said; this is the exit code.
    Told(u8),
    /// The run failed.
    Run(String),
    /// The reader of the output has closed it. No failure at all.
    OutputClosed,
}

impl Failure {
    /// A failed run, with the causes of the error where its own text does not have them.
    pub fn run(error: &dyn Error) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let more = error.to_string();
            if !text.contains(&more) {
                text = format!("{text}: {more}");
            }
            cause = error.source();
        }
        Failure::Run(text)
    }

    /// An end that did not wait for all events.
    pub fn left(events: u64, what: &str, advice: &str) -> Self {
        let (events, were) = (many(events, "event"), if events == 1 { "was" } else { "were" });
        Failure::Run(format!("{events} {were} still in the lanes when {what} had to end; {advice}"))
    }

    /// A gateway that did not start: what cannot be, what cannot be here, or what went wrong.
    pub fn serve(error: &ServeError) -> Self {
        match error {
            ServeError::Options(errors) | ServeError::Engine(StartError::Plan(errors)) => {
                Failure::plan(errors)
            }
            ServeError::Thread(cause) => Failure::system(error, cause),
            ServeError::Engine(error @ StartError::Thread { error: cause, .. }) => {
                Failure::system(error, cause)
            }
            ServeError::Engine(error @ StartError::Memory { .. }) => Failure::Host(vec![error.to_string()]),
            ServeError::Listen(
                error @ (ListenError::Address { error: cause, .. } | ListenError::Path { error: cause, .. }),
            ) if limit(cause).is_some() => Failure::system(error, cause),
            // Somewhere else, or at another time, it could be.
            ServeError::Listen(error @ ListenError::Address { .. }) => {
                Failure::Host(vec![format!("{error}; another address would work")])
            }
            ServeError::Listen(ListenError::Tls(error)) => Failure::plan(&PlanErrors(vec![error.clone()])),
            ServeError::Listen(error) => Failure::Host(vec![error.to_string()]),
            error => Failure::run(error),
        }
    }

    /// What this machine refuses, `cause`, and what would help where that is known.
    pub fn system(what: impl std::fmt::Display, cause: &io::Error) -> Self {
        let advice = limit(cause).map_or(String::new(), |limit| format!("; {limit} would work"));
        Failure::Host(vec![format!("{what}{advice}")])
    }

    /// What is wrong with a plan. As everywhere: what another machine could bear has a code of its own.
    pub fn plan(errors: &PlanErrors) -> Self {
        let sentences = errors.0.iter().map(PlanError::to_string).collect();
        let here = errors.0.iter().all(|error| error.against == Against::Host);
        if here { Failure::Host(sentences) } else { Failure::Settings(sentences) }
    }

    /// What standard output said.
    pub fn output(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Failure::OutputClosed;
        }
        Failure::Run(format!(
            "the output could not be written: {error}; check the disk, or where it is piped to"
        ))
    }
}

/// The limit that the system has come to, raised.
fn limit(cause: &io::Error) -> Option<&'static str> {
    match cause.raw_os_error()? {
        libc::EMFILE => Some("a higher limit of open files (`ulimit -n`, LimitNOFILE of a service)"),
        libc::EAGAIN => Some("a higher limit of threads (`ulimit -u`, TasksMax of a service)"),
        _ => None,
    }
}

impl From<PlanErrors> for Failure {
    fn from(errors: PlanErrors) -> Self {
        Failure::Settings(errors.0.iter().map(PlanError::to_string).collect())
    }
}

impl From<PlanError> for Failure {
    fn from(error: PlanError) -> Self {
        Failure::Settings(vec![error.to_string()])
    }
}

impl From<ReplayError> for Failure {
    fn from(error: ReplayError) -> Self {
        match error {
            ReplayError::Settings(errors) => errors.into(),
            error => Failure::run(&error),
        }
    }
}
