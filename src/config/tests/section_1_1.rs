use super::settings as table;
use super::*;
use crate::kubelet::device_plugin::socket::PluginPaths;

/// One row of the table: what it is set by, its default, another value, and how the effect of a
/// value is seen.
type Row = (
    &'static [&'static str],
    &'static [&'static str],
    &'static str,
    &'static str,
    &'static str,
    fn(&Config) -> String,
);

fn shown(value: impl std::fmt::Debug) -> String {
    format!("{value:?}").to_lowercase().replace('"', "")
}

fn path(path: &std::path::Path) -> String {
    path.display().to_string()
}

/// NVIDIA's plugin, "1.1 nvidia-device-plugin: flags, env, config-file keys": flags with aliases,
/// variables, file key, default, another value, effect.
const ROWS: &[Row] = &[
    (&["mig-strategy"], &["MIG_STRATEGY"], "flags.migStrategy", "none", "mixed", |c| {
        c.layout.mig_strategy.as_str().to_owned()
    }),
    (
        &["fail-on-init-error"],
        &["FAIL_ON_INIT_ERROR"],
        "flags.failOnInitError",
        "true",
        "false",
        |c| shown(c.process.nvml.fail_on_init_error),
    ),
    (
        &["driver-root", "nvidia-driver-root"],
        &["NVIDIA_DRIVER_ROOT"],
        "flags.nvidiaDriverRoot",
        "/",
        "/run/nvidia/driver",
        |c| c.driver_root.clone(),
    ),
    (
        &["dev-root", "nvidia-dev-root"],
        &["NVIDIA_DEV_ROOT"],
        "flags.nvidiaDevRoot",
        "/",
        "/host",
        |c| c.injector.dev_root.clone(),
    ),
    (
        &["pass-device-specs"],
        &["PASS_DEVICE_SPECS"],
        "flags.plugin.passDeviceSpecs",
        "false",
        "true",
        |c| shown(c.injector.pass_device_specs),
    ),
    (
        &["device-list-strategy"],
        &["DEVICE_LIST_STRATEGY"],
        "flags.plugin.deviceListStrategy",
        "{envvar}",
        "volume-mounts",
        |c| {
            shown(&c.injector.strategies)
                .replace("volumemounts", "volume-mounts")
                .replace(['{', '}'], "")
                .replace("envvar", "{envvar}")
        },
    ),
    (
        &["device-id-strategy"],
        &["DEVICE_ID_STRATEGY"],
        "flags.plugin.deviceIDStrategy",
        "uuid",
        "index",
        |c| c.injector.ids.as_str().to_owned(),
    ),
    (&["gdrcopy-enabled"], &["GDRCOPY_ENABLED"], "flags.gdrcopyEnabled", "false", "true", |c| {
        shown(c.injector.gdrcopy)
    }),
    (&["gds-enabled"], &["GDS_ENABLED"], "flags.gdsEnabled", "false", "true", |c| {
        shown(c.injector.gds)
    }),
    (&["mofed-enabled"], &["MOFED_ENABLED"], "flags.mofedEnabled", "false", "true", |c| {
        shown(c.injector.mofed)
    }),
    (
        &["cdi-annotation-prefix"],
        &["CDI_ANNOTATION_PREFIX"],
        "flags.plugin.cdiAnnotationPrefix",
        "cdi.k8s.io/",
        "my.io/",
        |c| c.injector.annotation_prefix.clone(),
    ),
    (
        &["nvidia-cdi-hook-path", "nvidia-ctk-path"],
        &["NVIDIA_CDI_HOOK_PATH", "NVIDIA_CTK_PATH"],
        "flags.plugin.nvidiaCTKPath",
        "/usr/bin/nvidia-ctk",
        "/opt/nvidia-cdi-hook",
        |c| c.cdi.hook_path.clone(),
    ),
    (
        &["driver-root-ctr-path", "container-driver-root"],
        &["DRIVER_ROOT_CTR_PATH", "CONTAINER_DRIVER_ROOT"],
        "flags.plugin.containerDriverRoot",
        "/driver-root",
        "/driver",
        |c| path(&c.process.nvml.driver_root),
    ),
    (
        &["shared-devices-allocation-policy"],
        &["SHARED_DEVICES_ALLOCATION_POLICY"],
        "flags.plugin.sharedDevicesAllocationPolicy",
        "distributed",
        "packed",
        |c| c.allocation.shared.as_str().to_owned(),
    ),
    (&["imex-channel-ids"], &["IMEX_CHANNEL_IDS"], "imex.channelIDs", "off", "0", |c| {
        shown(c.injector.imex).replace("true", "0").replace("false", "off")
    }),
    (
        &["kubelet-socket"],
        &["KUBELET_SOCKET"],
        "",
        "/var/lib/kubelet/device-plugins/kubelet.sock",
        "/k/kubelet.sock",
        |c| path(c.process.plugin.kubelet.as_ref().unwrap()),
    ),
    (&["cdi-feature-flags"], &["CDI_FEATURE_FLAGS"], "", "{}", "disable-nvsandboxutils", |c| {
        shown(&c.cdi.features).replace("{disable-nvsandboxutils}", "disable-nvsandboxutils")
    }),
    (&["cdi-disable-hooks"], &["CDI_DISABLE_HOOKS"], "", "{}", "all", |c| {
        shown(&c.cdi.disabled_hooks).replace("{all}", "all")
    }),
    (&[], &["DP_DISABLE_HEALTHCHECKS"], "", "", "xids", |c| c.health.disable_healthchecks.clone()),
    (&[], &["DP_ENABLE_HEALTHCHECKS"], "", "", "48", |c| c.health.enable_healthchecks.clone()),
];

