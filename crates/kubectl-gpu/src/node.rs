//! What a Node says of its GPUs: the agent's annotation, which may be anybody's, and labels.

use serde::Deserialize;
use status::{BRIEF_VERSION, NodeBrief, Timestamp};

use crate::api::{Column, ObjectMeta, Table, TableRow};
use crate::names::{GPU_LABELS, SUMMARY, SUMMARY_MANAGER};

/// The longest summary that is read, in bytes: those of newer agents may be longer than this one's.
const MAX_SUMMARY: usize = 16 << 10;

/// The longest reason why one cannot be read, in characters.
const MAX_REASON: usize = 160;

/// A Node, as far as this program shows it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NodeView {
    pub(crate) name: String,
    /// As `kubectl get nodes` has it: `Ready`, `NotReady,SchedulingDisabled`.
    pub(crate) status: String,
    /// The version of its kubelet.
    pub(crate) kubelet: String,
    /// Whether a label says that it has GPUs.
    pub(crate) has_gpu_label: bool,
    pub(crate) summary: Summary,
    /// When the summary last changed, as the API server noted it.
    pub(crate) changed: Option<Timestamp>,
}

/// The summary of a node.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Summary {
    /// There is none.
    Missing,
    /// There is one that this program cannot read, and why.
    Unreadable(String),
    Read(NodeBrief),
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

impl NodeView {
    /// Of a row of the table of Nodes.
    pub(crate) fn of(columns: &[Column], row: &TableRow) -> Self {
        let metadata = &row.object.metadata;
        let cell = |name| Table::cell(columns, row, name).to_owned();
        let is_of_gpu = |(label, begin): (&str, &str)| {
            metadata.labels.get(label).is_some_and(|value| value.starts_with(begin))
        };
        Self {
            name: metadata.name.clone(),
            status: cell("Status"),
            kubelet: cell("Version"),
            has_gpu_label: GPU_LABELS.into_iter().any(is_of_gpu),
            summary: metadata.annotations.get(SUMMARY).map_or(Summary::Missing, Summary::read),
            changed: changed(metadata),
        }
    }

    /// Whether it is to be shown where nodes with GPUs are.
    pub(crate) fn has_gpus(&self) -> bool {
        let says_none = |brief: &NodeBrief| brief.gpus == Some(0) && brief.problems.is_empty();
        self.has_gpu_label
            || match &self.summary {
                Summary::Missing => false,
                Summary::Unreadable(_) => true,
                Summary::Read(brief) => !says_none(brief),
            }
    }

    /// Whether the kubelet of the node tells the API server that it works, as far as is known.
    pub(crate) fn is_ready(&self) -> bool {
        self.status.is_empty() || self.status.split(',').any(|word| word == "Ready")
    }
}

impl Summary {
    fn read(text: &str) -> Self {
        if text.len() > MAX_SUMMARY {
            return Self::unreadable(&format!("it is longer than {MAX_SUMMARY} bytes"));
        }
        let none = |error| Self::unreadable(&format!("no summary of the agent: {error}"));
        // The version first: another one may have parts that this program cannot read.
        let version = match serde_json::from_str(text) {
            Ok(Version { version }) => version,
            Err(error) => return none(error),
        };
        match serde_json::from_str(text) {
            Ok(brief) => Self::Read(brief),
            Err(error) if version == BRIEF_VERSION => none(error),
            Err(_) => {
                let age = if version > BRIEF_VERSION { "newer" } else { "older" };
                let known = format!("version {BRIEF_VERSION}, which this program knows");
                Self::unreadable(&format!("version {version}, {age} than {known}"))
            }
        }
    }

    fn unreadable(why: &str) -> Self {
        Self::Unreadable(why.chars().take(MAX_REASON).collect())
    }
}

