//! Layers: what a profile or a command says, then a file, then the environment, then options; the last one counts.
//!
//! # Mechanism
//! Everything that somebody wrote is collected by setting, with its origin. Then each table goes through its rows: all that
//! was written for a row is read (so that a wrong value is told even where a later layer would cover it), and the last that
//! can be read is set. What the rows cannot know is left to the plan's own rules, whose findings get the origin of
//! the setting that they name.

use super::collect::{Base, Candidates, Collected, Part, Sources};
use super::document;
use super::origin::{Origin, Origins};
use super::problem::{Problem, Problems, Rule};
use super::table::{Rows, Table, classes};
use crate::engine::{ENGINE, InvalidValue, Kind, Plan, PlanError, Profile, SIZED, Severity, Value};
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

impl Scope<'_> {
    /// The layout of the event that a plan's memory is computed with.
    ///
    /// # Examples
    /// ```
    /// use pelton::config::Scope;
    /// use pelton::ring::event_layout;
    /// use pelton::{Plan, Profile};
    ///
    /// let plan = Plan::new(Profile::Dev).with_event_bytes(40);
    /// assert_eq!(Scope::default().event_of(&plan).size(), 40);
    /// let known = Scope { event: Some(event_layout::<u64>()), host: None };
    /// assert_eq!(known.event_of(&plan).size(), 8);
    /// ```
    pub fn event_of(&self, plan: &Plan) -> Layout {
        self.event.unwrap_or_else(|| plan.event_layout())
    }
}

/// A configuration: what is in effect, where it came from, and what is wrong with it.
#[derive(Clone, Debug)]
pub struct Config {
    plan: Plan,
    origins: Origins,
    problems: Problems,
    /// Whether the file is TOML. One that is not may have lost any setting, so nothing is checked against another.
    is_toml: bool,
}

/// A default that follows from other settings. It is for a setting that nobody wrote.
pub struct DerivedDefault<T> {
    /// The setting's name among all: of the engine (`producers_max`), or of the table of a `T` (`replay: producers`).
    pub setting: &'static str,
    /// Computes the default; `None` leaves the setting as it is.
    pub value: fn(&T, &Plan) -> Option<Value>,
    /// Why it is so, for the explanation.
    pub why: &'static str,
}

