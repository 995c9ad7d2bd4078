//! How the program ends: what it prints of a failure, and with which exit code.

use super::page;
use super::problems;
use crate::failure::Failure;
use crate::output::format::{printable, wrap};
use pelton::config::Problems;
use pelton::engine::Severity;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

/// The exit code of a command that is done; its failure is printed.
pub fn exit_code(done: Result<(), Failure>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => print(failure),
    }
}

/// Prints what is wrong.
fn print(failure: Failure) -> ExitCode {
    let (sentences, code) = match failure {
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
