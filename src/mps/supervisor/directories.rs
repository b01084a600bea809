//! The directories of a control daemon, and their SELinux label.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rustix::fs::{XattrFlags, lsetxattr};
use tracing::warn;

/// The extended attribute in which SELinux has the label of a file.
const ATTRIBUTE: &str = "security.selinux";
/// The label that containers may read and write, as NVIDIA's daemon sets it
/// (cmd/mps-control-daemon/mps/daemon.go:120).
const LABEL: &[u8] = b"system_u:object_r:container_file_t:s0\0";

/// Makes the directories of pipes and logs.
///
/// # Errors
/// The file system's, with the directory.
pub(super) fn make(directories: &[&Path]) -> io::Result<()> {
    for directory in directories {
        let made = DirBuilder::new().recursive(true).mode(0o755).create(directory);
        made.map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", directory.display()))
        })?;
    }
    Ok(())
}

/// Labels the directory of pipes and what is in it, where SELinux is on: `selinux` is its file
/// system, if it is mounted. Without the label containers may not use the pipes; that it cannot be
/// set is told and is no failure, since the policy may allow it all the same.
pub(super) fn label(pipes: &Path, selinux: &Path) {
    if !selinux.join("enforce").exists() {
        return;
    }
    let inside = fs::read_dir(pipes).into_iter().flatten().flatten().map(|entry| entry.path());
    for path in std::iter::once(pipes.to_owned()).chain(inside) {
        let labelled = lsetxattr(&path, ATTRIBUTE, LABEL, XattrFlags::empty());
        if let Err(error) = labelled {
            let path = path.display();
            warn!(%path, %error, "cannot label the pipes of an MPS control daemon for SELinux; \
                containers may not be allowed to use them");
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::lgetxattr;

    use super::*;

    #[test]
    fn the_pipes_and_what_is_in_them_are_labelled_where_selinux_is_on() {
        let place = tempfile::tempdir().unwrap();
        let (pipes, selinux) = (place.path().join("pipe"), place.path().join("selinux"));
        fs::create_dir(&pipes).unwrap();
        fs::write(pipes.join("control"), "").unwrap();
        fs::create_dir(&selinux).unwrap();
        // Root alone may, on a node without SELinux.
        if lsetxattr(place.path(), ATTRIBUTE, LABEL, XattrFlags::empty()).is_err() {
            return;
        }
        let labels = || {
            [pipes.clone(), pipes.join("control")].map(|path| {
                let mut label = [0; 64];
                let length = lgetxattr(&path, ATTRIBUTE, &mut label).ok()?;
                Some(label[..length].to_vec())
            })
        };
        label(&pipes, &selinux);
        assert_eq!(labels(), [None, None]);
        fs::write(selinux.join("enforce"), "1").unwrap();
        label(&pipes, &selinux);
        assert_eq!(labels(), [Some(LABEL.to_vec()), Some(LABEL.to_vec())]);
    }

    #[test]
    fn directories_are_made_with_those_above_them_and_may_be_there() {
        let place = tempfile::tempdir().unwrap();
        let (pipe, log) = (place.path().join("a/gpu/pipe"), place.path().join("a/gpu/log"));
        for _ in 0..2 {
            make(&[&pipe, &log]).unwrap();
        }
        assert!(pipe.is_dir() && log.is_dir());
        fs::write(place.path().join("file"), "").unwrap();
        let error = make(&[&place.path().join("file/pipe")]).unwrap_err();
        assert!(error.to_string().contains("file/pipe"), "{error}");
    }
}
