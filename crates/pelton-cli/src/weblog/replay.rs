//! A log through the engine: producers parse, shards count in place, and one result says what became of every line.
//!
//! # Mechanism
//! ```text
//! prepare_* ─▶ Prepared ─run─▶ engine, feeds ─join─▶ drain ─stop─▶ Replay
//!    │ plan checked, readers made         │ one thread for each producer
//! ```
//! Preparing opens nothing: a file comes open, and is cut into one range for each producer, by the length that it has
//! then. Running starts the engine, lets every feed read its range, waits until the last event has left its lane,
//! and merges what the shards counted.
//!
//! # Invariants
//! - Ranges are in the order of the file, so a line's number is that within its range and the lines of the ranges
//!   before it. With several producers a strict run still names the first malformed line of the file.
//! - Everything that allocates (readers, tables, threads) does so before the first line or after the last.
//! - Under `block`, the report is the same for every number of shards and producers and every wait strategy.
//!
//! # What it does not do
//! It does not follow a file that grows: what is appended after the preparation is not read. Of a file that is
//! truncated meanwhile, what was still there is counted, and [`InputCounts::missing_bytes`] tells the rest.

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use crate::weblog::aggregate::{Aggregate, Report};
use crate::weblog::feed::{
    Control, Entry, Feed, FeedCounts, FeedError, Firsts, Noted, Progress, SHOWN_MAX, Source, Stream, Tally,
};
use crate::weblog::input::{FileRange, LineReader, READER_BYTES, split};
use crate::weblog::line::Malformed;
use crate::weblog::options::{Options, Passes};
use crate::weblog::pace::{Kept, Schedule};
use crate::weblog::tables::TableError;
use pelton::class::ClassId;
use pelton::engine::{self, Engine, Plan, PlanErrors, SealError, StartError, StopError};
use pelton::lane::PublishError;
use pelton::memory::footprint::{Footprint, resident_bytes};
use pelton::memory::seal::{Seal, Sealed};
use pelton::producer::AttachError;
use pelton::shard::available;

/// How long the events that are in their lanes when the input ends may take to be handled.
pub const DRAIN_LIMIT: Duration = Duration::from_secs(60);

/// Why a replay gave no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The settings cannot be.
    #[error(transparent)]
    Settings(#[from] PlanErrors),
    /// The engine did not start.
    #[error(transparent)]
    Start(StartError),
    /// The tables could not be laid out.
    #[error(transparent)]
    Tables(TableError),
    /// The input could not be read.
    #[error("the input could not be read to its end: {0}")]
    Read(#[source] io::Error),
    /// A line was malformed, and the run is strict.
    #[error("line {}: {}; mend the line, or run without --strict to count it and go on", .0.line, .0.what)]
    Strict(Noted<Malformed>),
    /// A producer could not be attached.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The system refused the thread of a producer.
    #[error("the thread of a producer could not be started: {0}; name fewer producers")]
    Thread(#[source] io::Error),
    /// A shard did not answer when it was to be sealed.
    #[error(transparent)]
    Seal(SealError),
    /// The engine closed before the input ended.
    #[error("the engine closed before the input ended: {0}")]
    Refused(PublishError),
    /// The engine could not be stopped.
    #[error(transparent)]
    Stop(#[from] StopError),
}

impl From<StartError> for ReplayError {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Plan(errors) => ReplayError::Settings(errors),
            error => ReplayError::Start(error),
        }
    }
}

/// A replay with its plan checked and its readers made.
pub struct Prepared<'a> {
    options: Options,
    plan: Plan,
    classes: [ClassId; 3],
    readers: Readers<'a>,
}

enum Readers<'a> {
    File(Vec<LineReader<FileRange>>),
    Memory(Vec<LineReader<Cursor<&'a [u8]>>>),
    Stream(Vec<LineReader<Stream<Box<dyn Read + Send + 'a>>>>),
}

/// A replay of an open file, by as many producers as the options say.
///
/// # Errors
/// [`ReplayError::Settings`]; [`ReplayError::Read`] where the file cannot be cut into ranges.
pub fn prepare_file(file: &File, options: &Options) -> Result<Prepared<'static>, ReplayError> {
    let (plan, classes) = options.checked::<Entry>(Passes::ManyByRanges)?;
    let ranges = split(file, usize::from(options.producers)).map_err(ReplayError::Read)?;
    let readers = Readers::File(ranges.into_iter().map(LineReader::new).collect());
    Ok(Prepared { options: options.clone(), plan, classes, readers })
}

