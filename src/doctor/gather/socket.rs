//! Probes the sockets of the kubelet and of device plugins with calls that change nothing.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::Duration;

use tokio::net::UnixStream;

use super::host;
use crate::doctor::facts::{PluginSocket, SocketProbe};
use crate::kubelet::device_plugin::socket::{self, PluginPaths};
use crate::kubelet::device_plugin::wire;

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
    if !fs::metadata(socket).map_err(failed)?.file_type().is_socket() {
        return Err(SocketProbe::NotASocket);
    }
    let connected = tokio::time::timeout(deadline, UnixStream::connect(socket)).await;
    let stream = connected.map_err(|_| SocketProbe::TimedOut)?.map_err(failed)?;
    Ok(stream.peer_cred().ok().and_then(|peer| u32::try_from(peer.pid()?).ok()))
}

fn failed(error: io::Error) -> SocketProbe {
    match error.kind() {
        io::ErrorKind::NotFound => SocketProbe::Missing,
        io::ErrorKind::ConnectionRefused => SocketProbe::Refused,
        io::ErrorKind::PermissionDenied => SocketProbe::Denied,
        _ => SocketProbe::Failed(error.to_string()),
    }
}

/// The sockets of device plugins for NVIDIA's GPUs: ours and others.
pub(super) async fn plugins(paths: &PluginPaths, deadline: Duration) -> Vec<PluginSocket> {
    let mut plugins = Vec::new();
    for name in names(paths) {
        let path = paths.directory.join(&name);
        let (probe, listener) = probe(&path, wire::DEVICE_PLUGIN, deadline).await;
        let ours = socket::resource_of(&name).map(ToOwned::to_owned);
        plugins.push(PluginSocket { ours, probe, process: listener.and_then(program), name });
    }
    plugins
}

fn names(paths: &PluginPaths) -> Vec<String> {
    let mut names: Vec<String> = host::names(&paths.directory).take(MAX_SOCKETS).collect();
    names.retain(|name| name.ends_with(".sock") && name.starts_with("nvidia"));
    names.retain(|name| paths.kubelet.as_ref() != Some(&paths.directory.join(name)));
    names.sort();
    names
}

/// The name of a process, if it can be seen from here.
fn program(process: u32) -> Option<String> {
    let line = fs::read(format!("/proc/{process}/cmdline")).ok()?;
    let first = line.split(|byte| *byte == 0).next()?;
    let name = Path::new(std::str::from_utf8(first).ok()?).file_name()?.to_string_lossy();
    Some(format!("{name} (process {process})"))
}
