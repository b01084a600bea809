//! Tests of what a container gets: NVIDIA's tables of Allocate, byte for byte.

use std::fmt::Write as _;

use DeviceListStrategy::{CdiAnnotations, CdiCri, Envvar, VolumeMounts};

use super::*;
use crate::CdiState;
use crate::gpu::Placement;
use crate::names::DeviceId;

fn whole(index: u32) -> Device {
    Device {
        id: DeviceId::whole(format!("GPU-{index}").parse().unwrap()),
        gpu: format!("GPU-{index}").parse().unwrap(),
        index: Some(index),
        bound_index: Some(index),
        mig_index: None,
        minor: Some(index),
        placement: None,
        numa_node: None,
        withdrawn: false,
        mps: None,
        awaits_mps: false,
        memory_share: None,
        owner: None,
        cdi: CdiState::Resolvable,
    }
}

fn slice(index: u32, mig: u32) -> Device {
    Device {
        id: DeviceId::whole(format!("MIG-{index}-{mig}").parse().unwrap()),
        mig_index: Some(mig),
        placement: Some(Placement { gpu_instance: mig + 1, compute_instance: 0 }),
        ..whole(index)
    }
}

fn replica(device: &Device, number: u32) -> Device {
    Device { id: DeviceId::replica(device.id.uuid().clone(), number), ..device.clone() }
}

fn by(strategies: &[DeviceListStrategy]) -> Injector {
    Injector { strategies: strategies.iter().copied().collect(), ..Injector::default() }
}

/// Everything that a container gets, a line each.
fn injected(injector: &Injector, devices: &[Device]) -> String {
    let devices: Vec<&Device> = devices.iter().collect();
    let injection = injector.inject(&ResourceName::gpu(), &devices, None, || [0xff; 16]);
    let mut text = String::new();
    for (name, value) in &injection.envs {
        let _ = writeln!(text, "env {name}={value}");
    }
    for mount in &injection.mounts {
        let _ = writeln!(text, "mount {} {}", mount.host, mount.container);
    }
    for node in &injection.devices {
        let _ = writeln!(text, "node {} {}", node.host, node.container);
    }
    for (key, value) in &injection.annotations {
        let _ = writeln!(text, "annotation {key}={value}");
    }
    for name in &injection.cdi_devices {
        let _ = writeln!(text, "cdi {name}");
    }
    text
}

const ENVVAR: &str = "env NVIDIA_VISIBLE_DEVICES=GPU-0,GPU-1\n";
const MOUNTS: &str = "env NVIDIA_VISIBLE_DEVICES=/var/run/nvidia-container-devices\n\
                      mount /dev/null /var/run/nvidia-container-devices/GPU-0\n\
                      mount /dev/null /var/run/nvidia-container-devices/GPU-1\n";
const ANNOTATION: &str = "annotation \
    cdi.k8s.io/nvidia-device-plugin_ffffffff-ffff-4fff-bfff-ffffffffffff=\
    k8s.device-plugin.nvidia.com/gpu=GPU-0,k8s.device-plugin.nvidia.com/gpu=GPU-1\n";
const CRI: &str =
    "cdi k8s.device-plugin.nvidia.com/gpu=GPU-0\ncdi k8s.device-plugin.nvidia.com/gpu=GPU-1\n";

/// NVIDIA's plugin, "1.9 Allocate response per strategy": each of them, and every set of them.
#[test]
fn every_set_of_strategies_follows_section_1_9() {
    let all = [Envvar, VolumeMounts, CdiAnnotations, CdiCri];
    for set in 1_u32..16 {
        let strategies: Vec<_> =
            (0..4).filter(|bit| set & (1 << bit) != 0).map(|bit| all[bit]).collect();
        let has = |strategy| strategies.contains(&strategy);
        let mut expected = String::new();
        match (has(Envvar), has(VolumeMounts)) {
            (_, true) => expected.push_str(MOUNTS),
            (true, false) => expected.push_str(ENVVAR),
            (false, false) => {}
        }
        expected.push_str(if has(CdiAnnotations) { ANNOTATION } else { "" });
        expected.push_str(if has(CdiCri) { CRI } else { "" });
        assert_eq!(injected(&by(&strategies), &[whole(0), whole(1)]), expected, "{strategies:?}");
    }
}

