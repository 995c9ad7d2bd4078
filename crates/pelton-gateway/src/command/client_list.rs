//! `CLIENT LIST`, `CLIENT INFO` and `CLIENT KILL`: connections as other connections see them.
//!
//! # Mechanism
//! There may be a million connections, so the list is scanned in pieces, a turn for some of them, and the reply is written at
//! the end. A list longer than `output_max_bytes` is an error: it would be kept whole for each connection that asks for it.
//!
//! A connection that is killed is closed by its own worker, which receives the ids; it may run a request before that.

use crate::command::context::{Action, CommandContext, Request};
use crate::command::session::USER;
use crate::net::connection::{ClientScan, Continuation};
use crate::net::registry::Client;
use crate::resp::number;
use crate::server::metrics::End;
use crate::server::state::WorkerMessage;

/// The most ids that one `CLIENT LIST ID` takes.
const IDS_MAX: usize = 1_024;

/// Which connections a command is about; all that is named must hold.
#[derive(Default)]
struct Filter<'a> {
    id: Option<u64>,
    peer: Option<&'a [u8]>,
    is_subscriber: Option<bool>,
    /// No connection is of the type that is named.
    matches_none: bool,
    /// The connection that is left out.
    excluded: Option<u64>,
}

impl Filter<'_> {
    fn matches(&self, id: u64, client: &Client) -> bool {
        !self.matches_none
            && self.excluded != Some(id)
            && self.id.is_none_or(|own| own == id)
            && self.peer.is_none_or(|peer| peer == client.peer.as_bytes())
            && self.is_subscriber.is_none_or(|is_subscriber| is_subscriber == client.is_subscriber)
    }

    /// Takes the type that stands at this place.
    fn of_type(&mut self, request: &Request<'_>, at: usize) -> Result<(), String> {
        match ["normal", "pubsub", "master", "replica", "slave"].iter().position(|word| request.is(at, word))
        {
            Some(0) => self.is_subscriber = Some(false),
            Some(1) => self.is_subscriber = Some(true),
            Some(_) => self.matches_none = true,
            None => return Err(format!("ERR Unknown client type '{}'", request.text(at))),
        }
        Ok(())
    }
}

const SYNTAX: &str = "ERR syntax error";

fn reply_error(request: &mut Request<'_>, why: &str) -> Action {
    request.reply.error(why);
    Action::Continue
}

/// `CLIENT INFO`
pub(crate) fn info(context: &mut CommandContext, request: &mut Request<'_>) -> Action {
    let mut text = String::new();
    let id = request.session.id;
    context.shared.clients.visit_one(id, |client| client.line(id, context.shared.now_s(), &mut text));
    request.reply.verbatim(&text);
    Action::Continue
}

/// `CLIENT LIST [TYPE type | ID id …]`
pub(crate) fn list(context: &mut CommandContext, request: &mut Request<'_>) -> Action {
    let mut filter = Filter::default();
    if request.len() == 4 && request.is(2, "TYPE") {
        if let Err(error) = filter.of_type(request, 3) {
            return reply_error(request, &error);
        }
    } else if request.len() > 3 && request.is(2, "ID") {
        return list_ids(context, request);
    } else if request.len() != 2 {
        return reply_error(request, SYNTAX);
    }
    let (most, now_s) = (context.shared.options.output_bytes_max as usize, context.shared.now_s());
    let mut scan = resume_scan(request);
    loop {
        let ClientScan { last, text, .. } = &mut scan;
        *last = context.shared.clients.visit(*last, |id, client| {
            if filter.matches(id, client) {
                client.line(id, now_s, text);
            }
        });
        if text.len() > most {
            return reply_error(
                request,
                &format!(
                    "ERR the list exceeds output_max_bytes = {most}; CLIENT LIST ID id … is a part of it"
                ),
            );
        }
        if last.is_none() {
            break;
        }
        if context.is_turn_over() {
            request.session.continuation = Some(Box::new(Continuation::Clients(scan)));
            return Action::Resume;
        }
    }
    request.reply.verbatim(&scan.text);
    Action::Continue
}

