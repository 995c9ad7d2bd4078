//! The table of a view: every setting, a row each; and the rules that they keep to together.

use super::view::{Measure, PANES_MAX, PastKeys, RING_MAX, View};
use crate::names::NAME_BYTES_MAX;
use pelton::engine::{Keyword, Kind, PlanError, Setting};
use pelton::settings;

/// A year in milliseconds: no window is longer.
const YEAR_MS: u64 = 366 * 86_400_000;
/// The most that a view may have room for: keys, values of a top.
pub const ROOM_MAX: u64 = 1 << 24;
const TEXT_BYTES_MAX: u64 = 1 << 16;

/// The greatest value of quantiles, in units of their last place.
const VALUE_MAX: u64 = 1 << 62;
/// With so many registers `hyperloglockless` 0.5 tells 0 for up to some thousand values: a wrong row in its table of
/// coefficients. The others are right; a test goes through them.
const UNFIT_REGISTERS: u32 = 2_048;

impl Keyword for Measure {
    fn keyword(self) -> &'static str {
        self.name()
    }

    fn from_keyword(word: &str) -> Option<Self> {
        Measure::named(word)
    }
}

settings! {
    /// The settings of a view, in the order in which files have them.
    pub const VIEW: View {
        name: name = Kind::text("a name"),
            what: "the name of the view; no other has it",
            trades: "nothing",
            watch: "the view itself";
        stream: stream = Kind::text("the name of a stream"),
            what: "the stream that it is over",
            trades: "each event of the stream is measured by every view over it",
            watch: "handling p50";
        measure: measure = Kind::OneOf(&Measure::NAMES),
            what: "what it tells",
            trades: "distinct and quantiles are near the truth, in fixed memory; the others are exact",
            watch: "memory";
        field: field = Kind::text("the name of a field").or_word("none"),
            what: "the field that is measured; \"none\" for count and rate",
            trades: "an event without it, or with no number where one is needed, is counted as missing",
            watch: "missing";
        by: by = Kind::text("the name of a field").or_word("none"),
            what: "the field whose values have a row each; \"none\" for one row of all",
            trades: "each row takes memory, laid out at start",
            watch: "memory, past";
        window_ms: window_ms = Kind::whole(1, YEAR_MS).or_word("none"), unit: "ms",
            what: "the length of its window; \"none\" for all since start",
            trades: "short ones tell sooner, long ones more steadily",
            watch: "events of a window";
        slide_ms: slide_ms = Kind::whole(1, YEAR_MS).or_word("window"), unit: "ms",
            what: "how often a window begins; \"window\" for one after the other",
            trades: "a window is made of panes of this length, and each takes the memory of a whole view",
            watch: "memory";
        time: time = Kind::text("the name of a field").or_word("arrival"),
            what: "a field with milliseconds since the Unix epoch, or \"arrival\" for when an event is handled",
            trades: "event time tells when things were; its windows close only as newer events come",
            watch: "late, ahead, untimed";
        lateness_ms: lateness_ms = Kind::whole(0, YEAR_MS), unit: "ms",
            what: "how long a window of event time stays open behind the newest event",
            trades: "long ones take in what comes late, tell later, and keep more panes",
            watch: "late";
        ahead_ms: ahead_ms = Kind::whole(0, u64::MAX), unit: "ms",
            what: "how far the time of an event may be ahead of the clock",
            trades: "one publisher whose clock is ahead closes windows early by as much for all others, whose events are late then; a low value leaves its events out instead",
            watch: "ahead, late";
        keys_max: keys_max = Kind::whole(1, ROOM_MAX),
            what: "the most keys that a shard has in a pane",
            trades: "room for many, laid out at start",
            watch: "past, memory";
        past_keys: past_keys = Kind::OneOf(&["other", "drop"]),
            what: "what happens to events of further keys",
            trades: "other measures them together in one row without a key; drop only counts them",
            watch: "past",
            get: |view, _| if view.past_keys == PastKeys::Other { "other" } else { "drop" }.into(),
            set: |view, value, _| {
                view.past_keys = if value.word() == "drop" { PastKeys::Drop } else { PastKeys::Other }
            };
        key_max_bytes: key_max_bytes = Kind::whole(1, TEXT_BYTES_MAX), unit: "bytes",
            what: "the longest key; a longer one is past the bound",
            trades: "so many bytes for each of keys_max",
            watch: "past, memory";
        top: top = Kind::whole(1, ROOM_MAX), needs: measure = "top",
            what: "how many values a row tells, unless somebody asks for another number",
            trades: "a longer answer",
            watch: "the view itself";
        values_max: values_max = Kind::whole(1, ROOM_MAX), needs: measure = "top",
            what: "the most values, for each key apart, that a shard has in a pane",
            trades: "the top is exact as long as there is room; what finds none is counted together",
            watch: "rest, memory";
        value_max_bytes: value_max_bytes = Kind::whole(1, TEXT_BYTES_MAX), unit: "bytes",
            what: "the longest value of top and last; top counts a longer one with the rest, last cuts it",
            trades: "so many bytes for each value, or row",
            watch: "rest, memory";
        value_max: value_max = Kind::whole(2, VALUE_MAX), needs: measure = "quantiles",
            what: "the greatest value that quantiles tell from greater ones",
            trades: "each doubling takes a thousand bytes a row, with two digits",
            watch: "saturated, memory";
        digits: digits = Kind::whole(1, 3), needs: measure = "quantiles",
            what: "significant digits of quantiles",
            trades: "each takes some eight times the memory: 4, 30, 216 KiB a row with value_max as it is at first",
            watch: "memory";
        places: places = Kind::whole(0, View::PLACES_MAX as u64), needs: measure = "quantiles",
            what: "the decimal places to which values are rounded for quantiles",
            trades: "each takes the memory of three doublings of value_max; 3 tells milliseconds where values are seconds",
            watch: "memory";
        registers: registers = Kind::whole(256, 1 << 16).power(), unit: "registers", needs: measure = "distinct",
            what: "the registers of each row of distinct, a byte each",
            trades: "the standard error is 1.04 / √registers: 1.6 % with 4,096",
            watch: "memory";
    }
}

