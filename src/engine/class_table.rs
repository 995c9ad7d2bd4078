//! The table of a class: every setting, a row each.
#![forbid(unsafe_code)]

use super::setting::{Kind, Range, Setting};
use super::table::round_up;
use super::value::Value;
use crate::class::{CAPACITY_MAX, Class, Overflow, PAYLOAD_BYTES_MAX, STAMP_ONE_IN_MAX, Share, Stamp};
use std::time::Duration;

/// The settings of a class, in the order in which files have them.
pub const CLASS: &[Setting<Class>] = &[
    Setting {
        key: "name",
        field: "name",
        kind: Kind::Text("a name"),
        unit: "",
        what: "the name of the class; no other has it",
        trades: "nothing",
        watch: "every figure of the class",
        needs: None,
        get: |class| class.name.clone().into(),
        set: |class, value| class.name = value.word().to_string(),
    },
    Setting {
        key: "share",
        field: "share",
        kind: Kind::OneOf(&["strict", "weighted"]),
        unit: "",
        what: "strict comes before all that is declared after it; weighted ones share what is left",
        trades: "strict waits for one burst at most; weighted waits for its turn and starves nobody",
        watch: "queue wait p99",
        needs: None,
        get: |class| if class.share == Share::Strict { "strict" } else { "weighted" }.into(),
        set: |class, value| {
            class.share = match (value.word(), class.share) {
                ("weighted", Share::Strict) => Share::Weighted(1),
                ("weighted", weighted) => weighted,
                _ => Share::Strict,
            }
        },
    },
    Setting {
        key: "weight",
        field: "share",
        kind: Kind::Whole(Range::new(1, 1_000).or_word("none")),
        unit: "",
        what: "its share of what strict classes leave, relative to the other weighted ones",
        trades: "a larger one gets longer turns; the others wait for them",
        watch: "queue wait p99, handled by class",
        needs: Some(("share", "weighted")),
        get: |class| match class.share {
            Share::Weighted(weight) => weight.into(),
            Share::Strict => "none".into(),
        },
        set: |class, value| {
            if let Share::Weighted(weight) = &mut class.share {
                *weight = value.number().unwrap_or(1);
            }
        },
    },
    Setting {
        key: "capacity_slots",
        field: "capacity",
        kind: Kind::Whole(Range::new(1, CAPACITY_MAX as u64).power()),
        unit: "slots",
        what: "slots of each lane: one for each producer, shard and class",
        trades: "many ride out a longer burst; all are laid out at start, and a full lane is a long wait",
        watch: "rejected(slots_full), in flight, queue wait max",
        needs: None,
        get: |class| class.capacity.into(),
        set: |class, value| class.capacity = value.whole(),
    },
    Setting {
        key: "payload_ring_bytes",
        field: "payload_bytes",
        kind: Kind::Whole(Range::new(64, PAYLOAD_BYTES_MAX as u64).power().or_zero()),
        unit: "bytes",
        what: "bytes of each lane's payload ring; 0 for none",
        trades: "as for slots; one payload takes half of it at most",
        watch: "rejected(bytes_full), rejected(too_large)",
        needs: None,
        get: |class| class.payload_bytes.into(),
        set: |class, value| class.payload_bytes = value.whole(),
    },
    Setting {
        key: "payload_max_bytes",
        field: "payload_max",
        kind: Kind::Whole(Range::new(1, PAYLOAD_BYTES_MAX as u64 / 2).or_word("half")),
        unit: "bytes",
        what: "the largest payload; \"half\" is half of the payload ring",
        trades: "a small one keeps one payload from taking the room of many",
        watch: "rejected(too_large)",
        needs: None,
        get: |class| Value::or_word(class.payload_max, "half"),
        set: |class, value| class.payload_max = value.number(),
    },
    Setting {
        key: "overflow",
        field: "overflow",
        kind: Kind::OneOf(&["block", "reject", "drop_newest"]),
        unit: "",
        what: "what happens when a lane is full",
        trades: "block loses nothing and holds its producer up; reject tells; drop_newest counts and goes on",
        watch: "rejected by reason, the producer's own time",
        needs: None,
        get: |class| {
            match class.overflow {
                Overflow::Block { .. } => "block",
                Overflow::Reject => "reject",
                Overflow::DropNewest => "drop_newest",
            }
            .into()
        },
        set: |class, value| {
            class.overflow = match (value.word(), class.overflow) {
                ("reject", _) => Overflow::Reject,
                ("drop_newest", _) => Overflow::DropNewest,
                (_, block @ Overflow::Block { .. }) => block,
                _ => Overflow::Block { limit: None },
            }
        },
    },
    Setting {
        key: "block_limit_us",
        field: "overflow",
        kind: Kind::Whole(Range::new(1, u64::MAX).or_word("none")),
        unit: "µs",
        what: "how long a producer waits for room before the event is rejected(timed_out)",
        trades: "none waits until there is room or the engine stops",
        watch: "rejected(timed_out)",
        needs: Some(("overflow", "block")),
        get: |class| match class.overflow {
            Overflow::Block { limit: Some(limit) } => round_up(limit, 1_000).into(),
            _ => "none".into(),
        },
        set: |class, value| {
            if let Overflow::Block { limit } = &mut class.overflow {
                *limit = value.number().map(Duration::from_micros);
            }
        },
    },
    Setting {
        key: "ttl_us",
        field: "ttl",
        kind: Kind::Whole(Range::new(1, u64::MAX).or_word("none")),
        unit: "µs",
        what: "the age at which an event is expired instead of handled",
        trades: "no time is spent on what is too old; every event of the class is stamped",
        watch: "expired, lateness",
        needs: None,
        get: |class| Value::or_word(class.ttl.map(|ttl| round_up(ttl, 1_000)), "none"),
        set: |class, value| class.ttl = value.number().map(Duration::from_micros),
    },
    Setting {
        key: "stamp_one_in",
        field: "stamp",
        kind: Kind::Whole(Range::new(1, STAMP_ONE_IN_MAX as u64).power().or_zero()),
        unit: "events",
        what: "one event in so many is measured: 1 is every one, 0 is none",
        trades: "each stamp reads the clock twice, some 20 to 40 ns; few leave rare latencies unseen",
        watch: "the \"measured\" of each histogram",
        needs: None,
        get: |class| {
            match class.stamp {
                Stamp::Every => 1u32,
                Stamp::OneIn(n) => n,
                Stamp::Never => 0,
            }
            .into()
        },
        set: |class, value| {
            class.stamp = match value.whole() {
                0 => Stamp::Never,
                1 => Stamp::Every,
                n => Stamp::OneIn(n),
            }
        },
    },
];
