//! What a view says: the rows of one window, made of its panes when somebody asks.
//!
//! # Mechanism
//! The panes of the window are merged into one, which has room for all that they hold, and its rows are told. Quantiles are
//! read from an HdrHistogram that is filled with the counts, distinct values from a HyperLogLog (of the crate
//! `hyperloglockless`) that is filled with the registers: the estimates are theirs.
#![forbid(unsafe_code)]

use super::decimal::Decimal;
use super::pane::{Cells, Counters, Pane, Row, cell};
use super::shape::Shape;
use super::view::Measure;
use crate::buckets::add_to;
use hdrhistogram::Histogram;
use hyperloglockless::HyperLogLog;
use std::cmp::Reverse;
use std::collections::HashSet;

/// The quantiles that are told.
pub const QUANTILES: [f64; 5] = [0.5, 0.9, 0.95, 0.99, 0.999];

/// Which window of a view is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The one that is open, with what it has so far; of sliding windows the one that ends with the newest pane.
    Open,
    /// The last one that is closed.
    Closed,
    /// The one that ends at this time, in ms since the Unix epoch.
    Ended(u64),
}

/// Why there is nothing to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The view has no windows: it is of all since start.
    #[error("the view has no windows, it is of all events since start")]
    NoWindows,
    /// No window ends at that time.
    #[error("no window ends then: windows end at multiples of {0} ms")]
    Unaligned(u64),
    /// That window has not begun, or none is closed yet.
    #[error("that window is not there yet")]
    NotYet,
    /// That window is no longer kept.
    #[error("that window is no longer kept: the oldest that is ended at {0} ms")]
    Gone(u64),
}

/// What became of all events that a view was given, since start or the last clear.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Totals {
    /// All events.
    pub seen: u64,
    /// Events whose time was closed already. They are in no window.
    pub late: u64,
    /// Events whose time was farther ahead of the clock than the view allows. They are in no window.
    pub ahead: u64,
    /// Events without a time in their field. They are in no window.
    pub untimed: u64,
}

impl Totals {
    /// Adds another's counts to these.
    pub fn add(&mut self, other: &Totals) {
        self.seen += other.seen;
        self.late += other.late;
        self.ahead += other.ahead;
        self.untimed += other.untimed;
    }
}

/// What a row tells.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// How many events.
    Count(u64),
    /// A rate, sum, extreme or mean.
    Number(Decimal),
    /// Quantiles, each of [`QUANTILES`] with its value; and the greatest value, exactly.
    Quantiles(Vec<(f64, Decimal)>, Decimal),
    /// The most frequent values.
    Top {
        /// With their counts, the most frequent first; of the same count, in the order of their bytes. A count is never too
        /// great, and too low by `rest` at most.
        values: Vec<(Vec<u8>, u64)>,
        /// Events whose value found no room. Where it is 0, the counts are exact.
        rest: u64,
    },
    /// About how many different values.
    Distinct(u64),
    /// The last value.
    Last {
        /// Its bytes, as many as are kept.
        bytes: Vec<u8>,
        /// How many it has.
        length: u32,
        /// When it was.
        time_ms: u64,
    },
    /// No event: there is no least, greatest, mean or last, and there are no quantiles.
    Nothing,
}

/// One row of a reading.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Its key. `None` for all events where the view has no key, and for those past the keys where it has one.
    pub key: Option<Vec<u8>>,
    /// How many events it is of.
    pub count: u64,
    /// What it tells.
    pub answer: Answer,
}

/// One window of a view.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Reading {
    /// When it began, in ms since the Unix epoch; without windows, the time of the earliest event.
    pub start_ms: u64,
    /// When it ended or will end; without windows, now.
    pub end_ms: u64,
    /// Whether events may still come to it.
    pub is_open: bool,
    /// Its rows in the order of their keys (or, where a number of them was asked for, the greatest first), and last the one
    /// without a key.
    pub lines: Vec<Line>,
    /// What became of the events of this window.
    pub counters: Counters,
    /// What became of all events.
    pub totals: Totals,
}

/// How the rows of a window are told.
#[derive(Clone, Copy)]
pub(super) struct Telling<'a> {
    pub shape: &'a Shape,
    /// The row of this key alone.
    pub key: Option<&'a [u8]>,
    /// How many values of a top.
    pub values: usize,
    /// How many rows of anything else.
    pub rows: Option<usize>,
    /// How much of the window is past, in ms; not 0.
    pub elapsed_ms: u64,
}

