//! The context of a command: what a worker needs to run requests, one request with its session, and what
//! follows from it.

use crate::command::xadd::Publisher;
use crate::feed::event::Record;
use crate::feed::subscribers::Subscribers;
use crate::feed::view_requests::ViewRequestSender;
use crate::feed::watermark::Watermarks;
use crate::net::connection::{ConnectionKey, FinishedWait, RoomWait, Session};
use crate::resp::{Parser, Reply};
use crate::server::clock::ServerClock;
use crate::server::metrics::End;
use crate::server::state::{Shared, WorkerMessage};
use pelton::engine::Engine;
use pelton::words::printable;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// How long a turn may take before it ends with the request that is being run.
pub(crate) const TURN: Duration = Duration::from_micros(100);

/// What a worker needs to run commands.
pub(crate) struct CommandContext {
    pub publisher: Publisher,
    pub shared: Arc<Shared>,
    pub clock: Arc<ServerClock>,
    pub subscribers: Subscribers,
    /// Weak: the engine ends with its server.
    pub engine: Weak<Engine<Record>>,
    /// Sends requests to the thread that reads views.
    pub view_requests: ViewRequestSender,
    pub watermarks: Arc<Watermarks>,
    /// The inboxes of all workers.
    pub inboxes: Vec<Sender<WorkerMessage>>,
    pub thread: usize,
    /// When the turn of the connection that is served should end.
    pub turn_ends: Instant,
    /// Whether a request has finished after that.
    pub has_overrun: bool,
}

impl CommandContext {
    /// Begins the turn of a connection.
    #[inline]
    pub fn begin_turn(&mut self) {
        let now = self.clock.now();
        // Events that a read brings get the time of that read.
        self.publisher.ids.tick(self.clock.ms_at(now));
        self.turn_ends = now + TURN;
        self.has_overrun = false;
    }

    /// Whether the turn should end. A request that runs in pieces checks this after each of them.
    pub fn is_turn_over(&self) -> bool {
        self.clock.now() >= self.turn_ends
    }
}

/// One request, and the connection that makes it.
pub(crate) struct Request<'a> {
    pub parser: &'a Parser,
    pub input: &'a [u8],
    /// The bytes of the request alone.
    pub bytes: &'a [u8],
    pub session: &'a mut Session,
    pub key: ConnectionKey,
    pub is_critical: bool,
    pub reply: Reply<'a>,
    /// How this request has waited for room, if it has.
    pub waited: Option<FinishedWait>,
}

impl Request<'_> {
    /// An argument; the name of the command is the first.
    #[inline(always)]
    pub fn arg(&self, at: usize) -> &[u8] {
        self.parser.arg(self.input, at)
    }

    /// Whether an argument is this word, in capitals or not.
    pub fn is(&self, at: usize, word: &str) -> bool {
        at < self.parser.len() && self.arg(at).eq_ignore_ascii_case(word.as_bytes())
    }

    /// The first bytes of an argument for an error, printable.
    pub fn text(&self, at: usize) -> String {
        const BYTES_MAX: usize = 128;
        let bytes = self.arg(at);
        printable(&String::from_utf8_lossy(&bytes[..bytes.len().min(BYTES_MAX)]))
    }

    pub fn len(&self) -> usize {
        self.parser.len()
    }
}

/// What the connection does after a command.
pub(crate) enum Action {
    /// It goes on with the next request.
    Continue,
    /// It waits for room in a lane, with this request.
    AwaitRoom(RoomWait),
    /// It waits for a view that is being read.
    AwaitView,
    /// It runs the rest of this request in its next turn.
    Resume,
    /// It runs these requests before the rest of its input.
    Replay(Vec<u8>),
    /// It closes when everything is written.
    Close(End),
}

/// A command, or a part of one: `CLIENT` and its `ID`.
pub(crate) struct Command {
    pub name: &'static str,
    /// The number of arguments with the name; a minimum if negative.
    pub arity: i32,
    /// Whether it runs before authentication.
    pub is_allowed_before_auth: bool,
    /// Whether a RESP2 connection may run it while subscribed.
    pub is_allowed_while_subscribed: bool,
    /// Its summary in `COMMAND DOCS` and `HELP`.
    pub what: &'static str,
    pub run: fn(&mut CommandContext, &mut Request<'_>) -> Action,
    /// Its subcommands.
    pub parts: &'static [Command],
}

impl Command {
    /// A command that needs authentication, and cannot run while subscribed.
    pub const fn new(
        name: &'static str,
        arity: i32,
        what: &'static str,
        run: fn(&mut CommandContext, &mut Request<'_>) -> Action,
    ) -> Self {
        Command {
            name,
            arity,
            is_allowed_before_auth: false,
            is_allowed_while_subscribed: false,
            what,
            run,
            parts: &[],
        }
    }

    /// Whether it takes this many arguments.
    pub fn takes(&self, len: usize) -> bool {
        let arity = self.arity.unsigned_abs() as usize;
        if self.arity < 0 { len >= arity } else { len == arity }
    }
}
