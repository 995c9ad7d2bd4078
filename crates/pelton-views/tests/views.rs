//! Views say what a plain computation over all events says: exactly where they are exact, within the stated error where
//! they are not; on one shard or merged over several, in whatever order.

use pelton::engine::Value;
use pelton::memory::audit::Counting;
use pelton::{Class, Context, Event, Handler, ShardId, Verdict};
use pelton_testkit::measuring::{Measuring, alive_here};
use pelton_testkit::*;
use pelton_views::{
    Answer, Counters, Decimal, Fields, HashSecret, Line, Measure, PastKeys, Progress, QUANTILES, ReadError,
    Reading, Tally, VIEW, View, Which,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: Counting<Measuring> = Counting::new(Measuring);

/// An event of the model: a field is there or not.
#[derive(Clone, Debug)]
struct Told {
    shard: usize,
    now_ms: u64,
    key: Option<String>,
    value: Option<String>,
    /// The value in billionths, if it is a number.
    billionths: Option<i128>,
    time: Option<String>,
    time_ms: Option<u64>,
}

impl Fields for Told {
    fn field(&self, name: &[u8]) -> Option<&[u8]> {
        let field = match name {
            b"key" => &self.key,
            b"value" => &self.value,
            b"time" => &self.time,
            _ => return None,
        };
        field.as_ref().map(|text| text.as_bytes())
    }
}

/// What the model keeps of an event that was measured.
#[derive(Clone, Debug)]
struct Item {
    value: String,
    billionths: i128,
    time_ms: u64,
    has_room: bool,
}

#[derive(Clone, Debug, Default)]
struct ModelPane {
    counters: Counters,
    keys: BTreeSet<String>,
    values: BTreeSet<(Option<String>, String)>,
    rows: BTreeMap<Option<String>, Vec<Item>>,
}

/// One shard, computed plainly: every event is kept.
#[derive(Clone, Debug, Default)]
struct ModelShard {
    newest_ms: Option<u64>,
    first_ms: Option<u64>,
    seen: u64,
    late: u64,
    ahead: u64,
    untimed: u64,
    panes: BTreeMap<u64, ModelPane>,
}

impl ModelShard {
    fn observe(&mut self, view: &View, event: &Told) {
        self.seen += 1;
        let time_ms = match &view.time {
            None => event.now_ms.max(self.newest_ms.unwrap_or(0)),
            Some(_) => match event.time_ms {
                None => return self.untimed += 1,
                Some(time_ms) if time_ms > event.now_ms + view.ahead_ms => return self.ahead += 1,
                Some(time_ms) => time_ms,
            },
        };
        let number = view.pane_ms().map_or(0, |pane_ms| time_ms / pane_ms);
        if let (Some(pane_ms), Some(newest_ms)) = (view.pane_ms(), self.newest_ms) {
            let lateness_ms = if view.time.is_some() { view.lateness_ms } else { 0 };
            if (number + 1) * pane_ms + lateness_ms <= newest_ms {
                return self.late += 1;
            }
        }
        self.newest_ms = self.newest_ms.max(Some(time_ms));
        self.first_ms = Some(self.first_ms.map_or(time_ms, |first| first.min(time_ms)));
        let pane = self.panes.entry(number).or_default();
        pane.counters.events += 1;
        let has_field = match (view.measure.has_field(), view.measure.is_numeric()) {
            (false, _) => true,
            (true, false) => event.value.is_some(),
            (true, true) => event.billionths.is_some(),
        };
        let keyed = view.by.is_some();
        if !has_field || (keyed && event.key.is_none()) {
            pane.counters.missing += 1;
            return;
        }
        let mut row = keyed.then(|| event.key.clone().unwrap());
        if let Some(key) = &row {
            let has_room = pane.keys.contains(key)
                || (key.len() <= view.key_max_bytes && pane.keys.len() < view.keys_max);
            if has_room {
                pane.keys.insert(key.clone());
            } else {
                pane.counters.past += 1;
                if view.past_keys == PastKeys::Drop {
                    return;
                }
                row = None;
            }
        }
        let value = event.value.clone().unwrap_or_default();
        let billionths = event.billionths.unwrap_or(0);
        if view.measure == Measure::Quantiles {
            let units = rounded(billionths, unit(view));
            let most = i128::from(view.value_max) * 1_000_000_000 / unit(view);
            pane.counters.saturated += u64::from(units < 0 || units > most);
        }
        let entry = (row.clone(), value.clone());
        let has_room = pane.values.contains(&entry)
            || (value.len() <= view.value_max_bytes && pane.values.len() < view.values_max);
        if has_room {
            pane.values.insert(entry);
        }
        pane.rows.entry(row).or_default().push(Item { value, billionths, time_ms, has_room });
    }
}

/// Of what a view's quantiles are counted, in billionths.
fn unit(view: &View) -> i128 {
    10i128.pow(9 - u32::from(view.places))
}

/// How many units it is, halves away from zero.
fn rounded(billionths: i128, unit: i128) -> i128 {
    let half = if billionths < 0 { -unit / 2 } else { unit / 2 };
    (billionths + half) / unit
}

fn counters_of(lists: &[Counters]) -> Counters {
    let mut sum = Counters::default();
    lists.iter().for_each(|counters| sum.add(counters));
    sum
}

/// All shards together.
struct Model<'a> {
    view: &'a View,
    shards: &'a [ModelShard],
}

