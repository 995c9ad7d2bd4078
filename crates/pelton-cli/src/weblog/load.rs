//! A replay's options from files, environment and the command line.

use crate::weblog::feed::Entry;
use crate::weblog::options::{Options, REPLAY};
use pelton::config::{Base, Config, DerivedDefault, Rows, Scope, Sources, Table, layer};
use pelton::engine::{Plan, Profile};
use pelton::host::Host;
use pelton::ring::event_layout;

/// Producers and the engine's room for them follow from each other.
const DERIVED: &[DerivedDefault<Options>] = &[
    DerivedDefault {
        setting: "replay: producers",
        value: |options, plan| {
            let most = plan.producers_max();
            (options.producers > most).then_some(most.into())
        },
        why: "as many as producers_max",
    },
    DerivedDefault {
        setting: "producers_max",
        value: |options, _| Some(options.producers.into()),
        why: "as many as producers",
    },
];

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
    let why: Vec<_> = Options::WHY.iter().chain(why).copied().collect();
    let base = Base { plan: base, profile: Some(Profile::Dev), fixed_classes: true, why: &why };
    let mut own = Rows::one("replay", REPLAY, options.clone());
    let mut tables: Vec<&mut dyn Table> = vec![&mut own];
    tables.extend(others.iter_mut().map(|other| &mut **other as &mut dyn Table));
    let mut config = layer(sources, &base, &mut tables);
    config.derive(&mut own, DERIVED);
    *options = own.into_one();
    config.reserve(|plan| options.reserve(plan));
    config.check(Scope { event: Some(event_layout::<Entry>()), host });
    options.plan = config.plan().clone();
    if !config.problems().has_errors() {
        config.add(&options.findings());
    }
    config
}
