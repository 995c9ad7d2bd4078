//! Advice: what a gateway would do that its user would hardly want. It starts all the same.

use crate::config::settings::{Options, named};
use crate::net::registry::spares;
use pelton::engine::{PlanError, Secret};
use pelton::host::Host;
use pelton_views::{Measure, View};
use std::net::SocketAddr;

/// Descriptors that a process has besides those of its gateway: its three streams, and a few of whatever it embeds.
const OTHERS: u64 = 16;

/// Descriptors of a gateway thread: its two polls, and what wakes it.
const OF_THREAD: u64 = 3;

/// The most that `subscriber_max_bytes` can be.
const SUBSCRIBER_BYTES_MAX: u64 = 1 << 30;

/// Bytes of a password that is not guessed: each connection has a few tries, and there may be 10,000 connections and more a
/// second. Twelve random letters and digits outlast that by billions of years.
const PASSWORD_BYTES_USUAL: usize = 12;

/// Whether an address is reached from other machines.
pub(crate) fn is_reached(address: &str) -> bool {
    address.parse::<SocketAddr>().is_ok_and(|address| !address.ip().to_canonical().is_loopback())
}

/// Bytes of an `XADD` around its fields.
fn around_fields(stream: &str, args_max: u32) -> u64 {
    format!("*{args_max}\r\n$4\r\nXADD\r\n${}\r\n{stream}\r\n$1\r\n*\r\n", stream.len()).len() as u64
}

/// Bytes of the message of a window, with so many rows of the longest key and value that the view keeps, and of the same
/// without any row. Bytes that JSON escapes take more.
fn window_bytes(view: &View, rows: u64) -> (u64, u64) {
    const AROUND: u64 = 300;
    const NUMBER: u64 = 24;
    const QUANTILES: u64 = 180;
    let value = view.value_max_bytes as u64 + NUMBER;
    let row = match view.measure {
        Measure::Quantiles => QUANTILES,
        Measure::Top => (view.top as u64).saturating_mul(value) + NUMBER,
        Measure::Last => value,
        _ => NUMBER,
    } + if view.by.is_some() { view.key_max_bytes as u64 } else { 0 };
    let around = AROUND + view.name.len() as u64;
    (around.saturating_add(rows.saturating_mul(row)), around)
}

impl Options {
    /// A window that its subscribers can never be sent, as it takes more than they may have pending.
    fn advice_of_windows(&self, view: &View) -> Option<PlanError> {
        let (bytes_max, shards) =
            (u64::from(self.subscriber_bytes_max), u64::from(self.plan.shards().max(1)));
        let (key, count) = match view.by {
            Some(_) => ("keys_max", view.keys_max as u64),
            None => ("top", view.top as u64),
        };
        let rows = if view.by.is_some() { count.saturating_mul(shards) } else { 1 };
        let (bytes, around) = window_bytes(view, rows);
        let is_sent = view.pane_ms().is_none() || bytes <= bytes_max;
        if is_sent || (view.by.is_none() && view.measure != Measure::Top) {
            return None;
        }
        let share = bytes_max.saturating_sub(around + 24) as f64 / (bytes - around) as f64;
        let fits = ((count as f64 * share) as u64).max(1);
        let limit = format!(
            "at most {fits} where windows are subscribed to: with all its rows one may take {bytes} bytes, and a \
             subscriber may have {bytes_max} pending"
        );
        let works = match bytes {
            ..=SUBSCRIBER_BYTES_MAX => format!("{fits}, or subscriber_max_bytes = {bytes},"),
            _ => fits.to_string(),
        };
        Some(PlanError::new(format!("view '{}': {key}", view.name), count, limit, works).warning())
    }

