//! Peers that have not said the password, or hold places for nothing: what they cost is bounded, and critical clients and
//! those with the password get in and are answered whatever they do.

use pelton::engine::Secret;
use pelton_gateway::{End, Options};
use pelton_testkit::gateway::*;
use pelton_testkit::*;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const PASSWORD: &str = "open sesame";

/// Long enough for what must come, on any machine.
const SOON: Duration = Duration::from_secs(20);

fn plain() -> Options {
    options(1, 1, [class("s", 1_024)])
}

fn guarded() -> Options {
    Options { password: Some(Secret::new(PASSWORD)), ..plain() }
}

/// The address of the first listener of a kind.
fn place(site: &Site, kind: &str) -> String {
    let place = site.server.addresses().iter().find(|place| place.kind.name() == kind);
    place.expect("it listens there").address.clone()
}

/// A client that has authenticated.
fn known(address: &str) -> Client {
    Client::known(address, PASSWORD)
}

/// Whether the other end has closed the connection, as it must soon.
fn is_closed(tcp: &mut TcpStream) -> bool {
    tcp.set_read_timeout(Some(SOON)).unwrap();
    let begun = Instant::now();
    let mut room = [0; 4_096];
    loop {
        match tcp.read(&mut room) {
            Ok(0) => return true,
            Ok(_) if begun.elapsed() < SOON => {}
            Ok(_) => return false,
            Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

#[test]
fn unauthenticated_flood_that_reads_slowly_is_closed() {
    let _dog = watchdog();
    let site = Site::open(Options { stall: Duration::from_secs(2), ..guarded() });
    let mut slow = Client::narrow(&site.address);
    slow.try_send(&b"a\n".repeat(16 << 10));
    let begun = Instant::now();
    while site.server.counts().ended(End::Auth) == 0 {
        // It gets on, if a byte a second is that.
        slow.sip(1, Duration::from_millis(100));
        assert!(begun.elapsed() < SOON, "{:?}", site.server.counts());
    }
    let told: Vec<_> = slow.rest();
    assert!(told.len() <= 16, "{}", told.len());
    assert!(told.iter().all(|reply| *reply == Reply::Error("NOAUTH Authentication required.".into())));
    site.settle(&Tally::default());
}

/// What an unauthenticated connection may do, by its number.
fn misbehave(tcp: &mut TcpStream, kind: usize) {
    tcp.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let _ = match kind % 5 {
        // Small requests without end, whose answers are not read.
        0 => tcp.write_all(&b"a\n".repeat(64 << 10)),
        // As much of a request as may come before the rest.
        1 => tcp.write_all(&[b"*2\r\n$4\r\nECHO\r\n$16000\r\n", &[b'x'; 15_999][..]].concat()),
        // Wrong passwords in one go.
        2 => tcp.write_all(&request(&["AUTH", "wrong"]).repeat(1_000)),
        // A request that would be too large.
        3 => tcp.write_all(
            &[b"*10\r\n".to_vec(), format!("$15000\r\n{}\r\n", "x".repeat(15_000)).into_bytes().repeat(9)]
                .concat(),
        ),
        // The longest line that may come.
        _ => tcp.write_all(&[b'x'; 16_000]),
    };
}

#[test]
fn unauthenticated_connections_take_little_memory() {
    const ALONE: &str = "PELTON_TEST_STRANGERS_ALONE";
    const EACH_BYTES: usize = 64 << 10;
    // What other tests take would be counted here.
    if std::env::var_os(ALONE).is_none() {
        print!("{}", in_a_process_of_its_own(ALONE, &[]));
        return;
    }
    let _dog = watchdog_for(Duration::from_secs(500));
    let strangers = std::env::var("PELTON_SOAK_STRANGERS").map_or(600, |n| n.parse().unwrap());
    let options = Options { stall: Duration::from_secs(600), auth_tries_max: 1_000, ..guarded() };
    let site = Site::open(options);
    // The first of each kind make the server lay out what it does for all.
    let warm: Vec<_> = (0..10).map(|at| unauthenticated_client(&site.address, at)).collect();
    site.until("they are there", |counts| counts.connected == 10);
    let before = resident();
    let begun = Instant::now();
    let mut all = Vec::with_capacity(strangers);
    while all.len() < strangers {
        all.push(unauthenticated_client(&site.address, all.len()));
        // The system's queue of those that wait outside is not what is measured.
        if all.len().is_multiple_of(500) {
            site.until("they are there", |counts| counts.connected == 10 + all.len() as u64);
        }
    }
    // A byte more now and then.
    for round in 0..3 {
        for tcp in all.iter().skip(round).step_by(3) {
            let _ = (&mut &*tcp).write(b"x");
        }
    }
    let counts = site.until("all are there", |counts| counts.connected == 10 + strangers as u64);
    let each = resident().saturating_sub(before) / strangers;
    println!(
        "{strangers} strangers, {} still there after {:?}: {each} bytes each",
        counts.connections(),
        begun.elapsed()
    );
    assert!(each <= EACH_BYTES, "{each} bytes each");
    assert!(counts.connections() >= strangers as u64 / 5);
    known(&site.address).ping();
    drop((warm, all));
    site.settle(&Tally::default());
}

fn unauthenticated_client(address: &str, kind: usize) -> TcpStream {
    let mut tcp = narrow(address);
    misbehave(&mut tcp, kind);
    tcp
}

#[test]
fn critical_client_is_served_while_others_hold_every_slot() {
    const PLACES: usize = 300;
    let _dog = watchdog();
    for (threads, options) in [(1, guarded()), (2, guarded()), (1, plain())] {
        let is_guarded = options.password.is_some();
        let mut plan = options.plan.clone();
        plan = plan.with_producers_max(threads);
        let site = Site::open(Options {
            plan,
            threads,
            connections_max: PLACES as u32,
            critical_connections_max: 4,
            listen_critical: vec!["127.0.0.1:0".into()],
            ..options
        });
        let (critical, usual) = (place(&site, "critical"), place(&site, "tcp"));
        let mut silent: Vec<_> = (0..PLACES).map(|_| TcpStream::connect(&usual).unwrap()).collect();
        site.until("all places are taken", |counts| counts.connected == PLACES as u64);
        let enter = || if is_guarded { known(&critical) } else { Client::new(&critical) };
        let mut client = enter();
        let mut spans: Vec<_> = (0..2_000)
            .map(|at| {
                // The flood goes on: each newcomer takes the place of an unauthenticated connection, or is turned away.
                if at % 10 == 0 {
                    silent.push(TcpStream::connect(&usual).unwrap());
                }
                let begun = Instant::now();
                client.ping();
                begun.elapsed()
            })
            .collect();
        spans.sort_unstable();
        println!(
            "{threads} threads, password {is_guarded}: PING p99 {:?}, most {:?}",
            spans[1_980], spans[1_999]
        );
        assert!(spans[1_980] < Duration::from_millis(500), "{:?}", spans[1_980]);
        // Places of critical clients have a bound of their own. Nobody is displaced who has said the password.
        let mut more: Vec<_> = (0..3).map(|_| enter()).collect();
        more.iter_mut().for_each(Client::ping);
        assert_eq!(Client::new(&critical).rest(), [Reply::Error("ERR max number of clients reached".into())]);
        client.ping();
        let counts = site.until("the last was counted", |counts| counts.ended(End::Full) > 0);
        assert_eq!(counts.ended(End::Displaced) > 0, is_guarded);
        assert!(counts.connections() <= PLACES as u64 + 4, "{counts:?}");
        drop(silent);
        site.settle(&Tally::default());
    }
}

#[test]
fn newcomer_displaces_the_oldest_unauthenticated_connection() {
    let _dog = watchdog();
    for threads in [1, 2] {
        let mut options = Options { connections_max: 8, threads, ..guarded() };
        options.plan = options.plan.with_producers_max(threads);
        let site = Site::open(options);
        let mut tally = Tally::default();
        let mut first = known(&site.address);
        let mut strangers: Vec<_> = (0..7).map(|_| TcpStream::connect(&site.address).unwrap()).collect();
        site.until("all places are taken", |counts| (counts.connections(), counts.unauthenticated) == (8, 7));
        let mut inside = Vec::new();
        for n in 0..7 {
            // It is admitted, and those with the password stay.
            let mut client = known(&site.address);
            client.send(&xadd("s", &n.to_string(), n));
            client.take("s", 1, &mut tally);
            inside.push(client);
            first.ping();
            if threads == 1 {
                assert!(is_closed(&mut strangers[n as usize]), "{n}");
            }
        }
        let counts = site.until("no stranger is left", |counts| counts.unauthenticated == 0);
        assert_eq!((counts.ended(End::Displaced), counts.connections()), (7, 8));
        assert!(strangers.iter_mut().all(is_closed));
        // Where all are known, newcomers are turned away.
        let mut client = Client::new(&site.address);
        assert_eq!(client.rest(), [Reply::Error("ERR max number of clients reached".into())]);
        inside.iter_mut().for_each(Client::ping);
        let told = site.server.watch().incidents();
        assert!(told.iter().any(|text| text.starts_with("7 connections without a password")), "{told:?}");
        assert!(told.iter().any(|text| text.starts_with("1 connection turned away")), "{told:?}");
        assert!(site.server.watch().incidents().is_empty());
        site.settle(&tally);
    }
}

#[test]
fn critical_socket_accepts_when_all_slots_are_taken() {
    let _dog = watchdog();
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("socket");
    let unix_socket = Some(path.clone());
    let site = Site::open(Options { connections_max: 2, unix_socket, unix_critical: true, ..plain() });
    let mut others: Vec<_> = (0..2).map(|_| site.client()).collect();
    others.iter_mut().for_each(Client::ping);
    assert_eq!(site.client().rest(), [Reply::Error("ERR max number of clients reached".into())]);
    Client::new(path.to_str().unwrap()).ping();
    site.settle(&Tally::default());
}

#[test]
fn stalled_request_closes_its_connection() {
    let _dog = watchdog();
    let (options, time) = by_hand(Options { stall: Duration::from_secs(2), ..plain() });
    let site = Site::open(options);
    let head = b"*2\r\n$4\r\nECHO\r\n$200000\r\n";
    let mut silent = site.client();
    silent.send(&head[..20]);
    let mut trickling = site.client();
    trickling.send(head);
    // A slow upload that gets on, for several times as long as one that does not may take.
    let mut steady = site.client();
    steady.send(head);
    let head_bytes = 2 * head.len() as u64 + 20;
    site.until("what they began is read", |counts| counts.bytes_in == head_bytes);
    let (mut sent, mut steps) = (0, 0);
    while sent < 200_000 {
        time.advance(Duration::from_millis(200));
        let piece = 8_000.min(200_000 - sent);
        steady.send(&vec![b'x'; piece]);
        sent += piece;
        steps += 1;
        site.until("the piece is read", |counts| counts.bytes_in >= head_bytes + sent as u64);
        trickling.try_send(b"x");
    }
    assert!(steps * 200 >= 4_000);
    steady.send(b"\r\n");
    assert_eq!(steady.read().text().len(), 200_000);
    assert_eq!((silent.next(), trickling.next()), (None, None));
    site.until("both are counted", |counts| counts.ended(End::Stalled) == 2);
    site.settle(&Tally::default());
}

#[test]
fn stop_ends_in_time_with_peers_that_send_and_peers_that_never_read() {
    const SENDERS: usize = 16;
    let _dog = watchdog();
    // A read takes as much as may be set, within reason.
    let site = Site::open(Options { read_budget_bytes: 64 << 20, output_bytes_max: 64 << 10, ..plain() });
    let mut deaf: Vec<_> = (0..4).map(|_| narrow(&site.address)).collect();
    let echo = request(&["ECHO", &"x".repeat(8 << 10)]);
    for tcp in &mut deaf {
        tcp.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
        while tcp.write_all(&echo).is_ok() {}
    }
    let senders: Vec<_> = (0..SENDERS)
        .map(|_| {
            let mut tcp = TcpStream::connect(&site.address).unwrap();
            std::thread::spawn(move || {
                // Empty requests, which are not answered.
                let lines = [&[b' '; 60_000][..], b"\r\n"].concat().repeat(32);
                while tcp.write_all(&lines).is_ok() {}
            })
        })
        .collect();
    site.until("they send", |counts| counts.bytes_in > 64 << 20);
    let mut server = site.server;
    let begun = Instant::now();
    let report = server.stop(Duration::from_secs(1)).unwrap();
    let took = begun.elapsed();
    println!("the stop took {took:?}");
    assert!(took < Duration::from_secs(6), "{took:?}");
    assert!(report.engine.ledger.is_closed() && report.lost.is_empty(), "{:?}", report.lost);
    assert_eq!(report.gateway.connections(), 0);
    senders.into_iter().for_each(|sender| sender.join().unwrap());
}
