//! What a setting may be: its kind, its range, and how the texts of files, environment and options are read.

use super::value::{RawValue, Secret, Value};
use crate::ring::nearest_power;
use std::fmt;

/// What a setting may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Flag,
    /// A whole number.
    Whole(Range),
    /// One of some words.
    OneOf(&'static [&'static str]),
    /// One of some words, or what begins with another one: a prefix, and what follows it.
    OneOfOr(&'static [&'static str], &'static str, &'static str),
    /// A text without control characters: what it is, as in `a name`, and a word that stands for none.
    Text(&'static str, Option<&'static str>),
    /// A list of CPUs, or this word.
    Cpus(&'static str),
    /// A list of texts, possibly empty. No text in it is empty, has commas or NUL bytes, or begins or ends with a blank.
    Texts,
    /// A text without NUL bytes that is never shown; empty for none.
    Secret,
}

/// Whole numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The smallest.
    pub from: u64,
    /// The largest.
    pub to: u64,
    /// Whether it must be a power of two.
    pub power: bool,
    /// Whether 0 is also valid.
    pub zero: bool,
    /// Whether thousands and millions may be written as `250k` and `1.5M`.
    pub thousands: bool,
    /// A word that is valid instead of a number.
    pub word: Option<&'static str>,
}

impl Range {
    fn has(&self, n: u64) -> bool {
        (self.zero && n == 0) || ((self.from..=self.to).contains(&n) && (!self.power || n.is_power_of_two()))
    }

    /// Returns the number of the range that is closest to `n`.
    fn near(&self, n: u64) -> u64 {
        let n = n.clamp(self.from, self.to);
        if self.power { u64::from(nearest_power(n as u32, self.to as u32)) } else { n }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Range { from, to, .. } = self;
        let zero = if self.zero { "0 or " } else { "" };
        let power = if self.power { "a power of two " } else { "" };
        match *to {
            u64::MAX => write!(f, "{zero}{power}{from} or more")?,
            _ => write!(f, "{zero}{power}from {from} to {to}")?,
        }
        self.word.map_or(Ok(()), |word| write!(f, ", or \"{word}\""))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Flag => f.write_str("true or false"),
            Kind::Whole(range) => range.fmt(f),
            Kind::OneOf(words) => write!(f, "one of {}", words.join(", ")),
            Kind::OneOfOr(words, prefix, rest) => {
                write!(f, "one of {}, or {prefix}{rest}", words.join(", "))
            }
            Kind::Text(what, None) => f.write_str(what),
            Kind::Text(what, Some(word)) => write!(f, "{what}, or \"{word}\""),
            Kind::Cpus(word) => {
                write!(f, "numbers and ranges with commas between them, as in 0-3,7, or \"{word}\"")
            }
            Kind::Texts => f.write_str("a list of texts, none of them empty or with commas or NUL bytes"),
            Kind::Secret => f.write_str("a text without NUL bytes, which is not shown; empty for none"),
        }
    }
}

/// Why a kind does not accept a value: what it expects, and a value that works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidValue {
    /// What is expected.
    pub expected: String,
    /// A value that works.
    pub suggestion: String,
}

impl Kind {
    /// Makes the kind of whole numbers from `from` to `to`.
    ///
    /// ```
    /// use pelton::engine::{Kind, RawValue, Value};
    /// let slots = Kind::whole(1, 4_096).power();
    /// assert_eq!(slots.to_string(), "a power of two from 1 to 4096");
    /// assert_eq!(slots.read(&RawValue::Bare("1_024")), Ok(Value::Whole(1_024)));
    /// let rate = Kind::whole(1, 1_000_000).thousands().or_word("none");
    /// assert_eq!(rate.read(&RawValue::Bare("250k")), Ok(Value::Whole(250_000)));
    /// assert_eq!(rate.read(&RawValue::Bare("none")), Ok("none".into()));
    /// assert_eq!(Kind::whole(64, 128).or_zero().read(&RawValue::Bare("0")), Ok(Value::Whole(0)));
    /// ```
    pub const fn whole(from: u64, to: u64) -> Self {
        Kind::Whole(Range { from, to, power: false, zero: false, thousands: false, word: None })
    }

