//! A loop of your own: the application polls the shard between its other work, and sleeps until an event arrives.
//!
//! Use this if the application already has an event loop, for example that of a game or of a user interface. The
//! engine starts no thread then.
//!
//! ```sh
//! cargo run -p pelton --example host_loop
//! ```

use pelton::{Class, Context, Event, Plan, Profile};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

const EVENTS: u64 = 10_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut plan = Plan::new(Profile::Dev);
    let input = plan.class(Class::strict("input").with_capacity(256).block());
    let (engine, mut seats) = plan.host_driven(|| 0u64)?;

    // The handler stays on this thread, so it may share state with the loop without a lock.
    let sum = Rc::new(Cell::new(0));
    let total = sum.clone();
    let handler =
        move |event: &mut Event<'_, u64>, _: &mut Context<'_, u64>| total.set(total.get() + **event);
    let mut shard = seats.remove(0).build(handler)?;

    let mut tx = engine.attach()?;
    let source = std::thread::spawn(move || {
        for i in 1..=EVENTS {
            tx.publish(input, i, |event| *event = i).expect("the engine is open");
        }
    });

    let (mut frames, mut naps) = (0u64, 0u64);
    while engine.ledger().total().handled < EVENTS {
        // Other work of a frame goes here. A poll handles one burst at most, and never blocks.
        frames += 1;
        if shard.poll() == 0 {
            // Nothing to do: sleep until an event rings, but no longer than a frame. `arm` returns `None` if an event
            // has arrived meanwhile.
            if let Some(nap) = shard.arm() {
                naps += 1;
                nap.wait(Duration::from_millis(16));
            }
        }
    }
    source.join().expect("the source does not panic");

    // A host stops its engine in this order: close, poll until nothing is left, stop, finish, complete the report.
    engine.close();
    while !engine.drain(Duration::ZERO) {
        shard.poll();
    }
    let mut report = engine.stop(Duration::ZERO)?;
    report.add(shard.finish());
    println!("{report}");
    println!("{frames} frames, {naps} naps");
    assert!(report.drained && report.ledger.is_closed());
    assert_eq!(sum.get(), EVENTS * (EVENTS + 1) / 2);
    Ok(())
}

#[test]
fn example_runs() {
    main().unwrap();
}