impl View {
    /// All that is wrong with it, at once; nothing if it can be.
    ///
    /// Whether its stream is there is for those to say who have streams.
    #[must_use]
    pub fn findings(&self) -> Vec<PlanError> {
        let key_of = |key: &str| format!("view '{}': {key}", self.name.escape_debug());
        let mut found: Vec<_> = VIEW.iter().filter_map(|row| row.check(key_of, self)).collect();
        let mut wrong = |key: &str, value: &dyn std::fmt::Display, limit: String, works: &str| {
            found.push(PlanError::new(key_of(key), value, limit, works));
        };
        if self.name.is_empty() {
            wrong("name", &"''", "a name, by which it is asked for".into(), "'view'");
        }
        let measure = self.measure.name();
        match &self.field {
            None if self.measure.has_field() => {
                wrong("field", &"'none'", format!("a field, as '{measure}' measures one"), "the name of one");
            }
            Some(field) if !self.measure.has_field() => {
                wrong("field", &quoted(field), format!("none, as '{measure}' counts events"), "'none'");
            }
            _ => {}
        }
        for (key, field) in [("field", &self.field), ("by", &self.by), ("time", &self.time)] {
            if field.as_deref() == Some("") {
                wrong(key, &"''", "the name of a field".into(), "'ms'");
            }
        }
        // A stream's `key` has it, and a file for both is easily written so; no event has such a field then.
        for (key, field) in [("field", &self.field), ("by", &self.by), ("time", &self.time)] {
            if let Some(rest) = field.as_deref().and_then(|field| field.strip_prefix("field:")) {
                let limit = "the bare name of a field: the prefix is for the key of a stream";
                wrong(key, &quoted(&format!("field:{rest}")), limit.into(), &quoted(rest));
            }
        }
        let most = VALUE_MAX / 10u64.saturating_pow(self.places.into());
        if self.measure == Measure::Quantiles && (most + 1..=VALUE_MAX).contains(&self.value_max) {
            let limit = format!("at most {most} with places = {}", self.places);
            wrong("value_max", &self.value_max, limit, &most.to_string());
        }
        if self.registers == UNFIT_REGISTERS {
            let limit = format!("another power of two: the library estimates wrongly with {UNFIT_REGISTERS}");
            wrong("registers", &self.registers, limit, "4096");
        }
        self.check_panes(&mut wrong);
        let room = [
            ("keys_max", self.by.is_some(), self.keys_max, self.key_max_bytes, "key_max_bytes"),
            (
                "values_max",
                self.measure == Measure::Top,
                self.values_max,
                4 + self.value_max_bytes,
                "value_max_bytes",
            ),
        ];
        for (key, is_used, count, bytes, of) in room {
            if is_used && bytes > 0 && count > NAME_BYTES_MAX / bytes {
                let limit = format!("at most {NAME_BYTES_MAX} bytes with {of}");
                wrong(key, &count, limit, &(NAME_BYTES_MAX / bytes).to_string());
            }
        }
        found
    }

