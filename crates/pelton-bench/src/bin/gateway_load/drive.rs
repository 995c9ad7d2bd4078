//! Many connections on one thread, each with requests under way: modes `pipeline`, `many`, `flood`.
//!
//! # Mechanism
//! All requests are the same bytes, so what a connection has to write is a number of bytes and a place in the frame, and
//! is written from one buffer that they all share. A closed loop grants a connection its next requests when answers have
//! come: all of them (`many`, as redis-benchmark does), or half of them (`pipeline`, which never runs dry). An open loop
//! (`flood`) grants by the clock, to one connection after the other; where one has its full number under way the grant
//! is held back and counted.
//!
//! When time is up nothing more is granted, what is not yet begun is taken back, and the answers to all the rest are
//! waited for, ten seconds at most.

use crate::args::Args;
use crate::failure::{Failure, failed};
use crate::link::{Link, Server};
use crate::wire::{self, Tally};
use mio::{Events, Poll, Token};
use serde_json::json;
use std::io;
use std::time::{Duration, Instant};

/// How long answers are waited for when nothing more is sent.
const DRAIN: Duration = Duration::from_secs(10);
/// How often an open loop grants.
const TURN: Duration = Duration::from_millis(1);
/// The buffer that requests are written from holds at least this much, and at least one.
const WRITE_BYTES: usize = 256 << 10;
const READ_BYTES: usize = 256 << 10;

struct Settings {
    server: Server,
    connections: usize,
    pipeline: u64,
    /// New requests are granted when no more than these are under way.
    refill_at: u64,
    /// Requests a second; a closed loop without it.
    rate: Option<u64>,
    requests_max: u64,
    seconds: u64,
    frame: Vec<u8>,
    payload_bytes: usize,
}

impl Settings {
    fn of(args: &mut Args) -> Result<Self, Failure> {
        let (connections, pipeline) = match args.mode.as_str() {
            "pipeline" => (1, 8192),
            "many" => (50, 16),
            _ => (1000, 64),
        };
        let connections = args.number("connections", 1..=60_000)?.unwrap_or(connections);
        let pipeline = args.number("pipeline", 1..=1_000_000)?.unwrap_or(pipeline);
        let rate = match args.mode.as_str() {
            "flood" => Some(args.number("rate", 1..=100_000_000)?.unwrap_or(100_000)),
            _ => None,
        };
        let payload_bytes = args.number("payload", 1..=1 << 20)?.unwrap_or(40);
        let stream = args.text("stream").unwrap_or_else(|| "mystream".to_owned());
        let seed = args.number("seed", 0..=u64::MAX)?.unwrap_or(1);
        Ok(Settings {
            server: Server::of(args),
            connections,
            pipeline,
            refill_at: if args.mode == "many" { 0 } else { pipeline / 2 },
            rate,
            requests_max: args.number("requests", 1..=u64::MAX)?.unwrap_or(u64::MAX),
            seconds: args.number("seconds", 1..=3600)?.unwrap_or(5),
            frame: wire::xadd(&stream, payload_bytes, seed),
            payload_bytes,
        })
    }
}

struct Connection {
    /// None when it is lost.
    link: Option<Link>,
    /// Requests granted and not answered.
    under_way: u64,
    /// Bytes granted and not written.
    unwritten: u64,
    /// Where in the frame the next byte to be written lies.
    at: usize,
    /// The beginning of an answer whose end has not come.
    rest: Vec<u8>,
    last_id: (u64, u64),
    answered: u64,
}

struct Load {
    settings: Settings,
    connections: Vec<Connection>,
    requests: Vec<u8>,
    buffer: Vec<u8>,
    granted: u64,
    lost: u64,
    tally: Tally,
}

/// Runs a mode; says whether all was as it should be.
pub fn run(args: &mut Args) -> Result<bool, Failure> {
    let settings = Settings::of(args)?;
    args.all_known()?;
    let mut poll = Poll::new().map_err(failed("epoll"))?;
    let mut load = Load::connect(settings, &poll)?;
    let begun = Instant::now();
    load.turn_until(&mut poll, begun, begun + Duration::from_secs(load.settings.seconds))
        .map_err(failed("epoll"))?;
    let seconds = begun.elapsed().as_secs_f64();
    let in_time = load.tally.accepted;
    let each: Vec<u64> = load.connections.iter().map(|connection| connection.answered).collect();
    let due = load.due(begun.elapsed());
    load.take_back();
    load.drain(&mut poll).map_err(failed("epoll"))?;
    Ok(load.tell(args, seconds, in_time, each, due))
}

