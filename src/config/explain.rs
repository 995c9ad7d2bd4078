//! The explanation: every setting in effect, where it came from, what it comes to, and what it costs.
//!
//! # Mechanism
//! Everything said of a setting is from its row, its value, and the plan: there is no second list. What it costs is found
//! by trying: the footprint as it is, less the footprint with this one setting at the least that it can be (its range's
//! least, `false`, or the word that stands for none, whichever takes less). So the shards' cost is that of all beyond the
//! first, and the costs of all settings are no parts of a sum: lanes are slots times producers times shards, and each of
//! the three is charged with the product. The sum is told by [`Memory`](super::Memory).

use super::collect::nearest;
use super::layers::{Config, Scope};
use super::origin::{Origin, Origins};
use super::table::{Table, owner};
use crate::class::{Class, Share};
use crate::engine::{CLASS, ENGINE, Kind, Plan, Setting, SettingInfo, Value};
use crate::host::list;
use crate::lane::shape_of;
use crate::words::{bytes, count, many, nanos};
use serde::ser::{SerializeMap, SerializeStruct};
use serde::{Serialize, Serializer};
use std::alloc::Layout;
use std::time::Duration;

/// A setting in effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// Its row.
    pub info: &'static SettingInfo,
    /// Its name among all: `burst_events`, `class 'bulk': ttl_us`, `replay: loop`.
    pub setting: String,
    /// Its value, in its unit.
    pub value: Value,
    /// What the value comes to beside the others, with the arithmetic; `None` where it says all there is to say.
    pub comes_to: Option<String>,
    /// Where it came from.
    pub origin: Origin,
    /// Bytes of the footprint that are there because it is not the least that it can be.
    pub cost_bytes: u64,
}

/// As one object, with the texts of the row.
impl Serialize for Explained {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let SettingInfo { key, kind, unit, what, trades, watch, .. } = self.info;
        let mut object = to.serialize_struct("Explained", 11)?;
        object.serialize_field("setting", &self.setting)?;
        object.serialize_field("key", key)?;
        object.serialize_field("value", &self.value)?;
        object.serialize_field("unit", unit)?;
        object.serialize_field("comes_to", &self.comes_to)?;
        object.serialize_field("origin", &self.origin)?;
        object.serialize_field("cost_bytes", &self.cost_bytes)?;
        object.serialize_field("may_be", &kind.to_string())?;
        object.serialize_field("what", what)?;
        object.serialize_field("trades", trades)?;
        object.serialize_field("watch", watch)?;
        object.end()
    }
}

/// As its type.
impl Serialize for Value {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Flag(flag) => flag.serialize(to),
            Value::Whole(n) => n.serialize(to),
            Value::Word(word) => word.serialize(to),
            Value::Cpus(cpus) => cpus.serialize(to),
            Value::Texts(texts) => texts.serialize(to),
            Value::Secret(secret) => secret.to_string().serialize(to),
        }
    }
}

/// As an object: what it is, and where.
impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        let (from, more) = match self {
            Origin::Profile(profile) => ("profile", Some(("name", profile.name()))),
            Origin::Command(why) => ("command", Some(("why", why.as_str()))),
            Origin::File { name, .. } => ("file", Some(("name", name.as_str()))),
            Origin::Environment(name) => ("environment", Some(("name", name.as_str()))),
            Origin::Option(name) => ("option", Some(("name", name.as_str()))),
            Origin::Start => ("start", None),
            Origin::Code => ("code", None),
        };
        map.serialize_entry("from", from)?;
        if let Some((key, text)) = more {
            map.serialize_entry(key, text)?;
        }
        if let Origin::File { line, column, .. } = self {
            map.serialize_entry("line", line)?;
            map.serialize_entry("column", column)?;
        }
        map.end()
    }
}

