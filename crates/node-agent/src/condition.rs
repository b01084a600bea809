//! A condition of the Node: True while a GPU is Unhealthy, False again when none is, Unknown while
//! the plugin says nothing.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use status::{Gpu, NvmlState, Status, bounded, escaped};
use status_stream::View;

use crate::api::{ApiRequest, ApiServer};
use crate::keep::Target;
use crate::retry::Failure;

/// Who owns the condition, for the API server.
pub const CONDITION_MANAGER: &str = "gpu-node-agent-condition";
/// The longest message, in bytes.
const MAX_MESSAGE: usize = 1024;
/// The GPUs that a message names.
const MAX_NAMED: usize = 4;
/// How long a GPU may take to answer after the plugin has started, before that counts.
const FIRST_ANSWER: Duration = Duration::from_secs(60);

/// What the condition says. Without times: they change nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeCondition {
    /// `True`, `False` or `Unknown`.
    pub status: &'static str,
    /// One word for programs.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

/// The condition of a node; `None` while that is not known, so that it stays as it is: a plugin
/// that restarts is neither a fault nor a recovery.
#[must_use]
pub fn condition(view: &View) -> Option<NodeCondition> {
    if view.silent {
        let message = "the GPU device plugin on this node does not answer".to_owned();
        return Some(NodeCondition { status: "Unknown", reason: "PluginSilent", message });
    }
    let status = view.status.as_deref()?;
    let (reason, message) = match (&status.nvml.fault, status.nvml.state) {
        (Some(fault), NvmlState::Down) => ("DriverDown", fault.message.clone()),
        (_, NvmlState::Up) if status.gpu_counts.enumerated.is_some() => {
            let gpus: Vec<&Gpu> = status.gpus.iter().filter(|gpu| gpu.reserved.is_none()).collect();
            let sick: Vec<&Gpu> = gpus.iter().copied().filter(|gpu| is_sick(gpu, status)).collect();
            if sick.is_empty() {
                let all_answer = gpus.iter().all(|gpu| gpu.healthy);
                return all_answer.then(|| {
                    let healthy = all_healthy(gpus.len());
                    NodeCondition { message: told(&healthy.message, status), ..healthy }
                });
            }
            (reason(&sick), message(&sick, gpus.len()))
        }
        _ => return None,
    };
    Some(NodeCondition { status: "True", reason, message: told(&message, status) })
}

/// A message as it is written: with what a person who changed the configuration waits for.
fn told(message: &str, status: &Status) -> String {
    let refused = status.configuration.last_reload.as_ref().and_then(|last| last.refused.as_ref());
    let Some(why) = refused else { return bounded(&escaped(message), MAX_MESSAGE).to_owned() };
    // What is of GPUs stands first, and leaves room for this.
    let message = bounded(message, MAX_MESSAGE / 2);
    let both = format!("{message}; the changed configuration is refused: {why}");
    bounded(&escaped(&both), MAX_MESSAGE).to_owned()
}

fn reason(sick: &[&Gpu]) -> &'static str {
    let is_quarantined = |gpu: &&Gpu| gpu.reasons.iter().all(|reason| reason.kind == "external");
    if sick.iter().all(is_quarantined) { "GPUQuarantined" } else { "GPUUnhealthy" }
}

fn all_healthy(gpus: usize) -> NodeCondition {
    let message = format!("{gpus} of {gpus} GPUs are Healthy");
    NodeCondition { status: "False", reason: "GPUsHealthy", message }
}

/// Whether a GPU is Unhealthy, and not only because the plugin has just started.
fn is_sick(gpu: &Gpu, status: &Status) -> bool {
    let counts = |reason: &status::Reason| {
        reason.kind != "not_answered" || status.generated_at.since(reason.since) >= FIRST_ANSWER
    };
    !gpu.healthy && gpu.reasons.iter().any(counts)
}

fn message(sick: &[&Gpu], gpus: usize) -> String {
    let one = |gpu: &&Gpu| {
        let reason = gpu.reasons.first().map_or("", |reason| reason.message.as_str());
        format!("{}: {reason}", gpu.name())
    };
    let mut named: Vec<String> = sick.iter().take(MAX_NAMED).map(one).collect();
    if sick.len() > MAX_NAMED {
        named.push(format!("and {} more", sick.len() - MAX_NAMED));
    }
    format!("{} of {gpus} GPUs are Unhealthy: {}", sick.len(), named.join("; "))
}

/// Writes the condition.
pub struct ConditionWriter {
    api: Arc<ApiServer>,
    node: String,
    kind: String,
    /// The status that was last written or found, and since when it holds.
    since: Option<(String, String)>,
}

impl ConditionWriter {
    /// The condition of this type on this node.
    #[must_use]
    pub fn new(api: Arc<ApiServer>, node: &str, kind: &str) -> Self {
        Self { api, node: node.to_owned(), kind: kind.to_owned(), since: None }
    }

    /// The condition as the Node has it, if it has it.
    async fn read(&self) -> Result<Option<Value>, Failure> {
        let path = format!("/api/v1/nodes/{}?resourceVersion=0", self.node);
        let node = self.api.send(&ApiRequest::get(path)).await?;
        let mut conditions = node["status"]["conditions"].as_array().into_iter().flatten();
        Ok(conditions.rfind(|of| of["type"] == *self.kind).cloned())
    }
}