impl Model<'_> {
    fn newest_ms(&self) -> Option<u64> {
        self.shards.iter().filter_map(|shard| shard.newest_ms).max()
    }

    /// The window that a reading says it is of: its rows and counters.
    fn window(&self, reading: &Reading) -> (BTreeMap<Option<String>, Vec<Vec<Item>>>, Counters) {
        let (mut rows, mut counters) = (BTreeMap::<_, Vec<Vec<Item>>>::new(), Vec::new());
        for shard in self.shards {
            let mut of_shard = BTreeMap::<_, Vec<Item>>::new();
            for (number, pane) in &shard.panes {
                let is_in = self.view.pane_ms().is_none_or(|pane_ms| {
                    number * pane_ms >= reading.start_ms && (number + 1) * pane_ms <= reading.end_ms
                });
                if is_in {
                    counters.push(pane.counters);
                    for (row, items) in &pane.rows {
                        of_shard.entry(row.clone()).or_default().extend(items.iter().cloned());
                    }
                }
            }
            for (row, items) in of_shard {
                rows.entry(row).or_default().push(items);
            }
        }
        (rows, counters_of(&counters))
    }

    fn check(&self, reading: &Reading, now_ms: u64) {
        let (mut rows, counters) = self.window(reading);
        assert_eq!(reading.counters, counters);
        let sum = |count: fn(&ModelShard) -> u64| self.shards.iter().map(count).sum::<u64>();
        assert_eq!(reading.totals.seen, sum(|shard| shard.seen));
        assert_eq!(reading.totals.late, sum(|shard| shard.late));
        assert_eq!(reading.totals.ahead, sum(|shard| shard.ahead));
        assert_eq!(reading.totals.untimed, sum(|shard| shard.untimed));
        if self.view.by.is_none() {
            rows.entry(None).or_default();
        }
        let keys: Vec<_> = reading.lines.iter().map(|line| text(&line.key)).collect();
        // In the order of the keys, the one without a key last.
        let mut expected: Vec<_> = rows.keys().filter(|key| key.is_some()).cloned().collect();
        expected.extend(rows.keys().filter(|key| key.is_none()).cloned());
        assert_eq!(keys, expected);
        for line in &reading.lines {
            let by_shard = &rows[&text(&line.key)];
            self.check_line(line, by_shard, reading, now_ms);
        }
    }

    fn check_line(&self, line: &Line, by_shard: &[Vec<Item>], reading: &Reading, now_ms: u64) {
        let items: Vec<&Item> = by_shard.iter().flatten().collect();
        let count = items.len() as u64;
        assert_eq!(line.count, count);
        let sum: i128 = items.iter().map(|item| item.billionths).sum();
        let least = items.iter().map(|item| item.billionths).min();
        let greatest = items.iter().map(|item| item.billionths).max();
        match (&line.answer, self.view.measure) {
            (Answer::Count(told), Measure::Count) => assert_eq!(*told, count),
            (Answer::Number(told), Measure::Rate) => {
                let clock =
                    if self.view.time.is_some() { 0 } else { now_ms }.max(self.newest_ms().unwrap_or(0));
                let until = if reading.is_open { clock.min(reading.end_ms) } else { reading.end_ms };
                let elapsed = i128::from(until.saturating_sub(reading.start_ms).max(1));
                let apart = told.billionths() * elapsed - i128::from(count) * 1_000_000_000_000;
                assert!(apart.abs() * 2 <= elapsed, "{told} for {count} in {elapsed} ms");
            }
            (Answer::Number(told), Measure::Sum) => assert_eq!(told.billionths(), sum),
            (Answer::Number(told), Measure::Min) => assert_eq!(Some(told.billionths()), least),
            (Answer::Number(told), Measure::Max) => assert_eq!(Some(told.billionths()), greatest),
            (Answer::Number(told), Measure::Mean) => {
                let apart = told.billionths() * i128::from(count) - sum;
                assert!(apart.abs() * 2 <= i128::from(count), "{told} for {sum} / {count}");
            }
            (Answer::Quantiles(told, most), Measure::Quantiles) => {
                assert_eq!(Some(most.billionths()), greatest);
                self.check_quantiles(told, &items);
            }
            (Answer::Top { values, rest }, Measure::Top) => self.check_top(values, *rest, &items),
            (Answer::Distinct(told), Measure::Distinct) => {
                let all: BTreeSet<_> = items.iter().map(|item| &item.value).collect();
                let error = 1.04 / f64::from(self.view.registers).sqrt();
                let apart = (*told as f64 - all.len() as f64).abs();
                assert!(apart <= 6.0 * error * all.len() as f64 + 1.0, "{told} for {}", all.len());
            }
            (Answer::Last { bytes, length, time_ms }, Measure::Last) => {
                // The last that each shard saw; of several shards the latest, the greatest.
                let cut = |item: &Item| -> (u64, Vec<u8>, usize) {
                    let bytes = item.value.as_bytes();
                    (item.time_ms, bytes[..bytes.len().min(self.view.value_max_bytes)].into(), bytes.len())
                };
                let last = by_shard.iter().filter_map(|items| items.iter().max_by_key(|item| item.time_ms));
                let last = last.map(cut).max();
                assert_eq!(last, Some((*time_ms, bytes.clone(), *length as usize)));
            }
            (Answer::Nothing, measure) => {
                assert_eq!(count, 0);
                let numeric = measure.is_numeric() && measure != Measure::Sum;
                assert!(numeric || measure == Measure::Last, "{measure:?} has an answer for no events");
            }
            (answer, measure) => panic!("{measure:?} answers {answer:?}"),
        }
    }

    fn check_quantiles(&self, told: &[(f64, Decimal)], items: &[&Item]) {
        let unit = unit(self.view);
        let most = i128::from(self.view.value_max) * 1_000_000_000;
        let kept = |item: &&Item| (rounded(item.billionths, unit) * unit).clamp(0, most);
        let mut sorted: Vec<i128> = items.iter().map(kept).collect();
        sorted.sort_unstable();
        assert_eq!(told.iter().map(|(q, _)| *q).collect::<Vec<_>>(), QUANTILES);
        for (q, value) in told {
            let rank = ((q * sorted.len() as f64).ceil() as usize).clamp(1, sorted.len());
            let exact = sorted[rank - 1];
            let most = exact as f64 * (1.0 + 10f64.powi(-i32::from(self.view.digits)));
            let told = value.billionths();
            assert!(told >= exact && told as f64 <= most, "{q}: {value} for {exact}");
        }
    }

    fn check_top(&self, values: &[(Vec<u8>, u64)], rest: u64, items: &[&Item]) {
        let (mut kept, mut all) = (BTreeMap::<&[u8], u64>::new(), BTreeMap::<&[u8], u64>::new());
        for item in items {
            *all.entry(item.value.as_bytes()).or_default() += 1;
            if item.has_room {
                *kept.entry(item.value.as_bytes()).or_default() += 1;
            }
        }
        let mut sorted: Vec<_> = kept.iter().map(|(value, count)| (value.to_vec(), *count)).collect();
        sorted.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        sorted.truncate(self.view.top);
        assert_eq!(values, sorted);
        assert_eq!(rest, items.iter().filter(|item| !item.has_room).count() as u64);
        for (value, count) in values {
            // The error that is stated.
            let exact = all[value.as_slice()];
            assert!(*count <= exact && exact <= count + rest, "{count} for {exact} with {rest}");
        }
    }
}

