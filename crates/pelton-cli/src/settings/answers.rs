//! The few questions that decide a configuration.

use pelton::class::PAYLOAD_BYTES_MAX;
use pelton::engine::{Kind, Profile};
use pelton::settings;

/// The word for what is left to the formulas.
const DERIVED: &str = "derived";

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answers {
    /// Bytes of the event's type.
    pub event_bytes: u32,
    /// Bytes of the largest payload; 0 for none.
    pub payload_bytes: u32,
    /// Bytes of a usual payload; `None` is half of the largest.
    pub payload_usual_bytes: Option<u32>,
    /// Events a second at the peak, over all producers and classes.
    pub rate: u64,
    /// The classes, as `NAME:SHARE:OVERFLOW[:RATE]`.
    pub classes: String,
    /// How long an event of the first class may wait and be handled, at the 99th percentile, in microseconds.
    pub latency_target_us: u64,
    /// How long the handler takes for one event, in nanoseconds.
    pub handling_ns: u64,
    /// How long a stall of all shards is to be ridden out, in milliseconds.
    pub stall_ms: u64,
    /// Producers.
    pub producers: u16,
    /// Shards; `None` derives them.
    pub shards: Option<u16>,
    /// The CPUs of the shards; `None` leaves them to be chosen.
    pub cpus: Option<Vec<usize>>,
    /// The most memory, in bytes; `None` is what the machine has.
    pub memory_max: Option<u64>,
    /// The profile; `None` derives it.
    pub profile: Option<Profile>,
}

impl Default for Answers {
    fn default() -> Self {
        Answers {
            event_bytes: 40,
            payload_bytes: 0,
            payload_usual_bytes: None,
            rate: 100_000,
            classes: "events:strict:block".into(),
            latency_target_us: 1_000,
            handling_ns: 1_000,
            stall_ms: 10,
            producers: 2,
            shards: None,
            cpus: None,
            memory_max: None,
            profile: None,
        }
    }
}

settings! {
    /// The questions, in the order in which they are asked. `trades` says what an answer decides.
    pub const QUESTIONS: Answers {
        event_bytes: event_bytes = Kind::whole(0, 1 << 20), unit: "bytes",
            what: "the size of the event's type",
            trades: "40 bytes or less make a slot of one cache line, 32 with payloads";
        payload_bytes: payload_bytes = Kind::whole(0, PAYLOAD_BYTES_MAX as u64 / 2), unit: "bytes",
            what: "the largest payload of variable size; 0 for none",
            trades: "each lane's payload ring has room for two of them at least";
        payload_usual_bytes: payload_usual_bytes = Kind::whole(1, PAYLOAD_BYTES_MAX as u64 / 2).or_word("half"), unit: "bytes",
            what: "a usual payload; \"half\" is half of the largest",
            trades: "a full lane of them fits its payload ring";
        rate: rate = Kind::whole(1, 1_000_000_000).thousands(), unit: "events/s",
            what: "events a second at the peak, over all producers and classes",
            trades: "with handling_ns the number of shards; with stall_ms the capacities";
        classes: classes = Kind::text("NAME:SHARE:OVERFLOW or NAME:SHARE:OVERFLOW:RATE, with commas between several"),
            what: "classes as NAME:SHARE:OVERFLOW[:RATE], with commas between them: the share is strict, weighted or weighted=N, the overflow \
         block, reject or drop_newest",
            trades: "what comes first, and what is lost when a lane is full; one without a rate is sized for all events";
        latency_target_us: latency_target_us = Kind::whole(1, 60_000_000), unit: "µs",
            what: "how late an event of the first class may be handled, at the 99th percentile",
            trades: "the profile, and the burst that it waits for";
        handling_ns: handling_ns = Kind::whole(1, 1_000_000_000), unit: "ns",
            what: "how long the handler takes for one event",
            trades: "the number of shards, and the burst";
        stall_ms: stall_ms = Kind::whole(1, 60_000), unit: "ms",
            what: "the longest stall of a shard that is to lose nothing and block nobody",
            trades: "the capacity of each lane";
        producers: producers = Kind::whole(1, 256),
            what: "producers attached at once",
            trades: "each has lanes of its own";
        shards: shards = Kind::whole(1, 256).or_word(DERIVED),
            what: "shards; \"derived\" reckons them from rate and handling_ns",
            trades: "each takes a CPU";
        cpus: cpus = Kind::Cpus("chosen"),
            what: "the CPUs of the shards; \"chosen\" leaves them to the start",
            trades: "named CPUs can be kept free of everything else";
        memory_max_bytes: memory_max = Kind::whole(1, u64::MAX).or_word("machine"), unit: "bytes",
            what: "the most memory; \"machine\" is what this process may take",
            trades: "capacities are halved until it is kept to";
        profile: profile = Kind::OneOf(&[DERIVED, "dev", "balanced", "latency", "throughput"]),
            what: "the profile; \"derived\" takes it from the latency target",
            trades: "what an idle shard does, and the longest burst";
    }
}
