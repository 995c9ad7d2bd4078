//! `pelton run`, started and stopped as a service is: it says where it listens, serves, ends on a signal with a report that
//! is closed, and refuses what it cannot start from.
#![allow(unsafe_code, reason = "limits of a child")]

use crate::support::pelton;
use crate::support::server::Server;
use pelton::words::many;
use pelton_testkit::gateway::narrow;
use pelton_testkit::program::{Done, end};
use std::io::{BufRead, BufReader, PipeWriter, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

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
    stream.set_read_timeout(Some(pelton_testkit::program::WATCHDOG)).unwrap();
    ask_over(stream, said, last);
}

#[track_caller]
fn ask_over(stream: &mut (impl Read + Write), said: &str, last: &str) {
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
#[ignore = "needs a gateway thread that panics at an ECHO: tests/faults/run plants one"]
fn program_that_loses_a_thread_ends_with_its_report_and_code_1() {
    for threads in ["1", "2"] {
        let server = Server::start_by(&FILE.replace("password_file = \"FOLDER/secret\"", ""), |command| {
            command.args(["--threads", threads]);
        });
        // The last of two connections is the second thread's, where there is one.
        let clients = [(); 2].map(|()| TcpStream::connect(server.address()).unwrap());
        let begun = Instant::now();
        (&clients[1]).write_all(b"ECHO panic\r\n").unwrap();
        let done = server.wait();
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        assert_eq!(done.code, Some(1), "{}", done.err);
        assert!(
            done.err.contains("error: thread 'pelton-gate-") && done.err.contains("' panicked"),
            "{}",
            done.err
        );
        let report: serde_json::Value = serde_json::from_str(&done.out).unwrap();
        assert_eq!(report["ledger"]["closed"], true, "{report:#}");
        assert_eq!(report["gateway"]["lost_threads"].as_array().map(Vec::len), Some(1), "{report:#}");
        assert_eq!(report["gateway"]["connections"], 0, "{report:#}");
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
    // CPUs that are named are meant: no thread runs elsewhere without a word.
    let cpus = FILE.replace("[gateway]", "[gateway]\nthread_cpus = \"65535\"");
    let done = run(folder.path(), &cpus);
    assert_eq!((done.code, done.out.as_str()), (Some(3), ""), "{}", done.err);
    assert!(done.err.contains("gateway: thread_cpus is 65535"), "{}", done.err);
    // Somebody is there already.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let done = run(folder.path(), &FILE.replace("127.0.0.1:0", &address));
    assert_eq!((done.code, done.out.as_str()), (Some(3), ""), "{}", done.err);
    assert!(done.err.contains(&address) && done.err.contains("another address would work"), "{}", done.err);
    // So it is of a socket's path.
    let path = folder.path().join("there");
    std::fs::write(&path, "no socket").unwrap();
    let unix = format!("listen = []\nunix_socket = \"{}\"", path.display());
    let done = run(folder.path(), &FILE.replace("listen = [\"127.0.0.1:0\"]", &unix));
    assert_eq!((done.code, done.out.as_str()), (Some(3), ""), "{}", done.err);
    assert!(done.err.contains("no socket"), "{}", done.err);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "no socket");
}

/// Waits until nobody is let in any more: the first signal has come through, so that the next is a second one.
#[track_caller]
fn wait_until_closed(server: &mut Server) {
    let begun = Instant::now();
    while TcpStream::connect(server.address()).is_ok() {
        assert!(begun.elapsed() < pelton_testkit::program::WATCHDOG, "it lets clients in after a signal");
        thread::sleep(Duration::from_millis(1));
    }
    assert!(server.is_running(), "it waits, as it was told");
}

/// Lets a client ask and ask, and read nothing, until the server has answers for it that it cannot write.
fn stall(server: &Server, mut client: TcpStream) -> TcpStream {
    const SAID: usize = 16 << 10;
    let request = format!("*2\r\n$4\r\nECHO\r\n${SAID}\r\n{}\r\n", "x".repeat(SAID));
    let answer = format!("${SAID}\r\n{}\r\n", "x".repeat(SAID)).len() as u64;
    let silent = client.try_clone().unwrap();
    let mut other = BufReader::new(TcpStream::connect(server.address()).unwrap());
    other.get_ref().set_read_timeout(Some(pelton_testkit::program::WATCHDOG)).unwrap();
    // Before the first of them: what is not written by then would never be missed.
    let first = info(&mut other);
    // Far more than the system keeps. It ends with the connection.
    thread::spawn(move || (0..1 << 16).try_for_each(|_| client.write_all(request.as_bytes())));
    let (mut asked, mut told) = (1, first.bytes);
    // Systems take more for a while, as their buffers grow: nothing may move any more for many looks.
    const LOOKS: u32 = 50;
    let (mut last, mut looks) = (0, 0);
    let begun = Instant::now();
    loop {
        let now = info(&mut other);
        // What is answered, without the two kinds of questions that are none of the silent client's.
        let echoes = (now.requests - first.requests).saturating_sub(asked);
        // The server has one thread, which writes at the end of each connection's turn all that it can.
        let written = now.written - first.written - told;
        looks = if echoes * answer > written && written == last { looks + 1 } else { 0 };
        last = written;
        if looks == LOOKS {
            return silent;
        }
        (asked, told) = (asked + 1, told + now.bytes);
        assert!(
            begun.elapsed() < pelton_testkit::program::WATCHDOG,
            "all is written, to a client that reads nothing"
        );
    }
}

/// What a server says of itself, and in how many bytes.
struct Info {
    requests: u64,
    written: u64,
    bytes: u64,
}

fn info(client: &mut BufReader<TcpStream>) -> Info {
    client.get_mut().write_all(b"INFO\r\n").unwrap();
    let mut head = String::new();
    client.read_line(&mut head).unwrap();
    let length: usize = head.trim_end().trim_start_matches('$').parse().unwrap();
    let mut text = vec![0; length + 2];
    client.read_exact(&mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    let number = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("no {key} in {text}")).parse().unwrap()
    };
    let (requests, written) = (number("total_commands_processed"), number("total_net_output_bytes"));
    Info { requests, written, bytes: (head.len() + text.len()) as u64 }
}

