//! A connection's socket: TCP, a Unix socket, or TCP under TLS.
#![forbid(unsafe_code)]

use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use std::io::{self, Read, Write};

/// What a connection reads and writes. Never blocks.
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    /// Asks to be told when there is something to read or room to write: once for each time that it comes about.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let both = Interest::READABLE | Interest::WRITABLE;
        match self {
            Socket::Tcp(tcp) => registry.register(tcp, token, both),
            Socket::Unix(unix) => registry.register(unix, token, both),
        }
    }

    /// Reads what is there.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(tcp) => tcp.read(buffer),
            Socket::Unix(unix) => unix.read(buffer),
        }
    }

    /// Writes what there is room for.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(tcp) => tcp.write(bytes),
            Socket::Unix(unix) => unix.write(bytes),
        }
    }

    /// Hands on what was written and is still here: with encryption there may be some.
    pub fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Whether a read that did not fill its buffer has emptied the socket.
    pub fn is_emptied_by_short_read(&self) -> bool {
        true
    }

    /// Who is at the other end, as `CLIENT LIST` shows it.
    pub fn peer(&self) -> String {
        match self {
            Socket::Tcp(tcp) => tcp.peer_addr().map_or_else(|_| "?:0".into(), |addr| addr.to_string()),
            Socket::Unix(_) => "unix:0".into(),
        }
    }
}
