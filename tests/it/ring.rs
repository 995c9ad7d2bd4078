//! A ring passes each event once, whole and in order; guards that are dropped, forgotten or left by a panic change
//! nothing; values are dropped once; bytes come back. Through the public face of `pelton::ring` alone.
#![allow(clippy::forget_non_drop, clippy::drop_non_drop)] // Whether a guard has a drop is not these tests' business.

use pelton::ring::{ClaimError, Consumer, Producer, Shape, ShapeError, ring};
use pelton_testkit::{Dice, DropBook, Dropped, PLANNED, quiet_panics, watchdog};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

fn shape(capacity: u32, payload_bytes: u32, first_sequence: u64) -> Shape {
    Shape { payload_bytes, first_sequence, ..Shape::slots(capacity) }
}

fn push<E: Send + 'static>(tx: &mut Producer<E>, value: E) -> Result<u64, ClaimError> {
    let mut claim = tx.try_claim()?;
    *claim = value;
    let sequence = claim.sequence();
    claim.publish();
    Ok(sequence)
}

fn pop(rx: &mut Consumer<u64>) -> Option<u64> {
    rx.batch(1).next().map(|item| *item)
}

fn drain(rx: &mut Consumer<u64>) -> Vec<u64> {
    let mut batch = rx.batch(u64::MAX);
    let mut seen = Vec::new();
    while let Some(item) = batch.next() {
        seen.push(*item);
    }
    seen
}

/// First sequences from which a few thousand events cross every place where a number of some width ends.
fn near_wraps(capacity: u64) -> [u64; 6] {
    [
        0,
        (1 << 31) - 2 * capacity,
        (1 << 32) - 2 * capacity - 1,
        u64::MAX - 2 * capacity,
        u64::MAX - 1,
        u64::MAX,
    ]
}

#[test]
fn events_are_whole_and_in_order_at_every_capacity_and_across_every_wrap() {
    let _dog = watchdog();
    for capacity in [1u64, 2, 4, 64] {
        for first in near_wraps(capacity) {
            let (mut tx, mut rx) = ring(shape(capacity as u32, 0, first), || 0u64).unwrap();
            assert_eq!((tx.capacity(), rx.capacity()), (capacity, capacity));
            let mut dice = Dice::new(first ^ capacity);
            let mut model = VecDeque::new();
            for event in 0..capacity * 40 {
                for _ in 0..dice.below(capacity + 2) {
                    let said = push(&mut tx, event);
                    if model.len() as u64 == capacity {
                        assert_eq!(said, Err(ClaimError::SlotsFull));
                    } else {
                        model.push_back((event, said.unwrap()));
                    }
                }
                let mut batch = rx.batch(dice.below(capacity) + 1);
                while let Some(item) = batch.next() {
                    assert_eq!(Some((*item, item.sequence())), model.pop_front(), "from {first}");
                }
            }
            drain(&mut rx).into_iter().for_each(|event| assert_eq!(event, model.pop_front().unwrap().0));
            assert!(model.is_empty() && tx.is_drained());
            assert_eq!(tx.sequence(), rx.sequence());
        }
    }
}

#[test]
fn two_threads_pass_every_event_once_and_in_order() {
    let _dog = watchdog();
    const EVENTS: u64 = 50_000;
    for capacity in [1, 2, 64] {
        let (mut tx, mut rx) = ring(shape(capacity, 64, u64::MAX - EVENTS / 2), || 0u64).unwrap();
        let producer = std::thread::spawn(move || {
            let mut event = 0u64;
            while event < EVENTS {
                let Ok(mut claim) = tx.try_claim_bytes(8) else {
                    std::thread::yield_now();
                    continue;
                };
                *claim = event;
                claim.set_key(!event);
                claim.payload_mut().copy_from_slice(&event.to_le_bytes());
                claim.publish();
                event += 1;
            }
            tx
        });
        let mut wanted = 0;
        while wanted < EVENTS {
            let mut batch = rx.batch(32);
            while let Some(item) = batch.next() {
                assert_eq!((*item, item.key(), item.payload()), (wanted, !wanted, &wanted.to_le_bytes()[..]));
                wanted += 1;
            }
            drop(batch);
            if !rx.is_ready() {
                std::thread::yield_now();
            }
        }
        assert!(producer.join().unwrap().is_drained());
        assert_eq!(pop(&mut rx), None);
    }
}

