//! `MULTI` … `EXEC`: requests that are kept until `EXEC` runs them.
//!
//! # Mechanism
//! The requests between the two are kept as they came. `EXEC` writes the head of an array, and puts the kept requests before
//! the rest of the input: they run like any others, and their replies are the array's items. While items are left, messages to
//! the connection are held back ([`subscribers`](crate::feed::subscribers)).
//!
//! # Invariants
//! - Nothing runs of a transaction that is discarded, or that has an invalid request.
//! - Every request that runs writes exactly one item, and nothing else is written before the last.
//!
//! Requests of other connections may run in between, where Redis would make them wait: nothing here reads what another
//! connection writes, so only the IDs show it. A transaction that waits for room may be half done when its connection or its
//! server ends: the requests that have run stay in effect, and the rest does not run.

use crate::command::context::{Action, Command, CommandContext, Request};
use crate::net::connection::append_within;

pub(crate) fn multi(_: &mut CommandContext, request: &mut Request<'_>) -> Action {
    if request.session.transaction.is_some() {
        request.reply.error("ERR MULTI calls can not be nested");
    } else {
        request.session.transaction = Some(Box::default());
        request.reply.simple("OK");
    }
    Action::Continue
}

pub(crate) fn discard(_: &mut CommandContext, request: &mut Request<'_>) -> Action {
    match request.session.transaction.take() {
        Some(_) => request.reply.simple("OK"),
        None => request.reply.error("ERR DISCARD without MULTI"),
    }
    Action::Continue
}

pub(crate) fn exec(_: &mut CommandContext, request: &mut Request<'_>) -> Action {
    match request.session.transaction.take() {
        None => request.reply.error("ERR EXEC without MULTI"),
        Some(own) if own.is_broken => {
            request.reply.error("EXECABORT Transaction discarded because of previous errors.");
        }
        Some(own) => {
            request.reply.array(own.len);
            request.session.exec_left = own.len;
            return Action::Replay(own.requests);
        }
    }
    Action::Continue
}

/// `WATCH key …`: accepted, as `EXEC` has nothing that another connection could have changed.
pub(crate) fn watch(_: &mut CommandContext, request: &mut Request<'_>) -> Action {
    if request.session.transaction.is_some() {
        request.reply.error("ERR WATCH inside MULTI is not allowed");
    } else {
        request.reply.simple("OK");
    }
    Action::Continue
}

pub(crate) fn unwatch(_: &mut CommandContext, request: &mut Request<'_>) -> Action {
    request.reply.simple("OK");
    Action::Continue
}

/// Keeps a request for `EXEC`.
pub(crate) fn keep(context: &CommandContext, command: &Command, request: &mut Request<'_>) -> Action {
    let Some(own) = &mut request.session.transaction else { return Action::Continue };
    let bytes_max = context.shared.options.frame_bytes_max as usize;
    // Those have more answers than one, or change how they are written.
    if command.is_allowed_while_subscribed && command.name != "PING" || command.is_allowed_before_auth {
        own.give_up();
        request.reply.error("ERR Command not allowed inside a transaction");
    } else if own.requests.len() + request.bytes.len() > bytes_max {
        own.give_up();
        request.reply.error(format_args!("ERR a transaction of more than frame_max_bytes = {bytes_max}"));
    } else {
        if !own.is_broken {
            append_within(&mut own.requests, request.bytes, bytes_max);
            own.len += 1;
        }
        request.reply.simple("QUEUED");
    }
    Action::Continue
}
