//! Tables of settings behind a trait: the engine's, those of classes, and those of companion crates.

use crate::class::{CLASSES_MAX, Class};
use crate::engine::{CLASS, Setting, SettingInfo, Value};

/// Settings of a class that a file must name: what is lost under load, and what comes first, is nobody's default.
pub const NAMED: [&str; 4] = ["name", "share", "capacity_slots", "overflow"];

/// What each table of a list must have.
#[derive(Clone, Copy, Debug)]
pub struct ListSpec {
    /// The keys that have no default. The first is `name`, which identifies the item.
    pub named: &'static [&'static str],
    /// Why they must be named.
    pub why: &'static str,
    /// A setting of one, as an option has it.
    pub example: &'static str,
    /// The most items. The owner of the list refuses more; far more are not read at all.
    pub most: usize,
}

/// Settings that can be read and changed by their keys: those of one table, `[replay]`, or of each of a list, `[[class]]`.
/// One table has one item; a list has any number of them, and a row for `name`.
///
/// ```
/// use pelton::config::{Table, classes};
/// use pelton::{Class, engine::Value};
///
/// let mut classes = classes(vec![Class::strict("bulk")]);
/// assert_eq!((classes.name(), classes.head().as_str()), ("class", "[[class]]"));
/// assert_eq!((classes.count(), classes.owner(0).as_str()), (1, "class 'bulk'"));
/// let capacity = classes.row_of("capacity_slots").unwrap();
/// assert_eq!(classes.setting(0, capacity), "class 'bulk': capacity_slots");
/// assert_eq!(classes.default_value(capacity), Some(Value::Whole(1_024)));
/// classes.set(0, capacity, 64u32.into());
/// assert_eq!(classes.into_items()[0].capacity(), 64);
/// ```
pub trait Table {
    /// The name of the table in a file.
    fn name(&self) -> &str;
    /// Its rows, in their order.
    fn rows(&self) -> Vec<&'static SettingInfo>;
    /// What each item of a list must have; `None` for one table.
    fn list_spec(&self) -> Option<ListSpec>;
    /// How many items there are.
    fn count(&self) -> usize;
    /// Makes it a list of `count` items, each with its defaults. One table stays as it is.
    fn resize(&mut self, count: usize);
    /// The default of a row, where that is the same for all items.
    fn default_value(&self, row: usize) -> Option<Value>;
    /// The value that a row of an item has.
    fn get(&self, item: usize, row: usize) -> Value;
    /// Changes a value, to one that the row's kind accepts.
    fn set(&mut self, item: usize, row: usize, value: Value);
    /// The row of a key.
    fn row_of(&self, key: &str) -> Option<usize> {
        self.rows().iter().position(|row| row.key == key)
    }
    /// As a file has its head: `[replay]`, or `[[class]]`.
    fn head(&self) -> String {
        let name = self.name();
        if self.list_spec().is_some() { format!("[[{name}]]") } else { format!("[{name}]") }
    }
    /// What the settings of an item belong to: `replay`, or `class 'bulk'`; empty for the engine's.
    fn owner(&self, item: usize) -> String {
        match (self.list_spec(), self.row_of("name")) {
            (Some(_), Some(row)) => owner_of(self.name(), self.get(item, row).word()),
            _ => self.name().to_string(),
        }
    }
    /// The name of a setting among all: `burst_events`, `replay: loop`, `class 'bulk': ttl_us`.
    fn setting(&self, item: usize, row: usize) -> String {
        match (self.owner(item).as_str(), self.rows()[row].key) {
            ("", key) => key.to_string(),
            (owner, key) => format!("{owner}: {key}"),
        }
    }
}

/// What the settings of an item of a list belong to.
pub(super) fn owner_of(list: &str, title: &str) -> String {
    format!("{list} '{title}'")
}

/// A table of rows, and the values that they set: one `T`, or a list of them.
///
/// # Examples
/// ```
/// use pelton::config::{Rows, Table};
/// use pelton::engine::ENGINE;
/// use pelton::{Plan, Profile};
///
/// let mut engine = Rows::one("", ENGINE, Plan::new(Profile::Dev));
/// let shards = engine.row_of("shards").unwrap();
/// engine.set(0, shards, 2u64.into());
/// assert_eq!(engine.into_one().shards(), 2);
/// ```
#[derive(Debug)]
pub struct Rows<T: 'static> {
    name: &'static str,
    rows: &'static [Setting<T>],
    /// What each item of a list must have, and what makes one with its defaults.
    list: Option<(ListSpec, fn() -> T)>,
    items: Vec<T>,
}

