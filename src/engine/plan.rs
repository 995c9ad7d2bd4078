//! The plan: every setting of an engine, checked as a whole, and the memory that it will take.

use super::profile::{OnPanic, Profile};
use super::settings::value::Value;
use crate::class::{Class, ClassId};
use crate::clock::Clock;
use crate::park::Wait;
use crate::route::PARTITIONS_MIN;
use crate::shard::placement::{self, Placement};
use std::alloc::Layout;
use std::time::Duration;

/// What is reckoned with where nobody has said how large an event is: what fits a cache line beside sequence and key.
const EVENT_BYTES_USUAL: usize = 48;

/// An engine in the making.
///
/// Start from a [`Profile`], declare classes, change what should be different, and [`start`](Plan::start) it. Nothing is
/// rounded or corrected in silence: what cannot be is refused before start with an error that names the setting, its
/// value, the limit, and a value that would work ([`Plan::check`]).
///
/// What else can be set, and in a file:
///
#[doc = include_str!("settings/settings.md")]
///
#[doc = include_str!("plan.md")]
#[derive(Clone, Debug)]
#[must_use = "a plan has no effect until it is started"]
pub struct Plan {
    pub(crate) profile: Profile,
    pub(crate) shards: u16,
    pub(crate) overcommitted: bool,
    pub(crate) producers_max: u16,
    pub(crate) cpus: Option<Vec<usize>>,
    pub(crate) pinned: bool,
    pub(crate) wait: Wait,
    pub(crate) burst: u32,
    pub(crate) floor: u32,
    pub(crate) handling: Duration,
    pub(crate) partitions: u32,
    pub(crate) scratch_bytes: u32,
    pub(crate) huge_pages: bool,
    pub(crate) mesh: bool,
    pub(crate) retry_limit: Duration,
    pub(crate) on_panic: OnPanic,
    pub(crate) thread_name: String,
    pub(crate) announce: bool,
    pub(crate) event_bytes: Option<u32>,
    pub(crate) drop_deadline: Duration,
    pub(crate) classes: Vec<Class>,
    /// Their names, how many there are (`None`: one for each shard), and the bytes of each.
    pub(crate) reserved: Vec<(String, Option<u64>, u64)>,
    /// What a command settles for itself, not as the profile has it, and whoever uses it has not asked for.
    pub(crate) settled: Vec<(&'static str, Value)>,
    pub(crate) memory_max: Option<u64>,
    pub(crate) clock: Option<Clock>,
    pub(crate) first_sequence: u64,
}

impl Plan {
    /// A plan with the settings of a profile.
    pub fn new(profile: Profile) -> Self {
        let (wait, burst) = match profile {
            Profile::Dev | Profile::Balanced => (Wait::Park, 64),
            Profile::Latency => (Wait::Spin, 16),
            Profile::Throughput => (Wait::Yield, 256),
        };
        Plan {
            profile,
            shards: 1,
            overcommitted: false,
            producers_max: 8,
            cpus: None,
            pinned: true,
            wait,
            burst,
            floor: 64,
            handling: Duration::from_micros(1),
            partitions: PARTITIONS_MIN,
            scratch_bytes: 64 << 10,
            huge_pages: false,
            mesh: false,
            retry_limit: Duration::from_secs(10),
            on_panic: OnPanic::Continue,
            thread_name: "pelton".into(),
            announce: true,
            event_bytes: None,
            drop_deadline: Duration::from_secs(1),
            classes: Vec::new(),
            reserved: Vec::new(),
            settled: Vec::new(),
            memory_max: None,
            clock: None,
            first_sequence: 0,
        }
    }

    /// The profile that it started from.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// How many shards, each with a thread of its own.
    pub fn shards(&self) -> u16 {
        self.shards
    }

    /// Whether there may be more shards than CPUs.
    pub fn overcommitted(&self) -> bool {
        self.overcommitted
    }

    /// How many producers may be attached at once.
    pub fn producers_max(&self) -> u16 {
        self.producers_max
    }

    /// The CPUs of the shards, where the plan names them.
    pub fn cpus(&self) -> Option<&[usize]> {
        self.cpus.as_deref()
    }

    /// What an idle shard does.
    pub fn wait(&self) -> Wait {
        self.wait
    }

