//! No text makes the reader or the checks panic, and each problem points at whole characters of the text.
//!
//! Inputs are made by a seed: texts that are right, bent by bytes, by tokens of the grammar, by keys of the tables and by
//! numbers that are nasty to somebody. `PELTON_FUZZ_INPUTS` says how many, `PELTON_FUZZ_SEED` where they start.

use pelton::Profile;
use pelton::config::{Scope, Sources, read};
use pelton::engine::{CLASS, ENGINE, Severity};
use pelton::host::Host;
use pelton_cli::settings::explain::explain;
use pelton_cli::settings::write::{Notes, write};
use pelton_testkit::Dice;
use pelton_testkit::configs::{any_plan, any_value};
use std::fmt::Write;
use std::time::{Duration, Instant};

/// Inputs in a usual run: some seconds, without optimisation too.
const INPUTS: u64 = if cfg!(debug_assertions) { 5_000 } else { 20_000 };

/// The watchdog of one input: far more than any needs.
const LONGEST: Duration = Duration::from_secs(60);

const TOKENS: &[&str] = &[
    "[",
    "]",
    "[[",
    "]]",
    "[class]",
    "[[class]]",
    "[[class.x]]",
    "{",
    "}",
    "=",
    "==",
    ",",
    ".",
    "\"",
    "'",
    "\"\"\"",
    "'''",
    "#",
    "\n",
    "\r\n",
    "\r",
    "\t",
    " ",
    "\\",
    "\\u0000",
    "\\UFFFFFFFF",
    "true",
    "false",
    "nan",
    "inf",
    "-",
    "+",
    "_",
    "1979-05-27T07:32:00Z",
    "é",
    "\u{202e}",
    "\u{feff}",
    "🦀",
    "\0",
    "\u{7f}",
    "profile = \"dev\"",
    "class = []",
    "class = [{}, 1]",
    "class = [[1]]",
    "a.b.c = 1",
    "\"\" = 1",
    "\"a\nb\" = 1",
    "name = \"\"",
    "name = 5",
    "[gateway]",
    "[[stream]]",
    "key = \"field:\"",
    "listen = [\"\", 1]",
    "listen = [\"[::1]:0\", \"0.0.0.0:65536\"]",
];

const NUMBERS: &[&str] = &[
    "0",
    "-0",
    "+1",
    "-1",
    "1_0",
    "_1",
    "1__0",
    "0x",
    "0xFFFF_FFFF_FFFF_FFFF_FFFF",
    "0b1",
    "0o7",
    "00",
    "1e400",
    "-1e-400",
    "1.",
    ".1",
    "255",
    "256",
    "65536",
    "65537",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "340282366920938463463374607431768211455",
    "340282366920938463463374607431768211456",
    "99999999999999999999999999999999999999999999999999999999999999999999999999",
];

fn right(dice: &mut Dice) -> String {
    let profile = *dice.pick(&Profile::ALL);
    let text = write(&any_plan(profile, dice), &[], &Notes::new()) + &front(dice);
    // Mostly without comments: what is bent should be settings.
    if dice.index(8) == 0 {
        text
    } else {
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .fold(String::new(), |text, line| text + line + "\n")
    }
}

/// Now and then the tables of a gateway, for classes of a made-up plan.
fn front(dice: &mut Dice) -> String {
    use pelton_gateway::{GATEWAY, STREAM};
    if dice.index(4) > 0 {
        return String::new();
    }
    let mut text = String::from("\n[gateway]\n");
    for row in GATEWAY.iter().filter(|_| dice.index(4) == 0).collect::<Vec<_>>() {
        let _ = writeln!(text, "{} = {}", row.info.key, any_value(row.info.kind, dice).toml());
    }
    for at in 0..dice.index(4) {
        let class = dice.index(3);
        let _ = write!(text, "\n[[stream]]\nname = \"stream {at}\"\nclass = \"class {class}\"\n");
        for row in STREAM.iter().filter(|row| row.info.key == "key" || row.info.key == "payload_max_bytes") {
            let _ = writeln!(text, "{} = {}", row.info.key, any_value(row.info.kind, dice).toml());
        }
    }
    text
}

