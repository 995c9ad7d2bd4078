//! One line of an access log, taken apart where it lies.
//!
//! # Mechanism
//! [`parse`] walks once over the bytes of a line in Common or Combined Log Format and hands out slices of it:
//!
//! ```text
//! client ident user [time] "request" status bytes                       common
//! client ident user [time] "request" status bytes "referer" "agent"     combined
//! ```
//!
//! Fields are separated by exactly one space. Inside quotes a backslash takes the next byte with it, so an
//! escaped quote does not end the field; escapes are kept as they are, since decoding them would need a copy.
//!
//! # What it does not do
//! - It does not look into the time, the ident, the user, the referer or the agent, beyond finding where they
//!   end.
//! - It does not decode text: a log may hold any bytes but NUL and LF.
//! - It does not ask that the last quoted field be closed. Servers cut a long agent short, the closing quote
//!   with it, and all that is counted stands before it. The request must be closed, since the status follows
//!   it.
//! - It does not stop at two quoted fields after the size: servers that append a third (the forwarded
//!   address, often) are read as well. Anything unquoted there is malformed.
//!
//! # Limits
//! A line has at most [`LINE_BYTES_MAX`] bytes, a status is 100 to 599, and a size fits 64 bits.

use core::fmt;

use memchr::{memchr, memchr2, memmem};

/// The longest line that is accepted, in bytes: 1 MiB. The LF does not count; a CR before it does.
///
/// Web servers cap a request line at some kilobytes, so a longer line is no log line, and a limit is what
/// lets the memory of a reader be fixed at its start.
pub const LINE_BYTES_MAX: usize = 1 << 20;

/// The lowest status that is accepted.
pub const STATUS_MIN: u16 = 100;

/// The highest status that is accepted.
pub const STATUS_MAX: u16 = 599;

/// The fields of a line that are counted. They borrow from the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// The first field: the client's address or host name, never empty.
    pub client: &'a [u8],
    /// The request: the text between the quotes, escapes kept. It may be empty.
    pub request: &'a [u8],
    /// The HTTP status, [`STATUS_MIN`] to [`STATUS_MAX`].
    pub status: u16,
    /// The size of the response in bytes, without its headers; `-` is 0.
    pub bytes: u64,
}

impl<'a> Line<'a> {
    /// The requested path, its query included; see [`path_of`].
    #[inline]
    #[must_use]
    pub fn path(&self) -> &'a [u8] {
        path_of(self.request)
    }
}

/// Why a line was refused: what was wrong, and (by its `Display`) what was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Malformed {
    /// The line has no bytes.
    Empty,
    /// The line is longer than [`LINE_BYTES_MAX`].
    TooLong,
    /// The line contains a NUL byte.
    Nul,
    /// The line does not begin with a client.
    NoClient,
    /// The ident and the user do not follow the client.
    NoUser,
    /// The time in brackets is missing or is not closed.
    NoTime,
    /// The quoted request is missing.
    NoRequest,
    /// The request's closing quote is missing.
    OpenRequest,
    /// The status is missing, is not three digits, or is out of range.
    BadStatus,
    /// The size is missing, is neither digits nor `-`, or exceeds 64 bits.
    BadBytes,
    /// Something other than quoted text follows the size.
    BadTail,
}

impl Malformed {
    /// Every reason, in the order of their [`index`](Self::index), for tables of counters.
    pub const ALL: [Malformed; 11] = [
        Malformed::Empty,
        Malformed::TooLong,
        Malformed::Nul,
        Malformed::NoClient,
        Malformed::NoUser,
        Malformed::NoTime,
        Malformed::NoRequest,
        Malformed::OpenRequest,
        Malformed::BadStatus,
        Malformed::BadBytes,
        Malformed::BadTail,
    ];

