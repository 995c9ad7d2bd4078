//! The footprint of a plan, term by term, and what a slot is made of.

use pelton::Class;
use pelton::config::Scope;
use pelton::engine::Plan;
use pelton::lane::slot_bytes;
use pelton::memory::footprint::{Group, Term};
use serde::Serialize;
use std::alloc::Layout;

/// The footprint of a plan, term by term.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Bytes of the event that it is reckoned with.
    pub event_bytes: u64,
    /// Whether that is the event's size. Where it is not, it is what [`Plan::event_layout`] takes instead.
    pub event_is_known: bool,
    /// What a slot of each class is made of.
    pub slots: Vec<SlotBytes>,
    /// The terms, by what they belong to.
    pub groups: Vec<MemoryGroup>,
    /// Their sum in bytes: what a start takes.
    pub total_bytes: u64,
}

/// The bytes of a slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SlotBytes {
    /// The class.
    pub class: String,
    /// The sequence word.
    pub sequence_bytes: u64,
    /// The key.
    pub key_bytes: u64,
    /// The stamp; 0 where the class has none.
    pub stamp_bytes: u64,
    /// The descriptor of the payload; 0 where the class has none.
    pub payload_bytes: u64,
    /// The event.
    pub event_bytes: u64,
    /// What is left of its cache lines, and between its fields.
    pub padding_bytes: u64,
    /// The sum: whole cache lines.
    pub slot_bytes: u64,
}

/// Terms that belong together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemoryGroup {
    /// What they belong to, as [`Group::name`] has it.
    pub name: &'static str,
    /// The terms.
    pub terms: Vec<MemoryTerm>,
    /// Their sum in bytes.
    pub bytes: u64,
}

/// One term.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemoryTerm {
    /// What takes the memory.
    pub name: String,
    /// How many there are.
    pub count: u64,
    /// Bytes of each.
    pub bytes_each: u64,
    /// Bytes of all.
    pub bytes: u64,
}

impl Memory {
    /// The footprint of a plan.
    pub fn of(plan: &Plan, scope: Scope<'_>) -> Self {
        let event = scope.event_of(plan);
        let footprint = plan.footprint_of(event);
        let group = |group: Group| {
            let terms = footprint.terms.iter().filter(|term| term.group == group);
            let terms: Vec<_> = terms.map(MemoryTerm::of).collect();
            let bytes = footprint.group_bytes(group);
            (!terms.is_empty()).then(|| MemoryGroup { name: group.name(), terms, bytes })
        };
        Memory {
            event_bytes: event.size() as u64,
            event_is_known: scope.event.is_some() || plan.event_bytes().is_some(),
            slots: plan.classes().iter().map(|class| SlotBytes::of(class, event)).collect(),
            total_bytes: footprint.total_bytes(),
            groups: Group::ALL.into_iter().filter_map(group).collect(),
        }
    }
}

impl MemoryTerm {
    fn of(term: &Term) -> Self {
        let Term { name, count, bytes_each, .. } = term;
        MemoryTerm { name: name.clone(), count: *count, bytes_each: *bytes_each, bytes: term.bytes() }
    }
}

impl SlotBytes {
    /// The parts that a slot is the sum of, in the order of the fields.
    #[must_use]
    pub fn parts(&self) -> [u64; 6] {
        [
            self.sequence_bytes,
            self.key_bytes,
            self.stamp_bytes,
            self.payload_bytes,
            self.event_bytes,
            self.padding_bytes,
        ]
    }

    fn of(class: &Class, event: Layout) -> Self {
        const WORD: u64 = 8;
        let word_if = |there| if there { WORD } else { 0 };
        let (stamp_bytes, payload_bytes) = (word_if(class.is_stamped()), word_if(class.payload_bytes() > 0));
        let (event_bytes, slot_bytes) = (event.size() as u64, slot_bytes(class, event) as u64);
        let fields = WORD + WORD + stamp_bytes + payload_bytes + event_bytes;
        SlotBytes {
            class: class.name().into(),
            sequence_bytes: WORD,
            key_bytes: WORD,
            stamp_bytes,
            payload_bytes,
            event_bytes,
            padding_bytes: slot_bytes - fields,
            slot_bytes,
        }
    }
}
