//! docker.

use std::path::Path;

use serde_json::Value;

use super::files::{read, within};
use super::handlers;
use crate::doctor::facts::ContainerRuntime;

const CONFIG: &str = "etc/docker/daemon.json";
/// The kubelet reaches docker through this.
const SOCKET: &str = "run/cri-dockerd.sock";

pub(super) fn has_socket(root: &Path) -> bool {
    within(root, SOCKET).exists()
}

pub(super) fn docker(root: &Path, socket: bool) -> Option<ContainerRuntime> {
    let file = within(root, CONFIG);
    let mut runtime = ContainerRuntime { name: "docker", socket, ..Default::default() };
    if !file.is_file() {
        return socket.then_some(runtime);
    }
    let json = |text: &str| serde_json::from_str(text).map_err(|error| error.to_string());
    if let Some(document) = read(&mut runtime, file, json) {
        runtime.default =
            document.get("default-runtime").and_then(Value::as_str).map(ToOwned::to_owned);
        runtime.cdi = document.get("features").and_then(|features| features.get("cdi")?.as_bool());
        let program = |handler: &Value| handler.get("path")?.as_str().map(ToOwned::to_owned);
        handlers::add_nvidia(&mut runtime.nvidia, root, document.get("runtimes"), program);
    }
    Some(runtime)
}
