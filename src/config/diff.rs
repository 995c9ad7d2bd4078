//! What differs between two configurations in effect, however they are written, and what follows from it.
//!
//! # Mechanism
//! Settings are compared by what they come to: a default that is written out is no difference, nor is `"half"` beside the
//! half in bytes, nor are weights of the same ratio. Classes are the same where their names are.

use super::budget::Memory;
use super::explain::{Explained, worst_wait};
use super::layers::{Config, Scope};
use super::origin::Origin;
use super::table::{Table, classes, owner};
use crate::class::{Class, Share};
use crate::engine::{Plan, Value};
use serde::Serialize;
use std::collections::BTreeSet;

/// What differs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Diff {
    /// Settings with different values; those of a class (or of another item of a list) that only one of both has, as far as
    /// they are not as it has them at first.
    pub settings: Vec<Change>,
    /// Classes, and items of other lists, that only the second has: `class 'bulk'`.
    pub added: Vec<String>,
    /// Those that only the first has.
    pub removed: Vec<String>,
    /// Figures that are others because of it.
    pub follows: Vec<DerivedFigure>,
}

/// A setting with two values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Its name among all.
    pub setting: String,
    /// Its unit; empty where it has none.
    pub unit: &'static str,
    /// In the first; `None` where that has no such class.
    pub before: Option<Side>,
    /// In the second.
    pub after: Option<Side>,
}

/// A value, and where it came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Side {
    /// The value.
    pub value: Value,
    /// Where it came from.
    pub origin: Origin,
}

/// A figure that follows from settings, and is another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DerivedFigure {
    /// What it is the figure of.
    pub what: String,
    /// Its unit; empty where it has none.
    pub unit: &'static str,
    /// In the first; `"none"` where there is none.
    pub before: Value,
    /// In the second.
    pub after: Value,
}

impl Diff {
    /// What differs between two configurations, each with its tables.
    pub fn between(
        before: (&Config, &[&mut dyn Table]),
        after: (&Config, &[&mut dyn Table]),
        scope: Scope<'_>,
    ) -> Self {
        let plans = [before.0.plan(), after.0.plan()];
        let rows = [before.0.explain(before.1, scope), after.0.explain(after.1, scope)];
        let [(items, first_of_before), (others, first_of_after)] = [items(&before), items(&after)];
        let only = |of: &[String], other: &[String]| {
            of.iter().filter(|item| !other.contains(item)).cloned().collect::<Vec<_>>()
        };
        let mut settings = Vec::new();
        let all = rows[0].iter().chain(rows[1].iter().filter(|row| find(&rows[0], &row.setting).is_none()));
        for row in all {
            let sides = [0, 1].map(|at| find(&rows[at], &row.setting));
            let differ = match sides {
                [Some(a), Some(b)] => effect(a, plans[0]) != effect(b, plans[1]),
                // Of a class that is new, what every class has at first tells nothing.
                [Some(row), _] => !first_of_before.contains(&row.setting),
                _ => !first_of_after.contains(&row.setting),
            };
            if differ {
                let side = |row: &Explained| Side { value: row.value.clone(), origin: row.origin.clone() };
                let [before, after] = sides.map(|row| row.map(side));
                settings.push(Change { setting: row.setting.clone(), unit: row.info.unit, before, after });
            }
        }
        Diff {
            settings,
            added: only(&others, &items),
            removed: only(&items, &others),
            follows: follows(plans, scope),
        }
    }

    /// Whether both have the same effect.
    pub fn is_empty(&self) -> bool {
        self.settings.is_empty()
            && self.added.is_empty()
            && self.removed.is_empty()
            && self.follows.is_empty()
    }
}

/// The items of all lists, and the names of those of their settings that are as every such item has them at first.
fn items((config, tables): &(&Config, &[&mut dyn Table])) -> (Vec<String>, BTreeSet<String>) {
    let classes = classes(config.plan().classes.clone());
    let lists =
        std::iter::once(&classes as &dyn Table).chain(tables.iter().map(|table| &**table as &dyn Table));
    let (mut items, mut defaults) = (Vec::new(), BTreeSet::new());
    for list in lists.filter(|table| table.list_spec().is_some()) {
        for item in 0..list.count() {
            let owner = owner(list, item);
            let first = |row: &usize| list.default_value(*row) == Some(list.get(item, *row));
            let rows = list.rows();
            defaults.extend((0..rows.len()).filter(first).map(|row| format!("{owner}: {}", rows[row].key)));
            items.push(owner);
        }
    }
    (items, defaults)
}

fn find<'a>(rows: &'a [Explained], setting: &str) -> Option<&'a Explained> {
    rows.iter().find(|row| row.setting == setting)
}

/// What a value comes to: equal where two plans do the same.
fn effect(row: &Explained, plan: &Plan) -> Value {
    let class = || {
        plan.classes().iter().find(|class| {
            row.setting.strip_suffix(row.info.key) == Some(&format!("class '{}': ", class.name()))
        })
    };
    match row.info.key {
        "payload_max_bytes" => class()
            .map_or(row.value.clone(), |class| class.payload_max.unwrap_or(class.payload_bytes / 2).into()),
        "weight" => {
            let weights = plan.classes().iter().filter_map(|class| match class.share {
                Share::Strict => None,
                Share::Weighted(weight) => Some(weight),
            });
            let (own, smallest) = (row.value.number::<u32>(), weights.min().unwrap_or(1).max(1));
            own.map_or("none".into(), |own| {
                let common = gcd(own, smallest).max(1);
                format!("{}/{}", own / common, smallest / common).into()
            })
        }
        _ => row.value.clone(),
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The classes in the order in which they are served.
fn order(plan: &Plan) -> Value {
    let (strict, weighted): (Vec<_>, Vec<_>) =
        plan.classes().iter().partition(|class| class.share == Share::Strict);
    strict.into_iter().chain(weighted).map(Class::name).collect::<Vec<_>>().join(", ").into()
}

fn follows(plans: [&Plan; 2], scope: Scope<'_>) -> Vec<DerivedFigure> {
    let memory = plans.map(|plan| Memory::of(plan, scope));
    let none = || Value::from("none");
    let mut all = Vec::new();
    let mut tell = |what: String, unit, [before, after]: [Value; 2]| {
        if before != after {
            all.push(DerivedFigure { what, unit, before, after });
        }
    };
    tell("classes in the order in which they are served".into(), "", plans.map(order));
    let wait = plans.map(|plan| u64::try_from(worst_wait(plan).as_nanos()).unwrap_or(u64::MAX).into());
    tell("longest wait of a strict class for a burst of another".into(), "ns", wait);
    tell("footprint".into(), "bytes", [0, 1].map(|at| memory[at].total_bytes.into()));
    let classes: BTreeSet<&str> =
        memory.iter().flat_map(|memory| &memory.slots).map(|slot| slot.class.as_str()).collect();
    for class in classes {
        let part = |memory: &Memory| match memory.class_bytes(class) {
            0 => none(),
            bytes => bytes.into(),
        };
        tell(format!("footprint of class '{class}'"), "bytes", [part(&memory[0]), part(&memory[1])]);
        let slot = |memory: &Memory| {
            let slot = memory.slots.iter().find(|slot| slot.class == class);
            slot.map_or_else(none, |slot| slot.slot_bytes.into())
        };
        tell(format!("slot of class '{class}'"), "bytes", [slot(&memory[0]), slot(&memory[1])]);
    }
    all
}
