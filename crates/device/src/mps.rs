//! What a client of MPS gets of a GPU, and how many clients a GPU can have.

use std::collections::BTreeSet;

use crate::names::Uuid;

/// The most clients of a GPU from Volta (7.0) on, and before (NVIDIA, "Multi-Process Service",
/// 2.3.2). NVIDIA's plugin compares with 7.5 and so takes a V100 for the older kind
/// (cmd/mps-control-daemon/mps/device.go:44).
const CLIENTS: u32 = 48;
const CLIENTS_BEFORE_VOLTA: u32 = 16;
const VOLTA: (u32, u32) = (7, 0);

const MIB: u64 = 1 << 20;

/// How many clients a GPU of this compute capability can have; one that is not known has the most.
#[must_use]
pub fn most_clients(compute_capability: Option<(u32, u32)>) -> u32 {
    if compute_capability.is_some_and(|of| of < VOLTA) { CLIENTS_BEFORE_VOLTA } else { CLIENTS }
}

/// How a GPU is divided among the clients of MPS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MpsRules {
    /// Whether one server works for the processes of all users. Else those of another user wait
    /// until the server of the first ends.
    pub multi_user: bool,
    /// How much of each GPU's memory no client gets, in MiB.
    pub memory_reserve: u64,
    /// How much memory all replicas of a GPU get together, in percent of what is not reserved.
    pub memory_percentage: u32,
    /// How many threads they get together, in percent of the GPU's.
    pub thread_percentage: u32,
    /// Whether containers get the directory of pipes read only.
    pub read_only_pipe: bool,
}

impl Default for MpsRules {
    fn default() -> Self {
        Self {
            multi_user: false,
            memory_reserve: 0,
            memory_percentage: 100,
            thread_percentage: 100,
            read_only_pipe: false,
        }
    }
}

/// What a client gets of one GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MpsShare {
    /// The share of its threads, in percent, from 1 to 100.
    pub threads: u32,
    /// The limit of its memory in MiB; `None`: no limit, since the GPU's memory is not known.
    pub memory: Option<u64>,
    /// The most that any number of replicas get: the GPU's memory in MiB without the reserve.
    pub most_memory: Option<u64>,
}

impl MpsRules {
    /// What one of `replicas` replicas of a GPU with this memory gets: an equal part, as from
    /// NVIDIA's plugin (cmd/mps-control-daemon/mps/daemon.go:270).
    #[must_use]
    pub fn share(&self, memory_bytes: Option<u64>, replicas: u32) -> MpsShare {
        let replicas = replicas.max(1);
        let part = |percentage: u32, whole: u64| {
            let all = u128::from(whole) * u128::from(percentage) / 100;
            u64::try_from(all / u128::from(replicas)).unwrap_or(u64::MAX).min(whole)
        };
        let reserve = self.memory_reserve.saturating_mul(MIB);
        let bytes = memory_bytes.map(|bytes| bytes.saturating_sub(reserve));
        // A limit of 0 would be none.
        let mib = |bytes: u64| (bytes / MIB).max(1);
        let threads = part(self.thread_percentage, 100).max(1);
        MpsShare {
            threads: u32::try_from(threads).unwrap_or(100),
            memory: bytes.map(|bytes| mib(part(self.memory_percentage, bytes))),
            most_memory: bytes.map(mib),
        }
    }
}

impl MpsShare {
    /// What so many replicas get together: the sum, and never more than the GPU has.
    #[must_use]
    pub fn times(self, count: u32) -> Self {
        let memory = self.memory.map(|memory| memory.saturating_mul(u64::from(count)));
        Self {
            threads: self.threads.saturating_mul(count).min(100),
            memory: memory.map(|memory| memory.min(self.most_memory.unwrap_or(u64::MAX))),
            ..self
        }
    }
}

/// What is known of the control daemon of a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MpsDaemon {
    /// It works for clients on these GPUs; `None`: on all.
    Up(Option<BTreeSet<Uuid>>),
    /// It does not, and why.
    Down(String),
}

impl MpsDaemon {
    /// Whether a client on this GPU can start.
    #[must_use]
    pub fn serves(&self, gpu: &Uuid) -> bool {
        match self {
            Self::Up(gpus) => gpus.as_ref().is_none_or(|gpus| gpus.contains(gpu)),
            Self::Down(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const H200: u64 = 150_754_820_096;

    #[test]
    fn a_v100_has_as_many_clients_as_every_gpu_since() {
        for (capability, expected) in
            [(None, 48), (Some((9, 0)), 48), (Some((7, 0)), 48), (Some((6, 1)), 16)]
        {
            assert_eq!(most_clients(capability), expected, "{capability:?}");
        }
    }

    #[test]
    fn a_share_is_an_equal_part_of_what_is_not_reserved() {
        let rules = MpsRules::default();
        let share = rules.share(Some(H200), 4);
        // As NVIDIA's plugin: 150754820096 / 4 / 1048576.
        assert_eq!((share.threads, share.memory), (25, Some(35_942)));
        assert_eq!(rules.share(None, 3), MpsShare { threads: 33, memory: None, most_memory: None });
        let rules = MpsRules { memory_reserve: 1000, ..rules };
        assert_eq!(rules.share(Some(5000 * MIB), 4).memory, Some(1000));
        assert_eq!(rules.share(Some(500 * MIB), 4).memory, Some(1), "0 would be no limit");
        let rules = MpsRules { memory_percentage: 200, thread_percentage: 150, ..rules };
        let share = rules.share(Some(5000 * MIB), 4);
        assert_eq!((share.threads, share.memory), (37, Some(2000)));
    }

    #[test]
    fn several_replicas_get_the_sum_of_their_shares_and_never_more_than_the_gpu() {
        let share = MpsRules { memory_percentage: 200, ..MpsRules::default() };
        let share = share.share(Some(4000 * MIB), 4);
        let of = |count| (share.times(count).threads, share.times(count).memory);
        assert_eq!([of(1), of(2), of(4)], [(25, Some(2000)), (50, Some(4000)), (100, Some(4000))]);
        assert_eq!(share.times(u32::MAX).threads, 100);
    }
}
