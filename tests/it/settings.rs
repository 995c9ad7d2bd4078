//! The engine's tables of settings read back what they set, and are what the documentation shows. That every field has a
//! row is checked by the compiler: see `pelton::settings!`.

use pelton::engine::{CLASS, CODE_ONLY, ENGINE};
use pelton::{Class, Plan, Profile};
use pelton_testkit::tables::{is_kept, is_sound, others, reads_back, table};
use std::collections::BTreeSet;

#[test]
fn fields_without_a_row_say_why() {
    let is_key = |field: &str| ENGINE.iter().any(|row| row.info.key == field);
    for (field, why) in CODE_ONLY {
        assert!(!is_key(field) && !why.is_empty(), "{field}");
    }
}

#[test]
fn rows_are_sound_in_every_profile() {
    for profile in Profile::ALL {
        let mut keys = BTreeSet::new();
        is_sound(ENGINE, || Plan::new(profile), &mut keys);
        is_sound(CLASS, || Class::strict("x"), &mut keys);
    }
}

#[test]
fn rows_read_back_what_they_set() {
    reads_back(ENGINE, || Plan::new(Profile::Dev));
    for row in CLASS {
        // A weighted class always has a weight.
        for value in others(row.info.kind)
            .into_iter()
            .filter(|value| row.info.key != "weight" || value.word().is_empty())
        {
            let mut class = Class::weighted("x", 3);
            row.set(&mut class, value.clone());
            assert_eq!(row.get(&class), value, "{}", row.info.key);
        }
    }
}

#[test]
fn documentation_matches_the_tables() {
    let plans: Vec<_> = Profile::ALL.map(|profile| (profile.name(), Plan::new(profile))).into();
    // A class has no name at first.
    let class = table(CLASS, &[("", Class::strict(""))]);
    is_kept(
        concat!(env!("CARGO_MANIFEST_DIR"), "/src/engine/settings/settings.md"),
        &format!("{}\nOf each class:\n\n{class}", table(ENGINE, &plans)),
    );
}
