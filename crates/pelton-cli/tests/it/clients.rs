//! Clients that people already have: redis-py, ioredis, node-redis, the crate redis, redis-cli, redis-benchmark. All say to the
//! real program what they say to redis-server, and what they were told agrees with its final report.
//!
//! Each script is first held against a real redis-server: what fails there is the script's mistake. A client that is not
//! installed is skipped, in words; where `PELTON_TEST_REQUIRED` lists `clients` that is a failure. `tests/clients/install`
//! installs them all.

use crate::support::access_log::Log;
use crate::support::server::{Redis, Server};
use pelton_testkit::Dice;
use pelton_testkit::needs::{Need, real_access_log, skipped};
use pelton_testkit::program::{Done, WATCHDOG, alone, end};
use redis::{Commands, RedisResult};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// One stream and its class; room for whatever these tests send.
const ROOMY: &str = r#"
profile = "dev"
shards = 1
[gateway]
threads = 1
listen = ["127.0.0.1:0"]
unix_socket = "FOLDER/socket"
[[class]]
name = "bulk"
share = "weighted"
capacity_slots = 4096
payload_ring_bytes = 1048576
overflow = "block"
[[stream]]
name = "events"
class = "bulk"
key = "round_robin"
"#;

fn lacks<T>(why: &str) -> Option<T> {
    skipped(Need::Clients, why)
}

/// Where `tests/clients/install` puts clients.
fn installed() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("clients")
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name)
}

/// A program that is on the path, if it runs at all.
fn tool(name: &str) -> Option<Command> {
    match alone(Command::new(name)).arg("--version").spawn().map(end) {
        Ok(done) if done.code == Some(0) => Some(alone(Command::new(name))),
        _ => lacks(&format!("there is no {name}")),
    }
}

fn redis_server() -> Option<Redis> {
    Redis::start().or_else(|| lacks("there is no redis-server"))
}

/// One of the scripts in Python; none where redis-py is not installed.
fn python(name: &str) -> Option<Command> {
    let python = installed().join("python/bin/python");
    let mut check = alone(Command::new(&python));
    match check.args(["-c", "import redis"]).spawn().map(end) {
        Ok(done) if done.code == Some(0) => {
            let mut command = alone(Command::new(python));
            command.arg("-B").arg(script(name));
            Some(command)
        }
        _ => lacks("there is no redis-py"),
    }
}

/// A script in Node that uses this module; none where that is not installed.
fn node_script(name: &str, module: &str) -> Option<Command> {
    let modules = installed().join("node/node_modules");
    if !modules.join(module).is_dir() {
        return lacks(&format!("there is no {module}"));
    }
    let mut command = tool("node")?;
    command.arg(script(name)).arg(modules);
    Some(command)
}

/// The script of ioredis with its address.
fn node(address: &str) -> Option<Command> {
    let mut command = node_script("talk.mjs", "ioredis")?;
    command.args([address, "events", "3000"]);
    Some(command)
}

fn run(command: &mut Command) -> Done {
    end(command.spawn().expect("the client is there"))
}

/// What a script printed; nothing that it checked has failed.
#[track_caller]
fn told(command: &mut Command) -> Value {
    let done = run(command);
    let told: Value = serde_json::from_str(&done.out)
        .unwrap_or_else(|error| panic!("{error}: code {:?}, {}{}", done.code, done.out, done.err));
    assert!(told["checks"].as_u64().unwrap() > 0, "{told:#}");
    assert_eq!(told["failures"], json!([]), "{told:#}");
    told
}

/// What clients were told agrees with the report, event by event; this is of servers that have one class and end drained.
#[track_caller]
fn assert_agrees(report: &Value, accepted: u64, refused: u64) {
    let ledger = |key: &str| report["ledger"][key].as_u64().unwrap_or_else(|| panic!("{key}: {report:#}"));
    assert_eq!(ledger("accepted"), accepted, "{report:#}");
    assert_eq!(ledger("rejected"), refused, "{report:#}");
    assert_eq!(ledger("handled") + ledger("expired") + ledger("failed"), accepted, "{report:#}");
    assert_eq!(ledger("in_flight"), 0, "{report:#}");
}

