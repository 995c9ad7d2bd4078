//! How fast are requests found and ids written, without a socket?
//!
//! Pipelined `XADD mystream * myfield <bytes>` in blocks of 64 KiB, as a socket hands them over; of each request all
//! arguments are touched. The blocks stay in the cache: what is measured is the parser. The median of some rounds.
//!
//! ```sh
//! cargo bench --bench resp --features gateway
//! ```

use pelton_gateway::resp::{Bulks, Limits, Parsed, Parser, Reply, StampedId, Version, pair};
use std::hint::black_box;
use std::time::Instant;

const BLOCK: usize = 64 << 10;
const BLOCKS: usize = 2_000;
const ROUNDS: usize = 9;
const LIMITS: Limits = Limits { args_max: 1_024, frame_bytes_max: 1 << 20, inline_bytes_max: 1 << 16 };

/// Whole requests, and how many.
fn block(payload: usize) -> (Vec<u8>, usize) {
    let mut request = Vec::new();
    let mut reply = Reply::new(&mut request, Version::Resp2);
    reply.array(5);
    for arg in [&b"XADD"[..], b"mystream", b"*", b"myfield", &vec![b'x'; payload]] {
        reply.bulk(arg);
    }
    let requests = BLOCK / request.len();
    (request.repeat(requests), requests)
}

/// The median of `ROUNDS` runs, in nanoseconds for each of `n`.
fn median_ns(n: usize, mut run: impl FnMut()) -> f64 {
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let begun = Instant::now();
            run();
            begun.elapsed().as_nanos() as f64 / n as f64
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds[ROUNDS / 2]
}

fn parse_all(parser: &mut Parser, block: &[u8]) -> usize {
    let (mut at, mut touched) = (0, 0);
    while let Parsed::Request { bytes } = parser.parse(&block[at..]) {
        for arg in 0..parser.len() {
            touched += parser.arg(&block[at..], arg).len();
        }
        at += bytes;
    }
    assert_eq!(at, block.len(), "the block is whole requests");
    touched
}

fn main() {
    let mut parser = Parser::new(LIMITS);
    for payload in [8, 40, 400, 4_000] {
        let (block, requests) = block(payload);
        let n = requests * BLOCKS;
        let ns = median_ns(n, || {
            for _ in 0..BLOCKS {
                black_box(parse_all(&mut parser, black_box(&block)));
            }
        });
        let bytes = block.len() as f64 / requests as f64;
        println!("parse, {payload:>5} bytes of payload: {ns:>7.2} ns a request, {:>7.2} GB/s", bytes / ns);
    }
    let stored = b"$5\r\nprice\r\n$3\r\n101\r\n$3\r\nqty\r\n$2\r\n12\r\n$4\r\nside\r\n$3\r\nbuy\r\n";
    const N: usize = 20_000_000;
    let ns = median_ns(N, || {
        (0..N).for_each(|_| {
            black_box(pair(black_box(stored), black_box(b"side")));
        });
    });
    println!("the value of the third of 3 fields:  {ns:>7.2} ns");
    let ns = median_ns(N, || {
        (0..N).for_each(|_| {
            black_box(Bulks::new(black_box(stored)).map(<[u8]>::len).sum::<usize>());
        });
    });
    println!("all 6 bulk strings of 3 fields:      {ns:>7.2} ns");
    let mut out = Vec::with_capacity(64 << 10);
    let mut last = StampedId::default();
    let ns = median_ns(N, || {
        for at in 0..N as u64 {
            if out.len() > 32 << 10 {
                out.clear();
            }
            Reply::new(&mut out, Version::Resp2).stamped(
                &mut last,
                1_700_000_000_000 + (at >> 10),
                at & 0x3ff,
            );
        }
        black_box(&out);
    });
    println!("an id, 1,024 in a millisecond:       {ns:>7.2} ns");
}
