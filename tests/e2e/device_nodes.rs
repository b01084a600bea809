//! Device nodes that the kernel does not open: what `doctor` says of each, and of all the rest.
//!
//! NVIDIA's nodes fail so in the driver's code, or in the device cgroup. Here others stand for
//! them whose opening fails in the kernel with the same error, or does not return.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use fake_nvml::profiles;
use rustix::fs::{CWD, FileType, IFlags, Mode, ioctl_getflags, ioctl_setflags, makedev, mknodat};

use crate::doctor::{Machine, placed};
use crate::rig::kubelet;

/// The major number of no driver.
const NO_DRIVER: u32 = 0;
/// That of a pseudoterminal's slave. Anywhere but in devpts it has no master, without which it is
/// not opened (drivers/tty/pty.c).
const NO_MASTER: u32 = 136;

/// Mounts a file system at `$D` in which a node may be made and not opened.
const NODEV: &str = "mount -t tmpfs -o nodev none \"$D\" && mknod \"$D/node\" c 0 0";
/// Mounts a file system at `$D` whose server never answers.
const SILENT: &str = "exec 9<>/dev/fuse && mount -i -t fuse \
                      -o fd=9,rootmode=40000,user_id=0,group_id=0 none \"$D\"";
/// A user namespace with a mount namespace, in which everybody may mount.
const APART: [&str; 5] = ["--user", "--map-root-user", "--mount", "sh", "-c"];

/// A node in good order, and its device node of GPU 5, which is not there.
fn without_node() -> (Machine, PathBuf) {
    let machine = Machine::new(profiles::h100x8());
    let node = machine.node.dev().join("nvidia5");
    fs::remove_file(&node).unwrap();
    (machine, node)
}

/// What the doctor says of a device node that is its only problem.
async fn says(machine: &Machine, texts: &[&str]) {
    let _kubelet = kubelet(machine.node.kubelet()).await;
    let report = machine.report().await;
    report.has("problem", "driver.nodes", texts);
    report.problems(&["driver.nodes"]);
    // One node costs nothing of the rest.
    report.has("ok", "driver.nvml", &["answers: driver"]);
    report.has("ok", "gpus.gpu", &["GPU 5"]);
    report.has("ok", "gpus.offered", &["8 (8 Healthy)"]);
}

/// Makes a character device; `None`: only root may.
fn device(path: &Path, major: u32) -> Option<()> {
    let mode = Mode::RUSR | Mode::WUSR;
    let made = mknodat(CWD, path, FileType::CharacterDevice, mode, makedev(major, 0));
    made.inspect_err(|error| println!("not tested: {}: {error}", path.display())).ok()
}

/// The same machine, whose doctor runs where a script has mounted something at a directory.
fn apart(machine: Machine, script: &str, directory: &Path) -> Option<Machine> {
    fs::create_dir(directory).unwrap();
    let script = format!("{script} && exec \"$0\" \"$@\"");
    let mut probe = std::process::Command::new("unshare");
    probe.args(APART).arg(&script).arg("true").env("D", directory);
    if !probe.status().is_ok_and(|status| status.success()) {
        println!("not tested: this machine allows no namespace with {script}");
        return None;
    }
    let root = machine.node.driver_root();
    let mut options = placed(&machine)
        .env("NVML_LIBRARY", machine.node.nvml_library())
        .env("DRIVER_ROOT_CTR_PATH", root)
        .env("D", directory);
    let plugin = std::mem::replace(&mut options.binary, "unshare".into());
    options.args = APART.map(Into::into).to_vec();
    options.args.extend([script.into(), plugin.into()]);
    Some(Machine { options, ..machine })
}

/// A file that nobody may open for writing, until this is dropped.
struct Immutable(File);

impl Immutable {
    /// `None`: only root may, and not on every file system.
    fn make(path: &Path) -> Option<Self> {
        let file = File::create(path).unwrap();
        let made = ioctl_getflags(&file)
            .and_then(|flags| ioctl_setflags(&file, flags | IFlags::IMMUTABLE));
        made.inspect_err(|error| println!("not tested: {}: {error}", path.display())).ok()?;
        Some(Self(file))
    }
}

impl Drop for Immutable {
    fn drop(&mut self) {
        let flags = ioctl_getflags(&self.0).unwrap();
        ioctl_setflags(&self.0, flags - IFlags::IMMUTABLE).unwrap();
    }
}

/// EPERM, which is the device cgroup's answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_not_permitted_is_reported_with_what_permits_it() {
    let (machine, node) = without_node();
    let Some(_immutable) = Immutable::make(&node) else { return };
    says(&machine, &["nvidia5: Operation not permitted", "daemon-reload", "privileged"]).await;
}

/// EACCES, which is the answer of a mount that has no devices.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_on_a_mount_without_devices_is_reported_with_what_permits_it() {
    let (machine, node) = without_node();
    let directory = machine.node.root().join("nodev");
    symlink(directory.join("node"), &node).unwrap();
    let Some(machine) = apart(machine, NODEV, &directory) else { return };
    says(&machine, &["nvidia5: Permission denied", "privileged"]).await;
}

/// EIO, which is the driver's answer for a GPU that it cannot initialise.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_gpu_cannot_be_initialised_is_reported_with_where_to_look() {
    let (machine, node) = without_node();
    let Some(()) = device(&node, NO_MASTER) else { return };
    says(&machine, &["nvidia5: Input/output error", "RmInitAdapter", "reboot"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_a_driver_behind_it_is_reported() {
    let (machine, node) = without_node();
    let Some(()) = device(&node, NO_DRIVER) else { return };
    says(&machine, &["nvidia5: No such device or address", "no driver behind it"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_opening_does_not_return_is_reported_and_holds_up_nothing_else() {
    let (machine, node) = without_node();
    let directory = machine.node.root().join("silent");
    symlink(directory.join("node"), &node).unwrap();
    let Some(machine) = apart(machine, SILENT, &directory) else { return };
    let machine = machine.with_short_deadline();
    says(&machine, &["nvidia5 does not return", "the driver hangs"]).await;
}
