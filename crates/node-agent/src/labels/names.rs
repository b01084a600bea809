//! The names of labels, by kind of node: those that GPU feature discovery 0.20 writes by its source
//! (internal/lm), no fewer and no more, but for `gpu.present`.

use status::{Gpu, SharingStrategy, Status, VgpuHost};

use super::testing::{gpu, partitioned, shared, status};
use super::{Extra, LabelSettings, labels};

const NODE: &str = "cuda.driver-version.full cuda.driver-version.major cuda.driver-version.minor \
    cuda.driver-version.revision cuda.driver.major cuda.driver.minor cuda.driver.rev \
    cuda.runtime-version.full cuda.runtime-version.major cuda.runtime-version.minor \
    cuda.runtime.major cuda.runtime.minor gfd.timestamp gpu.machine gpu.mode gpu.present \
    mig.capable mps.capable vgpu.present";
const WHOLE: &str = "gpu.compute.major gpu.compute.minor gpu.count gpu.family gpu.memory \
    gpu.product gpu.replicas gpu.sharing-strategy";
/// Of MIG devices, after the name of their resource.
const OF_DEVICES: &str = "count engines.copy engines.decoder engines.encoder engines.jpeg \
    engines.ofa memory multiprocessors product replicas sharing-strategy slices.ci slices.gi";

fn of_devices(resource: &str) -> Vec<String> {
    OF_DEVICES.split_whitespace().map(|name| format!("{resource}.{name}")).collect()
}

fn written(status: &Status, extra: &[Extra]) -> Vec<String> {
    let settings =
        LabelSettings { timestamp: Some(1), extra: extra.to_vec(), ..LabelSettings::default() };
    let labels = labels(status, &settings).unwrap();
    labels.into_keys().map(|name| name.strip_prefix("nvidia.com/").unwrap().to_owned()).collect()
}

/// That these are the names, beside those of every node with GPUs.
fn assert_names(what: &str, status: &Status, more: &[String]) {
    let every = [NODE, WHOLE].map(str::split_whitespace).into_iter().flatten().map(str::to_owned);
    let mut expected: Vec<String> = every.chain(more.iter().cloned()).collect();
    expected.sort();
    expected.dedup();
    assert_eq!(written(status, &[]), expected, "{what}");
}

#[test]
fn every_kind_of_node_has_the_labels_of_gpu_feature_discovery_and_no_others() {
    let whole = |index| gpu(index, "NVIDIA H200");
    let small = |index| partitioned(whole(index), &["1g.18gb"; 7]);
    let with = |strategy: &str, gpus: &[Gpu]| {
        let mut node = status(gpus);
        node.configuration.mig_strategy = Some(strategy.to_owned());
        node
    };
    let strategy = || vec!["mig.strategy".to_owned()];
    let mut by_name = strategy();
    by_name.extend(of_devices("mig-1g.18gb"));
    by_name.extend(of_devices("mig-3g.71gb"));
    let mut slicing = status(&[whole(0)]);
    slicing.resources =
        vec![shared("nvidia.com/gpu", "nvidia.com/gpu", SharingStrategy::TimeSlicing, 4)];
    let clique = Gpu { fabric_clique: Some("a.1".to_owned()), ..whole(0) };
    let vgpu_host = VgpuHost { driver_version: "550".into(), driver_branch: "r550".into() };
    let of_host = ["vgpu.host-driver-branch", "vgpu.host-driver-version"].map(str::to_owned);
    for (what, node, more) in [
        ("whole", status(&[whole(0), whole(1)]), Vec::new()),
        ("several models", status(&[whole(0), gpu(1, "NVIDIA L40S")]), Vec::new()),
        ("shared", slicing, Vec::new()),
        ("MIG without a strategy", status(&[small(0)]), Vec::new()),
        (
            "MIG, single",
            with("single", &[small(0), small(1)]),
            [strategy(), of_devices("gpu")].concat(),
        ),
        ("MIG, single and several", with("single", &[small(0), whole(1)]), strategy()),
        (
            "MIG, mixed",
            with("mixed", &[partitioned(whole(0), &["3g.71gb", "1g.18gb"]), whole(1)]),
            by_name,
        ),
        ("NVLink", status(&[clique]), vec!["gpu.clique".to_owned()]),
        (
            "a virtual GPU",
            status(&[Gpu { vgpu_host: Some(vgpu_host), ..whole(0) }]),
            of_host.to_vec(),
        ),
    ] {
        assert_names(what, &node, &more);
    }
    assert_eq!(written(&status(&[]), &[]), ["gfd.timestamp", "vgpu.present"]);
}

#[test]
fn what_is_written_on_request_takes_no_name_of_gpu_feature_discovery() {
    let node = status(&[gpu(0, "NVIDIA H200")]);
    let all = [Extra::HealthyCount, Extra::Sharing, Extra::DriverBranch, Extra::Instances];
    let usual = written(&node, &[]);
    let more: Vec<String> =
        written(&node, &all).into_iter().filter(|name| !usual.contains(name)).collect();
    let prefix = "gpu-node-agent.";
    assert_eq!(more.len(), 3);
    assert!(more.iter().all(|name| name.starts_with(prefix)), "{more:?}");
    let theirs = [NODE, WHOLE, "mig-1g.18gb gpu.clique mig.strategy"].join(" ");
    assert!(theirs.split_whitespace().all(|name| !name.starts_with(prefix)));
}
