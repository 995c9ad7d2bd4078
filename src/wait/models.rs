//! loom models of waiting elsewhere.

use super::alarm::Alarm;
use crate::sync::{AtomicBool, Ordering};
use loom::sync::Arc;
use loom::thread;

#[test]
fn who_sleeps_by_an_alarm_misses_nothing() {
    loom::model(|| {
        let alarm = Arc::new(Alarm::new());
        let sleeper = thread::current();
        let brought = Arc::new([AtomicBool::new(false), AtomicBool::new(false)]);
        let bringers: Vec<_> = (0..2)
            .map(|at| {
                let (alarm, sleeper, brought) = (alarm.clone(), sleeper.clone(), brought.clone());
                thread::spawn(move || {
                    brought[at].store(true, Ordering::Release);
                    if alarm.must_ring() {
                        sleeper.unpark();
                    }
                })
            })
            .collect();
        let is_all = || brought.iter().all(|one| one.load(Ordering::Acquire));
        while !is_all() {
            alarm.arm();
            if !is_all() {
                // Whoever is still to come rings: were it missed, this would wait for ever, and loom would say so.
                thread::park();
            }
            alarm.disarm();
        }
        bringers.into_iter().for_each(|bringer| bringer.join().unwrap());
    });
}