    /// The reason's place in [`ALL`](Self::ALL).
    #[inline]
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Malformed::Empty => "empty line, expected `client ident user [time] \"request\" status bytes`",
            Malformed::TooLong => "line too long, expected at most 1048576 bytes",
            Malformed::Nul => "NUL byte in the line, expected text (is it a log file?)",
            Malformed::NoClient => "no client, expected an address or host name and a space",
            Malformed::NoUser => "no ident and user, expected two fields (`-` if unknown) after the client",
            Malformed::NoTime => {
                "no time, expected `[day/month/year:hour:minute:second zone]` after the user"
            }
            Malformed::NoRequest => "no request, expected a quoted request line after the time",
            Malformed::OpenRequest => "unterminated request, expected a closing quote",
            Malformed::BadStatus => "bad status, expected 100 to 599 after the request",
            Malformed::BadBytes => "bad size, expected bytes below 2^64, or `-`, after the status",
            Malformed::BadTail => "unexpected text after the size, expected quoted fields or the end",
        })
    }
}

impl core::error::Error for Malformed {}

/// Takes one line apart, without its LF; one CR at its end is accepted and ignored.
///
/// # Errors
/// The first thing that is wrong, from left to right, but for the length and NUL bytes, which are looked at
/// first.
#[inline]
pub fn parse(line: &[u8]) -> Result<Line<'_>, Malformed> {
    if line.len() > LINE_BYTES_MAX {
        return Err(Malformed::TooLong);
    }
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() {
        return Err(Malformed::Empty);
    }
    if memchr(0, line).is_some() {
        return Err(Malformed::Nul);
    }
    let (client, rest) = field(line).ok_or(Malformed::NoClient)?;
    let (ident, rest) = field(rest).ok_or(Malformed::NoUser)?;
    if ident[0] == b'[' {
        return Err(Malformed::NoUser);
    }
    let rest = after_user(rest)?;
    let close = memchr(b']', rest).ok_or(Malformed::NoTime)?;
    let rest = rest[close + 1..].strip_prefix(b" \"").ok_or(Malformed::NoRequest)?;
    let (request, rest) = quoted(rest).ok_or(Malformed::OpenRequest)?;
    let (status, rest) = status_of(rest).ok_or(Malformed::BadStatus)?;
    let (bytes, rest) = bytes_of(rest).ok_or(Malformed::BadBytes)?;
    check_tail(rest)?;
    Ok(Line { client, request, status, bytes })
}

/// The path of a request line: its second token, the query included.
///
/// Tokens are separated by one or more spaces. A request of a single token is its own path, since all that is
/// known of it is that text; so `-` and other text that is no HTTP are counted under what the client sent. An
/// empty request has an empty path.
#[inline]
#[must_use]
pub fn path_of(request: &[u8]) -> &[u8] {
    let mut tokens = request.split(|&byte| byte == b' ').filter(|token| !token.is_empty());
    let _method = tokens.next();
    tokens.next().unwrap_or(request)
}

/// A field that is not empty and ends at a space, and what follows the space.
#[inline]
fn field(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    match memchr(b' ', bytes) {
        None | Some(0) => None,
        Some(end) => Some((&bytes[..end], &bytes[end + 1..])),
    }
}

/// What follows the user and the opening bracket of the time.
///
/// A user's name may hold spaces, as servers do not escape them; so the field ends at the bracket, not at a
/// space.
#[inline]
fn after_user(bytes: &[u8]) -> Result<&[u8], Malformed> {
    if bytes.is_empty() || bytes[0] == b' ' || bytes[0] == b'[' {
        return Err(Malformed::NoUser);
    }
    // Nearly every user is `-`: looking there first saves setting up a search.
    if let Some(rest) = bytes.strip_prefix(b"- [") {
        return Ok(rest);
    }
    let end = memmem::find(bytes, b" [").ok_or(Malformed::NoTime)?;
    Ok(&bytes[end + 2..])
}

/// The text up to the next quote that is not escaped, and what follows that quote.
#[inline]
fn quoted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut at = 0;
    loop {
        at += memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes[at] == b'"' {
            return Some((&bytes[..at], &bytes[at + 1..]));
        }
        // The escaped byte may lie past the end: then there is no closing quote either.
        at += 2;
    }
}