    /// The most events of one class between two looks at the classes above it.
    pub fn burst(&self) -> u32 {
        self.burst
    }

    /// The size of the event's type, in bytes, where the plan names it.
    pub fn event_bytes(&self) -> Option<u32> {
        self.event_bytes
    }

    /// How many shards, each with a thread of its own.
    pub fn with_shards(mut self, shards: u16) -> Self {
        self.shards = shards;
        self
    }

    /// Whether there may be more shards than CPUs. They take turns then, and each waits for the others.
    pub fn with_overcommitted(mut self, overcommitted: bool) -> Self {
        self.overcommitted = overcommitted;
        self
    }

    /// How many producers may be attached at once. Their lanes are laid out at start.
    pub fn with_producers_max(mut self, producers: u16) -> Self {
        self.producers_max = producers;
        self
    }

    /// The CPUs of the shards, in turn. They must exist. Without it CPUs are chosen, and reported.
    ///
    /// ```
    /// use pelton::{Plan, Profile};
    /// let plan = Plan::new(Profile::Latency).with_shards(2).with_cpus([2, 3]);
    /// assert_eq!(plan.cpus(), Some(&[2, 3][..]));
    /// ```
    pub fn with_cpus(mut self, cpus: impl Into<Vec<usize>>) -> Self {
        self.cpus = Some(cpus.into());
        self
    }

    /// Leaves the shards' threads where the system puts them.
    ///
    /// ```
    /// use pelton::{Plan, Profile};
    /// let plan = Plan::new(Profile::Dev).unpinned();
    /// assert_eq!(plan.placements()[0].cpu, None);
    /// ```
    pub fn unpinned(mut self) -> Self {
        self.pinned = false;
        self
    }

    /// What an idle shard does.
    pub fn with_wait(mut self, wait: Wait) -> Self {
        self.wait = wait;
        self
    }

    /// The most events of one class between two looks at the classes above it.
    pub fn with_burst(mut self, events: u32) -> Self {
        self.burst = events;
        self
    }

    /// After this many bursts of higher classes in a row, the lowest class is served one.
    pub fn with_floor(mut self, bursts: u32) -> Self {
        self.floor = bursts;
        self
    }

    /// How long the handler takes for one event, as far as is known. The checks reckon with it (and say so); it changes
    /// no engine.
    pub fn with_handling(mut self, span: Duration) -> Self {
        self.handling = span;
        self
    }

    /// Partitions of the routing table.
    pub fn with_partitions(mut self, partitions: u32) -> Self {
        self.partitions = partitions;
        self
    }

    /// Bytes of each shard's scratch arena.
    pub fn with_scratch_bytes(mut self, bytes: u32) -> Self {
        self.scratch_bytes = bytes;
        self
    }

    /// Asks the system for pages of 2 MiB for the inside of each shard's region: see
    /// [`huge`](crate::memory::huge). Needs the feature `hugepages`, and Linux; what was granted stands in the report.
    pub fn with_huge_pages(mut self, huge_pages: bool) -> Self {
        self.huge_pages = huge_pages;
        self
    }

    /// Whether huge pages are asked for.
    pub fn has_huge_pages(&self) -> bool {
        self.huge_pages
    }

    /// Lays out lanes from every shard to every shard, so that handlers can emit.
    ///
    /// ```
    /// use pelton::{Plan, Profile};
    /// let plan = Plan::new(Profile::Dev).with_shards(2).with_producers_max(4).with_mesh(true);
    /// assert_eq!(plan.lane_sets(), 4 + 2);        // each shard is a producer, too
    /// ```
    pub fn with_mesh(mut self, mesh: bool) -> Self {
        self.mesh = mesh;
        self
    }