#[test]
fn a_second_signal_ends_a_stop_that_waits_for_a_client() {
    // Both ways: nothing hangs on which signal comes first.
    for signals in [["TERM", "TERM"], ["INT", "TERM"]] {
        let text = FILE.replace("password_file = \"FOLDER/secret\"", "stop_deadline_ms = 3_600_000");
        let mut server = Server::start(&text);
        let mut client = narrow(server.address());
        ask(&mut client, "XADD orders * user 7\r\nPING\r\n", "+PONG\r\n");
        let _silent = stall(&server, client);
        server.signal(signals[0]);
        wait_until_closed(&mut server);
        server.signal(signals[1]);
        let done = server.wait();
        assert_eq!(done.code, Some(0), "no event was left: {}", done.err);
        let report: serde_json::Value = serde_json::from_str(&done.out).unwrap();
        let ledger = &report["ledger"];
        assert_eq!((&ledger["closed"], &ledger["drained"]), (&true.into(), &true.into()), "{report:#}");
        assert_eq!((&ledger["accepted"], &ledger["handled"]), (&1.into(), &1.into()), "{report:#}");
        // Those who knocked to see whether it still lets them in may be among them.
        let ended = report["gateway"]["ended_by"]["stopped"].as_u64().unwrap();
        assert!(ended >= 1, "{report:#}");
    }
}

/// Events of a backlog.
const EVENTS: u64 = 4_000;

/// Requests that publish them, and one more.
fn backlog_of_requests() -> String {
    format!("XADD orders *{} user 7\r\n", " other 1".repeat(100)).repeat(EVENTS as usize) + "PING\r\n"
}

/// A file for a server whose shard takes long for each event.
fn slow(deadline_ms: u64) -> String {
    let mut text = FILE
        .replace("password_file = \"FOLDER/secret\"", &format!("stop_deadline_ms = {deadline_ms}"))
        .replace("4_096", "16_777_216")
        // A shard that is told to stop ends its burst first.
        .replace("shards = 1", "shards = 1\nburst_events = 1")
        .replace("capacity_slots = 64", "capacity_slots = 4_096");
    // For each of them each event is searched to its end.
    for at in 0..256 {
        text += &format!(
            "[[view]]\nname = \"v{at}\"\nstream = \"orders\"\nmeasure = \"count\"\nby = \"user\"\nkeys_max = 16\n"
        );
    }
    text
}

