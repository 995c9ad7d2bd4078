//! Figures as people read them.

use hdrhistogram::Histogram;
use pelton::engine::Value;
/// CPUs as the kernel lists them: `0-3,7`.
pub use pelton::host::list as cpus;
pub use pelton::words::{bytes, count, many, nanos, printable};

/// The median, the 99th and the 99.9th percentile, and the greatest; all 0 where nothing was recorded.
pub fn quantiles(histogram: &Histogram<u64>) -> [u64; 4] {
    let at = |q| histogram.value_at_quantile(q);
    [at(0.5), at(0.99), at(0.999), histogram.max()]
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
    }

    #[test]
    fn a_log_cannot_write_to_the_terminal() {
        assert_eq!(clean("/a\u{1b}[2J\t", 40), "/a\\u{1b}[2J\\t");
        assert_eq!(clean("/abcdef", 4), "/ab…");
    }
}
