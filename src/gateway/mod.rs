//! The front door: a server that speaks the Redis protocol.
#![forbid(unsafe_code)]

mod record;
mod stream;
mod settings;
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
mod command;
mod mail;
mod accept;
mod worker;
mod rounds;
mod server;

pub use counts::{Counts, End, StreamCounts};
pub use listen::{Kind, ListenError};
pub use record::{Id, Record};
pub use server::{Hurry, Place, ServeError, Server, ServerReport};
pub use settings::Options;
pub use stream::{KeyFrom, Stream};
