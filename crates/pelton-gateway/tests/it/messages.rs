//! Messages of streams: a subscriber receives each event once and in order, or the number of events that it lost.

use pelton_gateway::{End, Options, Server};
use pelton_testkit::gateway::*;
use pelton_testkit::*;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Long enough for an answer that must not come.
const MOMENT: Duration = Duration::from_millis(150);

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
