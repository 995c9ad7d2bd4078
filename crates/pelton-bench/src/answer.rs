//! The answer to a question: what was measured, where, and what it is held against.
//!
//! # Shape
//! ```text
//!   Answer ─ question, machine, settings, notes
//!     └─ Table ─ what, unit, axis                   one for each thing that is told: the p50, the p99, …
//!          └─ Point ─ where on the axis             one for each row of a sweep; a table without a sweep has one
//!               ├─ Figure ─ contender, runs, median, interval, ratio of ours to it
//!               └─ Limit ─ what must hold, as measured
//! ```

use super::machine::Machine;
use super::rounds::{Estimate, Role, Runs};
use super::settings::Bench;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::fmt;

/// The unit of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Nanoseconds for each event; less is better.
    NsPerEvent,
    /// Nanoseconds; less is better.
    Ns,
    /// Events a second; more is better.
    EventsPerS,
    /// A ratio.
    Times,
}

impl Unit {
    /// As it stands in the head of a table.
    pub fn name(self) -> &'static str {
        match self {
            Unit::NsPerEvent => "ns/event",
            Unit::Ns => "time",
            Unit::EventsPerS => "events/s",
            Unit::Times => "×",
        }
    }
}

/// What one contender did at one point.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// The contender and how it is used.
    pub peer: String,
    /// What it is to the question.
    pub role: Role,
    /// By round, in the table's unit.
    pub runs: Vec<f64>,
    /// Over the rounds, in the table's unit.
    #[serde(flatten)]
    pub estimate: Estimate,
    /// Ours / it, over the rounds; ours is the first of the point. Absent for ours itself and where it has no value.
    pub ours_to_it: Option<Estimate>,
}

/// Whether a limit is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It is, and the goal beyond it is reached.
    Goal,
    /// It is.
    Kept,
    /// It is not.
    Missed,
}

/// Something that must hold, as it was measured. Less is better in all of them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Limit {
    /// What is measured.
    pub what: String,
    /// Its unit, and that of both limits.
    pub unit: Unit,
    /// Over the rounds.
    pub measured: Estimate,
    /// The most that it may be.
    pub limit: f64,
    /// What it should be.
    pub goal: f64,
    /// How the median stands to them.
    pub standing: Standing,
}

impl Limit {
    /// A limit and how `measured` stands to it.
    pub fn new(what: impl Into<String>, unit: Unit, measured: Estimate, limit: f64, goal: f64) -> Self {
        let standing = match measured.median {
            median if median <= goal => Standing::Goal,
            median if median <= limit => Standing::Kept,
            _ => Standing::Missed,
        };
        Limit { what: what.into(), unit, measured, limit, goal, standing }
    }

    /// A limit of a ratio of two contenders' runs; none where the ratio has no value.
    pub fn ratio(what: impl Into<String>, ours: &Runs, its: &Runs, limit: f64, goal: f64) -> Option<Self> {
        let measured = Estimate::of_ratios(&ours.runs, &its.runs)?;
        Some(Self::new(what, Unit::Times, measured, limit, goal))
    }
}

/// One place on a table's axis.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Point {
    /// Where on the axis; 0 in a table without a sweep.
    pub at: f64,
    /// The same in words; empty in a table without a sweep.
    pub label: String,
    /// The contenders, in their order: ours first.
    pub figures: Vec<Figure>,
    /// What must hold here.
    pub limits: Vec<Limit>,
}

impl Point {
    /// Of the contenders' runs; `limits` that have no value are left out.
    ///
    /// # Panics
    /// If a contender has no run, or one that is no number.
    pub fn new(
        at: f64,
        label: impl Into<String>,
        runs: &[Runs],
        limits: impl IntoIterator<Item = Option<Limit>>,
    ) -> Self {
        let figure = |(place, runs_of): (usize, &Runs)| Figure {
            peer: runs_of.name.into(),
            role: runs_of.role,
            estimate: Estimate::of(&runs_of.runs).expect("a run is a number"),
            ours_to_it: (place > 0).then(|| Estimate::of_ratios(&runs[0].runs, &runs_of.runs)).flatten(),
            runs: runs_of.runs.clone(),
        };
        Point {
            at,
            label: label.into(),
            figures: runs.iter().enumerate().map(figure).collect(),
            limits: limits.into_iter().flatten().collect(),
        }
    }
}

