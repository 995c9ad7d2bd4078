//! `SUBSCRIBE` and its kin.
//!
//! # Mechanism
//! A `SUBSCRIBE` or `PSUBSCRIBE` is carried out as a whole or not at all: all of its arguments are looked up before any of
//! them is subscribed to, so it is answered with one confirmation for each argument, or with one error. Clients rely on that.
//! Patterns are compared with all channels, which may take longer than a turn: then the rest of the arguments are looked up in
//! the connection's next turns.
//!
//! # Which names are accepted
//! - A name that is not a channel is an error: channels are declared, so nothing would ever come of it.
//! - A pattern that matches no channel is accepted, as in Redis: clients listen to `__keyspace@0__:*` and the like.
//! - A view without windows has no messages, as nothing of it ever closes. Its name is an error, and so is a pattern that
//!   matches such views alone; other patterns match as if they were not there. `PELTON.VIEW` reads them.
#![forbid(unsafe_code)]

use super::channel::{ChannelId, Chosen, Name, SUBSCRIPTIONS_MAX};
use super::closed::settled_ms;
use super::conn::{Begun, Session};
use super::desk::{Call, Desk, Next};
use super::glob::Pattern;
use super::shared::Shared;
use super::subscriptions::Listeners;
use crate::resp::Reply;
use crate::views::View;
use std::sync::Arc;

/// Answers an error to a command with more names than a connection can have subscriptions.
fn has_too_many(call: &mut Call<'_>) -> bool {
    let has_too_many = call.len() - 1 > SUBSCRIPTIONS_MAX;
    if has_too_many {
        call.reply.error(format_args!("ERR a connection has at most {SUBSCRIPTIONS_MAX} subscriptions"));
    }
    has_too_many
}

/// `SUBSCRIBE channel …`
pub(super) fn subscribe(desk: &mut Desk, call: &mut Call<'_>) -> Next {
    let mut chosen = Chosen::default();
    if has_too_many(call) {
        return Next::Goes;
    }
    for at in 1..call.len() {
        let name = Arc::new(Name { is_pattern: false, text: call.arg(at).into() });
        let found = match desk.shared.channel_named(&name.text) {
            Some(channel) if has_messages(&desk.shared, channel) => {
                choose(&mut chosen, call.session, name, || Ok(vec![channel]))
            }
            Some(channel) => Err(no_messages(desk, &call.text(at), channel)),
            None => Err(format!(
                "NOCHANNEL '{}' is not a channel: there are stream:NAME and view:NAME of those that are declared",
                call.text(at)
            )),
        };
        if let Err(error) = found {
            call.reply.error(error);
            return Next::Goes;
        }
    }
    commit(desk, call, "subscribe", chosen)
}

/// `PSUBSCRIBE pattern …`
pub(super) fn psubscribe(desk: &mut Desk, call: &mut Call<'_>) -> Next {
    if has_too_many(call) {
        return Next::Goes;
    }
    let mut chosen = match call.session.begun.take().map(|begun| *begun) {
        Some(Begun::Patterns(chosen)) => chosen,
        _ => Chosen::default(),
    };
    for at in 1 + chosen.all.len()..call.len() {
        let name = Arc::new(Name { is_pattern: true, text: call.arg(at).into() });
        let matching = || matching(desk, call.arg(at), || call.text(at));
        if let Err(error) = choose(&mut chosen, call.session, name, matching) {
            call.reply.error(error);
            return Next::Goes;
        }
        if desk.is_turn_over() && at + 1 < call.len() {
            call.session.begun = Some(Box::new(Begun::Patterns(chosen)));
            return Next::Again;
        }
    }
    commit(desk, call, "psubscribe", chosen)
}

/// Chooses a name, whose channels are looked up where it is new.
fn choose(
    chosen: &mut Chosen,
    session: &Session,
    name: Arc<Name>,
    channels: impl FnOnce() -> Result<Vec<ChannelId>, String>,
) -> Result<(), String> {
    let own = session.subscriptions.as_deref();
    if chosen.is_new(own, &name) {
        return chosen.add(own, name, channels()?);
    }
    chosen.add_again(name);
    Ok(())
}