#[test]
fn redis_py_finds_what_it_expects() {
    for protocol in ["2", "3"] {
        let Some(mut command) = python("talk.py") else { return };
        let Some(redis) = redis_server() else { return };
        command.args(["--protocol", protocol, "--address"]);
        told(command.arg(&redis.address));
    }
    for (protocol, over) in [("2", "tcp"), ("3", "tcp"), ("3", "unix")] {
        let server = Server::start(ROOMY);
        let Some(mut command) = python("talk.py") else { return };
        let address = if over == "tcp" { &server.tcp[0] } else { &server.unix[0] };
        let told = told(command.args(["--protocol", protocol, "--address", address]));
        assert_agrees(&server.stop(), told["accepted"].as_u64().unwrap(), 0);
    }
}

#[test]
fn redis_py_says_a_password() {
    let Some(mut command) = python("talk.py") else { return };
    let server = Server::start(&ROOMY.replace("[gateway]", "[gateway]\npassword = \"sesame\""));
    let told = told(command.args(["--protocol", "3", "--password", "sesame", "--address", server.address()]));
    assert_agrees(&server.stop(), told["accepted"].as_u64().unwrap(), 0);
}

#[test]
fn ioredis_finds_what_it_expects() {
    let Some(redis) = redis_server() else { return };
    let Some(mut command) = node(&redis.address) else { return };
    told(&mut command);
    let server = Server::start(ROOMY);
    let Some(mut command) = node(server.address()) else { return };
    let told = told(&mut command);
    assert_agrees(&server.stop(), told["accepted"].as_u64().unwrap(), 0);
}

/// node-redis counts on one error or one confirmation for each channel, and loses its step otherwise.
#[test]
fn node_redis_keeps_in_step_when_one_of_several_channels_is_refused() {
    let channels = |address: &str, refused: &str, error: &str, message: &[&str]| {
        let mut command = node_script("channels.mjs", "redis")?;
        command.args([address, "stream:events", refused, error]).args(message);
        Some(told(&mut command))
    };
    let Some(redis) = redis_server() else { return };
    answered(&redis.address, &["ACL SETUSER default resetchannels &stream:events"]);
    let publish = ["PUBLISH", "stream:events", "x"];
    if channels(&redis.address, "stream:none", "NOPERM", &publish).is_none() {
        return;
    }
    let server = Server::start(ROOMY);
    channels(&server.unix[0], "stream:none", "NOCHANNEL", &["XADD", "events", "*", "a", "b"]);
    assert_agrees(&server.stop(), 2, 0);
}

/// What a client is told under each policy, when it sends more than there is room for, is what the ledger says.
#[test]
fn redis_py_and_the_ledger_agree_under_each_policy() {
    for overflow in ["block", "reject", "drop_newest"] {
        let Some(mut command) = python("publish.py") else { return };
        let narrow = ROOMY
            .replace("capacity_slots = 4096", "capacity_slots = 4")
            .replace("payload_ring_bytes = 1048576", "payload_ring_bytes = 4096")
            .replace("\"block\"", &format!("{overflow:?}"));
        let server = Server::start(&narrow);
        command.args(["--protocol", "2", "--address", server.address()]);
        if overflow != "block" {
            // Until one is refused at least, so that there is something to agree on.
            command.arg("--until-refused");
        }
        let told = told(&mut command);
        let count = |key: &str| told[key].as_u64().unwrap();
        assert_eq!(told["errors"], json!({}), "{told:#}");
        let (here, elsewhere) = match overflow {
            "block" => (0, count("busy") + count("dropped")),
            "reject" => (count("busy"), count("dropped")),
            _ => (count("dropped"), count("busy")),
        };
        assert_eq!(elsewhere, 0, "{overflow}: {told:#}");
        assert_eq!(here > 0, overflow != "block", "{overflow}: {told:#}");
        assert_agrees(&server.stop(), count("accepted"), here);
    }
}

