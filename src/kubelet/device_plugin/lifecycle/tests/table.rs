//! Each state, each thing seen, each step.

use super::super::retry::FIRST_RETRY;
use super::super::*;

const OURS: SocketId = SocketId::example(1);
const OTHER: SocketId = SocketId::example(2);
const KUBELET: SocketId = SocketId::example(3);
const NEXT_KUBELET: SocketId = SocketId::example(4);

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn seen(own: Option<SocketId>, kubelet: Option<SocketId>) -> Seen {
    Seen { now: seconds(100), own, kubelet, no_stream_since: None }
}

#[test]
fn each_state_takes_its_step() {
    let down = State::default();
    let serving = State::default().bound(OURS);
    let refused = serving.clone().register_failed(KUBELET, seconds(100), 1.0);
    let registered = serving.clone().registered(KUBELET);
    let quiet =
        |since| Seen { no_stream_since: Some(seconds(since)), ..seen(Some(OURS), Some(KUBELET)) };
    let table: &[(&str, &State, Seen, Step)] = &[
        ("nothing yet", &down, seen(None, None), Step::Bind),
        ("bind needs no kubelet", &down, seen(None, Some(KUBELET)), Step::Bind),
        ("no kubelet", &serving, seen(Some(OURS), None), Step::Wait(None)),
        ("a kubelet", &serving, seen(Some(OURS), Some(KUBELET)), Step::Register(KUBELET)),
        ("deleted", &serving, seen(None, Some(KUBELET)), Step::Restart(Why::OwnSocketDeleted)),
        ("replaced", &serving, seen(Some(OTHER), None), Step::Restart(Why::OwnSocketReplaced)),
        (
            "a failure waits",
            &refused,
            seen(Some(OURS), Some(KUBELET)),
            Step::Wait(Some(seconds(100) + FIRST_RETRY)),
        ),
        (
            "but not on a new kubelet",
            &refused,
            seen(Some(OURS), Some(NEXT_KUBELET)),
            Step::Register(NEXT_KUBELET),
        ),
        ("all is well", &registered, seen(Some(OURS), Some(KUBELET)), Step::Wait(None)),
        ("the kubelet is away", &registered, seen(Some(OURS), None), Step::Wait(None)),
        (
            "the kubelet is new",
            &registered,
            seen(Some(OURS), Some(NEXT_KUBELET)),
            Step::Restart(Why::KubeletRestarted),
        ),
        ("deleted", &registered, seen(None, Some(KUBELET)), Step::Restart(Why::OwnSocketDeleted)),
        ("within the grace", &registered, quiet(98), Step::Wait(Some(seconds(101)))),
        ("past the grace", &registered, quiet(97), Step::Restart(Why::NoStream(FIRST_GRACE))),
    ];
    for (name, state, seen, expected) in table {
        assert_eq!(state.next(seen), *expected, "{name}");
    }
}

#[test]
fn a_kubelet_that_never_watches_is_asked_less_and_less_often() {
    let mut state = State::default();
    let mut graces = Vec::new();
    for _ in 0..7 {
        state = state.bound(OURS).registered(KUBELET);
        let seen =
            Seen { no_stream_since: Some(Duration::ZERO), ..seen(Some(OURS), Some(KUBELET)) };
        let Step::Restart(why @ Why::NoStream(grace)) = state.next(&seen) else {
            panic!("{state:?}")
        };
        graces.push(grace.as_secs());
        state = state.ended(why);
    }
    assert_eq!(graces, [3, 6, 12, 24, 48, 60, 60]);
    assert_eq!(
        state
            .bound(OURS)
            .registered(KUBELET)
            .settled()
            .ended(Why::NoStream(FIRST_GRACE))
            .grace()
            .attempts(),
        1
    );
}
