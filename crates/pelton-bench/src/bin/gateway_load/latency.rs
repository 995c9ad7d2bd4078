//! How long a request takes, from when it was meant to go out to its answer.
//!
//! Request `n` is meant to go out `n / rate` seconds after the start, whatever became of those before it; so a server that
//! stands still for a second is charged with that second by every request that was due in it, and not by one alone.
//! One thread sends, another reads, and both sleep in the kernel: the two CPUs of a small machine are the server's. How
//! late requests went out is told beside, since a client that is itself late measures itself.

use crate::args::Args;
use crate::failure::{Failure, failed};
use crate::link::{Blocking, Server};
use crate::wire::{self, Tally};
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Latencies above a minute count as one.
const LATENCY_NS_MAX: u64 = 60_000_000_000;

pub fn run(args: &mut Args) -> Result<bool, Failure> {
    let server = Server::of(args);
    let rate: u64 = args.number("rate", 1..=100_000)?.unwrap_or(1000);
    let seconds: u64 = args.number("seconds", 1..=3600)?.unwrap_or(5);
    let requests = (rate * seconds).min(args.number("requests", 1..=u64::MAX)?.unwrap_or(u64::MAX));
    let stream = args.text("stream").unwrap_or_else(|| "mystream".to_owned());
    let payload_bytes = args.number("payload", 1..=1 << 20)?.unwrap_or(40);
    let frame = wire::xadd(&stream, payload_bytes, args.number("seed", 0..=u64::MAX)?.unwrap_or(1));
    args.all_known()?;

    let mut link = server.connect()?;
    // The way is warm before it is measured.
    if link.ask(&frame).map_err(failed("the first request"))?.starts_with('$') {
        link.line().map_err(failed("the first answer"))?;
    }
    let mut twin = link.twin().map_err(failed("a second handle of the socket"))?;
    let begun = Instant::now() + Duration::from_millis(10);
    let due = |n: u64| begun + Duration::from_nanos(n * 1_000_000_000 / rate);
    let sent = AtomicU64::new(0);
    let (late, answers) = thread::scope(|scope| {
        let sender = scope.spawn(|| send(&mut twin, &frame, requests, due, &sent));
        let answers = read(&mut link, requests, due);
        (sender.join().expect("the sender does not panic"), answers)
    });
    let (tally, latency) = answers;
    let sent = sent.into_inner();
    let unanswered = sent - tally.answered().min(sent);
    if args.json {
        let told = json!({
            "mode": "latency", "address": server.address, "rate": rate, "payload_bytes": payload_bytes,
            "meant": requests, "sent": sent,
            "accepted": tally.accepted, "busy": tally.busy, "dropped": tally.dropped, "errors": tally.errors,
            "out_of_order": tally.out_of_order, "unanswered": unanswered,
            "latency_ns": quantiles(&latency), "sent_late_ns": quantiles(&late),
        });
        println!("{told}");
    } else {
        println!(
            "sent {sent} at {rate}/s: accepted {}, busy {}, dropped {}, out of order {}, unanswered {unanswered}",
            tally.accepted, tally.busy, tally.dropped, tally.out_of_order
        );
        for (name, histogram) in [("latency", &latency), ("sent late", &late)] {
            let of = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
            println!(
                "{name:>9}: p50 {:.1} µs, p99 {:.1}, p99.9 {:.1}, max {:.1}",
                of(0.5),
                of(0.99),
                of(0.999),
                histogram.max() as f64 / 1e3
            );
        }
        for (kind, count) in &tally.errors {
            println!("error {kind}: {count}");
        }
    }
    Ok(tally.errors.is_empty() && tally.out_of_order == 0 && unanswered == 0 && sent == requests)
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("the bounds are in order")
}

fn record(histogram: &mut Histogram<u64>, since: Instant) {
    histogram.saturating_record(since.elapsed().as_nanos() as u64);
}

/// Sends each request when it is due, or as soon after as can be; counts how late.
fn send(
    link: &mut Blocking,
    frame: &[u8],
    requests: u64,
    due: impl Fn(u64) -> Instant,
    sent: &AtomicU64,
) -> Histogram<u64> {
    let mut late = histogram();
    for n in 0..requests {
        let at = due(n);
        thread::sleep(at.saturating_duration_since(Instant::now()));
        record(&mut late, at);
        // A server that is gone is what the reader tells of.
        if link.write_all(frame).is_err() {
            break;
        }
        sent.store(n + 1, Ordering::Relaxed);
    }
    late
}

/// Reads the answer to each request; gives up where none comes for ten seconds.
fn read(link: &mut Blocking, requests: u64, due: impl Fn(u64) -> Instant) -> (Tally, Histogram<u64>) {
    let (mut tally, mut latency) = (Tally::default(), histogram());
    let mut last = (0, 0);
    let mut buffer = vec![0; 64 << 10];
    let mut filled = 0;
    let mut answered = 0;
    while answered < requests {
        match link.read(&mut buffer[filled..]) {
            Ok(0) => {
                tally.error("lost:closed");
                break;
            }
            Ok(bytes) => filled += bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                tally.error(&format!("lost:read:{:?}", error.kind()));
                break;
            }
        }
        let mut at = 0;
        loop {
            match wire::reply(&buffer[at..filled]) {
                Ok(Some((reply, length))) => {
                    record(&mut latency, due(answered));
                    tally.count(reply, &mut last);
                    answered += 1;
                    at += length;
                }
                Ok(None) => break,
                Err(strange) => {
                    tally.error(&format!("strange:{strange}"));
                    return (tally, latency);
                }
            }
        }
        buffer.copy_within(at..filled, 0);
        filled -= at;
    }
    (tally, latency)
}

fn quantiles(of: &Histogram<u64>) -> Value {
    json!({
        "p50": of.value_at_quantile(0.5), "p90": of.value_at_quantile(0.9), "p99": of.value_at_quantile(0.99),
        "p99_9": of.value_at_quantile(0.999), "max": of.max(), "mean": of.mean(),
    })
}
