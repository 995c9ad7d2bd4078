//! What is counted.

use gungraun::{
    Callgrind, EntryPoint, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main,
};
use pelton::class::Stamp;
use pelton::clock::Clock;
use pelton::lane::{LaneConsumer, LaneProducer, lane};
use pelton::park::Wait;
use pelton::{Class, ClassId, Context, Engine, Event, Handler, Plan, Producer, Profile, Shard, Verdict};
use std::hint::black_box;
use std::time::Duration;

/// Events of every count: whole bursts of 64 for 1, 3 and 8 classes and for 1 and 8 shards.
pub const EVENTS: u64 = 1_536;

/// Room for all of them in any lane.
const CAPACITY: u32 = 2_048;

/// Laps before the one that is counted: every lane has been once around then.
const WARM_LAPS: u64 = 2;

/// 40 bytes, which with key, stamp and sequence word make a slot of 64.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct Body {
    sequence: u64,
    rest: [u64; 4],
}

impl Body {
    #[inline(always)]
    fn new(sequence: u64, key: u64) -> Self {
        Body { sequence, rest: [key; 4] }
    }
}

/// Sees that sequences increase, class by class.
pub struct Seen([u64; 8]);

impl Seen {
    fn new() -> Self {
        Seen([0; 8])
    }

    #[inline(always)]
    fn see(&mut self, class: usize, body: &Body) {
        let last = &mut self.0[class];
        assert!(body.sequence > *last, "an event came twice, or late");
        *last = body.sequence;
    }
}

impl Handler<Body> for Seen {
    type Output = ();

    #[inline]
    fn on_event(&mut self, event: &mut Event<'_, Body>, _: &mut Context<'_, Body>) -> Verdict {
        self.see(event.class().index(), event);
        Verdict::Done
    }

    fn on_stop(self, _: &mut Context<'_, Body>) {}
}

/// The engine of a count.
#[derive(Clone, Copy)]
pub struct Setting {
    producers: u16,
    classes: usize,
    shards: u16,
    burst: u32,
    stamp: Stamp,
    wait: Wait,
    mesh: bool,
    /// All events go to the lowest class; otherwise to all classes in turn.
    lowest: bool,
}

/// One producer, one shard, three classes in turn, stamps on 1 event in 64.
const USUAL: Setting = Setting {
    producers: 1,
    classes: 3,
    shards: 1,
    burst: 64,
    stamp: Stamp::OneIn(64),
    wait: Wait::Spin,
    mesh: false,
    lowest: false,
};
/// The same in bursts of 16, the smallest at which growth is bounded.
const SIXTEEN: Setting = Setting { burst: 16, ..USUAL };
/// One class alone, in bursts of 16.
const ONE: Setting = Setting { classes: 1, ..SIXTEEN };

/// An engine with its shards and its producers, all on this thread.
pub struct Rig {
    engine: Engine<Body>,
    shards: Vec<Shard<Body, Seen>>,
    tx: Producer<Body>,
    idle: Vec<Producer<Body>>,
    /// Where the events of a lap go.
    lap: Vec<(ClassId, u64)>,
    sequence: u64,
    polls: u64,
}

impl Rig {
    /// Every lane has been once around: what is counted is the steady state.
    fn new(setting: Setting) -> Self {
        let Setting { producers, classes, shards, burst, stamp, wait, mesh, lowest } = setting;
        let mut plan = Plan::new(Profile::Latency)
            .with_shards(shards)
            .with_producers_max(producers)
            .unpinned()
            .with_announce(false);
        plan = plan.with_burst(burst).with_wait(wait).with_mesh(mesh).with_clock(Clock::virtual_time().0);
        let class = |n: usize| match n {
            0 => Class::strict("0"),
            n => Class::weighted(n.to_string(), 1),
        };
        let mut ids: Vec<_> =
            (0..classes).map(|n| plan.class(class(n).with_capacity(CAPACITY).with_stamp(stamp))).collect();
        if lowest {
            ids.drain(..classes - 1);
        }
        let (engine, seats) = plan.host_driven(Body::default).unwrap();
        let shards: Vec<_> = seats.into_iter().map(|seat| seat.build(Seen::new()).unwrap()).collect();
        let tx = engine.attach().unwrap();
        let idle = (1..producers).map(|_| engine.attach().unwrap()).collect();
        // All shards in turn, all classes in turn.
        let mut keys_of = vec![Vec::new(); shards.len()];
        for key in 0..16 * EVENTS {
            keys_of[tx.shard_of(key).index()].push(key);
        }
        let at = |n: usize| (ids[n % ids.len()], keys_of[n % shards.len()][n / shards.len()]);
        let lap = (0..EVENTS as usize).map(at).collect();
        let mut rig = Rig { engine, shards, tx, idle, lap, sequence: 1, polls: 0 };
        for _ in 0..WARM_LAPS {
            rig.publish();
            rig.poll();
        }
        rig
    }

