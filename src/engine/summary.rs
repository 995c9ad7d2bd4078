//! The compact form of a plan: what a start says of itself, so that nobody runs a configuration that they have not seen.

use super::plan::Plan;
use super::settings::engine::ENGINE;
use super::settings::error::{PlanError, Severity};
use super::settings::value::Value;
use super::validate::Threads;
use crate::class::{Class, Overflow, Share, Stamp};
use crate::host::{Host, list};
use crate::words::{bytes, many, printable};
use std::alloc::Layout;
use std::fmt::Write as _;
use std::io::Write as _;

fn class_line(class: &Class) -> String {
    let share = match class.share {
        Share::Strict => "strict".to_string(),
        Share::Weighted(weight) => format!("weighted {weight}"),
    };
    let overflow = match class.overflow {
        Overflow::Block { limit: None } => "block".to_string(),
        Overflow::Block { limit: Some(limit) } => format!("block for {limit:?}"),
        Overflow::Reject => "reject".into(),
        Overflow::DropNewest => "drop_newest".into(),
    };
    let payloads = match class.payload_bytes {
        0 => String::new(),
        ring => format!(" and {} of payloads", bytes(ring.into())),
    };
    let ttl = class.ttl.map_or(String::new(), |ttl| format!(", expires after {ttl:?}"));
    let measured = match class.stamp {
        Stamp::Every => "every event measured".to_string(),
        Stamp::OneIn(n) => format!("1 event in {n} measured"),
        Stamp::Never => "not measured".into(),
    };
    let slots = many(class.capacity.into(), "slot");
    format!("{}: {share}, {slots}{payloads}, {overflow}{ttl}, {measured}", class.name)
}

/// What a program gives up that is built to abort at a panic.
fn panic_notice(unwinds: bool) -> Option<&'static str> {
    let notice = "built with panic = \"abort\": a panic in a handler ends the process, and is neither counted nor reported \
        (expected panic = \"unwind\")";
    (!unwinds).then_some(notice)
}

impl Plan {
    /// The plan in a few lines, for events of a layout: what it starts, where it is not as its profile has it, and all
    /// advice.
    ///
    /// ```
    /// use pelton::{Class, Plan, Profile, ring::event_layout};
    /// let mut plan = Plan::new(Profile::Dev).with_burst(32);
    /// plan.class(Class::strict("orders").with_capacity(64));
    /// let text = plan.summary(event_layout::<u64>(), None);
    /// assert!(text.contains("orders: strict, 64 slots, block, 1 event in 64 measured"));
    /// assert!(text.contains("not as the profile has it: burst_events = 32"));
    /// ```
    pub fn summary(&self, event: Layout, host: Option<&Host>) -> String {
        self.summary_with(event, &self.findings(event, host), Threads::Engine)
    }

    fn summary_with(&self, event: Layout, findings: &[PlanError], threads: Threads) -> String {
        let placements = self.placements();
        let cpus: Vec<_> = placements.iter().filter_map(|placement| placement.cpu).collect();
        let mut by = if self.cpus.is_some() { "named" } else { "chosen" }.to_string();
        if placements.iter().any(|placement| placement.shared) {
            by += ", shared with other shards of this process";
        }
        let cpus = match cpus.len() {
            _ if threads == Threads::Host => "driven by their host".to_string(),
            0 => "not pinned".to_string(),
            1 => format!("on CPU {} ({by})", list(&cpus)),
            _ => format!("on CPUs {} ({by})", list(&cpus)),
        };
        let [shards, events, bursts, producers] = [
            (u64::from(self.shards), "shard"),
            (self.burst.into(), "event"),
            (self.floor.into(), "burst"),
            (self.producers_max.into(), "producer"),
        ]
        .map(|(n, thing)| many(n, thing));
        let mut text = format!(
            "pelton {}: profile {}; {shards} {cpus}, wait {}; burst {events}, floor {bursts}; {producers} at most; {}",
            env!("CARGO_PKG_VERSION"),
            self.profile,
            self.wait,
            bytes(self.footprint_of(event).total_bytes()),
        );
        for class in &self.classes {
            let _ = write!(text, "\n  {}", printable(&class_line(class)));
        }
        if let Some(notice) = panic_notice(cfg!(panic = "unwind")) {
            let _ = write!(text, "\n  warning: {notice}");
        }
        let others = self.unlike_its_profile();
        if !others.is_empty() {
            let _ = write!(text, "\n  not as the profile has it: {}", printable(&others.join(", ")));
        }
        for warning in findings.iter().filter(|finding| finding.severity == Severity::Warning) {
            let _ = write!(text, "\n  warning: {}", printable(&warning.to_string()));
        }
        text
    }

