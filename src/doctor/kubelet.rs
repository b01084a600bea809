//! The kubelet's directory and sockets, and who else is in it.

use std::path::Path;

use super::driver::count;
use super::facts::{Answer, Asked, Directory, Endpoint, Facts, Kubelet};
use super::finding::{Finding, Group};

const GROUP: Group = Group::Kubelet;
const DIRECTORY: &str = "the plugin directory";
const SOCKET: &str = "the kubelet's registration socket";
const VERSION: &str = "the kubelet's version";
const OTHERS: &str = "other plugins for the same resources";
const PLUGIN: &str = "this plugin";
const KNOWN: &str = "what the kubelet knows";

/// The longest path that a unix socket address holds, and what our names have beside the
/// resource's.
const LONGEST_SOCKET_PATH: usize = 107;
const OUR_NAME: usize = "nvidia-.sock".len() + 9 + 24;

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let kubelet = &facts.kubelet;
    let mut findings = vec![directory(kubelet), socket(kubelet)];
    findings.extend(version(kubelet));
    findings.extend(others(kubelet));
    findings.push(plugin(kubelet));
    findings.push(ready(facts));
    findings.push(known(facts));
    findings
        .extend(kubelet.pod_resources.as_ref().map(|(path, answer)| pod_resources(path, answer)));
    findings
}

fn directory(kubelet: &Kubelet) -> Finding {
    const ID: &str = "kubelet.directory";
    let path = kubelet.directory.display();
    let problem = |seen: String| Finding::problem(GROUP, ID, DIRECTORY, seen);
    let why = "the plugin's sockets live in it, and the kubelet looks for them nowhere else";
    match &kubelet.state {
        Directory::Writable
            if kubelet.directory.as_os_str().len() + 1 + OUR_NAME > LONGEST_SOCKET_PATH =>
        {
            problem(format!(
                "{path}: the path is too long for a socket in it ({LONGEST_SOCKET_PATH} bytes in \
                all)"
            ))
            .why(why)
            .fix("use a shorter path; the kubelet's own is /var/lib/kubelet/device-plugins")
        }
        Directory::Writable => {
            Finding::ok(GROUP, ID, DIRECTORY, format!("{path} is there and writable"))
        }
        Directory::Missing | Directory::WouldBeMade => {
            problem(format!("{path} is not there")).why(why).fix(
                "mount the host's /var/lib/kubelet/device-plugins at this path; on the node the \
             kubelet makes it when it starts. It is there whatever the kubelet's --root-dir is",
            )
        }
        Directory::NotADirectory => problem(format!("{path} is no directory"))
            .why(why)
            .fix("name the right socket with --kubelet-socket"),
        Directory::Deleted => problem(format!("{path} was deleted on the host under this mount"))
            .why("what is made there anew cannot be seen from here")
            .fix("delete the plugin's pod: a new one gets a fresh mount"),
        Directory::NotWritable(error) => {
            problem(format!("{path}: nothing can be made in it: {error}")).why(why).fix(
                "mount it without readOnly, and run the plugin as root; then look at SELinux or \
                AppArmor denials",
            )
        }
    }
}

fn socket(kubelet: &Kubelet) -> Finding {
    const ID: &str = "kubelet.socket";
    let Some((path, answer)) = &kubelet.socket else {
        return Finding::warning(
            GROUP,
            ID,
            SOCKET,
            "the plugin is told never to register (--kubelet-socket is empty)",
        )
        .why("a kubelet that hears nothing of the plugin offers no GPUs")
        .fix("leave --kubelet-socket away, or name the socket");
    };
    let path = path.display();
    let problem = |seen: String| Finding::problem(GROUP, ID, SOCKET, seen);
    let why = "the plugin registers there; until it has, the node has no GPUs to allocate";
    let start = "is the kubelet running (systemctl status kubelet), and is its own directory the \
        one that is seen here?";
    match answer {
        Answer::Answers => Finding::ok(GROUP, ID, SOCKET, format!("{path} answers")),
        Answer::Missing => problem(format!("{path} is not there")).why(why).fix(start),
        Answer::NotASocket => problem(format!("{path} is no socket")).why(why).fix(start),
        Answer::Dead => {
            problem(format!("{path} is there and nobody listens on it")).why(why).fix(start)
        }
        Answer::Silent => problem(format!("{path}: somebody listens, and does not answer"))
            .why(why)
            .fix("the kubelet hangs or is overloaded: look at its log (journalctl -u kubelet)"),
        Answer::Failed(error) => problem(format!("{path}: {error}")).why(why).fix(start),
    }
}

