//! What a thread needs to carry out requests, and one request with who makes it.
#![forbid(unsafe_code)]

use super::closed::Closed;
use super::conn::{ConnKey, Room, Session, Waited};
use super::counts::End;
use super::mail::Mail;
use super::publish::Publisher;
use super::questions::Asker;
use super::record::Record;
use super::shared::Shared;
use super::subscriptions::Listeners;
use crate::engine::Engine;
use crate::resp::{Parser, Reply};
use crate::words::printable;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Weak};
use std::time::Instant;

/// What a thread needs to carry out commands.
pub(super) struct Desk {
    pub publisher: Publisher,
    pub shared: Arc<Shared>,
    pub listeners: Listeners,
    /// Weak: the engine ends with its server.
    pub engine: Weak<Engine<Record>>,
    /// The way to ask the thread that reads views.
    pub questions: Asker,
    pub closed: Arc<Closed>,
    /// The mailboxes of all threads.
    pub mail: Vec<Sender<Mail>>,
    pub thread: usize,
    /// When the turn of the connection that is served should end.
    pub turn_ends: Instant,
    /// Whether a request was carried out after that.
    pub is_over: bool,
}

impl Desk {
    /// Whether the turn should end. A request that can be carried out in pieces looks here after each of them.
    pub fn is_turn_over(&self) -> bool {
        Instant::now() >= self.turn_ends
    }
}

/// One request, and who makes it.
pub(super) struct Call<'a> {
    pub parser: &'a Parser,
    pub input: &'a [u8],
    /// The bytes of the request alone.
    pub request: &'a [u8],
    pub session: &'a mut Session,
    pub key: ConnKey,
    pub is_critical: bool,
    pub reply: Reply<'a>,
    /// How this request has waited for room, if it has.
    pub waited: Option<Waited>,
}

impl Call<'_> {
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

/// What is to become of the connection after a command.
pub(super) enum Next {
    /// It goes on.
    Goes,
    /// It waits for room in a lane, with this command.
    Waits(Room),
    /// It waits for a view that is being read.
    Asks,
    /// The rest of this request is carried out in the connection's next turn.
    Again,
    /// These requests come before what else it has said.
    Repeats(Vec<u8>),
    /// It ends when everything is written.
    Ends(End),
}

/// A command, or a part of one: `CLIENT` and its `ID`.
pub(super) struct Command {
    pub name: &'static str,
    /// Arguments with the names; at least so many where negative.
    pub arity: i32,
    /// Whether it is carried out before the password is said.
    pub is_for_strangers: bool,
    /// Whether a subscriber may say it in RESP2.
    pub is_for_subscribers: bool,
    /// What it does, as `COMMAND DOCS` tells it, or `HELP`.
    pub what: &'static str,
    pub run: fn(&mut Desk, &mut Call<'_>) -> Next,
    /// What the word behind the name may be; empty where that is no part.
    pub parts: &'static [Command],
}

impl Command {
    /// One that is for those who are known, and do not listen.
    pub const fn new(
        name: &'static str,
        arity: i32,
        what: &'static str,
        run: fn(&mut Desk, &mut Call<'_>) -> Next,
    ) -> Self {
        Command { name, arity, is_for_strangers: false, is_for_subscribers: false, what, run, parts: &[] }
    }

    /// Whether it takes so many arguments.
    pub fn takes(&self, len: usize) -> bool {
        let arity = self.arity.unsigned_abs() as usize;
        if self.arity < 0 { len >= arity } else { len == arity }
    }
}
