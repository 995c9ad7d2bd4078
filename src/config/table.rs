//! Tables of settings whose type is not known here: the engine's, a class's, or those of a room above.
#![forbid(unsafe_code)]

use crate::engine::{Kind, Setting, Value};
use std::borrow::BorrowMut;

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

/// Settings that can be read and changed by their keys.
pub trait Table {
    /// The name of the table in a file.
    fn name(&self) -> &str;
    /// Its rows, in their order.
    fn rows(&self) -> Vec<About>;
    /// The value that a row has.
    fn get(&self, row: usize) -> Value;
    /// Changes a value, to one that the row's kind accepts.
    fn set(&mut self, row: usize, value: Value);
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

    fn get(&self, row: usize) -> Value {
        (self.rows[row].get)(self.of.borrow())
    }

    fn set(&mut self, row: usize, value: Value) {
        (self.rows[row].set)(self.of.borrow_mut(), value);
    }
}
