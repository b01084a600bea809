//! CDI: in the container runtime, the specifications, and the kubelet.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use device::injection::DeviceListStrategy;

use crate::doctor::facts::{ContainerRuntime, Facts, HookFacts};
use crate::doctor::finding::{Check, Finding, Group, Level, plural};

const SUPPORT: Check = Check::new(Group::Runtime, "runtime.cdi", "CDI in the container runtime");
const UNREADABLE: Check = Check::new(Group::Runtime, "runtime.spec", "CDI specifications");
const SPECS: Check = Check::new(Group::Runtime, "runtime.specs", "CDI specifications");
const HOOKS: Check = Check::new(Group::Runtime, "runtime.hooks", "the hooks of CDI specifications");
const KUBELET: Check =
    Check::new(Group::Runtime, "runtime.kubelet", "CDI names in the kubelet's API");
/// The kind of the CDI devices that the plugin names.
const GPU_KIND: &str = "k8s.device-plugin.nvidia.com/gpu";

/// Whether a container runtime supports CDI.
pub(super) fn support(runtime: &ContainerRuntime) -> Finding {
    let name = runtime.name;
    match runtime.cdi {
        Some(true) => SUPPORT.ok(format!("{name} supports CDI")),
        Some(false) => SUPPORT
            .problem(format!("CDI is off in {name}"))
            .why("it ignores the CDI names that the plugin gives, and containers see no GPU")
            .fix(match name {
                "docker" => {
                    "nvidia-ctk runtime configure --runtime=docker --cdi.enabled && systemctl \
                     restart docker"
                }
                _ => {
                    "set enable_cdi = true in the table of the CRI plugin and restart the runtime: \
                     nvidia-ctk runtime configure --runtime=containerd --cdi.enabled && systemctl \
                     restart containerd"
                }
            }),
        None => SUPPORT
            .warning(format!("{name} has no setting for it, and its version decides"))
            .why("containerd has it on by default from 2.0 on, and off before")
            .fix(
                "nvidia-ctk runtime configure --runtime=containerd --cdi.enabled && systemctl \
                 restart containerd",
            ),
    }
}

/// Specifications that cannot be read.
pub(super) fn unreadable_specs(facts: &Facts) -> impl Iterator<Item = Finding> {
    facts.runtimes.specs.iter().filter_map(|spec| {
        let error = spec.content.as_ref().err()?;
        let finding = UNREADABLE
            .problem(format!("{} cannot be read: {error}", spec.file.display()))
            .why("a runtime can refuse every CDI device because of one file that it cannot read")
            .fix("correct the file or remove it");
        Some(finding)
    })
}

/// Specifications of the plugin's devices that name what is not there, or each other's devices.
pub(super) fn untrue_specs(facts: &Facts) -> Vec<Finding> {
    let ours = facts.runtimes.specs.iter().filter_map(|spec| {
        let content = spec.content.as_ref().ok()?;
        (content.kind == GPU_KIND).then_some((&spec.file, content))
    });
    let mut findings = Vec::new();
    // A device that two directories have is taken from the later one; in one directory it is in
    // conflict.
    let mut places: BTreeMap<(Option<&Path>, &str), &Path> = BTreeMap::new();
    for (file, content) in ours {
        if !content.absent.is_empty() {
            findings.push(absent(file, &content.absent));
        }
        let doubled = content.devices.iter().find_map(|device| {
            let before = places.insert((file.parent(), device), file)?;
            Some((device, before))
        });
        findings.extend(doubled.map(|(device, before)| conflict(device, before, file)));
    }
    findings
}

fn absent(file: &Path, paths: &BTreeSet<String>) -> Finding {
    const SHOWN: usize = 3;
    let shown: Vec<&str> = paths.iter().take(SHOWN).map(String::as_str).collect();
    let more = paths.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let verb = if paths.len() == 1 { "is" } else { "are" };
    let shown = shown.join(", ");
    UNREADABLE
        .problem(format!("{} names {shown}{more}, which {verb} not on the node", file.display()))
        .why("a container with such a device is not started; the driver was changed since")
        .fix(format!(
            "restart what writes {}: the plugin writes its own again within 60 s; or write it \
             again on the node: nvidia-ctk cdi generate --vendor=k8s.device-plugin.nvidia.com \
             --class=gpu --output={}",
            file.display(),
            file.display()
        ))
}

fn conflict(device: &str, one: &Path, other: &Path) -> Finding {
    UNREADABLE
        .problem(format!("{device} is in {} and in {}", one.display(), other.display()))
        .why("a runtime resolves no device that two files of one directory have")
        .fix("remove one of the files: the older is often left by another plugin or toolkit")
}

