//! Requests: where each argument lies in the bytes that came.
//!
//! # Mechanism
//! ```text
//! *3 ␍␊$4␍␊ XADD ␍␊$8␍␊ mystream ␍␊$40␍␊ … ␍␊
//!    └──┬───┘    └──┬───┘        └───┬───┘
//!  one word: the end of what was, the header of what comes
//! ```
//! [`Parser::parse`] goes over a request once and touches no byte of an argument. It keeps no state: a request that is
//! cut is looked at anew when more is there, and it says how much that is. Each argument that is still to come takes at
//! least six bytes, so what is asked for grows with what is missing, and a sender of single bytes costs little more
//! than one who sends all at once: with `n` arguments of any length some `ln n / 6` arguments are looked at for a byte.

use core::ops::Range;

use memchr::memchr2;

use super::error::ProtocolError;
use super::header::{self, Number};
use super::inline;

/// The shortest argument, `$0\r\n\r\n`, in bytes.
const BULK_BYTES_MIN: usize = 6;

/// The largest limit on a request: Redis keeps no more of one either.
const FRAME_BYTES_MAX: usize = 1 << 30;

/// The longest argument that Redis takes.
const BULK_BYTES_MAX: i64 = 512 << 20;

/// The most arguments that Redis takes.
const MULTIBULK_MAX: i64 = i32::MAX as i64;

/// What a request may come to. A request beyond a limit is an error, as is any that cannot stay below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most arguments, the command's name included.
    pub args_max: u32,
    /// The most bytes of a whole request, from its `*` to its last CRLF; more than 1 GiB is no more than that.
    pub frame_bytes_max: u32,
    /// The most bytes of an inline request, its line's end included; [`frame_bytes_max`](Self::frame_bytes_max) holds
    /// too.
    pub inline_bytes_max: u32,
}

/// The most arguments of an unauthenticated request. As in Redis, and enough to authenticate.
const UNAUTHENTICATED_ARGS_MAX: usize = 10;

/// The longest argument of an unauthenticated request, in bytes; as in Redis.
const UNAUTHENTICATED_BULK_BYTES_MAX: i64 = 16 << 10;

/// The most bytes of a request of a connection that has not authenticated. A server that reads no further than this keeps no
/// more for such a connection.
pub const UNAUTHENTICATED_FRAME_BYTES_MAX: usize = 20 << 10;

/// What the bytes given to [`Parser::parse`] begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A whole request; the [`Parser`] says where its arguments are. An empty line, `*0` and `*-1` are requests without
    /// arguments, to which nothing is answered.
    Request {
        /// Its length, with its last CRLF.
        bytes: usize,
    },
    /// A part of a request.
    Incomplete {
        /// So many bytes, from the request's beginning, must be there before it is worth to look again: more than there
        /// are, no more than the request has, and no more than the limit.
        needs: usize,
    },
    /// What no request begins with.
    Bad(ProtocolError),
}

/// Finds requests, and holds where the arguments of the last one are. One is enough for all connections of a thread.
///
/// # Example
/// ```
/// use pelton_gateway::resp::{Limits, Parsed, Parser};
///
/// let limits = Limits { args_max: 64, frame_bytes_max: 1 << 16, inline_bytes_max: 1 << 10 };
/// let mut parser = Parser::new(limits);
/// let input = b"*2\r\n$4\r\nECHO\r\n$2\r\nhi\r\nPING\r\n*1\r\n$4";
/// assert_eq!(parser.parse(input), Parsed::Request { bytes: 22 });
/// assert_eq!((parser.len(), parser.arg(input, 1)), (2, &b"hi"[..]));
/// assert_eq!(parser.parse(&input[22..]), Parsed::Request { bytes: 6 });
/// assert_eq!(parser.parse(&input[28..]), Parsed::Incomplete { needs: 10 });
/// ```
#[derive(Debug)]
pub struct Parser {
    args_max: usize,
    frame_bytes_max: usize,
    inline_bytes_max: usize,
    /// Where each argument's contents begin and end. Those behind `len` are of earlier requests.
    spans: Box<[[u32; 2]]>,
    len: usize,
    /// The arguments of an inline request, as bulk strings; empty for any other.
    words: Vec<u8>,
    is_inline: bool,
}

