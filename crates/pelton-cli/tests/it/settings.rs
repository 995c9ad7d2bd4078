//! The table of a replay's settings reads back what it sets.

use pelton::engine::{CLASS, ENGINE};
use pelton::{Class, Plan, Profile};
use pelton_cli::weblog::{Options, REPLAY};
use pelton_testkit::tables::{is_sound, reads_back};
use std::collections::BTreeSet;

#[test]
fn rows_of_a_replay_read_back_what_they_set() {
    // A replay's options stand beside the engine's, so no two have one name.
    let mut keys = BTreeSet::new();
    is_sound(ENGINE, || Plan::new(Profile::Dev), &mut keys);
    is_sound(CLASS, || Class::strict("x"), &mut keys);
    is_sound(REPLAY, Options::default, &mut keys);
    reads_back(REPLAY, Options::default);
}
