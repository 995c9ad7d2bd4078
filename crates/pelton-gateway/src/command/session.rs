//! Commands about the connection itself.

use crate::command::context::{Action, CommandContext, Request};
use crate::command::info::REDIS_VERSION;
use crate::command::pubsub;
use crate::resp::{Reply, Version, number};
use crate::server::metrics::End;
use crate::server::watch::Incident;

/// The only user there is.
pub(crate) const USER: &str = "default";

pub(crate) fn ping(_: &mut CommandContext, request: &mut Request<'_>) -> Action {
    if request.len() > 2 {
        request.reply.error("ERR wrong number of arguments for 'ping' command");
    } else if request.session.subscriptions.is_some() && request.reply.version() == Version::Resp2 {
        request.reply.array(2);
        request.reply.bulk(b"pong");
        let said = if request.len() == 2 { request.parser.arg(request.input, 1) } else { b"" };
        request.reply.bulk(said);
    } else if request.len() == 2 {
        request.reply.bulk(request.parser.arg(request.input, 1));
    } else {
        request.reply.simple("PONG");
    }
    Action::Continue
}

pub(crate) fn echo(_: &mut CommandContext, request: &mut Request<'_>) -> Action {
    request.reply.bulk(request.parser.arg(request.input, 1));
    Action::Continue
}

pub(crate) fn quit(_: &mut CommandContext, request: &mut Request<'_>) -> Action {
    request.reply.simple("OK");
    Action::Close(End::Client)
}

pub(crate) fn select(_: &mut CommandContext, request: &mut Request<'_>) -> Action {
    match number(request.arg(1)).map(i32::try_from) {
        Some(Ok(0)) => request.reply.simple("OK"),
        Some(Ok(_)) => request.reply.error("ERR DB index is out of range"),
        Some(Err(_)) => {
            request.reply.error("ERR value is out of range, value must between -2147483648 and 2147483647")
        }
        None => request.reply.error("ERR value is not an integer or out of range"),
    }
    Action::Continue
}

pub(crate) fn reset(context: &mut CommandContext, request: &mut Request<'_>) -> Action {
    pubsub::unsubscribe_all(
        request.session,
        request.key.slot,
        &mut context.subscribers,
        &context.shared,
        context.thread,
    );
    request.session.version = Version::Resp2;
    request.session.transaction = None;
    // An unauthenticated connection that begins anew gets neither more time nor more requests.
    if std::mem::replace(&mut request.session.is_authenticated, context.shared.password.is_none()) {
        request.session.unauthenticated_since_s = context.shared.now_s();
        request.session.unauthenticated_requests = 0;
    }
    rename(context, request, None);
    request.reply.simple("RESET");
    Action::Continue
}

/// Authenticates the connection. A wrong user or password is answered with an error, and ends the connection after too many.
fn authenticate(
    context: &CommandContext,
    request: &mut Request<'_>,
    user: &[u8],
    password: &[u8],
) -> Result<(), Action> {
    // Without a password the one user takes any.
    let is_right = context.shared.password.as_ref().is_none_or(|wanted| wanted.is(password));
    if is_right && user == USER.as_bytes() {
        request.session.is_authenticated = true;
        request.session.wrong_passwords = 0;
        return Ok(());
    }
    request.session.wrong_passwords += 1;
    context
        .shared
        .watched
        .incidents
        .note(Incident::WrongPassword, || context.shared.clients.peer(request.session.id));
    request.reply.error("WRONGPASS invalid username-password pair or user is disabled.");
    let is_too_often = request.session.wrong_passwords >= context.shared.options.auth_tries_max;
    Err(if is_too_often { Action::Close(End::Auth) } else { Action::Continue })
}

pub(crate) fn auth(context: &mut CommandContext, request: &mut Request<'_>) -> Action {
    if request.len() > 3 {
        request.reply.error("ERR syntax error");
        return Action::Continue;
    }
    if context.shared.password.is_none() && request.len() == 2 {
        request.reply.error(
            "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?",
        );
        return Action::Continue;
    }
    let (parser, input) = (request.parser, request.input);
    let last = parser.len() - 1;
    let user = if parser.len() == 3 { parser.arg(input, 1) } else { USER.as_bytes() };
    match authenticate(context, request, user, parser.arg(input, last)) {
        Ok(()) => request.reply.simple("OK"),
        Err(action) => return action,
    }
    Action::Continue
}