/// A slow server with far more events than it can handle in a moment.
fn backlog(deadline_ms: u64) -> (Server, TcpStream, u64) {
    let server = Server::start(&slow(deadline_ms));
    let mut client = TcpStream::connect(server.address()).unwrap();
    let mut sender = client.try_clone().unwrap();
    let sending = thread::spawn(move || sender.write_all(backlog_of_requests().as_bytes()).unwrap());
    ask(&mut client, "", "+PONG\r\n");
    sending.join().unwrap();
    (server, client, EVENTS)
}

/// What a stop left behind is told, and in the ledger.
#[track_caller]
fn assert_left(done: &Done, events: u64) {
    let report: serde_json::Value = serde_json::from_str(&done.out).unwrap();
    let number = |key: &str| report["ledger"][key].as_u64().unwrap();
    assert_eq!((done.code, number("accepted")), (Some(1), events), "{report:#}");
    let left = number("in_flight");
    assert!(left > 0 && number("handled") + left == events, "{report:#}");
    assert_eq!((&report["ledger"]["closed"], &report["ledger"]["drained"]), (&true.into(), &false.into()));
    assert!(done.err.contains(&format!("{} were still in the lanes", many(left, "event"))), "{}", done.err);
}

#[test]
fn what_a_deadline_leaves_is_counted_and_fails_the_run() {
    let (server, _client, events) = backlog(1);
    server.signal("TERM");
    assert_left(&server.wait(), events);
}

#[test]
fn what_a_second_signal_leaves_is_counted_and_fails_the_run() {
    let (mut server, _client, events) = backlog(3_600_000);
    server.signal("TERM");
    wait_until_closed(&mut server);
    server.signal("TERM");
    assert_left(&server.wait(), events);
}

/// A server at a Unix socket, whose output goes elsewhere.
struct Silent {
    child: Child,
    socket: PathBuf,
    _folder: TempDir,
}

impl Silent {
    fn start(text: &str, output: impl Into<Stdio>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (path, socket) = (folder.path().join("it.toml"), folder.path().join("socket"));
        let place = format!("listen = []\nunix_socket = \"{}\"", socket.display());
        std::fs::write(&path, text.replace("listen = [\"127.0.0.1:0\"]", &place)).unwrap();
        let child = pelton().args(["run", "--config"]).arg(path).stdout(output).spawn().unwrap();
        Silent { child, socket, _folder: folder }
    }

    /// Connects, as soon as it listens.
    #[track_caller]
    fn client(&mut self) -> UnixStream {
        let begun = Instant::now();
        loop {
            if let Ok(client) = UnixStream::connect(&self.socket) {
                client.set_read_timeout(Some(pelton_testkit::program::WATCHDOG)).unwrap();
                return client;
            }
            assert!(self.child.try_wait().unwrap().is_none(), "it ends");
            assert!(begun.elapsed() < pelton_testkit::program::WATCHDOG, "it does not listen");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn output_that_is_closed_leaves_the_server_and_its_exit_code_as_they_are() {
    let good = FILE.replace("password_file = \"FOLDER/secret\"", "");
    for (text, requests, code) in
        [(good, "XADD orders * user 7\r\nPING\r\n".to_string(), 0), (slow(1), backlog_of_requests(), 1)]
    {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut server = Silent::start(&text, writer);
        let mut client = server.client();
        let mut sender = client.try_clone().unwrap();
        let sending = thread::spawn(move || sender.write_all(requests.as_bytes()).unwrap());
        ask_over(&mut client, "", "+PONG\r\n");
        sending.join().unwrap();
        pelton_testkit::program::signal(server.child.id(), "TERM");
        let done = end(server.child);
        assert_eq!(done.code, Some(code), "{}", done.err);
        assert_eq!(done.err.contains("were still in the lanes"), code == 1, "{}", done.err);
    }
}

/// Fills a pipe, so that it takes no line more until it is read.
fn fill(pipe: &PipeWriter) {
    let status = |flags: libc::c_int| {
        // SAFETY: the descriptor is open, and F_SETFL takes flags alone.
        let done = unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETFL, flags) };
        assert_eq!(done, 0);
    };
    status(libc::O_NONBLOCK);
    let mut pipe = pipe;
    while pipe.write_all(b"\n").is_ok() {}
    status(0);
}

#[test]
fn output_that_is_not_read_keeps_no_signal_waiting() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    fill(&writer);
    let mut server = Silent::start(&FILE.replace("password_file = \"FOLDER/secret\"", ""), writer);
    drop(server.client());
    pelton_testkit::program::signal(server.child.id(), "TERM");
    let begun = Instant::now();
    while UnixStream::connect(&server.socket).is_ok() {
        assert!(begun.elapsed() < pelton_testkit::program::WATCHDOG, "the signal waits for the reader");
        thread::sleep(Duration::from_millis(5));
    }
    let reading = thread::spawn(move || {
        let mut read = String::new();
        reader.read_to_string(&mut read).unwrap();
        read
    });
    let done = end(server.child);
    let read = reading.join().unwrap();
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert!(read.contains("listening unix") && read.contains("closed: "), "{read}");
}

