//! The program `pelton-bench`: measures Pelton, its peers and the bare machine, here and now.

mod args;
mod asked;

use args::BenchArgs;
use asked::{Asked, failed};
use clap::Parser;
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pelton_bench::answer::{Figure, Limit, Point, Standing, Table, Unit, short};
use pelton_bench::chart::{Chart, charts, file_name};
use pelton_bench::hgrm::Hgrm;
use pelton_bench::rounds::{Estimate, Step};
use pelton_bench::{Answer, Question};
use pelton_cli::failure::Failure;
use pelton_cli::output::files;
use pelton_cli::output::format::{clean, count, cpus};
use pelton_cli::output::page::{Page, Rows};
use serde::Serialize;
use std::io::{IsTerminal, stderr};
use std::path::{Path, PathBuf};

/// The longest model of a CPU that is shown whole, in characters.
const MODEL_CHARS_MAX: usize = 48;

#[derive(Serialize)]
struct Root {
    answers: Vec<Answer>,
}

fn main() -> ExitCode {
    pelton_cli::output::exit::exit_code(run(&BenchArgs::parse()))
}

fn run(args: &BenchArgs) -> Result<(), Failure> {
    let (questions, mut settings) = (args.questions(), args.start()?);
    // Before the first is asked: what cannot be should be told at once.
    let asked = Asked::read(&args.settings.sources()?, &mut settings)?.settings(&questions, &settings)?;
    // A measurement takes long, so its files are looked for first.
    for (question, ..) in &asked {
        let name = question.name();
        [&args.svg, &args.hgrm].into_iter().flatten().try_for_each(|folder| is_free(args, folder, name))?;
    }
    let bar = bar();
    let mut page = Page::stdout();
    let mut root = Root { answers: Vec::new() };
    for (question, settings, from) in asked {
        let answer = question
            .ask(&settings, &mut |step| watch(&bar, question, step))
            .map_err(|error| failed(&error))?;
        bar.finish_and_clear();
        let files = write(args, &answer)?;
        if args.json {
            root.answers.push(answer);
            continue;
        }
        if question == Question::ALL[0] && settings.short {
            page.note("a short run of everything; name a question for figures that can be compared")?;
        }
        show(&mut page, &answer, &from)?;
        files.iter().try_for_each(|file| page.written(file))?;
        page.flush()?;
    }
    if args.json {
        let json = serde_json::to_string(&root);
        page.raw(&json.expect("all keys are strings, and every float is finite"))?;
    }
    page.flush()
}

/// Whether a folder has no chart or percentiles of a question: what its files will be called is known with its answer.
fn is_free(args: &BenchArgs, folder: &Path, question: &str) -> Result<(), Failure> {
    let is_own = |path: &Path| {
        let stem =
            path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.strip_prefix(question));
        let is_known = path.extension().is_some_and(|end| end == "svg" || end == "hgrm");
        is_known && stem.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    let mut paths = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    paths.find(|path| is_own(path)).map_or(Ok(()), |path| files::check_is_free(&path, args.force))
}

/// Writes the files that were asked for; says which.
fn write(args: &BenchArgs, answer: &Answer) -> Result<Vec<PathBuf>, Failure> {
    let charts = args.svg.iter().flat_map(|folder| {
        let text = |(name, chart): (String, Chart)| (folder.join(format!("{name}.svg")), chart.to_string());
        charts(answer).into_iter().map(text)
    });
    let percentiles = args.hgrm.iter().flat_map(|folder| {
        answer.distributions.iter().map(|each| {
            let name = format!("{}-{}.hgrm", answer.question, file_name(&each.peer));
            (folder.join(name), Hgrm(&each.waits_ns).to_string())
        })
    });
    let mut written = Vec::new();
    for (path, text) in charts.chain(percentiles) {
        let folder = path.parent().unwrap_or(&path);
        std::fs::create_dir_all(folder).map_err(|error| files::failed(&path, &error))?;
        files::write(&path, args.force, &text)?;
        written.push(path);
    }
    Ok(written)
}

/// A line on standard error, if that is a terminal. It is drawn between two runs: whatever ran beside one would be
/// measured too.
fn bar() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if !stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    // A template of ours that cannot be read is no reason not to work: the line then has its usual look.
    if let Ok(style) = ProgressStyle::with_template("  {msg}, {elapsed}") {
        bar.set_style(style);
    }
    bar
}

fn watch(bar: &ProgressBar, question: Question, step: Step<'_>) {
    let Step { at, peer, round, rounds } = step;
    let round = if round == 0 { "warm-up".into() } else { format!("round {round} of {rounds}") };
    bar.set_message(format!("{}, {at}, {round}: {peer}", question.name()));
    bar.tick();
}

