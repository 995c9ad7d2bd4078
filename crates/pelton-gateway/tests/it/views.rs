//! Replies of views: their place in a pipeline, their figures, and what a shard that does not answer delays.

use crate::support::{measured, viewed};
use pelton::event::ShardId;
use pelton::{Context, Event};
use pelton_gateway::{Record, Server};
use pelton_testkit::gateway::*;
use pelton_testkit::*;
use pelton_views::{PastKeys, View};
use std::time::{Duration, Instant};

#[test]
fn view_reply_keeps_its_place_in_the_pipeline() {
    let _dog = watchdog();
    let views = [
        View::count("all").over("s"),
        View::count("each").over("s").by("who"),
        View::sum("sums", "n").over("s").by("who"),
        View::count("now").over("s").tumbling(Duration::from_secs(3_600)),
    ];
    let site = Site::open(viewed(2, views));
    let mut tally = Tally::default();
    let mut client = site.client();
    for who in 0..10u64 {
        client.send(&xadds("s", &format!("c{who}"), 0, who + 1));
        client.take("s", who + 1, &mut tally);
    }
    // What was accepted is handled a little later.
    assert!(site.server.engine().drain(DEADLINE));
    let mut pipeline = Vec::new();
    for (at, args) in [
        &["PELTON.VIEW", "all"][..],
        &["PELTON.VIEW", "each", "KEY", "c9"],
        &["PELTON.VIEW", "each", "TOP", "3"],
        &["PELTON.VIEW", "none"],
        &["PELTON.VIEW", "all", "TOP", "many"],
        &["PELTON.VIEW", "all", "WINDOW", "x"],
        &["PELTON.VIEW", "all", "KEY"],
        &["PELTON.VIEW", "now", "WINDOW", "12345"],
        &["PELTON.VIEW", "sums", "KEY", "c3", "TOP", "1", "WINDOW", "CURRENT"],
        &["PELTON.VIEW", "each", "KEY", "nobody"],
    ]
    .iter()
    .enumerate()
    {
        pipeline.extend(request(&["ECHO", &at.to_string()]));
        pipeline.extend(request(args));
        pipeline.extend(xadd("s", "late", at as u64));
    }
    client.send(&pipeline);
    let mut answers = Vec::new();
    for at in 0..10 {
        assert_eq!(client.read().text(), at.to_string());
        answers.push(client.read());
        client.take("s", 1, &mut tally);
    }
    let rows = |at: usize| answers[at].of("rows").items().to_vec();
    let row = |key: &str, value: i64| Reply::Array(vec![Reply::Bulk(key.into()), Reply::Integer(value)]);
    assert!(
        matches!(&rows(0)[..], [Reply::Array(row)] if row[0] == Reply::Null && matches!(row[1], Reply::Integer(55..)))
    );
    assert_eq!(rows(1), [row("c9", 10)]);
    assert_eq!(rows(2), [row("c9", 10), row("c8", 9), row("c7", 8)]);
    for (at, begins) in [(3, "NOVIEW "), (4, "ERR "), (5, "ERR "), (6, "ERR "), (7, "NOWINDOW ")] {
        assert!(answers[at].is_error(begins), "{at}: {:?}", answers[at]);
    }
    assert_eq!(rows(8), [row("c3", 6)]);
    // RESP3 has maps for it.
    client.ask(&["HELLO", "3"]);
    let answer = client.ask(&["PELTON.VIEW", "each", "KEY", "c0"]);
    assert!(matches!(&answer, Reply::Map(_)) && *answer.of("open") == Reply::Boolean(true), "{answer:?}");
    site.settle(&tally);
}