/// Whether a process has a handler for a signal.
fn catches(pid: u32, signal: libc::c_int) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("a mask");
    u64::from_str_radix(mask.trim(), 16).unwrap() >> (signal - 1) & 1 == 1
}

#[test]
fn signal_before_the_server_is_up_ends_the_process() {
    let folder = tempfile::tempdir().unwrap();
    // The start reads the password, which never comes.
    let pipe = folder.path().join("secret");
    let made = pelton_testkit::program::alone(Command::new("mkfifo")).arg(&pipe).spawn().map(end);
    assert_eq!(made.unwrap().code, Some(0));
    let _writer = std::fs::File::options().read(true).write(true).open(&pipe).unwrap();
    for (name, number) in [("TERM", libc::SIGTERM), ("INT", libc::SIGINT), ("HUP", libc::SIGHUP)] {
        let path = folder.path().join("it.toml");
        std::fs::write(&path, FILE.replace("FOLDER", folder.path().to_str().unwrap())).unwrap();
        let child = pelton().args(["run", "--config"]).arg(path).spawn().unwrap();
        let begun = Instant::now();
        while !catches(child.id(), number) {
            assert!(begun.elapsed() < pelton_testkit::program::WATCHDOG, "it takes no signals");
            thread::sleep(Duration::from_millis(5));
        }
        pelton_testkit::program::signal(child.id(), name);
        let done = end(child);
        assert_eq!((done.code, done.out.as_str()), (None, ""), "{name} ends it: {}", done.err);
    }
}

/// A server that another command starts, which decides what becomes of signals.
fn started_by(command: &[&str], line: &str) -> Server {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("it.toml");
    std::fs::write(&path, FILE.replace("password_file = \"FOLDER/secret\"", line)).unwrap();
    let mut starter = pelton_testkit::program::alone(Command::new(command[0]));
    starter.args(&command[1..]).args([env!("CARGO_BIN_EXE_pelton"), "run", "--json", "--config"]).arg(&path);
    Server::ready(starter, 1, folder)
}

#[test]
fn a_terminal_that_goes_away_ends_it_with_a_report() {
    let mut server = started_by(&["env"], "stop_deadline_ms = 3_600_000");
    let mut client = narrow(server.address());
    ask(&mut client, "XADD orders * user 7\r\nPING\r\n", "+PONG\r\n");
    let _silent = stall(&server, client);
    server.signal("HUP");
    wait_until_closed(&mut server);
    // Its shell and the system each send one: the second is in no hurry.
    server.signal("HUP");
    thread::sleep(Duration::from_millis(300));
    assert!(server.is_running());
    server.signal("TERM");
    let done = server.wait();
    assert_eq!(done.code, Some(0), "{}", done.err);
    let report: serde_json::Value = serde_json::from_str(&done.out).unwrap();
    let ledger = &report["ledger"];
    assert_eq!((&ledger["closed"], &ledger["handled"]), (&true.into(), &1.into()), "{report:#}");
}

