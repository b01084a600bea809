//! What the plugin answers to the kubelet: the list, preferred allocations, and Allocate's bytes.

use std::fmt::Write as _;

use prost::Message as _;
use simnode::proto::device_plugin_client::DevicePluginClient;
use simnode::proto::{AllocateRequest, AllocateResponse, ContainerAllocateRequest};
use simnode::proto::{ContainerPreferredAllocationRequest, Device, PreferredAllocationRequest};
use tonic::Request;
use tonic::transport::{Channel, Endpoint};

use super::raw::Raw;
use crate::dropin::given;
use crate::rig::Rig;

/// What stands before the random part of an annotation's key, and how long that part is.
const RANDOM_AFTER: (&[u8], usize) = (b"nvidia-device-plugin_", 36);

/// All of one resource, as text. Devices stand by their positions in the list.
pub(crate) async fn answers(rig: &Rig, resource: &str) -> String {
    let mut text = list(rig, resource);
    let ids: Vec<String> = devices(rig, resource).into_iter().map(|device| device.id).collect();
    preferred(rig, resource, &ids, &mut text).await;
    let last = ids.len() - 1;
    let endpoint = rig.kubelet.view().resource(resource).unwrap().endpoint.clone();
    let socket = rig.kubelet.directory().join(endpoint);
    let channel = Endpoint::from_shared(format!("unix:{}", socket.display())).unwrap();
    let channel = channel.connect().await.unwrap();
    for containers in [vec![vec![0]], vec![vec![last, 1.min(last)], vec![0]], vec![vec![]]] {
        let id = |at: &usize| ids[*at].clone();
        let asked = containers.iter().map(|positions| positions.iter().map(id).collect());
        let _ = writeln!(text, "\nAllocate {containers:?}");
        allocate(channel.clone(), asked.collect(), &mut text).await;
    }
    let _ = writeln!(text, "\nAllocate of an unknown id");
    allocate(channel, vec![vec!["GPU-unknown".to_owned()]], &mut text).await;
    text
}

/// The last list of one resource, in the order sent.
pub(crate) fn list(rig: &Rig, resource: &str) -> String {
    let mut text = format!("ListAndWatch {resource}\n");
    for (position, device) in devices(rig, resource).iter().enumerate() {
        let nodes = device.topology.iter().flat_map(|topology| &topology.nodes);
        let nodes: Vec<i64> = nodes.map(|node| node.id).collect();
        let _ = writeln!(text, "{position:2} {} {} NUMA {nodes:?}", device.id, device.health);
    }
    text
}

fn devices(rig: &Rig, resource: &str) -> Vec<Device> {
    rig.kubelet.lists(resource).pop().unwrap().devices
}

async fn preferred(rig: &Rig, resource: &str, ids: &[String], text: &mut String) {
    let mut client = rig.kubelet.client(resource).await.unwrap();
    let all: Vec<usize> = (0..ids.len()).collect();
    let every_second: Vec<usize> = all.iter().copied().step_by(2).collect();
    let last = ids.len() - 1;
    for (free, must) in [
        (&all[..], vec![]),
        (&all[1..], vec![]),
        (&every_second[..], vec![]),
        (&all[..], vec![last]),
        (&all[..], vec![0, last]),
    ] {
        let _ = writeln!(text, "\nGetPreferredAllocation of {free:?} with {must:?}");
        for size in [1, 2, 3, 4, 6, 8].into_iter().filter(|size| *size <= free.len() + 1) {
            let answer = prefer(&mut client, ids, free, &must, size).await;
            let _ = writeln!(text, "{size}: {answer}");
        }
    }
}

async fn prefer(
    client: &mut DevicePluginClient<Channel>,
    ids: &[String],
    free: &[usize],
    must: &[usize],
    size: usize,
) -> String {
    let of = |positions: &[usize]| positions.iter().map(|at| ids[*at].clone()).collect();
    let container = ContainerPreferredAllocationRequest {
        available_device_ids: of(free),
        must_include_device_ids: of(must),
        allocation_size: size as i32,
    };
    let request = PreferredAllocationRequest { container_requests: vec![container] };
    let answer = match client.get_preferred_allocation(request).await {
        Ok(answer) => answer.into_inner(),
        Err(status) => return format!("{:?}", status.code()),
    };
    let chosen = answer.container_responses.into_iter().flat_map(|container| container.device_ids);
    let position = |id: String| ids.iter().position(|known| *known == id).unwrap();
    format!("{:?}", chosen.map(position).collect::<Vec<_>>())
}

/// Each container's answer in a readable form, then the bytes as they came.
async fn allocate(channel: Channel, containers: Vec<Vec<String>>, text: &mut String) {
    let requests = containers.into_iter().map(|device_ids| ContainerAllocateRequest { device_ids });
    let request = AllocateRequest { container_requests: requests.collect() };
    let path = "/v1beta1.DevicePlugin/Allocate".parse().unwrap();
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.unwrap();
    let answer = client.unary(Request::new(request.encode_to_vec()), path, Raw).await;
    let mut bytes = match answer {
        Ok(answer) => answer.into_inner(),
        Err(status) => return writeln!(text, "{:?}", status.code()).unwrap(),
    };
    let answer = AllocateResponse::decode(&bytes[..]).unwrap();
    for container in &answer.container_responses {
        let _ = writeln!(text, "- {}", given(container).join("\n  "));
    }
    blank_random(&mut bytes);
    for line in bytes.chunks(32) {
        let hex: String = line.iter().map(|byte| format!("{byte:02x}")).collect();
        let _ = writeln!(text, "{hex}");
    }
}

/// Writes zeros over the random part of each annotation's key.
fn blank_random(bytes: &mut [u8]) {
    let (before, length) = RANDOM_AFTER;
    for at in before.len()..bytes.len().saturating_sub(length) {
        if bytes[..at].ends_with(before) {
            bytes[at..at + length].fill(b'0');
        }
    }
}