/// NVIDIA's plugin, "1.9 Allocate response per strategy": ids for the runtime.
#[test]
fn ids_are_uuids_or_indices_each_once_and_in_order() {
    let devices = [whole(2), slice(3, 0), slice(3, 1)];
    let shared: Vec<_> =
        devices.iter().flat_map(|device| [replica(device, 0), replica(device, 1)]).collect();
    for devices in [&devices[..], &shared] {
        assert_eq!(
            injected(&by(&[Envvar]), devices),
            "env NVIDIA_VISIBLE_DEVICES=GPU-2,MIG-3-0,MIG-3-1\n"
        );
        let by_index = Injector { ids: DeviceIdStrategy::Index, ..by(&[CdiCri]) };
        assert_eq!(
            injected(&by_index, devices),
            "cdi k8s.device-plugin.nvidia.com/gpu=2\ncdi k8s.device-plugin.nvidia.com/gpu=3:0\n\
             cdi k8s.device-plugin.nvidia.com/gpu=3:1\n"
        );
    }
    // NVIDIA's plugin, "1.18 Allocate error cases": an empty list is accepted.
    assert_eq!(injected(&by(&[Envvar]), &[]), "env NVIDIA_VISIBLE_DEVICES=\n");
    assert_eq!(injected(&by(&[CdiAnnotations, CdiCri]), &[]), "");
}

/// NVIDIA's plugin, "1.11 GDS / MOFED / GDRCopy / IMEX", and the order of CDI names in 1.9.
#[test]
fn gds_mofed_gdrcopy_and_imex_follow_section_1_11() {
    let host = HostNodes { imex_channel: true, ..HostNodes::default() };
    let with = |strategies: &[DeviceListStrategy]| Injector {
        gds: true,
        mofed: true,
        gdrcopy: true,
        imex: true,
        pass_device_specs: true,
        host: host.clone(),
        ..by(strategies)
    };
    let enabled = "env NVIDIA_GDRCOPY=enabled\nenv NVIDIA_GDS=enabled\n";
    assert_eq!(
        injected(&with(&[Envvar]), &[whole(0)]),
        format!(
            "{enabled}env NVIDIA_IMEX_CHANNELS=0\nenv NVIDIA_MOFED=enabled\nenv \
                NVIDIA_VISIBLE_DEVICES=GPU-0\n\
             node /dev/nvidia0 /dev/nvidia0\n\
             node /dev/nvidia-caps-imex-channels/channel0 /dev/nvidia-caps-imex-channels/channel0\n"
        )
    );
    assert_eq!(
        injected(&Injector { pass_device_specs: false, ..with(&[VolumeMounts]) }, &[whole(0)]),
        format!(
            "{enabled}env NVIDIA_MOFED=enabled\nenv \
                NVIDIA_VISIBLE_DEVICES=/var/run/nvidia-container-devices\n\
             mount /dev/null /var/run/nvidia-container-devices/GPU-0\n\
             mount /dev/null /var/run/nvidia-container-devices/imex/0\n"
        )
    );
    // CDI alone: no device nodes.
    assert_eq!(
        injected(&with(&[CdiCri]), &[whole(0)]),
        format!(
            "{enabled}env NVIDIA_MOFED=enabled\n\
             cdi k8s.device-plugin.nvidia.com/gpu=GPU-0\ncdi \
             k8s.device-plugin.nvidia.com/imex-channel=0\n\
             cdi k8s.device-plugin.nvidia.com/gdrcopy=all\ncdi \
             k8s.device-plugin.nvidia.com/gds=all\n\
             cdi k8s.device-plugin.nvidia.com/mofed=all\n"
        )
    );
    let absent = Injector { host: HostNodes::default(), ..with(&[CdiCri]) };
    assert!(!injected(&absent, &[whole(0)]).contains("imex"), "a node without the channel");
}

