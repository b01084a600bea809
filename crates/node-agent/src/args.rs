//! The command line.
//!
//! It takes every flag and environment variable of NVIDIA's GPU feature discovery, so that a
//! DaemonSet of that program works with this one. Those without a meaning here are accepted, and a
//! warning at the start says why.

mod cleanup;
mod config;
mod extras;
mod gfd;

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Parser, Subcommand, ValueEnum};

pub use cleanup::{CleanupArgs, Function};
pub use config::{ConfigArgs, Fallback, Fallbacks, ManagerArgs};
pub use extras::Extras;
pub use gfd::{GfdArgs, Interval};

use crate::labels::LabelSettings;

/// The key of the taint, where none is named.
pub const DEFAULT_TAINT: &str = "nvidia.com/gpu-unhealthy";

/// Tells the Kubernetes API what the GPU device plugin knows of its node: labels, a condition,
/// events; and the plugin which configuration the node's label chooses. Every function is off until
/// it is turned on.
#[derive(Debug, Clone, Parser)]
#[command(version, propagate_version = true, about, next_line_help = false)]
pub struct Args {
    /// What is done instead of running for good.
    #[command(subcommand)]
    pub action: Option<Action>,

    /// The plugin's status socket.
    #[arg(
        long,
        global = true,
        env = "STATUS_SOCKET",
        value_name = "PATH",
        default_value = "/var/lib/gpu-device-plugin/status.sock"
    )]
    pub status_socket: PathBuf,

    /// The name of this node in the cluster.
    #[arg(long, global = true, env = "NODE_NAME", value_name = "NAME", default_value = "")]
    pub node_name: String,

    /// Where GPU feature discovery's labels go: to the Node, to a NodeFeature object of node
    /// feature discovery, to a file that node feature discovery reads, or nowhere. Without it
    /// --use-node-feature-api says.
    #[arg(long, global = true, env = "LABELS", value_name = "WHERE")]
    pub labels: Option<LabelOutput>,

    /// What becomes of labels of the Node that somebody else owns and that differ: they are left to
    /// the other, or taken.
    #[arg(
        long,
        global = true,
        env = "LABELS_CONFLICT",
        value_name = "HOW",
        default_value = "yield"
    )]
    pub labels_conflict: ConflictPolicy,

    /// Labels beside those of GPU feature discovery, separated by commas: healthy-count, sharing,
    /// driver-branch; and instances: each GPU in the NodeFeature object, for rules.
    #[arg(long, global = true, env = "EXTRA_LABELS", value_name = "LIST", default_value = "",
        hide_default_value = true, value_parser = extras::extras)]
    pub extra_labels: Extras,

    /// Keeps a condition of the Node: True while a GPU is Unhealthy. With a value, of this type.
    #[arg(long, global = true, env = "NODE_CONDITION", value_name = "TYPE", num_args = 0..=1,
        require_equals = true, default_value = "", default_missing_value = "GPUUnhealthy")]
    pub node_condition: String,

    /// Writes Events about the Node.
    #[arg(long, global = true, env = "NODE_EVENTS", value_name = "BOOL", num_args = 0..=1,
        require_equals = true, default_value = "false", default_missing_value = "true",
        value_parser = BoolishValueParser::new(), action = ArgAction::Set)]
    pub events: bool,

    /// Taints the Node with the effect NoSchedule while it has GPUs and none is Healthy. With a
    /// value, by this key.
    #[arg(long, global = true, env = "NODE_TAINT", value_name = "KEY", num_args = 0..=1,
        require_equals = true, default_value = "",
        default_missing_value = DEFAULT_TAINT)]
    pub node_taint: String,

    /// Keeps an annotation of the Node with its GPUs in brief.
    #[arg(long, global = true, env = "NODE_SUMMARY", value_name = "BOOL", num_args = 0..=1,
        require_equals = true, default_value = "false", default_missing_value = "true",
        value_parser = BoolishValueParser::new(), action = ArgAction::Set)]
    pub node_summary: bool,

    /// Which configuration the plugin runs on.
    #[command(flatten)]
    pub config: ConfigArgs,

    /// Writes Events about the pods that hold a GPU, when something happens to it.
    #[arg(long, global = true, env = "POD_EVENTS", value_name = "BOOL", num_args = 0..=1,
        require_equals = true, default_value = "false", default_missing_value = "true",
        value_parser = BoolishValueParser::new(), action = ArgAction::Set)]
    pub pod_events: bool,

    /// The format of log lines.
    #[arg(long, global = true, env = "LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,

    /// Logs every attempt.
    #[arg(long, global = true)]
    pub verbose: bool,

    /// What GPU feature discovery takes too.
    #[command(flatten)]
    pub gfd: GfdArgs,
}

/// What is done instead of running for good.
#[derive(Debug, Clone, Subcommand)]
pub enum Action {
    /// Prints the labels of this node, a line each.
    Labels {
        /// How long the plugin may take to know them, in seconds.
        #[arg(long, value_name = "SECONDS", default_value_t = 10)]
        timeout: u64,
    },
    /// Removes what the agent has written: labels, condition, NodeFeature object and file.
    Cleanup(CleanupArgs),
    /// As NVIDIA's config manager: keeps a link to the configuration that the node's label chooses,
    /// for charts that start that program. So does this one under the name `config-manager`.
    ConfigManager(ManagerArgs),
}

