//! The commands of the gateway, but for `XADD`: what each answers, in both versions of the protocol, what it costs others,
//! and what subscribers receive.

use pelton_gateway::{End, Options, Stream};
use pelton_testkit::gateway::*;
use pelton_testkit::*;
use pelton_views::View;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Long enough for a message that must not come.
const MOMENT: Duration = Duration::from_millis(150);

/// A gateway with one stream, `s`.
fn roomy() -> Options {
    options(1, 1, [class("s", 1_024)])
}

/// Both versions of the protocol.
const VERSIONS: [&str; 2] = ["2", "3"];

/// A client that speaks this version.
#[track_caller]
fn speaking(site: &Site, version: &str) -> Client {
    let mut client = site.client();
    let hello = client.ask(&["HELLO", version]);
    assert_eq!(hello.of("proto"), &Reply::Integer(version.parse().unwrap()));
    client
}

/// Text after `name:` in an answer of `INFO`.
#[track_caller]
fn line<'a>(info: &'a str, name: &str) -> &'a str {
    let mut lines = info.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    lines.next_back().unwrap_or_else(|| panic!("no {name}: {info}"))
}

#[test]
fn clients_and_load_balancers_find_the_primary_that_they_look_for() {
    let _dog = watchdog();
    let site = Site::open(roomy());
    for version in VERSIONS {
        let mut client = speaking(&site, version);
        let role = [Reply::Bulk("master".into()), Reply::Integer(0), Reply::Array(Vec::new())];
        assert_eq!(client.ask(&["ROLE"]).items(), role);
        for sections in [&["replication"][..], &["REPLICATION"], &["server", "replication"]] {
            let info = client.ask(&[&["INFO"], sections].concat()).text();
            assert_eq!((line(&info, "role"), line(&info, "connected_slaves")), ("master", "0"), "{info}");
        }
        let hello = client.ask(&["HELLO", version]);
        let info = client.ask(&["INFO"]).text();
        assert_eq!(hello.of("version").text(), line(&info, "redis_version"));
        assert_eq!((line(&info, "role"), line(&info, "cluster_enabled")), ("master", "0"));
        assert_eq!(client.ask(&["INFO", "nosuch"]).text(), "");
        assert!(client.ask(&["CLUSTER", "INFO"]).is_error("ERR This instance has cluster support disabled"));
    }
    site.settle(&Tally::default());
}

#[test]
fn watch_is_accepted_and_dbsize_counts_streams() {
    let _dog = watchdog();
    let site = Site::open(options(1, 1, [class("s", 64), class("other", 64)]));
    let mut tally = Tally::default();
    let mut client = site.client();
    for words in [&["WATCH", "s", "none"][..], &["UNWATCH"], &["MULTI"]] {
        assert_eq!(client.ask(words).text(), "OK");
    }
    assert!(client.ask(&["WATCH", "s"]).is_error("ERR WATCH inside MULTI is not allowed"));
    client.send(&[request(&["UNWATCH"]), xadd("s", "a", 1), request(&["EXEC"])].concat());
    assert!((0..2).all(|_| client.read().text() == "QUEUED"));
    let answers = client.read();
    assert_eq!(answers.items()[0].text(), "OK");
    client.note("s", &answers.items()[1], &mut tally);
    assert_eq!(client.ask(&["DBSIZE"]), Reply::Integer(2));
    assert_eq!(client.ask(&["XLEN", "s"]), Reply::Integer(1));
    assert_eq!(client.ask(&["XLEN", "other"]), Reply::Integer(0));
    // A name that is not declared is a mistake, which a zero would hide.
    assert!(client.ask(&["XLEN", "o\x1bther"]).is_error(r"NOSTREAM no stream 'o\u{1b}ther' is declared"));
    let time = client.ask(&["TIME"]);
    let numbers: Vec<u64> = time.items().iter().map(|item| item.text().parse().unwrap()).collect();
    assert!(numbers[0] > 1_700_000_000 && numbers[1] < 1_000_000, "{numbers:?}");
    site.settle(&tally);
}

