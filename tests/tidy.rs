//! The house is in order, in every crate: no circle among its files, `unsafe` in few rooms, files that open with what they
//! are about and are short enough to be read at one sitting, functions that fit a screen. In the engine, rooms import from
//! lower floors alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The engine's floors from the ground up, each with its rooms. A file imports from floors below its own, and from other
/// rooms of its floor where that closes no circle.
const FLOORS: &[&[&str]] = &[
    &["membarrier", "sync"],
    &["clock", "event", "class", "words"],
    &["host", "memory", "buckets", "ledger", "latency", "route"],
    &["ring", "park"],
    &["lane"],
    &["producer", "async_producer"],
    &["shard"],
    &["engine"],
    &["config"],
];

/// Where `unsafe` may stand: rooms of the engine, and files elsewhere.
const MAY_BE_UNSAFE: &[&str] = &["src/sync", "src/memory/", "src/ring/", "crates/pelton-testkit/src/"];

/// What tests share may be long, as tests may.
const TESTS: &str = "crates/pelton-testkit/";

/// The longest file, in lines without its tests.
const LINES_MAX: usize = 460;

/// The longest function, in lines.
const FUNCTION_LINES_MAX: usize = 60;

/// Functions that are longer, since they are tables.
const TABLES: &[&str] = &[];

/// A file of a crate: its module path, its text, and its code without comments and tests.
struct File {
    name: String,
    module: Vec<String>,
    whole: String,
    code: String,
}

impl File {
    /// The first part of its module path; empty for the crate's own file.
    fn room(&self) -> &str {
        self.module.first().map_or("", String::as_str)
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The source folders of all crates, the engine's first.
fn crates() -> Vec<PathBuf> {
    let crates = fs::read_dir(root().join("crates")).unwrap().map(|entry| entry.unwrap().path().join("src"));
    let mut crates: Vec<_> = crates.filter(|path| path.is_dir()).collect();
    crates.sort();
    crates.insert(0, root().join("src"));
    crates
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            found.push(path);
        }
    }
}

/// The files of a crate. Models of loom stand beside the code that they check, and see all of it.
fn files(source: &Path) -> Vec<File> {
    let mut paths = Vec::new();
    sources(source, &mut paths);
    paths.sort();
    let file = |path: PathBuf| {
        let inner = path.strip_prefix(source).unwrap().to_str().unwrap().trim_end_matches(".rs").to_string();
        let module = inner.split('/').filter(|part| !["mod", "lib", "main"].contains(part));
        let whole = fs::read_to_string(&path).unwrap();
        File {
            name: path.strip_prefix(root()).unwrap().to_str().unwrap().to_string(),
            module: module.map(str::to_string).collect(),
            code: code_of(&whole),
            whole,
        }
    };
    paths.into_iter().filter(|path| !path.ends_with("models.rs")).map(file).collect()
}

fn all_files() -> Vec<File> {
    crates().iter().flat_map(|source| files(source)).collect()
}

/// The code alone: no comments, no test modules (they stand at the end of a file).
fn code_of(text: &str) -> String {
    let end = ["#[cfg(test)]\nmod tests", "#[cfg(all(test, not(pelton_loom)))]\nmod tests"]
        .iter()
        .filter_map(|mark| text.find(mark))
        .min()
        .unwrap_or(text.len());
    let code = |line: &str| line.split("//").next().unwrap_or("").to_string();
    text[..end].lines().map(code).collect::<Vec<_>>().join("\n")
}

/// Every path in `code` that begins with `prefix`, without it: `a::b::C`. A macro's `$crate::` is of whoever uses it.
fn paths<'a>(code: &'a str, prefix: &str) -> Vec<Vec<&'a str>> {
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let mut found = Vec::new();
    for (at, _) in code.match_indices(prefix) {
        if code[..at].chars().next_back().is_some_and(|c| is_path(c) || c == '$') {
            continue;
        }
        let rest = &code[at + prefix.len()..];
        let end = rest.find(|c| !is_path(c)).unwrap_or(rest.len());
        found.push(rest[..end].split("::").filter(|part| !part.is_empty()).collect());
    }
    found
}

