//! What a plugin did wrong although the real kubelet would have let it pass.

use std::collections::BTreeSet;
use std::fmt;

/// One deviation from the contract.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// What was wrong.
    pub kind: ViolationKind,
    /// The resource of the list, the registration or the answer.
    pub resource: String,
    /// The device, the socket or the text that was wrong.
    pub detail: String,
}

/// The rules that are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ViolationKind {
    /// An id stands twice in a list.
    DuplicateId,
    /// An id stands in the lists of two resources; ids are looked up node-wide.
    IdOfTwoResources,
    /// An id is empty.
    EmptyId,
    /// An id has more than 63 characters.
    LongId,
    /// A list is not in the order of its ids.
    UnsortedList,
    /// A stream sent the same list twice in a row.
    RepeatedList,
    /// A health that is neither "Healthy" nor "Unhealthy".
    OddHealth,
    /// A NUMA node below 0, the kubelet's own marker for "no topology".
    NegativeNuma,
    /// A NUMA node that the node does not have.
    UnknownNuma,
    /// Topology without nodes; it is to be absent.
    EmptyTopology,
    /// An id that was advertised in this life and was Healthy when it was last listed is no longer
    /// in the list.
    Vanished,
    /// An id that a pod holds is not in the list.
    VanishedInUse,
    /// A device that is being allocated, that an init container has left, or that a pod which is
    /// admitted again holds is not in the list, which makes the real kubelet panic.
    KubeletPanic,
    /// A registration came before the kubelet was done with the resource's old connection: before
    /// 1.37 the end of the old one then takes the new one with it, or keeps the end of the new one
    /// from being noticed.
    OverlappingRegistration,
    /// A socket name that was registered before in this life.
    ReusedEndpoint,
    /// An endpoint that is not a plain file name.
    EndpointNotAFileName,
    /// The options of the Register call are not those of GetDevicePluginOptions.
    OptionsDiffer,
    /// An Allocate answer that a container runtime could not use.
    AllocateAnswer,
    /// More calls of podresources than the kubelet lets through.
    PodResourcesRate,
    /// A preferred allocation that is not a choice from what was offered.
    PreferredAnswer,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} in {}: {}", self.kind, self.resource, self.detail)
    }
}

/// The violations so far, each once, in the order of their first appearance.
#[derive(Debug, Default)]
pub(crate) struct Violations {
    known: BTreeSet<Violation>,
    in_order: Vec<Violation>,
}

impl Violations {
    pub(crate) fn record(
        &mut self,
        kind: ViolationKind,
        resource: &str,
        detail: impl Into<String>,
    ) {
        let violation = Violation { kind, resource: resource.to_owned(), detail: detail.into() };
        if self.known.insert(violation.clone()) {
            self.in_order.push(violation);
        }
    }

    pub(crate) fn all(&self) -> Vec<Violation> {
        self.in_order.clone()
    }
}
