//! A replay counts every line exactly once, whatever the settings, and says what became of those that it did not.

use crate::support::access_log::{LINES, Log, Ranked};
use pelton::class::Stamp;
use pelton::clock::{Clock, VirtualTime};
use pelton::park::Wait;
use pelton::{Class, Plan, Profile, Rejection};
use pelton_cli::weblog::{
    Limits, Malformed, Options, Progress, Replay, ReplayError, open, prepare_file, prepare_memory,
    prepare_stream,
};
use pelton_testkit::needs::real_access_log;
use std::fs::File;
use std::io::{Read, Write};
use std::time::Duration;

const GOOD: &str = "1.2.3.4 - - [17/May/2015:10:05:03 +0000] \"GET /a HTTP/1.1\" 200 7\n";

/// Tables that are large enough for the tests, and small enough to be laid out a hundred times.
fn small() -> Options {
    let limits = Limits {
        clients_max: 4_000,
        client_bytes_max: Some(64_000),
        paths_max: 4_000,
        path_bytes_max: Some(256_000),
    };
    Options { plan: base(1), limits, producers: 1, ..Options::default() }
}

/// A replay's plan with so many shards, on whatever CPUs there are.
fn base(shards: u16) -> Plan {
    Options::base(Profile::Dev).with_overcommitted(true).with_shards(shards)
}

/// Changes the class of all lines that are no errors.
fn change_bulk(options: &mut Options, change: impl FnOnce(Class) -> Class) {
    let id = options.plan.class_named("bulk").unwrap();
    let bulk = options.plan.class_mut(id).unwrap();
    *bulk = change(bulk.clone());
}

/// A file with this content; it is gone from its folder, and lives as long as its descriptor.
fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// Runs it, and checks what must hold for every run.
fn run(prepared: pelton_cli::weblog::Prepared<'_>) -> Replay {
    let _watchdog = pelton_testkit::watchdog();
    let progress = Progress::default();
    let replay = prepared.run(&progress).unwrap();
    check(&replay);
    assert_eq!(progress.lines(), replay.input.lines);
    assert_eq!(progress.bytes(), replay.input.bytes);
    replay
}

fn check(replay: &Replay) {
    let total = replay.engine.ledger.total();
    assert!(replay.engine.ledger.is_closed() && replay.engine.drained, "{}", replay.engine);
    assert_eq!(total.in_flight, 0, "{}", replay.engine);
    assert_eq!(total.offered, replay.input.parsed);
    assert_eq!(total.handled, replay.report.requests);
    assert_eq!(replay.input.parsed + replay.input.malformed, replay.input.lines);
    assert_eq!(replay.malformed_by.iter().map(|(_, n)| n).sum::<u64>(), replay.input.malformed);
    assert_eq!(total.rejected_for(Rejection::TooLarge), replay.input.too_large);
    if let Some(kept) = &replay.kept {
        assert_eq!((kept.intended, kept.sent), (replay.input.lines, replay.input.parsed), "{kept:?}");
        assert!(kept.late <= kept.sent && kept.slept + kept.spun <= kept.sent, "{kept:?}");
        assert!(kept.late == 0 || kept.late_max_ns > 100_000, "{kept:?}");
    }
    assert_eq!(replay.engine.rescues(), 0);
    assert!(replay.engine.shards.iter().all(|shard| shard.stopped));
}

fn memory(text: &str) -> Replay {
    run(prepare_memory(text.as_bytes(), &small()).unwrap())
}

