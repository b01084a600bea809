//! The device manager's state: endpoints, device sets and what pods hold. One lock guards it, as in
//! the kubelet, and it is never held across a call to a plugin.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::audit::Audit;
use super::checkpoint::{self, PodDevices};
use super::clients::{Clients, PluginClient};
use super::pod_resources::{KnownPod, Limit, Trouble};
use super::random::Random;
use super::records::{Call, ReceivedList};
use super::view::{Outcome, Registration, View};
use super::violations::{ViolationKind, Violations};
use super::{KubeletConfig, KubeletVersion};
use crate::proto::{Device, DevicePluginOptions, RegisterRequest};

/// The manager as the tasks of a life hold it.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    config: Arc<KubeletConfig>,
    manager: Arc<Mutex<Manager>>,
    view: watch::Sender<View>,
    /// Pods are admitted one after the other.
    pub(crate) admission: Arc<tokio::sync::Mutex<()>>,
}

impl Shared {
    pub(crate) fn new(config: KubeletConfig) -> Self {
        let config = Arc::new(config);
        let view = watch::Sender::new(View::default());
        let manager = Manager::new(Arc::clone(&config), view.clone());
        Self { config, manager: Arc::new(Mutex::new(manager)), view, admission: Arc::default() }
    }

    pub(crate) fn config(&self) -> &KubeletConfig {
        &self.config
    }

    pub(crate) fn manager(&self) -> MutexGuard<'_, Manager> {
        self.manager.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn watch(&self) -> watch::Receiver<View> {
        self.view.subscribe()
    }

    /// Drops what has been stopped for longer than the grace time, when that time has come.
    pub(crate) fn expire_later(&self) {
        let (shared, grace) = (self.clone(), self.config.limits.grace);
        tokio::spawn(async move {
            tokio::time::sleep(grace).await;
            shared.manager().expire(grace);
        });
    }
}

/// One resource's devices as the kubelet keeps them.
#[derive(Debug, Default)]
pub(crate) struct Devices {
    pub(crate) all: BTreeMap<String, Device>,
    pub(crate) healthy: BTreeSet<String>,
    pub(crate) unhealthy: BTreeSet<String>,
    pub(super) lists: u64,
    pub(super) last_list_at: Option<Instant>,
}

/// What stands behind a resource.
#[derive(Debug, Clone, Default)]
pub(crate) struct Endpoint {
    pub(super) name: String,
    /// None for one that is known from the checkpoint alone.
    pub(crate) client: Option<Arc<PluginClient>>,
    pub(crate) options: DevicePluginOptions,
    pub(crate) stopped_at: Option<Instant>,
}

/// Everything that a kubelet process would lose when it dies, and the records that outlive it.
#[derive(Debug)]
pub(crate) struct Manager {
    config: Arc<KubeletConfig>,
    pub(super) view: watch::Sender<View>,
    pub(crate) random: Random,
    pub(crate) violations: Violations,
    pub(super) lists: Vec<ReceivedList>,
    pub(super) calls: Vec<Call>,

    life: u64,
    audit: Audit,
    pub(crate) clients: Clients,
    /// Connections that the kubelet loses sight of without closing them.
    leaked: Vec<Arc<PluginClient>>,
    pub(super) open_streams: BTreeMap<u64, String>,
    accepted_endpoints: BTreeSet<String>,
    pub(crate) endpoints: BTreeMap<String, Endpoint>,
    pub(crate) devices: BTreeMap<String, Devices>,
    pub(crate) pods: Vec<PodDevices>,
    /// What the API server has reported of pods, in this life.
    pub(super) known_pods: BTreeMap<String, KnownPod>,
    /// What the API server knows, in all lives.
    api_pods: BTreeMap<String, KnownPod>,
    api_reached: bool,
    pub(super) limit: Limit,
    pub(super) trouble: Trouble,
    pub(super) asked: Vec<Instant>,
    pub(super) stream_delay: Duration,
    pub(super) answer_delay: Duration,
    pub(super) asks_by_path: bool,
    /// By resource; more than what pods hold while an admission goes on.
    pub(crate) allocated: BTreeMap<String, BTreeSet<String>>,
    /// The pod under admission and the devices that its init containers leave to the next
    /// container, by resource.
    pub(crate) reusable: (String, BTreeMap<String, BTreeSet<String>>),
}

impl Manager {
    fn new(config: Arc<KubeletConfig>, view: watch::Sender<View>) -> Self {
        Self {
            random: Random::new(config.seed),
            violations: Violations::default(),
            lists: Vec::new(),
            calls: Vec::new(),
            life: 0,
            audit: Audit::default(),
            clients: Clients::new(config.version),
            leaked: Vec::new(),
            open_streams: BTreeMap::new(),
            accepted_endpoints: BTreeSet::new(),
            endpoints: BTreeMap::new(),
            devices: BTreeMap::new(),
            pods: Vec::new(),
            known_pods: BTreeMap::new(),
            api_pods: BTreeMap::new(),
            api_reached: true,
            limit: Limit::default(),
            trouble: Trouble::None,
            asked: Vec::new(),
            stream_delay: Duration::ZERO,
            answer_delay: Duration::ZERO,
            asks_by_path: false,
            allocated: BTreeMap::new(),
            reusable: Default::default(),
            config,
            view,
        }
    }

