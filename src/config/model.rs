//! What the daemon runs on: every value checked, every choice a type, grouped by what a change of
//! it touches.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use device::health::{EventType, Severity, XidAction};
use device::injection::{DeviceIdStrategy, DeviceListStrategy};
use device::layout::filter::DeviceFilter;
use device::layout::sharing::Sharing;
use device::layout::{MigStrategy, NamePattern};

use super::choice::{CdiFeature, LogFormat, SharedPolicy, WholeGpuPolicy};
use super::report::{Origin, Origins};

/// The configuration in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// What is fixed while the process lives.
    pub process: Process,
    /// Which resources there are, and which devices can be in them.
    pub layout: Layout,
    /// Which of them are shared.
    pub sharing: Sharing,
    /// What a container gets.
    pub injection: Injection,
    /// What is preferred for a container.
    pub allocation: Allocation,
    /// What makes a device Unhealthy.
    pub health: Health,
    /// Where each value comes from. No part of the comparison of two configurations: see
    /// [`Config::changes`].
    pub origins: Origins,
}

impl Config {
    /// Where the value of `key` comes from.
    #[must_use]
    pub fn origin(&self, key: &str) -> &Origin {
        self.origins.get(key).unwrap_or(&Origin::Default)
    }
}

/// What is read once, at the start: a change of it waits for the next start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// The config file.
    pub config_file: Option<PathBuf>,
    /// Where to register, and where our sockets live.
    pub kubelet_socket: KubeletSocket,
    /// The kubelet's socket that tells who holds what; `None`: do not ask.
    pub pod_resources_socket: Option<PathBuf>,
    /// Where metrics and probes are served.
    pub http_address: HttpAddress,
    /// How log lines are written.
    pub log_format: LogFormat,
    /// Which log lines are written: a text that `tracing_subscriber::filter::Targets` parses.
    pub log_filter: String,
    /// The NVML library; `None`: it is looked for.
    pub nvml_library: Option<PathBuf>,
    /// Where the driver root is mounted in our container.
    pub driver_root_ctr_path: PathBuf,
    /// Where sysfs is mounted.
    pub sysfs_root: PathBuf,
    /// Where procfs is mounted.
    pub proc_root: PathBuf,
    /// End when NVML cannot be initialised.
    pub fail_on_init_error: bool,
    /// Where verdicts outlive the process; `None`: nowhere.
    pub state_dir: Option<PathBuf>,
    /// The door for an outside word on health; `None`: closed.
    pub quarantine_dir: Option<PathBuf>,
}

/// The kubelet's registration socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KubeletSocket {
    /// Register here; our sockets live beside it.
    At(PathBuf),
    /// Serve in this directory and never register.
    NeverRegister(PathBuf),
}

/// Where the HTTP edge listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HttpAddress {
    /// Nowhere.
    Off,
    /// On this port of every address.
    AnyAddress(u16),
    /// On a port of one address.
    Tcp(SocketAddr),
    /// On a unix socket.
    Unix(PathBuf),
}

impl fmt::Display for HttpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => Ok(()),
            Self::AnyAddress(port) => write!(f, ":{port}"),
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Which resources there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Names of MIG devices.
    pub mig_strategy: MigStrategy,
    /// Which GPUs are offered.
    pub devices: DeviceFilter,
    /// Whether the keys `resources`, `rename` and `devices` do what they say.
    pub custom_resources: bool,
    /// Names for GPUs by model; the first pattern that fits counts, and without one it is
    /// `nvidia.com/gpu`.
    pub gpu_names: Vec<NamePattern>,
    /// Names for MIG devices by profile; the first that fits counts, and without one the strategy
    /// names them.
    pub mig_names: Vec<NamePattern>,
}

/// What a container gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Injection {
    /// The ways in which devices are handed over; at least one.
    pub list_strategies: BTreeSet<DeviceListStrategy>,
    /// How a device is named.
    pub id_strategy: DeviceIdStrategy,
    /// Also list the device nodes.
    pub pass_device_specs: bool,
    /// The driver root on the host.
    pub driver_root: PathBuf,
    /// The root of the device nodes on the host.
    pub dev_root: PathBuf,
    /// GPUDirect Storage.
    pub gds: bool,
    /// Mellanox devices.
    pub mofed: bool,
    /// GDRCopy.
    pub gdrcopy: bool,
    /// IMEX channel 0.
    pub imex: Imex,
    /// What goes into CDI specifications.
    pub cdi: Cdi,
}

/// Whether containers get IMEX channel 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Imex {
    /// No.
    Off,
    /// Where the node has it.
    IfPresent,
    /// Yes; a node without it is a failure.
    Required,
}

/// What goes into CDI specifications and annotations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cdi {
    /// The prefix of the annotation key.
    pub annotation_prefix: String,
    /// The hook program on the host.
    pub hook_path: PathBuf,
    /// Optional behaviours.
    pub features: BTreeSet<CdiFeature>,
    /// Hooks that are left out.
    pub disabled_hooks: DisabledHooks,
}

/// Hooks that CDI specifications leave out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DisabledHooks {
    /// All of them.
    All,
    /// Those with these names.
    These(BTreeSet<String>),
}

/// What is preferred for a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allocation {
    /// Among whole GPUs.
    pub whole: WholeGpuPolicy,
    /// Among replicas and MIG devices.
    pub shared: SharedPolicy,
}

/// What the health policy is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Whether health is looked at.
    pub enabled: bool,
    /// NVML events to listen to.
    pub event_types: BTreeSet<EventType>,
    /// Xids that change no health.
    pub ignored_xids: Xids,
    /// Xids that make a GPU Unhealthy.
    pub critical_xids: Xids,
    /// What single Xids do, above both.
    pub xids: BTreeMap<u32, XidAction>,
    /// The text of `DP_DISABLE_HEALTHCHECKS`, above the file.
    pub disable_healthchecks: String,
    /// The text of `DP_ENABLE_HEALTHCHECKS`, above everything.
    pub enable_healthchecks: String,
    /// Between two polls.
    pub poll_interval: Duration,
    /// Good polls in a row before an Unhealthy GPU is Healthy again.
    pub recovery_polls: u32,
    /// Relapses within `relapse_window` after which Unhealthy stays.
    pub relapses: u32,
    /// In which relapses are counted.
    pub relapse_window: Duration,
    /// Calls without an answer in a row before "NVML does not answer".
    pub missed_calls: u32,
    /// What a row remapping does that waits for a reset.
    pub row_remap_pending: Severity,
    /// What the driver's wish for an end of peer-to-peer work does.
    pub drain_p2p: Severity,
    /// What a fault of the NVLink fabric does.
    pub fabric: Severity,
    /// How long after an alarm a GPU is watched closely, and no Xid is over.
    pub suspicion: Duration,
    /// On drivers without a recovery action: a quiet time after which an Xid is over; `None`: never
    /// by time alone.
    pub quiet_period: Option<Duration>,
    /// How long a call of NVML may take.
    pub call_deadline: Duration,
    /// Whether NVML is let go by itself for a GPU that asks for a reset and that nobody holds.
    pub release_for_reset: bool,
    /// For how long NVML is let go.
    pub release_for: Duration,
}

/// A set of Xids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Xids {
    /// Every Xid.
    All,
    /// These.
    These(BTreeSet<u32>),
}
