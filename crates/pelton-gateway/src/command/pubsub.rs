//! `SUBSCRIBE` and its kin.
//!
//! # Mechanism
//! A `SUBSCRIBE` or `PSUBSCRIBE` runs as a whole or not at all: all of its arguments are looked up before any of them is
//! subscribed to, so the reply is one confirmation for each argument, or one error. Clients rely on that. Patterns are compared
//! with all channels, which may take longer than a turn: then the rest of the arguments are looked up in the connection's next
//! turns.
//!
//! # Which names are accepted
//! - A name that is not a channel is an error: channels are declared, so nothing would ever be published there.
//! - A pattern that matches no channel is accepted, as in Redis: clients subscribe to `__keyspace@0__:*` and the like.
//! - A view without windows has no messages, as nothing of it ever closes. Its name is an error, and so is a pattern that
//!   matches such views alone; other patterns match as if they did not exist. `PELTON.VIEW` reads them.

use crate::command::context::{Action, CommandContext, Request};
use crate::feed::pattern::Pattern;
use crate::feed::subscribers::Subscribers;
use crate::feed::subscriptions::{ChannelId, Name, PendingSubscriptions, SUBSCRIPTIONS_MAX};
use crate::feed::watermark::settled_ms;
use crate::net::connection::{Continuation, Session};
use crate::resp::Reply;
use crate::server::state::Shared;
use pelton_views::View;
use std::sync::Arc;

/// Answers an error to a command with more names than a connection can have subscriptions.
fn has_too_many(request: &mut Request<'_>) -> bool {
    let has_too_many = request.len() - 1 > SUBSCRIPTIONS_MAX;
    if has_too_many {
        request.reply.error(format_args!("ERR a connection has at most {SUBSCRIPTIONS_MAX} subscriptions"));
    }
    has_too_many
}

/// `SUBSCRIBE channel …`
pub(crate) fn subscribe(context: &mut CommandContext, request: &mut Request<'_>) -> Action {
    let mut chosen = PendingSubscriptions::default();
    if has_too_many(request) {
        return Action::Continue;
    }
    for at in 1..request.len() {
        let name = Arc::new(Name { is_pattern: false, text: request.arg(at).into() });
        let found = match context.shared.channel_named(&name.text) {
            Some(channel) if has_messages(&context.shared, channel) => {
                choose(&mut chosen, request.session, name, || Ok(vec![channel]))
            }
            Some(channel) => Err(no_messages(context, &request.text(at), channel)),
            None => Err(format!(
                "NOCHANNEL '{}' is not a channel: there are stream:NAME and view:NAME of those that are declared",
                request.text(at)
            )),
        };
        if let Err(error) = found {
            request.reply.error(error);
            return Action::Continue;
        }
    }
    commit(context, request, "subscribe", chosen)
}

/// `PSUBSCRIBE pattern …`
pub(crate) fn psubscribe(context: &mut CommandContext, request: &mut Request<'_>) -> Action {
    if has_too_many(request) {
        return Action::Continue;
    }
    let mut chosen = match request.session.continuation.take().map(|continuation| *continuation) {
        Some(Continuation::Patterns(chosen)) => chosen,
        _ => PendingSubscriptions::default(),
    };
    for at in 1 + chosen.all.len()..request.len() {
        let name = Arc::new(Name { is_pattern: true, text: request.arg(at).into() });
        let matching = || matching(context, request.arg(at), || request.text(at));
        if let Err(error) = choose(&mut chosen, request.session, name, matching) {
            request.reply.error(error);
            return Action::Continue;
        }
        if context.is_turn_over() && at + 1 < request.len() {
            request.session.continuation = Some(Box::new(Continuation::Patterns(chosen)));
            return Action::Resume;
        }
    }
    commit(context, request, "psubscribe", chosen)
}

