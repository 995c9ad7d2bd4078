//! What does a hand-off cost over the work that its producer does before each event?

fn main() {
    pelton::measure::bench_main(pelton::measure::Question::Cliff);
}
