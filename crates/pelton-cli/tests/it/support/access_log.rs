//! A generated access log, and its totals counted line by line with the means of the standard library alone: nothing here
//! knows how a replay reads, counts or ranks.

use pelton_cli::weblog::{Generator, Settings};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use tempfile::NamedTempFile;

/// Lines of the log.
pub const LINES: u64 = 10_000;

/// Counts by name, the most frequent first; names of the same count in alphabetical order.
pub type Ranked = Vec<(String, u64)>;

/// What the lines of a log add up to.
#[derive(Debug)]
pub struct Totals {
    pub lines: u64,
    pub clients: Ranked,
    pub paths: Ranked,
    pub status: Ranked,
    /// Bytes of each response, the smallest first.
    pub sizes: Vec<u64>,
}

impl Totals {
    /// Splits each line at its quotes and spaces, which generated lines have in no other place.
    pub fn of(text: &str) -> Totals {
        let (mut clients, mut paths, mut status) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut sizes = Vec::new();
        for line in text.lines() {
            let [head, request, answer, ..] = line.split('"').collect::<Vec<_>>()[..] else {
                panic!("not a generated line: {line}");
            };
            let word = |text: &str, at: usize| text.split_whitespace().nth(at).expect(line).to_string();
            *clients.entry(word(head, 0)).or_insert(0) += 1;
            *paths.entry(word(request, 1)).or_insert(0) += 1;
            *status.entry(word(answer, 0)).or_insert(0) += 1;
            let size = word(answer, 1);
            sizes.push(if size == "-" { 0 } else { size.parse().expect(line) });
        }
        sizes.sort_unstable();
        let [clients, paths, status] = [clients, paths, status].map(ranked);
        Totals { lines: sizes.len() as u64, clients, paths, status, sizes }
    }

    /// Lines whose status begins with one of these digits.
    pub fn of_status(&self, digits: &[char]) -> u64 {
        self.status.iter().filter(|(name, _)| name.starts_with(digits)).map(|(_, n)| n).sum()
    }
}

fn ranked(counts: BTreeMap<String, u64>) -> Ranked {
    let mut ranked: Vec<_> = counts.into_iter().collect();
    ranked.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    ranked
}

/// A log in a file of its own, which is removed with this value.
pub struct Log {
    file: NamedTempFile,
    pub totals: Totals,
}

impl Log {
    /// [`LINES`] lines, the same in each run.
    pub fn generated() -> Log {
        Log::of(&text())
    }

    /// The same with a time of its own for each line, `step_s` seconds after that of the line before.
    pub fn generated_every(step_s: u64) -> Log {
        let spread = |(at, line): (usize, &str)| {
            let (head, rest) = line.split_once('[').expect("a time");
            let (_, rest) = rest.split_once(']').expect("its end");
            let s = at as u64 * step_s;
            let (day, hour, minute, second) = (1 + s / 86_400, s / 3_600 % 24, s / 60 % 60, s % 60);
            assert!(day <= 31, "the log ends with its month");
            format!("{head}[{day:02}/Jan/2026:{hour:02}:{minute:02}:{second:02} +0000]{rest}\n")
        };
        Log::of(&text().lines().enumerate().map(spread).collect::<String>())
    }

    fn of(text: &str) -> Log {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        Log { file, totals: Totals::of(text) }
    }

    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Its path, as an argument.
    pub fn name(&self) -> &str {
        self.path().to_str().unwrap()
    }

    /// Bytes of the file.
    pub fn len(&self) -> u64 {
        self.file.as_file().metadata().unwrap().len()
    }
}

fn text() -> String {
    let settings = Settings { seed: 20, events: LINES, clients: 3_000, paths: 1_500, ..Settings::default() };
    let mut generator = Generator::new(&settings).unwrap();
    let (mut text, mut line) = (Vec::new(), Vec::new());
    while generator.next_line(&mut line) {
        text.extend_from_slice(&line);
        text.push(b'\n');
    }
    String::from_utf8(text).unwrap()
}
