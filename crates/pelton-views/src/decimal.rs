//! A number as fields of events have it, read and added without a rounding error.
//!
//! # Mechanism
//! A whole number of billionths. So integers, prices and seconds with up to nine places are exact; sums are exact and
//! the same in whatever order they are made, which sums of floating-point numbers are not.
//!
//! # Limits
//! Below 10^20 in magnitude, so every `u64` and `i64` is one. Places beyond the ninth are rounded, halves away from zero,
//! and whoever reads one is told. A sum stops at the ends of its 128 bits: after 1.7 billion of the greatest numbers.

use std::fmt;

/// Billionths in one.
const ONE: i128 = 1_000_000_000;
/// What a number that is read stays below, in billionths.
const LIMIT: u128 = 100_000_000_000_000_000_000 * ONE as u128;
/// So many digits always fit an `i64`.
const SHORT: usize = 18;

/// A decimal number with nine places; see the file's head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Decimal(i128);

/// How a number was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// The number.
    pub number: Decimal,
    /// Whether places beyond the ninth were rounded away.
    pub rounded: bool,
}

impl Decimal {
    /// The number of so many billionths.
    pub const fn from_billionths(billionths: i128) -> Self {
        Decimal(billionths)
    }

    /// Itself in billionths.
    pub const fn billionths(self) -> i128 {
        self.0
    }

    /// Reads a number: a sign or none, digits with a point or none (`.5` and `5.` are numbers), a decimal exponent or none.
    ///
    /// `None` for everything else, as spaces, `inf` and `NaN`, and for what is beyond the limits.
    #[inline]
    pub fn read(text: &[u8]) -> Option<Read> {
        match whole(text) {
            Some(whole) => Some(Read { number: Decimal::from(whole), rounded: false }),
            None => read_slow(text),
        }
    }

    /// How many units of so many billionths it is, halves away from zero. A unit is at least 1 and at most 10^9.
    #[inline]
    pub fn in_units(self, unit: u32) -> i128 {
        // Nearly all numbers are short, and to divide 128 bits takes ten times as long.
        if let Ok(short) = i64::try_from(self.0) {
            let (unit, more) = (i64::from(unit), 2 * (short % i64::from(unit)));
            return i128::from(short / unit + i64::from(more >= unit) - i64::from(more <= -unit));
        }
        let (unit, more) = (i128::from(unit), 2 * (self.0 % i128::from(unit)));
        self.0 / unit + i128::from(more >= unit) - i128::from(more <= -unit)
    }

    /// Itself, if it is whole and an `i64`.
    pub fn as_i64(self) -> Option<i64> {
        (self.0 % ONE == 0).then(|| i64::try_from(self.0 / ONE).ok()).flatten()
    }

    /// The nearest floating-point number: the one that its digits are read as. Allocates beyond 9,007,199.
    pub fn as_f64(self) -> f64 {
        // Up to here both sides of the division are exact, so that it alone is rounded.
        if self.0.unsigned_abs() <= 1 << f64::MANTISSA_DIGITS {
            return self.0 as f64 / ONE as f64;
        }
        self.to_string().parse().expect("digits with a point are a number")
    }

    /// A `count`th of it, halves of a billionth away from zero. Nothing of nothing is 0.
    pub fn per(self, count: u64) -> Self {
        if count == 0 {
            return Decimal(0);
        }
        let count = i128::from(count);
        let (whole, rest) = (self.0 / count, self.0 % count);
        let more = if rest.abs() * 2 >= count { rest.signum() } else { 0 };
        Decimal(whole + more)
    }
}

impl From<u64> for Decimal {
    fn from(whole: u64) -> Self {
        Decimal(i128::from(whole) * ONE)
    }
}

impl From<i64> for Decimal {
    fn from(whole: i64) -> Self {
        Decimal(i128::from(whole) * ONE)
    }
}

/// Its digits, with a point and places only where it has some.
impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0.unsigned_abs() / ONE as u128, self.0.unsigned_abs() % ONE as u128);
        let sign = if self.0 < 0 { "-" } else { "" };
        if rest == 0 {
            return write!(f, "{sign}{whole}");
        }
        let places = format!("{rest:09}");
        write!(f, "{sign}{whole}.{}", places.trim_end_matches('0'))
    }
}

