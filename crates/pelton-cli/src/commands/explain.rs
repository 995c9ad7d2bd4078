//! `pelton explain`: every setting in effect, where it came from and what it costs.

use crate::failure::Failure;
use crate::output::format::{bytes, capital, clean, count, many, shown};
use crate::output::page::{Ink, Page, Rows, WIDTH};
use crate::output::problems;
use crate::settings::config::{self, Loaded, shared};
use crate::settings::config_args::ExplainArgs;
use crate::settings::explain::{Explained, explain, find_by_name};
use crate::settings::gateway::price;
use crate::settings::memory::Memory;
use crate::settings::write::{Notes, write};
use pelton::config::Origin;
use pelton::engine::{Against, CLASS, Severity};
use serde::Serialize;
use std::path::Path;

#[derive(Serialize)]
struct Root<'a> {
    file: Option<&'a str>,
    profile: &'static str,
    settings: Vec<&'a Explained>,
    memory: &'a Memory,
}

pub fn run(args: &ExplainArgs) -> Result<(), Failure> {
    let (file, key) = named(args);
    let mut read = config::read(file, &args.settings.options, args.no_host)?;
    if is_wrong(&read) {
        return Err(problems::refused(&read, problems::CONFIGURATION));
    }
    let mut page = Page::stdout();
    let tables = read.take_tables_said();
    let tables = shared(&tables);
    let mut all = explain(read.config.plan(), read.config.origins(), &tables, read.scope());
    read.gateway.iter().for_each(|options| price(options, &mut all));
    let memory = Memory::of(read.config.plan(), read.scope());
    // Of tables that the file does not have each setting stands as it would be at first.
    let mut unsaid = key.map_or(Vec::new(), |_| read.explain_unsaid());
    read.gateway.iter().for_each(|options| price(options, &mut unsaid));
    let chosen = match key {
        None => all.iter().collect(),
        Some(key) => match (find_by_name(&all, key), find_by_name(&unsaid, key)) {
            (Ok(found), _) | (Err(_), Ok(found)) => found,
            (Err(near), Err(other)) => return Err(no_such(file, key, near.or(other))),
        },
    };
    if args.toml {
        page.raw(write(read.config.plan(), &tables, &Notes::new()).trim_end())?;
    } else if args.json {
        let root = Root {
            file: read.file().map(|(name, _)| name),
            profile: read.config.plan().profile().name(),
            settings: chosen,
            memory: &memory,
        };
        page.raw(&serde_json::to_string(&root).expect("all keys are strings, and there are no floats"))?;
    } else if args.memory {
        show_memory(&mut page, &read, &memory)?;
    } else if key.is_some() {
        chosen.into_iter().try_for_each(|row| show_one(&mut page, row))?;
    } else {
        show_all(&mut page, &read, &all, &memory)?;
    }
    page.flush()
}

/// Whether there is nothing to explain. What another machine could bear can be explained here; and without a file there
/// are no classes, which is no fault of anybody's.
fn is_wrong(read: &Loaded) -> bool {
    let mut errors = read.config.problems().of(Severity::Error);
    errors.any(|error| {
        error.against == Against::Settings && (read.file().is_some() || error.setting != "classes")
    })
}

/// What was meant by one argument: a file, or, where there is none of that name and it looks like none, a setting.
fn named(args: &ExplainArgs) -> (Option<&Path>, Option<&str>) {
    let (file, key) = (args.file.as_deref(), args.key.as_deref());
    let is_word = |text: &&str| !text.contains(std::path::is_separator) && !text.ends_with(".toml");
    match (file.filter(|file| !file.exists()).and_then(Path::to_str).filter(is_word), key) {
        (Some(word), None) => (None, Some(word)),
        _ => (file, key),
    }
}

fn no_such(file: Option<&Path>, key: &str, near: Option<&str>) -> Failure {
    let (name, command) = (clean(key, 60), "`pelton explain`");
    let of_class = |key: &str| CLASS.iter().any(|row| key.rsplit('.').next() == Some(row.info.key));
    Failure::Settings(vec![match (file, near) {
        (None, _) if of_class(key) => format!(
            "'{name}' is of a class, and without a file there are none; the name of a file before it would work"
        ),
        (None, Some(near)) => {
            format!("there is neither a file nor a setting '{name}'; '{near}' would work")
        }
        (None, None) => {
            format!("there is neither a file nor a setting '{name}'; {command} alone tells all settings")
        }
        (Some(_), Some(near)) => format!("there is no setting '{name}'; '{near}' would work"),
        (Some(_), None) => {
            format!("there is no setting '{name}'; {command} with the file alone tells all of its settings")
        }
    }])
}

