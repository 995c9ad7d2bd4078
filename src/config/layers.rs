//! Layers: what a profile or a command says, then a file, then the environment, then options; the last one counts.
//!
//! # Mechanism
//! Everything that somebody wrote is collected by setting, with its origin. Then each table goes through its rows: all that
//! was written for a row is read (so that a wrong value is told even where a later layer would cover it), and the last that
//! can be read is set. What the rows cannot know is left to the plan's own rules, whose findings get the origin of
//! the setting that they name.
#![forbid(unsafe_code)]

use super::collect::{Base, Candidates, Collected, Sources};
use super::document;
use super::origin::{Origin, Origins};
use super::problem::{Problem, Problems, Rule};
use super::table::{Rows, Table};
use crate::class::{CLASSES_MAX, Class};
use crate::engine::{CLASS, ENGINE, Kind, Plan, PlanError, Profile, SIZED, Severity, Unfit, Value};
use crate::host::Host;
use std::alloc::Layout;

/// What rules need to know besides the settings.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scope<'a> {
    /// The layout of the event's type. Without it, what `event_bytes` says.
    pub event: Option<Layout>,
    /// The host; without it, rules of the host are left out.
    pub host: Option<&'a Host>,
}

/// A configuration: what is in effect, where it came from, and what is wrong with it.
#[derive(Clone, Debug)]
pub struct Config {
    plan: Plan,
    origins: Origins,
    problems: Problems,
}

impl Config {
    /// The plan in effect. Where there are errors it is not one to start from.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Where each setting came from.
    pub fn origins(&self) -> &Origins {
        &self.origins
    }

    /// All that is wrong, and all advice.
    pub fn problems(&self) -> &Problems {
        &self.problems
    }

    /// Adds what a room above finds, in the words of a plan.
    pub fn add(&mut self, findings: &[PlanError]) {
        let found = findings.iter().map(|error| self.problem(error)).collect::<Vec<_>>();
        self.problems.0.extend(found);
        self.problems.sort();
    }

    /// The plan, if an engine may be started from it.
    ///
    /// # Errors
    /// [`Problems`], advice among them.
    pub fn into_plan(self) -> Result<Plan, Problems> {
        if self.problems.has_errors() { Err(self.problems) } else { Ok(self.plan) }
    }

    /// Whether a finding reckons with what was meant: not with a setting that could not be read, or was not found. Advice
    /// waits until there is nothing worse.
    fn is_founded(&self, finding: &PlanError) -> bool {
        if finding.severity == Severity::Warning {
            return !self.problems.has_errors();
        }
        let mut unread = self.problems.0.iter().filter(|problem| problem.severity == Severity::Error);
        let parts = |setting| str::rsplit_once(setting, ": ").unwrap_or(("", setting));
        let (owner, key) = parts(&finding.setting);
        !unread.any(|problem| {
            let (its_owner, its_key) = parts(&problem.setting);
            match key {
                _ if problem.setting == finding.setting => true,
                // A block that is none of a class may have been meant for one.
                "classes" => problem.rule == Rule::Unknown || its_owner.starts_with("class "),
                "payload_max_bytes" => its_key == "payload_ring_bytes" && its_owner == owner,
                "pinned" => its_key == "cpus",
                "shards" => ["cpus", "overcommitted"].contains(&its_key),
                _ => key.starts_with("footprint") && SIZED.contains(&its_key),
            }
        })
    }

    fn problem(&self, error: &PlanError) -> Problem {
        let of = |setting: &str| self.origins.of(setting).cloned();
        // The footprint is no setting: it is pointed at where its limit is, or where most of it comes from.
        let is_engines = ENGINE.iter().any(|row| row.key == error.setting);
        let origin = of(&error.setting).or_else(|| {
            if is_engines {
                // What nobody wrote is as the profile has it.
                return Some(Origin::Profile(self.plan.profile()));
            }
            if !error.setting.starts_with("footprint") {
                return None;
            }
            let footprint = self.plan.footprint_of(self.plan.event_layout());
            let largest = footprint.terms.iter().max_by_key(|term| term.bytes())?;
            let class = largest.name.rsplit_once(": ").map_or("", |(class, _)| class);
            of("memory_max_bytes").or_else(|| of(&format!("{class}: capacity_slots")))
        });
        Problem::of_plan(error, origin)
    }
}

