use pelton::lane::{LaneConsumer, LaneProducer};

fn shorten_producer<'a>(tx: LaneProducer<&'static str>) -> LaneProducer<&'a str> {
    tx
}

fn shorten_consumer<'a>(rx: LaneConsumer<&'static str>) -> LaneConsumer<&'a str> {
    rx
}

fn shorten_reader<'a>(rx: pelton::ring::Consumer<&'static str>) -> pelton::ring::Consumer<&'a str> {
    rx
}

fn main() {
    let _ = (shorten_producer, shorten_consumer, shorten_reader);
}
