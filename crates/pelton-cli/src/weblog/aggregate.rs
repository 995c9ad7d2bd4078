//! What one shard keeps of the lines that it has seen, and the report that is made of it.
//!
//! # Mechanism
//! An [`Aggregate`] has one writer, the shard that owns it: plain additions, two [`CountTable`]s and a
//! histogram, all laid out at the start. At the end the aggregates of all shards are merged by name, so it
//! does not matter by what key lines were spread over the shards; a [`Report`] is made of the result.
//!
//! # Invariants
//! - [`Aggregate::record`] allocates nothing and touches no page for the first time.
//! - `requests` is the sum of all statuses; it is also the sum of all clients' counts and their overflow, and
//!   likewise for paths.
//! - Merging loses nothing: the merged tables are made for the sum of what the single ones hold.
//!
//! # Limits
//! Response sizes are kept with two significant digits up to 2^40 bytes, a greater one counts as that; the
//! greatest is kept exactly. A distinct count is a lower bound once its table has overflowed, and the report
//! says when it has.

use hdrhistogram::Histogram;
use serde::{Serialize, Serializer};

use crate::weblog::line::{Line, STATUS_MAX, STATUS_MIN, path_of};
use crate::weblog::tables::{CountTable, ENTRIES_MAX, NAME_BYTES_MAX, TableError, check_range};

/// The greatest response size that the histogram tells from greater ones, in bytes: 2^40, 1 TiB.
pub const RESPONSE_BYTES_MAX: u64 = 1 << 40;

const SIGNIFICANT_DIGITS: u8 = 2;
const STATUSES: usize = (STATUS_MAX - STATUS_MIN + 1) as usize;

/// How many names an aggregate has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Distinct clients, 1 to [`ENTRIES_MAX`]. By default 100,000.
    pub clients_max: usize,
    /// Bytes of all distinct clients' names, 1 to [`NAME_BYTES_MAX`]. Without it 24 for each client: an IPv4
    /// address has at most 15, an IPv6 address at most 39.
    pub client_bytes_max: Option<usize>,
    /// Distinct paths, 1 to [`ENTRIES_MAX`]. By default 100,000.
    pub paths_max: usize,
    /// Bytes of all distinct paths, 1 to [`NAME_BYTES_MAX`]. Without it 64 for each path.
    pub path_bytes_max: Option<usize>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { clients_max: 100_000, client_bytes_max: None, paths_max: 100_000, path_bytes_max: None }
    }
}

impl Limits {
    /// Bytes of all distinct clients' names.
    #[must_use]
    pub fn client_bytes(&self) -> usize {
        self.client_bytes_max.unwrap_or(self.clients_max.saturating_mul(24))
    }

    /// Bytes of all distinct paths.
    #[must_use]
    pub fn path_bytes(&self) -> usize {
        self.path_bytes_max.unwrap_or(self.paths_max.saturating_mul(64))
    }

    /// Whether every limit is in its range.
    ///
    /// # Errors
    /// [`TableError::OutOfRange`] with the name of the first that is not.
    pub fn check(&self) -> Result<(), TableError> {
        check_range("clients_max", self.clients_max, ENTRIES_MAX)?;
        check_range("client_bytes", self.client_bytes(), NAME_BYTES_MAX)?;
        check_range("paths_max", self.paths_max, ENTRIES_MAX)?;
        check_range("path_bytes", self.path_bytes(), NAME_BYTES_MAX)
    }
}

/// What one shard keeps; see the file's head.
#[derive(Debug)]
pub struct Aggregate {
    requests: u64,
    bytes: u64,
    bytes_largest: u64,
    statuses: [u64; STATUSES],
    statuses_other: u64,
    clients: CountTable,
    paths: CountTable,
    response_bytes: Histogram<u64>,
}

