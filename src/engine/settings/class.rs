//! The table of a class: every setting, a row each.

use super::field::SettingField;
use super::kind::Kind;
use super::schema::settings;
use crate::class::{CAPACITY_MAX, Class, Overflow, PAYLOAD_BYTES_MAX, STAMP_ONE_IN_MAX, Share, Stamp};

settings! {
    /// The settings of a class, in the order in which files have them.
    pub const CLASS: Class {
        name: name = Kind::text("a name"),
            what: "the name of the class; no other has it",
            trades: "nothing",
            watch: "every figure of the class";
        share: share = Kind::OneOf(&["strict", "weighted"]),
            what: "strict comes before all that is declared after it; weighted ones share what is left",
            trades: "strict waits for one burst at most; weighted waits for its turn and starves nobody",
            watch: "queue wait p99",
            get: |class, _| if class.share == Share::Strict { "strict" } else { "weighted" }.into(),
            set: |class, value, _| {
                class.share = match (value.word(), class.share) {
                    ("weighted", Share::Strict) => Share::Weighted(1),
                    ("weighted", weighted) => weighted,
                    _ => Share::Strict,
                }
            };
        weight: (share) = Kind::whole(1, 1_000).or_word("none"), needs: share = "weighted",
            what: "its share of what strict classes leave, relative to the other weighted ones",
            trades: "a larger one gets longer turns; the others wait for them",
            watch: "queue wait p99, handled by class",
            get: |class, _| match class.share {
                Share::Weighted(weight) => weight.into(),
                Share::Strict => "none".into(),
            },
            set: |class, value, _| {
                if let Share::Weighted(weight) = &mut class.share {
                    *weight = value.number().unwrap_or(1);
                }
            };
        capacity_slots: capacity = Kind::whole(1, CAPACITY_MAX as u64).power(), unit: "slots",
            what: "slots of each lane: one for each producer, shard and class",
            trades: "many ride out a longer burst; all are laid out at start, and a full lane is a long wait",
            watch: "rejected(slots_full), in flight, queue wait max";
        payload_ring_bytes: payload_bytes = Kind::whole(64, PAYLOAD_BYTES_MAX as u64).power().or_zero(), unit: "bytes",
            what: "bytes of each lane's payload ring; 0 for none",
            trades: "as for slots; one payload takes half of it at most",
            watch: "rejected(bytes_full), rejected(too_large)";
        payload_max_bytes: payload_max = Kind::whole(1, PAYLOAD_BYTES_MAX as u64 / 2).or_word("half"), unit: "bytes",
            what: "the largest payload; \"half\" is half of the payload ring",
            trades: "a small one keeps one payload from taking the room of many",
            watch: "rejected(too_large)";
        overflow: overflow = Kind::OneOf(&["block", "reject", "drop_newest"]),
            what: "what happens when a lane is full",
            trades: "block loses nothing and holds its producer up; reject tells; drop_newest counts and goes on",
            watch: "rejected by reason, the producer's own time",
            get: |class, _| {
                match class.overflow {
                    Overflow::Block { .. } => "block",
                    Overflow::Reject => "reject",
                    Overflow::DropNewest => "drop_newest",
                }
                .into()
            },
            set: |class, value, _| {
                class.overflow = match (value.word(), class.overflow) {
                    ("reject", _) => Overflow::Reject,
                    ("drop_newest", _) => Overflow::DropNewest,
                    (_, block @ Overflow::Block { .. }) => block,
                    _ => Overflow::Block { limit: None },
                }
            };
        block_limit_us: (overflow) = Kind::whole(1, u64::MAX).or_word("none"), unit: "µs", needs: overflow = "block",
            what: "how long a producer waits for room before the event is rejected(timed_out)",
            trades: "none waits until there is room or the engine stops",
            watch: "rejected(timed_out)",
            get: |class, info| match class.overflow {
                Overflow::Block { limit } => limit.to_value(info),
                _ => "none".into(),
            },
            set: |class, value, info| {
                if let Overflow::Block { limit } = &mut class.overflow {
                    *limit = SettingField::from_value(value, info).unwrap_or(*limit);
                }
            };
        ttl_us: ttl = Kind::whole(1, u64::MAX).or_word("none"), unit: "µs",
            what: "the age at which an event is expired instead of handled",
            trades: "no time is spent on what is too old; every event of the class is stamped",
            watch: "expired, lateness";
        stamp_one_in: stamp = Kind::whole(1, STAMP_ONE_IN_MAX as u64).power().or_zero(), unit: "events",
            what: "one event in so many is measured: 1 is every one, 0 is none",
            trades: "each stamp reads the clock twice, some 20 to 40 ns; few leave rare latencies unseen",
            watch: "the \"measured\" of each histogram",
            get: |class, _| {
                match class.stamp {
                    Stamp::Every => 1u32,
                    Stamp::OneIn(n) => n,
                    Stamp::Never => 0,
                }
                .into()
            },
            set: |class, value, _| {
                class.stamp = match value.whole() {
                    0 => Stamp::Never,
                    1 => Stamp::Every,
                    n => Stamp::OneIn(n),
                }
            };
    }
}
