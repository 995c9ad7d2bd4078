//! Access logs made up: plausible, deterministic, as long as wanted.
//!
//! # Mechanism
//! Each line takes three draws from ChaCha8: which client, which path, and one whose bits decide the rest.
//! Client and path are ranks that follow Zipf's law. Everything else about a client or a path (address,
//! agent, name, size) is computed from its rank and the seed, so there are no tables of names.
//!
//! # Invariants
//! - The same settings give the same bytes on every machine and with every build: ChaCha8 is specified, the
//!   powers come from a software library, and all other arithmetic is of integers, or of IEEE operations with
//!   one exact result. A test holds the hash of a fixed log.
//! - Ranks map to addresses and to paths one to one: there are never more clients or paths than were asked
//!   for.
//! - Time does not go back.
//! - [`Generator::next_line`] allocates nothing if the caller's buffer has [`GENERATED_LINE_BYTES_MAX`]
//!   bytes.
//!
//! # What it does not do
//! Clients do not browse: a line does not depend on the lines before it, but for the time.
//!
//! # Limits
//! See [`Settings`]; each is checked, and nothing is rounded or clamped.

use chacha20::ChaCha8Rng;
use chacha20::rand_core::{Rng, SeedableRng};

use crate::weblog::ranks::{Ranks, TWO_TO_32};

/// No line is longer, in bytes. A buffer with this capacity never grows.
pub const GENERATED_LINE_BYTES_MAX: usize = 384;

/// The most events of one log: 2^40. More would carry the time beyond the year 9999.
pub const EVENTS_MAX: u64 = 1 << 40;

/// The most clients: 2^24, as an address is made from 24 bits.
pub const CLIENTS_MAX: u32 = 1 << 24;

/// The most paths: 2^24.
pub const PATHS_MAX: u32 = 1 << 24;

/// The greatest skew. At 4 the first rank has 92 % of everything.
pub const SKEW_MAX: f64 = 4.0;

/// What log to make up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Where the draws start; any number. By default 1.
    pub seed: u64,
    /// Lines, 0 to [`EVENTS_MAX`]. By default 1,000,000.
    pub events: u64,
    /// Clients to draw from, 1 to [`CLIENTS_MAX`]. By default 10,000.
    pub clients: u32,
    /// The exponent of Zipf's law for clients and paths, 0 (all alike) to [`SKEW_MAX`]. By default 1.0, where
    /// rank `k` is drawn `k` times less often than the first; web traffic is near that (L. Breslau et al.
    /// 1999 found 0.64 to 0.83 at proxies).
    pub skew: f64,
    /// The share of lines with a status of 400 and above, 0 to 1. A fifth of those are 5xx, the rest 4xx. By
    /// default 0.02.
    pub error_share: f64,
    /// Paths to draw from, 1 to [`PATHS_MAX`]. By default 2,000.
    pub paths: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { seed: 1, events: 1_000_000, clients: 10_000, skew: 1.0, error_share: 0.02, paths: 2_000 }
    }
}

impl Settings {
    /// Whether every setting is in its range.
    ///
    /// # Errors
    /// [`SettingsError`] for the first that is not.
    pub fn check(&self) -> Result<(), SettingsError> {
        let fail = |setting, value, limit, works| Err(SettingsError { setting, value, limit, works });
        if self.events > EVENTS_MAX {
            return fail("events", self.events.to_string(), "0 to 1099511627776", "1000000");
        }
        if !(1..=CLIENTS_MAX).contains(&self.clients) {
            return fail("clients", self.clients.to_string(), "1 to 16777216", "10000");
        }
        // Written so that a value which is not a number is refused too.
        if !(0.0..=SKEW_MAX).contains(&self.skew) {
            return fail("skew", self.skew.to_string(), "0 to 4", "1.0");
        }
        if !(0.0..=1.0).contains(&self.error_share) {
            return fail("error_share", self.error_share.to_string(), "0 to 1", "0.02");
        }
        if !(1..=PATHS_MAX).contains(&self.paths) {
            return fail("paths", self.paths.to_string(), "1 to 16777216", "2000");
        }
        Ok(())
    }
}

/// A setting that is out of its range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting} is {value}, expected {limit}; {works} works")]
pub struct SettingsError {
    /// The setting's name.
    pub setting: &'static str,
    /// The value that it has.
    pub value: String,
    /// The range that it should be in.
    pub limit: &'static str,
    /// A value that works.
    pub works: &'static str,
}