    /// Makes the kind of a text: what it is, as in `a name`.
    ///
    /// ```
    /// use pelton::engine::{Kind, RawValue};
    /// let name = Kind::text("a name");
    /// assert_eq!(name.read(&RawValue::Bare("orders")), Ok("orders".into()));
    /// assert_eq!(name.read(&RawValue::Flag(true)).unwrap_err().expected, "a name");
    /// ```
    pub const fn text(what: &'static str) -> Self {
        Kind::Text(what, None)
    }

    /// Accepts only powers of two of these numbers.
    pub const fn power(self) -> Self {
        Kind::Whole(Range { power: true, ..self.range() })
    }

    /// Accepts 0 too.
    pub const fn or_zero(self) -> Self {
        Kind::Whole(Range { zero: true, ..self.range() })
    }

    /// Reads `250k` and `1.5M` too.
    pub const fn thousands(self) -> Self {
        Kind::Whole(Range { thousands: true, ..self.range() })
    }

    /// Accepts this word instead of a number or a text. It stands for the `None` of an `Option`.
    pub const fn or_word(self, word: &'static str) -> Self {
        match self {
            Kind::Text(what, _) => Kind::Text(what, Some(word)),
            numbers => Kind::Whole(Range { word: Some(word), ..numbers.range() }),
        }
    }

    const fn range(self) -> Range {
        match self {
            Kind::Whole(range) => range,
            _ => panic!("only whole numbers have a range"),
        }
    }

