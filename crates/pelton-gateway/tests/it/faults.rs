//! Clients that break the rules, and a system that has nothing left: one bad connection never affects another, each that
//! is ended is counted with its reason, and what was accepted stays accounted for.

use pelton::engine::Secret;
use pelton_gateway::{Counts, End, Options, ServeError, Server};
use pelton_testkit::gateway::*;
use pelton_testkit::needs::{Need, skipped};
use pelton_testkit::*;
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, Instant};

/// Long enough for an answer that must not come.
const MOMENT: Duration = Duration::from_millis(150);

/// The largest request of these servers.
const FRAME_BYTES_MAX: u32 = 256 << 10;

fn roomy() -> Options {
    let class = class("s", 4_096).with_payload_bytes(4 << 20);
    Options { frame_bytes_max: FRAME_BYTES_MAX, args_max: 64, ..options(1, 1, [class]) }
}

/// What a server is to say to one who sends `bytes`, and then waits.
enum Fate {
    /// This error, and the end.
    Ends(&'static str),
    /// Nothing, as more may come.
    Waits,
}

#[test]
fn malformed_request_closes_its_connection_alone() {
    let _dog = watchdog();
    let site = Site::open(roomy());
    let mut tally = Tally::default();
    let mut other = site.client();
    let large = format!("*2\r\n$4\r\nECHO\r\n${FRAME_BYTES_MAX}\r\n");
    let wide = "*65\r\n";
    let cases: Vec<(&[u8], Fate)> = vec![
        (b"\x16\x03\x01\x02\x00\x01\x00", Fate::Ends("NUL in an inline request")),
        (b"\xff\xfe\xfd\x00", Fate::Ends("NUL in an inline request")),
        (b"*x\r\n", Fate::Ends("invalid multibulk length")),
        (b"*+1\r\n", Fate::Ends("invalid multibulk length")),
        (b"*2147483648\r\n", Fate::Ends("invalid multibulk length")),
        (b"*9223372036854775808\r\n", Fate::Ends("invalid multibulk length")),
        (b"*1\r\n$-1\r\n", Fate::Ends("invalid bulk length")),
        (b"*1\r\n$-9223372036854775808\r\n", Fate::Ends("invalid bulk length")),
        (b"*1\r\n$9223372036854775808\r\n", Fate::Ends("invalid bulk length")),
        (b"*1\r\n$536870913\r\n", Fate::Ends("invalid bulk length")),
        (b"*1\r\n$536870912\r\n", Fate::Ends("too big request")),
        (large.as_bytes(), Fate::Ends("too big request")),
        (wide.as_bytes(), Fate::Ends("too many arguments")),
        (b"*1000000\r\n", Fate::Ends("too many arguments")),
        (b"*2\r\n*1\r\n$4\r\nPING\r\n$1\r\nx\r\n", Fate::Ends("expected '$', got '*'")),
        (b"*1\r\n:1\r\n", Fate::Ends("expected '$', got ':'")),
        (b"*1\r\n$4\r\nPINGPONG", Fate::Ends("expected CRLF after a bulk string")),
        (b"ECHO \"x\r\n", Fate::Ends("unbalanced quotes in request")),
        (b"*1\r\n$4\r\nPI", Fate::Waits),
        (b"*9\r\n", Fate::Waits),
        (b"PIN", Fate::Waits),
        (b"\r\n\r\n*0\r\n*-1\r\n", Fate::Waits),
    ];
    let ends = cases.iter().filter(|(_, fate)| matches!(fate, Fate::Ends(_))).count() as u64;
    let mut held = Vec::new();
    for (n, (bytes, fate)) in cases.iter().enumerate() {
        // What is good before it is answered.
        let mut client = site.client();
        client.send(&[&xadd("s", "bad", n as u64)[..], bytes].concat());
        client.take("s", 1, &mut tally);
        match fate {
            Fate::Ends(why) => {
                assert_eq!(
                    client.rest(),
                    [Reply::Error(format!("ERR Protocol error: {why}"))],
                    "{}",
                    bytes.escape_ascii()
                );
            }
            Fate::Waits => {
                assert_eq!(client.within(MOMENT), None, "{}", bytes.escape_ascii());
                held.push(client);
            }
        }
        other.send(&xadd("s", "good", n as u64));
        other.take("s", 1, &mut tally);
    }
    let counts = site.until("all are ended", |counts| counts.ended(End::Protocol) == ends);
    assert_eq!(counts.connections(), 1 + held.len() as u64);
    held.pop().unwrap().ping();
    site.settle(&tally);
}

#[test]
fn long_or_many_patterns_are_rejected() {
    let _dog = watchdog();
    let site = Site::open(Options { args_max: 128, ..roomy() });
    let mut client = site.client();
    let (most, more) = ("*".repeat(1_024), "[".repeat(1_025));
    assert_eq!(client.ask(&["CONFIG", "GET", &most]).items().len() % 2, 0);
    assert!(client.ask(&["CONFIG", "GET", "save", &more]).is_error("ERR a pattern has at most 1024 bytes"));
    let many = [&["CONFIG", "GET"][..], &["x"; 65]].concat();
    assert_eq!(client.ask(&many[..66]).items(), []);
    assert!(client.ask(&many).is_error("ERR CONFIG GET takes at most 64 patterns"));
    assert!(client.ask(&["PSUBSCRIBE", &more]).is_error("ERR a pattern has at most 1024 bytes"));
    assert_eq!(client.ask(&["PSUBSCRIBE", &most]).items()[2], Reply::Integer(1));
    assert_eq!(client.ask(&["PUNSUBSCRIBE"]).items()[2], Reply::Integer(0));
    client.ping();
    site.settle(&Tally::default());
}

#[test]
fn error_reaches_a_client_that_goes_on_sending() {
    let _dog = watchdog();
    let site = Site::open(roomy());
    for _ in 0..20 {
        let mut client = site.client();
        // Much more than is read in one go lies behind what is wrong.
        client.try_send(&[b"*x\r\n", &vec![b'y'; 200 << 10][..]].concat());
        assert_eq!(client.rest(), [Reply::Error("ERR Protocol error: invalid multibulk length".into())]);
        let mut client = site.client();
        client.try_send(&[&request(&["QUIT"])[..], &vec![b'y'; 200 << 10][..]].concat());
        assert_eq!(client.rest(), [Reply::Simple("OK".into())]);
    }
    site.settle(&Tally::default());
}

#[test]
fn empty_and_longest_arguments_are_accepted() {
    let _dog = watchdog();
    let mut options = roomy();
    options.read_budget_bytes = 4 << 10;
    let site = Site::open(options);
    let mut tally = Tally::default();
    let mut client = site.client();
    assert_eq!(client.ask(&["ECHO", ""]).text(), "");
    let reply = client.ask(&["XADD", "s", "*", "who", "", "", ""]);
    client.note("s", &reply, &mut tally);
    let around = |args: &[&str]| request(args).len();
    for more in [0, 1] {
        // To the byte, and one beyond.
        let head = around(&["ECHO", &"x".repeat(100_000)]) - 100_000;
        let text = "x".repeat(FRAME_BYTES_MAX as usize - head + more);
        let bytes = request(&["ECHO", &text]);
        assert_eq!(bytes.len(), FRAME_BYTES_MAX as usize + more);
        let mut client = site.client();
        client.try_send(&bytes);
        match more {
            0 => assert!(client.read().text() == text),
            _ => assert_eq!(client.rest(), [Reply::Error("ERR Protocol error: too big request".into())]),
        }
    }
    for size in [4_000, 4_096, 5_000, 8_192, 100_000, 250_000] {
        let value = "v".repeat(size);
        // One large one between small ones.
        let mut bytes = xadd("s", "before", size as u64);
        bytes.extend(request(&["XADD", "s", "*", "who", "large", "n", &size.to_string(), "v", &value]));
        bytes.extend(xadd("s", "behind", size as u64));
        client.send(&bytes);
        client.take("s", 3, &mut tally);
    }
    let args: Vec<_> = (0..64).map(|at| at.to_string()).collect();
    let mut words: Vec<_> = args.iter().map(String::as_str).collect();
    words[..5].copy_from_slice(&["XADD", "s", "*", "who", "args"]);
    assert!(client.ask(&words).is_error("ERR wrong number of arguments"), "an odd one");
    tally.note("s", &Reply::Error("ERR".into()));
    words.pop();
    let reply = client.ask(&words);
    client.note("s", &reply, &mut tally);
    site.settle(&tally);
}

#[test]
fn request_split_at_any_byte_is_one_request() {
    let _dog = watchdog();
    let site = Site::open(roomy());
    let mut tally = Tally::default();
    let frame = |n: u64| [&xadd("s", "cut", n)[..], b"PING\r\n", &request(&["ECHO", "xyz"])].concat();
    let mut client = site.client();
    for (n, cut) in (1..frame(1_000).len()).enumerate() {
        let frame = frame(1_000 + n as u64);
        let reads = site.server.counts().reads;
        client.send(&frame[..cut]);
        // The first part has been looked at before the second comes.
        site.until("it is read", |counts| counts.reads > reads);
        client.send(&frame[cut..]);
        client.take("s", 1, &mut tally);
        assert_eq!(client.read().text(), "PONG");
        assert_eq!(client.read().text(), "xyz");
    }
    let mut slow = site.client();
    for byte in xadds("s", "slow", 0, 20) {
        slow.send(&[byte]);
        // Others are served between any two bytes.
        client.ping();
    }
    slow.take("s", 20, &mut tally);
    site.settle(&tally);
}

#[test]
fn large_request_sent_byte_by_byte_costs_linear_time() {
    let _dog = watchdog();
    let site = Site::open(roomy());
    let mut client = site.client();
    let text = "x".repeat(200_000);
    let bytes = request(&["ECHO", &text]);
    let (most, few) = bytes.split_at(bytes.len() - 3_000);
    client.send(most);
    let mut other = site.client();
    for byte in few {
        client.send(&[*byte]);
        other.ping();
    }
    assert!(client.read().text() == text);
    site.settle(&Tally::default());
}

#[test]
fn inline_requests_and_quit_are_run() {
    let _dog = watchdog();
    let site = Site::open(roomy());
    let mut tally = Tally::default();
    let mut client = site.client();
    client.send(b"  PING  \r\nECHO \"a\\x41 b\"\nXADD s * who inline n 7\r\n\r\nXADD s * who 'in line' n 8 text \"\\r\\n\"\n");
    assert_eq!(client.read().text(), "PONG");
    assert_eq!(client.read().text(), "aA b");
    client.take("s", 2, &mut tally);
    // What stands behind a QUIT is not carried out.
    client.send(b"QUIT\r\nXADD s * who inline n 9\r\n");
    assert_eq!(client.rest(), [Reply::Simple("OK".into())]);
    let mut client = site.client();
    client.try_send(&vec![b'x'; 70 << 10]);
    assert_eq!(client.rest(), [Reply::Error("ERR Protocol error: too big inline request".into())]);
    let counts = site.until("both have left", |counts| counts.connections() == 0);
    assert_eq!((counts.ended(End::Client), counts.ended(End::Protocol)), (1, 1));
    site.settle(&tally);
}

#[test]
fn ten_thousand_requests_in_one_write_are_answered_in_order() {
    const REQUESTS: u64 = 10_000;
    let _dog = watchdog();
    let site = Site::open(Options { output_bytes_max: 1 << 10, ..roomy() });
    let mut tally = Tally::default();
    // Many more answers than are kept at once: they are read while the rest is still being said.
    let bytes: Vec<u8> = (0..REQUESTS)
        .flat_map(|n| [xadd("s", "many", n), request(&["ECHO", &n.to_string()]), b"PING\r\n".into()].concat())
        .collect();
    let tcp = TcpStream::connect(&site.address).unwrap();
    let mut writer = tcp.try_clone().unwrap();
    let writing = std::thread::spawn(move || writer.write_all(&bytes).unwrap());
    let mut client = Client::over(tcp);
    for n in 0..REQUESTS {
        client.take("s", 1, &mut tally);
        assert_eq!(client.read().text(), n.to_string());
        assert_eq!(client.read().text(), "PONG");
    }
    writing.join().unwrap();
    site.settle(&tally);
}

#[test]
fn client_that_never_reads_is_bounded_and_closed() {
    const OUTPUT_BYTES_MAX: u32 = 64 << 10;
    let _dog = watchdog();
    let (options, time) =
        by_hand(Options { output_bytes_max: OUTPUT_BYTES_MAX, stall: Duration::from_secs(2), ..roomy() });
    let site = Site::open(options);
    let mut tally = Tally::default();
    let mut deaf = narrow(&site.address);
    deaf.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let echo = request(&["ECHO", &"x".repeat(8 << 10)]);
    let mut sent = 0;
    // Until the server takes nothing more of it.
    while deaf.write_all(&echo).is_ok() {
        sent += 1;
        assert!(sent < 100_000, "it is read for ever");
    }
    let counts = site.server.counts();
    // What it was answered is what its system took, and what is kept for it: the bound and one reply.
    let answered = counts.commands * (8 << 10);
    assert!(answered <= counts.bytes_out + u64::from(OUTPUT_BYTES_MAX) + (9 << 10), "{counts:?}");
    let mut other = site.client();
    let mut n = 0;
    while site.server.counts().ended(End::Stalled) == 0 {
        other.send(&xadd("s", "other", n));
        other.take("s", 1, &mut tally);
        n += 1;
        time.advance(Duration::from_millis(250));
    }
    assert!(n >= 8, "it had {n} quarters of a second");
    other.ping();
    drop(deaf);
    site.settle(&tally);
}

#[test]
fn slow_reader_is_not_closed_as_stalled() {
    let _dog = watchdog();
    let (options, time) =
        by_hand(Options { stall: Duration::from_secs(1), output_bytes_max: 64 << 10, ..roomy() });
    let site = Site::open(options);
    let mut client = Client::narrow(&site.address);
    const ECHOES: usize = 40;
    client.send(&request(&["ECHO", &"x".repeat(8 << 10)]).repeat(ECHOES));
    let mut read = 0;
    let mut passed = Duration::ZERO;
    // A little at a time, for several times as long as one may take nothing.
    while read < ECHOES {
        if passed < Duration::from_secs(4) {
            time.advance(Duration::from_millis(50));
            passed += Duration::from_millis(50);
        }
        assert_ne!(client.sip(4 << 10, DEADLINE), Some(0), "ended after {read}");
        read += client.whole().len();
    }
    assert_eq!(site.server.counts().ended(End::Stalled), 0);
    client.ping();
    site.settle(&Tally::default());
}

#[test]
fn blocked_client_is_not_idle() {
    let _dog = watchdog();
    let slow = class("slow", 4);
    let (options, time) = by_hand(Options { idle: Some(Duration::from_secs(2)), ..options(1, 1, [slow]) });
    let site = Site::closed(options);
    let mut tally = Tally::default();
    let mut blocked = site.client();
    blocked.send(&xadds("slow", "a", 0, 6));
    blocked.take("slow", 4, &mut tally);
    let mut idle = site.client();
    idle.ping();
    // A part of a request is nothing said to the end, and no excuse.
    let before = site.server.counts().bytes_in;
    idle.send(b"*1\r\n$4\r\nPI");
    site.until("it is read", |counts| counts.bytes_in > before);
    let mut other = site.client();
    let mut pass = |seconds: u64| {
        for _ in 0..seconds {
            time.advance(Duration::from_secs(1));
            other.pass_a_round();
        }
    };
    pass(2);
    assert_eq!(site.server.counts().ended(End::Idle), 0);
    pass(1);
    assert_eq!(idle.next(), None);
    site.until("it is counted", |counts| counts.ended(End::Idle) == 1);
    pass(10);
    // It waits for longer than one may be idle.
    site.door.open();
    blocked.take("slow", 2, &mut tally);
    // Longer than between two looks for the idle.
    pass(2);
    blocked.ping();
    assert_eq!(site.server.counts().ended(End::Idle), 1);
    site.settle(&tally);
}

#[test]
fn idle_timeout_lasts_at_least_its_seconds() {
    let _dog = watchdog();
    let (options, time) = by_hand(Options { idle: Some(Duration::from_secs(1)), ..roomy() });
    let site = Site::open(options);
    let mut other = site.client();
    let mut pass = |span_ms: u64, ended: u64| {
        time.advance(Duration::from_millis(span_ms));
        other.pass_a_round();
        assert_eq!(site.server.counts().ended(End::Idle), ended);
    };
    // Whenever in a second it begins.
    for at in 0..8 {
        let mut client = site.client();
        client.ping();
        pass(1_000, at);
        pass(1_000, at + 1);
        assert_eq!(client.next(), None);
        pass(130, at + 1);
    }
    // A subscriber may be silent.
    let mut subscriber = site.client();
    subscriber.ask(&["SUBSCRIBE", "stream:s"]);
    let mut idle = site.client();
    idle.ping();
    pass(1_000, 8);
    pass(1_000, 9);
    assert_eq!(idle.next(), None);
    subscriber.send(&request(&["PING"]));
    assert_eq!(subscriber.read().items()[0].text(), "pong");
    assert_eq!(site.server.counts().ended(End::Idle), 9);
    site.settle(&Tally::default());
}

#[test]
fn half_open_connections_are_closed() {
    let _dog = watchdog();
    let (options, time) = by_hand(Options { idle: Some(Duration::from_secs(1)), ..roomy() });
    let site = Site::open(options);
    let mut tally = Tally::default();
    // They say nothing, or half of something, or that they will say nothing more.
    let silent: Vec<_> = (0..20).map(|_| site.client()).collect();
    let mut halves: Vec<_> = (0..20).map(|_| site.client()).collect();
    halves.iter_mut().for_each(|client| client.send(b"*5\r\n$4\r\nXA"));
    let mut ended: Vec<_> = (0..20).map(|_| site.client()).collect();
    for (at, client) in ended.iter_mut().enumerate() {
        client.send(&[&xadd("s", &at.to_string(), 0)[..], b"*5\r\n$4\r\nXA"].concat());
        client.end();
        client.take("s", 1, &mut tally);
        assert_eq!(client.next(), None);
    }
    site.until("the others are there", |counts| counts.connections() == 40);
    let second = (&time, Duration::from_secs(1));
    let counts = site.until_later(second, "all are let go", |counts| counts.connections() == 0);
    assert_eq!((counts.ended(End::Idle), counts.ended(End::Client)), (40, 20));
    drop((silent, halves));
    site.settle(&tally);
}

/// Connects and resets, so often a second, while another client is served.
fn resets(site: &Site, count: u64, a_second: u64) -> Tally {
    let mut tally = Tally::default();
    let mut client = site.client();
    let begun = Instant::now();
    for n in 0..count {
        let tcp = TcpStream::connect(&site.address).unwrap();
        match n % 3 {
            0 => {}
            1 => drop((&tcp).write(b"*5\r\n$4\r\nXA")),
            _ => drop((&tcp).write(b"PING\r\n")),
        }
        reset(tcp);
        if n % 50 == 0 {
            client.send(&xadd("s", "served", n));
            client.take("s", 1, &mut tally);
            let due = Duration::from_secs_f64(n as f64 / a_second as f64);
            std::thread::sleep(due.saturating_sub(begun.elapsed()));
        }
    }
    println!("{count} resets in {:?}", begun.elapsed());
    let counts = site.until("all are gone", |counts| counts.connections() == 1);
    let gone = counts.ended(End::Broken) + counts.ended(End::Client);
    // One that was gone before it was taken was never there.
    assert_eq!(gone, counts.connected - 1);
    assert!(gone <= count);
    client.ping();
    tally
}

#[test]
fn connections_that_reset_leave_nothing_behind() {
    let _dog = watchdog();
    let site = Site::open(roomy());
    let tally = resets(&site, 5_000, u64::MAX);
    site.settle(&tally);
    let site = Site::open(options(1, 2, [class("s", 64)]));
    let tally = resets(&site, 2_000, u64::MAX);
    site.until("the last has left", |counts| counts.connections() == 0);
    site.settle(&tally);
}

#[test]
fn five_thousand_resets_a_second_for_a_minute() {
    if std::env::var_os("PELTON_SOAK_RESETS").is_none() {
        skipped::<()>(Need::Time, "PELTON_SOAK_RESETS is not set");
        return;
    }
    let _dog = watchdog_for(Duration::from_secs(300));
    let site = Site::open(roomy());
    let tally = resets(&site, 300_000, 5_000);
    site.settle(&tally);
}

#[test]
fn connections_over_the_limit_are_rejected_and_counted() {
    let _dog = watchdog();
    for threads in [1, 2] {
        let site = Site::open(Options { connections_max: 8, ..options(1, threads, [class("s", 64)]) });
        let mut tally = Tally::default();
        let mut clients: Vec<_> = (0..8).map(|_| site.client()).collect();
        clients.iter_mut().for_each(Client::ping);
        for n in 0..10u64 {
            assert_eq!(site.client().rest(), [Reply::Error("ERR max number of clients reached".into())]);
            clients[0].send(&xadd("s", "a", n));
            clients[0].take("s", 1, &mut tally);
        }
        let counts = site.server.counts();
        assert_eq!((counts.ended(End::Full), counts.connected, counts.connections()), (10, 8, 8));
        // Whoever leaves makes room.
        clients.pop();
        site.until("one has left", |counts| counts.connections() == 7);
        let mut next = site.client();
        next.ping();
        let report = site.settle(&tally);
        assert_eq!((report.gateway.connections(), report.gateway.connected), (0, 9));
    }
}

#[test]
fn wrong_passwords_are_limited_and_nothing_runs_before_auth() {
    let _dog = watchdog();
    let site =
        Site::open(Options { password: Some(Secret::new("open sesame")), auth_tries_max: 3, ..roomy() });
    let mut tally = Tally::default();
    let mut client = site.client();
    let requests: &[&[&str]] = &[
        &["PING"],
        &["XADD", "s", "*", "who", "a"],
        &["SUBSCRIBE", "stream:s"],
        &["PELTON.VIEW", "x"],
        &["CLIENT", "LIST"],
        &["CONFIG", "GET", "*"],
        &["INFO"],
        &["XLEN", "s"],
        &["HELLO", "3"],
        &["COMMAND"],
    ];
    for args in requests {
        assert!(client.ask(args).is_error("NOAUTH "), "{args:?}");
    }
    // Whatever it is that is asked for, the answer is the same.
    for args in [&["NONSENSE", "x"][..], &["CLIENT", "NONSENSE"], &["CONFIG", "GET"]] {
        assert_eq!(client.ask(args), Reply::Error("NOAUTH Authentication required.".into()), "{args:?}");
    }
    assert!(client.ask(&["AUTH", "open"]).is_error("WRONGPASS "));
    assert!(client.ask(&["AUTH", "nobody", "open sesame"]).is_error("WRONGPASS "));
    assert!(client.ask(&["PING"]).is_error("NOAUTH "));
    assert_eq!(client.ask(&["AUTH", "open sesame"]).text(), "OK");
    client.ping();
    client.send(&xadd("s", "a", 0));
    client.take("s", 1, &mut tally);
    assert_eq!(client.ask(&["RESET"]).text(), "RESET");
    assert!(client.ask(&["PING"]).is_error("NOAUTH "));
    // All of one pipeline: the last is not even looked at.
    let mut guessing = site.client();
    let mut guesses: Vec<u8> = ["a", "b", "c"].iter().flat_map(|guess| request(&["AUTH", guess])).collect();
    guesses.extend(request(&["AUTH", "open sesame"]));
    guesses.extend(xadd("s", "b", 0));
    guessing.send(&guesses);
    let told = guessing.rest();
    assert!(told.len() == 3 && told.iter().all(|reply| reply.is_error("WRONGPASS ")), "{told:?}");
    let mut guessing = site.client();
    for _ in 0..3 {
        assert!(guessing.ask(&["HELLO", "3", "AUTH", "default", "x"]).is_error("WRONGPASS "));
    }
    assert_eq!(guessing.next(), None);
    site.until("both are counted", |counts| counts.ended(End::Auth) == 2);
    let mut client = site.client();
    let hello = client.ask(&["HELLO", "3", "AUTH", "default", "open sesame", "SETNAME", "me"]);
    assert_eq!(hello.of("proto"), &Reply::Integer(3));
    assert_eq!(client.ask(&["CLIENT", "GETNAME"]).text(), "me");
    site.settle(&tally);
}

#[test]
fn connection_that_never_authenticates_is_closed() {
    let _dog = watchdog();
    let password = Some(Secret::new("open sesame"));
    let (options, time) = by_hand(Options { password, stall: Duration::from_secs(3), ..roomy() });
    let site = Site::open(options);
    let mut known = site.client();
    assert_eq!(known.ask(&["AUTH", "open sesame"]).text(), "OK");
    // Neither silence nor talk is the password, nor is beginning anew.
    let mut silent = site.client();
    let mut talker = site.client();
    let mut again = site.client();
    assert_eq!(again.ask(&["AUTH", "open sesame"]).text(), "OK");
    assert_eq!(again.ask(&["RESET"]).text(), "RESET");
    site.until("they are there", |counts| counts.connections() == 4);
    for _ in 0..9 {
        // Fewer requests than an unauthenticated connection may make.
        time.advance(Duration::from_millis(400));
        assert_eq!(talker.ask(&["RESET"]).text(), "RESET");
        known.pass_a_round();
        assert_eq!(site.server.counts().ended(End::Auth), 0);
    }
    let step = (&time, Duration::from_millis(400));
    site.until_later(step, "all three are gone", |counts| counts.ended(End::Auth) == 3);
    assert_eq!((silent.next(), again.next(), talker.next()), (None, None, None));
    known.ping();
    site.settle(&Tally::default());
}

#[test]
fn server_without_a_password_has_the_default_user() {
    let _dog = watchdog();
    let site = Site::open(Options { auth_tries_max: 3, ..roomy() });
    let mut client = site.client();
    assert!(client.ask(&["AUTH", "x"]).is_error("ERR AUTH <password> called without any password"));
    assert_eq!(client.ask(&["AUTH", "default", "x"]).text(), "OK");
    assert!(client.ask(&["AUTH", "foo", "x"]).is_error("WRONGPASS "));
    assert!(client.ask(&["HELLO", "3", "AUTH", "foo", "x"]).is_error("WRONGPASS "));
    client.ping();
    let hello = client.ask(&["HELLO", "3", "AUTH", "default", "x"]);
    assert_eq!(hello.of("proto"), &Reply::Integer(3));
    site.settle(&Tally::default());
}

#[test]
fn help_lists_the_subcommands() {
    let _dog = watchdog();
    let site = Site::open(roomy());
    let mut client = site.client();
    for whole in ["CLIENT", "COMMAND", "CONFIG", "XINFO"] {
        let told = client.ask(&[whole, "help"]);
        let lines: Vec<_> = told.items().iter().map(Reply::text).collect();
        assert!(lines[0].starts_with(whole) && lines.len() % 2 == 1, "{lines:?}");
        // Each part that is listed is one.
        for part in lines[1..].iter().step_by(2) {
            let told = client.ask(&[whole, part]);
            assert!(!told.is_error("ERR unknown"), "{whole} {part}: {told:?}");
        }
        assert!(client.ask(&[whole, "nosuch"]).is_error("ERR unknown subcommand 'nosuch'. Try "), "{whole}");
    }
    site.settle(&Tally::default());
}

#[test]
fn address_in_use_is_an_error_and_leaves_nothing_behind() {
    let _dog = watchdog();
    let site = Site::open(roomy());
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("socket");
    let taken = Options { listen: vec![site.address.clone()], unix_socket: Some(path.clone()), ..roomy() };
    let error = Server::start(taken).expect_err("it is taken");
    assert!(matches!(error, ServeError::Listen(_)) && error.to_string().contains(&site.address), "{error}");
    assert!(!path.exists());
    site.client().ping();
    site.settle(&Tally::default());
}

#[test]
fn socket_path_is_taken_only_if_no_server_listens() {
    let _dog = watchdog();
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("socket");
    let here = || Options { listen: Vec::new(), unix_socket: Some(path.clone()), ..roomy() };
    // A file.
    std::fs::write(&path, "mine").unwrap();
    let error = Server::start(here()).expect_err("a file is no socket").to_string();
    assert!(error.contains("is no socket"), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    std::fs::remove_file(&path).unwrap();
    // A folder, and a link to nowhere.
    std::fs::create_dir(&path).unwrap();
    assert!(Server::start(here()).is_err() && path.is_dir());
    std::fs::remove_dir(&path).unwrap();
    std::os::unix::fs::symlink("/nowhere/at/all", &path).unwrap();
    assert!(Server::start(here()).is_err() && path.symlink_metadata().unwrap().is_symlink());
    std::fs::remove_file(&path).unwrap();
    // One where somebody listens.
    let other = UnixListener::bind(&path).unwrap();
    let error = Server::start(here()).expect_err("somebody listens").to_string();
    assert!(error.contains("another server listens there"), "{error}");
    let knocked = UnixStream::connect(&path).unwrap();
    drop((knocked, other));
    // One that somebody has left behind.
    assert!(path.exists());
    let mut server = Server::start(here()).unwrap();
    let there = path.metadata().unwrap();
    assert!(there.file_type().is_socket());
    assert_eq!(there.permissions().mode() & 0o777, 0o600);
    Client::new(path.to_str().unwrap()).ping();
    assert!(Server::start(here()).is_err());
    assert!(server.stop(DEADLINE).unwrap().engine.ledger.is_closed());
    assert!(!path.exists());
    // Nothing else is left.
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    for mode in [0o660, 0o666] {
        let server = Server::start(Options { unix_mode: mode, ..here() }).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, mode);
        drop(server);
    }
}

/// A listener whose queue is full, with the connections in it: one more would have to wait.
fn full_listener(path: &Path) -> Vec<socket2::Socket> {
    let address = socket2::SockAddr::unix(path).unwrap();
    let socket = || socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    let listener = socket();
    listener.bind(&address).unwrap();
    listener.listen(0).unwrap();
    let mut all = vec![listener];
    loop {
        let client = socket();
        client.set_nonblocking(true).unwrap();
        match client.connect(&address) {
            Ok(()) => all.push(client),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                return all;
            }
        }
        assert!(all.len() < 100, "the queue is never full");
    }
}

