//! What an event needs to know of its view: the declaration, made ready for the way of every event.

use super::view::{Measure, PastKeys, View};
use crate::names::HashSecret;
use pelton::buckets::{bucket, exact_bits};

/// A view as its panes need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// What keys and values are hashed with.
    pub secret: HashSecret,
    pub measure: Measure,
    /// Whether it has rows by key.
    pub is_keyed: bool,
    /// Whether what is past the keys is dropped.
    pub drops: bool,
    /// The keys of a pane; 0 where it has none.
    pub keys_max: usize,
    pub key_bytes_max: usize,
    /// The bytes of all keys of a pane.
    pub keys_bytes: usize,
    pub values_max: usize,
    pub value_bytes_max: usize,
    /// The bytes of all values of a pane, each with the number of its row.
    pub values_bytes: usize,
    /// In units.
    pub value_max: u64,
    /// Of what quantiles are counted, in billionths.
    pub unit: u32,
    pub digits: u8,
    pub exact_bits: u32,
    /// How far a hash is shifted for the number of its register.
    pub register_shift: u32,
    /// What else each row has: so many counts, registers or bytes.
    pub cell: usize,
}

impl Shape {
    pub fn of(view: &View, secret: &HashSecret) -> Self {
        let (bits, value_max) = (exact_bits(view.digits), view.value_max_in_units());
        Shape {
            secret: secret.clone(),
            measure: view.measure,
            is_keyed: view.by.is_some(),
            drops: view.past_keys == PastKeys::Drop,
            keys_max: if view.by.is_some() { view.keys_max } else { 0 },
            key_bytes_max: view.key_max_bytes,
            keys_bytes: view.keys_max.saturating_mul(view.key_max_bytes),
            values_max: view.values_max,
            value_bytes_max: view.value_max_bytes,
            values_bytes: view.values_max.saturating_mul(view.value_max_bytes + size_of::<u32>()),
            value_max,
            unit: 10u32.pow(View::PLACES_MAX - u32::from(view.places)),
            digits: view.digits,
            exact_bits: bits,
            register_shift: u64::BITS - view.registers.ilog2(),
            cell: match view.measure {
                Measure::Quantiles => bucket(value_max, bits) + 1,
                Measure::Distinct => view.registers as usize,
                Measure::Last => view.value_max_bytes,
                _ => 0,
            },
        }
    }

    /// Rows with and without a key.
    pub fn rows_max(&self) -> usize {
        self.keys_max + 1
    }

    /// Whether what `other` keeps can be added to what this keeps: all but the room is the same, and there is as much.
    pub fn takes(&self, other: &Shape) -> bool {
        let without_room = |shape: &Shape| Shape {
            keys_max: 0,
            keys_bytes: 0,
            values_max: 0,
            values_bytes: 0,
            ..shape.clone()
        };
        self.keys_max >= other.keys_max
            && self.values_max >= other.values_max
            && without_room(self) == without_room(other)
    }
}
