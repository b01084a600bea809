//! NVIDIA's plugin, "Config file, remaining schema (`api/config/v1`)".

use std::num::NonZeroU32;

use device::health::{CriticalXids, EventType, Severity, Xid, XidAction};

use super::*;

fn replication(text: &str) -> Replication {
    quiet(text).layout.sharing.replication().cloned().expect("sharing")
}

#[test]
fn the_version_may_be_left_out_and_so_may_everything() {
    for text in ["", "---\n", "# nothing\n", "{}", "version: v1", "version:", "~"] {
        let mut config = quiet(text);
        config.process.config_file = None;
        assert_eq!(
            config.changes(&Written::default().config()),
            ConfigChanges::default(),
            "{text:?}"
        );
    }
}

#[test]
fn unknown_keys_are_told_with_the_nearest_known_one_and_ignored() {
    for (text, says) in [
        (
            "flags:\n  migStrateg: mixed",
            "config.yaml:2: flags.migStrateg: unknown key, ignored; did you mean migStrategy?",
        ),
        ("flag: {}", "config.yaml:1: flag: unknown key, ignored; did you mean flags?"),
        ("flags: {plugin: {zzz: 1}}", "flags.plugin.zzz: unknown key, ignored; known here: "),
        ("sharing: {mpss: {}}", "sharing.mpss: unknown key, ignored; did you mean mps?"),
    ] {
        let warnings = warnings(text);
        assert!(warnings.len() == 1 && warnings[0].contains(says), "{warnings:?}");
    }
}

#[test]
fn keys_of_feature_discovery_are_checked_and_mean_nothing_here() {
    quiet(
        "flags:\n  useNodeFeatureAPI: true\n  gfd:\n    oneshot: false\n    noTimestamp: no\n    \
            sleepInterval: 60s\n    \
         outputFile: /x\n    machineTypeFile: /y\n",
    );
    quiet("flags: {gfd: {sleepInterval: infinite}}");
    for interval in ["60000000000", "6e10", "-1s", "-1", "\"1h\"", "0"] {
        quiet(&format!("flags: {{gfd: {{sleepInterval: {interval}}}}}"));
    }
    for interval in ["--1s", "-+1s", "\"10\"", "[]", "true"] {
        assert_eq!(
            with_file(&format!("flags: {{gfd: {{sleepInterval: {interval}}}}}")).mistakes().len(),
            1
        );
    }
    quiet("version: \"\"");
    assert!(
        with_file("flags: {gfd: {sleepInterval: soon}}").mistakes()[0]
            .contains("is not a duration")
    );
}

#[test]
fn resources_are_parsed_and_then_ignored() {
    let text = "resources:\n  gpus:\n  - {pattern: '*A100*', name: a100}\n  mig:\n  - {pattern: \
        1g.5gb, name: small}\n";
    let warnings = warnings(text);
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0].contains(":2: resources: is ignored")
            && warnings[0].contains("customResources"),
        "{warnings:?}"
    );
    assert!(with_file(text).config().layout.gpu_names.is_empty());
    assert!(
        with_file("resources: {gpus: [{pattern: x}]}").mistakes()[0]
            .contains("resources.gpus[0].name: is missing")
    );
    let text = format!("flags: {{plugin: {{customResources: true}}}}\n{text}");
    let layout = quiet(&text).layout;
    assert_eq!(layout.gpu_names[0].name.as_str(), "nvidia.com/a100");
    assert!(layout.gpu_names[0].pattern.matches("NVIDIA A100-SXM4-40GB"));
    assert_eq!(layout.mig_names[0].name.as_str(), "nvidia.com/small");
}

#[test]
fn resources_are_required_and_not_empty() {
    for text in [
        "sharing: {timeSlicing: {}}",
        "sharing: {timeSlicing: {resources: []}}",
        "sharing: {mps: {renameByDefault: true}}",
        "sharing: {timeSlicing: {resources: }}",
    ] {
        let written = Written { flags: &["--mps-root=/m"], ..with_file(text) };
        let mistakes = written.mistakes();
        assert!(
            mistakes.len() == 1 && mistakes[0].contains("names no resource"),
            "{text}: {mistakes:?}"
        );
    }
    let mistakes = with_file("sharing: {timeSlicing: {resources: gpu}}").mistakes();
    assert!(mistakes.len() == 1 && mistakes[0].contains("is not a list"), "{mistakes:?}");
}