/// NVIDIA's plugin, "1.10 pass-device-specs"; here each node is listed once.
#[test]
fn device_nodes_follow_section_1_10() {
    let cap =
        |gpu_instance, compute_instance| Capability { minor: 3, gpu_instance, compute_instance };
    let host = HostNodes {
        control: ["/dev/nvidiactl", "/dev/nvidia-uvm"].into(),
        imex_channel: false,
        capabilities: [
            (cap(1, None), 30),
            (cap(1, Some(0)), 31),
            (cap(2, None), 39),
            (cap(2, Some(0)), 40),
        ]
        .into(),
    };
    let injector = Injector {
        pass_device_specs: true,
        dev_root: "/run/nvidia/driver/".to_owned(),
        host,
        ..by(&[Envvar])
    };
    let lines = |devices: &[Device]| {
        let injected = injected(&injector, devices);
        let nodes =
            injected.lines().filter_map(|line| line.strip_prefix("node /run/nvidia/driver/dev/"));
        nodes.map(|node| node.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
    };
    let gpu = whole(3);
    assert_eq!(lines(&[replica(&gpu, 0), replica(&gpu, 1)]), "nvidiactl nvidia-uvm nvidia3");
    assert_eq!(
        lines(&[slice(3, 0), slice(3, 1)]),
        "nvidiactl nvidia-uvm nvidia3 nvidia-caps/nvidia-cap30 nvidia-caps/nvidia-cap31 \
         nvidia-caps/nvidia-cap39 nvidia-caps/nvidia-cap40"
    );
    // A capability that the driver does not list is a finding; the other nodes are passed.
    assert_eq!(lines(&[slice(4, 0)]), "nvidiactl nvidia-uvm nvidia4");
    let findings = injector.findings([slice(4, 0), slice(3, 0), whole(1)].iter());
    assert_eq!(findings.len(), 1);
    assert!(findings[0].to_string().contains("MIG device 4:0 (MIG-4-0)"));
}

/// NVIDIA's plugin, "1.17 Sharing": MPS client injection.
#[test]
fn mps_follows_section_1_17() {
    let injector = Injector { mps_root: Some("/run/nvidia/mps".to_owned()), ..by(&[Envvar]) };
    let resource: ResourceName = "nvidia.com/gpu.shared".parse().unwrap();
    let injection = injector.inject(&resource, &[&replica(&whole(0), 1)], None, || [0; 16]);
    assert_eq!(injection.envs["CUDA_MPS_PIPE_DIRECTORY"], "/mps/nvidia.com/gpu.shared/pipe");
    let mounts: Vec<_> = injection
        .mounts
        .iter()
        .map(|mount| (mount.host.as_str(), mount.container.as_str()))
        .collect();
    assert_eq!(
        mounts,
        [
            ("/run/nvidia/mps/nvidia.com/gpu.shared/pipe", "/mps/nvidia.com/gpu.shared/pipe"),
            ("/run/nvidia/mps/shm", "/dev/shm")
        ]
    );
    assert!(
        !injected(&injector, &[whole(0)]).contains("mps"),
        "a GPU that is not shared is no client"
    );
}

/// NVIDIA's plugin, "1.9 Allocate response per strategy": cdi-annotations.
#[test]
fn the_annotation_key_is_legal_and_only_its_prefix_can_be_chosen() {
    let injector =
        Injector { annotation_prefix: "example.com/".to_owned(), ..by(&[CdiAnnotations]) };
    for random in [[0; 16], [0xff; 16], *b"0123456789abcdef"] {
        let injection = injector.inject(&ResourceName::gpu(), &[&whole(0)], None, || random);
        let key = injection.annotations.keys().next().unwrap();
        let uuid = key.strip_prefix("example.com/nvidia-device-plugin_").unwrap();
        assert_eq!((uuid.len(), &uuid[14..15]), (36, "4"));
        assert!("89ab".contains(&uuid[19..20]) && key.split('/').nth(1).unwrap().len() <= 63);
    }
}
