//! The calls that the kubelet makes to a plugin for a pod, each one recorded.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tonic::{Response, Status};

use super::checkpoint::PodDevices;
use super::clients::PluginClient;
use super::manager::{Endpoint, Shared};
use super::records::{Call, Method};
use super::requests::{AdmissionError, AllocationRequest};
use super::violations::ViolationKind;
use super::{KubeletVersion, answers, dial, go_error};
use crate::proto::{
    AllocateRequest, ContainerAllocateRequest, ContainerAllocateResponse,
    ContainerPreferredAllocationRequest, PreStartContainerRequest, PreferredAllocationRequest,
};

/// Asks the plugin which of the offered devices it would take, if it wants to be asked.
pub(super) async fn preferred_allocation(
    shared: &Shared,
    request: &AllocationRequest,
    offered: &BTreeSet<String>,
    taken: &BTreeSet<String>,
) -> Result<BTreeSet<String>, AdmissionError> {
    let resource = request.resource.as_str();
    let (endpoint, asked) = {
        let mut manager = shared.manager();
        let endpoint = match manager.endpoints.get(resource) {
            Some(endpoint) if endpoint.options.get_preferred_allocation_available => {
                endpoint.clone()
            }
            _ => return Ok(BTreeSet::new()),
        };
        let asked = ContainerPreferredAllocationRequest {
            available_device_ids: manager.random.shuffled(offered.union(taken).cloned()),
            must_include_device_ids: manager.random.shuffled(taken.iter().cloned()),
            allocation_size: i32::try_from(request.count).unwrap_or(i32::MAX),
        };
        (endpoint, asked)
    };
    if endpoint.stopped_at.is_some() {
        return Err(AdmissionError::EndpointStopped(resource.to_owned()));
    }
    let call =
        CallInProgress::begin(resource, Method::PreferredAllocation, &asked.available_device_ids)
            .preferred(&asked.must_include_device_ids, request.count);
    let answer = async {
        let mut plugin = plugin(&endpoint)?;
        plugin
            .get_preferred_allocation(PreferredAllocationRequest {
                container_requests: vec![asked.clone()],
            })
            .await
    };
    let answer = call.end(shared, answer.await);
    let answer = answer
        .map_err(|status| AdmissionError::PreferredAllocation(go_error(&status)))?
        .into_inner();
    let Some(preferred) = answer.container_responses.into_iter().next() else {
        return Ok(BTreeSet::new());
    };
    answers::audit_preferred(&mut shared.manager(), resource, &asked, &preferred.device_ids);
    Ok(preferred.device_ids.into_iter().collect())
}

/// Calls Allocate, without a time-out, and enters the answer.
pub(super) async fn allocate(
    shared: &Shared,
    request: &AllocationRequest,
    chosen: &BTreeSet<String>,
) -> Result<(), AdmissionError> {
    let resource = request.resource.as_str();
    let (endpoint, ids) = {
        let mut manager = shared.manager();
        let ids = manager.random.shuffled(chosen.iter().cloned());
        (manager.running_endpoint(resource), ids)
    };
    let answer = match endpoint {
        Ok(endpoint) => {
            let call = CallInProgress::begin(resource, Method::Allocate, &ids);
            let answer = async {
                let container_requests = vec![ContainerAllocateRequest { device_ids: ids }];
                plugin(&endpoint)?.allocate(AllocateRequest { container_requests }).await
            };
            call.end(shared, answer.await)
                .map_err(|status| AdmissionError::Allocate(go_error(&status)))
        }
        Err(error) => Err(error),
    };
    let mut manager = shared.manager();
    let answer = match answer {
        Ok(answer) => answer.into_inner(),
        Err(error) => {
            manager.forget_unfinished_allocations();
            return Err(error);
        }
    };
    if answer.container_responses.len() > 1 {
        let detail = format!("{} answers for one container", answer.container_responses.len());
        manager.violations.record(ViolationKind::AllocateAnswer, resource, detail);
    }
    // The devices of an empty answer stay taken until a pod ends, as in the kubelet.
    let mut answer =
        answer.container_responses.into_iter().next().ok_or(AdmissionError::EmptyAnswer)?;
    if shared.config().version < KubeletVersion::V1_32 {
        answer.cdi_devices.clear();
    }
    answers::audit_answer(&mut manager, resource, &answer);
    let by_numa = manager.by_numa(resource, chosen);
    manager.pods.push(PodDevices {
        pod: request.pod.clone(),
        container: request.container.clone(),
        resource: resource.to_owned(),
        by_numa,
        answer,
    });
    manager.write_checkpoint();
    Ok(())
}

