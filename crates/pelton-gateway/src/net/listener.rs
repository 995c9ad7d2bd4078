//! Listeners: TCP addresses and Unix sockets.
//!
//! # Invariants
//! - A TCP peer that vanishes (its power, its network) is detected by the system within ten minutes, whether there is an
//!   `idle_s` or not: by keepalive probes, after [`KEEPALIVE`] of silence and as much again without an answer; or, where data
//!   is on its way to it, after [`USER_TIMEOUT`] without an acknowledgement.

use crate::config::settings::Options;
use crate::net::socket::Socket;
use crate::net::socket_file::{SocketFile, SocketFileError};
#[cfg(feature = "tls")]
use crate::net::tls::{Tls, TlsConfig};
use mio::net::{TcpListener, TcpStream, UnixListener};
use pelton::engine::PlanError;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

/// What kind of connections a listener takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerKind {
    /// Served in turn.
    Tcp,
    /// Served before all others.
    Critical,
    /// Encrypted.
    Tls,
    /// On this machine, by a path.
    Unix,
}

impl ListenerKind {
    /// The kind's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            ListenerKind::Tcp => "tcp",
            ListenerKind::Critical => "critical",
            ListenerKind::Tls => "tls",
            ListenerKind::Unix => "unix",
        }
    }
}

/// Why the server cannot listen at an address.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address is invalid, or not this machine's, or in use.
    #[error("{address}: {error}")]
    Address {
        /// As it was written.
        address: String,
        /// What the system said.
        error: io::Error,
    },
    /// The path is taken by something that is not the server's to remove.
    #[error("{}: {what}", path.display())]
    Taken {
        /// The path.
        path: PathBuf,
        /// What is there.
        what: &'static str,
    },
    /// The certificate and its key are not what they must be.
    #[error("{0}")]
    Tls(PlanError),
    /// The socket could not be made.
    #[error("{}: {error}", path.display())]
    Path {
        /// The path.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

impl ListenError {
    /// Whether another program listens at the address.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        matches!(self, ListenError::Address { error, .. } if error.kind() == io::ErrorKind::AddrInUse)
    }
}

pub(crate) enum ListenerSocket {
    Tcp(TcpListener),
    /// The file is removed while the listener is open: no other server takes its path before.
    Unix(SocketFile, UnixListener),
    #[cfg(feature = "tls")]
    Tls(TcpListener, TlsConfig),
}

/// A socket at which the server listens.
pub(crate) struct Listener {
    pub kind: ListenerKind,
    /// Whether its connections are served before all others.
    pub is_critical: bool,
    pub socket: ListenerSocket,
}

/// Silence of a TCP connection after which the system asks whether the other end is there: what redis-server has as
/// `tcp-keepalive`.
const KEEPALIVE: Duration = Duration::from_secs(300);

/// Probes that go unanswered before a connection counts as broken; they take [`KEEPALIVE`] together.
const KEEPALIVE_TRIES: u32 = 3;

/// How long data may go unacknowledged before a connection counts as broken. While data is on its way the system sends no
/// keepalive probes, and would give up after some 15 minutes.
const USER_TIMEOUT: Duration = Duration::from_secs(600);

/// Connections that may wait to be taken. The system has a limit of its own, often 4,096.
const BACKLOG: i32 = 4_096;

impl Listener {
    /// All listeners of a server.
    ///
    /// # Errors
    /// [`ListenError`] of the first that cannot be.
    pub fn all(options: &Options) -> Result<Vec<Listener>, ListenError> {
        let mut all = Vec::new();
        for (kind, addresses) in
            [(ListenerKind::Critical, &options.listen_critical), (ListenerKind::Tcp, &options.listen)]
        {
            for address in addresses {
                let is_critical = kind == ListenerKind::Critical;
                all.push(Listener { kind, is_critical, socket: ListenerSocket::Tcp(tcp(address)?) });
            }
        }
        #[cfg(feature = "tls")]
        if let Some(tls_config) = options.tls_config().map_err(ListenError::Tls)? {
            for address in &options.listen_tls {
                let socket = ListenerSocket::Tls(tcp(address)?, tls_config.clone());
                all.push(Listener { kind: ListenerKind::Tls, is_critical: false, socket });
            }
        }
        if let Some(path) = &options.unix_socket {
            let bound = SocketFile::listen(path, options.unix_mode);
            let (file, listener) = bound.map_err(|refused| match refused {
                SocketFileError::Taken(what) => ListenError::Taken { path: path.clone(), what },
                SocketFileError::System(error) => ListenError::Path { path: path.clone(), error },
            })?;
            let socket = ListenerSocket::Unix(file, listener);
            all.push(Listener { kind: ListenerKind::Unix, is_critical: options.unix_critical, socket });
        }
        Ok(all)
    }

