//! A connection's socket: TCP, a Unix socket, or TCP under TLS.

#[cfg(feature = "tls")]
use crate::net::tls::Tls;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use std::io::{self, Read, Write};

/// What a connection reads and writes. Never blocks.
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    #[cfg(feature = "tls")]
    Tls(Box<Tls>),
}

impl Socket {
    /// Registers for edge-triggered readiness to read and to write.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let both = Interest::READABLE | Interest::WRITABLE;
        match self {
            Socket::Tcp(tcp) => registry.register(tcp, token, both),
            Socket::Unix(unix) => registry.register(unix, token, both),
            #[cfg(feature = "tls")]
            Socket::Tls(tls) => registry.register(&mut tls.tcp, token, both),
        }
    }

    /// Reads what is there.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(tcp) => tcp.read(buffer),
            Socket::Unix(unix) => unix.read(buffer),
            #[cfg(feature = "tls")]
            Socket::Tls(tls) => tls.read(buffer),
        }
    }

    /// Writes what there is room for.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(tcp) => tcp.write(bytes),
            Socket::Unix(unix) => unix.write(bytes),
            #[cfg(feature = "tls")]
            Socket::Tls(tls) => tls.write(bytes),
        }
    }

    /// Sends what was written and is still buffered here, as encrypted bytes may be. Returns how many bytes
    /// were sent.
    pub fn flush(&mut self) -> io::Result<usize> {
        match self {
            Socket::Tcp(_) | Socket::Unix(_) => Ok(0),
            #[cfg(feature = "tls")]
            Socket::Tls(tls) => tls.flush(),
        }
    }

    /// Bytes that were written and are still buffered here.
    pub fn held(&self) -> usize {
        match self {
            Socket::Tcp(_) | Socket::Unix(_) => 0,
            #[cfg(feature = "tls")]
            Socket::Tls(tls) => tls.held(),
        }
    }

    /// Whether a read that did not fill its buffer has emptied the socket.
    pub fn is_emptied_by_short_read(&self) -> bool {
        match self {
            Socket::Tcp(_) | Socket::Unix(_) => true,
            #[cfg(feature = "tls")]
            Socket::Tls(tls) => tls.is_emptied(),
        }
    }

    /// Whether requests can arrive: under TLS, when the handshake is done.
    pub fn is_handshake_done(&self) -> bool {
        match self {
            Socket::Tcp(_) | Socket::Unix(_) => true,
            #[cfg(feature = "tls")]
            Socket::Tls(tls) => tls.is_handshake_done(),
        }
    }

    /// Announces the end of the stream, as TLS asks for.
    pub fn send_close_notify(&mut self) {
        match self {
            Socket::Tcp(_) | Socket::Unix(_) => {}
            #[cfg(feature = "tls")]
            Socket::Tls(tls) => tls.send_close_notify(),
        }
    }

    /// Reads and discards what has arrived. Returns whether there was anything.
    pub fn discard(&mut self, scratch: &mut [u8]) -> bool {
        let taken = match self {
            Socket::Tcp(tcp) => tcp.read(scratch),
            Socket::Unix(unix) => unix.read(scratch),
            #[cfg(feature = "tls")]
            Socket::Tls(tls) => tls.tcp.read(scratch),
        };
        matches!(taken, Ok(1..))
    }

    /// The peer's address, as `CLIENT LIST` shows it.
    pub fn peer(&self) -> String {
        let tcp = match self {
            Socket::Tcp(tcp) => tcp,
            Socket::Unix(_) => return "unix:0".into(),
            #[cfg(feature = "tls")]
            Socket::Tls(tls) => &tls.tcp,
        };
        tcp.peer_addr().map_or_else(|_| "?:0".into(), |addr| addr.to_string())
    }
}
