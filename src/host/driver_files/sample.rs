//! A driver's installation in a directory, for tests.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

pub(crate) const VERSION: &str = "580.95.05";

/// Writes a file below a root, with its directories.
pub(crate) fn write(root: &Path, path: &str, text: &str) {
    let file = root.join(path);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, text).unwrap();
}

pub(crate) fn program(root: &Path, path: &str) {
    write(root, path, "#!/bin/sh\n");
    fs::set_permissions(root.join(path), fs::Permissions::from_mode(0o755)).unwrap();
}

/// An installation of the driver as a distribution has it, with files of others.
pub(crate) fn installation(root: &Path, version: &str) {
    for library in ["libcuda", "libnvidia-ml", "libGLX_nvidia", "vdpau/libvdpau_nvidia"] {
        write(root, &format!("usr/lib64/{library}.so.{version}"), "");
    }
    for other in ["libnvidia-egl-gbm.so.1.1.2", "libnvidia-nvvm70.so.4", "libc.so.6"] {
        write(root, &format!("usr/lib64/{other}"), "");
    }
    write(root, "usr/lib64/xorg/modules/drivers/nvidia_drv.so", "");
    for (link, target) in [
        ("libcuda.so.1", format!("libcuda.so.{version}")),
        ("libcuda.so", "libcuda.so.1".to_owned()),
        ("libnvidia-ml.so.1", format!("libnvidia-ml.so.{version}")),
        ("libGLX_nvidia.so.0", format!("libGLX_nvidia.so.{version}")),
        ("libc.so", "libc.so.6".to_owned()),
    ] {
        symlink(target, root.join("usr/lib64").join(link)).unwrap();
    }
    symlink("usr/lib64", root.join("lib64")).unwrap();
    write(root, &format!("lib/firmware/nvidia/{version}/gsp_ga10x.bin"), "");
    write(root, &format!("lib/firmware/nvidia/{version}/readme"), "");
    program(root, "usr/bin/nvidia-smi");
    write(root, "usr/share/glvnd/egl_vendor.d/10_nvidia.json", "{}");
    write(root, "usr/share/vulkan/icd.d/nvidia_icd.json", "{}");
    fs::create_dir_all(root.join("run/nvidia-persistenced")).unwrap();
    // The file stays when nobody listens any more.
    drop(UnixListener::bind(root.join("run/nvidia-persistenced/socket")).unwrap());
}

/// NVIDIA's toolkit of this version, as Debian installs it.
pub(crate) fn toolkit(root: &Path, version: &str) {
    program(root, "usr/bin/nvidia-cdi-hook");
    program(root, "usr/bin/nvidia-ctk");
    let text = format!(
        "Package: libc6\nStatus: install ok installed\nVersion: 2.36-9\n\n\
         Package: nvidia-container-toolkit-base\nStatus: install ok installed\n\
         Architecture: amd64\nVersion: {version}-1\n\n"
    );
    write(root, "var/lib/dpkg/status", &text);
}
