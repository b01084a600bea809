//! The registration server, with the kubelet's checks in the kubelet's order and words.

use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use tokio::net::UnixListener;
use tokio::sync::oneshot;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use super::clients::PluginClient;
use super::manager::Shared;
use super::names::is_extended_resource_name;
use super::records::{Call, Method};
use super::violations::ViolationKind;
use super::{KubeletVersion, ask_by_path, dial, go_error, streams};
use crate::proto::registration_server::{Registration, RegistrationServer};
use crate::proto::{DevicePluginOptions, Empty, RegisterRequest};

/// The only version that the kubelet supports.
const VERSION: &str = "v1beta1";
/// Binds the registration socket and serves it in the current runtime.
pub(crate) fn serve(shared: &Shared, socket: &Path) -> io::Result<()> {
    let incoming = UnixListenerStream::new(UnixListener::bind(socket)?);
    let service = RegistrationServer::new(Registrar { shared: shared.clone() });
    tokio::spawn(Server::builder().serve_with_incoming(service, incoming));
    Ok(())
}

struct Registrar {
    shared: Shared,
}

#[tonic::async_trait]
impl Registration for Registrar {
    async fn register(&self, request: Request<RegisterRequest>) -> Result<Response<Empty>, Status> {
        let at = Instant::now();
        let request = request.into_inner();
        let place = self.shared.manager().registration_received(&request, at);
        // A Go handler runs on when its caller has gone; only its context is cancelled.
        let (_context, cancelled) = oneshot::channel();
        let shared = self.shared.clone();
        let handler = tokio::spawn(async move {
            let result = register(&shared, &request, cancelled).await;
            shared.manager().registration_answered(place, &result);
            if result.is_ok() {
                let delay = shared.manager().answer_delay;
                tokio::time::sleep(delay).await;
            }
            result
        });
        match handler.await {
            Ok(Ok(())) => Ok(Response::new(Empty {})),
            // Plain Go errors have no code of their own.
            Ok(Err(error)) => Err(Status::unknown(error)),
            Err(panic) => Err(Status::internal(panic.to_string())),
        }
    }
}

async fn register(
    shared: &Shared,
    request: &RegisterRequest,
    cancelled: oneshot::Receiver<()>,
) -> Result<(), String> {
    if request.version != VERSION {
        return Err(format!(
            "requested API version {:?} is not supported by kubelet. Supported version is \
                [{VERSION:?}]",
            request.version
        ));
    }
    if !is_extended_resource_name(&request.resource_name) {
        return Err(format!("the ResourceName {:?} is invalid", request.resource_name));
    }
    if !is_file_name(&request.endpoint) {
        let kind = ViolationKind::EndpointNotAFileName;
        shared.manager().violations.record(kind, &request.resource_name, &request.endpoint);
    }
    let socket = join(&shared.config().directory, &request.endpoint);
    connect_client(shared, request, socket, cancelled).await
}

/// Enters the client, dials it, asks for its options, and then leaves its stream to a task.
async fn connect_client(
    shared: &Shared,
    request: &RegisterRequest,
    socket: PathBuf,
    cancelled: oneshot::Receiver<()>,
) -> Result<(), String> {
    let client = PluginClient::new(&request.resource_name, socket);
    shared.manager().client_registered(&client)?;
    match dial_and_ask(shared, &client, cancelled).await {
        Ok(options) => {
            shared.manager().plugin_connected(&client, request, options);
            tokio::spawn(streams::run(shared.clone(), client));
            Ok(())
        }
        Err(error) => {
            let mut manager = shared.manager();
            manager.clients.remove(&client);
            // The kubelet does not close the connection of a client that it could not ask.
            manager.leak(client);
            Err(error)
        }
    }
}

async fn dial_and_ask(
    shared: &Shared,
    client: &Arc<PluginClient>,
    cancelled: oneshot::Receiver<()>,
) -> Result<DevicePluginOptions, String> {
    let config = shared.config();
    if shared.manager().asks_by_path {
        return ask_by_path::ask(&client.socket).await;
    }
    let channel = dial::connect_blocking(&client.socket, config.limits.dial).await?;
    client.set_channel(channel.clone());
    let cancellation = async {
        // Before 1.36 the call has a context of its own.
        if config.version < KubeletVersion::V1_36 {
            std::future::pending::<()>().await;
        }
        let _ = cancelled.await;
    };
    let at = Instant::now();
    let mut client_of_plugin = dial::client(channel);
    let answer = tokio::select! {
        answer = client_of_plugin.get_device_plugin_options(Empty {}) => answer,
        () = cancellation => Err(Status::cancelled("context canceled")),
    };
    shared.manager().called(Call {
        resource: client.resource.clone(),
        method: Method::Options,
        ids: Vec::new(),
        must_include: Vec::new(),
        size: 0,
        at,
        took: at.elapsed(),
        succeeded: answer.is_ok(),
    });
    answer
        .map(Response::into_inner)
        .map_err(|status| format!("failed to get device plugin options: {}", go_error(&status)))
}

fn is_file_name(endpoint: &str) -> bool {
    let mut parts = Path::new(endpoint).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None))
        && !endpoint.contains('/')
}

/// As Go's `filepath.Join`: an absolute second part goes below the first, and `..` is resolved by
/// name.
fn join(directory: &Path, endpoint: &str) -> PathBuf {
    let mut joined = directory.to_path_buf();
    for part in Path::new(endpoint).components() {
        match part {
            Component::Normal(name) => joined.push(name),
            Component::ParentDir => {
                joined.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_endpoint_is_joined_as_go_joins_paths() {
        let joined = |endpoint| join(Path::new("/var/lib/kubelet/device-plugins"), endpoint);
        assert_eq!(joined("a.sock"), Path::new("/var/lib/kubelet/device-plugins/a.sock"));
        assert_eq!(joined("/a.sock"), Path::new("/var/lib/kubelet/device-plugins/a.sock"));
        assert_eq!(joined("../x/./a.sock"), Path::new("/var/lib/kubelet/x/a.sock"));
    }
}
