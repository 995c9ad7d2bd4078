//! Collecting: everything that somebody wrote, sorted by the setting that it is for.
#![forbid(unsafe_code)]

use super::document::{Block, Document, Entry, Owned};
use super::origin::{Origin, Origins};
use super::problem::{Problem, Rule};
use super::table::Table;
use crate::engine::{CLASS, ENGINE, Plan, Profile, Written};
use std::collections::BTreeMap;

/// What every variable of the environment begins with.
pub const PREFIX: &str = "PELTON_";

/// Variables that begin like settings and belong to tests and scripts.
const NO_SETTINGS: [&str; 7] = [
    "PELTON_TEST_",
    "PELTON_PERF_",
    "PELTON_SOAK_",
    "PELTON_FAULTS_",
    "PELTON_FUZZ_",
    "PELTON_COUNTING",
    "PELTON_COUNTS_",
];

/// Settings of a class that a file must name: what is lost under load, and what comes first, is nobody's default.
pub const NAMED: [&str; 4] = ["name", "share", "capacity_slots", "overflow"];

/// Everything that somebody wrote.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// A file: its name, and what it holds.
    pub file: Option<(String, String)>,
    /// Variables, in any order. Those that do not begin with [`PREFIX`] are passed over.
    pub environment: Vec<(String, String)>,
    /// Options, by the keys of the settings, those of a table behind its name: `replay.loop`; `class` has the form
    /// `NAME:KEY=VALUE[,KEY=VALUE…]`. Of two for the same setting the later one counts.
    pub options: Vec<(String, String)>,
}

/// What the layers are laid on.
pub struct Base<'a> {
    /// Makes the plan of a profile, as the command would have it.
    pub plan: &'a dyn Fn(Profile) -> Plan,
    /// The profile, where there is no file to name one. A library's user names it always.
    pub profile: Option<Profile>,
    /// Whether the classes are the command's, so that a file may change them and declare no others.
    pub fixed_classes: bool,
    /// Settings that are not as the profile has them, each with the reason.
    pub why: &'a [(&'a str, &'a str)],
}

/// One value that somebody wrote for a setting.
pub(super) struct Candidate {
    value: Owned,
    pub at: Origin,
    /// An option or a variable: its text has no type yet.
    bare: bool,
}

impl Candidate {
    fn bare(text: &str, at: Origin) -> Self {
        Candidate { value: Owned::Text(text.to_string()), at, bare: true }
    }

    pub fn written(&self) -> Written<'_> {
        match &self.value {
            Owned::Text(text) if self.bare => Written::Bare(text),
            value => value.written(),
        }
    }
}

impl From<Entry> for Candidate {
    fn from(entry: Entry) -> Self {
        Candidate { value: entry.value, at: entry.value_at, bare: false }
    }
}

/// What was written for the settings of one table, by key; the last one counts.
pub(super) type Candidates = BTreeMap<String, Vec<Candidate>>;

/// What is collected of all sources.
#[derive(Default)]
pub(super) struct Collected {
    pub engine: Candidates,
    /// By the name of the class.
    pub classes: Vec<(String, Candidates)>,
    /// By the name of the table.
    pub tables: BTreeMap<String, Candidates>,
    pub problems: Vec<Problem>,
}

/// The key that is most like a word.
pub(super) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Below this two words have little in common but their letters.
    const LIKE: f64 = 0.75;
    // Longer than any key, and comparing takes a time that grows with it.
    const BYTES_MAX: usize = 100;
    if word.len() > BYTES_MAX {
        return None;
    }
    let like = |key: &&str| strsim::jaro_winkler(word, key);
    known.filter(|key| like(key) > LIKE).max_by(|a, b| like(a).total_cmp(&like(b)))
}

/// A name as variables of the environment have it.
fn upper(text: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    text.chars().map(letter).collect()
}

fn engine_keys() -> impl Iterator<Item = &'static str> {
    ENGINE.iter().map(|row| row.key)
}

fn class_keys() -> impl Iterator<Item = &'static str> {
    CLASS.iter().map(|row| row.key)
}

