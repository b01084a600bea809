//! Random numbers, all from the operating system.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

/// 16 random bytes that nobody can guess; `None` if the operating system gives none.
#[must_use]
pub fn secret() -> Option<[u8; 16]> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).ok().map(|()| bytes)
}

/// 16 bytes that are unlike those of any other call and process. Without random numbers, which is
/// next to impossible on a node that runs a kubelet, they come from the clock and a counter.
#[must_use]
pub fn unique() -> [u8; 16] {
    secret().unwrap_or_else(from_the_clock)
}

/// Any number.
#[must_use]
pub fn number() -> u64 {
    u128::from_ne_bytes(unique()) as u64
}

/// A number from 0 up to, but not including, 1.
#[must_use]
pub fn fraction() -> f64 {
    (number() >> 11) as f64 / (1_u64 << 53) as f64
}

fn from_the_clock() -> [u8; 16] {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    // An odd factor spreads the low bits, which change, over the high ones, which are used.
    (now << 32 | u128::from(COUNTER.fetch_add(1, Relaxed) & 0xffff_ffff))
        .wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
        .to_ne_bytes()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_are_alike_with_and_without_an_operating_system_that_gives_any() {
        for source in [unique, from_the_clock] {
            let all: BTreeSet<_> = (0..1000).map(|_| source()).collect();
            assert_eq!(all.len(), 1000);
        }
    }

    #[test]
    fn fractions_are_spread_between_0_and_1() {
        let all: Vec<f64> = (0..1000).map(|_| fraction()).collect();
        assert!(all.iter().all(|fraction| (0.0..1.0).contains(fraction)));
        let mean = all.iter().sum::<f64>() / 1000.0;
        assert!((0.4..0.6).contains(&mean), "{mean}");
    }
}
