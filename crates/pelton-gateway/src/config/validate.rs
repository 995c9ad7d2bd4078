//! The rules of a gateway: what its settings, its streams and the plan's classes must be together. All that is wrong is
//! told at once.
//!
//! | rule |
//! |---|
//! | every setting is in its range |
//! | there are streams, each with a name of its own |
//! | the class of a stream is one of the plan's |
//! | a class of a stream has a payload ring: fields travel in it |
//! | every view can be, with a name of its own |
//! | the stream of a view is one of the streams |
//! | a stream's payloads are not larger than its class takes |
//! | an event is a record of the gateway |
//! | the plan has room for a producer for each thread |
//! | CPUs are named, or derived |
//! | named CPUs exist |
//! | there is something to listen at |
//! | there are not more addresses than can be listened at |
//! | an address is one, with its port, and is named once |
//! | an address that others reach has a password, or is meant to be exposed |
//! | encrypted addresses have a certificate and its key, in a build that can encrypt |
//! | the password stands in one place |
//! | a password is not sent unencrypted, unless that is meant |
//! | a password that others may guess is not short |
//! | a Unix socket for every user has a password, unless none is meant |
//! | a Unix socket's path is one that the system takes |
//! | only a Unix socket that there is can be critical |
//! | the machine has the files that are named, and they hold what they should |
//! | what is said of a view has a use |
//! | a view's top has room for its values |
//! | the largest payload fits a request |
//! | the process may have as many descriptors as connections take |

use crate::config::settings::{EVENT, GATEWAY, Options, named};
use crate::config::stream::STREAM;
#[cfg(feature = "tls")]
use crate::net::tls::{TlsConfig, TlsFileError};
use pelton::engine::{PlanError, Secret, closest_match, missing_cpus};
use pelton::host::{Host, read_text};
use pelton_views::ROOM_MAX;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;

/// The most streams.
pub const STREAMS_MAX: usize = 1_024;

/// The most views.
pub const VIEWS_MAX: usize = 256;

/// The most listeners, a Unix socket among them.
pub(crate) const LISTENERS_MAX: usize = 64;

/// Bytes of the longest path of a Unix socket. (`sun_path` of `unix(7)`, less its end.)
pub(crate) const SOCKET_PATH_BYTES_MAX: usize = 107;

impl Options {
    /// All that is wrong with what a gateway has besides the engine, on any machine; where nothing is, what of it has no use.
    #[must_use]
    pub fn findings(&self) -> Vec<PlanError> {
        let mut found: Vec<_> = GATEWAY.iter().filter_map(|row| row.check(named, self)).collect();
        self.check_streams(&mut found);
        self.check_views(&mut found);
        self.check_engine(&mut found);
        self.check_addresses(&mut found);
        self.check_files(&mut found);
        if found.is_empty() {
            found = self.advice();
        }
        found
    }

    /// What this machine does not have of what is named: CPUs as `host` knows them, files as they are now; and, as advice,
    /// descriptors for as many connections.
    #[must_use]
    pub fn findings_here(&self, host: &Host) -> Vec<PlanError> {
        let named_cpus = self.cpus.as_deref().unwrap_or_default();
        let missing = missing_cpus(named("thread_cpus"), named_cpus, &host.nameable());
        let files = [
            ("tls_certificate", &self.tls_certificate),
            ("tls_key", &self.tls_key),
            ("password_file", &self.password_file),
        ];
        let unread = files.into_iter().filter_map(|(key, path)| {
            let path = path.as_deref()?;
            let error = std::fs::File::open(path).err()?;
            let limit = format!("a file that can be read, and here: {error}");
            Some(PlanError::new(named(key), quoted(path), limit, "the path of one").here())
        });
        let unread: Vec<_> = unread.collect();
        let scarce = self.advice_here(host);
        let is_told = |flaw: &PlanError| unread.iter().any(|told| told.setting == flaw.setting);
        // A pipe gives what it has once, and that is for the start.
        let is_file = self.password_file.as_ref().is_some_and(|path| path.is_file());
        let secret = match is_file.then(|| self.secret()) {
            Some(Err(flaw)) => Some(flaw),
            Some(Ok(password)) if !self.exposed => password
                .and_then(|password| self.advice_of_password("password_file", &password))
                .map(PlanError::here),
            _ => None,
        };
        let flaws: Vec<_> =
            self.flaw_of_terms().into_iter().chain(secret).filter(|flaw| !is_told(flaw)).collect();
        missing.into_iter().chain(unread).chain(flaws).chain(scarce).collect()
    }