fn version(kubelet: &Kubelet) -> Option<Finding> {
    const ID: &str = "kubelet.version";
    let (major, minor) = kubelet.version?;
    let seen = format!("{major}.{minor}");
    Some(if (major, minor) < (1, 26) {
        Finding::problem(GROUP, ID, VERSION, seen)
            .why(
                "one before 1.26 sends an HTTP/2 header that the plugin's gRPC server refuses, so \
                it cannot dial back",
            )
            .fix("upgrade the kubelet to 1.26 or later")
    } else {
        Finding::ok(GROUP, ID, VERSION, seen)
    })
}

fn others(kubelet: &Kubelet) -> Vec<Finding> {
    const ID: &str = "kubelet.rival";
    let strangers: Vec<&Endpoint> =
        kubelet.others.iter().filter(|other| other.ours.is_none()).collect();
    let alive: Vec<&&Endpoint> = strangers.iter().filter(|other| lives(&other.answer)).collect();
    let mut findings: Vec<Finding> =
        alive
            .iter()
            .map(|other| {
                let by = other
                    .process
                    .as_ref()
                    .map_or_else(String::new, |process| format!(", by {process}"));
                Finding::problem(GROUP, ID, OTHERS, format!("{} is served{by}", other.name))
                .why("two plugins that register one resource take it from each other: the last one \
                    has it")
                .fix(
                    "remove NVIDIA's plugin: kubectl -n kube-system delete daemonset \
                     nvidia-device-plugin-daemonset, or helm uninstall, or \
                     devicePlugin.enabled=false in the GPU Operator's ClusterPolicy",
                )
            })
            .collect();
    let mut ours: Vec<&str> = kubelet
        .others
        .iter()
        .filter(|other| lives(&other.answer))
        .filter_map(|other| other.ours.as_deref())
        .collect();
    ours.sort_unstable();
    let twice: Vec<&str> =
        ours.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
    if let Some(resource) = twice.first() {
        findings.push(
            Finding::problem(
                GROUP,
                ID,
                OTHERS,
                format!("this plugin serves \"{resource}\" more than once on this node"),
            )
            .why(
                "two plugins that register one resource take it from each other: the last one has \
                it",
            )
            .fix(
                "run one pod of it on each node: look for a second DaemonSet, or for one beside a \
                systemd unit",
            ),
        );
    }
    if findings.is_empty() {
        let dead = strangers.len();
        let left = if dead > 0 {
            format!(" ({} of it left behind, without harm)", count(dead, "dead socket"))
        } else {
            String::new()
        };
        findings.push(Finding::ok(GROUP, ID, OTHERS, format!("none{left}")));
    }
    findings
}

fn lives(answer: &Answer) -> bool {
    matches!(answer, Answer::Answers | Answer::Silent | Answer::Failed(_))
}

