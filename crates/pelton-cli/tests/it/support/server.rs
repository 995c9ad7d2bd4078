//! Servers as child processes: ours, and redis-server as the one that clients were written for. Each is ready when it
//! says so, is stopped by its process id, and is killed when it takes too long or a test ends early.

use crate::support::pelton;
use pelton_testkit::program::{Done, WATCHDOG, alone};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// `pelton run`, ready for clients; or `pelton up`.
pub struct Server {
    child: Child,
    /// What it wrote before it listened.
    pub before: String,
    /// Addresses of its listeners, in the order of the configuration.
    pub tcp: Vec<String>,
    pub critical: Vec<String>,
    pub tls: Vec<String>,
    pub unix: Vec<String>,
    lines: Receiver<String>,
    err: Option<JoinHandle<String>>,
    /// Holds the configuration, and is a place for a socket.
    _folder: TempDir,
}

impl Server {
    /// Starts a server with this configuration, its report in JSON; `FOLDER` in the text is a directory of its own.
    #[track_caller]
    pub fn start(config: &str) -> Self {
        Self::start_by(config, |_| {})
    }

    /// The same, with more arguments or a smaller world for the program.
    #[track_caller]
    pub fn start_by(config: &str, change: impl FnOnce(&mut Command)) -> Self {
        let folder = TempDir::new().unwrap();
        let config = config.replace("FOLDER", folder.path().to_str().unwrap());
        let path = folder.path().join("pelton.toml");
        fs::write(&path, &config).unwrap();
        let mut command = pelton();
        command.args(["run", "--json", "--config"]).arg(&path);
        change(&mut command);
        let server = Self::ready(command, listeners(&config), folder);
        assert_eq!(server.before, "", "it listens before it says anything");
        server
    }

    /// Starts a program that will say where it listens.
    #[track_caller]
    pub fn ready(mut command: Command, listeners: usize, folder: TempDir) -> Self {
        let mut child = command.spawn().unwrap();
        let (told, lines) = channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| told.send(line)));
        let mut err = child.stderr.take().unwrap();
        let err = Some(thread::spawn(move || {
            let mut bytes = Vec::new();
            err.read_to_end(&mut bytes).unwrap();
            String::from_utf8_lossy(&bytes).into_owned()
        }));
        let [tcp, critical, tls, unix] = [const { Vec::new() }; 4];
        let before = String::new();
        let mut server = Server { child, before, tcp, critical, tls, unix, lines, err, _folder: folder };
        server.wait_until_ready(listeners);
        server
    }

    fn wait_until_ready(&mut self, listeners: usize) {
        let begun = Instant::now();
        while self.tcp.len() + self.critical.len() + self.tls.len() + self.unix.len() < listeners {
            let left = WATCHDOG.saturating_sub(begun.elapsed());
            let Ok(line) = self.lines.recv_timeout(left) else {
                let _ = self.child.kill();
                panic!("not ready: {:?} {}", self.child.wait(), self.err.take().unwrap().join().unwrap());
            };
            let mut words = line.splitn(3, ' ');
            let place = match (words.next(), words.next()) {
                (Some("listening"), Some("tcp")) => &mut self.tcp,
                (Some("listening"), Some("critical")) => &mut self.critical,
                (Some("listening"), Some("tls")) => &mut self.tls,
                (Some("listening"), Some("unix")) => &mut self.unix,
                _ => {
                    self.before.extend([&line, "\n"]);
                    continue;
                }
            };
            place.push(words.next().expect("an address").to_owned());
        }
    }

    /// Its first address: TCP before a Unix socket.
    pub fn address(&self) -> &str {
        self.tcp.first().or(self.unix.first()).expect("it listens")
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal, by name: `TERM`, `INT`, `HUP`.
    #[track_caller]
    pub fn signal(&self, name: &str) {
        pelton_testkit::program::signal(self.pid(), name);
    }

    /// A line that it writes after its listeners.
    #[track_caller]
    pub fn line(&self) -> String {
        self.lines.recv_timeout(WATCHDOG).expect("another line")
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end, and gives what it wrote after its listeners; kills it when it takes too long.
    #[track_caller]
    pub fn wait(mut self) -> Done {
        let begun = Instant::now();
        let mut out = String::new();
        loop {
            match self.lines.recv_timeout(WATCHDOG.saturating_sub(begun.elapsed())) {
                Ok(line) => out.extend([&line, "\n"]),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("hangs since {WATCHDOG:?}: {out}"),
            }
        }
        // It has closed its output, so it is at its end; whoever waits for `err` would see a hang as well.
        let err = self.err.take().unwrap().join().unwrap();
        Done { code: self.child.wait().unwrap().code(), out, err }
    }

    /// SIGTERM: drains it, and gives its final report, whose ledger must be closed.
    #[track_caller]
    pub fn stop(self) -> Value {
        self.signal("TERM");
        let done = self.wait();
        let report: Value = serde_json::from_str(&done.out)
            .unwrap_or_else(|error| panic!("{error}: code {:?}, {}{}", done.code, done.out, done.err));
        assert_eq!(done.code, Some(0), "{}", done.err);
        assert_eq!(report["ledger"]["closed"], true, "{report:#}");
        report
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Whoever has waited already finds nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How many listeners a configuration names.
fn listeners(config: &str) -> usize {
    let config: toml::Table = config.parse().expect("the configuration is TOML");
    let Some(gateway) = config.get("gateway") else { return 1 };
    let lists = ["listen", "listen_critical", "listen_tls"].iter().map(|key| {
        let usual = usize::from(*key == "listen");
        gateway.get(key).map_or(usual, |list| list.as_array().map_or(1, Vec::len))
    });
    lists.sum::<usize>() + usize::from(gateway.get("unix_socket").is_some())
}

/// A real redis-server at a Unix socket, which forgets all when it ends.
pub struct Redis {
    child: Child,
    pub address: String,
    _folder: TempDir,
}

impl Redis {
    /// Starts it; none where it is not installed.
    pub fn start() -> Option<Self> {
        let folder = TempDir::new().unwrap();
        let socket: PathBuf = folder.path().join("socket");
        let mut command = alone(Command::new("redis-server"));
        command.args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"]).arg(&socket);
        let child = command.arg("--dir").arg(folder.path()).stdout(fs::File::create("/dev/null").unwrap());
        let child = child.spawn().ok()?;
        let mut redis = Redis { child, address: socket.to_str().unwrap().to_owned(), _folder: folder };
        let begun = Instant::now();
        while UnixStream::connect(&socket).is_err() {
            assert!(begun.elapsed() < WATCHDOG, "redis-server does not listen");
            assert!(redis.child.try_wait().unwrap().is_none(), "redis-server ends at once");
            thread::sleep(Duration::from_millis(10));
        }
        Some(redis)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
