//! The front door: a server that speaks the Redis protocol (RESP2 and RESP3), so that any of its clients publishes events
//! and reads results.
//!
//! # Mechanism
//! ```text
//!   sockets ─▶ gateway threads ─XADD, one copy─▶ lanes ─▶ shards ─▶ your handler, views
//!                 ▲      ▲                                 │  │
//!                 │      └──────────── taps ───────────────┘  │    events of streams that somebody has subscribed to
//!                 └── a thread that reads views ◀── tallies ──┘
//! ```
//! Each gateway thread is a loop over its connections and a producer with its own lanes; each connection belongs to one of
//! them. The fields of an `XADD` are the event's payload as they came, bulk strings side by side: they are copied once, from
//! the socket's buffer into the slot.
//!
//! # Example
//! ```
//! use pelton::gateway::{Options, Record, Server, Stream};
//! use pelton::resp::pair;
//! use pelton::{Class, Context, Event, Plan, Profile};
//! use std::io::{Read, Write};
//! use std::time::Duration;
//!
//! let mut plan = Plan::new(Profile::Dev).shards(1).producers_max(1);
//! plan.class(Class::strict("orders").capacity(1_024).payload_bytes(1 << 17).reject());
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
//! let mut client = std::net::TcpStream::connect(&server.places()[0].address)?;
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
//! # What is answered
//! | answer to `XADD` | what became of the event | in the ledger |
//! |---|---|---|
//! | an id, `<ms>-<sequence>` | it is in its lane | `accepted` |
//! | `-BUSY class 'c' depth n of m …` | its lane is full (`reject`), or was for too long (`block` with a limit) | `rejected(slots_full, bytes_full, timed_out)` |
//! | `-DROPPED class 'c' …` | its lane is full (`drop_newest`) | `rejected(dropped_newest)` |
//! | nothing yet | its lane is full (`block`): it waits, with all that its connection says after it | – |
//! | `-ERR not accepted …` | too large for its class, or the server stops | `rejected(too_large, closed)` |
//! | another error | it was no event: a stream that is none, a key that is missing | – |
//!
//! An id is given to what is accepted and to nothing else, is unique in its stream for as long as the server runs, and
//! increases on each connection. After a restart with a clock that was set back, an id may come again.
//! `MAXLEN` and `MINID` are taken and trim nothing, since nothing is kept: `XLEN` counts what was accepted since start.
//!
//! # Messages
//! Those of `stream:NAME` are JSON, `{"id":"1795280000123-0","fields":{"symbol":"PLT","qty":"300"}}`, the fields in their order
//! and each value a string; those of `view:NAME` hold the figures of a window, by the names that they have in an answer of
//! `PELTON.VIEW`. JSON does not hold everything that an event may: bytes that are no UTF-8 become U+FFFD, in names, values and the keys of views; a field that an event has
//! twice stands there twice, and most readers keep the last one alone. Handlers, and the answers of `PELTON.VIEW`, have the
//! bytes as they came.
//!
//! `SUBSCRIBE` and `PSUBSCRIBE` are carried out as a whole or not at all: one confirmation for each name, or one error. A
//! pattern that matches nothing is accepted, a name that is not a channel is not. A connection has at most 1,024
//! subscriptions, and 4,096 pairs of a subscription and a channel that it matches; it has a message once for each. What is
//! to be delivered is delivered in pieces, between which critical connections are served. Between the head of an `EXEC` and
//! its last answer there is no message.
//!
//! # Other commands
//! Those by which clients and load balancers find out what they talk to answer as a single Redis 7.0 node without replicas:
//! `HELLO`, `ROLE`, `INFO` (`INFO server` has Pelton's own version), `CLUSTER`, `CONFIG GET`, `COMMAND`. `WATCH` and `UNWATCH`
//! are accepted, as nothing that is watched could change. `XLEN` counts since start, and is an error for a stream that is not
//! declared, as `XADD` is. `CLIENT LIST` has connections of a `TYPE`, or with an `ID`, or all, unless that is more than
//! `output_max_bytes`; `CLIENT KILL` closes those with an `ID`, `ADDR`, `TYPE` or `USER`. `DBSIZE` counts the streams. `CLIENT TRACKING` is an error: no cache would ever be invalidated.
//!
//! # Order
//! Requests of a connection are carried out and answered in their order. Its events of one stream and one key are handled in
//! that order. Between connections there is none.
//!
//! # What a client that misbehaves costs
//! Itself. What is not a request ends its connection; answers that it does not read stop it from being read, and end it after
//! `stall_s`, and so does a request that it began and does not go on with (16 KiB within `stall_s` are enough); a message that a
//! subscriber has no room for is lost to it alone, counted, and reported to it (`{"lost":N}`). Each end has a counted reason
//! ([`End`]). An idle connection holds no buffer. Of each connection one question to a view waits at most, and goes with it;
//! gatherings for all of them take a tenth of a shard's time at most.
//!
//! # Strangers
//! A connection that has not authenticated, or not finished its TLS handshake, has narrow bounds: 20 KiB of a request, 4 KiB of
//! answers that are pending, 16 requests without the right password, and `stall_s` in all. Everything but `AUTH`, `HELLO`, `QUIT`
//! and `RESET` is answered with the same `-NOAUTH`. When all places are taken, the oldest stranger is closed for a newcomer
//! ([`End::Displaced`]). Critical connections have places of their own, and descriptors that are kept back for them. The README's
//! threat model has the rest.
//!
//! # Threads that are lost
//! A thread of the gateway that panics makes the server stop: its listeners close and its connections end. [`Server::watch`] waits
//! for that; [`Server::stop`] reports it ([`ServerReport::lost`]).
//!
//! # Time
//! Ids and windows have the system's time, but for its jumps: a step of more than a second is followed when it has lasted for 30 s.
//! After a step back time goes on at half its pace until both agree.
//!
//! # Encryption
//! With the feature `tls`, `listen_tls` takes connections under TLS 1.3 or 1.2, by rustls; without it, it is refused. The
//! certificate and its key are read at start, and again at the next; clients are asked for none. A handshake that fails, is not
//! finished within `stall_s`, or takes more than 16 KiB of the client ends as [`End::Tls`]; nothing of it is taken for a request.
//!
//! What it costs: some 8 KiB for an idle connection, where one in the clear takes less than one; up to 64 KiB more of answers
//! that it does not read; allocations for what is decrypted and encrypted, which connections in the clear have not. A handshake
//! holds its thread up, with all its connections, for as long as a signature takes, and a lock for as long as the session is
//! noted, of which the last 256 can be resumed. A round of turns has four handshakes at most. Keys of ECDSA sign many times faster
//! than those of RSA. A connection that is turned away gets no error, since that would need a handshake.
//!
//! # What it does not do
//! `MULTI` … `EXEC` carries the requests between them out one after the other, or none of them if one is not valid; those of
//! other connections may come in between, and if the connection or the server ends meanwhile, the rest is not carried out. It
//! keeps no events: there is no `XRANGE` or `XREAD`, and no group. It is not a cluster, has one user and one database.
//! Shards are not the gateway's: a handler that takes long fills its lanes, and the policies above say what follows.
#![forbid(unsafe_code)]

