//! `kubelet_internal_checkpoint`: which pod holds which devices, and which resources were
//! registered.

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
    pod_device_entries: Option<Vec<Entry>>,
    registered_devices: BTreeMap<String, Option<Vec<String>>>,
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
    device_ids: BTreeMap<i64, Option<Vec<String>>>,
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
        let file: File =
            serde_json::from_slice(&fs::read(directory.join(CHECKPOINT)).ok()?).ok()?;
        if checksum(&file.data)? != file.checksum {
            return None;
        }
        let pods = file
            .data
            .pod_device_entries
            .into_iter()
            .flatten()
            .map(from_entry)
            .collect::<Option<_>>()?;
        Some(Restored { pods, resources: file.data.registered_devices.into_keys().collect() })
    };
    restored().unwrap_or_default()
}

/// Writes the checkpoint as the kubelet does: a nameless temporary file in the same directory, then
/// a rename, so a watcher of the directory sees both each time.
pub(crate) fn write(
    directory: &Path,
    pods: &[PodDevices],
    healthy: BTreeMap<String, Vec<String>>,
    random: &mut Random,
) -> io::Result<()> {
    let entries: Vec<_> = pods.iter().map(to_entry).collect();
    let data = Data {
        // The kubelet appends to a slice that it never makes: without pods it is none.
        pod_device_entries: Some(entries).filter(|entries| !entries.is_empty()),
        registered_devices: healthy.into_iter().map(|(name, ids)| (name, Some(ids))).collect(),
    };
    let checksum =
        checksum(&data).ok_or_else(|| io::Error::other("our own base64 cannot be read"))?;
    let temporary = directory.join(format!(".{}", random.next() % 1_000_000_000));
    fs::write(&temporary, serde_json::to_vec(&File { data, checksum })?)?;
    fs::rename(temporary, directory.join(CHECKPOINT))
}

fn to_entry(devices: &PodDevices) -> Entry {
    Entry {
        pod_uid: devices.pod.clone(),
        container_name: devices.container.clone(),
        resource_name: devices.resource.clone(),
        device_ids: devices.by_numa.iter().map(|(node, ids)| (*node, Some(ids.clone()))).collect(),
        alloc_resp: STANDARD.encode(devices.answer.encode_to_vec()),
    }
}

fn from_entry(entry: Entry) -> Option<PodDevices> {
    Some(PodDevices {
        pod: entry.pod_uid,
        container: entry.container_name,
        resource: entry.resource_name,
        by_numa: entry
            .device_ids
            .into_iter()
            .map(|(node, ids)| (node, ids.unwrap_or_default()))
            .collect(),
        answer: ContainerAllocateResponse::decode(&STANDARD.decode(entry.alloc_resp).ok()?[..])
            .ok()?,
    })
}

/// The kubelet's checksum: FNV-1a over its own data as Go's printer shows it, types and field names
/// included (pkg/kubelet/checkpointmanager/checksum, pkg/util/hash). A file that a real kubelet has
/// written passes.
fn checksum(data: &Data) -> Option<u64> {
    let entries = data
        .pod_device_entries
        .as_ref()
        .map(|entries| entries.iter().map(shown).collect::<Option<Vec<_>>>());
    let entries = match entries {
        None => None,
        Some(entries) => Some(entries?),
    };
    let registered = data
        .registered_devices
        .iter()
        .map(|(name, ids)| format!("{name}:{}", slice(ids.as_deref())));
    let text = format!(
        "(checkpoint.checkpointData){{PodDeviceEntries:([]checkpoint.PodDevicesEntry){} \
         RegisteredDevices:(map[string][]string)map[{}]}}",
        slice(entries.as_deref()),
        registered.collect::<Vec<_>>().join(" ")
    );
    let hash = text
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    Some(u64::from(hash))
}

/// An entry as Go's printer shows it. The answer is bytes there, and base64 only in the file.
fn shown(entry: &Entry) -> Option<String> {
    let ids =
        entry.device_ids.iter().map(|(node, ids)| format!("{node}:{}", slice(ids.as_deref())));
    let answer = STANDARD.decode(&entry.alloc_resp).ok()?;
    let answer: Vec<String> = answer.iter().map(ToString::to_string).collect();
    Some(format!(
        "{{PodUID:(string){} ContainerName:(string){} ResourceName:(string){} \
         DeviceIDs:(checkpoint.DevicesPerNUMA)map[{}] AllocResp:([]uint8){}}}",
        entry.pod_uid,
        entry.container_name,
        entry.resource_name,
        ids.collect::<Vec<_>>().join(" "),
        slice(Some(&answer))
    ))
}

/// A slice as Go's printer shows it; one that was never made is no empty one.
fn slice(items: Option<&[String]>) -> String {
    items.map_or_else(|| "<nil>".to_owned(), |items| format!("[{}]", items.join(" ")))
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
        assert!(
            text.contains(r#""PodDeviceEntries":[{"PodUID":"uid","ContainerName":"main""#),
            "{text}"
        );
        assert!(text.contains(r#""DeviceIDs":{"-1":["GPU-1"]}"#), "{text}");
        assert!(text.contains(r#""RegisteredDevices":{"nvidia.com/gpu":["GPU-1"]}"#), "{text}");
        assert_eq!(
            fs::read_dir(directory.path()).expect("readable").count(),
            1,
            "no temporary file is left"
        );

        let restored = read(directory.path());
        assert_eq!(restored.pods, pods);
        assert_eq!(restored.resources, ["nvidia.com/gpu"]);

        fs::write(&path, text.replace("GPU-1", "GPU-2")).expect("written");
        assert!(read(directory.path()).pods.is_empty());
    }

    #[test]
    fn files_of_real_kubelets_pass() {
        // One GPU on a Jetson, as a kubelet wrote it with NVIDIA's plugin, and a kubelet without
        // any pod.
        let one = concat!(
            r#"{"Data":{"PodDeviceEntries":[{"PodUID":"bf52b2cd-b611-4e79-86b1-280b283185c3","#,
            r#""ContainerName":"check","ResourceName":"nvidia.com/gpu","#,
            r#""DeviceIDs":{"-1":["tegra"]},"#,
            r#""AllocResp":"Ch8KFk5WSURJQV9WSVNJQkxFX0RFVklDRVMSBXRlZ3Jh"}],"#,
            r#""RegisteredDevices":{"nvidia.com/gpu":["tegra"]}},"#,
            r#""Checksum":3660592824}"#,
        );
        let directory = tempfile::tempdir().expect("a temporary directory");
        fs::write(directory.path().join(CHECKPOINT), one).expect("written");
        let restored = read(directory.path());
        assert_eq!(restored.resources, ["nvidia.com/gpu"]);
        assert_eq!(restored.pods[0].answer.envs["NVIDIA_VISIBLE_DEVICES"], "tegra");

        write(
            directory.path(),
            &restored.pods,
            BTreeMap::from([("nvidia.com/gpu".to_owned(), vec!["tegra".to_owned()])]),
            &mut Random::new(1),
        )
        .expect("written");
        assert_eq!(
            fs::read_to_string(directory.path().join(CHECKPOINT)).expect("readable"),
            one,
            "byte for byte"
        );
    }
}