    /// What is said of it and has no use beside the rest. It can be all the same.
    #[must_use]
    pub fn advice(&self) -> Vec<PlanError> {
        let start = View::default();
        let measure = format!("measure is '{}'", self.measure.name());
        let has_values = matches!(self.measure, Measure::Top | Measure::Last);
        let unused = |row: &Setting<View>| -> Option<(String, String)> {
            match (row.info.key, row.info.needs) {
                (_, Some((other, word))) if self.measure.name() != word => {
                    Some((measure.clone(), format!("{other} = \"{word}\"")))
                }
                ("value_max_bytes", _) if !has_values => Some((measure.clone(), "measure = \"last\"".into())),
                ("keys_max" | "past_keys" | "key_max_bytes", _) if self.by.is_none() => {
                    Some(("by is 'none'".into(), "a field for by".into()))
                }
                ("lateness_ms" | "ahead_ms", _) if self.time.is_none() => {
                    Some(("time is 'arrival'".into(), "a field for time".into()))
                }
                ("lateness_ms", _) if self.window_ms.is_none() => {
                    Some(("window_ms is 'none'".into(), "a window_ms".into()))
                }
                _ => None,
            }
        };
        // What is as it is at first need not have been said.
        let said = VIEW.iter().filter(|row| row.get(self) != row.get(&start));
        let advice = said.filter_map(|row| {
            let (why, works) = unused(row)?;
            let setting = format!("view '{}': {}", self.name.escape_debug(), row.info.key);
            let limit = format!("left out where {why}");
            let works = format!("{works}, or leaving it out,");
            Some(PlanError::new(setting, row.get(self), limit, works).warning())
        });
        advice.collect()
    }

    fn check_panes(&self, wrong: &mut impl FnMut(&str, &dyn std::fmt::Display, String, &str)) {
        match (self.window_ms, self.slide_ms) {
            (None, Some(slide)) => {
                wrong("slide_ms", &slide, "none, as there is no window".into(), "'window'");
            }
            (Some(window), Some(slide)) if slide > 0 && (slide > window || window % slide > 0) => {
                let works = (1..=PANES_MAX.min(window))
                    .rev()
                    .find(|panes| window % panes == 0 && window / panes >= slide.min(window));
                let works = works.map_or(window, |panes| window / panes).to_string();
                wrong("slide_ms", &slide, format!("a divisor of window_ms, {window}"), &works);
            }
            (Some(window), Some(slide)) if slide > 0 && window / slide > PANES_MAX => {
                let panes = (1..=PANES_MAX).rev().find(|panes| window % panes == 0).unwrap_or(1);
                let limit =
                    format!("window_ms / {PANES_MAX} at least, as a window has {PANES_MAX} panes at most");
                wrong("slide_ms", &slide, limit, &(window / panes).to_string());
            }
            (Some(_), _) if self.ring_panes() > RING_MAX && self.pane_ms() != Some(0) => {
                let pane = self.pane_ms().unwrap_or(1);
                let most = (RING_MAX - 1 - self.window_panes()).saturating_mul(pane);
                let limit = format!("at most {most}, as {RING_MAX} panes of {pane} ms are kept at most");
                wrong("lateness_ms", &self.lateness_ms, limit, &most.to_string());
            }
            _ => {}
        }
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.escape_debug())
}
