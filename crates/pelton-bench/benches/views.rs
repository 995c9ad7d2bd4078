//! What does an event cost a view?
//!
//! Events of three fields, found by name: a key of some 8 bytes, one of 16 or of 1,000 in turn by no order; a number of 1
//! to 6 digits; a time. One of 64 turns of the clock brings the next pane. The first line is the looking up of fields
//! alone, which every other line has in it as well. The median of some rounds, on one thread that is not pinned.
//!
//! ```sh
//! cargo bench --bench views --features views
//! ```

use pelton_views::{Fields, Measure, Tally, View};
use std::hint::black_box;
use std::time::{Duration, Instant};

const EVENTS: usize = 4_096;
const PASSES: usize = 100;
const ROUNDS: usize = 9;

struct Row {
    key: String,
    value: String,
    time: String,
}

impl Fields for Row {
    #[inline]
    fn field(&self, name: &[u8]) -> Option<&[u8]> {
        match name {
            b"key" => Some(self.key.as_bytes()),
            b"value" => Some(self.value.as_bytes()),
            b"time" => Some(self.time.as_bytes()),
            _ => None,
        }
    }
}

fn rows(keys: u64) -> Vec<Row> {
    let row = |n: u64| {
        let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        Row {
            key: format!("key-{:04}", mixed % keys),
            value: (mixed % 10u64.pow(1 + (n % 6) as u32)).to_string(),
            time: (1_700_000_000_000 + n).to_string(),
        }
    };
    (0..EVENTS as u64).map(row).collect()
}

/// The median of `ROUNDS` runs, in nanoseconds an event.
fn median_ns(mut run: impl FnMut(u64)) -> f64 {
    let mut rounds: Vec<f64> = (0..ROUNDS as u64)
        .map(|round| {
            let begun = Instant::now();
            (0..PASSES as u64).for_each(|pass| run(round * PASSES as u64 + pass));
            begun.elapsed().as_nanos() as f64 / (EVENTS * PASSES) as f64
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds[ROUNDS / 2]
}

fn measure(name: &str, view: &View, rows: &[Row]) {
    assert!(view.findings().is_empty(), "{:?}", view.findings());
    let mut tally = Tally::new(view);
    let ns = median_ns(|pass| rows.iter().for_each(|row| tally.observe(black_box(row), pass * 10)));
    assert_eq!(tally.totals().seen, (EVENTS * PASSES * ROUNDS) as u64);
    println!("{name:<44} {ns:>7.1} ns, {:>12} bytes", Tally::bytes(view));
}

fn main() {
    let (few, many) = (rows(16), rows(1_000));
    let ns = median_ns(|_| {
        for row in &few {
            black_box(black_box(row).field(black_box(b"key")));
            black_box(row.field(black_box(b"value")));
        }
    });
    println!("{:<44} {ns:>7.1} ns", "two fields, no view");
    let window = |view: View| View { field: view.measure.has_field().then(|| "value".into()), ..view };
    for measure_of in Measure::ALL {
        let view = window(View { measure: measure_of, name: "view".into(), ..View::default() })
            .tumbling(Duration::from_millis(640));
        let name = measure_of.name();
        measure(name, &view, &few);
        measure(&format!("{name}, by one of 16 keys"), &view.clone().by("key"), &few);
        measure(&format!("{name}, by one of 1,000 keys"), &view.by("key"), &many);
    }
    let sliding =
        View::count("n").by("key").sliding(Duration::from_millis(6_400), Duration::from_millis(640));
    measure("count, sliding, by one of 16 keys", &sliding, &few);
    let timed =
        View { ahead_ms: u64::MAX, ..View::count("n").by("key") }.tumbling(Duration::from_millis(640));
    let timed = timed.event_time("time", Duration::from_secs(10));
    measure("count, event time, by one of 16 keys", &timed, &few);
}
