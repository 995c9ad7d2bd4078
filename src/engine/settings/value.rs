//! The value of a setting, and the raw value that a file, a variable or an option has for it.

use std::borrow::Cow;
use std::fmt;

/// The value of a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// On or off.
    Flag(bool),
    /// A whole number, in the setting's unit.
    Whole(u64),
    /// A word, or a text.
    Word(Cow<'static, str>),
    /// CPUs, in the order in which they are used.
    Cpus(Vec<usize>),
    /// Texts, in their order.
    Texts(Vec<String>),
    /// A text that is not shown.
    Secret(Secret),
}

/// A text that is never printed: `Display` and `Debug` show only whether it is set. An empty one is not set.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Makes a secret of a text. An empty one is not set.
    ///
    /// ```
    /// use pelton::engine::Secret;
    /// let token = Secret::new("hunter2");
    /// assert_eq!((token.is_set(), token.to_string().as_str()), (true, "set"));
    /// assert_eq!(token.reveal(), "hunter2");
    /// ```
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// Whether it is set.
    pub fn is_set(&self) -> bool {
        !self.0.is_empty()
    }

    /// Returns the text itself, to compare it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_set() { "set" } else { "not set" })
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({self})")
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Value::Flag(flag)
    }
}

macro_rules! from_whole {
    ($($whole:ty),*) => {$(
        impl From<$whole> for Value {
            fn from(n: $whole) -> Self {
                Value::Whole(n as u64)
            }
        }
    )*};
}
from_whole!(u16, u32, u64, usize);

impl From<&'static str> for Value {
    fn from(word: &'static str) -> Self {
        Value::Word(Cow::Borrowed(word))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::Word(Cow::Owned(text))
    }
}

impl From<Vec<String>> for Value {
    fn from(texts: Vec<String>) -> Self {
        Value::Texts(texts)
    }
}

impl From<Secret> for Value {
    fn from(secret: Secret) -> Self {
        Value::Secret(secret)
    }
}

impl Value {
    /// Whether it is `true`.
    ///
    /// ```
    /// use pelton::engine::Value;
    /// assert!(Value::from(true).is_on() && !Value::from(false).is_on());
    /// assert_eq!(Value::from("park").word(), "park");
    /// assert_eq!(Value::from(300u32).number::<u16>(), Some(300));
    /// assert_eq!(Value::from(300u32).number::<u8>(), None);
    /// ```
    pub fn is_on(&self) -> bool {
        *self == Value::Flag(true)
    }

    /// The word, or an empty one.
    pub fn word(&self) -> &str {
        match self {
            Value::Word(word) => word,
            _ => "",
        }
    }

    /// The number; `None` where a word stands for one, or it does not fit.
    pub fn number<N: TryFrom<u64>>(&self) -> Option<N> {
        match self {
            Value::Whole(n) => N::try_from(*n).ok(),
            _ => None,
        }
    }

    /// The number of a setting that always has one.
    pub fn whole<N: TryFrom<u64> + Default>(&self) -> N {
        self.number().unwrap_or_default()
    }

    /// The texts of a list, or none.
    pub fn texts(self) -> Vec<String> {
        match self {
            Value::Texts(texts) => texts,
            _ => Vec::new(),
        }
    }

    /// The secret, or none.
    pub fn secret(self) -> Secret {
        match self {
            Value::Secret(secret) => secret,
            _ => Secret::default(),
        }
    }

    /// As a file has it: words and lists in quotes. A secret is left out, and stands there as none.
    ///
    /// ```
    /// use pelton::engine::Value;
    /// assert_eq!(Value::from(64u32).toml(), "64");
    /// assert_eq!(Value::from("park").toml(), "\"park\"");
    /// assert_eq!(Value::from(vec!["a".to_string(), "b".to_string()]).toml(), r#"["a", "b"]"#);
    /// ```
    pub fn toml(&self) -> String {
        match self {
            Value::Word(word) => quoted(word),
            Value::Cpus(_) => format!("\"{self}\""),
            Value::Texts(texts) => {
                format!("[{}]", texts.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", "))
            }
            Value::Secret(_) => quoted(""),
            Value::Flag(_) | Value::Whole(_) => self.to_string(),
        }
    }
}

/// A string of TOML: its notation is that of Rust, but for control characters.
fn quoted(text: &str) -> String {
    let escape = |c: char| match c {
        '"' => "\\\"".into(),
        '\\' => "\\\\".into(),
        c if c.is_control() => format!("\\u{:04X}", u32::from(c)),
        c => c.to_string(),
    };
    format!("\"{}\"", text.chars().map(escape).collect::<String>())
}

/// As options have it; of a secret, whether there is one.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Flag(flag) => flag.fmt(f),
            Value::Whole(n) => n.fmt(f),
            Value::Word(word) => f.write_str(word),
            Value::Cpus(cpus) => {
                f.write_str(&cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(","))
            }
            Value::Texts(texts) => f.write_str(&texts.join(",")),
            Value::Secret(secret) => secret.fmt(f),
        }
    }
}

/// A value as it is written, before a kind reads it.
#[derive(Clone, Debug, PartialEq)]
pub enum RawValue<'a> {
    /// A text that came without a type: from the environment or the command line.
    Bare(&'a str),
    /// `true` or `false` of a file.
    Flag(bool),
    /// A whole number of a file.
    Whole(i128),
    /// A text of a file, in quotes.
    Text(&'a str),
    /// A list of whole numbers of a file, or an empty list.
    List(Vec<i128>),
    /// A list of texts of a file.
    Texts(Vec<String>),
    /// Anything else of a file: what it is called, and how it looks.
    Other(&'static str, String),
}

impl fmt::Display for RawValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RawValue::Bare(text) | RawValue::Text(text) => write!(f, "'{}'", text.escape_debug()),
            RawValue::Flag(flag) => flag.fmt(f),
            RawValue::Whole(n) => n.fmt(f),
            RawValue::List(list) => write!(f, "{list:?}"),
            RawValue::Texts(texts) => write!(f, "{texts:?}"),
            RawValue::Other(_, text) => f.write_str(text),
        }
    }
}

#[cfg(all(test, not(pelton_loom)))]
mod tests {
    use super::*;

    #[test]
    fn written_values_are_valid_toml() {
        assert_eq!(Value::from("a\"b\\c\n".to_string()).toml(), "\"a\\\"b\\\\c\\u000A\"");
        assert_eq!(Value::Cpus(vec![2, 0]).toml(), "\"2,0\"");
        let texts = Value::Texts(vec!["a".into(), "b\"c".into()]);
        assert_eq!((texts.toml(), texts.to_string()), ("[\"a\", \"b\\\"c\"]".into(), "a,b\"c".into()));
    }

    #[test]
    fn secret_is_never_printed() {
        let secret = Secret::new("hunter2");
        let value = Value::from(secret.clone());
        for told in [value.to_string(), value.toml(), format!("{value:?} {secret:#?}")] {
            assert!(!told.contains("hunter"), "{told}");
        }
        assert_eq!((secret.reveal(), secret.to_string().as_str()), ("hunter2", "set"));
        assert!(value != Value::from(Secret::new("hunter3")) && !Secret::default().is_set());
    }
}
