//! The driver: the loop of a shard's own thread.
#![forbid(unsafe_code)]

use super::handler::Handler;
use super::parts::ShardEnd;
use super::poll::Shard;
use crate::sync::yield_now;
use crate::wait::{NAP, PARK_AFTER, Pacer, SPIN_POLLS, Wait};
use std::time::Instant;

/// Polls until the shard is told to stop.
pub(crate) fn drive<E: Send + 'static, H: Handler<E>>(
    mut shard: Shard<E, H>,
    wait: Wait,
) -> ShardEnd<H::Output> {
    let mut pacer = Pacer::default();
    let mut empty_polls = 0u32;
    let mut idle_since = None;
    while !shard.is_stopping() {
        let served = shard.poll();
        pacer.after(served);
        if served > 0 {
            empty_polls = 0;
            idle_since = None;
            continue;
        }
        empty_polls = empty_polls.saturating_add(1);
        if wait == Wait::Spin || empty_polls < SPIN_POLLS {
            continue;
        }
        let idle_since = *idle_since.get_or_insert_with(Instant::now);
        let may_park = wait == Wait::Park && cfg!(feature = "park") && idle_since.elapsed() >= PARK_AFTER;
        // A shard that may not sleep just now (its event is to be retried, or another shard pays for the barrier) lets
        // others run: they may be what it waits for.
        if !(may_park && shard.park(NAP)) {
            yield_now();
        }
    }
    shard.finish()
}
