//! A simulated GPU node in a temporary directory: the kubelet's directory, sysfs, the state of the
//! fake NVML and a copy of its library where a driver installation would have it.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::{env, fs, io};

use anyhow::{Context, bail};
use fake_nvml::profiles::Branch;
use fake_nvml::state::{Event, Gpu, State};
use tempfile::TempDir;

use crate::kubelet::{KUBELET_SOCKET, KubeletConfig};

mod devices;
mod elf;
mod http;
pub mod library;
mod lines;
mod plugin;
mod process;
mod sysfs;

pub use http::{HttpAddress, HttpAnswer};
pub use plugin::{Plugin, PluginOptions};
pub use process::{Figures, Mapped, kill_all_with, monotonic};

/// The longest path that a unix socket address holds, its closing NUL not counted.
const LONGEST_SOCKET_PATH: usize = 107;

/// The node; its directory goes with it.
#[derive(Debug)]
pub struct Node {
    root: TempDir,
    /// The library that was copied, whole.
    library: PathBuf,
    state: Mutex<State>,
}

impl Node {
    /// A node with this state, and with the fake library found beside the running executable.
    ///
    /// # Errors
    /// The library is not there, or the file system's.
    pub fn new(state: State) -> anyhow::Result<Self> {
        Self::with_library(state, &library::find()?)
    }

    /// A node with this state and a driver of a branch, e.g. "R470".
    ///
    /// # Errors
    /// There is no such branch, the library is not there, or the file system's.
    pub fn of_branch(mut state: State, branch: &str) -> anyhow::Result<Self> {
        let branch = Branch::by_name(branch).with_context(|| format!("no branch {branch}"))?;
        branch.install(&mut state);
        let node = Self::new(state)?;
        node.library_without(&branch.missing())?;
        Ok(node)
    }

    /// A node with this state and a copy of this library.
    ///
    /// # Errors
    /// The library cannot be read, or the file system's.
    pub fn with_library(state: State, library: &Path) -> anyhow::Result<Self> {
        let root = tempfile::Builder::new().prefix("sn").tempdir_in(short_directory())?;
        let node = Self { root, library: library.to_owned(), state: Mutex::new(state) };
        let caps = devices::capability_directory(&node);
        for directory in [node.kubelet_directory(), node.sysfs(), node.library_directory(), caps] {
            fs::create_dir_all(&directory)
                .with_context(|| format!("creating {}", directory.display()))?;
        }
        // "nvidia-<resource part>-<unique>.sock", with the longest names that are to be expected.
        let longest = node.kubelet_directory().join(format!(
            "nvidia-{}-{}.sock",
            "r".repeat(24),
            "u".repeat(20)
        ));
        if longest.as_os_str().len() > LONGEST_SOCKET_PATH {
            bail!("no room for a socket name in {}", node.kubelet_directory().display());
        }
        node.library_without(&[])?;
        node.edit(|_| ())?;
        let state = node.state();
        state.gpus.iter().try_for_each(|gpu| node.write_numa(gpu, &gpu.pcie.numa.to_string()))?;
        state.gpus.iter().try_for_each(|gpu| node.write_pci(gpu, Some("nvidia")))?;
        devices::write(&node, &state)?;
        node.write_module(Some(&state.driver.version))?;
        Ok(node)
    }

    /// The node's root directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// The kubelet's device plugin directory.
    #[must_use]
    pub fn kubelet_directory(&self) -> PathBuf {
        self.root().join("kubelet")
    }

    /// The registration socket, there or not.
    #[must_use]
    pub fn kubelet_socket(&self) -> PathBuf {
        self.kubelet_directory().join(KUBELET_SOCKET)
    }

    /// The kubelet's podresources socket, there or not.
    #[must_use]
    pub fn pod_resources_socket(&self) -> PathBuf {
        self.root().join("pod-resources").join(KUBELET_SOCKET)
    }

    /// A kubelet on this node, to be changed further and started.
    #[must_use]
    pub fn kubelet(&self) -> KubeletConfig {
        KubeletConfig::new(self.kubelet_directory()).pod_resources(self.pod_resources_socket())
    }

    /// The root of sysfs.
    #[must_use]
    pub fn sysfs(&self) -> PathBuf {
        self.root().join("sys")
    }

    /// The root of procfs.
    #[must_use]
    pub fn proc(&self) -> PathBuf {
        self.root().join("proc")
    }

    /// The host's `/dev`, below the root of the driver installation.
    #[must_use]
    pub fn dev(&self) -> PathBuf {
        self.driver_root().join("dev")
    }

    /// Where the plugin keeps what outlives it; it makes the directory itself.
    #[must_use]
    pub fn state_directory(&self) -> PathBuf {
        self.root().join("state")
    }

    /// Where an administrator quarantines GPUs; the plugin creates the directory itself.
    #[must_use]
    pub fn quarantine_directory(&self) -> PathBuf {
        self.root().join("quarantine")
    }

    /// Where container runtimes find CDI specifications; the plugin creates the directory itself.
    #[must_use]
    pub fn cdi_directory(&self) -> PathBuf {
        self.root().join("cdi")
    }

