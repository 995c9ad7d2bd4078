//! The thread that reads views: it answers `PELTON.VIEW`, and sends windows that are closed to their subscribers.
//!
//! # Mechanism
//! The thread takes the requests that wait for one view ([`ViewRequests`]), gathers what all shards have of it ([`Gatherer`]),
//! answers them all, and goes on to the next view. While a shard rests from a gathering, requests of critical connections for
//! another view are answered. Requests that are the same get the same bytes.
//!
//! Windows: for each view that has a subscriber, the thread checks whether another window is closed. It waits a little after
//! the end of a window of arrival time ([`settled_ms`]), for what was accepted before and is not handled yet. It begins after
//! the window that was the last when the first subscription was confirmed; the subscriber's worker sends that along
//! ([`Watermarks`]).
//!
//! # Limits
//! - A window of arrival time is sent some 20 ms after its end. An event that waits in a lane for longer is measured in the
//!   window in which it was accepted, after it was sent: the message lacks it, a later `PELTON.VIEW … WINDOW` has it.
//! - Windows that are closed and cannot be sent (more than [`LATE_MAX`] at once, or kept no longer) are sent as a number:
//!   `{"view":"name","lost":3}`, in their place among the others. `PELTON.VIEW` shows how many there were since start.
//! - The rows of a window that is open are gathered in parts, between which the shard handles events: where there are many,
//!   they are of moments that lie apart by as long as the gathering took.
//! - A request waits for the gathering that goes on. One of a critical connection does so where it is of the same view,
//!   and otherwise for a part of it.
//!
//! # Invariants
//! - No gateway thread ever waits for a shard.
//! - Each window that closes while it has a subscriber is sent once, or counted as lost.
//! - All gatherings together hold a shard up for a tenth of its time, a part of one for a tenth of a millisecond or a tenth
//!   of what the shard took to come to it. A request for one key merges one row.

use crate::feed::encode;
use crate::feed::event::Record;
use crate::feed::gather::{Gatherer, PooledTally, STOPS};
use crate::feed::view_requests::{GatherScope, ReaderEvent, ViewRequest, ViewRequests};
use crate::feed::watermark::{Watermarks, settled_ms};
use crate::resp::{Reply, Version};
use crate::server::clock::ServerClock;
use crate::server::state::{Shared, Stage, WorkerMessage};
use pelton::clock::AdvanceGuard;
use pelton::engine::Engine;
use pelton::shard::Handler;
use pelton_views::{ReadError, Tally, View, Which};
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

/// How often views of event time are checked while they have a subscriber: their clock is the events'.
const LOOK: Duration = Duration::from_millis(50);

/// How often the thread checks whether a view has a subscriber, and whether the server still runs.
const REST: Duration = Duration::from_millis(200);

/// The most windows of one view that are sent late; older ones are lost.
const LATE_MAX: u64 = 16;

/// Replies that are kept while one view's requests are answered, for requests that are the same.
const SAME_MAX: usize = 8;

/// One view, as the thread knows it.
struct ViewState {
    view: View,
    /// The end of the window that was sent last, or of the last one before the view had a subscriber (0 if
    /// none was closed); `None` while it has none.
    last_sent_ms: Option<u64>,
    /// Windows that could not be sent, since start.
    lost: u64,
}

/// What a gathering is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// Requests; critical ones of other views are answered meanwhile.
    Requests,
    /// The same, meanwhile.
    Meanwhile,
    Windows,
}

/// How many of the windows that ended after `last_sent_ms`, up to `closed_ms`, are too many to be sent, and
/// the end of the first that is not.
fn split_backlog(last_sent_ms: u64, closed_ms: u64, pane_ms: u64) -> (u64, u64) {
    let windows = closed_ms.saturating_sub(last_sent_ms) / pane_ms;
    let lost = windows.saturating_sub(LATE_MAX);
    (lost, last_sent_ms.saturating_add((lost + 1).saturating_mul(pane_ms)))
}

/// What makes two requests to one view the same.
type RequestKey = (Which, Option<Box<[u8]>>, Option<usize>, Version);

/// The thread that reads views. `H` is the service's own handler.
pub(crate) struct ViewReader<H> {
    shared: Arc<Shared>,
    inboxes: Vec<Sender<WorkerMessage>>,
    watermarks: Arc<Watermarks>,
    view_requests: Arc<ViewRequests>,
    clock: Arc<ServerClock>,
    /// Wakes this thread when a virtual clock moves.
    _advance_guard: Option<AdvanceGuard>,
    gatherer: Gatherer,
    views: Vec<ViewState>,
    of: PhantomData<fn() -> H>,
}