/// The channels that match a pattern and have messages.
fn matching(desk: &Desk, pattern: &[u8], text: impl Fn() -> String) -> Result<Vec<ChannelId>, String> {
    let pattern = Pattern::new(pattern).map_err(|error| error.to_string())?;
    let matches = |id: &ChannelId| pattern.matches(desk.shared.channel_name(*id).as_bytes());
    let all = (0..desk.shared.channels()).map(ChannelId);
    let (channels, silent): (Vec<_>, Vec<_>) =
        all.filter(matches).partition(|id| has_messages(&desk.shared, *id));
    match (&*channels, &*silent) {
        ([], [first, ..]) => Err(no_messages(desk, &text(), *first)),
        _ => Ok(channels),
    }
}

/// Subscribes to what was chosen, and confirms each argument.
fn commit(desk: &mut Desk, call: &mut Call<'_>, kind: &str, chosen: Chosen) -> Next {
    if call.session.subscriptions.is_none() {
        desk.shared.clients.subscribes(call.session.id, true);
    }
    let own = call.session.subscriptions.get_or_insert_default();
    for subscription in chosen.all {
        let name = subscription.name.clone();
        let begins = |channel| {
            if desk.listeners.add(channel, call.key.at) {
                desk.shared.want(channel, desk.thread, true);
                listens(desk, channel);
            }
        };
        if own.add(subscription, begins) {
            count(&desk.shared, desk.thread, &name, 1);
        }
        confirm(&mut call.reply, kind, Some(&name.text), own.len());
    }
    Next::Goes
}

/// The view whose channel it is, and its place among the views; `None` for the channel of a stream.
fn view_of(shared: &Shared, channel: ChannelId) -> Option<(usize, &View)> {
    let at = channel.index().checked_sub(shared.streams.len())?;
    Some((at, &shared.options.views[at]))
}

/// Whether a channel ever has messages.
fn has_messages(shared: &Shared, channel: ChannelId) -> bool {
    view_of(shared, channel).is_none_or(|(_, view)| view.pane_ms().is_some())
}

/// Why a name that stands for such a channel is refused.
fn no_messages(desk: &Desk, name: &str, channel: ChannelId) -> String {
    let view = view_of(&desk.shared, channel).map_or("", |(_, view)| &view.name);
    format!(
        "NOCHANNEL '{name}' has no messages, as a view without windows never closes one: PELTON.VIEW {view} reads it"
    )
}

/// Fixes from which window on the messages of a view begin, before the subscription is confirmed.
fn listens(desk: &Desk, channel: ChannelId) {
    let Some((at, view)) = view_of(&desk.shared, channel) else { return };
    if let Some(closed_ms) = desk.closed.end_ms(at, view, settled_ms()) {
        desk.questions.listens(at, closed_ms);
    }
}

pub(super) fn unsubscribe(desk: &mut Desk, call: &mut Call<'_>) -> Next {
    un_each(desk, call, "unsubscribe", false)
}

pub(super) fn punsubscribe(desk: &mut Desk, call: &mut Call<'_>) -> Next {
    un_each(desk, call, "punsubscribe", true)
}