    /// The same with all events published.
    fn full(setting: Setting) -> Self {
        let mut rig = Self::new(setting);
        rig.publish();
        rig.polls = 0;
        rig
    }

    #[inline(always)]
    fn publish(&mut self) {
        let Rig { tx, lap, sequence, .. } = self;
        for (class, key) in lap {
            tx.publish(*class, *key, |event| *event = Body::new(*sequence, *key)).unwrap();
            *sequence += 1;
        }
    }

    #[inline(always)]
    fn poll(&mut self) {
        let mut left = EVENTS;
        while left > 0 {
            for shard in &mut self.shards {
                left -= shard.poll();
                self.polls += 1;
            }
        }
    }

    /// Publishes one event and polls once, again and again.
    fn take_turns(&mut self) {
        for at in 0..self.lap.len() {
            let (class, key) = self.lap[at];
            self.tx.publish(class, key, |event| *event = Body::new(self.sequence, key)).unwrap();
            self.sequence += 1;
            engine_poll_once(self);
        }
    }
}

/// Ends a rig; every event was handled, and every burst was whole.
fn end(rig: Rig) {
    let Rig { engine, mut shards, tx, idle, .. } = rig;
    drop((tx, idle));
    engine.close();
    while !engine.drain(Duration::ZERO) {
        shards.iter_mut().for_each(|shard| {
            shard.poll();
        });
    }
    let report = engine.stop(Duration::ZERO).unwrap();
    let total = report.ledger.total();
    assert!(
        report.ledger.is_closed() && total.handled == total.offered && total.handled.is_multiple_of(EVENTS)
    );
    shards.into_iter().for_each(|shard| assert!(shard.finish().output.is_some()));
}

/// The same, after whole bursts of `N`.
fn end_bursts<const N: u64>(rig: Rig) {
    assert_eq!(rig.polls, EVENTS / N, "not every burst was whole");
    end(rig);
}

/// What is left of a count without Pelton: events in an array.
pub struct Bare {
    slots: Vec<(ClassId, u64, Body)>,
    seen: Seen,
}

impl Bare {
    fn new() -> Self {
        let mut plan = Plan::new(Profile::Dev);
        let classes = [0, 1, 2].map(|n| plan.class(Class::strict(n.to_string())));
        let slot = |n: u64| (classes[n as usize % 3], n, Body::new(n + 1, n));
        Bare { slots: (0..EVENTS).map(slot).collect(), seen: Seen::new() }
    }
}

#[library_benchmark]
#[bench::alone(Bare::new())]
fn harness_publish(mut bare: Bare) -> Bare {
    for (sequence, (class, key, body)) in (1..).zip(&mut bare.slots) {
        black_box(*class);
        *body = Body::new(sequence, *key);
        // Each event is written by itself, as in a lane.
        black_box(&body);
    }
    bare
}

#[library_benchmark]
#[bench::alone(Bare::new())]
fn harness_handle(mut bare: Bare) -> Bare {
    for (class, _, body) in &bare.slots {
        bare.seen.see(class.index(), black_box(body));
    }
    bare
}

/// A lane alone.
pub struct Lane {
    tx: LaneProducer<Body>,
    rx: LaneConsumer<Body>,
    keys: Vec<u64>,
    sequence: u64,
    seen: Seen,
}

impl Lane {
    fn new() -> Self {
        let class = Class::strict("only").with_capacity(CAPACITY).with_stamp(Stamp::Never);
        let (tx, rx) = lane(&class, Body::default).unwrap();
        let keys = (0..EVENTS).collect();
        let mut lane = Lane { tx, rx, keys, sequence: 1, seen: Seen::new() };
        for _ in 0..WARM_LAPS {
            lane.publish();
            lane.poll(64);
        }
        lane
    }