#[test]
fn a_bad_shape_is_refused_with_its_value_and_one_that_works() {
    let _dog = watchdog();
    let limit = 1u64 << 26;
    for capacity in [0, 3, 100, (1 << 26) + 1, 1 << 27, u32::MAX] {
        let error = ring(Shape::slots(capacity), || ()).map(|_| ()).unwrap_err();
        assert_eq!(error, ShapeError::Capacity(capacity));
        let works = works(&error, "capacity", capacity);
        assert!(works.is_power_of_two() && works <= limit, "{error}");
        if works < 1 << 10 {
            assert!(ring(Shape::slots(works as u32), || ()).is_ok());
        }
    }
    for bytes in [1, 63, 65, 96, (1 << 30) + 1, 1 << 31, u32::MAX] {
        let error = ring(shape(1, bytes, 0), || ()).map(|_| ()).unwrap_err();
        assert_eq!(error, ShapeError::PayloadBytes(bytes));
        let works = works(&error, "payload_bytes", bytes);
        assert!(works.is_power_of_two() && (64..=1 << 30).contains(&works), "{error}");
        if works < 1 << 10 {
            assert!(ring(shape(1, works as u32, 0), || ()).is_ok());
        }
    }
}

/// The value that an error proposes; it must name the setting and what was wrong with it.
#[track_caller]
fn works(error: &ShapeError, setting: &str, value: u32) -> u64 {
    let text = error.to_string();
    assert!(text.starts_with(&format!("{setting} is {value}, but must be ")), "{text}");
    let proposed = text.strip_suffix(" would work").and_then(|text| text.rsplit("; ").next());
    proposed.and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("no value that would work: {text}"))
}

#[repr(align(4096))]
#[derive(Clone, Copy, PartialEq, Debug)]
struct Aligned(u64);

#[test]
fn over_aligned_events_lie_on_their_boundary() {
    let _dog = watchdog();
    for capacity in [1, 8] {
        let (mut tx, mut rx) = ring(shape(capacity, 256, 5), || Aligned(7)).unwrap();
        for round in 0..20 {
            let mut claim = tx.try_claim_bytes(100).unwrap();
            assert_eq!(&raw const *claim as usize % 4_096, 0);
            *claim = Aligned(round);
            claim.payload_mut().fill(round as u8);
            claim.publish();
            let mut batch = rx.batch(1);
            let item = batch.next().unwrap();
            assert_eq!((&raw const *item as usize % 4_096, *item), (0, Aligned(round)));
            assert!(item.payload().iter().all(|byte| *byte == round as u8) && item.payload().len() == 100);
        }
    }
}

#[test]
fn zero_sized_events_are_counted_like_any_other() {
    let _dog = watchdog();
    let (mut tx, mut rx) = ring(Shape::slots(4), || ()).unwrap();
    for _ in 0..10 {
        for key in 0..4 {
            let mut claim = tx.try_claim().unwrap();
            claim.set_key(key);
            claim.publish();
        }
        assert_eq!(tx.try_claim().err(), Some(ClaimError::SlotsFull));
        let mut batch = rx.batch(9);
        for key in 0..4 {
            assert_eq!(batch.next().unwrap().key(), key);
        }
        assert!(batch.next().is_none());
    }
}

#[test]
fn events_of_64_kib_arrive_whole() {
    let _dog = watchdog();
    const WORDS: usize = 8_192;
    let (mut tx, mut rx) = ring(Shape::slots(2), || Box::new([0u64; 1])).unwrap();
    push(&mut tx, Box::new([1])).unwrap();
    assert_eq!(rx.batch(1).next().unwrap()[0], 1);
    let (mut tx, mut rx) = ring(Shape::slots(2), || [u64::MAX; WORDS]).unwrap();
    for round in 0..9u64 {
        let mut claim = tx.try_claim().unwrap();
        claim.iter_mut().enumerate().for_each(|(i, word)| *word = round ^ i as u64);
        claim.publish();
        let mut batch = rx.batch(1);
        let item = batch.next().unwrap();
        assert!(item.iter().enumerate().all(|(i, word)| *word == round ^ i as u64));
    }
}

