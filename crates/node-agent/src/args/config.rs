//! The flags about configuration by label, which have the names of NVIDIA's config manager.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::ArgAction;
use clap::builder::{BoolishValueParser, NonEmptyStringValueParser};
use rustix::process::Signal;

/// The label of NVIDIA's charts.
const LABEL: &str = "nvidia.com/device-plugin.config";
/// The label of NVIDIA's MIG manager.
const RELEASE_LABEL: &str = "nvidia.com/gpu.deploy.device-plugin";

/// How a configuration is chosen, and where its name goes.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Configuration by label")]
pub struct ConfigArgs {
    /// Writes the name of the configuration that the node's label chooses into this file, which is
    /// the plugin's --config-name-file; empty: no configuration is chosen.
    #[arg(
        long,
        global = true,
        env = "CONFIG_NAME_FILE",
        value_name = "FILE",
        default_value = "",
        hide_default_value = true
    )]
    pub config_name_file: String,

    /// Has the plugin release NVML by this file, which is its --release-file, while a label of the
    /// Node is `paused-for-mig-change`; empty: it does not.
    #[arg(
        long,
        global = true,
        env = "RELEASE_FILE",
        value_name = "FILE",
        default_value = "",
        hide_default_value = true
    )]
    pub release_file: String,

    /// That label.
    #[arg(long, global = true, env = "RELEASE_LABEL", value_name = "LABEL",
        default_value = RELEASE_LABEL, value_parser = NonEmptyStringValueParser::new())]
    pub release_label: String,

    /// The label of the Node whose value is the name.
    #[arg(long, global = true, env = "NODE_LABEL", value_name = "LABEL", default_value = LABEL,
        value_parser = NonEmptyStringValueParser::new())]
    pub node_label: String,

    /// The directory of the configurations, of which the names are looked at: for the fallbacks.
    #[arg(
        long,
        global = true,
        env = "CONFIG_FILE_SRCDIR",
        value_name = "DIR",
        default_value = "",
        hide_default_value = true
    )]
    pub config_file_srcdir: String,

    /// The name for a node without the label.
    #[arg(
        long,
        global = true,
        env = "DEFAULT_CONFIG",
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    pub default_config: String,

    /// What counts without label and default, in this order: `named` is the name `default`,
    /// `single` the only one there is, `empty` none.
    #[arg(
        long,
        global = true,
        env = "FALLBACK_STRATEGIES",
        value_name = "LIST",
        default_value = "",
        hide_default_value = true,
        value_parser = fallbacks
    )]
    pub fallback_strategies: Fallbacks,
}

impl ConfigArgs {
    /// The value of the label among those of a node; empty without it.
    #[must_use]
    pub fn label(&self, labels: &BTreeMap<String, String>) -> String {
        labels.get(&self.node_label).cloned().unwrap_or_default()
    }

    /// The directory of the configurations.
    #[must_use]
    pub fn source(&self) -> Option<PathBuf> {
        (!self.config_file_srcdir.is_empty()).then(|| PathBuf::from(&self.config_file_srcdir))
    }
}

/// What counts where neither label nor default names a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// That of the name `default`.
    Named,
    /// The only one there is.
    Single,
    /// None: every setting has its default.
    Empty,
}

/// Fallbacks in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fallbacks(pub Vec<Fallback>);

fn fallbacks(text: &str) -> Result<Fallbacks, String> {
    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
    let fallback = |word| match word {
        "named" => Ok(Fallback::Named),
        "single" => Ok(Fallback::Single),
        "empty" => Ok(Fallback::Empty),
        other => Err(format!("{other:?} is none of named, single and empty")),
    };
    words.map(fallback).collect::<Result<_, _>>().map(Fallbacks)
}

/// What NVIDIA's config manager takes beside that.
#[derive(Debug, Clone, clap::Args)]
pub struct ManagerArgs {
    /// The link to the configuration, which is replaced.
    #[arg(long, env = "CONFIG_FILE_DST", value_name = "FILE")]
    pub config_file_dst: PathBuf,

    /// Whether a program is signalled after a change. The plugin of this project needs no signal.
    #[arg(long, env = "SEND_SIGNAL", value_name = "BOOL", num_args = 0..=1, require_equals = true,
        default_value = "true", default_missing_value = "true",
        value_parser = BoolishValueParser::new(), action = ArgAction::Set)]
    pub send_signal: bool,

    /// The number of the signal; empty: 1, which is SIGHUP.
    #[arg(long, env = "SIGNAL", value_name = "NUMBER", default_value = "1", value_parser = signal)]
    pub signal: Signal,

    /// The command of the program, without arguments.
    #[arg(
        long,
        env = "PROCESS_TO_SIGNAL",
        value_name = "COMMAND",
        default_value = "nvidia-device-plugin"
    )]
    pub process_to_signal: String,

    /// As --oneshot, by the variable of that program.
    #[arg(long, hide = true, env = "ONESHOT", value_name = "BOOL", num_args = 0..=1,
        require_equals = true, default_value = "false", default_missing_value = "true",
        value_parser = BoolishValueParser::new(), action = ArgAction::Set)]
    pub manager_oneshot: bool,
}

fn signal(text: &str) -> Result<Signal, String> {
    if text.is_empty() {
        return Ok(Signal::HUP);
    }
    let number = text.parse().map_err(|_| "it is not a number".to_owned())?;
    Signal::from_named_raw(number).ok_or_else(|| "there is no such signal".to_owned())
}