impl Config {
    /// Every setting in effect: the engine's, those of each class, and those of a program's own tables.
    pub fn explain(&self, tables: &[&mut dyn Table], scope: Scope<'_>) -> Vec<Explained> {
        explain(self.plan(), self.origins(), tables, scope)
    }
}

/// Explains a plan. What no origin is known of is as the profile (a class, a table) has it at first, or came from code.
pub fn explain(
    plan: &Plan,
    origins: &Origins,
    tables: &[&mut dyn Table],
    scope: Scope<'_>,
) -> Vec<Explained> {
    let mut all = Vec::new();
    let start = Plan::new(plan.profile());
    let from = |setting: &str, is_start: bool, start: Origin| match origins.of(setting) {
        Some(origin) => origin.clone(),
        None if is_start => start,
        None => Origin::Code,
    };
    for row in ENGINE {
        let (key, value) = (row.info.key, row.get(plan));
        let as_profile = value == row.get(&start) || key == "profile";
        all.push(Explained {
            info: &row.info,
            setting: key.to_string(),
            comes_to: engine_comes_to(key, plan, scope),
            origin: from(key, as_profile, Origin::Profile(plan.profile())),
            cost_bytes: cost_of(row, plan, plan, scope, |to, row, value| row.set(to, value)),
            value,
        });
    }
    for (at, class) in plan.classes().iter().enumerate() {
        let start = match class.share {
            Share::Strict => Class::strict(""),
            Share::Weighted(_) => Class::weighted("", 1),
        };
        for row in CLASS {
            let (key, value) = (row.info.key, row.get(class));
            let setting = format!("class '{}': {key}", class.name());
            all.push(Explained {
                info: &row.info,
                comes_to: class_comes_to(key, plan, class, scope),
                origin: from(&setting, value == row.get(&start), Origin::Start),
                cost_bytes: cost_of(row, plan, class, scope, |to: &mut Plan, row, value| {
                    row.set(&mut to.classes[at], value);
                }),
                setting,
                value,
            });
        }
    }
    for table in tables {
        for item in 0..table.count() {
            let owner = owner(*table, item);
            for (at, info) in table.rows().into_iter().enumerate() {
                let setting = format!("{owner}: {}", info.key);
                let value = table.get(item, at);
                let is_default = table.default_value(at).is_none_or(|default| default == value);
                let origin = from(&setting, is_default, Origin::Start);
                all.push(Explained { info, setting, value, comes_to: None, origin, cost_bytes: 0 });
            }
        }
    }
    all
}

/// Finds the settings of a name: in full (`class 'bulk': ttl_us`), behind that of its class or table (`bulk.ttl_us`), or the
/// key alone, which may be that of several.
///
/// # Errors
/// The setting that was probably meant, where none has this name.
pub fn find_by_name<'a>(all: &'a [Explained], name: &str) -> Result<Vec<&'a Explained>, Option<&'a str>> {
    let has_name = |row: &&Explained| {
        let key = row.info.key;
        let owner = row.setting.strip_suffix(key).map(|owner| owner.trim_end_matches(": "));
        // Of an item of a list its name alone is enough.
        let owner = owner.map(|owner| match owner.split_once(" '") {
            Some((_, item)) => item.strip_suffix('\'').unwrap_or(item),
            None => owner,
        });
        row.setting == name || key == name || owner.is_some_and(|owner| format!("{owner}.{key}") == name)
    };
    let found: Vec<_> = all.iter().filter(has_name).collect();
    let key = name.rsplit('.').next().unwrap_or(name);
    if found.is_empty() { Err(nearest(key, all.iter().map(|row| row.info.key))) } else { Ok(found) }
}

/// The layout that the footprint is reckoned with.
pub(super) fn event_of(plan: &Plan, scope: Scope<'_>) -> Layout {
    scope.event.unwrap_or_else(|| plan.event_layout())
}

