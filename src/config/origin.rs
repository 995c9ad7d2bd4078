//! Where a value came from.

use crate::engine::Profile;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

/// Where the value of a setting came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The profile has it so.
    Profile(Profile),
    /// The command has it so, for this reason.
    Command(String),
    /// A file.
    File {
        /// The file's name.
        name: String,
        /// The line, from 1.
        line: usize,
        /// The column, from 1, in characters.
        column: usize,
        /// The bytes of the value (of the key, where that is what is wrong).
        span: Range<usize>,
    },
    /// A variable of the environment.
    Environment(String),
    /// An option of the command line.
    Option(String),
    /// Nobody: a class, or a command's table, has it so at first.
    Start,
    /// The program's own code.
    Code,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Profile(profile) => write!(f, "profile {profile}"),
            Origin::Command(why) => write!(f, "this command: {why}"),
            Origin::File { name, line, .. } => write!(f, "{name}:{line}"),
            Origin::Environment(variable) => f.write_str(variable),
            Origin::Option(option) => f.write_str(option),
            Origin::Start => f.write_str("at first"),
            Origin::Code => f.write_str("code"),
        }
    }
}

/// Where every setting came from that did not come from the profile, by its name among all (`burst_events`,
/// `class 'bulk': ttl_us`, `replay: loop`).
///
/// ```
/// use pelton::config::{Sources, read};
/// let text = "profile = \"dev\"\n[[class]]\nname = \"bulk\"\nttl_us = 500\n";
/// let sources = Sources { file: Some(("a.toml".into(), text.into())), ..Sources::default() };
/// let config = read(&sources, None);
/// let origin = config.origins().of("class 'bulk': ttl_us").unwrap();
/// assert_eq!(origin.to_string(), "a.toml:4");
/// assert!(config.origins().has_table("class") && config.origins().of("shards").is_none());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins(pub(super) BTreeMap<String, Origin>);

impl Origins {
    /// Where a setting came from; `None` is the profile.
    pub fn of(&self, setting: &str) -> Option<&Origin> {
        self.0.get(setting)
    }

    /// Whether anything was said of a table's settings, or of those of a list of tables.
    pub fn has_table(&self, table: &str) -> bool {
        let of_table = |setting: &String| {
            let rest = setting.strip_prefix(table);
            rest.is_some_and(|rest| rest.starts_with(": ") || rest.starts_with(" '"))
        };
        self.0.keys().any(of_table)
    }

    pub(super) fn set(&mut self, setting: String, origin: Origin) {
        self.0.insert(setting, origin);
    }
}