    /// For how long a handler may retry an event, counted from its first [`Verdict::Retry`](crate::Verdict::Retry): the
    /// first attempt after that is the last, and the event is `failed(retry)` if it is retried once more. 10 seconds
    /// unless set. `Duration::ZERO` fails an event the first time it is retried; `Duration::MAX` never does.
    ///
    /// An event that is retried because its handler was refused an emit for lack of room waits for that room, within the
    /// same limit.
    ///
    /// ```
    /// use pelton::{Class, Plan, Profile, Verdict, handler};
    /// use std::time::Duration;
    ///
    /// let mut plan = Plan::new(Profile::Dev).with_retry_limit(Duration::ZERO);
    /// let class = plan.class(Class::strict("only"));
    /// let engine = plan.start(|| 0u64, |_| handler(|_, _| Verdict::Retry))?;
    /// engine.attach()?.publish(class, 7, |event| *event = 42)?;
    /// let report = engine.stop(Duration::from_secs(10))?;
    /// assert_eq!(report.ledger.class(class).failed_for(pelton::event::Failure::Retry), 1);
    /// assert!(report.ledger.is_closed());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_retry_limit(mut self, limit: Duration) -> Self {
        self.retry_limit = limit;
        self
    }

    /// What a shard does after its handler panicked.
    pub fn with_on_panic(mut self, on_panic: OnPanic) -> Self {
        self.on_panic = on_panic;
        self
    }

    /// The name of the shards' threads; the shard's number follows it. At most 10 bytes show on Linux.
    pub fn with_thread_name(mut self, name: impl Into<String>) -> Self {
        self.thread_name = name.into();
        self
    }

    /// Whether a start, or [`host_driven`](Plan::host_driven), says on standard error, in a few lines, what it starts (see
    /// [`Plan::summary`]).
    pub fn with_announce(mut self, announce: bool) -> Self {
        self.announce = announce;
        self
    }

    /// Whether a start says what it starts.
    pub fn announces(&self) -> bool {
        self.announce
    }

    /// The size of the event's type, in bytes, so that the plan's memory is known without the type. A start with a type
    /// of another size is refused.
    ///
    /// ```
    /// use pelton::{Class, Plan, Profile};
    /// let mut plan = Plan::new(Profile::Dev).with_event_bytes(16);
    /// plan.class(Class::strict("only"));
    /// assert_eq!(plan.event_layout().size(), 16);
    /// assert!(plan.check::<[u64; 2]>().is_ok());
    /// assert_eq!(plan.check::<u64>().unwrap_err().0[0].key(), "event_bytes");
    /// ```
    pub fn with_event_bytes(mut self, bytes: u32) -> Self {
        self.event_bytes = Some(bytes);
        self
    }

    /// How long an engine that is dropped without a stop may drain.
    pub fn with_drop_deadline(mut self, deadline: Duration) -> Self {
        self.drop_deadline = deadline;
        self
    }

    /// Adds memory that each shard's handler takes to the footprint, under a name. A name that is reserved already gets
    /// this amount instead.
    ///
    /// ```
    /// use pelton::{Plan, Profile, memory::footprint::Group};
    /// let plan = Plan::new(Profile::Dev).with_shards(2).reserve("books", 4_096).reserve_each("session", 100, 512);
    /// assert_eq!(plan.footprint::<u64>().group_bytes(Group::Handler), 2 * 4_096 + 100 * 512);
    /// ```
    pub fn reserve(self, name: impl Into<String>, bytes_per_shard: u64) -> Self {
        self.reserve_as(name.into(), None, bytes_per_shard)
    }

    /// Adds memory for `count` things of `bytes_each` to the footprint, however many shards there are. A name that is
    /// reserved already gets this amount instead.
    pub fn reserve_each(self, name: impl Into<String>, count: u64, bytes_each: u64) -> Self {
        self.reserve_as(name.into(), Some(count), bytes_each)
    }

    fn reserve_as(mut self, name: String, count: Option<u64>, bytes: u64) -> Self {
        self.reserved.retain(|(known, ..)| *known != name);
        self.reserved.push((name, count, bytes));
        self
    }

    /// The most memory that the footprint may come to, in bytes. Without it: what the machine (or the process's
    /// control group) has.
    ///
    /// ```
    /// use pelton::{Class, Plan, Profile};
    /// let mut plan = Plan::new(Profile::Dev).with_memory_max(1_024);
    /// plan.class(Class::strict("only"));
    /// let error = plan.check::<u64>().unwrap_err().to_string();
    /// assert!(error.starts_with("footprint"), "{error}");
    /// ```
    pub fn with_memory_max(mut self, bytes: u64) -> Self {
        self.memory_max = Some(bytes);
        self
    }

