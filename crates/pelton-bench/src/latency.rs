//! How long does an event take from the time that it was due until its handler has it, at half of the load that the
//! slowest can bear? And how far can the load be raised until that time bends upwards?
//!
//! # Mechanism
//! First the *capacity* of every contender: what it hands over as fast as it goes, with the clock read on both sides.
//! Then all of them run at one absolute rate, half of the capacity of the slowest in its worst round: each is then at
//! most half loaded, so what differs is the hand-off and no queue. (At half of *our* capacity the others might be
//! overloaded, and the comparison would say no more than that. The worst round, since a machine may hand lines over at
//! half the speed a moment later.)
//!
//! The sweep goes through rates from a tenth to eleven tenths of our lane's capacity. A contender's *knee* is the highest
//! rate up to which its p99 stays within [`KNEE_TIMES`] of that at the lowest rate, and which it achieves to 99 %.

use super::answer::{Answer, Distribution, Limit, Point, Table, Unit, short};
use super::openloop::{
    CHANNEL, DISRUPTOR, ENGINE, FLAT_OUT, LANE, Shot, contenders, histogram, reading_ns, skew_ns,
};
use super::rounds::{Estimate, Role, Runs};
use super::settings::{Bench, Load, MeasureError, Spec};

pub(crate) const SPEC: Spec = Spec {
    name: "latency",
    asks: "How long does an event take from the time that it was due, at half of what the slowest can bear?",
    hint: "open loop: a stall counts for each event that it delayed; all contenders have the same absolute rate",
    events: 300_000,
    cpus_max: 2,
    capacity: Some(1_024),
    waits: true,
    burst: Some(64),
};

pub(crate) const KNEE_SPEC: Spec = Spec {
    name: "knee",
    asks: "How far can the load be raised until latency bends upwards?",
    hint: "open loop, each rate for a fifth of a second at most; a knee is where p99 leaves three times that of the lowest rate",
    ..SPEC
};

/// What is told of all events of a run.
struct Told {
    name: &'static str,
    quantile: f64,
    /// What ours may be of a peer, and should.
    limit: Option<(f64, f64)>,
}

const TOLD: [Told; 6] = [
    Told { name: "p50", quantile: 0.5, limit: Some((1.0, 1.0)) },
    Told { name: "p90", quantile: 0.9, limit: None },
    Told { name: "p99", quantile: 0.99, limit: Some((1.0, 1.0)) },
    Told { name: "p99.9", quantile: 0.999, limit: Some((1.1, 1.0)) },
    Told { name: "p99.99", quantile: 0.9999, limit: None },
    Told { name: "max", quantile: 1.0, limit: None },
];

/// Those of them over which the sweep is shown.
const SWEPT: [usize; 3] = [0, 2, 3];

/// The share of the slowest one's capacity at which all run.
const LOAD: f64 = 0.5;

/// By how much p99 may exceed that of the lowest rate up to the knee.
pub const KNEE_TIMES: f64 = 3.0;

/// The share of a rate that must be achieved up to the knee.
const ACHIEVED: f64 = 0.99;

/// Rates of the sweep, in tenths of our lane's capacity.
const TENTHS: std::ops::RangeInclusive<u32> = 1..=11;

/// The longest run of the sweep, in seconds at its rate.
const SWEEP_S: f64 = 0.2;

fn figure(runs: &Runs<Shot>, of: impl Fn(&Shot) -> f64) -> Runs {
    Runs { name: runs.name, role: runs.role, runs: runs.runs.iter().map(of).collect() }
}

fn quantile(runs: &Runs<Shot>, quantile: f64) -> Runs {
    figure(runs, |shot| shot.waits_ns.value_at_quantile(quantile) as f64)
}

fn median(runs: &Runs) -> f64 {
    Estimate::of(&runs.runs).map_or(f64::NAN, |estimate| estimate.median)
}

/// Events a second of each contender, as fast as it goes.
fn capacities(bench: &mut Bench<'_>) -> Result<Vec<Runs>, MeasureError> {
    let runs = bench.alternate("capacity", contenders(bench.load(), FLAT_OUT))?;
    Ok(runs.iter().map(|runs| figure(runs, |shot| shot.achieved_per_s)).collect())
}

fn capacity_table(capacities: &[Runs]) -> Table {
    Table {
        what: "Capacity: handed over as fast as it goes, with a reading of the clock on both sides".into(),
        unit: Unit::EventsPerS,
        axis: None,
        points: vec![Point::new(0.0, "", capacities, [])],
    }
}