    /// All of both; what cannot be on any machine is not told again of this one.
    pub(crate) fn all_findings(&self, host: Option<&Host>) -> Vec<PlanError> {
        let mut found = self.findings();
        let here = host.map(|host| self.findings_here(host)).unwrap_or_default();
        let is_new = |finding: &PlanError| found.iter().all(|told| told.setting != finding.setting);
        let here: Vec<_> = here.into_iter().filter(is_new).collect();
        found.extend(here);
        found
    }

    #[cfg(feature = "tls")]
    fn flaw_of_terms(&self) -> Option<PlanError> {
        self.tls_config().err()
    }

    #[cfg(not(feature = "tls"))]
    fn flaw_of_terms(&self) -> Option<PlanError> {
        None
    }

    /// The certificate of encrypted addresses with its key. `None` where there are no such addresses.
    ///
    /// # Errors
    /// Files that cannot be read, that hold no such thing, or that do not belong together.
    #[cfg(feature = "tls")]
    pub(crate) fn tls_config(&self) -> Result<Option<TlsConfig>, PlanError> {
        let (Some(certificate), Some(key)) = (&self.tls_certificate, &self.tls_key) else { return Ok(None) };
        if self.listen_tls.is_empty() {
            return Ok(None);
        }
        TlsConfig::load(certificate, key).map(Some).map_err(|flaw| {
            let (setting, path, limit) = match flaw {
                TlsFileError::Certificate(limit) => ("tls_certificate", certificate, limit),
                TlsFileError::Key(limit) => ("tls_key", key, limit),
            };
            PlanError::new(named(setting), quoted(path), limit, "the path of one").here()
        })
    }

    /// The password that clients must send: that of the settings, or the first line of the file. `None` where no password is
    /// needed.
    ///
    /// # Errors
    /// A file that cannot be read, is larger than 1 MiB, or has no password on its first line.
    pub fn secret(&self) -> Result<Option<Secret>, PlanError> {
        let Some(path) = &self.password_file else { return Ok(self.password.clone()) };
        let refuse = |limit: String| {
            Err(PlanError::new(named("password_file"), quoted(path), limit, "the path of one").here())
        };
        match read_text(path) {
            Err(error) => refuse(format!("a file that can be read, and here: {error}")),
            Ok(text) => match Secret::new(text.lines().next().unwrap_or_default()) {
                secret if secret.is_set() => Ok(Some(secret)),
                _ => refuse("a file with a password on its first line".into()),
            },
        }
    }