fn text(key: &Option<Vec<u8>>) -> Option<String> {
    key.as_ref().map(|key| String::from_utf8(key.clone()).unwrap())
}

const BASE_MS: u64 = 1_000_000;

/// A number as text, with its billionths; or a text that is none.
fn values() -> impl Strategy<Value = (String, Option<i128>)> {
    let number = |whole: i64, places: u32| {
        let unit = 10i64.pow(places);
        let sign = if whole < 0 { "-" } else { "" };
        let (above, below) = (whole.unsigned_abs() / unit as u64, whole.unsigned_abs() % unit as u64);
        let text = match places {
            0 => format!("{sign}{above}"),
            _ => format!("{sign}{above}.{below:0width$}", width = places as usize),
        };
        (text, Some(i128::from(whole) * 10i128.pow(9 - places)))
    };
    prop_oneof![
        6 => (0i64..1_000_000).prop_map(move |whole| number(whole, 0)),
        2 => (0i64..8).prop_map(move |whole| number(whole, 0)),
        2 => (any::<i64>(), 0u32..=9).prop_map(move |(whole, places)| number(whole, places)),
        2 => "[a-z]{0,9}".prop_filter("no numbers", |text| text != "e").prop_map(|text| (text, None)),
    ]
}

fn events() -> impl Strategy<Value = Vec<Told>> {
    let key = prop::option::weighted(0.95, prop_oneof!["[a-e]", "[a-e]{0,2}", "[ab]{3}", "[ab]b{6}"]);
    let value = prop::option::weighted(0.95, values());
    let time = prop_oneof![
        20 => (-60i64..10).prop_map(Some),
        1 => (-400i64..0).prop_map(Some),
        1 => (100i64..200).prop_map(Some),
        1 => Just(None),
    ];
    let event = (0usize..4, prop_oneof![8 => 0u64..8, 1 => 0u64..200], key, value, time);
    prop::collection::vec(event, 0..200).prop_map(|list| {
        let mut now_ms = BASE_MS;
        let event = |(shard, later_ms, key, value, time): (_, u64, _, Option<(String, _)>, Option<i64>)| {
            now_ms += later_ms;
            let time_ms = time.map(|offset| now_ms.saturating_add_signed(offset));
            let billionths = value.as_ref().and_then(|(_, billionths)| *billionths);
            let value = value.map(|(text, _)| text);
            // A third of all times that are none is absent, the others are no times.
            let time = time_ms.map(|time_ms| time_ms.to_string());
            let time = time.or_else(|| ["-5", "soon"].get(now_ms as usize % 3).map(|text| text.to_string()));
            Told { shard, now_ms, key, value, billionths, time, time_ms }
        };
        list.into_iter().map(event).collect()
    })
}

/// Room for every key that is made up here.
const ROOM: usize = 50;

fn views() -> impl Strategy<Value = View> {
    let measure = prop::sample::select(Measure::ALL.to_vec());
    let window = prop_oneof![
        Just((None, None)),
        (5u64..100).prop_map(|window| (Some(window), None)),
        (5u64..40, 1u64..=5).prop_map(|(slide, panes)| (Some(slide * panes), Some(slide))),
    ];
    let time = prop_oneof![Just(None), (0u64..70).prop_map(Some)];
    let room = prop_oneof![Just((ROOM, 20usize, 250usize)), (1usize..6, 1usize..8, 1usize..12)];
    let past = prop_oneof![Just(PastKeys::Other), Just(PastKeys::Drop)];
    let more = (1usize..12, 1u8..=3, prop::sample::select(vec![8u32, 9, 10, 12]));
    (measure, any::<bool>(), window, time, room, past, more).prop_map(
        |(measure, keyed, (window_ms, slide_ms), time, room, past_keys, (top, digits, bits))| View {
            name: "view".into(),
            measure,
            field: measure.has_field().then(|| "value".into()),
            by: keyed.then(|| "key".into()),
            window_ms,
            slide_ms,
            time: time.map(|_| "time".into()),
            lateness_ms: time.unwrap_or(0),
            ahead_ms: 50,
            // Histograms are large, and a sound view's memory is touched in whole.
            keys_max: if measure == Measure::Quantiles { room.0.min(12) } else { room.0 },
            key_max_bytes: room.1,
            values_max: room.2,
            value_max_bytes: room.1,
            past_keys,
            top,
            value_max: 100_000,
            digits: if keyed { digits.min(2) } else { digits },
            places: if top % 2 == 0 { 0 } else { (top % 5) as u8 },
            registers: 1 << bits,
            ..View::default()
        },
    )
}

fn merged(view: &View, tallies: &[Tally], order: impl Iterator<Item = usize>) -> Tally {
    let mut all = Tally::new(&view.over_shards(tallies.len() as u16));
    order.for_each(|shard| all.add(&tallies[shard]));
    all
}

/// The same, `rows` rows at a time.
fn merged_in_parts(view: &View, tallies: &[Tally], rows: usize) -> Tally {
    let mut all = Tally::new(&view.over_shards(tallies.len() as u16));
    for tally in tallies {
        let mut progress = Progress::default();
        while !all.add_part(tally, &mut progress, rows) {}
        // What is done stays done.
        assert!(all.add_part(tally, &mut progress, rows));
    }
    all
}

/// Every window that can be asked for, and some that cannot.
fn questions(view: &View, now_ms: u64) -> Vec<Which> {
    let mut all = vec![Which::Open, Which::Closed];
    if let Some(pane_ms) = view.pane_ms() {
        let number = now_ms / pane_ms;
        let some = number.saturating_sub(120)..number + 12;
        all.extend(some.map(|number| Which::Ended(number * pane_ms)));
    }
    all
}

