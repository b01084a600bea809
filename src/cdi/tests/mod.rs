//! Tests of the content of specifications.

mod memory_limits;
pub(super) mod node;

use std::collections::BTreeSet;

use device::cdi::{
    CdiHost, ContainerEdits, HookProgram, MountKind, SpecSettings, Specification, Specifications,
};
use device::injection::{DeviceIdStrategy, Injector};

use super::json::Document;
use super::validate;
use crate::host::driver_files::hook_program::HookPath;
use crate::host::driver_files::sample::{self, installation, toolkit};
use node::{devices, host, injector, inventory, of, specified};

const DEFAULT_HOOK: HookPath<'_> = HookPath { path: "/usr/bin/nvidia-ctk", is_set: false };

/// A node with the driver and the toolkit.
fn usual() -> (tempfile::TempDir, CdiHost) {
    let root = tempfile::tempdir().unwrap();
    installation(root.path(), sample::VERSION);
    toolkit(root.path(), "1.17.8");
    let host = host(root.path(), "/", DEFAULT_HOOK);
    (root, host)
}

fn classes(found: &Specifications) -> Vec<&str> {
    found.files.iter().map(|file| file.class).collect()
}

fn names(found: &Specifications) -> Vec<&str> {
    found.files[0].devices.keys().map(String::as_str).collect()
}

fn valid(file: &Specification) -> Document {
    let document = Document::from(file);
    assert_eq!(validate::problems(&document), [""; 0], "{document:?}");
    assert_eq!(validate::parse(&document.bytes()).unwrap(), document);
    document
}

fn hooks(found: &Specifications) -> Vec<String> {
    found.files[0].common.hooks.iter().map(|hook| hook.args[..].join(" ")).collect()
}

#[test]
fn a_node_is_described_as_nvidias_statement_of_its_specifications_has_it() {
    let (_root, host) = usual();
    let found = specified(&inventory(injector()), &host, &SpecSettings::default());
    assert_eq!((classes(&found), &found.incomplete), (vec!["gpu"], &vec![]));
    let expected = include_str!("expected-gpu.json").lines();
    let expected: String = expected.filter(|line| !line.trim().starts_with("//")).collect();
    let expected: serde_json::Value = serde_json::from_str(&expected).unwrap();
    let written: serde_json::Value =
        serde_json::from_slice(&valid(&found.files[0]).bytes()).unwrap();
    for part in ["kind", "cdiVersion", "devices", "containerEdits"] {
        assert_eq!(
            serde_json::to_string_pretty(&written[part]).unwrap(),
            serde_json::to_string_pretty(&expected[part]).unwrap(),
        );
    }
}

#[test]
fn names_are_those_that_allocate_gives() {
    let (_root, host) = usual();
    for (ids, expected, version) in [
        (DeviceIdStrategy::Uuid, ["GPU-0", "MIG-1"], "0.3.0"),
        // Names that begin with a digit came with CDI 0.5.0.
        (DeviceIdStrategy::Index, ["0", "1:1"], "0.5.0"),
    ] {
        let inventory = inventory(Injector { ids, ..injector() });
        let found = specified(&inventory, &host, &SpecSettings::default());
        assert_eq!(names(&found), expected);
        assert_eq!(valid(&found.files[0]).cdi_version, version);
        for resource in inventory.resources() {
            for device in inventory.devices(resource).unwrap().values() {
                let injection = inventory.inject(resource, &[device], || [0; 16]);
                let name = injection.cdi_devices[0].rsplit('=').next().unwrap();
                assert!(names(&found).contains(&name), "{name}");
            }
        }
    }
}

/// Runtimes resolve the names of a pod's annotations too: a device that is more than one GPU is
/// there only where somebody asks for it.
#[test]
fn there_is_no_device_of_all_gpus_and_none_for_monitors_unless_they_are_asked_for() {
    let (_root, host) = usual();
    for (all_device, management_device, expected) in [
        (false, false, vec!["GPU-0", "MIG-1"]),
        (true, false, vec!["GPU-0", "MIG-1", "all"]),
        (false, true, vec!["GPU-0", "MIG-1", "management"]),
    ] {
        let settings = SpecSettings { all_device, management_device, ..SpecSettings::default() };
        let found = specified(&inventory(injector()), &host, &settings);
        assert_eq!(names(&found), expected);
        valid(&found.files[0]);
        let paths = |name| of(&found, name).nodes.iter().map(|node| node.path.as_str());
        if all_device {
            let all: BTreeSet<_> = paths("all").collect();
            assert_eq!(all, paths("GPU-0").chain(paths("MIG-1")).collect());
        }
        if management_device {
            // The configuration of MIG is a capability too.
            let expected = devices();
            let expected = expected.nodes.keys().filter(|path| path.starts_with("/dev/nvidia"));
            assert!(paths("management").eq(expected));
        }
    }
}

