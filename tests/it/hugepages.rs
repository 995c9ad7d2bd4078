//! Huge pages: where the machine has them a region that asks gets them, and where it does not the report says why.
#![allow(unsafe_code, reason = "settings of the process")]
#![cfg(all(feature = "hugepages", target_os = "linux"))]

use pelton::memory::huge::{HUGE_BYTES, HugePages, NoHugePages};
use pelton::{Class, ClassId, Plan, Report};
use pelton_testkit::needs::{Need, skipped};
use pelton_testkit::*;
use std::time::Duration;

const EVENTS: u64 = 1_000;

fn two_shards(capacity: u32) -> (Plan, ClassId) {
    let mut plan = plan().with_shards(2).with_huge_pages(true);
    let class = plan.class(Class::strict("only").with_capacity(capacity).block());
    (plan, class)
}

/// Sends events through an engine of the plan; gives what it said of its huge pages while it ran, and its report.
fn run((plan, class): (Plan, ClassId)) -> (Vec<Option<HugePages>>, Report) {
    let engine = plan.start(Proof::default, |_| recording()).unwrap();
    let (mut tx, mut source) = (engine.attach().unwrap(), Source::new(1));
    for at in 0..EVENTS {
        source.publish(&mut tx, class, at % 16).unwrap();
    }
    let running = engine.huge_pages();
    let mut report = engine.stop(Duration::from_secs(10)).unwrap();
    let seen = report.outputs::<Witness>();
    assert_invariants(&report, &[source], &seen);
    assert_eq!(report.ledger.total().handled, EVENTS);
    (running, report)
}

fn of_shards(report: &Report) -> Vec<HugePages> {
    report.shards.iter().map(|shard| shard.huge_pages.clone().expect("the plan asked for them")).collect()
}

fn enabled() -> String {
    std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled")
        .unwrap_or_else(|error| error.to_string())
}

#[test]
fn a_region_that_asks_is_in_huge_pages() {
    let _dog = watchdog();
    // Two producers' lanes of 64 bytes a slot: 8 MiB a shard.
    let (running, report) = run(two_shards(1 << 16));
    let can = ["[madvise]", "[always]"].iter().any(|word| enabled().contains(word));
    for (running, found) in running.into_iter().zip(of_shards(&report)) {
        println!("{found}");
        assert!(
            found.advised_bytes >= 8 << 20 && found.advised_bytes.is_multiple_of(HUGE_BYTES as u64),
            "{found}"
        );
        assert!(found.granted_bytes <= found.advised_bytes, "{found}");
        let running = running.expect("the plan asked for them");
        assert_eq!(running.advised_bytes, found.advised_bytes);
        if can {
            assert!(found.granted_bytes > 0 && found.refused.is_none(), "{found}");
            assert!(running.granted_bytes > 0, "{running}");
        } else {
            let why = format!("the kernel gives no huge pages here: {}", enabled().trim());
            skipped::<()>(Need::Machine, &why);
            assert!(found.refused.is_some(), "{found}");
        }
    }
}

#[test]
fn where_they_are_off_for_the_process_the_report_says_so() {
    const MARKER: &str = "PELTON_TEST_NO_HUGE_PAGES";
    if std::env::var_os(MARKER).is_none() {
        in_a_process_of_its_own(MARKER, &[]);
        return;
    }
    let _dog = watchdog();
    // SAFETY: a flag of this process; no memory is touched.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) }, 0);
    let (running, report) = run(two_shards(1 << 15));
    for found in running.into_iter().flatten().chain(of_shards(&report)) {
        assert!(found.advised_bytes > 0 && found.granted_bytes == 0, "{found}");
        assert_eq!(found.refused, Some(NoHugePages::OffForProcess));
    }
    let text = report.to_string();
    assert!(text.contains("no huge pages: ") && text.contains("PR_SET_THP_DISABLE"), "{text}");
}

#[test]
fn a_region_smaller_than_a_huge_page_says_so() {
    let _dog = watchdog();
    let (_, report) = run(two_shards(16));
    for found in of_shards(&report) {
        assert_eq!((found.advised_bytes, found.granted_bytes), (0, 0));
        assert!(
            matches!(found.refused, Some(NoHugePages::TooSmall { bytes }) if bytes < HUGE_BYTES as u64),
            "{found}"
        );
    }
}

#[test]
fn who_does_not_ask_hears_nothing() {
    let _dog = watchdog();
    let (plan, class) = two_shards(1 << 15);
    let (running, report) = run((plan.with_huge_pages(false), class));
    assert!(running.iter().all(Option::is_none));
    assert!(report.shards.iter().all(|shard| shard.huge_pages.is_none()));
    assert!(!report.to_string().contains("huge"), "{report}");
}