impl Aggregate {
    /// An empty aggregate. Allocates and touches all of its memory.
    ///
    /// # Errors
    /// [`TableError`], if a limit is out of range or the memory is not to be had.
    pub fn new(limits: &Limits) -> Result<Self, TableError> {
        limits.check()?;
        let table = |entries, bytes, entries_name, bytes_name| {
            CountTable::new(entries, bytes).map_err(|error| match error {
                TableError::NoMemory { setting: "entries_max", bytes } => {
                    TableError::NoMemory { setting: entries_name, bytes }
                }
                TableError::NoMemory { bytes, .. } => TableError::NoMemory { setting: bytes_name, bytes },
                other => other,
            })
        };
        Ok(Self {
            requests: 0,
            bytes: 0,
            bytes_largest: 0,
            statuses: [0; STATUSES],
            statuses_other: 0,
            clients: table(limits.clients_max, limits.client_bytes(), "clients_max", "client_bytes")?,
            paths: table(limits.paths_max, limits.path_bytes(), "paths_max", "path_bytes")?,
            response_bytes: histogram(),
        })
    }

    /// The memory of an aggregate with these limits, as named terms in bytes, without making it. The first
    /// term is the value itself, wherever its owner puts it; the others are on the heap.
    ///
    /// # Errors
    /// [`TableError::OutOfRange`], as for [`new`](Self::new).
    pub fn bytes_for(limits: &Limits) -> Result<Vec<(&'static str, u64)>, TableError> {
        limits.check()?;
        Ok(vec![
            ("aggregate", size_of::<Self>() as u64),
            ("client table", CountTable::bytes_for(limits.clients_max, limits.client_bytes())?),
            ("path table", CountTable::bytes_for(limits.paths_max, limits.path_bytes())?),
            ("response size histogram", HISTOGRAM_BYTES),
        ])
    }

