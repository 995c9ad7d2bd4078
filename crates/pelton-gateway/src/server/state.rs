//! The state that all threads of a server share: what is declared, what is counted, and which channels have
//! subscribers.

use crate::config::settings::Options;
use crate::config::stream::{KeyFrom, Stream};
use crate::feed::subscriptions::ChannelId;
use crate::net::connection::ConnectionKey;
use crate::net::registry::{Clients, ConnectionSlots, NewConnection};
use crate::server::clock::ServerClock;
use crate::server::metrics::{Counts, End, StreamCounts, WorkerCounters};
use crate::server::watch::{LostThread, ThreadEnd, Watched};
use mio::Waker;
use pelton::class::{Class, ClassId, Overflow};
use pelton::clock::AdvanceGuard;
use pelton::engine::{Plan, Secret};
use pelton::park::Alarm;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::Wake;
use std::time::Duration;
use subtle::ConstantTimeEq;

/// A stream as it is served.
pub(crate) struct ServedStream {
    pub name: String,
    pub class: ClassId,
    pub class_name: String,
    pub key: KeyFrom,
    pub payload_max: usize,
    /// Whether its class waits for room.
    pub blocks: bool,
}

impl ServedStream {
    fn new(stream: &Stream, plan: &Plan) -> Option<Self> {
        let class = plan.class_named(&stream.class)?;
        Some(ServedStream {
            name: stream.name.clone(),
            class,
            blocks: matches!(plan.classes()[class.index()].overflow(), Overflow::Block { .. }),
            class_name: stream.class.clone(),
            key: stream.key.clone(),
            payload_max: stream.payload_max.map_or(usize::MAX, |bytes| bytes as usize),
        })
    }
}

/// The password that clients must give, compared in a time that depends on what a client gives and not on the password: both
/// are compared up to [`Self::BYTES`], or the next multiple of it where the password is longer.
pub(crate) struct Password {
    /// The password, filled up with zeros.
    filled: Box<[u8]>,
    len: u64,
}

impl Password {
    /// The time of a comparison does not depend on the password up to this length, in bytes.
    const BYTES: usize = 1 << 10;

    pub fn new(secret: &Secret) -> Self {
        let text = secret.reveal().as_bytes();
        let mut filled = text.to_vec();
        filled.resize(text.len().next_multiple_of(Self::BYTES), 0);
        Password { filled: filled.into(), len: text.len() as u64 }
    }

    /// Whether a client has given the password.
    pub fn is(&self, given: &[u8]) -> bool {
        let mut filled = vec![0; self.filled.len()];
        let len = given.len().min(filled.len());
        filled[..len].copy_from_slice(&given[..len]);
        (filled.ct_eq(&self.filled) & (given.len() as u64).ct_eq(&self.len)).into()
    }
}

/// Lifecycle stage of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Stage {
    Running,
    /// Nothing more is accepted; pending replies are written.
    Draining,
    /// Everything is closed now.
    Terminating,
}

/// Whether a gateway thread sleeps, and how to wake it. Waking costs a system call, once for each sleep.
pub(crate) struct WorkerWaker {
    pub alarm: Alarm,
    waker: Waker,
}

impl WorkerWaker {
    pub fn new(waker: Waker) -> Self {
        WorkerWaker { alarm: Alarm::new(), waker }
    }

    /// Wakes the thread, whether it sleeps or not.
    pub fn wake_up(&self) {
        // It fails only where the descriptor is gone, and then the thread is too.
        let _ = self.waker.wake();
    }

    /// Wakes the thread if it sleeps. The caller has published what it wakes the thread for.
    pub fn wake_if_asleep(&self) {
        if self.alarm.must_ring() {
            self.wake_up();
        }
    }
}

/// A lane that has room again wakes the worker.
impl Wake for WorkerWaker {
    fn wake(self: Arc<Self>) {
        self.wake_if_asleep();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wake_if_asleep();
    }
}

/// Wakes a worker when the time is another, whether it sleeps or not: it may be about to, with the time that was.
struct WakesOnAdvance(Arc<WorkerWaker>);

impl Wake for WakesOnAdvance {
    fn wake(self: Arc<Self>) {
        self.0.wake_up();
    }
}

