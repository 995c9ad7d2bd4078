//! How many events a second do several producers bring through one shard?

fn main() {
    pelton::measure::bench_main(pelton::measure::Question::Producers);
}
