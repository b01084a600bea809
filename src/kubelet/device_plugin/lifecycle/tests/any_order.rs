//! Anything happens in any order, with each kind of kubelet.

use proptest::prelude::*;

use super::super::*;
use super::model::{Mode, World};

/// What can happen on the node, in any order.
#[derive(Debug, Clone)]
enum Happens {
    OwnDeleted,
    OwnReplaced,
    KubeletStarts,
    KubeletDies,
    KubeletSocketGone,
    StreamEnds,
    CallBreaksOff,
    OtherPluginStarts,
    OtherPluginEnds,
    PluginIsReplaced,
    RegisterWillFail(bool),
    BindWillFail(bool),
    Time(u64),
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        Just(Happens::OwnDeleted),
        Just(Happens::OwnReplaced),
        Just(Happens::KubeletStarts),
        Just(Happens::KubeletDies),
        Just(Happens::KubeletSocketGone),
        Just(Happens::StreamEnds),
        Just(Happens::CallBreaksOff),
        Just(Happens::OtherPluginStarts),
        Just(Happens::OtherPluginEnds),
        Just(Happens::PluginIsReplaced),
        any::<bool>().prop_map(Happens::RegisterWillFail),
        any::<bool>().prop_map(Happens::BindWillFail),
        (0..20_000_u64).prop_map(Happens::Time),
        (0..300_u64).prop_map(Happens::Time),
    ]
}

fn modes() -> impl Strategy<Value = Mode> {
    let late = (1..40_u64).prop_map(Mode::AnswersAfter);
    prop_oneof![Just(Mode::UpTo1_36), Just(Mode::From1_37), late]
}

impl World {
    fn happen(&mut self, event: &Happens) -> bool {
        match event {
            Happens::OwnDeleted => self.our_socket_goes(false),
            Happens::OwnReplaced => self.our_socket_goes(true),
            Happens::KubeletStarts => self.kubelet_starts(),
            Happens::KubeletDies => self.kubelet_dies(),
            Happens::KubeletSocketGone => self.kubelet_socket_goes(),
            Happens::StreamEnds => self.stream_is_cut(),
            Happens::CallBreaksOff => self.break_call(),
            Happens::OtherPluginStarts => self.other_starts(),
            Happens::OtherPluginEnds => self.other_ends(),
            Happens::PluginIsReplaced => self.plugin_is_replaced(),
            Happens::RegisterWillFail(fails) => self.register_fails = *fails,
            Happens::BindWillFail(fails) => self.bind_fails = *fails,
            Happens::Time(milliseconds) => return self.pass(Duration::from_millis(*milliseconds)),
        }
        self.pass(Duration::ZERO)
    }
}

proptest! {
    #[test]
    fn whatever_happens_it_never_spins_and_ends_registered_with_the_kubelet_that_is_there(
        mode in modes(),
        events in prop::collection::vec(happens(), 0..60),
    ) {
        let mut world = World::new(mode);
        for event in &events {
            prop_assert!(world.happen(event), "it spins after {event:?}: {:?}", world.state);
        }
        world.happen(&Happens::RegisterWillFail(false));
        world.happen(&Happens::BindWillFail(false));
        world.happen(&Happens::OtherPluginEnds);
        if !world.kubelet_runs() {
            world.happen(&Happens::KubeletStarts);
        }
        // The longest waits, some of them in a row with a kubelet that is late, and nothing more
        // happens.
        prop_assert!(world.pass(Duration::from_secs(900)));
        prop_assert!(world.is_served(), "{:?}", world.state);
        prop_assert_eq!(world.duplicates, 0, "a socket that the kubelet holds is not registered");
    }
}

#[test]
fn a_stream_that_is_cut_by_another_plugins_end_is_there_again_within_200_ms() {
    for mode in [Mode::UpTo1_36, Mode::From1_37] {
        let mut world = World::new(mode);
        world.kubelet_starts();
        world.other_starts();
        assert!(world.pass(Duration::from_secs(10)));
        assert!(world.is_served(), "{mode:?}: {:?}", world.state);
        world.other_ends();
        assert_eq!(world.is_served(), mode == Mode::From1_37);
        assert!(world.pass(Duration::from_millis(200)));
        assert!(world.is_served(), "{mode:?}: {:?}", world.state);
    }
}
