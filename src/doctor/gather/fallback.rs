//! What can be seen of the plugin without its status.

use std::time::Duration;

use super::paths::{CHECKPOINT, plugin_paths};
use super::{checkpoint, host, socket};
use crate::config::Config;
use crate::doctor::check::FallbackFacts;
use crate::doctor::facts::SocketProbe;

/// How long a socket may take to answer: node problem detector allows little time.
const SOCKET_DEADLINE: Duration = Duration::from_millis(100);

/// What can be seen of the plugin without its status, for a check that must end soon.
pub async fn fallback_facts(config: &Config) -> FallbackFacts {
    let process = &config.process;
    let (directory, kubelet) = plugin_paths(config);
    let sockets = socket::plugins(&directory, kubelet.as_deref(), SOCKET_DEADLINE).await;
    let served =
        sockets.iter().filter(|of| of.ours.is_some() && of.probe == SocketProbe::Answers).count();
    let known = checkpoint::devices(&directory.join(CHECKPOINT)).ok().map(|resources| {
        let nvidia = resources.iter().filter(|(name, _)| name.starts_with("nvidia.com/"));
        nvidia.map(|(_, devices)| devices).sum()
    });
    let module = host::module(&process.roots.proc, &process.nvml.sysfs_root).version.is_some();
    FallbackFacts { error: String::new(), module, served, known }
}