#[test]
fn a_claim_that_is_dropped_forgotten_or_left_by_a_panic_publishes_nothing() {
    let _dog = watchdog();
    quiet_panics();
    let (mut tx, mut rx) = ring(shape(2, 64, u64::MAX - 3), || 0u64).unwrap();
    for round in 0..20u64 {
        let sequence = tx.sequence();
        drop(tx.try_claim_bytes(32).unwrap());
        std::mem::forget(tx.try_claim_bytes(30).unwrap());
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let mut claim = tx.try_claim_bytes(20).unwrap();
            *claim = u64::MAX;
            panic!("{PLANNED} in a writer");
        }));
        assert!(panicked.is_err() && !rx.is_ready() && tx.sequence() == sequence);
        assert_eq!(pop(&mut rx), None);
        assert_eq!(push(&mut tx, round), Ok(sequence));
        assert_eq!(drain(&mut rx), [round]);
    }
}

#[test]
fn a_stage_is_all_or_nothing() {
    let _dog = watchdog();
    quiet_panics();
    let (mut tx, mut rx) = ring(shape(4, 64, u64::MAX - 5), || 0u64).unwrap();
    for round in 0..10u64 {
        let mut stage = tx.stage();
        assert!(stage.is_empty());
        for event in 0..3 {
            stage.push(0, |slot| *slot = round * 10 + event).unwrap();
            assert_eq!(pop(&mut rx), None, "a staged event was seen");
        }
        if round % 2 == 0 {
            drop(stage);
            assert_eq!(pop(&mut rx), None);
            continue;
        }
        stage.push_bytes(0, b"four", |slot| *slot = round * 10 + 3).unwrap();
        // A stage that is larger than the ring is an error, and what was staged stays so.
        assert_eq!(stage.push(0, |_| unreachable!("refused")), Err(ClaimError::SlotsFull));
        assert_eq!(stage.push_bytes(0, &[0; 33], |_| unreachable!()), Err(ClaimError::SlotsFull));
        let panicked = catch_unwind(AssertUnwindSafe(|| stage.push(0, |_| panic!("{PLANNED}"))));
        assert_eq!(panicked.unwrap(), Err(ClaimError::SlotsFull));
        assert_eq!(stage.len(), 4);
        stage.publish();
        assert_eq!(drain(&mut rx), (0..4).map(|event| round * 10 + event).collect::<Vec<_>>());
    }
    // A writer that panics leaves what was staged before it.
    let mut stage = tx.stage();
    stage.push(0, |slot| *slot = 1).unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| stage.push(0, |_| panic!("{PLANNED}")))).is_err());
    stage.push(0, |slot| *slot = 2).unwrap();
    stage.publish();
    assert_eq!(drain(&mut rx), [1, 2]);
}

#[test]
fn the_other_thread_sees_all_of_a_stage_or_none() {
    let _dog = watchdog();
    const STAGES: u64 = 5_000;
    let (mut tx, mut rx) = ring(shape(8, 0, u64::MAX - 4_000), || 0u64).unwrap();
    let producer = std::thread::spawn(move || {
        let mut stage = 0;
        while stage < STAGES {
            let mut staged = tx.stage();
            if (0..3).all(|part| staged.push(0, |slot| *slot = stage * 3 + part).is_ok()) {
                staged.publish();
                stage += 1;
            } else {
                drop(staged);
                std::thread::yield_now();
            }
        }
    });
    let mut wanted = 0;
    while wanted < STAGES * 3 {
        let mut batch = rx.batch(3);
        match batch.next() {
            None => std::thread::yield_now(),
            Some(item) => {
                assert_eq!(*item, wanted);
                assert_eq!(batch.next().map(|item| *item), Some(wanted + 1), "a stage was seen in part");
                assert_eq!(batch.next().map(|item| *item), Some(wanted + 2), "a stage was seen in part");
                wanted += 3;
            }
        }
    }
    producer.join().unwrap();
}

