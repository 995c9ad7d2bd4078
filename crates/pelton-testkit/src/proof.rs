//! What the nets share: a watchdog for every wait, events that prove themselves, and the two invariants that every
//! test that moves events ends with.
//!
//! - **I, conservation** ([`assert_closed`]): the ledger's identity, lane by lane and for every sum.
//! - **O, order** ([`assert_order`]): per (producer, key, class) the handled sequences strictly increase, and every gap
//!   is a refusal, an expiry, a failure or still in flight, as the ledger says.
//!
//! A test knows of each event what its producer was told and what its handler saw, from books of its own
//! ([`Source`], [`Witness`]). The ledger is compared with them, never believed.

use pelton::class::ClassId;
use pelton::clock::VirtualTime;
use pelton::engine::Report;
use pelton::event::Failure;
use pelton::ledger::Counts;
use pelton::shard::ShardExit;
use pelton::{
    Context, Engine, Event, Handler, Key, Outcome, Plan, Producer, Profile, PublishError, Shard, ShardId,
    Verdict,
};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::Location;
use std::sync::{Arc, Condvar, Mutex, Once};
use std::time::{Duration, Instant};

/// Ends the process when a test hangs; disarmed when it is dropped.
pub struct Watchdog(Arc<(Mutex<bool>, Condvar)>);

/// How long a test may take. Two orders of magnitude more than it needs, so that a busy machine fails nothing.
const WATCHDOG: Duration = Duration::from_secs(60);

/// Arms a watchdog. Every test begins with it.
#[track_caller]
pub fn watchdog() -> Watchdog {
    watchdog_for(WATCHDOG)
}

/// Arms a watchdog that barks after `limit`; after `PELTON_TEST_WATCHDOG_S` seconds where that is set and less, for tests that
/// are meant to fail.
#[track_caller]
pub fn watchdog_for(limit: Duration) -> Watchdog {
    let most = std::env::var("PELTON_TEST_WATCHDOG_S").ok().and_then(|most| most.parse().ok());
    let limit = limit.min(most.map_or(Duration::MAX, Duration::from_secs));
    let state = Arc::new((Mutex::new(false), Condvar::new()));
    let watched = state.clone();
    let place = Location::caller();
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    std::thread::spawn(move || {
        let begun = Instant::now();
        let mut disarmed = watched.0.lock().unwrap();
        while !*disarmed {
            let left = limit.saturating_sub(begun.elapsed());
            if left.is_zero() {
                eprintln!("watchdog: {name} ({place}) hangs since {limit:?}");
                std::process::abort();
            }
            disarmed = watched.1.wait_timeout(disarmed, left).unwrap().0;
        }
    });
    Watchdog(state)
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        *self.0.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = true;
        self.0.1.notify_all();
    }
}

/// What every panic that a test plans says, so that [`quiet_panics`] knows it.
pub const PLANNED: &str = "planned panic";

/// Keeps planned panics off the screen. (Others still show.)
pub fn quiet_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let planned = match info.payload().downcast_ref::<String>() {
                Some(text) => text.contains(PLANNED),
                None => info.payload().downcast_ref::<&str>().is_some_and(|text| text.contains(PLANNED)),
            };
            if !planned {
                usual(info);
            }
        }));
    });
}

/// A door that a test opens when it likes: handlers and producers wait before it.
#[derive(Clone, Default)]
pub struct Door(Arc<(Mutex<DoorState>, Condvar)>);

#[derive(Default)]
struct DoorState {
    is_open: bool,
    waiting: usize,
}

impl Door {
    /// Opens it.
    pub fn open(&self) {
        self.0.0.lock().unwrap().is_open = true;
        self.0.1.notify_all();
    }

    /// Closes it again.
    pub fn close(&self) {
        self.0.0.lock().unwrap().is_open = false;
    }

    /// Waits until it is open.
    pub fn wait(&self) {
        let mut state = self.0.0.lock().unwrap();
        state.waiting += 1;
        self.0.1.notify_all();
        while !state.is_open {
            state = self.0.1.wait(state).unwrap();
        }
        state.waiting -= 1;
    }

    /// Waits until so many wait before it.
    pub fn until_waiting(&self, count: usize) {
        let mut state = self.0.0.lock().unwrap();
        while state.waiting < count {
            state = self.0.1.wait(state).unwrap();
        }
    }
}