#[test]
fn all_shards_producers_and_strategies_count_a_log_alike() {
    let log = Log::generated();
    let totals = &log.totals;
    let file = open(log.path()).unwrap();
    let mut first = None;
    for wait in [Wait::Park, Wait::Yield, Wait::Spin] {
        for (shards, producers) in (1..=4).flat_map(|s| (1..=4).map(move |p| (s, p))) {
            let options = Options { plan: base(shards).with_wait(wait), producers, ..small() };
            let replay = run(prepare_file(&file, &options).unwrap());
            assert_eq!((replay.input.lines, replay.input.malformed), (totals.lines, 0));
            assert_eq!(replay.input.bytes, log.len());
            assert_eq!(replay.engine.ledger.total().rejected_total(), 0);
            let report = first.get_or_insert_with(|| replay.report.clone());
            assert_eq!(*report, replay.report, "{shards} shards, {producers} producers, {wait}");
        }
    }
    let report = first.unwrap();
    assert_eq!(report.requests, totals.lines);
    assert_eq!(report.bytes, totals.sizes.iter().sum::<u64>());
    assert_eq!(report.clients, totals.clients.len() as u64);
    assert_eq!(report.status, totals.status);
    let clients = report.top_clients.iter().map(|top| (top.client.clone(), top.requests));
    assert!(clients.eq(totals.clients[..report.top_clients.len()].iter().cloned()), "{report:?}");
    let paths = report.top_paths.iter().map(|top| (top.path.clone(), top.requests));
    assert!(paths.eq(totals.paths[..report.top_paths.len()].iter().cloned()), "{report:?}");
    assert!(!report.top_clients.is_empty() && !report.top_paths.is_empty());
    let sizes = &report.response_bytes;
    assert_eq!(sizes.max, *totals.sizes.last().unwrap());
    for (reported, percent) in [(sizes.p50, 50), (sizes.p90, 90), (sizes.p99, 99)] {
        let exact = totals.sizes[totals.sizes.len() * percent / 100 - 1];
        assert!((exact..=exact + exact / 100 + 1).contains(&reported), "p{percent}: {reported}, {exact}");
    }
    assert_eq!((report.overflowed.clients, report.overflowed.paths), (0, 0));
}

#[test]
fn the_real_log_has_the_totals_that_awk_found() {
    let Some(path) = real_access_log() else { return };
    let file = open(&path).unwrap();
    for producers in [1, 2, 3] {
        let options = Options { plan: base(2), producers, top: 5, ..small() };
        let replay = run(prepare_file(&file, &options).unwrap());
        assert_eq!((replay.input.lines, replay.input.malformed), (10_000, 0));
        assert_eq!(replay.input.bytes, file.metadata().unwrap().len());
        let report = &replay.report;
        assert_eq!((report.requests, report.clients), (10_000, 1_753));
        assert_eq!((report.bytes, report.response_bytes.max), (2_747_282_740, 69_192_717));
        let status =
            [(200, 9_126), (304, 445), (404, 213), (301, 164), (206, 45), (500, 3), (403, 2), (416, 2)];
        assert_eq!(report.status, status.map(|(status, n)| (status.to_string(), n)));
        let client = &report.top_clients[0];
        assert_eq!((client.client.as_str(), client.requests), ("66.249.73.135", 482));
        let paths: Vec<_> = report.top_paths.iter().map(|top| (top.path.as_str(), top.requests)).collect();
        let expected = [
            ("/favicon.ico", 807),
            ("/style2.css", 546),
            ("/reset.css", 538),
            ("/images/jordan-80.png", 533),
            ("/images/web/2009/banner.png", 516),
        ];
        assert_eq!(paths, expected);
        assert_eq!((report.overflowed.clients, report.overflowed.paths), (0, 0));
        let handled: Vec<_> = replay.engine.classes.iter().map(|class| class.counts.handled).collect();
        assert_eq!(handled, [3, 217, 9_780]);
    }
}

#[test]
fn classes_follow_the_status() {
    let log = Log::generated();
    let (critical, high) = (log.totals.of_status(&['5']), log.totals.of_status(&['4']));
    assert!(critical > 0 && high > 0, "{:?}", log.totals.status);
    let file = open(log.path()).unwrap();
    let replay = run(prepare_file(&file, &Options { producers: 3, plan: base(2), ..small() }).unwrap());
    let handled: Vec<_> =
        replay.engine.classes.iter().map(|class| (class.name.as_str(), class.counts.handled)).collect();
    assert_eq!(handled, [("critical", critical), ("high", high), ("bulk", LINES - critical - high)]);
    assert_eq!(replay.engine.classes[0].latency.wait_ns.len(), critical, "each error is measured");
}

#[test]
fn a_loop_counts_every_pass() {
    let log = Log::generated();
    let file = open(log.path()).unwrap();
    let once = run(prepare_file(&file, &small()).unwrap());
    let options = Options { loops: 3, producers: 2, plan: base(2), ..small() };
    let thrice = run(prepare_file(&file, &options).unwrap());
    assert_eq!((thrice.input.lines, thrice.input.passes), (3 * LINES, 3));
    assert_eq!(thrice.report.requests, 3 * once.report.requests);
    assert_eq!(thrice.report.bytes, 3 * once.report.bytes);
    assert_eq!(thrice.report.clients, once.report.clients);
}