impl Parser {
    /// Lays out the room for the largest request within `limits`: eight bytes an argument, and four for each byte of an
    /// inline request.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let [args_max, frame_bytes_max, inline_bytes_max] =
            [limits.args_max, limits.frame_bytes_max, limits.inline_bytes_max].map(|limit| limit as usize);
        let frame_bytes_max = frame_bytes_max.min(FRAME_BYTES_MAX);
        let inline_bytes_max = inline_bytes_max.min(frame_bytes_max);
        // More arguments could not fit the frame.
        let room = args_max.min(frame_bytes_max / BULK_BYTES_MIN);
        Self {
            args_max,
            frame_bytes_max,
            inline_bytes_max,
            spans: vec![[0, 0]; room].into(),
            len: 0,
            words: Vec::with_capacity(inline::room(inline_bytes_max)),
            is_inline: false,
        }
    }

    /// Looks for one request at the beginning of `input`, which may go on behind it.
    ///
    /// The arguments of the request before are forgotten.
    #[inline]
    pub fn parse(&mut self, input: &[u8]) -> Parsed {
        match self.multibulk(input, false) {
            Ok(bytes) => Parsed::Request { bytes },
            Err(parsed) => parsed,
        }
    }

    /// The same, for a connection that has not authenticated: a request has at most 10 arguments of at most 16 KiB each,
    /// [`UNAUTHENTICATED_FRAME_BYTES_MAX`] (20 KiB) in all, and an inline request 16 KiB, whatever the [`Limits`] allow beyond
    /// that. So what is kept for such connections is small, however many there are.
    #[cold]
    #[must_use]
    pub fn parse_unauthenticated(&mut self, input: &[u8]) -> Parsed {
        match self.multibulk(input, true) {
            Ok(bytes) => Parsed::Request { bytes },
            Err(parsed) => parsed,
        }
    }

    #[inline(always)]
    fn multibulk(&mut self, input: &[u8], is_unauthenticated: bool) -> Result<usize, Parsed> {
        self.len = 0;
        self.is_inline = false;
        // Behind the limit nothing is looked at: what does not end before it is too big.
        let mut limit = self.frame_bytes_max;
        if is_unauthenticated {
            limit = limit.min(UNAUTHENTICATED_FRAME_BYTES_MAX);
        }
        let input = &input[..input.len().min(limit)];
        let fast = input.first_chunk().and_then(|word| header::count(u32::from_le_bytes(*word)));
        let (count, at) = match fast {
            Some(count) => (count, 2),
            None => match self.count_slow(input, limit, is_unauthenticated)? {
                (0, bytes) => return Ok(bytes),
                found => found,
            },
        };
        let Some(spans) = self.spans.get_mut(..count) else { return Err(self.too_many(count)) };
        // Places have 32 bits: they stay far below, and sums of them cannot overflow a bound.
        let mut at = at as u32;
        #[allow(clippy::needless_range_loop, reason = "an iterator would count beside its pointer")]
        for done in 0..spans.len() {
            let fast = word_at(input, at).and_then(header::bulk);
            let (length, header) = match fast {
                Some(found) => found,
                None => bulk_slow(input, at, count - done - 1, limit, is_unauthenticated)?,
            };
            let start = at + header;
            at = start + length;
            spans[done] = [start, at];
        }
        let at = at as usize;
        if input.get(at..at + 2) != Some(b"\r\n") {
            return Err(end_slow(input, at, limit));
        }
        self.len = count;
        Ok(at + 2)
    }

    /// The number of arguments and where the CRLF behind it lies, for all but the usual; 0 arguments and the length of a
    /// request that ends with that.
    #[cold]
    #[inline(never)]
    fn count_slow(
        &mut self,
        input: &[u8],
        limit: usize,
        is_unauthenticated: bool,
    ) -> Result<(usize, usize), Parsed> {
        let line = match input {
            [] => return Err(cut(1, limit)),
            [b'*', line @ ..] => line,
            _ => return self.inline(input, is_unauthenticated).map(|bytes| (0, bytes)),
        };
        match header::number(line) {
            Number::Is(..=0, bytes) => Ok((0, 1 + bytes)),
            Number::Is(count @ ..=MULTIBULK_MAX, _)
                if is_unauthenticated && count as usize > UNAUTHENTICATED_ARGS_MAX =>
            {
                Err(Parsed::Bad(ProtocolError::UnauthenticatedMultibulkLength))
            }
            Number::Is(count @ ..=MULTIBULK_MAX, bytes) => Ok((count as usize, 1 + bytes - 2)),
            Number::Cut(more) => Err(cut(input.len() + more, limit)),
            Number::Is(..) | Number::Wrong => Err(Parsed::Bad(ProtocolError::MultibulkLength)),
        }
    }

    #[cold]
    fn too_many(&self, count: usize) -> Parsed {
        let allowed = count <= self.args_max;
        Parsed::Bad(if allowed { ProtocolError::FrameTooBig } else { ProtocolError::TooManyArguments })
    }

    /// Reads a line of words, and returns its length with its end.
    fn inline(&mut self, input: &[u8], is_unauthenticated: bool) -> Result<usize, Parsed> {
        let mut limit = self.inline_bytes_max;
        if is_unauthenticated {
            limit = limit.min(UNAUTHENTICATED_BULK_BYTES_MAX as usize);
        }
        let within = &input[..input.len().min(limit)];
        let Some(end) = memchr2(b'\n', 0, within) else {
            return Err(if input.len() >= limit {
                Parsed::Bad(ProtocolError::InlineTooBig)
            } else {
                Parsed::Incomplete { needs: input.len() + 1 }
            });
        };
        if within[end] == 0 {
            return Err(Parsed::Bad(ProtocolError::InlineNul));
        }
        let Self { spans, words, .. } = self;
        let mut len = 0;
        let split = inline::split(&within[..end], words, |start, end| {
            let span = spans.get_mut(len);
            len += usize::from(span.is_some());
            span.map(|span| *span = [start as u32, end as u32]).is_some()
        });
        split.map_err(Parsed::Bad)?;
        self.len = len;
        self.is_inline = true;
        Ok(end + 1)
    }

    /// The arguments of the last request; 0 if the last bytes were none.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the last request had no arguments.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the last request was a line of words; their arguments lie in the parser instead of the input.
    #[inline]
    #[must_use]
    pub fn is_inline(&self) -> bool {
        self.is_inline
    }

    /// The contents of argument `at` of the last request, which began at the beginning of `input`.
    ///
    /// # Panics
    /// If there is no such argument, and may if `input` is not what was parsed.
    #[inline]
    #[must_use]
    pub fn arg<'a>(&'a self, input: &'a [u8], at: usize) -> &'a [u8] {
        &self.bytes(input)[self.span(at)]
    }

    /// The arguments of the last request from `from` on, at least the second, as the bulk strings that came: what
    /// [`Bulks`](super::Bulks) reads. Those of an inline request are bulk strings too.
    ///
    /// # Panics
    /// If `from` is 0 or above [`len`](Self::len), and may if `input` is not what was parsed.
    #[inline]
    #[must_use]
    pub fn bulks<'a>(&'a self, input: &'a [u8], from: usize) -> &'a [u8] {
        // Each ends with CRLF, behind which the next begins.
        let start = self.span(from - 1).end + 2;
        let end = self.span(self.len - 1).end + 2;
        &self.bytes(input)[start..end]
    }

    /// Where the contents of argument `at` of the last request lie in `input`, or in the parser's own bytes if it
    /// [was inline](Self::is_inline).
    ///
    /// # Panics
    /// If there is no such argument.
    #[inline]
    #[must_use]
    pub fn span(&self, at: usize) -> Range<usize> {
        let [start, end] = self.spans[..self.len][at];
        start as usize..end as usize
    }

    #[inline]
    fn bytes<'a>(&'a self, input: &'a [u8]) -> &'a [u8] {
        if self.is_inline { &self.words } else { input }
    }
}

