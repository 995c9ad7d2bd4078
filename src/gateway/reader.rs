//! The thread that reads views: it answers `PELTON.VIEW`, and sends windows that are closed to their subscribers.
//!
//! # Mechanism
//! The thread takes the questions that wait for one view ([`Questions`]), gathers what all shards have of it ([`Gatherer`]),
//! answers them all of that, and goes on to the next view. While a shard rests from a gathering, critical connections that
//! ask for another view are answered. Questions that are the same get the same bytes.
//!
//! Windows: for each view that has a listener, the thread looks whether another window is closed. It waits a little after
//! the end of a window of arrival time ([`settled_ms`]), for what was accepted before and is not handled yet. It begins
//! after the window that was the last when the first listener was confirmed; the listener's thread brings that along
//! ([`Closed`]).
//!
//! # Limits
//! - A window of arrival time is sent some 20 ms after its end. An event that waits in a lane for longer is measured in the
//!   window in which it was accepted, after it was sent: the message lacks it, a later `PELTON.VIEW … WINDOW` has it.
//! - Windows that are closed and cannot be sent (more than [`LATE_MAX`] at once, or kept no longer) are sent as a number:
//!   `{"view":"name","lost":3}`, in their place among the others. `PELTON.VIEW` shows how many there were since start.
//! - The rows of a window that is open are gathered in parts, between which the shard handles events: where there are many,
//!   they are of moments that lie apart by as long as the gathering took.
//! - A question waits for the gathering that goes on. One of a critical connection does so where it is of the same view,
//!   and otherwise for a part of it.
//!
//! # Invariants
//! - No gateway thread ever waits for a shard.
//! - Each window that closes while it has a listener is sent once, or counted as lost.
//! - All gatherings together hold a shard up for a tenth of its time, a part of one for a tenth of a millisecond or a tenth
//!   of what the shard took to come to it. A question for one key merges one row.
#![forbid(unsafe_code)]

use super::closed::{Closed, settled_ms};
use super::gather::{Gatherer, STOPS, Traveller};
use super::mail::Mail;
use super::questions::{Event, Question, Questions, Wanted};
use super::record::Record;
use super::shared::{Shared, Stage};
use super::tell;
use super::wall::now_ms;
use crate::engine::Engine;
use crate::resp::{Reply, Version};
use crate::shard::Handler;
use crate::views::{ReadError, Tally, View, Which};
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

/// How often views of event time are looked at, while they have a listener: their clock is the events'.
const LOOK: Duration = Duration::from_millis(50);

/// How often the thread looks whether a view has a listener, and whether the server is still there.
const REST: Duration = Duration::from_millis(200);

/// The most windows of one view that are sent late; older ones are lost.
const LATE_MAX: u64 = 16;

/// Answers that are kept while one view's questions are answered, in case that another is the same.
const SAME_MAX: usize = 8;

/// One view, as the thread knows it.
struct Known {
    view: View,
    /// The end of the window that was sent last, or of the last before it had a listener (0 where none was closed); `None`
    /// while it has none.
    told_ms: Option<u64>,
    /// Windows that could not be sent, since start.
    lost: u64,
}

/// What a gathering is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum For {
    /// Questions; critical ones of other views are answered meanwhile.
    Questions,
    /// The same, meanwhile.
    Meanwhile,
    Windows,
}

/// How many of the windows that ended after `told_ms`, up to `closed_ms`, are too many to be told, and the end of the
/// first that is not.
fn cut(told_ms: u64, closed_ms: u64, pane_ms: u64) -> (u64, u64) {
    let windows = closed_ms.saturating_sub(told_ms) / pane_ms;
    let lost = windows.saturating_sub(LATE_MAX);
    (lost, told_ms.saturating_add((lost + 1).saturating_mul(pane_ms)))
}

/// What makes two questions to one view the same.
type Asked = (Which, Option<Box<[u8]>>, Option<usize>, Version);

/// The thread that reads views. `H` is the service's own handler.
pub(super) struct Reader<H> {
    shared: Arc<Shared>,
    mail: Vec<Sender<Mail>>,
    closed: Arc<Closed>,
    questions: Arc<Questions>,
    gatherer: Gatherer,
    known: Vec<Known>,
    of: PhantomData<fn() -> H>,
}

