//! Which distribution of Kubernetes a node runs, by files that only it has.

use std::path::Path;

use crate::doctor::facts::{DistributionFacts, KubernetesDistribution};
use crate::host::file::{self, Links};
use crate::host::root::resolve_in_root;

/// What os-release(5) may have; it is some hundred bytes.
const MOST_BYTES: usize = 16 << 10;
/// Where os-release(5) is; the second place for systems whose `/etc` is made at each boot.
const OS_RELEASE: [&str; 2] = ["etc/os-release", "usr/lib/os-release"];
/// Operating systems by their `ID` of os-release(5).
const SYSTEMS: [(&str, KubernetesDistribution); 2] = [
    ("bottlerocket", KubernetesDistribution::Bottlerocket),
    ("talos", KubernetesDistribution::Talos),
];
/// Files and directories below the host's root that one distribution alone makes. A cloud's come
/// before those of what may be installed there by hand, and kubeadm's last, since others call it.
const SIGNS: [(&str, KubernetesDistribution); 9] = [
    // Of the machine config daemon.
    ("etc/machine-config-daemon", KubernetesDistribution::OpenShift),
    // The kubelet and the driver of all node images.
    ("home/kubernetes/bin", KubernetesDistribution::Gke),
    // Of the node images: bootstrap.sh or nodeadm, and the credential provider.
    ("etc/eks", KubernetesDistribution::Eks),
    // The scripts that join a node.
    ("opt/azure/containers", KubernetesDistribution::Aks),
    ("var/lib/rancher/rke2", KubernetesDistribution::Rke2),
    ("var/lib/rancher/k3s", KubernetesDistribution::K3s),
    ("var/snap/microk8s", KubernetesDistribution::MicroK8s),
    ("var/lib/k0s", KubernetesDistribution::K0s),
    ("var/lib/kubelet/kubeadm-flags.env", KubernetesDistribution::Kubeadm),
];

/// The distribution, as far as the host's files are seen.
pub(super) fn distribution(host_root: &Path) -> DistributionFacts {
    let by_os_release = OS_RELEASE.iter().find_map(|place| Some((place, id(host_root, place)?)));
    let by_system = by_os_release.as_ref().and_then(|(place, id)| {
        let (_, system) = SYSTEMS.iter().find(|(known, _)| known == id)?;
        Some((*system, format!("ID={id} in /{place}")))
    });
    let is_there = |sign: &str| resolve_in_root(host_root, Path::new(sign)).is_ok();
    let by_sign = || {
        let (sign, of_sign) = SIGNS.iter().find(|(sign, _)| is_there(sign))?;
        Some((*of_sign, format!("/{sign} is there")))
    };
    match (by_system.or_else(by_sign), by_os_release) {
        (Some((known, sign)), _) => DistributionFacts::Known(known, sign),
        (None, Some((_, id))) => DistributionFacts::Other(id),
        (None, None) => DistributionFacts::NotSeen,
    }
}

