//! Preferred allocation through its public interface: against the oracle, on real machines, and
//! with malformed requests.

#![allow(
    clippy::unwrap_used,
    reason = "in the helpers too, a panic is a failed test with its place"
)]

mod exact;
mod known;
mod machines;
mod oracle;
mod requests;
mod shared;

use device::allocation::{AllocationIndex, PreferredAllocation, Request, preferred};
use proptest::test_runner::Config as ProptestConfig;

/// So many cases unless the environment asks for others. No file keeps failures: the minimal case
/// is printed.
fn cases(number: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok());
    let cases = asked.unwrap_or(number);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// The ids of GPUs by index.
fn ids(gpus: &[usize]) -> Vec<String> {
    gpus.iter().map(|gpu| machines::uuid(*gpu).to_string()).collect()
}

/// The indices of the GPUs in an answer.
fn indices(answer: &PreferredAllocation<'_>) -> Vec<usize> {
    let index = |id: &&str| (0..64).find(|index| machines::uuid(*index).as_str() == *id).unwrap();
    answer.ids.iter().map(index).collect()
}

/// Requests whole GPUs by index.
fn ask(index: &AllocationIndex, free: &[usize], must: &[usize], size: usize) -> Vec<usize> {
    let (available, must_include) = (ids(free), ids(must));
    let size = i32::try_from(size).unwrap();
    let answer =
        preferred(index, &Request { available: &available, must_include: &must_include, size });
    assert_eq!(answer.notes, []);
    indices(&answer)
}
