//! The gateway as its clients see it: what becomes of an event under each policy, what subscribers and views tell, ids,
//! the end of a server, and that nothing on an event's way allocates. What clients were told is compared with the
//! server's counts, the ledger, and what handlers saw.

use pelton::event::{Rejection, ShardId};
use pelton::memory::seal::Seal;
use pelton::{Class, Context, Event};
use pelton_gateway::{End, Options, Record, Server, ServerReport};
use pelton_testkit::gateway::*;
use pelton_testkit::*;
use pelton_views::{PastKeys, View};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Long enough for an answer that must not come.
const MOMENT: Duration = Duration::from_millis(150);

/// How long after its end a window of arrival time is sent.
const GRACE: Duration = Duration::from_millis(20);

/// How often views of event time are looked at.
const LOOK: Duration = Duration::from_millis(50);

/// A class of four slots, and one with room.
fn small(class_of: impl FnOnce(Class) -> Class) -> Options {
    options(1, 1, [class_of(class("small", 4)), class("roomy", 1_024)])
}

fn error_of(reply: &Reply) -> &str {
    match reply {
        Reply::Error(text) => text,
        other => panic!("no error: {other:?}"),
    }
}

#[test]
fn blocked_connection_waits_while_others_are_served() {
    let _dog = watchdog();
    let site = Site::closed(small(Class::block));
    let mut tally = Tally::default();
    let mut blocked = site.client();
    let mut pipeline = xadds("small", "a", 0, 10);
    pipeline.extend(request(&["ECHO", "behind"]));
    blocked.send(&pipeline);
    blocked.take("small", 4, &mut tally);
    site.until("it waits", |counts| counts.waits == 1);
    assert_eq!(blocked.within(MOMENT), None);
    // What it says meanwhile waits as well.
    blocked.send(&xadd("small", "a", 10));
    let mut other = site.client();
    for n in 0..100 {
        other.ping();
        other.send(&xadd("roomy", "b", n));
        other.take("roomy", 1, &mut tally);
    }
    assert_eq!(blocked.within(MOMENT), None);
    assert_eq!(site.server.counts().streams[0].accepted, 4);
    site.door.open();
    blocked.take("small", 6, &mut tally);
    assert_eq!(blocked.read().text(), "behind");
    blocked.take("small", 1, &mut tally);
    let report = site.settle(&tally);
    assert_eq!(report.gateway.streams[0].accepted, 11);
    assert_eq!(report.gateway.ended(End::Stopped), 2);
    assert_eq!(report.gateway.connections(), 0);
}

#[test]
fn blocked_client_is_woken_when_room_appears() {
    // A thread that nobody wakes sleeps for half a second each time.
    const TIMES: u64 = 250;
    let _dog = watchdog();
    let site = Site::closed(options(1, 1, [class("small", 1)]));
    let mut tally = Tally::default();
    let mut client = site.client();
    for time in 1..=TIMES {
        client.send(&xadds("small", "a", 2 * time, 2));
        client.take("small", 1, &mut tally);
        site.until("it waits", |counts| counts.waits == time);
        site.door.open();
        client.take("small", 1, &mut tally);
        assert!(site.server.engine().drain(DEADLINE));
        site.door.close();
    }
    site.settle(&tally);
}

#[test]
fn blocked_connections_resume_in_fifo_order() {
    const WAITING: u64 = 20;
    let _dog = watchdog();
    // One slot and one key: there is one lane, and room for one after the other.
    let site = Site::closed(options(1, 1, [class("small", 1)]));
    let mut tally = Tally::default();
    let mut first = site.client();
    first.send(&xadd("small", "all", 0));
    first.take("small", 1, &mut tally);
    let mut waiting: Vec<_> = (1..=WAITING)
        .map(|n| {
            let mut client = site.client();
            client.send(&xadd("small", "all", n));
            site.until("it waits", |counts| counts.waits == n);
            client
        })
        .collect();
    site.door.open();
    let mut last = None;
    for client in &mut waiting {
        let reply = client.read();
        client.note("small", &reply, &mut tally);
        let id = id(&reply.text());
        assert!(last < Some(id), "{id} after {last:?}");
        last = Some(id);
    }
    site.settle(&tally);
}

#[test]
fn block_limit_returns_busy_when_it_is_over() {
    let _dog = watchdog();
    let (options, time) = by_hand(small(|class| class.block_for(Duration::from_millis(60))));
    let site = Site::closed(options);
    let mut tally = Tally::default();
    let (mut client, mut other) = (site.client(), site.client());
    let mut pipeline = xadds("small", "a", 0, 7);
    pipeline.extend(request(&["ECHO", "behind"]));
    client.send(&pipeline);
    client.take("small", 4, &mut tally);
    for n in 0..3 {
        site.until("it waits", |counts| counts.waits == n + 1);
        time.advance(Duration::from_millis(59));
        other.pass_a_round();
        assert_eq!(site.server.counts().streams[0].busy, n, "each waits for its own time");
        time.advance(Duration::from_millis(1));
        let reply = client.read();
        let text = error_of(&reply);
        assert_eq!(text, "BUSY class 'small' depth 4 of 4 at shard 0: timed_out");
        client.note("small", &reply, &mut tally);
    }
    assert_eq!(client.read().text(), "behind");
    site.door.open();
    client.send(&xadd("small", "a", 7));
    client.take("small", 1, &mut tally);
    let report = site.settle(&tally);
    assert_eq!(report.engine.ledger.total().rejected_for(Rejection::TimedOut), 3);
    assert_eq!((report.gateway.streams[0].busy, report.gateway.streams[0].accepted), (3, 5));
}

#[test]
fn rejecting_class_returns_busy_in_pipeline_order() {
    let _dog = watchdog();
    let site = Site::closed(small(Class::reject));
    let mut tally = Tally::default();
    let mut client = site.client();
    let mut pipeline = Vec::new();
    for n in 0..100 {
        pipeline.extend(xadd("small", "a", n));
        pipeline.extend(request(&["ECHO", &n.to_string()]));
    }
    client.send(&pipeline);
    for n in 0..100 {
        let reply = client.read();
        if n >= 4 {
            assert_eq!(error_of(&reply), "BUSY class 'small' depth 4 of 4 at shard 0: slots_full");
        }
        client.note("small", &reply, &mut tally);
        assert_eq!(client.read().text(), n.to_string());
    }
    let report = site.settle(&tally);
    assert_eq!(report.engine.ledger.total().rejected_for(Rejection::SlotsFull), 96);
}

#[test]
fn bytes_full_and_too_large_are_distinct_errors() {
    let _dog = watchdog();
    let small = class("small", 64).with_payload_bytes(1 << 10).reject();
    let site = Site::closed(options(1, 1, [small]));
    let mut tally = Tally::default();
    let mut client = site.client();
    let value = "x".repeat(400);
    let add = |value: &str| request(&["XADD", "small", "*", "who", "a", "value", value]);
    let mut pipeline = add(&value);
    pipeline.extend(add(&value));
    pipeline.extend(add(&value));
    pipeline.extend(add(&"x".repeat(2_000)));
    client.send(&pipeline);
    client.take("small", 2, &mut tally);
    let full = client.read();
    assert!(
        full.is_error("BUSY class 'small' depth 2 of ") && full.text().ends_with(": bytes_full"),
        "{full:?}"
    );
    client.note("small", &full, &mut tally);
    let large = client.read();
    assert_eq!(error_of(&large), "ERR not accepted by class 'small': too_large, a payload of 2036 bytes");
    client.note("small", &large, &mut tally);
    let report = site.settle(&tally);
    let total = report.engine.ledger.total();
    assert_eq!((total.rejected_for(Rejection::BytesFull), report.gateway.streams[0].refused), (1, 1));
}

