//! A claim ends before its producer does.

use pelton::{Class, Event, Plan, Profile};

fn main() {
    let mut plan = Plan::new(Profile::Dev);
    let class = plan.class(Class::strict("only"));
    let engine = plan.start(|| 0u64, |_| |_: &mut Event<'_, u64>, _: &mut pelton::Context<'_, u64>| ()).unwrap();
    let mut tx = engine.attach().unwrap();
    let claim = tx.claim(class, 1u64).try_acquire().unwrap();
    drop(tx);
    claim.publish();
}
