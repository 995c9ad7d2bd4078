//! The table of an engine: every setting, a row each.

use super::kind::Kind;
use super::schema::settings;
use crate::engine::plan::Plan;
use crate::route::{PARTITIONS_MAX, PARTITIONS_MIN};

/// The largest number of shards.
pub const SHARDS_MAX: u16 = 256;
/// The largest number of producers attached at once.
pub const PRODUCERS_MAX: u16 = 256;
/// The largest burst, in events.
pub const BURST_MAX: u32 = 1 << 16;
/// The largest scratch arena of a shard, in bytes.
pub const SCRATCH_MAX: u32 = 1 << 30;

/// The largest event that a file may state, in bytes.
const EVENT_BYTES_MAX: u64 = 1 << 20;

settings! {
    /// The settings of an engine, in the order in which files have them.
    pub const ENGINE: Plan {
        profile: profile = Kind::OneOf(&["dev", "balanced", "latency", "throughput"]),
            what: "the named set of settings from which all others start",
            trades: "dev and balanced sleep when idle; latency burns its CPUs; throughput takes long bursts",
            watch: "every figure below";
        shards: shards = Kind::whole(1, SHARDS_MAX as u64),
            what: "shards, each with a thread, a handler and memory of its own",
            trades: "more handle more at once; each takes a CPU, and lanes for every producer and class",
            watch: "handled by shard, parks";
        overcommitted: overcommitted = Kind::Flag,
            what: "whether shards may outnumber the CPUs that this process has",
            trades: "starts where there are too few CPUs; shards then take turns, and wait for milliseconds",
            watch: "queue wait p99, the placement's \"shared\"";
        cpus: cpus = Kind::Cpus("chosen"),
            what: "the CPUs of the shards, in turn; \"chosen\" takes them from the end of the process's mask",
            trades: "named CPUs can be kept free of everything else; they must exist",
            watch: "the report's placements, rejected pins";
        pinned: pinned = Kind::Flag,
            what: "whether each shard's thread stays on its CPU",
            trades: "pinned keeps caches warm and waits short; unpinned lets the system balance",
            watch: "queue wait p99.9, the report's placements";
        wait: wait = Kind::OneOf(&["spin", "yield", "park"]),
            what: "what a shard does that has nothing to do",
            trades: "spin reacts first and burns a CPU; park costs nothing and tens of microseconds to wake up",
            watch: "queue wait p50, parks";
        burst_events: burst = Kind::whole(1, BURST_MAX as u64), unit: "events",
            what: "the most events of one class between two looks at the classes above it",
            trades: "short bursts let critical events in sooner; long ones cost fewer looks an event",
            watch: "queue wait p99 of strict classes";
        floor_bursts: floor = Kind::whole(1, u32::MAX as u64), unit: "bursts",
            what: "bursts of higher classes in a row after which the lowest class is served one",
            trades: "few keep the lowest class moving; many keep it out of the way",
            watch: "queue wait max of the lowest class";
        handling_ns: handling = Kind::whole(1, 1_000_000_000), unit: "ns",
            what: "how long the handler takes for one event, as far as you know; the checks reckon with it",
            trades: "nothing: it changes no engine, only what is said of one",
            watch: "handling p50";
        producers_max: producers_max = Kind::whole(1, PRODUCERS_MAX as u64),
            what: "producers attached at once",
            trades: "each has a lane for every shard and class, laid out at start",
            watch: "attach refused, memory";
        partitions: partitions = Kind::whole(PARTITIONS_MIN as u64, PARTITIONS_MAX as u64).power(),
            what: "parts into which keys fall; each part belongs to one shard",
            trades: "more spread keys more evenly over shards; 2 bytes each",
            watch: "handled by shard";
        mesh: mesh = Kind::Flag,
            what: "lanes from every shard to every shard, so that handlers can emit",
            trades: "emits without a producer; each shard gets as many lane sets more as there are shards",
            watch: "memory, accepted by producer";
        retry_limit_ms: retry_limit = Kind::whole(0, u64::MAX), unit: "ms",
            what: "how long a handler may retry an event before it is failed(retry)",
            trades: "a long limit outlasts a slow shard; a short one lets the events after it go on",
            watch: "failed(retry), retried";
        on_panic: on_panic = Kind::OneOf(&["continue", "stop_shard"]),
            what: "what a shard does after its handler panicked",
            trades: "continue costs that event alone; stop_shard keeps a damaged handler from going on",
            watch: "failed(panic), quarantine";
        drop_deadline_ms: drop_deadline = Kind::whole(0, u64::MAX), unit: "ms",
            what: "how long an engine may drain that is dropped without a stop",
            trades: "long loses nothing; short ends sooner",
            watch: "in flight of the final report";
        thread_name: thread_name = Kind::text("a name"),
            what: "the name of the shards' threads; the shard's number follows it",
            trades: "Linux shows 15 bytes of it with the number",
            watch: "top -H, perf";
        announce: announce = Kind::Flag,
            what: "whether a start says on standard error, in a few lines, what it starts",
            trades: "nobody can say later that they did not know; some lines in a log",
            watch: "standard error";
        event_bytes: event_bytes = Kind::whole(0, EVENT_BYTES_MAX).or_word("code"), unit: "bytes",
            what: "the size of the event's type; \"code\" leaves it to the program that starts the engine",
            trades: "40 or less make one cache line a slot (32 with payloads); a start refuses another size",
            watch: "memory";
        scratch_bytes: scratch_bytes = Kind::whole(0, SCRATCH_MAX as u64), unit: "bytes",
            what: "memory of each shard that its handler may use for the length of a batch",
            trades: "enough refuses nothing; it is laid out and touched at start",
            watch: "scratch refused";
        huge_pages: huge_pages = Kind::Flag,
            what: "whether the system is asked for pages of 2 MiB for the inside of each shard's region",
            trades: "fewer misses in the CPU's page tables; 2 MiB more of addresses a shard, and they may not be granted",
            watch: "the report's huge_pages";
        memory_max_bytes: memory_max = Kind::whole(1, u64::MAX).or_word("machine"), unit: "bytes",
            what: "what the footprint may come to; \"machine\" is what this process may take of it",
            trades: "a start above it is refused, before anything is taken",
            watch: "memory";
    }
    code_only CODE_ONLY {
        classes: "a file has a [[class]] table for each",
        reserved: "what handlers take is known to their code",
        settled: "what a command settles for itself follows from where it starts",
        clock: "a clock is an object; without one, the machine's is used",
        first_sequence: "tests alone want to be near a wrap",
    }
}
