//! The plain words of the field: keys, identities, reasons and verdicts.

use std::fmt;

/// What decides the shard of an event, and within which its order is kept.
///
/// Integers are keys as they are; [`Key::of`] makes one of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub u64);

impl Key {
    /// The key of a byte string: XXH3, 64 bits, seed 0. It is part of Pelton's contract and will not change, so other
    /// programs can compute the shard of a key.
    ///
    /// A publisher that chooses its byte strings can therefore choose their shard, and direct all of its load at one: by
    /// one key used again and again, or by many keys that share a shard. Priority classes and the lanes of other producers
    /// bound what that costs others. Tables of names do not use this hash.
    ///
    /// ```
    /// use pelton::Key;
    /// assert_eq!(Key::of(b""), Key(0x2d06_8005_38d3_94c2));
    /// assert_eq!(Key::from("orders"), Key::of(b"orders"));
    /// assert_eq!(Key::from(7), Key(7));
    /// ```
    #[inline]
    pub fn of(bytes: &[u8]) -> Self {
        Key(xxhash_rust::xxh3::xxh3_64(bytes))
    }
}

// The only integer that converts, so that a bare literal is one without a suffix.
impl From<u64> for Key {
    fn from(key: u64) -> Self {
        Key(key)
    }
}

impl From<&[u8]> for Key {
    fn from(bytes: &[u8]) -> Self {
        Key::of(bytes)
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Self {
        Key::of(text.as_bytes())
    }
}

/// One of an engine's shards, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

impl ShardId {
    /// The shard's number, for use with slices.
    ///
    /// ```
    /// use pelton::ShardId;
    /// let handled = [10, 20];
    /// assert_eq!(handled[ShardId(1).index()], 20);
    /// assert_eq!(ShardId(1).to_string(), "shard 1");
    /// ```
    #[inline]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shard {}", self.0)
    }
}

/// A lane set: a producer that is attached, or one of the shards of the mesh (those come after the producers).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProducerId(pub u16);

impl ProducerId {
    /// The lane set's number, for use with slices.
    ///
    /// ```
    /// use pelton::event::ProducerId;
    /// assert_eq!(ProducerId(3).index(), 3);
    /// assert_eq!(ProducerId(3).to_string(), "producer 3");
    /// ```
    #[inline]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for ProducerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "producer {}", self.0)
    }
}

/// Why an event was not accepted. In the ledger every rejected event stands under exactly one of these.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Rejection {
    /// All slots of the lane hold events that are not released yet.
    SlotsFull,
    /// The lane has a free slot, but not enough contiguous payload bytes.
    BytesFull,
    /// The class waits for a limited time, and that was over.
    TimedOut,
    /// The class drops the newest event when its lane is full, and this was it.
    DroppedNewest,
    /// The payload is larger than half of the class's payload ring, or the class has none.
    TooLarge,
    /// The engine, the shard or the lane is closed.
    Closed,
    /// The process was forked; the engine's threads live in the parent alone. The child is told when its copy of the
    /// lane is full: until then it fills memory that nobody reads, and its copy of the ledger shows that in flight.
    Forked,
    /// The shard named is none of the engine's, or a handler emits without a mesh.
    NoRoute,
    /// The publish would wait for the thread that it is called on: the lane is full, and this thread polls its shard. A
    /// handler has [`Context::emit`](crate::Context::emit), which never waits; a host polls, and tries again.
    OnShardThread,
}

impl Rejection {
    /// Every reason, in the order in which ledgers print them.
    pub const ALL: [Rejection; 9] = [
        Rejection::SlotsFull,
        Rejection::BytesFull,
        Rejection::TimedOut,
        Rejection::DroppedNewest,
        Rejection::TooLarge,
        Rejection::Closed,
        Rejection::Forked,
        Rejection::NoRoute,
        Rejection::OnShardThread,
    ];

    /// The reason's name in reports and metrics.
    ///
    /// ```
    /// use pelton::Rejection;
    /// assert_eq!(Rejection::SlotsFull.name(), "slots_full");
    /// assert!(Rejection::ALL.iter().all(|reason| reason.to_string() == reason.name()));
    /// ```
    pub const fn name(self) -> &'static str {
        match self {
            Rejection::SlotsFull => "slots_full",
            Rejection::BytesFull => "bytes_full",
            Rejection::TimedOut => "timed_out",
            Rejection::DroppedNewest => "dropped_newest",
            Rejection::TooLarge => "too_large",
            Rejection::Closed => "closed",
            Rejection::Forked => "forked",
            Rejection::NoRoute => "no_route",
            Rejection::OnShardThread => "on_shard_thread",
        }
    }
}

/// Why an accepted event was not handled.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Failure {
    /// The handler panicked on it.
    Panic,
    /// The handler retried it for longer than the plan's `retry_limit`, or until its time to live was over.
    Retry,
}

impl Failure {
    /// Every reason, in the order in which ledgers print them.
    pub const ALL: [Failure; 2] = [Failure::Panic, Failure::Retry];

    /// The reason's name in reports and metrics.
    ///
    /// ```
    /// use pelton::event::Failure;
    /// assert_eq!(Failure::ALL.map(Failure::name), ["panic", "retry"]);
    /// ```
    pub const fn name(self) -> &'static str {
        match self {
            Failure::Panic => "panic",
            Failure::Retry => "retry",
        }
    }
}

/// What a handler says of the event that it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Handled: what the handler emitted is published, and the slot goes back to the producer.
    Done,
    /// Not now: what the handler emitted is dropped; the event stays at the head of its lane, which rests for this poll,
    /// and is given to the handler again. If a lane was full to which the handler emitted, the event waits until there is
    /// room. The plan's [`retry_limit`](crate::Plan::with_retry_limit) bounds how long an event is retried.
    Retry,
}

impl From<()> for Verdict {
    fn from((): ()) -> Self {
        Verdict::Done
    }
}

/// What became of an event that a producer offered and that was not refused with an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is in its lane.
    Accepted,
    /// The lane was full, and the class drops the newest. The ledger has it as `rejected(dropped_newest)`.
    Dropped,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Outcome::Accepted => "accepted",
            Outcome::Dropped => "dropped",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_bytes_is_stable() {
        // XXH3-64 of these inputs, as published with the algorithm's reference implementation.
        assert_eq!(Key::of(b""), Key(0x2D06_8005_38D3_94C2));
        assert_eq!(Key::from("pelton"), Key::of(b"pelton"));
        assert_ne!(Key::of(b"a"), Key::of(b"b"));
    }

    #[test]
    fn reasons_index_their_own_counters() {
        for (i, reason) in Rejection::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, i);
        }
        for (i, reason) in Failure::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, i);
        }
    }
}
