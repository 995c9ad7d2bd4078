//! Replies, written behind each other into one buffer.
//!
//! The caller owns the buffer, sends it and clears it; once it has grown to what a turn of a connection takes, a reply
//! allocates nothing.

use core::fmt::{self, Write};

use super::digits::{DIGITS_MAX, Digits};

/// The version of the protocol that a connection has asked for. Each begins with 2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// RESP2: no maps, pushes, doubles, booleans.
    #[default]
    Resp2,
    /// RESP3, asked for with `HELLO 3`.
    Resp3,
}

/// Writes replies. What [`Version::Resp2`] has no type for becomes what Redis makes of it.
///
/// # Example
/// ```
/// use pelton_gateway::resp::{Reply, Version};
///
/// let mut out = Vec::new();
/// let mut reply = Reply::new(&mut out, Version::Resp2);
/// reply.map(1);
/// reply.bulk(b"events");
/// reply.integer(3);
/// assert_eq!(out, b"*2\r\n$6\r\nevents\r\n:3\r\n");
/// ```
#[derive(Debug)]
pub struct Reply<'a> {
    out: &'a mut Vec<u8>,
    version: Version,
}

impl<'a> Reply<'a> {
    /// Writes behind what `out` has.
    #[inline]
    #[must_use]
    pub fn new(out: &'a mut Vec<u8>, version: Version) -> Self {
        Self { out, version }
    }

    /// Writes another version from here on.
    #[inline]
    pub fn set_version(&mut self, version: Version) {
        self.version = version;
    }

    /// The version that is written.
    #[inline]
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// A simple string, `OK` say. A CR or LF in it becomes a blank, so that it cannot end early.
    pub fn simple(&mut self, text: &str) {
        self.line(b'+', text);
    }

    /// An error: its code in capitals, a blank, and what is wrong. A CR or LF in it becomes a blank.
    pub fn error(&mut self, text: impl fmt::Display) {
        self.line(b'-', text);
    }

    fn line(&mut self, kind: u8, text: impl fmt::Display) {
        self.out.push(kind);
        // Writing to a vector does not fail, and a `Display` that does has said what it could.
        let _ = write!(OneLine(self.out), "{text}");
        self.out.extend_from_slice(b"\r\n");
    }

    /// An integer.
    #[inline]
    pub fn integer(&mut self, value: i64) {
        self.out.push(b':');
        if value < 0 {
            self.out.push(b'-');
        }
        self.out.extend_from_slice(Digits::of(value.unsigned_abs()).as_bytes());
        self.out.extend_from_slice(b"\r\n");
    }

    /// A bulk string: any bytes.
    #[inline]
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.header(b'$', bytes.len());
        self.out.extend_from_slice(bytes);
        self.out.extend_from_slice(b"\r\n");
    }

    /// Bytes that are replies already, such as the stored arguments of a request.
    #[inline]
    pub fn raw(&mut self, replies: &[u8]) {
        self.out.extend_from_slice(replies);
    }

    /// No value, where there could be a string.
    #[inline]
    pub fn null(&mut self) {
        self.either(b"$-1\r\n", b"_\r\n");
    }

    /// No value, where there could be an array.
    #[inline]
    pub fn null_array(&mut self) {
        self.either(b"*-1\r\n", b"_\r\n");
    }

    /// An array of `len` replies, which follow.
    #[inline]
    pub fn array(&mut self, len: usize) {
        self.header(b'*', len);
    }

    /// A map of `len` keys and values, which follow in turn; in RESP2 an array of twice as many.
    #[inline]
    pub fn map(&mut self, len: usize) {
        match self.version {
            Version::Resp2 => self.header(b'*', len * 2),
            Version::Resp3 => self.header(b'%', len),
        }
    }

    /// A message that no request asked for, of `len` parts, which follow; in RESP2 an array.
    #[inline]
    pub fn push(&mut self, len: usize) {
        self.header(if self.version == Version::Resp3 { b'>' } else { b'*' }, len);
    }

    /// True or false; in RESP2 1 or 0.
    #[inline]
    pub fn boolean(&mut self, value: bool) {
        match value {
            true => self.either(b":1\r\n", b"#t\r\n"),
            false => self.either(b":0\r\n", b"#f\r\n"),
        }
    }

    /// A number with a fraction, `inf`, `-inf` or `nan`, in the fewest digits that read back as the same; in RESP2 a bulk
    /// string.
    pub fn double(&mut self, value: f64) {
        let mut text = Text::default();
        // The fewest digits are some 17, with sign, point and exponent 24.
        let written = match value.abs() {
            nan if nan.is_nan() => text.write_str("nan"),
            0.0 | 1e-5..1e17 | f64::INFINITY => write!(text, "{value}"),
            _ => write!(text, "{value:e}"),
        };
        debug_assert!(written.is_ok(), "{value:e} has more digits than any");
        let Text { room, len } = text;
        match self.version {
            Version::Resp2 => self.bulk(&room[..len]),
            Version::Resp3 => {
                self.out.push(b',');
                self.out.extend_from_slice(&room[..len]);
                self.out.extend_from_slice(b"\r\n");
            }
        }
    }

    /// Text for a person to read, without escapes; in RESP2 a bulk string.
    pub fn verbatim(&mut self, text: &str) {
        const FORMAT: &[u8] = b"txt:";
        match self.version {
            Version::Resp2 => self.bulk(text.as_bytes()),
            Version::Resp3 => {
                self.header(b'=', FORMAT.len() + text.len());
                self.out.extend_from_slice(FORMAT);
                self.out.extend_from_slice(text.as_bytes());
                self.out.extend_from_slice(b"\r\n");
            }
        }
    }

    /// An event's id, `<ms>-<seq>`, as a bulk string. Where ids come one after another, [`StampedId`] is cheaper.
    pub fn entry_id(&mut self, ms: u64, seq: u64) {
        self.stamped(&mut StampedId::default(), ms, seq);
    }

    /// The same, by way of the id that was written before.
    #[inline]
    pub fn stamped(&mut self, last: &mut StampedId, ms: u64, seq: u64) {
        last.set(ms, seq);
        // A whole room is copied, since that is a few moves without a call, and what is too much taken off. The digit
        // that mostly changes is put where the id is written: in the room it would hold up the copy, which loads in wider
        // words than was just stored.
        let end = self.out.len() + last.len;
        self.out.extend_from_slice(&last.room);
        self.out[end - 3] = last.digit;
        self.out.truncate(end);
    }

    #[inline]
    fn either(&mut self, resp2: &[u8], resp3: &[u8]) {
        self.out.extend_from_slice(if self.version == Version::Resp3 { resp3 } else { resp2 });
    }

    #[inline]
    fn header(&mut self, kind: u8, len: usize) {
        self.out.push(kind);
        self.out.extend_from_slice(Digits::of(len as u64).as_bytes());
        self.out.extend_from_slice(b"\r\n");
    }
}

