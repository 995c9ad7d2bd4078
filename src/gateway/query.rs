//! Reading views: `PELTON.VIEW`, and the messages of windows that are closed.
//!
//! # Mechanism
//! A thread of its own reads views. It has a tally of each with room for what all shards keep, sends it from shard to shard
//! ([`Engine::ask`]), where it takes in what that shard has, and tells what has come together. A gateway thread that is
//! asked for a view puts the connection aside, sends the question, and serves others; the answer comes by mail.
//!
//! Windows: for each view that somebody listens to, the thread looks whether another window is closed. It waits a little
//! behind the end of a window of arrival time ([`settled_ms`]), for what was accepted before and is not handled yet. It
//! begins behind the window that was the last when the first listener was told that it is one; the listener's thread
//! brings that along ([`Closed`]).
//!
//! A tally that is on its way when a shard does not answer comes back by itself, once that shard looks at its mail or is gone.
//! Until then every question is answered at once with that shard's name: each would have to go through it, so nobody waits
//! for it a second time, and nothing is laid out anew.
//!
//! # Limits
//! - A window of arrival time is told some 20 ms behind its end. An event that waits in a lane for longer is measured in the
//!   window in which it was accepted, behind the telling: the message lacks it, a later `PELTON.VIEW … WINDOW` has it.
//! - Windows that are closed and cannot be told (more than [`LATE_MAX`] at once, or kept no longer) are told as a number:
//!   `{"view":"name","lost":3}`, in their place among the others. `PELTON.VIEW` says how many there were since start.
//!
//! # Invariants
//! - No gateway thread ever waits for a shard.
//! - Each window that closes while somebody listens is told once, or counted as lost.
//! - There is one tally of each view besides those of the shards, from start to end.
//! - A shard is held up for as long as the merging of its own tally takes, which grows with the view's rows; a question for
//!   one key merges one row.
#![forbid(unsafe_code)]

use super::closed::{Closed, settled_ms};
use super::desk::{Call, Desk, Next, Note, Question};
use super::handler::Front;
use super::mail::Mail;
use super::record::Record;
use super::shared::{Shared, Stage};
use super::tell;
use super::wall::now_ms;
use crate::engine::{AskError, Engine};
use crate::event::ShardId;
use crate::resp::Reply;
use crate::shard::Handler;
use crate::views::{Tally, View, Which};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// How often views of event time are looked at, while somebody listens: their clock is the events'.
const LOOK: Duration = Duration::from_millis(50);

/// How often the thread looks whether somebody listens, and whether the server is still there.
const REST: Duration = Duration::from_millis(200);

/// The most windows that are told late of one view; older ones are told no more.
const LATE_MAX: u64 = 16;

/// `PELTON.VIEW name [KEY k] [TOP n] [WINDOW CURRENT|LAST|end-ms]`
pub(super) fn view(desk: &mut Desk, call: &mut Call<'_>) -> Next {
    let views = &desk.shared.options.views;
    let Some(view) = views.iter().position(|view| view.name.as_bytes() == call.arg(1)) else {
        let name = call.text(1);
        call.reply.error(format_args!("NOVIEW no view '{name}' is declared"));
        return Next::Goes;
    };
    let mut question = Question {
        thread: desk.thread,
        key: call.key,
        version: call.session.version,
        view,
        which: Which::Open,
        row: None,
        top: None,
    };
    let mut at = 2;
    while at < call.len() {
        let number =
            |at: usize| std::str::from_utf8(call.arg(at)).ok().and_then(|text| text.parse::<u64>().ok());
        let is_followed = at + 1 < call.len();
        if call.is(at, "KEY") && is_followed {
            question.row = Some(call.arg(at + 1).to_vec());
        } else if call.is(at, "TOP") && is_followed {
            let Some(top) = number(at + 1) else {
                call.reply.error("ERR value is not an integer or out of range");
                return Next::Goes;
            };
            question.top = Some(usize::try_from(top).unwrap_or(usize::MAX));
        } else if call.is(at, "WINDOW") && is_followed {
            question.which = match number(at + 1) {
                Some(end_ms) => Which::Ended(end_ms),
                None if call.is(at + 1, "CURRENT") => Which::Open,
                None if call.is(at + 1, "LAST") => Which::Closed,
                None => {
                    call.reply.error("ERR WINDOW takes CURRENT, LAST, or the time in ms at which it ended");
                    return Next::Goes;
                }
            };
        } else {
            call.reply.error("ERR syntax error");
            return Next::Goes;
        }
        at += 2;
    }
    match desk.notes.send(Note::Question(question)) {
        Ok(()) => Next::Asks,
        Err(_) => {
            call.reply.error("ERR the server stops");
            Next::Goes
        }
    }
}

