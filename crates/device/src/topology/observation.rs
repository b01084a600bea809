//! Builds the topology from what was read of each GPU. Both ends of a link are compared; where they
//! contradict each other the lesser value counts, and the contradiction is a [`TopologyFinding`].

use std::collections::{BTreeMap, BTreeSet};

use super::finding::TopologyFinding;
use super::{NvLink, NvLinkBundle, NvLinkVersion, Pair, PcieLevel, Topology, TopologyGpu};
use crate::gpu::NumaNode;
use crate::names::{PciBusId, Uuid};

/// What was read of all GPUs, with gaps where reading failed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TopologyObservation {
    /// The GPUs, in any order.
    pub gpus: Vec<ObservedGpu>,
    /// The nearest common PCIe ancestor of pairs, under either order of the two, or both.
    pub ancestors: BTreeMap<(Uuid, Uuid), PcieLevel>,
}

/// What was read of one GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedGpu {
    /// The GPU.
    pub uuid: Uuid,
    /// NVML's index.
    pub index: u32,
    /// Its PCI bus id, by which the NVLinks of other GPUs name it.
    pub pci_bus_id: Option<PciBusId>,
    /// Its NUMA node.
    pub numa_node: Option<NumaNode>,
    /// Its NVLinks; `None` if they could not be read: then what the other end reports counts.
    pub links: Option<Vec<ObservedLink>>,
}

/// What was read of the links alone. The rest of a [`TopologyObservation`] comes from the
/// enumeration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeLinks {
    /// The NVLinks of each GPU for which they could be read.
    pub nvlinks: BTreeMap<Uuid, Vec<ObservedLink>>,
    /// As [`TopologyObservation::ancestors`].
    pub ancestors: BTreeMap<(Uuid, Uuid), PcieLevel>,
}

/// What was read of one NVLink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObservedLink {
    /// The device at its other end.
    pub remote: Remote,
    /// Its generation, if NVML states it.
    pub version: Option<NvLinkVersion>,
    /// Whether it is up. One that is down is ignored.
    pub active: bool,
}

/// The other end of an NVLink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remote {
    /// A device with this PCI bus id.
    Gpu(PciBusId),
    /// An NVSwitch. All switches of a node count as one fabric.
    Switch,
    /// NVML did not state it.
    Unknown,
}

