//! The explanation: every setting in effect, where it came from, what it comes to, and what it costs.
//!
//! # Mechanism
//! Everything said of a setting is from its row, its value, and the plan: there is no second list. What it costs is found
//! by trying: see `cost`. [`Memory`](super::memory::Memory) has the sum.

use crate::output::format::{bytes, count, many, nanos};
use crate::settings::cost::cost_of;
use crate::settings::serialized;
use pelton::config::{Origin, Origins, Scope, Table, nearest};
use pelton::engine::{CLASS, ENGINE, Plan, Setting, SettingInfo, Value};
use pelton::host::list;
use pelton::lane::slot_bytes;
use pelton::{Class, class::Share};
use serde::{Serialize, Serializer};

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

impl Explained {
    /// What it is a setting of: `replay`, or `class 'bulk'`; empty for the engine.
    pub fn owner(&self) -> &str {
        self.setting.strip_suffix(self.info.key).unwrap_or_default().trim_end_matches(": ")
    }

    /// The table of its owner, and of a list's item the item's name.
    pub fn table(&self) -> (&str, Option<&str>) {
        match self.owner().split_once(" '") {
            Some((list, item)) => (list, Some(item.strip_suffix('\'').unwrap_or(item))),
            None => (self.owner(), None),
        }
    }
}

/// As one object, with the texts of the row.
#[derive(Serialize)]
struct Object<'a> {
    setting: &'a str,
    key: &'a str,
    #[serde(serialize_with = "serialized::value")]
    value: &'a Value,
    unit: &'a str,
    comes_to: Option<&'a str>,
    #[serde(serialize_with = "serialized::origin")]
    origin: &'a Origin,
    cost_bytes: u64,
    may_be: String,
    what: &'a str,
    trades: &'a str,
    watch: &'a str,
}

impl Serialize for Explained {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let SettingInfo { key, kind, unit, what, trades, watch, .. } = *self.info;
        let Explained { setting, value, comes_to, origin, cost_bytes, .. } = self;
        let (comes_to, cost_bytes, may_be) = (comes_to.as_deref(), *cost_bytes, kind.to_string());
        Object { setting, key, value, unit, comes_to, origin, cost_bytes, may_be, what, trades, watch }
            .serialize(to)
    }
}

/// Explains a plan. What no origin is known of is as the profile (a class, a table) has it at first, or came from code.
pub fn explain(plan: &Plan, origins: &Origins, tables: &[&dyn Table], scope: Scope<'_>) -> Vec<Explained> {
    let mut all = Vec::new();
    let start = Plan::new(plan.profile());
    let from = |setting: &str, is_start: bool, start: Origin| match origins.of(setting) {
        Some(origin) => origin.clone(),
        None if is_start => start,
        None => Origin::Code,
    };
    let footprint = |plan: &Plan| Some(plan.footprint_of(scope.event_of(plan)).total_bytes());
    for row in ENGINE {
        let (key, value) = (row.info.key, row.get(plan));
        let as_profile = value == row.get(&start) || key == "profile";
        all.push(Explained {
            info: &row.info,
            setting: key.to_string(),
            comes_to: engine_comes_to(key, plan, scope),
            origin: from(key, as_profile, Origin::Profile(plan.profile())),
            cost_bytes: cost_of(row, plan, |plan| Some(plan), footprint).unwrap_or(0),
            value,
        });
    }
    for (at, class) in plan.classes().iter().enumerate() {
        let start = match class.share() {
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
                cost_bytes: cost_of(row, plan, |plan| plan.classes_mut().get_mut(at), footprint).unwrap_or(0),
                setting,
                value,
            });
        }
    }
    for table in tables {
        for item in 0..table.count() {
            for (at, info) in table.rows().into_iter().enumerate() {
                let (setting, value) = (table.setting(item, at), table.get(item, at));
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
        // Of an item of a list its name alone is enough.
        let (table, item) = row.table();
        row.setting == name || key == name || format!("{}.{key}", item.unwrap_or(table)) == name
    };
    let found: Vec<_> = all.iter().filter(has_name).collect();
    let key = name.rsplit('.').next().unwrap_or(name);
    if found.is_empty() { Err(nearest(key, all.iter().map(|row| row.info.key))) } else { Ok(found) }
}

/// The number that a setting of the engine has in a plan; 0 where a word stands for none.
fn number(plan: &Plan, key: &str) -> u64 {
    value(plan, key).whole()
}

fn value(plan: &Plan, key: &str) -> Value {
    let row = ENGINE.iter().find(|row| row.info.key == key);
    row.map_or_else(|| Value::from(""), |row: &Setting<Plan>| row.get(plan))
}

/// What a setting of the engine comes to, with the arithmetic.
fn engine_comes_to(key: &str, plan: &Plan, scope: Scope<'_>) -> Option<String> {
    let own = number(plan, key);
    let (handling_ns, burst) = (number(plan, "handling_ns"), u64::from(plan.burst()));
    let takes = |events: u64| nanos(handling_ns.saturating_mul(events));
    let at = format!("handling_ns {}", count(handling_ns));
    let shards = u64::from(plan.shards());
    let lanes = || {
        let (sets, classes) = (u64::from(plan.lane_sets()), plan.classes().len() as u64);
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
            format!(
                "{} x burst_events {} x {at} = {}, the longest that the lowest class is passed over",
                count(own),
                count(burst),
                takes(burst.saturating_mul(own))
            )
        }
        "handling_ns" => {
            let per_s = 1_000_000_000 / handling_ns.max(1);
            format!("1 s / {} = at most {} a second and shard", nanos(handling_ns), many(per_s, "event"))
        }
        "partitions" => {
            format!("{} / {} = {} a shard", count(own), many(shards, "shard"), count(own / shards.max(1)))
        }
        "thread_name" => format!("the first thread is {}-0", value(plan, key).word().escape_debug()),
        "event_bytes" => return event_bytes_come_to(plan, scope),
        "scratch_bytes" => format!("{} x {}", bytes(own), many(shards, "shard")),
        "memory_max_bytes" => memory_max_comes_to(plan, scope),
        _ => return None,
    })
}

