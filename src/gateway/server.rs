//! A server: the engine, the gateway threads, and how they begin and end.
//!
//! # Mechanism
//! ```text
//!   listeners ─▶ thread 0 ─▶ threads 0…n ─lanes─▶ shards ─▶ the service's handler, views
//!                                ▲                  │
//!                                └──────taps────────┘   events of subscribed streams
//! ```
//!
//! A stop goes in steps: listeners close; what was answered is written, for as long as the deadline allows; connections
//! end; producers detach; the engine drains for what is left of the deadline, and accounts for everything. No step waits for
//! a thread without a limit: one that does not end is left to itself, and reported.
//!
//! A thread that is lost makes the server stop by itself, as far as its connections are concerned ([`guard`](super::guard)).
//! Who owns the server finds out by a [`Watch`], and calls [`Server::stop`] for the rest and for the report.
#![forbid(unsafe_code)]

use super::accept::Entrance;
use super::closed::Closed;
use super::counts::Counts;
use super::desk::Desk;
use super::guard::{Guard, Watch};
use super::handler::{Ends, Front, nothing};
use super::listen::{Kind, ListenError, Listener};
use super::publish::Publisher;
use super::questions::Questions;
use super::reader::Reader;
use super::record::Record;
use super::rules::LISTENERS_MAX;
use super::settings::Options;
use super::shared::{Shared, Stage};
use super::subscriptions::Listeners;
use super::tap::{TapsIn, taps};
use super::watch::{LostThread, ThreadEnd};
use super::worker::{LISTENERS, WAKER, Worker};
use crate::engine::{AskError, Engine, PlanErrors, Report, STOP_GRACE, Severity, StartError, StopError};
use crate::event::ShardId;
use crate::host::{Host, available};
use crate::producer::AttachError;
use crate::ring::ShapeError;
use crate::shard::Handler;
use crate::shard::placement::pin;
use crate::views::Totals;
use mio::{Poll, Token, Waker};
use std::io;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// What it was told cannot be.
    #[error(transparent)]
    Options(PlanErrors),
    /// The engine did not.
    #[error(transparent)]
    Engine(#[from] StartError),
    /// Somewhere nobody can listen.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A producer could not be attached for each thread.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The rings for subscribers cannot be.
    #[error(transparent)]
    Taps(#[from] ShapeError),
    /// The system refused a thread, or what it needs.
    #[error("a gateway thread: {0}")]
    Thread(#[from] io::Error),
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// What kind of connections.
    pub kind: Kind,
    /// The address with its port, or the path.
    pub address: String,
}

/// How long a stop waits before it looks again.
const NAP: Duration = Duration::from_millis(1);

/// How long gateway threads may take to close their connections, after the deadline of a stop.
const CLOSING: Duration = Duration::from_secs(1);

/// A running server. Dropping it stops it within its `stop_deadline`.
pub struct Server {
    engine: Arc<Engine<Record>>,
    shared: Arc<Shared>,
    places: Vec<Place>,
    threads: Vec<JoinHandle<()>>,
    /// It may wait for a shard, so nobody waits for it for long.
    reader: Option<JoinHandle<()>>,
    cpus: Vec<Option<usize>>,
    ends: Ends,
    stopped: bool,
    /// What tests send to its threads.
    #[cfg(test)]
    hooks: Option<tests::Hooks>,
}

/// Where a gateway thread runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GateThread {
    /// The CPU that was meant; `None` where it may run anywhere.
    pub cpu: Option<usize>,
    /// Whether it is there and nowhere else.
    pub pinned: bool,
}

/// What was left when a server had stopped.
#[derive(Debug)]
pub struct ServerReport {
    /// The engine's.
    pub engine: Report,
    /// The gateway's.
    pub gateway: Counts,
    /// The views', by their order of declaration.
    pub views: Vec<ViewCounts>,
    /// Where its threads ran.
    pub threads: Vec<GateThread>,
    /// Threads that did not end as they should: none, unless something is wrong with Pelton itself.
    pub lost: Vec<LostThread>,
}

/// What a view was given from start to stop, by all shards that ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ViewCounts {
    /// The view's name.
    pub name: String,
    /// What became of its events.
    pub totals: Totals,
}

impl Server {
    /// Starts a server that does nothing with events but count them, keep its views and tell its subscribers.
    ///
    /// # Errors
    /// [`ServeError`]; what has been started is stopped then.
    pub fn start(options: Options) -> Result<Server, ServeError> {
        Self::start_with(options, nothing)
    }

