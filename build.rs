//! Compiles `proto/` to Rust without a protoc on the machine, and notes the git commit for
//! `--version`.

use std::process::Command;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let device_plugin = protox::compile(["proto/deviceplugin/v1beta1/api.proto"], ["proto"])?;
    tonic_prost_build::configure()
        // Ordered maps: the same answer has the same bytes.
        .btree_map(".")
        .emit_rerun_if_changed(false)
        .compile_fds(device_plugin)?;

    println!("cargo:rerun-if-env-changed=GIT_COMMIT");
    // The reflog grows with each commit, checkout and pull; HEAD itself only with a checkout.
    println!("cargo:rerun-if-changed=.git/HEAD");
    println!("cargo:rerun-if-changed=.git/logs/HEAD");
    println!("cargo:rustc-env=GIT_COMMIT={}", commit());
    println!("cargo:rustc-env=RUSTC_VERSION={}", rustc_version());
    Ok(())
}

/// The compiler's own word, such as "1.89.0".
fn rustc_version() -> String {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("--version").output().ok();
    let text = output.and_then(|output| String::from_utf8(output.stdout).ok()).unwrap_or_default();
    text.split_whitespace().nth(1).unwrap_or("unknown").to_owned()
}

/// The commit that is built: `GIT_COMMIT` where the build has no `.git` (a container build), else
/// git's word.
fn commit() -> String {
    if let Ok(commit) = std::env::var("GIT_COMMIT")
        && !commit.is_empty()
    {
        return commit;
    }
    Command::new("git")
        .args(["rev-parse", "--short=12", "HEAD"])
        .output()
        .ok()
        .filter(|output| output.status.success())
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .map_or_else(|| "unknown".to_owned(), |text| text.trim().to_owned())
}
