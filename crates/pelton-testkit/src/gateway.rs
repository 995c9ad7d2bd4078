//! A gateway in this process, and clients that speak its protocol by hand: what they were told is kept, and compared
//! with what the server counted, with the ledger, and with what handlers saw.

use crate::proof::Door;
use pelton::clock::{Clock, VirtualTime};
use pelton::event::Rejection;
use pelton::{Class, Context, Event, Handler, Plan, Profile, Verdict};
use pelton_gateway::resp::pair;
use pelton_gateway::{Counts, Id, KeyFrom, Options, Record, Server, ServerReport, Stream};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// How long an answer may take. The watchdog of a test barks later.
const PATIENCE: Duration = Duration::from_secs(40);

/// What a stop of these tests may take.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// What a server says.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    Simple(String),
    Error(String),
    Integer(i64),
    Bulk(Vec<u8>),
    Null,
    Array(Vec<Reply>),
    Map(Vec<(Reply, Reply)>),
    Push(Vec<Reply>),
    Double(String),
    Boolean(bool),
}

impl Reply {
    /// The text of a bulk string or a line.
    #[track_caller]
    pub fn text(&self) -> String {
        match self {
            Reply::Bulk(bytes) => String::from_utf8(bytes.clone()).unwrap(),
            Reply::Simple(text) | Reply::Error(text) | Reply::Double(text) => text.clone(),
            other => panic!("no text: {other:?}"),
        }
    }

    pub fn is_error(&self, begins: &str) -> bool {
        matches!(self, Reply::Error(text) if text.starts_with(begins))
    }

    #[track_caller]
    pub fn items(&self) -> &[Reply] {
        match self {
            Reply::Array(items) | Reply::Push(items) => items,
            other => panic!("no items: {other:?}"),
        }
    }

    /// The value of a name in a map, or in a list of names and values.
    #[track_caller]
    pub fn of(&self, name: &str) -> &Reply {
        let wanted = Reply::Bulk(name.into());
        let found = match self {
            Reply::Map(pairs) => pairs.iter().find(|(own, _)| *own == wanted).map(|(_, value)| value),
            Reply::Array(items) => items.chunks(2).find(|pair| pair[0] == wanted).map(|pair| &pair[1]),
            _ => None,
        };
        found.unwrap_or_else(|| panic!("no '{name}': {self:?}"))
    }
}

/// Reads a reply at the beginning of `bytes`: it, and how long it is. `None` where it is not all there.
fn parse(bytes: &[u8]) -> Option<(Reply, usize)> {
    let end = bytes.windows(2).position(|two| two == b"\r\n")?;
    let line = std::str::from_utf8(&bytes[1..end]).expect("a line is text");
    let number = || line.parse::<i64>().unwrap_or_else(|error| panic!("{error}: {line}"));
    let mut at = end + 2;
    let several = |n: i64, at: &mut usize| {
        let mut items = Vec::new();
        for _ in 0..n {
            let (item, length) = parse(&bytes[*at..])?;
            *at += length;
            items.push(item);
        }
        Some(items)
    };
    let reply = match bytes[0] {
        b'+' => Reply::Simple(line.into()),
        b'-' => Reply::Error(line.into()),
        b':' => Reply::Integer(number()),
        b',' => Reply::Double(line.into()),
        b'#' => Reply::Boolean(line == "t"),
        b'_' => Reply::Null,
        b'$' | b'*' if line == "-1" => Reply::Null,
        kind @ (b'$' | b'=') => {
            let length = number() as usize;
            let text = bytes.get(at..at + length + 2)?;
            at += length + 2;
            assert_eq!(&text[length..], b"\r\n");
            // A verbatim string says first what it is.
            Reply::Bulk(text[if kind == b'=' { 4 } else { 0 }..length].to_vec())
        }
        b'*' => Reply::Array(several(number(), &mut at)?),
        b'>' => Reply::Push(several(number(), &mut at)?),
        b'%' => {
            let all = several(2 * number(), &mut at)?;
            Reply::Map(all.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect())
        }
        other => panic!("no reply begins with {:?}: {}", char::from(other), bytes.escape_ascii()),
    };
    Some((reply, at))
}

