//! A replay, or a gateway's run, as one JSON object.

use crate::output::format::quantiles;
use crate::weblog::{Kept, LATE_FROM, Replay, aggregate};
use pelton::engine::{ClassReport, Profile, Report, ShardReport};
use pelton::event::{Failure, Rejection};
use pelton::ledger::Counts;
use pelton::memory::seal::{self, Sealed};
use pelton_gateway::{End, ServerReport};
use pelton_views::Totals;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// Reasons with their counts, those that never occurred too, so that the shape is always the same.
type ByReason = BTreeMap<&'static str, u64>;

#[derive(Serialize)]
struct Root<'a> {
    profile: &'static str,
    input: Input,
    ledger: Ledger,
    classes: Vec<Class<'a>>,
    schedule: Option<Schedule>,
    report: &'a aggregate::Report,
    allocations: Allocations,
    footprint: Footprint,
    elapsed_s: f64,
    events_per_s: f64,
}

#[derive(Serialize)]
struct Input {
    lines: u64,
    parsed: u64,
    malformed: u64,
    bytes: u64,
    missing_bytes: u64,
    too_large: u64,
    malformed_first: Vec<Malformed>,
    too_large_first: Vec<TooLarge>,
}

#[derive(Serialize)]
struct Malformed {
    line: u64,
    reason: String,
}

#[derive(Serialize)]
struct TooLarge {
    line: u64,
    payload_bytes: usize,
}

#[derive(Serialize)]
struct Ledger {
    offered: u64,
    accepted: u64,
    rejected: u64,
    handled: u64,
    expired: u64,
    failed: u64,
    evicted: u64,
    in_flight: u64,
    rejected_by: ByReason,
    expired_by: ByReason,
    failed_by: ByReason,
    closed: bool,
    drained: bool,
}

#[derive(Serialize)]
struct Class<'a> {
    name: &'a str,
    offered: u64,
    accepted: u64,
    rejected: u64,
    handled: u64,
    expired: u64,
    failed: u64,
    measured: u64,
    latency_ns: Quantiles,
    handling_ns: Quantiles,
}

/// How a schedule was kept; `null` where there was none.
#[derive(Serialize)]
struct Schedule {
    rate_per_s: u64,
    achieved_per_s: f64,
    intended: u64,
    sent: u64,
    late: u64,
    late_from_ns: u64,
    late_max_ns: u64,
    slept: u64,
    spun: u64,
}

/// In nanoseconds; all 0 where nothing was measured.
#[derive(Serialize)]
struct Quantiles {
    p50: u64,
    p99: u64,
    p999: u64,
    max: u64,
}

/// In all, not for each event; `null` where nobody counts.
#[derive(Serialize)]
struct Allocations {
    shards: Option<u64>,
    producers: Option<u64>,
    /// Those of sealed threads, with where they were made.
    shards_sealed: Option<SealedThreads>,
    producers_sealed: Option<SealedThreads>,
}

#[derive(Serialize)]
struct SealedThreads {
    allocations: u64,
    frees: u64,
    places: Vec<Place>,
    elsewhere: u64,
}

/// A place, and the calls that led there, innermost first.
#[derive(Serialize)]
struct Place {
    allocations: u64,
    calls: Vec<String>,
}

#[derive(Serialize)]
struct Footprint {
    planned_bytes: u64,
    resident_bytes: Option<u64>,
    /// Shard by shard; `null` where huge pages were not asked for.
    huge_pages: Vec<Option<HugePages>>,
}

#[derive(Serialize)]
struct HugePages {
    advised_bytes: u64,
    granted_bytes: u64,
    refused: Option<String>,
}

/// The object, on one line.
pub fn of(replay: &Replay, profile: Profile) -> String {
    let root = Root {
        profile: profile.name(),
        input: input(replay),
        ledger: ledger(&replay.engine),
        classes: replay.engine.classes.iter().map(class).collect(),
        schedule: replay.kept.as_ref().map(schedule),
        report: &replay.report,
        allocations: Allocations {
            shards: replay.shard_allocations,
            producers: replay.producer_allocations,
            shards_sealed: replay.shards_sealed.as_ref().map(sealed),
            producers_sealed: replay.producers_sealed.as_ref().map(sealed),
        },
        footprint: Footprint {
            planned_bytes: replay.footprint.total_bytes(),
            resident_bytes: replay.resident_bytes,
            huge_pages: replay.engine.shards.iter().map(huge_pages).collect(),
        },
        elapsed_s: replay.elapsed.as_secs_f64(),
        events_per_s: replay.events_per_s(),
    };
    serde_json::to_string(&root).expect("all keys are strings, and every float is finite")
}

fn ledger(report: &Report) -> Ledger {
    let total = report.ledger.total();
    Ledger {
        offered: total.offered,
        accepted: total.accepted,
        rejected: total.rejected_total(),
        handled: total.handled,
        expired: total.expired,
        failed: total.failed_total(),
        evicted: total.evicted,
        in_flight: total.in_flight,
        rejected_by: Rejection::ALL.map(|reason| (reason.name(), total.rejected_for(reason))).into(),
        // Age is the only reason for which an event expires.
        expired_by: [("ttl", total.expired)].into(),
        failed_by: Failure::ALL.map(|reason| (reason.name(), total.failed_for(reason))).into(),
        closed: report.ledger.is_closed(),
        drained: report.drained,
    }
}

