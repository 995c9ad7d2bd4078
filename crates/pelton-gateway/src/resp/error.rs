//! What is wrong with bytes that are no request.

use core::fmt;

/// Why bytes can be no request. After one the connection cannot go on: where the next request begins is unknown.
///
/// Its `Display` is Redis's text where Redis has one; a server puts `ERR ` before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProtocolError {
    /// The number of arguments is none, or above 2³¹ − 1.
    MultibulkLength,
    /// The length of an argument is none, negative, or above 512 MiB.
    BulkLength,
    /// There are more arguments than are allowed [before authentication](super::Parser::parse_unauthenticated).
    UnauthenticatedMultibulkLength,
    /// An argument is longer than is allowed [before authentication](super::Parser::parse_unauthenticated).
    UnauthenticatedBulkLength,
    /// An argument begins with this byte instead of `$`; nested arrays do.
    ExpectedBulk(u8),
    /// The bytes of an argument are not followed by CRLF.
    Unterminated,
    /// An inline request is longer than [`inline_bytes_max`](super::Limits::inline_bytes_max).
    InlineTooBig,
    /// A quote of an inline request is not closed, or something follows the closing one.
    UnbalancedQuotes,
    /// An inline request has a NUL: a client that speaks something else, TLS perhaps.
    InlineNul,
    /// There are more arguments than [`args_max`](super::Limits::args_max).
    TooManyArguments,
    /// The request has, or would come to, more bytes than [`frame_bytes_max`](super::Limits::frame_bytes_max).
    FrameTooBig,
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Protocol error: ")?;
        f.write_str(match self {
            ProtocolError::MultibulkLength => "invalid multibulk length",
            ProtocolError::BulkLength => "invalid bulk length",
            ProtocolError::UnauthenticatedMultibulkLength => "unauthenticated multibulk length",
            ProtocolError::UnauthenticatedBulkLength => "unauthenticated bulk length",
            ProtocolError::ExpectedBulk(got @ b' '..=b'~') => {
                return write!(f, "expected '$', got '{}'", char::from(*got));
            }
            // A byte that cannot be shown may not be sent either: it could end the line.
            ProtocolError::ExpectedBulk(got) => return write!(f, "expected '$', got '\\x{got:02x}'"),
            ProtocolError::Unterminated => "expected CRLF after a bulk string",
            ProtocolError::InlineTooBig => "too big inline request",
            ProtocolError::UnbalancedQuotes => "unbalanced quotes in request",
            ProtocolError::InlineNul => "NUL in an inline request",
            ProtocolError::TooManyArguments => "too many arguments",
            ProtocolError::FrameTooBig => "too big request",
        })
    }
}

impl core::error::Error for ProtocolError {}
