//! What every table of settings keeps to.

use pelton::engine::{Kind, RawValue, Secret, Setting, Value};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

/// Every row is named once and after its unit, says what it is, and its value reads back as it is written.
pub fn is_sound<T>(rows: &[Setting<T>], of: impl Fn() -> T, keys: &mut BTreeSet<&'static str>) {
    for row in rows {
        assert!(keys.insert(row.info.key), "{} stands twice", row.info.key);
        for text in [row.info.what, row.info.trades, row.info.watch] {
            assert!(!text.is_empty() && !text.ends_with('.'), "{}: {text}", row.info.key);
        }
        let unit = match row.info.unit {
            "µs" => "us",
            "lines/s" => "lines_per_s",
            unit => unit,
        };
        // The unit stands last in the name; a stamp is one in so many events.
        assert!(
            row.info.key.ends_with(unit) || row.info.key == "stamp_one_in",
            "{} has the unit {}",
            row.info.key,
            row.info.unit
        );
        if let Some((other, word)) = row.info.needs {
            let other = rows.iter().find(|row| row.info.key == other).unwrap();
            assert!(
                matches!(other.info.kind, Kind::OneOf(words) if words.contains(&word)),
                "{}",
                row.info.key
            );
        }
        // What it has can be read again, as a file and as an option write it, and is the same then.
        let value = row.get(&of());
        row.info.kind.accept(&value).unwrap();
        if let Value::Secret(secret) = &value {
            assert!(!secret.is_set(), "{}", row.info.key);
            continue;
        }
        let text = value.to_string();
        assert_eq!(row.info.kind.read(&RawValue::Bare(&text)), Ok(value.clone()), "{}", row.info.key);
        let mut again = of();
        row.set(&mut again, value.clone());
        assert_eq!(row.get(&again), value, "{}", row.info.key);
    }
}

/// Values that a row of a kind can be set to.
pub fn others(kind: Kind) -> Vec<Value> {
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
        Kind::Text(..) => vec!["other".into(), "a \"quoted\" \\ text\n".into()],
        Kind::Cpus(word) => vec![word.into(), Value::Cpus(vec![3, 0])],
        Kind::Texts => vec![Value::Texts(Vec::new()), Value::Texts(vec!["a".into(), "b \"c\"".into()])],
        Kind::Secret => vec![Secret::default().into(), Secret::new("hush").into()],
    }
}

/// Every row reads back what it sets.
pub fn reads_back<T>(rows: &[Setting<T>], of: impl Fn() -> T) {
    for row in rows {
        for value in others(row.info.kind) {
            let mut of = of();
            row.set(&mut of, value.clone());
            assert_eq!(row.get(&of), value, "{}", row.info.key);
        }
    }
}

/// A table as the documentation has it, at first in each of some ways.
pub fn table<T>(rows: &[Setting<T>], starts: &[(&str, T)]) -> String {
    let mut text = String::new();
    writeln!(
        text,
        "| setting | what it is | may be | at first | trades | watch |\n|---|---|---|---|---|---|"
    )
    .unwrap();
    for row in rows {
        let mut defaults: Vec<String> = starts.iter().map(|(_, of)| row.get(of).to_string()).collect();
        if row.info.key == "profile" {
            defaults = vec!["–".into()];
        } else if defaults.iter().all(|value| *value == defaults[0]) {
            defaults.truncate(1);
        } else {
            let named = starts.iter().zip(&defaults).map(|((name, _), value)| format!("{name} {value}"));
            defaults = named.collect();
        }
        let kind = row.info.kind.to_string().replace("18446744073709551615", "2^64 − 1");
        writeln!(
            text,
            "| `{}` | {} | {kind} | {} | {} | {} |",
            row.info.key,
            row.info.what,
            defaults.join(", "),
            row.info.trades,
            row.info.watch
        )
        .unwrap();
    }
    text
}

/// A file holds this text.
#[track_caller]
pub fn is_kept(path: impl AsRef<Path>, text: &str) {
    let path = path.as_ref();
    if std::env::var_os("PELTON_TEST_BLESS").is_some() {
        std::fs::write(path, text).unwrap();
    }
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(kept, text, "PELTON_TEST_BLESS=1 writes it anew");
}
