//! The system's own files: read below `/`, or below a folder in which a test has laid out a machine.

use std::fmt;
use std::fs::File;
use std::io;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

/// More bytes than any of these files has, or any file of settings needs: one that never ends is read to an end.
pub const BYTES_MAX: u64 = 1 << 20;

/// Reads a file of at most [`BYTES_MAX`] bytes: settings, a password, a certificate.
///
/// # Errors
/// What the system returns; [`ErrorKind::FileTooLarge`], as soon as that many bytes are read.
///
/// # Examples
/// ```
/// use pelton::host::{BYTES_MAX, read_bounded, read_text};
/// use std::io::ErrorKind;
/// let dir = tempfile::tempdir()?;
/// let file = dir.path().join("settings");
/// std::fs::write(&file, [0xff])?;
/// assert_eq!(read_bounded(&file)?, [0xff]);
/// assert_eq!(read_text(&file).unwrap_err().kind(), ErrorKind::InvalidData);
/// std::fs::write(&file, vec![b' '; BYTES_MAX as usize + 1])?;
/// assert_eq!(read_bounded(&file).unwrap_err().kind(), ErrorKind::FileTooLarge);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > BYTES_MAX {
        let what = format!("the file is larger than {BYTES_MAX} bytes");
        return Err(io::Error::new(ErrorKind::FileTooLarge, what));
    }
    Ok(bytes)
}

/// The same of a text.
///
/// # Errors
/// As [`read_bounded`]; [`ErrorKind::InvalidData`] where it is not UTF-8.
pub fn read_text(path: &Path) -> io::Result<String> {
    let bytes = read_bounded(path)?;
    String::from_utf8(bytes).map_err(|error| io::Error::new(ErrorKind::InvalidData, error.utf8_error()))
}

/// Why something is not known, in words that end a sentence: `/proc/meminfo is not there`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown(pub String);

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unknown {}

/// What was seen, or why it is not known.
pub type Seen<T> = Result<T, Unknown>;

/// Where the system's files are.
///
/// ```
/// use pelton::host::Files;
/// let root = tempfile::tempdir()?;
/// std::fs::create_dir(root.path().join("proc"))?;
/// std::fs::write(root.path().join("proc/meminfo"), "MemTotal:  16 kB\n")?;
/// let files = Files::below(root.path());
/// assert!(files.is_folder("/proc") && files.names("/proc") == ["meminfo"]);
/// assert_eq!(files.place("/proc/meminfo"), root.path().join("proc/meminfo"));
/// assert_eq!(files.text("/proc/meminfo")?, "MemTotal:  16 kB");
/// assert_eq!(files.value("/proc/meminfo", "MemTotal")?, "16 kB");
/// assert_eq!(files.kib("/proc/meminfo", "MemTotal")?, 16_384);
/// assert!(files.limit("Max open files").is_err());        // there is no /proc/self/limits
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    root: PathBuf,
}

impl Default for Files {
    fn default() -> Self {
        Files::below(Path::new("/"))
    }
}

impl Files {
    /// Those below `root`: `/` for this machine.
    pub fn below(root: &Path) -> Self {
        Files { root: root.to_path_buf() }
    }

    /// The place of a file that is named from `/`.
    pub fn place(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Whether there is such a folder.
    pub fn is_folder(&self, path: &str) -> bool {
        self.place(path).is_dir()
    }

    /// The names in a folder, sorted; none where it cannot be read.
    pub fn names(&self, path: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.place(path)).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// A file's text without the space around it, its first MiB at most.
    ///
    /// # Errors
    /// [`Unknown`] where it is not there or may not be read.
    pub fn text(&self, path: &str) -> Seen<String> {
        let mut bytes = Vec::new();
        let read = File::open(self.place(path)).and_then(|file| file.take(BYTES_MAX).read_to_end(&mut bytes));
        match read {
            Ok(_) => Ok(String::from_utf8_lossy(&bytes).trim().to_string()),
            Err(error) => Err(Unknown(match error.kind() {
                ErrorKind::NotFound => format!("{path} is not there"),
                ErrorKind::PermissionDenied => format!("{path} may not be read"),
                _ => format!("{path} cannot be read: {error}"),
            })),
        }
    }

    /// The value of `key` in a file of lines such as `MemTotal:  16 kB`.
    ///
    /// # Errors
    /// [`Unknown`] where the file cannot be read or has no such line.
    pub fn value(&self, path: &str, key: &str) -> Seen<String> {
        let text = self.text(path)?;
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.trim_start().strip_prefix(':'));
        line.map(|value| value.trim().to_string())
            .ok_or_else(|| Unknown(format!("{path} does not have {key}")))
    }

    /// The same in bytes, where the file has it in kB.
    ///
    /// # Errors
    /// [`Unknown`] as above, and where the value is no number of kB.
    pub fn kib(&self, path: &str, key: &str) -> Seen<u64> {
        let value = self.value(path, key)?;
        let number = value.split_whitespace().next().and_then(|number| number.parse::<u64>().ok());
        let bytes = number.and_then(|kib| kib.checked_mul(1_024));
        bytes.ok_or_else(|| Unknown(format!("{path} has {key} as '{}'", short(&value))))
    }

    /// A soft limit of this process, `Max open files`; `None` where it is unlimited.
    ///
    /// # Errors
    /// [`Unknown`] where the system does not say.
    pub fn limit(&self, name: &str) -> Seen<Option<u64>> {
        const FILE: &str = "/proc/self/limits";
        let text = self.text(FILE)?;
        let soft = text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next());
        match soft {
            Some("unlimited") => Ok(None),
            Some(soft) => {
                soft.parse().map(Some).map_err(|_| Unknown(format!("{FILE} has {name} as no number")))
            }
            None => Err(Unknown(format!("{FILE} does not have {name}"))),
        }
    }
}

/// What stands in a file, short enough for a sentence.
pub(crate) fn short(text: &str) -> String {
    let mut short: String = text.chars().take(40).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(40).is_some() {
        short.push('…');
    }
    short
}
