//! The entrance: takes connections, and hands them to the threads in turn.
//!
//! # Invariants
//! - No more than `connections_max` are let in; whoever comes beyond is told so and counted.
//! - Every connection that was taken is welcomed by a thread, or turned away in words and counted.
//! - Where the system has no descriptor left, the one in reserve takes the connection that waits, tells it, and ends it:
//!   it would wait for ever otherwise, and the listener would be told of it again and again.
#![forbid(unsafe_code)]

use super::counts::End;
use super::listen::{Kind, Listener};
use super::mail::Mail;
use super::shared::{Shared, Stage};
use super::socket::Socket;
use std::fs::File;
use std::io;
use std::sync::mpsc::{SendError, Sender};

/// Connections that are taken before those that are there have their turn again.
const BATCH: usize = 16;

/// Reads of what somebody has said already who is turned away.
const UNREAD_MAX: usize = 32;

/// Takes connections.
pub(super) struct Entrance {
    listeners: Vec<(Listener, bool)>,
    /// A mailbox for each thread; the first is this one's own, and is not used.
    threads: Vec<Sender<Mail>>,
    next: usize,
    reserve: Option<File>,
    /// Somebody may stand outside whom there was no descriptor to turn away with.
    is_short: bool,
}

impl Entrance {
    pub fn new(listeners: Vec<Listener>, threads: Vec<Sender<Mail>>) -> Self {
        let listeners = listeners.into_iter().map(|listener| (listener, true)).collect();
        Entrance { listeners, threads, next: 0, reserve: reserve(), is_short: false }
    }

    /// Somebody knocks at a listener.
    pub fn knock(&mut self, at: usize) {
        if let Some((_, knocked)) = self.listeners.get_mut(at) {
            *knocked = true;
        }
    }

    /// Looks for those who could not even be turned away: the system tells of them no more.
    pub fn look_again(&mut self) {
        if std::mem::take(&mut self.is_short) {
            self.reserve = self.reserve.take().or_else(reserve);
            self.listeners.iter_mut().for_each(|(_, knocked)| *knocked = true);
        }
    }

    /// Whether somebody may stand outside.
    pub fn is_open(&self) -> bool {
        self.listeners.iter().any(|(_, knocked)| *knocked)
    }

    /// Lets in those who knock: this thread's go to `welcome`, the others' into their mail.
    pub fn enter(&mut self, shared: &Shared, mut welcome: impl FnMut(Socket, u64, bool)) {
        let Entrance { listeners, threads, next, reserve: spare, is_short } = self;
        let counts = &shared.threads[0];
        for (listener, knocked) in listeners.iter_mut().filter(|(_, knocked)| *knocked) {
            let mut left = BATCH;
            while *knocked && left > 0 {
                left -= 1;
                match listener.accept() {
                    Ok(socket) => {
                        if shared.clients.len() >= shared.options.connections_max as usize {
                            turn_away(socket, b"-ERR max number of clients reached\r\n");
                            counts.end(End::Full);
                            continue;
                        }
                        let thread = *next;
                        *next = (*next + 1) % threads.len();
                        let id = shared.connection_id();
                        shared.clients.add(id, socket.peer(), thread, shared.now_s());
                        let is_critical = listener.kind == Kind::Critical;
                        if thread == 0 {
                            welcome(socket, id, is_critical);
                            continue;
                        }
                        match threads[thread].send(Mail::Conn { socket, id, is_critical }) {
                            Ok(()) => shared.bells[thread].wake_up(),
                            // That thread is gone: the server stops, or it panicked.
                            Err(SendError(mail)) => {
                                shared.clients.remove(id);
                                counts.connected.add(1);
                                let is_running = shared.stage() == Stage::Running;
                                counts.end(if is_running { End::Broken } else { End::Stopped });
                                if let Mail::Conn { socket, .. } = mail {
                                    turn_away(socket, b"-ERR this connection's thread is gone\r\n");
                                }
                            }
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => *knocked = false,
                    Err(error) if is_out_of_descriptors(&error) => {
                        // With the one in reserve given up there is one for it.
                        *spare = None;
                        if let Ok(socket) = listener.accept() {
                            turn_away(socket, b"-ERR no file descriptor is left\r\n");
                            counts.end(End::Descriptors);
                        } else {
                            *knocked = false;
                            *is_short = true;
                        }
                        *spare = reserve();
                        *is_short |= spare.is_none();
                    }
                    // It was gone before it was let in.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    // Whatever it is, trying again at once would not help.
                    Err(_) => {
                        *knocked = false;
                        *is_short = true;
                    }
                }
            }
        }
    }
}

/// Tells somebody why not, and closes.
fn turn_away(mut socket: Socket, why: &[u8]) {
    // It may be gone already; one that was to be encrypted cannot be told anything.
    let _ = socket.write(why);
    // What is unread would make the system throw away what it has not handed on.
    let mut scratch = [0; 4_096];
    let _ = (0..UNREAD_MAX).take_while(|_| socket.discard(&mut scratch)).count();
}

fn reserve() -> Option<File> {
    File::open("/dev/null").ok()
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
        entrance.enter(&shared, |_, _, _| panic!("it was let in"));
        assert_eq!(told(client), "-ERR max number of clients reached\r\n");
        let counts = shared.counts();
        assert_eq!((counts.ended(End::Full), counts.connected, counts.connections()), (1, 0, 0));
    }

    #[test]
    fn whose_thread_is_gone_is_told_and_counted() {
        let (shared, mut entrance, place) = entrance(16);
        let clients = [(); 4].map(|()| knock(&place));
        let mut welcomed = Vec::new();
        entrance.enter(&shared, |socket, id, _| welcomed.push((socket, id)));
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
        entrance.enter(&shared, |socket, id, _| welcomed.push((socket, id)));
        drop(client);
        assert_eq!(told(next), "-ERR this connection's thread is gone\r\n");
        assert_eq!((shared.counts().ended(End::Stopped), shared.clients.len()), (1, 3));
    }
}
