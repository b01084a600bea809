//! What the server of one resource does next: a pure function of what it holds and what it sees.
//!
//! It looks at levels, not at events, so a missed or doubled wake-up does no harm.

use std::time::Duration;

use super::socket::SocketId;

/// Shortest pause before a step that failed is tried again. The kubelet creates its socket a moment before it
/// listens on it, so the first tries come fast.
const FIRST_RETRY: Duration = Duration::from_millis(2);
/// Longest pause before a step that failed is tried again.
const LAST_RETRY: Duration = Duration::from_secs(10);
/// How long a registered server waits for a ListAndWatch stream before it registers anew. A kubelet up to 1.36
/// can end the new stream together with the old one and never dials again (kubernetes/kubernetes#121994).
const FIRST_GRACE: Duration = Duration::from_secs(3);
/// The grace doubles with each registration in a row that no stream lasted after, up to this.
const LAST_GRACE: Duration = Duration::from_secs(60);

/// How the server of one resource stands.
///
/// ```text
///              bound                        registered
///   Down ─────────────────▶ Serving ─────────────────────────▶ Registered
///   ▲ ▲                        │  ▲                                 │
///   │ └─ bind failed           │  └─ Register failed                │
///   └──────────────────────────┴────────────────────────────────────┘
///     own socket gone or replaced            the same, or kubelet.sock replaced,
///                                            or no stream for the grace
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// No socket, no server.
    Down {
        /// When binding may be tried, and how often it has failed.
        retry: Retry,
        /// Registrations in a row without a lasting stream.
        relapses: u32,
    },
    /// The server answers on its socket; the kubelet does not know it.
    Serving {
        /// The socket that was bound.
        own: SocketId,
        /// When Register may be tried again on the same kubelet socket, and how often it has failed.
        retry: Retry,
        /// The kubelet socket of the last try.
        tried: Option<SocketId>,
        /// Registrations in a row without a lasting stream.
        relapses: u32,
    },
    /// The kubelet has accepted the registration.
    Registered {
        /// The socket that was bound.
        own: SocketId,
        /// The kubelet socket that it was registered on.
        kubelet: SocketId,
        /// Registrations in a row without a lasting stream before this one.
        relapses: u32,
    },
}

/// What there is to see at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The time, since some origin.
    pub now: Duration,
    /// What is at the path of our socket.
    pub own: Option<SocketId>,
    /// What is at the path of the kubelet's socket; `None` also if there is no kubelet to register with.
    pub kubelet: Option<SocketId>,
    /// Since when no ListAndWatch stream is open; `None` while one is.
    pub no_stream_since: Option<Duration>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Bind a fresh socket and serve on it.
    Bind,
    /// Call Register on this kubelet socket.
    Register(SocketId),
    /// End the streams, then the server, then remove its socket.
    Restart(Why),
    /// Nothing, until something changes or this time has come.
    Wait(Option<Duration>),
}

/// Why a server is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// Nothing is at the path of our socket.
    #[error("our socket was deleted")]
    OwnSocketDeleted,
    /// Something else is at the path of our socket.
    #[error("our socket was replaced")]
    OwnSocketReplaced,
    /// The kubelet's socket is not the one that we registered on.
    #[error("the kubelet has restarted: its socket is a new one")]
    KubeletRestarted,
    /// The kubelet does not watch.
    #[error("the kubelet has no ListAndWatch stream open for {} s", .0.as_secs())]
    NoStream(Duration),
}

/// When to try again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retry {
    failures: u32,
    at: Duration,
}

impl Retry {
    /// How often in a row it has failed.
    #[must_use]
    pub fn failures(self) -> u32 {
        self.failures
    }

    /// One more failure: the pause doubles from 2 ms to 10 s. Of each pause the upper half is chance, `jitter` in
    /// 0 to 1, so that the plugins of many resources do not call in step.
    #[must_use]
    pub fn failed(self, now: Duration, jitter: f64) -> Self {
        let pause = FIRST_RETRY.saturating_mul(1 << self.failures.min(20)).min(LAST_RETRY);
        let at = now.saturating_add(pause.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0));
        Self { failures: self.failures.saturating_add(1), at }
    }
}

impl Default for State {
    fn default() -> Self {
        Self::Down { retry: Retry::default(), relapses: 0 }
    }
}

