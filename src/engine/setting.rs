//! A setting: its key, what it may be, what it is for.
//!
//! # Mechanism
//! Every setting is described once, by a row of a table: `ENGINE` and `CLASS` have the engine's, and rooms above have
//! tables of their own for theirs. Whatever deals with settings goes through these rows: the reader of files,
//! environment and options, the checks, the explanation, the template of a file, the options of the program, and the
//! documentation. So a setting that has a row has all of them, and they say the same.
//!
//! # Invariants
//! - A row's `set` is called only with a value that its `kind` accepts.
//! - What `get` gives can be written to a file, read again and `set`, and then makes the same plan. (Times have a unit
//!   below which a builder may go; they are told rounded up.)
#![forbid(unsafe_code)]

use super::config::PlanError;
use super::value::{Secret, Value, Written};
use crate::ring::nearest_power;
use std::fmt;

/// One row of a table of settings of a `T`.
#[derive(Clone, Copy)]
pub struct Setting<T: 'static> {
    /// Its name in files, environment (`PELTON_…`) and options, its unit last.
    pub key: &'static str,
    /// The field of `T` in which it is kept.
    pub field: &'static str,
    /// What it may be.
    pub kind: Kind,
    /// Its unit; empty where it has none.
    pub unit: &'static str,
    /// What it is.
    pub what: &'static str,
    /// What more or less of it buys and costs.
    pub trades: &'static str,
    /// The figure that shows its effect.
    pub watch: &'static str,
    /// Another setting, and the word that it must have for this one to have a use.
    pub needs: Option<(&'static str, &'static str)>,
    /// Reads it.
    pub get: fn(&T) -> Value,
    /// Changes it.
    pub set: fn(&mut T, Value),
}

impl<T> fmt::Debug for Setting<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setting").field("key", &self.key).field("kind", &self.kind).finish_non_exhaustive()
    }
}

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
    /// Any text without NUL bytes: what it is, as in `a name`.
    Text(&'static str),
    /// A list of CPUs, or this word.
    Cpus(&'static str),
    /// A list of texts, possibly empty; none of them is empty, or has commas, NUL bytes, or blanks at its ends.
    Texts,
    /// Any text without NUL bytes that is not shown; empty for none.
    Secret,
}

/// Whole numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The least.
    pub from: u64,
    /// The most.
    pub to: u64,
    /// Whether it must be a power of two.
    pub power: bool,
    /// Whether 0 may stand beside the range.
    pub zero: bool,
    /// Whether thousands and millions may be written as `250k` and `1.5M`.
    pub thousands: bool,
    /// A word that may stand instead of a number.
    pub word: Option<&'static str>,
}

impl Range {
    /// Numbers from the one to the other.
    pub const fn new(from: u64, to: u64) -> Self {
        Range { from, to, power: false, zero: false, thousands: false, word: None }
    }

    /// Of these, powers of two alone.
    pub const fn power(self) -> Self {
        Range { power: true, ..self }
    }

    /// Also 0.
    pub const fn or_zero(self) -> Self {
        Range { zero: true, ..self }
    }

    /// Also this word.
    pub const fn or_word(self, word: &'static str) -> Self {
        Range { word: Some(word), ..self }
    }

    /// `250k` and `1.5M` are understood.
    pub const fn thousands(self) -> Self {
        Range { thousands: true, ..self }
    }

    fn has(&self, n: u64) -> bool {
        (self.zero && n == 0) || ((self.from..=self.to).contains(&n) && (!self.power || n.is_power_of_two()))
    }

    /// The number of the range that is next to `n`.
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
            Kind::Text(what) => f.write_str(what),
            Kind::Cpus(word) => {
                write!(f, "numbers and ranges with commas between them, as in 0-3,7, or \"{word}\"")
            }
            Kind::Texts => f.write_str("a list of texts, none of them empty or with commas or NUL bytes"),
            Kind::Secret => f.write_str("a text without NUL bytes, which is not shown; empty for none"),
        }
    }
}

/// Why a value cannot be: what it would have to be, and one that could.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// What it must be.
    pub limit: String,
    /// What would work.
    pub works: String,
}

