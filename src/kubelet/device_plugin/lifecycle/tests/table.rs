//! Each state, each thing observed, each step.

use super::super::retry::{FIRST_RETRY, LAST_RETRY};
use super::super::*;

const OURS: SocketId = SocketId::example(1);
const OTHER: SocketId = SocketId::example(2);
const KUBELET: SocketId = SocketId::example(3);
const NEXT_KUBELET: SocketId = SocketId::example(4);

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn observed(own: Option<SocketId>, kubelet: Option<SocketId>) -> Observed {
    let own = own.map_or(OwnSocket::Gone { since: seconds(99) }, OwnSocket::There);
    Observed { now: seconds(100), own, kubelet, stream: KubeletStream::Open }
}

#[test]
fn each_state_takes_its_step() {
    let down = PluginState::default();
    let serving = PluginState::default().bound(OURS);
    let refused = serving.register_failed(KUBELET, seconds(100), 1.0);
    let registered = serving.registered(KUBELET, seconds(98));
    let unanswered = serving.unanswered(KUBELET, seconds(98), false);
    let broken_off = serving.unanswered(KUBELET, seconds(99), true);
    let with = |stream| Observed { stream, ..observed(Some(OURS), Some(KUBELET)) };
    let at = |time, stream| Observed { now: seconds(time), ..with(stream) };
    let ended = |since| with(KubeletStream::Ended { since });
    let just_gone =
        Observed { own: OwnSocket::Gone { since: seconds(100) }, ..observed(None, Some(KUBELET)) };
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
        (
            "deleted by a kubelet that starts, which has got to its own socket",
            &registered,
            observed(None, None),
            Step::Restart(RestartReason::KubeletRestarted),
        ),
        (
            "or has made it again",
            &refused,
            observed(None, Some(NEXT_KUBELET)),
            Step::Restart(RestartReason::KubeletRestarted),
        ),
        ("or will get to it", &registered, just_gone, Step::Wait(Some(seconds(100) + SETTLE))),
        (
            "within the grace",
            &registered,
            with(KubeletStream::Never),
            Step::Wait(Some(seconds(101))),
        ),
        (
            "past the grace",
            &registered,
            at(101, KubeletStream::Never),
            Step::Restart(RestartReason::NoStream(FIRST_GRACE)),
        ),
        (
            "just ended",
            &registered,
            ended(seconds(100)),
            Step::Wait(Some(seconds(100) + FIRST_PAUSE)),
        ),
        ("ended", &registered, ended(seconds(99)), Step::Restart(RestartReason::StreamEnded)),
        (
            "ended, and nobody to register with",
            &registered,
            Observed { kubelet: None, ..ended(seconds(99)) },
            Step::Wait(None),
        ),
        ("not answered", &unanswered, with(KubeletStream::Never), Step::Wait(Some(seconds(101)))),
        ("but watched", &unanswered, with(KubeletStream::Open), Step::Adopt),
        (
            "nor watched",
            &unanswered,
            at(101, KubeletStream::Never),
            Step::Restart(RestartReason::Unanswered),
        ),
        (
            "broken off",
            &broken_off,
            with(KubeletStream::Never),
            Step::Restart(RestartReason::BrokenOff),
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
        state = state.bound(OURS).registered(KUBELET, Duration::ZERO);
        let stream = KubeletStream::Never;
        let observed = Observed { stream, ..observed(Some(OURS), Some(KUBELET)) };
        let Step::Restart(why @ RestartReason::NoStream(grace)) = state.next(&observed) else {
            panic!("{state:?}")
        };
        graces.push(grace.as_secs());
        state = state.ended(why);
    }
    assert_eq!(graces, [3, 6, 12, 24, 48, 60, 60]);
    let registered = state.bound(OURS).registered(KUBELET, Duration::ZERO);
    let lasted = registered.stream_lasted();
    assert_eq!(lasted.stage, registered.stage);
    assert!(lasted.is_stable() && !registered.is_stable());
}

#[test]
fn streams_that_are_cut_again_and_again_are_followed_later_and_later() {
    let mut state = PluginState::default();
    let mut waits = Vec::new();
    for _ in 0..14 {
        state = state.bound(OURS).registered(KUBELET, seconds(90));
        let stream = KubeletStream::Ended { since: seconds(100) };
        let observed = Observed { stream, ..observed(Some(OURS), Some(KUBELET)) };
        let Step::Wait(Some(until)) = state.next(&observed) else { panic!("{state:?}") };
        waits.push((until - seconds(100)).as_millis());
        state = state.ended(RestartReason::StreamEnded);
    }
    assert_eq!(waits[..4], [20, 40, 80, 160]);
    assert_eq!(waits[13], 60_000);
}

#[test]
fn refusals_add_up_with_one_kubelet_and_begin_again_with_the_next() {
    let refused = |state: PluginState, by| {
        let state = state.register_failed(by, Duration::ZERO, 1.0);
        let Stage::Serving { retry, .. } = state.stage else { panic!("{state:?}") };
        (state, retry.at)
    };
    let (state, first) = refused(PluginState::default().bound(OURS), KUBELET);
    let (state, second) = refused(state, KUBELET);
    let (_, with_next) = refused(state, NEXT_KUBELET);
    assert_eq!([first, second, with_next], [FIRST_RETRY, 2 * FIRST_RETRY, FIRST_RETRY]);
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
