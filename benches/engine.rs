//! What does a whole engine cost an event, against a bare disruptor that only hands it over?

fn main() {
    pelton::measure::bench_main(pelton::measure::Question::Engine);
}
