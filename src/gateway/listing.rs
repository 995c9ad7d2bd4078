//! `CLIENT LIST`, `CLIENT INFO` and `CLIENT KILL`: connections as others see them.
//!
//! # Mechanism
//! There may be a million connections, so the list is walked in pieces, a turn for some of them, and the answer is written at
//! the end. A list longer than `output_max_bytes` is an error: it would be kept whole for each connection that asks for it.
//!
//! A connection that is killed is closed by its own thread, which is sent the ids; it may carry out a request before that.
#![forbid(unsafe_code)]

use super::clients::Client;
use super::conn::{Begun, Walk};
use super::counts::End;
use super::desk::{Call, Desk, Next};
use super::mail::Mail;
use super::session::USER;
use crate::resp::number;

/// The most ids that one `CLIENT LIST ID` takes.
const IDS_MAX: usize = 1_024;

/// Which connections a command is about; all that is named must hold.
#[derive(Default)]
struct Filter<'a> {
    id: Option<u64>,
    peer: Option<&'a [u8]>,
    is_subscriber: Option<bool>,
    /// No connection is of the type that is named.
    is_none: bool,
    /// The connection that is left out.
    skips: Option<u64>,
}

impl Filter<'_> {
    fn has(&self, id: u64, client: &Client) -> bool {
        !self.is_none
            && self.skips != Some(id)
            && self.id.is_none_or(|own| own == id)
            && self.peer.is_none_or(|peer| peer == client.peer.as_bytes())
            && self.is_subscriber.is_none_or(|is_subscriber| is_subscriber == client.is_subscriber)
    }

    /// Takes the type that stands at this place.
    fn of_type(&mut self, call: &Call<'_>, at: usize) -> Result<(), String> {
        match ["normal", "pubsub", "master", "replica", "slave"].iter().position(|word| call.is(at, word)) {
            Some(0) => self.is_subscriber = Some(false),
            Some(1) => self.is_subscriber = Some(true),
            Some(_) => self.is_none = true,
            None => return Err(format!("ERR Unknown client type '{}'", call.text(at))),
        }
        Ok(())
    }
}

const SYNTAX: &str = "ERR syntax error";

fn refuse(call: &mut Call<'_>, why: &str) -> Next {
    call.reply.error(why);
    Next::Goes
}

/// `CLIENT INFO`
pub(super) fn info(desk: &mut Desk, call: &mut Call<'_>) -> Next {
    let mut text = String::new();
    let id = call.session.id;
    desk.shared.clients.visit_one(id, |client| client.line(id, desk.shared.now_s(), &mut text));
    call.reply.verbatim(&text);
    Next::Goes
}

/// `CLIENT LIST [TYPE type | ID id …]`
pub(super) fn list(desk: &mut Desk, call: &mut Call<'_>) -> Next {
    let mut filter = Filter::default();
    if call.len() == 4 && call.is(2, "TYPE") {
        if let Err(error) = filter.of_type(call, 3) {
            return refuse(call, &error);
        }
    } else if call.len() > 3 && call.is(2, "ID") {
        return list_ids(desk, call);
    } else if call.len() != 2 {
        return refuse(call, SYNTAX);
    }
    let (most, now_s) = (desk.shared.options.output_bytes_max as usize, desk.shared.now_s());
    let mut walk = go_on(call);
    loop {
        let Walk { last, text, .. } = &mut walk;
        *last = desk.shared.clients.visit(*last, |id, client| {
            if filter.has(id, client) {
                client.line(id, now_s, text);
            }
        });
        if text.len() > most {
            return refuse(
                call,
                &format!(
                    "ERR the list exceeds output_max_bytes = {most}; CLIENT LIST ID id … is a part of it"
                ),
            );
        }
        if last.is_none() {
            break;
        }
        if desk.is_turn_over() {
            call.session.begun = Some(Box::new(Begun::Walk(walk)));
            return Next::Again;
        }
    }
    call.reply.verbatim(&walk.text);
    Next::Goes
}

