//! A host-driven engine on a virtual clock follows a sequential model, whatever is done to it in whatever order:
//! attach, detach, publish, drop a claim, let time pass, poll, retry, panic.
//!
//! The model knows queues, ages and counters; it leaves open only which of several lanes of one class is served first.
//! After each step the engine's ledger must be the model's, lane by lane. The seed is fixed; `PROPTEST_CASES` asks for
//! more cases.

use pelton::event::Failure;
use pelton::ledger::Counts;
use pelton::producer::AttachError;
use pelton::{Class, ClassId, Context, Event, Outcome, Producer, Rejection, ShardId, Verdict};
use pelton_testkit::*;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

const SETS: u16 = 2;
const SHARDS: u16 = 2;
const BURST: u64 = 3;
const FLOOR: u32 = 4;
const RETRY_LIMIT_US: u64 = 60;
const TTL_US: u64 = 100;
/// Capacity, whether the newest is dropped when it is full, and whether the class has a time to live.
const CLASSES: [(usize, bool, bool); 3] = [(2, false, true), (4, true, false), (8, false, false)];

#[derive(Clone, Debug)]
enum Step {
    Attach,
    Detach(usize),
    Publish { user: usize, class: usize, key: u64, order: u64 },
    DropClaim { user: usize, class: usize, key: u64 },
    Poll(usize),
    Advance(u64),
}

/// What the handler does, told by the event's order.
const PANIC: u64 = 1;
const RETRY_FOR_EVER: u64 = 2;
const RETRY_ONCE: u64 = 3;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (user, class, key) = (0..2usize, 0..3usize, 0..4u64);
    let order = prop_oneof![6 => Just(0), 1 => Just(PANIC), 1 => Just(RETRY_FOR_EVER), 1 => Just(RETRY_ONCE)];
    let publish = (user.clone(), class.clone(), key.clone(), order);
    let step = prop_oneof![
        2 => Just(Step::Attach),
        1 => user.clone().prop_map(Step::Detach),
        12 => publish.prop_map(|(user, class, key, order)| Step::Publish { user, class, key, order }),
        1 => (user, class, key).prop_map(|(user, class, key)| Step::DropClaim { user, class, key }),
        8 => (0..usize::from(SHARDS)).prop_map(Step::Poll),
        2 => (1..150u64).prop_map(Step::Advance),
    ];
    proptest::collection::vec(step, 1..200)
}

/// One event as the model holds it.
struct Held {
    proof: Proof,
    published_us: u64,
    tries: u32,
    /// When it was retried first.
    retried_us: Option<u64>,
}

#[derive(Default)]
struct Lane {
    queue: VecDeque<Held>,
    counts: Counts,
}

/// (lane set, shard, class)
type LaneKey = (u16, u16, usize);

#[derive(Default)]
struct Model {
    now_us: u64,
    lanes: BTreeMap<LaneKey, Lane>,
    generation: [u32; SETS as usize],
    attached: BTreeSet<u16>,
    /// Polls since the lowest class was served although it had something to do, by shard.
    passed_over: [u32; SHARDS as usize],
}

impl Model {
    fn lane(&mut self, key: LaneKey) -> &mut Lane {
        self.lanes.entry(key).or_default()
    }

    fn is_drained(&self, set: u16) -> bool {
        self.lanes.iter().filter(|(key, _)| key.0 == set).all(|(_, lane)| lane.queue.is_empty())
    }

    fn too_old(&self, class: usize, held: &Held) -> bool {
        CLASSES[class].2 && self.now_us - held.published_us > TTL_US
    }

    /// The head of a lane leaves because it is too old.
    fn expire(&mut self, key: LaneKey) {
        let old = self.lanes[&key].queue.front().is_some_and(|held| self.too_old(key.2, held));
        assert!(old, "the head of {key:?} expired before its time");
        let lane = self.lane(key);
        let held = lane.queue.pop_front().expect("looked at above");
        match held.tries {
            0 => lane.counts.expired += 1,
            _ => lane.counts.failed[Failure::Retry as usize] += 1,
        }
    }

