//! NVIDIA's GPU feature discovery and the master of node feature discovery, as far as they label
//! Nodes: by the source of NFD 0.19, pkg/nfd-master.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::rig::{NODE, NODE_PATH, Rig};

/// Where the master keeps the names of its labels.
pub(crate) const LISTED: &str = "nfd.node.kubernetes.io/feature-labels";
/// Those by which DaemonSets choose nodes while node feature discovery is there.
pub(crate) const PCI: &str = "feature.node.kubernetes.io/pci-10de.present";
const FEATURES: &str = "/apis/nfd.k8s-sigs.io/v1alpha1/namespaces/default/nodefeatures";

/// The path of the object of a name.
pub(crate) fn feature(name: &str) -> String {
    format!("{FEATURES}/{name}-{NODE}")
}

pub(crate) type Labels = BTreeMap<String, String>;

/// What GPU feature discovery says of the node with one H200. Its timestamp is an older one, and it
/// does not know `gpu.present`.
pub(crate) async fn of_gfd(rig: &Rig) -> Labels {
    let (status, lines) = rig.agent(&["labels"]).wait().await;
    assert!(status.success(), "{lines:?}");
    let pairs = lines.iter().map(|line| line.split_once('=').unwrap());
    let mut labels: Labels = pairs.map(|(name, value)| (name.into(), value.into())).collect();
    labels.remove("nvidia.com/gpu.present").unwrap();
    labels.insert("nvidia.com/gfd.timestamp".into(), "1".into()).unwrap();
    labels
}

/// The master of node feature discovery.
#[derive(Default)]
pub(crate) struct Nfd {
    /// What its worker reads, in the order of their names.
    pub(crate) files: Vec<PathBuf>,
}

impl Nfd {
    /// GPU feature discovery's object, as that program makes it.
    pub(crate) fn add_gfd(rig: &Rig, labels: &Labels) {
        let object = json!({
            "metadata": {
                "labels": {"nfd.node.kubernetes.io/node-name": NODE},
                "ownerReferences": [{"kind": "DaemonSet", "name": "gpu-feature-discovery"}],
            },
            "spec": {"labels": labels},
        });
        rig.api.apply_as("gpu-feature-discovery", &feature("nvidia-features-for"), &object);
    }

    /// The pods of GPU feature discovery go, and with them what they own.
    pub(crate) fn remove_gfd(rig: &Rig) {
        for name in ["nvidia-features-for", "nvidia-gpu-features-for"] {
            let path = feature(name);
            let owners = |object: &Value| !object["metadata"]["ownerReferences"].is_null();
            if rig.api.object(&path).is_some_and(|object| owners(&object)) {
                rig.api.remove(&path);
            }
        }
    }

    /// The labels that the Node is to have of it.
    fn wanted(&self, rig: &Rig) -> Labels {
        let mut wanted = Labels::from([(PCI.to_owned(), "true".to_owned())]);
        for file in &self.files {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            let lines = text.lines().filter(|line| !line.starts_with('#'));
            let pairs = lines.filter_map(|line| line.split_once('='));
            wanted.extend(pairs.map(|(name, value)| (name.into(), value.into())));
        }
        for name in ["nvidia-features-for", "nvidia-gpu-features-for"] {
            let object = rig.api.object(&feature(name)).unwrap_or_default();
            let labels = object["spec"]["labels"].as_object().into_iter().flatten();
            let labels = labels.map(|(name, value)| (name.clone(), value.as_str().unwrap().into()));
            wanted.extend(labels);
        }
        wanted
    }

    /// It looks at the node once.
    pub(crate) fn pass(&self, rig: &Rig) {
        self.publish(rig, &self.wanted(rig));
    }

    /// What its chart does after an uninstallation.
    pub(crate) fn prune(&self, rig: &Rig) {
        self.publish(rig, &Labels::new());
    }

    /// Patches what differs, and removes what it has once set, whoever owns it.
    fn publish(&self, rig: &Rig, wanted: &Labels) {
        rig.api.update_as("nfd-master", NODE_PATH, |node| {
            let listed = node["metadata"]["annotations"][LISTED].as_str().unwrap_or_default();
            let listed: BTreeSet<String> = listed.split(',').map(str::to_owned).collect();
            let labels = node["metadata"]["labels"].as_object_mut().unwrap();
            labels.retain(|name, _| wanted.contains_key(name) || !listed.contains(name));
            for (name, value) in wanted {
                labels.insert(name.clone(), value.clone().into());
            }
            let names: Vec<&str> = wanted.keys().map(String::as_str).collect();
            let metadata = node["metadata"].as_object_mut().unwrap();
            if names.is_empty() {
                metadata.remove("annotations");
            } else {
                metadata.insert("annotations".into(), json!({LISTED: names.join(",")}));
            }
        });
    }
}

/// Checks what the Node was after each write since it had them all: with all of these labels.
pub(crate) fn never_without<'a>(rig: &Rig, names: impl IntoIterator<Item = &'a String> + Clone) {
    let missing = |node: &Value| {
        let labels = &node["metadata"]["labels"];
        let mut names = names.clone().into_iter();
        names.find(|name| labels[name.as_str()].is_null()).cloned()
    };
    let revisions = rig.api.revisions(NODE);
    let complete = revisions.iter().position(|node| missing(node).is_none());
    let complete = complete.expect("the Node never had them all");
    for (number, node) in revisions.iter().enumerate().skip(complete) {
        assert_eq!(missing(node), None, "after write {number} of {}: {node:#}", revisions.len());
    }
}