/// Chooses a name, whose channels are looked up where it is new.
fn choose(
    chosen: &mut PendingSubscriptions,
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
fn matching(
    context: &CommandContext,
    pattern: &[u8],
    text: impl Fn() -> String,
) -> Result<Vec<ChannelId>, String> {
    let pattern = Pattern::new(pattern).map_err(|error| error.to_string())?;
    let matches = |id: &ChannelId| pattern.matches(context.shared.channel_name(*id).as_bytes());
    let all = (0..context.shared.channels()).map(ChannelId);
    let (channels, silent): (Vec<_>, Vec<_>) =
        all.filter(matches).partition(|id| has_messages(&context.shared, *id));
    match (&*channels, &*silent) {
        ([], [first, ..]) => Err(no_messages(context, &text(), *first)),
        _ => Ok(channels),
    }
}

/// Subscribes to what was chosen, and confirms each argument.
fn commit(
    context: &mut CommandContext,
    request: &mut Request<'_>,
    kind: &str,
    chosen: PendingSubscriptions,
) -> Action {
    if request.session.subscriptions.is_none() {
        context.shared.clients.subscribes(request.session.id, true);
    }
    let own = request.session.subscriptions.get_or_insert_default();
    for subscription in chosen.all {
        let name = subscription.name.clone();
        let begins = |channel| {
            if context.subscribers.add(channel, request.key.slot) {
                context.shared.want(channel, context.thread, true);
                announce_subscriber(context, channel);
            }
        };
        if own.add(subscription, begins) {
            count(&context.shared, context.thread, &name, 1);
        }
        confirm(&mut request.reply, kind, Some(&name.text), own.len());
    }
    Action::Continue
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
fn no_messages(context: &CommandContext, name: &str, channel: ChannelId) -> String {
    let view = view_of(&context.shared, channel).map_or("", |(_, view)| &view.name);
    format!(
        "NOCHANNEL '{name}' has no messages, as a view without windows never closes one: PELTON.VIEW {view} reads it"
    )
}

/// Fixes from which window on the messages of a view begin, before the subscription is confirmed.
fn announce_subscriber(context: &CommandContext, channel: ChannelId) {
    let Some((at, view)) = view_of(&context.shared, channel) else { return };
    if let Some(closed_ms) = context.watermarks.end_ms(at, view, settled_ms(&context.clock)) {
        context.view_requests.subscribed(at, closed_ms);
    }
}

pub(crate) fn unsubscribe(context: &mut CommandContext, request: &mut Request<'_>) -> Action {
    unsubscribe_each(context, request, "unsubscribe", false)
}

pub(crate) fn punsubscribe(context: &mut CommandContext, request: &mut Request<'_>) -> Action {
    unsubscribe_each(context, request, "punsubscribe", true)
}

fn unsubscribe_each(
    context: &mut CommandContext,
    request: &mut Request<'_>,
    kind: &str,
    is_pattern: bool,
) -> Action {
    if has_too_many(request) {
        return Action::Continue;
    }
    let was_subscriber = request.session.subscriptions.is_some();
    let mut own = request.session.subscriptions.take().unwrap_or_default();
    let named = (1..request.len()).map(|at| Arc::new(Name { is_pattern, text: request.arg(at).into() }));
    let mut names: Vec<_> = named.collect();
    if names.is_empty() {
        names = own.names().filter(|name| name.is_pattern == is_pattern).cloned().collect();
    }
    if names.is_empty() {
        confirm(&mut request.reply, kind, None, own.len());
    }
    let CommandContext { subscribers, shared, thread, .. } = context;
    for name in names {
        let ends = |channel| end_channel(shared, *thread, subscribers, channel, request.key.slot);
        if own.remove(&name, ends) {
            count(shared, *thread, &name, -1);
        }
        confirm(&mut request.reply, kind, Some(&name.text), own.len());
    }
    match own.is_empty() {
        true if was_subscriber => shared.clients.subscribes(request.session.id, false),
        true => {}
        false => request.session.subscriptions = Some(own),
    }
    Action::Continue
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
    let counts = &shared.counters[thread];
    let own = match shared.channel_named(&name.text) {
        Some(channel) if !name.is_pattern => &counts.named[channel.index()],
        _ => &counts.patterns,
    };
    for counter in [&counts.subscriptions, own] {
        counter.set(counter.get().saturating_add_signed(more));
    }
}

/// A connection listens to a channel no longer.
fn end_channel(shared: &Shared, thread: usize, subscribers: &mut Subscribers, channel: ChannelId, at: usize) {
    if subscribers.remove(channel, at) {
        shared.want(channel, thread, false);
    }
}

/// Ends all subscriptions of a connection.
pub(crate) fn unsubscribe_all(
    session: &mut Session,
    at: usize,
    subscribers: &mut Subscribers,
    shared: &Shared,
    thread: usize,
) {
    let Some(own) = session.subscriptions.take() else { return };
    shared.clients.subscribes(session.id, false);
    own.names().for_each(|name| count(shared, thread, name, -1));
    own.channels().for_each(|channel| end_channel(shared, thread, subscribers, channel, at));
}

/// `PUBSUB CHANNELS [pattern]`: the channels that connections have subscribed to by name.
pub(crate) fn channels(context: &mut CommandContext, request: &mut Request<'_>) -> Action {
    if request.len() > 3 {
        request.reply.error("ERR wrong number of arguments for 'pubsub|channels' command");
        return Action::Continue;
    }
    let pattern = match (request.len() == 3).then(|| Pattern::new(request.arg(2))).transpose() {
        Ok(pattern) => pattern,
        Err(error) => {
            request.reply.error(error);
            return Action::Continue;
        }
    };
    let all = (0..context.shared.channels()).map(ChannelId).filter(|id| named(&context.shared, *id) > 0);
    let names = all.map(|id| context.shared.channel_name(id).as_bytes());
    let found: Vec<_> =
        names.filter(|name| pattern.as_ref().is_none_or(|pattern| pattern.matches(name))).collect();
    request.reply.array(found.len());
    found.into_iter().for_each(|name| request.reply.bulk(name));
    Action::Continue
}

/// `PUBSUB NUMSUB [channel …]`: how many connections have subscribed to each by its name.
pub(crate) fn counts(context: &mut CommandContext, request: &mut Request<'_>) -> Action {
    if has_too_many(request) {
        return Action::Continue;
    }
    request.reply.map(request.len() - 2);
    for at in 2..request.len() {
        let name = request.parser.arg(request.input, at);
        request.reply.bulk(name);
        request
            .reply
            .integer(context.shared.channel_named(name).map_or(0, |id| named(&context.shared, id)) as i64);
    }
    Action::Continue
}

/// `PUBSUB NUMPAT`: how many subscriptions are patterns.
pub(crate) fn patterns(context: &mut CommandContext, request: &mut Request<'_>) -> Action {
    let all: u64 = context.shared.counters.iter().map(|thread| thread.patterns.get()).sum();
    request.reply.integer(all as i64);
    Action::Continue
}

/// How many connections have subscribed to a channel by its name.
fn named(shared: &Shared, channel: ChannelId) -> u64 {
    shared.counters.iter().map(|thread| thread.named[channel.index()].get()).sum()
}
