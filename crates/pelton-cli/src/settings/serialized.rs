//! Values and origins as JSON has them; the engine leaves the form to its users.

use pelton::config::Origin;
use pelton::engine::Value;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

/// As its type.
pub fn value<S: Serializer>(value: &Value, to: S) -> Result<S::Ok, S::Error> {
    match value {
        Value::Flag(flag) => flag.serialize(to),
        Value::Whole(n) => n.serialize(to),
        Value::Word(word) => word.serialize(to),
        Value::Cpus(cpus) => cpus.serialize(to),
        Value::Texts(texts) => texts.serialize(to),
        Value::Secret(secret) => secret.to_string().serialize(to),
    }
}

/// As an object: what it is, and where.
pub fn origin<S: Serializer>(origin: &Origin, to: S) -> Result<S::Ok, S::Error> {
    let mut map = to.serialize_map(None)?;
    let (from, more) = match origin {
        Origin::Profile(profile) => ("profile", Some(("name", profile.name()))),
        Origin::Command(why) => ("command", Some(("why", why.as_str()))),
        Origin::File { name, .. } => ("file", Some(("name", name.as_str()))),
        Origin::Environment(name) => ("environment", Some(("name", name.as_str()))),
        Origin::Option(name) => ("option", Some(("name", name.as_str()))),
        Origin::Start => ("start", None),
        Origin::Code => ("code", None),
    };
    map.serialize_entry("from", from)?;
    if let Some((key, text)) = more {
        map.serialize_entry(key, text)?;
    }
    if let Origin::File { line, column, .. } = origin {
        map.serialize_entry("line", line)?;
        map.serialize_entry("column", column)?;
    }
    map.end()
}
