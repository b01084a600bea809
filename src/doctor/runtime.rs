//! Whether what Allocate answers becomes a GPU in the container: NVIDIA's container runtime, or
//! CDI.

use std::collections::BTreeSet;

use device::injection::{DeviceIdStrategy, DeviceListStrategy};

use super::driver::count;
use super::facts::{Asked, Facts, Runtime, Runtimes, Survey};
use super::finding::{Finding, Group};

const GROUP: Group = Group::Runtime;
const HANDLER: &str = "NVIDIA's container runtime";
const CDI: &str = "CDI specifications";
/// The kind of the CDI devices that the plugin names.
const GPU_KIND: &str = "k8s.device-plugin.nvidia.com/gpu";

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let strategies = &facts.settings.strategies;
    let by_runtime = strategies.contains(&DeviceListStrategy::Envvar)
        || strategies.contains(&DeviceListStrategy::VolumeMounts);
    let by_cdi = strategies.contains(&DeviceListStrategy::CdiAnnotations)
        || strategies.contains(&DeviceListStrategy::CdiCri);
    let mut findings = Vec::new();
    let used = in_use(&facts.runtimes);
    if used.is_empty() {
        let root = facts.settings.host_root.display();
        return vec![
            Finding::unknown(
                GROUP,
                "runtime.found",
                "the container runtime",
                format!("no sign of one below {root}"),
            )
            .why("the plugin names GPUs, and the container runtime brings them in")
            .fix("name the place where the host's root is mounted with --host-root"),
        ];
    }
    for runtime in used {
        if let Some(trouble) = &runtime.trouble {
            findings.push(
                Finding::unknown(GROUP, "runtime.config", runtime.name, trouble.clone())
                    .why("what cannot be read cannot be judged, and perhaps not by the runtime either")
                    .fix("correct the file, or run the doctor where it can read it"),
            );
            continue;
        }
        if by_runtime {
            findings.push(handler(runtime, strategies.contains(&DeviceListStrategy::Envvar)));
        }
        if by_cdi {
            findings.push(takes_cdi(runtime));
        }
    }
    if by_runtime {
        findings.extend(toolkit(&facts.runtimes, strategies));
    }
    if by_cdi {
        findings.extend(specs(facts));
    }
    findings.extend(cdi_of_kubelet(facts));
    findings.extend(facts.runtimes.mps.iter().map(mps));
    findings
}

/// The kubelet takes CDI names from plugins since 1.28, by a feature gate that is on from 1.29 on
/// (KEP-4009).
fn cdi_of_kubelet(facts: &Facts) -> Option<Finding> {
    const ID: &str = "runtime.kubelet";
    const CHECKED: &str = "CDI names in the kubelet's API";
    let version = facts.kubelet.version?;
    let alone = facts.settings.strategies.iter().eq([&DeviceListStrategy::CdiCri]);
    (facts.settings.strategies.contains(&DeviceListStrategy::CdiCri) && version < (1, 29)).then(
        || {
            let seen = format!("the kubelet is {}.{}", version.0, version.1);
            let finding = match alone {
                true => Finding::problem(GROUP, ID, CHECKED, seen),
                false => Finding::warning(GROUP, ID, CHECKED, seen),
            };
            finding
            .why("a kubelet before 1.29 passes over the CDI names that the strategy cdi-cri gives, \
                unless told otherwise")
            .fix("use cdi-annotations, upgrade the kubelet, or turn on its feature gate \
                DevicePluginCDIDevices (1.28)")
        },
    )
}

fn mps((resource, answer): &(String, Result<String, String>)) -> Finding {
    const ID: &str = "runtime.mps";
    let checked = format!("the MPS control daemon of {resource}");
    match answer {
        Ok(percentage) => Finding::ok(GROUP, ID, &checked, format!("answers: {percentage} % of the \
            threads")),
        Err(why) => Finding::problem(GROUP, ID, &checked, why.clone())
            .why("a client of MPS without its daemon hangs, so the resource is not offered until \
                it answers")
            .fix("run NVIDIA's MPS control daemon on the node, and mount its directory at /mps in the plugin's container"),
    }
}

/// Those whose socket is there; or, where none is to be seen, all that have a configuration.
fn in_use(runtimes: &Runtimes) -> Vec<&Runtime> {
    let all = || runtimes.runtimes.iter();
    match all().any(|runtime| runtime.socket) {
        true => all().filter(|runtime| runtime.socket).collect(),
        false => all().collect(),
    }
}