#[test]
fn replicas_are_required_and_two_or_more() {
    for (replicas, says) in [
        ("1", "1 is not a whole number of at least 2"),
        ("0", "0 is not"),
        ("-4", "-4 is not"),
        ("2.5", "2.5 is not"),
        ("\"4\"", "\"4\" is not"),
        ("many", "\"many\" is not"),
        ("[2]", "a list is not"),
    ] {
        let text = format!(
            "sharing: {{timeSlicing: {{resources: [{{name: gpu, replicas: {replicas}}}]}}}}"
        );
        let mistakes = with_file(&text).mistakes();
        assert!(mistakes.len() == 1 && mistakes[0].contains(says), "{replicas}: {mistakes:?}");
    }
    let mistakes = with_file("sharing: {timeSlicing: {resources: [{name: gpu}]}}").mistakes();
    assert!(mistakes[0].contains("resources[0].replicas: is missing"), "{mistakes:?}");
    assert_eq!(
        replication("sharing: {timeSlicing: {resources: [{name: gpu, replicas: 4.0}]}}").resources
            [0]
        .replicas,
        4
    );
}

#[test]
fn a_request_for_more_than_one_fails_by_default_only_with_mps() {
    let text = |kind: &str, more: &str| {
        format!("sharing: {{{kind}: {{{more}resources: [{{name: gpu, replicas: 2}}]}}}}")
    };
    for (kind, more, expected) in [
        ("timeSlicing", "", false),
        ("timeSlicing", "failRequestsGreaterThanOne: true, ", true),
        ("mps", "", true),
        ("mps", "failRequestsGreaterThanOne: false, ", false),
    ] {
        let text = text(kind, more);
        let config = Written { flags: &["--mps-root=/m"], ..with_file(&text) }.config();
        let replication = config.layout.sharing.replication().unwrap();
        assert_eq!(replication.fail_requests_greater_than_one, expected, "{text}");
    }
}

#[test]
fn rename_by_default_appends_the_suffix_and_checks_the_length() {
    let text = "sharing: {timeSlicing: {renameByDefault: true, resources: [{name: nvidia.com/gpu, \
        replicas: 2}]}}";
    let replication = replication(text);
    assert_eq!(replication.resources[0].offered_as.as_str(), "nvidia.com/gpu.shared");
    assert_eq!(replication.resources[0].name.as_str(), "nvidia.com/gpu");
    let long = format!(
        "sharing: {{timeSlicing: {{renameByDefault: true, resources: [{{name: {}, replicas: \
            2}}]}}}}",
        "a".repeat(50)
    );
    assert!(
        with_file(&long).mistakes()[0].contains("has 68 characters; at most 63"),
        "{:?}",
        with_file(&long).mistakes()
    );
}

#[test]
fn rename_and_devices_are_ignored_unless_custom_resources_are_on() {
    let sharing = "sharing:\n  timeSlicing:\n    resources:\n    - name: gpu\n      rename: \
        slice\n      devices: [0, '0:1', GPU-1]\n      replicas: 3\n";
    let warnings = warnings(sharing);
    assert!(warnings.iter().any(|text| {
        text.contains(":5: sharing.timeSlicing.resources[0].rename: \"slice\" is ignored")
    }));
    assert!(warnings.iter().any(|text| {
        text.contains(":6: sharing.timeSlicing.resources[0].devices: a list is ignored")
    }));
    let resource =
        with_file(sharing).config().layout.sharing.replication().unwrap().resources[0].clone();
    assert_eq!(
        (resource.offered_as.as_str(), resource.devices),
        ("nvidia.com/gpu", Selection::All)
    );

    let text = format!("flags: {{plugin: {{customResources: true}}}}\n{sharing}");
    let resource = replication(&text).resources[0].clone();
    assert_eq!(resource.offered_as.as_str(), "nvidia.com/slice");
    let refs = [DeviceRef::Gpu(0), DeviceRef::Mig(0, 1), DeviceRef::Uuid("GPU-1".parse().unwrap())];
    assert_eq!(resource.devices, Selection::List(refs.into()));
}

#[test]
fn a_rename_to_the_default_name_and_all_devices_are_no_reason_for_a_warning() {
    quiet(
        "sharing: {timeSlicing: {renameByDefault: true, resources: [{name: gpu, rename: \
            gpu.shared, devices: all, replicas: 2}]}}",
    );
}

