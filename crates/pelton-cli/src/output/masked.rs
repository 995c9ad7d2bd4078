//! A file without its secrets, to be shown around a problem.
//!
//! # Mechanism
//! It goes by the text alone, since a file that is not TOML is shown too. On each line it looks for a key that is a secret's,
//! or that may be meant for one: its name has `pass`, `secret` or `pwd` in it, or is a few letters from a secret's, and is no
//! other setting's. What follows its `=` is masked up to the end of the value: of the string, where it is one of several
//! lines; of the line otherwise; and where the value is not whole there, up to the next key or table.
//!
//! # Invariants
//! - Each byte that is masked is replaced by one byte, and white space stays: all places are those of the file.
//! - What is masked without need only hides; so in doubt it is.

use pelton::engine::{CLASS, ENGINE, Kind};
use pelton_gateway::{GATEWAY, STREAM};
use pelton_views::VIEW;

/// Letters by which a key may differ from a secret's and still be meant for it.
const SLIPS_MAX: usize = 3;

/// The file with its secrets masked.
pub fn masked(text: &str) -> String {
    let mut all = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let line = rest.split_inclusive('\n').next().unwrap_or(rest);
        let shown = secret_in(line).unwrap_or(line.len());
        all += &rest[..shown];
        rest = &rest[shown..];
        if shown < line.len() {
            let (value, behind) = rest.split_at(value_bytes(rest));
            value.chars().for_each(|c| match c.is_whitespace() {
                true => all.push(c),
                false => all.extend(std::iter::repeat_n('*', c.len_utf8())),
            });
            rest = behind;
        }
    }
    all
}

/// Where the value of a secret begins in a line.
fn secret_in(line: &str) -> Option<usize> {
    let starts = line.char_indices().filter(|(at, c)| is_of_key(*c) && !line[..*at].ends_with(is_of_key));
    let words = starts.map(|(at, _)| {
        let bytes = line[at..].find(|c| !is_of_key(c)).unwrap_or(line.len() - at);
        (&line[at..at + bytes], at + bytes)
    });
    let mut values = words
        .filter(|(word, _)| is_secret(word))
        .filter_map(|(_, end)| Some(end + line[end..].find('=')? + 1));
    values.next()
}

fn is_of_key(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '-'
}

/// Whether a key is a secret's, or may be meant for one.
fn is_secret(key: &str) -> bool {
    let gateway = GATEWAY.iter().map(|row| (row.info.key, row.info.kind == Kind::Secret));
    let others = ENGINE.iter().map(|row| row.info.key).chain(CLASS.iter().map(|row| row.info.key));
    let others =
        others.chain(STREAM.iter().map(|row| row.info.key)).chain(VIEW.iter().map(|row| row.info.key));
    let known: Vec<_> = gateway.chain(others.map(|key| (key, false))).collect();
    if let Some((_, is_secret)) = known.iter().find(|(own, _)| *own == key) {
        return *is_secret;
    }
    let key = key.to_lowercase();
    let is_near = |own: &str| strsim::damerau_levenshtein(own, &key) <= SLIPS_MAX;
    ["pass", "secret", "pwd"].iter().any(|part| key.contains(part))
        || known.iter().any(|(own, is_secret)| *is_secret && is_near(own))
}

/// Bytes of a value, from behind its `=` to the end of its last line.
fn value_bytes(text: &str) -> usize {
    let to_line_end = |from: usize| text[from..].find('\n').map_or(text.len(), |at| from + at + 1);
    let start = text.len() - text.trim_start_matches([' ', '\t']).len();
    let value = &text[start..];
    for quotes in ["\"\"\"", "'''"] {
        if let Some(body) = value.strip_prefix(quotes) {
            let end = closed_at(body, quotes).map_or(text.len(), |at| start + 2 * quotes.len() + at);
            return to_line_end(end);
        }
    }
    let end = to_line_end(0);
    if is_whole(text[start.min(end)..end].trim_end()) {
        return end;
    }
    let more = text[end..].split_inclusive('\n').take_while(|line| !begins_anew(line));
    end + more.map(str::len).sum::<usize>()
}

/// Where quotes close a string; those of `"` not behind a backslash.
fn closed_at(body: &str, quotes: &str) -> Option<usize> {
    let is_escaped = |at: usize| {
        let slashes = body[..at].bytes().rev().take_while(|byte| *byte == b'\\').count();
        quotes.starts_with('"') && slashes % 2 == 1
    };
    (0..body.len()).find(|at| body.as_bytes()[*at..].starts_with(quotes.as_bytes()) && !is_escaped(*at))
}

/// Whether the value of a line ends on it.
fn is_whole(value: &str) -> bool {
    match value.chars().next() {
        None | Some('#') => false,
        Some('"') => closed_at(&value[1..], "\"").is_some(),
        Some('\'') => closed_at(&value[1..], "'").is_some(),
        Some('[') => value.contains(']'),
        Some('{') => value.contains('}'),
        Some(_) => true,
    }
}

/// Whether a line begins a key or a table.
fn begins_anew(line: &str) -> bool {
    let line = line.trim_start();
    let key = line.split_once('=').map(|(key, _)| key.trim_end());
    let is_key = |key: &str| !key.is_empty() && key.chars().all(|c| is_of_key(c) || c == '.');
    (line.starts_with('[') && !line.starts_with("[\"")) || key.is_some_and(is_key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_of_a_file_is_masked_and_all_places_stay() {
        let text = "password = \"hüsh\"\n\"password\"=5\na = { password='hush', b = 1 }\npassword_file = \"f\"\npassword\n";
        let shown = masked(text);
        assert_eq!(shown.len(), text.len());
        let stars = |n: usize| "*".repeat(n);
        let told = format!(
            "password = {}\n\"password\"={}\na = {{ password={} {} {} {} {}\npassword_file = \"f\"\npassword\n",
            stars(7),
            stars(1),
            stars(7),
            stars(1),
            stars(1),
            stars(1),
            stars(1)
        );
        assert_eq!(shown, told);
    }

    #[test]
    fn misspelt_secrets_and_those_over_several_lines_are_masked() {
        for text in [
            "pasword = \"hush\"\n",
            "PASSWORD = \"hush\"\n",
            "passwd = 'hush'\n",
            "gateway.paswrod=\"hush\"\n",
            "auth_secret = hush\n",
            "password = \"\"\"\nhush\"\"\"\n",
            "password = '''\nnot this, but\n= hush'''\n",
            "password = \"\"\"a\\\"\"\"\nhush\"\"\"\n",
            "password = \"\"\"\nhush",
            "password =\n  \"hush\"\n",
            "password = # mine\n\"hush\"\n",
            "password = [\n\"a\",\n\"hush\"\n]\n",
            "password = \"never closed\nhush\n",
            "password =hush",
        ] {
            let shown = masked(&format!("{text}threads = 5\n"));
            assert!(!shown.contains("hush") && shown.len() == text.len() + 12, "{text}: {shown}");
        }
        // What follows a value that is whole is shown.
        let text =
            "password = \"\"\"\nhush\"\"\"\nthreads = 5\n[[class]]\nname = \"passes\"\nby = \"password\"\n";
        let shown = masked(text);
        assert!(
            !shown.contains("hush") && shown.ends_with(&text[text.find("threads").unwrap()..]),
            "{shown}"
        );
    }
}
