//! TLS connections: a certificate with its key, and TCP under TLS.
//!
//! # Mechanism
//! rustls does the cryptography and keeps no socket; this file moves bytes between the two, and never blocks. A handshake needs
//! no turns of its own: a read takes what has arrived, answers the handshake, and finds no request yet.
//!
//! # Invariants
//! - A read returns what is decrypted before it reads the socket again, so nothing is left here while the socket is empty.
//! - A handshake that is not done after [`HANDSHAKE_BYTES_MAX`] fails, so an unfinished one keeps no more than that.
//! - Nothing more is encrypted while the socket has not taken what was: a client that does not read costs one piece, of at
//!   most 64 KiB. ([`rustls`]'s own limit.)
//! - A client that does not speak TLS gets one alert; nothing of what it sends reaches the parser.

use mio::net::TcpStream;
use pelton::host::{BYTES_MAX, read_bounded};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{Error, ServerConfig, ServerConnection};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

/// What one read takes from the socket while nothing comes of it, in bytes: a whole handshake, or many empty records.
const FRUITLESS_BYTES_MAX: usize = 64 << 10;

/// What a server says of itself in a handshake, and what it agrees to.
#[derive(Clone)]
pub(crate) struct TlsConfig(Arc<ServerConfig>);

/// What is wrong with one of the two files.
pub(crate) enum TlsFileError {
    /// What the file of certificates must be.
    Certificate(String),
    /// What the file of the key must be.
    Key(String),
}

impl TlsConfig {
    /// Reads a certificate chain and its key: PEM files, the server's own certificate first.
    ///
    /// # Errors
    /// [`TlsFileError`].
    pub fn load(certificate: &Path, key: &Path) -> Result<TlsConfig, TlsFileError> {
        let text = read_pem(certificate).map_err(TlsFileError::Certificate)?;
        let chain = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| TlsFileError::Certificate(of_pem(error, "a certificate")))?;
        if chain.is_empty() {
            return Err(TlsFileError::Certificate(of_pem(PemError::NoItemsFound, "a certificate")));
        }
        let text = read_pem(key).map_err(TlsFileError::Key)?;
        let own = PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
            let kind = if text.windows(9).any(|word| word == b"ENCRYPTED") { "an unencrypted" } else { "a" };
            TlsFileError::Key(of_pem(error, &format!("{kind} private key")))
        })?;
        let config = ServerConfig::builder_with_provider(default_provider().into())
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, own));
        match config {
            Ok(config) => Ok(TlsConfig(config.into())),
            Err(Error::InconsistentKeys(_)) => {
                let whose = certificate.display();
                Err(TlsFileError::Key(format!(
                    "the key of the certificate in '{whose}', and it is another's"
                )))
            }
            Err(Error::InvalidCertificate(error)) => {
                Err(TlsFileError::Certificate(format!("a certificate that can be read, and here: {error}")))
            }
            Err(error) => {
                Err(TlsFileError::Key(format!("a key of RSA, ECDSA or Ed25519, and here: {error}")))
            }
        }
    }
}

fn read_pem(path: &Path) -> Result<Vec<u8>, String> {
    read_bounded(path).map_err(|error| match error.kind() {
        io::ErrorKind::FileTooLarge => format!("a PEM file of at most {BYTES_MAX} bytes"),
        _ => format!("a file that can be read, and here: {error}"),
    })
}

/// What a file must be that is no PEM file, or has not in it what it should.
fn of_pem(error: PemError, what: &str) -> String {
    let line = |line: &[u8]| String::from_utf8_lossy(line).trim_end().escape_debug().to_string();
    let why = match error {
        PemError::NoItemsFound => return format!("a PEM file with {what} in it, and there is none"),
        PemError::MissingSectionEnd { end_marker } => format!("section '{}' has no end", line(&end_marker)),
        PemError::IllegalSectionStart { line: text } => format!("a line is '{}'", line(&text)),
        error => error.to_string(),
    };
    format!("a PEM file that is whole, and here: {why}")
}

/// The most bytes that a client may send before its handshake is finished. What it needs is some 2 KiB: no certificates of
/// clients are asked for. One read may go beyond.
const HANDSHAKE_BYTES_MAX: usize = 16 << 10;

/// A TCP connection under TLS, with the face of a socket.
pub(crate) struct Tls {
    pub tcp: TcpStream,
    session: ServerConnection,
    /// The last read from the socket has taken all that was there.
    is_emptied: bool,
    /// The peer has announced the end of the stream, and all before it is read.
    has_ended: bool,
    /// The connection is of no more use, though what came before may be.
    failure: Option<io::ErrorKind>,
    /// Bytes that came before the handshake was finished.
    handshake: usize,
    /// Bytes that were encrypted last: as long as the socket has not taken them they are here.
    encrypted: usize,
}

