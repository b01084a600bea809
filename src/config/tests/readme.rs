//! The examples that NVIDIA's documentation walks through, written from its keys: each has the
//! documented effect.

use super::*;

#[test]
fn the_defaults_written_out_are_the_defaults() {
    let config = quiet(
        "version: v1\nflags:\n  migStrategy: \"none\"\n  failOnInitError: true\n  \
            nvidiaDriverRoot: \"/\"\n  plugin:\n    \
         passDeviceSpecs: false\n    deviceListStrategy: \"envvar\"\n    deviceIDStrategy: \
         \"uuid\"\n",
    );
    let mut default = Written::default().config();
    default.process.config_file = config.process.config_file.clone();
    assert!(default.changes(&config).is_empty());
}

#[test]
fn every_flag_of_the_example_with_gpu_feature_discovery_is_understood() {
    let config = quiet(
        "version: v1\nflags:\n  migStrategy: mixed\n  failOnInitError: false\n  nvidiaDriverRoot: \
            /run/nvidia/driver\n  \
         gdsEnabled: true\n  mofedEnabled: true\n  plugin:\n    passDeviceSpecs: true\n    \
         deviceListStrategy: [volume-mounts]\n    \
         deviceIDStrategy: index\n  gfd:\n    oneshot: false\n    noTimestamp: false\n    \
         sleepInterval: 60s\n    \
         outputFile: /etc/kubernetes/node-feature-discovery/features.d/gfd\n    machineTypeFile: \
         /sys/class/dmi/id/product_name\n",
    );
    assert_eq!(config.layout.mig_strategy, MigStrategy::Mixed);
    assert!(!config.process.nvml.fail_on_init_error && config.injector.pass_device_specs);
    assert!(config.injector.gds && config.injector.mofed && !config.injector.gdrcopy);
    assert_eq!(config.injector.strategies, [DeviceListStrategy::VolumeMounts].into());
    assert_eq!(config.injector.dev_root, "/run/nvidia/driver");
}

#[test]
fn time_slicing_of_all_gpus() {
    let config = quiet(
        "version: v1\nsharing:\n  timeSlicing:\n    resources:\n    - name: nvidia.com/gpu\n      \
            replicas: 10\n",
    );
    let Sharing::TimeSlicing(replication) = config.layout.sharing else {
        panic!("not time-slicing")
    };
    assert!(!replication.rename_by_default && !replication.fail_requests_greater_than_one);
    let resource = &replication.resources[0];
    assert_eq!(
        (resource.name.as_str(), resource.offered_as.as_str()),
        ("nvidia.com/gpu", "nvidia.com/gpu")
    );
    assert_eq!((resource.replicas, &resource.devices), (10, &Selection::All));
}

#[test]
fn time_slicing_with_all_its_keys_and_mig_resources() {
    let config = quiet(
        "version: v1\nflags:\n  migStrategy: mixed\nsharing:\n  timeSlicing:\n    renameByDefault: \
            true\n    \
         failRequestsGreaterThanOne: true\n    resources:\n    - name: nvidia.com/gpu\n      \
         replicas: 10\n    - name: \
         nvidia.com/mig-1g.5gb\n      replicas: 2\n    - name: nvidia.com/mig-3g.20gb.me\n      \
         replicas: 4\n",
    );
    let Sharing::TimeSlicing(replication) = config.layout.sharing else {
        panic!("not time-slicing")
    };
    assert!(replication.fail_requests_greater_than_one);
    let offered: Vec<_> =
        replication.resources.iter().map(|resource| resource.offered_as.as_str()).collect();
    assert_eq!(
        offered,
        [
            "nvidia.com/gpu.shared",
            "nvidia.com/mig-1g.5gb.shared",
            "nvidia.com/mig-3g.20gb.me.shared"
        ]
    );
}

#[test]
fn mps_of_all_gpus() {
    let config = Written {
        environment: &[("MPS_ROOT", "/run/nvidia/mps")],
        ..with_file(
            "version: v1\nsharing:\n  mps:\n    resources:\n    - name: nvidia.com/gpu\n      \
             replicas: 10\n",
        )
    }
    .config();
    let Sharing::Mps { replication, root } = config.layout.sharing else { panic!("not MPS") };
    assert!(replication.fail_requests_greater_than_one);
    assert_eq!(root, std::path::Path::new("/run/nvidia/mps"));
}

#[test]
fn several_files_for_several_nodes() {
    for (strategy, expected) in [("none", MigStrategy::None), ("mixed", MigStrategy::Mixed)] {
        let text = format!(
            "version: v1\nflags:\n  migStrategy: \"{strategy}\"\n  failOnInitError: true\n  \
                nvidiaDriverRoot: \"/\"\n  plugin:\n    \
             passDeviceSpecs: false\n    deviceListStrategy: envvar\n    deviceIDStrategy: uuid\n"
        );
        assert_eq!(quiet(&text).layout.mig_strategy, expected);
    }
}

#[test]
fn an_imex_channel_for_every_container() {
    let config = quiet("version: v1\nimex:\n  channelIDs: [0]\n  required: true\n");
    assert!(config.requires_imex_channel());
}