/// A gateway's whole run.
#[derive(Serialize)]
struct Served<'a> {
    profile: &'static str,
    ledger: Ledger,
    classes: Vec<Class<'a>>,
    gateway: Gateway<'a>,
    elapsed_s: f64,
}

#[derive(Serialize)]
struct Gateway<'a> {
    connected: u64,
    connections: u64,
    /// Among `ended_by`, and not among `connected`.
    turned_away: u64,
    ended_by: ByReason,
    commands: u64,
    bytes_in: u64,
    bytes_out: u64,
    reads: u64,
    writes: u64,
    waits: u64,
    messages: u64,
    messages_lost: u64,
    lost_threads: Vec<String>,
    streams: Vec<Stream<'a>>,
    views: Vec<View<'a>>,
}

#[derive(Serialize)]
struct View<'a> {
    name: &'a str,
    events: u64,
    late: u64,
    ahead: u64,
    untimed: u64,
}

#[derive(Serialize)]
struct Stream<'a> {
    name: &'a str,
    accepted: u64,
    busy: u64,
    dropped: u64,
    refused: u64,
    last_id: String,
}

/// The report of a gateway, on one line.
pub fn served(report: &ServerReport, profile: Profile, elapsed: Duration) -> String {
    let counts = &report.gateway;
    let streams = counts.streams.iter().map(|one| Stream {
        name: &one.name,
        accepted: one.accepted,
        busy: one.busy,
        dropped: one.dropped,
        refused: one.refused,
        last_id: one.last.to_string(),
    });
    let views = report.views.iter().map(|view| {
        let Totals { seen: events, late, ahead, untimed, .. } = view.totals;
        View { name: &view.name, events, late, ahead, untimed }
    });
    let root = Served {
        profile: profile.name(),
        ledger: ledger(&report.engine),
        classes: report.engine.classes.iter().map(class).collect(),
        gateway: Gateway {
            connected: counts.connected,
            connections: counts.connections(),
            turned_away: counts.turned_away(),
            ended_by: End::ALL.map(|reason| (reason.name(), counts.ended(reason))).into(),
            commands: counts.commands,
            bytes_in: counts.bytes_in,
            bytes_out: counts.bytes_out,
            reads: counts.reads,
            writes: counts.writes,
            waits: counts.waits,
            messages: counts.messages,
            messages_lost: counts.messages_lost,
            lost_threads: report.lost.iter().map(ToString::to_string).collect(),
            streams: streams.collect(),
            views: views.collect(),
        },
        elapsed_s: elapsed.as_secs_f64(),
    };
    serde_json::to_string(&root).expect("all keys are strings, and every float is finite")
}

fn huge_pages(shard: &ShardReport) -> Option<HugePages> {
    let huge = shard.huge_pages.as_ref()?;
    Some(HugePages {
        advised_bytes: huge.advised_bytes,
        granted_bytes: huge.granted_bytes,
        refused: huge.refused.as_ref().map(ToString::to_string),
    })
}

fn sealed(sealed: &Sealed) -> SealedThreads {
    let place = |place: &seal::Place| Place {
        allocations: place.count,
        calls: place.frames().iter().map(ToString::to_string).collect(),
    };
    SealedThreads {
        allocations: sealed.allocations,
        frees: sealed.frees,
        places: sealed.places.iter().map(place).collect(),
        elsewhere: sealed.others,
    }
}

fn schedule(kept: &Kept) -> Schedule {
    Schedule {
        rate_per_s: kept.rate_per_s,
        achieved_per_s: kept.achieved_per_s,
        intended: kept.intended,
        sent: kept.sent,
        late: kept.late,
        late_from_ns: LATE_FROM.as_nanos() as u64,
        late_max_ns: kept.late_max_ns,
        slept: kept.slept,
        spun: kept.spun,
    }
}

fn input(replay: &Replay) -> Input {
    let input = &replay.input;
    let malformed = replay.malformed_first.iter();
    let too_large = replay.too_large_first.iter();
    Input {
        lines: input.lines,
        parsed: input.parsed,
        malformed: input.malformed,
        bytes: input.bytes,
        missing_bytes: input.missing_bytes,
        too_large: input.too_large,
        malformed_first: malformed
            .map(|noted| Malformed { line: noted.line, reason: noted.what.to_string() })
            .collect(),
        too_large_first: too_large
            .map(|noted| TooLarge { line: noted.line, payload_bytes: noted.what })
            .collect(),
    }
}

fn class(class: &ClassReport) -> Class<'_> {
    let Counts { offered, accepted, handled, expired, .. } = class.counts;
    Class {
        name: &class.name,
        offered,
        accepted,
        rejected: class.counts.rejected_total(),
        handled,
        expired,
        failed: class.counts.failed_total(),
        measured: class.latency.wait_ns.len(),
        latency_ns: in_four(quantiles(&class.latency.wait_ns)),
        handling_ns: in_four(quantiles(&class.latency.handling_ns)),
    }
}

fn in_four([p50, p99, p999, max]: [u64; 4]) -> Quantiles {
    Quantiles { p50, p99, p999, max }
}