fn check_merged(view: &View, events: &[Told], shards: usize) {
    let mut tallies: Vec<Tally> = (0..shards).map(|_| Tally::new(view)).collect();
    let mut models = vec![ModelShard::default(); shards];
    for event in events {
        tallies[event.shard % shards].observe(event, event.now_ms);
        models[event.shard % shards].observe(view, event);
    }
    let now_ms = events.last().map_or(BASE_MS, |event| event.now_ms) + 3;
    let all = merged(view, &tallies, 0..shards);
    let back = merged(view, &tallies, (0..shards).rev());
    let parts = merged_in_parts(view, &tallies, 1 + events.len() % 7);
    let model = Model { view, shards: &models };
    assert_eq!(all.newest_ms(), model.newest_ms());
    let mut kept = 0;
    for which in questions(view, now_ms) {
        let reading = all.read(which, None, None, now_ms);
        assert_eq!(reading, back.read(which, None, None, now_ms), "another order, another answer: {which:?}");
        assert_eq!(reading, parts.read(which, None, None, now_ms), "in parts, another answer: {which:?}");
        let reading = match reading {
            Ok(reading) => reading,
            Err(error) => {
                check_refusal(view, which, error, &model, now_ms);
                continue;
            }
        };
        kept += 1;
        if let Which::Ended(end_ms) = which {
            assert_eq!(reading.end_ms, end_ms);
        }
        if let Some(window_ms) = view.window_ms {
            assert_eq!(reading.end_ms - reading.start_ms, window_ms);
            let clock = if view.time.is_some() { model.newest_ms().unwrap() } else { now_ms };
            let lateness_ms = if view.time.is_some() { view.lateness_ms } else { 0 };
            assert_eq!(reading.is_open, reading.end_ms + lateness_ms > clock, "{which:?} at {clock}");
        }
        model.check(&reading, now_ms);
        // A row alone is the row among all.
        for line in &reading.lines {
            let Some(key) = &line.key else { continue };
            let alone = all.read(which, Some(key), None, now_ms).unwrap();
            assert_eq!(alone.lines, std::slice::from_ref(line));
            let mut one = Tally::new(view);
            if view.keys_max == ROOM {
                tallies.iter().for_each(|tally| one.add_key(tally, key));
                let told = one.read(which, Some(key), None, now_ms).unwrap();
                assert_eq!((&told.lines, told.counters), (&alone.lines, reading.counters));
            }
        }
        assert_eq!(all.read(which, Some(b"no such key"), None, now_ms).unwrap().lines, []);
    }
    // The open window and those that late events may come to are always there.
    assert!(kept > 0 || model.newest_ms().is_none() && view.time.is_some());
}

fn check_refusal(view: &View, which: Which, error: ReadError, model: &Model<'_>, now_ms: u64) {
    let Some(pane_ms) = view.pane_ms() else {
        assert_eq!((which, error), (Which::Closed, ReadError::NoWindows));
        return;
    };
    let newest_ms = model.newest_ms();
    let clock = if view.time.is_some() { newest_ms } else { Some(now_ms) };
    match (which, error) {
        (Which::Open, _) => assert_eq!((clock, error), (None, ReadError::NotYet)),
        (Which::Closed, _) => assert_eq!((clock, error), (None, ReadError::NotYet)),
        (Which::Ended(end_ms), ReadError::NotYet) => {
            let start_ms = end_ms.saturating_sub(view.window_ms.unwrap());
            assert!(clock.is_none_or(|clock| start_ms > clock), "{which:?} at {clock:?}");
        }
        (Which::Ended(end_ms), ReadError::Gone(oldest_ms)) => {
            let lateness_ms = if view.time.is_some() { view.lateness_ms } else { 0 };
            // What is gone was closed long ago: another window has been closed since.
            assert!(end_ms + pane_ms + lateness_ms <= clock.unwrap(), "{which:?} at {clock:?}");
            assert!(end_ms < oldest_ms);
        }
        (which, error) => panic!("{which:?}: {error}"),
    }
}

proptest! {
    // A case is a whole computation: a failing one is made smaller for a while, and not for minutes.
    #![proptest_config(ProptestConfig {
        cases: if cfg!(debug_assertions) { 300 } else { 3_000 },
        max_shrink_iters: 300,
        ..ProptestConfig::default()
    })]

    #[test]
    fn views_say_what_a_plain_computation_says(
        view in views(),
        events in events(),
        shards in 1usize..=4,
    ) {
        prop_assert!(view.findings().is_empty(), "{:?}", view.findings());
        check_merged(&view, &events, shards);
    }
}

#[test]
fn distinct_values_are_told_within_the_stated_error() {
    let registers = (8..=16).map(|bits| 1u32 << bits);
    for registers in
        registers.filter(|registers| View { registers: *registers, ..View::count("x") }.findings().is_empty())
    {
        let view = View { registers, ..View::distinct("users", "value") };
        let mut tally = Tally::with_secret(&view, &HashSecret::from_seed(694));
        let error = 1.04 / f64::from(registers).sqrt();
        let (mut squares, mut rounds) = (0.0, 0);
        for n in 1..=100_000u64 {
            tally.observe(&[(&b"value"[..], n.to_string().as_bytes())], 1);
            if n % 500 == 0 || n.is_power_of_two() {
                let Answer::Distinct(told) = answer(&tally, 2) else { panic!() };
                let apart = told as f64 / n as f64 - 1.0;
                assert!(
                    apart.abs() < 4.5 * error + 0.5 / n as f64,
                    "{told} for {n} with {registers} registers"
                );
                (squares, rounds) = (squares + apart * apart, rounds + 1);
            }
        }
        // The secret is fixed, so this is too.
        assert!((squares / f64::from(rounds)).sqrt() < 2.0 * error, "{registers} registers");
    }
}

/// The answer of a view without keys and windows.
fn answer(tally: &Tally, now_ms: u64) -> Answer {
    let reading = tally.read(Which::Open, None, None, now_ms).unwrap();
    assert_eq!(reading.lines.len(), 1);
    reading.lines[0].answer.clone()
}

#[test]
fn what_is_past_the_keys_is_told() {
    let view = |past| View::count("n").by("key").keys(2, past);
    for past in [PastKeys::Other, PastKeys::Drop] {
        let mut tally = Tally::new(&view(past));
        let long = "k".repeat(65);
        for key in ["a", "b", "c", "a", "d", "c", long.as_str(), "b"] {
            tally.observe(&[(&b"key"[..], key.as_bytes())], 1);
        }
        let reading = tally.read(Which::Open, None, None, 1).unwrap();
        let told: Vec<_> = reading.lines.iter().map(|line| (text(&line.key), line.count)).collect();
        let mut expected = vec![(Some("a".into()), 2), (Some("b".into()), 2)];
        if past == PastKeys::Other {
            expected.push((None, 4));
        }
        assert_eq!(told, expected);
        assert_eq!((reading.counters.events, reading.counters.past), (8, 4));
    }
}

