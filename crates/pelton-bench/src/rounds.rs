//! Rounds in which all contenders take turns, and the figures that come of them.
//!
//! # Mechanism
//! In each round every contender runs once, so that whatever else the machine does meets all of them alike; a first
//! round warms up and does not count. A figure is the median over the rounds; a ratio or a difference is the median of
//! the rounds' ratios or differences. Beside each stands the interval that holds the true median with 95 %
//! confidence, from order statistics alone: nothing is assumed of how the figures are distributed.
//!
//! # Invariants
//! - Each run has a thread of its own. A thread inherits its creator's affinity mask, so the pins of one run are gone
//!   with it.
//! - Nothing else runs meanwhile: whoever watches is told between two runs.

use serde::Serialize;
use std::fmt;

/// What a contender is to the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Pelton, in one of its shapes. The first of them is what ratios are taken of.
    Ours,
    /// Another library, doing the same.
    Peer,
    /// What no hand-off can beat: the work alone, a bare cache line, the harness itself.
    Baseline,
}

/// One contender: its name, and a run that says what it took.
pub struct Peer<'a, T = f64> {
    /// Its name and how it is used.
    pub name: &'static str,
    /// What it is to the question.
    pub role: Role,
    run: Box<dyn FnMut() -> T + Send + 'a>,
}

impl<'a, T> Peer<'a, T> {
    /// Pelton.
    pub fn ours(name: &'static str, run: impl FnMut() -> T + Send + 'a) -> Self {
        Peer { name, role: Role::Ours, run: Box::new(run) }
    }

    /// Another library.
    pub fn other(name: &'static str, run: impl FnMut() -> T + Send + 'a) -> Self {
        Peer { name, role: Role::Peer, run: Box::new(run) }
    }

    /// Runs it here and now.
    #[cfg(test)]
    pub(super) fn run_once(&mut self) -> T {
        (self.run)()
    }

    /// What no hand-off can beat.
    pub fn baseline(name: &'static str, run: impl FnMut() -> T + Send + 'a) -> Self {
        Peer { name, role: Role::Baseline, run: Box::new(run) }
    }
}

impl<T> fmt::Debug for Peer<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer").field("name", &self.name).field("role", &self.role).finish_non_exhaustive()
    }
}

/// What one contender's runs gave, in the order of the rounds.
#[derive(Clone, Debug, PartialEq)]
pub struct Runs<T = f64> {
    /// Its name and how it is used.
    pub name: &'static str,
    /// What it is to the question.
    pub role: Role,
    /// One for each round that counts.
    pub runs: Vec<T>,
}

impl<const N: usize> Runs<[f64; N]> {
    /// One of the figures that each run gives.
    pub fn figure(&self, at: usize) -> Runs {
        let runs = self.runs.iter().map(|figures| figures[at]).collect();
        Runs { name: self.name, role: self.role, runs }
    }
}

/// Which run comes next.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// Where in the question: `20 multiplications`.
    pub at: &'a str,
    /// Whose run.
    pub peer: &'static str,
    /// The round, from 1; 0 is the warm-up.
    pub round: u32,
    /// Rounds that count.
    pub rounds: u32,
}

/// A run that did not end well: an event was lost or torn, or the contender refused to work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{peer}: {message}")]
pub struct RunError {
    /// Whose run.
    pub peer: String,
    /// What it said.
    pub message: String,
}

/// Runs all contenders in turn, `rounds` times after a warm-up that does not count; `watch` is told before each run.
///
/// # Errors
/// [`RunError`] where a run panics: its figures, and those of the others, are worth nothing then.
pub fn alternate<T: Send>(
    rounds: u32,
    at: &str,
    mut peers: Vec<Peer<'_, T>>,
    watch: &mut dyn FnMut(Step<'_>),
) -> Result<Vec<Runs<T>>, RunError> {
    let empty = |peer: &Peer<'_, T>| Runs { name: peer.name, role: peer.role, runs: Vec::new() };
    let mut all: Vec<Runs<T>> = peers.iter().map(empty).collect();
    for round in 0..=rounds {
        for (peer, runs) in peers.iter_mut().zip(&mut all) {
            watch(Step { at, peer: peer.name, round, rounds });
            let done = std::thread::scope(|scope| scope.spawn(&mut peer.run).join());
            let figure = done.map_err(|panic| RunError {
                peer: peer.name.into(),
                message: panic
                    .downcast_ref::<String>()
                    .cloned()
                    .or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()))
                    .unwrap_or_else(|| "panicked".into()),
            })?;
            if round > 0 {
                runs.runs.push(figure);
            }
        }
    }
    Ok(all)
}

