//! A certificate of this machine's own, and redis-cli as a client that knows it.

use crate::needs::{self, Need};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

/// A certificate for this machine's loopback and its key, in files of a folder of their own.
pub struct Certificate {
    pub folder: TempDir,
    /// The certificate itself, in DER.
    pub der: Vec<u8>,
}

impl Certificate {
    pub fn new() -> Self {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("cert.pem"), cert.pem()).unwrap();
        fs::write(folder.path().join("key.pem"), signing_key.serialize_pem()).unwrap();
        Certificate { folder, der: cert.der().to_vec() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn skipped<T>(why: &str) -> Option<T> {
    needs::skipped(Need::Clients, why)
}

/// redis-cli, for an encrypted address of a server with this certificate.
pub fn redis_cli(address: &str, certificate: &Certificate) -> Option<Command> {
    let Ok(help) = Command::new("redis-cli").arg("--help").output() else {
        return skipped("there is no redis-cli");
    };
    let help = [help.stdout, help.stderr].concat();
    if !String::from_utf8_lossy(&help).contains("--tls") {
        return skipped("redis-cli has no TLS");
    }
    let mut command = Command::new("redis-cli");
    let (host, port) = address.rsplit_once(':').unwrap();
    command.args(["--tls", "-h", host, "-p", port, "--cacert"]).arg(certificate.path("cert.pem"));
    Some(command)
}

#[track_caller]
pub fn said(command: &mut Command, words: &[&str]) -> String {
    let done = command.args(words).output().unwrap();
    assert!(done.status.success(), "{done:?}");
    String::from_utf8(done.stdout).unwrap().trim_end().to_owned()
}
