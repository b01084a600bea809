//! How much of a shared GPU's memory each replica may allocate.

/// The most replicas of one GPU in one container that a limit is written for. A container with more
/// has no limit.
pub const MOST_REPLICAS: u32 = 128;

/// How the memory of a shared GPU is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryLimits {
    /// The shares together, in hundredths of the memory that there is: 100 divides it, 200 gives
    /// each replica twice as much, in the hope that not all want it at once.
    pub oversubscribe_percent: u32,
    /// What the driver keeps for itself, in hundredths.
    pub reserve_percent: u32,
}

impl Default for MemoryLimits {
    fn default() -> Self {
        Self { oversubscribe_percent: 100, reserve_percent: 4 }
    }
}

impl MemoryLimits {
    /// The bytes of a replica, in whole MiB; never more than there are.
    #[must_use]
    pub fn share(self, memory_bytes: u64, replicas: u32) -> u64 {
        let left =
            u128::from(memory_bytes) * u128::from(100_u32.saturating_sub(self.reserve_percent));
        let shares = left * u128::from(self.oversubscribe_percent);
        let share = shares / 10_000 / u128::from(replicas.max(1));
        u64::try_from(share).unwrap_or(u64::MAX).min(memory_bytes) >> 20 << 20
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_share_is_in_whole_mib_and_leaves_the_reserve() {
        let limits = |oversubscribe_percent, reserve_percent| MemoryLimits {
            oversubscribe_percent,
            reserve_percent,
        };
        for (limits, gib, replicas, expected_mib) in [
            (MemoryLimits::default(), 80, 4, 19_660),
            (limits(100, 0), 80, 4, 20_480),
            (limits(200, 0), 80, 4, 40_960),
            (limits(10_000, 0), 80, 4, 81_920),
            (limits(100, 0), 80, 0, 81_920),
            (limits(100, 90), 1, 1000, 0),
        ] {
            assert_eq!(limits.share(gib << 30, replicas), expected_mib << 20, "{limits:?}");
        }
    }

    proptest! {
        #[test]
        fn without_oversubscription_the_shares_fit(
            memory in 0_u64..1 << 42,
            replicas in 1_u32..2000,
            reserve in 0_u32..=90,
        ) {
            let limits = MemoryLimits { oversubscribe_percent: 100, reserve_percent: reserve };
            let all = limits.share(memory, replicas) * u64::from(replicas);
            prop_assert!(u128::from(all) * 100 <= u128::from(memory) * u128::from(100 - reserve));
        }
    }
}