/// One thing that was measured, perhaps over a sweep.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Table {
    /// What was measured.
    pub what: String,
    /// The unit of all figures.
    pub unit: Unit,
    /// What the points' places are, with its unit; none without a sweep.
    pub axis: Option<String>,
    /// In the order of the axis.
    pub points: Vec<Point>,
}

/// All waits of one contender.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution {
    /// The contender.
    pub peer: String,
    /// What it is to the question.
    pub role: Role,
    /// The load in words.
    pub at: String,
    /// In nanoseconds.
    pub waits_ns: Histogram<u64>,
}

/// The settings that were used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Used {
    /// Rounds that count, after one that warms up.
    pub rounds: u32,
    /// Events of one run.
    pub events: u64,
    /// Slots of each ring, where the question has it.
    pub capacity: Option<u32>,
    /// What a shard with nothing to do does, where the question has it.
    pub wait: Option<String>,
    /// The burst, where the question has it.
    pub burst: Option<u32>,
}

/// The answer to one question.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Answer {
    /// Its name: `lane`.
    pub question: &'static str,
    /// The question, in one sentence.
    pub asks: &'static str,
    /// How to read the answer.
    pub hint: &'static str,
    /// Where it was measured.
    pub machine: Machine,
    /// How it was measured.
    pub settings: Used,
    /// What was measured.
    pub tables: Vec<Table>,
    /// What the figures do not tell by themselves.
    pub notes: Vec<String>,
    /// What was odd, and makes the figures worth less.
    pub warnings: Vec<String>,
    /// Whole distributions, where the question has some: all rounds together.
    #[serde(skip)]
    pub distributions: Vec<Distribution>,
    /// Where contenders have their knees, on the axis of a sweep.
    #[serde(skip)]
    pub knees: Vec<(String, f64)>,
}

impl Answer {
    /// Of what a bench has measured. It warns of what is odd about machine and settings; notes and warnings of the
    /// question's own are added by [`Self::note`] and [`Self::warn`].
    pub fn new(bench: &Bench<'_>, tables: Vec<Table>) -> Self {
        let machine = bench.machine.clone();
        let warnings = [
            (machine.debug, "built without optimisations: these figures say nothing of a release build"),
            (!machine.pinned, "pinning was refused: threads ran where the system put them"),
            (machine.siblings, "both CPUs are one core: its two hardware threads share what is measured"),
            (bench.rounds < 6, "fewer than 6 rounds: the intervals are the least and the greatest, not 95 %"),
        ];
        let warnings = warnings.into_iter().filter(|(holds, _)| *holds).map(|(_, note)| note.to_string());
        let spec = &bench.spec;
        Answer {
            question: spec.name,
            asks: spec.asks,
            hint: spec.hint,
            machine,
            settings: Used {
                rounds: bench.rounds,
                events: bench.events,
                capacity: spec.capacity.map(|_| bench.capacity),
                wait: spec.waits.then(|| bench.wait.to_string()),
                burst: spec.burst.map(|_| bench.burst),
            },
            tables,
            notes: Vec::new(),
            warnings: warnings.collect(),
            distributions: Vec::new(),
            knees: Vec::new(),
        }
    }

    /// Adds what the figures do not tell by themselves.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// Adds something odd, where it `holds`.
    pub fn warn(mut self, holds: bool, warning: impl Into<String>) -> Self {
        if holds {
            self.warnings.push(warning.into());
        }
        self
    }
}

/// A figure to the digits that a person compares; its unit is in the head, or it has its own.
pub fn short(value: f64, unit: Unit) -> String {
    match (unit, value.abs()) {
        // A ratio may be far below a hundredth.
        (Unit::Times, ..0.095) => format!("{value:.4}"),
        (Unit::Times, _) => format!("{value:.2}"),
        (Unit::EventsPerS, _) => format!("{:.2} M", value / 1e6),
        (Unit::NsPerEvent, ..999.5) => format!("{value:.1}"),
        (Unit::NsPerEvent, _) => format!("{value:.0}"),
        (Unit::Ns, ..999.5) => format!("{value:.1} ns"),
        (Unit::Ns, ..999_500.0) => format!("{:.1} µs", value / 1e3),
        (Unit::Ns, _) => format!("{:.1} ms", value / 1e6),
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Limit { what, unit, measured, limit, goal, standing } = self;
        let verdict = match standing {
            Standing::Goal => "goal reached",
            Standing::Kept => "kept",
            Standing::Missed => "MISSED",
        };
        let text = |value: f64| short(value, *unit);
        let (median, low, high) = (text(measured.median), text(measured.low), text(measured.high));
        // A time says its unit by itself.
        let unit = if *unit == Unit::Ns { "" } else { unit.name() };
        let median = [median.as_str(), unit].join(" ");
        let median = median.trim_end();
        write!(
            f,
            "{what}: {median} ({low} to {high}), limit {}, goal {}: {verdict}",
            text(*limit),
            text(*goal)
        )
    }
}