/// A space and three digits, followed by a space or nothing, and what follows the digits.
#[inline]
fn status_of(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (digits, rest) = bytes.strip_prefix(b" ")?.split_at_checked(3)?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let status = digits.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
    let ends = matches!(rest.first(), None | Some(b' '));
    (ends && (STATUS_MIN..=STATUS_MAX).contains(&status)).then_some((status, rest))
}

/// A space and a number or `-`, followed by a space or nothing, and what follows the number.
#[inline]
fn bytes_of(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let bytes = bytes.strip_prefix(b" ")?;
    let end = memchr(b' ', bytes).unwrap_or(bytes.len());
    let (digits, rest) = bytes.split_at(end);
    if digits == b"-" {
        return Some((0, rest));
    }
    if digits.is_empty() {
        return None;
    }
    let mut sum = 0_u64;
    for &byte in digits {
        // A sign is refused here as well: no server writes one.
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        sum = sum.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    Some((sum, rest))
}

/// Nothing, spaces, or quoted fields of which the last may be open.
#[inline]
fn check_tail(mut rest: &[u8]) -> Result<(), Malformed> {
    loop {
        if rest.iter().all(|&byte| byte == b' ') {
            return Ok(());
        }
        let text = rest.strip_prefix(b" \"").ok_or(Malformed::BadTail)?;
        match quoted(text) {
            Some((_, after)) => rest = after,
            None => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const COMMON: &[u8] =
        br#"192.0.2.7 - frank [10/Oct/2000:13:55:36 -0700] "GET /a.gif?x=1 HTTP/1.0" 200 2326"#;

    fn with(from: &str, to: &str) -> Vec<u8> {
        let text = core::str::from_utf8(COMMON).unwrap();
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1).into_bytes()
    }

    fn refused(from: &str, to: &str) -> Malformed {
        parse(&with(from, to)).unwrap_err()
    }

    #[test]
    fn common_format_is_taken_apart() {
        let line = parse(COMMON).unwrap();
        assert_eq!(line.client, b"192.0.2.7");
        assert_eq!(line.request, b"GET /a.gif?x=1 HTTP/1.0");
        assert_eq!(line.path(), b"/a.gif?x=1");
        assert_eq!((line.status, line.bytes), (200, 2326));
    }

    #[test]
    fn combined_format_differs_in_nothing_that_is_counted() {
        let mut text = COMMON.to_vec();
        text.extend_from_slice(br#" "http://example.org/\"q\"" "Agent/1.0 (\"quoted\" \\)" "203.0.113.1""#);
        assert_eq!(parse(&text), parse(COMMON));
        text.push(b'\r');
        assert_eq!(parse(&text), parse(COMMON));
    }

    #[test]
    fn an_agent_that_was_cut_short_is_accepted() {
        for tail in [&br#" "-" "Mozilla/5.0 (comp"#[..], br#" "http://exa"#, br#" "-" "ends with \"#, b" "] {
            let text = [COMMON, tail].concat();
            assert_eq!(parse(&text), parse(COMMON));
        }
    }

    #[test]
    fn escaped_quotes_stay_in_the_request() {
        let text = with("/a.gif?x=1", r#"/say\"hi\"\\"#);
        assert_eq!(parse(&text).unwrap().path(), br#"/say\"hi\"\\"#);
    }

    #[test]
    fn a_dash_is_no_bytes_and_the_largest_size_fits() {
        assert_eq!(parse(&with("2326", "-")).unwrap().bytes, 0);
        assert_eq!(parse(&with("2326", "18446744073709551615")).unwrap().bytes, u64::MAX);
        assert_eq!(refused("2326", "18446744073709551616"), Malformed::BadBytes);
    }

    #[test]
    fn a_user_may_hold_spaces() {
        assert_eq!(parse(&with("frank", "frank m smith")), parse(COMMON));
    }

    #[test]
    fn clients_may_be_any_text() {
        for client in ["::1", "2001:db8::7", "host.example.org", "\u{fc}ml"] {
            assert_eq!(parse(&with("192.0.2.7", client)).unwrap().client, client.as_bytes());
        }
    }

    #[test]
    fn each_fault_has_its_name() {
        assert_eq!(parse(b""), Err(Malformed::Empty));
        assert_eq!(parse(b"\r"), Err(Malformed::Empty));
        assert_eq!(parse(b"nospace"), Err(Malformed::NoClient));
        assert_eq!(parse(b" - - [t]"), Err(Malformed::NoClient));
        assert_eq!(refused("- frank ", ""), Malformed::NoUser);
        assert_eq!(refused("frank", ""), Malformed::NoUser);
        assert_eq!(refused("[", ""), Malformed::NoTime);
        assert_eq!(refused("]", ""), Malformed::NoTime);
        assert_eq!(refused("\"", ""), Malformed::NoRequest);
        assert_eq!(refused("HTTP/1.0\"", "HTTP/1.0"), Malformed::OpenRequest);
        assert_eq!(refused("HTTP/1.0\"", "HTTP/1.0\\\""), Malformed::OpenRequest);
        for status in ["099", "600", "20", "2000", "-", "2x0", "+20", ""] {
            assert_eq!(refused(" 200 ", &format!(" {status} ")), Malformed::BadStatus, "{status}");
        }
        assert_eq!(refused(" 200 2326", ""), Malformed::BadStatus);
        for bytes in ["", "--", "12a", "-1", "+1", "1.5"] {
            assert_eq!(refused("2326", bytes), Malformed::BadBytes, "{bytes}");
        }
        assert_eq!(refused(" 2326", ""), Malformed::BadBytes);
        for tail in ["2326 garbage", "2326 \"-\" garbage", "2326 \"-\"\"-\"", "2326  \"-\""] {
            assert_eq!(refused("2326", tail), Malformed::BadTail, "{tail}");
        }
        assert_eq!(refused("GET", "G\0T"), Malformed::Nul);
    }

    #[test]
    fn the_bounds_of_the_status_are_inside() {
        assert_eq!(parse(&with(" 200 ", " 100 ")).unwrap().status, STATUS_MIN);
        assert_eq!(parse(&with(" 200 ", " 599 ")).unwrap().status, STATUS_MAX);
    }

    #[test]
    fn a_line_of_the_limit_passes_and_a_longer_one_does_not() {
        let mut text = [COMMON, b" \"-\" \"".as_slice()].concat();
        text.resize(LINE_BYTES_MAX, b'a');
        assert_eq!(parse(&text), parse(COMMON));
        text.push(b'a');
        assert_eq!(parse(&text), Err(Malformed::TooLong));
    }

    #[test]
    fn paths_of_odd_requests() {
        assert_eq!(path_of(b""), b"");
        assert_eq!(path_of(b"-"), b"-");
        assert_eq!(path_of(b"GET"), b"GET");
        assert_eq!(path_of(b"GET /"), b"/");
        assert_eq!(path_of(b"GET  / HTTP/1.0"), b"/");
        assert_eq!(path_of(b"GET /a b HTTP/1.0"), b"/a");
    }

    #[test]
    fn reasons_are_listed_in_their_order_and_say_what_was_expected() {
        for (at, reason) in Malformed::ALL.into_iter().enumerate() {
            assert_eq!(reason.index(), at);
            assert!(reason.to_string().contains("expected"), "{reason}");
        }
        assert!(Malformed::TooLong.to_string().contains(&LINE_BYTES_MAX.to_string()));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
            let _ = path_of(&bytes);
        }

        #[test]
        fn damaged_lines_never_panic(at in 0..COMMON.len(), byte: u8, cut in 0..COMMON.len()) {
            let mut text = COMMON.to_vec();
            text[at] = byte;
            let _ = parse(&text);
            let _ = parse(&text[..cut]);
            let _ = parse(&text[cut..]);
        }

        #[test]
        fn text_of_the_format_s_own_bytes_never_panics(text in r#"[-\[\]"\\ 0-9a]{0,60}"#) {
            let _ = parse(text.as_bytes());
        }
    }
}
