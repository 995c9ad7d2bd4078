//! The configuration of a command, read and checked ([`Loaded`]): where it is run, and where it is looked at. Every command
//! knows the tables of all, so that one file does for each.

use crate::failure::Failure;
use crate::output::page::{columns, hanging};
use crate::settings::explain::{Explained, explain};
use crate::settings::gateway::tables as gateway_tables;
use crate::weblog::feed::Entry;
use crate::weblog::{Options, REPLAY, ReplayError, configure};
use pelton::config::{Base, Config, Origin, Origins, Rows, Rule, Scope, Sources, Table, resolve};
use pelton::engine::{Plan, PlanError, Profile, Severity, Value};
use pelton::host::Host;
use pelton::words::printable;
use pelton_gateway as gateway;
use std::alloc::Layout;
use std::io::{Write, stderr};
use std::path::Path;

/// The tables of a gateway.
const GATEWAYS: [&str; 3] = ["gateway", "stream", "view"];

/// Where a setting came from of which nobody has said anything.
pub const COMMAND: &str = "this command";

/// A configuration, with what it was read from and checked against.
pub struct Loaded {
    /// The settings, and all that is wrong with them.
    pub config: Config,
    /// What it was read from.
    pub sources: Sources,
    /// The machine that it was checked against.
    pub host: Option<Host>,
    /// What travels in the slots, where that is a command's.
    pub event: Option<Layout>,
    /// The tables of all commands.
    pub tables: Vec<Box<dyn Table>>,
    /// The options of a gateway, where it is one's.
    pub gateway: Option<gateway::Options>,
}

/// Reads a replay, over the options that it starts from. `quiet` is why the command does not announce what it starts, if it
/// does not.
fn of_replay(sources: Sources, options: &mut Options, quiet: Option<&str>, host: Option<Host>) -> Loaded {
    let base = |profile| Options::base(profile).with_announce(quiet.is_none());
    let why: Vec<_> = quiet.iter().map(|why| ("announce", *why)).collect();
    let mut others = others("replay");
    let config = configure(&sources, options, &base, &why, &mut borrowed(&mut others), host.as_ref());
    let tables = replay_tables(options.clone()).into_iter().chain(others).collect();
    Loaded { config, sources, host, event: Some(Layout::new::<Entry>()), tables, gateway: None }
}

/// Reads a gateway, over the options that it starts from, on the plan that `base` makes.
fn of_gateway(
    sources: Sources,
    options: &mut gateway::Options,
    base: &dyn Fn(Profile) -> Plan,
    quiet: Option<&str>,
    host: Option<Host>,
) -> Loaded {
    let base = |profile| base(profile).with_announce(quiet.is_none());
    let why: Vec<_> = quiet.iter().map(|why| ("announce", *why)).collect();
    let mut others = others("gateway");
    let tables = &mut borrowed(&mut others);
    let config = gateway::configure(&sources, options, &base, &why, tables, host.as_ref());
    let tables = gateway_tables(options.clone()).into_iter().chain(others).collect();
    Loaded { config, sources, host, event: Some(gateway::EVENT), tables, gateway: Some(options.clone()) }
}

impl Loaded {
    /// The options of a replay that is about to start, over those that the command starts from.
    ///
    /// # Errors
    /// [`Failure::Config`] with all that is wrong with it.
    pub fn replay(sources: &Sources, options: &mut Options, quiet: Option<&str>) -> Result<Loaded, Failure> {
        let loaded = of_replay(sources.clone(), options, quiet, Some(Host::look()));
        // It is said here, before the bar of the run is drawn.
        options.plan = options.plan.clone().with_announce(false);
        loaded.sound()
    }

    /// The options of a gateway that is about to start, over those that it starts from, on the plan that `base` makes.
    ///
    /// # Errors
    /// [`Failure::Config`] with all that is wrong with it; [`Failure::Settings`] if no stream is declared.
    pub fn gateway(
        sources: &Sources,
        options: &mut gateway::Options,
        base: &dyn Fn(Profile) -> Plan,
        quiet: Option<&str>,
    ) -> Result<Loaded, Failure> {
        let loaded = of_gateway(sources.clone(), options, base, quiet, Some(Host::look()));
        // It is said here, where the lines fit the terminal.
        options.plan = options.plan.clone().with_announce(false);
        nothing_declared(sources, &loaded.config)?;
        loaded.sound()
    }

    /// A configuration that another program has read, of which no engine is started.
    ///
    /// # Errors
    /// [`Failure::Config`] with all that is wrong with it.
    pub fn of(mut config: Config, sources: &Sources) -> Result<Loaded, Failure> {
        // Classes that are not whole (since the file is a replay's, which has some of its own) do no harm.
        config.dismiss(|problem| {
            let of_classes = problem.setting.starts_with("class '") && problem.rule == Rule::Missing;
            of_classes || problem.setting == "classes"
        });
        let sources = sources.clone();
        Loaded { config, sources, host: None, event: None, tables: Vec::new(), gateway: None }.sound()
    }

