//! Probes the sockets of the kubelet and of device plugins with calls that change nothing.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::Duration;

use tokio::net::UnixStream;

use crate::doctor::facts::{PluginSocket, SocketProbe};
use crate::kubelet::device_plugin::{socket, wire};

/// The most sockets that are probed: no node has nearly as many.
const MAX_SOCKETS: usize = 64;

/// Whether a program answers a call on a socket, and the process that listens on it.
pub(super) async fn probe(
    socket: &Path,
    method: &'static str,
    deadline: Duration,
) -> (SocketProbe, Option<u32>) {
    let listener = match connect(socket, deadline).await {
        Ok(listener) => listener,
        Err(probe) => return (probe, None),
    };
    let probe = match tokio::time::timeout(deadline, wire::probe(socket, method)).await {
        Err(_) => SocketProbe::TimedOut,
        Ok(Ok(())) => SocketProbe::Answers,
        Ok(Err(error)) => SocketProbe::Failed(error),
    };
    (probe, listener)
}

/// The process that listens on a socket.
async fn connect(socket: &Path, deadline: Duration) -> Result<Option<u32>, SocketProbe> {
    match fs::metadata(socket) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(SocketProbe::Missing),
        Err(error) => return Err(SocketProbe::Failed(error.to_string())),
        Ok(found) if !found.file_type().is_socket() => return Err(SocketProbe::NotASocket),
        Ok(_) => {}
    }
    match tokio::time::timeout(deadline, UnixStream::connect(socket)).await {
        Err(_) => Err(SocketProbe::TimedOut),
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            Err(SocketProbe::Refused)
        }
        Ok(Err(error)) => Err(SocketProbe::Failed(error.to_string())),
        Ok(Ok(stream)) => {
            Ok(stream.peer_cred().ok().and_then(|peer| u32::try_from(peer.pid()?).ok()))
        }
    }
}

/// The sockets of device plugins for NVIDIA's GPUs: ours and others.
pub(super) async fn plugins(
    directory: &Path,
    kubelet: Option<&Path>,
    deadline: Duration,
) -> Vec<PluginSocket> {
    let mut plugins = Vec::new();
    for name in names(directory, kubelet) {
        let (probe, listener) = probe(&directory.join(&name), wire::DEVICE_PLUGIN, deadline).await;
        let ours = socket::resource_of(&name).map(ToOwned::to_owned);
        plugins.push(PluginSocket { ours, probe, process: listener.and_then(program), name });
    }
    plugins
}

fn names(directory: &Path, kubelet: Option<&Path>) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten().take(MAX_SOCKETS);
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.retain(|name| name.ends_with(".sock") && name.starts_with("nvidia"));
    names.retain(|name| kubelet.is_none_or(|kubelet| directory.join(name) != *kubelet));
    names.sort();
    names
}

/// The name of a process, if it can be seen from here.
fn program(process: u32) -> Option<String> {
    let line = fs::read(format!("/proc/{process}/cmdline")).ok()?;
    let first = line.split(|byte| *byte == 0).next()?;
    let name =
        Path::new(std::str::from_utf8(first).ok()?).file_name()?.to_string_lossy().into_owned();
    Some(format!("{name} (process {process})"))
}