/// What the crate redis is asked to do, on either server; how many events were accepted.
fn crate_redis(address: &str) -> RedisResult<u64> {
    let url = if address.contains('/') { format!("unix://{address}") } else { format!("redis://{address}") };
    let resp3 = if address.contains('/') { "?protocol=resp3" } else { "/0?protocol=resp3" };
    for url in [url.clone(), format!("{url}{resp3}")] {
        let mut link = redis::Client::open(url)?.get_connection()?;
        assert_eq!(redis::cmd("PING").query::<String>(&mut link)?, "PONG");
        assert_eq!(redis::cmd("ECHO").arg("a\r\nb").query::<String>(&mut link)?, "a\r\nb");
        redis::cmd("CLIENT").arg("SETNAME").arg("crate").exec(&mut link)?;
        assert_eq!(redis::cmd("CLIENT").arg("GETNAME").query::<String>(&mut link)?, "crate");
        assert!(
            redis::cmd("INFO").query::<redis::InfoDict>(&mut link)?.get::<String>("redis_version").is_some()
        );
        let error = redis::cmd("NOSUCH").query::<()>(&mut link).unwrap_err();
        assert!(error.to_string().contains("unknown command"), "{error}");
    }
    let mut link = redis::Client::open(url)?.get_connection()?;
    let mut ids: Vec<String> = Vec::new();
    for n in 0..200 {
        ids.push(link.xadd("events", "*", &[("n", n)])?);
    }
    for _ in 0..10 {
        let mut pipe = redis::pipe();
        for n in 0..500 {
            pipe.xadd("events", "*", &[("n", n.to_string()), ("text", "x".repeat(24))]);
        }
        ids.extend(pipe.query::<Vec<String>>(&mut link)?);
    }
    let number = |id: &String| id.split('-').map(|part| part.parse().unwrap()).collect::<Vec<u64>>();
    let numbers: Vec<_> = ids.iter().map(number).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "ids increase");
    let info: redis::streams::StreamInfoStreamReply = link.xinfo_stream("events")?;
    assert_eq!(&info.last_generated_id, ids.last().unwrap());

    // Only what is subscribed to is said, so nothing comes: the confirmation is what is waited for.
    let mut subscriber = link.as_pubsub();
    subscriber.subscribe("stream:events")?;
    subscriber.unsubscribe("stream:events")?;
    Ok(ids.len() as u64)
}

#[test]
fn the_crate_redis_finds_what_it_expects() {
    if let Some(redis) = redis_server() {
        crate_redis(&redis.address).unwrap();
    }
    let server = Server::start(ROOMY);
    let accepted = crate_redis(&server.tcp[0]).unwrap() + crate_redis(&server.unix[0]).unwrap();
    assert_agrees(&server.stop(), accepted, 0);
}

/// A pattern that matches `stream:events` about as often as not: its bytes, some of them replaced by what is special.
fn pattern(dice: &mut Dice) -> String {
    const ODD: &[&str] = &[
        "*", "?", "[", "]", "^", "-", "\\", "**", "[^", "[]", "[^]", "a-z", "z-a", "e", "v", "[a-z]",
        "[^a-s]", "[e-",
    ];
    let mut made: Vec<String> = "stream:events".chars().map(String::from).collect();
    for _ in 0..dice.index(4) {
        let at = dice.index(made.len());
        match dice.index(6) {
            0 => drop(made.splice(at..at + dice.index(made.len() - at), ["*".into()])),
            1 => made[at] = "?".into(),
            2 => made[at] = format!("[{}]", made[at]),
            3 => made[at] = format!("\\{}", made[at]),
            4 => made.insert(at, (*dice.pick(ODD)).into()),
            _ => made[at] = format!("[{}{}", made[at], dice.pick(ODD)),
        }
    }
    made.concat()
}

/// Which channels a pattern finds here is which keys it finds there.
#[test]
fn patterns_find_what_they_find_in_redis() {
    const PATTERNS: usize = 4_000;
    let Some(redis) = redis_server() else { return };
    let server = Server::start(ROOMY);
    let link =
        |address: &str| redis::Client::open(format!("unix://{address}")).unwrap().get_connection().unwrap();
    let (mut theirs, mut ours) = (link(&redis.address), link(&server.unix[0]));
    redis::cmd("SET").arg("stream:events").arg(1).exec(&mut theirs).unwrap();
    let mut listener = link(&server.unix[0]);
    redis::cmd("SUBSCRIBE").arg("stream:events").exec(&mut listener).unwrap();
    let mut dice = Dice::new(20);
    let mut found = 0;
    for _ in 0..PATTERNS {
        let pattern = pattern(&mut dice);
        let keys: Vec<String> = redis::cmd("KEYS").arg(&pattern).query(&mut theirs).unwrap();
        let channels: Vec<String> =
            redis::cmd("PUBSUB").arg("CHANNELS").arg(&pattern).query(&mut ours).unwrap();
        assert_eq!(channels, keys, "{pattern}");
        found += channels.len();
    }
    assert!((PATTERNS / 4..PATTERNS * 3 / 4).contains(&found), "{found} of {PATTERNS}");
    assert_agrees(&server.stop(), 0, 0);
}

