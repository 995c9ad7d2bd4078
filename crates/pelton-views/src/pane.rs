//! A pane: what was measured of the events of one stretch of time, in rows by key.
//!
//! # Mechanism
//! A pane is a table of rows by key and a nameless row: of all events where the view has no key, of those past the keys
//! where it has one. A row has a count and one number (the sum, the least, the greatest, the time of the last); what else a
//! measure needs lies in an array of equal cells, by the row's number: the counts of an HdrHistogram, the registers
//! of a HyperLogLog, the bytes of the last value. The values of a top are a table of counts by (row's number, value).
//!
//! Panes are merged row by row: see `merge`.
//!
//! # Invariants
//! - After [`Pane::new`] nothing is allocated and no page is touched for the first time.
//! - A key that has a row has had it since its first event in this pane: nothing is ever removed but all at once, so what
//!   finds no room finds none later. The same holds for the values of a top.
//! - The counts of all rows and, where they are dropped, `past` add up to `events - missing`.

use super::decimal::Decimal;
use super::shape::Shape;
use super::view::Measure;
use crate::names::{Hash, Names};
use pelton::buckets::bucket;
use std::hint::black_box;

/// The number of a pane that stands for no time.
pub(super) const NO_TIME: u64 = u64::MAX;

/// A row of another pane that has no place in this one.
pub(super) const NOWHERE: u32 = u32::MAX;

/// What became of the events of a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Events of its time; those with a missing field included.
    pub events: u64,
    /// Events without the measured field, without the key, or with something that is no number where one is needed. They
    /// are in no row.
    pub missing: u64,
    /// Events whose key found no room. They are in the row without a key, or dropped, as the view has it.
    pub past: u64,
    /// Numbers that were kept at a bound: below 0 or above `value_max` for quantiles, beyond 128 bits for sums.
    pub saturated: u64,
    /// Numbers with more than nine places, of which the rest was rounded away.
    pub rounded: u64,
}

impl Counters {
    /// Adds another's counts to these.
    pub fn add(&mut self, other: &Counters) {
        self.events += other.events;
        self.missing += other.missing;
        self.past += other.past;
        self.saturated += other.saturated;
        self.rounded += other.rounded;
    }
}

/// What is measured of one event.
#[derive(Clone, Copy)]
pub(super) enum Measured<'a> {
    Event,
    Number(Decimal),
    Bytes(&'a [u8]),
}

/// What every row has.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Row {
    /// Sum, least, greatest in billionths; the time of the last in ms.
    pub value: i128,
    pub count: u64,
    pub cell: u32,
    /// The length of the last value, of which the cell may have less.
    pub length: u32,
}

const _: () = assert!(size_of::<Row>() == 32);

/// What some measures have beside, by the number of a row.
pub(super) enum Cells {
    Nothing,
    Buckets(Box<[u64]>),
    Registers(Box<[u8]>),
    Bytes(Box<[u8]>),
    Values(Values),
}

/// The values of a top, counted for each row apart.
pub(super) struct Values {
    /// By the number of the row and the value behind it.
    pub names: Names<u64>,
    /// By row: events whose value found no room.
    pub rest: Box<[u64]>,
    /// Where a name is put together.
    name: Box<[u8]>,
    /// While another pane is merged: where its rows are here.
    pub places: Box<[u32]>,
}

/// A pane; see the file's head.
pub(super) struct Pane {
    /// Its time: it begins at so many times its length. [`NO_TIME`] for none.
    pub number: u64,
    pub counters: Counters,
    pub nameless: Row,
    pub keys: Option<Names<Row>>,
    pub cells: Cells,
}

/// An array that is resident from the start.
fn touched<T: Copy>(value: T, len: usize) -> Box<[T]> {
    let mut array = vec![value; len].into_boxed_slice();
    // Zeroed memory that was never written is not resident yet.
    array.fill(black_box(value));
    array
}

impl Pane {
    /// A pane without a time.
    ///
    /// # Panics
    /// If the memory is not to be had.
    pub fn new(shape: &Shape) -> Self {
        const SOUND: &str = "the view is sound, and there is memory for its panes";
        let keys = shape.is_keyed.then(|| Names::new(shape.keys_max.max(1), shape.keys_bytes).expect(SOUND));
        let all = shape.rows_max() * shape.cell;
        let cells = match shape.measure {
            Measure::Quantiles => Cells::Buckets(touched(0, all)),
            Measure::Distinct => Cells::Registers(touched(0, all)),
            Measure::Last => Cells::Bytes(touched(0, all)),
            Measure::Top => Cells::Values(Values {
                names: Names::new(shape.values_max, shape.values_bytes).expect(SOUND),
                rest: touched(0, shape.rows_max()),
                name: touched(0, name_bytes_max(shape)),
                places: touched(NOWHERE, shape.rows_max()),
            }),
            _ => Cells::Nothing,
        };
        Pane { number: NO_TIME, counters: Counters::default(), nameless: Row::default(), keys, cells }
    }

