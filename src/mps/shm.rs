//! The shared memory of clients: a file system in memory below the directory of the daemons, which
//! is shared with the node and mounted at `/dev/shm` in clients. It has to be there before it is
//! given to them, so that a container of its own makes it (NVIDIA's `mps-control-daemon mount-shm`,
//! cmd/mps-control-daemon/mount/mount-shm.go:44).

use std::ffi::CString;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// The size where the memory of the node is not known, in KiB, as with NVIDIA's.
const FALLBACK_KIB: u64 = 65_536;
/// How many file systems, one over the other, are taken away at most.
const MAX_MOUNTS: usize = 16;

/// Mounts it, half as large as the node's memory. One that clients use stays as it is.
///
/// # Errors
/// It is not permitted: it needs CAP_SYS_ADMIN; or the file system's.
pub fn mount_shm(directory: &Path, proc: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
    for _ in 0..MAX_MOUNTS {
        match unmount(directory, UnmountFlags::empty()) {
            Ok(()) => {}
            // Clients of before have it, and so it is one.
            Err(Errno::BUSY) => return Ok(()),
            // It is no mount.
            Err(Errno::INVAL) => break,
            Err(error) => return Err(error.into()),
        }
    }
    let size = size_kib(&fs::read_to_string(proc.join("meminfo")).unwrap_or_default());
    let options = CString::new(format!("size={size}k")).map_err(io::Error::other)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RELATIME;
    Ok(mount("shm", directory, "tmpfs", flags, options.as_c_str())?)
}

/// Half of the memory in a `/proc/meminfo`.
fn size_kib(meminfo: &str) -> u64 {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let total = total.and_then(|text| text.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    total.map_or(FALLBACK_KIB, |total| total / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_half_as_large_as_the_memory() {
        assert_eq!(size_kib("MemTotal:       131923456 kB\nMemFree:        1 kB\n"), 65_961_728);
        for odd in ["", "MemTotal: many kB", "MemTotal: 12"] {
            assert_eq!(size_kib(odd), FALLBACK_KIB, "{odd}");
        }
    }
}
