//! The program as a child process: started, read to its end, and killed when it takes too long.
#![allow(dead_code)] // Each test crate uses a part.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

pub const WATCHDOG: Duration = Duration::from_secs(60);

/// The program with nothing to read; what it writes is kept.
pub fn pelton() -> Command {
    alone(Command::new(env!("CARGO_BIN_EXE_pelton")))
}

/// A child with nothing to read; what it writes is kept. It has no settings from the environment of whoever runs the
/// tests.
pub fn alone(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PELTON_")) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What a child left.
pub struct Done {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
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

/// The same at a terminal of so many columns, without colours: what is on its screen at the end. None where there is no
/// `script` to make one.
pub fn at_terminal(columns: usize, command: &str) -> Option<String> {
    let mut script = alone(Command::new("script"));
    let command = format!("stty cols {columns} rows 50; {command}");
    script.args(["-qec", &command, "/dev/null"]).env("NO_COLOR", "1").env("SHELL", "/bin/sh");
    match script.spawn() {
        Ok(child) => Some(end(child).out.replace('\r', "")),
        Err(error) => {
            println!("skipped: there is no script: {error}");
            None
        }
    }
}