/// A replay of a stream, which has one producer and is read once.
///
/// # Errors
/// [`ReplayError::Settings`].
pub fn prepare_stream<'a>(
    source: impl Read + Send + 'a,
    options: &Options,
) -> Result<Prepared<'a>, ReplayError> {
    let (plan, classes) = options.checked::<Entry>(Passes::One)?;
    let source: Box<dyn Read + Send + 'a> = Box::new(source);
    let readers = Readers::Stream(vec![LineReader::new(Stream(source))]);
    Ok(Prepared { options: options.clone(), plan, classes, readers })
}

/// A replay of lines in memory, which has one producer, as often as the options say.
///
/// # Errors
/// [`ReplayError::Settings`].
pub fn prepare_memory<'a>(bytes: &'a [u8], options: &Options) -> Result<Prepared<'a>, ReplayError> {
    let (plan, classes) = options.checked::<Entry>(Passes::Many)?;
    let readers = Readers::Memory(vec![LineReader::new(Cursor::new(bytes))]);
    Ok(Prepared { options: options.clone(), plan, classes, readers })
}

impl Prepared<'_> {
    /// The plan that the engine will be started from.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The options, as they are used.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The engine's memory, as planned.
    #[must_use]
    pub fn footprint(&self) -> Footprint {
        self.plan.footprint::<Entry>()
    }

    /// The memory of the readers, in bytes. It is there already, and no part of the engine's.
    #[must_use]
    pub fn reader_bytes(&self) -> u64 {
        u64::from(self.options.producers) * READER_BYTES as u64
    }

    /// Runs it to the end of the input (or of the time).
    ///
    /// # Errors
    /// [`ReplayError`]; the engine is stopped then.
    pub fn run(self, progress: &Progress) -> Result<Replay, ReplayError> {
        let Prepared { options, plan, classes, readers } = self;
        let run = Run { options, plan, classes, progress };
        match readers {
            Readers::File(readers) => run.run(readers),
            Readers::Memory(readers) => run.run(readers),
            Readers::Stream(readers) => run.run(readers),
        }
    }
}

struct Run<'a> {
    options: Options,
    plan: Plan,
    classes: [ClassId; 3],
    progress: &'a Progress,
}

/// What all feeds left, in the order of the input, each with why it ended early.
type Ends = Vec<(FeedCounts, Result<(), FeedError>)>;