#[test]
fn drop_newest_class_returns_dropped() {
    let _dog = watchdog();
    let site = Site::closed(small(Class::drop_newest));
    let mut tally = Tally::default();
    let mut client = site.client();
    client.send(&xadds("small", "a", 0, 50));
    for n in 0..50 {
        let reply = client.read();
        if n >= 4 {
            assert_eq!(error_of(&reply), "DROPPED class 'small' depth 4 of 4 at shard 0");
        }
        client.note("small", &reply, &mut tally);
    }
    let report = site.settle(&tally);
    assert_eq!(report.engine.ledger.total().rejected_for(Rejection::DroppedNewest), 46);
}

#[test]
fn malformed_xadd_is_rejected_and_never_offered() {
    let _dog = watchdog();
    let mut options = options(1, 1, [class("s", 64)]);
    options.streams[0].payload_max = Some(64);
    let site = Site::open(options);
    let mut tally = Tally::default();
    let mut client = site.client();
    let wide = "x".repeat(80);
    let refused: &[&[&str]] = &[
        &["XADD", "s", "*", "who"],
        &["XADD", "s", "1-1", "who", "a"],
        &["XADD", "s", "*", "n", "1"],
        &["XADD", "s", "MAXLEN", "x", "*", "who", "a"],
        &["XADD", "s", "LIMIT", "1", "*", "who", "a"],
        &["XADD", "s", "NOMKSTREAM", "who", "a"],
        &["XADD", "s", "*", "who", "a", "n"],
        &["XADD", "s", "*", "who", &wide],
        &["XADD", "s", "MINID", "~"],
        &["XADD", "s", "MAXLEN", "~", "1"],
    ];
    for args in refused {
        let reply = client.ask(args);
        assert!(reply.is_error("ERR "), "{args:?}: {reply:?}");
        // Too few arguments for any `XADD` name no stream.
        if args.len() >= 5 {
            client.note("s", &reply, &mut tally);
        }
    }
    let taken: &[&[&str]] = &[
        &["XADD", "s", "NOMKSTREAM", "*", "who", "a"],
        &["xadd", "s", "MAXLEN", "~", "1000", "LIMIT", "10", "*", "who", "a"],
        &["XADD", "s", "maxlen", "=", "1000", "*", "who", "a"],
        &["XADD", "s", "MINID", "0-1", "*", "who", ""],
    ];
    for args in taken {
        let reply = client.ask(args);
        client.note("s", &reply, &mut tally);
        assert!(matches!(reply, Reply::Bulk(_)), "{args:?}: {reply:?}");
    }
    assert!(client.ask(&["XADD", "none", "*", "who", "a"]).is_error("NOSTREAM "));
    assert_eq!(client.ask(&["XLEN", "s"]), Reply::Integer(taken.len() as i64));
    site.settle(&tally);
}

#[test]
fn blocked_client_that_half_closes_is_still_answered() {
    let _dog = watchdog();
    let site = Site::closed(small(Class::block));
    let mut tally = Tally::default();
    let mut client = site.client();
    client.send(&xadds("small", "a", 0, 9));
    client.end();
    client.take("small", 4, &mut tally);
    site.until("it waits", |counts| counts.waits == 1);
    assert_eq!(client.within(MOMENT), None);
    site.door.open();
    client.take("small", 5, &mut tally);
    assert_eq!(client.next(), None);
    site.until("it has left", |counts| counts.ended(End::Client) == 1);
    site.settle(&tally);
}

#[test]
fn blocked_client_that_vanishes_publishes_nothing_more() {
    let _dog = watchdog();
    let site = Site::closed(small(Class::block));
    let mut tally = Tally::default();
    let mut first = site.client();
    first.send(&xadds("small", "a", 0, 4));
    first.take("small", 4, &mut tally);
    let mut gone = std::net::TcpStream::connect(&site.address).unwrap();
    std::io::Write::write_all(&mut gone, &xadds("small", "b", 0, 3)).unwrap();
    site.until("it waits", |counts| counts.waits == 1);
    reset(gone);
    site.until("it is let go", |counts| counts.ended(End::Broken) == 1);
    site.door.open();
    first.send(&xadd("small", "a", 4));
    first.take("small", 1, &mut tally);
    let report = site.settle(&tally);
    assert_eq!(report.gateway.streams[0].accepted, 5);
}

#[test]
fn ids_are_unique_over_threads_and_increase_on_each_connection() {
    const CLIENTS: usize = 8;
    const EACH: u64 = 3_000;
    let _dog = watchdog();
    let site = Site::open(options(2, 2, [class("s", 256)]));
    let mut tally = Tally::default();
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| site.client()).collect();
    let mut numbers = BTreeSet::new();
    for (at, client) in clients.iter_mut().enumerate() {
        let Reply::Integer(number) = client.ask(&["CLIENT", "ID"]) else { panic!("no number") };
        assert!(numbers.insert(number));
        assert_eq!(client.ask(&["CLIENT", "SETNAME", &format!("c{at}")]).text(), "OK");
        assert_eq!(client.ask(&["HELLO", "3"]).of("id"), &Reply::Integer(number));
    }
    let list = clients[0].ask(&["CLIENT", "LIST"]).text();
    let word = |line: &str, name: &str| {
        line.split(' ')
            .find_map(|word| word.strip_prefix(name))
            .unwrap_or_else(|| panic!("{line}"))
            .to_string()
    };
    let listed: BTreeMap<i64, _> =
        list.lines().map(|line| (word(line, "id=").parse().unwrap(), word(line, "name="))).collect();
    assert_eq!(listed.keys().copied().collect::<BTreeSet<_>>(), numbers);
    assert_eq!(listed.values().collect::<BTreeSet<_>>().len(), CLIENTS);
    let threads: BTreeSet<_> = list.lines().map(|line| word(line, "io-thread=")).collect();
    assert_eq!(threads.len(), 2, "{list}");
    let told: Vec<_> = std::thread::scope(|scope| {
        let told: Vec<_> = clients
            .iter_mut()
            .enumerate()
            .map(|(at, client)| {
                scope.spawn(move || {
                    let mut tally = Tally::default();
                    for first in (0..EACH).step_by(100) {
                        client.send(&xadds("s", &format!("c{at}"), first, 100));
                        client.take("s", 100, &mut tally);
                    }
                    tally
                })
            })
            .collect();
        told.into_iter().map(|told| told.join().unwrap()).collect()
    });
    told.into_iter().for_each(|told| tally.add(told));
    assert_eq!(tally.of("s").ids.len() as u64, CLIENTS as u64 * EACH);
    drop(clients);
    site.until("all have left", |counts| counts.connections() == 0);
    site.settle(&tally);
}

