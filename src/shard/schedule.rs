//! The schedule: which class a shard serves next.
//!
//! # Mechanism
//! A poll serves one *burst*: at most a stated number of events of one class. Then it looks again from the top, so a
//! strict class never waits for more than one burst of a lower one. In order:
//!
//! 1. the lowest class, if it has been passed over for as many bursts as the floor allows;
//! 2. strict classes, in their order of declaration;
//! 3. the tier of weighted classes, by deficit round robin: a class has its turn until it has had its share (the burst
//!    times its weight, over the smallest weight) or has nothing left. (Shreedhar and Varghese, "Efficient Fair
//!    Queuing Using Deficit Round Robin", 1995.) A class that has nothing to do does not save up.
//!
//! The lowest class is the weighted tier where there is one, otherwise the last strict class.

use crate::class::{Class, turn_events};

pub(crate) struct Schedule {
    strict: Vec<usize>,
    /// How many of them come before the lowest class.
    higher: usize,
    tier: Vec<Weighted>,
    /// The weighted class whose turn it is.
    turn: usize,
    burst: u64,
    /// Bursts of higher classes after which the lowest is served once.
    floor: u32,
    /// Bursts since the lowest class was served or had nothing.
    passed_over: u32,
}

struct Weighted {
    class: usize,
    /// Events of a whole turn.
    share: u64,
    /// Events left of this turn.
    left: u64,
}

/// A class to serve, and the most events to serve of it now.
#[derive(Clone, Copy)]
pub(crate) struct Pick {
    pub class: usize,
    pub limit: u64,
}

/// Who has classes to be served.
pub(crate) trait Serve {
    /// Whether there is an event of this class. Cheap, and asked often.
    fn is_ready(&self, class: usize) -> bool;
    /// Serves a burst; says how many events left their lanes.
    fn serve(&mut self, pick: Pick) -> u64;
}

impl Schedule {
    pub fn new(classes: &[Class], burst: u32, floor: u32) -> Self {
        let weight = |class: &Class| class.share.weight();
        let smallest = classes.iter().filter_map(weight).min().unwrap_or(1);
        let mut strict: Vec<_> = (0..classes.len()).filter(|i| weight(&classes[*i]).is_none()).collect();
        let tier = classes.iter().enumerate().filter_map(|(class, settings)| {
            let share = turn_events(burst, weight(settings)?, smallest);
            Some(Weighted { class, share, left: share })
        });
        let mut tier: Vec<_> = tier.collect();
        // Filtered lists grow in steps; these are what the plan has said.
        strict.shrink_to_fit();
        tier.shrink_to_fit();
        let higher = if tier.is_empty() { strict.len() - 1 } else { strict.len() };
        Schedule { strict, higher, tier, turn: 0, burst: burst.into(), floor, passed_over: 0 }
    }

    /// Bytes of the schedule of so many classes of either kind.
    pub const fn bytes(strict: usize, weighted: usize) -> usize {
        strict * size_of::<usize>() + weighted * size_of::<Weighted>()
    }

    /// Goes through the classes in the order in which they are to be served now, has those served that are ready, and
    /// ends with the first of which any event was.
    #[inline(always)]
    pub fn next(&mut self, work: &mut impl Serve) -> u64 {
        let floor = self.passed_over >= self.floor;
        if floor {
            let served = self.serve_lowest(work);
            if served > 0 {
                return served;
            }
        }
        for &class in &self.strict[..self.higher] {
            if work.is_ready(class) {
                let served = work.serve(Pick { class, limit: self.burst });
                if served > 0 {
                    self.passed_over = self.passed_over.saturating_add(1);
                    return served;
                }
            }
        }
        // Asked once: a lane that rests after a retry is not to be tried again in the same poll.
        if floor { 0 } else { self.serve_lowest(work) }
    }