/// However it ends, nothing waits for it any more.
impl<H> Drop for Reader<H> {
    fn drop(&mut self) {
        self.questions.end();
    }
}

impl<H: Handler<Record>> Reader<H> {
    /// Lays out a tally of each view, with room for what all shards keep.
    ///
    /// # Panics
    /// If the memory is not available.
    pub fn new(
        shared: Arc<Shared>,
        engine: &Arc<Engine<Record>>,
        mail: Vec<Sender<Mail>>,
        closed: Arc<Closed>,
        questions: Arc<Questions>,
    ) -> Self {
        let views = &shared.options.views;
        let gatherer = Gatherer::new(Arc::downgrade(engine), views, shared.options.plan.shards);
        let known = views.iter().map(|view| Known { view: view.clone(), told_ms: None, lost: 0 }).collect();
        Reader { shared, mail, closed, questions, gatherer, known, of: PhantomData }
    }

    /// Answers until no gateway thread is left.
    pub fn run(mut self) {
        let mut next = Instant::now() + REST;
        loop {
            // Looked at each time: questions may come without a pause.
            if Instant::now() >= next {
                next = Instant::now() + self.tell_windows();
            }
            match self.questions.next(next) {
                Event::Asked(view) => self.answer(view, For::Questions),
                Event::Listens(views) => {
                    for (view, closed_ms) in views {
                        let told_ms = &mut self.known[view].told_ms;
                        if told_ms.is_none() {
                            *told_ms = Some(closed_ms);
                            next = Instant::now();
                        }
                    }
                }
                Event::Time => {}
                Event::Over => return,
            }
        }
    }

    /// Answers all questions that wait for a view.
    fn answer(&mut self, view: usize, why: For) {
        let wanted = self.questions.begin(view);
        let gathered = self.gather(view, wanted, why);
        let mut same: Vec<(Asked, Arc<[u8]>)> = Vec::new();
        for question in self.questions.finish(view) {
            let Question { thread, key, version, which, row, top, .. } = question;
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
            self.send(thread, Mail::Answer { key, bytes });
        }
    }

    fn answer_to(
        &self,
        view: usize,
        gathered: Result<&Tally, &String>,
        (which, row, top, version): &Asked,
    ) -> Arc<[u8]> {
        let (mut bytes, known) = (Vec::new(), &self.known[view]);
        let mut reply = Reply::new(&mut bytes, *version);
        match gathered.map(|tally| tally.read(*which, row.as_deref(), *top, now_ms())) {
            Ok(Ok(reading)) => tell::reply(&known.view, &reading, known.lost, &mut reply),
            Ok(Err(error @ ReadError::NoMemory(_))) => reply.error(format_args!("ERR {error}")),
            Ok(Err(error)) => reply.error(format_args!("NOWINDOW {error}")),
            Err(text) => reply.error(text),
        }
        bytes.into()
    }

    fn send(&self, thread: usize, mail: Mail) {
        if self.mail[thread].send(mail).is_ok() {
            self.shared.bells[thread].wake_up();
        }
    }

    /// Gathers what all shards have of a view.
    fn gather(&mut self, view: usize, wanted: Wanted, why: For) -> Result<Traveller, String> {
        let mut gathering = self.gatherer.begin(view, wanted)?;
        // Between two parts critical connections are answered once at most, so that they do not keep others waiting forever.
        let mut may_interrupt = why != For::Meanwhile;
        while let Some(until) = self.gatherer.rests_until(&gathering) {
            if self.shared.stage() != Stage::Running {
                return Err(STOPS.into());
            }
            if !may_interrupt {
                std::thread::sleep(until.saturating_duration_since(Instant::now()));
            } else if let Some(critical) = self.questions.next_critical(view, until) {
                self.answer(critical, For::Meanwhile);
                may_interrupt = false;
                continue;
            }
            may_interrupt = why != For::Meanwhile;
            if why != For::Windows && !self.questions.is_wanted(view) {
                return Err("ERR the question was withdrawn".into());
            }
            gathering = self.gatherer.go_on::<H>(gathering)?;
        }
        Ok(gathering.into_tally())
    }

