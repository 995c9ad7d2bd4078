//! Sealing in words: what may be asked of a sealed thread, what was found on one, and why nothing could be.
//!
//! Counting itself is done by `audit`, inside the allocator; here are only its results. A [`Place`] keeps the return
//! addresses of an allocation as they were found, and finds the names of the functions when it is asked for them.

use std::error::Error;
use std::fmt;
use std::sync::OnceLock;

/// What happens when a sealed thread allocates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seal {
    /// It is counted with its place, and goes on.
    Count,
    /// Its place is written to standard error, and the process aborts. For tests: nothing is unwound or flushed, and a
    /// panic, which allocates, aborts too.
    Abort,
}

/// Why nobody can say whether a thread allocates.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotCounted {
    /// The feature is off.
    FeatureOff,
    /// The global allocator is another one.
    NotInstalled,
}

impl fmt::Display for NotCounted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FeatureOff => "allocations are not counted: Pelton was built without its feature `audit`",
            Self::NotInstalled => {
                "allocations are not counted: the program's global allocator is not Pelton's; install it with \
                 `#[global_allocator] static ALLOCATOR: pelton::memory::audit::Counting<std::alloc::System> = \
                 pelton::memory::audit::Counting::new(std::alloc::System);`"
            }
        })
    }
}

impl Error for NotCounted {}

/// What a thread did with the heap while it was sealed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sealed {
    /// Allocations and reallocations.
    pub allocations: u64,
    /// Where they were made, in the order in which each place was first met; at most
    /// [`PLACES_MAX`] for each thread and seal.
    pub places: Vec<Place>,
    /// Allocations of places for which there was no room. With those of `places` they are all.
    pub others: u64,
    /// Memory given back. It takes no place and aborts nothing: commands to a shard (`ask`, `latency`) are freed by it,
    /// and so is what an event's owner made elsewhere. But it is work for the allocator all the same.
    pub frees: u64,
}

/// Places that are kept apart on one sealed thread.
pub const PLACES_MAX: usize = 32;

/// Return addresses that are kept of one place, from the allocator outwards.
pub const FRAMES_MAX: usize = 48;

impl Sealed {
    /// Adds what another thread did. Equal places become one.
    ///
    /// ```
    /// use pelton::memory::seal::{Place, Sealed};
    /// let place = Place { count: 1, addresses: vec![0x1000] };
    /// let mut sum = Sealed { allocations: 1, places: vec![place.clone()], ..Sealed::default() };
    /// sum.add(&Sealed { allocations: 1, places: vec![place], ..Sealed::default() });
    /// assert_eq!((sum.allocations, sum.places.len(), sum.places[0].count), (2, 1, 2));
    /// ```
    pub fn add(&mut self, other: &Sealed) {
        self.allocations += other.allocations;
        self.others += other.others;
        self.frees += other.frees;
        for place in &other.places {
            match self.places.iter_mut().find(|own| own.addresses == place.addresses) {
                Some(own) => own.count += place.count,
                None => self.places.push(place.clone()),
            }
        }
    }
}

/// `no allocations`, or their number and, on a line of its own, each place.
impl fmt::Display for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.allocations {
            0 => return f.write_str("no allocations"),
            1 => write!(f, "1 allocation:")?,
            n => write!(f, "{n} allocations:")?,
        }
        for place in &self.places {
            write!(f, "\n  {place}")?;
        }
        if self.others > 0 {
            write!(f, "\n  {} x elsewhere: there was room for {PLACES_MAX} places", self.others)?;
        }
        Ok(())
    }
}

/// A place where a sealed thread allocated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// How often.
    pub count: u64,
    /// Return addresses, from the allocator outwards; at most [`FRAMES_MAX`].
    pub addresses: Vec<usize>,
}

/// A call on the way to an allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The function, with its path where the program was built with full debug information; without it an inlined
    /// function has its bare name. The address where there is none at all.
    pub function: String,
    /// The source file, where the program knows it.
    pub file: Option<String>,
    /// The line in it, from 1.
    pub line: Option<u32>,
}

impl Place {
    /// The calls that led to the allocation, from the innermost one that is neither of the allocator nor of the
    /// standard library outwards. Functions that were inlined are there too, where the program has line tables.
    ///
    /// Reads the program's debug information: slow at first, and allocates.
    ///
    /// ```
    /// # use pelton::memory::seal::Sealed;
    /// fn print(sealed: &Sealed) {
    ///     for place in &sealed.places {
    ///         println!("{} allocations in {}", place.count, place.function());
    ///         for frame in place.frames().iter().skip(1) {
    ///             println!("    from {frame}");
    ///         }
    ///     }
    /// }
    /// ```
    pub fn frames(&self) -> Vec<Frame> {
        let all: Vec<Frame> = self.addresses.iter().flat_map(|address| resolve(*address)).collect();
        // First what counts, and what that calls, then the ways of the standard library to the allocator.
        let counting = all.iter().position(is_counting).unwrap_or(0);
        let own = all[counting..].iter().position(|frame| !is_counting(frame) && !is_plumbing(frame));
        all[own.map_or(0, |own| counting + own)..].to_vec()
    }

    /// The function that allocated: the first of [`Self::frames`].
    pub fn function(&self) -> String {
        self.frames().into_iter().next().map_or_else(|| "?".into(), |frame| frame.function)
    }
}

