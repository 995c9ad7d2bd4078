//! The front door: a server that speaks the Redis protocol.
#![forbid(unsafe_code)]

mod record;
mod stream;
mod settings;
mod rules;
#[cfg(feature = "config")]
mod configure;
mod counts;
mod clients;
mod pool;
mod socket;
mod listen;
mod glob;
mod channel;
mod conn;
mod subscriptions;
mod shared;
mod tap;
mod handler;
mod publish;
mod desk;
mod pubsub;
mod session;
mod info;
mod mail;
mod tell;
mod query;
mod command;
mod accept;
mod worker;
mod rounds;
mod server;

#[cfg(feature = "config")]
pub use configure::{configure, streams, views};
pub use counts::{Counts, End, StreamCounts};
pub use listen::{Kind, ListenError};
pub use record::{Id, Record};
pub use rules::{STREAMS_MAX, VIEWS_MAX};
pub use server::{Hurry, Place, ServeError, Server, ServerReport};
pub use settings::{EVENT, GATEWAY, Options, THREADS_MAX};
pub use stream::{KeyFrom, STREAM, Stream};
