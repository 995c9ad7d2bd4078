//! The program as a child process: started, read to its end, and killed when it takes too long.
//!
//! A child inherits nothing that a test depends on: neither settings in the environment nor ignored signals. (A shell
//! ignores SIGINT for what it starts in the background, `nohup` ignores SIGHUP, and both outlive an exec.)
#![allow(unsafe_code, reason = "signals of child processes")]

use crate::needs::{Need, skipped};
use std::io::{Error, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::NamedTempFile;

/// How long a child may take: far more than it needs, so that a busy machine fails nothing.
pub const WATCHDOG: Duration = Duration::from_secs(180);

/// The signals that end a program, by their names.
const SIGNALS: [(&str, libc::c_int); 4] =
    [("HUP", libc::SIGHUP), ("INT", libc::SIGINT), ("KILL", libc::SIGKILL), ("TERM", libc::SIGTERM)];

/// A child with nothing to read; what it writes is kept. It has no settings from the environment of the tests, and every
/// signal has its usual effect on it.
pub fn alone(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PELTON_")) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let reset = || {
        for (_, number) in SIGNALS.into_iter().filter(|(_, number)| *number != libc::SIGKILL) {
            // SAFETY: `signal` is async-signal-safe, and SIG_DFL runs no code.
            if unsafe { libc::signal(number, libc::SIG_DFL) } == libc::SIG_ERR {
                return Err(Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure calls `signal` alone; it allocates nothing and takes no lock.
    unsafe { command.pre_exec(reset) };
    command
}

/// Sends a process a signal by its name: `TERM`, `INT`. It needs no program `kill`, which small systems do not have.
#[track_caller]
pub fn signal(pid: u32, name: &str) {
    let number = SIGNALS.into_iter().find(|(known, _)| *known == name).expect("a known signal").1;
    // SAFETY: `kill` reads nothing but its two numbers.
    let sent = unsafe { libc::kill(pid as libc::pid_t, number) };
    assert_eq!(sent, 0, "SIG{name}: {}", Error::last_os_error());
}

/// What a child left.
pub struct Done {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Done {
    /// The file was refused: all of these lines of it, each with its text, and with what would work.
    #[track_caller]
    pub fn assert_refused(&self, file: &NamedTempFile, expected: &[(usize, &str)]) {
        assert_eq!((self.code, self.out.as_str()), (Some(2), ""), "{}", self.err);
        // Each begins with its cross, and has its place and its help below.
        let errors: Vec<_> = self.err.split("× ").skip(1).collect();
        assert_eq!(errors.len(), expected.len(), "{}", self.err);
        for (line, what) in expected {
            let place = format!("[{}:{line}:", name(file));
            let told = errors.iter().any(|error| error.starts_with(what) && error.contains(&place));
            assert!(told, "{line}, {what}: {}", self.err);
        }
        assert!(errors.iter().all(|error| error.contains("would work")), "{}", self.err);
    }
}

/// A file for a program.
pub fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

/// Its name, for a command line.
pub fn name(file: &NamedTempFile) -> &str {
    file.path().to_str().unwrap()
}

/// Waits for a child and reads what it writes; kills it when it takes too long.
pub fn end(mut child: Child) -> Done {
    fn all(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(mut pipe) = pipe {
                pipe.read_to_end(&mut bytes).unwrap();
            }
            String::from_utf8(bytes).expect("the program writes text")
        })
    }
    let (out, err) = (all(child.stdout.take()), all(child.stderr.take()));
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if begun.elapsed() > WATCHDOG {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("hangs since {WATCHDOG:?}: {}{}", out.join().unwrap(), err.join().unwrap());
        }
        thread::sleep(Duration::from_millis(5));
    };
    Done { code: status.code(), out: out.join().unwrap(), err: err.join().unwrap() }
}

/// The same at a terminal of so many columns, without colours: what is on its screen at the end. `None`, and the test is
/// skipped, where there is no `script` to make one.
pub fn at_terminal(columns: usize, command: &str) -> Option<String> {
    let mut script = alone(Command::new("script"));
    let command = format!("stty cols {columns} rows 50; {command}");
    script.args(["-qec", &command, "/dev/null"]).env("NO_COLOR", "1").env("SHELL", "/bin/sh");
    match script.spawn() {
        Ok(child) => Some(end(child).out.replace('\r', "")),
        Err(error) => skipped(Need::Tools, &format!("`script` cannot be run: {error}")),
    }
}
