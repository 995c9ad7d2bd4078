//! A server that answers every request with the same id: the most that a client can be served, on one thread.
//!
//! It finds out how many requests there are and nothing else: of an array it reads the count, and of each bulk string the
//! length, by which it goes on. One write answers all that one read has brought.

use crate::args::Args;
use crate::failure::{Failure, failed};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

/// An id as redis-server gives it, in milliseconds of our time.
const ANSWER: &[u8] = b"$15\r\n1795273200000-0\r\n";
/// As much as redis-server reads at once.
const READ_BYTES: usize = 16 << 10;
/// More than one read can ask for: the shortest request that this server knows has four bytes.
const ANSWERS: usize = READ_BYTES / 4 + 1;
/// The longest request whose end is waited for.
const REQUEST_BYTES_MAX: usize = 1 << 20;
const LISTENER: Token = Token(usize::MAX);

struct Client {
    stream: TcpStream,
    /// The beginning of a request whose end has not come.
    rest: Vec<u8>,
    /// Bytes of answers that are not written.
    unwritten: usize,
}

pub fn run(args: &mut Args) -> Result<bool, Failure> {
    let address = args.text("address").unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let seconds = args.number("seconds", 1..=3600)?.unwrap_or(120);
    args.all_known()?;
    let address = address.parse().map_err(|_| Failure::Usage(format!("'{address}' is no address")))?;
    let mut listener = TcpListener::bind(address).map_err(failed(format!("listening on {address}")))?;
    let address = listener.local_addr().map_err(failed("the listener"))?;
    println!("listening tcp {address}");
    serve(&mut listener, Instant::now() + Duration::from_secs(seconds)).map_err(failed("serving"))?;
    Ok(true)
}

fn serve(listener: &mut TcpListener, end: Instant) -> io::Result<()> {
    let mut poll = Poll::new()?;
    poll.registry().register(listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(1024);
    let mut clients: HashMap<Token, Client> = HashMap::new();
    let mut named = 0;
    let answers = ANSWER.repeat(ANSWERS);
    let mut buffer = vec![0; REQUEST_BYTES_MAX + READ_BYTES];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        poll.poll(&mut events, Some(left))?;
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut stream, _)) = listener.accept() {
                    let token = Token(named);
                    named += 1;
                    stream.set_nodelay(true)?;
                    poll.registry().register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
                    clients.insert(token, Client { stream, rest: Vec::new(), unwritten: 0 });
                }
            } else if let Some(client) = clients.get_mut(&event.token())
                && client.attend(&mut buffer, &answers, event.is_read_closed()).is_err()
            {
                clients.remove(&event.token());
            }
        }
    }
}

impl Client {
    /// Answers all that has come; an error is the end of the connection.
    fn attend(&mut self, buffer: &mut [u8], answers: &[u8], to_end: bool) -> io::Result<()> {
        while self.answer(answers)? {
            let begin = self.rest.len();
            if begin > REQUEST_BYTES_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
            buffer[..begin].copy_from_slice(&self.rest);
            let read = match self.stream.read(&mut buffer[begin..begin + READ_BYTES]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let bytes = &buffer[..begin + read];
            let mut at = 0;
            while let Some(length) = request(&bytes[at..])? {
                at += length;
                self.unwritten += ANSWER.len();
            }
            self.rest.clear();
            self.rest.extend_from_slice(&bytes[at..]);
            // Edge-triggered: only a read that fills its buffer may have left something, and an end is told but once.
            if read < READ_BYTES && !to_end {
                self.answer(answers)?;
                return Ok(());
            }
        }
        Ok(())
    }

    /// Writes what is to be answered; false while the client does not take it.
    fn answer(&mut self, answers: &[u8]) -> io::Result<bool> {
        while self.unwritten > 0 {
            // A whole number of answers ends where they all do, so what is left begins where it must.
            let begin = (ANSWER.len() - self.unwritten % ANSWER.len()) % ANSWER.len();
            let bytes = self.unwritten.min(answers.len() - begin);
            match self.stream.write(&answers[begin..begin + bytes]) {
                Ok(written) => self.unwritten -= written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

/// The length of the first request; none while it is incomplete.
fn request(bytes: &[u8]) -> io::Result<Option<usize>> {
    let Some((count, mut at)) = header(bytes, b'*')? else { return Ok(None) };
    for _ in 0..count {
        let Some((length, header)) = header(bytes.get(at..).unwrap_or_default(), b'$')? else {
            return Ok(None);
        };
        at += header + length + 2;
    }
    Ok((at <= bytes.len()).then_some(at))
}

/// The number after `kind`, and the length of its line.
#[inline]
fn header(bytes: &[u8], kind: u8) -> io::Result<Option<(usize, usize)>> {
    let Some(&first) = bytes.first() else { return Ok(None) };
    let mut number = 0;
    for (at, &byte) in bytes.iter().enumerate().skip(1) {
        match byte {
            b'0'..=b'9' if number < REQUEST_BYTES_MAX => number = number * 10 + usize::from(byte - b'0'),
            b'\r' if first == kind => return Ok(Some((number, at + 2))),
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
    Ok(None)
}