/// Text on one line, whatever it says.
struct OneLine<'a>(&'a mut Vec<u8>);

impl Write for OneLine<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let start = self.0.len();
        self.0.extend_from_slice(text.as_bytes());
        self.0[start..].iter_mut().filter(|byte| matches!(byte, b'\r' | b'\n')).for_each(|byte| *byte = b' ');
        Ok(())
    }
}

/// A short text without a heap.
#[derive(Default)]
struct Text {
    room: [u8; 32],
    len: usize,
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.room.get_mut(self.len..self.len + text.len()).ok_or(fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.len += text.len();
        Ok(())
    }
}

/// The bytes of the longest id: header, two numbers and what stands between and behind them.
const ID_BYTES_MAX: usize = 5 + DIGITS_MAX + 1 + DIGITS_MAX + 2;

/// The room of an id: whole lines of the widest moves.
const ID_ROOM: usize = 64;

const _: () = assert!(ID_BYTES_MAX <= ID_ROOM);

/// The id that was written last, kept as it was written: the next is mostly the same, its last digit one higher.
///
/// The milliseconds are rendered once for all ids of one millisecond. Keep one for each stream, and its ids come in turn.
#[derive(Clone, Debug)]
pub struct StampedId {
    ms: u64,
    seq: u64,
    /// The whole reply, of which the first `len` bytes mean something.
    room: [u8; ID_ROOM],
    len: usize,
    /// The sequence's last digit; what the room has in its place is older.
    digit: u8,
    /// Where the milliseconds begin, and the sequence.
    ms_at: usize,
    seq_at: usize,
}

impl Default for StampedId {
    fn default() -> Self {
        let mut room = [0; ID_ROOM];
        room[..9].copy_from_slice(b"$3\r\n0-0\r\n");
        Self { ms: 0, seq: 0, room, len: 9, digit: b'0', ms_at: 4, seq_at: 6 }
    }
}

impl StampedId {
    /// Makes the reply that of `ms` and `seq`.
    #[inline]
    fn set(&mut self, ms: u64, seq: u64) {
        if ms == self.ms && self.seq.checked_add(1) == Some(seq) && self.digit != b'9' {
            self.digit += 1;
            self.seq = seq;
        } else {
            self.render(ms, seq);
        }
    }

