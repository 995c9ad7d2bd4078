//! What a gateway can be told.
//!
//! # Mechanism
//! [`Options`] has the engine's [`Plan`], the streams, and what the gateway has besides: a row of [`GATEWAY`] for each.
//! Nothing is rounded or clamped: what cannot be is refused as a [`PlanError`](crate::engine::PlanError), by the rows or by
//! the rules that several of them keep to ([`Options::findings`]).
#![forbid(unsafe_code)]

pub use super::options::{EVENT, Options, THREADS_MAX};

use super::options::MODE;
use crate::engine::{Kind, Range, Secret, Setting, Value};
use std::path::PathBuf;
use std::time::Duration;

/// The word for no file.
const NONE: &str = "none";

/// What a file may be.
const PATH: &str = "a path, or \"none\"";

/// A setting of a gateway by its name among all.
pub(super) fn named(key: &str) -> String {
    format!("gateway: {key}")
}

fn file(path: &Option<PathBuf>) -> Value {
    Value::or_word(path.as_ref().map(|path| path.display().to_string()), NONE)
}

fn path(value: &Value) -> Option<PathBuf> {
    (value.word() != NONE).then(|| PathBuf::from(value.word()))
}

/// Whole seconds, rounded up.
pub(super) fn seconds(span: Duration) -> u64 {
    span.as_secs() + u64::from(span.subsec_nanos() > 0)
}

