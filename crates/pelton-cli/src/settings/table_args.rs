//! Options that are made of tables: one for each setting, by the name that it has in files.
//!
//! A command says which tables it takes ([`Takes`]), and has a field of [`SettingArgs`]. What was given is kept as text:
//! the library reads it together with the file and the environment, so that all three are told alike.

use crate::failure::Failure;
use crate::output::format::capital;
use crate::settings::config;
use clap::builder::Str;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use pelton::config::Sources;
use pelton::engine::{CLASS, Kind, Range, Setting, SettingInfo};
use std::marker::PhantomData;
use std::path::PathBuf;

/// Short names of options, by key.
const ALIASES: [(&str, &str); 2] = [("rate_lines_per_s", "rate"), ("time_limit_s", "seconds")];

/// What a command takes.
pub trait Takes {
    /// Whether its file is an option of its own: `--config`.
    const FILE: bool = true;
    /// The tables, in the order in which help shows them.
    fn groups() -> Vec<Group>;
}

/// The options of one table.
pub struct Group {
    heading: &'static str,
    /// The name of the table in a file; empty for the engine's.
    table: &'static str,
    /// Each with what it has where nobody says otherwise, if that is known.
    rows: Vec<(&'static SettingInfo, Option<String>)>,
    /// Lists of tables: name, rows, and which items they have.
    lists: Vec<(&'static str, Vec<&'static SettingInfo>, String)>,
}

impl Group {
    /// A table's rows, with what they start from where the command knows that. A secret has no option: every user of the
    /// machine can read the arguments of a process.
    pub fn new<T>(
        heading: &'static str,
        table: &'static str,
        rows: &'static [Setting<T>],
        start: Option<&T>,
    ) -> Self {
        let value = |row: &Setting<T>| start.map(|start| row.get(start).to_string());
        let rows = rows.iter().filter(|row| row.info.kind != Kind::Secret);
        let rows = rows.map(|row| (&row.info, value(row))).collect();
        Group { heading, table, rows, lists: Vec::new() }
    }

    /// Takes settings of classes too.
    pub fn with_classes(self, which: &str) -> Self {
        self.with_list("class", CLASS, which)
    }

    /// Takes settings of the items of a list.
    pub fn with_list<T>(mut self, name: &'static str, rows: &'static [Setting<T>], which: &str) -> Self {
        self.lists.push((name, rows.iter().map(|row| &row.info).collect(), which.to_string()));
        self
    }

    fn name(&self, key: &str) -> String {
        if self.table.is_empty() { key.to_string() } else { format!("{}.{key}", self.table) }
    }

    fn args(&self) -> Vec<Arg> {
        let options = self.rows.iter().map(|(row, start)| option(self.name(row.key), row, start.as_deref()));
        let lists = self.lists.iter().map(|(name, rows, which)| list(name, rows, which));
        options.chain(lists).map(|arg| arg.help_heading(self.heading)).collect()
    }
}

fn option(id: String, row: &SettingInfo, start: Option<&str>) -> Arg {
    let SettingInfo { key, kind, unit, what, .. } = *row;
    let alias = ALIASES.iter().find(|(of, _)| *of == key).map(|(_, alias)| *alias);
    let (value, range) = match kind {
        Kind::Flag => ("BOOL".to_string(), String::new()),
        Kind::Whole(range) => {
            let unit = if unit.is_empty() { "N".to_string() } else { unit.to_ascii_uppercase() };
            // A word that is explained needs not be named again.
            let word = range.word.filter(|word| !what.contains(word));
            (unit, format!(", {}", Range { word, ..range }))
        }
        Kind::OneOf(words) if words.concat().len() > 20 => ("WORD".to_string(), format!(", {kind}")),
        Kind::OneOf(words) => (words.join("|"), String::new()),
        Kind::OneOfOr(..) => ("WORD".to_string(), format!(", {kind}")),
        Kind::Text(..) | Kind::Secret => ("TEXT".to_string(), String::new()),
        Kind::Cpus(_) => ("LIST".to_string(), ", as in 0-3,7".to_string()),
        Kind::Texts => ("TEXT,...".to_string(), String::new()),
    };
    let default = start.map_or(String::new(), |start| match start {
        "" => " [default: empty]".to_string(),
        start => format!(" [default: {start}]"),
    });
    // A row's text is part of a sentence, an option's is one.
    let help = capital(&format!("{what}{range}{default}"));
    let arg = Arg::new(id)
        .long(Str::from(key.replace('_', "-")))
        .visible_aliases(alias)
        .value_name(Str::from(value))
        .allow_negative_numbers(true)
        .help(help);
    match kind {
        // Named alone it is on.
        Kind::Flag => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
        _ => arg,
    }
}

fn list(name: &'static str, rows: &[&SettingInfo], which: &str) -> Arg {
    let rows = rows.iter().filter(|row| row.key != "name");
    let keys: String = rows.map(|row| format!("\n  {:<20}{}", row.key, row.kind)).collect();
    Arg::new(name)
        .long(name)
        .value_name("NAME:KEY=VALUE,...")
        .action(ArgAction::Append)
        .next_line_help(true)
        .help(format!("Settings of a {name} ({which}); may be repeated:{keys}"))
}

/// A file and options that were given.
#[derive(Debug)]
pub struct SettingArgs<T> {
    config: Option<PathBuf>,
    /// The options that were given, by their names among all.
    pub options: Vec<(String, String)>,
    of: PhantomData<T>,
}

impl<T> SettingArgs<T> {
    /// What was written for this command: file, environment, options.
    pub fn sources(&self) -> Result<Sources, Failure> {
        config::sources(self.config.as_deref(), &self.options)
    }
}

impl<T: Takes> clap::Args for SettingArgs<T> {
    fn augment_args(command: Command) -> Command {
        let config = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
            .help(
                "A file of settings; variables of the environment (PELTON_…) go above it, options above both",
            )
            .help_heading("Settings");
        let groups = T::groups();
        command.args(T::FILE.then_some(config)).args(groups.iter().flat_map(Group::args))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<T: Takes> clap::FromArgMatches for SettingArgs<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut options = Vec::new();
        for group in T::groups() {
            let keys = group.rows.iter().map(|(row, _)| group.name(row.key));
            for id in keys.chain(group.lists.iter().map(|(name, ..)| name.to_string())) {
                let all = matches.get_many::<String>(&id).into_iter().flatten();
                options.extend(all.map(|text| (id.clone(), text.clone())));
            }
        }
        let config = T::FILE.then(|| matches.get_one::<PathBuf>("config").cloned()).flatten();
        Ok(SettingArgs { config, options, of: PhantomData })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
