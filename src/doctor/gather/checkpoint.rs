//! The kubelet's checkpoint.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;

/// The largest checkpoint that is read, in bytes: 2,048 devices make 100 KiB.
const MAX_SIZE: u64 = 16 << 20;

#[derive(Deserialize)]
struct Checkpoint {
    #[serde(rename = "Data")]
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    #[serde(rename = "RegisteredDevices")]
    registered: Option<BTreeMap<String, Option<Vec<String>>>>,
}

/// How many devices of each resource a checkpoint has. The kubelet writes the Healthy ones.
pub(super) fn devices(file: &Path) -> Result<BTreeMap<String, usize>, String> {
    let size = fs::metadata(file).map_err(|error| error.to_string())?.len();
    if size > MAX_SIZE {
        return Err(format!("{size} bytes, which is no checkpoint"));
    }
    let bytes = fs::read(file).map_err(|error| error.to_string())?;
    let checkpoint: Checkpoint =
        serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    let registered = checkpoint.data.registered.unwrap_or_default().into_iter();
    Ok(registered
        .map(|(name, devices)| (name, devices.map_or(0, |devices| devices.len())))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_has_the_number_of_devices_of_each_resource() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("checkpoint");
        assert!(devices(&file).unwrap_err().contains("No such file"));
        fs::write(
            &file,
            r#"{"Data":{"PodDeviceEntries":null,"RegisteredDevices":{"nvidia.com/gpu":["a","b"],
            "x/y":null}},"Checksum":1}"#,
        )
        .unwrap();
        let expected = BTreeMap::from([("nvidia.com/gpu".to_owned(), 2), ("x/y".to_owned(), 0)]);
        assert_eq!(devices(&file).unwrap(), expected);
        fs::write(&file, "{").unwrap();
        assert!(devices(&file).is_err());
    }
}
