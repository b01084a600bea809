//! A problem in the schema: something that is wrong, with all GPUs that it affects.

use serde::{Deserialize, Serialize};

use super::time::{Timestamp, duration};

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// One of a fixed set of words, for programs.
    pub kind: String,
    /// What it is wrong with, for people: "GPU 7", "GPUs 0 to 7", "NVML", "nvidia.com/gpu"; or what
    /// was found.
    pub subject: String,
    /// What is wrong, in two or three words after the subject: "lost"; of a finding, nothing.
    pub short: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub remedy: Option<String>,
    /// Since when, if that is known; of several GPUs, since the first.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub since: Option<Timestamp>,
    /// Whether it is known from before a restart of the plugin.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub remembered: bool,
    /// The UUIDs of the GPUs that it affects.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub gpus: Vec<String>,
    /// The containers that hold these GPUs.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub holders: Vec<Holder>,
}

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Severity {
    /// It keeps GPUs from pods.
    Error,
    /// It needs a person, and keeps no GPU from pods.
    Warning,
    /// A word that a newer plugin has and this program does not know.
    #[serde(other)]
    Other,
}

/// A container that holds a device.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Holder {
    /// The namespace of its pod.
    pub namespace: String,
    /// Its pod.
    pub pod: String,
    /// Its name.
    pub container: String,
}

impl Problem {
    /// What is wrong with what: "GPU 7 lost".
    #[must_use]
    pub fn title(&self) -> String {
        format!("{} {}", self.subject, self.short).trim_end().to_owned()
    }

    /// In a few words: "GPU 7 lost since 03:12 UTC".
    #[must_use]
    pub fn brief(&self, now: Timestamp) -> String {
        let since = self.since.map(|since| format!(" since {}", since.clock(now)));
        format!("{}{}", self.title(), since.unwrap_or_default())
    }

    /// Since when, with how long that is: "since 03:12 UTC (4 h, from before a restart)".
    #[must_use]
    pub fn since_when(&self, now: Timestamp) -> Option<String> {
        let since = self.since?;
        let restart = if self.remembered { ", from before a restart of the plugin" } else { "" };
        Some(format!("since {} ({}{restart})", since.clock(now), duration(now.since(since))))
    }

    /// The pods that hold the GPUs, each once: "ml/train-0, ml/train-1".
    #[must_use]
    pub fn pods(&self) -> String {
        let mut pods: Vec<String> =
            self.holders.iter().map(|of| format!("{}/{}", of.namespace, of.pod)).collect();
        pods.sort();
        pods.dedup();
        pods.join(", ")
    }
}