    fn check_streams(&self, found: &mut Vec<PlanError>) {
        let streams = self.streams.len();
        if !(1..=STREAMS_MAX).contains(&streams) {
            let limit = format!("from 1 to {STREAMS_MAX}, as clients publish to them");
            let works = match streams {
                0 => "a [[stream]] with name, class and key".to_string(),
                _ => STREAMS_MAX.to_string(),
            };
            found.push(PlanError::new("streams", streams, limit, works));
        }
        let (mut names, mut used) = (BTreeSet::new(), BTreeSet::new());
        for (at, stream) in self.streams.iter().enumerate().take(STREAMS_MAX) {
            if stream.name.is_empty() || !names.insert(stream.name.as_str()) {
                let limit = "neither empty nor that of another stream";
                let (setting, works) = numbered("stream", at);
                found.push(PlanError::new(setting, text(&stream.name), limit, works));
            }
            found.extend(STREAM.iter().filter_map(|row| row.check(|key| stream.named(key), stream)));
            let classes = || self.plan.classes().iter().map(|class| class.name());
            let Some(class) = self.plan.classes().iter().find(|class| class.name() == stream.class) else {
                let Some(near) = closest_match(&stream.class, classes()) else { continue };
                let limit = format!("one of the classes: {}", classes().collect::<Vec<_>>().join(", "));
                let setting = stream.named("class");
                found.push(PlanError::new(setting, text(&stream.class), limit, format!("'{near}'")));
                continue;
            };
            let most = class.payload_max().unwrap_or(class.payload_bytes() / 2);
            if class.payload_bytes() == 0 {
                if used.insert(class.name()) {
                    let limit = format!(
                        "a power of two from 64 on: the fields of stream '{}' travel in it",
                        stream.name
                    );
                    let setting = class.key_of()("payload_ring_bytes");
                    found.push(PlanError::new(setting, 0, limit, 1 << 16));
                }
            } else if let Some(max) = stream.payload_max.filter(|max| *max > most) {
                let limit = format!("at most {most}, what class '{}' takes", class.name());
                found.push(PlanError::new(stream.named("payload_max_bytes"), max, limit, most));
            }
        }
    }

    fn check_views(&self, found: &mut Vec<PlanError>) {
        let views = self.views.len();
        if views > VIEWS_MAX {
            found.push(PlanError::new("views", views, format!("at most {VIEWS_MAX}"), VIEWS_MAX));
        }
        let mut names = BTreeSet::new();
        for (at, view) in self.views.iter().enumerate().take(VIEWS_MAX) {
            if !view.name.is_empty() && !names.insert(view.name.as_str()) {
                let (setting, works) = numbered("view", at);
                found.push(PlanError::new(setting, text(&view.name), "that of no other view", works));
            }
            found.extend(view.findings());
            // What all shards keep is merged in one place.
            let most = ROOM_MAX / u64::from(self.plan.shards().max(1));
            for (key, value) in [("keys_max", view.keys_max as u64), ("values_max", view.values_max as u64)] {
                if (most + 1..=ROOM_MAX).contains(&value) {
                    let limit = format!("at most {most} with {} shards", self.plan.shards());
                    let setting = format!("view '{}': {key}", view.name);
                    found.push(PlanError::new(setting, value, limit, most));
                }
            }
            let streams = || self.streams.iter().map(|stream| stream.name.as_str());
            let is_one = streams().any(|name| name == view.stream);
            if let (false, Some(near)) = (is_one, closest_match(&view.stream, streams())) {
                let limit = format!("one of the streams: {}", streams().collect::<Vec<_>>().join(", "));
                let setting = format!("view '{}': stream", view.name);
                found.push(PlanError::new(setting, text(&view.stream), limit, format!("'{near}'")));
            }
        }
    }

    fn check_engine(&self, found: &mut Vec<PlanError>) {
        let size = EVENT.size();
        if let Some(bytes) = self.plan.event_bytes().filter(|bytes| *bytes as usize != size) {
            let limit = format!("{size}, the size of a gateway's record");
            found.push(PlanError::new("event_bytes", bytes, limit, size));
        }
        let most = self.plan.producers_max();
        if self.threads > most {
            let limit = format!("at most {most}, the plan's producers_max: each is a producer");
            found.push(PlanError::new(named("threads"), self.threads, limit, most));
        }
        if self.cpus.as_ref().is_some_and(Vec::is_empty) {
            found.push(PlanError::new(named("thread_cpus"), "empty", "CPUs, or \"derived\"", 0));
        }
    }

