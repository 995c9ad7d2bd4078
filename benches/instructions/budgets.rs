//! What a count of the engine may come to.

use Most::{Instructions, Percent};
use pelton_testkit::budgets::{Budget, Growth, Most, Suite};

/// The counts of the engine, and of its lanes.
pub const SUITE: Suite = Suite {
    name: "engine",
    events: super::suite::EVENTS,
    budgets: BUDGETS,
    growth: GROWTH,
    against: Some((
        &["lane_publish::one_by_one", "engine_publish::wait_park"],
        "PELTON_COUNTS_WITHOUT_PARK",
        PARK,
    )),
};

/// What the harness takes by itself: published or handled, without Pelton.
const PUBLISHED: &str = "harness_publish::alone";
const HANDLED: &str = "harness_handle::alone";

// A publish pays four instructions to learn whether its lane was closed since its claim: without that look an event could
// be accepted after the final report. A poll that finds one event pays some fifteen: for the thread that polls, for the
// first place that gave something, and for lanes that wait for room in the mesh.
const BUDGETS: &[Budget] = &[
    Budget("harness_publish::alone", None, 15.0),
    Budget("harness_handle::alone", None, 13.0),
    Budget("lane_publish::one_by_one", Some(PUBLISHED), 47.0),
    Budget("lane_poll::batches_of_64", Some(HANDLED), 18.0),
    Budget("lane_poll::batches_of_16", Some(HANDLED), 20.0),
    Budget("lane_poll::batches_of_1", Some(HANDLED), 66.0),
    Budget("lane_poll_found::of_1", Some(HANDLED), 65.0),
    Budget("engine_publish::usual", Some(PUBLISHED), 74.0),
    Budget("engine_publish::stamps_never", Some(PUBLISHED), 74.0),
    Budget("engine_publish::stamps_every", Some(PUBLISHED), 85.0),
    Budget("engine_publish::wait_park", Some(PUBLISHED), 74.0),
    Budget("engine_publish::classes_1", Some(PUBLISHED), 74.0),
    Budget("engine_publish::classes_8", Some(PUBLISHED), 74.0),
    Budget("engine_publish::shards_8", Some(PUBLISHED), 74.0),
    Budget("engine_publish::producers_64", Some(PUBLISHED), 74.0),
    Budget("engine_poll::usual", Some(HANDLED), 48.0),
    Budget("engine_poll::stamps_never", Some(HANDLED), 47.0),
    Budget("engine_poll::stamps_every", Some(HANDLED), 125.0),
    Budget("engine_poll::burst_16", Some(HANDLED), 61.0),
    Budget("engine_poll::classes_1", Some(HANDLED), 58.0),
    Budget("engine_poll::classes_8", Some(HANDLED), 62.0),
    Budget("engine_poll::lowest_of_8", Some(HANDLED), 80.0),
    Budget("engine_poll::shards_8", Some(HANDLED), 61.0),
    Budget("engine_poll::mesh_1", Some(HANDLED), 61.0),
    Budget("engine_poll::mesh_8", Some(HANDLED), 61.0),
    Budget("engine_poll::producers_64", Some(HANDLED), 61.0),
    Budget("engine_poll::burst_1", Some(HANDLED), 350.0),
    Budget("engine_poll_found::of_1", Some(HANDLED), 380.0),
    Budget("engine_poll_found::of_1_stamps_every", Some(HANDLED), 466.0),
    Budget("engine_poll_found::of_1_lowest_of_8", Some(HANDLED), 372.0),
    Budget("engine_poll_found::of_1_producers_64", Some(HANDLED), 380.0),
    Budget("engine_poll_empty::usual", None, 208.0),
    Budget("engine_poll_empty::classes_8", None, 432.0),
    Budget("engine_poll_empty::producers_64", None, 208.0),
];

/// Allowed are 15 % at batches of 16 and more, wanted 5; a limit above that says what is not there yet.
const GROWTH: &[Growth] = &[
    Growth(
        "publish: classes 1 -> 8",
        "engine_publish::classes_1",
        "engine_publish::classes_8",
        Percent(15.0),
    ),
    Growth("publish: shards 1 -> 8", "engine_publish::usual", "engine_publish::shards_8", Percent(15.0)),
    Growth(
        "publish: producers 1 -> 64",
        "engine_publish::usual",
        "engine_publish::producers_64",
        Percent(15.0),
    ),
    Growth(
        "poll: classes 1 -> 8, all busy",
        "engine_poll::classes_1",
        "engine_poll::classes_8",
        Percent(15.0),
    ),
    Growth(
        "poll: classes 1 -> 8, the lowest busy",
        "engine_poll::classes_1",
        "engine_poll::lowest_of_8",
        Percent(45.0),
    ),
    Growth("poll: shards 1 -> 8", "engine_poll::burst_16", "engine_poll::shards_8", Percent(15.0)),
    Growth("poll: shards 1 -> 8, with mesh", "engine_poll::mesh_1", "engine_poll::mesh_8", Percent(15.0)),
    Growth(
        "poll: producers 1 -> 64, one busy",
        "engine_poll::burst_16",
        "engine_poll::producers_64",
        Percent(15.0),
    ),
    Growth(
        "publish: wait spin -> park",
        "engine_publish::usual",
        "engine_publish::wait_park",
        Instructions(3.0),
    ),
];

/// What a publish may cost more than in a build without the feature `park`.
const PARK: f64 = 3.0;