    /// What does not fit together on any machine.
    pub(crate) fn advice(&self) -> Vec<PlanError> {
        let mut found: Vec<_> = self.views.iter().flat_map(|view| view.advice()).collect();
        let shards = usize::from(self.plan.shards());
        for view in self.views.iter().filter(|view| view.measure == Measure::Top) {
            let most = view.values_max.saturating_mul(shards);
            if view.top > most {
                let limit = format!("at most {most}, the values_max of all shards");
                let works = format!("{most}, or values_max = {},", view.top.div_ceil(shards));
                let setting = format!("view '{}': top", view.name);
                found.push(PlanError::new(setting, view.top, limit, works).warning());
            }
        }
        found.extend(self.views.iter().filter_map(|view| self.advice_of_windows(view)));
        for stream in &self.streams {
            let class = self.plan.classes().iter().find(|class| class.name() == stream.class);
            // Half of a ring is nobody's word.
            let (setting, max) = match (stream.payload_max, class) {
                (Some(max), _) => (stream.named("payload_max_bytes"), max),
                (None, Some(class)) => match class.payload_max() {
                    Some(max) => (class.key_of()("payload_max_bytes"), max),
                    None => continue,
                },
                (None, None) => continue,
            };
            let (frame, around) =
                (u64::from(self.frame_bytes_max), around_fields(&stream.name, self.args_max));
            let needs = around + u64::from(max);
            if needs > frame {
                let fits = frame.saturating_sub(around).max(1);
                let limit = format!(
                    "at most {fits}, as an XADD with its fields is a request of frame_max_bytes at most"
                );
                let works = format!("{fits}, or frame_max_bytes = {needs},");
                found.push(PlanError::new(setting, max, limit, works).warning());
            }
        }
        found.extend(self.advice_of_access());
        found
    }

    /// What gives access to more than is usually meant. With `exposed` it is meant.
    fn advice_of_access(&self) -> Vec<PlanError> {
        if self.exposed {
            return Vec::new();
        }
        let mut found = Vec::new();
        let has_password = self.password.is_some() || self.password_file.is_some();
        for (key, list) in [("listen", &self.listen), ("listen_critical", &self.listen_critical)] {
            for address in list.iter().filter(|address| has_password && is_reached(address)) {
                let limit = "one of listen_tls or of loopback, as the password is sent to it unencrypted";
                let works = "listen_tls, or exposed = true where that is meant,";
                found.push(PlanError::new(named(key), format!("'{address}'"), limit, works).warning());
            }
        }
        if self.unix_socket.is_some() && self.unix_mode & 0o007 != 0 && !has_password {
            let mode = format!("'{:04o}'", self.unix_mode);
            let limit = "'0600' or '0660' where there is neither a password nor exposed = true, as every user of this \
                         machine may connect";
            found.push(PlanError::new(named("unix_mode"), mode, limit, "'0660'").warning());
        }
        found.extend(
            self.password.as_ref().and_then(|password| self.advice_of_password("password", password)),
        );
        found
    }

    /// Whether a password can be guessed where others may try.
    pub(crate) fn advice_of_password(&self, key: &str, password: &Secret) -> Option<PlanError> {
        let mut all = self.listen.iter().chain(&self.listen_critical).chain(&self.listen_tls);
        if password.reveal().len() >= PASSWORD_BYTES_USUAL || !all.any(|address| is_reached(address)) {
            return None;
        }
        let limit = format!(
            "{PASSWORD_BYTES_USUAL} bytes or more where others reach an address, as shorter passwords can be guessed"
        );
        Some(PlanError::new(named(key), "a short password", limit, "a longer one").warning())
    }

    /// Descriptors that a process takes with all of its gateway's connections.
    #[must_use]
    pub fn descriptors(&self) -> u64 {
        u64::from(self.connections_max).saturating_add(self.descriptors_beside())
    }

    fn descriptors_beside(&self) -> u64 {
        let lists = [&self.listen, &self.listen_critical, &self.listen_tls];
        let listeners = lists.iter().map(|list| list.len() as u64).sum::<u64>();
        let fixed = listeners + u64::from(self.unix_socket.is_some()) + OF_THREAD * u64::from(self.threads);
        fixed + OTHERS + self.critical_connections_total() as u64 + spares(self.has_critical()) as u64
    }

    /// What this machine does not have enough of.
    pub(crate) fn advice_here(&self, host: &Host) -> Option<PlanError> {
        let most = host.files_max.as_ref().ok().copied().flatten()?;
        let needs = self.descriptors();
        if needs <= most {
            return None;
        }
        let fits = most.saturating_sub(self.descriptors_beside()).max(1);
        let limit = format!("at most {fits}, as this process may have {most} descriptors (`ulimit -n`)");
        let works = format!("{fits}, or `ulimit -n {needs}`,");
        let error = PlanError::new(named("connections_max"), self.connections_max, limit, works);
        Some(error.warning().here())
    }
}