/// What a subscriber was told: ids of events, and how many it lost.
#[derive(Default)]
struct Heard {
    ids: Vec<pelton_gateway::Id>,
    lost: u64,
}

impl Heard {
    #[track_caller]
    fn note(&mut self, reply: &Reply) {
        let items = reply.items();
        assert!(["message", "pmessage"].contains(&items[0].text().as_str()), "{reply:?}");
        let message: serde_json::Value = serde_json::from_str(&items.last().unwrap().text()).unwrap();
        match message["lost"].as_u64() {
            Some(lost) => {
                assert!(lost > 0);
                self.lost += lost;
            }
            None => self.ids.push(id(message["id"].as_str().unwrap())),
        }
    }

    fn total(&self) -> u64 {
        self.ids.len() as u64 + self.lost
    }
}

#[test]
fn subscribers_receive_each_event_once_in_order() {
    let _dog = watchdog();
    let site = Site::open(options(1, 2, [class("one", 256), class("two", 256)]));
    let mut tally = Tally::default();
    let (mut by_name, mut by_pattern) = (site.client(), site.client());
    let told = by_name.ask(&["SUBSCRIBE", "stream:one"]);
    assert_eq!(told.items()[2], Reply::Integer(1));
    assert_eq!(by_pattern.ask(&["HELLO", "3"]).of("proto"), &Reply::Integer(3));
    let told = by_pattern.ask(&["PSUBSCRIBE", "stream:*"]);
    assert!(matches!(&told, Reply::Push(items) if items[0].text() == "psubscribe"), "{told:?}");
    assert_eq!(site.server.counts().subscriptions, 2);
    let mut client = site.client();
    let mut ids = Vec::new();
    for n in 0..500 {
        let stream = if n % 2 == 0 { "one" } else { "two" };
        client.send(&xadd(stream, "a\u{1F600}\"", n));
        let reply = client.read();
        client.note(stream, &reply, &mut tally);
        ids.push(id(&reply.text()));
    }
    let mut heard = Heard::default();
    for n in 0..250u64 {
        let message = by_name.read();
        assert!(
            matches!(&message, Reply::Array(items) if items.len() == 3 && items[1].text() == "stream:one")
        );
        let json: serde_json::Value = serde_json::from_str(&message.items()[2].text()).unwrap();
        assert_eq!(json["fields"], serde_json::json!({"who": "a\u{1F600}\"", "n": (2 * n).to_string()}));
        heard.note(&message);
    }
    assert_eq!(heard.ids, ids.iter().copied().step_by(2).collect::<Vec<_>>());
    // Classes apart keep no order among each other.
    let mut heard: BTreeMap<String, Heard> = BTreeMap::new();
    for _ in 0..500 {
        let message = by_pattern.read();
        assert!(matches!(&message, Reply::Push(items) if items.len() == 4 && items[1].text() == "stream:*"));
        heard.entry(message.items()[2].text()).or_default().note(&message);
    }
    assert_eq!(heard["stream:one"].ids, ids.iter().copied().step_by(2).collect::<Vec<_>>());
    assert_eq!(heard["stream:two"].ids, ids.iter().copied().skip(1).step_by(2).collect::<Vec<_>>());
    // One who speaks RESP3 goes on as it likes.
    by_pattern.ping();
    by_pattern.send(&xadd("one", "b", 0));
    let replies = [by_pattern.read(), by_pattern.read()];
    let at = replies.iter().position(|reply| matches!(reply, Reply::Bulk(_))).expect("an id");
    by_pattern.note("one", &replies[at], &mut tally);
    assert!(matches!(&replies[1 - at], Reply::Push(_)));
    heard.entry("stream:one".into()).or_default().note(&by_name.read());
    // Who unsubscribes is told nothing more.
    assert_eq!(by_name.ask(&["UNSUBSCRIBE"]).items()[2], Reply::Integer(0));
    assert_eq!(by_pattern.ask(&["PUNSUBSCRIBE", "stream:*"]).items()[2], Reply::Integer(0));
    assert_eq!(site.server.counts().subscriptions, 0);
    client.send(&xadd("one", "a", 1_000));
    client.take("one", 1, &mut tally);
    by_name.ping();
    by_pattern.ping();
    assert_eq!((by_name.within(MOMENT), by_pattern.within(MOMENT)), (None, None));
    assert_eq!(site.server.counts().messages_lost, 0);
    site.settle(&tally);
}

#[test]
fn subscriber_may_run_few_commands_and_is_uncounted_when_it_leaves() {
    let _dog = watchdog();
    let site = Site::open(options(1, 2, [class("one", 64), class("two", 64)]));
    let mut client = site.client();
    assert!(client.ask(&["SUBSCRIBE", "stream:none"]).is_error("NOCHANNEL "));
    client.ping();
    client.send(&request(&["SUBSCRIBE", "stream:one", "stream:two", "stream:one"]));
    for count in [1, 2, 2] {
        assert_eq!(client.read().items()[2], Reply::Integer(count));
    }
    for refused in [&["XADD", "one", "*", "who", "a"][..], &["ECHO", "x"], &["HELLO", "3"], &["CLIENT", "ID"]]
    {
        let reply = client.ask(refused);
        assert!(reply.is_error("ERR Can't execute '"), "{refused:?}: {reply:?}");
    }
    assert_eq!(
        client.ask(&["PING", "x"]),
        Reply::Array(vec![Reply::Bulk("pong".into()), Reply::Bulk("x".into())])
    );
    assert_eq!(site.server.counts().subscriptions, 2);
    assert_eq!(client.ask(&["RESET"]).text(), "RESET");
    assert_eq!(site.server.counts().subscriptions, 0);
    client.ping();
    assert_eq!(client.ask(&["PSUBSCRIBE", "*"]).items()[2], Reply::Integer(1));
    let mut other = site.client();
    assert_eq!(other.ask(&["SUBSCRIBE", "stream:one"]).items()[2], Reply::Integer(1));
    assert_eq!(site.server.counts().subscriptions, 2);
    drop(client);
    site.until("it is counted out", |counts| counts.subscriptions == 1);
    assert_eq!(other.ask(&["QUIT"]).text(), "OK");
    assert_eq!(other.next(), None);
    site.until("so is the other", |counts| counts.subscriptions == 0);
    let mut tally = Tally::default();
    let mut client = site.client();
    client.send(&xadd("one", "a", 0));
    client.take("one", 1, &mut tally);
    let report = site.settle(&tally);
    assert_eq!(report.gateway.messages, 0);
}