#[test]
fn a_terminal_that_goes_away_ends_nothing_that_was_to_stay() {
    let server = started_by(&["nohup"], "");
    server.signal("HUP");
    // A stop would begin within the first few of these, and let nobody in.
    for _ in 0..100 {
        let mut client = TcpStream::connect(server.address()).unwrap();
        ask(&mut client, "XADD orders * user 7\r\nPING\r\n", "+PONG\r\n");
    }
    let report = server.stop();
    let ledger = &report["ledger"];
    assert_eq!((&ledger["closed"], &ledger["handled"]), (&true.into(), &100.into()), "{report:#}");
}

#[test]
fn documented_session_works_as_shown() {
    let document = include_str!("../../../../docs/gateway.md");
    let block = |kind: &str| document.split(kind).nth(1).unwrap().split("```").next().unwrap();
    let server = Server::start(&block("```toml\n").replace(":6380", ":0"));
    let screen = block("```text\n");
    let typed: Vec<_> = screen.lines().filter_map(|line| line.strip_prefix("127.0.0.1:6380> ")).collect();
    let heads: Vec<_> = typed.iter().map(|typed| typed.split(' ').next().unwrap()).collect();
    assert_eq!(heads, ["XADD", "PELTON.VIEW", "SUBSCRIBE"]);
    let mut client = BufReader::new(TcpStream::connect(server.address()).unwrap());
    client.get_ref().set_read_timeout(Some(pelton_testkit::program::WATCHDOG)).unwrap();
    let mut say = |said: &str| {
        client.get_mut().write_all(format!("{said}\r\n").as_bytes()).unwrap();
        let mut line = || {
            let mut line = String::new();
            client.read_line(&mut line).unwrap();
            line.trim_end().to_string()
        };
        // Whatever else is told: what is asked for behind it has an answer of its own.
        let mut lines = vec![line()];
        while lines.last().is_none_or(|line| line != "+PONG") {
            lines.push(line());
        }
        lines
    };
    say("HELLO 3\r\nPING");
    assert!(say(&format!("{}\r\nPING", typed[0]))[0].starts_with('$'));
    // It is in the view once it is handled.
    let begun = Instant::now();
    let view = loop {
        let view = say(&format!("{}\r\nPING", typed[1]));
        if view.iter().any(|line| line == ":300") {
            break view;
        }
        assert!(begun.elapsed() < pelton_testkit::program::WATCHDOG, "it is never counted: {view:?}");
    };
    // All that the answer has is shown, and in its order: `1# "view" => "by_symbol"`.
    let shown: Vec<_> =
        screen.lines().filter_map(|line| line.split_once("# \"")?.1.split('"').next()).collect();
    assert_eq!(view[0], format!("%{}", shown.len()));
    let mut told = view.iter();
    assert!(shown.iter().all(|name| told.any(|line| line == name)), "{shown:?} of {view:?}");
    let subscribed = say(&format!("{}\r\nPING", typed[2]));
    assert_eq!(subscribed.iter().filter(|line| *line == "subscribe").count(), 2, "{subscribed:?}");
    server.stop();
}

/// Runs the program to its end with so many descriptors.
fn with_descriptors(most: u32, args: &[&str]) -> Done {
    let mut shell = pelton_testkit::program::alone(Command::new("sh"));
    shell
        .args(["-c", &format!("ulimit -n {most} && exec \"$@\""), "sh", env!("CARGO_BIN_EXE_pelton")])
        .args(args);
    end(shell.spawn().unwrap())
}

