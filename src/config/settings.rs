//! The table of settings: the flag, the environment variables, the file key and the default of
//! each. Command line, environment, file, `--help` and `config show` are all read off it.

/// How a flag takes its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `--flag`, `--flag=true`, `--flag=false`.
    Switch,
    /// `--flag VALUE`.
    Value,
    /// `--flag A,B` and several times.
    List,
}

/// One thing that can be set. What it cannot be set by is `None` or empty.
#[derive(Debug, PartialEq, Eq)]
pub struct Setting {
    /// The flag, without its dashes.
    pub flag: Option<&'static str>,
    /// Other spellings of the flag.
    pub aliases: &'static [&'static str],
    /// Environment variables; the first that is set counts.
    pub env: &'static [&'static str],
    /// The path of its key in the config file.
    pub key: Option<&'static str>,
    /// How its flag takes a value.
    pub shape: Shape,
    /// What holds when nobody sets it, as it would be written.
    pub default: &'static str,
    /// What `--help` calls the value.
    pub value: &'static str,
    /// What `--help` says.
    pub help: &'static str,
    /// The group in `--help`.
    pub heading: &'static str,
}

impl Setting {
    /// The name under which messages and `config show` speak of it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.key.or(self.flag).or(self.env.first().copied()).unwrap_or_default()
    }
}

const RESOURCES: &str = "Which GPUs, under which names";
const ALLOCATE: &str = "What a container receives";
const CDI: &str = "CDI";
const HEALTH: &str = "Health";
const DRIVER: &str = "Finding the driver";
const DAEMON: &str = "The daemon itself";

/// Declares the constants and the table of them all.
macro_rules! settings {
    ($($name:ident: $flag:expr, [$($alias:literal),*], [$($env:literal),*], $key:expr, $shape:ident, $default:literal,
        $heading:ident, $value:literal, $help:literal;)+) => {
        $(
            #[doc = $help]
            pub const $name: Setting = Setting {
                flag: $flag,
                aliases: &[$($alias),*],
                env: &[$($env),*],
                key: $key,
                shape: Shape::$shape,
                default: $default,
                value: $value,
                help: $help,
                heading: $heading,
            };
        )+

        /// Every setting, in the order of `--help`.
        pub const ALL: &[&Setting] = &[$(&$name),+];
    };
}

