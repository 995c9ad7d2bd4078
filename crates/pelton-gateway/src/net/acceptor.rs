//! The acceptor: accepts connections, and hands them to the workers in turn.
//!
//! # Mechanism
//! An accepted connection needs a slot ([`ConnectionSlots`](crate::net::registry::ConnectionSlots)) and a descriptor. If all
//! slots of its budget are taken, or the system has no descriptor left, it displaces the oldest unauthenticated connection of
//! the worker that will serve it; if there is none, it is rejected. Nothing that is more expensive than a descriptor (a TLS
//! session, a signature) is made for a connection before it has its slot.
//!
//! # Spare descriptors
//! A few descriptors are held open for nothing ([`SpareDescriptors`]). Without one, a connection could be neither accepted nor
//! rejected when the system has none left: it would wait forever, and the listener would not be reported again. Critical
//! listeners have spares of their own, so that critical clients are admitted when others hold all the rest.
//!
//! # Invariants
//! - Every accepted connection is served by a worker, or rejected with an error and counted.
//! - A connection is rejected in a bounded time: one write and [`UNREAD_MAX`] reads.

use crate::net::listener::{Listener, ListenerKind};
use crate::net::registry::{Budget, Displacement, NewConnection, SPARES, spares};
use crate::net::socket::Socket;
use crate::server::metrics::End;
use crate::server::state::{Shared, Stage, WorkerMessage};
use crate::server::watch::Incident;
use std::fs::File;
use std::io;
use std::sync::mpsc::{SendError, Sender};

/// Connections that are accepted at a listener before existing connections have their turn again.
const BATCH: usize = 16;

/// Reads of what a rejected connection has sent already.
const UNREAD_MAX: usize = 4;

/// Spare descriptors, for when the system has none left.
struct SpareDescriptors {
    files: Vec<File>,
    most: usize,
}

impl SpareDescriptors {
    fn new(most: usize) -> Self {
        let mut spares = SpareDescriptors { files: Vec::with_capacity(most), most };
        spares.refill();
        spares
    }

    /// Closes one, if there is one for this budget. `false` if there is none.
    fn give_up(&mut self, budget: Budget) -> bool {
        let kept = match budget {
            Budget::Ordinary => self.most - SPARES,
            Budget::Critical => 0,
        };
        self.files.len() > kept && self.files.pop().is_some()
    }

    /// Opens those that are missing, as far as the system has descriptors.
    fn refill(&mut self) {
        while self.files.len() < self.most {
            let Ok(spare) = File::open("/dev/null") else { return };
            self.files.push(spare);
        }
    }
}

/// A listener, and whether a connection may be pending at it.
struct ListenerSlot {
    listener: Listener,
    is_ready: bool,
}

/// Accepts connections.
pub(crate) struct Acceptor {
    listeners: Vec<ListenerSlot>,
    /// The inboxes of the workers; the first is this thread's own, and is not used.
    threads: Vec<Sender<WorkerMessage>>,
    next: usize,
    spares: SpareDescriptors,
    /// A connection may still be in the backlog because no descriptor was left to reject it.
    needs_retry: bool,
}

impl Acceptor {
    pub fn new(listeners: Vec<Listener>, threads: Vec<Sender<WorkerMessage>>) -> Self {
        let has_critical = listeners.iter().any(|listener| listener.is_critical);
        let listeners =
            listeners.into_iter().map(|listener| ListenerSlot { listener, is_ready: true }).collect();
        Acceptor {
            listeners,
            threads,
            next: 0,
            spares: SpareDescriptors::new(spares(has_critical)),
            needs_retry: false,
        }
    }

    /// Records that a connection is pending at a listener.
    pub fn mark_ready(&mut self, at: usize) {
        if let Some(slot) = self.listeners.get_mut(at) {
            slot.is_ready = true;
        }
    }

    /// Retries connections that could not even be rejected: the system does not report them again.
    pub fn retry(&mut self) {
        self.spares.refill();
        if std::mem::take(&mut self.needs_retry) {
            self.listeners.iter_mut().for_each(|slot| slot.is_ready = true);
        }
    }

    /// Whether a connection may be pending.
    pub fn has_pending(&self) -> bool {
        self.listeners.iter().any(|slot| slot.is_ready)
    }

    /// How many listeners there are.
    pub fn len(&self) -> usize {
        self.listeners.len()
    }