fn cpus_come_to(plan: &Plan, scope: Scope<'_>) -> Option<String> {
    if !value(plan, "pinned").is_on() {
        return Some("none, as shards are not pinned".into());
    }
    if plan.cpus().is_some() {
        return None;
    }
    Some(match scope.host {
        Some(host) if !host.cpus.is_empty() => {
            let taken: Vec<_> = host.cpus.iter().rev().take(plan.shards().into()).copied().collect();
            format!("CPUs {}, from the end of this process's mask, {}", list(&taken), list(&host.cpus))
        }
        _ => "as the machine has them, from the end of the process's mask".into(),
    })
}

fn event_bytes_come_to(plan: &Plan, scope: Scope<'_>) -> Option<String> {
    let whose = match (plan.event_bytes(), scope.event) {
        (_, Some(_)) => "as this command has it",
        (None, None) => "reckoned with until the type is known",
        (Some(_), None) => return None,
    };
    Some(format!("{}, {whose}", many(scope.event_of(plan).size() as u64, "byte")))
}

fn memory_max_comes_to(plan: &Plan, scope: Scope<'_>) -> String {
    let total = bytes(plan.footprint_of(scope.event_of(plan)).total_bytes());
    let limit = match (value(plan, "memory_max_bytes").number(), scope.host.map(|host| host.memory_bytes())) {
        (Some(limit), _) => bytes(limit),
        (None, Some(Some(host))) => format!("{}, what this process may take of this machine", bytes(host)),
        (None, Some(None)) => "an amount that this machine does not tell".into(),
        (None, None) => "what the machine has".into(),
    };
    format!("the footprint is {total} of {limit}")
}

/// What a setting of a class comes to, with the arithmetic.
fn class_comes_to(key: &str, plan: &Plan, class: &Class, scope: Scope<'_>) -> Option<String> {
    let lanes = || u64::from(plan.lane_sets()) * u64::from(plan.shards());
    let half = u64::from(class.payload_bytes() / 2);
    let own = CLASS.iter().find(|row| row.info.key == key)?.get(class).number::<u64>();
    Some(match (key, own) {
        ("weight", Some(_)) => {
            let turn = plan.turn_events(class)?;
            format!("a turn of {}: burst_events x weight / the smallest weight", many(turn, "event"))
        }
        ("weight", None) => "strict classes have none".into(),
        ("capacity_slots", Some(slots)) => {
            let slot = slot_bytes(class, scope.event_of(plan)) as u64;
            let all = slots.saturating_mul(slot).saturating_mul(lanes());
            format!("{} x {} B x {} = {}", count(slots), slot, many(lanes(), "lane"), bytes(all))
        }
        ("payload_ring_bytes", Some(ring @ 1..)) => {
            let all = bytes(ring.saturating_mul(lanes()));
            format!("{} x {} = {all}", bytes(ring), many(lanes(), "lane"))
        }
        ("payload_max_bytes", None) if half == 0 => "no payloads, as payload_ring_bytes is 0".into(),
        ("payload_max_bytes", None) => {
            format!("{} / 2 = {}", count(class.payload_bytes().into()), many(half, "byte"))
        }
        ("block_limit_us", None) => "a producer waits until there is room, or the engine stops".into(),
        ("ttl_us", None) => "no event expires".into(),
        ("ttl_us", Some(us)) => {
            let events = u128::from(us) * 1_000 / u128::from(number(plan, "handling_ns").max(1));
            let events = many(u64::try_from(events).unwrap_or(u64::MAX), "event");
            format!("{} / handling_ns = {events} of the shard's time", nanos(us.saturating_mul(1_000)))
        }
        ("stamp_one_in", Some(0)) => "no event is measured".into(),
        ("stamp_one_in", Some(1)) => "every event is measured".into(),
        _ => return None,
    })
}

/// The longest that the first class waits for one that is served: a burst, at what the handler is said to take.
pub fn worst_wait_ns(plan: &Plan) -> u64 {
    number(plan, "handling_ns").saturating_mul(plan.burst().into())
}