#[test]
fn paths_of_the_host_are_below_its_driver_root_and_its_dev_root() {
    let root = tempfile::tempdir().unwrap();
    installation(root.path(), sample::VERSION);
    let host = host(root.path(), "/run/nvidia/driver/", DEFAULT_HOOK);
    let with = Injector { dev_root: "/run/nvidia/driver".to_owned(), ..injector() };
    let found = specified(&inventory(with), &host, &SpecSettings::default());
    let common = &found.files[0].common;
    for mount in &common.mounts {
        assert!(mount.host.starts_with("/run/nvidia/driver/"), "{mount:?}");
        assert!(!mount.container.starts_with("/run/nvidia/driver"), "{mount:?}");
    }
    for node in of(&found, "MIG-1").nodes.iter().chain(&common.nodes) {
        assert_eq!(node.host, format!("/run/nvidia/driver{}", node.path));
    }
    // A path on the host that is another one came with CDI 0.5.0.
    assert_eq!(valid(&found.files[0]).cdi_version, "0.5.0");
}

/// Older runtimes refuse a file with the field as a whole, so it takes a setting.
#[test]
fn the_groups_of_nodes_are_given_to_the_process_where_that_is_asked_for() {
    let (_root, mut host) = usual();
    host.devices.nodes.get_mut("/dev/nvidiactl").unwrap().mode = 0o660;
    host.devices.nodes.get_mut("/dev/nvidiactl").unwrap().gid = 27;
    let groups = |found: &Specifications| {
        let edits = [of(found, "GPU-0"), of(found, "MIG-1"), &found.files[0].common];
        edits.map(|edits| edits.groups.clone())
    };
    let settings = SpecSettings { additional_groups: true, ..SpecSettings::default() };
    let with = specified(&inventory(injector()), &host, &settings);
    // Those of the DRM nodes, which a MIG device has not; the rest is root's, or everybody's.
    assert_eq!(groups(&with), [vec![44, 105], vec![], vec![27]]);
    let document = valid(&with.files[0]);
    assert_eq!(document.cdi_version, "0.7.0");
    let text = String::from_utf8(document.bytes()).unwrap();
    assert!(text.contains("\"additionalGids\": ["), "{text}");
    // Devices that were in the file before are without them too once they are not asked for.
    let kept = with.files[0].devices.clone().into_iter();
    let kept = kept.map(|(name, edits)| (name.replace("GPU-0", "GPU-8"), edits)).collect();
    let without =
        device::cdi::specifications(&inventory(injector()), &host, &SpecSettings::default(), &kept);
    assert_eq!(groups(&without), [const { Vec::<u32>::new() }; 3]);
    assert_eq!(names(&without), ["GPU-0", "GPU-8", "MIG-1"]);
    assert_eq!(valid(&without.files[0]).cdi_version, "0.3.0");
}

#[test]
fn hooks_are_those_that_the_program_on_the_host_has_and_that_are_safe() {
    let all = [
        "create-symlinks",
        "enable-cuda-compat",
        "update-ldcache",
        "disable-device-node-modification",
    ];
    let old = ["create-symlinks", "update-ldcache"];
    let new = [all[0], all[1], all[2], all[3], "update-application-profile"];
    for (version, disabled, expected) in [
        (Some((1, 17, 8)), &[][..], &all[..]),
        (Some((1, 19, 9)), &[], &all),
        (Some((1, 20, 0)), &[], &new),
        (Some((1, 20, 0)), &["update-application-profile"], &all),
        // CVE-2025-23266: a container takes the host over.
        (Some((1, 17, 7)), &[], &old),
        (None, &[], &old),
        (Some((1, 18, 0)), &["update-ldcache"], &[all[0], all[1], all[3]]),
        (Some((1, 18, 0)), &["all"], &[]),
    ] {
        let (_root, mut host) = usual();
        for path in ["/usr/bin/nvidia-ctk", "/opt/nvidia-cdi-hook"] {
            host.hook = Some(HookProgram { path: path.to_owned(), version, is_own: false });
            let disabled_hooks = disabled.iter().map(|&name| name.to_owned()).collect();
            let settings = SpecSettings { disabled_hooks, ..SpecSettings::default() };
            let found = specified(&inventory(injector()), &host, &settings);
            let before =
                if path.ends_with("ctk") { "nvidia-ctk hook " } else { "nvidia-cdi-hook " };
            let names: Vec<_> = hooks(&found)
                .iter()
                .map(|args| {
                    let words = args.strip_prefix(before).unwrap();
                    words.split(' ').next().unwrap().to_owned()
                })
                .collect();
            assert_eq!(names, expected, "{version:?} {disabled:?}");
            assert!(found.incomplete.is_empty(), "{:?}", found.incomplete);
        }
    }
}