#[test]
fn a_time_limit_ends_the_loop_but_not_the_first_pass() {
    let lines = GOOD.repeat(5_000);
    let options = Options { loops: u64::MAX, time_limit: Some(Duration::ZERO), ..small() };
    let replay = run(prepare_memory(lines.as_bytes(), &options).unwrap());
    assert_eq!((replay.input.lines, replay.input.passes), (5_000, 1));
    let options = Options { time_limit: Some(Duration::from_millis(50)), ..options };
    let replay = run(prepare_memory(lines.as_bytes(), &options).unwrap());
    assert!(replay.input.lines >= 5_000);
}

#[test]
fn malformed_lines_are_counted_and_numbered_over_all_ranges() {
    let mut lines: Vec<String> = vec![GOOD.to_string(); 4_000];
    for at in [17, 1_500, 1_501, 2_900, 3_999] {
        lines[at] = "what is this\n".into();
    }
    lines[3_000] = "\n".into();
    let file = file_of(lines.concat().as_bytes());
    for producers in 1..=4 {
        let options = Options { producers, loops: 2, ..small() };
        let replay = run(prepare_file(&file, &options).unwrap());
        assert_eq!(replay.input.malformed, 2 * 6);
        let numbers: Vec<_> = replay.malformed_first.iter().map(|noted| noted.line).collect();
        assert_eq!(numbers, [18, 1_501, 1_502, 2_901, 3_001], "{producers} producers");
        assert_eq!(replay.malformed_first[4].what, Malformed::Empty);
        assert_eq!(replay.malformed_by.iter().find(|(what, _)| *what == Malformed::Empty).unwrap().1, 2);
    }
}

#[test]
fn a_strict_run_names_the_first_malformed_line_of_the_file() {
    let mut lines: Vec<String> = vec![GOOD.to_string(); 8_000];
    lines[7_999] = "x\n".into();
    lines[2_100] = "1.2.3.4 - - [t] \"GET / HTTP/1.1\" 999 1\n".into();
    // The last range meets its line at once, long before the first does.
    lines[6_001] = "x\n".into();
    let file = file_of(lines.concat().as_bytes());
    for producers in 1..=4 {
        let options = Options { producers, strict: true, plan: base(2), ..small() };
        let error = prepare_file(&file, &options).unwrap().run(&Progress::default()).unwrap_err();
        let ReplayError::Strict(noted) = &error else { panic!("{error}") };
        assert_eq!((noted.line, noted.what), (2_101, Malformed::BadStatus), "{producers} producers");
        assert!(error.to_string().contains("line 2101: bad status"), "{error}");
    }
}

#[test]
fn ends_of_lines_and_of_files_do_not_matter() {
    let unix = memory(&GOOD.repeat(3));
    assert_eq!(unix.input.lines, 3);
    let open_end = memory(GOOD.repeat(3).trim_end());
    assert_eq!((open_end.input.lines, &open_end.report), (3, &unix.report));
    let windows = memory(&GOOD.repeat(3).replace('\n', "\r\n"));
    assert_eq!((windows.input.lines, &windows.report), (3, &unix.report));
    let empty = memory("");
    assert_eq!((empty.input.lines, empty.report.requests, empty.report.clients), (0, 0, 0));
    assert_eq!(empty.report.response_bytes.max, 0);
    assert_eq!(empty.events_per_s(), 0.0);
}

#[test]
fn a_payload_beyond_half_its_ring_is_counted_and_named() {
    let long = GOOD.replace("/a", &format!("/{}", "a".repeat((1 << 20) - 100)));
    let long_agent = GOOD.replace(" 7\n", &format!(" 7 \"-\" \"{}\"\n", "a".repeat(1 << 19)));
    let too_long = format!("{}\n", "a".repeat((1 << 20) + 1));
    let replay = memory(&[GOOD, &long, &long_agent, &too_long, GOOD].concat());
    assert_eq!((replay.input.lines, replay.input.parsed), (5, 4));
    // Only what travels must fit: of the line with the long agent that is no more than of any other.
    assert_eq!((replay.input.too_large, replay.report.requests), (1, 3));
    assert_eq!(replay.too_large_first[0].line, 2);
    assert!(replay.too_large_first[0].what > (1 << 20) - 100);
    assert_eq!((replay.malformed_first[0].line, replay.malformed_first[0].what), (4, Malformed::TooLong));
}

