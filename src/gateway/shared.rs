//! What all threads of a server share: what was declared, what is counted, and who listens to what.
#![forbid(unsafe_code)]

use super::channel::ChannelId;
use super::clients::Clients;
use super::counts::{Counts, StreamCounts, ThreadCounts};
use super::places::Places;
use super::settings::Options;
use super::stream::{KeyFrom, Stream};
use super::watch::{Incidents, Losses};
use crate::class::{Class, ClassId, Overflow};
use crate::engine::{Plan, Secret};
use crate::wait::Alarm;
use mio::Waker;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::Wake;
use std::time::{Duration, Instant};
use subtle::ConstantTimeEq;

/// A stream as it is served.
pub(super) struct Served {
    pub name: String,
    pub class: ClassId,
    pub class_name: String,
    pub key: KeyFrom,
    pub payload_max: usize,
    /// Whether its class waits for room.
    pub blocks: bool,
}

impl Served {
    fn new(stream: &Stream, plan: &Plan) -> Option<Self> {
        let class = plan.class_named(&stream.class)?;
        Some(Served {
            name: stream.name.clone(),
            class,
            blocks: matches!(plan.classes()[class.index()].overflow, Overflow::Block { .. }),
            class_name: stream.class.clone(),
            key: stream.key.clone(),
            payload_max: stream.payload_max.map_or(usize::MAX, |bytes| bytes as usize),
        })
    }
}

/// The password that clients must give, compared in a time that depends on what a client gives and not on the password: both
/// are compared up to [`Self::BYTES`], or the next multiple of it where the password is longer.
pub(super) struct Password {
    /// The password, filled up with zeros.
    filled: Box<[u8]>,
    len: u64,
}

impl Password {
    /// Passwords up to this length, in bytes, are not told apart by the time of a comparison.
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

/// How far a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Stage {
    Running,
    /// Nothing more is taken; what was answered is written.
    Draining,
    /// Everything ends now.
    Ending,
}

/// Whether a gateway thread sleeps, and how to wake it. Waking costs a system call, once for each sleep.
pub(super) struct Bell {
    pub alarm: Alarm,
    waker: Waker,
}

impl Bell {
    pub fn new(waker: Waker) -> Self {
        Bell { alarm: Alarm::new(), waker }
    }

    /// Wakes the thread, whether it sleeps or not.
    pub fn wake_up(&self) {
        // It fails only where the descriptor is gone, and then the thread is too.
        let _ = self.waker.wake();
    }

    /// Wakes the thread if it sleeps. What it is woken for has been brought before.
    pub fn ring(&self) {
        if self.alarm.must_ring() {
            self.wake_up();
        }
    }
}

/// A lane that has room again rings.
impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}

/// What all threads share.
pub(super) struct Shared {
    pub options: Options,
    pub streams: Box<[Served]>,
    pub by_name: HashMap<Box<[u8]>, u16>,
    channel_names: Box<[String]>,
    channels_by_name: HashMap<Box<[u8]>, ChannelId>,
    /// By class: how long it waits for room, where it has a limit.
    pub block_limits: Box<[Option<Duration>]>,
    pub threads: Box<[ThreadCounts]>,
    pub bells: Box<[Arc<Bell>]>,
    /// For each channel, streams first: which threads have a listener, a bit for each.
    pub wanted: Box<[AtomicU64]>,
    pub clients: Clients,
    pub places: Places,
    pub incidents: Incidents,
    pub losses: Losses,
    /// What clients must give in `AUTH`, if anything.
    pub password: Option<Password>,
    pub begun: Instant,
    stage: AtomicU8,
    hurried: AtomicBool,
    next_connection: AtomicU64,
}

impl Shared {
    pub fn new(options: Options, password: Option<Secret>, wakers: Vec<Waker>) -> Self {
        let streams: Box<[_]> =
            options.streams.iter().filter_map(|stream| Served::new(stream, &options.plan)).collect();
        let by_name = streams.iter().enumerate();
        let by_name = by_name.map(|(at, stream)| (stream.name.as_bytes().into(), at as u16)).collect();
        let of_streams = streams.iter().map(|stream| format!("stream:{}", stream.name));
        let of_views = options.views.iter().map(|view| format!("view:{}", view.name));
        let channel_names: Box<[String]> = of_streams.chain(of_views).collect();
        let channels =
            channel_names.iter().zip(0..).map(|(name, at)| (name.as_bytes().into(), ChannelId(at)));
        let limit = |class: &Class| match class.overflow {
            Overflow::Block { limit } => limit,
            _ => None,
        };
        Shared {
            by_name,
            channels_by_name: channels.collect(),
            block_limits: options.plan.classes().iter().map(limit).collect(),
            threads: wakers.iter().map(|_| ThreadCounts::new(streams.len(), channel_names.len())).collect(),
            bells: wakers.into_iter().map(|waker| Arc::new(Bell::new(waker))).collect(),
            wanted: channel_names.iter().map(|_| AtomicU64::new(0)).collect(),
            channel_names,
            streams,
            clients: Clients::default(),
            places: Places::new(options.connections_max as usize, options.critical_places()),
            incidents: Incidents::default(),
            losses: Losses::default(),
            password: password.as_ref().map(Password::new),
            begun: Instant::now(),
            stage: AtomicU8::new(Stage::Running as u8),
            hurried: AtomicBool::new(false),
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
        Counts::sum(&self.threads)
    }

    /// The counts of one stream.
    pub fn stream_counts(&self, at: usize) -> StreamCounts {
        StreamCounts::sum(&self.streams[at].name, at, &self.threads)
    }

    /// Ends everything now.
    pub fn hurry(&self) {
        self.hurried.store(true, Ordering::Release);
        self.advance(Stage::Ending);
    }

    /// Whether somebody is in a hurry.
    pub fn is_hurried(&self) -> bool {
        self.hurried.load(Ordering::Acquire)
    }

    /// Seconds since the start.
    pub fn now_s(&self) -> u32 {
        self.begun.elapsed().as_secs() as u32
    }

    /// A number for a connection.
    pub fn connection_id(&self) -> u64 {
        self.next_connection.fetch_add(1, Ordering::Relaxed)
    }

    pub fn stage(&self) -> Stage {
        match self.stage.load(Ordering::Acquire) {
            0 => Stage::Running,
            1 => Stage::Draining,
            _ => Stage::Ending,
        }
    }

    /// Goes on to a later stage, and tells all threads.
    pub fn advance(&self, stage: Stage) {
        self.stage.fetch_max(stage as u8, Ordering::AcqRel);
        self.bells.iter().for_each(|bell| bell.wake_up());
    }

    /// A thread has its first listener of a channel, or none any more.
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
