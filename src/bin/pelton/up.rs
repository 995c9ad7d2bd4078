//! `pelton up`: the machine, every setting with its reason, and a made-up stream through the engine.

use crate::args::UpArgs;
use crate::failure::Failure;
use crate::format::{bytes, count};
use crate::page::{Page, Rows};
use crate::progress::{End, watched};
use crate::{machine, replay, text};
use pelton::class::{Overflow, Stamp};
use pelton::weblog::generate::GENERATED_LINE_BYTES_MAX;
use pelton::weblog::{
    CLASS_NAMES, ClassSettings, Generator, Options, Prepared, Progress, Settings, prepare_memory,
};
use std::time::Duration;

/// Lines of the stream. It is made before the start and read over and over, so that its producer allocates nothing.
const EVENTS: u64 = 200_000;

/// More than a made-up line has on average, in bytes.
const LINE_BYTES_USUAL: usize = 224;

pub fn run(args: &UpArgs) -> Result<(), Failure> {
    let options = args.options()?;
    let settings = Settings { seed: args.seed, events: EVENTS, ..Settings::default() };
    // Before the stream is made: what cannot be should be told at once.
    drop(prepare_memory(&[], &options)?);
    let stream = stream(&settings)?;
    let prepared = prepare_memory(&stream, &options)?;
    let mut page = Page::new();
    machine::show(&mut page)?;
    show_settings(&mut page, &prepared)?;
    show_classes(&mut page, prepared.options())?;
    show_stream(&mut page, &settings, stream.len())?;
    show_footprint(&mut page, &prepared)?;
    page.title(&format!("Running for {} s", args.seconds))?;
    page.flush()?;
    let progress = Progress::default();
    let end = End::After(Duration::from_secs(args.seconds.into()));
    let replay = watched(&end, &progress, || prepared.run(&progress))?;
    text::input(&mut page, "Input", &replay)?;
    text::all(&mut page, &replay)?;
    page.flush()?;
    replay::verdict(&replay)
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

fn show_settings(page: &mut Page, prepared: &Prepared<'_>) -> Result<(), Failure> {
    page.title("Settings")?;
    let mut rows = Rows::new(3, ["setting", "value", "why"]);
    for setting in prepared.options().explain(prepared.plan()) {
        // Exact bytes are for machines.
        let amount = setting.value.strip_suffix(" bytes").and_then(|n| n.parse().ok()).map(bytes);
        let plain = setting.value.parse().ok().map(count);
        rows.row([setting.name.to_string(), amount.or(plain).unwrap_or(setting.value), setting.reason]);
    }
    page.table(&mut rows)
}

fn show_classes(page: &mut Page, options: &Options) -> Result<(), Failure> {
    page.title("Classes")?;
    let mut rows =
        Rows::new(3, ["class", "lines", "share", "capacity", "payloads", "policy", "expires", "measured"]);
    let lines = ["5xx", "4xx", "others"];
    let shares = ["strict", "strict", "weighted 1"];
    for (at, class) in options.classes.iter().enumerate() {
        let ClassSettings { capacity, payload_bytes, overflow, ttl, stamp } = class;
        let policy = match overflow {
            Overflow::Block { limit: None } => "block".into(),
            Overflow::Block { limit: Some(limit) } => format!("block {limit:?}"),
            Overflow::Reject => "reject".into(),
            Overflow::DropNewest => "drop_newest".into(),
        };
        let measured = match stamp {
            Stamp::Every => "every".into(),
            Stamp::OneIn(n) => format!("1 in {n}"),
            Stamp::Never => "never".into(),
        };
        rows.row([
            CLASS_NAMES[at].to_string(),
            lines[at].into(),
            shares[at].into(),
            count((*capacity).into()),
            bytes((*payload_bytes).into()),
            policy,
            ttl.map_or("never".into(), |ttl| format!("{ttl:?}")),
            measured,
        ]);
    }
    page.table(&mut rows)?;
    page.note("errors are few, so each is measured; bulk is sampled, so that it costs nothing")?;
    page.note("block loses nothing: a producer whose lane is full waits for room")
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