fn list_ids(context: &mut CommandContext, request: &mut Request<'_>) -> Action {
    if request.len() - 3 > IDS_MAX {
        return reply_error(request, &format!("ERR CLIENT LIST ID takes at most {IDS_MAX} ids"));
    }
    let mut text = String::new();
    for at in 3..request.len() {
        let Some(id) = number(request.arg(at)) else { return reply_error(request, "ERR Invalid client ID") };
        let id = id as u64;
        context.shared.clients.visit_one(id, |client| client.line(id, context.shared.now_s(), &mut text));
    }
    request.reply.verbatim(&text);
    Action::Continue
}

/// `CLIENT KILL address`, or `CLIENT KILL [ID id] [ADDR address] [TYPE type] [USER user] [SKIPME yes|no]`
pub(crate) fn kill(context: &mut CommandContext, request: &mut Request<'_>) -> Action {
    let filter = match parse_filter(request) {
        Ok(filter) => filter,
        Err(error) => return reply_error(request, &error),
    };
    let mut scan = resume_scan(request);
    let mut found = Vec::new();
    if let Some(id) = filter.id {
        let add = |client: &Client| found.extend(filter.matches(id, client).then_some((client.thread, id)));
        context.shared.clients.visit_one(id, add);
    } else {
        loop {
            scan.last = context.shared.clients.visit(scan.last, |id, client| {
                found.extend(filter.matches(id, client).then_some((client.thread, id)));
            });
            if scan.last.is_none() || context.is_turn_over() {
                break;
            }
        }
    }
    scan.killed += found.len();
    // The connection itself ends after its answer.
    let own = request.session.id;
    scan.kills_itself |= found.iter().any(|(_, id)| *id == own);
    found.retain(|(_, id)| *id != own);
    send_kills(context, found);
    if scan.last.is_some() {
        request.session.continuation = Some(Box::new(Continuation::Clients(scan)));
        return Action::Resume;
    }
    match (request.len() == 3, scan.killed) {
        (true, 0) => request.reply.error("ERR No such client"),
        (true, _) => request.reply.simple("OK"),
        (false, killed) => request.reply.integer(killed as i64),
    }
    if scan.kills_itself { Action::Close(End::Killed) } else { Action::Continue }
}

fn parse_filter<'a>(request: &Request<'a>) -> Result<Filter<'a>, String> {
    let (parser, input) = (request.parser, request.input);
    let mut filter = Filter::default();
    if request.len() == 3 {
        filter.peer = Some(parser.arg(input, 2));
        return Ok(filter);
    }
    filter.excluded = Some(request.session.id);
    let mut at = 2;
    while at < request.len() {
        if at + 1 == request.len() {
            return Err(SYNTAX.into());
        }
        if request.is(at, "ID") {
            match number(parser.arg(input, at + 1)) {
                Some(id @ 1..) => filter.id = Some(id as u64),
                _ => return Err("ERR client-id should be greater than 0".into()),
            }
        } else if request.is(at, "ADDR") {
            filter.peer = Some(parser.arg(input, at + 1));
        } else if request.is(at, "TYPE") {
            filter.of_type(request, at + 1)?;
        } else if request.is(at, "USER") {
            if parser.arg(input, at + 1) != USER.as_bytes() {
                return Err(format!("ERR No such user '{}'", request.text(at + 1)));
            }
        } else if request.is(at, "SKIPME") && request.is(at + 1, "no") {
            filter.excluded = None;
        } else if !(request.is(at, "SKIPME") && request.is(at + 1, "yes")) {
            return Err(SYNTAX.into());
        }
        at += 2;
    }
    Ok(filter)
}

/// Sends each thread the ids of its connections that are to be closed.
fn send_kills(context: &CommandContext, mut found: Vec<(u16, u64)>) {
    found.sort_unstable();
    for own in found.chunk_by(|(one, _), (other, _)| one == other) {
        let thread = usize::from(own[0].0);
        let ids = own.iter().map(|(_, id)| *id).collect();
        // It fails only where that thread has ended, and its connections with it.
        if context.inboxes[thread].send(WorkerMessage::Kill { ids }).is_ok() {
            context.shared.wakers[thread].wake_up();
        }
    }
}

/// The walk that an earlier turn began, or a new one.
fn resume_scan(request: &mut Request<'_>) -> ClientScan {
    match request.session.continuation.take().map(|continuation| *continuation) {
        Some(Continuation::Clients(scan)) => scan,
        _ => ClientScan::default(),
    }
}
