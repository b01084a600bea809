//! What sharing by MPS needs on the node.

use std::path::PathBuf;

/// Sharing by MPS, as it is seen from here.
#[derive(Debug, Clone)]
pub struct MpsFacts {
    /// The resources that MPS shares.
    pub daemons: Vec<MpsDaemonFacts>,
    /// The control program, by which daemons are asked, if it is there.
    pub program: Option<PathBuf>,
    /// What NVIDIA's runtime was to bring into this container (`NVIDIA_DRIVER_CAPABILITIES`).
    pub capabilities: Option<String>,
    /// Where the daemons' directories are.
    pub directory: MpsDirectory,
    /// Whether the shared memory of clients is a file system of its own; `None`: it cannot be told.
    pub shm_mounted: Option<bool>,
    /// What a control daemon at the default pipes, `/tmp/nvidia-mps`, answers, if one is there: it
    /// is none of a resource.
    pub foreign: Option<String>,
}

/// The directory of the control daemons, in this container or on this node.
#[derive(Debug, Clone)]
pub struct MpsDirectory {
    /// Its path.
    pub path: PathBuf,
    /// Whether it is there.
    pub exists: bool,
    /// Whether it can be that of the node: it has the node's path, or is mounted.
    pub is_of_node: bool,
}

/// The control daemon of a resource.
#[derive(Debug, Clone)]
pub struct MpsDaemonFacts {
    /// The resource.
    pub resource: String,
    /// What its control daemon answers: its default share of threads.
    pub answer: Result<String, String>,
    /// What its supervisor tells, if it is one of ours and runs.
    pub supervisor: Option<Result<(), String>>,
    /// What share of threads a client is to have; `None`: all.
    pub threads: Option<u32>,
}