    /// What is in effect.
    pub fn plan(&self) -> &Plan {
        self.config.plan()
    }

    /// Where each setting came from.
    pub fn origins(&self) -> &Origins {
        self.config.origins()
    }

    /// The file's name, and what it holds.
    pub fn file(&self) -> Option<(&str, &str)> {
        self.sources.file.as_ref().map(|(name, text)| (name.as_str(), text.as_str()))
    }

    /// The name of the file, for people.
    pub fn file_name(&self) -> &str {
        self.file().map_or("no file", |(name, _)| name)
    }

    /// What its settings are explained for.
    pub fn scope(&self) -> Scope<'_> {
        Scope { event: self.event, host: self.host.as_ref() }
    }

    fn sound(self) -> Result<Loaded, Failure> {
        if self.config.problems().has_errors() { Err(self.refused(&[])) } else { Ok(self) }
    }

    /// Refuses it for what was found when it was used.
    pub fn refused(mut self, findings: &[PlanError]) -> Failure {
        self.config.add(findings);
        Failure::Config { problems: self.config.problems().clone(), file: self.sources.file }
    }

    /// The same of a replay that does not go.
    pub fn no_replay(self, error: ReplayError) -> Failure {
        match error {
            ReplayError::Settings(errors) => self.refused(&errors.0),
            error => Failure::run(&error),
        }
    }

    /// Where a setting came from, by its name among all; without a profile, what is not said is the command's.
    pub fn origin(&self, setting: &str, profile: Option<Profile>) -> String {
        match (self.config.origins().of(setting), profile) {
            (Some(origin), _) => origin.to_string(),
            (None, Some(profile)) => Origin::Profile(profile).to_string(),
            (None, None) => COMMAND.into(),
        }
    }

    /// What the engine's settings come to that are words for something else: the CPUs that are chosen, the memory there is.
    pub fn words(&self) -> Vec<String> {
        let all = explain(self.plan(), self.origins(), &[], self.scope());
        let words =
            all.into_iter().filter(|row| row.owner().is_empty() && matches!(row.value, Value::Word(_)));
        words.filter_map(|row| Some(format!("{}: {}", row.info.key, row.comes_to?))).collect()
    }

    /// Says what is about to start, as the engine would, or at least what is to be said against it: whoever asked for
    /// quiet hears the latter alone.
    pub fn announce(&self) {
        let mut err = stderr().lock();
        let columns = columns(&err);
        let (event, host) = (self.scope().event_of(self.plan()), self.host.as_ref());
        // There is nobody to tell if these fail.
        if self.plan().announces() {
            let text = self.plan().summary(event, host);
            for line in text.lines() {
                let indent = &line[..line.len() - line.trim_start().len()];
                for line in hanging(columns, indent, "    ", &printable(line)) {
                    let _ = writeln!(err, "{line}");
                }
            }
        }
        // A summary has the engine's own.
        let (indent, told) = match self.plan().announces() {
            true => ("  ", self.plan().findings(event, host)),
            false => ("", Vec::new()),
        };
        let warnings = self.config.problems().of(Severity::Warning);
        for warning in warnings.filter(|warning| told.iter().all(|told| told.setting != warning.setting)) {
            let (first, others) = (format!("{indent}warning: "), format!("{indent}    "));
            for line in hanging(columns, &first, &others, &printable(&warning.to_string())) {
                let _ = writeln!(err, "{line}");
            }
        }
    }

    /// The tables of which something was said: a file that has no `[bench]` is not about one.
    pub fn take_tables_said(&mut self) -> Vec<Box<dyn Table>> {
        let config = &self.config;
        self.tables.extract_if(.., |table| config.origins().has_table(table.name())).collect()
    }

    /// What the tables are of which nothing was said, a gateway's and its lists', as they are at first.
    pub fn explain_unsaid(&mut self) -> Vec<Explained> {
        let mut tables = self.tables.iter_mut().filter(|table| GATEWAYS.contains(&table.name()));
        let mut told = Vec::new();
        for table in &mut tables {
            if table.list_spec().is_some() {
                table.resize(1);
            }
            let name = table.name().to_string();
            let all = explain(self.config.plan(), &Origins::default(), &[&**table], Scope::default());
            // An item that is not there has no name.
            let of_table = all.into_iter().filter(|row| row.setting.starts_with(&name));
            told.extend(
                of_table.map(|row| Explained { setting: format!("{name}: {}", row.info.key), ..row }),
            );
        }
        told
    }
}

