//! The axes of charts: where a value stands, which values have a line across the plot, and how they are written.

/// How values of an axis are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Evenly, from 0.
    Linear,
    /// By powers of ten.
    Log,
    /// Quantiles from 0 to below 1, by the nines of their percentage: 90 % is as far from 99 % as that from 99.9 %.
    Nines,
}

/// What the figures of an axis are, and so how they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Numbers.
    Plain,
    /// Nanoseconds.
    Nanos,
    /// Events a second.
    Rate,
    /// Quantiles, as percentages.
    Share,
}

/// One of the axes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Axis {
    /// What is on it, with the unit where its figures do not have one.
    pub label: String,
    /// How values are spread.
    pub scale: Scale,
    /// What they are.
    pub kind: Kind,
}

/// From values to the picture.
pub(super) struct Span {
    scale: Scale,
    from: f64,
    to: f64,
    /// Where the ends are, in the picture.
    pub start: f64,
    pub end: f64,
}

impl Span {
    pub fn new(axis: &Axis, values: impl Iterator<Item = f64>, start: f64, end: f64) -> Self {
        let scale = axis.scale;
        let (low, high) = values
            .filter(|value| has_place(scale, *value))
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        let (low, high) = if low.is_finite() { (low, high) } else { (1.0, 10.0) };
        let (from, to) = match scale {
            Scale::Linear => (low.min(0.0), high.max(low.min(0.0) + f64::MIN_POSITIVE)),
            // To the next 1, 2 or 5 of a decade on either side.
            Scale::Log => (round_log(low, false).log10(), round_log(high * 1.000_001, true).log10()),
            Scale::Nines => (0.0, nines(high).max(1.0)),
        };
        Span { scale, from, to, start, end }
    }

    /// Whether the value has a place.
    pub fn has(&self, value: f64) -> bool {
        has_place(self.scale, value)
    }

    pub fn place(&self, value: f64) -> f64 {
        let at = match self.scale {
            Scale::Linear => value,
            Scale::Log => value.log10(),
            Scale::Nines => nines(value),
        };
        self.start + (at - self.from) / (self.to - self.from) * (self.end - self.start)
    }

    /// Values with a line across the plot.
    pub fn ticks(&self) -> Vec<f64> {
        match self.scale {
            Scale::Linear => {
                let step = step_of(self.to - self.from);
                let count = ((self.to - self.from) / step + 1e-9).floor() as i64;
                (0..=count).map(|n| self.from + n as f64 * step).collect()
            }
            Scale::Log => {
                let decades = self.from.floor() as i32..=self.to.ceil() as i32;
                let parts: &[f64] = if self.to - self.from > 3.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
                let all = decades.flat_map(|decade| parts.iter().map(move |part| part * 10f64.powi(decade)));
                all.filter(|tick| (self.from - 1e-9..=self.to + 1e-9).contains(&tick.log10())).collect()
            }
            Scale::Nines => (0..=self.to as i32).map(|nines| 1.0 - 10f64.powi(-nines)).collect(),
        }
    }
}

/// Whether a value has a place on such an axis.
pub(super) fn has_place(scale: Scale, value: f64) -> bool {
    value.is_finite() && (scale != Scale::Log || value > 0.0)
}

/// 0 for 0 %, 1 for 90 %, 2 for 99 %.
fn nines(quantile: f64) -> f64 {
    -(1.0 - quantile.clamp(0.0, 1.0 - 1e-12)).log10()
}

/// A value rounded down or up to 1, 2, 5 or 10 times a power of ten.
fn round_log(value: f64, up: bool) -> f64 {
    let decade = 10f64.powf(value.log10().floor());
    let parts = [1.0, 2.0, 5.0, 10.0].map(|part| part * decade);
    if up {
        parts.into_iter().find(|part| *part >= value * (1.0 - 1e-9)).unwrap_or(parts[3])
    } else {
        parts.into_iter().rev().find(|part| *part <= value * (1.0 + 1e-9)).unwrap_or(parts[0])
    }
}

/// A step of 1, 2, 2.5 or 5 times a power of ten, so that there are five to nine.
fn step_of(span: f64) -> f64 {
    let rough = span / 7.0;
    let decade = 10f64.powf(rough.log10().floor());
    [1.0, 2.0, 2.5, 5.0, 10.0]
        .map(|part| part * decade)
        .into_iter()
        .find(|step| *step >= rough)
        .unwrap_or(rough)
}

/// A number without zeros that say nothing.
fn plain(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

/// A figure with its unit.
pub(super) fn written(value: f64, kind: Kind) -> String {
    match kind {
        Kind::Plain => plain(value),
        Kind::Nanos if value == 0.0 => "0".into(),
        Kind::Nanos if value < 1e3 => format!("{} ns", plain(value)),
        Kind::Nanos if value < 1e6 => format!("{} µs", plain(value / 1e3)),
        Kind::Nanos if value < 1e9 => format!("{} ms", plain(value / 1e6)),
        Kind::Nanos => format!("{} s", plain(value / 1e9)),
        Kind::Rate if value == 0.0 => "0".into(),
        Kind::Rate if value < 1e6 => format!("{} k/s", plain(value / 1e3)),
        Kind::Rate => format!("{} M/s", plain(value / 1e6)),
        Kind::Share => {
            let nines = nines(value).round() as usize;
            format!("{:.*} %", nines.saturating_sub(2), value * 100.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(scale: Scale, kind: Kind) -> Axis {
        Axis { label: String::new(), scale, kind }
    }

    #[test]
    fn ticks_are_round_and_written_with_their_unit() {
        let span = |scale, from, to| Span::new(&axis(scale, Kind::Plain), [from, to].into_iter(), 0.0, 100.0);
        assert_eq!(span(Scale::Linear, 0.0, 80.0).ticks(), [0.0, 20.0, 40.0, 60.0, 80.0]);
        assert_eq!(span(Scale::Log, 90.0, 1_900.0).ticks(), [50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0]);
        let nines = span(Scale::Nines, 0.0, 0.9999);
        let told: Vec<_> = nines.ticks().into_iter().map(|tick| written(tick, Kind::Share)).collect();
        assert_eq!(told, ["0 %", "90 %", "99 %", "99.9 %", "99.99 %"]);
        assert!((nines.place(0.9) - 25.0).abs() < 1e-6 && (nines.place(0.99) - 50.0).abs() < 1e-6);
        let nanos = [0.0, 50.0, 1e3, 2.5e6, 3e9].map(|ns| written(ns, Kind::Nanos));
        assert_eq!(nanos, ["0", "50 ns", "1 µs", "2.5 ms", "3 s"]);
        assert_eq!([5e5, 1.25e7].map(|rate| written(rate, Kind::Rate)), ["500 k/s", "12.5 M/s"]);
    }
}
