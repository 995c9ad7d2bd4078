//! The entrance: accepts connections, and hands them to the threads in turn.
//!
//! # Mechanism
//! A connection that is accepted needs a place ([`Places`](super::places::Places)) and a descriptor. Where its budget of
//! places is used up, or the system has no descriptor left, the oldest stranger of the thread that will serve it goes; only
//! where there is no stranger, the newcomer is turned away. Nothing that costs more than a descriptor (a TLS session, a
//! signature) is made for a connection before it has its place.
//!
//! # Descriptors that are kept back
//! A few descriptors are held open for nothing ([`Reserve`]). Without one, a connection could be neither accepted nor turned
//! away when the system has none left: it would wait forever, and the listener would not be reported again. Critical
//! listeners have some of their own, so that critical clients are admitted when others hold all the rest.
//!
//! # Invariants
//! - Every connection that was accepted is served by a thread, or turned away with an error and counted.
//! - A connection is turned away in a bounded time: one write and [`UNREAD_MAX`] reads.
#![forbid(unsafe_code)]

use super::counts::End;
use super::listen::{Kind, Listener};
use super::mail::{Arrival, Displaces, Mail};
use super::places::{Budget, SPARES, spares};
use super::shared::{Shared, Stage};
use super::socket::Socket;
use super::watch::Incident;
use std::fs::File;
use std::io;
use std::sync::mpsc::{SendError, Sender};

/// Connections that are accepted at a listener before those that are there have their turn again.
const BATCH: usize = 16;

/// Reads of what a connection has sent already that is turned away.
const UNREAD_MAX: usize = 4;

/// Descriptors that are kept back for when the system has none left.
struct Reserve {
    spares: Vec<File>,
    most: usize,
}

impl Reserve {
    fn new(most: usize) -> Self {
        let mut reserve = Reserve { spares: Vec::with_capacity(most), most };
        reserve.refill();
        reserve
    }

    /// Gives one up, if there is one for this budget. `false` where there is none.
    fn give_up(&mut self, budget: Budget) -> bool {
        let kept = match budget {
            Budget::Ordinary => self.most - SPARES,
            Budget::Critical => 0,
        };
        self.spares.len() > kept && self.spares.pop().is_some()
    }

    /// Takes back what was given up, as far as the system has it.
    fn refill(&mut self) {
        while self.spares.len() < self.most {
            let Ok(spare) = File::open("/dev/null") else { return };
            self.spares.push(spare);
        }
    }
}

/// A listener, and whether a connection may be waiting at it.
struct Door {
    listener: Listener,
    knocked: bool,
}

/// Accepts connections.
pub(super) struct Entrance {
    doors: Vec<Door>,
    /// A mailbox for each thread; the first is this one's own, and is not used.
    threads: Vec<Sender<Mail>>,
    next: usize,
    reserve: Reserve,
    /// A connection may be waiting for which there was no descriptor, not even to turn it away.
    is_short: bool,
}

impl Entrance {
    pub fn new(listeners: Vec<Listener>, threads: Vec<Sender<Mail>>) -> Self {
        let has_critical = listeners.iter().any(|listener| listener.is_critical);
        let doors = listeners.into_iter().map(|listener| Door { listener, knocked: true }).collect();
        Entrance { doors, threads, next: 0, reserve: Reserve::new(spares(has_critical)), is_short: false }
    }

    /// A connection waits at a listener.
    pub fn knock(&mut self, at: usize) {
        if let Some(door) = self.doors.get_mut(at) {
            door.knocked = true;
        }
    }

    /// Looks for connections that could not even be turned away: the system does not report them again.
    pub fn look_again(&mut self) {
        self.reserve.refill();
        if std::mem::take(&mut self.is_short) {
            self.doors.iter_mut().for_each(|door| door.knocked = true);
        }
    }

    /// Whether a connection may be waiting.
    pub fn is_open(&self) -> bool {
        self.doors.iter().any(|door| door.knocked)
    }

    /// How many listeners there are.
    pub fn len(&self) -> usize {
        self.doors.len()
    }