/// All that a server answers to these lines, over a Unix socket.
fn answered(address: &str, lines: &[&str]) -> String {
    let mut stream = UnixStream::connect(address).unwrap();
    stream.set_read_timeout(Some(WATCHDOG)).unwrap();
    let text: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    stream.write_all(format!("{text}QUIT\r\n").as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// Lines that both servers answer with the same words, mostly by an error.
const SAME: &[&[&str]] = &[
    &[
        "CLIENT",
        "CONFIG",
        "XINFO",
        "CONFIG GET",
        "CONFIG SET save",
        "CLIENT ID x",
        "Client Id x",
        "CLIENT HELP x",
    ],
    &[
        "CLIENT SETNAME",
        "CLIENT SETNAME a b",
        "CLIENT GETNAME a",
        "CLIENT INFO a",
        "CLIENT LIST a",
        "CLIENT nosuch",
    ],
    &["XINFO STREAM", "XINFO STREAM none", "XINFO HELP x", "XINFO nosuch x"],
    &["COMMAND INFO nosuch", "COMMAND COUNT x", "COMMAND LIST x", "COMMAND nosuch", "COMMAND DOCS nosuch"],
    &[
        "SELECT",
        "SELECT 0",
        "SELECT +0",
        "SELECT -0",
        "SELECT 00",
        "SELECT 99",
        "SELECT x",
        "SELECT 99999999999",
    ],
    &["SELECT 2147483647", "SELECT 2147483648", "SELECT -2147483649", "SELECT 9223372036854775808"],
    &["HELLO 4", "HELLO +3", "HELLO 03", "HELLO x", "HELLO 3 AUTH a", "HELLO 2 SETNAME", "HELLO 3 FOO"],
    &["AUTH x", "AUTH foo x", "HELLO 3 AUTH a b", "AUTH a b c"],
    &["AUTH", "AUTH default x"],
    &["nosuch", "nosuch a 'b c'", "'' ''", "XADD", "XADD events *", "XADD events * a", "XADD events * a b c"],
    &["XADD events MAXLEN -1 * a b", "XADD events MAXLEN ~ -1 * a b", "XADD events MAXLEN +1 * a b"],
    &["XADD events MAXLEN x * a b", "XADD events MAXLEN ~ * a b", "XADD events MAXLEN ~ = 5 * a b"],
    &[
        "XADD events MAXLEN 1 MAXLEN 2 * a b",
        "XADD events MINID 1 MAXLEN 2 * a b",
        "XADD events MAXLEN 9 MINID 9 * a b",
    ],
    &[
        "XADD events MAXLEN ~ 9 LIMIT -5 * a b",
        "XADD events MAXLEN ~ 9 LIMIT x * a b",
        "XADD events LIMIT 5 * a b",
    ],
    &[
        "XADD events MAXLEN = 9 LIMIT 5 * a b",
        "XADD events MINID 9 LIMIT 5 * a b",
        "XADD events LIMIT -5 * a b",
    ],
    &[
        "XADD events MINID x * a b",
        "XADD events MINID 1-x * a b",
        "XADD events MINID 1-* * a b",
        "XADD events MINID - * a b",
    ],
    &[
        "XADD events MINID 1- * a b",
        "XADD events MINID -1 * a b",
        "XADD events MINID '' * a b",
        "XADD events MINID * * a b",
    ],
    &[
        "XADD events MINID 18446744073709551616 * a b",
        "XADD events MINID 001 * a",
        "XADD events MINID 1-2-3 * a b",
    ],
    &[
        "XADD events FOO * a b",
        "XADD events 1-x a b",
        "XADD events *5 a b",
        "XADD events 5 a b c",
        "XADD events 1-* a b c",
    ],
    &[
        "XADD events LIMIT 5 MAXLEN ~ 5 * a",
        "XADD events NOMKSTREAM NOMKSTREAM MAXLEN 1",
        "XADD events a b MAXLEN",
    ],
    &[
        "SUBSCRIBE stream:events",
        "CLIENT ID",
        "CLIENT ID x",
        "CLIENT nosuch",
        "COMMAND",
        "COMMAND COUNT",
        "XADD a",
        "ECHO a",
    ],
];

/// What is said before the password. (What is no command, or has too few arguments, is answered like everything else.)
const SAME_TO_STRANGERS: &[&[&str]] = &[
    &["PING", "ECHO a", "XADD events * a b", "SUBSCRIBE stream:events", "CLIENT ID"],
    &[
        "CONFIG GET *",
        "CLIENT HELP",
        "XINFO STREAM events",
        "SELECT x",
        "HELLO",
        "HELLO 3",
        "HELLO 3 SETNAME a",
    ],
    &["AUTH", "AUTH x", "AUTH nobody sesame", "AUTH sesame", "AUTH wrong", "PING", "RESET", "PING"],
    &["*11"],
    &["*2", "$4", "ECHO", "$16385"],
    &["HELLO 9", "HELLO 3 AUTH default x", "HELLO 3 AUTH nobody sesame"],
];

#[test]
fn what_is_wrong_is_told_in_the_words_of_redis() {
    let Some(mut version) = tool("redis-server") else { return };
    // Its words change a little with its versions.
    if !run(version.arg("--version")).out.contains("v=7.0.") {
        return lacks("redis-server is not of version 7.0").unwrap_or(());
    }
    let Some(redis) = redis_server() else { return };
    for (password, same) in [("", SAME), ("password = \"sesame\"", SAME_TO_STRANGERS)] {
        if !password.is_empty() {
            answered(&redis.address, &["CONFIG SET requirepass sesame"]);
        }
        let server = Server::start(&ROOMY.replace("[gateway]", &format!("[gateway]\n{password}")));
        for lines in same {
            assert_eq!(answered(&server.unix[0], lines), answered(&redis.address, lines), "{lines:?}");
        }
        assert_agrees(&server.stop(), 0, 0);
    }
}

/// redis-cli with its server.
fn redis_cli(address: &str) -> Option<Command> {
    let mut command = tool("redis-cli")?;
    command.args(at(address));
    Some(command)
}

/// How redis's own tools are told where to connect to.
fn at(address: &str) -> Vec<String> {
    if address.contains('/') {
        return vec!["-s".into(), address.into()];
    }
    let (host, port) = address.rsplit_once(':').unwrap();
    vec!["-h".into(), host.into(), "-p".into(), port.into()]
}

/// A client that reads `text` to its end.
fn fed(command: &mut Command, text: &[u8]) -> Done {
    let mut child = command.stdin(Stdio::piped()).spawn().expect("the client is there");
    let mut input = child.stdin.take().unwrap();
    let text = text.to_vec();
    let writer = std::thread::spawn(move || input.write_all(&text));
    let done = end(child);
    // A client that has ended early is for the caller to judge.
    let _ = writer.join().unwrap();
    done
}

fn is_id(text: &str) -> bool {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    text.split_once('-').is_some_and(|(ms, sequence)| is_number(ms) && is_number(sequence))
}

/// Lines on standard input: one answer each. How many events were accepted.
fn cli_reads_a_file(address: &str) -> Option<u64> {
    let lines = "PING\nECHO \"a b\"\nXADD events * n 1\nxadd events * n 2 text \"x y\"\nNOSUCH a\nSELECT 0\n";
    let done = fed(&mut redis_cli(address)?, lines.as_bytes());
    let shown: Vec<&str> = done.out.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(shown.len(), 6, "{}{}", done.out, done.err);
    assert_eq!((shown[0], shown[1], shown[5]), ("PONG", "a b", "OK"));
    assert!(is_id(shown[2]) && is_id(shown[3]), "{shown:?}");
    assert!(shown[4].starts_with("ERR unknown command"), "{shown:?}");
    Some(2)
}

/// Mass insertion: the protocol itself on standard input. How many events were accepted.
fn cli_inserts(address: &str) -> Option<u64> {
    const EVENTS: u64 = 20_000;
    let one = |n| format!("*5\r\n$4\r\nXADD\r\n$6\r\nevents\r\n$1\r\n*\r\n$1\r\nn\r\n$5\r\n{n:05}\r\n");
    let requests: String = (0..EVENTS).map(one).collect();
    let done = fed(redis_cli(address)?.arg("--pipe"), requests.as_bytes());
    assert!(done.out.contains(&format!("errors: 0, replies: {EVENTS}")), "{}{}", done.out, done.err);
    assert_eq!(done.code, Some(0));
    Some(EVENTS)
}

/// At a terminal, with prompt and help. How many events were accepted.
fn cli_is_typed_into(address: &str) -> Option<u64> {
    const TYPED: &[(&str, &str)] = &[
        ("PING", "\nPONG\n"),
        ("xadd events * n 1", "\n\""),
        ("nosuch", "\n(error) ERR unknown command"),
        ("echo", "\n(error) ERR wrong number of arguments for 'echo' command"),
        ("client setname typist", "\nOK\n"),
        ("client getname", "\n\"typist\"\n"),
        ("hello 3", "\"proto\" => (integer) 3\n"),
        ("client info", "name=typist"),
        ("info server", "redis_version:"),
        ("config get maxclients", "\"maxclients\""),
        ("quit", ""),
    ];
    redis_cli(address)?;
    let mut command = tool("python3")?;
    command.arg("-B").arg(script("typed.py")).args(["50", "redis-cli"]).args(at(address));
    let lines: Vec<&str> = TYPED.iter().map(|(line, _)| *line).collect();
    let done = fed(&mut command, json!(lines).to_string().as_bytes());
    let screen: Value = serde_json::from_str(&done.out)
        .unwrap_or_else(|error| panic!("{error}: code {:?}, {}{}", done.code, done.out, done.err));
    assert_eq!((&screen["state"], &screen["code"]), (&json!("ended"), &json!(0)), "{screen:#}");
    let shown = screen["lines"].as_array().unwrap();
    assert_eq!(shown.len(), TYPED.len(), "{screen:#}");
    for (shown, (typed, wanted)) in shown.iter().zip(TYPED) {
        assert!(shown["shown"].as_str().unwrap().contains(wanted), "{typed}: {shown:#}");
    }
    Some(1)
}

#[test]
fn redis_cli_is_at_home() {
    let clients = [cli_reads_a_file, cli_inserts, cli_is_typed_into];
    if let Some(redis) = redis_server() {
        clients.iter().for_each(|client| {
            client(&redis.address);
        });
    }
    let server = Server::start(ROOMY);
    let mut accepted = 0;
    for client in clients {
        for address in [&server.tcp[0], &server.unix[0]] {
            // One that is skipped has published nothing.
            accepted += client(address).unwrap_or(0);
        }
    }
    assert_agrees(&server.stop(), accepted, 0);
}

#[test]
fn redis_benchmark_ends_without_an_error() {
    const REQUESTS: u64 = 20_000;
    for (connections, pipeline) in [(50, 1), (50, 64), (500, 16)] {
        let server = Server::start(ROOMY);
        let Some(mut command) = tool("redis-benchmark") else { return };
        command.args(at(server.address())).args([
            "-c",
            &connections.to_string(),
            "-P",
            &pipeline.to_string(),
        ]);
        command.args(["-n", &REQUESTS.to_string(), "-q", "--csv"]);
        let done = run(command.args(["XADD", "events", "*", "myfield", &"x".repeat(40)]));
        // It ends at the first error, and says so.
        assert!(done.code == Some(0) && !done.err.contains("rror"), "{}{}", done.out, done.err);
        assert!(done.out.contains("XADD events"), "{}", done.out);
        let report = server.stop();
        // It stops when it has its answers, and does not wait for those of the last pipelines.
        let accepted = report["ledger"]["accepted"].as_u64().unwrap();
        assert!((REQUESTS..=REQUESTS + connections * pipeline).contains(&accepted), "{report:#}");
        assert_agrees(&report, accepted, 0);
    }
}

/// The load generator of `pelton-bench`; none where only the tests of this crate were built.
fn load() -> Option<Command> {
    let program = Path::new(env!("CARGO_BIN_EXE_pelton")).with_file_name("gateway_load");
    if !program.is_file() {
        return skipped(Need::Tools, "gateway_load is not built: `cargo test --workspace` does it");
    }
    Some(alone(Command::new(program)))
}

/// Hundreds of connections at once, each of which knows what it was told, in order.
#[test]
fn hundreds_of_connections_and_the_ledger_agree_under_each_policy() {
    const REQUESTS: u64 = 40_000;
    for overflow in ["block", "reject", "drop_newest"] {
        let Some(mut command) = load() else { return };
        let narrow = ROOMY
            .replace("capacity_slots = 4096", "capacity_slots = 16")
            .replace("\"block\"", &format!("{overflow:?}"));
        let server = Server::start(&narrow);
        command.args(["many", "--json", "--connections", "300", "--stream", "events", "--seconds", "40"]);
        command.args(["--requests", &REQUESTS.to_string(), "--address", server.address()]);
        let done = run(&mut command);
        let told: Value =
            serde_json::from_str(&done.out).unwrap_or_else(|error| panic!("{error}: {}", done.err));
        assert_eq!(done.code, Some(0), "{overflow}: {told:#}");
        let count = |key: &str| told[key].as_u64().unwrap();
        assert_eq!(count("accepted") + count("busy") + count("dropped"), REQUESTS, "{overflow}: {told:#}");
        assert_eq!(count("sent"), REQUESTS, "{overflow}: {told:#}");
        assert_agrees(&server.stop(), count("accepted"), count("busy") + count("dropped"));
    }
}

/// What views say of a log, sent by redis-py, is what Python makes of the same lines. `facts` are lines, clients and
/// lines of status 404, counted by other means, so that a mistake of the script is not taken for one of the server.
fn views_agree(log: &Path, facts: [u64; 3]) {
    let config = include_str!("../clients/views.toml");
    for (shards, protocol) in [("1", "2"), ("1", "3"), ("2", "3")] {
        let Some(mut command) = python("views.py") else { return };
        let server = Server::start(&config.replace("shards = 1", &format!("shards = {shards}")));
        command.args(["--stream", "log", "--shards", shards, "--protocol", protocol, "--log"]).arg(log);
        for (name, fact) in ["--lines", "--clients", "--not-found"].into_iter().zip(facts) {
            command.args([name, &fact.to_string()]);
        }
        let told = told(command.args(["--address", server.address()]));
        assert_agrees(&server.stop(), told["accepted"].as_u64().unwrap(), 0);
    }
}

#[test]
fn views_of_a_generated_log_agree_with_an_independent_computation() {
    // A day of windows that last for hours.
    let log = Log::generated_every(9);
    let totals = &log.totals;
    let not_found = totals.status.iter().find(|(status, _)| status == "404").unwrap().1;
    views_agree(log.path(), [totals.lines, totals.clients.len() as u64, not_found]);
}

#[test]
fn views_of_the_real_log_agree_with_an_independent_computation() {
    let Some(log) = real_access_log() else { return };
    views_agree(&log, [10_000, 1_753, 213]);
}

/// A subscriber gets every event in order; a slow one is told exactly how many it lost, and where.
#[test]
fn redis_py_subscribes_to_a_stream() {
    for (protocol, slow) in [("2", false), ("3", false), ("2", true), ("3", true)] {
        let Some(mut command) = python("subscribe.py") else { return };
        // A slow one has less room than is sent; another has room for all that is sent before it reads.
        let room = format!("[gateway]\nsubscriber_max_bytes = {}", if slow { 65_536 } else { 1_048_576 });
        let server = Server::start(&ROOMY.replace("[gateway]", &room));
        command.args(["--protocol", protocol, "--address", server.address()]);
        command.args(if slow { &["--slow"][..] } else { &["--events", "5000", "--text", "24"] });
        let told = told(&mut command);
        assert_agrees(&server.stop(), told["accepted"].as_u64().unwrap(), 0);
    }
}
