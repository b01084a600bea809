//! The documentation's picture of the page, taken by a headless Chromium on a simulated node.

use std::path::Path;

use crate::run;

/// Builds what the picture needs, and takes it.
pub(crate) fn take(root: &Path) -> anyhow::Result<()> {
    // In two commands, as `cargo run -p simnode` does it, so that what is built for that is used.
    run(root, "cargo", &["build", "--locked", "-p", "simnode"])?;
    run(root, "cargo", &["build", "--locked", "-p", "gpu-device-plugin", "-p", "fake-nvml"])?;
    run(root, "python3", &["tests/observe/picture.py"])
}