/// A request as clients write it.
pub fn request(args: &[&str]) -> Vec<u8> {
    let args: Vec<_> = args.iter().map(|arg| arg.as_bytes()).collect();
    request_of(&args)
}

pub fn request_of(args: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        bytes.extend(format!("${}\r\n", arg.len()).into_bytes());
        bytes.extend_from_slice(arg);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// An `XADD` of event `n` by whoever is called `who`.
pub fn xadd(stream: &str, who: &str, n: u64) -> Vec<u8> {
    request(&["XADD", stream, "*", "who", who, "n", &n.to_string()])
}

/// So many, from `first` on.
pub fn xadds(stream: &str, who: &str, first: u64, count: u64) -> Vec<u8> {
    (first..first + count).flat_map(|n| xadd(stream, who, n)).collect()
}

trait Wire: Read + Write + Send {
    fn patience(&self, span: Duration);
    fn end(&self, how: Shutdown);
}

impl Wire for TcpStream {
    fn patience(&self, span: Duration) {
        self.set_read_timeout(Some(span)).unwrap();
        self.set_write_timeout(Some(PATIENCE)).unwrap();
    }
    fn end(&self, how: Shutdown) {
        let _ = self.shutdown(how);
    }
}

impl Wire for UnixStream {
    fn patience(&self, span: Duration) {
        self.set_read_timeout(Some(span)).unwrap();
        self.set_write_timeout(Some(PATIENCE)).unwrap();
    }
    fn end(&self, how: Shutdown) {
        let _ = self.shutdown(how);
    }
}

/// A connection, and what is read of it and not looked at yet.
pub struct Client {
    wire: Box<dyn Wire>,
    read: Vec<u8>,
    at: usize,
    /// The last id that it was given.
    last: Option<Id>,
}

impl Client {
    /// A client that has authenticated.
    #[track_caller]
    pub fn known(address: &str, password: &str) -> Self {
        let mut client = Client::new(address);
        assert_eq!(client.ask(&["AUTH", password]).text(), "OK");
        client
    }

    /// One over a connection that is there.
    pub fn over(tcp: TcpStream) -> Self {
        Client::of(tcp)
    }

    fn of(wire: impl Wire + 'static) -> Self {
        wire.patience(PATIENCE);
        Client { wire: Box::new(wire), read: Vec::new(), at: 0, last: None }
    }

    /// Connects to an address, or a path.
    #[track_caller]
    pub fn new(address: &str) -> Self {
        if address.starts_with('/') {
            return Client::of(UnixStream::connect(address).unwrap());
        }
        let tcp = TcpStream::connect(address).unwrap();
        tcp.set_nodelay(true).unwrap();
        Client::of(tcp)
    }

    /// One whose system holds little of what it does not read.
    pub fn narrow(address: &str) -> Self {
        Client::of(narrow(address))
    }

    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        self.wire.write_all(bytes).unwrap();
    }

    /// Writes as long as the other side takes it.
    pub fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.wire.write_all(bytes).is_ok()
    }

    /// Says nothing more.
    pub fn end(&self) {
        self.wire.end(Shutdown::Write);
    }

    /// Reads what is there, for `span` at most; `None` where nothing comes, 0 where it has ended.
    fn fill(&mut self, span: Duration) -> Option<usize> {
        self.wire.patience(span);
        let mut room = [0; 1 << 16];
        match self.wire.read(&mut room) {
            Ok(n) => {
                self.read.drain(..std::mem::take(&mut self.at));
                self.read.extend_from_slice(&room[..n]);
                Some(n)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
                Some(0)
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// The next reply; `None` where the connection ends first.
    #[track_caller]
    pub fn next(&mut self) -> Option<Reply> {
        loop {
            if self.at < self.read.len()
                && let Some((reply, length)) = parse(&self.read[self.at..])
            {
                self.at += length;
                return Some(reply);
            }
            match self.fill(PATIENCE) {
                Some(0) => {
                    assert!(self.at == self.read.len(), "cut: {}", self.read[self.at..].escape_ascii());
                    return None;
                }
                Some(_) => {}
                None => panic!("no answer within {PATIENCE:?}; read {}", self.read[self.at..].escape_ascii()),
            }
        }
    }

    /// The next reply.
    #[track_caller]
    pub fn read(&mut self) -> Reply {
        self.next().expect("the connection goes on")
    }

    /// What comes within `span`, if anything does.
    pub fn within(&mut self, span: Duration) -> Option<Reply> {
        let begun = Instant::now();
        loop {
            if self.at < self.read.len()
                && let Some((reply, length)) = parse(&self.read[self.at..])
            {
                self.at += length;
                return Some(reply);
            }
            let left = span.saturating_sub(begun.elapsed());
            if left.is_zero() || self.fill(left)? == 0 {
                return None;
            }
        }
    }

    /// At most so many bytes, as they come; 0 at the end, `None` where there are none now.
    pub fn sip(&mut self, max: usize, span: Duration) -> Option<usize> {
        self.wire.patience(span);
        let mut room = vec![0; max];
        match self.wire.read(&mut room) {
            Ok(n) => {
                self.read.extend_from_slice(&room[..n]);
                Some(n)
            }
            Err(_) => None,
        }
    }

    /// Replies that are whole in what was read.
    pub fn whole(&mut self) -> Vec<Reply> {
        let mut all = Vec::new();
        while self.at < self.read.len()
            && let Some((reply, length)) = parse(&self.read[self.at..])
        {
            self.at += length;
            all.push(reply);
        }
        self.read.drain(..std::mem::take(&mut self.at));
        all
    }

    #[track_caller]
    pub fn ask(&mut self, args: &[&str]) -> Reply {
        self.send(&request(args));
        self.read()
    }

    /// All replies until the connection ends.
    #[track_caller]
    pub fn rest(&mut self) -> Vec<Reply> {
        std::iter::from_fn(|| self.next()).collect()
    }

    #[track_caller]
    pub fn ping(&mut self) {
        assert_eq!(self.ask(&["PING"]), Reply::Simple("PONG".into()));
    }

    /// Waits until the worker of this connection has run a whole round at the time that it is now: it reads the clock when
    /// it has received the first request, and the second one only after all that the first one's round does.
    #[track_caller]
    pub fn pass_a_round(&mut self) {
        self.ping();
        self.ping();
    }

    /// Reads the answers to so many `XADD`s, and keeps them in a tally.
    #[track_caller]
    pub fn take(&mut self, stream: &str, count: u64, tally: &mut Tally) {
        for _ in 0..count {
            let reply = self.read();
            self.note(stream, &reply, tally);
        }
    }

    /// Keeps an answer to an `XADD`.
    #[track_caller]
    pub fn note(&mut self, stream: &str, reply: &Reply, tally: &mut Tally) {
        if let Some(id) = tally.note(stream, reply) {
            assert!(self.last < Some(id), "{id} after {:?}", self.last);
            self.last = Some(id);
        }
    }
}

/// A connection whose system holds little of what it does not read.
pub fn narrow(address: &str) -> TcpStream {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4 << 10).unwrap();
    let address: std::net::SocketAddr = address.parse().unwrap();
    socket.connect(&address.into()).unwrap();
    socket.into()
}

/// Ends a connection so that the other side is told that it was reset.
pub fn reset(tcp: TcpStream) {
    socket2::SockRef::from(&tcp).set_linger(Some(Duration::ZERO)).unwrap();
}

/// What clients were told of one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    pub ids: BTreeSet<Id>,
    pub busy: u64,
    pub dropped: u64,
    pub refused: u64,
    /// Refusals that the engine never heard of.
    pub unoffered: u64,
}

