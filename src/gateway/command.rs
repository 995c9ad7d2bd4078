//! Commands: one row for each, and what carries it out.
#![forbid(unsafe_code)]

use super::conn::Session;
use super::counts::End;
use super::desk::{Call, Command, Desk, Next};
use super::info;
use super::listing;
use super::publish::Added;
use super::pubsub;
use super::query;
use super::session;
use super::transaction;
use crate::resp::{Reply, Version};
use crate::words::printable;

const fn open(command: Command) -> Command {
    Command { is_for_strangers: true, ..command }
}

const fn listening(command: Command) -> Command {
    Command { is_for_subscribers: true, ..command }
}

const fn of(command: Command, parts: &'static [Command]) -> Command {
    Command { parts, ..command }
}

const HELP: Command = Command::new("HELP", 2, "Lists these subcommands.", help);

const COMMAND: &[Command] = &[
    Command::new("COUNT", 2, "Counts the commands.", count),
    Command::new("LIST", -2, "Lists the names of all commands.", list),
    Command::new("INFO", -2, "Describes the named commands, or all.", describe_each),
    Command::new("DOCS", -2, "Returns a summary of each named command, or of all.", docs),
    HELP,
];

const CLIENT: &[Command] = &[
    Command::new("ID", 2, "Returns the connection's id.", session::id),
    Command::new("GETNAME", 2, "Returns the connection's name.", session::name),
    Command::new("SETNAME", 3, "Names the connection.", session::set_name),
    Command::new("SETINFO", 4, "Accepts the name or version of a client library.", session::set_info),
    Command::new("LIST", -2, "Lists connections: all, those of a TYPE, or those with an ID.", listing::list),
    Command::new("INFO", 2, "Describes the connection.", listing::info),
    Command::new("KILL", -3, "Closes the connections with an ID, ADDR, TYPE or USER.", listing::kill),
    HELP,
];

const CONFIG: &[Command] = &[
    Command::new("GET", -3, "Returns the settings that match a pattern.", info::settings),
    Command::new("SET", -4, "Returns an error: settings are read at start.", info::set),
    HELP,
];

const PUBSUB: &[Command] = &[
    Command::new("CHANNELS", -2, "Lists the channels that are subscribed to by name.", pubsub::channels),
    Command::new("NUMSUB", -2, "Counts the subscriptions by name of each channel.", pubsub::counts),
    Command::new("NUMPAT", 2, "Counts the subscriptions that are patterns.", pubsub::patterns),
    HELP,
];

const XINFO: &[Command] = &[Command::new("STREAM", -3, "Describes a stream.", info::stream), HELP];

/// All commands, the frequent ones first.
pub(super) const COMMANDS: &[Command] = &[
    Command::new("XADD", -5, "Publishes an event to a stream.", add),
    listening(Command::new("PING", -1, "Returns PONG, or its argument.", session::ping)),
    Command::new("ECHO", 2, "Returns its argument.", session::echo),
    open(Command::new("HELLO", -1, "Chooses the version of the protocol.", session::hello)),
    open(Command::new("AUTH", -2, "Authenticates the connection.", session::auth)),
    open(listening(Command::new("QUIT", -1, "Closes the connection.", session::quit))),
    open(listening(Command::new("RESET", 1, "Resets the connection.", session::reset))),
    Command::new("SELECT", 2, "Selects the database; 0 is the only one.", session::select),
    of(Command::new("CLIENT", -2, "Describes and ends connections.", help), CLIENT),
    of(Command::new("COMMAND", -1, "Describes commands.", describe_each), COMMAND),
    of(Command::new("CONFIG", -2, "Describes settings.", help), CONFIG),
    Command::new("INFO", -1, "Describes the server.", info::info),
    Command::new("XLEN", 2, "Counts the events that a stream has accepted since start.", info::length),
    of(Command::new("XINFO", -2, "Describes a stream.", help), XINFO),
    listening(Command::new("SUBSCRIBE", -2, "Subscribes to channels.", pubsub::subscribe)),
    listening(Command::new("PSUBSCRIBE", -2, "Subscribes to all channels that match.", pubsub::psubscribe)),
    listening(Command::new("UNSUBSCRIBE", -1, "Unsubscribes from channels.", pubsub::unsubscribe)),
    listening(Command::new("PUNSUBSCRIBE", -1, "Unsubscribes from patterns.", pubsub::punsubscribe)),
    of(Command::new("PUBSUB", -2, "Describes subscriptions.", help), PUBSUB),
    Command::new("MULTI", 1, "Keeps the requests that follow until EXEC.", transaction::multi),
    Command::new("EXEC", 1, "Carries out the requests since MULTI.", transaction::exec),
    Command::new("DISCARD", 1, "Discards the requests since MULTI.", transaction::discard),
    Command::new("WATCH", -2, "Is accepted: no key can change.", transaction::watch),
    Command::new("UNWATCH", 1, "Is accepted: no key is watched.", transaction::unwatch),
    Command::new("PELTON.VIEW", -2, "Reads a view.", query::view),
    Command::new("ROLE", 1, "Returns the role of the server: master.", info::role),
    Command::new("TIME", 1, "Returns the server's time.", info::time),
    Command::new("DBSIZE", 1, "Counts the streams.", info::size),
    Command::new("CLUSTER", -2, "Returns an error: there is one node.", info::no_cluster),
];

