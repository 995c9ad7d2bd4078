//! Commands about the server and its streams.
#![forbid(unsafe_code)]

use super::counts::{End, StreamCounts};
use super::desk::{Call, Desk, Next};
use super::glob::Pattern;
use super::publish::no_stream_slow;
use super::settings::GATEWAY;
use crate::class::ClassId;
use crate::engine::ENGINE;
use crate::event::{Failure, Rejection};
use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

/// The version of Redis whose protocol is spoken, for clients that ask before they use a part of it.
pub(super) const REDIS_VERSION: &str = "7.0.0";

/// Settings that clients of Redis look for, with what they mean here: nothing is kept on disk.
const REDIS_SETTINGS: [(&str, &str); 4] =
    [("save", ""), ("appendonly", "no"), ("databases", "1"), ("maxmemory", "0")];

/// Patterns that one `CONFIG GET` takes: each is held against each setting.
const CONFIG_PATTERNS_MAX: usize = 64;

/// `CONFIG SET`
pub(super) fn set(_: &mut Desk, call: &mut Call<'_>) -> Next {
    call.reply.error("ERR settings are read at the start; a file, the environment or an option would work");
    Next::Goes
}

/// `CONFIG GET pattern …`
pub(super) fn settings(desk: &mut Desk, call: &mut Call<'_>) -> Next {
    if call.len() - 2 > CONFIG_PATTERNS_MAX {
        call.reply.error(format_args!("ERR CONFIG GET takes at most {CONFIG_PATTERNS_MAX} patterns"));
        return Next::Goes;
    }
    let patterns: Result<Vec<_>, _> =
        (2..call.len()).map(|at| Pattern::new(&call.arg(at).to_ascii_lowercase())).collect();
    let patterns = match patterns {
        Ok(patterns) => patterns,
        Err(error) => {
            call.reply.error(error);
            return Next::Goes;
        }
    };
    let options = &desk.shared.options;
    let engine = ENGINE.iter().map(|row| (row.key, (row.get)(&options.plan).to_string()));
    let gateway = GATEWAY.iter().map(|row| (row.key, (row.get)(options).to_string()));
    let redis = REDIS_SETTINGS.map(|(key, value)| (key, value.to_string()));
    let max = [("maxclients", options.connections_max.to_string())];
    let wanted = |key: &str| patterns.iter().any(|pattern| pattern.matches(key.as_bytes()));
    let all = engine.chain(gateway).chain(redis).chain(max);
    let found: Vec<_> = all.filter(|(key, _)| wanted(key)).collect();
    call.reply.map(found.len());
    for (key, value) in found {
        call.reply.bulk(key.as_bytes());
        call.reply.bulk(value.as_bytes());
    }
    Next::Goes
}

/// `INFO [section …]`. A section that is not asked for costs nothing.
pub(super) fn info(desk: &mut Desk, call: &mut Call<'_>) -> Next {
    type Section = fn(&Desk, &mut String);
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
    let is_all = call.len() == 1 || ["all", "default", "everything"].iter().any(|word| call.is(1, word));
    let mut text = String::new();
    for (name, section) in SECTIONS {
        if is_all || (1..call.len()).any(|at| call.is(at, name)) {
            let _ = write!(text, "{}# {name}\r\n", if text.is_empty() { "" } else { "\r\n" });
            section(desk, &mut text);
        }
    }
    call.reply.verbatim(&text);
    Next::Goes
}

/// Writes a line of `INFO`.
fn line(text: &mut String, name: &str, value: impl std::fmt::Display) {
    // Writing to a string does not fail.
    let _ = write!(text, "{name}:{value}\r\n");
}

fn server(desk: &Desk, text: &mut String) {
    line(text, "redis_version", REDIS_VERSION);
    line(text, "pelton_version", env!("CARGO_PKG_VERSION"));
    line(text, "redis_mode", "standalone");
    line(text, "role", "master");
    line(text, "process_id", std::process::id());
    line(text, "uptime_in_seconds", desk.shared.now_s());
    line(text, "gateway_threads", desk.shared.threads.len());
    for (at, thread) in desk.shared.threads.iter().enumerate() {
        line(text, &format!("gateway_thread_{at}_pinned"), thread.pinned.get());
    }
    line(text, "shards", desk.shared.options.plan.placements().len());
}