/// Bytes that are there because a setting is not the least that its kind lets it be. `total` is the footprint with another
/// value in its place, or as it is; `None` where the setting cannot have that one here.
pub fn cost(kind: Kind, now: &Value, total: impl Fn(Option<Value>) -> Option<u64>) -> u64 {
    let least: Vec<Value> = match kind {
        Kind::Flag => vec![false.into()],
        Kind::Whole(range) => {
            let number = if range.zero { 0 } else { range.from };
            [Some(number.into()), range.word.map(Value::from)].into_iter().flatten().collect()
        }
        _ => return 0,
    };
    let tried = least.into_iter().filter(|value| value != now).filter_map(|value| total(Some(value)));
    let least = tried.min();
    least.zip(total(None)).map_or(0, |(least, now)| now.saturating_sub(least))
}

fn cost_of<T>(
    row: &Setting<T>,
    plan: &Plan,
    of: &T,
    scope: Scope<'_>,
    set: impl Fn(&mut Plan, &Setting<T>, Value),
) -> u64 {
    cost(row.info.kind, &row.get(of), |value| {
        let mut plan = plan.clone();
        value.into_iter().for_each(|value| set(&mut plan, row, value));
        Some(plan.footprint_of(event_of(&plan, scope)).total_bytes())
    })
}

/// What a setting of the engine comes to, with the arithmetic.
fn engine_comes_to(key: &str, plan: &Plan, scope: Scope<'_>) -> Option<String> {
    let (handling_ns, burst) = (plan.handling.as_nanos(), u64::from(plan.burst));
    let takes = |events: u64| nanos(u64::try_from(handling_ns * u128::from(events)).unwrap_or(u64::MAX));
    let at = format!("handling_ns {}", count(u64::try_from(handling_ns).unwrap_or(u64::MAX)));
    let lanes = || {
        let (sets, shards, classes) =
            (u64::from(plan.sets()), u64::from(plan.shards), plan.classes().len() as u64);
        format!(
            "{} x {} x {} = {}",
            many(sets, "lane set"),
            many(shards, "shard"),
            many(classes, "class"),
            many(sets.saturating_mul(shards).saturating_mul(classes), "lane"),
        )
    };
    Some(match key {
        "profile" => plan.profile().purpose().to_string(),
        "shards" | "producers_max" | "mesh" => lanes(),
        "cpus" => return cpus_come_to(plan, scope),
        "burst_events" => {
            format!(
                "{} x {at} = {}, the longest that a strict class waits for a lower one",
                count(burst),
                takes(burst)
            )
        }
        "floor_bursts" => {
            let events = burst.saturating_mul(plan.floor.into());
            format!(
                "{} x burst_events {} x {at} = {}, the longest that the lowest class is passed over",
                count(plan.floor.into()),
                count(burst),
                takes(events)
            )
        }
        "handling_ns" => {
            let per_s = (1_000_000_000 / handling_ns.max(1)) as u64;
            format!(
                "1 s / {} = at most {} a second and shard",
                nanos(handling_ns as u64),
                many(per_s, "event")
            )
        }
        "partitions" => format!(
            "{} / {} = {} a shard",
            count(plan.partitions.into()),
            many(plan.shards.into(), "shard"),
            count(u64::from(plan.partitions) / u64::from(plan.shards.max(1)))
        ),
        "thread_name" => format!("the first thread is {}-0", plan.thread_name.escape_debug()),
        "event_bytes" => return event_bytes_come_to(plan, scope),
        "scratch_bytes" => {
            format!("{} x {}", bytes(plan.scratch_bytes.into()), many(plan.shards.into(), "shard"))
        }
        "memory_max_bytes" => memory_max_comes_to(plan, scope),
        _ => return None,
    })
}

fn cpus_come_to(plan: &Plan, scope: Scope<'_>) -> Option<String> {
    if !plan.pinned {
        return Some("none, as shards are not pinned".into());
    }
    if plan.cpus.is_some() {
        return None;
    }
    Some(match scope.host {
        Some(host) if !host.cpus.is_empty() => {
            let taken: Vec<_> = host.cpus.iter().rev().take(plan.shards.into()).copied().collect();
            format!("CPUs {}, from the end of this process's mask, {}", list(&taken), list(&host.cpus))
        }
        _ => "as the machine has them, from the end of the process's mask".into(),
    })
}