    /// Accepts a few of the connections that are pending at a listener: this worker's go to `admitted`, the
    /// others' to their inboxes. `false` if none was pending.
    pub fn accept_batch(
        &mut self,
        at: usize,
        shared: &Shared,
        admitted: &mut impl FnMut(NewConnection),
    ) -> bool {
        let was_ready = self.listeners[at].is_ready;
        for _ in 0..BATCH {
            // Waits for those in transit: a connection in the backlog costs nothing but its place there.
            if !self.listeners[at].is_ready || shared.slots.is_transit_full() {
                break;
            }
            match self.listeners[at].listener.accept() {
                Ok(socket) => self.admit(at, socket, false, shared, admitted),
                Err(error) if is_out_of_descriptors(&error) => self.accept_with_spare(at, shared, admitted),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.listeners[at].is_ready = false
                }
                // It was gone before it was accepted.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A retry at once would fail too.
                Err(_) => {
                    self.listeners[at].is_ready = false;
                    self.needs_retry = true;
                }
            }
        }
        was_ready
    }

    /// Accepts a connection with a spare descriptor, as the system has none left.
    fn accept_with_spare(&mut self, at: usize, shared: &Shared, admitted: &mut impl FnMut(NewConnection)) {
        let listener = &self.listeners[at].listener;
        let budget = Budget::of(listener.is_critical);
        match self.spares.give_up(budget).then(|| listener.accept()) {
            Some(Ok(socket)) => self.admit(at, socket, true, shared, admitted),
            _ => {
                self.listeners[at].is_ready = false;
                self.needs_retry = true;
            }
        }
        self.spares.refill();
    }

    /// Finds a slot for a connection, and the worker that will serve it; or rejects it.
    fn admit(
        &mut self,
        at: usize,
        socket: Socket,
        is_scarce: bool,
        shared: &Shared,
        admitted: &mut impl FnMut(NewConnection),
    ) {
        let is_critical = self.listeners[at].listener.is_critical;
        let budget = Budget::of(is_critical);
        // The descriptor is freed by an ordinary unauthenticated connection, also for a critical one.
        let scarce = self.thread_with_unauthenticated(Budget::Ordinary, shared).filter(|_| is_scarce);
        if is_scarce && !is_critical && scarce.is_none() {
            return self.reject(at, socket, End::Descriptors, shared);
        }
        let (thread, displacement) = if shared.slots.take(budget) {
            match scarce {
                Some(thread) => (thread, Displacement::ForDescriptor),
                None => (self.next, Displacement::None),
            }
        } else {
            match self.thread_with_unauthenticated(budget, shared) {
                Some(thread) => (thread, Displacement::ForSlot),
                None => return self.reject(at, socket, End::Full, shared),
            }
        };
        self.next = (thread + 1) % self.threads.len();
        let id = shared.connection_id();
        shared.clients.add(id, socket.peer(), thread, shared.now_s());
        let socket = match self.listeners[at].listener.encrypt(socket) {
            Ok(socket) => socket,
            // No memory for a session: it ends before it began.
            Err(_) => {
                shared.clients.remove(id);
                if displacement != Displacement::ForSlot {
                    shared.slots.release(budget, 1);
                }
                return shared.counters[0].end(End::Descriptors);
            }
        };
        let connection = NewConnection { socket, id, is_critical, displacement };
        if thread == 0 { admitted(connection) } else { self.hand_over(thread, connection, shared) }
    }

    /// The next worker in turn that has unauthenticated connections of this budget.
    fn thread_with_unauthenticated(&self, budget: Budget, shared: &Shared) -> Option<usize> {
        let threads = self.threads.len();
        let mut in_turn = (0..threads).map(|step| (self.next + step) % threads);
        in_turn.find(|thread| shared.counters[*thread].unauthenticated[budget as usize].get() > 0)
    }

    /// Hands a connection to another worker.
    fn hand_over(&self, thread: usize, connection: NewConnection, shared: &Shared) {
        if connection.displacement != Displacement::None {
            shared.slots.begin_transit();
        }
        match self.threads[thread].send(WorkerMessage::Connection(connection)) {
            Ok(()) => shared.wakers[thread].wake_up(),
            // The thread has ended: the server stops.
            Err(SendError(WorkerMessage::Connection(connection))) => {
                let NewConnection { socket, id, is_critical, displacement } = connection;
                shared.clients.remove(id);
                match displacement {
                    Displacement::None => {}
                    _ => shared.slots.end_transit(),
                }
                if displacement != Displacement::ForSlot {
                    shared.slots.release(Budget::of(is_critical), 1);
                }
                let counts = &shared.counters[0];
                counts.connected.add(1);
                counts.end(if shared.stage() == Stage::Running { End::Broken } else { End::Stopped });
                reject_connection(socket, b"-ERR this connection's thread is gone\r\n");
            }
            Err(_) => {}
        }
    }

    fn reject(&self, at: usize, socket: Socket, why: End, shared: &Shared) {
        let (text, incident): (&[u8], _) = match why {
            End::Descriptors => (b"-ERR no file descriptor is left\r\n", Incident::NoDescriptor),
            _ => (b"-ERR max number of clients reached\r\n", Incident::Full),
        };
        shared.watched.incidents.note(incident, || socket.peer());
        shared.counters[0].end(why);
        // A client that expects a handshake could not read it.
        let is_plain = self.listeners[at].listener.kind != ListenerKind::Tls;
        reject_connection(socket, if is_plain { text } else { b"" });
    }
}

