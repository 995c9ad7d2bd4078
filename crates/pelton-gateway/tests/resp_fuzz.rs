//! No bytes make the parser panic, show it an argument outside of them, or let it decide twice in two ways.
//!
//! Inputs are made by a seed: requests that are right, bent by bytes, pieces of the protocol and lengths that are nasty to
//! somebody. Each is parsed whole, cut somewhere, and by a second parser, which is written as one would say it and is
//! slow. `PELTON_FUZZ_INPUTS` says how many, `PELTON_FUZZ_SEED` where they start.

use pelton_gateway::resp::{Bulks, Limits, Parsed, Parser, Reply, Version, pair};
use pelton_testkit::Dice;

/// Inputs in a usual run: some seconds, without optimisation too.
const INPUTS: u64 = if cfg!(debug_assertions) { 200_000 } else { 1_000_000 };

const PIECES: &[&[u8]] = &[
    b"\r\n",
    b"\r",
    b"\n",
    b"\0",
    b"$",
    b"*",
    b"-",
    b"+",
    b" ",
    b"\"",
    b"'",
    b"\\",
    b"\\x4",
    b"\\x41",
    b"$-1\r\n",
    b"*-1\r\n",
    b"*0\r\n",
    b"$0\r\n\r\n",
    b"*1\r\n",
    b"*2\r\n",
    b"*12\r\n",
    b"$1\r\na\r\n",
    b"$4\r\nPING\r\n",
    b"PING\r\n",
    b"$10\r\n",
    b"$100\r\n",
    b"%1\r\n",
    b">1\r\n",
    b"_\r\n",
    b":1\r\n",
    b"0",
    b"00",
    b"1",
    b"9",
    b"99",
    b"\xff",
    b"a",
    b"XADD",
];

const LENGTHS: &[&str] = &[
    "0",
    "1",
    "2",
    "5",
    "6",
    "7",
    "9",
    "10",
    "11",
    "12",
    "13",
    "16",
    "17",
    "99",
    "100",
    "127",
    "128",
    "255",
    "256",
    "511",
    "512",
    "513",
    "999",
    "1000",
    "1001",
    "9999",
    "10000",
    "-1",
    "-0",
    "+1",
    "01",
    "2147483647",
    "2147483648",
    "4294967295",
    "4294967296",
    "4294967301",
    "536870912",
    "536870913",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "18446744073709551621",
    "99999999999999999999999999",
    "",
    " 1",
    "1 ",
];

/// One of the pieces.
fn any<'a>(dice: &mut Dice, pieces: &[&'a [u8]]) -> &'a [u8] {
    pieces[dice.index(pieces.len())]
}

/// What is right: a few requests behind each other.
fn right(dice: &mut Dice, input: &mut Vec<u8>) {
    for _ in 0..1 + dice.index(3) {
        if dice.index(4) == 0 {
            for _ in 0..dice.index(5) {
                input.extend_from_slice(any(dice, &[b"PING ", b"a ", b"\"a b\" ", b"'\\'' ", b"\"\\x0a\" "]));
            }
            input.extend_from_slice(any(dice, &[b"\n", b"\r\n"]));
            continue;
        }
        let args = *dice.pick(&[1, 1, 2, 3, 5, 5, 5, 6, 7, 9, 10, 12, 17]);
        let mut reply = Reply::new(input, Version::Resp2);
        reply.array(args);
        for _ in 0..args {
            let length = *dice.pick(&[0, 1, 1, 2, 4, 7, 8, 9, 10, 11, 40, 98, 99, 100, 101]);
            reply.bulk(&[dice.roll() as u8; 101][..length]);
        }
    }
}

fn bend(dice: &mut Dice, input: &mut Vec<u8>) {
    let at = dice.index(input.len() + 1);
    let to = (at + dice.index(12)).min(input.len());
    match dice.index(7) {
        0 => drop(input.splice(at..at, dice.pick(PIECES).iter().copied())),
        1 => drop(input.splice(at..to, dice.pick(PIECES).iter().copied())),
        2 => drop(input.drain(at..to)),
        3 => input.truncate(at),
        4 => {
            if let Some(byte) = input.get_mut(at) {
                *byte = dice.roll() as u8;
            }
        }
        _ => {
            // The digits behind some `$` or `*`.
            let header = input[at..].iter().position(|byte| b"$*".contains(byte)).map(|found| at + found + 1);
            if let Some(at) = header {
                let digits = input[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                input.splice(at..at + digits, dice.pick(LENGTHS).bytes());
            }
        }
    }
}

fn make(dice: &mut Dice, input: &mut Vec<u8>) {
    input.clear();
    match dice.index(16) {
        0 => (0..dice.index(12)).for_each(|_| input.extend_from_slice(any(dice, PIECES))),
        1 => (0..dice.index(24)).for_each(|_| input.push(dice.roll() as u8)),
        2 => right(dice, input),
        _ => {
            right(dice, input);
            (0..1 + dice.index(3)).for_each(|_| bend(dice, input));
        }
    }
}

/// A request, where one is: its length and its arguments. As one would say it.
enum Model {
    Request(usize, Vec<Vec<u8>>),
    Incomplete,
    Bad,
}

/// Takes a line that ends with CRLF.
fn take_line<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = rest.windows(2).position(|two| two == b"\r\n")?;
    let line = &rest[..end];
    *rest = &rest[end + 2..];
    Some(line)
}

