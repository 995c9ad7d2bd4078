//! A worker: one event loop over its connections, and a producer of its own.
//!
//! # Mechanism
//! The system reports each connection once when data arrives (edge-triggered). The connection then stays in a queue until a
//! read has emptied its socket. The worker serves the connections of the queue in turn ([`turn`](crate::server::turn)).
//!
//! Connections that have not finished their handshake have a queue of their own, of which a round serves a few: a signature
//! takes long, and a flood of handshakes must not delay all others.
//!
//! Connections of a critical listener have a queue and a poll of their own, which are checked before each turn of any other
//! connection, and before each other piece of work of that size. A critical request waits for one such piece at most, however
//! many other connections there are.
//!
//! A connection whose lane is full (in a class that blocks) is suspended, with its request, until there is room. What its
//! client sends meanwhile stays in the socket, so TCP slows the client down. Connections that wait for one lane resume in FIFO
//! order, each with all that it has for that lane in one turn, as long as there is room. Others are served as before.
//!
//! # Invariants
//! - Only this thread touches its connections; others send it a [`WorkerMessage`] and wake it.
//! - Nothing here waits for a shard, a subscriber or a client.
//! - Once connections have had their buffers, nothing on the way of an event allocates, unless its request takes more than
//!   half of the read budget.

use crate::command::context::CommandContext;
use crate::config::footprint::OUT_BYTES_MORE;
use crate::feed::subscribers::report_all_lost;
use crate::feed::tap::WorkerTaps;
use crate::net::acceptor::Acceptor;
use crate::net::connection::{BufferPool, Connection, Hold};
use crate::net::registry::UnauthenticatedQueue;
use crate::resp::{Limits, Parser};
use crate::server::metrics::End;
use crate::server::state::{Shared, WorkerMessage};
use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Interest, Poll, Token};
use slab::Slab;
use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::task::Waker;
use std::time::Instant;

/// The waker's token; the token of a connection is its slot.
pub(crate) const WAKER: Token = Token(usize::MAX);
/// The poll of critical connections.
pub(crate) const CRITICAL: Token = Token(usize::MAX - 1);
/// Listeners count downwards from here.
pub(crate) const LISTENERS: usize = usize::MAX - 2;

/// Events that one poll returns at most.
pub(crate) const EVENTS_MAX: usize = 1_024;

/// Longest inline request, in bytes.
const INLINE_BYTES_MAX: u32 = 64 << 10;

pub(crate) struct Worker {
    pub poll: Poll,
    pub critical_poll: Poll,
    pub critical_connections: usize,
    pub inbox: Receiver<WorkerMessage>,
    /// The first worker's alone.
    pub acceptor: Option<Acceptor>,
    pub connections: Slab<Connection>,
    pub ready: VecDeque<usize>,
    pub critical_ready: VecDeque<usize>,
    /// Connections that have not finished their handshake.
    pub handshakes: VecDeque<usize>,
    pub unauthenticated: UnauthenticatedQueue,
    pub parser: Parser,
    pub context: CommandContext,
    pub taps: WorkerTaps,
    /// By stream: events that never reached this worker. Empty between two deliveries.
    pub missed: Vec<(usize, u64)>,
    /// The message that is being written.
    pub message: Vec<u8>,
    /// What may be delivered before critical connections have their turn again, in short messages.
    pub work_left: usize,
    pub pool: BufferPool,
    pub scratch: Box<[u8]>,
    pub out: Vec<u8>,
    pub now_s: u32,
    pub last_sweep: Instant,
    /// Wakes this worker. A lane keeps a clone while the worker waits for its room.
    pub waker: Waker,
}