/// One view, as the thread knows it.
struct Known {
    view: View,
    /// Where the tally that takes in what all shards have is while nobody uses it.
    home: Receiver<Box<Tally>>,
    way_home: SyncSender<Box<Tally>>,
    /// The end of the window that was told last, or of the last before somebody listened (0 where none was closed); `None`
    /// while nobody does.
    told_ms: Option<u64>,
    /// Windows that nobody could be told, since start.
    lost: u64,
}

impl Known {
    fn new(view: &View, shards: u16) -> Self {
        let (way_home, home) = sync_channel(1);
        let tally = Some(Box::new(Tally::new(&view.over_shards(shards))));
        drop(Traveller { tally, way_home: way_home.clone() });
        Known { view: view.clone(), home, way_home, told_ms: None, lost: 0 }
    }

    /// The view's tally, empty; `None` while it is away.
    fn take(&self) -> Option<Traveller> {
        let mut tally = self.home.try_recv().ok()?;
        tally.clear();
        Some(Traveller { tally: Some(tally), way_home: self.way_home.clone() })
    }
}

/// A tally that goes home wherever it is dropped.
struct Traveller {
    /// Always there, until it is dropped.
    tally: Option<Box<Tally>>,
    way_home: SyncSender<Box<Tally>>,
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
            // There is room for the one. Nobody is at home where the server is gone.
            let _ = self.way_home.try_send(tally);
        }
    }
}

/// How many of the windows that ended behind `told_ms`, up to `closed_ms`, are too many to be told, and the end of the
/// first that is not.
fn cut(told_ms: u64, closed_ms: u64, pane_ms: u64) -> (u64, u64) {
    let windows = closed_ms.saturating_sub(told_ms) / pane_ms;
    let lost = windows.saturating_sub(LATE_MAX);
    (lost, told_ms.saturating_add((lost + 1).saturating_mul(pane_ms)))
}

/// The thread that reads views. `H` is the service's own handler.
pub(super) struct Reader<H> {
    shared: Arc<Shared>,
    engine: Weak<Engine<Record>>,
    mail: Vec<Sender<Mail>>,
    closed: Arc<Closed>,
    notes: Receiver<Note>,
    known: Vec<Known>,
    /// The shard that did not answer last, and the view whose tally it has.
    stuck: Option<(ShardId, usize)>,
    of: PhantomData<fn() -> H>,
}

impl<H: Handler<Record>> Reader<H> {
    /// Lays out a tally of each view, with room for what all shards keep.
    ///
    /// # Panics
    /// If the memory is not to be had.
    pub fn new(
        shared: Arc<Shared>,
        engine: &Arc<Engine<Record>>,
        mail: Vec<Sender<Mail>>,
        closed: Arc<Closed>,
        notes: Receiver<Note>,
    ) -> Self {
        let shards = shared.options.plan.shards;
        let known = shared.options.views.iter().map(|view| Known::new(view, shards)).collect();
        let engine = Arc::downgrade(engine);
        Reader { shared, engine, mail, closed, notes, known, stuck: None, of: PhantomData }
    }