    /// Follows what the handler saw in one poll of a shard that said that `polled` events left their lanes.
    fn poll(&mut self, shard: u16, seen: &[(LaneKey, Proof)], polled: u64, now: &BTreeMap<LaneKey, Counts>) {
        let mut resting = BTreeSet::new();
        let mut served = BTreeSet::new();
        let waiting = |model: &Model| -> BTreeSet<LaneKey> {
            let waits = |(key, lane): &(&LaneKey, &Lane)| key.1 == shard && !lane.queue.is_empty();
            model.lanes.iter().filter(waits).map(|(key, _)| *key).collect()
        };
        let before = waiting(self);
        let mut left = 0;
        for (key, proof) in seen {
            assert_eq!(key.1, shard);
            assert!(!resting.contains(key), "{key:?} was to rest for this poll");
            while self.lane(*key).queue.front().is_some_and(|held| held.proof != *proof) {
                self.expire(*key);
                served.insert(key.2);
                left += 1;
            }
            let head = self.lanes[key].queue.front().expect("an event out of nothing");
            assert!(!self.too_old(key.2, head), "{key:?} {proof:?} was handled after its time");
            let now_us = self.now_us;
            let lane = self.lane(*key);
            let head = lane.queue.front_mut().expect("looked at above");
            head.tries += 1;
            match (proof.order, head.tries) {
                (PANIC, _) => lane.counts.failed[Failure::Panic as usize] += 1,
                (RETRY_FOR_EVER, _) => {
                    lane.counts.retried += 1;
                    if now_us - *head.retried_us.get_or_insert(now_us) < RETRY_LIMIT_US {
                        resting.insert(*key);
                        continue;
                    }
                    lane.counts.failed[Failure::Retry as usize] += 1;
                }
                (RETRY_ONCE, 1) => {
                    lane.counts.retried += 1;
                    resting.insert(*key);
                    continue;
                }
                _ => lane.counts.handled += 1,
            }
            lane.queue.pop_front();
            served.insert(key.2);
            left += 1;
        }
        // What expired behind the last event that the handler saw shows in the ledger alone.
        for key in before.iter() {
            let gone = |counts: &Counts| counts.expired + counts.failed_for(Failure::Retry);
            while gone(&self.lanes[key].counts) < gone(&now[key]) {
                self.expire(*key);
                served.insert(key.2);
                left += 1;
            }
        }
        assert_eq!(left, polled);
        assert!(polled <= BURST && served.len() <= 1, "a burst of {polled} over the classes {served:?}");
        let Some(class) = served.first().copied() else {
            assert_eq!(before, resting, "nothing was served, and yet there was something to do");
            self.passed_over[usize::from(shard)] = 0; // Its turn came, and it rested.
            return;
        };
        // Strict classes go first, but for the floor of the lowest.
        let idle_above = before.iter().filter(|key| key.2 < class).all(|key| resting.contains(key));
        let lowest = CLASSES.len() - 1;
        assert!(idle_above || class == lowest, "class {class} was served before a higher one");
        let passed = &mut self.passed_over[usize::from(shard)];
        let lowest_waits = before.iter().any(|key| key.2 == lowest && !resting.contains(key));
        *passed = if class != lowest && lowest_waits { *passed + 1 } else { 0 };
        assert!(*passed <= FLOOR, "the lowest class was passed over {passed} times");
    }
}

fn run(steps: Vec<Step>) {
    let mut plan =
        plan().with_shards(SHARDS).with_producers_max(SETS).with_burst(BURST as u32).with_floor(FLOOR);
    plan = plan.with_retry_limit(Duration::from_micros(RETRY_LIMIT_US));
    let ttl = Duration::from_micros(TTL_US);
    let ids: [ClassId; 3] = [
        plan.class(Class::strict("a").with_capacity(2).with_ttl(ttl).reject()),
        plan.class(Class::strict("b").with_capacity(4).drop_newest()),
        plan.class(Class::weighted("c", 1).with_capacity(8).reject()),
    ];
    let log: Rc<RefCell<Vec<(LaneKey, Proof)>>> = Rc::default();
    let written = log.clone();
    let mut rig = rig(plan, move |shard| {
        let log = written.clone();
        let mut tried: BTreeSet<(u16, usize, u64)> = BTreeSet::new();
        acting(move |event: &mut Event<'_, Proof>, _: &mut Context<'_, Proof>| {
            let key = (event.producer().0, shard.0, event.class().index());
            log.borrow_mut().push((key, **event));
            match event.order {
                PANIC => panic!("{PLANNED}"),
                RETRY_FOR_EVER => Verdict::Retry,
                RETRY_ONCE if tried.insert((key.0, key.2, event.sequence())) => Verdict::Retry,
                _ => Verdict::Done,
            }
        })
    });
    let mut model = Model::default();
    for set in 0..SETS {
        for shard in 0..SHARDS {
            (0..CLASSES.len())
                .for_each(|class| drop(model.lanes.insert((set, shard, class), Lane::default())));
        }
    }
    let mut users: Vec<(Producer<Proof>, Source)> = Vec::new();
    let mut sources: Vec<Source> = Vec::new();
    for step in steps {
        match step {
            Step::Attach => attach(&rig.engine, &mut model, &mut users, sources.len()),
            Step::Detach(user) if user < users.len() => {
                let (tx, source) = users.remove(user);
                model.attached.remove(&tx.id().0);
                sources.push(source);
            }
            Step::Publish { user, class, key, order } if user < users.len() => {
                let (tx, source) = &mut users[user];
                publish(&mut model, tx, source, (class, ids[class]), key, order);
            }
            Step::DropClaim { user, class, key } if user < users.len() => {
                let (tx, source) = &mut users[user];
                drop_claim(&mut model, tx, source, (class, ids[class]), key);
            }
            Step::Advance(us) => {
                rig.time.advance(Duration::from_micros(us));
                model.now_us += us;
            }
            Step::Poll(shard) => {
                let polled = rig.shards[shard].poll();
                let seen = std::mem::take(&mut *log.borrow_mut());
                let now = counts_of(&rig.engine);
                model.poll(shard as u16, &seen, polled, &now);
            }
            _ => {}
        }
        for (key, counts) in counts_of(&rig.engine) {
            let lane = &model.lanes[&key];
            let expected = Counts { in_flight: lane.queue.len() as u64, ..lane.counts };
            assert_eq!(counts, expected, "{key:?}");
        }
    }
    sources.extend(users.into_iter().map(|(_, source)| source));
    let (report, ends) = rig.end();
    assert_invariants(&report, &sources, &witnesses(ends));
}