/// Whether the specifications name every device that would be offered.
pub(super) fn specs(facts: &Facts) -> Finding {
    let readable = facts.runtimes.specs.iter().filter_map(|spec| spec.content.as_ref().ok());
    let ours = readable.filter(|content| content.kind == GPU_KIND);
    let named: BTreeSet<&String> = ours.flat_map(|content| &content.devices).collect();
    let resources = facts.driver_answer().into_iter().flat_map(|answer| &answer.resources);
    let offered: BTreeSet<&String> = resources.flat_map(|resource| &resource.ids).collect();
    let missing: Vec<&str> = offered.difference(&named).map(|name| name.as_str()).collect();
    let seen = if named.is_empty() {
        let directories = facts.runtimes.spec_directories.iter();
        let directories: Vec<_> = directories.map(|path| path.display().to_string()).collect();
        format!("none of the kind {GPU_KIND} in {}", directories.join(" and "))
    } else if missing.is_empty() {
        return SPECS.ok(format!("{} of the kind {GPU_KIND}", plural(named.len(), "device")));
    } else {
        format!("not in the specifications: {}", missing.join(", "))
    };
    SPECS
        .problem(seen)
        .why(
            "the runtime refuses a container whose CDI device has no specification: \"unresolvable \
             CDI devices\"",
        )
        .fix(
            "the plugin writes them: mount the host's /var/run/cdi in its container, writable; its \
             status says what keeps it from writing. By hand, and again after each change of GPUs \
             or MIG devices: gpu-device-plugin cdi generate --output /var/run/cdi",
        )
}

/// Whether there is a program whose hooks specifications can name, and whether all are safe.
pub(super) fn hooks(facts: &Facts) -> Finding {
    let Some(program) = &facts.runtimes.hooks.called else {
        return no_hooks(&facts.runtimes.hooks);
    };
    let path = &program.path;
    if program.is_own {
        return HOOKS.ok(format!("{path}, the plugin's own"));
    }
    match program.version {
        Some((major, minor, patch)) if program.is_known_good() => {
            HOOKS.ok(format!("{path}, version {major}.{minor}.{patch}"))
        }
        Some((major, minor, patch)) => HOOKS
            .warning(format!("{path} has version {major}.{minor}.{patch}"))
            .why(
                "before 1.17.8 its hook enable-cuda-compat lets a container take the node over \
                 (CVE-2025-23266): it is not called, so that CUDA of an image cannot be newer than \
                 the driver's; other users of the toolkit may call it",
            )
            .fix("upgrade NVIDIA's container toolkit to 1.17.8 or newer"),
        None => HOOKS
            .unknown(format!(
                "{path}, whose version cannot be seen: it is called without enable-cuda-compat"
            ))
            .why("before 1.17.8 that hook lets a container take the node over (CVE-2025-23266)")
            .fix("`nvidia-ctk --version` on the node shows it; 1.17.8 or newer is right"),
    }
}

fn no_hooks(hooks: &HookFacts) -> Finding {
    let (seen, own) = if hooks.is_host_alone {
        (
            "neither nvidia-cdi-hook nor nvidia-ctk is on the node, and --cdi-hook-mode=host \
             calls no other program",
            "set --cdi-hook-mode=auto",
        )
    } else {
        (
            "none of nvidia-cdi-hook, nvidia-ctk and the plugin's own is on the node",
            "see to it that the plugin's own can be installed",
        )
    };
    HOOKS
        .warning(seen)
        .why(
            "without them a container finds the driver's libraries only where its loader looks in \
             the directories that the driver has them in",
        )
        .fix(format!(
            "{own}, with a directory of the node for it (--cdi-hook-dir, docs/cdi.md), install \
             NVIDIA's container toolkit, or set --nvidia-cdi-hook-path"
        ))
}

/// Whether the kubelet supports CDI names from plugins: since 1.28, behind a feature gate that is
/// on from 1.29 on (KEP-4009).
pub(super) fn kubelet(facts: &Facts) -> Option<Finding> {
    let strategies = &facts.settings.strategies;
    let (major, minor) = facts.kubelet.version.filter(|version| *version < (1, 29))?;
    if !strategies.contains(&DeviceListStrategy::CdiCri) {
        return None;
    }
    // It is a problem where no other strategy hands devices over.
    let level = if strategies.len() == 1 { Level::Problem } else { Level::Warning };
    let finding = KUBELET
        .finding(level, format!("the kubelet is {major}.{minor}"))
        .why(
            "a kubelet before 1.29 ignores the CDI names of the strategy cdi-cri, unless its \
             feature gate is on",
        )
        .fix(
            "use cdi-annotations, upgrade the kubelet, or turn on its feature gate \
             DevicePluginCDIDevices (1.28)",
        );
    Some(finding)
}