/// A file that holds `value` under `key`.
fn file(key: &str, value: &str) -> String {
    let lines =
        key.split('.').enumerate().map(|(depth, part)| format!("{}{part}:", "  ".repeat(depth)));
    let value = if key.to_ascii_lowercase().ends_with("ids") {
        format!("[{value}]")
    } else {
        value.to_owned()
    };
    format!("version: v1\n{} {value}\n", lines.collect::<Vec<_>>().join("\n"))
}

#[test]
fn every_row_of_section_1_1_holds() {
    for (flags, variables, key, default, value, effect) in ROWS {
        assert_eq!(effect(&Written::default().config()), *default, "{key} {flags:?}: default");
        for flag in *flags {
            let argument = format!("--{flag}={value}");
            let config = Written { flags: &[&argument], ..Written::default() }.config();
            assert_eq!(effect(&config), *value, "{argument}");
        }
        for variable in *variables {
            let config =
                Written { environment: &[(variable, value)], ..Written::default() }.config();
            assert_eq!(effect(&config), *value, "{variable}");
        }
        if !key.is_empty() {
            for key in [(*key).to_owned(), key.to_ascii_uppercase(), key.to_ascii_lowercase()] {
                let text = file(&key, value);
                assert_eq!(effect(&quiet(&text)), *value, "{text}");
            }
        }
    }
}

#[test]
fn rows_of_section_1_1_with_rules_of_their_own() {
    // mps-root: needed with MPS, and nothing without it.
    assert_eq!(
        Written { flags: &["--mps-root=/run/nvidia/mps"], ..Written::default() }
            .config()
            .layout
            .sharing,
        Sharing::None
    );
    // imex-required.
    for written in [
        Written { flags: &["--imex-channel-ids=0", "--imex-required"], ..Written::default() },
        Written {
            environment: &[("IMEX_CHANNEL_IDS", "0"), ("IMEX_REQUIRED", "true")],
            ..Written::default()
        },
        with_file("imex: {channelIDs: [0], required: true}"),
    ] {
        assert!(written.config().requires_imex_channel());
    }
    // kubelet-socket: empty means to serve and never register.
    for written in [
        Written { flags: &["--kubelet-socket="], ..Written::default() },
        Written { environment: &[("KUBELET_SOCKET", "")], ..Written::default() },
    ] {
        let expected =
            PluginPaths { directory: "/var/lib/kubelet/device-plugins".into(), kubelet: None };
        assert_eq!(written.config().process.plugin, expected);
    }
    // dev-root: empty means the driver root.
    let config =
        Written { flags: &["--driver-root=/d", "--dev-root="], ..Written::default() }.config();
    assert_eq!(config.injector.dev_root, "/d");
    // device-discovery-strategy: nvml is what happens anyway, tegra is told to do nothing.
    assert_eq!(warnings("flags: {deviceDiscoveryStrategy: nvml}"), Vec::<String>::new());
    let loaded = Written { flags: &["--device-discovery-strategy=tegra"], ..Written::default() }
        .load()
        .unwrap();
    assert!(loaded.warnings().next().unwrap().contains("has no effect"));
    // cdi-feature-flags: what is unknown is told and ignored.
    let loaded =
        Written { flags: &["--cdi-feature-flags=x,disable-ipc-discoverer"], ..Written::default() }
            .load()
            .unwrap();
    assert_eq!(loaded.config.cdi.features, ["disable-ipc-discoverer".to_owned()].into());
    assert!(loaded.warnings().next().unwrap().contains("\"x\" is unknown and ignored"));
}

