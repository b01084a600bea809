//! Sockets as files: the names of ours, and the removal of old ones.

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use device::names::ResourceName;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use tracing::{info, warn};

use crate::host::socket_id::SocketId;
use crate::util::random;

/// Removes the file at this path, unless it is gone or another one.
///
/// # Errors
/// The file system's.
#[allow(
    clippy::disallowed_methods,
    reason = "the kubelet's own directory, where the socket is bound too: it is a local one"
)]
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

/// The longest path of a socket: `sun_path` of `sockaddr_un` has 108 bytes, the last one 0
/// (unix(7)).
pub const MAX_PATH: usize = 107;
/// The directory as the kubelet calls it, whatever its path is for us
/// (k8s.io/kubelet, pkg/apis/deviceplugin/v1beta1/constants.go:30).
const KUBELETS_DIRECTORY: &str = "/var/lib/kubelet/device-plugins";

/// A file name for a socket of this resource that no server start had before: `nvidia-gpu-<8
/// characters>.sock`. As much of the resource's name is left out as makes the path too long, for us
/// or for the kubelet; `None`: it is too long even so.
///
/// A kubelet from 1.37 on refuses a registration while its stream to the same resource and socket
/// path lives (kubernetes/kubernetes#135437), and an older one mixes the two up.
#[must_use]
pub fn fresh_name(directory: &Path, resource: &ResourceName) -> Option<String> {
    let mut number = random::number();
    let unique: String = std::iter::repeat_with(|| {
        let digit = b"0123456789abcdefghijklmnopqrstuvwxyz"[(number % 36) as usize];
        number /= 36;
        char::from(digit)
    })
    .take(UNIQUE)
    .collect();
    let around = PREFIX.len() + "-".len() + UNIQUE + SUFFIX.len();
    let directory = directory.as_os_str().len().max(KUBELETS_DIRECTORY.len());
    let room = MAX_PATH.checked_sub(directory + "/".len() + around).filter(|room| *room > 0)?;
    let base = resource.base();
    // A name of a resource is ASCII.
    let base = base.get(..room.min(base.len()))?;
    Some(format!("{PREFIX}{base}-{unique}{SUFFIX}"))
}

/// The part of a resource's name that is in a file name which [`fresh_name`] gives, which is its
/// beginning where the whole is too long; `None` for every other name.
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
#[allow(clippy::disallowed_methods, reason = "at the start")]
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

/// The sockets that a killed plugin left.
#[allow(clippy::disallowed_methods, reason = "for a command that serves nobody")]
#[must_use]
pub fn stale(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let own = entries.map(|entry| entry.path()).filter(|path| is_ours(path));
    let is_socket = |path: &PathBuf| {
        std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket())
    };
    own.filter(is_socket).filter(|path| is_refused(path).unwrap_or(false)).collect()
}

/// Removes a socket if a connection to it is refused; true if it did.
#[allow(clippy::disallowed_methods, reason = "at the start")]
fn remove_if_dead(path: &Path) -> io::Result<bool> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    let Some(id) = SocketId::of(path)?.filter(|_| is_socket) else { return Ok(false) };
    if is_refused(path)? { remove(path, id).map(|()| true) } else { Ok(false) }
}

/// Whether somebody listens on the socket at this path.
#[allow(clippy::disallowed_methods, reason = "on the thread that looks for other plugins")]
pub(super) fn is_served(path: &Path) -> bool {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    is_socket && is_refused(path).is_ok_and(|refused| !refused)
}

/// Whether nobody listens on a socket. A listener whose queue is full makes others wait: one that
/// hangs would hold us up for ever.
fn is_refused(path: &Path) -> io::Result<bool> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    Ok(connect(&socket, &SocketAddrUnix::new(path)?) == Err(Errno::CONNREFUSED))
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
    fn a_socket_that_is_not_the_one_meant_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        let _first = UnixListener::bind(&path).unwrap();
        let id = SocketId::of(&path).unwrap().unwrap();
        std::fs::remove_file(&path).unwrap();
        let _second = UnixListener::bind(&path).unwrap();
        remove(&path, id).unwrap();
        assert!(path.exists());
        remove(&path, SocketId::of(&path).unwrap().unwrap()).unwrap();
        assert!(!path.exists());
        remove(&path, id).unwrap();
    }

    #[test]
    fn a_listener_that_accepts_nothing_holds_nobody_up_and_keeps_its_socket() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("nvidia-gpu-aaaaaaaa.sock");
        let address = SocketAddrUnix::new(&path).unwrap();
        let stream =
            || socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::NONBLOCK, None);
        let listener = stream().unwrap();
        rustix::net::bind(&listener, &address).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let mut waiting = Vec::new();
        let full = loop {
            let client = stream().unwrap();
            if let Err(error) = connect(&client, &address) {
                break error;
            }
            waiting.push(client);
        };
        assert_eq!(full, Errno::AGAIN, "{} wait", waiting.len());
        remove_stale(directory.path());
        assert!(path.exists());
        drop(listener);
        remove_stale(directory.path());
        assert!(!path.exists());
    }

    #[test]
    fn names_are_ours_and_never_twice_the_same() {
        let resource = "nvidia.com/mig-1g.10gb.me.all.shared".parse().unwrap();
        let names: std::collections::BTreeSet<_> =
            (0..1000).filter_map(|_| fresh_name(Path::new("/d"), &resource)).collect();
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
    fn a_name_is_as_long_as_its_path_may_be_here_and_for_the_kubelet() {
        let long: ResourceName = format!("nvidia.com/{}", "a".repeat(63)).parse().unwrap();
        let short: ResourceName = "nvidia.com/gpu".parse().unwrap();
        let directory = |length: usize| PathBuf::from(format!("/{}", "d".repeat(length - 1)));
        for length in [10, 31, 60, 84] {
            for resource in [&long, &short] {
                let name = fresh_name(&directory(length), resource).unwrap();
                assert!(directory(length).join(&name).as_os_str().len() <= MAX_PATH);
                assert!(Path::new(KUBELETS_DIRECTORY).join(&name).as_os_str().len() <= MAX_PATH);
                let base = resource_of(&name).unwrap();
                assert!(resource.base().starts_with(base) && !base.is_empty(), "{name}");
            }
        }
        assert_eq!(resource_of(&fresh_name(&directory(60), &short).unwrap()), Some("gpu"));
        assert_eq!(fresh_name(&directory(85), &short), None);
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
