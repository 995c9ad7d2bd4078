//! Questions to views, as many clients ask them: what waits is bounded, what is of no more use is dropped, and keys that are
//! crafted to collide slow neither events nor answers down.

use pelton_gateway::{ListenerKind, Options, Server};
use pelton_testkit::gateway::*;
use pelton_testkit::*;
use pelton_views::{PastKeys, View};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What an answer may take here. Most take a few milliseconds.
const SOON: Duration = Duration::from_secs(5);

fn viewed(shards: u16, views: impl IntoIterator<Item = View>) -> Options {
    let mut options = options(shards, 1, [class("s", 1_024).block()]);
    options.views = views.into_iter().collect();
    options.plan = options.reserve(options.plan.clone());
    options
}

/// Publishes an event that the only shard waits with, behind its door, and asks a question that cannot be answered.
#[track_caller]
fn hold_up(site: &Site, view: &str, tally: &mut Tally) -> Client {
    let mut client = site.client();
    client.send(&xadd("s", "a", 0));
    client.take("s", 1, tally);
    site.door.until_waiting(1);
    let mut asking = site.client();
    asking.send(&request(&["PELTON.VIEW", view]));
    asking
}

/// Runs a test in a process of its own, where memory that others take is not counted; whether it is the one.
fn is_alone() -> bool {
    const ALONE: &str = "PELTON_TEST_VIEWS_ALONE";
    let is_alone = std::env::var_os(ALONE).is_some();
    if !is_alone {
        print!("{}", in_a_process_of_its_own(ALONE, &[]));
    }
    is_alone
}

/// Connects, asks, and resets the connection once the server has read the question.
fn ask_and_reset(site: &Site, question: &[u8]) {
    let before = site.server.counts().bytes_in;
    let mut tcp = TcpStream::connect(&site.address).unwrap();
    tcp.write_all(question).unwrap();
    let begun = Instant::now();
    while site.server.counts().bytes_in < before + question.len() as u64 {
        assert!(begun.elapsed() < DEADLINE);
        std::thread::yield_now();
    }
    reset(tcp);
}

#[test]
fn view_requests_of_reset_connections_leave_nothing_behind() {
    if !is_alone() {
        return;
    }
    const CONNECTIONS: u64 = 2_000;
    let _dog = watchdog_for(Duration::from_secs(150));
    // The longest keys that there can be, so that questions are not answered at once.
    let long = View { key_max_bytes: 1 << 16, ..View::count("long").by("who").keys(10, PastKeys::Other) };
    let site = Site::closed(viewed(1, [View::count("each").over("s").by("who"), long.over("s")]));
    let mut tally = Tally::default();
    let _asking = hold_up(&site, "each", &mut tally);
    let (before, mut most) = (resident(), 0);
    for n in 0..CONNECTIONS {
        let (view, bytes) = if n % 2 == 0 { ("each", 256 << 10) } else { ("long", 64 << 10) };
        ask_and_reset(&site, &request(&["PELTON.VIEW", view, "KEY", &"k".repeat(bytes)]));
        most = most.max(resident());
    }
    site.until("all are closed", |counts| counts.connections() <= 2);
    // They sent 320 MiB.
    assert!(most.saturating_sub(before) < 48 << 20, "{} more bytes", most - before);
    site.door.open();
    let begun = Instant::now();
    let mut client = site.client();
    while client.ask(&["PELTON.VIEW", "long", "KEY", "a"]).is_error("ERR ") {}
    let took = begun.elapsed();
    assert!(took < SOON, "{took:?}");
    println!(
        "{CONNECTIONS} connections: {} KiB more, answered {took:?} after the door opened",
        (most - before) >> 10
    );
    site.settle(&tally);
}

