//! What others can do to the plugin's socket beside the kubelet, which must not notice.
//!
//! How long the slowest Allocate took is printed: `cargo test --test e2e limits -- --nocapture`.

use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use simnode::flood;
use simnode::kubelet::{Kubelet, KubeletVersion};
use simnode::proto::{
    AllocateRequest, ContainerAllocateRequest, ContainerPreferredAllocationRequest, Empty,
    PreferredAllocationRequest,
};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::{Code, Status};

use crate::dropin::config;
use crate::rig::{GPU, PATIENCE, Rig, eight_h100s, plugin};

/// Of the plugin's anonymous memory, in KiB.
const MOST_MEMORY: u64 = 32 << 10;

/// Allocates again and again, and returns how long the slowest one took.
async fn slowest_allocate(rig: &Rig, times: usize) -> Duration {
    let mut slowest = Duration::ZERO;
    for _ in 0..times {
        let began = Instant::now();
        rig.kubelet.allocate("pod", "main", GPU, 1).await.unwrap();
        slowest = slowest.max(began.elapsed());
        rig.kubelet.release("pod");
    }
    slowest
}

/// The kubelet has not noticed: it allocates, hears of a change, and has its first stream still.
async fn unharmed(rig: &Rig, what: &str) {
    let slowest = slowest_allocate(rig, 200).await;
    let memory = rig.plugin.anonymous_kib().unwrap();
    println!("{what}: the slowest Allocate {slowest:?}, {memory} KiB anonymous");
    assert!(memory < MOST_MEMORY, "{what}: {memory} KiB");
    rig.xid_until_heard(0, 79).await;
    assert_eq!(rig.registrations(), 1);
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_connections_do_not_keep_an_allocation_waiting() {
    let rig = Rig::of(KubeletVersion::V1_36).await;
    let socket = rig.node.plugin_sockets().remove(0);
    let connected = tokio::task::spawn_blocking(move || flood::connections(&socket, 10_000));
    let slowest = slowest_allocate(&rig, 200).await;
    println!("while they come: the slowest Allocate {slowest:?}");
    let _connections = connected.await.unwrap().unwrap();
    unharmed(&rig, "10,000 connections").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_among_others_that_connect_all_the_time_succeeds() {
    let rig = Rig::of(KubeletVersion::V1_36).await;
    let directory = rig.node.kubelet_directory();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let flood = tokio::task::spawn_blocking(move || {
        let mut connections = std::collections::VecDeque::new();
        while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            let entries = std::fs::read_dir(&directory).unwrap();
            let sockets = entries.map(|entry| entry.unwrap().path());
            for socket in sockets.filter(|path| path.display().to_string().contains("nvidia-")) {
                for _ in 0..20 {
                    connections.extend(UnixStream::connect(&socket));
                }
            }
            while connections.len() > 300 {
                connections.pop_front();
            }
        }
    });
    for registrations in 2..10 {
        std::fs::remove_file(rig.node.plugin_sockets().remove(0)).unwrap();
        rig.until("registered again", |view| {
            view.accepted(GPU).count() == registrations && view.allocatable(GPU) == 8
        })
        .await;
    }
    drop(stop);
    flood.await.unwrap();
    rig.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_thousand_streams_do_not_keep_an_allocation_waiting() {
    let node = eight_h100s();
    let sharing = "sharing: {timeSlicing: {resources: [{name: gpu, replicas: 1000}]}}";
    let file = config(&node, &format!("version: v1\n{sharing}"));
    let kubelet_config = node.kubelet();
    let rig = Rig::on(node, kubelet_config, &plugin().env("CONFIG_FILE", file), 8000).await;
    let socket = rig.node.plugin_sockets().remove(0);
    let opening = flood::streams(&socket, 20, 400).await.unwrap();
    let slowest = slowest_allocate(&rig, 50).await;
    println!("while they come: the slowest Allocate {slowest:?}");
    let streams: Vec<_> = opening.join_all().await.into_iter().flatten().collect();
    println!("{} of 8,000 streams are open", streams.len());
    assert!(!streams.is_empty(), "a second watcher is allowed");
    let slowest = slowest_allocate(&rig, 50).await;
    let memory = rig.plugin.anonymous_kib().unwrap();
    println!("8,000 streams: the slowest Allocate {slowest:?}, {memory} KiB anonymous");
    assert_eq!(rig.registrations(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_unfinished_uploads_do_not_keep_an_allocation_waiting() {
    let rig = Rig::of(KubeletVersion::V1_36).await;
    let socket = rig.node.plugin_sockets().remove(0);
    let mut uploads = JoinSet::new();
    for _ in 0..3 {
        uploads.spawn(flood::uploads(&socket, 10, 10).await.unwrap().join_all());
        slowest_allocate(&rig, 1).await;
    }
    // Nor what is short, whoever asks.
    let mut other = Kubelet::dial(&rig.node.plugin_sockets().remove(0)).await.unwrap();
    let ids = vec![rig.node.uuid(0)];
    let request =
        AllocateRequest { container_requests: vec![ContainerAllocateRequest { device_ids: ids }] };
    let began = Instant::now();
    timeout(PATIENCE, other.allocate(request)).await.expect("an answer").unwrap();
    println!("another's Allocate {:?}", began.elapsed());
    unharmed(&rig, "300 unfinished uploads").await;
}

/// There was no room for a long message for a minute, or the message has not come within seconds.
fn may_be_tried_again(refused: &Status) -> bool {
    match refused.code() {
        Code::ResourceExhausted => refused.message().ends_with("try again"),
        code => code == Code::DeadlineExceeded,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn long_questions_do_not_keep_an_allocation_waiting() {
    let rig = Rig::of(KubeletVersion::V1_36).await;
    let ids: Vec<String> = (0..8).map(|index| rig.node.uuid(index)).collect();
    let container = ContainerPreferredAllocationRequest {
        available_device_ids: ids,
        must_include_device_ids: Vec::new(),
        allocation_size: 2,
    };
    let mut questions = JoinSet::new();
    let socket = rig.node.plugin_sockets().remove(0);
    for _ in 0..20 {
        let mut client = Kubelet::dial(&socket).await.unwrap();
        let containers = vec![container.clone(); 5_500];
        questions.spawn(async move {
            let request = PreferredAllocationRequest { container_requests: containers };
            let answer = loop {
                match client.get_preferred_allocation(request.clone()).await {
                    Ok(answer) => break answer.into_inner(),
                    // On a machine that does much else it may not have its turn in time.
                    Err(refused) => assert!(may_be_tried_again(&refused), "{refused}"),
                }
            };
            assert_eq!(answer.container_responses.len(), 5_500);
        });
    }
    let mut other = Kubelet::dial(&socket).await.unwrap();
    let (mut slowest, mut slowest_other) = (Duration::ZERO, Duration::ZERO);
    while !questions.is_empty() {
        while questions.try_join_next().transpose().unwrap().is_some() {}
        slowest = slowest.max(slowest_allocate(&rig, 1).await);
        let began = Instant::now();
        other.get_device_plugin_options(Empty {}).await.unwrap();
        slowest_other = slowest_other.max(began.elapsed());
    }
    println!("20 long questions: the slowest Allocate {slowest:?}, another's {slowest_other:?}");
    println!("{} KiB anonymous", rig.plugin.anonymous_kib().unwrap());
    assert_eq!(rig.registrations(), 1);
    rig.assert_flawless();
}