/// `HELLO [version [AUTH user password] [SETNAME name]]`. Nothing of it is carried out before all of it is read.
pub(crate) fn hello(context: &mut CommandContext, request: &mut Request<'_>) -> Action {
    let (parser, input) = (request.parser, request.input);
    let mut version = request.session.version;
    if request.len() > 1 {
        version = match parser.arg(input, 1) {
            b"2" => Version::Resp2,
            b"3" => Version::Resp3,
            other => {
                request.reply.error(if number(other).is_some() {
                    "NOPROTO unsupported protocol version"
                } else {
                    "ERR Protocol version is not an integer or out of range"
                });
                return Action::Continue;
            }
        };
    }
    let (mut at, mut login, mut name) = (2, None, None);
    while at < request.len() {
        if request.is(at, "AUTH") && at + 2 < request.len() {
            login = Some((parser.arg(input, at + 1), parser.arg(input, at + 2)));
            at += 3;
        } else if request.is(at, "SETNAME") && at + 1 < request.len() {
            name = Some(parser.arg(input, at + 1));
            at += 2;
        } else {
            let option = request.text(at);
            request.reply.error(format_args!("ERR Syntax error in HELLO option '{option}'"));
            return Action::Continue;
        }
    }
    if name.is_some_and(|name| !is_name(name)) {
        request.reply.error(BAD_NAME);
        return Action::Continue;
    }
    if let Some((user, password)) = login
        && let Err(action) = authenticate(context, request, user, password)
    {
        return action;
    }
    if !request.session.is_authenticated {
        request.reply.error(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time",
        );
        return Action::Continue;
    }
    if let Some(name) = name {
        rename(context, request, Some(name));
    }
    request.session.version = version;
    request.reply.set_version(version);
    greet(version, request.session.id, &mut request.reply);
    Action::Continue
}

/// What `HELLO` answers. The version is that of Redis, by which clients decide what they may use; `INFO` has Pelton's own.
fn greet(version: Version, id: u64, reply: &mut Reply<'_>) {
    reply.map(7);
    for (key, value) in [("server", "pelton"), ("version", REDIS_VERSION)] {
        reply.bulk(key.as_bytes());
        reply.bulk(value.as_bytes());
    }
    reply.bulk(b"proto");
    reply.integer(if version == Version::Resp3 { 3 } else { 2 });
    reply.bulk(b"id");
    reply.integer(id as i64);
    for (key, value) in [("mode", "standalone"), ("role", "master")] {
        reply.bulk(key.as_bytes());
        reply.bulk(value.as_bytes());
    }
    reply.bulk(b"modules");
    reply.array(0);
}

const BAD_NAME: &str = "ERR Client names cannot contain spaces, newlines or special characters.";

/// Whether a connection may have this name: one that keeps to its place in a line of `CLIENT LIST`.
fn is_name(name: &[u8]) -> bool {
    const BYTES_MAX: usize = 128;
    name.len() <= BYTES_MAX && name.iter().all(|byte| (b'!'..=b'~').contains(byte))
}

/// Names the connection; an empty name is no name.
fn rename(context: &CommandContext, request: &mut Request<'_>, name: Option<&[u8]>) {
    let name = name.filter(|name| !name.is_empty());
    let name: Option<Box<str>> = name.map(|name| String::from_utf8_lossy(name).into());
    context.shared.clients.rename(request.session.id, name.clone());
    request.session.name = name;
}

pub(crate) fn id(_: &mut CommandContext, request: &mut Request<'_>) -> Action {
    request.reply.integer(request.session.id as i64);
    Action::Continue
}

pub(crate) fn name(_: &mut CommandContext, request: &mut Request<'_>) -> Action {
    match &request.session.name {
        Some(name) => request.reply.bulk(name.as_bytes()),
        None => request.reply.null(),
    }
    Action::Continue
}

pub(crate) fn set_name(context: &mut CommandContext, request: &mut Request<'_>) -> Action {
    let name = request.parser.arg(request.input, 2);
    if is_name(name) {
        rename(context, request, Some(name));
        request.reply.simple("OK");
    } else {
        request.reply.error(BAD_NAME);
    }
    Action::Continue
}

/// A client's library and its version: taken, as clients expect it, and kept nowhere.
pub(crate) fn set_info(_: &mut CommandContext, request: &mut Request<'_>) -> Action {
    request.reply.simple("OK");
    Action::Continue
}
