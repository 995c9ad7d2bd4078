//! Huge pages: asked for, and looked up whether they were given.
//!
//! # Mechanism
//! A plan that asks for huge pages lets the region of each shard end at a boundary of 2 MiB, and advises the system
//! (`madvise`, `MADV_HUGEPAGE`) to back with huge pages as much of it as whole ones cover, before anything is written
//! there. What was granted is read from `/proc/self/smaps`: `AnonHugePages` of the mappings that the advised bytes lie
//! in.
//!
//! # How exact it is
//! The advice makes a mapping of its own of the advised bytes, as its flags differ from those around it: then the figure
//! is exact. Where memory beside it was advised too (some allocators do that with all they have) the kernel may make one
//! mapping of both, and tells of that only as a whole: what is granted is then at most the advised bytes of it, and may
//! be less. It is as it was at the moment of the look; the kernel may split huge pages, or collapse small ones, later.
//!
//! Nothing of it is needed to run: where huge pages are refused, the pages are small ones and the reason is told.
//!
//! # Sources
//! `madvise(2)`, and the kernel's `Documentation/admin-guide/mm/transhuge.rst`.

use crate::host::Files;
use std::error::Error;
use std::ptr::NonNull;
use std::{fmt, io};

/// Bytes of a huge page, on all machines that Pelton knows.
pub const HUGE_BYTES: usize = 2 << 20;

/// Whether this build can ask for huge pages.
pub(crate) const CAN: bool = cfg!(all(feature = "hugepages", target_os = "linux"));

/// What became of the wish for huge pages, for the region of one shard.
///
/// ```
/// use pelton::memory::huge::{HugePages, NoHugePages};
/// let pages = HugePages { advised_bytes: 4 << 20, granted_bytes: 2 << 20, refused: None };
/// assert_eq!(pages.to_string(), "2097152 of 4194304 bytes in huge pages");
/// let none = HugePages { granted_bytes: 0, refused: Some(NoHugePages::NotBuilt), ..pages };
/// println!("{none}");         // with the reason
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HugePages {
    /// Bytes of the region for which they were asked for: as many as whole huge pages cover.
    pub advised_bytes: u64,
    /// Bytes of those that are in huge pages.
    pub granted_bytes: u64,
    /// Why there are none; `None` where there is any.
    pub refused: Option<NoHugePages>,
}

/// Why there are no huge pages.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoHugePages {
    /// This build cannot ask for them.
    NotBuilt,
    /// The region is smaller than one.
    TooSmall {
        /// Bytes of the region.
        bytes: u64,
    },
    /// The system refused the advice.
    Advice(i32),
    /// They are switched off for this process.
    OffForProcess,
    /// They are switched off for the machine.
    Never,
    /// The system has none to give, as far as it says.
    NotGranted,
    /// Nobody can say.
    Unknown(String),
}

impl fmt::Display for NoHugePages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotBuilt => {
                f.write_str("this build has no huge pages: they need the feature `hugepages`, and Linux")
            }
            Self::TooSmall { bytes } => {
                write!(f, "the region of {bytes} bytes is smaller than a huge page of {HUGE_BYTES}")
            }
            Self::Advice(code) => {
                write!(f, "the system refused the advice: {}", io::Error::from_raw_os_error(*code))
            }
            Self::OffForProcess => {
                f.write_str("huge pages are off for this process (prctl, PR_SET_THP_DISABLE)")
            }
            Self::Never => f.write_str(
                "huge pages are off for this machine: /sys/kernel/mm/transparent_hugepage/enabled says never",
            ),
            Self::NotGranted => {
                f.write_str("the system granted none, without a reason; memory may be too scattered")
            }
            Self::Unknown(why) => write!(f, "what was granted is not known: {why}"),
        }
    }
}

impl Error for NoHugePages {}

/// `14 MiB of 16 MiB in huge pages`, in bytes, and the reason where there are none.
impl fmt::Display for HugePages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} bytes in huge pages", self.granted_bytes, self.advised_bytes)?;
        self.refused.as_ref().map_or(Ok(()), |reason| write!(f, ": {reason}"))
    }
}

/// A piece of memory for which huge pages were asked for.
#[derive(Clone, Debug)]
pub(crate) struct Advised {
    // An address to look for, never followed.
    start: usize,
    bytes: usize,
    refused: Option<NoHugePages>,
}

impl Advised {
    /// A piece that is too small to be advised.
    pub fn too_small(bytes: usize) -> Self {
        Advised { start: 0, bytes: 0, refused: Some(NoHugePages::TooSmall { bytes: bytes as u64 }) }
    }

