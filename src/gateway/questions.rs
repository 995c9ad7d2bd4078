//! Questions to views, on their way from the gateway threads to the thread that reads views.
//!
//! # Mechanism
//! Questions wait by view, as all that wait for one view are answered by one gathering; those of critical connections come
//! first, and those of others in between. A connection waits for one answer at most, so it has one question here at most: they are kept by the number of
//! the connection, and a connection that closes withdraws its own. A gathering marks the questions that it began with
//! ([`Questions::begin`]): one that comes later waits for the next, as its connection may have published meanwhile.
//!
//! Here threads also leave word that a view has its first listener, with the end of the last window that was closed then.
//!
//! # Invariants
//! - No more questions wait than there are connections, and a question takes no more than a key of its view.
//! - Views take turns, those for critical connections and those for others each: none of them waits for ever, however many
//!   ask for the others.
//! - Neither side holds the lock for longer than it takes to look at each view once, or to take out one view's questions.
#![forbid(unsafe_code)]

use super::conn::ConnKey;
use crate::resp::Version;
use crate::views::Which;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// A question to a view.
pub(super) struct Question {
    pub thread: usize,
    pub key: ConnKey,
    pub is_critical: bool,
    pub version: Version,
    pub view: usize,
    pub which: Which,
    /// The key whose row alone is read.
    pub row: Option<Box<[u8]>>,
    pub top: Option<usize>,
}

/// What a gathering has to bring together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    All,
    /// The rows of these keys, sorted, each once.
    Keys(Arc<[Box<[u8]>]>),
}

/// Why the reader goes on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// Somebody waits for this view.
    Asked(usize),
    /// Views have their first listeners, and these were the ends of the last windows that were closed then.
    Listens(Vec<(usize, u64)>),
    /// The time is over.
    Time,
    /// No gateway thread is left.
    Over,
}

/// What waits for one view, by the number of the connection.
#[derive(Default)]
struct Waiting {
    critical: BTreeMap<u64, Question>,
    others: BTreeMap<u64, Question>,
    /// What the gathering that goes on will answer.
    begun: BTreeMap<u64, Question>,
    listens_ms: Option<u64>,
}

struct State {
    views: Box<[Waiting]>,
    /// The view that was answered last.
    last: usize,
    /// Whether that was for critical connections.
    was_critical: bool,
    threads: usize,
    /// Whether nobody answers any more.
    is_over: bool,
}

/// All of them; see the file's head.
pub(super) struct Questions {
    state: Mutex<State>,
    changed: Condvar,
}

impl Questions {
    pub fn new(views: usize) -> Arc<Self> {
        let views = (0..views).map(|_| Waiting::default()).collect();
        let state = State { views, last: 0, was_critical: false, threads: 0, is_over: false };
        Arc::new(Questions { state: Mutex::new(state), changed: Condvar::new() })
    }

