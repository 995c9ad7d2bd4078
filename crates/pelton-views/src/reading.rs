//! A reading: the rows of one window, made of its panes.
//!
//! # Mechanism
//! The rows of all panes of the window are listed and sorted by key. The rows of one key are merged into a scratch row, of
//! which there is one, so that a window of many panes takes no more memory than one of a single pane but for the list.
//! Quantiles are read from an HdrHistogram that is filled with the counts, distinct values from a HyperLogLog (of the crate
//! `hyperloglockless`) that is filled with the registers: the estimates are theirs.
//!
//! # Memory
//! 32 bytes for each row of each pane, 40 for each value of a top, and the lines of the reading. Where the lists do not fit
//! into memory, the reading is an error.

use super::decimal::Decimal;
use super::pane::{Cells, Counters, Pane, Row, cell, merge_row};
use super::shape::Shape;
use super::view::Measure;
use hdrhistogram::Histogram;
use hyperloglockless::HyperLogLog;
use pelton::buckets::add_to;
use std::cmp::Reverse;

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
    /// There is not enough memory for a list of so many rows or values.
    #[error("not enough memory to read a window of {0} rows and values")]
    NoMemory(usize),
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

/// A row of one of the panes.
struct Found<'a> {
    key: &'a [u8],
    pane: &'a Pane,
    row: &'a Row,
}

/// A value of a top, with the time of its pane and the number of its row there.
struct Valued<'a> {
    row: (u64, u32),
    value: &'a [u8],
    count: u64,
}

impl<'a> Telling<'a> {
    /// The rows of some panes, and what became of their events.
    pub fn tell(self, panes: &[&Pane]) -> Result<(Vec<Line>, Counters), ReadError> {
        let mut counters = Counters::default();
        panes.iter().for_each(|pane| counters.add(&pane.counters));
        let rows = self.rows_of(panes)?;
        let values = self.values_of(panes, &rows)?;
        let mut scratch = Cells::one(self.shape);
        let mut lines = list(rows.len() + 1)?;
        for rows in rows.chunk_by(|a, b| a.key == b.key) {
            let line = self.line(rows, &values, &mut scratch, &mut counters);
            lines.push(Line { key: Some(rows[0].key.into()), ..line });
        }
        if let Some(rows) = self.rows {
            lines.sort_by_cached_key(|line| Reverse(weight(line)));
            lines.truncate(rows);
        }
        if self.key.is_none() {
            let nameless: Vec<_> =
                panes.iter().map(|pane| Found { key: &[], pane, row: &pane.nameless }).collect();
            let line = self.line(&nameless, &values, &mut scratch, &mut counters);
            if line.count > 0 || !self.shape.is_keyed {
                lines.push(line);
            }
        }
        Ok((lines, counters))
    }

    /// The rows with a key, in the order of their keys.
    fn rows_of<'b>(&self, panes: &[&'b Pane]) -> Result<Vec<Found<'b>>, ReadError>
    where
        'a: 'b,
    {
        let Some(key) = self.key else {
            let mut rows = list(panes.iter().map(|pane| pane.len()).sum())?;
            for pane in panes {
                rows.extend(pane.rows().map(|(key, row)| Found { key, pane, row }));
            }
            rows.sort_unstable_by_key(|found| (found.key, found.pane.number));
            return Ok(rows);
        };
        let row = |pane: &&'b Pane| Some(Found { key, pane, row: pane.row(self.shape, key)? });
        Ok(panes.iter().filter_map(row).collect())
    }

    /// The values of a top that these rows have (or that any row has, where all rows are read), by row.
    fn values_of<'b>(&self, panes: &[&'b Pane], rows: &[Found<'b>]) -> Result<Vec<Valued<'b>>, ReadError> {
        let of = |pane: &&'b Pane| match &pane.cells {
            Cells::Values(values) => Some((pane.number, values)),
            _ => None,
        };
        let all = || panes.iter().filter_map(of);
        let is_wanted = |row: (u64, u32)| {
            self.key.is_none() || rows.iter().any(|found| (found.pane.number, found.row.cell) == row)
        };
        let room = if self.key.is_none() { all().map(|(_, values)| values.names.len()).sum() } else { 0 };
        let mut list = list(room)?;
        for (number, values) in all() {
            let own = values.iter().map(|(cell, value, count)| Valued { row: (number, cell), value, count });
            list.extend(own.filter(|valued| is_wanted(valued.row)));
        }
        list.sort_unstable_by_key(|valued| valued.row);
        Ok(list)
    }

    /// The line of some rows of one key, in different panes.
    fn line(
        &self,
        rows: &[Found<'_>],
        values: &[Valued<'_>],
        scratch: &mut Cells,
        counters: &mut Counters,
    ) -> Line {
        let (row, answer) = match rows {
            [Found { pane, row, .. }] => (**row, self.answer(row, &pane.cells)),
            _ => {
                let mut all = Row::default();
                scratch.empty(self.shape, 0);
                for Found { pane, row, .. } in rows.iter().filter(|found| found.row.count > 0) {
                    merge_row(self.shape, (&mut all, scratch), (row, &pane.cells), counters);
                }
                (all, self.answer(&all, scratch))
            }
        };
        let answer = if self.shape.measure == Measure::Top { self.top(rows, values) } else { answer };
        Line { key: None, count: row.count, answer }
    }

    /// The values that some rows of one key have together.
    fn top(&self, rows: &[Found<'_>], values: &[Valued<'_>]) -> Answer {
        let (mut all, mut rest) = (Vec::<(&[u8], u64)>::new(), 0);
        for Found { pane, row, .. } in rows {
            let row = (pane.number, row.cell);
            let begin = values.partition_point(|valued| valued.row < row);
            let own = values[begin..].iter().take_while(|valued| valued.row == row);
            all.extend(own.map(|valued| (valued.value, valued.count)));
            if let Cells::Values(values) = &pane.cells {
                rest += values.rest(row.1);
            }
        }
        if rows.len() > 1 {
            all.sort_unstable();
            all.dedup_by(|next, kept| {
                let is_same = next.0 == kept.0;
                kept.1 += if is_same { next.1 } else { 0 };
                is_same
            });
        }
        all.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
        all.truncate(self.values);
        Answer::Top { values: all.into_iter().map(|(value, count)| (value.into(), count)).collect(), rest }
    }

    /// What a row tells that has these cells; nothing of a top.
    fn answer(&self, row: &Row, cells: &Cells) -> Answer {
        let number = Decimal::from_billionths(row.value);
        match (self.shape.measure, cells) {
            (Measure::Count, _) => Answer::Count(row.count),
            (Measure::Rate, _) => {
                let seconds = Decimal::from_billionths(i128::from(row.count) * 1_000_000_000_000);
                Answer::Number(seconds.per(self.elapsed_ms))
            }
            (Measure::Sum, _) => Answer::Number(number),
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
            (Measure::Top, _) => Answer::Nothing,
            _ => Answer::Number(number),
        }
    }
}

/// A list with room for so many.
fn list<T>(room: usize) -> Result<Vec<T>, ReadError> {
    let mut list = Vec::new();
    list.try_reserve_exact(room).map_err(|_| ReadError::NoMemory(room))?;
    Ok(list)
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

#[cfg(test)]
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