/// Ours against both peers.
fn limits(runs: &[Runs], limits: Option<(f64, f64)>) -> Vec<Option<Limit>> {
    let Some((limit, goal)) = limits else { return Vec::new() };
    let pairs = [(LANE, DISRUPTOR), (LANE, CHANNEL), (ENGINE, DISRUPTOR), (ENGINE, CHANNEL)];
    let of = |(ours, its): (usize, usize)| {
        let what = format!("{} / {}", runs[ours].name, runs[its].name);
        Limit::ratio(what, &runs[ours], &runs[its], limit, goal)
    };
    pairs.into_iter().map(of).collect()
}

/// Says which contenders fell behind a rate.
fn behind(runs: &[Runs<Shot>], rate_per_s: f64) -> Option<String> {
    let slow = runs.iter().filter(|runs| {
        runs.role != Role::Baseline
            && median(&figure(runs, |shot| shot.achieved_per_s)) < ACHIEVED * rate_per_s
    });
    let names: Vec<_> = slow.map(|runs| runs.name).collect();
    (!names.is_empty()).then(|| {
        format!("at {}/s {} fell behind the schedule", short(rate_per_s, Unit::EventsPerS), names.join(", "))
    })
}

/// From which quantile on the machine itself decides: there the harness alone, which hands nothing over, waits for
/// longer than ten times its median.
fn disturbed(runs: &[Runs<Shot>]) -> Option<String> {
    let alone = runs.iter().find(|runs| runs.role == Role::Baseline)?;
    let at = |told: &Told| median(&quantile(alone, told.quantile));
    let first = TOLD.iter().find(|told| at(told) > 10.0 * at(&TOLD[0]))?;
    let wait = short(at(first), Unit::Ns);
    Some(format!(
        "at {} the harness alone waits for {wait}: from there on the figures are the machine's, which takes CPUs away",
        first.name
    ))
}

/// What is in each figure besides the hand-off, and what was taken off.
fn told_of(bench: &Bench<'_>, answer: Answer) -> Answer {
    let reading = short(reading_ns(bench.cpus[0]), Unit::Ns);
    let skew = short(skew_ns([bench.cpus[0], bench.cpus[1]]), Unit::Ns);
    answer
        .note(format!("each latency holds a reading of the clock, {reading}, and what pacing adds: see the harness alone"))
        .note(format!("the consumer's clock is ahead of the producer's by {skew}, which is taken off"))
}

pub(super) fn ask(bench: &mut Bench<'_>) -> Result<Answer, MeasureError> {
    let capacities = capacities(bench)?;
    let handing_over = capacities.iter().filter(|runs| runs.role != Role::Baseline);
    let slowest = handing_over.flat_map(|runs| &runs.runs).copied().fold(f64::INFINITY, f64::min);
    let rate_per_s = LOAD * slowest;
    let label = format!("{}/s", short(rate_per_s, Unit::EventsPerS));
    let runs = bench.alternate(&label, contenders(bench.load(), rate_per_s))?;
    let mut tables = vec![capacity_table(&capacities)];
    for Told { name, quantile: at, limit } in TOLD {
        let runs: Vec<Runs> = runs.iter().map(|runs| quantile(runs, at)).collect();
        let limits = limits(&runs, limit);
        tables.push(Table {
            what: format!("From due to handled at {label}, {name}"),
            unit: Unit::Ns,
            axis: None,
            points: vec![Point::new(0.0, "", &runs, limits)],
        });
    }
    let mut answer = told_of(bench, Answer::new(bench, tables));
    answer.warnings.extend(behind(&runs, rate_per_s).into_iter().chain(disturbed(&runs)));
    answer.distributions = runs
        .iter()
        .map(|runs| {
            let mut waits_ns = histogram();
            runs.runs.iter().for_each(|shot| waits_ns += &shot.waits_ns);
            Distribution { peer: runs.name.into(), role: runs.role, at: label.clone(), waits_ns }
        })
        .collect();
    Ok(answer)
}

/// To two decimals, as it is shown.
fn millions(per_s: f64) -> f64 {
    (per_s / 1e4).round() / 100.0
}

/// The knee of one contender, from what it did at each rate: rate, p99, achieved rate, in the order of the rates.
fn knee(steps: &[(f64, f64, f64)]) -> Option<f64> {
    let lowest = steps.first()?.1;
    let holds = |(rate, p99, achieved): &&(f64, f64, f64)| {
        *p99 <= KNEE_TIMES * lowest && *achieved >= ACHIEVED * rate
    };
    steps.iter().take_while(holds).last().map(|step| step.0)
}

