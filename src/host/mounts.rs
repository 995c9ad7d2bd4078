//! What is mounted where, as the kernel tells this process (`proc_pid_mountinfo(5)`).

use super::files::{Files, Seen, Unknown};
use std::path::Path;

/// A line of `mountinfo`.
pub(super) struct Mount {
    /// The folder of the file system that is mounted.
    pub root: String,
    /// Where it is mounted.
    pub point: String,
    /// The file system's name.
    pub kind: String,
    /// The options of the file system.
    pub options: String,
}

impl Mount {
    fn read(line: &str) -> Option<Self> {
        // 36 35 98:0 /root /point options [optional fields] - kind source options
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let mut after = after.split(' ');
        Some(Mount {
            root: plain(before.next()?),
            point: plain(before.next()?),
            kind: after.next()?.to_string(),
            options: after.nth(1)?.to_string(),
        })
    }
}

/// All that is mounted; a later mount hides an earlier one at its place.
pub(super) fn mounts(files: &Files) -> Seen<Vec<Mount>> {
    Ok(files.text("/proc/self/mountinfo")?.lines().filter_map(Mount::read).collect())
}

/// The file system that holds a folder, named from `/` without links: `ext4`.
///
/// # Errors
/// [`Unknown`] where the system does not say.
///
/// # Examples
/// ```
/// use pelton::host::{Files, file_system};
/// use std::path::Path;
/// match file_system(&Files::default(), Path::new("/tmp")) {
///     Ok(kind) => println!("/tmp is on {kind}"),
///     Err(why) => println!("not known: {why}"),
/// }
/// ```
pub fn file_system(files: &Files, folder: &Path) -> Seen<String> {
    let mounts = mounts(files)?;
    let holds = mounts.into_iter().filter(|mount| folder.starts_with(&mount.point));
    // Of those that are as near the last.
    let nearest = holds.max_by_key(|mount| Path::new(&mount.point).components().count());
    nearest.map(|mount| mount.kind).ok_or_else(|| Unknown("nothing is mounted there".into()))
}

/// A path with `\040` and the like turned back into what they stand for.
fn plain(path: &str) -> String {
    let mut parts = path.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_string();
    for part in parts {
        let code = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code.filter(u8::is_ascii) {
            Some(byte) => {
                plain.push(byte.into());
                plain.push_str(&part[3..]);
            }
            None => {
                plain.push('\\');
                plain.push_str(part);
            }
        }
    }
    plain
}

#[cfg(all(test, not(pelton_loom)))]
mod tests {
    use super::*;

    #[test]
    fn paths_lose_their_escapes() {
        assert_eq!(plain("/a\\040b\\134c"), "/a b\\c");
        assert_eq!(plain("/odd\\9\\04é\\377"), "/odd\\9\\04é\\377");
    }

    #[test]
    fn the_nearest_and_last_mount_holds_a_folder() {
        let root = tempfile::tempdir().unwrap();
        let files = Files::below(root.path());
        let of = |folder: &str| file_system(&files, Path::new(folder));
        assert_eq!(of("/tmp").unwrap_err().0, "/proc/self/mountinfo is not there");
        std::fs::create_dir_all(files.place("/proc/self")).unwrap();
        let table = "1 0 8:1 / / rw - ext4 /dev/a rw\n\
                     2 1 0:9 / /tmp rw shared:1 - xfs b rw\n\
                     3 1 0:9 / /tmp rw - tmpfs c rw\n\
                     4 1 0:9 / /tm rw - btrfs d rw\n";
        std::fs::write(files.place("/proc/self/mountinfo"), table).unwrap();
        assert_eq!([of("/tmp/x"), of("/tmpx"), of("/")].map(Result::unwrap), ["tmpfs", "ext4", "ext4"]);
    }
}