/// Names that a crate's own file re-exports, each with the path of its module.
type Exports<'a> = BTreeMap<&'a str, Vec<&'a str>>;

fn exports(files: &[File]) -> Exports<'_> {
    let mut exports = Exports::new();
    let own = files.iter().find(|file| file.name.ends_with("src/lib.rs"));
    for list in own.iter().flat_map(|file| file.code.split("pub use ").skip(1)) {
        let list = list.split(';').next().unwrap_or_default();
        let (module, names) = list.split_once("::{").or_else(|| list.rsplit_once("::")).unwrap_or_default();
        let is_name = |c: char| c.is_alphanumeric() || c == '_';
        for name in names.split(|c| !is_name(c)).filter(|name| !name.is_empty()) {
            exports.insert(name, module.split("::").collect());
        }
    }
    exports
}

/// The modules that a file uses: the longest beginning of each path that is a file. A module's own file uses those that
/// it declares.
fn uses(file: &File, modules: &BTreeSet<&[String]>, exports: &Exports) -> BTreeSet<Vec<String>> {
    let resolve = |base: &[String], path: &[&str]| {
        let mut whole: Vec<String> = base.to_vec();
        whole.extend(path.iter().map(|part| part.to_string()));
        (0..=whole.len()).rev().map(|len| whole[..len].to_vec()).find(|part| modules.contains(&part[..]))
    };
    let mut used = BTreeSet::new();
    used.extend(paths(&file.code, "crate::").iter().filter_map(|path| match path.first() {
        // What the crate's own file re-exports is of the file that it comes from.
        Some(name) if exports.contains_key(*name) => resolve(&[], &exports[*name]),
        _ => resolve(&[], path),
    }));
    let parent = file.module.len().saturating_sub(1);
    // `super::` within a module of a file means the file itself, which is no other file.
    for path in paths(&file.code, "super::") {
        let is_sibling = path.first().is_some_and(|first| {
            let mut sibling = file.module[..parent].to_vec();
            sibling.push(first.to_string());
            modules.contains(&sibling[..])
        });
        if is_sibling {
            used.extend(resolve(&file.module[..parent], &path));
        }
    }
    let declared = modules.iter().filter(|module| {
        module.len() == file.module.len() + 1 && module[..file.module.len()] == file.module[..]
    });
    used.extend(declared.map(|module| module.to_vec()));
    used.remove(&file.module);
    used
}

#[test]
fn no_crate_has_a_circle_among_its_files() {
    let mut circles = Vec::new();
    for source in crates() {
        let files: Vec<_> =
            files(&source).into_iter().filter(|file| !file.name.ends_with("main.rs")).collect();
        let modules: BTreeSet<&[String]> = files.iter().map(|file| &file.module[..]).collect();
        let exports = exports(&files);
        let mut left: BTreeMap<Vec<String>, BTreeSet<Vec<String>>> =
            files.iter().map(|file| (file.module.clone(), uses(file, &modules, &exports))).collect();
        // Takes files that use nothing that is left, until none is left or all that are left are in circles.
        loop {
            let free: Vec<_> =
                left.iter().filter(|(_, uses)| uses.is_empty()).map(|(module, _)| module.clone()).collect();
            if free.is_empty() {
                break;
            }
            free.iter().for_each(|module| drop(left.remove(module)));
            left.values_mut().for_each(|uses| uses.retain(|used| !free.contains(used)));
        }
        circles.extend(left.into_iter().map(|(module, uses)| {
            let uses: Vec<_> = uses.iter().map(|used| used.join("::")).collect();
            format!("{}: {} uses {}", source.display(), module.join("::"), uses.join(", "))
        }));
    }
    assert!(circles.is_empty(), "files in circles, or above one:\n{}", circles.join("\n"));
}