#[test]
fn impossible_key_is_answered_while_shards_are_stuck() {
    let _dog = watchdog();
    let site = Site::closed(viewed(1, [View::count("each").over("s").by("who")]));
    let mut tally = Tally::default();
    let mut asking = hold_up(&site, "each", &mut tally);
    let begun = Instant::now();
    let answer = site.client().ask(&["PELTON.VIEW", "each", "KEY", &"k".repeat(65)]);
    assert!(answer.is_error("ERR the key has 65 bytes, and no row of view 'each' has a key of more than 64"));
    assert!(begun.elapsed() < SOON);
    site.door.open();
    // Whether the question before was given up is a matter of time.
    asking.read();
    let rows = site.client().ask(&["PELTON.VIEW", "each", "KEY", &"k".repeat(64)]).of("rows").clone();
    assert_eq!(rows, Reply::Array(vec![]));
    site.settle(&tally);
}

/// Publishes an event for each key, in a pipeline.
fn publish_keys(site: &Site, keys: impl Iterator<Item = Vec<u8>>) -> u64 {
    let mut tcp = TcpStream::connect(&site.address).unwrap();
    let requests: Vec<Vec<u8>> =
        keys.map(|key| request_of(&[b"XADD", b"s", b"*", b"who", b"w", b"key", &key])).collect();
    let count = requests.len() as u64;
    let mut reader = tcp.try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || requests.chunks(500).for_each(|some| tcp.write_all(&some.concat()).unwrap()));
        let (mut room, mut answers) = ([0; 1 << 16], 0);
        while answers < count {
            let n = reader.read(&mut room).unwrap();
            assert!(n > 0);
            // An id is two lines.
            assert!(!room[..n].contains(&b'-') || room[..n].iter().all(|byte| *byte != b'E'), "an error");
            answers += room[..n].iter().filter(|byte| **byte == b'$').count() as u64;
        }
    });
    count
}

/// The answer of a view, as it comes: to read it into a [`Reply`] would take longer than the answer.
fn answer_of(site: &Site, view: &str) -> Vec<u8> {
    let mut tcp = TcpStream::connect(&site.address).unwrap();
    tcp.write_all(&[request(&["PELTON.VIEW", view]), request(&["PING"])].concat()).unwrap();
    let (mut room, mut answer) = (vec![0; 1 << 20], Vec::new());
    while !answer.ends_with(b"+PONG\r\n") {
        let n = tcp.read(&mut room).unwrap();
        assert!(n > 0);
        answer.extend_from_slice(&room[..n]);
    }
    answer
}

/// A key of those that all have one hash under XXH3 with the seed that tables of views once had.
fn crafted(n: u64) -> Vec<u8> {
    let word = 0xbe4b_a423_396c_feb8u64.wrapping_add(0x7065_6c74_6f6e_7462);
    [word.to_le_bytes(), n.to_le_bytes(), [b'x'; 8], [b'x'; 8]].concat()
}

#[test]
fn view_of_colliding_keys_is_kept_and_answered() {
    const KEYS: u64 = 20_000;
    let _dog = watchdog_for(Duration::from_secs(150));
    let server = |name: &str| {
        let view = View::count(name).over("s").by("key").keys(KEYS as usize, PastKeys::Drop);
        Site::open(viewed(1, [view]))
    };
    let mut dice = Dice::new(17);
    let mut random = || (0..4).flat_map(|_| dice.roll().to_le_bytes()).collect::<Vec<_>>();
    let others: Vec<_> = (0..KEYS).map(|_| random()).collect();
    let mut times = BTreeMap::new();
    for (name, keys) in [("others", others), ("crafted", (0..KEYS).map(crafted).collect())] {
        let site = server(name);
        let begun = Instant::now();
        publish_keys(&site, keys.into_iter());
        assert!(site.server.engine().drain(DEADLINE));
        let published = begun.elapsed();
        let begun = Instant::now();
        let answer = answer_of(&site, name);
        let answered = begun.elapsed();
        // A row is a pair.
        assert_eq!(answer.windows(4).filter(|four| *four == b"*2\r\n").count() as u64, KEYS);
        println!("{name}: published and handled in {published:?}, answered in {answered:?}");
        times.insert(name, (published, answered));
        let mut server = site.server;
        assert!(server.stop(DEADLINE).unwrap().engine.ledger.is_closed());
    }
    let (crafted, others) = (times["crafted"], times["others"]);
    // Under the hash that they are crafted for both take minutes.
    assert!(crafted.0 < 3 * others.0 + Duration::from_secs(2), "{crafted:?} {others:?}");
    assert!(crafted.1 < SOON, "{crafted:?}");
}

