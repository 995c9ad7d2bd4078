//! A replay for people: what was counted, the ledger, the latencies, and what it cost.

use crate::failure::Failure;
use crate::output::format::{bytes, clean, count, many, nanos, quantiles, rate, share};
use crate::output::page::{Page, Rows};
use crate::weblog::{Kept, LATE_FROM, Replay};
use pelton::engine::Report;
use pelton::event;
use pelton::ledger::Counts;

/// The longest client or path that is shown whole, in characters; so lines stay below 80.
const NAME_CHARS_MAX: usize = 56;

/// What was read, and what was wrong with it.
pub fn input(page: &mut Page, name: &str, replay: &Replay) -> Result<(), Failure> {
    let input = &replay.input;
    page.title(&clean(name, NAME_CHARS_MAX))?;
    let passes =
        if input.passes > 1 { format!(", in {} passes", count(input.passes)) } else { String::new() };
    page.raw(&format!("  {}, {}{passes}", many(input.lines, "line"), bytes(input.bytes)))?;
    if input.malformed > 0 {
        page.alarm(&format!("malformed and not counted: {}; the first:", count(input.malformed)))?;
        for noted in &replay.malformed_first {
            page.raw(&format!("      line {:<9} {}", count(noted.line), noted.what))?;
        }
        if input.malformed > replay.malformed_first.len() as u64 {
            page.raw("    by reason:")?;
            for (reason, n) in &replay.malformed_by {
                page.raw(&format!("      {:>14} {reason}", count(*n)))?;
            }
        }
    }
    if input.too_large > 0 {
        let too_large = count(input.too_large);
        page.alarm(&format!(
            "too large for a payload ring and rejected: {too_large}; client and request of:"
        ))?;
        for noted in &replay.too_large_first {
            page.raw(&format!("      line {:<9} {}", count(noted.line), bytes(noted.what as u64)))?;
        }
        // A payload takes at most half of its ring.
        let largest = replay.too_large_first.iter().map(|noted| noted.what).max().unwrap_or(0);
        let ring = largest.saturating_mul(2).next_power_of_two();
        page.note(&format!("payload_ring_bytes={ring} for their class would take these; see --class"))?;
    }
    if input.missing_bytes > 0 {
        page.alarm(&format!(
            "{} were cut off the file while it was read; what was left of it is counted",
            bytes(input.missing_bytes)
        ))?;
    }
    Ok(())
}

/// All that follows the input.
pub fn all(page: &mut Page, replay: &Replay) -> Result<(), Failure> {
    requests(page, replay)?;
    ledger(page, &replay.engine, replay.is_sound())?;
    if let Some(kept) = &replay.kept {
        schedule(page, kept)?;
    }
    latency(page, &replay.engine)?;
    shards(page, &replay.engine)?;
    cost(page, replay)
}

fn requests(page: &mut Page, replay: &Replay) -> Result<(), Failure> {
    let report = &replay.report;
    page.title("Requests")?;
    page.fact("requests", &count(report.requests))?;
    let at_least = if report.overflowed.clients > 0 { "at least " } else { "" };
    page.fact("clients", &format!("{at_least}{}", count(report.clients)))?;
    page.fact("sent", &bytes(report.bytes))?;
    let sizes = &report.response_bytes;
    page.fact(
        "sizes",
        &format!(
            "50 % up to {}, 90 % {}, 99 % {}, the largest {}",
            bytes(sizes.p50),
            bytes(sizes.p90),
            bytes(sizes.p99),
            bytes(sizes.max)
        ),
    )?;
    for (what, n, option) in [
        ("client", report.overflowed.clients, "--clients-max or --client-bytes"),
        ("path", report.overflowed.paths, "--paths-max or --path-bytes"),
    ] {
        if n > 0 {
            let n = many(n, "request");
            page.alarm(&format!("{n} had a {what} for which there was no room; see {option}"))?;
        }
    }
    let part = |n| share(n, report.requests);
    let mut status = Rows::new(1, ["status", "requests", "share"]);
    for (name, n) in &report.status {
        status.row([name.clone(), count(*n), part(*n)]);
    }
    let mut clients = Rows::new(1, ["busiest clients", "requests", "share"]);
    for top in &report.top_clients {
        clients.row([clean(&top.client, NAME_CHARS_MAX), count(top.requests), part(top.requests)]);
    }
    let mut paths = Rows::new(1, ["most requested paths", "requests", "share"]);
    for top in &report.top_paths {
        paths.row([clean(&top.path, NAME_CHARS_MAX), count(top.requests), part(top.requests)]);
    }
    for rows in [&mut status, &mut clients, &mut paths] {
        if !rows.is_empty() {
            page.raw("")?;
            page.table(rows)?;
        }
    }
    Ok(())
}

