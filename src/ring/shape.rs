//! The shape of a ring, what is wrong with one, and why a claim is refused.

use super::payload::Bytes;
use super::slots::SlotLayout;
use crate::class::{CAPACITY_MAX, PAYLOAD_BYTES_MAX, STAMP_ONE_IN_MAX};
use crate::event::Rejection;
use crate::memory::region::{MemoryRefused, need};
use std::alloc::Layout;
use std::error::Error;
use std::fmt;

/// The shape of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Slots: a power of two, 1 to 2^26.
    pub capacity: u32,
    /// Bytes of the payload ring: 0 or a power of two, 64 to 2^30.
    pub payload_bytes: u32,
    /// Bytes of the largest payload: at most half of the payload ring. `None` is that half.
    pub payload_max: Option<u32>,
    /// Whether slots carry a stamp.
    pub stamped: bool,
    /// The first sequence; 0 unless a test wants to be near a wrap.
    pub first_sequence: u64,
}

impl Shape {
    /// A ring of this many slots, without payloads and stamps.
    ///
    /// ```
    /// use pelton::ring::{Shape, ShapeError, ring};
    /// let shape = Shape { payload_bytes: 4_096, ..Shape::slots(64) };
    /// assert!(ring(shape, || 0u64).is_ok());
    /// let error = ring(Shape::slots(1_000), || 0u64).unwrap_err();
    /// assert_eq!(error, ShapeError::Capacity(1_000));
    /// assert!(error.to_string().ends_with("1024 would work"));
    /// ```
    pub fn slots(capacity: u32) -> Self {
        Shape { capacity, payload_bytes: 0, payload_max: None, stamped: false, first_sequence: 0 }
    }
}

/// Why a ring cannot be made.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShapeError {
    /// The capacity is no power of two, or out of range.
    Capacity(u32),
    /// The payload ring's size is no power of two, or out of range.
    PayloadBytes(u32),
    /// The largest payload is more than half of the payload ring.
    PayloadMax {
        /// Bytes of the largest payload.
        asked: u32,
        /// Bytes of the payload ring.
        bytes: u32,
    },
    /// A class stamps one event in a number that is no power of two, or out of range.
    Stamp(u32),
    /// The system refused the memory.
    Memory(MemoryRefused),
}

impl fmt::Display for ShapeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Capacity(capacity) => {
                let near = nearest_power(capacity, CAPACITY_MAX);
                write!(
                    f,
                    "capacity is {capacity}, but must be a power of two from 1 to {CAPACITY_MAX}; {near} would work"
                )
            }
            Self::PayloadBytes(bytes) => {
                let near = nearest_power(bytes.max(64), PAYLOAD_BYTES_MAX);
                write!(
                    f,
                    "payload_bytes is {bytes}, but must be 0 or a power of two from 64 to {PAYLOAD_BYTES_MAX}; {near} would work"
                )
            }
            Self::PayloadMax { asked, bytes } => {
                let half = bytes / 2;
                write!(
                    f,
                    "payload_max is {asked}, but must be at most {half}, half of the payload ring; {half} would work"
                )
            }
            Self::Stamp(one_in) => {
                let near = nearest_power(one_in.max(2), STAMP_ONE_IN_MAX);
                write!(
                    f,
                    "stamps are one in {one_in}, but must be one in a power of two from 2 to {STAMP_ONE_IN_MAX}; \
                     {near} would work"
                )
            }
            Self::Memory(error) => error.fmt(f),
        }
    }
}

impl Error for ShapeError {}

impl From<MemoryRefused> for ShapeError {
    fn from(error: MemoryRefused) -> Self {
        ShapeError::Memory(error)
    }
}

/// The power of two at or above `n`, within 1 to `max`: the value that an error proposes.
pub(crate) fn nearest_power(n: u32, max: u32) -> u32 {
    n.clamp(1, max).next_power_of_two().min(max)
}

impl Shape {
    pub(crate) fn check(&self) -> Result<(), ShapeError> {
        if !self.capacity.is_power_of_two() || self.capacity > CAPACITY_MAX {
            return Err(ShapeError::Capacity(self.capacity));
        }
        let bytes = self.payload_bytes;
        if bytes != 0 && (!bytes.is_power_of_two() || !(64..=PAYLOAD_BYTES_MAX).contains(&bytes)) {
            return Err(ShapeError::PayloadBytes(bytes));
        }
        if let Some(asked) = self.payload_max.filter(|max| *max > bytes / 2) {
            return Err(ShapeError::PayloadMax { asked, bytes });
        }
        Ok(())
    }

    /// Bytes of the largest payload.
    pub(crate) fn payload_max(&self) -> u32 {
        self.payload_max.unwrap_or(self.payload_bytes / 2)
    }

    /// Where the fields of a slot are, for an event of this layout.
    pub(crate) fn slot_layout(&self, event: Layout) -> SlotLayout {
        SlotLayout::of(event, self.stamped, self.payload_bytes > 0)
    }

    /// Bytes of one slot.
    pub(crate) fn slot_bytes(&self, event: Layout) -> usize {
        self.slot_layout(event).stride
    }

    /// Bytes that the slots take of their region.
    pub(crate) fn slots_need(&self, event: Layout) -> usize {
        need(self.slot_layout(event).array(self.capacity))
    }

    /// Bytes that the payload ring takes of its region.
    pub(crate) fn payload_need(&self) -> usize {
        need(Bytes::layout(self.payload_bytes))
    }
}

/// Why a claim was refused.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimError {
    /// No slot is free.
    SlotsFull,
    /// A slot is free, but not enough contiguous payload bytes.
    BytesFull,
    /// More was asked for than the largest payload may have: half of the payload ring, or less where that was said.
    TooLarge {
        /// Bytes asked for.
        asked: usize,
        /// The most that a claim may ask for.
        limit: usize,
    },
    /// One of the two ends is closed.
    Closed,
}

impl fmt::Display for ClaimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SlotsFull => f.write_str("all slots hold events that are not released yet"),
            Self::BytesFull => f.write_str("not enough contiguous payload bytes are free"),
            Self::TooLarge { asked, limit } => {
                write!(f, "a payload of {asked} bytes is larger than the limit of {limit}")
            }
            Self::Closed => f.write_str("the ring is closed"),
        }
    }
}

impl Error for ClaimError {}

impl From<ClaimError> for Rejection {
    fn from(refused: ClaimError) -> Self {
        match refused {
            ClaimError::SlotsFull => Rejection::SlotsFull,
            ClaimError::BytesFull => Rejection::BytesFull,
            ClaimError::TooLarge { .. } => Rejection::TooLarge,
            ClaimError::Closed => Rejection::Closed,
        }
    }
}
