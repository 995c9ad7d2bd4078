//! The documents of the repository. Every command of `pelton` that they show runs. Packages, targets, features and
//! scripts that they name exist, and links lead to files and headings.
//!
//! A block of TOML that begins with a comment such as `# pelton.toml` is written to that file before the commands of
//! its document run.

use crate::support::pelton;
use crate::support::server::Server;
use pelton_testkit::program::{Done, alone, end};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// The largest README, in bytes: it is an entrance, and `docs/` has the rest.
const README_BYTES_MAX: usize = 9_216;

/// Programs of other projects that the documents show.
const FOREIGN: [&str; 3] = ["jq", "redis-benchmark", "redis-cli"];

struct Document {
    /// Its path from the root of the repository.
    name: String,
    text: String,
}

/// All documents, in the order of their names.
fn documents() -> Vec<Document> {
    let markdown = |folder: &str| {
        let paths = fs::read_dir(Path::new(ROOT).join(folder)).unwrap().map(|entry| entry.unwrap().path());
        paths.filter(|path| path.extension().is_some_and(|end| end == "md")).collect::<Vec<_>>()
    };
    let mut paths = [markdown(""), markdown("docs"), markdown("perf")].concat();
    paths.sort();
    let root = Path::new(ROOT);
    let document = |path: PathBuf| Document {
        name: path.strip_prefix(root).unwrap().to_str().unwrap().to_owned(),
        text: fs::read_to_string(path).unwrap(),
    };
    paths.into_iter().map(document).collect()
}

impl Document {
    /// The blocks of code in this language: the line on which each begins, and its text.
    fn blocks(&self, language: &str) -> Vec<(usize, String)> {
        let mut blocks = Vec::new();
        let mut lines = self.text.lines().enumerate();
        while let Some((at, line)) = lines.next() {
            let Some(found) = line.strip_prefix("```") else { continue };
            let text: String = lines
                .by_ref()
                .map(|(_, line)| line)
                .take_while(|line| *line != "```")
                .fold(String::new(), |text, line| text + line + "\n");
            if found == language {
                blocks.push((at + 1, text));
            }
        }
        blocks
    }

    /// The commands of its shell blocks, each with its place.
    fn commands(&self) -> Vec<(String, Vec<String>)> {
        let mut commands = Vec::new();
        for (at, text) in self.blocks("sh") {
            for (offset, line) in text.lines().enumerate() {
                let words = words(line);
                if !words.is_empty() {
                    commands.push((format!("{}:{}: {line}", self.name, at + 1 + offset), words));
                }
            }
        }
        commands
    }
}

/// The words of a command without its comment and the variables before it. Quotes are single quotes.
fn words(line: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let (mut is_quoted, mut is_apart) = (false, true);
    for c in line.chars() {
        match c {
            '#' if is_apart && !is_quoted => break,
            ' ' if !is_quoted => {
                is_apart = true;
                continue;
            }
            _ if is_apart => words.push(String::new()),
            _ => {}
        }
        is_apart = false;
        match c {
            '\'' => is_quoted = !is_quoted,
            _ => words.last_mut().unwrap().push(c),
        }
    }
    let is_variable = |word: &String| {
        let name = word.split_once('=').map_or("", |(name, _)| name);
        !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c == '_')
    };
    let variables = words.iter().take_while(|word| is_variable(word)).count();
    words.split_off(variables)
}

/// Exit codes of a command that succeeds as its document describes.
fn codes(command: &str) -> &'static [i32] {
    // The configurations that are shown need two CPUs.
    let is_small = pelton::shard::available().len() < 2;
    match command {
        "diff" => &[0, 1],
        "doctor" => &[0, 3],
        "check" | "init" if is_small => &[0, 3],
        _ => &[0],
    }
}

/// Runs a command of `pelton`, or several in a pipeline, in a folder.
fn run(place: &str, words: &[String], folder: &Path) {
    println!("{place}");
    let mut input = None;
    for (at, stage) in words.split(|word| word == "|").enumerate() {
        assert_eq!(stage[0], "pelton", "{place}: a pipeline of other programs");
        let mut command = pelton();
        command.current_dir(folder).args(&stage[1..]);
        let path = folder.join(format!("stage-{at}"));
        if let Some(input) = input.replace(path.clone()) {
            command.stdin(File::open::<PathBuf>(input).unwrap());
        }
        let done = if stage[1] == "run" { serve(command) } else { end(command.spawn().unwrap()) };
        let code = done.code.unwrap_or(-1);
        assert!(codes(&stage[1]).contains(&code), "{place}\ncode {code}: {}{}", done.out, done.err);
        fs::write(path, done.out).unwrap();
    }
}

/// Starts a server at a free port and stops it once it listens.
fn serve(mut command: Command) -> Done {
    command.args(["--listen", "127.0.0.1:0"]);
    let server = Server::ready(command, 1, tempfile::tempdir().unwrap());
    server.signal("TERM");
    server.wait()
}