impl Load {
    fn connect(settings: Settings, poll: &Poll) -> Result<Self, Failure> {
        let mut connections = Vec::with_capacity(settings.connections);
        for at in 0..settings.connections {
            let link = settings.server.connect()?;
            let link = link.into_link(poll.registry(), Token(at));
            connections.push(Connection {
                link: Some(link.map_err(failed("a socket"))?),
                under_way: 0,
                unwritten: 0,
                at: 0,
                rest: Vec::new(),
                last_id: (0, 0),
                answered: 0,
            });
        }
        let frames = WRITE_BYTES.div_ceil(settings.frame.len());
        let requests = settings.frame.repeat(frames);
        let buffer = vec![0; READ_BYTES];
        Ok(Load { settings, connections, requests, buffer, granted: 0, lost: 0, tally: Tally::default() })
    }

    fn turn_until(&mut self, poll: &mut Poll, begun: Instant, end: Instant) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut next = 0;
        if self.settings.rate.is_none() {
            (0..self.connections.len()).for_each(|at| self.refill(at));
        }
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || self.lost == self.connections.len() as u64 {
                return Ok(());
            }
            if self.settings.rate.is_none() && self.tally.answered() >= self.settings.requests_max {
                return Ok(());
            }
            let wait = if self.settings.rate.is_some() { TURN } else { left };
            poll.poll(&mut events, Some(wait))?;
            for event in &events {
                let at = event.token().0;
                self.attend(at, event.is_read_closed());
                if self.settings.rate.is_none() {
                    self.refill(at);
                }
            }
            if self.settings.rate.is_some() {
                let due = self.due(begun.elapsed());
                if self.granted >= self.settings.requests_max {
                    return Ok(());
                }
                self.grant_due(due, &mut next);
            }
        }
    }

    /// How many requests an open loop is to have sent by now.
    fn due(&self, elapsed: Duration) -> u64 {
        let rate = self.settings.rate.unwrap_or(0) as f64;
        ((elapsed.as_secs_f64() * rate) as u64).min(self.settings.requests_max)
    }

    /// Grants what is due, shared among connections in turn, as far as they may have more under way.
    fn grant_due(&mut self, due: u64, next: &mut usize) {
        let connections = self.connections.len();
        let share = (due.saturating_sub(self.granted) / connections as u64).clamp(1, self.settings.pipeline);
        for _ in 0..connections {
            let missing = due.saturating_sub(self.granted);
            if missing == 0 {
                return;
            }
            let at = *next;
            *next = (at + 1) % connections;
            let room = self.settings.pipeline - self.connections[at].under_way;
            self.grant(at, share.min(missing).min(room));
        }
    }

    /// Closed loop: grants up to a full pipeline when few enough are under way.
    #[inline]
    fn refill(&mut self, at: usize) {
        let under_way = self.connections[at].under_way;
        if under_way <= self.settings.refill_at {
            let left = self.settings.requests_max - self.granted;
            self.grant(at, (self.settings.pipeline - under_way).min(left));
        }
    }

    fn grant(&mut self, at: usize, requests: u64) {
        let connection = &mut self.connections[at];
        if requests == 0 || connection.link.is_none() {
            return;
        }
        self.granted += requests;
        connection.under_way += requests;
        let idle = connection.unwritten == 0;
        connection.unwritten += requests * self.settings.frame.len() as u64;
        // A connection that has not written all waits for its socket.
        if idle {
            self.write(at);
        }
    }

    fn attend(&mut self, at: usize, to_end: bool) {
        self.read(at, to_end);
        if self.connections[at].unwritten > 0 {
            self.write(at);
        }
    }

    fn write(&mut self, at: usize) {
        let connection = &mut self.connections[at];
        while connection.unwritten > 0 {
            let Some(link) = connection.link.as_mut() else { return };
            let from = &self.requests[connection.at..];
            let bytes = from.len().min(connection.unwritten as usize);
            match link.write(&from[..bytes]) {
                Ok(Some(written)) => {
                    connection.unwritten -= written as u64;
                    connection.at = (connection.at + written) % self.settings.frame.len();
                }
                Ok(None) => return,
                Err(error) => return self.lose(at, &format!("write:{:?}", error.kind())),
            }
        }
    }

    fn read(&mut self, at: usize, to_end: bool) {
        loop {
            let connection = &mut self.connections[at];
            let Some(link) = connection.link.as_mut() else { return };
            let begin = connection.rest.len();
            self.buffer[..begin].copy_from_slice(&connection.rest);
            let read = match link.read(&mut self.buffer[begin..]) {
                Ok(Some(0)) => return self.lose(at, "closed"),
                Ok(Some(bytes)) => bytes,
                Ok(None) => return,
                Err(error) => return self.lose(at, &format!("read:{:?}", error.kind())),
            };
            let mut bytes = &self.buffer[..begin + read];
            loop {
                match wire::reply(bytes) {
                    Ok(Some((reply, length))) if connection.under_way > 0 => {
                        self.tally.count(reply, &mut connection.last_id);
                        connection.under_way -= 1;
                        connection.answered += 1;
                        bytes = &bytes[length..];
                    }
                    Ok(None) => break,
                    Ok(Some(_)) => return self.lose(at, "unasked"),
                    Err(strange) => return self.lose(at, &format!("strange:{strange}")),
                }
            }
            connection.rest.clear();
            connection.rest.extend_from_slice(bytes);
            // Edge-triggered: a read that fills its buffer may have left something, and an end is told but once.
            if begin + read < self.buffer.len() && !to_end {
                return;
            }
        }
    }

    #[cold]
    fn lose(&mut self, at: usize, why: &str) {
        self.connections[at].link = None;
        self.lost += 1;
        self.tally.error(&format!("lost:{why}"));
    }

    /// Takes back the requests of which no byte is written.
    fn take_back(&mut self) {
        let frame = self.settings.frame.len() as u64;
        for connection in self.connections.iter_mut().filter(|connection| connection.link.is_some()) {
            let frames = connection.unwritten / frame;
            connection.unwritten -= frames * frame;
            connection.under_way -= frames;
            self.granted -= frames;
        }
    }

    fn drain(&mut self, poll: &mut Poll) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        let end = Instant::now() + DRAIN;
        while self.connections.iter().any(|connection| connection.link.is_some() && connection.under_way > 0)
        {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            poll.poll(&mut events, Some(left))?;
            events.iter().for_each(|event| self.attend(event.token().0, event.is_read_closed()));
        }
        Ok(())
    }

    fn tell(&self, args: &Args, seconds: f64, in_time: u64, mut each: Vec<u64>, due: u64) -> bool {
        each.sort_unstable();
        let (slowest, median, fastest) = (each[0], each[each.len() / 2], each[each.len() - 1]);
        let slowest_of_median = slowest as f64 / median.max(1) as f64;
        let unanswered: u64 = self.connections.iter().map(|connection| connection.under_way).sum();
        let (tally, settings) = (&self.tally, &self.settings);
        let per_second = in_time as f64 / seconds;
        let held = if settings.rate.is_some() { due.saturating_sub(self.granted) } else { 0 };
        if args.json {
            let told = json!({
                "mode": args.mode, "address": settings.server.address, "connections": settings.connections,
                "pipeline": settings.pipeline, "payload_bytes": settings.payload_bytes, "rate": settings.rate,
                "seconds": seconds, "sent": self.granted, "held": held,
                "accepted": tally.accepted, "busy": tally.busy, "dropped": tally.dropped,
                "errors": tally.errors, "out_of_order": tally.out_of_order, "unanswered": unanswered,
                "accepted_per_second": per_second,
                "per_connection": {
                    "slowest": slowest, "median": median, "fastest": fastest,
                    "slowest_of_median": slowest_of_median,
                },
            });
            println!("{told}");
        } else {
            let open = if held > 0 { format!(", held {held}") } else { String::new() };
            println!(
                "{per_second:.0} accepted/s ({} connections, {} under way, {seconds:.2} s)",
                settings.connections, settings.pipeline
            );
            println!(
                "sent {}{open}: accepted {}, busy {}, dropped {}, out of order {}, unanswered {unanswered}",
                self.granted, tally.accepted, tally.busy, tally.dropped, tally.out_of_order
            );
            println!(
                "answers per connection: {slowest}, {median}, {fastest} (slowest, median, fastest); slowest {slowest_of_median:.2} of the median"
            );
            for (kind, count) in &tally.errors {
                println!("error {kind}: {count}");
            }
        }
        tally.errors.is_empty() && tally.out_of_order == 0 && unanswered == 0
    }
}