#[test]
fn bytes_that_are_no_text_are_told() {
    let replay = memory(&["\0\0\0\n", GOOD, "1.2.3.4\0 - -\n"].concat());
    assert_eq!((replay.input.malformed, replay.malformed_first[1].line), (2, 3));
    assert!(replay.malformed_first.iter().all(|noted| noted.what == Malformed::Nul));
}

#[test]
fn what_is_appended_after_the_preparation_is_not_read() {
    let mut file = file_of(GOOD.repeat(1_000).as_bytes());
    let prepared = prepare_file(&file, &Options { producers: 2, loops: 2, ..small() }).unwrap();
    file.write_all(GOOD.repeat(500).as_bytes()).unwrap();
    let replay = run(prepared);
    assert_eq!((replay.input.lines, replay.input.missing_bytes), (2_000, 0));
}

#[test]
fn what_is_cut_off_after_the_preparation_is_told() {
    let line = GOOD.len() as u64;
    for producers in 1..=3 {
        let file = file_of(GOOD.repeat(1_000).as_bytes());
        let prepared = prepare_file(&file, &Options { producers, loops: 2, ..small() }).unwrap();
        file.set_len(300 * line).unwrap();
        let replay = run(prepared);
        assert_eq!(replay.input.lines, 600, "{producers} producers");
        assert_eq!(replay.input.missing_bytes, 2 * 700 * line);
        assert_eq!(replay.input.bytes, 2 * 300 * line);
    }
}

#[test]
fn a_file_that_is_cut_while_it_is_read_loses_nothing_that_was_there() {
    // The file is cut by the reader itself, at a moment that is the same each time: in its second read.
    struct Cutting {
        file: File,
        reads: u32,
    }
    impl Read for Cutting {
        fn read(&mut self, room: &mut [u8]) -> std::io::Result<usize> {
            self.reads += 1;
            if self.reads == 2 {
                self.file.set_len(GOOD.len() as u64 * 20).unwrap();
            }
            let want = room.len().min(GOOD.len() * 10);
            self.file.read(&mut room[..want])
        }
    }
    let mut file = file_of(GOOD.repeat(100).as_bytes());
    std::io::Seek::rewind(&mut file).unwrap();
    let replay = run(prepare_stream(Cutting { file, reads: 0 }, &small()).unwrap());
    assert_eq!(replay.input.lines, 20);
}

#[test]
fn an_error_of_the_source_ends_the_run() {
    struct Broken(&'static [u8]);
    impl Read for Broken {
        fn read(&mut self, room: &mut [u8]) -> std::io::Result<usize> {
            match self.0.read(room)? {
                0 => Err(std::io::Error::other("the disk is on fire")),
                n => Ok(n),
            }
        }
    }
    let error =
        prepare_stream(Broken(GOOD.as_bytes()), &small()).unwrap().run(&Progress::default()).unwrap_err();
    assert!(matches!(error, ReplayError::Read(_)) && error.to_string().contains("on fire"), "{error}");
}

#[test]
fn a_stream_has_one_reader_and_one_pass() {
    let told = |options: Options| match prepare_stream(std::io::empty(), &options) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("accepted"),
    };
    assert!(told(Options { loops: 2, ..small() }).contains("loop is 2"));
    assert!(told(Options { producers: 2, ..small() }).contains("producers is 2"));
    assert!(prepare_memory(b"", &Options { producers: 2, ..small() }).is_err());
    let replay = run(prepare_stream(GOOD.repeat(7).as_bytes(), &small()).unwrap());
    assert_eq!(replay.input.lines, 7);
}

#[test]
fn what_a_full_lane_refuses_stands_in_the_ledger() {
    let block: fn(Class) -> Class = |bulk| bulk.block_for(Duration::from_nanos(1));
    for overflow in [Class::reject, Class::drop_newest, block] {
        let mut options = Options { plan: base(2), loops: 20, ..small() };
        change_bulk(&mut options, |bulk| overflow(bulk.with_capacity(1)));
        let replay = run(prepare_memory(GOOD.repeat(1_000).as_bytes(), &options).unwrap());
        let total = replay.engine.ledger.total();
        assert_eq!(total.handled + total.rejected_total(), 20_000);
    }
}

