//! What a container gets, and what CDI specifications hold.

use std::collections::BTreeSet;
use std::path::PathBuf;

use device::injection::DeviceListStrategy;

use super::setting::{Effect, Setting, Shape, settings};
use crate::config::choice::words;
use crate::config::print;
use crate::config::value::{self, Parsed, RawValue};

const INJECTION: Setting =
    Setting { heading: "What a container receives", effect: Effect::Injection, ..Setting::BASE };
const SWITCH: Setting =
    Setting { shape: Shape::Switch, value: "BOOL", default: "false", ..INJECTION };
const CDI: Setting = Setting { heading: "CDI", ..INJECTION };
const CDI_SWITCH: Setting = Setting { heading: "CDI", ..SWITCH };

settings! {
    DEVICE_LIST_STRATEGY: injector.strategies = list_strategies, print::choices; INJECTION {
        flag: Some("device-list-strategy"), env: &["DEVICE_LIST_STRATEGY"],
        key: Some("flags.plugin.deviceListStrategy"), shape: Shape::List, value: "STRATEGIES",
        default: "envvar",
        help: "How devices are handed to the container runtime: any of envvar, volume-mounts, \
            cdi-annotations, cdi-cri.",
    }
    DEVICE_ID_STRATEGY: injector.ids = value::choice, print::choice; INJECTION {
        flag: Some("device-id-strategy"), env: &["DEVICE_ID_STRATEGY"],
        key: Some("flags.plugin.deviceIDStrategy"), value: "STRATEGY", default: "uuid",
        help: "How the runtime is told which device is meant: uuid or index.",
    }
    PASS_DEVICE_SPECS: injector.pass_device_specs = value::boolean, print::display; SWITCH {
        flag: Some("pass-device-specs"), env: &["PASS_DEVICE_SPECS"],
        key: Some("flags.plugin.passDeviceSpecs"),
        help: "Also list the device nodes, so that the CPU manager's cgroup updates do not take \
            them away.",
    }
    DRIVER_ROOT: driver_root = host_root, print::quoted; INJECTION {
        flag: Some("driver-root"), aliases: &["nvidia-driver-root"], env: &["NVIDIA_DRIVER_ROOT"],
        key: Some("flags.nvidiaDriverRoot"), value: "DIR", default: "/",
        help: "The root of the driver installation on the host.",
    }
    DEV_ROOT: injector.dev_root = value::absolute_text, print::quoted; INJECTION {
        flag: Some("dev-root"), aliases: &["nvidia-dev-root"], env: &["NVIDIA_DEV_ROOT"],
        key: Some("flags.nvidiaDevRoot"), value: "DIR",
        help: "The root under which the host has its /dev nodes; empty: the driver root.",
    }
    GDS_ENABLED: injector.gds = value::boolean, print::display; SWITCH {
        flag: Some("gds-enabled"), env: &["GDS_ENABLED"], key: Some("flags.gdsEnabled"),
        help: "Give containers GPUDirect Storage.",
    }
    MOFED_ENABLED: injector.mofed = value::boolean, print::display; SWITCH {
        flag: Some("mofed-enabled"), env: &["MOFED_ENABLED"], key: Some("flags.mofedEnabled"),
        help: "Give containers the Mellanox (InfiniBand) devices.",
    }
    GDRCOPY_ENABLED: injector.gdrcopy = value::boolean, print::display; SWITCH {
        flag: Some("gdrcopy-enabled"), env: &["GDRCOPY_ENABLED"], key: Some("flags.gdrcopyEnabled"),
        help: "Give containers GDRCopy.",
    }
    IMEX_CHANNEL_IDS: injector.imex = imex_channels, print_imex_channels; INJECTION {
        flag: Some("imex-channel-ids"), env: &["IMEX_CHANNEL_IDS"], key: Some("imex.channelIDs"),
        shape: Shape::List, value: "IDS",
        help: "The IMEX channels to give to containers: none, or 0.",
    }
    IMEX_REQUIRED: imex_required = value::boolean, print::display; SWITCH {
        flag: Some("imex-required"), env: &["IMEX_REQUIRED"], key: Some("imex.required"),
        help: "Whether a missing IMEX channel node is a failure.",
    }
    MPS_ROOT: injector.mps_root = mps_root, print_mps_root; INJECTION {
        flag: Some("mps-root"), env: &["MPS_ROOT"], key: Some("flags.mpsRoot"), value: "DIR",
        help: "The host's directory of the MPS control daemon; needed with sharing.mps.",
    }
    MPS_DIR: process.mps_dir = mps_dir, print::path; INJECTION {
        flag: Some("mps-dir"), env: &["MPS_DIR"], value: "DIR", default: "/mps",
        effect: Effect::NextStart,
        help: "Where the MPS root is mounted in the plugin's own container; outside of a container \
            the same as --mps-root.",
    }
    MPS_MULTI_USER: injector.mps.multi_user = value::boolean, print::display; SWITCH {
        flag: Some("mps-multi-user"), env: &["MPS_MULTI_USER"], key: Some("flags.mpsMultiUser"),
        help: "Have one MPS server for the processes of all users. Without it those of another \
            user wait until the server of the first ends.",
    }
    MPS_MEMORY_RESERVE: injector.mps.memory_reserve = mebibytes, print::display; INJECTION {
        flag: Some("mps-memory-reserve"), env: &["MPS_MEMORY_RESERVE"],
        key: Some("flags.mpsMemoryReserve"), value: "MIB", default: "0",
        help: "How much memory of each GPU that MPS shares no client gets, in MiB.",
    }
    MPS_MEMORY_PERCENTAGE: injector.mps.memory_percentage = percentage, print::display; INJECTION {
        flag: Some("mps-memory-percentage"), env: &["MPS_MEMORY_PERCENTAGE"],
        key: Some("flags.mpsMemoryPercentage"), value: "PERCENT", default: "100",
        help: "How much memory all replicas of a GPU that MPS shares get together, in percent of \
            what is not reserved. With more than 100 they can run out of it together.",
    }
    MPS_THREAD_PERCENTAGE: injector.mps.thread_percentage = percentage, print::display; INJECTION {
        flag: Some("mps-thread-percentage"), env: &["MPS_THREAD_PERCENTAGE"],
        key: Some("flags.mpsThreadPercentage"), value: "PERCENT", default: "100",
        help: "How many threads they get together, in percent of the GPU's.",
    }
    MPS_READ_ONLY_PIPE: injector.mps.read_only_pipe = value::boolean, print::display; SWITCH {
        flag: Some("mps-read-only-pipe"), env: &["MPS_READ_ONLY_PIPE"],
        key: Some("flags.mpsReadOnlyPipe"),
        help: "Mount the pipes of the MPS control daemon read only into containers, so that none \
            can remove or replace them. It needs a CUDA library that writes no file there.",
    }
    CDI_ANNOTATION_PREFIX: injector.annotation_prefix = annotation_prefix, print::quoted; CDI {
        flag: Some("cdi-annotation-prefix"), env: &["CDI_ANNOTATION_PREFIX"],
        key: Some("flags.plugin.cdiAnnotationPrefix"), value: "PREFIX", default: "cdi.k8s.io/",
        help: "The prefix of the annotation key of the strategy cdi-annotations.",
    }
    CDI_HOOK_MODE: cdi.hook_mode = value::choice, print::choice; CDI {
        flag: Some("cdi-hook-mode"), env: &["CDI_HOOK_MODE"], value: "MODE", default: "auto",
        help: "Whose hook program CDI specifications name: host (that of NVIDIA's toolkit), self \
            (the plugin's own, which it installs on the host), or auto (the host's, and the \
            plugin's own where there is none).",
    }
    CDI_HOOK_DIR: process.hook.directory = host_path, print::path; CDI {
        flag: Some("cdi-hook-dir"), env: &["CDI_HOOK_DIR"], value: "DIR",
        default: "/var/lib/gpu-cdi-hook", effect: Effect::NextStart,
        help: "The host's directory for the plugin's own hook program, at the same path in the \
            plugin's container. Root alone may write to it.",
    }
    CDI_HOOK_PROGRAM: process.hook.source = host_path, print::path; CDI {
        flag: Some("cdi-hook-program"), env: &["CDI_HOOK_PROGRAM"], value: "FILE",
        default: "/usr/bin/gpu-cdi-hook", effect: Effect::NextStart,
        help: "The plugin's own hook program in its image.",
    }
    CGROUP_ROOT: process.cgroup_root = host_path, print::path; CDI {
        flag: Some("cgroup-root"), env: &["CGROUP_ROOT"], value: "DIR", default: "/sys/fs/cgroup",
        effect: Effect::NextStart,
        help: "Where the host's /sys/fs/cgroup is: it says whether memory limits can be enforced.",
    }
    CDI_HOOK_PATH: cdi.hook_path = value::text, print::quoted; CDI {
        flag: Some("nvidia-cdi-hook-path"), aliases: &["nvidia-ctk-path"],
        env: &["NVIDIA_CDI_HOOK_PATH", "NVIDIA_CTK_PATH"], key: Some("flags.plugin.nvidiaCTKPath"),
        value: "FILE", default: "/usr/bin/nvidia-ctk",
        help: "The hook program on the host that CDI specifications name: nvidia-cdi-hook or \
            nvidia-ctk. Unless it is set, both are looked for.",
    }
    CDI_FEATURE_FLAGS: cdi.features = word_set, print::flow; CDI {
        flag: Some("cdi-feature-flags"), env: &["CDI_FEATURE_FLAGS"], shape: Shape::List,
        value: "FLAGS",
        help: "Optional behaviours of CDI specifications: enable-explicit-driver-libraries, \
            disable-ipc-discoverer. Others of NVIDIA's plugin are accepted without effect.",
    }
    CDI_DISABLE_HOOKS: cdi.disabled_hooks = word_set, print::flow; CDI {
        flag: Some("cdi-disable-hooks"), env: &["CDI_DISABLE_HOOKS"], shape: Shape::List,
        value: "HOOKS",
        help: "Hooks that CDI specifications leave out, by name, or all.",
    }
    CDI_SPEC_DIR: process.cdi_spec_dir = spec_dir, print::path; CDI {
        flag: Some("cdi-spec-dir"), env: &["CDI_SPEC_DIR"], value: "DIR", default: "/var/run/cdi",
        effect: Effect::NextStart,
        help: "The directory of CDI specifications, which is the host's. Files are written where \
            a CDI strategy is set.",
    }
    CDI_ALL_DEVICE: cdi.all_device = value::boolean, print::display; CDI_SWITCH {
        flag: Some("cdi-all-device"), env: &["CDI_ALL_DEVICE"],
        help: "Write a CDI device named all, which is every GPU that is offered. A pod can name it \
            past the kubelet.",
    }
    CDI_MANAGEMENT_DEVICE: cdi.management_device = value::boolean, print::display; CDI_SWITCH {
        flag: Some("cdi-management-device"), env: &["CDI_MANAGEMENT_DEVICE"],
        help: "Write a CDI device named management, with every node of the driver, for pods that \
            monitor. A pod can name it past the kubelet.",
    }
    CDI_ADDITIONAL_GIDS: cdi.additional_gids = value::boolean, print::display; CDI_SWITCH {
        flag: Some("cdi-additional-gids"), env: &["CDI_ADDITIONAL_GIDS"],
        help: "Give a container's process the groups of device nodes that not everybody may use. \
            Runtimes that do not know CDI 0.7.0 refuse such specifications as a whole.",
    }
    CDI_REMOVE_OTHER_FILES: cdi.remove_other_files = value::boolean, print::display; CDI_SWITCH {
        flag: Some("cdi-remove-other-files"), env: &["CDI_REMOVE_OTHER_FILES"],
        help: "Also remove specifications that NVIDIA's plugin has left for classes that are not \
            enabled.",
    }
}