/// A number is what a number is written as.
fn number(line: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(line).ok()?;
    let value: i64 = text.parse().ok()?;
    (value.to_string() == text).then_some(value)
}

fn model(input: &[u8], limits: &Limits) -> Model {
    let Some(first) = input.first() else { return Model::Incomplete };
    if *first != b'*' {
        // Words are compared by their unit tests and with Redis; here only where a line ends.
        let Some(end) = input.iter().position(|byte| *byte == b'\n') else { return Model::Incomplete };
        let bytes = end + 1;
        let bad =
            input[..end].contains(&0) || bytes > limits.inline_bytes_max.min(limits.frame_bytes_max) as usize;
        return if bad { Model::Bad } else { Model::Request(bytes, Vec::new()) };
    }
    let mut rest = &input[1..];
    let Some(line) = take_line(&mut rest) else { return Model::Incomplete };
    let Some(count) = number(line).filter(|count| *count <= i64::from(limits.args_max)) else {
        return Model::Bad;
    };
    let mut args = Vec::new();
    for _ in 0..count {
        match rest.first() {
            None => return Model::Incomplete,
            Some(b'$') => rest = &rest[1..],
            Some(_) => return Model::Bad,
        }
        let Some(line) = take_line(&mut rest) else { return Model::Incomplete };
        let Some(length) = number(line).and_then(|length| usize::try_from(length).ok()) else {
            return Model::Bad;
        };
        if length > limits.frame_bytes_max as usize {
            return Model::Bad;
        }
        let Some((arg, behind)) = rest.split_at_checked(length) else { return Model::Incomplete };
        args.push(arg.to_vec());
        match behind {
            [b'\r', b'\n', behind @ ..] => rest = behind,
            [] | [b'\r'] => return Model::Incomplete,
            _ => return Model::Bad,
        }
    }
    let bytes = input.len() - rest.len();
    if bytes > limits.frame_bytes_max as usize { Model::Bad } else { Model::Request(bytes, args) }
}

/// What happened to the inputs.
#[derive(Debug, Default)]
struct Seen {
    requests: u64,
    inline: u64,
    incomplete: u64,
    bad: u64,
}

struct Fuzz {
    limits: Limits,
    parser: Parser,
    cut: Parser,
    seen: Seen,
}

impl Fuzz {
    fn new(limits: Limits) -> Self {
        Self { limits, parser: Parser::new(limits), cut: Parser::new(limits), seen: Seen::default() }
    }

    /// What holds for each answer by itself.
    fn check(limits: &Limits, parser: &Parser, input: &[u8], parsed: Parsed) {
        match parsed {
            Parsed::Request { bytes } => {
                assert!(0 < bytes && bytes <= input.len() && bytes <= limits.frame_bytes_max as usize);
                assert!(parser.len() <= limits.args_max as usize);
                let mut behind = 0;
                for at in 0..parser.len() {
                    let span = parser.span(at);
                    assert!(behind <= span.start && span.start <= span.end, "{span:?} behind {behind}");
                    assert!(parser.is_inline() || span.end + 2 <= bytes);
                    assert_eq!(parser.arg(input, at).len(), span.len());
                    behind = span.end;
                }
                if parser.len() > 1 {
                    let mut stored = Bulks::new(parser.bulks(input, 1));
                    assert!(stored.by_ref().eq((1..parser.len()).map(|at| parser.arg(input, at))));
                    assert!(stored.rest().is_empty());
                }
                assert!(!parser.is_inline() || bytes <= limits.inline_bytes_max as usize);
            }
            Parsed::Incomplete { needs } => {
                assert!(needs > input.len() && needs <= limits.frame_bytes_max as usize, "needs {needs}");
                assert_eq!(parser.len(), 0);
            }
            Parsed::Bad(error) => {
                assert!(!error.to_string().contains(['\r', '\n']));
                assert_eq!(parser.len(), 0);
            }
        }
    }