/// The settings of a gateway beside the engine's and those of its streams, in the order in which files have them.
pub const GATEWAY: &[Setting<Options>] = &[
    Setting {
        key: "threads",
        field: "threads",
        kind: Kind::Whole(Range::new(1, THREADS_MAX as u64)),
        unit: "",
        what: "threads that serve connections, each a producer with lanes of its own",
        trades: "more serve more connections at once; each takes a CPU, and lanes to every shard",
        watch: "accepted events a second, the threads' own time",
        needs: None,
        get: |options| options.threads.into(),
        set: |options, value| options.threads = value.whole(),
    },
    Setting {
        key: "thread_cpus",
        field: "cpus",
        kind: Kind::Cpus("derived"),
        unit: "",
        what: "the CPUs of these threads, in turn; \"derived\" takes those that no shard is pinned to, or the shards' own where that would leave none for others",
        trades: "CPUs of their own keep them from the shards' way, and from that of clients on this machine",
        watch: "queue wait max",
        needs: None,
        get: |options| options.cpus.clone().map_or("derived".into(), Value::Cpus),
        set: |options, value| {
            options.cpus = match value {
                Value::Cpus(cpus) => Some(cpus),
                _ => None,
            }
        },
    },
    Setting {
        key: "listen",
        field: "listen",
        kind: Kind::Texts,
        unit: "",
        what: "addresses to listen at, as in 127.0.0.1:6380; port 0 is one that is free",
        trades: "an address that others reach needs a password, or exposed",
        watch: "connections",
        needs: None,
        get: |options| options.listen.clone().into(),
        set: |options, value| options.listen = value.texts(),
    },
    Setting {
        key: "listen_critical",
        field: "listen_critical",
        kind: Kind::Texts,
        unit: "",
        what: "addresses whose connections are served before all others, in each turn",
        trades: "what comes here does not wait for a flood elsewhere; a flood here holds up all",
        watch: "latency from the client's send",
        needs: None,
        get: |options| options.listen_critical.clone().into(),
        set: |options, value| options.listen_critical = value.texts(),
    },
    Setting {
        key: "listen_tls",
        field: "listen_tls",
        kind: Kind::Texts,
        unit: "",
        what: "addresses whose connections are encrypted",
        trades: "nobody on the way reads along; each byte costs its encryption",
        watch: "accepted events a second, the threads' own time",
        needs: None,
        get: |options| options.listen_tls.clone().into(),
        set: |options, value| options.listen_tls = value.texts(),
    },
    Setting {
        key: "tls_certificate",
        field: "tls_certificate",
        kind: Kind::Text(PATH),
        unit: "",
        what: "the certificate chain of listen_tls, a PEM file; \"none\" for none",
        trades: "nothing",
        watch: "refused handshakes",
        needs: None,
        get: |options| file(&options.tls_certificate),
        set: |options, value| options.tls_certificate = path(&value),
    },
    Setting {
        key: "tls_key",
        field: "tls_key",
        kind: Kind::Text(PATH),
        unit: "",
        what: "the key of that certificate, a PEM file; \"none\" for none",
        trades: "nothing",
        watch: "refused handshakes",
        needs: None,
        get: |options| file(&options.tls_key),
        set: |options, value| options.tls_key = path(&value),
    },
    Setting {
        key: "unix_socket",
        field: "unix_socket",
        kind: Kind::Text(PATH),
        unit: "",
        what: "the path of a Unix socket to listen at; \"none\" for none",
        trades: "no network is on the way; only this machine reaches it",
        watch: "connections",
        needs: None,
        get: |options| file(&options.unix_socket),
        set: |options, value| options.unix_socket = path(&value),
    },
    Setting {
        key: "unix_mode",
        field: "unix_mode",
        kind: Kind::OneOf(&["0600", "0660", "0666"]),
        unit: "",
        what: "who may connect to that socket: its user, its group too, or everybody",
        trades: "what more may connect may publish, unless there is a password",
        watch: "connections",
        needs: None,
        get: |options| format!("{:04o}", options.unix_mode).into(),
        set: |options, value| options.unix_mode = u32::from_str_radix(value.word(), 8).unwrap_or(MODE),
    },
    Setting {
        key: "unix_critical",
        field: "unix_critical",
        kind: Kind::Flag,
        unit: "",
        what: "whether connections of that socket are served before all others, as those of listen_critical",
        trades: "on, an operator on this machine gets in and is answered whatever happens elsewhere; a flood there delays all",
        watch: "latency from the client's send",
        needs: None,
        get: |options| options.unix_critical.into(),
        set: |options, value| options.unix_critical = value.is_on(),
    },
    Setting {
        key: "password",
        field: "password",
        kind: Kind::Secret,
        unit: "",
        what: "what clients must say in AUTH before anything else",
        trades: "readers of this file see it, and processes of the same user where it stands in the environment; there is no option for it, since all users see command lines; password_file keeps it apart",
        watch: "wrong passwords",
        needs: None,
        get: |options| options.password.clone().unwrap_or_default().into(),
        set: |options, value| options.password = Some(value.secret()).filter(Secret::is_set),
    },
    Setting {
        key: "password_file",
        field: "password_file",
        kind: Kind::Text(PATH),
        unit: "",
        what: "a file with that password on its first line, read at start; \"none\" for none",
        trades: "as for password",
        watch: "wrong passwords",
        needs: None,
        get: |options| file(&options.password_file),
        set: |options, value| options.password_file = path(&value),
    },
    Setting {
        key: "exposed",
        field: "exposed",
        kind: Kind::Flag,
        unit: "",
        what: "whether others are meant to reach addresses, or a Unix socket of mode 0666, without a password, or to send one unencrypted",
        trades: "on, everything that reaches them may publish and read, and nothing warns of it",
        watch: "connections",
        needs: None,
        get: |options| options.exposed.into(),
        set: |options, value| options.exposed = value.is_on(),
    },
    Setting {
        key: "auth_tries_max",
        field: "auth_tries_max",
        kind: Kind::Whole(Range::new(1, 1_000)),
        unit: "",
        what: "wrong passwords of one connection before it is closed",
        trades: "few slow down whoever guesses; one leaves no room for a slip",
        watch: "wrong passwords",
        needs: None,
        get: |options| options.auth_tries_max.into(),
        set: |options, value| options.auth_tries_max = value.whole(),
    },
    Setting {
        key: "connections_max",
        field: "connections_max",
        kind: Kind::Whole(Range::new(1, 1_000_000)),
        unit: "",
        what: "connections at once, without critical ones; beyond, the oldest that has not authenticated is closed for a newcomer, or the newcomer is turned away",
        trades: "each takes a descriptor, and memory while it has something to say",
        watch: "connections, evicted connections",
        needs: None,
        get: |options| options.connections_max.into(),
        set: |options, value| options.connections_max = value.whole(),
    },
    Setting {
        key: "critical_connections_max",
        field: "critical_connections_max",
        kind: Kind::Whole(Range::new(1, 1_000_000)),
        unit: "",
        what: "critical connections at once, counted apart from all others: those of listen_critical, and of the Unix socket with unix_critical",
        trades: "as for connections_max; they are served first, so many of them delay all others",
        watch: "connections, evicted connections",
        needs: None,
        get: |options| options.critical_connections_max.into(),
        set: |options, value| options.critical_connections_max = value.whole(),
    },
    Setting {
        key: "frame_max_bytes",
        field: "frame_bytes_max",
        kind: Kind::Whole(Range::new(64, 512 << 20)),
        unit: "bytes",
        what: "the largest request, all of its arguments together",
        trades: "a connection may make the server keep so much",
        watch: "connections closed for what they said",
        needs: None,
        get: |options| options.frame_bytes_max.into(),
        set: |options, value| options.frame_bytes_max = value.whole(),
    },
    Setting {
        key: "args_max",
        field: "args_max",
        kind: Kind::Whole(Range::new(5, 1 << 20)),
        unit: "",
        what: "arguments of the longest request; the shortest XADD has 5",
        trades: "each takes a few bytes while the request is read",
        watch: "connections closed for what they said",
        needs: None,
        get: |options| options.args_max.into(),
        set: |options, value| options.args_max = value.whole(),
    },
    Setting {
        key: "output_max_bytes",
        field: "output_bytes_max",
        kind: Kind::Whole(Range::new(1 << 10, 1 << 30)),
        unit: "bytes",
        what: "answers that one connection may have pending before its requests wait",
        trades: "more rides out a slow reader; a connection may make the server keep so much",
        watch: "resident memory",
        needs: None,
        get: |options| options.output_bytes_max.into(),
        set: |options, value| options.output_bytes_max = value.whole(),
    },
    Setting {
        key: "idle_s",
        field: "idle",
        kind: Kind::Whole(Range::new(1, u32::MAX as u64).or_word("never")),
        unit: "s",
        what: "how long a connection may say nothing; subscribers may be silent for ever, and with \"never\" everybody",
        trades: "a limit gives back what dead clients hold; live ones must say something now and then",
        watch: "evicted connections",
        needs: None,
        get: |options| Value::or_word(options.idle.map(seconds), "never"),
        set: |options, value| options.idle = value.number().map(Duration::from_secs),
    },
    Setting {
        key: "stall_s",
        field: "stall",
        kind: Kind::Whole(Range::new(1, 86_400)),
        unit: "s",
        what: "how long a connection may take nothing of its answers, send nothing more of a request that it began, or owe a password or a handshake, before it is closed",
        trades: "a short one gives back memory; a long one rides out a client's pause",
        watch: "evicted connections",
        needs: None,
        get: |options| seconds(options.stall).into(),
        set: |options, value| options.stall = Duration::from_secs(value.whole()),
    },
    Setting {
        key: "read_budget_bytes",
        field: "read_budget_bytes",
        kind: Kind::Whole(Range::new(512, 1 << 30)),
        unit: "bytes",
        what: "what one connection may say in its turn, before the next one's",
        trades: "small turns keep one flood from the others; large ones take fewer system calls",
        watch: "latency from the client's send, accepted events a second",
        needs: None,
        get: |options| options.read_budget_bytes.into(),
        set: |options, value| options.read_budget_bytes = value.whole(),
    },
    Setting {
        key: "subscriber_max_bytes",
        field: "subscriber_bytes_max",
        kind: Kind::Whole(Range::new(1 << 10, 1 << 30)),
        unit: "bytes",
        what: "messages that a subscriber may have pending; what comes beyond is lost, told to it and counted",
        trades: "more rides out a slow subscriber; each may make the server keep so much",
        watch: "messages lost",
        needs: None,
        get: |options| options.subscriber_bytes_max.into(),
        set: |options, value| options.subscriber_bytes_max = value.whole(),
    },
    Setting {
        key: "tap_slots",
        field: "tap_slots",
        kind: Kind::Whole(Range::new(64, 1 << 20).power()),
        unit: "slots",
        what: "slots of each ring that takes events of subscribed streams from a shard to a thread",
        trades: "more ride out a busy thread; they are laid out at start, for each shard and thread",
        watch: "messages lost",
        needs: None,
        get: |options| options.tap_slots.into(),
        set: |options, value| options.tap_slots = value.whole(),
    },
    Setting {
        key: "stop_deadline_ms",
        field: "stop_deadline",
        kind: Kind::Whole(Range::new(1, 3_600_000)),
        unit: "ms",
        what: "how long a stop may take to write what was answered and to handle what was accepted",
        trades: "a long one leaves less in flight; a stop takes no longer",
        watch: "in flight of the final report",
        needs: None,
        get: |options| (options.stop_deadline.as_nanos().div_ceil(1_000_000) as u64).into(),
        set: |options, value| options.stop_deadline = Duration::from_millis(value.whole()),
    },
];
