//! What a control daemon's life is made of: steps, and what comes of them.

use std::time::Duration;

use device::names::Uuid;

/// Time since a moment that is the same for all.
pub(in crate::mps::supervisor) type Moment = Duration;

/// One thing to do, which takes a bounded time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::mps::supervisor) enum DaemonStep {
    /// Make the directories, take the lock, label the pipes.
    Prepare,
    /// End a daemon that an earlier process has left on the pipes.
    EndLeftover,
    /// Give only MPS the use of a GPU.
    Exclusive(Uuid),
    /// Start the daemon on these GPUs, numbered in this order.
    Start {
        /// The GPUs.
        gpus: Vec<Uuid>,
        /// Whether one server is for all users.
        multi_user: bool,
    },
    /// Wait until it answers.
    AwaitAnswer,
    /// Set the default limit of memory, in MiB, on the GPU with this ordinal.
    LimitMemory(usize, u64),
    /// Set the default share of threads, in percent.
    LimitThreads(u32),
    /// Set the same for clients to come of the servers that run.
    LimitServers {
        /// In MiB, by ordinal.
        memory: Vec<(usize, u64)>,
        /// In percent.
        threads: u32,
    },
    /// Tell that it works for clients on these GPUs.
    Announce(Vec<Uuid>),
    /// Ask whether it still answers.
    Check,
    /// Count its clients.
    CountClients,
    /// Tell that it does not work for clients, and why.
    Withdraw(String),
    /// Tell it to quit, and wait for its end for a time.
    Quit,
    /// Kill it.
    Kill,
    /// Give others the use of a GPU again.
    Restore(Uuid),
}

impl DaemonStep {
    /// What it is to do, in words.
    pub(in crate::mps::supervisor) fn in_words(&self) -> &'static str {
        match self {
            Self::Prepare => "making the directories",
            Self::EndLeftover => "ending one of before",
            Self::Exclusive(_) => "setting the compute mode EXCLUSIVE_PROCESS",
            Self::Start { .. } | Self::AwaitAnswer => "starting it",
            Self::LimitMemory(..) => "setting a limit of memory",
            Self::LimitThreads(_) => "setting the share of threads",
            Self::LimitServers { .. } => "setting the limits of servers",
            Self::Announce(_) | Self::Withdraw(_) => "telling the plugin",
            Self::Check => "asking it",
            Self::CountClients => "counting its clients",
            Self::Quit => "ending it by quit",
            Self::Kill => "ending it by SIGKILL",
            Self::Restore(_) => "restoring the compute mode",
        }
    }
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::mps::supervisor) enum DaemonAction {
    /// This, and tell what came of it.
    Do(DaemonStep),
    /// Nothing before this moment, or before something happens; `None`: nothing by itself.
    Wait(Option<Moment>),
    /// Nothing any more: all is undone.
    Finished,
}

/// What came of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::mps::supervisor) enum Outcome {
    /// It is done; of [`DaemonStep::CountClients`], with how many there are.
    Done(usize),
    /// It failed.
    Failed(String),
}