    /// Advises the system.
    ///
    /// # Safety
    /// The bytes from `start` on are one piece of memory that the caller owns.
    pub unsafe fn advise(start: NonNull<u8>, bytes: usize) -> Self {
        #[cfg(all(feature = "hugepages", target_os = "linux"))]
        let refused = {
            use rustix::mm::{Advice, madvise};
            // SAFETY: The memory is the caller's, and this advice changes no content.
            let said = unsafe { madvise(start.as_ptr().cast(), bytes, Advice::LinuxHugepage) };
            said.err().map(|error| NoHugePages::Advice(error.raw_os_error()))
        };
        #[cfg(not(all(feature = "hugepages", target_os = "linux")))]
        let refused = Some(NoHugePages::NotBuilt);
        Advised { start: start.addr().get(), bytes, refused }
    }

    /// Bytes that were advised.
    #[cfg(all(test, not(pelton_loom)))]
    pub fn bytes(&self) -> u64 {
        self.bytes as u64
    }

    fn look(&self, smaps: &io::Result<String>) -> HugePages {
        let (granted_bytes, refused) = match (&self.refused, smaps) {
            (Some(refused), _) => (0, Some(refused.clone())),
            (None, Err(error)) => {
                (0, Some(NoHugePages::Unknown(format!("/proc/self/smaps cannot be read: {error}"))))
            }
            (None, Ok(smaps)) => match granted(smaps, self.start, self.start + self.bytes) {
                0 => (0, Some(why_none())),
                bytes => (bytes, None),
            },
        };
        HugePages { advised_bytes: self.bytes as u64, granted_bytes, refused }
    }
}

/// Looks up what was granted of each piece. Their memory must still be there. Where nothing was asked for, nothing is
/// read.
pub(crate) fn look(pieces: &[Option<Advised>]) -> Vec<Option<HugePages>> {
    if pieces.iter().all(Option::is_none) {
        return vec![None; pieces.len()];
    }
    let smaps = std::fs::read_to_string("/proc/self/smaps");
    pieces.iter().map(|piece| Some(piece.as_ref()?.look(&smaps))).collect()
}

/// Bytes in huge pages of what lies from `start` to `end`, by the text of `smaps`.
fn granted(smaps: &str, start: usize, end: usize) -> u64 {
    let mut sum = 0;
    // How much of the mapping that is being read is ours.
    let mut ours = 0u64;
    for line in smaps.lines() {
        if let Some(kib) = line.strip_prefix("AnonHugePages:") {
            let kib = kib.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap_or(0);
            sum += kib.saturating_mul(1024).min(ours);
        } else if let Some((from, to)) = mapping(line) {
            ours = to.min(end).saturating_sub(from.max(start)) as u64;
        }
    }
    sum
}

/// The ends of a mapping, of its line `7f0000000000-7f0000200000 rw-p …`.
fn mapping(line: &str) -> Option<(usize, usize)> {
    let (from, to) = line.split(' ').next()?.split_once('-')?;
    Some((usize::from_str_radix(from, 16).ok()?, usize::from_str_radix(to, 16).ok()?))
}

/// Why there are none, although they were asked for.
fn why_none() -> NoHugePages {
    #[cfg(all(feature = "hugepages", target_os = "linux"))]
    if rustix::thread::transparent_huge_pages_are_disabled().unwrap_or(false) {
        return NoHugePages::OffForProcess;
    }
    match Files::default().text("/sys/kernel/mm/transparent_hugepage/enabled") {
        Ok(enabled) if enabled.contains("[never]") => NoHugePages::Never,
        _ => NoHugePages::NotGranted,
    }
}

#[cfg(all(test, not(pelton_loom)))]
mod tests {
    use super::*;

    const SMAPS: &str = "\
7f0000000000-7f0000400000 rw-p 00000000 00:00 0 
Size:               4096 kB
AnonHugePages:      4096 kB
VmFlags: rd wr mr mw me ac hg
7f0000400000-7f0001000000 rw-p 00000000 00:00 0                          [heap]
Rss:               12288 kB
AnonHugePages:      6144 kB
7f0001000000-7f0001200000 rw-p 00000000 00:00 0 
AnonHugePages:         0 kB
";

    #[test]
    fn what_was_granted_is_counted_within_the_piece_alone() {
        let at = |mib: usize| 0x7f00_0000_0000 + (mib << 20);
        let mib = |from, to| granted(SMAPS, at(from), at(to)) >> 20;
        assert_eq!(mib(0, 4), 4);
        assert_eq!(mib(0, 2), 2);
        // The second mapping is 12 MiB, half of it huge: of a part of it nobody knows more than that.
        assert_eq!((mib(4, 16), mib(4, 8), mib(0, 16)), (6, 4, 10));
        assert_eq!((mib(16, 18), mib(18, 30)), (0, 0));
    }

    #[test]
    fn a_piece_that_is_too_small_says_so() {
        let found = look(&[None, Some(Advised::too_small(4_096))]);
        assert_eq!(found[0], None);
        let found = found[1].clone().unwrap();
        assert_eq!((found.advised_bytes, found.granted_bytes), (0, 0));
        assert!(found.to_string().contains("4096 bytes is smaller"), "{found}");
    }
}
