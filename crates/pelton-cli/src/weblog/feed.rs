//! What travels through the engine, who writes it and who keeps it.
//!
//! # Mechanism
//! ```text
//! Source ─▶ LineReader ─parse─▶ claim ─▶ slot {status, client length, size} + payload {client, request}
//!                                          │
//!                                          └──▶ Tally: Aggregate::record, in place
//! ```
//! A `Feed` is one producer thread: it reads its part of the input, parses each line where it lies, and writes what
//! is counted straight into a slot of the lane that the client's key and the status choose. A `Tally` is the handler
//! of one shard.
//!
//! # Invariants
//! - From its first line to its last a feed allocates nothing; it counts, so that this can be seen.
//! - Every line that was read is malformed, or offered to the engine, whose ledger tells what became of it.
//! - Line numbers are of the first pass, and count from 1 within the feed's part; whoever has all parts adds them up.

use std::io::{self, Cursor, Read};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use crate::weblog::aggregate::{Aggregate, Limits};
use crate::weblog::input::{FileRange, LineReader};
use crate::weblog::line::{Line, Malformed};
use crate::weblog::pace::{Kept, Pace, Schedule};
use crate::weblog::tables::TableError;
use pelton::class::ClassId;
use pelton::event::{Key, Rejection, Verdict};
use pelton::lane::PublishError;
use pelton::memory::audit::{ThreadSeal, seal_thread};
use pelton::memory::seal::{Seal, Sealed};
use pelton::producer::Producer;
use pelton::shard::{Context, Event, Handler};

/// How many lines of each kind of trouble are kept with their numbers.
pub const SHOWN_MAX: usize = 5;

/// Lines between two looks at the clock and at what the other feeds do; fewer at a low rate.
const LOOK_EVERY: u64 = 1_024;

/// One line in its slot. Its payload is the client, directly followed by the request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Entry {
    status: u16,
    client_len: u32,
    bytes: u64,
}

// With the slot's own words (sequence, key, stamp, payload) one cache line.
const _: () = assert!(size_of::<Entry>() == 16);

/// The handler of one shard: it records each line in the tables that it owns.
pub(crate) struct Tally(Result<Aggregate, TableError>);

impl Tally {
    /// Made on its shard's thread. Where the memory is refused the engine starts all the same, and whoever started it
    /// finds the reason in `refused`.
    pub fn new(limits: &Limits, refused: &OnceLock<TableError>) -> Self {
        let aggregate = Aggregate::new(limits);
        if let Err(error) = aggregate {
            let _ = refused.set(error);
        }
        Tally(aggregate)
    }
}

impl Handler<Entry> for Tally {
    type Output = Option<Aggregate>;

    #[inline]
    fn on_event(&mut self, event: &mut Event<'_, Entry>, _: &mut Context<'_, Entry>) -> Verdict {
        let Entry { status, client_len, bytes } = **event;
        let payload = event.payload();
        let (client, request) = payload.split_at(payload.len().min(client_len as usize));
        if let Ok(aggregate) = &mut self.0 {
            aggregate.record(client, request, status, bytes);
        }
        Verdict::Done
    }

    fn on_stop(self, _: &mut Context<'_, Entry>) -> Self::Output {
        self.0.ok()
    }
}

/// Where a feed's bytes come from.
pub(crate) trait Source: Read + Sized {
    /// Starts another pass over the same bytes; says whether it could. Allocates nothing.
    fn again(reader: &mut LineReader<Self>) -> bool;

    /// Bytes that this pass expected and did not find.
    fn missing_bytes(&self) -> u64;
}

impl Source for FileRange {
    fn again(reader: &mut LineReader<Self>) -> bool {
        reader.restart();
        true
    }

    fn missing_bytes(&self) -> u64 {
        FileRange::missing_bytes(self)
    }
}

impl Source for Cursor<&[u8]> {
    fn again(reader: &mut LineReader<Self>) -> bool {
        let bytes = *reader.get_ref().get_ref();
        reader.restart_with(Cursor::new(bytes));
        true
    }

    fn missing_bytes(&self) -> u64 {
        0
    }
}

/// A stream: what has been read is gone.
pub(crate) struct Stream<R>(pub R);

impl<R: Read> Read for Stream<R> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.0.read(room)
    }
}

impl<R: Read> Source for Stream<R> {
    fn again(_: &mut LineReader<Self>) -> bool {
        false
    }

    fn missing_bytes(&self) -> u64 {
        0
    }
}

/// How far a replay is, for whoever wants to watch it. Every feed adds to it now and then.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<(AtomicU64, AtomicU64)>);