    fn check_addresses(&self, found: &mut Vec<PlanError>) {
        let lists = [
            ("listen", &self.listen),
            ("listen_critical", &self.listen_critical),
            ("listen_tls", &self.listen_tls),
        ];
        if lists.iter().all(|(_, list)| list.is_empty()) && self.unix_socket.is_none() {
            let limit = "one address or more where there is no unix_socket either";
            found.push(PlanError::new(named("listen"), "empty", limit, "[\"127.0.0.1:6380\"]"));
        }
        let all = lists.iter().map(|(_, list)| list.len()).sum::<usize>();
        let most = LISTENERS_MAX - usize::from(self.unix_socket.is_some());
        if all > most {
            let limit =
                format!("at most {most} in all lists together, beside the Unix socket if there is one");
            let works = format!("a list with {} addresses less", all - most);
            found.push(PlanError::new(named("listen"), format!("one of {all} addresses"), limit, works));
        }
        let mut seen = BTreeSet::new();
        for (key, list) in lists {
            for address in list {
                let refuse = |limit: &str, works: &str| {
                    PlanError::new(named(key), text(address), limit, works.to_string())
                };
                let Ok(parsed) = address.parse::<SocketAddr>() else {
                    let limit = "addresses with their ports, as numbers";
                    found.push(refuse(limit, "\"127.0.0.1:6380\" or \"[::1]:6380\""));
                    continue;
                };
                if parsed.port() != 0 && !seen.insert(parsed) {
                    found.push(refuse("an address that is named once", "another port, or leaving one out,"));
                }
                let is_guarded = self.exposed || self.password.is_some() || self.password_file.is_some();
                if !parsed.ip().to_canonical().is_loopback() && !is_guarded {
                    let limit = "an address of loopback where there is neither a password nor exposed = true";
                    let works = format!("a password_file, or \"127.0.0.1:{}\",", parsed.port());
                    found.push(refuse(limit, &works));
                }
            }
        }
    }

    fn check_files(&self, found: &mut Vec<PlanError>) {
        if cfg!(not(feature = "tls")) && !self.listen_tls.is_empty() {
            let limit = "empty, as this program was built without the feature `tls`";
            let addresses = self.listen_tls.join(", ");
            found.push(PlanError::new(named("listen_tls"), text(&addresses), limit, "a build with it"));
        }
        for (key, path) in [("tls_certificate", &self.tls_certificate), ("tls_key", &self.tls_key)] {
            match path {
                None if !self.listen_tls.is_empty() => {
                    let limit = "a PEM file where listen_tls has addresses";
                    found.push(PlanError::new(named(key), "none", limit, "the path of one"));
                }
                Some(path) if self.listen_tls.is_empty() => {
                    let limit = "left out where listen_tls has no address";
                    found.push(PlanError::new(named(key), quoted(path), limit, "listen_tls = [\"…\"]"));
                }
                _ => {}
            }
        }
        if let (Some(_), Some(path)) = (&self.password, &self.password_file) {
            let limit = "left out where there is a password";
            found.push(PlanError::new(named("password_file"), quoted(path), limit, "one of the two"));
        }
        if self.unix_critical && self.unix_socket.is_none() {
            let limit = "left out where there is no unix_socket";
            found.push(PlanError::new(named("unix_critical"), true, limit, "a unix_socket"));
        }
        if let Some(path) = &self.unix_socket {
            let bytes = path.as_os_str().len();
            if !(1..=SOCKET_PATH_BYTES_MAX).contains(&bytes) {
                let limit = format!("from 1 to {SOCKET_PATH_BYTES_MAX} bytes long");
                found.push(PlanError::new(named("unix_socket"), quoted(path), limit, "'/tmp/pelton.sock'"));
            }
        }
    }
}

/// What the name of an item is called that its name does not tell from the others, and a name that would.
fn numbered(list: &str, at: usize) -> (String, String) {
    (format!("[[{list}]] {}: name", at + 1), format!("'{list}{}'", at + 1))
}

fn text(text: &str) -> String {
    format!("'{}'", text.escape_debug())
}

fn quoted(path: &Path) -> String {
    text(&path.display().to_string())
}