    /// The word that stands for `None`; of several words, the first.
    pub(super) fn none_word(&self) -> Option<&'static str> {
        match self {
            Kind::Whole(Range { word, .. }) | Kind::Text(_, word) => *word,
            Kind::Cpus(word) => Some(word),
            Kind::OneOf(words) => words.first().copied(),
            _ => None,
        }
    }

    /// Reads a raw value into one that this kind accepts.
    ///
    /// # Errors
    /// [`InvalidValue`]: what is expected, and a value that works.
    ///
    /// # Examples
    /// ```
    /// use pelton::engine::{Kind, RawValue};
    /// let slots = Kind::whole(1, 4_096).power();
    /// let error = slots.read(&RawValue::Bare("1000")).unwrap_err();
    /// assert_eq!(error.expected, "a power of two from 1 to 4096");
    /// assert_eq!(error.suggestion, "1024");
    /// ```
    pub fn read(&self, raw: &RawValue<'_>) -> Result<Value, InvalidValue> {
        let invalid = || InvalidValue { expected: self.to_string(), suggestion: self.example(raw) };
        let no_cpus = || InvalidValue {
            expected: format!("{self}: CPUs from 0 to {}, ranges of {CPU_RANGE_MAX} at most", u16::MAX),
            ..invalid()
        };
        let value = match (self, raw) {
            (Kind::Flag, RawValue::Flag(flag)) => Value::Flag(*flag),
            (Kind::Flag, RawValue::Bare(text)) => Value::Flag(text.parse().map_err(|_| invalid())?),
            (Kind::Whole(_), RawValue::Whole(n)) => Value::Whole(u64::try_from(*n).map_err(|_| invalid())?),
            (Kind::Whole(range), RawValue::Bare(text) | RawValue::Text(text))
                if range.word == Some(*text) =>
            {
                Value::Word(text.to_string().into())
            }
            (Kind::Whole(range), RawValue::Bare(text)) => {
                Value::Whole(whole(text, range.thousands).ok_or_else(invalid)?)
            }
            (Kind::Whole(range), RawValue::Text(text)) if range.thousands => {
                Value::Whole(whole(text, true).ok_or_else(invalid)?)
            }
            (
                Kind::OneOf(_) | Kind::OneOfOr(..) | Kind::Text(..),
                RawValue::Bare(text) | RawValue::Text(text),
            ) => Value::Word(text.to_string().into()),
            (Kind::Cpus(word), RawValue::Bare(text) | RawValue::Text(text)) if text == word => {
                Value::Word(text.to_string().into())
            }
            (Kind::Cpus(_), RawValue::Bare(text) | RawValue::Text(text)) => {
                Value::Cpus(cpus(text).ok_or_else(no_cpus)?)
            }
            (Kind::Cpus(_), RawValue::List(list)) => {
                let cpu = |n: &i128| u16::try_from(*n).map(usize::from).map_err(|_| no_cpus());
                Value::Cpus(list.iter().map(cpu).collect::<Result<_, _>>()?)
            }
            (Kind::Texts, RawValue::Bare("")) => Value::Texts(Vec::new()),
            (Kind::Texts, RawValue::List(list)) if list.is_empty() => Value::Texts(Vec::new()),
            (Kind::Texts, RawValue::Bare(text)) => {
                Value::Texts(text.split(',').map(|text| text.trim().to_string()).collect())
            }
            // One of a list needs no brackets.
            (Kind::Texts, RawValue::Text(text)) => Value::Texts(vec![text.to_string()]),
            (Kind::Texts, RawValue::Texts(texts)) => Value::Texts(texts.clone()),
            (Kind::Secret, RawValue::Bare(text) | RawValue::Text(text)) => {
                Value::Secret(Secret::new(text.to_string()))
            }
            _ => return Err(invalid()),
        };
        self.accept(&value)?;
        Ok(value)
    }

    /// Checks a value.
    ///
    /// # Errors
    /// [`InvalidValue`].
    ///
    /// # Examples
    /// ```
    /// use pelton::engine::Kind;
    /// let burst = Kind::whole(1, 65_536);
    /// assert!(burst.accept(&64u32.into()).is_ok());
    /// assert_eq!(burst.accept(&0u32.into()).unwrap_err().suggestion, "1");
    /// ```
    pub fn accept(&self, value: &Value) -> Result<(), InvalidValue> {
        let holds = match (self, value) {
            (Kind::Flag, Value::Flag(_)) | (Kind::Cpus(_), Value::Cpus(_)) => true,
            (Kind::Whole(range), Value::Whole(n)) => range.has(*n),
            (Kind::Whole(range), Value::Word(word)) => range.word == Some(word),
            (Kind::OneOf(words), Value::Word(word)) => words.contains(&word.as_ref()),
            (Kind::OneOfOr(words, prefix, _), Value::Word(word)) => {
                let rest = word.strip_prefix(prefix).filter(|rest| !rest.is_empty() && is_line(rest));
                rest.is_some() || words.contains(&word.as_ref())
            }
            (Kind::Text(..), Value::Word(text)) => is_line(text),
            (Kind::Cpus(known), Value::Word(word)) => known == word,
            (Kind::Texts, Value::Texts(texts)) => texts.iter().all(|text| is_of_list(text)),
            (Kind::Secret, Value::Secret(secret)) => !secret.reveal().contains('\0'),
            _ => false,
        };
        let raw = match value {
            Value::Whole(n) => RawValue::Whole(i128::from(*n)),
            Value::Word(word) => RawValue::Text(word),
            Value::Texts(texts) => RawValue::Texts(texts.clone()),
            _ => RawValue::Bare(""),
        };
        if holds {
            return Ok(());
        }
        let expected = match (self, value) {
            // There is nothing else that such a text may not have.
            (Kind::Text(..), Value::Word(_)) => format!("{self}, without control characters"),
            _ => self.to_string(),
        };
        Err(InvalidValue { expected, suggestion: self.example(&raw) })
    }

    /// Returns a valid value that is close to a raw one.
    fn example(&self, raw: &RawValue<'_>) -> String {
        let bare = |text: &str, thousands| whole(text, thousands).map(i128::from);
        match self {
            Kind::Flag => "true".into(),
            Kind::Whole(range) => {
                let n = match raw {
                    RawValue::Whole(n) => Some(*n),
                    RawValue::Bare(text) | RawValue::Text(text) => bare(text, range.thousands),
                    _ => None,
                };
                // A word is not far from the one that there is.
                let text = match raw {
                    RawValue::Bare(text) | RawValue::Text(text) => text,
                    _ => "",
                };
                let is_like = |word: &&str| word.chars().next() == text.chars().next();
                if let (None, Some(word)) = (n, range.word.filter(is_like)) {
                    return format!("'{word}'");
                }
                let n = n.map_or(range.from, |n| u64::try_from(n.max(0)).unwrap_or(u64::MAX));
                range.near(n).to_string()
            }
            // What none of the words begins like is a name without its prefix, or behind a wrong one.
            Kind::OneOfOr(words, prefix, _) if name_of(raw, words).is_some() => {
                let name = name_of(raw, words).unwrap_or_default();
                format!("'{prefix}{}'", name.escape_debug())
            }
            Kind::OneOf(words) | Kind::OneOfOr(words, ..) => {
                let text = match raw {
                    RawValue::Bare(text) | RawValue::Text(text) => text,
                    _ => "",
                };
                closest_match(text, words.iter().copied()).map_or(String::new(), |word| format!("'{word}'"))
            }
            Kind::Text(..) => "'pelton'".into(),
            Kind::Cpus(word) => format!("'{word}'"),
            Kind::Texts => {
                // What of it can be.
                let fit = match raw {
                    RawValue::Texts(texts) => texts.iter().filter(|text| is_of_list(text)).cloned().collect(),
                    RawValue::Bare(text) | RawValue::Text(text) => {
                        let parts = text.split(',').map(str::trim).filter(|text| is_of_list(text));
                        parts.map(str::to_string).collect()
                    }
                    _ => vec!["pelton".to_string()],
                };
                Value::Texts(fit).toml()
            }
            Kind::Secret => "a text in quotes".into(),
        }
    }
}