/// A short integer; `None` for what is longer or anything else.
#[inline]
fn whole(text: &[u8]) -> Option<i64> {
    let (minus, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        _ => (false, text),
    };
    if digits.is_empty() || digits.len() > SHORT {
        return None;
    }
    let mut whole = 0;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        whole = whole * 10 + i64::from(digit);
    }
    Some(if minus { -whole } else { whole })
}

/// A time in ms: of a fraction of one, the part before the point. `None` for what is no number or below 0.
#[inline]
pub(super) fn read_ms(text: &[u8]) -> Option<u64> {
    match whole(text) {
        Some(whole) => u64::try_from(whole).ok(),
        None => u64::try_from(read_slow(text)?.number.0.div_euclid(ONE)).ok(),
    }
}

/// What is not a short integer: a point, an exponent, a plus, many digits.
#[cold]
fn read_slow(text: &[u8]) -> Option<Read> {
    let (minus, text) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let (text, exponent) = match text.iter().position(|byte| matches!(byte, b'e' | b'E')) {
        Some(at) => (&text[..at], exponent(&text[at + 1..])?),
        None => (text, 0),
    };
    let (mut digits, mut seen, mut point) = (0u128, false, false);
    // How far the last digit that was taken stands from the billionths.
    let mut shift = exponent + 9;
    let mut rounded = false;
    for byte in text {
        match byte {
            b'.' if !point => point = true,
            b'0'..=b'9' => {
                let digit = u128::from(byte - b'0');
                seen = true;
                if digits < u128::MAX / 100 {
                    digits = digits * 10 + digit;
                    shift -= i64::from(point);
                } else {
                    // So far behind the first digits that it matters only for being there.
                    rounded |= digit > 0;
                    shift += i64::from(!point);
                }
            }
            _ => return None,
        }
    }
    if !seen {
        return None;
    }
    let power = |by: i64| 10u128.checked_pow(u32::try_from(by).unwrap_or(u32::MAX));
    let billionths = if digits == 0 {
        0
    } else if shift >= 0 {
        digits.checked_mul(power(shift)?)?
    } else if let Some(power) = power(-shift) {
        let (whole, rest) = (digits / power, digits % power);
        rounded |= rest > 0;
        whole + u128::from(rest >= power - rest)
    } else {
        rounded = true;
        0
    };
    if billionths >= LIMIT {
        return None;
    }
    let billionths = billionths as i128;
    Some(Read { number: Decimal(if minus { -billionths } else { billionths }), rounded })
}

