//! Gathering: bringing together what all shards have of a view.
//!
//! # Mechanism
//! There is a tally of each view with room for what all shards keep. It is sent from shard to shard ([`Engine::ask`]), where
//! it takes in what that shard has, in parts: a part takes [`PART`], or a tenth of the time that the shard took to come to
//! it where that is longer (a shard that comes to its mail seldom would make many parts slow, and its events wait for
//! longer anyway), and [`PART_MAX`] at most. Then the shard is left alone for [`REST`] times as long as the part took,
//! whatever is to be gathered next: so all gatherings together take a tenth of a shard's time, however many ask.
//!
//! A tally that is on its way when a shard does not answer comes back by itself, once that shard looks at its mail or is gone.
//! Until then every gathering fails at once with that shard's name: each would have to go through it, so nothing waits for
//! it a second time, and nothing is laid out anew.
//!
//! # Invariants
//! - There is one tally of each view besides those of the shards, from start to end.
//! - The reader's thread alone begins a gathering; one of another view may go on inside it, while a shard rests.
//! - Nothing here panics for want of memory: nothing large is allocated.
#![forbid(unsafe_code)]

use super::handler::Front;
use super::questions::Wanted;
use super::record::Record;
use crate::engine::{AskError, Engine};
use crate::event::ShardId;
use crate::shard::Handler;
use crate::views::{Progress, Tally, View};
use std::ops::{Deref, DerefMut};
use std::sync::Weak;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// The time that a part of a gathering takes on a shard, if the shard comes to its mail in time.
const PART: Duration = Duration::from_micros(100);

/// The most that it takes.
const PART_MAX: Duration = Duration::from_millis(5);

/// Rows between two looks at the clock.
const ROWS: usize = 32;

/// How many times as long as a part has taken a shard is left alone.
const REST: u32 = 9;

/// What an answer is where the server ends.
pub(super) const STOPS: &str = "ERR the server stops";

/// The place of the tally that takes in what all shards have of a view, while nothing uses it.
pub(super) struct Home {
    tally: Receiver<Box<Tally>>,
    way: SyncSender<Box<Tally>>,
}

impl Home {
    pub fn new(view: &View, shards: u16) -> Self {
        let (way, tally) = sync_channel(1);
        // There is room for the one.
        let _ = way.try_send(Box::new(Tally::new(&view.over_shards(shards))));
        Home { tally, way }
    }

    /// The tally, empty; `None` while it is away.
    pub fn take(&self) -> Option<Traveller> {
        let mut tally = self.tally.try_recv().ok()?;
        tally.clear();
        Some(Traveller { tally: Some(tally), way: self.way.clone() })
    }
}

/// A tally that goes home wherever it is dropped.
pub(super) struct Traveller {
    /// Always there, until it is dropped.
    tally: Option<Box<Tally>>,
    way: SyncSender<Box<Tally>>,
}

impl Deref for Traveller {
    type Target = Tally;

    fn deref(&self) -> &Tally {
        self.tally.as_ref().expect(Self::THERE)
    }
}

impl DerefMut for Traveller {
    fn deref_mut(&mut self) -> &mut Tally {
        self.tally.as_mut().expect(Self::THERE)
    }
}

impl Traveller {
    const THERE: &str = "it is there until it is dropped";
}

impl Drop for Traveller {
    fn drop(&mut self) {
        if let Some(tally) = self.tally.take() {
            // There is room for the one. Nothing is at home where the server is gone.
            let _ = self.way.try_send(tally);
        }
    }
}

/// What goes from shard to shard.
struct Trip {
    tally: Traveller,
    wanted: Wanted,
    progress: Progress,
    /// Whether the shard has been merged in whole.
    is_done: bool,
    /// How long the last part took on the shard. Not more than twice its limit: what goes beyond was taken by the system.
    took: Duration,
}

impl Trip {
    /// Takes in a part of what a shard has, on its thread.
    fn merge(mut self, own: &Tally, asked: Instant) -> Self {
        let begun = Instant::now();
        let limit = (begun.saturating_duration_since(asked) / 10).clamp(PART, PART_MAX);
        while !self.is_done && self.took < limit {
            self.is_done = match &self.wanted {
                Wanted::All => self.tally.add_part(own, &mut self.progress, ROWS),
                Wanted::Keys(keys) => self.tally.add_keys_part(own, keys, &mut self.progress, ROWS),
            };
            self.took = begun.elapsed();
        }
        self.took = self.took.min(2 * limit);
        self
    }
}