/// A median, and the interval that holds the true one with 95 % confidence. With fewer than 6 runs there is no such
/// interval, and it is the least and the greatest.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The median.
    pub median: f64,
    /// The interval's lower end.
    pub low: f64,
    /// The interval's upper end.
    pub high: f64,
}

impl Estimate {
    /// Of at least one run; `None` where there is none, or where one is no number.
    pub fn of(runs: &[f64]) -> Option<Self> {
        if runs.is_empty() || runs.iter().any(|run| !run.is_finite()) {
            return None;
        }
        let mut sorted = runs.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = interval(&sorted);
        Some(Estimate { median: median(&sorted), low, high })
    }

    /// Of what `of` makes of two contenders' runs in the same round.
    pub fn of_pairs(ours: &[f64], its: &[f64], of: impl Fn(f64, f64) -> f64) -> Option<Self> {
        Self::of(&ours.iter().zip(its).map(|(ours, its)| of(*ours, *its)).collect::<Vec<_>>())
    }

    /// Of the rounds' ratios; `None` where one has no value.
    pub fn of_ratios(ours: &[f64], its: &[f64]) -> Option<Self> {
        Self::of_pairs(ours, its, |ours, its| ours / its)
    }
}

fn median(sorted: &[f64]) -> f64 {
    let mid = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[mid] } else { (sorted[mid - 1] + sorted[mid]) / 2.0 }
}

/// The innermost pair of ranks that are as far from the ends, and hold the median with 95 %. The median is outside
/// of the `k`th from either end with the chance that at most `k` of all runs fall to its one side: a binomial.
fn interval(sorted: &[f64]) -> (f64, f64) {
    let n = sorted.len();
    let mut chance = 0.5f64.powi(n as i32);
    let mut outside = 0.0;
    let mut rank = 0;
    for k in 0..n / 2 {
        outside += 2.0 * chance;
        if outside > 0.05 {
            break;
        }
        rank = k;
        chance *= (n - k) as f64 / (k + 1) as f64;
    }
    (sorted[rank], sorted[n - 1 - rank])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(n: u32) -> Vec<f64> {
        (1..=n).rev().map(f64::from).collect()
    }

    #[test]
    fn medians_are_in_the_middle() {
        let median = |runs: &[f64]| Estimate::of(runs).unwrap().median;
        assert_eq!(median(&[3.0]), 3.0);
        assert_eq!(median(&[5.0, 1.0]), 3.0);
        assert_eq!(median(&[9.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&to(15)), 8.0);
    }

    #[test]
    fn intervals_have_the_ranks_of_the_tables() {
        // From tables of the sign test, two-sided 5 %: the ranks counted from 1.
        for (n, low, high) in
            [(5, 1, 5), (6, 1, 6), (9, 2, 8), (15, 4, 12), (20, 6, 15), (25, 8, 18), (50, 18, 33)]
        {
            let estimate = Estimate::of(&to(n)).unwrap();
            assert_eq!((estimate.low, estimate.high), (f64::from(low), f64::from(high)), "of {n}");
        }
        let many = Estimate::of(&to(999)).unwrap();
        assert!(many.low > 460.0 && many.high < 540.0, "{many:?}");
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        let ratio = Estimate::of_ratios(&[1.0, 20.0, 3.0], &[2.0, 40.0, 6.0]).unwrap();
        assert_eq!((ratio.low, ratio.median, ratio.high), (0.5, 0.5, 0.5));
        assert_eq!(Estimate::of_ratios(&[1.0], &[0.0]), None);
        assert_eq!(Estimate::of(&[]), None);
    }

    #[test]
    fn all_take_turns_and_the_warm_up_does_not_count() {
        let order = std::sync::Mutex::new(Vec::new());
        let run = |name: &'static str| {
            let mut runs = 0.0;
            let order = &order;
            move || {
                order.lock().unwrap().push(name);
                runs += 1.0;
                runs
            }
        };
        let mut told = Vec::new();
        let peers = vec![Peer::ours("a", run("a")), Peer::other("b", run("b"))];
        let all = alternate(2, "here", peers, &mut |step| told.push((step.peer, step.round))).unwrap();
        assert_eq!(*order.lock().unwrap(), ["a", "b", "a", "b", "a", "b"]);
        assert_eq!(told, [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2), ("b", 2)]);
        assert_eq!((all[0].name, all[0].role, &all[0].runs), ("a", Role::Ours, &vec![2.0, 3.0]));
    }

    #[test]
    fn a_run_that_panics_is_an_error_with_its_words() {
        let peers = vec![Peer::ours("a", || -> f64 { panic!("lost {}", 3) })];
        let error = alternate(1, "", peers, &mut |_| ()).unwrap_err();
        assert_eq!(error.to_string(), "a: lost 3");
    }
}
