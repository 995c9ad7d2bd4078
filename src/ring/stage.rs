//! The stage: several claims that are written one after the other and become visible together, or not at all.

use super::producer::Producer;
use super::shape::ClaimError;

impl<E> Producer<E> {
    /// Begins a stage: several claims that are written now and published together, or not at all.
    pub fn stage(&mut self) -> Stage<'_, E> {
        self.abort_staged();
        Stage { producer: self }
    }
}

/// Several claims that become visible together. Dropping it publishes none of them.
///
/// ```
/// # use pelton::ring::{Shape, ring};
/// # let (mut tx, mut rx) = ring(Shape::slots(8), || 0u64)?;
/// let mut stage = tx.stage();
/// for i in 1..=3 {
///     stage.push(0, |event| *event = i).unwrap();
/// }
/// assert_eq!(stage.len(), 3);
/// stage.publish();
/// # let mut batch = rx.batch(8);
/// # assert_eq!(*batch.next().unwrap(), 1);
/// # Ok::<(), pelton::ring::ShapeError>(())
/// ```
#[must_use = "a stage that is dropped publishes nothing"]
pub struct Stage<'a, E> {
    producer: &'a mut Producer<E>,
}

impl<E> std::fmt::Debug for Stage<'_, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stage").field("staged", &self.producer.staged()).finish_non_exhaustive()
    }
}

impl<E> Stage<'_, E> {
    /// Claims the next slot, lets `fill` write it, and keeps it back. Never blocks.
    ///
    /// # Errors
    /// [`ClaimError`]; `fill` was not called then, and what is staged stays so.
    pub fn push(&mut self, key: u64, fill: impl FnOnce(&mut E)) -> Result<(), ClaimError> {
        let mut claim = self.producer.claim_staged(0)?;
        claim.set_key(key);
        fill(&mut claim);
        claim.stage_len(0);
        Ok(())
    }

    /// The same with a payload.
    ///
    /// # Errors
    /// [`ClaimError`]; `fill` was not called then, and what is staged stays so.
    ///
    /// # Examples
    /// ```
    /// # use pelton::ring::{Shape, ring};
    /// # let (mut tx, mut rx) = ring(Shape { payload_bytes: 64, ..Shape::slots(8) }, || 0u64)?;
    /// let mut stage = tx.stage();
    /// stage.push_bytes(7, b"first", |event| *event = 1)?;
    /// stage.push_bytes(7, b"second", |event| *event = 2)?;
    /// stage.publish();
    /// assert_eq!(rx.batch(8).next().unwrap().payload(), b"first");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn push_bytes(
        &mut self,
        key: u64,
        payload: &[u8],
        fill: impl FnOnce(&mut E),
    ) -> Result<(), ClaimError> {
        let mut claim = self.producer.claim_staged(payload.len())?;
        claim.set_key(key);
        fill(&mut claim);
        claim.payload_mut().copy_from_slice(payload);
        claim.stage_len(payload.len());
        Ok(())
    }

    /// How many events are staged.
    pub fn len(&self) -> u64 {
        self.producer.staged()
    }

    /// Whether nothing is staged.
    ///
    /// ```
    /// # use pelton::ring::{Shape, ring};
    /// # let (mut tx, rx) = ring(Shape::slots(8), || 0u64)?;
    /// let mut stage = tx.stage();
    /// assert!(stage.is_empty());
    /// stage.push(7, |event| *event = 1)?;
    /// drop(stage);                // publishes nothing
    /// assert!(!rx.is_ready());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Publishes all of them: the consumer sees all or none.
    pub fn publish(self) {
        self.producer.publish_staged();
    }
}

impl<E> Drop for Stage<'_, E> {
    fn drop(&mut self) {
        self.producer.abort_staged();
    }
}