/// What happens before each start of a container.
pub(crate) async fn start_container(
    shared: &Shared,
    pod: &str,
    container: &str,
) -> Result<ContainerAllocateResponse, AdmissionError> {
    let of_container = |held: &&PodDevices| held.pod == pod && held.container == container;
    let held: Vec<PodDevices> =
        shared.manager().pods.iter().filter(of_container).cloned().collect();
    if held.is_empty() {
        return Err(AdmissionError::NotAdmitted {
            pod: pod.to_owned(),
            container: container.to_owned(),
        });
    }
    let mut merged = ContainerAllocateResponse::default();
    for devices in held {
        pre_start(shared, &devices).await?;
        answers::merge(&mut merged, devices.answer);
    }
    Ok(merged)
}

async fn pre_start(shared: &Shared, devices: &PodDevices) -> Result<(), AdmissionError> {
    let resource = devices.resource.as_str();
    let (endpoint, ids) = {
        let mut manager = shared.manager();
        let endpoint = manager.endpoints.get(resource).cloned();
        let endpoint =
            endpoint.ok_or_else(|| AdmissionError::UnknownPlugin(resource.to_owned()))?;
        if !endpoint.options.pre_start_required {
            return Ok(());
        }
        (endpoint, manager.random.shuffled(devices.ids()))
    };
    if endpoint.stopped_at.is_some() {
        let stopped = AdmissionError::EndpointStopped(resource.to_owned());
        return Err(AdmissionError::PreStartContainer(stopped.to_string()));
    }
    let call = CallInProgress::begin(resource, Method::PreStartContainer, &ids);
    let limit = shared.config().limits.pre_start;
    let answer = async {
        plugin(&endpoint)?.pre_start_container(PreStartContainerRequest { device_ids: ids }).await
    };
    let answer = match tokio::time::timeout(limit, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(Status::deadline_exceeded("context deadline exceeded")),
    };
    let answer = call.end(shared, answer);
    answer.map(drop).map_err(|status| AdmissionError::PreStartContainer(go_error(&status)))
}

type Plugin = crate::proto::device_plugin_client::DevicePluginClient<tonic::transport::Channel>;

fn plugin(endpoint: &Endpoint) -> Result<Plugin, Status> {
    let channel = endpoint.client.as_deref().and_then(PluginClient::channel);
    channel
        .map(dial::client)
        .ok_or_else(|| Status::cancelled("grpc: the client connection is closing"))
}

/// A call on its way, to be recorded when it ends.
struct CallInProgress(Call);

impl CallInProgress {
    fn begin(resource: &str, method: Method, ids: &[String]) -> Self {
        Self(Call {
            resource: resource.to_owned(),
            method,
            ids: ids.to_vec(),
            must_include: Vec::new(),
            size: ids.len(),
            at: Instant::now(),
            took: Duration::ZERO,
            succeeded: false,
        })
    }

    fn preferred(mut self, must_include: &[String], size: usize) -> Self {
        self.0.must_include = must_include.to_vec();
        self.0.size = size;
        self
    }

    fn end<T>(
        mut self,
        shared: &Shared,
        answer: Result<Response<T>, Status>,
    ) -> Result<Response<T>, Status> {
        self.0.took = self.0.at.elapsed();
        self.0.succeeded = answer.is_ok();
        shared.manager().called(self.0);
        answer
    }
}