#[test]
fn a_forgotten_stage_publishes_nothing() {
    let _dog = watchdog();
    let (mut tx, mut rx) = ring(shape(8, 64, 0), || 0u64).unwrap();
    let forget = |tx: &mut Producer<u64>| {
        let mut stage = tx.stage();
        stage.push(0, |slot| *slot = 666).unwrap();
        stage.push_bytes(0, &[6; 16], |slot| *slot = 667).unwrap();
        std::mem::forget(stage);
    };
    forget(&mut tx);
    assert_eq!(pop(&mut rx), None);
    // Neither with the next stage …
    let mut stage = tx.stage();
    stage.push(0, |slot| *slot = 1).unwrap();
    stage.publish();
    assert_eq!(drain(&mut rx), [1]);
    // … nor with the next claim.
    forget(&mut tx);
    push(&mut tx, 2).unwrap();
    assert_eq!(drain(&mut rx), [2]);
    forget(&mut tx);
    let mut claim = tx.try_claim_bytes(32).unwrap();
    claim.payload_mut().fill(9);
    *claim = 3;
    claim.publish();
    let mut batch = rx.batch(8);
    let item = batch.next().unwrap();
    assert_eq!((*item, item.payload()), (3, &[9u8; 32][..]));
    drop(batch);
    assert_eq!(pop(&mut rx), None);
    assert!(tx.is_drained());
}

#[test]
fn a_forgotten_batch_or_item_loses_nothing() {
    let _dog = watchdog();
    let (mut tx, mut rx) = ring(shape(4, 0, u64::MAX - 2), || 0u64).unwrap();
    for event in 0..4 {
        push(&mut tx, event).unwrap();
    }
    let mut batch = rx.batch(4);
    assert_eq!(*batch.next().unwrap(), 0);
    assert_eq!(*batch.next().unwrap(), 1);
    // The second item has not been passed: it comes again, since nobody said that it was handled.
    std::mem::forget(batch);
    assert_eq!(push(&mut tx, 9), Err(ClaimError::SlotsFull));
    let mut batch = rx.batch(4);
    std::mem::forget(batch.next().unwrap());
    assert_eq!(*batch.next().unwrap(), 2);
    drop(batch);
    push(&mut tx, 4).unwrap();
    assert_eq!(drain(&mut rx), [3, 4]);
    for event in 5..50 {
        push(&mut tx, event).unwrap();
        assert_eq!(drain(&mut rx), [event]);
    }
}

#[test]
fn a_consumer_that_panics_on_an_item_has_passed_it_and_goes_on() {
    let _dog = watchdog();
    quiet_panics();
    let (mut tx, mut rx) = ring(Shape::slots(4), || 0u64).unwrap();
    for event in 0..4 {
        push(&mut tx, event).unwrap();
    }
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let mut batch = rx.batch(4);
        batch.next().unwrap();
        let _item = batch.next().unwrap();
        panic!("{PLANNED} in a handler");
    }));
    assert!(panicked.is_err());
    assert_eq!(drain(&mut rx), [2, 3]);
    assert!(tx.is_drained());
}

#[test]
fn each_value_is_dropped_once_whichever_drop_panics_in_teardown() {
    let _dog = watchdog();
    quiet_panics();
    for capacity in [1u32, 2, 8] {
        for bomb in (0..capacity as usize).map(Some).chain([None]) {
            for consumer_last in [true, false] {
                let book = DropBook::new(64, bomb);
                let (mut tx, mut rx) = ring(shape(capacity, 0, u64::MAX), || book.make()).unwrap();
                // Some published and seen, some published and not seen.
                for _ in 0..capacity {
                    tx.try_claim().unwrap().publish();
                }
                drop(rx.batch(u64::from(capacity / 2).max(1)).next());
                let panicked = if consumer_last {
                    drop(tx);
                    catch_unwind(AssertUnwindSafe(|| drop(rx))).is_err()
                } else {
                    drop(rx);
                    catch_unwind(AssertUnwindSafe(|| drop(tx))).is_err()
                };
                assert_eq!(panicked, bomb.is_some());
                book.assert_all_dropped_once();
            }
        }
    }
}