/// Writes the reason to a connection that is rejected, and closes it.
pub(crate) fn reject_connection(mut socket: Socket, why: &[u8]) {
    // It may be gone already.
    let _ = socket.write(why);
    // Unread bytes would make the system throw away what it has not sent yet.
    let mut scratch = [0; 4_096];
    let _ = (0..UNREAD_MAX).take_while(|_| socket.discard(&mut scratch)).count();
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Options, Stream};
    use mio::{Poll, Token, Waker};
    use pelton::class::Class;
    use pelton::engine::{Plan, Profile};
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    /// A server's acceptor without its workers; messages to the second go nowhere.
    fn acceptor(connections_max: u32) -> (Shared, Acceptor, String) {
        let mut plan = Plan::new(Profile::Dev).with_shards(1).with_producers_max(2);
        plan.class(Class::strict("bulk").with_capacity(64).with_payload_bytes(4_096).block());
        let mut options = Options::new(plan);
        options.listen = vec!["127.0.0.1:0".into()];
        options.connections_max = connections_max;
        options.streams.push(Stream::new("events", "bulk"));
        let listeners = Listener::all(&options).unwrap();
        let address = listeners[0].address();
        let wakers = (0..2).map(|at| Waker::new(Poll::new().unwrap().registry(), Token(at)).unwrap());
        let shared = Shared::new(options, None, wakers.collect());
        let acceptor = Acceptor::new(listeners, vec![channel().0, channel().0]);
        (shared, acceptor, address)
    }

    /// A client that has sent something before it is accepted.
    fn connect(address: &str) -> TcpStream {
        let mut client = TcpStream::connect(address).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        client.write_all(&[b'x'; 10_000]).unwrap();
        client
    }

    fn reason(mut client: TcpStream) -> String {
        let mut text = String::new();
        // A reset would be an error.
        client.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn rejected_connection_receives_the_reason_whatever_it_sent() {
        let (shared, mut acceptor, address) = acceptor(0);
        let client = connect(&address);
        acceptor.accept_batch(0, &shared, &mut |_| panic!("it was admitted"));
        assert_eq!(reason(client), "-ERR max number of clients reached\r\n");
        let counts = shared.counts();
        assert_eq!((counts.ended(End::Full), counts.connected, counts.connections()), (1, 0, 0));
    }

    #[test]
    fn connection_of_an_ended_thread_is_rejected_and_counted() {
        let (shared, mut acceptor, address) = acceptor(16);
        let clients = [(); 4].map(|()| connect(&address));
        let mut admitted_here = Vec::new();
        acceptor.accept_batch(0, &shared, &mut |connection| admitted_here.push(connection));
        // Every second one is for the worker that has ended.
        let [_first, second, _third, fourth] = clients;
        for client in [second, fourth] {
            assert_eq!(reason(client), "-ERR this connection's thread is gone\r\n");
        }
        assert_eq!((admitted_here.len(), shared.clients.len()), (2, 2));
        let counts = shared.counts();
        // An admitted connection is counted by its worker.
        assert_eq!((counts.connected, counts.ended(End::Broken), counts.connections()), (2, 2, 0));
        // When the server stops, that is the reason.
        shared.advance(Stage::Draining);
        let client = connect(&address);
        let next = connect(&address);
        acceptor.mark_ready(0);
        acceptor.accept_batch(0, &shared, &mut |connection| admitted_here.push(connection));
        drop(client);
        assert_eq!(reason(next), "-ERR this connection's thread is gone\r\n");
        assert_eq!((shared.counts().ended(End::Stopped), shared.clients.len()), (1, 3));
    }
}
