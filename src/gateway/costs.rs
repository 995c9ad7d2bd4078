//! What the settings of a gateway cost: as those of an engine, by trying the least that each can be.
#![forbid(unsafe_code)]

use super::settings::{EVENT, GATEWAY, Options};
use crate::config::{Explained, cost};
use crate::engine::{CLASS, ENGINE, Setting, Value};
use crate::views::VIEW;

impl Options {
    /// Puts the costs of settings into what was explained of these options: a gateway reserves memory for its threads, taps
    /// and views, which follows from its own settings, and from some of the engine's and of the classes too.
    pub fn price(&self, all: &mut [Explained]) {
        for told in all {
            let owner = told.setting.strip_suffix(told.key).unwrap_or_default().trim_end_matches(": ");
            let cost = match owner.split_once(" '") {
                None if owner.is_empty() => self.cost_of(ENGINE, told.key, |options| Some(&mut options.plan)),
                None if owner == "gateway" => self.cost_of(GATEWAY, told.key, |options| Some(options)),
                Some(("class", name)) => self.cost_of(CLASS, told.key, |options| {
                    let mut classes = options.plan.classes.iter_mut();
                    classes.find(|class| name.strip_suffix('\'') == Some(&class.name))
                }),
                Some(("view", name)) => self.cost_of(VIEW, told.key, |options| {
                    options.views.iter_mut().find(|view| name.strip_suffix('\'') == Some(&view.name))
                }),
                _ => continue,
            };
            told.cost_bytes = cost.unwrap_or(told.cost_bytes);
        }
    }

    fn cost_of<T>(
        &self,
        rows: &[Setting<T>],
        key: &str,
        find: impl Fn(&mut Options) -> Option<&mut T>,
    ) -> Option<u64> {
        let row = rows.iter().find(|row| row.key == key)?;
        let now = (row.get)(find(&mut self.clone())?);
        let total = |value: Option<Value>| {
            let mut options = self.clone();
            if let Some(value) = value {
                (row.set)(find(&mut options)?, value);
                // A pane of a millisecond would make more panes than there can be.
                if options
                    .views
                    .iter()
                    .zip(&self.views)
                    .any(|(new, old)| new != old && !new.findings().is_empty())
                {
                    return None;
                }
            }
            let plan = options.reserve(options.plan.clone());
            Some(plan.footprint_of(EVENT).total_bytes())
        };
        Some(cost(row.kind, &now, total))
    }
}