/// A value that counts its drops, and may panic in one of them.
pub struct Dropped {
    pub number: usize,
    book: Arc<DropBook>,
}

/// How often each value was dropped.
pub struct DropBook {
    made: std::sync::atomic::AtomicUsize,
    drops: Box<[std::sync::atomic::AtomicU32]>,
    /// The value that panics when it is dropped.
    bomb: Option<usize>,
}

impl DropBook {
    pub fn new(max: usize, bomb: Option<usize>) -> Arc<Self> {
        Arc::new(DropBook {
            made: Default::default(),
            drops: (0..max).map(|_| Default::default()).collect(),
            bomb,
        })
    }

    pub fn make(self: &Arc<Self>) -> Dropped {
        let number = self.made.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Dropped { number, book: self.clone() }
    }

    pub fn made(&self) -> usize {
        self.made.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// How many values are alive.
    pub fn alive(&self) -> usize {
        let drops = |n: &std::sync::atomic::AtomicU32| n.load(std::sync::atomic::Ordering::Relaxed) as usize;
        self.made() - self.drops.iter().map(drops).sum::<usize>()
    }

    /// Fails where a value was dropped twice, or not at all.
    #[track_caller]
    pub fn assert_all_dropped_once(&self) {
        for (number, drops) in self.drops[..self.made()].iter().enumerate() {
            let drops = drops.load(std::sync::atomic::Ordering::Relaxed);
            assert_eq!(drops, 1, "value {number} of {} was dropped {drops} times", self.made());
        }
    }
}

impl Drop for Dropped {
    fn drop(&mut self) {
        self.book.drops[self.number].fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if self.book.bomb == Some(self.number) {
            panic!("{PLANNED} in the drop of value {}", self.number);
        }
    }
}

/// An event that proves itself: who made it, in which order, and a checksum over both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Proof {
    pub source: u32,
    pub class: u32,
    pub key: u64,
    pub sequence: u64,
    /// What the test wants the handler to do with it.
    pub order: u64,
    sum: u64,
}

impl Proof {
    fn sum_of(&self) -> u64 {
        let mut sum = 0xcbf2_9ce4_8422_2325u64;
        for word in [u64::from(self.source), u64::from(self.class), self.key, self.sequence, self.order] {
            sum = (sum ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
        }
        sum | 1
    }

    pub fn new(source: u32, class: ClassId, key: u64, sequence: u64, order: u64) -> Self {
        let mut proof = Proof { source, class: class.index() as u32, key, sequence, order, sum: 0 };
        proof.sum = proof.sum_of();
        proof
    }

    pub fn is_whole(&self) -> bool {
        self.sum == self.sum_of()
    }
}

/// (source, class, key): what order is kept within.
pub type Stream = (u32, u32, u64);

/// A producer's own book: what it offered, and what it was told.
#[derive(Clone, Debug, Default)]
pub struct Source {
    id: u32,
    next: BTreeMap<(u32, u64), u64>,
    refused: BTreeSet<(u32, u64, u64)>,
}

impl Source {
    /// The book of one producer; its number must be its own.
    pub fn new(id: u32) -> Self {
        Source { id, ..Source::default() }
    }

    /// The next event of a stream. It counts only once it is settled.
    pub fn next(&self, class: ClassId, key: u64, order: u64) -> Proof {
        let sequence = self.next.get(&(class.index() as u32, key)).copied().unwrap_or(0);
        Proof::new(self.id, class, key, sequence, order)
    }

    fn pass(&mut self, proof: &Proof) {
        *self.next.entry((proof.class, proof.key)).or_default() += 1;
    }

    pub fn accepted(&mut self, proof: &Proof) {
        self.pass(proof);
    }

    pub fn refused(&mut self, proof: &Proof) {
        self.pass(proof);
        self.refused.insert((proof.class, proof.key, proof.sequence));
    }

    /// Writes down what a publish said.
    pub fn settle(&mut self, proof: &Proof, said: &Result<Outcome, PublishError>) {
        match said {
            Ok(Outcome::Accepted) => self.accepted(proof),
            Ok(Outcome::Dropped) | Err(_) => self.refused(proof),
        }
    }