    /// The clock of stamps and of the time to live. Without it: the machine's.
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// The clock that [`Self::with_clock`] set, if it did.
    ///
    /// # Examples
    /// ```
    /// use pelton::{Plan, Profile, clock::Clock};
    /// assert!(Plan::new(Profile::Dev).clock().is_none());
    /// let plan = Plan::new(Profile::Dev).with_clock(Clock::virtual_time().0);
    /// assert!(plan.clock().is_some_and(Clock::is_virtual));
    /// ```
    pub fn clock(&self) -> Option<&Clock> {
        self.clock.as_ref()
    }

    /// The first sequence of every lane, for tests that want to see it wrap.
    #[doc(hidden)]
    pub fn with_first_sequence(mut self, sequence: u64) -> Self {
        self.first_sequence = sequence;
        self
    }

    /// Declares the next class. Its id is good for engines of this plan.
    ///
    /// # Panics
    /// If there are 255 classes already. (More than 8 are refused by [`Plan::check`].)
    pub fn class(&mut self, class: Class) -> ClassId {
        let id = u8::try_from(self.classes.len()).expect("a plan has a few classes, not hundreds");
        self.classes.push(class);
        ClassId(id)
    }

    /// A class that was declared, to be changed; `None` where it is another plan's.
    ///
    /// ```
    /// use pelton::{Class, Plan, Profile};
    /// let mut plan = Plan::new(Profile::Dev);
    /// let ticks = plan.class(Class::weighted("ticks", 1).with_capacity(64));
    /// if let Some(class) = plan.class_mut(ticks) {
    ///     *class = class.clone().with_capacity(128);
    /// }
    /// assert_eq!(plan.classes()[ticks.index()].capacity(), 128);
    /// ```
    pub fn class_mut(&mut self, class: ClassId) -> Option<&mut Class> {
        self.classes.get_mut(class.index())
    }

    /// The layout of the event as far as the plan knows it: `event_bytes`, or what fits a slot of one cache line without a stamp.
    pub fn event_layout(&self) -> Layout {
        let bytes = self.event_bytes.map_or(EVENT_BYTES_USUAL, |bytes| bytes as usize);
        // A type's size is a multiple of its alignment, which is rarely above that of a pointer.
        let align = [8, 4, 2].into_iter().find(|align| bytes.is_multiple_of(*align)).unwrap_or(1);
        Layout::from_size_align(bytes, align).unwrap_or(Layout::new::<[u64; EVENT_BYTES_USUAL / 8]>())
    }

    /// The classes declared so far.
    pub fn classes(&self) -> &[Class] {
        &self.classes
    }

    /// The ids of [`classes`](Plan::classes), in their order.
    pub fn class_ids(&self) -> impl ExactSizeIterator<Item = ClassId> + use<> {
        (0..self.classes.len() as u8).map(ClassId)
    }

    /// The classes declared so far, to be changed.
    pub fn classes_mut(&mut self) -> &mut [Class] {
        &mut self.classes
    }

    /// The id of a class that was declared, by its name.
    ///
    /// ```
    /// use pelton::{Class, Plan, Profile};
    /// let mut plan = Plan::new(Profile::Dev);
    /// let ticks = plan.class(Class::weighted("ticks", 1));
    /// assert_eq!((plan.class_named("ticks"), plan.class_named("tocks")), (Some(ticks), None));
    /// ```
    pub fn class_named(&self, name: &str) -> Option<ClassId> {
        let at = self.classes.iter().position(|class| class.name == name)?;
        u8::try_from(at).ok().map(ClassId)
    }

    /// Where an engine of this plan would put its shards if it started now: other engines of this process have CPUs, too.
    ///
    /// ```
    /// use pelton::{Plan, Profile};
    /// let plan = Plan::new(Profile::Dev).with_shards(2);
    /// for placement in plan.placements() {
    ///     println!("{placement}");        // shard 0 on CPU 7 (chosen, …)
    /// }
    /// ```
    pub fn placements(&self) -> Vec<Placement> {
        placement::preview(self.shards, self.cpus.as_deref(), self.pins())
    }

    /// Whether threads are pinned, going by the plan and by this build.
    pub(crate) fn pins(&self) -> bool {
        self.pinned && cfg!(feature = "affinity")
    }
}