/// NVIDIA's plugin, "1.1", row device-list-strategy: comma lists in flag and variable, string or
/// list in the file.
#[test]
fn a_comma_list_is_split_on_the_command_line_and_in_the_environment_and_not_in_the_file() {
    let both = [DeviceListStrategy::Envvar, DeviceListStrategy::CdiCri].into();
    for written in [
        Written { flags: &["--device-list-strategy=envvar,cdi-cri"], ..Written::default() },
        Written {
            flags: &["--device-list-strategy", "envvar", "--device-list-strategy", "cdi-cri"],
            ..Written::default()
        },
        Written {
            environment: &[("DEVICE_LIST_STRATEGY", "cdi-cri, envvar")],
            ..Written::default()
        },
        with_file("flags: {plugin: {deviceListStrategy: [envvar, cdi-cri]}}"),
        with_file("flags:\n  plugin:\n    deviceListStrategy:\n    - cdi-cri\n    - envvar\n"),
    ] {
        assert_eq!(written.config().injector.strategies, both);
    }
    let one = with_file("flags: {plugin: {deviceListStrategy: volume-mounts}}").config();
    assert_eq!(one.injector.strategies, [DeviceListStrategy::VolumeMounts].into());
    let mistakes =
        with_file("flags: {plugin: {deviceListStrategy: \"envvar,cdi-cri\"}}").mistakes();
    assert!(mistakes[0].contains("\"envvar,cdi-cri\" is not one of envvar,"), "{mistakes:?}");
}

/// NVIDIA's plugin, "1.1": the cross-validation and the values that are refused.
#[test]
fn what_section_1_1_refuses_is_refused_here() {
    for (written, says) in [
        (
            Written { flags: &["--mig-strategy=singel"], ..Written::default() },
            "flag --mig-strategy: \"singel\" is not one of none, single, mixed; did you mean \
                single?",
        ),
        (Written { flags: &["--mig-strategy="], ..Written::default() }, "\"\" is not one of none"),
        (
            Written { flags: &["--device-id-strategy=UUID"], ..Written::default() },
            "did you mean uuid?",
        ),
        (
            Written { flags: &["--fail-on-init-error=maybe"], ..Written::default() },
            "\"maybe\" is not true or false",
        ),
        (Written { flags: &["--imex-channel-ids=1"], ..Written::default() }, "expected none, or 0"),
        (Written { flags: &["--imex-channel-ids=0,0"], ..Written::default() }, "0 once"),
        (
            Written { flags: &["--device-discovery-strategy=vfio"], ..Written::default() },
            "is not one of auto, nvml, tegra",
        ),
        (
            Written { flags: &["--shared-devices-allocation-policy=x"], ..Written::default() },
            "distributed, packed, spread",
        ),
        (
            Written { flags: &["--driver-root=driver"], ..Written::default() },
            "is not an absolute path",
        ),
        // Watched where it is, and put into manifests: not relative to where a process was started.
        (
            Written { flags: &["--kubelet-socket=kubelet.sock"], ..Written::default() },
            "is not an absolute path",
        ),
        (
            Written { flags: &["--kubelet-socket=/"], ..Written::default() },
            "expected the path of a socket",
        ),
        (with_file("flags: {failOnInitError: \"true\"}"), "write true or false without quotes"),
        (with_file("version: v2"), "config.yaml:1: version: \"v2\" is not v1"),
        (with_file("imex: {channelIDs: 0, required: 1}"), "imex.required: 1 is not true or false"),
        (
            with_file("flags: {plugin: {deviceListStrategy: []}}"),
            "an empty list hands over nothing",
        ),
        (
            Written { flags: &["--mig-strategy=mixed", "--mps-root=/m"], ..with_file(MPS) },
            "cannot be combined with the MIG strategy mixed (from flag --mig-strategy)",
        ),
        (with_file(MPS), "needs the MPS root"),
    ] {
        let mistakes = written.mistakes();
        assert!(mistakes.len() == 1 && mistakes[0].contains(says), "{says}: {mistakes:?}");
    }
}

const MPS: &str = "sharing: {mps: {resources: [{name: nvidia.com/gpu, replicas: 2}]}}";

#[test]
fn a_file_that_is_checked_elsewhere_may_leave_the_mps_root_to_flags_and_environment() {
    let file = FileText { path: "c.yaml".into(), content: Ok(MPS.into()) };
    let loaded = load(&Sources::default(), Some(&file), Purpose::Check).unwrap();
    assert!(loaded.warnings().next().unwrap().contains("needs the MPS root"));
}