settings! {
    CONFIG_FILE: Some("config-file"), [], ["CONFIG_FILE"], None, Value, "", DAEMON, "FILE",
        "A YAML or JSON file (version v1) with what is not set by flags and environment. Read \
            again when its content changes and on SIGHUP.";
    MIG_STRATEGY: Some("mig-strategy"), [], ["MIG_STRATEGY"], Some("flags.migStrategy"), Value, "none", RESOURCES,
        "STRATEGY", "Which names MIG devices have: none (GPUs are offered whole), single \
            (nvidia.com/gpu), mixed (such as nvidia.com/mig-1g.10gb).";
    DEVICES: Some("devices"), [], ["DEVICES"], Some("devices"), List, "", RESOURCES, "TERMS",
        "The GPUs to offer, all others being reserved for the system: a list of indices and ranges \
            (0-3), UUIDs, PCI bus ids and model=PATTERN; a term that begins with ! takes GPUs \
            away. Without a term that includes, all are offered.";
    DISCOVERY_STRATEGY: Some("device-discovery-strategy"), [], ["DEVICE_DISCOVERY_STRATEGY"],
        Some("flags.deviceDiscoveryStrategy"), Value, "auto", RESOURCES, "STRATEGY",
        "How devices are found: auto, nvml or tegra. Here they are always found through NVML.";
    CUSTOM_RESOURCES: None, [], [], Some("flags.plugin.customResources"), Switch, "false", RESOURCES, "BOOL",
        "Whether the file's keys resources, rename and devices do what they say instead of being \
            ignored with a warning.";
    ALLOCATION_POLICY: Some("allocation-policy"), [], ["ALLOCATION_POLICY"], Some("flags.plugin.allocationPolicy"), Value,
        "optimal", RESOURCES, "POLICY",
        "Which whole GPUs are preferred for one container: optimal (best links), numa (fewest NUMA \
            nodes) or index.";
    SHARED_POLICY: Some("shared-devices-allocation-policy"), [], ["SHARED_DEVICES_ALLOCATION_POLICY"],
        Some("flags.plugin.sharedDevicesAllocationPolicy"), Value, "distributed", RESOURCES, "POLICY",
        "Which replicas and MIG devices are preferred: distributed (least used GPU), packed (most \
            used) or spread (never two of one GPU while another can serve).";
    DEVICE_LIST_STRATEGY: Some("device-list-strategy"), [], ["DEVICE_LIST_STRATEGY"],
        Some("flags.plugin.deviceListStrategy"), List, "envvar", ALLOCATE, "STRATEGIES",
        "How devices are handed to the container runtime: any of envvar, volume-mounts, \
            cdi-annotations, cdi-cri.";
    DEVICE_ID_STRATEGY: Some("device-id-strategy"), [], ["DEVICE_ID_STRATEGY"], Some("flags.plugin.deviceIDStrategy"),
        Value, "uuid", ALLOCATE, "STRATEGY", "How the runtime is told which device is meant: uuid \
            or index.";
    PASS_DEVICE_SPECS: Some("pass-device-specs"), [], ["PASS_DEVICE_SPECS"], Some("flags.plugin.passDeviceSpecs"),
        Switch, "false", ALLOCATE, "BOOL",
        "Also list the device nodes, so that the CPU manager's cgroup updates do not take them \
            away.";
    DRIVER_ROOT: Some("driver-root"), ["nvidia-driver-root"], ["NVIDIA_DRIVER_ROOT"], Some("flags.nvidiaDriverRoot"),
        Value, "/", ALLOCATE, "DIR", "The root of the driver installation on the host.";
    DEV_ROOT: Some("dev-root"), ["nvidia-dev-root"], ["NVIDIA_DEV_ROOT"], Some("flags.nvidiaDevRoot"), Value, "",
        ALLOCATE, "DIR", "The root under which the host has its /dev nodes; empty: the driver \
            root.";
    GDS_ENABLED: Some("gds-enabled"), [], ["GDS_ENABLED"], Some("flags.gdsEnabled"), Switch, "false", ALLOCATE, "BOOL",
        "Give containers GPUDirect Storage.";
    MOFED_ENABLED: Some("mofed-enabled"), [], ["MOFED_ENABLED"], Some("flags.mofedEnabled"), Switch, "false", ALLOCATE,
        "BOOL", "Give containers the Mellanox (InfiniBand) devices.";
    GDRCOPY_ENABLED: Some("gdrcopy-enabled"), [], ["GDRCOPY_ENABLED"], Some("flags.gdrcopyEnabled"), Switch, "false",
        ALLOCATE, "BOOL", "Give containers GDRCopy.";
    IMEX_CHANNEL_IDS: Some("imex-channel-ids"), [], ["IMEX_CHANNEL_IDS"], Some("imex.channelIDs"), List, "", ALLOCATE,
        "IDS", "The IMEX channels to give to containers: none, or 0.";
    IMEX_REQUIRED: Some("imex-required"), [], ["IMEX_REQUIRED"], Some("imex.required"), Switch, "false", ALLOCATE,
        "BOOL", "Whether a missing IMEX channel node is a failure.";
    MPS_ROOT: Some("mps-root"), [], ["MPS_ROOT"], Some("flags.mpsRoot"), Value, "", ALLOCATE, "DIR",
        "The host's directory of the MPS control daemon; needed with sharing.mps.";
    CDI_ANNOTATION_PREFIX: Some("cdi-annotation-prefix"), [], ["CDI_ANNOTATION_PREFIX"],
        Some("flags.plugin.cdiAnnotationPrefix"), Value, "cdi.k8s.io/", CDI, "PREFIX",
        "The prefix of the annotation key of the strategy cdi-annotations.";
    CDI_HOOK_PATH: Some("nvidia-cdi-hook-path"), ["nvidia-ctk-path"], ["NVIDIA_CDI_HOOK_PATH", "NVIDIA_CTK_PATH"],
        Some("flags.plugin.nvidiaCTKPath"), Value, "/usr/bin/nvidia-ctk", CDI, "FILE",
        "The hook program on the host that CDI specifications name.";
    CDI_FEATURE_FLAGS: Some("cdi-feature-flags"), [], ["CDI_FEATURE_FLAGS"], None, List, "", CDI, "FLAGS",
        "Optional behaviours of CDI specifications.";
    CDI_DISABLE_HOOKS: Some("cdi-disable-hooks"), [], ["CDI_DISABLE_HOOKS"], None, List, "", CDI, "HOOKS",
        "Hooks that CDI specifications leave out, by name, or all.";
    HEALTH_POLL_INTERVAL: Some("health-poll-interval"), [], ["HEALTH_POLL_INTERVAL"], Some("health.pollInterval"),
        Value, "10s", HEALTH, "DURATION", "How often health is polled and the node is scanned \
            again.";
    STATE_DIR: Some("state-dir"), [], ["STATE_DIR"], None, Value, "/var/lib/gpu-device-plugin", HEALTH, "DIR",
        "Where verdicts that cannot be found out again are kept over a restart; empty: nowhere.";
    QUARANTINE_DIR: Some("quarantine-dir"), [], ["QUARANTINE_DIR"], None, Value,
        "/var/lib/gpu-device-plugin/quarantine", HEALTH, "DIR",
        "A file here named after a UUID, PCI bus id or index makes that GPU Unhealthy, with its \
            text as the reason; empty: no such directory.";
    DISABLE_HEALTHCHECKS: None, [], ["DP_DISABLE_HEALTHCHECKS"], None, Value, "", HEALTH, "XIDS",
        "Xids that change no health: a comma list, or all.";
    ENABLE_HEALTHCHECKS: None, [], ["DP_ENABLE_HEALTHCHECKS"], None, Value, "", HEALTH, "XIDS",
        "Xids that count although they are ignored otherwise: a comma list, or all.";
    FAIL_ON_INIT_ERROR: Some("fail-on-init-error"), [], ["FAIL_ON_INIT_ERROR"], Some("flags.failOnInitError"), Switch,
        "true", DRIVER, "BOOL", "End with an error when NVML cannot be initialised, instead of \
            waiting for the driver.";
    DRIVER_ROOT_CTR_PATH: Some("driver-root-ctr-path"), ["container-driver-root"],
        ["DRIVER_ROOT_CTR_PATH", "CONTAINER_DRIVER_ROOT"], Some("flags.plugin.containerDriverRoot"), Value,
        "/driver-root", DRIVER, "DIR", "Where the driver root is mounted in the plugin's own \
            container.";
    NVML_LIBRARY: Some("nvml-library"), [], ["NVML_LIBRARY"], None, Value, "", DRIVER, "FILE",
        "The NVML library to load; empty: libnvidia-ml.so.1 under the driver root, then wherever \
            the loader finds it.";
    SYSFS_ROOT: Some("sysfs-root"), [], ["SYSFS_ROOT"], None, Value, "/sys", DRIVER, "DIR",
        "Where sysfs is mounted; NUMA nodes are read there.";
    PROC_ROOT: Some("proc-root"), [], ["PROC_ROOT"], None, Value, "/proc", DRIVER, "DIR",
        "Where procfs is mounted; the driver's capability numbers are read there.";
    KUBELET_SOCKET: Some("kubelet-socket"), [], ["KUBELET_SOCKET"], None, Value,
        "/var/lib/kubelet/device-plugins/kubelet.sock", DAEMON, "SOCKET",
        "The kubelet's registration socket; our own sockets live beside it. Empty: serve in the \
            default directory and never register.";
    POD_RESOURCES_SOCKET: Some("pod-resources-socket"), [], ["POD_RESOURCES_SOCKET"], None, Value,
        "/var/lib/kubelet/pod-resources/kubelet.sock", DAEMON, "SOCKET",
        "The kubelet's socket that tells which pod holds which device; empty: do not ask.";
    HTTP_ADDRESS: Some("http-address"), [], ["HTTP_ADDRESS"], None, Value, ":19400", DAEMON, "ADDRESS",
        "Where metrics, probes and status are served: IP:PORT, :PORT or unix:PATH; empty: nowhere.";
    LOG_FORMAT: Some("log-format"), [], ["LOG_FORMAT"], None, Value, "text", DAEMON, "FORMAT",
        "How log lines are written: text or json.";
    LOG_LEVEL: Some("log-level"), [], ["LOG_LEVEL", "RUST_LOG"], None, Value, "info", DAEMON, "FILTER",
        "Which log lines are written: error, warn, info, debug, trace, or a filter such as \
            info,gpu_device_plugin::plugin=debug.";
}
