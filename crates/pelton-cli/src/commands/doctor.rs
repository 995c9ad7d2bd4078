//! `pelton doctor`: the library's look at this machine, as a page, as JSON, or as a script.

use crate::doctor::{Doctor, Figures, Finding, GAP_NS_MIN, Report, Settings, State, Syncs, Topic};
use crate::failure::Failure;
use crate::machine;
use crate::output::files;
use crate::output::format::{bytes, clean, count, cpus, nanos, wrap};
use crate::output::page::{Ink, Page, Rows};
use crate::settings::config;
use crate::settings::numbers::number;
use clap::Args;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Exit codes, for the help.
pub const CODES: &str = "Nothing is changed, and no privilege is needed.\n\n\
    Exit codes:\n  0  nothing is bad; there may be warnings\n  1  the output could not be written\n  \
    2  the arguments cannot be, or the script's file is there already\n  3  something is bad for an engine";

/// Arguments of `pelton doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// A file of settings, whose shards' CPUs and connections' descriptors are looked at
    #[arg(long, value_name = "FILE", conflicts_with = "cpus")]
    config: Option<PathBuf>,
    /// CPUs that an engine uses, as in 0-3,7 [default: mask, all of this process's mask]
    #[arg(long, value_name = "LIST")]
    cpus: Option<String>,
    /// How long to measure, 1 to 600 seconds
    #[arg(long, value_name = "S", value_parser = number, default_value = "5", allow_negative_numbers = true)]
    seconds: u32,
    /// Look, but measure nothing
    #[arg(long, conflicts_with = "seconds")]
    no_measure: bool,
    /// Measure writes on the disc of this folder [default: the system's folder of temporary files]
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Print one JSON object instead of tables
    #[arg(long)]
    json: bool,
    /// Write a script of what an administrator would run, to FILE; without FILE print it alone, and measure nothing
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "-")]
    fix_script: Option<PathBuf>,
    /// Overwrite a script that is there
    #[arg(long, requires = "fix_script")]
    force: bool,
}

impl DoctorArgs {
    fn settings(&self) -> Result<Settings, Failure> {
        let span = Duration::from_secs(self.seconds.into());
        let measure = (!self.no_measure).then_some(span);
        let mut settings = Settings { measure, folder: self.folder.clone(), ..Settings::default() };
        if let Some(cpus) = &self.cpus {
            settings.set_cpus(cpus)?;
        }
        if let Some(file) = &self.config {
            machine::raise_descriptors();
            (settings.cpus, settings.descriptors) = config::taken_by(file)?;
        }
        Ok(settings)
    }
}

/// The columns of a finding: state, name, what was found, and the reason, which take all of a common terminal.
const STATE: usize = 7;
const NAME: usize = 19;
const FOUND: usize = 24;
const REASON: usize = 44;
/// What stands below a finding is as wide as all of them.
const TEXT: usize = STATE + NAME + FOUND + REASON;

/// CPUs whose gaps are shown; one screen of them.
const GAPS_SHOWN: usize = 16;

/// The report, and how many findings are in each state.
#[derive(Serialize)]
struct Root<'a> {
    ok: usize,
    unknown: usize,
    warn: usize,
    bad: usize,
    #[serde(flatten)]
    report: &'a Report,
}

pub fn run(args: &DoctorArgs) -> Result<(), Failure> {
    let prints_script = args.fix_script.as_deref().is_some_and(|file| file.as_os_str() == "-");
    if prints_script && args.json {
        return Err(Failure::Settings(vec![
            "fix-script and json would both be printed; --fix-script=FILE would work".into(),
        ]));
    }
    // Before anybody waits for what is measured.
    let file = args.fix_script.as_deref().filter(|_| !prints_script);
    if let Some(file) = file {
        files::check_is_free(file, args.force)?;
    }
    let doctor = Doctor::new(&args.settings()?)?;
    let is_page = !args.json && !prints_script;
    let mut page = Page::stdout();
    let findings = doctor.look();
    let shown = if is_page { show_begin(&mut page, &doctor, &findings) } else { Ok(()) };
    // Nothing that is measured has a remedy, so a script alone needs no wait.
    let measured = if prints_script { None } else { doctor.measure() };
    let report = doctor.report(findings, measured);
    let script = args.fix_script.as_ref().map(|_| report.fix_script()).unwrap_or_default();
    if let Some(file) = file {
        files::write(file, args.force, &script)?;
    }
    let written = shown.and_then(|()| {
        if prints_script {
            page.raw(script.trim_end())?;
        } else if args.json {
            page.raw(&json(&report))?;
        } else {
            show_measured(&mut page, &report)?;
            show_remedies(&mut page, &report)?;
            show_sum(&mut page, &report, args.fix_script.as_deref())?;
        }
        page.flush()
    });
    verdict(&report).and(written)
}