impl Progress {
    /// Bytes that have been read so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.0.load(Ordering::Relaxed)
    }

    /// Lines that have been read so far.
    #[must_use]
    pub fn lines(&self) -> u64 {
        self.0.1.load(Ordering::Relaxed)
    }

    fn add(&self, bytes: u64, lines: u64) {
        // Relaxed: nothing is read through these; they are only looked at.
        self.0.0.fetch_add(bytes, Ordering::Relaxed);
        self.0.1.fetch_add(lines, Ordering::Relaxed);
    }
}

/// What all feeds of a run share.
pub(crate) struct Control<'a> {
    pub loops: u64,
    pub strict: bool,
    /// How many feeds there are.
    pub feeds: usize,
    pub deadline: Option<Instant>,
    /// When lines are to be sent; without it, as fast as they are read.
    pub schedule: Option<Schedule>,
    pub progress: &'a Progress,
    /// Feeds below this go on; it only ever sinks. A feed that met a malformed line under `strict` stops the later
    /// ones but not the earlier ones: those may hold an earlier malformed line, and the lines that number it.
    pub may_go: AtomicUsize,
}

impl Control<'_> {
    /// Stops feed `at` and all later ones.
    pub fn stop_from(&self, at: usize) {
        // Relaxed: it is a wish, and what the feeds did is read after they have been joined.
        self.may_go.fetch_min(at, Ordering::Relaxed);
    }

    fn is_stopped(&self, at: usize) -> bool {
        self.may_go.load(Ordering::Relaxed) <= at
    }

    fn is_anyone_stopped(&self) -> bool {
        self.may_go.load(Ordering::Relaxed) != usize::MAX
    }
}

/// A line that was noted, with its number (from 1) and what was wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noted<T> {
    /// The line's number.
    pub line: u64,
    /// What was wrong.
    pub what: T,
}

/// The first few lines of a kind.
pub(crate) type Firsts<T> = [Option<Noted<T>>; SHOWN_MAX];

fn note<T>(firsts: &mut Firsts<T>, line: u64, what: T) {
    if let Some(free) = firsts.iter_mut().find(|first| first.is_none()) {
        *free = Some(Noted { line, what });
    }
}

/// What a feed counted.
#[derive(Debug, Default)]
pub(crate) struct FeedCounts {
    pub lines: u64,
    /// Lines of the first pass, by which later parts are numbered.
    pub first_pass_lines: u64,
    pub malformed: [u64; Malformed::ALL.len()],
    pub malformed_first: Firsts<Malformed>,
    /// Lines that the engine refused as too large, with their payload bytes.
    pub too_large: u64,
    pub too_large_first: Firsts<usize>,
    pub bytes: u64,
    pub missing_bytes: u64,
    pub passes: u64,
    /// `None` where there was no schedule.
    pub kept: Option<Kept>,
    /// What the thread did with the heap from the first line to the last; `None` where nobody counts.
    pub sealed: Option<Sealed>,
}

/// Why a feed ended before its input did.
#[derive(Debug)]
pub(crate) enum FeedError {
    /// The input could not be read.
    Read(io::Error),
    /// The engine takes no more events.
    Refused(PublishError),
    /// The line was malformed, and the run is strict.
    Strict(Noted<Malformed>),
}

/// One producer thread's work.
pub(crate) struct Feed<S> {
    at: usize,
    reader: LineReader<S>,
    tx: Producer<Entry>,
    classes: [ClassId; 3],
    counts: FeedCounts,
    /// Lines from one look to the next, and until the next.
    look_every: u64,
    until_look: u64,
    bytes_shown: u64,
}

impl<S: Source> Feed<S> {
    pub fn new(at: usize, reader: LineReader<S>, tx: Producer<Entry>, classes: [ClassId; 3]) -> Self {
        let counts = FeedCounts::default();
        let look_every = LOOK_EVERY;
        Feed { at, reader, tx, classes, counts, look_every, until_look: look_every, bytes_shown: 0 }
    }

    /// Reads, parses and publishes to the end. The producer is detached when this returns.
    pub fn run(mut self, control: &Control<'_>) -> (FeedCounts, Result<(), FeedError>) {
        let mut pace = control.schedule.as_ref().map(|schedule| Pace::new(schedule, self.at, control.feeds));
        if let Some(schedule) = &control.schedule {
            self.look_every = LOOK_EVERY.min(schedule.lines_between_looks(control.feeds));
            self.until_look = self.look_every;
        }
        let seal = seal_thread(Seal::Count).ok();
        let result = self.passes(control, &mut pace);
        self.counts.sealed = seal.map(ThreadSeal::finish);
        self.counts.kept = pace.map(|pace| pace.kept());
        self.counts.bytes = self.reader.bytes_read();
        match &result {
            Ok(()) => {}
            Err(FeedError::Strict(_)) => control.stop_from(self.at),
            Err(_) => control.stop_from(0),
        }
        (self.counts, result)
    }

