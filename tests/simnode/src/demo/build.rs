//! Finds the plugin and the fake NVML; under cargo it builds them first, so that they are there and
//! fresh.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use serde::Deserialize;
use simnode::node::library;

use super::Screen;

const PLUGIN: &str = "gpu-device-plugin";
const LIBRARY: &str = "fake-nvml";

/// What the demonstration runs.
pub(super) struct Programs {
    pub(super) plugin: PathBuf,
    pub(super) library: PathBuf,
}

/// Takes what the command line names, and finds or builds the rest.
pub(super) fn programs(
    plugin: Option<PathBuf>,
    library: Option<PathBuf>,
    screen: &Screen,
) -> anyhow::Result<Programs> {
    let executable = env::current_exe().context("asking for this executable's path")?;
    let directory = executable.parent().unwrap_or(Path::new("/"));
    let built = match env::var_os("CARGO") {
        Some(cargo) if plugin.is_none() || library.is_none() => {
            screen.progress("Building the plugin and the fake NVML ...");
            build(Path::new(&cargo), directory)?
        }
        _ => Built::default(),
    };
    let beside = directory.join(PLUGIN);
    let plugin = plugin.or(built.plugin).unwrap_or(beside);
    if !plugin.is_file() {
        bail!(
            "{} is not there: `cargo run -p simnode` builds it, and --plugin names another one",
            plugin.display()
        );
    }
    let library = match library.or(built.library) {
        Some(library) => library,
        None => library::find()?,
    };
    Ok(Programs { plugin, library })
}

#[derive(Default)]
struct Built {
    plugin: Option<PathBuf>,
    library: Option<PathBuf>,
}

/// One of the lines that cargo writes for each thing that it has made.
#[derive(Deserialize)]
struct Message {
    target: Option<Target>,
    #[serde(default)]
    filenames: Vec<PathBuf>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// Builds both with the profile that this executable was built with, and believes cargo on where
/// they are.
fn build(cargo: &Path, directory: &Path) -> anyhow::Result<Built> {
    let mut command = Command::new(cargo);
    command.args([
        "build",
        "--quiet",
        "--message-format=json-render-diagnostics",
        "-p",
        PLUGIN,
        "-p",
        LIBRARY,
    ]);
    if let Some(manifest) = env::var_os("CARGO_MANIFEST_DIR") {
        command.arg("--manifest-path").arg(Path::new(&manifest).join("Cargo.toml"));
    }
    match directory.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => {}
        Some(profile) => {
            command.args(["--profile", profile]);
        }
    }
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("running {}", cargo.display()))?;
    if !output.status.success() {
        bail!("cargo build failed\n{}", String::from_utf8_lossy(&output.stderr));
    }
    let mut built = Built::default();
    for line in output.stdout.split(|byte| *byte == b'\n') {
        let Ok(Message { target: Some(target), filenames, executable }) =
            serde_json::from_slice(line)
        else {
            continue;
        };
        match target.name.as_str() {
            PLUGIN => built.plugin = executable.or(built.plugin),
            "fake_nvml" => {
                built.library =
                    filenames.into_iter().find(|file| is_library(file)).or(built.library)
            }
            _ => {}
        }
    }
    Ok(built)
}

fn is_library(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "so")
}
