//! Requests of the Redis protocol, through the public face: cut at every byte, there and back, and beside Redis.

use pelton_gateway::resp::{Bulks, Limits, Parsed, Parser, ProtocolError, Reply, StampedId, Version, pair};
use pelton_testkit::needs::{Need, skipped};
use pelton_testkit::watchdog;
use proptest::collection::vec;
use proptest::prelude::*;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Of all that a request may be, nothing is too much.
const WIDE: Limits = Limits { args_max: 1 << 20, frame_bytes_max: 1 << 30, inline_bytes_max: 1 << 16 };

fn request(args: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut reply = Reply::new(&mut out, Version::Resp2);
    reply.array(args.len());
    args.iter().for_each(|arg| reply.bulk(arg.as_ref()));
    out
}

/// The same as a line, every byte escaped that must be, and others by `how`.
fn line(args: &[impl AsRef<[u8]>], how: u8) -> Vec<u8> {
    let mut out = Vec::new();
    for arg in args {
        out.push(b'"');
        for byte in arg.as_ref() {
            match byte {
                b'\n' if how & 1 == 0 => out.extend_from_slice(b"\\n"),
                b'\r' if how & 1 == 0 => out.extend_from_slice(b"\\r"),
                0x20..0x7f if how & 2 == 0 => out.extend_from_slice(if matches!(byte, b'"' | b'\\') {
                    if *byte == b'"' { b"\\\"" } else { b"\\\\" }
                } else {
                    std::slice::from_ref(byte)
                }),
                _ => out.extend_from_slice(format!("\\x{byte:02x}").as_bytes()),
            }
        }
        out.extend_from_slice(if how & 4 == 0 { b"\" " } else { b"\"\t \x0b" });
    }
    out.extend_from_slice(if how & 8 == 0 { b"\r\n" } else { b"\n" });
    out
}

fn args(parser: &Parser, input: &[u8]) -> Vec<Vec<u8>> {
    (0..parser.len()).map(|at| parser.arg(input, at).to_vec()).collect()
}

/// Parses a request with something behind it.
fn parsed(input: &[u8], bytes: usize) -> Vec<Vec<u8>> {
    let mut parser = Parser::new(WIDE);
    assert_eq!(parser.parse(input), Parsed::Request { bytes }, "{}", input.escape_ascii());
    args(&parser, input)
}

#[test]
fn request_split_anywhere_parses_the_same() {
    let mut requests: Vec<Vec<u8>> = vec![
        b"\r\n".into(),
        b"\n".into(),
        b"*0\r\n".into(),
        b"*-1\r\n".into(),
        b"*-12\r\n".into(),
        b"PING\r\n".into(),
        b"  set \"a \\x41\" 'b' \r\n".into(),
        request(&["PING"]),
        request(&[&b"XADD"[..], b"mystream", b"*", b"myfield", &[b'x'; 40]]),
        request(&[""; 3]),
        request(&["ECHO", "$3\r\n*1\r\n"]),
        request(&[b"a"; 12]),
        request(&[b"0123456789"; 101]),
    ];
    requests.extend(
        [9, 10, 99, 100, 999, 1_000, 12_345].map(|bytes| request(&[&b"XADD"[..], &vec![b'\r'; bytes]])),
    );
    for whole in requests {
        let expected = parsed(&whole, whole.len());
        let mut parser = Parser::new(WIDE);
        for cut in 0..whole.len() {
            let Parsed::Incomplete { needs } = parser.parse(&whole[..cut]) else {
                panic!("{} cut at {cut}", whole.escape_ascii())
            };
            assert!(cut < needs && needs <= whole.len(), "{} cut at {cut}: {needs}", whole.escape_ascii());
            assert_eq!(parser.len(), 0);
            parser.parse(&whole);
            assert_eq!(args(&parser, &whole), expected);
        }
        for behind in [&b"x"[..], b"\r\n", b"*1\r\n$4\r\nPING\r\n", &[0xff; 32]] {
            assert_eq!(parsed(&[&whole, behind].concat(), whole.len()), expected);
        }
    }
}

#[test]
fn single_bytes_parse_at_little_extra_cost() {
    let mut parser = Parser::new(WIDE);
    for (count, length) in
        [(10_000, 0), (10_000, 1), (10_000, 5), (10_000, 50), (2_000, 1_000), (1, 1_000_000)]
    {
        let whole = request(&vec![&vec![b'x'; length][..]; count]);
        // The caller looks when what was asked for is there, and never more.
        let (mut there, mut looks) = (0, 0u64);
        let end = loop {
            looks += 1;
            match parser.parse(&whole[..there]) {
                Parsed::Incomplete { needs } => there = needs,
                other => break other,
            }
        };
        assert_eq!(end, Parsed::Request { bytes: whole.len() });
        // At most all arguments are looked at each time; by the bytes that is at most some a byte.
        let looked_at = looks * count as u64;
        assert!(looked_at <= 4 * whole.len() as u64 + 40, "{count} of {length}: {looks} looks");
    }
}