fn clients(desk: &Desk, text: &mut String) {
    line(text, "connected_clients", desk.shared.clients.len());
    line(text, "maxclients", desk.shared.options.connections_max);
    line(text, "subscriptions", desk.shared.totals().subscriptions);
}

fn memory(desk: &Desk, text: &mut String) {
    if let Some(engine) = desk.engine.upgrade() {
        line(text, "footprint_bytes", engine.footprint().total_bytes());
    }
    line(text, "gateway_allocations", desk.shared.totals().allocations);
}

fn persistence(_: &Desk, text: &mut String) {
    // Clients that wait until a server has read its data ask for this.
    line(text, "loading", 0);
}

fn stats(desk: &Desk, text: &mut String) {
    let counts = desk.shared.totals();
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
fn replication(_: &Desk, text: &mut String) {
    line(text, "role", "master");
    line(text, "connected_slaves", 0);
    line(text, "master_repl_offset", 0);
}

fn cluster(_: &Desk, text: &mut String) {
    line(text, "cluster_enabled", 0);
}

fn ledger(desk: &Desk, text: &mut String) {
    let Some(engine) = desk.engine.upgrade() else { return };
    let ledger = engine.ledger();
    for (at, class) in engine.plan().classes().iter().enumerate() {
        let counts = ledger.class(ClassId(at as u8));
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

fn streams(desk: &Desk, text: &mut String) {
    for at in 0..desk.shared.streams.len() {
        let StreamCounts { name, accepted, busy, dropped, refused, last } = desk.shared.stream_counts(at);
        let _ = write!(text, "stream_{name}:accepted={accepted},busy={busy},dropped={dropped}");
        let _ = write!(text, ",refused={refused},last_id={last}\r\n");
    }
}

/// `XLEN`: all events that a stream has accepted since start, as nothing is kept of them. Streams are declared, so a name
/// that is not declared is a mistake: Redis would answer 0.
pub(super) fn length(desk: &mut Desk, call: &mut Call<'_>) -> Next {
    let name = call.parser.arg(call.input, 1);
    match desk.publisher.stream(name) {
        Some(stream) => call.reply.integer(desk.shared.stream_counts(stream).accepted as i64),
        None => no_stream_slow(name, &mut call.reply),
    }
    Next::Goes
}

/// `ROLE`: the primary, without replicas.
pub(super) fn role(_: &mut Desk, call: &mut Call<'_>) -> Next {
    call.reply.array(3);
    call.reply.bulk(b"master");
    call.reply.integer(0);
    call.reply.array(0);
    Next::Goes
}

/// `TIME`: seconds since the Unix epoch, and microseconds of the second.
pub(super) fn time(_: &mut Desk, call: &mut Call<'_>) -> Next {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    call.reply.array(2);
    call.reply.bulk(now.as_secs().to_string().as_bytes());
    call.reply.bulk(now.subsec_micros().to_string().as_bytes());
    Next::Goes
}

/// `DBSIZE`: the streams that are declared, which are what Redis would call keys.
pub(super) fn size(desk: &mut Desk, call: &mut Call<'_>) -> Next {
    call.reply.integer(desk.shared.streams.len() as i64);
    Next::Goes
}

/// `CLUSTER …`: the answer by which clients know that they talk to one node.
pub(super) fn no_cluster(_: &mut Desk, call: &mut Call<'_>) -> Next {
    call.reply.error("ERR This instance has cluster support disabled");
    Next::Goes
}

/// `XINFO STREAM name`
pub(super) fn stream(desk: &mut Desk, call: &mut Call<'_>) -> Next {
    // Clients that want all of it say FULL, and there is no more than this.
    if call.len() > 3 && !call.is(3, "FULL") {
        call.reply.error("ERR unknown subcommand or wrong number of arguments for 'STREAM'. Try XINFO HELP.");
        return Next::Goes;
    }
    let Some(stream) = desk.publisher.stream(call.parser.arg(call.input, 2)) else {
        call.reply.error("ERR no such key");
        return Next::Goes;
    };
    let counts = desk.shared.stream_counts(stream);
    let served = &desk.shared.streams[stream];
    let reply = &mut call.reply;
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
    Next::Goes
}