    fn passes(&mut self, control: &Control<'_>, pace: &mut Option<Pace<'_>>) -> Result<(), FeedError> {
        loop {
            let result = self.pass(control, pace);
            self.look(control);
            if self.counts.passes == 0 {
                self.counts.first_pass_lines = self.counts.lines;
            }
            self.counts.passes += 1;
            self.counts.missing_bytes += self.reader.get_ref().missing_bytes();
            let whole = result?;
            let more = whole && self.counts.passes < control.loops && !control.is_anyone_stopped();
            if !more || is_over(control.deadline) || !S::again(&mut self.reader) {
                return Ok(());
            }
        }
    }

    /// One pass; says whether it came to the end.
    fn pass(&mut self, control: &Control<'_>, pace: &mut Option<Pace<'_>>) -> Result<bool, FeedError> {
        loop {
            if self.until_look == 0 {
                self.look(control);
                // The deadline counts from the second pass on, so that every line has been seen, and numbered.
                if control.is_stopped(self.at) || (self.counts.passes > 0 && is_over(control.deadline)) {
                    return Ok(false);
                }
            }
            let Some(raw) = self.reader.next_line().map_err(FeedError::Read)? else { return Ok(true) };
            self.until_look -= 1;
            self.counts.lines += 1;
            match raw.parse() {
                Ok(line) => {
                    let meant = match pace {
                        None => None,
                        Some(pace) => match pace.wait(|| control.is_stopped(self.at)) {
                            // The run ends with an error; what this line would have been does not matter.
                            None => return Ok(false),
                            meant => meant,
                        },
                    };
                    publish(&mut self.tx, &self.classes, &mut self.counts, &line, meant)
                        .map_err(FeedError::Refused)?;
                }
                Err(reason) => {
                    if let Some(pace) = pace {
                        pace.skip();
                    }
                    self.counts.malformed[reason.index()] += 1;
                    let line = self.counts.lines;
                    if control.strict {
                        return Err(FeedError::Strict(Noted { line, what: reason }));
                    }
                    if self.counts.passes == 0 {
                        note(&mut self.counts.malformed_first, line, reason);
                    }
                }
            }
        }
    }

    /// Shows how far it is.
    #[cold]
    fn look(&mut self, control: &Control<'_>) {
        let bytes = self.reader.bytes_read();
        control.progress.add(bytes - self.bytes_shown, self.look_every - self.until_look);
        self.bytes_shown = bytes;
        self.until_look = self.look_every;
    }
}

/// Writes a line into a slot of its class and client, by the policy of the class. `meant` is the time, in ticks, from
/// which its latency counts; without it, that is the time at which it is published.
#[inline]
fn publish(
    tx: &mut Producer<Entry>,
    classes: &[ClassId; 3],
    counts: &mut FeedCounts,
    line: &Line<'_>,
    meant: Option<u64>,
) -> Result<(), PublishError> {
    let class = classes[match line.status {
        500..=599 => 0,
        400..=499 => 1,
        _ => 2,
    }];
    let client_len = line.client.len();
    let payload_bytes = client_len + line.request.len();
    match tx.claim(class, Key::of(line.client)).with_payload(payload_bytes).acquire() {
        Ok(mut claim) => {
            let (entry, payload) = claim.parts_mut();
            // A line has at most 2^20 bytes, so the length fits.
            *entry = Entry { status: line.status, client_len: client_len as u32, bytes: line.bytes };
            let (client, request) = payload.split_at_mut(client_len);
            client.copy_from_slice(line.client);
            request.copy_from_slice(line.request);
            match meant {
                None => claim.publish(),
                Some(ticks) => claim.publish_stamped(ticks),
            }
        }
        Err(refusal) => refused_slow(counts, refusal, payload_bytes),
    }
}

/// What the engine refused stands in its ledger; a line that can never fit is noted, so that it can be found.
#[cold]
fn refused_slow(
    counts: &mut FeedCounts,
    refusal: PublishError,
    payload_bytes: usize,
) -> Result<(), PublishError> {
    match refusal.reason {
        Rejection::TooLarge => {
            counts.too_large += 1;
            if counts.passes == 0 {
                note(&mut counts.too_large_first, counts.lines, payload_bytes);
            }
            Ok(())
        }
        Rejection::SlotsFull | Rejection::BytesFull | Rejection::TimedOut | Rejection::DroppedNewest => {
            Ok(())
        }
        // The stream cannot go on.
        _ => Err(refusal),
    }
}

fn is_over(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| Instant::now() >= deadline)
}
