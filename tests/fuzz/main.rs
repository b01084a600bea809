//! What the kubelet's socket may bring, by chance: any bytes and any ids come to an answer or to a
//! precise error, and the server goes on.
//!
//! Inputs that once did otherwise are kept: bytes in `seeds/`, which are mutated too, and cases
//! that proptest has made small in `*.regressions` beside this file. `PROPTEST_CASES=100000 cargo
//! test --test fuzz` looks further.

#![allow(
    clippy::unwrap_used,
    reason = "in the helpers too, a panic is a failed test with its place"
)]

mod bytes;
mod ids;
#[path = "../e2e/recorded/raw.rs"]
mod raw;
#[path = "../../benches/sample/mod.rs"]
mod sample;
mod served;

use proptest::test_runner::{Config, FileFailurePersistence};

/// So many cases unless the environment asks for more, and failures kept beside the source.
fn cases(number: u32) -> Config {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok());
    Config {
        cases: asked.unwrap_or(number),
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..Config::default()
    }
}