/// A value whose drop panics, with a payload whose drop panics too.
struct Bomb(Arc<AtomicU32>);

struct Splinter(Arc<AtomicU32>);

impl Drop for Splinter {
    fn drop(&mut self) {
        std::panic::resume_unwind(Box::new(self.0.clone()));
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
        // Not `panic_any`, whose message every hook would print.
        std::panic::resume_unwind(Box::new(Splinter(self.0.clone())));
    }
}

#[test]
fn each_value_is_dropped_once_when_every_drop_panics_and_so_do_its_panics() {
    let _dog = watchdog();
    let drops = Arc::new(AtomicU32::new(0));
    let (tx, rx) = ring(shape(8, 0, 0), || Bomb(drops.clone())).unwrap();
    drop(tx);
    let panicked = catch_unwind(AssertUnwindSafe(|| drop(rx)));
    assert_eq!(drops.load(Ordering::Relaxed), 8);
    // The first panic goes on, and is dropped here; the other seven left nothing.
    let first = panicked.unwrap_err();
    drop(catch_unwind(AssertUnwindSafe(|| drop(first))).unwrap_err());
    assert_eq!(Arc::strong_count(&drops), 1);
}

#[test]
fn each_value_is_dropped_once_whichever_drop_panics_in_an_overwrite() {
    let _dog = watchdog();
    quiet_panics();
    const EVENTS: usize = 12;
    for bomb in 0..EVENTS + 4 {
        let book = DropBook::new(64, Some(bomb));
        let (mut tx, mut rx) = ring(shape(4, 0, u64::MAX - 5), || book.make()).unwrap();
        let (mut published, mut seen) = (Vec::new(), Vec::new());
        for _ in 0..EVENTS {
            let value = book.make();
            let number = value.number;
            if catch_unwind(AssertUnwindSafe(|| push(&mut tx, value).unwrap())).is_ok() {
                published.push(number);
            }
            let mut batch = rx.batch(4);
            while let Some(item) = batch.next() {
                seen.push(item.number);
            }
        }
        assert_eq!(published, seen, "with a panic in the drop of {bomb}");
        drop(tx);
        let _ = catch_unwind(AssertUnwindSafe(|| drop(rx)));
        book.assert_all_dropped_once();
    }
}

#[test]
fn a_factory_that_panics_leaves_exactly_what_it_made_to_be_dropped() {
    let _dog = watchdog();
    quiet_panics();
    for fails_at in 0..8 {
        let book = DropBook::new(8, None);
        let made = catch_unwind(AssertUnwindSafe(|| {
            ring::<Dropped>(shape(8, 64, 3), || {
                assert!(book.made() < fails_at, "{PLANNED} in a factory");
                book.make()
            })
        }));
        assert!(made.is_err());
        assert_eq!(book.made(), fails_at);
        book.assert_all_dropped_once();
        // Also where one of those drops panics in its turn.
        if fails_at > 0 {
            let book = DropBook::new(8, Some(fails_at - 1));
            let made = catch_unwind(AssertUnwindSafe(|| {
                ring::<Dropped>(Shape::slots(8), || {
                    assert!(book.made() < fails_at, "{PLANNED} in a factory");
                    book.make()
                })
            }));
            assert!(made.is_err());
            book.assert_all_dropped_once();
        }
    }
}

/// What the payload ring may do, written down once more: contiguous pieces, in order, given back in order.
struct PayloadModel {
    len: u64,
    written: u64,
    /// Position after each payload in flight, and its bytes.
    held: VecDeque<(u64, Vec<u8>)>,
    released: u64,
}

