//! Window watermarks: which windows are closed, for threads that must not wait for a shard.
//!
//! # Mechanism
//! Windows of arrival time end by the clock. For those of event time each shard records, after each batch, the end of the last
//! window that its events have closed. A worker reads it before it confirms a subscription to a view, and the subscriber
//! receives all windows that close from then on. The value may lag by a batch: then one window more is sent, and none less.
//! The thread that sends windows reads it too, so it asks shards only if there is something to send.

use crate::server::clock::ServerClock;
use pelton::event::ShardId;
use pelton::ledger::Counter;
use pelton_views::{Tally, View};
use std::time::Duration;

/// How long after the end of a window of arrival time it is sent.
const GRACE: Duration = Duration::from_millis(20);

/// The time up to which windows of arrival time are sent, in ms since the Unix epoch.
pub(crate) fn settled_ms(clock: &ServerClock) -> u64 {
    clock.now_ms().saturating_sub(GRACE.as_millis() as u64)
}

/// The last windows that are closed; see the file's head.
pub(crate) struct Watermarks {
    /// By shard and view the end, in ms since the Unix epoch; 0 where none is closed. Each shard writes its own.
    by_shard: Box<[Box<[Counter]>]>,
    /// The views that are of event time.
    of_event_time: Box<[usize]>,
}

impl Watermarks {
    pub fn new(views: &[View], shards: u16) -> Self {
        let of_shard = |_| views.iter().map(|_| Counter::default()).collect();
        let is_of_event_time = |at: &usize| views[*at].time.is_some() && views[*at].pane_ms().is_some();
        Watermarks {
            by_shard: (0..shards).map(of_shard).collect(),
            of_event_time: (0..views.len()).filter(is_of_event_time).collect(),
        }
    }

    /// Records what a shard has closed; only that shard may call it.
    #[inline]
    pub fn note(&self, shard: ShardId, tallies: &[Tally]) {
        for view in &self.of_event_time {
            // Their clock is their events': it takes no other.
            let (end_ms, own) =
                (tallies[*view].closed_ms(0).unwrap_or(0), &self.by_shard[shard.index()][*view]);
            // Written seldom: it may share a cache line with what another shard writes.
            if own.get() != end_ms {
                own.set(end_ms);
            }
        }
    }

    /// The end of the last window of a view (the one at this place) that is closed, in ms since the Unix epoch; 0 where
    /// none is yet, `None` where there are no windows. Windows of arrival time end by `now_ms`, which is [`settled_ms`].
    pub fn end_ms(&self, at: usize, view: &View, now_ms: u64) -> Option<u64> {
        let pane_ms = view.pane_ms()?;
        Some(match view.time {
            None => now_ms / pane_ms * pane_ms,
            Some(_) => self.by_shard.iter().map(|shard| shard[at].get()).max().unwrap_or(0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::clock::VIRTUAL_EPOCH;
    use pelton::clock::Clock;

    #[test]
    fn farthest_shard_sets_the_watermark() {
        let views = [
            View::count("arrival").tumbling(Duration::from_secs(1)),
            View::count("event").tumbling(Duration::from_secs(1)).event_time("t", Duration::from_millis(500)),
        ];
        let (clock, time) = Clock::virtual_time();
        let clock = ServerClock::new(Some(&clock));
        time.advance(Duration::from_millis(2_019));
        let closed = Watermarks::new(&views, 2);
        let mut shards = [0, 1].map(|_| views.each_ref().map(Tally::new));
        assert_eq!(closed.end_ms(1, &views[1], settled_ms(&clock)), Some(0));
        for (shard, time, end_ms) in
            [(0, "1499", 0), (1, "1500", 1_000), (0, "7000", 6_000), (1, "6000", 6_000)]
        {
            shards[shard].iter_mut().for_each(|tally| tally.observe(&[(&b"t"[..], time.as_bytes())], 9_000));
            closed.note(ShardId(shard as u16), &shards[shard]);
            assert_eq!(closed.end_ms(1, &views[1], settled_ms(&clock)), Some(end_ms), "{time}");
        }
        let epoch_ms = VIRTUAL_EPOCH.as_millis() as u64;
        assert_eq!(closed.end_ms(0, &views[0], settled_ms(&clock)), Some(epoch_ms + 1_000));
        time.advance(Duration::from_millis(1));
        assert_eq!(
            closed.end_ms(0, &views[0], settled_ms(&clock)),
            Some(epoch_ms + 2_000),
            "its clock is ours"
        );
        assert_eq!(closed.end_ms(0, &View::count("all"), settled_ms(&clock)), None);
    }
}
