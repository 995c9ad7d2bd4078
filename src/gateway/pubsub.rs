//! `SUBSCRIBE` and its kin.
//!
//! # Limits
//! Of a view without windows nothing ever closes, so nothing would be told: its channel is refused, and no pattern matches
//! it. `PELTON.VIEW` reads it.
#![forbid(unsafe_code)]

use super::channel::{ChannelId, Subscription};
use super::closed::settled_ms;
use super::desk::{Call, Desk, Next, Note};
use super::glob::Pattern;
use super::shared::Shared;
use super::subscriptions::Listeners;
use crate::resp::Reply;
use crate::views::View;

/// Channels and patterns that one connection may subscribe to.
const SUBSCRIPTIONS_MAX: usize = 1_024;

pub(super) fn subscribe(desk: &mut Desk, call: &mut Call<'_>) -> Next {
    each(desk, call, "subscribe", false)
}

pub(super) fn psubscribe(desk: &mut Desk, call: &mut Call<'_>) -> Next {
    each(desk, call, "psubscribe", true)
}

fn each(desk: &mut Desk, call: &mut Call<'_>, kind: &str, is_pattern: bool) -> Next {
    for at in 1..call.len() {
        let pattern = match is_pattern.then(|| Pattern::new(call.arg(at))).transpose() {
            Ok(pattern) => pattern,
            Err(error) => {
                call.reply.error(error);
                continue;
            }
        };
        let name: Box<[u8]> = call.arg(at).into();
        let all = (0..desk.shared.channels()).map(ChannelId);
        let matched = |id: &ChannelId| {
            let channel = desk.shared.channel_name(*id);
            match &pattern {
                Some(pattern) => pattern.matches(channel.as_bytes()),
                None => channel.as_bytes() == &*name,
            }
        };
        let (told, untold): (Vec<_>, Vec<_>) = all.filter(matched).partition(|id| is_told(&desk.shared, *id));
        let channels: Vec<_> = told.into_iter().map(|id| (id, 0)).collect();
        // All channels are declared: what matches none would never be told anything.
        if channels.is_empty() {
            let name = call.text(at);
            if let Some(view) = untold.first().and_then(|id| view_of(&desk.shared, *id)) {
                call.reply.error(format_args!(
                    "NOCHANNEL '{name}' has no messages, as a view without windows closes none: PELTON.VIEW {} reads it",
                    view.1.name
                ));
                continue;
            }
            call.reply.error(format_args!(
                "NOCHANNEL '{name}' is not a channel: there are stream:NAME and view:NAME of those that are declared"
            ));
            continue;
        }
        let own = call.session.subscriptions.get_or_insert_default();
        if own.all.len() >= SUBSCRIPTIONS_MAX {
            call.reply.error(format_args!("ERR a connection has at most {SUBSCRIPTIONS_MAX} subscriptions"));
            continue;
        }
        if !own.all.iter().any(|other| other.is_pattern == is_pattern && other.name == name) {
            for (channel, _) in &channels {
                if desk.listeners.add(*channel, call.key.at) {
                    desk.shared.want(*channel, desk.thread, true);
                    listens(desk, *channel);
                }
            }
            own.all.push(Subscription { name: name.clone(), is_pattern, channels });
            count(&desk.shared, desk.thread, 1);
        }
        confirm(&mut call.reply, kind, Some(&name), own.all.len());
    }
    Next::Goes
}

/// The view whose channel it is, and its place among the views; `None` for the channel of a stream.
fn view_of(shared: &Shared, channel: ChannelId) -> Option<(usize, &View)> {
    let at = channel.index().checked_sub(shared.streams.len())?;
    Some((at, &shared.options.views[at]))
}

/// Whether anything is ever told on a channel.
fn is_told(shared: &Shared, channel: ChannelId) -> bool {
    view_of(shared, channel).is_none_or(|(_, view)| view.pane_ms().is_some())
}

/// Says from which window on a view is to be told, before that is promised.
fn listens(desk: &Desk, channel: ChannelId) {
    let Some((at, view)) = view_of(&desk.shared, channel) else { return };
    if let Some(closed_ms) = desk.closed.end_ms(at, view, settled_ms()) {
        // It fails only where the server stops, and then nothing more is told.
        let _ = desk.notes.send(Note::Listens { view: at, closed_ms });
    }
}

pub(super) fn unsubscribe(desk: &mut Desk, call: &mut Call<'_>) -> Next {
    un_each(desk, call, "unsubscribe", false)
}

pub(super) fn punsubscribe(desk: &mut Desk, call: &mut Call<'_>) -> Next {
    un_each(desk, call, "punsubscribe", true)
}

fn un_each(desk: &mut Desk, call: &mut Call<'_>, kind: &str, is_pattern: bool) -> Next {
    let mut own = call.session.subscriptions.take().unwrap_or_default();
    let named: Vec<Box<[u8]>> = (1..call.len()).map(|at| call.arg(at).into()).collect();
    let mine = own.all.iter().filter(|subscription| subscription.is_pattern == is_pattern);
    let names = if named.is_empty() { mine.map(|own| own.name.clone()).collect() } else { named };
    if names.is_empty() {
        confirm(&mut call.reply, kind, None, own.all.len());
    }
    for name in names {
        if let Some(at) =
            own.all.iter().position(|other| other.is_pattern == is_pattern && other.name == name)
        {
            let gone = own.all.swap_remove(at);
            count(&desk.shared, desk.thread, -1);
            for (channel, _) in gone.channels {
                let still =
                    own.all.iter().flat_map(|other| &other.channels).any(|(other, _)| *other == channel);
                if !still && desk.listeners.remove(channel, call.key.at) {
                    desk.shared.want(channel, desk.thread, false);
                }
            }
        }
        confirm(&mut call.reply, kind, Some(&name), own.all.len());
    }
    call.session.subscriptions = (!own.all.is_empty()).then_some(own);
    Next::Goes
}

fn confirm(reply: &mut Reply<'_>, kind: &str, name: Option<&[u8]>, count: usize) {
    reply.push(3);
    reply.bulk(kind.as_bytes());
    match name {
        Some(name) => reply.bulk(name),
        None => reply.null(),
    }
    reply.integer(count as i64);
}

/// Counts subscriptions that came or went.
fn count(shared: &Shared, thread: usize, more: i64) {
    let counter = &shared.threads[thread].subscriptions;
    counter.set(counter.get().saturating_add_signed(more));
}

/// Ends all subscriptions of a connection.
pub(super) fn leave(
    session: &mut super::conn::Session,
    at: usize,
    listeners: &mut Listeners,
    shared: &Shared,
    thread: usize,
) {
    let Some(own) = session.subscriptions.take() else { return };
    count(shared, thread, -(own.all.len() as i64));
    for (channel, _) in own.all.iter().flat_map(|subscription| &subscription.channels) {
        if listeners.remove(*channel, at) {
            shared.want(*channel, thread, false);
        }
    }
}
