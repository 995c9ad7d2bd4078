//! A shard's lanes, and which of them it looks at.
//!
//! # Mechanism
//! A lane set is *awake* or *dozes*. The lanes of sets that are awake come first, class by class, in the same order in
//! each class, so to look for an event is to walk along the front of one slice. A set wakes up by its doorbell (see
//! `wait`), with the first event that is published to it; it dozes again when nothing has come of it during [`LOOK`]
//! polls and the shard has a moment, so that producers which are attached and idle cost nothing. Up to [`AWAKE`] sets are
//! kept awake in any case: to look at them costs less than to wake them.
//!
//! # Invariants
//! - A set that dozes holds no event that its publisher has not rung for, or is about to.
//! - Whoever sleeps has let all sets doze, and has looked at those that were awake once more after a heavy fence.
#![forbid(unsafe_code)]

use crate::lane::LaneConsumer;
use crate::sync::{Arc, may_stop_looking};
use crate::wait::{Doorbell, settle};

/// Sets that are kept awake though they have nothing.
// The models let the only set that they have doze, at the first look.
pub const AWAKE: usize = if cfg!(loom) { 0 } else { 4 };
/// Polls between two looks for sets that may doze, at the least: about half a millisecond of a shard that has nothing to
/// do.
pub const LOOK: u32 = if cfg!(loom) { 1 } else { 1 << 14 };

pub(crate) struct Lanes<E> {
    /// Class by class, in the order of `sets`.
    classes: Vec<Vec<LaneConsumer<E>>>,
    /// Those that are awake come first.
    sets: Vec<Set>,
    awake: usize,
    /// Where bursts start looking, class by class: at another set each time. A place of its own for each class, or those
    /// whose turns come in step would each start at the same sets for ever.
    first: Vec<usize>,
    /// Polls until the next look for sets that may doze.
    look_in: u32,
}

struct Set {
    door: Arc<Doorbell>,
    /// Something has come of it since the last look.
    busy: bool,
    /// It held an event at the last look and had not rung.
    overdue: bool,
}

impl<E> Lanes<E> {
    /// Lanes class by class, set by set; all sets doze.
    pub fn new(classes: Vec<Vec<LaneConsumer<E>>>, doors: Vec<Arc<Doorbell>>) -> Self {
        let sets = doors.into_iter().map(|door| Set { door, busy: false, overdue: false }).collect();
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

    /// The next burst of this class starts one further on.
    #[inline(always)]
    pub fn rotate(&mut self, class: usize) {
        self.first[class] = self.after(self.first[class]);
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

    /// After each poll: now and then, when there was nothing to serve, lets sets doze that have had nothing for long.
    #[inline(always)]
    pub fn after_poll(&mut self, served: u64) {
        self.look_in = self.look_in.saturating_sub(1);
        if self.look_in == 0 && served == 0 {
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
        let settled = settle();
        for place in self.awake..awake {
            if !settled || self.is_set_ready(place) {
                self.sets[place].door.answer();
            }
        }
        self.wake();
        self.first.fill(0);
    }

    /// A set that dozes, holds an event and still has not rung at the second look is one that nobody woke: it would mean
    /// that the reasoning in `wait` is wrong.
    fn rescue(&mut self) {
        for place in self.awake..self.sets.len() {
            let overdue = self.is_set_ready(place) && self.sets[place].door.is_dozing();
            let set = &mut self.sets[place];
            if overdue && set.overdue {
                set.door.bell().rescues.add(1);
                set.door.answer();
            }
            set.overdue = overdue;
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
    pub fn stay_up(&self) {
        for set in self.sets[..self.awake].iter().filter(|set| set.door.is_dozing()) {
            set.door.answer();
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
