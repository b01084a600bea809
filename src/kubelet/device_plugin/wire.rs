//! The kubelet's protobuf: the only file that builds or reads it, and the Register call.

use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use device::injection::Injection;
use device::names::ResourceName;
use status::error_chain::ErrorChain;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::Endpoint;
use tonic::{Code, Request, Response, Status};

use super::calls::Method;
use super::limits::{Call, Message};
use super::registration::{REGISTER_DEADLINE, RegisterError};
use super::service::{AdvertisedDevice, Service};

/// The generated code.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
mod api {
    tonic::include_proto!("v1beta1");
}

pub use api::device_plugin_server::DevicePluginServer;
use api::registration_client::RegistrationClient;

/// The only version of the API (k8s.io/kubelet, pkg/apis/deviceplugin/v1beta1/constants.go:48).
const VERSION: &str = "v1beta1";
/// The number of the next Allocate call of this process, for the log.
static CALLS: AtomicU64 = AtomicU64::new(1);

/// Registers a resource with the kubelet. The endpoint must be serving: the kubelet dials it before
/// it answers.
///
/// # Errors
/// The kubelet is not there, refuses, or does not answer in time.
pub async fn register(
    kubelet: &Path,
    resource: &ResourceName,
    endpoint: &str,
) -> Result<(), RegisterError> {
    let address = format!("unix://{}", kubelet.to_str().ok_or(RegisterError::Path)?);
    let call = async {
        let connect = |error| RegisterError::connect(kubelet, &error);
        let endpoint_of_kubelet = Endpoint::from_shared(address).map_err(connect)?;
        let channel = endpoint_of_kubelet.connect().await.map_err(connect)?;
        let request = api::RegisterRequest {
            version: VERSION.to_owned(),
            endpoint: endpoint.to_owned(),
            resource_name: resource.to_string(),
            options: Some(options()),
        };
        RegistrationClient::new(channel).register(request).await.map_err(RegisterError::of)
    };
    tokio::time::timeout(REGISTER_DEADLINE, call)
        .await
        .map_err(|_| RegisterError::Deadline)?
        .map(|_| ())
}

/// A method for [`probe`] that changes nothing: the kubelet's Registration service lacks it.
pub const REGISTRATION: &str = "/v1beta1.Registration/Probe";
/// As [`REGISTRATION`], of the podresources service.
pub const POD_RESOURCES: &str = "/v1.PodResourcesLister/Probe";
/// A method that every device plugin answers.
pub const DEVICE_PLUGIN: &str = "/v1beta1.DevicePlugin/GetDevicePluginOptions";

/// Checks that somebody serves gRPC on a socket: a call of `method` is answered, if only by
/// Unimplemented.
///
/// # Errors
/// Why there was no answer.
pub async fn probe(socket: &Path, method: &'static str) -> Result<(), String> {
    let address =
        format!("unix://{}", socket.to_str().ok_or("the path of the socket is not UTF-8")?);
    let text = |error| ErrorChain(&error).to_string();
    let channel = Endpoint::from_shared(address).map_err(text)?.connect().await.map_err(text)?;
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.map_err(text)?;
    let codec = tonic_prost::ProstCodec::<api::Empty, api::Empty>::default();
    let path = tonic::codegen::http::uri::PathAndQuery::from_static(method);
    match client.unary(Request::new(api::Empty {}), path, codec).await {
        Err(status) if status.code() != tonic::Code::Unimplemented => {
            Err(format!("{} ({:?})", status.message(), status.code()))
        }
        _ => Ok(()),
    }
}

fn options() -> api::DevicePluginOptions {
    api::DevicePluginOptions { pre_start_required: false, get_preferred_allocation_available: true }
}

fn list(devices: &[AdvertisedDevice]) -> api::ListAndWatchResponse {
    let devices = devices.iter().map(|device| api::Device {
        id: device.id.text(),
        // The kubelet takes exactly "Healthy" as healthy
        // (pkg/kubelet/cm/devicemanager/manager.go:298).
        health: if device.healthy { "Healthy" } else { "Unhealthy" }.to_owned(),
        // Without a known node there is no topology at all: -1 is the kubelet's own mark for
        // "none".
        topology: device.numa_node.map(|node| api::TopologyInfo {
            nodes: vec![api::NumaNode { id: node.number().into() }],
        }),
    });
    api::ListAndWatchResponse { devices: devices.collect() }
}

