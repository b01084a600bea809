//! Where the driver, the kubelet and people are found, and the log: all fixed at the start.

use std::path::{Path, PathBuf};

use tracing_subscriber::filter::{LevelFilter, Targets};

use super::setting::{Setting, Shape, settings};
use crate::config::nearest::nearest;
use crate::config::print;
use crate::config::value::{self, Parsed, RawValue};
use crate::kubelet::device_plugin::socket::PluginPaths;
use crate::observe::http::{Address, AddressError};

const DRIVER: Setting = Setting { heading: "Finding the driver", ..Setting::BASE };
const DAEMON: Setting = Setting { heading: "The daemon itself", ..Setting::BASE };

settings! {
    CONFIG_FILE: process.config_file = value::path, print::optional_path; DAEMON {
        flag: Some("config-file"), env: &["CONFIG_FILE"], value: "FILE",
        help: "A YAML or JSON file (version v1) with what is not set by flags and environment. \
            Read again when its content changes and on SIGHUP.",
    }
    CONFIG_DIR: process.config_dir = value::path, print::optional_path; DAEMON {
        flag: Some("config-dir"), env: &["CONFIG_DIR"], value: "DIR",
        help: "A directory of config files, such as a mounted ConfigMap. That which \
            --config-name-file names takes the place of --config-file; empty: none does.",
    }
    CONFIG_NAME_FILE: process.config_name_file = value::path, print::optional_path; DAEMON {
        flag: Some("config-name-file"), env: &["CONFIG_NAME_FILE"], value: "FILE",
        default: "/run/gpu-node-agent/config-name",
        help: "A file with the name of a file in --config-dir, and nothing else, which another \
            program writes and may change; without a name in it --config-file counts.",
    }
    FAIL_ON_INIT_ERROR: process.nvml.fail_on_init_error = value::boolean, print::display; DRIVER {
        flag: Some("fail-on-init-error"), env: &["FAIL_ON_INIT_ERROR"],
        key: Some("flags.failOnInitError"), shape: Shape::Switch, value: "BOOL", default: "true",
        help: "End with an error when NVML cannot be initialised, instead of waiting for the \
            driver.",
    }
    DRIVER_ROOT_CTR_PATH: process.nvml.driver_root = root, print::path; DRIVER {
        flag: Some("driver-root-ctr-path"), aliases: &["container-driver-root"],
        env: &["DRIVER_ROOT_CTR_PATH", "CONTAINER_DRIVER_ROOT"],
        key: Some("flags.plugin.containerDriverRoot"), value: "DIR", default: "/driver-root",
        help: "Where the driver root is mounted in the plugin's own container.",
    }
    NVML_LIBRARY: process.nvml.library = value::path, print::optional_path; DRIVER {
        flag: Some("nvml-library"), env: &["NVML_LIBRARY"], value: "FILE",
        help: "The NVML library to load; empty: libnvidia-ml.so.1 under the driver root, then \
            wherever the loader finds it.",
    }
    SYSFS_ROOT: process.nvml.sysfs_root = root, print::path; DRIVER {
        flag: Some("sysfs-root"), env: &["SYSFS_ROOT"], value: "DIR", default: "/sys",
        help: "Where sysfs is mounted; NUMA nodes are read there.",
    }
    PROC_ROOT: process.roots.proc = root, print::path; DRIVER {
        flag: Some("proc-root"), env: &["PROC_ROOT"], value: "DIR", default: "/proc",
        help: "Where procfs is mounted; the driver's capability numbers are read there.",
    }
    RELEASE_FILE: process.release_file = value::path, print::optional_path; DAEMON {
        flag: Some("release-file"), env: &["RELEASE_FILE"], value: "FILE",
        help: "A file with a time, in seconds since the Unix epoch, until which NVML is released, \
            five minutes at most; another program writes it and renews it. Empty: none does.",
    }
    KUBELET_SOCKET: process.plugin = kubelet_socket, print_kubelet_socket; DAEMON {
        flag: Some("kubelet-socket"), env: &["KUBELET_SOCKET"], value: "SOCKET",
        default: "/var/lib/kubelet/device-plugins/kubelet.sock",
        help: "The kubelet's registration socket. The plugin's own sockets are beside it. Empty: \
            serve in the default directory and never register.",
    }
    POD_RESOURCES_SOCKET: process.pod_resources_socket = value::path, print::optional_path; DAEMON {
        flag: Some("pod-resources-socket"), env: &["POD_RESOURCES_SOCKET"], value: "SOCKET",
        default: "/var/lib/kubelet/pod-resources/kubelet.sock",
        help: "The kubelet's podresources socket, where it is asked which pod holds which device; \
            empty: it is not asked.",
    }
    HTTP_ADDRESS: process.http_address = http_address, print_http_address; DAEMON {
        flag: Some("http-address"), env: &["HTTP_ADDRESS"], value: "ADDRESS", default: ":19400",
        help: "Where metrics, probes, status and a page for people are served: IP:PORT, :PORT, or \
            unix:PATH for a socket that only the plugin's own user can open; empty: nowhere.",
    }
    STATUS_SOCKET_GID: process.status_socket_gid = group, print_group; DAEMON {
        flag: Some("status-socket-gid"), env: &["STATUS_SOCKET_GID"], value: "NUMBER",
        help: "The group, by number, whose members may read the status at status.sock in \
            --state-dir; empty: only the plugin's own user.",
    }
    NODE_NAME: process.node_name = node_name, print_node_name; DAEMON {
        flag: Some("node-name"), env: &["NODE_NAME"], value: "NAME",
        help: "The name of the Kubernetes node, for the status, the page and the log; empty: the \
            name of the host or of the pod is shown.",
    }
    LOG_FORMAT: process.log.format = value::choice, print::choice; DAEMON {
        flag: Some("log-format"), env: &["LOG_FORMAT"], value: "FORMAT", default: "text",
        help: "How log lines are written: text or json.",
    }
    LOG_TIMESTAMPS: process.log.timestamps = value::boolean, print::display; DAEMON {
        flag: Some("log-timestamps"), env: &["LOG_TIMESTAMPS"], shape: Shape::Switch, value: "BOOL",
        default: "true",
        help: "Whether log lines begin with the time. Without it, journald and container runtimes \
            add theirs.",
    }
    LOG_LEVEL: process.log.filter = log_filter, print::quoted; DAEMON {
        flag: Some("log-level"), env: &["LOG_LEVEL", "RUST_LOG"], value: "FILTER", default: "info",
        help: "Which log lines are written: error, warn, info, debug, trace, or a filter such as \
            info,gpu_device_plugin::kubelet=debug.",
    }
}

