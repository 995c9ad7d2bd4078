//! What must hold of a plan before an engine is started from it, and what should.
//!
//! # Mechanism
//! A rule looks at the plan (and some at the host) and says what it finds. All rules are asked, so that all that is
//! wrong is told at once; those that reckon with several settings are asked only where each of these is one that can be.
//!
//! | rule | weight |
//! |---|---|
//! | every setting keeps to its row: type, range, power of two | error |
//! | 1 to 8 classes, each with a name of its own | error |
//! | the largest payload is at most half of the payload ring | error |
//! | CPUs are named only where shards are pinned, and at least one | error |
//! | `event_bytes` is the size of the event's type | error |
//! | there are as many CPUs as shards (named; in the mask; granted by the quota), or `overcommitted` | error |
//! | named CPUs exist | error, of the host |
//! | huge pages are asked for where this build can | error |
//! | the footprint is at most `memory_max_bytes`, and what the process may take | error |
//! | a burst of a lower class is shorter than the time to live of a strict one | warning |
//! | the turns of all other weighted classes are shorter than the time to live of one | warning |
//! | what the floor lets pass is shorter than the time to live of the lowest class | warning |
//! | a full lane is handled within its class's time to live | warning |
//! | a weighted class's turn is at most the longest burst | warning |
//! | shards spin only on CPUs of their own, and within the quota | warning |
//! | Linux shows the whole name of each thread | warning |
//!
//! Times are reckoned with `handling_ns`.

use super::plan::Plan;
use super::settings::class::CLASS;
use super::settings::engine::ENGINE;
use super::settings::error::{PlanError, PlanErrors, Severity};
use super::sizes::{SIZED, smaller};
use crate::class::{CLASSES_MAX, Class, Stamp};
use crate::host::{Host, list};
use crate::memory::huge;
use crate::ring::event_layout;
use std::alloc::Layout;
use std::collections::BTreeSet;

/// CPUs that are not there: so many are named.
const MISSING_SHOWN: usize = 8;

/// Who runs the shards.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Threads {
    /// The engine, on threads of its own.
    Engine,
    /// Whoever embeds it.
    Host,
}

impl Plan {
    /// Checks everything that can be known before start, on this machine; reports all that is wrong at once.
    ///
    /// # Errors
    /// [`PlanErrors`] names each setting with its value, the limit and a value that would work. Advice is left out: see
    /// [`Plan::findings`].
    ///
    /// # Examples
    /// ```
    /// use pelton::{Class, Plan, Profile};
    /// let mut plan = Plan::new(Profile::Dev).with_burst(0);
    /// plan.class(Class::strict("orders").with_capacity(1_000));
    /// let errors = plan.check::<u64>().unwrap_err();
    /// let keys: Vec<_> = errors.0.iter().map(|error| error.key()).collect();
    /// assert_eq!(keys, ["burst_events", "capacity_slots"]);
    /// println!("{errors}");       // with their values, their limits, and values that work
    /// ```
    pub fn check<E>(&self) -> Result<(), PlanErrors> {
        self.check_for::<E>(Threads::Engine).map(|_| ())
    }

    /// The same; where nothing is wrong it gives the advice, so that nobody needs to look twice.
    pub(super) fn check_for<E>(&self, threads: Threads) -> Result<Vec<PlanError>, PlanErrors> {
        let mut found = self.found(event_layout::<E>(), Some(&Host::look_quick()), threads);
        let size = size_of::<E>();
        if let Some(bytes) = self.event_bytes.filter(|bytes| *bytes as usize != size) {
            let limit = format!("{size}, the size of {}", std::any::type_name::<E>());
            found.push(PlanError::new("event_bytes", bytes, limit, size));
        }
        let (wrong, advice): (Vec<_>, _) =
            found.into_iter().partition(|finding| finding.severity == Severity::Error);
        if wrong.is_empty() { Ok(advice) } else { Err(PlanErrors(wrong)) }
    }

