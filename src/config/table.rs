//! Tables of settings behind a trait: the engine's, those of classes, and those of companion crates.

use crate::class::{CLASSES_MAX, Class};
use crate::engine::{CLASS, Setting, SettingInfo, Value};
use std::borrow::BorrowMut;

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
pub trait Table {
    /// The name of the table in a file.
    fn name(&self) -> &str;
    /// Its rows, in their order.
    fn rows(&self) -> Vec<&'static SettingInfo>;
    /// What each item of a list must have; `None` for one table.
    fn list_spec(&self) -> Option<ListSpec> {
        None
    }
    /// How many items there are.
    fn count(&self) -> usize {
        1
    }
    /// Makes it a list of `count` items, each with its defaults. One table stays as it is.
    fn resize(&mut self, _count: usize) {}
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

/// A table of rows, and what they are the settings of: a `T`, or a `&mut T`.
#[derive(Debug)]
pub struct Rows<'a, T: 'static, B> {
    /// The name of the table in a file; empty for the engine's.
    pub name: &'a str,
    /// The rows.
    pub rows: &'static [Setting<T>],
    /// What they set.
    pub of: B,
}

impl<T: 'static, B: BorrowMut<T>> Table for Rows<'_, T, B> {
    fn name(&self) -> &str {
        self.name
    }

    fn rows(&self) -> Vec<&'static SettingInfo> {
        self.rows.iter().map(|row| &row.info).collect()
    }

    fn default_value(&self, _row: usize) -> Option<Value> {
        None
    }

    fn get(&self, _item: usize, row: usize) -> Value {
        self.rows[row].get(self.of.borrow())
    }

    fn set(&mut self, _item: usize, row: usize, value: Value) {
        self.rows[row].set(self.of.borrow_mut(), value);
    }
}

/// A list of tables of the same rows, and what they are the settings of: a `Vec<T>`, or a `&mut Vec<T>`.
#[derive(Debug)]
pub struct Items<'a, T: 'static, B> {
    /// The name of the list in a file.
    pub name: &'a str,
    /// The rows, one of them for `name`.
    pub rows: &'static [Setting<T>],
    /// What each must have.
    pub spec: ListSpec,
    /// Makes one with its defaults.
    pub default: fn() -> T,
    /// What they set.
    pub of: B,
}

impl<T: 'static, B: BorrowMut<Vec<T>>> Table for Items<'_, T, B> {
    fn name(&self) -> &str {
        self.name
    }

    fn rows(&self) -> Vec<&'static SettingInfo> {
        self.rows.iter().map(|row| &row.info).collect()
    }

    fn list_spec(&self) -> Option<ListSpec> {
        Some(self.spec)
    }

    fn count(&self) -> usize {
        self.of.borrow().len()
    }

    fn resize(&mut self, count: usize) {
        let all = self.of.borrow_mut();
        all.clear();
        all.resize_with(count, self.default);
    }

    fn default_value(&self, row: usize) -> Option<Value> {
        Some(self.rows[row].get(&(self.default)()))
    }

    fn get(&self, item: usize, row: usize) -> Value {
        self.rows[row].get(&self.of.borrow()[item])
    }

    fn set(&mut self, item: usize, row: usize, value: Value) {
        self.rows[row].set(&mut self.of.borrow_mut()[item], value);
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
pub fn classes<B: BorrowMut<Vec<Class>>>(of: B) -> Items<'static, Class, B> {
    let why = "it decides what comes first and what is lost, so it must be named";
    let spec = ListSpec { named: &NAMED, why, example: "capacity_slots=4096", most: CLASSES_MAX };
    Items { name: "class", rows: CLASS, spec, default: || Class::strict(""), of }
}
