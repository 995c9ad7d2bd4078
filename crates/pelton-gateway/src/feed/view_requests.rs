//! Requests to views, on their way from the workers to the thread that reads views.
//!
//! # Mechanism
//! Requests wait by view, as all that wait for one view are answered by one gathering. Those of critical connections come
//! first, and those of others in between. A connection waits for one reply at most, so it has one request here at most: requests are kept by the id of the connection, and a connection that closes withdraws its own. A gathering marks the
//! requests that it began with ([`ViewRequests::begin`]): one that comes later waits for the next, as its connection may have
//! published meanwhile.
//!
//! Workers also record here that a view has its first subscriber, with the end of the last window that was closed then.
//!
//! # Invariants
//! - No more requests wait than there are connections, and a request takes no more than a key of its view.
//! - Views take turns, those for critical connections and those for others each: none of them waits forever, however many
//!   requests there are for the others.
//! - Neither side holds the lock for longer than it takes to look at each view once, or to take out one view's requests.

use crate::net::connection::ConnectionKey;
use crate::resp::Version;
use crate::server::clock::ServerClock;
use pelton_views::Which;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Wake;
use std::time::{Duration, Instant};

/// A request to read a view.
pub(crate) struct ViewRequest {
    pub thread: usize,
    pub key: ConnectionKey,
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
pub(crate) enum GatherScope {
    All,
    /// The rows of these keys, sorted, each once.
    Keys(Arc<[Box<[u8]>]>),
}

/// Why the reader goes on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ReaderEvent {
    /// A connection waits for this view.
    Request(usize),
    /// Views have their first subscribers, and these were the ends of the last windows that were closed then.
    Subscribed(Vec<(usize, u64)>),
    /// The time is over without a request.
    Timeout,
    /// No worker is left.
    Shutdown,
}

/// What waits for one view, by the number of the connection.
#[derive(Default)]
struct PendingRequests {
    critical: BTreeMap<u64, ViewRequest>,
    others: BTreeMap<u64, ViewRequest>,
    /// What the gathering that goes on will answer.
    in_progress: BTreeMap<u64, ViewRequest>,
    subscribed_ms: Option<u64>,
}

struct RequestState {
    views: Box<[PendingRequests]>,
    /// The view that was answered last.
    last: usize,
    /// Whether that was for critical connections.
    was_critical: bool,
    threads: usize,
    /// Whether the reader has ended.
    is_over: bool,
}

/// All of them; see the file's head.
pub(crate) struct ViewRequests {
    state: Mutex<RequestState>,
    changed: Condvar,
    clock: Arc<ServerClock>,
}

/// The hand of a virtual clock wakes the reader. It looks at the clock under the lock, so it either has the new time or
/// waits already.
impl Wake for ViewRequests {
    fn wake(self: Arc<Self>) {
        drop(self.lock());
        self.changed.notify_one();
    }
}

impl ViewRequests {
    pub fn new(views: usize, clock: Arc<ServerClock>) -> Arc<Self> {
        let views = (0..views).map(|_| PendingRequests::default()).collect();
        let state = RequestState { views, last: 0, was_critical: false, threads: 0, is_over: false };
        Arc::new(ViewRequests { state: Mutex::new(state), changed: Condvar::new(), clock })
    }

    /// A worker's sender. The reader ends when all of them are dropped.
    pub fn sender(self: &Arc<Self>) -> ViewRequestSender {
        self.lock().threads += 1;
        ViewRequestSender(self.clone())
    }

    fn lock(&self) -> MutexGuard<'_, RequestState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for something to do, until a time of the server's clock.
    pub fn next(&self, until: Instant) -> ReaderEvent {
        let mut state = self.lock();
        loop {
            if state.threads == 0 {
                return ReaderEvent::Shutdown;
            }
            let views = state.views.iter_mut().enumerate();
            let listens: Vec<_> =
                views.filter_map(|(view, waiting)| Some((view, waiting.subscribed_ms.take()?))).collect();
            if !listens.is_empty() {
                return ReaderEvent::Subscribed(listens);
            }
            // After one for critical connections comes one for others: it costs the critical a part of it at most.
            let order = [!state.was_critical, state.was_critical];
            let turn =
                order.into_iter().find_map(|is_critical| Some((state.turn(is_critical, None)?, is_critical)));
            if let Some((view, is_critical)) = turn {
                (state.last, state.was_critical) = (view, is_critical);
                return ReaderEvent::Request(view);
            }
            let left = until.saturating_duration_since(self.clock.now());
            if left.is_zero() {
                return ReaderEvent::Timeout;
            }
            state = self.wait(state, self.clock.sleep_limit(left));
        }
    }