    fn full(max: u64) -> (Self, u64) {
        let mut lane = Self::new();
        lane.publish();
        (lane, max)
    }

    #[inline(always)]
    fn publish(&mut self) {
        let Lane { tx, keys, sequence, .. } = self;
        for key in keys {
            tx.publish(*key, |event| *event = Body::new(*sequence, *key)).unwrap();
            *sequence += 1;
        }
    }

    #[inline(always)]
    fn poll(&mut self, max: u64) {
        let Lane { rx, seen, .. } = self;
        while rx.poll(max, |event| seen.see(0, event)) > 0 {}
    }

    /// Publishes one event and polls once, again and again.
    fn take_turns(&mut self) {
        for key in 0..EVENTS {
            self.tx.publish(key, |event| *event = Body::new(self.sequence, key)).unwrap();
            self.sequence += 1;
            lane_poll_once(self);
        }
    }
}

fn end_lane(mut lane: Lane) {
    lane.poll(64);
    let counts = lane.rx.counts();
    assert!(counts.is_closed() && counts.handled == counts.offered && counts.handled.is_multiple_of(EVENTS));
}

#[library_benchmark]
#[bench::one_by_one(args = (), setup = Lane::new, teardown = end_lane)]
fn lane_publish(mut lane: Lane) -> Lane {
    lane.publish();
    lane
}

#[library_benchmark]
#[bench::batches_of_64(args = (64), setup = Lane::full, teardown = end_lane)]
#[bench::batches_of_16(args = (16), setup = Lane::full, teardown = end_lane)]
#[bench::batches_of_1(args = (1), setup = Lane::full, teardown = end_lane)]
fn lane_poll((mut lane, max): (Lane, u64)) -> Lane {
    lane.poll(max);
    lane
}

// Nearly empty lanes: one event published, one poll; only the polls are counted.
#[library_benchmark(config = counting("*::suite::lane_poll_once"))]
#[bench::of_1(args = (), setup = Lane::new, teardown = end_lane)]
fn lane_poll_found(mut lane: Lane) -> Lane {
    lane.take_turns();
    lane
}

#[inline(never)]
fn lane_poll_once(lane: &mut Lane) -> u64 {
    let Lane { rx, seen, .. } = lane;
    rx.poll(64, |event| seen.see(0, event))
}

#[library_benchmark]
#[bench::usual(args = (USUAL), setup = Rig::new, teardown = end)]
#[bench::stamps_never(args = (Setting { stamp: Stamp::Never, ..USUAL }), setup = Rig::new, teardown = end)]
#[bench::stamps_every(args = (Setting { stamp: Stamp::Every, ..USUAL }), setup = Rig::new, teardown = end)]
#[bench::wait_park(args = (Setting { wait: Wait::Park, ..USUAL }), setup = Rig::new, teardown = end)]
#[bench::classes_1(args = (Setting { classes: 1, ..USUAL }), setup = Rig::new, teardown = end)]
#[bench::classes_8(args = (Setting { classes: 8, ..USUAL }), setup = Rig::new, teardown = end)]
#[bench::shards_8(args = (Setting { shards: 8, ..USUAL }), setup = Rig::new, teardown = end)]
#[bench::producers_64(args = (Setting { producers: 64, ..USUAL }), setup = Rig::new, teardown = end)]
fn engine_publish(mut rig: Rig) -> Rig {
    rig.publish();
    rig
}

#[library_benchmark]
#[bench::usual(args = (USUAL), setup = Rig::full, teardown = end_bursts::<64>)]
#[bench::stamps_never(args = (Setting { stamp: Stamp::Never, ..USUAL }), setup = Rig::full, teardown = end_bursts::<64>)]
#[bench::stamps_every(args = (Setting { stamp: Stamp::Every, ..USUAL }), setup = Rig::full, teardown = end_bursts::<64>)]
#[bench::burst_16(args = (SIXTEEN), setup = Rig::full, teardown = end_bursts::<16>)]
#[bench::burst_1(args = (Setting { burst: 1, ..USUAL }), setup = Rig::full, teardown = end_bursts::<1>)]
#[bench::producers_64(args = (Setting { producers: 64, ..SIXTEEN }), setup = Rig::full, teardown = end_bursts::<16>)]
#[bench::classes_1(args = (ONE), setup = Rig::full, teardown = end_bursts::<16>)]
#[bench::classes_8(args = (Setting { classes: 8, ..SIXTEEN }), setup = Rig::full, teardown = end_bursts::<16>)]
#[bench::lowest_of_8(args = (Setting { classes: 8, lowest: true, ..SIXTEEN }), setup = Rig::full, teardown = end_bursts::<16>)]
#[bench::shards_8(args = (Setting { shards: 8, ..SIXTEEN }), setup = Rig::full, teardown = end_bursts::<16>)]
#[bench::mesh_1(args = (Setting { mesh: true, ..SIXTEEN }), setup = Rig::full, teardown = end_bursts::<16>)]
#[bench::mesh_8(args = (Setting { shards: 8, mesh: true, ..SIXTEEN }), setup = Rig::full, teardown = end_bursts::<16>)]
fn engine_poll(mut rig: Rig) -> Rig {
    rig.poll();
    rig
}

// Nearly empty lanes: one event published, one poll; only the polls are counted.
#[library_benchmark(config = counting("*::suite::engine_poll_once"))]
#[bench::of_1(args = (USUAL), setup = Rig::new, teardown = end)]
#[bench::of_1_stamps_every(args = (Setting { stamp: Stamp::Every, ..USUAL }), setup = Rig::new, teardown = end)]
#[bench::of_1_producers_64(args = (Setting { producers: 64, ..USUAL }), setup = Rig::new, teardown = end)]
#[bench::of_1_lowest_of_8(args = (Setting { classes: 8, lowest: true, ..USUAL }), setup = Rig::new, teardown = end)]
fn engine_poll_found(mut rig: Rig) -> Rig {
    rig.take_turns();
    rig
}

#[inline(never)]
fn engine_poll_once(rig: &mut Rig) -> u64 {
    rig.shards[0].poll()
}

// Polls that find nothing.
#[library_benchmark]
#[bench::usual(args = (USUAL), setup = Rig::new, teardown = end)]
#[bench::producers_64(args = (Setting { producers: 64, ..USUAL }), setup = Rig::new, teardown = end)]
#[bench::classes_8(args = (Setting { classes: 8, ..USUAL }), setup = Rig::new, teardown = end)]
fn engine_poll_empty(mut rig: Rig) -> Rig {
    for _ in 0..EVENTS {
        engine_poll_once(&mut rig);
    }
    rig
}

/// Counts while that function runs, instead of the whole bench.
fn counting(function: &str) -> LibraryBenchmarkConfig {
    let mut config = LibraryBenchmarkConfig::default();
    config.tool(Callgrind::default().entry_point(EntryPoint::Custom(function.to_owned())));
    config
}

library_benchmark_group!(
    name = counts,
    benchmarks = [
        harness_publish,
        harness_handle,
        lane_publish,
        lane_poll,
        lane_poll_found,
        engine_publish,
        engine_poll,
        engine_poll_found,
        engine_poll_empty
    ]
);

// Instructions alone: caches are not simulated, which is faster.
main!(
    config = LibraryBenchmarkConfig::default().tool(Callgrind::with_args(["--cache-sim=no"])),
    library_benchmark_groups = counts
);

/// What the runner starts, and what starts the runner.
pub fn run() {
    main();
}