impl<T> std::fmt::Debug for DerivedDefault<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DerivedDefault").field("setting", &self.setting).finish_non_exhaustive()
    }
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

    /// Fills in defaults that follow from the settings of `table` and of the engine, one after the other.
    ///
    /// ```
    /// use pelton::config::{Base, DerivedDefault, Rows, Scope, Sources, layer};
    /// use pelton::{Class, Plan, Profile, engine::Kind, settings};
    ///
    /// struct Load { threads: u16 }
    /// settings! {
    ///     const LOAD: Load { threads: threads = Kind::whole(1, 64), what: "how many threads publish"; }
    /// }
    /// # let plan = |profile| {
    /// #     let mut plan = Plan::new(profile);
    /// #     plan.class(Class::strict("only"));
    /// #     plan
    /// # };
    /// let base = Base { plan: &plan, profile: Some(Profile::Dev), fixed_classes: true, why: &[] };
    /// let mut load = Rows::one("load", LOAD, Load { threads: 1 });
    /// let sources = Sources::default().with_option("load.threads", "3");
    /// let mut config = layer(&sources, &base, &mut [&mut load]);
    /// config.derive(&mut load, &[DerivedDefault {
    ///     setting: "producers_max",
    ///     value: |load, _| Some(load.threads.into()),
    ///     why: "one for each thread",
    /// }]);
    /// config.check(Scope::default());
    /// assert_eq!(config.into_plan()?.producers_max(), 3);
    /// # Ok::<(), pelton::config::Problems>(())
    /// ```
    pub fn derive<T>(&mut self, table: &mut Rows<T>, defaults: &[DerivedDefault<T>]) {
        for default in defaults {
            let origin = self.origins.of(default.setting);
            if origin.is_some_and(|origin| !matches!(origin, Origin::Command(_))) {
                continue;
            }
            let Some(value) = (default.value)(&table.items()[0], &self.plan) else { continue };
            if let Some(row) = ENGINE.iter().find(|row| row.info.key == default.setting) {
                self.plan.settled.push((row.info.key, value.clone()));
                row.set(&mut self.plan, value);
            } else if let Some((_, key)) = default.setting.split_once(": ") {
                table.set_key(key, value);
            }
            self.origins.set(default.setting.into(), Origin::Command(default.why.into()));
        }
    }

    /// Changes what the plan reserves.
    ///
    /// ```
    /// # use pelton::{Profile, memory::footprint::Group};
    /// # use pelton::config::{Sources, read};
    /// # let text = "profile = \"dev\"".to_string();
    /// # let sources = Sources { file: Some(("a.toml".into(), text)), ..Sources::default() };
    /// let mut config = read(&sources, None);
    /// config.reserve(|plan| plan.reserve("books", 4_096));
    /// assert_eq!(config.plan().footprint::<u64>().group_bytes(Group::Handler), 4_096);
    /// ```
    pub fn reserve(&mut self, reserve: impl FnOnce(Plan) -> Plan) {
        self.plan = reserve(self.plan.clone());
    }

    /// Checks the plan, with a host also against that.
    pub fn check(&mut self, scope: Scope<'_>) {
        if self.is_toml {
            let mut findings = self.plan.findings(scope.event_of(&self.plan), scope.host);
            findings.retain(|finding| self.is_founded(finding));
            self.add(&findings);
        }
        self.problems.sort();
    }

    /// Adds what a room above finds, in the words of a plan.
    ///
    /// ```
    /// # use pelton::config::{Sources, read};
    /// # let text = "profile = \"dev\"\nburst_events = 64\n".to_string();
    /// # let sources = Sources { file: Some(("a.toml".into(), text)), ..Sources::default() };
    /// use pelton::engine::PlanError;
    /// let mut config = read(&sources, None);
    /// config.add(&[PlanError::new("burst_events", 64, "at most 32 for this program", 32)]);
    /// let text = config.problems().to_string();
    /// assert!(text.contains("a.toml:2: burst_events is 64: must be at most 32 for this program; 32 would work"));
    /// ```
    pub fn add(&mut self, findings: &[PlanError]) {
        self.add_near(findings, &|_| None);
    }

    /// The same; what is found of a setting that nobody wrote stands at another one.
    ///
    /// ```
    /// # use pelton::config::{Sources, read};
    /// # let text = "profile = \"dev\"\nburst_events = 64\n".to_string();
    /// # let sources = Sources { file: Some(("a.toml".into(), text)), ..Sources::default() };
    /// use pelton::engine::PlanError;
    /// let mut config = read(&sources, None);
    /// let error = PlanError::new("load: threads", 3, "at most 2", 2);      // nobody wrote it
    /// config.add_near(&[error], &|_| Some("burst_events".into()));
    /// assert!(config.problems().to_string().contains("a.toml:2: load: threads is 3: must be at most 2"));
    /// ```
    pub fn add_near(&mut self, findings: &[PlanError], near: &dyn Fn(&PlanError) -> Option<String>) {
        let found = findings.iter().map(|error| self.problem(error, near(error))).collect::<Vec<_>>();
        self.problems.0.extend(found);
        self.problems.sort();
    }

    /// Removes problems that do a program no harm.
    ///
    /// ```
    /// # use pelton::config::{Rule, Sources, read};
    /// # let text = "profile = \"dev\"\nshard = 2\n".to_string();
    /// # let sources = Sources { file: Some(("a.toml".into(), text)), ..Sources::default() };
    /// let mut config = read(&sources, None);
    /// assert!(config.problems().0.iter().any(|problem| problem.rule == Rule::Unknown));
    /// config.dismiss(|problem| problem.rule == Rule::Unknown);
    /// assert!(config.problems().0.iter().all(|problem| problem.rule != Rule::Unknown));
    /// ```
    pub fn dismiss(&mut self, is_harmless: impl Fn(&Problem) -> bool) {
        self.problems.0.retain(|problem| !is_harmless(problem));
    }

    /// The plan, if an engine may be started from it.
    ///
    /// # Errors
    /// [`Problems`], advice among them.
    ///
    /// # Examples
    /// ```
    /// # use pelton::config::{Sources, read};
    /// let sources = Sources { file: Some(("a.toml".into(), "shards = 1".into())), ..Sources::default() };
    /// let problems = read(&sources, None).into_plan().unwrap_err();
    /// println!("{problems}");          // all that is wrong, a line each
    /// ```
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

    fn problem(&self, error: &PlanError, near: Option<String>) -> Problem {
        let of = |setting: &str| self.origins.of(setting).cloned();
        // The footprint is no setting: it is pointed at where its limit is, or where most of it comes from.
        let is_engines = ENGINE.iter().any(|row| row.info.key == error.setting);
        let origin = of(&error.setting).or_else(|| {
            if is_engines {
                // What nobody wrote is as the profile has it.
                return Some(Origin::Profile(self.plan.profile()));
            }
            if !error.setting.starts_with("footprint") {
                let near = near.and_then(|near| of(&near));
                // What an item lacks stands where it begins.
                let owner = || error.setting.strip_suffix(error.key());
                return near.or_else(|| of(&format!("{}name", owner()?)));
            }
            let footprint = self.plan.footprint_of(self.plan.event_layout());
            let largest = footprint.terms.iter().max_by_key(|term| term.bytes())?;
            let class = largest.name.rsplit_once(": ").map_or("", |(class, _)| class);
            of("memory_max_bytes").or_else(|| of(&format!("{class}: capacity_slots")))
        });
        Problem::of_plan(error, origin)
    }
}

