//! What every bench shares: the event, its check, pinning, alternating runs, and the table that is printed.
//!
//! Fairness: every peer moves the same fields in a 64-byte element, checks every event in its consumer with the same
//! code, runs with both threads pinned to the same two CPUs, and takes its turn in every round, so that whatever else
//! the machine does meets all of them alike. A figure is the median over the rounds; a ratio is the median of the
//! rounds' ratios, with the interval that holds the true median with 95 % confidence (order statistics).
#![allow(dead_code)]

use std::hint::black_box;
use std::time::Instant;

/// What a producer writes: 40 bytes, which with key, stamp and sequence word make a slot of 64.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct Body {
    pub sequence: u64,
    pub producer: u64,
    pub value: u64,
    pub extra: u64,
    pub check: u64,
}

impl Body {
    #[inline(always)]
    pub fn new(sequence: u64, key: u64) -> Self {
        Body { sequence, producer: 0, value: sequence ^ 0x5555, extra: key, check: checksum(sequence, key) }
    }
}

/// The element of peers whose slots are the event alone: the same fields, the same 64 bytes.
#[derive(Clone, Copy, Default)]
#[repr(C, align(64))]
pub struct Element {
    pub key: u64,
    pub stamp: u64,
    pub body: Body,
}

#[inline(always)]
fn checksum(sequence: u64, key: u64) -> u64 {
    (sequence ^ key.rotate_left(32)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// Whether this is the event that was expected, whole.
#[inline(always)]
pub fn check(key: u64, body: &Body, expected: u64) {
    assert!(
        body.sequence == expected && body.check == checksum(body.sequence, key),
        "event {expected} came as {} with check {}",
        body.sequence,
        body.check
    );
}

/// The consumer of all: every event once, in order, intact.
#[derive(Default)]
pub struct Checker {
    next: u64,
}

impl Checker {
    pub fn starting_at(next: u64) -> Self {
        Checker { next }
    }

    #[inline(always)]
    pub fn see(&mut self, key: u64, body: &Body) {
        check(key, body, self.next);
        self.next += 1;
    }

    pub fn seen(&self) -> u64 {
        self.next
    }
}

/// `n` dependent multiplications: what a producer does before each event.
#[inline(always)]
pub fn work(n: u64, seed: u64) {
    let mut x = seed | 1;
    for _ in 0..n {
        x = black_box(x.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    }
    black_box(x);
}

/// The CPUs of this process, asked once, before anything is pinned.
pub fn cpus() -> [usize; 2] {
    use std::sync::OnceLock;
    static CPUS: OnceLock<[usize; 2]> = OnceLock::new();
    *CPUS.get_or_init(|| {
        let ids: Vec<usize> =
            core_affinity::get_core_ids().unwrap_or_default().iter().map(|c| c.id).collect();
        match ids[..] {
            [a, b, ..] => [a, b],
            _ => {
                println!("fewer than two CPUs: these figures mean nothing");
                [0, 0]
            }
        }
    })
}

pub fn pin(which: usize) {
    let id = cpus()[which];
    let pinned = core_affinity::set_for_current(core_affinity::CoreId { id });
    assert!(pinned || cpus()[0] == cpus()[1], "CPU {id} was refused");
}

/// One contender: its name, and a run that says how many nanoseconds an event took.
pub struct Peer<'a> {
    pub name: &'a str,
    pub run: Box<dyn FnMut() -> f64 + 'a>,
}

impl<'a> Peer<'a> {
    pub fn new(name: &'a str, run: impl FnMut() -> f64 + 'a) -> Self {
        Peer { name, run: Box::new(run) }
    }
}

/// The figures of one contender over all rounds.
pub struct Figures {
    pub name: String,
    pub runs: Vec<f64>,
}

pub fn median(runs: &[f64]) -> f64 {
    let mut sorted = runs.to_vec();
    sorted.sort_by(f64::total_cmp);
    let mid = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[mid] } else { (sorted[mid - 1] + sorted[mid]) / 2.0 }
}

/// The 95 % interval of a median: ranks from the binomial distribution, by its normal approximation.
pub fn interval(runs: &[f64]) -> (f64, f64) {
    let mut sorted = runs.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len() as f64;
    let half = 0.98 * n.sqrt();
    let low = (n / 2.0 - half).floor().max(0.0) as usize;
    let high = ((n / 2.0 + half).ceil() as usize).min(sorted.len() - 1);
    (sorted[low], sorted[high])
}

/// Rounds of a bench: 15, or what `PELTON_BENCH_ROUNDS` says.
pub fn rounds() -> usize {
    std::env::var("PELTON_BENCH_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(15)
}

/// Events of one run: what the bench says, or what `PELTON_BENCH_EVENTS` says.
pub fn events(default: u64) -> u64 {
    std::env::var("PELTON_BENCH_EVENTS").ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

/// Runs all peers in turn, as often as there are rounds. The first round warms up and does not count.
pub fn alternate(mut peers: Vec<Peer<'_>>) -> Vec<Figures> {
    let mut all: Vec<Figures> =
        peers.iter().map(|peer| Figures { name: peer.name.to_string(), runs: Vec::new() }).collect();
    for round in 0..=rounds() {
        for (peer, figures) in peers.iter_mut().zip(&mut all) {
            // Each run on a thread of its own, so that no affinity mask is inherited from the run before.
            let ns = std::thread::scope(|scope| {
                let run = SendRun(&mut peer.run);
                scope.spawn(move || run.call()).join().expect("a run panicked")
            });
            if round > 0 {
                figures.runs.push(ns);
            }
        }
    }
    all
}

struct SendRun<'a, 'b>(&'a mut Box<dyn FnMut() -> f64 + 'b>);
// SAFETY: the run is called on one other thread while this one waits for it; benches capture plain settings alone.
unsafe impl Send for SendRun<'_, '_> {}
impl SendRun<'_, '_> {
    fn call(self) -> f64 {
        (self.0)()
    }
}

/// Prints one line a peer: nanoseconds, and the ratio of the first peer (ours) to it.
pub fn table(title: &str, figures: &[Figures]) {
    println!("\n{title}");
    println!("  {:<34} {:>9} {:>21}  ours / it (95 %)", "", "ns/event", "95 %");
    let ours = &figures[0].runs;
    for peer in figures {
        let (low, high) = interval(&peer.runs);
        let ratios: Vec<f64> = ours.iter().zip(&peer.runs).map(|(a, b)| a / b).collect();
        let (ratio_low, ratio_high) = interval(&ratios);
        println!(
            "  {:<34} {:>9.2} {:>10.2} ..{:>8.2}  {:>5.2}  ({:.2} .. {:.2})",
            peer.name,
            median(&peer.runs),
            low,
            high,
            median(&ratios),
            ratio_low,
            ratio_high
        );
    }
}

/// Prints the ratio of one peer to another.
pub fn against(figures: &[Figures], one: usize, other: usize) {
    let ratios: Vec<f64> = figures[one].runs.iter().zip(&figures[other].runs).map(|(a, b)| a / b).collect();
    let (low, high) = interval(&ratios);
    println!(
        "  {} / {}: {:.2} ({low:.2} .. {high:.2})",
        figures[one].name,
        figures[other].name,
        median(&ratios)
    );
}

/// A bare disruptor: single producer, `publish` one by one, busy spin, a managed consumer that it pins itself.
pub fn disruptor(n: u64, w: u64) -> f64 {
    use disruptor::{BusySpin, ProcessorSettings, Producer, build_single_producer};
    let (done, end) = std::sync::mpsc::channel();
    let mut checker = Checker::default();
    let mut producer = build_single_producer(1_024, Element::default, BusySpin)
        .pin_at_core(cpus()[1])
        .handle_events_with(move |event: &Element, _, _| {
            checker.see(event.key, &event.body);
            if checker.seen() == n {
                done.send(Instant::now()).unwrap();
            }
        })
        .build();
    pin(0);
    let start = Instant::now();
    for i in 0..n {
        work(w, i);
        producer
            .publish(|event| *event = Element { key: i & 1_023, stamp: 0, body: Body::new(i, i & 1_023) });
    }
    per_event(start, end.recv().unwrap(), n)
}

/// Nanoseconds an event from `start` until `end`.
pub fn per_event(start: Instant, end: Instant, events: u64) -> f64 {
    end.duration_since(start).as_secs_f64() * 1e9 / events as f64
}

/// What every bench prints first.
pub fn banner(what: &str) {
    let model = std::fs::read_to_string("/proc/cpuinfo")
        .ok()
        .and_then(|text| text.lines().find(|l| l.starts_with("model name")).map(|l| l[13..].to_string()))
        .unwrap_or_else(|| "unknown CPU".into());
    println!("{what}\nCPU: {model}; threads pinned to {:?}; {} rounds after a warm-up", cpus(), rounds());
}
