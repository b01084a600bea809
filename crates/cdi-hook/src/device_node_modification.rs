//! `disable-device-node-modification`: the driver's libraries make device nodes and change their
//! permissions where `/proc/driver/nvidia/params` has `ModifyDeviceFiles: 1`. In a container, whose
//! nodes the runtime has made, a copy with 0 takes the file's place.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, fchmod, openat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags,
    UnmountFlags, fsconfig_create, fsconfig_reconfigure, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen, fspick, move_mount, open_tree, unmount,
};

use crate::error::HookError;
use crate::limits;
use crate::root::ContainerRoot;

const PARAMS: &str = "/proc/driver/nvidia/params";
/// The name of the copy on its own file system.
const FILE: &str = "params";
const KEY: &str = "ModifyDeviceFiles: ";

/// Mounts the copy. Without a driver, or where it says 0 already, nothing is done.
pub(crate) fn disable(root: &ContainerRoot) -> Result<(), HookError> {
    let path = Path::new(PARAMS);
    let text = match root.read_kernel_file(path, limits::KERNEL_FILE_BYTES) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(HookError::file("read", path)(error)),
    };
    let Some(changed) = without_modification(&text) else { return Ok(()) };
    mount_over(root, path, changed.as_bytes()).map_err(HookError::file("mount over", path))
}

/// The text with modification off, if it is on.
fn without_modification(text: &str) -> Option<String> {
    let on = format!("{KEY}1");
    text.lines().any(|line| line == on).then(|| {
        let lines =
            text.lines().map(|line| if line == on { format!("{KEY}0") } else { line.into() });
        lines.map(|line| line + "\n").collect()
    })
}

/// Mounts a file with this content over another one. It is on a file system in memory, which has a
/// place in the container's `/dev` until the file has its own: before Linux 6.15 nothing can be
/// bound from a file system without a place.
fn mount_over(root: &ContainerRoot, path: &Path, content: &[u8]) -> io::Result<()> {
    let mounted = memory_file_system()?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let mut file: File = openat(&mounted, FILE, flags, Mode::from_raw_mode(0o600))?.into();
    file.write_all(content)?;
    fchmod(&file, Mode::from_raw_mode(0o444))?;
    drop(file);
    make_read_only(&mounted)?;
    let dev = root.create_directories(Path::new("/dev"))?;
    let (name, place) = dev.make_temporary_directory()?;
    let done = bind_from(&mounted, &place, &root.kernel_file(path)?);
    drop(place);
    dev.remove_directory(&name).and(done)
}

fn memory_file_system() -> io::Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "size", "64k")?;
    fsconfig_set_string(&context, "nr_inodes", "4")?;
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

fn make_read_only(mounted: &OwnedFd) -> io::Result<()> {
    let flags = FsPickFlags::FSPICK_CLOEXEC | FsPickFlags::FSPICK_EMPTY_PATH;
    let context = fspick(mounted, "", flags)?;
    fsconfig_set_flag(&context, "ro")?;
    Ok(fsconfig_reconfigure(&context)?)
}

/// Gives the file system a place, binds its file over another one, and takes the place away.
fn bind_from(mounted: &OwnedFd, place: &OwnedFd, over: &OwnedFd) -> io::Result<()> {
    let both = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mounted, "", place, "", both)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let bound =
        open_tree(mounted, FILE, flags).and_then(|copy| move_mount(copy, "", over, "", both));
    let path = format!("/proc/self/fd/{}", mounted.as_raw_fd());
    unmount(path, UnmountFlags::DETACH)?;
    Ok(bound?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_modification_changes() {
        let on = "ResmanDebugLevel: 4294967295\nModifyDeviceFiles: 1\nDeviceFileUID: 0\n";
        let off = "ResmanDebugLevel: 4294967295\nModifyDeviceFiles: 0\nDeviceFileUID: 0\n";
        assert_eq!(without_modification(on).as_deref(), Some(off));
        for other in [off, "", "ModifyDeviceFiles: 10\n"] {
            assert_eq!(without_modification(other), None, "{other}");
        }
    }
}
