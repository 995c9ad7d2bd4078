//! How long does a request and its reply take, shard to shard, beside the bare cache line there and back?

fn main() {
    pelton::measure::bench_main(pelton::measure::Question::Mesh);
}
