//! The front door as clients see it, with the program behind it.

use crate::support::pelton;
use crate::support::server::Server;
use pelton_testkit::certificate::{Certificate, redis_cli, said};
use pelton_testkit::gateway::*;
use pelton_testkit::needs::{Need, skipped};
use pelton_testkit::program::{alone, end};
use pelton_testkit::watchdog;
use serde_json::Value;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

const FILE: &str = r#"
profile = "dev"
shards = 1
[gateway]
listen = ["127.0.0.1:0"]
frame_max_bytes = 262_144
args_max = 64
MORE
[[class]]
name = "s"
share = "weighted"
capacity_slots = 256
payload_ring_bytes = 1_048_576
overflow = "block"
[[stream]]
name = "s"
class = "s"
key = "field:who"
"#;

fn file(more: &str) -> String {
    FILE.replace("MORE", more)
}

/// Stops it: what clients were told is in its report.
#[track_caller]
fn settle(server: Server, tally: &Tally, ended: &[(&str, u64)]) {
    let report = server.stop();
    let count = |of: &Value, key: &str| of[key].as_u64().unwrap_or_else(|| panic!("{key}: {report:#}"));
    let (told, stream, ledger) = (tally.of("s"), &report["gateway"]["streams"][0], &report["ledger"]);
    let ids = told.ids.len() as u64;
    assert_eq!([count(stream, "accepted"), count(ledger, "accepted"), count(ledger, "handled")], [ids; 3]);
    assert_eq!(count(stream, "refused"), told.refused);
    assert_eq!((count(stream, "busy"), count(stream, "dropped"), count(ledger, "rejected")), (0, 0, 0));
    assert_eq!(count(&report["gateway"], "connections"), 0);
    for (reason, wanted) in ended {
        assert_eq!(count(&report["gateway"]["ended_by"], reason), *wanted, "{reason}: {report:#}");
    }
}

/// Publishes one event, and is answered: it is served.
#[track_caller]
fn served(client: &mut Client, who: &str, n: u64, tally: &mut Tally) {
    client.send(&xadd("s", who, n));
    client.take("s", 1, tally);
}

#[test]
fn bad_input_costs_its_own_connection() {
    let _dog = watchdog();
    let server = Server::start(&file(""));
    let address = server.address().to_owned();
    let mut tally = Tally::default();
    let mut good = Client::new(&address);
    let large = format!("*2\r\n$4\r\nECHO\r\n${}\r\n", 1 << 18);
    let bad: &[&[u8]] = &[
        b"\x16\x03\x01\x02\x00\x01",
        b"*x\r\n",
        b"*9223372036854775808\r\n",
        b"*1\r\n$-1\r\n",
        b"*1\r\n$9223372036854775808\r\n",
        large.as_bytes(),
        b"*65\r\n",
        b"*1\r\n*1\r\n$4\r\nPING\r\n",
        b"ECHO 'x\r\n",
    ];
    for (n, bytes) in bad.iter().enumerate() {
        let mut client = Client::new(&address);
        client.send(bytes);
        let told = client.rest();
        assert!(told.len() == 1 && told[0].is_error("ERR Protocol error: "), "{told:?}");
        served(&mut good, "good", n as u64, &mut tally);
    }
    // A frame cut at every byte, and one byte at a time.
    let frame = |n: u64| [&xadd("s", "cut", n)[..], b"PING\r\n"].concat();
    for (n, cut) in (1..frame(1_000).len()).enumerate() {
        let frame = frame(1_000 + n as u64);
        good.send(&frame[..cut]);
        good.send(&frame[cut..]);
        good.take("s", 1, &mut tally);
        assert_eq!(good.read().text(), "PONG");
    }
    for byte in xadds("s", "slow", 0, 5) {
        good.send(&[byte]);
    }
    good.take("s", 5, &mut tally);
    // Lengths of nothing and of the most; lines; and a word for the end.
    let head = request(&["ECHO", &"x".repeat(100_000)]).len() - 100_000;
    let text = "x".repeat((1 << 18) - head);
    assert_eq!(good.ask(&["ECHO", &text]).text(), text);
    assert_eq!(good.ask(&["ECHO", ""]).text(), "");
    good.send(b"xadd s * who inline n 1\r\n");
    good.take("s", 1, &mut tally);
    good.send(&b"PING\r\n".repeat(10_000));
    (0..10_000).for_each(|_| assert_eq!(good.read().text(), "PONG"));
    good.send(b"QUIT\r\n");
    assert_eq!(good.rest(), [Reply::Simple("OK".into())]);
    settle(server, &tally, &[("protocol", bad.len() as u64), ("client", 1), ("stopped", 0)]);
}

