//! The table of settings covers every field, holds what it says, and is what the documentation shows.

use pelton::engine::{CLASS, CODE_ONLY, ENGINE, Kind, Secret, Setting, Value, Written};
use pelton::{Class, Plan, Profile};
use std::collections::BTreeSet;
use std::fmt::{Debug, Write};

/// The names of a struct's fields, as its derived `Debug` tells them.
fn fields(of: &impl Debug) -> BTreeSet<String> {
    let text = format!("{of:#?}");
    let own = text.lines().filter_map(|line| line.strip_prefix("    ").filter(|line| !line.starts_with(' ')));
    own.filter_map(|line| Some(line.split_once(": ")?.0.to_string())).collect()
}

fn rows_of<T>(rows: &[Setting<T>]) -> BTreeSet<String> {
    rows.iter().map(|row| row.field.to_string()).collect()
}

#[test]
fn every_field_has_its_row() {
    let mut described = rows_of(ENGINE);
    described.extend(CODE_ONLY.map(|(field, _)| field.to_string()));
    assert_eq!(fields(&Plan::new(Profile::Dev)), described);
    assert_eq!(fields(&Class::strict("x")), rows_of(CLASS));
    #[cfg(feature = "views")]
    assert_eq!(fields(&pelton::views::View::count("x")), rows_of(pelton::views::VIEW));
    #[cfg(feature = "weblog")]
    {
        let mut described = rows_of(pelton::weblog::REPLAY);
        described.insert("plan".into());
        assert_eq!(fields(&pelton::weblog::Options::default()), described);
    }
    #[cfg(feature = "gateway")]
    {
        use pelton::gateway::{GATEWAY, Options, STREAM, Stream};
        let mut described = rows_of(GATEWAY);
        described.extend(["plan", "streams", "views"].map(String::from));
        assert_eq!(fields(&Options::default()), described);
        assert_eq!(fields(&Stream::new("x", "y")), rows_of(STREAM));
    }
    #[cfg(feature = "measure")]
    {
        let mut described = rows_of(pelton::measure::BENCH);
        // The command knows whether a question was named.
        described.insert("short".into());
        assert_eq!(fields(&pelton::measure::Settings::default()), described);
    }
}

fn is_sound<T>(rows: &[Setting<T>], of: impl Fn() -> T, keys: &mut BTreeSet<&'static str>) {
    for row in rows {
        assert!(keys.insert(row.key), "{} stands twice", row.key);
        for text in [row.what, row.trades, row.watch] {
            assert!(!text.is_empty() && !text.ends_with('.'), "{}: {text}", row.key);
        }
        let unit = match row.unit {
            "µs" => "us",
            "lines/s" => "lines_per_s",
            unit => unit,
        };
        // The unit stands last in the name; a stamp is one in so many events.
        assert!(
            row.key.ends_with(unit) || row.key == "stamp_one_in",
            "{} has the unit {}",
            row.key,
            row.unit
        );
        if let Some((other, word)) = row.needs {
            let other = rows.iter().find(|row| row.key == other).unwrap();
            assert!(matches!(other.kind, Kind::OneOf(words) if words.contains(&word)), "{}", row.key);
        }
        // What it has can be read again, as a file and as an option write it, and is the same then.
        let value = (row.get)(&of());
        row.kind.accept(&value).unwrap();
        if let Value::Secret(secret) = &value {
            assert!(!secret.is_set(), "{}", row.key);
            continue;
        }
        let text = value.to_string();
        assert_eq!(row.kind.read(&Written::Bare(&text)), Ok(value.clone()), "{}", row.key);
        let mut again = of();
        (row.set)(&mut again, value.clone());
        assert_eq!((row.get)(&again), value, "{}", row.key);
    }
}

#[test]
fn every_row_is_sound_in_every_profile() {
    for profile in Profile::ALL {
        let mut keys = BTreeSet::new();
        is_sound(ENGINE, || Plan::new(profile), &mut keys);
        is_sound(CLASS, || Class::strict("x"), &mut keys);
        // A view stands in a table of its own, as a class does.
        #[cfg(feature = "views")]
        is_sound(pelton::views::VIEW, || pelton::views::View::count("x"), &mut BTreeSet::new());
        // A replay's options stand beside the engine's, so no two have one name.
        #[cfg(feature = "weblog")]
        is_sound(pelton::weblog::REPLAY, pelton::weblog::Options::default, &mut keys.clone());
        // Neither have a gateway's.
        #[cfg(feature = "gateway")]
        is_sound(pelton::gateway::GATEWAY, pelton::gateway::Options::default, &mut keys);
    }
    #[cfg(feature = "gateway")]
    is_sound(pelton::gateway::STREAM, || pelton::gateway::Stream::new("x", "y"), &mut BTreeSet::new());
    #[cfg(feature = "measure")]
    for settings in [pelton::measure::Settings::default, pelton::measure::Settings::short] {
        is_sound(pelton::measure::BENCH, settings, &mut BTreeSet::new());
    }
}

