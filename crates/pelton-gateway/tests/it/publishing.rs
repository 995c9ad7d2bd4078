//! `XADD`: the outcome of an event under each policy that does not block, requests that are rejected, ids, and that an event
//! on its way allocates nothing. Replies are compared with the server's counts, the ledger, and what handlers saw.

use crate::support::{error_of, small};
use pelton::event::{Rejection, ShardId};
use pelton::memory::seal::Seal;
use pelton::{Class, Context, Event};
use pelton_gateway::{End, Record, Server};
use pelton_testkit::gateway::*;
use pelton_testkit::*;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

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
