//! `pelton up`: the machine, every setting with its origin, a made-up stream through the engine, and then a gateway to try.

use crate::args::UpArgs;
use crate::commands::replay;
use crate::commands::run;
use crate::failure::Failure;
use crate::front::{self, Front};
use crate::machine;
use crate::output::format::{bytes, count};
use crate::output::page::{self, Page, Rows};
use crate::output::progress::{End, watched};
use crate::output::text;
use crate::settings::config::{COMMAND, Loaded};
use crate::weblog::generate::GENERATED_LINE_BYTES_MAX;
use crate::weblog::{Generator, Options, Prepared, Progress, REPLAY, Settings, prepare_memory};
use pelton::engine::{CLASS, ENGINE};
use pelton_gateway::Server;
use std::time::Instant;

/// Lines of the stream. It is made before the start and read over and over, so that its producer allocates nothing.
const EVENTS: u64 = 200_000;

/// More than a made-up line has on average, in bytes.
const LINE_BYTES_USUAL: usize = 224;

pub fn run(args: &UpArgs) -> Result<(), Failure> {
    machine::raise_descriptors();
    let mut options = UpArgs::start();
    let sources = args.settings.sources()?;
    let loaded = Loaded::replay(&sources, &mut options, Some("the page below says more"))?;
    // What cannot be served is told at once too, and not after the figures.
    let front = if args.once { None } else { Some(Front::of(&sources)?) };
    figures(args, loaded, &options)?;
    front.map_or(Ok(()), serve)
}

fn serve(Front { loaded, options }: Front) -> Result<(), Failure> {
    page::print(|page| page.title("Serving"))?;
    let begun = Instant::now();
    let start = |options| Front::start(&loaded, options);
    let greeting = |server: &Server| page::text(|page| front::greet(page, &options, server));
    let report = run::serve(&loaded, options.clone(), start, greeting)?;
    let elapsed = begun.elapsed();
    let written = page::print(|page| run::show(page, &report, elapsed));
    run::verdict(&report).and(written)
}

fn figures(args: &UpArgs, loaded: Loaded, options: &Options) -> Result<(), Failure> {
    let settings = Settings { seed: args.seed, events: EVENTS, ..Settings::default() };
    // Before the stream is made: what cannot be should be told at once.
    if let Err(error) = prepare_memory(&[], options) {
        return Err(loaded.no_replay(error));
    }
    let stream = stream(&settings)?;
    let prepared = prepare_memory(&stream, options)?;
    loaded.announce();
    machine::allow_huge_pages(prepared.plan().has_huge_pages());
    let mut page = Page::stdout();
    machine::show(&mut page)?;
    show_settings(&mut page, &loaded, options)?;
    show_classes(&mut page, &loaded)?;
    show_stream(&mut page, &settings, stream.len())?;
    show_footprint(&mut page, &prepared)?;
    let (end, how_long) = match options.time_limit {
        Some(limit) => (End::After(limit), format!(" for {} s", limit.as_secs())),
        None => (End::Unknown, String::new()),
    };
    page.title(&format!("Running{how_long}"))?;
    page.flush()?;
    let progress = Progress::default();
    let replay = watched(&end, &progress, || prepared.run(&progress))?;
    let shown = text::input(&mut page, "Input", &replay).and_then(|()| text::all(&mut page, &replay));
    replay::verdict(&replay).and(shown).and_then(|()| page.flush())
}

fn stream(settings: &Settings) -> Result<Vec<u8>, Failure> {
    let mut generator =
        Generator::new(settings).map_err(|error| Failure::Settings(vec![error.to_string()]))?;
    // In one piece: what growing would free, the engine's tables would use again, and what is resident for them could
    // not be told from what was there before.
    let mut stream = Vec::with_capacity(EVENTS as usize * LINE_BYTES_USUAL);
    let mut line = Vec::with_capacity(GENERATED_LINE_BYTES_MAX);
    while generator.next_line(&mut line) {
        stream.extend_from_slice(&line);
        stream.push(b'\n');
    }
    Ok(stream)
}