#[test]
fn slow_subscriber_loses_only_its_own_messages_and_gets_the_count() {
    const EVENTS: u64 = 20_000;
    let _dog = watchdog();
    let options =
        Options { subscriber_bytes_max: 16 << 10, tap_slots: 1 << 15, ..options(1, 1, [class("s", 1_024)]) };
    let site = Site::open(options);
    let mut tally = Tally::default();
    let mut quick = site.client();
    quick.ask(&["SUBSCRIBE", "stream:s"]);
    let mut slow = Client::narrow(&site.address);
    slow.ask(&["SUBSCRIBE", "stream:s"]);
    let reader = std::thread::spawn(move || {
        let mut heard = Heard::default();
        while heard.total() < EVENTS {
            heard.note(&quick.read());
        }
        heard
    });
    let mut client = site.client();
    let padding = "x".repeat(400);
    for first in (0..EVENTS).step_by(50) {
        let event = |n: u64| request(&["XADD", "s", "*", "who", "a", "n", &n.to_string(), "p", &padding]);
        client.send(&(first..first + 50).flat_map(event).collect::<Vec<_>>());
        client.take("s", 50, &mut tally);
    }
    let counts = site.until("a message is lost", |counts| counts.messages_lost > 0);
    assert_eq!(counts.ended(End::Stalled), 0);
    let mut heard = Heard::default();
    while heard.total() < EVENTS {
        heard.note(&slow.read());
    }
    assert_eq!(heard.total(), EVENTS);
    assert!(heard.lost > 0 && heard.ids.is_sorted());
    let quick = reader.join().unwrap();
    assert_eq!(quick.total(), EVENTS);
    assert!(quick.ids.is_sorted());
    // Nothing more is to come.
    slow.send(&request(&["PING"]));
    assert_eq!(slow.read().items()[0].text(), "pong");
    let report = site.settle(&tally);
    assert_eq!(report.gateway.messages_lost, heard.lost + quick.lost);
}

#[test]
fn subscriber_with_pending_messages_is_still_read() {
    let _dog = watchdog();
    // More than systems at both ends take over, with the probes that they send.
    let options =
        Options { subscriber_bytes_max: 4 << 20, tap_slots: 1 << 15, ..options(1, 1, [class("s", 1_024)]) };
    let site = Site::open(options);
    let mut tally = Tally::default();
    let mut slow = Client::narrow(&site.address);
    slow.ask(&["SUBSCRIBE", "stream:s"]);
    let mut client = site.client();
    let padding = "x".repeat(4_000);
    let mut n = 0;
    let mut publish = |until: &dyn Fn() -> bool| {
        while !until() {
            client.send(&request(&["XADD", "s", "*", "who", "a", "n", &n.to_string(), "p", &padding]));
            client.take("s", 1, &mut tally);
            n += 1;
        }
    };
    // It takes nothing, and more comes all the time.
    publish(&|| site.server.counts().messages_lost > 0);
    assert_eq!(site.server.counts().subscriptions, 1);
    slow.send(&[request(&["PING"]), request(&["UNSUBSCRIBE"]), request(&["PING"])].concat());
    publish(&|| site.server.counts().subscriptions == 0);
    // Now it reads: all that was pending, and its answers behind that.
    let mut heard = Heard::default();
    let answers: Vec<_> = loop {
        let reply = slow.read();
        if reply.items().first().is_some_and(|word| word.text() == "pong") {
            break vec![reply, slow.read(), slow.read()];
        }
        heard.note(&reply);
    };
    assert!(heard.ids.is_sorted() && !heard.ids.is_empty());
    assert_eq!(answers[1].items()[0].text(), "unsubscribe");
    assert_eq!(answers[2].text(), "PONG");
    slow.ping();
    site.settle(&tally);
}

#[test]
fn message_that_never_fits_is_reported_lost_at_once() {
    let _dog = watchdog();
    let site = Site::open(Options { subscriber_bytes_max: 1 << 10, ..options(1, 1, [class("s", 64)]) });
    let mut tally = Tally::default();
    let mut subscriber = site.client();
    subscriber.ask(&["SUBSCRIBE", "stream:s"]);
    let mut client = site.client();
    let reply = client.ask(&["XADD", "s", "*", "who", "a", "value", &"x".repeat(2_000)]);
    client.note("s", &reply, &mut tally);
    let mut heard = Heard::default();
    heard.note(&subscriber.read());
    assert_eq!((heard.lost, heard.ids.len()), (1, 0));
    client.send(&xadd("s", "a", 1));
    client.take("s", 1, &mut tally);
    heard.note(&subscriber.read());
    assert_eq!((heard.lost, heard.ids.len()), (1, 1));
    site.settle(&tally);
}

#[test]
fn subscriber_that_never_catches_up_stays_within_its_bound() {
    const ALONE: &str = "PELTON_TEST_RESIDENT";
    const HEARD_BYTES: usize = 64 << 20;
    // What other tests take would be counted here.
    if std::env::var_os(ALONE).is_none() {
        print!("{}", in_a_process_of_its_own(ALONE, &[]));
        return;
    }
    let _dog = watchdog_for(Duration::from_secs(150));
    let options =
        Options { subscriber_bytes_max: 4 << 20, ..options(1, 1, [class("s", 1_024).drop_newest()]) };
    let server = Server::start(options).unwrap();
    let address = server.addresses()[0].address.clone();
    let mut slow = Client::new(&address);
    slow.ask(&["SUBSCRIBE", "stream:s"]);
    let stop = AtomicBool::new(false);
    let (before, most) = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = Client::new(&address);
            let add = request(&["XADD", "s", "*", "who", "a", "p", &"x".repeat(4_000)]).repeat(32);
            while !stop.load(Ordering::Relaxed) {
                client.send(&add);
                (0..32).for_each(|_| drop(client.read()));
            }
        });
        let (mut before, mut most, mut heard) = (0, 0, 0);
        let mut lost = 0;
        while heard < HEARD_BYTES {
            // As much is pending as may be, and it does not come to an end.
            while server.counts().messages_lost == lost {
                std::thread::sleep(Duration::from_micros(200));
            }
            heard += slow.sip(256 << 10, DEADLINE).expect("messages come");
            slow.whole();
            if before == 0 && heard > 8 << 20 {
                before = resident();
            }
            most = most.max(resident());
            lost = server.counts().messages_lost;
        }
        stop.store(true, Ordering::Relaxed);
        (before, most)
    });
    assert!(most - before < 24 << 20, "{} more bytes", most - before);
    assert!(server.counts().messages_lost > 0, "it did catch up");
    let mut server = server;
    let report = server.stop(DEADLINE).unwrap();
    assert!(report.engine.ledger.is_closed());
}

#[test]
fn events_lost_in_a_tap_are_reported_to_subscribers() {
    let _dog = watchdog();
    let options = Options { tap_slots: 64, ..options(1, 1, [class("s", 4_096)]) };
    let site = Site::open(options);
    let mut tally = Tally::default();
    let mut subscriber = site.client();
    subscriber.ask(&["SUBSCRIBE", "stream:s"]);
    let mut client = site.client();
    let (mut heard, mut sent) = (Heard::default(), 0);
    // How much finds room is a matter of luck; not that it comes to nothing more than there is.
    while heard.lost == 0 {
        client.send(&xadds("s", "a", sent, 2_000));
        client.take("s", 2_000, &mut tally);
        sent += 2_000;
        while heard.total() < sent {
            heard.note(&subscriber.read());
        }
        assert_eq!(heard.total(), sent);
    }
    assert!(heard.ids.is_sorted());
    let report = site.settle(&tally);
    assert_eq!(report.gateway.messages_lost, heard.lost);
}