impl Target for ConditionWriter {
    type Wanted = NodeCondition;
    const WHAT: &'static str = "the conditions of the Node";

    async fn is_there(&mut self, wanted: &NodeCondition) -> Result<bool, Failure> {
        let there = self.read().await?.unwrap_or_default();
        let NodeCondition { status, reason, message } = wanted;
        Ok(there["status"] == **status
            && there["reason"] == **reason
            && there["message"] == **message)
    }

    async fn write(&mut self, wanted: &NodeCondition) -> Result<(), Failure> {
        let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        if self.since.is_none() {
            // An agent that restarts is no transition.
            let there = self.read().await?.unwrap_or_default();
            let text = |key: &str| there[key].as_str().map(str::to_owned);
            self.since = text("status").zip(text("lastTransitionTime"));
        }
        let since = match &self.since {
            Some((status, since)) if status == wanted.status => since.clone(),
            _ => now.clone(),
        };
        let node = json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": self.node},
            "status": {"conditions": [{
                "type": self.kind, "status": wanted.status, "reason": wanted.reason,
                "message": wanted.message, "lastHeartbeatTime": now, "lastTransitionTime": since,
            }]},
        });
        let path = format!("/api/v1/nodes/{}/status", self.node);
        self.api.send(&ApiRequest::apply(&path, CONDITION_MANAGER, true, &node)).await?;
        self.since = Some((wanted.status.to_owned(), since));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use status::LastReload;

    use super::*;
    use crate::labels::testing::{at, cause, gpu, status};

    fn of(status: Status) -> NodeCondition {
        condition(&View { status: Some(Arc::new(status)), silent: false }).unwrap()
    }

    #[test]
    fn it_is_true_with_the_gpus_and_their_causes_and_false_again_without() {
        let mut sick = gpu(1, "NVIDIA H200");
        (sick.healthy, sick.reasons) =
            (false, vec![cause("xid", "Xid 79 (fell off the bus)", at(0))]);
        let mut node = status(&[gpu(0, "NVIDIA H200"), sick]);
        let message = "1 of 2 GPUs are Unhealthy: GPU 1: Xid 79 (fell off the bus)".to_owned();
        let expected = NodeCondition { status: "True", reason: "GPUUnhealthy", message };
        assert_eq!(of(node.clone()), expected);
        node.gpus[1].reasons[0].kind = "external".to_owned();
        assert_eq!(of(node.clone()).reason, "GPUQuarantined");
        (node.gpus[1].healthy, node.gpus[1].reasons) = (true, Vec::new());
        assert_eq!(of(node.clone()), all_healthy(2));
        let refused = Some("1 mistake: file, line 3".to_owned());
        node.configuration.last_reload = Some(LastReload { at: at(1), refused });
        let message = "2 of 2 GPUs are Healthy; the changed configuration is refused: 1 mistake: \
            file, line 3";
        assert_eq!(of(node.clone()).message, message);
        node.configuration.last_reload = None;
        node.nvml.state = NvmlState::Down;
        node.nvml.fault =
            Some(cause("driver_not_loaded", "the driver is not loaded\u{1b}[2J", at(0)));
        let down = of(node);
        assert_eq!((down.status, down.reason), ("True", "DriverDown"));
        assert!(down.message.ends_with("loaded\\u{1b}[2J"), "{}", down.message);
    }

    #[test]
    fn a_plugin_that_starts_makes_it_neither_true_nor_unknown() {
        assert_eq!(condition(&View::default()), None);
        let mut starting = gpu(0, "NVIDIA H200");
        (starting.healthy, starting.reasons) =
            (false, vec![cause("not_answered", "not yet", at(990))]);
        let unknown: [fn(&mut Status); 4] = [
            |_| {},
            |node| node.nvml.state = NvmlState::Down,
            |node| node.nvml.state = NvmlState::Released,
            |node| (node.gpus, node.gpu_counts.enumerated) = (Vec::new(), None),
        ];
        for (number, change) in unknown.iter().enumerate() {
            let mut node = status(&[starting.clone()]);
            change(&mut node);
            let view = View { status: Some(Arc::new(node)), silent: false };
            assert_eq!(condition(&view), None, "{number}");
        }
        let mut node = status(&[starting]);
        node.gpus[0].reasons[0].since = at(900);
        assert_eq!(of(node).status, "True");
        let silent = condition(&View { status: None, silent: true }).unwrap();
        assert_eq!((silent.status, silent.reason), ("Unknown", "PluginSilent"));
    }

    #[test]
    fn a_message_is_bounded() {
        let sick = |index| {
            let mut gpu = gpu(index, "NVIDIA H200");
            (gpu.healthy, gpu.reasons) = (false, vec![cause("xid", &"ü".repeat(400), at(0))]);
            gpu
        };
        let message = of(status(&(0..16).map(sick).collect::<Vec<_>>())).message;
        assert!(message.len() <= MAX_MESSAGE && message.starts_with("16 of 16 GPUs"), "{message}");
        let mut short = sick(0);
        short.reasons[0].message = "a".to_owned();
        let message = of(status(&vec![short; 6])).message;
        assert!(message.ends_with("; and 2 more"), "{message}");
    }
}
