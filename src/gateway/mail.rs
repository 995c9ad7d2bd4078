//! What threads bring each other.
#![forbid(unsafe_code)]

use super::socket::Socket;

/// What others bring a thread.
pub(super) enum Mail {
    /// A connection that was taken for it.
    Conn { socket: Socket, id: u64, is_critical: bool },
}
