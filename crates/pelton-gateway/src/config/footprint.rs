//! The memory of a gateway besides the engine's: it is reserved, so that it stands in the footprint and is checked with it.
//!
//! # What is in it
//! What is laid out at start: of each shard its tallies and taps; of the thread that reads views a tally of each, with room for
//! what all shards keep; of each gateway thread the places and queues of connections and the buffers of a turn. What is laid
//! out for connections is resident once they have come.
//!
//! # What is not in it
//! What connections take when they have something to say, as it would be far more than they ever take together:
//! - each of them a request that is not all there (`frame_max_bytes` and `read_budget_bytes` at most), a transaction (the requests
//!   between `MULTI` and `EXEC`: `frame_max_bytes` at most, in a buffer that becomes that of its requests at `EXEC`), answers
//!   that it has not taken (`output_max_bytes` and one answer), messages that it has not taken (`subscriber_max_bytes`), its
//!   subscriptions (1,024 names of at most 1,024 bytes, and 4,096 pairs of a name and a channel, of some 50 bytes each), and its
//!   encryption;
//! - of these, a connection that has not authenticated takes 20 KiB of a request in a buffer of 32 KiB, and 4 KiB of answers; it
//!   has no transaction, no messages and no subscriptions;
//! - spare buffers that a thread keeps for them, 64 MiB at most, a quarter of a MiB at start;
//! - the arguments of a request that is being read;
//! - what the thread that reads views takes while it reads one: 32 bytes for each row of each pane that a window is made of,
//!   40 for each value of a top, the lines of the reading, and the answers that are on their way (equal ones once). Where it
//!   does not fit, the question is answered with an error.

use crate::config::settings::Options;
use crate::feed::tap::bytes_of_shard;
use crate::net::connection::Connection;
use pelton::engine::Plan;
use pelton_views::Tally;

/// What the taps are called in the footprint.
const TAPS: &str = "taps: events for subscribers";

/// What the gateway threads are called there.
const THREADS: &str = "gateway threads: places of connections, buffers";

/// What a thread's buffer for answers has beyond `output_max_bytes`.
pub(crate) const OUT_BYTES_MORE: usize = 64 << 10;

/// Bytes that a gateway thread lays out at start. A place of the slab is a connection or the next place that is free; each of
/// the queues has a number for every connection that may stand in it.
fn bytes_of_thread(options: &Options) -> u64 {
    let queues = if options.listen_tls.is_empty() { 1 } else { 2 };
    let connection = size_of::<Option<(usize, Connection)>>() + queues * size_of::<usize>();
    let buffers = options.read_budget_bytes as usize + options.output_bytes_max as usize + OUT_BYTES_MORE;
    let urgent = options.critical_connections_total() * size_of::<usize>();
    options.connections_total() as u64 * connection as u64 + (urgent + buffers) as u64
}

impl Options {
    /// A plan with the memory of views, taps and gateway threads, in the place of what it had reserved for them. Taps have
    /// room for the largest payload of the classes of [`Options::plan`].
    ///
    /// It is what a gateway lays out at start. What connections take when they have something to say is not in it:
    /// requests that are not all there, answers and messages that were not taken, each up to its limit for each
    /// connection; spare buffers, up to 64 MiB a thread; encryption; and the answer of a view on its way.
    pub fn reserve(&self, mut plan: Plan) -> Plan {
        for view in &self.views {
            plan = plan.reserve(format!("view '{}'", view.name), Tally::bytes(view));
        }
        plan = plan.reserve(TAPS, bytes_of_shard(self));
        for view in &self.views {
            let all = Tally::bytes(&view.over_shards(self.plan.shards()));
            plan = plan.reserve_each(format!("view '{}': all shards together", view.name), 1, all);
        }
        plan.reserve_each(THREADS, self.threads.into(), bytes_of_thread(self))
    }
}