    /// Waits until a real time, or until a critical connection waits for another view than this one: that view then.
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
            state = self.wait(state, Some(left));
        }
    }

    /// Waits for a change, for `limit` at most; without a limit for one alone.
    fn wait<'a>(
        &self,
        state: MutexGuard<'a, RequestState>,
        limit: Option<Duration>,
    ) -> MutexGuard<'a, RequestState> {
        match limit {
            Some(limit) => self.changed.wait_timeout(state, limit).unwrap_or_else(PoisonError::into_inner).0,
            None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// Begins to answer what waits for a view, and returns what has to be brought together for it.
    pub fn begin(&self, view: usize) -> GatherScope {
        let mut state = self.lock();
        let PendingRequests { critical, others, in_progress, .. } = &mut state.views[view];
        in_progress.append(critical);
        in_progress.append(others);
        let keys = in_progress.values().map(|request| request.row.clone());
        match keys.collect::<Option<BTreeSet<_>>>() {
            Some(keys) => GatherScope::Keys(keys.into_iter().collect()),
            None => GatherScope::All,
        }
    }

    /// Whether a connection still waits for what was begun.
    pub fn is_wanted(&self, view: usize) -> bool {
        !self.lock().views[view].in_progress.is_empty()
    }

    /// Takes out the requests that were begun, those of critical connections first.
    pub fn finish(&self, view: usize) -> Vec<ViewRequest> {
        let in_progress = std::mem::take(&mut self.lock().views[view].in_progress);
        let mut all: Vec<_> = in_progress.into_values().collect();
        all.sort_by_key(|request| !request.is_critical);
        all
    }

    /// Ends the queue: further requests are rejected.
    pub fn end(&self) {
        self.lock().is_over = true;
    }

    /// How many requests wait.
    #[cfg(test)]
    fn len(&self) -> usize {
        let state = self.lock();
        let all = state.views.iter();
        all.map(|waiting| waiting.critical.len() + waiting.others.len() + waiting.in_progress.len()).sum()
    }
}

impl RequestState {
    /// The next view in turn among those that critical connections, or others, wait for.
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

/// Sends the requests of a worker.
pub(crate) struct ViewRequestSender(Arc<ViewRequests>);

impl ViewRequestSender {
    /// Sends a request. Returns whether it will be answered.
    pub fn send(&self, request: ViewRequest) -> bool {
        let mut state = self.0.lock();
        if state.is_over {
            return false;
        }
        let waiting = &mut state.views[request.view];
        let own = if request.is_critical { &mut waiting.critical } else { &mut waiting.others };
        own.insert(request.key.id, request);
        drop(state);
        self.0.changed.notify_one();
        true
    }

    /// Withdraws the request of a connection.
    pub fn withdraw(&self, connection: u64) {
        let mut state = self.0.lock();
        for PendingRequests { critical, others, in_progress, .. } in &mut state.views {
            for own in [critical, others, in_progress] {
                own.remove(&connection);
            }
        }
    }

