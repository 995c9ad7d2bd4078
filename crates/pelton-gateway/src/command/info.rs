//! Commands about the server and its streams.

use crate::command::context::{Action, CommandContext, Request};
use crate::command::xadd::no_stream_slow;
use crate::config::settings::GATEWAY;
use crate::feed::pattern::Pattern;
use crate::server::metrics::{End, StreamCounts};
use pelton::engine::ENGINE;
use pelton::event::{Failure, Rejection};
use std::fmt::Write;

/// The version of Redis whose protocol is spoken, for clients that ask before they use a part of it.
pub(crate) const REDIS_VERSION: &str = "7.0.0";

/// Settings that clients of Redis look for, with what they mean here: nothing is kept on disk.
const REDIS_SETTINGS: [(&str, &str); 4] =
    [("save", ""), ("appendonly", "no"), ("databases", "1"), ("maxmemory", "0")];

/// Patterns that one `CONFIG GET` takes: each is held against each setting.
const CONFIG_PATTERNS_MAX: usize = 64;

/// `CONFIG SET`
pub(crate) fn set(_: &mut CommandContext, request: &mut Request<'_>) -> Action {
    request
        .reply
        .error("ERR settings are read at the start; a file, the environment or an option would work");
    Action::Continue
}

/// `CONFIG GET pattern …`
pub(crate) fn settings(context: &mut CommandContext, request: &mut Request<'_>) -> Action {
    if request.len() - 2 > CONFIG_PATTERNS_MAX {
        request.reply.error(format_args!("ERR CONFIG GET takes at most {CONFIG_PATTERNS_MAX} patterns"));
        return Action::Continue;
    }
    let patterns: Result<Vec<_>, _> =
        (2..request.len()).map(|at| Pattern::new(&request.arg(at).to_ascii_lowercase())).collect();
    let patterns = match patterns {
        Ok(patterns) => patterns,
        Err(error) => {
            request.reply.error(error);
            return Action::Continue;
        }
    };
    let options = &context.shared.options;
    let engine = ENGINE.iter().map(|row| (row.info.key, row.get(&options.plan).to_string()));
    let gateway = GATEWAY.iter().map(|row| (row.info.key, row.get(options).to_string()));
    let redis = REDIS_SETTINGS.map(|(key, value)| (key, value.to_string()));
    let max = [("maxclients", options.connections_max.to_string())];
    let wanted = |key: &str| patterns.iter().any(|pattern| pattern.matches(key.as_bytes()));
    let all = engine.chain(gateway).chain(redis).chain(max);
    let found: Vec<_> = all.filter(|(key, _)| wanted(key)).collect();
    request.reply.map(found.len());
    for (key, value) in found {
        request.reply.bulk(key.as_bytes());
        request.reply.bulk(value.as_bytes());
    }
    Action::Continue
}

/// `INFO [section …]`. A section that is not asked for costs nothing.
pub(crate) fn info(context: &mut CommandContext, request: &mut Request<'_>) -> Action {
    type Section = fn(&CommandContext, &mut String);
    const SECTIONS: [(&str, Section); 9] = [
        ("Server", server),
        ("Clients", clients),
        ("Memory", memory),
        ("Persistence", persistence),
        ("Stats", stats),
        ("Replication", replication),
        ("Cluster", cluster),
        ("Ledger", ledger),
        ("Streams", streams),
    ];
    let is_all =
        request.len() == 1 || ["all", "default", "everything"].iter().any(|word| request.is(1, word));
    let mut text = String::new();
    for (name, section) in SECTIONS {
        if is_all || (1..request.len()).any(|at| request.is(at, name)) {
            let _ = write!(text, "{}# {name}\r\n", if text.is_empty() { "" } else { "\r\n" });
            section(context, &mut text);
        }
    }
    request.reply.verbatim(&text);
    Action::Continue
}

/// Writes a line of `INFO`.
fn line(text: &mut String, name: &str, value: impl std::fmt::Display) {
    // Writing to a string does not fail.
    let _ = write!(text, "{name}:{value}\r\n");
}

fn server(context: &CommandContext, text: &mut String) {
    line(text, "redis_version", REDIS_VERSION);
    line(text, "pelton_version", env!("CARGO_PKG_VERSION"));
    line(text, "redis_mode", "standalone");
    line(text, "role", "master");
    line(text, "process_id", std::process::id());
    line(text, "uptime_in_seconds", context.shared.now_s());
    line(text, "gateway_threads", context.shared.counters.len());
    for (at, thread) in context.shared.counters.iter().enumerate() {
        line(text, &format!("gateway_thread_{at}_pinned"), thread.pinned.get());
    }
    line(text, "shards", context.shared.options.plan.placements().len());
}

fn clients(context: &CommandContext, text: &mut String) {
    line(text, "connected_clients", context.shared.clients.len());
    line(text, "maxclients", context.shared.options.connections_max);
    line(text, "subscriptions", context.shared.totals().subscriptions);
}

fn memory(context: &CommandContext, text: &mut String) {
    if let Some(engine) = context.engine.upgrade() {
        line(text, "footprint_bytes", engine.footprint().total_bytes());
    }
    line(text, "gateway_allocations", context.shared.totals().allocations);
}

fn persistence(_: &CommandContext, text: &mut String) {
    // Clients that wait until a server has read its data ask for this.
    line(text, "loading", 0);
}

