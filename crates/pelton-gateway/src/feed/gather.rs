//! Gathering: merging what all shards have of a view.
//!
//! # Mechanism
//! There is a tally of each view with room for what all shards keep. It is sent from shard to shard ([`Engine::ask`]), and
//! merges what that shard has, in parts. A part takes [`PART`], or a tenth of the time that the shard took to answer if that is
//! longer, and [`PART_MAX`] at most. (A shard that reads its mailbox seldom would make many parts slow, and its events wait for
//! longer anyway.) Then the shard is left alone for [`REST`] times as long as the part took, whatever is gathered next: so all
//! gatherings together take a tenth of a shard's time, however many requests there are.
//!
//! Both are real time on a virtual clock too: they measure what a shard works, and a rest that ended only with an advance of
//! the clock would keep the caller waiting until the next advance.
//!
//! A tally that is at a shard which does not answer returns by itself, once that shard reads its mailbox or ends. Until then
//! every gathering fails at once with that shard's name: each would have to pass it, so nothing waits for it a second time, and
//! nothing is allocated anew.
//!
//! # Invariants
//! - There is one tally of each view in addition to those of the shards, from start to end.
//! - Only the reader's thread begins a gathering; one of another view may run inside it, while a shard rests.
//! - Nothing here panics for lack of memory: nothing large is allocated.

use crate::feed::event::Record;
use crate::feed::handler::GatewayHandler;
use crate::feed::view_requests::GatherScope;
use pelton::engine::{AskError, Engine};
use pelton::event::ShardId;
use pelton::shard::Handler;
use pelton_views::{Progress, Tally, View};
use std::ops::{Deref, DerefMut};
use std::sync::Weak;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// The time that a part of a gathering takes on a shard, if the shard answers in time.
const PART: Duration = Duration::from_micros(100);

/// The most that it takes.
const PART_MAX: Duration = Duration::from_millis(5);

/// Rows between two looks at the clock.
const ROWS: usize = 32;

/// How many times as long as a part has taken a shard is left alone.
const REST: u32 = 9;

/// The error reply while the server shuts down.
pub(crate) const STOPS: &str = "ERR the server stops";

/// Holds the tally that merges what all shards have of a view, while nothing uses it.
pub(crate) struct TallySlot {
    tally: Receiver<Box<Tally>>,
    return_tx: SyncSender<Box<Tally>>,
}

impl TallySlot {
    pub fn new(view: &View, shards: u16) -> Self {
        let (return_tx, tally) = sync_channel(1);
        // There is room for the one.
        let _ = return_tx.try_send(Box::new(Tally::new(&view.over_shards(shards))));
        TallySlot { tally, return_tx }
    }

    /// The tally, empty; `None` while it is away.
    pub fn take(&self) -> Option<PooledTally> {
        let mut tally = self.tally.try_recv().ok()?;
        tally.clear();
        Some(PooledTally { tally: Some(tally), return_tx: self.return_tx.clone() })
    }
}

/// A tally that goes home wherever it is dropped.
pub(crate) struct PooledTally {
    /// Always there, until it is dropped.
    tally: Option<Box<Tally>>,
    return_tx: SyncSender<Box<Tally>>,
}

impl Deref for PooledTally {
    type Target = Tally;

    fn deref(&self) -> &Tally {
        self.tally.as_ref().expect(Self::THERE)
    }
}

impl DerefMut for PooledTally {
    fn deref_mut(&mut self) -> &mut Tally {
        self.tally.as_mut().expect(Self::THERE)
    }
}

impl PooledTally {
    const THERE: &str = "it is there until it is dropped";
}

impl Drop for PooledTally {
    fn drop(&mut self) {
        if let Some(tally) = self.tally.take() {
            // There is room for the one. Nothing is at home where the server is gone.
            let _ = self.return_tx.try_send(tally);
        }
    }
}

/// What goes from shard to shard.
struct GatherTask {
    tally: PooledTally,
    scope: GatherScope,
    progress: Progress,
    /// Whether the shard has been merged in whole.
    is_done: bool,
    /// How long the last part took on the shard. Not more than twice its limit: what goes beyond was taken by the system.
    took: Duration,
}