#[test]
fn parser_does_not_allocate_for_a_request() {
    let limits = Limits { args_max: 64, frame_bytes_max: 1 << 12, inline_bytes_max: 1 << 10 };
    let mut parser = Parser::new(limits);
    let mut out = Vec::with_capacity(1 << 12);
    let mut last = StampedId::default();
    let inputs = [
        request(&[&b"XADD"[..], b"mystream", b"*", b"myfield", &[b'x'; 40]]),
        request(&[b"a"; 64]),
        line(&[b"a"; 60], 0),
        b"a ".repeat(70),
        b"*1\r\n$-1\r\n".to_vec(),
        b"*9\r\n".to_vec(),
    ];
    let mut turn = || {
        for (seq, input) in (0..).zip(&inputs) {
            out.clear();
            let mut reply = Reply::new(&mut out, Version::Resp3);
            match parser.parse(input) {
                Parsed::Request { .. } => {
                    reply.stamped(&mut last, 1_700_000_000_000, seq);
                    reply.entry_id(1_700_000_000_000, seq);
                    reply.double(seq as f64 / 3.0);
                    assert_eq!(Bulks::new(parser.bulks(input, 1)).count(), parser.len() - 1);
                    assert_eq!(pair(parser.bulks(input, 1), b"none"), None);
                }
                Parsed::Incomplete { needs } => reply.integer(needs as i64),
                Parsed::Bad(error) => reply.error(format_args!("ERR {error}")),
            }
        }
    };
    turn();
    #[cfg(feature = "audit")]
    pelton::memory::audit::assert_no_allocations(turn);
    #[cfg(not(feature = "audit"))]
    skipped::<()>(Need::Tools, "allocations are counted with the feature `audit`");
}

fn some_bytes() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![any::<u8>(), prop::sample::select(&b"\r\n$*\"'\\x0 "[..])];
    prop_oneof![8 => vec(byte.clone(), 0..12), 1 => vec(byte.clone(), 90..110), 1 => vec(byte, 990..1_010)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 500 } else { 5_000 }))]

    #[test]
    fn arguments_come_back(sent in vec(some_bytes(), 1..15), behind in some_bytes(), how in any::<u8>()) {
        let sent: Vec<&[u8]> = sent.iter().map(Vec::as_slice).collect();
        for whole in [request(&sent), line(&sent, how)] {
            let input = [&whole[..], &behind].concat();
            prop_assert_eq!(parsed(&input, whole.len()), sent.clone());
            let mut parser = Parser::new(WIDE);
            parser.parse(&input);
            // What is stored of a request does not tell how it was sent.
            let mut stored = Bulks::new(parser.bulks(&input, 1));
            prop_assert!(stored.by_ref().eq(sent[1..].iter().copied()));
            prop_assert!(stored.rest().is_empty());
            let fields: Vec<_> = sent[1..].chunks_exact(2).collect();
            for name in &sent {
                let first = fields.iter().find(|field| field[0] == *name).map(|field| field[1]);
                prop_assert_eq!(pair(parser.bulks(&input, 1), name), first);
            }
        }
    }
}

/// A redis-server of its own, on a socket in a directory of its own; ended with it.
struct Redis {
    child: Child,
    dir: tempfile::TempDir,
}

