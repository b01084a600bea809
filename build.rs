//! Compiles `proto/` to Rust without a protoc on the machine, notes the git commit for `--version`,
//! and has the linker put what is hardly ever run in one place.

use std::path::Path;
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
    // The reflog grows with each commit, checkout and pull; HEAD itself only with a checkout. Where
    // they lie is git's word: in a worktree of git's, `.git` is a file. A file that is not there
    // would have every build compile this package again.
    for file in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", file])
            && Path::new(&path).exists()
        {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    println!("cargo:rustc-env=GIT_COMMIT={}", commit());
    println!("cargo:rustc-env=RUSTC_VERSION={}", rustc_version());
    place_cold_code();
    Ok(())
}

/// Gives the linker the script of cold code, for optimised builds. It is understood by those that
/// Rust takes by itself, GNU ld and LLD; whoever has chosen another one does without.
fn place_cold_code() {
    const SCRIPT: &str = "cold-code.ld";
    println!("cargo:rerun-if-changed={SCRIPT}");
    let variable = |name| std::env::var(name).unwrap_or_default();
    let flags = variable("CARGO_ENCODED_RUSTFLAGS");
    let chosen = flags.contains("fuse-ld") || flags.contains("ld-path");
    if variable("PROFILE") == "release" && variable("CARGO_CFG_TARGET_OS") == "linux" && !chosen {
        let root = variable("CARGO_MANIFEST_DIR");
        println!("cargo:rustc-link-arg-bins=-Wl,-T,{root}/{SCRIPT}");
    }
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
    git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "unknown".to_owned())
}

/// One line of git's, where there is a git and a repository.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