#[test]
fn what_finds_no_room_in_a_merge_is_past_the_keys_too() {
    for past in [PastKeys::Other, PastKeys::Drop] {
        let view = View::count("n").by("key").keys(2, past);
        let fed = |keys: &[&str]| {
            let mut tally = Tally::new(&view);
            keys.iter().for_each(|key| tally.observe(&[(&b"key"[..], key.as_bytes())], 1));
            tally
        };
        let mut all = Tally::new(&view);
        for tally in [fed(&["a", "a", "b"]), fed(&["c", "b", "c"])] {
            all.add(&tally);
        }
        let reading = all.read(Which::Open, None, None, 1).unwrap();
        assert_eq!((reading.counters.events, reading.counters.past), (6, 2));
        let told: Vec<_> = reading.lines.iter().map(|line| (text(&line.key), line.count)).collect();
        let mut expected = vec![(Some("a".into()), 2), (Some("b".into()), 2)];
        if past == PastKeys::Other {
            expected.push((None, 2));
        }
        assert_eq!(told, expected);
    }
}

#[test]
fn the_greatest_rows_come_first_where_a_number_is_asked_for() {
    let mut tally = Tally::new(&View::sum("bytes", "value").by("key"));
    for (key, value) in [("a", "1"), ("b", "7.5"), ("c", "7"), ("d", "-3"), ("b", "0.5"), ("e", "8")] {
        tally.observe(&[(&b"key"[..], key.as_bytes()), (b"value", value.as_bytes())], 1);
    }
    let reading = tally.read(Which::Open, None, Some(3), 1).unwrap();
    let told: Vec<_> = reading.lines.iter().map(|line| text(&line.key).unwrap()).collect();
    assert_eq!(told, ["b", "e", "c"]);
}

#[test]
fn a_time_far_ahead_does_not_close_what_is_open() {
    let view = View::count("n").tumbling(Duration::from_secs(1)).event_time("time", Duration::from_secs(1));
    let mut tally = Tally::new(&view);
    let now_ms = 1_700_000_000_000u64;
    let at = |time: u64| time.to_string();
    for time in [at(now_ms), at(u64::MAX), "99999999999999999999".into(), at(now_ms + 60_001), at(now_ms)] {
        tally.observe(&[(&b"time"[..], time.as_bytes())], now_ms);
    }
    let reading = tally.read(Which::Open, None, None, now_ms).unwrap();
    assert_eq!((reading.lines[0].count, reading.totals.ahead, reading.totals.untimed), (2, 1, 2));
    assert_eq!(tally.newest_ms(), Some(now_ms));
}

#[test]
fn a_cleared_tally_is_a_new_one() {
    let view =
        View::top_of("t", "value").by("key").sliding(Duration::from_millis(30), Duration::from_millis(10));
    let mut tally = Tally::new(&view);
    let feed = |tally: &mut Tally, from: u64| {
        for n in from..from + 500 {
            let (key, value) = ((n % 7).to_string(), (n % 31).to_string());
            tally.observe(&[(&b"key"[..], key.as_bytes()), (b"value", value.as_bytes())], n);
        }
    };
    feed(&mut tally, 10_000);
    tally.clear();
    assert_eq!((tally.newest_ms(), tally.totals()), (None, Default::default()));
    // Also of an earlier time than before.
    feed(&mut tally, 200);
    let mut other = Tally::new(&view);
    feed(&mut other, 200);
    for which in [Which::Open, Which::Closed] {
        let reading = tally.read(which, None, None, 700).unwrap();
        assert!(reading.counters.events > 0);
        assert_eq!(Ok(reading), other.read(which, None, None, 700));
    }
}

#[test]
fn sums_stop_at_their_end_and_say_so() {
    let mut tally = Tally::new(&View::sum("s", "value"));
    tally.observe(&[(&b"value"[..], &b"99999999999999999999"[..])], 1);
    // Doubling it reaches any end soon.
    for _ in 0..40 {
        let mut twice = Tally::new(&View::sum("s", "value"));
        twice.add(&tally);
        twice.add(&tally);
        tally = twice;
    }
    let reading = tally.read(Which::Open, None, None, 1).unwrap();
    assert!(reading.counters.saturated > 0);
    assert_eq!(reading.lines[0].answer, Answer::Number(Decimal::from_billionths(i128::MAX)));
}

/// Keys that all have one hash under XXH3 with a known seed: the first word cancels what the second is multiplied by.
fn crafted(n: u64) -> [u8; 32] {
    /// The first word of XXH3's default secret, and the seed that tables of views once had.
    const WORD: u64 = 0xbe4b_a423_396c_feb8u64.wrapping_add(0x7065_6c74_6f6e_7462);
    let mut key = [b'x'; 32];
    key[..8].copy_from_slice(&WORD.to_le_bytes());
    key[8..16].copy_from_slice(&n.to_le_bytes());
    key
}

#[test]
fn keys_crafted_to_collide_take_no_longer_than_others() {
    const KEYS: u64 = 20_000;
    let view = View::count("n").by("key").keys(KEYS as usize, PastKeys::Drop);
    let crafted: Vec<_> = (0..KEYS).map(crafted).collect();
    let mut dice = Dice::new(3);
    let others: Vec<_> = (0..KEYS)
        .map(|_| {
            let mut key = [0; 32];
            key.chunks_mut(8).for_each(|word| word.copy_from_slice(&dice.roll().to_le_bytes()));
            key
        })
        .collect();
    // To measure them once each, and to merge them.
    let time = |keys: &[[u8; 32]]| {
        let mut tally = Tally::new(&view);
        let begun = Instant::now();
        keys.iter().for_each(|key| tally.observe(&[(&b"key"[..], &key[..])], 1));
        let mut all = Tally::new(&view.over_shards(2));
        all.add(&tally);
        let time = begun.elapsed();
        let reading = all.read(Which::Open, None, None, 1).unwrap();
        assert_eq!((reading.lines.len() as u64, reading.counters.past), (KEYS, 0));
        time
    };
    // Under the hash that they are crafted for it is hundreds of times as long; nine times that would be minutes.
    let _dog = watchdog();
    let is_so = |_| time(&crafted) <= 3 * time(&others);
    assert!((0..9).any(is_so));
}