pub(super) fn ask_knee(bench: &mut Bench<'_>) -> Result<Answer, MeasureError> {
    let capacities = capacities(bench)?;
    let capacity = median(&capacities[LANE]);
    let mut points: Vec<Vec<Point>> = SWEPT.iter().map(|_| Vec::new()).collect();
    let mut steps: Vec<Vec<(f64, f64, f64)>> = vec![Vec::new(); capacities.len()];
    for tenths in TENTHS {
        let rate = capacity * f64::from(tenths) / 10.0;
        let label = format!("{}/s", short(rate, Unit::EventsPerS));
        let events = bench.events.min((rate * SWEEP_S) as u64).max(1);
        let load = Load { events, ..bench.load() };
        let runs = bench.alternate(&label, contenders(load, rate))?;
        for (points, at) in points.iter_mut().zip(SWEPT) {
            let figures: Vec<Runs> = runs.iter().map(|runs| quantile(runs, TOLD[at].quantile)).collect();
            points.push(Point::new(millions(rate), label.clone(), &figures, []));
        }
        for (steps, runs) in steps.iter_mut().zip(&runs) {
            steps.push((
                rate,
                median(&quantile(runs, 0.99)),
                median(&figure(runs, |shot| shot.achieved_per_s)),
            ));
        }
    }
    let mut tables = vec![capacity_table(&capacities)];
    tables.extend(points.into_iter().zip(SWEPT).map(|(points, at)| Table {
        what: format!("From due to handled over the rate, {}", TOLD[at].name),
        unit: Unit::Ns,
        axis: Some("million events a second".into()),
        points,
    }));
    let knees = capacities.iter().zip(&steps).filter(|(runs, _)| runs.role != Role::Baseline);
    let knees: Vec<(String, Option<f64>)> =
        knees.map(|(runs, steps)| (runs.name.to_string(), knee(steps))).collect();
    let told = knees.iter().map(|(name, knee)| match knee {
        Some(rate) => format!("{name}: its knee is at {}/s", short(*rate, Unit::EventsPerS)),
        None => format!("{name}: its knee is below the lowest rate"),
    });
    let mut answer = told_of(bench, Answer::new(bench, tables));
    answer.notes.extend(told);
    let alone = capacities.iter().find(|runs| runs.role == Role::Baseline).map_or(f64::INFINITY, median);
    let too_fast =
        format!("above {}/s the harness alone cannot keep the schedule", short(alone, Unit::EventsPerS));
    let answer = answer.warn(capacity * 1.1 > alone, too_fast);
    let mut answer = answer;
    answer.knees = knees.into_iter().filter_map(|(name, knee)| Some((name, millions(knee?)))).collect();
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_knee_is_the_last_rate_before_p99_or_the_schedule_is_lost() {
        let ok = |rate: f64| (rate, 100.0, rate);
        assert_eq!(knee(&[]), None);
        assert_eq!(knee(&[ok(1.0), ok(2.0), (3.0, 300.0, 3.0), (4.0, 301.0, 4.0)]), Some(3.0));
        // What comes after it does not count, however good.
        assert_eq!(knee(&[ok(1.0), (2.0, 500.0, 2.0), ok(3.0)]), Some(1.0));
        assert_eq!(knee(&[ok(1.0), (2.0, 100.0, 1.9), ok(3.0)]), Some(1.0));
        assert_eq!(knee(&[(1.0, 100.0, 0.5)]), None);
    }

    #[test]
    fn the_limits_hold_ours_against_both_peers() {
        let runs = |name, figure: f64| Runs { name, role: Role::Ours, runs: vec![figure; 6] };
        let all =
            [runs("lane", 80.0), runs("engine", 120.0), runs("disruptor", 110.0), runs("channel", 200.0)];
        let told: Vec<_> = limits(&all, Some((1.0, 1.0))).into_iter().flatten().collect();
        let standings: Vec<_> =
            told.iter().map(|limit| (limit.what.as_str(), limit.measured.median > 1.0)).collect();
        assert_eq!(
            standings,
            [
                ("lane / disruptor", false),
                ("lane / channel", false),
                ("engine / disruptor", true),
                ("engine / channel", false)
            ]
        );
        assert!(limits(&all, None).is_empty());
    }
}