fn viewed(shards: u16, views: impl IntoIterator<Item = View>) -> Options {
    let mut options = options(shards, 1, [class("s", 256)]);
    options.views = views.into_iter().collect();
    options.plan = options.reserve(options.plan.clone());
    options
}

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
fn view_subscribers_receive_each_closed_window_once() {
    const WINDOW_MS: u64 = 250;
    let _dog = watchdog();
    let views =
        [View::count("w").over("s").tumbling(Duration::from_millis(WINDOW_MS)), View::count("all").over("s")];
    let (options, time) = by_hand(viewed(1, views));
    let site = Site::open(options);
    // A window that has ended is sent a little later.
    time.advance(GRACE);
    let mut tally = Tally::default();
    let mut listeners = [site.client(), site.client()];
    listeners.iter_mut().for_each(|client| {
        client.ask(&["SUBSCRIBE", "view:w"]);
    });
    let stop = AtomicBool::new(false);
    let windows = std::thread::scope(|scope| {
        // Others ask all the time, and keep nobody from being told.
        for _ in 0..6 {
            scope.spawn(|| {
                let mut client = site.client();
                while !stop.load(Ordering::Relaxed) {
                    client.send(&request(&["PELTON.VIEW", "all"]).repeat(16));
                    (0..16).for_each(|_| drop(client.read()));
                }
            });
        }
        let told = scope.spawn(|| {
            let mut client = site.client();
            let (mut tally, mut n) = (Tally::default(), 0);
            while !stop.load(Ordering::Relaxed) {
                client.send(&xadd("s", "a", n));
                client.take("s", 1, &mut tally);
                n += 1;
            }
            tally
        });
        let mut windows = [Vec::new(), Vec::new()];
        for _ in 0..8 {
            let before = site.server.counts().streams[0].accepted;
            site.until("there are events in it", |counts| counts.streams[0].accepted > before + 10);
            time.advance(Duration::from_millis(WINDOW_MS));
            for (client, windows) in listeners.iter_mut().zip(&mut windows) {
                let message = client.read();
                assert_eq!(message.items()[1].text(), "view:w");
                let json: serde_json::Value = serde_json::from_str(&message.items()[2].text()).unwrap();
                let count = json["rows"][0][1].as_u64().unwrap_or(0);
                assert_eq!(json["events"], count);
                windows.push((json["end"].as_u64().unwrap(), count));
            }
        }
        stop.store(true, Ordering::Relaxed);
        tally.add(told.join().unwrap());
        windows
    });
    for windows in &windows {
        assert!(windows.windows(2).all(|two| two[1].0 == two[0].0 + WINDOW_MS), "{windows:?}");
    }
    let [one, other] = windows.map(BTreeMap::from_iter);
    for (end, count) in &one {
        assert!(other.get(end).is_none_or(|others| others == count), "{one:?} {other:?}");
    }
    assert!(one.values().sum::<u64>() <= tally.of("s").ids.len() as u64);
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
fn windows_that_cannot_be_sent_are_counted() {
    const WINDOW_MS: u64 = 20;
    let _dog = watchdog();
    const WINDOW: Duration = Duration::from_millis(WINDOW_MS);
    let (options, time) = by_hand(viewed(1, [View::count("w").over("s").tumbling(WINDOW)]));
    let site = Site::closed(options);
    let mut tally = Tally::default();
    let (mut client, mut listener) = (site.client(), site.client());
    listener.ask(&["SUBSCRIBE", "view:w"]);
    let json = |message: &Reply| -> serde_json::Value {
        assert_eq!(message.items()[1].text(), "view:w");
        serde_json::from_str(&message.items()[2].text()).unwrap()
    };
    // The end of the window that came last, how many were lost and how many events were told.
    let (mut end, mut lost, mut events) = (None, 0, 0);
    let mut hear = |message: Reply| {
        let json = json(&message);
        assert_eq!(json["view"], "w");
        if let Some(n) = json["lost"].as_u64() {
            lost += n;
            end = end.map(|end| end + n * WINDOW_MS);
        } else {
            let now = json["end"].as_u64().unwrap();
            assert!(end.is_none_or(|end| now == end + WINDOW_MS), "{now} behind {end:?}, {lost} lost");
            (end, events) = (Some(now), events + json["events"].as_u64().unwrap());
        }
        (end, lost, events)
    };
    time.advance(WINDOW);
    let last_ms = hear(listener.read()).0.unwrap();
    client.send(&xadd("s", "a", 0));
    client.take("s", 1, &mut tally);
    // From here on the shard waits.
    site.door.until_waiting(1);
    time.advance(40 * WINDOW);
    let until_ms = last_ms + 40 * WINDOW_MS;
    // The newest event decides which windows are still kept.
    client.send(&xadd("s", "a", 1));
    client.take("s", 1, &mut tally);
    site.door.open();
    let mut heard = (Some(last_ms), 0, 0);
    while heard.1 == 0 || heard.0.unwrap() < until_ms + 10 * WINDOW_MS {
        time.advance(WINDOW);
        while let Some(message) = listener.within(Duration::from_millis(2)) {
            heard = hear(message);
        }
    }
    assert!(heard.1 >= 20 && heard.2 <= 2, "{heard:?}");
    // Some may be lost between the last look and this one; none is forgotten.
    let Reply::Integer(all) = client.ask(&["PELTON.VIEW", "w"]).of("lost").clone() else {
        panic!("no number")
    };
    assert!(all >= heard.1 as i64, "{all} of {heard:?}");
    site.settle(&tally);
}

#[test]
#[cfg_attr(not(feature = "audit"), ignore = "needs the feature `audit`")]
fn publishing_does_not_allocate_after_warm_up() {
    const CLIENTS: u64 = 8;
    const PIPELINE: u64 = 64;
    const EACH: u64 = 200_000 / CLIENTS / PIPELINE + 1;
    let _dog = watchdog_for(Duration::from_secs(180));
    let handler = |_: ShardId| |_: &mut Event<'_, Record>, _: &mut Context<'_, Record>| ();
    let mut server = Server::start_with(options(2, 1, [class("s", 256)]), handler).unwrap();
    let address = server.addresses()[0].address.clone();
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| Client::new(&address)).collect();
    let rounds = |clients: &mut [Client], count: u64| {
        std::thread::scope(|scope| {
            for (at, client) in clients.iter_mut().enumerate() {
                scope.spawn(move || {
                    let pipeline = xadds("s", &at.to_string(), 0, PIPELINE);
                    for _ in 0..count {
                        client.send(&pipeline);
                        (0..PIPELINE).for_each(|_| assert!(matches!(client.read(), Reply::Bulk(_))));
                    }
                });
            }
        });
    };
    rounds(&mut clients, 200);
    server.engine().seal(Seal::Count).unwrap();
    // The count is of the last round.
    clients[0].pass_a_round();
    let before = server.counts();
    assert!(before.allocations > 0, "nobody counts");
    rounds(&mut clients, EACH);
    clients[0].pass_a_round();
    let after = server.counts();
    assert_eq!(after.allocations - before.allocations, 0);
    assert!(after.streams[0].accepted - before.streams[0].accepted >= 200_000);
    let report = server.stop(DEADLINE).unwrap();
    report.engine.assert_sealed();
    assert_closed(&report.engine);
    assert_eq!(report.engine.ledger.total().handled, after.streams[0].accepted);
}

