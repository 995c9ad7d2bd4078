//! The judge is judged: `gateway_load` finds out every server that does not do what it should.

use pelton_testkit::program::{Done, alone, end};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::thread;

fn load() -> Command {
    alone(Command::new(env!("CARGO_BIN_EXE_gateway_load")))
}

/// How many bytes the requests of these tests have: `XADD mystream * myfield` and 40 bytes.
const REQUEST_BYTES: usize = 95;

/// A server that gives each connection to `serve`; its address.
fn server(serve: impl Fn(TcpStream) + Copy + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        listener.incoming().map_while(Result::ok).for_each(|stream| {
            thread::spawn(move || serve(stream));
        });
    });
    address
}

/// Answers request `n`, from 1 on, by what `answer` says; no answer ends the connection.
fn answering(mut stream: TcpStream, answer: impl Fn(u64) -> Option<String>) {
    let mut request = [0; REQUEST_BYTES];
    let mut n = 0;
    while stream.read_exact(&mut request).is_ok() {
        assert!(
            request.starts_with(b"*5\r\n$4\r\nXADD\r\n$8\r\nmystream\r\n$1\r\n*\r\n$7\r\nmyfield\r\n$40\r\n")
        );
        n += 1;
        let Some(answer) = answer(n) else { return };
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn id(n: u64) -> String {
    let id = format!("1795273200000-{n}");
    format!("${}\r\n{id}\r\n", id.len())
}

fn judged(mode: &[&str], serve: impl Fn(TcpStream) + Copy + Send + 'static) -> (Done, Value) {
    let mut command = load();
    command.args(mode).args(["--json", "--seconds", "20", "--address", &server(serve)]);
    let done = end(command.spawn().unwrap());
    let told = serde_json::from_str(&done.out).unwrap_or_else(|error| panic!("{error}: {}", done.err));
    (done, told)
}

const MANY: &[&str] = &["many", "--connections", "5", "--pipeline", "10", "--requests", "500"];
const LATENCY: &[&str] = &["latency", "--rate", "1000", "--requests", "100"];

#[test]
fn a_good_server_is_found_good() {
    let serve = |stream: TcpStream| answering(stream, |n| Some(id(n)));
    for (mode, requests) in [(MANY, 500), (LATENCY, 100), (&["pipeline", "--requests", "3000"], 3000)] {
        let (done, told) = judged(mode, serve);
        assert_eq!(done.code, Some(0), "{told:#}");
        assert_eq!((&told["sent"], &told["accepted"]), (&json!(requests), &json!(requests)), "{told:#}");
        assert_eq!(told["errors"], json!({}));
    }
}

#[test]
fn refusals_are_counted_and_are_no_errors() {
    let serve = |stream: TcpStream| {
        answering(stream, |n| {
            Some(match n % 4 {
                1 => "-BUSY bulk 16\r\n".into(),
                2 => "-DROPPED bulk\r\n".into(),
                _ => id(n),
            })
        });
    };
    let (done, told) = judged(MANY, serve);
    assert_eq!(done.code, Some(0), "{told:#}");
    let counts = ["accepted", "busy", "dropped"].map(|key| told[key].as_u64().unwrap());
    assert_eq!(counts, [250, 125, 125], "{told:#}");
}

#[test]
fn an_id_that_comes_twice_is_found_out() {
    let serve = |stream: TcpStream| answering(stream, |n| Some(id(n - n / 50)));
    let (done, told) = judged(MANY, serve);
    assert_eq!(done.code, Some(1));
    assert_eq!(told["out_of_order"].as_u64().unwrap(), 10, "{told:#}");
}

#[test]
fn an_error_is_found_out() {
    let answer = |n| Some(if n == 30 { "-ERR no\r\n".into() } else { id(n) });
    for mode in [MANY, LATENCY] {
        let (done, told) = judged(mode, move |stream| answering(stream, answer));
        assert_eq!(done.code, Some(1));
        let connections = if mode == MANY { 5 } else { 1 };
        assert_eq!(told["errors"], json!({ "ERR": connections }), "{told:#}");
    }
}

#[test]
fn a_connection_that_ends_is_found_out() {
    let serve = |stream: TcpStream| answering(stream, |n| (n < 30).then(|| id(n)));
    for mode in [MANY, LATENCY] {
        let (done, told) = judged(mode, serve);
        assert_eq!(done.code, Some(1));
        assert!(told["unanswered"].as_u64().unwrap() > 0, "{told:#}");
        assert!(told["errors"].as_object().unwrap().keys().all(|kind| kind.starts_with("lost:")), "{told:#}");
    }
}

#[test]
fn what_was_not_asked_for_is_found_out() {
    let serve =
        |stream: TcpStream| answering(stream, |n| Some(id(n) + if n == 100 { "+more\r\n" } else { "" }));
    let (done, told) = judged(MANY, serve);
    assert_eq!(done.code, Some(1));
    assert!(!told["errors"].as_object().unwrap().is_empty(), "{told:#}");
}

/// One in five connections is served a tenth as often as the others.
#[test]
fn a_connection_that_starves_is_found_out() {
    let mut command = load();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for (at, stream) in listener.incoming().map_while(Result::ok).enumerate() {
            thread::spawn(move || {
                answering(stream, |n| {
                    // Slow by sleeping: all the others are faster, however slow the machine is.
                    thread::sleep(std::time::Duration::from_millis(if at == 2 { 50 } else { 1 }));
                    Some(id(n))
                });
            });
        }
    });
    command.args([
        "many",
        "--json",
        "--connections",
        "5",
        "--pipeline",
        "2",
        "--seconds",
        "3",
        "--address",
        &address,
    ]);
    let done = end(command.spawn().unwrap());
    let told: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(done.code, Some(0), "{told:#}");
    assert!(told["per_connection"]["slowest_of_median"].as_f64().unwrap() < 0.5, "{told:#}");
}

