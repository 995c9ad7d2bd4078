//! Figures as people read them.

use hdrhistogram::Histogram;
use pelton::engine::Value;
/// CPUs as the kernel lists them: `0-3,7`.
pub use pelton::host::list as cpus;
pub use pelton::words::{bytes, count, many, printable};

/// The median, the 99th and the 99.9th percentile, and the greatest; all 0 where nothing was recorded.
pub fn quantiles(histogram: &Histogram<u64>) -> [u64; 4] {
    let at = |q| histogram.value_at_quantile(q);
    [at(0.5), at(0.99), at(0.999), histogram.max()]
}

/// One decimal below 10, none from there on.
fn short(value: f64, unit: &str) -> String {
    // What would be rounded up to 10.0 has no decimal either.
    if value < 9.95 { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") }
}

/// A span in nanoseconds, in the unit that suits it.
pub fn nanos(ns: u64) -> String {
    let value = ns as f64;
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => short(value / 1e3, "µs"),
        1_000_000..1_000_000_000 => short(value / 1e6, "ms"),
        _ => short(value / 1e9, "s"),
    }
}

/// Events a second, to three digits.
pub fn rate(per_s: f64) -> String {
    match per_s {
        r if r >= 1e6 => format!("{:.2} million events/s", r / 1e6),
        r if r >= 1e3 => format!("{:.0} thousand events/s", r / 1e3),
        r => format!("{r:.0} events/s"),
    }
}

/// A part of a whole, in percent.
pub fn share(part: u64, whole: u64) -> String {
    if whole == 0 { "–".into() } else { format!("{:.1} %", part as f64 * 100.0 / whole as f64) }
}

/// Text of a log for a terminal: what would move the cursor or change colours is escaped, what is too long is cut.
pub fn clean(text: &str, chars_max: usize) -> String {
    let clean = printable(text);
    if clean.chars().count() <= chars_max {
        return clean;
    }
    clean.chars().take(chars_max - 1).chain(['…']).collect()
}

/// A text in lines of at most so many characters, unless a word alone is longer. Line breaks of its own stay.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.lines() {
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(line);
    }
    lines
}

/// With a capital letter, as at the beginning of a sentence.
pub fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

/// A value in a column; an empty text or list shows that it is one.
pub fn shown(value: &Value, chars_max: usize) -> String {
    let text = clean(&value.to_string(), chars_max);
    if text.is_empty() { "(empty)".into() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        assert_eq!(share(1, 3), "33.3 %");
        assert_eq!(
            [7, 1_000, 9_940, 9_960, 123_456, 2_500_000, 61_000_000_000].map(nanos),
            ["7 ns", "1.0 µs", "9.9 µs", "10 µs", "123 µs", "2.5 ms", "61 s"]
        );
    }

    #[test]
    fn lines_are_as_long_as_fits() {
        assert_eq!(wrap("one two three\nfour", 7), ["one two", "three", "four"]);
    }

    #[test]
    fn a_log_cannot_write_to_the_terminal() {
        assert_eq!(clean("/a\u{1b}[2J\t", 40), "/a\\u{1b}[2J\\t");
        assert_eq!(clean("/abcdef", 4), "/ab…");
    }
}