    /// The heap bytes of a pane, without making it.
    pub fn bytes_for(shape: &Shape) -> u64 {
        let rows = shape.rows_max() as u64;
        let keys = if shape.is_keyed {
            Names::<Row>::bytes_for(shape.keys_max.max(1), shape.keys_bytes).unwrap_or(u64::MAX)
        } else {
            0
        };
        let cells = match shape.measure {
            Measure::Quantiles => rows.saturating_mul((shape.cell * size_of::<u64>()) as u64),
            Measure::Distinct | Measure::Last => rows.saturating_mul(shape.cell as u64),
            Measure::Top => {
                let values =
                    Names::<u64>::bytes_for(shape.values_max, shape.values_bytes).unwrap_or(u64::MAX);
                let by_row = rows * (size_of::<u64>() + size_of::<u32>()) as u64;
                values.saturating_add(by_row + name_bytes_max(shape) as u64)
            }
            _ => 0,
        };
        keys.saturating_add(cells)
    }

    /// Forgets everything, in place, and takes a new time, or none.
    ///
    /// The cells of rows are emptied as they are taken, so that a turn of panes costs an event no more than a byte for each
    /// key and value that there is room for; and nothing where the pane had no time, as it is empty then.
    pub fn take(&mut self, shape: &Shape, number: u64) {
        if std::mem::replace(&mut self.number, number) == NO_TIME {
            return;
        }
        (self.counters, self.nameless) = (Counters::default(), Row::default());
        if let Some(keys) = &mut self.keys {
            keys.clear();
        }
        self.cells.empty(shape, 0);
        if let Cells::Values(values) = &mut self.cells {
            values.names.clear();
        }
    }

    /// Measures an event.
    #[inline]
    pub fn observe(&mut self, shape: &Shape, key: &[u8], measured: Measured<'_>, time_ms: u64) {
        let row = match &mut self.keys {
            None => &mut self.nameless,
            Some(keys) => match row_of(shape, keys, &mut self.cells, key) {
                Some(row) => row,
                None => {
                    self.counters.past += 1;
                    if shape.drops {
                        return;
                    }
                    &mut self.nameless
                }
            },
        };
        row.count += 1;
        match measured {
            Measured::Event => {}
            Measured::Number(number) => {
                note_number(shape, row, &mut self.cells, &mut self.counters, number);
            }
            Measured::Bytes(bytes) => note_bytes(shape, row, &mut self.cells, bytes, time_ms),
        }
    }

    /// All rows of keys, in no particular order.
    pub fn rows(&self) -> impl Iterator<Item = (&[u8], &Row)> {
        self.keys.iter().flat_map(Names::iter)
    }

    /// How many rows of keys it has.
    pub fn len(&self) -> usize {
        self.keys.as_ref().map_or(0, Names::len)
    }

    /// The row of a key.
    pub fn row(&self, shape: &Shape, key: &[u8]) -> Option<&Row> {
        self.keys.as_ref()?.get(shape.secret.hash(key), key)
    }
}

impl Cells {
    /// What one row has, the first; nothing of a top.
    pub fn one(shape: &Shape) -> Self {
        match shape.measure {
            Measure::Quantiles => Cells::Buckets(vec![0; shape.cell].into()),
            Measure::Distinct => Cells::Registers(vec![0; shape.cell].into()),
            Measure::Last => Cells::Bytes(vec![0; shape.cell].into()),
            _ => Cells::Nothing,
        }
    }

    /// Empties what one row has.
    pub fn empty(&mut self, shape: &Shape, at: u32) {
        let row = Row { cell: at, ..Row::default() };
        match self {
            Cells::Buckets(counts) => counts[cell(shape, &row)].fill(0),
            Cells::Registers(registers) => registers[cell(shape, &row)].fill(0),
            Cells::Values(values) => values.rest[at as usize] = 0,
            // Of the bytes as many are read as were written.
            Cells::Bytes(_) | Cells::Nothing => {}
        }
    }
}

impl Values {
    #[inline]
    pub fn count(&mut self, shape: &Shape, cell: u32, value: &[u8], n: u64) {
        let end = size_of::<u32>() + value.len();
        let Some(name) = self.name.get_mut(..end) else {
            self.rest[cell as usize] += n;
            return;
        };
        name[..size_of::<u32>()].copy_from_slice(&cell.to_le_bytes());
        name[size_of::<u32>()..].copy_from_slice(value);
        match self.names.entry(shape.secret.hash(name), name, |_| 0) {
            Some(count) => *count += n,
            None => self.rest[cell as usize] += n,
        }
    }

    /// The number of the row, the value and its count, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &[u8], u64)> {
        self.names.iter().filter_map(split)
    }

    /// The same of one bucket, if there is something in it.
    pub fn in_bucket(&self, at: usize) -> Option<(u32, &[u8], u64)> {
        self.names.in_bucket(at).and_then(split)
    }

    /// Events of a row whose value found no room.
    pub fn rest(&self, cell: u32) -> u64 {
        self.rest[cell as usize]
    }
}

/// The number of the row and the value in a name, with its count.
fn split<'a>((name, count): (&'a [u8], &u64)) -> Option<(u32, &'a [u8], u64)> {
    let (cell, value) = name.split_first_chunk()?;
    Some((u32::from_le_bytes(*cell), value, *count))
}

