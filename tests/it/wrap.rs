//! Sequences wrap, and an engine does not notice: lanes that begin near 2^31, 2^32 and 2^64, of one slot, two and many,
//! with payloads and stages, step by step and between threads.

use pelton::{Class, Outcome, Rejection, Verdict};
use pelton_testkit::*;
use std::time::Duration;

/// First sequences from which some hundred events cross the end of a number of some width.
fn near_wraps(capacity: u64) -> [u64; 4] {
    [(1 << 31) - 2 * capacity, (1 << 32) - 2 * capacity, u64::MAX - 2 * capacity, u64::MAX]
}

#[test]
fn every_event_is_accounted_for_across_every_wrap_step_by_step() {
    let _dog = watchdog();
    for capacity in [1u32, 2, 16] {
        for first in near_wraps(capacity.into()) {
            let mut plan = plan()
                .with_shards(2)
                .with_mesh(true)
                .with_first_sequence(first)
                .with_burst(3)
                .with_retry_limit(Duration::from_micros(2));
            let classes = [
                plan.class(Class::strict("a").with_capacity(capacity).with_payload_bytes(128).reject()),
                plan.class(Class::weighted("b", 1).with_capacity(capacity).drop_newest()),
            ];
            let mut last = [None; 4];
            let mut rig = rig(plan, |_| {
                acting(move |event, _| {
                    let lane = usize::from(event.producer().0 % 2) * 2 + event.class().index();
                    let sequence = event.sequence();
                    if let Some(last) = last[lane].replace(sequence) {
                        let step = sequence.wrapping_sub(last);
                        assert!(step == 1 || (step == 0 && event.order == 1), "{sequence} after {last}");
                    } else {
                        assert_eq!(sequence, first);
                    }
                    if event.class() == classes[0] {
                        assert_eq!(event.payload(), &event.sequence.to_le_bytes()[..event.payload().len()]);
                    }
                    if event.order == 1 { Verdict::Retry } else { Verdict::Done }
                })
            });
            let mut users = [0, 1].map(|id| (rig.engine.attach().unwrap(), Source::new(id)));
            let mut dice = Dice::new(first);
            for _ in 0..600 {
                let (tx, source) = &mut users[dice.below(2) as usize];
                let key = dice.below(4);
                let order = u64::from(dice.below(16) == 0);
                match dice.below(4) {
                    0 => {
                        let proof = source.next(classes[0], key, order);
                        if tx.claim(classes[0], key).with_payload(8).try_acquire().is_err() {
                            source.refused(&proof);
                        }
                    }
                    1 => {
                        let _ = source.publish_order(tx, classes[1], key, order);
                    }
                    2 => {
                        let proof = source.next(classes[0], key, order);
                        let bytes = &proof.sequence.to_le_bytes()[..dice.below(9) as usize];
                        let said = tx.publish_payload(classes[0], key, bytes, |event| *event = proof);
                        source.settle(&proof, &said);
                    }
                    _ => {
                        rig.poll();
                        rig.time.advance(Duration::from_micros(1));
                    }
                }
            }
            let sources = users.map(|(_, source)| source);
            let (report, ends) = rig.end();
            assert!(
                ends.iter().all(|end| end.quarantine.panics == 0),
                "{:?}",
                ends[0].quarantine.kept.first()
            );
            assert!(report.ledger.total().handled > 100);
            assert_invariants(&report, &sources, &witnesses(ends));
        }
    }
}

#[test]
fn every_event_is_accounted_for_across_every_wrap_between_threads() {
    let _dog = watchdog();
    for (capacity, first) in
        [1u32, 2, 64].into_iter().flat_map(|n| near_wraps(n.into()).map(|first| (n, first)))
    {
        let mut plan = plan().with_shards(2).with_first_sequence(first);
        let block = plan.class(Class::strict("block").with_capacity(capacity).with_payload_bytes(64).block());
        let newest = plan.class(Class::weighted("newest", 1).with_capacity(capacity).drop_newest());
        let engine = plan.start(Proof::default, |_| recording()).unwrap();
        let producers = [0, 1].map(|id| {
            let (mut tx, mut source) = (engine.attach().unwrap(), Source::new(id));
            std::thread::spawn(move || {
                for i in 0..400u64 {
                    let proof = source.next(block, i % 5, 0);
                    let said = tx.publish_payload(block, i % 5, &[7; 20], |event| *event = proof);
                    assert_eq!(said, Ok(Outcome::Accepted));
                    source.settle(&proof, &said);
                    source.publish(&mut tx, newest, i % 5).unwrap();
                }
                source
            })
        });
        let sources = producers.map(|producer| producer.join().unwrap());
        let mut report = engine.stop(Duration::from_secs(50)).unwrap();
        assert!(report.drained);
        let newest = report.ledger.class(newest);
        assert_eq!(newest.handled + newest.rejected_for(Rejection::DroppedNewest), 800);
        let witnesses = report.outputs();
        assert_invariants(&report, &sources, &witnesses);
    }
}