#[test]
fn failed_hello_does_not_authenticate_or_count_as_a_try() {
    let _dog = watchdog();
    let password = Some(pelton::engine::Secret::new("sesame"));
    let site = Site::open(Options { password, auth_tries_max: 1, ..roomy() });
    let mut client = site.client();
    for wrong in [
        &["HELLO", "3", "AUTH", "default", "sesame", "X"][..],
        &["HELLO", "3", "AUTH", "default", "sesame", "SETNAME", "a b"],
        &["HELLO", "3", "AUTH", "default", "wrong", "SETNAME"],
        &["HELLO", "4", "AUTH", "default", "sesame"],
    ] {
        assert!(matches!(client.ask(wrong), Reply::Error(_)), "{wrong:?}");
        assert!(client.ask(&["PING"]).is_error("NOAUTH "), "{wrong:?}");
    }
    let hello = client.ask(&["HELLO", "3", "SETNAME", "me", "AUTH", "default", "sesame"]);
    assert_eq!(hello.of("proto"), &Reply::Integer(3));
    assert_eq!(client.ask(&["CLIENT", "GETNAME"]).text(), "me");
    let mut wrong = site.client();
    assert!(wrong.ask(&["AUTH", "wrong"]).is_error("WRONGPASS "));
    assert_eq!(wrong.next(), None);
    let report = site.settle(&Tally::default());
    assert_eq!(report.gateway.ended(End::Auth), 1);
}

#[test]
fn arguments_in_errors_have_no_control_characters() {
    const ESCAPE: &str = "\x1b]0;x\x07\u{202e}";
    const SHOWN: &str = r"\u{1b}]0;x\u{7}\u{202e}";
    let _dog = watchdog();
    let site = Site::open(roomy());
    let mut client = site.client();
    for words in [
        &[ESCAPE][..],
        &["NOSUCH", ESCAPE],
        &["CLIENT", ESCAPE],
        &["HELLO", "3", ESCAPE],
        &["SUBSCRIBE", ESCAPE],
        &["PELTON.VIEW", ESCAPE],
        &["XLEN", ESCAPE],
        &["XADD", ESCAPE, "*", "a", "b"],
    ] {
        let Reply::Error(text) = client.ask(words) else { panic!("{words:?} is no error") };
        assert!(text.contains(SHOWN) && !text.contains('\x1b'), "{text:?}");
    }
    site.settle(&Tally::default());
}

#[test]
fn subscribe_is_atomic() {
    let _dog = watchdog();
    let site = Site::open(options(1, 1, [class("s", 64), class("other", 64)]));
    let mut tally = Tally::default();
    let long = "x".repeat(1_025);
    let mut publisher = site.client();
    let mut n = 0;
    for version in VERSIONS {
        let mut client = speaking(&site, version);
        for wrong in [
            &["SUBSCRIBE", "stream:none", "stream:s"][..],
            &["SUBSCRIBE", "stream:s", "stream:none"],
            &["SUBSCRIBE", "stream:s", "stream:s", "", "stream:other"],
            &["PSUBSCRIBE", "stream:*", &long],
            &["PSUBSCRIBE", &long, "stream:*"],
        ] {
            client.send(&[request(wrong), request(&["PING"])].concat());
            assert!(matches!(client.read(), Reply::Error(_)), "{wrong:?}");
            // The one reply, and it is no subscriber.
            assert_eq!(client.read(), Reply::Simple("PONG".into()), "{wrong:?}");
            assert_eq!(site.server.counts().subscriptions, 0, "{wrong:?}");
            publisher.send(&xadd("s", "a", n));
            publisher.take("s", 1, &mut tally);
            n += 1;
        }
        assert_eq!(client.within(MOMENT), None);
        // What was subscribed to before stays.
        assert_eq!(client.ask(&["SUBSCRIBE", "stream:other"]).items()[2], Reply::Integer(1));
        assert!(client.ask(&["SUBSCRIBE", "stream:s", "stream:none"]).is_error("NOCHANNEL 'stream:none' "));
        assert_eq!(site.server.counts().subscriptions, 1);
        client.send(&request(&["UNSUBSCRIBE", "stream:other", "stream:other"]));
        assert!((0..2).all(|_| client.read().items()[2] == Reply::Integer(0)));
    }
    let report = site.settle(&tally);
    assert_eq!(report.gateway.messages, 0);
}

/// So many patterns, none of which matches anything, from `first` on.
fn idle_patterns(first: usize, count: usize) -> Vec<String> {
    (first..first + count).map(|n| format!("none:{n}")).collect()
}

/// Sends a command with these arguments.
fn send_all(client: &mut Client, command: &str, args: &[String]) {
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    client.send(&request(&[&[command], &args[..]].concat()));
}