fn list_strategies(raw: RawValue<'_>) -> Parsed<BTreeSet<DeviceListStrategy>> {
    let items = value::list(raw)?;
    if items.is_empty() {
        let allowed = words::<DeviceListStrategy>().join(", ");
        return value::invalid(
            "an empty list",
            format!("hands over nothing; expected any of {allowed}"),
        );
    }
    Ok(value::collect(items.iter().map(|item| item.parse(value::word)))?.into_iter().collect())
}

/// The root, where it is empty.
fn host_root(raw: RawValue<'_>) -> Parsed<String> {
    let root = value::absolute_text(raw)?;
    Ok(if root.is_empty() { "/".to_owned() } else { root })
}

fn spec_dir(raw: RawValue<'_>) -> Parsed<PathBuf> {
    let path = value::absolute_text(raw)?;
    Ok(PathBuf::from(if path.is_empty() { CDI_SPEC_DIR.default } else { &path }))
}

/// A path that is on the host too, so that it cannot be relative.
fn host_path(raw: RawValue<'_>) -> Parsed<PathBuf> {
    match value::absolute_text(raw)? {
        text if text.is_empty() => {
            value::invalid_text(&text, "is empty; expected an absolute path")
        }
        text => Ok(PathBuf::from(text)),
    }
}