#[test]
fn devices_are_all_or_a_count_or_a_list() {
    let text = |devices: &str| {
        format!(
            "flags: {{plugin: {{customResources: true}}}}\n\
             sharing: {{timeSlicing: {{resources: [{{name: gpu, replicas: 2, devices: \
             {devices}}}]}}}}"
        )
    };
    assert_eq!(replication(&text("all")).resources[0].devices, Selection::All);
    assert_eq!(replication(&text("2")).resources[0].devices, Selection::Count(2));
    for devices in ["0", "some", "[]", "[x]", "[\"0:x\"]", "{}"] {
        let mistakes = with_file(&text(devices)).mistakes();
        assert!(mistakes.len() == 1 && mistakes[0].contains("is not a"), "{devices}: {mistakes:?}");
    }
    let mistakes = with_file(&text("[x, 0, y]")).mistakes();
    assert_eq!(mistakes.len(), 2, "{mistakes:?}");
    assert!(mistakes[1].contains("devices[2]: \"y\""), "{mistakes:?}");
}

#[test]
fn with_mps_and_time_slicing_mps_counts_and_it_is_told() {
    let one = "{resources: [{name: gpu, replicas: 2}]}";
    let text = format!("flags: {{mpsRoot: /m}}\nsharing: {{timeSlicing: {one}, mps: {one}}}");
    assert!(warnings(&text)[0].contains("sharing.mps is there too and counts alone"));
    let Sharing::Mps { root, .. } = with_file(&text).config().layout.sharing else {
        panic!("not MPS")
    };
    assert_eq!(root, std::path::Path::new("/m"));
}

#[test]
fn several_replicas_of_a_gpu_that_mps_shares_need_the_policy_packed() {
    let text = |policy: &str, fails: bool| {
        format!(
            "flags: {{mpsRoot: /m, plugin: {{sharedDevicesAllocationPolicy: {policy}}}}}\nsharing: \
             {{mps: {{failRequestsGreaterThanOne: {fails}, resources: [{{name: nvidia.com/gpu, \
             replicas: 2}}]}}}}"
        )
    };
    let told = warnings(&text("distributed", false));
    assert!(told[0].contains("sharing.mps.failRequestsGreaterThanOne"), "{told:?}");
    assert!(warnings(&text("packed", false)).is_empty());
    assert!(warnings(&text("distributed", true)).is_empty());
}

#[test]
fn how_mps_divides_a_gpu_is_in_flags() {
    let text = "flags: {mpsRoot: /m, mpsMultiUser: true, mpsMemoryReserve: 512, \
                mpsMemoryPercentage: 150, mpsThreadPercentage: 200, mpsReadOnlyPipe: true}";
    let rules = with_file(text).config().injector.mps;
    assert!(rules.multi_user && rules.read_only_pipe);
    let numbers = (rules.memory_reserve, rules.memory_percentage, rules.thread_percentage);
    assert_eq!(numbers, (512, 150, 200));
    for wrong in ["mpsMemoryPercentage: 0", "mpsThreadPercentage: x", "mpsMemoryReserve: -1"] {
        assert_eq!(with_file(&format!("flags: {{{wrong}}}")).mistakes().len(), 1, "{wrong}");
    }
}

#[test]
fn a_name_that_no_device_can_have_is_told() {
    let text = |flags: &str, name: &str| {
        format!(
            "flags: {flags}\nsharing:\n  timeSlicing:\n    resources:\n    - {{name: {name}, \
                replicas: 2}}\n"
        )
    };
    for (flags, name, says) in [
        (
            "{}",
            "mig-1g.5gb",
            ":5: sharing.timeSlicing.resources[0].name: nvidia.com/mig-1g.5gb has no devices with \
                the MIG strategy none",
        ),
        ("{migStrategy: single}", "mig-1g.5gb", "has no devices with the MIG strategy single"),
        (
            "{migStrategy: mixed}",
            "gpus",
            "nvidia.com/gpus has no devices: there are nvidia.com/gpu and",
        ),
    ] {
        let warnings = warnings(&text(flags, name));
        assert!(warnings.len() == 1 && warnings[0].contains(says), "{warnings:?}");
    }
    quiet(&text("{migStrategy: mixed}", "mig-1g.5gb"));
}

