//! The kubelet's map of plugin connections, whose keys are the difference between 1.36 and 1.37.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use tonic::transport::Channel;

use super::KubeletVersion;

/// One connection to a plugin, from its registration to its disconnection.
#[derive(Debug)]
pub(crate) struct PluginClient {
    /// Unique in the process.
    pub(crate) id: u64,
    pub(crate) resource: String,
    pub(crate) socket: PathBuf,
    channel: Mutex<Option<Channel>>,
    disconnected: AtomicBool,
    wake: Notify,
}

impl PluginClient {
    pub(crate) fn new(resource: &str, socket: PathBuf) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Arc::new(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            resource: resource.to_owned(),
            socket,
            channel: Mutex::new(None),
            disconnected: AtomicBool::new(false),
            wake: Notify::new(),
        })
    }

    pub(crate) fn set_channel(&self, channel: Channel) {
        *self.channel.lock().unwrap_or_else(PoisonError::into_inner) = Some(channel);
    }

    /// The connection, while there is one.
    pub(crate) fn channel(&self) -> Option<Channel> {
        self.channel.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Closes the connection if there is one yet; a stream on it ends.
    pub(crate) fn disconnect(&self) {
        if self.channel.lock().unwrap_or_else(PoisonError::into_inner).take().is_some() {
            self.disconnected.store(true, Ordering::Release);
            self.wake.notify_waiters();
        }
    }

    /// Returns when the connection was closed from this side.
    pub(crate) async fn disconnected(&self) {
        let woken = self.wake.notified();
        if !self.disconnected.load(Ordering::Acquire) {
            woken.await;
        }
    }
}

/// The registered clients.
#[derive(Debug)]
pub(crate) struct Clients {
    /// Also by socket, from 1.37 on.
    by_socket: bool,
    clients: HashMap<(String, Option<PathBuf>), Arc<PluginClient>>,
}

impl Clients {
    pub(crate) fn new(version: KubeletVersion) -> Self {
        Self { by_socket: version >= KubeletVersion::V1_37, clients: HashMap::new() }
    }

    /// Up to 1.36 a client takes the place of the resource's old one; from 1.37 on one with the
    /// same socket is refused as long as the old one is there. Returns the old one.
    pub(crate) fn insert(
        &mut self,
        client: &Arc<PluginClient>,
    ) -> Result<Option<Arc<PluginClient>>, String> {
        let key = self.key(client);
        if self.by_socket && self.clients.contains_key(&key) {
            return Err(format!(
                "device plugin {} is already registered with socket path {}",
                client.resource,
                client.socket.display()
            ));
        }
        Ok(self.clients.insert(key, Arc::clone(client)))
    }

    /// Removes and returns the entry with this client's key. Up to 1.36 that can be another
    /// client.
    pub(crate) fn remove(&mut self, client: &PluginClient) -> Option<Arc<PluginClient>> {
        let key = self.key(client);
        self.clients.remove(&key)
    }

    /// The newest client of a resource.
    pub(crate) fn of_resource(&self, resource: &str) -> Option<Arc<PluginClient>> {
        let of_it = self.clients.values().filter(|client| client.resource == resource);
        of_it.max_by_key(|client| client.id).cloned()
    }

    fn key(&self, client: &PluginClient) -> (String, Option<PathBuf>) {
        (client.resource.clone(), self.by_socket.then(|| client.socket.clone()))
    }
}
