//! Buffers for what connections must keep: the beginning of a request whose rest has not come, and answers that the
//! socket did not take.
//!
//! A connection that waits for nothing holds no buffer, so ten thousand idle ones cost little. Buffers go back to the
//! thread that lent them, and what it keeps is bounded.
#![forbid(unsafe_code)]

/// The room of a fresh buffer, in bytes: a pipeline's cut-off request, or a few hundred answers.
const BYTES: usize = 4 << 10;

/// Larger ones are given back to the allocator.
const BYTES_KEPT_MAX: usize = 64 << 10;

/// Buffers kept for the next connections.
const KEPT_MAX: usize = 1_024;

/// The spare buffers of one thread.
pub(super) struct Pool {
    spare: Vec<Vec<u8>>,
}

impl Pool {
    pub fn new() -> Self {
        Pool { spare: Vec::with_capacity(KEPT_MAX) }
    }

    /// Lays a buffer out for each of so many connections, so that the first of them allocate nothing.
    pub fn warm(&mut self, connections: usize) {
        let want = connections.min(KEPT_MAX);
        while self.spare.len() < want {
            self.spare.push(Vec::with_capacity(BYTES));
        }
    }

    /// Gives a buffer room if it has none.
    pub fn lend(&mut self, to: &mut Vec<u8>) {
        if to.capacity() == 0 {
            *to = self.spare.pop().unwrap_or_else(|| Vec::with_capacity(BYTES));
        }
    }

    /// Puts bytes behind those of a buffer.
    pub fn append(&mut self, to: &mut Vec<u8>, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.lend(to);
            to.extend_from_slice(bytes);
        }
    }

    /// Takes a buffer back, and leaves none.
    pub fn take_back(&mut self, buffer: &mut Vec<u8>) {
        let mut buffer = std::mem::take(buffer);
        if (1..=BYTES_KEPT_MAX).contains(&buffer.capacity()) && self.spare.len() < KEPT_MAX {
            buffer.clear();
            self.spare.push(buffer);
        }
    }
}

/// Appends bytes to a buffer of its own, which doubles as it grows, but not beyond `bytes_max` unless what is in it is more.
pub(super) fn append_within(to: &mut Vec<u8>, bytes: &[u8], bytes_max: usize) {
    let len = to.len() + bytes.len();
    if len > to.capacity() {
        let room = (2 * to.capacity()).min(bytes_max).max(len);
        to.reserve_exact(room - to.len());
    }
    to.extend_from_slice(bytes);
}