#[test]
fn a_resource_shared_twice_counts_once() {
    let twice = "sharing:\n  timeSlicing:\n    resources:\n    - {name: gpu, replicas: 2}\n    - \
        {name: nvidia.com/gpu, replicas: 4}\n    - {name: mig-1g.5gb, replicas: 2}\n";
    assert!(warnings(twice)[0].contains(
        "resources[1].name: nvidia.com/gpu is shared by an entry before it; 4 replicas count"
    ));
    let config = with_file(twice).config();
    assert_eq!(config.layout.sharing.replication().unwrap().resources[0].replicas, 4);
    assert_eq!(config.origin("sharing.timeSlicing.resources[1].name"), &Origin::File { line: 6 });
    let custom = format!("flags: {{plugin: {{customResources: true}}}}\n{twice}");
    assert!(with_file(&custom).mistakes()[0].contains("lists of devices that do not overlap"));
    quiet(
        "flags: {plugin: {customResources: true}}\nsharing: {timeSlicing: {resources: [{name: gpu, \
            replicas: 2, devices: [0]}, {name: gpu, replicas: 4, rename: small, devices: [1]}]}}",
    );
}

#[test]
fn a_list_that_the_kubelet_would_not_receive_is_refused_with_its_arithmetic() {
    let text = "sharing: {timeSlicing: {resources: [{name: gpu, replicas: 100000}]}}";
    let mistakes = with_file(text).mistakes();
    assert_eq!(
        mistakes,
        ["/config/config.yaml:1: sharing.timeSlicing.resources[0].replicas: 100000 makes a list \
                of 1 device x 100000 \
          replicas x 68 bytes = 6800000 bytes, and the kubelet receives at most 4194304; at most \
          61680 replicas fit"]
    );
}

#[test]
fn health_has_the_draft_keys_and_more() {
    let health = quiet(
        "health:\n  disabled: false\n  eventTypes: [XidCriticalError]\n  ignoredXIDs: [13, 31]\n  \
         criticalXIDs: all\n  \
         xids: {94: event, 119: unhealthy, 48: recovery-action, 63: ignore}\n  \
         pollInterval: 30s\n  recoveryPolls: 3\n  \
         relapses: 5\n  relapseWindow: 2h\n  missedCalls: 4\n  rowRemapPending: unhealthy\n  \
         releaseForReset: true\n  \
         drainP2P: event\n  fabric: event\n  suspicion: 1s\n  quietPeriod: 1h\n  callDeadline: \
         2s\n  releaseFor: 1m\n",
    )
    .health;
    assert!(!health.rules.disabled && health.release_for_reset);
    assert_eq!(health.rules.event_types, [EventType::XidCriticalError].into());
    assert_eq!(health.rules.ignored, Some([Xid(13), Xid(31)].into()));
    assert_eq!(health.rules.critical, CriticalXids::All);
    let thresholds = &health.rules.thresholds;
    assert_eq!(
        (thresholds.row_remap_pending, thresholds.drain_p2p),
        (Severity::Unhealthy, Severity::Degraded)
    );
    assert_eq!(thresholds.quiet_period, Some(std::time::Duration::from_secs(3600)));
    assert_eq!(health.rules.actions[&Xid(94)], XidAction::Event);
    assert_eq!(health.poll.poll, std::time::Duration::from_secs(30));
    let counts = [thresholds.recovery_polls, health.relapses.count, thresholds.missed_calls];
    assert_eq!(counts.map(NonZeroU32::get), [3, 5, 4]);
    let flag = Written {
        flags: &["--health-poll-interval=5s"],
        ..with_file("health: {pollInterval: 30s}")
    };
    assert_eq!(flag.config().health.poll.poll, std::time::Duration::from_secs(5));
}