fn head(page: &mut Page, read: &Loaded) -> Result<(), Failure> {
    let profile = read.config.plan().profile();
    match read.file() {
        Some((name, _)) => page.line(Ink::Bold, &format!("{}: profile {profile}", clean(name, 70))),
        None => page.line(Ink::Bold, &format!("Without a file: profile {profile}, and no classes")),
    }
}

/// Where a value came from, short enough for a column.
fn from(origin: &Origin) -> String {
    const CHARS_MAX: usize = 28;
    let text = match origin {
        Origin::File { line, .. } => format!("line {line}"),
        Origin::Command(_) => "this command".into(),
        other => other.to_string(),
    };
    clean(&text, CHARS_MAX)
}

fn show_all(page: &mut Page, read: &Loaded, all: &[Explained], memory: &Memory) -> Result<(), Failure> {
    head(page, read)?;
    let mut at = 0;
    while at < all.len() {
        // The settings of one owner stand together; the engine's come first.
        let owner = all[at].owner();
        let rows = all[at..].iter().take_while(|row| row.owner() == owner).count();
        let title = if owner.is_empty() { "Engine".into() } else { capital(&clean(owner, 60)) };
        page.title(&title)?;
        let mut table = Rows::new(4, ["setting", "value", "unit", "from", "costs"]);
        for row in &all[at..at + rows] {
            let cost = if row.cost_bytes == 0 { "–".into() } else { bytes(row.cost_bytes) };
            let value = shown(&row.value, 24);
            table.row([row.info.key.to_string(), value, row.info.unit.into(), from(&row.origin), cost]);
        }
        page.table(&mut table)?;
        at += rows;
    }
    page.raw("")?;
    page.note(&format!(
        "Footprint: {}. What a setting costs is there because it is not the least that it can be; \
         costs overlap, and `--memory` shows the sum.",
        bytes(memory.total_bytes)
    ))?;
    if read.file().is_none() {
        page.note("A class is declared in a file, or in code; `pelton init` drafts a file.")?;
    }
    for (severity, name) in [(Severity::Error, "error"), (Severity::Warning, "warning")] {
        match read.config.problems().of(severity).count() as u64 {
            count if count > 0 && read.file().is_some() => {
                page.alarm(&format!("{}: `pelton check` tells", many(count, name)))?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn show_one(page: &mut Page, row: &Explained) -> Result<(), Failure> {
    let value = clean(&format!("{} = {}", row.setting, row.value), WIDTH - 10);
    page.title(format!("{value} {}", row.info.unit).trim_end())?;
    let cost = match row.cost_bytes {
        0 => "nothing of the footprint".into(),
        cost => format!("{} of the footprint: {} bytes", bytes(cost), count(cost)),
    };
    let origin = row.origin.to_string();
    let comes_to = row.comes_to.as_deref().unwrap_or_default();
    let unit = if row.info.unit.is_empty() { String::new() } else { format!("{}, ", row.info.unit) };
    let may_be = format!("{unit}{}", row.info.kind);
    for (name, text) in [
        ("is", row.info.what),
        ("may be", &may_be),
        ("from", &origin),
        ("comes to", comes_to),
        ("costs", &cost),
        ("trades", row.info.trades),
        ("watch", row.info.watch),
    ] {
        page.fact(name, &clean(text, 2_000))?;
    }
    Ok(())
}

fn show_memory(page: &mut Page, read: &Loaded, memory: &Memory) -> Result<(), Failure> {
    head(page, read)?;
    if !memory.slots.is_empty() {
        page.title("A slot of each class, in bytes")?;
        let mut table =
            Rows::new(1, ["class", "sequence", "key", "stamp", "payload", "event", "padding", "slot"]);
        for slot in &memory.slots {
            let sizes = slot.parts().into_iter().chain([slot.slot_bytes]);
            table.row([clean(&slot.class, 24)].into_iter().chain(sizes.map(count)));
        }
        page.table(&mut table)?;
        if !memory.event_is_known {
            page.note(&format!(
                "No event_bytes is stated: reckoned with {} bytes until the type is known.",
                memory.event_bytes
            ))?;
        }
    }
    page.title("Terms")?;
    let mut table = Rows::new(2, ["of", "term", "count", "bytes each", "bytes"]);
    for group in &memory.groups {
        for (at, term) in group.terms.iter().enumerate() {
            let name = if at == 0 { group.name } else { "" };
            let figures = [term.count, term.bytes_each, term.bytes].map(count);
            table.row([name.to_string(), clean(&term.name, 44)].into_iter().chain(figures));
        }
    }
    table.row(["", "total", "", "", &count(memory.total_bytes)]).last_is_sum();
    page.table(&mut table)?;
    page.note(&format!("{}: what a start takes, to the byte.", bytes(memory.total_bytes)))
}