fn show_settings(page: &mut Page, loaded: &Loaded, options: &Options) -> Result<(), Failure> {
    page.title("Settings")?;
    let plan = loaded.plan();
    let engine = ENGINE.iter().map(|row| {
        let from = loaded.origin(row.info.key, Some(plan.profile()));
        (vec![row.info.key.to_string(), row.get(plan).to_string(), row.info.unit.to_string()], from)
    });
    let replay = REPLAY.iter().map(|row| {
        let from = loaded.origin(&format!("replay: {}", row.info.key), None);
        (vec![row.info.key.to_string(), row.get(options).to_string(), row.info.unit.to_string()], from)
    });
    let head = ["setting", "value", "unit"].map(str::to_string).to_vec();
    show_origins(page, head, &engine.chain(replay).collect::<Vec<_>>())?;
    loaded.words().iter().try_for_each(|word| page.note(word))
}

fn show_classes(page: &mut Page, loaded: &Loaded) -> Result<(), Failure> {
    page.title("Classes")?;
    let classes = loaded.plan().classes();
    let head = classes.iter().map(|class| class.name().to_string());
    let head: Vec<_> = ["setting".to_string()].into_iter().chain(head).collect();
    let lines = ["lines", "status 5xx", "status 4xx", "others"].map(str::to_string).to_vec();
    let mut rows = vec![(lines, COMMAND.to_string())];
    for row in CLASS.iter().filter(|row| row.info.key != "name") {
        let values = classes.iter().map(|class| row.get(class).to_string());
        // Most are the command's; who said otherwise stands with its class.
        let origin = |name: &str| loaded.origin(&format!("class '{name}': {}", row.info.key), None);
        let named = classes.iter().map(|class| (class.name(), origin(class.name())));
        let named: Vec<_> = named
            .filter(|(_, origin)| *origin != COMMAND)
            .map(|(name, origin)| format!("{name}: {origin}"))
            .collect();
        let from = if named.is_empty() { COMMAND.to_string() } else { named.join(", ") };
        rows.push(([row.info.key.to_string()].into_iter().chain(values).collect(), from));
    }
    show_origins(page, head, &rows)?;
    page.note("errors are few, so each is measured; bulk is sampled, so that it costs nothing")?;
    page.note("block loses nothing: a producer whose lane is full waits for room")
}

/// A table whose last column says where each row came from; what has no room there stands below.
fn show_origins(page: &mut Page, head: Vec<String>, rows: &[(Vec<String>, String)]) -> Result<(), Failure> {
    const BELOW: &str = "see below";
    let chars = |text: &String| text.chars().count();
    let widest = |at: usize| {
        let cells = rows.iter().filter_map(|(cells, _)| cells.get(at)).map(chars);
        cells.chain([chars(&head[at])]).max().unwrap_or(0)
    };
    // Three columns of space lie behind each; those of the last, and one, in front.
    let taken: usize = (0..head.len()).map(|at| widest(at) + 3).sum::<usize>() + 3;
    let room = page.columns().saturating_sub(taken).max(BELOW.len());
    let has_room = |from: &String| chars(from) <= room;
    let mut table = Rows::with_head(head.len() + 1, head.iter().cloned().chain(["from".into()]));
    for (cells, from) in rows {
        let from = if has_room(from) { from } else { BELOW };
        table.row(cells.iter().map(String::as_str).chain([from]));
    }
    page.table(&mut table)?;
    let mut below = rows.iter().filter(|(_, from)| !has_room(from));
    below.try_for_each(|(cells, from)| page.note(&format!("{} is from {from}", cells[0])))
}

fn show_stream(page: &mut Page, settings: &Settings, len: usize) -> Result<(), Failure> {
    let Settings { seed, events, clients, skew, error_share, paths } = settings;
    page.title("Stream")?;
    page.fact(
        "made up",
        &format!("{} lines, {}, seed {seed}, read over and over", count(*events), bytes(len as u64)),
    )?;
    page.fact(
        "of",
        &format!(
            "{} clients and {} paths, Zipf {skew:.1}; {:.0} % errors",
            count((*clients).into()),
            count((*paths).into()),
            error_share * 100.0
        ),
    )
}

fn show_footprint(page: &mut Page, prepared: &Prepared<'_>) -> Result<(), Failure> {
    page.title("Memory")?;
    let footprint = prepared.footprint();
    let mut rows = Rows::new(1, ["what", "count", "bytes each", "bytes"]);
    for term in &footprint.terms {
        rows.row([term.name.clone(), count(term.count), count(term.bytes_each), count(term.bytes())]);
    }
    rows.row(["total".to_string(), String::new(), String::new(), count(footprint.total_bytes())])
        .last_is_sum();
    page.table(&mut rows)?;
    page.note(&format!("beside it: the reader's buffer, {}", bytes(prepared.reader_bytes())))
}
