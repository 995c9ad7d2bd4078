//! A server: the engine, the workers, and how they start and stop.
//!
//! # Mechanism
//! ```text
//!   listeners ─▶ worker 0 ─▶ workers 0…n ─lanes─▶ shards ─▶ the service's handler, views
//!                                ▲                  │
//!                                └──────taps────────┘   events of subscribed streams
//! ```
//!
//! A stop has steps: listeners close; pending replies are written, for as long as the deadline allows; connections close;
//! producers detach; the engine drains for what is left of the deadline, and accounts for everything. No step waits for a
//! thread without a limit: a thread that does not end is left to itself, and reported.
//!
//! A lost thread makes the server close its connections by itself ([`watch`](crate::server::watch)). The owner of the server
//! learns of it by a [`Watch`], and calls [`Server::stop`] for the rest and for the report.

use crate::command::context::CommandContext;
use crate::command::xadd::Publisher;
use crate::config::settings::Options;
use crate::config::validate::LISTENERS_MAX;
use crate::feed::event::Record;
use crate::feed::handler::{FinalTotals, GatewayHandler, nothing};
use crate::feed::subscribers::Subscribers;
use crate::feed::tap::{ShardTaps, taps};
use crate::feed::view_reader::ViewReader;
use crate::feed::view_requests::ViewRequests;
use crate::feed::watermark::Watermarks;
use crate::net::acceptor::Acceptor;
use crate::net::listener::{ListenError, Listener, ListenerKind};
use crate::server::metrics::Counts;
use crate::server::state::{DrainsOnPanic, Shared, Stage, ThreadGuard, WorkerMessage};
use crate::server::watch::{LostThread, ThreadEnd, Watch};
use crate::server::worker::{LISTENERS, WAKER, Worker};
use mio::{Poll, Token, Waker};
use pelton::engine::{
    AskError, Engine, PlanErrors, Report, STOP_GRACE, Secret, Severity, StartError, StopError,
};
use pelton::event::ShardId;
use pelton::host::{Host, available};
use pelton::producer::AttachError;
use pelton::ring::ShapeError;
use pelton::shard::Handler;
use pelton::shard::pin;
use pelton_views::Totals;
use std::io;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The options are invalid.
    #[error(transparent)]
    Options(PlanErrors),
    /// The engine did not start.
    #[error(transparent)]
    Engine(#[from] StartError),
    /// The server cannot listen at an address.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A producer could not be attached for each thread.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The rings for subscribers cannot be made.
    #[error(transparent)]
    Taps(#[from] ShapeError),
    /// The system refused a thread, or what the thread needs.
    #[error("a gateway thread: {0}")]
    Thread(#[from] io::Error),
}

/// An address at which a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundAddress {
    /// The kind of its connections.
    pub kind: ListenerKind,
    /// The address with its port, or the path.
    pub address: String,
}

/// How long a stop sleeps between two checks.
const NAP: Duration = Duration::from_millis(1);

/// How long gateway threads may take to close their connections, after the deadline of a stop.
const CLOSING: Duration = Duration::from_secs(1);

/// A running server. Dropping it stops it within its `stop_deadline`.
pub struct Server {
    engine: Arc<Engine<Record>>,
    shared: Arc<Shared>,
    addresses: Vec<BoundAddress>,
    threads: Vec<JoinHandle<()>>,
    /// It may wait for a shard, so a stop does not wait long for it.
    reader: Option<JoinHandle<()>>,
    cpus: Vec<Option<usize>>,
    final_totals: FinalTotals,
    stopped: bool,
    /// What tests send to its threads.
    #[cfg(test)]
    hooks: Option<tests::Hooks>,
}

/// Where a gateway thread runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerPlacement {
    /// The CPU that it should run on; `None` if it may run anywhere.
    pub cpu: Option<usize>,
    /// Whether it is pinned to that CPU.
    pub pinned: bool,
}