#[test]
fn rooms_of_the_engine_import_from_lower_floors() {
    let floor_of = |room: &str| FLOORS.iter().position(|rooms| rooms.contains(&room));
    let engine = files(&crates()[0]);
    let modules: BTreeSet<&[String]> = engine.iter().map(|file| &file.module[..]).collect();
    let exports = exports(&engine);
    let mut wrong = Vec::new();
    for file in engine.iter().filter(|file| !file.module.is_empty()) {
        let Some(floor) = floor_of(file.room()) else {
            wrong.push(format!("{} has no place in the house", file.name));
            continue;
        };
        for used in uses(file, &modules, &exports) {
            // What the root re-exports is of a floor that its circle test knows.
            let Some(room) = used.first() else { continue };
            if floor_of(room).is_none_or(|used| used > floor) {
                wrong.push(format!("{} may not import {}", file.name, used.join("::")));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn unsafe_lives_in_few_rooms() {
    let allows = |file: &File| file.whole.contains("allow(unsafe_code");
    let is_named = |file: &File| MAY_BE_UNSAFE.iter().any(|room| file.name.starts_with(room));
    let wrong: Vec<_> = all_files().into_iter().filter(|file| allows(file) && !is_named(file)).collect();
    let names: Vec<_> = wrong.iter().map(|file| &file.name).collect();
    assert!(wrong.is_empty(), "{names:?} allow unsafe code, which the workspace denies");
}

#[test]
fn files_open_with_what_they_are_about_and_stay_short() {
    let mut wrong = Vec::new();
    for file in all_files() {
        if !file.whole.starts_with("//! ") {
            wrong.push(format!("{} does not say what it is about", file.name));
        }
        let lines = file.code.trim_end().lines().count();
        if lines > LINES_MAX && !file.name.starts_with(TESTS) {
            wrong.push(format!("{} has {lines} lines without its tests, more than {LINES_MAX}", file.name));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// The functions of formatted code: their names, and how many lines they have.
fn functions(code: &str) -> Vec<(String, usize)> {
    let lines: Vec<_> = code.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let indent = &line[..line.len() - line.trim_start().len()];
        let Some((head, rest)) = line.split_once("fn ") else { continue };
        if !head.trim().split(' ').all(|word| {
            word.is_empty() || word.starts_with("pub") || ["const", "async", "unsafe", "in"].contains(&word)
        }) {
            continue;
        }
        let name = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
        // One that ends on its line has a body there, or none.
        let is_short = line.trim_end().ends_with(['}', ';']);
        let end = lines[at..].iter().position(|line| *line == format!("{indent}}}"));
        let end = if is_short { None } else { end };
        found.push((name.to_string(), end.map_or(1, |end| end + 1)));
    }
    found
}

#[test]
fn functions_fit_a_screen() {
    let mut wrong = Vec::new();
    for file in all_files().iter().filter(|file| !file.name.starts_with(TESTS)) {
        for (name, lines) in functions(&file.code) {
            if lines > FUNCTION_LINES_MAX && !TABLES.contains(&name.as_str()) {
                wrong.push(format!("{}: {name} has {lines} lines", file.name));
            }
        }
    }
    assert!(wrong.is_empty(), "more than {FUNCTION_LINES_MAX} lines:\n{}", wrong.join("\n"));
}

#[test]
fn every_label_of_synchronisation_has_both_halves() {
    for source in crates() {
        let mut labels: BTreeMap<String, u32> = BTreeMap::new();
        for file in files(&source) {
            for line in file.whole.lines() {
                if let Some((_, rest)) = line.split_once("// SYNC: ") {
                    let label: String =
                        rest.chars().take_while(|c| c.is_alphanumeric() || *c == '-').collect();
                    *labels.entry(label).or_default() += 1;
                }
            }
        }
        let is_engine = source == root().join("src");
        assert!(!is_engine || labels.len() >= 5, "{labels:?}");
        let alone: Vec<_> = labels.iter().filter(|(_, count)| **count < 2).collect();
        assert!(alone.is_empty(), "{}: labels with one half: {alone:?}", source.display());
    }
}
