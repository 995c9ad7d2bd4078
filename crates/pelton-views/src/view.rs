//! The declaration of a view: what is measured of which events, by what, over how long.
//!
//! A view is made by code ([`View::count`] and its like, then [`View::by`] and the rest) or set by its table of settings;
//! [`View::findings`] tells all that cannot be, at once.

use std::time::Duration;

/// The most panes that a window is made of.
pub const PANES_MAX: u64 = 64;
/// The most panes that are kept: those of a window, those that late events may still come to, and the open one.
pub const RING_MAX: u64 = 1_024;

/// What a view measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Measure {
    /// How many events. Exact.
    Count,
    /// Events a second, over the window or as much of it as is past. Exact, but for the ninth place.
    Rate,
    /// The sum of a field. Exact; see [`crate::Decimal`].
    Sum,
    /// The least of a field. Exact.
    Min,
    /// The greatest of a field. Exact.
    Max,
    /// The mean of a field, from its exact sum, rounded in the ninth place.
    Mean,
    /// Quantiles of a field, rounded to [`View::places`], from 0 to [`View::value_max`], by an HdrHistogram: of what was
    /// rounded never too low, and too high by less than 10^-[`View::digits`] of the value. The greatest is exact.
    Quantiles,
    /// The most frequent values of a field. Exact, as long as no more than [`View::values_max`] are told apart; what goes
    /// past it is counted together.
    Top,
    /// How many different values a field has, by a HyperLogLog: with a standard error of 1.04 / √[`View::registers`].
    Distinct,
    /// The value that a field had last. Exact, up to [`View::value_max_bytes`].
    Last,
}

impl Measure {
    /// All of them.
    pub const ALL: [Measure; 10] = [
        Measure::Count,
        Measure::Rate,
        Measure::Sum,
        Measure::Min,
        Measure::Max,
        Measure::Mean,
        Measure::Quantiles,
        Measure::Top,
        Measure::Distinct,
        Measure::Last,
    ];

    /// Their names, in the same order.
    pub const NAMES: [&str; 10] =
        ["count", "rate", "sum", "min", "max", "mean", "quantiles", "top", "distinct", "last"];

    /// Its name, as files and answers have it.
    pub const fn name(self) -> &'static str {
        Measure::NAMES[self as usize]
    }

    /// The measure of a name.
    pub fn named(name: &str) -> Option<Measure> {
        Measure::ALL.into_iter().find(|measure| measure.name() == name)
    }

    /// Whether it measures a field, and does not count events alone.
    pub const fn has_field(self) -> bool {
        !matches!(self, Measure::Count | Measure::Rate)
    }

    /// Whether that field must be a number.
    pub const fn is_numeric(self) -> bool {
        matches!(self, Measure::Sum | Measure::Min | Measure::Max | Measure::Mean | Measure::Quantiles)
    }
}

/// What happens to events whose key finds no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PastKeys {
    /// They are measured together, in one row without a key.
    Other,
    /// They are counted as past the bound, and not measured.
    Drop,
}

/// A view; see the file's head. Every field has a row in [`crate::VIEW`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Its name.
    pub name: String,
    /// The stream that it is over; the room itself makes no use of it.
    pub stream: String,
    /// What it measures.
    pub measure: Measure,
    /// The field that it measures; none for [`Measure::Count`] and [`Measure::Rate`].
    pub field: Option<String>,
    /// The field that is the key of its rows; `None` for one row of all events.
    pub by: Option<String>,
    /// The length of its window in ms; `None` for all since start.
    pub window_ms: Option<u64>,
    /// How often a window begins, in ms; `None` for one after the other.
    pub slide_ms: Option<u64>,
    /// The field with the time of an event, in ms since the Unix epoch; `None` for the time at which it is handled.
    pub time: Option<String>,
    /// How long a window of event time stays open behind the newest event, in ms.
    pub lateness_ms: u64,
    /// How far an event's time may be ahead of the clock, in ms. The newest event is the clock of event time: one that is
    /// as far ahead closes windows so much too early for all other publishers, whose events are then late.
    pub ahead_ms: u64,
    /// The most keys in a pane.
    pub keys_max: usize,
    /// What happens to events of further keys.
    pub past_keys: PastKeys,
    /// The longest key in bytes; a longer one finds no room.
    pub key_max_bytes: usize,
    /// How many values or rows are told unless somebody asks for another number.
    pub top: usize,
    /// The most values, counted for each key apart, that a pane of [`Measure::Top`] has room for.
    pub values_max: usize,
    /// The longest value of [`Measure::Top`] and [`Measure::Last`] that is kept, in bytes.
    pub value_max_bytes: usize,
    /// The greatest value that [`Measure::Quantiles`] tells from greater ones.
    pub value_max: u64,
    /// The significant digits of [`Measure::Quantiles`].
    pub digits: u8,
    /// The decimal places to which values are rounded for [`Measure::Quantiles`], halves away from zero: 3 for seconds that
    /// matter by the millisecond.
    pub places: u8,
    /// The registers of [`Measure::Distinct`], a byte each.
    pub registers: u32,
}

