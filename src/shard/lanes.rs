//! A shard's lanes, and which of them it looks at.
//!
//! # Mechanism
//! A lane set is *awake* or *dozes*. The lanes of sets that are awake come first, class by class, in the same order in
//! each class, so to look for an event is to walk along the front of one slice. A set wakes up by its doorbell (see
//! `wait`), with the first event that is published to it; it dozes again when nothing has come of it during [`LOOK`]
//! polls, however busy the shard is, so producers that are attached and idle cost nothing. Up to [`AWAKE`] sets are kept
//! awake in any case: to look at them costs less than to wake them.
//!
//! # Fairness
//! The producers of one class take turns. A burst starts at the place after the first one that gave an event to the burst
//! before, so places without events lend their turns to none: of `n` lanes that always have events, each is first in every
//! `n`-th burst, whatever stands between them.
//!
//! # Waiting producers
//! A producer that waits for room holds the lane full of events that are not released, so its set is awake once the shard
//! has seen its call ([`Lanes::notify_room_to_all`]), and stays awake as long as it waits: from then on the shard looks at
//! the lanes that are awake alone.
//!
//! # Invariants
//! - A set that dozes holds no event that its publisher has not rung for, or is about to.
//! - Whoever sleeps has let all sets doze, and has looked at those that were awake once more after a heavy fence.

use crate::lane::LaneConsumer;
use crate::park::{Doorbell, SLEEP_MAX, fence_sleepers};
use crate::sync::{Arc, may_stop_looking};
use std::time::Instant;

/// Sets that are kept awake though they have nothing.
// The models let the only set that they have doze, at the first look.
pub const AWAKE: usize = if cfg!(pelton_loom) { 0 } else { 4 };
/// Polls between two looks for sets that may doze: about half a millisecond of a shard that has nothing to do, some
/// twenty of one that is saturated.
pub const LOOK: u32 = if cfg!(pelton_loom) { 1 } else { 1 << 14 };

pub(crate) struct Lanes<E> {
    /// Class by class, in the order of `sets`.
    classes: Vec<Vec<LaneConsumer<E>>>,
    /// Those that are awake come first.
    sets: Vec<Set>,
    awake: usize,
    /// Where bursts start looking, class by class. Each class has a place of its own: otherwise classes whose turns come in
    /// step would start at the same sets forever.
    first: Vec<usize>,
    /// Polls until the next look for sets that may doze.
    look_in: u32,
}

struct Set {
    door: Arc<Doorbell>,
    /// Something has come of it since the last look.
    busy: bool,
    /// Since when it has held an event, dozing, at each look, without a ring.
    overdue: Option<Instant>,
}

impl<E> Lanes<E> {
    /// Lanes class by class, set by set; all sets doze.
    pub fn new(classes: Vec<Vec<LaneConsumer<E>>>, doors: Vec<Arc<Doorbell>>) -> Self {
        let sets = doors.into_iter().map(|door| Set { door, busy: false, overdue: None }).collect();
        Lanes { first: vec![0; classes.len()], classes, sets, awake: 0, look_in: LOOK }
    }

    /// Bytes of the tables, without the lanes in them.
    pub const fn bytes(classes: usize, sets: usize) -> usize {
        classes * (size_of::<Vec<LaneConsumer<E>>>() + size_of::<usize>()) + sets * size_of::<Set>()
    }

    /// Every lane there is.
    pub fn all(&mut self) -> impl Iterator<Item = &mut LaneConsumer<E>> {
        self.classes.iter_mut().flatten()
    }

    /// Sets that are awake.
    #[inline(always)]
    pub fn awake(&self) -> usize {
        self.awake
    }

    /// Whether an event of the class is there, in a set that is awake.
    #[inline(always)]
    pub fn is_ready(&self, class: usize) -> bool {
        self.classes[class][..self.awake].iter().any(LaneConsumer::is_ready)
    }

    /// Whether any event is there, in a set that is awake.
    pub fn any_ready(&self) -> bool {
        (0..self.classes.len()).any(|class| self.is_ready(class))
    }

