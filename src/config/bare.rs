//! What variables of the environment and options of the command line say, sorted by the setting that it is for.

use super::collect::{Candidate, Collected, PREFIX, nearest, upper};
use super::origin::Origin;
use super::problem::{Problem, Rule};

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

/// What follows a name in capitals and an underscore.
fn behind<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    match name {
        "" => Some(text),
        name => text.strip_prefix(&upper(name))?.strip_prefix('_'),
    }
}

impl Collected {
    pub fn take_environment(&mut self, environment: &[(String, String)]) {
        for (variable, text) in environment {
            let Some(rest) = variable.strip_prefix(PREFIX) else { continue };
            if NO_SETTINGS.iter().any(|prefix| variable.starts_with(prefix)) {
                continue;
            }
            let at = Origin::Environment(variable.clone());
            let tables = self.parts.iter().enumerate().filter(|(_, part)| part.list_spec.is_none());
            let own = tables.into_iter().find_map(|(at, part)| {
                let rest = behind(rest, &part.name)?;
                Some((at, part.keys().find(|key| upper(key) == rest)?))
            });
            if let Some((part, key)) = own {
                self.parts[part].take(0, key, Candidate::bare(text, at));
                continue;
            }
            let mut lists = self.parts.iter().enumerate().filter(|(_, part)| part.list_spec.is_some());
            if let Some((list, rest)) = lists.find_map(|(at, part)| Some((at, behind(rest, &part.name)?))) {
                self.take_variable_of_list(variable, list, rest, Candidate::bare(text, at));
                continue;
            }
            let known: Vec<_> = self
                .parts
                .iter()
                .filter(|part| part.list_spec.is_none())
                .flat_map(|part| {
                    let table = if part.name.is_empty() { String::new() } else { upper(&part.name) + "_" };
                    part.keys().map(move |key| format!("{PREFIX}{table}{}", upper(key)))
                })
                .collect();
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

    /// `PELTON_CLASS_<NAME>_<KEY>`, of which `rest` is what follows the list's name. Two items may have the same name in
    /// capitals: neither is chosen then.
    fn take_variable_of_list(&mut self, variable: &str, list: usize, rest: &str, candidate: Candidate) {
        let part = &self.parts[list];
        let names = || part.items.iter().map(|(name, _)| name);
        let key_of = |name: &str| {
            let rest = behind(rest, name)?;
            part.bare_keys().find(|key| upper(key) == rest)
        };
        let meant: Vec<_> = names().enumerate().filter_map(|(at, name)| Some((at, key_of(name)?))).collect();
        let at = candidate.at.clone();
        match meant[..] {
            [(item, key)] => self.parts[list].take(item, key, candidate),
            [] => {
                let head = format!("{PREFIX}{}_", upper(&part.name));
                let known: Vec<_> = names()
                    .flat_map(|name| part.bare_keys().map(move |key| (upper(name), upper(key))))
                    .map(|(name, key)| format!("{head}{name}_{key}"))
                    .collect();
                let near = nearest(variable, known.iter().map(String::as_str));
                let fix = near.map_or("no such variable".into(), |near| format!("'{near}'"));
                let what = format!("{variable} is no setting of {}", part.whose());
                self.unknown(what, at, variable, std::iter::empty(), Some(format!("{fix} would work")));
            }
            _ => {
                let names: Vec<_> = meant.iter().map(|(at, _)| format!("'{}'", part.items[*at].0)).collect();
                let texts = [
                    format!("{variable} is a setting of {}", names.join(" and ")),
                    format!("it must be of one {} alone", part.name),
                    format!("the option --{}, or other names, would work", part.name),
                ];
                let problem = Problem::new(Rule::Value, part.name.clone(), Some(at), texts);
                self.problems.push(problem);
            }
        }
    }

    pub fn take_options(&mut self, options: &[(String, String)]) {
        for (name, text) in options {
            let (table, key) = name.split_once('.').unwrap_or(("", name));
            let at = Origin::Option(format!("--{}", key.replace('_', "-")));
            let list = self.parts.iter().position(|part| part.list_spec.is_some() && part.name == *name);
            let own = self
                .parts
                .iter()
                .position(|part| part.list_spec.is_none() && part.name == table && part.has(key));
            match (list, own) {
                (Some(list), _) => self.take_option_of_list(text, list, at),
                (None, Some(own)) => self.parts[own].take(0, key, Candidate::bare(text, at)),
                (None, None) => {
                    let known: Vec<_> = self.parts[0].keys().collect();
                    self.unknown(format!("{at} is no setting"), at, key, known.into_iter(), None);
                }
            }
        }
    }

    /// `NAME:KEY=VALUE[,KEY=VALUE…]`
    fn take_option_of_list(&mut self, text: &str, list: usize, at: Origin) {
        let part = &self.parts[list];
        let names: Vec<_> = part.items.iter().map(|(name, _)| name.clone()).collect();
        let known = || names.iter().map(String::as_str);
        // A name may have such a sign too: the longest of those that fit is meant.
        let fits = |name: &&str| text.strip_prefix(*name).is_some_and(|rest| rest.starts_with(':'));
        let known_name = known().filter(fits).max_by_key(|name| name.len());
        let parts = known_name.map(|name| (name, &text[name.len() + 1..])).or_else(|| text.split_once(':'));
        let Some((name, settings)) = parts else {
            let what = format!("{} is '{}'", part.name, text.escape_debug());
            let form = "NAME:KEY=VALUE[,KEY=VALUE...]".to_string();
            let first = names.first().map_or("bulk", String::as_str);
            let example = part.list_spec.map_or("", |listed| listed.example);
            let texts = [what, format!("must be {form}"), format!("'{first}:{example}' would work")];
            let problem = Problem::new(Rule::Value, part.name.clone(), Some(at), texts);
            return self.problems.push(problem);
        };
        let Some(item) = part.items.iter().position(|(known, _)| known == name) else {
            let what = format!("there is no {} '{}'", part.name, name.escape_debug());
            let hint =
                names.is_empty().then(|| format!("a {} of that name in the file would work", part.head()));
            return self.unknown(what, at, name, known(), hint);
        };
        for setting in settings.split(',') {
            let part = &mut self.parts[list];
            let (key, value) = setting.split_once('=').unwrap_or((setting, ""));
            if part.bare_keys().any(|known| known == key) {
                part.take(item, key, Candidate::bare(value, at.clone()));
            } else {
                let what = format!("'{}' is no setting of {}", key.escape_debug(), part.whose());
                let known: Vec<_> = part.bare_keys().collect();
                self.unknown(what, at.clone(), key, known.into_iter(), None);
            }
        }
    }
}