impl PayloadModel {
    /// Where a payload of `n` bytes would start; `None` if the bytes are not there.
    fn place(&self, n: u64) -> Option<u64> {
        if n == 0 {
            return Some(self.written);
        }
        let to_end = self.len - self.written % self.len;
        let start = if n > to_end { self.written + to_end } else { self.written };
        (start + n - self.released <= self.len).then_some(start)
    }
}

#[test]
fn payloads_follow_a_sequential_model_for_random_sizes() {
    let _dog = watchdog();
    for (seed, capacity, len) in [(1, 4u32, 64u32), (2, 64, 64), (3, 8, 256), (4, 2, 4_096), (5, 1, 128)] {
        let (mut tx, mut rx) = ring(shape(capacity, len, u64::MAX - 100), || 0u64).unwrap();
        let mut dice = Dice::new(seed);
        let len = u64::from(len);
        let mut model = PayloadModel { len, written: 0, held: VecDeque::new(), released: 0 };
        for event in 0..4_000u64 {
            let asked = match dice.below(8) {
                0 => 0,
                1 => len / 2,
                2 => len / 2 + 1 + dice.below(len),
                _ => dice.below(len / 2) + 1,
            };
            let full = model.held.len() as u64 == u64::from(capacity);
            match tx.try_claim_bytes(asked as usize) {
                Err(ClaimError::SlotsFull) => assert!(full),
                Err(ClaimError::TooLarge { asked: said, limit }) => {
                    assert!(!full && asked > len / 2);
                    assert_eq!((said as u64, limit as u64), (asked, len / 2));
                }
                Err(ClaimError::BytesFull) => {
                    assert!(!full && asked <= len / 2 && model.place(asked).is_none());
                    assert!(!model.held.is_empty(), "half of an empty payload ring is always there");
                }
                Err(error) => unreachable!("{error}"),
                Ok(mut claim) => {
                    assert!(!full);
                    let start = model.place(asked).expect("the model has room too");
                    assert_eq!(claim.payload_mut().len() as u64, asked);
                    let used = match dice.below(4) {
                        0 => dice.below(asked + 1),
                        _ => asked,
                    };
                    let bytes: Vec<u8> = (0..used).map(|i| (event ^ i) as u8).collect();
                    *claim = event;
                    claim.payload_mut()[..used as usize].copy_from_slice(&bytes);
                    if dice.below(5) == 0 {
                        drop(claim); // Gives everything back.
                    } else {
                        claim.publish_len(used as usize);
                        if used > 0 {
                            model.written = start + used;
                        }
                        model.held.push_back((model.written, bytes));
                    }
                }
            }
            if dice.below(3) == 0 {
                let mut batch = rx.batch(dice.below(4) + 1);
                while let Some(mut item) = batch.next() {
                    let (end, bytes) = model.held.pop_front().expect("no event out of nothing");
                    assert_eq!(item.payload(), bytes);
                    item.parts_mut().1.fill(0xAA);
                    model.released = end;
                }
            }
        }
    }
}

#[test]
fn exactly_half_of_the_payload_ring_fits_from_any_position_and_one_byte_more_never() {
    let _dog = watchdog();
    for offset in 0..64 {
        let (mut tx, mut rx) = ring(shape(4, 64, 0), || 0u64).unwrap();
        for part in [offset / 2, offset - offset / 2] {
            tx.try_claim_bytes(part).unwrap().publish();
            drain(&mut rx);
        }
        assert_eq!(tx.try_claim_bytes(33).err(), Some(ClaimError::TooLarge { asked: 33, limit: 32 }));
        let mut claim = tx.try_claim_bytes(32).expect("an empty ring has room for half of it");
        claim.payload_mut().fill(7);
        claim.publish();
        let mut batch = rx.batch(1);
        assert_eq!(batch.next().unwrap().payload(), [7; 32]);
    }
    // Without a payload ring any payload is too large, and an empty one is none.
    let (mut tx, _rx) = ring(Shape::slots(1), || 0u64).unwrap();
    assert_eq!(tx.try_claim_bytes(1).err(), Some(ClaimError::TooLarge { asked: 1, limit: 0 }));
    assert!(tx.try_claim_bytes(0).unwrap().payload_mut().is_empty());
}

