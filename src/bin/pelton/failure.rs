//! How the program fails: what it says, and with which exit code.

use crate::{page, problems};
use pelton::config::Problems;
use pelton::engine::{Against, PlanError, PlanErrors, Severity, StartError};
use pelton::gateway::{ListenError, ServeError};
use pelton::measure::MeasureError;
use pelton::weblog::ReplayError;
use pelton::words::{many, printable, wrap};
use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

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
    /// Says what is wrong.
    pub fn tell(self) -> ExitCode {
        let (sentences, code) = match self {
            Failure::Settings(sentences) => (sentences, 2),
            Failure::Config { problems, file } => {
                return tell(&problems, file.as_ref().map(|(name, text)| (name.as_str(), text.as_str())));
            }
            Failure::Host(sentences) => (sentences, 3),
            Failure::Told(code) => (Vec::new(), code),
            Failure::Run(sentence) => (vec![sentence], 1),
            Failure::OutputClosed => (Vec::new(), 0),
        };
        let mut err = io::stderr().lock();
        let reads = err.is_terminal();
        for sentence in sentences.iter().map(|sentence| format!("error: {}", printable(sentence))) {
            // Programs find a sentence on each line. There is nobody left to tell if this fails.
            let lines = if reads { wrap(&sentence, page::width()) } else { vec![sentence] };
            lines.iter().for_each(|line| drop(writeln!(err, "{line}")));
        }
        ExitCode::from(code)
    }

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
            ServeError::Listen(ListenError::Terms(error)) => Failure::plan(&PlanErrors(vec![error.clone()])),
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

/// Says what is wrong with a configuration: what stands in a file with its place underlined, otherwise a line each.
fn tell(problems: &Problems, file: Option<(&str, &str)>) -> ExitCode {
    let mut err = io::stderr().lock();
    if file.is_some() {
        let colours = page::has_colours(&err);
        let text = problems::render(problems, file, page::width(), colours);
        let _ = writeln!(err, "{text}");
    } else {
        for problem in &problems.0 {
            let weight = if problem.severity == Severity::Error { "error" } else { "warning" };
            let _ = writeln!(err, "{weight}: {}", printable(&problem.to_string()));
        }
    }
    ExitCode::from(problems::code(problems, false))
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

impl From<MeasureError> for Failure {
    fn from(error: MeasureError) -> Self {
        match error {
            MeasureError::Settings(errors) => errors.into(),
            error => Failure::run(&error),
        }
    }
}
