//! `pelton run`: the front door, until a signal stops it; and the part of it that `up` shares.

use crate::args::RunArgs;
use crate::ending::Ending;
use crate::failure::Failure;
use crate::lookout;
use crate::machine;
use crate::output::format::{bytes, clean, count, many, nanos};
use crate::output::json;
use crate::output::page::{self, Page, Rows};
use crate::output::text;
use crate::settings::config::Loaded;
use pelton_gateway::{
    BoundAddress, End, LostThread, Options, ServeError, Server, ServerReport, WorkerPlacement,
};
use pelton_views::Totals;
use std::io::{Write, stdout};
use std::thread;
use std::time::{Duration, Instant};

pub fn run(args: &RunArgs) -> Result<(), Failure> {
    machine::raise_descriptors();
    let mut options = Options::default();
    let loaded = Loaded::gateway(&args.settings.sources()?, &mut options, &Options::base, None)?;
    let begun = Instant::now();
    let report = serve(&loaded, options, Server::start, |_| Ok(String::new()))?;
    let elapsed = begun.elapsed();
    let written = page::print(|page| match args.json {
        true => page.raw(&json::served(&report, loaded.plan().profile(), elapsed)),
        false => show(page, &report, elapsed),
    });
    verdict(&report).and(written)
}

/// Serves until a signal, or until a thread of the gateway is lost; what was left then is the report. `greeting` is more to print once clients can connect.
pub fn serve(
    loaded: &Loaded,
    options: Options,
    start: impl FnOnce(Options) -> Result<Server, ServeError>,
    greeting: impl FnOnce(&Server) -> Result<String, Failure>,
) -> Result<ServerReport, Failure> {
    machine::allow_huge_pages(options.plan.has_huge_pages());
    let ending = Ending::watch()?;
    loaded.announce();
    let deadline = options.stop_deadline;
    let mut server = start(options).map_err(|error| Failure::serve(&error))?;
    let first = ending.serve(server.force_stop());
    lookout::start(server.watch(), &ending)?;
    print(places(&server) + &greeting(&server)?)?;
    // The sender lives until it has sent a message.
    let _ = first.recv();
    let stopped = server.stop(deadline);
    ending.report();
    stopped.map_err(|error| Failure::run(&error))
}

/// Prints from a thread of its own. A reader that does not read, or has gone, keeps neither clients nor signals waiting:
/// the gateway serves all the same.
fn print(text: String) -> Result<(), Failure> {
    let write = move || {
        let mut out = stdout().lock();
        // Where this fails, so does the report.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    };
    let started = thread::Builder::new().name("pelton-places".into()).spawn(write);
    started.map(drop).map_err(|error| Failure::system(format!("the thread that prints: {error}"), &error))
}

/// Where it listens, a line each: ports that were free are known only now.
fn places(server: &Server) -> String {
    let line =
        |place: &BoundAddress| format!("listening {} {}\n", place.kind.name(), clean(&place.address, 200));
    server.addresses().iter().map(line).collect()
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
    let place = |thread: &WorkerPlacement| match (thread.cpu, thread.pinned) {
        (Some(cpu), true) => format!("pinned to CPU {cpu}"),
        (Some(cpu), false) => format!("not pinned: CPU {cpu} was refused"),
        (None, _) => "not pinned".into(),
    };
    page.fact("threads", &report.threads.iter().map(place).collect::<Vec<_>>().join(", "))?;
    if !report.lost.is_empty() {
        page.fact("lost", &report.lost.iter().map(LostThread::to_string).collect::<Vec<_>>().join(", "))?;
    }
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

/// A server that lost a thread has failed, and so has a stop that left events behind, whatever was printed.
pub fn verdict(report: &ServerReport) -> Result<(), Failure> {
    if let Some(lost) = report.lost.first() {
        return Err(Failure::Run(format!(
            "{lost}: the gateway has stopped, with the report that it printed"
        )));
    }
    if report.engine.ledger.is_closed() && report.engine.drained {
        return Ok(());
    }
    let left = report.engine.ledger.total().in_flight;
    Err(Failure::left(left, "the stop", "a longer stop_deadline_ms would leave fewer"))
}