#[test]
fn claimed_bytes_that_were_not_used_are_given_back() {
    let _dog = watchdog();
    quiet_panics();
    let (mut tx, mut rx) = ring(shape(64, 64, 0), || 0u64).unwrap();
    // 16 times 32 bytes claimed and 4 used: all of them fit at once.
    for event in 0..8u8 {
        let mut claim = tx.try_claim_bytes(32).unwrap();
        claim.payload_mut().fill(event);
        claim.publish_len(4);
    }
    // More than claimed is a mistake of the caller, and publishes nothing.
    let sequence = tx.sequence();
    let panicked = catch_unwind(AssertUnwindSafe(|| tx.try_claim_bytes(8).unwrap().publish_len(9)));
    let panic = panicked.unwrap_err();
    let text = panic.downcast_ref::<String>().unwrap();
    assert!(text.contains('9') && text.contains('8'), "{text}");
    assert_eq!(tx.sequence(), sequence);
    tx.try_claim_bytes(32).unwrap().publish_len(0);
    let mut batch = rx.batch(64);
    for event in 0..8u8 {
        assert_eq!(batch.next().unwrap().payload(), [event; 4]);
    }
    assert!(batch.next().unwrap().payload().is_empty());
    assert!(batch.next().is_none());
}

#[test]
fn full_bytes_are_told_apart_from_full_slots() {
    let _dog = watchdog();
    let (mut tx, mut rx) = ring(shape(4, 64, 0), || 0u64).unwrap();
    tx.try_claim_bytes(32).unwrap().publish();
    tx.try_claim_bytes(32).unwrap().publish();
    assert_eq!(tx.try_claim_bytes(1).err(), Some(ClaimError::BytesFull));
    // Events without payload still go.
    push(&mut tx, 1).unwrap();
    push(&mut tx, 2).unwrap();
    assert_eq!(tx.try_claim_bytes(1).err(), Some(ClaimError::SlotsFull));
    drop(rx.batch(1).next());
    assert!(tx.try_claim_bytes(32).is_ok());
}

#[test]
fn either_end_closes_the_ring_and_what_was_published_is_still_there() {
    let _dog = watchdog();
    type Close = fn(&mut Option<Producer<u64>>, &mut Option<Consumer<u64>>);
    let ways: [Close; 4] = [
        |tx, _| tx.as_mut().unwrap().close(),
        |_, rx| rx.as_mut().unwrap().close(),
        |tx, _| drop(tx.take()),
        |_, rx| drop(rx.take()),
    ];
    for close in ways {
        let (mut tx, mut rx) = ring(Shape::slots(2), || 0u64).unwrap();
        push(&mut tx, 1).unwrap();
        let (mut tx, mut rx) = (
            Some(tx),
            Some({
                rx.close();
                rx
            }),
        );
        close(&mut tx, &mut rx);
        if let Some(tx) = &mut tx {
            assert!(tx.is_closed());
            assert_eq!(push(tx, 2), Err(ClaimError::Closed));
            assert_eq!(tx.try_claim_bytes(0).err(), Some(ClaimError::Closed));
            assert_eq!(tx.stage().push(0, |_| unreachable!()), Err(ClaimError::Closed));
        }
        if let Some(rx) = &mut rx {
            assert!(rx.is_closed());
            assert_eq!(drain(rx), [1]);
        }
    }
    // A full ring that is closed says `Closed`: waiting for room would be in vain.
    let (mut tx, rx) = ring(Shape::slots(1), || 0u64).unwrap();
    push(&mut tx, 1).unwrap();
    drop(rx);
    assert_eq!(push(&mut tx, 2), Err(ClaimError::Closed));
}

#[test]
fn a_claim_that_was_held_while_the_ring_was_closed_can_still_be_published() {
    let _dog = watchdog();
    let (mut tx, mut rx) = ring(Shape::slots(2), || 0u64).unwrap();
    let mut claim = tx.try_claim().unwrap();
    rx.close();
    *claim = 5;
    claim.publish();
    assert_eq!(drain(&mut rx), [5]);
    assert_eq!(push(&mut tx, 6), Err(ClaimError::Closed));
    let claimed = {
        let (mut tx, rx) = ring(Shape::slots(2), || 0u64).unwrap();
        let claim = tx.try_claim().unwrap();
        drop(rx);
        claim.publish();
        tx.is_closed()
    };
    assert!(claimed);
}

