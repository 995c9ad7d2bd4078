//! What is wrong with a configuration: where, why, and what would work.

use super::origin::Origin;
use crate::engine::{Against, PlanError, Severity};
use std::collections::BTreeSet;
use std::fmt;

/// What kind of problem it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// The file is not TOML.
    Syntax,
    /// There is no such setting.
    Unknown,
    /// A setting that must be named is not.
    Missing,
    /// The value is of a type, or in a range, that the setting does not have.
    Value,
    /// The setting has no use beside what another one is.
    Useless,
    /// A rule of the plan.
    Plan,
}

impl Rule {
    /// Its name, for machines.
    ///
    /// ```
    /// use pelton::config::Rule;
    /// assert_eq!(Rule::Unknown.name(), "unknown");
    /// ```
    pub const fn name(self) -> &'static str {
        match self {
            Rule::Syntax => "syntax",
            Rule::Unknown => "unknown",
            Rule::Missing => "missing",
            Rule::Value => "value",
            Rule::Useless => "useless",
            Rule::Plan => "plan",
        }
    }
}

/// One thing that is wrong, or that could be better.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What kind it is.
    pub rule: Rule,
    /// Whether an engine would start all the same.
    pub severity: Severity,
    /// Whether another machine could bear it.
    pub against: Against,
    /// Which setting, by its name among all; empty where it is none.
    pub setting: String,
    /// Where it stands; `None` where it stands nowhere.
    pub origin: Option<Origin>,
    /// What is the matter: `burst_events is 0`.
    pub what: String,
    /// Why that is wrong: `must be from 1 to 65536`.
    pub why: String,
    /// What would work.
    pub fix: String,
}

impl Problem {
    pub(super) fn new(
        rule: Rule,
        setting: impl Into<String>,
        origin: Option<Origin>,
        [what, why, fix]: [String; 3],
    ) -> Self {
        let (severity, against) = (Severity::Error, Against::Settings);
        Problem { rule, severity, against, setting: setting.into(), origin, what, why, fix }
    }

    pub(super) fn of_plan(error: &PlanError, origin: Option<Origin>) -> Self {
        let PlanError { setting, value, limit, works, severity, against } = error;
        let must = if *severity == Severity::Error { "must" } else { "should" };
        let texts =
            [format!("{setting} is {value}"), format!("{must} be {limit}"), format!("{works} would work")];
        let plain = Problem::new(Rule::Plan, setting, origin, texts);
        Problem { severity: *severity, against: *against, ..plain }
    }

    /// The bytes of the file where it stands, if that is in a file.
    pub fn span(&self) -> Option<std::ops::Range<usize>> {
        match &self.origin {
            Some(Origin::File { span, .. }) => Some(span.clone()),
            _ => None,
        }
    }
}

/// One line: where, what, why, and what would work.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(origin) = &self.origin {
            write!(f, "{origin}: ")?;
        }
        write!(f, "{}: {}; {}", self.what, self.why, self.fix)
    }
}

/// All that is wrong with a configuration, in the order in which it stands in the file.
///
/// ```
/// use pelton::config::{Rule, Sources, read};
/// use pelton::engine::Severity;
/// let text = "profile = \"dev\"\nburst_events = 0\n";
/// let sources = Sources { file: Some(("a.toml".into(), text.into())), ..Sources::default() };
/// let problems = read(&sources, None).into_plan().unwrap_err();
/// assert!(problems.has_errors());
/// let wrong = problems.of(Severity::Error).find(|problem| problem.setting == "burst_events").unwrap();
/// assert_eq!((wrong.rule, &text[wrong.span().unwrap()]), (Rule::Value, "0"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// Whether no engine starts from it.
    pub fn has_errors(&self) -> bool {
        self.of(Severity::Error).next().is_some()
    }

    /// Those of a severity.
    pub fn of(&self, severity: Severity) -> impl Iterator<Item = &Problem> {
        self.0.iter().filter(move |problem| problem.severity == severity)
    }

    pub(super) fn sort(&mut self) {
        // What cannot be read leaves a piece of its line behind, which is no mistake of its own.
        let line = |problem: &Problem| match problem.origin {
            Some(Origin::File { line, .. }) => Some(line),
            _ => None,
        };
        let broken: BTreeSet<_> =
            self.0.iter().filter(|problem| problem.rule == Rule::Syntax).filter_map(line).collect();
        self.0.retain(|problem| {
            problem.rule == Rule::Syntax || line(problem).is_none_or(|line| !broken.contains(&line))
        });
        // What stands nowhere comes last; the order is otherwise that of the file.
        self.0.sort_by_key(|problem| problem.span().map_or(usize::MAX, |span| span.start));
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.0.iter().enumerate() {
            if at > 0 {
                writeln!(f)?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
