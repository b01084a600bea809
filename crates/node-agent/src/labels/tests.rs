//! Tables of labels. The values of whole GPUs are those that GPU feature discovery 0.20 computes
//! from the same facts, by its source.

use status::{Gpu, NvmlState, SharingStrategy, Status, VgpuHost};

use super::testing::{gpu, partitioned, shared, status};
use super::{LabelSettings, Labels, MigStrategy, is_valid, labels};

const H200: &str = "NVIDIA H200";
const H100: &str = "NVIDIA H100 80GB HBM3";

fn lines(status: &Status) -> String {
    text(&labels(status, &LabelSettings::default()).unwrap())
}

fn text(labels: &Labels) -> String {
    let lines = labels
        .iter()
        .map(|(name, value)| format!("{}={value}\n", name.strip_prefix("nvidia.com/").unwrap()));
    lines.collect()
}

/// Those of the lines that begin so, in one.
fn of(status: &Status, prefix: &str) -> String {
    let lines = lines(status);
    let of = lines.lines().filter_map(|line| line.strip_prefix(prefix));
    of.collect::<Vec<_>>().join(" ")
}

fn with(strategy: &str, gpus: &[Gpu]) -> Status {
    let mut status = status(gpus);
    status.configuration.mig_strategy = Some(strategy.to_owned());
    status
}

/// The status that the plugin gave of the one H200 whose answers were written down.
fn recorded_h200() -> Status {
    let text = include_str!("../../../../tests/e2e/recorded/h200/held.status.json");
    let text = text.replace("\"<time>\"", "\"2026-11-28T00:00:00Z\"");
    let text = text.replace("\"uptimeSeconds\": \"<n>\"", "\"uptimeSeconds\": 1");
    let mut status: serde_json::Value = serde_json::from_str(&text).unwrap();
    status["gpuCounts"]["reserved"] = 0.into();
    serde_json::from_value(status).unwrap()
}

#[test]
fn the_recorded_h200_has_the_labels_of_gpu_feature_discovery() {
    let settings = LabelSettings { timestamp: Some(1_795_784_000), ..LabelSettings::default() };
    let expected = "\
cuda.driver-version.full=580.159.04
cuda.driver-version.major=580
cuda.driver-version.minor=159
cuda.driver-version.revision=04
cuda.driver.major=580
cuda.driver.minor=159
cuda.driver.rev=04
cuda.runtime-version.full=13.0
cuda.runtime-version.major=13
cuda.runtime-version.minor=0
cuda.runtime.major=13
cuda.runtime.minor=0
gfd.timestamp=1795784000
gpu.compute.major=9
gpu.compute.minor=0
gpu.count=1
gpu.family=hopper
gpu.machine=unknown
gpu.memory=143771
gpu.mode=compute
gpu.present=true
gpu.product=NVIDIA-H200
gpu.replicas=1
gpu.sharing-strategy=none
mig.capable=true
mps.capable=false
vgpu.present=false
";
    assert_eq!(text(&labels(&recorded_h200(), &settings).unwrap()), expected);
}

#[test]
fn a_node_without_gpus_says_only_that() {
    assert_eq!(lines(&status(&[])), "vgpu.present=false\n");
    let mut without_driver = status(&[]);
    without_driver.nvml.state = NvmlState::Down;
    without_driver.gpu_counts.enumerated = None;
    assert_eq!(lines(&without_driver), "vgpu.present=false\n");
}

#[test]
fn labels_are_kept_while_it_is_not_known_what_the_node_has() {
    let unknown: [fn(&mut Status); 3] = [
        |node| node.nvml.state = NvmlState::Down,
        |node| node.nvml.state = NvmlState::Released,
        |node| node.gpu_counts.enumerated = None,
    ];
    for (number, change) in unknown.iter().enumerate() {
        let mut node = status(&[gpu(0, H200)]);
        change(&mut node);
        assert_eq!(labels(&node, &LabelSettings::default()), None, "{number}");
    }
}

#[test]
fn sick_gpus_keep_their_labels() {
    let mut sick = gpu(1, H200);
    sick.healthy = false;
    assert_eq!(of(&status(&[gpu(0, H200), sick]), "gpu.count="), "2");
}