#[test]
fn mistakes_in_health_are_told_with_their_place() {
    let mistakes = with_file(
        "health:\n  eventTypes: [Xid]\n  ignoredXIDs: [13, x]\n  criticalXIDs: [13]\n  xids:\n    \
            94: explode\n    abc: event\n  relapses: 0\n",
    )
    .mistakes();
    for says in [
        ":2: health.eventTypes[0]: \"Xid\" is not one of XidCriticalError",
        ":3: health.ignoredXIDs[1]: \"x\" is not an Xid",
        ":6: health.xids.94: \"explode\" is not one of ignore, event",
        ":7: health.xids: \"abc\" is not an Xid",
        ":8: health.relapses: 0 is not a whole number of at least 1",
    ] {
        assert!(mistakes.iter().any(|mistake| mistake.contains(says)), "{says}: {mistakes:#?}");
    }
    let mistakes = with_file("health: {ignoredXIDs: [13], criticalXIDs: [13]}").mistakes();
    assert!(mistakes[0].contains("13 is in ignoredXIDs and in criticalXIDs"), "{mistakes:?}");
}

#[test]
fn the_device_filter_has_one_syntax_everywhere() {
    for written in [
        Written { flags: &["--devices=0-3,!2,model=*H100*,GPU-abc"], ..Written::default() },
        Written {
            environment: &[("DEVICES", "0-3, !2, model=*H100*, uuid=GPU-abc")],
            ..Written::default()
        },
        with_file("devices: '0-3,!2,model=*H100*,GPU-abc'"),
        with_file("devices: [0-3, '!2', model=*H100*, GPU-abc]"),
        with_file("devices:\n  include: [0-3, model=*H100*, GPU-abc]\n  exclude: 2\n"),
    ] {
        let filter = written.config().layout.devices;
        let shown = |terms: &[Term]| terms.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            (shown(&filter.include), shown(&filter.exclude)),
            (
                vec!["0-3".to_owned(), "model=*H100*".to_owned(), "GPU-abc".to_owned()],
                vec!["2".to_owned()]
            )
        );
    }
    assert_eq!(
        Written { environment: &[("DEVICES", "")], ..Written::default() }.config().layout.devices,
        DeviceFilter::default()
    );
    let mistakes = with_file(
        "devices:\n  include:\n  - 0\n  - H100\n  exclude: [MIG-1, 3-1, modle=x]\n  other: 1\n",
    )
    .mistakes();
    assert_eq!(mistakes.len(), 1, "{mistakes:?}");
    let mistakes =
        with_file("devices:\n  include:\n  - 0\n  - H100 PCIe\n  exclude: [MIG-1, 3-1, modle=x]\n")
            .mistakes();
    for says in [
        ":4: devices.include[1]: \"H100 PCIe\"",
        "is model=... meant?",
        "MIG devices follow their GPU",
        "\"!3-1\"",
        "is model=... meant?",
    ] {
        assert!(mistakes.iter().any(|mistake| mistake.contains(says)), "{says}: {mistakes:#?}");
    }
}

#[test]
fn the_device_filter_offers_what_fits_and_reserves_the_rest() {
    use device::identity::{GpuRecord, KnownGpu};
    let gpu = |index: u32, name: Option<&str>| device::gpu::Gpu {
        name: name.map(str::to_owned),
        pci_bus_id: Some(format!("0000:{index:02x}:00.0").parse().unwrap()),
        ..device::gpu::Gpu::unknown(format!("GPU-{index}").parse().unwrap(), index)
    };
    let offered = |terms: &str| {
        let filter = Written { environment: &[("DEVICES", terms)], ..Written::default() }
            .config()
            .layout
            .devices;
        let gpus = [gpu(0, Some("NVIDIA H100")), gpu(1, Some("NVIDIA T400")), gpu(2, None)];
        let records = gpus.map(|gpu| (gpu.uuid.clone(), GpuRecord::listed(gpu)));
        let gpus = records.iter().map(|(uuid, record)| KnownGpu { uuid, record });
        gpus.filter(|gpu| filter.reserves(*gpu).is_none())
            .map(|gpu| gpu.record.index)
            .collect::<Vec<_>>()
    };
    for (terms, expected) in [
        ("", vec![0, 1, 2]),
        ("!0", vec![1, 2]),
        ("0-1", vec![0, 1]),
        ("0-1,!1", vec![0]),
        ("!model=*T400", vec![0, 2]),
        ("model=*H100", vec![0]),
        ("GPU-2", vec![2]),
        ("uuid=GPU-0,uuid=GPU-2", vec![0, 2]),
        ("00000000:01:00.0", vec![1]),
        ("pci=02:00.0", vec![2]),
        ("7", vec![]),
    ] {
        assert_eq!(offered(terms), expected, "{terms}");
    }
}
