//! How to test a handler: the test polls the shard by hand, on a clock that moves only when the test moves it. There is no
//! thread and no waiting, so a test of hours takes milliseconds and has the same result every time.
//!
//! ```sh
//! cargo test -p pelton --example testing
//! ```

use pelton::clock::{Clock, VirtualTime};
use pelton::{Class, ClassId, Context, Engine, Event, Handler, Plan, Producer, Profile, Shard, Verdict};
use std::time::Duration;

/// How long a session may be silent.
const SILENCE_MAX: Duration = Duration::from_secs(3_600);

/// The handler under test: it notes when each session was last heard of, and closes sessions that are silent for too
/// long.
#[derive(Default)]
struct Sessions {
    /// The session and the time of its last event, in ticks of the engine's clock.
    open: Vec<(u64, u64)>,
    closed: Vec<u64>,
}

impl Handler<()> for Sessions {
    type Output = Vec<u64>;

    fn on_event(&mut self, event: &mut Event<'_, ()>, context: &mut Context<'_, ()>) -> Verdict {
        let (session, now) = (event.key().0, context.clock().ticks());
        self.open.retain(|(known, _)| *known != session);
        self.open.push((session, now));
        Verdict::Done
    }

    fn on_idle(&mut self, context: &mut Context<'_, ()>) {
        let now = context.clock().ticks();
        let silent =
            |since: u64| Duration::from_nanos(context.clock().nanos_between(since, now)) > SILENCE_MAX;
        while let Some((session, _)) = self.open.first().copied().filter(|(_, since)| silent(*since)) {
            self.open.remove(0);
            self.closed.push(session);
        }
    }

    fn on_stop(self, _: &mut Context<'_, ()>) -> Vec<u64> {
        self.closed
    }
}

/// An engine of one shard that a test drives.
struct Rig {
    engine: Engine<()>,
    shard: Shard<(), Sessions>,
    tx: Producer<()>,
    class: ClassId,
    time: VirtualTime,
}

impl Rig {
    fn new() -> Self {
        let (clock, time) = Clock::virtual_time();
        let mut plan = Plan::new(Profile::Dev).with_clock(clock).with_announce(false);
        let class = plan.class(Class::strict("heartbeats").with_capacity(64).reject());
        let (engine, mut seats) = plan.host_driven(|| ()).expect("the plan is valid");
        let shard = seats.remove(0).build(Sessions::default()).expect("the handler is built");
        let tx = engine.attach().expect("there is a free producer");
        Rig { engine, shard, tx, class, time }
    }

    /// Publishes a heartbeat of a session and lets the shard handle it.
    fn hear(&mut self, session: u64) {
        self.tx.publish(self.class, session, |_| ()).expect("the lane has room");
        self.run_dry();
    }

    /// Moves the clock, and polls until there is nothing left to do.
    fn pass(&mut self, span: Duration) {
        self.time.advance(span);
        self.run_dry();
    }

    fn run_dry(&mut self) {
        while self.shard.poll() > 0 {}
    }

    /// Stops the engine, checks its books and returns the sessions that were closed.
    fn finish(mut self) -> Vec<u64> {
        self.engine.close();
        while !self.engine.drain(Duration::ZERO) {
            self.shard.poll();
        }
        let mut report = self.engine.stop(Duration::ZERO).expect("this thread is not a shard's");
        report.add(self.shard.finish());
        assert!(report.drained && report.ledger.is_closed(), "{report}");
        report.outputs().remove(0)
    }
}

#[test]
fn silent_session_is_closed_after_an_hour() {
    let mut rig = Rig::new();
    rig.hear(1);
    rig.pass(SILENCE_MAX / 2);
    rig.hear(2);
    assert_eq!(rig.shard.handler().closed, []);
    rig.pass(SILENCE_MAX / 2 + Duration::from_nanos(1));
    assert_eq!(rig.shard.handler().closed, [1]);
    assert_eq!(rig.finish(), [1]);
}

#[test]
fn heartbeat_keeps_session_open() {
    let mut rig = Rig::new();
    for _ in 0..24 {
        rig.hear(1);
        rig.pass(SILENCE_MAX);
    }
    assert_eq!(rig.finish(), []);
}

/// As a program, the same in a few lines.
fn main() {
    let mut rig = Rig::new();
    rig.hear(7);
    rig.pass(SILENCE_MAX * 2);
    let closed = rig.finish();
    println!("closed after two hours of silence: {closed:?}");
    assert_eq!(closed, [7]);
}