/// When the agent's annotation last changed.
fn changed(metadata: &ObjectMeta) -> Option<Timestamp> {
    let mut managers = metadata.managed_fields.iter();
    let time = managers.find(|fields| fields.manager == SUMMARY_MANAGER)?.time.clone()?;
    serde_json::from_value(time.into()).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn view(metadata: Value) -> NodeView {
        let table = json!({"kind": "Table", "columnDefinitions": [
            {"name": "Name"}, {"name": "Status"}, {"name": "Version"},
        ], "rows": [{"cells": ["node-a", "Ready", "v1.33.1"], "object": {"metadata": metadata}}]});
        let table: Table = serde_json::from_value(table).unwrap();
        NodeView::of(&table.column_definitions, &table.rows[0])
    }

    fn annotated(summary: &str) -> NodeView {
        view(json!({"name": "node-a", "annotations": {SUMMARY: summary, "other": "x"}}))
    }

    #[test]
    fn a_node_is_read_from_its_row() {
        let text = r#"{"version":1,"gpus":8,"healthy":8,"held":2,"plugin":"0.1.0"}"#;
        let node = view(json!({
            "name": "node-a",
            "annotations": {SUMMARY: text},
            "managedFields": [
                {"manager": "kubelet", "time": "2026-01-01T00:00:00Z"},
                {"manager": SUMMARY_MANAGER, "time": "2026-11-28T03:12:00Z"},
            ],
        }));
        assert_eq!((&*node.name, &*node.status, &*node.kubelet), ("node-a", "Ready", "v1.33.1"));
        assert_eq!(node.changed.unwrap().to_string(), "2026-11-28T03:12:00.000Z");
        assert!(node.has_gpus() && node.is_ready() && !node.has_gpu_label);
        let Summary::Read(brief) = node.summary else { panic!("{:?}", node.summary) };
        assert_eq!((brief.gpus, brief.healthy, brief.held), (Some(8), 8, Some(2)));
    }

    #[test]
    fn what_is_no_summary_is_said_and_shown_as_a_node_with_gpus() {
        let long = format!("{:?}", "\u{1b}[2J".repeat(64 << 10));
        let of_type = r#"{"version":1,"healthy":"all","plugin":7}"#;
        for (text, expected) in [
            ("", "no summary of the agent"),
            ("[]", "no summary of the agent"),
            (r#"{"healthy":8}"#, "missing field `version`"),
            (of_type, "invalid type"),
            (r#"{"version":2,"gpus":"8"}"#, "version 2, newer than version 1"),
            (r#"{"version":0}"#, "version 0, older than version 1"),
            (&long, "longer than 16384 bytes"),
            (&format!(r#"{{"version":1,"healthy":"{}"}}"#, "x".repeat(9_000)), "invalid type"),
            (&"[".repeat(10_000), "no summary of the agent"),
        ] {
            let node = annotated(text);
            let Summary::Unreadable(why) = &node.summary else { panic!("{text}: {node:?}") };
            assert!(why.contains(expected) && why.len() < 300, "{why}");
            assert!(node.has_gpus());
        }
    }

    #[test]
    fn a_newer_summary_with_the_same_fields_is_read() {
        let node = annotated(r#"{"version":2,"gpus":1,"healthy":1,"plugin":"2","new":[1]}"#);
        assert!(matches!(node.summary, Summary::Read(NodeBrief { gpus: Some(1), .. })));
    }

    #[test]
    fn labels_tell_of_gpus_where_no_agent_does() {
        let labelled = |name: &str, value: &str| view(json!({"labels": {name: value}})).has_gpus();
        assert!(labelled("nvidia.com/gpu.present", "true"));
        assert!(labelled("feature.node.kubernetes.io/pci-10de.present", "true"));
        assert!(labelled("cloud.google.com/gke-accelerator", "nvidia-h100-80gb"));
        assert!(!labelled("nvidia.com/gpu.present", "false"));
        assert!(!labelled("cloud.google.com/gke-accelerator", "tpu"));
        assert!(!labelled("kubernetes.io/os", "linux"));
        assert!(!annotated(r#"{"version":1,"gpus":0,"healthy":0,"plugin":"1"}"#).has_gpus());
        assert!(annotated(r#"{"version":1,"healthy":0,"plugin":"1"}"#).has_gpus());
    }
}
