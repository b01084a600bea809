//! Real machines as topologies, from what `nvidia-smi topo -m` prints on them. The tests, the
//! benchmark and the placement simulation share them.

use std::collections::BTreeMap;

use device::allocation::{AllocationIndex, AllocationPolicy, IndexEntry};
use device::gpu::NumaNode;
use device::names::{DeviceId, PciBusId, Uuid};
use device::topology::{
    NvLinkVersion, ObservedGpu, ObservedLink, PcieLevel, Remote, Topology, TopologyObservation,
};

/// A machine under its name.
pub(crate) struct Machine {
    pub(crate) name: &'static str,
    pub(crate) topology: Topology,
}

/// All of them.
pub(crate) fn all() -> Vec<Machine> {
    vec![
        dgx1_v100(),
        dgx2_v100(),
        dgx_a100(),
        dgx_h100(),
        a100_pcie_bridged(),
        l40s_two_roots(),
        gh200_quad(),
        workstation(),
    ]
}

/// The UUID of the GPU with this index.
pub(crate) fn uuid(index: usize) -> Uuid {
    format!("GPU-{index:08x}-5ca1-ab1e-0000-000000000000").parse().expect("it is well formed")
}

/// The bus id of the GPU with this index.
pub(crate) fn bus(index: usize) -> PciBusId {
    format!("0000:{:02x}:00.0", index + 1).parse().expect("it is well formed for up to 255 GPUs")
}

/// The index of a machine whose GPUs are offered whole.
pub(crate) fn index(topology: &Topology, policy: AllocationPolicy) -> AllocationIndex {
    let entry = |gpu: &device::topology::TopologyGpu| IndexEntry {
        id: DeviceId::whole(gpu.uuid.clone()),
        gpu: gpu.uuid.clone(),
        gpu_index: gpu.index,
    };
    AllocationIndex::new(topology.gpus().iter().map(entry), topology, policy)
}

/// A machine as a plan: NUMA nodes, PCIe level by pair, NVLinks by GPU.
pub(crate) fn build(
    numa: &[i64],
    pcie: impl Fn(usize, usize) -> PcieLevel,
    links: impl Fn(usize) -> Vec<ObservedLink>,
) -> Topology {
    let gpus = numa.iter().enumerate().map(|(index, numa)| ObservedGpu {
        uuid: uuid(index),
        index: u32::try_from(index).expect("a machine has fewer GPUs"),
        pci_bus_id: Some(bus(index)),
        numa_node: NumaNode::from_sysfs(*numa),
        links: Some(links(index)),
    });
    let mut ancestors = BTreeMap::new();
    for a in 0..numa.len() {
        for b in a + 1..numa.len() {
            ancestors.insert((uuid(a), uuid(b)), pcie(a, b));
        }
    }
    let (topology, findings) =
        Topology::observed(TopologyObservation { gpus: gpus.collect(), ancestors });
    assert_eq!(findings, []);
    topology
}

/// Some active links to one place.
pub(crate) fn links(count: usize, remote: Remote, version: NvLinkVersion) -> Vec<ObservedLink> {
    vec![ObservedLink { remote, version: Some(version), active: true }; count]
}

/// PCIe as in most servers: GPUs in twos behind a switch, in fours behind a root, two roots.
fn twos_and_fours(a: usize, b: usize, four: PcieLevel) -> PcieLevel {
    match (a / 2 == b / 2, a / 4 == b / 4) {
        (true, _) => PcieLevel::SingleSwitch,
        (false, true) => four,
        (false, false) => PcieLevel::AcrossSystem,
    }
}

/// DGX-1 with V100: the hybrid cube mesh. Two islands of four (0-3 and 4-7) in which all are
/// linked, and one link pair from each GPU to one of the other island. Each GPU has six links, to
/// some neighbours one and to some two.
pub(crate) fn dgx1_v100() -> Machine {
    const LINKS: [[usize; 8]; 8] = [
        [0, 1, 1, 2, 2, 0, 0, 0],
        [1, 0, 2, 1, 0, 2, 0, 0],
        [1, 2, 0, 2, 0, 0, 1, 0],
        [2, 1, 2, 0, 0, 0, 0, 1],
        [2, 0, 0, 0, 0, 1, 1, 2],
        [0, 2, 0, 0, 1, 0, 2, 1],
        [0, 0, 1, 0, 1, 2, 0, 2],
        [0, 0, 0, 1, 2, 1, 2, 0],
    ];
    let topology = build(
        &[0, 0, 0, 0, 1, 1, 1, 1],
        |a, b| twos_and_fours(a, b, PcieLevel::HostBridge),
        |gpu| {
            (0..8)
                .flat_map(|peer| links(LINKS[gpu][peer], Remote::Gpu(bus(peer)), NvLinkVersion::V2))
                .collect()
        },
    );
    Machine { name: "DGX-1 V100", topology }
}

