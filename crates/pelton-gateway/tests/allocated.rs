//! What a gateway lays out at start, to the byte, against its plan.

use pelton::Class;
use pelton_gateway::{EVENT, Options, Server, Stream};
use pelton_testkit::measuring::{Measuring, agreed, alive, settle};
use pelton_testkit::*;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: Measuring = Measuring;

/// What a gateway takes more for larger taps is what its plan names more.
#[test]
fn taps_take_what_was_planned_to_the_byte() {
    const ALONE: &str = "PELTON_TEST_ALLOCATED_TAPS";
    if std::env::var_os(ALONE).is_none() {
        print!("{}", in_a_process_of_its_own(ALONE, &[]));
        return;
    }
    let _dog = watchdog();
    let run = |threads: u16, tap_slots: u32, payload: u32| {
        let class = Class::strict("only").with_capacity(16).with_payload_bytes(payload);
        let mut options = Options::new({
            let mut plan = plan().with_shards(2).with_producers_max(threads).with_scratch_bytes(0);
            plan.class(class);
            plan
        });
        options.streams = vec![Stream::new("one", "only"), Stream::new("two", "only")];
        (options.threads, options.tap_slots) = (threads, tap_slots);
        options.listen = vec!["127.0.0.1:0".into()];
        let planned = options.reserve(options.plan.clone()).footprint_of(EVENT);
        let before = alive();
        let mut server = Server::start(options).unwrap();
        settle(server.engine());
        let grown = alive() - before;
        assert_eq!(server.engine().footprint(), planned, "it is started from what was planned");
        assert!(server.stop(Duration::from_secs(10)).unwrap().engine.ledger.is_closed());
        (grown, planned)
    };
    let run = |threads, slots, payload| agreed(|| run(threads, slots, payload));
    run(1, 64, 64);
    for threads in [1, 3] {
        let (least, planned) = run(threads, 64, 64);
        // The last two have room for a payload that is larger than what their slots bring.
        for (slots, payload) in [(128, 64), (4_096, 64), (64, 1 << 16), (4_096, 1 << 20)] {
            let (more, footprint) = run(threads, slots, payload);
            assert_eq!(
                more - least,
                footprint.total_bytes() as i64 - planned.total_bytes() as i64,
                "{threads} threads, {slots} slots:\n{footprint}"
            );
        }
    }
}