    /// All that is wrong with the plan, and all advice, for events of a layout: by the settings alone, and with a host
    /// also by what that has.
    ///
    /// ```
    /// use pelton::{Class, Plan, Profile, engine::Severity, ring::event_layout};
    /// use std::time::Duration;
    /// let mut plan = Plan::new(Profile::Dev);
    /// plan.class(Class::strict("ticks").with_ttl(Duration::from_micros(1)));
    /// for finding in plan.findings(event_layout::<u64>(), None) {
    ///     assert_eq!(finding.severity, Severity::Warning);
    ///     println!("{finding}");
    /// }
    /// ```
    pub fn findings(&self, event: Layout, host: Option<&Host>) -> Vec<PlanError> {
        self.found(event, host, Threads::Engine)
    }

    fn found(&self, event: Layout, host: Option<&Host>, threads: Threads) -> Vec<PlanError> {
        let mut found: Vec<_> = ENGINE.iter().filter_map(|row| row.check(str::to_string, self)).collect();
        let classes = self.classes.len();
        if !(1..=CLASSES_MAX).contains(&classes) {
            let limit = format!("from 1 to {CLASSES_MAX}");
            found.push(PlanError::new("classes", classes, limit, classes.clamp(1, CLASSES_MAX)));
        }
        for (at, class) in self.classes.iter().enumerate() {
            self.check_class(at, class, &mut found);
        }
        self.check_huge_pages(&mut found);
        self.check_cpus(host, &mut found);
        // What follows reckons with several settings: worth telling only where each of these can be.
        let can_be =
            |keys: &[&str], found: &[PlanError]| !found.iter().any(|finding| keys.contains(&finding.key()));
        if threads == Threads::Engine && can_be(&["shards", "cpus"], &found) {
            self.check_shards(host, &mut found);
        }
        if can_be(&SIZED, &found) {
            self.check_memory(event, host, &mut found);
        }
        if found.is_empty() {
            self.advise_on_time(&mut found);
            if threads == Threads::Engine {
                self.advise_on_threads(host, &mut found);
            }
        }
        found
    }

    fn check_class(&self, at: usize, class: &Class, found: &mut Vec<PlanError>) {
        let key = class.key_of();
        if class.name.is_empty() || self.classes[..at].iter().any(|other| other.name == class.name) {
            let limit = "neither empty nor that of another class";
            let works = format!("'class{at}'");
            found.push(PlanError::new(
                format!("class {at}: name"),
                format!("'{}'", class.name),
                limit,
                works,
            ));
        }
        found.extend(CLASS.iter().filter_map(|row| row.check(&key, class)));
        let half = class.payload_bytes / 2;
        if let Some(max) = class.payload_max.filter(|max| *max > half) {
            let limit = format!("at most {half}, half of payload_ring_bytes");
            let works = match max.checked_next_power_of_two().and_then(|n| n.checked_mul(2)) {
                Some(ring) => format!("payload_ring_bytes = {}", ring.max(64)),
                None => half.to_string(),
            };
            found.push(PlanError::new(key("payload_max_bytes"), max, limit, works));
        }
        if let Stamp::OneIn(n @ 0..=1) = class.stamp {
            let works = "Stamp::Every or Stamp::Never";
            found.push(PlanError::new(key("stamp_one_in"), format!("one in {n}"), "one in 2 or more", works));
        }
    }

    fn check_huge_pages(&self, found: &mut Vec<PlanError>) {
        if self.huge_pages && !huge::CAN {
            let limit = format!("false: {}", huge::NoHugePages::NotBuilt);
            found.push(PlanError::new("huge_pages", true, limit, false));
        }
    }

    fn check_cpus(&self, host: Option<&Host>, found: &mut Vec<PlanError>) {
        let Some(named) = &self.cpus else { return };
        let there = host.map(Host::nameable).unwrap_or_default();
        let first = there.first().copied().unwrap_or_default();
        if named.is_empty() {
            found.push(PlanError::new("cpus", "empty", "CPUs of this machine, or \"chosen\"", first));
        }
        if !self.pinned {
            let limit = "true where CPUs are named, which only pinned shards keep to";
            found.push(PlanError::new("pinned", false, limit, true));
        }
        found.extend(missing_cpus("cpus", named, &there));
    }