impl Telling<'_> {
    /// The rows of some panes, and what became of their events.
    pub fn tell(self, panes: &[&Pane]) -> (Vec<Line>, Counters) {
        if let [pane] = panes {
            return (self.lines(pane), pane.counters);
        }
        let shape = self.shape.with_room(self.keys_of(panes), values_of(panes));
        let mut all = Pane::new(&shape);
        for pane in panes {
            all.merge(&shape, pane, self.key);
        }
        (self.lines(&all), all.counters)
    }

    /// How many different keys some panes have, and their bytes.
    fn keys_of(&self, panes: &[&Pane]) -> (usize, usize) {
        let keys: HashSet<_> = panes.iter().flat_map(|pane| pane.rows()).map(|(key, _)| key).collect();
        (keys.len(), keys.iter().map(|key| key.len()).sum())
    }

    fn lines(self, pane: &Pane) -> Vec<Line> {
        let mut values = values_by_row(pane);
        let mut line = |key: Option<&[u8]>, row: &Row| Line {
            key: key.map(Into::into),
            count: row.count,
            answer: self.answer(pane, row, &mut values),
        };
        if let Some(key) = self.key {
            return pane.row(key).map(|row| line(Some(key), row)).into_iter().collect();
        }
        let mut lines: Vec<_> = pane.rows().map(|(key, row)| line(Some(key), row)).collect();
        lines.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        if let Some(rows) = self.rows {
            lines.sort_by_cached_key(|line| Reverse(weight(line)));
            lines.truncate(rows);
        }
        let nameless = pane.nameless();
        if nameless.count > 0 || !self.shape.is_keyed {
            lines.push(line(None, nameless));
        }
        lines
    }

    fn answer(&self, pane: &Pane, row: &Row, values: &mut [Vec<(&[u8], u64)>]) -> Answer {
        let number = Decimal::from_billionths(row.value);
        match (self.shape.measure, pane.cells()) {
            (Measure::Count, _) => Answer::Count(row.count),
            (Measure::Rate, _) => {
                let seconds = Decimal::from_billionths(i128::from(row.count) * 1_000_000_000_000);
                Answer::Number(seconds.per(self.elapsed_ms))
            }
            (Measure::Sum, _) => Answer::Number(number),
            (_, Cells::Values(all)) => {
                let mut values = values.get_mut(row.cell as usize).map(std::mem::take).unwrap_or_default();
                values.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
                values.truncate(self.values);
                let values = values.into_iter().map(|(value, count)| (value.into(), count)).collect();
                Answer::Top { values, rest: all.rest(row.cell) }
            }
            (_, Cells::Registers(registers)) => {
                Answer::Distinct(estimate(&registers[cell(self.shape, row)], self.shape.register_shift))
            }
            _ if row.count == 0 => Answer::Nothing,
            (Measure::Mean, _) => Answer::Number(number.per(row.count)),
            (_, Cells::Buckets(counts)) => {
                Answer::Quantiles(quantiles(self.shape, &counts[cell(self.shape, row)], number), number)
            }
            (_, Cells::Bytes(bytes)) => {
                let bytes = &bytes[cell(self.shape, row)];
                Answer::Last {
                    bytes: bytes[..bytes.len().min(row.length as usize)].into(),
                    length: row.length,
                    time_ms: row.value as u64,
                }
            }
            _ => Answer::Number(number),
        }
    }
}

/// What rows are compared by where only the greatest are told.
fn weight(line: &Line) -> i128 {
    match line.answer {
        Answer::Number(number) | Answer::Quantiles(_, number) => number.billionths(),
        Answer::Distinct(count) => count.into(),
        Answer::Nothing => i128::MIN,
        Answer::Count(_) | Answer::Top { .. } | Answer::Last { .. } => line.count.into(),
    }
}

/// The most values that some panes have together, and their bytes.
fn values_of(panes: &[&Pane]) -> (usize, usize) {
    let rooms = panes.iter().filter_map(|pane| match pane.cells() {
        Cells::Values(values) => Some(values.room()),
        _ => None,
    });
    rooms.fold((0, 0), |sum, room| (sum.0 + room.0, sum.1 + room.1))
}

/// The values of a top, by the number of their row.
fn values_by_row(pane: &Pane) -> Vec<Vec<(&[u8], u64)>> {
    let Cells::Values(all) = pane.cells() else { return Vec::new() };
    let mut rows = vec![Vec::new(); pane.len() + 1];
    for (row, value, count) in all.iter() {
        rows[row as usize].push((value, count));
    }
    rows
}

fn quantiles(shape: &Shape, counts: &[u64], greatest: Decimal) -> Vec<(f64, Decimal)> {
    let mut histogram = Histogram::new_with_bounds(1, shape.value_max, shape.digits)
        .expect("the bounds of a sound view are those of a histogram");
    add_to(&mut histogram, counts, shape.exact_bits);
    // A bucket's upper end may lie above every value that was measured.
    let most = greatest.in_units(shape.unit).clamp(0, i128::from(shape.value_max)) as u64;
    let told = |units: u64| Decimal::from_billionths(i128::from(units) * i128::from(shape.unit));
    QUANTILES.map(|q| (q, told(histogram.value_at_quantile(q).min(most)))).into()
}

/// The estimate of a sketch that has these registers.
fn estimate(registers: &[u8], shift: u32) -> u64 {
    let mut sketch = HyperLogLog::seeded((u64::BITS - shift) as u8, 0);
    for (at, register) in registers.iter().enumerate().filter(|(_, register)| **register > 0) {
        // A hash that sets this register to this value. Zeros up to the register's number are counted on into it.
        let zeros = u32::from(*register) - 1;
        let end = if zeros < shift { 1 << zeros } else { 0 };
        sketch.insert_hash((at as u64) << shift | end);
    }
    sketch.raw_count().round() as u64
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn registers_are_the_sketch_that_they_stand_for(
            bits in 8u32..=16,
            hashes in proptest::collection::vec((any::<u64>(), 0u32..64), 0..500),
        ) {
            let shift = u64::BITS - bits;
            let mut registers = vec![0u8; 1 << bits];
            let mut sketch = HyperLogLog::seeded(bits as u8, 0);
            for (hash, zeros) in hashes {
                // Also those with many zeros at the end, and with nothing else.
                let hash = hash.checked_shl(zeros).unwrap_or(0);
                sketch.insert_hash(hash);
                let register = &mut registers[(hash >> shift) as usize];
                *register = (*register).max(1 + hash.trailing_zeros() as u8);
            }
            prop_assert!(sketch.iter().eq(registers.iter().copied()));
            prop_assert_eq!(estimate(&registers, shift), sketch.raw_count().round() as u64);
        }
    }
}