    /// Answers until no gateway thread is left.
    pub fn run(mut self) {
        let mut next = Instant::now() + REST;
        loop {
            // Looked at each time: questions may come without a pause.
            if Instant::now() >= next {
                next = Instant::now() + self.tell_windows();
            }
            match self.notes.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(Note::Question(question)) => self.answer(&question),
                Ok(Note::Listens { view, closed_ms }) => {
                    let told_ms = &mut self.known[view].told_ms;
                    if told_ms.is_none() {
                        *told_ms = Some(closed_ms);
                        next = Instant::now();
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn answer(&mut self, question: &Question) {
        let mut bytes = Vec::new();
        let mut reply = Reply::new(&mut bytes, question.version);
        match self.gather(question.view, question.row.as_deref()) {
            Err(text) => reply.error(text),
            Ok(tally) => match tally.read(question.which, question.row.as_deref(), question.top, now_ms()) {
                Ok(reading) => {
                    let known = &self.known[question.view];
                    tell::reply(&known.view, &reading, known.lost, &mut reply);
                }
                Err(error) => reply.error(format_args!("NOWINDOW {error}")),
            },
        }
        self.send(question.thread, Mail::Answer { key: question.key, bytes });
    }

    fn send(&self, thread: usize, mail: Mail) {
        if self.mail[thread].send(mail).is_ok() {
            self.shared.bells[thread].wake_up();
        }
    }

    /// Sends a view's tally from shard to shard.
    fn gather(&mut self, view: usize, row: Option<&[u8]>) -> Result<Traveller, String> {
        const AT_HOME: &str = "a tally is at home, unless the shard that is stuck has it";
        let engine = self.engine.upgrade().ok_or("ERR the server stops")?;
        if let Some((shard, view)) = self.stuck
            && self.known[view].take().is_none()
        {
            return Err(format!("ERR {}", AskError::NoAnswer(shard)));
        }
        self.stuck = None;
        let mut tally = self.known[view].take().expect(AT_HOME);
        for shard in (0..self.shared.options.plan.shards).map(ShardId) {
            if self.shared.stage() != Stage::Running {
                return Err("ERR the server stops".into());
            }
            let row = row.map(<[u8]>::to_vec);
            let add = move |front: &mut Front<H>| {
                match &row {
                    Some(key) => tally.add_key(front.tally(view), key),
                    None => tally.add(front.tally(view)),
                }
                (tally, row)
            };
            tally = match engine.ask(shard, add) {
                Ok((tally, _)) => tally,
                Err(error) => {
                    self.stuck = Some((shard, view));
                    return Err(format!("ERR {error}"));
                }
            };
        }
        Ok(tally)
    }

    /// Tells windows that are closed to those who listen; says when to look again.
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
            // Who listens is on its way to say so.
            let Some(told_ms) = self.known[view].told_ms else { continue };
            let is_arrival = self.known[view].view.time.is_none();
            // Nothing can be closed before the next pane has ended.
            let now_ms = settled_ms();
            let until = Duration::from_millis(pane_ms - now_ms % pane_ms);
            rest = rest.min(if is_arrival { until } else { LOOK });
            // Looked up before shards are asked: then each says all that it had when the window was closed.
            let Some(closed_ms) = self.closed.end_ms(view, &self.known[view].view, now_ms) else { continue };
            if told_ms >= closed_ms {
                continue;
            }
            let Ok(tally) = self.gather(view, None) else { continue };
            // Who came while shards were asked has been promised what they say.
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
                    // It is kept no longer.
                    Err(_) => lost += 1,
                }
            }
            self.tell_lost(view, wanted, &mut lost);
        }
        rest
    }

    /// Tells that windows cannot be told, if there are any.
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

    #[test]
    fn a_tally_comes_home_wherever_it_is_dropped() {
        let known = Known::new(&View::count("all"), 3);
        let mut away = known.take().expect("it is made at home");
        assert!(known.take().is_none());
        away.observe(&[(&b"a"[..], &b"1"[..])], 1);
        std::thread::spawn(move || drop(away)).join().unwrap();
        let back = known.take().expect("it came back");
        assert_eq!(back.totals().seen, 0, "it is empty when it goes out");
    }
}
