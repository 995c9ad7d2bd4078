//! What is counted of the Redis protocol.

use gungraun::{Callgrind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main};
use pelton_gateway::resp::{Limits, Parsed, Parser, Reply, StampedId, Version, pair};
use std::hint::black_box;

/// Requests of one count.
pub const EVENTS: u64 = 1_536;

const LIMITS: Limits = Limits { args_max: 1_024, frame_bytes_max: 1 << 20, inline_bytes_max: 1 << 16 };
/// The longest reply with an id; what `StampedId` may touch behind it goes on top.
const ID_BYTES: usize = 64;

/// Requests behind each other: `XADD mystream * myfield` and 40 bytes.
pub struct Stream {
    parser: Parser,
    bytes: Vec<u8>,
    found: usize,
}

impl Stream {
    fn new() -> Self {
        let mut request = Vec::new();
        let mut reply = Reply::new(&mut request, Version::Resp2);
        reply.array(5);
        for arg in [&b"XADD"[..], b"mystream", b"*", b"myfield", &[b'x'; 40]] {
            reply.bulk(arg);
        }
        Self { parser: Parser::new(LIMITS), bytes: request.repeat(EVENTS as usize), found: 0 }
    }
}

fn end_stream(stream: Stream) {
    assert_eq!(stream.found as u64, EVENTS);
    assert_eq!(stream.parser.len(), 5);
}

#[library_benchmark]
#[bench::xadd(args = (), setup = Stream::new, teardown = end_stream)]
fn resp_parse(mut stream: Stream) -> Stream {
    let Stream { parser, bytes, found } = &mut stream;
    let mut rest = &bytes[..];
    for _ in 0..EVENTS {
        if let Parsed::Request { bytes } = parser.parse(rest) {
            rest = &rest[bytes..];
            *found += 1;
        }
    }
    stream
}

#[library_benchmark]
#[bench::third_of_3(b"$5\r\nprice\r\n$3\r\n101\r\n$3\r\nqty\r\n$2\r\n12\r\n$4\r\nside\r\n$3\r\nbuy\r\n")]
fn resp_pair(stored: &[u8]) -> usize {
    (0..EVENTS).filter(|_| pair(black_box(stored), black_box(b"side")).is_some()).count()
}

/// A buffer with room for all, and the last id.
fn id_room() -> (Vec<u8>, StampedId) {
    (Vec::with_capacity((EVENTS as usize + 1) * ID_BYTES), StampedId::default())
}

#[library_benchmark]
#[bench::of_one_ms(id_room())]
fn resp_id((mut out, mut last): (Vec<u8>, StampedId)) -> Vec<u8> {
    for seq in 0..EVENTS {
        Reply::new(&mut out, Version::Resp2).stamped(black_box(&mut last), 1_700_000_000_000, seq);
    }
    out
}

library_benchmark_group!(name = protocol, benchmarks = [resp_parse, resp_pair, resp_id]);

// Instructions alone: caches are not simulated, which is faster.
main!(
    config = LibraryBenchmarkConfig::default().tool(Callgrind::with_args(["--cache-sim=no"])),
    library_benchmark_groups = protocol
);

/// What the runner starts, and what starts the runner.
pub fn run() {
    main();
}