    /// Accepts a few of the connections that wait at a listener: this thread's go to `welcome`, the others' into their mail.
    /// `false` where none was waiting.
    pub fn enter(&mut self, at: usize, shared: &Shared, welcome: &mut impl FnMut(Arrival)) -> bool {
        let was_knocked = self.doors[at].knocked;
        for _ in 0..BATCH {
            // Those on their way are waited for: what waits outside costs nothing but its place in the system's queue.
            if !self.doors[at].knocked || shared.places.are_many_on_the_way() {
                break;
            }
            match self.doors[at].listener.accept() {
                Ok(socket) => self.admit(at, socket, false, shared, welcome),
                Err(error) if is_out_of_descriptors(&error) => self.enter_without(at, shared, welcome),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.doors[at].knocked = false,
                // It was gone before it was accepted.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Another try at once would fail like this one.
                Err(_) => {
                    self.doors[at].knocked = false;
                    self.is_short = true;
                }
            }
        }
        was_knocked
    }

    /// Accepts a connection for which the system has no descriptor, with one that was kept back.
    fn enter_without(&mut self, at: usize, shared: &Shared, welcome: &mut impl FnMut(Arrival)) {
        let listener = &self.doors[at].listener;
        let budget = Budget::of(listener.is_critical);
        match self.reserve.give_up(budget).then(|| listener.accept()) {
            Some(Ok(socket)) => self.admit(at, socket, true, shared, welcome),
            _ => {
                self.doors[at].knocked = false;
                self.is_short = true;
            }
        }
        self.reserve.refill();
    }

    /// Finds a place for a connection, and the thread that will serve it; or turns it away.
    fn admit(
        &mut self,
        at: usize,
        socket: Socket,
        is_scarce: bool,
        shared: &Shared,
        welcome: &mut impl FnMut(Arrival),
    ) {
        let is_critical = self.doors[at].listener.is_critical;
        let budget = Budget::of(is_critical);
        // What frees a descriptor is an ordinary stranger, whoever needs the descriptor.
        let scarce = self.thread_with_strangers(Budget::Ordinary, shared).filter(|_| is_scarce);
        if is_scarce && !is_critical && scarce.is_none() {
            return self.turn_away(at, socket, End::Descriptors, shared);
        }
        let (thread, displaces) = if shared.places.take(budget) {
            match scarce {
                Some(thread) => (thread, Displaces::ForDescriptor),
                None => (self.next, Displaces::Nobody),
            }
        } else {
            match self.thread_with_strangers(budget, shared) {
                Some(thread) => (thread, Displaces::ForPlace),
                None => return self.turn_away(at, socket, End::Full, shared),
            }
        };
        self.next = (thread + 1) % self.threads.len();
        let id = shared.connection_id();
        shared.clients.add(id, socket.peer(), thread, shared.now_s());
        let socket = match self.doors[at].listener.encrypt(socket) {
            Ok(socket) => socket,
            // No memory for a session: it ends before it began.
            Err(_) => {
                shared.clients.remove(id);
                if displaces != Displaces::ForPlace {
                    shared.places.give_back(budget, 1);
                }
                return shared.threads[0].end(End::Descriptors);
            }
        };
        let arrival = Arrival { socket, id, is_critical, displaces };
        if thread == 0 { welcome(arrival) } else { self.hand_over(thread, arrival, shared) }
    }

    /// The thread that is next in turn among those that have strangers of this budget.
    fn thread_with_strangers(&self, budget: Budget, shared: &Shared) -> Option<usize> {
        let threads = self.threads.len();
        let mut in_turn = (0..threads).map(|step| (self.next + step) % threads);
        in_turn.find(|thread| shared.threads[*thread].strangers[budget as usize].get() > 0)
    }

    /// Hands a connection to another thread.
    fn hand_over(&self, thread: usize, arrival: Arrival, shared: &Shared) {
        if arrival.displaces != Displaces::Nobody {
            shared.places.set_out();
        }
        match self.threads[thread].send(Mail::Conn(arrival)) {
            Ok(()) => shared.bells[thread].wake_up(),
            // The thread has ended: the server stops.
            Err(SendError(Mail::Conn(arrival))) => {
                let Arrival { socket, id, is_critical, displaces } = arrival;
                shared.clients.remove(id);
                match displaces {
                    Displaces::Nobody => {}
                    _ => shared.places.arrive(),
                }
                if displaces != Displaces::ForPlace {
                    shared.places.give_back(Budget::of(is_critical), 1);
                }
                let counts = &shared.threads[0];
                counts.connected.add(1);
                counts.end(if shared.stage() == Stage::Running { End::Broken } else { End::Stopped });
                turn_away(socket, b"-ERR this connection's thread is gone\r\n");
            }
            Err(_) => {}
        }
    }