/// A runtime ends the plugin's own program some time after that would have ended itself. How long
/// NVIDIA's may take is not known.
#[test]
fn the_plugins_own_hooks_take_no_longer_than_a_runtime_waits() {
    let (_root, mut host) = usual();
    for (is_own, expected) in [(true, Some(90)), (false, None)] {
        host.hook.as_mut().unwrap().is_own = is_own;
        let found = specified(&inventory(injector()), &host, &SpecSettings::default());
        let document = valid(&found.files[0]);
        let of_gpu = &document.devices.iter().find(|device| device.name == "GPU-0").unwrap();
        let hooks = [&document.container_edits.hooks, &of_gpu.container_edits.hooks];
        let timeouts: Vec<_> = hooks.into_iter().flatten().map(|hook| hook.timeout).collect();
        assert!(timeouts.len() > 2 && timeouts.iter().all(|timeout| *timeout == expected));
        let kept = ContainerEdits::from(&of_gpu.container_edits);
        assert_eq!(&kept, of(&found, "GPU-0"), "what is read from the file is what was written");
    }
}

#[test]
fn without_hooks_libraries_are_mounted_under_all_their_names_and_that_is_told() {
    let (_root, mut host) = usual();
    host.hook = None;
    let found = specified(&inventory(injector()), &host, &SpecSettings::default());
    assert!(found.files[0].common.hooks.is_empty() && of(&found, "GPU-0").hooks.is_empty());
    let mount = |path: &str| {
        let mut mounts = found.files[0].common.mounts.iter();
        let mount =
            mounts.find(|mount| mount.container == path).unwrap_or_else(|| panic!("{path}"));
        assert_eq!(mount.kind, MountKind::File);
        mount.host.clone()
    };
    for name in ["libcuda.so", "libcuda.so.1", "libcuda.so.580.95.05"] {
        assert_eq!(mount(&format!("/usr/lib64/{name}")), "/usr/lib64/libcuda.so.580.95.05");
    }
    assert!(found.incomplete[0].contains("no hooks are called"), "{:?}", found.incomplete);
    valid(&found.files[0]);
}

#[test]
fn other_classes_are_there_where_they_are_enabled_and_the_node_has_their_devices() {
    let (root, mut host) = usual();
    let enabled = Injector { imex: true, gds: true, mofed: true, gdrcopy: true, ..injector() };
    let found = specified(&inventory(enabled.clone()), &host, &SpecSettings::default());
    assert_eq!(classes(&found), ["gpu"]);
    assert_eq!(found.incomplete.len(), 4, "{:?}", found.incomplete);
    let numbers = host.devices.nodes["/dev/nvidia0"];
    for path in [
        "/dev/nvidia-caps-imex-channels/channel0",
        "/dev/nvidia-caps-imex-channels/channel1",
        "/dev/nvidia-fs0",
        "/dev/nvidia-fs15",
        "/dev/infiniband/uverbs0",
        "/dev/infiniband/rdma_cm",
        "/dev/gdrdrv",
    ] {
        host.devices.nodes.insert(path.to_owned(), numbers);
    }
    sample::write(root.path(), "etc/cufile.json", "{}");
    let seen = node::host(root.path(), "/", DEFAULT_HOOK);
    host.files = seen.files;
    let found = specified(&inventory(enabled), &host, &SpecSettings::default());
    assert!(found.incomplete.is_empty(), "{:?}", found.incomplete);
    let contents: Vec<_> = found.files[1..]
        .iter()
        .map(|file| {
            valid(file);
            assert_eq!(file.common.env, ["NVIDIA_VISIBLE_DEVICES=void"]);
            let (name, edits) = file.devices.iter().next().unwrap();
            let nodes: Vec<_> = edits.nodes.iter().map(|node| node.path.as_str()).collect();
            let mounts: Vec<_> = edits.mounts.iter().map(|mount| mount.host.as_str()).collect();
            (file.class, name.as_str(), nodes, mounts)
        })
        .collect();
    assert_eq!(
        contents,
        [
            ("imex-channel", "0", vec!["/dev/nvidia-caps-imex-channels/channel0"], vec![]),
            ("gdrcopy", "all", vec!["/dev/gdrdrv"], vec![]),
            ("gds", "all", vec!["/dev/nvidia-fs0", "/dev/nvidia-fs15"], vec!["/etc/cufile.json"]),
            ("mofed", "all", vec!["/dev/infiniband/rdma_cm", "/dev/infiniband/uverbs0"], vec![]),
        ]
    );
}

