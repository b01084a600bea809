//! Admission: which devices a container gets, and from where.

use std::collections::{BTreeMap, BTreeSet};

use super::checkpoint::PodDevices;
use super::manager::{Endpoint, Manager, Shared};
use super::requests::{AdmissionError, AllocationRequest, ContainerKind};
use super::violations::ViolationKind;
use super::{Containers, affinity, calls};
use crate::proto::ContainerAllocateResponse;

/// Admits one container for one resource.
pub(crate) async fn admit(
    shared: &Shared,
    request: &AllocationRequest,
) -> Result<ContainerAllocateResponse, AdmissionError> {
    let _one_at_a_time = shared.admission.lock().await;
    let reusable = {
        let mut manager = shared.manager();
        let stays = request.kind != ContainerKind::Init;
        manager.pod_comes(&request.pod, stays.then_some(&request.container));
        let reusable = manager.reusable_for(&request.pod, &request.resource);
        let held = manager.held(request).map(PodDevices::ids).unwrap_or_default();
        manager.work_out_hints(&request.resource, &held, "a pod that is admitted again holds it");
        manager.work_out_hints(&request.resource, &reusable, "an init container has left it");
        reusable
    };
    if let Some(chosen) = devices_to_allocate(shared, request, &reusable).await? {
        calls::allocate(shared, request, &chosen).await?;
    }
    let mut manager = shared.manager();
    let Some(held) = manager.held(request) else {
        // Released while it was admitted.
        return Err(AdmissionError::NotAdmitted {
            pod: request.pod.clone(),
            container: request.container.clone(),
        });
    };
    let (ids, answer) = (held.ids(), held.answer.clone());
    let reusable = manager.reusable.1.entry(request.resource.clone()).or_default();
    match request.kind {
        ContainerKind::Init => reusable.extend(ids),
        ContainerKind::App | ContainerKind::RestartableInit => {
            reusable.retain(|id| !ids.contains(id))
        }
    }
    Ok(answer)
}

/// Admits the pods that hold devices once more; those that fail have failed for good.
pub(super) fn readmit(
    manager: &mut Manager,
    containers: Containers,
) -> Vec<(String, AdmissionError)> {
    let mut failed = Vec::new();
    for held in manager.pods.clone() {
        manager.work_out_hints(
            &held.resource,
            &held.ids(),
            "a pod that is admitted again holds it",
        );
        if containers == Containers::Running {
            continue;
        }
        let count = held.ids().len();
        let request = AllocationRequest::new(&held.pod, &held.container, &held.resource, count);
        if let Err(error) = manager.check(&request) {
            manager.finish(&held.pod);
            failed.push((held.pod, error));
        }
    }
    failed
}

/// Chooses the devices. None: the container has them from before.
async fn devices_to_allocate(
    shared: &Shared,
    request: &AllocationRequest,
    reusable: &BTreeSet<String>,
) -> Result<Option<BTreeSet<String>>, AdmissionError> {
    let resource = request.resource.as_str();
    let (mut choice, available, sorted) = {
        let mut manager = shared.manager();
        manager.forget_finished_pods();
        if manager.check(request)? {
            return Ok(None);
        }
        let mut choice = Choice { resource, taken: BTreeSet::new(), needed: request.count };
        if choice.take(&mut manager, reusable) {
            return Ok(Some(choice.taken));
        }
        let devices = manager.devices.get(resource).expect("checked");
        let in_use = manager.allocated.get(resource).cloned().unwrap_or_default();
        let available: BTreeSet<String> = devices.healthy.difference(&in_use).cloned().collect();
        if available.len() < choice.needed {
            return Err(AdmissionError::Unavailable {
                resource: resource.to_owned(),
                requested: choice.needed,
                available: available.len(),
            });
        }
        let sorted = affinity::sort(&devices.all, &available, request.affinity.as_ref());
        (choice, available, sorted)
    };

    // The plugin may choose among the aligned devices only if there is a choice.
    let strictly_less = choice.needed < sorted.aligned.len();
    let offered = if strictly_less {
        &sorted.aligned
    } else {
        if choice.take(&mut shared.manager(), &sorted.aligned) {
            return Ok(Some(choice.taken));
        }
        &available
    };
    let preferred = calls::preferred_allocation(shared, request, offered, &choice.taken).await?;
    let preferred = preferred.intersection(offered).cloned().collect();
    let mut manager = shared.manager();
    for set in [&preferred, &sorted.aligned, &sorted.unaligned, &sorted.no_affinity] {
        if choice.take(&mut manager, set) {
            break;
        }
    }
    Ok(Some(choice.taken))
}