#[test]
fn handles_go_from_thread_to_thread_and_the_order_with_them() {
    let _dog = watchdog();
    let (mut tx, mut rx) = ring(shape(8, 0, u64::MAX - 50), || 0u64).unwrap();
    let consumer = std::thread::spawn(move || {
        let mut seen = Vec::new();
        for _ in 0..10 {
            (rx, seen) = std::thread::spawn(move || {
                let wanted = seen.len() + 10;
                while seen.len() < wanted {
                    seen.extend(drain_some(&mut rx));
                }
                (rx, seen)
            })
            .join()
            .unwrap();
        }
        seen.extend(std::iter::from_fn(|| pop(&mut rx)));
        seen
    });
    let mut next = 0u64;
    for _ in 0..20 {
        (tx, next) = std::thread::spawn(move || {
            for _ in 0..6 {
                while push(&mut tx, next).is_err() && !tx.is_closed() {
                    std::thread::yield_now();
                }
                next += 1;
            }
            (tx, next)
        })
        .join()
        .unwrap();
        if next >= 100 && consumer.is_finished() {
            break;
        }
    }
    let seen = consumer.join().unwrap();
    assert!(seen.len() >= 100 && seen.iter().copied().eq(0..seen.len() as u64), "{seen:?}");
}

fn drain_some(rx: &mut Consumer<u64>) -> Option<u64> {
    let event = pop(rx);
    if event.is_none() {
        std::thread::yield_now();
    }
    event
}

#[test]
fn a_slow_batch_gives_slots_back_within_it() {
    let _dog = watchdog();
    for capacity in [1u64, 2, 8, 256] {
        let (mut tx, mut rx) = ring(shape(capacity as u32, 0, u64::MAX - capacity), || 0u64).unwrap();
        for event in 0..capacity {
            push(&mut tx, event).unwrap();
        }
        let every = (capacity / 2).clamp(1, 64);
        let mut batch = rx.batch(u64::MAX);
        for _ in 0..=every {
            // The item before is passed when the next one is asked for.
            drop(batch.next());
        }
        assert_eq!(push(&mut tx, 99).is_ok(), capacity > 1 || every == 1, "capacity {capacity}");
        let room = (0..capacity).take_while(|_| push(&mut tx, 99).is_ok()).count() as u64 + 1;
        assert_eq!(room, every, "capacity {capacity}");
    }
}

#[test]
fn stamps_are_kept_only_where_the_ring_is_stamped() {
    let _dog = watchdog();
    for stamped in [true, false] {
        let (mut tx, mut rx) = ring(Shape { stamped, ..Shape::slots(2) }, || 0u64).unwrap();
        for ticks in [5, 6, 7] {
            let mut claim = tx.try_claim().unwrap();
            claim.set_stamp(ticks);
            claim.set_key(ticks * 2);
            *claim = ticks * 3;
            claim.publish();
            let mut batch = rx.batch(1);
            let item = batch.next().unwrap();
            assert_eq!(item.stamp(), if stamped { ticks } else { 0 });
            assert_eq!((item.key(), *item), (ticks * 2, ticks * 3));
        }
    }
}

#[test]
fn a_batch_may_be_larger_than_the_ring_and_never_of_nothing() {
    let _dog = watchdog();
    let (mut tx, mut rx) = ring(Shape::slots(2), || 0u64).unwrap();
    push(&mut tx, 1).unwrap();
    let mut batch = rx.batch(u64::MAX);
    for event in 1..10 {
        // What comes while it is handled belongs to it.
        assert_eq!(batch.next().map(|item| *item), Some(event));
        push(&mut tx, event + 1).unwrap();
    }
    drop(batch);
    assert!(catch_unwind(AssertUnwindSafe(|| drop(rx.batch(0)))).is_err());
}