impl Run<'_> {
    fn run<S: Source + Send>(self, readers: Vec<LineReader<S>>) -> Result<Replay, ReplayError> {
        let footprint = self.plan.footprint::<Entry>();
        let resident_before = resident_bytes();
        let engine = self.start()?;
        match engine.seal(Seal::Count) {
            // Where nobody counts, the result says so.
            Ok(()) | Err(SealError::NotCounted(_)) => {}
            Err(error) => return Err(ReplayError::Seal(error)),
        }
        // The shards have written to all of their memory by now, and no producer has a thread yet.
        let resident = resident_bytes().zip(resident_before).map(|(now, before)| now.saturating_sub(before));
        let begun = Instant::now();
        let ends = self.feed(&engine, readers, begun)?;
        engine.drain(DRAIN_LIMIT);
        let elapsed = begun.elapsed();
        let engine = engine.stop(DRAIN_LIMIT)?;
        let input = Input::of(ends)?;
        Ok(Replay::new(input, engine, &self.options, footprint, resident, elapsed))
    }

    fn start(&self) -> Result<Engine<Entry>, ReplayError> {
        let refused = Arc::new(OnceLock::new());
        let limits = self.options.limits;
        let seen = Arc::clone(&refused);
        let engine = self.plan.clone().start(Entry::default, move |_| Tally::new(&limits, &seen))?;
        match refused.get() {
            None => Ok(engine),
            Some(error) => Err(ReplayError::Tables(*error)),
        }
    }

    /// Runs one thread for each reader, to its end.
    fn feed<S: Source + Send>(
        &self,
        engine: &Engine<Entry>,
        readers: Vec<LineReader<S>>,
        begun: Instant,
    ) -> Result<Ends, ReplayError> {
        let control = Control {
            loops: self.options.loops,
            strict: self.options.strict,
            feeds: readers.len(),
            schedule: self.options.rate.map(|rate| {
                let threads = readers.len() + usize::from(self.plan.shards());
                Schedule::new(rate, engine.clock().clone(), available().len() < threads)
            }),
            deadline: self.options.time_limit.and_then(|limit| begun.checked_add(limit)),
            progress: self.progress,
            may_go: AtomicUsize::new(usize::MAX),
        };
        let mut feeds = Vec::with_capacity(readers.len());
        for (at, reader) in readers.into_iter().enumerate() {
            feeds.push(Feed::new(at, reader, engine.attach()?, self.classes));
        }
        thread::scope(|scope| {
            let control = &control;
            let mut threads = Vec::with_capacity(feeds.len());
            for (at, feed) in feeds.into_iter().enumerate() {
                let thread = thread::Builder::new().name(format!("pelton-feed-{at}"));
                match thread.spawn_scoped(scope, move || feed.run(control)) {
                    Ok(thread) => threads.push(thread),
                    Err(error) => {
                        control.stop_from(0);
                        return Err(ReplayError::Thread(error));
                    }
                }
            }
            let join = |thread: thread::ScopedJoinHandle<'_, _>| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            Ok(threads.into_iter().map(join).collect())
        })
    }
}

/// How much was read, and what it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InputCounts {
    /// Lines, over all passes.
    pub lines: u64,
    /// Lines that were parsed and offered to the engine.
    pub parsed: u64,
    /// Lines that are no log lines.
    pub malformed: u64,
    /// Bytes that were read, over all passes.
    pub bytes: u64,
    /// Bytes that were there when the file was opened and were gone when they were to be read.
    pub missing_bytes: u64,
    /// Lines that were parsed but refused, as client and request exceed half of a payload ring. The ledger has them
    /// as `rejected(too_large)`.
    pub too_large: u64,
    /// How often the input was read; the last pass may have been ended by the time limit.
    pub passes: u64,
}

/// What all feeds counted together.
struct Input {
    counts: InputCounts,
    malformed_by: [u64; Malformed::ALL.len()],
    malformed_first: Vec<Noted<Malformed>>,
    too_large_first: Vec<Noted<usize>>,
    kept: Option<Kept>,
    sealed: Option<Sealed>,
}

impl Input {
    /// Adds up the parts, which come in the order of the input.
    fn of(ends: Ends) -> Result<Self, ReplayError> {
        let mut sum = Input {
            counts: InputCounts::default(),
            malformed_by: [0; Malformed::ALL.len()],
            malformed_first: Vec::new(),
            too_large_first: Vec::new(),
            kept: None,
            sealed: Some(Sealed::default()),
        };
        let mut lines_before = 0;
        let mut strict = None;
        for (counts, result) in ends {
            match result {
                Ok(()) => {}
                // These stop all feeds, so lines can no longer be numbered: they come before a malformed line.
                Err(FeedError::Read(error)) => return Err(ReplayError::Read(error)),
                Err(FeedError::Refused(refusal)) => return Err(ReplayError::Refused(refusal)),
                Err(FeedError::Strict(noted)) => {
                    strict.get_or_insert(Noted { line: lines_before + noted.line, ..noted });
                }
            }
            let malformed: u64 = counts.malformed.iter().sum();
            let total = &mut sum.counts;
            total.lines += counts.lines;
            total.parsed += counts.lines - malformed;
            total.malformed += malformed;
            total.bytes += counts.bytes;
            total.missing_bytes += counts.missing_bytes;
            total.too_large += counts.too_large;
            total.passes = total.passes.max(counts.passes);
            sum.malformed_by.iter_mut().zip(counts.malformed).for_each(|(sum, n)| *sum += n);
            append(&mut sum.malformed_first, counts.malformed_first, lines_before);
            append(&mut sum.too_large_first, counts.too_large_first, lines_before);
            match (&mut sum.sealed, &counts.sealed) {
                (Some(sum), Some(more)) => sum.add(more),
                _ => sum.sealed = None,
            }
            if let Some(kept) = counts.kept {
                let sum = sum.kept.get_or_insert(Kept { rate_per_s: kept.rate_per_s, ..Kept::default() });
                sum.add(&kept);
            }
            lines_before += counts.first_pass_lines;
        }
        strict.map_or(Ok(sum), |noted| Err(ReplayError::Strict(noted)))
    }
}

