//! `pelton run`, started and stopped as a service is: it says where it listens, serves, ends on a signal with a report that
//! is closed, and refuses what it cannot start from.
#![cfg(feature = "cli")]

#[path = "support/program.rs"]
mod program;
#[path = "support/server.rs"]
mod server;

use program::{Done, end, pelton};
use server::Server;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;

const FILE: &str = r#"
profile = "dev"
shards = 1

[gateway]
listen = ["127.0.0.1:0"]
password_file = "FOLDER/secret"

[[class]]
name = "orders"
share = "strict"
capacity_slots = 64
overflow = "reject"
payload_ring_bytes = 4_096

[[stream]]
name = "orders"
class = "orders"
key = "field:user"
"#;

/// Says something, and reads until the answers end with what is expected.
#[track_caller]
fn ask(stream: &mut TcpStream, said: &str, last: &str) {
    stream.set_read_timeout(Some(program::WATCHDOG)).unwrap();
    stream.write_all(said.as_bytes()).unwrap();
    let (mut all, mut bytes) = (Vec::new(), [0; 256]);
    while !all.ends_with(last.as_bytes()) {
        let read = stream.read(&mut bytes).unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&all));
        all.extend_from_slice(&bytes[..read]);
    }
}

/// Runs the program to its end with a file in a folder.
fn run(folder: &Path, text: &str) -> Done {
    let path = folder.join("it.toml");
    std::fs::write(&path, text.replace("FOLDER", folder.to_str().unwrap())).unwrap();
    end(pelton().args(["run", "--config"]).arg(path).spawn().unwrap())
}

#[test]
fn a_signal_ends_it_with_a_report_that_is_closed() {
    for signal in ["TERM", "INT"] {
        let server = Server::start_by(&FILE.replace("password_file = \"FOLDER/secret\"", ""), |command| {
            command.args(["--stream", "orders:key=first", "--connections-max", "3"]);
        });
        let mut client = TcpStream::connect(server.address()).unwrap();
        ask(&mut client, "XADD orders * user 7 qty 3\r\nXADD orders * user 8\r\nPING\r\n", "+PONG\r\n");
        server.signal(signal);
        let done = server.wait();
        assert_eq!(done.code, Some(0), "{}", done.err);
        let report: serde_json::Value = serde_json::from_str(&done.out).unwrap();
        let ledger = &report["ledger"];
        assert_eq!((&ledger["closed"], &ledger["drained"]), (&true.into(), &true.into()), "{report:#}");
        let stream = &report["gateway"]["streams"][0];
        assert_eq!(
            (&stream["accepted"], &ledger["accepted"], &ledger["handled"]),
            (&2.into(), &2.into(), &2.into())
        );
        assert_eq!(report["gateway"]["connected"], 1);
        assert!(done.err.contains("profile dev; 1 shard "), "{}", done.err);
    }
}

#[test]
fn the_password_of_a_file_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "hunter2\n").unwrap();
    let server = Server::start(&FILE.replace("FOLDER/secret", secret.to_str().unwrap()));
    let mut client = TcpStream::connect(server.address()).unwrap();
    let told = "-NOAUTH Authentication required.\r\n";
    ask(&mut client, "PING\r\n", told);
    ask(&mut client, "AUTH hunter2\r\nPING\r\n", "+OK\r\n+PONG\r\n");
    drop(client);
    server.stop();
}

#[test]
fn what_it_cannot_start_from_has_a_code_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    // The machine has not the file.
    let done = run(folder.path(), FILE);
    assert_eq!((done.code, done.out.as_str()), (Some(3), ""), "{}", done.err);
    assert!(done.err.contains("gateway: password_file is '"), "{}", done.err);
    std::fs::write(folder.path().join("secret"), "hunter2").unwrap();
    let done = run(folder.path(), &FILE.replace("\"field:user\"", "\"user\""));
    assert_eq!(done.code, Some(2));
    assert!(done.err.contains("must be one of round_robin, first, or field:NAME"), "{}", done.err);
    // Somebody is there already.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let done = run(folder.path(), &FILE.replace("127.0.0.1:0", &address));
    assert_eq!((done.code, done.out.as_str()), (Some(1), ""), "{}", done.err);
    assert!(done.err.contains(&address), "{}", done.err);
}
