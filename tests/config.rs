//! Configurations by the library's face: what is written reads back the same, every rule tells its problem where it stands,
//! and what is explained, compared and drafted is what is in effect.
#![cfg(feature = "config")]

#[path = "support/configs.rs"]
mod configs;

use configs::{Dice, any_plan};
use pelton::config::{Notes, Scope, Sources, read, write};
use pelton::{Plan, Profile};

fn of_text(text: &str) -> Sources {
    Sources { file: Some(("it.toml".into(), text.into())), ..Sources::default() }
}

/// The plan of a text that is right.
#[track_caller]
fn plan_of(text: &str) -> Plan {
    read(&of_text(text), None).into_plan().unwrap_or_else(|problems| panic!("{problems}\n{text}"))
}

#[test]
fn what_is_written_reads_back_as_the_same_plan() {
    for seed in 0..200 {
        let profile = Profile::ALL[seed % 4];
        let plan = any_plan(profile, &mut Dice::new(seed as u64));
        let text = write(&plan, &[], &Notes::new());
        let again = plan_of(&text);
        assert_eq!(format!("{plan:?}"), format!("{again:?}"), "seed {seed}\n{text}");
        // And what is read is explained as what was written.
        let [one, two] = [&plan, &again].map(|plan| {
            let rows = pelton::config::explain(plan, &Default::default(), &[], Scope::default());
            rows.into_iter()
                .map(|row| (row.setting, row.value, row.comes_to, row.cost_bytes))
                .collect::<Vec<_>>()
        });
        assert_eq!(one, two, "seed {seed}");
        for line in text.lines().filter(|line| line.starts_with('#')) {
            assert!(line.chars().count() <= 100, "{line}");
        }
    }
}