#[test]
fn subscriptions_over_the_limit_are_rejected_as_a_whole() {
    let _dog = watchdog();
    let site = Site::open(options(1, 1, [class("s", 64), class("other", 64)]));
    for version in VERSIONS {
        let mut client = speaking(&site, version);
        // Redis accepts patterns that match nothing, and clients count on it.
        send_all(&mut client, "PSUBSCRIBE", &idle_patterns(0, 1_023));
        for n in 1..=1_023 {
            assert_eq!(client.read().items()[2], Reply::Integer(n));
        }
        let many = "ERR a connection has at most 1024 subscriptions";
        assert!(client.ask(&["PSUBSCRIBE", "a", "b"]).is_error(many));
        assert!(client.ask(&["SUBSCRIBE", "stream:s", "stream:other"]).is_error(many));
        assert_eq!(client.ask(&["SUBSCRIBE", "stream:s"]).items()[2], Reply::Integer(1_024));
        assert!(client.ask(&["SUBSCRIBE", "stream:other"]).is_error(many));
        // Those that are there already are confirmed.
        send_all(&mut client, "PSUBSCRIBE", &[idle_patterns(500, 2), idle_patterns(500, 1)].concat());
        assert!((0..3).all(|_| client.read().items()[2] == Reply::Integer(1_024)));
        assert_eq!(site.server.counts().subscriptions, 1_024);
        drop(client);
        site.until("it is counted out", |counts| counts.subscriptions == 0);
    }
    site.settle(&Tally::default());
}

#[test]
fn patterns_that_match_everything_are_limited_by_pairs() {
    const CLIENTS: usize = 20;
    let _dog = watchdog();
    let classes = ["s", "t", "u", "v", "w"].map(|name| class(name, 64));
    let site = Site::open(options(1, 1, classes));
    let mut tally = Tally::default();
    // As many as there may be: 819 patterns of five channels, and one channel by its name.
    let all: Vec<_> = (0..819).map(|n| format!("{}stream:?", "*".repeat(n))).collect();
    let mut clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let mut client = speaking(&site, "3");
            send_all(&mut client, "PSUBSCRIBE", &all);
            assert!((1..=819).all(|n| client.read().items()[2] == Reply::Integer(n)));
            assert_eq!(client.ask(&["SUBSCRIBE", "stream:s"]).items()[2], Reply::Integer(820));
            assert!(
                client.ask(&["SUBSCRIBE", "stream:t"]).is_error("ERR a connection has at most 4096 pairs ")
            );
            assert!(client.ask(&["PSUBSCRIBE", "none", "*"]).is_error("ERR a connection has at most 4096 "));
            assert_eq!(client.ask(&["PSUBSCRIBE", "none"]).items()[2], Reply::Integer(821));
            client
        })
        .collect();
    let mut publisher = site.client();
    publisher.send(&xadd("s", "a", 0));
    publisher.take("s", 1, &mut tally);
    for client in &mut clients {
        let mut heard = 0;
        while heard < 820 {
            let Reply::Push(items) = client.read() else { panic!("no message") };
            assert_eq!(items[items.len() - 2].text(), "stream:s");
            heard += 1;
        }
        assert_eq!(client.within(Duration::ZERO), None);
    }
    let unsubscriber = clients.last_mut().unwrap();
    unsubscriber.send(&request(&["PUNSUBSCRIBE"]));
    assert!((1..=820).rev().all(|n| unsubscriber.read().items()[2] == Reply::Integer(n)));
    publisher.send(&xadd("t", "a", 0));
    publisher.take("t", 1, &mut tally);
    drop(clients);
    site.until("all are counted out", |counts| counts.subscriptions == 0);
    publisher.ping();
    site.settle(&tally);
}