impl Kind {
    /// Reads what somebody wrote. The value is one that this kind accepts.
    ///
    /// # Errors
    /// [`Unfit`].
    pub fn read(&self, written: &Written<'_>) -> Result<Value, Unfit> {
        let unfit = || Unfit { limit: self.to_string(), works: self.example(written) };
        let no_cpus = || Unfit {
            limit: format!("{self}: CPUs from 0 to {}, ranges of {CPU_RANGE_MAX} at most", u16::MAX),
            ..unfit()
        };
        let value = match (self, written) {
            (Kind::Flag, Written::Flag(flag)) => Value::Flag(*flag),
            (Kind::Flag, Written::Bare(text)) => Value::Flag(text.parse().map_err(|_| unfit())?),
            (Kind::Whole(_), Written::Whole(n)) => Value::Whole(u64::try_from(*n).map_err(|_| unfit())?),
            (Kind::Whole(range), Written::Bare(text) | Written::Text(text)) if range.word == Some(*text) => {
                Value::Word(text.to_string().into())
            }
            (Kind::Whole(range), Written::Bare(text)) => {
                Value::Whole(whole(text, range.thousands).ok_or_else(unfit)?)
            }
            (Kind::Whole(range), Written::Text(text)) if range.thousands => {
                Value::Whole(whole(text, true).ok_or_else(unfit)?)
            }
            (
                Kind::OneOf(_) | Kind::OneOfOr(..) | Kind::Text(_),
                Written::Bare(text) | Written::Text(text),
            ) => Value::Word(text.to_string().into()),
            (Kind::Cpus(word), Written::Bare(text) | Written::Text(text)) if text == word => {
                Value::Word(text.to_string().into())
            }
            (Kind::Cpus(_), Written::Bare(text) | Written::Text(text)) => {
                Value::Cpus(cpus(text).ok_or_else(no_cpus)?)
            }
            (Kind::Cpus(_), Written::List(list)) => {
                let cpu = |n: &i128| u16::try_from(*n).map(usize::from).map_err(|_| no_cpus());
                Value::Cpus(list.iter().map(cpu).collect::<Result<_, _>>()?)
            }
            (Kind::Texts, Written::Bare("")) => Value::Texts(Vec::new()),
            (Kind::Texts, Written::List(list)) if list.is_empty() => Value::Texts(Vec::new()),
            (Kind::Texts, Written::Bare(text)) => {
                Value::Texts(text.split(',').map(|text| text.trim().to_string()).collect())
            }
            // One of a list needs no brackets.
            (Kind::Texts, Written::Text(text)) => Value::Texts(vec![text.to_string()]),
            (Kind::Texts, Written::Texts(texts)) => Value::Texts(texts.clone()),
            (Kind::Secret, Written::Bare(text) | Written::Text(text)) => {
                Value::Secret(Secret::new(text.to_string()))
            }
            _ => return Err(unfit()),
        };
        self.accept(&value)?;
        Ok(value)
    }

    /// Whether a value can be.
    ///
    /// # Errors
    /// [`Unfit`].
    pub fn accept(&self, value: &Value) -> Result<(), Unfit> {
        let holds = match (self, value) {
            (Kind::Flag, Value::Flag(_)) | (Kind::Cpus(_), Value::Cpus(_)) => true,
            (Kind::Whole(range), Value::Whole(n)) => range.has(*n),
            (Kind::Whole(range), Value::Word(word)) => range.word == Some(word),
            (Kind::OneOf(words), Value::Word(word)) => words.contains(&word.as_ref()),
            (Kind::OneOfOr(words, prefix, _), Value::Word(word)) => {
                let rest = word.strip_prefix(prefix).filter(|rest| !rest.is_empty() && is_line(rest));
                rest.is_some() || words.contains(&word.as_ref())
            }
            (Kind::Text(_), Value::Word(text)) => is_line(text),
            (Kind::Cpus(known), Value::Word(word)) => known == word,
            (Kind::Texts, Value::Texts(texts)) => texts.iter().all(|text| is_of_list(text)),
            (Kind::Secret, Value::Secret(secret)) => !secret.reveal().contains('\0'),
            _ => false,
        };
        let written = match value {
            Value::Whole(n) => Written::Whole(i128::from(*n)),
            Value::Word(word) => Written::Text(word),
            Value::Texts(texts) => Written::Texts(texts.clone()),
            _ => Written::Bare(""),
        };
        if holds {
            return Ok(());
        }
        let limit = match (self, value) {
            // There is nothing else that such a text may not have.
            (Kind::Text(what), Value::Word(_)) => format!("{what}, without control characters"),
            _ => self.to_string(),
        };
        Err(Unfit { limit, works: self.example(&written) })
    }