/// The tallies of all views, and when shards may be asked again.
pub(super) struct Gatherer {
    engine: Weak<Engine<Record>>,
    homes: Box<[Home]>,
    /// By shard: it is left alone until then.
    rests: Box<[Instant]>,
    /// The shard that did not answer last, and the view whose tally it has.
    stuck: Option<(ShardId, usize)>,
}

impl Gatherer {
    /// Lays out a tally of each view.
    ///
    /// # Panics
    /// If the memory is not available.
    pub fn new(engine: Weak<Engine<Record>>, views: &[View], shards: u16) -> Self {
        let homes = views.iter().map(|view| Home::new(view, shards)).collect();
        let rests = vec![Instant::now(); usize::from(shards)].into();
        Gatherer { engine, homes, rests, stuck: None }
    }

    /// Begins a gathering of a view.
    pub fn begin(&mut self, view: usize, wanted: Wanted) -> Result<Gathering, String> {
        if let Some((shard, view)) = self.stuck
            && self.homes[view].take().is_none()
        {
            return Err(format!("ERR {}", AskError::NoAnswer(shard)));
        }
        self.stuck = None;
        let tally = self.homes[view].take().ok_or("ERR the view is being read")?;
        let (progress, is_done, took) = (Progress::default(), false, Duration::ZERO);
        let trip = Trip { tally, wanted, progress, is_done, took };
        Ok(Gathering { view, shard: ShardId(0), trip })
    }

    /// When the shard that comes next may be asked; `None` where all have been.
    pub fn rests_until(&self, gathering: &Gathering) -> Option<Instant> {
        self.rests.get(gathering.shard.index()).copied()
    }

    /// Takes in the next part.
    pub fn go_on<H: Handler<Record>>(&mut self, gathering: Gathering) -> Result<Gathering, String> {
        let Gathering { view, shard, trip } = gathering;
        let engine = self.engine.upgrade().ok_or(STOPS)?;
        let asked = Instant::now();
        let merge = move |front: &mut Front<H>| trip.merge(front.tally(view), asked);
        let mut trip = engine.ask(shard, merge).map_err(|error| {
            self.stuck = Some((shard, view));
            format!("ERR {error}")
        })?;
        let took = std::mem::take(&mut trip.took);
        self.rests[shard.index()] = Instant::now() + took * REST;
        let mut shard = shard;
        if std::mem::take(&mut trip.is_done) {
            shard.0 += 1;
            trip.progress = Progress::default();
        }
        Ok(Gathering { view, shard, trip })
    }
}

/// A gathering that is on its way.
pub(super) struct Gathering {
    view: usize,
    /// The shard that comes next.
    shard: ShardId,
    trip: Trip,
}

impl Gathering {
    /// What has been brought together.
    pub fn into_tally(self) -> Traveller {
        self.trip.tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_comes_home_wherever_it_is_dropped() {
        let home = Home::new(&View::count("all"), 3);
        let mut away = home.take().expect("it is made at home");
        assert!(home.take().is_none());
        away.observe(&[(&b"a"[..], &b"1"[..])], 1);
        std::thread::spawn(move || drop(away)).join().unwrap();
        let back = home.take().expect("it came back");
        assert_eq!(back.totals().seen, 0, "it is empty when it goes out");
    }

    #[test]
    fn a_part_ends_in_time_and_the_parts_have_all() {
        let view = View::count("all").by("key").keys(20_000, crate::views::PastKeys::Drop);
        let mut own = Tally::new(&view);
        for n in 0..20_000u32 {
            own.observe(&[(&b"key"[..], &n.to_le_bytes()[..])], 1);
        }
        let home = Home::new(&view, 1);
        let tally = home.take().unwrap();
        let (wanted, progress) = (Wanted::All, Progress::default());
        let mut trip = Trip { tally, wanted, progress, is_done: false, took: Duration::ZERO };
        let mut parts = 0;
        while !trip.is_done {
            trip.took = Duration::ZERO;
            trip = trip.merge(&own, Instant::now());
            parts += 1;
        }
        assert!(parts > 1, "one part took {:?}", trip.took);
        let reading = trip.tally.read(crate::views::Which::Open, None, None, 1).unwrap();
        assert_eq!(reading.lines.len(), 20_000);
    }
}
