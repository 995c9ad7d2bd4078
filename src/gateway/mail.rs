//! What threads bring each other.
#![forbid(unsafe_code)]

use super::channel::ChannelId;
use super::conn::ConnKey;
use super::socket::Socket;
use std::sync::Arc;

/// What others bring a thread.
pub(super) enum Mail {
    /// A connection that was taken for it.
    Conn { socket: Socket, id: u64, is_critical: bool },
    /// What a view said, for a connection that waits for it.
    Answer { key: ConnKey, bytes: Vec<u8> },
    /// A message for the listeners of a channel.
    Message { channel: ChannelId, text: Arc<[u8]> },
}
