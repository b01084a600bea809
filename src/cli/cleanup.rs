//! `cleanup`: removes what the plugin has written on this node, after it was uninstalled.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use device::in_use::holders::Holder;
use status::escaped;

use super::output::{print, print_error};
use super::run;
use crate::cdi::clean_up;
use crate::config::{Config, ConfigSource};
use crate::host::written_file::{self, Fate, WrittenFile};
use crate::kubelet::device_plugin::socket;
use crate::kubelet::pod_resources;
use crate::observe::client;

/// How long a plugin may take to answer.
const DEADLINE: Duration = Duration::from_secs(3);
/// How the files of the state directory begin: health and its copies, the name of the
/// configuration, and the sockets.
const STATE_FILES: [&str; 4] = ["health.json", "config-name", "status.sock", "control.sock"];
/// How many pods are named.
const SHOWN: usize = 3;

/// The arguments of `cleanup`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub struct CleanupArgs {
    /// Remove nothing, and say what would be removed.
    #[arg(long)]
    pub dry_run: bool,
    /// Also remove what the plugin remembers of health, in --state-dir.
    #[arg(long)]
    pub state: bool,
    /// Also remove what containers that hold GPUs may need, and where that cannot be told.
    #[arg(long)]
    pub force: bool,
}

/// Removes what the plugin has written on this node, and says what went and what stays.
pub fn cleanup(args: CleanupArgs, source: &mut ConfigSource) -> ExitCode {
    let (config, _) = source.load_lossy();
    let needed = match run(async { needed(&config, args.force).await }) {
        Ok(needed) => needed,
        Err(why) => {
            print_error(&format!("nothing was removed: {why}"));
            return ExitCode::FAILURE;
        }
    };
    let mut found = files(&config, needed.as_deref(), args.state);
    let (mut text, mut code) = (String::new(), 0);
    for file in &mut found {
        if let (Fate::Remove, false) = (&file.fate, args.dry_run)
            && let Err(error) = written_file::remove(&file.path)
        {
            file.fate = Fate::Needed(format!("it cannot be removed: {error}"));
        }
        code |= u8::from(matches!(file.fate, Fate::Needed(_)));
        text += &(escaped(&line(file, args.dry_run)).into_owned() + "\n");
    }
    for file in directories(&config, &found, &args) {
        text += &(escaped(&line(&file, args.dry_run)).into_owned() + "\n");
    }
    if text.is_empty() {
        text = "there is nothing of the plugin here\n".to_owned();
    }
    print(&text, code)
}

fn line(file: &WrittenFile, is_dry_run: bool) -> String {
    let path = file.path.display();
    match (&file.fate, is_dry_run) {
        (Fate::Remove, false) => format!("removed {path}"),
        (Fate::Remove, true) => format!("would remove {path}"),
        (Fate::Needed(why) | Fate::Keep(why), _) => format!("left {path}: {why}"),
    }
}

/// Why files that containers with GPUs are made with may not go, if so.
///
/// # Errors
/// The plugin runs, and would write them again.
async fn needed(config: &Config, is_forced: bool) -> Result<Option<String>, String> {
    let endpoints = config.process.status_endpoints();
    let answer = client::get(&endpoints, "/status", DEADLINE).await;
    if answer.is_ok_and(|answer| answer.code == 200) {
        return Err(
            "the plugin runs on this node, and would write it again: uninstall it first".to_owned()
        );
    }
    if is_forced {
        return Ok(None);
    }
    let Some(socket) = &config.process.pod_resources_socket else {
        return Ok(Some(unknown("no --pod-resources-socket is set")));
    };
    Ok(match pod_resources::holders(socket).await {
        Ok(holders) => held(&holders),
        Err(error) => Some(unknown(&format!("{}: {error}", socket.display()))),
    })
}

fn unknown(why: &str) -> String {
    format!("it cannot be told whether pods hold GPUs ({why}); --force removes it all the same")
}

/// A container that is started again needs the specification of its GPU.
fn held(holders: &BTreeSet<Holder>) -> Option<String> {
    let shown: Vec<String> = holders.iter().take(SHOWN).map(Holder::to_string).collect();
    let more = holders.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    (!shown.is_empty()).then(|| {
        format!("containers hold GPUs and may be started again: {}{more}", shown.join(", "))
    })
}

