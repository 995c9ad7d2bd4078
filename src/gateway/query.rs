//! Reading views: `PELTON.VIEW`, and the messages of windows that are closed.
//!
//! # Mechanism
//! A thread of its own reads views. It has a tally of each with room for what all shards keep, sends it from shard to shard
//! ([`Engine::ask`]), where it takes in what that shard has, and tells what has come together. A gateway thread that is
//! asked for a view puts the connection aside, sends the question, and serves others; the answer comes by mail.
//!
//! Windows: for each view that somebody listens to, the thread looks whether another window is closed. It waits a little
//! behind the end of a window of arrival time ([`GRACE`]), for what was accepted before and is not handled yet.
//!
//! # Invariants
//! - No gateway thread ever waits for a shard.
//! - A shard is held up for as long as the merging of its own tally takes, which grows with the view's rows; a question for
//!   one key merges one row.
#![forbid(unsafe_code)]

use super::desk::{Call, Desk, Next, Question};
use super::handler::Front;
use super::mail::Mail;
use super::record::Record;
use super::shared::{Shared, Stage};
use super::tell;
use crate::engine::Engine;
use crate::event::ShardId;
use crate::resp::Reply;
use crate::shard::Handler;
use crate::views::{Reading, Tally, View, Which};
use std::marker::PhantomData;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long after the end of a window of arrival time it is told.
const GRACE: Duration = Duration::from_millis(20);

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
        call.reply.error(format_args!("NOVIEW no view '{}' is declared", name.escape_debug()));
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
    match desk.questions.send(question) {
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
    /// Takes in what all shards have. Away while a shard has it.
    tally: Option<Box<Tally>>,
    /// The end of the window that was told last; `None` while nobody listens.
    told_ms: Option<u64>,
}

/// The thread that reads views. `H` is the service's own handler.
pub(super) struct Reader<H> {
    shared: Arc<Shared>,
    engine: Weak<Engine<Record>>,
    mail: Vec<Sender<Mail>>,
    questions: Receiver<Question>,
    known: Vec<Known>,
    of: PhantomData<fn() -> H>,
}

impl<H: Handler<Record>> Reader<H> {
    pub fn new(
        shared: Arc<Shared>,
        engine: &Arc<Engine<Record>>,
        mail: Vec<Sender<Mail>>,
        questions: Receiver<Question>,
    ) -> Self {
        let known = |view: &View| Known { view: view.clone(), tally: None, told_ms: None };
        let known = shared.options.views.iter().map(known).collect();
        Reader { shared, engine: Arc::downgrade(engine), mail, questions, known, of: PhantomData }
    }

    /// Answers until no gateway thread is left.
    pub fn run(mut self) {
        let mut next = Instant::now() + REST;
        loop {
            // Looked at each time: questions may come without a pause.
            if Instant::now() >= next {
                next = Instant::now() + self.tell_windows();
            }
            match self.questions.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(question) => self.answer(&question),
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
            Ok(tally) => {
                match tally.read(question.which, question.row.as_deref(), question.top, now_ms()) {
                    Ok(reading) => tell::reply(&self.known[question.view].view, &reading, &mut reply),
                    Err(error) => reply.error(format_args!("NOWINDOW {error}")),
                }
                self.known[question.view].tally = Some(tally);
            }
        }
        self.send(question.thread, Mail::Answer { key: question.key, bytes });
    }

    fn send(&self, thread: usize, mail: Mail) {
        if self.mail[thread].send(mail).is_ok() {
            self.shared.bells[thread].wake();
        }
    }

    /// Sends a view's tally from shard to shard.
    fn gather(&mut self, view: usize, row: Option<&[u8]>) -> Result<Box<Tally>, String> {
        let known = &mut self.known[view];
        let shards = self.shared.options.plan.shards;
        let mut tally =
            known.tally.take().unwrap_or_else(|| Box::new(Tally::new(&known.view.over_shards(shards))));
        tally.clear();
        let engine = self.engine.upgrade().ok_or("ERR the server stops")?;
        for shard in (0..shards).map(ShardId) {
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
            tally = engine.ask(shard, add).map_err(|error| format!("ERR {error}"))?.0;
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
            let is_arrival = self.known[view].view.time.is_none();
            // Nothing can be closed before the next pane has ended.
            let now_ms = now_ms().saturating_sub(GRACE.as_millis() as u64);
            let until = Duration::from_millis(pane_ms - now_ms % pane_ms);
            rest = rest.min(if is_arrival { until } else { LOOK });
            let due_ms = now_ms / pane_ms * pane_ms;
            if is_arrival && self.known[view].told_ms == Some(due_ms) {
                continue;
            }
            let Ok(tally) = self.gather(view, None) else { continue };
            if let Some(closed_ms) = tally.closed_ms(now_ms) {
                let known = &mut self.known[view];
                // Who comes to listen is told of windows that end from then on.
                let told_ms = known.told_ms.unwrap_or(closed_ms);
                let first_ms = told_ms.max(closed_ms.saturating_sub(LATE_MAX * pane_ms)) + pane_ms;
                known.told_ms = Some(closed_ms);
                for end_ms in (first_ms..=closed_ms).step_by(pane_ms as usize) {
                    if let Ok(reading) = tally.read(Which::Ended(end_ms), None, None, now_ms) {
                        self.tell(view, wanted, &reading);
                    }
                }
            }
            self.known[view].tally = Some(tally);
        }
        rest
    }

    fn tell(&self, view: usize, wanted: u64, reading: &Reading) {
        let text: Arc<[u8]> = tell::message(&self.known[view].view, reading).into();
        let channel = self.shared.channel_of_view(view);
        for thread in (0..self.mail.len()).filter(|thread| wanted & (1 << thread) != 0) {
            self.send(thread, Mail::Message { channel, text: text.clone() });
        }
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
