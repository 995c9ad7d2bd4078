//! Patterns, as Redis has them.
#![forbid(unsafe_code)]

/// Whether a text matches a pattern of Redis: `*`, `?`, `[a-c]`, `[^x]`, and `\` before what is meant as it is.
///
/// Takes a time in proportion to the product of both lengths, whatever the pattern.
pub(super) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    // The last star, and where what follows it was last tried.
    let mut star: Option<(usize, usize)> = None;
    let (mut p, mut t) = (0, 0);
    while t < text.len() {
        match one(&pattern[p..], text[t]) {
            One::Star => {
                p += 1;
                star = Some((p, t));
            }
            One::Yes(used) => {
                p += used;
                t += 1;
            }
            One::No => match &mut star {
                None => return false,
                Some((after, tried)) => {
                    *tried += 1;
                    (p, t) = (*after, *tried);
                }
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// What the beginning of a pattern says of one byte.
enum One {
    Star,
    /// It matches, with so many bytes of the pattern.
    Yes(usize),
    No,
}

fn one(pattern: &[u8], byte: u8) -> One {
    match pattern {
        [] => One::No,
        [b'*', ..] => One::Star,
        [b'?', ..] => One::Yes(1),
        [b'\\', meant, ..] => {
            if *meant == byte {
                One::Yes(2)
            } else {
                One::No
            }
        }
        [b'[', rest @ ..] => {
            let Some(end) = rest.iter().skip(1).position(|byte| *byte == b']').map(|at| at + 1) else {
                return if byte == b'[' { One::Yes(1) } else { One::No };
            };
            let (not, mut set) = match &rest[..end] {
                [b'^', set @ ..] => (true, set),
                set => (false, set),
            };
            let mut is_in = false;
            while let [first, more @ ..] = set {
                if let [b'-', last, more @ ..] = more {
                    is_in |= (*first.min(last)..=*first.max(last)).contains(&byte);
                    set = more;
                } else {
                    is_in |= *first == byte;
                    set = more;
                }
            }
            if is_in != not { One::Yes(end + 2) } else { One::No }
        }
        [own, ..] => {
            if *own == byte {
                One::Yes(1)
            } else {
                One::No
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_those_of_redis() {
        for (pattern, text, is) in [
            ("*", "", true),
            ("stream:*", "stream:orders", true),
            ("stream:*", "view:orders", false),
            ("*:o*s", "stream:orders", true),
            ("s?ream:a", "stream:a", true),
            ("[sv]*", "view:x", true),
            ("[^sv]*", "view:x", false),
            ("[a-t]tream:*", "stream:x", true),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
            ("a", "ab", false),
            ("", "a", false),
            ("[", "[", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), is, "{pattern} {text}");
        }
    }

    #[test]
    fn a_pattern_of_many_stars_takes_no_exponential_time() {
        let pattern = b"a*".repeat(500);
        assert!(!matches(&pattern, &[b'a'; 400]));
    }
}