/// What the plugin has written: specifications, hook programs that no other specification names,
/// sockets that nobody serves, and the state, if it is to go.
fn files(config: &Config, needed: Option<&str>, with_state: bool) -> Vec<WrittenFile> {
    let process = &config.process;
    let specifications = &process.cdi_spec_dir;
    let mut found = clean_up::written_files(specifications, needed);
    let gone: Vec<_> = found.iter().filter(|file| file.fate == Fate::Remove).collect();
    let gone: Vec<&Path> = gone.iter().map(|file| file.path.as_path()).collect();
    let programs = process.hook.installed().into_iter().map(|path| {
        let named = clean_up::naming(specifications, &gone, &path);
        let named = named.map(|file| format!("{} names it", file.display()));
        let needed = needed.map(str::to_owned).or(named);
        WrittenFile { path, fate: needed.map_or(Fate::Remove, Fate::Needed) }
    });
    let programs: Vec<_> = programs.collect();
    found.extend(programs);
    found.extend(socket::stale(&process.plugin.directory).into_iter().map(WrittenFile::remove));
    let state = process.state_dir.iter().flat_map(|directory| state_files(directory));
    found.extend(state.map(|file| match with_state {
        true => file,
        false => WrittenFile::keep(file.path, "--state removes what the plugin remembers"),
    }));
    found
}

fn state_files(directory: &Path) -> Vec<WrittenFile> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let is_own = |name: &str| STATE_FILES.iter().any(|begins| name.starts_with(begins));
    let own = entries.filter(|entry| entry.file_name().to_str().is_some_and(is_own));
    let mut paths: Vec<_> = own.map(|entry| entry.path()).collect();
    paths.sort();
    paths.into_iter().map(WrittenFile::remove).collect()
}

/// The directories that are the plugin's alone: they go where nothing stays in them.
fn directories(config: &Config, files: &[WrittenFile], args: &CleanupArgs) -> Vec<WrittenFile> {
    let process = &config.process;
    let of_state = [process.quarantine_dir.as_deref(), process.state_dir.as_deref()];
    let of_state = of_state.into_iter().flatten().filter(|_| args.state);
    let own = [process.hook.directory.as_path()].into_iter().chain(of_state);
    let gone = files.iter().filter(|file| file.fate == Fate::Remove);
    let mut gone: BTreeSet<PathBuf> = gone.map(|file| file.path.clone()).collect();
    let mut found = Vec::new();
    for path in own.filter(|path| fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir())) {
        let fate = of_directory(path, &gone, args.dry_run);
        if fate == Fate::Remove {
            gone.insert(path.to_owned());
        }
        found.push(WrittenFile { path: path.to_owned(), fate });
    }
    found
}

fn of_directory(path: &Path, gone: &BTreeSet<PathBuf>, is_dry_run: bool) -> Fate {
    let mut entries = fs::read_dir(path).into_iter().flatten().flatten();
    match entries.find(|entry| !gone.contains(&entry.path())) {
        Some(other) => Fate::Keep(format!("{} is in it", other.path().display())),
        None if is_dry_run => Fate::Remove,
        None => written_file::remove(path).map_or_else(
            // In a pod it is a mount, which the node alone can take away.
            |error| Fate::Keep(format!("it is empty, and cannot be removed from here: {error}")),
            |()| Fate::Remove,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(pod: &str) -> Holder {
        let [namespace, container] = ["default", "main"].map(str::to_owned);
        Holder { namespace, pod: pod.to_owned(), container }
    }

    #[test]
    fn who_holds_gpus_is_said_in_a_line() {
        assert_eq!(held(&BTreeSet::new()), None);
        let some = held(&[holder("a")].into()).unwrap();
        assert!(some.ends_with(": default/a/main"), "{some}");
        let many = held(&["a", "b", "c", "d", "e"].map(holder).into()).unwrap();
        assert!(many.ends_with("default/c/main and 2 more"), "{many}");
    }

    #[test]
    fn a_line_says_what_became_of_a_file_and_why() {
        let file = |fate| WrittenFile { path: "/a".into(), fate };
        for (fate, is_dry_run, expected) in [
            (Fate::Remove, false, "removed /a"),
            (Fate::Remove, true, "would remove /a"),
            (Fate::Keep("not ours".to_owned()), false, "left /a: not ours"),
            (Fate::Needed("held".to_owned()), true, "left /a: held"),
        ] {
            assert_eq!(line(&file(fate), is_dry_run), expected);
        }
    }
}
