//! The device nodes of the host other than those of the GPUs, and the driver's capability numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use device::injection::{CONTROL_NODES, Capability, HostNodes, IMEX_CHANNEL};

/// Where the host's files are mounted in our container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roots {
    /// The driver's root.
    pub driver: PathBuf,
    /// procfs.
    pub proc: PathBuf,
}

impl Roots {
    /// Reads what is there now. There are thousands of capability numbers, so they are only read if
    /// they are wanted.
    #[must_use]
    pub fn read(&self, capabilities_wanted: bool) -> HostNodes {
        let dev = self.dev_root();
        HostNodes {
            control: CONTROL_NODES
                .into_iter()
                .filter(|node| below(dev, node).exists())
                .collect::<BTreeSet<_>>(),
            imex_channel: is_char_device(&below(dev, IMEX_CHANNEL))
                || is_char_device(Path::new(IMEX_CHANNEL)),
            capabilities: if capabilities_wanted { self.capabilities() } else { BTreeMap::new() },
        }
    }

    /// The driver's root if it has a `/dev`, else our own.
    #[must_use]
    pub fn dev_root(&self) -> &Path {
        if self.driver.join("dev").is_dir() { &self.driver } else { Path::new("/") }
    }

    /// The driver's capability numbers.
    pub(super) fn capabilities(&self) -> BTreeMap<Capability, u32> {
        let text =
            fs::read_to_string(self.proc.join("driver/nvidia-caps/mig-minors")).unwrap_or_default();
        text.lines().filter_map(capability).collect()
    }
}

fn below(root: &Path, node: &str) -> PathBuf {
    root.join(node.trim_start_matches('/'))
}

fn is_char_device(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.file_type().is_char_device())
}

/// A line of mig-minors: `gpu0/gi1/access 12` or `gpu0/gi1/ci0/access 13`. The lines `config` and
/// `monitor` are of no use to containers.
fn capability(line: &str) -> Option<(Capability, u32)> {
    let (path, number) = line.trim().split_once(' ')?;
    let mut parts = path.strip_suffix("/access")?.split('/');
    let mut part =
        |prefix: &str| parts.next().map(|part| part.strip_prefix(prefix)?.parse::<u32>().ok());
    let (minor, gpu_instance, compute_instance) = (part("gpu")??, part("gi")??, part("ci"));
    let compute_instance = match compute_instance {
        Some(id) => Some(id?),
        None => None,
    };
    Some((Capability { minor, gpu_instance, compute_instance }, number.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read_from_mig_minors() {
        let of = |line: &str| {
            capability(line).map(|(c, n)| (c.minor, c.gpu_instance, c.compute_instance, n))
        };
        assert_eq!(of("gpu0/gi1/access 12"), Some((0, 1, None, 12)));
        assert_eq!(of("gpu7/gi14/ci3/access 3000"), Some((7, 14, Some(3), 3000)));
        for other in [
            "config 1",
            "monitor 2",
            "",
            "gpu0/access 3",
            "gpux/gi1/access 12",
            "gpu0/gi1/cix/access 1",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    /// NVIDIA's plugin, "1.16 Lifecycle, discovery, platforms": dev root.
    #[test]
    fn nodes_are_read_from_the_drivers_root_if_it_has_any() {
        let root = tempfile::tempdir().unwrap();
        let roots = Roots { driver: root.path().join("driver"), proc: root.path().join("proc") };
        assert_eq!(roots.dev_root(), Path::new("/"));
        let channel = roots.driver.join("dev/nvidia-caps-imex-channels");
        fs::create_dir_all(&channel).unwrap();
        fs::write(roots.driver.join("dev/nvidiactl"), "").unwrap();
        assert_eq!(roots.read(true).control.into_iter().collect::<Vec<_>>(), ["/dev/nvidiactl"]);
        std::os::unix::fs::symlink("/dev/null", channel.join("channel0")).unwrap();
        assert!(roots.read(true).imex_channel);
    }
}
