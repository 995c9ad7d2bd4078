//! A small service on a tokio runtime. Tasks deposit money into accounts and await the new balance, which the shard that
//! owns the account sends back. When the service is overloaded, a deposit is refused at once.
//!
//! - Each long-lived task (a connection, say) has a producer of its own. A task that is too short-lived for that sends
//!   its request to one that has a producer.
//! - The event carries the sender of a `oneshot` channel. The slot is recycled, so the handler takes the sender out.
//! - If a handler panics, the event and its sender stay in the slot until it is used again. Callers therefore limit how
//!   long they wait for a reply.
//!
//! ```sh
//! cargo run -p pelton --features async --example tokio_service
//! ```

use pelton::engine::Report;
use pelton::{AsyncProducer, Class, ClassId, Context, Event, Handler, Outcome, Plan, Profile, Verdict};
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;

const CONNECTIONS: u16 = 8;
const REQUESTS: u64 = 10_000;
const REPLY_LIMIT: Duration = Duration::from_secs(10);

#[derive(Default)]
struct Deposit {
    amount: u64,
    reply: Option<oneshot::Sender<u64>>,
}

/// The accounts of a shard.
#[derive(Default)]
struct Accounts {
    balances: HashMap<u64, u64>,
}

impl Handler<Deposit> for Accounts {
    type Output = u64;

    fn on_event(&mut self, deposit: &mut Event<'_, Deposit>, _: &mut Context<'_, Deposit>) -> Verdict {
        let balance = self.balances.entry(deposit.key().0).or_default();
        *balance += deposit.amount;
        if let Some(reply) = deposit.reply.take() {
            // The caller may have given up; the deposit stands nevertheless.
            let _ = reply.send(*balance);
        }
        Verdict::Done
    }

    fn on_stop(self, _: &mut Context<'_, Deposit>) -> u64 {
        self.balances.values().sum()
    }
}

/// What a connection saw.
#[derive(Default)]
struct Seen {
    deposited: u64,
    refused: u64,
}

/// One connection: deposits 1 per request into its account, and checks each balance.
async fn serve(mut tx: AsyncProducer<Deposit>, class: ClassId, account: u64) -> Seen {
    let mut seen = Seen::default();
    for _ in 0..REQUESTS {
        let (reply, answer) = oneshot::channel();
        let fill = |deposit: &mut Deposit| *deposit = Deposit { amount: 1, reply: Some(reply) };
        // A future that is dropped has published once or not at all. In a class that rejects it never waits.
        match tx.publish(class, account, fill).await {
            Ok(outcome) => assert_eq!(outcome, Outcome::Accepted),
            // A web service would reply with 503 here.
            Err(error) if error.is_full() => {
                seen.refused += 1;
                continue;
            }
            Err(error) => panic!("{error}"),
        }
        let balance = timeout(REPLY_LIMIT, answer).await.expect("a reply in time").expect("a reply");
        seen.deposited += 1;
        assert_eq!(balance, seen.deposited, "only this connection uses the account, and order is kept");
    }
    seen
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Two shards, even on one CPU.
    let mut plan =
        Plan::new(Profile::Dev).with_shards(2).with_overcommitted(true).with_producers_max(CONNECTIONS);
    let class = plan.class(Class::strict("deposits").with_capacity(256).reject());
    let engine = plan.start(Deposit::default, |_shard| Accounts::default())?;

    let mut connections = Vec::new();
    for account in 0..CONNECTIONS {
        let tx = AsyncProducer::from(engine.attach()?);
        connections.push(tokio::spawn(serve(tx, class, account.into())));
    }
    let mut total = Seen::default();
    for connection in connections {
        let seen = connection.await?;
        total.deposited += seen.deposited;
        total.refused += seen.refused;
    }

    // A stop blocks until the engine has drained, so it runs outside the runtime's threads.
    let mut report: Report =
        tokio::task::spawn_blocking(move || engine.stop(Duration::from_secs(5))).await??;
    println!("{report}");
    println!("{} deposits, {} refused", total.deposited, total.refused);
    assert!(report.ledger.is_closed());
    assert_eq!(report.ledger.total().handled, total.deposited);
    assert_eq!(report.outputs::<u64>().iter().sum::<u64>(), total.deposited);
    assert_eq!(total.deposited + total.refused, u64::from(CONNECTIONS) * REQUESTS);
    Ok(())
}

#[test]
fn example_runs() {
    main().unwrap();
}
