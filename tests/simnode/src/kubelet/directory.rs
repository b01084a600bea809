//! The device plugin directory as the kubelet prepares it when it starts.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt};
use std::path::Path;

use super::KubeletVersion;
use super::checkpoint::CHECKPOINT;

/// The name of the registration socket.
pub const KUBELET_SOCKET: &str = "kubelet.sock";

/// Creates the directory and removes what an earlier life left in it.
pub(crate) fn prepare(directory: &Path, version: KubeletVersion) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o750).create(directory)?;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name() != CHECKPOINT && is_removed(&entry.path(), version) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn is_removed(path: &Path, version: KubeletVersion) -> bool {
    match version {
        // Follows symbolic links, as os.Stat does: a link to a socket goes, a dangling one stays.
        KubeletVersion::V1_36 | KubeletVersion::V1_37 => {
            fs::metadata(path).is_ok_and(|found| found.file_type().is_socket())
        }
        KubeletVersion::V1_26 | KubeletVersion::V1_32 => {
            fs::symlink_metadata(path).is_ok_and(|found| !found.is_dir())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;

    use super::*;

    fn left_after(version: KubeletVersion) -> Vec<String> {
        let root = tempfile::tempdir().expect("a temporary directory");
        let directory = root.path().join("device-plugins");
        prepare(&directory, version).expect("the directory is created");
        let mode = fs::metadata(&directory).expect("it exists").permissions().mode();
        assert_eq!(mode & 0o777, 0o750);

        fs::create_dir(directory.join("directory")).expect("created");
        for file in [CHECKPOINT, "plain", "plugin.lock"] {
            fs::write(directory.join(file), "").expect("written");
        }
        for socket in [KUBELET_SOCKET, "plugin.sock", "directory/inner.sock"] {
            UnixListener::bind(directory.join(socket)).expect("bound");
        }
        symlink(directory.join("directory/inner.sock"), directory.join("link-to-socket"))
            .expect("linked");
        symlink(directory.join("plain"), directory.join("link-to-plain")).expect("linked");

        prepare(&directory, version).expect("cleaned");
        assert!(directory.join("directory/inner.sock").exists(), "the clean-up does not descend");
        let mut left: Vec<String> = fs::read_dir(&directory)
            .expect("readable")
            .map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned())
            .collect();
        left.sort();
        left
    }

    #[test]
    fn kubelet_1_36_removes_only_sockets() {
        for version in [KubeletVersion::V1_36, KubeletVersion::V1_37] {
            assert_eq!(
                left_after(version),
                ["directory", CHECKPOINT, "link-to-plain", "plain", "plugin.lock"]
            );
        }
    }

    #[test]
    fn kubelet_1_32_removes_every_file_but_the_checkpoint() {
        assert_eq!(left_after(KubeletVersion::V1_32), ["directory", CHECKPOINT]);
    }
}
