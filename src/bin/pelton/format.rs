//! Figures as people read them.

use hdrhistogram::Histogram;

/// The median, the 99th and the 99.9th percentile, and the greatest; all 0 where nothing was recorded.
pub fn quantiles(histogram: &Histogram<u64>) -> [u64; 4] {
    let at = |q| histogram.value_at_quantile(q);
    [at(0.5), at(0.99), at(0.999), histogram.max()]
}

/// With a comma between thousands.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
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

/// An amount of bytes, in the unit that suits it.
pub fn bytes(n: u64) -> String {
    let value = n as f64;
    match n {
        0..1_024 => format!("{n} B"),
        0x400..0x10_0000 => format!("{:.1} KiB", value / 1_024.0),
        0x10_0000..0x4000_0000 => format!("{:.1} MiB", value / 1_048_576.0),
        _ => format!("{:.1} GiB", value / 1_073_741_824.0),
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

/// Text of a log for a terminal: what would move the cursor or change colours is written out, what is too long is cut.
pub fn clean(text: &str, chars_max: usize) -> String {
    let mut clean = String::new();
    for c in text.chars() {
        // The bidirectional marks are no control characters, but turn a line around.
        let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if c.is_control() || turns { clean.extend(c.escape_default()) } else { clean.push(c) }
    }
    if clean.chars().count() <= chars_max {
        return clean;
    }
    clean.chars().take(chars_max - 1).chain(['…']).collect()
}

/// CPUs as the kernel lists them: `0-3,7`.
pub fn cpus(list: &[usize]) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for &cpu in list {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == cpu => *last = cpu,
            _ => ranges.push((cpu, cpu)),
        }
    }
    let range = |(from, to): (usize, usize)| {
        if from == to { from.to_string() } else { format!("{from}-{to}") }
    };
    ranges.into_iter().map(range).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [7, 1_000, 9_940, 9_960, 123_456, 2_500_000, 61_000_000_000].map(nanos),
            ["7 ns", "1.0 µs", "9.9 µs", "10 µs", "123 µs", "2.5 ms", "61 s"]
        );
        assert_eq!([5, 1_024, 1 << 20, 3 << 29].map(bytes), ["5 B", "1.0 KiB", "1.0 MiB", "1.5 GiB"]);
        assert_eq!(share(1, 3), "33.3 %");
        assert_eq!(cpus(&[0, 1, 2, 5, 7, 8]), "0-2,5,7-8");
    }

    #[test]
    fn a_log_cannot_write_to_the_terminal() {
        assert_eq!(clean("/a\u{1b}[2J\t", 40), "/a\\u{1b}[2J\\t");
        assert_eq!(clean("/abcdef", 4), "/ab…");
    }
}