/// A message to a worker.
pub(crate) enum WorkerMessage {
    /// A connection that was accepted for this worker.
    Connection(NewConnection),
    /// The reply of a view, for the connection that waits for it.
    ViewReply { key: ConnectionKey, bytes: Arc<[u8]> },
    /// The connections with these ids, in ascending order, are to be closed.
    Kill { ids: Vec<u64> },
    /// A message for the subscribers of a channel.
    Deliver { channel: ChannelId, text: Arc<[u8]> },
}

/// What all threads of a server share.
pub(crate) struct Shared {
    pub options: Options,
    pub streams: Box<[ServedStream]>,
    pub by_name: HashMap<Box<[u8]>, u16>,
    channel_names: Box<[String]>,
    channels_by_name: HashMap<Box<[u8]>, ChannelId>,
    /// By class: how long it waits for room, where it has a limit.
    pub block_limits: Box<[Option<Duration>]>,
    pub counters: Box<[WorkerCounters]>,
    pub wakers: Box<[Arc<WorkerWaker>]>,
    /// For each channel, streams first: which workers have a subscriber, a bit for each.
    pub wanted: Box<[AtomicU64]>,
    pub clients: Clients,
    pub slots: ConnectionSlots,
    pub watched: Arc<Watched>,
    /// What clients must give in `AUTH`, if anything.
    pub password: Option<Password>,
    pub clock: Arc<ServerClock>,
    /// Wake the workers when a virtual clock moves.
    _advance_guards: Box<[AdvanceGuard]>,
    stage: AtomicU8,
    stop_forced: AtomicBool,
    next_connection: AtomicU64,
}

impl Shared {
    pub fn new(options: Options, password: Option<Secret>, wakers: Vec<Waker>) -> Self {
        let streams: Box<[_]> =
            options.streams.iter().filter_map(|stream| ServedStream::new(stream, &options.plan)).collect();
        let by_name = streams.iter().enumerate();
        let by_name = by_name.map(|(at, stream)| (stream.name.as_bytes().into(), at as u16)).collect();
        let of_streams = streams.iter().map(|stream| format!("stream:{}", stream.name));
        let of_views = options.views.iter().map(|view| format!("view:{}", view.name));
        let channel_names: Box<[String]> = of_streams.chain(of_views).collect();
        let channels =
            channel_names.iter().zip(0..).map(|(name, at)| (name.as_bytes().into(), ChannelId(at)));
        let limit = |class: &Class| match class.overflow() {
            Overflow::Block { limit } => limit,
            _ => None,
        };
        let clock = Arc::new(ServerClock::new(options.plan.clock()));
        let counters =
            wakers.iter().map(|_| WorkerCounters::new(streams.len(), channel_names.len())).collect();
        let wakers: Box<[_]> = wakers.into_iter().map(|waker| Arc::new(WorkerWaker::new(waker))).collect();
        let on_advance =
            |waker: &Arc<WorkerWaker>| clock.wake_on_advance(Arc::new(WakesOnAdvance(waker.clone())).into());
        Shared {
            _advance_guards: wakers.iter().filter_map(on_advance).collect(),
            by_name,
            channels_by_name: channels.collect(),
            block_limits: options.plan.classes().iter().map(limit).collect(),
            counters,
            wakers,
            wanted: channel_names.iter().map(|_| AtomicU64::new(0)).collect(),
            channel_names,
            streams,
            clients: Clients::default(),
            slots: ConnectionSlots::new(
                options.connections_max as usize,
                options.critical_connections_total(),
            ),
            watched: Arc::new(Watched::new(clock.clone())),
            password: password.as_ref().map(Password::new),
            clock,
            stage: AtomicU8::new(Stage::Running as u8),
            stop_forced: AtomicBool::new(false),
            next_connection: AtomicU64::new(1),
            options,
        }
    }

    /// All counts, those of the streams too.
    pub fn counts(&self) -> Counts {
        let streams = (0..self.streams.len()).map(|at| self.stream_counts(at)).collect();
        Counts { streams, ..self.totals() }
    }

    /// All counts but those of the streams, of which there may be many.
    pub fn totals(&self) -> Counts {
        Counts::sum(&self.counters)
    }

    /// The counts of one stream.
    pub fn stream_counts(&self, at: usize) -> StreamCounts {
        StreamCounts::sum(&self.streams[at].name, at, &self.counters)
    }