/// Lays everything that was written over what the base has. `tables` are those of the command, changed in place.
pub fn resolve(
    sources: &Sources,
    base: &Base<'_>,
    tables: &mut [&mut dyn Table],
    scope: Scope<'_>,
) -> Config {
    let mut all = Collected::default();
    let document = sources.file.as_ref().map(|(name, text)| document::read(name, text)).unwrap_or_default();
    let is_toml = document.problems.is_empty();
    if base.fixed_classes {
        let own = (base.plan)(Profile::Dev);
        all.classes =
            own.classes().iter().map(|class| (class.name().to_string(), Candidates::new())).collect();
    }
    all.take_document(document, base, tables);
    let mut origins = Origins::default();
    let mut plan = all.start(sources, base, is_toml, &mut origins);
    all.take_environment(&sources.environment, tables);
    all.take_options(&sources.options, tables);

    let name =
        |table: &str, key: &str| if table.is_empty() { key.to_string() } else { format!("{table}: {key}") };
    let mut engine = Rows { name: "", rows: ENGINE, of: &mut plan };
    let Collected { engine: written, classes, tables: others, mut problems } = all;
    apply(&mut engine, &written, |key| name("", key), &mut origins, &mut problems);
    for table in tables {
        let title = table.name().to_string();
        if let Some(written) = others.get(&title) {
            apply(*table, written, |key| name(&title, key), &mut origins, &mut problems);
        }
    }
    for (at, (title, written)) in classes.iter().enumerate() {
        let own = plan.class_named(title);
        let class = match own.filter(|_| base.fixed_classes) {
            Some(own) => Some(own),
            // So many are refused by number; none of them need be read.
            None if at > 4 * CLASSES_MAX => break,
            None => Some(plan.class(Class::strict(title))),
        };
        let Some(class) = class.and_then(|class| plan.class_mut(class)) else { continue };
        let mut rows = Rows { name: title, rows: CLASS, of: class };
        apply(&mut rows, written, |key| format!("class '{title}': {key}"), &mut origins, &mut problems);
        if let Some(origin) = origins.of(&format!("class '{title}': name")).cloned() {
            // A name that two classes have is told by their number.
            origins.set(format!("class {at}: name"), origin);
        }
    }
    let mut config = Config { plan, origins, problems: Problems(problems) };
    // What is no TOML may have lost any setting.
    if is_toml {
        let event = scope.event.unwrap_or_else(|| config.plan.event_layout());
        let mut findings = config.plan.findings(event, scope.host);
        findings.retain(|finding| config.is_founded(finding));
        config.add(&findings);
    }
    config.problems.sort();
    config
}

/// Goes through the rows of a table.
fn apply(
    table: &mut dyn Table,
    written: &Candidates,
    name: impl Fn(&str) -> String,
    origins: &mut Origins,
    problems: &mut Vec<Problem>,
) {
    let rows = table.rows();
    let mut written_last: Vec<(usize, Value, Origin)> = Vec::new();
    for (at, row) in rows.iter().enumerate() {
        for candidate in written.get(row.key).into_iter().flatten() {
            let text = candidate.written();
            match row.kind.read(&text) {
                Ok(value) => {
                    table.set(at, value.clone());
                    origins.set(name(row.key), candidate.at.clone());
                    written_last.retain(|(other, ..)| *other != at);
                    written_last.push((at, value, candidate.at.clone()));
                }
                Err(Unfit { limit, works }) => {
                    let setting = name(row.key);
                    // What should be a secret is not told, whatever it is.
                    let text = match row.kind {
                        Kind::Secret => "a value that is not shown".to_string(),
                        _ => text.to_string(),
                    };
                    let texts = [
                        format!("{setting} is {text}"),
                        format!("must be {limit}"),
                        format!("{works} would work"),
                    ];
                    problems.push(Problem::new(Rule::Value, setting, Some(candidate.at.clone()), texts));
                }
            }
        }
    }
    // A value that did not stay has no use beside that of another setting.
    for (at, value, origin) in written_last {
        let Some((other, word)) = rows[at].needs.filter(|_| table.get(at) != value) else { continue };
        let found = rows.iter().position(|row| row.key == other).map(|at| table.get(at).to_string());
        let setting = name(rows[at].key);
        let texts = [
            format!("{setting} is {value}"),
            format!("has no use where {other} is '{}'", found.unwrap_or_default()),
            match &value {
                Value::Word(_) => "leaving it out would work".to_string(),
                _ => format!("{other} = \"{word}\", or leaving it out, would work"),
            },
        ];
        problems.push(Problem::new(Rule::Useless, setting, Some(origin), texts));
    }
}
