//! Sharing by MPS: its control daemons, and what their clients need.

use crate::doctor::facts::{MpsDaemonFacts, MpsDirectory, MpsFacts};
use crate::doctor::finding::{Check, Finding, Group};

/// Everything about MPS.
pub(super) fn findings(facts: &MpsFacts) -> Vec<Finding> {
    let mut findings = vec![program(facts)];
    findings.extend(directory(&facts.directory));
    findings.extend(facts.daemons.iter().map(daemon));
    findings.extend(facts.daemons.iter().filter_map(limits));
    findings.extend((facts.shm_mounted == Some(false)).then(shm));
    findings.extend(facts.foreign.as_deref().map(foreign));
    findings
}

/// Whether there is a program by which daemons are asked. The supervisors of ours tell without.
fn program(facts: &MpsFacts) -> Finding {
    let check = Check::new(Group::Runtime, "runtime.mps.program", "nvidia-cuda-mps-control");
    if let Some(path) = &facts.program {
        return check.ok(format!("is {}", path.display()));
    }
    let brings =
        |names: &&String| names.split(',').any(|name| ["compute", "all"].contains(&name.trim()));
    let without = facts.capabilities.as_ref().filter(|names| !brings(names));
    let without = without.map(|names| format!("; NVIDIA_DRIVER_CAPABILITIES is {names:?}"));
    let without = without.unwrap_or_default();
    let seen = format!("is neither below the driver's root nor on PATH{without}");
    let all_told = facts.daemons.iter().all(|daemon| daemon.supervisor.is_some());
    let finding = if all_told { check.warning(seen) } else { check.problem(seen) };
    finding
        .why(
            "a control daemon that is not supervised by mps-control-daemon is asked by it, and so \
             are the limits of clients",
        )
        .fix(
            "mount the driver's root and name it with --driver-root-ctr-path; or start the \
             container by NVIDIA's runtime with NVIDIA_DRIVER_CAPABILITIES=compute,utility",
        )
}

/// Whether the directory in which the plugin, the daemons and clients meet is there.
fn directory(directory: &MpsDirectory) -> Option<Finding> {
    let check = Check::new(Group::Runtime, "runtime.mps.directory", "the directory of MPS");
    let path = directory.path.display();
    let finding = match (directory.exists, directory.is_of_node) {
        (false, _) => check.problem(format!("{path} is not there")),
        (true, false) => check.warning(format!("{path} is not mounted: it is not the node's")),
        (true, true) => return None,
    };
    let finding = finding
        .why("the plugin and the control daemons meet in it, and clients get their pipes of it")
        .fix(
            "mount the MPS root of the node there in the containers of both: the chart's \
             mps.root, or the volume of manifests/overlays/mps",
        );
    Some(finding)
}

/// Whether the control daemon of a resource answers.
fn daemon(facts: &MpsDaemonFacts) -> Finding {
    let checked = format!("the MPS control daemon of {}", facts.resource);
    let check = Check::new(Group::Runtime, "runtime.mps", &checked);
    let why = "an MPS client without its daemon hangs, so the resource is not offered until the \
               daemon answers";
    match (&facts.supervisor, &facts.answer) {
        (Some(Err(cause)), _) => check
            .problem(format!("its supervisor says: {cause}"))
            .why(why)
            .fix("see the log of the pod that runs mps-control-daemon on this node"),
        (_, Ok(percentage)) => check.ok(format!("answers: {percentage} % of the threads")),
        (Some(Ok(())), Err(error)) => check
            .warning(format!("its supervisor says that it works, and it cannot be asked: {error}"))
            .why("its limits cannot be checked from here")
            .fix(
                "bring nvidia-cuda-mps-control into this container: the driver's root, or the \
                 NVIDIA runtime with NVIDIA_DRIVER_CAPABILITIES=compute,utility",
            ),
        (None, Err(error)) => check.problem(error).why(why).fix(
            "run `gpu-device-plugin mps-control-daemon` on the node (the chart does with \
             mps.enabled), or NVIDIA's, and mount its directory at /mps in the plugin's container",
        ),
    }
}

/// Whether a client gets no more than its share.
fn limits(facts: &MpsDaemonFacts) -> Option<Finding> {
    let (expected, percentage) = (facts.threads?, facts.answer.as_ref().ok()?.parse::<f64>().ok()?);
    let differs = (percentage - f64::from(expected)).abs() >= 1.0;
    differs.then(|| {
        let checked = format!("the limits of {}", facts.resource);
        Check::new(Group::Runtime, "runtime.mps.limits", &checked)
            .warning(format!("a client may use {percentage} % of the threads, not {expected} %"))
            .why("every client can send commands to its daemon, also to change what others get")
            .fix(
                "the supervisor sets its limits again by itself; if it does not, see its log for \
                 commands that are not its own",
            )
    })
}

/// The shared memory of clients.
fn shm() -> Finding {
    Check::new(Group::Runtime, "runtime.mps.shm", "the shared memory of MPS clients")
        .warning("shm in the directory of MPS is no file system of its own")
        .why("clients and servers share memory in it; on a disk it is slow, and has no bound")
        .fix(
            "run `gpu-device-plugin mps-control-daemon mount-shm` before the daemon, privileged \
             and with mountPropagation: Bidirectional; where that was done after this container \
             was started, it sees it with HostToContainer alone",
        )
}

/// A control daemon that is of no resource.
fn foreign(percentage: &str) -> Finding {
    Check::new(Group::Runtime, "runtime.mps.foreign", "control daemons of others")
        .warning(format!("one answers at /tmp/nvidia-mps: {percentage} % of the threads"))
        .why(
            "it was started by hand or by another system, and may use the same GPUs: with the \
             compute mode EXCLUSIVE_PROCESS one of the two daemons gets no server on them",
        )
        .fix("end it on the node: echo quit | nvidia-cuda-mps-control")
}
