//! The kubelet as it is seen from outside.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::node::DirectoryState;

/// The kubelet as it is seen from outside.
#[derive(Debug, Clone)]
pub struct KubeletFacts {
    /// The plugin directory.
    pub directory: PathBuf,
    /// The state of that directory.
    pub state: DirectoryState,
    /// The registration socket; `None`: the plugin is configured never to register.
    pub socket: Option<(PathBuf, SocketProbe)>,
    /// Other sockets in the directory.
    pub others: Vec<PluginSocket>,
    /// How many devices of each resource the kubelet's checkpoint has; or why that is not known.
    pub checkpoint: Result<BTreeMap<String, usize>, String>,
    /// Its version, major and minor.
    pub version: Option<(u32, u32)>,
    /// The podresources socket; `None`: it is configured not to be used.
    pub pod_resources: Option<(PathBuf, SocketProbe)>,
}

/// Whether a program answers on a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SocketProbe {
    /// One does.
    Answers,
    /// The socket is not there.
    Missing,
    /// Something else is there.
    NotASocket,
    /// No program listens on it.
    Refused,
    /// A program listens, and does not answer in time.
    TimedOut,
    /// Another error.
    Failed(String),
}

impl SocketProbe {
    /// Whether a program listens on the socket.
    pub(in crate::doctor) fn is_served(&self) -> bool {
        matches!(self, Self::Answers | Self::TimedOut | Self::Failed(_))
    }

    /// What is wrong with the socket at `path`; `None`: it answers.
    pub(in crate::doctor) fn problem(&self, path: &Path) -> Option<String> {
        let path = path.display();
        match self {
            Self::Answers => None,
            Self::Missing => Some(format!("{path} is not there")),
            Self::NotASocket => Some(format!("{path} is no socket")),
            Self::Refused => Some(format!("{path} is there and nobody listens on it")),
            Self::TimedOut => Some(format!("{path}: somebody listens, and does not answer")),
            Self::Failed(error) => Some(format!("{path}: {error}")),
        }
    }
}

/// A socket of a device plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginSocket {
    /// Its file name.
    pub name: String,
    /// The part of the file name that stands for the resource, if it is named as ours are.
    pub ours: Option<String>,
    /// Whether it answers.
    pub probe: SocketProbe,
    /// The program that listens, if it can be seen.
    pub process: Option<String>,
}