impl<T> Rows<T> {
    /// One table, `[name]` in a file; the engine's has an empty name.
    pub fn one(name: &'static str, rows: &'static [Setting<T>], of: T) -> Self {
        Rows { name, rows, list: None, items: vec![of] }
    }

    /// A list of tables, `[[name]]` in a file. One of the rows is for `name`; `default` makes an item with its defaults.
    ///
    /// ```
    /// use pelton::config::{ListSpec, Rows, Table};
    /// use pelton::{engine::Kind, settings};
    ///
    /// struct Valve { name: String, limit: u32 }
    /// settings! {
    ///     const VALVE: Valve {
    ///         name: name = Kind::text("a name"), what: "how it is called";
    ///         limit_bar: limit = Kind::whole(1, 10), unit: "bar", what: "when it opens";
    ///     }
    /// }
    /// let spec = ListSpec { named: &["name"], why: "a valve has a name", example: "limit_bar=4", most: 8 };
    /// let new = || Valve { name: String::new(), limit: 1 };
    /// let mut valves = Rows::list("valve", VALVE, spec, new, Vec::new());
    /// valves.resize(1);
    /// valves.set(0, 0, "inlet".into());
    /// assert_eq!(valves.setting(0, 1), "valve 'inlet': limit_bar");
    /// assert_eq!((valves.items().len(), valves.items()[0].limit), (1, 1));
    /// ```
    pub fn list(
        name: &'static str,
        rows: &'static [Setting<T>],
        spec: ListSpec,
        default: fn() -> T,
        items: Vec<T>,
    ) -> Self {
        Rows { name, rows, list: Some((spec, default)), items }
    }

    /// Returns what the rows set: of one table one, of a list any number.
    pub fn items(&self) -> &[T] {
        &self.items
    }

    /// Returns what the rows set.
    pub fn into_items(self) -> Vec<T> {
        self.items
    }

    /// Returns what the rows of one table set.
    ///
    /// # Panics
    /// If it is an empty list.
    pub fn into_one(mut self) -> T {
        self.items.pop().expect("one table sets one value")
    }

    /// Sets the row of a key of one table, if there is one.
    pub(super) fn set_key(&mut self, key: &str, value: Value) {
        if let Some(row) = self.row_of(key) {
            self.set(0, row, value);
        }
    }
}

impl<T> Table for Rows<T> {
    fn name(&self) -> &str {
        self.name
    }

    fn rows(&self) -> Vec<&'static SettingInfo> {
        self.rows.iter().map(|row| &row.info).collect()
    }

    fn list_spec(&self) -> Option<ListSpec> {
        self.list.map(|(spec, _)| spec)
    }

    fn count(&self) -> usize {
        self.items.len()
    }

    fn resize(&mut self, count: usize) {
        if let Some((_, default)) = self.list {
            self.items.clear();
            self.items.resize_with(count, default);
        }
    }

    fn default_value(&self, row: usize) -> Option<Value> {
        self.list.map(|(_, default)| self.rows[row].get(&default()))
    }

    fn get(&self, item: usize, row: usize) -> Value {
        self.rows[row].get(&self.items[item])
    }

    fn set(&mut self, item: usize, row: usize, value: Value) {
        self.rows[row].set(&mut self.items[item], value);
    }
}

/// The classes of a plan as a list of tables: `[[class]]`.
///
/// # Examples
/// ```
/// use pelton::Class;
/// use pelton::config::{Table, classes};
///
/// let classes = classes(vec![Class::strict("bulk")]);
/// let ttl = classes.row_of("ttl_us").unwrap();
/// assert_eq!(classes.setting(0, ttl), "class 'bulk': ttl_us");
/// assert_eq!(classes.get(0, ttl), "none".into());
/// ```
pub fn classes(classes: Vec<Class>) -> Rows<Class> {
    let why = "it decides what comes first and what is lost, so it must be named";
    let spec = ListSpec { named: &NAMED, why, example: "capacity_slots=4096", most: CLASSES_MAX };
    Rows::list("class", CLASS, spec, || Class::strict(""), classes)
}
