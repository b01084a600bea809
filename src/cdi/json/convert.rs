//! A specification as the types of the device crate have it, and back.

use std::borrow::Cow;
use std::collections::BTreeMap;

use device::cdi::{
    ContainerEdits, HookStage, MountKind, NodeNumbers, SpecHook, SpecMount, SpecNode, Specification,
};
use device::injection::cdi_names::VENDOR;

use super::{Bind, Device, Document, Edits, Hook, Node};

impl From<&Specification> for Document {
    fn from(of: &Specification) -> Self {
        let device = |(name, edits): (&String, &ContainerEdits)| Device {
            name: name.clone(),
            annotations: BTreeMap::new(),
            container_edits: edits.into(),
        };
        let mut document = Self {
            kind: format!("{VENDOR}/{}", of.class),
            cdi_version: String::new(),
            annotations: BTreeMap::new(),
            devices: of.devices.iter().map(device).collect(),
            container_edits: (&of.common).into(),
        };
        document.needed_version().clone_into(&mut document.cdi_version);
        document
    }
}

impl From<&ContainerEdits> for Edits {
    fn from(edits: &ContainerEdits) -> Self {
        Self {
            env: edits.env.clone(),
            device_nodes: edits.nodes.iter().map(Into::into).collect(),
            hooks: edits.hooks.iter().map(Into::into).collect(),
            mounts: edits.mounts.iter().map(Into::into).collect(),
            additional_gids: edits.groups.clone(),
            intel_rdt: None,
        }
    }
}

impl From<&Edits> for ContainerEdits {
    /// What a file of this program says of a device; of another program's, as far as it says the
    /// same.
    fn from(edits: &Edits) -> Self {
        Self {
            env: edits.env.clone(),
            nodes: edits.device_nodes.iter().map(Into::into).collect(),
            hooks: edits.hooks.iter().map(Into::into).collect(),
            mounts: edits.mounts.iter().map(Into::into).collect(),
            groups: edits.additional_gids.clone(),
        }
    }
}

impl From<&SpecNode> for Node {
    fn from(node: &SpecNode) -> Self {
        let numbers = node.numbers;
        Self {
            path: node.path.clone(),
            host_path: (node.host != node.path).then(|| node.host.clone()),
            kind: numbers.map(|_| "c".to_owned()),
            major: numbers.map(|numbers| numbers.major.into()),
            minor: numbers.map(|numbers| numbers.minor.into()),
            file_mode: numbers.map(|numbers| numbers.mode),
            permissions: Some("rwm".to_owned()),
            uid: None,
            gid: numbers.map(|numbers| numbers.gid).filter(|gid| *gid != 0),
        }
    }
}

impl From<&Node> for SpecNode {
    fn from(node: &Node) -> Self {
        let number = |number: Option<i64>| number.and_then(|number| u32::try_from(number).ok());
        let numbers =
            number(node.major).zip(number(node.minor)).map(|(major, minor)| NodeNumbers {
                major,
                minor,
                mode: node.file_mode.unwrap_or(0o666),
                gid: node.gid.unwrap_or(0),
            });
        let path = node.path.clone();
        Self { host: node.host_path.clone().unwrap_or_else(|| path.clone()), path, numbers }
    }
}

impl From<&SpecHook> for Hook {
    fn from(hook: &SpecHook) -> Self {
        Self {
            hook_name: hook.stage.as_str().to_owned(),
            path: hook.path.clone(),
            args: hook.args.clone(),
            env: hook.env.clone(),
            timeout: hook.timeout.map(Into::into),
        }
    }
}

impl From<&Hook> for SpecHook {
    fn from(hook: &Hook) -> Self {
        let stages = [HookStage::CreateRuntime, HookStage::CreateContainer];
        let stage = stages.into_iter().find(|stage| stage.as_str() == hook.hook_name);
        Self {
            stage: stage.unwrap_or_default(),
            path: hook.path.clone(),
            args: hook.args.clone(),
            env: hook.env.clone(),
            timeout: hook.timeout.and_then(|seconds| u32::try_from(seconds).ok()),
        }
    }
}

impl From<&SpecMount> for Bind {
    fn from(mount: &SpecMount) -> Self {
        let options = mount.kind.options();
        Self {
            host_path: mount.host.clone(),
            container_path: mount.container.clone(),
            options: options.iter().copied().map(Cow::Borrowed).collect(),
            kind: None,
        }
    }
}

impl From<&Bind> for SpecMount {
    fn from(mount: &Bind) -> Self {
        let is_read_only = mount.options.iter().any(|option| option == "ro");
        Self {
            host: mount.host_path.clone(),
            container: mount.container_path.clone(),
            kind: if is_read_only { MountKind::File } else { MountKind::Socket },
        }
    }
}
