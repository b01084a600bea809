//! Admission: who gets which devices, in which words it is refused, and what is asked before a
//! container starts.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use simnode::kubelet::{
    AdmissionError, AllocationRequest, ContainerKind, KubeletVersion, Limits, Method, ViolationKind,
};
use simnode::proto::{
    AllocateResponse, CdiDevice, ContainerAllocateResponse, DeviceSpec, Mount,
    PreStartContainerResponse,
};
use tonic::Status;

use crate::support::{
    Behaviour, GPU, Home, SOON, TestPlugin, devices, kubelet, limited, visible_in, with_health,
};

async fn started(behaviour: Behaviour) -> (Home, TestPlugin) {
    started_on(kubelet(KubeletVersion::V1_36).await, behaviour).await
}

async fn started_on(home: Home, behaviour: Behaviour) -> (Home, TestPlugin) {
    let count = behaviour.list.as_ref().map_or(0, Vec::len);
    let plugin = TestPlugin::start(&home.kubelet, "a.sock", behaviour).await;
    home.kubelet.wait_allocatable(GPU, count, SOON).await.expect("listed");
    (home, plugin)
}

#[tokio::test]
async fn refusals_are_in_the_kubelets_words() {
    let (home, plugin) = started(Behaviour::default()).await;
    let kubelet = &home.kubelet;
    let text = |result: Result<_, AdmissionError>| result.expect_err("refused").to_string();

    let unknown = text(kubelet.allocate("pod", "main", "nvidia.com/other", 1).await);
    assert_eq!(unknown, "cannot allocate unregistered device nvidia.com/other");
    let many = text(kubelet.allocate("pod", "main", GPU, 5).await);
    assert_eq!(
        many,
        format!("requested number of devices unavailable for {GPU}. Requested: 5, Available: 4")
    );

    kubelet.allocate("pod", "main", GPU, 2).await.expect("allocated");
    let changed = text(kubelet.allocate("pod", "main", GPU, 3).await);
    assert_eq!(
        changed,
        format!(r#"pod "pod" container "main" changed request for resource "{GPU}" from 2 to 3"#)
    );

    plugin.send(["a", "b", "c", "d"].map(|id| with_health(id, "Unhealthy")).to_vec());
    kubelet.wait_allocatable(GPU, 0, SOON).await.expect("unhealthy");
    let none = text(kubelet.allocate("other", "main", GPU, 1).await);
    assert_eq!(
        none,
        format!("no healthy devices present; cannot allocate unhealthy devices {GPU}")
    );

    let held: BTreeSet<String> =
        kubelet.pod_devices().into_iter().map(|device| device.id).collect();
    let mixed = |id: &str| with_health(id, if held.contains(id) { "Unhealthy" } else { "Healthy" });
    plugin.send(["a", "b", "c", "d"].map(mixed).to_vec());
    kubelet.wait_allocatable(GPU, 2, SOON).await.expect("two are healthy");
    let lost = text(kubelet.allocate("pod", "main", GPU, 2).await);
    let previously =
        "previously allocated devices are no longer healthy; cannot allocate unhealthy devices";
    assert_eq!(lost, format!("{previously} {GPU}"));
}

#[tokio::test]
async fn unhealthy_devices_and_devices_in_use_are_not_given_out() {
    let (home, plugin) = started(Behaviour::default()).await;
    let mut list = devices(&["a", "b", "c", "d"]);
    list[1].health = "Unhealthy".to_owned();
    plugin.send(list);
    home.kubelet.wait_allocatable(GPU, 3, SOON).await.expect("b is unhealthy");
    let mut given = Vec::new();
    for pod in ["one", "two", "three"] {
        given.extend(visible_in(
            &home.kubelet.allocate(pod, "main", GPU, 1).await.expect("allocated"),
        ));
    }
    given.sort();
    assert_eq!(given, ["a", "c", "d"]);
    home.kubelet.allocate("four", "main", GPU, 1).await.expect_err("none is left");
    home.kubelet.release("two");
    home.kubelet.allocate("four", "main", GPU, 1).await.expect("one is free again");
}

#[tokio::test]
async fn allocate_gets_its_ids_in_random_order() {
    let ids: Vec<String> = (0..64).map(|number| format!("{number:02}")).collect();
    let list = devices(&ids.iter().map(String::as_str).collect::<Vec<_>>());
    let (home, _plugin) = started(Behaviour::default().list(list)).await;
    home.kubelet.allocate("pod", "main", GPU, 64).await.expect("allocated");
    let sent = home.kubelet.calls().pop().expect("called").ids;
    assert_ne!(sent, ids, "64 ids in order by chance");
    assert_eq!(sent.into_iter().collect::<BTreeSet<_>>(), ids.into_iter().collect());
}

#[tokio::test]
async fn a_failed_allocate_gives_its_devices_back() {
    let refuse = Behaviour {
        allocate: Arc::new(|_| Err(Status::unavailable("not today"))),
        ..Behaviour::default()
    };
    let (home, _plugin) = started(refuse).await;
    for _ in 0..2 {
        let error = home.kubelet.allocate("pod", "main", GPU, 4).await.expect_err("refused");
        assert_eq!(error.to_string(), "rpc error: code = Unavailable desc = not today");
        assert!(
            error.pod_message().starts_with("Allocate failed due to rpc error"),
            "{}",
            error.pod_message()
        );
    }
}

#[tokio::test]
async fn an_empty_answer_fails_and_keeps_the_devices_until_a_pod_ends() {
    let empty = Behaviour {
        allocate: Arc::new(|_| Ok(AllocateResponse::default())),
        ..Behaviour::default()
    };
    let (home, _plugin) = started(empty).await;
    let error = home.kubelet.allocate("pod", "main", GPU, 4).await.expect_err("refused");
    assert_eq!(error.to_string(), "no containers return in allocation response");
    let error = home.kubelet.allocate("pod", "main", GPU, 4).await.expect_err("refused");
    assert!(matches!(error, AdmissionError::Unavailable { available: 0, .. }), "{error}");
    home.kubelet.release("any");
    assert_eq!(
        home.kubelet.allocate("pod", "main", GPU, 4).await,
        Err(AdmissionError::EmptyAnswer)
    );
}

#[tokio::test]
async fn init_containers_leave_their_devices_to_the_next_container() {
    let (home, _plugin) = started(Behaviour::default()).await;
    let request = |container| AllocationRequest::new("pod", container, GPU, 2);
    let init =
        home.kubelet.admit(request("init").kind(ContainerKind::Init)).await.expect("allocated");
    let side = home
        .kubelet
        .admit(request("side").kind(ContainerKind::RestartableInit))
        .await
        .expect("allocated");
    let main = home.kubelet.admit(request("main")).await.expect("two are left");
    assert_eq!(visible_in(&init), visible_in(&side), "the init container's devices are used again");
    assert!(
        visible_in(&main).iter().all(|id| !visible_in(&side).contains(id)),
        "a restartable one keeps its own"
    );
}

#[tokio::test]
async fn a_larger_container_takes_the_init_containers_devices_and_more() {
    let (home, _plugin) = started(Behaviour::default().preferring()).await;
    let request = |container, count| AllocationRequest::new("pod", container, GPU, count);
    let init =
        home.kubelet.admit(request("init", 1).kind(ContainerKind::Init)).await.expect("allocated");
    let main = home.kubelet.admit(request("main", 3)).await.expect("allocated");
    assert!(visible_in(&main).contains(&visible_in(&init)[0]));
    let calls = home.kubelet.calls();
    let asked =
        calls.iter().rfind(|call| call.method == Method::PreferredAllocation).expect("asked");
    assert_eq!(
        (asked.must_include.clone(), asked.size, asked.ids.len()),
        (visible_in(&init), 3, 4)
    );
}

#[tokio::test]
async fn answers_that_no_runtime_could_use_are_noted() {
    let bad = ContainerAllocateResponse {
        envs: [("A=B".to_owned(), "c".to_owned())].into(),
        devices: vec![DeviceSpec {
            container_path: "dev/x".to_owned(),
            host_path: "/dev/x".to_owned(),
            permissions: "rx".to_owned(),
        }],
        mounts: vec![
            Mount { container_path: "/a".to_owned(), host_path: "/a".to_owned(), read_only: true },
            Mount { container_path: "/a".to_owned(), host_path: "/b".to_owned(), read_only: true },
        ],
        cdi_devices: vec![CdiDevice { name: "gpu=0".to_owned() }],
        ..ContainerAllocateResponse::default()
    };
    let answer = AllocateResponse { container_responses: vec![bad; 2] };
    let behaviour =
        Behaviour { allocate: Arc::new(move |_| Ok(answer.clone())), ..Behaviour::default() };
    let (home, _plugin) = started(behaviour).await;
    home.kubelet.allocate("pod", "main", GPU, 1).await.expect("the kubelet takes it");
    let violations = home.kubelet.violations();
    assert_eq!(violations.len(), 6, "{violations:?}");
    assert!(
        violations.iter().all(|violation| violation.kind == ViolationKind::AllocateAnswer),
        "{violations:?}"
    );
}

#[tokio::test]
async fn pre_start_is_asked_before_every_start_if_the_plugin_wants_it() {
    let (home, _plugin) = started(Behaviour::default().pre_starting()).await;
    let answer = home.kubelet.allocate("pod", "main", GPU, 2).await.expect("allocated");
    for _ in 0..2 {
        assert_eq!(home.kubelet.start_container("pod", "main").await.as_ref(), Ok(&answer));
    }
    let asked: Vec<_> = home
        .kubelet
        .calls()
        .into_iter()
        .filter(|call| call.method == Method::PreStartContainer)
        .collect();
    assert_eq!(asked.len(), 2);
    assert_eq!(
        asked[0].ids.iter().cloned().collect::<BTreeSet<_>>(),
        visible_in(&answer).into_iter().collect()
    );

    let (home, _plugin) = started(Behaviour::default()).await;
    home.kubelet.allocate("pod", "main", GPU, 2).await.expect("allocated");
    home.kubelet.start_container("pod", "main").await.expect("started");
    assert!(home.kubelet.calls().iter().all(|call| call.method != Method::PreStartContainer));
    home.kubelet.start_container("pod", "other").await.expect_err("it was not admitted");
}

#[tokio::test]
async fn pre_start_has_thirty_seconds_and_its_error_fails_the_start() {
    assert_eq!(Limits::default().pre_start, Duration::from_secs(30));
    let home =
        limited(KubeletVersion::V1_36, |limits| limits.pre_start = Duration::from_millis(50)).await;
    let silent = Behaviour { pre_start: None, ..Behaviour::default() };
    let (home, _plugin) = started_on(home, silent.pre_starting()).await;
    home.kubelet.allocate("pod", "main", GPU, 1).await.expect("allocated");
    let error =
        home.kubelet.start_container("pod", "main").await.expect_err("too late").to_string();
    let text =
        "device plugin PreStartContainer rpc failed with err: rpc error: code = DeadlineExceeded";
    assert!(error.starts_with(text), "{error}");

    let refuse = |_| -> Result<PreStartContainerResponse, Status> {
        Err(Status::failed_precondition("gone"))
    };
    let refusing = Behaviour { pre_start: Some(Arc::new(refuse)), ..Behaviour::default() };
    let (home, _plugin) = started(refusing.pre_starting()).await;
    home.kubelet.allocate("pod", "main", GPU, 1).await.expect("allocated");
    let error = home.kubelet.start_container("pod", "main").await.expect_err("refused").to_string();
    assert!(error.ends_with("rpc error: code = FailedPrecondition desc = gone"), "{error}");
}