/// Clients that publish until their connection ends: what each was told.
fn publish_until_the_end(site: &mut Site, is_drained: bool, stop: impl FnOnce(&mut Server) -> ServerReport) {
    const CLIENTS: usize = 6;
    let clients: Vec<_> = (0..CLIENTS).map(|_| site.client()).collect();
    let running = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let threads: Vec<_> = clients
        .into_iter()
        .enumerate()
        .map(|(at, mut client)| {
            let running = running.clone();
            std::thread::spawn(move || {
                let (mut tally, mut n) = (Tally::default(), 0);
                loop {
                    if !client.try_send(&xadds("s", &at.to_string(), n, 64)) {
                        break;
                    }
                    n += 64;
                    for _ in 0..64 {
                        let Some(reply) = client.next() else { return tally };
                        client.note("s", &reply, &mut tally);
                    }
                    if n == 640 {
                        running.fetch_add(1, Ordering::Relaxed);
                    }
                }
                while let Some(reply) = client.next() {
                    client.note("s", &reply, &mut tally);
                }
                tally
            })
        })
        .collect();
    while running.load(Ordering::Relaxed) < CLIENTS {
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut report = stop(&mut site.server);
    assert_closed(&report.engine);
    let mut told = BTreeSet::new();
    for thread in threads {
        told.extend(thread.join().unwrap().of("s").ids);
    }
    let seen: BTreeSet<_> =
        report.engine.outputs::<Seen>().into_iter().flatten().map(|(_, id, _, _)| id).collect();
    let total = report.engine.ledger.total();
    assert_eq!(total.accepted, report.gateway.streams[0].accepted);
    assert_eq!(seen.len() as u64, total.handled);
    // What is not handled in a hurry was accepted all the same.
    let unseen = told.difference(&seen).count() as u64;
    assert!(unseen <= total.in_flight, "{unseen} ids were given to clients and not accepted: {total:?}");
    assert!(told.len() as u64 <= total.accepted);
    is_drained.then(|| assert!(report.engine.drained && total.in_flight == 0, "{total:?}"));
    assert_eq!(report.gateway.connections(), 0);
}

#[test]
fn every_id_returned_before_a_stop_was_accepted() {
    let _dog = watchdog();
    for threads in [1, 2] {
        let mut site = Site::open(options(2, threads, [class("s", 256)]));
        publish_until_the_end(&mut site, true, |server| server.stop(DEADLINE).unwrap());
    }
}

#[test]
fn forced_stop_accounts_for_everything() {
    let _dog = watchdog();
    let mut site = Site::open(options(2, 2, [class("s", 256)]));
    publish_until_the_end(&mut site, false, |server| {
        server.force_stop().now();
        server.stop(DEADLINE).unwrap()
    });
}

#[test]
fn stop_flushes_replies_to_a_slow_reader() {
    let _dog = watchdog();
    let mut site = Site::open(options(1, 1, [class("s", 1_024)]));
    let mut client = Client::narrow(&site.address);
    let echo = "x".repeat(64 << 10);
    client.send(&request(&["ECHO", &echo]).repeat(16));
    site.until("all is answered", |counts| counts.commands == 16);
    let reader = std::thread::spawn(move || {
        let replies = client.rest();
        replies.iter().filter(|reply| reply.text().len() == 64 << 10).count()
    });
    let report = site.server.stop(DEADLINE).unwrap();
    assert!(report.engine.ledger.is_closed());
    assert_eq!(reader.join().unwrap(), 16);
    assert_eq!(report.gateway.ended(End::Stopped), 1);
}

#[test]
fn stop_is_bounded_whatever_shards_and_clients_do() {
    const DEADLINE: Duration = Duration::from_millis(300);
    let _dog = watchdog();
    let mut options = viewed(1, [View::count("all").over("s")]);
    options.plan.class(class("unused", 64));
    let mut site = Site::closed(options);
    // One reads nothing, one waits for room, some ask for a view: nobody lets the server go.
    let mut deaf = Client::narrow(&site.address);
    deaf.send(&request(&["ECHO", &"x".repeat(32 << 10)]).repeat(20));
    let mut blocked = site.client();
    blocked.send(&xadds("s", "a", 0, 1_000));
    site.until("it waits", |counts| counts.waits == 1);
    let mut asking: Vec<_> = (0..4).map(|_| site.client()).collect();
    asking.iter_mut().for_each(|client| client.send(&request(&["PELTON.VIEW", "all"])));
    site.until("all is said", |counts| counts.commands == 20 + 256 + 4);
    let begun = Instant::now();
    let report = site.server.stop(DEADLINE).unwrap();
    let took = begun.elapsed();
    site.door.open();
    assert_closed(&report.engine);
    assert!(!report.engine.drained);
    assert_eq!(report.engine.ledger.total().in_flight, 256);
    let most = DEADLINE + pelton::engine::STOP_GRACE + Duration::from_secs(1);
    assert!(took < most, "{took:?}, and at most {most:?}");
}

#[test]
fn force_stop_ends_a_stop_that_waits_for_a_shard() {
    let _dog = watchdog();
    let mut site = Site::closed(options(1, 1, [class("s", 64)]));
    let mut client = site.client();
    client.send(&xadds("s", "a", 0, 10));
    let mut tally = Tally::default();
    client.take("s", 10, &mut tally);
    let hurry = site.server.force_stop();
    let begun = Instant::now();
    let stopping = std::thread::spawn(move || {
        let report = site.server.stop(Duration::from_secs(50)).unwrap();
        (site, report)
    });
    assert_eq!(client.next(), None);
    hurry.now();
    let (site, report) = stopping.join().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    site.door.open();
    assert_closed(&report.engine);
    assert_eq!((report.engine.ledger.total().in_flight, report.gateway.streams[0].accepted), (10, 10));
}

#[test]
fn stop_waits_for_shards_until_its_deadline() {
    struct Slow(u64);
    impl pelton::Handler<Record> for Slow {
        type Output = u64;
        fn on_event(&mut self, _: &mut Event<'_, Record>, _: &mut Context<'_, Record>) -> pelton::Verdict {
            self.0 += 1;
            pelton::Verdict::Done
        }
        fn on_stop(self, _: &mut Context<'_, Record>) -> u64 {
            std::thread::sleep(2 * pelton::engine::STOP_GRACE);
            self.0
        }
    }
    let _dog = watchdog();
    let mut server = Server::start_with(small(Class::block), |_| Slow(0)).unwrap();
    let mut client = Client::new(&server.addresses()[0].address);
    client.send(&xadd("small", "a", 1));
    id(&client.read().text());
    let mut report = server.stop(DEADLINE).unwrap();
    assert_closed(&report.engine);
    assert_eq!(report.engine.outputs::<u64>(), [1]);
}

#[test]
fn half_closed_blocked_client_does_not_wait_forever() {
    let _dog = watchdog();
    let mut options = small(Class::block);
    options.stall = Duration::from_secs(1);
    let (options, time) = by_hand(options);
    let site = Site::closed(options);
    let mut tally = Tally::default();
    let (mut gone, mut other) = (site.client(), site.client());
    gone.send(&xadds("small", "a", 0, 10));
    gone.take("small", 4, &mut tally);
    site.until("it waits", |counts| counts.waits == 1);
    gone.end();
    time.advance(Duration::from_secs(1));
    other.pass_a_round();
    assert_eq!(site.server.counts().ended(End::Stalled), 0);
    // Its shard takes nothing, and will not before it is gone.
    let second = (&time, Duration::from_secs(1));
    site.until_later(second, "it is ended", |counts| counts.ended(End::Stalled) == 1);
    site.door.open();
    let report = site.settle(&tally);
    assert_eq!(report.gateway.streams[0].accepted, 4);
}

#[test]
fn transaction_with_an_invalid_request_is_discarded() {
    let _dog = watchdog();
    let site = Site::open(small(Class::block));
    let mut tally = Tally::default();
    let mut client = site.client();
    let add = |n: u64| xadd("roomy", "a", n);
    let word = |word: &str| request(&[word]);
    // Whole, with what came behind it in the same write, and answers in order.
    client.send(&[word("MULTI"), add(0), add(1), request(&["ECHO", "x"]), word("EXEC"), add(2)].concat());
    assert_eq!(client.read().text(), "OK");
    assert!((0..3).all(|_| client.read().text() == "QUEUED"));
    let answers = client.read();
    let answers = answers.items();
    answers[..2].iter().for_each(|reply| client.note("roomy", reply, &mut tally));
    assert_eq!((answers.len(), answers[2].text().as_str()), (3, "x"));
    client.take("roomy", 1, &mut tally);
    assert_eq!([&["MULTI"], &["EXEC"]].map(|words| client.ask(words)).last().unwrap().items().len(), 0);
    let told = site.until("three are taken", |counts| counts.streams[1].accepted == 3);
    // Not at all: it is discarded, or one of its requests is none.
    let say = |client: &mut Client, words: &[&str]| match client.ask(words) {
        Reply::Error(text) => text,
        reply => reply.text(),
    };
    let xadd = ["XADD", "roomy", "*", "who", "a", "n", "9"];
    for wrong in [&["NONE"][..], &["XADD", "roomy", "*"], &["SUBSCRIBE", "stream:small"], &["HELLO", "3"]] {
        assert_eq!([&["MULTI"][..], &xadd].map(|words| say(&mut client, words)), ["OK", "QUEUED"]);
        assert!(client.ask(wrong).is_error("ERR "), "{wrong:?}");
        assert_eq!(say(&mut client, &xadd), "QUEUED");
        let end = say(&mut client, &["EXEC"]);
        assert_eq!(end, "EXECABORT Transaction discarded because of previous errors.");
    }
    for end in ["DISCARD", "RESET"] {
        assert_eq!([&["MULTI"][..], &xadd].map(|words| say(&mut client, words)), ["OK", "QUEUED"]);
        assert!(client.ask(&["MULTI"]).is_error("ERR MULTI calls can not be nested"));
        say(&mut client, &[end]);
    }
    assert!(client.ask(&["EXEC"]).is_error("ERR EXEC without MULTI"));
    assert!(client.ask(&["DISCARD"]).is_error("ERR DISCARD without MULTI"));
    assert_eq!(site.server.counts().streams[1].accepted, told.streams[1].accepted);
    site.settle(&tally);
}

#[test]
fn transaction_waits_for_room_and_may_exceed_a_read() {
    let _dog = watchdog();
    let site = Site::closed(Options { read_budget_bytes: 4_096, ..small(Class::block) });
    let mut tally = Tally::default();
    let mut client = site.client();
    let adds: Vec<_> = (0..300).flat_map(|n| xadd("small", "a", n)).collect();
    client.send(&[request(&["MULTI"]), adds, request(&["EXEC"]), request(&["ECHO", "behind"])].concat());
    for n in 0..=300 {
        assert_eq!(client.read().text(), if n == 0 { "OK" } else { "QUEUED" });
    }
    site.until("it waits", |counts| counts.waits == 1);
    assert_eq!(site.server.counts().streams[0].accepted, 4);
    site.door.open();
    let answers = client.read();
    assert_eq!(answers.items().len(), 300);
    answers.items().iter().for_each(|reply| client.note("small", reply, &mut tally));
    assert_eq!(client.read().text(), "behind");
    // One that is larger than a frame may be is given up while it is said.
    let frame = site.server.counts().streams[0].accepted;
    let large = request(&["ECHO", &"x".repeat(60_000)]);
    client.send(&request(&["MULTI"]));
    assert_eq!(client.read().text(), "OK");
    let mut said = 0;
    loop {
        client.send(&large);
        let reply = client.read();
        if let Reply::Error(text) = reply {
            assert!(text.starts_with("ERR a transaction of more than frame_max_bytes"), "{text}");
            break;
        }
        said += large.len();
        assert!(said < 64 << 20, "it never ends");
    }
    assert!(client.ask(&["EXEC"]).is_error("EXECABORT "));
    assert_eq!(site.server.counts().streams[0].accepted, frame);
    site.settle(&tally);
}

#[test]
fn http_request_is_never_run() {
    let _dog = watchdog();
    let site = Site::open(small(Class::block));
    let mut browser = site.client();
    browser.send(b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nXADD small * a 1\r\n");
    let answers = browser.rest();
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(error_of(&answers[0]), "ERR this is no web server");
    let mut other = site.client();
    other.send(b"Host: 127.0.0.1\r\nXADD small * a 1\r\n");
    assert_eq!(other.rest().len(), 1);
    let report = site.settle(&Tally::default());
    assert_eq!(report.gateway.ended(End::Protocol), 2);
    assert_eq!(report.engine.ledger.total().offered, 0);
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

/// An event of a time and a number, where they are given; `xadd` is for those that are in order.
fn measured(who: &str, time: Option<u64>, value: Option<&str>) -> Vec<u8> {
    let time = time.map(|time| time.to_string());
    let mut args = vec!["XADD", "s", "*", "who", who];
    args.extend(time.iter().flat_map(|time| ["t", time]));
    args.extend(value.iter().flat_map(|value| ["v", value]));
    request(&args)
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

/// What a subscriber was told of a view's windows, each behind the other.
#[derive(Default)]
struct Windows {
    /// The end of the last that was told or lost.
    end_ms: Option<u64>,
    told: Vec<serde_json::Value>,
    lost: u64,
}

impl Windows {
    #[track_caller]
    fn hear(&mut self, message: &Reply, view: &str, window_ms: u64) {
        assert_eq!(message.items()[1].text(), format!("view:{view}"));
        let json: serde_json::Value = serde_json::from_str(&message.items()[2].text()).unwrap();
        if let Some(lost) = json["lost"].as_u64() {
            self.lost += lost;
            self.end_ms = self.end_ms.map(|end_ms| end_ms + lost * window_ms);
            return;
        }
        let end_ms = json["end"].as_u64().unwrap();
        let next_ms = self.end_ms.map_or(end_ms, |last_ms| last_ms + window_ms);
        assert_eq!(end_ms, next_ms, "{json} behind {:?}, {} lost", self.told, self.lost);
        self.end_ms = Some(end_ms);
        self.told.push(json);
    }
}

#[test]
fn each_window_closed_after_the_confirmation_is_sent_once() {
    const AT_MS: u64 = 1_500_000_000_000;
    const WINDOW_MS: u64 = 1_000;
    let _dog = watchdog();
    let view = |n: usize| {
        let view = View::count(format!("w{n}")).over("s").tumbling(Duration::from_millis(WINDOW_MS));
        view.event_time(format!("t{n}"), Duration::ZERO)
    };
    let mut options = viewed(2, (0..8).map(view));
    options.threads = 2;
    options.plan = options.plan.with_producers_max(2);
    let (options, time) = by_hand(options);
    let site = Site::open(options);
    let mut tally = Tally::default();
    let (mut client, mut n) = (site.client(), 0u64);
    let mut observe = |view: usize, time_ms: u64| {
        n += 1;
        let (field, time_text) = (format!("t{view}"), time_ms.to_string());
        client.send(&request(&["XADD", "s", "*", "who", &n.to_string(), &field, &time_text]));
        client.take("s", 1, &mut tally);
        // A shard that has yet to handle one closes nothing by it.
        assert!(site.server.engine().drain(DEADLINE));
        // What a batch has closed is noted at its end; a shard answers between two polls.
        for shard in [0, 1] {
            site.server.ask(ShardId(shard), |_: &mut Book| ()).unwrap();
        }
        // Views of event time are looked at now and then.
        time.advance(LOOK);
    };
    for view in 0..8 {
        // Of some there was something before, and nothing of it closed yet.
        let mut first_ms = AT_MS;
        if view % 2 == 1 {
            first_ms -= WINDOW_MS;
            observe(view, first_ms);
        }
        let mut listeners = [site.client(), site.client()].map(|client| (client, Windows::default()));
        let name = format!("w{view}");
        for (listener, _) in &mut listeners {
            assert_eq!(listener.ask(&["SUBSCRIBE", &format!("view:{name}")]).items()[2], Reply::Integer(1));
        }
        for at_ms in (AT_MS..AT_MS + 5 * WINDOW_MS).step_by(WINDOW_MS as usize) {
            observe(view, at_ms);
            for (listener, windows) in &mut listeners {
                while at_ms > first_ms && windows.end_ms != Some(at_ms) {
                    windows.hear(&listener.read(), &name, WINDOW_MS);
                }
            }
        }
        let closed = (AT_MS + 4 * WINDOW_MS - first_ms) / WINDOW_MS;
        for (listener, windows) in &mut listeners {
            assert_eq!((windows.told.len() as u64, windows.lost), (closed, 0), "{view}: {:?}", windows.told);
            assert!(windows.told.iter().all(|window| window["events"] == 1), "{:?}", windows.told);
            listener.ask(&["UNSUBSCRIBE"]);
        }
    }
    site.settle(&tally);
}

#[test]
fn windows_closed_right_after_the_confirmation_are_sent_or_counted() {
    const AT_MS: u64 = 1_700_000_000_000;
    const WINDOW_MS: u64 = 1_000;
    let _dog = watchdog();
    let view = View::count("w").over("s").tumbling(Duration::from_millis(WINDOW_MS));
    let site = Site::open(viewed(1, [view.event_time("t", Duration::ZERO)]));
    let mut tally = Tally::default();
    let (mut client, mut listener) = (site.client(), site.client());
    let times = |range: std::ops::Range<u64>| -> Vec<u8> {
        range.flat_map(|n| measured("a", Some(AT_MS + n * WINDOW_MS), None)).collect()
    };
    let mut windows = Windows::default();
    listener.ask(&["SUBSCRIBE", "view:w"]);
    for (range, closed) in [(0..12, 11), (12..100, 99)] {
        let count = range.end - range.start;
        client.send(&times(range));
        client.take("s", count, &mut tally);
        while windows.end_ms != Some(AT_MS + closed * WINDOW_MS) {
            windows.hear(&listener.read(), "w", WINDOW_MS);
        }
        assert_eq!(windows.told.len() as u64 + windows.lost, closed, "{:?}", windows.told);
    }
    let figures = ["events", "late", "ahead", "untimed", "missing", "past", "saturated", "rounded"];
    for window in &windows.told {
        assert_eq!(figures.map(|name| window[name].as_u64()), [1, 0, 0, 0, 0, 0, 0, 0].map(Some), "{window}");
    }
    assert_eq!(*client.ask(&["PELTON.VIEW", "w"]).of("lost"), Reply::Integer(windows.lost as i64));
    site.settle(&tally);
}

#[test]
fn arrival_time_windows_are_sent_from_the_confirmation_on() {
    const WINDOW_MS: u64 = 100;
    let _dog = watchdog();
    let view = |n| View::count(format!("w{n}")).over("s").tumbling(Duration::from_millis(WINDOW_MS));
    let (options, time) = by_hand(viewed(1, (0..8).map(view)));
    let site = Site::open(options);
    let mut now_ms = 1_577_836_800_000;
    let mut pass = |span_ms: u64| {
        time.advance(Duration::from_millis(span_ms));
        now_ms += span_ms;
        now_ms
    };
    for n in 0..8 {
        // Somewhere in a window.
        let now_ms = pass(37);
        let mut listener = site.client();
        listener.ask(&["SUBSCRIBE", &format!("view:w{n}")]);
        pass(WINDOW_MS);
        let mut windows = Windows::default();
        while windows.told.is_empty() {
            windows.hear(&listener.read(), &format!("w{n}"), WINDOW_MS);
        }
        let start_ms = windows.told[0]["start"].as_u64().unwrap() - windows.lost * WINDOW_MS;
        assert!(start_ms <= now_ms, "{start_ms} {now_ms}");
        // Windows that were closed before are sent to nobody.
        assert!(start_ms + WINDOW_MS > now_ms - GRACE.as_millis() as u64, "{start_ms} {now_ms}");
    }
    site.settle(&Tally::default());
}

#[test]
fn subscribing_to_a_view_without_windows_is_an_error() {
    let _dog = watchdog();
    let windows = View::count("windows").over("s").tumbling(Duration::from_millis(50));
    let (options, time) = by_hand(viewed(1, [View::count("all").over("s"), windows]));
    let site = Site::open(options);
    let mut listener = site.client();
    for (command, name) in [("SUBSCRIBE", "view:all"), ("PSUBSCRIBE", "view:a*")] {
        let answer = listener.ask(&[command, name]);
        let text = error_of(&answer);
        let is_clear = text.starts_with(&format!("NOCHANNEL '{name}' ")) && text.contains("PELTON.VIEW all ");
        assert!(is_clear, "{text}");
    }
    assert!(listener.ask(&["SUBSCRIBE", "view:none"]).is_error("NOCHANNEL "));
    // A pattern matches those that are told, and of them alone something comes.
    let confirmed = listener.ask(&["PSUBSCRIBE", "view:*"]);
    assert_eq!(confirmed.items()[2], Reply::Integer(1));
    time.advance(Duration::from_millis(50));
    assert_eq!(listener.read().items()[2].text(), "view:windows");
    site.settle(&Tally::default());
}