    fn turn_away(&self, at: usize, socket: Socket, why: End, shared: &Shared) {
        let (text, incident): (&[u8], _) = match why {
            End::Descriptors => (b"-ERR no file descriptor is left\r\n", Incident::NoDescriptor),
            _ => (b"-ERR max number of clients reached\r\n", Incident::Full),
        };
        shared.incidents.note(incident, || socket.peer());
        shared.threads[0].end(why);
        // A client that expects a handshake could not read it.
        let is_plain = self.doors[at].listener.kind != Kind::Tls;
        turn_away(socket, if is_plain { text } else { b"" });
    }
}

/// Writes the reason to a connection that is turned away, and closes it.
pub(super) fn turn_away(mut socket: Socket, why: &[u8]) {
    // It may be gone already.
    let _ = socket.write(why);
    // What is unread would make the system throw away what it has not sent yet.
    let mut scratch = [0; 4_096];
    let _ = (0..UNREAD_MAX).take_while(|_| socket.discard(&mut scratch)).count();
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::class::Class;
    use crate::engine::{Plan, Profile};
    use crate::gateway::{Options, Stream};
    use mio::{Poll, Token, Waker};
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    /// A server's entrance without its threads; the mail of the second goes nowhere.
    fn entrance(connections_max: u32) -> (Shared, Entrance, String) {
        let mut plan = Plan::new(Profile::Dev).shards(1).producers_max(2);
        plan.class(Class::strict("bulk").capacity(64).payload_bytes(4_096).block());
        let mut options = Options::new(plan);
        options.listen = vec!["127.0.0.1:0".into()];
        options.connections_max = connections_max;
        options.streams.push(Stream::new("events", "bulk"));
        let listeners = Listener::all(&options).unwrap();
        let place = listeners[0].place();
        let wakers = (0..2).map(|at| Waker::new(Poll::new().unwrap().registry(), Token(at)).unwrap());
        let shared = Shared::new(options, None, wakers.collect());
        let entrance = Entrance::new(listeners, vec![channel().0, channel().0]);
        (shared, entrance, place)
    }

    /// Somebody who has said something before anybody looks.
    fn knock(place: &str) -> TcpStream {
        let mut client = TcpStream::connect(place).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        client.write_all(&[b'x'; 10_000]).unwrap();
        client
    }

    fn told(mut client: TcpStream) -> String {
        let mut text = String::new();
        // A reset would be an error.
        client.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn who_is_turned_away_hears_it_whatever_it_has_said() {
        let (shared, mut entrance, place) = entrance(0);
        let client = knock(&place);
        entrance.enter(0, &shared, &mut |_| panic!("it was admitted"));
        assert_eq!(told(client), "-ERR max number of clients reached\r\n");
        let counts = shared.counts();
        assert_eq!((counts.ended(End::Full), counts.connected, counts.connections()), (1, 0, 0));
    }

    #[test]
    fn whose_thread_is_gone_is_told_and_counted() {
        let (shared, mut entrance, place) = entrance(16);
        let clients = [(); 4].map(|()| knock(&place));
        let mut welcomed = Vec::new();
        entrance.enter(0, &shared, &mut |arrival| welcomed.push(arrival));
        // Every second one is for the thread that is gone.
        let [_first, second, _third, fourth] = clients;
        for client in [second, fourth] {
            assert_eq!(told(client), "-ERR this connection's thread is gone\r\n");
        }
        assert_eq!((welcomed.len(), shared.clients.len()), (2, 2));
        let counts = shared.counts();
        // Who is welcomed is counted by the thread that does it.
        assert_eq!((counts.connected, counts.ended(End::Broken), counts.connections()), (2, 2, 0));
        // When the server stops, that is why.
        shared.advance(Stage::Draining);
        let client = knock(&place);
        let next = knock(&place);
        entrance.knock(0);
        entrance.enter(0, &shared, &mut |arrival| welcomed.push(arrival));
        drop(client);
        assert_eq!(told(next), "-ERR this connection's thread is gone\r\n");
        assert_eq!((shared.counts().ended(End::Stopped), shared.clients.len()), (1, 3));
    }
}
