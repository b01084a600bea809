//! `kubelet_internal_checkpoint`: which pod holds which devices, and which resources were registered.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::{fs, io};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost::Message;
use serde::{Deserialize, Serialize};

use super::random::Random;
use crate::proto::ContainerAllocateResponse;

/// The checkpoint's file name in the device plugin directory.
pub const CHECKPOINT: &str = "kubelet_internal_checkpoint";

/// One container's devices of one resource.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PodDevices {
    pub(crate) pod: String,
    pub(crate) container: String,
    pub(crate) resource: String,
    /// By NUMA node, -1 for none; a device of several nodes stands under each.
    pub(crate) by_numa: BTreeMap<i64, Vec<String>>,
    /// The plugin's answer, used again for every start of the container.
    pub(crate) answer: ContainerAllocateResponse,
}

impl PodDevices {
    pub(crate) fn ids(&self) -> BTreeSet<String> {
        self.by_numa.values().flatten().cloned().collect()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct File {
    data: Data,
    checksum: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Data {
    pod_device_entries: Vec<Entry>,
    registered_devices: BTreeMap<String, Vec<String>>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    #[serde(rename = "PodUID")]
    pod_uid: String,
    #[serde(rename = "ContainerName")]
    container_name: String,
    #[serde(rename = "ResourceName")]
    resource_name: String,
    #[serde(rename = "DeviceIDs")]
    device_ids: BTreeMap<i64, Vec<String>>,
    #[serde(rename = "AllocResp")]
    alloc_resp: String,
}

/// What a kubelet reads when it starts.
#[derive(Debug, Default)]
pub(crate) struct Restored {
    pub(crate) pods: Vec<PodDevices>,
    pub(crate) resources: Vec<String>,
}

/// Reads the checkpoint. An absent or corrupt one is as good as none.
pub(crate) fn read(directory: &Path) -> Restored {
    let restored = || {
        let file: File = serde_json::from_slice(&fs::read(directory.join(CHECKPOINT)).ok()?).ok()?;
        if checksum(&file.data) != file.checksum {
            return None;
        }
        let pods = file.data.pod_device_entries.into_iter().map(from_entry).collect::<Option<_>>()?;
        Some(Restored { pods, resources: file.data.registered_devices.into_keys().collect() })
    };
    restored().unwrap_or_default()
}

/// Writes the checkpoint as the kubelet does: a nameless temporary file in the same directory, then a rename, so a
/// watcher of the directory sees both each time.
pub(crate) fn write(
    directory: &Path,
    pods: &[PodDevices],
    healthy: BTreeMap<String, Vec<String>>,
    random: &mut Random,
) -> io::Result<()> {
    let data = Data { pod_device_entries: pods.iter().map(to_entry).collect(), registered_devices: healthy };
    let checksum = checksum(&data);
    let temporary = directory.join(format!(".{}", random.next() % 1_000_000_000));
    fs::write(&temporary, serde_json::to_vec(&File { data, checksum })?)?;
    fs::rename(temporary, directory.join(CHECKPOINT))
}

fn to_entry(devices: &PodDevices) -> Entry {
    Entry {
        pod_uid: devices.pod.clone(),
        container_name: devices.container.clone(),
        resource_name: devices.resource.clone(),
        device_ids: devices.by_numa.clone(),
        alloc_resp: STANDARD.encode(devices.answer.encode_to_vec()),
    }
}

fn from_entry(entry: Entry) -> Option<PodDevices> {
    Some(PodDevices {
        pod: entry.pod_uid,
        container: entry.container_name,
        resource: entry.resource_name,
        by_numa: entry.device_ids,
        answer: ContainerAllocateResponse::decode(&STANDARD.decode(entry.alloc_resp).ok()?[..]).ok()?,
    })
}

/// FNV-1a over the data's text. The kubelet hashes its own in-memory form, which only it can compute.
fn checksum(data: &Data) -> u64 {
    let text = serde_json::to_vec(data).expect("maps and strings are always JSON");
    let hash = text.iter().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    u64::from(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_a_restart_and_not_a_corruption() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let answer = ContainerAllocateResponse {
            envs: BTreeMap::from([("NVIDIA_VISIBLE_DEVICES".to_owned(), "GPU-1".to_owned())]),
            ..ContainerAllocateResponse::default()
        };
        let pods = vec![PodDevices {
            pod: "uid".to_owned(),
            container: "main".to_owned(),
            resource: "nvidia.com/gpu".to_owned(),
            by_numa: BTreeMap::from([(-1, vec!["GPU-1".to_owned()])]),
            answer,
        }];
        let healthy = BTreeMap::from([("nvidia.com/gpu".to_owned(), vec!["GPU-1".to_owned()])]);
        write(directory.path(), &pods, healthy, &mut Random::new(1)).expect("written");

        let path = directory.path().join(CHECKPOINT);
        let text = fs::read_to_string(&path).expect("readable");
        assert!(text.contains(r#""PodDeviceEntries":[{"PodUID":"uid","ContainerName":"main""#), "{text}");
        assert!(text.contains(r#""DeviceIDs":{"-1":["GPU-1"]}"#), "{text}");
        assert!(text.contains(r#""RegisteredDevices":{"nvidia.com/gpu":["GPU-1"]}"#), "{text}");
        assert_eq!(fs::read_dir(directory.path()).expect("readable").count(), 1, "no temporary file is left");

        let restored = read(directory.path());
        assert_eq!(restored.pods, pods);
        assert_eq!(restored.resources, ["nvidia.com/gpu"]);

        fs::write(&path, text.replace("GPU-1", "GPU-2")).expect("written");
        assert!(read(directory.path()).pods.is_empty());
    }
}
