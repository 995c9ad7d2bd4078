//! Decimal digits, without the formatting machinery.

/// The most digits of 64 bits.
pub(crate) const DIGITS_MAX: usize = 20;

/// The digits of a number, in a room that fits any.
pub(crate) struct Digits {
    room: [u8; DIGITS_MAX],
    first: usize,
}

impl Digits {
    /// Renders `value`.
    #[inline]
    pub(crate) fn of(mut value: u64) -> Self {
        let mut room = [b'0'; DIGITS_MAX];
        let mut first = DIGITS_MAX - 1;
        room[first] = b'0' + (value % 10) as u8;
        value /= 10;
        while value > 0 && first > 0 {
            first -= 1;
            room[first] = b'0' + (value % 10) as u8;
            value /= 10;
        }
        Self { room, first }
    }

    #[inline]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.room[self.first..]
    }
}

/// A number as an argument, where Redis takes one: 64 bits with a sign, written as it would be printed. So there is no plus,
/// no zero in front, no `-0`, no blank.
#[must_use]
pub fn number(text: &[u8]) -> Option<i64> {
    let value: i64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    let digits = Digits::of(value.unsigned_abs());
    let unsigned = if value < 0 { &text[1..] } else { text };
    (unsigned == digits.as_bytes()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_they_are_printed() {
        for value in [0, 1, -1, 10, i64::MAX, i64::MIN] {
            assert_eq!(number(value.to_string().as_bytes()), Some(value));
        }
        for text in [
            "",
            "+0",
            "+1",
            "-0",
            "01",
            "-01",
            " 1",
            "1 ",
            "1x",
            "-",
            "--1",
            "9223372036854775808",
            "\u{663}",
        ] {
            assert_eq!(number(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn every_length_of_number() {
        let mut value = 0u64;
        for length in 1..=DIGITS_MAX {
            assert_eq!(Digits::of(value).as_bytes(), value.to_string().as_bytes());
            assert_eq!(Digits::of(value).as_bytes().len(), length);
            let next = if length == 1 { 10 } else { value.saturating_mul(10) };
            assert_eq!(Digits::of(next - 1).as_bytes(), (next - 1).to_string().as_bytes());
            value = next;
        }
        assert_eq!(Digits::of(u64::MAX).as_bytes(), u64::MAX.to_string().as_bytes());
    }
}
