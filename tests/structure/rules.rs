//! The rules: which modules there are, what each may use, and where restricted paths may stand.
//!
//! A place is a file's path below `src/` without `.rs`, or `crates/NAME` and its path below the
//! `src/` of that crate. A rule for a folder holds for everything in it.

/// The modules from the bottom up, and what each may use beside itself. What is in none of them is
/// refused. A file belongs to the longest place that fits it.
const MODULES: &[(&str, &str)] = &[
    ("crates/device", ""),
    ("crates/status", ""),
    // A program of its own, which runs on the host and knows nothing of the plugin.
    ("crates/cdi-hook", ""),
    // A program of its own, which knows the plugin by its status alone.
    ("crates/node-agent", "crates/status crates/status-stream"),
    ("crates/status-stream", "crates/status"),
    // A program for laptops, which knows the plugin by its status and the agent by its annotation.
    ("crates/kubectl-gpu", "crates/status"),
    // Rate limits of the log and counters, which every module needs.
    ("util", ""),
    ("host", "util crates/device"),
    // These do not know each other, and take their settings as types of their own.
    ("nvml", "util host crates/device"),
    ("kubelet", ""),
    ("kubelet/device_plugin", "util host crates/device crates/status/error_chain"),
    ("kubelet/pod_resources", "util host crates/device crates/status/error_chain"),
    // Its control daemons follow the status, as any other reader does.
    ("mps", "util host crates/device crates/status crates/status-stream"),
    ("cdi", "util host crates/device"),
    ("observe", "util host crates/device crates/status"),
    // What changes something, apart from what only shows.
    ("control", "util host"),
    // It builds the settings of the modules.
    ("config", "nvml kubelet host observe mps cdi crates/device"),
    // The checks are pure. Only the code that gathers their facts looks at the node.
    ("doctor", "crates/device crates/status"),
    (
        "doctor/gather",
        "doctor config host observe nvml kubelet mps cdi crates/device crates/status",
    ),
    ("daemon", "config control nvml kubelet host observe mps cdi util crates/device crates/status"),
    ("cli", "config control doctor observe host kubelet nvml mps cdi crates/device crates/status"),
    ("main", "cli daemon config observe"),
    ("lib", ""),
];

/// Where some paths of other crates may not stand.
pub(crate) const RESTRICTIONS: &[Restriction] = &[
    only_in("nvml", "nvml_wrapper nvml_wrapper_sys", "only nvml/ calls NVML"),
    only_in(
        "kubelet/device_plugin/wire kubelet/pod_resources/wire",
        "tonic::include_proto",
        "the types of each protocol stay in one file",
    ),
    only_in("kubelet/device_plugin/wire", "prost", "the types of a protocol stay in one file"),
    only_in("nvml/raw", "unsafe::code", "only NVML's C interface needs unsafe code"),
    only_in(
        "main cli config crates/node-agent/main crates/cdi-hook/main crates/kubectl-gpu/main",
        "std::env",
        "other modules get the environment as parameters",
    ),
    only_in(
        "crates/cdi-hook/main",
        "std::process::exit",
        "the process ends by returning from main, but for a hook that hangs",
    ),
    only_in(
        "cli/stop_signal",
        "std::process::abort",
        "only a second signal, or a stop that takes too long, aborts",
    ),
    only_in(
        "observe/http observe/client kubelet/device_plugin/limits \
         crates/node-agent/api crates/kubectl-gpu/api crates/status-stream",
        "hyper hyper_util",
        "one server and one client do HTTP, and one file counts what gRPC sends over it; what \
         follows the status and the API server has its own client",
    ),
    only_in(
        "",
        "tokio::task::spawn_blocking tokio::fs",
        "it panics where no thread is to be had; util/helper_thread.rs answers with an error",
    ),
    Restriction {
        within: "",
        except: "crates/node-agent/api crates/kubectl-gpu/api",
        paths: "kube k8s_openapi",
        why: "the plugin does not use the Kubernetes API, and other programs have one way to it",
    },
    Restriction {
        within: "crates/node-agent/labels",
        except: "",
        paths: "tokio hyper tracing std::fs std::io std::env std::thread std::process *::now",
        why: "labels follow from the status alone",
    },
    Restriction {
        within: "daemon",
        // The one works on a thread of its own; the other reads a name at the start.
        except: "daemon/config_watch daemon/status_provider",
        paths: "std::fs",
        why: "no file may hold up the thread that decides; host/ has the files, on their threads",
    },
    Restriction {
        within: "doctor",
        except: "doctor/gather",
        paths: "tokio tonic std::fs std::io std::env std::thread std::process *::now",
        why: "the checks are pure, only doctor/gather/ looks at the node",
    },
    // Its Cargo.toml keeps other crates out as well, but not these parts of the standard library.
    Restriction {
        within: "crates/device",
        except: "",
        paths: "tokio tonic prost serde tracing notify rand libc \
                std::fs std::io std::env std::thread std::net std::process \
                std::time::Instant std::time::SystemTime std::hash::RandomState \
                std::collections::hash_map::RandomState",
        why: "the crate is pure: it gets time and facts as values",
    },
];