    /// The place at which a burst of this class starts looking.
    #[inline(always)]
    pub fn first(&self, class: usize) -> usize {
        self.first[class]
    }

    /// The place after this one, in turn.
    #[inline(always)]
    pub fn after(&self, place: usize) -> usize {
        if place + 1 >= self.awake { 0 } else { place + 1 }
    }

    /// The next burst of this class starts after `place`, the first that gave an event to this one.
    #[inline(always)]
    pub fn served_first(&mut self, class: usize, place: usize) {
        self.first[class] = self.after(place);
    }

    /// How many events have left the lanes.
    pub fn done(&self) -> u64 {
        self.classes.iter().flatten().map(LaneConsumer::done).sum()
    }

    /// Wakes the producers of lanes that have room again; returns whether one still waits.
    #[cold]
    pub fn notify_room(&mut self) -> bool {
        let awake = self.awake;
        let lanes = self.classes.iter_mut().flat_map(|lanes| &mut lanes[..awake]);
        lanes.fold(false, |waits, lane| lane.notify_room() | waits)
    }

    /// The same for every lane there is, after a producer has called for it: a set whose producer still waits is awake
    /// afterwards.
    #[cold]
    pub fn notify_room_to_all(&mut self) -> bool {
        let mut any_waits = false;
        for place in 0..self.sets.len() {
            let waits =
                self.classes.iter_mut().fold(false, |waits, lanes| lanes[place].notify_room() | waits);
            if waits {
                any_waits = true;
                // Where it dozes: it rang before it called, but it may have been let doze in between.
                self.sets[place].door.clear();
            }
        }
        self.wake();
        any_waits
    }

    /// The lane of a class at a place, and whether something came of its set.
    #[inline(always)]
    pub fn at(&mut self, class: usize, place: usize) -> (&mut LaneConsumer<E>, &mut bool) {
        (&mut self.classes[class][place], &mut self.sets[place].busy)
    }

    /// Wakes the sets that have rung.
    pub fn wake(&mut self) {
        for place in self.awake..self.sets.len() {
            if !self.sets[place].door.is_dozing() {
                self.sets[place].busy = true;
                self.swap(place, self.awake);
                self.awake += 1;
            }
        }
    }

    /// After each poll: once in [`LOOK`] polls lets sets doze that have had nothing since the last time.
    #[inline(always)]
    pub fn after_poll(&mut self) {
        self.look_in -= 1;
        if self.look_in == 0 {
            self.look_slow();
        }
    }

    #[cold]
    fn look_slow(&mut self) {
        self.look_in = LOOK;
        self.rescue();
        if self.awake > AWAKE && may_stop_looking() {
            self.let_doze();
        }
        self.sets.iter_mut().for_each(|set| set.busy = false);
    }

    fn let_doze(&mut self) {
        let awake = self.awake;
        // From the end; those that doze move behind those that stay.
        for place in (0..awake).rev() {
            if self.awake > AWAKE && !self.sets[place].busy && !self.is_set_ready(place) {
                self.sets[place].door.doze();
                self.awake -= 1;
                self.swap(place, self.awake);
            }
        }
        if self.awake == awake {
            return;
        }
        let settled = fence_sleepers();
        for place in self.awake..awake {
            if !settled || self.is_set_ready(place) {
                self.sets[place].door.clear();
            }
        }
        self.wake();
        self.first.fill(0);
    }

    /// Wakes, and counts, a set that dozes and has held an event for longer than [`SLEEP_MAX`] without a ring: the wake-up was
    /// lost. For a shorter time its publisher may be preempted on its way to the doorbell.
    fn rescue(&mut self) {
        for place in self.awake..self.sets.len() {
            let overdue = self.is_set_ready(place) && self.sets[place].door.is_dozing();
            let set = &mut self.sets[place];
            set.overdue = overdue.then(|| set.overdue.unwrap_or_else(Instant::now));
            // The models have no time.
            if !cfg!(pelton_loom) && set.overdue.is_some_and(|since| since.elapsed() > SLEEP_MAX) {
                set.door.waker().rescues.add(1);
                set.door.clear();
            }
        }
        self.wake();
    }

