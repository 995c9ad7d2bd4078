//! The parts of a shard, and what is left of it after its end.

use super::lanes::Lanes;
use super::mailbox::Inbox;
use super::quarantine::Quarantine;
use crate::class::Sample;
use crate::clock::Clock;
use crate::event::{ProducerId, ShardId};
#[cfg(feature = "latency")]
use crate::latency::ClassLatency;
use crate::latency::Recorder;
use crate::memory::scratch::Scratch;
use crate::memory::seal::Sealed;
use crate::park::ShardWaker;
use crate::producer::EngineShared;
use std::any::Any;
use std::sync::Arc;

/// How one class is treated by the shard.
pub(crate) struct ClassRule {
    /// Age after which an event expires, in ticks.
    pub ttl: Option<u64>,
    /// Which events carry a stamp.
    pub stamped: Sample,
    /// Which of them are measured.
    pub measured: Sample,
}

impl ClassRule {
    /// Whether anything is made of the stamps but to show them to the handler.
    #[inline(always)]
    pub fn takes_clock(&self) -> bool {
        cfg!(feature = "latency") || self.ttl.is_some()
    }

    /// How much too late an event of this age is, in ticks; `None` where it is not.
    #[inline(always)]
    pub fn lateness(&self, age: u64) -> Option<u64> {
        self.ttl.filter(|ttl| age > *ttl).map(|ttl| age - ttl)
    }
}

/// All that a shard is made of.
pub(crate) struct ShardParts<E> {
    pub id: ShardId,
    pub mesh_id: ProducerId,
    pub shared: Arc<EngineShared<E>>,
    pub waker: Arc<ShardWaker>,
    pub inbox: Inbox<E>,
    pub clock: Clock,
    pub scratch: Scratch,
    pub rules: Vec<ClassRule>,
    pub lanes: Lanes<E>,
    /// For how long an event may be retried, in ticks.
    pub retry_limit: u64,
    pub stop_on_panic: bool,
    /// Class by class.
    pub recorders: Vec<Recorder>,
}

/// What is left of a shard that has stopped.
#[non_exhaustive]
#[derive(Debug)]
pub struct ShardExit<T> {
    /// The shard.
    pub shard: ShardId,
    /// What the handler left; `None` where its `on_stop` panicked, or it never started.
    pub output: Option<T>,
    /// Panics of the handler.
    pub quarantine: Quarantine,
    /// Allocations on the shard's thread between its start and its stop; `None` where nobody counts them.
    pub allocations: Option<u64>,
    /// What the thread did with the heap from its seal to its stop; `None` where it was not sealed, or ended on another
    /// thread than the one that was.
    pub sealed: Option<Sealed>,
    /// Requests that the scratch arena refused.
    pub scratch_refused: u64,
    /// Latencies by class, since the last snapshot.
    #[cfg(feature = "latency")]
    pub latency: Vec<ClassLatency>,
}

impl<T: Send + 'static> ShardExit<T> {
    /// The same with an output of unknown type.
    pub(crate) fn boxed(self) -> ShardExit<Box<dyn Any + Send>> {
        let ShardExit { shard, output, quarantine, allocations, sealed, scratch_refused, .. } = self;
        ShardExit {
            shard,
            output: output.map(|output| Box::new(output) as Box<dyn Any + Send>),
            quarantine,
            allocations,
            sealed,
            scratch_refused,
            #[cfg(feature = "latency")]
            latency: self.latency,
        }
    }
}
