//! The programs whose hooks CDI specifications name, or would.

use std::path::Path;

use device::cdi::HookProgram;

use crate::cdi::HookMode;
use crate::config::Config;
use crate::doctor::facts::{HookFacts, OwnHookFacts, OwnHookProgram};
use crate::host::driver_files::DriverRoot;
use crate::host::driver_files::hook_program::{self, HookPath, HookVersions};
use crate::host::hook_install::{HookPaths, InstalledProgram};

/// What is seen of them.
pub(super) fn hooks(config: &Config, host_root: &Path) -> HookFacts {
    let (path, is_set) = (config.cdi.hook_path.as_str(), config.cdi.hook_path_is_set);
    let root = DriverRoot { here: host_root, host: "/" };
    let find = || hook_program::find(root, HookPath { path, is_set }, &mut HookVersions::default());
    let (mode, paths) = (config.cdi.hook_mode, &config.process.hook);
    let of_host = if mode == HookMode::Own { None } else { find() };
    // As the plugin decides it.
    let is_own_called = of_host.is_none()
        && match mode {
            HookMode::Host => false,
            HookMode::Own => true,
            HookMode::Auto => paths.directory.exists(),
        };
    let own = is_own_called.then(|| own_hook(paths));
    let called = of_host.or_else(|| usable(own.as_ref()?));
    HookFacts { called, is_host_alone: mode == HookMode::Host, own }
}

fn own_hook(paths: &HookPaths) -> OwnHookFacts {
    let found = paths.examine();
    let program = found.program.map(|InstalledProgram { path, is_there, difference }| {
        OwnHookProgram { path, is_there, difference }
    });
    OwnHookFacts { directory: paths.directory.clone(), problem: found.directory.err(), program }
}

/// The plugin's own program, if it can be called.
fn usable(own: &OwnHookFacts) -> Option<HookProgram> {
    let installed = own.program.as_ref().ok().filter(|program| program.is_there)?;
    let path = installed.path.display().to_string();
    own.problem.is_none().then_some(HookProgram { path, version: None, is_own: true })
}
