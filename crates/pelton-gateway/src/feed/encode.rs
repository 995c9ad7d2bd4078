//! What a view says, for clients: as a reply of the protocol, and as a message.
//!
//! ```text
//! view measure start end open events late ahead untimed missing past saturated rounded lost rows: [[key, value] …]
//! ```
//! `late`, `ahead`, `untimed` and `lost` are of all events since start, the other counts of the window ([`Totals`](pelton_views::Totals),
//! [`Counters`](pelton_views::Counters)).
//!
//! `lost` has no place in messages: it counts the closed windows that could not be sent to subscribers since start.
//! Subscribers receive a message with `view` and `lost` alone, in the place of the missing windows.
//!
//! A value is an integer where it is one; otherwise a double (RESP3) or its digits (RESP2). Quantiles are a map of `p50`,
//! `p90`, `p95`, `p99`, `p99.9` and `max`; a top is a map of `values`, pairs of value and count, and `rest`; a last value stands
//! with its time; what is nothing is null. A row without a key has null for it.

use crate::resp::{Reply, Version};
use pelton_views::{Answer, Decimal, Reading, View};
use serde_json::{Map, Value, json};

/// How a quantile is called: `p99.9` for 0.999.
fn quantile_name(quantile: f64) -> String {
    // In tenths of a per cent, so that no digit of the fraction shows.
    let tenths = (quantile * 1_000.0).round() as u64;
    if tenths.is_multiple_of(10) {
        format!("p{}", tenths / 10)
    } else {
        format!("p{}.{}", tenths / 10, tenths % 10)
    }
}

/// Writes a reading as a reply, and how many of the view's windows could not be sent.
pub(crate) fn reply(view: &View, reading: &Reading, lost: u64, out: &mut Reply<'_>) {
    let field = |out: &mut Reply<'_>, name: &str| out.bulk(name.as_bytes());
    let figures = figures(reading);
    out.map(figures.len() + 7);
    field(out, "view");
    out.bulk(view.name.as_bytes());
    field(out, "measure");
    out.bulk(view.measure.name().as_bytes());
    let counts = [("start", reading.start_ms), ("end", reading.end_ms)];
    for (name, count) in counts {
        field(out, name);
        integer(out, count);
    }
    field(out, "open");
    out.boolean(reading.is_open);
    for (name, count) in figures.into_iter().chain([("lost", lost)]) {
        field(out, name);
        integer(out, count);
    }
    field(out, "rows");
    out.array(reading.lines.len());
    for line in &reading.lines {
        out.array(2);
        match &line.key {
            Some(key) => out.bulk(key),
            None => out.null(),
        }
        answer(&line.answer, out);
    }
}

/// What became of the events.
fn figures(reading: &Reading) -> [(&'static str, u64); 8] {
    let Reading { counters, totals, .. } = reading;
    [
        ("events", counters.events),
        ("late", totals.late),
        ("ahead", totals.ahead),
        ("untimed", totals.untimed),
        ("missing", counters.missing),
        ("past", counters.past),
        ("saturated", counters.saturated),
        ("rounded", counters.rounded),
    ]
}

fn integer(out: &mut Reply<'_>, value: u64) {
    out.integer(i64::try_from(value).unwrap_or(i64::MAX));
}

fn number(out: &mut Reply<'_>, value: &Decimal) {
    match value.as_i64() {
        Some(whole) => out.integer(whole),
        None if out.version() == Version::Resp3 => out.double(value.as_f64()),
        None => out.bulk(value.to_string().as_bytes()),
    }
}

fn answer(answer: &Answer, out: &mut Reply<'_>) {
    match answer {
        Answer::Count(count) | Answer::Distinct(count) => integer(out, *count),
        Answer::Number(value) => number(out, value),
        Answer::Quantiles(all, max) => {
            out.map(all.len() + 1);
            for (quantile, value) in all {
                out.bulk(quantile_name(*quantile).as_bytes());
                number(out, value);
            }
            out.bulk(b"max");
            number(out, max);
        }
        Answer::Top { values, rest } => {
            out.map(2);
            out.bulk(b"values");
            out.array(values.len());
            for (value, count) in values {
                out.array(2);
                out.bulk(value);
                integer(out, *count);
            }
            out.bulk(b"rest");
            integer(out, *rest);
        }
        Answer::Last { bytes, time_ms, .. } => {
            out.array(2);
            out.bulk(bytes);
            integer(out, *time_ms);
        }
        Answer::Nothing => out.null(),
    }
}

/// A reading as a message: the same in JSON. What is no Unicode is replaced.
pub(crate) fn message(view: &View, reading: &Reading) -> Vec<u8> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let digits = |value: &Decimal| match value.as_i64() {
        Some(whole) => json!(whole),
        None => json!(value.as_f64()),
    };
    let value = |answer: &Answer| match answer {
        Answer::Count(count) | Answer::Distinct(count) => json!(count),
        Answer::Number(value) => digits(value),
        Answer::Quantiles(all, max) => {
            let mut map: Map<String, Value> =
                all.iter().map(|(quantile, value)| (quantile_name(*quantile), digits(value))).collect();
            map.insert("max".into(), digits(max));
            Value::Object(map)
        }
        Answer::Top { values, rest } => {
            let values: Vec<_> = values.iter().map(|(value, count)| json!([text(value), count])).collect();
            json!({ "values": values, "rest": rest })
        }
        Answer::Last { bytes, time_ms, .. } => json!([text(bytes), time_ms]),
        Answer::Nothing => Value::Null,
    };
    let rows: Vec<_> = reading
        .lines
        .iter()
        .map(|line| json!([line.key.as_deref().map(text), value(&line.answer)]))
        .collect();
    let mut all = json!({
        "view": view.name,
        "measure": view.measure.name(),
        "start": reading.start_ms,
        "end": reading.end_ms,
        "rows": rows,
    });
    for (name, count) in figures(reading) {
        all[name] = json!(count);
    }
    all.to_string().into_bytes()
}

/// The message for windows that closed and cannot be sent.
pub(crate) fn lost(view: &View, lost: u64) -> Vec<u8> {
    json!({ "view": view.name, "lost": lost }).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_have_short_names() {
        let names: Vec<_> = pelton_views::QUANTILES.iter().map(|quantile| quantile_name(*quantile)).collect();
        assert_eq!(names, ["p50", "p90", "p95", "p99", "p99.9"]);
    }
}