    /// Publishes the next event of a stream by the class's policy.
    pub fn publish(
        &mut self,
        tx: &mut Producer<Proof>,
        class: ClassId,
        key: u64,
    ) -> Result<Outcome, PublishError> {
        self.publish_order(tx, class, key, 0)
    }

    /// The same with an order for the handler.
    pub fn publish_order(
        &mut self,
        tx: &mut Producer<Proof>,
        class: ClassId,
        key: u64,
        order: u64,
    ) -> Result<Outcome, PublishError> {
        let proof = self.next(class, key, order);
        let said = tx.publish(class, key, |event| *event = proof);
        self.settle(&proof, &said);
        said
    }

    /// Publishes without waiting.
    pub fn try_publish(
        &mut self,
        tx: &mut Producer<Proof>,
        class: ClassId,
        key: u64,
    ) -> Result<Outcome, PublishError> {
        let proof = self.next(class, key, 0);
        let said = tx.try_publish(class, key, |event| *event = proof);
        self.settle(&proof, &said);
        said
    }
}

/// A handler's own book: what it saw, in which order.
#[derive(Clone, Debug, Default)]
pub struct Witness {
    pub seen: BTreeMap<Stream, Vec<u64>>,
    pub failed: BTreeMap<Stream, Vec<u64>>,
    pub faults: Vec<String>,
    /// The event that is being handled.
    attempt: Option<Proof>,
}

impl Witness {
    /// Before an event is handled: is it whole, and the one that it says?
    pub fn begin(&mut self, event: &Event<'_, Proof>) {
        self.settle_attempt();
        let proof = **event;
        if !proof.is_whole() {
            self.faults.push(format!("corruption: {proof:?}"));
        }
        if event.key() != Key(proof.key) || event.class().index() as u32 != proof.class {
            self.faults.push(format!("corruption: {:?} {:?} carries {proof:?}", event.key(), event.class()));
        }
        self.attempt = Some(proof);
    }

    /// After it.
    pub fn end(&mut self, verdict: Verdict) {
        if let (Some(proof), Verdict::Done) = (self.attempt.take(), verdict) {
            self.seen.entry((proof.source, proof.class, proof.key)).or_default().push(proof.sequence);
        }
    }

    /// An event that was begun and never ended is one that the handler panicked on.
    fn settle_attempt(&mut self) {
        if let Some(proof) = self.attempt.take() {
            self.failed.entry((proof.source, proof.class, proof.key)).or_default().push(proof.sequence);
        }
    }

