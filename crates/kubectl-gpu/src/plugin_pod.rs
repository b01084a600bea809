//! The plugin of a node: its pod, and what it answers through the API server's proxy.
//!
//! The proxy of the pod, and not that of the node: the plugin's port is the pod's, and the right to
//! `nodes/proxy` is that to everything that the kubelet can do.

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::api::{ApiError, ApiRequest, ApiServer};
use crate::args::{AccessFlags, PluginFlags};

/// The container of the plugin, in the manifest and the chart.
const CONTAINER: &str = "gpu-device-plugin";
/// The port's name there.
const PORT: &str = "http";
/// The largest list of pods that is read, and the largest status, in bytes.
const MAX_PODS: u64 = 16 << 20;
const MAX_STATUS: u64 = 16 << 20;
/// The most pods that are asked for: one of a node is the plugin's, in an update two.
const MOST_PODS: &str = "20";

/// The pod of a node's plugin.
#[derive(Debug, Clone)]
pub(crate) struct PluginPod {
    pub(crate) namespace: String,
    pub(crate) name: String,
    container: String,
    /// `None`: it has no HTTP server.
    port: Option<u16>,
}

#[derive(Deserialize)]
struct PodList {
    items: Vec<Pod>,
}

#[derive(Deserialize)]
struct Pod {
    metadata: PodMetadata,
    spec: PodSpec,
    #[serde(default)]
    status: PodStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodMetadata {
    name: String,
    namespace: String,
    deletion_timestamp: Option<String>,
}

#[derive(Deserialize)]
struct PodSpec {
    containers: Vec<Container>,
}

#[derive(Deserialize)]
struct Container {
    name: String,
    #[serde(default)]
    ports: Vec<ContainerPort>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContainerPort {
    name: Option<String>,
    container_port: u16,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PodStatus {
    phase: String,
}

impl PluginPod {
    /// Finds it by its labels among the pods of the node.
    pub(crate) fn find(api: &ApiServer, node: &str, flags: &PluginFlags) -> Result<Self, String> {
        let is_of_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
        if !node.chars().all(is_of_name) || node.starts_with('.') || node.is_empty() {
            return Err(format!("{node:?} is no name of a node"));
        }
        let path = match &flags.namespace {
            Some(namespace) => format!("/api/v1/namespaces/{}/pods", segment(namespace)),
            None => "/api/v1/pods".to_owned(),
        };
        let request = ApiRequest::get(path)
            .with("labelSelector", &*flags.plugin_selector)
            .with("fieldSelector", format!("spec.nodeName={node}"))
            .with("limit", MOST_PODS);
        let pods: PodList = api.read(&request, MAX_PODS).map_err(|error| {
            match &flags.namespace {
            Some(namespace) => error.without(&format!("list pods in the namespace {namespace}")),
            None => error.without(
                "list pods in all namespaces; where it is for the plugin's alone, name that with \
                 --namespace",
            ),
        }
        })?;
        let mut pods = pods.items;
        // The running one, of two in an update.
        pods.sort_by_key(|pod| {
            (pod.status.phase != "Running", pod.metadata.deletion_timestamp.is_some())
        });
        match pods.into_iter().next() {
            Some(pod) if pod.status.phase == "Running" => Ok(Self::of(pod, flags)),
            Some(pod) => Err(format!(
                "the plugin's pod {}/{} on node {node} is {}: kubectl describe pod says why",
                pod.metadata.namespace, pod.metadata.name, pod.status.phase
            )),
            None => Err(none_on(api, node, flags)),
        }
    }

    fn of(pod: Pod, flags: &PluginFlags) -> Self {
        let is_plugin = |container: &&Container| container.name == CONTAINER;
        let containers = &pod.spec.containers;
        let container = containers.iter().find(is_plugin).or(containers.first());
        let is_http = |port: &&ContainerPort| port.name.as_deref() == Some(PORT);
        let stated = container.and_then(|container| container.ports.iter().find(is_http));
        Self {
            container: container.map(|container| container.name.clone()).unwrap_or_default(),
            port: flags.plugin_port.or(stated.map(|port| port.container_port)),
            namespace: pod.metadata.namespace,
            name: pod.metadata.name,
        }
    }

    /// Its status, as it wrote it.
    pub(crate) fn status_text(
        &self,
        api: &ApiServer,
        access: &AccessFlags,
    ) -> Result<String, String> {
        let (namespace, name) = (&self.namespace, &self.name);
        let Some(port) = self.port else {
            return Err(format!(
                "the pod {namespace}/{name} has no port {PORT}: its HTTP server is off \
                 (http.enabled of the chart, --http-address), or name it with --plugin-port. \
                 Without it: {}",
                self.exec(access, "status")
            ));
        };
        let (pods, pod) = (segment(namespace), segment(name));
        let path = format!("/api/v1/namespaces/{pods}/pods/{pod}:{port}/proxy/status");
        let answer = api.read_text(&ApiRequest::get(path), MAX_STATUS);
        answer.map_err(|error| {
            let why = self.explain(&error, port);
            format!("{why}. By the right to exec in it: {}", self.exec(access, "status"))
        })
    }

    /// Why it did not answer, and what to do.
    fn explain(&self, error: &ApiError, port: u16) -> String {
        let (namespace, name) = (&self.namespace, &self.name);
        match error {
            ApiError::Refused { by_api_server: false, code: 404, .. } => format!(
                "{error}; what answers at port {port} of {namespace}/{name} has no /status: it is \
                 another program, or --plugin-port is another one's"
            ),
            _ => match error.code() {
                Some(500 | 502..=504) => format!(
                    "{error}; the API server does not reach port {port} of {namespace}/{name}: a \
                     NetworkPolicy has to admit it (networkPolicy.from of the chart), and the \
                     plugin must not listen on the loopback address alone (--http-address)"
                ),
                Some(404) => format!("{error}; the pod is gone: try again"),
                _ => error.without(&format!("get pods/proxy in the namespace {namespace}")),
            },
        }
    }

    /// The command that runs a subcommand of the plugin in its pod.
    pub(crate) fn exec(&self, access: &AccessFlags, subcommand: &str) -> String {
        let mut words = vec!["kubectl".to_owned()];
        let kubeconfig = access.kubeconfig.as_ref().map(|path| path.display().to_string());
        let flags = [
            ("--kubeconfig", kubeconfig),
            ("--context", access.context.clone()),
            ("--cluster", access.cluster.clone()),
            ("--user", access.user.clone()),
            ("--server", access.server.clone()),
            ("--as", access.impersonate.clone()),
            ("--namespace", Some(self.namespace.clone())),
        ];
        for (flag, value) in flags {
            words.extend(value.map(|value| format!("{flag}={}", quoted(&value))));
        }
        let (name, container) = (quoted(&self.name), quoted(&self.container));
        let plugin = "gpu-device-plugin";
        format!("{} exec {name} -c {container} -- {plugin} {subcommand}", words.join(" "))
    }
}

/// Why no pod was found.
fn none_on(api: &ApiServer, node: &str, flags: &PluginFlags) -> String {
    let request = ApiRequest::get(format!("/api/v1/nodes/{}", segment(node))).table();
    let is_missing = api.read::<IgnoredAny>(&request, MAX_PODS);
    if is_missing.is_err_and(|error| error.code() == Some(404)) {
        return format!("there is no node {node}");
    }
    let place = match &flags.namespace {
        Some(namespace) => format!("the namespace {namespace}"),
        None => "any namespace".to_owned(),
    };
    format!(
        "no pod of the plugin is on node {node}: none with the labels {} in {place}; other labels \
         are given by --plugin-selector, and of a plugin without a pod nothing can be had this way",
        flags.plugin_selector
    )
}

/// A name as one segment of a path. Those of Kubernetes need no escapes.
fn segment(name: &str) -> String {
    form_urlencoded::byte_serialize(name.as_bytes()).collect::<String>().replace('+', "%20")
}

/// A word as a POSIX shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@=,".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_quoted_where_a_shell_would_take_it_apart() {
        assert_eq!(quoted("arn:aws:eks:eu-1:1:cluster/a"), "arn:aws:eks:eu-1:1:cluster/a");
        assert_eq!(quoted("it's $(x)"), r"'it'\''s $(x)'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn a_segment_of_a_path_stays_one() {
        assert_eq!(segment("node-a.example"), "node-a.example");
        assert_eq!(segment("../a b?c#d"), "..%2Fa%20b%3Fc%23d");
    }
}
