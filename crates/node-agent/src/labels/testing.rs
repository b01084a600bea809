//! Statuses for tests.

use std::time::{Duration, SystemTime};

use status::{
    Configuration, Gpu, GpuStageCounts, MigDevice, MigEngines, Nvml, NvmlState, Plugin, Reason,
    Registration, Resource, SCHEMA_VERSION, Sharing, SharingStrategy, Status, Timestamp,
};

/// A point in time of the tests, in which the status is of second 1,000.
pub(crate) fn at(seconds: u64) -> Timestamp {
    Timestamp::of(SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_784_000 + seconds))
}

/// The status of a node with these GPUs, numbered in their order.
pub(crate) fn status(gpus: &[Gpu]) -> Status {
    let count = u32::try_from(gpus.len()).unwrap();
    Status {
        schema_version: SCHEMA_VERSION,
        generated_at: at(1_000),
        node: Some("node-a".to_owned()),
        summary: String::new(),
        problems: Vec::new(),
        plugin: Plugin {
            version: "0.1.0".to_owned(),
            commit: "abcdef".to_owned(),
            hostname: None,
            machine_type: Some("PowerEdge XE9680".to_owned()),
            started_at: at(0),
            uptime_seconds: 1_000.0,
            ready: true,
            not_ready: Vec::new(),
        },
        nvml: Nvml {
            state: NvmlState::Up,
            fault: None,
            driver_version: Some("580.159.04".to_owned()),
            cuda_version: Some("13.0".to_owned()),
            nvml_version: Some("13.580.159.04".to_owned()),
            unanswered_calls: 0,
            released_until: None,
        },
        configuration: Configuration::default(),
        resources: Vec::new(),
        gpus: gpus.to_vec(),
        gpu_counts: GpuStageCounts {
            bus: Some(count),
            enumerated: Some(count),
            ..GpuStageCounts::default()
        },
        findings: Vec::new(),
        events: Vec::new(),
        holders_known: true,
    }
}

/// A GPU with what NVML states of an H200, but for the name.
pub(crate) fn gpu(index: u32, model: &str) -> Gpu {
    let gpu = serde_json::json!({
        "uuid": format!("GPU-{index}"), "index": index, "model": model,
        "memoryBytes": 150_754_820_096_u64, "computeCapability": "9.0", "pciClass": "0x030200",
        "migCapable": true, "migEnabled": false, "healthy": true,
        "rowRemapPending": false, "rowRemapFailed": false,
        "becameUnhealthy": 0, "becameHealthy": 0,
    });
    serde_json::from_value(gpu).unwrap()
}

/// The same GPU with MIG mode on and devices of these profiles.
pub(crate) fn partitioned(gpu: Gpu, profiles: &[&str]) -> Gpu {
    let device = |(index, profile): (usize, &&str)| {
        let slices: u32 = profile.split('g').next().unwrap().parse().unwrap();
        let index = u32::try_from(index).unwrap();
        MigDevice {
            uuid: format!("MIG-{}-{index}", gpu.index),
            index,
            profile: Some((*profile).to_owned()),
            gpu_instance: index,
            compute_instance: 0,
            memory_bytes: (u64::from(slices) * 18_432) << 20,
            engines: Some(MigEngines {
                gpu_slices: slices,
                compute_slices: slices,
                multiprocessors: 16 * slices,
                copy: slices,
                decoder: slices,
                encoder: 0,
                jpeg: slices,
                ofa: 0,
            }),
        }
    };
    let mig_devices = profiles.iter().enumerate().map(device).collect();
    Gpu { mig_enabled: true, mig_devices, ..gpu.clone() }
}

/// A resource without devices.
pub(crate) fn resource(name: &str) -> Resource {
    Resource {
        name: name.to_owned(),
        kubelet: Registration::default(),
        sharing: None,
        healthy: 0,
        offered: 0,
        allocated: None,
        devices: Vec::new(),
    }
}

/// A resource whose devices are shared, and which would have the name `of` if they were not.
pub(crate) fn shared(name: &str, of: &str, strategy: SharingStrategy, replicas: u32) -> Resource {
    let sharing = Some(Sharing { strategy, replicas, of: of.to_owned(), mps: None });
    Resource { sharing, ..resource(name) }
}

/// A cause.
pub(crate) fn cause(kind: &str, message: &str, since: Timestamp) -> Reason {
    Reason {
        kind: kind.to_owned(),
        xid: None,
        message: message.to_owned(),
        remedy: None,
        since,
        part: None,
        remembered: false,
    }
}