#[test]
fn those_who_keep_a_connection_for_nothing_are_ended() {
    let _dog = watchdog();
    let server = Server::start(&file("output_max_bytes = 65_536\nstall_s = 2\nidle_s = 1"));
    let address = server.address().to_owned();
    let mut tally = Tally::default();
    let mut good = Client::new(&address);
    let mut deaf = narrow(&address);
    deaf.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let echo = request(&["ECHO", &"x".repeat(8 << 10)]);
    while deaf.write_all(&echo).is_ok() {}
    let mut half = Client::new(&address);
    half.send(b"*5\r\n$4\r\nXADD\r\n$1");
    let begun = Instant::now();
    let mut n = 0;
    // They are ended while another is served.
    while half.within(Duration::from_millis(20)).is_none() {
        served(&mut good, "good", n, &mut tally);
        n += 1;
        if begun.elapsed() > Duration::from_secs(6) {
            break;
        }
    }
    assert_eq!(half.next(), None);
    served(&mut good, "good", n, &mut tally);
    drop(deaf);
    settle(server, &tally, &[("stalled", 1), ("idle", 1), ("stopped", 1)]);
}

#[test]
fn resets_without_end_leave_nothing_behind() {
    let _dog = watchdog();
    let server = Server::start(&file("threads = 2"));
    let mut tally = Tally::default();
    let mut good = Client::new(server.address());
    for n in 0..3_000u64 {
        let tcp = TcpStream::connect(server.address()).unwrap();
        if n % 2 == 0 {
            let _ = (&tcp).write(b"*5\r\n$4\r\nXA");
        }
        reset(tcp);
        if n % 50 == 0 {
            served(&mut good, "good", n, &mut tally);
        }
    }
    // The next is let in behind all of them.
    let mut next = Client::new(server.address());
    served(&mut next, "next", 0, &mut tally);
    let begun = Instant::now();
    while next.ask(&["CLIENT", "LIST"]).text().lines().count() > 2 {
        assert!(begun.elapsed() < DEADLINE);
    }
    let files = std::fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap().count();
    assert!(files < 40, "{files} descriptors");
    settle(server, &tally, &[("stopped", 2), ("protocol", 0), ("descriptors", 0), ("full", 0)]);
}

#[test]
fn without_descriptors_those_within_go_on_and_those_without_are_told() {
    const FILES: usize = 64;
    let _dog = watchdog();
    if end(alone(Command::new("sh")).args(["-c", "command -v prlimit"]).spawn().unwrap()).code != Some(0) {
        skipped::<()>(Need::Tools, "`prlimit` cannot be run");
        return;
    }
    let server = Server::start_by(&file("threads = 2"), |command| {
        let mut limited = alone(Command::new("prlimit"));
        limited.arg(format!("--nofile={FILES}:{FILES}")).arg(command.get_program()).args(command.get_args());
        *command = limited;
    });
    let mut tally = Tally::default();
    let (mut within, mut told) = (Vec::new(), 0);
    for round in 0..3 {
        let before = told;
        while told < before + 20 {
            let mut client = Client::new(server.address());
            client.try_send(b"PING\r\n");
            match client.next() {
                Some(Reply::Simple(_)) => within.push(client),
                Some(other) => {
                    assert_eq!(other, Reply::Error("ERR no file descriptor is left".into()));
                    assert_eq!(client.next(), None);
                    told += 1;
                }
                None => told += 1,
            }
            assert!(within.len() < FILES);
        }
        assert!(within.len() > 20, "{}", within.len());
        for (at, client) in within.iter_mut().enumerate() {
            served(client, &at.to_string(), round, &mut tally);
        }
        // Those who leave make room, for as many.
        within.truncate(within.len() - 10);
        let begun = Instant::now();
        let mut back = 0;
        while back < 10 {
            let mut client = Client::new(server.address());
            client.try_send(b"PING\r\n");
            match client.next() {
                Some(Reply::Simple(_)) => {
                    within.push(client);
                    back += 1;
                }
                // They may not have left yet.
                _ => told += 1,
            }
            assert!(begun.elapsed() < DEADLINE, "there is no room again");
        }
    }
    settle(server, &tally, &[("descriptors", told), ("full", 0), ("protocol", 0)]);
}

