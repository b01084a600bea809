//! The kubelet's directory, its sockets, its version and what it can allocate, and the plugins
//! there.

mod plugins;

pub(in crate::doctor) use plugins::is_rival;

use std::collections::BTreeMap;
use std::path::Path;

use crate::doctor::facts::{Access, DirectoryState, Facts, KubeletFacts, SocketProbe};
use crate::doctor::finding::{Check, Finding, Group, plural};

const DIRECTORY: Check = Check::new(Group::Kubelet, "kubelet.directory", "the plugin directory");
const SOCKET: Check =
    Check::new(Group::Kubelet, "kubelet.socket", "the kubelet's registration socket");
const VERSION: Check = Check::new(Group::Kubelet, "kubelet.version", "the kubelet's version");
const KNOWN: Check = Check::new(Group::Kubelet, "kubelet.known", "what the kubelet knows");
const POD_RESOURCES: Check =
    Check::new(Group::Kubelet, "kubelet.podresources", "the podresources socket");

/// The longest path of a unix socket, in bytes, and the length of our file names without the
/// resource's part.
const MAX_SOCKET_PATH: usize = 107;
const OUR_NAME: usize = "nvidia-.sock".len() + 9 + 24;

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let kubelet = &facts.kubelet;
    let mut findings = vec![directory(kubelet), registration_socket(kubelet)];
    findings.extend(kubelet.version.map(version));
    findings.extend(plugins::check(facts));
    findings.push(known(facts));
    let pod_resources = kubelet.pod_resources.as_ref();
    findings.extend(pod_resources.map(|(path, probe)| who_holds(path, probe, &kubelet.access)));
    findings
}

fn directory(kubelet: &KubeletFacts) -> Finding {
    let path = kubelet.directory.display();
    let too_long = kubelet.directory.as_os_str().len() + 1 + OUR_NAME > MAX_SOCKET_PATH;
    let (seen, fix) = match &kubelet.state {
        DirectoryState::Writable if too_long => (
            format!(
                "{path}: the path is too long for a socket in it ({MAX_SOCKET_PATH} bytes in all)"
            ),
            "use a shorter path; the kubelet's own is /var/lib/kubelet/device-plugins",
        ),
        DirectoryState::Writable => return DIRECTORY.ok(format!("{path} is there and writable")),
        DirectoryState::Missing | DirectoryState::CanBeCreated => (
            format!("{path} is not there"),
            "mount the host's /var/lib/kubelet/device-plugins at this path; on the node the \
             kubelet creates it when it starts. It is there whatever the kubelet's --root-dir is",
        ),
        DirectoryState::NotADirectory => {
            (format!("{path} is no directory"), "name the right socket with --kubelet-socket")
        }
        DirectoryState::Deleted => {
            return DIRECTORY
                .problem(format!("{path} was deleted on the host under this mount"))
                .why("what is created there afterwards cannot be seen from here")
                .fix("delete the plugin's pod: a new one gets a fresh mount");
        }
        DirectoryState::NotWritable(error) => (
            format!("{path}: nothing can be created in it: {error}"),
            "mount it without readOnly, and run the plugin as root (securityContext.runAsUser: 0); \
             then `ausearch -m avc -ts recent` shows denials of SELinux, and `dmesg | grep \
             apparmor` those of AppArmor",
        ),
    };
    DIRECTORY
        .problem(seen)
        .why("the plugin's sockets are in it, and the kubelet looks for them nowhere else")
        .fix(fix)
}

fn registration_socket(kubelet: &KubeletFacts) -> Finding {
    let Some((path, probe)) = &kubelet.socket else {
        return SOCKET
            .warning("the plugin is configured never to register (--kubelet-socket is empty)")
            .why("a kubelet without the plugin's registration offers no GPUs")
            .fix("leave --kubelet-socket out, or name the socket");
    };
    let fix = match probe {
        SocketProbe::TimedOut => {
            "the kubelet hangs or is overloaded: `journalctl -u kubelet -e` shows its log, \
             `systemctl restart kubelet` starts it again"
                .to_owned()
        }
        SocketProbe::Denied => not_permitted(&kubelet.access),
        _ => {
            "start the kubelet (systemctl status kubelet, systemctl start kubelet), and mount the \
              host's /var/lib/kubelet/device-plugins at the directory that is seen here"
                .to_owned()
        }
    };
    match probe.seen(path) {
        Ok(seen) => SOCKET.ok(seen),
        Err(seen) => SOCKET
            .problem(seen)
            .why("the plugin registers there; until it has, the node has no GPUs to allocate")
            .fix(fix),
    }
}

