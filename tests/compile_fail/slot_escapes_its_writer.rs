//! The closure that writes an event cannot keep its slot.

fn main() {
    let class = pelton::Class::strict("only");
    let (mut tx, _rx) = pelton::lane::lane(&class, || 0u64).unwrap();
    let mut kept: Option<&mut u64> = None;
    let _ = tx.publish(1u64, |slot| kept = Some(slot));
    *kept.unwrap() = 7;
}
