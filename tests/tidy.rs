//! The house is in order: every file imports from floors below its own, or from earlier files of its room; `unsafe`
//! lives in three rooms; files open with what they are about and stay short enough to be read at one sitting.
//!
//! The table is DESIGN.md's picture of the house; a file that is in none of its rows is an error too.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Floors from the ground up; on each its rooms, each with its files in their order.
const HOUSE: &[&[(&str, &[&str])]] = &[
    &[("membarrier", &[]), ("sync", &[])],
    &[("clock", &[]), ("event", &[]), ("class", &[]), ("words", &[])],
    &[
        ("host", &["files", "cpus", "mounts", "group"]),
        ("memory", &["footprint", "huge", "region", "scratch", "seal", "audit"]),
        ("names", &[]),
        ("buckets", &[]),
        ("ledger", &[]),
        ("latency", &[]),
        ("route", &[]),
    ],
    &[
        ("ring", &["payload", "slots", "shape", "core", "producer", "stage", "consumer"]),
        ("wait", &["alarm", "bell", "door", "task", "room"]),
    ],
    &[("lane", &["spec", "side", "claim", "producer", "waiting", "returned", "consumer"])],
    &[("producer", &[]), ("async_producer", &[])],
    &[(
        "shard",
        &[
            "placement",
            "schedule",
            "mesh",
            "handler",
            "lanes",
            "nap",
            "quarantine",
            "mailbox",
            "parts",
            "burst",
            "poll",
            "driver",
        ],
    )],
    &[(
        "engine",
        &[
            "config",
            "value",
            "setting",
            "plan",
            "table",
            "class_table",
            "report",
            "response",
            "lane_view",
            "assembly",
            "sizes",
            "rules",
            "advice",
            "summary",
            "lifecycle",
            "ask",
            "sealing",
            "builder",
        ],
    )],
    &[
        (
            "config",
            &[
                "origin", "problem", "document", "table", "collect", "blocks", "bare", "layers", "explain",
                "budget", "write", "diff", "answers", "init",
            ],
        ),
        ("views", &["decimal", "view", "table", "shape", "pane", "reading", "tally", "merge"]),
        ("probe", &[]),
        ("doctor", &["finding", "cpus", "memory", "system", "measured", "report"]),
        ("resp", &["digits", "error", "header", "inline", "frame", "bulks", "reply"]),
        (
            "weblog",
            &[
                "line",
                "input",
                "tables",
                "aggregate",
                "ranks",
                "generate",
                "pace",
                "options",
                "feed",
                "configure",
                "replay",
            ],
        ),
        (
            "measure",
            &[
                "event",
                "machine",
                "rounds",
                "settings",
                "answer",
                "hgrm",
                "scale",
                "chart",
                "peers",
                "lane",
                "cliff",
                "engine",
                "mesh",
                "priority",
                "wake",
                "producers",
                "openloop",
                "latency",
            ],
        ),
    ],
    &[(
        "gateway",
        &[
            "stream",
            "options",
            "settings",
            "tls",
            "places",
            "advice",
            "rules",
            "configure",
            "draft",
            "wall",
            "record",
            "counts",
            "clients",
            "pool",
            "socket",
            "socket_file",
            "listen",
            "glob",
            "channel",
            "conn",
            "subscriptions",
            "watch",
            "shared",
            "guard",
            "tap",
            "sizes",
            "closed",
            "costs",
            "handler",
            "publish",
            "mail",
            "questions",
            "desk",
            "pubsub",
            "info",
            "session",
            "listing",
            "tell",
            "gather",
            "reader",
            "query",
            "transaction",
            "command",
            "accept",
            "worker",
            "lifetime",
            "deliver",
            "rounds",
            "server",
        ],
    )],
];

/// The rooms in which `unsafe` may stand.
const MAY_BE_UNSAFE: &[&str] = &["sync", "memory", "ring"];

/// The longest file, in lines without its tests.
const LINES_MAX: usize = 460;

/// A file's place: floor, room, and its position in the room (the room's own file comes last).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    floor: usize,
    room: usize,
    file: usize,
}

fn place_of(room: &str, file: Option<&str>) -> Option<Place> {
    HOUSE.iter().enumerate().find_map(|(floor, rooms)| {
        let at = rooms.iter().position(|(name, _)| *name == room)?;
        let files = rooms[at].1;
        let file = match file {
            Some(file) => files.iter().position(|name| *name == file)?,
            None => files.len(),
        };
        Some(Place { floor, room: at, file })
    })
}

fn has_files(room: &str) -> bool {
    HOUSE.iter().flat_map(|rooms| rooms.iter()).any(|(name, files)| *name == room && !files.is_empty())
}

