//! Hosts as distributions lay them out, and what the doctor makes of their container runtimes.

use std::fs;
use std::path::Path;

use device::injection::DeviceListStrategy;

use super::runtimes;
use crate::doctor::checks::of_runtimes;
use crate::doctor::facts::EffectiveSettings;
use crate::doctor::finding::{Finding, Level};

/// NVIDIA's runtime as the default of containerd 1.7, and of 2.
const NVIDIA: &str = r#"
version = 2
[plugins."io.containerd.grpc.v1.cri".containerd]
default_runtime_name = "nvidia"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia.options]
BinaryName = "/usr/bin/nvidia-container-runtime"
"#;
const NVIDIA_2: &str = r#"
version = 3
[plugins."io.containerd.cri.v1.runtime".containerd]
default_runtime_name = "nvidia"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.nvidia.options]
BinaryName = "/usr/bin/nvidia-container-runtime"
"#;
const PLAIN: &str = "version = 2\n";
/// What docker's packages install.
const DOCKERS: &str = "disabled_plugins = [\"cri\"]\n";
const CRIO: &str = "[crio.runtime]\ndefault_runtime = \"nvidia\"\n[crio.runtime.runtimes.nvidia]\n\
                    runtime_path = \"/usr/bin/nvidia-container-runtime\"\n";

const OF_HOST: &str = "etc/containerd/config.toml";
const OF_K3S: &str = "var/lib/rancher/k3s/agent/etc/containerd/config.toml";
const OF_RKE2: &str = "var/lib/rancher/rke2/agent/etc/containerd/config.toml";
const SOCKET: &str = "run/containerd/containerd.sock";
const RANCHERS_SOCKET: &str = "run/k3s/containerd/containerd.sock";

/// The findings about the runtimes of a host with these files.
fn findings(files: &[(&str, &str)]) -> Vec<Finding> {
    let host = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let file = host.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    };
    write("usr/bin/nvidia-container-runtime", "");
    files.iter().for_each(|(name, text)| write(name, text));
    let settings = EffectiveSettings {
        strategies: [DeviceListStrategy::Envvar].into(),
        host_root: host.path().to_owned(),
        ..Default::default()
    };
    of_runtimes(&runtimes(Path::new(host.path())), &settings)
}

/// The worst level, and the findings for a failed test.
#[track_caller]
fn is(what: &str, files: &[(&str, &str)], level: Level, seen: &str) {
    let findings = findings(files);
    let worst = findings.iter().map(|finding| finding.level).max();
    assert_eq!(worst, Some(level), "{what}: {findings:#?}");
    let has = findings.iter().any(|finding| finding.seen.contains(seen));
    assert!(has, "{what}: {findings:#?}");
}

#[test]
fn the_runtime_that_serves_the_kubelet_is_judged() {
    use Level::{Ok, Problem, Unknown};
    is("kubeadm", &[(OF_HOST, NVIDIA), (SOCKET, "")], Ok, "default runtime of containerd");
    is("containerd 2", &[(OF_HOST, NVIDIA_2), (SOCKET, "")], Ok, "nvidia is the default");
    is("without it", &[(OF_HOST, PLAIN), (SOCKET, "")], Problem, "containerd does not know it");
    is(
        "docker's containerd beside k3s",
        &[(OF_HOST, DOCKERS), (SOCKET, ""), (OF_K3S, NVIDIA), (RANCHERS_SOCKET, "")],
        Ok,
        "default runtime of containerd of k3s",
    );
    is(
        "the host's is ready, that of RKE2 is not",
        &[(OF_HOST, NVIDIA), (OF_RKE2, PLAIN), (RANCHERS_SOCKET, "")],
        Problem,
        "containerd of RKE2 does not know it",
    );
    is(
        "two that a kubelet can use",
        &[(OF_HOST, NVIDIA), (SOCKET, ""), (OF_RKE2, PLAIN), (RANCHERS_SOCKET, "")],
        Unknown,
        "which of containerd and containerd of RKE2 the kubelet uses cannot be seen",
    );
    is(
        "MicroK8s",
        &[
            ("var/snap/microk8s/current/args/containerd.toml", NVIDIA),
            ("var/snap/microk8s/common/run/containerd.sock", ""),
        ],
        Ok,
        "of MicroK8s",
    );
    is(
        "k0s with a drop-in",
        &[
            (
                "etc/k0s/containerd.toml",
                "version = 2\nimports = [\"/etc/k0s/containerd.d/*.toml\"]\n",
            ),
            ("etc/k0s/containerd.d/nvidia.toml", NVIDIA),
            ("run/k0s/containerd.sock", ""),
        ],
        Ok,
        "of k0s",
    );
    is(
        "Talos, whose usual file is that of the system's containerd",
        &[
            (OF_HOST, PLAIN),
            ("etc/cri/containerd.toml", "version = 3\nimports = [\"/etc/cri/conf.d/cri.toml\"]\n"),
            ("etc/cri/conf.d/cri.toml", NVIDIA_2),
            (SOCKET, ""),
        ],
        Ok,
        "of Talos",
    );
    is(
        "CRI-O",
        &[("etc/crio/crio.conf.d/99-nvidia.conf", CRIO), ("run/crio/crio.sock", "")],
        Ok,
        "CRI-O",
    );
    is("CRI-O elsewhere", &[("run/crio/crio.sock", "")], Unknown, "no configuration was found");
    is("containerd elsewhere", &[(SOCKET, "")], Unknown, "no configuration was found");
    is(
        "docker",
        &[(
            "etc/docker/daemon.json",
            "{\"default-runtime\": \"nvidia\", \"runtimes\": {\"nvidia\": {\"path\": \
             \"nvidia-container-runtime\"}}}",
        )],
        Ok,
        "default runtime of docker",
    );
    is("nothing", &[], Unknown, "no sign of one");
}