/// A directory of our own container; an empty text is the root.
fn root(raw: RawValue<'_>) -> Parsed<PathBuf> {
    Ok(value::path(raw)?.unwrap_or_else(|| PathBuf::from("/")))
}

fn kubelet_socket(raw: RawValue<'_>) -> Parsed<PluginPaths> {
    let text = value::absolute_text(raw)?;
    let socket = Path::new(if text.is_empty() { KUBELET_SOCKET.default } else { &text });
    match socket.parent().filter(|_| socket.file_name().is_some()) {
        Some(directory) => Ok(PluginPaths {
            directory: directory.to_owned(),
            kubelet: (!text.is_empty()).then(|| socket.to_owned()),
        }),
        None => value::invalid_text(&text, "is a directory; expected the path of a socket"),
    }
}

fn print_kubelet_socket(paths: &PluginPaths) -> String {
    print::optional_path(&paths.kubelet)
}

fn http_address(raw: RawValue<'_>) -> Parsed<Option<Address>> {
    let text = value::text(raw)?;
    if text.is_empty() {
        return Ok(None);
    }
    let address = text.parse().map(Some);
    address.or_else(|error: AddressError| value::invalid_text(&text, error.to_string()))
}

fn print_http_address(address: &Option<Address>) -> String {
    print::quoted(&address.as_ref().map(Address::to_string).unwrap_or_default())
}

/// By number: the names in a container are not those of the node.
fn group(raw: RawValue<'_>) -> Parsed<Option<u32>> {
    if value::text(raw)?.is_empty() {
        return Ok(None);
    }
    // The largest number means no group.
    value::number(raw, 0..=u32::MAX - 1, "is not the number of a group").map(Some)
}

fn print_group(group: &Option<u32>) -> String {
    group.map_or_else(|| print::quoted(""), |number| number.to_string())
}

/// The longest name of a node, in bytes: that of a DNS subdomain (RFC 1123).
const LONGEST_NODE_NAME: usize = 253;

fn node_name(raw: RawValue<'_>) -> Parsed<Option<String>> {
    let text = value::text(raw)?;
    let name = text.trim();
    if name.len() > LONGEST_NODE_NAME {
        let why = format!("is longer than the {LONGEST_NODE_NAME} bytes of a node's name");
        return value::invalid_text(name, why);
    }
    Ok(Some(name.to_owned()).filter(|name| !name.is_empty()))
}

fn print_node_name(name: &Option<String>) -> String {
    print::quoted(name.as_deref().unwrap_or_default())
}

const LOG_LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

/// A level, or a list of targets with theirs. A word that is no level would be the name of a
/// target, and of all others nothing would be written: a mistyped level would silence the log. An
/// empty variable is the same as none.
fn log_filter(raw: RawValue<'_>) -> Parsed<String> {
    let text = value::text(raw)?;
    if text.trim().is_empty() {
        return Ok(LOG_LEVEL.default.to_owned());
    }
    let allowed = format!("a level ({}) or a comma list of target=level", LOG_LEVELS.join(", "));
    let is_level = |word: &str| word.parse::<LevelFilter>().is_ok();
    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
    let checked = words.map(|word| {
        if word.contains('=') || is_level(word) || word.starts_with(env!("CARGO_CRATE_NAME")) {
            return Ok(());
        }
        let hint = nearest(word, LOG_LEVELS).map(|level| format!("; did you mean {level}?"));
        value::invalid_text(word, format!("is not {allowed}{}", hint.unwrap_or_default()))
    });
    value::collect(checked)?;
    match text.parse::<Targets>() {
        Ok(_) => Ok(text),
        Err(error) => value::invalid_text(&text, format!("is not {allowed}: {error}")),
    }
}