    /// Starts a server whose events a service handles: `handler` makes the handler of each shard, on its thread. Fields are
    /// read with [`pair`](crate::resp::pair) of the event's payload.
    ///
    /// # Errors
    /// [`ServeError`]; what has been started is stopped then.
    pub fn start_with<H: Handler<Record>>(
        options: Options,
        handler: impl Fn(ShardId) -> H + Send + Sync + 'static,
    ) -> Result<Server, ServeError> {
        let findings = options.all_findings(Some(&Host::look_quick())).into_iter();
        let findings: Vec<_> = findings.filter(|finding| finding.severity == Severity::Error).collect();
        if !findings.is_empty() {
            return Err(ServeError::Options(PlanErrors(findings)));
        }
        let password = options.secret().map_err(|error| ServeError::Options(PlanErrors(vec![error])))?;
        let mut listeners = Listener::all(&options)?;
        let place = |listener: &Listener| Place { kind: listener.kind, address: listener.place() };
        let places = listeners.iter().map(place).collect();
        let threads = usize::from(options.threads);
        let mut polls = (0..threads).map(|_| Poll::new()).collect::<io::Result<Vec<_>>>()?;
        let wakers =
            polls.iter().map(|poll| Waker::new(poll.registry(), WAKER)).collect::<io::Result<_>>()?;
        for (at, listener) in listeners.iter_mut().enumerate().take(LISTENERS_MAX) {
            listener.register(polls[0].registry(), Token(LISTENERS - at))?;
        }
        let cpus = cpus(&options);
        let shared = Arc::new(Shared::new(options, password, wakers));
        let (ins, mut outs) = taps(&shared)?;
        let ins: Mutex<Vec<Option<TapsIn>>> = Mutex::new(ins.into_iter().map(Some).collect());
        let of_shards = shared.clone();
        let closed = Arc::new(Closed::new(&shared.options.views, shared.options.plan.shards));
        let closed_by_shards = closed.clone();
        let ends = Ends::new(shared.options.views.len());
        let of_views = ends.clone();
        let front = move |shard: ShardId| {
            let taps = ins.lock().unwrap_or_else(PoisonError::into_inner)[shard.index()].take();
            // Each shard is made once.
            let taps = taps.expect("a shard's taps are taken once");
            Front::new(handler(shard), &of_shards, taps, shard, closed_by_shards.clone(), of_views.clone())
        };
        let plan = shared.options.reserve(shared.options.plan.clone());
        let engine = Arc::new(plan.start(Record::default, front)?);
        let (senders, mails): (Vec<_>, Vec<_>) = (0..threads).map(|_| channel()).unzip();
        let questions = Questions::new(shared.options.views.len());
        let mut server = Server {
            engine,
            shared,
            places,
            threads: Vec::new(),
            reader: None,
            cpus,
            ends,
            stopped: false,
            #[cfg(test)]
            hooks: Some((senders.clone(), questions.asker())),
        };
        let mut entrance = Some(Entrance::new(listeners, senders.clone()));
        for (at, (mail, poll)) in mails.into_iter().zip(polls.drain(..)).enumerate() {
            let shared = server.shared.clone();
            let desk = Desk {
                publisher: Publisher::new(server.engine.attach()?, shared.clone(), at),
                listeners: Listeners::new(
                    usize::from(shared.channels()),
                    shared.options.subscriber_bytes_max as usize,
                ),
                engine: Arc::downgrade(&server.engine),
                questions: questions.asker(),
                closed: closed.clone(),
                mail: senders.clone(),
                shared,
                thread: at,
                turn_ends: Instant::now(),
                is_over: false,
            };
            let worker = Worker::new(poll, mail, entrance.take(), desk, outs.remove(0))?;
            let cpu = server.cpus[at];
            let own = server.shared.clone();
            let name = format!("pelton-gate-{at}");
            let guard = Guard { shared: own.clone(), name: name.clone(), gate: Some(at) };
            let run = move || {
                // Dropped last, when the connections are gone.
                let _guard = guard;
                let is_pinned = cpu.is_some_and(pin);
                own.threads[at].pinned.set(u64::from(is_pinned));
                worker.run();
            };
            server.threads.push(std::thread::Builder::new().name(name).spawn(run)?);
        }
        let reader = Reader::<H>::new(server.shared.clone(), &server.engine, senders, closed, questions);
        let guard = Guard { shared: server.shared.clone(), name: "pelton-views".into(), gate: None };
        let run = move || {
            let _guard = guard;
            reader.run();
        };
        server.reader = Some(std::thread::Builder::new().name("pelton-views".into()).spawn(run)?);
        Ok(server)
    }

