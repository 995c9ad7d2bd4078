//! Merging: adding what one tally has to another of the same view, at once or in parts.
//!
//! # Mechanism
//! Panes of the same time are merged row by row, and what is merged is what one pane of all events would be: counts and
//! sums add up, extremes and registers take the greater, the last is the one with the later time (of the same time, the
//! one whose bytes are greater). The exception is room: a row may have found it in one pane and not in another. Panes go
//! together by their numbers, wherever the clocks of their tallies stand: what one of them keeps no longer, the merged one
//! does not have either.
//!
//! A large view takes long to merge, and a shard that merges handles no event. So a merge goes in parts ([`Progress`]),
//! between which the tally that is read may measure further events. The tables of a tally never move an entry, so a part
//! goes on at the bucket at which the one before has ended. Of each pane rows come first, then its counters and the row
//! without a key, in one part; then the values of a top.
//!
//! # Invariants
//! - No row is merged twice, and each that was there when its pane was begun is merged once, as it is then.
//! - A pane whose place is taken by a newer one between two parts is dropped, as the merged tally takes over the newer
//!   clock with each part.
//! - A part does something, and ends after as many rows as it may merge. A row of more than [`ROW_BYTES`] counts as
//!   several, and so do some hundred empty buckets.
//!
//! # Limits
//! Of a window that is open and merged in several parts, rows may be of different moments: together they may lack events
//! that the counters have, or have events that the counters lack. A window that is closed on the shard does not change.

use super::pane::{Cells, NOWHERE, Pane, Row, merge_row, row_of};
use super::shape::Shape;
use super::tally::Tally;
use super::view::Measure;

/// Bytes of a row's cell that count as a row.
const ROW_BYTES: usize = 1 << 10;

/// What a row counts, where a bucket counts 1.
const STEPS_OF_ROW: usize = 16;

/// Places that are emptied as one step.
const PLACES_OF_STEP: usize = 32;

/// How far a merge in parts has come; see [`Tally::add_part`].
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// The place of the pane that is merged.
    place: usize,
    /// How far that is; `None` where it is not begun.
    at: Option<At>,
    is_done: bool,
}

/// How far the merge of a pane is.
#[derive(Clone, Debug)]
struct At {
    number: u64,
    /// The rows that it had when it was begun; later ones are left out.
    rows: u32,
    stage: Stage,
    /// The bucket, key or place that is next.
    next: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The places of rows are emptied: where some keys alone are merged.
    Places,
    Rows,
    Values,
}

/// What a part may still do.
struct Left(usize);

impl Left {
    /// Takes some steps; says whether there were any left. The last may be taken on credit.
    fn take(&mut self, steps: usize) -> bool {
        let is_left = self.0 > 0;
        self.0 = self.0.saturating_sub(steps);
        is_left
    }
}

impl Tally {
    /// Adds what another tally of the same view has. Keys and values that find no room here are past the bound here; with
    /// [`View::over_shards`](super::View::over_shards) there is room for all. Allocates nothing.
    ///
    /// # Panics
    /// If the other is of another view or another [`HashSecret`](super::HashSecret), or has more room.
    pub fn add(&mut self, other: &Tally) {
        self.add_part(other, &mut Progress::default(), usize::MAX);
    }

    /// The same, with the row of one key alone. What became of the events is added for all of them, so a tally into which
    /// one key was added can be read for that key and for its counters.
    ///
    /// # Panics
    /// As [`Self::add`].
    pub fn add_key(&mut self, other: &Tally, key: &[u8]) {
        self.add_keys_part(other, &[key], &mut Progress::default(), usize::MAX);
    }

    /// Adds up to `rows` rows of another tally, from where `progress` is, and returns whether it has all. Between two
    /// parts the other may measure events, so that a shard's events wait for one part at most. It must not be cleared, and
    /// nothing else may be added to this one. Allocates nothing.
    ///
    /// Each row is as it was at its part. So the rows of a window that is open and was added in several parts may add up
    /// to fewer or more events than its counters; those of a closed one do not change.
    ///
    /// # Panics
    /// As [`Self::add`].
    ///
    /// # Example
    /// ```
    /// use pelton_views::{Progress, Tally, View, Which};
    ///
    /// let view = View::count("requests").by("path");
    /// let (mut shard, mut all) = (Tally::new(&view), Tally::new(&view));
    /// for n in 0..1_000u32 {
    ///     shard.observe(&[(&b"path"[..], n.to_string().as_bytes())], 1);
    /// }
    /// let (mut progress, mut parts) = (Progress::default(), 1);
    /// while !all.add_part(&shard, &mut progress, 64) {
    ///     parts += 1;
    /// }
    /// assert!(parts >= 1_000 / 64);
    /// assert_eq!(all.read(Which::Open, None, None, 1)?.lines.len(), 1_000);
    /// # Ok::<(), pelton_views::ReadError>(())
    /// ```
    pub fn add_part(&mut self, other: &Tally, progress: &mut Progress, rows: usize) -> bool {
        self.merge_part::<&[u8]>(other, None, progress, rows)
    }

    /// The same, with the rows of some keys alone, each of which is named once.
    pub fn add_keys_part<K: AsRef<[u8]>>(
        &mut self,
        other: &Tally,
        keys: &[K],
        progress: &mut Progress,
        rows: usize,
    ) -> bool {
        self.merge_part(other, Some(keys), progress, rows)
    }