/// As plain text: what the benches print.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for point in &self.points {
            writeln!(f, "\n{}{}{}", self.what, if point.label.is_empty() { "" } else { ", " }, point.label)?;
            writeln!(f, "  {:<34} {:>10} {:>24}  ours / it", "", self.unit.name(), "95 %")?;
            for figure in &point.figures {
                let text = |value| short(value, self.unit);
                let Estimate { median, low, high } = figure.estimate;
                let interval = format!("{} to {}", text(low), text(high));
                write!(f, "  {:<34} {:>10} {interval:>24}", figure.peer, text(median))?;
                match figure.ours_to_it {
                    Some(Estimate { median, low, high }) => {
                        let [median, low, high] = [median, low, high].map(|ratio| short(ratio, Unit::Times));
                        writeln!(f, "  {median} ({low} to {high})")?;
                    }
                    None => writeln!(f)?,
                }
            }
            point.limits.iter().try_for_each(|limit| writeln!(f, "  {limit}"))?;
        }
        Ok(())
    }
}

/// As plain text: what the benches print.
impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine { model, system, cpus, version, .. } = &self.machine;
        writeln!(f, "{}: {}", self.question, self.asks)?;
        writeln!(f, "pelton {version}, {model}, {system}, CPUs {cpus:?}")?;
        writeln!(f, "{} rounds after a warm-up, {} events each", self.settings.rounds, self.settings.events)?;
        self.tables.iter().try_for_each(|table| write!(f, "{table}"))?;
        self.notes.iter().try_for_each(|note| writeln!(f, "  {note}"))?;
        self.warnings.iter().try_for_each(|warning| writeln!(f, "  ! {warning}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(name: &'static str, role: Role, runs: &[f64]) -> Runs {
        Runs { name, role, runs: runs.to_vec() }
    }

    #[test]
    fn a_point_compares_the_first_with_each() {
        let ours = runs("ours", Role::Ours, &[1.0, 2.0, 3.0]);
        let peer = runs("peer", Role::Peer, &[2.0, 4.0, 6.0]);
        let nothing = runs("nothing", Role::Baseline, &[0.0, 0.0, 0.0]);
        let limits = [
            Limit::ratio("ours / peer", &ours, &peer, 0.6, 0.4),
            Limit::ratio("?", &ours, &nothing, 1.0, 1.0),
        ];
        let point = Point::new(0.0, "", &[ours, peer, nothing], limits);
        assert_eq!(point.figures[0].ours_to_it, None);
        assert_eq!(point.figures[1].ours_to_it.unwrap().median, 0.5);
        assert_eq!(point.figures[2].ours_to_it, None);
        assert_eq!(point.limits.len(), 1);
        assert_eq!(point.limits[0].standing, Standing::Kept);
        assert_eq!(
            point.limits[0].to_string(),
            "ours / peer: 0.50 × (0.50 to 0.50), limit 0.60, goal 0.40: kept"
        );
    }

    #[test]
    fn figures_have_the_digits_that_count() {
        assert_eq!(short(0.349, Unit::Times), "0.35");
        assert_eq!(short(0.00006, Unit::Times), "0.0001");
        assert_eq!(short(6.94, Unit::NsPerEvent), "6.9");
        assert_eq!(short(1_000.4, Unit::NsPerEvent), "1000");
        assert_eq!(short(170.04, Unit::Ns), "170.0 ns");
        assert_eq!(short(999.6, Unit::Ns), "1.0 µs");
        assert_eq!(short(2_340_000.0, Unit::Ns), "2.3 ms");
        assert_eq!(short(42_345_678.0, Unit::EventsPerS), "42.35 M");
    }
}
