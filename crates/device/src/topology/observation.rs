//! From what was read of each GPU to one topology: both views of a link are put together, what
//! contradicts is taken at its least and reported.

use std::collections::{BTreeMap, BTreeSet};

use super::finding::Finding;
use super::{Bundle, Member, NvLink, NvLinkVersion, Pair, PcieLevel, Topology};
use crate::gpu::NumaNode;
use crate::names::{PciBusId, Uuid};

/// What discovery read, with gaps where it could not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observation {
    /// The GPUs, in any order.
    pub gpus: Vec<ObservedGpu>,
    /// The nearest common ancestor of pairs on PCIe, under either order of the two, or both.
    pub ancestors: BTreeMap<(Uuid, Uuid), PcieLevel>,
}

/// What was read of one GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedGpu {
    /// Its identity.
    pub uuid: Uuid,
    /// NVML's index.
    pub index: u32,
    /// Its place on the bus, which is how the links of others name it.
    pub pci_bus_id: Option<PciBusId>,
    /// Its NUMA node.
    pub numa_node: Option<NumaNode>,
    /// Its NVLinks; `None` if they could not be read, and then the view of those at the other end
    /// counts alone.
    pub links: Option<Vec<ObservedLink>>,
}

/// What was read of the links and of nothing else. The rest of an [`Observation`] is known from the
/// enumeration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Links {
    /// The NVLinks of each GPU that answered about them.
    pub nvlinks: BTreeMap<Uuid, Vec<ObservedLink>>,
    /// As [`Observation::ancestors`].
    pub ancestors: BTreeMap<(Uuid, Uuid), PcieLevel>,
}

/// What was read of one NVLink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObservedLink {
    /// Where it leads.
    pub remote: Remote,
    /// Its generation.
    pub version: Option<NvLinkVersion>,
    /// Whether it is up. One that is down counts for nothing.
    pub active: bool,
}

/// The other end of an NVLink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remote {
    /// A device on the bus.
    Gpu(PciBusId),
    /// An NVSwitch. All switches of a node are taken as one fabric.
    Switch,
    /// NVML did not say.
    Unknown,
}

impl Topology {
    /// The topology of an observation, and what did not fit together in it.
    ///
    /// Where PCIe is not known it is derived from the NUMA nodes, and where those are not known
    /// either the pair stays [`PcieLevel::Unknown`].
    #[must_use]
    pub fn observed(observation: Observation) -> (Self, Vec<Finding>) {
        let Observation { mut gpus, ancestors } = observation;
        let mut findings = Vec::new();
        gpus.sort_by(|a, b| (a.index, &a.uuid).cmp(&(b.index, &b.uuid)));
        let mut listed = BTreeSet::new();
        gpus.retain(|gpu| {
            let first = listed.insert(gpu.uuid.clone());
            if !first {
                findings.push(Finding::ListedTwice(gpu.uuid.clone()));
            }
            first
        });

        let places = places(&gpus, &mut findings);
        let views: Vec<View> =
            (0..gpus.len()).map(|at| View::of(at, &gpus, &places, &mut findings)).collect();
        let members = gpus.into_iter().map(|g| Member {
            uuid: g.uuid,
            index: g.index,
            numa_node: g.numa_node,
        });
        let mut topology = Self::of(members.collect());
        for a in 0..views.len() {
            for b in a + 1..views.len() {
                let pcie = pcie(&topology.gpus[a], &topology.gpus[b], &ancestors, &mut findings);
                let nvlink = nvlink(&topology, &views, (a, b), &mut findings);
                topology.set_pair(a, b, Pair { pcie, nvlink });
            }
        }
        (topology, findings)
    }
}