/// What clients were told.
#[derive(Clone, Debug, Default)]
pub struct Tally(pub BTreeMap<String, Told>);

/// An id, as it is written.
#[track_caller]
pub fn id(text: &str) -> Id {
    let (ms, sequence) = text.split_once('-').unwrap_or_else(|| panic!("no id: {text}"));
    Id { ms: ms.parse().unwrap(), sequence: sequence.parse().unwrap() }
}

impl Tally {
    #[track_caller]
    pub fn note(&mut self, stream: &str, reply: &Reply) -> Option<Id> {
        let told = self.0.entry(stream.into()).or_default();
        match reply {
            Reply::Bulk(_) => {
                let id = id(&reply.text());
                assert!(told.ids.insert(id), "{id} twice");
                return Some(id);
            }
            Reply::Error(text) if text.starts_with("BUSY ") => told.busy += 1,
            Reply::Error(text) if text.starts_with("DROPPED ") => told.dropped += 1,
            Reply::Error(text) => {
                told.refused += 1;
                told.unoffered += u64::from(!text.starts_with("ERR not accepted"));
            }
            other => panic!("no answer to an XADD: {other:?}"),
        }
        None
    }

    pub fn of(&self, stream: &str) -> Told {
        self.0.get(stream).cloned().unwrap_or_default()
    }