fn append<T>(firsts: &mut Vec<Noted<T>>, more: Firsts<T>, lines_before: u64) {
    let more = more.into_iter().flatten().map(|noted| Noted { line: lines_before + noted.line, ..noted });
    firsts.extend(more.take(SHOWN_MAX - firsts.len()));
}

/// What a replay found, and what it cost.
#[derive(Debug)]
pub struct Replay {
    /// What was read.
    pub input: InputCounts,
    /// Malformed lines by reason, those that occurred, in the order of [`Malformed::ALL`].
    pub malformed_by: Vec<(Malformed, u64)>,
    /// The first malformed lines of the first pass, [`SHOWN_MAX`] at most.
    pub malformed_first: Vec<Noted<Malformed>>,
    /// The first lines that were too large, with the bytes of their client and request, [`SHOWN_MAX`] at most.
    pub too_large_first: Vec<Noted<usize>>,
    /// How the schedule was kept; `None` where the options named no rate.
    pub kept: Option<Kept>,
    /// What the shards counted, merged.
    pub report: Report,
    /// What became of every event, and how long it took.
    pub engine: engine::Report,
    /// The engine's memory, as planned.
    pub footprint: Footprint,
    /// By how much this process's resident memory grew while the engine started, in bytes; `None` where the system
    /// does not say. Memory that the process had freed before is used again, and does not show.
    pub resident_bytes: Option<u64>,
    /// Allocations of all shards' threads, from start to stop; `None` where nobody counts them.
    pub shard_allocations: Option<u64>,
    /// Allocations of all producers' threads, from the first line to the last; `None` where nobody counts them.
    pub producer_allocations: Option<u64>,
    /// What the shards did with the heap, with its places: they are sealed before the first line.
    pub shards_sealed: Option<Sealed>,
    /// The same of the producers, each sealed from its first line to its last.
    pub producers_sealed: Option<Sealed>,
    /// From the first line to the last event that left its lane.
    pub elapsed: Duration,
}

impl Replay {
    fn new(
        input: Input,
        mut engine: engine::Report,
        options: &Options,
        footprint: Footprint,
        resident_bytes: Option<u64>,
        elapsed: Duration,
    ) -> Self {
        let tables: Vec<Aggregate> = engine.outputs::<Option<Aggregate>>().into_iter().flatten().collect();
        let report = match tables.is_empty() {
            // No shard stopped in time; an empty report says so, as the engine's does.
            true => Aggregate::merge(Vec::new()).report(0),
            false => Aggregate::merge(tables).report(options.top),
        };
        let by = Malformed::ALL.into_iter().zip(input.malformed_by).filter(|(_, n)| *n > 0).collect();
        Replay {
            input: input.counts,
            malformed_by: by,
            malformed_first: input.malformed_first,
            too_large_first: input.too_large_first,
            kept: input.kept,
            report,
            shard_allocations: engine.allocations(),
            producer_allocations: input.sealed.as_ref().map(|sealed| sealed.allocations),
            shards_sealed: engine.sealed(),
            producers_sealed: input.sealed,
            engine,
            footprint,
            resident_bytes,
            elapsed,
        }
    }

    /// Events that were handled, by the seconds from the first line to the last event.
    #[must_use]
    pub fn events_per_s(&self) -> f64 {
        let seconds = self.elapsed.as_secs_f64();
        if seconds > 0.0 { self.engine.ledger.total().handled as f64 / seconds } else { 0.0 }
    }

    /// Whether every accepted event left its lane and the ledger's identity holds.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.engine.drained && self.engine.ledger.is_closed()
    }
}
