//! Commands: one row for each, and what carries it out.
#![forbid(unsafe_code)]

use super::conn::Session;
use super::counts::End;
use super::desk::{Call, Command, Desk, Next, no_part};
use super::info;
use super::publish::Added;
use super::pubsub;
use super::query;
use super::session;
use super::transaction;
use crate::resp::{Reply, Version};

const fn row(
    name: &'static str,
    arity: i32,
    what: &'static str,
    run: fn(&mut Desk, &mut Call<'_>) -> Next,
) -> Command {
    Command { name, arity, is_for_strangers: false, is_for_subscribers: false, what, run }
}

const fn open(command: Command) -> Command {
    Command { is_for_strangers: true, ..command }
}

const fn listening(command: Command) -> Command {
    Command { is_for_subscribers: true, ..command }
}

/// All commands, the frequent ones first.
pub(super) const COMMANDS: &[Command] = &[
    row("XADD", -5, "Publishes an event to a stream.", add),
    listening(row("PING", -1, "Answers.", session::ping)),
    row("ECHO", 2, "Answers with what was said.", session::echo),
    open(row("HELLO", -1, "Agrees on the version of the protocol.", session::hello)),
    open(row("AUTH", -2, "Says the password.", session::auth)),
    open(listening(row("QUIT", -1, "Ends the connection.", session::quit))),
    open(listening(row("RESET", 1, "Begins the connection anew.", session::reset))),
    row("SELECT", 2, "Chooses the database, of which there is one.", session::select),
    row("CLIENT", -2, "Tells of connections.", session::client),
    row("COMMAND", -1, "Tells of commands.", command),
    row("CONFIG", -2, "Tells of settings.", info::config),
    row("INFO", -1, "Tells of the server.", info::info),
    row("XLEN", 2, "Counts the events that a stream has taken.", info::length),
    row("XINFO", -2, "Tells of a stream.", info::stream),
    listening(row("SUBSCRIBE", -2, "Listens to streams and views.", pubsub::subscribe)),
    listening(row("PSUBSCRIBE", -2, "Listens to all channels that match.", pubsub::psubscribe)),
    listening(row("UNSUBSCRIBE", -1, "Listens no more.", pubsub::unsubscribe)),
    row("MULTI", 1, "Keeps the requests that follow until EXEC.", transaction::multi),
    row("EXEC", 1, "Carries out the requests since MULTI.", transaction::exec),
    row("DISCARD", 1, "Forgets the requests since MULTI.", transaction::discard),
    row("PELTON.VIEW", -2, "Reads a view.", query::view),
    listening(row("PUNSUBSCRIBE", -1, "Listens no more to what matches.", pubsub::punsubscribe)),
];

/// The longest name.
const NAME_BYTES_MAX: usize = 16;

/// The command of this name.
pub(super) fn find(name: &[u8]) -> Option<&'static Command> {
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    COMMANDS.iter().find(|command| command.name.as_bytes().eq_ignore_ascii_case(name))
}

fn add(desk: &mut Desk, call: &mut Call<'_>) -> Next {
    match desk.publisher.add(call.parser, call.input, call.waited, &mut call.reply) {
        Added::Answered => Next::Goes,
        Added::Waits(room) => Next::Waits(room),
    }
}

impl Desk {
    /// Carries out one request.
    #[inline(always)]
    pub fn run(&mut self, call: &mut Call<'_>) -> Next {
        // Nearly all are this one.
        let Session { is_known, subscriptions, transaction, .. } = &*call.session;
        if call.arg(0) == b"XADD" && *is_known && subscriptions.is_none() && transaction.is_none() {
            return add(self, call);
        }
        self.run_slow(call)
    }

    #[inline(never)]
    fn run_slow(&mut self, call: &mut Call<'_>) -> Next {
        let found = admit(call);
        let Some(own) = &mut call.session.transaction else {
            return found.map_or_else(|next| next, |command| (command.run)(self, call));
        };
        match found {
            Ok(command) if matches!(command.name, "MULTI" | "EXEC" | "DISCARD" | "QUIT" | "RESET") => {
                (command.run)(self, call)
            }
            Ok(command) => transaction::keep(self, command, call),
            Err(next) => {
                own.is_broken = true;
                next
            }
        }
    }
}

