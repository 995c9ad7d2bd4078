//! What does it cost to hand one event from one thread to another, and what would the threads cost without it?

use super::answer::{Answer, Limit, Point, Table, Unit};
use super::peers;
use super::rounds::{Peer, Runs};
use super::settings::{Bench, Load, MeasureError, Spec};

pub(crate) const SPEC: Spec = Spec {
    name: "lane",
    asks: "What does it cost to hand one event from one thread to another?",
    hint: "a lane counts every event in its ledger and publishes one by one; batches make the first event wait for the last",
    events: 4_000_000,
    cpus_max: 2,
    capacity: Some(1_024),
    waits: false,
    burst: None,
};

/// The contenders, ours first; the places of those that limits speak of.
pub(super) const DISRUPTOR: usize = 1;
pub(super) const BATCHES: usize = 2;
pub(super) const WORK: usize = 7;
pub(super) const CONSUMER: usize = 8;

pub(super) fn contenders(load: Load) -> Vec<Peer<'static>> {
    vec![
        Peer::ours("pelton lane, ledger on", move || peers::lane(load)),
        Peer::other("disruptor, publish", move || peers::disruptor(load)),
        Peer::other("disruptor, batches of 64", move || peers::disruptor_batches(load)),
        Peer::other("rtrb, push and read_chunk", move || peers::rtrb(load)),
        Peer::other("rtrb, chunks of 64", move || peers::rtrb_chunks(load)),
        Peer::other("crossbeam-channel", move || peers::channel(load)),
        Peer::other("crossbeam ArrayQueue", move || peers::array_queue(load)),
        Peer::baseline("the producer's work alone", move || peers::work_alone(load)),
        Peer::baseline("the consumer's check alone", move || peers::consumer_alone(load)),
    ]
}

pub(super) fn limits(runs: &[Runs]) -> [Option<Limit>; 2] {
    [
        Limit::ratio("lane / disruptor", &runs[0], &runs[DISRUPTOR], 0.5, 0.35),
        Limit::ratio("lane / disruptor in batches", &runs[0], &runs[BATCHES], 1.0, 0.8),
    ]
}

pub(super) fn ask(bench: &mut Bench<'_>) -> Result<Answer, MeasureError> {
    let runs = bench.alternate("one by one", contenders(bench.load()))?;
    let table = Table {
        what: "One event from one thread to another, no work before it".into(),
        unit: Unit::NsPerEvent,
        axis: None,
        points: vec![Point::new(0.0, "", &runs, limits(&runs))],
    };
    Ok(Answer::new(bench, vec![table]))
}
