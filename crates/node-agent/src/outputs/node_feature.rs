//! Labels in a NodeFeature object, from which node feature discovery labels the Node.

use std::sync::Arc;

use serde_json::{Value, json};

use super::node::LABEL_MANAGER;
use crate::api::{ApiRequest, ApiServer};
use crate::keep::Target;
use crate::labels::Features;
use crate::retry::Failure;

/// The label by which node feature discovery finds the objects of a node.
const NODE_NAME: &str = "nfd.node.kubernetes.io/node-name";

/// The name of GPUs among the features of a node, which rules ask for.
const GPUS: &str = "nvidia.gpu";

/// The path of the object of a node.
#[must_use]
pub fn node_feature_path(namespace: &str, node: &str) -> String {
    let name = name(node);
    format!("/apis/nfd.k8s-sigs.io/v1alpha1/namespaces/{namespace}/nodefeatures/{name}")
}

/// GPU feature discovery has an object of its own, `nvidia-features-for-NODE`: that goes with its
/// pods, and with it what is in it. Where both are there the last one counts, by name.
fn name(node: &str) -> String {
    format!("nvidia-gpu-features-for-{node}")
}

/// The NodeFeature object of a node.
///
/// It has no owner: that of a pod would let it, and the labels, go with the pod. Node feature
/// discovery's garbage collector removes it when its node is gone.
pub struct NodeFeature {
    api: Arc<ApiServer>,
    namespace: String,
    node: String,
}

impl NodeFeature {
    /// The object of this node in this namespace.
    #[must_use]
    pub fn new(api: Arc<ApiServer>, namespace: &str, node: &str) -> Self {
        Self { api, namespace: namespace.to_owned(), node: node.to_owned() }
    }

    fn object(&self, wanted: &Features) -> Value {
        let mut instances = json!({});
        if !wanted.gpus.is_empty() {
            instances[GPUS] = json!({"elements": elements(wanted)});
        }
        json!({
            "apiVersion": "nfd.k8s-sigs.io/v1alpha1", "kind": "NodeFeature",
            "metadata": {
                "name": name(&self.node), "namespace": self.namespace,
                "labels": {NODE_NAME: self.node},
            },
            "spec": {
                "features": {"flags": {}, "attributes": {}, "instances": instances},
                "labels": wanted.labels,
            },
        })
    }
}

/// The GPUs as node feature discovery takes them.
fn elements(wanted: &Features) -> Vec<Value> {
    wanted.gpus.iter().map(|attributes| json!({"attributes": attributes})).collect()
}

/// The GPUs that an object has.
fn described(object: &Value) -> &[Value] {
    let instances = &object["spec"]["features"]["instances"];
    instances[GPUS]["elements"].as_array().map(Vec::as_slice).unwrap_or_default()
}

impl Target for NodeFeature {
    type Wanted = Features;
    const WHAT: &'static str = "the labels in the NodeFeature object";

    async fn is_there(&mut self, wanted: &Features) -> Result<bool, Failure> {
        let path = node_feature_path(&self.namespace, &self.node);
        match self.api.send(&ApiRequest::get(path)).await {
            Ok(object) => Ok(object["spec"]["labels"] == json!(wanted.labels)
                && described(&object) == elements(wanted)
                && object["metadata"]["labels"][NODE_NAME] == *self.node),
            Err(error) if error.code() == Some(404) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn write(&mut self, wanted: &Features) -> Result<(), Failure> {
        // By force: the object is the agent's.
        let path = node_feature_path(&self.namespace, &self.node);
        let request = ApiRequest::apply(&path, LABEL_MANAGER, true, &self.object(wanted));
        self.api.send(&request).await?;
        Ok(())
    }
}
