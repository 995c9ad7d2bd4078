//! Events go from thread to thread, so their type must be allowed to.

use pelton::{Class, Plan, Profile};
use std::rc::Rc;

fn main() {
    let _ = pelton::ring::ring(pelton::ring::Shape::slots(2), || Rc::new(0u64));
    let mut plan = Plan::new(Profile::Dev);
    plan.class(Class::strict("only"));
    let _ = plan.host_driven(|| Rc::new(0u64));
}