impl Worker {
    pub fn new(
        poll: Poll,
        inbox: Receiver<WorkerMessage>,
        acceptor: Option<Acceptor>,
        context: CommandContext,
        taps: WorkerTaps,
    ) -> io::Result<Self> {
        let critical_poll = Poll::new()?;
        let fd = critical_poll.as_raw_fd();
        poll.registry().register(&mut SourceFd(&fd), CRITICAL, Interest::READABLE)?;
        let options = &context.shared.options;
        let limits = Limits {
            args_max: options.args_max,
            frame_bytes_max: options.frame_bytes_max,
            inline_bytes_max: options.frame_bytes_max.min(INLINE_BYTES_MAX),
        };
        let connections = options.connections_total();
        let mut pool = BufferPool::new();
        pool.warm(64);
        Ok(Worker {
            poll,
            critical_poll,
            critical_connections: 0,
            inbox,
            acceptor,
            // Unused capacity is not resident.
            connections: Slab::with_capacity(connections),
            ready: VecDeque::with_capacity(connections),
            critical_ready: VecDeque::with_capacity(options.critical_connections_total()),
            handshakes: VecDeque::with_capacity(if options.listen_tls.is_empty() { 0 } else { connections }),
            unauthenticated: UnauthenticatedQueue::default(),
            parser: Parser::new(limits),
            taps,
            missed: Vec::with_capacity(context.shared.streams.len() * usize::from(options.plan.shards())),
            message: Vec::with_capacity(4 << 10),
            work_left: 0,
            pool,
            scratch: vec![0; options.read_budget_bytes as usize].into(),
            // A turn ends at so many bytes of replies; one reply may be longer.
            out: Vec::with_capacity(options.output_bytes_max as usize + OUT_BYTES_MORE),
            now_s: 0,
            last_sweep: context.clock.now(),
            waker: context.shared.wakers[context.thread].clone().into(),
            context,
        })
    }

    pub fn shared(&self) -> &Arc<Shared> {
        &self.context.shared
    }

    /// Records what a poll has reported of a connection.
    pub fn apply_event(&mut self, slot: usize, event: &Event) {
        let Some(conn) = self.connections.get_mut(slot) else { return };
        conn.is_readable |= event.is_readable() || event.is_read_closed();
        conn.has_ended |= event.is_read_closed();
        if event.is_error() && !matches!(conn.hold, Hold::None) {
            return self.close(slot, End::Broken);
        }
        if event.is_writable() {
            self.flush(slot);
        }
        self.enqueue(slot);
    }

    /// Puts a connection in the queue, if there is something to do for it.
    pub fn enqueue(&mut self, slot: usize) {
        let Some(conn) = self.connections.get_mut(slot) else { return };
        let bytes_max = self.context.shared.options.subscriber_bytes_max as usize;
        if !conn.is_queued && conn.can_be_served(bytes_max) {
            conn.is_queued = true;
            let queue = match conn.is_critical {
                true => &mut self.critical_ready,
                false if !conn.socket.is_handshake_done() => &mut self.handshakes,
                false => &mut self.ready,
            };
            queue.push_back(slot);
        }
    }

    /// Ends a turn or a flush: closes the connection if it has ended, and queues it otherwise.
    pub fn finish_turn(&mut self, slot: usize) {
        let Some(conn) = self.connections.get_mut(slot) else { return };
        match conn.ending {
            Some(end) if conn.pending() == 0 => self.close(slot, end),
            _ => self.enqueue(slot),
        }
    }

    /// Writes what is pending.
    pub fn flush(&mut self, slot: usize) {
        let Worker { connections, pool, context, now_s, .. } = self;
        let Some(conn) = connections.get_mut(slot) else { return };
        match conn.flush(pool, &context.shared.counters[context.thread], *now_s) {
            Ok(()) => self.report_lost(slot),
            Err(_) => self.close(slot, End::Broken),
        }
    }

    /// Reports to a subscriber with nothing pending what it has lost, and ends the turn.
    pub fn report_lost(&mut self, slot: usize) {
        let Worker { connections, pool, context, now_s, .. } = self;
        let Some(conn) = connections.get_mut(slot) else { return };
        let shared = &context.shared;
        let bytes_max = shared.options.subscriber_bytes_max as usize;
        while conn.pending() == 0
            && report_all_lost(conn, bytes_max, pool, |channel| shared.channel_name(channel))
        {
            if conn.flush(pool, &shared.counters[context.thread], *now_s).is_err() {
                return self.close(slot, End::Broken);
            }
        }
        self.finish_turn(slot);
    }
}
