//! The table of an engine: every setting, a row each.
#![forbid(unsafe_code)]

use super::config::{BURST_MAX, OnPanic, PRODUCERS_MAX, Profile, SCRATCH_MAX, SHARDS_MAX};
use super::plan::Plan;
use super::setting::{Kind, Range, Setting};
use super::value::Value;
use crate::route::{PARTITIONS_MAX, PARTITIONS_MIN};
use std::time::Duration;

/// Fields of a [`Plan`] that only code can set, and why no file can.
pub const CODE_ONLY: [(&str, &str); 5] = [
    ("classes", "a file has a [[class]] table for each"),
    ("reserved", "what handlers take is known to their code"),
    ("settled", "what a command settles for itself follows from where it starts"),
    ("clock", "a clock is an object; without one, the machine's is used"),
    ("first_sequence", "tests alone want to be near a wrap"),
];

const fn whole(from: u64, to: u64) -> Kind {
    Kind::Whole(Range::new(from, to))
}

const U32_MAX: u64 = u32::MAX as u64;

/// The largest event that a file may state, in bytes.
const EVENT_BYTES_MAX: u64 = 1 << 20;

/// The settings of an engine, in the order in which files have them.
pub const ENGINE: &[Setting<Plan>] = &[
    Setting {
        key: "profile",
        field: "profile",
        kind: Kind::OneOf(&["dev", "balanced", "latency", "throughput"]),
        unit: "",
        what: "the named set of settings from which all others start",
        trades: "dev and balanced sleep when idle; latency burns its CPUs; throughput takes long bursts",
        watch: "every figure below",
        needs: None,
        get: |plan| plan.profile.name().into(),
        set: |plan, value| plan.profile = Profile::named(value.word()).unwrap_or(plan.profile),
    },
    Setting {
        key: "shards",
        field: "shards",
        kind: whole(1, SHARDS_MAX as u64),
        unit: "",
        what: "shards, each with a thread, a handler and memory of its own",
        trades: "more handle more at once; each takes a CPU, and lanes for every producer and class",
        watch: "handled by shard, parks",
        needs: None,
        get: |plan| plan.shards.into(),
        set: |plan, value| plan.shards = value.whole(),
    },
    Setting {
        key: "overcommitted",
        field: "overcommitted",
        kind: Kind::Flag,
        unit: "",
        what: "whether shards may outnumber the CPUs that this process has",
        trades: "starts where there are too few CPUs; shards then take turns, and wait for milliseconds",
        watch: "queue wait p99, the placement's \"shared\"",
        needs: None,
        get: |plan| plan.overcommitted.into(),
        set: |plan, value| plan.overcommitted = value.is_on(),
    },
    Setting {
        key: "cpus",
        field: "cpus",
        kind: Kind::Cpus("chosen"),
        unit: "",
        what: "the CPUs of the shards, in turn; \"chosen\" takes them from the end of the process's mask",
        trades: "named CPUs can be kept free of everything else; they must exist",
        watch: "the report's placements, rejected pins",
        needs: None,
        get: |plan| plan.cpus.clone().map_or("chosen".into(), Value::Cpus),
        set: |plan, value| {
            plan.cpus = match value {
                Value::Cpus(cpus) => Some(cpus),
                _ => None,
            }
        },
    },
    Setting {
        key: "pinned",
        field: "pinned",
        kind: Kind::Flag,
        unit: "",
        what: "whether each shard's thread stays on its CPU",
        trades: "pinned keeps caches warm and waits short; unpinned lets the system balance",
        watch: "queue wait p99.9, the report's placements",
        needs: None,
        get: |plan| plan.pinned.into(),
        set: |plan, value| plan.pinned = value.is_on(),
    },
    Setting {
        key: "wait",
        field: "wait",
        kind: Kind::OneOf(&["spin", "yield", "park"]),
        unit: "",
        what: "what a shard does that has nothing to do",
        trades: "spin reacts first and burns a CPU; park costs nothing and tens of microseconds to wake up",
        watch: "queue wait p50, parks",
        needs: None,
        get: |plan| plan.wait.name().into(),
        set: |plan, value| plan.wait = value.word().parse().unwrap_or(plan.wait),
    },
    Setting {
        key: "burst_events",
        field: "burst",
        kind: whole(1, BURST_MAX as u64),
        unit: "events",
        what: "the most events of one class between two looks at the classes above it",
        trades: "short bursts let critical events in sooner; long ones cost fewer looks an event",
        watch: "queue wait p99 of strict classes",
        needs: None,
        get: |plan| plan.burst.into(),
        set: |plan, value| plan.burst = value.whole(),
    },
    Setting {
        key: "floor_bursts",
        field: "floor",
        kind: whole(1, U32_MAX),
        unit: "bursts",
        what: "bursts of higher classes in a row after which the lowest class is served one",
        trades: "few keep the lowest class moving; many keep it out of the way",
        watch: "queue wait max of the lowest class",
        needs: None,
        get: |plan| plan.floor.into(),
        set: |plan, value| plan.floor = value.whole(),
    },
    Setting {
        key: "handling_ns",
        field: "handling",
        kind: whole(1, 1_000_000_000),
        unit: "ns",
        what: "how long the handler takes for one event, as far as you know; the checks reckon with it",
        trades: "nothing: it changes no engine, only what is said of one",
        watch: "handling p50",
        needs: None,
        get: |plan| nanos(plan.handling).into(),
        set: |plan, value| plan.handling = Duration::from_nanos(value.whole()),
    },
    Setting {
        key: "producers_max",
        field: "producers_max",
        kind: whole(1, PRODUCERS_MAX as u64),
        unit: "",
        what: "producers attached at once",
        trades: "each has a lane for every shard and class, laid out at start",
        watch: "attach refused, memory",
        needs: None,
        get: |plan| plan.producers_max.into(),
        set: |plan, value| plan.producers_max = value.whole(),
    },
    Setting {
        key: "partitions",
        field: "partitions",
        kind: Kind::Whole(Range::new(PARTITIONS_MIN as u64, PARTITIONS_MAX as u64).power()),
        unit: "",
        what: "parts into which keys fall; each part belongs to one shard",
        trades: "more spread keys more evenly over shards; 2 bytes each",
        watch: "handled by shard",
        needs: None,
        get: |plan| plan.partitions.into(),
        set: |plan, value| plan.partitions = value.whole(),
    },
    Setting {
        key: "mesh",
        field: "mesh",
        kind: Kind::Flag,
        unit: "",
        what: "lanes from every shard to every shard, so that handlers can emit",
        trades: "emits without a producer; each shard gets as many lane sets more as there are shards",
        watch: "memory, accepted by producer",
        needs: None,
        get: |plan| plan.mesh.into(),
        set: |plan, value| plan.mesh = value.is_on(),
    },
    Setting {
        key: "retry_limit_ms",
        field: "retry_limit",
        kind: whole(0, u64::MAX),
        unit: "ms",
        what: "how long a handler may retry an event before it is failed(retry)",
        trades: "a long limit outlasts a slow shard; a short one lets the events after it go on",
        watch: "failed(retry), retried",
        needs: None,
        get: |plan| round_up(plan.retry_limit, 1_000_000).into(),
        set: |plan, value| plan.retry_limit = Duration::from_millis(value.whole()),
    },
    Setting {
        key: "on_panic",
        field: "on_panic",
        kind: Kind::OneOf(&["continue", "stop_shard"]),
        unit: "",
        what: "what a shard does after its handler panicked",
        trades: "continue costs that event alone; stop_shard keeps a damaged handler from going on",
        watch: "failed(panic), quarantine",
        needs: None,
        get: |plan| if plan.on_panic == OnPanic::Continue { "continue" } else { "stop_shard" }.into(),
        set: |plan, value| {
            plan.on_panic = if value.word() == "continue" { OnPanic::Continue } else { OnPanic::StopShard }
        },
    },
    Setting {
        key: "drop_deadline_ms",
        field: "drop_deadline",
        kind: whole(0, u64::MAX),
        unit: "ms",
        what: "how long an engine may drain that is dropped without a stop",
        trades: "long loses nothing; short ends sooner",
        watch: "in flight of the final report",
        needs: None,
        get: |plan| round_up(plan.drop_deadline, 1_000_000).into(),
        set: |plan, value| plan.drop_deadline = Duration::from_millis(value.whole()),
    },
    Setting {
        key: "thread_name",
        field: "thread_name",
        kind: Kind::Text("a name"),
        unit: "",
        what: "the name of the shards' threads; the shard's number follows it",
        trades: "Linux shows 15 bytes of it with the number",
        watch: "top -H, perf",
        needs: None,
        get: |plan| plan.thread_name.clone().into(),
        set: |plan, value| plan.thread_name = value.word().to_string(),
    },
    Setting {
        key: "announce",
        field: "announce",
        kind: Kind::Flag,
        unit: "",
        what: "whether a start says on standard error, in a few lines, what it starts",
        trades: "nobody can say later that they did not know; some lines in a log",
        watch: "standard error",
        needs: None,
        get: |plan| plan.announce.into(),
        set: |plan, value| plan.announce = value.is_on(),
    },
    Setting {
        key: "event_bytes",
        field: "event_bytes",
        kind: Kind::Whole(Range::new(0, EVENT_BYTES_MAX).or_word("code")),
        unit: "bytes",
        what: "the size of the event's type; \"code\" leaves it to the program that starts the engine",
        trades: "40 or less make one cache line a slot (32 with payloads); a start refuses another size",
        watch: "memory",
        needs: None,
        get: |plan| Value::or_word(plan.event_bytes, "code"),
        set: |plan, value| plan.event_bytes = value.number(),
    },
    Setting {
        key: "scratch_bytes",
        field: "scratch_bytes",
        kind: whole(0, SCRATCH_MAX as u64),
        unit: "bytes",
        what: "memory of each shard that its handler may use for the length of a batch",
        trades: "enough refuses nothing; it is laid out and touched at start",
        watch: "scratch refused",
        needs: None,
        get: |plan| plan.scratch_bytes.into(),
        set: |plan, value| plan.scratch_bytes = value.whole(),
    },
    Setting {
        key: "huge_pages",
        field: "huge_pages",
        kind: Kind::Flag,
        unit: "",
        what: "whether the system is asked for pages of 2 MiB for the inside of each shard's region",
        trades: "fewer misses in the CPU's page tables; 2 MiB more of addresses a shard, and they may not be granted",
        watch: "the report's huge_pages",
        needs: None,
        get: |plan| plan.huge_pages.into(),
        set: |plan, value| plan.huge_pages = value.is_on(),
    },
    Setting {
        key: "memory_max_bytes",
        field: "memory_max",
        kind: Kind::Whole(Range::new(1, u64::MAX).or_word("machine")),
        unit: "bytes",
        what: "what the footprint may come to; \"machine\" is what this process may take of it",
        trades: "a start above it is refused, before anything is taken",
        watch: "memory",
        needs: None,
        get: |plan| Value::or_word(plan.memory_max, "machine"),
        set: |plan, value| plan.memory_max = value.number(),
    },
];

/// A span in units of so many nanoseconds, rounded up; a file can hold no more than the largest `i64`.
pub(super) fn round_up(span: Duration, unit_ns: u128) -> u64 {
    u64::try_from(span.as_nanos().div_ceil(unit_ns)).map_or(i64::MAX as u64, |n| n.min(i64::MAX as u64))
}

fn nanos(span: Duration) -> u64 {
    round_up(span, 1)
}