    #[inline(never)]
    fn render(&mut self, ms: u64, seq: u64) {
        let tail = Digits::of(seq);
        let tail = tail.as_bytes();
        let header = |length: usize| if length < 10 { 4 } else { 5 };
        if ms != self.ms || header(self.seq_at - self.ms_at + tail.len()) != self.ms_at {
            let head = Digits::of(ms);
            let head = head.as_bytes();
            self.ms = ms;
            self.ms_at = header(head.len() + 1 + tail.len());
            self.seq_at = self.ms_at + head.len() + 1;
            self.room[self.ms_at..self.seq_at - 1].copy_from_slice(head);
            self.room[self.seq_at - 1] = b'-';
        }
        let end = self.seq_at + tail.len();
        self.room[self.seq_at..end].copy_from_slice(tail);
        self.room[end..end + 2].copy_from_slice(b"\r\n");
        let length = (end - self.ms_at) as u8;
        self.room[0] = b'$';
        if length >= 10 {
            self.room[1] = b'0' + length / 10;
        }
        self.room[self.ms_at - 3] = b'0' + length % 10;
        self.room[self.ms_at - 2] = b'\r';
        self.room[self.ms_at - 1] = b'\n';
        self.seq = seq;
        self.digit = self.room[end - 1];
        self.len = end + 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(version: Version, write: impl FnOnce(&mut Reply<'_>)) -> String {
        let mut out = b"before".to_vec();
        write(&mut Reply::new(&mut out, version));
        String::from_utf8(out).unwrap().strip_prefix("before").unwrap().to_string()
    }

    #[test]
    fn each_kind_in_both_versions() {
        type Write = fn(&mut Reply<'_>);
        let kinds: &[(Write, &str, &str)] = &[
            (|r| r.simple("OK"), "+OK\r\n", "+OK\r\n"),
            (|r| r.error("ERR no"), "-ERR no\r\n", "-ERR no\r\n"),
            (|r| r.error(format_args!("ERR {}\r\n:1", "a\nb")), "-ERR a b  :1\r\n", "-ERR a b  :1\r\n"),
            (|r| r.integer(0), ":0\r\n", ":0\r\n"),
            (|r| r.integer(i64::MIN), ":-9223372036854775808\r\n", ":-9223372036854775808\r\n"),
            (|r| r.integer(i64::MAX), ":9223372036854775807\r\n", ":9223372036854775807\r\n"),
            (|r| r.bulk(b""), "$0\r\n\r\n", "$0\r\n\r\n"),
            (|r| r.bulk(b"0123456789\r\n"), "$12\r\n0123456789\r\n\r\n", "$12\r\n0123456789\r\n\r\n"),
            (|r| r.raw(b":1\r\n"), ":1\r\n", ":1\r\n"),
            (|r| r.null(), "$-1\r\n", "_\r\n"),
            (|r| r.null_array(), "*-1\r\n", "_\r\n"),
            (|r| r.array(0), "*0\r\n", "*0\r\n"),
            (|r| r.map(7), "*14\r\n", "%7\r\n"),
            (|r| r.push(3), "*3\r\n", ">3\r\n"),
            (|r| r.boolean(true), ":1\r\n", "#t\r\n"),
            (|r| r.boolean(false), ":0\r\n", "#f\r\n"),
            (|r| r.verbatim("a\nb"), "$3\r\na\nb\r\n", "=7\r\ntxt:a\nb\r\n"),
            (|r| r.double(1.5), "$3\r\n1.5\r\n", ",1.5\r\n"),
            (|r| r.double(-3.0), "$2\r\n-3\r\n", ",-3\r\n"),
            (|r| r.double(f64::INFINITY), "$3\r\ninf\r\n", ",inf\r\n"),
            (|r| r.double(f64::NEG_INFINITY), "$4\r\n-inf\r\n", ",-inf\r\n"),
            (|r| r.double(-f64::NAN), "$3\r\nnan\r\n", ",nan\r\n"),
        ];
        for (write, resp2, resp3) in kinds {
            assert_eq!(written(Version::Resp2, write), *resp2);
            assert_eq!(written(Version::Resp3, write), *resp3);
        }
    }

    #[test]
    fn doubles_read_back_as_the_same() {
        let sign = [1.0, -1.0];
        let values =
            [0.0, 1e-300, f64::MIN_POSITIVE, 5e-324, 1e-5, 9.999e-6, 0.1, 1.0 / 3.0, 1e16, 1e17, f64::MAX];
        for value in values.iter().flat_map(|value| sign.map(|sign| sign * value)) {
            let text = written(Version::Resp3, |r| r.double(value));
            let text = text.strip_prefix(',').unwrap().strip_suffix("\r\n").unwrap();
            assert_eq!(text.parse::<f64>().unwrap().to_bits(), value.to_bits(), "{text}");
        }
    }

    #[test]
    fn ids_in_any_order() {
        let edges = [
            0,
            1,
            8,
            9,
            10,
            11,
            98,
            99,
            100,
            9_999_999,
            99_999_999,
            1_700_000_000_000,
            u64::MAX - 1,
            u64::MAX,
        ];
        let mut last = StampedId::default();
        let mut check = |ms: u64, seq: u64| {
            let id = format!("{ms}-{seq}");
            let expected = format!("${}\r\n{id}\r\n", id.len());
            assert_eq!(written(Version::Resp2, |r| r.stamped(&mut last, ms, seq)), expected);
            assert_eq!(written(Version::Resp2, |r| r.entry_id(ms, seq)), expected);
        };
        for ms in edges {
            for seq in edges {
                check(ms, seq);
                check(ms, seq.wrapping_add(1));
            }
        }
        for seq in edges {
            for ms in edges {
                check(ms, seq);
            }
        }
        (0..100_000).for_each(|seq| check(1_700_000_000_000, seq));
    }
}