#[test]
fn stuck_shard_delays_one_view_request_only() {
    let _dog = watchdog();
    let views = [View::count("all").over("s"), View::count("each").over("s").by("who")];
    let site = Site::closed(viewed(2, views));
    let mut tally = Tally::default();
    let mut client = site.client();
    client.send(&xadd("s", "a", 0));
    client.take("s", 1, &mut tally);
    // From now on it does not look at its mail.
    site.door.until_waiting(1);
    assert!(client.ask(&["PELTON.VIEW", "all"]).is_error("ERR "));
    // Each of them would wait for seconds, and all together for longer than anybody has patience.
    let mut asking: Vec<_> = (0..20).map(|_| site.client()).collect();
    let questions =
        [request(&["PELTON.VIEW", "all"]), request(&["PELTON.VIEW", "each", "KEY", "a"])].concat();
    asking.iter_mut().for_each(|client| client.send(&questions.repeat(5)));
    for client in &mut asking {
        for _ in 0..10 {
            let answer = client.read();
            let Reply::Error(text) = &answer else { panic!("{answer:?}") };
            assert!(text.starts_with("ERR shard") && text.ends_with(" did not answer"), "{text}");
        }
    }
    site.door.open();
    let begun = Instant::now();
    for view in ["all", "each"] {
        let mut answer = client.ask(&["PELTON.VIEW", view]);
        while answer.is_error("ERR ") || *answer.of("events") == Reply::Integer(0) {
            assert!(begun.elapsed() < DEADLINE, "{answer:?}");
            answer = client.ask(&["PELTON.VIEW", view]);
        }
        assert_eq!(*answer.of("events"), Reply::Integer(1));
    }
    site.settle(&tally);
}

#[test]
fn service_reads_its_handler_and_views_see_its_events() {
    struct Counting {
        seen: u64,
    }
    impl pelton::Handler<Record> for Counting {
        type Output = u64;
        fn on_event(
            &mut self,
            event: &mut Event<'_, Record>,
            _: &mut Context<'_, Record>,
        ) -> pelton::Verdict {
            self.seen += 1;
            // What it writes into its slot is its own affair.
            event.stream = u16::MAX;
            pelton::Verdict::Done
        }
        fn on_stop(self, _: &mut Context<'_, Record>) -> u64 {
            self.seen
        }
    }
    let _dog = watchdog();
    let mut options = options(1, 1, [class("events", 64)]);
    options.views.push(View::count("all").over("events"));
    let mut server = Server::start_with(options, |_| Counting { seen: 0 }).unwrap();
    let mut tally = Tally::default();
    let mut client = Client::new(&server.addresses()[0].address);
    client.send(&xadds("events", "a", 0, 20));
    client.take("events", 20, &mut tally);
    while server.ask(ShardId(0), |own: &mut Counting| own.seen).unwrap() < 20 {
        std::thread::yield_now();
    }
    let told = client.ask(&["PELTON.VIEW", "all"]);
    assert_eq!(*told.of("events"), Reply::Integer(20));
    let mut report = server.stop(Duration::from_secs(5)).unwrap();
    agree(&server, &report, &tally);
    assert_eq!(report.engine.outputs::<u64>(), [20]);
    assert_eq!(server.stop(Duration::ZERO).unwrap_err(), pelton::engine::StopError::Stopped);
}

#[test]
fn view_reports_what_it_omits_or_rounds() {
    const AT_MS: u64 = 1_700_000_000_000;
    const FIGURES: [(&str, i64); 8] = [
        ("late", 2),
        ("ahead", 3),
        ("untimed", 4),
        ("missing", 5),
        ("past", 6),
        ("saturated", 7),
        ("rounded", 8),
        ("events", 1 + 5 + 6 + 7 + 8),
    ];
    let _dog = watchdog();
    let view = View::quantiles("q", "v").over("s").by("who").tumbling(Duration::from_secs(1));
    let view = view.event_time("t", Duration::ZERO).keys(1, PastKeys::Drop);
    let site = Site::open(viewed(1, [view]));
    let mut tally = Tally::default();
    let mut client = site.client();
    let mut pipeline = measured("a", Some(AT_MS), Some("5"));
    let each = [
        measured("a", Some(AT_MS - 1), Some("5")),
        measured("a", Some(1 << 60), Some("5")),
        measured("a", None, Some("5")),
        measured("a", Some(AT_MS), None),
        measured("b", Some(AT_MS), Some("5")),
        measured("a", Some(AT_MS), Some("-1")),
        measured("a", Some(AT_MS), Some("1.00000000001")),
    ];
    for ((_, times), event) in FIGURES.iter().zip(each) {
        pipeline.extend(event.repeat(*times as usize));
    }
    client.send(&pipeline);
    client.take("s", 1 + FIGURES[..7].iter().map(|(_, times)| *times as u64).sum::<u64>(), &mut tally);
    assert!(site.server.engine().drain(DEADLINE));
    for version in ["2", "3"] {
        client.ask(&["HELLO", version]);
        let answer = client.ask(&["PELTON.VIEW", "q"]);
        for (name, count) in FIGURES {
            assert_eq!(*answer.of(name), Reply::Integer(count), "{name}: {answer:?}");
        }
    }
    site.settle(&tally);
}
