//! When each line is meant to be sent, and how well that was kept: the open loop.
//!
//! # Mechanism
//! A run with a rate has one start, taken when the first feed has its first line. Line `i` of feed `f` among `n` is
//! meant for `start + (i · n + f) / rate`. A feed that is early waits; one that is late sends at once and is not
//! forgiven: the schedule never moves, and each event is stamped with the time that it was *meant* for. So a stall
//! shows in the latency of every event that it delayed, not in one alone.
//!
//! A feed waits in two ways. While more than 400 µs are left it sleeps, for 200 µs less than that,
//! since the system wakes it late; the rest it spins on the clock. Where there are fewer CPUs than threads it gives its
//! CPU away between two looks, since a shard may want it.
//!
//! # Invariants
//! - Nothing is sent before its time.
//! - Lines that are malformed have their time too, so what is wrong with an input does not change when the rest is sent.
//! - Nothing here allocates.

use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use pelton::clock::Clock;

/// The highest rate, in lines a second.
pub const RATE_MAX: u64 = 1_000_000_000;

/// An event that is sent later than this after its time is *late*.
pub const LATE_FROM: Duration = Duration::from_micros(100);

/// A wait that is longer than this sleeps first.
const SLEEP_FROM: Duration = Duration::from_micros(400);

/// By how much a sleep ends before the time, so that a late wake-up is not a late line.
const WAKE_BEFORE: Duration = Duration::from_micros(200);

/// The longest single sleep: in between, the feed looks whether it is to go on.
const SLEEP_MAX: Duration = Duration::from_millis(50);

/// What all feeds of a run share: the rate, the clock, and the start.
#[derive(Debug)]
pub(crate) struct Schedule {
    clock: Clock,
    rate_per_s: u64,
    start: OnceLock<u64>,
    /// Ticks between two lines of the whole run.
    ticks_per_line: f64,
    late_from: u64,
    /// Fewer CPUs than threads: whoever waits gives its own away.
    crowded: bool,
}

impl Schedule {
    /// `rate_per_s` is from 1 to [`RATE_MAX`].
    pub fn new(rate_per_s: u64, clock: Clock, crowded: bool) -> Self {
        Schedule {
            rate_per_s,
            start: OnceLock::new(),
            ticks_per_line: clock.ticks_of(Duration::from_secs(1)) as f64 / rate_per_s as f64,
            late_from: clock.ticks_of(LATE_FROM),
            clock,
            crowded,
        }
    }

    /// Lines of one feed in which a twentieth of a second passes, 1 at least.
    pub fn lines_between_looks(&self, feeds: usize) -> u64 {
        (self.rate_per_s / (20 * feeds as u64)).max(1)
    }
}

/// How a feed kept its schedule.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Kept {
    /// The rate of the whole run, in lines a second.
    pub rate_per_s: u64,
    /// Lines that had their time, malformed ones among them.
    pub intended: u64,
    /// Events that were offered to the engine.
    pub sent: u64,
    /// Events that were offered more than [`LATE_FROM`] after their time.
    pub late: u64,
    /// The greatest lateness of an event, in nanoseconds.
    pub late_max_ns: u64,
    /// Lines that were early and for which the feed slept.
    pub slept: u64,
    /// Lines that were early and for which the feed spun, without a sleep.
    pub spun: u64,
    /// Lines a second that were achieved: for each feed its lines, by the time from the start to one interval after its
    /// last event; and the sum of these, since a range with fewer lines ends earlier.
    pub achieved_per_s: f64,
}

impl Kept {
    /// Adds another feed's figures to these.
    pub(crate) fn add(&mut self, other: &Kept) {
        self.intended += other.intended;
        self.sent += other.sent;
        self.late += other.late;
        self.late_max_ns = self.late_max_ns.max(other.late_max_ns);
        self.slept += other.slept;
        self.spun += other.spun;
        self.achieved_per_s += other.achieved_per_s;
    }
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// It is time. In ticks: the time that the line was meant for.
    Now(u64),
    /// Not yet, and the feed slept for a while: it may have other things to do, and then ask again.
    Early,
}

/// One feed's part of the schedule.
#[derive(Debug)]
pub(crate) struct Pace<'a> {
    schedule: &'a Schedule,
    feed: u64,
    feeds: u64,
    /// Whether the line at hand has been waited for already.
    waited: bool,
    kept: Kept,
    /// Lines up to the last event, and the time of that, in ticks.
    last: Option<(u64, u64)>,
}

impl<'a> Pace<'a> {
    pub fn new(schedule: &'a Schedule, feed: usize, feeds: usize) -> Self {
        let kept = Kept { rate_per_s: schedule.rate_per_s, ..Kept::default() };
        Pace { schedule, feed: feed as u64, feeds: feeds as u64, waited: false, kept, last: None }
    }

    /// How it was kept so far.
    pub fn kept(&self) -> Kept {
        let mut kept = self.kept;
        if let Some(((lines, at), start)) = self.last.zip(self.schedule.start.get()) {
            let span_ns = self.schedule.clock.nanos_between(*start, at) as f64;
            // The first line of this feed has its time `feed` intervals after the start, the next one `feeds` after that.
            let line_ns = 1e9 / self.schedule.rate_per_s as f64;
            kept.achieved_per_s =
                lines as f64 * 1e9 / (span_ns + line_ns * (self.feeds as f64 - self.feed as f64));
        }
        kept
    }

    /// A line that is not sent: its time passes.
    pub fn skip(&mut self) {
        self.schedule.start.get_or_init(|| self.schedule.clock.ticks());
        self.kept.intended += 1;
    }