fn may_import(from: Place, to: Place) -> bool {
    if (from.floor, from.room) == (to.floor, to.room) {
        return to.file < from.file;
    }
    // On one floor the rooms stand in an order too: `class` uses words of `event`.
    to.floor < from.floor || (to.floor == from.floor && to.room < from.room)
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

/// The files of the library, by (room, file), without their tests and comments.
fn library() -> BTreeMap<String, (String, Option<String>, String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    sources(&root, &mut paths);
    let mut files = BTreeMap::new();
    for path in paths {
        let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_string();
        if name == "lib.rs" || name.starts_with("bin/") || name.ends_with("models.rs") {
            continue;
        }
        let whole = fs::read_to_string(&path).unwrap();
        let mut parts = name.trim_end_matches(".rs").split('/').map(str::to_string);
        let room = parts.next().unwrap();
        let file = parts.next().filter(|file| file != "mod");
        files.insert(name, (room, file, code_of(&whole), whole));
    }
    files
}

/// The code alone: no comments, no test modules (they stand at the end of a file).
fn code_of(text: &str) -> String {
    let end = ["#[cfg(test)]\nmod tests", "#[cfg(all(test, not(loom)))]\nmod tests"]
        .iter()
        .filter_map(|mark| text.find(mark))
        .min()
        .unwrap_or(text.len());
    let code = |line: &str| line.split("//").next().unwrap_or("").to_string();
    text[..end].lines().map(code).collect::<Vec<_>>().join("\n")
}

/// Every path in `code` that starts with `prefix`: its first two segments.
fn paths(code: &str, prefix: &str) -> Vec<(String, Option<String>)> {
    let segment =
        |text: &str| -> String { text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect() };
    let mut found = Vec::new();
    for (at, _) in code.match_indices(prefix) {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let rest = &code[at + prefix.len()..];
        let first = segment(rest);
        let second = rest[first.len()..].strip_prefix("::").map(segment).filter(|second| !second.is_empty());
        found.push((first, second));
    }
    found
}

#[test]
fn every_import_goes_down() {
    let mut wrong = Vec::new();
    for (name, (room, file, code, _)) in library() {
        let Some(from) = place_of(&room, file.as_deref()) else {
            wrong.push(format!("{name} has no place in the house"));
            continue;
        };
        let mut targets = Vec::new();
        for (first, second) in paths(code.as_str(), "crate::") {
            if first.is_empty() {
                wrong.push(format!(
                    "{name}: write one path for each import, `crate::{{…}}` cannot be checked"
                ));
            } else if first.chars().next().is_some_and(char::is_uppercase) {
                // A re-export at the root; where it comes from is said by the root's own list.
                targets.push((root_export(&first), None));
            } else {
                let second = second.filter(|second| place_of(&first, Some(second)).is_some());
                targets.push((first, second));
            }
        }
        // In a room of one file `super::` can only mean the file itself, from a module within it.
        let supers =
            if file.is_some() || has_files(&room) { paths(code.as_str(), "super::") } else { Vec::new() };
        for (first, _) in supers {
            if file.is_some() && place_of(&room, Some(&first)).is_some() {
                targets.push((room.clone(), Some(first)));
            } else if file.is_some() {
                wrong.push(format!(
                    "{name}: `super::{first}` is the room's own file, which comes after this one"
                ));
            } else {
                targets.push((first, None));
            }
        }
        for (to_room, to_file) in targets {
            match place_of(&to_room, to_file.as_deref()) {
                Some(to) if may_import(from, to) => {}
                // The room's own file says which files it has.
                Some(to) if (to.floor, to.room, file.is_none()) == (from.floor, from.room, true) => {}
                _ => wrong.push(format!("{name} may not import {to_room}::{}", to_file.unwrap_or_default())),
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// The room of a name that `lib.rs` re-exports.
fn root_export(name: &str) -> String {
    let lib = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let line = lib.lines().find(|line| {
        line.starts_with("pub use ")
            && line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == name)
    });
    let line = line.unwrap_or_else(|| panic!("lib.rs does not re-export {name}"));
    line["pub use ".len()..].split("::").next().unwrap().to_string()
}

#[test]
fn unsafe_lives_in_three_rooms() {
    let mut wrong = Vec::new();
    for (name, (room, file, code, _)) in library() {
        let uses = code
            .lines()
            .any(|line| line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|w| w == "unsafe"));
        let forbids = code.contains("#![forbid(unsafe_code)]");
        if uses && !MAY_BE_UNSAFE.contains(&room.as_str()) {
            wrong.push(format!("{name} uses unsafe"));
        }
        // A file of a room whose own file forbids it need not say so again; the forbid reaches down.
        let room_forbids = file.is_some() && room_file_forbids(&room);
        if !uses && !forbids && !room_forbids && !MAY_BE_UNSAFE.contains(&room.as_str()) && file.is_some() {
            wrong.push(format!("{name} does not forbid unsafe"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

fn room_file_forbids(room: &str) -> bool {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(room).join("mod.rs");
    fs::read_to_string(path).is_ok_and(|text| text.contains("#![forbid(unsafe_code)]"))
}

#[test]
fn files_open_with_what_they_are_about_and_stay_short() {
    let mut wrong = Vec::new();
    for (name, (_, _, code, whole)) in library() {
        if !whole.starts_with("//! ") {
            wrong.push(format!("{name} does not say what it is about"));
        }
        let lines = code.trim_end().lines().count();
        if lines > LINES_MAX {
            wrong.push(format!("{name} has {lines} lines without its tests, more than {LINES_MAX}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_label_of_synchronisation_has_both_halves() {
    let mut labels: BTreeMap<String, u32> = BTreeMap::new();
    for (_, (_, _, _, whole)) in library() {
        for line in whole.lines() {
            if let Some((_, rest)) = line.split_once("// SYNC: ") {
                let label: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '-').collect();
                *labels.entry(label).or_default() += 1;
            }
        }
    }
    assert!(labels.len() >= 5, "{labels:?}");
    let alone: Vec<_> = labels.iter().filter(|(_, count)| **count < 2).collect();
    assert!(alone.is_empty(), "labels with one half: {alone:?}");
}
