//! The document in the state file: what of [`PersistedState`] is written, as JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use device::gpu::MigMode;
use device::health::{Epoch, PersistedAges, PersistedCause, PersistedHealth};
use device::identity::{GpuBinding, KnownGpus, MAX_GPUS};
use device::names::Uuid;
use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

/// What is kept over a restart of the plugin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PersistedState {
    /// Causes of bad health that no later reading states again.
    pub health: PersistedHealth,
    /// The GPUs that were seen on the boot.
    pub known_gpus: KnownGpus,
}

/// The version of the document. It goes up when a part gets another meaning. A part that is added
/// changes nothing of it: older plugins keep it for newer ones (see [`super::unknown`]).
pub(super) const VERSION: u32 = 1;
/// The members of the document; others are of a newer version.
pub(super) const MEMBERS: [&str; 7] =
    ["version", "boot", "driver", "gpus", "faultSinceBoot", "statesSinceBoot", "knownGpus"];
/// The most causes of one GPU, which is more than health keeps.
const MAX_CAUSES: usize = 256;
/// The most states of one GPU whose age is kept, which is more than there are.
const MAX_STATES: usize = 32;
/// The longest word for a kind of cause, in bytes.
const LONGEST_WORD: usize = 64;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Document {
    pub(super) version: u32,
    /// The boot id of the node.
    boot: String,
    /// Which loading of the driver it is.
    driver: Option<String>,
    gpus: ByGpu<Vec<Entry>>,
    /// Since when a fault of the node lasts, in seconds since the boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fault_since_boot: Option<u64>,
    /// Since when what is stated again after a restart lasts, in seconds since the boot: by UUID,
    /// then by the word of a cause or a degradation.
    #[serde(default, skip_serializing_if = "ByGpu::is_empty")]
    states_since_boot: ByGpu<BTreeMap<String, u64>>,
    /// The GPUs of the boot, by UUID: read one by one, so that a malformed one costs nothing else.
    #[serde(default, skip_serializing_if = "ByGpu::is_empty")]
    known_gpus: ByGpu<Known>,
}

/// What a document says.
#[derive(Debug, Default)]
pub(super) struct Decoded {
    pub(super) state: PersistedState,
    /// The causes that this version does not know, as they stand.
    pub(super) unknown_causes: BTreeMap<Uuid, Vec<Value>>,
    /// How many entries are passed over, since they are malformed or more than a node can have.
    pub(super) dropped: usize,
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
    /// When it began, in seconds since the boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since_boot: Option<u64>,
    /// What a newer version says of it.
    #[serde(flatten)]
    more: Map<String, Value>,
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
            since_boot: cause.since_boot,
            more: Map::new(),
        };
        let causes = |causes: &Vec<_>| causes.iter().take(MAX_CAUSES).map(entry).collect();
        let gpus = state.health.gpus.iter().map(|(uuid, of)| (uuid.clone(), causes(of)));
        let known = state.known_gpus.gpus.iter();
        Self {
            version: VERSION,
            boot: state.health.epoch.boot.clone(),
            driver: state.health.epoch.driver.clone(),
            gpus: ByGpu::of(gpus),
            fault_since_boot: state.health.ages.fault,
            states_since_boot: ByGpu::of(state.health.ages.gpus.clone().into_iter()),
            known_gpus: ByGpu::of(known.map(|(uuid, of)| (uuid.clone(), Known::from(of)))),
        }
    }
}

impl From<&GpuBinding> for Known {
    fn from(binding: &GpuBinding) -> Self {
        Self {
            index: binding.index,
            pci_bus_id: binding.pci_bus_id.map(|id| id.to_string()),
            mig: match binding.mig_mode {
                MigMode::Unknown => None,
                mode => Some(mode == MigMode::On),
            },
        }
    }
}