#[test]
fn pubsub_counts_what_is_subscribed_to() {
    let _dog = watchdog();
    let site = Site::open(options(1, 2, [class("s", 64), class("other", 64), class("third", 64)]));
    let mut clients = [site.client(), site.client(), site.client()];
    for client in &mut clients[1..] {
        client.ask(&["SUBSCRIBE", "stream:s"]);
        client.ask(&["PSUBSCRIBE", "stream:*"]);
    }
    clients[2].ask(&["SUBSCRIBE", "stream:other"]);
    let pubsub = |client: &mut Client, words: &[&str]| -> Vec<Reply> {
        client.ask(&[&["PUBSUB"], words].concat()).items().to_vec()
    };
    let texts = |names: &[&str]| names.iter().map(|name| Reply::Bulk((*name).into())).collect::<Vec<_>>();
    let [own, ..] = &mut clients;
    assert_eq!(pubsub(own, &["CHANNELS"]), texts(&["stream:s", "stream:other"]));
    assert_eq!(pubsub(own, &["CHANNELS", "*o*"]), texts(&["stream:other"]));
    let counted = pubsub(own, &["NUMSUB", "stream:s", "stream:third", "none"]);
    let expected = [("stream:s", 2), ("stream:third", 0), ("none", 0)];
    let expected = expected.map(|(name, n)| [Reply::Bulk(name.into()), Reply::Integer(n)]);
    assert_eq!(counted, expected.concat());
    assert_eq!(own.ask(&["PUBSUB", "NUMPAT"]), Reply::Integer(2));
    assert!(own.ask(&["PUBSUB", "NOSUCH"]).is_error("ERR unknown subcommand 'NOSUCH'. Try PUBSUB HELP."));
    let [mut own, second, third] = clients;
    drop((second, third));
    site.until("the others have left", |counts| counts.subscriptions == 0);
    assert_eq!(pubsub(&mut own, &["CHANNELS"]), []);
    assert_eq!(own.ask(&["PUBSUB", "NUMPAT"]), Reply::Integer(0));
    site.settle(&Tally::default());
}

#[test]
fn subscriber_receives_no_message_between_the_answers_of_its_transaction() {
    const TIMES: u64 = 20;
    const ECHOES: usize = 200;
    let _dog = watchdog();
    let mut options = options(1, 1, [class("s", 256), class("other", 256)]);
    options.views.push(View::count("all").over("s"));
    // Many turns for one transaction.
    let site = Site::open(Options { output_bytes_max: 1 << 10, ..options });
    let mut tally = Tally::default();
    let stop = AtomicBool::new(false);
    let told = std::thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            let (mut client, mut tally, mut n) = (site.client(), Tally::default(), 0);
            while !stop.load(Ordering::Relaxed) {
                client.send(&xadd("s", "publisher", n));
                client.take("s", 1, &mut tally);
                n += 1;
            }
            tally
        });
        let mut client = speaking(&site, "3");
        client.ask(&["SUBSCRIBE", "stream:s"]);
        let mut messages = 0;
        let mut answer = |client: &mut Client| loop {
            match client.read() {
                Reply::Push(_) => messages += 1,
                reply => break reply,
            }
        };
        let echo = request(&["ECHO", &"x".repeat(100)]);
        for time in 0..TIMES {
            let adds = [xadd("other", "own", 2 * time), xadd("other", "own", 2 * time + 1)].concat();
            let view = request(&["PELTON.VIEW", "all"]);
            client.send(&[request(&["MULTI"]), adds, echo.repeat(ECHOES), view, request(&["EXEC"])].concat());
            assert_eq!(answer(&mut client), Reply::Simple("OK".into()));
            for _ in 0..ECHOES + 3 {
                assert_eq!(answer(&mut client), Reply::Simple("QUEUED".into()));
            }
            let answers = answer(&mut client);
            let items = answers.items();
            assert!(items.iter().all(|item| !matches!(item, Reply::Push(_))), "{items:?}");
            assert_eq!(items.len(), ECHOES + 3);
            items[..2].iter().for_each(|item| client.note("other", item, &mut tally));
            assert!(matches!(items.last(), Some(Reply::Map(_))), "{items:?}");
        }
        // Messages go on after it.
        while messages == 0 {
            messages += u64::from(matches!(client.read(), Reply::Push(_)));
        }
        stop.store(true, Ordering::Relaxed);
        publisher.join().unwrap()
    });
    tally.add(told);
    let report = site.settle(&tally);
    assert_eq!(report.gateway.messages_lost, 0);
}

#[test]
fn turn_of_expensive_requests_ends_before_all_of_them_run() {
    const REQUESTS: usize = 60;
    let _dog = watchdog();
    let site = Site::open(roomy());
    let mut client = site.client();
    // Little to read and nothing to write, and much to compare.
    let one = request(&[&["CONFIG", "GET"][..], &["a*b*c*d*e"; 30]].concat());
    let before = site.server.counts().writes;
    client.send(&one.repeat(REQUESTS));
    for _ in 0..REQUESTS {
        assert_eq!(client.read().items(), []);
    }
    // Each turn writes once.
    let turns = site.server.counts().writes - before;
    assert!(turns > 5, "{turns} turns");
    // Errors are longer than the shortest requests.
    let before = site.server.counts().writes;
    client.send("XADD x * a b\r\n".repeat(50 * REQUESTS).as_bytes());
    for _ in 0..50 * REQUESTS {
        assert!(client.read().is_error("NOSTREAM "));
    }
    let turns = site.server.counts().writes - before;
    assert!(turns > 5, "{turns} turns");
    site.settle(&Tally::default());
}

