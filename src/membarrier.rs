//! The kernel's process-wide barrier: registration, the call, and whether it was refused after that.

use rustix::thread::{MembarrierCommand, MembarrierQuery, membarrier, membarrier_query};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering, fence};

static AVAILABLE: OnceLock<bool> = OnceLock::new();
static REFUSED: AtomicBool = AtomicBool::new(false);

pub fn register() -> bool {
    *AVAILABLE.get_or_init(|| {
        membarrier_query()
            .contains(MembarrierQuery::PRIVATE_EXPEDITED | MembarrierQuery::REGISTER_PRIVATE_EXPEDITED)
            && membarrier(MembarrierCommand::RegisterPrivateExpedited).is_ok()
    })
}

pub fn barrier() -> bool {
    // Without the kernel's barrier this fence is one half, and the publishers' own the other.
    fence(Ordering::SeqCst);
    if !register() {
        return true;
    }
    let done = membarrier(MembarrierCommand::PrivateExpedited).is_ok();
    fence(Ordering::SeqCst);
    if !done {
        REFUSED.store(true, Ordering::Relaxed);
    }
    done
}

pub fn is_refused() -> bool {
    REFUSED.load(Ordering::Relaxed)
}
