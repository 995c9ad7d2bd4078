//! A server for the Redis protocol (RESP2 and RESP3) in front of Pelton: any Redis client publishes events and reads results.
//! `docs/gateway.md` is its guide.
//!
//! # Mechanism
//! ```text
//!   sockets ─▶ workers ─XADD, one copy─▶ lanes ─▶ shards ─▶ your handler, views
//!               ▲  ▲                              │  │
//!               │  └─────────── taps ─────────────┘  │    events of streams with subscribers
//!               └── the view reader ◀─── tallies ────┘
//! ```
//! Each worker is a thread with an event loop over its connections, and a producer with lanes of its own; each connection
//! belongs to one worker. The fields of an `XADD` are the event's payload as they came, bulk strings side by side: they are
//! copied once, from the worker's buffer into the slot.
//!
//! # Example
//! ```
//! use pelton_gateway::{Options, Record, Server, Stream};
//! use pelton_gateway::resp::pair;
//! use pelton::{Class, Context, Event, Plan, Profile};
//! use std::io::{Read, Write};
//! use std::time::Duration;
//!
//! let mut plan = Plan::new(Profile::Dev).with_shards(1).with_producers_max(1);
//! plan.class(Class::strict("orders").with_capacity(1_024).with_payload_bytes(1 << 17).reject());
//! let mut options = Options::new(plan);
//! options.listen = vec!["127.0.0.1:0".into()];
//! options.streams.push(Stream::new("orders", "orders"));
//!
//! // One handler for each shard, as with `Plan::start`.
//! let mut server = Server::start_with(options, |_shard| {
//!     |order: &mut Event<'_, Record>, _: &mut Context<'_, Record>| {
//!         assert_eq!(pair(order.payload(), b"qty"), Some(&b"300"[..]));
//!     }
//! })?;
//!
//! let mut client = std::net::TcpStream::connect(&server.addresses()[0].address)?;
//! client.write_all(b"XADD orders * symbol PLT qty 300\r\n")?;
//! let mut answer = [0; 64];
//! let n = client.read(&mut answer)?;
//! assert_eq!(answer[0], b'$', "{}", String::from_utf8_lossy(&answer[..n]));
//!
//! let report = server.stop(Duration::from_secs(1))?;
//! assert_eq!(report.gateway.streams[0].accepted, 1);
//! assert!(report.engine.ledger.is_closed());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Replies to `XADD`
//! | reply | outcome of the event | in the ledger |
//! |---|---|---|
//! | an ID, `<ms>-<sequence>` | it is in its lane | `accepted` |
//! | `-BUSY class 'c' depth n of m …` | its lane is full (`reject`), or was for too long (`block` with a limit) | `rejected(slots_full, bytes_full, timed_out)` |
//! | `-DROPPED class 'c' …` | its lane is full (`drop_newest`) | `rejected(dropped_newest)` |
//! | no reply yet | its lane is full (`block`): it waits, with all requests after it on its connection | – |
//! | `-ERR not accepted …` | it is too large for its class, or the server is shutting down | `rejected(too_large, closed)` |
//! | another error | the request is malformed: the stream is not declared, the key is missing | – |
//!
//! Only accepted events receive an ID. IDs are unique in their stream for as long as the server runs, and increase on each
//! connection. If the clock is set back and the server restarts, it may issue an ID again.
//!
//! # Order
//! Requests of one connection run, and are answered, in their order. Its events of one stream and one key are handled in that
//! order. There is no order between connections.
//!
//! # Messages
//! Messages of `stream:NAME` are JSON: `{"id":"1795280000123-0","fields":{"symbol":"PLT","qty":"300"}}`, with the fields in
//! their order and every value a string. Messages of `view:NAME` hold the figures of a window, by the names that they have in
//! a reply of `PELTON.VIEW`. Invalid UTF-8 is replaced with U+FFFD, and duplicate field names are preserved. Handlers and
//! `PELTON.VIEW` replies carry the raw bytes.
//!
//! `SUBSCRIBE` and `PSUBSCRIBE` succeed as a whole or not at all. A pattern that matches nothing is accepted; a name that is
//! not a channel is an error. A connection has at most 1,024 subscriptions, and 4,096 pairs of a subscription and a channel
//! that it matches; it receives a message once for each pair. No message arrives between the replies of an `EXEC`.
//!
//! # Misbehaving clients
//! A malformed request closes its connection. A client that does not read its replies is not read either, and is closed after
//! `stall_s`; so is one that does not go on with a request that it began (16 KiB within `stall_s` are enough). A message that a
//! subscriber has no room for is lost to it alone, counted, and reported to it (`{"lost":N}`). Every closed connection has a
//! counted reason ([`End`]). An idle connection holds no buffer. At most one request to a view waits for each connection, and
//! is withdrawn with it.
//!
//! A connection that has not authenticated, or not finished its TLS handshake, is limited to requests of 20 KiB, 4 KiB of
//! pending replies, 16 requests without the right password, and `stall_s` in all. Everything but `AUTH`, `HELLO`, `QUIT` and
//! `RESET` gets the same `-NOAUTH`. When all slots are taken, a newcomer displaces the oldest such connection
//! ([`End::Displaced`]). Critical connections have slots and spare descriptors of their own. The threat model in
//! `docs/gateway.md` has the rest.
//!
//! # Lost threads
//! If a thread of the gateway panics, the server stops: its listeners and connections close. [`Server::watch`] waits for that,
//! and [`Server::stop`] reports it ([`ServerReport::lost`]).
//!
//! # Time
//! IDs and windows follow the system's clock without its jumps. A step of more than a second is followed once it has lasted
//! for 30 s. After a step back, time goes on at half its pace until both clocks agree.
//!
//! A server runs on the clock of its plan ([`Plan::with_clock`](pelton::Plan::with_clock)). On a virtual clock, a test moves
//! the server through its timeouts: idle and stalled connections, classes that block for a time, windows of views. IDs,
//! windows and `TIME` then begin at 2020-01-01, 00:00 UTC. The deadline of [`Server::stop`] and the limit of [`Watch::wait`]
//! are real time on any clock, and so is the time that a shard may take to answer a view.
//!
//! ```
//! use pelton_gateway::{End, Options, Server};
//! use pelton::{Plan, Profile, clock::Clock};
//! use std::{net::TcpStream, thread, time::Duration};
//!
//! let (clock, time) = Clock::virtual_time();
//! let plan = Plan::new(Profile::Dev).with_shards(1).with_producers_max(1).with_clock(clock);
//! let mut options = Options { idle: Some(Duration::from_secs(300)), ..Options::new(plan) };
//! # options.plan.class(pelton::Class::strict("orders").with_capacity(64).with_payload_bytes(4_096).reject());
//! # options.streams.push(pelton_gateway::Stream::new("orders", "orders"));
//! options.listen = vec!["127.0.0.1:0".into()];
//! let mut server = Server::start(options)?;
//!
//! let silent = TcpStream::connect(&server.addresses()[0].address)?;
//! while server.counts().connections() == 0 {
//!     thread::yield_now();
//! }
//! // Five minutes later, without waiting for them.
//! time.advance(Duration::from_secs(301));
//! while server.counts().ended(End::Idle) == 0 {
//!     thread::yield_now();
//! }
//! server.stop(Duration::from_secs(1))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Encryption
//! With the feature `tls`, `listen_tls` accepts connections under TLS 1.3 or 1.2, by rustls; without it, that setting is an
//! error. The certificate and its key are read at start. Clients are not asked for certificates. A handshake that fails, does
//! not finish within `stall_s`, or takes more than 16 KiB from the client ends as [`End::Tls`]; nothing of it is taken for a
//! request.
//!
//! An idle encrypted connection takes some 8 KiB, one in the clear less than one; replies that it does not read take up to
//! 64 KiB more. Decryption and encryption allocate, where connections in the clear do not. A handshake delays its worker, with
//! all connections of that worker, for as long as a signature takes; a round serves four handshakes at most. ECDSA keys sign
//! many times faster than RSA keys. The last 256 sessions can be resumed. A connection that is rejected gets no error, since
//! that would need a handshake.
//!
//! # What it does not do
//! - It keeps no events: there is no `XRANGE`, no `XREAD` and no consumer group. `MAXLEN` and `MINID` are accepted without
//!   effect, and `XLEN` counts the events since startup.
//! - `MULTI` … `EXEC` does not isolate: requests of other connections may run in between, and if the connection or the server
//!   ends meanwhile, the rest does not run.
//! - It is not a cluster, and has one user and one database.
//! - It does not bound the time of a handler: a slow one fills its lanes, and the policies above apply.
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod resp;

mod config;
mod feed;
mod net;
mod command;
mod server;

pub use config::load::{configure, streams, views};
pub use config::settings::{EVENT, GATEWAY, Options, THREADS_MAX};
pub use config::stream::{KeyFrom, STREAM, Stream};
pub use config::validate::{STREAMS_MAX, VIEWS_MAX};
pub use feed::event::{Id, Record};
pub use net::listener::{ListenError, ListenerKind};
pub use server::lifecycle::{
    BoundAddress, ForceStop, ServeError, Server, ServerReport, ViewCounts, WorkerPlacement,
};
pub use server::metrics::{Counts, End, StreamCounts};
pub use server::watch::{LostThread, ThreadEnd, Watch};
