//! What threads send each other.
#![forbid(unsafe_code)]

use super::channel::ChannelId;
use super::conn::ConnKey;
use super::socket::Socket;
use std::sync::Arc;

/// A connection that was accepted, for the thread that will serve it.
pub(super) struct Arrival {
    pub socket: Socket,
    /// Unique in the server.
    pub id: u64,
    pub is_critical: bool,
    /// Whether a stranger must go for it.
    pub displaces: Displaces,
}

/// Whether a thread's oldest stranger must go for a newcomer, and for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Displaces {
    /// There is room for both.
    Nobody,
    /// For its place: the newcomer has none.
    ForPlace,
    /// For its descriptor: the newcomer has one that was kept back.
    ForDescriptor,
}

/// What a thread is sent.
pub(super) enum Mail {
    /// A connection that was accepted for it.
    Conn(Arrival),
    /// What a view said, for a connection that waits for it.
    Answer { key: ConnKey, bytes: Arc<[u8]> },
    /// The connections with these ids, in ascending order, are to be closed.
    Kill { ids: Vec<u64> },
    /// A message for the listeners of a channel.
    Message { channel: ChannelId, text: Arc<[u8]> },
}