#[test]
fn times_in_answers_move_with_a_virtual_clock_alone() {
    const BEGUN_S: u64 = 1_577_836_800;
    let _dog = watchdog();
    let (options, time) = by_hand(roomy());
    let site = Site::open(options);
    let mut tally = Tally::default();
    let mut client = site.client();
    let mut passed = Duration::ZERO;
    for span_us in [0, 1_250, 999_999, 3_600_000_000] {
        let span = Duration::from_micros(span_us);
        time.advance(span);
        passed += span;
        let now = Duration::from_secs(BEGUN_S) + passed;
        for sequence in 0..3 {
            let reply = client.ask(&["XADD", "s", "*", "who", "a"]);
            client.note("s", &reply, &mut tally);
            assert_eq!(reply.text(), format!("{}-{sequence}", now.as_millis()));
        }
        let told = client.ask(&["TIME"]);
        let [seconds, micros] = [0, 1].map(|at| told.items()[at].text());
        assert_eq!((seconds, micros), (now.as_secs().to_string(), now.subsec_micros().to_string()));
        let passed_s = passed.as_secs();
        assert!(client.ask(&["INFO"]).text().contains(&format!("\r\nuptime_in_seconds:{passed_s}\r\n")));
        assert!(client.ask(&["CLIENT", "INFO"]).text().contains(&format!(" age={passed_s} ")));
    }
    site.settle(&tally);
}

/// The ids in an answer of `CLIENT LIST`, in its order.
#[track_caller]
fn ids(list: &Reply) -> Vec<i64> {
    let id = |line: &str| line.strip_prefix("id=").and_then(|rest| rest.split(' ').next()?.parse().ok());
    list.text().lines().map(|line| id(line).unwrap_or_else(|| panic!("{line}"))).collect()
}

#[track_caller]
fn own_id(client: &mut Client) -> i64 {
    match client.ask(&["CLIENT", "ID"]) {
        Reply::Integer(id) => id,
        other => panic!("{other:?}"),
    }
}

#[test]
fn client_list_has_each_matching_connection_once() {
    const CONNECTIONS: usize = 300;
    let _dog = watchdog();
    let site = Site::open(options(1, 2, [class("s", 64)]));
    let mut clients: Vec<_> = (0..CONNECTIONS).map(|_| speaking(&site, "3")).collect();
    let all: Vec<_> = clients.iter_mut().map(own_id).collect();
    clients[7].ask(&["SUBSCRIBE", "stream:s"]);
    clients[9].ask(&["CLIENT", "SETNAME", "nine"]);
    let mut ask = |words: &[&str]| clients[9].ask(&[&["CLIENT"], words].concat());
    assert_eq!(ids(&ask(&["LIST"])), all);
    let info = ask(&["INFO"]);
    assert_eq!(ids(&info), [all[9]]);
    assert!(info.text().contains(" name=nine "));
    assert_eq!(ids(&ask(&["LIST", "TYPE", "pubsub"])), [all[7]]);
    assert_eq!(ids(&ask(&["LIST", "TYPE", "normal"])).len(), CONNECTIONS - 1);
    assert!(ids(&ask(&["LIST", "TYPE", "replica"])).is_empty());
    let (two, one) = (all[2].to_string(), all[1].to_string());
    assert_eq!(ids(&ask(&["LIST", "ID", &two, "999999", &one])), [all[2], all[1]]);
    assert!(ask(&["LIST", "ID", "x"]).is_error("ERR Invalid client ID"));
    assert!(ask(&["LIST", "TYPE", "x"]).is_error("ERR Unknown client type 'x'"));
    for wrong in [&["LIST", "ID"][..], &["LIST", "TYPE"], &["LIST", "a"], &["LIST", "TYPE", "normal", "x"]] {
        assert!(ask(wrong).is_error("ERR syntax error"), "{wrong:?}");
    }
    clients[7].ask(&["UNSUBSCRIBE"]);
    assert!(ids(&clients[9].ask(&["CLIENT", "LIST", "TYPE", "pubsub"])).is_empty());
    site.settle(&Tally::default());
}

