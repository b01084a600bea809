//! The document in the state file: what of [`PersistedHealth`] is written, as JSON.

use std::collections::BTreeMap;

use device::health::{Epoch, PersistedCause, PersistedHealth};
use serde::{Deserialize, Serialize};

/// The version of the document.
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
    #[serde(default)]
    repaired: bool,
}

impl From<&PersistedHealth> for Document {
    fn from(remembered: &PersistedHealth) -> Self {
        let entry = |cause: &PersistedCause| Entry {
            cause: cause.kind.clone(),
            number: cause.number,
            gpu_instance: cause.gpu_instance,
            compute_instance: cause.compute_instance,
            repaired: cause.repaired,
        };
        let gpus = remembered.gpus.iter();
        Self {
            version: VERSION,
            boot: remembered.epoch.boot.clone(),
            driver: remembered.epoch.driver.clone(),
            gpus: gpus
                .map(|(uuid, causes)| (uuid.to_string(), causes.iter().map(entry).collect()))
                .collect(),
        }
    }
}

impl From<Document> for PersistedHealth {
    /// A GPU whose name is not a UUID is left out.
    fn from(document: Document) -> Self {
        let cause = |entry: Entry| PersistedCause {
            kind: entry.cause,
            number: entry.number,
            gpu_instance: entry.gpu_instance,
            compute_instance: entry.compute_instance,
            repaired: entry.repaired,
        };
        let gpus = document.gpus.into_iter();
        Self {
            epoch: Epoch { boot: document.boot, driver: document.driver },
            gpus: gpus
                .filter_map(|(uuid, causes)| {
                    Some((uuid.parse().ok()?, causes.into_iter().map(cause).collect()))
                })
                .collect(),
        }
    }
}
