//! Commands about the connection itself.
#![forbid(unsafe_code)]

use super::counts::End;
use super::desk::{Call, Desk, Next};
use super::info::REDIS_VERSION;
use super::pubsub;
use super::watch::Incident;
use crate::resp::{Reply, Version, number};

/// The only user there is.
pub(super) const USER: &str = "default";

pub(super) fn ping(_: &mut Desk, call: &mut Call<'_>) -> Next {
    if call.len() > 2 {
        call.reply.error("ERR wrong number of arguments for 'ping' command");
    } else if call.session.subscriptions.is_some() && call.reply.version() == Version::Resp2 {
        call.reply.array(2);
        call.reply.bulk(b"pong");
        let said = if call.len() == 2 { call.parser.arg(call.input, 1) } else { b"" };
        call.reply.bulk(said);
    } else if call.len() == 2 {
        call.reply.bulk(call.parser.arg(call.input, 1));
    } else {
        call.reply.simple("PONG");
    }
    Next::Goes
}

pub(super) fn echo(_: &mut Desk, call: &mut Call<'_>) -> Next {
    call.reply.bulk(call.parser.arg(call.input, 1));
    Next::Goes
}

pub(super) fn quit(_: &mut Desk, call: &mut Call<'_>) -> Next {
    call.reply.simple("OK");
    Next::Ends(End::Client)
}

pub(super) fn select(_: &mut Desk, call: &mut Call<'_>) -> Next {
    match number(call.arg(1)).map(i32::try_from) {
        Some(Ok(0)) => call.reply.simple("OK"),
        Some(Ok(_)) => call.reply.error("ERR DB index is out of range"),
        Some(Err(_)) => {
            call.reply.error("ERR value is out of range, value must between -2147483648 and 2147483647")
        }
        None => call.reply.error("ERR value is not an integer or out of range"),
    }
    Next::Goes
}

pub(super) fn reset(desk: &mut Desk, call: &mut Call<'_>) -> Next {
    pubsub::leave(call.session, call.key.at, &mut desk.listeners, &desk.shared, desk.thread);
    call.session.version = Version::Resp2;
    call.session.transaction = None;
    // A stranger that begins anew gets neither more time nor more requests.
    if std::mem::replace(&mut call.session.is_known, desk.shared.password.is_none()) {
        call.session.stranger_since_s = desk.shared.now_s();
        call.session.strange_requests = 0;
    }
    rename(desk, call, None);
    call.reply.simple("RESET");
    Next::Goes
}

/// Authenticates the connection. A wrong user or password is answered with an error, and ends the connection after too many.
fn authenticate(desk: &Desk, call: &mut Call<'_>, user: &[u8], password: &[u8]) -> Result<(), Next> {
    // Without a password the one user takes any.
    let is_right = desk.shared.password.as_ref().is_none_or(|wanted| wanted.is(password));
    if is_right && user == USER.as_bytes() {
        call.session.is_known = true;
        call.session.wrong_passwords = 0;
        return Ok(());
    }
    call.session.wrong_passwords += 1;
    desk.shared.incidents.note(Incident::WrongPassword, || desk.shared.clients.peer(call.session.id));
    call.reply.error("WRONGPASS invalid username-password pair or user is disabled.");
    let is_too_often = call.session.wrong_passwords >= desk.shared.options.auth_tries_max;
    Err(if is_too_often { Next::Ends(End::Auth) } else { Next::Goes })
}

pub(super) fn auth(desk: &mut Desk, call: &mut Call<'_>) -> Next {
    if call.len() > 3 {
        call.reply.error("ERR syntax error");
        return Next::Goes;
    }
    if desk.shared.password.is_none() && call.len() == 2 {
        call.reply.error(
            "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?",
        );
        return Next::Goes;
    }
    let (parser, input) = (call.parser, call.input);
    let last = parser.len() - 1;
    let user = if parser.len() == 3 { parser.arg(input, 1) } else { USER.as_bytes() };
    match authenticate(desk, call, user, parser.arg(input, last)) {
        Ok(()) => call.reply.simple("OK"),
        Err(next) => return next,
    }
    Next::Goes
}

/// `HELLO [version [AUTH user password] [SETNAME name]]`. Nothing of it is carried out before all of it is read.
pub(super) fn hello(desk: &mut Desk, call: &mut Call<'_>) -> Next {
    let (parser, input) = (call.parser, call.input);
    let mut version = call.session.version;
    if call.len() > 1 {
        version = match parser.arg(input, 1) {
            b"2" => Version::Resp2,
            b"3" => Version::Resp3,
            other => {
                call.reply.error(if number(other).is_some() {
                    "NOPROTO unsupported protocol version"
                } else {
                    "ERR Protocol version is not an integer or out of range"
                });
                return Next::Goes;
            }
        };
    }
    let (mut at, mut login, mut name) = (2, None, None);
    while at < call.len() {
        if call.is(at, "AUTH") && at + 2 < call.len() {
            login = Some((parser.arg(input, at + 1), parser.arg(input, at + 2)));
            at += 3;
        } else if call.is(at, "SETNAME") && at + 1 < call.len() {
            name = Some(parser.arg(input, at + 1));
            at += 2;
        } else {
            let option = call.text(at);
            call.reply.error(format_args!("ERR Syntax error in HELLO option '{option}'"));
            return Next::Goes;
        }
    }
    if name.is_some_and(|name| !is_name(name)) {
        call.reply.error(BAD_NAME);
        return Next::Goes;
    }
    if let Some((user, password)) = login
        && let Err(next) = authenticate(desk, call, user, password)
    {
        return next;
    }
    if !call.session.is_known {
        call.reply.error(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time",
        );
        return Next::Goes;
    }
    if let Some(name) = name {
        rename(desk, call, Some(name));
    }
    call.session.version = version;
    call.reply.set_version(version);
    greet(version, call.session.id, &mut call.reply);
    Next::Goes
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
fn rename(desk: &Desk, call: &mut Call<'_>, name: Option<&[u8]>) {
    let name = name.filter(|name| !name.is_empty());
    let name: Option<Box<str>> = name.map(|name| String::from_utf8_lossy(name).into());
    desk.shared.clients.rename(call.session.id, name.clone());
    call.session.name = name;
}

pub(super) fn id(_: &mut Desk, call: &mut Call<'_>) -> Next {
    call.reply.integer(call.session.id as i64);
    Next::Goes
}

pub(super) fn name(_: &mut Desk, call: &mut Call<'_>) -> Next {
    match &call.session.name {
        Some(name) => call.reply.bulk(name.as_bytes()),
        None => call.reply.null(),
    }
    Next::Goes
}

pub(super) fn set_name(desk: &mut Desk, call: &mut Call<'_>) -> Next {
    let name = call.parser.arg(call.input, 2);
    if is_name(name) {
        rename(desk, call, Some(name));
        call.reply.simple("OK");
    } else {
        call.reply.error(BAD_NAME);
    }
    Next::Goes
}

/// A client's library and its version: taken, as clients expect it, and kept nowhere.
pub(super) fn set_info(_: &mut Desk, call: &mut Call<'_>) -> Next {
    call.reply.simple("OK");
    Next::Goes
}