/// The list as it goes over the wire, for benchmarks.
#[must_use]
pub fn encoded_list(devices: &[AdvertisedDevice]) -> Vec<u8> {
    prost::Message::encode_to_vec(&list(devices))
}

fn container_response(injection: Injection) -> api::ContainerAllocateResponse {
    let mounts = injection.mounts.into_iter().map(|mount| api::Mount {
        container_path: mount.container,
        host_path: mount.host,
        read_only: mount.read_only,
    });
    let devices = injection.devices.into_iter().map(|node| api::DeviceSpec {
        container_path: node.container,
        host_path: node.host,
        permissions: "rw".to_owned(),
    });
    api::ContainerAllocateResponse {
        envs: injection.envs,
        mounts: mounts.collect(),
        devices: devices.collect(),
        annotations: injection.annotations,
        cdi_devices: injection
            .cdi_devices
            .into_iter()
            .map(|name| api::CdiDevice { name })
            .collect(),
    }
}

#[tonic::async_trait]
impl api::device_plugin_server::DevicePlugin for Service {
    async fn get_device_plugin_options(
        &self,
        request: Request<api::Empty>,
    ) -> Result<Response<api::DevicePluginOptions>, Status> {
        self.telemetry.calls().time(Method::GetDevicePluginOptions, || {
            Call::of_request(&request)?.asks_options();
            Ok(Response::new(options()))
        })
    }

    type ListAndWatchStream =
        Pin<Box<dyn Stream<Item = Result<api::ListAndWatchResponse, Status>> + Send>>;

    async fn list_and_watch(
        &self,
        request: Request<api::Empty>,
    ) -> Result<Response<Self::ListAndWatchStream>, Status> {
        Call::of_request(&request)?.opens_stream()?;
        Ok(Response::new(Box::pin(self.watch().map(|devices| Ok(list(&devices))))))
    }

    async fn get_preferred_allocation(
        &self,
        request: Request<api::PreferredAllocationRequest>,
    ) -> Result<Response<api::PreferredAllocationResponse>, Status> {
        let began = Instant::now();
        let call = Call::of_request(&request)?;
        let answer = |container: api::ContainerPreferredAllocationRequest| {
            let device_ids = self.preferred(
                &container.available_device_ids,
                &container.must_include_device_ids,
                container.allocation_size,
            );
            Ok(api::ContainerPreferredAllocationResponse { device_ids })
        };
        let whole = |container_responses| api::PreferredAllocationResponse { container_responses };
        let containers = request.into_inner().container_requests;
        let answer = call.in_turns(containers, answer, whole).await;
        self.observe(Method::GetPreferredAllocation, began, answer)
    }

    async fn allocate(
        &self,
        request: Request<api::AllocateRequest>,
    ) -> Result<Response<api::AllocateResponse>, Status> {
        let began = Instant::now();
        let call = Call::of_request(&request)?;
        let containers = request.into_inner().container_requests;
        let mut allocation = self.allocation(CALLS.fetch_add(1, Relaxed));
        let answer = |container: api::ContainerAllocateRequest| {
            allocation
                .container(container.device_ids)
                .map(container_response)
                .map_err(|refused| Status::invalid_argument(refused.to_string()))
        };
        let whole = |container_responses| api::AllocateResponse { container_responses };
        let answer = call.in_turns(containers, answer, whole).await;
        if let Some(outcome) = allocation.outcome(answer.is_ok()) {
            self.telemetry.allocated(outcome);
        }
        self.observe(Method::Allocate, began, answer)
    }

    async fn pre_start_container(
        &self,
        _: Request<api::PreStartContainerRequest>,
    ) -> Result<Response<api::PreStartContainerResponse>, Status> {
        Ok(Response::new(api::PreStartContainerResponse {}))
    }
}

impl Service {
    fn observe<T>(
        &self,
        method: Method,
        began: Instant,
        answer: Result<T, Status>,
    ) -> Result<Response<T>, Status> {
        let code = answer.as_ref().err().map_or(Code::Ok, Status::code);
        self.telemetry.calls().observe(method, code, began.elapsed());
        answer.map(Response::new)
    }
}

impl<M: prost::Message> Message for M {
    fn length(&self) -> usize {
        self.encoded_len()
    }
}
