//! What differs between two configurations in effect, however they are written, and what follows from it.
//!
//! # Mechanism
//! Settings are compared by what they come to: a default that is written out is no difference, nor is `"half"` beside the
//! half in bytes, nor are weights of the same ratio. Classes are the same where their names are.

use crate::settings::explain::{Explained, explain, worst_wait_ns};
use crate::settings::serialized;
use pelton::Class;
use pelton::class::Share;
use pelton::config::{Config, Origin, Scope, Table, classes};
use pelton::engine::{Plan, Value};
use pelton::lane::slot_bytes;
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
    #[serde(serialize_with = "serialized::value")]
    pub value: Value,
    /// Where it came from.
    #[serde(serialize_with = "serialized::origin")]
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
    #[serde(serialize_with = "serialized::value")]
    pub before: Value,
    /// In the second.
    #[serde(serialize_with = "serialized::value")]
    pub after: Value,
}

impl Diff {
    /// What differs between two configurations, each with its tables.
    pub fn between(
        before: (&Config, &[&dyn Table]),
        after: (&Config, &[&dyn Table]),
        scope: Scope<'_>,
    ) -> Self {
        let plans = [before.0.plan(), after.0.plan()];
        let rows =
            [before, after].map(|(config, tables)| explain(config.plan(), config.origins(), tables, scope));
        let [(items, first_of_before), (others, first_of_after)] =
            [items(plans[0], before.1), items(plans[1], after.1)];
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
fn items(plan: &Plan, tables: &[&dyn Table]) -> (Vec<String>, BTreeSet<String>) {
    let classes = classes(plan.classes().to_vec());
    let lists = [&classes as &dyn Table].into_iter().chain(tables.iter().copied());
    let (mut items, mut defaults) = (Vec::new(), BTreeSet::new());
    for list in lists.filter(|table| table.list_spec().is_some()) {
        for item in 0..list.count() {
            let first = |row: &usize| list.default_value(*row) == Some(list.get(item, *row));
            let rows = 0..list.rows().len();
            defaults.extend(rows.filter(first).map(|row| list.setting(item, row)));
            items.push(list.owner(item));
        }
    }
    (items, defaults)
}

fn find<'a>(rows: &'a [Explained], setting: &str) -> Option<&'a Explained> {
    rows.iter().find(|row| row.setting == setting)
}

/// What a value comes to: equal where two plans do the same.
fn effect(row: &Explained, plan: &Plan) -> Value {
    let class = || match row.table() {
        ("class", Some(name)) => plan.classes().iter().find(|class| class.name() == name),
        _ => None,
    };
    match row.info.key {
        "payload_max_bytes" => class().map_or(row.value.clone(), |class| {
            class.payload_max().unwrap_or(class.payload_bytes() / 2).into()
        }),
        "weight" => {
            let weights = plan.classes().iter().filter_map(|class| class.share().weight());
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
        plan.classes().iter().partition(|class| class.share() == Share::Strict);
    strict.into_iter().chain(weighted).map(Class::name).collect::<Vec<_>>().join(", ").into()
}

fn follows(plans: [&Plan; 2], scope: Scope<'_>) -> Vec<DerivedFigure> {
    let footprints = plans.map(|plan| plan.footprint_of(scope.event_of(plan)));
    let none = || Value::from("none");
    let mut all = Vec::new();
    let mut tell = |what: String, unit, [before, after]: [Value; 2]| {
        if before != after {
            all.push(DerivedFigure { what, unit, before, after });
        }
    };
    tell("classes in the order in which they are served".into(), "", plans.map(order));
    let wait = plans.map(|plan| worst_wait_ns(plan).into());
    tell("longest wait of a strict class for a burst of another".into(), "ns", wait);
    tell("footprint".into(), "bytes", [0, 1].map(|at| footprints[at].total_bytes().into()));
    let classes: BTreeSet<&str> =
        plans.iter().flat_map(|plan| plan.classes()).map(|class| class.name()).collect();
    for class in classes {
        let part = |at: usize| match footprints[at].class_bytes(class) {
            0 => none(),
            bytes => bytes.into(),
        };
        tell(format!("footprint of class '{class}'"), "bytes", [0, 1].map(part));
        let slot = |plan: &Plan| {
            let class = plan.classes().iter().find(|own| own.name() == class);
            class.map_or_else(none, |class| slot_bytes(class, scope.event_of(plan)).into())
        };
        tell(format!("slot of class '{class}'"), "bytes", plans.map(slot));
    }
    all
}
