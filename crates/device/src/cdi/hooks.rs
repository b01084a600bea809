//! The hooks: programs of the host that a runtime runs while it makes a container. Those of
//! NVIDIA's toolkit and the plugin's own have the same names and arguments, but for one.

use std::collections::BTreeSet;

use super::edits::{HookStage, SpecHook};
use super::host::{DriverFiles, FileLink, HookProgram};
use crate::names::PciBusId;

const CREATE_SYMLINKS: &str = "create-symlinks";
const UPDATE_LDCACHE: &str = "update-ldcache";
const ENABLE_CUDA_COMPAT: &str = "enable-cuda-compat";
const DISABLE_NODE_MODIFICATION: &str = "disable-device-node-modification";
/// Restricts EGL and Vulkan, which find GPUs by other ways than device nodes, to the container's.
const UPDATE_APPLICATION_PROFILE: &str = "update-application-profile";
/// NVIDIA's takes the limits from the container's environment, where a pod can set them: only the
/// plugin's own is called.
const APPLY_MEMORY_LIMITS: &str = "apply-cuda-memory-limits";

/// After so many seconds a runtime ends the plugin's own program, which ends itself before that
/// (crates/cdi-hook, `DEADLINE`). The kubelet gives a runtime two minutes for a container. NVIDIA's
/// specifications set none, and how long its programs may take is not known.
const OWN_TIMEOUT: u32 = 90;

/// The hooks that are called.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hooks<'a> {
    pub(super) program: Option<&'a HookProgram>,
    /// Names of hooks that are left out; `all`: every one.
    pub(super) disabled: &'a BTreeSet<String>,
}

impl Hooks<'_> {
    /// Makes symbolic links in the container; `None` without links, or without the hook.
    pub(super) fn create_symlinks<'l>(
        self,
        links: impl IntoIterator<Item = &'l FileLink>,
    ) -> Option<SpecHook> {
        let links = links.into_iter();
        let args: Vec<String> = links
            .flat_map(|link| ["--link".to_owned(), format!("{}::{}", link.target, link.path)])
            .collect();
        (!args.is_empty()).then(|| self.hook(CREATE_SYMLINKS, args)).flatten()
    }

    /// Whether the container gets symbolic links.
    pub(super) fn creates_symlinks(self) -> bool {
        self.program.is_some() && !self.is_disabled(CREATE_SYMLINKS)
    }

    /// The hooks that every container with a GPU needs, in their order.
    pub(super) fn common(self, files: &DriverFiles) -> Vec<SpecHook> {
        let folders = files.library_directories.iter();
        let folders: Vec<String> =
            folders.flat_map(|folder| ["--folder".to_owned(), folder.clone()]).collect();
        let cuda_compat = self
            .program
            .filter(|program| program.is_known_good())
            .and(files.version.as_ref())
            .map(|version| vec![format!("--host-driver-version={version}")])
            .and_then(|args| self.hook(ENABLE_CUDA_COMPAT, args));
        let ldcache = (!folders.is_empty()).then(|| self.hook(UPDATE_LDCACHE, folders)).flatten();
        let nodes = self
            .program
            .filter(|program| program.is_known_good())
            .and_then(|_| self.hook(DISABLE_NODE_MODIFICATION, Vec::new()));
        let profile = self
            .program
            .filter(|program| program.has_application_profiles())
            .and_then(|_| self.hook(UPDATE_APPLICATION_PROFILE, Vec::new()));
        [self.create_symlinks(&files.links), cuda_compat, ldcache, nodes, profile]
            .into_iter()
            .flatten()
            .collect()
    }

    /// Limits the memory of a GPU; `None` where the program cannot, or the hook is off.
    pub(super) fn memory_limit(self, bus: PciBusId, bytes: u64) -> Option<SpecHook> {
        let args = vec![format!("--limit={bus}={bytes}")];
        let hook = self.program.filter(|program| program.is_own);
        let hook = hook.and_then(|_| self.hook(APPLY_MEMORY_LIMITS, args))?;
        // The cgroup is the host's affair, and the container's first process has another number in
        // the container.
        Some(SpecHook { stage: HookStage::CreateRuntime, ..hook })
    }

    fn hook(self, name: &str, args: Vec<String>) -> Option<SpecHook> {
        let program = self.program.filter(|_| !self.is_disabled(name))?;
        let own = program.path.rsplit('/').next().unwrap_or_default();
        // The one program has hooks alone, the other has them as one of its commands.
        let words = if own == "nvidia-ctk" { vec![own, "hook", name] } else { vec![own, name] };
        Some(SpecHook {
            stage: HookStage::CreateContainer,
            path: program.path.clone(),
            args: words.into_iter().map(str::to_owned).chain(args).collect(),
            env: vec!["NVIDIA_CTK_DEBUG=false".to_owned()],
            timeout: program.is_own.then_some(OWN_TIMEOUT),
        })
    }

    fn is_disabled(self, name: &str) -> bool {
        self.disabled.contains("all") || self.disabled.contains(name)
    }
}
