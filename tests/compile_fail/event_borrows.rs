//! Events stay in their slots for as long as the ring lives, so they own what they hold.

fn main() {
    let text = String::from("short-lived");
    let ends = pelton::ring::ring(pelton::ring::Shape::slots(2), || text.as_str()).unwrap();
    drop(text);
    drop(ends);
}
