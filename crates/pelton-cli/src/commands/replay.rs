//! `pelton replay`: a log through the engine.

use crate::args::ReplayArgs;
use crate::failure::Failure;
use crate::machine;
use crate::output::json;
use crate::output::page;
use crate::output::progress::{End, watched};
use crate::output::text;
use crate::settings::config::Loaded;
use crate::weblog::{Progress, Replay, open, prepare_file, prepare_stream};
use std::io::stdin;

pub fn run(args: &ReplayArgs) -> Result<(), Failure> {
    let mut options = args.start();
    let quiet = args.json.then_some("one JSON object was asked for, and nothing else");
    let loaded = Loaded::replay(&args.settings.sources()?, &mut options, quiet)?;
    let progress = Progress::default();
    let (prepared, end, name) = if args.is_stdin() {
        // Not locked: a lock of standard input cannot go to the thread that reads.
        (prepare_stream(stdin(), &options), End::Unknown, "standard input".to_string())
    } else {
        let file = open(&args.file).map_err(|error| Failure::run(&error))?;
        let bytes = file.metadata().map_or(0, |data| data.len()).saturating_mul(options.loops);
        let end = match (options.loops, options.time_limit) {
            (u64::MAX, limit) => limit.map_or(End::Unknown, End::After),
            _ => End::Bytes(bytes),
        };
        (prepare_file(&file, &options), end, args.file.display().to_string())
    };
    let prepared = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return Err(loaded.no_replay(error)),
    };
    machine::allow_huge_pages(prepared.plan().has_huge_pages());
    loaded.announce();
    let replay = watched(&end, &progress, || prepared.run(&progress))?;
    let written = page::print(|page| {
        if args.json {
            return page.raw(&json::of(&replay, loaded.plan().profile()));
        }
        text::input(page, &name, &replay)?;
        text::all(page, &replay)
    });
    verdict(&replay).and(written)
}

/// A run that lost an event without saying so has failed, whatever it printed.
pub fn verdict(replay: &Replay) -> Result<(), Failure> {
    if replay.is_sound() {
        return Ok(());
    }
    let left = replay.engine.ledger.total().in_flight;
    Err(Failure::left(left, "the run", "run it again with one shard, and report it"))
}