/// What a row can be changed to: not the value that it has.
fn others(kind: Kind) -> Vec<Value> {
    match kind {
        Kind::Flag => vec![false.into(), true.into()],
        Kind::Whole(range) => {
            let ends = [range.from, range.to.min(i64::MAX as u64)].map(Value::from);
            ends.into_iter().chain(range.word.map(Value::from)).collect()
        }
        Kind::OneOf(words) => words.iter().map(|word| (*word).into()).collect(),
        Kind::OneOfOr(words, prefix, _) => {
            words.iter().map(|word| (*word).into()).chain([format!("{prefix}a \"b\"").into()]).collect()
        }
        Kind::Text(_) => vec!["other".into(), "a \"quoted\" \\ text\n".into()],
        Kind::Cpus(word) => vec![word.into(), Value::Cpus(vec![3, 0])],
        Kind::Texts => vec![Value::Texts(Vec::new()), Value::Texts(vec!["a".into(), "b \"c\"".into()])],
        Kind::Secret => vec![Secret::default().into(), Secret::new("hush").into()],
    }
}

fn what_is_set<T>(rows: &[Setting<T>], of: impl Fn() -> T) {
    for row in rows {
        for value in others(row.kind) {
            let mut of = of();
            (row.set)(&mut of, value.clone());
            assert_eq!((row.get)(&of), value, "{}", row.key);
        }
    }
}

#[test]
fn what_is_set_is_what_is_read() {
    what_is_set(ENGINE, || Plan::new(Profile::Dev));
    #[cfg(feature = "views")]
    what_is_set(pelton::views::VIEW, || pelton::views::View::count("x"));
    #[cfg(feature = "weblog")]
    what_is_set(pelton::weblog::REPLAY, pelton::weblog::Options::default);
    #[cfg(feature = "gateway")]
    {
        what_is_set(pelton::gateway::GATEWAY, pelton::gateway::Options::default);
        what_is_set(pelton::gateway::STREAM, || pelton::gateway::Stream::new("x", "y"));
    }
    #[cfg(feature = "measure")]
    what_is_set(pelton::measure::BENCH, pelton::measure::Settings::default);
    for row in CLASS {
        // A weighted class always has a weight.
        for value in
            others(row.kind).into_iter().filter(|value| row.key != "weight" || value.word().is_empty())
        {
            let mut class = Class::weighted("x", 3);
            (row.set)(&mut class, value.clone());
            assert_eq!((row.get)(&class), value, "{}", row.key);
        }
    }
}

/// A table as the documentation has it, at first in each of some ways.
fn table<T>(rows: &[Setting<T>], starts: &[(&str, T)]) -> String {
    let mut text = String::new();
    writeln!(
        text,
        "| setting | what it is | may be | at first | trades | watch |\n|---|---|---|---|---|---|"
    )
    .unwrap();
    for row in rows {
        let mut at_first: Vec<String> = starts.iter().map(|(_, of)| (row.get)(of).to_string()).collect();
        if row.key == "profile" {
            at_first = vec!["–".into()];
        } else if at_first.iter().all(|value| *value == at_first[0]) {
            at_first.truncate(1);
        } else {
            let named = starts.iter().zip(&at_first).map(|((name, _), value)| format!("{name} {value}"));
            at_first = named.collect();
        }
        let kind = row.kind.to_string().replace("18446744073709551615", "2^64 − 1");
        writeln!(
            text,
            "| `{}` | {} | {kind} | {} | {} | {} |",
            row.key,
            row.what,
            at_first.join(", "),
            row.trades,
            row.watch
        )
        .unwrap();
    }
    text
}

#[track_caller]
fn is_kept(path: &str, text: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("PELTON_TEST_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(kept, text, "PELTON_TEST_BLESS=1 writes it anew");
}

#[test]
fn the_documentation_is_made_of_the_tables() {
    let plans: Vec<_> = Profile::ALL.map(|profile| (profile.name(), Plan::new(profile))).into();
    // A class has no name at first.
    let class = table(CLASS, &[("", Class::strict(""))]);
    is_kept("src/engine/settings.md", &format!("{}\nOf each class:\n\n{class}", table(ENGINE, &plans)));
}

#[cfg(feature = "gateway")]
#[test]
fn the_documentation_of_a_gateway_is_made_of_its_tables() {
    use pelton::gateway::{GATEWAY, Options, STREAM, Stream};
    let gateway = table(GATEWAY, &[("", Options::default())]);
    let stream = table(STREAM, &[("", Stream::new("", ""))]);
    is_kept("src/gateway/settings.md", &format!("{gateway}\nOf each stream:\n\n{stream}"));
}