#[test]
fn the_constant_server_answers_each_request_once() {
    let mut command = load();
    let mut constant = command.args(["constant", "--seconds", "50"]).spawn().unwrap();
    let mut line = Vec::new();
    let mut out = constant.stdout.take().unwrap();
    let mut byte = [0];
    while !line.ends_with(b"\n") && out.read(&mut byte).unwrap() == 1 {
        line.extend(byte);
    }
    let line = String::from_utf8(line).unwrap();
    let address = line.trim().strip_prefix("listening tcp ").expect("its address").to_owned();
    let mut told = Vec::new();
    for mode in
        [MANY, &["pipeline", "--requests", "20000"], &["many", "--payload", "100000", "--requests", "300"]]
    {
        let mut command = load();
        command.args(mode).args(["--json", "--seconds", "20", "--address", &address]);
        told.push(end(command.spawn().unwrap()));
    }
    constant.kill().unwrap();
    constant.wait().unwrap();
    for (done, requests) in told.iter().zip([500, 20_000, 300]) {
        let told: Value =
            serde_json::from_str(&done.out).unwrap_or_else(|error| panic!("{error}: {}", done.err));
        assert_eq!((&told["sent"], &told["accepted"]), (&json!(requests), &json!(requests)), "{told:#}");
        // It never gives another id, which is found out too.
        assert!(told["out_of_order"].as_u64().unwrap() > 0, "{told:#}");
    }
}

#[test]
fn wrong_arguments_are_told_with_the_usage() {
    for wrong in [
        &["fly"][..],
        &["many", "--pid", "1"],
        &["many", "--connections", "0"],
        &["idle"],
        &["many", "x"],
        &[],
    ] {
        let mut command = load();
        let done = end(command.args(wrong).spawn().unwrap());
        assert_eq!(done.code, Some(2), "{wrong:?}: {}", done.err);
        assert!(done.err.contains("usage: gateway_load MODE"), "{wrong:?}: {}", done.err);
    }
}