    fn swallow(&mut self, input: &[u8], cut: usize) {
        let Self { limits, parser, cut: other, seen } = self;
        let whole = parser.parse(input);
        Self::check(limits, parser, input, whole);
        match (model(input, limits), whole) {
            (Model::Request(expected, args), Parsed::Request { bytes }) => {
                assert_eq!(bytes, expected);
                if !parser.is_inline() {
                    assert!(
                        args.iter().map(Vec::as_slice).eq((0..parser.len()).map(|at| parser.arg(input, at)))
                    );
                }
            }
            // Words may be too many, and quotes open.
            (Model::Request(..), Parsed::Bad(_)) => assert_ne!(input[0], b'*'),
            // Ours looks further than to the end of a line, and stays below the limits.
            (Model::Incomplete | Model::Bad, Parsed::Bad(_))
            | (Model::Incomplete, Parsed::Incomplete { .. }) => {}
            // A line that has ended is wrong; but ours may wait for as many bytes as must come.
            (Model::Bad, Parsed::Incomplete { needs }) => assert!(needs <= limits.frame_bytes_max as usize),
            (Model::Request(..), Parsed::Incomplete { .. })
            | (Model::Bad | Model::Incomplete, Parsed::Request { .. }) => {
                panic!("{whole:?}")
            }
        }
        let part = other.parse(&input[..cut]);
        Self::check(limits, other, &input[..cut], part);
        match (part, whole) {
            (Parsed::Request { .. }, _) => {
                assert_eq!(part, whole);
                assert!((0..other.len()).eq(0..parser.len()));
                assert!((0..other.len()).all(|at| other.arg(input, at) == parser.arg(input, at)));
            }
            (Parsed::Incomplete { needs }, Parsed::Request { bytes }) => {
                assert!(cut < bytes && needs <= bytes)
            }
            (Parsed::Incomplete { needs }, Parsed::Incomplete { needs: more }) => assert!(needs <= more),
            (Parsed::Incomplete { .. }, Parsed::Bad(_)) | (Parsed::Bad(_), Parsed::Bad(_)) => {}
            (Parsed::Bad(_), _) => panic!("a part is bad, the whole is {whole:?}"),
        }
        // An unauthenticated connection is told the same, or that it is too much.
        let strange = other.parse_unauthenticated(input);
        Self::check(limits, other, input, strange);
        if !matches!(strange, Parsed::Bad(_)) {
            assert_eq!(strange, whole);
        }
        match whole {
            Parsed::Request { .. } if parser.is_inline() => seen.inline += 1,
            Parsed::Request { .. } => seen.requests += 1,
            Parsed::Incomplete { .. } => seen.incomplete += 1,
            Parsed::Bad(_) => seen.bad += 1,
        }
        // And the readers of what is stored, on what never should be.
        let mut bulks = Bulks::new(&input[cut..]);
        let read: usize = bulks.by_ref().map(|bulk| bulk.len() + 5).sum();
        assert!(read + bulks.rest().len() <= input.len() - cut);
        assert_eq!(bulks.next(), None);
        if let Some(value) = pair(&input[cut..], b"a") {
            assert!(Bulks::new(&input[cut..]).any(|bulk| bulk == value));
        }
    }
}

fn number_from(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

#[test]
fn no_bytes_are_too_odd() {
    let inputs = number_from("PELTON_FUZZ_INPUTS").unwrap_or(INPUTS);
    let seed = number_from("PELTON_FUZZ_SEED").unwrap_or(0);
    let limits =
        |args_max, frame_bytes_max, inline_bytes_max| Limits { args_max, frame_bytes_max, inline_bytes_max };
    // Wide enough for nearly all, and so narrow that much is too big.
    let mut fuzzes =
        [Fuzz::new(limits(64, 4_096, 512)), Fuzz::new(limits(8, 128, 16)), Fuzz::new(limits(4, 14, 20))];
    let mut input = Vec::new();
    for number in 0..inputs {
        let mut dice = Dice::new(seed.wrapping_add(number).wrapping_mul(0xd134_2543_de82_ef95));
        make(&mut dice, &mut input);
        let cut = dice.index(input.len() + 1);
        let fuzz = &mut fuzzes[[0, 0, 0, 1, 2][dice.index(5)]];
        let swallowed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| fuzz.swallow(&input, cut)));
        assert!(swallowed.is_ok(), "PELTON_FUZZ_SEED={} cut {cut}: {}", seed + number, input.escape_ascii());
    }
    for fuzz in fuzzes {
        println!("{:?}: {:?}", fuzz.limits, fuzz.seen);
        let Seen { requests, inline, incomplete, bad } = fuzz.seen;
        if inputs >= 100_000 {
            assert!(
                [requests, inline, incomplete, bad].iter().all(|seen| *seen > inputs / 1_000),
                "too little of a kind"
            );
        }
    }
}
