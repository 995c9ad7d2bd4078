//! Advice: what an engine would do that its user would hardly want. It starts all the same.
//!
//! Times are reckoned with `handling_ns`, and with what the schedule allows: a strict class waits for one burst of a lower
//! one, a weighted class for the turns of the others, the lowest class for as many bursts as the floor lets pass.

use super::plan::Plan;
use super::settings::engine::BURST_MAX;
use super::settings::error::PlanError;
use super::validate::different;
use crate::class::{Class, turn_events};
use crate::host::Host;
use crate::park::Wait;
use std::time::Duration;

/// The longest name of a thread of which Linux shows everything, with a shard's number behind it.
const THREAD_NAME_BYTES: usize = 10;

/// Nanoseconds of a second.
const NANOS: u128 = 1_000_000_000;

/// What the schedule of a plan makes of its classes.
struct Times<'a> {
    plan: &'a Plan,
    /// The smallest weight.
    smallest: u32,
    /// Events of a turn of every weighted class.
    turns: u64,
    /// How many classes are strict.
    strict: usize,
}

impl<'a> Times<'a> {
    fn new(plan: &'a Plan) -> Self {
        let weights = || plan.classes.iter().filter_map(weight);
        let smallest = weights().min().unwrap_or(1);
        let strict = plan.classes.len() - weights().count();
        let mut times = Times { plan, smallest, turns: 0, strict };
        times.turns = weights().map(|weight| times.turn(weight)).sum();
        times
    }

    /// Events of a turn of a weighted class.
    fn turn(&self, weight: u32) -> u64 {
        turn_events(self.plan.burst, weight, self.smallest)
    }

    /// How many events are handled in a span.
    fn events_in(&self, span: Duration) -> u64 {
        u64::try_from(span.as_nanos() / self.plan.handling.as_nanos().max(1)).unwrap_or(u64::MAX)
    }

    fn takes(&self, events: u64) -> Duration {
        let nanos = self.plan.handling.as_nanos().saturating_mul(events.into());
        u64::try_from(nanos / NANOS).map_or(Duration::MAX, |s| Duration::new(s, (nanos % NANOS) as u32))
    }

    /// A time to live, in microseconds, within which so many events are handled twice; none where that is too long.
    fn twice(&self, events: u64) -> String {
        let micros = self.takes(events).as_nanos().saturating_mul(2).div_ceil(1_000).max(1);
        u64::try_from(micros).map_or("'none'".into(), |micros| micros.to_string())
    }

    /// The advice for a class with a time to live. `above` strict classes come before it.
    fn for_ttl(&self, class: &Class, ttl: Duration, above: usize) -> Vec<PlanError> {
        let key = class.key_of();
        let by = format!("at handling_ns = {}", self.plan.handling.as_nanos());
        let (alive, burst) = (self.events_in(ttl), u64::from(self.plan.burst));
        let expires = format!("class '{}' expires after {ttl:?}", class.name);
        // Fewer events, or where not even one is handled in time, a longer life.
        let fewer = |n: u64, events: u64| match n {
            0 => format!("{} = {}", key("ttl_us"), self.twice(events)),
            n => n.to_string(),
        };
        let mut found = Vec::new();
        let mut advise = |setting: String, value: u128, limit: String, works: String| {
            found.push(PlanError::new(setting, value, limit, works).warning());
        };
        let own = weight(class).map(|weight| self.turn(weight));
        let is_lowest = own.is_some() || (self.turns == 0 && above + 1 == self.strict);
        if !is_lowest && burst >= alive {
            let limit = format!("shorter: {by} it takes {:?}, and {expires}", self.takes(burst));
            advise("burst_events".into(), burst.into(), limit, fewer(alive / 2, burst));
        }
        if let Some(others) = own.map(|own| self.turns - own).filter(|others| *others >= alive) {
            let span = self.takes(others);
            let limit = format!("longer than {span:?}, the turns of the other weighted classes {by}");
            advise(key("ttl_us"), ttl.as_micros(), limit, self.twice(others));
        }
        let passed = burst.saturating_mul(self.plan.floor.into());
        if is_lowest && above > 0 && passed >= alive {
            let limit = format!("less: {by} so many bursts take {:?}, and {expires}", self.takes(passed));
            advise("floor_bursts".into(), self.plan.floor.into(), limit, fewer(alive / 2 / burst, passed));
        }
        let capacity = u64::from(class.capacity);
        if capacity > alive {
            let whole = self.takes(capacity);
            let limit =
                format!("so few that a full lane is handled in time: {by} it takes {whole:?}, and {expires}");
            // The power of two at or below what is handled in time.
            let works = fewer(alive.checked_ilog2().map_or(0, |power| 1 << power), capacity);
            advise(key("capacity_slots"), capacity.into(), limit, works);
        }
        found
    }
}

