//! An item ends before its batch does: the batch's end gives its slot back.

fn main() {
    let (_tx, mut rx) = pelton::ring::ring(pelton::ring::Shape::slots(2), || 0u64).unwrap();
    let item = {
        let mut batch = rx.batch(1);
        batch.next().unwrap()
    };
    println!("{}", *item);
}