fn list_ids(desk: &mut Desk, call: &mut Call<'_>) -> Next {
    if call.len() - 3 > IDS_MAX {
        return refuse(call, &format!("ERR CLIENT LIST ID takes at most {IDS_MAX} ids"));
    }
    let mut text = String::new();
    for at in 3..call.len() {
        let Some(id) = number(call.arg(at)) else { return refuse(call, "ERR Invalid client ID") };
        let id = id as u64;
        desk.shared.clients.visit_one(id, |client| client.line(id, desk.shared.now_s(), &mut text));
    }
    call.reply.verbatim(&text);
    Next::Goes
}

/// `CLIENT KILL address`, or `CLIENT KILL [ID id] [ADDR address] [TYPE type] [USER user] [SKIPME yes|no]`
pub(super) fn kill(desk: &mut Desk, call: &mut Call<'_>) -> Next {
    let filter = match filter_of(call) {
        Ok(filter) => filter,
        Err(error) => return refuse(call, &error),
    };
    let mut walk = go_on(call);
    let mut found = Vec::new();
    if let Some(id) = filter.id {
        let add = |client: &Client| found.extend(filter.has(id, client).then_some((client.thread, id)));
        desk.shared.clients.visit_one(id, add);
    } else {
        loop {
            walk.last = desk.shared.clients.visit(walk.last, |id, client| {
                found.extend(filter.has(id, client).then_some((client.thread, id)));
            });
            if walk.last.is_none() || desk.is_turn_over() {
                break;
            }
        }
    }
    walk.killed += found.len();
    // The connection itself ends after its answer.
    let own = call.session.id;
    walk.kills_itself |= found.iter().any(|(_, id)| *id == own);
    found.retain(|(_, id)| *id != own);
    send(desk, found);
    if walk.last.is_some() {
        call.session.begun = Some(Box::new(Begun::Walk(walk)));
        return Next::Again;
    }
    match (call.len() == 3, walk.killed) {
        (true, 0) => call.reply.error("ERR No such client"),
        (true, _) => call.reply.simple("OK"),
        (false, killed) => call.reply.integer(killed as i64),
    }
    if walk.kills_itself { Next::Ends(End::Killed) } else { Next::Goes }
}

fn filter_of<'a>(call: &Call<'a>) -> Result<Filter<'a>, String> {
    let (parser, input) = (call.parser, call.input);
    let mut filter = Filter::default();
    if call.len() == 3 {
        filter.peer = Some(parser.arg(input, 2));
        return Ok(filter);
    }
    filter.skips = Some(call.session.id);
    let mut at = 2;
    while at < call.len() {
        if at + 1 == call.len() {
            return Err(SYNTAX.into());
        }
        if call.is(at, "ID") {
            match number(parser.arg(input, at + 1)) {
                Some(id @ 1..) => filter.id = Some(id as u64),
                _ => return Err("ERR client-id should be greater than 0".into()),
            }
        } else if call.is(at, "ADDR") {
            filter.peer = Some(parser.arg(input, at + 1));
        } else if call.is(at, "TYPE") {
            filter.of_type(call, at + 1)?;
        } else if call.is(at, "USER") {
            if parser.arg(input, at + 1) != USER.as_bytes() {
                return Err(format!("ERR No such user '{}'", call.text(at + 1)));
            }
        } else if call.is(at, "SKIPME") && call.is(at + 1, "no") {
            filter.skips = None;
        } else if !(call.is(at, "SKIPME") && call.is(at + 1, "yes")) {
            return Err(SYNTAX.into());
        }
        at += 2;
    }
    Ok(filter)
}

/// Sends each thread the ids of its connections that are to be closed.
fn send(desk: &Desk, mut found: Vec<(u16, u64)>) {
    found.sort_unstable();
    for own in found.chunk_by(|(one, _), (other, _)| one == other) {
        let thread = usize::from(own[0].0);
        let ids = own.iter().map(|(_, id)| *id).collect();
        // It fails only where that thread has ended, and its connections with it.
        if desk.mail[thread].send(Mail::Kill { ids }).is_ok() {
            desk.shared.bells[thread].wake_up();
        }
    }
}

/// The walk that an earlier turn began, or a new one.
fn go_on(call: &mut Call<'_>) -> Walk {
    match call.session.begun.take().map(|begun| *begun) {
        Some(Begun::Walk(walk)) => walk,
        _ => Walk::default(),
    }
}