fn event_bytes_come_to(plan: &Plan, scope: Scope<'_>) -> Option<String> {
    let whose = match (plan.event_bytes, scope.event) {
        (_, Some(_)) => "as this command has it",
        (None, None) => "reckoned with until the type is known",
        (Some(_), None) => return None,
    };
    Some(format!("{}, {whose}", many(event_of(plan, scope).size() as u64, "byte")))
}

fn memory_max_comes_to(plan: &Plan, scope: Scope<'_>) -> String {
    let total = bytes(plan.footprint_of(event_of(plan, scope)).total_bytes());
    let limit = match (plan.memory_max, scope.host.map(|host| host.memory_bytes())) {
        (Some(limit), _) => bytes(limit),
        (None, Some(Some(host))) => format!("{}, what this process may take of this machine", bytes(host)),
        (None, Some(None)) => "an amount that this machine does not tell".into(),
        (None, None) => "what the machine has".into(),
    };
    format!("the footprint is {total} of {limit}")
}

/// What a setting of a class comes to, with the arithmetic.
fn class_comes_to(key: &str, plan: &Plan, class: &Class, scope: Scope<'_>) -> Option<String> {
    let lanes = || u64::from(plan.sets()) * u64::from(plan.shards);
    let half = u64::from(class.payload_bytes / 2);
    let number = CLASS.iter().find(|row| row.info.key == key)?.get(class).number::<u64>();
    Some(match (key, number) {
        ("weight", Some(_)) => {
            let turn = turn_events(plan, class)?;
            format!("a turn of {}: burst_events x weight / the smallest weight", many(turn, "event"))
        }
        ("weight", None) => "strict classes have none".into(),
        ("capacity_slots", Some(slots)) => {
            let slot = shape_of(class).slot_bytes(event_of(plan, scope)) as u64;
            let all = slots.saturating_mul(slot).saturating_mul(lanes());
            format!("{} x {} B x {} = {}", count(slots), slot, many(lanes(), "lane"), bytes(all))
        }
        ("payload_ring_bytes", Some(ring @ 1..)) => {
            let all = bytes(ring.saturating_mul(lanes()));
            format!("{} x {} = {all}", bytes(ring), many(lanes(), "lane"))
        }
        ("payload_max_bytes", None) if half == 0 => "no payloads, as payload_ring_bytes is 0".into(),
        ("payload_max_bytes", None) => {
            format!("{} / 2 = {}", count(class.payload_bytes.into()), many(half, "byte"))
        }
        ("block_limit_us", None) => "a producer waits until there is room, or the engine stops".into(),
        ("ttl_us", None) => "no event expires".into(),
        ("ttl_us", Some(us)) => {
            let events = u128::from(us) * 1_000 / plan.handling.as_nanos().max(1);
            let span = nanos(us.saturating_mul(1_000));
            format!(
                "{span} / handling_ns = {} of the shard's time",
                many(u64::try_from(events).unwrap_or(u64::MAX), "event")
            )
        }
        ("stamp_one_in", Some(0)) => "no event is measured".into(),
        ("stamp_one_in", Some(1)) => "every event is measured".into(),
        _ => return None,
    })
}

/// The events of a weighted class's turn.
pub(super) fn turn_events(plan: &Plan, class: &Class) -> Option<u64> {
    let smallest = plan.classes().iter().filter_map(|class| class.share.weight()).min()?;
    Some(crate::class::turn_events(plan.burst, class.share.weight()?, smallest))
}

/// The longest that the first class waits for one that is served: a burst, at what the handler is said to take.
pub(super) fn worst_wait(plan: &Plan) -> Duration {
    plan.handling.saturating_mul(plan.burst)
}
