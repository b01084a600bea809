//! The configuration of NVIDIA's container runtime.

use std::path::Path;

use super::files::{text, toml, within};
use crate::doctor::facts::ToolkitConfig;

const CONFIGS: [&str; 2] = [
    "etc/nvidia-container-runtime/config.toml",
    "usr/local/nvidia/toolkit/.config/nvidia-container-runtime/config.toml",
];

pub(super) fn toolkit(root: &Path) -> Option<ToolkitConfig> {
    let file = CONFIGS.iter().map(|place| within(root, place)).find(|file| file.is_file())?;
    let document = text(&file).and_then(|text| toml(&text));
    let setting =
        |name: &str| document.as_ref().ok().and_then(|document| document.get(name)?.as_bool());
    Some(ToolkitConfig {
        volume_mounts: setting("accept-nvidia-visible-devices-as-volume-mounts"),
        envvar: setting("accept-nvidia-visible-devices-envvar-when-unprivileged"),
        problem: document.as_ref().err().cloned(),
        file,
    })
}
