//! The arguments of the program `pelton-bench`.

use clap::Parser;
use pelton::engine::PlanError;
use pelton_bench::{BENCH, Question, Settings as Measure};
use pelton_cli::failure::Failure;
use pelton_cli::settings::table_args::{Group, SettingArgs, Takes};
use std::path::PathBuf;

fn questions() -> String {
    // Short lines, each below its own beginning.
    const CHARS_MAX: usize = 64;
    let mut text = "Questions:\n".to_string();
    for question in Question::ALL {
        let mut line = format!("  {:<11}", question.name());
        let indent = line.len();
        for word in question.asks().split(' ') {
            if line.len() + word.len() > indent + CHARS_MAX {
                text += &format!("{line}\n");
                line = " ".repeat(indent);
            }
            line += &format!("{}{word}", if line.len() > indent { " " } else { "" });
        }
        text += &format!("{line}\n");
    }
    text
}

/// The settings of `pelton bench`.
#[derive(Debug)]
pub struct OfBench;

impl Takes for OfBench {
    fn groups() -> Vec<Group> {
        vec![Group::new("Measurement", "bench", BENCH, Some(&Measure::default()))]
    }
}

/// Arguments of `pelton bench`.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, after_help = questions())]
pub struct BenchArgs {
    /// What to measure; see the list below [default: all of it, in a short run]
    #[arg(value_name = "QUESTION")]
    question: Option<Question>,
    /// Print one JSON object, with every run, instead of tables
    #[arg(long)]
    pub json: bool,
    /// With latency: go through rates from a tenth to eleven tenths of the lane's capacity, and find the knee
    #[arg(long)]
    sweep: bool,
    /// Write charts to this folder, an SVG file for each; sweeps and distributions have some
    #[arg(long, value_name = "FOLDER")]
    pub svg: Option<PathBuf>,
    /// With latency: write each contender's percentiles to this folder, as HdrHistogram's plotter reads them
    #[arg(long, value_name = "FOLDER")]
    pub hgrm: Option<PathBuf>,
    /// Overwrite charts and percentiles that are there
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub settings: SettingArgs<OfBench>,
}

impl BenchArgs {
    /// What is asked.
    pub fn questions(&self) -> Vec<Question> {
        match self.question {
            None => Question::ALL.to_vec(),
            Some(Question::Latency) if self.sweep => vec![Question::Knee],
            Some(question) => vec![question],
        }
    }

    /// What the measurement starts from.
    pub fn start(&self) -> Result<Measure, Failure> {
        let is_latency = self.question == Some(Question::Latency);
        let hgrm_has_use = self.question.is_none() || (is_latency && !self.sweep);
        for (named, has_use, setting, value, works) in [
            (self.sweep, is_latency, "sweep", "on", "latency --sweep"),
            (self.hgrm.is_some(), hgrm_has_use, "hgrm", "named", "latency --hgrm FOLDER"),
        ] {
            if named && !has_use {
                return Err(
                    PlanError::new(setting, value, "left out for what has no use for it", works).into()
                );
            }
        }
        Ok(if self.question.is_some() { Measure::default() } else { Measure::short() })
    }
}