fn mps_root(raw: RawValue<'_>) -> Parsed<Option<String>> {
    Ok(Some(value::absolute_text(raw)?).filter(|root| !root.is_empty()))
}

fn mps_dir(raw: RawValue<'_>) -> Parsed<PathBuf> {
    let path = value::absolute_text(raw)?;
    Ok(PathBuf::from(if path.is_empty() { MPS_DIR.default } else { &path }))
}

fn mebibytes(raw: RawValue<'_>) -> Parsed<u64> {
    let problem = "is not a whole number of MiB";
    value::number(raw, 0..=u32::MAX, problem).map(u64::from)
}

fn percentage(raw: RawValue<'_>) -> Parsed<u32> {
    value::number(raw, 1..=10_000, "is not a whole number of percent from 1 to 10000")
}

/// Without MPS the setting is left out.
fn print_mps_root(root: &Option<String>) -> String {
    root.as_deref().map(print::quoted).unwrap_or_default()
}

/// Whether channel 0 is listed.
fn imex_channels(raw: RawValue<'_>) -> Parsed<bool> {
    let zero = |text: &str| match value::text_number(text) {
        Some(0) => Ok(()),
        _ => value::invalid_text(
            text,
            "is not an IMEX channel that can be given to containers; expected none, or 0",
        ),
    };
    let items = value::list(raw)?;
    let channels = value::collect(items.iter().map(|item| item.parse(zero)))?;
    match channels.len() {
        0 | 1 => Ok(!channels.is_empty()),
        _ => {
            value::invalid("a list of several channels", "cannot be used; expected none, or 0 once")
        }
    }
}

fn print_imex_channels(channel_0: &bool) -> String {
    if *channel_0 { "[0]" } else { "[]" }.to_owned()
}

/// What a container runtime accepts as the prefix of an annotation's key: nothing, or a DNS
/// subdomain and a slash. It refuses containers with another key.
fn annotation_prefix(raw: RawValue<'_>) -> Parsed<String> {
    let text = value::text(raw)?;
    let is_end = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_label = |label: &str| {
        let bytes = label.as_bytes();
        bytes.first().is_some_and(is_end)
            && bytes.last().is_some_and(is_end)
            && bytes.iter().all(|byte| is_end(byte) || *byte == b'-')
    };
    let is_domain = |domain: &str| domain.len() <= 253 && domain.split('.').all(is_label);
    if text.is_empty() || text.strip_suffix('/').is_some_and(is_domain) {
        return Ok(text);
    }
    let problem = "is not a DNS subdomain and a slash (such as cdi.k8s.io/), nor empty";
    value::invalid_text(&text, problem)
}

fn word_set(raw: RawValue<'_>) -> Parsed<BTreeSet<String>> {
    let items = value::list(raw)?;
    Ok(items.into_iter().map(|item| item.text).filter(|text| !text.is_empty()).collect())
}