    /// What others were told, too.
    #[track_caller]
    pub fn add(&mut self, other: Tally) {
        for (stream, told) in other.0 {
            let own = self.0.entry(stream).or_default();
            own.busy += told.busy;
            own.dropped += told.dropped;
            own.refused += told.refused;
            own.unoffered += told.unoffered;
            for id in told.ids {
                assert!(own.ids.insert(id), "{id} twice");
            }
        }
    }
}

/// What one shard saw: of each event its id, who sent it, and its number.
pub type Seen = Vec<(u16, Id, String, u64)>;

/// Writes down what it sees, and waits at a door before each event.
pub struct Book {
    seen: Seen,
    door: Door,
}

impl Handler<Record> for Book {
    type Output = Seen;

    fn on_event(&mut self, event: &mut Event<'_, Record>, _: &mut Context<'_, Record>) -> Verdict {
        self.door.wait();
        let text =
            |name: &[u8]| pair(event.payload(), name).map(|at| String::from_utf8_lossy(at).into_owned());
        let n = text(b"n").and_then(|n| n.parse().ok()).unwrap_or(u64::MAX);
        self.seen.push((event.stream, event.id, text(b"who").unwrap_or_default(), n));
        Verdict::Done
    }

    fn on_stop(self, _: &mut Context<'_, Record>) -> Seen {
        self.seen
    }
}

/// A class with room for payloads.
pub fn class(name: &str, slots: u32) -> Class {
    Class::weighted(name, 1).with_capacity(slots).with_payload_bytes(1 << 20)
}

/// A gateway with these classes, each with a stream of its name, whose key is who sends.
pub fn options(shards: u16, threads: u16, classes: impl IntoIterator<Item = Class>) -> Options {
    let mut plan: Plan = Options::base(Profile::Dev)
        .unpinned()
        .with_overcommitted(true)
        .with_announce(false)
        .with_shards(shards)
        .with_producers_max(threads);
    let mut streams = Vec::new();
    for class in classes {
        streams.push(Stream::new(class.name(), class.name()).keyed(KeyFrom::Field("who".into())));
        plan.class(class);
    }
    Options { streams, threads, listen: vec!["127.0.0.1:0".into()], ..Options::new(plan) }
}

/// The same gateway on a virtual clock, and the hand that moves it: no time passes but by this hand.
pub fn by_hand(options: Options) -> (Options, VirtualTime) {
    let (clock, time) = Clock::virtual_time();
    (Options { plan: options.plan.clone().with_clock(clock), ..options }, time)
}

/// A server whose handlers write down what they see, and wait at a door.
pub struct Site {
    pub server: Server,
    pub door: Door,
    pub address: String,
}

impl Site {
    /// One whose door is open.
    #[track_caller]
    pub fn open(options: Options) -> Self {
        let site = Site::closed(options);
        site.door.open();
        site
    }

    /// One whose shards are stalled until somebody opens the door.
    #[track_caller]
    pub fn closed(options: Options) -> Self {
        let door = Door::default();
        let of_shards = door.clone();
        let handler = move |_| Book { seen: Vec::new(), door: of_shards.clone() };
        let server = Server::start_with(options, handler).unwrap_or_else(|error| panic!("{error}"));
        let address = server.addresses()[0].address.clone();
        Site { server, door, address }
    }

    #[track_caller]
    pub fn client(&self) -> Client {
        Client::new(&self.address)
    }