/// The name in a text that was meant to have a prefix: what follows its colon, or all of it where no word begins like it.
fn name_of<'a>(raw: &RawValue<'a>, words: &[&str]) -> Option<&'a str> {
    let (RawValue::Bare(text) | RawValue::Text(text)) = raw else { return None };
    let is_like = |word: &&str| word.chars().next() == text.chars().next();
    let name = match text.split_once(':') {
        Some((_, name)) => name,
        None if words.iter().any(is_like) => return None,
        None => text,
    };
    (!name.is_empty() && is_line(name)).then_some(name)
}

/// The word that begins most like a text.
///
/// ```
/// use pelton::engine::closest_match;
/// assert_eq!(closest_match("thru", ["dev", "latency", "throughput"].into_iter()), Some("throughput"));
/// ```
pub fn closest_match<'a>(text: &str, words: impl DoubleEndedIterator<Item = &'a str>) -> Option<&'a str> {
    let like = |word: &&str| word.chars().zip(text.chars()).take_while(|(a, b)| a == b).count();
    words.rev().max_by_key(like)
}

/// Whether a text is one line that any program can show: no control characters. One with a line break would forge lines of
/// whatever lists it.
fn is_line(text: &str) -> bool {
    !text.contains(char::is_control)
}

/// Whether a text is valid in a list, as a file and as an option write it.
fn is_of_list(text: &str) -> bool {
    !text.is_empty() && !text.contains([',', '\0']) && text.trim() == text
}

/// Reads a whole number, `_` between its digits allowed; with `thousands` also `250k` and `1.5M`, where that is whole.
fn whole(text: &str, thousands: bool) -> Option<u64> {
    let (digits, factor) = match text.char_indices().last() {
        Some((at, 'k' | 'K')) if thousands => (&text[..at], 1_000),
        Some((at, 'M')) if thousands => (&text[..at], 1_000_000),
        _ => (text, 1),
    };
    // A number has digits alone: what `parse` takes besides is a sign, and that is not for these.
    let number = |digits: &str| {
        let plain: String = digits.chars().filter(|c| *c != '_').collect();
        plain.chars().all(|c| c.is_ascii_digit()).then(|| plain.parse::<u64>().ok()).flatten()
    };
    let Some((whole, fraction)) = digits.split_once('.').filter(|_| thousands) else {
        return number(digits)?.checked_mul(factor);
    };
    // Groups of digits count from the point to the left.
    if fraction.contains('_') {
        return None;
    }
    let place = 10u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let parts = number(fraction)?.checked_mul(factor).filter(|parts| parts % place == 0)? / place;
    number(whole)?.checked_mul(factor)?.checked_add(parts)
}

