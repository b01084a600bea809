//! What each hook does to a container, and that it does it again without harm.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use cdi_hook::{Hook, Host, Link, MemoryLimit};
use support::elf::library;
use support::{Bundle, cache_entries, snapshot};

fn link(target: &str, path: &str) -> Link {
    Link { target: target.into(), path: path.into() }
}

#[test]
fn links_are_made_and_replaced() {
    let bundle = Bundle::new();
    bundle.write("usr/lib/libcuda.so", "a file of the image");
    bundle.link("usr/lib/libnvidia-ml.so.1", "old");
    bundle.link("lib", "usr/lib");
    let links = Hook::CreateSymlinks(vec![
        link("libcuda.so.1", "/usr/lib/libcuda.so"),
        link("libnvidia-ml.so.580.1", "/lib/libnvidia-ml.so.1"),
        link("../card1", "/dev/dri/by-path/pci-0000:17:00.0-card"),
    ]);
    bundle.run(&links).unwrap();
    for (path, target) in [
        ("usr/lib/libcuda.so", "libcuda.so.1"),
        ("usr/lib/libnvidia-ml.so.1", "libnvidia-ml.so.580.1"),
        ("dev/dri/by-path/pci-0000:17:00.0-card", "../card1"),
    ] {
        assert_eq!(fs::read_link(bundle.root().join(path)).unwrap(), Path::new(target), "{path}");
    }
    let before = snapshot(&bundle.root());
    bundle.run(&links).unwrap();
    assert_eq!(snapshot(&bundle.root()), before);
}

#[test]
fn the_loader_finds_what_is_in_the_folders() {
    let bundle = Bundle::new().with_glibc();
    bundle.write("usr/local/nvidia/lib64/libcuda.so.580.95.05", library("libcuda.so.1"));
    bundle.write("usr/lib/libcuda.so.1", library("libcuda.so.1"));
    let folders = Hook::UpdateLdcache(vec!["/usr/local/nvidia/lib64".into(), "/none".into()]);
    for _ in 0..2 {
        assert_eq!(bundle.run(&folders).unwrap(), Vec::<String>::new());
        let cache = fs::read(bundle.root().join("etc/ld.so.cache")).unwrap();
        let found = cache_entries(&cache).into_iter().map(|(name, path)| format!("{name} {path}"));
        let expected = [
            "libcuda.so.1 /usr/local/nvidia/lib64/libcuda.so.1",
            "libcuda.so.1 /usr/lib/libcuda.so.1",
        ];
        let found: Vec<_> = found.filter(|line| line.starts_with("libcuda")).collect();
        assert_eq!(found, expected);
    }
    // A later ldconfig in the container keeps them.
    assert_eq!(bundle.read("etc/ld.so.conf"), "include /etc/ld.so.conf.d/*.conf\n");
    let part = bundle.read("etc/ld.so.conf.d/00-nvcr-gpu-device-plugin.conf");
    assert_eq!(part, "/usr/local/nvidia/lib64\n/none\n");
    let mode = fs::metadata(bundle.root().join("etc/ld.so.cache")).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o644);
}

#[test]
fn an_image_without_glibc_stays_as_it_is() {
    let bundle = Bundle::new();
    bundle.write("lib/ld-musl-x86_64.so.1", "another loader");
    bundle.write("usr/lib/libcuda.so.580.95.05", library("libcuda.so.1"));
    let before = snapshot(&bundle.root());
    let notes = bundle.run(&Hook::UpdateLdcache(vec!["/usr/lib".into()])).unwrap();
    assert!(notes[0].contains("no loader's cache is written"), "{notes:?}");
    assert_eq!(snapshot(&bundle.root()), before);
}