fn un_each(desk: &mut Desk, call: &mut Call<'_>, kind: &str, is_pattern: bool) -> Next {
    if has_too_many(call) {
        return Next::Goes;
    }
    let was_subscriber = call.session.subscriptions.is_some();
    let mut own = call.session.subscriptions.take().unwrap_or_default();
    let named = (1..call.len()).map(|at| Arc::new(Name { is_pattern, text: call.arg(at).into() }));
    let mut names: Vec<_> = named.collect();
    if names.is_empty() {
        names = own.names().filter(|name| name.is_pattern == is_pattern).cloned().collect();
    }
    if names.is_empty() {
        confirm(&mut call.reply, kind, None, own.len());
    }
    let Desk { listeners, shared, thread, .. } = desk;
    for name in names {
        let ends = |channel| end(shared, *thread, listeners, channel, call.key.at);
        if own.remove(&name, ends) {
            count(shared, *thread, &name, -1);
        }
        confirm(&mut call.reply, kind, Some(&name.text), own.len());
    }
    match own.is_empty() {
        true if was_subscriber => shared.clients.subscribes(call.session.id, false),
        true => {}
        false => call.session.subscriptions = Some(own),
    }
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

/// Counts a subscription that came or went.
fn count(shared: &Shared, thread: usize, name: &Name, more: i64) {
    let counts = &shared.threads[thread];
    let own = match shared.channel_named(&name.text) {
        Some(channel) if !name.is_pattern => &counts.named[channel.index()],
        _ => &counts.patterns,
    };
    for counter in [&counts.subscriptions, own] {
        counter.set(counter.get().saturating_add_signed(more));
    }
}

/// A connection listens to a channel no longer.
fn end(shared: &Shared, thread: usize, listeners: &mut Listeners, channel: ChannelId, at: usize) {
    if listeners.remove(channel, at) {
        shared.want(channel, thread, false);
    }
}

/// Ends all subscriptions of a connection.
pub(super) fn leave(
    session: &mut Session,
    at: usize,
    listeners: &mut Listeners,
    shared: &Shared,
    thread: usize,
) {
    let Some(own) = session.subscriptions.take() else { return };
    shared.clients.subscribes(session.id, false);
    own.names().for_each(|name| count(shared, thread, name, -1));
    own.channels().for_each(|channel| end(shared, thread, listeners, channel, at));
}

/// `PUBSUB CHANNELS [pattern]`: the channels that connections have subscribed to by name.
pub(super) fn channels(desk: &mut Desk, call: &mut Call<'_>) -> Next {
    if call.len() > 3 {
        call.reply.error("ERR wrong number of arguments for 'pubsub|channels' command");
        return Next::Goes;
    }
    let pattern = match (call.len() == 3).then(|| Pattern::new(call.arg(2))).transpose() {
        Ok(pattern) => pattern,
        Err(error) => {
            call.reply.error(error);
            return Next::Goes;
        }
    };
    let all = (0..desk.shared.channels()).map(ChannelId).filter(|id| named(&desk.shared, *id) > 0);
    let names = all.map(|id| desk.shared.channel_name(id).as_bytes());
    let found: Vec<_> =
        names.filter(|name| pattern.as_ref().is_none_or(|pattern| pattern.matches(name))).collect();
    call.reply.array(found.len());
    found.into_iter().for_each(|name| call.reply.bulk(name));
    Next::Goes
}

/// `PUBSUB NUMSUB [channel …]`: how many connections have subscribed to each by its name.
pub(super) fn counts(desk: &mut Desk, call: &mut Call<'_>) -> Next {
    if has_too_many(call) {
        return Next::Goes;
    }
    call.reply.map(call.len() - 2);
    for at in 2..call.len() {
        let name = call.parser.arg(call.input, at);
        call.reply.bulk(name);
        call.reply.integer(desk.shared.channel_named(name).map_or(0, |id| named(&desk.shared, id)) as i64);
    }
    Next::Goes
}

/// `PUBSUB NUMPAT`: how many subscriptions are patterns.
pub(super) fn patterns(desk: &mut Desk, call: &mut Call<'_>) -> Next {
    let all: u64 = desk.shared.threads.iter().map(|thread| thread.patterns.get()).sum();
    call.reply.integer(all as i64);
    Next::Goes
}

/// How many connections have subscribed to a channel by its name.
fn named(shared: &Shared, channel: ChannelId) -> u64 {
    shared.threads.iter().map(|thread| thread.named[channel.index()].get()).sum()
}