/// A value of 8 bytes whose XXH3 with this seed is this hash: on 4 to 8 bytes it can be computed backwards.
fn with_hash(hash: u64, seed: u64) -> [u8; 8] {
    const FACTOR: u64 = 0x9fb2_1c65_1e98_df25;
    // By Newton's iteration.
    let inverse = (0..6).fold(1u64, |x, _| x.wrapping_mul(2u64.wrapping_sub(FACTOR.wrapping_mul(x))));
    let mut x = hash ^ hash >> 28 ^ hash >> 56;
    x = x.wrapping_mul(inverse);
    x ^= (x >> 35) + 8;
    x = x.wrapping_mul(inverse);
    // The step is its own inverse when done 64 times.
    x = (0..63).fold(x, |x, _| x ^ x.rotate_left(49) ^ x.rotate_left(24));
    // The words of the default secret that 4 to 8 bytes are combined with.
    let words = 0x1cad_21f7_2c81_017cu64 ^ 0xdb97_9083_e96d_d4de;
    let input = x ^ words.wrapping_sub(seed ^ u64::from((seed as u32).swap_bytes()) << 32);
    input.rotate_left(32).to_le_bytes()
}

#[test]
fn values_crafted_to_set_every_register_are_counted_as_what_they_are() {
    const SEED: u64 = 0x6469_7374_696e_6374;
    let view = View::distinct("users", "value");
    let mut tally = Tally::new(&view);
    for register in 0..u64::from(view.registers) {
        // All zeros below the number of the register but for the last: the greatest that it can have.
        let hash = register << 52 | 1 << 51;
        let value = with_hash(hash, SEED);
        assert_eq!(xxhash_rust::xxh3::xxh3_64_with_seed(&value, SEED), hash);
        tally.observe(&[(&b"value"[..], &value[..])], 1);
    }
    let Answer::Distinct(told) = answer(&tally, 2) else { panic!() };
    let (exact, error) = (f64::from(view.registers), 1.04 / f64::from(view.registers).sqrt());
    assert!((told as f64 - exact).abs() <= 6.0 * error * exact, "{told} for {exact}");
}

#[test]
#[should_panic(expected = "tallies of one view and secret are added")]
fn tallies_of_different_secrets_are_not_added() {
    let view = View::distinct("users", "value");
    Tally::new(&view).add(&Tally::with_secret(&view, &HashSecret::from_seed(1)));
}

#[test]
fn estimates_under_one_secret_are_equal_and_other_answers_under_any() {
    let secrets = [HashSecret::from_seed(1), HashSecret::from_seed(1), HashSecret::of_process().clone()];
    for measure in Measure::ALL {
        let field = measure.has_field().then(|| "value".to_string());
        let view = View { measure, field, ..View::count("any").by("key") };
        let readings = secrets.each_ref().map(|secret| {
            let mut tally = Tally::with_secret(&view, secret);
            for n in 0..2_000u64 {
                let (key, value) = ((n % 37).to_string(), (n * n % 501).to_string());
                tally.observe(&[(&b"key"[..], key.as_bytes()), (b"value", value.as_bytes())], n);
            }
            tally.read(Which::Open, None, None, 2_000).unwrap()
        });
        assert_eq!(readings[0], readings[1]);
        assert!(measure == Measure::Distinct || readings[0] == readings[2]);
    }
}

/// Keys of a view that is measured while it is merged in parts.
fn observe_keys(tally: &mut Tally, keys: std::ops::Range<u64>, now_ms: u64) {
    for n in keys {
        let (key, value) = (n.to_string(), (n % 5).to_string());
        tally.observe(&[(&b"key"[..], key.as_bytes()), (b"value", value.as_bytes())], now_ms);
    }
}

#[test]
fn events_between_two_parts_of_a_merge_leave_a_closed_window_as_it_was() {
    for measure in [Measure::Count, Measure::Top, Measure::Quantiles] {
        let field = measure.has_field().then(|| "value".to_string());
        let view = View { measure, field, ..View::count("any").by("key").keys(300, PastKeys::Other) }
            .tumbling(Duration::from_millis(100));
        let (mut shard, mut all) = (Tally::new(&view), Tally::new(&view));
        observe_keys(&mut shard, 0..200, 50);
        observe_keys(&mut shard, 0..50, 150);
        let closed = shard.read(Which::Closed, None, None, 150).unwrap();
        let (mut progress, mut parts) = (Progress::default(), 0);
        while !all.add_part(&shard, &mut progress, 3) {
            parts += 1;
            // New keys, and keys that are merged already, in the window that is open.
            observe_keys(&mut shard, parts..parts + 100, 150);
        }
        assert!(parts > 200 / 3, "{parts} parts");
        let (mut told, kept) = (all.read(Which::Closed, None, None, 150).unwrap(), closed);
        told.totals = kept.totals;
        assert_eq!(told, kept);
        // Of the open one no key is there twice, and none that was there at first is missing.
        let open = all.read(Which::Open, None, None, 150).unwrap();
        let keys: BTreeSet<_> = open.lines.iter().map(|line| text(&line.key)).collect();
        assert!(keys.len() == open.lines.len() && (0..50).all(|n| keys.contains(&Some(n.to_string()))));
    }
}

#[test]
fn a_window_that_goes_while_it_is_merged_is_no_longer_kept() {
    let view = View::count("n").by("key").tumbling(Duration::from_millis(100));
    let (mut shard, mut all) = (Tally::new(&view), Tally::new(&view));
    observe_keys(&mut shard, 0..500, 150);
    let mut progress = Progress::default();
    assert!(!all.add_part(&shard, &mut progress, 10));
    // The clock of the shard goes on by more windows than are kept, in the middle of a pane.
    observe_keys(&mut shard, 0..500, 950);
    while !all.add_part(&shard, &mut progress, 10) {}
    assert_eq!(all.newest_ms(), Some(950));
    assert_eq!(all.read(Which::Ended(200), None, None, 950), Err(ReadError::Gone(900)));
    // The newer pane may have come too late for this merge; the next one has it.
    let mut next = Tally::new(&view);
    next.add(&shard);
    assert_eq!(next.read(Which::Open, None, None, 950).unwrap().lines.len(), 500);
}

