//! A node on which anything happens in any order.

use proptest::prelude::*;

use super::super::*;

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
    state: PluginState,
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

    fn observed(&self) -> Observed {
        let no_stream_since = self.stream.is_none().then_some(self.no_stream_since);
        Observed { now: self.now, own: self.own, kubelet: self.kubelet, no_stream_since }
    }

    /// Takes steps until there is nothing to do at this moment; false if that never comes.
    fn settle(&mut self) -> bool {
        for _ in 0..20 {
            let state = self.state;
            match state.next(&self.observed()) {
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
                    if why == RestartReason::KubeletRestarted
                        || matches!(why, RestartReason::NoStream(_))
                    {
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
        prop_assert!(matches!(world.state.stage, Stage::Registered { .. }), "{:?}", world.state);
    }
}
