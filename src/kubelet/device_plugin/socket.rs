//! Sockets as files: the names of ours, and the removal of old ones.

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use device::names::ResourceName;
use tracing::{info, warn};

use crate::host::socket_id::SocketId;
use crate::util::random;

/// Removes the file at this path, unless it is gone or another one.
///
/// # Errors
/// The file system's.
pub fn remove(path: &Path, id: SocketId) -> io::Result<()> {
    if SocketId::of(path)? != Some(id) {
        return Ok(());
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Every socket of ours begins with this.
const PREFIX: &str = "nvidia-";
const SUFFIX: &str = ".sock";
/// Length of the part that makes a name unique.
const UNIQUE: usize = 8;

/// A file name for a socket of this resource that no server start had before: `nvidia-gpu-<8
/// characters>.sock`.
///
/// A kubelet from 1.37 on refuses a registration while its stream to the same resource and socket
/// path lives (kubernetes/kubernetes#135437), and an older one mixes the two up.
#[must_use]
pub fn fresh_name(resource: &ResourceName) -> String {
    let mut number = random::number();
    let unique: String = std::iter::repeat_with(|| {
        let digit = b"0123456789abcdefghijklmnopqrstuvwxyz"[(number % 36) as usize];
        number /= 36;
        char::from(digit)
    })
    .take(UNIQUE)
    .collect();
    format!("{PREFIX}{}-{unique}{SUFFIX}", resource.base())
}

/// The part of a resource's name that is in a file name which [`fresh_name`] gives; `None` for
/// every other name.
#[must_use]
pub fn resource_of(name: &str) -> Option<&str> {
    let (resource, unique) = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.rsplit_once('-')?;
    let is_unique = unique.len() == UNIQUE
        && unique.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase());
    (is_unique && !resource.is_empty()).then_some(resource)
}

fn is_ours(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).and_then(resource_of).is_some()
}

/// Removes the sockets that a killed plugin left. Errors are logged and do not prevent serving.
pub fn remove_stale(directory: &Path) {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => {
            warn!(directory = %directory.display(), %error, "cannot list the sockets that an \
                earlier plugin left");
            return;
        }
    };
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| is_ours(path)) {
        match remove_if_dead(&path) {
            Ok(true) => {
                info!(socket = %path.display(), "removed a socket that an earlier plugin left")
            }
            Ok(false) => {}
            Err(error) => {
                warn!(socket = %path.display(), %error, "cannot remove a socket that an earlier \
                    plugin left");
            }
        }
    }
}

/// Removes a socket if a connection to it is refused; true if it did.
fn remove_if_dead(path: &Path) -> io::Result<bool> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    let Some(id) = SocketId::of(path)?.filter(|_| is_socket) else { return Ok(false) };
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            remove(path, id).map(|()| true)
        }
        _ => Ok(false),
    }
}

/// The directory of the kubelet's socket, in which ours live too, and the kubelet's socket itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PluginPaths {
    /// Where our sockets live.
    pub directory: PathBuf,
    /// The kubelet's socket; `None` to serve without ever registering.
    pub kubelet: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_socket_made_again_at_the_same_path_is_another() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        for _ in 0..20 {
            let first = UnixListener::bind(&path).unwrap();
            let id = SocketId::of(&path).unwrap().unwrap();
            assert_eq!(SocketId::of(&path).unwrap(), Some(id));
            drop(first);
            std::fs::remove_file(&path).unwrap();
            assert_eq!(SocketId::of(&path).unwrap(), None);
            let _second = UnixListener::bind(&path).unwrap();
            // The change time has the resolution of the kernel's clock tick.
            while SocketId::of(&path).unwrap() == Some(id) {
                std::fs::remove_file(&path).unwrap();
                std::mem::forget(UnixListener::bind(&path).unwrap());
            }
            remove(&path, id).unwrap();
            assert!(path.exists(), "a socket that is not the one meant stays");
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn names_are_ours_and_never_twice_the_same() {
        let resource = "nvidia.com/mig-1g.10gb.me.all.shared".parse().unwrap();
        let names: std::collections::BTreeSet<_> =
            (0..1000).map(|_| fresh_name(&resource)).collect();
        assert_eq!(names.len(), 1000);
        assert!(names.iter().all(|name| resource_of(name).is_some()
            && name.starts_with("nvidia-mig-1g.10gb.me.all.shared-")));
        for name in
            ["kubelet.sock", "nvidia-gpu.sock", "nvidia-gpu-ABCDEFGH.sock", "nvidia--abcdefgh.sock"]
        {
            assert_eq!(resource_of(name), None, "{name}");
        }
    }

    #[test]
    fn only_dead_sockets_of_ours_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let _alive = UnixListener::bind(at("nvidia-gpu-aaaaaaaa.sock")).unwrap();
        for name in ["nvidia-gpu-bbbbbbbb.sock", "nvidia-gpu.sock", "amd-gpu-cccccccc.sock"] {
            drop(UnixListener::bind(at(name)).unwrap());
        }
        std::fs::write(at("nvidia-gpu-dddddddd.sock"), "a file").unwrap();
        remove_stale(directory.path());
        let mut left: Vec<_> = std::fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        left.sort();
        assert_eq!(
            left,
            [
                "amd-gpu-cccccccc.sock",
                "nvidia-gpu-aaaaaaaa.sock",
                "nvidia-gpu-dddddddd.sock",
                "nvidia-gpu.sock"
            ]
        );
    }
}
