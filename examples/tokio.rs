//! Tasks of a tokio runtime publish the readings of sensors; two shards keep the sums. Each task has a producer of its
//! own, waits for room without blocking its thread, and gives up on a reading that would come too late.
//!
//! ```sh
//! cargo run --release --features async --example tokio
//! ```

use pelton::engine::Report;
use pelton::{AsyncProducer, Class, ClassId, Context, Event, Handler, Outcome, Plan, Profile, Verdict};
use std::time::Duration;
use tokio::time::timeout;

const SENSORS: u16 = 8;
const READINGS: u64 = 100_000;

#[derive(Default)]
struct Reading {
    millidegrees: u64,
}

/// What a shard knows of its sensors.
#[derive(Default)]
struct Sums {
    readings: u64,
    millidegrees: u64,
}

impl Handler<Reading> for Sums {
    type Output = Sums;

    fn on_event(&mut self, reading: &mut Event<'_, Reading>, _: &mut Context<'_, Reading>) -> Verdict {
        self.readings += 1;
        self.millidegrees += reading.millidegrees;
        Verdict::Done
    }

    fn on_stop(self, _: &mut Context<'_, Reading>) -> Sums {
        self
    }
}

/// One sensor: says how many of its readings nobody had time for.
async fn sense(mut tx: AsyncProducer<Reading>, class: ClassId, sensor: u64) -> u64 {
    let mut given_up = 0;
    for i in 0..READINGS {
        let millidegrees = 20_000 + (sensor * 37 + i * 11) % 1_000;
        let publish = tx.publish(class, sensor, |reading| reading.millidegrees = millidegrees);
        // A future that is dropped has published nothing, or has said so: nothing is lost, and nothing comes twice.
        match timeout(Duration::from_millis(50), publish).await {
            Ok(said) => assert_eq!(said, Ok(Outcome::Accepted)),
            Err(_too_late) => given_up += 1,
        }
        // Where there is room nothing waits; let the other sensors of this thread have their turn.
        if i % 256 == 255 {
            tokio::task::yield_now().await;
        }
    }
    given_up
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Two shards even where there is one CPU: these have time for each other.
    let mut plan = Plan::new(Profile::Dev).shards(2).overcommitted(true).producers_max(SENSORS);
    let class = plan.class(Class::strict("readings").capacity(256).block());
    let engine = plan.start(Reading::default, |_shard| Sums::default())?;

    let mut sensors = Vec::new();
    for sensor in 0..SENSORS {
        let tx = AsyncProducer::from(engine.attach()?);
        sensors.push(tokio::spawn(sense(tx, class, sensor.into())));
    }
    let mut given_up = 0;
    for sensor in sensors {
        given_up += sensor.await?;
    }

    // A stop waits, so it has no place on a thread of the runtime.
    let mut report: Report =
        tokio::task::spawn_blocking(move || engine.stop(Duration::from_secs(5))).await??;
    println!("{report}");
    for (shard, sums) in report.outputs::<Sums>().iter().enumerate() {
        let mean = sums.millidegrees as f64 / sums.readings.max(1) as f64 / 1_000.0;
        println!("shard {shard}: {} readings, {mean:.3} degrees on the average", sums.readings);
    }
    println!("{given_up} readings were given up");
    assert!(report.ledger.is_closed());
    assert_eq!(report.ledger.total().handled + given_up, u64::from(SENSORS) * READINGS);
    Ok(())
}