fn handler(runtime: &Runtime, envvar: bool) -> Finding {
    const ID: &str = "runtime.handler";
    let name = runtime.name;
    let files: Vec<String> = runtime.files.iter().map(|file| file.display().to_string()).collect();
    let files =
        if files.is_empty() { "no configuration file".to_owned() } else { files.join(", ") };
    let variable = if envvar { "NVIDIA_VISIBLE_DEVICES" } else { "the mounts that name GPUs" };
    let why = format!(
        "a container that another runtime starts does not see its GPU: nobody reads {variable}"
    );
    let tool = match name {
        "CRI-O" => "crio",
        name => name,
    };
    if runtime.nvidia.is_empty() {
        return Finding::problem(
            GROUP,
            ID,
            HANDLER,
            format!(
                "{name} does not know it ({files})"
            ),
        )
        .why(why)
        .fix(format!(
            "install NVIDIA's Container Toolkit on the node, then: nvidia-ctk runtime configure \
             --runtime={tool} --set-as-default && systemctl restart {tool}. Or hand devices over \
             by CDI (--device-list-strategy)"
        ));
    }
    let absent = runtime.nvidia.iter().find_map(|(handler, program)| {
        program
            .path
            .as_ref()
            .filter(|_| !program.exists)
            .map(|path| (handler, path.display().to_string()))
    });
    if let Some((handler, path)) = absent {
        return Finding::problem(
            GROUP,
            ID,
            HANDLER,
            format!("{name} has the runtime {handler}, and {path} is not there"),
        )
        .why("a pod that is to be started by it is not started at all")
        .fix(
            "install NVIDIA's Container Toolkit on the node, or correct the path in the runtime's \
            configuration",
        );
    }
    let handlers: Vec<&str> = runtime.nvidia.keys().map(String::as_str).collect();
    match runtime.default.as_deref() {
        Some(default) if runtime.nvidia.contains_key(default) => {
            Finding::ok(GROUP, ID, HANDLER, format!("{default} is the default runtime of {name}"))
        }
        default => {
            let default = default
                .map_or_else(|| "none is set".to_owned(), |default| format!("that is {default}"));
            let seen = format!(
                "{name} knows it as {}, and not as the default runtime ({default})",
                handlers.join(", ")
            );
            let handler = handlers.first().copied().unwrap_or("nvidia");
            Finding::warning(GROUP, ID, HANDLER, seen).why(why).fix(format!(
                "set runtimeClassName: {handler} in each pod that wants GPUs (with a RuntimeClass \
                 whose handler is {handler}), or make it the default: nvidia-ctk runtime configure \
                 --runtime={tool} --set-as-default && systemctl restart {tool}"
            ))
        }
    }
}

fn takes_cdi(runtime: &Runtime) -> Finding {
    const ID: &str = "runtime.cdi";
    const CHECKED: &str = "CDI in the container runtime";
    let name = runtime.name;
    match runtime.cdi {
        Some(true) => Finding::ok(GROUP, ID, CHECKED, format!("{name} takes CDI names")),
        Some(false) => Finding::problem(GROUP, ID, CHECKED, format!("CDI is off in {name}"))
            .why("it then passes over the CDI names that the plugin gives, and containers see no \
                GPU")
            .fix(match name {
                "docker" => "nvidia-ctk runtime configure --runtime=docker --cdi.enabled && systemctl restart docker",
                _ => {
                    "set enable_cdi = true in the table of the CRI plugin and restart the runtime: \
                     nvidia-ctk runtime configure --runtime=containerd --cdi.enabled && systemctl \
                     restart containerd"
                }
            }),
        None => Finding::warning(GROUP, ID, CHECKED, format!("{name} has no setting for it, and \
            its version decides"))
            .why("containerd has it on by itself from 2.0 on, and off before")
            .fix("nvidia-ctk runtime configure --runtime=containerd --cdi.enabled && systemctl \
                restart containerd"),
    }
}