impl State {
    /// The next step.
    #[must_use]
    pub fn next(&self, seen: &Seen) -> Step {
        if let Some(why) = self.lost_socket(seen) {
            return Step::Restart(why);
        }
        match self {
            Self::Down { retry, .. } if seen.now < retry.at => Step::Wait(Some(retry.at)),
            Self::Down { .. } => Step::Bind,
            Self::Serving { retry, tried, .. } => match seen.kubelet {
                None => Step::Wait(None),
                // A kubelet socket that was not tried yet owes nothing to failures on the one before.
                Some(kubelet) if *tried != Some(kubelet) || seen.now >= retry.at => Step::Register(kubelet),
                Some(_) => Step::Wait(Some(retry.at)),
            },
            Self::Registered { kubelet, relapses, .. } => {
                if seen.kubelet.is_some_and(|there| there != *kubelet) {
                    return Step::Restart(Why::KubeletRestarted);
                }
                let Some(since) = seen.no_stream_since else { return Step::Wait(None) };
                let grace = grace(*relapses);
                let due = since.saturating_add(grace);
                if seen.now >= due { Step::Restart(Why::NoStream(grace)) } else { Step::Wait(Some(due)) }
            }
        }
    }

    /// A fresh socket was bound and is served.
    #[must_use]
    pub fn bound(self, own: SocketId) -> Self {
        Self::Serving { own, retry: Retry::default(), tried: None, relapses: self.relapses() }
    }

    /// Binding failed.
    #[must_use]
    pub fn bind_failed(self, now: Duration, jitter: f64) -> Self {
        let relapses = self.relapses();
        let retry = match self {
            Self::Down { retry, .. } => retry,
            Self::Serving { .. } | Self::Registered { .. } => Retry::default(),
        };
        Self::Down { retry: retry.failed(now, jitter), relapses }
    }

    /// Register on this kubelet socket was accepted.
    #[must_use]
    pub fn registered(self, on: SocketId) -> Self {
        match self {
            Self::Serving { own, relapses, .. } => Self::Registered { own, kubelet: on, relapses },
            other => other,
        }
    }

    /// Register on this kubelet socket failed.
    #[must_use]
    pub fn register_failed(self, on: SocketId, now: Duration, jitter: f64) -> Self {
        match self {
            Self::Serving { own, retry, tried, relapses } => {
                let before = if tried == Some(on) { retry } else { Retry::default() };
                Self::Serving { own, retry: before.failed(now, jitter), tried: Some(on), relapses }
            }
            other => other,
        }
    }

    /// A stream has been open for longer than the first grace: what came before is forgotten.
    #[must_use]
    pub fn settled(self) -> Self {
        match self {
            Self::Registered { own, kubelet, .. } => Self::Registered { own, kubelet, relapses: 0 },
            other => other,
        }
    }

    /// Whether there is nothing to forget: no registration in a row without a lasting stream.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.relapses() == 0
    }

    /// The server was ended for this reason.
    #[must_use]
    pub fn ended(self, why: Why) -> Self {
        let relapses = match why {
            Why::NoStream(_) => self.relapses().saturating_add(1),
            Why::OwnSocketDeleted | Why::OwnSocketReplaced | Why::KubeletRestarted => 0,
        };
        Self::Down { retry: Retry::default(), relapses }
    }

    fn relapses(&self) -> u32 {
        match self {
            Self::Down { relapses, .. } | Self::Serving { relapses, .. } | Self::Registered { relapses, .. } => {
                *relapses
            }
        }
    }

    fn lost_socket(&self, seen: &Seen) -> Option<Why> {
        let (Self::Serving { own, .. } | Self::Registered { own, .. }) = self else { return None };
        match seen.own {
            None => Some(Why::OwnSocketDeleted),
            Some(there) if there != *own => Some(Why::OwnSocketReplaced),
            Some(_) => None,
        }
    }
}

