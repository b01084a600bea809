//! Whether a file is a specification that runtimes accept: the published fields of CDI up to 0.7.0,
//! and the rules about them (github.com/cncf-tags/container-device-interface, SPEC.md).

use std::collections::BTreeSet;

use super::json::{Document, Edits, Node};

/// The versions of CDI that have no other fields than those known here.
const VERSIONS: [&str; 5] = ["0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0"];
const HOOKS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// Parses a specification in JSON.
///
/// # Errors
/// It is no JSON, or has a field that CDI has not, or not a field that it must have.
pub fn parse(bytes: &[u8]) -> Result<Document, String> {
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

/// What a runtime would not accept in a specification, in words.
#[must_use]
pub fn problems(document: &Document) -> Vec<String> {
    let mut found = Vec::new();
    let needed = document.needed_version();
    if !VERSIONS.contains(&document.cdi_version.as_str()) {
        let known = VERSIONS.join(", ");
        found.push(format!("cdiVersion {:?} is none of {known}", document.cdi_version));
    } else if document.cdi_version.as_str() < needed {
        found.push(format!("cdiVersion is {} and it needs {needed}", document.cdi_version));
    }
    match document.kind.split_once('/') {
        Some((vendor, class)) if is_name(vendor, b"_-.") && is_name(class, b"_-.") => {}
        _ => found.push(format!("kind {:?} is not vendor/class", document.kind)),
    }
    if document.devices.is_empty() {
        found.push("it has no devices".to_owned());
    }
    let mut seen = BTreeSet::new();
    for device in &document.devices {
        let name = &device.name;
        if !is_device_name(name) {
            found.push(format!("{name:?} is no name of a device"));
        }
        if !seen.insert(name) {
            found.push(format!("device {name:?} is there twice"));
        }
        if device.container_edits.is_empty() {
            found.push(format!("device {name:?} adds nothing to a container"));
        }
        edits(&format!("device {name:?}"), &device.container_edits, &mut found);
    }
    edits("containerEdits", &document.container_edits, &mut found);
    found
}

fn edits(of: &str, edits: &Edits, found: &mut Vec<String>) {
    let mut check = |is_good: bool, what: String| {
        if !is_good {
            found.push(format!("{of}: {what}"));
        }
    };
    for variable in &edits.env {
        check(
            variable.find('=').is_some_and(|at| at > 0),
            format!("{variable:?} is not NAME=value"),
        );
    }
    for node in &edits.device_nodes {
        check(is_absolute(&node.path), format!("the path {:?} of a node", node.path));
        let host = node.host_path.as_deref();
        check(host.is_none_or(is_absolute), format!("the host path {host:?} of a node"));
        let kind = node.kind.as_deref();
        check(
            kind.is_none_or(|kind| ["b", "c", "u", "p"].contains(&kind)),
            format!("type {kind:?} of {}", node.path),
        );
        check(
            has_permissions(node),
            format!("permissions {:?} of {}", node.permissions, node.path),
        );
        let numbers = [node.major, node.minor];
        check(
            numbers.iter().flatten().all(|number| (0..=i64::from(u32::MAX)).contains(number)),
            format!("numbers {numbers:?} of {}", node.path),
        );
    }
    for hook in &edits.hooks {
        let name = &hook.hook_name;
        check(HOOKS.contains(&name.as_str()), format!("{name:?} is no hook"));
        check(is_absolute(&hook.path), format!("the path {:?} of a hook", hook.path));
        let timeout = hook.timeout;
        check(
            timeout.is_none_or(|seconds| seconds > 0),
            format!("the timeout {timeout:?} of a hook"),
        );
    }
    for mount in &edits.mounts {
        for path in [&mount.host_path, &mount.container_path] {
            check(is_absolute(path), format!("the path {path:?} of a mount"));
        }
    }
}

fn has_permissions(node: &Node) -> bool {
    let permissions = node.permissions.as_deref().unwrap_or_default();
    permissions.chars().all(|permission| "rwm".contains(permission))
}

fn is_absolute(path: &str) -> bool {
    path.starts_with('/') && !path.contains('\0')
}

/// A vendor or a class: it begins with a letter and ends with a letter or a digit.
fn is_name(name: &str, more: &[u8]) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic()) && is_word(name, more)
}

/// The name of a device, which may begin with a digit.
fn is_device_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric()) && is_word(name, b"_-.:")
}

fn is_word(name: &str, more: &[u8]) -> bool {
    name.ends_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte))
}
