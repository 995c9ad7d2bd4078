//! A mesh: handlers emit events to other shards. Orders are routed by account, and the fills that they cause are routed
//! by symbol, so each account and each symbol has one owner and needs no lock.
//!
//! ```sh
//! cargo run -p pelton --example mesh
//! ```

use pelton::{Class, ClassId, Context, Event, Handler, Key, Plan, Profile, Verdict};
use std::collections::HashMap;
use std::time::Duration;

const ACCOUNTS: u64 = 100;
const SYMBOLS: u64 = 8;
const ORDERS: u64 = 50_000;

#[derive(Default)]
struct Trade {
    account: u64,
    symbol: u64,
    qty: u64,
}

/// Every shard owns some accounts and some symbols.
struct Desk {
    fills: ClassId,
    orders_by_account: HashMap<u64, u64>,
    volume_by_symbol: HashMap<u64, u64>,
}

impl Handler<Trade> for Desk {
    type Output = (u64, u64);

    fn on_event(&mut self, trade: &mut Event<'_, Trade>, context: &mut Context<'_, Trade>) -> Verdict {
        if trade.class() == self.fills {
            *self.volume_by_symbol.entry(trade.symbol).or_default() += trade.qty;
            return Verdict::Done;
        }
        let (account, symbol, qty) = (trade.account, trade.symbol, trade.qty);
        let emitted = context.emit(self.fills, symbol, |fill| *fill = Trade { account, symbol, qty });
        // A handler never waits. If the other lane is full, this event is retried once there is room. Its own state
        // changes only after the emit has succeeded, or the order would be counted twice.
        if emitted.is_err() {
            return Verdict::Retry;
        }
        *self.orders_by_account.entry(account).or_default() += 1;
        Verdict::Done
    }

    fn on_stop(self, _: &mut Context<'_, Trade>) -> (u64, u64) {
        (self.orders_by_account.values().sum(), self.volume_by_symbol.values().sum())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Two shards, even on one CPU.
    let mut plan = Plan::new(Profile::Dev).with_shards(2).with_overcommitted(true).with_mesh(true);
    // The later stage goes first: fills are strict, and orders get the remaining capacity.
    let fills = plan.class(Class::strict("fills").with_capacity(256).block());
    let orders = plan.class(Class::weighted("orders", 1).with_capacity(256).block());
    let engine = plan.start(Trade::default, move |_shard| Desk {
        fills,
        orders_by_account: HashMap::new(),
        volume_by_symbol: HashMap::new(),
    })?;

    let mut tx = engine.attach()?;
    for i in 0..ORDERS {
        let trade = Trade { account: i % ACCOUNTS, symbol: i % SYMBOLS, qty: 1 + i % 3 };
        tx.publish(orders, Key(trade.account), |slot| *slot = trade)?;
    }

    // The mesh stays open while the engine drains, so every fill arrives.
    let mut report = engine.stop(Duration::from_secs(10))?;
    println!("{report}");
    let ends = report.outputs::<(u64, u64)>();
    for (shard, (orders, volume)) in ends.iter().enumerate() {
        println!("shard {shard}: {orders} orders of its accounts, volume {volume} of its symbols");
    }
    assert!(report.drained && report.ledger.is_closed());
    assert_eq!(ends.iter().map(|(orders, _)| orders).sum::<u64>(), ORDERS);
    assert_eq!(
        ends.iter().map(|(_, volume)| volume).sum::<u64>(),
        (0..ORDERS).map(|i| 1 + i % 3).sum::<u64>()
    );
    Ok(())
}

#[test]
fn example_runs() {
    main().unwrap();
}
