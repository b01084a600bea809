//! One plugin connection after its registration: the ListAndWatch stream, and what its end does.

use std::sync::Arc;
use std::time::Instant;

use tokio::select;

use super::clients::PluginClient;
use super::dial;
use super::manager::Shared;
use crate::proto::Empty;

/// Follows the stream to its end. The client that is disconnected then is the one that stands under
/// this one's key, and up to 1.36 that is the resource's newest, whoever it is.
pub(crate) async fn run(shared: Shared, client: Arc<PluginClient>) {
    follow(&shared, &client).await;
    let mut manager = shared.manager();
    manager.stream_closed(&client);
    let standing = manager.clients.remove(&client);
    if let Some(standing) = &standing {
        standing.disconnect();
        manager.plugin_disconnected(standing, &shared);
    }
    // Nobody closes this one's connection if another one stood in its place.
    manager.leak(client);
}

async fn follow(shared: &Shared, client: &PluginClient) {
    let delay = shared.manager().stream_delay;
    select! {
        () = tokio::time::sleep(delay) => {}
        () = client.disconnected() => return,
    }
    let Some(channel) = client.channel() else { return };
    let mut plugin = dial::client(channel);
    let opened = select! {
        opened = plugin.list_and_watch(Empty {}) => opened,
        () = client.disconnected() => return,
    };
    let Ok(response) = opened else { return };
    shared.manager().stream_opened(client);
    let mut stream = response.into_inner();
    loop {
        let message = select! {
            message = stream.message() => message,
            () = client.disconnected() => return,
        };
        let at = Instant::now();
        match message {
            Ok(Some(list)) => shared.manager().list_received(client, list.devices, at),
            Ok(None) | Err(_) => return,
        }
    }
}
