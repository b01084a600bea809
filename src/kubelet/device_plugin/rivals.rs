//! Other device plugins on this node that serve a resource of this one.
//!
//! The kubelet has one plugin for a resource: the last that registered. It tells neither of the
//! other, and the socket of a plugin does not say which resource it serves. So a rival is found by
//! one of two signs: a socket that is served and named as this plugin, NVIDIA's or GKE's names that
//! of the resource; or one that was made shortly before the kubelet ended its stream to us, though
//! the kubelet went on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use device::names::ResourceName;

use super::socket::{PluginPaths, is_served, resource_of};
use crate::host::file_id::FileId;

/// The most sockets that are looked at: no node has nearly as many.
const MAX_SOCKETS: usize = 64;
/// A plugin registers so soon after it has made its socket.
const REGISTERS_WITHIN: Duration = Duration::from_secs(10);

/// One resource of this plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnResource {
    /// Its name.
    pub name: ResourceName,
    /// The name of the socket that it is served on.
    pub endpoint: Option<String>,
    /// When the kubelet last ended its stream, though it went on itself.
    pub stream_ended: Option<SystemTime>,
}

/// The names of the sockets of other plugins, by the resource that they serve.
pub type Rivals = BTreeMap<ResourceName, BTreeSet<String>>;

/// Looks for rivals, and remembers those that only an ended stream has given away.
#[derive(Debug, Default)]
pub struct RivalSearch {
    given_away: Vec<(FileId, ResourceName)>,
}

impl RivalSearch {
    /// The rivals that are there now. It may wait for the file system.
    #[must_use]
    pub fn look(&mut self, paths: &PluginPaths, own: &[OwnResource]) -> Rivals {
        let mut rivals = Rivals::new();
        let mut still_there = Vec::new();
        for name in sockets(paths) {
            let path = paths.directory.join(&name);
            let is_own = own.iter().any(|of| of.endpoint.as_deref() == Some(&*name));
            if is_own || !is_served(&path) {
                continue;
            }
            let Ok(Some(id)) = FileId::of(&path) else { continue };
            let resource = match served_by(&name, own) {
                Some(resource) => resource.clone(),
                None => match self.given_away(id, &path, own) {
                    Some(resource) => {
                        still_there.push((id, resource.clone()));
                        resource
                    }
                    None => continue,
                },
            };
            rivals.entry(resource).or_default().insert(name);
        }
        self.given_away = still_there;
        rivals
    }

    /// The resource that a socket took from us, by an ended stream.
    #[allow(clippy::disallowed_methods, reason = "on the thread that looks for other plugins")]
    fn given_away(&self, id: FileId, path: &Path, own: &[OwnResource]) -> Option<ResourceName> {
        if let Some((_, resource)) = self.given_away.iter().find(|(known, _)| *known == id) {
            return Some(resource.clone());
        }
        let file = fs::metadata(path).ok()?;
        let made = file.created().or_else(|_| file.modified()).ok()?;
        let took = |of: &&OwnResource| {
            let lasted = of.stream_ended.and_then(|ended| ended.duration_since(made).ok());
            lasted.is_some_and(|lasted| lasted <= REGISTERS_WITHIN)
        };
        own.iter().find(took).map(|of| of.name.clone())
    }
}

/// The names of the sockets in the plugin directory, without the kubelet's.
#[allow(clippy::disallowed_methods, reason = "on the thread that looks for other plugins")]
fn sockets(paths: &PluginPaths) -> Vec<String> {
    let entries = fs::read_dir(&paths.directory).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let names = names.filter(|name| name.ends_with(".sock"));
    let is_kubelet = |name: &String| paths.kubelet.as_ref() == Some(&paths.directory.join(name));
    let mut names: Vec<String> = names.filter(|name| !is_kubelet(name)).take(MAX_SOCKETS).collect();
    names.sort();
    names
}

