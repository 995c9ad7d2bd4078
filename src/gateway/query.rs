//! `PELTON.VIEW`: asking a view.
//!
//! A gateway thread that is asked for a view puts the connection aside, passes the question on to the thread that reads
//! views, and serves others; the answer comes by mail. A key that no row can have is answered at once.
#![forbid(unsafe_code)]

use super::desk::{Call, Desk, Next};
use super::gather::STOPS;
use super::questions::Question;
use crate::views::Which;

/// `PELTON.VIEW name [KEY k] [TOP n] [WINDOW CURRENT|LAST|end-ms]`
pub(super) fn view(desk: &mut Desk, call: &mut Call<'_>) -> Next {
    let views = &desk.shared.options.views;
    let Some(view) = views.iter().position(|view| view.name.as_bytes() == call.arg(1)) else {
        let name = call.text(1);
        call.reply.error(format_args!("NOVIEW no view '{name}' is declared"));
        return Next::Goes;
    };
    let mut question = Question {
        thread: desk.thread,
        key: call.key,
        is_critical: call.is_critical,
        version: call.session.version,
        view,
        which: Which::Open,
        row: None,
        top: None,
    };
    let mut at = 2;
    while at < call.len() {
        let number =
            |at: usize| std::str::from_utf8(call.arg(at)).ok().and_then(|text| text.parse::<u64>().ok());
        let is_followed = at + 1 < call.len();
        if call.is(at, "KEY") && is_followed {
            let (own, key) = (&views[view], call.arg(at + 1));
            if key.len() > own.key_max_bytes {
                let (bytes, most, name) = (key.len(), own.key_max_bytes, &own.name);
                call.reply.error(format_args!(
                    "ERR the key has {bytes} bytes, and no row of view '{name}' has a key of more than {most} (key_max_bytes)"
                ));
                return Next::Goes;
            }
            question.row = Some(key.into());
        } else if call.is(at, "TOP") && is_followed {
            let Some(top) = number(at + 1) else {
                call.reply.error("ERR value is not an integer or out of range");
                return Next::Goes;
            };
            question.top = Some(usize::try_from(top).unwrap_or(usize::MAX));
        } else if call.is(at, "WINDOW") && is_followed {
            question.which = match number(at + 1) {
                Some(end_ms) => Which::Ended(end_ms),
                None if call.is(at + 1, "CURRENT") => Which::Open,
                None if call.is(at + 1, "LAST") => Which::Closed,
                None => {
                    call.reply.error("ERR WINDOW takes CURRENT, LAST, or the time in ms at which it ended");
                    return Next::Goes;
                }
            };
        } else {
            call.reply.error("ERR syntax error");
            return Next::Goes;
        }
        at += 2;
    }
    if desk.questions.ask(question) {
        return Next::Asks;
    }
    call.reply.error(STOPS);
    Next::Goes
}
