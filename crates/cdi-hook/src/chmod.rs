//! `chmod`: permissions of directories, as of `/dev/dri`.

use std::io::ErrorKind;
use std::path::PathBuf;

use crate::error::HookError;
use crate::root::ContainerRoot;

/// Sets the permissions of each path that there is.
pub(crate) fn chmod(
    root: &ContainerRoot,
    mode: u32,
    paths: &[PathBuf],
) -> Result<Vec<String>, HookError> {
    let mut notes = Vec::new();
    for path in paths {
        match root.chmod(path, mode) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            // A whole /dev of the host's that is mounted is not the container's to change.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                notes.push(format!("{} stays as it is: {error}", path.display()));
            }
            Err(error) => return Err(HookError::file("set the permissions of", path)(error)),
        }
    }
    Ok(notes)
}