#[test]
fn compatibility_libraries_win_where_they_are_newer() {
    for (library, driver, expected) in [
        ("libcuda.so.580.95.05", Some(570), true),
        ("libcuda.so.580.95.05", Some(580), false),
        ("libcuda.so.99.1", Some(570), false),
        ("libcuda.so.1", Some(570), false),
        ("libcuda.so.580.95.05", None, false),
    ] {
        let bundle = Bundle::new().with_glibc();
        bundle.write(
            "usr/local/cuda-13.0/compat/libcuda.so.1",
            support::elf::library("libcuda.so.1"),
        );
        bundle.write(
            &format!("usr/local/cuda-13.0/compat/{library}"),
            support::elf::library("libcuda.so.1"),
        );
        bundle.link("usr/local/cuda", "/usr/local/cuda-13.0");
        bundle.write("etc/ld.so.conf", "include /etc/ld.so.conf.d/*.conf\n");
        bundle.write("etc/ld.so.conf.d/z.conf", "/opt/z\n");
        bundle.write("usr/lib64/libcuda.so.1", support::elf::library("libcuda.so.1"));
        bundle.run(&Hook::EnableCudaCompat { host_driver_major: driver }).unwrap();
        bundle.run(&Hook::UpdateLdcache(vec!["/usr/lib64".into()])).unwrap();
        let cache = fs::read(bundle.root().join("etc/ld.so.cache")).unwrap();
        let first = cache_entries(&cache).into_iter().find(|(name, _)| name == "libcuda.so.1");
        let path = if expected { "/usr/local/cuda/compat" } else { "/usr/lib64" };
        assert_eq!(first.unwrap().1, format!("{path}/libcuda.so.1"), "{library} {driver:?}");
    }
}

#[test]
fn only_directories_and_nodes_get_other_permissions() {
    let bundle = Bundle::new();
    fs::create_dir_all(bundle.root().join("dev/dri")).unwrap();
    fs::set_permissions(bundle.root().join("dev/dri"), fs::Permissions::from_mode(0o700)).unwrap();
    let chmod = |path: &str| Hook::Chmod { mode: 0o755, paths: vec![path.into(), "/none".into()] };
    bundle.run(&chmod("/dev/dri")).unwrap();
    let mode = |path: &str| fs::metadata(bundle.root().join(path)).unwrap().mode() & 0o7777;
    assert_eq!(mode("dev/dri"), 0o755);
    bundle.write("bin/su", "");
    fs::set_permissions(bundle.root().join("bin/su"), fs::Permissions::from_mode(0o4700)).unwrap();
    assert!(bundle.run(&chmod("/bin/su")).unwrap_err().contains("neither a directory"));
    assert_eq!(mode("bin/su"), 0o4700);
}

#[test]
fn a_container_without_gpus_gets_no_profile() {
    let bundle = Bundle::new();
    bundle.write("dev/nvidia0", "no device");
    bundle.run(&Hook::UpdateApplicationProfile).unwrap();
    assert!(!bundle.root().join("etc").exists());
    bundle.run(&Hook::DisableDeviceNodeModification).unwrap();
    assert!(!bundle.root().join("etc").exists());
}

/// A tree of cgroups as the kernel shows it, with a container in it.
struct Cgroups {
    directory: tempfile::TempDir,
    host: Host,
}

const CGROUP: &str = "kubepods.slice/kubepods-pod1.slice/cri-1.scope";

impl Cgroups {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (cgroup_root, proc_root) =
            (directory.path().join("cgroup"), directory.path().join("proc"));
        let host = Host { cgroup_root: cgroup_root.clone(), proc_root: proc_root.clone() };
        fs::create_dir_all(cgroup_root.join(CGROUP)).unwrap();
        for parent in ["", "kubepods.slice", "kubepods.slice/kubepods-pod1.slice"] {
            let controllers = if parent.is_empty() { "cpu dmem memory\n" } else { "cpu memory\n" };
            let path = cgroup_root.join(parent).join("cgroup.subtree_control");
            fs::write(path, controllers).unwrap();
        }
        let capacity = "nvidia/0000:17:00.0/vidmem 85899345920\nnvidia/0000:18:00.0/vidmem 1024\n";
        fs::write(cgroup_root.join("dmem.capacity"), capacity).unwrap();
        fs::write(cgroup_root.join(CGROUP).join("dmem.max"), "").unwrap();
        let of_process = proc_root.join(std::process::id().to_string());
        fs::create_dir_all(&of_process).unwrap();
        fs::write(of_process.join("cgroup"), format!("0::/{CGROUP}\n")).unwrap();
        Self { directory, host }
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.host.cgroup_root.join(path)).unwrap()
    }

    fn apply(&self, limits: &[(&str, u64)]) -> Result<Vec<String>, String> {
        let limit = |(address, bytes): &(&str, u64)| MemoryLimit {
            address: (*address).into(),
            bytes: *bytes,
        };
        let hook = Hook::ApplyCudaMemoryLimits(limits.iter().map(limit).collect());
        Bundle::new().run_on(&hook, &self.host)
    }
}

