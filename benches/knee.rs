//! How far can the load be raised until latency bends upwards?

fn main() {
    pelton::measure::bench_main(pelton::measure::Question::Knee);
}
