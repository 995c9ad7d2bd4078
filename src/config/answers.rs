//! The few questions that decide a configuration.
#![forbid(unsafe_code)]

use crate::class::PAYLOAD_BYTES_MAX;
use crate::engine::{Kind, Profile, Range, Setting, Value};

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

const fn question(
    key: &'static str,
    kind: Kind,
    unit: &'static str,
    what: &'static str,
    trades: &'static str,
    get: fn(&Answers) -> Value,
    set: fn(&mut Answers, Value),
) -> Setting<Answers> {
    Setting { key, field: key, kind, unit, what, trades, watch: "", needs: None, get, set }
}

/// The questions, in the order in which they are asked. `trades` says what an answer decides.
pub const QUESTIONS: &[Setting<Answers>] = &[
    question(
        "event_bytes",
        Kind::Whole(Range::new(0, 1 << 20)),
        "bytes",
        "the size of the event's type",
        "40 bytes or less make a slot of one cache line, 32 with payloads",
        |of| of.event_bytes.into(),
        |of, value| of.event_bytes = value.whole(),
    ),
    question(
        "payload_bytes",
        Kind::Whole(Range::new(0, PAYLOAD_BYTES_MAX as u64 / 2)),
        "bytes",
        "the largest payload of variable size; 0 for none",
        "each lane's payload ring has room for two of them at least",
        |of| of.payload_bytes.into(),
        |of, value| of.payload_bytes = value.whole(),
    ),
    question(
        "payload_usual_bytes",
        Kind::Whole(Range::new(1, PAYLOAD_BYTES_MAX as u64 / 2).or_word("half")),
        "bytes",
        "a usual payload; \"half\" is half of the largest",
        "a full lane of them fits its payload ring",
        |of| Value::or_word(of.payload_usual_bytes, "half"),
        |of, value| of.payload_usual_bytes = value.number(),
    ),
    question(
        "rate",
        Kind::Whole(Range::new(1, 1_000_000_000).thousands()),
        "events/s",
        "events a second at the peak, over all producers and classes",
        "with handling_ns the number of shards; with stall_ms the capacities",
        |of| of.rate.into(),
        |of, value| of.rate = value.whole(),
    ),
    question(
        "classes",
        Kind::Text("NAME:SHARE:OVERFLOW or NAME:SHARE:OVERFLOW:RATE, with commas between several"),
        "",
        "classes as NAME:SHARE:OVERFLOW[:RATE], with commas between them: the share is strict, weighted or weighted=N, the overflow \
         block, reject or drop_newest",
        "what comes first, and what is lost when a lane is full; one without a rate is sized for all events",
        |of| of.classes.clone().into(),
        |of, value| of.classes = value.word().to_string(),
    ),
    question(
        "latency_target_us",
        Kind::Whole(Range::new(1, 60_000_000)),
        "µs",
        "how late an event of the first class may be handled, at the 99th percentile",
        "the profile, and the burst that it waits for",
        |of| of.latency_target_us.into(),
        |of, value| of.latency_target_us = value.whole(),
    ),
    question(
        "handling_ns",
        Kind::Whole(Range::new(1, 1_000_000_000)),
        "ns",
        "how long the handler takes for one event",
        "the number of shards, and the burst",
        |of| of.handling_ns.into(),
        |of, value| of.handling_ns = value.whole(),
    ),
    question(
        "stall_ms",
        Kind::Whole(Range::new(1, 60_000)),
        "ms",
        "the longest stall of a shard that is to lose nothing and block nobody",
        "the capacity of each lane",
        |of| of.stall_ms.into(),
        |of, value| of.stall_ms = value.whole(),
    ),
    question(
        "producers",
        Kind::Whole(Range::new(1, 256)),
        "",
        "producers attached at once",
        "each has lanes of its own",
        |of| of.producers.into(),
        |of, value| of.producers = value.whole(),
    ),
    question(
        "shards",
        Kind::Whole(Range::new(1, 256).or_word(DERIVED)),
        "",
        "shards; \"derived\" reckons them from rate and handling_ns",
        "each takes a CPU",
        |of| Value::or_word(of.shards, DERIVED),
        |of, value| of.shards = value.number(),
    ),
    question(
        "cpus",
        Kind::Cpus("chosen"),
        "",
        "the CPUs of the shards; \"chosen\" leaves them to the start",
        "named CPUs can be kept free of everything else",
        |of| of.cpus.clone().map_or("chosen".into(), Value::Cpus),
        |of, value| {
            of.cpus = match value {
                Value::Cpus(cpus) => Some(cpus),
                _ => None,
            }
        },
    ),
    question(
        "memory_max_bytes",
        Kind::Whole(Range::new(1, u64::MAX).or_word("machine")),
        "bytes",
        "the most memory; \"machine\" is what this process may take",
        "capacities are halved until it is kept to",
        |of| Value::or_word(of.memory_max, "machine"),
        |of, value| of.memory_max = value.number(),
    ),
    question(
        "profile",
        Kind::OneOf(&[DERIVED, "dev", "balanced", "latency", "throughput"]),
        "",
        "the profile; \"derived\" takes it from the latency target",
        "what an idle shard does, and the longest burst",
        |of| of.profile.map_or(DERIVED, Profile::name).into(),
        |of, value| of.profile = Profile::named(value.word()),
    ),
];
