//! What a gateway thread counts: connections and why they ended, commands, bytes, and what became of each stream's events.
//!
//! Each counter has one writer, its thread; whoever asks reads them while it runs.

use crate::feed::event::Id;
use crossbeam_utils::CachePadded;
use pelton::ledger::Counter;

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum End {
    /// The client closed it, or said `QUIT`.
    Client,
    /// The connection broke.
    Broken,
    /// What it sent is no request, or one beyond the limits.
    Protocol,
    /// It did not authenticate: too many wrong passwords, too many other requests before the right one, or none for
    /// `stall_s`.
    Auth,
    /// It said nothing for `idle_s`.
    Idle,
    /// It took nothing of what was answered for `stall_s`; or the rest of a request did not come for so long; or it had closed
    /// its side, and what it waits for did not come for so long; or a view was not read in time.
    Stalled,
    /// The TLS handshake failed, or was not finished within `stall_s`.
    Tls,
    /// It had not authenticated, or not finished its handshake, when a newcomer needed its place or its descriptor.
    Displaced,
    /// Another connection closed it, by `CLIENT KILL`.
    Killed,
    /// The server stopped.
    Stopped,
    /// All places of its kind (`connections_max`, `critical_connections_max`) were taken.
    Full,
    /// The system had no descriptor left for it.
    Descriptors,
}

impl End {
    /// Every reason, in the order in which reports print them.
    pub const ALL: [End; 12] = [
        End::Client,
        End::Broken,
        End::Protocol,
        End::Auth,
        End::Idle,
        End::Stalled,
        End::Tls,
        End::Displaced,
        End::Killed,
        End::Stopped,
        End::Full,
        End::Descriptors,
    ];

    /// Whether nobody was let in: the connection never began, and is not among those that were taken.
    pub const fn is_turned_away(self) -> bool {
        matches!(self, End::Full | End::Descriptors)
    }

    /// The reason's name in reports and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            End::Client => "client",
            End::Broken => "broken",
            End::Protocol => "protocol",
            End::Auth => "auth",
            End::Idle => "idle",
            End::Stalled => "stalled",
            End::Tls => "tls",
            End::Displaced => "displaced",
            End::Killed => "killed",
            End::Stopped => "stopped",
            End::Full => "full",
            End::Descriptors => "descriptors",
        }
    }
}

/// What became of the events of one stream that came through one thread. Each has been answered in that way, or its
/// connection was gone.
#[derive(Default)]
pub(crate) struct StreamCounters {
    pub accepted: Counter,
    pub busy: Counter,
    pub dropped: Counter,
    pub refused: Counter,
    pub last_ms: Counter,
    pub last_sequence: Counter,
}

/// The counters of one thread, as they run.
pub(crate) struct WorkerCounters {
    pub connected: Counter,
    pub ended: [Counter; End::ALL.len()],
    pub commands: Counter,
    pub bytes_in: Counter,
    pub bytes_out: Counter,
    pub reads: Counter,
    pub writes: Counter,
    pub waits: Counter,
    /// Connections that are unauthenticated now, by [`Budget`](crate::net::registry::Budget).
    pub unauthenticated: [Counter; 2],
    pub subscriptions: Counter,
    /// Subscriptions that are patterns.
    pub patterns: Counter,
    /// By channel: subscriptions by its name.
    pub named: Box<[Counter]>,
    pub messages: Counter,
    pub messages_lost: Counter,
    pub allocations: Counter,
    /// 1 once the thread is on its CPU.
    pub pinned: Counter,
    pub streams: Box<[CachePadded<StreamCounters>]>,
}

impl WorkerCounters {
    pub fn new(streams: usize, channels: usize) -> Self {
        let counter = Counter::default;
        WorkerCounters {
            connected: counter(),
            ended: Default::default(),
            commands: counter(),
            bytes_in: counter(),
            bytes_out: counter(),
            reads: counter(),
            writes: counter(),
            waits: counter(),
            unauthenticated: Default::default(),
            subscriptions: counter(),
            patterns: counter(),
            named: (0..channels).map(|_| counter()).collect(),
            messages: counter(),
            messages_lost: counter(),
            allocations: counter(),
            pinned: counter(),
            streams: (0..streams).map(|_| CachePadded::default()).collect(),
        }
    }