/// DGX-2: sixteen V100 with six links each to NVSwitches, eight to a CPU.
pub(crate) fn dgx2_v100() -> Machine {
    let numa: Vec<i64> = (0..16).map(|gpu| gpu / 8).collect();
    let pcie = |a: usize, b: usize| match (a / 2 == b / 2, a / 8 == b / 8) {
        (true, _) => PcieLevel::SingleSwitch,
        (false, true) => PcieLevel::MultipleSwitches,
        (false, false) => PcieLevel::AcrossSystem,
    };
    let topology = build(&numa, pcie, |_| links(6, Remote::Switch, NvLinkVersion::V2));
    Machine { name: "DGX-2 V100", topology }
}

/// DGX A100: twelve links each to NVSwitches; the two CPUs are cut into four NUMA nodes each, and
/// GPUs sit on four of the eight, in an order of their own.
pub(crate) fn dgx_a100() -> Machine {
    let topology = build(
        &[3, 3, 1, 1, 7, 7, 5, 5],
        |a, b| if a / 2 == b / 2 { PcieLevel::MultipleSwitches } else { PcieLevel::AcrossSystem },
        |_| links(12, Remote::Switch, NvLinkVersion::V3),
    );
    Machine { name: "DGX A100", topology }
}

/// DGX H100 and H200: eighteen links each to NVSwitches, four GPUs to a CPU.
pub(crate) fn dgx_h100() -> Machine {
    let topology = build(
        &[0, 0, 0, 0, 1, 1, 1, 1],
        |a, b| if a / 4 == b / 4 { PcieLevel::SameNode } else { PcieLevel::AcrossSystem },
        |_| links(18, Remote::Switch, NvLinkVersion::V4),
    );
    Machine { name: "DGX H100/H200", topology }
}

/// Eight A100 PCIe cards in four bridged pairs: twelve links inside a pair, PCIe between pairs.
pub(crate) fn a100_pcie_bridged() -> Machine {
    let topology = build(
        &[0, 0, 0, 0, 1, 1, 1, 1],
        |a, b| if a / 4 == b / 4 { PcieLevel::SameNode } else { PcieLevel::AcrossSystem },
        |gpu| links(12, Remote::Gpu(bus(gpu ^ 1)), NvLinkVersion::V3),
    );
    Machine { name: "8 x A100 PCIe, NVLink bridges", topology }
}

/// Eight L40S without NVLink: two root complexes, each with two switches of two.
pub(crate) fn l40s_two_roots() -> Machine {
    let topology = build(
        &[0, 0, 0, 0, 1, 1, 1, 1],
        |a, b| twos_and_fours(a, b, PcieLevel::MultipleSwitches),
        |_| Vec::new(),
    );
    Machine { name: "8 x L40S, two root complexes", topology }
}

/// Four GH200 on one board: six links from each to each, and each with a CPU and NUMA node of its
/// own.
pub(crate) fn gh200_quad() -> Machine {
    let topology = build(
        &[0, 1, 2, 3],
        |_, _| PcieLevel::AcrossSystem,
        |gpu| {
            (0..4)
                .filter(|p| *p != gpu)
                .flat_map(|p| links(6, Remote::Gpu(bus(p)), NvLinkVersion::V4))
                .collect()
        },
    );
    Machine { name: "4 x GH200", topology }
}

/// A workstation with two different cards in two slots, on a board without NUMA.
pub(crate) fn workstation() -> Machine {
    let topology = build(&[-1, -1], |_, _| PcieLevel::HostBridge, |_| Vec::new());
    Machine { name: "workstation, two cards", topology }
}