    /// A new process: nothing is known but what the checkpoint says.
    pub(crate) fn born(&mut self, shared: &Shared) {
        let restored = checkpoint::read(&self.config.directory);
        self.life += 1;
        self.audit = Audit::new(self.config.numa_nodes.clone());
        self.clients = Clients::new(self.config.version);
        self.leaked.clear();
        self.open_streams.clear();
        self.accepted_endpoints.clear();
        self.devices.clear();
        self.endpoints.clear();
        self.reusable = Default::default();
        self.pods = restored.pods;
        self.known_pods = if self.api_reached { self.api_pods.clone() } else { BTreeMap::new() };
        self.limit = Limit::default();
        self.forget_unfinished_allocations();
        let stopped = Endpoint { stopped_at: Some(Instant::now()), ..Endpoint::default() };
        for resource in restored.resources {
            self.devices.insert(resource.clone(), Devices::default());
            self.endpoints.insert(resource, stopped.clone());
        }
        if !self.endpoints.is_empty() {
            shared.expire_later();
        }
        self.view.send_modify(|view| {
            view.life = self.life;
            view.running = true;
            view.resources =
                self.devices.keys().map(|name| (name.clone(), self.resource_view(name))).collect();
        });
    }

    /// The process is gone; what it knew is shown until the next one starts.
    pub(crate) fn died(&mut self) {
        self.leaked.clear();
        self.view.send_modify(|view| {
            view.running = false;
            for registration in &mut view.registrations {
                if registration.outcome == Outcome::Pending {
                    registration.outcome = Outcome::Abandoned;
                }
            }
        });
    }

    /// Notes a Register call and returns its place in the records.
    pub(crate) fn registration_received(&self, request: &RegisterRequest, at: Instant) -> usize {
        let registration = Registration {
            life: self.life,
            resource: request.resource_name.clone(),
            endpoint: request.endpoint.clone(),
            outcome: Outcome::Pending,
            at,
            answered: None,
        };
        let mut place = 0;
        self.view.send_modify(|view| {
            place = view.registrations.len();
            view.registrations.push(registration);
        });
        place
    }

    pub(crate) fn registration_answered(&self, place: usize, result: &Result<(), String>) {
        self.view.send_modify(|view| {
            let registration = &mut view.registrations[place];
            registration.answered = Some(Instant::now());
            registration.outcome = match result {
                Ok(()) => Outcome::Accepted,
                Err(error) => Outcome::Refused(error.clone()),
            };
        });
    }

    /// Enters a client that is about to be dialled.
    pub(crate) fn client_registered(&mut self, client: &Arc<PluginClient>) -> Result<(), String> {
        if let Some(old) = self.clients.insert(client)? {
            let name = |client: &PluginClient| {
                client.socket.file_name().unwrap_or_default().display().to_string()
            };
            let detail =
                format!("{} while the kubelet was not done with {}", name(client), name(&old));
            self.violations.record(
                ViolationKind::OverlappingRegistration,
                &client.resource,
                detail,
            );
        }
        Ok(())
    }

    /// The options have come: from now on the resource belongs to this client.
    pub(crate) fn plugin_connected(
        &mut self,
        client: &Arc<PluginClient>,
        request: &RegisterRequest,
        options: DevicePluginOptions,
    ) {
        self.audit_registration(client, request, &options);
        let resource = client.resource.clone();
        let endpoint = Endpoint {
            name: request.endpoint.clone(),
            client: Some(Arc::clone(client)),
            options,
            stopped_at: None,
        };
        self.endpoints.insert(resource.clone(), endpoint);
        self.publish(&resource);
    }

    fn audit_registration(
        &mut self,
        client: &Arc<PluginClient>,
        request: &RegisterRequest,
        options: &DevicePluginOptions,
    ) {
        let resource = client.resource.as_str();
        if request.options.as_ref().is_some_and(|registered| registered != options) {
            let detail = format!("{:?} at Register, {options:?} when asked", request.options);
            self.violations.record(ViolationKind::OptionsDiffer, resource, detail);
        }
        if !self.accepted_endpoints.insert(request.endpoint.clone()) {
            self.violations.record(ViolationKind::ReusedEndpoint, resource, &request.endpoint);
        }
    }

    pub(crate) fn stream_opened(&mut self, client: &PluginClient) {
        self.open_streams.insert(client.id, client.resource.clone());
        self.publish(&client.resource);
    }

    pub(crate) fn stream_closed(&mut self, client: &PluginClient) {
        self.audit.stream_ended(client.id);
        if self.open_streams.remove(&client.id).is_some() {
            self.publish(&client.resource);
        }
    }