/// Whoever comes without a stream is told how to come by some: what else such a file has is meant for something else than to
/// be served. Whatever cannot be read is told as it is.
fn nothing_declared(sources: &Sources, config: &Config) -> Result<(), Failure> {
    let tables = sources.tables();
    let is_gateways = tables.iter().any(|table| GATEWAYS.contains(&table.as_str()));
    let mut errors = config.problems().of(Severity::Error);
    if is_gateways
        || config.problems().of(Severity::Error).all(|problem| problem.setting != "streams")
        || !errors.all(|problem| problem.rule == Rule::Plan)
    {
        return Ok(());
    }
    let whose = match &sources.file {
        Some((name, _)) => format!("{name} declares no [[stream]]"),
        None => "no stream is declared".into(),
    };
    Err(Failure::Settings(vec![format!(
        "{whose}, and so nothing can be published; `pelton init --gateway -o front.toml` drafts a file, and `pelton run --config \
         front.toml` serves it"
    )]))
}

/// The tables of a replay.
fn replay_tables(options: Options) -> Vec<Box<dyn Table>> {
    vec![Box::new(Rows::one("replay", REPLAY, options))]
}

/// The tables of all commands but one, as they are at first.
pub fn others(but: &str) -> Vec<Box<dyn Table>> {
    let mut all = replay_tables(Options::default());
    all.retain(|table| table.name() != but);
    if but != "gateway" {
        all.extend(gateway_tables(gateway::Options::default()));
    }
    all
}

/// Tables as the library takes them.
pub fn borrowed(tables: &mut [Box<dyn Table>]) -> Vec<&mut dyn Table> {
    tables.iter_mut().map(|table| &mut **table as &mut dyn Table).collect()
}

/// Tables to be looked at.
pub fn shared(tables: &[Box<dyn Table>]) -> Vec<&dyn Table> {
    tables.iter().map(|table| &**table).collect()
}

/// Reads a file, the environment and options, in this order. Without a file the profile is `dev`.
pub fn read(file: Option<&Path>, options: &[(String, String)], no_host: bool) -> Result<Loaded, Failure> {
    Ok(resolved(sources(file, options)?, (!no_host).then(Host::look)))
}

/// What was written for a command: file, environment, options.
pub fn sources(file: Option<&Path>, options: &[(String, String)]) -> Result<Sources, Failure> {
    let mut sources = of_file(file)?.with_environment();
    sources.options = options.to_vec();
    Ok(sources)
}

/// Reads a file alone.
pub fn of_file(file: Option<&Path>) -> Result<Sources, Failure> {
    let Some(file) = file else { return Ok(Sources::default()) };
    Sources::default().with_file(file).map_err(|error| {
        Failure::Settings(vec![format!(
            "{error}; a file that can be read, with settings in TOML, would work"
        )])
    })
}

/// Reads what was written. A file with a table `[gateway]`, or with streams or views, is one for `run`: its events are the gateway's
/// records. One with `[replay]` is for replays: its classes are theirs, and so is what travels in the slots.
pub fn resolved(sources: Sources, host: Option<Host>) -> Loaded {
    let named = sources.tables();
    let has = |names: &[&str]| named.iter().any(|table| names.contains(&table.as_str()));
    // Who says an option of a gateway means one.
    let is_gateways = |(key, _): &(String, String)| GATEWAYS.contains(&key.split('.').next().unwrap_or(key));
    if has(&GATEWAYS) || sources.options.iter().any(is_gateways) {
        let options = &mut gateway::Options::default();
        return of_gateway(sources, options, &gateway::Options::base, None, host);
    }
    if has(&["replay"]) {
        return of_replay(sources, &mut Options::default(), None, host);
    }
    let base = Base { plan: &Plan::new, profile: Some(Profile::Dev), fixed_classes: false, why: &[] };
    let mut tables = others("");
    let scope = Scope { event: None, host: host.as_ref() };
    let config = resolve(&sources, &base, &mut borrowed(&mut tables), scope);
    Loaded { config, sources, host, event: None, tables, gateway: None }
}

/// What a file takes of a machine: the CPUs of its shards, `None` where these are not pinned; and the descriptors of all its
/// connections, where it is a gateway's. Whatever else is wrong with it here is for `check` to tell: this machine is what
/// is looked at.
pub fn taken_by(file: &Path) -> Result<(Option<Vec<usize>>, Option<u64>), Failure> {
    let Loaded { config, sources, gateway, .. } = resolved(sources(Some(file), &[])?, None);
    if config.problems().has_errors() {
        return Err(Failure::Config { problems: config.problems().clone(), file: sources.file });
    }
    let mut cpus: Vec<_> = config.plan().placements().iter().filter_map(|placement| placement.cpu).collect();
    cpus.sort_unstable();
    cpus.dedup();
    Ok(((!cpus.is_empty()).then_some(cpus), gateway.map(|options| options.descriptors())))
}