    /// The bytes that this aggregate takes, the sum of the terms of [`bytes_for`](Self::bytes_for).
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        let histogram = self.response_bytes.distinct_values() * size_of::<u64>();
        (size_of::<Self>() + histogram) as u64 + self.clients.bytes() + self.paths.bytes()
    }

    /// Records one request: its client, its request line (of which [`path_of`] is kept), its status and its
    /// size in bytes.
    ///
    /// A status outside of 100 to 599, which no parsed line has, is counted as `other`. Sums stop at the
    /// greatest `u64`. Allocates nothing.
    #[inline]
    pub fn record(&mut self, client: &[u8], request: &[u8], status: u16, bytes: u64) {
        self.requests = self.requests.saturating_add(1);
        // A line may claim any size, so the sum could pass the end after two lines.
        self.bytes = self.bytes.saturating_add(bytes);
        self.bytes_largest = self.bytes_largest.max(bytes);
        let slot = usize::from(status.wrapping_sub(STATUS_MIN));
        *self.statuses.get_mut(slot).unwrap_or(&mut self.statuses_other) += 1;
        self.clients.add(client, 1);
        self.paths.add(path_of(request), 1);
        self.response_bytes.saturating_record(bytes);
    }

    /// Records one parsed line; see [`record`](Self::record).
    #[inline]
    pub fn record_line(&mut self, line: &Line<'_>) {
        self.record(line.client, line.request, line.status, line.bytes);
    }

    /// The number of requests recorded.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// The sum of all response sizes, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How often a status was recorded.
    #[must_use]
    pub fn status(&self, status: u16) -> u64 {
        self.statuses.get(usize::from(status.wrapping_sub(STATUS_MIN))).copied().unwrap_or(0)
    }

    /// Requests by client.
    #[must_use]
    pub fn clients(&self) -> &CountTable {
        &self.clients
    }

    /// Requests by path.
    #[must_use]
    pub fn paths(&self) -> &CountTable {
        &self.paths
    }

    /// One aggregate with the sum of all. Allocates tables that are large enough for all names, up to the
    /// limits of [`CountTable`]; names beyond those overflow. No aggregates at all give an empty one.
    ///
    /// # Panics
    /// If the memory for the merged tables is not to be had.
    #[must_use]
    pub fn merge(mut parts: Vec<Aggregate>) -> Aggregate {
        if parts.len() == 1 {
            // Nothing to add, and tables may be large.
            return parts.remove(0);
        }
        let room = |of: fn(&Aggregate) -> usize, limit: usize| {
            parts.iter().map(of).fold(0_usize, usize::saturating_add).clamp(1, limit)
        };
        let limits = Limits {
            clients_max: room(|part| part.clients.len(), ENTRIES_MAX),
            client_bytes_max: Some(room(|part| part.clients.name_bytes(), NAME_BYTES_MAX)),
            paths_max: room(|part| part.paths.len(), ENTRIES_MAX),
            path_bytes_max: Some(room(|part| part.paths.name_bytes(), NAME_BYTES_MAX)),
        };
        let mut sum =
            Aggregate::new(&limits).expect("limits are in range, and there is memory for the merged tables");
        for part in parts {
            // Each part is dropped as soon as it is merged, so that its memory is not held to the end.
            sum.merge_from(&part);
        }
        sum
    }

    /// Adds what another aggregate holds. Names that do not fit here overflow here. Allocates nothing.
    pub fn merge_from(&mut self, other: &Aggregate) {
        self.requests = self.requests.saturating_add(other.requests);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.bytes_largest = self.bytes_largest.max(other.bytes_largest);
        for (mine, theirs) in self.statuses.iter_mut().zip(&other.statuses) {
            *mine += theirs;
        }
        self.statuses_other += other.statuses_other;
        self.clients.merge_from(&other.clients);
        self.paths.merge_from(&other.paths);
        self.response_bytes.add(&other.response_bytes).expect("all histograms have the same bounds");
    }

    /// The report, with the `top_n` busiest clients and paths. Allocates.
    #[must_use]
    pub fn report(&self, top_n: usize) -> Report {
        let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
        let client = |(name, requests)| TopClient { client: text(name), requests };
        let path = |(name, requests)| TopPath { path: text(name), requests };
        // A bucket's upper end may lie above every size that was recorded.
        let quantile = |q| self.response_bytes.value_at_quantile(q).min(self.bytes_largest);
        Report {
            requests: self.requests,
            bytes: self.bytes,
            clients: self.clients.len() as u64,
            status: self.status_counts(),
            top_clients: self.clients.top(top_n).into_iter().map(client).collect(),
            top_paths: self.paths.top(top_n).into_iter().map(path).collect(),
            response_bytes: ResponseBytes {
                p50: quantile(0.50),
                p90: quantile(0.90),
                p99: quantile(0.99),
                max: self.bytes_largest,
            },
            overflowed: Overflowed { clients: self.clients.overflowed(), paths: self.paths.overflowed() },
        }
    }

    fn status_counts(&self) -> Vec<(String, u64)> {
        let known = (STATUS_MIN..).map(|status| status.to_string()).zip(self.statuses);
        let other = core::iter::once(("other".to_owned(), self.statuses_other));
        let mut counts: Vec<_> = known.chain(other).filter(|(_, count)| *count > 0).collect();
        counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        counts
    }
}

/// The histogram's heap memory in bytes: 128 counts for each doubling from 2^8 to beyond the greatest size,
/// and twice that for the sizes below.
const HISTOGRAM_BYTES: u64 = (RESPONSE_BYTES_MAX.ilog2() as u64 - 7 + 2) * 128 * size_of::<u64>() as u64;

fn histogram() -> Histogram<u64> {
    let mut histogram = Histogram::new_with_bounds(1, RESPONSE_BYTES_MAX, SIGNIFICANT_DIGITS)
        .expect("the bounds are constants and valid");
    // Writes to every count, so that no page is missing later.
    histogram.reset();
    histogram
}

/// What an aggregate has to say, in the shape in which it is written out.
///
/// Names that are not UTF-8 have U+FFFD in place of what is not; two names may look alike for that reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Requests recorded.
    pub requests: u64,
    /// The sum of all response sizes, in bytes.
    pub bytes: u64,
    /// Distinct clients; a lower bound if `overflowed.clients` is not 0.
    pub clients: u64,
    /// Requests by status (or `other`), those that occurred; the most frequent first, then by name. Written
    /// as a map in this order.
    #[serde(serialize_with = "in_order")]
    pub status: Vec<(String, u64)>,
    /// The busiest clients, the busiest first, then by name.
    pub top_clients: Vec<TopClient>,
    /// The most requested paths, the most requested first, then by name.
    pub top_paths: Vec<TopPath>,
    /// The distribution of response sizes.
    pub response_bytes: ResponseBytes,
    /// What was not counted by name, for lack of room.
    pub overflowed: Overflowed,
}