/// The longest name.
const NAME_BYTES_MAX: usize = 16;

/// The command of this name.
fn find(commands: &'static [Command], name: &[u8]) -> Option<&'static Command> {
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    commands.iter().find(|command| command.name.as_bytes().eq_ignore_ascii_case(name))
}

fn add(desk: &mut Desk, call: &mut Call<'_>) -> Next {
    match desk.publisher.add(call.parser, call.input, call.waited, &mut call.reply) {
        Added::Answered => Next::Goes,
        Added::Refused => {
            desk.is_over = desk.is_turn_over();
            Next::Goes
        }
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
        let next = self.carry_out(call);
        // After each of these, as some take as long as a turn may; an event is bounded by its bytes.
        self.is_over = self.is_turn_over();
        next
    }

    fn carry_out(&mut self, call: &mut Call<'_>) -> Next {
        let found = admit(call);
        let Some(own) = &mut call.session.transaction else {
            return found.map_or_else(|next| next, |command| (command.run)(self, call));
        };
        match found {
            Ok(command)
                if matches!(command.name, "MULTI" | "EXEC" | "DISCARD" | "WATCH" | "QUIT" | "RESET") =>
            {
                (command.run)(self, call)
            }
            Ok(command) => transaction::keep(self, command, call),
            Err(next) => {
                own.give_up();
                next
            }
        }
    }
}

/// The command that is asked for, if it may be carried out. If not, that is answered.
fn admit(call: &mut Call<'_>) -> Result<&'static Command, Next> {
    let whole = find(COMMANDS, call.arg(0));
    // A stranger is answered with a constant: neither its arguments nor what commands there are.
    if !call.session.is_known && !whole.is_some_and(|command| command.is_for_strangers) {
        return Err(strange(call));
    }
    let Some(whole) = whole else { return Err(unknown(call)) };
    let mut part = None;
    if !whole.parts.is_empty() && call.len() > 1 {
        part = find(whole.parts, call.arg(1));
        if part.is_none() {
            let said = call.text(1);
            call.reply.error(format_args!("ERR unknown subcommand '{said}'. Try {} HELP.", whole.name));
            return Err(Next::Goes);
        }
    }
    let command = part.unwrap_or(whole);
    let name = || {
        let part = part.map(|part| format!("|{}", part.name)).unwrap_or_default();
        format!("{}{part}", whole.name).to_ascii_lowercase()
    };
    if !command.takes(call.len()) {
        call.reply.error(format_args!("ERR wrong number of arguments for '{}' command", name()));
        return Err(Next::Goes);
    }
    let is_listening = call.session.subscriptions.is_some() && call.reply.version() == Version::Resp2;
    if is_listening && !command.is_for_subscribers {
        call.reply.error(format_args!(
                "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context",
                name()
            ));
        return Err(Next::Goes);
    }
    Ok(command)
}

/// Whether it is a line of an HTTP request: a page in a browser on this machine can have it send one anywhere, with commands in
/// its body.
fn is_of_the_web(call: &Call<'_>) -> bool {
    call.is(0, "POST") || call.is(0, "Host:")
}

fn end_of_the_web(call: &mut Call<'_>) -> Next {
    call.reply.error("ERR this is no web server");
    Next::Ends(End::Protocol)
}

/// Answers a stranger that asks for what is not for strangers.
#[cold]
fn strange(call: &mut Call<'_>) -> Next {
    if is_of_the_web(call) {
        return end_of_the_web(call);
    }
    call.reply.error("NOAUTH Authentication required.");
    Next::Goes
}

#[cold]
fn unknown(call: &mut Call<'_>) -> Next {
    if is_of_the_web(call) {
        return end_of_the_web(call);
    }
    // The first bytes of the arguments are enough to recognise the request.
    const ARGS_BYTES_MAX: usize = 128;
    let mut args = String::new();
    for at in 1..call.len() {
        let left = ARGS_BYTES_MAX.saturating_sub(args.len());
        if left == 0 {
            break;
        }
        let bytes = call.arg(at);
        args += &format!("'{}' ", printable(&String::from_utf8_lossy(&bytes[..bytes.len().min(left)])));
    }
    let name = call.text(0);
    call.reply.error(format_args!("ERR unknown command '{name}', with args beginning with: {args}"));
    Next::Goes
}

/// `CLIENT HELP` and its like: each part, and what it does.
fn help(_: &mut Desk, call: &mut Call<'_>) -> Next {
    let Some(whole) = find(COMMANDS, call.arg(0)) else { return unknown(call) };
    call.reply.array(1 + 2 * whole.parts.len());
    call.reply.simple(&format!("{} <subcommand> [<arg> ...]. Subcommands are:", whole.name));
    for part in whole.parts {
        call.reply.simple(part.name);
        call.reply.simple(&format!("    {}", part.what));
    }
    Next::Goes
}

/// The commands that are named after the subcommand, `None` for an unknown one; or all. An error is answered if they are
/// too many: each takes far longer to describe than to name.
fn chosen(call: &mut Call<'_>) -> Option<Vec<Option<&'static Command>>> {
    const NAMES_MAX: usize = 256;
    if call.len() <= 2 {
        return Some(COMMANDS.iter().map(Some).collect());
    }
    if call.len() - 2 > NAMES_MAX {
        call.reply.error(format_args!("ERR at most {NAMES_MAX} commands can be named"));
        return None;
    }
    Some((2..call.len()).map(|at| find(COMMANDS, call.arg(at))).collect())
}

fn count(_: &mut Desk, call: &mut Call<'_>) -> Next {
    call.reply.integer(COMMANDS.len() as i64);
    Next::Goes
}

fn list(_: &mut Desk, call: &mut Call<'_>) -> Next {
    if call.len() > 2 {
        call.reply.error("ERR syntax error");
        return Next::Goes;
    }
    call.reply.array(COMMANDS.len());
    COMMANDS.iter().for_each(|command| call.reply.bulk(command.name.to_ascii_lowercase().as_bytes()));
    Next::Goes
}

fn describe_each(_: &mut Desk, call: &mut Call<'_>) -> Next {
    let Some(chosen) = chosen(call) else { return Next::Goes };
    call.reply.array(chosen.len());
    chosen.into_iter().for_each(|command| describe(command, &mut call.reply));
    Next::Goes
}

fn docs(_: &mut Desk, call: &mut Call<'_>) -> Next {
    let Some(chosen) = chosen(call) else { return Next::Goes };
    let known: Vec<_> = chosen.into_iter().flatten().collect();
    let reply = &mut call.reply;
    reply.map(known.len());
    for command in known {
        reply.bulk(command.name.to_ascii_lowercase().as_bytes());
        reply.map(2);
        for (name, text) in [("summary", command.what), ("group", "pelton")] {
            reply.bulk(name.as_bytes());
            reply.bulk(text.as_bytes());
        }
    }
    Next::Goes
}

/// A command as Redis describes one: name, arity, flags, and where its keys are.
fn describe(command: Option<&Command>, reply: &mut Reply<'_>) {
    let Some(command) = command else { return reply.null() };
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
