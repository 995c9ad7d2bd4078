//! A replay's options from files, environment and the command line.
#![forbid(unsafe_code)]

use crate::config::{Base, Config, Rows, Scope, Sources, Table, resolve};
use crate::engine::{Plan, Profile};
use crate::host::Host;
use crate::ring::event_layout;
use crate::weblog::feed::Entry;
use crate::weblog::options::{Options, REPLAY};

/// Lays everything that was written over `options`: the engine's settings over the plan that `base` makes of a profile
/// (without a file: of `dev`), `[replay]` over the rest. Tables of other commands are `others`, so that one file does for
/// all. `why` has the reasons for what the command has not as its profile has it, beside [`Options::WHY`].
///
/// Where nobody names `producers_max`, there are as many as `producers`; where only that is named, `producers` is at most
/// that.
pub fn configure(
    sources: &Sources,
    options: &mut Options,
    base: &dyn Fn(Profile) -> Plan,
    why: &[(&str, &str)],
    others: &mut [&mut dyn Table],
    host: Option<&Host>,
) -> Config {
    let mut read = |options: &mut Options, plan: &dyn Fn(Profile) -> Plan, why: &[(&str, &str)], scope| {
        let mut own = Rows { name: "replay", rows: REPLAY, of: options };
        let mut tables: Vec<&mut dyn Table> = vec![&mut own];
        for other in others.iter_mut() {
            tables.push(&mut **other);
        }
        let base = Base { plan, profile: Some(Profile::Dev), fixed_classes: true, why };
        resolve(sources, &base, &mut tables, scope)
    };
    // Twice: what the engine's settings start from follows from the replay's own, which are known after the first time.
    let first = read(options, base, &[], Scope::default());
    let mut why: Vec<_> = Options::WHY.iter().chain(why).copied().collect();
    why.push(("producers_max", "as many as producers"));
    let most = first.plan().producers_max;
    if first.origins().of("replay: producers").is_none() && options.producers > most {
        options.producers = most;
        why.push(("replay: producers", "as many as producers_max"));
    }
    let known = options.clone();
    let plan = |profile| known.reserve(base(profile).producers_max(known.producers));
    let scope = Scope { event: Some(event_layout::<Entry>()), host };
    let mut config = read(options, &plan, &why, scope);
    options.plan = config.plan().clone();
    if !config.problems().has_errors() {
        config.add(&options.findings());
    }
    config
}