impl Collected {
    /// Something that is no setting.
    fn unknown<'a>(
        &mut self,
        what: String,
        at: Origin,
        word: &str,
        known: impl Iterator<Item = &'a str> + Clone,
        hint: Option<String>,
    ) {
        // Nobody reads the hints of so many, and each is a comparison with all that is known.
        const HINTS_MAX: usize = 1_000;
        let near = || {
            let hints = self.problems.len() < HINTS_MAX && hint.is_none();
            hints.then(|| nearest(word, known.clone())).flatten().map(|near| format!("'{near}' would work"))
        };
        let all = || match known.clone().collect::<Vec<_>>()[..] {
            [one] => format!("'{one}' would work"),
            ref all => format!("one of {} would work", all.join(", ")),
        };
        let fix = near().or(hint.clone()).unwrap_or_else(all);
        let texts = [what, "whatever is not known is refused, so that nothing is ignored".to_string(), fix];
        self.problems.push(Problem::new(Rule::Unknown, word, Some(at), texts));
    }

    pub fn take_document(&mut self, document: Document, base: &Base<'_>, tables: &[&mut dyn Table]) {
        self.problems.extend(document.problems);
        let names: Vec<_> = tables.iter().map(|table| table.name().to_string()).collect();
        for entry in document.entries {
            if engine_keys().any(|key| key == entry.key) {
                self.engine.entry(entry.key.clone()).or_default().push(entry.into());
                continue;
            }
            let hint = match entry.key.as_str() {
                "class" => Some("[[class]] for each class would work".to_string()),
                key if class_keys().any(|known| known == key) => {
                    Some(format!("in a [[class]] '{key}' would work"))
                }
                _ => None,
            };
            let what = format!("'{}' is no setting of the engine", entry.key);
            self.unknown(what, entry.key_at, &entry.key, engine_keys().collect::<Vec<_>>().into_iter(), hint);
        }
        let mut classes = 0;
        for block in document.blocks {
            match (block.name.as_str(), block.listed) {
                ("class", true) => {
                    self.take_class(block, classes, base);
                    classes += 1;
                }
                (name, false) if names.iter().any(|known| known == name) => {
                    let at = names.iter().position(|known| known == name).unwrap_or_default();
                    let keys: Vec<_> = tables[at].rows().iter().map(|row| row.key).collect();
                    for entry in block.entries {
                        if keys.contains(&entry.key.as_str()) {
                            let table = self.tables.entry(block.name.clone()).or_default();
                            table.entry(entry.key.clone()).or_default().push(entry.into());
                        } else {
                            let what = format!("'{}' is no setting of [{}]", entry.key, block.name);
                            let hint = engine_keys()
                                .any(|key| key == entry.key)
                                .then(|| format!("'{}' above all tables would work", entry.key));
                            self.unknown(what, entry.key_at, &entry.key, keys.iter().copied(), hint);
                        }
                    }
                }
                (name, listed) => {
                    let known: Vec<_> = names.iter().map(String::as_str).chain(["class"]).collect();
                    let (what, hint) = match (name, listed) {
                        ("class", false) => (
                            "[class] is one table".to_string(),
                            Some("[[class]] for each class would work".into()),
                        ),
                        (_, true) if names.iter().any(|known| known == name) => {
                            (format!("[[{name}]] is a list of tables"), Some(format!("[{name}] would work")))
                        }
                        _ => {
                            let near = nearest(name, known.iter().copied());
                            let table = near.map(|near| match near {
                                "class" => "[[class]] would work".to_string(),
                                near => format!("[{near}] would work"),
                            });
                            (format!("[{name}] is no table of this configuration"), table)
                        }
                    };
                    self.unknown(what, block.at.clone(), name, known.into_iter(), hint);
                }
            }
        }
    }

    fn take_class(&mut self, block: Block, at: usize, base: &Base<'_>) {
        let name =
            block.entries.iter().find(|entry| entry.key == "name").and_then(|entry| match &entry.value {
                Owned::Text(name) => Some((name.clone(), entry.value_at.clone())),
                _ => None,
            });
        let title = name.as_ref().map_or_else(|| format!("class{at}"), |(name, _)| name.clone());
        // Where they are declared here there may be many, and none is looked up.
        let own =
            base.fixed_classes.then(|| self.classes.iter().position(|(name, _)| *name == title)).flatten();
        if let Some((_, origin)) =
            name.as_ref().filter(|_| own.is_some_and(|own| self.classes[own].1.contains_key("name")))
        {
            let texts = [
                format!("class '{title}' stands twice"),
                "one of the two would cover the other".to_string(),
                "one [[class]] of that name would work".to_string(),
            ];
            let setting = format!("class '{title}': name");
            return self.problems.push(Problem::new(Rule::Value, setting, Some(origin.clone()), texts));
        }
        if let (true, None, Some((name, origin))) = (base.fixed_classes, own, name) {
            let what = format!("this command has no class '{name}'");
            let known: Vec<_> = self.classes.iter().map(|(name, _)| name.clone()).collect();
            return self.unknown(what, origin, &name, known.iter().map(String::as_str), None);
        }
        let mut written = Candidates::new();
        let required: &[_] = if base.fixed_classes { &NAMED[..1] } else { &NAMED };
        for key in required.iter().filter(|key| block.entries.iter().all(|entry| entry.key != **key)) {
            let works =
                CLASS.iter().find(|row| row.key == *key).map_or(String::new(), |row| row.kind.to_string());
            let texts = [
                format!("class '{title}' has no {key}"),
                "it decides what comes first and what is lost, so it must be named".to_string(),
                format!("{key} = …, {works}, would work"),
            ];
            let setting = format!("class '{title}': {key}");
            self.problems.push(Problem::new(Rule::Missing, setting, Some(block.at.clone()), texts));
        }
        for entry in block.entries {
            if class_keys().any(|key| key == entry.key) {
                written.entry(entry.key.clone()).or_default().push(entry.into());
            } else {
                let hint = engine_keys()
                    .any(|key| key == entry.key)
                    .then(|| format!("'{}' above all tables would work", entry.key));
                let what = format!("'{}' is no setting of a class", entry.key);
                self.unknown(
                    what,
                    entry.key_at,
                    &entry.key,
                    class_keys().collect::<Vec<_>>().into_iter(),
                    hint,
                );
            }
        }
        match own {
            Some(own) => self.classes[own].1.extend(written),
            None => self.classes.push((title, written)),
        }
    }

    /// The plan of the profile that somebody named.
    pub fn start(
        &mut self,
        sources: &Sources,
        base: &Base<'_>,
        is_toml: bool,
        origins: &mut Origins,
    ) -> Plan {
        let said = |list: &[(String, String)], name: &str| {
            list.iter().rev().find(|(key, _)| key == name).and_then(|(_, text)| Profile::named(text))
        };
        let of_file = self.engine.get("profile").and_then(|all| match &all.first()?.value {
            Owned::Text(name) => Some(Profile::named(name)),
            _ => Some(None),
        });
        let over = said(&sources.options, "profile").or_else(|| said(&sources.environment, "PELTON_PROFILE"));
        let named = over.or(of_file.flatten());
        let mut set = |setting: &str, why: &str| origins.set(setting.into(), Origin::Command(why.into()));
        set("profile", "without a file it is a shared machine's");
        base.why.iter().for_each(|(setting, why)| set(setting, why));
        if let (None, None, Some(profile)) = (named, &sources.file, base.profile) {
            return (base.plan)(profile);
        }
        // Somebody must say so; a name that is none is told by its row.
        if named.is_none() && of_file.is_none() && is_toml {
            let texts = [
                "no profile is named".to_string(),
                "all settings start from one, and there is no nameless default".to_string(),
                "profile = \"dev\" (or balanced, latency, throughput) would work".to_string(),
            ];
            self.problems.push(Problem::new(Rule::Missing, "profile", None, texts));
        }
        (base.plan)(named.unwrap_or(Profile::Dev))
    }

    pub fn take_environment(&mut self, environment: &[(String, String)], tables: &[&mut dyn Table]) {
        for (variable, text) in environment {
            let Some(rest) = variable.strip_prefix(PREFIX) else { continue };
            if NO_SETTINGS.iter().any(|prefix| variable.starts_with(prefix)) {
                continue;
            }
            let candidate = || Candidate::bare(text, Origin::Environment(variable.clone()));
            if let Some(key) = engine_keys().find(|key| upper(key) == rest) {
                self.engine.entry(key.into()).or_default().push(candidate());
                continue;
            }
            if let Some(rest) = rest.strip_prefix("CLASS_") {
                self.take_class_variable(variable, rest, candidate());
                continue;
            }
            let own = tables.iter().find_map(|table| {
                let rest = rest.strip_prefix(&upper(table.name()))?.strip_prefix('_')?;
                Some((table.name(), table.rows().into_iter().find(|row| upper(row.key) == rest)?.key))
            });
            if let Some((table, key)) = own {
                let written = self.tables.entry(table.into()).or_default();
                written.entry(key.into()).or_default().push(candidate());
                continue;
            }
            let known: Vec<_> = engine_keys().map(|key| format!("{PREFIX}{}", upper(key))).collect();
            let at = Origin::Environment(variable.clone());
            self.unknown(
                format!("{variable} is no setting"),
                at,
                variable,
                known.iter().map(String::as_str),
                nearest(variable, known.iter().map(String::as_str))
                    .is_none()
                    .then(|| "a key in capitals behind PELTON_, or no such variable, would work".into()),
            );
        }
    }

    /// `PELTON_CLASS_<NAME>_<KEY>`, of which this is what follows the first underscore but one. Two classes may have the
    /// same name in capitals: neither is chosen then.
    fn take_class_variable(&mut self, variable: &str, rest: &str, candidate: Candidate) {
        let keys = || class_keys().filter(|key| *key != "name");
        let key_of = |name: &str| {
            let rest = rest.strip_prefix(&upper(name))?.strip_prefix('_')?;
            keys().find(|key| upper(key) == rest)
        };
        let meant: Vec<_> =
            self.classes.iter().enumerate().filter_map(|(at, (name, _))| Some((at, key_of(name)?))).collect();
        let at = candidate.at.clone();
        match meant[..] {
            [(class, key)] => self.classes[class].1.entry(key.into()).or_default().push(candidate),
            [] => {
                let names = self.classes.iter().map(|(name, _)| upper(name));
                let known: Vec<_> = names
                    .flat_map(|name| keys().map(move |key| format!("{PREFIX}CLASS_{name}_{}", upper(key))))
                    .collect();
                let near = nearest(variable, known.iter().map(String::as_str));
                let fix = near.map_or("no such variable".into(), |near| format!("'{near}'"));
                let what = format!("{variable} is no setting of a class");
                self.unknown(what, at, variable, std::iter::empty(), Some(format!("{fix} would work")));
            }
            _ => {
                let names: Vec<_> =
                    meant.iter().map(|(at, _)| format!("'{}'", self.classes[*at].0)).collect();
                let texts = [
                    format!("{variable} is a setting of {}", names.join(" and ")),
                    "it must be of one class alone".to_string(),
                    "the option --class, or other names, would work".to_string(),
                ];
                self.problems.push(Problem::new(Rule::Value, "class", Some(at), texts));
            }
        }
    }

    pub fn take_options(&mut self, options: &[(String, String)], tables: &[&mut dyn Table]) {
        for (name, text) in options {
            let (table, key) = name.split_once('.').unwrap_or(("", name));
            let at = Origin::Option(format!("--{}", key.replace('_', "-")));
            let candidate = Candidate::bare(text, at.clone());
            let own = tables.iter().find(|known| known.name() == table);
            if name == "class" {
                self.take_class_option(text, at);
            } else if table.is_empty() && engine_keys().any(|known| known == key) {
                self.engine.entry(key.into()).or_default().push(candidate);
            } else if own.is_some_and(|table| table.rows().iter().any(|row| row.key == key)) {
                let written = self.tables.entry(table.into()).or_default();
                written.entry(key.into()).or_default().push(candidate);
            } else {
                let known = engine_keys().collect::<Vec<_>>().into_iter();
                self.unknown(format!("{at} is no setting"), at, key, known, None);
            }
        }
    }

    /// `NAME:KEY=VALUE[,KEY=VALUE…]`
    fn take_class_option(&mut self, text: &str, at: Origin) {
        let names: Vec<_> = self.classes.iter().map(|(name, _)| name.clone()).collect();
        let known = || names.iter().map(String::as_str);
        // A name may have such a sign too: the longest of those that fit is meant.
        let fits = |name: &&str| text.strip_prefix(*name).is_some_and(|rest| rest.starts_with(':'));
        let known_name = known().filter(fits).max_by_key(|name| name.len());
        let parts = known_name.map(|name| (name, &text[name.len() + 1..])).or_else(|| text.split_once(':'));
        let Some((name, settings)) = parts else {
            let what = format!("class is '{}'", text.escape_debug());
            let form = "NAME:KEY=VALUE[,KEY=VALUE...]".to_string();
            let first = names.first().map_or("bulk", String::as_str);
            let texts =
                [what, format!("must be {form}"), format!("'{first}:capacity_slots=4096' would work")];
            return self.problems.push(Problem::new(Rule::Value, "class", Some(at), texts));
        };
        let Some(class) = self.classes.iter().position(|(known, _)| known == name) else {
            return self.unknown(
                format!("there is no class '{}'", name.escape_debug()),
                at,
                name,
                known(),
                None,
            );
        };
        for setting in settings.split(',') {
            let (key, value) = setting.split_once('=').unwrap_or((setting, ""));
            if class_keys().any(|known| known == key && known != "name") {
                let written = &mut self.classes[class].1;
                written.entry(key.into()).or_default().push(Candidate::bare(value, at.clone()));
            } else {
                let what = format!("'{}' is no setting of a class", key.escape_debug());
                let known: Vec<_> = class_keys().filter(|key| *key != "name").collect();
                self.unknown(what, at.clone(), key, known.into_iter(), None);
            }
        }
    }
}