/// One line of the ledger: its name, and its figure.
type Line = (String, Box<dyn Fn(&Counts) -> u64>);

fn line(name: &str, of: impl Fn(&Counts) -> u64 + 'static) -> Line {
    (name.to_string(), Box::new(of))
}

/// The ledger; `sound` is whether every event left its lane.
pub fn ledger(page: &mut Page, report: &Report, sound: bool) -> Result<(), Failure> {
    page.title("Ledger")?;
    let classes = &report.classes;
    let total = report.ledger.total();
    // Reasons are shown where there was one.
    let rejections = event::Rejection::ALL.into_iter().filter(|reason| total.rejected_for(*reason) > 0);
    let failures = event::Failure::ALL.into_iter().filter(|reason| total.failed_for(*reason) > 0);
    let mut offered = vec![
        line("offered", |counts| counts.offered),
        line("= accepted", |counts| counts.accepted),
        line("+ rejected", Counts::rejected_total),
    ];
    offered
        .extend(rejections.map(|reason| {
            line(&format!("    {}", reason.name()), move |counts| counts.rejected_for(reason))
        }));
    let mut accepted = vec![
        line("accepted", |counts| counts.accepted),
        line("= handled", |counts| counts.handled),
        line("+ expired", |counts| counts.expired),
        line("+ failed", Counts::failed_total),
    ];
    accepted.extend(
        failures
            .map(|reason| line(&format!("    {}", reason.name()), move |counts| counts.failed_for(reason))),
    );
    accepted.push(line("+ evicted", |counts| counts.evicted));
    accepted.push(line("+ in flight", |counts| counts.in_flight));

    let head = classes.iter().map(|class| class.name.clone());
    let mut rows = Rows::with_head(1, ["events".into()].into_iter().chain(head).chain(["total".into()]));
    for (at, part) in [offered, accepted].into_iter().enumerate() {
        if at > 0 {
            rows.row([""]);
        }
        for (name, of) in part {
            let figures = classes.iter().map(|class| of(&class.counts)).chain([of(&total)]);
            rows.row([name].into_iter().chain(figures.map(count)));
        }
    }
    page.table(&mut rows)?;
    if sound {
        page.note("closed: every event that was offered is in exactly one of these lines")
    } else {
        page.alarm("NOT CLOSED: not every event left its lane in time")
    }
}

fn schedule(page: &mut Page, kept: &Kept) -> Result<(), Failure> {
    page.title("Schedule")?;
    page.fact("meant", &format!("{}, {}", rate(kept.rate_per_s as f64), many(kept.intended, "line")))?;
    page.fact("achieved", &format!("{}, {} sent", rate(kept.achieved_per_s), count(kept.sent)))?;
    let bound = nanos(LATE_FROM.as_nanos() as u64);
    let late = format!(
        "{} ({}) more than {bound} after their time; the latest {}",
        count(kept.late),
        share(kept.late, kept.sent),
        nanos(kept.late_max_ns)
    );
    page.fact("late", &late)?;
    page.fact(
        "early",
        &format!("{} waited for asleep, {} on the clock", count(kept.slept), count(kept.spun)),
    )?;
    page.note("latency and age count from the time that a line was meant for")
}