/// The eight bytes at `at`, if there are as many.
#[inline(always)]
fn word_at(input: &[u8], at: u32) -> Option<u64> {
    let at = at as usize;
    input.get(at..at + 8)?.first_chunk().map(|word| u64::from_le_bytes(*word))
}

/// The end of the last argument, where CRLF should lie at `at`, if it does not.
#[cold]
fn end_slow(input: &[u8], at: usize, limit: usize) -> Parsed {
    match input.get(at..) {
        None | Some([] | [b'\r']) => cut(at + 2, limit),
        Some(_) => Parsed::Bad(ProtocolError::Unterminated),
    }
}

/// The length of the bulk string whose CRLF before it lies at `at`, and the bytes from there to its contents. Behind it
/// `after` arguments are to come.
#[cold]
#[inline(never)]
fn bulk_slow(
    input: &[u8],
    at: u32,
    after: usize,
    limit: usize,
    is_unauthenticated: bool,
) -> Result<(u32, u32), Parsed> {
    let at = at as usize;
    let rest = input.get(at..).unwrap_or_default();
    let least = 2 + after * BULK_BYTES_MIN;
    let line = match rest {
        [] | [b'\r'] | [b'\r', b'\n'] => return Err(cut(at + BULK_BYTES_MIN + least, limit)),
        [b'\r', b'\n', b'$', line @ ..] => line,
        [b'\r', b'\n', got, ..] => return Err(Parsed::Bad(ProtocolError::ExpectedBulk(*got))),
        _ => return Err(Parsed::Bad(ProtocolError::Unterminated)),
    };
    match header::number(line) {
        Number::Is(length @ 0..=BULK_BYTES_MAX, _)
            if is_unauthenticated && length > UNAUTHENTICATED_BULK_BYTES_MAX =>
        {
            Err(Parsed::Bad(ProtocolError::UnauthenticatedBulkLength))
        }
        Number::Is(length @ 0..=BULK_BYTES_MAX, bytes) => {
            let (length, header) = (length as usize, 3 + bytes);
            let needs = at + header + length + least;
            if needs > input.len() { Err(cut(needs, limit)) } else { Ok((length as u32, header as u32)) }
        }
        Number::Cut(more) => Err(cut(input.len() + more + least, limit)),
        Number::Is(..) | Number::Wrong => Err(Parsed::Bad(ProtocolError::BulkLength)),
    }
}