    fn merge_part<K: AsRef<[u8]>>(
        &mut self,
        other: &Tally,
        keys: Option<&[K]>,
        progress: &mut Progress,
        rows: usize,
    ) -> bool {
        assert!(self.takes(other), "tallies of one view and secret are added, to one with as much room");
        if progress.is_done {
            return true;
        }
        self.newest_ms = self.newest_ms.max(other.newest_ms);
        let mut left = Left(rows.max(1).saturating_mul(STEPS_OF_ROW));
        while let Some(pane) = other.panes.get(progress.place) {
            let at = progress.at.get_or_insert_with(|| At {
                number: pane.number,
                rows: pane.len() as u32,
                stage: if keys.is_some() { Stage::Places } else { Stage::Rows },
                next: 0,
            });
            let is_kept = at.number == pane.number && other.keeps(at.number) && self.keeps(at.number);
            if is_kept {
                let place = self.take(at.number);
                if !self.panes[place].merge_part(&self.shape, pane, keys, at, &mut left) {
                    return false;
                }
            }
            (progress.place, progress.at) = (progress.place + 1, None);
        }
        self.totals.add(&other.totals);
        self.first_ms = self.first_ms.min(other.first_ms);
        progress.is_done = true;
        true
    }
}

impl Pane {
    /// Adds a part of another pane of the same time; of its rows those of some keys alone, if they are named. Returns
    /// whether it has all.
    fn merge_part<K: AsRef<[u8]>>(
        &mut self,
        shape: &Shape,
        other: &Pane,
        keys: Option<&[K]>,
        at: &mut At,
        left: &mut Left,
    ) -> bool {
        if at.stage == Stage::Places {
            if !self.empty_places(at, left) {
                return false;
            }
            (at.stage, at.next) = (Stage::Rows, 0);
        }
        if at.stage == Stage::Rows {
            let is_whole = match keys {
                Some(keys) => self.merge_keys(shape, other, keys, at, left),
                None => self.merge_rows(shape, other, at, left),
            };
            if !is_whole {
                return false;
            }
            self.counters.add(&other.counters);
            (at.stage, at.next) = (Stage::Values, 0);
        }
        self.merge_values(shape, other, at, left)
    }

    fn empty_places(&mut self, at: &mut At, left: &mut Left) -> bool {
        let Cells::Values(values) = &mut self.cells else { return true };
        for places in values.places[at.next..=at.rows as usize].chunks_mut(PLACES_OF_STEP) {
            if !left.take(1) {
                return false;
            }
            places.fill(NOWHERE);
            at.next += places.len();
        }
        true
    }

    fn merge_keys<K: AsRef<[u8]>>(
        &mut self,
        shape: &Shape,
        other: &Pane,
        keys: &[K],
        at: &mut At,
        left: &mut Left,
    ) -> bool {
        for key in &keys[at.next..] {
            if !left.take(steps_of_row(shape)) {
                return false;
            }
            let key = key.as_ref();
            if let Some(row) = other.row(shape, key).filter(|row| row.cell <= at.rows) {
                self.merge_row(shape, Some(key), row, &other.cells);
            }
            at.next += 1;
        }
        true
    }

    fn merge_rows(&mut self, shape: &Shape, other: &Pane, at: &mut At, left: &mut Left) -> bool {
        if let Some(names) = &other.keys {
            while at.next < names.buckets() {
                if !left.take(1) {
                    return false;
                }
                if let Some((name, row)) = names.in_bucket(at.next)
                    && row.cell <= at.rows
                {
                    self.merge_row(shape, Some(name), row, &other.cells);
                    left.take(steps_of_row(shape));
                }
                at.next += 1;
            }
        }
        self.merge_row(shape, None, &other.nameless, &other.cells);
        true
    }

    fn merge_row(&mut self, shape: &Shape, name: Option<&[u8]>, theirs: &Row, their_cells: &Cells) {
        if theirs.count == 0 {
            return;
        }
        let mine = match (&mut self.keys, name) {
            (Some(keys), Some(name)) => match row_of(shape, keys, &mut self.cells, name) {
                Some(row) => row,
                None => {
                    self.counters.past += theirs.count;
                    if shape.drops {
                        if let Cells::Values(values) = &mut self.cells {
                            values.places[theirs.cell as usize] = NOWHERE;
                        }
                        return;
                    }
                    &mut self.nameless
                }
            },
            _ => &mut self.nameless,
        };
        merge_row(shape, (mine, &mut self.cells), (theirs, their_cells), &mut self.counters);
        if let (Cells::Values(to), Cells::Values(from)) = (&mut self.cells, their_cells) {
            to.places[theirs.cell as usize] = mine.cell;
            to.rest[mine.cell as usize] += from.rest[theirs.cell as usize];
        }
    }

    /// Adds the values of a top, with its rows where `places` has them.
    fn merge_values(&mut self, shape: &Shape, other: &Pane, at: &mut At, left: &mut Left) -> bool {
        let (Cells::Values(mine), Cells::Values(theirs)) = (&mut self.cells, &other.cells) else {
            return true;
        };
        while at.next < theirs.names.buckets() {
            if !left.take(1) {
                return false;
            }
            if let Some((cell, value, count)) = theirs.in_bucket(at.next)
                && cell <= at.rows
                && mine.places[cell as usize] != NOWHERE
            {
                mine.count(shape, mine.places[cell as usize], value, count);
                left.take(STEPS_OF_ROW);
            }
            at.next += 1;
        }
        true
    }
}

fn steps_of_row(shape: &Shape) -> usize {
    let is_wide = matches!(shape.measure, Measure::Quantiles);
    let bytes = shape.cell * if is_wide { size_of::<u64>() } else { 1 };
    STEPS_OF_ROW * (1 + bytes / ROW_BYTES)
}
