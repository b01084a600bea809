//! GetPreferredAllocation: when it is called, with what, and how far its answer is trusted.

use std::sync::Arc;

use simnode::kubelet::{AllocationRequest, Call, KubeletVersion, Method, ViolationKind};
use simnode::proto::{Device, PreferredAllocationResponse};
use tonic::Status;

use crate::support::{
    Behaviour, GPU, Home, SOON, TestPlugin, device, kubelet, on_nodes, set_allocation_policy,
    visible_in,
};

async fn started(behaviour: Behaviour) -> (Home, TestPlugin) {
    let home = kubelet(KubeletVersion::V1_36).await;
    let count = behaviour.list.as_ref().map_or(0, Vec::len);
    let plugin = TestPlugin::start(&home.kubelet, "a.sock", behaviour).await;
    home.kubelet.wait_allocatable(GPU, count, SOON).await.expect("listed");
    (home, plugin)
}

fn asked(home: &Home) -> Vec<Call> {
    home.kubelet
        .calls()
        .into_iter()
        .filter(|call| call.method == Method::PreferredAllocation)
        .collect()
}

fn sorted(mut ids: Vec<String>) -> Vec<String> {
    ids.sort();
    ids
}

/// Two devices on node 0, two on node 1, one on neither.
fn spread() -> Vec<Device> {
    vec![
        on_nodes("a", &[0]),
        on_nodes("b", &[0]),
        on_nodes("c", &[1]),
        on_nodes("d", &[1]),
        device("e"),
    ]
}

#[tokio::test]
async fn it_is_asked_only_if_the_plugin_offers_it() {
    let (home, _plugin) = started(Behaviour::default()).await;
    home.kubelet.allocate("pod", "main", GPU, 1).await.expect("allocated");
    assert_eq!(asked(&home), []);

    let (home, _plugin) = started(Behaviour::default().preferring()).await;
    let answer = home.kubelet.allocate("pod", "main", GPU, 2).await.expect("allocated");
    assert_eq!(visible_in(&answer), ["a", "b"], "the plugin's choice");
    let call = asked(&home).remove(0);
    assert_eq!(
        (sorted(call.ids), call.must_include, call.size),
        (["a", "b", "c", "d"].map(str::to_owned).to_vec(), vec![], 2)
    );
}

#[tokio::test]
async fn with_a_hint_it_is_asked_for_fewer_than_are_aligned() {
    let (home, _plugin) = started(Behaviour::default().preferring().list(spread())).await;
    let one = AllocationRequest::new("pod", "main", GPU, 1).affinity([1]);
    assert_eq!(visible_in(&home.kubelet.admit(one).await.expect("allocated")), ["c"]);
    assert_eq!(sorted(asked(&home).remove(0).ids), ["c", "d"], "only aligned devices are offered");
}

#[tokio::test]
async fn with_a_hint_it_is_not_asked_for_exactly_the_aligned_ones() {
    let (home, _plugin) = started(Behaviour::default().preferring().list(spread())).await;
    let two = AllocationRequest::new("pod", "main", GPU, 2).affinity([1]);
    assert_eq!(visible_in(&home.kubelet.admit(two).await.expect("allocated")), ["c", "d"]);
    assert_eq!(asked(&home), []);
}

#[tokio::test]
async fn with_a_hint_it_is_asked_for_what_goes_beyond_the_aligned_ones() {
    let (home, _plugin) = started(Behaviour::default().preferring().list(spread())).await;
    let three = AllocationRequest::new("pod", "main", GPU, 3).affinity([1]);
    assert_eq!(visible_in(&home.kubelet.admit(three).await.expect("allocated")), ["a", "c", "d"]);
    let call = asked(&home).remove(0);
    assert_eq!(
        (sorted(call.must_include), call.ids.len(), call.size),
        (vec!["c".to_owned(), "d".to_owned()], 5, 3)
    );
}

#[tokio::test]
async fn without_a_choice_by_the_plugin_devices_without_affinity_come_last() {
    let nothing = |_| Ok(PreferredAllocationResponse::default());
    let behaviour = Behaviour { preferred: Arc::new(nothing), ..Behaviour::default() };
    let (home, _plugin) = started(behaviour.preferring().list(spread())).await;
    let four = AllocationRequest::new("pod", "main", GPU, 4).affinity([0]);
    assert_eq!(
        visible_in(&home.kubelet.admit(four).await.expect("allocated")),
        ["a", "b", "c", "d"]
    );
}

#[tokio::test]
async fn an_error_fails_the_pod() {
    let refuse = |_| Err(Status::internal("no opinion"));
    let behaviour = Behaviour { preferred: Arc::new(refuse), ..Behaviour::default() };
    let (home, _plugin) = started(behaviour.preferring()).await;
    let error =
        home.kubelet.allocate("pod", "main", GPU, 1).await.expect_err("refused").to_string();
    let text = "device plugin GetPreferredAllocation rpc failed with err: rpc error: code = \
        Internal desc = no opinion";
    assert_eq!(error, text);
}

#[tokio::test]
async fn a_bad_answer_does_no_harm_and_is_noted() {
    for bad in [&["x", "d"][..], &["d"], &["d", "d"], &["c", "d", "b"], &[]] {
        let ids: Vec<String> = bad.iter().map(|id| (*id).to_owned()).collect();
        let answer = move |_| Ok(set_allocation_policy(ids.clone()));
        let behaviour = Behaviour { preferred: Arc::new(answer), ..Behaviour::default() };
        let (home, _plugin) = started(behaviour.preferring()).await;
        let given =
            visible_in(&home.kubelet.allocate("pod", "main", GPU, 2).await.expect("allocated"));
        assert_eq!(given.len(), 2, "{bad:?} gave {given:?}");
        assert!(
            given.iter().all(|id| ["a", "b", "c", "d"].contains(&id.as_str())),
            "{bad:?} gave {given:?}"
        );
        if bad.len() == 1 {
            assert!(given.contains(&"d".to_owned()), "the part that is right is used");
        }
        assert_eq!(home.kubelet.violations()[0].kind, ViolationKind::PreferredAnswer);
    }
}