#[test]
fn descriptors_for_all_connections_are_looked_for_before_they_are_gone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("it.toml");
    let text = FILE.replace("password_file = \"FOLDER/secret\"", "connections_max = 300");
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap();
    let done = with_descriptors(256, &["check", path]);
    assert_eq!(done.code, Some(0), "{}", done.err);
    for part in ["connections_max is 300", "may have 256 descriptors", "`ulimit -n 322`, would work"] {
        assert!(done.out.contains(part), "{part}: {}", done.out);
    }
    assert_eq!(with_descriptors(256, &["check", path, "--deny-warnings"]).code, Some(3));
    // What the program may give itself it takes.
    let mut shell = pelton_testkit::program::alone(Command::new("sh"));
    shell.args(["-c", "ulimit -S -n 256 && exec \"$@\"", "sh", env!("CARGO_BIN_EXE_pelton")]);
    shell.args(["check", path, "--deny-warnings"]);
    let done = end(shell.spawn().unwrap());
    assert_eq!(done.code, Some(0), "{}", done.out);
    // What is said to work does.
    let done = with_descriptors(322, &["check", path, "--deny-warnings"]);
    assert_eq!(done.code, Some(0), "{}", done.out);
    let look = |most| with_descriptors(most, &["doctor", "--no-measure", "--json", "--config", path]).out;
    for (most, state) in [(2_000, "ok"), (1_000, "warn")] {
        let report: serde_json::Value = serde_json::from_str(&look(most)).unwrap();
        let all = report["findings"].as_array().unwrap();
        let finding = all.iter().find(|finding| finding["id"] == "nofile_limit").unwrap();
        assert_eq!(finding["state"], state, "{finding:#}");
    }
    let many = std::fs::read_to_string(path).unwrap().replace("= 300", "= 1_500");
    std::fs::write(path, many).unwrap();
    let report = look(1_400);
    assert!(report.contains("--nofile=1522"), "{report}");
}

#[test]
fn whoever_declares_no_stream_is_told_how_to_come_by_some() {
    let folder = tempfile::tempdir().unwrap();
    let told =
        "`pelton init --gateway -o front.toml` drafts a file, and `pelton run --config front.toml` serves it";
    let go = |args: &[&str]| end(pelton().args(args).current_dir(folder.path()).spawn().unwrap());
    let done = go(&["run"]);
    assert_eq!((done.code, done.out.as_str()), (Some(2), ""), "{}", done.err);
    assert!(done.err.contains("no stream is declared") && done.err.contains(told), "{}", done.err);
    assert_eq!(done.err.lines().count(), 1, "{}", done.err);
    // A file for an engine has classes, and no streams.
    assert_eq!(go(&["init", "-o", "plain.toml"]).code, Some(0));
    let done = go(&["run", "--config", "plain.toml"]);
    assert_eq!(done.code, Some(2));
    assert!(
        done.err.contains("plain.toml declares no [[stream]]") && done.err.contains(told),
        "{}",
        done.err
    );
    // What cannot be read comes first, and one for a gateway is told where it is wrong.
    assert!(go(&["run", "--threads", "0"]).err.contains("gateway: threads is '0'"));
    std::fs::write(folder.path().join("gate.toml"), "profile = \"dev\"\n[gateway]\nthreads = 1\n").unwrap();
    let done = go(&["run", "--config", "gate.toml"]);
    assert_eq!(done.code, Some(2));
    assert!(done.err.contains("a [[stream]] with name, class and key"), "{}", done.err);
    // The drafted one is served as it says.
    let done = go(&["init", "--gateway", "-o", "front.toml", "--no-host"]);
    let unwrapped = done.err.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(unwrapped.contains("`pelton run --config front.toml` serves it"), "{}", done.err);
    assert_eq!(go(&["check", "front.toml", "--no-host"]).code, Some(0));
}

#[test]
fn settings_are_explained_with_their_costs_also_where_a_file_has_none_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("it.toml");
    let text = FILE.replace("password_file = \"FOLDER/secret\"", "");
    let view = "[[view]]\nname = \"v\"\nstream = \"orders\"\nmeasure = \"count\"\nby = \"user\"\n";
    std::fs::write(&path, format!("{text}{view}")).unwrap();
    let explain = |args: &[&str]| end(pelton().arg("explain").args(args).spawn().unwrap());
    let file = path.to_str().unwrap();
    for key in ["connections_max", "tap_slots", "v.keys_max"] {
        let done = explain(&[file, key]);
        assert!(done.out.contains(" of the footprint: ") && !done.out.contains("nothing of"), "{}", done.out);
    }
    // Neither without views, nor without a word of [gateway], nor without a file.
    let bare = text.replace("[gateway]\nlisten = [\"127.0.0.1:0\"]\n", "");
    assert!(!bare.contains("gateway"), "{bare}");
    std::fs::write(&path, bare).unwrap();
    for (key, told) in [
        ("window_ms", "view: window_ms = none ms"),
        ("view.past_keys", "view: past_keys = other"),
        ("connections_max", "gateway: connections_max = 10000"),
        ("payload_max_bytes", "payload_max_bytes = class bytes"),
    ] {
        let done = explain(&[file, key]);
        assert!(done.code == Some(0) && done.out.contains(told), "{key}: {}{}", done.out, done.err);
    }
    assert!(explain(&[file, "connections_max"]).out.contains(" of the footprint: "));
    for (key, told) in [
        ("window_ms", "view: window_ms"),
        ("stream.key", "stream: key = round_robin"),
        ("idle_s", "gateway: idle_s"),
    ] {
        let done = explain(&[key]);
        assert!(done.code == Some(0) && done.out.contains(told), "{key}: {}{}", done.out, done.err);
    }
    let near = explain(&[file, "windw_ms"]);
    assert_eq!(near.code, Some(2));
    assert!(near.err.contains("'window_ms' would work"), "{}", near.err);
}

