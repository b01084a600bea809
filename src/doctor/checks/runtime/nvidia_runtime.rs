//! NVIDIA's container runtime: in the configuration of the container runtime, and its own settings.

use device::injection::DeviceListStrategy;

use crate::doctor::facts::{ContainerRuntime, EffectiveSettings, Facts};
use crate::doctor::finding::{Check, Finding, Group};

const HANDLER: Check = Check::new(Group::Runtime, "runtime.handler", "NVIDIA's container runtime");
const TOOLKIT: Check =
    Check::new(Group::Runtime, "runtime.toolkit", "the settings of NVIDIA's container runtime");
const TURN_MOUNTS_ON: &str = "nvidia-ctk config --in-place --set \
                              accept-nvidia-visible-devices-as-volume-mounts=true on the node";

/// Whether a container runtime starts containers with it.
pub(super) fn handler(runtime: &ContainerRuntime, settings: &EffectiveSettings) -> Finding {
    let mut missing = runtime.nvidia.iter().filter_map(|(name, path)| Some((name, path.as_ref()?)));
    if let Some((handler, path)) = missing.next() {
        let path = path.display();
        let seen = format!("{} has the runtime {handler}, and {path} is not there", runtime.name);
        return HANDLER
            .problem(seen)
            .why("a pod that is to be started by it is not started at all")
            .fix(
                "install NVIDIA's Container Toolkit on the node, or correct the path in the \
                 runtime's configuration",
            );
    }
    let finding = match (runtime.nvidia.keys().next(), runtime.default.as_deref()) {
        (None, _) => not_configured(runtime),
        (_, Some(default)) if runtime.nvidia.contains_key(default) => {
            return HANDLER.ok(format!("{default} is the default runtime of {}", runtime.name));
        }
        (Some(handler), default) => not_default(runtime, handler, default),
    };
    let named_by = match settings.strategies.contains(&DeviceListStrategy::Envvar) {
        true => "NVIDIA_VISIBLE_DEVICES",
        false => "the mounts that name GPUs",
    };
    finding.why(format!(
        "a container that another runtime starts does not see its GPU: nothing reads {named_by}"
    ))
}

fn not_configured(runtime: &ContainerRuntime) -> Finding {
    let files: Vec<String> = runtime.files.iter().map(|file| file.display().to_string()).collect();
    let files = match files.is_empty() {
        true => "no configuration file".to_owned(),
        false => files.join(", "),
    };
    HANDLER.problem(format!("{} does not know it ({files})", runtime.name)).fix(format!(
        "install NVIDIA's Container Toolkit on the node, then: {}. Or use CDI \
         (--device-list-strategy)",
        configure(runtime)
    ))
}

fn not_default(runtime: &ContainerRuntime, handler: &str, default: Option<&str>) -> Finding {
    let default = default.map_or("none is set".to_owned(), |default| format!("that is {default}"));
    let handlers: Vec<&str> = runtime.nvidia.keys().map(String::as_str).collect();
    let seen = format!(
        "{} knows it as {}, and not as the default runtime ({default})",
        runtime.name,
        handlers.join(", ")
    );
    HANDLER.warning(seen).fix(format!(
        "set runtimeClassName: {handler} in each pod that wants GPUs (with a RuntimeClass whose \
         handler is {handler}), or make it the default: {}",
        configure(runtime)
    ))
}

/// What makes NVIDIA's runtime known to a container runtime, and its default.
fn configure(runtime: &ContainerRuntime) -> &'static str {
    match runtime.name {
        "CRI-O" => {
            "nvidia-ctk runtime configure --runtime=crio --set-as-default && systemctl restart crio"
        }
        "docker" => {
            "nvidia-ctk runtime configure --runtime=docker --set-as-default && systemctl restart \
             docker"
        }
        "containerd of k3s" => {
            "systemctl restart k3s (on an agent k3s-agent), which then finds the toolkit and \
             writes the runtime into its own configuration; its flag --default-runtime=nvidia \
             makes it the default"
        }
        "containerd of RKE2" => {
            "systemctl restart rke2-agent (on a server rke2-server), which then finds the toolkit \
             and writes the runtime into its own configuration; its setting default-runtime: \
             nvidia makes it the default"
        }
        "containerd of MicroK8s" => "microk8s enable nvidia",
        "containerd of k0s" => {
            "nvidia-ctk runtime configure --runtime=containerd --set-as-default \
             --config=/etc/k0s/containerd.d/nvidia.toml && systemctl restart k0sworker"
        }
        "containerd of Talos" => {
            "add the system extension nvidia-container-toolkit to the machine's image, and set \
             the default runtime by a patch of /etc/cri/conf.d/20-customization.part"
        }
        _ => {
            "nvidia-ctk runtime configure --runtime=containerd --set-as-default && systemctl \
             restart containerd"
        }
    }
}

/// Whether the settings of NVIDIA's container runtime let the strategies work.
pub(super) fn toolkit(facts: &Facts) -> Option<Finding> {
    let strategies = &facts.settings.strategies;
    let mounts = strategies.contains(&DeviceListStrategy::VolumeMounts);
    let Some(toolkit) = &facts.runtimes.toolkit else {
        // Without a file the defaults apply: variables are accepted, mounts are not.
        let no_file = TOOLKIT
            .problem("there is no /etc/nvidia-container-runtime/config.toml")
            .why("the strategy volume-mounts needs a setting there that is off by default")
            .fix(TURN_MOUNTS_ON);
        return mounts.then_some(no_file);
    };
    let file = toolkit.file.display();
    Some(if let Some(error) = &toolkit.problem {
        TOOLKIT
            .unknown(format!("{file}: {error}"))
            .why("NVIDIA's runtime does not start containers if it cannot read its configuration")
            .fix("correct the file, or create it again: nvidia-ctk config > FILE")
    } else if mounts && toolkit.volume_mounts != Some(true) {
        TOOLKIT
            .problem(format!("{file}: accept-nvidia-visible-devices-as-volume-mounts is off"))
            .why(
                "NVIDIA's runtime then ignores the mounts with which the strategy volume-mounts \
                 names GPUs",
            )
            .fix(TURN_MOUNTS_ON)
    } else if !mounts && toolkit.envvar == Some(false) {
        TOOLKIT
            .problem(format!(
                "{file}: accept-nvidia-visible-devices-envvar-when-unprivileged is off"
            ))
            .why(
                "NVIDIA's runtime then ignores NVIDIA_VISIBLE_DEVICES of pods that are not \
                 privileged",
            )
            .fix(
                "use --device-list-strategy=volume-mounts (with \
                 accept-nvidia-visible-devices-as-volume-mounts = true), or turn the setting on",
            )
    } else {
        TOOLKIT.ok(format!("{file} lets the strategy work"))
    })
}
