//! The list of connections, for `CLIENT LIST` and its kin. It is locked for an instant when a connection comes, goes, is named
//! or begins to subscribe, and for at most [`VISITED_MAX`] connections when it is read; nothing on the way of an event
//! looks at it.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The most connections that are visited under one lock: some 20 µs.
const VISITED_MAX: usize = 64;

/// A connection as others see it.
pub(super) struct Client {
    pub peer: Box<str>,
    name: Option<Box<str>>,
    pub thread: u16,
    begun_s: u32,
    pub is_subscriber: bool,
}

impl Client {
    /// Writes the connection's line of `CLIENT LIST`.
    pub fn line(&self, id: u64, now_s: u32, text: &mut String) {
        let Client { peer, name, thread, begun_s, is_subscriber } = self;
        let (name, age) = (name.as_deref().unwrap_or(""), now_s.saturating_sub(*begun_s));
        let flags = if *is_subscriber { 'P' } else { 'N' };
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "id={id} addr={peer} name={name} age={age} flags={flags} db=0 user=default io-thread={thread}"
        );
    }
}

/// All connections, by their ids.
#[derive(Default)]
pub(super) struct Clients(Mutex<BTreeMap<u64, Client>>);

impl Clients {
    fn all(&self) -> MutexGuard<'_, BTreeMap<u64, Client>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn add(&self, id: u64, peer: String, thread: usize, begun_s: u32) {
        let thread = thread as u16;
        let client = Client { peer: peer.into(), name: None, thread, begun_s, is_subscriber: false };
        self.all().insert(id, client);
    }

    pub fn remove(&self, id: u64) {
        self.all().remove(&id);
    }

    pub fn rename(&self, id: u64, name: Option<Box<str>>) {
        if let Some(client) = self.all().get_mut(&id) {
            client.name = name;
        }
    }

    /// The peer of a connection.
    pub fn peer(&self, id: u64) -> String {
        self.all().get(&id).map_or_else(String::new, |client| client.peer.to_string())
    }

    /// Notes whether a connection has subscriptions.
    pub fn subscribes(&self, id: u64, is_subscriber: bool) {
        if let Some(client) = self.all().get_mut(&id) {
            client.is_subscriber = is_subscriber;
        }
    }

    pub fn len(&self) -> usize {
        self.all().len()
    }

    /// Visits one connection, if it is there.
    pub fn visit_one(&self, id: u64, visitor: impl FnOnce(&Client)) {
        if let Some(client) = self.all().get(&id) {
            visitor(client);
        }
    }

    /// Visits at most [`VISITED_MAX`] connections, in the order of their ids, from the one after `after` on. Returns the last
    /// that was visited; `None` at the end.
    pub fn visit(&self, after: Option<u64>, mut visitor: impl FnMut(u64, &Client)) -> Option<u64> {
        let all = self.all();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut last = None;
        for (id, client) in all.range((from, Bound::Unbounded)).take(VISITED_MAX) {
            visitor(*id, client);
            last = Some(*id);
        }
        last
    }
}