/// The settings that NVIDIA's plugin does not have.
#[test]
fn the_settings_of_our_own_hold() {
    let config = Written::default().config();
    assert_eq!(config.process.http_address, Some(Address::AnyAddress(19400)));
    assert_eq!(config.process.log.filter, "info");
    assert!(config.process.log.timestamps);
    assert_eq!(config.health.poll.poll, std::time::Duration::from_secs(10));
    assert_eq!(config.allocation.whole, WholeGpuPolicy::Optimal);
    assert_eq!(config.process.nvml.library, None);
    let config = Written {
        flags: &[
            "--http-address=unix:/run/x.sock",
            "--log-level=debug",
            "--log-format=json",
            "--log-timestamps=false",
            "--allocation-policy=numa",
            "--shared-devices-allocation-policy=spread",
            "--health-poll-interval=1m",
            "--nvml-library=/l/libnvidia-ml.so.1",
            "--state-dir=",
            "--quarantine-dir=/q",
            "--pod-resources-socket=",
            "--sysfs-root=/s",
        ],
        environment: &[("RUST_LOG", "warn")],
        ..Written::default()
    }
    .config();
    assert_eq!(config.process.http_address, Some(Address::Unix("/run/x.sock".into())));
    assert_eq!(
        (config.process.log.filter.as_str(), config.process.log.format),
        ("debug", LogFormat::Json)
    );
    assert_eq!(
        config.allocation,
        AllocationPolicy { whole: WholeGpuPolicy::Numa, shared: SharedPolicy::Spread }
    );
    assert_eq!(config.health.poll.poll, std::time::Duration::from_secs(60));
    assert!(!config.process.log.timestamps);
    assert_eq!((config.process.state_dir, config.process.pod_resources_socket), (None, None));
    assert_eq!(
        Written { environment: &[("RUST_LOG", "warn")], ..Written::default() }
            .config()
            .process
            .log
            .filter,
        "warn"
    );
    for (address, expected) in [
        ("", None),
        ("127.0.0.1:80", Some(Address::Tcp(([127, 0, 0, 1], 80).into()))),
        ("localhost:80", Some(Address::Tcp(([127, 0, 0, 1], 80).into()))),
        (":80", Some(Address::AnyAddress(80))),
    ] {
        let config =
            Written { environment: &[("HTTP_ADDRESS", address)], ..Written::default() }.config();
        assert_eq!(config.process.http_address, expected);
    }
    for (flag, says) in [
        ("--http-address=:70000", "is not IP:PORT"),
        ("--http-address=unix:x", "is not IP:PORT"),
        ("--cdi-annotation-prefix=my.io", "is not a DNS subdomain and a slash"),
        ("--cdi-annotation-prefix=My.io/", "is not a DNS subdomain and a slash"),
        ("--cdi-annotation-prefix=a/b/", "is not a DNS subdomain and a slash"),
        ("--cdi-annotation-prefix=/", "is not a DNS subdomain and a slash"),
        ("--log-level=a=loud", "is not a level"),
        ("--log-level=inof", r#""inof" is not a level (error, warn, info, debug, trace, off)"#),
        ("--log-level=inof", "did you mean info?"),
        ("--log-level=verbose", "is not a level"),
        ("--log-level=info,h2", r#""h2" is not a level"#),
        ("--log-level=6", "is not a level"),
        ("--health-poll-interval=10", "is not a duration"),
        ("--health-poll-interval=1ms", "shorter than 100ms"),
    ] {
        assert!(
            Written { flags: &[flag], ..Written::default() }.mistakes()[0].contains(says),
            "{flag}"
        );
    }
}

#[test]
fn a_log_filter_of_levels_and_targets_holds_and_an_empty_one_says_nothing() {
    for (text, expected) in [
        ("", "info"),
        (" ", "info"),
        ("WARN", "WARN"),
        ("0", "0"),
        ("off", "off"),
        ("info,gpu_device_plugin::plugin=debug", "info,gpu_device_plugin::plugin=debug"),
        ("gpu_device_plugin", "gpu_device_plugin"),
        ("warn, h2=trace", "warn, h2=trace"),
    ] {
        let config = Written { environment: &[("LOG_LEVEL", text)], ..Written::default() }.config();
        assert_eq!(config.process.log.filter, expected);
    }
}

#[test]
fn names_of_settings_are_used_once() {
    let words = |setting: &'static table::Setting| {
        let flags = setting.flag.iter().chain(setting.aliases);
        flags.chain(setting.env).chain(setting.key.iter()).copied().collect::<Vec<_>>()
    };
    let mut all: Vec<_> = table::all().flat_map(words).collect();
    all.sort_unstable();
    let count = all.len();
    all.dedup();
    // `devices` is a flag and a key.
    assert_eq!(all.len(), count - 1);
}