/// What lets this process use a socket.
fn not_permitted(access: &Access) -> String {
    let root = match access.user {
        0 => "this process runs as root already: look for what else forbids it (AppArmor)".into(),
        user => format!(
            "this process runs as user {user}: run the plugin's container as root \
             (securityContext.runAsUser: 0)"
        ),
    };
    let selinux = "SELinux is enforced: give the container the type spc_t \
                   (securityContext.seLinuxOptions.type), or run it privileged; `ausearch -m avc \
                   -ts recent` on the node shows what was denied";
    match (access.selinux, access.user) {
        (false, _) => root,
        (true, 0) => selinux.to_owned(),
        (true, _) => format!("{root}. {selinux}"),
    }
}

fn version((major, minor): (u32, u32)) -> Finding {
    let seen = format!("{major}.{minor}");
    if (major, minor) >= (1, 26) {
        return VERSION.ok(seen);
    }
    VERSION
        .problem(seen)
        .why(
            "one before 1.26 sends an HTTP/2 header that the plugin's gRPC server refuses, so it \
             cannot dial back",
        )
        .fix("upgrade the kubelet to 1.26 or later")
}

/// What the kubelet can allocate, against what the running plugin offers.
fn known(facts: &Facts) -> Finding {
    let allocatable = match &facts.kubelet.allocatable {
        Ok(allocatable) => allocatable,
        Err(error) => {
            return KNOWN.unknown(format!("it cannot be asked by podresources: {error}")).fix(
                "mount the host's /var/lib/kubelet/pod-resources at the path of \
                     --pod-resources-socket; until then `kubectl describe node NODE` has the \
                     numbers",
            );
        }
    };
    let offered = facts.plugin.iter().flat_map(|status| &status.resources);
    let differ = differing(allocatable, offered.map(|of| (&of.name, of.healthy)));
    if !differ.is_empty() {
        return KNOWN
            .problem(format!("it can allocate {}", differ.join(", ")))
            .why("pods get what the kubelet counts, whatever the plugin offers")
            .fix(
                "if another plugin serves the resource, remove it; otherwise look at the kubelet's \
                 log (journalctl -u kubelet, device manager) and restart the kubelet",
            );
    }
    let all: Vec<String> = allocatable
        .iter()
        .map(|(name, count)| format!("{name}: {}", plural(*count, "device")))
        .collect();
    let seen = match all.is_empty() {
        true => "it can allocate no GPU".to_owned(),
        false => format!("it can allocate {}", all.join(", ")),
    };
    match facts.plugin.is_err() {
        true => by_survey(facts, allocatable, seen),
        false => KNOWN.ok(seen),
    }
}

/// Without the running plugin's word: what would be offered says what the kubelet should have, but
/// for what only the plugin knows of the health of GPUs.
fn by_survey(facts: &Facts, allocatable: &BTreeMap<String, usize>, seen: String) -> Finding {
    let would = facts.initialised_driver().map(|answer| {
        differing(allocatable, answer.resources.iter().map(|of| (&of.name, of.healthy)))
    });
    let seen = match would {
        Some(differ) if differ.is_empty() => return KNOWN.ok(seen),
        Some(differ) => format!("it can allocate {}", differ.join(", ")),
        None => seen,
    };
    KNOWN
        .unknown(seen)
        .why("whether that is all that the plugin offers cannot be told without its status")
        .fix(
            "have the running plugin's status, which says which GPUs it has as Unhealthy; if it \
             has none, look at the kubelet's log (journalctl -u kubelet, device manager)",
        )
}

/// The resources of which the kubelet can allocate another number than is Healthy.
fn differing<'a>(
    allocatable: &BTreeMap<String, usize>,
    healthy: impl Iterator<Item = (&'a String, usize)>,
) -> Vec<String> {
    let counted = healthy
        .map(|(name, healthy)| (name, allocatable.get(name).copied().unwrap_or_default(), healthy));
    let differing = counted.filter(|(_, number, healthy)| number != healthy);
    differing
        .map(|(name, number, healthy)| format!("{name}: {number} of {healthy} Healthy ones"))
        .collect()
}

/// The podresources socket, which tells which pod holds which device.
fn who_holds(path: &Path, probe: &SocketProbe, access: &Access) -> Finding {
    match probe.seen(path) {
        Ok(seen) => POD_RESOURCES.ok(seen),
        Err(seen) => POD_RESOURCES
            .warning(seen)
            .why(
                "metrics and status do not say which pod holds which GPU; allocation does not need \
                 it",
            )
            .fix(match probe {
                SocketProbe::Denied => not_permitted(access),
                _ => "mount the host's /var/lib/kubelet/pod-resources (it is in the kubelet's \
                      --root-dir), or set --pod-resources-socket to empty"
                    .to_owned(),
            }),
    }
}
