//! CDI device names: in an annotation of the container, or in the field of the kubelet's API.

use super::{DeviceListStrategy, Injection, Injector};

/// The vendor of the CDI kinds. It is that of NVIDIA's plugin, so that its specification files
/// can be used.
const VENDOR: &str = "k8s.device-plugin.nvidia.com";
/// What precedes the random UUID in the annotation's key. Both together have 57 characters, of
/// which 63 are allowed.
const KEY: &str = "nvidia-device-plugin_";

impl Injector {
    pub(super) fn cdi(
        &self,
        ids: &[String],
        random: impl FnOnce() -> [u8; 16],
        injection: &mut Injection,
    ) {
        let (annotate, list) =
            (self.has(DeviceListStrategy::CdiAnnotations), self.has(DeviceListStrategy::CdiCri));
        if !annotate && !list {
            return;
        }
        let names = self.cdi_names(ids);
        if annotate && !names.is_empty() {
            let key = format!("{}{KEY}{}", self.annotation_prefix, uuid_v4(random()));
            injection.annotations.insert(key, names.join(","));
        }
        if list {
            injection.cdi_devices = names;
        }
    }

    fn cdi_names(&self, ids: &[String]) -> Vec<String> {
        let name = |class: &str, device: &str| format!("{VENDOR}/{class}={device}");
        let mut names: Vec<String> = ids.iter().map(|id| name("gpu", id)).collect();
        names.extend(self.gives_imex().then(|| name("imex-channel", "0")));
        let classes = [(self.gdrcopy, "gdrcopy"), (self.gds, "gds"), (self.mofed, "mofed")];
        names.extend(
            classes.iter().filter(|(enabled, _)| *enabled).map(|(_, class)| name(class, "all")),
        );
        names
    }
}

/// A random UUID (RFC 9562, version 4) from 16 random bytes.
fn uuid_v4(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = String::with_capacity(36);
    for (place, byte) in bytes.iter().enumerate() {
        if [4, 6, 8, 10].contains(&place) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}