/// However it ends, nothing waits for it any more.
impl<H> Drop for ViewReader<H> {
    fn drop(&mut self) {
        self.view_requests.end();
    }
}

impl<H: Handler<Record>> ViewReader<H> {
    /// Lays out a tally of each view, with room for what all shards keep.
    ///
    /// # Panics
    /// If the memory is not available.
    pub fn new(
        shared: Arc<Shared>,
        engine: &Arc<Engine<Record>>,
        inboxes: Vec<Sender<WorkerMessage>>,
        watermarks: Arc<Watermarks>,
        view_requests: Arc<ViewRequests>,
    ) -> Self {
        let views = &shared.options.views;
        let clock = shared.clock.clone();
        let gatherer = Gatherer::new(Arc::downgrade(engine), views, shared.options.plan.shards());
        let views =
            views.iter().map(|view| ViewState { view: view.clone(), last_sent_ms: None, lost: 0 }).collect();
        ViewReader {
            _advance_guard: clock.wake_on_advance(view_requests.clone().into()),
            shared,
            inboxes,
            watermarks,
            view_requests,
            clock,
            gatherer,
            views,
            of: PhantomData,
        }
    }

    /// Answers until no gateway thread is left.
    pub fn run(mut self) {
        let mut next = self.clock.now() + REST;
        loop {
            // Checked each time: requests may come without a pause.
            let now = self.clock.now();
            if now >= next {
                // From its beginning: what it missed because it came later is found in time by the next one.
                next = now + self.send_windows();
            }
            match self.view_requests.next(next) {
                ReaderEvent::Request(view) => self.answer(view, Purpose::Requests),
                ReaderEvent::Subscribed(views) => {
                    for (view, closed_ms) in views {
                        let last_sent_ms = &mut self.views[view].last_sent_ms;
                        if last_sent_ms.is_none() {
                            *last_sent_ms = Some(closed_ms);
                            next = self.clock.now();
                        }
                    }
                }
                ReaderEvent::Timeout => {}
                ReaderEvent::Shutdown => return,
            }
        }
    }

    /// Answers all requests that wait for a view.
    fn answer(&mut self, view: usize, why: Purpose) {
        let wanted = self.view_requests.begin(view);
        let gathered = self.gather(view, wanted, why);
        let mut same: Vec<(RequestKey, Arc<[u8]>)> = Vec::new();
        for request in self.view_requests.finish(view) {
            let ViewRequest { thread, key, version, which, row, top, .. } = request;
            let asked = (which, row, top, version);
            let bytes = match same.iter().find(|(own, _)| *own == asked) {
                Some((_, bytes)) => bytes.clone(),
                None => {
                    let bytes = self.answer_to(view, gathered.as_deref(), &asked);
                    if same.len() == SAME_MAX {
                        same.remove(0);
                    }
                    same.push((asked, bytes.clone()));
                    bytes
                }
            };
            self.send(thread, WorkerMessage::ViewReply { key, bytes });
        }
    }

    fn answer_to(
        &self,
        view: usize,
        gathered: Result<&Tally, &String>,
        (which, row, top, version): &RequestKey,
    ) -> Arc<[u8]> {
        let (mut bytes, views) = (Vec::new(), &self.views[view]);
        let mut reply = Reply::new(&mut bytes, *version);
        match gathered.map(|tally| tally.read(*which, row.as_deref(), *top, self.clock.now_ms())) {
            Ok(Ok(reading)) => encode::reply(&views.view, &reading, views.lost, &mut reply),
            Ok(Err(error @ ReadError::NoMemory(_))) => reply.error(format_args!("ERR {error}")),
            Ok(Err(error)) => reply.error(format_args!("NOWINDOW {error}")),
            Err(text) => reply.error(text),
        }
        bytes.into()
    }

    fn send(&self, thread: usize, message: WorkerMessage) {
        if self.inboxes[thread].send(message).is_ok() {
            self.shared.wakers[thread].wake_up();
        }
    }

    /// Gathers what all shards have of a view.
    fn gather(&mut self, view: usize, wanted: GatherScope, why: Purpose) -> Result<PooledTally, String> {
        let mut gathering = self.gatherer.begin(view, wanted)?;
        // Between two parts critical connections are answered once at most, so that they do not keep others waiting forever.
        let mut may_interrupt = why != Purpose::Meanwhile;
        while let Some(until) = self.gatherer.ready_at(&gathering) {
            if self.shared.stage() != Stage::Running {
                return Err(STOPS.into());
            }
            if !may_interrupt {
                std::thread::sleep(until.saturating_duration_since(Instant::now()));
            } else if let Some(critical) = self.view_requests.next_critical(view, until) {
                self.answer(critical, Purpose::Meanwhile);
                may_interrupt = false;
                continue;
            }
            may_interrupt = why != Purpose::Meanwhile;
            if why != Purpose::Windows && !self.view_requests.is_wanted(view) {
                return Err("ERR the question was withdrawn".into());
            }
            gathering = self.gatherer.gather_part::<H>(gathering)?;
        }
        Ok(gathering.into_tally())
    }