#[test]
fn client_list_over_output_max_bytes_is_an_error() {
    let _dog = watchdog();
    let site = Site::open(Options { output_bytes_max: 1 << 10, ..roomy() });
    let mut clients: Vec<_> = (0..30).map(|_| site.client()).collect();
    clients.iter_mut().for_each(Client::ping);
    let list = clients[0].ask(&["CLIENT", "LIST"]);
    assert!(list.is_error("ERR the list exceeds output_max_bytes = 1024; "), "{list:?}");
    let own = own_id(&mut clients[0]).to_string();
    assert_eq!(ids(&clients[0].ask(&["CLIENT", "LIST", "ID", &own])).len(), 1);
    clients.truncate(5);
    site.until("they are gone", |counts| counts.connections() == 5);
    assert_eq!(ids(&clients[0].ask(&["CLIENT", "LIST"])).len(), 5);
    site.settle(&Tally::default());
}

#[test]
fn client_kill_closes_the_connections_that_match() {
    let _dog = watchdog();
    let site = Site::open(options(1, 2, [class("s", 64)]));
    let mut own = site.client();
    // Of both threads.
    let mut clients: Vec<_> = (0..6).map(|_| speaking(&site, "3")).collect();
    let id = own_id(&mut clients[0]).to_string();
    assert_eq!(own.ask(&["CLIENT", "KILL", "ID", &id]), Reply::Integer(1));
    assert_eq!(clients.remove(0).next(), None);
    site.until("it is counted", |counts| counts.ended(End::Killed) == 1);
    assert_eq!(own.ask(&["CLIENT", "KILL", "ID", &id]), Reply::Integer(0));
    // By address, in the new form and in the old one.
    for form in [&["CLIENT", "KILL", "ADDR"][..], &["CLIENT", "KILL"]] {
        let mut victim = clients.remove(0);
        let info = victim.ask(&["CLIENT", "INFO"]).text();
        let address = info.split(' ').find_map(|word| word.strip_prefix("addr=")).unwrap();
        let told = own.ask(&[form, &[address]].concat());
        let expected = if form.len() == 3 { Reply::Integer(1) } else { Reply::Simple("OK".into()) };
        assert_eq!(told, expected);
        assert_eq!(victim.next(), None);
    }
    site.until("they are counted", |counts| counts.ended(End::Killed) == 3);
    assert!(own.ask(&["CLIENT", "KILL", "127.0.0.1:1"]).is_error("ERR No such client"));
    assert!(own.ask(&["CLIENT", "KILL", "ID", "0"]).is_error("ERR client-id should be greater than 0"));
    assert!(own.ask(&["CLIENT", "KILL", "USER", "x"]).is_error("ERR No such user 'x'"));
    for wrong in [&["ID", "1", "ADDR"][..], &["SKIPME", "maybe"], &["LADDR", "127.0.0.1:1"]] {
        assert!(own.ask(&[&["CLIENT", "KILL"], wrong].concat()).is_error("ERR syntax error"), "{wrong:?}");
    }
    // A subscriber is closed with its subscriptions, the connection itself after its answer.
    clients[0].ask(&["SUBSCRIBE", "stream:s"]);
    assert_eq!(own.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]), Reply::Integer(1));
    assert_eq!(clients.remove(0).next(), None);
    site.until("its subscription has ended", |counts| counts.subscriptions == 0);
    assert_eq!(own.ask(&["CLIENT", "KILL", "USER", "default", "TYPE", "normal"]), Reply::Integer(2));
    assert!(clients.iter_mut().all(|client| client.next().is_none()));
    site.until("they are gone", |counts| counts.connections() == 1);
    let kill = request(&["CLIENT", "KILL", "SKIPME", "no", "USER", "default"]);
    own.send(&[kill, request(&["PING"])].concat());
    assert_eq!(own.rest(), [Reply::Integer(1)]);
    let report = site.settle(&Tally::default());
    assert_eq!(report.gateway.ended(End::Killed), 7);
}

