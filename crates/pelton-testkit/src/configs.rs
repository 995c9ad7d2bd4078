//! Made-up configurations: any value that a row of the tables allows, the same for the same seed.

use crate::dice::Dice;
use pelton::engine::{CLASS, ENGINE, Kind, Secret, Severity, Value};
use pelton::{Class, Plan, Profile};

/// A value that a row allows.
pub fn any_value(kind: Kind, dice: &mut Dice) -> Value {
    match kind {
        Kind::Flag => (dice.below(2) == 0).into(),
        Kind::Whole(range) => match (range.word, dice.below(4)) {
            (Some(word), 0) => word.into(),
            (_, 1) if range.zero => 0u64.into(),
            _ => {
                // Small numbers as often as large ones.
                let to = range.to.min(i64::MAX as u64);
                let most = 1u64 << dice.below(u64::from(to.ilog2()) + 1);
                let n = (dice.roll() % most).clamp(range.from, to);
                let n = if range.power { n.next_power_of_two().min(1 << to.ilog2()) } else { n };
                n.into()
            }
        },
        Kind::OneOf(words) => (*dice.pick(words)).into(),
        Kind::OneOfOr(words, prefix, _) => match dice.below(3) {
            0 => format!("{prefix}größer \\ \"kleiner\"").into(),
            _ => (*dice.pick(words)).into(),
        },
        Kind::Text(..) => (*dice.pick(&[
            "orders",
            "a \"quoted\" one",
            "wide\u{3000}and\u{a0}",
            "größer \\ kleiner",
            "#x",
            "x: y",
        ]))
        .into(),
        Kind::Cpus(word) if dice.below(3) == 0 => word.into(),
        Kind::Texts => {
            let texts = ["127.0.0.1:0", "[::1]:6380", "a \"quoted\" one", "größer \\ kleiner"];
            Value::Texts((0..dice.below(4)).map(|_| dice.pick(&texts).to_string()).collect())
        }
        Kind::Secret => (if dice.below(2) == 0 { Secret::default() } else { Secret::new("hush") }).into(),
        Kind::Cpus(_) => Value::Cpus((0..=dice.below(4)).map(|_| dice.index(64)).collect()),
    }
}

/// A plan that its own rules allow.
pub fn any_plan(profile: Profile, dice: &mut Dice) -> Plan {
    loop {
        let mut plan = Plan::new(profile);
        for row in ENGINE.iter().filter(|row| row.info.key != "profile") {
            if dice.below(2) == 0 {
                row.set(&mut plan, any_value(row.info.kind, dice));
            }
        }
        for at in 0..1 + dice.below(8) {
            let mut class = Class::strict(format!("class {at}"));
            for row in CLASS {
                if dice.below(2) == 0 {
                    row.set(&mut class, any_value(row.info.kind, dice));
                }
            }
            plan.class(class);
        }
        let findings = plan.findings(plan.event_layout(), None);
        if findings.iter().all(|finding| finding.severity != Severity::Error) {
            return plan;
        }
    }
}
