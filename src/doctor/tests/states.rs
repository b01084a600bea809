//! How the report of each state of a node reads.

use std::collections::BTreeMap;

use expect_test::expect_file;
use status::{Gpu, Status};

use super::{facts, lost, survey};
use crate::doctor::facts::*;
use crate::doctor::{TextStyle, examine, text};
use crate::observe::tests::states;

/// A state of a node: its name, and what makes it of one in good order.
type State = (&'static str, fn(&mut Facts));

const STATES: [State; 17] = [
    ("healthy", |facts| observed(facts, "healthy")),
    ("an Xid", |facts| observed(facts, "xid")),
    ("one GPU is lost", lost),
    ("MIG devices", |facts| observed(facts, "mig")),
    ("shared", |facts| observed(facts, "shared")),
    ("renamed under a pod", |facts| observed(facts, "renamed")),
    ("degraded", |facts| observed(facts, "degraded")),
    ("quarantined", |facts| observed(facts, "quarantined")),
    ("quarantined and degraded, by the doctor alone", quarantined_and_degraded),
    ("no driver", no_driver),
    ("the driver was upgraded", upgraded),
    ("NVML is released", |facts| {
        observed(facts, "released");
        facts.driver = DriverProbe::Released;
    }),
    ("no kubelet", |facts| {
        observed(facts, "kubelet-less");
        without_kubelet(facts);
    }),
    ("no kubelet and no plugin", |facts| {
        without_kubelet(facts);
        facts.kubelet.others.clear();
        facts.plugin = Err("no plugin answers: status.sock not there".to_owned());
    }),
    ("the plugin cannot be heard", |facts| {
        facts.plugin = Err("no plugin answers: status.sock permission denied".to_owned());
    }),
    ("two plugins", |facts| {
        observed(facts, "two-plugins");
        facts.kubelet.others.push(PluginSocket {
            name: "nvidia-gpu.sock".to_owned(),
            ours: None,
            probe: SocketProbe::Answers,
            process: Some("nvidia-device-plugin (process 4711)".to_owned()),
        });
    }),
    ("a Jetson", jetson),
];

#[test]
fn the_report_of_each_state_reads_like_this() {
    let mut all = String::new();
    for (name, change) in STATES {
        let mut facts = facts();
        change(&mut facts);
        all += &format!("=== {name}\n{}\n", text(&examine(&facts), TextStyle::default()));
    }
    expect_file!["../states.txt"].assert_eq(&format!("{}\n", all.trim_end()));
}

/// A state that the running plugin shows, with what the driver and the kubelet say of it.
fn observed(facts: &mut Facts, name: &str) {
    let (_, status) = states::all().into_iter().find(|(state, _)| *state == name).unwrap();
    let gpus = status.gpus.iter().map(|gpu| GpuFacts { mig: mig(gpu), ..listed(gpu) });
    survey(facts).gpus = gpus.collect();
    let resources = status.resources.iter().map(|resource| OfferedResource {
        name: resource.name.clone(),
        devices: resource.offered,
        healthy: resource.healthy,
        ids: Vec::new(),
    });
    survey(facts).resources = resources.collect();
    let bus = status.gpus.iter().map(|gpu| (address(gpu), Some("nvidia".to_owned())));
    facts.bus = Ok(bus.collect());
    facts.kubelet.allocatable = Ok(allocatable(&status));
    facts.plugin = Ok(Box::new(status));
}

fn listed(gpu: &Gpu) -> GpuFacts {
    GpuFacts {
        index: gpu.index,
        uuid: Some(gpu.uuid.clone()),
        model: gpu.model.clone(),
        bus: Some(address(gpu)),
        minor: gpu.minor,
        ..GpuFacts::default()
    }
}

fn mig(gpu: &Gpu) -> Option<usize> {
    gpu.mig_enabled.then_some(gpu.mig_devices.len())
}

fn address(gpu: &Gpu) -> String {
    format!("0000:{:02x}:00.0", gpu.index + 0x10)
}

fn allocatable(status: &Status) -> BTreeMap<String, usize> {
    let healthy = status.resources.iter().filter(|resource| resource.healthy > 0);
    healthy.map(|resource| (resource.name.clone(), resource.healthy)).collect()
}

fn without_kubelet(facts: &mut Facts) {
    facts.kubelet.socket.as_mut().unwrap().1 = SocketProbe::Missing;
    facts.kubelet.pod_resources.as_mut().unwrap().1 = SocketProbe::Missing;
    facts.kubelet.allocatable = Err("no such socket".to_owned());
}

fn no_driver(facts: &mut Facts) {
    observed(facts, "driver-gone");
    facts.module = KernelModule::default();
    facts.kubelet.allocatable = Ok(BTreeMap::new());
    let answer = survey(facts);
    *answer = DriverAnswer {
        library: answer.library.clone(),
        problem: Some(NvmlProblem::ReturnCode {
            code: 9,
            text: "nvmlInit_v2: the driver is not loaded (NVML return code 9)".to_owned(),
        }),
        sees_control_node: true,
        ..DriverAnswer::default()
    };
}

fn upgraded(facts: &mut Facts) {
    facts.module.version = Some("570.86.15".to_owned());
    survey(facts).problem = Some(NvmlProblem::ReturnCode {
        code: 18,
        text: "nvmlInit_v2: driver and library are not of one version (NVML return code 18)"
            .to_owned(),
    });
}

fn quarantined_and_degraded(facts: &mut Facts) {
    let condition = |kind: &str, text: &str| Condition {
        kind: kind.to_owned(),
        text: text.to_owned(),
        ..Condition::default()
    };
    let gpu = &mut survey(facts).gpus[0];
    gpu.causes = vec![condition("external", "quarantined from outside: dcgm: bad memory")];
    gpu.degradations = vec![condition(
        "row_remap_pending",
        "a memory row waits to be remapped; reset the GPU when convenient",
    )];
    survey(facts).resources[0].healthy = 0;
}

fn jetson(facts: &mut Facts) {
    facts.platform = Platform::Tegra("/etc/nv_tegra_release is there".to_owned());
    facts.bus = Ok(BTreeMap::new());
    facts.module = KernelModule::default();
    facts.plugin = Err("no plugin answers: status.sock not there".to_owned());
    facts.kubelet.others.clear();
    facts.kubelet.allocatable = Ok(BTreeMap::new());
    let tried = vec![("/driver-root/usr/lib".to_owned(), "not there".to_owned())];
    *survey(facts) = DriverAnswer {
        tried,
        problem: Some(NvmlProblem::NoLibrary { named: false }),
        ..DriverAnswer::default()
    };
}