/// Makes up the lines of a log; see the file's head.
#[derive(Debug)]
pub struct Generator {
    draws: ChaCha8Rng,
    clients: Ranks,
    paths: Ranks,
    /// Of 2^32 draws, so many are errors.
    errors: u64,
    salt: u64,
    left: u64,
    time: Time,
}

impl Generator {
    /// A generator for these settings. Allocates 8 bytes for each client and path, and some three times as
    /// much for a moment.
    ///
    /// # Errors
    /// [`SettingsError`], if a setting is out of its range.
    pub fn new(settings: &Settings) -> Result<Self, SettingsError> {
        settings.check()?;
        let mut draws = ChaCha8Rng::from_seed(key(settings.seed));
        let salt = draws.next_u64();
        Ok(Self {
            draws,
            clients: Ranks::new(settings.clients, settings.skew),
            paths: Ranks::new(settings.paths, settings.skew),
            errors: (settings.error_share * TWO_TO_32) as u64,
            salt,
            left: settings.events,
            time: Time::new(),
        })
    }

    /// The lines that are left.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Puts the next line into `out`, in place of what was there, without a LF. At the end it gives `false`
    /// and leaves `out` empty.
    #[inline]
    pub fn next_line(&mut self, out: &mut Vec<u8>) -> bool {
        out.clear();
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        let client = self.clients.draw(self.draws.next_u64());
        let path = self.paths.draw(self.draws.next_u64());
        let bits = self.draws.next_u64();
        self.time.advance((bits >> 32) % (2 * GAP_MEAN_MS + 1));
        let path_bits = mixed(u64::from(path) ^ self.salt);
        let status = status(bits, self.errors);

        put_address(out, client, self.salt);
        out.extend_from_slice(b" - - [");
        out.extend_from_slice(&self.time.text);
        // Methods come with the text around them, so that a line is put together from fewer pieces.
        let post = (bits >> 40).is_multiple_of(16);
        out.extend_from_slice(if post { b"] \"POST " } else { b"] \"GET " });
        put_path(out, path);
        out.extend_from_slice(b" HTTP/1.1\" ");
        put_number(out, u64::from(status));
        out.push(b' ');
        match size(status, path_bits, bits) {
            0 => out.push(b'-'),
            size => put_number(out, size),
        }
        out.extend_from_slice(pick(&REFERERS, bits >> 46));
        out.extend_from_slice(pick(&AGENTS, mixed(u64::from(client) ^ !self.salt)));
        true
    }
}

/// The key of the cipher that draws. It is made here, since how a library widens a small seed may change from
/// one version to the next.
fn key(seed: u64) -> [u8; 32] {
    let mut key = *b"........pelton web log generator";
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key
}

/// Milliseconds between two lines, on average; each gap is uniform from 0 to twice that.
const GAP_MEAN_MS: u64 = 100;

/// 2026-01-01 00:00:00 UTC, in seconds since 1970.
const EPOCH_S: u64 = 1_767_225_600;

/// The clock of the log, with its text, which is made anew only when the second changes.
#[derive(Debug)]
struct Time {
    second: u64,
    ms: u64,
    text: [u8; 26],
}

impl Time {
    fn new() -> Self {
        let mut time = Self { second: EPOCH_S, ms: 0, text: *b"00/Jan/0000:00:00:00 +0000" };
        time.write_slow();
        time
    }

    #[inline]
    fn advance(&mut self, gap_ms: u64) {
        self.ms += gap_ms;
        if self.ms >= 1_000 {
            self.second += self.ms / 1_000;
            self.ms %= 1_000;
            self.write_slow();
        }
    }

    #[cold]
    fn write_slow(&mut self) {
        let (year, month, day) = civil(self.second / 86_400);
        let mut two = |at: usize, value: u64| {
            self.text[at] = b'0' + (value / 10 % 10) as u8;
            self.text[at + 1] = b'0' + (value % 10) as u8;
        };
        let second = self.second;
        two(0, day);
        two(7, year / 100);
        two(9, year % 100);
        two(12, second / 3_600 % 24);
        two(15, second / 60 % 60);
        two(18, second % 60);
        let name = 3 * (month as usize - 1);
        self.text[3..6].copy_from_slice(&b"JanFebMarAprMayJunJulAugSepOctNovDec"[name..name + 3]);
    }
}

/// Year, month and day of a number of days since 1970-01-01; `civil_from_days` of H. Hinnant,
/// "chrono-Compatible Low-Level Date Algorithms".
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