#[test]
fn a_mig_device_without_capabilities_is_left_out_by_name_and_the_others_are_not() {
    let (_root, mut host) = usual();
    host.devices.capabilities.clear();
    let found = specified(&inventory(injector()), &host, &SpecSettings::default());
    assert_eq!(names(&found), ["GPU-0"]);
    assert_eq!(found.left_out, ["gpu=MIG-1".to_owned()].into());
    assert!(found.incomplete[0].contains("1:1 has no CDI device"), "{:?}", found.incomplete);
}

/// Section 5 of NVIDIA's plugin, 13: it offers such a GPU and describes none.
#[test]
fn a_gpu_in_mig_mode_that_is_offered_whole_is_described_with_all_that_is_on_it() {
    let (_root, host) = usual();
    let mut inventory = inventory(injector());
    inventory.set_layout(device::layout::Layout::default());
    let found = specified(&inventory, &host, &SpecSettings::default());
    let nodes: Vec<_> = of(&found, "GPU-1").nodes.iter().map(|node| &*node.path).collect();
    let caps = ["/dev/nvidia-caps/nvidia-cap30", "/dev/nvidia-caps/nvidia-cap31"];
    assert_eq!(nodes, ["/dev/nvidia1", caps[0], caps[1], "/dev/dri/card2"]);
    // What was offered before stays for pods that hold it.
    assert_eq!(names(&found), ["GPU-0", "GPU-1", "MIG-1"]);
}

/// A change of a specification, and what is said about it.
type Mistake = (fn(&mut Document), &'static str);

#[test]
fn what_runtimes_refuse_is_told() {
    let (_root, host) = usual();
    let found = specified(&inventory(injector()), &host, &SpecSettings::default());
    let good = Document::from(&found.files[0]);
    let table: [Mistake; 12] = [
        (|d| d.cdi_version = "0.8.0".into(), "is none of 0.3.0"),
        (|d| d.devices[0].name = "0".into(), "it needs 0.5.0"),
        (|d| d.container_edits.additional_gids = vec![44], "it needs 0.7.0"),
        (|d| d.kind = "vendor.com/gpu.class".into(), "it needs 0.6.0"),
        (|d| d.kind = "gpu".into(), "is not vendor/class"),
        (|d| d.devices.clear(), "it has no devices"),
        (|d| d.devices[1].name = "GPU-0".into(), "is there twice"),
        (|d| d.devices[1].name = "MIG/1".into(), "is no name of a device"),
        (|d| d.devices[1].container_edits = Default::default(), "adds nothing"),
        (|d| d.container_edits.env[0] = "=x".into(), "is not NAME=value"),
        (|d| d.container_edits.hooks[0].timeout = Some(0), "the timeout Some(0) of a hook"),
        (|d| d.container_edits.mounts[0].host_path = "lib".into(), "of a mount"),
    ];
    for (change, expected) in table {
        let mut bad = good.clone();
        change(&mut bad);
        let problems = validate::problems(&bad);
        assert!(problems.iter().any(|text| text.contains(expected)), "{expected}: {problems:?}");
    }
    let text = String::from_utf8(good.bytes()).unwrap();
    for (field, other) in [("\"kind\"", "\"sort\""), ("\"permissions\"", "\"additionalGids\"")] {
        assert!(validate::parse(text.replacen(field, other, 1).as_bytes()).is_err(), "{other}");
    }
}