/// Lays everything that was written over what the base has, and checks it. `tables` are those of the command, changed in
/// place.
///
/// ```
/// use pelton::config::{Base, Scope, Sources, resolve};
/// use pelton::{Class, Plan, Profile};
///
/// let plan = |profile| {
///     let mut plan = Plan::new(profile);
///     plan.class(Class::strict("orders"));
///     plan
/// };
/// let base = Base { plan: &plan, profile: Some(Profile::Dev), fixed_classes: true, why: &[] };
/// let sources = Sources::default().with_option("class", "orders:capacity_slots=64");
/// let plan = resolve(&sources, &base, &mut [], Scope::default()).into_plan()?;
/// assert_eq!(plan.classes()[0].capacity(), 64);
/// # Ok::<(), pelton::config::Problems>(())
/// ```
pub fn resolve(
    sources: &Sources,
    base: &Base<'_>,
    tables: &mut [&mut dyn Table],
    scope: Scope<'_>,
) -> Config {
    let mut config = layer(sources, base, tables);
    config.check(scope);
    config
}

/// Lays everything that was written over what the base has, for a command that has defaults to [derive](Config::derive)
/// before it [checks](Config::check) the plan.
pub fn layer(sources: &Sources, base: &Base<'_>, tables: &mut [&mut dyn Table]) -> Config {
    let mut known: Vec<Part> = vec![Part::of(&engine(Plan::new(Profile::Dev)))];
    known.push(Part::of(&classes(Vec::new())));
    known.extend(tables.iter().map(|table| Part::of(*table)));
    let document = sources.file.as_ref().map(|(name, text)| document::read(name, text)).unwrap_or_default();
    let is_toml = document.problems.is_empty();
    if base.fixed_classes {
        let own = (base.plan)(Profile::Dev);
        known[1].is_fixed = true;
        known[1].items =
            own.classes().iter().map(|class| (class.name().to_string(), Candidates::new())).collect();
    }
    let mut all = Collected { parts: known, problems: Vec::new() };
    all.take_document(document);
    let mut origins = Origins::default();
    let plan = all.start(sources, base, is_toml, &mut origins);
    all.take_environment(&sources.environment);
    all.take_options(&sources.options);

    let Collected { parts, mut problems } = all;
    let (own, others) = parts.split_at(2);
    let mut engine = engine(plan);
    take(&mut engine, &own[0], &mut origins, &mut problems);
    let mut plan = engine.into_one();
    for (table, part) in tables.iter_mut().zip(others) {
        take(*table, part, &mut origins, &mut problems);
    }
    let mut classes = classes(plan.classes);
    take(&mut classes, &own[1], &mut origins, &mut problems);
    plan.classes = classes.into_items();
    Config { plan, origins, problems: Problems(problems), is_toml }
}

/// The table of the engine.
fn engine(plan: Plan) -> Rows<Plan> {
    Rows::one("", ENGINE, plan)
}

/// Sets what was written for a table, or for each of a list.
fn take(table: &mut dyn Table, part: &Part, origins: &mut Origins, problems: &mut Vec<Problem>) {
    let Some(listed) = part.list_spec else {
        return apply((table, 0), &part.items[0].1, origins, problems);
    };
    // Far too many are refused by their number; none of them need be read.
    let items = &part.items[..part.items.len().min(4 * listed.most + 1)];
    if !part.is_fixed {
        table.resize(items.len());
    }
    let Some(row) = table.row_of("name") else { return };
    for (at, (title, written)) in items.iter().enumerate() {
        let item = match part.is_fixed {
            true => (0..table.count()).find(|item| table.get(*item, row).word() == title),
            false => Some(at),
        };
        let Some(item) = item else { continue };
        table.set(item, row, title.clone().into());
        apply((table, item), written, origins, problems);
        if let Some(origin) = origins.of(&table.setting(item, row)).cloned() {
            // A name that two of them have is told by their number: from 0 in code, from 1 where they stand in a file.
            origins.set(format!("[[{}]] {}: name", part.name, at + 1), origin.clone());
            origins.set(format!("{} {at}: name", part.name), origin);
        }
    }
}

/// Goes through the rows of an item.
fn apply(
    (table, item): (&mut dyn Table, usize),
    written: &Candidates,
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
                    table.set(item, at, value.clone());
                    origins.set(table.setting(item, at), candidate.at.clone());
                    written_last.retain(|(other, ..)| *other != at);
                    written_last.push((at, value, candidate.at.clone()));
                }
                Err(InvalidValue { expected, suggestion }) => {
                    let setting = table.setting(item, at);
                    // What should be a secret is not told, whatever it is.
                    let text = match row.kind {
                        Kind::Secret => "a value that is not shown".to_string(),
                        _ => text.to_string(),
                    };
                    let texts = [
                        format!("{setting} is {text}"),
                        format!("must be {expected}"),
                        format!("{suggestion} would work"),
                    ];
                    problems.push(Problem::new(Rule::Value, setting, Some(candidate.at.clone()), texts));
                }
            }
        }
    }
    // A value that did not stay has no use beside that of another setting.
    for (at, value, origin) in written_last {
        let Some((other, word)) = rows[at].needs.filter(|_| table.get(item, at) != value) else { continue };
        let found = rows.iter().position(|row| row.key == other).map(|at| table.get(item, at).to_string());
        let setting = table.setting(item, at);
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