/// The devices taken so far for one request.
struct Choice<'a> {
    resource: &'a str,
    taken: BTreeSet<String>,
    needed: usize,
}

impl Choice<'_> {
    /// Takes from the set in random order; true when nothing more is needed.
    fn take(&mut self, manager: &mut Manager, from: &BTreeSet<String>) -> bool {
        let fresh = from.difference(&self.taken).cloned();
        for id in manager.random.shuffled(fresh) {
            if self.needed == 0 {
                break;
            }
            manager.allocated.entry(self.resource.to_owned()).or_default().insert(id.clone());
            self.taken.insert(id);
            self.needed -= 1;
        }
        self.needed == 0
    }
}

impl Manager {
    /// What the pod's init containers have left; those of another pod are forgotten.
    fn reusable_for(&mut self, pod: &str, resource: &str) -> BTreeSet<String> {
        if self.reusable.0 != pod {
            self.reusable = (pod.to_owned(), BTreeMap::new());
        }
        self.reusable.1.get(resource).cloned().unwrap_or_default()
    }

    fn held(&self, request: &AllocationRequest) -> Option<&PodDevices> {
        let is_it = |held: &&PodDevices| {
            held.pod == request.pod
                && held.container == request.container
                && held.resource == request.resource
        };
        self.pods.iter().find(is_it)
    }

    /// The checks before anything is chosen; true if the container has its devices already.
    fn check(&self, request: &AllocationRequest) -> Result<bool, AdmissionError> {
        let resource = request.resource.clone();
        let held = self.held(request).map(PodDevices::ids);
        if let Some(held) = &held
            && held.len() != request.count
        {
            return Err(AdmissionError::ChangedRequest {
                pod: request.pod.clone(),
                container: request.container.clone(),
                resource,
                from: held.len(),
                to: request.count,
            });
        }
        let Some(devices) = self.devices.get(&resource) else {
            return Err(AdmissionError::Unregistered(resource));
        };
        if devices.healthy.is_empty() {
            return Err(AdmissionError::NoHealthyDevices(resource));
        }
        match held {
            Some(held) if held.is_subset(&devices.healthy) => Ok(true),
            Some(_) => Err(AdmissionError::PreviouslyAllocatedUnhealthy(resource)),
            None => Ok(false),
        }
    }

    /// The resource's endpoint, unless it has stopped.
    pub(super) fn running_endpoint(&self, resource: &str) -> Result<Endpoint, AdmissionError> {
        let endpoint = self.endpoints.get(resource);
        let endpoint =
            endpoint.ok_or_else(|| AdmissionError::UnknownPlugin(resource.to_owned()))?;
        match endpoint.stopped_at {
            Some(_) => Err(AdmissionError::EndpointStopped(resource.to_owned())),
            None => Ok(endpoint.clone()),
        }
    }

    /// The topology hints of devices that somebody has, which the kubelet works out from the list
    /// without a look whether they are in it: if the resource has topology at all, it follows a nil
    /// pointer.
    pub(super) fn work_out_hints(&mut self, resource: &str, ids: &BTreeSet<String>, why: &str) {
        let Some(devices) = self.devices.get(resource) else { return };
        if devices.all.values().all(|device| device.topology.is_none()) {
            return;
        }
        for id in ids.iter().filter(|id| !devices.all.contains_key(*id)) {
            let detail = format!("{id} is not in the list, and {why}");
            self.violations.record(ViolationKind::KubeletPanic, resource, detail);
        }
    }

    /// Where the chosen devices stand in the checkpoint.
    pub(super) fn by_numa(
        &mut self,
        resource: &str,
        chosen: &BTreeSet<String>,
    ) -> BTreeMap<i64, Vec<String>> {
        let mut by_numa: BTreeMap<i64, Vec<String>> = BTreeMap::new();
        for id in chosen {
            let device = self.devices.get(resource).and_then(|devices| devices.all.get(id));
            if device.is_none() {
                self.violations.record(ViolationKind::KubeletPanic, resource, id);
            }
            let mut nodes = device.map(affinity::nodes).unwrap_or_default();
            if nodes.is_empty() {
                nodes.push(-1);
            }
            for node in nodes {
                by_numa.entry(node).or_default().push(id.clone());
            }
        }
        by_numa
    }
}
