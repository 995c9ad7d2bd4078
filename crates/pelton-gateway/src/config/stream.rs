//! Streams: what clients publish to, each with its class and the origin of its keys.

use pelton::class::PAYLOAD_BYTES_MAX;
use pelton::engine::Kind;
use pelton::settings;

/// What a key from a field begins with, in files.
const FIELD: &str = "field:";

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

impl KeyFrom {
    /// As files have it: `round_robin`, `first`, or `field:NAME`.
    pub fn word(&self) -> String {
        match self {
            KeyFrom::RoundRobin => "round_robin".into(),
            KeyFrom::First => "first".into(),
            KeyFrom::Field(name) => format!("{FIELD}{name}"),
        }
    }

    /// What such a word stands for; `None` where it is none.
    pub fn named(word: &str) -> Option<Self> {
        match (word, word.strip_prefix(FIELD)) {
            ("round_robin", _) => Some(KeyFrom::RoundRobin),
            ("first", _) => Some(KeyFrom::First),
            (_, Some(name)) if !name.is_empty() => Some(KeyFrom::Field(name.to_string())),
            _ => None,
        }
    }
}

/// A stream. Every field has a row in [`STREAM`].
#[derive(Clone, Debug, PartialEq, Eq)]
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

    /// How a setting of this stream is called among all.
    pub(crate) fn named(&self, key: &str) -> String {
        format!("stream '{}': {key}", self.name)
    }
}

settings! {
    /// The settings of a stream, in the order in which files have them.
    pub const STREAM: Stream {
        name: name = Kind::text("a name"),
            what: "the name of the stream, as clients say it; no other has it",
            trades: "nothing",
            watch: "every figure of the stream";
        class: class = Kind::text("the name of a class"),
            what: "the name of the class that its events belong to; several streams may share one",
            trades: "a class of its own is served, and lost, apart from the others",
            watch: "every figure of the class";
        key: key = Kind::OneOfOr(&["round_robin", "first"], FIELD, "NAME"),
            what: "where an event's key comes from: nowhere, the value of its first field, or that of a field by name",
            trades: "events of one key and one connection keep their order, on one shard; without keys the load is even",
            watch: "handled by shard",
            get: |stream, _| stream.key.word().into(),
            set: |stream, value, _| stream.key = KeyFrom::named(value.word()).unwrap_or_default();
        payload_max_bytes: payload_max = Kind::whole(1, PAYLOAD_BYTES_MAX as u64 / 2).or_word("class"), unit: "bytes",
            what: "the most that fields and values of one event take; \"class\" is what its class takes",
            trades: "a small one keeps one event from taking the room of many",
            watch: "rejected(too_large)";
    }
}
