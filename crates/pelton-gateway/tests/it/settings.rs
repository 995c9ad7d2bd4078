//! The gateway's tables of settings read back what they set, and are what the documentation shows.

use pelton::Profile;
use pelton::engine::{CLASS, ENGINE};
use pelton::{Class, Plan};
use pelton_gateway::{GATEWAY, Options, STREAM, Stream};
use pelton_testkit::tables::{is_kept, is_sound, reads_back, table};
use std::collections::BTreeSet;

#[test]
fn rows_are_sound() {
    // A gateway's options stand beside the engine's, so no two have one name.
    let mut keys = BTreeSet::new();
    is_sound(ENGINE, || Plan::new(Profile::Dev), &mut keys);
    is_sound(CLASS, || Class::strict("x"), &mut keys);
    is_sound(GATEWAY, Options::default, &mut keys);
    // A stream stands in a table of its own, as a class does.
    is_sound(STREAM, || Stream::new("x", "y"), &mut BTreeSet::new());
}

#[test]
fn value_that_is_set_is_read_back() {
    reads_back(GATEWAY, Options::default);
    reads_back(STREAM, || Stream::new("x", "y"));
}

#[test]
fn settings_documentation_matches_the_tables() {
    let gateway = table(GATEWAY, &[("", Options::default())]);
    let stream = table(STREAM, &[("", Stream::new("", ""))]);
    is_kept(
        concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/settings.md"),
        &format!("{gateway}\nOf each stream:\n\n{stream}"),
    );
}
