//! The directory on the host from which container runtimes run our hook program as root, and what
//! must hold of it: nobody else can put a program there, and the file system lets programs run.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{StatVfsMountFlags, statvfs};

/// What is seen of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    is_directory: bool,
    owner: u32,
    mode: u32,
    is_noexec: bool,
}

/// Whether a runtime may be told to run programs of a directory.
///
/// # Errors
/// Why not, in words.
pub fn check(directory: &Path) -> Result<(), String> {
    let meta = fs::symlink_metadata(directory).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            "there is no such directory; mount the host's at the same path".to_owned()
        }
        _ => error.to_string(),
    })?;
    let flags = statvfs(directory).map_err(|error| error.to_string())?.f_flag;
    let seen = Seen {
        is_directory: meta.is_dir(),
        owner: meta.uid(),
        mode: meta.mode() & 0o7777,
        is_noexec: flags.contains(StatVfsMountFlags::NOEXEC),
    };
    problem(seen, rustix::process::geteuid().as_raw()).map_or(Ok(()), Err)
}

/// What is wrong with a directory, for a process of this user.
fn problem(seen: Seen, user: u32) -> Option<String> {
    let Seen { is_directory, owner, mode, is_noexec } = seen;
    if !is_directory {
        return Some("it is no directory".to_owned());
    }
    if ![0, user].contains(&owner) {
        return Some(format!("it belongs to user {owner}, and not to root"));
    }
    if mode & 0o022 != 0 {
        return Some(format!("others than its owner may write to it: its mode is {mode:04o}"));
    }
    is_noexec.then(|| "it is on a file system that is mounted noexec".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_may_put_programs_there_and_they_must_run() {
        let good = Seen { is_directory: true, owner: 0, mode: 0o755, is_noexec: false };
        for (seen, user, expected) in [
            (good, 0, None),
            (Seen { mode: 0o700, ..good }, 0, None),
            // A plugin without root installs nothing that root runs, but in a test.
            (Seen { owner: 1000, ..good }, 1000, None),
            (Seen { is_directory: false, ..good }, 0, Some("no directory")),
            (Seen { owner: 1000, ..good }, 0, Some("user 1000, and not to root")),
            (Seen { mode: 0o775, ..good }, 0, Some("its mode is 0775")),
            (Seen { mode: 0o757, ..good }, 0, Some("its mode is 0757")),
            // The sticky bit keeps nobody from adding a program.
            (Seen { mode: 0o1777, ..good }, 0, Some("its mode is 1777")),
            (Seen { is_noexec: true, ..good }, 0, Some("mounted noexec")),
        ] {
            let found = problem(seen, user);
            match expected {
                None => assert_eq!(found, None, "{seen:?}"),
                Some(why) => assert!(found.as_ref().is_some_and(|f| f.contains(why)), "{found:?}"),
            }
        }
    }
}
