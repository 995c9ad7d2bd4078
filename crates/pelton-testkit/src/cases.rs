//! Bad configurations, each a file with the problems that are told of it beside it.

use pelton::config::{Config, Origin, Sources};
use pelton::engine::{Against, Severity};
use pelton::host::{Host, parse_list};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Reads what was written, alone or for a machine.
pub type Reader = fn(&Sources, Option<&Host>) -> Config;

/// A bad file: what stands in its first comments is the rest of what was written, and the machine.
pub struct Case {
    folder: PathBuf,
    pub name: String,
    pub text: String,
    pub rules: Vec<String>,
    pub sources: Sources,
    pub host: Option<Host>,
    read: Reader,
}

impl Case {
    fn of(folder: &Path, name: &str, text: String, read: Reader) -> Self {
        let mut sources = Sources { file: Some(("it.toml".into(), text.clone())), ..Sources::default() };
        let (mut rules, mut host) = (Vec::new(), None::<Host>);
        for (key, value) in text.lines().map_while(|line| line.strip_prefix("# ")?.split_once(": ")) {
            let pair = || value.split_once('=').map(|(key, value)| (key.to_string(), value.to_string()));
            let machine = || Host { cpus: vec![0], ..Host::unknown() };
            match key {
                "rule" => rules.push(value.to_string()),
                "env" => sources.environment.extend(pair()),
                "option" => sources.options.extend(pair()),
                "cpus" => host.get_or_insert_with(machine).cpus = parse_list(value),
                "quota" => host.get_or_insert_with(machine).quota_cpus = Ok(Some(value.parse().unwrap())),
                "files" => {
                    host.get_or_insert_with(machine).files_max = Ok(Some(value.parse().unwrap()));
                }
                "memory" => host.get_or_insert_with(machine).machine_bytes = Ok(value.parse().unwrap()),
                other => panic!("{name}: {other}"),
            }
        }
        Case { folder: folder.to_path_buf(), name: name.to_string(), text, rules, sources, host, read }
    }

    /// The bad files of a folder.
    pub fn all(folder: impl AsRef<Path>, read: Reader) -> Vec<Case> {
        let folder = folder.as_ref();
        let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
        let mut files: Vec<_> =
            files.filter(|path| path.extension().is_some_and(|ext| ext == "toml")).collect();
        files.sort();
        let name = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_string();
        files
            .iter()
            .map(|path| Case::of(folder, &name(path), std::fs::read_to_string(path).unwrap(), read))
            .collect()
    }

    pub fn read(&self) -> Config {
        (self.read)(&self.sources, self.host.as_ref())
    }
}

/// All problems, each with what stands at its place.
fn told(config: &Config, text: &str) -> String {
    let mut told = String::new();
    for problem in &config.problems().0 {
        let severity = if problem.severity == Severity::Error { "error" } else { "warning" };
        let against = if problem.against == Against::Host { ", of the host" } else { "" };
        write!(told, "{severity} ({}{against})", problem.rule.name()).unwrap();
        match &problem.origin {
            Some(Origin::File { line, column, span, .. }) => {
                let piece = text[span.clone()].lines().next().unwrap_or_default();
                write!(told, " at {line}:{column} `{piece}`").unwrap();
            }
            Some(origin) => write!(told, " at {origin}").unwrap(),
            None => {}
        }
        // What an engine takes beside its slots is not the same in every build.
        let what = match problem.what.split_once(") is ") {
            Some((footprint, _)) if footprint.starts_with("footprint") => format!("{footprint}) is … bytes"),
            _ => problem.what.clone(),
        };
        writeln!(told, "\n  {what}\n  {}\n  {}", problem.why, problem.fix).unwrap();
    }
    told
}

/// Every file is told of as is kept beside it.
pub fn are_kept(cases: &[Case]) {
    let bless = std::env::var_os("PELTON_TEST_BLESS").is_some();
    let mut wrong = Vec::new();
    for case in cases {
        let told = told(&case.read(), &case.text);
        let path = case.folder.join(format!("{}.txt", case.name));
        if bless {
            std::fs::write(&path, &told).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        if told.is_empty() || told != kept {
            wrong.push(format!("{}: told\n{told}kept\n{kept}", case.name));
        }
    }
    assert!(!cases.is_empty());
    assert!(wrong.is_empty(), "{}PELTON_TEST_BLESS=1 writes them anew", wrong.join("\n"));
}