#[test]
fn what_it_starts_is_told_without_what_it_settles_itself() {
    let text = FILE.replace("password_file = \"FOLDER/secret\"", "");
    let said = |text: &str| {
        let server = Server::start(text);
        server.signal("TERM");
        let done = server.wait();
        assert_eq!(done.code, Some(0), "{}", done.err);
        done.err
    };
    let err = said(&text);
    assert!(err.contains("; 1 producer at most; "), "{err}");
    assert!(!err.contains("not as the profile has it"), "nobody has asked for anything: {err}");
    let err = said(&text.replace("shards = 1", "shards = 1\nproducers_max = 3\nscratch_bytes = 4_096"));
    assert!(err.contains("  not as the profile has it: producers_max = 3, scratch_bytes = 4096\n"), "{err}");
}

#[test]
fn what_run_takes_beside_a_file_can_be_checked_and_explained() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("it.toml");
    std::fs::write(&path, FILE.replace("password_file = \"FOLDER/secret\"", "")).unwrap();
    let file = path.to_str().unwrap();
    let go = |args: &[&str]| end(pelton().args(args).spawn().unwrap());
    let done = go(&["check", file, "--listen", "0.0.0.0:6380", "--stream", "orders:key=first"]);
    assert_eq!(done.code, Some(2), "{}", done.err);
    assert!(done.out.contains("listen is '0.0.0.0:6380' (--listen)"), "{}", done.out);
    assert_eq!(go(&["check", file, "--listen", "127.0.0.1:6380", "--tap-slots", "64"]).code, Some(0));
    let done = go(&["explain", file, "tap_slots", "--tap-slots", "64"]);
    assert!(done.out.contains("gateway: tap_slots = 64") && done.out.contains("--tap-slots"), "{}", done.out);
    let done = go(&["explain", file, "orders.key", "--stream", "orders:key=first"]);
    assert!(done.out.contains("stream 'orders': key = first"), "{}", done.out);
}

#[test]
fn what_has_no_use_is_told_at_the_start_too() {
    let view = "[[view]]\nname = \"v\"\nstream = \"orders\"\nmeasure = \"count\"\ndigits = 3\n";
    let text = FILE.replace("password_file = \"FOLDER/secret\"", "") + view;
    for announces in [true, false] {
        let server =
            Server::start(&text.replace("shards = 1", &format!("shards = 1\nannounce = {announces}")));
        server.signal("TERM");
        let done = server.wait();
        let told = done.err.split_whitespace().collect::<Vec<_>>().join(" ");
        let warning = "view 'v': digits is 3: should be left out where measure is 'count'";
        assert_eq!(told.matches(warning).count(), 1, "{}", done.err);
        assert_eq!((done.code, done.err.contains("profile dev;")), (Some(0), announces), "{}", done.err);
    }
}