impl Tls {
    pub fn new(tcp: TcpStream, tls_config: &TlsConfig) -> io::Result<Self> {
        let session = ServerConnection::new(tls_config.0.clone()).map_err(io::Error::other)?;
        Ok(Tls {
            tcp,
            session,
            is_emptied: false,
            has_ended: false,
            failure: None,
            handshake: 0,
            encrypted: 0,
        })
    }

    /// Reads and decrypts until the buffer is full or nothing is there.
    ///
    /// # Errors
    /// `InvalidData` where it is no TLS, or none that was agreed on; those of the socket.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.is_emptied = false;
        let mut len = 0;
        let mut fruitless = 0;
        loop {
            match self.session.reader().read(&mut buffer[len..]) {
                // The buffer is full, or the other side has said that this is the end: with what came before it, that is
                // to be read at the next turn, and the system tells nothing more of it.
                Ok(0) => {
                    self.has_ended = len < buffer.len();
                    return Ok(len);
                }
                Ok(n) => {
                    len += n;
                    fruitless = 0;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // The end, unannounced. Requests have their lengths with them: none is cut short unnoticed.
                Err(_) => return Ok(len),
            }
            let failed = match self.failure {
                Some(kind) => kind,
                None if self.is_emptied || fruitless >= FRUITLESS_BYTES_MAX => io::ErrorKind::WouldBlock,
                None => {
                    fruitless += self.read_records();
                    continue;
                }
            };
            // What was decrypted comes first: the next read returns the failure.
            return if len > 0 { Ok(len) } else { Err(failed.into()) };
        }
    }

    /// Takes a piece from the socket, decrypts it, and answers what belongs to TLS. How many bytes it was.
    fn read_records(&mut self) -> usize {
        let was_handshaking = self.session.is_handshaking();
        let mut source = TrackedReader { tcp: &mut self.tcp, is_emptied: &mut self.is_emptied };
        let taken = self.session.read_tls(&mut source);
        let done = taken.and_then(|n| match self.session.process_new_packets() {
            Ok(_) if was_handshaking && self.session.is_handshaking() => {
                self.handshake += n;
                if self.handshake <= HANDSHAKE_BYTES_MAX {
                    Ok(n)
                } else {
                    Err(io::ErrorKind::InvalidData.into())
                }
            }
            Ok(_) => Ok(n),
            Err(_) => {
                // The alert says why, if the socket takes it; the connection ends either way.
                let _ = self.flush();
                Err(io::ErrorKind::InvalidData.into())
            }
        });
        let done = done.and_then(|n| self.flush().map(|_| n));
        match done.map_err(|error| error.kind()) {
            Ok(n) => return n,
            Err(io::ErrorKind::WouldBlock) => self.is_emptied = true,
            Err(io::ErrorKind::Interrupted) => {}
            Err(kind) => {
                self.failure = Some(kind);
                self.is_emptied = false;
            }
        }
        0
    }

    /// Encrypts a piece, and hands the socket what it takes of it.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.flush()?;
        if self.held() > 0 || self.session.is_handshaking() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.encrypted = self.session.writer().write(bytes)?;
        self.flush()?;
        Ok(self.encrypted)
    }

    /// Hands the socket what is encrypted: how many bytes it took.
    pub fn flush(&mut self) -> io::Result<usize> {
        let mut sent = 0;
        while self.session.wants_write() {
            match self.session.write_tls(&mut self.tcp) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => sent += n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(sent)
    }

    /// Bytes that were written and are here, before their encryption: 0 where there is nothing.
    pub fn held(&self) -> usize {
        if self.session.wants_write() { self.encrypted.max(1) } else { 0 }
    }

    /// Whether the last read has left nothing, here and in the socket. The end is something: it is to be read.
    pub fn is_emptied(&self) -> bool {
        self.is_emptied && !self.has_ended
    }

    /// Whether both sides have come to terms, and kept to them.
    pub fn is_handshake_done(&self) -> bool {
        !self.session.is_handshaking() && self.failure != Some(io::ErrorKind::InvalidData)
    }

    /// Says that nothing more comes, if the socket takes it.
    pub fn send_close_notify(&mut self) {
        self.session.send_close_notify();
        let _ = self.flush();
    }
}

/// The socket, which remembers whether it was emptied.
struct TrackedReader<'a> {
    tcp: &'a mut TcpStream,
    is_emptied: &'a mut bool,
}

impl Read for TrackedReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.tcp.read(buffer)?;
        // The end is no emptiness: it is to be read.
        *self.is_emptied = (1..buffer.len()).contains(&n);
        Ok(n)
    }
}
