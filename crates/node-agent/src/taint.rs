//! A taint of the Node while it has no GPU that works.
//!
//! Taints are one list for the API server, so that it cannot be applied beside those of others: the
//! list is read and written with the version that it had then.

use std::sync::Arc;

use serde_json::{Value, json};
use status::Gpu;

use crate::api::{ApiError, ApiRequest, ApiServer};
use crate::condition::condition;
use crate::keep::Target;
use crate::retry::Failure;
use status_stream::View;

/// Who writes the taint, for the API server.
pub const TAINT_MANAGER: &str = "gpu-node-agent-taint";
/// What it does: pods that do not tolerate it are not scheduled there, and running ones stay.
const EFFECT: &str = "NoSchedule";

/// Whether the node is to be tainted: it has GPUs, and none of them is Healthy; `None` while that
/// is not known, so that it stays as it is.
#[must_use]
pub fn wants_taint(view: &View) -> Option<bool> {
    let condition = condition(view)?;
    let status = view.status.as_deref()?;
    if condition.status == "Unknown" {
        return None;
    }
    let gpus: Vec<&Gpu> = status.gpus.iter().filter(|gpu| gpu.reserved.is_none()).collect();
    let all_sick = !gpus.is_empty() && gpus.iter().all(|gpu| !gpu.healthy);
    Some(condition.status == "True" && all_sick)
}

/// Sets the taint and takes it away.
pub struct TaintWriter {
    api: Arc<ApiServer>,
    path: String,
    key: String,
}

impl TaintWriter {
    /// The taint of this key on this node.
    #[must_use]
    pub fn new(api: Arc<ApiServer>, node: &str, key: &str) -> Self {
        Self { api, path: format!("/api/v1/nodes/{node}"), key: key.to_owned() }
    }

    /// The Node as it is in the store.
    async fn read(&self) -> Result<Value, ApiError> {
        self.api.send(&ApiRequest::get(&self.path)).await
    }

    /// Sets it, or takes it away.
    ///
    /// # Errors
    /// The Node cannot be read or written, or somebody else wrote it meanwhile.
    pub(crate) async fn set(&self, wanted: bool) -> Result<(), ApiError> {
        let node = self.read().await?;
        if self.has_it(&node) == wanted {
            return Ok(());
        }
        let taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
        let mut taints: Vec<_> = taints.into_iter().filter(|taint| !self.is_ours(taint)).collect();
        if wanted {
            taints.push(json!({"key": self.key, "effect": EFFECT}));
        }
        let change = json!({
            // Whoever has changed it meanwhile goes first: 409, and it is read again.
            "metadata": {"resourceVersion": node["metadata"]["resourceVersion"]},
            "spec": {"taints": taints},
        });
        let path = format!("{}?fieldManager={TAINT_MANAGER}", self.path);
        self.api.send(&ApiRequest::merge(path, &change)).await?;
        Ok(())
    }

    fn is_ours(&self, taint: &Value) -> bool {
        taint["key"] == *self.key && taint["effect"] == EFFECT
    }

    fn has_it(&self, node: &Value) -> bool {
        node["spec"]["taints"].as_array().into_iter().flatten().any(|taint| self.is_ours(taint))
    }
}

impl Target for TaintWriter {
    type Wanted = bool;
    const WHAT: &'static str = "the taints of the Node";

    async fn is_there(&mut self, wanted: &bool) -> Result<bool, Failure> {
        // From the API server's cache: no read of its store.
        let path = format!("{}?resourceVersion=0", self.path);
        let node = self.api.send(&ApiRequest::get(path)).await?;
        Ok(self.has_it(&node) == *wanted)
    }

    async fn write(&mut self, wanted: &bool) -> Result<(), Failure> {
        Ok(self.set(*wanted).await?)
    }
}

#[cfg(test)]
mod tests {
    use status::{NvmlState, Status};

    use super::*;
    use crate::labels::testing::{at, cause, gpu, status};

    fn wants(status: Status) -> Option<bool> {
        wants_taint(&View { status: Some(Arc::new(status)), silent: false })
    }

    #[test]
    fn it_is_wanted_where_no_gpu_is_healthy_and_left_where_that_is_not_known() {
        let healthy = status(&[gpu(0, "NVIDIA H200"), gpu(1, "NVIDIA H200")]);
        assert_eq!(wants(healthy.clone()), Some(false));
        let mut one = healthy.clone();
        (one.gpus[0].healthy, one.gpus[0].reasons) = (false, vec![cause("xid", "Xid 79", at(0))]);
        assert_eq!(wants(one.clone()), Some(false));
        let mut both = one.clone();
        both.gpus[1] = one.gpus[0].clone();
        assert_eq!(wants(both.clone()), Some(true));
        // What is reserved for the system does not count.
        let mut reserved = one.clone();
        reserved.gpus[1].reserved = Some("the settings".to_owned());
        assert_eq!(wants(reserved), Some(true));
        let mut down = both.clone();
        down.nvml.state = NvmlState::Down;
        down.nvml.fault = Some(cause("driver_not_loaded", "the driver is not loaded", at(0)));
        assert_eq!(wants(down), Some(true));
        let mut starting = both;
        starting.nvml.state = NvmlState::Down;
        assert_eq!(wants(starting), None);
        assert_eq!(wants(status(&[])), Some(false), "a node without GPUs");
        assert_eq!(wants_taint(&View { status: None, silent: true }), None);
        assert_eq!(wants_taint(&View::default()), None);
    }
}