/// The `ID` of an os-release(5), without quotes; `linux` where it has none.
fn id(host_root: &Path, place: &str) -> Option<String> {
    let file = resolve_in_root(host_root, Path::new(place)).ok()?;
    let bytes = file::read(&file, Links::Refuse, MOST_BYTES).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix("ID=")).unwrap_or_default();
    let id = value.trim().trim_matches(['"', '\'']);
    Some(if id.is_empty() { "linux".to_owned() } else { id.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// A host's root with these files; a path that ends with a slash is a directory.
    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let here = root.path().join(path);
            if path.ends_with('/') {
                fs::create_dir_all(here).unwrap();
            } else {
                fs::create_dir_all(here.parent().unwrap()).unwrap();
                fs::write(here, text).unwrap();
            }
        }
        root
    }

    #[test]
    fn each_distribution_is_recognised_by_what_it_alone_has() {
        use KubernetesDistribution::*;
        const KUBEADM: (&str, &str) = ("var/lib/kubelet/kubeadm-flags.env", "");
        for (files, expected, sign) in [
            (
                &[("etc/os-release", "NAME=Bottlerocket\nID=bottlerocket\n")][..],
                Bottlerocket,
                "ID=",
            ),
            // EKS runs on it, and what is particular is the operating system.
            (&[("etc/os-release", "ID=bottlerocket"), ("etc/eks/", "")], Bottlerocket, "ID="),
            (&[("usr/lib/os-release", "ID=\"talos\"\nVERSION_ID=v1.11.0\n")], Talos, "/usr/lib"),
            (&[("etc/os-release", "ID='talos'\r\n")], Talos, "/etc/os-release"),
            (&[("etc/machine-config-daemon/", "")], OpenShift, "/etc/machine-config-daemon"),
            (
                &[("etc/os-release", "ID=cos"), ("home/kubernetes/bin/", "")],
                Gke,
                "/home/kubernetes",
            ),
            (&[("etc/os-release", "ID=\"amzn\""), ("etc/eks/", "")], Eks, "/etc/eks is there"),
            (&[("opt/azure/containers/", ""), KUBEADM], Aks, "/opt/azure/containers"),
            (&[("var/lib/rancher/rke2/", ""), ("var/lib/rancher/k3s/", "")], Rke2, "rke2 is there"),
            (&[("var/lib/rancher/k3s/", "")], K3s, "k3s is there"),
            (&[("var/snap/microk8s/", "")], MicroK8s, "/var/snap/microk8s"),
            (&[("var/lib/k0s/", "")], K0s, "/var/lib/k0s"),
            (&[("etc/os-release", "ID=debian\n"), KUBEADM], Kubeadm, "kubeadm-flags.env"),
        ] {
            let root = root(files);
            let DistributionFacts::Known(found, by) = distribution(root.path()) else {
                panic!("{files:?} is none");
            };
            assert_eq!(found, expected, "{files:?}");
            assert!(by.contains(sign), "{by}");
            let document = Path::new(env!("CARGO_MANIFEST_DIR")).join(found.document());
            let text = fs::read_to_string(&document).unwrap();
            assert!(text.contains(found.name()), "{} is not about it", found.document());
        }
    }

    #[test]
    fn what_is_no_sign_is_taken_for_none() {
        const STRANGE: &str = "ID=bottlerocketx\nVARIANT_ID=bottlerocket\n";
        for (files, id) in [
            (&[("etc/os-release", "ID=ubuntu\nNAME=talos\n")][..], "ubuntu"),
            (&[("etc/os-release", "ID=\n")], "linux"),
            (&[("etc/os-release", "NAME=x\n")], "linux"),
            (&[("etc/os-release", STRANGE)], "bottlerocketx"),
            (&[("etc/os-release", "ID=rhel"), ("etc/kubernetes/", "")], "rhel"),
        ] {
            let other = DistributionFacts::Other(id.to_owned());
            assert_eq!(distribution(root(files).path()), other, "{files:?}");
        }
    }

    #[test]
    fn without_an_os_release_the_hosts_files_are_not_seen() {
        const NONE: DistributionFacts = DistributionFacts::NotSeen;
        for files in [
            &[][..],
            &[("etc/os-release/", "")],
            &[("etc/debian_version", "12.11"), ("var/lib/kubelet/", "")],
        ] {
            assert_eq!(distribution(root(files).path()), NONE, "{files:?}");
        }
        // More than any system has, and a link that leads to this machine's own file.
        let root = root(&[("etc/os-release", &"# talos\n".repeat(MOST_BYTES))]);
        assert_eq!(distribution(root.path()), NONE);
        fs::remove_file(root.path().join("etc/os-release")).unwrap();
        symlink("/etc/hostname", root.path().join("etc/os-release")).unwrap();
        assert_eq!(distribution(root.path()), NONE);
    }
}
