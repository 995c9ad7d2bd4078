//! The arguments of the commands that look at a configuration: `init`, `check`, `explain`, `diff`.
//!
//! Options that stand for settings or for answers are made of the library's tables, one for each row. What was given is
//! kept as text: the library reads it, so that it tells all that is wrong in its own words.

use clap::builder::Str;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use pelton::config::{About, Answers, QUESTIONS};
use pelton::engine::{ENGINE, Kind};
use std::marker::PhantomData;
use std::path::PathBuf;

/// Exit codes, for the help of each command.
pub const CHECK_CODES: &str = "Exit codes:\n  0  good\n  2  the configuration cannot be (with --deny-warnings: or should not)\n  \
    3  it can be, but not on this machine";
pub const EXPLAIN_CODES: &str =
    "Exit codes:\n  0  explained\n  2  the configuration cannot be, or there is no such setting";
pub const DIFF_CODES: &str =
    "Exit codes:\n  0  the same in effect\n  1  they differ\n  2  one of them cannot be read, or cannot be";
pub const INIT_CODES: &str = "Exit codes:\n  0  written\n  1  the file could not be written\n  2  the answers contradict each other, or the file is \
    there already\n  3  this machine has not what they need";

/// Arguments of `pelton init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Where to write it [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Write over a file that is there
    #[arg(long)]
    pub force: bool,
    /// Leave this machine out: the configuration is for another one
    #[arg(long)]
    pub no_host: bool,
    #[command(flatten)]
    pub answers: Given<OfAnswers>,
}

/// Arguments of `pelton check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The configuration
    pub file: PathBuf,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,
    /// Fail for warnings too
    #[arg(long)]
    pub deny_warnings: bool,
    /// Leave this machine out: its CPUs, its memory, what its control group grants
    #[arg(long)]
    pub no_host: bool,
    #[command(flatten)]
    pub settings: Given<OfEngine>,
}

/// Arguments of `pelton explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The configuration [default: the profile dev, without classes]
    pub file: Option<PathBuf>,
    /// One setting, at length: burst_events, orders.ttl_us, or ttl_us of every class
    pub key: Option<String>,
    /// Show the memory, term by term
    #[arg(long, conflicts_with = "key")]
    pub memory: bool,
    /// Print one JSON object instead of tables
    #[arg(long)]
    pub json: bool,
    /// Print what is in effect as a complete file
    #[arg(long, conflicts_with_all = ["json", "memory", "key"])]
    pub toml: bool,
    /// Leave this machine out: its CPUs, its memory, what its control group grants
    #[arg(long)]
    pub no_host: bool,
    #[command(flatten)]
    pub settings: Given<OfEngine>,
}

/// Arguments of `pelton diff`.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// A configuration
    pub before: PathBuf,
    /// Another one
    pub after: PathBuf,
    /// Print one JSON object instead of tables
    #[arg(long)]
    pub json: bool,
}

/// Options that are made of tables, as they were given: keys and texts.
#[derive(Debug)]
pub struct Given<T> {
    pub options: Vec<(String, String)>,
    of: PhantomData<T>,
}

/// What options are made of.
pub trait Rows {
    /// The rows, each with what it has where nobody says otherwise, if that is always the same.
    fn rows() -> Vec<(About, String)>;
    /// The heading of their help.
    const HEADING: &'static str;
    /// Whether there are classes to be changed.
    const CLASSES: bool;
}

/// The settings of the engine.
#[derive(Debug)]
pub struct OfEngine;

impl Rows for OfEngine {
    fn rows() -> Vec<(About, String)> {
        ENGINE.iter().map(|row| (About::of(row), String::new())).collect()
    }
    const HEADING: &'static str = "Settings, over those of the file and of the environment";
    const CLASSES: bool = true;
}

/// The answers of a draft.
#[derive(Debug)]
pub struct OfAnswers;

impl Rows for OfAnswers {
    fn rows() -> Vec<(About, String)> {
        let start = Answers::default();
        QUESTIONS.iter().map(|row| (About::of(row), (row.get)(&start).to_string())).collect()
    }
    const HEADING: &'static str = "Answers; on a terminal those that are not given are asked for";
    const CLASSES: bool = false;
}

fn option(row: &About, start: &str, heading: &'static str) -> Arg {
    let range = match row.kind {
        Kind::Whole(_) => format!(", {}", row.kind),
        Kind::Cpus(_) => ", as in 0-3,7".into(),
        _ => String::new(),
    };
    let value = match row.kind {
        Kind::Flag => "BOOL".to_string(),
        Kind::OneOf(words) => words.join("|"),
        Kind::Whole(_) if !row.unit.is_empty() => row.unit.to_uppercase(),
        Kind::Whole(_) => "N".into(),
        Kind::Text => "TEXT".into(),
        Kind::Cpus(_) => "LIST".into(),
    };
    let start = if start.is_empty() { String::new() } else { format!(" [default: {start}]") };
    let arg = Arg::new(row.key)
        .long(Str::from(row.key.replace('_', "-")))
        .value_name(Str::from(value))
        .allow_negative_numbers(true)
        .help_heading(heading)
        .help(format!("{}{range}{start}", row.what));
    match row.kind {
        // Named alone it is on.
        Kind::Flag => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
        _ => arg,
    }
}

impl<T: Rows> Args for Given<T> {
    fn augment_args(command: Command) -> Command {
        let options = T::rows().into_iter().map(|(row, start)| option(&row, &start, T::HEADING));
        let command = command.args(options);
        if !T::CLASSES {
            return command;
        }
        command.arg(
            Arg::new("class")
                .long("class")
                .value_name("NAME:KEY=VALUE[,...]")
                .action(ArgAction::Append)
                .help_heading(T::HEADING)
                .help("settings of a class of the file; may be repeated"),
        )
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<T: Rows> FromArgMatches for Given<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let keys = T::rows().into_iter().map(|(row, _)| row.key).chain(T::CLASSES.then_some("class"));
        let of = |key: &'static str| {
            let all = matches.get_many::<String>(key).into_iter().flatten();
            all.map(|text| (key.to_string(), text.clone())).collect::<Vec<_>>()
        };
        Ok(Given { options: keys.flat_map(of).collect(), of: PhantomData })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