    /// Where it listens, with the ports that were free.
    #[must_use]
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// The engine.
    #[must_use]
    pub fn engine(&self) -> &Engine<Record> {
        &self.engine
    }

    /// Where the gateway threads run. One that has only just begun may not be pinned yet.
    #[must_use]
    pub fn threads(&self) -> Vec<GateThread> {
        let pinned = self.shared.threads.iter().map(|thread| thread.pinned.get() == 1);
        self.cpus.iter().zip(pinned).map(|(cpu, pinned)| GateThread { cpu: *cpu, pinned }).collect()
    }

    /// Lets a shard's thread look at the service's handler between two polls; see [`Engine::ask`].
    ///
    /// # Errors
    /// [`AskError`].
    pub fn ask<H: Handler<Record>, T: Send + 'static>(
        &self,
        shard: ShardId,
        question: impl FnOnce(&mut H) -> T + Send + 'static,
    ) -> Result<T, AskError> {
        self.engine.ask(shard, |front: &mut Front<H>| question(front.own()))
    }

    /// What has been counted so far. Stops nothing; it may lag.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.shared.counts()
    }

    /// What goes wrong in this server, for a thread of the caller's to wait for. Valid for as long as it is kept.
    #[must_use]
    pub fn watch(&self) -> Watch {
        Watch(self.shared.clone())
    }

    /// Stops: takes nothing more, writes what was answered, drains, and accounts for everything. It takes at most
    /// `deadline`, a second for gateway threads that are still closing connections, and what [`Engine::stop`] adds.
    ///
    /// # Errors
    /// [`StopError`].
    pub fn stop(&mut self, deadline: Duration) -> Result<ServerReport, StopError> {
        if std::mem::replace(&mut self.stopped, true) {
            return Err(StopError::Stopped);
        }
        let begun = Instant::now();
        self.shared.advance(Stage::Draining);
        let shared = self.shared.clone();
        let may_wait = || begun.elapsed() < deadline && !shared.is_hurried();
        while !self.threads.iter().all(JoinHandle::is_finished) && may_wait() {
            std::thread::sleep(NAP);
        }
        // The producers are detached with their threads.
        self.shared.advance(Stage::Ending);
        self.join_threads();
        let engine = self.engine.stop_while(may_wait);
        self.end_reader();
        self.shared.losses.end();
        let engine = engine?;
        let named = self.shared.options.views.iter().zip(self.ends.all());
        let views = named.map(|(view, totals)| ViewCounts { name: view.name.clone(), totals }).collect();
        let lost = self.shared.losses.all();
        Ok(ServerReport { engine, gateway: self.shared.counts(), views, threads: self.threads(), lost })
    }

    /// Joins the gateway threads. One that does not end is left to itself.
    fn join_threads(&mut self) {
        let begun = Instant::now();
        while !self.threads.iter().all(JoinHandle::is_finished) && begun.elapsed() < CLOSING {
            std::thread::sleep(NAP);
        }
        for (at, thread) in std::mem::take(&mut self.threads).into_iter().enumerate() {
            if thread.is_finished() {
                // One that panicked has been written down as lost.
                let _ = thread.join();
            } else {
                let name = format!("pelton-gate-{at}");
                self.shared.losses.add(LostThread { name, how: ThreadEnd::Stuck });
            }
        }
    }

    /// What ends a [`Self::stop`] at once, from another thread: connections with what is not written, and the engine with
    /// what is not handled. The report has both.
    #[must_use]
    pub fn hurry(&self) -> Hurry {
        Hurry(self.shared.clone())
    }

    /// Waits for the thread that reads views. One that waits for a stuck shard is left to itself: it ends with what it
    /// asked for.
    fn end_reader(&mut self) {
        let begun = Instant::now();
        let Some(reader) = self.reader.take() else { return };
        while !reader.is_finished() {
            if begun.elapsed() >= STOP_GRACE {
                return;
            }
            std::thread::sleep(NAP);
        }
        let _ = reader.join();
    }
}

/// Hurries a stop, from another thread.
pub struct Hurry(Arc<Shared>);

impl Hurry {
    /// Ends everything now.
    pub fn now(&self) {
        self.0.hurry();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.stopped {
            let deadline = self.shared.options.stop_deadline;
            let _ = self.stop(deadline);
        }
    }
}

