//! What the kubelet makes of a plugin's answers, and what is wrong with them.

use std::collections::BTreeSet;

use super::manager::Manager;
use super::violations::ViolationKind;
use crate::proto::{ContainerAllocateResponse, ContainerPreferredAllocationRequest};

/// Notes a preferred allocation that is not a choice from what was offered.
pub(super) fn audit_preferred(
    manager: &mut Manager,
    resource: &str,
    asked: &ContainerPreferredAllocationRequest,
    answer: &[String],
) {
    let set: BTreeSet<&String> = answer.iter().collect();
    let right = set.len() == answer.len()
        && i32::try_from(answer.len()) == Ok(asked.allocation_size)
        && answer.iter().all(|id| asked.available_device_ids.contains(id))
        && asked.must_include_device_ids.iter().all(|id| set.contains(id));
    if !right {
        let detail = format!(
            "{} of [{}] wanted, got [{}]",
            asked.allocation_size,
            asked.available_device_ids.join(" "),
            answer.join(" ")
        );
        manager.violations.record(ViolationKind::PreferredAnswer, resource, detail);
    }
}

/// What a runtime would stumble over.
pub(super) fn audit_answer(
    manager: &mut Manager,
    resource: &str,
    answer: &ContainerAllocateResponse,
) {
    let mut wrong = Vec::new();
    for (name, value) in &answer.envs {
        // What the environment of a process cannot hold (environ(7)).
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            wrong.push(format!("variable {name:?} with the value {value:?}"));
        }
    }
    let mut places = BTreeSet::new();
    for mount in &answer.mounts {
        if !mount.host_path.starts_with('/') || !mount.container_path.starts_with('/') {
            wrong.push(format!(
                "mount {} on {} is not absolute",
                mount.host_path, mount.container_path
            ));
        }
        if !places.insert(&mount.container_path) {
            wrong.push(format!("two mounts on {}", mount.container_path));
        }
    }
    let mut places = BTreeSet::new();
    for device in &answer.devices {
        if !device.host_path.starts_with('/') || !device.container_path.starts_with('/') {
            wrong.push(format!(
                "device {} at {} is not absolute",
                device.host_path, device.container_path
            ));
        }
        if device.permissions.is_empty()
            || !device.permissions.chars().all(|letter| "rwm".contains(letter))
        {
            wrong.push(format!(
                "device {} has permissions {:?}",
                device.host_path, device.permissions
            ));
        }
        if !places.insert(&device.container_path) {
            wrong.push(format!("two devices at {}", device.container_path));
        }
    }
    let mut names = BTreeSet::new();
    for device in &answer.cdi_devices {
        let parts = device
            .name
            .split_once('=')
            .and_then(|(kind, name)| Some((kind.split_once('/')?, name)));
        if !matches!(parts, Some(((vendor, class), name)) if ![vendor, class, name].contains(&"")) {
            wrong.push(format!("CDI name {:?} is not vendor/class=name", device.name));
        }
        if !names.insert(&device.name) {
            wrong.push(format!("CDI name {:?} twice", device.name));
        }
    }
    for detail in wrong {
        manager.violations.record(ViolationKind::AllocateAnswer, resource, detail);
    }
}

/// The first one wins; CDI names are a set.
pub(super) fn merge(merged: &mut ContainerAllocateResponse, answer: ContainerAllocateResponse) {
    for (key, value) in answer.envs {
        merged.envs.entry(key).or_insert(value);
    }
    for (key, value) in answer.annotations {
        merged.annotations.entry(key).or_insert(value);
    }
    for mount in answer.mounts {
        if merged.mounts.iter().all(|before| before.container_path != mount.container_path) {
            merged.mounts.push(mount);
        }
    }
    for device in answer.devices {
        if merged.devices.iter().all(|before| before.container_path != device.container_path) {
            merged.devices.push(device);
        }
    }
    for device in answer.cdi_devices {
        if !merged.cdi_devices.contains(&device) {
            merged.cdi_devices.push(device);
        }
    }
}
