//! Collecting: everything that somebody wrote, sorted by the setting that it is for.

use super::document::{Entry, Owned};
use super::origin::{Origin, Origins};
use super::problem::{Problem, Rule};
use super::table::{ListSpec, Table};
use crate::engine::{ENGINE, Plan, Profile, RawValue, SettingInfo};
use std::collections::BTreeMap;

/// What every variable of the environment begins with.
pub const PREFIX: &str = "PELTON_";

/// Everything that somebody wrote.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// A file: its name, and what it holds.
    pub file: Option<(String, String)>,
    /// Variables, in any order. Those that do not begin with [`PREFIX`] are passed over.
    pub environment: Vec<(String, String)>,
    /// Options, by the keys of the settings, those of a table behind its name: `replay.loop`; that of a list, `class`, has
    /// the form `NAME:KEY=VALUE[,KEY=VALUE…]`. Of two for the same setting the later one counts.
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

impl std::fmt::Debug for Base<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Base")
            .field("profile", &self.profile)
            .field("fixed_classes", &self.fixed_classes)
            .finish_non_exhaustive()
    }
}

/// One value that somebody wrote for a setting.
pub(super) struct Candidate {
    value: Owned,
    pub at: Origin,
    /// An option or a variable: its text has no type yet.
    bare: bool,
}

impl Candidate {
    pub fn bare(text: &str, at: Origin) -> Self {
        Candidate { value: Owned::Text(text.to_string()), at, bare: true }
    }

    pub fn written(&self) -> RawValue<'_> {
        match &self.value {
            Owned::Text(text) if self.bare => RawValue::Bare(text),
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

/// A table, or a list of tables, whose type is not known here, and what was written for it.
pub(super) struct Part {
    /// Its name in a file; empty for the engine's.
    pub name: String,
    rows: Vec<&'static SettingInfo>,
    pub list_spec: Option<ListSpec>,
    /// Whether a list's items are the command's, so that a file may change them and declare no others.
    pub is_fixed: bool,
    /// What was written, by the item's name. One table has one item.
    pub items: Vec<(String, Candidates)>,
}

impl Part {
    pub fn of(table: &dyn Table) -> Self {
        let list_spec = table.list_spec();
        let items = if list_spec.is_some() { Vec::new() } else { vec![Default::default()] };
        Part { name: table.name().to_string(), rows: table.rows(), list_spec, is_fixed: false, items }
    }

    pub fn keys(&self) -> impl Iterator<Item = &'static str> + Clone {
        self.rows.iter().map(|row| row.key)
    }

    /// The keys that a variable or an option may have: an item is called by its name.
    pub fn bare_keys(&self) -> impl Iterator<Item = &'static str> + Clone {
        self.keys().filter(|key| self.list_spec.is_none() || *key != "name")
    }

    pub fn has(&self, key: &str) -> bool {
        self.keys().any(|known| known == key)
    }

    /// What a setting may be.
    pub fn kind_of(&self, key: &str) -> String {
        self.rows.iter().find(|row| row.key == key).map_or(String::new(), |row| row.kind.to_string())
    }

    /// As a file has its head.
    pub fn head(&self) -> String {
        if self.list_spec.is_some() { format!("[[{}]]", self.name) } else { format!("[{}]", self.name) }
    }

    /// What its settings are settings of.
    pub fn whose(&self) -> String {
        match (self.name.as_str(), self.list_spec) {
            ("", _) => "the engine".into(),
            (name, Some(_)) => format!("a {name}"),
            (_, None) => self.head(),
        }
    }

    /// Takes what was written for an item.
    pub fn take(&mut self, item: usize, key: &str, candidate: Candidate) {
        self.items[item].1.entry(key.to_string()).or_default().push(candidate);
    }
}

/// What is collected of all sources.
pub(super) struct Collected {
    /// The engine's first, then the classes', then those of the command.
    pub parts: Vec<Part>,
    pub problems: Vec<Problem>,
}

/// Returns the key that is most like a word; `None` if all of them are too different.
///
/// # Examples
/// ```
/// use pelton::config::nearest;
/// let known = ["shards", "producers_max"];
/// assert_eq!(nearest("producer_max", known.into_iter()), Some("producers_max"));
/// assert_eq!(nearest("quux", known.into_iter()), None);
/// ```
pub fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
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
pub(super) fn upper(text: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    text.chars().map(letter).collect()
}

impl Collected {
    /// Where a key belongs that is none of the part in which it stands.
    pub fn belongs(&self, key: &str, not_in: usize) -> Option<String> {
        let others = self.parts.iter().enumerate().filter(|(at, _)| *at != not_in);
        let part = others.map(|(_, part)| part).find(|part| part.has(key))?;
        Some(match (part.name.as_str(), part.list_spec) {
            ("", _) => format!("'{key}' above all tables would work"),
            (_, Some(_)) => format!("in a {} '{key}' would work", part.head()),
            (_, None) => format!("in {} '{key}' would work", part.head()),
        })
    }

    /// Something that is no setting.
    pub fn unknown<'a>(
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

    /// The plan of the profile that somebody named, with what the command settles.
    pub fn start(
        &mut self,
        sources: &Sources,
        base: &Base<'_>,
        is_toml: bool,
        origins: &mut Origins,
    ) -> Plan {
        let mut plan = (base.plan)(self.profile(sources, base, is_toml, origins));
        let is_own = |key: &str| base.why.iter().any(|(setting, _)| *setting == key);
        let own = ENGINE.iter().filter(|row| is_own(row.info.key)).map(|row| (row.info.key, row.get(&plan)));
        plan.settled = own.collect();
        plan
    }

    fn profile(
        &mut self,
        sources: &Sources,
        base: &Base<'_>,
        is_toml: bool,
        origins: &mut Origins,
    ) -> Profile {
        let said = |list: &[(String, String)], name: &str| {
            list.iter().rev().find(|(key, _)| key == name).and_then(|(_, text)| Profile::named(text))
        };
        let of_file = self.parts[0].items[0].1.get("profile").and_then(|all| match &all.first()?.value {
            Owned::Text(name) => Some(Profile::named(name)),
            _ => Some(None),
        });
        let over = said(&sources.options, "profile").or_else(|| said(&sources.environment, "PELTON_PROFILE"));
        let named = over.or(of_file.flatten());
        let mut set = |setting: &str, why: &str| origins.set(setting.into(), Origin::Command(why.into()));
        set("profile", "without a file it is a shared machine's");
        base.why.iter().for_each(|(setting, why)| set(setting, why));
        if let (None, None, Some(profile)) = (named, &sources.file, base.profile) {
            return profile;
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
        named.unwrap_or(Profile::Dev)
    }
}
