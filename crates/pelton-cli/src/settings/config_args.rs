//! The arguments of the commands that look at a configuration: `init`, `check`, `explain`, `diff`.
//!
//! Options that stand for settings or for answers are made of the library's tables, one for each row.

use crate::settings::answers::{Answers, QUESTIONS};
use crate::settings::table_args::{Group, SettingArgs, Takes};
use clap::Args;
use pelton::engine::ENGINE;
use pelton_gateway::{GATEWAY, STREAM};
use pelton_views::VIEW;
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
    /// Overwrite a file that is there
    #[arg(long)]
    pub force: bool,
    /// Draft one for `pelton run`: [gateway], and a stream for each class. Events are records of 24 bytes, payloads the
    /// fields of an XADD, 1024 bytes at most, and producers gateway threads, 1; classes start as
    /// orders:strict:reject,events:weighted:block
    #[arg(long)]
    pub gateway: bool,
    /// Leave this machine out: the configuration is for another one
    #[arg(long)]
    pub no_host: bool,
    #[command(flatten)]
    pub answers: SettingArgs<OfAnswers>,
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
    pub settings: SettingArgs<OfFile>,
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
    pub settings: SettingArgs<OfFile>,
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

/// The settings of a file that is looked at.
#[derive(Debug)]
pub struct OfFile;

impl Takes for OfFile {
    const FILE: bool = false;

    fn groups() -> Vec<Group> {
        let heading = "Settings, over those of the file and of the environment";
        let gateway = Group::new("The same of a gateway", "gateway", GATEWAY, None);
        vec![
            Group::new(heading, "", ENGINE, None).with_classes("of the file"),
            gateway.with_list("stream", STREAM, "of the file").with_list("view", VIEW, "of the file"),
        ]
    }
}

/// The answers of a draft.
#[derive(Debug)]
pub struct OfAnswers;

impl Takes for OfAnswers {
    const FILE: bool = false;

    fn groups() -> Vec<Group> {
        let heading = "Answers; on a terminal those that are not given are asked for";
        vec![Group::new(heading, "", QUESTIONS, Some(&Answers::default()))]
    }
}
