//! The entrance: takes connections, and hands them to the threads in turn.
//!
//! # Invariants
//! - No more than `connections_max` are let in; whoever comes beyond is told so and counted.
//! - Where the system has no descriptor left, the one in reserve takes the connection that waits, tells it, and ends it:
//!   it would wait for ever otherwise, and the listener would be told of it again and again.
#![forbid(unsafe_code)]

use super::counts::End;
use super::listen::{Kind, Listener};
use super::mail::Mail;
use super::shared::Shared;
use super::socket::Socket;
use std::fs::File;
use std::io;
use std::sync::mpsc::Sender;

/// Connections that are taken before those that are there have their turn again.
const BATCH: usize = 64;

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
    pub fn enter(&mut self, shared: &Shared, mut welcome: impl FnMut(Socket, u64, bool)) -> bool {
        let Entrance { listeners, threads, next, reserve: spare, is_short } = self;
        let counts = &shared.threads[0];
        let mut any = false;
        for (listener, knocked) in listeners.iter_mut().filter(|(_, knocked)| *knocked) {
            let mut left = BATCH;
            while *knocked && left > 0 {
                left -= 1;
                match listener.accept() {
                    Ok(mut socket) => {
                        any = true;
                        if shared.clients.len() >= shared.options.connections_max as usize {
                            let _ = socket.write(b"-ERR max number of clients reached\r\n");
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
                        } else if threads[thread].send(Mail::Conn { socket, id, is_critical }).is_ok() {
                            shared.bells[thread].wake();
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => *knocked = false,
                    Err(error) if is_out_of_descriptors(&error) => {
                        // With the one in reserve given up there is one for it.
                        *spare = None;
                        if let Ok(mut socket) = listener.accept() {
                            let _ = socket.write(b"-ERR no file descriptor is left\r\n");
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
        any
    }
}

fn reserve() -> Option<File> {
    File::open("/dev/null").ok()
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}