/// `count x function (file:line)`; with `{:#}` the calls that led there follow, on lines of their own.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let frames = self.frames();
        write!(f, "{} x ", self.count)?;
        match frames.first() {
            None => f.write_str("?")?,
            Some(frame) => write!(f, "{frame}")?,
        }
        if f.alternate() {
            for frame in frames.iter().skip(1) {
                write!(f, "\n      from {frame}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.function)?;
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, " ({file}:{line})"),
            (Some(file), None) => write!(f, " ({file})"),
            _ => Ok(()),
        }
    }
}

/// Whether a function is of the counting allocator.
fn is_counting(frame: &Frame) -> bool {
    // Where it was inlined it may have but a bare name.
    let is_there = |file: &String| allocator_file().is_some_and(|allocator| file == allocator);
    frame.function.contains("pelton::memory::audit::") || frame.file.as_ref().is_some_and(is_there)
}

/// The file of the counting allocator, as the program's debug information has it: it is beside this one.
fn allocator_file() -> Option<&'static str> {
    static FILE: OnceLock<Option<String>> = OnceLock::new();
    // An address within this function; the last of its frames is not one that was inlined into it.
    let here = || resolve(allocator_file as fn() -> Option<&'static str> as usize + 2).pop()?.file;
    FILE.get_or_init(|| Some(here()?.strip_suffix("seal.rs")?.to_string() + "audit.rs")).as_deref()
}

/// Whether a function only stands between the one that allocated and the allocator.
fn is_plumbing(frame: &Frame) -> bool {
    // Where the sources of the standard library were when it was built, or are where they are installed.
    const HOMES: [&str; 3] = ["/rustc/", "/rust/deps/", "/rustlib/src/rust/library/"];
    const STANDARD: [&str; 4] = ["alloc::", "core::", "std::", "hashbrown::"];
    if frame.file.as_ref().is_some_and(|file| HOMES.iter().any(|home| file.contains(home))) {
        return true;
    }
    let standard = |path: &str| STANDARD.iter().any(|root| path.starts_with(root));
    // A method of a type is `<type>::method` or `<type as trait>::method`; one for every type is its trait's.
    let path = frame.function.trim_start_matches(['<', '&', '[', '(']);
    let of_trait = path.strip_prefix("T as ").is_some_and(standard) || path.starts_with("u8]");
    path.starts_with("__rust") || standard(path) || of_trait
}

#[cfg(feature = "audit")]
fn resolve(address: usize) -> Vec<Frame> {
    let mut frames = Vec::new();
    // One address may stand for several functions, where some are inlined: innermost first.
    backtrace::resolve(address as *mut std::ffi::c_void, |symbol| {
        let name = symbol.name().map(|name| format!("{name:#}"));
        frames.push(Frame {
            function: name.unwrap_or_else(|| format!("{address:#x}")),
            file: symbol.filename().map(|file| file.display().to_string()),
            line: symbol.lineno(),
        });
    });
    if frames.is_empty() {
        frames.push(Frame { function: format!("{address:#x}"), file: None, line: None });
    }
    frames
}

/// Without the feature there are no places.
#[cfg(not(feature = "audit"))]
fn resolve(_: usize) -> Vec<Frame> {
    Vec::new()
}

#[cfg(all(test, not(pelton_loom)))]
mod tests {
    use super::*;

    #[test]
    fn equal_places_add_up_and_others_are_said() {
        let place = |at: usize, count| Place { count, addresses: vec![at] };
        let mut sum = Sealed { allocations: 3, places: vec![place(1, 3)], others: 0, frees: 1 };
        sum.add(&Sealed { allocations: 9, places: vec![place(1, 2), place(2, 3)], others: 4, frees: 2 });
        assert_eq!(sum.places, [place(1, 5), place(2, 3)]);
        assert_eq!((sum.allocations, sum.others, sum.frees), (12, 4, 3));
        let text = sum.to_string();
        assert!(text.starts_with("12 allocations:") && text.contains("4 x elsewhere"), "{text}");
        assert_eq!(Sealed::default().to_string(), "no allocations");
    }

    #[test]
    fn plumbing_is_told_from_the_functions_of_a_program() {
        let frame = |name: &str, file: Option<&str>| Frame {
            function: name.into(),
            file: file.map(Into::into),
            line: None,
        };
        for plumbing in [
            "__rustc::__rust_alloc",
            "alloc::raw_vec::RawVecInner<A>::grow_amortized",
            "<alloc::string::String as core::clone::Clone>::clone",
            "<T as alloc::slice::<impl [T]>::to_vec_in::ConvertVec>::to_vec",
            "std::panicking::begin_panic",
            "hashbrown::raw::RawTable<T,A>::reserve_rehash",
        ] {
            assert!(is_plumbing(&frame(plumbing, None)), "{plumbing}");
        }
        for own in
            ["book::on_event", "<book::Book as core::clone::Clone>::clone", "pelton::shard::poll::serve_lane"]
        {
            assert!(!is_plumbing(&frame(own, Some("/home/me/book/src/main.rs"))), "{own}");
        }
        assert!(is_plumbing(&frame("push", Some("/rustc/0123456789/library/alloc/src/vec/mod.rs"))));
        let counting = "<pelton::memory::audit::Counting<A> as core::alloc::global::GlobalAlloc>::alloc";
        assert!(is_counting(&frame(counting, None)) && !is_counting(&frame("book::audit", None)));
    }
}