impl Document {
    /// What the document says, as far as this version knows it.
    pub(super) fn decode(self) -> Decoded {
        let mut dropped =
            self.gpus.dropped + self.known_gpus.dropped + self.states_since_boot.dropped;
        let mut unknown_causes = BTreeMap::new();
        let mut gpus = BTreeMap::new();
        for (uuid, entries) in self.gpus.entries {
            let count = entries.len();
            let is_word = |entry: &Entry| entry.cause.len() <= LONGEST_WORD;
            let entries = entries.into_iter().filter(is_word).take(MAX_CAUSES);
            let (mut causes, mut unknown) = (Vec::new(), Vec::new());
            for entry in entries {
                let cause = PersistedCause::from(&entry);
                if !cause.is_known() {
                    // An entry is text and numbers: nothing in it can fail to be written.
                    unknown.extend(serde_json::to_value(&entry));
                }
                causes.push(cause);
            }
            dropped += count - causes.len();
            if !unknown.is_empty() {
                unknown_causes.insert(uuid.clone(), unknown);
            }
            gpus.insert(uuid, causes);
        }
        let mut known = BTreeMap::new();
        for (uuid, entry) in self.known_gpus.entries {
            match binding(entry) {
                Some(binding) => drop(known.insert(uuid, binding)),
                None => dropped += 1,
            }
        }
        let mut states = self.states_since_boot.entries;
        for words in states.values_mut() {
            let count = words.len();
            words.retain(|word, _| word.len() <= LONGEST_WORD);
            while words.len() > MAX_STATES {
                words.pop_last();
            }
            dropped += count - words.len();
        }
        let ages = PersistedAges { fault: self.fault_since_boot, gpus: states };
        let known_gpus = KnownGpus { boot: self.boot.clone(), gpus: known };
        let epoch = Epoch { boot: self.boot, driver: self.driver };
        let health = PersistedHealth { epoch, gpus, ages };
        Decoded { state: PersistedState { health, known_gpus }, unknown_causes, dropped }
    }
}

impl From<&Entry> for PersistedCause {
    fn from(entry: &Entry) -> Self {
        Self {
            kind: entry.cause.clone(),
            number: entry.number,
            gpu_instance: entry.gpu_instance,
            compute_instance: entry.compute_instance,
            configured: entry.configured,
            repaired: entry.repaired,
            since_boot: entry.since_boot,
        }
    }
}

fn binding(known: Known) -> Option<GpuBinding> {
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

/// Something of each GPU. It is read entry by entry: what is malformed, or more than a node can
/// have, is counted and kept nowhere.
#[derive(Debug)]
struct ByGpu<T> {
    entries: BTreeMap<Uuid, T>,
    dropped: usize,
}

impl<T> Default for ByGpu<T> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), dropped: 0 }
    }
}

impl<T> ByGpu<T> {
    fn of(entries: impl Iterator<Item = (Uuid, T)>) -> Self {
        Self { entries: entries.take(MAX_GPUS).collect(), dropped: 0 }
    }

    fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl<T: Serialize> Serialize for ByGpu<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.entries.iter().map(|(uuid, entry)| (uuid.as_str(), entry)))
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for ByGpu<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Entries(PhantomData))
    }
}

struct Entries<T>(PhantomData<T>);

impl<'de, T: DeserializeOwned> Visitor<'de> for Entries<T> {
    type Value = ByGpu<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with the UUIDs of GPUs")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ByGpu<T>, A::Error> {
        let mut read = ByGpu::default();
        while let Some(name) = map.next_key::<String>()? {
            match name.parse::<Uuid>() {
                Ok(uuid) if read.entries.len() < MAX_GPUS => {
                    match serde_json::from_value(map.next_value::<Value>()?) {
                        Ok(entry) => drop(read.entries.insert(uuid, entry)),
                        Err(_) => read.dropped += 1,
                    }
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    read.dropped += 1;
                }
            }
        }
        Ok(read)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<ByGpu<T>, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(ByGpu { dropped: 1, ..ByGpu::default() })
    }

    fn visit_str<E>(self, _: &str) -> Result<ByGpu<T>, E> {
        Ok(ByGpu { dropped: 1, ..ByGpu::default() })
    }

    fn visit_unit<E>(self) -> Result<ByGpu<T>, E> {
        Ok(ByGpu::default())
    }
}
