//! The ends of a ring belong to one thread at a time.

fn shared<T: Sync>(_: &T) {}

fn main() {
    let (tx, rx) = pelton::ring::ring(pelton::ring::Shape::slots(2), || 0u64).unwrap();
    shared(&tx);
    shared(&rx);
}
