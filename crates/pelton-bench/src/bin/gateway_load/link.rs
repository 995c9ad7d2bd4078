//! A connection, over TCP or a Unix socket.

use crate::args::Args;
use crate::failure::{Failure, failed};
use crate::wire;
use mio::event::Source;
use mio::{Interest, Registry, Token};
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// How long a connect, or an answer to AUTH, may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Whom to connect to, and as whom.
pub struct Server {
    pub address: String,
    pub password: Option<String>,
}

impl Server {
    pub fn of(args: &mut Args) -> Self {
        let address = args.text("address").unwrap_or_else(|| "127.0.0.1:6379".to_owned());
        Server { address, password: args.text("password") }
    }

    /// A connection that blocks, with its password said.
    pub fn connect(&self) -> Result<Blocking, Failure> {
        let mut link = self.open().map_err(failed(format!("connecting to {}", self.address)))?;
        if let Some(password) = &self.password {
            let said = link.ask(&wire::command(&[b"AUTH", password.as_bytes()]));
            let said = said.map_err(failed("AUTH"))?;
            if said != "+OK" {
                return Err(Failure::Io("AUTH".to_owned(), io::Error::other(said)));
            }
        }
        Ok(link)
    }

    fn open(&self) -> io::Result<Blocking> {
        if self.address.contains('/') {
            let stream = UnixStream::connect(&self.address)?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            return Ok(Blocking::Unix(stream));
        }
        let none = || io::Error::other("no such address");
        let address = self.address.to_socket_addrs()?.next().ok_or_else(none)?;
        let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        Ok(Blocking::Tcp(stream))
    }
}

/// A connection whose calls wait, each for ten seconds at most.
pub enum Blocking {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Blocking {
    /// Sends a command, and waits for the first line of its answer.
    pub fn ask(&mut self, command: &[u8]) -> io::Result<String> {
        self.write_all(command)?;
        self.line()
    }

    /// Waits for the next line, and no byte of what follows.
    pub fn line(&mut self) -> io::Result<String> {
        let (mut line, mut byte) = (Vec::new(), [0]);
        while !line.ends_with(b"\r\n") {
            if self.read(&mut byte)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            line.push(byte[0]);
        }
        Ok(String::from_utf8_lossy(line.trim_ascii_end()).into_owned())
    }

    /// The same connection once more, for another thread.
    pub fn twin(&self) -> io::Result<Self> {
        Ok(match self {
            Blocking::Tcp(stream) => Blocking::Tcp(stream.try_clone()?),
            Blocking::Unix(stream) => Blocking::Unix(stream.try_clone()?),
        })
    }

    /// The connection as one that never waits, known to `registry` for both directions.
    pub fn into_link(self, registry: &Registry, token: Token) -> io::Result<Link> {
        let mut link = match self {
            Blocking::Tcp(stream) => {
                stream.set_nonblocking(true)?;
                Link::Tcp(mio::net::TcpStream::from_std(stream))
            }
            Blocking::Unix(stream) => {
                stream.set_nonblocking(true)?;
                Link::Unix(mio::net::UnixStream::from_std(stream))
            }
        };
        link.register(registry, token)?;
        Ok(link)
    }
}

impl Read for Blocking {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        match self {
            Blocking::Tcp(stream) => stream.read(to),
            Blocking::Unix(stream) => stream.read(to),
        }
    }
}

impl Write for Blocking {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        match self {
            Blocking::Tcp(stream) => stream.write(from),
            Blocking::Unix(stream) => stream.write(from),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A connection that never waits. Reads and writes that would are `None`.
pub enum Link {
    Tcp(mio::net::TcpStream),
    Unix(mio::net::UnixStream),
}

impl Link {
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let both = Interest::READABLE | Interest::WRITABLE;
        match self {
            Link::Tcp(stream) => stream.register(registry, token, both),
            Link::Unix(stream) => stream.register(registry, token, both),
        }
    }

    /// Reads what there is: at most once, so 0 is the end.
    #[inline]
    pub fn read(&mut self, to: &mut [u8]) -> io::Result<Option<usize>> {
        would_block(|| match self {
            Link::Tcp(stream) => stream.read(to),
            Link::Unix(stream) => stream.read(to),
        })
    }

    /// Writes as much as goes.
    #[inline]
    pub fn write(&mut self, from: &[u8]) -> io::Result<Option<usize>> {
        would_block(|| match self {
            Link::Tcp(stream) => stream.write(from),
            Link::Unix(stream) => stream.write(from),
        })
    }
}

fn would_block(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<Option<usize>> {
    loop {
        match call() {
            Ok(bytes) => return Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
