//! The compute mode of GPUs, by the host's `nvidia-smi`: NVML would be open in this process for
//! good, and a GPU that is open is not reset.
//!
//! With MPS it is EXCLUSIVE_PROCESS, so that no process uses a GPU beside the server (NVIDIA,
//! "Multi-Process Service", 3.3.1). What it was before is kept in a file, so that it is restored
//! also after a supervisor that was killed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use device::names::Uuid;

use crate::host::file::{self, Links};
use crate::mps::client;
use crate::mps::programs::DriverPrograms;

/// The program.
const SMI: &str = "nvidia-smi";
/// The mode under MPS.
const EXCLUSIVE: &str = "EXCLUSIVE_PROCESS";
/// All modes, as they are set.
const MODES: [&str; 3] = ["DEFAULT", EXCLUSIVE, "PROHIBITED"];
/// How long it may take: without persistence mode it initialises the GPU.
const DEADLINE: Duration = Duration::from_secs(20);
/// The file with the modes of before.
const FILE: &str = "compute-modes.json";
/// The most bytes of it: 1,024 GPUs make 64 KB.
const MAX_BYTES: usize = 256 << 10;

/// The modes of the GPUs of one resource.
#[derive(Debug)]
pub(super) struct ComputeModes {
    programs: DriverPrograms,
    file: PathBuf,
}

impl ComputeModes {
    /// Of the resource with this directory.
    pub(super) fn new(programs: DriverPrograms, directory: &Path) -> Self {
        Self { programs, file: directory.join(FILE) }
    }

    /// Gives only MPS the use of a GPU.
    ///
    /// # Errors
    /// nvidia-smi cannot be run, or says why; or what was before cannot be kept.
    pub(super) async fn set_exclusive(&self, gpu: &Uuid) -> Result<(), String> {
        let mut before = self.before();
        if !before.contains_key(gpu.as_str()) {
            before.insert(gpu.to_string(), self.mode(gpu).await?);
            self.keep(&before)?;
        }
        self.set(gpu, EXCLUSIVE).await
    }

    /// Sets the mode of before.
    ///
    /// # Errors
    /// As of [`ComputeModes::set_exclusive`].
    pub(super) async fn restore(&self, gpu: &Uuid) -> Result<(), String> {
        let mut before = self.before();
        let mode = before.remove(gpu.as_str()).unwrap_or_default();
        let known = MODES.into_iter().find(|known| *known == mode);
        self.set(gpu, known.unwrap_or(MODES[0])).await?;
        self.keep(&before)
    }

    async fn mode(&self, gpu: &Uuid) -> Result<String, String> {
        let query = ["--query-gpu=compute_mode", "--format=csv,noheader"];
        let text = self.run(&["-i", gpu.as_str(), query[0], query[1]]).await?;
        let mode = text.trim().to_uppercase();
        let known = MODES.contains(&mode.as_str());
        known.then_some(mode).ok_or_else(|| format!("{SMI} says no compute mode of {gpu}: {text}"))
    }

    async fn set(&self, gpu: &Uuid, mode: &str) -> Result<(), String> {
        self.run(&["-i", gpu.as_str(), "-c", mode]).await.map(drop)
    }

    async fn run(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = self.programs.command(SMI);
        command.args(arguments);
        let words = || format!("{SMI} {}", arguments.join(" "));
        let written = client::run(command, &[], DEADLINE).await;
        let written = written.map_err(|error| format!("cannot run {}: {error}", words()))?;
        match written.status.success() {
            true => Ok(written.output),
            false => Err(format!("{}: {}", words(), written.in_words())),
        }
    }

    /// What is not readable is as if nothing was kept.
    fn before(&self) -> BTreeMap<String, String> {
        let bytes = file::read(&self.file, Links::Refuse, MAX_BYTES).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    fn keep(&self, modes: &BTreeMap<String, String>) -> Result<(), String> {
        let bytes = serde_json::to_vec(modes).map_err(|error| error.to_string())?;
        let kept = file::replace(&self.file, &bytes, 0o644);
        kept.map_err(|error| format!("{}: {error}", self.file.display()))
    }
}
