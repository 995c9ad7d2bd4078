//! The Redis serialization protocol, versions 2 and 3: requests in, replies out.
//!
//! ```text
//! bytes ─▶ Parser: where each argument lies ─▶ a command ─▶ Reply ─▶ bytes
//!                         └─ the arguments' bytes as they came, stored ─▶ Bulks, pair
//! ```
//!
//! [`frame`] finds requests and looks at nothing twice; [`bulks`] reads stored arguments; [`reply`] writes. Nothing here
//! reads or writes a socket, allocates for a request, or keeps anything of a request that is not whole.
//!
//! # Where it is stricter than Redis 7
//! - Every CRLF must be one. Redis skips two bytes after a bulk string whatever they are, and one after a CR; arguments
//!   are stored here and handed on as they came, and one client must not be able to break the framing of another.
//! - What cannot become a request any more is refused when that shows, not at the end of its line.
//! - A NUL in an inline request is refused. Redis looks past none, and waits until the request is too big.
//! - There are limits on arguments and bytes, see [`Limits`].

mod digits;
mod error;
mod header;
mod inline;

pub mod bulks;
pub mod frame;
pub mod reply;

pub use bulks::{Bulks, pair};
pub use digits::number;
pub use error::ProtocolError;
pub use frame::{Limits, Parsed, Parser, UNAUTHENTICATED_FRAME_BYTES_MAX};
pub use reply::{Reply, StampedId, Version};
