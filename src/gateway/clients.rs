//! The list of connections, for `CLIENT LIST`. It is locked for an instant when one comes, goes or is named; nothing on the
//! way of an event looks at it.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A connection as others see it.
struct Client {
    peer: Box<str>,
    name: Option<Box<str>>,
    thread: u16,
    begun_s: u32,
}

/// All connections, by their numbers.
#[derive(Default)]
pub(super) struct Clients(Mutex<BTreeMap<u64, Client>>);

impl Clients {
    fn all(&self) -> MutexGuard<'_, BTreeMap<u64, Client>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn add(&self, id: u64, peer: String, thread: usize, begun_s: u32) {
        let client = Client { peer: peer.into(), name: None, thread: thread as u16, begun_s };
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

    pub fn len(&self) -> usize {
        self.all().len()
    }

    /// A line for each, or for one.
    pub fn list(&self, now_s: u32, only: Option<u64>) -> String {
        let mut text = String::new();
        for (id, client) in self.all().iter().filter(|(id, _)| only.is_none_or(|only| only == **id)) {
            let Client { peer, name, thread, begun_s } = client;
            let (name, age) = (name.as_deref().unwrap_or(""), now_s.saturating_sub(*begun_s));
            let _ = writeln!(
                text,
                "id={id} addr={peer} name={name} age={age} db=0 user=default io-thread={thread}"
            );
        }
        text
    }
}
