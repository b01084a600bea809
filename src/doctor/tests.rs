mod states;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use device::cdi::HookProgram;
use device::injection::DeviceListStrategy;
use device::testing::node;
use expect_test::expect_file;

use super::facts::*;
use super::*;
use crate::observe::event_log::EventLog;
use crate::observe::tests::{status_of, xid};

/// One H100 on a node in good order.
fn facts() -> Facts {
    let survey = DriverAnswer {
        library: Some("/driver-root/usr/lib64/libnvidia-ml.so.1".to_owned()),
        driver_version: Some("580.95.05".to_owned()),
        library_version: Some("13.580.95.05".to_owned()),
        cuda: Some("13.0".to_owned()),
        gpus: vec![GpuFacts {
            uuid: Some("GPU-1".to_owned()),
            model: Some("NVIDIA H100 80GB HBM3".to_owned()),
            bus: Some("0000:1b:00.0".to_owned()),
            minor: Some(0),
            ..GpuFacts::default()
        }],
        resources: vec![OfferedResource {
            name: "nvidia.com/gpu".to_owned(),
            devices: 1,
            healthy: 1,
            ids: vec!["GPU-1".to_owned()],
        }],
        nodes: vec![DeviceNode { path: "/dev/nvidiactl".to_owned(), opened: OpenResult::Opened }],
        sees_control_node: true,
        ..DriverAnswer::default()
    };
    Facts {
        settings: EffectiveSettings {
            strategies: [DeviceListStrategy::Envvar].into(),
            mig_strategy: "none".to_owned(),
            driver_root: "/driver-root".into(),
            host_root: "/driver-root".into(),
            quarantine_dir: Some("/var/lib/gpu-device-plugin/quarantine".into()),
            ..EffectiveSettings::default()
        },
        platform: Platform::Pci,
        bus: Ok(BTreeMap::from([("0000:1b:00.0".to_owned(), Some("nvidia".to_owned()))])),
        module: KernelModule {
            version: Some("580.95.05".to_owned()),
            nvidia: true,
            nouveau: false,
            uvm: true,
            ..KernelModule::default()
        },
        driver: DriverProbe::Answered(Box::new(survey)),
        plugin: Ok(Box::new(status_of(&node(1), &EventLog::default()))),
        kubelet: KubeletFacts {
            directory: "/var/lib/kubelet/device-plugins".into(),
            state: DirectoryState::Writable,
            socket: Some((
                "/var/lib/kubelet/device-plugins/kubelet.sock".into(),
                SocketProbe::Answers,
            )),
            others: vec![PluginSocket {
                name: "nvidia-gpu-ju1vfhy7.sock".to_owned(),
                ours: Some("gpu".to_owned()),
                probe: SocketProbe::Answers,
                process: None,
            }],
            allocatable: Ok(BTreeMap::from([("nvidia.com/gpu".to_owned(), 1)])),
            version: Some((1, 36)),
            pod_resources: Some((
                "/var/lib/kubelet/pod-resources/kubelet.sock".into(),
                SocketProbe::Answers,
            )),
            access: Access::default(),
        },
        runtimes: ContainerRuntimes {
            runtimes: vec![ContainerRuntime {
                name: "containerd",
                files: vec!["/etc/containerd/config.toml".into()],
                default: Some("nvidia".to_owned()),
                nvidia: BTreeMap::from([("nvidia".to_owned(), None)]),
                ..ContainerRuntime::default()
            }],
            ..ContainerRuntimes::default()
        },
        node: NodeFacts {
            distribution: DistributionFacts::Other("ubuntu".to_owned()),
            inotify: InotifyFacts {
                instances: Some(8192),
                watches: Some(524_288),
                used: 12,
                ..InotifyFacts::default()
            },
            now: SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_000_000),
            newest: None,
            state: Some(("/var/lib/gpu-device-plugin".into(), DirectoryState::Writable)),
            unreadable: None,
            quarantine: None,
        },
    }
}

fn survey(facts: &mut Facts) -> &mut DriverAnswer {
    match &mut facts.driver {
        DriverProbe::Answered(survey) => survey,
        _ => panic!("the driver has answered"),
    }
}

/// The findings of facts with this change, except those that are OK: level, id, and all the words.
fn reported(change: impl FnOnce(&mut Facts)) -> Vec<(Level, &'static str, String)> {
    let mut facts = facts();
    change(&mut facts);
    let findings =
        examine(&facts).findings.into_iter().filter(|finding| finding.level != Level::Ok);
    findings
        .map(|finding| {
            (finding.level, finding.id, format!("{}|{}|{}", finding.seen, finding.why, finding.fix))
        })
        .collect()
}

/// There is one such finding.
#[track_caller]
fn one(change: impl FnOnce(&mut Facts), level: Level, id: &str, words: &str) {
    let reported = reported(change);
    let is_it =
        |(l, i, text): &(Level, &str, String)| (*l, *i) == (level, id) && text.contains(words);
    assert!(
        reported.len() == 1 && reported.iter().all(is_it),
        "{level:?} {id} {words:?}: {reported:#?}"
    );
}

