//! How the value of a setting is kept in a field, by the field's type.
//!
//! | field | value |
//! |---|---|
//! | `bool` | `true` or `false` |
//! | `u8`, `u16`, `u32`, `u64`, `usize` | a whole number |
//! | `Duration` | a whole number of the row's unit, rounded up: `ns`, `µs`, `ms` or `s` |
//! | `String`, `PathBuf` | a text |
//! | `Vec<String>` | a list of texts |
//! | `Vec<usize>` | a list of CPUs |
//! | an enum with [`Keyword`] | one of its words |
//! | `Option` of these | the same, or the kind's word for `None` |

use super::schema::SettingInfo;
use super::value::Value;
use crate::park::Wait;
use std::path::PathBuf;
use std::time::Duration;

/// A field that keeps the value of a setting.
pub trait SettingField: Sized {
    /// Returns the field as a value.
    fn to_value(&self, info: &SettingInfo) -> Value;

    /// Makes the field of a value; `None` where it holds no such value, which the row's kind does not accept either.
    fn from_value(value: Value, info: &SettingInfo) -> Option<Self>;
}

/// An enum whose values have a word each.
pub trait Keyword: Copy {
    /// Returns the word of a value.
    fn keyword(self) -> &'static str;

    /// Returns the value of a word.
    fn from_keyword(word: &str) -> Option<Self>;
}

impl<K: Keyword> SettingField for K {
    fn to_value(&self, _: &SettingInfo) -> Value {
        self.keyword().into()
    }

    fn from_value(value: Value, _: &SettingInfo) -> Option<Self> {
        K::from_keyword(value.word())
    }
}

impl Keyword for Wait {
    fn keyword(self) -> &'static str {
        self.name()
    }

    fn from_keyword(word: &str) -> Option<Self> {
        word.parse().ok()
    }
}

macro_rules! whole_fields {
    ($($whole:ty),*) => {$(
        impl SettingField for $whole {
            fn to_value(&self, _: &SettingInfo) -> Value {
                Value::Whole(*self as u64)
            }

            fn from_value(value: Value, _: &SettingInfo) -> Option<Self> {
                value.number()
            }
        }
    )*};
}
whole_fields!(u8, u16, u32, u64, usize);

impl SettingField for bool {
    fn to_value(&self, _: &SettingInfo) -> Value {
        (*self).into()
    }

    fn from_value(value: Value, _: &SettingInfo) -> Option<Self> {
        Some(value.is_on())
    }
}

impl SettingField for Duration {
    fn to_value(&self, info: &SettingInfo) -> Value {
        // A file can hold no more than the largest `i64`.
        let units = u64::try_from(self.as_nanos().div_ceil(unit_ns(info.unit).into())).unwrap_or(u64::MAX);
        units.min(i64::MAX as u64).into()
    }

    fn from_value(value: Value, info: &SettingInfo) -> Option<Self> {
        let (units, unit_ns) = (value.number::<u64>()?, unit_ns(info.unit));
        let per_s = 1_000_000_000 / unit_ns;
        Some(Duration::new(units / per_s, (units % per_s * unit_ns) as u32))
    }
}

fn unit_ns(unit: &str) -> u64 {
    match unit {
        "ns" => 1,
        "µs" => 1_000,
        "ms" => 1_000_000,
        _ => 1_000_000_000,
    }
}

impl SettingField for String {
    fn to_value(&self, _: &SettingInfo) -> Value {
        self.clone().into()
    }

    fn from_value(value: Value, _: &SettingInfo) -> Option<Self> {
        Some(value.word().to_string())
    }
}

impl SettingField for PathBuf {
    fn to_value(&self, _: &SettingInfo) -> Value {
        self.display().to_string().into()
    }

    fn from_value(value: Value, _: &SettingInfo) -> Option<Self> {
        Some(PathBuf::from(value.word()))
    }
}

impl SettingField for Vec<String> {
    fn to_value(&self, _: &SettingInfo) -> Value {
        self.clone().into()
    }

    fn from_value(value: Value, _: &SettingInfo) -> Option<Self> {
        Some(value.texts())
    }
}

impl SettingField for Vec<usize> {
    fn to_value(&self, _: &SettingInfo) -> Value {
        Value::Cpus(self.clone())
    }

    fn from_value(value: Value, _: &SettingInfo) -> Option<Self> {
        match value {
            Value::Cpus(cpus) => Some(cpus),
            _ => None,
        }
    }
}

impl<F: SettingField> SettingField for Option<F> {
    fn to_value(&self, info: &SettingInfo) -> Value {
        match self {
            Some(field) => field.to_value(info),
            None => info.kind.none_word().unwrap_or_default().into(),
        }
    }

    fn from_value(value: Value, info: &SettingInfo) -> Option<Self> {
        match &value {
            Value::Word(word) if info.kind.none_word() == Some(word.as_ref()) => Some(None),
            _ => F::from_value(value, info).map(Some),
        }
    }
}