    /// Whether any set holds an event, awake or not.
    pub fn any_held(&self) -> bool {
        (0..self.sets.len()).any(|place| self.is_set_ready(place))
    }

    /// Lets the sets that are awake ring, for the length of a sleep.
    pub fn all_doze(&self) {
        self.sets[..self.awake].iter().for_each(|set| set.door.doze());
    }

    /// Ends what [`Self::all_doze`] began.
    pub fn cancel_park(&self) {
        for set in self.sets[..self.awake].iter().filter(|set| set.door.is_dozing()) {
            set.door.clear();
        }
    }

    fn is_set_ready(&self, place: usize) -> bool {
        self.classes.iter().any(|lanes| lanes[place].is_ready())
    }

    fn swap(&mut self, one: usize, other: usize) {
        self.sets.swap(one, other);
        self.classes.iter_mut().for_each(|lanes| lanes.swap(one, other));
    }
}

#[cfg(all(test, not(pelton_loom)))]
mod tests {
    use super::*;
    use crate::class::{Class, ClassId, Stamp};
    use crate::clock::Clock;
    use crate::event::{ProducerId, ShardId};
    use crate::lane::{LaneId, LaneProducer, LaneSpec, shape_of};
    use crate::memory::region::Builder;
    use crate::park::{ShardWaker, bit};
    use crate::ring::event_layout;

    /// The lanes of `sets` producers of one class.
    fn lanes(sets: usize) -> (Vec<LaneProducer<u64>>, Lanes<u64>, Arc<ShardWaker>) {
        let class = Class::strict("only").with_capacity(8).reject().with_stamp(Stamp::Never);
        let (shape, clock, waker) = (shape_of(&class), Clock::virtual_time().0, Arc::new(ShardWaker::new()));
        let mut region = Builder::new(sets * shape.slots_need(event_layout::<u64>())).unwrap();
        let (mut writing, mut reading, mut doors) = (Vec::new(), Vec::new(), Vec::new());
        for set in 0..sets {
            let door = Arc::new(Doorbell::new(waker.clone()));
            let id = LaneId { producer: ProducerId(set as u16), shard: ShardId(0), class: ClassId(0) };
            let spec = LaneSpec { id, class: &class, clock: &clock, door: &door };
            let (tx, rx) = spec.build(shape, &mut region, || 0).unwrap();
            writing.push(tx);
            reading.push(rx);
            doors.push(door);
        }
        (writing, Lanes::new(vec![reading], doors), waker)
    }

    #[test]
    fn idle_sets_doze_although_another_is_saturated() {
        let (mut producers, mut lanes, waker) = lanes(12);
        for tx in &mut producers {
            tx.publish(1, |event| *event = 1).unwrap();
        }
        assert_ne!(waker.take(bit::LANES), 0);
        lanes.wake();
        assert_eq!(lanes.awake(), 12);
        for _ in 0..3 * LOOK {
            // The last producer always has an event when the shard polls; the others have none after the first polls.
            producers[11].publish(1, |event| *event = 1).unwrap();
            for place in 0..lanes.awake() {
                let (lane, busy) = lanes.at(0, place);
                *busy |= lane.poll(8, |_| ()) > 0;
            }
            lanes.after_poll();
        }
        let awake = if may_stop_looking() { AWAKE } else { 12 };
        assert_eq!(lanes.awake(), awake, "which sets the shard looks at");
        for (at, tx) in producers.iter_mut().enumerate() {
            tx.publish(1, |event| *event = 1).unwrap();
            if waker.take(bit::LANES) != 0 {
                lanes.wake();
            }
            let handled: u64 = (0..lanes.awake()).map(|place| lanes.at(0, place).0.poll(8, |_| ())).sum();
            assert_eq!(handled, 1, "the event of producer {at} was not seen");
        }
        assert!(lanes.all().all(|lane| lane.counts().is_closed()));
    }
}
