//! The document in the state file: what of [`PersistedState`] is written, as JSON.

use std::collections::BTreeMap;

use device::gpu::MigMode;
use device::health::{Epoch, PersistedCause, PersistedHealth};
use device::identity::{GpuBinding, KnownGpus, MAX_GPUS};
use device::names::Uuid;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What is kept over a restart of the plugin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PersistedState {
    /// Causes of bad health that no later reading states again.
    pub health: PersistedHealth,
    /// The GPUs that were seen on the boot.
    pub known_gpus: KnownGpus,
}

/// The version of the document. A part that older plugins pass over changes nothing of it.
pub(super) const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Document {
    pub(super) version: u32,
    /// The boot id of the node.
    boot: String,
    /// Which loading of the driver it is.
    driver: Option<String>,
    gpus: BTreeMap<String, Vec<Entry>>,
    /// The GPUs of the boot, by UUID: read one by one, so that a malformed one costs nothing else.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    known_gpus: Value,
}

/// What is kept of a GPU for the boot.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Known {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    index: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pci_bus_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mig: Option<bool>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    cause: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    number: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gpu_instance: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    compute_instance: Option<u32>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    configured: bool,
    #[serde(default)]
    repaired: bool,
}

impl From<&PersistedState> for Document {
    fn from(state: &PersistedState) -> Self {
        let entry = |cause: &PersistedCause| Entry {
            cause: cause.kind.clone(),
            number: cause.number,
            gpu_instance: cause.gpu_instance,
            compute_instance: cause.compute_instance,
            configured: cause.configured,
            repaired: cause.repaired,
        };
        let gpus = state.health.gpus.iter();
        Self {
            version: VERSION,
            boot: state.health.epoch.boot.clone(),
            driver: state.health.epoch.driver.clone(),
            gpus: gpus
                .map(|(uuid, causes)| (uuid.to_string(), causes.iter().map(entry).collect()))
                .collect(),
            known_gpus: known_gpus(&state.known_gpus),
        }
    }
}

fn known_gpus(known: &KnownGpus) -> Value {
    let entry = |(uuid, binding): (&Uuid, &GpuBinding)| {
        let known = Known {
            index: binding.index,
            pci_bus_id: binding.pci_bus_id.map(|id| id.to_string()),
            mig: match binding.mig_mode {
                MigMode::Unknown => None,
                mode => Some(mode == MigMode::On),
            },
        };
        Some((uuid.to_string(), serde_json::to_value(known).ok()?))
    };
    let gpus = known.gpus.iter().take(MAX_GPUS);
    Value::Object(gpus.filter_map(entry).collect())
}

impl Document {
    /// What is kept, and how many entries are not, since they are malformed or more than a node
    /// can have.
    pub(super) fn into_state(self) -> (PersistedState, usize) {
        let boot = self.boot.clone();
        let (known, mut dropped) = read_known_gpus(self.known_gpus);
        let cause = |entry: Entry| PersistedCause {
            kind: entry.cause,
            number: entry.number,
            gpu_instance: entry.gpu_instance,
            compute_instance: entry.compute_instance,
            configured: entry.configured,
            repaired: entry.repaired,
        };
        let mut gpus = BTreeMap::new();
        for (uuid, causes) in self.gpus {
            match uuid.parse() {
                Ok(uuid) if gpus.len() < MAX_GPUS => {
                    gpus.insert(uuid, causes.into_iter().map(cause).collect());
                }
                _ => dropped += 1,
            }
        }
        let epoch = Epoch { boot: self.boot, driver: self.driver };
        let known_gpus = KnownGpus { boot, gpus: known };
        (PersistedState { health: PersistedHealth { epoch, gpus }, known_gpus }, dropped)
    }
}

fn read_known_gpus(value: Value) -> (BTreeMap<Uuid, GpuBinding>, usize) {
    let entries = match value {
        Value::Object(entries) => entries,
        Value::Null => return Default::default(),
        _ => return (BTreeMap::new(), 1),
    };
    let count = entries.len();
    let gpus: BTreeMap<Uuid, GpuBinding> = entries
        .into_iter()
        .filter_map(|(uuid, value)| Some((uuid.parse().ok()?, binding(value)?)))
        .take(MAX_GPUS)
        .collect();
    let dropped = count - gpus.len();
    (gpus, dropped)
}

fn binding(value: Value) -> Option<GpuBinding> {
    let known: Known = serde_json::from_value(value).ok()?;
    let pci_bus_id = match known.pci_bus_id {
        Some(text) => Some(text.parse().ok()?),
        None => None,
    };
    let mig_mode = match known.mig {
        Some(true) => MigMode::On,
        Some(false) => MigMode::Off,
        None => MigMode::Unknown,
    };
    Some(GpuBinding { index: known.index, pci_bus_id, mig_mode })
}