#[test]
fn what_is_too_old_expires() {
    let mut options = small();
    change_bulk(&mut options, |bulk| bulk.with_ttl(Duration::from_nanos(1)));
    let replay = run(prepare_memory(GOOD.repeat(1_000).as_bytes(), &options).unwrap());
    let total = replay.engine.ledger.total();
    assert_eq!((total.handled + total.expired, total.accepted), (1_000, 1_000));
}

#[test]
fn a_full_table_counts_what_does_not_fit() {
    let log = Log::generated();
    let mut options = Options { plan: base(2), producers: 2, ..small() };
    options.limits = Limits { clients_max: 10, paths_max: 10, ..options.limits };
    let replay = run(prepare_file(&open(log.path()).unwrap(), &options).unwrap());
    let report = &replay.report;
    assert_eq!((report.requests, report.clients), (LINES, 20));
    // No twenty names have more requests than the most frequent ones.
    let others = |ranked: &Ranked| ranked[20..].iter().map(|(_, n)| n).sum::<u64>();
    let [clients, paths] = [&log.totals.clients, &log.totals.paths].map(others);
    assert!(clients > 0 && report.overflowed.clients >= clients, "{report:?}, {clients}");
    assert!(paths > 0 && report.overflowed.paths >= paths, "{report:?}, {paths}");
}

#[test]
fn the_tables_stand_in_the_footprint_and_are_checked_with_it() {
    let plain = prepare_memory(b"", &small()).unwrap().footprint();
    let mut options = small();
    options.limits.path_bytes_max = Some(options.limits.path_bytes() + 1_000);
    let more = prepare_memory(b"", &options).unwrap().footprint();
    assert_eq!(more.total_bytes(), plain.total_bytes() + 1_000);
    assert!(plain.terms.iter().any(|term| term.name == "client table"), "{plain}");
    options.plan = options.plan.with_memory_max(plain.total_bytes());
    let error = match prepare_memory(b"", &options) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("accepted"),
    };
    assert!(error.contains("footprint") && error.contains(&plain.total_bytes().to_string()), "{error}");
}

/// One line for each read, and before each line the clock moves on by the next step.
struct Stepped<I> {
    time: VirtualTime,
    steps: I,
}

impl<I: Iterator<Item = Duration>> Read for Stepped<I> {
    fn read(&mut self, room: &mut [u8]) -> std::io::Result<usize> {
        let Some(step) = self.steps.next() else { return Ok(0) };
        self.time.advance(step);
        room[..GOOD.len()].copy_from_slice(GOOD.as_bytes());
        Ok(GOOD.len())
    }
}

/// A replay at 1,000 lines a second on a clock that only its own source moves, each event measured.
fn stepped(steps_us: Vec<u64>, ttl: Option<Duration>) -> Replay {
    let (clock, time) = Clock::virtual_time();
    let mut options = Options { rate: Some(1_000), plan: base(1).with_clock(clock), ..small() };
    change_bulk(&mut options, |bulk| {
        let bulk = bulk.with_stamp(Stamp::Every);
        ttl.map_or(bulk.clone(), |ttl| bulk.with_ttl(ttl))
    });
    let steps = steps_us.into_iter().map(Duration::from_micros);
    run(prepare_stream(Stepped { time, steps }, &options).unwrap())
}

#[test]
fn a_schedule_that_can_be_kept_is_kept() {
    let replay = stepped([&[0][..], &[1_000; 99]].concat(), None);
    let kept = replay.kept.unwrap();
    assert_eq!((kept.sent, kept.late, kept.late_max_ns, kept.slept, kept.spun), (100, 0, 0, 0, 0));
    assert_eq!(kept.achieved_per_s, 1_000.0);
}

