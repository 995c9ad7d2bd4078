//! Patterns, as Redis has them.
//!
//! # Mechanism
//! A pattern is taken apart once, into elements: a star, or the set of bytes that may stand in one place. Stars behind each
//! other are one, so a pattern that has more than twice as many elements as a text has bytes cannot match it, and is not
//! tried. What is tried takes a time in proportion to the square of the text's length at most, whatever the pattern.
//!
//! # Limits
//! A pattern has at most [`PATTERN_BYTES_MAX`] bytes. Redis takes longer ones; no name here is as long.

use std::fmt;

/// The longest pattern.
const PATTERN_BYTES_MAX: usize = 1_024;

/// A pattern is longer than any may be.
#[derive(Debug)]
pub(crate) struct PatternTooLong;

impl fmt::Display for PatternTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ERR a pattern has at most {PATTERN_BYTES_MAX} bytes")
    }
}

/// A pattern of Redis: `*`, `?`, `[a-c]`, `[^x]`, and `\` before what is meant as it is.
///
/// What Redis makes of odd ones holds here too: the first `]` that is not escaped closes a class, which may be empty and
/// then matches nothing; one that is not closed goes to the pattern's end; a range takes whatever follows its `-`, be it
/// `]`, and may be the wrong way round; a `\` at the end means itself.
pub(crate) struct Pattern {
    elements: Vec<Element>,
    /// The fewest bytes that match.
    bytes_min: usize,
}

#[derive(PartialEq, Eq)]
enum Element {
    Star,
    One(ByteSet),
}

/// A set of bytes, a bit for each.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct ByteSet([u64; 4]);

impl ByteSet {
    const ALL: ByteSet = ByteSet([u64::MAX; 4]);

    fn of(byte: u8) -> Self {
        let mut set = ByteSet::default();
        set.add(byte);
        set
    }

    fn add(&mut self, byte: u8) {
        self.0[usize::from(byte >> 6)] |= 1 << (byte & 63);
    }

    fn has(&self, byte: u8) -> bool {
        self.0[usize::from(byte >> 6)] >> (byte & 63) & 1 == 1
    }

    /// Reads a class behind its `[`; leaves in `rest` what follows it.
    fn class(rest: &mut &[u8]) -> Self {
        let is_not = rest.first() == Some(&b'^');
        *rest = &rest[usize::from(is_not)..];
        let mut set = ByteSet::default();
        loop {
            *rest = match *rest {
                [] => break,
                [b']', after @ ..] => {
                    *rest = after;
                    break;
                }
                [b'\\', meant, after @ ..] => {
                    set.add(*meant);
                    after
                }
                [one, b'-', other, after @ ..] => {
                    (*one.min(other)..=*one.max(other)).for_each(|byte| set.add(byte));
                    after
                }
                [own, after @ ..] => {
                    set.add(*own);
                    after
                }
            };
        }
        if is_not { ByteSet(set.0.map(|bits| !bits)) } else { set }
    }
}

impl Pattern {
    /// Takes a pattern apart.
    pub fn new(pattern: &[u8]) -> Result<Self, PatternTooLong> {
        if pattern.len() > PATTERN_BYTES_MAX {
            return Err(PatternTooLong);
        }
        let mut elements = Vec::new();
        let mut rest = pattern;
        while let [first, after @ ..] = rest {
            rest = after;
            let step = match first {
                b'*' if elements.last() == Some(&Element::Star) => continue,
                b'*' => Element::Star,
                b'?' => Element::One(ByteSet::ALL),
                b'[' => Element::One(ByteSet::class(&mut rest)),
                b'\\' => {
                    let (meant, after) = rest.split_first().unwrap_or((first, rest));
                    rest = after;
                    Element::One(ByteSet::of(*meant))
                }
                own => Element::One(ByteSet::of(*own)),
            };
            elements.push(step);
        }
        let bytes_min = elements.iter().filter(|step| **step != Element::Star).count();
        Ok(Pattern { elements, bytes_min })
    }

    /// Whether a text matches.
    pub fn matches(&self, text: &[u8]) -> bool {
        if self.bytes_min > text.len() {
            return false;
        }
        // The last star, and where what follows it was last tried.
        let mut star: Option<(usize, usize)> = None;
        let (mut s, mut t) = (0, 0);
        while let Some(byte) = text.get(t) {
            match self.elements.get(s) {
                Some(Element::Star) => {
                    s += 1;
                    star = Some((s, t));
                }
                Some(Element::One(set)) if set.has(*byte) => {
                    s += 1;
                    t += 1;
                }
                _ => match &mut star {
                    None => return false,
                    // What follows an earlier star need not be tried anew: the last may take as much.
                    Some((after, tried)) => {
                        *tried += 1;
                        (s, t) = (*after, *tried);
                    }
                },
            }
        }
        self.elements[s..].iter().all(|step| *step == Element::Star)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &[u8], text: &[u8]) -> bool {
        Pattern::new(pattern).unwrap().matches(text)
    }