    /// A value that would work, next to what somebody wrote.
    fn example(&self, written: &Written<'_>) -> String {
        let bare = |text: &str, thousands| whole(text, thousands).map(i128::from);
        match self {
            Kind::Flag => "true".into(),
            Kind::Whole(range) => {
                let n = match written {
                    Written::Whole(n) => Some(*n),
                    Written::Bare(text) | Written::Text(text) => bare(text, range.thousands),
                    _ => None,
                };
                // A word is not far from the one that there is.
                let text = match written {
                    Written::Bare(text) | Written::Text(text) => text,
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
            Kind::OneOfOr(words, prefix, _) if name_of(written, words).is_some() => {
                let name = name_of(written, words).unwrap_or_default();
                format!("'{prefix}{}'", name.escape_debug())
            }
            Kind::OneOf(words) | Kind::OneOfOr(words, ..) => {
                let text = match written {
                    Written::Bare(text) | Written::Text(text) => text,
                    _ => "",
                };
                likest(text, words.iter().copied()).map_or(String::new(), |word| format!("'{word}'"))
            }
            Kind::Text(_) => "'pelton'".into(),
            Kind::Cpus(word) => format!("'{word}'"),
            Kind::Texts => {
                // What of it can be.
                let fit = match written {
                    Written::Texts(texts) => texts.iter().filter(|text| is_of_list(text)).cloned().collect(),
                    Written::Bare(text) | Written::Text(text) => {
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

impl<T> Setting<T> {
    /// Says what is wrong with the value that it has, if anything is.
    pub fn check(&self, name: impl Fn(&str) -> String, of: &T) -> Option<PlanError> {
        let value = (self.get)(of);
        let Unfit { limit, works } = self.kind.accept(&value).err()?;
        let value = if let Value::Word(word) = &value {
            format!("'{}'", word.escape_debug())
        } else {
            value.to_string()
        };
        Some(PlanError::new(name(self.key), value, limit, works))
    }
}

/// The name in a text that was meant to have a prefix: what follows its colon, or all of it where no word begins like it.
fn name_of<'a>(written: &Written<'a>, words: &[&str]) -> Option<&'a str> {
    let (Written::Bare(text) | Written::Text(text)) = written else { return None };
    let is_like = |word: &&str| word.chars().next() == text.chars().next();
    let name = match text.split_once(':') {
        Some((_, name)) => name,
        None if words.iter().any(is_like) => return None,
        None => text,
    };
    (!name.is_empty() && is_line(name)).then_some(name)
}

/// The word that begins most like a text.
pub(crate) fn likest<'a>(text: &str, words: impl DoubleEndedIterator<Item = &'a str>) -> Option<&'a str> {
    let like = |word: &&str| word.chars().zip(text.chars()).take_while(|(a, b)| a == b).count();
    words.rev().max_by_key(like)
}

/// Whether a text is one line that any program can show: no control characters. One with a line break would forge lines of
/// whatever lists it.
fn is_line(text: &str) -> bool {
    !text.contains(char::is_control)
}

/// Whether a text may stand in a list, as a file and as an option write it.
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

/// Reads a list of CPUs in the notation of the kernel: `0-3,7`. Every part must be one, and nothing is left out.
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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_people_write_them() {
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
    fn what_cannot_be_says_what_could() {
        let power = Kind::Whole(Range::new(64, 1 << 30).power().or_zero());
        let Unfit { limit, works } = power.read(&Written::Whole(100)).unwrap_err();
        assert_eq!((limit.as_str(), works.as_str()), ("0 or a power of two from 64 to 1073741824", "128"));
        assert_eq!(power.read(&Written::Bare("0")), Ok(Value::Whole(0)));
        assert_eq!(power.read(&Written::Whole(-5)).unwrap_err().works, "64");
        assert_eq!(power.read(&Written::Whole(i128::MAX)).unwrap_err().works, "1073741824");
        let words = Kind::OneOf(&["spin", "yield", "park"]);
        assert_eq!(words.read(&Written::Text("yeld")).unwrap_err().works, "'yield'");
        assert_eq!(words.read(&Written::Flag(true)).unwrap_err().works, "'spin'");
        let keys = Kind::OneOfOr(&["round_robin", "first"], "field:", "NAME");
        assert_eq!(keys.read(&Written::Text("field:first")), Ok("field:first".into()));
        let Unfit { limit, works } = keys.read(&Written::Text("field:")).unwrap_err();
        assert_eq!((limit.as_str(), works.as_str()), ("one of round_robin, first, or field:NAME", "'first'"));
        for (text, works) in [
            ("feild:user", "'field:user'"),
            ("user", "'field:user'"),
            ("frist", "'first'"),
            ("random", "'round_robin'"),
            ("", "'round_robin'"),
            ("a\0", "'round_robin'"),
        ] {
            assert_eq!(keys.read(&Written::Text(text)).unwrap_err().works, works, "{text}");
        }
        let seconds = Kind::Whole(Range::new(1, 9).or_word("never"));
        for (text, works) in [("nevr", "'never'"), ("ever", "1"), ("70", "9"), ("", "1")] {
            assert_eq!(seconds.read(&Written::Bare(text)).unwrap_err().works, works, "{text}");
        }
        assert_eq!(
            Kind::Text("a name").read(&Written::Text("a\r\nb:1")).unwrap_err().limit,
            "a name, without control characters"
        );
        let spans = Kind::Whole(Range::new(1, u64::MAX).or_word("none"));
        assert_eq!(spans.read(&Written::Text("none")), Ok("none".into()));
        assert_eq!(spans.read(&Written::Text("7")).unwrap_err().limit, "1 or more, or \"none\"");
        assert_eq!(Kind::Cpus("chosen").read(&Written::List(vec![2, 0])), Ok(Value::Cpus(vec![2, 0])));
        assert!(Kind::Cpus("chosen").read(&Written::Bare("x,2")).is_err());
    }

    #[test]
    fn a_list_of_texts_is_read_alike_from_a_file_and_from_an_option() {
        let texts = |texts: &[&str]| texts.iter().map(|text| text.to_string()).collect::<Vec<_>>();
        let read = |written: Written<'_>| Kind::Texts.read(&written);
        let two = Value::Texts(texts(&["127.0.0.1:1", "[::1]:2"]));
        assert_eq!(read(Written::Bare("127.0.0.1:1, [::1]:2")), Ok(two.clone()));
        assert_eq!(read(Written::Texts(texts(&["127.0.0.1:1", "[::1]:2"]))), Ok(two.clone()));
        assert_eq!(read(Written::Bare(&two.to_string())), Ok(two));
        assert_eq!(read(Written::Text("a")), Ok(Value::Texts(texts(&["a"]))));
        for nothing in [Written::Bare(""), Written::List(Vec::new())] {
            assert_eq!(read(nothing), Ok(Value::Texts(Vec::new())));
        }
        for (wrong, works) in [
            (Written::Bare("a,,b"), "[\"a\", \"b\"]"),
            (Written::Texts(texts(&["a,b", "c"])), "[\"c\"]"),
            (Written::Texts(texts(&[" a"])), "[]"),
            (Written::Text("a\0"), "[]"),
            (Written::Whole(1), "[\"pelton\"]"),
            (Written::List(vec![1]), "[\"pelton\"]"),
        ] {
            assert_eq!(read(wrong.clone()).unwrap_err().works, works, "{wrong}");
        }
    }

    #[test]
    fn a_secret_is_a_text() {
        assert_eq!(Kind::Secret.read(&Written::Bare("a,b")), Ok(Value::Secret(Secret::new("a,b"))));
        assert!(
            Kind::Secret.read(&Written::Text("a\0")).is_err()
                && Kind::Secret.read(&Written::Whole(1)).is_err()
        );
    }

    #[test]
    fn a_list_of_cpus_is_read_whole_or_not_at_all() {
        let read = |text: &str| Kind::Cpus("chosen").read(&Written::Bare(text));
        assert_eq!(read("3, 0-1 ,7"), Ok(Value::Cpus(vec![3, 0, 1, 7])));
        assert_eq!(read("61440-65535"), Ok(Value::Cpus((61_440..=65_535).collect())));
        for text in
            ["", "0,", "3-1", "0-4096", "65536", "65535-65536", "+1", "1_0", "-1", "1-2-3", "0-", "chosen,1"]
        {
            let limit = read(text).unwrap_err().limit;
            assert!(limit.contains("CPUs from 0 to 65535, ranges of 4096 at most"), "{text}: {limit}");
        }
        let list = |cpus: Vec<i128>| Kind::Cpus("chosen").read(&Written::List(cpus));
        assert_eq!(list(vec![65_535]), Ok(Value::Cpus(vec![65_535])));
        assert!(list(vec![0, 65_536]).is_err() && list(vec![-1]).is_err());
    }
}