/// What a server returns when it has stopped.
#[derive(Debug)]
pub struct ServerReport {
    /// The engine's.
    pub engine: Report,
    /// The gateway's.
    pub gateway: Counts,
    /// The views', by their order of declaration.
    pub views: Vec<ViewCounts>,
    /// Where its threads ran.
    pub threads: Vec<WorkerPlacement>,
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
    /// Starts a server that counts events, keeps its views and sends events to subscribers, and does nothing
    /// else with them.
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
        let password = check(&options)?;
        let mut listeners = Listener::all(&options)?;
        let bound = |listener: &Listener| BoundAddress { kind: listener.kind, address: listener.address() };
        let addresses = listeners.iter().map(bound).collect();
        let polls = (0..options.threads).map(|_| Poll::new()).collect::<io::Result<Vec<_>>>()?;
        let wakers =
            polls.iter().map(|poll| Waker::new(poll.registry(), WAKER)).collect::<io::Result<_>>()?;
        for (at, listener) in listeners.iter_mut().enumerate().take(LISTENERS_MAX) {
            listener.register(polls[0].registry(), Token(LISTENERS - at))?;
        }
        let cpus = cpus(&options);
        let shared = Arc::new(Shared::new(options, password, wakers));
        let (shard_taps, worker_taps) = taps(&shared)?;
        let watermarks = Arc::new(Watermarks::new(&shared.options.views, shared.options.plan.shards()));
        let final_totals = FinalTotals::new(shared.options.views.len());
        let engine = start_engine(&shared, handler, shard_taps, &watermarks, &final_totals)?;
        let (inboxes, receivers): (Vec<_>, Vec<_>) = polls.iter().map(|_| channel()).unzip();
        let view_requests = ViewRequests::new(shared.options.views.len(), shared.clock.clone());
        let mut server = Server {
            engine: Arc::new(engine),
            shared,
            addresses,
            threads: Vec::new(),
            reader: None,
            cpus,
            final_totals,
            stopped: false,
            #[cfg(test)]
            hooks: Some((inboxes.clone(), view_requests.sender())),
        };
        let mut acceptor = Some(Acceptor::new(listeners, inboxes.clone()));
        let parts = polls.into_iter().zip(receivers).zip(worker_taps);
        for (thread, ((poll, receiver), taps)) in parts.enumerate() {
            let context = server.context_of(thread, &inboxes, &view_requests, &watermarks)?;
            let worker = Worker::new(poll, receiver, acceptor.take(), context, taps)?;
            server.spawn_worker(thread, worker)?;
        }
        let shared = server.shared.clone();
        let reader = ViewReader::<H>::new(shared, &server.engine, inboxes, watermarks, view_requests);
        server.spawn_reader(reader)?;
        Ok(server)
    }

    /// What a worker needs to run commands.
    fn context_of(
        &self,
        thread: usize,
        inboxes: &[Sender<WorkerMessage>],
        view_requests: &Arc<ViewRequests>,
        watermarks: &Arc<Watermarks>,
    ) -> Result<CommandContext, AttachError> {
        let shared = self.shared.clone();
        let bytes_max = shared.options.subscriber_bytes_max as usize;
        Ok(CommandContext {
            publisher: Publisher::new(self.engine.attach()?, shared.clone(), thread),
            subscribers: Subscribers::new(usize::from(shared.channels()), bytes_max),
            engine: Arc::downgrade(&self.engine),
            view_requests: view_requests.sender(),
            watermarks: watermarks.clone(),
            inboxes: inboxes.to_vec(),
            clock: shared.clock.clone(),
            shared,
            thread,
            turn_ends: self.shared.clock.now(),
            has_overrun: false,
        })
    }

    fn spawn_worker(&mut self, thread: usize, worker: Worker) -> io::Result<()> {
        let (cpu, shared) = (self.cpus[thread], self.shared.clone());
        let name = format!("pelton-gate-{thread}");
        let guard = ThreadGuard { shared: shared.clone(), name: name.clone(), worker: Some(thread) };
        let run = move || {
            // Dropped last, when the connections are gone.
            let _guard = guard;
            let mut worker = worker;
            // Dropped before the worker: the reader of views ends when the last worker is gone.
            let drains = DrainsOnPanic(shared);
            let is_pinned = cpu.is_some_and(pin);
            drains.0.counters[thread].pinned.set(u64::from(is_pinned));
            worker.run();
        };
        self.threads.push(std::thread::Builder::new().name(name).spawn(run)?);
        Ok(())
    }

    fn spawn_reader<H: Handler<Record>>(&mut self, reader: ViewReader<H>) -> io::Result<()> {
        let name = "pelton-views".to_string();
        let guard = ThreadGuard { shared: self.shared.clone(), name: name.clone(), worker: None };
        let run = move || {
            let _guard = guard;
            reader.run();
        };
        self.reader = Some(std::thread::Builder::new().name(name).spawn(run)?);
        Ok(())
    }

    /// The addresses at which the server listens, with the ports that were chosen for port 0.
    #[must_use]
    pub fn addresses(&self) -> &[BoundAddress] {
        &self.addresses
    }

    /// The engine.
    #[must_use]
    pub fn engine(&self) -> &Engine<Record> {
        &self.engine
    }

    /// Where the workers run. One that has only just started may not be pinned yet.
    #[must_use]
    pub fn threads(&self) -> Vec<WorkerPlacement> {
        let pinned = self.shared.counters.iter().map(|thread| thread.pinned.get() == 1);
        self.cpus.iter().zip(pinned).map(|(cpu, pinned)| WorkerPlacement { cpu: *cpu, pinned }).collect()
    }

    /// Runs `request` with the service's handler on the shard's thread, between two polls; see
    /// [`Engine::ask`].
    ///
    /// # Errors
    /// [`AskError`].
    pub fn ask<H: Handler<Record>, T: Send + 'static>(
        &self,
        shard: ShardId,
        request: impl FnOnce(&mut H) -> T + Send + 'static,
    ) -> Result<T, AskError> {
        self.engine.ask(shard, |handler: &mut GatewayHandler<H>| request(handler.own()))
    }

    /// Returns what has been counted so far. Does not stop anything, and may lag.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.shared.counts()
    }

    /// Returns a handle by which a thread of the caller can wait for what goes wrong in this server.
    #[must_use]
    pub fn watch(&self) -> Watch {
        Watch(self.shared.watched.clone())
    }

    /// Stops: accepts nothing more, writes pending replies, drains, and accounts for everything. It takes at
    /// most `deadline`, a second for workers that are still closing connections, and what [`Engine::stop`]
    /// adds.
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
        let may_wait = || begun.elapsed() < deadline && !shared.is_stop_forced();
        while !self.threads.iter().all(JoinHandle::is_finished) && may_wait() {
            std::thread::sleep(NAP);
        }
        // The producers are detached with their threads.
        self.shared.advance(Stage::Terminating);
        self.join_threads();
        let engine = self.engine.stop_while(may_wait);
        self.end_reader();
        self.shared.watched.lost_threads.end();
        let engine = engine?;
        let named = self.shared.options.views.iter().zip(self.final_totals.all());
        let views = named.map(|(view, totals)| ViewCounts { name: view.name.clone(), totals }).collect();
        let lost = self.shared.watched.lost_threads.all();
        Ok(ServerReport { engine, gateway: self.shared.counts(), views, threads: self.threads(), lost })
    }

    /// Joins the workers. One that does not end is left to itself.
    fn join_threads(&mut self) {
        let begun = Instant::now();
        while !self.threads.iter().all(JoinHandle::is_finished) && begun.elapsed() < CLOSING {
            std::thread::sleep(NAP);
        }
        for (at, thread) in std::mem::take(&mut self.threads).into_iter().enumerate() {
            if thread.is_finished() {
                // One that panicked has been recorded as lost.
                let _ = thread.join();
            } else {
                let name = format!("pelton-gate-{at}");
                self.shared.watched.lost_threads.add(LostThread { name, how: ThreadEnd::Stuck });
            }
        }
    }

    /// Returns a handle that ends a [`Self::stop`] at once, from another thread: connections are closed with
    /// what is not written, and the engine stops with what is not handled. The report counts both.
    #[must_use]
    pub fn force_stop(&self) -> ForceStop {
        ForceStop(self.shared.clone())
    }

    /// Waits for the thread that reads views. If it waits for a stuck shard it is left to itself: it ends
    /// with its request.
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

