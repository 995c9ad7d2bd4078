//! Files that the program writes. A file that is there is not overwritten, unless `--force` asks for it.

use crate::failure::Failure;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::Path;

/// Creates a file.
pub fn create(path: &Path, force: bool) -> Result<File, Failure> {
    let file = if force { File::create(path) } else { File::create_new(path) };
    file.map_err(|error| failed(path, &error))
}

/// Creates a file that holds a text.
pub fn write(path: &Path, force: bool, text: &str) -> Result<(), Failure> {
    create(path, force)?.write_all(text.as_bytes()).map_err(|error| failed(path, &error))
}

/// Refuses a path where a file is. A command that takes long looks before it begins.
pub fn check_is_free(path: &Path, force: bool) -> Result<(), Failure> {
    if force || !path.exists() { Ok(()) } else { Err(failed(path, &ErrorKind::AlreadyExists.into())) }
}

/// Why a file is not written.
pub fn failed(path: &Path, error: &io::Error) -> Failure {
    let name = path.display();
    match error.kind() {
        ErrorKind::AlreadyExists if path.is_dir() => {
            Failure::Run(format!("{name} could not be written: it is a folder; name a file in it"))
        }
        ErrorKind::AlreadyExists => {
            Failure::Settings(vec![format!("{name} is there already; another name, or --force, would work")])
        }
        _ => Failure::Run(format!(
            "{name} could not be written: {error}; check its folder, its rights and the disk"
        )),
    }
}