/// The longest name of a value of a top, with the number of its row.
fn name_bytes_max(shape: &Shape) -> usize {
    size_of::<u32>() + shape.value_bytes_max
}

/// Where a row's cell is in its array.
#[inline]
pub(super) fn cell(shape: &Shape, row: &Row) -> std::ops::Range<usize> {
    let start = row.cell as usize * shape.cell;
    start..start + shape.cell
}

/// The row of a key, with an empty cell if it is new; `None` where there is no room.
#[inline]
pub(super) fn row_of<'a>(
    shape: &Shape,
    keys: &'a mut Names<Row>,
    cells: &mut Cells,
    key: &[u8],
) -> Option<&'a mut Row> {
    if key.len() > shape.key_bytes_max {
        return None;
    }
    keys.entry(shape.secret.hash(key), key, |before| {
        // The row of no key is the first.
        let at = before as u32 + 1;
        cells.empty(shape, at);
        Row { cell: at, ..Row::default() }
    })
}

#[inline]
fn add(sum: &mut i128, more: i128, counters: &mut Counters) {
    match sum.checked_add(more) {
        Some(all) => *sum = all,
        None => {
            *sum = sum.saturating_add(more);
            counters.saturated += 1;
        }
    }
}

#[inline]
fn note_number(shape: &Shape, row: &mut Row, cells: &mut Cells, counters: &mut Counters, number: Decimal) {
    let (value, is_first) = (number.billionths(), row.count == 1);
    match shape.measure {
        Measure::Sum | Measure::Mean => add(&mut row.value, value, counters),
        Measure::Min if !is_first => row.value = row.value.min(value),
        Measure::Max | Measure::Quantiles if !is_first => row.value = row.value.max(value),
        _ => row.value = value,
    }
    if let Cells::Buckets(counts) = cells {
        let units = number.in_units(shape.unit);
        let kept = units.clamp(0, i128::from(shape.value_max));
        counters.saturated += u64::from(kept != units);
        counts[cell(shape, row)][bucket(kept as u64, shape.exact_bits)] += 1;
    }
}

#[inline]
fn note_bytes(shape: &Shape, row: &mut Row, cells: &mut Cells, bytes: &[u8], time_ms: u64) {
    match cells {
        Cells::Values(values) => values.count(shape, row.cell, bytes, 1),
        Cells::Registers(registers) => {
            // As the sketch does itself: the upper bits choose the register, which keeps the most zeros at the lower end.
            let Hash(hash) = shape.secret.hash(bytes);
            let register = &mut registers[cell(shape, row)][(hash >> shape.register_shift) as usize];
            *register = (*register).max(1 + hash.trailing_zeros() as u8);
        }
        Cells::Bytes(kept) if row.count == 1 || i128::from(time_ms) >= row.value => {
            let kept = &mut kept[cell(shape, row)];
            let len = bytes.len().min(kept.len());
            kept[..len].copy_from_slice(&bytes[..len]);
            (row.value, row.length) = (i128::from(time_ms), u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        }
        _ => {}
    }
}

/// Adds a row to another, but for the values of a top.
pub(super) fn merge_row(
    shape: &Shape,
    (mine, my_cells): (&mut Row, &mut Cells),
    (theirs, their_cells): (&Row, &Cells),
    counters: &mut Counters,
) {
    let is_first = mine.count == 0;
    mine.count += theirs.count;
    match shape.measure {
        Measure::Sum | Measure::Mean => add(&mut mine.value, theirs.value, counters),
        Measure::Min if !is_first => mine.value = mine.value.min(theirs.value),
        Measure::Max | Measure::Quantiles if !is_first => mine.value = mine.value.max(theirs.value),
        // It has its own time, and is compared below.
        Measure::Last => {}
        _ => mine.value = theirs.value,
    }
    match (my_cells, their_cells) {
        (Cells::Buckets(to), Cells::Buckets(from)) => {
            let from = &from[cell(shape, theirs)];
            to[cell(shape, mine)].iter_mut().zip(from).for_each(|(to, from)| *to += from);
        }
        (Cells::Registers(to), Cells::Registers(from)) => {
            let from = &from[cell(shape, theirs)];
            to[cell(shape, mine)].iter_mut().zip(from).for_each(|(to, from)| *to = (*to).max(*from));
        }
        (Cells::Bytes(to), Cells::Bytes(from)) => {
            let (to, from) = (&mut to[cell(shape, mine)], &from[cell(shape, theirs)]);
            let order = |row: &Row, bytes: &[u8]| -> (i128, usize) {
                (row.value, bytes.len().min(row.length as usize))
            };
            let ((my_time, my_len), (their_time, their_len)) = (order(mine, to), order(theirs, from));
            let is_later =
                (their_time, &from[..their_len], theirs.length) > (my_time, &to[..my_len], mine.length);
            if is_first || is_later {
                to[..their_len].copy_from_slice(&from[..their_len]);
                (mine.value, mine.length) = (theirs.value, theirs.length);
            }
        }
        _ => {}
    }
}