#[test]
fn a_cleared_tally_merges_without_what_it_had() {
    let view = View::top_of("t", "value").by("key").tumbling(Duration::from_millis(100));
    let (mut shard, mut all) = (Tally::new(&view), Tally::new(&view));
    observe_keys(&mut shard, 0..100, 150);
    for _ in 0..3 {
        all.clear();
        all.add(&shard);
        assert_eq!(all.read(Which::Open, None, None, 150), shard.read(Which::Open, None, None, 150));
        // Of a key alone no value of another comes along, whatever was merged before.
        all.clear();
        all.add_key(&shard, b"7");
        let told = all.read(Which::Open, None, None, 150).unwrap();
        assert_eq!(told.lines, shard.read(Which::Open, Some(b"7"), None, 150).unwrap().lines);
    }
}

#[test]
fn all_that_is_wrong_with_a_view_is_told_at_once() {
    let told = |view: View| -> Vec<String> {
        view.findings().iter().map(|found| format!("{} is {}", found.key(), found.value)).collect()
    };
    assert_eq!(told(View::count("x")), [] as [&str; 0]);
    let wrong = View { field: Some("ms".into()), digits: 4, top: 0, registers: 100, ..View::count("") };
    let settings = ["top is 0", "digits is 4", "registers is 100", "name is ''", "field is 'ms'"];
    assert_eq!(told(wrong), settings);
    assert_eq!(told(View { field: None, ..View::sum("x", "") }), ["field is 'none'"]);
    assert_eq!(told(View::sum("x", "").by("")), ["field is ''", "by is ''"]);
    let sliding = |window, slide| View { window_ms: window, slide_ms: slide, ..View::count("x") };
    assert_eq!(told(sliding(None, Some(10))), ["slide_ms is 10"]);
    assert_eq!(told(sliding(Some(64), Some(1))), [] as [&str; 0]);
    let cases = [(Some(65), Some(1)), (Some(100), Some(30)), (Some(10), Some(20)), (Some(7), Some(3))];
    for (window, slide) in cases {
        let view = sliding(window, slide);
        let found = view.findings();
        assert_eq!(found.len(), 1, "{found:?}");
        // What is said to work does.
        let works = sliding(window, Some(found[0].works.parse().unwrap()));
        assert_eq!(works.findings(), []);
    }
    let late = View { time: Some("t".into()), lateness_ms: 1_000_000, ..sliding(Some(100), None) };
    let found = late.findings();
    assert_eq!(found[0].key(), "lateness_ms");
    assert_eq!(View { lateness_ms: found[0].works.parse().unwrap(), ..late }.findings(), []);
    let fine = View { places: 9, ..View::quantiles("x", "s") };
    let found = fine.findings();
    assert_eq!((found[0].key(), found.len()), ("value_max", 1));
    assert_eq!(View { value_max: found[0].works.parse().unwrap(), ..fine }.findings(), []);
    let wide = View { keys_max: 1 << 24, key_max_bytes: 1 << 16, ..View::count("x").by("k") };
    assert_eq!(told(wide), ["keys_max is 16777216"]);
}

#[test]
fn a_view_made_by_its_settings_is_one_made_by_code() {
    let by_code = View::quantiles("ms", "took")
        .over("requests")
        .by("path")
        .sliding(Duration::from_secs(10), Duration::from_secs(2))
        .event_time("at", Duration::from_secs(3))
        .keys(50, PastKeys::Drop)
        .top(3);
    let words: [(&str, Value); 11] = [
        ("name", "ms".into()),
        ("stream", "requests".into()),
        ("measure", "quantiles".into()),
        ("field", "took".into()),
        ("by", "path".into()),
        ("window_ms", 10_000u64.into()),
        ("slide_ms", 2_000u64.into()),
        ("time", "at".into()),
        ("lateness_ms", 3_000u64.into()),
        ("keys_max", 50u64.into()),
        ("past_keys", "drop".into()),
    ];
    let mut view = View { top: 3, ..View::default() };
    for (key, value) in words {
        let row = VIEW.iter().find(|row| row.info.key == key).unwrap();
        row.info.kind.accept(&value).unwrap();
        row.set(&mut view, value);
    }
    assert_eq!(view, by_code);
}

/// A view of each measure, with windows of every kind.
fn each() -> Vec<View> {
    let mut all = Vec::new();
    for measure in Measure::ALL {
        for (by, window_ms, slide_ms) in
            [(None, None, None), (Some("key"), Some(20), None), (Some("key"), Some(40), Some(10))]
        {
            all.push(View {
                name: measure.name().into(),
                measure,
                field: measure.has_field().then(|| "value".into()),
                by: by.map(Into::into),
                window_ms,
                slide_ms,
                time: slide_ms.map(|_| "time".into()),
                lateness_ms: 15,
                keys_max: 20,
                values_max: 60,
                ..View::default()
            });
        }
    }
    all
}

#[test]
fn nothing_is_allocated_by_events_and_merges() {
    use pelton::memory::audit::assert_no_allocations;
    let (key, value): (Vec<_>, Vec<_>) =
        (0..64u32).map(|n| (format!("key{}", n % 30), format!("{}", n * n))).unzip();
    let time: Vec<_> = (0..2_000u64).map(|n| (n / 2).saturating_sub(n % 7 * 5).to_string()).collect();
    for view in each() {
        let (mut one, mut two) = (Tally::new(&view), Tally::new(&view));
        let mut all = Tally::new(&view);
        assert_no_allocations(|| {
            for round in 0..3 {
                for (n, time) in time.iter().enumerate() {
                    let fields = [
                        (&b"key"[..], key[n % 64].as_bytes()),
                        (b"value", value[n % 61].as_bytes()),
                        (b"time", time.as_bytes()),
                    ];
                    one.observe(&fields, n as u64 / 2);
                    two.observe(&fields, n as u64 / 2 + 13);
                }
                all.add(&one);
                all.add(&two);
                if round < 2 {
                    one.clear();
                    all.clear();
                }
            }
        });
        assert_eq!(all.totals().seen, 2_000 * (1 + 3), "{}", view.name);
        assert!(all.read(Which::Open, None, None, 1_000).unwrap().counters.events > 0);
    }
}