#[test]
fn many_requests_to_large_views_are_answered_while_events_flow() {
    const KEYS: u64 = 2_000;
    const CLIENTS: usize = 6;
    let _dog = watchdog_for(Duration::from_secs(150));
    let keys = |view: View| view.over("s").by("key").keys(KEYS as usize, PastKeys::Drop);
    let views = [keys(View::count("n")), keys(View::last("l", "key")), View::count("all").over("s")];
    let options = Options { listen_critical: vec!["127.0.0.1:0".into()], ..viewed(2, views) };
    let server = Server::start(options).unwrap();
    let address_of =
        |kind| server.addresses().iter().find(|place| place.kind == kind).unwrap().address.clone();
    let (address, critical) = (address_of(ListenerKind::Tcp), address_of(ListenerKind::Critical));
    let site = Site { server, door: Door::default(), address };
    let published = publish_keys(&site, (0..KEYS).map(|n| n.to_string().into_bytes()));
    assert!(site.server.engine().drain(DEADLINE));
    let stop = AtomicBool::new(false);
    let more = std::thread::scope(|scope| {
        for n in 0..CLIENTS {
            // Critical connections that ask without a pause keep the others from no answer.
            let address = if n < CLIENTS / 3 { &critical } else { &site.address };
            let stop = &stop;
            scope.spawn(move || {
                let mut client = Client::new(address);
                while !stop.load(Ordering::Relaxed) {
                    let name = if n % 2 == 0 { "n" } else { "l" };
                    let answer = match n % 3 {
                        0 => client.ask(&["PELTON.VIEW", name, "KEY", "17"]),
                        _ => client.ask(&["PELTON.VIEW", name]),
                    };
                    // Also where several kinds of questions are answered by one gathering.
                    let rows = answer.of("rows").items().len() as u64;
                    assert_eq!(rows, if n % 3 == 0 { 1 } else { KEYS }, "{n}");
                }
            });
        }
        let more = scope.spawn(|| {
            let mut sent = 0;
            while !stop.load(Ordering::Relaxed) {
                sent += publish_keys(&site, (0..100).map(|n: u64| n.to_string().into_bytes()));
            }
            sent
        });
        // In the middle of all this critical connections are answered, of large views too.
        let mut client = Client::new(&critical);
        let mut usual = site.client();
        for name in ["all", "n", "all", "l", "all"] {
            for (kind, client) in [("critical", &mut client), ("usual", &mut usual)] {
                let begun = Instant::now();
                let answer = client.ask(&["PELTON.VIEW", name]);
                println!("{kind}, {name}: {:?}", begun.elapsed());
                assert!(!matches!(answer, Reply::Error(_)), "{answer:?}");
            }
        }
        stop.store(true, Ordering::Relaxed);
        more.join().unwrap()
    });
    assert!(site.server.engine().drain(DEADLINE));
    // What has come together is exact once events rest.
    let all = site.client().ask(&["PELTON.VIEW", "n"]);
    let counts = all.of("rows").items().iter().map(|row| match &row.items()[1] {
        Reply::Integer(count) => *count as u64,
        other => panic!("{other:?}"),
    });
    assert_eq!(counts.sum::<u64>(), published + more);
    assert_eq!(*all.of("events"), Reply::Integer((published + more) as i64));
    let mut server = site.server;
    assert!(server.stop(DEADLINE).unwrap().engine.ledger.is_closed());
}
