//! How long does a critical event wait while bulk events saturate the shard?

fn main() {
    pelton::measure::bench_main(pelton::measure::Question::Priority);
}