fn json(report: &Report) -> String {
    let [ok, unknown, warn, bad] = State::ALL.map(|state| report.count(state));
    let json = serde_json::to_string(&Root { ok, unknown, warn, bad, report });
    json.expect("all keys are strings, and every float is finite")
}

/// What is known without measuring, before the wait for the rest.
fn show_begin(page: &mut Page, doctor: &Doctor, findings: &[Finding]) -> Result<(), Failure> {
    show_findings(page, doctor, findings)?;
    if let Some(span) = doctor.measures() {
        page.title(&format!("Measuring for up to {} s", span.as_secs()))?;
    }
    page.flush()
}

fn verdict(report: &Report) -> Result<(), Failure> {
    let bad: Vec<_> = report.in_state(State::Bad).map(|finding| finding.name).collect();
    if bad.is_empty() {
        return Ok(());
    }
    Err(Failure::Host(vec![format!("this machine is bad for an engine: {}", bad.join(", "))]))
}

fn title(topic: Topic) -> &'static str {
    match topic {
        Topic::Cpus => "CPUs",
        Topic::Time => "Time",
        Topic::Memory => "Memory",
        Topic::System => "System",
        Topic::Measured => "Measured",
    }
}

fn show_findings(page: &mut Page, doctor: &Doctor, findings: &[Finding]) -> Result<(), Failure> {
    page.line(Ink::Plain, "")?;
    page.line(Ink::Plain, &format!("This machine, for an engine on CPUs {}", cpus(doctor.cpus())))?;
    for topic in Topic::ALL {
        let of: Vec<_> = findings.iter().filter(|finding| finding.topic == topic).collect();
        if !of.is_empty() {
            page.title(title(topic))?;
            of.into_iter().try_for_each(|finding| show_finding(page, finding))?;
        }
    }
    Ok(())
}

fn ink(state: State) -> Ink {
    match state {
        State::Ok => Ink::Good,
        State::Unknown => Ink::Dim,
        State::Warn => Ink::Alarm,
        State::Bad => Ink::Bad,
    }
}

fn show_finding(page: &mut Page, finding: &Finding) -> Result<(), Failure> {
    let found = if finding.found.is_empty() { "–" } else { &finding.found };
    let columns = [wrapped(found, FOUND), wrapped(&finding.reason, REASON)];
    let lines = columns.iter().map(Vec::len).max().unwrap_or(1);
    for line in 0..lines {
        let (state, name) = if line == 0 { (finding.state.name(), finding.name) } else { ("", "") };
        let [found, reason] = [0, 1].map(|at| columns[at].get(line).map_or("", String::as_str));
        let (state, rest) = (format!("  {state:<STATE$}"), format!(" {name:<NAME$} {found:<FOUND$} "));
        let rest = if reason.is_empty() { rest.trim_end().to_string() } else { rest };
        page.parts(&[(ink(finding.state), &state), (Ink::Plain, &rest), (Ink::Dim, reason)])?;
    }
    Ok(())
}

/// Text in lines of at most `width` characters; a word that is longer is broken.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut broken = String::new();
    // What the system's files say must not move the cursor.
    for word in clean(text, 400).split(' ') {
        let mut word: Vec<char> = word.chars().collect();
        while word.len() > width {
            // A path is broken behind one of its folders.
            let slash = word[..width].iter().rposition(|c| *c == '/').filter(|at| *at > 0);
            broken.extend(word.drain(..slash.map_or(width, |at| at + 1)));
            // As much as fitted: the rest does not go on the same line.
            broken.push(' ');
        }
        broken.extend(word);
        broken.push(' ');
    }
    wrap(&broken, width)
}

fn show_measured(page: &mut Page, report: &Report) -> Result<(), Failure> {
    let Some(figures) = &report.measured else { return Ok(()) };
    figures.findings.iter().try_for_each(|finding| show_finding(page, finding))?;
    if figures.cpus.len() < report.cpus.len() {
        page.note(&format!("measured on CPUs {} of {}", cpus(&figures.cpus), cpus(&report.cpus)))?;
    }
    if report.debug {
        page.alarm("this build has no optimisations: what was measured says little")?;
    }
    show_pairs(page, figures)?;
    show_gaps(page, figures)?;
    figures.syncs.iter().try_for_each(|syncs| show_syncs(page, syncs))
}