fn stats(context: &CommandContext, text: &mut String) {
    let counts = context.shared.totals();
    for (name, count) in [
        ("total_connections_received", counts.connected),
        ("total_commands_processed", counts.commands),
        ("total_net_input_bytes", counts.bytes_in),
        ("total_net_output_bytes", counts.bytes_out),
        ("reads", counts.reads),
        ("writes", counts.writes),
        ("waits_for_room", counts.waits),
        ("messages", counts.messages),
        ("messages_lost", counts.messages_lost),
    ] {
        line(text, name, count);
    }
    for end in End::ALL {
        line(text, &format!("ended_{}", end.name()), counts.ended(end));
    }
}

/// What clients and load balancers look for that connect to the primary alone.
fn replication(_: &CommandContext, text: &mut String) {
    line(text, "role", "master");
    line(text, "connected_slaves", 0);
    line(text, "master_repl_offset", 0);
}

fn cluster(_: &CommandContext, text: &mut String) {
    line(text, "cluster_enabled", 0);
}

fn ledger(context: &CommandContext, text: &mut String) {
    let Some(engine) = context.engine.upgrade() else { return };
    let ledger = engine.ledger();
    for (id, class) in engine.plan().class_ids().zip(engine.plan().classes()) {
        let counts = ledger.class(id);
        let mut all = format!("offered={},accepted={}", counts.offered, counts.accepted);
        for reason in Rejection::ALL {
            let _ = write!(all, ",rejected_{}={}", reason.name(), counts.rejected[reason as usize]);
        }
        let _ = write!(all, ",handled={},expired={}", counts.handled, counts.expired);
        for reason in Failure::ALL {
            let _ = write!(all, ",failed_{}={}", reason.name(), counts.failed[reason as usize]);
        }
        let _ = write!(all, ",in_flight={}", counts.in_flight);
        line(text, &format!("class_{}", class.name()), all);
    }
}

fn streams(context: &CommandContext, text: &mut String) {
    for at in 0..context.shared.streams.len() {
        let StreamCounts { name, accepted, busy, dropped, refused, last } = context.shared.stream_counts(at);
        let _ = write!(text, "stream_{name}:accepted={accepted},busy={busy},dropped={dropped}");
        let _ = write!(text, ",refused={refused},last_id={last}\r\n");
    }
}

/// `XLEN`: all events that a stream has accepted since start, as nothing is kept of them. Streams are declared, so a name
/// that is not declared is a mistake: Redis would answer 0.
pub(crate) fn length(context: &mut CommandContext, request: &mut Request<'_>) -> Action {
    let name = request.parser.arg(request.input, 1);
    match context.publisher.stream(name) {
        Some(stream) => request.reply.integer(context.shared.stream_counts(stream).accepted as i64),
        None => no_stream_slow(name, &mut request.reply),
    }
    Action::Continue
}

/// `ROLE`: the primary, without replicas.
pub(crate) fn role(_: &mut CommandContext, request: &mut Request<'_>) -> Action {
    request.reply.array(3);
    request.reply.bulk(b"master");
    request.reply.integer(0);
    request.reply.array(0);
    Action::Continue
}

/// `TIME`: seconds since the Unix epoch, and microseconds of the second.
pub(crate) fn time(context: &mut CommandContext, request: &mut Request<'_>) -> Action {
    let now = context.clock.system_time();
    request.reply.array(2);
    request.reply.bulk(now.as_secs().to_string().as_bytes());
    request.reply.bulk(now.subsec_micros().to_string().as_bytes());
    Action::Continue
}

/// `DBSIZE`: the streams that are declared, which are what Redis would call keys.
pub(crate) fn size(context: &mut CommandContext, request: &mut Request<'_>) -> Action {
    request.reply.integer(context.shared.streams.len() as i64);
    Action::Continue
}

/// `CLUSTER …`: the answer by which clients know that they talk to one node.
pub(crate) fn no_cluster(_: &mut CommandContext, request: &mut Request<'_>) -> Action {
    request.reply.error("ERR This instance has cluster support disabled");
    Action::Continue
}

/// `XINFO STREAM name`
pub(crate) fn stream(context: &mut CommandContext, request: &mut Request<'_>) -> Action {
    // Clients that want all of it say FULL, and there is no more than this.
    if request.len() > 3 && !request.is(3, "FULL") {
        request
            .reply
            .error("ERR unknown subcommand or wrong number of arguments for 'STREAM'. Try XINFO HELP.");
        return Action::Continue;
    }
    let Some(stream) = context.publisher.stream(request.parser.arg(request.input, 2)) else {
        request.reply.error("ERR no such key");
        return Action::Continue;
    };
    let counts = context.shared.stream_counts(stream);
    let served = &context.shared.streams[stream];
    let reply = &mut request.reply;
    reply.map(13);
    for (name, count) in [
        ("length", counts.accepted),
        ("radix-tree-keys", 0),
        ("radix-tree-nodes", 0),
        ("groups", 0),
        ("entries-added", counts.accepted),
        ("busy", counts.busy),
        ("dropped", counts.dropped),
        ("refused", counts.refused),
    ] {
        reply.bulk(name.as_bytes());
        reply.integer(count as i64);
    }
    for (name, text) in [
        ("last-generated-id", counts.last.to_string()),
        ("class", served.class_name.clone()),
        ("key", served.key.word()),
    ] {
        reply.bulk(name.as_bytes());
        reply.bulk(text.as_bytes());
    }
    // Events are handled and gone: there is no first or last to show.
    for name in ["first-entry", "last-entry"] {
        reply.bulk(name.as_bytes());
        reply.null();
    }
    Action::Continue
}