/// What a critical connection waits for its answer while another one pipelines the most expensive requests there are. The
/// figure of a release build with ten thousand connections:
/// `PELTON_TEST_CONNECTIONS=10000 PELTON_TEST_P99_US=5000 cargo test --release --all-features --test gateway_commands beside -- --nocapture`
#[test]
fn critical_connection_is_served_during_expensive_requests() {
    const STREAMS: usize = 1_024;
    const PINGS: usize = 200;
    let number = |name: &str, usual| {
        std::env::var(name).ok().map_or(usual, |text: String| text.parse::<usize>().unwrap())
    };
    // Far from what a turn takes in a debug build, and further from what all requests of one read take.
    let (connections, p99_max) =
        (number("PELTON_TEST_CONNECTIONS", 300), number("PELTON_TEST_P99_US", 1_000_000));
    let _dog = watchdog_for(Duration::from_secs(400));
    let mut options = options(1, 1, [class("s", 64)]);
    let names = (1..STREAMS).map(|n| format!("a-stream-with-a-name-of-usual-length-{n}"));
    options.streams.extend(names.map(|name| Stream::new(name, "s")));
    options.listen_critical = vec!["127.0.0.1:0".into()];
    options.connections_max = connections as u32 + 100;
    let mut site = Site::open(options);
    let places: Vec<_> = site.server.addresses().iter().map(|place| place.address.clone()).collect();
    let critical = site.server.addresses().iter().position(|place| place.kind.name() == "critical").unwrap();
    site.address = places[1 - critical].clone();
    let idle: Vec<_> = (0..connections).map(|_| TcpStream::connect(&site.address).unwrap()).collect();
    site.until("all are there", |counts| counts.connected == connections as u64);
    let patterns: Vec<_> = (0..500).map(|n| format!("*?-?*?-?*{n}?x")).collect();
    let patterns = |command| {
        let args = patterns.iter().map(String::as_str);
        request(&[command].into_iter().chain(args).collect::<Vec<_>>())
    };
    let everything = ["stream:s", "stream:*"];
    let kinds: [(&str, Vec<u8>); 8] = [
        ("CLIENT INFO", request(&["CLIENT", "INFO"]).repeat(100)),
        ("CLIENT LIST", request(&["CLIENT", "LIST"])),
        ("XINFO STREAM", request(&["XINFO", "STREAM", "s"]).repeat(100)),
        ("XLEN", request(&["XLEN", "s"]).repeat(100)),
        ("INFO", request(&["INFO"])),
        (
            "SUBSCRIBE",
            [request(&["SUBSCRIBE", everything[0]]), request(&["UNSUBSCRIBE"])].concat().repeat(50),
        ),
        ("PSUBSCRIBE", [patterns("PSUBSCRIBE"), request(&["PUNSUBSCRIBE"])].concat()),
        ("PSUBSCRIBE to all", [request(&["PSUBSCRIBE", everything[1]]), request(&["PUNSUBSCRIBE"])].concat()),
    ];
    for (name, requests) in kinds {
        let (stop, is_read) = (&AtomicBool::new(false), &AtomicBool::new(false));
        let requests = &requests;
        let mut waits: Vec<_> = std::thread::scope(|scope| {
            // One that sends and one that reads, so that there is always something to do.
            let mut sender = TcpStream::connect(&site.address).unwrap();
            sender.write_all(&request(&["HELLO", "3"])).unwrap();
            let mut reader = sender.try_clone().unwrap();
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) && sender.write_all(requests).is_ok() {}
                sender.shutdown(std::net::Shutdown::Both)
            });
            scope.spawn(move || {
                let mut room = vec![0; 1 << 20];
                while reader.read(&mut room).is_ok_and(|n| n > 0) {
                    is_read.store(true, Ordering::Relaxed);
                }
            });
            let mut client = Client::new(&places[critical]);
            while !is_read.load(Ordering::Relaxed) {
                client.ping();
            }
            let waits = (0..PINGS).map(|_| {
                let begun = Instant::now();
                client.ping();
                begun.elapsed()
            });
            let waits = waits.collect();
            stop.store(true, Ordering::Relaxed);
            waits
        });
        waits.sort_unstable();
        let p99 = waits[PINGS * 99 / 100];
        println!("{name}: p50 {:?}, p99 {p99:?}, max {:?}", waits[PINGS / 2], waits[PINGS - 1]);
        assert!(p99.as_micros() as usize <= p99_max, "{name}: {p99:?}");
    }
    drop(idle);
    // One class has all of these streams, where the books of other tests have one for each.
    let report = site.server.stop(DEADLINE).unwrap();
    assert!(report.engine.ledger.is_closed());
}
