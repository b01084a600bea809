//! Each state, each thing observed, each step.

use super::super::*;

const OURS: SocketId = SocketId::example(1);
const OTHER: SocketId = SocketId::example(2);
const KUBELET: SocketId = SocketId::example(3);
const NEXT_KUBELET: SocketId = SocketId::example(4);

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn observed(own: Option<SocketId>, kubelet: Option<SocketId>) -> Observed {
    Observed { now: seconds(100), own, kubelet, no_stream_since: None }
}

#[test]
fn each_state_takes_its_step() {
    let down = PluginState::default();
    let serving = PluginState::default().bound(OURS);
    let refused = serving.register_failed(KUBELET, seconds(100), 1.0);
    let registered = serving.registered(KUBELET);
    let quiet = |since| Observed {
        no_stream_since: Some(seconds(since)),
        ..observed(Some(OURS), Some(KUBELET))
    };
    let table: &[(&str, &PluginState, Observed, Step)] = &[
        ("nothing yet", &down, observed(None, None), Step::Bind),
        ("bind needs no kubelet", &down, observed(None, Some(KUBELET)), Step::Bind),
        ("no kubelet", &serving, observed(Some(OURS), None), Step::Wait(None)),
        ("a kubelet", &serving, observed(Some(OURS), Some(KUBELET)), Step::Register(KUBELET)),
        (
            "deleted",
            &serving,
            observed(None, Some(KUBELET)),
            Step::Restart(RestartReason::OwnSocketDeleted),
        ),
        (
            "replaced",
            &serving,
            observed(Some(OTHER), None),
            Step::Restart(RestartReason::OwnSocketReplaced),
        ),
        (
            "a failure waits",
            &refused,
            observed(Some(OURS), Some(KUBELET)),
            Step::Wait(Some(seconds(100) + FIRST_RETRY)),
        ),
        (
            "but not on a new kubelet",
            &refused,
            observed(Some(OURS), Some(NEXT_KUBELET)),
            Step::Register(NEXT_KUBELET),
        ),
        ("all is well", &registered, observed(Some(OURS), Some(KUBELET)), Step::Wait(None)),
        ("the kubelet is away", &registered, observed(Some(OURS), None), Step::Wait(None)),
        (
            "the kubelet is new",
            &registered,
            observed(Some(OURS), Some(NEXT_KUBELET)),
            Step::Restart(RestartReason::KubeletRestarted),
        ),
        (
            "deleted",
            &registered,
            observed(None, Some(KUBELET)),
            Step::Restart(RestartReason::OwnSocketDeleted),
        ),
        ("within the grace", &registered, quiet(98), Step::Wait(Some(seconds(101)))),
        (
            "past the grace",
            &registered,
            quiet(97),
            Step::Restart(RestartReason::NoStream(FIRST_GRACE)),
        ),
    ];
    for (name, state, observed, expected) in table {
        assert_eq!(state.next(observed), *expected, "{name}");
    }
}

#[test]
fn a_kubelet_that_never_watches_is_asked_less_and_less_often() {
    let mut state = PluginState::default();
    let mut graces = Vec::new();
    for _ in 0..7 {
        state = state.bound(OURS).registered(KUBELET);
        let observed = Observed {
            no_stream_since: Some(Duration::ZERO),
            ..observed(Some(OURS), Some(KUBELET))
        };
        let Step::Restart(why @ RestartReason::NoStream(grace)) = state.next(&observed) else {
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
            .stream_lasted()
            .ended(RestartReason::NoStream(FIRST_GRACE))
            .grace
            .attempts(),
        1
    );
}

#[test]
fn pauses_grow_to_ten_seconds_and_never_beyond() {
    let mut retry = Retry::default();
    let mut last = Duration::ZERO;
    for _ in 0..100 {
        retry = retry.failed(Duration::ZERO, 1.0);
        assert!(retry.at >= last && retry.at <= LAST_RETRY);
        last = retry.at;
    }
    assert_eq!(last, LAST_RETRY);
    assert_eq!(Retry::default().failed(Duration::ZERO, 0.0).at, FIRST_RETRY / 2);
}
