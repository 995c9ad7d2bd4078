//! `pelton diff`: what differs between two configurations in effect.

use crate::failure::Failure;
use crate::output::format::{capital, clean, count, shown};
use crate::output::page::{self, Page, Rows};
use crate::output::problems;
use crate::settings::config::{self, Loaded, shared};
use crate::settings::config_args::DiffArgs;
use crate::settings::diff::{Diff, Side};
use pelton::config::{Origin, Scope};
use pelton::engine::Value;
use serde::Serialize;
use std::path::Path;

#[derive(Serialize)]
struct Root<'a> {
    before: &'a str,
    after: &'a str,
    same: bool,
    #[serde(flatten)]
    diff: &'a Diff,
}

/// Exit code where they differ.
const DIFFER: u8 = 1;

pub fn run(args: &DiffArgs) -> Result<(), Failure> {
    let (before, after) = (read(&args.before)?, read(&args.after)?);
    let [one, two] = [&before, &after].map(|read| shared(&read.tables));
    let diff = Diff::between((&before.config, &one), (&after.config, &two), Scope::default());
    let names = [before.file_name(), after.file_name()];
    let written = page::print(|page| {
        if args.json {
            let root = Root { before: names[0], after: names[1], same: diff.is_empty(), diff: &diff };
            page.raw(&serde_json::to_string(&root).expect("all keys are strings, and there are no floats"))
        } else {
            show(page, names, &diff)
        }
    });
    if diff.is_empty() { written } else { Err(Failure::Told(DIFFER)) }
}

/// A file by itself: the environment would cover what differs.
fn read(file: &Path) -> Result<Loaded, Failure> {
    let read = config::resolved(config::of_file(Some(file))?, None);
    match problems::code(read.config.problems(), false) {
        0 => Ok(read),
        code => Err(problems::refused(&read, code)),
    }
}

fn side(side: &Option<Side>) -> String {
    let Some(Side { value, origin }) = side else { return "–".into() };
    let origin = match origin {
        Origin::File { line, .. } => format!("line {line}"),
        other => other.to_string(),
    };
    format!("{} ({origin})", shown(value, 20))
}

fn figure(value: &Value, unit: &str) -> String {
    match value {
        Value::Whole(n) => format!("{} {unit}", count(*n)),
        other => clean(&other.to_string(), 34),
    }
}

fn show(page: &mut Page, names: [&str; 2], diff: &Diff) -> Result<(), Failure> {
    let [before, after] = names.map(|name| clean(name, 28));
    if diff.is_empty() {
        return page.raw(&format!("{before} and {after} are the same in effect"));
    }
    for (names, which) in [(&diff.added, &after), (&diff.removed, &before)] {
        for name in names {
            page.raw(&format!("{} is in {which} alone", capital(&clean(name, 48))))?;
        }
    }
    if !diff.settings.is_empty() {
        page.title("Settings")?;
        let mut table = Rows::new(4, ["setting", &before, &after, "unit"]);
        for change in &diff.settings {
            let setting = clean(&change.setting, 120);
            table.row([setting, side(&change.before), side(&change.after), change.unit.into()]);
        }
        page.table(&mut table)?;
    }
    if !diff.follows.is_empty() {
        page.title("What follows")?;
        let mut table = Rows::new(1, ["figure", &before, &after]);
        for follows in &diff.follows {
            let figures = [&follows.before, &follows.after].map(|value| figure(value, follows.unit));
            table.row([clean(&follows.what, 60)].into_iter().chain(figures));
        }
        page.table(&mut table)?;
    }
    Ok(())
}