impl Topology {
    /// The topology of an observation, and the contradictions in it.
    ///
    /// An unknown PCIe level is derived from the NUMA nodes; where those are unknown too it stays
    /// [`PcieLevel::Unknown`].
    #[must_use]
    pub fn observed(observation: TopologyObservation) -> (Self, Vec<TopologyFinding>) {
        let TopologyObservation { gpus, ancestors } = observation;
        let mut findings = Vec::new();
        let gpus = sorted_once(gpus, &mut findings);
        let positions = positions_by_bus_id(&gpus, &mut findings);
        let views: Vec<View> =
            (0..gpus.len()).map(|at| View::of(at, &gpus, &positions, &mut findings)).collect();
        let members = gpus.into_iter().map(|g| TopologyGpu {
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

    /// The same GPUs with nothing known but their NUMA nodes.
    pub(crate) fn without_links(&self) -> Self {
        let gpus = self.gpus.iter().map(|gpu| ObservedGpu {
            uuid: gpu.uuid.clone(),
            index: gpu.index,
            pci_bus_id: None,
            numa_node: gpu.numa_node,
            links: None,
        });
        Self::observed(TopologyObservation { gpus: gpus.collect(), ancestors: BTreeMap::new() }).0
    }
}

/// The GPUs by NVML index, then UUID, each once.
fn sorted_once(
    mut gpus: Vec<ObservedGpu>,
    findings: &mut Vec<TopologyFinding>,
) -> Vec<ObservedGpu> {
    gpus.sort_by(|a, b| (a.index, &a.uuid).cmp(&(b.index, &b.uuid)));
    let mut listed = BTreeSet::new();
    gpus.retain(|gpu| {
        let first = listed.insert(gpu.uuid.clone());
        if !first {
            findings.push(TopologyFinding::ListedTwice(gpu.uuid.clone()));
        }
        first
    });
    gpus
}

/// Which GPU has which PCI bus id. One that two GPUs report leads to neither.
fn positions_by_bus_id(
    gpus: &[ObservedGpu],
    findings: &mut Vec<TopologyFinding>,
) -> BTreeMap<PciBusId, usize> {
    let mut reported = BTreeMap::<PciBusId, Vec<usize>>::new();
    for (at, gpu) in gpus.iter().enumerate() {
        if let Some(bus_id) = gpu.pci_bus_id {
            reported.entry(bus_id).or_default().push(at);
        }
    }
    let mut positions = BTreeMap::new();
    for (bus_id, by) in reported {
        if let [only] = by[..] {
            positions.insert(bus_id, only);
        } else {
            findings.push(TopologyFinding::SharedBusId(bus_id));
        }
    }
    positions
}

/// The active NVLinks as one GPU sees them.
#[derive(Default)]
struct View {
    /// False if they could not be read.
    known: bool,
    direct: BTreeMap<usize, NvLinkBundle>,
    switched: Option<NvLinkBundle>,
}

impl View {
    fn of(
        at: usize,
        gpus: &[ObservedGpu],
        positions: &BTreeMap<PciBusId, usize>,
        findings: &mut Vec<TopologyFinding>,
    ) -> Self {
        let mut view = Self { known: gpus[at].links.is_some(), ..Self::default() };
        let mut nowhere = 0;
        for link in gpus[at].links.iter().flatten().filter(|link| link.active) {
            let peer = match link.remote {
                Remote::Gpu(bus_id) => positions.get(&bus_id).copied().filter(|peer| *peer != at),
                Remote::Switch | Remote::Unknown => None,
            };
            match (link.remote, peer) {
                (Remote::Switch, _) => view.switched = Some(with(view.switched, link)),
                (_, Some(peer)) => {
                    let bundle = with(view.direct.get(&peer).copied(), link);
                    view.direct.insert(peer, bundle);
                }
                (_, None) => nowhere += 1,
            }
        }
        if nowhere > 0 {
            findings.push(TopologyFinding::LinksToNowhere {
                gpu: gpus[at].uuid.clone(),
                links: nowhere,
            });
        }
        view
    }
}

/// A bundle with one link more.
fn with(bundle: Option<NvLinkBundle>, link: &ObservedLink) -> NvLinkBundle {
    let (links, version) = bundle.map_or((0, link.version), |all| (all.links, all.version));
    NvLinkBundle { links: links.saturating_add(1), version: version.min(link.version) }
}

/// The PCIe level of a pair: the farther of what was read for both orders of the two.
fn pcie(
    a: &TopologyGpu,
    b: &TopologyGpu,
    ancestors: &BTreeMap<(Uuid, Uuid), PcieLevel>,
    findings: &mut Vec<TopologyFinding>,
) -> PcieLevel {
    let level = |x: &TopologyGpu, y: &TopologyGpu| {
        let level = ancestors.get(&(x.uuid.clone(), y.uuid.clone())).copied();
        level.filter(|level| *level != PcieLevel::Unknown)
    };
    match (level(a, b), level(b, a)) {
        (Some(one), Some(other)) => {
            if one != other {
                findings.push(TopologyFinding::ContradictingAncestor {
                    a: a.uuid.clone(),
                    b: b.uuid.clone(),
                });
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

/// The NVLinks of a pair: direct ones or those through NVSwitch, whichever have more bandwidth.
fn nvlink(
    topology: &Topology,
    views: &[View],
    (a, b): (usize, usize),
    findings: &mut Vec<TopologyFinding>,
) -> NvLink {
    let seen = |by: usize, from: usize| views[by].direct.get(&from).copied();
    let (seen_by_a, seen_by_b) = match (views[a].known, views[b].known) {
        (true, false) => (seen(a, b), seen(a, b)),
        (false, true) => (seen(b, a), seen(b, a)),
        _ => (seen(a, b), seen(b, a)),
    };
    if seen_by_a != seen_by_b {
        let uuid = |at: usize| topology.gpus[at].uuid.clone();
        findings.push(TopologyFinding::AsymmetricLinks {
            a: uuid(a),
            b: uuid(b),
            seen_by_a,
            seen_by_b,
        });
    }
    let both = |one: Option<NvLinkBundle>, other: Option<NvLinkBundle>| Some(one?.least(other?));
    let direct = both(seen_by_a, seen_by_b).map_or(NvLink::None, NvLink::Direct);
    let switched =
        both(views[a].switched, views[b].switched).map_or(NvLink::None, NvLink::Switched);
    if switched.bandwidth() > direct.bandwidth() { switched } else { direct }
}