    /// One CPU for each shard, or the word that this is meant.
    fn check_shards(&self, host: Option<&Host>, found: &mut Vec<PlanError>) {
        if self.overcommitted {
            return;
        }
        let mut refuse = |cpus: usize, whose: &str, here: bool| {
            let limit = format!("at most {cpus}, {whose}, or overcommitted");
            let error =
                PlanError::new("shards", self.shards, limit, format!("{cpus}, or overcommitted = true,"));
            found.push(if here { error.here() } else { error });
        };
        let shards = usize::from(self.shards);
        if let Some(named) = &self.cpus {
            let different = different(named);
            if different < shards {
                return refuse(different, "the CPUs that are named", false);
            }
        }
        let Some(host) = host else { return };
        let mask = host.cpus.len();
        let quota = host.quota_whole();
        if self.cpus.is_none() && (1..shards).contains(&mask) && mask <= quota {
            refuse(mask, "the CPUs of this process's mask", true);
        } else if quota < shards {
            let granted = host.quota().unwrap_or_default();
            refuse(quota, &format!("as the control group grants {granted} CPUs of time"), true);
        }
    }

    fn check_memory(&self, event: Layout, host: Option<&Host>, found: &mut Vec<PlanError>) {
        let footprint = self.footprint_of(event);
        let bytes = footprint.total_bytes();
        let mut at_most = |limit: u64, whose: &str, here: bool| {
            if bytes > limit {
                let error = PlanError::new(
                    "footprint (the sum of classes, producers_max and shards)",
                    format!("{bytes} bytes"),
                    format!("at most {limit} bytes, {whose}"),
                    smaller(&footprint, limit),
                );
                found.push(if here { error.here() } else { error });
            }
        };
        if let Some(limit) = self.memory_max {
            at_most(limit, "memory_max_bytes", false);
        }
        if let Some(limit) =
            host.and_then(Host::memory_bytes).filter(|host| *host < self.memory_max.unwrap_or(u64::MAX))
        {
            at_most(limit, "what this process may take", true);
        }
    }
}

impl Class {
    /// How a setting of this class is called among all.
    ///
    /// ```
    /// use pelton::Class;
    /// assert_eq!(Class::strict("bulk").key_of()("ttl_us"), "class 'bulk': ttl_us");
    /// ```
    pub fn key_of(&self) -> impl Fn(&str) -> String + use<> {
        let name = self.name.clone();
        move |key| format!("class '{name}': {key}")
    }
}

/// CPUs that are named, and are none of those that are there. Where none are known, all may be.
///
/// ```
/// use pelton::engine::missing_cpus;
/// assert_eq!(missing_cpus("cpus", &[1, 2], &[0, 1, 2, 3]), None);
/// let error = missing_cpus("cpus", &[1, 9], &[0, 1, 2, 3]).unwrap();
/// assert_eq!((error.value.as_str(), error.limit.as_str()), ("9", "one of 0-3"));
/// ```
pub fn missing_cpus(setting: impl Into<String>, named: &[usize], there: &[usize]) -> Option<PlanError> {
    let first = there.first()?;
    let missing = named.iter().copied().filter(|cpu| !there.contains(cpu));
    let missing: Vec<_> = missing.collect::<BTreeSet<_>>().into_iter().collect();
    if missing.is_empty() {
        return None;
    }
    let (shown, more) = missing.split_at(missing.len().min(MISSING_SHOWN));
    let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
    let limit = format!("one of {}", list(there));
    Some(PlanError::new(setting, list(shown) + &more, limit, first).here())
}

/// How many CPUs there are in a list that may name one twice.
pub(super) fn different(cpus: &[usize]) -> usize {
    cpus.iter().enumerate().filter(|(at, cpu)| !cpus[..*at].contains(cpu)).count()
}
