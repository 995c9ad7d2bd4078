//! Probes: what a pair of CPUs and the clock can do at best, measured bare. Questions and diagnoses share them.
//!
//! # Mechanism
//! Two words, each on a line of its own, each stored by one side and polled by the other: nothing that two CPUs do
//! together can be faster. Each trip holds one reading of the clock.
//!
//! # Steps
//! Some CPUs move their counter in steps of 10 ns, a tenth of a trip: taken as they are, quantiles would jump from step to
//! step. Each trip is known to within one step, so it counts as spread evenly over one.

use crossbeam_utils::CachePadded;
use pelton::clock::Clock;
use pelton::shard::pin;
use std::hint::spin_loop;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What the bare line says when there is nothing more to answer.
const END: u64 = u64::MAX;

/// The quantiles of spans, in nanoseconds, of their ticks; all 0 where there are none.
pub fn quantiles<const N: usize>(clock: &Clock, mut spans: Vec<u64>, wanted: [f64; N]) -> [f64; N] {
    spans.sort_unstable();
    let step = step(clock);
    wanted.map(|quantile| spread_quantile(&spans, step, quantile) * ns_per_tick(clock))
}

/// Nanoseconds of a tick.
pub fn ns_per_tick(clock: &Clock) -> f64 {
    clock.nanos_between(0, 1 << 30) as f64 / (1u64 << 30) as f64
}

/// The least by which the clock moves, or the time that a reading takes where that is longer; in ticks.
pub fn step(clock: &Clock) -> f64 {
    let mut last = clock.ticks();
    let moves = (0..1_000).filter_map(|_| {
        let now = clock.ticks();
        let moved = now.saturating_sub(std::mem::replace(&mut last, now));
        (moved > 0).then_some(moved)
    });
    moves.min().unwrap_or(1) as f64
}

/// The value below which `quantile` of all lies, each spread evenly over `step` around itself.
fn spread_quantile(sorted: &[u64], step: f64, quantile: f64) -> f64 {
    let wanted = quantile * sorted.len() as f64;
    let below = |x: f64| {
        let whole = sorted.partition_point(|value| *value as f64 + step / 2.0 <= x);
        let parts = sorted[whole..].iter().map(|value| (x - (*value as f64 - step / 2.0)) / step);
        whole as f64 + parts.take_while(|part| *part > 0.0).sum::<f64>()
    };
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let at = sorted[(wanted as usize).min(last)] as f64;
    let (mut low, mut high) = (at - 2.0 * step, at + 2.0 * step);
    // Halved until it is far below what is told.
    for _ in 0..30 {
        let mid = (low + high) / 2.0;
        if below(mid) < wanted { low = mid } else { high = mid }
    }
    low.max(0.0)
}

/// Asks on this thread, pinned to the first CPU, while `echo` answers on another, pinned to the second. Says whether
/// both pins were granted.
///
/// # Errors
/// [`io::Error`] where there is no second thread to be had.
pub fn pair<T>(
    cpus: [usize; 2],
    echo: impl FnOnce() + Send + 'static,
    ask: impl FnOnce() -> T,
) -> io::Result<(T, bool)> {
    let echo = std::thread::Builder::new().spawn(move || {
        let pinned = pin(cpus[1]);
        echo();
        pinned
    })?;
    let pinned = pin(cpus[0]);
    let asked = ask();
    let both = echo.join().expect("the other side panicked") && pinned;
    Ok((asked, both))
}

/// The ticks of each of `events` trips, or of those that begin before `until`, but of one at least.
pub fn timed(clock: &Clock, events: u64, until: u64, mut trip: impl FnMut(u64)) -> Vec<u64> {
    let mut trips = Vec::with_capacity(events as usize);
    for i in 1..=events {
        let begun = clock.ticks();
        trip(i);
        let end = clock.ticks();
        trips.push(end.saturating_sub(begun));
        if end >= until {
            break;
        }
    }
    trips
}

/// A cache line of its own, with one word.
#[derive(Default)]
struct Line(CachePadded<AtomicU64>);

impl Line {
    fn store(&self, i: u64) {
        // SYNC: line (Release); pairs with `Line::wait_past`.
        self.0.store(i, Ordering::Release);
    }

    /// Waits until it says something else than `i`.
    fn wait_past(&self, i: u64) -> u64 {
        loop {
            // SYNC: line (Acquire); pairs with `Line::store`.
            match self.0.load(Ordering::Acquire) {
                same if same == i => spin_loop(),
                other => return other,
            }
        }
    }
}

/// The ticks of trips of a bare cache line from one CPU to the other and back: of `events`, or of as many as begin
/// within `limit`. To be called from a thread that ends, since it is pinned.
///
/// # Errors
/// [`io::Error`] where there is no second thread to be had.
pub fn bare(clock: &Clock, cpus: [usize; 2], events: u64, limit: Duration) -> io::Result<(Vec<u64>, bool)> {
    let lines = Arc::new([Line::default(), Line::default()]);
    let other = lines.clone();
    let echo = move || {
        let mut last = 0;
        loop {
            last = other[0].wait_past(last);
            if last == END {
                return;
            }
            other[1].store(last);
        }
    };
    let until = clock.ticks().saturating_add(clock.ticks_of(limit));
    pair(cpus, echo, || {
        let trips = timed(clock, events, until, |i| {
            lines[0].store(i);
            lines[1].wait_past(i - 1);
        });
        lines[0].store(END);
        trips
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_with_steps_gives_quantiles_between_them() {
        // Spans of 126 by a clock that moves by 10 show 120 four times, and 130 six times, of ten.
        let mut trips = [vec![120; 400], vec![130; 600]].concat();
        trips.sort_unstable();
        let p50 = spread_quantile(&trips, 10.0, 0.5);
        assert!((p50 - 126.7).abs() < 0.1, "{p50}");
        // What has no steps stays what it is.
        let even: Vec<u64> = (0..=1_000).collect();
        for (quantile, value) in [(0.5, 500.0), (0.99, 990.0)] {
            let found = spread_quantile(&even, 1.0, quantile);
            assert!((found - value).abs() < 1.0, "{found}");
        }
        assert!((spread_quantile(&[7], 1.0, 0.5) - 7.0).abs() < 0.01);
        assert_eq!(spread_quantile(&[], 1.0, 0.5), 0.0);
    }

    #[test]
    fn a_limit_ends_the_trips_on_one_cpu_too() {
        let cpu = pelton::shard::available()[0];
        let (clock, no_time) = (Clock::real(), Duration::ZERO);
        // Both sides take turns here: a trip lasts as long as the scheduler likes.
        let (tx, rx) = std::sync::mpsc::channel();
        std::thread::spawn(move || tx.send(bare(&clock, [cpu, cpu], 1 << 20, no_time).unwrap().0.len()));
        assert_eq!(rx.recv_timeout(Duration::from_secs(60)), Ok(1));
    }
}
