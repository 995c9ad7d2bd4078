//! How long does it take to wake a shard that sleeps, beside a bare futex?

fn main() {
    pelton::measure::bench_main(pelton::measure::Question::Wake);
}