fn piece(dice: &mut Dice) -> String {
    match dice.index(7) {
        0 => (*dice.pick(NUMBERS)).into(),
        1 => dice.pick(ENGINE).info.key.into(),
        2 => dice.pick(CLASS).info.key.into(),
        3 => {
            let row = dice.pick(ENGINE);
            format!("\n{} = {}\n", row.info.key, any_value(row.info.kind, dice).toml())
        }
        4 => {
            let row = dice.pick(CLASS);
            format!("\n{} = {}\n", row.info.key, any_value(row.info.kind, dice).toml())
        }
        _ => (*dice.pick(TOKENS)).into(),
    }
}

/// The byte at or before which a character begins.
fn boundary(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn bend(text: &mut String, dice: &mut Dice) {
    let from = boundary(text, dice.index(text.len() + 1));
    let to = boundary(text, (from + dice.index(24)).min(text.len())).max(from);
    match dice.index(8) {
        0 => text.insert_str(from, &piece(dice)),
        1 => text.replace_range(from..to, &piece(dice)),
        2 => text.replace_range(from..to, ""),
        3 => text.truncate(from),
        4 => {
            let again = text[from..to].to_string();
            text.insert_str(boundary(text, dice.index(text.len() + 1)), &again);
        }
        5 => {
            // A value of a line.
            let numbers = *dice.pick(NUMBERS);
            if let Some(at) = text[from..].find(" = ").map(|at| from + at + 3) {
                let end = text[at..].find('\n').map_or(text.len(), |end| at + end);
                text.replace_range(at..end, numbers);
            }
        }
        6 => {
            // Bytes that are no text are replaced as whoever reads a file would have to.
            let mut bytes = std::mem::take(text).into_bytes();
            if !bytes.is_empty() {
                let at = dice.index(bytes.len());
                bytes[at] = dice.index(256) as u8;
            }
            *text = String::from_utf8_lossy(&bytes).into_owned();
        }
        _ => text.push_str(&piece(dice)),
    }
}

fn noise(dice: &mut Dice) -> String {
    let mut text = String::new();
    for _ in 0..dice.index(60) {
        text.push_str(&piece(dice));
    }
    text
}

/// What is too deep, too long or too much.
fn heap(dice: &mut Dice) -> String {
    let n = 1 << dice.index(12);
    match dice.index(8) {
        0 => format!("cpus = {}1{}", "[".repeat(n), "]".repeat(n)),
        1 => format!("a = {}", "{a = ".repeat(n)),
        2 => format!("{} = 1", vec!["a"; n].join(".")),
        3 => format!("profile = \"{}\"", "x".repeat(n * 16)),
        4 => "[[class]]\n".repeat(n),
        5 => format!("{} = 1\n", "k".repeat(n * 16)),
        6 => format!("cpus = \"{}\"\n", vec!["0-65535"; n / 64].join(",")),
        _ => (0..n).fold(String::from("profile = \"dev\"\n"), |mut text, at| {
            let _ = writeln!(text, "key{at} = {at}");
            text
        }),
    }
}

fn input(dice: &mut Dice) -> Sources {
    let text = match dice.index(64) {
        0 => heap(dice),
        1..6 => noise(dice),
        _ => {
            let mut text = right(dice);
            for _ in 0..1 + dice.index(3) {
                bend(&mut text, dice);
            }
            text
        }
    };
    let mut sources = Sources { file: Some(("it.toml".into(), text)), ..Sources::default() };
    if dice.index(4) == 0 {
        let key = dice.pick(ENGINE).info.key;
        sources.environment.push((
            format!("PELTON_{}{}", key.to_uppercase(), if dice.index(4) == 0 { "X" } else { "" }),
            piece(dice),
        ));
        sources.environment.push((format!("PELTON_CLASS_{}", piece(dice)), piece(dice)));
    }
    if dice.index(4) == 0 {
        sources.options.push((dice.pick(ENGINE).info.key.into(), piece(dice)));
        sources.options.push((
            "class".into(),
            format!("class 0:{}={},{}", dice.pick(CLASS).info.key, piece(dice), piece(dice)),
        ));
    }
    sources
}

fn host(dice: &mut Dice) -> Host {
    Host {
        cpus: (0..dice.index(5)).collect(),
        quota_cpus: Ok(*dice.pick(&[None, Some(0.01), Some(1.5), Some(1e9)])),
        machine_bytes: Ok(*dice.pick(&[0, 1, 1 << 20, u64::MAX])),
        ..Host::unknown()
    }
}

/// Reads one input, alone and for a machine, and looks at all that is said of it.
fn swallow(sources: &Sources, host: &Host) -> (bool, usize) {
    let (_, text) = sources.file.as_ref().unwrap();
    let begun = Instant::now();
    let mut problems = 0;
    let mut good = false;
    for host in [None, Some(host)] {
        let config = read(sources, host);
        for problem in &config.problems().0 {
            let span = problem.span().unwrap_or(0..0);
            assert!(text.get(span.clone()).is_some(), "{span:?} of {text:?}");
            assert!(!problem.what.is_empty() && !problem.why.is_empty() && !problem.fix.is_empty());
        }
        problems += config.problems().0.len();
        if host.is_none() && !config.problems().has_errors() {
            good = true;
            // What can be is explained too, and a warning is no error.
            let rows = explain(config.plan(), config.origins(), &[], Scope::default());
            assert!(rows.len() >= ENGINE.len() + CLASS.len());
            assert!(config.problems().0.iter().all(|problem| problem.severity == Severity::Warning));
        }
    }
    if ["gateway", "stream"].iter().any(|word| text.contains(word)) {
        let mut options = pelton_gateway::Options::default();
        let base = pelton_gateway::Options::base;
        let config = pelton_gateway::configure(sources, &mut options, &base, &[], &mut [], Some(host));
        for problem in &config.problems().0 {
            assert!(text.get(problem.span().unwrap_or(0..0)).is_some(), "{problem}");
        }
        // What is told to be good passes the rules of whoever starts it.
        let wrong = options.findings().into_iter().find(|finding| finding.severity == Severity::Error);
        assert!(config.problems().has_errors() || wrong.is_none(), "{wrong:?}");
    }
    assert!(begun.elapsed() < LONGEST, "{:?} for {} bytes", begun.elapsed(), text.len());
    (good, problems)
}

#[test]
fn no_input_makes_the_reader_or_the_checks_panic() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let (inputs, seed) =
        (number("PELTON_FUZZ_INPUTS").unwrap_or(INPUTS), number("PELTON_FUZZ_SEED").unwrap_or(1));
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(8) as u64;
    let share = |worker: u64| {
        let (mut good, mut problems) = (0u64, 0u64);
        for at in (worker..inputs).step_by(workers as usize) {
            let dice = &mut Dice::new(seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(at));
            let (sources, host) = (input(dice), host(dice));
            let swallowed = std::panic::catch_unwind(|| swallow(&sources, &host));
            let (is_good, found) =
                swallowed.unwrap_or_else(|_| panic!("input {at} of seed {seed}: {sources:?}, {host:?}"));
            good += u64::from(is_good);
            problems += found as u64;
        }
        (good, problems)
    };
    let (good, problems) = std::thread::scope(|scope| {
        let all: Vec<_> = (0..workers).map(|worker| scope.spawn(move || share(worker))).collect();
        all.into_iter().map(|one| one.join().unwrap()).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    });
    println!("{inputs} inputs, {good} of them good, {problems} problems");
    // The inputs reach both ends: some can be, and most cannot.
    assert!(good * 100 > inputs && problems > inputs, "{good} good, {problems} problems");
}

