//! `pelton up`: after its figures it serves, says how to talk to it, and ends on a signal with a report that is closed.

use crate::support::pelton;
use crate::support::server::Server;
use pelton_testkit::program::end;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use tempfile::TempDir;

/// `pelton up`, its made-up stream read once, with more arguments.
fn up(args: &[&str]) -> Command {
    let mut command = pelton();
    command.args(["up", "--seconds", "0"]).args(args);
    command
}

fn serving(args: &[&str]) -> Server {
    Server::ready(up(args), 1, TempDir::new().unwrap())
}

/// What it says until the note below its examples.
fn greeting(server: &Server) -> Vec<String> {
    let mut lines = Vec::new();
    while lines.last().is_none_or(|line: &String| !line.contains("`pelton run --config FILE` serves it.")) {
        lines.push(server.line());
    }
    lines
}

/// Says something, and gives the first line of the answer.
fn ask(address: &str, said: &str) -> String {
    let mut client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(pelton_testkit::program::WATCHDOG)).unwrap();
    client.write_all(format!("{said}\r\n").as_bytes()).unwrap();
    let mut line = String::new();
    BufReader::new(client).read_line(&mut line).unwrap();
    line.trim_end().to_string()
}

/// What is behind the name of a row.
fn row(text: &str, name: &str) -> Vec<String> {
    let row = text.lines().map(str::trim).find(|line| line.split_whitespace().next() == Some(name));
    let row = row.unwrap_or_else(|| panic!("no {name} in\n{text}"));
    row.split_whitespace().skip(1).map(str::to_string).collect()
}

#[test]
fn what_it_says_can_be_said_to_it() {
    let server = serving(&["--listen", "127.0.0.1:0"]);
    for part in ["This machine", "Settings", "Ledger", "closed", "Latency", "Serving"] {
        assert!(server.before.contains(part), "no '{part}' in\n{}", server.before);
    }
    let lines = greeting(&server);
    assert!(lines.iter().all(|line| line.chars().count() <= 100), "{lines:#?}");
    assert!(!lines.iter().any(|line| line.contains("is taken")), "it was told to find one: {lines:#?}");
    let port = server.address().rsplit_once(':').unwrap().1;
    let client = format!("  redis-cli -p {port} ");
    let said: Vec<_> = lines.iter().filter_map(|line| line.strip_prefix(&client)).collect();
    let heads = |head: &str| said.iter().filter(|said| said.starts_with(head)).count();
    assert_eq!((heads("XADD "), heads("PELTON.VIEW "), heads("SUBSCRIBE ")), (3, 2, 1), "{lines:#?}");
    for said in said {
        let answer = ask(server.address(), said);
        let is_good = match said.split(' ').next() {
            // An id; a list or a map.
            Some("XADD") => answer.starts_with('$'),
            _ => answer.starts_with(['*', '>', '%']),
        };
        assert!(is_good, "{said}: {answer}");
    }
    server.signal("INT");
    let done = server.wait();
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""), "{}", done.out);
    for stream in ["orders", "prices", "events"] {
        assert_eq!(row(&done.out, stream)[..4], ["1", "0", "0", "0"], "{}", done.out);
    }
    assert!(done.out.contains("  closed: every event that was offered"), "{}", done.out);
    let ledger = done.out.split("Ledger").nth(1).unwrap();
    assert_eq!(row(ledger, "accepted"), ["1", "1", "1", "3"]);
    assert!(ledger.contains("= handled            1      1      1       3"), "{ledger}");
}

#[test]
fn one_configuration_is_for_the_figures_and_for_what_is_served() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("up.toml");
    let text = "profile = \"dev\"\nshards = 1\n[replay]\ntop = 3\n[gateway]\nlisten = [\"127.0.0.1:0\"]\n\
                [[class]]\nname = \"critical\"\ncapacity_slots = 64\n\
                [[stream]]\nname = \"mine\"\nclass = \"critical\"\nkey = \"first\"\n";
    std::fs::write(&path, text).unwrap();
    let server = Server::ready(up(&["--config", path.to_str().unwrap()]), 1, folder);
    let greeted = greeting(&server).join("\n");
    assert_eq!(row(&greeted, "mine"), ["critical", "strict", "reject", "first"]);
    assert!(
        !greeted.contains("orders   "),
        "its own streams stand in the place of the usual ones: {greeted}"
    );
    assert!(ask(server.address(), "XADD mine * a 1").starts_with('$'));
    server.signal("TERM");
    let done = server.wait();
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert_eq!(row(&done.out, "mine")[..4], ["1", "0", "0", "0"]);
    assert!(done.out.contains("  closed: "), "{}", done.out);
}

#[test]
fn a_taken_port_is_told_and_another_one_is_found() {
    // If somebody else has it, it is taken as well.
    let _taken = TcpListener::bind("127.0.0.1:6380");
    let server = serving(&[]);
    let lines = greeting(&server);
    assert!(lines[0].contains("127.0.0.1:6380 is taken"), "{lines:#?}");
    assert_eq!(ask(server.address(), "PING"), "+PONG");
    server.signal("TERM");
    assert_eq!(server.wait().code, Some(0));
    // Who has named one does not get another.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let _taken = TcpListener::bind(taken).unwrap();
    let done = end(up(&["--listen", &taken.to_string()]).spawn().unwrap());
    assert_eq!(done.code, Some(3), "{}", done.err);
    assert!(done.err.contains(&taken.to_string()) && done.err.contains("another address"), "{}", done.err);
}

#[test]
fn what_cannot_be_served_is_told_before_the_figures() {
    let done = end(up(&["--connections-max", "0"]).spawn().unwrap());
    assert_eq!((done.code, done.out.as_str()), (Some(2), ""));
    assert!(done.err.contains("gateway: connections_max is '0'"), "{}", done.err);
    let done = end(up(&["--once", "--listen", "127.0.0.1:0"]).spawn().unwrap());
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""));
    assert!(!done.out.contains("listening"), "nothing is served: {}", done.out);
}

#[test]
fn nobody_is_served_whose_output_nobody_reads() {
    let mut child = up(&["--listen", "127.0.0.1:0"]).spawn().unwrap();
    drop(child.stdout.take());
    let done = end(child);
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""));
}

#[test]
fn a_signal_ends_the_figures_at_once() {
    let mut child = pelton().args(["up", "--seconds", "86400"]).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("Running") {
        line.clear();
        assert!(out.read_line(&mut line).unwrap() > 0, "it ends before it runs");
    }
    pelton_testkit::program::signal(child.id(), "TERM");
    let done = end(child);
    assert_eq!((done.code, done.err.as_str()), (None, ""), "the signal ended it");
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert!(!rest.contains("Serving"), "{rest}");
}

#[test]
fn a_narrow_terminal_breaks_no_line_of_the_page() {
    let command = format!("{} up --once --seconds 0 2>/dev/null", env!("CARGO_BIN_EXE_pelton"));
    let Some(screen) = pelton_testkit::program::at_terminal(80, &command) else { return };
    for part in ["This machine", "Settings", "Classes", "Memory", "Ledger", "closed", "Latency", "Run"] {
        assert!(screen.contains(part), "no '{part}' in\n{screen}");
    }
    let long: Vec<_> = screen.lines().filter(|line| line.chars().count() > 80).collect();
    assert!(long.is_empty(), "{long:#?}");
    let rule = screen.lines().map(|line| line.chars().filter(|c| *c == '─').count()).max();
    assert!(rule > Some(60), "it has all the width there is: {screen}");
}