    pub fn handled(&self) -> u64 {
        self.seen.values().map(|seen| seen.len() as u64).sum()
    }
}

/// A handler that keeps a [`Witness`], and does what it is told besides.
pub struct Acting<F> {
    pub witness: Witness,
    act: F,
}

/// Makes a handler of a closure.
pub fn acting<F>(act: F) -> Acting<F>
where
    F: FnMut(&mut Event<'_, Proof>, &mut Context<'_, Proof>) -> Verdict + 'static,
{
    Acting { witness: Witness::default(), act }
}

/// A handler that says `Done`.
pub fn recording() -> Acting<impl FnMut(&mut Event<'_, Proof>, &mut Context<'_, Proof>) -> Verdict + 'static>
{
    acting(|_, _| Verdict::Done)
}

impl<F> Handler<Proof> for Acting<F>
where
    F: FnMut(&mut Event<'_, Proof>, &mut Context<'_, Proof>) -> Verdict + 'static,
{
    type Output = Witness;

    fn on_event(&mut self, event: &mut Event<'_, Proof>, context: &mut Context<'_, Proof>) -> Verdict {
        self.witness.begin(event);
        let verdict = (self.act)(event, context);
        self.witness.end(verdict);
        verdict
    }

    fn on_stop(mut self, _: &mut Context<'_, Proof>) -> Witness {
        self.witness.settle_attempt();
        self.witness
    }
}

/// **I**: the identity holds for every lane, the sums agree with each other, and nobody slept through a wake-up.
#[track_caller]
pub fn assert_closed(report: &Report) {
    let ledger = &report.ledger;
    for lane in &ledger.lanes {
        assert!(lane.counts.is_closed(), "the ledger of a lane is not closed: {lane:?}");
    }
    assert!(ledger.is_closed());
    let total = ledger.total();
    assert!(total.is_closed(), "{total:?}");
    let sum = |counts: &mut dyn Iterator<Item = Counts>| {
        counts.fold(Counts::default(), |mut sum, counts| {
            sum.add(&counts);
            sum
        })
    };
    let unrouted = || ledger.unrouted.iter().copied();
    assert_eq!(sum(&mut report.classes.iter().map(|class| class.counts)), total, "by class");
    let shards = report.shards.iter().map(|shard| shard.counts);
    assert_eq!(sum(&mut shards.chain(unrouted())), total, "by shard");
    let producers: BTreeSet<_> = ledger.lanes.iter().map(|lane| lane.producer).collect();
    let producers = producers.into_iter().map(|producer| ledger.producer(producer));
    assert_eq!(sum(&mut producers.chain(unrouted())), total, "by producer");
    for class in &report.classes {
        assert_eq!(class.counts, ledger.class(class.class));
    }
    for shard in &report.shards {
        assert_eq!(shard.counts, ledger.shard(shard.placement.shard));
    }
    if report.drained {
        assert_eq!(total.in_flight, 0, "drained, and yet in flight: {total:?}");
    }
    assert_eq!(report.rescues(), 0, "a sleeper missed its wake-up");
}

/// **O**: what handlers saw is what producers offered, in order, less what the ledger says was lost on the way.
#[track_caller]
pub fn assert_order(report: &Report, sources: &[Source], witnesses: &[Witness]) {
    for witness in witnesses {
        assert!(witness.faults.is_empty(), "{:?}", witness.faults);
    }
    let mut accepted_by_class: BTreeMap<u32, u64> = BTreeMap::new();
    let mut refused_by_class: BTreeMap<u32, u64> = BTreeMap::new();
    let mut missing_by_class: BTreeMap<u32, u64> = BTreeMap::new();
    let mut offered = BTreeMap::new();
    for source in sources {
        for ((class, key), next) in &source.next {
            assert!(
                offered.insert((source.id, *class, *key), *next).is_none(),
                "two sources have one number"
            );
            let refused = source.refused.range((*class, *key, 0)..=(*class, *key, u64::MAX)).count() as u64;
            *refused_by_class.entry(*class).or_default() += refused;
            *accepted_by_class.entry(*class).or_default() += next - refused;
        }
    }
    let refused = |stream: &Stream, sequence: u64| {
        sources
            .iter()
            .any(|source| source.id == stream.0 && source.refused.contains(&(stream.1, stream.2, sequence)))
    };
    let mut seen_of: BTreeMap<Stream, BTreeSet<u64>> = BTreeMap::new();
    for (shard, witness) in witnesses.iter().enumerate() {
        for (stream, sequences) in &witness.seen {
            let mut last = None;
            let all = seen_of.entry(*stream).or_default();
            for sequence in sequences {
                assert!(all.insert(*sequence), "duplication: {stream:?} {sequence} (witness {shard})");
                assert!(
                    last < Some(*sequence),
                    "reordering: {stream:?} {sequence} after {last:?} (witness {shard})"
                );
                assert!(!refused(stream, *sequence), "{stream:?} {sequence} was refused, and yet handled");
                last = Some(*sequence);
            }
        }
        for (stream, sequences) in &witness.failed {
            let all = seen_of.entry(*stream).or_default();
            for sequence in sequences {
                assert!(all.insert(*sequence), "duplication: {stream:?} {sequence} failed and was handled");
                *missing_by_class.entry(stream.1).or_default() += 1;
            }
        }
    }
    for (stream, sequences) in &seen_of {
        let next = offered.get(stream).copied().unwrap_or(0);
        assert!(sequences.last() < Some(&next), "phantom: {stream:?} {:?} of {next}", sequences.last());
    }
    for (stream, next) in &offered {
        let seen = seen_of.get(stream);
        let missing =
            |sequence: &u64| !seen.is_some_and(|seen| seen.contains(sequence)) && !refused(stream, *sequence);
        *missing_by_class.entry(stream.1).or_default() += (0..*next).filter(missing).count() as u64;
    }
    let of = |map: &BTreeMap<u32, u64>, class: usize| map.get(&(class as u32)).copied().unwrap_or(0);
    for class in &report.classes {
        let (at, counts) = (class.class.index(), &class.counts);
        let panics: u64 = witnesses
            .iter()
            .flat_map(|witness| &witness.failed)
            .filter(|(stream, _)| stream.1 as usize == at)
            .map(|(_, failed)| failed.len() as u64)
            .sum();
        assert_eq!(of(&accepted_by_class, at), counts.accepted, "accepted: class {at}, {counts:?}");
        assert_eq!(of(&refused_by_class, at), counts.rejected_total(), "rejected: class {at}, {counts:?}");
        assert_eq!(panics, counts.failed_for(Failure::Panic), "failed(panic): class {at}, {counts:?}");
        assert_eq!(
            of(&missing_by_class, at),
            counts.expired + counts.failed_total() + counts.evicted + counts.in_flight,
            "loss: class {at}, {counts:?}"
        );
    }
}

/// Both invariants.
#[track_caller]
pub fn assert_invariants(report: &Report, sources: &[Source], witnesses: &[Witness]) {
    assert_closed(report);
    assert_order(report, sources, witnesses);
}

/// A plan for tests: threads go where the system puts them, since tests run beside each other.
pub fn plan() -> Plan {
    Plan::new(Profile::Dev).unpinned().with_overcommitted(true).with_producers_max(2).with_announce(false)
}

/// An engine whose shards are polled by the test, on a clock that the test moves.
pub struct Rig<H: Handler<Proof>> {
    pub engine: Engine<Proof>,
    pub shards: Vec<Shard<Proof, H>>,
    pub time: VirtualTime,
}

/// Builds all shards of a plan on this thread.
pub fn rig<H: Handler<Proof>>(plan: Plan, mut handler: impl FnMut(ShardId) -> H) -> Rig<H> {
    let (clock, time) = pelton::clock::Clock::virtual_time();
    let (engine, seats) = plan.with_clock(clock).host_driven(Proof::default).expect("the plan is sound");
    let shards = seats.into_iter().map(|seat| {
        let handler = handler(seat.id());
        seat.build(handler).expect("there is memory for a few lanes")
    });
    Rig { shards: shards.collect(), engine, time }
}

impl<H: Handler<Proof>> Rig<H> {
    /// Polls each shard once; says how many events left their lanes.
    pub fn poll(&mut self) -> u64 {
        self.shards.iter_mut().map(Shard::poll).sum()
    }