    /// Its address, as clients name it.
    pub fn address(&self) -> String {
        let tcp = match &self.socket {
            ListenerSocket::Tcp(tcp) => tcp,
            ListenerSocket::Unix(file, _) => return file.path().display().to_string(),
            #[cfg(feature = "tls")]
            ListenerSocket::Tls(tcp, _) => tcp,
        };
        tcp.local_addr().map_or_else(|error| error.to_string(), |addr| addr.to_string())
    }

    pub fn register(&mut self, registry: &mio::Registry, token: mio::Token) -> io::Result<()> {
        match &mut self.socket {
            ListenerSocket::Tcp(tcp) => registry.register(tcp, token, mio::Interest::READABLE),
            ListenerSocket::Unix(_, unix) => registry.register(unix, token, mio::Interest::READABLE),
            #[cfg(feature = "tls")]
            ListenerSocket::Tls(tcp, _) => registry.register(tcp, token, mio::Interest::READABLE),
        }
    }

    /// Accepts a connection. What is to be encrypted is not yet: see [`Self::encrypt`].
    pub fn accept(&self) -> io::Result<Socket> {
        match &self.socket {
            ListenerSocket::Tcp(tcp) => Ok(Socket::Tcp(accept_tcp(tcp)?)),
            ListenerSocket::Unix(_, unix) => Ok(Socket::Unix(unix.accept()?.0)),
            #[cfg(feature = "tls")]
            ListenerSocket::Tls(tcp, _) => Ok(Socket::Tcp(accept_tcp(tcp)?)),
        }
    }

    /// Makes the TLS session of a connection that was accepted here, where there is to be one.
    ///
    /// # Errors
    /// No memory for it.
    pub fn encrypt(&self, socket: Socket) -> io::Result<Socket> {
        match (&self.socket, socket) {
            #[cfg(feature = "tls")]
            (ListenerSocket::Tls(_, tls_config), Socket::Tcp(tcp)) => {
                Ok(Socket::Tls(Box::new(Tls::new(tcp, tls_config)?)))
            }
            (_, socket) => Ok(socket),
        }
    }
}

fn accept_tcp(listener: &TcpListener) -> io::Result<TcpStream> {
    let (stream, _) = listener.accept()?;
    // Replies are written once a turn: waiting would gather nothing.
    // One that is gone already shows it when it is read.
    let _ = stream.set_nodelay(true);
    let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE);
    let keepalive = keepalive.with_interval(KEEPALIVE / KEEPALIVE_TRIES).with_retries(KEEPALIVE_TRIES);
    let socket = socket2::SockRef::from(&stream);
    let _ = socket.set_tcp_keepalive(&keepalive);
    let _ = socket.set_tcp_user_timeout(Some(USER_TIMEOUT));
    Ok(stream)
}

/// The addresses of a text: a host and a port.
pub(crate) fn addresses(address: &str) -> io::Result<Vec<SocketAddr>> {
    Ok(address.to_socket_addrs()?.collect())
}

fn tcp(address: &str) -> Result<TcpListener, ListenError> {
    let failed = |error| ListenError::Address { address: address.into(), error };
    let all = addresses(address).map_err(failed)?;
    let first = all.first().ok_or_else(|| failed(io::ErrorKind::AddrNotAvailable.into()))?;
    let domain = socket2::Domain::for_address(*first);
    let bind = || {
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
        // A server that is started again need not wait for connections of the one before.
        socket.set_reuse_address(true)?;
        if first.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&(*first).into())?;
        socket.listen(BACKLOG)?;
        Ok(TcpListener::from_std(socket.into()))
    };
    bind().map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vanished_peer_is_detected_within_ten_minutes() {
        let socket = ListenerSocket::Tcp(tcp("127.0.0.1:0").unwrap());
        let listener = Listener { kind: ListenerKind::Tcp, is_critical: false, socket };
        // It is in the queue before `connect` returns.
        let _client = std::net::TcpStream::connect(listener.address()).unwrap();
        let Socket::Tcp(tcp) = listener.accept().unwrap() else { panic!("it is no TCP") };
        let socket = socket2::SockRef::from(&tcp);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(300));
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(100));
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
        // Where data is on its way no probes are sent.
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(600)));
    }
}
