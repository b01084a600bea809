//! What may happen to a node.

use proptest::prelude::*;

use crate::GPUS;

#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    Asks(usize, u32),
    Joins(usize, bool),
    Fails(usize, bool),
    Goes(usize, bool),
    Xid(usize, u32),
    Loses(usize),
    TimesOut(usize),
    Quarantines(usize, bool),
    Resets(usize),
    Clears(usize),
    ReloadsDriver,
    Polls(usize, u32),
    /// In a new session; one GPU is perhaps not identified.
    Enumerates {
        new_session: bool,
        unidentified: Option<usize>,
    },
}

impl Step {
    /// The one GPU that it is about.
    pub(crate) fn gpu(self) -> Option<usize> {
        match self {
            Self::Asks(gpu, _)
            | Self::Joins(gpu, _)
            | Self::Fails(gpu, _)
            | Self::Goes(gpu, _)
            | Self::Xid(gpu, _)
            | Self::Loses(gpu)
            | Self::TimesOut(gpu)
            | Self::Quarantines(gpu, _)
            | Self::Resets(gpu)
            | Self::Clears(gpu)
            | Self::Polls(gpu, _) => Some(gpu),
            Self::ReloadsDriver | Self::Enumerates { .. } => None,
        }
    }
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    let gpu = || 0..GPUS;
    let xid = prop::sample::select(vec![95, 95, 95, 94, 54, 13]);
    prop_oneof![
        1 => (gpu(), prop_oneof![Just(0), 1..9_u32]).prop_map(|(gpu, to)| Step::Asks(gpu, to)),
        1 => (gpu(), any::<bool>()).prop_map(|(gpu, is)| Step::Joins(gpu, is)),
        1 => (gpu(), any::<bool>()).prop_map(|(gpu, is)| Step::Fails(gpu, is)),
        1 => (gpu(), any::<bool>()).prop_map(|(gpu, is)| Step::Goes(gpu, is)),
        3 => (gpu(), xid).prop_map(|(gpu, xid)| Step::Xid(gpu, xid)),
        1 => gpu().prop_map(Step::Loses),
        1 => gpu().prop_map(Step::TimesOut),
        1 => (gpu(), any::<bool>()).prop_map(|(gpu, is)| Step::Quarantines(gpu, is)),
        1 => gpu().prop_map(Step::Resets),
        1 => gpu().prop_map(Step::Clears),
        1 => Just(Step::ReloadsDriver),
        12 => (gpu(), 1..4_u32).prop_map(|(gpu, times)| Step::Polls(gpu, times)),
        8 => (any::<bool>(), prop::option::weighted(0.4, gpu())).prop_map(
            |(new_session, unidentified)| Step::Enumerates { new_session, unidentified }
        ),
    ]
}
