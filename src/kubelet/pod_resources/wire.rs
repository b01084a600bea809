//! The protobuf of podresources, which no other file reads, and the List call.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use device::in_use::holders::{DeviceAssignment, Holder};
use tonic::Status;
use tonic::transport::Endpoint;

/// The generated code.
#[allow(missing_docs, unreachable_pub, dead_code, clippy::all, clippy::pedantic)]
mod api {
    tonic::include_proto!("v1");
}

use api::pod_resources_lister_client::PodResourcesListerClient;

/// How long a call may take, from dialling to the end of the answer.
pub(super) const DEADLINE: Duration = Duration::from_secs(5);
/// The longest answer that is read, as in the kubelet's own clients
/// (pkg/kubelet/apis/podresources, 16 MiB).
pub(super) const LONGEST_ANSWER: usize = 16 << 20;

/// Why the call failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ListError {
    /// The socket's path cannot be dialled.
    #[error("the path of the podresources socket is not UTF-8")]
    Path,
    /// Nobody speaks HTTP/2 on the socket.
    #[error("cannot connect to the podresources socket")]
    Connect(#[source] tonic::transport::Error),
    /// The call failed, here or there.
    #[error("List of podresources failed: {} ({:?})", .0.message(), .0.code())]
    Failed(Status),
    /// The socket was replaced during the call, so that the answer is of another kubelet.
    #[error("the podresources socket was replaced during List")]
    Replaced,
    /// The file system's error.
    #[error("cannot read the state of the podresources socket")]
    Socket(#[source] std::io::Error),
    /// It took too long.
    #[error("List of podresources was not answered within {} s", DEADLINE.as_secs())]
    Deadline,
}

/// The kubelet's answer.
pub(super) struct PodList {
    /// The pods, each as namespace and name.
    pub(super) pods: BTreeSet<String>,
    /// The devices that they hold.
    pub(super) assignments: Vec<DeviceAssignment>,
}

/// Lists which container holds which device.
///
/// Each call, of which there are few, has a connection of its own, so that none is dead after a
/// restart of the kubelet.
pub(super) async fn list(socket: &Path) -> Result<PodList, ListError> {
    let address = format!("unix://{}", socket.to_str().ok_or(ListError::Path)?);
    let call = async {
        let kubelet = Endpoint::from_shared(address).map_err(ListError::Connect)?;
        let channel = kubelet.connect().await.map_err(ListError::Connect)?;
        let mut client =
            PodResourcesListerClient::new(channel).max_decoding_message_size(LONGEST_ANSWER);
        client.list(api::ListPodResourcesRequest {}).await.map_err(ListError::Failed)
    };
    let answer = tokio::time::timeout(DEADLINE, call).await.map_err(|_| ListError::Deadline)??;
    Ok(read(answer.into_inner()))
}

/// Reads the answer. Devices whose resource has an invalid name are passed over.
fn read(answer: api::ListPodResourcesResponse) -> PodList {
    let pods =
        answer.pod_resources.iter().map(|pod| format!("{}/{}", pod.namespace, pod.name)).collect();
    let mut assignments = Vec::new();
    for pod in answer.pod_resources {
        for container in pod.containers {
            for devices in container.devices {
                let Ok(resource) = devices.resource_name.parse() else { continue };
                let holder = Holder {
                    namespace: pod.namespace.clone(),
                    pod: pod.name.clone(),
                    container: container.name.clone(),
                };
                let each = |id| DeviceAssignment {
                    resource: Clone::clone(&resource),
                    id,
                    holder: holder.clone(),
                };
                assignments.extend(devices.device_ids.into_iter().map(each));
            }
        }
    }
    PodList { pods, assignments }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices(resource: &str, ids: &[&str]) -> api::ContainerDevices {
        let device_ids = ids.iter().map(|id| (*id).to_owned()).collect();
        api::ContainerDevices { resource_name: resource.to_owned(), device_ids, topology: None }
    }

    #[test]
    fn every_device_of_every_container_is_read() {
        let container = |name: &str, devices| api::ContainerResources {
            name: name.to_owned(),
            devices,
            cpu_ids: vec![3],
            ..Default::default()
        };
        let pod = |name: &str, containers| api::PodResources {
            name: name.to_owned(),
            namespace: "jobs".to_owned(),
            containers,
        };
        let trainer = vec![
            container(
                "main",
                vec![
                    devices("nvidia.com/gpu", &["GPU-1", "GPU-2"]),
                    devices("example.com/nic", &["a"]),
                ],
            ),
            container(
                "sidecar",
                vec![devices("", &["GPU-3"]), devices("nvidia.com/gpu", &["GPU-4::1"])],
            ),
        ];
        let pod_resources =
            vec![pod("idle", vec![container("main", Vec::new())]), pod("train", trainer)];
        let list = read(api::ListPodResourcesResponse { pod_resources });
        assert_eq!(list.pods, BTreeSet::from(["jobs/idle".to_owned(), "jobs/train".to_owned()]));
        let read: Vec<_> = list
            .assignments
            .iter()
            .map(|device| format!("{} {} {}", device.resource, device.id, device.holder))
            .collect();
        assert_eq!(
            read,
            [
                "nvidia.com/gpu GPU-1 jobs/train/main",
                "nvidia.com/gpu GPU-2 jobs/train/main",
                "example.com/nic a jobs/train/main",
                "nvidia.com/gpu GPU-4::1 jobs/train/sidecar",
            ]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_kubelet_that_does_not_answer_is_given_up() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("kubelet.sock");
        let _silent = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let before = tokio::time::Instant::now();
        assert!(matches!(list(&socket).await, Err(ListError::Deadline)));
        assert_eq!(before.elapsed(), DEADLINE);
    }

    #[tokio::test]
    async fn a_socket_that_nobody_listens_on_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("kubelet.sock");
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        assert!(matches!(list(&socket).await, Err(ListError::Connect(_))));
    }
}