impl GatherTask {
    /// Takes in a part of what a shard has, on its thread.
    fn merge(mut self, own: &Tally, asked: Instant) -> Self {
        let begun = Instant::now();
        let limit = (begun.saturating_duration_since(asked) / 10).clamp(PART, PART_MAX);
        while !self.is_done && self.took < limit {
            self.is_done = match &self.scope {
                GatherScope::All => self.tally.add_part(own, &mut self.progress, ROWS),
                GatherScope::Keys(keys) => self.tally.add_keys_part(own, keys, &mut self.progress, ROWS),
            };
            self.took = begun.elapsed();
        }
        self.took = self.took.min(2 * limit);
        self
    }
}

/// The tallies of all views, and when each shard may be asked again.
pub(crate) struct Gatherer {
    engine: Weak<Engine<Record>>,
    tallies: Box<[TallySlot]>,
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
        let tallies = views.iter().map(|view| TallySlot::new(view, shards)).collect();
        let rests = vec![Instant::now(); usize::from(shards)].into();
        Gatherer { engine, tallies, rests, stuck: None }
    }

    /// Begins a gathering of a view.
    pub fn begin(&mut self, view: usize, scope: GatherScope) -> Result<Gathering, String> {
        if let Some((shard, view)) = self.stuck
            && self.tallies[view].take().is_none()
        {
            return Err(format!("ERR {}", AskError::NoAnswer(shard)));
        }
        self.stuck = None;
        let tally = self.tallies[view].take().ok_or("ERR the view is being read")?;
        let (progress, is_done, took) = (Progress::default(), false, Duration::ZERO);
        let task = GatherTask { tally, scope, progress, is_done, took };
        Ok(Gathering { view, shard: ShardId(0), task })
    }

    /// When the shard that comes next may be asked; `None` where all have been.
    pub fn ready_at(&self, gathering: &Gathering) -> Option<Instant> {
        self.rests.get(gathering.shard.index()).copied()
    }

    /// Takes in the next part.
    pub fn gather_part<H: Handler<Record>>(&mut self, gathering: Gathering) -> Result<Gathering, String> {
        let Gathering { view, shard, task } = gathering;
        let engine = self.engine.upgrade().ok_or(STOPS)?;
        let asked = Instant::now();
        let merge = move |handler: &mut GatewayHandler<H>| task.merge(handler.tally(view), asked);
        let mut task = engine.ask(shard, merge).map_err(|error| {
            self.stuck = Some((shard, view));
            format!("ERR {error}")
        })?;
        let took = std::mem::take(&mut task.took);
        self.rests[shard.index()] = Instant::now() + took * REST;
        let mut shard = shard;
        if std::mem::take(&mut task.is_done) {
            shard.0 += 1;
            task.progress = Progress::default();
        }
        Ok(Gathering { view, shard, task })
    }
}

/// A gathering that is on its way.
pub(crate) struct Gathering {
    view: usize,
    /// The shard that comes next.
    shard: ShardId,
    task: GatherTask,
}

impl Gathering {
    /// What has been brought together.
    pub fn into_tally(self) -> PooledTally {
        self.task.tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pooled_tally_returns_wherever_it_is_dropped() {
        let slot = TallySlot::new(&View::count("all"), 3);
        let mut away = slot.take().expect("it is made at home");
        assert!(slot.take().is_none());
        away.observe(&[(&b"a"[..], &b"1"[..])], 1);
        std::thread::spawn(move || drop(away)).join().unwrap();
        let back = slot.take().expect("it came back");
        assert_eq!(back.totals().seen, 0, "it is empty when it goes out");
    }

    #[test]
    fn gather_part_ends_in_time_and_all_parts_are_complete() {
        let view = View::count("all").by("key").keys(20_000, pelton_views::PastKeys::Drop);
        let mut own = Tally::new(&view);
        for n in 0..20_000u32 {
            own.observe(&[(&b"key"[..], &n.to_le_bytes()[..])], 1);
        }
        let slot = TallySlot::new(&view, 1);
        let tally = slot.take().unwrap();
        let (scope, progress) = (GatherScope::All, Progress::default());
        let mut task = GatherTask { tally, scope, progress, is_done: false, took: Duration::ZERO };
        let mut parts = 0;
        while !task.is_done {
            task.took = Duration::ZERO;
            task = task.merge(&own, Instant::now());
            parts += 1;
        }
        assert!(parts > 1, "one part took {:?}", task.took);
        let reading = task.tally.read(pelton_views::Which::Open, None, None, 1).unwrap();
        assert_eq!(reading.lines.len(), 20_000);
    }
}