    /// The root of the driver installation.
    #[must_use]
    pub fn driver_root(&self) -> PathBuf {
        self.root().join("driver")
    }

    /// The library in the driver installation.
    #[must_use]
    pub fn nvml_library(&self) -> PathBuf {
        self.library_directory().join("libnvidia-ml.so.1")
    }

    /// The fake library's state file, where the library looks for it by itself.
    #[must_use]
    pub fn state_file(&self) -> PathBuf {
        self.library_directory().join("fake-nvml.json")
    }

    /// The plugins' sockets that lie in the kubelet's directory now, by name.
    #[must_use]
    pub fn plugin_sockets(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.kubelet_directory()) else { return Vec::new() };
        let sockets = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let mut sockets: Vec<PathBuf> = sockets
            .filter(|path| {
                path.extension().is_some_and(|end| end == "sock") && *path != self.kubelet_socket()
            })
            .collect();
        sockets.sort();
        sockets
    }

    /// The state now.
    #[must_use]
    pub fn state(&self) -> State {
        self.lock().clone()
    }

    /// Changes the state; the library sees the whole change at once.
    ///
    /// # Errors
    /// The file system's.
    pub fn edit<T>(&self, change: impl FnOnce(&mut State) -> T) -> io::Result<T> {
        let mut state = self.lock();
        let result = change(&mut state);
        state.driver.dev_root = Some(self.dev());
        devices::write_instances(self, &state)?;
        state.write(&self.state_file())?;
        Ok(result)
    }

    /// Changes one GPU.
    ///
    /// # Errors
    /// There is no such GPU, or the file system's.
    pub fn edit_gpu<T>(&self, index: usize, change: impl FnOnce(&mut Gpu) -> T) -> io::Result<T> {
        self.edit(|state| state.gpus.get_mut(index).map(change))?
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no GPU {index}")))
    }

    /// The UUID of a GPU.
    ///
    /// # Panics
    /// There is no such GPU.
    #[must_use]
    pub fn uuid(&self, index: usize) -> String {
        self.lock().gpus[index].uuid.clone()
    }

    /// The driver reports an Xid on a GPU.
    ///
    /// # Errors
    /// There is no such GPU, or the file system's.
    pub fn xid(&self, index: usize, xid: u64) -> io::Result<()> {
        let gpu = self.edit_gpu(index, |gpu| gpu.uuid.clone())?;
        let event = Event::xid(&gpu, xid);
        self.edit(|state| state.push_event(event)).map(drop)
    }

    /// A GPU falls off the bus, without an Xid.
    ///
    /// # Errors
    /// There is no such GPU, or the file system's.
    pub fn lose(&self, index: usize) -> io::Result<()> {
        self.edit_gpu(index, |gpu| gpu.lost = true)
    }

    /// A GPU is unbound from the driver, in sysfs and for NVML.
    ///
    /// # Errors
    /// There is no such GPU, or the file system's.
    pub fn unbind(&self, index: usize) -> io::Result<()> {
        let gpu = self.edit_gpu(index, |gpu| gpu.clone())?;
        self.write_pci(&gpu, None)?;
        self.edit_gpu(index, |gpu| gpu.present = false)
    }

    /// A GPU is bound to the driver, in sysfs and for NVML. The driver has it before sysfs says so.
    ///
    /// # Errors
    /// There is no such GPU, or the file system's.
    pub fn bind(&self, index: usize) -> io::Result<()> {
        let gpu = self.edit_gpu(index, |gpu| {
            gpu.present = true;
            gpu.clone()
        })?;
        self.write_pci(&gpu, Some("nvidia"))
    }

    /// A GPU is as new: on the bus, with no errors and nothing pending.
    ///
    /// # Errors
    /// There is no such GPU, or the file system's.
    pub fn restore(&self, index: usize) -> io::Result<()> {
        self.edit_gpu(index, |gpu| {
            gpu.present = true;
            gpu.lost = false;
            gpu.rules.clear();
            gpu.recovery_action = 0;
            gpu.ecc_uncorrected = 0;
            if let Some(rows) = &mut gpu.remapped_rows {
                *rows = fake_nvml::state::RemappedRows::default();
            }
        })
    }

    /// Installs the library again, without these symbols, as an older driver's would be. A process
    /// that has loaded the one before keeps it.
    ///
    /// # Errors
    /// The library does not have one of the symbols, or the file system's.
    pub fn library_without(&self, symbols: &[&str]) -> anyhow::Result<()> {
        let context = || format!("copying {}", self.library.display());
        let mut bytes = fs::read(&self.library).with_context(context)?;
        for symbol in symbols {
            elf::undefine(&mut bytes, symbol).with_context(|| format!("removing {symbol}"))?;
        }
        let next = self.nvml_library().with_extension("next");
        fs::write(&next, bytes).with_context(context)?;
        fs::rename(next, self.nvml_library()).with_context(context)
    }

    fn library_directory(&self) -> PathBuf {
        self.driver_root().join("usr/lib64")
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The system's temporary directory, unless its name would not leave room for a socket's.
fn short_directory() -> PathBuf {
    let directory = env::temp_dir();
    if directory.as_os_str().len() <= 30 { directory } else { PathBuf::from("/tmp") }
}
