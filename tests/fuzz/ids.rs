//! Any ids in a message that is one.

use std::sync::LazyLock;

use proptest::prelude::*;
use simnode::proto::{
    AllocateRequest, ContainerAllocateRequest, ContainerPreferredAllocationRequest,
    PreferredAllocationRequest,
};
use tonic::Code;

use crate::cases;
use crate::served::{NODES, Node, Served, known};

static SERVED: LazyLock<Vec<Served>> =
    LazyLock::new(|| NODES.into_iter().map(Served::of).collect());

/// The longest text of an error: gRPC carries it in a header, and the kubelet puts it into an event
/// of the pod.
const LONGEST_ERROR: usize = 1024;

/// An id of one of the nodes, one that is nearly one, or anything.
fn id() -> impl Strategy<Value = String> {
    let real: Vec<String> = NODES
        .into_iter()
        .flat_map(|node: Node| known(&node.inventory()))
        .map(|(id, _)| id)
        .collect();
    let real = proptest::sample::select(real);
    prop_oneof![
        12 => real.clone(),
        1 => real.clone().prop_map(|id| id.to_lowercase()),
        1 => (real.clone(), 0..5_u64).prop_map(|(id, replica)| format!("{id}::{replica}")),
        1 => (real.clone(), any::<u64>()).prop_map(|(id, replica)| format!("{id}::{replica}")),
        1 => (real.clone(), any::<prop::sample::Index>())
            .prop_map(|(id, at)| id[..at.index(id.len())].to_owned()),
        1 => real.prop_map(|id| format!(" {id}")),
        1 => "\\PC{0,40}",
        1 => "[:A-Z0-9-]{0,80}",
        1 => (0..5_000_usize).prop_map(|length| "\u{0}é,".repeat(length)),
    ]
}

fn ids() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec(id(), 0..8)
}

proptest! {
    #![proptest_config(cases(192))]

    #[test]
    fn ids_that_are_devices_are_handed_out_and_the_first_that_is_none_is_named(
        which in 0..NODES.len(),
        containers in proptest::collection::vec(ids(), 0..3),
    ) {
        let served = &SERVED[which];
        let requests =
            containers.iter().cloned().map(|device_ids| ContainerAllocateRequest { device_ids });
        let request = AllocateRequest { container_requests: requests.collect() };
        let answer = served.wait(served.client.clone().allocate(request));
        let expected: Result<Vec<String>, String> =
            containers.iter().map(|ids| served.expected(ids)).collect();
        match (expected, answer) {
            (Ok(expected), Ok(answer)) => {
                let answer = answer.into_inner().container_responses;
                let visible: Vec<_> = answer
                    .iter()
                    .map(|container| container.envs["NVIDIA_VISIBLE_DEVICES"].clone())
                    .collect();
                prop_assert_eq!(visible, expected);
            }
            (Err(stranger), Err(status)) => {
                prop_assert_eq!(status.code(), Code::InvalidArgument);
                let shown = format!("{:?}", stranger.chars().take(20).collect::<String>());
                let begins = format!("cannot allocate {}", &shown[..shown.len() - 1]);
                let text = status.message();
                prop_assert!(text.starts_with(&begins), "{} in {}", begins, text);
                prop_assert!(text.contains(" of nvidia.com/gpu: "), "{}", text);
                prop_assert!(text.len() < LONGEST_ERROR, "{}", text);
            }
            (expected, answer) => {
                return Err(TestCaseError::fail(format!("expected {expected:?}, got {answer:?}")));
            }
        }
    }

    #[test]
    fn a_preference_is_never_an_error_and_names_nothing_that_was_not_named(
        which in 0..NODES.len(),
        available_device_ids in ids(),
        must_include_device_ids in ids(),
        allocation_size in prop_oneof![-2..12_i32, any::<i32>()],
    ) {
        let served = &SERVED[which];
        let named: Vec<String> =
            available_device_ids.iter().chain(&must_include_device_ids).cloned().collect();
        let container = ContainerPreferredAllocationRequest {
            available_device_ids,
            must_include_device_ids,
            allocation_size,
        };
        let request = PreferredAllocationRequest { container_requests: vec![container] };
        let answer = served
            .wait(served.client.clone().get_preferred_allocation(request))
            .unwrap()
            .into_inner();
        let ids = &answer.container_responses[0].device_ids;
        prop_assert!(ids.iter().all(|id| named.contains(id)));
        let size = usize::try_from(allocation_size).unwrap_or(0);
        let mut different = named;
        different.sort_unstable();
        different.dedup();
        prop_assert_eq!(ids.len(), size.min(different.len()));
    }
}