#[test]
fn those_beyond_the_most_and_those_who_guess_are_ended() {
    let _dog = watchdog();
    let server = Server::start(&file("connections_max = 4\npassword = \"sesame\"\nauth_tries_max = 2"));
    let mut tally = Tally::default();
    let mut guessing = Client::new(server.address());
    assert!(guessing.ask(&["AUTH", "x"]).is_error("WRONGPASS "));
    assert!(guessing.ask(&["HELLO", "3", "AUTH", "default", "y"]).is_error("WRONGPASS "));
    assert_eq!(guessing.next(), None);
    let mut clients: Vec<_> = (0..4).map(|_| Client::new(server.address())).collect();
    for (at, client) in clients.iter_mut().enumerate() {
        assert!(client.ask(&["XADD", "s", "*", "who", "a"]).is_error("NOAUTH "));
        assert_eq!(client.ask(&["AUTH", "sesame"]).text(), "OK");
        served(client, &at.to_string(), 0, &mut tally);
    }
    for _ in 0..5 {
        assert_eq!(
            Client::new(server.address()).rest(),
            [Reply::Error("ERR max number of clients reached".into())]
        );
    }
    served(&mut clients[0], "0", 1, &mut tally);
    settle(server, &tally, &[("full", 5), ("auth", 1), ("stopped", 4)]);
}

#[test]
fn strangers_are_kept_small_until_they_say_the_password() {
    const STRANGERS: usize = 50;
    let _dog = watchdog();
    let server = Server::start(&file("password = \"sesame\""));
    let mut tally = Tally::default();
    let ends = |bytes: &[u8], why: &str| {
        let mut client = Client::new(server.address());
        client.send(bytes);
        assert_eq!(client.rest(), [Reply::Error(format!("ERR Protocol error: {why}"))]);
    };
    let bulk = |bytes: usize| format!("*2\r\n$4\r\nECHO\r\n${bytes}\r\n").into_bytes();
    // All at once, with what each would like to have kept.
    let mut all: Vec<_> = (0..STRANGERS).map(|_| Client::new(server.address())).collect();
    for client in &mut all {
        client.send(&[&bulk(200_000)[..], &[b'x'; 150_000]].concat());
    }
    let told = Reply::Error("ERR Protocol error: unauthenticated bulk length".into());
    for mut client in all {
        assert_eq!(client.rest(), std::slice::from_ref(&told));
    }
    ends(&bulk(16_385), "unauthenticated bulk length");
    ends(b"*11\r\n", "unauthenticated multibulk length");
    ends(&[b'x'; 16_384], "too big inline request");
    ends(&request_of(&[&[b'x'; 16_384][..]; 2]), "too big request");
    ends(&request_of(&[&[b'x'; 12_000][..]; 2]), "too big request");
    // As much as they may say is heard, and no more than heard.
    let mut client = Client::new(server.address());
    client.send(&request_of(&[b"ECHO", &[b'x'; 16_384]]));
    assert!(client.read().is_error("NOAUTH "));
    client.send(b"AUTH sesame\r\n");
    client.send(&request_of(&[b"ECHO", &[b'x'; 200_000]]));
    assert_eq!(client.read().text(), "OK");
    assert_eq!(client.read().text().len(), 200_000);
    served(&mut client, "a", 0, &mut tally);
    // Who begins anew is a stranger again.
    assert_eq!(client.ask(&["RESET"]).text(), "RESET");
    client.send(&bulk(16_385));
    assert_eq!(client.rest(), [told]);
    settle(server, &tally, &[("protocol", STRANGERS as u64 + 6)]);
}

