//! The file of a Unix socket: how a listener takes its path, and how it releases it.
//!
//! # Mechanism
//! The socket is bound in a directory next to the path that only this user may enter. There it gets its mode, and is then
//! linked to the path, which the system does only if nothing is there. Otherwise:
//!
//! | at the path | |
//! |---|---|
//! | a socket that accepts connections, or whose backlog is full | an error: another server listens there |
//! | a socket that refuses them: its server was killed | moved into the directory, tried once more, removed |
//! | anything else | an error |
//!
//! On a file system without links the socket is renamed: there, two servers that start at once may not see each other.
//!
//! # Invariants
//! - No start waits: connects do not block.
//! - Of several servers that start at once one listens, and the others return an error.
//! - A server does not remove a socket that another one listens at. At its end it removes the path only if its own socket is
//!   still there. (Its inode cannot be another file's: the listener is open, and keeps it.)
//! - The directory's name cannot be guessed, and another is tried if it is taken: files of other users do not prevent a start.

use crate::config::validate::SOCKET_PATH_BYTES_MAX;
use mio::net::{UnixListener, UnixStream};
use std::fs::{self, DirBuilder, File, Metadata, Permissions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// How often a name, or a path, is tried that others take at the same time.
const TRIES_MAX: u32 = 8;

/// The socket file of a listener, removed with this value.
pub(crate) struct SocketFile {
    path: PathBuf,
    own: (u64, u64),
}

/// Why there is no socket at a path.
pub(crate) enum SocketFileError {
    /// Something is there that is not ours to remove.
    Taken(&'static str),
    /// The system returned an error.
    System(io::Error),
}

impl From<io::Error> for SocketFileError {
    fn from(error: io::Error) -> Self {
        SocketFileError::System(error)
    }
}

const OTHER: SocketFileError =
    SocketFileError::Taken("another server listens there; another path, or stopping it, would work");

impl SocketFile {
    /// Listens at a path, with a file of this mode.
    ///
    /// # Errors
    /// [`SocketFileError`].
    pub fn listen(path: &Path, mode: u32) -> Result<(SocketFile, UnixListener), SocketFileError> {
        let dir = PrivateDir::next_to(path)?;
        let hidden = dir.path("socket");
        let listener = UnixListener::bind(&hidden)?;
        fs::set_permissions(&hidden, Permissions::from_mode(mode))?;
        let own = identity(&fs::symlink_metadata(&hidden)?);
        for _ in 0..TRIES_MAX {
            match publish(&hidden, path) {
                Ok(()) => return Ok((SocketFile { path: path.into(), own }, listener)),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => clear(path, &dir)?,
                Err(error) => return Err(error.into()),
            }
        }
        Err(SocketFileError::Taken("other servers start there; another path would work"))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // It may be gone already, or another's.
        if fs::symlink_metadata(&self.path).is_ok_and(|there| identity(&there) == self.own) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

/// Gives a socket its path, unless something is there.
fn publish(hidden: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(hidden, path) {
        // A file system without links says so in several ways; whatever else is wrong, the rename finds it too.
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            if fs::symlink_metadata(path).is_ok() {
                return Err(ErrorKind::AlreadyExists.into());
            }
            fs::rename(hidden, path)
        }
        linked => linked,
    }
}

/// Whether a server listens at a socket. `None` where the file is gone.
fn is_alive(path: &Path) -> io::Result<Option<bool>> {
    match UnixStream::connect(path) {
        Ok(_) => Ok(Some(true)),
        Err(error) => match error.kind() {
            // As many wait already as the server lets wait.
            ErrorKind::WouldBlock => Ok(Some(true)),
            ErrorKind::ConnectionRefused => Ok(Some(false)),
            ErrorKind::NotFound => Ok(None),
            _ => Err(error),
        },
    }
}

/// Removes a socket at which nothing listens.
fn clear(path: &Path, dir: &PrivateDir) -> Result<(), SocketFileError> {
    match fs::symlink_metadata(path) {
        Ok(there) if there.file_type().is_socket() => {}
        Ok(_) => {
            let what = "something is there that is no socket; another path, or removing it, would work";
            return Err(SocketFileError::Taken(what));
        }
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    match is_alive(path)? {
        Some(true) => return Err(OTHER),
        Some(false) => {}
        None => return Ok(()),
    }
    // Another server may have cleared the path since, and listen there: what was moved is tried before it is removed.
    let aside = dir.path("aside");
    match fs::rename(path, &aside) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        moved => moved?,
    }
    if is_alive(&aside)? == Some(true) {
        publish(&aside, path)?;
        return Err(OTHER);
    }
    Ok(())
}

/// A folder that only this user may enter, removed with this value.
struct PrivateDir {
    path: PathBuf,
    open: File,
}

impl PrivateDir {
    fn next_to(path: &Path) -> io::Result<PrivateDir> {
        let mut tries = 0;
        loop {
            let random = RandomState::new().hash_one(tries);
            let path = path.with_extension(format!("{random:016x}.new"));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {
                    let open = File::open(&path).inspect_err(|_| drop(fs::remove_dir(&path)))?;
                    return Ok(PrivateDir { path, open });
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists && tries < TRIES_MAX => tries += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// The path of a socket within. Where it is longer than the system takes, the folder's descriptor stands for its
    /// beginning.
    fn path(&self, name: &str) -> PathBuf {
        let path = self.path.join(name);
        if path.as_os_str().len() <= SOCKET_PATH_BYTES_MAX {
            return path;
        }
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.open.as_raw_fd()))
    }
}

impl Drop for PrivateDir {
    fn drop(&mut self) {
        for name in ["socket", "aside"] {
            let _ = fs::remove_file(self.path.join(name));
        }
        let _ = fs::remove_dir(&self.path);
    }
}