#[test]
fn the_memory_of_a_tally_is_known_before() {
    for view in each() {
        for shards in [1, 3] {
            let view = view.over_shards(shards);
            let before = alive_here();
            let tally = Tally::new(&view);
            let taken = alive_here() - before + size_of::<Tally>() as i64;
            assert_eq!(Tally::bytes(&view) as i64, taken, "{view:?}");
            drop(tally);
            assert_eq!(alive_here(), before);
        }
    }
}

/// Keeps views of what it handles, and the book of it.
struct Keeper {
    witness: Witness,
    by_key: Tally,
    largest: Tally,
}

/// A number in decimal digits, without the heap.
struct Digits([u8; 20], usize);

impl Digits {
    fn of(mut n: u64) -> Self {
        let mut digits = Digits([b'0'; 20], 20);
        loop {
            digits.1 -= 1;
            digits.0[digits.1] = b'0' + (n % 10) as u8;
            n /= 10;
            if n == 0 {
                return digits;
            }
        }
    }

    fn text(&self) -> &[u8] {
        &self.0[self.1..]
    }
}

impl Handler<Proof> for Keeper {
    type Output = (Witness, Tally, Tally);

    fn on_event(&mut self, event: &mut Event<'_, Proof>, _: &mut Context<'_, Proof>) -> Verdict {
        self.witness.begin(event);
        let (key, order) = (Digits::of(event.key), Digits::of(event.order));
        let fields = [(&b"key"[..], key.text()), (b"order", order.text())];
        self.by_key.observe(&fields, event.order);
        self.largest.observe(&fields, event.order);
        self.witness.end(Verdict::Done);
        Verdict::Done
    }

    fn on_stop(self, _: &mut Context<'_, Proof>) -> Self::Output {
        (self.witness, self.by_key, self.largest)
    }
}

#[test]
fn shards_keep_views_of_what_they_handle() {
    const EVENTS: u64 = 20_000;
    const KEYS: u64 = 50;
    let _dog = watchdog();
    let by_key = View::count("n").by("key");
    let largest = View::max("most", "order").tumbling(Duration::from_millis(1_000));
    let mut plan = plan().with_shards(2).reserve("view n", Tally::bytes(&by_key));
    let class = plan.class(Class::strict("only").with_capacity(256).block());
    let views = (by_key.clone(), largest.clone());
    let keeper = move |_| Keeper {
        witness: Witness::default(),
        by_key: Tally::new(&views.0),
        largest: Tally::new(&views.1),
    };
    let engine = plan.start(Proof::default, keeper).unwrap();
    let (mut tx, mut source) = (engine.attach().unwrap(), Source::new(0));
    // Event times ascend as the events do, so each shard sees its own in order.
    for order in 0..EVENTS {
        source.publish_order(&mut tx, class, order % KEYS, order).unwrap();
        if order == EVENTS / 2 {
            // While it runs a tally goes from shard to shard and tells no more than there is.
            let mut all = Tally::new(&by_key.over_shards(2));
            for shard in 0..2 {
                let ask = move |keeper: &mut Keeper| {
                    all.add(&keeper.by_key);
                    all
                };
                all = engine.ask(ShardId(shard), ask).unwrap();
            }
            let seen = all.totals().seen;
            assert!(seen <= order + 1, "{seen} of {order}");
            let reading = all.read(Which::Open, None, None, 0).unwrap();
            assert_eq!(reading.lines.iter().map(|line| line.count).sum::<u64>(), seen);
        }
    }
    drop(tx);
    let mut report = engine.stop(Duration::from_secs(50)).unwrap();
    assert!(report.drained);
    let outputs: Vec<(Witness, Tally, Tally)> = report.outputs();
    let (mut keys, mut most) = (Tally::new(&by_key.over_shards(2)), Tally::new(&largest.over_shards(2)));
    let mut witnesses = Vec::new();
    for (witness, by_key, largest) in outputs {
        keys.add(&by_key);
        most.add(&largest);
        witnesses.push(witness);
    }
    assert_invariants(&report, &[source], &witnesses);
    let reading = keys.read(Which::Open, None, None, EVENTS).unwrap();
    assert_eq!(reading.lines.len() as u64, KEYS);
    assert!(reading.lines.iter().all(|line| line.count == EVENTS / KEYS));
    assert_eq!(reading.counters.events, report.ledger.class(class).handled);
    let reading = most.read(Which::Closed, None, None, EVENTS).unwrap();
    assert_eq!((reading.start_ms, reading.end_ms), (EVENTS - 1_000, EVENTS));
    assert_eq!(reading.lines[0].answer, Answer::Number(Decimal::from(EVENTS - 1)));
    assert_eq!(reading.lines[0].count, 1_000);
}

#[test]
fn a_number_is_told_as_the_floating_point_number_that_is_nearest() {
    let mut dice = Dice::new(694);
    let check = |number: Decimal| {
        let text = number.to_string();
        assert_eq!(number.as_f64().to_bits(), text.parse::<f64>().unwrap().to_bits(), "{text}");
    };
    // Amounts as they are paid, and numbers of every length.
    for _ in 0..200_000 {
        let cents = dice.below(1_000_000_000);
        let text = format!("{}.{:02}", cents / 100, cents % 100);
        let number = Decimal::read(text.as_bytes()).unwrap().number;
        assert_eq!(number.as_f64().to_bits(), text.parse::<f64>().unwrap().to_bits(), "{text}");
        let any = i128::from(dice.roll() as i64) << 64 | i128::from(dice.roll());
        check(Decimal::from_billionths(any >> dice.below(127)));
    }
    let exact = 1i128 << f64::MANTISSA_DIGITS;
    for billionths in [0, 1, exact - 1, exact, exact + 1, exact + 2, exact + 3, i128::MAX] {
        check(Decimal::from_billionths(billionths));
        check(Decimal::from_billionths(-billionths));
    }
    check(Decimal::from_billionths(i128::MIN));
    assert_eq!(Decimal::read(b"6.94").unwrap().number.as_f64(), 6.94);
}

#[test]
fn rows_of_a_view_read_back_what_they_set() {
    use pelton_testkit::tables::{is_sound, reads_back};
    is_sound(VIEW, || View::count("x"), &mut BTreeSet::new());
    reads_back(VIEW, || View::count("x"));
}