/// A client and how often it asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TopClient {
    /// Its address or host name.
    pub client: String,
    /// Its requests.
    pub requests: u64,
}

/// A path and how often it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TopPath {
    /// The path, its query included.
    pub path: String,
    /// Its requests.
    pub requests: u64,
}

/// Response sizes in bytes: quantiles with two significant digits (so at most 1 % too high), and the exact
/// greatest. All are 0 when nothing was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ResponseBytes {
    /// Half of all responses are at most this large.
    pub p50: u64,
    /// 90 % of all responses are at most this large.
    pub p90: u64,
    /// 99 % of all responses are at most this large.
    pub p99: u64,
    /// The largest response.
    pub max: u64,
}

/// Requests that were not counted by name, since a table was full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Overflowed {
    /// Requests whose client had no room.
    pub clients: u64,
    /// Requests whose path had no room.
    pub paths: u64,
}

fn in_order<S: Serializer>(pairs: &[(String, u64)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().map(|(name, count)| (name, count)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weblog::generate::{Generator, Settings};
    use crate::weblog::input::{LineReader, split};
    use std::collections::BTreeSet;
    use std::fs::File;
    use std::io::Write;

    fn small() -> Limits {
        Limits {
            clients_max: 4_000,
            client_bytes_max: Some(64_000),
            paths_max: 4_000,
            path_bytes_max: Some(256_000),
        }
    }

    /// A generated log in a file, which is deleted when it is closed.
    fn log() -> (File, String) {
        let settings = Settings { events: 10_000, clients: 3_000, paths: 1_500, ..Settings::default() };
        let (mut generator, mut text, mut line) =
            (Generator::new(&settings).unwrap(), String::new(), Vec::new());
        while generator.next_line(&mut line) {
            text += std::str::from_utf8(&line).unwrap();
            text.push('\n');
        }
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        (file, text)
    }

    /// The log, read in so many parts, each into an aggregate of its own.
    fn read(log: &File, parts: usize) -> Vec<Aggregate> {
        let ranges = split(log, parts).unwrap();
        let aggregate = |range| {
            let mut aggregate = Aggregate::new(&small()).unwrap();
            let mut reader = LineReader::new(range);
            while let Some(line) = reader.next_line().unwrap() {
                aggregate.record_line(&line.parse().unwrap());
            }
            aggregate
        };
        ranges.into_iter().map(aggregate).collect()
    }

    #[test]
    fn names_and_requests_are_those_of_the_lines() {
        let (log, text) = log();
        let whole = Aggregate::merge(read(&log, 1));
        let words = |at| text.lines().map(move |line| line.split(' ').nth(at).unwrap());
        assert_eq!(whole.paths().len(), words(6).collect::<BTreeSet<_>>().len());
        let report = whole.report(5);
        assert_eq!(report.requests, 10_000);
        assert_eq!(report.clients, words(0).collect::<BTreeSet<_>>().len() as u64);
        for top in &report.top_clients {
            assert_eq!(top.requests, words(0).filter(|client| *client == top.client).count() as u64);
        }
        for top in &report.top_paths {
            assert_eq!(top.requests, words(6).filter(|path| *path == top.path).count() as u64);
        }
        assert_eq!((report.top_clients.len(), report.top_paths.len()), (5, 5));
        assert_eq!(report.overflowed, Overflowed { clients: 0, paths: 0 });
    }

    #[test]
    fn parts_merge_into_the_whole() {
        let (log, _) = log();
        let whole = Aggregate::merge(read(&log, 1)).report(2_000);
        for parts in [2, 3, 16] {
            assert_eq!(Aggregate::merge(read(&log, parts)).report(2_000), whole, "{parts} parts");
        }
    }

    #[test]
    fn the_size_is_known_before_and_stays() {
        for limits in [Limits::default(), small()] {
            let mut aggregate = Aggregate::new(&limits).unwrap();
            let sum: u64 = Aggregate::bytes_for(&limits).unwrap().iter().map(|term| term.1).sum();
            assert_eq!(aggregate.memory_bytes(), sum);
            aggregate.record(b"a", b"GET / HTTP/1.0", 200, u64::MAX);
            assert_eq!(aggregate.memory_bytes(), sum);
        }
    }

    #[test]
    fn the_json_has_its_shape_and_order() {
        let mut aggregate = Aggregate::new(&Limits { clients_max: 2, ..small() }).unwrap();
        for (client, path, status, bytes) in
            [("b", "/x", 404, 10), ("a", "/x", 200, 1_000), ("b", "/\u{e9}", 200, 20), ("c", "/x", 301, 0)]
        {
            aggregate.record(client.as_bytes(), format!("GET {path} HTTP/1.1").as_bytes(), status, bytes);
        }
        aggregate.record(b"a", b"\xff", 7, 0);
        let json = serde_json::to_string(&aggregate.report(2)).unwrap();
        let expected = concat!(
            r#"{"requests":5,"bytes":1030,"clients":2,"#,
            r#""status":{"200":2,"301":1,"404":1,"other":1},"#,
            r#""top_clients":[{"client":"a","requests":2},{"client":"b","requests":2}],"#,
            r#""top_paths":[{"path":"/x","requests":3},{"path":"/é","requests":1}],"#,
            r#""response_bytes":{"p50":10,"p90":1000,"p99":1000,"max":1000},"#,
            r#""overflowed":{"clients":1,"paths":0}}"#,
        );
        assert_eq!(json, expected);
        assert!(aggregate.report(3).top_paths.iter().any(|top| top.path == "\u{fffd}"));
    }

    #[test]
    fn an_empty_report_is_all_zero() {
        let report = Aggregate::merge(Vec::new()).report(10);
        assert_eq!((report.requests, report.bytes, report.clients), (0, 0, 0));
        assert_eq!(report.response_bytes, ResponseBytes { p50: 0, p90: 0, p99: 0, max: 0 });
        assert!(report.status.is_empty() && report.top_clients.is_empty() && report.top_paths.is_empty());
    }

    #[test]
    fn sizes_beyond_the_histogram_count_as_its_greatest() {
        let mut aggregate = Aggregate::new(&small()).unwrap();
        for bytes in [u64::MAX, u64::MAX, 0] {
            aggregate.record(b"a", b"-", 200, bytes);
        }
        let report = aggregate.report(1);
        assert_eq!(report.bytes, u64::MAX);
        assert_eq!(report.response_bytes.max, u64::MAX);
        let p50 = report.response_bytes.p50;
        assert!((RESPONSE_BYTES_MAX..RESPONSE_BYTES_MAX + RESPONSE_BYTES_MAX / 100).contains(&p50), "{p50}");
    }

    #[test]
    fn limits_out_of_range_are_named() {
        let refused = |limits: Limits| Aggregate::new(&limits).unwrap_err().to_string();
        assert!(refused(Limits { clients_max: 0, ..small() }).starts_with("clients_max is 0, expected 1 to"));
        assert!(refused(Limits { client_bytes_max: Some(0), ..small() }).starts_with("client_bytes is 0"));
        assert!(
            refused(Limits { paths_max: ENTRIES_MAX + 1, ..small() }).starts_with("paths_max is 134217729")
        );
        assert!(refused(Limits { path_bytes_max: Some(usize::MAX), ..small() }).starts_with("path_bytes is"));
        assert!(Aggregate::bytes_for(&Limits { paths_max: 0, ..small() }).is_err());
    }

    #[test]
    fn overflow_survives_a_merge() {
        let part = || {
            let mut part = Aggregate::new(&Limits { clients_max: 1, ..small() }).unwrap();
            for client in ["a", "b", "c"] {
                part.record(client.as_bytes(), b"-", 200, 1);
            }
            part
        };
        let report = Aggregate::merge(vec![part(), part()]).report(9);
        assert_eq!(report.overflowed.clients, 4);
        assert_eq!(report.top_clients, [TopClient { client: "a".to_owned(), requests: 2 }]);
    }
}