/// Spreads a small number over 64 bits; the finisher of SplitMix64 (G. Steele et al. 2014).
#[inline]
fn mixed(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[inline]
fn pick<const N: usize>(texts: &[&'static [u8]; N], bits: u64) -> &'static [u8] {
    const { assert!(N.is_power_of_two()) };
    texts[bits as usize & (N - 1)]
}

/// First parts of addresses outside of the private and reserved networks.
const NETS: [u8; 16] = [5, 24, 31, 46, 62, 66, 77, 83, 91, 109, 130, 151, 178, 188, 201, 213];

/// An IPv4 address for a rank. Its last three parts are the rank put through steps that can be undone in 24
/// bits, so no two ranks have the same; the first part follows from them.
#[inline]
fn put_address(out: &mut Vec<u8>, rank: u32, salt: u64) {
    let mut bits = (rank ^ salt as u32) & 0xff_ffff;
    bits = bits.wrapping_mul(0x9e_3779 | 1) & 0xff_ffff;
    bits ^= bits >> 12;
    bits = bits.wrapping_mul(0x85_ebcb | 1) & 0xff_ffff;
    let net = NETS[mixed(u64::from(bits) ^ salt) as usize & (NETS.len() - 1)];
    let [_, b, c, d] = bits.to_be_bytes();
    put_number(out, u64::from(net));
    for part in [b, c, d] {
        out.push(b'.');
        put_number(out, u64::from(part));
    }
}

const FOLDERS: [&[u8]; 8] = [
    b"/articles/",
    b"/blog/",
    b"/api/v1/items/",
    b"/api/v2/search?q=",
    b"/images/",
    b"/static/",
    b"/docs/guide/",
    b"/users/",
];

const WORDS: [&[u8]; 8] =
    [b"jet-", b"bucket-", b"nozzle-", b"weir-", b"penstock-", b"sluice-", b"rotor-", b"harbour-"];

/// Paths that every site has; their ranks are the first.
const COMMON: [&[u8]; 4] = [b"/", b"/favicon.ico", b"/robots.txt", b"/style.css"];

/// A path for a rank. The rank is a part of it, so no two ranks have the same.
#[inline]
fn put_path(out: &mut Vec<u8>, rank: u32) {
    if let Some(path) = COMMON.get(rank as usize) {
        out.extend_from_slice(path);
        return;
    }
    let bits = mixed(u64::from(rank));
    out.extend_from_slice(pick(&FOLDERS, bits));
    out.extend_from_slice(pick(&WORDS, bits >> 8));
    put_number(out, u64::from(rank));
}

const REFERERS: [&[u8]; 8] = [
    b" \"-\" ",
    b" \"-\" ",
    b" \"-\" ",
    b" \"https://www.example.com/\" ",
    b" \"https://www.example.com/articles/\" ",
    b" \"https://search.example.org/?q=water+power\" ",
    b" \"https://news.example.net/item?id=4711\" ",
    b" \"https://docs.example.com/guide/start.html\" ",
];

const AGENTS: [&[u8]; 8] = [
    b"\"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/131.0.0.0 Safari/537.36\"",
    b"\"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Safari/605.1.15\"",
    b"\"Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0\"",
    b"\"Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) Version/18.1 Mobile/15E148\"",
    b"\"Mozilla/5.0 (Linux; Android 14; Pixel 8) Chrome/131.0.0.0 Mobile Safari/537.36\"",
    b"\"Mozilla/5.0 (compatible; ExampleBot/2.1; +https://bot.example.org/about)\"",
    b"\"curl/8.11.0\"",
    b"\"FeedReader/3.2 (+https://feeds.example.net)\"",
];

/// The status: an error by the low 32 bits, and which one by the bits above.
#[inline]
fn status(bits: u64, errors: u64) -> u16 {
    const GOOD: [u16; 16] = [200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 304, 301, 206];
    const CLIENT: [u16; 8] = [404, 404, 404, 404, 404, 403, 400, 429];
    const SERVER: [u16; 4] = [500, 500, 502, 503];
    let choice = (bits >> 49) as usize;
    if (bits & 0xffff_ffff) >= errors {
        GOOD[choice % GOOD.len()]
    } else if (choice >> 4).is_multiple_of(5) {
        SERVER[choice % SERVER.len()]
    } else {
        CLIENT[choice % CLIENT.len()]
    }
}

/// The size in bytes; 0 where there is no body. A path has one size, unless a part of it was asked for;
/// errors are short.
#[inline]
fn size(status: u16, path_bits: u64, bits: u64) -> u64 {
    // From 256 bytes to 1 MiB, each doubling as likely as the next.
    let whole = (256 << (path_bits % 12)) + (path_bits >> 32) % (256 << (path_bits % 12));
    match status {
        200 => whole,
        206 => 1 + (bits >> 44) % whole,
        304 => 0,
        301 => 240 + path_bits % 64,
        400.. => 160 + path_bits % 512,
        _ => whole,
    }
}

#[inline]
fn put_number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weblog::aggregate::{Aggregate, Limits};
    use crate::weblog::line::parse;
    use proptest::prelude::*;
    use std::collections::HashSet;
    use xxhash_rust::xxh3::Xxh3;

    fn aggregate(settings: &Settings) -> Aggregate {
        let mut generator = Generator::new(settings).unwrap();
        let mut aggregate = Aggregate::new(&Limits::default()).unwrap();
        let mut line = Vec::with_capacity(GENERATED_LINE_BYTES_MAX);
        while generator.next_line(&mut line) {
            aggregate.record_line(&parse(&line).unwrap());
        }
        aggregate
    }

    fn hash(settings: &Settings) -> u64 {
        let mut generator = Generator::new(settings).unwrap();
        let (mut hash, mut line) = (Xxh3::new(), Vec::new());
        while generator.next_line(&mut line) {
            line.push(b'\n');
            hash.update(&line);
        }
        hash.digest()
    }

    #[test]
    fn a_seed_gives_the_same_bytes_everywhere() {
        let settings = Settings { events: 20_000, ..Settings::default() };
        assert_eq!(hash(&settings), 10_323_778_921_957_522_425);
        assert_eq!(
            hash(&Settings { seed: 7, skew: 0.85, paths: 70_001, clients: 131_071, ..settings }),
            13_937_559_114_877_030_057
        );
    }

    #[test]
    fn seeds_differ() {
        let settings = Settings { events: 100, ..Settings::default() };
        let hashes: HashSet<_> = (0..50).map(|seed| hash(&Settings { seed, ..settings })).collect();
        assert_eq!(hashes.len(), 50);
    }

    #[test]
    fn the_first_line_reads_like_a_log() {
        let mut line = Vec::new();
        assert!(Generator::new(&Settings::default()).unwrap().next_line(&mut line));
        let expected = concat!(
            r#"178.78.69.98 - - [01/Jan/2026:00:00:00 +0000] "POST /images/weir-6 HTTP/1.1" 301 288 "#,
            r#""https://www.example.com/" "Mozilla/5.0 (compatible; ExampleBot/2.1; +https://bot.example.org/about)""#,
        );
        assert_eq!(String::from_utf8(line).unwrap(), expected);
    }

    #[test]
    fn it_ends_after_its_events() {
        let mut generator = Generator::new(&Settings { events: 2, ..Settings::default() }).unwrap();
        let mut line = b"rest".to_vec();
        assert!(generator.next_line(&mut line) && !line.starts_with(b"rest"));
        assert!(generator.next_line(&mut line) && generator.left() == 0);
        assert!(!generator.next_line(&mut line) && line.is_empty());
        assert!(
            !Generator::new(&Settings { events: 0, ..Settings::default() }).unwrap().next_line(&mut line)
        );
    }

    #[test]
    fn errors_have_their_share_and_a_fifth_are_the_server_s() {
        for (share, low, high) in [(0.0, 0, 0), (0.1, 9_500, 10_500), (1.0, 100_000, 100_000)] {
            let made = aggregate(&Settings { events: 100_000, error_share: share, ..Settings::default() });
            let client: u64 = (400..500).map(|status| made.status(status)).sum();
            let server: u64 = (500..600).map(|status| made.status(status)).sum();
            assert!((low..=high).contains(&(client + server)), "{client} + {server} for {share}");
            let fifth = (client + server) / 5;
            assert!(server.abs_diff(fifth) <= fifth / 10, "{server} of {client}");
        }
    }

    #[test]
    fn the_skew_is_zipf_s() {
        let settings = Settings { events: 200_000, clients: 1_000, paths: 10, ..Settings::default() };
        for skew in [0.0, 0.5, 1.0, 2.0, 4.0] {
            let made = aggregate(&Settings { skew, ..settings });
            let sum: f64 = (1..=1_000).map(|rank| f64::from(rank).powf(-skew)).sum();
            let top = made.clients().top(3);
            // With all alike the busiest is chance, so only the skewed have an expected order.
            let ranks = if skew == 0.0 { 0 } else { 3 };
            for (at, (_, count)) in top.into_iter().take(ranks).enumerate() {
                let expected = 200_000.0 * (at as f64 + 1.0).powf(-skew) / sum;
                let off = (count as f64 - expected).abs();
                assert!(off < 5.0 * expected.sqrt(), "rank {at} at {skew}: {count}, expected {expected}");
            }
            assert!(skew > 0.0 || made.clients().iter().all(|(_, count)| (100..300).contains(&count)));
        }
    }

    #[test]
    fn ranks_have_names_of_their_own() {
        let (mut addresses, mut paths) = (HashSet::new(), HashSet::new());
        for rank in (0..100_000).chain(CLIENTS_MAX - 1_000..CLIENTS_MAX) {
            let (mut address, mut path) = (Vec::new(), Vec::new());
            put_address(&mut address, rank, 0x1234_5678_9abc_def0);
            put_path(&mut path, rank);
            assert!(addresses.insert(address) && paths.insert(path), "{rank}");
        }
        let made =
            aggregate(&Settings { events: 50_000, clients: 37, paths: 41, skew: 0.0, ..Settings::default() });
        assert_eq!((made.clients().len(), made.paths().len()), (37, 41));
    }

    #[test]
    fn dates_are_right() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(civil(EPOCH_S / 86_400), (2026, 1, 1));
        let mut time = Time::new();
        assert_eq!(&time.text, b"01/Jan/2026:00:00:00 +0000");
        time.advance(86_399_999);
        assert_eq!(&time.text, b"01/Jan/2026:23:59:59 +0000");
        time.advance(1);
        assert_eq!(&time.text, b"02/Jan/2026:00:00:00 +0000");
        let last = EPOCH_S + EVENTS_MAX / 1_000 * 2 * GAP_MEAN_MS;
        assert!(civil(last / 86_400).0 < 10_000);
    }

    #[test]
    fn time_does_not_go_back() {
        // Within the month that this log covers, the order of the texts is that of the times.
        let mut generator = Generator::new(&Settings { events: 100_000, ..Settings::default() }).unwrap();
        let (mut line, mut before) = (Vec::new(), String::new());
        while generator.next_line(&mut line) {
            let text = core::str::from_utf8(&line).unwrap();
            let now = text.split(['[', ']']).nth(1).unwrap().to_owned();
            assert!(now >= before, "{before} {now}");
            before = now;
        }
        assert!(before.as_str() > "01/Jan/2026:02:00:00", "{before}");
    }

    #[test]
    fn every_limit_is_named_with_a_value_that_works() {
        let good = Settings::default();
        let wrong = [
            (
                Settings { events: EVENTS_MAX + 1, ..good },
                "events is 1099511627777, expected 0 to 1099511627776; 1000000 works",
            ),
            (Settings { clients: 0, ..good }, "clients is 0, expected 1 to 16777216; 10000 works"),
            (
                Settings { clients: CLIENTS_MAX + 1, ..good },
                "clients is 16777217, expected 1 to 16777216; 10000 works",
            ),
            (Settings { skew: 4.5, ..good }, "skew is 4.5, expected 0 to 4; 1.0 works"),
            (Settings { skew: f64::NAN, ..good }, "skew is NaN, expected 0 to 4; 1.0 works"),
            (Settings { error_share: -0.1, ..good }, "error_share is -0.1, expected 0 to 1; 0.02 works"),
            (Settings { paths: 0, ..good }, "paths is 0, expected 1 to 16777216; 2000 works"),
        ];
        for (settings, text) in wrong {
            assert_eq!(settings.check().unwrap_err().to_string(), text);
            assert_eq!(Generator::new(&settings).unwrap_err().to_string(), text);
        }
        good.check().unwrap();
    }

    proptest! {
        #[test]
        fn generated_lines_always_parse(
            seed: u64,
            clients in 1..5_000_u32,
            paths in 1..5_000_u32,
            skew in 0.0..=4.0,
            error_share in 0.0..=1.0,
        ) {
            let settings = Settings { seed, events: 200, clients, skew, error_share, paths };
            let mut generator = Generator::new(&settings).unwrap();
            let mut text = Vec::with_capacity(GENERATED_LINE_BYTES_MAX);
            while generator.next_line(&mut text) {
                prop_assert!(text.len() <= GENERATED_LINE_BYTES_MAX);
                let line = parse(&text);
                prop_assert!(line.is_ok(), "{:?}", line);
                let line = line.unwrap();
                prop_assert!(line.path().starts_with(b"/") && line.bytes < 1 << 20);
                prop_assert_eq!(line.bytes == 0, line.status == 304);
            }
        }
    }
}
