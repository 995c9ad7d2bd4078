//! The driver: the loop of a shard's own thread.

use super::handler::Handler;
use super::parts::ShardExit;
use super::poll::Shard;
use crate::park::{PARK_AFTER, Pacer, SLEEP_MAX, SPIN_POLLS, Wait};
use crate::sync::{barrier_is_refused, yield_now};
use std::time::{Duration, Instant};

/// How often a shard polls that has nothing to do and may not park.
const POLL_EVERY: Duration = Duration::from_micros(100);

/// Polls until the shard is stopped.
pub(crate) fn drive<E: Send + 'static, H: Handler<E>>(
    mut shard: Shard<E, H>,
    wait: Wait,
) -> ShardExit<H::Output> {
    let mut pacer = Pacer::default();
    let mut empty_polls = 0u32;
    let mut idle_since = None;
    shard.note_thread();
    while !shard.is_stopping() {
        let served = shard.poll_here();
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
        let idle = idle_since.get_or_insert_with(Instant::now).elapsed();
        let may_park = wait == Wait::Park && cfg!(feature = "park") && idle >= PARK_AFTER;
        if may_park && shard.park(SLEEP_MAX) {
            // Whatever ended the sleep, the next one is `PARK_AFTER` away: each costs an interrupt on every running
            // thread of the process.
            idle_since = None;
        } else if may_park && barrier_is_refused() {
            // No publisher could end a sleep. This one ends by itself.
            std::thread::sleep(POLL_EVERY);
        } else {
            // A shard that may not sleep now (its event is to be retried, or another shard pays for the barrier) lets
            // other threads run: it may wait for one of them.
            yield_now();
        }
    }
    shard.finish()
}
