//! What a gateway can be told.
#![forbid(unsafe_code)]

use super::stream::Stream;
use crate::engine::Plan;
use std::path::PathBuf;
use std::time::Duration;

/// The settings of a gateway and its engine.
#[derive(Clone, Debug)]
pub struct Options {
    /// The engine's.
    pub plan: Plan,
    /// What clients publish to.
    pub streams: Vec<Stream>,
    /// Gateway threads, 1 to 64: each a producer of its own.
    pub threads: u16,
    /// The CPUs of the gateway threads, in turn. `None`: those that no shard is pinned to, if there are any.
    pub cpus: Option<Vec<usize>>,
    /// Addresses to listen at: `127.0.0.1:6380`, `[::1]:6380`. Port 0 is one that is free.
    pub listen: Vec<String>,
    /// Addresses whose connections are served before all others.
    pub listen_critical: Vec<String>,
    /// Addresses whose connections are encrypted.
    pub listen_tls: Vec<String>,
    /// The certificate chain of `listen_tls`, a PEM file.
    pub tls_certificate: Option<PathBuf>,
    /// Its key, a PEM file.
    pub tls_key: Option<PathBuf>,
    /// A Unix socket to listen at.
    pub unix_socket: Option<PathBuf>,
    /// Who may connect to it: the mode of the file.
    pub unix_mode: u32,
    /// What clients must say in `AUTH`.
    pub password: Option<String>,
    /// Whether addresses that others can reach may be listened at without a password.
    pub exposed: bool,
    /// Wrong passwords of a connection before it is closed, 1 or more.
    pub auth_tries_max: u32,
    /// Connections at once, 1 to 1,000,000.
    pub connections_max: u32,
    /// Bytes of the largest request.
    pub frame_bytes_max: u32,
    /// Arguments of the longest request.
    pub args_max: u32,
    /// Bytes of answers that one connection may have pending before its requests wait.
    pub output_bytes_max: u32,
    /// How long a connection may say nothing. Subscribers may be silent for ever.
    pub idle: Option<Duration>,
    /// How long a connection may take nothing of its answers.
    pub stall: Duration,
    /// Bytes that one connection may say in its turn.
    pub read_budget_bytes: u32,
    /// Bytes of messages that a subscriber may have pending; what comes beyond is lost, and told.
    pub subscriber_bytes_max: u32,
    /// Slots of each ring that takes the events of subscribed streams from a shard to a gateway thread.
    pub tap_slots: u32,
    /// How long a stop may take to write what was answered, and to handle what was accepted.
    pub stop_deadline: Duration,
}

impl Options {
    /// A gateway at a free port of this machine, with the streams of the plan's classes still to be named.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        Options {
            plan,
            streams: Vec::new(),
            threads: 1,
            cpus: None,
            listen: vec!["127.0.0.1:6380".into()],
            listen_critical: Vec::new(),
            listen_tls: Vec::new(),
            tls_certificate: None,
            tls_key: None,
            unix_socket: None,
            unix_mode: 0o600,
            password: None,
            exposed: false,
            auth_tries_max: 3,
            connections_max: 10_000,
            frame_bytes_max: 1 << 20,
            args_max: 1_024,
            output_bytes_max: 1 << 20,
            idle: None,
            stall: Duration::from_secs(30),
            read_budget_bytes: 32 << 10,
            subscriber_bytes_max: 1 << 20,
            tap_slots: 4_096,
            stop_deadline: Duration::from_secs(5),
        }
    }
}