#[test]
fn the_report_reads_like_this() {
    let mut facts = facts();
    survey(&mut facts).gpus[0].causes = vec![Condition {
        kind: "recovery_action".to_owned(),
        text: "the driver asks for a reset of the GPU".to_owned(),
        action: Some(1),
        ..Condition::default()
    }];
    facts.kubelet.pod_resources = None;
    facts.runtimes.runtimes[0].default = None;
    let report = examine(&facts);
    expect_file!["tests.txt"].assert_eq(&text(&report, TextStyle::default()));
    let coloured = text(&report, TextStyle { colour: true, width: None });
    assert!(coloured.contains("\u{1b}[31;1mPROBLEM\u{1b}[0m"), "{coloured}");
}

#[test]
fn lines_fill_the_terminal_and_are_not_wider_than_can_be_read() {
    let report = examine(&facts());
    for (width, at_most) in [(None, 110), (Some(60), 60), (Some(100), 100), (Some(500), 120)] {
        let text = text(&report, TextStyle { colour: false, width });
        let longest = text.lines().map(|line| line.chars().count()).max();
        assert!(longest <= Some(at_most) && longest > Some(at_most - 30), "{width:?}: {longest:?}");
    }
}

#[test]
fn the_json_form_says_its_version_and_names_each_finding() {
    let mut facts = facts();
    facts.kubelet.socket.as_mut().unwrap().1 = SocketProbe::Refused;
    let document: serde_json::Value = serde_json::from_str(&json(&examine(&facts))).unwrap();
    assert_eq!(document["schemaVersion"], 1);
    assert_eq!(document["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&document["verdict"], &document["problems"]), (&"problems".into(), &1.into()));
    let finding =
        document["findings"].as_array().unwrap().iter().find(|f| f["level"] == "problem").unwrap();
    assert_eq!(
        finding,
        &serde_json::json!({
            "id": "kubelet.socket", "group": "kubelet", "level": "problem",
            "checked": "the kubelet's registration socket",
            "seen": "/var/lib/kubelet/device-plugins/kubelet.sock is there and nobody listens on \
                it",
            "why": "the plugin registers there; until it has, the node has no GPUs to allocate",
            "fix": "start the kubelet (systemctl status kubelet, systemctl start kubelet), and \
                mount the host's /var/lib/kubelet/device-plugins at the directory that is seen \
                here",
        })
    );
}

#[test]
fn the_exit_code_is_of_the_worst_and_a_problem_is_worse_than_what_could_not_be_checked() {
    let code = |change: fn(&mut Facts)| {
        let mut facts = facts();
        change(&mut facts);
        examine(&facts).verdict().exit_code()
    };
    assert_eq!(code(|_| {}), 0);
    assert_eq!(code(|facts| facts.runtimes.runtimes[0].default = None), 0, "a warning");
    assert_eq!(code(|facts| facts.bus = Err("no".into())), 2);
    assert_eq!(
        code(|facts| {
            facts.bus = Err("no".into());
            facts.kubelet.state = DirectoryState::Missing;
        }),
        1
    );
}

#[test]
fn a_device_node_that_cannot_be_opened_says_what_that_means() {
    let refused = |code, text: &str| OpenResult::Refused { code, text: text.to_owned() };
    for (opened, words) in [
        (refused(1, "Operation not permitted"), "systemctl daemon-reload"),
        (refused(13, "Permission denied"), "privileged"),
        (refused(5, "Input/output error"), "RmInitAdapter"),
        (refused(6, "No such device or address"), "no driver behind it"),
        (refused(19, "No such device"), "no driver behind it"),
        (refused(40, "Too many levels of symbolic links"), "ls -l /dev/nvidia*"),
        (OpenResult::TimedOut, "does not return"),
        (OpenResult::Missing, "nvidia-modprobe"),
    ] {
        one(|facts| survey(facts).nodes[0].opened = opened, Level::Problem, "driver.nodes", words);
    }
}

#[test]
fn an_asking_that_fails_is_reported() {
    let silent = |facts: &mut Facts| facts.driver = DriverProbe::TimedOut(Duration::from_secs(120));
    one(silent, Level::Problem, "driver.nvml", "no answer within 120 s");
    let died = |facts: &mut Facts| {
        facts.driver =
            DriverProbe::Died { how: "signal: 11 (SIGSEGV)".into(), stderr: "\u{1b}[2Jbad".into() };
    };
    one(died, Level::Problem, "driver.nvml", "SIGSEGV) \u{1b}[2Jbad");
    let not_started = |facts: &mut Facts| facts.driver = DriverProbe::NotStarted("no /proc".into());
    one(not_started, Level::Unknown, "driver.nvml", "no /proc");
    let failed =
        |facts: &mut Facts| survey(facts).problem = Some(NvmlProblem::Failed("no thread".into()));
    assert_eq!(reported(failed)[0].0, Level::Unknown);
}

#[test]
fn nothing_from_outside_controls_the_terminal() {
    let mut facts = facts();
    survey(&mut facts).gpus[0].model = Some("H100\u{1b}[2J\nPROBLEM  forged".into());
    survey(&mut facts).resources.clear();
    let died = DriverProbe::Died { how: "\u{9b}31m".into(), stderr: "a\nb\u{202e}".into() };
    for driver in [facts.driver.clone(), died] {
        let facts = Facts { driver, ..facts.clone() };
        let text = text(&examine(&facts), TextStyle::default());
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
        assert!(!text.contains('\u{202e}') && !text.contains("\nPROBLEM  forged"), "{text}");
    }
}

#[test]
fn an_unknown_version_is_no_mismatch() {
    assert_eq!(reported(|facts| facts.module.version = Some("unknown".to_owned())), []);
    one(
        |facts| facts.module.version = Some("1.2.3".to_owned()),
        Level::Problem,
        "driver.versions",
        "1.2.3",
    );
}

#[test]
fn a_missing_control_node_is_distinguished_from_a_driver_that_is_not_loaded() {
    let hidden = |sees: bool| {
        move |facts: &mut Facts| {
            let survey = survey(facts);
            survey.problem = Some(NvmlProblem::ReturnCode {
                code: 9,
                text: "nvmlInit_v2: the driver is not loaded".into(),
            });
            survey.sees_control_node = sees;
        }
    };
    one(hidden(false), Level::Problem, "driver.nvml", "this container does not see /dev/nvidiactl");
    one(hidden(true), Level::Problem, "driver.nvml", "does not get through to the kernel driver");
}

#[test]
fn a_directory_that_cannot_be_used_says_why() {
    for (state, words) in [
        (
            DirectoryState::NotWritable("Read-only file system (os error 30)".into()),
            "without readOnly",
        ),
        (DirectoryState::Deleted, "delete the plugin's pod"),
        (DirectoryState::NotADirectory, "--kubelet-socket"),
        (DirectoryState::Missing, "mount the host's"),
    ] {
        one(|facts| facts.kubelet.state = state, Level::Problem, "kubelet.directory", words);
    }
    let long =
        |facts: &mut Facts| facts.kubelet.directory = PathBuf::from(format!("/{}", "k".repeat(80)));
    one(long, Level::Problem, "kubelet.directory", "too long");
    let read_only = |facts: &mut Facts| {
        facts.node.state =
            Some(("/state".into(), DirectoryState::NotWritable("Read-only file system".into())));
    };
    one(read_only, Level::Warning, "node.state", "--state-dir");
    let unreadable =
        |facts: &mut Facts| facts.node.unreadable = Some("it is of version 7, not 1".into());
    one(unreadable, Level::Warning, "node.state", "sets it aside");
}

#[test]
fn the_distribution_is_named_with_its_page() {
    let seen = |distribution: DistributionFacts| {
        let mut facts = facts();
        facts.node.distribution = distribution;
        let findings = examine(&facts).findings;
        let named = findings.iter().find(|finding| finding.id == "node.distribution");
        named.map(|finding| (finding.level, finding.seen.clone())).unwrap()
    };
    let known = DistributionFacts::Known(KubernetesDistribution::K3s, "/etc/x is there".to_owned());
    let text = "k3s, since /etc/x is there; docs/platforms/k3s-rke2.md is about it";
    assert_eq!(seen(known), (Level::Ok, text.to_owned()));
    let text = "none of those in docs/platforms; os-release has ID=debian";
    assert_eq!(seen(DistributionFacts::Other("debian".to_owned())), (Level::Ok, text.to_owned()));
    let not_seen = |facts: &mut Facts| facts.node.distribution = DistributionFacts::NotSeen;
    one(not_seen, Level::Unknown, "node.distribution", "no os-release below /driver-root");
}

#[test]
fn a_clock_before_2026_is_wrong() {
    let early =
        |facts: &mut Facts| facts.node.now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
    one(early, Level::Problem, "node.clock", "1000 s since 1970");
    let ahead = |seconds| {
        move |facts: &mut Facts| {
            facts.node.newest = Some(("/x".into(), facts.node.now + Duration::from_secs(seconds)));
        }
    };
    one(ahead(3600), Level::Problem, "node.clock", "3600 s behind the last change of /x");
    assert!(reported(ahead(30)).is_empty());
}

#[test]
fn a_gpu_on_the_bus_that_answers_with_errors_is_reported_once() {
    let nameless = |facts: &mut Facts| {
        let gpu = &mut survey(facts).gpus[0];
        *gpu = GpuFacts {
            error: Some("nvmlDeviceGetUUID: an unknown error".into()),
            ..Default::default()
        };
    };
    one(nameless, Level::Problem, "gpus.gpu", "nvmlDeviceGetUUID");
    let gone = |facts: &mut Facts| {
        survey(facts).gpus.clear();
        survey(facts).resources.clear();
    };
    let ids: Vec<_> = reported(gone).into_iter().map(|(_, id, _)| id).collect();
    assert_eq!(ids, ["gpus.enumeration", "gpus.offered"]);
}

#[test]
fn causes_that_only_the_running_plugin_has_are_reported() {
    let heard = |change: fn(&mut status::Status)| {
        move |facts: &mut Facts| {
            let (mut inventory, event_log) = (node(1), EventLog::default());
            xid(&mut inventory, &event_log, 0, 79, 40);
            let mut status = status_of(&inventory, &event_log);
            change(&mut status);
            let healthy = status.resources.iter().map(|of| (of.name.clone(), of.healthy));
            facts.kubelet.allocatable = Ok(healthy.collect());
            facts.plugin = Ok(Box::new(status));
        }
    };
    one(heard(|_| {}), Level::Problem, "gpus.plugin", "Xid 79 (the GPU has fallen off the bus)");
    let known = |facts: &mut Facts| {
        heard(|_| {})(facts);
        let gpu = facts.plugin.as_ref().unwrap().gpus[0].clone();
        let text = gpu.reasons[0].message.clone();
        survey(facts).gpus[0].causes = vec![Condition { text, ..Condition::default() }];
        survey(facts).gpus[0].uuid = Some(gpu.uuid);
    };
    one(known, Level::Problem, "gpus.gpu", "Xid 79");
    let of_another = |facts: &mut Facts| {
        known(facts);
        survey(facts).gpus[0].uuid = Some("GPU-another".to_owned());
    };
    let ids: Vec<&str> = reported(of_another).iter().map(|(_, id, _)| *id).collect();
    assert_eq!(ids, ["gpus.gpu", "gpus.plugin"], "one text, two GPUs");
    let not_ready = |status: &mut status::Status| {
        status.gpus[0].reasons.clear();
        status.plugin.ready = false;
        status.plugin.not_ready = vec!["nvidia.com/gpu has no stream".to_owned()];
    };
    one(
        heard(not_ready),
        Level::Problem,
        "kubelet.ready",
        "not ready: nvidia.com/gpu has no stream",
    );
}

#[test]
fn a_container_with_access_to_some_gpus_only_is_reported() {
    let hidden = |facts: &mut Facts| {
        let other = facts.bus.as_ref().unwrap()["0000:1b:00.0"].clone();
        facts.bus.as_mut().unwrap().insert("0000:c8:00.0".to_owned(), other);
        facts.module.gpus = ["0000:1b:00.0".to_owned()].into();
    };
    one(hidden, Level::Problem, "gpus.enumeration", "NVIDIA_VISIBLE_DEVICES=all");
    let failed = |facts: &mut Facts| {
        hidden(facts);
        facts.module.gpus.insert("0000:c8:00.0".to_owned());
    };
    one(failed, Level::Problem, "gpus.enumeration", "RmInitAdapter");
    // On a bare host the driver lists the GPUs that it has, too.
    let without_driver = |facts: &mut Facts| {
        facts.bus.as_mut().unwrap().insert("0000:c8:00.0".to_owned(), None);
        facts.module.gpus = ["0000:1b:00.0".to_owned()].into();
    };
    one(without_driver, Level::Problem, "gpus.enumeration", "why no driver is bound");
}

#[test]
fn a_node_on_which_the_plugin_does_not_run_has_a_problem() {
    let none = |facts: &mut Facts| facts.kubelet.others.clear();
    one(none, Level::Problem, "kubelet.plugin", "it serves no socket in this directory");
}

#[test]
fn cdi_specifications_have_to_be_true_and_of_one_mind() {
    let spec = |file: &str, absent: &[&str]| CdiSpec {
        file: file.into(),
        content: Ok(CdiContent {
            kind: "k8s.device-plugin.nvidia.com/gpu".to_owned(),
            devices: ["GPU-1".to_owned()].into(),
            absent: absent.iter().map(|path| (*path).to_owned()).collect(),
        }),
    };
    let with = |specs: Vec<CdiSpec>| {
        move |facts: &mut Facts| {
            facts.settings.strategies = [DeviceListStrategy::CdiCri].into();
            facts.runtimes.runtimes[0].cdi = Some(true);
            for resource in &mut survey(facts).resources {
                resource.ids = vec!["GPU-1".to_owned()];
            }
            facts.runtimes.specs = specs;
            let path = "/usr/bin/nvidia-cdi-hook".to_owned();
            facts.runtimes.hooks.called =
                Some(HookProgram { path, version: Some((1, 17, 8)), is_own: false });
        }
    };
    assert!(reported(with(vec![spec("/etc/cdi/a.json", &[])])).is_empty());
    // A directory that is looked at later wins.
    let both = vec![spec("/etc/cdi/a.json", &[]), spec("/run/cdi/b.json", &[])];
    assert!(reported(with(both)).is_empty());
    let doubled = vec![spec("/etc/cdi/a.json", &[]), spec("/etc/cdi/b.json", &[])];
    one(with(doubled), Level::Problem, "runtime.spec", "GPU-1 is in /etc/cdi/a.json and");
    let stale = vec![spec("/etc/cdi/a.json", &["/dev/nvidia9"])];
    one(with(stale), Level::Problem, "runtime.spec", "/dev/nvidia9, which is not on the node");
}

#[test]
fn the_hook_program_that_runtimes_run_as_root_is_the_plugins() {
    let with = |change: fn(&mut HookFacts)| {
        move |facts: &mut Facts| {
            facts.settings.strategies = [DeviceListStrategy::CdiCri].into();
            facts.runtimes.runtimes[0].cdi = Some(true);
            let resources = survey(facts).resources.iter_mut();
            resources.for_each(|resource| resource.ids = vec!["GPU-1".to_owned()]);
            facts.runtimes.specs = vec![CdiSpec {
                file: "/run/cdi/a.json".into(),
                content: Ok(CdiContent {
                    kind: "k8s.device-plugin.nvidia.com/gpu".to_owned(),
                    devices: ["GPU-1".to_owned()].into(),
                    ..CdiContent::default()
                }),
            }];
            let path = PathBuf::from("/hook/gpu-cdi-hook-1");
            let called = path.display().to_string();
            let program = OwnHookProgram { path, is_there: true, difference: None };
            let directory = PathBuf::from("/hook");
            let own = OwnHookFacts { directory, problem: None, program: Ok(program) };
            let called = Some(HookProgram { path: called, version: None, is_own: true });
            let mut hooks = HookFacts { called, is_host_alone: false, own: Some(own) };
            change(&mut hooks);
            facts.runtimes.hooks = hooks;
        }
    };
    assert_eq!(reported(with(|_| {})), []);
    let program = |change: fn(&mut OwnHookProgram)| {
        move |facts: &mut Facts| {
            with(|_| {})(facts);
            let own = facts.runtimes.hooks.own.as_mut().unwrap();
            change(own.program.as_mut().unwrap());
        }
    };
    let changed = |program: &mut OwnHookProgram| {
        program.difference = Some("its content was changed".to_owned());
    };
    one(program(changed), Level::Problem, "runtime.hook.program", "its content was changed");
    let absent = |program: &mut OwnHookProgram| {
        (program.is_there, program.difference) = (false, Some("it is not there".to_owned()));
    };
    one(program(absent), Level::Warning, "runtime.hook.program", "-1 is not there");
    let unknown = |hooks: &mut HookFacts| {
        hooks.own.as_mut().unwrap().program = Err("there is no program to compare with".to_owned());
    };
    one(with(unknown), Level::Unknown, "runtime.hook.program", "no program to compare with");
    for problem in ["its mode is 0777", "it is mounted noexec", "there is no such directory"] {
        let facts = |facts: &mut Facts| {
            with(|hooks| hooks.called = None)(facts);
            facts.runtimes.hooks.own.as_mut().unwrap().problem = Some(problem.to_owned());
        };
        let found = reported(facts);
        let ids: Vec<_> = found.iter().map(|(level, id, _)| (*level, *id)).collect();
        let warnings = ["runtime.hooks", "runtime.hook.directory"].map(|id| (Level::Warning, id));
        assert_eq!(ids, warnings, "{problem}");
        assert!(found[1].2.contains(problem), "{}", found[1].2);
    }
    let host_alone = |hooks: &mut HookFacts| {
        *hooks = HookFacts { is_host_alone: true, ..HookFacts::default() };
    };
    one(with(host_alone), Level::Warning, "runtime.hooks", "--cdi-hook-mode=host calls no other");
}

#[test]
fn memory_that_is_not_limited_as_configured_is_reported() {
    let not_limited = |facts: &mut Facts| {
        let mut status = status_of(&node(1), &EventLog::default());
        status.findings.push(status::Finding {
            kind: "memory_not_limited".to_owned(),
            message: "memory limits are not enforceable on this node: no dmem".to_owned(),
        });
        facts.plugin = Ok(Box::new(status));
    };
    one(not_limited, Level::Warning, "runtime.limits", "not enforceable on this node: no dmem");
}

#[test]
fn what_the_kubelet_can_allocate_is_what_the_plugin_offers() {
    let with = |allocatable: Result<usize, &str>| {
        let allocatable = allocatable.map_err(str::to_owned);
        move |facts: &mut Facts| {
            let inventory = node(8);
            let status = status_of(&inventory, &EventLog::default());
            facts.plugin = Ok(Box::new(status));
            let by_name = |count| BTreeMap::from([("nvidia.com/gpu".to_owned(), count)]);
            facts.kubelet.allocatable = allocatable.map(by_name);
        }
    };
    assert_eq!(reported(with(Ok(8))), []);
    one(with(Ok(0)), Level::Problem, "kubelet.known", "nvidia.com/gpu: 0 of 8 Healthy ones");
    one(with(Err("no such socket")), Level::Unknown, "kubelet.known", "no such socket");
}

#[test]
fn a_driver_that_is_released_for_a_reset_is_not_asked() {
    let released = |facts: &mut Facts| facts.driver = DriverProbe::Released;
    one(released, Level::Unknown, "driver.nvml", "in the way of a reset");
}

#[test]
fn device_nodes_that_were_not_reached_are_reported() {
    let unfinished = |facts: &mut Facts| survey(facts).unfinished = Some("it hangs".to_owned());
    one(unfinished, Level::Unknown, "driver.nodes", "not all of them were opened: it hangs");
}

#[test]
fn cdi_names_need_a_kubelet_that_supports_them_and_mps_its_daemon() {
    let old = |facts: &mut Facts| {
        facts.kubelet.version = Some((1, 28));
        facts.settings.strategies.insert(DeviceListStrategy::CdiCri);
    };
    assert!(
        reported(old)
            .iter()
            .any(|(level, id, _)| (*level, *id) == (Level::Warning, "runtime.kubelet"))
    );
    let alone = |facts: &mut Facts| {
        old(facts);
        facts.settings.strategies.remove(&DeviceListStrategy::Envvar);
    };
    assert!(
        reported(alone)
            .iter()
            .any(|(level, id, _)| (*level, *id) == (Level::Problem, "runtime.kubelet"))
    );
    let mps = |answer: Result<String, String>| {
        move |facts: &mut Facts| facts.runtimes.mps = Some(shared_by_mps(answer))
    };
    assert_eq!(reported(mps(Ok("25.0".to_owned()))), []);
    let gone = mps(Err("no daemon".to_owned()));
    one(gone, Level::Problem, "runtime.mps", "mount its directory at /mps");
}

/// One resource with four replicas, whose daemon answers this.
fn shared_by_mps(answer: Result<String, String>) -> MpsFacts {
    let resource = "nvidia.com/gpu.shared".to_owned();
    MpsFacts {
        daemons: vec![MpsDaemonFacts { resource, answer, supervisor: None, threads: Some(25) }],
        program: Some("/usr/bin/nvidia-cuda-mps-control".into()),
        capabilities: None,
        directory: MpsDirectory { path: "/mps".into(), exists: true, is_of_node: true },
        shm_mounted: Some(true),
        foreign: None,
    }
}

#[test]
fn what_mps_needs_is_looked_at() {
    let with = |change: fn(&mut MpsFacts)| {
        move |facts: &mut Facts| {
            let mut mps = shared_by_mps(Ok("25.0".to_owned()));
            change(&mut mps);
            facts.runtimes.mps = Some(mps);
        }
    };
    let told = with(|mps| mps.daemons[0].supervisor = Some(Err("it has ended".to_owned())));
    one(told, Level::Problem, "runtime.mps", "mps-control-daemon on this node");
    let mute = with(|mps| {
        mps.daemons[0].supervisor = Some(Ok(()));
        mps.daemons[0].answer = Err("no program".to_owned());
    });
    one(mute, Level::Warning, "runtime.mps", "NVIDIA_DRIVER_CAPABILITIES=compute,utility");
    let raised = with(|mps| mps.daemons[0].answer = Ok("100.0".to_owned()));
    one(raised, Level::Warning, "runtime.mps.limits", "not its own");
    let away = with(|mps| mps.directory.exists = false);
    one(away, Level::Problem, "runtime.mps.directory", "mps.root");
    let own = with(|mps| mps.directory.is_of_node = false);
    one(own, Level::Warning, "runtime.mps.directory", "is not mounted");
    let utility = with(|mps| {
        mps.program = None;
        mps.capabilities = Some("utility".to_owned());
        mps.daemons[0].answer = Err("no program".to_owned());
    });
    let found = reported(utility);
    let is_it = |(level, id, text): &(Level, &str, String)| {
        (*level, *id) == (Level::Problem, "runtime.mps.program")
            && text.contains("NVIDIA_DRIVER_CAPABILITIES is \"utility\"")
    };
    assert!(found.iter().any(is_it), "{found:#?}");
    let told_without = with(|mps| {
        mps.program = None;
        mps.daemons[0].supervisor = Some(Ok(()));
    });
    one(told_without, Level::Warning, "runtime.mps.program", "--driver-root-ctr-path");
    let disk = with(|mps| mps.shm_mounted = Some(false));
    one(disk, Level::Warning, "runtime.mps.shm", "mount-shm");
    let other = with(|mps| mps.foreign = Some("100.0".to_owned()));
    one(other, Level::Warning, "runtime.mps.foreign", "echo quit");
}

#[test]
fn a_gpu_that_is_no_pci_device_is_no_problem() {
    let tegra = |facts: &mut Facts| {
        facts.bus = Ok(BTreeMap::new());
        survey(facts).gpus[0].bus = None;
    };
    assert_eq!(reported(tegra), []);
}

/// One GPU of eight is lost, as the running plugin knows it.
fn lost(facts: &mut Facts) {
    let (mut inventory, event_log) = (node(8), EventLog::default());
    xid(&mut inventory, &event_log, 7, 79, 40);
    let mut status = status_of(&inventory, &event_log);
    let address = |index: usize| format!("0000:{index:02x}:00.0");
    for (index, gpu) in status.gpus.iter_mut().enumerate() {
        gpu.pci_bus_id = Some(address(index));
    }
    let bus = (0..8).map(|index| (address(index), Some("nvidia".to_owned())));
    facts.bus = Ok(bus.collect());
    let template = survey(facts).gpus[0].clone();
    survey(facts).gpus = (0..7)
        .zip(&status.gpus)
        .map(|(index, gpu)| GpuFacts {
            index,
            uuid: Some(gpu.uuid.clone()),
            bus: gpu.pci_bus_id.clone(),
            ..template.clone()
        })
        .collect();
    let resource = &mut survey(facts).resources[0];
    (resource.devices, resource.healthy) = (7, 7);
    facts.kubelet.allocatable = Ok([("nvidia.com/gpu".to_owned(), 7)].into());
    facts.plugin = Ok(Box::new(status));
}

#[test]
fn one_lost_gpu_is_one_problem_with_a_fix_that_names_it() {
    let mut facts = facts();
    lost(&mut facts);
    let report = examine(&facts);
    assert_eq!(report.count(Level::Problem), 1, "{:#?}", report.findings);
    let problem = report.first_problem().unwrap();
    assert_eq!(problem.id, "gpus.plugin");
    assert!(problem.seen.contains("the GPU has fallen off the bus"), "{}", problem.seen);
    assert!(!problem.fix.contains("-i 7"), "an index may be another GPU's: {}", problem.fix);
}

#[test]
fn advice_names_a_gpu_by_what_stays() {
    for kind in [
        "external",
        "not_answered",
        "fabric",
        "row_remap_pending",
        "nvml_error",
        "nvml_unresponsive",
        "xid",
        "reset_required",
        "recovery_action",
        "relapses",
        "inforom",
        "row_remap_failure",
        "not_enumerated",
        "lost",
        "contained_error",
        "imex_domain",
        "drain_p2p",
        "fabric_bandwidth",
        "no_events",
        "something newer",
    ] {
        let with = |facts: &mut Facts| {
            let gpu = &mut survey(facts).gpus[0];
            gpu.index = 3;
            let (kind, text) = (kind.to_owned(), "it is sick".to_owned());
            let (xid, action) = (Some(48), Some(1));
            gpu.causes = vec![Condition { kind, text, remedy: None, xid, action }];
        };
        let reported = reported(with);
        let (_, _, text) = &reported[0];
        assert!(reported.len() == 1 && !text.contains("-i 3"), "{kind}: {reported:#?}");
        let fix = text.rsplit('|').next().unwrap();
        assert!(fix.len() > 20, "{kind}: {fix}");
    }
}

#[test]
fn what_the_plugin_knows_of_a_degraded_gpu_is_told() {
    let degraded = |facts: &mut Facts| {
        let mut status = status_of(&node(1), &EventLog::default());
        let gpu = &mut status.gpus[0];
        survey(facts).gpus[0].uuid = Some(gpu.uuid.clone());
        gpu.degradations = vec![status::Reason {
            kind: "no_events".to_owned(),
            xid: None,
            message: "NVML's events of the GPU are not received".to_owned(),
            remedy: None,
            since: status.generated_at,
            part: None,
            remembered: false,
        }];
        facts.plugin = Ok(Box::new(status));
    };
    one(degraded, Level::Warning, "gpus.gpu", "degraded: NVML's events of the GPU");
}

#[test]
fn what_no_poll_reads_is_told_by_the_doctor() {
    let pending = |facts: &mut Facts| survey(facts).gpus[0].mig_pending = Some(true);
    one(pending, Level::Warning, "gpus.gpu", "MIG mode is off, and on after its next reset");
    let unlicensed = |facts: &mut Facts| survey(facts).gpus[0].licensed = Some(false);
    one(unlicensed, Level::Warning, "gpus.gpu", "unlicensed vGPU");
    let licensed = |facts: &mut Facts| survey(facts).gpus[0].licensed = Some(true);
    assert_eq!(reported(licensed), []);
    let not_ready = |facts: &mut Facts| survey(facts).gpus[0].accepts_work = Some(false);
    one(not_ready, Level::Problem, "gpus.confidential", "nvidia-smi conf-compute -srs 1");
    let ready = |facts: &mut Facts| survey(facts).gpus[0].accepts_work = Some(true);
    assert_eq!(reported(ready), []);
}

#[test]
fn a_system_without_pci_gpus_gets_its_own_advice() {
    for platform in [Platform::Tegra("sign".to_owned()), Platform::Wsl("sign".to_owned())] {
        let without_driver = |facts: &mut Facts| {
            facts.platform = platform.clone();
            facts.bus = Ok(BTreeMap::new());
            facts.module = KernelModule::default();
            let answer = survey(facts);
            *answer = DriverAnswer {
                tried: vec![("/driver-root/usr/lib".to_owned(), "not there".to_owned())],
                problem: Some(NvmlProblem::NoLibrary { named: false }),
                ..DriverAnswer::default()
            };
        };
        let all = reported(without_driver);
        let ids: Vec<_> = all.iter().map(|(_, id, _)| *id).collect();
        assert_eq!(ids, ["driver.platform", "driver.library"], "{all:#?}");
        for (_, _, text) in &all {
            for word in ["slot", "modprobe", "NVRM", "nvrm"] {
                assert!(!text.contains(word), "{platform:?}: {word} in {text}");
            }
        }
        let hangs = |facts: &mut Facts| {
            facts.platform = platform.clone();
            facts.driver = DriverProbe::TimedOut(Duration::from_secs(20));
        };
        let log = if matches!(platform, Platform::Wsl(_)) { "Event Viewer" } else { "nvgpu" };
        assert!(reported(hangs).iter().any(|(_, _, text)| text.contains(log)), "{platform:?}");
    }
}

#[test]
fn the_words_that_people_search_for_are_there() {
    let code = |code| {
        move |facts: &mut Facts| {
            survey(facts).problem = Some(NvmlProblem::ReturnCode { code, text: "nvmlInit".into() });
        }
    };
    one(code(18), Level::Problem, "driver.nvml", "Driver/library version mismatch");
    one(code(4), Level::Problem, "driver.nvml", "Insufficient Permissions");
    let gone = |facts: &mut Facts| survey(facts).gpus.clear();
    let text = &reported(gone)[0].2;
    assert!(text.contains("fallen off the bus"), "{text}");
}

#[test]
fn a_socket_that_may_not_be_used_says_as_whom_and_what_to_do() {
    let denied = |user, selinux| {
        move |facts: &mut Facts| {
            facts.kubelet.socket.as_mut().unwrap().1 = SocketProbe::Denied;
            facts.kubelet.access = Access { user, selinux };
        }
    };
    one(denied(1000, false), Level::Problem, "kubelet.socket", "runs as user 1000: run the");
    one(denied(0, true), Level::Problem, "kubelet.socket", "spc_t");
    let text = reported(denied(1000, true))[0].2.clone();
    assert!(text.contains("runAsUser: 0") && text.contains("ausearch"), "{text}");
    assert_eq!(text.matches("ermission denied").count(), 1, "{text}");
}

#[test]
fn another_plugin_is_a_rival_by_its_resource() {
    let with = |name: &str, process: Option<&str>| {
        let (name, process) = (name.to_owned(), process.map(str::to_owned));
        move |facts: &mut Facts| {
            let probe = SocketProbe::Answers;
            facts.kubelet.others.push(PluginSocket { name, ours: None, probe, process });
        }
    };
    for name in ["nvidia-gpu.sock", "nvidia.sock"] {
        one(with(name, None), Level::Problem, "kubelet.rival", "delete daemonset");
    }
    let nvidias = with("nvidia-x.sock", Some("nvidia-device-plugin (process 7)"));
    one(nvidias, Level::Problem, "kubelet.rival", "by nvidia-device-plugin");
    // Of network cards, of DPUs, of MIG devices that are not offered.
    for name in ["nvidia.com_cx7.sock", "nvidia-mlnx.sock", "nvidia-mig-1g.10gb.sock"] {
        assert_eq!(reported(with(name, Some("sriovdp (process 7)"))), [], "{name}");
    }
}

#[test]
fn where_the_counts_of_the_running_plugin_differ_it_is_told() {
    let with = |change: fn(&mut status::GpuStageCounts)| {
        move |facts: &mut Facts| {
            let mut status = status_of(&node(1), &EventLog::default());
            survey(facts).gpus[0].uuid = Some(status.gpus[0].uuid.clone());
            let counts = &mut status.gpu_counts;
            (counts.bus, counts.enumerated) = (Some(1), Some(1));
            (counts.identified, counts.offered) = (1, 1);
            change(counts);
            facts.plugin = Ok(Box::new(status));
        }
    };
    assert_eq!(reported(with(|_| {})), []);
    let more = with(|counts| counts.bus = Some(2));
    one(more, Level::Problem, "gpus.counts", "2 on the bus, 1 counted by NVML");
    let expected = with(|counts| counts.expected = Some(8));
    one(expected, Level::Problem, "gpus.counts", "--expected-gpus");
    let hidden = with(|counts| counts.offered = 0);
    one(hidden, Level::Problem, "gpus.counts", "--mig-strategy");
}

#[test]
fn every_finding_is_documented() {
    let document = include_str!("../../docs/doctor.md");
    let rows = document.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let documented: std::collections::BTreeSet<&str> = rows.filter(|id| id.contains('.')).collect();
    let mut sources = Vec::new();
    read_sources(
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src/doctor/checks")),
        &mut sources,
    );
    let groups = ["configuration.", "driver.", "gpus.", "kubelet.", "runtime.", "node."];
    let literals = sources.iter().flat_map(|source| source.split('"'));
    let is_id = |text: &&str| {
        groups.iter().any(|group| text.starts_with(group))
            && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'.')
    };
    let reported: std::collections::BTreeSet<&str> = literals.filter(is_id).collect();
    assert_eq!(reported, documented);
}

fn read_sources(directory: &Path, sources: &mut Vec<String>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => read_sources(&path, sources),
            false => sources.push(std::fs::read_to_string(&path).unwrap()),
        }
    }
}
