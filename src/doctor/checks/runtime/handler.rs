//! NVIDIA's container runtime in the configuration of the container runtime.

use std::path::Path;

use device::injection::DeviceListStrategy;

use super::strategies::{need_nvidia_runtime, readable_runtimes};
use crate::doctor::facts::{ContainerRuntime, Facts, HandlerProgram};
use crate::doctor::finding::{Finding, Group};

const GROUP: Group = Group::Runtime;
const ID: &str = "runtime.handler";
const CHECKED: &str = "NVIDIA's container runtime";

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let strategies = &facts.settings.strategies;
    if !need_nvidia_runtime(strategies) {
        return Vec::new();
    }
    let named_by = match strategies.contains(&DeviceListStrategy::Envvar) {
        true => "NVIDIA_VISIBLE_DEVICES",
        false => "the mounts that name GPUs",
    };
    let why = format!(
        "a container that another runtime starts does not see its GPU: nothing reads {named_by}"
    );
    readable_runtimes(facts).map(|runtime| of_runtime(runtime, &why)).collect()
}

fn of_runtime(runtime: &ContainerRuntime, why: &str) -> Finding {
    let name = runtime.name;
    if runtime.nvidia.is_empty() {
        return unknown_to(runtime).why(why);
    }
    let missing = |(handler, program): (&String, &HandlerProgram)| {
        Some(missing_program(name, handler, program.missing()?))
    };
    if let Some(finding) = runtime.nvidia.iter().find_map(missing) {
        return finding;
    }
    match runtime.default.as_deref() {
        Some(default) if runtime.nvidia.contains_key(default) => {
            Finding::ok(GROUP, ID, CHECKED, format!("{default} is the default runtime of {name}"))
        }
        default => not_default(runtime, default).why(why),
    }
}

fn missing_program(name: &str, handler: &str, path: &Path) -> Finding {
    let seen = format!("{name} has the runtime {handler}, and {} is not there", path.display());
    Finding::problem(GROUP, ID, CHECKED, seen)
        .why("a pod that is to be started by it is not started at all")
        .fix(
            "install NVIDIA's Container Toolkit on the node, or correct the path in the runtime's \
             configuration",
        )
}

/// The name that nvidia-ctk and systemd have for it.
fn tool(runtime: &ContainerRuntime) -> &'static str {
    match runtime.name {
        "CRI-O" => "crio",
        name => name,
    }
}

fn unknown_to(runtime: &ContainerRuntime) -> Finding {
    let files: Vec<String> = runtime.files.iter().map(|file| file.display().to_string()).collect();
    let files = match files.is_empty() {
        true => "no configuration file".to_owned(),
        false => files.join(", "),
    };
    let tool = tool(runtime);
    Finding::problem(GROUP, ID, CHECKED, format!("{} does not know it ({files})", runtime.name))
        .fix(format!(
            "install NVIDIA's Container Toolkit on the node, then: nvidia-ctk runtime configure \
             --runtime={tool} --set-as-default && systemctl restart {tool}. Or use CDI \
             (--device-list-strategy)"
        ))
}

fn not_default(runtime: &ContainerRuntime, default: Option<&str>) -> Finding {
    let default =
        default.map_or_else(|| "none is set".to_owned(), |default| format!("that is {default}"));
    let handlers: Vec<&str> = runtime.nvidia.keys().map(String::as_str).collect();
    let seen = format!(
        "{} knows it as {}, and not as the default runtime ({default})",
        runtime.name,
        handlers.join(", ")
    );
    let (tool, handler) = (tool(runtime), handlers.first().copied().unwrap_or("nvidia"));
    Finding::warning(GROUP, ID, CHECKED, seen).fix(format!(
        "set runtimeClassName: {handler} in each pod that wants GPUs (with a RuntimeClass whose \
         handler is {handler}), or make it the default: nvidia-ctk runtime configure \
         --runtime={tool} --set-as-default && systemctl restart {tool}"
    ))
}
