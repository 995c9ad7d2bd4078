//! `PELTON.VIEW`: reads a view.
//!
//! A worker suspends the connection, sends a request to the thread that reads views, and serves other connections; the reply
//! comes as a message. A key that no row can have is answered at once.

use crate::command::context::{Action, CommandContext, Request};
use crate::feed::gather::STOPS;
use crate::feed::view_requests::ViewRequest;
use pelton_views::{View, Which};
use std::borrow::Cow;

/// `PELTON.VIEW name [KEY k] [TOP n] [WINDOW CURRENT|LAST|end-ms]`
pub(crate) fn view(context: &mut CommandContext, request: &mut Request<'_>) -> Action {
    let views = &context.shared.options.views;
    let Some(view) = views.iter().position(|view| view.name.as_bytes() == request.arg(1)) else {
        let name = request.text(1);
        request.reply.error(format_args!("NOVIEW no view '{name}' is declared"));
        return Action::Continue;
    };
    let mut view_request = ViewRequest {
        thread: context.thread,
        key: request.key,
        is_critical: request.is_critical,
        version: request.session.version,
        view,
        which: Which::Open,
        row: None,
        top: None,
    };
    if let Err(error) = read_options(&views[view], request, &mut view_request) {
        request.reply.error(error);
        return Action::Continue;
    }
    if context.view_requests.send(view_request) {
        return Action::AwaitView;
    }
    request.reply.error(STOPS);
    Action::Continue
}

/// Reads the options after the view's name.
///
/// # Errors
/// The text of the error reply.
fn read_options(view: &View, request: &Request<'_>, to: &mut ViewRequest) -> Result<(), Cow<'static, str>> {
    let number =
        |at: usize| std::str::from_utf8(request.arg(at)).ok().and_then(|text| text.parse::<u64>().ok());
    let mut at = 2;
    while at < request.len() {
        let is_followed = at + 1 < request.len();
        if request.is(at, "KEY") && is_followed {
            let key = request.arg(at + 1);
            if key.len() > view.key_max_bytes {
                let (bytes, most, name) = (key.len(), view.key_max_bytes, &view.name);
                return Err(format!(
                    "ERR the key has {bytes} bytes, and no row of view '{name}' has a key of more than {most} (key_max_bytes)"
                )
                .into());
            }
            to.row = Some(key.into());
        } else if request.is(at, "TOP") && is_followed {
            let top = number(at + 1).ok_or("ERR value is not an integer or out of range")?;
            to.top = Some(usize::try_from(top).unwrap_or(usize::MAX));
        } else if request.is(at, "WINDOW") && is_followed {
            to.which = match number(at + 1) {
                Some(end_ms) => Which::Ended(end_ms),
                None if request.is(at + 1, "CURRENT") => Which::Open,
                None if request.is(at + 1, "LAST") => Which::Closed,
                None => {
                    return Err("ERR WINDOW takes CURRENT, LAST, or the time in ms at which it ended".into());
                }
            };
        } else {
            return Err("ERR syntax error".into());
        }
        at += 2;
    }
    Ok(())
}
