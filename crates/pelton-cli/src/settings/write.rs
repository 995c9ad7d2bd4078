//! A plan as a file: complete, with what each setting is and trades beside it.
//!
//! # Limits
//! What code alone can set ([`CODE_ONLY`](pelton::engine::CODE_ONLY)) is not in a file. Times have a unit in their name, and are rounded up to it.

use crate::output::format::{capital, wrap};
use pelton::config::{Table, classes};
use pelton::engine::{ENGINE, Plan, SettingInfo, Value};
use std::collections::BTreeMap;

/// Columns of a comment.
const WIDTH: usize = 90;

/// The key with which a group begins, and the group's heading.
const HEADINGS: [(&str, &str); 6] = [
    ("shards", "Shards and their threads"),
    ("burst_events", "The schedule"),
    ("producers_max", "Producers and routes"),
    ("retry_limit_ms", "Failure and end"),
    ("thread_name", "What is seen of it"),
    ("event_bytes", "Memory"),
];

/// Remarks on settings, by their names among all: the arithmetic that led to a value. One without a name is on the
/// whole.
pub type Notes = BTreeMap<String, String>;

/// Writes a plan, and a program's own tables, as a file that reads back as the same.
pub fn write(plan: &Plan, tables: &[&dyn Table], notes: &Notes) -> String {
    let mut page = Page::default();
    page.comment(&format!(
        "A configuration of Pelton {}. Beside each setting: what it is, what it may be, and what more or less of it buys \
         and costs. A setting that is left out is as the profile has it.",
        env!("CARGO_PKG_VERSION")
    ));
    if let Some(note) = notes.get("") {
        page.comment(&plain(note));
    }
    for row in ENGINE {
        if let Some((_, heading)) = HEADINGS.iter().find(|(key, _)| *key == row.info.key) {
            page.heading(heading);
        }
        page.setting(&row.info, &row.get(plan), notes.get(row.info.key), true);
    }
    let classes = classes(plan.classes().to_vec());
    if classes.count() > 0 {
        page.heading("Classes: strict ones come first, in this order");
    }
    for table in [&classes as &dyn Table].into_iter().chain(tables.iter().copied()) {
        for item in 0..table.count() {
            page.table(&table.head());
            for (at, row) in table.rows().into_iter().enumerate() {
                let note = notes.get(&table.setting(item, at));
                // What a setting is, is said once.
                page.setting(row, &table.get(item, at), note, item == 0);
            }
        }
    }
    page.0
}

/// A text without what would end a comment.
fn plain(note: &str) -> String {
    note.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn heading(&mut self, text: &str) {
        let line = "─".repeat(WIDTH.saturating_sub(text.chars().count() + 6));
        self.0.push_str(&format!("\n# ── {text} {line}\n"));
    }

    fn table(&mut self, head: &str) {
        self.0.push_str(&format!("\n{head}\n"));
    }

    /// A text that may have line breaks of its own, as comments.
    fn comment(&mut self, text: &str) {
        for line in wrap(text, WIDTH - 2) {
            self.0.push_str(&format!("# {line}\n"));
        }
    }

    fn setting(&mut self, row: &SettingInfo, value: &Value, note: Option<&String>, wordy: bool) {
        if wordy || note.is_some() {
            self.0.push('\n');
        }
        if wordy {
            let what = capital(row.what);
            let unit = if row.unit.is_empty() { String::new() } else { format!("{}: ", row.unit) };
            // The largest whole number is no limit that anybody meets.
            let may_be = row.kind.to_string().replace(&format!(" to {}", u64::MAX), " up");
            self.comment(&format!("{what} ({unit}{may_be}).\nTrades: {}.", row.trades));
        }
        if let Some(note) = note {
            self.comment(&format!("Here: {}", plain(note)));
        }
        if matches!(value, Value::Secret(secret) if secret.is_set()) {
            // What reads this back has none, which is safer than one that anybody can read.
            return self.comment(&format!("{} is set, and not written out", row.key));
        }
        self.0.push_str(&format!("{} = {}\n", row.key, value.toml()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_heading_has_its_setting() {
        for (key, heading) in HEADINGS {
            assert!(ENGINE.iter().any(|row| row.info.key == key), "{heading}");
        }
    }
}