#[test]
fn memory_is_limited_by_the_arguments_alone() {
    let cgroups = Cgroups::new();
    cgroups.apply(&[("00000000:17:00.0", 4 << 30), ("0000:18:00.0", 1 << 40)]).unwrap();
    let expected = "nvidia/0000:17:00.0/vidmem 4294967296\nnvidia/0000:18:00.0/vidmem 1024\n";
    assert_eq!(cgroups.read(&format!("{CGROUP}/dmem.max")), expected);
    // Every cgroup above passes the controller on, and one that does is not told again.
    assert_eq!(cgroups.read("cgroup.subtree_control"), "cpu dmem memory\n");
    for parent in ["kubepods.slice", "kubepods.slice/kubepods-pod1.slice"] {
        let control = cgroups.read(&format!("{parent}/cgroup.subtree_control"));
        assert_eq!(control, "cpu memory\n+dmem", "{parent}");
    }
}

/// As NVIDIA's hook is called, which takes the limits from the container's environment.
#[test]
fn what_the_containers_environment_says_limits_nothing() {
    let cgroups = Cgroups::new();
    let bundle = Bundle::new();
    let config = r#"{"root":{"path":"rootfs"},"process":{"env":["NVIDIA_GPU_MEMORY_REQUEST=1",
                     "NVIDIA_GPU_MEMORY_LIMIT=1"]}}"#;
    fs::write(bundle.path().join("config.json"), config).unwrap();
    let without = bundle.run_on(&Hook::ApplyCudaMemoryLimits(Vec::new()), &cgroups.host).unwrap();
    assert!(without[0].ends_with("nothing is limited"), "{without:?}");
    assert_eq!(cgroups.read(&format!("{CGROUP}/dmem.max")), "");
    let address = "0000:17:00.0".to_owned();
    let limit = Hook::ApplyCudaMemoryLimits(vec![MemoryLimit { address, bytes: 1 << 30 }]);
    assert_eq!(bundle.run_on(&limit, &cgroups.host).unwrap(), Vec::<String>::new());
    let expected = "nvidia/0000:17:00.0/vidmem 1073741824\n";
    assert_eq!(cgroups.read(&format!("{CGROUP}/dmem.max")), expected);
}

#[test]
fn a_limit_that_cannot_be_enforced_is_an_error() {
    let cgroups = Cgroups::new();
    let unknown = cgroups.apply(&[("0000:99:00.0", 1)]).unwrap_err();
    assert!(unknown.contains("no memory of the GPU 0000:99:00.0"), "{unknown}");
    assert_eq!(cgroups.read(&format!("{CGROUP}/dmem.max")), "");
    let of_process = cgroups.host.proc_root.join(std::process::id().to_string()).join("cgroup");
    for text in ["0::/\n", "0::/../../etc\n", "1:cpu:/a\n", ""] {
        fs::write(&of_process, text).unwrap();
        let error = cgroups.apply(&[("0000:17:00.0", 1)]).unwrap_err();
        assert!(error.contains("names no cgroup"), "{text}: {error}");
    }
    fs::remove_file(cgroups.host.cgroup_root.join("dmem.capacity")).unwrap();
    let without = cgroups.apply(&[("0000:17:00.0", 1)]).unwrap_err();
    assert!(without.contains("dmem controller is needed"), "{without}");
    assert!(cgroups.directory.path().exists());
}

#[test]
fn the_program_says_what_is_wrong() {
    let bundle = Bundle::new();
    let failed = bundle.program(&["create-symlinks", "--link", "a::/b", "--folder", "/c"]);
    assert!(!failed.status.success());
    let text = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(text.contains("create-symlinks has no flag --folder"), "{text}");
    let done = bundle.program(&["create-symlinks", "--link", "a::/b/c"]);
    assert!(done.status.success(), "{done:?}");
    assert_eq!(fs::read_link(bundle.root().join("b/c")).unwrap(), PathBuf::from("a"));
    let version = bundle.program(&["--version"]);
    assert!(String::from_utf8_lossy(&version.stdout).starts_with("gpu-cdi-hook "));
}
