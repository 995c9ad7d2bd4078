//! Findings: what is wrong with a setting, or should be otherwise, and a value that works.

use std::fmt;

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// An engine would start, and do what its user would hardly want.
    Warning,
    /// No engine starts.
    Error,
}

/// What a setting does not agree with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Against {
    /// Its own range, or another setting: wrong on every machine.
    Settings,
    /// This machine, or what the system lets this process have of it.
    Host,
}

/// A setting that cannot be, or should not be, and one that could.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanError {
    /// The setting by its key, with the class it belongs to: `class 'bulk': capacity_slots`.
    pub setting: String,
    /// Its value.
    pub value: String,
    /// What it must keep to.
    pub limit: String,
    /// What would work.
    pub works: String,
    /// Whether it must, or should.
    pub severity: Severity,
    /// Whether it is wrong everywhere, or here.
    pub against: Against,
}

impl PlanError {
    /// A setting that cannot be, on any machine.
    ///
    /// ```
    /// use pelton::engine::{Against, PlanError, Severity};
    /// let error = PlanError::new("class 'bulk': capacity_slots", 1_000, "a power of two", 1_024);
    /// assert_eq!((error.key(), error.severity), ("capacity_slots", Severity::Error));
    /// assert_eq!(error.clone().warning().severity, Severity::Warning);
    /// assert_eq!(error.here().against, Against::Host);
    /// ```
    pub fn new(
        setting: impl Into<String>,
        value: impl fmt::Display,
        limit: impl Into<String>,
        works: impl fmt::Display,
    ) -> Self {
        PlanError {
            setting: setting.into(),
            value: value.to_string(),
            limit: limit.into(),
            works: works.to_string(),
            severity: Severity::Error,
            against: Against::Settings,
        }
    }

    /// The setting's key, without the class or the table that it is of.
    pub fn key(&self) -> &str {
        self.setting.rsplit_once(": ").map_or(&self.setting, |(_, key)| key)
    }

    /// The same as advice.
    pub fn warning(self) -> Self {
        PlanError { severity: Severity::Warning, ..self }
    }

    /// The same, and another machine could bear it.
    pub fn here(self) -> Self {
        PlanError { against: Against::Host, ..self }
    }
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { setting, value, limit, works, .. } = self;
        let must = if self.severity == Severity::Error { "must" } else { "should" };
        write!(f, "{setting} is {value}, but {must} be {limit}; {works} would work")
    }
}

/// Everything that is wrong with a plan, at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanErrors(pub Vec<PlanError>);

impl fmt::Display for PlanErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for PlanErrors {}
