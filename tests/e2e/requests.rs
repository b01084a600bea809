//! What the kubelet may ask, and what it never should.

use simnode::kubelet::KubeletVersion;
use simnode::proto::{
    AllocateRequest, ContainerAllocateRequest, ContainerPreferredAllocationRequest,
    PreStartContainerRequest, PreferredAllocationRequest,
};
use tonic::Code;

use crate::rig::{GPU, Rig, eight_h100s, plugin};

fn allocate(containers: &[&[&str]]) -> AllocateRequest {
    let container = |ids: &&[&str]| ContainerAllocateRequest {
        device_ids: ids.iter().map(ToString::to_string).collect(),
    };
    AllocateRequest { container_requests: containers.iter().map(container).collect() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_gets_the_uuids_of_its_gpus() {
    let rig = Rig::of(KubeletVersion::V1_36).await;
    let answer = rig.kubelet.allocate("pod", "main", GPU, 2).await.unwrap();
    let expected = format!("{},{}", rig.node.uuid(0), rig.node.uuid(1));
    assert_eq!(answer.envs["NVIDIA_VISIBLE_DEVICES"], expected);
    assert_eq!(
        (answer.envs.len(), answer.mounts.len(), answer.devices.len(), answer.cdi_devices.len()),
        (1, 0, 0, 0)
    );
    rig.kubelet.allocate("other", "main", GPU, 6).await.unwrap();
    let refused = rig.kubelet.allocate("third", "main", GPU, 1).await.unwrap_err();
    assert!(refused.to_string().contains("requested number of devices unavailable"), "{refused}");
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn several_containers_are_answered_in_order_and_duplicates_once() {
    let rig = Rig::of(KubeletVersion::V1_36).await;
    let uuid = |index| rig.node.uuid(index);
    let (a, b, c) = (uuid(5), uuid(1), uuid(7));
    let mut client = rig.kubelet.client(GPU).await.unwrap();
    let answer =
        client.allocate(allocate(&[&[&a, &b, &a], &[&c], &[]])).await.unwrap().into_inner();
    let envs: Vec<_> = answer
        .container_responses
        .iter()
        .map(|container| container.envs["NVIDIA_VISIBLE_DEVICES"].clone())
        .collect();
    assert_eq!(envs, [format!("{b},{a}"), c, String::new()]);
    assert!(
        client.allocate(allocate(&[])).await.unwrap().into_inner().container_responses.is_empty()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_id_is_refused_by_name() {
    let rig = Rig::of(KubeletVersion::V1_36).await;
    let good = rig.node.uuid(0);
    let mut client = rig.kubelet.client(GPU).await.unwrap();
    let long = "x".repeat(100_000);
    let replica = format!("{good}::0");
    for bad in [
        "GPU-00000000-0000-0000-0000-000000000000",
        "",
        " ",
        "MIG-1",
        &replica,
        "a,b",
        "ü\u{0}",
        &long,
    ] {
        let error = client.allocate(allocate(&[&[&good], &[&good, bad]])).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        let named = format!("{bad:?}");
        assert!(
            error.message().contains(&named[..named.len().min(40)]),
            "{bad:?}: {}",
            error.message()
        );
        assert!(error.message().len() < 2_000, "{} characters", error.message().len());
    }
    client.allocate(allocate(&[&[&good]])).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_of_an_allocation_has_the_fields_of_its_span() {
    let refuse = async |rig: &Rig| {
        let mut client = rig.kubelet.client(GPU).await.unwrap();
        let good = rig.node.uuid(0);
        client.allocate(allocate(&[&[&good]])).await.unwrap();
        client.allocate(allocate(&[&[&good], &[&good, "bad"]])).await.unwrap_err();
        rig.logged("refused to allocate").await
    };
    let rig = Rig::of(KubeletVersion::V1_36).await;
    let line = refuse(&rig).await;
    assert!(
        line.contains("msg=\"refused to allocate\"")
            && line.ends_with(" resource=nvidia.com/gpu ids=3 call=2"),
        "{line}"
    );
    let line = rig.logged("registered with the kubelet").await;
    assert!(line.contains(" resource=nvidia.com/gpu socket=\"nvidia-gpu-"), "{line}");

    let node = eight_h100s();
    let config = node.kubelet().version(KubeletVersion::V1_36);
    let rig = Rig::on(node, config, &plugin().env("LOG_FORMAT", "json"), 8).await;
    let line: serde_json::Value = serde_json::from_str(&refuse(&rig).await).unwrap();
    let span = serde_json::json!(
        {"name": "allocate", "resource": "nvidia.com/gpu", "ids": 3, "call": 2}
    );
    assert_eq!((&line["span"], &line["spans"]), (&span, &serde_json::Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn preferred_allocation_is_never_an_error() {
    let rig = Rig::of(KubeletVersion::V1_36).await;
    let all: Vec<String> = (0..8).map(|index| rig.node.uuid(index)).collect();
    let mut client = rig.kubelet.client(GPU).await.unwrap();
    let mut ask = async |available: &[String], must_include: &[String], size| {
        let container = ContainerPreferredAllocationRequest {
            available_device_ids: available.to_vec(),
            must_include_device_ids: must_include.to_vec(),
            allocation_size: size,
        };
        let request = PreferredAllocationRequest { container_requests: vec![container] };
        client.get_preferred_allocation(request).await.unwrap().into_inner().container_responses[0]
            .device_ids
            .clone()
    };
    assert_eq!(ask(&all, &all[5..6], 2).await, [all[5].clone(), all[4].clone()]);
    assert_eq!(ask(&all, &[], 4).await, all[0..4]);
    assert!(ask(&all, &[], 0).await.is_empty());
    assert!(ask(&all, &[], -3).await.is_empty());
    assert!(ask(&[], &[], 3).await.is_empty());
    assert_eq!(ask(&all[..1], &[], i32::MAX).await, all[..1]);
    assert_eq!(ask(&["odd".to_owned()], &["must".to_owned()], 2).await, ["must", "odd"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_start_needs_nothing_of_the_plugin() {
    let rig = Rig::of(KubeletVersion::V1_36).await;
    let mut client = rig.kubelet.client(GPU).await.unwrap();
    let options =
        client.get_device_plugin_options(simnode::proto::Empty {}).await.unwrap().into_inner();
    assert!(!options.pre_start_required && options.get_preferred_allocation_available);
    client
        .pre_start_container(PreStartContainerRequest { device_ids: vec![rig.node.uuid(0)] })
        .await
        .unwrap();
}
