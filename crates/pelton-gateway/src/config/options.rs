//! The options of a gateway.

use crate::config::stream::Stream;
use pelton::engine::{Plan, Profile, Secret};
use pelton_views::View;
use std::alloc::Layout;
use std::path::PathBuf;
use std::time::Duration;

/// What travels in the engine's slots: an event's id, its stream, its count of fields.
pub const EVENT: Layout = Layout::new::<[u64; 3]>();

/// The most gateway threads.
pub const THREADS_MAX: u16 = 64;

/// Who may connect to a Unix socket unless somebody says otherwise: its user.
pub(crate) const MODE: u32 = 0o600;

/// The settings of a gateway and its engine.
///
/// # Settings
/// In `[gateway]`:
///
#[doc = include_str!("settings.md")]
#[derive(Clone, Debug)]
pub struct Options {
    /// The engine's.
    pub plan: Plan,
    /// What clients publish to.
    pub streams: Vec<Stream>,
    /// What is kept of them.
    pub views: Vec<View>,
    /// Gateway threads, 1 to [`THREADS_MAX`]: each a producer of its own.
    pub threads: u16,
    /// The CPUs of the gateway threads, in turn. `None`: those that no shard is pinned to, or the shards' own where that would leave none for others.
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
    /// Who may connect to it: the mode of the file, `0o600`, `0o660` or `0o666`.
    pub unix_mode: u32,
    /// Whether its connections are served before all others, as those of `listen_critical`.
    pub unix_critical: bool,
    /// What clients must say in `AUTH`.
    pub password: Option<Secret>,
    /// A file that has the password on its first line.
    pub password_file: Option<PathBuf>,
    /// Whether others are meant to reach addresses, or a Unix socket of mode 0666, without a password, or to send one
    /// unencrypted.
    pub exposed: bool,
    /// Wrong passwords of a connection before it is closed, 1 or more.
    pub auth_tries_max: u32,
    /// Connections at once, 1 to 1,000,000, besides critical ones.
    pub connections_max: u32,
    /// Critical connections at once, 1 to 1,000,000: those of `listen_critical`, and of the Unix socket if it is critical.
    pub critical_connections_max: u32,
    /// Bytes of the largest request.
    pub frame_bytes_max: u32,
    /// Arguments of the longest request.
    pub args_max: u32,
    /// Bytes of answers that one connection may have pending before its requests wait.
    pub output_bytes_max: u32,
    /// How long a connection may say nothing. Subscribers may be silent for ever.
    pub idle: Option<Duration>,
    /// How long a connection may take nothing of its answers, send nothing more of a request that it began, or owe a password or
    /// a handshake.
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
    /// Why the plan of [`Options::base`] is not as its profile has it, by setting.
    pub const WHY: [(&str, &str); 1] = [("scratch_bytes", "the gateway's handler needs none")];

    /// The plan that a gateway starts from: no classes, and no memory that it does not use.
    pub fn base(profile: Profile) -> Plan {
        Plan::new(profile).with_scratch_bytes(0)
    }

    /// A gateway at port 6380 of this machine's loopback, with the streams of the plan's classes still to be named.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        Options {
            plan,
            streams: Vec::new(),
            views: Vec::new(),
            threads: 1,
            cpus: None,
            listen: vec!["127.0.0.1:6380".into()],
            listen_critical: Vec::new(),
            listen_tls: Vec::new(),
            tls_certificate: None,
            tls_key: None,
            unix_socket: None,
            unix_mode: MODE,
            unix_critical: false,
            password: None,
            password_file: None,
            exposed: false,
            auth_tries_max: 3,
            connections_max: 10_000,
            critical_connections_max: 1_000,
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

impl Options {
    /// Whether there are critical connections.
    pub(crate) fn has_critical(&self) -> bool {
        !self.listen_critical.is_empty() || (self.unix_socket.is_some() && self.unix_critical)
    }

    /// How many critical connections there may be.
    pub(crate) fn critical_connections_total(&self) -> usize {
        if self.has_critical() { self.critical_connections_max as usize } else { 0 }
    }

    /// How many connections there may be in all.
    pub(crate) fn connections_total(&self) -> usize {
        self.connections_max as usize + self.critical_connections_total()
    }
}

impl Default for Options {
    fn default() -> Self {
        Options::new(Options::base(Profile::Dev))
    }
}