fn toolkit(runtimes: &Runtimes, strategies: &BTreeSet<DeviceListStrategy>) -> Option<Finding> {
    const ID: &str = "runtime.toolkit";
    const CHECKED: &str = "the settings of NVIDIA's container runtime";
    let mounts = strategies.contains(&DeviceListStrategy::VolumeMounts);
    let Some(toolkit) = &runtimes.toolkit else {
        // Without a file the defaults hold: variables are accepted, mounts are not.
        return mounts.then(|| {
            Finding::problem(
                GROUP,
                ID,
                CHECKED,
                "no /etc/nvidia-container-runtime/config.toml to be seen",
            )
            .why("the strategy volume-mounts needs a setting there that is off by default")
            .fix(
                "nvidia-ctk config --in-place --set \
                    accept-nvidia-visible-devices-as-volume-mounts=true on the node",
            )
        });
    };
    let file = toolkit.file.display();
    if let Some(trouble) = &toolkit.trouble {
        return Some(
            Finding::unknown(GROUP, ID, CHECKED, format!("{file}: {trouble}"))
                .why(
                    "NVIDIA's runtime does not start containers with a configuration that it \
                    cannot read",
                )
                .fix("correct the file, or write it anew: nvidia-ctk config > FILE"),
        );
    }
    if mounts && toolkit.volume_mounts != Some(true) {
        return Some(
            Finding::problem(
                GROUP,
                ID,
                CHECKED,
                format!("{file}: accept-nvidia-visible-devices-as-volume-mounts is off"),
            )
            .why(
                "NVIDIA's runtime then passes over the mounts by which the strategy volume-mounts \
                names GPUs",
            )
            .fix(
                "nvidia-ctk config --in-place --set \
                accept-nvidia-visible-devices-as-volume-mounts=true on the node",
            ),
        );
    }
    let envvar = strategies.contains(&DeviceListStrategy::Envvar);
    if envvar && !mounts && toolkit.envvar == Some(false) {
        return Some(
            Finding::problem(
                GROUP,
                ID,
                CHECKED,
                format!("{file}: accept-nvidia-visible-devices-envvar-when-unprivileged is off"),
            )
            .why(
                "NVIDIA's runtime then passes over NVIDIA_VISIBLE_DEVICES for every pod that is \
                not privileged",
            )
            .fix(
                "use --device-list-strategy=volume-mounts (with \
                 accept-nvidia-visible-devices-as-volume-mounts = true), or turn the setting on",
            ),
        );
    }
    Some(Finding::ok(GROUP, ID, CHECKED, format!("{file} lets the strategy work")))
}

fn specs(facts: &Facts) -> Vec<Finding> {
    const ID: &str = "runtime.specs";
    let runtimes = &facts.runtimes;
    let directories: Vec<String> =
        runtimes.spec_directories.iter().map(|directory| directory.display().to_string()).collect();
    let directories = directories.join(" and ");
    let mut findings: Vec<Finding> = runtimes
        .specs
        .iter()
        .filter_map(|spec| {
            let error = spec.content.as_ref().err()?;
            Some(
                Finding::problem(
                    GROUP,
                    "runtime.spec",
                    CDI,
                    format!("{} is none: {error}", spec.file.display()),
                )
                .why("a runtime can refuse every CDI device for one file that it cannot read")
                .fix("correct the file or take it away"),
            )
        })
        .collect();
    let named: BTreeSet<&str> = runtimes
        .specs
        .iter()
        .filter_map(|spec| spec.content.as_ref().ok())
        .filter(|(kind, _)| kind == GPU_KIND)
        .flat_map(|(_, names)| names.iter().map(String::as_str))
        .collect();
    let wanted: BTreeSet<&str> = match &facts.driver {
        Asked::Answered(survey) => ids(survey),
        _ => BTreeSet::new(),
    };
    let missing: Vec<&str> = wanted.difference(&named).copied().collect();
    let problem = |seen: String| {
        Finding::problem(GROUP, ID, CDI, seen)
            .why(
                "the runtime refuses a container whose CDI device has no specification: \
                \"unresolvable CDI devices\"",
            )
            .fix(format!(
                "write them on the node, and again after each change of GPUs or MIG devices: \
                 nvidia-ctk cdi generate --vendor=k8s.device-plugin.nvidia.com --class=gpu \
                 --device-name-strategy={} \
                 --output=/var/run/cdi/k8s.device-plugin.nvidia.com-gpu.json",
                match facts.settings.ids {
                    DeviceIdStrategy::Uuid => "uuid",
                    DeviceIdStrategy::Index => "index",
                }
            ))
    };
    findings.push(match (named.is_empty(), missing.as_slice()) {
        (true, _) => problem(format!("none of the kind {GPU_KIND} in {directories}")),
        (false, []) => Finding::ok(
            GROUP,
            ID,
            CDI,
            format!("{} of the kind {GPU_KIND}", count(named.len(), "device")),
        ),
        (false, missing) => problem(format!("not in the specifications: {}", missing.join(", "))),
    });
    findings
}

fn ids(survey: &Survey) -> BTreeSet<&str> {
    survey.resources.iter().flat_map(|offer| offer.ids.iter().map(String::as_str)).collect()
}
