//! Tables of settings whose type is not known here: the engine's, those of classes, or those of a room above.
#![forbid(unsafe_code)]

use crate::class::{CLASSES_MAX, Class};
use crate::engine::{CLASS, Kind, Setting, Value};
use std::borrow::BorrowMut;

/// Settings of a class that a file must name: what is lost under load, and what comes first, is nobody's default.
pub const NAMED: [&str; 4] = ["name", "share", "capacity_slots", "overflow"];

/// A row without its type.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// Its key.
    pub key: &'static str,
    /// What it may be.
    pub kind: Kind,
    /// Its unit; empty where it has none.
    pub unit: &'static str,
    /// What it is.
    pub what: &'static str,
    /// What more or less of it buys and costs.
    pub trades: &'static str,
    /// The figure that shows its effect.
    pub watch: &'static str,
    /// Another setting of the table, and the word that it must have for this one to have a use.
    pub needs: Option<(&'static str, &'static str)>,
}

impl About {
    /// What a row says of its setting.
    pub fn of<T>(row: &Setting<T>) -> Self {
        let Setting { key, kind, unit, what, trades, watch, needs, .. } = *row;
        About { key, kind, unit, what, trades, watch, needs }
    }
}

/// What each table of a list must have.
#[derive(Clone, Copy, Debug)]
pub struct Listed {
    /// The keys that nobody's default decides, `name` first, by which it is told from the others.
    pub named: &'static [&'static str],
    /// Why they must be named.
    pub why: &'static str,
    /// Something that an option may say of one.
    pub example: &'static str,
    /// How many there may be at most. Whoever owns the list refuses more; far more are not even read.
    pub most: usize,
}

/// Settings that can be read and changed by their keys: those of one table, `[replay]`, or of each of a list, `[[class]]`.
/// One table has one item; a list has any number of them, and a row for `name`.
pub trait Table {
    /// The name of the table in a file.
    fn name(&self) -> &str;
    /// Its rows, in their order.
    fn rows(&self) -> Vec<About>;
    /// What each of a list must have; `None` for one table.
    fn listed(&self) -> Option<Listed> {
        None
    }
    /// How many items there are.
    fn count(&self) -> usize {
        1
    }
    /// Makes it a list of so many items, each as it is at first. One table stays as it is.
    fn renew(&mut self, _count: usize) {}
    /// The value that a row has at first, where that is the same for all items.
    fn at_first(&self, row: usize) -> Option<Value>;
    /// The value that a row of an item has.
    fn get(&self, item: usize, row: usize) -> Value;
    /// Changes a value, to one that the row's kind accepts.
    fn set(&mut self, item: usize, row: usize, value: Value);
}

/// How the settings of an item are called among all, before their key: `replay`, or `class 'bulk'`.
pub(super) fn owner(table: &dyn Table, item: usize) -> String {
    match (table.listed(), row_of(table, "name")) {
        (Some(_), Some(row)) => owner_of(table.name(), table.get(item, row).word()),
        _ => table.name().to_string(),
    }
}

/// The same of an item of a list.
pub(super) fn owner_of(list: &str, title: &str) -> String {
    format!("{list} '{title}'")
}

/// The row of a key.
pub(super) fn row_of(table: &dyn Table, key: &str) -> Option<usize> {
    table.rows().iter().position(|row| row.key == key)
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

    fn rows(&self) -> Vec<About> {
        self.rows.iter().map(About::of).collect()
    }

    fn at_first(&self, _row: usize) -> Option<Value> {
        None
    }

    fn get(&self, _item: usize, row: usize) -> Value {
        (self.rows[row].get)(self.of.borrow())
    }

    fn set(&mut self, _item: usize, row: usize, value: Value) {
        (self.rows[row].set)(self.of.borrow_mut(), value);
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
    pub listed: Listed,
    /// Makes one as it is at first.
    pub start: fn() -> T,
    /// What they set.
    pub of: B,
}

impl<T: 'static, B: BorrowMut<Vec<T>>> Table for Items<'_, T, B> {
    fn name(&self) -> &str {
        self.name
    }

    fn rows(&self) -> Vec<About> {
        self.rows.iter().map(About::of).collect()
    }

    fn listed(&self) -> Option<Listed> {
        Some(self.listed)
    }

    fn count(&self) -> usize {
        self.of.borrow().len()
    }

    fn renew(&mut self, count: usize) {
        let all = self.of.borrow_mut();
        all.clear();
        all.resize_with(count, self.start);
    }

    fn at_first(&self, row: usize) -> Option<Value> {
        Some((self.rows[row].get)(&(self.start)()))
    }

    fn get(&self, item: usize, row: usize) -> Value {
        (self.rows[row].get)(&self.of.borrow()[item])
    }

    fn set(&mut self, item: usize, row: usize, value: Value) {
        (self.rows[row].set)(&mut self.of.borrow_mut()[item], value);
    }
}

/// The classes of a plan as a list.
pub(super) fn classes<B: BorrowMut<Vec<Class>>>(of: B) -> Items<'static, Class, B> {
    let why = "it decides what comes first and what is lost, so it must be named";
    let listed = Listed { named: &NAMED, why, example: "capacity_slots=4096", most: CLASSES_MAX };
    Items { name: "class", rows: CLASS, listed, start: || Class::strict(""), of }
}