/// A decimal exponent. One that is far out stands for all that are farther.
fn exponent(text: &[u8]) -> Option<i64> {
    let (minus, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] | digits => (false, digits),
    };
    if digits.is_empty() {
        return None;
    }
    let mut exponent = 0i64;
    for byte in digits {
        let digit = byte.is_ascii_digit().then(|| i64::from(byte - b'0'))?;
        exponent = (exponent * 10 + digit).min(1 << 40);
    }
    Some(if minus { -exponent } else { exponent })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn told(text: &str) -> Option<(String, bool)> {
        Decimal::read(text.as_bytes()).map(|read| (read.number.to_string(), read.rounded))
    }

    const WHOLE: u32 = ONE as u32;

    #[test]
    fn numbers_are_read_as_they_are() {
        let exact = [
            ("0", "0"),
            ("-0", "0"),
            ("007", "7"),
            ("42", "42"),
            ("-42", "-42"),
            ("+42", "42"),
            (".5", "0.5"),
            ("5.", "5"),
            ("-0.000000001", "-0.000000001"),
            ("12.50", "12.5"),
            ("1e3", "1000"),
            ("1.25E-2", "0.0125"),
            ("-1.5e+1", "-15"),
            ("0e999999999999999999999", "0"),
            ("18446744073709551615", "18446744073709551615"),
            ("-9223372036854775808", "-9223372036854775808"),
            ("99999999999999999999.999999999", "99999999999999999999.999999999"),
            ("0000000000000000000000000000000000000000000000000000000000017", "17"),
            ("100000000000000000000000000000000000000000e-40", "10"),
        ];
        for (text, number) in exact {
            assert_eq!(told(text), Some((number.into(), false)), "{text}");
        }
        let rounded = [
            ("0.0000000004", "0"),
            ("0.0000000005", "0.000000001"),
            ("-0.0000000015", "-0.000000002"),
            ("3.14159265358979323846264338327950288419716939937510582097494", "3.141592654"),
            ("1e-999999999999999999999", "0"),
        ];
        for (text, number) in rounded {
            assert_eq!(told(text), Some((number.into(), true)), "{text}");
        }
        let none = [
            "",
            "-",
            "+",
            ".",
            "-.",
            "e1",
            "1e",
            "1e+",
            "1e1.5",
            " 1",
            "1 ",
            "1_000",
            "0x10",
            "inf",
            "NaN",
            "--1",
            "1.2.3",
            "100000000000000000000",
            "1e20",
            "1e999999999999999999999",
            "½",
            "1\0",
        ];
        for text in none {
            assert_eq!(told(text), None, "{text:?}");
        }
    }

    #[test]
    fn parts_are_rounded_to_the_nearest() {
        let third = Decimal::from(1u64).per(3);
        assert_eq!(third.to_string(), "0.333333333");
        assert_eq!(Decimal::from(-2i64).per(3).to_string(), "-0.666666667");
        assert_eq!(Decimal::from(2u64).per(0), Decimal::default());
        assert_eq!(Decimal::from(u64::MAX).per(u64::MAX).as_i64(), Some(1));
        assert_eq!((third.as_i64(), third.in_units(WHOLE)), (None, 0));
        assert_eq!(Decimal::read(b"-2.5").unwrap().number.in_units(WHOLE), -3);
        assert_eq!(Decimal::read(b"2.499999999").unwrap().number.in_units(WHOLE), 2);
        assert_eq!(Decimal::read(b"2.4995").unwrap().number.in_units(WHOLE / 1_000), 2_500);
        assert_eq!(Decimal::read(b"-0.000000001").unwrap().number.in_units(1), -1);
        assert_eq!(Decimal::from(u64::MAX).in_units(WHOLE), i128::from(u64::MAX));
        assert_eq!(Decimal(-(1 << 70) - ONE / 2).in_units(WHOLE), (-(1 << 70) - ONE) / ONE);
        assert_eq!(Decimal::read(b"2.25").unwrap().number.as_f64(), 2.25);
    }

    #[test]
    fn times_are_whole_milliseconds() {
        let told = [
            "1700000000123",
            "1700000000123.999",
            "1.7e12",
            "0",
            "-0",
            "-0.000000001",
            "-1",
            "1e20",
            "now",
            "",
        ];
        let ms =
            [Some(1_700_000_000_123), Some(1_700_000_000_123), Some(1_700_000_000_000), Some(0), Some(0)];
        let read = told.map(|text| read_ms(text.as_bytes()));
        assert_eq!(read[..5], ms);
        assert_eq!(read[5..], [None; 5]);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(billionths in -(10i128.pow(29) - 1)..10i128.pow(29)) {
            let number = Decimal(billionths);
            let read = Decimal::read(number.to_string().as_bytes());
            prop_assert_eq!(read, Some(Read { number, rounded: false }));
        }

        #[test]
        fn integers_take_the_short_way_and_the_long_one_alike(whole: i64) {
            let text = whole.to_string();
            let number = Read { number: Decimal::from(whole), rounded: false };
            prop_assert_eq!(Decimal::read(text.as_bytes()), Some(number));
            prop_assert_eq!(read_slow(text.as_bytes()), Some(number));
        }

        #[test]
        fn no_text_is_too_much(text in "[-+]?[0-9.eE+-]{0,60}") {
            // It is read as floating-point arithmetic reads it, as far as that goes.
            let float: Option<f64> = text.parse().ok().filter(|float: &f64| float.abs() < 0.999e20);
            match (Decimal::read(text.as_bytes()), float) {
                (Some(read), Some(float)) => {
                    let apart = (read.number.as_f64() - float).abs();
                    prop_assert!(apart <= float.abs() * 1e-12 + 1e-9, "{} {}", read.number, float);
                }
                (None, None) => {}
                (Some(read), None) => prop_assert!(read.number.as_f64().abs() > 0.99e20, "{}", read.number),
                (None, Some(float)) => prop_assert!(false, "{text} is {float}"),
            }
        }
    }
}
