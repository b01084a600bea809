//! `update-application-profile`: EGL and Vulkan list every GPU of the host, and fail at those whose
//! nodes the container lacks. A profile of the driver's restricts them to the GPUs of a mask (the
//! driver's README, "Application Profiles"; the setting `EGLVisibleDGPUDevices`).

use std::ffi::OsStr;
use std::path::Path;

use crate::error::HookError;
use crate::limits;
use crate::root::ContainerRoot;

const DIRECTORY: &str = "/etc/nvidia/nvidia-application-profiles-rc.d";
const FILE: &str = "10-container.conf";

/// Writes the profile for the GPUs whose nodes are in the container's `/dev`.
pub(crate) fn update(root: &ContainerRoot) -> Result<(), HookError> {
    let mask = mask(root)?;
    if mask == 0 {
        return Ok(());
    }
    let directory = root
        .create_directories(Path::new(DIRECTORY))
        .map_err(HookError::file("make the directory", DIRECTORY))?;
    directory
        .replace_file(FILE, profile(mask).as_bytes(), 0o444)
        .map_err(HookError::file("write", Path::new(DIRECTORY).join(FILE)))
}

/// A bit for each GPU, by its minor number. The setting has 64.
fn mask(root: &ContainerRoot) -> Result<u64, HookError> {
    let dev = Path::new("/dev");
    let entries =
        root.entries(dev, limits::DEV_ENTRIES, is_gpu).map_err(HookError::file("list", dev))?;
    let minors =
        entries.entries.iter().filter_map(|entry| root.device_minor(&entries, &entry.name).ok());
    Ok(minors.filter(|minor| *minor < u64::BITS).fold(0, |mask, minor| mask | 1 << minor))
}

/// `nvidia` and a number.
fn is_gpu(name: &OsStr) -> bool {
    let number = name.to_str().and_then(|name| name.strip_prefix("nvidia"));
    number.is_some_and(|n| !n.is_empty() && n.bytes().all(|byte| byte.is_ascii_digit()))
}

fn profile(mask: u64) -> String {
    format!(
        r#"{{
  "profiles": [{{"name": "container-gpus", "settings": ["EGLVisibleDGPUDevices", {mask:#x}]}}],
  "rules": [{{"pattern": [], "profile": "container-gpus"}}]
}}
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_nodes_of_gpus_count() {
        for (name, expected) in [
            ("nvidia0", true),
            ("nvidia12", true),
            ("nvidia", false),
            ("nvidiactl", false),
            ("sda", false),
        ] {
            assert_eq!(is_gpu(OsStr::new(name)), expected, "{name}");
        }
    }

    #[test]
    fn the_profile_has_the_mask() {
        assert!(profile(0b1010).contains(r#""EGLVisibleDGPUDevices", 0xa]"#));
    }
}
