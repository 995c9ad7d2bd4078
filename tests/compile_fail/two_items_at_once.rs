//! A batch lends one item at a time: the one before must be gone.

fn main() {
    let (_tx, mut rx) = pelton::ring::ring(pelton::ring::Shape::slots(2), || 0u64).unwrap();
    let mut batch = rx.batch(2);
    let first = batch.next();
    let second = batch.next();
    drop((first, second));
}
