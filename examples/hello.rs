//! The smallest whole program: one shard, one class, one producer.
//!
//! ```sh
//! cargo run -p pelton --example hello
//! ```

use pelton::{Class, Context, Event, Handler, Plan, Profile, Verdict};
use std::time::Duration;

/// The event. Producers overwrite the values in place; a slot is never empty.
#[derive(Default)]
struct Reading {
    celsius: i64,
}

/// The handler of a shard. Only the shard's own thread uses it, so it needs no lock.
#[derive(Default)]
struct Highest {
    celsius: i64,
}

impl Handler<Reading> for Highest {
    type Output = i64;

    fn on_event(&mut self, reading: &mut Event<'_, Reading>, _: &mut Context<'_, Reading>) -> Verdict {
        self.celsius = self.celsius.max(reading.celsius);
        Verdict::Done
    }

    fn on_stop(self, _: &mut Context<'_, Reading>) -> i64 {
        self.celsius
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut plan = Plan::new(Profile::Dev);
    let readings = plan.class(Class::strict("readings").with_capacity(64).block());
    let engine = plan.start(Reading::default, |_shard| Highest::default())?;

    let mut tx = engine.attach()?;
    for celsius in [18, 24, 21] {
        // The key chooses the shard. Events of one key keep their order.
        tx.publish(readings, "kitchen", |reading| reading.celsius = celsius)?;
    }

    // A stop drains the lanes first, so every event has been handled by now.
    let mut report = engine.stop(Duration::from_secs(5))?;
    println!("{report}");
    assert_eq!(report.outputs::<i64>(), [24]);
    Ok(())
}

#[test]
fn example_runs() {
    main().unwrap();
}