fn plugin(kubelet: &Kubelet) -> Finding {
    const ID: &str = "kubelet.plugin";
    let ours: Vec<&Endpoint> = kubelet.others.iter().filter(|other| other.ours.is_some()).collect();
    let served: Vec<&str> = ours
        .iter()
        .filter(|other| other.answer == Answer::Answers)
        .map(|other| other.name.as_str())
        .collect();
    let silent: Vec<&str> = ours
        .iter()
        .filter(|other| lives(&other.answer) && other.answer != Answer::Answers)
        .map(|other| other.name.as_str())
        .collect();
    if !silent.is_empty() {
        return Finding::problem(
            GROUP,
            ID,
            PLUGIN,
            format!("does not answer on {}", silent.join(", ")),
        )
        .why("the kubelet waits for it without a time-out")
        .fix("delete the plugin's pod, and report it with its log: that should not happen");
    }
    if !served.is_empty() {
        return Finding::ok(GROUP, ID, PLUGIN, format!("serves {}", served.join(", ")));
    }
    Finding::warning(GROUP, ID, PLUGIN, "no socket of it is served in this directory")
        .why("while it does not run, or has no GPU to serve, the kubelet has none to give")
        .fix(
            "kubectl -n kube-system get pods -o wide -l app.kubernetes.io/name=gpu-device-plugin, \
            and its log",
        )
}

fn ready(facts: &Facts) -> Finding {
    const ID: &str = "kubelet.ready";
    const CHECKED: &str = "the running plugin's own word";
    match &facts.plugin {
        Err(unheard) => Finding::ok(GROUP, ID, CHECKED, format!("not heard: {unheard}")),
        Ok(status) if status.plugin.ready => {
            let names: Vec<&str> =
                status.resources.iter().map(|resource| resource.name.as_str()).collect();
            Finding::ok(GROUP, ID, CHECKED, format!("ready: {}", names.join(", ")))
        }
        Ok(status) => Finding::problem(
            GROUP,
            ID,
            CHECKED,
            format!("not ready: {}", status.plugin.not_ready.join("; ")),
        )
        .why("what is not registered with the kubelet, or not watched by it, is not allocatable")
        .fix(
            "see the findings above; `gpu-device-plugin status -o wide` and the plugin's log tell \
                    more",
        ),
    }
}

fn known(facts: &Facts) -> Finding {
    const ID: &str = "kubelet.known";
    let known = match &facts.kubelet.checkpoint {
        Ok(known) => known,
        Err(why) => {
            return Finding::ok(GROUP, ID, KNOWN, format!("no checkpoint to tell: {why}"));
        }
    };
    let offers = match &facts.driver {
        Asked::Answered(survey) => survey.resources.as_slice(),
        _ => &[],
    };
    let gpus: Vec<String> = known
        .iter()
        .filter(|(name, _)| {
            name.starts_with("nvidia.com/") || offers.iter().any(|offer| offer.name == **name)
        })
        .map(|(name, devices)| format!("{name}: {}", count(*devices, "Healthy device")))
        .collect();
    if gpus.is_empty() {
        return Finding::ok(GROUP, ID, KNOWN, "its checkpoint has no GPU resource yet");
    }
    Finding::ok(GROUP, ID, KNOWN, format!("by its checkpoint {}", gpus.join(", ")))
}

fn pod_resources(path: &Path, answer: &Answer) -> Finding {
    const ID: &str = "kubelet.podresources";
    const CHECKED: &str = "the socket that tells who holds what";
    let path = path.display();
    let warning = |seen: String| {
        Finding::warning(GROUP, ID, CHECKED, seen)
            .why(
                "metrics and status then do not say which pod holds which GPU; allocation does not \
                need it",
            )
            .fix(
                "mount the host's /var/lib/kubelet/pod-resources (it is in the kubelet's \
                 --root-dir), or set --pod-resources-socket to empty",
            )
    };
    match answer {
        Answer::Answers => Finding::ok(GROUP, ID, CHECKED, format!("{path} answers")),
        Answer::Missing => warning(format!("{path} is not there")),
        Answer::NotASocket => warning(format!("{path} is no socket")),
        Answer::Dead => warning(format!("{path} is there and nobody listens on it")),
        Answer::Silent => warning(format!("{path}: no answer in time")),
        Answer::Failed(error) => warning(format!("{path}: {error}")),
    }
}