#[test]
fn a_stall_shows_in_every_event_that_it_delayed() {
    // Line 40 comes 50 ms late, those behind it at once, until the schedule is caught up with at line 90.
    let steps = [&[0][..], &[1_000; 39], &[51_000], &[0; 50], &[1_000; 9]].concat();
    let replay = stepped(steps, None);
    let kept = replay.kept.unwrap();
    assert_eq!((kept.sent, kept.late, kept.late_max_ns), (100, 50, 50_000_000));
    assert_eq!(kept.achieved_per_s, 1_000.0, "it caught up");
    let waits = &replay.engine.classes[2].latency.wait_ns;
    assert_eq!(waits.len(), 100);
    // From the time of publishing they would be next to nothing.
    let long = waits.count_between(25_000_000, u64::MAX);
    assert!(long >= 25, "{long} events waited for 25 ms or more");
    // A source that stays behind lowers the rate: 100 lines in 150 ms.
    let behind = stepped([&[0][..], &[1_500; 99]].concat(), None).kept.unwrap();
    assert_eq!((behind.late, behind.late_max_ns), (99, 49_500_000));
    assert!((behind.achieved_per_s - 100.0 / 0.149_5).abs() < 0.001, "{behind:?}");
}

#[test]
fn the_age_counts_from_the_intended_time() {
    // All but the first line come 50 ms late at once, and then time stands still: line i has waited for 51 − i ms.
    let steps = [&[0][..], &[51_000], &[0; 50]].concat();
    let replay = stepped(steps, Some(Duration::from_millis(10)));
    let bulk = &replay.engine.classes[2];
    // Lines 1 to 40 were more than 10 ms late. The first one may have met the leap of the clock in its lane.
    assert!([40, 41].contains(&bulk.counts.expired), "{}", replay.engine);
    let latest = bulk.latency.lateness_ns.max();
    assert!((40_000_000..42_000_000).contains(&latest), "{latest}");
}

#[test]
fn a_rate_changes_when_lines_are_sent_but_not_what_is_counted() {
    let log = Log::generated();
    let file = open(log.path()).unwrap();
    let free = run(prepare_file(&file, &small()).unwrap());
    assert_eq!(free.kept, None);
    for (shards, producers, rate) in [(1, 1, 400_000), (2, 3, 100_000), (2, 2, 1_000_000_000)] {
        let options = Options { plan: base(shards), producers, rate: Some(rate), ..small() };
        let replay = run(prepare_file(&file, &options).unwrap());
        assert_eq!(replay.report, free.report);
        let kept = replay.kept.unwrap();
        assert_eq!((kept.rate_per_s, kept.sent), (rate, LINES));
        // Nothing goes before its time, so the run lasts at least as long as its schedule.
        let schedule_ns = (LINES / u64::from(producers) - 1) * u64::from(producers) * 1_000_000_000 / rate;
        assert!(replay.elapsed.as_nanos() as u64 >= schedule_ns, "{:?} {schedule_ns}", replay.elapsed);
    }
}

#[test]
fn lines_that_are_not_sent_have_their_time_too() {
    let lines = [GOOD, "what is this\n", GOOD].concat().repeat(50);
    let options = Options { rate: Some(50_000), loops: 2, ..small() };
    let replay = run(prepare_memory(lines.as_bytes(), &options).unwrap());
    let kept = replay.kept.unwrap();
    assert_eq!((kept.intended, kept.sent), (300, 200));
}

#[test]
fn whoever_waits_for_its_time_can_be_stopped() {
    let _watchdog = pelton_testkit::watchdog();
    // The first range ends the run with its second line; the other one has ten minutes of lines to send.
    let lines = [GOOD, "x\n", &GOOD.repeat(600)].concat();
    let options = Options { rate: Some(1), producers: 2, strict: true, ..small() };
    let file = file_of(lines.as_bytes());
    let error = prepare_file(&file, &options).unwrap().run(&Progress::default()).unwrap_err();
    assert!(matches!(error, ReplayError::Strict(noted) if noted.line == 2), "{error}");
}

#[test]
fn a_rate_that_cannot_be_is_refused() {
    let options = Options { producers: 2, ..small() };
    let file = file_of(GOOD.as_bytes());
    for rate in [0, 1_000_000_001] {
        let told = match prepare_file(&file, &Options { rate: Some(rate), ..options.clone() }) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("accepted"),
        };
        assert!(
            told.contains(&format!("rate_lines_per_s is {rate}")) && told.contains("1000000000"),
            "{told}"
        );
    }
}
