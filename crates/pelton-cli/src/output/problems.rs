//! What is wrong with a configuration, each with its place in the file underlined.

use crate::failure::Failure;
use crate::output::format::{clean, many};
use crate::output::masked::masked;
use crate::output::page::{self, Page};
use crate::settings::config::Loaded;
use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode,
    ThemeCharacters, ThemeStyles,
};
use pelton::config::{Origin, Problem, Problems};
use pelton::engine::{Against, Severity};
use pelton::words::{is_printable, printable};
use std::fmt;

/// Exit code where the configuration cannot be.
pub const CONFIGURATION: u8 = 2;
/// Exit code where it can be, but not on this machine.
pub const HOST: u8 = 3;

/// Bytes of a line that can still be shown with something underlined.
const LINE_MAX: usize = 400;

/// Characters of one text of a problem: a file may hold a word of any length.
const TEXT_MAX: usize = 600;

/// The exit code of what was found: 0 where nothing stands against a start.
pub fn code(problems: &Problems, deny_warnings: bool) -> u8 {
    let counts = |problem: &&Problem| deny_warnings || problem.severity == Severity::Error;
    let counting: Vec<_> = problems.0.iter().filter(counts).collect();
    match counting.iter().all(|problem| problem.against == Against::Host) {
        _ if counting.is_empty() => 0,
        true => HOST,
        false => CONFIGURATION,
    }
}

/// Shows all of them on the page, errors and warnings alike, and how many there are.
pub fn show(page: &mut Page, problems: &Problems, file: Option<(&str, &str)>) -> Result<(), Failure> {
    page.raw(&render(problems, file, page.width(), page.has_colours()))
}

/// Prints all of them, and refuses the configuration with this exit code, whether or not they could be printed.
pub fn refused(read: &Loaded, code: u8) -> Failure {
    let _ = page::print(|page| show(page, read.config.problems(), read.file()));
    Failure::Told(code)
}

/// All of them, errors and warnings alike, and how many there are.
pub fn render(problems: &Problems, file: Option<(&str, &str)>, width: usize, colours: bool) -> String {
    let source = file.map(|(name, text)| (NamedSource::new(printable(name), visible(&masked(text))), text));
    let mut all = String::new();
    for problem in &problems.0 {
        let source = source.as_ref().filter(|(_, text)| is_shown(problem, text)).map(|(source, _)| source);
        let mut text = String::new();
        let shown = Shown::of(problem, source);
        if handler(width, colours, problem.severity).render_report(&mut text, &shown).is_err() {
            text = problem.to_string();
        }
        text.trim_end().lines().for_each(|line| {
            all += line.trim_end();
            all.push('\n');
        });
        all.push('\n');
    }
    let count = |severity| problems.of(severity).count() as u64;
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let sum = match (errors, warnings) {
        (0, warnings) => many(warnings, "warning"),
        (errors, 0) => many(errors, "error"),
        (errors, warnings) => format!("{}, {}", many(errors, "error"), many(warnings, "warning")),
    };
    let name = file.map_or("The configuration".into(), |(name, _)| printable(name));
    all + &format!("{name}: {sum}")
}

fn handler(width: usize, colours: bool, severity: Severity) -> GraphicalReportHandler {
    let (characters, styles) = (ThemeCharacters::unicode(), ThemeStyles::ansi());
    let mut styles = if colours { styles } else { ThemeStyles::none() };
    // What is underlined has the colour of the sign above it.
    styles.highlights = vec![if severity == Severity::Error { styles.error } else { styles.warning }];
    GraphicalReportHandler::new_themed(GraphicalTheme { characters, styles })
        .with_links(false)
        .with_width(width)
        .with_context_lines(1)
        .without_syntax_highlighting()
}

/// The file for a terminal: what would move the cursor is replaced by something as long, so that all places stay.
fn visible(text: &str) -> String {
    let stand_in = |c: char| match (c, c.len_utf8()) {
        ('\n' | '\t', _) => c,
        (c, _) if is_printable(c) => c,
        (_, 1) => ' ',
        (_, 2) => '·',
        (_, _) => '\u{fffd}',
    };
    text.chars().map(stand_in).collect()
}

/// Whether the lines around a problem are short enough to be shown.
fn is_shown(problem: &Problem, text: &str) -> bool {
    let Some(span) = problem.span() else { return false };
    let from = text[..span.start].rfind('\n').map_or(0, |at| text[..at].rfind('\n').map_or(0, |at| at + 1));
    let rest = &text[span.end..];
    let to = rest.match_indices('\n').nth(1).map_or(rest.len(), |(at, _)| at) + span.end;
    text[from..to].lines().all(|line| line.len() <= LINE_MAX)
}

/// A problem as it is shown.
#[derive(Debug)]
struct Shown<'a> {
    what: String,
    why: Why,
    fix: String,
    problem: &'a Problem,
    source: Option<&'a NamedSource<String>>,
}

#[derive(Debug)]
struct Why(String);

impl<'a> Shown<'a> {
    fn of(problem: &'a Problem, source: Option<&'a NamedSource<String>>) -> Self {
        let text = |text: &str| clean(text, TEXT_MAX);
        let place = match (&problem.origin, source) {
            // The snippet has the place in its head.
            (Some(Origin::File { .. }), Some(_)) | (None, _) => String::new(),
            (Some(Origin::File { line, column, .. }), None) => format!(" (line {line}, column {column})"),
            // A variable that is none is named already.
            (Some(origin), _) if problem.what.starts_with(&origin.to_string()) => String::new(),
            (Some(origin), _) => format!(" ({})", text(&origin.to_string())),
        };
        Shown {
            what: format!("{}{place}", text(&problem.what)),
            why: Why(text(&problem.why)),
            fix: text(&problem.fix),
            problem,
            source,
        }
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Why {}

impl std::error::Error for Shown<'_> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.why)
    }
}

impl Diagnostic for Shown<'_> {
    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.problem.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'b>(&'b self) -> Option<Box<dyn fmt::Display + 'b>> {
        Some(Box::new(&self.fix))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.map(|source| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = self.problem.span().filter(|_| self.source.is_some())?;
        Some(Box::new(std::iter::once(LabeledSpan::underline(span))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_cannot_write_to_the_terminal_and_keeps_its_places() {
        let text = "a = \"\u{1b}[2J\u{9b}\u{202e}\u{61c}\u{2028}é\"\r\n";
        let shown = visible(text);
        assert_eq!(shown.len(), text.len());
        assert!(shown.chars().all(|c| is_printable(c) || c == '\n'), "{shown:?}");
    }
}
