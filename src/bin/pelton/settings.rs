//! A configuration that is looked at, and not run: read with the tables of all commands.

use crate::failure::Failure;
use pelton::config::{Base, Config, Scope, Sources, Table, resolve};
use pelton::engine::{Plan, Profile};
use pelton::host::Host;
use std::path::Path;

/// A configuration, with what it was read from.
pub struct Read {
    pub config: Config,
    pub sources: Sources,
    pub host: Option<Host>,
    pub tables: Vec<Box<dyn Table>>,
}

/// The tables that a file may have beside `[[class]]`: those of the commands.
pub fn tables() -> Vec<Box<dyn Table>> {
    Vec::new()
}

/// All tables, as the library takes them.
pub fn borrowed(tables: &mut [Box<dyn Table>]) -> Vec<&mut dyn Table> {
    tables.iter_mut().map(|table| &mut **table as &mut dyn Table).collect()
}

impl Read {
    /// The file's name, and what it holds.
    pub fn file(&self) -> Option<(&str, &str)> {
        self.sources.file.as_ref().map(|(name, text)| (name.as_str(), text.as_str()))
    }

    pub fn file_name(&self) -> &str {
        self.file().map_or("no file", |(name, _)| name)
    }

    pub fn scope(&self) -> Scope<'_> {
        Scope { event: None, host: self.host.as_ref() }
    }
}

/// Reads a file, the environment and options, in this order. Without a file the profile is `dev`.
pub fn read(file: Option<&Path>, options: &[(String, String)], no_host: bool) -> Result<Read, Failure> {
    let mut sources = of_file(file)?.with_environment();
    sources.options = options.to_vec();
    Ok(resolved(sources, (!no_host).then(Host::look)))
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

pub fn resolved(sources: Sources, host: Option<Host>) -> Read {
    let base = Base { plan: &Plan::new, profile: Some(Profile::Dev), fixed_classes: false, why: &[] };
    let mut tables = tables();
    let scope = Scope { event: None, host: host.as_ref() };
    let config = resolve(&sources, &base, &mut borrowed(&mut tables), scope);
    Read { config, sources, host, tables }
}