fn show(page: &mut Page, answer: &Answer, from: &str) -> Result<(), Failure> {
    page.title(&format!("{}: {}", answer.question, answer.asks))?;
    let machine = &answer.machine;
    let model = clean(&machine.model, MODEL_CHARS_MAX);
    page.fact(
        "machine",
        &format!("{model}, CPUs {} of {}, {}", cpus(&machine.cpus), machine.cpus_online, machine.system),
    )?;
    page.fact("build", &format!("pelton {}, features {}", machine.version, machine.features.join(", ")))?;
    let used = &answer.settings;
    let options = [
        used.capacity.map(|slots| format!(", capacity {}", count(slots.into()))),
        used.wait.as_ref().map(|wait| format!(", wait {wait}")),
        used.burst.map(|burst| format!(", burst {}", count(burst.into()))),
    ];
    let options: String = options.into_iter().flatten().collect();
    let rounds =
        if used.rounds == 1 { "1 round".into() } else { format!("{} rounds", count(used.rounds.into())) };
    page.fact("runs", &format!("{rounds} after a warm-up, {} events each{options}", count(used.events)))?;
    page.fact("settings", from)?;
    for table in &answer.tables {
        page.raw("")?;
        match &table.points[..] {
            [point] => one_point(page, table, point)?,
            points => sweep(page, table, points)?,
        }
    }
    page.raw("")?;
    page.note(answer.hint)?;
    answer.notes.iter().try_for_each(|note| page.note(note))?;
    answer.warnings.iter().try_for_each(|warning| page.alarm(warning))
}

fn times(ratio: f64) -> String {
    short(ratio, Unit::Times)
}

/// A contender a row, with its interval.
fn one_point(page: &mut Page, table: &Table, point: &Point) -> Result<(), Failure> {
    page.raw(&format!("  {}", table.what))?;
    let head = ["contender", table.unit.name(), "95 %", "ours / it", "95 %"];
    let mut rows = Rows::new(1, head);
    for figure in &point.figures {
        let text = |value| short(value, table.unit);
        let Estimate { median, low, high } = figure.estimate;
        let [ratio, ratio_interval] = figure.ours_to_it.map_or(["".into(), "".into()], |ratio| {
            let [low, median, high] = [ratio.low, ratio.median, ratio.high].map(times);
            [median, format!("{low} to {high}")]
        });
        rows.row([
            figure.peer.clone(),
            text(median),
            format!("{} to {}", text(low), text(high)),
            ratio,
            ratio_interval,
        ]);
    }
    page.table(&mut rows)?;
    point.limits.iter().try_for_each(|limit| tell(page, limit))
}

/// A contender a row, a point of the sweep a column: a table of medians, then one of ratios.
fn sweep(page: &mut Page, table: &Table, points: &[Point]) -> Result<(), Failure> {
    let axis = table.axis.as_deref().unwrap_or_default();
    page.raw(&format!("  {}, by {axis}", table.what))?;
    let mut block = |head: &str, of: &dyn Fn(&Figure) -> Option<String>| {
        let places = points.iter().map(|point| point.at.to_string());
        let mut rows = Rows::with_head(1, [head.to_string()].into_iter().chain(places));
        for (at, figure) in points[0].figures.iter().enumerate() {
            let cells: Vec<_> = points.iter().map(|point| of(&point.figures[at])).collect();
            if cells.iter().any(Option::is_some) {
                let cells = cells.into_iter().map(Option::unwrap_or_default);
                rows.row([figure.peer.clone()].into_iter().chain(cells));
            }
        }
        page.table(&mut rows)
    };
    block(table.unit.name(), &|figure| Some(short(figure.estimate.median, table.unit)))?;
    block("ours / it", &|figure| figure.ours_to_it.map(|ratio| times(ratio.median)))?;
    limits(page, points)
}

/// A limit a row, and a line for each that is missed.
fn limits(page: &mut Page, points: &[Point]) -> Result<(), Failure> {
    let Some(first) = points.first().filter(|point| !point.limits.is_empty()) else {
        return Ok(());
    };
    let places = points.iter().map(|point| point.at.to_string());
    let mut rows = Rows::with_head(1, ["limits".to_string()].into_iter().chain(places));
    for Limit { what, unit, .. } in &first.limits {
        let here = |point: &Point| point.limits.iter().find(|limit| limit.what == *what).cloned();
        let cell = |of: &dyn Fn(&Limit) -> f64, point: &Point| {
            here(point).map_or(String::new(), |limit| short(of(&limit), *unit))
        };
        let row = |name: String, of: &dyn Fn(&Limit) -> f64| {
            [name].into_iter().chain(points.iter().map(|point| cell(of, point))).collect::<Vec<_>>()
        };
        rows.row(row(what.clone(), &|limit| limit.measured.median));
        rows.row(row("  at most".into(), &|limit| limit.limit));
        rows.row(row("  goal".into(), &|limit| limit.goal));
    }
    page.table(&mut rows)?;
    let all = points.iter().flat_map(|point| point.limits.iter().map(move |limit| (point, limit)));
    let mut missed = all.filter(|(_, limit)| limit.standing == Standing::Missed).peekable();
    if missed.peek().is_none() {
        return page.raw("  ✓ every limit is kept");
    }
    missed.try_for_each(|(point, limit)| page.alarm(&format!("{}: {limit}", point.label)))
}

fn tell(page: &mut Page, limit: &Limit) -> Result<(), Failure> {
    match limit.standing {
        Standing::Missed => page.alarm(&limit.to_string()),
        Standing::Goal | Standing::Kept => page.raw(&format!("  ✓ {limit}")),
    }
}