/// Half a matrix: who is at the left to who is above, the median.
fn show_pairs(page: &mut Page, figures: &Figures) -> Result<(), Failure> {
    // One pair stands among the findings.
    if figures.pairs.len() < 2 {
        return Ok(());
    }
    page.title("A cache line there and back, median in ns")?;
    let name = |cpu: &usize| format!("CPU {cpu}");
    let mut paired: Vec<usize> = figures.pairs.iter().flat_map(|pair| pair.cpus).collect();
    paired.sort_unstable();
    paired.dedup();
    let above = paired[1..].iter().map(name);
    let mut rows = Rows::with_head(1, [String::new()].into_iter().chain(above));
    for from in &paired[..paired.len() - 1] {
        let to = paired[1..].iter().map(|to| {
            let pair = figures.pairs.iter().find(|pair| pair.cpus == [*from, *to]);
            pair.map_or(String::new(), |pair| format!("{:.0}", pair.p50_ns))
        });
        rows.row([name(from)].into_iter().chain(to));
    }
    page.table(&mut rows)
}

fn show_gaps(page: &mut Page, figures: &Figures) -> Result<(), Failure> {
    let Some(first) = figures.gaps.first() else { return Ok(()) };
    page.title(&format!("Gaps in a loop that never rests, for {:.1} s", first.seconds))?;
    let long = format!("over {} a second", nanos(GAP_NS_MIN));
    let mut rows = Rows::with_head(1, ["CPU", "longest", &long, "time lost"].map(str::to_string).into_iter());
    let mut longest: Vec<_> = figures.gaps.iter().collect();
    longest.sort_by_key(|gaps| std::cmp::Reverse(gaps.longest_ns));
    longest.truncate(GAPS_SHOWN);
    longest.sort_by_key(|gaps| gaps.cpu);
    for gaps in &longest {
        rows.row([
            format!("CPU {}", gaps.cpu),
            nanos(gaps.longest_ns),
            format!("{:.1}", gaps.long_per_s),
            format!("{:.3} %", gaps.lost * 100.0),
        ]);
    }
    page.table(&mut rows)?;
    if longest.len() < figures.gaps.len() {
        page.note(&format!("the longest of {} CPUs; --json has them all", figures.gaps.len()))?;
    }
    Ok(())
}

fn show_syncs(page: &mut Page, syncs: &Syncs) -> Result<(), Failure> {
    let kind = syncs.file_system.as_deref().unwrap_or("a file system unknown");
    let folder = clean(&syncs.folder, 48);
    page.title(&format!("fdatasync after {} each, in {folder} on {}", bytes(4_096), clean(kind, 24)))?;
    let mut rows = Rows::new(0, ["writes", "p50", "p90", "p99", "longest"]);
    let spans = [syncs.p50_ns, syncs.p90_ns, syncs.p99_ns, syncs.max_ns].map(nanos);
    rows.row([count(syncs.writes as u64)].into_iter().chain(spans));
    page.table(&mut rows)
}

fn show_remedies(page: &mut Page, report: &Report) -> Result<(), Failure> {
    let amiss = || report.in_state(State::Bad).chain(report.in_state(State::Warn));
    if amiss().next().is_none() {
        return Ok(());
    }
    page.title("What that costs, and what mends it")?;
    for finding in amiss() {
        let state = format!("  {:<STATE$}", finding.state);
        page.parts(&[(ink(finding.state), &state), (Ink::Bold, &format!(" {}", finding.name))])?;
        for line in wrapped(&finding.cost, TEXT - STATE) {
            page.line(Ink::Plain, &format!("  {:STATE$} {line}", ""))?;
        }
        // Whole, so that it can be copied.
        for command in &finding.fix {
            page.line(Ink::Dim, &format!("  {:STATE$} # {}", "", clean(command, 400)))?;
        }
    }
    Ok(())
}

fn show_sum(page: &mut Page, report: &Report, script: Option<&Path>) -> Result<(), Failure> {
    let counts = State::ALL.map(|state| format!("{} {state}", report.count(state)));
    page.line(Ink::Plain, "")?;
    page.line(Ink::Bold, &format!("{}; nothing was changed", counts.join(", ")))?;
    match script {
        Some(file) => page.written(file),
        None if report.findings.iter().any(|finding| !finding.fix.is_empty()) => {
            page.note("--fix-script=FILE writes the commands down, with their reasons")
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_broken_between_words_and_long_words_anywhere() {
        assert_eq!(wrapped("", 5), [""]);
        assert_eq!(wrapped("ab cd ef", 5), ["ab cd", "ef"]);
        assert_eq!(wrapped("abcdefgh ij", 5), ["abcde", "fgh", "ij"]);
        assert_eq!(wrapped("/ab/cdefg", 6), ["/ab/", "cdefg"]);
        assert_eq!(wrapped("a /ab/cde is", 6), ["a /ab/", "cde is"]);
        assert_eq!(wrapped("a\u{1b}[2J", 12), ["a\\u{1b}[2J"]);
        for width in 1..9 {
            assert!(wrapped("some words of any length", width).iter().all(|line| line.len() <= width));
        }
    }
}
