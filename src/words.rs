//! Figures as people read them.

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

/// So many of a thing: `1 shard`, `2 shards`.
pub fn many(n: u64, thing: &str) -> String {
    let es = if n == 1 {
        ""
    } else if thing.ends_with('s') {
        "es"
    } else {
        "s"
    };
    format!("{} {thing}{es}", count(n))
}

/// Whether a character only shows itself: no control character, line separator or mark of direction.
pub fn is_printable(c: char) -> bool {
    let is_mark =
        matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !c.is_control() && !is_mark
}

/// A text with what is not [printable](is_printable) escaped, so that no name or argument breaks a line, moves a terminal's
/// cursor or reverses what follows it.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match is_printable(c) {
            true => shown.push(c),
            false => shown.extend(c.escape_debug()),
        }
    }
    shown
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_and_texts_are_fit_for_people() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [7, 1_000, 9_940, 9_960, 123_456, 2_500_000, 61_000_000_000].map(nanos),
            ["7 ns", "1.0 µs", "9.9 µs", "10 µs", "123 µs", "2.5 ms", "61 s"]
        );
        assert_eq!([5, 1_024, 1 << 20, 3 << 29].map(bytes), ["5 B", "1.0 KiB", "1.0 MiB", "1.5 GiB"]);
        assert_eq!(
            [many(1, "class"), many(2, "class"), many(0, "shard")],
            ["1 class", "2 classes", "0 shards"]
        );
        assert_eq!(printable("größer 'a' \\"), "größer 'a' \\");
        assert_eq!(printable("\x1b[2J\r\n\u{202e}\u{61c}\u{2028}"), r"\u{1b}[2J\r\n\u{202e}\u{61c}\u{2028}");
        assert_eq!(wrap("one two three\nfour", 7), ["one two", "three", "four"]);
    }
}
