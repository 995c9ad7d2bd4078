//! Streams: what clients publish to, each with its class and the origin of its keys.
#![forbid(unsafe_code)]

/// Where the key of a stream's events comes from. It decides the shard, and within it the order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KeyFrom {
    /// Nowhere: each event goes to the next shard.
    #[default]
    RoundRobin,
    /// The value of the first field.
    First,
    /// The value of the field of this name. An event without it is refused.
    Field(String),
}

/// A stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Stream {
    /// Its name: what clients say in `XADD`.
    pub name: String,
    /// The name of the class that its events belong to.
    pub class: String,
    /// Where the key comes from.
    pub key: KeyFrom,
    /// Bytes of the largest payload; `None` is what the class takes.
    pub payload_max: Option<u32>,
}

impl Stream {
    /// A stream whose events go to the shards in turn.
    pub fn new(name: impl Into<String>, class: impl Into<String>) -> Self {
        Stream { name: name.into(), class: class.into(), key: KeyFrom::RoundRobin, payload_max: None }
    }

    /// The same with keys.
    #[must_use]
    pub fn keyed(self, key: KeyFrom) -> Self {
        Stream { key, ..self }
    }
}
