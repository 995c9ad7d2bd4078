//! An engine does what its plan says, seen through its public face.

use pelton::{Class, Context, Event, Handler, Outcome, Plan, Profile, Rejection, ShardId, Verdict};
use std::time::Duration;

#[derive(Default)]
struct Tick {
    price: u64,
}

#[derive(Default)]
struct Book {
    sum: u64,
}

impl Handler<Tick> for Book {
    type Output = u64;
    fn on_event(&mut self, event: &mut Event<'_, Tick>, _: &mut Context<'_, Tick>) -> Verdict {
        self.sum += event.price;
        Verdict::Done
    }
    fn on_stop(self, _: &mut Context<'_, Tick>) -> u64 {
        self.sum
    }
}

#[test]
fn events_reach_their_handlers_and_the_ledger_closes() {
    let mut plan = Plan::new(Profile::Dev).shards(2).producers_max(2);
    let orders = plan.class(Class::strict("orders").capacity(64).block());
    let ticks = plan.class(Class::weighted("ticks", 1).capacity(64).drop_newest());
    let engine = plan.start(Tick::default, |_| Book::default()).unwrap();
    let mut tx = engine.attach().unwrap();
    let mut sum = 0;
    for i in 0..10_000u64 {
        tx.publish(orders, i, |tick| tick.price = i).unwrap();
        sum += i;
        if tx.publish(ticks, i, |tick| tick.price = 1).unwrap() == Outcome::Accepted {
            sum += 1;
        }
    }
    drop(tx);
    let mut report = engine.stop(Duration::from_secs(10)).unwrap();
    println!("{report}");
    assert!(report.drained && report.ledger.is_closed());
    assert_eq!(report.outputs::<u64>().iter().sum::<u64>(), sum);
    assert_eq!(report.ledger.class(orders).handled, 10_000);
    let counts = report.ledger.class(ticks);
    assert_eq!(counts.rejected_for(Rejection::DroppedNewest) + counts.handled, 10_000);
    assert_eq!(report.rescues(), 0);
    let _ = ShardId(0);
}
