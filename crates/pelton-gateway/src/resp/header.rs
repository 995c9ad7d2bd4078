//! The lengths that stand before arrays and bulk strings.
//!
//! # Mechanism
//! A bulk string's header is `$`, digits and CRLF, and what stands before it is always a CRLF: that of the array's
//! header, or that of the bulk string before. Eight bytes from there on hold all of a header of up to three digits. They
//! are held against what they should be with zeros for digits, and turned so that the digits come lowest: what is left is
//! no more than nines if and only if both CRLFs, the `$` and the digits are there. Everything else, longer lengths and
//! all that is cut or wrong, goes byte by byte.

const fn word(bytes: &[u8; 8]) -> u64 {
    u64::from_le_bytes(*bytes)
}

/// CRLF, as the lowest bytes of a word.
pub(super) const CRLF: u64 = word(b"\r\n\0\0\0\0\0\0");

/// The number of arguments in an array's header from its four bytes, if it is 1 to 9.
#[inline(always)]
pub(super) fn count(bytes: u32) -> Option<usize> {
    let count = (bytes ^ u32::from_le_bytes(*b"*0\r\n")).rotate_right(8);
    (1..=9).contains(&count).then_some(count as usize)
}

/// The length in a bulk string's header, and the bytes up to its contents, from the eight bytes that begin with the
/// CRLF before it. `None` leaves it to [`number`]: a length above 999, or none.
#[inline(always)]
pub(super) fn bulk(bytes: u64) -> Option<(u32, u32)> {
    // What stands behind the header is shifted out; the last digit comes highest.
    let ones = ((bytes ^ word(b"\r\n$0\r\n\0\0")) << 16).rotate_right(40);
    if ones <= 9 {
        return Some((ones as u32, 6));
    }
    let two = ((bytes ^ word(b"\r\n$00\r\n\0")) << 8).rotate_right(32);
    if two <= 0x0909 {
        let (tens, ones) = (two as u32 & 0xff, two as u32 >> 8);
        return (1..=9).contains(&tens).then_some((tens * 10 + ones, 7));
    }
    let three = (bytes ^ word(b"\r\n$000\r\n")).rotate_right(24);
    if three <= 0x09_0909 {
        let (hundreds, tens, ones) = (three as u32 & 0xff, three as u32 >> 8 & 0xff, three as u32 >> 16);
        let valid = (1..=9).contains(&hundreds) && tens <= 9;
        return valid.then_some((hundreds * 100 + tens * 10 + ones, 8));
    }
    None
}

/// What stands where a number and CRLF should.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Number {
    /// The number, and the bytes that it and its CRLF take.
    Is(i64, usize),
    /// It goes on behind the end, for at least so many bytes.
    Cut(usize),
    /// It is none.
    Wrong,
}

/// Reads a number and CRLF at the beginning of `bytes`: 64 bits, no plus, no leading zeros, no `-0`.
pub(super) fn number(bytes: &[u8]) -> Number {
    let negative = bytes.first() == Some(&b'-');
    let digits = &bytes[usize::from(negative)..];
    let mut value = 0u64;
    for (at, byte) in digits.iter().enumerate() {
        match byte {
            // Nothing may follow a zero in front, and it must not stand behind a minus.
            b'0'..=b'9' if at == 0 || value != 0 => {
                let next = value.checked_mul(10).and_then(|tens| tens.checked_add(u64::from(byte - b'0')));
                match next {
                    Some(next) if next <= i64::MAX as u64 + u64::from(negative) => value = next,
                    _ => return Number::Wrong,
                }
                if negative && value == 0 {
                    return Number::Wrong;
                }
            }
            b'\r' if at > 0 => {
                return match digits.get(at + 1) {
                    Some(b'\n') => {
                        let value = if negative { 0i64.wrapping_sub_unsigned(value) } else { value as i64 };
                        Number::Is(value, usize::from(negative) + at + 2)
                    }
                    Some(_) => Number::Wrong,
                    None => Number::Cut(1),
                };
            }
            _ => return Number::Wrong,
        }
    }
    Number::Cut(if digits.is_empty() { 3 } else { 2 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_strictly() {
        for (text, value) in [
            ("0", 0),
            ("7", 7),
            ("10", 10),
            ("-1", -1),
            ("536870912", 536_870_912),
            ("9223372036854775807", i64::MAX),
            ("-9223372036854775808", i64::MIN),
        ] {
            let line = format!("{text}\r\nrest");
            assert_eq!(number(line.as_bytes()), Number::Is(value, text.len() + 2), "{text}");
            for cut in 0..text.len() + 2 {
                let Number::Cut(more) = number(&line.as_bytes()[..cut]) else {
                    panic!("{text} cut at {cut}")
                };
                assert!(more > 0 && cut + more <= text.len() + 2, "{text} cut at {cut} wants {more}");
            }
        }
        for text in [
            "",
            "+1",
            "01",
            "00",
            "-0",
            "-01",
            "-",
            "--1",
            "1 ",
            " 1",
            "1x",
            "x",
            "9223372036854775808",
            "-9223372036854775809",
            "100000000000000000000",
            "1000000000000000000000000000000",
            "1\r",
        ] {
            assert_eq!(number(format!("{text}\r\n").as_bytes()), Number::Wrong, "{text}");
        }
        assert_eq!(number(b"1\rx"), Number::Wrong);
        assert_eq!(number(b"1\n"), Number::Wrong);
    }

    #[test]
    fn words_read_what_numbers_read() {
        // Every three bytes between `$` and what follows, with CRLF at each place.
        for [a, b, c] in (0..1u32 << 24).step_by(7).map(|n| [n as u8, (n >> 8) as u8, (n >> 16) as u8]) {
            for text in [&[a, b'\r', b'\n', b, c][..], &[a, b, b'\r', b'\n', c], &[a, b, c, b'\r', b'\n']] {
                let mut bytes = *b"\r\n$\0\0\0\0\0";
                bytes[3..].copy_from_slice(text);
                let slow = match number(&bytes[3..]) {
                    Number::Is(length @ 0.., line) => Some((length as u32, 3 + line as u32)),
                    _ => None,
                };
                assert_eq!(bulk(u64::from_le_bytes(bytes)), slow, "{bytes:?}");
            }
        }
        for length in 0..2_000 {
            let text = format!("\r\n${length}\r\n    ");
            let fast = bulk(u64::from_le_bytes(text.as_bytes()[..8].try_into().unwrap()));
            let digits = length.to_string().len() as u32;
            assert_eq!(fast, (digits <= 3).then_some((length, 5 + digits)));
        }
    }
}