/// How long to wait for a stream after this many registrations that no stream lasted after.
fn grace(relapses: u32) -> Duration {
    FIRST_GRACE.saturating_mul(1 << relapses.min(10)).min(LAST_GRACE)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
        let quiet = |since| Seen { no_stream_since: Some(seconds(since)), ..seen(Some(OURS), Some(KUBELET)) };
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
            ("but not on a new kubelet", &refused, seen(Some(OURS), Some(NEXT_KUBELET)), Step::Register(NEXT_KUBELET)),
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

    #[test]
    fn a_kubelet_that_never_watches_is_asked_less_and_less_often() {
        let mut state = State::default();
        let mut graces = Vec::new();
        for _ in 0..7 {
            state = state.bound(OURS).registered(KUBELET);
            let seen = Seen { no_stream_since: Some(Duration::ZERO), ..seen(Some(OURS), Some(KUBELET)) };
            let Step::Restart(why @ Why::NoStream(grace)) = state.next(&seen) else { panic!("{state:?}") };
            graces.push(grace.as_secs());
            state = state.ended(why);
        }
        assert_eq!(graces, [3, 6, 12, 24, 48, 60, 60]);
        assert_eq!(state.bound(OURS).registered(KUBELET).settled().ended(Why::NoStream(FIRST_GRACE)).relapses(), 1);
    }

    /// What can happen on the node, in any order.
    #[derive(Debug, Clone)]
    enum Happens {
        OwnDeleted,
        OwnReplaced,
        KubeletStarts,
        KubeletGone,
        StreamEnds,
        RegisterWillFail(bool),
        BindWillFail(bool),
        Time(u64),
    }

    fn happens() -> impl Strategy<Value = Happens> {
        prop_oneof![
            Just(Happens::OwnDeleted),
            Just(Happens::OwnReplaced),
            Just(Happens::KubeletStarts),
            Just(Happens::KubeletGone),
            Just(Happens::StreamEnds),
            any::<bool>().prop_map(Happens::RegisterWillFail),
            any::<bool>().prop_map(Happens::BindWillFail),
            (0..20_000_u64).prop_map(Happens::Time),
        ]
    }

    /// A node on which the steps really are taken, with what a correct server would then hold.
    #[derive(Default)]
    struct World {
        state: State,
        now: Duration,
        made: u64,
        own: Option<SocketId>,
        kubelet: Option<SocketId>,
        /// The pair of sockets that the kubelet has a stream to.
        stream: Option<(SocketId, SocketId)>,
        no_stream_since: Duration,
        register_fails: bool,
        bind_fails: bool,
    }

    impl World {
        fn fresh(&mut self) -> SocketId {
            self.made += 1;
            SocketId::example(self.made)
        }

        fn happen(&mut self, event: &Happens) {
            match event {
                Happens::OwnDeleted => self.own = None,
                Happens::OwnReplaced => self.own = Some(self.fresh()),
                Happens::KubeletStarts => {
                    self.kubelet = Some(self.fresh());
                    self.end_stream();
                }
                Happens::KubeletGone => {
                    self.kubelet = None;
                    self.end_stream();
                }
                Happens::StreamEnds => self.end_stream(),
                Happens::RegisterWillFail(fails) => self.register_fails = *fails,
                Happens::BindWillFail(fails) => self.bind_fails = *fails,
                Happens::Time(milliseconds) => self.now += Duration::from_millis(*milliseconds),
            }
        }

        fn end_stream(&mut self) {
            if self.stream.take().is_some() {
                self.no_stream_since = self.now;
            }
        }

        fn seen(&self) -> Seen {
            let no_stream_since = self.stream.is_none().then_some(self.no_stream_since);
            Seen { now: self.now, own: self.own, kubelet: self.kubelet, no_stream_since }
        }

        /// Takes steps until there is nothing to do at this moment; false if that never comes.
        fn settle(&mut self) -> bool {
            for _ in 0..20 {
                let state = self.state.clone();
                match state.next(&self.seen()) {
                    Step::Bind if self.bind_fails => self.state = state.bind_failed(self.now, 0.5),
                    Step::Bind => {
                        let own = self.fresh();
                        self.own = Some(own);
                        self.state = state.bound(own);
                    }
                    Step::Register(on) if self.register_fails => {
                        self.state = state.register_failed(on, self.now, 0.5);
                    }
                    Step::Register(on) => {
                        let own = self.own.expect("Register only while our socket is there");
                        self.no_stream_since = self.now;
                        self.stream = Some((own, on));
                        self.state = state.registered(on);
                    }
                    Step::Restart(why) => {
                        self.end_stream();
                        if why == Why::KubeletRestarted || matches!(why, Why::NoStream(_)) {
                            self.own = None;
                        }
                        self.state = state.ended(why);
                    }
                    Step::Wait(until) => return until.is_none_or(|until| until > self.now),
                }
            }
            false
        }
    }

    proptest! {
        #[test]
        fn whatever_happens_it_never_spins_and_ends_registered_with_the_kubelet_that_is_there(
            events in prop::collection::vec(happens(), 0..60)
        ) {
            let mut world = World::default();
            for event in &events {
                world.happen(event);
                prop_assert!(world.settle(), "it spins after {event:?}: {:?}", world.state);
            }
            world.happen(&Happens::RegisterWillFail(false));
            world.happen(&Happens::BindWillFail(false));
            if world.kubelet.is_none() {
                world.happen(&Happens::KubeletStarts);
            }
            // The longest pause and the longest grace, and nothing more happens.
            for _ in 0..3 {
                world.happen(&Happens::Time(61_000));
                prop_assert!(world.settle());
            }
            let stream = world.stream;
            prop_assert_eq!(stream, world.own.zip(world.kubelet));
            prop_assert!(matches!(world.state, State::Registered { .. }), "{:?}", world.state);
        }
    }
}