#[test]
fn a_large_file_is_read_in_a_time_that_grows_with_its_size() {
    // What takes a second grows to hours with the square of the size; the limit is a watchdog.
    let many = 10_000;
    let lines = (0..many).fold(String::new(), |text, at| text + &format!("key{at} = 1\n"));
    let classes = (0..many).fold(String::new(), |text, at| text + &format!("[[class]]\nname = \"c{at}\"\n"));
    let one_line = format!(
        "class = [{}]\n",
        (0..many).fold(String::new(), |text, at| text + &format!("{{ name = \"c{at}\" }}, "))
    );
    let long_word = format!("{} = 1\n", "é".repeat(1 << 20).replace('é', "e"));
    let long_list = format!("cpus = [{}]\n", "1, ".repeat(many));
    let broken = "= 1\n".repeat(10_000);
    for (name, text) in [
        ("lines", lines),
        ("classes", classes),
        ("one line", one_line),
        ("a long word", long_word),
        ("a long list", long_list),
        ("broken", broken),
    ] {
        let begun = Instant::now();
        let config = read(&Sources { file: Some(("it.toml".into(), text)), ..Sources::default() }, None);
        assert!(config.problems().has_errors());
        let took = begun.elapsed();
        println!("{name}: {took:?}");
        assert!(took < Duration::from_secs(60), "{name}: {took:?}");
    }
}