/// Which GPU sits where on the bus; a place that two claim is nobody's.
fn places(gpus: &[ObservedGpu], findings: &mut Vec<Finding>) -> BTreeMap<PciBusId, usize> {
    let mut claims = BTreeMap::<PciBusId, Vec<usize>>::new();
    for (at, gpu) in gpus.iter().enumerate() {
        if let Some(place) = gpu.pci_bus_id {
            claims.entry(place).or_default().push(at);
        }
    }
    let mut places = BTreeMap::new();
    for (place, claimants) in claims {
        if let [only] = claimants[..] {
            places.insert(place, only);
        } else {
            findings.push(Finding::SharedBusId(place));
        }
    }
    places
}

/// The active NVLinks as one GPU sees them.
#[derive(Default)]
struct View {
    /// False if they could not be read.
    known: bool,
    direct: BTreeMap<usize, Bundle>,
    switched: Option<Bundle>,
}

impl View {
    fn of(
        at: usize,
        gpus: &[ObservedGpu],
        places: &BTreeMap<PciBusId, usize>,
        findings: &mut Vec<Finding>,
    ) -> Self {
        let mut view = Self { known: gpus[at].links.is_some(), ..Self::default() };
        let mut nowhere = 0;
        for link in gpus[at].links.iter().flatten().filter(|link| link.active) {
            let one = Bundle { links: 1, version: link.version };
            let more = |bundle: Bundle| Bundle {
                links: bundle.links.saturating_add(1),
                version: bundle.version.min(one.version),
            };
            let peer = match link.remote {
                Remote::Switch => {
                    view.switched = Some(view.switched.map_or(one, more));
                    continue;
                }
                Remote::Gpu(place) => places.get(&place).copied().filter(|peer| *peer != at),
                Remote::Unknown => None,
            };
            match peer {
                Some(peer) => {
                    view.direct
                        .entry(peer)
                        .and_modify(|bundle| *bundle = more(*bundle))
                        .or_insert(one);
                }
                None => nowhere += 1,
            }
        }
        if nowhere > 0 {
            findings.push(Finding::LinksToNowhere { gpu: gpus[at].uuid.clone(), links: nowhere });
        }
        view
    }
}

fn pcie(
    a: &Member,
    b: &Member,
    ancestors: &BTreeMap<(Uuid, Uuid), PcieLevel>,
    findings: &mut Vec<Finding>,
) -> PcieLevel {
    let ask = |x: &Member, y: &Member| {
        let level = ancestors.get(&(x.uuid.clone(), y.uuid.clone())).copied();
        level.filter(|level| *level != PcieLevel::Unknown)
    };
    match (ask(a, b), ask(b, a)) {
        (Some(one), Some(other)) => {
            if one != other {
                findings
                    .push(Finding::ContradictingAncestor { a: a.uuid.clone(), b: b.uuid.clone() });
            }
            one.min(other)
        }
        (Some(level), None) | (None, Some(level)) => level,
        (None, None) => match (a.numa_node, b.numa_node) {
            (Some(one), Some(other)) if one == other => PcieLevel::SameNode,
            (Some(_), Some(_)) => PcieLevel::AcrossSystem,
            _ => PcieLevel::Unknown,
        },
    }
}