/// What was measured of each class.
pub fn latency(page: &mut Page, report: &Report) -> Result<(), Failure> {
    page.title("Latency")?;
    let mut rows = Rows::new(2, ["class", "span", "measured", "p50", "p99", "p99.9", "max"]);
    for class in &report.classes {
        for (name, span, histogram) in [
            (class.name.as_str(), "queue wait", &class.latency.wait_ns),
            ("", "handling", &class.latency.handling_ns),
            ("", "lateness", &class.latency.lateness_ns),
        ] {
            if span == "lateness" && histogram.is_empty() {
                continue;
            }
            let figures =
                quantiles(histogram).map(|ns| if histogram.is_empty() { "–".into() } else { nanos(ns) });
            let first = [name.to_string(), span.to_string(), count(histogram.len())];
            rows.row(first.into_iter().chain(figures));
        }
    }
    page.table(&mut rows)
}

/// The shards, and where they ran.
pub fn shards(page: &mut Page, report: &Report) -> Result<(), Failure> {
    page.title("Shards")?;
    let mut rows = Rows::new(3, ["shard", "CPU", "thread", "handled", "share", "parks", "rescues"]);
    let total = report.ledger.total();
    for shard in &report.shards {
        let placement = &shard.placement;
        let thread = match (placement.cpu, placement.pinned, placement.shared) {
            (None, ..) => "not pinned",
            (Some(_), false, _) => "PIN REFUSED",
            (Some(_), true, true) => "pinned, CPU shared",
            (Some(_), true, false) => "pinned",
        };
        rows.row([
            placement.shard.0.to_string(),
            placement.cpu.map_or("any".into(), |cpu| cpu.to_string()),
            thread.into(),
            count(shard.counts.handled),
            share(shard.counts.handled, total.handled),
            count(shard.parks),
            count(shard.rescues),
        ]);
    }
    page.table(&mut rows)?;
    for shard in &report.shards {
        let panics = shard.quarantine.as_ref().map_or(0, |quarantine| quarantine.panics);
        if panics > 0 {
            page.alarm(&format!("{}: its handler panicked {}", shard.placement.shard, many(panics, "time")))?;
        }
    }
    Ok(())
}

fn cost(page: &mut Page, replay: &Replay) -> Result<(), Failure> {
    page.title("Run")?;
    let handled = replay.engine.ledger.total().handled;
    let elapsed = nanos(u64::try_from(replay.elapsed.as_nanos()).unwrap_or(u64::MAX));
    page.raw(&format!("  {}: {} in {elapsed}", rate(replay.events_per_s()), count(handled)))?;
    let each = |n: Option<u64>| match n {
        None => "not counted".into(),
        Some(0) => "0".into(),
        Some(n) => format!("{:.6} ({} in all)", n as f64 / handled.max(1) as f64, count(n)),
    };
    page.raw(&format!(
        "  allocations per event: shards {}, producers {}",
        each(replay.shard_allocations),
        each(replay.producer_allocations)
    ))?;
    for (who, sealed) in [("shards", &replay.shards_sealed), ("producers", &replay.producers_sealed)] {
        if let Some(sealed) = sealed.as_ref().filter(|sealed| sealed.allocations > 0) {
            page.alarm(&format!("the {who} allocated after they were sealed: {sealed}"))?;
        }
    }
    let planned = replay.footprint.total_bytes();
    let resident = replay.resident_bytes.map_or("unknown".into(), bytes);
    page.raw(&format!("  memory of the engine: {} planned, {resident} resident", bytes(planned)))?;
    for shard in &replay.engine.shards {
        let Some(huge) = &shard.huge_pages else { continue };
        let (granted, advised) = (bytes(huge.granted_bytes), bytes(huge.advised_bytes));
        let text = format!("{}: {granted} of {advised} in huge pages", shard.placement.shard);
        match &huge.refused {
            None => page.raw(&format!("  {text}"))?,
            Some(reason) => page.alarm(&format!("{text}: {reason}"))?,
        }
    }
    Ok(())
}