    #[inline(always)]
    fn serve_lowest(&mut self, work: &mut impl Serve) -> u64 {
        self.passed_over = 0;
        if let Some(&class) = self.strict.get(self.higher) {
            return if work.is_ready(class) { work.serve(Pick { class, limit: self.burst }) } else { 0 };
        }
        // From the class whose turn it is, each is looked at once, so one that rests after a retry is not tried again.
        let mut at = self.turn;
        for _ in 0..self.tier.len() {
            if work.is_ready(self.tier[at].class) {
                self.take_turn(at);
                let served = self.serve_turn(work);
                if served > 0 {
                    return served;
                }
            }
            at = self.after(at);
        }
        0
    }

    #[inline(always)]
    fn after(&self, at: usize) -> usize {
        if at + 1 == self.tier.len() { 0 } else { at + 1 }
    }

    /// Those whose turn it was have nothing, and save nothing up.
    #[inline(always)]
    fn take_turn(&mut self, at: usize) {
        if at != self.turn {
            let entry = &mut self.tier[self.turn];
            entry.left = entry.share;
            self.turn = at;
        }
    }

    /// Serves the class whose turn it is.
    #[inline(always)]
    fn serve_turn(&mut self, work: &mut impl Serve) -> u64 {
        let entry = &mut self.tier[self.turn];
        let served = work.serve(Pick { class: entry.class, limit: entry.left.min(self.burst) });
        entry.left = entry.left.saturating_sub(served);
        if served == 0 || entry.left == 0 {
            entry.left = entry.share;
            self.turn = self.after(self.turn);
        }
        served
    }
}

#[cfg(all(test, not(pelton_loom)))]
mod tests {
    use super::*;

    struct Backlogs<'a> {
        backlog: &'a mut [u64],
        served: Vec<u64>,
    }

    impl Serve for Backlogs<'_> {
        fn is_ready(&self, class: usize) -> bool {
            self.backlog[class] > 0
        }
        fn serve(&mut self, pick: Pick) -> u64 {
            let n = self.backlog[pick.class].min(pick.limit);
            self.backlog[pick.class] -= n;
            self.served[pick.class] += n;
            n
        }
    }

    /// Serves `rounds` bursts from backlogs; says how many events of each class were served.
    fn run(classes: &[Class], burst: u32, floor: u32, backlog: &mut [u64], rounds: usize) -> Vec<u64> {
        let mut schedule = Schedule::new(classes, burst, floor);
        let mut work = Backlogs { backlog, served: vec![0; classes.len()] };
        for _ in 0..rounds {
            schedule.next(&mut work);
        }
        work.served
    }

    #[test]
    fn strict_classes_go_first_but_for_the_floor() {
        let classes = [Class::strict("a"), Class::strict("b"), Class::strict("c")];
        let full = u64::MAX / 2;
        assert_eq!(run(&classes, 10, u32::MAX, &mut [full; 3], 100), [1_000, 0, 0]);
        // Nine bursts of the highest, then one of the lowest.
        assert_eq!(run(&classes, 10, 9, &mut [full; 3], 100), [900, 0, 100]);
        assert_eq!(run(&classes, 10, u32::MAX, &mut [50, 50, 50], 100), [50, 50, 50]);
    }

    #[test]
    fn weights_share_what_is_left() {
        let classes = [Class::strict("top"), Class::weighted("x", 6), Class::weighted("y", 2)];
        let full = u64::MAX / 2;
        let served = run(&classes, 16, u32::MAX, &mut [160, full, full], 1_000);
        assert_eq!(served[0], 160);
        let ratio = served[1] as f64 / served[2] as f64;
        assert!((ratio - 3.0).abs() < 0.05, "{served:?}");
        // A class with nothing to do costs the others nothing.
        assert_eq!(run(&classes, 16, u32::MAX, &mut [0, 0, full], 10), [0, 0, 160]);
    }

    #[test]
    fn one_class_alone_is_served() {
        assert_eq!(run(&[Class::strict("a")], 4, 1, &mut [100], 10), [40]);
        assert_eq!(run(&[Class::weighted("a", 5)], 4, 1, &mut [100], 10), [40]);
    }
}
