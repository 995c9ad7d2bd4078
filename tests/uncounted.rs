//! A program without a counting allocator.

use pelton::Class;
use pelton::engine::SealError;
use pelton::memory::seal::{NotCounted, Seal};
use pelton_testkit::*;
use std::time::Duration;

#[test]
fn without_a_counting_allocator_an_engine_says_that_it_cannot_be_sealed() {
    let _dog = watchdog();
    let mut plan = plan();
    let class = plan.class(Class::strict("only").with_capacity(8));
    let engine = plan.start(Proof::default, |_| recording()).unwrap();
    let why = if cfg!(feature = "audit") { NotCounted::NotInstalled } else { NotCounted::FeatureOff };
    for mode in [Seal::Count, Seal::Abort] {
        assert_eq!(engine.seal(mode), Err(SealError::NotCounted(why)));
    }
    let text = why.to_string();
    let how = if cfg!(feature = "audit") { "#[global_allocator]" } else { "feature `audit`" };
    assert!(text.contains(how), "{text}");
    #[cfg(feature = "audit")]
    assert!(pelton::memory::audit::seal_thread(Seal::Abort).is_err_and(|error| error == why));
    // It runs on as if nobody had asked.
    let (mut tx, mut source) = (engine.attach().unwrap(), Source::new(1));
    for _ in 0..10 {
        source.publish(&mut tx, class, 1).unwrap();
    }
    let mut report = engine.stop(Duration::from_secs(10)).unwrap();
    assert!(report.sealed().is_none());
    let seen = report.outputs::<Witness>();
    assert_invariants(&report, &[source], &seen);
}