    /// Ends a stop at once.
    pub fn force_stop(&self) {
        self.stop_forced.store(true, Ordering::Release);
        self.advance(Stage::Terminating);
    }

    /// Whether a stop is to end at once.
    pub fn is_stop_forced(&self) -> bool {
        self.stop_forced.load(Ordering::Acquire)
    }

    /// Seconds since the start.
    pub fn now_s(&self) -> u32 {
        self.clock.now_s()
    }

    /// A new connection id.
    pub fn connection_id(&self) -> u64 {
        self.next_connection.fetch_add(1, Ordering::Relaxed)
    }

    pub fn stage(&self) -> Stage {
        match self.stage.load(Ordering::Acquire) {
            0 => Stage::Running,
            1 => Stage::Draining,
            _ => Stage::Terminating,
        }
    }

    /// Advances to a later stage, and wakes all workers.
    pub fn advance(&self, stage: Stage) {
        self.stage.fetch_max(stage as u8, Ordering::AcqRel);
        self.wakers.iter().for_each(|waker| waker.wake_up());
    }

    /// Records that a worker has its first subscriber of a channel, or none any more.
    pub fn want(&self, channel: ChannelId, thread: usize, wants: bool) {
        let (bit, wanted) = (1 << thread, &self.wanted[channel.index()]);
        if wants {
            wanted.fetch_or(bit, Ordering::Relaxed);
        } else {
            wanted.fetch_and(!bit, Ordering::Relaxed);
        }
    }

    /// How many channels there are.
    pub fn channels(&self) -> u16 {
        self.channel_names.len() as u16
    }

    /// A channel's name: `stream:NAME` or `view:NAME`.
    pub fn channel_name(&self, channel: ChannelId) -> &str {
        &self.channel_names[channel.index()]
    }

    /// The channel of this name.
    pub fn channel_named(&self, name: &[u8]) -> Option<ChannelId> {
        self.channels_by_name.get(name).copied()
    }

    /// The channel of a view.
    pub fn channel_of_view(&self, view: usize) -> ChannelId {
        ChannelId((self.streams.len() + view) as u16)
    }
}

/// Held by a thread of a server for as long as it should run.
pub(crate) struct ThreadGuard {
    pub shared: Arc<Shared>,
    pub name: String,
    /// The worker's number, if the thread is one.
    pub worker: Option<usize>,
}

impl Drop for ThreadGuard {
    fn drop(&mut self) {
        let how = match std::thread::panicking() {
            true => ThreadEnd::Panicked,
            false if self.shared.stage() == Stage::Running => ThreadEnd::Early,
            false => return,
        };
        if let Some(thread) = self.worker {
            self.close_books(thread);
        }
        self.shared.watched.lost_threads.add(LostThread { name: std::mem::take(&mut self.name), how });
        self.shared.advance(Stage::Draining);
    }
}

/// Lets the server drain as soon as its thread panics, before anything that the thread owns is dropped: another thread
/// that ends for lack of it does not count as lost.
pub(crate) struct DrainsOnPanic(pub Arc<Shared>);

impl Drop for DrainsOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.advance(Stage::Draining);
        }
    }
}

impl ThreadGuard {
    /// Counts the connections of a lost worker as broken, and unregisters its subscribers.
    fn close_books(&self, thread: usize) {
        let counts = &self.shared.counters[thread];
        let ended = End::ALL.iter().filter(|end| !end.is_turned_away());
        let ended: u64 = ended.map(|end| counts.ended[*end as usize].get()).sum();
        counts.ended[End::Broken as usize].add(counts.connected.get().saturating_sub(ended));
        for wanted in &self.shared.wanted {
            wanted.fetch_and(!(1 << thread), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_compared_whole() {
        for secret in ["secret", &"s".repeat(Password::BYTES), &"s".repeat(5_000)] {
            let password = Password::new(&Secret::new(secret));
            assert!(password.is(secret.as_bytes()));
            let cut = &secret.as_bytes()[1..];
            let longer = [secret.as_bytes(), b"\0"].concat();
            let filled = [secret.as_bytes(), &[0; 8 << 10]].concat();
            for wrong in [cut, &longer, &filled, b"Secret", b"", b"\0", &[b's'; 600], &[b's'; 16 << 10]] {
                assert!(!password.is(wrong), "{} bytes", wrong.len());
            }
        }
    }
}