/// The most CPUs of a range.
const CPU_RANGE_MAX: usize = 4_096;

/// Reads a list of CPUs in the notation of the kernel: `0-3,7`. Every part must be valid.
fn cpus(text: &str) -> Option<Vec<usize>> {
    let cpu = |digits: &str| {
        let digits = digits.trim();
        digits
            .chars()
            .all(|c| c.is_ascii_digit())
            .then(|| digits.parse::<u16>().ok())
            .flatten()
            .map(usize::from)
    };
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let range = cpu(from)?..=cpu(to)?;
        if range.is_empty() || range.end() - range.start() >= CPU_RANGE_MAX {
            return None;
        }
        cpus.extend(range);
    }
    Some(cpus)
}

#[cfg(all(test, not(pelton_loom)))]
mod tests {
    use super::*;

    #[test]
    fn numbers_with_thousands_and_millions_are_read() {
        let rates = ["250000", "250k", "1M", "2.5k", "1.5M", "0", "0.001k", "7K", "1_000"]
            .map(|text| whole(text, true));
        assert_eq!(
            rates.map(Option::unwrap),
            [250_000, 250_000, 1_000_000, 2_500, 1_500_000, 0, 1, 7_000, 1_000]
        );
        for text in [
            "",
            "k",
            "-1",
            "+1",
            "1.5",
            "1.2345k",
            "1e6",
            "fast",
            "18446744073709551616",
            "1.k",
            "é",
            "1.5_k",
            "1._5k",
            "1_.5_M",
            "0.1_0M",
        ] {
            assert_eq!(whole(text, true), None, "{text}");
        }
        assert_eq!(whole("250k", false), None);
    }

    #[test]
    fn invalid_values_suggest_one_that_works() {
        let power = Kind::whole(64, 1 << 30).power().or_zero();
        let InvalidValue { expected, suggestion } = power.read(&RawValue::Whole(100)).unwrap_err();
        assert_eq!(
            (expected.as_str(), suggestion.as_str()),
            ("0 or a power of two from 64 to 1073741824", "128")
        );
        assert_eq!(power.read(&RawValue::Bare("0")), Ok(Value::Whole(0)));
        assert_eq!(power.read(&RawValue::Whole(-5)).unwrap_err().suggestion, "64");
        assert_eq!(power.read(&RawValue::Whole(i128::MAX)).unwrap_err().suggestion, "1073741824");
        let words = Kind::OneOf(&["spin", "yield", "park"]);
        assert_eq!(words.read(&RawValue::Text("yeld")).unwrap_err().suggestion, "'yield'");
        assert_eq!(words.read(&RawValue::Flag(true)).unwrap_err().suggestion, "'spin'");
        let keys = Kind::OneOfOr(&["round_robin", "first"], "field:", "NAME");
        assert_eq!(keys.read(&RawValue::Text("field:first")), Ok("field:first".into()));
        let InvalidValue { expected, suggestion } = keys.read(&RawValue::Text("field:")).unwrap_err();
        assert_eq!(
            (expected.as_str(), suggestion.as_str()),
            ("one of round_robin, first, or field:NAME", "'first'")
        );
        for (text, works) in [
            ("feild:user", "'field:user'"),
            ("user", "'field:user'"),
            ("frist", "'first'"),
            ("random", "'round_robin'"),
            ("", "'round_robin'"),
            ("a\0", "'round_robin'"),
        ] {
            assert_eq!(keys.read(&RawValue::Text(text)).unwrap_err().suggestion, works, "{text}");
        }
        let seconds = Kind::whole(1, 9).or_word("never");
        for (text, works) in [("nevr", "'never'"), ("ever", "1"), ("70", "9"), ("", "1")] {
            assert_eq!(seconds.read(&RawValue::Bare(text)).unwrap_err().suggestion, works, "{text}");
        }
        assert_eq!(
            Kind::text("a name").read(&RawValue::Text("a\r\nb:1")).unwrap_err().expected,
            "a name, without control characters"
        );
        let spans = Kind::whole(1, u64::MAX).or_word("none");
        assert_eq!(spans.read(&RawValue::Text("none")), Ok("none".into()));
        assert_eq!(spans.read(&RawValue::Text("7")).unwrap_err().expected, "1 or more, or \"none\"");
        assert_eq!(Kind::Cpus("chosen").read(&RawValue::List(vec![2, 0])), Ok(Value::Cpus(vec![2, 0])));
        assert!(Kind::Cpus("chosen").read(&RawValue::Bare("x,2")).is_err());
    }

