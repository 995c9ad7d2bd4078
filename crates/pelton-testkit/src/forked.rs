//! A child of the test's own process.
#![allow(unsafe_code, reason = "fork, and what a child may call")]

use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a child may take; then its alarm ends it, so that one which hangs neither holds up its test nor outlives it.
const CHILD_LIMIT_S: u32 = 20;

/// Forks, does this in the child, and waits for the end of it. The child runs nothing else of the parent's: no other test, no
/// destructor, no handler of `exit`.
///
/// # Panics
/// If the child does, or has not ended in time.
pub fn in_a_forked_child(work: impl FnOnce()) {
    // SAFETY: The child only calls what the test gives it, and leaves by `_exit`.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "no child could be forked");
    if child == 0 {
        // SAFETY: The child's own alarm.
        unsafe { libc::alarm(CHILD_LIMIT_S) };
        let ended = catch_unwind(AssertUnwindSafe(work));
        // SAFETY: Ends the child without running anything of the parent's.
        unsafe { libc::_exit(if ended.is_ok() { DONE } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: Waits for the child that was made above; the status is a local.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    let is_done = libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == DONE;
    assert!(is_done, "the child failed or hung: status {status:x}");
}

/// The exit code of a child that did all: one that nothing else has.
const DONE: i32 = 42;