#[test]
fn start_does_not_wait_for_the_server_that_has_its_socket_path() {
    let _dog = watchdog();
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("socket");
    let _full = full_listener(&path);
    let options = Options { listen: Vec::new(), unix_socket: Some(path.clone()), ..roomy() };
    let error = Server::start(options).expect_err("another server is there").to_string();
    assert!(error.contains("another server listens there"), "{error}");
    assert!(path.exists());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn one_of_several_servers_that_start_at_once_listens() {
    const SERVERS: usize = 4;
    let _dog = watchdog();
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("socket");
    for round in 0..20 {
        if round % 2 == 1 {
            // A server that was killed has left its own.
            drop(UnixListener::bind(&path).unwrap());
        }
        let gate = Barrier::new(SERVERS);
        let started: Vec<_> = std::thread::scope(|scope| {
            let start = || {
                let options = Options { listen: Vec::new(), unix_socket: Some(path.clone()), ..roomy() };
                gate.wait();
                Server::start(options)
            };
            let all: Vec<_> = (0..SERVERS).map(|_| scope.spawn(start)).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        let mut servers = Vec::new();
        for one in started {
            match one {
                Ok(server) => servers.push(server),
                Err(error) => assert!(error.to_string().contains("listens there"), "round {round}: {error}"),
            }
        }
        assert_eq!(servers.len(), 1, "round {round}");
        Client::new(path.to_str().unwrap()).ping();
        assert!(servers[0].stop(DEADLINE).unwrap().engine.ledger.is_closed());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "round {round}");
    }
}

#[test]
fn stop_removes_no_socket_of_another_server() {
    let _dog = watchdog();
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("socket");
    let options = Options { listen: Vec::new(), unix_socket: Some(path.clone()), ..roomy() };
    let mut server = Server::start(options).unwrap();
    // An administrator has removed its file, and started another server.
    std::fs::remove_file(&path).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    assert!(server.stop(DEADLINE).unwrap().engine.ledger.is_closed());
    drop(server);
    UnixStream::connect(&path).unwrap();
}

#[test]
fn foreign_directories_do_not_prevent_a_start() {
    let _dog = watchdog();
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("socket");
    let made = path.with_extension(format!("{}.new", std::process::id()));
    std::fs::create_dir(&made).unwrap();
    std::fs::write(made.join("socket"), "theirs").unwrap();
    let options = Options { listen: Vec::new(), unix_socket: Some(path.clone()), ..roomy() };
    let mut server = Server::start(options).unwrap_or_else(|error| panic!("{error}"));
    Client::new(path.to_str().unwrap()).ping();
    assert!(server.stop(DEADLINE).unwrap().engine.ledger.is_closed());
    assert_eq!(std::fs::read_to_string(made.join("socket")).unwrap(), "theirs");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn socket_path_may_have_the_longest_length_of_the_system() {
    let _dog = watchdog();
    let folder = tempfile::TempDir::new().unwrap();
    let room = 107 - folder.path().as_os_str().len() - 1;
    let path = folder.path().join("s".repeat(room));
    assert_eq!(path.as_os_str().len(), 107);
    let options = Options { listen: Vec::new(), unix_socket: Some(path.clone()), ..roomy() };
    let server = Server::start(options).unwrap_or_else(|error| panic!("{error}"));
    Client::new(path.to_str().unwrap()).ping();
    drop(server);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn every_listed_address_is_served() {
    let _dog = watchdog();
    // As many as there may be, or an error that says how many that is.
    let many = |n: usize| Options { listen: vec!["127.0.0.1:0".into(); n], ..roomy() };
    for n in [63, 64, 65, 80] {
        match Server::start(many(n)) {
            Ok(server) => {
                assert_eq!(server.addresses().len(), n);
                server.addresses().iter().for_each(|place| Client::new(&place.address).ping());
            }
            Err(ServeError::Options(errors)) => {
                assert!(n > 64 && errors.to_string().contains("listen"), "{n}: {errors}");
            }
            Err(error) => panic!("{n}: {error}"),
        }
    }
}

#[test]
fn many_critical_connections_are_all_served() {
    const CRITICAL: usize = 1_500;
    let _dog = watchdog();
    let critical_connections_max = 2 * CRITICAL as u32;
    let listen_critical = vec!["127.0.0.1:0".into()];
    let options = Options { listen_critical, critical_connections_max, ..roomy() };
    let mut site = Site::open(options);
    let place = |kind: &str| {
        let place = site.server.addresses().iter().find(|place| place.kind.name() == kind);
        place.unwrap().address.clone()
    };
    let (critical, usual) = (place("critical"), place("tcp"));
    site.address = usual;
    let mut clients: Vec<_> = (0..CRITICAL).map(|_| TcpStream::connect(&critical).unwrap()).collect();
    site.until("all are there", |counts| counts.connected == CRITICAL as u64);
    let mut slowest = Duration::ZERO;
    for _ in 0..3 {
        for client in &mut clients {
            client.write_all(b"PING\r\n").unwrap();
        }
        let begun = Instant::now();
        for client in &mut clients {
            let mut answer = [0; 7];
            client.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"+PONG\r\n");
        }
        slowest = slowest.max(begun.elapsed());
    }
    println!("slowest: {slowest:?}");
    site.client().ping();
    drop(clients);
    site.settle(&Tally::default());
}

/// All that a server counts agrees with itself.
fn consistent(counts: &Counts) {
    let by_reason: BTreeMap<_, _> = End::ALL.iter().map(|end| (end.name(), counts.ended(*end))).collect();
    let never = counts.ended(End::Full) + counts.ended(End::Descriptors);
    let ended: u64 = counts.ended.iter().sum();
    assert_eq!(counts.connected + never, ended + counts.connections(), "{by_reason:?}");
}

#[test]
fn many_clients_of_all_kinds_balance_the_ledger() {
    const CLIENTS: u64 = 24;
    let _dog = watchdog();
    let classes = [class("block", 16).block(), class("reject", 16).reject(), class("drop", 16).drop_newest()];
    let site = Site::open(options(2, 2, classes));
    let mut tally = Tally::default();
    let told: Vec<_> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|at| {
                let site = &site;
                scope.spawn(move || {
                    let mut dice = Dice::new(at + 1);
                    let mut tally = Tally::default();
                    let stream = ["block", "reject", "drop"][at as usize % 3];
                    let mut n = 0;
                    for round in 0..6 {
                        // The next connection may be another thread's: order is kept on each.
                        let who = format!("{at}.{round}");
                        let mut client = site.client();
                        for _ in 0..dice.below(20) {
                            let count = dice.below(200);
                            client.send(&xadds(stream, &who, n, count));
                            client.take(stream, count, &mut tally);
                            n += count;
                        }
                        match dice.below(4) {
                            0 => drop(client.ask(&["QUIT"])),
                            1 => {
                                client.send(b"*x\r\n");
                                assert_eq!(client.rest().len(), 1);
                            }
                            2 => client.end(),
                            _ => {}
                        }
                    }
                    tally
                })
            })
            .collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    told.into_iter().for_each(|told| tally.add(told));
    let counts = site.until("all have left", |counts| counts.connections() == 0);
    consistent(&counts);
    assert_eq!(counts.connected, CLIENTS * 6);
    let report = site.settle(&tally);
    consistent(&report.gateway);
}
