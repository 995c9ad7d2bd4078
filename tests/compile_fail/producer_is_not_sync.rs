//! A producer belongs to one thread at a time, and so do the ends of a lane.

fn shared<T: Sync>() {}

fn main() {
    shared::<pelton::Producer<u64>>();
    shared::<pelton::lane::LaneProducer<u64>>();
    shared::<pelton::lane::LaneConsumer<u64>>();
}