    /// Waits until it is time for the next line, and says for when that was meant, in ticks; or `None` where `is_over`
    /// says so first.
    pub fn wait(&mut self, is_over: impl Fn() -> bool) -> Option<u64> {
        loop {
            match self.turn() {
                Turn::Now(meant) => return Some(meant),
                Turn::Early if is_over() => return None,
                Turn::Early => {}
            }
        }
    }

    /// Waits for the next line's time, but for [`SLEEP_MAX`] at most. With [`Turn::Now`] the line counts as sent.
    #[inline]
    fn turn(&mut self) -> Turn {
        let Schedule { clock, start, ticks_per_line, late_from, crowded, .. } = self.schedule;
        let start = *start.get_or_init(|| clock.ticks());
        // Exact enough: 2^53 ticks are a month.
        let line = (self.kept.intended * self.feeds + self.feed) as f64;
        let meant = start + (line * ticks_per_line) as u64;
        let mut now = clock.ticks();
        if now < meant {
            if self.nap(clock.nanos_between(now, meant)) {
                return Turn::Early;
            }
            self.kept.spun += u64::from(!self.waited);
            while now < meant {
                if *crowded {
                    thread::yield_now()
                } else {
                    std::hint::spin_loop()
                }
                now = clock.ticks();
            }
        }
        self.waited = false;
        let late = now - meant;
        self.kept.late += u64::from(late > *late_from);
        self.kept.late_max_ns = self.kept.late_max_ns.max(clock.nanos_between(0, late));
        self.kept.intended += 1;
        self.kept.sent += 1;
        self.last = Some((self.kept.intended, now));
        Turn::Now(meant)
    }

    /// Sleeps, if that is worth it; says whether it did.
    fn nap(&mut self, left_ns: u64) -> bool {
        let left = Duration::from_nanos(left_ns);
        if left <= SLEEP_FROM {
            return false;
        }
        self.kept.slept += u64::from(!self.waited);
        self.waited = true;
        thread::sleep((left - WAKE_BEFORE).min(SLEEP_MAX));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(turn: Turn) -> u64 {
        match turn {
            Turn::Now(meant) => meant,
            Turn::Early => panic!("early"),
        }
    }

    #[test]
    fn feeds_share_one_schedule_and_it_never_moves() {
        let (clock, time) = Clock::virtual_time();
        time.advance(Duration::from_secs(5));
        let start = clock.ticks();
        // A line each 100 µs: each of two feeds has one each 200 µs.
        let schedule = Schedule::new(10_000, clock, false);
        let (mut even, mut odd) = (Pace::new(&schedule, 0, 2), Pace::new(&schedule, 1, 2));
        assert_eq!(now(even.turn()), start);
        time.advance(Duration::from_millis(1));
        let odds: Vec<u64> = (0..5).map(|_| now(odd.turn()) - start).collect();
        assert_eq!(odds, [100_000, 300_000, 500_000, 700_000, 900_000]);
        even.skip();
        let evens: Vec<u64> = (0..4).map(|_| now(even.turn()) - start).collect();
        assert_eq!(evens, [400_000, 600_000, 800_000, 1_000_000]);
        let mut kept = odd.kept();
        // Exactly the bound is not late: the last of them was 100 µs after its time.
        assert_eq!((kept.intended, kept.sent, kept.late, kept.late_max_ns), (5, 5, 4, 900_000));
        kept.add(&even.kept());
        assert_eq!((kept.intended, kept.sent, kept.late, kept.late_max_ns), (11, 10, 7, 900_000));
        assert_eq!((kept.slept, kept.spun), (0, 0));
        // Five lines and six, the last of each at 1 ms: the odd feed's first was due at 0.1 ms, and each takes 0.2 ms.
        let expected = 5.0 / 0.001_1 + 6.0 / 0.001_2;
        assert!((kept.achieved_per_s - expected).abs() < 1e-6, "{kept:?}");
    }

    #[test]
    fn an_early_feed_sleeps_or_spins_and_is_never_too_early() {
        let (clock, time) = Clock::virtual_time();
        let schedule = Schedule::new(1_000, clock.clone(), true);
        let mut pace = Pace::new(&schedule, 0, 1);
        assert_eq!(now(pace.turn()), 0);
        // A millisecond is left, then less than what is worth a sleep.
        assert_eq!(pace.turn(), Turn::Early);
        assert_eq!(pace.turn(), Turn::Early);
        time.advance(Duration::from_micros(700));
        thread::scope(|scope| {
            let waits = scope.spawn(|| {
                let meant = now(pace.turn());
                (meant, clock.ticks(), pace.kept())
            });
            while !waits.is_finished() {
                time.advance(Duration::from_micros(1));
                thread::yield_now();
            }
            let (meant, sent, kept) = waits.join().unwrap();
            assert!(meant == 1_000_000 && sent >= meant, "{meant} {sent}");
            assert_eq!((kept.sent, kept.slept, kept.spun), (2, 1, 0), "it slept first: one wait");
        });
    }

    #[test]
    fn the_highest_rate_keeps_its_fractions() {
        let (clock, time) = Clock::virtual_time();
        let schedule = Schedule::new(3, clock, false);
        time.advance(Duration::from_secs(9));
        schedule.start.set(0).unwrap();
        let mut pace = Pace::new(&schedule, 0, 1);
        let meant: Vec<u64> = (0..4).map(|_| now(pace.turn())).collect();
        assert_eq!(meant, [0, 333_333_333, 666_666_666, 1_000_000_000]);
    }
}