#[test]
fn what_stands_where_it_would_listen_is_an_error_or_its_own() {
    let _dog = watchdog();
    let server = Server::start(&file("unix_socket = \"FOLDER/socket\""));
    let path = server.unix[0].clone();
    let start = |text: &str| {
        let folder = tempfile::TempDir::new().unwrap();
        let file = folder.path().join("pelton.toml");
        std::fs::write(&file, text).unwrap();
        end(pelton().args(["run", "--json", "--config"]).arg(file).spawn().unwrap())
    };
    let taken = format!("listen = [{:?}]", server.address());
    let done = start(&file("").replace("listen = [\"127.0.0.1:0\"]", &taken));
    assert!(done.code != Some(0) && done.err.contains(server.address()), "{:?} {}", done.code, done.err);
    let done = start(&file(&format!("unix_socket = {path:?}")));
    assert!(done.code != Some(0) && done.err.contains("another server listens there"), "{}", done.err);
    let place = tempfile::TempDir::new().unwrap();
    let own = place.path().join("socket");
    std::fs::write(&own, "mine").unwrap();
    let done = start(&file(&format!("unix_socket = {own:?}")));
    assert!(done.code != Some(0) && done.err.contains("no socket"), "{}", done.err);
    assert_eq!(std::fs::read_to_string(&own).unwrap(), "mine");
    std::fs::remove_file(&own).unwrap();
    // One that was killed leaves its socket, and the next takes its place.
    let killed = Server::start(&file(&format!("unix_socket = {own:?}")));
    killed.signal("KILL");
    assert_eq!(killed.wait().code, None);
    assert!(own.exists());
    let next = Server::start(&file(&format!("unix_socket = {own:?}\nunix_mode = \"0660\"")));
    assert_eq!(own.metadata().unwrap().permissions().mode() & 0o777, 0o660);
    let mut tally = Tally::default();
    served(&mut Client::new(own.to_str().unwrap()), "a", 0, &mut tally);
    settle(next, &tally, &[("protocol", 0)]);
    assert!(!own.exists());
    // Nobody who was turned away did harm to the one that was there.
    let mut tally = Tally::default();
    served(&mut Client::new(&path), "a", 0, &mut tally);
    settle(server, &tally, &[("protocol", 0)]);
}

const PASSWORD: &str = "open sesame";

const GUARDED: &str = r#"
profile = "dev"
shards = 1
[gateway]
listen = ["127.0.0.1:0"]
listen_critical = ["127.0.0.1:0"]
password = "open sesame"
[[class]]
name = "s"
share = "weighted"
capacity_slots = 256
payload_ring_bytes = 1_048_576
overflow = "block"
[[stream]]
name = "s"
class = "s"
key = "field:who"
"#;

#[test]
fn clients_get_in_while_strangers_hold_every_descriptor() {
    const FILES: usize = 96;
    let _dog = watchdog();
    if end(alone(Command::new("sh")).args(["-c", "command -v prlimit"]).spawn().unwrap()).code != Some(0) {
        skipped::<()>(Need::Tools, "`prlimit` cannot be run");
        return;
    }
    let server = Server::start_by(GUARDED, |command| {
        let mut limited = alone(Command::new("prlimit"));
        limited.arg(format!("--nofile={FILES}:{FILES}")).arg(command.get_program()).args(command.get_args());
        *command = limited;
    });
    let mut strangers: Vec<_> =
        (0..2 * FILES).map(|_| TcpStream::connect(server.address()).unwrap()).collect();
    let mut critical: Vec<_> = (0..10).map(|_| Client::known(&server.critical[0], PASSWORD)).collect();
    critical.iter_mut().for_each(Client::ping);
    let mut ordinary: Vec<_> = (0..20)
        .map(|_| {
            strangers.push(TcpStream::connect(server.address()).unwrap());
            Client::known(server.address(), PASSWORD)
        })
        .collect();
    ordinary.iter_mut().chain(&mut critical).for_each(Client::ping);
    let report = server.stop();
    let ended = &report["gateway"]["ended_by"];
    assert!(ended["displaced"].as_u64() > Some(FILES as u64), "{report:#}");
    assert_eq!(ended["descriptors"], 0, "{report:#}");
}

#[test]
fn the_program_encrypts() {
    let certificate = Certificate::new();
    let config = format!(
        r#"
profile = "dev"
shards = 1
[gateway]
listen = []
listen_tls = ["127.0.0.1:0"]
tls_certificate = "{0}/cert.pem"
tls_key = "{0}/key.pem"
[[class]]
name = "bulk"
share = "weighted"
capacity_slots = 1024
payload_ring_bytes = 65536
overflow = "block"
[[stream]]
name = "events"
class = "bulk"
key = "round_robin"
"#,
        certificate.folder.path().display()
    );
    let server = Server::start(&config);
    let Some(mut client) = redis_cli(&server.tls[0], &certificate) else { return };
    let said = said(&mut client, &["-r", "50", "XADD", "events", "*", "field", "value"]);
    assert_eq!(said.lines().count(), 50, "{said}");
    let report = server.stop();
    assert_eq!(report["ledger"]["accepted"], 50, "{report:#}");
    assert_eq!(report["ledger"]["handled"], 50, "{report:#}");
}