/// The command that is asked for, if it may be carried out. If not, that is answered.
fn admit(call: &mut Call<'_>) -> Result<&'static Command, Next> {
    let Some(command) = find(call.arg(0)) else { return Err(unknown(call)) };
    if !call.session.is_known && !command.is_for_strangers {
        call.reply.error("NOAUTH Authentication required.");
        return Err(Next::Goes);
    }
    let len = call.len() as i32;
    if (command.arity >= 0 && len != command.arity) || len < -command.arity {
        let name = command.name.to_ascii_lowercase();
        call.reply.error(format_args!("ERR wrong number of arguments for '{name}' command"));
        return Err(Next::Goes);
    }
    let is_listening = call.session.subscriptions.is_some() && call.reply.version() == Version::Resp2;
    if is_listening && !command.is_for_subscribers {
        let name = command.name.to_ascii_lowercase();
        call.reply.error(format_args!(
                "ERR Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context"
            ));
        return Err(Next::Goes);
    }
    Ok(command)
}

#[cold]
fn unknown(call: &mut Call<'_>) -> Next {
    // A page in a browser on this machine can have it send a request of HTTP anywhere, with commands in its body.
    if call.is(0, "POST") || call.is(0, "Host:") {
        call.reply.error("ERR this is no web server");
        return Next::Ends(End::Protocol);
    }
    let mut text = format!("ERR unknown command '{}', with args beginning with: ", call.text(0));
    for at in 1..call.len() {
        if text.len() > 256 {
            break;
        }
        text += &format!("'{}' ", call.text(at));
    }
    if !call.session.is_known {
        text = "NOAUTH Authentication required.".into();
    }
    call.reply.error(text);
    Next::Goes
}

/// `COMMAND`, and `COMMAND COUNT`, `LIST`, `INFO`, `DOCS`.
fn command(_: &mut Desk, call: &mut Call<'_>) -> Next {
    // Those that are named behind the part, or all.
    let named: Vec<_> = (2..call.len()).map(|at| find(call.arg(at))).collect();
    let all = || COMMANDS.iter().map(Some).collect();
    let chosen: Vec<Option<&Command>> = if named.is_empty() { all() } else { named };
    let reply = &mut call.reply;
    let (parser, input) = (call.parser, call.input);
    let part = if parser.len() > 1 { parser.arg(input, 1).to_ascii_uppercase() } else { Vec::new() };
    match &part[..] {
        b"" | b"INFO" => {
            reply.array(chosen.len());
            chosen.iter().for_each(|command| describe(*command, reply));
        }
        b"COUNT" => reply.integer(COMMANDS.len() as i64),
        b"LIST" => {
            reply.array(COMMANDS.len());
            COMMANDS.iter().for_each(|command| reply.bulk(command.name.to_ascii_lowercase().as_bytes()));
        }
        b"DOCS" => {
            let known: Vec<_> = chosen.into_iter().flatten().collect();
            reply.map(known.len());
            for command in known {
                reply.bulk(command.name.to_ascii_lowercase().as_bytes());
                reply.map(2);
                for (name, text) in [("summary", command.what), ("group", "pelton")] {
                    reply.bulk(name.as_bytes());
                    reply.bulk(text.as_bytes());
                }
            }
        }
        _ => return no_part(call),
    }
    Next::Goes
}

/// A command as Redis describes one: name, arity, flags, and where its keys are.
fn describe(command: Option<&Command>, reply: &mut Reply<'_>) {
    let Some(command) = command else { return reply.null_array() };
    reply.array(7);
    reply.bulk(command.name.to_ascii_lowercase().as_bytes());
    reply.integer(command.arity.into());
    let is_write = command.name == "XADD";
    reply.array(1);
    reply.simple(if is_write { "write" } else { "fast" });
    let has_key = i64::from(is_write || command.name == "XLEN");
    (0..3).for_each(|_| reply.integer(has_key));
    // Categories of access, which there are none of: redis-py reads them where it speaks RESP3.
    reply.array(0);
}