#[test]
fn of_several_models_the_most_numerous_counts_and_of_equals_the_first_whatever_the_order() {
    let (a, b, c) = (gpu(0, H100), gpu(1, H200), gpu(2, H200));
    for gpus in [[&a, &b, &c], [&c, &b, &a], [&b, &a, &c]] {
        let node = status(&gpus.map(Clone::clone));
        assert_eq!(of(&node, "gpu.product="), "NVIDIA-H200");
        assert_eq!(of(&node, "gpu.count="), "2");
    }
    assert_eq!(of(&status(&[a.clone(), b.clone()]), "gpu.product="), "NVIDIA-H100-80GB-HBM3");
    let unknown = Gpu { model: None, ..gpu(3, "") };
    let node = status(&[unknown.clone(), unknown.clone(), b]);
    assert_eq!(of(&node, "gpu.product="), "NVIDIA-H200");
    assert_eq!(
        of(&status(&[unknown]), "gpu."),
        "compute.major=9 compute.minor=0 count=1 \
        family=hopper machine=PowerEdge-XE9680 memory=143771 mode=compute present=true replicas=1 \
        sharing-strategy=none"
    );
    let reserved = Gpu { reserved: Some("for the display".to_owned()), ..gpu(0, H100) };
    assert_eq!(of(&status(&[reserved, gpu(1, H200)]), "gpu.product="), "NVIDIA-H200");
}

#[test]
fn a_shared_node_says_how_and_in_the_product_unless_the_resource_is_renamed() {
    let sharing = |name, strategy, replicas| {
        let mut node = status(&[gpu(0, H200)]);
        node.resources = vec![shared(name, "nvidia.com/gpu", strategy, replicas)];
        let of = |prefix| of(&node, prefix);
        [
            of("gpu.product="),
            of("gpu.count="),
            of("gpu.replicas="),
            of("gpu.sharing-strategy="),
            of("mps.capable="),
        ]
        .join(" ")
    };
    let slicing = SharingStrategy::TimeSlicing;
    assert_eq!(sharing("nvidia.com/gpu", slicing, 4), "NVIDIA-H200-SHARED 1 4 time-slicing false");
    assert_eq!(sharing("nvidia.com/gpu.shared", slicing, 4), "NVIDIA-H200 1 4 time-slicing false");
    assert_eq!(sharing("nvidia.com/gpu", slicing, 1), "NVIDIA-H200 1 1 none false");
    assert_eq!(
        sharing("nvidia.com/gpu", SharingStrategy::Mps, 10),
        "NVIDIA-H200-SHARED 1 10 mps true"
    );
}

#[test]
fn mig_devices_that_are_all_alike_are_described_as_gpus_by_the_strategy_single() {
    let node = |gpus: &[Gpu]| with("single", gpus);
    let small = ["1g.18gb"; 7];
    let both = node(&[partitioned(gpu(0, H200), &small), partitioned(gpu(1, H200), &small)]);
    assert_eq!(
        of(&both, "gpu."),
        "compute.major=9 compute.minor=0 count=14 engines.copy=1 \
        engines.decoder=1 engines.encoder=0 engines.jpeg=1 engines.ofa=0 family=hopper \
        machine=PowerEdge-XE9680 memory=18432 mode=compute multiprocessors=16 present=true \
        product=NVIDIA-H200-MIG-1g.18gb replicas=1 sharing-strategy=none slices.ci=1 slices.gi=1"
    );
    assert_eq!(of(&both, "mig."), "capable=true strategy=single");
    let mut sharing = both.clone();
    let slicing = SharingStrategy::TimeSlicing;
    sharing.resources = vec![shared("nvidia.com/gpu", "nvidia.com/gpu", slicing, 2)];
    assert_eq!(of(&sharing, "gpu.product="), "NVIDIA-H200-MIG-1g.18gb-SHARED");
    assert_eq!(of(&sharing, "gpu.replicas="), "2");
    // Without MIG it is as without the strategy.
    assert_eq!(of(&node(&[gpu(0, H200)]), "gpu.product="), "NVIDIA-H200");
    for (what, gpus) in [
        ("several profiles", vec![partitioned(gpu(0, H200), &["1g.18gb", "2g.35gb"])]),
        ("with and without", vec![partitioned(gpu(0, H200), &small), gpu(1, H200)]),
        ("no device", vec![partitioned(gpu(0, H200), &[])]),
        ("one without", vec![partitioned(gpu(0, H200), &small), partitioned(gpu(1, H200), &[])]),
    ] {
        let node = node(&gpus);
        let of = |name: &str| of(&node, &format!("gpu.{name}="));
        let found = ["product", "count", "replicas", "sharing-strategy", "memory"].map(of);
        assert_eq!(found, ["NVIDIA-H200-MIG-INVALID", "0", "0", "", "0"], "{what}");
        assert_eq!(of("family"), "hopper", "{what}");
    }
}