impl Redis {
    /// Starts it. `None`, and the test is skipped, where there is none of version 7.
    fn start() -> Option<Self> {
        let version = Command::new("redis-server").arg("--version").output();
        if !version.is_ok_and(|version| String::from_utf8_lossy(&version.stdout).contains("v=7.")) {
            return skipped(Need::Clients, "there is no redis-server of version 7");
        }
        let dir = tempfile::tempdir().unwrap();
        let child = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"])
            .arg(dir.path().join("redis"))
            .current_dir(dir.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let redis = Self { child, dir };
        let begun = Instant::now();
        while UnixStream::connect(redis.dir.path().join("redis")).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(30), "redis-server does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        Some(redis)
    }

    /// All that it answers to `input`; see [`OTHER`].
    fn answer(&self, input: &[u8]) -> Vec<u8> {
        let mut stream = UnixStream::connect(self.dir.path().join("redis")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(input).unwrap();
        // It may have closed the connection before.
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let mut known = Vec::new();
        for line in answer.split_inclusive(|byte| *byte == b'\n') {
            if line.starts_with(b"-ERR unknown command")
                || line.starts_with(b"-ERR wrong number of arguments")
            {
                Reply::new(&mut known, Version::Resp2).error(OTHER);
            } else {
                known.extend_from_slice(line);
            }
        }
        known
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What stands for all that is said of other commands, and of these with more arguments or less.
const OTHER: &str = "ERR other";

/// What a server with this parser answers that knows `ECHO` and `PING`.
fn our_answer(input: &[u8]) -> Vec<u8> {
    let mut parser = Parser::new(WIDE);
    let (mut at, mut out) = (0, Vec::new());
    while at < input.len() {
        let mut reply = Reply::new(&mut out, Version::Resp2);
        let rest = &input[at..];
        match parser.parse(rest) {
            Parsed::Request { bytes } => {
                let args = args(&parser, rest);
                match &args[..] {
                    [] => {}
                    [name] if name.eq_ignore_ascii_case(b"PING") => reply.simple("PONG"),
                    [name, what] if name.eq_ignore_ascii_case(b"ECHO") => reply.bulk(what),
                    [name, what] if name.eq_ignore_ascii_case(b"PING") => reply.bulk(what),
                    _ => reply.error(OTHER),
                }
                at += bytes;
            }
            Parsed::Incomplete { .. } => break,
            Parsed::Bad(error) => {
                reply.error(format_args!("ERR {error}"));
                break;
            }
        }
    }
    out
}

/// Whole lines that are odd, and that ours decides as Redis does.
fn odd_inputs() -> Vec<Vec<u8>> {
    const LENGTHS: &[&str] = &[
        "",
        "0",
        "1",
        "2",
        "3",
        "4",
        "-1",
        "-0",
        "-2",
        "+1",
        "+2",
        "01",
        "02",
        "00",
        "000",
        " 2",
        "2 ",
        "2x",
        "x2",
        "0x2",
        "2.0",
        "2e0",
        "--1",
        "-",
        "+",
        "-01",
        "1048577",
        "2147483647",
        "2147483648",
        "-2147483648",
        "536870912",
        "536870913",
        "4294967296",
        "4294967298",
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775808",
        "-9223372036854775809",
        "18446744073709551616",
        "18446744073709551618",
        "100000000000000000000",
        "99999999999999999999999999999999",
    ];
    const LINES: &[&str] = &[
        "",
        " ",
        "\t",
        "\x0b",
        "\x0c",
        "\r",
        "PING",
        "ping",
        " PING",
        "PING ",
        "PING\t",
        "PING\x0b",
        "PING\r",
        "\rPING",
        "ECHO a",
        "ECHO  a",
        "ECHO\ta",
        "ECHO\ra",
        "ECHO a\x0bb",
        "ECHO a\x0cb",
        "ECHO \"\"",
        "ECHO ''",
        "ECHO \"a b\"",
        "ECHO 'a b'",
        "ECHO a\"b\"",
        "ECHO a'b'",
        "ECHO a\"b c\"",
        "\"ECHO\" \"a\"",
        "E\"CHO\" a",
        "ECHO \"\\n\\r\\t\\b\\a\"",
        "ECHO \"\\x41\"",
        "ECHO \"\\x00\"",
        "ECHO \"\\xfF\"",
        "ECHO \"\\xg0\"",
        "ECHO \"\\x4\"",
        "ECHO \"\\x\"",
        "ECHO \"\\q\"",
        "ECHO \"\\\\\"",
        "ECHO \"\\\"\"",
        "ECHO '\\n'",
        "ECHO '\\''",
        "ECHO '\\\\'",
        "ECHO '\\",
        "ECHO \"",
        "ECHO '",
        "ECHO \"a",
        "ECHO 'a",
        "ECHO \"a\"b",
        "ECHO 'a'b",
        "ECHO \"a\"\"b\"",
        "ECHO \"a\"'b'",
        "ECHO \"a\\",
        "ECHO \"\\\"",
        "ECHO \\",
        "ECHO \\x41",
        "ECHO \\\"a\\\"",
        "ECHO a\"",
        "ECHO a'",
        "ECHO \"a\"\x0b",
        "ECHO \"a\"\x0c",
        "ECHO \"a\"\t",
        "ECHO \"a\"\r",
        "ECHO $1",
        "ECHO *1",
        "ECHO \x7f",
        "ECHO é",
        "ECHO \"é\"",
        "ECHO \x01\x02",
        "\"\"PING",
        "''",
    ];
    let mut inputs: Vec<Vec<u8>> = Vec::new();
    for text in LENGTHS {
        for form in [
            "*@\r\n",
            "*@\r\n$4\r\nPING\r\n",
            "*@\r\n$4\r\nECHO\r\n$2\r\nhi\r\n",
            "*1\r\n$@\r\nPING\r\n",
            "*2\r\n$4\r\nECHO\r\n$@\r\nhi\r\n",
            "*2\r\n$4\r\nECHO\r\n$@\r\nh\r\n",
            "*1\r\n$4\r\nPING\r\n*@\r\n",
            "*2\r\n$@\r\n",
        ] {
            let input = form.replace('@', text);
            // Two bytes of another length end at no CRLF, which Redis does not look at.
            let length = text.parse::<usize>().ok().filter(|_| !text.starts_with(['+', '0']) || *text == "0");
            let ends_at_none = match form {
                "*1\r\n$@\r\nPING\r\n" => length.is_some_and(|length| length != 4 && length < 1_000),
                "*2\r\n$4\r\nECHO\r\n$@\r\nhi\r\n" => {
                    length.is_some_and(|length| length != 2 && length < 1_000)
                }
                "*2\r\n$4\r\nECHO\r\n$@\r\nh\r\n" => {
                    length.is_some_and(|length| length != 1 && length < 1_000)
                }
                _ => false,
            };
            // Our limit on arguments.
            let too_many =
                form.contains("*@") && length.is_some_and(|n| n > 1 << 20 && n <= i32::MAX as usize);
            if !ends_at_none && !too_many {
                inputs.push(input.into_bytes());
            }
        }
    }
    for text in LINES {
        for end in ["\n", "\r\n", "\r\nPING\r\n", "\n*1\r\n$4\r\nPING\r\n"] {
            inputs.push([text.as_bytes(), end.as_bytes()].concat());
        }
    }
    for got in (1..=255u8).filter(|byte| !b"\r\n$".contains(byte)) {
        // Other bytes ours shows as \xHH, since they are not for a terminal.
        if (b' '..=b'~').contains(&got) {
            inputs.push([b"*1\r\n", &[got][..], b"4\r\nPING\r\n"].concat());
        }
    }
    for text in [
        "*1\r\n*1\r\n$4\r\nPING\r\n",
        "*2\r\n$4\r\nECHO\r\n*1\r\n$1\r\na\r\n",
        "$4\r\nPING\r\n",
        "*1\r\n$4\r\nPING\r\n\r\n\r\nPING\r\n*0\r\n*-1\r\nPING\r\n",
        "PING\r\n*x\r\nPING\r\n",
        "*2\r\n$4\r\nECHO\r\n$4\r\n\r\n\r\n\r\n",
        "*2\r\n$4\r\nECHO\r\n$0\r\n\r\n",
    ] {
        inputs.push(text.into());
    }
    inputs
}

#[test]
fn odd_requests_parse_as_in_redis() {
    let _watchdog = watchdog();
    let Some(redis) = Redis::start() else { return };
    let inputs = odd_inputs();
    assert!(inputs.len() > 500, "{} inputs", inputs.len());
    let mut different = Vec::new();
    for input in &inputs {
        let (its, ours) = (redis.answer(input), our_answer(input));
        if its != ours {
            let [input, its, ours] = [input, &its, &ours].map(|bytes| bytes.escape_ascii().to_string());
            different.push(format!("{input}\n  Redis: {its}\n  ours:  {ours}"));
        }
    }
    assert!(different.is_empty(), "{} of {}:\n{}", different.len(), inputs.len(), different.join("\n"));
}

#[test]
fn parser_is_stricter_than_redis_here() {
    let _watchdog = watchdog();
    let stricter: &[(&[u8], &str, ProtocolError)] = &[
        (b"*1\r\n$4\r\nPINGxx", "+PONG\r\n", ProtocolError::Unterminated),
        (b"*1\r\n$4\rxPING\r\n", "+PONG\r\n", ProtocolError::BulkLength),
        (b"*1\rx$4\r\nPING\r\n", "+PONG\r\n", ProtocolError::MultibulkLength),
        (b"PI\0NG\r\n", "", ProtocolError::InlineNul),
        (b"*x", "", ProtocolError::MultibulkLength),
        (b"*1\r\nx", "", ProtocolError::ExpectedBulk(b'x')),
        (b"*1\r\n$x", "", ProtocolError::BulkLength),
        (
            b"*1\r\n\x01\r\n",
            "-ERR Protocol error: expected '$', got '\x01'\r\n",
            ProtocolError::ExpectedBulk(1),
        ),
    ];
    let mut parser = Parser::new(WIDE);
    for (input, _, error) in stricter {
        assert_eq!(parser.parse(input), Parsed::Bad(*error), "{}", input.escape_ascii());
    }
    let Some(redis) = Redis::start() else { return };
    for (input, its, _) in stricter {
        assert_eq!(redis.answer(input).escape_ascii().to_string(), its.as_bytes().escape_ascii().to_string());
    }
}
