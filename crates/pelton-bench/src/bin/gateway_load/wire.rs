//! What goes over the wire: the one request, and answers, taken apart as they come.

use std::collections::BTreeMap;

/// `XADD stream * myfield <payload>`, the payload of printable bytes that follow from the seed.
pub fn xadd(stream: &str, payload_bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let payload: Vec<u8> = (0..payload_bytes)
        .map(|_| {
            // Knuth's linear congruential generator (MMIX); chance is not needed, only bytes that differ.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            b'a' + ((state >> 33) % 26) as u8
        })
        .collect();
    command(&[b"XADD", stream.as_bytes(), b"*", b"myfield", &payload])
}

/// A command as an array of bulk strings.
pub fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// One answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// A bulk string.
    Bulk(&'a [u8]),
    /// A simple string.
    Simple(&'a [u8]),
    /// An error, without its `-`.
    Error(&'a [u8]),
}

/// The first answer of `bytes` and its length; none while it is incomplete.
///
/// # Errors
/// Its first bytes, where that is no answer to what is sent here.
pub fn reply(bytes: &[u8]) -> Result<Option<(Reply<'_>, usize)>, String> {
    let strange = || Err(String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).into_owned());
    let Some(&kind) = bytes.first() else { return Ok(None) };
    if !matches!(kind, b'$' | b'+' | b'-') {
        return strange();
    }
    let Some(at) = bytes.iter().position(|byte| *byte == b'\r') else { return Ok(None) };
    let (line, begin) = (&bytes[1..at], at + 2);
    if bytes.len() < begin {
        return Ok(None);
    }
    match kind {
        b'+' => Ok(Some((Reply::Simple(line), begin))),
        b'-' => Ok(Some((Reply::Error(line), begin))),
        _ => match number(line) {
            Some(length) if length <= 1 << 20 => {
                let end = begin + length as usize;
                Ok((bytes.len() >= end + 2).then(|| (Reply::Bulk(&bytes[begin..end]), end + 2)))
            }
            _ => strange(),
        },
    }
}

/// The two numbers of a stream's id.
pub fn id(text: &[u8]) -> Option<(u64, u64)> {
    let dash = text.iter().position(|byte| *byte == b'-')?;
    Some((number(&text[..dash])?, number(&text[dash + 1..])?))
}

fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |sum, digit| {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 { None } else { sum.checked_mul(10)?.checked_add(digit.into()) }
    })
}

/// What was answered, counted.
#[derive(Default)]
pub struct Tally {
    pub accepted: u64,
    pub busy: u64,
    pub dropped: u64,
    /// Ids that were not larger than the one before on their connection.
    pub out_of_order: u64,
    /// Other errors, by their first word; and answers that are neither an id nor an error.
    pub errors: BTreeMap<String, u64>,
}

impl Tally {
    /// Counts an answer; `last` is its connection's id before.
    #[inline]
    pub fn count(&mut self, reply: Reply<'_>, last: &mut (u64, u64)) {
        let Reply::Bulk(text) = reply else { return self.count_slow(&reply) };
        let Some(id) = id(text) else { return self.count_slow(&reply) };
        self.accepted += 1;
        self.out_of_order += u64::from(id <= *last);
        *last = id;
    }

    #[cold]
    fn count_slow(&mut self, reply: &Reply<'_>) {
        let word = match reply {
            Reply::Error(text) => text.split(|byte| *byte == b' ').next().unwrap_or_default(),
            Reply::Bulk(_) | Reply::Simple(_) => b"(no id)",
        };
        match word {
            b"BUSY" => self.busy += 1,
            b"DROPPED" => self.dropped += 1,
            _ => self.error(&String::from_utf8_lossy(word)),
        }
    }

    /// Counts something that went wrong.
    #[cold]
    pub fn error(&mut self, kind: &str) {
        *self.errors.entry(kind.to_owned()).or_default() += 1;
    }

    /// How many requests were answered, in whatever way.
    pub fn answered(&self) -> u64 {
        self.accepted + self.busy + self.dropped + self.errors.values().sum::<u64>()
    }
}
