//! Any bytes in the place of a message.

use std::sync::LazyLock;

use proptest::prelude::*;
use prost::Message;
use simnode::proto::{
    AllocateRequest, AllocateResponse, ContainerAllocateRequest, PreferredAllocationResponse,
};
use tonic::Code;

use crate::cases;
use crate::served::{Node, Served};

static SERVED: LazyLock<Served> = LazyLock::new(|| Served::of(Node::Shared));

/// The messages that are kept, by name, in hexadecimal digits.
fn seeds() -> Vec<(String, Vec<u8>)> {
    let text = include_str!("seeds/messages.txt");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    let seeds = lines.map(|line| {
        let (name, digits) = line.split_once(':').unwrap();
        let digits: Vec<u8> = digits.bytes().filter(|digit| !digit.is_ascii_whitespace()).collect();
        (name.to_owned(), digits.chunks(2).map(byte).collect())
    });
    seeds.collect()
}

/// A message is answered as what it says, or refused: as one that means nothing, by gRPC, or for
/// its ids, by us.
fn holds(served: &Served, bytes: &[u8]) -> Result<(), TestCaseError> {
    let answer = served.send("Allocate", bytes.to_vec());
    match (AllocateRequest::decode(bytes), answer) {
        (Ok(request), Ok(answer)) => {
            let answer = AllocateResponse::decode(&answer[..]).unwrap();
            prop_assert_eq!(answer.container_responses.len(), request.container_requests.len());
            for (asked, given) in request.container_requests.iter().zip(&answer.container_responses)
            {
                let visible = &given.envs["NVIDIA_VISIBLE_DEVICES"];
                prop_assert_eq!(served.expected(&asked.device_ids), Ok(visible.clone()));
            }
        }
        (Ok(request), Err(status)) => {
            prop_assert_eq!(status.code(), Code::InvalidArgument, "{}", status);
            let ids = request.container_requests.iter().flat_map(|container| &container.device_ids);
            prop_assert!(
                ids.into_iter().any(|id| served.expected(std::slice::from_ref(id)).is_err()),
                "{}",
                status
            );
        }
        (Err(_), Err(status)) => prop_assert_eq!(status.code(), Code::Internal, "{}", status),
        (Err(error), Ok(_)) => {
            return Err(TestCaseError::fail(format!("answered what is no message: {error}")));
        }
    }
    // The other methods with the same bytes: an answer or an error, and never an error for a
    // preference that was understood.
    if let Ok(answer) = served.send("GetPreferredAllocation", bytes.to_vec()) {
        prop_assert!(PreferredAllocationResponse::decode(&answer[..]).is_ok());
    }
    let _ = served.send("PreStartContainer", bytes.to_vec());
    prop_assert!(served.send("GetDevicePluginOptions", Vec::new()).is_ok(), "the server goes on");
    Ok(())
}

/// The message that asks for a device, whole.
fn sound() -> Vec<u8> {
    let device_ids = SERVED.known.iter().take(2).map(|(id, _)| id.clone()).collect();
    AllocateRequest { container_requests: vec![ContainerAllocateRequest { device_ids }] }
        .encode_to_vec()
}

#[test]
fn messages_that_are_kept_come_to_an_answer_or_an_error() {
    let seeds = seeds();
    assert!(seeds.len() >= 15);
    for (name, bytes) in seeds {
        holds(&SERVED, &bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    let answer = SERVED.send("Allocate", sound()).unwrap();
    assert_eq!(AllocateResponse::decode(&answer[..]).unwrap().container_responses.len(), 1);
}

#[test]
fn a_message_longer_than_grpc_takes_is_refused_and_the_server_goes_on() {
    let status = SERVED.send("Allocate", vec![0x0a; 5 << 20]).unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status}");
    holds(&SERVED, &sound()).unwrap();
}

proptest! {
    #![proptest_config(cases(192))]

    #[test]
    fn any_bytes_come_to_an_answer_or_an_error(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        holds(&SERVED, &bytes)?;
    }

    #[test]
    fn a_mutated_message_comes_to_an_answer_or_an_error(
        which in any::<prop::sample::Index>(),
        changes in proptest::collection::vec(
            (any::<prop::sample::Index>(), any::<u8>(), 0..4_u8),
            1..6,
        ),
    ) {
        let mut messages: Vec<Vec<u8>> = seeds().into_iter().map(|(_, bytes)| bytes).collect();
        messages.push(sound());
        let mut bytes = messages.swap_remove(which.index(messages.len()));
        for (at, byte, how) in changes {
            let at = at.index(bytes.len() + 1);
            match how {
                0 if at < bytes.len() => bytes[at] = byte,
                1 if at < bytes.len() => drop(bytes.remove(at)),
                2 => bytes.truncate(at),
                _ => bytes.insert(at, byte),
            }
        }
        holds(&SERVED, &bytes)?;
    }
}