/// Ends a stop at once, from another thread.
pub struct ForceStop(Arc<Shared>);

impl ForceStop {
    /// Ends the stop now.
    pub fn now(&self) {
        self.0.force_stop();
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

/// Checks the options on this machine, and returns the password that clients must give.
fn check(options: &Options) -> Result<Option<Secret>, ServeError> {
    let findings = options.all_findings(Some(&Host::look_quick())).into_iter();
    let findings: Vec<_> = findings.filter(|finding| finding.severity == Severity::Error).collect();
    if !findings.is_empty() {
        return Err(ServeError::Options(PlanErrors(findings)));
    }
    options.secret().map_err(|error| ServeError::Options(PlanErrors(vec![error])))
}

/// Starts the engine. `handler` makes the service's handler of each shard, on its thread.
fn start_engine<H: Handler<Record>>(
    shared: &Arc<Shared>,
    handler: impl Fn(ShardId) -> H + Send + Sync + 'static,
    taps: Vec<ShardTaps>,
    watermarks: &Arc<Watermarks>,
    final_totals: &FinalTotals,
) -> Result<Engine<Record>, StartError> {
    let taps: Mutex<Vec<Option<ShardTaps>>> = Mutex::new(taps.into_iter().map(Some).collect());
    let plan = shared.options.reserve(shared.options.plan.clone());
    let (shared, watermarks, final_totals) = (shared.clone(), watermarks.clone(), final_totals.clone());
    plan.start(Record::default, move |shard: ShardId| {
        let taps = taps.lock().unwrap_or_else(PoisonError::into_inner)[shard.index()].take();
        // Each shard is made once.
        let taps = taps.expect("a shard's taps are taken once");
        let (watermarks, final_totals) = (watermarks.clone(), final_totals.clone());
        GatewayHandler::new(handler(shard), &shared, taps, shard, watermarks, final_totals)
    })
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

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for ForceStop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ForceStop").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Stream;
    use crate::feed::subscriptions::ChannelId;
    use crate::feed::view_requests::{ViewRequest, ViewRequestSender};
    use crate::net::connection::ConnectionKey;
    use crate::resp::Version;
    use pelton::class::Class;
    use pelton::engine::{Plan, Profile};
    use pelton_views::{View, Which};
    use std::io::Read;
    use std::net::TcpStream;

    /// The inboxes of the workers, and the sender of requests to the thread that reads views.
    pub(crate) type Hooks = (Vec<Sender<WorkerMessage>>, ViewRequestSender);

    fn server() -> Server {
        let mut plan = Plan::new(Profile::Dev).unpinned().with_overcommitted(true).with_announce(false);
        plan = plan.with_shards(1).with_producers_max(2);
        plan.class(Class::strict("bulk").with_capacity(64).with_payload_bytes(4_096).block());
        let mut options = Options::new(plan);
        options.threads = 2;
        options.listen = vec!["127.0.0.1:0".into()];
        options.streams.push(Stream::new("events", "bulk"));
        options.views.push(View::count("all").over("events"));
        Server::start(options).unwrap()
    }

    #[test]
    fn lost_thread_stops_its_server_and_is_in_the_report() {
        // A message for a channel, and a reply for a worker, that do not exist.
        let gate = |at: usize| {
            move |(mail, _): &Hooks| {
                let text: Arc<[u8]> = Arc::from(*b"x");
                mail[at].send(WorkerMessage::Deliver { channel: ChannelId(u16::MAX), text }).unwrap();
            }
        };
        let views = |(_, sender): &Hooks| {
            let (key, version) = (ConnectionKey { slot: 0, id: u64::MAX }, Version::Resp2);
            let (thread, which) = (usize::MAX, Which::Open);
            let request = ViewRequest {
                thread,
                key,
                is_critical: false,
                version,
                view: 0,
                which,
                row: None,
                top: None,
            };
            assert!(sender.send(request));
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
            let address = server.addresses()[0].address.clone();
            let mut clients = [(); 4].map(|()| TcpStream::connect(&address).unwrap());
            let begun = Instant::now();
            while server.counts().connected < 4 {
                assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", server.counts());
                std::thread::sleep(NAP);
            }
            kill(&hooks);
            server.shared.wakers.iter().for_each(|waker| waker.wake_up());
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
