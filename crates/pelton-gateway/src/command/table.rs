//! The table of commands: one row for each, with the function that runs it.

use crate::command::client_list;
use crate::command::context::{Action, Command, CommandContext, Request};
use crate::command::info;
use crate::command::multi;
use crate::command::pubsub;
use crate::command::session;
use crate::command::view;
use crate::command::xadd::XaddOutcome;
use crate::net::connection::Session;
use crate::resp::{Reply, Version};
use crate::server::metrics::End;
use pelton::words::printable;

const fn before_auth(command: Command) -> Command {
    Command { is_allowed_before_auth: true, ..command }
}

const fn while_subscribed(command: Command) -> Command {
    Command { is_allowed_while_subscribed: true, ..command }
}

const fn with_parts(command: Command, parts: &'static [Command]) -> Command {
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
    Command::new(
        "LIST",
        -2,
        "Lists connections: all, those of a TYPE, or those with an ID.",
        client_list::list,
    ),
    Command::new("INFO", 2, "Describes the connection.", client_list::info),
    Command::new("KILL", -3, "Closes the connections with an ID, ADDR, TYPE or USER.", client_list::kill),
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
pub(crate) const COMMANDS: &[Command] = &[
    Command::new("XADD", -5, "Publishes an event to a stream.", add),
    while_subscribed(Command::new("PING", -1, "Returns PONG, or its argument.", session::ping)),
    Command::new("ECHO", 2, "Returns its argument.", session::echo),
    before_auth(Command::new("HELLO", -1, "Chooses the version of the protocol.", session::hello)),
    before_auth(Command::new("AUTH", -2, "Authenticates the connection.", session::auth)),
    before_auth(while_subscribed(Command::new("QUIT", -1, "Closes the connection.", session::quit))),
    before_auth(while_subscribed(Command::new("RESET", 1, "Resets the connection.", session::reset))),
    Command::new("SELECT", 2, "Selects the database; 0 is the only one.", session::select),
    with_parts(Command::new("CLIENT", -2, "Describes and ends connections.", help), CLIENT),
    with_parts(Command::new("COMMAND", -1, "Describes commands.", describe_each), COMMAND),
    with_parts(Command::new("CONFIG", -2, "Describes settings.", help), CONFIG),
    Command::new("INFO", -1, "Describes the server.", info::info),
    Command::new("XLEN", 2, "Counts the events that a stream has accepted since start.", info::length),
    with_parts(Command::new("XINFO", -2, "Describes a stream.", help), XINFO),
    while_subscribed(Command::new("SUBSCRIBE", -2, "Subscribes to channels.", pubsub::subscribe)),
    while_subscribed(Command::new(
        "PSUBSCRIBE",
        -2,
        "Subscribes to all channels that match.",
        pubsub::psubscribe,
    )),
    while_subscribed(Command::new("UNSUBSCRIBE", -1, "Unsubscribes from channels.", pubsub::unsubscribe)),
    while_subscribed(Command::new("PUNSUBSCRIBE", -1, "Unsubscribes from patterns.", pubsub::punsubscribe)),
    with_parts(Command::new("PUBSUB", -2, "Describes subscriptions.", help), PUBSUB),
    Command::new("MULTI", 1, "Keeps the requests that follow until EXEC.", multi::multi),
    Command::new("EXEC", 1, "Carries out the requests since MULTI.", multi::exec),
    Command::new("DISCARD", 1, "Discards the requests since MULTI.", multi::discard),
    Command::new("WATCH", -2, "Is accepted: no key can change.", multi::watch),
    Command::new("UNWATCH", 1, "Is accepted: no key is watched.", multi::unwatch),
    Command::new("PELTON.VIEW", -2, "Reads a view.", view::view),
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

fn add(context: &mut CommandContext, request: &mut Request<'_>) -> Action {
    match context.publisher.add(request.parser, request.input, request.waited, &mut request.reply) {
        XaddOutcome::Accepted => Action::Continue,
        XaddOutcome::Rejected => {
            context.has_overrun = context.is_turn_over();
            Action::Continue
        }
        XaddOutcome::AwaitRoom(room) => Action::AwaitRoom(room),
    }
}

impl CommandContext {
    /// Runs one request.
    #[inline(always)]
    pub fn run(&mut self, request: &mut Request<'_>) -> Action {
        // Nearly all are this one.
        let Session { is_authenticated, subscriptions, transaction, .. } = &*request.session;
        if request.arg(0) == b"XADD" && *is_authenticated && subscriptions.is_none() && transaction.is_none()
        {
            return add(self, request);
        }
        self.run_slow(request)
    }

    #[inline(never)]
    fn run_slow(&mut self, request: &mut Request<'_>) -> Action {
        let action = self.dispatch(request);
        // After each of these, as some take as long as a turn may; an event is bounded by its bytes.
        self.has_overrun = self.is_turn_over();
        action
    }

    fn dispatch(&mut self, request: &mut Request<'_>) -> Action {
        let found = admit(request);
        let Some(own) = &mut request.session.transaction else {
            return found.map_or_else(|action| action, |command| (command.run)(self, request));
        };
        match found {
            Ok(command)
                if matches!(command.name, "MULTI" | "EXEC" | "DISCARD" | "WATCH" | "QUIT" | "RESET") =>
            {
                (command.run)(self, request)
            }
            Ok(command) => multi::keep(self, command, request),
            Err(action) => {
                own.give_up();
                action
            }
        }
    }
}

/// The command of a request, if it may run. If not, an error is written.
fn admit(request: &mut Request<'_>) -> Result<&'static Command, Action> {
    let whole = find(COMMANDS, request.arg(0));
    // An unauthenticated connection gets a constant reply: it shows neither its arguments nor which commands
    // exist.
    if !request.session.is_authenticated && !whole.is_some_and(|command| command.is_allowed_before_auth) {
        return Err(no_auth_slow(request));
    }
    let Some(whole) = whole else { return Err(unknown(request)) };
    let mut part = None;
    if !whole.parts.is_empty() && request.len() > 1 {
        part = find(whole.parts, request.arg(1));
        if part.is_none() {
            let said = request.text(1);
            request.reply.error(format_args!("ERR unknown subcommand '{said}'. Try {} HELP.", whole.name));
            return Err(Action::Continue);
        }
    }
    let command = part.unwrap_or(whole);
    let name = || {
        let part = part.map(|part| format!("|{}", part.name)).unwrap_or_default();
        format!("{}{part}", whole.name).to_ascii_lowercase()
    };
    if !command.takes(request.len()) {
        request.reply.error(format_args!("ERR wrong number of arguments for '{}' command", name()));
        return Err(Action::Continue);
    }
    let is_listening = request.session.subscriptions.is_some() && request.reply.version() == Version::Resp2;
    if is_listening && !command.is_allowed_while_subscribed {
        request.reply.error(format_args!(
                "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context",
                name()
            ));
        return Err(Action::Continue);
    }
    Ok(command)
}

/// Whether it is a line of an HTTP request: a page in a browser on this machine can have it send one anywhere, with commands in
/// its body.
fn is_http(request: &Request<'_>) -> bool {
    request.is(0, "POST") || request.is(0, "Host:")
}

fn close_http(request: &mut Request<'_>) -> Action {
    request.reply.error("ERR this is no web server");
    Action::Close(End::Protocol)
}

/// Rejects a command that needs authentication.
#[cold]
fn no_auth_slow(request: &mut Request<'_>) -> Action {
    if is_http(request) {
        return close_http(request);
    }
    request.reply.error("NOAUTH Authentication required.");
    Action::Continue
}

#[cold]
fn unknown(request: &mut Request<'_>) -> Action {
    if is_http(request) {
        return close_http(request);
    }
    // The first bytes of the arguments are enough to recognise the request.
    const ARGS_BYTES_MAX: usize = 128;
    let mut args = String::new();
    for at in 1..request.len() {
        let left = ARGS_BYTES_MAX.saturating_sub(args.len());
        if left == 0 {
            break;
        }
        let bytes = request.arg(at);
        args += &format!("'{}' ", printable(&String::from_utf8_lossy(&bytes[..bytes.len().min(left)])));
    }
    let name = request.text(0);
    request.reply.error(format_args!("ERR unknown command '{name}', with args beginning with: {args}"));
    Action::Continue
}

/// `CLIENT HELP` and its like: each part, and what it does.
fn help(_: &mut CommandContext, request: &mut Request<'_>) -> Action {
    let Some(whole) = find(COMMANDS, request.arg(0)) else { return unknown(request) };
    request.reply.array(1 + 2 * whole.parts.len());
    request.reply.simple(&format!("{} <subcommand> [<arg> ...]. Subcommands are:", whole.name));
    for part in whole.parts {
        request.reply.simple(part.name);
        request.reply.simple(&format!("    {}", part.what));
    }
    Action::Continue
}

/// The commands that are named after the subcommand, `None` for an unknown one; or all. An error is answered if they are
/// too many: each takes far longer to describe than to name.
fn named_commands(request: &mut Request<'_>) -> Option<Vec<Option<&'static Command>>> {
    const NAMES_MAX: usize = 256;
    if request.len() <= 2 {
        return Some(COMMANDS.iter().map(Some).collect());
    }
    if request.len() - 2 > NAMES_MAX {
        request.reply.error(format_args!("ERR at most {NAMES_MAX} commands can be named"));
        return None;
    }
    Some((2..request.len()).map(|at| find(COMMANDS, request.arg(at))).collect())
}

fn count(_: &mut CommandContext, request: &mut Request<'_>) -> Action {
    request.reply.integer(COMMANDS.len() as i64);
    Action::Continue
}

fn list(_: &mut CommandContext, request: &mut Request<'_>) -> Action {
    if request.len() > 2 {
        request.reply.error("ERR syntax error");
        return Action::Continue;
    }
    request.reply.array(COMMANDS.len());
    COMMANDS.iter().for_each(|command| request.reply.bulk(command.name.to_ascii_lowercase().as_bytes()));
    Action::Continue
}

fn describe_each(_: &mut CommandContext, request: &mut Request<'_>) -> Action {
    let Some(chosen) = named_commands(request) else { return Action::Continue };
    request.reply.array(chosen.len());
    chosen.into_iter().for_each(|command| describe(command, &mut request.reply));
    Action::Continue
}

fn docs(_: &mut CommandContext, request: &mut Request<'_>) -> Action {
    let Some(chosen) = named_commands(request) else { return Action::Continue };
    let known: Vec<_> = chosen.into_iter().flatten().collect();
    let reply = &mut request.reply;
    reply.map(known.len());
    for command in known {
        reply.bulk(command.name.to_ascii_lowercase().as_bytes());
        reply.map(2);
        for (name, text) in [("summary", command.what), ("group", "pelton")] {
            reply.bulk(name.as_bytes());
            reply.bulk(text.as_bytes());
        }
    }
    Action::Continue
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