/// Where labels go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LabelOutput {
    /// The Node, by server-side apply.
    Node,
    /// A NodeFeature object, which node feature discovery turns into labels.
    #[value(name = "nodefeature")]
    NodeFeature,
    /// A file in the directory features.d of node feature discovery.
    File,
    /// Nowhere.
    Off,
}

/// What becomes of labels that somebody else owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ConflictPolicy {
    /// They are left.
    Yield,
    /// They are taken.
    Take,
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Args {
    /// Where labels go.
    #[must_use]
    pub fn label_output(&self) -> LabelOutput {
        let by_gfd = self.gfd.gfd_use_node_feature_api.or(self.gfd.use_node_feature_api);
        self.labels.unwrap_or(match by_gfd {
            Some(true) => LabelOutput::NodeFeature,
            Some(false) => LabelOutput::File,
            None => LabelOutput::Off,
        })
    }

    /// What labels depend on beside the status. `now` is in seconds since the Unix epoch.
    ///
    /// # Errors
    /// The file with the type of the machine cannot be read.
    pub fn label_settings(&self, now: u64) -> Result<LabelSettings, String> {
        let file = self.gfd.machine_type_file.as_ref();
        let machine_type = file.map(|file| {
            let text = std::fs::read_to_string(file).map_err(|error| {
                format!("reading {} (--machine-type-file): {error}", file.display())
            })?;
            Ok::<_, String>(text.lines().next().unwrap_or_default().trim().to_owned())
        });
        Ok(LabelSettings {
            timestamp: (!self.gfd.no_timestamp).then_some(now),
            machine_type: machine_type.transpose()?,
            mig_strategy: self.gfd.gfd_mig_strategy.or(self.gfd.mig_strategy),
            extra: self.extra_labels.0.clone(),
        })
    }

    /// The name of the node, as requests and objects carry it.
    ///
    /// # Errors
    /// There is none, or it is none of a Kubernetes node.
    pub fn node(&self) -> Result<&str, String> {
        let name = self.node_name.as_str();
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
        if name.is_empty() {
            return Err("the name of this node is needed: --node-name, or NODE_NAME from the \
                downward API (spec.nodeName)"
                .to_owned());
        }
        if name.len() > 253 || !name.chars().all(fits) || name.starts_with('.') {
            return Err(format!("--node-name: {name:?} is not the name of a node"));
        }
        Ok(name)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::labels::MigStrategy;

    fn parsed(words: &[&str]) -> Args {
        Args::try_parse_from(["gpu-node-agent"].iter().chain(words)).unwrap()
    }

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }

    #[test]
    fn every_flag_of_gpu_feature_discovery_is_taken() {
        let args = parsed(&[
            "--mig-strategy=mixed",
            "--fail-on-init-error=false",
            "--oneshot",
            "--no-timestamp=true",
            "--sleep-interval",
            "infinite",
            "-o",
            "",
            "--machine-type-file=/m",
            "--config-file=/c",
            "--use-node-feature-api=false",
            "--device-discovery-strategy=auto",
            "--driver-root-ctr-path=/d",
            "--kubeconfig=/k",
            "--kube-api-qps=5",
            "--kube-api-burst=9",
            "--namespace=n",
            "--node-name=node-a",
            "--pod-name=p",
        ]);
        assert_eq!(args.gfd.mig_strategy, Some(MigStrategy::Mixed));
        assert_eq!(args.gfd.sleep_interval, Interval(None));
        assert!(args.gfd.oneshot && args.gfd.no_timestamp && args.gfd.output_file.is_empty());
        assert_eq!(args.label_output(), LabelOutput::File);
        assert_eq!(parsed(&["--use-node-feature-api"]).label_output(), LabelOutput::NodeFeature);
        assert_eq!(parsed(&["--output", "/x"]).gfd.output_file, "/x");
        let both = parsed(&["--use-node-feature-api", "--labels", "node"]);
        assert_eq!(both.label_output(), LabelOutput::Node);
    }

    #[test]
    fn everything_is_off_until_it_is_turned_on() {
        let args = parsed(&[]);
        assert_eq!(args.label_output(), LabelOutput::Off);
        assert!(args.node_condition.is_empty() && !args.events);
        assert_eq!(args.gfd.sleep_interval, Interval(Some(Duration::from_secs(60))));
        assert_eq!(parsed(&["--node-condition"]).node_condition, "GPUUnhealthy");
        assert_eq!(parsed(&["--node-condition=Gpu"]).node_condition, "Gpu");
    }

    #[test]
    fn a_name_that_could_lead_a_request_elsewhere_is_refused() {
        for name in ["", "a/b", "../x", "A", "a?b", "a%2fb", "a b", &"a".repeat(254), "."] {
            let args = Args { node_name: name.to_owned(), ..parsed(&[]) };
            assert!(args.node().is_err(), "{name}");
        }
        assert_eq!(parsed(&["--node-name", "ip-10.eu.internal"]).node(), Ok("ip-10.eu.internal"));
    }
}
