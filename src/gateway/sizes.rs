//! The memory of a gateway that shards have besides the engine's: it is reserved, so that it stands in the footprint and is
//! checked with it.
#![forbid(unsafe_code)]

use super::settings::Options;
use super::tap::bytes_of_shard;
use crate::engine::Plan;
use crate::views::Tally;

/// What the taps are called in the footprint.
const TAPS: &str = "taps: events for subscribers";

impl Options {
    /// A plan with the memory of views and taps, in the place of what it had reserved for them. Taps have room for the
    /// largest payload of the classes of [`Options::plan`].
    #[must_use]
    pub fn reserve(&self, mut plan: Plan) -> Plan {
        let views = self.views.iter().map(|view| (format!("view '{}'", view.name), Tally::bytes(view)));
        for (name, bytes) in views.chain([(TAPS.to_string(), bytes_of_shard(self))]) {
            plan.reserved.retain(|(known, _)| *known != name);
            plan = plan.reserve(name, bytes);
        }
        plan
    }
}