#[test]
fn commands_of_pelton_run() {
    for document in documents() {
        let folder = tempfile::tempdir().unwrap();
        for (_, text) in document.blocks("toml") {
            if let Some(name) = text.lines().next().and_then(|line| line.strip_prefix("# ")) {
                fs::write(folder.path().join(name), &text).unwrap();
            }
        }
        for (place, words) in document.commands() {
            if words[0] == "pelton" {
                run(&place, &words, folder.path());
            }
        }
    }
}

#[test]
fn configurations_are_valid() {
    for document in documents() {
        for (at, text) in document.blocks("toml") {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("shown.toml");
            fs::write(&path, text).unwrap();
            let mut command = pelton();
            command.args(["check", "--no-host", "--deny-warnings"]).arg(path);
            let done = end(command.spawn().unwrap());
            assert_eq!(done.code, Some(0), "{}:{at}: {}{}", document.name, done.out, done.err);
        }
    }
}

/// The packages of the workspace, as cargo describes them.
struct Workspace {
    packages: Vec<Value>,
    /// Packages that a command takes at the root if it names none.
    defaults: Vec<String>,
    profiles: BTreeSet<String>,
}

fn name(package: &Value) -> &str {
    package["name"].as_str().unwrap()
}

fn list(value: &Value) -> Vec<&str> {
    value.as_array().map_or(Vec::new(), |all| all.iter().filter_map(Value::as_str).collect())
}

impl Workspace {
    fn read() -> Self {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = alone(Command::new(cargo));
        command.args(["metadata", "--format-version=1", "--no-deps", "--offline"]).current_dir(ROOT);
        let done = end(command.spawn().unwrap());
        let metadata: Value = serde_json::from_str(&done.out).unwrap_or_else(|_| panic!("{}", done.err));
        let packages = metadata["packages"].as_array().unwrap().clone();
        let ids = list(&metadata["workspace_default_members"]);
        let is_default = |package: &&Value| ids.contains(&package["id"].as_str().unwrap());
        let defaults = packages.iter().filter(is_default).map(|package| name(package).to_owned()).collect();
        let manifest: toml::Table =
            fs::read_to_string(Path::new(ROOT).join("Cargo.toml")).unwrap().parse().unwrap();
        let own = manifest["profile"].as_table().unwrap().keys().cloned();
        let profiles = own.chain(["dev", "release", "test", "bench"].map(str::to_owned)).collect();
        Workspace { packages, defaults, profiles }
    }

    fn package(&self, wanted: &str) -> Option<&Value> {
        self.packages.iter().find(|package| name(package) == wanted)
    }

    /// Checks a command of cargo: its packages and targets exist, and have the features that they need.
    fn check(&self, words: &[String]) -> Result<(), String> {
        let mut words = words[1..].iter().map(String::as_str).take_while(|word| *word != "--").peekable();
        words.next_if(|word| word.starts_with('+'));
        let command = words.next().ok_or("no command")?;
        let (mut named, mut targets, mut features) = (Vec::new(), Vec::new(), Vec::new());
        let mut is_workspace = false;
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} has no value"));
            match word {
                "-p" | "--package" => named.push(value()?.to_owned()),
                "--bin" | "--bench" | "--example" | "--test" => targets.push((&word[2..], value()?)),
                "--features" => features.extend(value()?.split(',')),
                "--profile" => {
                    let profile = value()?;
                    self.profiles.get(profile).ok_or(format!("no profile {profile}"))?;
                }
                "--path" => {
                    let path = Path::new(ROOT).join(value()?).join("Cargo.toml");
                    let is_there = |package: &&Value| {
                        fs::canonicalize(&path)
                            .is_ok_and(|path| path.to_str() == package["manifest_path"].as_str())
                    };
                    let package = self.packages.iter().find(is_there);
                    named.push(name(package.ok_or("no package at that path")?).to_owned());
                }
                "--workspace" | "--all" => is_workspace = true,
                "--all-features"
                | "--all-targets"
                | "--doc"
                | "--examples"
                | "--lib"
                | "--locked"
                | "--no-default-features"
                | "--open"
                | "--release" => {}
                _ if word.starts_with('-') => return Err(format!("unknown option {word}")),
                _ if command == "add" => named.push(word.to_owned()),
                // A filter of tests, or an argument of another subcommand.
                _ => {}
            }
        }
        if named.is_empty() {
            let all = || self.packages.iter().map(|package| name(package).to_owned()).collect();
            named = if is_workspace { all() } else { self.defaults.clone() };
        }
        let packages: Vec<_> = named
            .iter()
            .map(|wanted| self.package(wanted).ok_or(format!("no package {wanted}")))
            .collect::<Result<_, _>>()?;
        for feature in &features {
            let is_missing = |package: &&&Value| package["features"].get(feature).is_none();
            if let Some(package) = packages.iter().find(is_missing) {
                return Err(format!("{} has no feature {feature}", name(package)));
            }
        }
        for (kind, wanted) in &targets {
            let target = packages.iter().find_map(|package| target(package, kind, wanted));
            let target = target.ok_or(format!("no {kind} {wanted} in {named:?}"))?;
            let needed = list(&target["required-features"]);
            if let Some(missing) = needed.iter().find(|needed| !features.contains(needed)) {
                return Err(format!("{kind} {wanted} needs the feature {missing}"));
            }
        }
        match command {
            "add" => packages.iter().try_for_each(|package| match package["publish"].is_null() {
                true => Ok(()),
                false => Err(format!("{} is not published", name(package))),
            }),
            "run" | "install" if targets.is_empty() => {
                let bins: Vec<_> = packages.iter().flat_map(|package| bins(package)).collect();
                match bins.len() {
                    1 => Ok(()),
                    _ => Err(format!("one program to run, among {bins:?}")),
                }
            }
            "bench" | "build" | "check" | "clippy" | "doc" | "fmt" | "install" | "run" | "test" => Ok(()),
            "deny" if Path::new(ROOT).join("deny.toml").is_file() => Ok(()),
            _ => Err(format!("unknown command {command}")),
        }
    }
}

