//! The quarantine: what is kept of events that a handler panicked on, in a fixed place.

use crate::event::Key;
use crate::lane::LaneId;

/// How many panics a shard keeps the particulars of; those after them are counted alone.
pub const QUARANTINE_MAX: usize = 16;
/// How much of a panic's message is kept, in bytes.
pub const MESSAGE_BYTES: usize = 160;
/// How much of an event's payload is kept, in bytes.
pub const PAYLOAD_BYTES: usize = 64;

/// What is kept of one panic.
///
/// ```
/// # use pelton::{Class, Key, Plan, Profile, handler};
/// # use std::time::Duration;
/// # std::panic::set_hook(Box::new(|_| ()));
/// # let mut plan = Plan::new(Profile::Dev).with_announce(false);
/// let class = plan.class(Class::strict("only").with_payload_bytes(64));
/// let engine = plan.start(|| 0u64, |_| handler(|event, _| assert!(**event < 100, "no such price")))?;
/// engine.attach()?.publish_payload(class, 7, b"EURUSD", |price| *price = 101)?;
/// let report = engine.stop(Duration::from_secs(10))?;
/// let quarantine = report.shards[0].quarantine.as_ref().unwrap();
/// let kept = &quarantine.kept[0];
/// assert_eq!((kept.key, kept.message(), kept.payload()), (Key(7), "no such price", &b"EURUSD"[..]));
/// assert_eq!((quarantine.panics, report.ledger.total().failed_total()), (1, 1));
/// assert!(report.ledger.is_closed());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Quarantined {
    /// The event's lane; `None` where the panic was in a method that is given no event.
    pub lane: Option<LaneId>,
    /// The event's sequence in its lane.
    pub sequence: u64,
    /// The event's key.
    pub key: Key,
    message: Bytes<MESSAGE_BYTES>,
    payload: Bytes<PAYLOAD_BYTES>,
}

#[derive(Clone, Copy, Debug)]
struct Bytes<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Bytes<N> {
    fn of(source: &[u8]) -> Self {
        let len = source.len().min(N);
        let mut bytes = [0; N];
        bytes[..len].copy_from_slice(&source[..len]);
        Bytes { bytes, len }
    }

    fn get(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Quarantined {
    /// The first [`MESSAGE_BYTES`] bytes of the panic's message, up to the last whole character.
    pub fn message(&self) -> &str {
        let bytes = self.message.get();
        match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(cut) => std::str::from_utf8(&bytes[..cut.valid_up_to()]).unwrap_or_default(),
        }
    }

    /// The first [`PAYLOAD_BYTES`] bytes of the event's payload.
    pub fn payload(&self) -> &[u8] {
        self.payload.get()
    }
}

/// A shard's quarantine.
#[derive(Clone, Debug)]
pub struct Quarantine {
    /// The first ones, at most [`QUARANTINE_MAX`].
    pub kept: Vec<Quarantined>,
    /// How many panics there were.
    pub panics: u64,
}

impl Quarantine {
    pub(super) fn new() -> Self {
        Quarantine { kept: Vec::with_capacity(QUARANTINE_MAX), panics: 0 }
    }

    pub(super) fn add(
        &mut self,
        event: Option<(LaneId, u64, Key, &[u8])>,
        panic: &(dyn std::any::Any + Send),
    ) {
        self.panics += 1;
        if self.kept.len() == QUARANTINE_MAX {
            return;
        }
        let message = panic
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("a panic without a message");
        let (lane, sequence, key, payload) = match event {
            Some((lane, sequence, key, payload)) => (Some(lane), sequence, key, payload),
            None => (None, 0, Key(0), &[][..]),
        };
        self.kept.push(Quarantined {
            lane,
            sequence,
            key,
            message: Bytes::of(message.as_bytes()),
            payload: Bytes::of(payload),
        });
    }
}