fn counts_of(engine: &pelton::Engine<Proof>) -> BTreeMap<LaneKey, Counts> {
    let ledger = engine.ledger();
    ledger
        .lanes
        .iter()
        .map(|lane| ((lane.producer.0, lane.shard.0, lane.class.index()), lane.counts))
        .collect()
}

fn attach(
    engine: &pelton::Engine<Proof>,
    model: &mut Model,
    users: &mut Vec<(Producer<Proof>, Source)>,
    gone: usize,
) {
    let free: Vec<u16> = (0..SETS).filter(|set| !model.attached.contains(set)).collect();
    match engine.attach() {
        Ok(tx) => {
            let set = tx.id().0;
            assert!(free.contains(&set) && model.is_drained(set), "set {set} was not to be had");
            model.generation[usize::from(set)] += 1;
            assert_eq!(tx.generation(), model.generation[usize::from(set)]);
            model.attached.insert(set);
            users.push((tx, Source::new((gone + users.len()) as u32)));
        }
        Err(AttachError::AllAttached { max }) => assert_eq!((free.len(), max), (0, SETS)),
        Err(AttachError::Draining { draining }) => {
            assert_eq!(usize::from(draining), free.len());
            assert!(free.iter().all(|set| !model.is_drained(*set)));
        }
        Err(error) => panic!("{error}"),
    }
}

/// What a full lane of the class says.
fn refusal(class: usize) -> Rejection {
    if CLASSES[class].1 { Rejection::DroppedNewest } else { Rejection::SlotsFull }
}

fn publish(
    model: &mut Model,
    tx: &mut Producer<Proof>,
    source: &mut Source,
    (class, id): (usize, ClassId),
    key: u64,
    order: u64,
) {
    let proof = source.next(id, key, order);
    let ShardId(shard) = tx.shard_of(key);
    let now_us = model.now_us;
    let lane = model.lane((tx.id().0, shard, class));
    let said = source.publish_order(tx, id, key, order);
    lane.counts.offered += 1;
    if lane.queue.len() < CLASSES[class].0 {
        assert_eq!(said, Ok(Outcome::Accepted));
        lane.counts.accepted += 1;
        lane.queue.push_back(Held { proof, published_us: now_us, tries: 0, retried_us: None });
    } else {
        lane.counts.rejected[refusal(class) as usize] += 1;
        match said {
            Ok(outcome) => assert!(CLASSES[class].1 && outcome == Outcome::Dropped),
            Err(error) => assert_eq!(error.reason, refusal(class)),
        }
    }
}

fn drop_claim(
    model: &mut Model,
    tx: &mut Producer<Proof>,
    source: &mut Source,
    (class, id): (usize, ClassId),
    key: u64,
) {
    let ShardId(shard) = tx.shard_of(key);
    let lane = model.lane((tx.id().0, shard, class));
    let full = lane.queue.len() == CLASSES[class].0;
    match tx.claim(id, key).try_acquire() {
        Ok(claim) => {
            assert!(!full);
            drop(claim);
            lane.counts.aborted += 1;
        }
        Err(error) => {
            assert!(full && error.reason == refusal(class));
            lane.counts.offered += 1;
            lane.counts.rejected[error.reason as usize] += 1;
            source.refused(&source.next(id, key, 0));
        }
    }
}

#[test]
fn an_engine_follows_the_sequential_model() {
    let _dog = watchdog_for(Duration::from_secs(300));
    quiet_panics();
    let mut config =
        Config { failure_persistence: None, rng_seed: RngSeed::Fixed(0x9E17_0000), ..Config::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 256;
    }
    proptest!(config, |(steps in steps())| run(steps));
}