#[test]
fn the_report_tells_who_was_turned_away_and_what_views_were_given() {
    let text = FILE
        .replace("password_file = \"FOLDER/secret\"", "connections_max = 1")
        .replace("shards = 1", "shards = 2\novercommitted = true")
        + "[[view]]\nname = \"all\"\nstream = \"orders\"\nmeasure = \"count\"\n\
           [[view]]\nname = \"timed\"\nstream = \"orders\"\nmeasure = \"count\"\nwindow_ms = 1_000\ntime = \"at\"\n";
    let server = Server::start(&text);
    let mut client = TcpStream::connect(server.address()).unwrap();
    let events = ["user 7", "user 8 at 1000", "user 9 at 9999999999999"]
        .map(|said| format!("XADD orders * {said}\r\n"));
    ask(&mut client, &format!("{}PING\r\n", events.concat()), "+PONG\r\n");
    for _ in 0..2 {
        let mut beyond = TcpStream::connect(server.address()).unwrap();
        ask(&mut beyond, "", "-ERR max number of clients reached\r\n");
    }
    ask(&mut client, "QUIT\r\n", "+OK\r\n");
    let report = server.stop();
    assert_eq!((&report["ledger"]["closed"], &report["ledger"]["handled"]), (&true.into(), &3.into()));
    let gateway = &report["gateway"];
    assert_eq!((&gateway["connected"], &gateway["turned_away"]), (&1.into(), &2.into()), "{report:#}");
    let views = serde_json::json!([
        { "name": "all", "events": 3, "late": 0, "ahead": 0, "untimed": 0 },
        { "name": "timed", "events": 3, "late": 0, "ahead": 1, "untimed": 1 },
    ]);
    assert_eq!(gateway["views"], views);
    // The same for people.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("it.toml");
    std::fs::write(&path, text).unwrap();
    let mut command = pelton();
    command.args(["run", "--config"]).arg(&path);
    let server = Server::ready(command, 1, folder);
    let mut client = TcpStream::connect(server.address()).unwrap();
    ask(&mut client, "XADD orders * user 7\r\nPING\r\n", "+PONG\r\n");
    let mut beyond = TcpStream::connect(server.address()).unwrap();
    ask(&mut beyond, "", "-ERR max number of clients reached\r\n");
    ask(&mut client, "QUIT\r\n", "+OK\r\n");
    server.signal("TERM");
    let out = server.wait().out;
    for line in [
        "  taken         1\n  ended         1 client\n  turned away   1 full\n",
        "  view    events   without a time\n",
        "  timed        1                1\n",
        "  closed: every event",
    ] {
        assert!(out.contains(line), "no {line:?} in\n{out}");
    }
}

#[test]
fn a_limit_that_is_too_low_is_this_machines_fault() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("it.toml");
    std::fs::write(&path, FILE.replace("password_file = \"FOLDER/secret\"", "")).unwrap();
    // Before it listens, while it does, and when its threads ask for more: wherever it is that it has too few.
    for files in 5..=8 {
        let mut limited = pelton_testkit::program::alone(Command::new("sh"));
        // Without what these tests have inherited themselves.
        let closed: String = (3..=9).map(|file| format!("{file}>&- ")).collect();
        let exec = format!("exec {closed}; ulimit -n {files}; exec \"$@\"");
        limited.args(["-c", &exec, "sh", env!("CARGO_BIN_EXE_pelton"), "run", "--config"]).arg(&path);
        let done = end(limited.spawn().unwrap());
        assert_eq!((done.code, done.out.as_str()), (Some(3), ""), "{files}: {}", done.err);
        assert!(done.err.contains("open files (`ulimit -n`, LimitNOFILE"), "{files}: {}", done.err);
        assert!(!done.err.contains("another address"), "{files}: {}", done.err);
    }
}

#[test]
fn what_it_says_at_a_start_is_broken_between_words() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let text = FILE.replace("password_file = \"FOLDER/secret\"", "").replace("127.0.0.1:0", &address);
    let folder = tempfile::tempdir().unwrap();
    // It says what it starts before it finds that it cannot.
    let words = |text: &str| text.split_whitespace().map(str::to_string).collect::<Vec<_>>();
    let all = words(&run(folder.path(), &text).err);
    let command =
        format!("{} run --config {}", env!("CARGO_BIN_EXE_pelton"), folder.path().join("it.toml").display());
    for columns in [60, 80, 120] {
        let Some(screen) = pelton_testkit::program::at_terminal(columns, &command) else { return };
        assert_eq!(words(&screen), all, "{screen}");
        let longest = screen.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(longest <= columns.min(100) && longest > columns.min(100) - 20, "{columns}: {screen}");
    }
}