    /// A message replaces the whole map. The checkpoint is written each time.
    pub(crate) fn list_received(&mut self, client: &PluginClient, list: Vec<Device>, at: Instant) {
        let resource = client.resource.as_str();
        let devices = self.devices.entry(resource.to_owned()).or_default();
        devices.lists += 1;
        devices.last_list_at = Some(at);
        devices.all.clear();
        devices.healthy.clear();
        devices.unhealthy.clear();
        for device in &list {
            let set = if device.health == "Healthy" {
                &mut devices.healthy
            } else {
                &mut devices.unhealthy
            };
            set.insert(device.id.clone());
            devices.all.insert(device.id.clone(), device.clone());
        }
        let is_first = devices.lists == 1;
        self.publish(resource);
        self.write_checkpoint();
        if is_first {
            // The pods of the checkpoint are admitted once more at some time from now on.
            let held = self.allocated.get(resource).cloned().unwrap_or_default();
            self.work_out_hints(resource, &held, "a pod that is admitted again holds it");
        }

        let none = BTreeSet::new();
        let in_use = self.allocated.get(resource).unwrap_or(&none);
        self.audit.list(resource, client.id, &list, in_use, &mut self.violations);
        let (resource, life, stream) = (resource.to_owned(), self.life, client.id);
        self.lists.push(ReceivedList { life, resource, stream, at, devices: list });
    }

    /// The connection is gone: no device of the resource is healthy any more, and the grace time
    /// begins. From 1.37 on this is only so if the connection was the resource's current one.
    pub(crate) fn plugin_disconnected(&mut self, client: &PluginClient, shared: &Shared) {
        let resource = client.resource.as_str();
        let by_socket = self.config.version >= KubeletVersion::V1_37;
        let Some(endpoint) = self.endpoints.get_mut(resource) else { return };
        if by_socket && endpoint.client.as_ref().is_some_and(|current| current.id != client.id) {
            return;
        }
        endpoint.stopped_at = Some(Instant::now());
        let devices = self.devices.entry(resource.to_owned()).or_default();
        devices.unhealthy.append(&mut devices.healthy);
        self.publish(resource);
        shared.expire_later();
    }

    /// Keeps a connection that the kubelet forgets to close open until it dies.
    pub(crate) fn leak(&mut self, client: Arc<PluginClient>) {
        self.leaked.push(client);
    }

    fn expire(&mut self, grace: Duration) {
        let expired = |endpoint: &Endpoint| {
            endpoint.stopped_at.is_some_and(|stopped| stopped.elapsed() >= grace)
        };
        let dropped: Vec<String> = self
            .endpoints
            .iter()
            .filter(|(_, endpoint)| expired(endpoint))
            .map(|(name, _)| name.clone())
            .collect();
        for resource in &dropped {
            self.endpoints.remove(resource);
            self.devices.remove(resource);
            self.publish(resource);
        }
        if !dropped.is_empty() {
            self.write_checkpoint();
        }
    }

    /// A pod comes to the node, with this container.
    pub(super) fn pod_comes(&mut self, pod: &str, container: Option<&str>) {
        for pods in [&mut self.api_pods, &mut self.known_pods] {
            let known = pods.entry(pod.to_owned()).or_default();
            known.containers.extend(container.map(ToOwned::to_owned));
        }
    }

    /// The pod has succeeded or failed.
    pub(super) fn finish(&mut self, pod: &str) {
        for pods in [&mut self.api_pods, &mut self.known_pods] {
            if let Some(known) = pods.get_mut(pod) {
                known.finished = true;
            }
        }
    }

    pub(super) fn reach_api_server(&mut self, reached: bool) {
        self.api_reached = reached;
        if reached {
            self.known_pods = self.api_pods.clone();
        }
    }

    /// Takes back what pods hold that are over. A kubelet that knows no pod at all keeps what its
    /// checkpoint says.
    pub(super) fn forget_finished_pods(&mut self) {
        let finished = |pod: &str| self.known_pods.get(pod).is_some_and(|known| known.finished);
        if self.pods.iter().any(|held| finished(&held.pod)) {
            self.pods.retain(|held| !finished(&held.pod));
            self.forget_unfinished_allocations();
            self.write_checkpoint();
        }
    }

    /// The pod is over.
    pub(crate) fn release(&mut self, pod: &str) {
        self.api_pods.remove(pod);
        self.known_pods.remove(pod);
        self.pods.retain(|held| held.pod != pod);
        self.forget_unfinished_allocations();
        self.write_checkpoint();
    }

    /// What is allocated is what pods hold.
    pub(crate) fn forget_unfinished_allocations(&mut self) {
        self.allocated.clear();
        for held in &self.pods {
            self.allocated.entry(held.resource.clone()).or_default().extend(held.ids());
        }
    }

    pub(crate) fn write_checkpoint(&mut self) {
        let healthy = self
            .devices
            .iter()
            .map(|(resource, devices)| {
                (resource.clone(), devices.healthy.iter().cloned().collect())
            })
            .collect();
        // A test that takes the directory away has its reasons; the kubelet only logs this, too.
        let _ = checkpoint::write(&self.config.directory, &self.pods, healthy, &mut self.random);
    }
}