fn nvlink(
    topology: &Topology,
    views: &[View],
    (a, b): (usize, usize),
    findings: &mut Vec<Finding>,
) -> NvLink {
    let seen = |by: usize, from: usize| views[by].direct.get(&from).copied();
    let (seen_by_a, seen_by_b) = match (views[a].known, views[b].known) {
        (true, false) => (seen(a, b), seen(a, b)),
        (false, true) => (seen(b, a), seen(b, a)),
        _ => (seen(a, b), seen(b, a)),
    };
    if seen_by_a != seen_by_b {
        let uuid = |at: usize| topology.gpus[at].uuid.clone();
        findings.push(Finding::AsymmetricLinks { a: uuid(a), b: uuid(b), seen_by_a, seen_by_b });
    }
    let both = |one: Option<Bundle>, other: Option<Bundle>| Some(one?.least(other?));
    let direct = both(seen_by_a, seen_by_b).map_or(NvLink::None, NvLink::Direct);
    let switched =
        both(views[a].switched, views[b].switched).map_or(NvLink::None, NvLink::Switched);
    if switched.bandwidth() > direct.bandwidth() { switched } else { direct }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    fn observed(gpus: Vec<ObservedGpu>) -> (Topology, Vec<Finding>) {
        Topology::observed(Observation { gpus, ancestors: BTreeMap::new() })
    }

    #[test]
    fn asymmetric_links_are_taken_at_their_least_and_reported() {
        let to = |at| Remote::Gpu(bus(at));
        let (topology, findings) = observed(vec![gpu(0, 0, &[to(1), to(1)]), gpu(1, 0, &[to(0)])]);
        assert_eq!(topology.pair(1, 0).bandwidth(), 25);
        assert!(matches!(&findings[..], [Finding::AsymmetricLinks { .. }]), "{findings:?}");
    }

    #[test]
    fn a_link_that_only_one_side_sees_is_none() {
        let (topology, findings) =
            observed(vec![gpu(0, 0, &[Remote::Gpu(bus(1))]), gpu(1, 0, &[])]);
        assert_eq!(topology.pair(0, 1).nvlink, NvLink::None);
        assert_eq!(findings.len(), 1);
    }

    #[test]
    fn of_a_gpu_whose_links_could_not_be_read_the_others_know() {
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
    fn without_pcie_the_numa_nodes_speak_and_without_them_nothing_does() {
        let (topology, _) =
            observed(vec![gpu(0, 0, &[]), gpu(1, 0, &[]), gpu(2, 1, &[]), gpu(3, -1, &[])]);
        assert_eq!(topology.pair(0, 1).pcie, PcieLevel::SameNode);
        assert_eq!(topology.pair(0, 2).pcie, PcieLevel::AcrossSystem);
        assert_eq!(topology.pair(0, 3).pcie, PcieLevel::Unknown);
    }

    #[test]
    fn contradicting_ancestors_are_taken_at_the_farther_and_reported() {
        let gpus = vec![gpu(0, 0, &[]), gpu(1, 0, &[]), gpu(2, 0, &[])];
        let key = |a: usize, b: usize| (gpus[a].uuid.clone(), gpus[b].uuid.clone());
        let ancestors = BTreeMap::from([
            (key(0, 1), PcieLevel::SingleSwitch),
            (key(1, 0), PcieLevel::HostBridge),
            (key(2, 0), PcieLevel::SameBoard),
            (key(0, 2), PcieLevel::Unknown),
        ]);
        let (topology, findings) = Topology::observed(Observation { gpus, ancestors });
        assert_eq!(topology.pair(0, 1).pcie, PcieLevel::HostBridge);
        assert_eq!(topology.pair(0, 2).pcie, PcieLevel::SameBoard);
        assert!(matches!(&findings[..], [Finding::ContradictingAncestor { .. }]), "{findings:?}");
    }

    #[test]
    fn what_makes_no_sense_is_reported_and_left_out() {
        let mut twin = gpu(1, 0, &[]);
        twin.pci_bus_id = Some(bus(0));
        let links = [Remote::Gpu(bus(0)), Remote::Gpu(bus(9)), Remote::Unknown];
        let (topology, findings) = observed(vec![gpu(0, 0, &links), twin.clone(), twin]);
        assert_eq!(topology.gpus().len(), 2);
        let uuid = |at: usize| topology.gpus()[at].uuid.clone();
        let expected = [
            Finding::ListedTwice(uuid(1)),
            Finding::SharedBusId(bus(0)),
            Finding::LinksToNowhere { gpu: uuid(0), links: 3 },
        ];
        assert_eq!(findings, expected);
    }

    #[test]
    fn a_position_that_is_not_there_is_an_unknown_pair() {
        let (topology, _) = observed(vec![gpu(0, 0, &[])]);
        assert_eq!(topology.pair(0, 7), Pair::default());
    }
}