/// A target of a package, by its kind and name.
fn target<'a>(package: &'a Value, kind: &str, wanted: &str) -> Option<&'a Value> {
    let targets = package["targets"].as_array().unwrap().iter();
    targets.into_iter().find(|target| target["name"] == wanted && list(&target["kind"]).contains(&kind))
}

/// The program that a package runs by default, or all of its programs.
fn bins(package: &Value) -> Vec<&str> {
    match package["default_run"].as_str() {
        Some(default) => vec![default],
        None => {
            let targets = package["targets"].as_array().unwrap().iter();
            let bins = targets.filter(|target| list(&target["kind"]).contains(&"bin"));
            bins.map(|target| target["name"].as_str().unwrap()).collect()
        }
    }
}

#[test]
fn other_commands_name_what_exists() {
    let workspace = Workspace::read();
    let mut wrong = Vec::new();
    for (place, words) in documents().iter().flat_map(Document::commands) {
        let checked = match words[0].as_str() {
            "pelton" => Ok(()),
            "cargo" => workspace.check(&words),
            script if script.contains('/') => match Path::new(ROOT).join(script).is_file() {
                true => Ok(()),
                false => Err(format!("no script {script}")),
            },
            program if FOREIGN.contains(&program) => Ok(()),
            program => Err(format!("unknown program {program}")),
        };
        wrong.extend(checked.err().map(|error| format!("{place}\n  {error}")));
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn check_of_cargo_commands_finds_mistakes() {
    let workspace = Workspace::read();
    let check = |line: &str| workspace.check(&words(line));
    for (line, part) in [
        ("cargo test -p peltom", "no package peltom"),
        ("cargo run -p pelton-testkit", "one program to run"),
        ("cargo test -p pelton --features gateway", "no feature gateway"),
        ("cargo run -p pelton --example helo", "no example helo"),
        ("cargo run -p pelton --example tokio_service", "needs the feature async"),
        // The default member is the program, not the engine.
        ("cargo bench --bench instructions", "no bench instructions"),
        ("cargo test --profile modles", "no profile modles"),
        ("cargo install --path crates/pelton", "no package at that path"),
        ("cargo add pelton-bench", "is not published"),
        ("cargo tset", "unknown command tset"),
        ("cargo test --relaese", "unknown option"),
    ] {
        let error = check(line).expect_err(line);
        assert!(error.contains(part), "{line}: {error}");
    }
    assert_eq!(check("A_B=1 cargo run --release -- up --bin   # no target after the dashes"), Ok(()));
}

#[test]
fn readme_is_short_and_begins_with_two_commands() {
    let documents = documents();
    let readme = documents.iter().find(|document| document.name == "README.md").unwrap();
    assert!(readme.text.len() <= README_BYTES_MAX, "{} bytes", readme.text.len());
    // Scripts take both from there, without their comments.
    let (_, first) = readme.blocks("sh").swap_remove(0);
    let lines: Vec<_> = first.lines().collect();
    assert_eq!(lines.len(), 2, "{first}");
    for (line, command) in lines.iter().zip(["cargo run --release -- up", "cargo test --workspace"]) {
        let (found, comment) = line.split_once('#').expect("a comment");
        assert_eq!((found.trim_end(), comment.trim().is_empty()), (command, false));
    }
}

/// The anchors of a document's headings, as GitHub makes them.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut is_code = false;
    let is_heading = |line: &&str| {
        is_code ^= line.starts_with("```");
        !is_code && line.starts_with('#')
    };
    let anchor = |line: &str| {
        let heading = line.trim_start_matches('#').trim().to_lowercase();
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    text.lines().filter(is_heading).map(anchor).collect()
}

#[test]
fn links_lead_to_files_and_headings() {
    let mut wrong = Vec::new();
    for document in documents() {
        let path = Path::new(ROOT).join(&document.name);
        let inline = document.text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let named = document.text.lines().filter_map(|line| line.strip_prefix('[')?.split_once("]: "));
        for link in inline.chain(named.map(|(_, link)| link)) {
            if link.starts_with("http") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let file = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            let has_anchor = || fs::read_to_string(&file).is_ok_and(|text| anchors(&text).contains(anchor));
            if !file.exists() || !anchor.is_empty() && !has_anchor() {
                wrong.push(format!("{}: {link}", document.name));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
