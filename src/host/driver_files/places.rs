//! Where installations of the driver have their files, relative to their root.

/// Directories of libraries, most usual first: distributions, then images made for containers, then
/// Talos (`/usr/local/glibc`: siderolabs/extensions, nvidia-gpu/nvidia-driver/userspace and
/// nvidia-gpu/nvidia-container-toolkit), NixOS (`/run/opengl-driver`), Tegra, WSL, vendors' own
/// directories (`/home/kubernetes` of GKE, `/var/lib/nvidia` of Container-Optimized OS), and
/// Bottlerocket (`%{_cross_libdir}/nvidia/tesla` in the packages of its kernel modules).
pub const LIBRARY_DIRECTORIES: [&str; 22] = [
    "usr/lib64",
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/aarch64-linux-gnu",
    "lib64",
    "lib/x86_64-linux-gnu",
    "lib/aarch64-linux-gnu",
    "usr/lib",
    "lib",
    "usr/lib64/nvidia",
    "usr/lib/aarch64-linux-gnu/nvidia",
    "usr/lib/aarch64-linux-gnu/tegra",
    "usr/lib/wsl/lib",
    "usr/local/nvidia/lib64",
    "usr/local/glibc/usr/lib64",
    "usr/local/glibc/usr/lib",
    "usr/local/glibc/lib",
    "run/opengl-driver/lib",
    "opt/nvidia/lib64",
    "var/lib/nvidia/lib64",
    "home/kubernetes/bin/nvidia/lib64",
    "x86_64-bottlerocket-linux-gnu/sys-root/usr/lib/nvidia/tesla",
    "aarch64-bottlerocket-linux-gnu/sys-root/usr/lib/nvidia/tesla",
];

/// Directories below those of the libraries: VDPAU, Debian's alternatives, and the X server's
/// modules.
pub(super) const SUBDIRECTORIES: [&str; 7] = [
    "vdpau",
    "nvidia/current",
    "nvidia/xorg",
    "xorg/modules/drivers",
    "xorg/modules/extensions",
    "xorg/modules/updates/drivers",
    "xorg/modules/updates/extensions",
];

pub(super) const FIRMWARE_DIRECTORIES: [&str; 2] = ["lib/firmware/updates", "lib/firmware"];

/// The directories of the programs, below the root.
pub const BINARY_DIRECTORIES: [&str; 8] = [
    "usr/bin",
    "usr/sbin",
    "usr/local/bin",
    "usr/local/sbin",
    "bin",
    "sbin",
    "usr/local/nvidia/bin",
    "opt/bin",
];

/// Directories of programs that are in no container's PATH: of Talos, GKE and Bottlerocket.
pub(super) const OWN_BINARY_DIRECTORIES: [&str; 4] = [
    "usr/local/glibc/usr/bin",
    "home/kubernetes/bin/nvidia/bin",
    "x86_64-bottlerocket-linux-gnu/sys-root/usr/libexec/nvidia/tesla/bin",
    "aarch64-bottlerocket-linux-gnu/sys-root/usr/libexec/nvidia/tesla/bin",
];

pub(super) const BINARIES: [&str; 7] = [
    "nvidia-smi",
    "nvidia-debugdump",
    "nvidia-persistenced",
    "nvidia-cuda-mps-control",
    "nvidia-cuda-mps-server",
    "nvidia-imex",
    "nvidia-imex-ctl",
];

/// Configuration files, below `etc` or `usr/share`.
pub(super) const CONFIGS: [&str; 8] = [
    "glvnd/egl_vendor.d/10_nvidia.json",
    "egl/egl_external_platform.d/15_nvidia_gbm.json",
    "egl/egl_external_platform.d/10_nvidia_wayland.json",
    "egl/egl_external_platform.d/09_nvidia_wayland2.json",
    "nvidia/nvoptix.bin",
    "X11/xorg.conf.d/10-nvidia.conf",
    "X11/xorg.conf.d/nvidia-drm-outputclass.conf",
    "OpenCL/vendors/nvidia.icd",
];

/// Files of Vulkan, below `etc`, `usr/share`, or the root itself (GKE).
pub(super) const VULKAN: [&str; 5] = [
    "vulkan/icd.d/nvidia_icd.json",
    "vulkan/icd.d/nvidia_icd.x86_64.json",
    "vulkan/icd.d/nvidia_icd.aarch64.json",
    "vulkan/icd.d/nvidia_layers.json",
    "vulkan/implicit_layer.d/nvidia_layers.json",
];

/// Sockets of the driver's daemons, and the directory of an MPS daemon's pipes.
pub(super) const SOCKETS: [&str; 3] =
    ["run/nvidia-persistenced/socket", "run/nvidia-fabricmanager/socket", "tmp/nvidia-mps"];