    /// Records that a view has a subscriber, and the end of the last window that was closed then.
    pub fn subscribed(&self, view: usize, closed_ms: u64) {
        // The first subscriber receives what closed since; later ones as much or less.
        self.0.lock().views[view].subscribed_ms.get_or_insert(closed_ms);
        self.0.changed.notify_one();
    }
}

impl Drop for ViewRequestSender {
    fn drop(&mut self) {
        self.0.lock().threads -= 1;
        self.0.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pelton::clock::Clock;

    fn view_requests(views: usize) -> Arc<ViewRequests> {
        ViewRequests::new(views, Arc::new(ServerClock::new(None)))
    }

    fn request(view: usize, id: u64, is_critical: bool, row: Option<&str>) -> ViewRequest {
        let row = row.map(|row| row.as_bytes().into());
        let (key, version) = (ConnectionKey { slot: 0, id }, Version::Resp2);
        ViewRequest { thread: 0, key, is_critical, version, view, which: Which::Open, row, top: None }
    }

    #[test]
    fn critical_requests_come_first_and_views_take_turns() {
        let view_requests = view_requests(3);
        let sender = view_requests.sender();
        let next = || view_requests.next(Instant::now());
        assert_eq!(next(), ReaderEvent::Timeout);
        for id in 0..9 {
            assert!(sender.send(request(id as usize % 3, id, false, None)));
        }
        assert_eq!(
            (next(), next(), next(), next()),
            (
                ReaderEvent::Request(1),
                ReaderEvent::Request(2),
                ReaderEvent::Request(0),
                ReaderEvent::Request(1)
            )
        );
        assert!(sender.send(request(2, 9, true, None)));
        assert!(sender.send(request(2, 10, false, None)));
        assert_eq!(next(), ReaderEvent::Request(2));
        // Others come in between.
        assert_eq!((next(), next()), (ReaderEvent::Request(0), ReaderEvent::Request(2)));
        assert_eq!(view_requests.begin(2), GatherScope::All);
        let order: Vec<_> = view_requests.finish(2).iter().map(|request| request.key.id).collect();
        assert_eq!(order, [9, 2, 5, 8, 10]);
        assert_eq!(view_requests.next_critical(0, Instant::now()), None);
        assert!(sender.send(request(0, 11, true, None)));
        assert_eq!(view_requests.next_critical(0, Instant::now()), None);
        assert_eq!(view_requests.next_critical(1, Instant::now() + Duration::from_secs(60)), Some(0));
    }

    #[test]
    fn each_connection_has_one_request_until_it_is_withdrawn() {
        let view_requests = view_requests(2);
        let sender = view_requests.sender();
        for id in 0..1_000 {
            assert!(sender.send(request(0, id % 10, false, Some("a"))));
        }
        assert_eq!(view_requests.len(), 10);
        assert!(sender.send(request(0, 10, true, Some("b"))));
        let keys = ["a", "b"].map(|key| key.as_bytes().into());
        assert_eq!(view_requests.begin(0), GatherScope::Keys(Arc::new(keys)));
        // Also while it is answered; a later one waits for the next time.
        assert!(sender.send(request(0, 3, false, None)));
        (4..=10).for_each(|id| sender.withdraw(id));
        assert!(view_requests.is_wanted(0));
        let answered: Vec<_> = view_requests.finish(0).iter().map(|request| request.key.id).collect();
        assert_eq!(answered, [0, 1, 2, 3]);
        assert_eq!((view_requests.len(), view_requests.begin(0)), (1, GatherScope::All));
        sender.withdraw(3);
        assert!(!view_requests.is_wanted(0) && view_requests.len() == 0);
    }

    #[test]
    fn reader_on_a_virtual_clock_waits_until_the_clock_is_moved() {
        let (clock, time) = Clock::virtual_time();
        let clock = Arc::new(ServerClock::new(Some(&clock)));
        let view_requests = ViewRequests::new(1, clock.clone());
        let _sender = view_requests.sender();
        let _guard = clock.wake_on_advance(view_requests.clone().into());
        let until = clock.now() + Duration::from_secs(600);
        let waiting = view_requests.clone();
        let reader = std::thread::spawn(move || {
            assert_eq!(waiting.next(until), ReaderEvent::Timeout);
            assert_eq!(clock.now(), until);
        });
        time.advance(Duration::from_secs(599));
        time.advance(Duration::from_secs(1));
        reader.join().unwrap();
    }

    #[test]
    fn first_subscriber_is_kept_once_and_both_sides_see_the_shutdown() {
        let view_requests = view_requests(2);
        let senders = [view_requests.sender(), view_requests.sender()];
        for closed_ms in 5..1_000 {
            senders[0].subscribed(1, closed_ms);
        }
        assert_eq!(view_requests.next(Instant::now()), ReaderEvent::Subscribed(vec![(1, 5)]));
        assert_eq!(view_requests.next(Instant::now()), ReaderEvent::Timeout);
        view_requests.end();
        assert!(!senders[0].send(request(0, 1, true, None)));
        let waiting = view_requests.clone();
        let reader = std::thread::spawn(move || waiting.next(Instant::now() + Duration::from_secs(600)));
        drop(senders);
        assert_eq!(reader.join().unwrap(), ReaderEvent::Shutdown);
    }
}
