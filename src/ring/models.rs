//! loom models of the ring: every interleaving, and every reordering that the C++ memory model allows.

use super::{Shape, ring};
use loom::thread;

fn shape(capacity: u32, payload_bytes: u32, first_sequence: u64) -> Shape {
    Shape { payload_bytes, stamped: true, first_sequence, ..Shape::slots(capacity) }
}

/// Events arrive whole and in order, and slots are written again only when they were released. Across the wrap of
/// the sequence.
#[test]
fn publish_and_release() {
    for capacity in [1, 2] {
        loom::model(move || {
            let (mut tx, mut rx) = ring(shape(capacity, 0, u64::MAX - 1), || 0u64).unwrap();
            let producer = thread::spawn(move || {
                let mut published = 0;
                for event in 1..=3 {
                    if let Ok(mut claim) = tx.try_claim() {
                        *claim = event;
                        claim.set_key(event);
                        claim.publish();
                        published = event;
                    } else {
                        break;
                    }
                }
                published
            });
            let mut seen = 0;
            for _ in 0..2 {
                let mut batch = rx.batch(2);
                while let Some(item) = batch.next() {
                    assert_eq!((*item, item.key()), (seen + 1, seen + 1));
                    seen += 1;
                }
            }
            let published = producer.join().unwrap();
            let mut batch = rx.batch(4);
            while let Some(item) = batch.next() {
                assert_eq!(*item, seen + 1);
                seen += 1;
            }
            assert_eq!(seen, published);
        });
    }
}

/// Payloads arrive whole, and their bytes are written again only when they were released, skips at the end included.
#[test]
fn payload_wraps_without_overlap() {
    loom::model(|| {
        // 64 bytes: payloads of 24 make the third one skip the last 16.
        let (mut tx, mut rx) = ring(shape(4, 64, 0), || 0u64).unwrap();
        let producer = thread::spawn(move || {
            let mut published = 0u8;
            for fill in 1..=3u8 {
                match tx.try_claim_bytes(24) {
                    Ok(mut claim) => {
                        claim.payload_mut().fill(fill);
                        claim.publish();
                        published = fill;
                    }
                    Err(_) => break,
                }
            }
            published
        });
        let mut seen = 0u8;
        for _ in 0..2 {
            let mut batch = rx.batch(4);
            while let Some(item) = batch.next() {
                seen += 1;
                assert_eq!(item.payload(), [seen; 24]);
            }
        }
        let published = producer.join().unwrap();
        let mut batch = rx.batch(4);
        while let Some(item) = batch.next() {
            seen += 1;
            assert_eq!(item.payload(), [seen; 24]);
        }
        assert_eq!(seen, published);
    });
}

/// A stage is seen whole or not at all.
#[test]
fn a_stage_is_seen_whole() {
    loom::model(|| {
        let (mut tx, mut rx) = ring(shape(2, 0, 0), || 0u64).unwrap();
        let producer = thread::spawn(move || {
            let mut stage = tx.stage();
            stage.push(0, |event| *event = 1).unwrap();
            stage.push(0, |event| *event = 2).unwrap();
            stage.publish();
        });
        let mut seen = 0;
        let mut batch = rx.batch(2);
        while let Some(item) = batch.next() {
            seen += 1;
            assert_eq!(*item, seen);
        }
        drop(batch);
        assert!(seen == 0 || seen == 2, "{seen} of a stage of 2");
        producer.join().unwrap();
    });
}

/// Sending, closing and dropping at the same time: nothing is lost that was published before the consumer closed.
#[test]
fn close_from_either_end() {
    loom::model(|| {
        let (mut tx, rx) = ring(shape(1, 0, 0), || 0u64).unwrap();
        let consumer = thread::spawn(move || drop(rx));
        if let Ok(mut claim) = tx.try_claim() {
            *claim = 1;
            claim.publish();
        }
        consumer.join().unwrap();
        assert!(tx.try_claim().is_err());
    });
    loom::model(|| {
        let (mut tx, mut rx) = ring(shape(1, 0, 0), || 0u64).unwrap();
        let producer = thread::spawn(move || {
            let mut claim = tx.try_claim().unwrap();
            *claim = 1;
            claim.publish();
        });
        producer.join().unwrap();
        assert!(rx.is_closed());
        assert_eq!(rx.batch(1).next().map(|item| *item), Some(1));
    });
}

/// A consumer that finds the ring closed finds every event that the producer published before it went, too.
#[test]
fn a_producer_that_is_gone_leaves_no_event_unseen() {
    loom::model(|| {
        let (mut tx, mut rx) = ring(shape(1, 0, 0), || 0u64).unwrap();
        let producer = thread::spawn(move || {
            let mut claim = tx.try_claim().unwrap();
            *claim = 1;
            claim.publish();
        });
        let ended = rx.is_closed();
        let last = rx.batch(1).next().map(|item| *item);
        assert!(!ended || last == Some(1), "the ring is closed, and its last event does not show");
        producer.join().unwrap();
    });
}
