//! Configuration: files, environment and options, read into a plan that knows where each of its settings came from.
//!
//! ```text
//!   profile or command ─▶ file ─▶ PELTON_… ─▶ options ─▶ Config: a Plan, the origin of each setting, all problems
//! ```
//!
//! The settings are those of the engine's tables ([`ENGINE`](crate::engine::ENGINE), [`CLASS`](crate::engine::CLASS))
//! and those of a program's own. Whatever is not known is refused with what was probably meant, and all that is wrong is
//! told at once, each with its place.
//!
//! # Examples
//! ```
//! use pelton::config::{Sources, read};
//!
//! let text = r#"
//! profile = "dev"
//! event_bytes = 48
//!
//! [[class]]
//! name = "orders"
//! share = "strict"
//! capacity_slots = 1_024
//! overflow = "block"
//! "#;
//! let sources = Sources { file: Some(("orders.toml".into(), text.into())), ..Sources::default() };
//! let plan = read(&sources, None).into_plan()?;
//! let orders = plan.class_named("orders").unwrap();
//! # assert_eq!(orders.index(), 0);
//!
//! let wrong = text.replace("1_024", "1_000");
//! let sources = Sources { file: Some(("orders.toml".into(), wrong)), ..Sources::default() };
//! let problems = read(&sources, None).into_plan().unwrap_err();
//! assert_eq!(
//!     problems.to_string(),
//!     "orders.toml:8: class 'orders': capacity_slots is 1000: must be a power of two from 1 to 67108864; 1024 would work"
//! );
//! # Ok::<(), pelton::config::Problems>(())
//! ```

mod origin;
mod problem;
mod document;
mod table;
mod collect;
mod blocks;
mod bare;
mod layers;

pub use collect::{Base, PREFIX, Sources, nearest};
pub use layers::{Config, DerivedDefault, Scope, layer, resolve};
pub use origin::{Origin, Origins};
pub use problem::{Problem, Problems, Rule};
pub use table::{ListSpec, NAMED, Rows, Table, classes};

use crate::engine::Plan;
use crate::host::{Host, read_text};
use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Reads a configuration that names its profile and its classes. With a host, its rules are asked too.
///
/// ```
/// use pelton::config::{Origin, Sources, read};
/// let text = r#"profile = "dev"
/// shards = 1
///
/// [[class]]
/// name = "orders"
/// share = "strict"
/// capacity_slots = 64
/// overflow = "reject"
/// "#;
/// let sources = Sources { file: Some(("a.toml".into(), text.into())), ..Sources::default() };
/// let config = read(&sources.with_option("burst_events", "32"), None);
/// assert_eq!(config.plan().burst(), 32);
/// assert_eq!(config.origins().of("burst_events"), Some(&Origin::Option("--burst-events".into())));
/// assert!(!config.problems().has_errors());
/// ```
pub fn read(sources: &Sources, host: Option<&Host>) -> Config {
    let base = Base { plan: &Plan::new, profile: None, fixed_classes: false, why: &[] };
    resolve(sources, &base, &mut [], Scope { event: None, host })
}

/// Why a file gave no plan.
#[non_exhaustive]
#[derive(Debug)]
pub enum LoadError {
    /// It could not be read.
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// It cannot be.
    Problems(Problems),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { path, error } => write!(f, "{}: {error}", path.display()),
            Self::Problems(problems) => problems.fmt(f),
        }
    }
}

impl Error for LoadError {}

impl From<Problems> for LoadError {
    fn from(error: Problems) -> Self {
        LoadError::Problems(error)
    }
}

/// Reads a file and this process's environment into a plan, checked against this machine.
///
/// # Errors
/// [`LoadError`].
///
/// # Examples
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("engine.toml");
/// use pelton::config::{LoadError, load};
/// assert!(matches!(load(&path).unwrap_err(), LoadError::Read { .. }));
/// std::fs::write(&path, "profile = \"dev\"\nshard = 1\n")?;
/// let LoadError::Problems(problems) = load(&path).unwrap_err() else { unreachable!() };
/// assert!(problems.to_string().contains("'shards' would work"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn load(path: impl AsRef<Path>) -> Result<Plan, LoadError> {
    let path = path.as_ref();
    let sources = Sources::default().with_file(path)?.with_environment();
    Ok(read(&sources, Some(&Host::look())).into_plan()?)
}

impl Sources {
    /// Reads a file of at most 1 MiB.
    ///
    /// # Errors
    /// [`LoadError::Read`].
    ///
    /// # Examples
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("engine.toml");
    /// use pelton::config::Sources;
    /// std::fs::write(&path, "profile = \"dev\"\n[replay]\n[[class]]\n")?;
    /// let sources = Sources::default().with_file(&path)?.with_environment().with_option("shards", "2");
    /// assert_eq!(sources.tables(), ["replay", "class"]);
    /// assert!(Sources::default().with_file(&dir.path().join("other.toml")).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_file(mut self, path: &Path) -> Result<Self, LoadError> {
        let text = read_text(path).map_err(|error| LoadError::Read { path: path.to_path_buf(), error })?;
        self.file = Some((path.display().to_string(), text));
        Ok(self)
    }

    /// The names of the tables in the file, and of its lists of tables: a file that has a command's table is for that
    /// command.
    pub fn tables(&self) -> Vec<String> {
        let Some((name, text)) = &self.file else { return Vec::new() };
        document::read(name, text).blocks.into_iter().map(|block| block.name).collect()
    }

    /// Takes the variables of this process's environment that may be settings. One that is no Unicode is none.
    pub fn with_environment(mut self) -> Self {
        let all = std::env::vars_os().filter_map(|(name, text)| Some((name.into_string().ok()?, text)));
        let own = all.filter(|(name, _)| name.starts_with(PREFIX));
        self.environment.extend(own.map(|(name, text)| (name, text.to_string_lossy().into_owned())));
        self
    }

    /// Adds an option.
    pub fn with_option(mut self, key: impl Into<String>, text: impl Into<String>) -> Self {
        self.options.push((key.into(), text.into()));
        self
    }
}