    /// Sends windows that are closed to their subscribers; returns when to look again.
    fn send_windows(&mut self) -> Duration {
        let mut rest = REST;
        for view in 0..self.views.len() {
            let channel = self.shared.channel_of_view(view);
            let wanted = self.shared.wanted[channel.index()].load(Ordering::Relaxed);
            let Some(pane_ms) = self.views[view].view.pane_ms() else { continue };
            if wanted == 0 {
                self.views[view].last_sent_ms = None;
                continue;
            }
            // The request of the subscriber's worker has not arrived yet.
            let Some(last_sent_ms) = self.views[view].last_sent_ms else { continue };
            let is_arrival = self.views[view].view.time.is_none();
            // Nothing can be closed before the next pane has ended.
            let now_ms = settled_ms(&self.clock);
            let until = Duration::from_millis(pane_ms - now_ms % pane_ms);
            rest = rest.min(if is_arrival { until } else { LOOK });
            // Looked up before shards are asked: then each has at least what it had when the window was closed.
            let Some(closed_ms) = self.watermarks.end_ms(view, &self.views[view].view, now_ms) else {
                continue;
            };
            if last_sent_ms >= closed_ms {
                continue;
            }
            let Ok(tally) = self.gather(view, GatherScope::All, Purpose::Windows) else { continue };
            // Subscribers that came while shards were asked receive what is in it too.
            let wanted = self.shared.wanted[channel.index()].load(Ordering::Relaxed);
            let last_sent_ms = match (last_sent_ms, tally.first_ms()) {
                // Before the first event there was no window that could be missed.
                (0, Some(first_ms)) => closed_ms.min(first_ms / pane_ms * pane_ms),
                _ => last_sent_ms,
            };
            self.views[view].last_sent_ms = Some(closed_ms);
            let (mut lost, first_ms) = split_backlog(last_sent_ms, closed_ms, pane_ms);
            for end_ms in (first_ms..=closed_ms).step_by(pane_ms as usize) {
                match tally.read(Which::Ended(end_ms), None, None, now_ms) {
                    Ok(reading) => {
                        self.send_lost(view, wanted, &mut lost);
                        self.publish(view, wanted, encode::message(&self.views[view].view, &reading));
                    }
                    // It is kept no longer, or there is no memory to read it.
                    Err(_) => lost += 1,
                }
            }
            self.send_lost(view, wanted, &mut lost);
        }
        rest
    }

    /// Sends the number of windows that cannot be sent, if there are any.
    fn send_lost(&mut self, view: usize, wanted: u64, lost: &mut u64) {
        let views = &mut self.views[view];
        views.lost += *lost;
        match std::mem::take(lost) {
            0 => {}
            lost => self.publish(view, wanted, encode::lost(&self.views[view].view, lost)),
        }
    }

    fn publish(&self, view: usize, wanted: u64, text: Vec<u8>) {
        let text: Arc<[u8]> = text.into();
        let channel = self.shared.channel_of_view(view);
        for thread in (0..self.inboxes.len()).filter(|thread| wanted & (1 << thread) != 0) {
            self.send(thread, WorkerMessage::Deliver { channel, text: text.clone() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_over_the_limit_are_counted_and_the_rest_have_no_gap() {
        for (told, closed, expected) in [
            (1_000, 1_000, (0, 1_100)),
            (1_000, 900, (0, 1_100)),
            (1_000, 1_100, (0, 1_100)),
            (1_000, 1_000 + 100 * LATE_MAX, (0, 1_100)),
            (1_000, 1_000 + 100 * (LATE_MAX + 1), (1, 1_200)),
            (1_000, 1_000 + 100 * (LATE_MAX + 50), (50, 6_100)),
        ] {
            let (lost, first) = split_backlog(told, closed, 100);
            assert_eq!((lost, first), expected, "{told} to {closed}");
            let is_whole =
                lost + (closed + 100).saturating_sub(first) / 100 == closed.saturating_sub(told) / 100;
            assert!(is_whole, "{told} to {closed}");
        }
    }
}