    #[test]
    fn lists_of_texts_are_read_alike_from_files_and_options() {
        let texts = |texts: &[&str]| texts.iter().map(|text| text.to_string()).collect::<Vec<_>>();
        let read = |raw: RawValue<'_>| Kind::Texts.read(&raw);
        let two = Value::Texts(texts(&["127.0.0.1:1", "[::1]:2"]));
        assert_eq!(read(RawValue::Bare("127.0.0.1:1, [::1]:2")), Ok(two.clone()));
        assert_eq!(read(RawValue::Texts(texts(&["127.0.0.1:1", "[::1]:2"]))), Ok(two.clone()));
        assert_eq!(read(RawValue::Bare(&two.to_string())), Ok(two));
        assert_eq!(read(RawValue::Text("a")), Ok(Value::Texts(texts(&["a"]))));
        for nothing in [RawValue::Bare(""), RawValue::List(Vec::new())] {
            assert_eq!(read(nothing), Ok(Value::Texts(Vec::new())));
        }
        for (wrong, works) in [
            (RawValue::Bare("a,,b"), "[\"a\", \"b\"]"),
            (RawValue::Texts(texts(&["a,b", "c"])), "[\"c\"]"),
            (RawValue::Texts(texts(&[" a"])), "[]"),
            (RawValue::Text("a\0"), "[]"),
            (RawValue::Whole(1), "[\"pelton\"]"),
            (RawValue::List(vec![1]), "[\"pelton\"]"),
        ] {
            assert_eq!(read(wrong.clone()).unwrap_err().suggestion, works, "{wrong}");
        }
    }

    #[test]
    fn secret_is_read_as_a_text() {
        assert_eq!(Kind::Secret.read(&RawValue::Bare("a,b")), Ok(Value::Secret(Secret::new("a,b"))));
        assert!(
            Kind::Secret.read(&RawValue::Text("a\0")).is_err()
                && Kind::Secret.read(&RawValue::Whole(1)).is_err()
        );
    }

    #[test]
    fn list_of_cpus_with_an_invalid_part_is_rejected() {
        let read = |text: &str| Kind::Cpus("chosen").read(&RawValue::Bare(text));
        assert_eq!(read("3, 0-1 ,7"), Ok(Value::Cpus(vec![3, 0, 1, 7])));
        assert_eq!(read("61440-65535"), Ok(Value::Cpus((61_440..=65_535).collect())));
        for text in
            ["", "0,", "3-1", "0-4096", "65536", "65535-65536", "+1", "1_0", "-1", "1-2-3", "0-", "chosen,1"]
        {
            let limit = read(text).unwrap_err().expected;
            assert!(limit.contains("CPUs from 0 to 65535, ranges of 4096 at most"), "{text}: {limit}");
        }
        let list = |cpus: Vec<i128>| Kind::Cpus("chosen").read(&RawValue::List(cpus));
        assert_eq!(list(vec![65_535]), Ok(Value::Cpus(vec![65_535])));
        assert!(list(vec![0, 65_536]).is_err() && list(vec![-1]).is_err());
    }
}
