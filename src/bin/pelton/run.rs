//! `pelton run`: the front door, until somebody stops it; and what `up` does of that too.

use crate::args::RunArgs;
use crate::config::Told;
use crate::failure::Failure;
use crate::format::{bytes, clean, count, many, nanos};
use crate::page::{Page, Rows};
use crate::{json, machine, text};
use pelton::gateway::{End, GateThread, Options, ServeError, Server, ServerReport};
use pelton::views::Totals;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::{Write, stdout};
use std::time::{Duration, Instant};
use std::{fs, thread};

pub fn run(args: &RunArgs) -> Result<(), Failure> {
    machine::raise_descriptors();
    let mut options = Options::default();
    let told = Told::gateway(&args.settings.sources()?, &mut options, &Options::base, None)?;
    let begun = Instant::now();
    let report = serve(&told, options, Server::start, |_| Ok(()))?;
    let mut page = Page::new();
    if args.json {
        page.raw(&json::served(&report, told.plan().profile(), begun.elapsed()))?;
    } else {
        show(&mut page, &report, begun.elapsed())?;
    }
    page.flush()?;
    verdict(&report)
}

/// Serves until a signal; what was left then is the report. `greet` says more, once clients can connect.
pub fn serve(
    told: &Told,
    options: Options,
    start: impl FnOnce(Options) -> Result<Server, ServeError>,
    greet: impl FnOnce(&Server) -> Result<(), Failure>,
) -> Result<ServerReport, Failure> {
    machine::allow_huge_pages(options.plan.has_huge_pages());
    // Before anything is started: a signal that comes early is not lost, and ends nothing half made.
    let ending = [SIGINT, SIGTERM].into_iter().chain(hears_of_hang_ups().then_some(SIGHUP));
    let mut signals = Signals::new(ending)
        .map_err(|error| Failure::system(format!("the system does not tell of signals: {error}"), &error))?;
    told.announce();
    let deadline = options.stop_deadline;
    let mut server = start(options).map_err(|error| Failure::serve(&error))?;
    let greeted = tell_places(&server).and_then(|()| greet(&server));
    if greeted.is_ok() {
        signals.forever().next();
    }
    let (hurry, handle) = (server.hurry(), signals.handle());
    // A second signal hurries the stop. A terminal that goes away sends its own twice, by its shell and by the system.
    let second = thread::spawn(move || {
        if signals.forever().any(|signal| signal != SIGHUP) {
            hurry.now();
        }
    });
    let stopped = server.stop(deadline);
    handle.close();
    // It has nothing to panic with, and whoever waits for it has the report already.
    let _ = second.join();
    greeted?;
    stopped.map_err(|error| Failure::run(&error))
}

/// Whether a terminal that goes away may end it: not where whoever started it had that ignored, as `nohup` does. Where the
/// system does not say so, the signal stays as it was.
fn hears_of_hang_ups() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_some_and(|mask| mask >> (SIGHUP - 1) & 1 == 0)
}

/// Says where it listens, a line each, as soon as clients can connect: ports that were free are known only now.
fn tell_places(server: &Server) -> Result<(), Failure> {
    let mut out = stdout().lock();
    for place in server.places() {
        let (kind, address) = (place.kind.name(), clean(&place.address, 200));
        writeln!(out, "listening {kind} {address}").map_err(Failure::output)?;
    }
    out.flush().map_err(Failure::output)
}

/// The report, for people.
pub fn show(page: &mut Page, report: &ServerReport, elapsed: Duration) -> Result<(), Failure> {
    let counts = &report.gateway;
    page.title("Streams")?;
    let mut rows = Rows::new(1, ["stream", "accepted", "busy", "dropped", "refused", "last id"]);
    for stream in &counts.streams {
        let figures = [stream.accepted, stream.busy, stream.dropped, stream.refused].map(count);
        let last = stream.last.to_string();
        rows.row([clean(&stream.name, 40)].into_iter().chain(figures).chain([last]));
    }
    page.table(&mut rows)?;
    text::ledger(page, &report.engine, report.engine.ledger.is_closed() && report.engine.drained)?;
    text::latency(page, &report.engine)?;
    text::shards(page, &report.engine)?;
    views(page, report)?;
    page.title("Connections")?;
    // Those who were turned away were never taken: what was taken is what has ended.
    let ended = |turned_away: bool| {
        let why = End::ALL.into_iter().filter(|why| why.is_turned_away() == turned_away);
        let all = why.map(|why| (counts.ended(why), why.name())).filter(|(n, _)| *n > 0);
        let all: Vec<_> = all.map(|(n, why)| format!("{} {why}", count(n))).collect();
        if all.is_empty() { "none".into() } else { all.join(", ") }
    };
    page.fact("taken", &count(counts.connected))?;
    page.fact("ended", &ended(false))?;
    if counts.turned_away() > 0 {
        page.fact("turned away", &ended(true))?;
    }
    page.fact("requests", &count(counts.commands))?;
    page.fact("read", &format!("{} in {}", bytes(counts.bytes_in), many(counts.reads, "read")))?;
    page.fact("written", &format!("{} in {}", bytes(counts.bytes_out), many(counts.writes, "write")))?;
    page.fact("messages", &format!("{}, {} lost", count(counts.messages), count(counts.messages_lost)))?;
    let place = |thread: &GateThread| match (thread.cpu, thread.pinned) {
        (Some(cpu), true) => format!("pinned to CPU {cpu}"),
        (Some(cpu), false) => format!("not pinned: CPU {cpu} was refused"),
        (None, _) => "not pinned".into(),
    };
    page.fact("threads", &report.threads.iter().map(place).collect::<Vec<_>>().join(", "))?;
    page.fact("ran for", &nanos(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)))
}

/// What each view was given; what found no window stands where there was any.
fn views(page: &mut Page, report: &ServerReport) -> Result<(), Failure> {
    if report.views.is_empty() {
        return Ok(());
    }
    page.title("Views")?;
    type Figure = fn(&Totals) -> u64;
    let figures: [(&str, Figure); 4] = [
        ("events", |totals| totals.seen),
        ("late", |totals| totals.late),
        ("ahead", |totals| totals.ahead),
        ("without a time", |totals| totals.untimed),
    ];
    let has_any = |of: Figure| report.views.iter().any(|view| of(&view.totals) > 0);
    let shown = || figures.into_iter().filter(|(name, of)| *name == "events" || has_any(*of));
    let head = ["view"].into_iter().chain(shown().map(|(name, _)| name));
    let mut rows = Rows::with_head(1, head.map(str::to_string));
    for view in &report.views {
        let counts = shown().map(|(_, of)| count(of(&view.totals)));
        rows.row([clean(&view.name, 40)].into_iter().chain(counts));
    }
    page.table(&mut rows)
}

/// A stop that left events behind has failed, whatever it printed.
pub fn verdict(report: &ServerReport) -> Result<(), Failure> {
    if report.engine.ledger.is_closed() && report.engine.drained {
        return Ok(());
    }
    let left = report.engine.ledger.total().in_flight;
    Err(Failure::left(left, "the stop", "a longer stop_deadline_ms would leave fewer"))
}