    pub fn end(&self, reason: End) {
        self.ended[reason as usize].add(1);
    }
}

/// What became of the events of a stream, as its clients were told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamCounts {
    /// The stream's name.
    pub name: String,
    /// Answered with an id.
    pub accepted: u64,
    /// Answered with `-BUSY`.
    pub busy: u64,
    /// Answered with `-DROPPED`.
    pub dropped: u64,
    /// Answered with another error: it was no event (no such field, a payload beyond the stream's), or its class took none of
    /// its size, or the server stopped. The ledger has the latter two.
    pub refused: u64,
    /// The id given last; 0-0 where there was none.
    pub last: Id,
}

/// What all gateway threads counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections that were taken.
    pub connected: u64,
    /// Connections that ended, by [`End`]. Those that were [turned away](Self::turned_away) stand here too, and are not among
    /// `connected`.
    pub ended: [u64; End::ALL.len()],
    /// Requests that were answered.
    pub commands: u64,
    /// Bytes read from sockets; of encrypted connections, those that were decrypted.
    pub bytes_in: u64,
    /// Bytes written to sockets; of encrypted connections, those that were encrypted.
    pub bytes_out: u64,
    /// System calls that read.
    pub reads: u64,
    /// System calls that wrote.
    pub writes: u64,
    /// How often a connection had to wait for room in a lane.
    pub waits: u64,
    /// Connections that have not authenticated, or not finished their handshake, now.
    pub unauthenticated: u64,
    /// Channels subscribed to now.
    pub subscriptions: u64,
    /// Messages given to subscribers.
    pub messages: u64,
    /// Messages that slow subscribers lost.
    pub messages_lost: u64,
    /// Allocations of all gateway threads since they began; 0 where nobody counts them (see
    /// [`audit`](pelton::memory::audit)).
    pub allocations: u64,
    /// By stream.
    pub streams: Vec<StreamCounts>,
}

impl Counts {
    /// Connections that are there now.
    #[must_use]
    pub fn connections(&self) -> u64 {
        (self.connected + self.turned_away()).saturating_sub(self.ended.iter().sum())
    }

    /// Connections that were not let in: all of `connections_max` were there, or no descriptor was left.
    #[must_use]
    pub fn turned_away(&self) -> u64 {
        End::ALL.iter().filter(|reason| reason.is_turned_away()).map(|reason| self.ended(*reason)).sum()
    }

    /// Connections that ended, or were turned away, for this reason.
    #[must_use]
    pub fn ended(&self, reason: End) -> u64 {
        self.ended[reason as usize]
    }

    /// The sum over threads without the streams; of a running server it may lag.
    pub(crate) fn sum(threads: &[WorkerCounters]) -> Self {
        let mut sum = Counts::default();
        for thread in threads {
            sum.ended.iter_mut().zip(&thread.ended).for_each(|(sum, more)| *sum += more.get());
            sum.unauthenticated += thread.unauthenticated.iter().map(Counter::get).sum::<u64>();
            for (to, from) in [
                (&mut sum.connected, &thread.connected),
                (&mut sum.commands, &thread.commands),
                (&mut sum.bytes_in, &thread.bytes_in),
                (&mut sum.bytes_out, &thread.bytes_out),
                (&mut sum.reads, &thread.reads),
                (&mut sum.writes, &thread.writes),
                (&mut sum.waits, &thread.waits),
                (&mut sum.subscriptions, &thread.subscriptions),
                (&mut sum.messages, &thread.messages),
                (&mut sum.messages_lost, &thread.messages_lost),
                (&mut sum.allocations, &thread.allocations),
            ] {
                *to += from.get();
            }
        }
        sum
    }
}

impl StreamCounts {
    /// The sum over threads of the stream at this place; of a running server it may lag.
    pub(crate) fn sum(name: &str, at: usize, threads: &[WorkerCounters]) -> Self {
        let mut sum = StreamCounts { name: name.into(), ..StreamCounts::default() };
        for from in threads.iter().map(|thread| &thread.streams[at]) {
            sum.accepted += from.accepted.get();
            sum.busy += from.busy.get();
            sum.dropped += from.dropped.get();
            sum.refused += from.refused.get();
            let last = Id { ms: from.last_ms.get(), sequence: from.last_sequence.get() };
            sum.last = sum.last.max(last);
        }
        sum
    }
}
