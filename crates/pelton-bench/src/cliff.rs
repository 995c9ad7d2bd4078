//! What does a hand-off cost over the work that its producer does before each event?
//!
//! Services live where the ring is nearly empty and the producer does a little work. A ring whose ends share a cursor
//! passes that cursor's cache line to and fro there, and one event costs far more than with no work at all: the cliff.
//! What a hand-off costs is what is above the slower of both ends, each measured alone in the same round.

use super::answer::{Answer, Limit, Point, Table, Unit};
use super::event::{per_event_ns, work};
use super::lane::{CONSUMER, WORK, contenders};
use super::rounds::{Estimate, Runs};
use super::settings::{Bench, MeasureError, Spec};
use pelton::shard::pin;
use std::time::Instant;

pub(crate) const SPEC: Spec = Spec {
    name: "cliff",
    asks: "What does a hand-off cost over the work that its producer does before each event?",
    hint: "a hand-off costs what is above the slower of both ends alone; a hill in the middle of the sweep is the cliff",
    events: 1_000_000,
    ..super::lane::SPEC
};

/// The multiplications before each event; more follow where these are less than [`WORK_MAX_NS`].
const SWEEP: [u64; 10] = [0, 5, 10, 15, 20, 25, 30, 40, 60, 80];

/// The sweep covers work of this many nanoseconds on any machine.
const WORK_MAX_NS: f64 = 80.0;

/// What a lane may cost above the slower of both ends, in nanoseconds an event, and what it should.
const LIMIT_NS: f64 = 18.0;
const GOAL_NS: f64 = 8.0;

/// The sweep on this machine. Each multiplication takes as long as the last, so one look is enough.
fn sweep(cpu: usize) -> Vec<u64> {
    const PROBE: u64 = 1 << 20;
    let probe = std::thread::spawn(move || {
        pin(cpu);
        let start = Instant::now();
        work(PROBE, 1);
        per_event_ns(start, Instant::now(), PROBE)
    });
    let each_ns = probe.join().unwrap_or(f64::INFINITY);
    let mut sweep = SWEEP.to_vec();
    while let Some(last) = sweep.last().copied().filter(|last| *last < 400)
        && last as f64 * each_ns < WORK_MAX_NS
    {
        sweep.push(last + 20);
    }
    sweep
}

/// The lane above the slower of both ends, round by round.
fn excess(runs: &[Runs]) -> Option<Limit> {
    let ends: Vec<f64> =
        runs[WORK].runs.iter().zip(&runs[CONSUMER].runs).map(|(work, check)| work.max(*check)).collect();
    let excess = Estimate::of_pairs(&runs[0].runs, &ends, |lane, end| lane - end)?;
    Some(Limit::new("lane above the slower end alone", Unit::NsPerEvent, excess, LIMIT_NS, GOAL_NS))
}

pub(super) fn ask(bench: &mut Bench<'_>) -> Result<Answer, MeasureError> {
    let mut points = Vec::new();
    for work in sweep(bench.cpus[0]) {
        let label = format!("{work} multiplications");
        let runs = bench.alternate(&label, contenders(bench.load().with_work(work)))?;
        points.push(Point::new(work as f64, label, &runs, [excess(&runs)]));
    }
    let table = Table {
        what: "One event from one thread to another".into(),
        unit: Unit::NsPerEvent,
        axis: Some("dependent multiplications before each event".into()),
        points,
    };
    Ok(Answer::new(bench, vec![table]))
}
