//! Figures as people read them.

/// With a comma between thousands.
///
/// ```
/// assert_eq!(pelton::words::count(1_234_567), "1,234,567");
/// ```
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

/// An amount of bytes, in the unit that suits it.
///
/// ```
/// use pelton::words::bytes;
/// assert_eq!([bytes(512), bytes(1_536), bytes(3 << 30)], ["512 B", "1.5 KiB", "3.0 GiB"]);
/// ```
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
///
/// ```
/// use pelton::words::many;
/// assert_eq!([many(1, "shard"), many(2_000, "class")], ["1 shard", "2,000 classes"]);
/// ```
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
///
/// ```
/// use pelton::words::is_printable;
/// assert!(is_printable('ö') && !is_printable('\n') && !is_printable('\u{202e}'));
/// ```
pub fn is_printable(c: char) -> bool {
    let is_mark =
        matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !c.is_control() && !is_mark
}

/// A text with what is not [printable](is_printable) escaped, so that no name or argument breaks a line, moves a terminal's
/// cursor or reverses what follows it.
///
/// ```
/// assert_eq!(pelton::words::printable("a\r\u{1b}[2J"), r"a\r\u{1b}[2J");
/// ```
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_and_texts_are_fit_for_people() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([5, 1_024, 1 << 20, 3 << 29].map(bytes), ["5 B", "1.0 KiB", "1.0 MiB", "1.5 GiB"]);
        assert_eq!(
            [many(1, "class"), many(2, "class"), many(0, "shard")],
            ["1 class", "2 classes", "0 shards"]
        );
        assert_eq!(printable("größer 'a' \\"), "größer 'a' \\");
        assert_eq!(printable("\x1b[2J\r\n\u{202e}\u{61c}\u{2028}"), r"\u{1b}[2J\r\n\u{202e}\u{61c}\u{2028}");
    }
}