#[test]
fn imports_are_followed_as_containerd_follows_them() {
    let relative = "version = 2\nimports = [\"conf.d/*.toml\"]\n";
    is(
        "relative to the file, by pattern",
        &[(OF_HOST, relative), ("etc/containerd/conf.d/99-nvidia.toml", NVIDIA)],
        Level::Ok,
        "nvidia is the default",
    );
    is(
        "one that imports another, relative to itself",
        &[
            (OF_HOST, "version = 2\nimports = [\"conf.d/a.toml\"]\n"),
            ("etc/containerd/conf.d/a.toml", "imports = [\"b.toml\"]\n"),
            ("etc/containerd/conf.d/b.toml", NVIDIA),
        ],
        Level::Ok,
        "nvidia is the default",
    );
    is(
        "in a circle",
        &[(OF_HOST, "version = 2\nimports = [\"config.toml\", \"/etc/containerd/config.toml\"]\n")],
        Level::Problem,
        "does not know it",
    );
    is(
        "one that is not there",
        &[(OF_HOST, "version = 2\nimports = [\"gone.toml\"]\n")],
        Level::Unknown,
        "gone.toml",
    );
    is(
        "a later one counts",
        &[
            (OF_HOST, "version = 2\nimports = [\"a.toml\", \"b.toml\"]\n"),
            ("etc/containerd/a.toml", NVIDIA),
            (
                "etc/containerd/b.toml",
                "[plugins.\"io.containerd.grpc.v1.cri\".containerd]\n\
                 default_runtime_name = \"runc\"\n",
            ),
        ],
        Level::Warning,
        "that is runc",
    );
}

#[test]
fn the_runtime_that_the_kubelet_names_is_the_one() {
    let hosts = [(OF_HOST, NVIDIA), (SOCKET, ""), (OF_RKE2, PLAIN), (RANCHERS_SOCKET, "")];
    let with = |place: &'static str, text: &'static str| {
        hosts.iter().copied().chain([(place, text)]).collect::<Vec<_>>()
    };
    let flags = "var/lib/kubelet/kubeadm-flags.env";
    is(
        "kubeadm's flags",
        &with(
            flags,
            "KUBELET_KUBEADM_ARGS=\"--container-runtime-endpoint=unix:///var/run/containerd/\
             containerd.sock --pod-infra-container-image=pause\"\n",
        ),
        Level::Ok,
        "default runtime of containerd",
    );
    is(
        "the kubelet's file",
        &with(
            "var/lib/kubelet/config.yaml",
            "kind: KubeletConfiguration\n\
             containerRuntimeEndpoint: unix:///run/k3s/containerd/containerd.sock\n",
        ),
        Level::Problem,
        "of RKE2",
    );
    is(
        "a name of none that is known",
        &with(flags, "KUBELET_KUBEADM_ARGS=\"--container-runtime-endpoint=unix:///run/x.sock\"\n"),
        Level::Unknown,
        "cannot be seen",
    );
}
