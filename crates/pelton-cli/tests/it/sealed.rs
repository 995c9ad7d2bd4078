//! A replay keeps what it promises of memory.

use pelton_cli::weblog::{Options, Progress, prepare_stream};
use pelton_testkit::{assert_closed, watchdog};
use std::hint::black_box;

#[inline(never)]
fn brews_tea(at: u64) {
    black_box(Box::new(at));
}

/// A stream of log lines that allocates with each piece that is read.
struct Leaky(std::io::Cursor<Vec<u8>>, u64);

impl std::io::Read for Leaky {
    fn read(&mut self, room: &mut [u8]) -> std::io::Result<usize> {
        brews_tea(self.1);
        self.1 += 1;
        let len = room.len().min(1_000);
        self.0.read(&mut room[..len])
    }
}

#[test]
fn a_replay_seals_its_shards_and_its_producers() {
    let _dog = watchdog();
    let line = b"127.0.0.1 - - [10/Oct/2000:13:55:36 -0700] \"GET /a HTTP/1.0\" 200 2326\n";
    let log = line.repeat(1_000);
    let reads = log.len().div_ceil(1_000) as u64 + 1;
    let mut options = Options { producers: 1, ..Options::default() };
    options.plan = options.plan.with_shards(2).with_overcommitted(true);
    let source = Leaky(std::io::Cursor::new(log), 0);
    let replay = prepare_stream(source, &options).unwrap().run(&Progress::default()).unwrap();
    assert_closed(&replay.engine);
    assert_eq!((replay.input.lines, replay.engine.ledger.total().handled), (1_000, 1_000));
    let shards = replay.shards_sealed.unwrap();
    assert_eq!((shards.allocations, replay.shard_allocations), (0, Some(0)), "{shards}");
    let producers = replay.producers_sealed.unwrap();
    assert_eq!(replay.producer_allocations, Some(producers.allocations));
    assert!(producers.allocations >= reads, "{producers}");
    assert!(producers.places.iter().all(|place| place.function().ends_with("brews_tea")), "{producers}");
}
