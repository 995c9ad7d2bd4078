//! `pelton check`: all that is wrong with a configuration, each with its place.

use crate::failure::Failure;
use crate::machine;
use crate::output::format::{bytes, clean, many};
use crate::output::page;
use crate::output::problems;
use crate::settings::config;
use crate::settings::config_args::CheckArgs;
use crate::settings::memory::Memory;
use pelton::config::{Config, Origin, Problem, Scope};
use pelton::engine::{Against, Severity};
use serde::Serialize;

/// Everything as one JSON object.
#[derive(Serialize)]
struct Root<'a> {
    file: &'a str,
    profile: &'static str,
    errors: usize,
    warnings: usize,
    footprint_bytes: Option<u64>,
    problems: Vec<Told<'a>>,
}

#[derive(Serialize)]
struct Told<'a> {
    rule: &'static str,
    severity: &'static str,
    against: &'static str,
    setting: &'a str,
    /// Where it stands, if not in the file: a variable or an option.
    from: Option<String>,
    file: Option<&'a str>,
    line: Option<usize>,
    /// In characters.
    column: Option<usize>,
    /// In bytes of the file: the first, and the one behind the last.
    span: Option<[usize; 2]>,
    what: &'a str,
    why: &'a str,
    fix: &'a str,
}

impl<'a> Told<'a> {
    fn of(problem: &'a Problem) -> Self {
        let Problem { rule, severity, against, setting, origin, what, why, fix } = problem;
        let (mut from, mut file, mut line, mut column, mut place) = (None, None, None, None, None);
        match origin {
            Some(Origin::File { name, line: at, column: in_line, span }) => {
                (file, line, column) = (Some(name.as_str()), Some(*at), Some(*in_line));
                place = Some([span.start, span.end]);
            }
            origin => from = origin.as_ref().map(Origin::to_string),
        }
        Told {
            rule: rule.name(),
            severity: if *severity == Severity::Error { "error" } else { "warning" },
            against: if *against == Against::Host { "host" } else { "settings" },
            setting,
            from,
            file,
            line,
            column,
            span: place,
            what,
            why,
            fix,
        }
    }
}

pub fn run(args: &CheckArgs) -> Result<(), Failure> {
    // As it is when the file is served.
    machine::raise_descriptors();
    let read = config::read(Some(&args.file), &args.settings.options, args.no_host)?;
    let (config, name) = (&read.config, read.file_name());
    let code = problems::code(config.problems(), args.deny_warnings);
    let written = page::print(|page| {
        if args.json {
            page.raw(&json(config, name, read.scope()))
        } else if config.problems().0.is_empty() {
            page.raw(&good(config, name, read.scope()))
        } else {
            problems::show(page, config.problems(), read.file())
        }
    });
    if code == 0 { written } else { Err(Failure::Told(code)) }
}

fn good(config: &Config, name: &str, scope: Scope<'_>) -> String {
    let plan = config.plan();
    format!(
        "{}: good. Profile {}, {}, {}, {} of memory",
        clean(name, 60),
        plan.profile(),
        many(plan.placements().len() as u64, "shard"),
        many(plan.classes().len() as u64, "class"),
        bytes(Memory::of(plan, scope).total_bytes),
    )
}

fn json(config: &Config, name: &str, scope: Scope<'_>) -> String {
    let problems = config.problems();
    let root = Root {
        file: name,
        profile: config.plan().profile().name(),
        errors: problems.of(Severity::Error).count(),
        warnings: problems.of(Severity::Warning).count(),
        footprint_bytes: (!problems.has_errors()).then(|| Memory::of(config.plan(), scope).total_bytes),
        problems: problems.0.iter().map(Told::of).collect(),
    };
    serde_json::to_string(&root).expect("all keys are strings, and there are no floats")
}
