//! Empty: .ci/run asks cargo-deny about its manifest.
