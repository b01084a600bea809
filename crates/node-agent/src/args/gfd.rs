//! The flags of GPU feature discovery.

use std::path::PathBuf;
use std::time::Duration;

use clap::ArgAction;
use clap::builder::{BoolishValueParser, NonEmptyStringValueParser};

use crate::labels::MigStrategy;

/// Where GPU feature discovery writes.
const OUTPUT_FILE: &str = "/etc/kubernetes/node-feature-discovery/features.d/gfd";

/// The flags of GPU feature discovery.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "GPU feature discovery")]
pub struct GfdArgs {
    /// How MIG devices are offered; without it as the plugin says.
    #[arg(long, global = true, env = "MIG_STRATEGY", value_name = "STRATEGY")]
    pub mig_strategy: Option<MigStrategy>,

    /// As --mig-strategy, which it goes before: that program reads two variables.
    #[arg(long, global = true, hide = true, env = "GFD_MIG_STRATEGY", value_name = "STRATEGY")]
    pub gfd_mig_strategy: Option<MigStrategy>,

    /// As --use-node-feature-api, which it goes before.
    #[arg(long, global = true, hide = true, env = "GFD_USE_NODE_FEATURE_API", value_name = "BOOL",
        value_parser = BoolishValueParser::new())]
    pub gfd_use_node_feature_api: Option<bool>,

    /// Writes the labels once and ends.
    #[arg(long, global = true, env = "GFD_ONESHOT", value_name = "BOOL", num_args = 0..=1,
        require_equals = true, default_value = "false", default_missing_value = "true",
        value_parser = BoolishValueParser::new(), action = ArgAction::Set)]
    pub oneshot: bool,

    /// Leaves out the label with the time of the start.
    #[arg(long, global = true, env = "GFD_NO_TIMESTAMP", value_name = "BOOL", num_args = 0..=1,
        require_equals = true, default_value = "false", default_missing_value = "true",
        value_parser = BoolishValueParser::new(), action = ArgAction::Set)]
    pub no_timestamp: bool,

    /// How often it is looked whether what was written is still there; `infinite`: never.
    #[arg(long, global = true, env = "GFD_SLEEP_INTERVAL", value_name = "DURATION",
        default_value = "60s", value_parser = interval)]
    pub sleep_interval: Interval,

    /// The file of `--labels file`; empty: standard output.
    #[arg(long, short, global = true, visible_alias = "output", env = "GFD_OUTPUT_FILE",
        value_name = "PATH", default_value = OUTPUT_FILE)]
    pub output_file: String,

    /// The file with the type of the machine; without it as the plugin says.
    #[arg(long, global = true, env = "GFD_MACHINE_TYPE_FILE", value_name = "PATH")]
    pub machine_type_file: Option<PathBuf>,

    /// Without --labels: `true` is `--labels nodefeature`, `false` is `--labels file`.
    #[arg(long, global = true, env = "USE_NODE_FEATURE_API", value_name = "BOOL", num_args = 0..=1,
        require_equals = true, default_missing_value = "true",
        value_parser = BoolishValueParser::new(), action = ArgAction::Set)]
    pub use_node_feature_api: Option<bool>,

    /// The kubeconfig; without it the service account of the pod.
    #[arg(long, global = true, env = "KUBECONFIG", value_name = "PATH")]
    pub kubeconfig: Option<PathBuf>,

    /// The namespace of the NodeFeature object.
    #[arg(long, global = true, env = "NAMESPACE", value_name = "NAME", default_value = "default",
        value_parser = NonEmptyStringValueParser::new())]
    pub namespace: String,

    /// The name of the pod, as Events name who reports them.
    #[arg(long, global = true, env = "POD_NAME", value_name = "NAME", default_value = "")]
    pub pod_name: String,

    /// No effect: it never ends by itself.
    #[arg(long, global = true, hide = true, env = "FAIL_ON_INIT_ERROR", value_name = "BOOL",
        num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub fail_on_init_error: Option<String>,

    /// No effect: what it says comes from the plugin.
    #[arg(long, global = true, hide = true, env = "CONFIG_FILE", value_name = "PATH")]
    pub config_file: Option<String>,

    /// No effect: the plugin finds the GPUs.
    #[arg(long, global = true, hide = true, env = "DEVICE_DISCOVERY_STRATEGY", value_name = "HOW")]
    pub device_discovery_strategy: Option<String>,

    /// No effect: NVML is not loaded.
    #[arg(
        long,
        global = true,
        hide = true,
        alias = "container-driver-root",
        env = "DRIVER_ROOT_CTR_PATH",
        value_name = "PATH"
    )]
    pub driver_root_ctr_path: Option<String>,

    /// No effect: there is at most one request at a time of each function.
    #[arg(long, global = true, hide = true, env = "KUBE_API_QPS", value_name = "NUMBER")]
    pub kube_api_qps: Option<String>,

    /// No effect, as --kube-api-qps.
    #[arg(long, global = true, hide = true, env = "KUBE_API_BURST", value_name = "NUMBER")]
    pub kube_api_burst: Option<String>,
}

/// A time between two looks; `None`: without end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval(pub Option<Duration>);

fn interval(text: &str) -> Result<Interval, String> {
    if text == "infinite" {
        return Ok(Interval(None));
    }
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if time < Duration::from_secs(1) {
        return Err("it is shorter than one second".to_owned());
    }
    Ok(Interval(Some(time)))
}
