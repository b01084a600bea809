//! Tests of topologies built from observations.

use super::*;
use crate::names::PciBusId;

fn bus(at: usize) -> PciBusId {
    format!("0000:{at:02x}:00.0").parse().unwrap()
}

fn gpu(at: usize, numa: i64, remotes: &[Remote]) -> ObservedGpu {
    let link = |remote: &Remote| ObservedLink {
        remote: *remote,
        version: Some(NvLinkVersion::V2),
        active: true,
    };
    ObservedGpu {
        uuid: format!("GPU-{at}").parse().unwrap(),
        index: u32::try_from(at).unwrap(),
        pci_bus_id: Some(bus(at)),
        numa_node: NumaNode::from_sysfs(numa),
        links: Some(remotes.iter().map(link).collect()),
    }
}

fn observed(gpus: Vec<ObservedGpu>) -> (Topology, Vec<TopologyFinding>) {
    Topology::observed(TopologyObservation { gpus, ancestors: BTreeMap::new() })
}

#[test]
fn asymmetric_links_count_at_their_least_and_are_reported() {
    let to = |at| Remote::Gpu(bus(at));
    let (topology, findings) = observed(vec![gpu(0, 0, &[to(1), to(1)]), gpu(1, 0, &[to(0)])]);
    assert_eq!(topology.pair(1, 0).bandwidth(), 25);
    assert!(matches!(&findings[..], [TopologyFinding::AsymmetricLinks { .. }]), "{findings:?}");
}

#[test]
fn a_link_that_only_one_side_sees_is_none() {
    let (topology, findings) = observed(vec![gpu(0, 0, &[Remote::Gpu(bus(1))]), gpu(1, 0, &[])]);
    assert_eq!(topology.pair(0, 1).nvlink, NvLink::None);
    assert_eq!(findings.len(), 1);
}

#[test]
fn links_that_could_not_be_read_are_known_from_the_other_end() {
    let mut silent = gpu(1, 0, &[]);
    silent.links = None;
    let (topology, findings) = observed(vec![gpu(0, 0, &[Remote::Gpu(bus(1))]), silent]);
    assert_eq!(topology.pair(0, 1).bandwidth(), 25);
    assert_eq!(findings, []);
}

#[test]
fn through_a_switch_a_pair_has_the_links_of_the_one_with_fewer() {
    let (topology, findings) =
        observed(vec![gpu(0, 0, &[Remote::Switch; 6]), gpu(1, 1, &[Remote::Switch; 5])]);
    assert_eq!(topology.pair(0, 1).bandwidth(), 125);
    assert_eq!(findings, []);
}

#[test]
fn without_pcie_levels_the_numa_nodes_count_and_without_both_a_pair_is_unknown() {
    let (topology, _) =
        observed(vec![gpu(0, 0, &[]), gpu(1, 0, &[]), gpu(2, 1, &[]), gpu(3, -1, &[])]);
    assert_eq!(topology.pair(0, 1).pcie, PcieLevel::SameNode);
    assert_eq!(topology.pair(0, 2).pcie, PcieLevel::AcrossSystem);
    assert_eq!(topology.pair(0, 3).pcie, PcieLevel::Unknown);
}

#[test]
fn contradictory_ancestors_count_at_the_farther_and_are_reported() {
    let gpus = vec![gpu(0, 0, &[]), gpu(1, 0, &[]), gpu(2, 0, &[])];
    let key = |a: usize, b: usize| (gpus[a].uuid.clone(), gpus[b].uuid.clone());
    let ancestors = BTreeMap::from([
        (key(0, 1), PcieLevel::SingleSwitch),
        (key(1, 0), PcieLevel::HostBridge),
        (key(2, 0), PcieLevel::SameBoard),
        (key(0, 2), PcieLevel::Unknown),
    ]);
    let (topology, findings) = Topology::observed(TopologyObservation { gpus, ancestors });
    assert_eq!(topology.pair(0, 1).pcie, PcieLevel::HostBridge);
    assert_eq!(topology.pair(0, 2).pcie, PcieLevel::SameBoard);
    assert!(
        matches!(&findings[..], [TopologyFinding::ContradictingAncestor { .. }]),
        "{findings:?}"
    );
}

#[test]
fn contradictory_data_is_reported_and_left_out() {
    let mut twin = gpu(1, 0, &[]);
    twin.pci_bus_id = Some(bus(0));
    let links = [Remote::Gpu(bus(0)), Remote::Gpu(bus(9)), Remote::Unknown];
    let (topology, findings) = observed(vec![gpu(0, 0, &links), twin.clone(), twin]);
    assert_eq!(topology.gpus().len(), 2);
    let uuid = |at: usize| topology.gpus()[at].uuid.clone();
    let expected = [
        TopologyFinding::ListedTwice(uuid(1)),
        TopologyFinding::SharedBusId(bus(0)),
        TopologyFinding::LinksToNowhere { gpu: uuid(0), links: 3 },
    ];
    assert_eq!(findings, expected);
}

#[test]
fn a_position_that_is_not_there_is_an_unknown_pair() {
    let (topology, _) = observed(vec![gpu(0, 0, &[])]);
    assert_eq!(topology.pair(0, 7), Pair::default());
}