/// What is cut, and needs so many bytes.
#[cold]
fn cut(needs: usize, limit: usize) -> Parsed {
    if needs > limit { Parsed::Bad(ProtocolError::FrameTooBig) } else { Parsed::Incomplete { needs } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ProtocolError::*;

    const LIMITS: Limits = Limits { args_max: 16, frame_bytes_max: 4_096, inline_bytes_max: 64 };

    fn parse(input: &[u8]) -> Parsed {
        Parser::new(LIMITS).parse(input)
    }

    fn args(input: &[u8]) -> Vec<Vec<u8>> {
        let mut parser = Parser::new(LIMITS);
        assert_eq!(parser.parse(input), Parsed::Request { bytes: input.len() }, "{input:?}");
        (0..parser.len()).map(|at| parser.arg(input, at).to_vec()).collect()
    }

    #[test]
    fn requests_of_all_lengths() {
        for length in [0, 1, 9, 10, 99, 100, 999, 1_000, 4_000] {
            let mut input = format!("*2\r\n$4\r\nECHO\r\n${length}\r\n").into_bytes();
            input.resize(input.len() + length, b'\r');
            input.extend_from_slice(b"\r\n");
            assert_eq!(args(&input), [b"ECHO".to_vec(), vec![b'\r'; length]]);
        }
        for count in 1..=16 {
            let input = format!("*{count}\r\n{}", "$1\r\na\r\n".repeat(count));
            assert_eq!(args(input.as_bytes()), vec![b"a"; count]);
        }
    }

    #[test]
    fn empty_request_has_no_arguments() {
        for input in [&b"\r\n"[..], b"\n", b"  \r\n", b"*0\r\n", b"*-1\r\n", b"*-9223372036854775808\r\n"] {
            assert_eq!(args(input), [b""; 0]);
        }
    }

    #[test]
    fn malformed_requests_are_errors() {
        let bad: &[(&[u8], ProtocolError)] = &[
            (b"*\r\n", MultibulkLength),
            (b"*+1\r\n", MultibulkLength),
            (b"*01\r\n", MultibulkLength),
            (b"*1x", MultibulkLength),
            (b"*1\rx", MultibulkLength),
            (b"*12\rx", MultibulkLength),
            (b"*2147483648\r\n", MultibulkLength),
            (b"*9223372036854775808\r\n", MultibulkLength),
            (b"*2147483647\r\n", TooManyArguments),
            (b"*17\r\n", TooManyArguments),
            (b"*1\r\n$\r\n", BulkLength),
            (b"*1\r\n$-1\r\n", BulkLength),
            (b"*1\r\n$+1\r\n", BulkLength),
            (b"*1\r\n$01\r\na\r\n", BulkLength),
            (b"*1\r\n$1\na\r\n", BulkLength),
            (b"*1\r\n$536870913\r\n", BulkLength),
            (b"*1\r\n$9223372036854775808\r\n", BulkLength),
            (b"*1\r\n$100000000000000000000000\r\n", BulkLength),
            (b"*1\r\n$536870912\r\n", FrameTooBig),
            (b"*1\r\n$4084\r\n", FrameTooBig),
            (b"*1\r\n*1\r\n$1\r\na\r\n", ExpectedBulk(b'*')),
            (b"*1\r\n\r\n", ExpectedBulk(b'\r')),
            (b"*1\r\n$1\r\nabc", Unterminated),
            (b"*1\r\n$1\r\na\rx", Unterminated),
            (b"*2\r\n$1\r\nabc", Unterminated),
            (b"\"\r\n", UnbalancedQuotes),
            (b"\x16\x03\x01\x02\x00", InlineNul),
            (&[b'a'; 64], InlineTooBig),
        ];
        for (input, error) in bad {
            assert_eq!(parse(input), Parsed::Bad(*error), "{}", input.escape_ascii());
        }
    }

    #[test]
    fn limits_hold_to_the_byte() {
        let exact =
            |bytes: usize| format!("*1\r\n${}\r\n{}\r\n", bytes - 13, "x".repeat(bytes - 13)).into_bytes();
        assert_eq!(args(&exact(4_095)).len(), 1);
        assert_eq!(args(&exact(4_096)).len(), 1);
        assert_eq!(parse(&exact(4_097)), Parsed::Bad(FrameTooBig));
        let line = |bytes: usize| [&vec![b'x'; bytes - 2][..], b"\r\n"].concat();
        assert_eq!(args(&line(64)).len(), 1);
        assert_eq!(parse(&line(65)), Parsed::Bad(InlineTooBig));
        assert_eq!(parse(&[b'x'; 63]), Parsed::Incomplete { needs: 64 });
        assert_eq!(parse([&b"a ".repeat(17)[..], b"\n"].concat().as_slice()), Parsed::Bad(TooManyArguments));
        let none = Limits { args_max: 0, frame_bytes_max: 0, inline_bytes_max: 0 };
        for input in [&b""[..], b"*", b"*0\r\n", b"\n", b"*1\r\n$0\r\n\r\n"] {
            assert_eq!(Parser::new(none).parse(input), Parsed::Bad(FrameTooBig));
        }
        let few = Limits { args_max: 9, frame_bytes_max: 30, inline_bytes_max: 9 };
        assert_eq!(Parser::new(few).parse(b"*6\r\n"), Parsed::Bad(FrameTooBig));
        assert_eq!(Parser::new(few).parse(b"*10\r\n"), Parsed::Bad(TooManyArguments));
    }

    #[test]
    fn unauthenticated_requests_have_narrower_limits() {
        let wide = Limits { args_max: 1_024, frame_bytes_max: 1 << 20, inline_bytes_max: 1 << 16 };
        let mut parser = Parser::new(wide);
        let mut parsed = |input: &[u8]| [parser.parse_unauthenticated(input), parser.parse(input)];
        let request = |lengths: &[usize]| {
            let args = lengths.iter().map(|length| format!("${length}\r\n{}\r\n", "x".repeat(*length)));
            format!("*{}\r\n{}", lengths.len(), args.collect::<String>()).into_bytes()
        };
        let whole = |input: &[u8]| Parsed::Request { bytes: input.len() };
        for lengths in [&[1; 9][..], &[1; 10], &[4, 16 << 10], &[16 << 10], &[1_900; 10]] {
            let input = request(lengths);
            assert_eq!(parsed(&input), [whole(&input); 2], "{lengths:?}");
        }
        for (lengths, error) in [
            (&[1; 11][..], UnauthenticatedMultibulkLength),
            (&[4, (16 << 10) + 1], UnauthenticatedBulkLength),
            (&[4, 100_000], UnauthenticatedBulkLength),
            (&[16 << 10; 2], FrameTooBig),
            (&[2_100; 10], FrameTooBig),
        ] {
            let input = request(lengths);
            assert_eq!(parsed(&input), [Parsed::Bad(error), whole(&input)], "{lengths:?}");
        }
        // It shows at the header already, before anything would have to be kept.
        assert_eq!(parsed(b"*11\r\n")[0], Parsed::Bad(UnauthenticatedMultibulkLength));
        assert_eq!(parsed(b"*2\r\n$4\r\nECHO\r\n$16385\r\n")[0], Parsed::Bad(UnauthenticatedBulkLength));
        // Other errors are the same with and without authentication.
        assert_eq!(parsed(b"*2147483648\r\n"), [Parsed::Bad(MultibulkLength); 2]);
        assert_eq!(parsed(b"*1\r\n$536870913\r\n"), [Parsed::Bad(BulkLength); 2]);
        let line = |bytes: usize| [&vec![b'x'; bytes - 2][..], b"\r\n"].concat();
        assert_eq!(parsed(&line(16 << 10)), [whole(&line(16 << 10)); 2]);
        assert_eq!(parsed(&line((16 << 10) + 1))[0], Parsed::Bad(InlineTooBig));
        // Narrower limits hold for unauthenticated connections too.
        assert_eq!(Parser::new(LIMITS).parse_unauthenticated(b"*1\r\n$4084\r\n"), Parsed::Bad(FrameTooBig));
        assert_eq!(Parser::new(LIMITS).parse_unauthenticated(&[b'x'; 64]), Parsed::Bad(InlineTooBig));
    }

    #[test]
    fn arguments_of_the_last_request_are_forgotten() {
        let mut parser = Parser::new(LIMITS);
        for input in [&b"*1\r\n$1\r"[..], b"*x", b"*0\r\n", b"\r\n"] {
            parser.parse(b"*2\r\n$1\r\na\r\n$1\r\nb\r\n");
            assert_eq!((parser.len(), parser.is_empty()), (2, false));
            parser.parse(input);
            assert_eq!((parser.len(), parser.is_empty()), (0, true));
        }
        parser.parse(b"\"a\" b\n");
        assert!(parser.is_inline() && parser.arg(b"", 0) == b"a");
        parser.parse(b"*1\r\n$1\r\nc\r\n");
        assert!(!parser.is_inline() && parser.arg(b"*1\r\n$1\r\nc\r\n", 0) == b"c");
    }

    #[test]
    fn arguments_keep_their_bytes() {
        let mut parser = Parser::new(LIMITS);
        let input = b"*4\r\n$4\r\nXADD\r\n$1\r\ns\r\n$1\r\nf\r\n$2\r\nvv\r\nPING\r\n";
        parser.parse(input);
        assert_eq!(parser.bulks(input, 2), b"$1\r\nf\r\n$2\r\nvv\r\n");
        assert_eq!(parser.bulks(input, 4), b"");
        let input = b"XADD s f \"v\\x76\"\r\nPING\r\n";
        parser.parse(input);
        assert_eq!(parser.bulks(input, 2), b"$1\r\nf\r\n$2\r\nvv\r\n");
    }
}