/// Paths that are refused within a place, but for some places in it.
pub(crate) struct Restriction {
    within: &'static str,
    except: &'static str,
    /// Each stands for all paths below it, `*::now` for all that end in `now`, and `unsafe::code`
    /// for unsafe code.
    paths: &'static str,
    why: &'static str,
}

const fn only_in(except: &'static str, paths: &'static str, why: &'static str) -> Restriction {
    Restriction { within: "", except, paths, why }
}

impl Restriction {
    /// Why a path may not stand at a place, if so.
    pub(crate) fn refuses(&self, place: &str, path: &[String]) -> Option<&'static str> {
        let is_restricted = |restricted: &str| match restricted.strip_prefix("*::") {
            Some(last) => path.last().is_some_and(|word| word == last),
            None => {
                let path = path.join("::");
                // A glob may import the restricted path, or a module above it.
                let globbed = path.strip_suffix('*').is_some_and(|up| restricted.starts_with(up));
                globbed || format!("{path}::").starts_with(&format!("{restricted}::"))
            }
        };
        let holds = is_in(place, self.within) && !is_in_any(place, self.except);
        (holds && self.paths.split_whitespace().any(is_restricted)).then_some(self.why)
    }
}

/// Whether code at one place may use code at another; else the two modules, and the reason.
pub(crate) fn may_use(from: &str, to: &str) -> Result<(), (String, String, String)> {
    let module = |place: &str| {
        let fitting = MODULES.iter().filter(|(module, _)| is_in(place, module));
        let longest = fitting.max_by_key(|(module, _)| module.len());
        let why = || format!("{place} is in no module of the table");
        longest.ok_or_else(|| (from.to_owned(), to.to_owned(), why()))
    };
    let ((module_from, may_use), (module_to, _)) = (module(from)?, module(to)?);
    if module_from == module_to || is_in_any(to, may_use) {
        return Ok(());
    }
    let why = format!("{module_from} may not use {module_to}, only: {may_use}");
    Err(((*module_from).to_owned(), (*module_to).to_owned(), why))
}

/// The place of a file.
pub(crate) fn place(file: &str) -> String {
    file.trim_end_matches(".rs").replacen("src/", "", 1)
}

/// The place of the crate that a file belongs to.
pub(crate) fn crate_of(file: &str) -> String {
    let place = place(file);
    match place.split('/').collect::<Vec<_>>()[..] {
        ["crates", name, ..] => format!("crates/{name}"),
        _ => "src".to_owned(),
    }
}

/// Whether a place is a file or folder, or in it. Everything is in the place without a name.
fn is_in(place: &str, folder: &str) -> bool {
    let rest = place.strip_prefix(folder);
    rest.is_some_and(|rest| folder.is_empty() || rest.is_empty() || rest.starts_with('/'))
}

fn is_in_any(place: &str, folders: &str) -> bool {
    folders.split_whitespace().any(|folder| is_in(place, folder))
}
