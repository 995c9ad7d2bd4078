//! The server: its threads, the loop of each, what they share and count.

pub(crate) mod clock;
pub(crate) mod event_loop;
pub(crate) mod lifecycle;
pub(crate) mod metrics;
pub(crate) mod state;
pub(crate) mod sweep;
pub(crate) mod turn;
pub(crate) mod wall_clock;
pub(crate) mod watch;
pub(crate) mod worker;