    /// What a gateway thread asks with. The reader ends when all of them are dropped.
    pub fn asker(self: &Arc<Self>) -> Asker {
        self.lock().threads += 1;
        Asker(self.clone())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for something to do, until a time.
    pub fn next(&self, until: Instant) -> Event {
        let mut state = self.lock();
        loop {
            if state.threads == 0 {
                return Event::Over;
            }
            let views = state.views.iter_mut().enumerate();
            let listens: Vec<_> =
                views.filter_map(|(view, waiting)| Some((view, waiting.listens_ms.take()?))).collect();
            if !listens.is_empty() {
                return Event::Listens(listens);
            }
            // After one for critical connections comes one for others: it costs the critical a part of it at most.
            let order = [!state.was_critical, state.was_critical];
            let turn =
                order.into_iter().find_map(|is_critical| Some((state.turn(is_critical, None)?, is_critical)));
            if let Some((view, is_critical)) = turn {
                (state.last, state.was_critical) = (view, is_critical);
                return Event::Asked(view);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Event::Time;
            }
            state = self.wait(state, left);
        }
    }

    /// Waits until a time, or until a critical connection waits for another view than this one: that view then.
    pub fn next_critical(&self, view: usize, until: Instant) -> Option<usize> {
        let mut state = self.lock();
        loop {
            if let Some(other) = state.turn(true, Some(view)) {
                return Some(other);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || state.threads == 0 {
                return None;
            }
            state = self.wait(state, left);
        }
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, time: std::time::Duration) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Begins to answer what waits for a view, and returns what has to be brought together for it.
    pub fn begin(&self, view: usize) -> Wanted {
        let mut state = self.lock();
        let Waiting { critical, others, begun, .. } = &mut state.views[view];
        begun.append(critical);
        begun.append(others);
        let keys = begun.values().map(|question| question.row.clone());
        match keys.collect::<Option<BTreeSet<_>>>() {
            Some(keys) => Wanted::Keys(keys.into_iter().collect()),
            None => Wanted::All,
        }
    }

    /// Whether somebody still waits for what was begun.
    pub fn is_wanted(&self, view: usize) -> bool {
        !self.lock().views[view].begun.is_empty()
    }

    /// Takes out the questions that were begun, those of critical connections first.
    pub fn finish(&self, view: usize) -> Vec<Question> {
        let begun = std::mem::take(&mut self.lock().views[view].begun);
        let mut all: Vec<_> = begun.into_values().collect();
        all.sort_by_key(|question| !question.is_critical);
        all
    }

    /// Nobody answers any more: further questions are refused.
    pub fn end(&self) {
        self.lock().is_over = true;
    }

    /// How many questions wait.
    #[cfg(test)]
    fn len(&self) -> usize {
        let state = self.lock();
        let all = state.views.iter();
        all.map(|waiting| waiting.critical.len() + waiting.others.len() + waiting.begun.len()).sum()
    }
}

impl State {
    /// The view whose turn it is among those for which somebody waits, or a critical connection does.
    fn turn(&self, is_critical: bool, except: Option<usize>) -> Option<usize> {
        let views = self.views.len();
        let is_asked = |view: &usize| {
            let waiting = &self.views[*view];
            let own = if is_critical { &waiting.critical } else { &waiting.others };
            !own.is_empty() && except != Some(*view)
        };
        (1..=views).map(|at| (self.last + at) % views).find(is_asked)
    }
}

/// A gateway thread's way to ask.
pub(super) struct Asker(Arc<Questions>);

impl Asker {
    /// Asks a question; returns whether it will be answered.
    pub fn ask(&self, question: Question) -> bool {
        let mut state = self.0.lock();
        if state.is_over {
            return false;
        }
        let waiting = &mut state.views[question.view];
        let own = if question.is_critical { &mut waiting.critical } else { &mut waiting.others };
        own.insert(question.key.id, question);
        drop(state);
        self.0.changed.notify_one();
        true
    }

    /// A connection waits no longer.
    pub fn withdraw(&self, connection: u64) {
        let mut state = self.0.lock();
        for Waiting { critical, others, begun, .. } in &mut state.views {
            for own in [critical, others, begun] {
                own.remove(&connection);
            }
        }
    }

    /// A view has a listener, and this was the end of the last window that was closed then.
    pub fn listens(&self, view: usize, closed_ms: u64) {
        // The first has been promised what closed since; later ones as much or less.
        self.0.lock().views[view].listens_ms.get_or_insert(closed_ms);
        self.0.changed.notify_one();
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.0.lock().threads -= 1;
        self.0.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn question(view: usize, id: u64, is_critical: bool, row: Option<&str>) -> Question {
        let row = row.map(|row| row.as_bytes().into());
        let (key, version) = (ConnKey { at: 0, id }, Version::Resp2);
        Question { thread: 0, key, is_critical, version, view, which: Which::Open, row, top: None }
    }

    #[test]
    fn critical_questions_come_first_and_views_take_turns() {
        let questions = Questions::new(3);
        let asker = questions.asker();
        let next = || questions.next(Instant::now());
        assert_eq!(next(), Event::Time);
        for id in 0..9 {
            assert!(asker.ask(question(id as usize % 3, id, false, None)));
        }
        assert_eq!(
            (next(), next(), next(), next()),
            (Event::Asked(1), Event::Asked(2), Event::Asked(0), Event::Asked(1))
        );
        assert!(asker.ask(question(2, 9, true, None)));
        assert!(asker.ask(question(2, 10, false, None)));
        assert_eq!(next(), Event::Asked(2));
        // Others come in between.
        assert_eq!((next(), next()), (Event::Asked(0), Event::Asked(2)));
        assert_eq!(questions.begin(2), Wanted::All);
        let order: Vec<_> = questions.finish(2).iter().map(|question| question.key.id).collect();
        assert_eq!(order, [9, 2, 5, 8, 10]);
        assert_eq!(questions.next_critical(0, Instant::now()), None);
        assert!(asker.ask(question(0, 11, true, None)));
        assert_eq!(questions.next_critical(0, Instant::now()), None);
        assert_eq!(questions.next_critical(1, Instant::now() + Duration::from_secs(60)), Some(0));
    }

    #[test]
    fn withdrawn_questions_are_gone_and_each_connection_has_one() {
        let questions = Questions::new(2);
        let asker = questions.asker();
        for id in 0..1_000 {
            assert!(asker.ask(question(0, id % 10, false, Some("a"))));
        }
        assert_eq!(questions.len(), 10);
        assert!(asker.ask(question(0, 10, true, Some("b"))));
        let keys = ["a", "b"].map(|key| key.as_bytes().into());
        assert_eq!(questions.begin(0), Wanted::Keys(Arc::new(keys)));
        // Also while it is answered; a later one waits for the next time.
        assert!(asker.ask(question(0, 3, false, None)));
        (4..=10).for_each(|id| asker.withdraw(id));
        assert!(questions.is_wanted(0));
        let answered: Vec<_> = questions.finish(0).iter().map(|question| question.key.id).collect();
        assert_eq!(answered, [0, 1, 2, 3]);
        assert_eq!((questions.len(), questions.begin(0)), (1, Wanted::All));
        asker.withdraw(3);
        assert!(!questions.is_wanted(0) && questions.len() == 0);
    }

    #[test]
    fn word_of_listeners_takes_one_place_and_the_end_is_noticed_by_both_sides() {
        let questions = Questions::new(2);
        let askers = [questions.asker(), questions.asker()];
        for closed_ms in 5..1_000 {
            askers[0].listens(1, closed_ms);
        }
        assert_eq!(questions.next(Instant::now()), Event::Listens(vec![(1, 5)]));
        assert_eq!(questions.next(Instant::now()), Event::Time);
        questions.end();
        assert!(!askers[0].ask(question(0, 1, true, None)));
        let waiting = questions.clone();
        let reader = std::thread::spawn(move || waiting.next(Instant::now() + Duration::from_secs(600)));
        drop(askers);
        assert_eq!(reader.join().unwrap(), Event::Over);
    }
}