/// The resource of ours that a socket of this name serves, by the ways in which this plugin,
/// NVIDIA's (`nvidia-gpu.sock`: k8s-device-plugin, internal/plugin/server.go) and GKE's
/// (`nvidiaGPU-1700000000.sock`: container-engine-accelerators, cmd/nvidia_gpu) name theirs.
fn served_by<'o>(name: &str, own: &'o [OwnResource]) -> Option<&'o ResourceName> {
    let stem = name.strip_suffix(".sock")?;
    let of_gke = stem.strip_prefix("nvidiaGPU-").filter(|rest| !rest.is_empty());
    let is_number = |rest: &str| rest.bytes().all(|byte| byte.is_ascii_digit());
    let base = match (resource_of(name), of_gke) {
        (Some(ours), _) => ours,
        (None, Some(rest)) if is_number(rest) => "gpu",
        _ => stem.strip_prefix("nvidia-")?,
    };
    own.iter().map(|of| &of.name).find(|name| name.base() == base)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn own(stream_ended: Option<SystemTime>) -> Vec<OwnResource> {
        let endpoint = Some("nvidia-gpu-aaaaaaaa.sock".to_owned());
        let name = ResourceName::gpu();
        let mig: ResourceName = "nvidia.com/mig-1g.10gb".parse().unwrap();
        let of_mig = OwnResource { name: mig, endpoint: None, stream_ended: None };
        vec![OwnResource { name, endpoint, stream_ended }, of_mig]
    }

    fn paths(directory: &Path) -> PluginPaths {
        let kubelet = Some(directory.join("kubelet.sock"));
        PluginPaths { directory: directory.to_owned(), kubelet }
    }

    /// What is found, as text.
    fn found(rivals: &Rivals) -> Vec<String> {
        let of = |(resource, names): (&ResourceName, &BTreeSet<String>)| {
            names.iter().map(|name| format!("{resource} {name}")).collect::<Vec<_>>()
        };
        rivals.iter().flat_map(of).collect()
    }

    #[test]
    fn a_rival_is_a_served_socket_that_is_named_after_a_resource_of_ours() {
        let directory = tempfile::tempdir().unwrap();
        let bind = |name: &str| UnixListener::bind(directory.path().join(name)).unwrap();
        let paths = paths(directory.path());
        let _not_rivals = [
            "kubelet.sock",
            "nvidia-gpu-aaaaaaaa.sock",
            "nvidia-hostdev.sock",
            "nvidia-mig-2g.20gb.sock",
            "amd-gpu.sock",
            "nvidiaGPU-.sock",
        ]
        .map(bind);
        drop(bind("nvidia-gpu.sock"));
        std::fs::write(directory.path().join("nvidia-gpu-bbbbbbbb.sock"), "").unwrap();
        let mut search = RivalSearch::default();
        assert!(search.look(&paths, &own(None)).is_empty(), "a dead socket is no rival");
        std::fs::remove_file(directory.path().join("nvidia-gpu.sock")).unwrap();
        let rivals = [
            "nvidia-gpu.sock",
            "nvidia-gpu-cccccccc.sock",
            "nvidia-mig-1g.10gb.sock",
            "nvidiaGPU-1700000000.sock",
        ]
        .map(bind);
        let expected = [
            "nvidia.com/gpu nvidia-gpu-cccccccc.sock",
            "nvidia.com/gpu nvidia-gpu.sock",
            "nvidia.com/gpu nvidiaGPU-1700000000.sock",
            "nvidia.com/mig-1g.10gb nvidia-mig-1g.10gb.sock",
        ];
        assert_eq!(found(&search.look(&paths, &own(None))), expected);
        drop(rivals);
        assert!(search.look(&paths, &own(None)).is_empty(), "they are gone");
    }

    #[test]
    fn whatever_its_name_a_socket_before_which_the_stream_went_on_is_a_rival() {
        let directory = tempfile::tempdir().unwrap();
        let paths = paths(directory.path());
        let old = UnixListener::bind(directory.path().join("another.sock")).unwrap();
        let file = fs::metadata(directory.path().join("another.sock")).unwrap();
        let made = file.created().or_else(|_| file.modified()).unwrap();
        let mut search = RivalSearch::default();
        let after = |seconds| Some(made + Duration::from_secs(seconds));
        assert!(search.look(&paths, &own(Some(made - REGISTERS_WITHIN))).is_empty());
        assert!(search.look(&paths, &own(after(60))).is_empty(), "it was there long before");
        let expected = ["nvidia.com/gpu another.sock"];
        assert_eq!(found(&search.look(&paths, &own(after(2)))), expected);
        assert_eq!(found(&search.look(&paths, &own(after(60)))), expected, "it is remembered");
        drop(old);
        assert!(search.look(&paths, &own(after(2))).is_empty());
    }
}
