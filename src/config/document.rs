//! A file, taken apart: what stands where, before anybody asks whether it may.

use super::origin::Origin;
use super::problem::{Problem, Rule};
use crate::engine::RawValue;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A key and its value.
#[derive(Debug)]
pub(super) struct Entry {
    pub key: String,
    pub key_at: Origin,
    pub value: Owned,
    pub value_at: Origin,
}

/// A value that a file holds, on its own.
#[derive(Debug)]
pub(super) enum Owned {
    Flag(bool),
    Whole(i128),
    Text(String),
    List(Vec<i128>),
    Texts(Vec<String>),
    Other(&'static str, String),
}

impl Owned {
    pub fn written(&self) -> RawValue<'_> {
        match self {
            Owned::Flag(flag) => RawValue::Flag(*flag),
            Owned::Whole(n) => RawValue::Whole(*n),
            Owned::Text(text) => RawValue::Text(text),
            Owned::List(list) => RawValue::List(list.clone()),
            Owned::Texts(texts) => RawValue::Texts(texts.clone()),
            Owned::Other(kind, text) => RawValue::Other(kind, text.clone()),
        }
    }
}

/// A table of settings: `[replay]`, or one `[[class]]`.
#[derive(Debug)]
pub(super) struct Block {
    pub name: String,
    pub at: Origin,
    /// Whether it is one of several: `[[…]]`.
    pub listed: bool,
    pub entries: Vec<Entry>,
}

/// A file.
#[derive(Debug, Default)]
pub(super) struct Document {
    /// What stands outside of all tables.
    pub entries: Vec<Entry>,
    pub blocks: Vec<Block>,
    /// Where it is not TOML.
    pub problems: Vec<Problem>,
}

struct Reader<'a> {
    name: &'a str,
    text: &'a str,
    /// Where each line begins.
    lines: Vec<usize>,
    /// How many characters begin before each whole [`STEP`] of bytes.
    chars: Vec<usize>,
}

/// Bytes from one count of characters to the next: a column is found by looking at no more, however long its line is.
const STEP: usize = 64;

/// Takes a text apart. Where it is no TOML, that is a problem, and the rest is read all the same.
pub(super) fn read(name: &str, text: &str) -> Document {
    let reader = Reader::new(name, text);
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut document = Document::default();
    for error in errors {
        let origin = reader.origin(error.span().unwrap_or(text.len()..text.len()));
        let texts = [
            "this is not TOML".to_string(),
            error.message().to_string(),
            "a line is a comment, a [table], or key = value, with words in quotes".to_string(),
        ];
        document.problems.push(Problem::new(Rule::Syntax, "", Some(origin), texts));
    }
    for (key, value) in table.get_ref() {
        let at = reader.origin(key.span());
        match value.get_ref() {
            DeValue::Table(table) => document.blocks.push(reader.block(key.get_ref(), at, false, table)),
            // An empty list of tables is none, whatever its name.
            DeValue::Array(list) if list.iter().any(|item| item.get_ref().is_table()) => {
                for item in list {
                    match item.get_ref().as_table() {
                        Some(table) => {
                            let at = reader.origin(item.span());
                            document.blocks.push(reader.block(key.get_ref(), at, true, table));
                        }
                        None => document.entries.push(reader.entry(key, item)),
                    }
                }
            }
            _ => document.entries.push(reader.entry(key, value)),
        }
    }
    document.blocks.sort_by_key(|block| start(&block.at));
    document
}

/// How many characters begin in these bytes.
fn starts(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| (**byte as i8) >= -64).count()
}

fn start(origin: &Origin) -> usize {
    match origin {
        Origin::File { span, .. } => span.start,
        _ => 0,
    }
}

impl<'a> Reader<'a> {
    fn new(name: &'a str, text: &'a str) -> Self {
        let lines = [0].into_iter().chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let mut chars = Vec::with_capacity(text.len() / STEP + 1);
        let mut sum = 0;
        for step in text.as_bytes().chunks(STEP) {
            chars.push(sum);
            sum += starts(step);
        }
        chars.push(sum);
        Reader { name, text, lines, chars }
    }

    /// How many characters begin before a byte.
    fn chars_before(&self, at: usize) -> usize {
        let step = at / STEP;
        self.chars[step] + starts(&self.text.as_bytes()[step * STEP..at])
    }

    fn origin(&self, span: Range<usize>) -> Origin {
        // A span of an error may point behind the last byte, or (with what is no TOML) into a character.
        let mut from = span.start.min(self.text.len());
        while !self.text.is_char_boundary(from) {
            from -= 1;
        }
        let mut to = span.end.clamp(from, self.text.len());
        while !self.text.is_char_boundary(to) {
            to += 1;
        }
        let line = self.lines.partition_point(|begins| *begins <= from);
        Origin::File {
            name: self.name.to_string(),
            line,
            column: self.chars_before(from) - self.chars_before(self.lines[line - 1]) + 1,
            span: from..to,
        }
    }

    fn block(&self, name: &str, at: Origin, listed: bool, table: &DeTable<'_>) -> Block {
        let mut entries: Vec<_> = table.iter().map(|(key, value)| self.entry(key, value)).collect();
        entries.sort_by_key(|entry| start(&entry.key_at));
        Block { name: name.to_string(), at, listed, entries }
    }

    fn entry<K: AsRef<str>>(&self, key: &Spanned<K>, value: &Spanned<DeValue<'_>>) -> Entry {
        Entry {
            key: key.get_ref().as_ref().to_string(),
            key_at: self.origin(key.span()),
            value: self.owned(value),
            value_at: self.origin(value.span()),
        }
    }

    fn owned(&self, value: &Spanned<DeValue<'_>>) -> Owned {
        let whole = |value: &DeValue<'_>| {
            let integer = value.as_integer()?;
            i128::from_str_radix(integer.as_str(), integer.radix()).ok()
        };
        let plain = value.get_ref();
        let other = || Owned::Other(plain.type_str(), self.excerpt(value.span()));
        match plain {
            DeValue::Boolean(flag) => Owned::Flag(*flag),
            DeValue::String(text) => Owned::Text(text.to_string()),
            DeValue::Integer(_) => whole(plain).map_or_else(other, Owned::Whole),
            DeValue::Array(list) => {
                let items = || list.iter().map(Spanned::get_ref);
                let texts =
                    || items().map(|item| item.as_str().map(str::to_string)).collect::<Option<Vec<_>>>();
                let numbers: Option<Vec<_>> = items().map(whole).collect();
                numbers.map(Owned::List).or_else(|| texts().map(Owned::Texts)).unwrap_or_else(other)
            }
            _ => other(),
        }
    }

    /// What stands there, cut where it is long.
    fn excerpt(&self, span: Range<usize>) -> String {
        const CHARS_MAX: usize = 40;
        let text = self.text.get(span).unwrap_or_default();
        let cut: String = text.chars().take(CHARS_MAX).flat_map(char::escape_debug).collect();
        if text.chars().count() > CHARS_MAX { format!("{cut}…") } else { cut }
    }
}