    /// What the KEYS of redis-server 7.0.15 finds.
    #[test]
    fn patterns_match_as_those_of_redis() {
        for (pattern, text, is) in TABLE {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), *is, "{pattern} {text}");
        }
    }

    #[test]
    fn empty_text_is_matched_by_stars_alone() {
        for (pattern, is) in
            [("", true), ("*", true), ("**", true), ("?", false), ("*a", false), ("[^a]", false)]
        {
            assert_eq!(matches(pattern.as_bytes(), b""), is, "{pattern}");
        }
    }

    #[test]
    fn pattern_length_is_limited() {
        assert!(matches(&[b'*'; PATTERN_BYTES_MAX], b"a"));
        assert!(Pattern::new(&[b'*'; PATTERN_BYTES_MAX + 1]).is_err());
    }

    #[test]
    fn pattern_has_a_bounded_number_of_elements() {
        let text = [b'a'; 400];
        for piece in ["*", "a*", "[", "[^", "*[^b]", "\\", "[a-", "?*", "*?"] {
            let pattern = Pattern::new(&piece.repeat(PATTERN_BYTES_MAX / piece.len()).into_bytes()).unwrap();
            assert!(pattern.elements.len() <= 2 * pattern.bytes_min + 1, "{piece}");
            let _ = pattern.matches(&text);
        }
        assert!(!matches(&b"a*".repeat(500), &text));
        assert!(!matches(&[&b"*a".repeat(199)[..], b"*b"].concat(), &text));
        assert!(matches(&[&b"*a".repeat(199)[..], b"*"].concat(), &text));
    }

    /// Pattern, text, and whether it matches.
    const TABLE: &[(&str, &str, bool)] = &[
        ("*", "stream:orders", true),
        ("stream:*", "stream:orders", true),
        ("*:o*s", "stream:orders", true),
        ("*:o*s", "[", false),
        ("*:o*s", "]", false),
        ("*:o*s", "-", false),
        ("*:o*s", "\\", false),
        ("*:o*s", "^", false),
        ("s?ream:orders", "stream:orders", true),
        ("[sv]*", "stream:orders", true),
        ("[sv]*", "[", false),
        ("[sv]*", "]", false),
        ("[sv]*", "-", false),
        ("[sv]*", "\\", false),
        ("[sv]*", "^", false),
        ("[sv]*", "s", true),
        ("[^sv]*", "stream:orders", false),
        ("[a-t]tream:*", "stream:orders", true),
        ("\\stream:orders", "stream:orders", true),
        ("stream:orders\\", "stream:orders", false),
        ("stream:order\\s", "stream:orders", true),
        ("stream:order", "stream:orders", false),
        ("", "stream:orders", false),
        ("[", "stream:orders", false),
        ("[", "[", false),
        ("[", "]", false),
        ("[", "-", false),
        ("[", "\\", false),
        ("[", "^", false),
        ("[[]", "stream:orders", false),
        ("[[]", "[", true),
        ("[[]", "]", false),
        ("[[]", "-", false),
        ("[[]", "\\", false),
        ("[[]", "^", false),
        ("[^", "stream:orders", false),
        ("[^]", "stream:orders", false),
        ("[]", "stream:orders", false),
        ("[]", "[", false),
        ("[]", "]", false),
        ("[]", "-", false),
        ("[]", "\\", false),
        ("[]", "^", false),
        ("[]*", "stream:orders", false),
        ("[]s]tream:orders", "stream:orders", false),
        ("[\\]s]tream:orders", "stream:orders", true),
        ("stream:order[s", "stream:orders", true),
        ("stream:order[a-", "stream:orders", false),
        ("stream:order[a-z", "stream:orders", true),
        ("stream:order[^x", "stream:orders", true),
        ("stream:order[^s", "stream:orders", false),
        ("stream:order[\\s", "stream:orders", true),
        ("[s-]tream:orders", "stream:orders", false),
        ("[s-]tream:orders", "]", true),
        ("[s-]tream:orders", "^", true),
        ("[s-]tream:orders", "s", true),
        ("[s-]tream:orders]*", "stream:orders", true),
        ("[t-a]tream:orders", "stream:orders", true),
        ("[^t-a]tream:orders", "stream:orders", false),
        ("[s^]tream:orders", "stream:orders", true),
        ("[-s]tream:orders", "stream:orders", true),
        ("[s\\-]tream:orders", "stream:orders", true),
        ("[a\\-z]tream:orders", "stream:orders", false),
        ("stream:orders*", "stream:orders", true),
        ("stream:orders**", "stream:orders", true),
        ("**stream:orders", "stream:orders", true),
        ("*s*s*s", "stream:orders", false),
        ("*s*s*s*s", "stream:orders", false),
        ("stream:orders?", "stream:orders", false),
        ("????????????*", "stream:orders", true),
        ("?????????????", "stream:orders", true),
        ("??????????????", "stream:orders", false),
        ("stream[:]orders", "stream:orders", true),
        ("stream[:-:]orders", "stream:orders", true),
        ("stream[^:]orders", "stream:orders", false),
        ("*[", "stream:orders", false),
        ("*[s", "stream:orders", true),
        ("*[s", "[", false),
        ("*[s", "]", false),
        ("*[s", "-", false),
        ("*[s", "\\", false),
        ("*[s", "^", false),
        ("*[s", "s", true),
        ("*\\", "stream:orders", false),
        ("*\\", "[", false),
        ("*\\", "]", false),
        ("*\\", "-", false),
        ("*\\", "\\", true),
        ("*\\", "^", false),
        ("[[-]]", "stream:orders", false),
        ("[[-]]", "[", true),
        ("[[-]]", "]", true),
        ("[[-]]", "-", false),
        ("[[-]]", "\\", true),
        ("[[-]]", "^", false),
        ("a\\*", "stream:orders", false),
        ("a\\*", "a*", true),
        ("a\\*", "ab", false),
        ("a\\*", "[", false),
        ("a\\*", "]", false),
        ("a\\*", "-", false),
        ("a\\*", "\\", false),
        ("a\\*", "^", false),
        ("a[*]", "stream:orders", false),
        ("a[*]", "a*", true),
        ("a[*]", "ab", false),
        ("a[*]", "[", false),
        ("a[*]", "]", false),
        ("a[*]", "-", false),
        ("a[*]", "\\", false),
        ("a[*]", "^", false),
        ("a[\\*]", "stream:orders", false),
        ("a[\\*]", "a*", true),
        ("a[\\*]", "ab", false),
        ("a[\\*]", "[", false),
        ("a[\\*]", "]", false),
        ("a[\\*]", "-", false),
        ("a[\\*]", "\\", false),
        ("a[\\*]", "^", false),
        ("a*", "stream:orders", false),
        ("a*", "a*", true),
        ("a*", "ab", true),
        ("a*", "[", false),
        ("a*", "]", false),
        ("a*", "-", false),
        ("a*", "\\", false),
        ("a*", "^", false),
        ("a?", "stream:orders", false),
        ("a?", "a*", true),
        ("a?", "ab", true),
        ("a?", "[", false),
        ("a?", "]", false),
        ("a?", "-", false),
        ("a?", "\\", false),
        ("a?", "^", false),
        ("\\a\\*", "stream:orders", false),
        ("\\a\\*", "a*", true),
        ("\\a\\*", "ab", false),
        ("\\a\\*", "[", false),
        ("\\a\\*", "]", false),
        ("\\a\\*", "-", false),
        ("\\a\\*", "\\", false),
        ("\\a\\*", "^", false),
        ("[a]*]", "stream:orders", false),
        ("[a", "stream:orders", false),
        ("[a-]", "stream:orders", false),
        ("[a-]", "[", false),
        ("[a-]", "]", true),
        ("[a-]", "-", false),
        ("[a-]", "\\", false),
        ("[a-]", "^", true),
        ("[]-a]", "stream:orders", false),
        ("[+--]", "stream:orders", false),
        ("[+--]", "[", false),
        ("[+--]", "]", false),
        ("[+--]", "-", true),
        ("[+--]", "\\", false),
        ("[+--]", "^", false),
        ("[--+]", "stream:orders", false),
        ("[--+]", "[", false),
        ("[--+]", "]", false),
        ("[--+]", "-", true),
        ("[--+]", "\\", false),
        ("[--+]", "^", false),
        ("-", "stream:orders", false),
        ("-", "[", false),
        ("-", "]", false),
        ("-", "-", true),
        ("-", "\\", false),
        ("-", "^", false),
        ("[-]", "stream:orders", false),
        ("[-]", "[", false),
        ("[-]", "]", false),
        ("[-]", "-", true),
        ("[-]", "\\", false),
        ("[-]", "^", false),
        ("[^-]", "stream:orders", false),
        ("[^-]", "[", true),
        ("[^-]", "]", true),
        ("[^-]", "-", false),
        ("[^-]", "\\", true),
        ("[^-]", "^", true),
        ("[^-]", "s", true),
        ("[\\", "stream:orders", false),
        ("[\\", "[", false),
        ("[\\", "]", false),
        ("[\\", "-", false),
        ("[\\", "\\", true),
        ("[\\", "^", false),
        ("[\\\\]", "stream:orders", false),
        ("[\\\\]", "[", false),
        ("[\\\\]", "]", false),
        ("[\\\\]", "-", false),
        ("[\\\\]", "\\", true),
        ("[\\\\]", "^", false),
        ("\\\\", "stream:orders", false),
        ("\\\\", "[", false),
        ("\\\\", "]", false),
        ("\\\\", "-", false),
        ("\\\\", "\\", true),
        ("\\\\", "^", false),
        ("\\", "stream:orders", false),
        ("\\", "[", false),
        ("\\", "]", false),
        ("\\", "-", false),
        ("\\", "\\", true),
        ("\\", "^", false),
    ];
}
