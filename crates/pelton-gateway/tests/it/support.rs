//! Gateways and events that tests of several subjects use.

use pelton::Class;
use pelton_gateway::Options;
use pelton_testkit::gateway::*;
use pelton_views::View;

/// A class of four slots, and one with room.
pub fn small(class_of: impl FnOnce(Class) -> Class) -> Options {
    options(1, 1, [class_of(class("small", 4)), class("roomy", 1_024)])
}

pub fn error_of(reply: &Reply) -> &str {
    match reply {
        Reply::Error(text) => text,
        other => panic!("no error: {other:?}"),
    }
}

pub fn viewed(shards: u16, views: impl IntoIterator<Item = View>) -> Options {
    let mut options = options(shards, 1, [class("s", 256)]);
    options.views = views.into_iter().collect();
    options.plan = options.reserve(options.plan.clone());
    options
}

/// An event of a time and a number, where they are given; `xadd` is for those that are in order.
pub fn measured(who: &str, time: Option<u64>, value: Option<&str>) -> Vec<u8> {
    let time = time.map(|time| time.to_string());
    let mut args = vec!["XADD", "s", "*", "who", who];
    args.extend(time.iter().flat_map(|time| ["t", time]));
    args.extend(value.iter().flat_map(|value| ["v", value]));
    request(&args)
}
