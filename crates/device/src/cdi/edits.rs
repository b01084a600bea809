//! What a specification adds to a container.

use std::collections::BTreeSet;

/// Additions to a container. In order, since a runtime carries them out in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerEdits {
    /// Environment variables, `NAME=value`.
    pub env: Vec<String>,
    /// Device nodes.
    pub nodes: Vec<SpecNode>,
    /// Programs that are run while the container is made.
    pub hooks: Vec<SpecHook>,
    /// Mounts.
    pub mounts: Vec<SpecMount>,
    /// Groups that the container's process has beside its own.
    pub groups: Vec<u32>,
}

/// A device node in a container, for reading, writing and making it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecNode {
    /// Its path in the container.
    pub path: String,
    /// Its path on the host.
    pub host: String,
    /// `None`: the runtime looks at the node on the host.
    pub numbers: Option<NodeNumbers>,
}

/// What a character device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeNumbers {
    /// The major number.
    pub major: u32,
    /// The minor number.
    pub minor: u32,
    /// The permissions of its file.
    pub mode: u32,
    /// The group of its file.
    pub gid: u32,
}

impl SpecNode {
    /// The group that a process has to have, if not everybody may read and write the node.
    fn needed_group(&self) -> Option<u32> {
        let NodeNumbers { mode, gid, .. } = self.numbers?;
        (gid != 0 && mode & 0o006 != 0o006).then_some(gid)
    }
}

/// A bind mount of a specification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecMount {
    /// The path on the host.
    pub host: String,
    /// The path in the container.
    pub container: String,
    /// What is mounted.
    pub kind: MountKind,
}

/// What is mounted, from which the options of the mount follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountKind {
    /// A file of the driver, which a container only reads.
    File,
    /// A socket, or a directory with pipes, through which it talks to a daemon of the host.
    Socket,
}

impl MountKind {
    /// The options of the mount.
    #[must_use]
    pub const fn options(self) -> &'static [&'static str] {
        match self {
            Self::File => &["ro", "nosuid", "nodev", "rbind", "rprivate"],
            Self::Socket => &["nosuid", "nodev", "rbind", "rprivate", "noexec"],
        }
    }
}

/// When a runtime runs a hook (OCI runtime specification, config.md "POSIX-platform Hooks").
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HookStage {
    /// On the host's side, when the container has its cgroup: `createRuntime`.
    CreateRuntime,
    /// In the container's mount namespace, when its mounts are made: `createContainer`.
    #[default]
    CreateContainer,
}

impl HookStage {
    /// Its name in a specification.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CreateRuntime => "createRuntime",
            Self::CreateContainer => "createContainer",
        }
    }
}

/// A program of the host that the runtime runs while it makes the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecHook {
    /// When it is run.
    pub stage: HookStage,
    /// Its path on the host.
    pub path: String,
    /// Its arguments, the first being its own name.
    pub args: Vec<String>,
    /// Its environment, `NAME=value`.
    pub env: Vec<String>,
    /// After how many seconds the runtime ends it; `None`: never.
    pub timeout: Option<u32>,
}

impl ContainerEdits {
    /// Adds the groups that a process needs for the nodes.
    pub(super) fn add_groups(&mut self) {
        let groups: BTreeSet<u32> = self.nodes.iter().filter_map(SpecNode::needed_group).collect();
        self.groups = groups.into_iter().collect();
    }

    /// Whether they add nothing: a runtime refuses a device of which that is so, and with it the
    /// whole file.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.env.is_empty()
            && self.nodes.is_empty()
            && self.hooks.is_empty()
            && self.mounts.is_empty()
            && self.groups.is_empty()
    }
}
