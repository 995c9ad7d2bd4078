//! What one shard keeps of a view: a ring of panes, one for each stretch of time.
//!
//! # Mechanism
//! Time is cut into panes of one length; a pane's number is the time it begins, in lengths. A window is made of whole
//! panes, so an event is measured once however many windows it is in. The ring has a place for each pane of the last window
//! that is closed and for all that are not closed; a pane takes the place of the one that is too old, and empties it then.
//!
//! The clock of a view is the newest event that it has seen (for arrival, also the time at which it is read). A pane is
//! closed once the clock has passed its end by `lateness_ms`; an event whose pane is closed is late, and counted as such:
//! what is closed changes no more. Shards have their clocks each, so a shard that lags behind may still add to a window that
//! another has closed: in event time by its events, in arrival time where events are given the time at which they were
//! accepted, and are handled later. The time of a reading closes windows for the reader, and for no shard.
//!
//! Tallies are merged by the numbers of their panes: see `merge`.
//!
//! # Invariants
//! - After [`Tally::new`] nothing is allocated but by [`Tally::read`].
//! - `seen = late + ahead + untimed + the events of all panes there have been`.
//! - The order in which tallies are merged makes no difference, as long as there is room for all keys and values
//!   ([`View::over_shards`] has it).

use super::decimal::{Decimal, read_ms};
use super::pane::{Measured, NO_TIME, Pane};
use super::reading::{ReadError, Reading, Telling, Totals, Which};
use super::shape::Shape;
use super::view::{Measure, View};
use crate::names::HashSecret;
use std::ops::Range;

/// What an event is to a view: bytes by name.
pub trait Fields {
    /// The value of a field; `None` where the event does not have it.
    fn field(&self, name: &[u8]) -> Option<&[u8]>;
}

impl Fields for [(&[u8], &[u8])] {
    fn field(&self, name: &[u8]) -> Option<&[u8]> {
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }
}

impl<const N: usize> Fields for [(&[u8], &[u8]); N] {
    fn field(&self, name: &[u8]) -> Option<&[u8]> {
        self.as_slice().field(name)
    }
}

/// What a view needs a field for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The key of its row.
    Key,
    /// What is measured.
    Value,
    /// Its time.
    Time,
}

/// The latest time that there is, in ms: later ones are kept as this, or are none.
const TIME_MAX_MS: u64 = i64::MAX as u64;

/// The state of one view on one shard; see the file's head.
pub struct Tally {
    pub(super) shape: Shape,
    field: Option<Box<[u8]>>,
    by: Option<Box<[u8]>>,
    time: Option<Box<[u8]>>,
    /// The length of a pane; longer than any time where there are no windows.
    pane_ms: u64,
    has_windows: bool,
    window_panes: u64,
    lateness_ms: u64,
    ahead_ms: u64,
    top: usize,
    pub(super) newest_ms: Option<u64>,
    pub(super) first_ms: u64,
    pub(super) totals: Totals,
    /// The start and the place of the pane that the last event came to.
    last: Option<(u64, usize)>,
    pub(super) panes: Box<[Pane]>,
}

impl std::fmt::Debug for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tally")
            .field("measure", &self.shape.measure)
            .field("panes", &self.panes.len())
            .field("newest_ms", &self.newest_ms)
            .field("totals", &self.totals)
            .finish_non_exhaustive()
    }
}

impl Tally {
    /// An empty tally, whose hash has the secret of this process. Allocates and touches all of its memory.
    ///
    /// # Panics
    /// If the view is not valid ([`View::findings`] returns why), or the memory is not available.
    #[must_use]
    pub fn new(view: &View) -> Self {
        Self::with_secret(view, HashSecret::of_process())
    }

    /// The same with another secret. Tallies that are added to each other have the same.
    ///
    /// # Panics
    /// As [`Self::new`].
    #[must_use]
    pub fn with_secret(view: &View, secret: &HashSecret) -> Self {
        let findings = view.findings();
        assert!(findings.is_empty(), "{}", findings[0]);
        let shape = Shape::of(view, secret);
        let name = |field: &Option<String>| field.as_ref().map(|name| name.as_bytes().into());
        let pane_ms = view.pane_ms();
        let panes = (0..view.ring_panes()).map(|_| Pane::new(&shape)).collect();
        Tally {
            shape,
            field: name(&view.field),
            by: name(&view.by),
            time: name(&view.time),
            pane_ms: pane_ms.unwrap_or(u64::MAX),
            has_windows: pane_ms.is_some(),
            window_panes: view.window_panes(),
            lateness_ms: if view.time.is_some() { view.lateness_ms } else { 0 },
            ahead_ms: view.ahead_ms,
            top: view.top,
            newest_ms: None,
            first_ms: u64::MAX,
            totals: Totals::default(),
            last: None,
            panes,
        }
    }

