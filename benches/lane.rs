//! What does it cost to hand one event from one thread to another?

fn main() {
    pelton::measure::bench_main(pelton::measure::Question::Lane);
}
