//! The mailbox: how the control plane sends commands to a shard.
//!
//! # Mechanism
//! A sender adds its command to a list, under a lock, and then raises `MAIL` in the shard's waker. The shard opens the
//! mailbox only when its waker says that there is a command. It never waits for the lock: if a sender holds it, the
//! shard raises `MAIL` again itself and tries at its next poll.
//!
//! # Invariants
//! - A shard that takes `MAIL` and opens the mailbox finds every command whose sender raised that `MAIL`.
//! - A mailbox that is closed keeps nothing: what is in it, and what is sent to it later, is dropped, so that a command
//!   cannot keep alive what it captured (an `Arc` of its own engine, say).

use crate::lane::LaneProducer;
#[cfg(feature = "latency")]
use crate::latency::Recorder;
use crate::memory::seal::{NotCounted, Seal};
use crate::park::{ShardWaker, bit};
use crate::sync::{Arc, Mutex, discard};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{PoisonError, TryLockError};

/// A look at the handler, whose type the question knows.
pub(crate) type Question = Box<dyn FnOnce(&mut dyn Any) + Send>;

/// Where the tallies go.
#[cfg(feature = "latency")]
pub(crate) type Reply = Box<dyn FnOnce(Vec<Recorder>) + Send>;

/// Where it goes whether a shard could be sealed.
pub(crate) type SealReply = Box<dyn FnOnce(Result<(), NotCounted>) + Send>;

/// What the control plane asks of a shard; carried out between two polls.
pub(crate) enum Command<E> {
    /// Look at the handler.
    Ask(Question),
    /// Swap the tallies for the empty ones that are given, and hand the full ones over.
    #[cfg(feature = "latency")]
    Latency(Vec<Recorder>, Reply),
    /// The writing ends of the mesh.
    Mesh(Box<[LaneProducer<E>]>),
    /// Seal the thread, once the handler has started.
    Seal(Seal, SealReply),
}

/// The commands that one shard has not read yet; `None` after the shard's end.
pub(crate) struct Mailbox<E>(Mutex<Option<Vec<Command<E>>>>);

impl<E> Default for Mailbox<E> {
    fn default() -> Self {
        Mailbox(Mutex::new(Some(Vec::new())))
    }
}

impl<E> Mailbox<E> {
    /// Sends a command to the shard of `waker`. A closed mailbox drops it.
    pub fn send(&self, command: Command<E>, waker: &ShardWaker) {
        let mut refused = None;
        match &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(commands) => commands.push(command),
            None => refused = Some(command),
        }
        // Dropped after the lock is released: a command may own values of any type.
        if refused.is_none() {
            waker.raise(bit::MAIL);
        }
    }

    fn close(&self) {
        let commands = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        for command in commands.into_iter().flatten() {
            let _ = catch_unwind(AssertUnwindSafe(|| drop(command))).map_err(discard);
        }
    }
}

/// The reading end of a mailbox, which its shard owns. Dropping it closes the mailbox.
pub(crate) struct Inbox<E>(Arc<Mailbox<E>>);

impl<E> Inbox<E> {
    pub fn new(mailbox: Arc<Mailbox<E>>) -> Self {
        Inbox(mailbox)
    }

    /// Takes the commands. `None` if a sender holds the lock at this moment; `MAIL` is raised again then.
    pub fn try_take(&self, waker: &ShardWaker) -> Option<Vec<Command<E>>> {
        let mut commands = match self.0.0.try_lock() {
            Ok(commands) => commands,
            // A sender that panicked left the list as it was.
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                waker.raise(bit::MAIL);
                return None;
            }
        };
        Some(commands.as_mut().map(std::mem::take).unwrap_or_default())
    }
}

impl<E> Drop for Inbox<E> {
    fn drop(&mut self) {
        self.0.close();
    }
}
