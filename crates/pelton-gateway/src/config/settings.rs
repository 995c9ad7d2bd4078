//! What a gateway can be told.
//!
//! # Mechanism
//! [`Options`] has the engine's [`Plan`], the streams, and what the gateway has besides: a row of [`GATEWAY`] for each.
//! Nothing is rounded or clamped: what cannot be is refused as a [`PlanError`](pelton::engine::PlanError), by the rows or by
//! the rules that several of them keep to ([`Options::findings`]).

pub use crate::config::options::{EVENT, Options, THREADS_MAX};

use crate::config::options::MODE;
use pelton::engine::{Kind, Secret};
use pelton::settings;
use std::time::Duration;

/// The word for no file.
const NONE: &str = "none";

/// A setting of a gateway by its name among all.
pub(crate) fn named(key: &str) -> String {
    format!("gateway: {key}")
}

/// Whole seconds, rounded up.
pub(crate) fn seconds(span: Duration) -> u64 {
    span.as_secs() + u64::from(span.subsec_nanos() > 0)
}

settings! {
    /// The settings of a gateway beside the engine's and those of its streams, in the order in which files have them.
    pub const GATEWAY: Options {
        threads: threads = Kind::whole(1, THREADS_MAX as u64),
            what: "threads that serve connections, each a producer with lanes of its own",
            trades: "more serve more connections at once; each takes a CPU, and lanes to every shard",
            watch: "accepted events a second, the threads' own time";
        thread_cpus: cpus = Kind::Cpus("derived"),
            what: "the CPUs of these threads, in turn; \"derived\" takes those that no shard is pinned to, or the shards' own where that would leave none for others",
            trades: "CPUs of their own keep them from the shards' way, and from that of clients on this machine",
            watch: "queue wait max";
        listen: listen = Kind::Texts,
            what: "addresses to listen at, as in 127.0.0.1:6380; port 0 is one that is free",
            trades: "an address that others reach needs a password, or exposed",
            watch: "connections";
        listen_critical: listen_critical = Kind::Texts,
            what: "addresses whose connections are served before all others, in each turn",
            trades: "what comes here does not wait for a flood elsewhere; a flood here holds up all",
            watch: "latency from the client's send";
        listen_tls: listen_tls = Kind::Texts,
            what: "addresses whose connections are encrypted",
            trades: "nobody on the way reads along; each byte costs its encryption",
            watch: "accepted events a second, the threads' own time";
        tls_certificate: tls_certificate = Kind::text("a path").or_word(NONE),
            what: "the certificate chain of listen_tls, a PEM file; \"none\" for none",
            trades: "nothing",
            watch: "refused handshakes";
        tls_key: tls_key = Kind::text("a path").or_word(NONE),
            what: "the key of that certificate, a PEM file; \"none\" for none",
            trades: "nothing",
            watch: "refused handshakes";
        unix_socket: unix_socket = Kind::text("a path").or_word(NONE),
            what: "the path of a Unix socket to listen at; \"none\" for none",
            trades: "no network is on the way; only this machine reaches it",
            watch: "connections";
        unix_mode: unix_mode = Kind::OneOf(&["0600", "0660", "0666"]),
            what: "who may connect to that socket: its user, its group too, or everybody",
            trades: "what more may connect may publish, unless there is a password",
            watch: "connections",
            get: |options, _| format!("{:04o}", options.unix_mode).into(),
            set: |options, value, _| options.unix_mode = u32::from_str_radix(value.word(), 8).unwrap_or(MODE);
        unix_critical: unix_critical = Kind::Flag,
            what: "whether connections of that socket are served before all others, as those of listen_critical",
            trades: "on, an operator on this machine gets in and is answered whatever happens elsewhere; a flood there delays all",
            watch: "latency from the client's send";
        password: password = Kind::Secret,
            what: "what clients must say in AUTH before anything else",
            trades: "readers of this file see it, and processes of the same user where it stands in the environment; there is no option for it, since all users see command lines; password_file keeps it apart",
            watch: "wrong passwords",
            get: |options, _| options.password.clone().unwrap_or_default().into(),
            set: |options, value, _| options.password = Some(value.secret()).filter(Secret::is_set);
        password_file: password_file = Kind::text("a path").or_word(NONE),
            what: "a file with that password on its first line, read at start; \"none\" for none",
            trades: "as for password",
            watch: "wrong passwords";
        exposed: exposed = Kind::Flag,
            what: "whether others are meant to reach addresses, or a Unix socket of mode 0666, without a password, or to send one unencrypted",
            trades: "on, everything that reaches them may publish and read, and nothing warns of it",
            watch: "connections";
        auth_tries_max: auth_tries_max = Kind::whole(1, 1_000),
            what: "wrong passwords of one connection before it is closed",
            trades: "few slow down whoever guesses; one leaves no room for a slip",
            watch: "wrong passwords";
        connections_max: connections_max = Kind::whole(1, 1_000_000),
            what: "connections at once, without critical ones; beyond, the oldest that has not authenticated is closed for a newcomer, or the newcomer is turned away",
            trades: "each takes a descriptor, and memory while it has something to say",
            watch: "connections, evicted connections";
        critical_connections_max: critical_connections_max = Kind::whole(1, 1_000_000),
            what: "critical connections at once, counted apart from all others: those of listen_critical, and of the Unix socket with unix_critical",
            trades: "as for connections_max; they are served first, so many of them delay all others",
            watch: "connections, evicted connections";
        frame_max_bytes: frame_bytes_max = Kind::whole(64, 512 << 20), unit: "bytes",
            what: "the largest request, all of its arguments together",
            trades: "a connection may make the server keep so much",
            watch: "connections closed for what they said";
        args_max: args_max = Kind::whole(5, 1 << 20),
            what: "arguments of the longest request; the shortest XADD has 5",
            trades: "each takes a few bytes while the request is read",
            watch: "connections closed for what they said";
        output_max_bytes: output_bytes_max = Kind::whole(1 << 10, 1 << 30), unit: "bytes",
            what: "answers that one connection may have pending before its requests wait",
            trades: "more rides out a slow reader; a connection may make the server keep so much",
            watch: "resident memory";
        idle_s: idle = Kind::whole(1, u32::MAX as u64).or_word("never"), unit: "s",
            what: "how long a connection may say nothing; subscribers may be silent for ever, and with \"never\" everybody",
            trades: "a limit gives back what dead clients hold; live ones must say something now and then",
            watch: "evicted connections";
        stall_s: stall = Kind::whole(1, 86_400), unit: "s",
            what: "how long a connection may take nothing of its answers, send nothing more of a request that it began, or owe a password or a handshake, before it is closed",
            trades: "a short one gives back memory; a long one rides out a client's pause",
            watch: "evicted connections";
        read_budget_bytes: read_budget_bytes = Kind::whole(512, 1 << 30), unit: "bytes",
            what: "what one connection may say in its turn, before the next one's",
            trades: "small turns keep one flood from the others; large ones take fewer system calls",
            watch: "latency from the client's send, accepted events a second";
        subscriber_max_bytes: subscriber_bytes_max = Kind::whole(1 << 10, 1 << 30), unit: "bytes",
            what: "messages that a subscriber may have pending; what comes beyond is lost, told to it and counted",
            trades: "more rides out a slow subscriber; each may make the server keep so much",
            watch: "messages lost";
        tap_slots: tap_slots = Kind::whole(64, 1 << 20).power(), unit: "slots",
            what: "slots of each ring that takes events of subscribed streams from a shard to a thread",
            trades: "more ride out a busy thread; they are laid out at start, for each shard and thread",
            watch: "messages lost";
        stop_deadline_ms: stop_deadline = Kind::whole(1, 3_600_000), unit: "ms",
            what: "how long a stop may take to write what was answered and to handle what was accepted",
            trades: "a long one leaves less in flight; a stop takes no longer",
            watch: "in flight of the final report";
    }
    except { plan, streams, views }
}
