//! The command line. The comments on what can be given are its help.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// What is said of rights and exit codes below the help.
const AFTER_HELP: &str = "\
Rights: nodes: get, list, watch. For NODE and doctor also pods: list, and pods/proxy: get, in the \
namespace of the plugin. Exit code: 0 what was asked for is printed, whether GPUs are broken or \
not; 1 it could not be had, and why is on standard error; 2 the command line is wrong.";

/// Show the GPUs of a cluster, what is wrong with them, and the status of one node
#[derive(Debug, Parser)]
#[command(name = "kubectl-gpu", bin_name = "kubectl gpu", version, after_help = AFTER_HELP)]
#[command(disable_help_subcommand = true)]
pub(crate) struct Arguments {
    /// The node whose plugin is asked for its whole status; without it a row for each node with
    /// GPUs. `node/NAME` for one that is called as a command is.
    #[arg(value_name = "NODE")]
    pub(crate) node: Option<String>,

    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    #[command(flatten)]
    pub(crate) view: ViewFlags,

    #[command(flatten)]
    pub(crate) plugin: PluginFlags,

    #[command(flatten)]
    pub(crate) access: AccessFlags,
}

/// What else can be asked for.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show a row for each problem of each node.
    Problems,
    /// Show what the plugin of a node finds wrong, and the command by which it looks again.
    Doctor {
        /// The node.
        #[arg(value_name = "NODE")]
        node: String,
    },
}

/// What is shown, and how.
#[derive(Debug, Args)]
pub(crate) struct ViewFlags {
    /// Nodes whose labels match this selector only.
    #[arg(short = 'l', long, value_name = "SELECTOR", global = true)]
    pub(crate) selector: Option<String>,

    /// The format.
    #[arg(short, long, value_name = "FORMAT", global = true)]
    #[arg(value_enum, default_value_t = Format::Table, hide_default_value = true)]
    pub(crate) output: Format,

    /// After the list, each change as it comes.
    #[arg(short, long, global = true)]
    pub(crate) watch: bool,

    /// Also nodes of which nothing says that they have GPUs.
    #[arg(long, global = true)]
    pub(crate) all: bool,

    /// Print no headings.
    #[arg(long, global = true)]
    pub(crate) no_headers: bool,
}

/// A format of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns for people.
    Table,
    /// With more columns.
    Wide,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

/// Where the plugin of a node is found.
#[derive(Debug, Args)]
#[command(next_help_heading = "Plugin")]
pub(crate) struct PluginFlags {
    /// The namespace of the plugin; by default it is looked for in all.
    #[arg(short, long, value_name = "NAMESPACE", global = true)]
    pub(crate) namespace: Option<String>,

    /// The labels of its pods.
    #[arg(long, value_name = "SELECTOR", global = true)]
    #[arg(default_value = "app.kubernetes.io/name=gpu-device-plugin")]
    pub(crate) plugin_selector: String,

    /// The port of its HTTP server; by default the one that its pod calls http.
    #[arg(long, value_name = "PORT", global = true)]
    pub(crate) plugin_port: Option<u16>,
}

/// How the API server is reached. They are kubectl's.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Access")]
pub(crate) struct AccessFlags {
    /// The kubeconfig; by default those of $KUBECONFIG, or ~/.kube/config.
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) kubeconfig: Option<PathBuf>,

    /// The context of the kubeconfig.
    #[arg(long, value_name = "NAME", global = true)]
    pub(crate) context: Option<String>,

    /// The cluster of the kubeconfig.
    #[arg(long, value_name = "NAME", global = true)]
    pub(crate) cluster: Option<String>,

    /// The user of the kubeconfig.
    #[arg(long, value_name = "NAME", global = true)]
    pub(crate) user: Option<String>,

    /// The address of the API server.
    #[arg(short, long, value_name = "URL", global = true)]
    pub(crate) server: Option<String>,

    /// The user to impersonate.
    #[arg(long = "as", value_name = "USER", global = true)]
    pub(crate) impersonate: Option<String>,

    /// A group to impersonate; may be given several times.
    #[arg(long = "as-group", value_name = "GROUP", global = true)]
    pub(crate) impersonate_groups: Vec<String>,

    /// How long an answer may take, and a silence in it: 30s, 1m, or seconds; 0: for good.
    #[arg(long, value_name = "TIME", global = true, default_value = "30s", value_parser = time)]
    pub(crate) request_timeout: Duration,
}

/// A time as kubectl takes it.
fn time(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) => Ok(Duration::from_secs(seconds)),
        Err(_) => humantime::parse_duration(text).map_err(|error| error.to_string()),
    }
}

impl Arguments {
    /// The node of `kubectl gpu NODE`, without the kind that kubectl's users may put before it.
    pub(crate) fn node_name(name: &str) -> &str {
        ["node/", "nodes/"].iter().find_map(|kind| name.strip_prefix(kind)).unwrap_or(name)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn flags_stand_before_and_after_a_command_as_kubectls_do() {
        let parse = |line: &str| Arguments::try_parse_from(line.split(' ')).unwrap();
        for line in ["gpu -o wide problems -l a=b", "gpu problems -o wide -l a=b"] {
            let args = parse(line);
            assert!(matches!(args.command, Some(Command::Problems)), "{line}");
            assert_eq!(args.view.output, Format::Wide, "{line}");
            assert_eq!(args.view.selector.as_deref(), Some("a=b"), "{line}");
        }
        let args = parse("gpu node/doctor --request-timeout=5");
        assert_eq!(args.node.as_deref().map(Arguments::node_name), Some("doctor"));
        assert_eq!(args.access.request_timeout, Duration::from_secs(5));
        let args = parse("gpu doctor node-a --context=c -n gpus");
        assert!(matches!(args.command, Some(Command::Doctor { node }) if node == "node-a"));
        assert_eq!(args.plugin.namespace.as_deref(), Some("gpus"));
    }
}
