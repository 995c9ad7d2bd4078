//! Lines out of a byte source, with memory that is fixed at the start.
//!
//! # Mechanism
//! A [`LineReader`] owns one buffer of [`READER_BYTES`]. It reads at most [`READ_BYTES`] at a time and lends
//! out each line where it lies. What is left of a line at the end of the buffer is moved to its front before
//! the next read, so the buffer's first part is used over and over and stays in the cache; the rest is there
//! for lines that are long.
//!
//! A [`FileRange`] is a `Read` over a part of a file. It reads by position, so any number of ranges share one
//! descriptor and none of them moves a cursor that another one needs. [`split`] cuts a file at line starts,
//! one range per reader.
//!
//! # Invariants
//! - Every byte of the source belongs to exactly one line; the ranges of a split have every line exactly
//!   once.
//! - Nothing is allocated after construction, nor by a restart.
//! - A line that is too long is lent out once, marked, and then skipped to its end.
//! - A range ends where the file ended when it was opened. Bytes that are appended later are not read; bytes
//!   that were cut off meanwhile are counted by [`FileRange::missing_bytes`].
//!
//! # What it does not do
//! It does not follow a growing file. It does not unpack compressed files. It does not notice that bytes
//! which it has already read, or is about to read, were overwritten in place.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memchr::memchr;

use crate::weblog::line::{self, LINE_BYTES_MAX, Line, Malformed};

/// The most bytes that are asked for in one read: 256 KiB. It is large enough that the cost of a system call
/// vanishes, and small enough that what was read is still in a second-level cache when it is parsed.
pub const READ_BYTES: usize = 256 << 10;

/// The heap memory of one [`LineReader`], in bytes: one line of the greatest length, and one read behind it.
pub const READER_BYTES: usize = LINE_BYTES_MAX + READ_BYTES;

/// The most ranges that [`split`] cuts a file into.
pub const PARTS_MAX: usize = 1024;

/// The step of the search for a line start, in bytes.
const SEARCH_BYTES: usize = 64 << 10;

/// A line as it was found, before it is parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawLine<'a> {
    /// The line without its LF. If it is too long, its first [`LINE_BYTES_MAX`] bytes.
    pub bytes: &'a [u8],
    /// Whether the line is longer than [`LINE_BYTES_MAX`], so that `bytes` is only its beginning.
    pub too_long: bool,
}

impl<'a> RawLine<'a> {
    /// Takes the line apart; see [`line::parse`].
    ///
    /// # Errors
    /// [`Malformed::TooLong`] if the line is marked as such, otherwise what `line::parse` finds.
    #[inline]
    pub fn parse(&self) -> Result<Line<'a>, Malformed> {
        if self.too_long { Err(Malformed::TooLong) } else { line::parse(self.bytes) }
    }
}

/// Reads lines from a byte source; see the file's head.
#[derive(Debug)]
pub struct LineReader<R> {
    source: R,
    buffer: Box<[u8]>,
    /// Where the bytes not yet lent out begin.
    start: usize,
    /// Where the bytes that were looked at, and hold no LF, end. Never less than `start`.
    seen: usize,
    /// Where the bytes that were read end. Never less than `seen`.
    end: usize,
    /// Whether the rest of a line that was too long is still to be skipped.
    skipping: bool,
    /// Whether the source has ended. It is not asked again, as a terminal would go on after its end.
    ended: bool,
    /// Bytes that all sources so far have given.
    bytes_read: u64,
}

impl<R: Read> LineReader<R> {
    /// A reader over `source`. Allocates [`READER_BYTES`] and touches them, so that no page is missing later.
    #[must_use]
    pub fn new(source: R) -> Self {
        // A buffer of zeros would be mapped only when it is first written to; any other byte is written now.
        let buffer = vec![b'\n'; READER_BYTES].into_boxed_slice();
        Self { source, buffer, start: 0, seen: 0, end: 0, skipping: false, ended: false, bytes_read: 0 }
    }