/// The CPU of each gateway thread: those that were named. Otherwise those that no shard is pinned to, if one is left over for
/// whoever else runs here; and the shards' own, if not. Where clients run on the same two CPUs as the server, a thread beside
/// its shard takes a third more requests than one on the other CPU, in the clients' way.
fn cpus(options: &Options) -> Vec<Option<usize>> {
    let threads = usize::from(options.threads);
    let shards: Vec<_> = options.plan.placements().iter().filter_map(|placement| placement.cpu).collect();
    let free: Vec<_> = available().iter().copied().filter(|cpu| !shards.contains(cpu)).collect();
    let pool = match &options.cpus {
        Some(named) => named.clone(),
        None if free.len() > threads => free,
        None => shards,
    };
    (0..threads).map(|at| pool.get(at % pool.len().max(1)).copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::class::Class;
    use crate::engine::{Plan, Profile};
    use crate::gateway::Stream;
    use crate::gateway::channel::ChannelId;
    use crate::gateway::conn::ConnKey;
    use crate::gateway::mail::Mail;
    use crate::gateway::questions::{Asker, Question};
    use crate::resp::Version;
    use crate::views::{View, Which};
    use std::io::Read;
    use std::net::TcpStream;
    use std::sync::mpsc::Sender;

    /// The mailboxes of the gateway threads, and the way to ask the thread that reads views.
    pub(super) type Hooks = (Vec<Sender<Mail>>, Asker);

    fn server() -> Server {
        let mut plan = Plan::new(Profile::Dev).unpinned().overcommitted(true).announce(false);
        plan = plan.shards(1).producers_max(2);
        plan.class(Class::strict("bulk").capacity(64).payload_bytes(4_096).block());
        let mut options = Options::new(plan);
        options.threads = 2;
        options.listen = vec!["127.0.0.1:0".into()];
        options.streams.push(Stream::new("events", "bulk"));
        options.views.push(View::count("all").over("events"));
        Server::start(options).unwrap()
    }

    #[test]
    fn lost_thread_stops_its_server_and_is_in_the_report() {
        // A message for a channel, and an answer for a thread, that do not exist.
        let gate = |at: usize| {
            move |(mail, _): &Hooks| {
                let text: Arc<[u8]> = Arc::from(*b"x");
                mail[at].send(Mail::Message { channel: ChannelId(u16::MAX), text }).unwrap();
            }
        };
        let views = |(_, asker): &Hooks| {
            let (key, version) = (ConnKey { at: 0, id: u64::MAX }, Version::Resp2);
            let (thread, which) = (usize::MAX, Which::Open);
            let question =
                Question { thread, key, is_critical: false, version, view: 0, which, row: None, top: None };
            assert!(asker.ask(question));
        };
        type Kill = Box<dyn Fn(&Hooks)>;
        let victims: [(&str, Kill); 3] = [
            ("pelton-gate-0", Box::new(gate(0))),
            ("pelton-gate-1", Box::new(gate(1))),
            ("pelton-views", Box::new(views)),
        ];
        for (name, kill) in victims {
            let mut server = server();
            let hooks = server.hooks.take().unwrap();
            let watch = server.watch();
            assert_eq!(watch.wait(Duration::from_millis(50)), None);
            let address = server.places()[0].address.clone();
            let mut clients = [(); 4].map(|()| TcpStream::connect(&address).unwrap());
            let begun = Instant::now();
            while server.counts().connected < 4 {
                assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", server.counts());
                std::thread::sleep(NAP);
            }
            kill(&hooks);
            server.shared.bells.iter().for_each(|bell| bell.wake_up());
            drop(hooks);
            let lost = LostThread { name: name.into(), how: ThreadEnd::Panicked };
            assert_eq!(watch.wait(Duration::from_secs(20)), Some(lost.clone()));
            // Connections of all threads end, those of the lost one with it.
            for client in &mut clients {
                client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                let read = client.read(&mut [0; 8]);
                let is_closed =
                    read.as_ref().map_or_else(|error| error.kind() != io::ErrorKind::WouldBlock, |n| *n == 0);
                assert!(is_closed, "{name}: {read:?}");
            }
            let report = server.stop(Duration::from_secs(5)).unwrap();
            assert_eq!(report.lost, [lost]);
            assert!(watch.is_over() && report.engine.ledger.is_closed());
            assert_eq!((report.gateway.connected, report.gateway.connections()), (4, 0));
        }
    }
}
