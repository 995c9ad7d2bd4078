//! Inline requests: a line of words, as a person types it.
//!
//! Words are parted by blanks. A quote may begin anywhere in a word and must end it: between double quotes `\n \r \t
//! \b \a` and `\xHH` stand for a byte and a backslash takes any other byte as it is, between single quotes `\'` does.
//!
//! The words are written out as bulk strings, the form in which all other arguments come: what is stored of a request
//! need not know how it was sent.

use super::digits::Digits;
use super::error::ProtocolError;

/// The room that the words of a line of `line_bytes` take as bulk strings: at worst `a` and a blank become the seven
/// bytes of `$1\r\na\r\n`.
pub(super) const fn room(line_bytes: usize) -> usize {
    line_bytes * 4 + 8
}

const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// Writes the words of `line` into `out` as bulk strings, each reported to `word` by where its contents begin and end.
/// A `word` that has no room answers `false`.
pub(super) fn split(
    line: &[u8],
    out: &mut Vec<u8>,
    mut word: impl FnMut(usize, usize) -> bool,
) -> Result<(), ProtocolError> {
    out.clear();
    let mut rest = line;
    loop {
        rest = &rest[rest.iter().take_while(|byte| is_blank(**byte)).count()..];
        if rest.is_empty() {
            return Ok(());
        }
        let start = out.len();
        rest = unquote(rest, out).ok_or(ProtocolError::UnbalancedQuotes)?;
        // The length is known now; its header goes before the contents.
        let length = Digits::of((out.len() - start) as u64);
        let end = out.len();
        out.push(b'$');
        out.extend_from_slice(length.as_bytes());
        out.extend_from_slice(b"\r\n");
        let header = out.len() - end;
        out[start..].rotate_right(header);
        let fits = word(start + header, out.len());
        out.extend_from_slice(b"\r\n");
        if !fits {
            return Err(ProtocolError::TooManyArguments);
        }
    }
}

/// Appends the first word of `rest` to `out`, and returns what follows it; `None` where its quotes do not fit.
fn unquote<'a>(mut rest: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    // Of the blanks only these end a word that has begun, as Redis has it.
    while let [byte, after @ ..] = rest {
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => break,
            b'"' => return closed(double_quoted(after, out)?),
            b'\'' => return closed(single_quoted(after, out)?),
            _ => out.push(*byte),
        }
        rest = after;
    }
    Some(rest)
}

/// A closing quote ends its word.
fn closed(rest: &[u8]) -> Option<&[u8]> {
    rest.first().is_none_or(|byte| is_blank(*byte)).then_some(rest)
}

fn double_quoted<'a>(mut rest: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let (byte, after) = match rest {
            [b'"', after @ ..] => return Some(after),
            [b'\\', b'x', high, low, after @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                (hex(*high) << 4 | hex(*low), after)
            }
            [b'\\', escaped, after @ ..] => (unescape(*escaped), after),
            [byte, after @ ..] => (*byte, after),
            [] => return None,
        };
        out.push(byte);
        rest = after;
    }
}

fn single_quoted<'a>(mut rest: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let (byte, after) = match rest {
            [b'\'', after @ ..] => return Some(after),
            [b'\\', b'\'', after @ ..] => (b'\'', after),
            [byte, after @ ..] => (*byte, after),
            [] => return None,
        };
        out.push(byte);
        rest = after;
    }
}

fn unescape(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Result<Vec<Vec<u8>>, ProtocolError> {
        let mut out = Vec::with_capacity(room(line.len() + 1));
        let before = out.capacity();
        let mut spans = Vec::new();
        split(line.as_bytes(), &mut out, |start, end| {
            spans.push(start..end);
            true
        })?;
        assert_eq!(out.capacity(), before, "{line:?} took more than its room");
        let words: Vec<_> = spans.into_iter().map(|span| out[span].to_vec()).collect();
        let written = words.iter().flat_map(|word| {
            let mut bulk = format!("${}\r\n", word.len()).into_bytes();
            bulk.extend_from_slice(word);
            bulk.extend_from_slice(b"\r\n");
            bulk
        });
        assert_eq!(out, written.collect::<Vec<_>>());
        Ok(words)
    }

    #[test]
    fn words_quotes_and_escapes() {
        let fits: &[(&str, &[&[u8]])] = &[
            ("", &[]),
            (" \t ", &[]),
            ("PING", &[b"PING"]),
            ("  a  b\tc \r", &[b"a", b"b", b"c"]),
            (r#"set k "a b""#, &[b"set", b"k", b"a b"]),
            (r#""""#, &[b""]),
            ("''", &[b""]),
            (r#"a"b c""#, &[b"ab c"]),
            (r#""\x41\x0a\n\r\t\b\a\q\"\\""#, &[b"A\n\n\r\t\x08\x07q\"\\"]),
            (r#""\xfF\xg1\x4""#, &[b"\xffxg1x4"]),
            (r"'\n\'\x41'", &[br"\n'\x41"]),
            ("a\x0bb\x0cc", &[b"a\x0bb\x0cc"]),
            ("\x0b\x0ca", &[b"a"]),
            ("\"a\"\x0bb", &[b"a", b"b"]),
        ];
        for (line, expected) in fits {
            assert_eq!(words(line).unwrap(), *expected, "{line:?}");
        }
        for line in ["\"", "'", "a\"b", "\"a\"b", "'a'b", "\"a\\", "\"\\\"", "'\\'", "\"a\"\"b\"", "\"\\x4"] {
            assert_eq!(words(line), Err(ProtocolError::UnbalancedQuotes), "{line:?}");
        }
    }

    #[test]
    fn any_line_fits_its_room() {
        for length in [1usize, 2, 9, 10, 11, 98, 99, 100, 999, 1_001] {
            words(&"a ".repeat(length)).unwrap();
            words(&"a".repeat(length)).unwrap();
            words(&"'' ".repeat(length)).unwrap();
            words(&format!("{} ", "a".repeat(length)).repeat(7)).unwrap();
        }
    }

    #[test]
    fn too_many_words_are_an_error() {
        let mut left = 2;
        let mut fits = |_, _| {
            let fits = left > 0;
            left -= i32::from(fits);
            fits
        };
        assert_eq!(split(b"a b c", &mut Vec::new(), &mut fits), Err(ProtocolError::TooManyArguments));
    }
}
