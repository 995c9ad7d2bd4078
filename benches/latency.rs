//! How long does an event take from the time that it was due, at half of what the slowest can bear?

fn main() {
    pelton::measure::bench_main(pelton::measure::Question::Latency);
}