#[test]
fn mig_devices_are_described_by_profile_by_the_strategy_mixed() {
    let profiles = ["3g.71gb", "1g.18gb", "1g.18gb+me"];
    let mut node = with("mixed", &[partitioned(gpu(0, H200), &profiles), gpu(1, H100)]);
    let slicing = SharingStrategy::TimeSlicing;
    let name = "nvidia.com/mig-1g.18gb";
    node.resources = vec![shared(name, name, slicing, 3)];
    assert_eq!(
        of(&node, "mig-3g.71gb."),
        "count=1 engines.copy=3 engines.decoder=3 \
        engines.encoder=0 engines.jpeg=3 engines.ofa=0 memory=55296 multiprocessors=48 \
        product=NVIDIA-H200-MIG-3g.71gb replicas=1 sharing-strategy=none slices.ci=3 slices.gi=3"
    );
    assert_eq!(of(&node, "mig-1g.18gb.product="), "NVIDIA-H200-MIG-1g.18gb-SHARED");
    assert_eq!(of(&node, "mig-1g.18gb.replicas="), "3");
    assert_eq!(of(&node, "mig-1g.18gb.me.product="), "NVIDIA-H200-MIG-1g.18gbme");
    // The model whose GPUs are all partitioned is not offered whole.
    assert_eq!(of(&node, "gpu.product="), "NVIDIA-H200");
    assert_eq!(of(&node, "gpu.replicas="), "0");
    let settings =
        LabelSettings { mig_strategy: Some(MigStrategy::None), ..LabelSettings::default() };
    assert!(!text(&labels(&node, &settings).unwrap()).contains("mig-"));
}

#[test]
fn a_virtual_gpu_names_its_host() {
    let vgpu_host =
        VgpuHost { driver_version: "550.90.05".to_owned(), driver_branch: "r550_40".to_owned() };
    let node = status(&[Gpu { vgpu_host: Some(vgpu_host), ..gpu(0, "GRID H100-10C") }]);
    assert_eq!(
        of(&node, "vgpu."),
        "host-driver-branch=r550_40 host-driver-version=550.90.05 present=true"
    );
    assert_eq!(of(&node, "gpu.product="), "GRID-H100-10C");
}

#[test]
fn facts_that_are_missing_or_differ_leave_their_labels_out() {
    let gpus = [("0x030000", "a.1"), ("0x030200", "a.2")].map(|(class, clique)| Gpu {
        pci_class: Some(class.to_owned()),
        fabric_clique: Some(clique.to_owned()),
        ..gpu(0, H200)
    });
    let mut node = status(&gpus);
    assert_eq!((of(&node, "gpu.mode="), of(&node, "gpu.clique")), ("unknown".into(), "".into()));
    node.gpus.truncate(1);
    assert_eq!(
        (of(&node, "gpu.mode="), of(&node, "gpu.clique=")),
        ("graphics".into(), "a.1".into())
    );
    for (version, labels) in [
        (Some("550.54"), "full=550.54 major=550 minor=54 revision="),
        (Some("550"), ""),
        (Some("a.b.c"), ""),
        (Some("1.2.3.4"), ""),
        (None, ""),
    ] {
        node.nvml.driver_version = version.map(str::to_owned);
        assert_eq!(of(&node, "cuda.driver-version."), labels);
    }
    node.nvml.cuda_version = None;
    assert_eq!(of(&node, "cuda."), "");
    for (capability, family) in [
        (Some("7.0"), "volta"),
        (Some("7.5"), "turing"),
        (Some("8.0"), "ampere"),
        (Some("8.9"), "ada-lovelace"),
        (Some("10.0"), "blackwell"),
        (Some("12.1"), "blackwell"),
        (Some("13.0"), "rubin"),
        (Some("99.0"), "undefined"),
        (None, ""),
    ] {
        node.gpus[0].compute_capability = capability.map(str::to_owned);
        assert_eq!(of(&node, "gpu.family="), family, "{capability:?}");
    }
    node.gpus[0].memory_bytes = None;
    assert_eq!(of(&node, "gpu.memory"), "");
}

#[test]
fn whatever_texts_there_are_every_label_is_one_that_the_api_server_takes() {
    let texts = [
        "",
        " ",
        "-",
        "a\u{1b}[2J\nb",
        "名前",
        &"x".repeat(500),
        &"x y".repeat(100),
        "..",
        "a/b=c",
    ];
    for text in texts {
        let mut node = with("mixed", &[partitioned(gpu(0, text), &["1g.18gb"])]);
        node.plugin.machine_type = Some(text.to_owned());
        node.nvml.driver_version = Some(text.to_owned());
        let gpu = &mut node.gpus[0];
        gpu.fabric_clique = Some(text.to_owned());
        gpu.mig_devices[0].profile = Some(text.to_owned());
        let (driver_version, driver_branch) = (text.to_owned(), text.to_owned());
        gpu.vgpu_host = Some(VgpuHost { driver_version, driver_branch });
        let labels = labels(&node, &LabelSettings::default()).unwrap();
        for (name, value) in &labels {
            let base = name.strip_prefix("nvidia.com/").unwrap();
            assert!(is_valid(value) && is_valid(base) && !base.is_empty(), "{name}={value}");
        }
        assert!(labels.contains_key("nvidia.com/gpu.count"), "{text}");
    }
}