    /// The next line, or `None` at the end of the source. A last line without a LF is a line too.
    ///
    /// The line is lent out: it is gone with the next call. It blocks for as long as the source's `read`
    /// does.
    ///
    /// # Errors
    /// Those of the source, except for `Interrupted`, upon which it reads again. After an error no byte is
    /// lost, and the next call goes on where this one stopped.
    #[inline]
    pub fn next_line(&mut self) -> io::Result<Option<RawLine<'_>>> {
        loop {
            if let Some(found) = memchr(b'\n', &self.buffer[self.seen..self.end]) {
                let (from, to) = (self.start, self.seen + found);
                self.start = to + 1;
                self.seen = self.start;
                if self.skipping {
                    self.skipping = false;
                    continue;
                }
                return Ok(Some(self.lend(from, to)));
            }
            self.seen = self.end;
            if self.skipping {
                self.start = self.end;
            } else if self.end - self.start > LINE_BYTES_MAX {
                // It is reported before its end is known, so that its beginning can be lent out.
                let from = self.start;
                self.start = self.end;
                self.skipping = true;
                return Ok(Some(self.lend(from, self.end)));
            }
            if self.ended || self.fill()? == 0 {
                self.ended = true;
                let (from, to) = (self.start, self.end);
                self.start = to;
                return Ok((from < to).then(|| self.lend(from, to)));
            }
        }
    }

    /// The source.
    #[must_use]
    pub fn get_ref(&self) -> &R {
        &self.source
    }

    /// The bytes that were read since the reader was made, over all restarts, those read ahead included.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// Puts another source in place and gives back the old one, keeping the buffer. Bytes of the old source
    /// that were read ahead are forgotten. Allocates nothing.
    pub fn restart_with(&mut self, source: R) -> R {
        self.forget();
        core::mem::replace(&mut self.source, source)
    }

    fn forget(&mut self) {
        (self.start, self.seen, self.end) = (0, 0, 0);
        (self.skipping, self.ended) = (false, false);
    }

    #[inline]
    fn lend(&self, from: usize, to: usize) -> RawLine<'_> {
        let too_long = to - from > LINE_BYTES_MAX;
        let to = if too_long { from + LINE_BYTES_MAX } else { to };
        RawLine { bytes: &self.buffer[from..to], too_long }
    }

    /// Moves what is left of a line to the front and reads behind it; 0 is the end of the source.
    #[cold]
    fn fill(&mut self) -> io::Result<usize> {
        if self.start > 0 {
            // Each line is moved at most once, since it then begins at 0.
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.seen = self.end;
            self.start = 0;
        }
        // At most a line of the greatest length is pending here, so one whole read has room behind it.
        let room = &mut self.buffer[self.end..self.end + READ_BYTES];
        loop {
            match self.source.read(room) {
                Ok(read) => {
                    self.end += read;
                    self.bytes_read += read as u64;
                    return Ok(read);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl LineReader<FileRange> {
    /// Goes back to the start of the range, for another pass over the same lines. Allocates nothing.
    pub fn restart(&mut self) {
        self.forget();
        self.source.rewind();
    }
}

/// A `Read` over a byte range of a file; see the file's head.
#[derive(Debug)]
pub struct FileRange {
    file: Arc<File>,
    start: u64,
    end: u64,
    at: u64,
    cut: bool,
}

impl FileRange {
    /// The whole of a file, up to where it ends now.
    ///
    /// # Errors
    /// Those of asking for the file's length, or of duplicating its descriptor.
    pub fn whole(file: &File) -> io::Result<Self> {
        let end = file.metadata()?.len();
        Ok(Self::new(Arc::new(file.try_clone()?), 0, end))
    }

    fn new(file: Arc<File>, start: u64, end: u64) -> Self {
        Self { file, start, end, at: start, cut: false }
    }

    /// Where the range starts, in bytes from the start of the file.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.start
    }

    /// The bytes in the range, as of when the file was opened.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.end - self.start
    }

    /// Whether the range holds no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// How many bytes at the end of the range this pass found missing, since the file was truncated after it
    /// was opened. 0 until the pass has come that far.
    #[must_use]
    pub fn missing_bytes(&self) -> u64 {
        if self.cut { self.end - self.at } else { 0 }
    }

    /// Goes back to the start of the range, and forgets what was missing.
    pub fn rewind(&mut self) {
        self.at = self.start;
        self.cut = false;
    }
}

impl Read for FileRange {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let want = room.len().min(left);
        if want == 0 {
            return Ok(0);
        }
        let read = self.file.read_at(&mut room[..want], self.at)?;
        self.cut = read == 0;
        self.at += read as u64;
        Ok(read)
    }
}

/// Cuts a file into `parts` ranges (1 to [`PARTS_MAX`]) of about the same length, in order, each starting at
/// the start of a line.
///
/// Together they cover the file as long as it is now, so every line is in exactly one of them. Where a line
/// is longer than a part, ranges are empty. The file's own cursor is neither used nor moved.
///
/// # Errors
/// `InvalidInput` if `parts` is out of range; otherwise those of reading the file.
pub fn split(file: &File, parts: usize) -> io::Result<Vec<FileRange>> {
    if !(1..=PARTS_MAX).contains(&parts) {
        let text = format!("parts is {parts}, expected 1 to {PARTS_MAX}");
        return Err(io::Error::new(ErrorKind::InvalidInput, text));
    }
    let end = file.metadata()?.len();
    let file = Arc::new(file.try_clone()?);
    let mut scratch = vec![0; SEARCH_BYTES];
    let mut ranges = Vec::with_capacity(parts);
    let mut start = 0;
    for part in 1..=parts as u64 {
        // The product of a length and a part may exceed 64 bits.
        let target = (u128::from(end) * u128::from(part) / parts as u128) as u64;
        // A line that began before the target and reached past it has taken this part along.
        let cut = if target <= start { start } else { line_start(&file, target, end, &mut scratch)? };
        ranges.push(FileRange::new(Arc::clone(&file), start, cut));
        start = cut;
    }
    Ok(ranges)
}

/// The first start of a line at or after `target`, which is above 0; `end` if there is none before it.
fn line_start(file: &File, target: u64, end: u64, scratch: &mut [u8]) -> io::Result<u64> {
    // A line starts at the target itself if the byte before it is a LF.
    let mut at = target - 1;
    while at < end {
        let want = scratch.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
        match file.read_at(&mut scratch[..want], at) {
            // The file has become shorter; what is left of it belongs to the range before.
            Ok(0) => break,
            Ok(read) => match memchr(b'\n', &scratch[..read]) {
                Some(found) => return Ok(at + found as u64 + 1),
                None => at += read as u64,
            },
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(end)
}

/// Why a log file could not be opened. Each names the path and says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is no such file.
    #[error("there is no file `{}`: check the path; it starts at the working directory", path.display())]
    Missing {
        /// The path as it was given.
        path: PathBuf,
    },
    /// The path is a directory.
    #[error("`{}` is a directory: name one of the log files in it", path.display())]
    Directory {
        /// The path as it was given.
        path: PathBuf,
    },
    /// The path is a pipe, socket or device, which cannot be read by position.
    #[error("`{}` is not a regular file: feed it through standard input instead", path.display())]
    NotRegular {
        /// The path as it was given.
        path: PathBuf,
    },
    /// The file may not be read.
    #[error("no permission to read `{}`: give this user the right to read it", path.display())]
    Denied {
        /// The path as it was given.
        path: PathBuf,
    },
    /// Anything else, with the operating system's reason.
    #[error("cannot open `{}`", path.display())]
    Io {
        /// The path as it was given.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

/// Opens a log file for reading.
///
/// # Errors
/// See [`OpenError`]. A pipe is refused before it is opened, since opening it could block without end.
pub fn open(path: impl AsRef<Path>) -> Result<File, OpenError> {
    let path = path.as_ref();
    let owned = || path.to_path_buf();
    let explain = |source: io::Error| match source.kind() {
        ErrorKind::NotFound => OpenError::Missing { path: owned() },
        ErrorKind::PermissionDenied => OpenError::Denied { path: owned() },
        _ => OpenError::Io { path: owned(), source },
    };
    let kind = std::fs::metadata(path).map_err(explain)?.file_type();
    if kind.is_dir() {
        return Err(OpenError::Directory { path: owned() });
    }
    if !kind.is_file() {
        return Err(OpenError::NotRegular { path: owned() });
    }
    File::open(path).map_err(explain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    /// A source that yields pieces of a given length, with interruptions and errors between them.
    struct Drip<'a> {
        bytes: &'a [u8],
        piece: usize,
        faults: Vec<ErrorKind>,
    }

    impl Read for Drip<'_> {
        fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
            if let Some(kind) = self.faults.pop() {
                return Err(kind.into());
            }
            let count = self.piece.min(room.len()).min(self.bytes.len());
            let (now, later) = self.bytes.split_at(count);
            room[..count].copy_from_slice(now);
            self.bytes = later;
            Ok(count)
        }
    }

    fn drip(bytes: &[u8], piece: usize) -> Drip<'_> {
        Drip { bytes, piece, faults: vec![ErrorKind::Interrupted; 3] }
    }

    fn lines<R: Read>(reader: &mut LineReader<R>) -> Vec<(Vec<u8>, bool)> {
        let mut all = Vec::new();
        while let Some(line) = reader.next_line().unwrap() {
            all.push((line.bytes.to_vec(), line.too_long));
        }
        assert_eq!(reader.next_line().unwrap(), None, "the end is final");
        all
    }

    fn expected(bytes: &[u8]) -> Vec<(Vec<u8>, bool)> {
        let mut all: Vec<_> = bytes.split(|&byte| byte == b'\n').collect();
        if all.last().is_some_and(|last| last.is_empty()) {
            all.pop();
        }
        let cut =
            |line: &[u8]| (line[..line.len().min(LINE_BYTES_MAX)].to_vec(), line.len() > LINE_BYTES_MAX);
        all.into_iter().map(cut).collect()
    }

    fn file_of(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn lines_of_parts(file: &File, parts: usize) -> Vec<(Vec<u8>, bool)> {
        let ranges = split(file, parts).unwrap();
        assert_eq!(ranges.len(), parts);
        // One reader serves all ranges, since its buffer is large.
        let mut reader = LineReader::new(FileRange::whole(file).unwrap());
        let mut all = Vec::new();
        for range in ranges {
            reader.restart_with(range);
            all.extend(lines(&mut reader));
        }
        all
    }

    #[test]
    fn lines_come_with_and_without_a_last_newline() {
        for text in ["", "\n", "a", "a\n", "a\nb", "a\n\nb\n", "\n\n", "a\r\nb\r\n"] {
            for piece in [1, 2, usize::MAX] {
                let mut reader = LineReader::new(drip(text.as_bytes(), piece));
                assert_eq!(lines(&mut reader), expected(text.as_bytes()), "{text:?} by {piece}");
            }
        }
    }

    #[test]
    fn the_longest_line_passes_and_a_longer_one_is_reported_once() {
        let text = |length: usize, end: &str| ["first\n", &"x".repeat(length), end].concat();
        for length in [LINE_BYTES_MAX - 1, LINE_BYTES_MAX, LINE_BYTES_MAX + 1, 3 * LINE_BYTES_MAX + 7] {
            for end in ["", "\n", "\nlast", "\n\nlast\n"] {
                for piece in [4096, 100_003, usize::MAX] {
                    let text = text(length, end);
                    let mut reader = LineReader::new(drip(text.as_bytes(), piece));
                    assert!(lines(&mut reader) == expected(text.as_bytes()), "{length} {end:?} by {piece}");
                }
            }
        }
    }

    #[test]
    fn a_raw_line_that_is_too_long_parses_as_too_long() {
        let raw = RawLine { bytes: b"1 - - [t] \"-\" 200 1", too_long: true };
        assert_eq!(raw.parse(), Err(Malformed::TooLong));
        assert_eq!(RawLine { too_long: false, ..raw }.parse().unwrap().bytes, 1);
    }

    #[test]
    fn an_error_loses_nothing() {
        let source = Drip { bytes: b"ab\ncd", piece: 1, faults: vec![ErrorKind::WouldBlock] };
        let mut reader = LineReader::new(source);
        assert_eq!(reader.next_line().unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(reader.next_line().unwrap().unwrap().bytes, b"ab");
        reader.source.faults.push(ErrorKind::TimedOut);
        assert_eq!(reader.next_line().unwrap_err().kind(), ErrorKind::TimedOut);
        assert_eq!(lines(&mut reader), expected(b"cd"));
    }

    #[test]
    fn a_restart_reads_the_same_again_in_the_same_memory() {
        let file = file_of(b"a\nb\nc");
        let mut reader = LineReader::new(FileRange::whole(&file).unwrap());
        let place = reader.buffer.as_ptr();
        reader.next_line().unwrap();
        reader.restart();
        for _ in 0..3 {
            assert_eq!(lines(&mut reader), expected(b"a\nb\nc"));
            reader.restart();
        }
        assert_eq!(reader.buffer.as_ptr(), place);
        assert_eq!(reader.buffer.len(), READER_BYTES);
    }

    #[test]
    fn truncation_is_counted_and_growth_is_not_read() {
        let mut file = file_of(b"one\ntwo\nthree\n");
        let mut reader = LineReader::new(FileRange::whole(&file).unwrap());
        file.write_all(b"four\n").unwrap();
        assert_eq!(lines(&mut reader), expected(b"one\ntwo\nthree\n"));
        assert_eq!(reader.get_ref().missing_bytes(), 0);
        file.set_len(6).unwrap();
        reader.restart();
        assert_eq!(lines(&mut reader), expected(b"one\ntw"));
        assert_eq!(reader.get_ref().missing_bytes(), 8);
        file.set_len(0).unwrap();
        reader.restart();
        assert_eq!(reader.get_ref().missing_bytes(), 0);
        assert_eq!(lines(&mut reader), []);
        assert_eq!(reader.get_ref().missing_bytes(), 14);
    }

    #[test]
    fn small_files_leave_ranges_empty() {
        assert_eq!(split(&file_of(b""), 3).unwrap().iter().filter(|range| range.is_empty()).count(), 3);
        let ranges = split(&file_of(b"a long line\nb\n"), 5).unwrap();
        let cuts: Vec<_> = ranges.iter().map(|range| (range.start(), range.len())).collect();
        assert_eq!(cuts, [(0, 12), (12, 0), (12, 0), (12, 0), (12, 2)]);
    }

    #[test]
    fn a_line_longer_than_a_step_of_the_search_is_found_whole() {
        let text = ["x".repeat(3 * SEARCH_BYTES).as_str(), "\nshort\n"].concat();
        assert_eq!(lines_of_parts(&file_of(text.as_bytes()), 7), expected(text.as_bytes()));
    }

    #[test]
    fn parts_out_of_range_are_refused() {
        for parts in [0, PARTS_MAX + 1] {
            let error = split(&file_of(b"a\n"), parts).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains(&format!("{parts}, expected 1 to {PARTS_MAX}")));
        }
        assert_eq!(split(&file_of(b"a\n"), PARTS_MAX).unwrap().len(), PARTS_MAX);
    }

    #[test]
    fn what_cannot_be_opened_is_explained() {
        let place = tempfile::tempdir().unwrap();
        let missing = open(place.path().join("none.log")).unwrap_err();
        assert!(matches!(missing, OpenError::Missing { .. }) && missing.to_string().contains("none.log"));
        let directory = open(place.path()).unwrap_err();
        assert!(matches!(directory, OpenError::Directory { .. }));
        assert!(directory.to_string().contains(place.path().to_str().unwrap()));
        assert!(matches!(open("/dev/null").unwrap_err(), OpenError::NotRegular { .. }));
        let inside = place.path().join("a.log");
        std::fs::write(&inside, "a\n").unwrap();
        assert!(matches!(open(inside.join("b")).unwrap_err(), OpenError::Io { .. }));
        assert_eq!(open(&inside).unwrap().metadata().unwrap().len(), 2);
    }

    proptest! {
        #[test]
        fn every_line_is_in_exactly_one_range(text in "[a\n]{0,200}", parts in 1_usize..40) {
            let file = file_of(text.as_bytes());
            prop_assert_eq!(lines_of_parts(&file, parts), expected(text.as_bytes()));
        }

        #[test]
        fn pieces_do_not_matter(text in "[a-c\n]{0,200}", piece in 1_usize..50) {
            let mut reader = LineReader::new(drip(text.as_bytes(), piece));
            prop_assert_eq!(lines(&mut reader), expected(text.as_bytes()));
        }
    }
}
