//! Sockets: listeners, encryption, connections, and who is admitted.

pub(crate) mod acceptor;
pub(crate) mod registry;
pub(crate) mod connection;
pub(crate) mod listener;
pub(crate) mod socket;
pub(crate) mod socket_file;
#[cfg(feature = "tls")]
pub(crate) mod tls;
