//! `MULTI` … `EXEC`: requests that are kept until they are wanted.
//!
//! # Mechanism
//! What a client says between the two is kept as it came. `EXEC` answers with the head of an array, and what was kept goes
//! before whatever else the connection has said: its requests are carried out like any others, and their answers are
//! the array's items.
//!
//! # Invariants
//! - Of a transaction that is discarded, or has a request that nobody could carry out, nothing is carried out.
//! - Every request that is carried out is answered with exactly one item, and nothing else is said before the last.
//!
//! Requests of other connections may come in between, where Redis would keep them waiting: nothing here reads what another
//! one writes, so all that shows of it are the ids. And a transaction that waits for room may be half done when its connection
//! or its server ends: what is carried out stays, and no more is.
#![forbid(unsafe_code)]

use super::desk::{Call, Command, Desk, Next};

pub(super) fn multi(_: &mut Desk, call: &mut Call<'_>) -> Next {
    if call.session.subscriptions.is_some() {
        // Its messages would come between the answers of EXEC, which are one.
        call.reply.error("ERR MULTI is not for subscribers: their messages come in between");
    } else if call.session.transaction.is_some() {
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
            own.requests.extend_from_slice(call.request);
            own.len += 1;
        }
        call.reply.simple("QUEUED");
    }
    Next::Goes
}
