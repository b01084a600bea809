//! What there is and what fails, as a file; and the trace beside it.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What there is and what fails.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Behaviour {
    /// The protocol that the daemon speaks where nothing asks for another one: 2 or 3.
    pub protocol: u32,
    /// The GPUs.
    pub gpus: Vec<Gpu>,
    /// What goes wrong: by the name of a command (`quit`), by `start` for a start of the daemon, by
    /// `client` for the control program, by `nvidia-smi`, or by `nvidia-smi GPU-...` for one GPU.
    pub faults: BTreeMap<String, Fault>,
}

/// A GPU of the node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Gpu {
    /// Its identity.
    pub uuid: String,
    /// Its place on the bus.
    pub pci_bus_id: String,
    /// Its memory in MiB.
    pub memory_mib: u64,
    /// How fast CUDA takes it to be: the fastest comes first, where nothing asks for another order.
    pub speed: u32,
}

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Fault {
    /// It says this and fails.
    Refuse(String),
    /// It never returns.
    Hang,
    /// It takes so many milliseconds.
    Slow(u64),
    /// Its process ends, by a signal.
    Die,
}

impl Behaviour {
    /// Writes it to a file, which is seen whole.
    ///
    /// # Errors
    /// The file system's.
    pub fn write(&self, file: &Path) -> io::Result<()> {
        let next = file.with_extension("next");
        fs::write(&next, serde_json::to_vec_pretty(self)?)?;
        fs::rename(next, file)
    }

    /// Reads it.
    ///
    /// # Errors
    /// It is not there, or is no behaviour.
    pub fn read(file: &Path) -> io::Result<Self> {
        Ok(serde_json::from_slice(&fs::read(file)?)?)
    }

    /// Does what is to go wrong with a step: returns with what it says, after its time, or never.
    pub(crate) fn suffer(&self, step: &str) -> Result<(), String> {
        match self.faults.get(step) {
            None => Ok(()),
            Some(Fault::Refuse(text)) => Err(text.clone()),
            Some(Fault::Slow(millis)) => {
                thread::sleep(Duration::from_millis(*millis));
                Ok(())
            }
            Some(Fault::Hang) => loop {
                thread::park();
            },
            Some(Fault::Die) => std::process::abort(),
        }
    }

    /// The GPUs that CUDA numbers from 0, in its order: those of `CUDA_VISIBLE_DEVICES`, up to the
    /// first that is not there; else all, the fastest first, or by their bus where
    /// `CUDA_DEVICE_ORDER` says so.
    pub(crate) fn devices(&self, environment: &BTreeMap<String, String>) -> Vec<Gpu> {
        let mut all = self.gpus.clone();
        match environment.get("CUDA_DEVICE_ORDER").map(String::as_str) {
            Some("PCI_BUS_ID") => all.sort_by(|a, b| a.pci_bus_id.cmp(&b.pci_bus_id)),
            _ => all.sort_by(|a, b| (b.speed, &a.uuid).cmp(&(a.speed, &b.uuid))),
        }
        let Some(visible) = environment.get("CUDA_VISIBLE_DEVICES") else { return all };
        let named = |word: &str| match word.parse::<usize>() {
            Ok(number) => all.get(number).cloned(),
            Err(_) => all.iter().find(|gpu| gpu.uuid == word).cloned(),
        };
        visible.split(',').map_while(named).collect()
    }
}

/// Adds a line to the trace.
pub(crate) fn trace(behaviour: &Path, line: &str) {
    let file = trace_file(behaviour);
    let opened = OpenOptions::new().create(true).append(true).open(file);
    // One write, so that lines of several processes do not mix.
    let _ = opened.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
}

/// The file of the trace.
fn trace_file(behaviour: &Path) -> PathBuf {
    behaviour.with_file_name("trace")
}