    /// Waits until the counts are as they should be.
    #[track_caller]
    pub fn until(&self, what: &str, is_so: impl Fn(&Counts) -> bool) -> Counts {
        let begun = Instant::now();
        loop {
            let counts = self.server.counts();
            if is_so(&counts) {
                return counts;
            }
            assert!(begun.elapsed() < PATIENCE, "never: {what}; {counts:#?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Moves the clock on, step by step, until the counts are as they should be.
    #[track_caller]
    pub fn until_later(
        &self,
        (time, step): (&VirtualTime, Duration),
        what: &str,
        is_so: impl Fn(&Counts) -> bool,
    ) -> Counts {
        self.until(what, |counts| {
            let is_now = is_so(counts);
            if !is_now {
                time.advance(step);
            }
            is_now
        })
    }

    /// Stops it, and holds all books against each other.
    #[track_caller]
    pub fn settle(mut self, tally: &Tally) -> ServerReport {
        self.door.open();
        let mut report = self.server.stop(DEADLINE).unwrap();
        assert!(report.engine.drained, "{:?}", report.engine.ledger.total());
        agree(&self.server, &report, tally);
        witnessed(&mut report, tally);
        report
    }
}

/// What clients were told is what the gateway counted, and what the ledger says.
#[track_caller]
pub fn agree(server: &Server, report: &ServerReport, tally: &Tally) {
    crate::proof::assert_closed(&report.engine);
    let ledger = &report.engine.ledger;
    for stream in &report.gateway.streams {
        let told = tally.of(&stream.name);
        let counted = (stream.accepted, stream.busy, stream.dropped, stream.refused);
        assert_eq!(
            counted,
            (told.ids.len() as u64, told.busy, told.dropped, told.refused),
            "accepted, busy, dropped, refused of '{}': counted, and told",
            stream.name
        );
        if let Some(last) = told.ids.last() {
            assert_eq!(stream.last, *last);
        }
        // Each class of these servers has one stream, of its name.
        let class = server.engine().plan().class_named(&stream.name).unwrap();
        let counts = ledger.class(class);
        let rejected =
            |reasons: &[Rejection]| reasons.iter().map(|reason| counts.rejected_for(*reason)).sum();
        let busy: u64 = rejected(&[Rejection::SlotsFull, Rejection::BytesFull, Rejection::TimedOut]);
        let others: u64 = rejected(&[Rejection::TooLarge, Rejection::Closed]);
        assert_eq!(
            (counts.accepted, busy, counts.rejected_for(Rejection::DroppedNewest), others),
            (stream.accepted, stream.busy, stream.dropped, told.refused - told.unoffered),
            "accepted, busy, dropped, refused of '{}': in the ledger, and counted",
            stream.name
        );
        assert_eq!(counts.offered, counts.accepted + counts.rejected_total());
        assert_eq!(
            counts.accepted,
            counts.handled + counts.expired + counts.failed_total() + counts.in_flight
        );
    }
}

/// Handlers saw what was accepted, each once, and each sender's in its order.
#[track_caller]
pub fn witnessed(report: &mut ServerReport, tally: &Tally) {
    assert!(report.engine.shards.iter().all(|shard| shard.stopped), "a shard did not end in time");
    let mut seen: Vec<BTreeSet<Id>> = vec![BTreeSet::new(); report.gateway.streams.len()];
    let mut last: BTreeMap<(u16, String), u64> = BTreeMap::new();
    for (stream, id, who, n) in report.engine.outputs::<Seen>().into_iter().flatten() {
        assert!(seen[usize::from(stream)].insert(id), "{id} was handled twice");
        if n != u64::MAX
            && let Some(before) = last.insert((stream, who.clone()), n)
        {
            assert!(before < n, "{who}: {n} after {before}");
        }
    }
    for (at, stream) in report.gateway.streams.iter().enumerate() {
        let told = tally.of(&stream.name);
        let (seen, told) = (&seen[at], &told.ids);
        assert!(
            seen == told,
            "stream '{}': handled and not told {:?}, told and not handled {:?}",
            stream.name,
            seen.difference(told).collect::<Vec<_>>(),
            told.difference(seen).collect::<Vec<_>>()
        );
    }
}
