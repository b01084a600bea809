//! The state file: what the simulated driver and its GPUs are like at this moment.
//!
//! The library reads it at `nvmlInit` and again whenever it changes. Write it whole and rename it
//! into place ([`State::write`]), so that a reader never sees half of it.

use std::path::Path;
use std::{fs, io};

use serde::{Deserialize, Serialize};

mod driver;
mod event;
mod gpu;
mod links;
mod mig;
mod rule;

pub use driver::{DeafenedBy, Driver};
pub use event::{Event, event_type};
pub use gpu::{Gpu, PciePlace, RemappedRows};
pub use links::{Fabric, NvLink};
pub use mig::{Mig, MigDevice};
pub use rule::{Blocks, Rule};

/// Everything the fake knows. Every field has a default, so a file of `{}` is a loaded driver
/// without GPUs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct State {
    /// The driver and the library.
    pub driver: Driver,
    /// How calls go wrong, whichever GPU they are about.
    pub rules: Vec<Rule>,
    /// The GPUs, in NVML's index order.
    pub gpus: Vec<Gpu>,
    /// What happens: each event is delivered once, to the event sets registered at the moment it is
    /// first read.
    pub events: Vec<Event>,
}

impl State {
    /// Reads a state file.
    ///
    /// # Errors
    /// The file cannot be read, or is not a state.
    pub fn read(path: &Path) -> io::Result<Self> {
        serde_json::from_slice(&fs::read(path)?).map_err(io::Error::from)
    }

    /// Writes the state beside `path` and renames it into place.
    ///
    /// # Errors
    /// The file system's.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let next = path.with_extension("next");
        fs::write(&next, serde_json::to_vec_pretty(self)?)?;
        fs::rename(&next, path)
    }

    /// Appends an event with the next sequence number, which it returns.
    pub fn push_event(&mut self, mut event: Event) -> u64 {
        event.seq = self.events.iter().map(|event| event.seq).max().unwrap_or(0) + 1;
        let seq = event.seq;
        self.events.push(event);
        seq
    }
}