impl Default for View {
    /// A count of all events since start, without a name.
    fn default() -> Self {
        View {
            name: String::new(),
            stream: String::new(),
            measure: Measure::Count,
            field: None,
            by: None,
            window_ms: None,
            slide_ms: None,
            time: None,
            lateness_ms: 0,
            ahead_ms: 5_000,
            keys_max: 1_000,
            past_keys: PastKeys::Other,
            key_max_bytes: 64,
            top: 10,
            values_max: 10_000,
            value_max_bytes: 64,
            value_max: 1 << 36,
            digits: 2,
            places: 0,
            registers: 4_096,
        }
    }
}

macro_rules! of_field {
    ($($make:ident $measure:ident $what:literal,)*) => {$(
        #[doc = $what]
        pub fn $make(name: impl Into<String>, field: impl Into<String>) -> Self {
            View { field: Some(field.into()), ..View::of(Measure::$measure, name.into()) }
        }
    )*};
}

impl View {
    fn of(measure: Measure, name: String) -> Self {
        View { name, measure, ..View::default() }
    }

    /// Counts events.
    pub fn count(name: impl Into<String>) -> Self {
        View::of(Measure::Count, name.into())
    }

    /// Events a second.
    pub fn rate(name: impl Into<String>) -> Self {
        View::of(Measure::Rate, name.into())
    }

    of_field! {
        sum Sum "The sum of a field.",
        min Min "The least of a field.",
        max Max "The greatest of a field.",
        mean Mean "The mean of a field.",
        quantiles Quantiles "Quantiles of a field.",
        top_of Top "The most frequent values of a field.",
        distinct Distinct "How many different values a field has.",
        last Last "The last value of a field.",
    }

    /// The stream that it is over.
    pub fn over(mut self, stream: impl Into<String>) -> Self {
        self.stream = stream.into();
        self
    }

    /// A row for each value of a field.
    pub fn by(mut self, field: impl Into<String>) -> Self {
        self.by = Some(field.into());
        self
    }

    /// Windows one after the other, so long each; whole milliseconds.
    pub fn tumbling(mut self, window: Duration) -> Self {
        (self.window_ms, self.slide_ms) = (Some(millis(window)), None);
        self
    }

    /// Windows so long, one beginning every `slide`; whole milliseconds.
    pub fn sliding(mut self, window: Duration, slide: Duration) -> Self {
        (self.window_ms, self.slide_ms) = (Some(millis(window)), Some(millis(slide)));
        self
    }

    /// Takes the time of an event from a field of it; windows stay open for `lateness` behind the newest event.
    pub fn event_time(mut self, field: impl Into<String>, lateness: Duration) -> Self {
        (self.time, self.lateness_ms) = (Some(field.into()), millis(lateness));
        self
    }

    /// How far an event's time may be ahead of the clock.
    pub fn ahead(mut self, ahead: Duration) -> Self {
        self.ahead_ms = millis(ahead);
        self
    }

    /// The most keys in a pane, and what happens past them.
    pub fn keys(mut self, most: usize, past: PastKeys) -> Self {
        (self.keys_max, self.past_keys) = (most, past);
        self
    }

    /// How many values or rows are told unless somebody asks for another number.
    pub fn top(mut self, top: usize) -> Self {
        self.top = top;
        self
    }

    /// The most [`View::places`]: a [`Decimal`](crate::Decimal) has no more.
    pub(super) const PLACES_MAX: u32 = 9;

    /// The greatest value that quantiles tell from greater ones, in units of the last place.
    pub(super) fn value_max_in_units(&self) -> u64 {
        self.value_max.saturating_mul(10u64.saturating_pow(self.places.into()))
    }

    /// The same view with room for the keys and values of so many shards: what they keep is merged into it without loss.
    pub fn over_shards(&self, shards: u16) -> Self {
        let shards = usize::from(shards.max(1));
        View {
            keys_max: self.keys_max.saturating_mul(shards),
            values_max: self.values_max.saturating_mul(shards),
            ..self.clone()
        }
    }

    /// The length of a pane in ms: windows are made of whole ones. `None` for all since start.
    pub fn pane_ms(&self) -> Option<u64> {
        self.window_ms.map(|window| self.slide_ms.unwrap_or(window))
    }

    /// How many panes make a window.
    pub(super) fn window_panes(&self) -> u64 {
        match (self.window_ms, self.pane_ms()) {
            (Some(window), Some(pane)) => window / pane.max(1),
            _ => 1,
        }
    }

    /// How many panes are kept: those of the last window that is closed, those that are not closed yet.
    pub(super) fn ring_panes(&self) -> u64 {
        match self.pane_ms() {
            Some(pane) if self.time.is_some() => {
                self.window_panes().saturating_add(1).saturating_add(self.lateness_ms.div_ceil(pane.max(1)))
            }
            Some(_) => self.window_panes().saturating_add(1),
            None => 1,
        }
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