    /// Sends windows that are closed to their subscribers; returns when to look again.
    fn tell_windows(&mut self) -> Duration {
        let mut rest = REST;
        for view in 0..self.known.len() {
            let channel = self.shared.channel_of_view(view);
            let wanted = self.shared.wanted[channel.index()].load(Ordering::Relaxed);
            let Some(pane_ms) = self.known[view].view.pane_ms() else { continue };
            if wanted == 0 {
                self.known[view].told_ms = None;
                continue;
            }
            // Word of the listener is on its way.
            let Some(told_ms) = self.known[view].told_ms else { continue };
            let is_arrival = self.known[view].view.time.is_none();
            // Nothing can be closed before the next pane has ended.
            let now_ms = settled_ms();
            let until = Duration::from_millis(pane_ms - now_ms % pane_ms);
            rest = rest.min(if is_arrival { until } else { LOOK });
            // Looked up before shards are asked: then each has at least what it had when the window was closed.
            let Some(closed_ms) = self.closed.end_ms(view, &self.known[view].view, now_ms) else { continue };
            if told_ms >= closed_ms {
                continue;
            }
            let Ok(tally) = self.gather(view, Wanted::All, For::Windows) else { continue };
            // Listeners that came while shards were asked have been promised what is in it.
            let wanted = self.shared.wanted[channel.index()].load(Ordering::Relaxed);
            let told_ms = match (told_ms, tally.first_ms()) {
                // Before the first event there was no window that could be missed.
                (0, Some(first_ms)) => closed_ms.min(first_ms / pane_ms * pane_ms),
                _ => told_ms,
            };
            self.known[view].told_ms = Some(closed_ms);
            let (mut lost, first_ms) = cut(told_ms, closed_ms, pane_ms);
            for end_ms in (first_ms..=closed_ms).step_by(pane_ms as usize) {
                match tally.read(Which::Ended(end_ms), None, None, now_ms) {
                    Ok(reading) => {
                        self.tell_lost(view, wanted, &mut lost);
                        self.tell(view, wanted, tell::message(&self.known[view].view, &reading));
                    }
                    // It is kept no longer, or there is no memory to read it.
                    Err(_) => lost += 1,
                }
            }
            self.tell_lost(view, wanted, &mut lost);
        }
        rest
    }

    /// Sends the number of windows that cannot be told, if there are any.
    fn tell_lost(&mut self, view: usize, wanted: u64, lost: &mut u64) {
        let known = &mut self.known[view];
        known.lost += *lost;
        match std::mem::take(lost) {
            0 => {}
            lost => self.tell(view, wanted, tell::lost(&self.known[view].view, lost)),
        }
    }

    fn tell(&self, view: usize, wanted: u64, text: Vec<u8>) {
        let text: Arc<[u8]> = text.into();
        let channel = self.shared.channel_of_view(view);
        for thread in (0..self.mail.len()).filter(|thread| wanted & (1 << thread) != 0) {
            self.send(thread, Mail::Message { channel, text: text.clone() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_beyond_the_most_are_counted_and_the_rest_follow_without_a_gap() {
        for (told, closed, expected) in [
            (1_000, 1_000, (0, 1_100)),
            (1_000, 900, (0, 1_100)),
            (1_000, 1_100, (0, 1_100)),
            (1_000, 1_000 + 100 * LATE_MAX, (0, 1_100)),
            (1_000, 1_000 + 100 * (LATE_MAX + 1), (1, 1_200)),
            (1_000, 1_000 + 100 * (LATE_MAX + 50), (50, 6_100)),
        ] {
            let (lost, first) = cut(told, closed, 100);
            assert_eq!((lost, first), expected, "{told} to {closed}");
            let is_whole =
                lost + (closed + 100).saturating_sub(first) / 100 == closed.saturating_sub(told) / 100;
            assert!(is_whole, "{told} to {closed}");
        }
    }
}