mod wall;
mod record;
mod stream;
mod options;
mod settings;
#[cfg(feature = "tls")]
mod tls;
mod places;
mod advice;
mod rules;
#[cfg(feature = "config")]
mod configure;
#[cfg(feature = "config")]
mod draft;
mod counts;
mod clients;
mod pool;
mod socket;
mod socket_file;
mod listen;
mod glob;
mod channel;
mod conn;
mod subscriptions;
mod watch;
mod shared;
mod guard;
mod tap;
mod sizes;
mod closed;
#[cfg(feature = "config")]
mod costs;
mod handler;
mod publish;
mod mail;
mod questions;
mod desk;
mod pubsub;
mod info;
mod session;
mod listing;
mod tell;
mod gather;
mod reader;
mod query;
mod transaction;
mod command;
mod accept;
mod worker;
mod lifetime;
mod deliver;
mod rounds;
mod server;

#[cfg(feature = "config")]
pub use configure::{configure, streams, views};
pub use counts::{Counts, End, StreamCounts};
#[cfg(feature = "config")]
pub use draft::{Drafted, answers, draft};
pub use guard::Watch;
pub use listen::{Kind, ListenError};
pub use record::{Id, Record};
pub use rules::{STREAMS_MAX, VIEWS_MAX};
pub use server::{GateThread, Hurry, Place, ServeError, Server, ServerReport, ViewCounts};
pub use settings::{EVENT, GATEWAY, Options, THREADS_MAX};
pub use stream::{KeyFrom, STREAM, Stream};
pub use watch::{LostThread, ThreadEnd};
