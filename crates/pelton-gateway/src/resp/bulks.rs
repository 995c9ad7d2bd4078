//! Bulk strings in a row: arguments that were stored as they came.

use core::iter::FusedIterator;

use super::header::{self, CRLF, Number};

/// Goes over the bulk strings `$<length>\r\n<bytes>\r\n` at the beginning of a slice.
///
/// It ends before the first bytes that are none, whatever they are; [`rest`](Self::rest) has them.
///
/// # Example
/// ```
/// use pelton_gateway::resp::Bulks;
///
/// let mut bulks = Bulks::new(b"$5\r\nprice\r\n$2\r\n42\r\n$9\r\ncut");
/// assert_eq!((bulks.next(), bulks.next(), bulks.next()), (Some(&b"price"[..]), Some(&b"42"[..]), None));
/// assert_eq!(bulks.rest(), b"$9\r\ncut");
/// ```
#[derive(Clone, Debug)]
pub struct Bulks<'a> {
    rest: &'a [u8],
}

impl<'a> Bulks<'a> {
    /// Those at the beginning of `bytes`.
    #[inline]
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What was not gone over yet; once there is no next one, what is no bulk string.
    #[inline]
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Bulks<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        // Headers are read with the CRLF before them; the first has none, so it is put there.
        let fast =
            self.rest.first_chunk().and_then(|word| header::bulk(u64::from_le_bytes(*word) << 16 | CRLF));
        let (length, header) = match fast {
            Some((length, header)) => (length as usize, header as usize - 2),
            None => length_slow(self.rest)?,
        };
        let (bulk, rest) = self.rest.get(header..)?.split_at_checked(length)?;
        self.rest = rest.strip_prefix(b"\r\n")?;
        Some(bulk)
    }
}

impl FusedIterator for Bulks<'_> {}

#[cold]
fn length_slow(bytes: &[u8]) -> Option<(usize, usize)> {
    match header::number(bytes.strip_prefix(b"$")?) {
        Number::Is(length, line) => Some((usize::try_from(length).ok()?, 1 + line)),
        Number::Cut(_) | Number::Wrong => None,
    }
}

/// The value of the first field called `name` among fields and values in turn, as bulk strings; none if there is no such
/// field, or what is no bulk string stands before its value's end.
#[inline]
#[must_use]
pub fn pair<'a>(bytes: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut bulks = Bulks::new(bytes);
    loop {
        let (field, value) = (bulks.next()?, bulks.next()?);
        if field == name {
            return Some(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_every_number_of_digits() {
        for length in [0, 1, 9, 10, 99, 100, 999, 1_000, 9_999, 10_000, 123_456] {
            let value = vec![b'v'; length];
            let mut bytes = b"$1\r\nf\r\n".to_vec();
            bytes.extend_from_slice(format!("${length}\r\n").as_bytes());
            bytes.extend_from_slice(&value);
            bytes.extend_from_slice(b"\r\n");
            assert_eq!(pair(&bytes, b"f"), Some(&value[..]));
            assert_eq!(Bulks::new(&bytes).collect::<Vec<_>>(), [b"f", &value[..]]);
            for cut in 0..bytes.len() {
                assert_eq!(pair(&bytes[..cut], b"f"), None);
            }
        }
    }

    #[test]
    fn fields_are_found_by_name_and_not_by_value() {
        let bytes = b"$1\r\na\r\n$1\r\nb\r\n$1\r\nb\r\n$0\r\n\r\n$1\r\na\r\n$1\r\nc\r\n";
        assert_eq!(pair(bytes, b"a"), Some(&b"b"[..]));
        assert_eq!(pair(bytes, b"b"), Some(&b""[..]));
        assert_eq!(pair(bytes, b"c"), None);
        assert_eq!(pair(bytes, b""), None);
        assert_eq!(pair(b"", b""), None);
    }

    #[test]
    fn malformed_bulk_ends_the_iteration() {
        for bytes in [
            &b"x"[..],
            b"$",
            b"$1",
            b"$1\r\na",
            b"$1\r\na\r",
            b"$1\r\naxx",
            b"$1\r\naaaaaaaaaa",
            b"$-1\r\n\r\n",
            b"$9223372036854775807\r\n\r\n",
            b"$18446744073709551615\r\n\r\n",
            b"$01\r\na\r\n",
            b"*1\r\n$1\r\na\r\n",
            b"\r\n$1\r\na\r\n",
        ] {
            let mut bulks = Bulks::new(bytes);
            assert_eq!(bulks.next(), None, "{bytes:?}");
            assert_eq!(bulks.next(), None, "{bytes:?}");
            assert_eq!(bulks.rest(), bytes);
        }
    }
}
