//! `MULTI` … `EXEC`: requests that are kept until they are wanted.
//!
//! # Mechanism
//! The requests between the two are kept as they came. `EXEC` answers with the head of an array, and puts the kept requests
//! before the rest of what was read: they are carried out like any others, and their answers are the array's items. While
//! items are left, messages to the connection are held back ([`subscriptions`](super::subscriptions)).
//!
//! # Invariants
//! - Nothing is carried out of a transaction that is discarded, or that has a request which is not valid.
//! - Every request that is carried out is answered with exactly one item, and nothing else is written before the last.
//!
//! Requests of other connections may come in between, where Redis would make them wait: nothing here reads what another
//! connection writes, so only the ids show it. A transaction that waits for room may be half done when its connection or
//! its server ends: what was carried out stays, and the rest is not carried out.
#![forbid(unsafe_code)]

use super::desk::{Call, Command, Desk, Next};
use super::pool::append_within;

pub(super) fn multi(_: &mut Desk, call: &mut Call<'_>) -> Next {
    if call.session.transaction.is_some() {
        call.reply.error("ERR MULTI calls can not be nested");
    } else {
        call.session.transaction = Some(Box::default());
        call.reply.simple("OK");
    }
    Next::Goes
}

pub(super) fn discard(_: &mut Desk, call: &mut Call<'_>) -> Next {
    match call.session.transaction.take() {
        Some(_) => call.reply.simple("OK"),
        None => call.reply.error("ERR DISCARD without MULTI"),
    }
    Next::Goes
}

pub(super) fn exec(_: &mut Desk, call: &mut Call<'_>) -> Next {
    match call.session.transaction.take() {
        None => call.reply.error("ERR EXEC without MULTI"),
        Some(own) if own.is_broken => {
            call.reply.error("EXECABORT Transaction discarded because of previous errors.");
        }
        Some(own) => {
            call.reply.array(own.len);
            call.session.exec_left = own.len;
            return Next::Repeats(own.requests);
        }
    }
    Next::Goes
}

/// `WATCH key …`: accepted, as `EXEC` has nothing that another connection could have changed.
pub(super) fn watch(_: &mut Desk, call: &mut Call<'_>) -> Next {
    if call.session.transaction.is_some() {
        call.reply.error("ERR WATCH inside MULTI is not allowed");
    } else {
        call.reply.simple("OK");
    }
    Next::Goes
}

pub(super) fn unwatch(_: &mut Desk, call: &mut Call<'_>) -> Next {
    call.reply.simple("OK");
    Next::Goes
}

/// Keeps a request for `EXEC`.
pub(super) fn keep(desk: &Desk, command: &Command, call: &mut Call<'_>) -> Next {
    let Some(own) = &mut call.session.transaction else { return Next::Goes };
    let bytes_max = desk.shared.options.frame_bytes_max as usize;
    // Those have more answers than one, or change how they are written.
    if command.is_for_subscribers && command.name != "PING" || command.is_for_strangers {
        own.give_up();
        call.reply.error("ERR Command not allowed inside a transaction");
    } else if own.requests.len() + call.request.len() > bytes_max {
        own.give_up();
        call.reply.error(format_args!("ERR a transaction of more than frame_max_bytes = {bytes_max}"));
    } else {
        if !own.is_broken {
            append_within(&mut own.requests, call.request, bytes_max);
            own.len += 1;
        }
        call.reply.simple("QUEUED");
    }
    Next::Goes
}