    /// The engine's settings that differ from the profile's, as `key = value`; not those that a command settles for itself.
    fn unlike_its_profile(&self) -> Vec<String> {
        let profile = Plan::new(self.profile);
        let is_settled =
            |key: &str, value: &Value| self.settled.iter().any(|own| (own.0, &own.1) == (key, value));
        let differs = ENGINE.iter().filter(|row| {
            let value = row.get(self);
            value != row.get(&profile) && !is_settled(row.info.key, &value)
        });
        differs.map(|row| format!("{} = {}", row.info.key, row.get(self))).collect()
    }

    /// Says on standard error what is about to start, if the plan wants that.
    pub(super) fn say(&self, event: Layout, advice: &[PlanError], threads: Threads) {
        if self.announce {
            let text = self.summary_with(event, advice, threads);
            // A standard error that takes nothing is no reason not to start, nor to panic.
            let _ = writeln!(std::io::stderr().lock(), "{text}");
        }
    }
}

#[cfg(all(test, not(pelton_loom)))]
mod tests {
    use super::*;
    use crate::Profile;
    use std::time::Duration;

    #[test]
    fn a_name_breaks_no_line_and_reaches_no_terminal() {
        let mut plan = Plan::new(Profile::Dev).unpinned().with_thread_name("a\r\u{1b}[2J über");
        plan.class(Class::strict("b\n  warning: \u{7}\u{9b}1m\u{7f}").with_ttl(Duration::from_micros(1)));
        let text = plan.summary(Layout::new::<u64>(), None);
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
        for part in ["\n  b\\n  warning: \\u{7}\\u{9b}1m\\u{7f}: strict", "thread_name = a\\r\\u{1b}[2J über"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        // Such names are refused, so advice would be of no use; with names in order it is there.
        assert!(plan.check_for::<u64>(Threads::Engine).is_err());
        let mut plan = plan.with_thread_name("a");
        plan.classes[0].name = "b".into();
        let text = plan.summary(Layout::new::<u64>(), None);
        assert!(text.contains("\n  warning: class 'b': "), "{text}");
    }

    #[test]
    fn start_of_a_program_that_aborts_at_panics_is_warned_of() {
        assert_eq!(panic_notice(true), None);
        assert!(panic_notice(false).unwrap().contains("panic = \"abort\""));
    }

    #[test]
    fn a_plan_says_what_it_starts() {
        let mut plan =
            Plan::new(Profile::Latency).unpinned().with_wait(crate::park::Wait::Park).with_shards(2);
        (plan.floor, plan.settled) = (1, vec![("floor_bursts", 1u64.into())]);
        plan.class(Class::strict("orders").with_capacity(64).block_for(Duration::from_millis(2)));
        plan.class(
            Class::weighted("ticks", 3)
                .with_payload_bytes(128)
                .drop_newest()
                .with_ttl(Duration::from_micros(9)),
        );
        let text = plan.summary(Layout::new::<u64>(), None);
        for part in [
            "profile latency; 2 shards not pinned, wait park; burst 16 events, floor 1 burst; 8 producers at most",
            "\n  orders: strict, 64 slots, block for 2ms, 1 event in 64 measured\n",
            "\n  ticks: weighted 3, 1,024 slots and 128 B of payloads, drop_newest, expires after 9µs,",
            "not as the profile has it: shards = 2, pinned = false, wait = park\n",
            "\n  warning: class 'ticks': capacity_slots is 1024, but should be",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