    /// The memory of a tally in bytes, without making it: the value itself and what it takes of the heap.
    #[must_use]
    pub fn bytes(view: &View) -> u64 {
        let pane = Pane::bytes_for(&Shape::of(view, HashSecret::of_process()))
            .saturating_add(size_of::<Pane>() as u64);
        let names = [&view.field, &view.by, &view.time].into_iter().flatten().map(String::len).sum::<usize>();
        pane.saturating_mul(view.ring_panes()).saturating_add((size_of::<Tally>() + names) as u64)
    }

    /// Measures an event at `now_ms`, in ms since the Unix epoch. Allocates nothing.
    #[inline]
    pub fn observe(&mut self, event: &impl Fields, now_ms: u64) {
        self.observe_looked(|_, name| event.field(name), now_ms);
    }

    /// The same, with a look for each field that is needed: by its part, and by its name.
    #[inline]
    pub fn observe_looked<'a>(&mut self, look: impl Fn(Part, &[u8]) -> Option<&'a [u8]>, now_ms: u64) {
        self.totals.seen += 1;
        let time_ms = match &self.time {
            // A clock that is set back stands still until it has caught up.
            None => now_ms.min(TIME_MAX_MS).max(self.newest_ms.unwrap_or(0)),
            Some(name) => match look(Part::Time, name).and_then(read_ms).filter(|ms| *ms <= TIME_MAX_MS) {
                None => {
                    self.totals.untimed += 1;
                    return;
                }
                Some(time_ms) if time_ms > now_ms.saturating_add(self.ahead_ms) => {
                    self.totals.ahead += 1;
                    return;
                }
                Some(time_ms) => time_ms,
            },
        };
        let Some(at) = self.place_of(time_ms) else {
            self.totals.late += 1;
            return;
        };
        self.newest_ms = self.newest_ms.max(Some(time_ms));
        self.first_ms = self.first_ms.min(time_ms);
        let pane = &mut self.panes[at];
        pane.counters.events += 1;
        let is_numeric = self.shape.measure.is_numeric();
        let measured = match &self.field {
            None => Some(Measured::Event),
            Some(name) => look(Part::Value, name).and_then(|value| {
                if !is_numeric {
                    return Some(Measured::Bytes(value));
                }
                let read = Decimal::read(value)?;
                pane.counters.rounded += u64::from(read.rounded);
                Some(Measured::Number(read.number))
            }),
        };
        let key = match &self.by {
            None => Some(&[][..]),
            Some(name) => look(Part::Key, name),
        };
        match (key, measured) {
            (Some(key), Some(measured)) => pane.observe(&self.shape, key, measured, time_ms),
            _ => pane.counters.missing += 1,
        }
    }

    /// The place of the pane of a time; `None` where that is closed.
    #[inline]
    fn place_of(&mut self, time_ms: u64) -> Option<usize> {
        // Most events come to the pane that the one before came to, and that is still open, as it has seen none newer.
        match self.last {
            Some((start_ms, at)) if time_ms.wrapping_sub(start_ms) < self.pane_ms => {
                (!self.is_closed(start_ms)).then_some(at)
            }
            _ => self.place_slow(time_ms),
        }
    }

    #[cold]
    fn place_slow(&mut self, time_ms: u64) -> Option<usize> {
        let number = time_ms / self.pane_ms;
        let start_ms = number * self.pane_ms;
        if self.is_closed(start_ms) {
            return None;
        }
        let at = self.take(number);
        self.last = Some((start_ms, at));
        Some(at)
    }

    /// Whether the clock has passed the end of the pane that starts then, and the time for late events.
    #[inline]
    fn is_closed(&self, start_ms: u64) -> bool {
        let closes_ms = start_ms.saturating_add(self.pane_ms).saturating_add(self.lateness_ms);
        self.newest_ms.is_some_and(|newest_ms| closes_ms <= newest_ms)
    }

    /// The place of a pane, which takes it if an older one has it.
    pub(super) fn take(&mut self, number: u64) -> usize {
        let at = (number % self.panes.len() as u64) as usize;
        let pane = &mut self.panes[at];
        if pane.number != number {
            debug_assert!(pane.number == NO_TIME || pane.number < number);
            pane.take(&self.shape, number);
        }
        at
    }

    /// Whether another is of the same view and has no more room.
    pub(super) fn takes(&self, other: &Tally) -> bool {
        self.shape.takes(&other.shape)
            && (self.pane_ms, self.panes.len(), &self.time) == (other.pane_ms, other.panes.len(), &other.time)
            && (&self.field, &self.by) == (&other.field, &other.by)
    }

    /// Whether a pane is not too old for the ring.
    pub(super) fn keeps(&self, number: u64) -> bool {
        let newest = self.newest_ms.map(|newest_ms| newest_ms / self.pane_ms);
        newest.is_some_and(|newest| number <= newest && newest - number < self.panes.len() as u64)
    }

    /// Forgets everything. Allocates nothing; writes a byte for each key and value that there is room for.
    pub fn clear(&mut self) {
        (self.newest_ms, self.first_ms, self.last) = (None, u64::MAX, None);
        self.totals = Totals::default();
        self.panes.iter_mut().for_each(|pane| pane.take(&self.shape, NO_TIME));
    }

    /// The time of the newest event, in ms since the Unix epoch: the clock of event time. A window of event time is closed
    /// when this has passed its end by `lateness_ms`.
    #[must_use]
    pub fn newest_ms(&self) -> Option<u64> {
        self.newest_ms
    }

    /// The time of the earliest event that is in a window, in ms since the Unix epoch, since start or the last clear.
    #[must_use]
    pub fn first_ms(&self) -> Option<u64> {
        self.newest_ms.map(|_| self.first_ms)
    }

    /// What became of all events, since start or the last clear.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// The end of the last closed window at `now_ms`, in ms since the Unix epoch: [`Which::Closed`] reads that one. `None`
    /// where none is closed, or there are no windows.
    #[must_use]
    pub fn closed_ms(&self, now_ms: u64) -> Option<u64> {
        let past = self.clock(now_ms)?.checked_sub(self.lateness_ms)? / self.pane_ms;
        (self.has_windows && past > 0).then(|| past * self.pane_ms)
    }

    /// The time that decides which windows are closed.
    fn clock(&self, now_ms: u64) -> Option<u64> {
        match &self.time {
            None => Some(now_ms.min(TIME_MAX_MS).max(self.newest_ms.unwrap_or(0))),
            Some(_) => self.newest_ms,
        }
    }

    /// Reads a window at `now_ms`: all rows or that of one key; and of a top so many values, of anything else so many rows
    /// (the greatest), if a number is given.
    ///
    /// Allocates, for each row of each pane that the window is made of: not for a shard's thread.
    ///
    /// # Errors
    /// [`ReadError`], where there is no such window, or not enough memory.
    pub fn read(
        &self,
        which: Which,
        key: Option<&[u8]>,
        top: Option<usize>,
        now_ms: u64,
    ) -> Result<Reading, ReadError> {
        let clock = self.clock(now_ms);
        let (bounds, numbers, is_open) = if self.has_windows {
            let end = self.end_of(which, clock, now_ms)?;
            let numbers = end.saturating_sub(self.window_panes)..end;
            let bounds = numbers.start * self.pane_ms..end.saturating_mul(self.pane_ms);
            let is_open = self.closed_ms(now_ms).is_none_or(|closed_ms| closed_ms < bounds.end);
            (bounds, numbers, is_open)
        } else if which == Which::Open {
            let now_ms = clock.unwrap_or(now_ms);
            (self.first_ms.min(now_ms)..now_ms, 0..1, true)
        } else {
            return Err(ReadError::NoWindows);
        };
        let past_ms = if is_open { clock.unwrap_or(now_ms).min(bounds.end) } else { bounds.end };
        let is_top = self.shape.measure == Measure::Top;
        let telling = Telling {
            shape: &self.shape,
            key,
            values: top.unwrap_or(self.top),
            rows: top.filter(|_| !is_top),
            elapsed_ms: past_ms.saturating_sub(bounds.start).max(1),
        };
        let is_in = |pane: &&Pane| numbers.contains(&pane.number) && self.keeps(pane.number);
        let (lines, counters) = telling.tell(&self.panes.iter().filter(is_in).collect::<Vec<_>>())?;
        let Range { start: start_ms, end: end_ms } = bounds;
        Ok(Reading { start_ms, end_ms, is_open, lines, counters, totals: self.totals })
    }

    /// The number of the pane after a window.
    fn end_of(&self, which: Which, clock: Option<u64>, now_ms: u64) -> Result<u64, ReadError> {
        let clock = clock.ok_or(ReadError::NotYet)?;
        let open = clock / self.pane_ms + 1;
        let end = match which {
            Which::Open => open,
            Which::Closed => self.closed_ms(now_ms).ok_or(ReadError::NotYet)? / self.pane_ms,
            Which::Ended(end_ms) if end_ms % self.pane_ms > 0 || end_ms == 0 => {
                return Err(ReadError::Unaligned(self.pane_ms));
            }
            Which::Ended(end_ms) => end_ms / self.pane_ms,
        };
        if end >= open + self.window_panes {
            return Err(ReadError::NotYet);
        }
        // Of the ring the newest event decides what is kept, and what is newer is empty.
        let kept = self
            .newest_ms
            .map_or(0, |newest_ms| (newest_ms / self.pane_ms + 1).saturating_sub(self.panes.len() as u64));
        if end.saturating_sub(self.window_panes) < kept {
            return Err(ReadError::Gone((kept + self.window_panes) * self.pane_ms));
        }
        Ok(end)
    }
}