fn weight(class: &Class) -> Option<u32> {
    class.share.weight()
}

impl Plan {
    /// What the schedule makes of times to live and of weights.
    pub(super) fn advise_on_time(&self, found: &mut Vec<PlanError>) {
        let times = Times::new(self);
        let mut strict_above = 0;
        for class in &self.classes {
            let own = weight(class);
            if let Some((weight, turn)) =
                own.map(|own| (own, times.turn(own))).filter(|(_, turn)| *turn > BURST_MAX.into())
            {
                let limit = format!("so that its turn, {turn} events, is at most {BURST_MAX}");
                let works = u64::from(BURST_MAX) * u64::from(times.smallest) / u64::from(self.burst);
                found.push(PlanError::new(class.key_of()("weight"), weight, limit, works.max(1)).warning());
            }
            // Strict classes come first, whatever the order of declaration.
            let above = if own.is_some() { times.strict } else { strict_above };
            strict_above += usize::from(own.is_none());
            found.extend(class.ttl.map_or(Vec::new(), |ttl| times.for_ttl(class, ttl, above)));
        }
    }

    /// What becomes of the shards' threads.
    pub(super) fn advise_on_threads(&self, host: Option<&Host>, found: &mut Vec<PlanError>) {
        let name = self.thread_name.len();
        if name > THREAD_NAME_BYTES {
            let limit = format!("at most {THREAD_NAME_BYTES} bytes, or Linux cuts the shard's number off");
            let (value, works) = (format!("'{}'", self.thread_name), "'pelton'");
            found.push(PlanError::new("thread_name", value, limit, works).warning());
        }
        if self.wait != Wait::Spin {
            return;
        }
        let mut spin = |limit: &str, here: bool| {
            let warning = PlanError::new("wait", "'spin'", limit, "'park'").warning();
            found.push(if here { warning.here() } else { warning });
        };
        let shards = usize::from(self.shards);
        let mask = host.map_or(0, |host| host.cpus.len());
        let too_few = match &self.cpus {
            Some(named) => different(named) < shards,
            None => (1..shards).contains(&mask),
        };
        if too_few {
            spin(
                "'park' or 'yield' where shards share a CPU, as each spins the other's time away",
                self.cpus.is_none(),
            );
        } else if !self.pinned {
            spin("'park' or 'yield' where shards are not pinned", false);
        }
        if let Some(quota) = host.and_then(Host::quota).filter(|quota| *quota < shards as f64) {
            let limit = format!(
                "'park' where {shards} shards are granted {quota} CPUs of time: the rest they are halted"
            );
            spin(&limit, true);
        }
    }
}

#[cfg(all(test, not(pelton_loom)))]
mod tests {
    use super::*;
    use crate::Profile;
    use std::alloc::Layout;

    /// The advice for a plan.
    fn advice(plan: &Plan) -> Vec<PlanError> {
        let found = plan.findings(Layout::new::<u64>(), None);
        assert_eq!(found.iter().find(|finding| finding.severity == crate::engine::Severity::Error), None);
        found
    }

    #[test]
    fn the_longest_spans_are_told_as_they_are_and_what_is_proposed_works() {
        for (handling, ttl) in [(1, 1), (700, 1), (1_000_000_000, 1_000_000)] {
            let plan = |ttl: Option<u64>| {
                let mut plan = Plan::new(Profile::Dev).unpinned().with_burst(BURST_MAX).with_floor(u32::MAX);
                plan = plan.with_handling(Duration::from_nanos(handling));
                plan.class(Class::strict("first").with_capacity(1));
                let last = Class::strict("last").with_capacity(1);
                plan.class(match ttl {
                    Some(ttl) => last.with_ttl(Duration::from_micros(ttl)),
                    None => last,
                });
                plan
            };
            let found = advice(&plan(Some(ttl)));
            let floor = found.iter().find(|finding| finding.setting == "floor_bursts").unwrap();
            // 2^16 events in each of 2^32 - 1 bursts.
            let nanos = u128::from(handling) * (u128::from(u32::MAX) << 16);
            let span = Duration::new((nanos / NANOS) as u64, (nanos % NANOS) as u32);
            assert!(floor.limit.contains(&format!("so many bursts take {span:?}, and")), "{floor}");
            let works = floor.works.strip_prefix("class 'last': ttl_us = ").unwrap();
            assert_eq!(works == "'none'", handling == 1_000_000_000, "{floor}");
            assert_eq!(advice(&plan(works.parse().ok())), []);
        }
    }
}
