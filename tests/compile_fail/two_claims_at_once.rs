//! A producer writes one claim at a time, and none beside a stage.

fn main() {
    let (mut tx, _rx) = pelton::ring::ring(pelton::ring::Shape::slots(4), || 0u64).unwrap();
    let first = tx.try_claim().unwrap();
    let second = tx.try_claim().unwrap();
    first.publish();
    second.publish();
    let stage = tx.stage();
    tx.try_claim().unwrap().publish();
    stage.publish();
}