    /// Polls until every accepted event has left its lane. Time passes while all that is left is retried.
    pub fn run_dry(&mut self) {
        loop {
            if self.poll() > 0 {
                continue;
            }
            if self.engine.drain(Duration::ZERO) {
                return;
            }
            self.time.advance(Duration::from_millis(1));
        }
    }

    /// Closes, polls until nothing is left, stops, and finishes the shards.
    pub fn end(mut self) -> (Report, Vec<ShardExit<H::Output>>) {
        self.engine.close();
        self.run_dry();
        self.end_now()
    }

    /// Stops without another poll.
    pub fn end_now(self) -> (Report, Vec<ShardExit<H::Output>>) {
        let report = self.engine.stop(Duration::ZERO).expect("stopped once");
        (report, self.shards.into_iter().map(Shard::finish).collect())
    }
}

/// What the witnesses of finished shards saw.
pub fn witnesses(ends: Vec<ShardExit<Witness>>) -> Vec<Witness> {
    ends.into_iter().map(|end| end.output.expect("on_stop did not panic")).collect()
}

/// Runs the calling test again, alone in a process of its own; `wrap` may put a program before it.
#[track_caller]
pub fn in_a_process_of_its_own(marker: &str, wrap: &[&str]) -> String {
    let thread = std::thread::current();
    let test = thread.name().expect("a test's thread has its name");
    let binary = std::env::current_exe().expect("a test knows its own binary");
    let mut words: Vec<std::ffi::OsString> = wrap.iter().map(Into::into).collect();
    words.push(binary.into());
    let mut command = std::process::Command::new(&words[0]);
    command.args(&words[1..]).args(["--exact", test, "--nocapture", "--test-threads=1"]).env(marker, "1");
    let output = command.output().expect("the test binary can be run again");
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{test} failed in a process of its own:\n{text}");
    text
}

/// The resident memory of this process, in bytes.
pub fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4_096
}
